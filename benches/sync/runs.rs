//! What the parts of the benchmark share: an unencrypted directory, a timed `ldapsearch`, a timed run, timed requests.
//!
//! Owns how time is taken. Decides nothing about limits.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fixtures::{
    appliance::{Api, draft_with, number, text},
    ldapsearch,
    people::SUFFIX,
    slapd::Slapd,
    truth::{GROUP_FILTER, USER_FILTER},
};

/// More than any run may take.
pub const PATIENCE: Duration = Duration::from_secs(1_800);

/// 150 MB, whatever the number of people.
pub const MEMORY_MIB: f64 = 143.0;

/// Both sides read without TLS: what is compared is the reading, not two TLS libraries.
pub fn unencrypted(slapd: &Slapd) -> Value {
    let settings = [("/settings/servers", json!([slapd.url()])), ("/settings/acceptPlaintext", json!(true))];
    draft_with(slapd, &settings)
}

/// Seconds of one dump of the same entries and attributes.
pub fn time_ldapsearch(slapd: &Slapd) -> f64 {
    let filter = format!("(|{USER_FILTER}{GROUP_FILTER})");
    ldapsearch::time(ldapsearch::command(slapd, SUFFIX, &filter, &ldapsearch::ATTRIBUTES)).as_secs_f64()
}

/// Starts a run and waits until it ended or waits for approval; answers it, and the seconds since it was asked for. Asks
/// again `every` so often: often enough for the figure, not so often that asking is what is measured.
pub async fn run(api: &Api, directory: &str, mode: &str, every: Duration) -> (Value, f64) {
    let begun = Instant::now();
    let asked = api.post(&format!("/api/directories/{directory}/runs"), &json!({"mode": mode})).await.expect(202);
    let id = text(&asked, "id");
    let ended = wait(api, &id, every, |state| matches!(state, "applied" | "failed" | "parked" | "discarded")).await;
    (ended, begun.elapsed().as_secs_f64())
}

/// Polls a run until its state satisfies `wanted`.
pub async fn wait(api: &Api, run: &str, every: Duration, wanted: impl Fn(&str) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let seen = api.get(&format!("/api/runs/{run}")).await;
        if wanted(&text(&seen, "state")) {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "run {run} still is {seen} after {PATIENCE:?}");
        tokio::time::sleep(every).await;
    }
}

/// Seconds of one full run, from asking for it to the end that it names itself: asking again and again for the figure's
/// sake would take a good part of the two cores. `counted` is where every one of `all` objects must be.
pub async fn time_full_run(api: &Api, directory: &str, counted: &str, all: usize) -> f64 {
    let begun = jiff::Timestamp::now();
    let (run, _) = run(api, directory, "full", Duration::from_millis(200)).await;
    let finished: jiff::Timestamp = text(&run, "finishedAt").parse().expect("a time");
    let took = finished.duration_since(begun).as_secs_f64();
    assert_eq!(run["state"], "applied", "{run}");
    assert_eq!(number(&run, &format!("/counts/{counted}")), all as u64, "{run}");
    took
}

/// Times of single requests, in milliseconds.
#[derive(Default)]
pub struct Times(Vec<f64>);

impl Times {
    pub fn push(&mut self, since: Instant) {
        self.0.push(since.elapsed().as_secs_f64() * 1_000.0);
    }

    /// The value that this share of the times stays below.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(!sorted.is_empty(), "something was timed");
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests")]
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index, between 0 and the length"
        )]
        let at = (sorted.len() as f64 * share) as usize;
        sorted[at.min(sorted.len() - 1)]
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub fn p99(&self) -> f64 {
        self.quantile(0.99)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// Times each of these paths of the API, one after the other.
pub async fn time_paths(api: &Api, paths: &[String]) -> Times {
    let mut times = Times::default();
    for path in paths {
        let begun = Instant::now();
        let _ = api.get(path).await;
        times.push(begun);
    }
    times
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

#[expect(clippy::cast_precision_loss, reason = "memory sizes are far below 2^52")]
pub fn mib(kib: u64) -> f64 {
    kib as f64 / 1_024.0
}

/// Always the same numbers: which queries are asked must not depend on the day.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % sides.max(1) as u64).expect("fits")
    }
}
