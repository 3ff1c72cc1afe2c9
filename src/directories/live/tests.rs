//! Live mode on a directory that does what the test says: whatever a server does, it is one connection and few runs.
//!
//! Waits are milliseconds here. What is checked are lower bounds of time, which a slow machine cannot break.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use proptest::prelude::*;
use tokio::sync::{Semaphore, mpsc, watch};

use super::{
    state::{LiveJson, LiveState},
    watching::{Ground, Ran, Timing, watch_for_ever},
};
use crate::{
    connectors::{
        Connector, Delta, DeltaEnd, DeltaStop, Failure, FailureKind, Heard, Page, ProbeReport, ReadEnd, Sample,
        WatchStop,
    },
    db::Db,
    directories::queries,
    error::Result,
    kernel::BoxFuture,
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const FAST: Timing = Timing {
    gather: ms(2),
    pause: ms(6),
    idle_max: ms(40),
    waiting_max: ms(80),
    retry: ms(4),
    retry_max: ms(40),
    settled: Duration::from_secs(60),
    rarely: Duration::from_secs(3600),
    look: ms(4),
};

fn failure() -> Failure {
    Failure::new(FailureKind::Unreachable, "No server answers.", "Start one.")
}

/// What the server does with one watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    EndsAtOnce,
    FailsAtOnce,
    LosesTheMark,
    OffersNothing,
    /// Tells a change, and ends.
    TellsAndEnds,
    /// Tells changes as fast as it can, for ever.
    Floods,
    /// Tells what [`Scripted::burst`] lets it, 1,000 changes at once.
    Bursts,
}

/// A directory, its server, and what the appliance did.
struct Scripted {
    deeds: Vec<Deed>,
    ran: Ran,
    /// Whether a run moves the watermark.
    moves: bool,
    mark: AtomicU32,
    watches: AtomicU32,
    runs: AtomicU32,
    connections: AtomicU32,
    connections_most: AtomicU32,
    burst: Semaphore,
    /// A run ends when it gets one.
    run_may_end: Semaphore,
    shown: Mutex<Vec<LiveJson>>,
}

impl Scripted {
    fn new(deeds: &[Deed], ran: Ran) -> Arc<Self> {
        Arc::new(Self {
            deeds: deeds.to_vec(),
            ran,
            moves: false,
            mark: AtomicU32::new(0),
            watches: AtomicU32::new(0),
            runs: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            connections_most: AtomicU32::new(0),
            burst: Semaphore::new(0),
            run_may_end: Semaphore::new(Semaphore::MAX_PERMITS),
            shown: Mutex::default(),
        })
    }

    fn watches(&self) -> u32 {
        self.watches.load(Ordering::SeqCst)
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }

    fn state(&self) -> LiveJson {
        self.shown.lock().expect("not poisoned").last().cloned().unwrap_or_default()
    }
}

/// Watches until `f` holds; answers how long that took.
async fn until(ground: &Arc<Scripted>, timing: &Timing, f: impl Fn(&Scripted) -> bool) -> Duration {
    let begun = Instant::now();
    let place = Place(ground.clone());
    let waiting = async {
        while !f(ground) {
            tokio::time::sleep(ms(1)).await;
        }
    };
    tokio::select! {
        never = watch_for_ever(&place, timing) => match never {},
        waited = tokio::time::timeout(Duration::from_secs(30), waiting) => {
            assert!(waited.is_ok(), "{} watches, {} runs, {:?}", ground.watches(), ground.runs(), ground.state());
        }
    }
    assert!(ground.connections_most.load(Ordering::SeqCst) <= 1, "one connection at a time");
    begun.elapsed()
}

struct Place(Arc<Scripted>);

impl Ground for Place {
    fn watermark(&self) -> BoxFuture<'_, Result<Option<String>>> {
        Box::pin(async { Ok(Some(self.0.mark.load(Ordering::SeqCst).to_string())) })
    }

    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Connector>>> {
        Box::pin(async { Ok(Box::new(Server(self.0.clone())) as Box<dyn Connector>) })
    }

    fn is_free(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async { Ok(true) })
    }

    fn run(&self) -> BoxFuture<'_, Result<Ran>> {
        Box::pin(async {
            self.0.runs.fetch_add(1, Ordering::SeqCst);
            self.0.run_may_end.acquire().await.expect("open").forget();
            if self.0.moves {
                self.0.mark.fetch_add(1, Ordering::SeqCst);
            }
            Ok(self.0.ran.clone())
        })
    }

    fn changed(&self) {}

    fn show(&self, shown: LiveJson, _: Option<Duration>) {
        self.0.shown.lock().expect("not poisoned").push(shown);
    }
}

struct Server(Arc<Scripted>);

/// One connection of a watch, while it is open.
struct Connection<'s>(&'s Scripted);

impl<'s> Connection<'s> {
    fn open(script: &'s Scripted) -> Self {
        let open = script.connections.fetch_add(1, Ordering::SeqCst) + 1;
        script.connections_most.fetch_max(open, Ordering::SeqCst);
        Self(script)
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Delta for Server {
    fn read_changes<'a>(
        &'a self,
        _: &'a str,
        _: mpsc::Sender<Page>,
    ) -> BoxFuture<'a, std::result::Result<DeltaEnd, DeltaStop>> {
        Box::pin(async { Err(DeltaStop::Failed(failure())) })
    }

    fn read_groups(&self, _: Vec<String>, _: mpsc::Sender<Page>) -> BoxFuture<'_, std::result::Result<(), Failure>> {
        Box::pin(async { Err(failure()) })
    }

    fn read_identities(
        &self,
        _: Vec<String>,
        _: mpsc::Sender<Page>,
    ) -> BoxFuture<'_, std::result::Result<(), Failure>> {
        Box::pin(async { Err(failure()) })
    }

    fn watch<'a>(
        &'a self,
        _: &'a str,
        heard: watch::Sender<Heard>,
    ) -> Option<BoxFuture<'a, std::result::Result<(), WatchStop>>> {
        Some(Box::pin(async move {
            let script = &*self.0;
            let _open = Connection::open(script);
            let at = script.watches.fetch_add(1, Ordering::SeqCst) as usize;
            match script.deeds[at % script.deeds.len()] {
                Deed::EndsAtOnce => Ok(()),
                Deed::FailsAtOnce => Err(WatchStop::Failed(failure())),
                Deed::LosesTheMark => Err(WatchStop::WatermarkLost { reason: "It is too old.".into() }),
                Deed::OffersNothing => Err(WatchStop::NotOffered { reason: "No syncprov.".into() }),
                Deed::TellsAndEnds => {
                    heard.send_modify(|heard| *heard = Heard { is_listening: true, changes: heard.changes + 1 });
                    tokio::task::yield_now().await;
                    Err(WatchStop::Failed(failure()))
                }
                Deed::Floods => loop {
                    heard.send_modify(|heard| *heard = Heard { is_listening: true, changes: heard.changes + 1 });
                    tokio::task::yield_now().await;
                },
                Deed::Bursts => loop {
                    heard.send_modify(|heard| heard.is_listening = true);
                    script.burst.acquire().await.expect("open").forget();
                    for _ in 0..1_000 {
                        heard.send_modify(|heard| heard.changes += 1);
                    }
                },
            }
        }))
    }
}

impl Connector for Server {
    fn probe(&self) -> BoxFuture<'_, ProbeReport> {
        Box::pin(async { ProbeReport::default() })
    }

    fn read_full(&self, _: mpsc::Sender<Page>) -> BoxFuture<'_, std::result::Result<ReadEnd, Failure>> {
        Box::pin(async { Err(failure()) })
    }

    fn delta(&self) -> Option<&dyn Delta> {
        Some(self)
    }

    fn sample(&self) -> BoxFuture<'_, std::result::Result<Sample, Failure>> {
        Box::pin(async { Err(failure()) })
    }
}

const FOUND: Ran = Ran::Applied { differences: 1 };
const NOTHING: Ran = Ran::Applied { differences: 0 };
/// Seven waits that double from 4 ms to 40 ms, each at least half as long: between the first try and the eighth.
const EIGHT_TRIES: Duration = ms(4 + 4 + 8 + 16 + 20 + 20 + 20);

#[tokio::test]
async fn a_server_that_ends_or_fails_at_once_is_tried_more_and_more_rarely() {
    for deed in [Deed::EndsAtOnce, Deed::FailsAtOnce, Deed::TellsAndEnds] {
        let ground = Scripted::new(&[deed], FOUND);
        // The eighth watch has ended too: while it goes on, nothing is tried again.
        let has_ended = |ground: &Scripted| ground.watches() >= 8 && ground.state().state == LiveState::Retrying;
        let took = until(&ground, &FAST, has_ended).await;
        assert!(took >= EIGHT_TRIES, "{deed:?}: {took:?}");
        // What was told is told again by the next watch: a run in between is allowed where there is the time for one.
        let runs_most = if deed == Deed::TellsAndEnds { ground.watches() } else { 0 };
        assert!(ground.runs() <= runs_most, "{deed:?}: {} runs", ground.runs());
        assert!(ground.state().reason.is_some_and(|reason| !reason.is_empty()), "{deed:?}");
    }
}

#[tokio::test]
async fn a_flood_of_changes_is_few_runs_and_fewer_when_they_come_to_nothing() {
    for (ran, at_least) in [
        (FOUND, ms(7 * 6)),
        (NOTHING, ms(6 + 12 + 24 + 4 * 40)),
        (Ran::Waits, ms(12 + 24 + 48 + 4 * 80)),
        // Each begins with a watch of its own.
        (Ran::Failed(failure()), EIGHT_TRIES),
    ] {
        let ground = Scripted::new(&[Deed::Floods], ran.clone());
        let took = until(&ground, &FAST, |ground| ground.runs() >= 8).await;
        assert!(took >= at_least, "{ran:?}: {took:?}");
        if matches!(ran, Ran::Failed(_)) {
            assert_eq!(ground.watches(), 8);
        } else {
            assert_eq!((ground.watches(), ground.state().state), (1, LiveState::Watching), "{ran:?}");
        }
    }
}

#[tokio::test]
async fn a_lost_watermark_is_answered_by_one_run_and_no_more_while_its_plan_waits() {
    let ground = Scripted::new(&[Deed::LosesTheMark], Ran::Waits);
    let took = until(&ground, &FAST, |ground| ground.watches() >= 8).await;
    assert!(took >= EIGHT_TRIES, "{took:?}");
    assert_eq!(ground.runs(), 1);
    let reason = ground.state().reason.expect("a reason");
    assert!(reason.starts_with("It is too old."), "{reason}");
    // The plan is approved: the directory stands elsewhere, and a watermark that is lost now is another one.
    ground.mark.fetch_add(1, Ordering::SeqCst);
    until(&ground, &FAST, |ground| ground.runs() >= 2).await;
}

#[tokio::test]
async fn a_server_that_loses_every_watermark_is_read_more_and_more_rarely() {
    let mut ground = Scripted::new(&[Deed::LosesTheMark], FOUND);
    Arc::get_mut(&mut ground).expect("nobody else has it").moves = true;
    let took = until(&ground, &FAST, |ground| ground.runs() >= 8).await;
    assert!(took >= EIGHT_TRIES, "{took:?}");
}

#[tokio::test]
async fn a_server_that_offers_nothing_is_asked_again_when_a_run_has_moved_the_directory_on() {
    let ground = Scripted::new(&[Deed::OffersNothing, Deed::Bursts], FOUND);
    until(&ground, &FAST, |ground| ground.state().state == LiveState::NotOffered).await;
    assert_eq!((ground.watches(), ground.runs()), (1, 0));
    assert_eq!(ground.state().reason.as_deref(), Some("No syncprov."));
    let ground = Scripted::new(&[Deed::OffersNothing, Deed::Bursts], FOUND);
    let moving = async {
        while ground.state().state != LiveState::NotOffered {
            tokio::task::yield_now().await;
        }
        ground.mark.fetch_add(1, Ordering::SeqCst);
    };
    // The wait is an hour.
    tokio::join!(until(&ground, &FAST, |ground| ground.state().state == LiveState::Watching), moving);
}

#[tokio::test]
async fn what_comes_while_a_run_goes_on_is_one_more_run() {
    let mut ground = Scripted::new(&[Deed::Bursts], FOUND);
    Arc::get_mut(&mut ground).expect("nobody else has it").run_may_end = Semaphore::new(0);
    let acting = async {
        let runs = async |count: u32| {
            while ground.runs() < count {
                tokio::task::yield_now().await;
            }
        };
        ground.burst.add_permits(1);
        runs(1).await;
        ground.burst.add_permits(3);
        while ground.burst.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        ground.run_may_end.add_permits(1);
        runs(2).await;
        ground.run_may_end.add_permits(1);
        // A third would begin after the pause and the gathering; the fourth word is what ends the test.
        tokio::time::sleep(5 * (FAST.pause + FAST.gather)).await;
        assert_eq!(ground.runs(), 2);
        ground.burst.add_permits(1);
    };
    tokio::join!(until(&ground, &FAST, |ground| ground.runs() >= 3), acting);
    assert_eq!(ground.watches(), 1);
}

#[test]
fn looking_for_live_directories_touches_no_other_ones() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Db::open(&Db::file(dir.path()), true).expect("a database");
    let plan = db.read_blocking(|c| {
        let mut statement = c.prepare(&format!("EXPLAIN QUERY PLAN {}", queries::LIVE))?;
        let rows = statement.query_map([], |row| row.get::<_, String>(3))?;
        Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.join("; "))
    });
    let plan = plan.expect("a plan");
    assert!(plan.contains("directory_live"), "{plan}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_a_server_does_each_round_waits(
        deeds in prop::collection::vec(
            prop_oneof![
                Just(Deed::EndsAtOnce), Just(Deed::FailsAtOnce), Just(Deed::LosesTheMark), Just(Deed::TellsAndEnds),
                Just(Deed::OffersNothing),
            ],
            1..6,
        ),
        ran in prop_oneof![Just(FOUND), Just(NOTHING), Just(Ran::Waits), Just(Ran::Failed(failure()))],
        moves: bool,
    ) {
        let timing = Timing { retry_max: ms(8), rarely: ms(8), ..FAST };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut ground = Scripted::new(&deeds, ran);
        Arc::get_mut(&mut ground).expect("nobody else has it").moves = moves;
        let took = runtime.block_on(until(&ground, &timing, |ground| ground.watches() >= 12));
        prop_assert!(took >= 11 * ms(4), "{took:?}");
        prop_assert!(ground.runs() <= ground.watches());
    }
}
