//! Journeys: sign-ins on their way. Who it is has been said; what the account asks for beyond that has not been proved yet.
//!
//! Owns `journey` and its SQL. A journey opens nothing: it says who may go on, and where to. It lasts ten minutes, and it dies
//! with whatever ends its user's sessions, and with the session that it goes on from.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{hash, queries::read_proof};
use crate::{
    clock::{MINUTE, Time},
    error::Result,
    principal::AccountId,
    proof::Proof,
    secret::{self, MasterKey, Secret},
};

/// How long somebody has for the steps that are missing: time to fetch a telephone, and to install an app on it.
pub const JOURNEY_US: i64 = 10 * MINUTE;
/// Journeys of one user; the oldest end when there are more. Whoever knows the password can make as many as they like: they
/// must fill no table, nor push the user's own out within the time that it takes to enter a code.
const JOURNEYS_MAX: i64 = 100;

/// A sign-in on its way.
#[derive(Debug, Clone)]
pub struct Journey {
    pub user_id: String,
    /// Where it leads.
    pub account_id: AccountId,
    /// The session that it goes on from, by its public id.
    pub session_id: Option<String>,
    pub proof: Proof,
    /// The page to go to in the end. An invitation's link can stand in it.
    pub next: Secret<String>,
}

/// Nothing about the row but the user it belongs to is bound: the value is worth nothing elsewhere.
fn place(user_id: &str) -> String {
    format!("journey:next:{user_id}")
}

/// Begins one; answers the token for its cookie.
pub fn begin_journey(c: &Connection, key: &MasterKey, journey: &Journey, now: Time) -> Result<Secret<String>> {
    let token = secret::random_token();
    let Journey { user_id, account_id, session_id, proof, next } = journey;
    c.prepare_cached(
        "INSERT INTO journey (token_hash, user_id, account_id, session_id, proved_at, method, factor, factor_at, next,
                              expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        hash(&token),
        user_id,
        account_id,
        session_id,
        proof.at,
        proof.method,
        proof.factor.map(|(factor, _)| factor),
        proof.factor.map(|(_, at)| at),
        key.seal(&place(user_id), next.expose().as_bytes()),
        now.plus(JOURNEY_US),
    ])?;
    c.prepare_cached(
        "DELETE FROM journey WHERE user_id = ?1 AND token_hash <> ?3 AND token_hash NOT IN
             (SELECT token_hash FROM journey WHERE user_id = ?1 ORDER BY expires_at DESC LIMIT ?2)",
    )?
    .execute(params![user_id, JOURNEYS_MAX, hash(&token)])?;
    Ok(token)
}

/// The journey of a token, while it lasts.
pub fn find_journey(c: &Connection, key: &MasterKey, token: &Secret<String>, now: Time) -> Result<Option<Journey>> {
    let read = |row: &Row<'_>| {
        let next: Vec<u8> = row.get(3)?;
        let journey = Journey {
            user_id: row.get(0)?,
            account_id: row.get(1)?,
            session_id: row.get(2)?,
            proof: read_proof(row, 4)?,
            next: Secret::new(String::new()),
        };
        Ok((journey, next))
    };
    // One that was made in the future is of a clock that was set back: it must not last for longer than any other.
    let found = c
        .prepare_cached(
            "SELECT user_id, account_id, session_id, next, method, proved_at, factor, factor_at
             FROM journey WHERE token_hash = ?1 AND expires_at > ?2 AND expires_at <= ?3",
        )?
        .query_row(params![hash(token), now, now.plus(JOURNEY_US)], read)
        .optional()?;
    let Some((journey, next)) = found else { return Ok(None) };
    let next = key.open(&place(&journey.user_id), &next).ok();
    let next = next.and_then(|next| String::from_utf8(next.expose().clone()).ok()).unwrap_or_default();
    Ok(Some(Journey { next: Secret::new(next), ..journey }))
}

/// Writes what was proved since, and where it leads now.
pub fn change_journey(c: &Connection, token: &Secret<String>, journey: &Journey) -> Result<()> {
    let factor = journey.proof.factor;
    c.prepare_cached("UPDATE journey SET account_id = ?2, factor = ?3, factor_at = ?4 WHERE token_hash = ?1")?
        .execute(params![
            hash(token),
            journey.account_id,
            factor.map(|(factor, _)| factor),
            factor.map(|(_, at)| at)
        ])?;
    Ok(())
}

/// Ends one; `false` when it has ended before: of two that arrive at once, one enters.
pub fn end_journey(c: &Connection, token: &Secret<String>) -> Result<bool> {
    Ok(c.prepare_cached("DELETE FROM journey WHERE token_hash = ?1")?.execute([hash(token)])? > 0)
}

pub(super) fn end_all(c: &Connection, user_id: &str) -> Result<()> {
    c.prepare_cached("DELETE FROM journey WHERE user_id = ?1")?.execute([user_id])?;
    Ok(())
}

pub(super) fn end_all_in(c: &Connection, user_id: &str, account: AccountId) -> Result<()> {
    c.prepare_cached("DELETE FROM journey WHERE user_id = ?1 AND account_id = ?2")?
        .execute(params![user_id, account])?;
    Ok(())
}

pub(super) fn end_account(c: &Connection, account: AccountId) -> Result<()> {
    c.prepare_cached("DELETE FROM journey WHERE account_id = ?1")?.execute([account])?;
    Ok(())
}

pub(super) fn purge(c: &Connection, now: Time) -> Result<()> {
    c.execute("DELETE FROM journey WHERE expires_at <= ?1", [now])?;
    Ok(())
}
