//! Sessions: who is signed in from which browser, and until when.
//!
//! Owns `session` and `journey`. Invariants: the table holds SHA-256 of the token, never the token; a session ends some time after its
//! last use and some time after it began, as its account says ([`Limits`]), whatever the browser does (HOSTILE W03); a
//! new sign-in is a new token. A journey is a sign-in on its way: it opens nothing, and ends where its user's sessions do.
//! What a session's user may do is not stored here: the gate reads user, membership and account again on every
//! request, so that a disabled user is out with the next one (W04). It must never know what a user is.

mod journeys;
mod owned;
mod queries;
#[cfg(test)]
mod tests;

pub use journeys::{JOURNEY_US, Journey, begin_journey, change_journey, end_journey, find_journey};
pub use owned::OWNED;
pub use queries::{Session, browser};
use rusqlite::Connection;

use crate::{
    clock::{HOUR, MINUTE, Time},
    error::Result,
    principal::AccountId,
    proof::{Factor, Proof},
    secret::{self, Secret},
};

/// How long a session lasts; an account's setting.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// It ends so long after its last use.
    pub idle_us: i64,
    /// It ends so long after it began, used or not.
    pub lifetime_us: i64,
}

/// No account can allow more: what is older is deleted.
const LIMITS_MAX: Limits = Limits { idle_us: 8 * HOUR, lifetime_us: 24 * HOUR };
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

/// A session that has just begun.
pub struct Begun {
    /// For the cookie.
    pub token: Secret<String>,
    /// Its public id.
    pub id: String,
    /// The ids of older ones of the same user that ended to make room.
    pub ended: Vec<String>,
}

/// Begins a session of somebody with a proof of who they are, from whose time it grows old: a session that goes on in another
/// account does not get younger. The oldest of theirs ends when there are too many.
pub fn begin(
    connection: &Connection,
    user_id: &str,
    account: AccountId,
    origin: &Origin,
    proof: Proof,
    proved_at: Time,
    now: Time,
) -> Result<Begun> {
    let token = secret::random_token();
    let session = Session {
        id: uuid::Uuid::now_v7().to_string(),
        user_id: user_id.to_owned(),
        account_id: account,
        proof,
        proved_at,
        last_seen_at: now,
        address: origin.address.clone(),
        user_agent: origin.user_agent.clone(),
    };
    queries::insert(connection, &hash(&token), &session)?;
    let mut ended = Vec::new();
    for old in queries::list_by_user(connection, user_id)?.into_iter().skip(SESSIONS_MAX) {
        queries::delete_by_id(connection, user_id, &old.id)?;
        ended.push(old.id);
    }
    Ok(Begun { token, id: session.id, ended })
}

/// The session behind a token; whether it is alive is another question ([`is_alive`]).
pub fn find(connection: &Connection, token: &Secret<String>) -> Result<Option<Session>> {
    queries::find(connection, &hash(token))
}

/// Whether a session is valid at `now` under the limits of its account.
pub fn is_alive(session: &Session, limits: Limits, now: Time) -> bool {
    let (idle, age) = (now.since(session.last_seen_at), now.since(session.proof.at));
    idle < limits.idle_us && age < limits.lifetime_us && idle > -CLOCK_STEP_MAX_US && age > -CLOCK_STEP_MAX_US
}

/// Whether the last use is old enough to be written again.
pub fn is_touch_due(session: &Session, now: Time) -> bool {
    now.since(session.last_seen_at) >= TOUCH_EVERY_US
}

/// Notes that a session's user proved again that it is them; `false` when it has ended.
pub fn note_proof(connection: &Connection, id: &str, factor: Option<Factor>, now: Time) -> Result<bool> {
    Ok(queries::set_proved(connection, id, factor, now)? > 0)
}

/// Writes the last use. Never moves it back, and never revives a session that has ended meanwhile.
pub fn touch(connection: &Connection, id: &str, address: &str, now: Time) -> Result<()> {
    queries::touch(connection, id, address, now)
}

/// The sessions of a user that have not been deleted, the newest first; some may have ended.
pub fn list(connection: &Connection, user_id: &str) -> Result<Vec<Session>> {
    queries::list_by_user(connection, user_id)
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

/// Ends all sessions of a user except `keep`, and whatever of theirs is on its way; answers how many sessions.
pub fn end_all(connection: &Connection, user_id: &str, keep: Option<&str>) -> Result<usize> {
    journeys::end_all(connection, user_id)?;
    queries::delete_by_user(connection, user_id, keep.unwrap_or_default())
}

/// Ends all sessions of a user in one account, and what is on its way there; answers how many sessions.
pub fn end_all_in(connection: &Connection, user_id: &str, account: AccountId) -> Result<usize> {
    journeys::end_all_in(connection, user_id, account)?;
    queries::delete_by_user_in(connection, user_id, account)
}

/// Ends all sessions in an account, and what is on its way there; answers how many sessions.
pub fn end_account(connection: &Connection, account: AccountId) -> Result<usize> {
    journeys::end_account(connection, account)?;
    queries::delete_by_account(connection, account)
}

/// Deletes what ended on its own.
pub fn purge(connection: &Connection, now: Time) -> Result<usize> {
    journeys::purge(connection, now)?;
    queries::delete_older(connection, now.plus(-LIMITS_MAX.lifetime_us), now.plus(-LIMITS_MAX.idle_us))
}

fn hash(token: &Secret<String>) -> [u8; 32] {
    secret::sha256(token.expose().as_bytes())
}
