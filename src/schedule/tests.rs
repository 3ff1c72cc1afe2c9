//! The schedule on a fixed clock: daylight saving, missed runs, no overlap.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{
    clock::{Clock, Time},
    config::Layer,
    db::Db,
    secret::MasterKey,
};

fn time(text: &str) -> Time {
    Time::parse(text).expect("a time")
}

fn cron(line: &str, zone: &str) -> Spec {
    SpecInput { cron: Some(line.into()), time_zone: Some(zone.into()), every: None }.check("s").expect("a schedule")
}

#[test]
fn a_daily_time_runs_once_a_day_through_both_changes_of_the_clock() {
    let spec = cron("30 2 * * *", "Europe/Berlin");
    for (from, days) in [("2026-03-27T12:00:00Z", 5), ("2026-10-23T12:00:00Z", 5)] {
        let mut at = time(from);
        let mut seen = Vec::new();
        for _ in 0..days {
            at = spec.next(at).expect("a next time");
            let local = at.timestamp().in_tz("Europe/Berlin").expect("a zone");
            seen.push(local.date());
        }
        let mut unique = seen.clone();
        unique.dedup();
        assert_eq!(seen, unique, "one run per day from {from}");
        assert_eq!((seen[4] - seen[0]).get_days(), 4, "no day left out from {from}: {seen:?}");
    }
}

#[test]
fn what_is_not_a_schedule_is_refused_with_its_field() {
    let check = |every: Option<&str>, cron: Option<&str>, zone: Option<&str>| {
        SpecInput { every: every.map(Into::into), cron: cron.map(Into::into), time_zone: zone.map(Into::into) }
            .check("schedule.full")
            .map_err(|e| e.field)
    };
    for every in ["", "0m", "30s", "-5m", "1", "h", "1w", "99999999999999999999d", "32d", "1.5h"] {
        assert_eq!(check(Some(every), None, None), Err("schedule.full.every".into()), "{every}");
    }
    for line in ["", "* * *", "61 * * * *", "* * * * * *", "a b c d e", "0 0 30 2 8"] {
        assert_eq!(check(None, Some(line), None), Err("schedule.full.cron".into()), "{line}");
    }
    assert_eq!(check(None, Some("0 3 * * *"), Some("Mars/Olympus")), Err("schedule.full.timeZone".into()));
    assert_eq!(check(None, None, None), Err("schedule.full".into()));
    assert_eq!(check(Some("1h"), Some("0 3 * * *"), None), Err("schedule.full".into()));
    assert!(check(Some("1m"), None, None).is_ok() && check(None, Some("*/5 8-18 * * 1-5"), Some("Asia/Tokyo")).is_ok());
}

#[test]
fn an_interval_does_not_drift_and_catches_up_once() {
    let spec = SpecInput::every("1h").check("s").expect("a schedule");
    let due = time("2026-01-01T00:00:00Z");
    assert_eq!(spec.next_after_start(due, due.plus(5)), Some(time("2026-01-01T01:00:00Z")));
    assert_eq!(spec.next_after_start(due, time("2026-01-04T00:30:00Z")), Some(time("2026-01-04T01:00:00Z")));
}

struct Bench {
    _dir: tempfile::TempDir,
    kernel: Kernel,
    count: Arc<AtomicUsize>,
    jobs: HashMap<&'static str, Work>,
    gate: Arc<tokio::sync::Semaphore>,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().expect("a folder");
    let config = Layer { data_dir: Some(dir.path().to_owned()), ..Layer::default() }.finish().expect("a configuration");
    let kernel = Kernel {
        db: Db::open(&Db::file(dir.path()), true).expect("a database"),
        clock: Clock::fixed(time("2026-01-01T00:00:00Z")),
        key: MasterKey::create(&dir.path().join("master.key")).expect("a key").into(),
        config: config.into(),
    };
    let count = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (counted, waits) = (count.clone(), gate.clone());
    let work: Work = Arc::new(move |subject| {
        let (counted, waits) = (counted.clone(), waits.clone());
        Box::pin(async move {
            counted.fetch_add(1, Ordering::SeqCst);
            let permit = waits.acquire().await.expect("open");
            permit.forget();
            assert_ne!(subject, "panics", "on purpose");
            Ok("done".to_owned())
        })
    });
    Bench { _dir: dir, kernel, count, jobs: HashMap::from([("test", work)]), gate }
}

impl Bench {
    async fn set(&self, subject: &'static str) {
        let now = self.kernel.clock.now();
        self.kernel.db.write(move |c| set(c, "test", subject, &SpecInput::every("1h"), false, now)).await.expect("set");
    }

    async fn entry(&self, subject: &'static str) -> Entry {
        self.kernel.db.read(move |c| find(c, "test", subject)).await.expect("read").expect("there")
    }

    /// Waits until the entry has ended, by asking again; bounded by the test runner's own limit.
    async fn finished(&self, subject: &'static str) -> Entry {
        loop {
            let entry = self.entry(subject).await;
            if entry.last_outcome.is_some() {
                return entry;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_due_entry_is_started_once_and_not_again_while_it_runs() {
    let bench = bench();
    bench.set("a").await;
    assert_eq!(run_due(&bench.kernel, &bench.jobs).await.expect("ran"), 0, "not due yet");
    bench.kernel.clock.set(time("2026-01-03T12:34:00Z"));
    assert_eq!(run_due(&bench.kernel, &bench.jobs).await.expect("ran"), 1, "two days missed, one catch-up");
    assert_eq!(run_due(&bench.kernel, &bench.jobs).await.expect("ran"), 0, "claimed");
    assert_eq!(bench.entry("a").await.next_at, Some(time("2026-01-03T13:00:00Z")));
    bench.gate.add_permits(1);
    assert_eq!(bench.finished("a").await.last_outcome.as_deref(), Some("done"));
    assert_eq!(bench.count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_job_that_panics_releases_its_entry_and_leaves_the_schedule_alive() {
    let bench = bench();
    bench.set("panics").await;
    bench.gate.add_permits(2);
    bench.kernel.clock.set(time("2026-01-01T01:00:00Z"));
    assert_eq!(run_due(&bench.kernel, &bench.jobs).await.expect("ran"), 1);
    assert!(bench.finished("panics").await.last_outcome.is_some_and(|o| o.contains("unexpectedly")));
    bench.kernel.clock.set(time("2026-01-01T02:00:00Z"));
    assert_eq!(run_due(&bench.kernel, &bench.jobs).await.expect("ran"), 1, "the next time it is started again");
}

#[tokio::test]
async fn a_claim_of_a_dead_process_runs_out_and_a_paused_entry_never_starts() {
    let bench = bench();
    bench.set("a").await;
    let now = time("2026-01-01T01:00:00Z");
    assert!(bench.kernel.db.write(move |c| queries::claim(c, "test", "a", now, LEASE_US)).await.expect("claimed"));
    bench.kernel.clock.set(time("2026-01-01T02:00:00Z"));
    assert_eq!(
        run_due(&bench.kernel, &bench.jobs).await.expect("ran"),
        1,
        "the lease ended two minutes after the claim"
    );
    let now = bench.kernel.clock.now();
    bench.kernel.db.write(move |c| set(c, "test", "b", &SpecInput::every("1h"), true, now)).await.expect("set");
    bench.kernel.clock.set(time("2027-01-01T00:00:00Z"));
    assert_eq!(bench.entry("b").await.next_at, None);
}
