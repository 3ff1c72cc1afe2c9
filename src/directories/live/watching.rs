//! One directory in live mode: watch, gather, run, and watch again, for ever.
//!
//! Owns every wait of it, and the promise that nothing a server does makes it busy: each way round the loop waits, and
//! longer after each time that came to nothing. One connection set at a time, and a counter instead of a queue. It must
//! never read or write a directory's content; that is what runs do.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::sleep};

use super::{
    super::run::not_accepted,
    state::{LiveJson, LiveState},
};
use crate::{
    connectors::{Connector, Failure, FailureKind, Heard, WatchStop},
    error::{Error, Result},
    kernel::BoxFuture,
    secret,
};

/// All waits, so that tests can have short ones.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// From the first word of a change to the run: a burst is one run.
    pub gather: Duration,
    /// From the end of a run to the next one.
    pub pause: Duration,
    /// The pause is doubled for each run in a row that found nothing, up to this: a server may tell changes of what
    /// nobody reads, and it may change something whenever it is read.
    pub idle_max: Duration,
    /// The same for each run in a row whose plan waits for a person.
    pub waiting_max: Duration,
    /// Before the first new try; doubled for each that fails, up to `retry_max`.
    pub retry: Duration,
    pub retry_max: Duration,
    /// A watch that held so long was a good one: the next failure is a first one again.
    pub settled: Duration,
    /// Before a server is asked again whether it tells changes.
    pub rarely: Duration,
    /// How often a wait looks whether a run has made it needless.
    pub look: Duration,
}

impl Timing {
    pub const REAL: Self = Self {
        gather: Duration::from_secs(1),
        pause: Duration::from_secs(3),
        idle_max: Duration::from_secs(30),
        waiting_max: Duration::from_secs(15 * 60),
        retry: Duration::from_secs(1),
        retry_max: Duration::from_secs(5 * 60),
        settled: Duration::from_secs(60),
        rarely: Duration::from_secs(60 * 60),
        look: Duration::from_secs(2),
    };
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ran {
    Applied {
        differences: i64,
    },
    /// Its plan waits for a person, or is the same as one that does.
    Waits,
    Failed(Failure),
}

/// The directory that is watched, as the loop sees it.
pub trait Ground: Send + Sync {
    /// Where the next run of changes goes on.
    fn watermark(&self) -> BoxFuture<'_, Result<Option<String>>>;
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Connector>>>;
    /// Waits until no run of the directory goes on; `false` when it is not to be watched any more.
    fn is_free(&self) -> BoxFuture<'_, Result<bool>>;
    /// Starts a run of changes and waits for its end.
    fn run(&self) -> BoxFuture<'_, Result<Ran>>;
    fn changed(&self);
    /// Shows a state; `next_try` is how long it is until the next try.
    fn show(&self, shown: LiveJson, next_try: Option<Duration>);
}

/// Why one watch ended.
#[derive(Debug)]
enum End {
    Quiet,
    Failed(Failure),
    Lost(String),
    NotOffered(String),
    /// The supervisor is about to end this.
    Unwanted,
}

/// An error of ours as a failure to show.
fn ours(error: Error) -> Failure {
    if let Error::Invalid(fields) = &error {
        return not_accepted(fields);
    }
    tracing::error!(error = %error.chain(), "live mode failed on our side");
    Failure::new(
        FailureKind::Other,
        "Live mode failed inside the appliance, not at the directory.",
        "Look into the appliance's log; the schedules go on.",
    )
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(ours(error))
    }
}

impl From<WatchStop> for End {
    fn from(stop: WatchStop) -> Self {
        match stop {
            WatchStop::Failed(failure) => Self::Failed(failure),
            WatchStop::WatermarkLost { reason } => Self::Lost(reason),
            WatchStop::NotOffered { reason } => Self::NotOffered(reason),
        }
    }
}

/// `first` doubled `times`, up to `max`.
fn grown(first: Duration, times: u32, max: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times)).min(max)
}

/// Between half of `wait` and all of it: the directories of an appliance, and the appliances of a network, must not all
/// come back in the same moment.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0_u8; 2];
    secret::fill_random(&mut random);
    let half = wait / 2;
    half + half.mul_f64(f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX))
}

/// How soon the next run may begin.
#[derive(Debug, Default)]
struct Pauses {
    idle: u32,
    waiting: u32,
    ended: Option<Instant>,
    /// Where the directory stood when the last run ended.
    mark: Option<String>,
}

impl Pauses {
    fn ended(&mut self, ran: &Ran, mark: Option<String>) {
        self.ended = Some(Instant::now());
        self.mark = mark;
        (self.idle, self.waiting) = match ran {
            Ran::Applied { differences: 0 } => (self.idle.saturating_add(1), 0),
            Ran::Applied { .. } => (0, 0),
            Ran::Waits => (self.idle, self.waiting.saturating_add(1)),
            Ran::Failed(_) => (self.idle, self.waiting),
        };
    }

    /// What is left of the pause after the last run.
    fn left(&self, timing: &Timing) -> Duration {
        // The first run that finds nothing says little: after a reconnection there often is one.
        let idle = grown(timing.pause, self.idle.saturating_sub(1), timing.idle_max);
        let waiting =
            if self.waiting == 0 { idle } else { grown(timing.pause, self.waiting, timing.waiting_max).max(idle) };
        self.ended.map_or(Duration::ZERO, |ended| waiting.saturating_sub(ended.elapsed()))
    }
}

/// Watches a directory. Dropping the future ends the watch and closes its connections; a run that it has started goes on.
pub async fn watch_for_ever(ground: &impl Ground, timing: &Timing) -> Infallible {
    let mut watch = Watch { ground, timing, pauses: Pauses::default(), failures: 0, answered: None };
    watch.show(LiveState::Connecting);
    loop {
        watch.round().await;
    }
}

struct Watch<'g, G> {
    ground: &'g G,
    timing: &'g Timing,
    pauses: Pauses,
    /// In a row.
    failures: u32,
    /// The watermark whose loss a run was made for: a plan that waits must not lead to another one.
    answered: Option<String>,
}

impl<G: Ground> Watch<'_, G> {
    fn show(&self, state: LiveState) {
        self.ground.show(LiveJson { state, ..LiveJson::default() }, None);
    }

    /// One watch to its end, and the wait after it.
    async fn round(&mut self) {
        let begun = Instant::now();
        let (mark, end) = match self.ground.watermark().await {
            Ok(Some(mark)) => {
                let end = self.once(&mark).await;
                (Some(mark), end)
            }
            Ok(None) => (None, End::Unwanted),
            Err(error) => (None, error.into()),
        };
        let has_held = begun.elapsed() >= self.timing.settled;
        if has_held {
            self.failures = 0;
        }
        match end {
            // As it is meant to be: nothing happened for some minutes.
            End::Quiet if has_held => sleep(jittered(self.timing.retry)).await,
            End::Quiet => {
                let failure = Failure::new(
                    FailureKind::ConnectionLost,
                    "The server ended the watch at once, without a reason.",
                    "Look at the LDAP server's log.",
                );
                self.try_later(failure, mark).await;
            }
            End::Failed(failure) => self.try_later(failure, mark).await,
            End::Lost(reason) => self.read_again(reason, mark).await,
            End::NotOffered(reason) => {
                let wait = jittered(self.timing.rarely);
                let shown = LiveJson {
                    state: LiveState::NotOffered,
                    reason: Some(reason),
                    next_step: Some("Nothing is lost: the schedules go on as they are set.".into()),
                    ..LiveJson::default()
                };
                self.ground.show(shown, Some(wait));
                self.rest(wait, mark.as_deref()).await;
            }
            End::Unwanted => self.stand_aside().await,
        }
    }

    /// The watermark is of no use: a run is made, once, which reads everything and which the guard judges.
    async fn read_again(&mut self, reason: String, mark: Option<String>) {
        let waits = Failure::new(
            FailureKind::Other,
            format!("{reason} Everything was read again; live mode goes on when that is applied."),
            "Look at the newest run of this directory.",
        );
        if self.answered != mark {
            match self.run_once().await {
                Ok(Some(Ran::Failed(failure))) => return self.try_later(failure, mark).await,
                Ok(Some(_)) => self.answered.clone_from(&mark),
                Ok(None) => return self.stand_aside().await,
                Err(error) => return self.try_later(ours(error), mark).await,
            }
            if self.has_moved(mark.as_deref()).await {
                // Still a wait that grows: a server may lose every watermark it gives.
                return self.stand_aside().await;
            }
        }
        self.try_later(waits, mark).await;
    }

    fn next_wait(&mut self) -> Duration {
        let wait = jittered(grown(self.timing.retry, self.failures, self.timing.retry_max)).max(self.timing.retry);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Waits as after a failure, but shows none.
    async fn stand_aside(&mut self) {
        sleep(self.next_wait()).await;
    }

    async fn try_later(&mut self, failure: Failure, mark: Option<String>) {
        let wait = self.next_wait();
        let shown = LiveJson {
            state: LiveState::Retrying,
            reason: Some(failure.message),
            next_step: Some(failure.next_step),
            ..LiveJson::default()
        };
        self.ground.show(shown, Some(wait));
        self.rest(wait, mark.as_deref()).await;
    }

    async fn has_moved(&self, mark: Option<&str>) -> bool {
        // Not to know is not to have moved.
        self.ground.watermark().await.is_ok_and(|now| now.as_deref() != mark)
    }

    /// Waits, or until a run has moved the directory on from `mark`.
    async fn rest(&self, wait: Duration, mark: Option<&str>) {
        let begun = Instant::now();
        loop {
            let left = wait.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return;
            }
            sleep(left.min(self.timing.look)).await;
            if left > self.timing.look && self.has_moved(mark).await {
                return;
            }
        }
    }

    async fn once(&mut self, mark: &str) -> End {
        let connector = match self.ground.open().await {
            Ok(connector) => connector,
            Err(error) => return error.into(),
        };
        let (sender, heard) = watch::channel(Heard::default());
        let Some(watching) = connector.delta().and_then(|delta| delta.watch(mark, sender)) else {
            return End::NotOffered("This kind of directory does not tell changes.".into());
        };
        tokio::select! {
            ended = watching => ended.map_or_else(End::from, |()| End::Quiet),
            end = self.follow(heard) => end,
        }
    }

    /// Runs for what is heard, until a run fails.
    async fn follow(&mut self, mut heard: watch::Receiver<Heard>) -> End {
        let (mut seen, mut is_shown) = (0, false);
        loop {
            let now = *heard.borrow_and_update();
            if now.is_listening && !is_shown {
                is_shown = true;
                self.show(LiveState::Watching);
            }
            if now.changes == seen {
                if heard.changed().await.is_err() {
                    // The watch itself is about to say why.
                    std::future::pending::<()>().await;
                }
                continue;
            }
            self.ground.changed();
            sleep(self.timing.gather).await;
            let mark = self.pauses.mark.clone();
            self.rest(self.pauses.left(self.timing), mark.as_deref()).await;
            match self.ground.is_free().await {
                Ok(true) => (),
                Ok(false) => return End::Unwanted,
                Err(error) => return error.into(),
            }
            // What came until here is in this run; what comes while it goes on is in the next.
            seen = heard.borrow().changes;
            match self.run_once().await {
                Ok(Some(Ran::Failed(failure))) => return End::Failed(failure),
                Ok(Some(_)) => (),
                Ok(None) => return End::Unwanted,
                Err(error) => return error.into(),
            }
        }
    }

    /// A run when the way is free; `None` when the directory is not to be watched any more.
    async fn run_once(&mut self) -> Result<Option<Ran>> {
        if !self.ground.is_free().await? {
            return Ok(None);
        }
        let ran = self.ground.run().await?;
        let mark = self.ground.watermark().await?;
        self.pauses.ended(&ran, mark);
        Ok(Some(ran))
    }
}
