//! All SQL of the sessions room.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    clock::Time,
    error::Result,
    principal::AccountId,
    proof::{Factor, Proof},
};

/// A signed-in browser.
#[derive(Debug, Clone)]
pub struct Session {
    /// Public: names it in lists and in the audit log, is worth nothing by itself.
    pub id: String,
    pub user_id: String,
    pub account_id: AccountId,
    /// What was proved when it began, and the factor that was proved last; it grows old from `proof.at`.
    pub proof: Proof,
    /// When its user last proved again that it is them.
    pub proved_at: Time,
    pub last_seen_at: Time,
    pub address: String,
    pub user_agent: String,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        id: row.get(0)?,
        user_id: row.get(1)?,
        account_id: row.get(2)?,
        last_seen_at: row.get(3)?,
        address: row.get(4)?,
        user_agent: row.get(5)?,
        proved_at: row.get(6)?,
        proof: read_proof(row, 7)?,
    })
}

/// What was proved: method, time, factor and its time, from this column on.
pub(super) fn read_proof(row: &Row<'_>, at: usize) -> rusqlite::Result<Proof> {
    let factor = row.get::<_, Option<Factor>>(at + 2)?.zip(row.get(at + 3)?);
    Ok(Proof { method: row.get(at)?, at: row.get(at + 1)?, factor })
}

pub(super) fn insert(connection: &Connection, token_hash: &[u8], session: &Session) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO session (token_hash, id, user_id, account_id, created_at, last_seen_at, address, user_agent,
                                  proved_at, method, factor, factor_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            token_hash,
            session.id,
            session.user_id,
            session.account_id,
            session.proof.at,
            session.last_seen_at,
            session.address,
            session.user_agent,
            session.proved_at,
            session.proof.method,
            session.proof.factor.map(|(factor, _)| factor),
            session.proof.factor.map(|(_, at)| at),
        ])?;
    Ok(())
}

pub(super) fn find(connection: &Connection, token_hash: &[u8]) -> Result<Option<Session>> {
    Ok(connection
        .prepare_cached(
            "SELECT id, user_id, account_id, last_seen_at, address, user_agent, proved_at, method, created_at, factor,
                    factor_at
             FROM session WHERE token_hash = ?1",
        )?
        .query_row([token_hash], read)
        .optional()?)
}

/// The newest first.
pub(super) fn list_by_user(connection: &Connection, user_id: &str) -> Result<Vec<Session>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, user_id, account_id, last_seen_at, address, user_agent, proved_at, method, created_at, factor, factor_at
         FROM session WHERE user_id = ?1 ORDER BY created_at DESC, id DESC",
    )?;
    let rows = statement.query_map([user_id], read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn touch(connection: &Connection, id: &str, address: &str, now: Time) -> Result<()> {
    connection
        .prepare_cached("UPDATE session SET last_seen_at = ?2, address = ?3 WHERE id = ?1 AND last_seen_at < ?2")?
        .execute(params![id, now, address])?;
    Ok(())
}

/// Writes that a session's user proved again that it is them, by a factor if it was one.
pub(super) fn set_proved(connection: &Connection, id: &str, factor: Option<Factor>, now: Time) -> Result<usize> {
    Ok(connection
        .prepare_cached(
            "UPDATE session SET proved_at = ?2, factor = coalesce(?3, factor), factor_at = iif(?3 IS NULL, factor_at, ?2)
             WHERE id = ?1",
        )?
        .execute(params![id, now, factor])?)
}

pub(super) fn delete_by_id(connection: &Connection, user_id: &str, id: &str) -> Result<usize> {
    Ok(connection
        .prepare_cached("DELETE FROM session WHERE user_id = ?1 AND id = ?2")?
        .execute(params![user_id, id])?)
}

pub(super) fn delete_by_user(connection: &Connection, user_id: &str, except_id: &str) -> Result<usize> {
    Ok(connection
        .prepare_cached("DELETE FROM session WHERE user_id = ?1 AND id <> ?2")?
        .execute(params![user_id, except_id])?)
}

pub(super) fn delete_by_user_in(connection: &Connection, user_id: &str, account: AccountId) -> Result<usize> {
    Ok(connection
        .prepare_cached("DELETE FROM session WHERE user_id = ?1 AND account_id = ?2")?
        .execute(params![user_id, account])?)
}

pub(super) fn delete_by_account(connection: &Connection, account: AccountId) -> Result<usize> {
    Ok(connection.prepare_cached("DELETE FROM session WHERE account_id = ?1")?.execute([account])?)
}

pub(super) fn delete_older(connection: &Connection, created_before: Time, seen_before: Time) -> Result<usize> {
    // Two statements, each with its index; OR would walk the table.
    let by_start = connection.execute("DELETE FROM session WHERE created_at <= ?1", [created_before])?;
    let by_use = connection.execute("DELETE FROM session WHERE last_seen_at <= ?1", [seen_before])?;
    Ok(by_start + by_use)
}

impl Session {
    /// The browser in words.
    pub fn browser(&self) -> String {
        browser(&self.user_agent)
    }
}

/// A browser in words, as far as its own word can be believed: `Firefox on Linux`.
pub fn browser(user_agent: &str) -> String {
    let has = |part: &str| user_agent.contains(part);
    // Order matters: Edge says Chrome too, and Chrome says Safari.
    let browser = [
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ];
    let system = [
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ];
    let named = |list: &[(&str, &'static str)]| list.iter().find(|(part, _)| has(part)).map(|(_, name)| *name);
    match (named(&browser), named(&system)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => "Unknown browser".into(),
    }
}
