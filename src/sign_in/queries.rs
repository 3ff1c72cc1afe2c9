//! All SQL of the sign-in room.

use rusqlite::{Connection, OptionalExtension, params};

use super::counter::Counter;
use crate::{clock::Time, error::Result};

pub(super) fn counter(connection: &Connection, subject: &str) -> Result<Option<Counter>> {
    Ok(connection
        .prepare_cached(
            "SELECT attempts, window_at, rounds, blocked_until, last_at FROM sign_in_attempt WHERE subject = ?1",
        )?
        .query_row([subject], |row| {
            Ok(Counter {
                attempts: row.get(0)?,
                window_at: row.get(1)?,
                rounds: row.get(2)?,
                blocked_until: row.get(3)?,
                last_at: row.get(4)?,
            })
        })
        .optional()?)
}

pub(super) fn set_counter(connection: &Connection, subject: &str, counter: &Counter) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO sign_in_attempt (subject, attempts, window_at, rounds, blocked_until, last_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            subject,
            counter.attempts,
            counter.window_at,
            counter.rounds,
            counter.blocked_until,
            counter.last_at,
        ])?;
    Ok(())
}

pub(super) fn delete_counter(connection: &Connection, subject: &str) -> Result<usize> {
    Ok(connection.prepare_cached("DELETE FROM sign_in_attempt WHERE subject = ?1")?.execute([subject])?)
}

pub(super) fn delete_all_counters(connection: &Connection) -> Result<usize> {
    Ok(connection.execute("DELETE FROM sign_in_attempt", [])?)
}

/// Forgets subjects that were quiet since `quiet_since`, those with pauses behind them since `paused_since`.
pub(super) fn purge_counters(connection: &Connection, quiet_since: Time, paused_since: Time) -> Result<usize> {
    Ok(connection.execute(
        "DELETE FROM sign_in_attempt WHERE last_at < ?1 AND (rounds = 0 OR last_at < ?2)",
        params![quiet_since, paused_since],
    )?)
}

/// Whether a browser is known to be a user's. What was known before the password was changed counts no more: whoever had
/// the old one may have made it so.
pub(super) fn is_known_browser(
    connection: &Connection,
    token_hash: &[u8],
    user_id: &str,
    password_changed_at: Time,
    now: Time,
) -> Result<bool> {
    Ok(connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM known_browser
                            WHERE token_hash = ?1 AND user_id = ?2 AND expires_at > ?3 AND created_at >= ?4)",
        )?
        .query_row(params![token_hash, user_id, now, password_changed_at], |row| row.get(0))?)
}

/// Remembers a browser, or for longer.
pub(super) fn set_known_browser(
    connection: &Connection,
    token_hash: &[u8],
    user_id: &str,
    now: Time,
    expires_at: Time,
) -> Result<()> {
    connection.execute(
        "INSERT INTO known_browser (token_hash, user_id, created_at, expires_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (token_hash) DO UPDATE SET expires_at = excluded.expires_at WHERE user_id = excluded.user_id",
        params![token_hash, user_id, now, expires_at],
    )?;
    Ok(())
}

/// Forgets all but the newest `keep` browsers of a user.
pub(super) fn trim_known_browsers(connection: &Connection, user_id: &str, keep: i64) -> Result<()> {
    connection.execute(
        "DELETE FROM known_browser WHERE user_id = ?1 AND token_hash NOT IN
             (SELECT token_hash FROM known_browser WHERE user_id = ?1 ORDER BY created_at DESC LIMIT ?2)",
        params![user_id, keep],
    )?;
    Ok(())
}

pub(super) fn purge_known_browsers(connection: &Connection, now: Time) -> Result<usize> {
    Ok(connection.execute("DELETE FROM known_browser WHERE expires_at <= ?1", [now])?)
}
