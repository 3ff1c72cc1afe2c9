//! Live mode: waits at the directories that tell their changes, and starts a run of changes when one does.
//!
//! Owns which directories are watched: each that is switched to live, not paused or removed, and has been applied with a
//! watermark. What is watched follows what is stored, looked at every second, as the schedule does: whoever changes a
//! setting has nobody to tell. It must never take anything into the copy by itself: it starts the runs that the schedule
//! starts, under the same guard, and the schedules go on beside it.

mod state;
#[cfg(test)]
mod tests;
mod watching;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio::{task::JoinHandle, time::MissedTickBehavior};

pub use self::state::{LiveJson, LiveState};
use self::{
    state::Board,
    watching::{Ground, Ran, Timing},
};
use super::{
    actions::{self, RunInput},
    credentials,
    model::{Mode, Run, RunState},
    queries, review,
    run::Runner,
};
use crate::{
    accounts,
    connectors::{Connector, Failure, FailureKind},
    error::{Error, Result},
    kernel::{BoxFuture, Kernel},
    principal::{AccountId, Principal},
    secret,
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a run in the way is looked at.
const FREE_EVERY: Duration = Duration::from_millis(250);
/// A run in the way for so long may be one that nobody carries: starting another one finds that out.
const FREE_PATIENCE: Duration = Duration::from_secs(60);
/// Before a watch that ended by an error of ours is begun again.
const BROKEN_WAIT: Duration = Duration::from_secs(5 * 60);

/// A directory that is switched to live and not paused.
pub(super) struct Wanted {
    pub directory: i64,
    pub account: AccountId,
    /// Settings and sealed credentials: with others, another watch.
    pub settings: String,
    pub credentials: Vec<u8>,
    pub has_watermark: bool,
}

impl Wanted {
    fn key(&self) -> [u8; 32] {
        let mut text = self.settings.clone().into_bytes();
        text.push(0);
        text.extend_from_slice(&self.credentials);
        secret::sha256(&text)
    }
}

/// Live mode of all directories; cheap to clone.
#[derive(Clone)]
pub struct Live {
    kernel: Kernel,
    runner: Runner,
    board: Board,
}

/// A watch that goes on; ends with this.
struct Watch {
    key: [u8; 32],
    task: JoinHandle<()>,
    broken: Option<Instant>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Ends it, and answers when its connections are closed.
    async fn end(mut self) {
        self.task.abort();
        // Cancelled or panicked: it is over either way.
        let _ = (&mut self.task).await;
    }
}

impl Live {
    pub fn new(runner: Runner) -> Self {
        Self { kernel: runner.kernel.clone(), runner, board: Board::default() }
    }

    /// How live mode stands for a directory as it is stored now.
    pub fn standing(&self, directory: &super::Directory) -> LiveJson {
        self.board.standing(directory)
    }

    /// Watches whatever is to be watched, until the future is dropped: then all watches end.
    pub async fn supervise(self) {
        let mut watches = HashMap::new();
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let wanted = self.kernel.db.read(|c| {
                let (mut wanted, suspended) = (queries::live(c)?, accounts::suspended(c)?);
                wanted.retain(|wanted| !suspended.contains(&wanted.account));
                Ok(wanted)
            });
            match wanted.await {
                Ok(wanted) => self.follow(&mut watches, wanted).await,
                Err(error) => {
                    tracing::warn!(error = %error.chain(), "which directories are live could not be read");
                }
            }
        }
    }

    /// Ends the watches that are not wanted any more, and begins those that are.
    async fn follow(&self, watches: &mut HashMap<i64, Watch>, wanted: Vec<Wanted>) {
        let wanted: HashMap<i64, Wanted> = wanted.into_iter().map(|wanted| (wanted.directory, wanted)).collect();
        let is_right =
            |id: &i64, watch: &Watch| wanted.get(id).is_some_and(|w| w.has_watermark && w.key() == watch.key);
        let over: Vec<i64> = watches.iter().filter(|(id, watch)| !is_right(id, watch)).map(|(id, _)| *id).collect();
        for id in over {
            if let Some(watch) = watches.remove(&id) {
                watch.end().await;
            }
        }
        self.board.keep(|id| wanted.contains_key(&id));
        for (id, wanted) in wanted {
            if !wanted.has_watermark {
                let reason = "It begins after the next full run: the last one left no mark to go on from.";
                self.board.show(id, LiveJson::waits_for(reason));
                continue;
            }
            match watches.get_mut(&id) {
                Some(watch) if !watch.task.is_finished() => continue,
                Some(watch) => {
                    let broken = *watch.broken.get_or_insert_with(|| {
                        tracing::error!(directory = id, "a watch ended unexpectedly");
                        let failure = LiveJson {
                            state: LiveState::Retrying,
                            since: Some(self.kernel.clock.now()),
                            ..LiveJson::waits_for("It ended unexpectedly; the appliance's log says why.")
                        };
                        self.board.show(id, failure);
                        Instant::now()
                    });
                    if broken.elapsed() < BROKEN_WAIT {
                        continue;
                    }
                }
                None => (),
            }
            let place = Place { live: self.clone(), directory: id, account: wanted.account };
            let task = tokio::spawn(async move {
                watching::watch_for_ever(&place, &Timing::REAL).await;
            });
            watches.insert(id, Watch { key: wanted.key(), task, broken: None });
        }
    }

    /// Sets the measurement of every directory.
    pub async fn measure(&self) -> Result<()> {
        for directory in self.kernel.db.read(queries::ids).await? {
            self.board.measure(directory);
        }
        Ok(())
    }
}

/// One live directory of the appliance.
struct Place {
    live: Live,
    directory: i64,
    account: AccountId,
}

impl Place {
    async fn free(&self) -> Result<bool> {
        let (account, id) = (self.account, self.directory);
        let begun = Instant::now();
        loop {
            let (found, is_busy) = self
                .live
                .kernel
                .db
                .read(move |c| Ok((queries::find(c, account, id)?, queries::has_active_run(c, id)?)))
                .await?;
            let is_wanted = found.is_some_and(|found| found.schedule.live && !found.schedule.paused);
            if !is_wanted || !is_busy || begun.elapsed() > FREE_PATIENCE {
                return Ok(is_wanted);
            }
            tokio::time::sleep(FREE_EVERY).await;
        }
    }

    async fn carry(&self) -> Result<Ran> {
        let live = &self.live;
        let (id, now) = (self.directory, live.kernel.clock.now());
        if live.kernel.db.read(move |c| review::rewind_in_review(c, id, now)).await?.is_some() {
            // Its plan is about the copy as it stands (see `Runner::run_scheduled`).
            return Ok(Ran::Waits);
        }
        let principal = Principal::live(&live.kernel.config.region, self.account);
        let input = RunInput { mode: Mode::Delta, dry_run: false };
        let run = loop {
            match actions::start_run(&live.kernel, &principal, &live.runner, self.directory, input).await {
                Ok(run) => break run,
                // Somebody was quicker, or is still at it.
                Err(Error::Conflict(_)) => {
                    tokio::time::sleep(FREE_EVERY).await;
                    if !self.free().await? {
                        return Err(Error::NotFound("This directory"));
                    }
                }
                Err(other) => return Err(other),
            }
        };
        Ok(ran(live.runner.wait(self.account, run.id).await?))
    }
}

fn ran(run: Run) -> Ran {
    match run.state {
        RunState::Applied => Ran::Applied { differences: run.counts.differences() },
        RunState::Failed => Ran::Failed(Failure::new(
            FailureKind::Other,
            run.reason.unwrap_or_else(|| "The run failed.".into()),
            run.next_step.unwrap_or_default(),
        )),
        // An apply that was interrupted goes on by itself: for us it waits, like a plan that a person has to look at.
        _ => Ran::Waits,
    }
}

impl Ground for Place {
    fn watermark(&self) -> BoxFuture<'_, Result<Option<String>>> {
        let id = self.directory;
        Box::pin(self.live.kernel.db.read(move |c| queries::watermark(c, id)))
    }

    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Connector>>> {
        Box::pin(async {
            let (account, id) = (self.account, self.directory);
            let directory = self.live.kernel.db.read(move |c| queries::find(c, account, id)).await?;
            let directory = directory.ok_or(Error::NotFound("This directory"))?;
            credentials::open(&self.live.kernel, &directory).await
        })
    }

    fn is_free(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.free())
    }

    fn run(&self) -> BoxFuture<'_, Result<Ran>> {
        Box::pin(self.carry())
    }

    fn changed(&self) {
        self.live.board.changed(self.directory, self.live.kernel.clock.now());
    }

    fn show(&self, shown: LiveJson, next_try: Option<Duration>) {
        let now = self.live.kernel.clock.now();
        let us = |wait: Duration| i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        let next_try_at = next_try.map(|wait| now.plus(us(wait)));
        self.live.board.show(self.directory, LiveJson { since: Some(now), next_try_at, ..shown });
    }
}
