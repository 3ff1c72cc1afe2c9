//! All SQL of the invitations room.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::model::{Invitation, InvitationState};
use crate::{clock::Time, error::Result, principal::AccountId};

const COLUMNS: &str = "id, account_id, email, email_folded, role_id, state, is_mailed, invited_by, inviter_name,
                       lifetime_days, created_at, last_sent_at, sent_count, expires_at, ended_at, accepted_by, inviter_id";

fn read(row: &Row<'_>) -> rusqlite::Result<Invitation> {
    Ok(Invitation {
        id: row.get(0)?,
        account_id: row.get(1)?,
        email: row.get(2)?,
        email_folded: row.get(3)?,
        role_id: row.get(4)?,
        // Anything that is not plainly open lets nobody in.
        stored_state: InvitationState::parse(&row.get::<_, String>(5)?).unwrap_or(InvitationState::Revoked),
        is_mailed: row.get(6)?,
        invited_by: row.get(7)?,
        inviter_name: row.get(8)?,
        lifetime_days: row.get(9)?,
        created_at: row.get(10)?,
        last_sent_at: row.get(11)?,
        sent_count: row.get(12)?,
        expires_at: row.get(13)?,
        ended_at: row.get(14)?,
        accepted_by: row.get(15)?,
        inviter_id: row.get(16)?,
    })
}

pub(super) fn insert(connection: &Connection, invitation: &Invitation, token_hash: &[u8]) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO invitation (id, account_id, email, email_folded, role_id, state, is_mailed, invited_by,
                                     inviter_name, lifetime_days, created_at, last_sent_at, sent_count, expires_at,
                                     token_hash, inviter_id)
             VALUES (?1, ?2, ?3, ?4, ?5, 'invited', ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(params![
            invitation.id,
            invitation.account_id,
            invitation.email,
            invitation.email_folded,
            invitation.role_id,
            invitation.is_mailed,
            invitation.invited_by,
            invitation.inviter_name,
            invitation.lifetime_days,
            invitation.created_at,
            invitation.last_sent_at,
            invitation.sent_count,
            invitation.expires_at,
            token_hash,
            invitation.inviter_id,
        ])?;
    Ok(())
}

/// Puts a new link in the place of the present one; the invitation is open again.
pub(super) fn renew(connection: &Connection, invitation: &Invitation, token_hash: &[u8]) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE invitation SET state = 'invited', ended_at = NULL, is_mailed = ?3, last_sent_at = ?4,
                 sent_count = ?5, expires_at = ?6, token_hash = ?7, invited_by = ?8, inviter_name = ?9, inviter_id = ?10,
                 refusals = 0
             WHERE account_id = ?1 AND id = ?2 AND state IN ('invited', 'expired')",
        )?
        .execute(params![
            invitation.account_id,
            invitation.id,
            invitation.is_mailed,
            invitation.last_sent_at,
            invitation.sent_count,
            invitation.expires_at,
            token_hash,
            invitation.invited_by,
            invitation.inviter_name,
            invitation.inviter_id,
        ])?;
    Ok(())
}

/// Ends an open invitation; `false` when somebody else was quicker.
pub(super) fn end(
    connection: &Connection,
    id: &str,
    state: InvitationState,
    accepted_by: Option<&str>,
    now: Time,
) -> Result<bool> {
    let ended = connection
        .prepare_cached(
            "UPDATE invitation SET state = ?2, ended_at = ?3, accepted_by = ?4 WHERE id = ?1 AND state = 'invited'",
        )?
        .execute(params![id, state.as_str(), now, accepted_by])?;
    Ok(ended == 1)
}

fn find_sql() -> String {
    format!("SELECT {COLUMNS} FROM invitation WHERE id = ?2 AND account_id = ?1")
}

pub(super) fn find(connection: &Connection, account: AccountId, id: &str) -> Result<Option<Invitation>> {
    Ok(connection.prepare_cached(&find_sql())?.query_row(params![account, id], read).optional()?)
}

fn find_by_token_sql() -> String {
    format!("SELECT {COLUMNS}, token_hash FROM invitation WHERE token_hash = ?1")
}

/// The invitation whose present link has this token, in any state, with the token's hash as stored.
pub(super) fn find_by_token(connection: &Connection, token_hash: &[u8]) -> Result<Option<(Invitation, Vec<u8>)>> {
    Ok(connection
        .prepare_cached(&find_by_token_sql())?
        .query_row([token_hash], |row| Ok((read(row)?, row.get(17)?)))
        .optional()?)
}

fn find_open_sql() -> String {
    format!("SELECT {COLUMNS} FROM invitation WHERE account_id = ?1 AND email_folded = ?2 AND state = 'invited'")
}

/// The invitation of an address that nobody has ended yet; its time may be over.
pub(super) fn find_open(connection: &Connection, account: AccountId, email_folded: &str) -> Result<Option<Invitation>> {
    Ok(connection.prepare_cached(&find_open_sql())?.query_row(params![account, email_folded], read).optional()?)
}

fn list_sql() -> String {
    format!(
        "SELECT {COLUMNS} FROM invitation
         WHERE account_id = ?1 AND id < ?2
           AND (?3 IS NULL OR ?3 = CASE WHEN state = 'invited' AND expires_at <= ?4 THEN 'expired' ELSE state END)
         ORDER BY id DESC LIMIT ?5"
    )
}

/// Up to `limit` invitations of an account, the newest first (ids are UUIDv7), before id `before`; those of one state if
/// one is given, as it holds at `now`.
pub(super) fn list(
    connection: &Connection,
    account: AccountId,
    state: Option<InvitationState>,
    before: Option<&str>,
    limit: usize,
    now: Time,
) -> Result<Vec<Invitation>> {
    let mut statement = connection.prepare_cached(&list_sql())?;
    // `~` sorts behind every character of a UUID.
    let rows = statement
        .query_map(params![account, before.unwrap_or("~"), state.map(InvitationState::as_str), now, limit], read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

const COUNT_OPEN: &str =
    "SELECT count(*) FROM invitation WHERE account_id = ?1 AND state = 'invited' AND expires_at > ?2";

/// How many invitations of an account can be accepted at `now`.
pub(super) fn count_open(connection: &Connection, account: AccountId, now: Time) -> Result<i64> {
    Ok(connection.prepare_cached(COUNT_OPEN)?.query_row(params![account, now], |row| row.get(0))?)
}

const COUNT_OPEN_BY_ROLE: &str =
    "SELECT count(*) FROM invitation WHERE account_id = ?1 AND role_id = ?2 AND state = 'invited'";

/// How many open invitations are for a role.
pub fn count_open_by_role(connection: &Connection, account: AccountId, role_id: &str) -> Result<i64> {
    Ok(connection.prepare_cached(COUNT_OPEN_BY_ROLE)?.query_row(params![account, role_id], |row| row.get(0))?)
}

const COUNT_OPEN_BY_INVITER: &str =
    "SELECT count(*) FROM invitation WHERE account_id = ?1 AND inviter_id = ?2 AND state = 'invited'";

/// How many open invitations hang on a member.
pub fn count_open_by_inviter(connection: &Connection, account: AccountId, user_id: &str) -> Result<i64> {
    Ok(connection.prepare_cached(COUNT_OPEN_BY_INVITER)?.query_row(params![account, user_id], |row| row.get(0))?)
}

fn list_lapsed_sql() -> String {
    format!(
        "SELECT {COLUMNS} FROM invitation WHERE state = 'invited' AND expires_at <= ?1 ORDER BY expires_at LIMIT ?2"
    )
}

/// Invitations of all accounts whose time is over and that nobody has ended.
pub(super) fn list_lapsed(connection: &Connection, now: Time, limit: usize) -> Result<Vec<Invitation>> {
    let mut statement = connection.prepare_cached(&list_lapsed_sql())?;
    let rows = statement.query_map(params![now, limit], read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Counts a refused attempt; `false` when enough of this link are on the record.
pub(super) fn note_refusal(connection: &Connection, id: &str, refusals_max: i64) -> Result<bool> {
    let noted = connection
        .prepare_cached("UPDATE invitation SET refusals = refusals + 1 WHERE id = ?1 AND refusals < ?2")?
        .execute(params![id, refusals_max])?;
    Ok(noted == 1)
}

const SENT_SINCE: &str =
    "SELECT sent_at FROM invitation_sending WHERE sender = ?1 AND sent_at > ?2 ORDER BY sent_at DESC LIMIT ?3";

/// When a sender sent after `since`: up to `limit` times, the latest first.
pub(super) fn sent_since(connection: &Connection, sender: &str, since: Time, limit: usize) -> Result<Vec<Time>> {
    let mut statement = connection.prepare_cached(SENT_SINCE)?;
    let rows = statement.query_map(params![sender, since, limit], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Remembers that something was sent, and forgets what was sent before `since`.
pub(super) fn note_sending(connection: &Connection, sender: &str, now: Time, since: Time) -> Result<()> {
    connection.prepare_cached("DELETE FROM invitation_sending WHERE sent_at <= ?1")?.execute([since])?;
    connection
        .prepare_cached("INSERT INTO invitation_sending (sender, sent_at) VALUES (?1, ?2)")?
        .execute(params![sender, now])?;
    Ok(())
}

/// Forgets how often people and keys of an account have sent.
pub(super) fn forget_sendings(connection: &Connection, account: AccountId) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM invitation_sending WHERE sender GLOB ?1")?
        .execute([format!("{account}/*")])?;
    Ok(())
}

/// Every statement that reads rows, for the test of their plans.
#[cfg(test)]
pub(super) fn statements() -> Vec<String> {
    let fixed = [COUNT_OPEN, COUNT_OPEN_BY_ROLE, COUNT_OPEN_BY_INVITER, SENT_SINCE].map(str::to_owned);
    let made = [find_sql(), find_by_token_sql(), find_open_sql(), list_sql(), list_lapsed_sql()];
    made.into_iter().chain(fixed).collect()
}
