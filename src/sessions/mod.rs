//! Sessions: who is signed in from which browser, and until when.
//!
//! Owns `session`. Invariants: the table holds SHA-256 of the token, never the token; a session ends 30 minutes after
//! its last use and 12 hours after it began, whatever the browser does (HOSTILE W03); a new sign-in is a new token.
//! What a session's user may do is not stored here: the gate reads user, membership and account again on every
//! request, so that a disabled user is out with the next one (W04). It must never know what a user is.

mod queries;
#[cfg(test)]
mod tests;

pub use queries::Session;
use rusqlite::Connection;

use crate::{
    clock::{HOUR, MINUTE, Time},
    error::Result,
    principal::AccountId,
    secret::{self, Secret},
};

/// A session that is not used for this long has ended.
pub const IDLE_MAX_US: i64 = 30 * MINUTE;
/// No session lasts longer than this, used or not.
pub const LIFETIME_MAX_US: i64 = 12 * HOUR;
/// The last use is written at most this often: reading a page must not cost a disk flush.
const TOUCH_EVERY_US: i64 = MINUTE;
/// A clock that was set back by more than this does not lengthen a session: it ends it.
const CLOCK_STEP_MAX_US: i64 = 5 * MINUTE;
/// Sessions that one user may have; the oldest ends when there is one too many.
const SESSIONS_MAX: usize = 20;

/// Where a session begins.
#[derive(Debug, Clone)]
pub struct Origin {
    pub address: String,
    pub user_agent: String,
}

/// Begins a session. Answers the token for the cookie and the session's public id.
pub fn begin(
    connection: &Connection,
    user_id: &str,
    account: AccountId,
    origin: &Origin,
    now: Time,
) -> Result<(Secret<String>, String)> {
    let token = secret::random_token();
    let session = Session {
        id: uuid::Uuid::now_v7().to_string(),
        user_id: user_id.to_owned(),
        account_id: account,
        created_at: now,
        last_seen_at: now,
        address: origin.address.clone(),
        user_agent: origin.user_agent.clone(),
    };
    queries::insert(connection, &hash(&token), &session)?;
    for old in queries::list_by_user(connection, user_id)?.into_iter().skip(SESSIONS_MAX) {
        queries::delete_by_id(connection, user_id, &old.id)?;
    }
    Ok((token, session.id))
}

/// The session behind a token, if it is valid at `now`.
pub fn find(connection: &Connection, token: &Secret<String>, now: Time) -> Result<Option<Session>> {
    Ok(queries::find(connection, &hash(token))?.filter(|session| is_alive(session, now)))
}

fn is_alive(session: &Session, now: Time) -> bool {
    let (idle, age) = (now.since(session.last_seen_at), now.since(session.created_at));
    idle < IDLE_MAX_US && age < LIFETIME_MAX_US && idle > -CLOCK_STEP_MAX_US && age > -CLOCK_STEP_MAX_US
}

/// Whether the last use is old enough to be written again.
pub fn is_touch_due(session: &Session, now: Time) -> bool {
    now.since(session.last_seen_at) >= TOUCH_EVERY_US
}

/// Writes the last use. Never moves it back, and never revives a session that has ended meanwhile.
pub fn touch(connection: &Connection, id: &str, address: &str, now: Time) -> Result<()> {
    queries::touch(connection, id, address, now)
}

/// The sessions of a user that are valid at `now`, the newest first.
pub fn list(connection: &Connection, user_id: &str, now: Time) -> Result<Vec<Session>> {
    let mut sessions = queries::list_by_user(connection, user_id)?;
    sessions.retain(|session| is_alive(session, now));
    Ok(sessions)
}

/// Ends the session of a token; answers it if there was one, valid or not.
pub fn end(connection: &Connection, token: &Secret<String>) -> Result<Option<Session>> {
    let found = queries::find(connection, &hash(token))?;
    if let Some(session) = &found {
        queries::delete_by_id(connection, &session.user_id, &session.id)?;
    }
    Ok(found)
}

/// Ends one session of a user; `false` when it is not theirs or has ended already.
pub fn end_one(connection: &Connection, user_id: &str, id: &str) -> Result<bool> {
    Ok(queries::delete_by_id(connection, user_id, id)? > 0)
}

/// Ends all sessions of a user except `keep`; answers how many.
pub fn end_all(connection: &Connection, user_id: &str, keep: Option<&str>) -> Result<usize> {
    queries::delete_by_user(connection, user_id, keep.unwrap_or_default())
}

/// Ends all sessions of a user in one account; answers how many.
pub fn end_all_in(connection: &Connection, user_id: &str, account: AccountId) -> Result<usize> {
    queries::delete_by_user_in(connection, user_id, account)
}

/// Deletes what ended on its own.
pub fn purge(connection: &Connection, now: Time) -> Result<usize> {
    queries::delete_older(connection, now.plus(-LIFETIME_MAX_US), now.plus(-IDLE_MAX_US))
}

fn hash(token: &Secret<String>) -> [u8; 32] {
    secret::sha256(token.expose().as_bytes())
}
