//! What `/metrics` says of the copies: last success, duration, runs and changes, parked, stale.
//!
//! Owns the names. Gauges are set from the database, at the start too, so that a restart does not look like a success or
//! a recovery; counters begin at what the database holds and go on from there. Directories are named by their number:
//! measurements hold no names.

use super::{model::Run, model::RunState, queries, staleness};
use crate::{
    clock::{SECOND, Time},
    error::Result,
    kernel::Kernel,
};

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 and durations fit a double")]
fn seconds(us: i64) -> f64 {
    us as f64 / SECOND as f64
}

/// Runs that have ended for good; a parked one has not.
fn is_final(run: &Run) -> bool {
    match run.state {
        RunState::Applied | RunState::Failed | RunState::Discarded => true,
        RunState::Planned => run.is_dry_run,
        RunState::Reading | RunState::Parked | RunState::Applying => false,
    }
}

/// The kinds of change with their numbers.
fn changes(run: &Run) -> [(&'static str, i64); 7] {
    let counts = &run.counts;
    [
        ("added", counts.added),
        ("changed", counts.changed),
        ("missing", counts.missing),
        ("returned", counts.returned),
        ("removed", counts.removed),
        ("member-added", counts.members_added),
        ("member-removed", counts.members_removed),
    ]
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Sets every measurement from the database: before anything runs.
pub async fn begin(kernel: &Kernel) -> Result<()> {
    let (runs, sums) = kernel.db.read(|c| Ok((queries::run_totals(c)?, queries::change_totals(c)?))).await?;
    for (directory, state, count) in runs {
        metrics::counter!("bailiwick_sync_runs_total", "directory" => directory.to_string(), "state" => state)
            .absolute(natural(count));
    }
    for (directory, kind, count) in sums {
        metrics::counter!("bailiwick_sync_changes_total", "directory" => directory.to_string(), "kind" => kind)
            .absolute(natural(count));
    }
    refresh(kernel).await
}

/// Sets the gauges of every directory: a copy goes stale without anything happening.
pub async fn refresh(kernel: &Kernel) -> Result<()> {
    let now = kernel.clock.now();
    let directories = kernel.db.read(queries::measured).await?;
    for measured in directories {
        let directory = measured.directory.id.to_string();
        let is_stale = staleness::stale_since(&measured.directory, now).is_some();
        metrics::gauge!("bailiwick_sync_stale", "directory" => directory.clone()).set(f64::from(u8::from(is_stale)));
        metrics::gauge!("bailiwick_sync_parked", "directory" => directory.clone())
            .set(f64::from(u8::from(measured.is_parked)));
        if let Some(Time(at)) = measured.last_success_at {
            metrics::gauge!("bailiwick_sync_last_success_timestamp_seconds", "directory" => directory.clone())
                .set(seconds(at));
        }
        if let Some(run) = measured.last_ended {
            metrics::gauge!("bailiwick_sync_last_run_duration_seconds", "directory" => directory)
                .set(seconds(run.duration_us(now)));
        }
    }
    Ok(())
}

/// Counts a run that has just ended, was parked, or was discarded.
pub async fn count(kernel: &Kernel, run: i64) {
    let counted = async {
        if let Some(run) = kernel.db.read(move |c| queries::find_any_run(c, run)).await? {
            let directory = run.directory_id.to_string();
            if is_final(&run) {
                metrics::counter!("bailiwick_sync_runs_total", "directory" => directory.clone(), "state" => run.state.as_str())
                    .increment(1);
            }
            if run.state == RunState::Applied {
                for (kind, count) in changes(&run) {
                    metrics::counter!("bailiwick_sync_changes_total", "directory" => directory.clone(), "kind" => kind)
                        .increment(natural(count));
                }
            }
        }
        refresh(kernel).await
    };
    if let Err(error) = counted.await {
        tracing::warn!(run, error = %error.chain(), "a run could not be counted for the measurements");
    }
}
