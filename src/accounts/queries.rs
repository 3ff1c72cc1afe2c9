//! All SQL of the accounts room.

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

pub(super) fn insert(connection: &Connection, account: &Account) -> Result<()> {
    let state = match account.state {
        AccountState::Active => "active",
        AccountState::Suspended => "suspended",
    };
    connection.execute(
        "INSERT INTO account (id, alias, region, state, is_mfa_required, created_at, history_days)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            account.id,
            account.alias,
            account.region,
            state,
            account.mfa_required,
            account.created_at,
            account.history_days
        ],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Account> {
    let state: String = row.get(3)?;
    Ok(Account {
        id: row.get(0)?,
        alias: row.get(1)?,
        region: row.get(2)?,
        // Anything that is not plainly active is kept out.
        state: if state == "active" { AccountState::Active } else { AccountState::Suspended },
        mfa_required: row.get(4)?,
        created_at: row.get(5)?,
        history_days: row.get(6)?,
    })
}

pub(super) fn set_history_days(connection: &Connection, id: AccountId, days: i64) -> Result<()> {
    connection.prepare_cached("UPDATE account SET history_days = ?2 WHERE id = ?1")?.execute(params![id, days])?;
    Ok(())
}

/// For how many days each account keeps the past of its directories.
pub fn history_days(connection: &Connection) -> Result<Vec<(AccountId, i64)>> {
    let mut statement = connection.prepare_cached("SELECT id, history_days FROM account ORDER BY id")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// How many accounts there are.
pub fn count(connection: &Connection) -> Result<i64> {
    Ok(connection.prepare_cached("SELECT count(*) FROM account")?.query_row([], |row| row.get(0))?)
}

/// The account with this id.
pub fn find(connection: &Connection, id: AccountId) -> Result<Option<Account>> {
    Ok(connection
        .prepare_cached(
            "SELECT id, alias, region, state, is_mfa_required, created_at, history_days FROM account WHERE id = ?1",
        )?
        .query_row([id], read)
        .optional()?)
}

/// The account with this alias.
pub fn find_by_alias(connection: &Connection, alias: &str) -> Result<Option<Account>> {
    Ok(connection
        .prepare_cached(
            "SELECT id, alias, region, state, is_mfa_required, created_at, history_days FROM account WHERE alias = ?1",
        )?
        .query_row([alias], read)
        .optional()?)
}

/// All accounts, for the command line.
pub fn list(connection: &Connection) -> Result<Vec<Account>> {
    let mut statement = connection.prepare(
        "SELECT id, alias, region, state, is_mfa_required, created_at, history_days FROM account ORDER BY id",
    )?;
    let rows = statement.query_map([], read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
