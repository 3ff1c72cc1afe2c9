//! The queue: sends what is queued, reads back what was accepted, takes back what was only for a time.
//!
//! Owns the ways between the states of a task. Before anything is sent, the account's standing is stored and the task is
//! `sent`; so whatever interrupts it, it begins again by looking, and what is so already is not sent a second time. One
//! lane per directory; a lane works on one server. A task ends observed, unsuccessful, refused, or timed out, never
//! silently.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    actions, drift,
    model::{Decision, RequestState, Task, TaskState},
    never::Never,
    queries,
};
use crate::{
    audit::{self, Entry},
    clock::{SECOND, Time},
    connectors::{
        Failure, FailureKind,
        act::{Act, Actor, Judgement, Standing},
    },
    directories::{self, Refreshed, Runner},
    error::{Error, Result},
    identities,
    kernel::Kernel,
    principal::{AccountId, Principal},
};

/// Tasks that one lane takes at a time.
const LANE_TASKS: usize = 50;
/// How long the queue sleeps at most: what another process wrote (the command line) is found then.
const SLEEP_MAX: Duration = Duration::from_secs(5);
/// How long a run that goes on is waited for before it is asked again.
const REFRESH_AGAIN: Duration = Duration::from_millis(500);
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
        for (account, id) in kernel.db.read(move |c| queries::expired(c, now)).await? {
            self.expire(account, id).await?;
        }
        drift::look(kernel).await?;
        for (account, id) in kernel.db.read(move |c| queries::to_undo(c, now)).await? {
            self.end_time_box(account, id).await?;
        }
        let ((due, next), deadline) =
            kernel.db.read(move |c| Ok((queries::due_directories(c, now)?, queries::next_deadline(c)?))).await?;
        for directory in due {
            if self.lanes().insert(directory) {
                let own = self.clone();
                tokio::spawn(async move {
                    let lane = Lane { dispatcher: own.clone(), directory };
                    if let Err(error) = lane.dispatcher.drive(directory).await {
                        tracing::error!(directory, error = %error.chain(), "tasks could not be carried on");
                    }
                });
            }
        }
        Ok([next, deadline].into_iter().flatten().min())
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
        let found = kernel
            .db
            .read(move |c| {
                let Some(request) = queries::find_request(c, account, id)? else { return Ok(None) };
                let draft = actions::take_back(c, &request, None, format!("The time of request {id} is over."))?;
                Ok(Some((request, draft)))
            })
            .await?;
        let Some((request, draft)) = found else { return Ok(()) };
        let (principal, region) = (who.clone(), kernel.config.region.clone());
        audit::change(kernel, &who, move |c| {
            let entries = match draft {
                Some(draft) => actions::write_undo(c, &principal, &request, draft, now)?,
                None => {
                    queries::set_undone(c, id, 0)?;
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
        let act = match directories::open_act(kernel, &directory).await {
            Ok(Some(act)) => act,
            Ok(None) => {
                for task in tasks {
                    let reason = format!("{} has no credentials for acting any more.", directory.name);
                    self.end(task, TaskState::Unsuccessful, &reason, Some("Add them to the directory's settings."))
                        .await?;
                }
                return Ok(false);
            }
            Err(Error::Invalid(errors)) => {
                let what = errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join(" ");
                for task in tasks {
                    self.end(task, TaskState::Unsuccessful, &what, Some("Correct the directory's settings.")).await?;
                }
                return Ok(false);
            }
            Err(other) => return Err(other),
        };
        // A task that is on its way is looked at where it was sent.
        let server = tasks.iter().find_map(|task| task.before.as_ref()).map(|before| before.server.clone());
        let mut actor = match act.begin(server.as_deref()).await {
            Ok(actor) => actor,
            Err(failure) => {
                self.fail_all(tasks, &failure).await?;
                return Ok(false);
            }
        };
        let mut is_changed = false;
        let mut tasks = tasks.into_iter();
        while let Some(task) = tasks.next() {
            match self.step(act.as_ref(), actor.as_mut(), task, &mut is_changed).await? {
                Step::Done => {}
                Step::Broken(failure) => {
                    self.fail_all(tasks.collect(), &failure).await?;
                    return Ok(is_changed);
                }
            }
        }
        actor.close().await;
        Ok(is_changed)
    }

    /// Carries one task on as far as it goes now.
    async fn step(&self, act: &dyn Act, actor: &mut dyn Actor, mut task: Task, is_changed: &mut bool) -> Result<Step> {
        task.attempts += 1;
        let standing = match actor.look(&task.external_id).await {
            Ok(Some(standing)) => standing,
            Ok(None) => {
                let reason = "The directory does not hold this account, as far as its settings look.";
                self.end(task, TaskState::Unsuccessful, reason, Some("Sync the directory, then look again.")).await?;
                return Ok(Step::Done);
            }
            Err(failure) => return self.broken(task, failure).await,
        };
        let standing = match act.judge(task.action, &standing, task.before.as_ref()) {
            Judgement::IsSo => {
                self.observe(task, standing).await?;
                return Ok(Step::Done);
            }
            Judgement::Refused(reason) => {
                self.end(task, TaskState::Refused, &reason, None).await?;
                return Ok(Step::Done);
            }
            Judgement::ToDo => standing,
        };
        if task.state == TaskState::Accepted {
            // Taken, and not seen yet: another look a little later, never a second change.
            let reason = "The directory took the change, but does not show it yet.";
            return self.postpone(task, reason, None).await.map(|()| Step::Done);
        }
        if let Some(reason) = self.refusal(&task).await? {
            self.end(task, TaskState::Refused, &reason, None).await?;
            return Ok(Step::Done);
        }
        let Some(mut task) = self.set_sent(task, &standing).await? else { return Ok(Step::Done) };
        match actor.send(task.action, &standing).await {
            Ok(()) => {
                *is_changed = true;
                task.state = TaskState::Accepted;
                task.accepted_at = Some(self.0.kernel.clock.now());
                task.error = None;
                task.next_step = None;
                self.store(task.clone()).await?;
            }
            Err(failure) => return self.broken(task, failure).await,
        }
        match actor.look(&task.external_id).await {
            Ok(Some(after)) if act.judge(task.action, &after, task.before.as_ref()) == Judgement::IsSo => {
                self.observe(task, after).await?;
                Ok(Step::Done)
            }
            Ok(_) => {
                let reason = "The directory took the change, but does not show it yet.";
                self.postpone(task, reason, None).await.map(|()| Step::Done)
            }
            Err(failure) => self.broken(task, failure).await,
        }
    }

    /// The choke point, asked again with what is true now.
    async fn refusal(&self, task: &Task) -> Result<Option<String>> {
        let task = task.clone();
        self.0
            .kernel
            .db
            .read(move |c| match identities::queries::find_identity(c, task.account_id, task.identity_id)? {
                Some(identity) => Never::read(c, task.account_id)?.refusal(&identity, task.action, task.id),
                None => Ok(Some("The identity is gone.".to_owned())),
            })
            .await
    }

    /// Marks a task as sent, with how the account stood; `None` when it was called off meanwhile.
    async fn set_sent(&self, mut task: Task, standing: &Standing) -> Result<Option<Task>> {
        let now = self.0.kernel.clock.now();
        task.state = TaskState::Sent;
        task.sent_at = task.sent_at.or(Some(now));
        task.before = task.before.or_else(|| Some(standing.clone()));
        self.0
            .kernel
            .db
            .write(move |c| {
                let is_over = queries::find_task(c, task.account_id, task.id)?.is_none_or(|now| now.state.is_over());
                if is_over {
                    return Ok(None);
                }
                queries::update_task(c, &task)?;
                Ok(Some(task))
            })
            .await
    }

    async fn store(&self, task: Task) -> Result<()> {
        self.0.kernel.db.write(move |c| queries::update_task(c, &task)).await
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
        metrics::counter!("bailiwick_tasks_total", "state" => state.as_str(), "action" => task.action.as_str())
            .increment(1);
        audit::change(kernel, &self.principal(task.account_id), move |c| {
            queries::update_task(c, &task)?;
            let entry = actions::end_if_over(c, &region, task.account_id, task.request_id, now)?;
            Ok(((), entry.into_iter().collect()))
        })
        .await
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
        if may_pass {
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
