//! All SQL of the API keys room.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::model::ApiKey;
use crate::{
    clock::Time,
    error::{Error, Result},
    principal::AccountId,
};

fn read(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
    // A list that cannot be read must not mean "from anywhere": the row is refused.
    let list = |index: usize, text: &str, error: serde_json::Error| {
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, format!("{text}: {error}").into())
    };
    let (ips, cidrs): (String, String) = (row.get(6)?, row.get(7)?);
    Ok(ApiKey {
        id: row.get(0)?,
        account_id: row.get(1)?,
        alias: row.get(2)?,
        description: row.get(3)?,
        role_id: row.get(4)?,
        is_enabled: row.get(5)?,
        allowed_ips: serde_json::from_str(&ips).map_err(|e| list(6, "allowed_ips", e))?,
        allowed_cidrs: serde_json::from_str(&cidrs).map_err(|e| list(7, "allowed_cidrs", e))?,
        created_at: row.get(8)?,
        expires_at: row.get(9)?,
        last_activity_at: row.get(10)?,
        made_by: row.get(11)?,
    })
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::caused("a list could not be written", e))
}

/// `false` when another key of the account has the alias.
pub(super) fn insert(connection: &Connection, key: &ApiKey, secret_hash: &[u8]) -> Result<bool> {
    let inserted = connection.execute(
        "INSERT INTO api_key (id, account_id, alias, description, role_id, secret_hash, is_enabled, allowed_ips,
                              allowed_cidrs, created_at, expires_at, made_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT (account_id, alias) DO NOTHING",
        params![
            key.id,
            key.account_id,
            key.alias,
            key.description,
            key.role_id,
            secret_hash,
            key.is_enabled,
            json(&key.allowed_ips)?,
            json(&key.allowed_cidrs)?,
            key.created_at,
            key.expires_at,
            key.made_by,
        ],
    )?;
    Ok(inserted > 0)
}

/// `false` when another key of the account has the alias.
pub(super) fn update(connection: &Connection, key: &ApiKey) -> Result<bool> {
    let updated = connection.execute(
        "UPDATE OR IGNORE api_key SET alias = ?3, description = ?4, role_id = ?5, is_enabled = ?6, allowed_ips = ?7,
             allowed_cidrs = ?8, expires_at = ?9
         WHERE account_id = ?1 AND id = ?2",
        params![
            key.account_id,
            key.id,
            key.alias,
            key.description,
            key.role_id,
            key.is_enabled,
            json(&key.allowed_ips)?,
            json(&key.allowed_cidrs)?,
            key.expires_at,
        ],
    )?;
    Ok(updated > 0)
}

pub(super) fn find(connection: &Connection, account: AccountId, id: &str) -> Result<Option<ApiKey>> {
    Ok(connection
        .prepare_cached(
            "SELECT id, account_id, alias, description, role_id, is_enabled, allowed_ips, allowed_cidrs, created_at,
                    expires_at, last_activity_at, made_by
             FROM api_key WHERE id = ?2 AND account_id = ?1",
        )?
        .query_row(params![account, id], read)
        .optional()?)
}

/// The key with this id, whichever account it belongs to, with its secret's hash: for the door.
pub(super) fn find_with_secret(connection: &Connection, id: &str) -> Result<Option<(ApiKey, Vec<u8>)>> {
    Ok(connection
        .prepare_cached(
            "SELECT id, account_id, alias, description, role_id, is_enabled, allowed_ips, allowed_cidrs, created_at,
                    expires_at, last_activity_at, made_by, secret_hash
             FROM api_key WHERE id = ?1",
        )?
        .query_row([id], |row| Ok((read(row)?, row.get(12)?)))
        .optional()?)
}

/// Up to `limit` keys of an account, the newest first (ids are UUIDv7), before id `before`.
pub(super) fn list(
    connection: &Connection,
    account: AccountId,
    before: Option<&str>,
    limit: usize,
) -> Result<Vec<ApiKey>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, account_id, alias, description, role_id, is_enabled, allowed_ips, allowed_cidrs, created_at,
                expires_at, last_activity_at, made_by
         FROM api_key WHERE account_id = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
    )?;
    // `~` sorts behind every character of a UUID.
    let rows = statement.query_map(params![account, before.unwrap_or("~"), limit], read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// All keys of an account, for the command line.
pub fn list_all(connection: &Connection, account: AccountId) -> Result<Vec<ApiKey>> {
    list(connection, account, None, 100_000)
}

/// How many keys have a role.
pub fn count_by_role(connection: &Connection, account: AccountId, role_id: &str) -> Result<i64> {
    Ok(connection
        .prepare_cached("SELECT count(*) FROM api_key WHERE account_id = ?1 AND role_id = ?2")?
        .query_row(params![account, role_id], |row| row.get(0))?)
}

pub(super) fn delete(connection: &Connection, account: AccountId, id: &str) -> Result<usize> {
    Ok(connection.execute("DELETE FROM api_key WHERE account_id = ?1 AND id = ?2", params![account, id])?)
}

pub(super) fn note_activity(connection: &Connection, id: &str, address: &str, now: Time) -> Result<()> {
    connection
        .prepare_cached("UPDATE api_key SET last_activity_at = ?2, last_address = ?3 WHERE id = ?1")?
        .execute(params![id, now, address])?;
    Ok(())
}
