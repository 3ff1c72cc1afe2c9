//! All SQL of the API keys room.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::model::{Administers, ApiKey, PreviousSecret, SECRET_PREFIX};
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
    let start = |text: String| format!("{SECRET_PREFIX}{text}");
    let (ips, cidrs): (String, String) = (row.get(6)?, row.get(7)?);
    let previous: Option<(String, Time)> = row.get::<_, Option<String>>(19)?.zip(row.get(20)?);
    let used_at = row.get(21)?;
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
        last_address: row.get(12)?,
        locale: row.get(13)?,
        time_zone: row.get(14)?,
        administers: Administers::parse(&row.get::<_, String>(15)?),
        answered_by: row.get(16)?,
        warned_days: row.get(17)?,
        secret_start: start(row.get(18)?),
        previous: previous.map(|(text, ends_at)| PreviousSecret { start: start(text), ends_at, used_at }),
    })
}

/// A secret as stored.
pub(super) struct StoredSecret {
    pub(super) hash: Vec<u8>,
    /// The person who was shown it.
    pub(super) shown_to: String,
}

/// A key with what it is recognised by: for the door.
pub(super) struct StoredKey {
    pub(super) key: ApiKey,
    pub(super) secret: StoredSecret,
    /// Also after its end.
    pub(super) previous: Option<StoredSecret>,
}

/// What a secret leaves behind in the table.
pub(super) struct NewSecret<'a> {
    pub(super) hash: &'a [u8],
    /// Without the prefix.
    pub(super) start: &'a str,
    pub(super) shown_to: &'a str,
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::caused("a list could not be written", e))
}

/// `false` when another key of the account has the alias.
pub(super) fn insert(connection: &Connection, key: &ApiKey, secret: &NewSecret<'_>) -> Result<bool> {
    let inserted = connection.execute(
        "INSERT INTO api_key (id, account_id, alias, description, role_id, secret_hash, is_enabled, allowed_ips,
                              allowed_cidrs, created_at, expires_at, made_by, answered_by, locale, time_zone, administers,
                              secret_start, shown_to)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
         ON CONFLICT (account_id, alias) DO NOTHING",
        params![
            key.id,
            key.account_id,
            key.alias,
            key.description,
            key.role_id,
            secret.hash,
            key.is_enabled,
            json(&key.allowed_ips)?,
            json(&key.allowed_cidrs)?,
            key.created_at,
            key.expires_at,
            key.made_by,
            key.answered_by,
            key.locale,
            key.time_zone,
            key.administers.as_str(),
            secret.start,
            secret.shown_to,
        ],
    )?;
    Ok(inserted > 0)
}

/// `false` when another key of the account has the alias.
pub(super) fn update(connection: &Connection, key: &ApiKey) -> Result<bool> {
    let updated = connection.execute(
        "UPDATE OR IGNORE api_key SET alias = ?3, description = ?4, role_id = ?5, is_enabled = ?6, allowed_ips = ?7,
             allowed_cidrs = ?8, expires_at = ?9, answered_by = ?10, locale = ?11, time_zone = ?12, administers = ?13,
             warned_days = ?14
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
            key.answered_by,
            key.locale,
            key.time_zone,
            key.administers.as_str(),
            key.warned_days,
        ],
    )?;
    Ok(updated > 0)
}

/// Puts a new secret in the place of the present one, which becomes the previous one until `previous_ends_at`. The one
/// before that is gone. `answered_by` answers for the key from now on.
pub(super) fn rotate(
    connection: &Connection,
    account: AccountId,
    id: &str,
    secret: &NewSecret<'_>,
    answered_by: Option<&str>,
    previous_ends_at: Time,
) -> Result<()> {
    connection.execute(
        "UPDATE api_key SET previous_hash = secret_hash, previous_start = secret_start, previous_shown_to = shown_to,
             previous_ends_at = ?3, previous_used_at = NULL, secret_hash = ?4, secret_start = ?5, shown_to = ?6,
             answered_by = ?7
         WHERE account_id = ?1 AND id = ?2",
        params![account, id, previous_ends_at, secret.hash, secret.start, secret.shown_to, answered_by],
    )?;
    Ok(())
}

/// The previous secret works until `at`.
pub(super) fn end_previous(connection: &Connection, account: AccountId, id: &str, at: Time) -> Result<()> {
    connection.execute(
        "UPDATE api_key SET previous_ends_at = ?3 WHERE account_id = ?1 AND id = ?2 AND previous_hash IS NOT NULL",
        params![account, id, at],
    )?;
    Ok(())
}

pub(super) fn set_warned(connection: &Connection, id: &str, days: i64) -> Result<()> {
    connection.prepare_cached("UPDATE api_key SET warned_days = ?2 WHERE id = ?1")?.execute(params![id, days])?;
    Ok(())
}

pub(super) fn find(connection: &Connection, account: AccountId, id: &str) -> Result<Option<ApiKey>> {
    Ok(connection
        .prepare_cached(
            "SELECT id, account_id, alias, description, role_id, is_enabled, allowed_ips, allowed_cidrs, created_at,
                    expires_at, last_activity_at, made_by, last_address, locale, time_zone, administers, answered_by,
                    warned_days, secret_start, previous_start, previous_ends_at, previous_used_at
             FROM api_key WHERE id = ?2 AND account_id = ?1",
        )?
        .query_row(params![account, id], read)
        .optional()?)
}

/// The key with this id, whichever account it belongs to, with the hashes of its secrets: for the door.
pub(super) fn find_with_secrets(connection: &Connection, id: &str) -> Result<Option<StoredKey>> {
    let stored = |row: &Row<'_>| {
        let previous: Option<(Vec<u8>, String)> = row.get::<_, Option<Vec<u8>>>(24)?.zip(row.get(25)?);
        Ok(StoredKey {
            key: read(row)?,
            secret: StoredSecret { hash: row.get(22)?, shown_to: row.get(23)? },
            previous: previous.map(|(hash, shown_to)| StoredSecret { hash, shown_to }),
        })
    };
    Ok(connection
        .prepare_cached(
            "SELECT id, account_id, alias, description, role_id, is_enabled, allowed_ips, allowed_cidrs, created_at,
                    expires_at, last_activity_at, made_by, last_address, locale, time_zone, administers, answered_by,
                    warned_days, secret_start, previous_start, previous_ends_at, previous_used_at, secret_hash, shown_to,
                    previous_hash, previous_shown_to
             FROM api_key WHERE id = ?1",
        )?
        .query_row([id], stored)
        .optional()?)
}

/// Keys of an account that `is_wanted` takes, the newest first (ids are UUIDv7), before id `before`, up to `limit`.
pub(super) fn list<T>(
    connection: &Connection,
    account: AccountId,
    before: Option<&str>,
    limit: usize,
    mut is_wanted: impl FnMut(ApiKey) -> Result<Option<T>>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, account_id, alias, description, role_id, is_enabled, allowed_ips, allowed_cidrs, created_at,
                expires_at, last_activity_at, made_by, last_address, locale, time_zone, administers, answered_by,
                warned_days, secret_start, previous_start, previous_ends_at, previous_used_at
         FROM api_key WHERE account_id = ?1 AND id < ?2 ORDER BY id DESC",
    )?;
    // `~` sorts behind every character of a UUID.
    let mut rows = statement.query_map(params![account, before.unwrap_or("~")], read)?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(key) = rows.next().transpose()?
    {
        found.extend(is_wanted(key)?);
    }
    Ok(found)
}

/// Keys of all accounts that are not locked out and expire after `from` and until `to`, the next to expire first.
pub(super) fn expiring(connection: &Connection, from: Time, to: Time) -> Result<Vec<ApiKey>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, account_id, alias, description, role_id, is_enabled, allowed_ips, allowed_cidrs, created_at,
                expires_at, last_activity_at, made_by, last_address, locale, time_zone, administers, answered_by,
                warned_days, secret_start, previous_start, previous_ends_at, previous_used_at
         FROM api_key WHERE expires_at > ?1 AND expires_at <= ?2 AND is_enabled = 1 ORDER BY expires_at",
    )?;
    let rows = statement.query_map(params![from, to], read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// How many keys an account has.
pub(super) fn count(connection: &Connection, account: AccountId) -> Result<usize> {
    Ok(connection
        .prepare_cached("SELECT count(*) FROM api_key WHERE account_id = ?1")?
        .query_row([account], |row| row.get(0))?)
}

/// How many keys have a role.
pub fn count_by_role(connection: &Connection, account: AccountId, role_id: &str) -> Result<i64> {
    Ok(connection
        .prepare_cached("SELECT count(*) FROM api_key WHERE account_id = ?1 AND role_id = ?2")?
        .query_row(params![account, role_id], |row| row.get(0))?)
}

/// How many keys a user answers for: those that stop with them.
pub fn count_by_answerer(connection: &Connection, account: AccountId, user_id: &str) -> Result<i64> {
    Ok(connection
        .prepare_cached("SELECT count(*) FROM api_key WHERE account_id = ?1 AND answered_by = ?2")?
        .query_row(params![account, user_id], |row| row.get(0))?)
}

pub(super) fn delete(connection: &Connection, account: AccountId, id: &str) -> Result<usize> {
    Ok(connection.execute("DELETE FROM api_key WHERE account_id = ?1 AND id = ?2", params![account, id])?)
}

pub(super) fn note_activity(
    connection: &Connection,
    id: &str,
    address: &str,
    is_previous: bool,
    now: Time,
) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE api_key SET last_activity_at = ?2, last_address = ?3,
                 previous_used_at = CASE WHEN ?4 THEN ?2 ELSE previous_used_at END
             WHERE id = ?1",
        )?
        .execute(params![id, now, address, is_previous])?;
    Ok(())
}

/// Whether an account lets those of its keys administer that were given leave to.
pub(super) fn lets_keys_administer(connection: &Connection, account: AccountId) -> Result<bool> {
    let found = connection
        .prepare_cached("SELECT may_administer FROM api_key_setting WHERE account_id = ?1")?
        .query_row([account], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or(false))
}

pub(super) fn set_lets_keys_administer(connection: &Connection, account: AccountId, lets: bool) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO api_key_setting (account_id, may_administer) VALUES (?1, ?2)
             ON CONFLICT (account_id) DO UPDATE SET may_administer = excluded.may_administer",
        )?
        .execute(params![account, lets])?;
    Ok(())
}
