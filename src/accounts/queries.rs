//! All SQL of the accounts room.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::model::{Account, AccountState};
use crate::{clock::Time, error::Result, principal::AccountId};

pub(super) fn key_check(connection: &Connection) -> Result<Option<Vec<u8>>> {
    Ok(connection.query_row("SELECT key_check FROM appliance WHERE id = 1", [], |row| row.get(0)).optional()?)
}

pub(super) fn insert_appliance(connection: &Connection, region: &str, key_check: &[u8], now: Time) -> Result<()> {
    connection.execute(
        "INSERT INTO appliance (id, region, key_check, created_at) VALUES (1, ?1, ?2, ?3) ON CONFLICT (id) DO NOTHING",
        params![region, key_check, now],
    )?;
    Ok(())
}

pub(super) fn region(connection: &Connection) -> Result<String> {
    Ok(connection.query_row("SELECT region FROM appliance WHERE id = 1", [], |row| row.get(0))?)
}

/// How many accounts a user other than the owner may have made.
pub fn per_user(connection: &Connection) -> Result<i64> {
    let sql = "SELECT accounts_per_user FROM appliance WHERE id = 1";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

pub(super) fn set_per_user(connection: &Connection, count: i64) -> Result<()> {
    connection.prepare_cached("UPDATE appliance SET accounts_per_user = ?1 WHERE id = 1")?.execute([count])?;
    Ok(())
}

pub(super) fn set_setup_token(connection: &Connection, hash: &[u8], expires_at: Time) -> Result<()> {
    connection.execute(
        "UPDATE appliance SET setup_token_hash = ?1, setup_expires_at = ?2 WHERE id = 1",
        params![hash, expires_at],
    )?;
    Ok(())
}

pub(super) fn clear_setup_token(connection: &Connection) -> Result<()> {
    connection.execute("UPDATE appliance SET setup_token_hash = NULL, setup_expires_at = NULL WHERE id = 1", [])?;
    Ok(())
}

pub(super) fn setup_token(connection: &Connection) -> Result<Option<(Vec<u8>, Time)>> {
    Ok(connection
        .query_row(
            "SELECT setup_token_hash, setup_expires_at FROM appliance WHERE id = 1 AND setup_token_hash IS NOT NULL",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?)
}

/// What [`read`] reads; a macro, so that each statement is one literal.
macro_rules! accounts {
    ($rest:literal) => {
        concat!(
            "SELECT id, alias, region, state, mfa_rule, locale, time_zone, session_idle_minutes, session_max_hours,
                    history_days, created_at, created_by, suspended_at, suspended_by, purge_at, restore_asked_at,
                    restore_asked_by, is_purging
             FROM account ",
            $rest
        )
    };
}

fn read(row: &Row<'_>) -> rusqlite::Result<Account> {
    let state: String = row.get(3)?;
    Ok(Account {
        id: row.get(0)?,
        alias: row.get(1)?,
        region: row.get(2)?,
        // Anything that is not plainly active is kept out.
        state: if state == "active" { AccountState::Active } else { AccountState::Suspended },
        mfa: row.get(4)?,
        locale: row.get(5)?,
        time_zone: row.get(6)?,
        session_idle_minutes: row.get(7)?,
        session_max_hours: row.get(8)?,
        history_days: row.get(9)?,
        created_at: row.get(10)?,
        created_by: row.get(11)?,
        suspended_at: row.get(12)?,
        suspended_by: row.get(13)?,
        purge_at: row.get(14)?,
        restore_asked_at: row.get(15)?,
        restore_asked_by: row.get(16)?,
        is_purging: row.get(17)?,
    })
}

pub(super) fn insert(connection: &Connection, account: &Account) -> Result<()> {
    connection.execute(
        "INSERT INTO account (id, alias, region, state, mfa_rule, locale, time_zone, session_idle_minutes,
                              session_max_hours, history_days, created_at, created_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            account.id,
            account.alias,
            account.region,
            account.state.as_str(),
            account.mfa,
            account.locale,
            account.time_zone,
            account.session_idle_minutes,
            account.session_max_hours,
            account.history_days,
            account.created_at,
            account.created_by,
        ],
    )?;
    Ok(())
}

/// Writes what can be changed of an account; its state has its own way.
pub(super) fn update(connection: &Connection, account: &Account) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE account SET alias = ?2, mfa_rule = ?3, locale = ?4, time_zone = ?5, session_idle_minutes = ?6,
                                session_max_hours = ?7, history_days = ?8
             WHERE id = ?1",
        )?
        .execute(params![
            account.id,
            account.alias,
            account.mfa,
            account.locale,
            account.time_zone,
            account.session_idle_minutes,
            account.session_max_hours,
            account.history_days,
        ])?;
    Ok(())
}

/// Remembers which user made an account.
pub fn set_maker(connection: &Connection, id: AccountId, user_id: &str) -> Result<()> {
    connection.prepare_cached("UPDATE account SET created_by = ?2 WHERE id = ?1")?.execute(params![id, user_id])?;
    Ok(())
}

pub(super) fn suspend(
    connection: &Connection,
    id: AccountId,
    by: &str,
    now: Time,
    purge_at: Option<Time>,
) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE account SET state = 'suspended', suspended_at = coalesce(suspended_at, ?3), suspended_by = ?2,
                                purge_at = ?4, restore_asked_at = NULL, restore_asked_by = NULL
             WHERE id = ?1",
        )?
        .execute(params![id, by, now, purge_at])?;
    Ok(())
}

pub(super) fn restore(connection: &Connection, id: AccountId) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE account SET state = 'active', suspended_at = NULL, suspended_by = NULL, purge_at = NULL,
                                restore_asked_at = NULL, restore_asked_by = NULL
             WHERE id = ?1",
        )?
        .execute([id])?;
    Ok(())
}

pub(super) fn ask_to_restore(connection: &Connection, id: AccountId, by: &str, now: Time) -> Result<()> {
    connection
        .prepare_cached("UPDATE account SET restore_asked_at = ?2, restore_asked_by = ?3 WHERE id = ?1")?
        .execute(params![id, now, by])?;
    Ok(())
}

/// From here on there is no way back; `false` when it was brought back in time.
pub(super) fn begin_purge(connection: &Connection, id: AccountId, now: Time) -> Result<bool> {
    let begun = connection
        .prepare_cached(
            "UPDATE account SET is_purging = 1
             WHERE id = ?1 AND state = 'suspended' AND (is_purging = 1 OR purge_at <= ?2)",
        )?
        .execute(params![id, now])?;
    Ok(begun == 1)
}

/// Deletes an account's row, and with it what hangs on it.
pub(super) fn delete(connection: &Connection, id: AccountId) -> Result<()> {
    connection.prepare_cached("DELETE FROM account WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Accounts whose time has come, or whose purge was interrupted.
pub(super) fn to_purge(connection: &Connection, now: Time) -> Result<Vec<Account>> {
    let mut statement = connection.prepare_cached(accounts!(
        "WHERE state = 'suspended' AND purge_at IS NOT NULL AND (purge_at <= ?1 OR is_purging = 1)
         ORDER BY purge_at LIMIT 100"
    ))?;
    let rows = statement.query_map([now], read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// How many accounts besides one are in use.
pub(super) fn count_active_beside(connection: &Connection, id: AccountId) -> Result<i64> {
    Ok(connection
        .prepare_cached("SELECT count(*) FROM account WHERE state = 'active' AND id <> ?1")?
        .query_row([id], |row| row.get(0))?)
}

/// The accounts in which nothing works.
pub fn suspended(connection: &Connection) -> Result<HashSet<AccountId>> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM account INDEXED BY account_suspended WHERE state = 'suspended'")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// How many of the accounts that a user made are there.
pub fn count_by_maker(connection: &Connection, user_id: &str) -> Result<i64> {
    Ok(connection
        .prepare_cached("SELECT count(*) FROM account WHERE created_by = ?1")?
        .query_row([user_id], |row| row.get(0))?)
}

/// For how many days each account keeps the past of its directories; not those that are being deleted for good.
pub fn history_days(connection: &Connection) -> Result<Vec<(AccountId, i64)>> {
    let mut statement =
        connection.prepare_cached("SELECT id, history_days FROM account WHERE is_purging = 0 ORDER BY id")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// How many accounts there are.
pub fn count(connection: &Connection) -> Result<i64> {
    Ok(connection.prepare_cached("SELECT count(*) FROM account")?.query_row([], |row| row.get(0))?)
}

/// The account with this id.
pub fn find(connection: &Connection, id: AccountId) -> Result<Option<Account>> {
    Ok(connection.prepare_cached(accounts!("WHERE id = ?1"))?.query_row([id], read).optional()?)
}

/// The account with this alias.
pub fn find_by_alias(connection: &Connection, alias: &str) -> Result<Option<Account>> {
    Ok(connection.prepare_cached(accounts!("WHERE alias = ?1"))?.query_row([alias], read).optional()?)
}

/// The account of an appliance that has no other.
pub fn find_only(connection: &Connection) -> Result<Option<AccountId>> {
    let mut statement = connection.prepare_cached("SELECT id FROM account LIMIT 2")?;
    let ids = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<AccountId>>>()?;
    Ok(if let [only] = ids.as_slice() { Some(*only) } else { None })
}

/// Up to `limit` accounts by alias, behind `after`, for the appliance's owner.
pub(super) fn list_behind(connection: &Connection, after: &str, limit: usize) -> Result<Vec<Account>> {
    let mut statement = connection.prepare_cached(accounts!("WHERE alias > ?1 ORDER BY alias LIMIT ?2"))?;
    let rows = statement.query_map(params![after, limit], read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// All accounts, for the command line.
pub fn list(connection: &Connection) -> Result<Vec<Account>> {
    let mut statement = connection.prepare_cached(accounts!("ORDER BY id"))?;
    let rows = statement.query_map([], read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
