//! How long the past can be looked at: the daily work that deletes what is older.
//!
//! Owns `history_edge` and every deletion of history. Invariants: the edge of an account only moves forward, and it
//! is stored before the first row goes, so that nobody is answered from a history that is half deleted; the state at
//! the edge, and every later one, reads the same afterwards as before; what people see now is never touched.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::queries;
use crate::{
    clock::{DAY, Time},
    db::Step,
    error::{Error, Result},
    kernel::Kernel,
    principal::AccountId,
    schedule::{self, Job, SpecInput},
};

/// Answers for every account how many days of its history are kept.
pub type KeepDays = fn(&Connection) -> Result<Vec<(AccountId, i64)>>;

/// As in `schedule_entry.job`; its one subject is every account.
const JOB: &str = "history-retention";
const SUBJECT: &str = "all";
/// Rows of each kind that one transaction deletes (well under 50 ms).
const FORGET_ROWS: i64 = 1_000;

/// From when on the history of an account is there; `None`: all of it.
pub fn edge(connection: &Connection, account: AccountId) -> Result<Option<Time>> {
    Ok(connection
        .prepare_cached("SELECT from_at FROM history_edge WHERE account_id = ?1")?
        .query_row([account], |row| row.get(0))
        .optional()?)
}

/// Moves the edge of an account forward; an earlier one than the stored is not taken.
fn set_edge(connection: &Connection, account: AccountId, from: Time) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO history_edge (account_id, from_at) VALUES (?1, ?2)
             ON CONFLICT (account_id) DO UPDATE SET from_at = max(from_at, excluded.from_at)",
        )?
        .execute(params![account, from])?;
    Ok(())
}

/// Has the work done every day from now on, or leaves it as it is planned already.
pub fn schedule_daily(connection: &Connection, now: Time) -> Result<()> {
    schedule::set(connection, JOB, SUBJECT, &SpecInput::every("24h"), false, now)
}

/// The daily work.
pub fn job(kernel: &Kernel, keep_days: KeepDays) -> Job {
    let kernel = kernel.clone();
    Job {
        name: JOB,
        work: Arc::new(move |_| {
            let kernel = kernel.clone();
            Box::pin(async move { forget(&kernel, keep_days).await })
        }),
    }
}

/// Deletes what is older than each account keeps; answers how many accounts there were, in words.
pub async fn forget(kernel: &Kernel, keep_days: KeepDays) -> Result<String> {
    let now = kernel.clock.now();
    let accounts = kernel.db.read(keep_days).await?;
    let count = accounts.len();
    for (account, days) in accounts {
        let edge = now.plus(-DAY * days);
        let set = move |c: &Connection| {
            // Asked again with the writer in hand: an account that is being deleted for good must leave nothing behind.
            let is_kept = keep_days(c)?.iter().any(|(kept, _)| *kept == account);
            if is_kept { set_edge(c, account, edge) } else { Ok(()) }
        };
        kernel.db.write(set).await?;
        let db = kernel.db.clone();
        tokio::task::spawn_blocking(move || {
            db.bulk_steps_blocking(move |c| {
                let is_more = forget_before(c, account, edge, FORGET_ROWS)?;
                Ok(if is_more { Step::More } else { Step::Done(()) })
            })
        })
        .await
        .map_err(|e| Error::caused("deleting old history panicked", e))??;
    }
    Ok(format!("history kept in {count} accounts as long as they say"))
}

/// Takes the history of an account before `edge` away, up to `limit` rows of each kind; `false` when nothing was left.
/// What was at the edge can still be read: only what ended, and what was undone, before it goes.
pub fn forget_before(connection: &Connection, account: AccountId, edge: Time, limit: i64) -> Result<bool> {
    for directory in queries::directories_seen(connection, account, edge)? {
        let mut forgotten = 0;
        for sql in [
            "DELETE FROM change WHERE id IN
                 (SELECT c.id FROM plan p CROSS JOIN change c ON c.id >= p.first_change AND c.id <= p.last_change
                  WHERE p.directory_id = ?1 AND p.applied_at < ?2 AND c.run_id = p.run_id LIMIT ?3)",
            "DELETE FROM past WHERE (object_id, until_at) IN
                 (SELECT object_id, until_at FROM past INDEXED BY past_until
                  WHERE directory_id = ?1 AND until_at < ?2 LIMIT ?3)",
            "DELETE FROM member WHERE (group_id, until_at, member_id, since_at) IN
                 (SELECT m.group_id, m.until_at, m.member_id, m.since_at
                  FROM directory_group g CROSS JOIN member m ON m.group_id = g.id
                  WHERE g.directory_id = ?1 AND m.until_at < ?2 LIMIT ?3)",
        ] {
            forgotten += connection.prepare_cached(sql)?.execute(params![directory, edge, limit])?;
        }
        if forgotten > 0 {
            return Ok(true);
        }
        // A plan without lines is not looked through again.
        connection
            .prepare_cached(
                "UPDATE plan SET first_change = NULL, last_change = NULL
                 WHERE directory_id = ?1 AND applied_at < ?2 AND first_change IS NOT NULL",
            )?
            .execute(params![directory, edge])?;
    }
    Ok(false)
}
