//! The queue: sends what is queued, reads back what was accepted, takes back what was only for a time.
//!
//! Owns the ways between the states of a task. Before anything is sent, the account's standing is stored and the task is
//! `sent`; so whatever interrupts it, it begins again by looking, and what is so already is not sent a second time. One
//! lane per directory; a lane works on one server. A task ends observed, unsuccessful, refused, or timed out, never
//! silently.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    actions::{self, Origin},
    drift,
    model::{Decision, RequestState, Task, TaskState},
    never::{Never, Refusal},
    queries,
};
use crate::{
    accounts,
    audit::{self, Entry},
    clock::{SECOND, Time},
    connectors::{
        Failure, FailureKind,
        act::{Act, Action, Actor, Judgement, Standing},
    },
    directories::{self, Refreshed, Runner},
    error::{Error, Result},
    identities::{self, Sight},
    kernel::Kernel,
    principal::{AccountId, Principal},
};

/// Tasks that one lane takes at a time.
const LANE_TASKS: usize = 50;
/// How long the queue sleeps at most: what another process wrote (the command line) is found then.
const SLEEP_MAX: Duration = Duration::from_secs(5);
/// How long a run that goes on is waited for before it is asked again.
const REFRESH_AGAIN: Duration = Duration::from_millis(500);
const NOT_SEEN_YET: &str = "The directory took the change, but does not show it yet.";
/// How long a lane rests after an error of ours.
const TROUBLE: Duration = Duration::from_secs(30);
/// Waits between tries, in seconds: a directory that is down is not hammered.
const WAITS_S: [i64; 6] = [1, 2, 5, 15, 30, 60];

/// Carries requests out. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher(Arc<Inner>);

struct Inner {
    kernel: Kernel,
    runner: Runner,
    woken: Notify,
    /// Directories that a lane is at work in.
    lanes: Mutex<HashSet<i64>>,
    /// Directories whose copy is to be brought up to date once the run that goes on has ended.
    stale: Mutex<HashSet<i64>>,
}

/// How a step of a task went.
enum Step {
    /// The task was written; go on with the next one.
    Done,
    /// The connection is of no use any more.
    Broken(Failure),
}

impl Dispatcher {
    pub fn new(kernel: Kernel, runner: Runner) -> Self {
        Self(Arc::new(Inner { kernel, runner, woken: Notify::new(), lanes: Mutex::default(), stale: Mutex::default() }))
    }

    /// Something may be due.
    pub fn wake(&self) {
        self.0.woken.notify_one();
    }

    /// Works until the runtime ends.
    pub async fn work(self) {
        loop {
            let next = match self.look_round().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(error = %error.chain(), "the queue of tasks could not be read");
                    None
                }
            };
            let now = self.0.kernel.clock.now();
            let until = next.map_or(SLEEP_MAX, |at| Duration::from_micros(at.since(now).max(0).unsigned_abs()));
            let _ =
                tokio::time::timeout(until.clamp(Duration::from_millis(20), SLEEP_MAX), self.0.woken.notified()).await;
        }
    }

    /// Starts what is due; answers when something is due next.
    async fn look_round(&self) -> Result<Option<Time>> {
        let kernel = &self.0.kernel;
        let now = kernel.clock.now();
        // What goes wrong with one of them must not keep the others waiting.
        let mut is_whole = true;
        let mut tell = |what: &str, done: Result<()>| {
            if let Err(error) = done {
                tracing::error!(what, error = %error.chain(), "a part of the queue's round failed");
                is_whole = false;
            }
        };
        let suspended = kernel.db.read(accounts::suspended).await?;
        let mut is_held_back = false;
        let mut held = |account: AccountId| {
            is_held_back |= suspended.contains(&account);
            suspended.contains(&account)
        };
        for (account, id) in kernel.db.read(move |c| queries::expired(c, now)).await? {
            tell("expiry", self.expire(account, id).await);
        }
        tell("drift", drift::look(kernel).await);
        for (account, id) in kernel.db.read(move |c| queries::to_undo(c, now)).await? {
            // It ends once the account is back.
            if held(account) {
                continue;
            }
            tell("time box", self.end_time_box(account, id).await);
        }
        let ((due, next), deadline) =
            kernel.db.read(move |c| Ok((queries::due_directories(c, now)?, queries::next_deadline(c)?))).await?;
        for directory in due {
            if self.lanes().insert(directory) {
                let own = self.clone();
                tokio::spawn(async move {
                    let _lane = Lane { dispatcher: own.clone(), directory };
                    // A task of its own, so that a panic ends it and not the lane.
                    let work = tokio::spawn({
                        let own = own.clone();
                        async move { own.drive(directory).await }
                    });
                    let trouble = match work.await {
                        Ok(Ok(())) => return,
                        Ok(Err(error)) => error.chain(),
                        Err(panic) => panic.to_string(),
                    };
                    tracing::error!(directory, error = trouble, "tasks could not be carried on; they are tried again");
                    // Nothing of them may have been written: without a pause it would begin anew at once, for ever.
                    tokio::time::sleep(TROUBLE).await;
                });
            }
        }
        // What could not be done now is due at once: the next round is not begun in a hurry.
        Ok([next, deadline].into_iter().flatten().min().filter(|_| is_whole && !is_held_back))
    }

    fn lanes(&self) -> std::sync::MutexGuard<'_, HashSet<i64>> {
        self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stale(&self) -> std::sync::MutexGuard<'_, HashSet<i64>> {
        self.0.stale.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn principal(&self, account: AccountId) -> Principal {
        Principal::scheduler(&self.0.kernel.config.region, account)
    }

    /// Nobody approved it in time.
    async fn expire(&self, account: AccountId, id: i64) -> Result<()> {
        let kernel = &self.0.kernel;
        let (now, region) = (kernel.clock.now(), kernel.config.region.clone());
        let who = self.principal(account);
        let by = who.urn();
        audit::change(kernel, &who, move |c| {
            let still = queries::find_request(c, account, id)?
                .filter(|request| request.state == RequestState::AwaitingApproval);
            if still.is_none() {
                return Ok(((), Vec::new()));
            }
            let reason = "It was not approved in time.";
            let decision = Decision { decision: "expired".into(), by, at: now, reason: reason.to_owned() };
            queries::set_decision(c, id, &decision)?;
            queries::cancel_unsent(c, id, reason, now)?;
            let mut entries =
                vec![Entry::new("audit.enforcement_expired.v1").subject(actions::subject(&region, account, id))];
            entries.extend(actions::end_if_over(c, &region, account, id, now)?);
            Ok(((), entries))
        })
        .await
    }

    /// What was done for a time only is taken back.
    async fn end_time_box(&self, account: AccountId, id: i64) -> Result<()> {
        let kernel = &self.0.kernel;
        let (now, region) = (kernel.clock.now(), kernel.config.region.clone());
        let who = self.principal(account);
        // What is not sent by now is not wanted any more.
        let open = audit::change(kernel, &who, move |c| {
            let mut entries = Vec::new();
            if queries::cancel_unsent(c, id, "Its time was over before it could be sent.", now)? > 0 {
                entries.extend(actions::end_if_over(c, &region, account, id, now)?);
            }
            let request = queries::find_request(c, account, id)?;
            Ok((request.map_or(0, |request| request.counts.open()), entries))
        })
        .await?;
        if open > 0 {
            // What is on its way ends first.
            return kernel.db.write(move |c| queries::set_undo_at(c, id, now.plus(5 * SECOND))).await;
        }
        let scheduler = who.clone();
        let found = kernel
            .db
            .read(move |c| {
                let Some(request) = queries::find_request(c, account, id)? else { return Ok(None) };
                // A newer task that is on its way ends first: what it comes to decides.
                for task in queries::tasks_of(c, id)? {
                    if queries::later_rival(c, &task)? == Some(true) {
                        return Ok(None);
                    }
                }
                let reason = format!("The time of request {id} is over.");
                let draft = actions::take_back(c, &scheduler, &request, None, reason, Origin::EndOf(id), now)?;
                Ok(Some(draft))
            })
            .await?;
        let Some(draft) = found else {
            return kernel.db.write(move |c| queries::set_undo_at(c, id, now.plus(5 * SECOND))).await;
        };
        let (principal, region) = (who.clone(), kernel.config.region.clone());
        audit::change(kernel, &who, move |c| {
            let entries = match draft {
                Some(draft) => actions::write(c, &principal, draft, now)?.1,
                None => {
                    queries::end_time_box(c, id, now)?;
                    let subject = actions::subject(&region, account, id);
                    vec![Entry::new("audit.enforcement_time_box_ended.v1").subject(subject).detail("takenBack", 0)]
                }
            };
            Ok(((), entries))
        })
        .await
    }

    /// Brings the copy of a directory up to date, in the background: what was observed is to be seen in the lists too.
    fn refresh(&self, account: AccountId, directory: i64) {
        if !self.stale().insert(directory) {
            // Somebody waits to do it already.
            return;
        }
        let own = self.clone();
        tokio::spawn(async move {
            loop {
                // Whatever is changed from here on wants a run of its own.
                own.stale().remove(&directory);
                match directories::refresh(&own.0.kernel, &own.0.runner, account, directory).await {
                    Ok(Refreshed::Busy) if own.stale().insert(directory) => tokio::time::sleep(REFRESH_AGAIN).await,
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(directory, error = %error.chain(), "the copy was not brought up to date");
                        return;
                    }
                }
            }
        });
    }

    /// Carries on every task of a directory that is due.
    async fn drive(&self, directory: i64) -> Result<()> {
        let mut changed = None;
        loop {
            let now = self.0.kernel.clock.now();
            let tasks = self.0.kernel.db.read(move |c| queries::due_tasks(c, directory, now, LANE_TASKS)).await?;
            let Some(first) = tasks.first() else { break };
            let account = first.account_id;
            if self.0.kernel.db.read(move |c| accounts::check_active(c, account)).await.is_err() {
                for task in tasks {
                    self.postpone(task, "The account is suspended.", None).await?;
                }
                continue;
            }
            if self.drive_together(account, directory, tasks).await? {
                changed = Some(account);
            }
        }
        if let Some(account) = changed {
            self.refresh(account, directory);
        }
        Ok(())
    }

    /// Carries on some tasks over one pair of connections; answers whether anything was changed in the directory.
    async fn drive_together(&self, account: AccountId, id: i64, tasks: Vec<Task>) -> Result<bool> {
        let kernel = &self.0.kernel;
        let found = kernel.db.read(move |c| directories::find(c, account, id)).await?;
        let Some(directory) = found else {
            for task in tasks {
                self.end(task, TaskState::Unsuccessful, "The directory was taken out of Bailiwick.", None).await?;
            }
            return Ok(false);
        };
        let wrong = |reason: String| {
            Failure::new(FailureKind::InvalidSettings, reason, "Correct the directory's settings (“Who acts”).")
        };
        let act = match directories::open_act(kernel, &directory).await {
            Ok(Some(act)) => act,
            Ok(None) => {
                let reason = format!("{} has no credentials for acting any more.", directory.name);
                return self.fail_all(tasks, &wrong(reason)).await.map(|()| false);
            }
            Err(Error::Invalid(errors)) => {
                let reason = errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join(" ");
                return self.fail_all(tasks, &wrong(reason)).await.map(|()| false);
            }
            Err(other) => return Err(other),
        };
        // A task is looked at where it was sent, and taken back where it was done: other servers may not know of it yet.
        let tasks = kernel
            .db
            .read(move |c| {
                let find = |id| queries::find_task(c, account, id);
                let with = |task: Task| Ok((task.inverse_of.map(find).transpose()?.flatten(), task));
                tasks.into_iter().map(with).collect::<Result<Vec<(Option<Task>, Task)>>>()
            })
            .await?;
        let mut by_server: BTreeMap<Option<String>, Vec<(Task, Option<Task>)>> = BTreeMap::new();
        for (original, task) in tasks {
            let at = |task: &Task| task.after.as_ref().or(task.before.as_ref()).map(|standing| standing.server.clone());
            let server = at(&task).or_else(|| original.as_ref().and_then(at));
            by_server.entry(server).or_default().push((task, original));
        }
        let mut is_changed = false;
        for (server, tasks) in by_server {
            is_changed |= self.drive_at(server.as_deref(), act.as_ref(), tasks).await?;
        }
        Ok(is_changed)
    }

    /// The same for tasks that belong to one server, if to any; each with the one that it takes back.
    async fn drive_at(&self, server: Option<&str>, act: &dyn Act, tasks: Vec<(Task, Option<Task>)>) -> Result<bool> {
        let only = |tasks: Vec<(Task, Option<Task>)>| tasks.into_iter().map(|(task, _)| task).collect();
        let mut actor = match act.begin(server).await {
            Ok(actor) => actor,
            Err(failure) => return self.fail_all(only(tasks), &failure).await.map(|()| false),
        };
        let mut is_changed = false;
        let mut tasks = tasks.into_iter();
        while let Some((task, original)) = tasks.next() {
            match self.step(act, actor.as_mut(), task, original, &mut is_changed).await? {
                Step::Done => {}
                Step::Broken(failure) => {
                    self.fail_all(only(tasks.collect()), &failure).await?;
                    return Ok(is_changed);
                }
            }
        }
        actor.close().await;
        Ok(is_changed)
    }

    /// Carries one task on as far as it goes now.
    async fn step(
        &self,
        act: &dyn Act,
        actor: &mut dyn Actor,
        mut task: Task,
        original: Option<Task>,
        is_changed: &mut bool,
    ) -> Result<Step> {
        task.attempts += 1;
        let now = self.0.kernel.clock.now();
        if task.sent_at.is_none() && task.give_up_at.is_some_and(|at| at <= now) {
            // What was wanted days ago need not be wanted now.
            let reason = "Its time was over before it could be sent, so nothing was sent.";
            self.end(task, TaskState::TimedOut, reason, Some("Ask for it again if it is still wanted.")).await?;
            return Ok(Step::Done);
        }
        let standing = match actor.look(&task.external_id).await {
            Ok(Some(standing)) => standing,
            Ok(None) => {
                let reason = "The directory does not hold this account, as far as its settings look.";
                self.end(task, TaskState::Unsuccessful, reason, Some("Sync the directory, then look again.")).await?;
                return Ok(Step::Done);
            }
            Err(failure) => return self.broken(task, failure).await,
        };
        let original = original.and_then(|original| original.before.zip(original.after.map(|after| after.server)));
        match act.judge(task.action, &standing, task.before.as_ref()) {
            Judgement::IsSo => {
                let elsewhere = original.as_ref().is_some_and(|(_, server)| *server != standing.server);
                if task.sent_at.is_none() && elsewhere {
                    let reason = "The server where it was done does not answer, and this one may not know of it yet.";
                    return self.postpone(task, reason, None).await.map(|()| Step::Done);
                }
                return self.observe(task, standing).await.map(|()| Step::Done);
            }
            Judgement::Refused(reason) => return self.refuse(task, &Refusal::of(reason)).await.map(|()| Step::Done),
            Judgement::ToDo => {}
        }
        if task.state == TaskState::Accepted {
            // Taken, and not seen yet: another look a little later, never a second change.
            return self.postpone(task, NOT_SEEN_YET, None).await.map(|()| Step::Done);
        }
        if let Some(refusal) = self.refusal(&task, &standing.name).await? {
            return self.refuse(task, &refusal).await.map(|()| Step::Done);
        }
        // Contained though it was out of use before: enabling it would give back what was not there.
        task.can_undo &=
            task.action != Action::Contain || act.judge(Action::Disable, &standing, None) == Judgement::ToDo;
        let was_sent = task.sent_at.is_some();
        let Some(mut task) = self.set_sent(task, &standing).await? else { return Ok(Step::Done) };
        let was = original.as_ref().map(|(before, _)| before);
        match actor.send(task.action, &task.external_id, &standing, was).await {
            Ok(()) => {
                *is_changed = true;
                task.state = TaskState::Accepted;
                task.accepted_at = Some(self.0.kernel.clock.now());
                task.error = None;
                task.next_step = None;
                self.store(task.clone()).await?;
            }
            Err(failure) => {
                if is_definite(&failure) && !was_sent {
                    // The server said no: nothing was done, so nothing of what is there next is ours.
                    task.state = TaskState::Queued;
                    task.sent_at = None;
                    task.before = None;
                }
                return self.broken(task, failure).await;
            }
        }
        match actor.look(&task.external_id).await {
            Ok(Some(after)) if act.judge(task.action, &after, task.before.as_ref()) == Judgement::IsSo => {
                self.observe(task, after).await?;
                Ok(Step::Done)
            }
            Ok(_) => self.postpone(task, NOT_SEEN_YET, None).await.map(|()| Step::Done),
            Err(failure) => self.broken(task, failure).await,
        }
    }

    /// Ends a task that must not be done. One that may have been sent was not refused in time.
    async fn refuse(&self, mut task: Task, refusal: &Refusal) -> Result<()> {
        task.error_in_part = refusal.words_in_part();
        let state = if task.sent_at.is_some() { TaskState::Unsuccessful } else { TaskState::Refused };
        self.end(task, state, &refusal.words(), None).await
    }

    /// The choke point, asked again with what is true now.
    async fn refusal(&self, task: &Task, name: &str) -> Result<Option<Refusal>> {
        let (task, name) = (task.clone(), name.to_owned());
        self.0
            .kernel
            .db
            .read(move |c| {
                match identities::queries::find_identity(c, &Sight::whole(task.account_id), task.identity_id)? {
                    Some(identity) => {
                        Never::read(c, task.account_id)?.refusal(&identity, Some(&name), task.action, task.id)
                    }
                    None => Ok(Some(Refusal::of("The identity is gone."))),
                }
            })
            .await
    }

    /// Marks a task as sent, with how the account stood; `None` when it was called off meanwhile.
    async fn set_sent(&self, mut task: Task, standing: &Standing) -> Result<Option<Task>> {
        let now = self.0.kernel.clock.now();
        task.state = TaskState::Sent;
        task.sent_at = task.sent_at.or(Some(now));
        task.before = task.before.or_else(|| Some(standing.clone()));
        self.0.kernel.db.write(move |c| Ok(queries::update_task(c, &task)?.then_some(task))).await
    }

    async fn store(&self, task: Task) -> Result<()> {
        // One that was called off meanwhile stays so.
        self.0.kernel.db.write(move |c| queries::update_task(c, &task).map(drop)).await
    }

    /// The directory says that it is so.
    async fn observe(&self, mut task: Task, after: Standing) -> Result<()> {
        let now = self.0.kernel.clock.now();
        task.was_so = task.sent_at.is_none();
        task.observed_at = Some(now);
        task.after = Some(after);
        task.error = None;
        task.next_step = None;
        self.finish(task, TaskState::Observed).await
    }

    async fn end(&self, mut task: Task, state: TaskState, error: &str, next_step: Option<&str>) -> Result<()> {
        task.error = Some(error.to_owned());
        task.next_step = next_step.map(str::to_owned);
        self.finish(task, state).await
    }

    /// Writes a task's end, and its request's if that was the last one.
    async fn finish(&self, mut task: Task, state: TaskState) -> Result<()> {
        let kernel = &self.0.kernel;
        let (now, region) = (kernel.clock.now(), kernel.config.region.clone());
        task.state = state;
        task.finished_at = Some(now);
        task.due_at = None;
        let action = task.action;
        let is_written = audit::change(kernel, &self.principal(task.account_id), move |c| {
            if !queries::update_task(c, &task)? {
                return Ok((false, Vec::new()));
            }
            let entry = actions::end_if_over(c, &region, task.account_id, task.request_id, now)?;
            Ok((true, entry.into_iter().collect()))
        })
        .await?;
        if is_written {
            metrics::counter!("bailiwick_tasks_total", "state" => state.as_str(), "action" => action.as_str())
                .increment(1);
        }
        Ok(())
    }

    /// A failure while the connection was in use: the task's own matter, or the connection's.
    async fn broken(&self, task: Task, failure: Failure) -> Result<Step> {
        let is_the_connection = matches!(
            failure.kind,
            FailureKind::ConnectionLost
                | FailureKind::TimedOut
                | FailureKind::ProtocolViolation
                | FailureKind::Unreachable
        );
        self.fail(task, &failure).await?;
        Ok(if is_the_connection { Step::Broken(failure) } else { Step::Done })
    }

    /// A try that failed for all of them alike.
    async fn fail_all(&self, tasks: Vec<Task>, failure: &Failure) -> Result<()> {
        for mut task in tasks {
            task.attempts += 1;
            self.fail(task, failure).await?;
        }
        Ok(())
    }

    /// A failed try: another one later, or the end.
    async fn fail(&self, task: Task, failure: &Failure) -> Result<()> {
        let may_pass = matches!(
            failure.kind,
            FailureKind::NameResolution
                | FailureKind::Unreachable
                | FailureKind::TimedOut
                | FailureKind::ConnectionLost
                | FailureKind::ServerBusy
                | FailureKind::Changed
                | FailureKind::Cancelled
        );
        // What is on its way is not given up because nobody can be asked at the moment.
        let is_on_its_way = task.sent_at.is_some() && !is_definite(failure);
        if may_pass || is_on_its_way {
            self.postpone(task, &failure.message, Some(&failure.next_step)).await
        } else {
            self.end(task, TaskState::Unsuccessful, &failure.message, Some(&failure.next_step)).await
        }
    }

    async fn postpone(&self, mut task: Task, reason: &str, next_step: Option<&str>) -> Result<()> {
        let now = self.0.kernel.clock.now();
        if task.give_up_at.is_some_and(|at| at <= now) {
            return self.end(task, TaskState::TimedOut, reason, next_step).await;
        }
        let tries = usize::try_from(task.attempts).unwrap_or(usize::MAX).saturating_sub(1);
        let wait_s = WAITS_S.get(tries).or(WAITS_S.last()).copied().unwrap_or(60);
        let due = now.plus(wait_s * SECOND);
        task.due_at = Some(task.give_up_at.map_or(due, |end| due.min(end)));
        task.error = Some(reason.to_owned());
        task.next_step = next_step.map(str::to_owned);
        self.store(task).await
    }
}

/// The server understood the change and did not make it.
fn is_definite(failure: &Failure) -> bool {
    matches!(
        failure.kind,
        FailureKind::AccessDenied
            | FailureKind::Refused
            | FailureKind::Changed
            | FailureKind::NotFound
            | FailureKind::Referral
            | FailureKind::ConfidentialityRequired
    )
}

/// A directory's lane is free again, however its work ended.
struct Lane {
    dispatcher: Dispatcher,
    directory: i64,
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.dispatcher.lanes().remove(&self.directory);
        // What became due meanwhile was passed over by the queue.
        self.dispatcher.wake();
    }
}
