//! All SQL of the schedule.

use rusqlite::{Connection, OptionalExtension, params};

use super::spec::{Spec, SpecInput};
use crate::{clock::Time, error::Result};

/// An entry as pages and the API show it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub job: String,
    pub subject: String,
    pub is_paused: bool,
    pub next_at: Option<Time>,
    pub last_started_at: Option<Time>,
    pub last_finished_at: Option<Time>,
    pub last_outcome: Option<String>,
}

/// Writes or replaces an entry inside the caller's transaction. An unchanged schedule keeps its next time.
pub fn set(
    connection: &Connection,
    job: &str,
    subject: &str,
    spec: &SpecInput,
    is_paused: bool,
    now: Time,
) -> Result<()> {
    let checked = spec.check("schedule")?;
    let next_at = if is_paused { None } else { checked.next(now) };
    connection
        .prepare_cached(
            "INSERT INTO schedule_entry (job, subject, spec, is_paused, next_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (job, subject) DO UPDATE SET
                 next_at = CASE WHEN spec = excluded.spec AND is_paused = excluded.is_paused THEN next_at ELSE excluded.next_at END,
                 spec = excluded.spec, is_paused = excluded.is_paused",
        )?
        .execute(params![job, subject, serde_json::to_string(spec)?, is_paused, next_at])?;
    Ok(())
}

/// Takes an entry away inside the caller's transaction.
pub fn remove(connection: &Connection, job: &str, subject: &str) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM schedule_entry WHERE job = ?1 AND subject = ?2")?
        .execute(params![job, subject])?;
    Ok(())
}

pub fn find(connection: &Connection, job: &str, subject: &str) -> Result<Option<Entry>> {
    Ok(connection
        .prepare_cached(
            "SELECT job, subject, is_paused, next_at, last_started_at, last_finished_at, last_outcome
             FROM schedule_entry WHERE job = ?1 AND subject = ?2",
        )?
        .query_row(params![job, subject], read)
        .optional()?)
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        job: row.get(0)?,
        subject: row.get(1)?,
        is_paused: row.get(2)?,
        next_at: row.get(3)?,
        last_started_at: row.get(4)?,
        last_finished_at: row.get(5)?,
        last_outcome: row.get(6)?,
    })
}

/// What is due and not claimed, the longest due first.
pub(super) fn due(connection: &Connection, now: Time) -> Result<Vec<Entry>> {
    let mut statement = connection.prepare_cached(
        "SELECT job, subject, is_paused, next_at, last_started_at, last_finished_at, last_outcome FROM schedule_entry
         WHERE next_at <= ?1 AND (lease_until IS NULL OR lease_until < ?1) ORDER BY next_at LIMIT 100",
    )?;
    let rows = statement.query_map([now], read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Claims an entry that is still due and free; `false` when somebody else was quicker.
pub(super) fn claim(connection: &Connection, job: &str, subject: &str, now: Time, lease_us: i64) -> Result<bool> {
    let found: Option<(String, Time)> = connection
        .prepare_cached(
            "SELECT spec, next_at FROM schedule_entry
             WHERE job = ?1 AND subject = ?2 AND next_at <= ?3 AND (lease_until IS NULL OR lease_until < ?3)",
        )?
        .query_row(params![job, subject, now], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((spec, due)) = found else { return Ok(false) };
    let spec: SpecInput = serde_json::from_str(&spec)?;
    let next = spec.check("schedule").ok().and_then(|spec: Spec| spec.next_after_start(due, now));
    connection
        .prepare_cached(
            "UPDATE schedule_entry SET next_at = ?3, lease_until = ?4, last_started_at = ?5 WHERE job = ?1 AND subject = ?2",
        )?
        .execute(params![job, subject, next, now.plus(lease_us), now])?;
    Ok(true)
}

pub(super) fn renew(connection: &Connection, job: &str, subject: &str, now: Time, lease_us: i64) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE schedule_entry SET lease_until = ?3 WHERE job = ?1 AND subject = ?2 AND lease_until IS NOT NULL",
        )?
        .execute(params![job, subject, now.plus(lease_us)])?;
    Ok(())
}

pub(super) fn finish(connection: &Connection, job: &str, subject: &str, now: Time, outcome: &str) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE schedule_entry SET lease_until = NULL, last_finished_at = ?3, last_outcome = ?4
             WHERE job = ?1 AND subject = ?2",
        )?
        .execute(params![job, subject, now, outcome])?;
    Ok(())
}
