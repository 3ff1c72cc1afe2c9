//! Which copies are older than they should be, and why: for the banner over pages, the API and the measurements.
//!
//! Owns the rule: a copy is stale once it is older than twice the interval of its most frequent schedule. A paused
//! schedule, a plan that waits and runs that fail do not excuse it; they are the reason that is shown. A directory that
//! is read by hand only has no interval and is never stale, and one that was never read has no data to be stale.

use rusqlite::Connection;

use super::{
    model::{Directory, RunState, Schedule},
    queries, review,
};
use crate::{
    clock::Time,
    error::Result,
    principal::AccountId,
    schedule::SpecInput,
    web::{Stale, Surroundings},
};

/// The second time at which a schedule was due after `from`: the first one may still be going on.
fn second_after(spec: &SpecInput, from: Time) -> Option<Time> {
    let spec = spec.check("schedule").ok()?;
    spec.next(spec.next(from)?)
}

/// When a copy of `applied_at` becomes stale.
fn stale_at(schedule: &Schedule, applied_at: Time) -> Option<Time> {
    [&schedule.full, &schedule.delta].into_iter().flatten().filter_map(|spec| second_after(spec, applied_at)).min()
}

/// Since when the copy of a directory is stale; `None` while it is not.
pub fn stale_since(directory: &Directory, now: Time) -> Option<Time> {
    stale_at(&directory.schedule, directory.applied_at?).filter(|since| *since < now)
}

fn stale(connection: &Connection, directory: &Directory, from: Time) -> Result<Stale> {
    let page = format!("/directories/{}", directory.id);
    let (why, since, href, action) = if let Some(run) = review::parked_run(connection, directory)? {
        ("A plan waits for approval.", None, format!("/runs/{}", run.id), "Review the plan")
    } else {
        let newest = queries::list_runs(connection, directory.account_id, Some(directory.id), i64::MAX, 1)?.pop();
        let failing = queries::failing_since(connection, directory.id, directory.applied_run_id.unwrap_or_default())?;
        match (newest, failing) {
            (Some(run), Some(since)) if run.state == RunState::Failed => {
                ("Every run has failed.", Some(since), format!("/runs/{}", run.id), "See why")
            }
            _ if directory.schedule.paused => ("The schedule is paused.", None, page, "Open the directory"),
            _ => ("No run has been applied since.", None, page, "Open the directory"),
        }
    };
    Ok(Stale { directory: directory.id, name: directory.name.clone(), from, why, since, href, action })
}

/// Directories that are looked at for a page. Whoever has more reads of the rest on the list of directories.
const LOOKED_AT_MAX: usize = 200;

/// What stands around every page of an account: stale copies, and how many plans wait. A few index probes for each
/// directory.
pub fn surroundings(connection: &Connection, account: AccountId, now: Time) -> Result<Surroundings> {
    let mut around =
        Surroundings { plans_waiting: review::plans_waiting(connection, account)?, ..Surroundings::default() };
    for directory in queries::list(connection, account, "", LOOKED_AT_MAX)? {
        if let (Some(from), Some(_)) = (directory.applied_at, stale_since(&directory, now)) {
            around.stale.push(stale(connection, &directory, from)?);
        }
    }
    Ok(around)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        Time::parse(text).expect("a time")
    }

    #[test]
    fn a_copy_is_stale_after_twice_the_shortest_interval() {
        let every = |text: &str| Some(SpecInput::every(text));
        let cron = |line: &str| Some(SpecInput { cron: Some(line.into()), ..SpecInput::default() });
        let schedule = |full, delta| Schedule { full, delta, ..Schedule::default() };
        let friday = "2026-03-06T03:10:00Z";
        for (schedule, expected) in [
            (schedule(every("6h"), None), Some("2026-03-06T15:10:00Z")),
            (schedule(every("24h"), every("5m")), Some("2026-03-06T03:20:00Z")),
            (schedule(None, every("1h")), Some("2026-03-06T05:10:00Z")),
            (schedule(cron("0 3 * * *"), None), Some("2026-03-08T03:00:00Z")),
            // At three in the morning of working days: Monday, then Tuesday.
            (schedule(cron("0 3 * * 1-5"), None), Some("2026-03-10T03:00:00Z")),
            (schedule(None, None), None),
        ] {
            assert_eq!(stale_at(&schedule, at(friday)), expected.map(at), "{schedule:?}");
            let paused = Schedule { paused: true, ..schedule.clone() };
            assert_eq!(stale_at(&paused, at(friday)), expected.map(at), "a pause does not make data younger");
        }
    }
}
