//! How each directory stands: what the overview shows of it.

use rusqlite::Connection;

use super::{
    model::{Directory, Run, RunState},
    queries, review,
};
use crate::{clock::Time, error::Result, principal::AccountId};

/// A directory with its newest run.
#[derive(Debug, Clone)]
pub struct Standing {
    pub directory: Directory,
    pub latest: Option<Run>,
    /// When the first of the failed runs since the last applied one started; `None` unless the newest run failed.
    pub failing_since: Option<Time>,
    /// The run whose plan waits for approval.
    pub parked: Option<Run>,
}

impl Standing {
    /// One word for it: `reading`, `failed`, `parked`, `never`, `paused` or `ok`.
    pub fn state(&self) -> &'static str {
        match &self.latest {
            Some(run) if run.is_active() => "reading",
            Some(run) if run.state == RunState::Failed => "failed",
            _ if self.parked.is_some() => "parked",
            _ if self.directory.applied_run_id.is_none() => "never",
            _ if self.directory.schedule.paused => "paused",
            _ => "ok",
        }
    }
}

/// Up to `limit` directories of an account by name, each with how it stands. One index probe per question.
pub fn standings(connection: &Connection, account: AccountId, limit: usize) -> Result<Vec<Standing>> {
    queries::list(connection, account, "", limit)?
        .into_iter()
        .map(|directory| {
            let latest = queries::list_runs(connection, account, Some(directory.id), i64::MAX, 1)?.pop();
            let failing_since = match &latest {
                Some(run) if run.state == RunState::Failed => {
                    queries::failing_since(connection, directory.id, directory.applied_run_id.unwrap_or(0))?
                }
                _ => None,
            };
            let parked = review::parked_run(connection, &directory)?;
            Ok(Standing { directory, latest, failing_since, parked })
        })
        .collect()
}

/// The newest runs of an account, newest first.
pub fn recent_runs(connection: &Connection, account: AccountId, limit: usize) -> Result<Vec<Run>> {
    queries::list_runs(connection, account, None, i64::MAX, limit)
}
