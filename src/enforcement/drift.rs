//! Drift: what was done here and then changed by somebody else, as the next applied run of the directory finds it.
//!
//! Owns when that is looked for, and the words. A later change by hand wins: nothing here changes it back.

use rusqlite::Connection;

use super::{actions, model::Task, queries};
use crate::{
    audit::{self, Entry},
    clock::{DAY, Time},
    connectors::act::Action,
    directories,
    error::Result,
    identities::{self, ChangeRow},
    kernel::Kernel,
    principal::{AccountId, Principal},
};

/// What was done is watched for so long.
const WATCHED_US: i64 = 90 * DAY;
/// Changes of one identity that are looked through.
const CHANGES_MAX: usize = 100;

/// Looks at every directory whose copy was brought up to date since the last time.
pub(super) async fn look(kernel: &Kernel) -> Result<()> {
    for (directory, account, run) in kernel.db.read(unlooked).await? {
        let now = kernel.clock.now();
        let found = kernel.db.read(move |c| drifted(c, directory, now)).await?;
        let region = kernel.config.region.clone();
        let principal = Principal::scheduler(&region, account);
        audit::change(kernel, &principal, move |c| {
            let mut entries = Vec::with_capacity(found.len());
            for (task, at, what) in found {
                queries::set_drift(c, task.id, at, &what)?;
                entries.push(entry(&region, account, &task, &what));
            }
            queries::set_looked(c, directory, run)?;
            Ok(((), entries))
        })
        .await?;
    }
    Ok(())
}

/// Directories with an applied run that was not looked at: with their account and the run.
fn unlooked(c: &Connection) -> Result<Vec<(i64, AccountId, i64)>> {
    let mut unlooked = Vec::new();
    for (directory, account, run) in directories::applied_runs(c)? {
        if queries::looked(c, directory)? < run {
            unlooked.push((directory, account, run));
        }
    }
    Ok(unlooked)
}

fn entry(region: &str, account: AccountId, task: &Task, what: &str) -> Entry {
    Entry::new("audit.enforcement_drift_found.v1")
        .subject(actions::subject(region, account, task.request_id))
        .detail("taskId", task.id.to_string())
        .detail("identityId", task.identity_id.to_string())
        .detail("userName", &task.user_name)
        .detail("action", task.action)
        .detail("drift", what)
}

/// Tasks whose effect is gone: the history since then has a change of status away from it.
fn drifted(c: &Connection, directory: i64, now: Time) -> Result<Vec<(Task, Time, String)>> {
    let mut found = Vec::new();
    for task in queries::watched(c, directory, now.plus(-WATCHED_US))? {
        let Some(observed_at) = task.observed_at else { continue };
        // Nothing of the identity has changed in the copy since: most of them.
        if !identities::is_changed_since(c, task.identity_id, observed_at)? || queries::later_rival(c, &task)?.is_some()
        {
            continue;
        }
        let changes = identities::history::history(
            c,
            &identities::Sight::whole(task.account_id),
            directory,
            task.identity_id,
            i64::MAX,
            CHANGES_MAX,
        )?;
        for change in changes.iter().filter(|change| change.field.as_deref() == Some("status")) {
            // What a run read before the change was made here says nothing about afterwards.
            let is_later = directories::run_began(c, change.run_id)?.is_some_and(|began| began > observed_at);
            if let (true, Some(what), Some(at)) = (is_later, words(&task, change), change.applied_at) {
                found.push((task, at, what));
                break;
            }
        }
    }
    Ok(found)
}

fn words(task: &Task, change: &ChangeRow) -> Option<String> {
    let (before, after) = (change.before_text(), change.after_text());
    let what = match task.action {
        Action::Disable | Action::Contain if before == "disabled" && after != "disabled" => "Enabled",
        Action::Enable if before != "disabled" && after == "disabled" => "Disabled",
        _ => return None,
    };
    Some(format!("{what} outside Bailiwick; found by run {}.", change.run_id))
}
