//! The SQL of passkeys and of what authenticators were asked.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{clock::Time, error::Result};

/// A passkey with whose it is.
pub(super) struct Held {
    pub(super) credential_id: Vec<u8>,
    pub(super) user_id: String,
    pub(super) name: String,
    pub(super) rp_id: String,
    /// As the library wrote it.
    pub(super) credential: String,
}

fn read_held(row: &Row<'_>) -> rusqlite::Result<Held> {
    Ok(Held {
        credential_id: row.get(0)?,
        user_id: row.get(1)?,
        name: row.get(2)?,
        rp_id: row.get(3)?,
        credential: row.get(4)?,
    })
}

/// The passkeys of a user, for every host name, the oldest first.
pub(super) fn of_user(c: &Connection, user_id: &str) -> Result<Vec<Held>> {
    let mut statement = c.prepare_cached(
        "SELECT credential_id, user_id, name, rp_id, credential FROM passkey WHERE user_id = ?1 ORDER BY created_at",
    )?;
    let rows = statement.query_map([user_id], read_held)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn find(c: &Connection, credential_id: &[u8]) -> Result<Option<Held>> {
    Ok(c.prepare_cached(
        "SELECT credential_id, user_id, name, rp_id, credential FROM passkey WHERE credential_id = ?1",
    )?
    .query_row([credential_id], read_held)
    .optional()?)
}

pub(super) fn insert(c: &Connection, id: &str, held: &Held, now: Time) -> Result<()> {
    let Held { credential_id, user_id, name, rp_id, credential } = held;
    c.prepare_cached(
        "INSERT INTO passkey (credential_id, id, user_id, name, rp_id, credential, created_at, last_used_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)",
    )?
    .execute(params![credential_id, id, user_id, name, rp_id, credential, now])?;
    Ok(())
}

/// Notes that a passkey was used, and what it is since.
pub(super) fn note_use(c: &Connection, credential_id: &[u8], credential: &str, now: Time) -> Result<()> {
    c.prepare_cached("UPDATE passkey SET credential = ?2, last_used_at = ?3 WHERE credential_id = ?1")?
        .execute(params![credential_id, credential, now])?;
    Ok(())
}

// --- what was asked ---

/// What an authenticator was asked, and who.
pub(super) struct Asked {
    pub(super) purpose: String,
    pub(super) user_id: Option<String>,
    pub(super) state: String,
    pub(super) expires_at: Time,
}

/// Stores what was asked. Of one user, or of all who have not said who they are, so many stay open; the oldest go first.
pub(super) fn insert_asked(c: &Connection, token_hash: &[u8], asked: &Asked, open_max: i64) -> Result<()> {
    let Asked { purpose, user_id, state, expires_at } = asked;
    c.prepare_cached(
        "DELETE FROM passkey_challenge WHERE token_hash IN
             (SELECT token_hash FROM passkey_challenge WHERE user_id IS ?1 ORDER BY expires_at DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute(params![user_id, open_max - 1])?;
    c.prepare_cached(
        "INSERT INTO passkey_challenge (token_hash, purpose, user_id, state, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![token_hash, purpose, user_id, state, expires_at])?;
    Ok(())
}

/// Forgets what has expired, and what lasts so long that it is of a clock that was set back.
pub(super) fn purge_asked(c: &Connection, now: Time, latest: Time) -> Result<()> {
    c.prepare_cached("DELETE FROM passkey_challenge WHERE expires_at <= ?1")?.execute([now])?;
    c.prepare_cached("DELETE FROM passkey_challenge WHERE expires_at > ?1")?.execute([latest])?;
    Ok(())
}

/// Takes what was asked out of the table, whatever becomes of the answer.
pub(super) fn take_asked(c: &Connection, token_hash: &[u8]) -> Result<Option<Asked>> {
    let read = |row: &Row<'_>| {
        Ok(Asked { purpose: row.get(0)?, user_id: row.get(1)?, state: row.get(2)?, expires_at: row.get(3)? })
    };
    Ok(c.prepare_cached(
        "DELETE FROM passkey_challenge WHERE token_hash = ?1 RETURNING purpose, user_id, state, expires_at",
    )?
    .query_row([token_hash], read)
    .optional()?)
}
