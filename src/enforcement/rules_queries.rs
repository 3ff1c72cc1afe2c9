//! SQL of the protected list and of the two-person rule.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    never::{Protection, ProtectionKind},
    queries::word,
    rule::Rule,
};
use crate::{clock::Time, error::Result, principal::AccountId};

pub(super) fn protections(connection: &Connection, account: AccountId) -> Result<Vec<Protection>> {
    let mut statement = connection.prepare_cached(
        "SELECT p.id, p.kind, p.directory_id, p.object_id, p.dn, p.name, p.note, p.created_by, p.created_at
         FROM protection p WHERE p.account_id = ?1 AND p.removed_at IS NULL ORDER BY p.id",
    )?;
    let rows = statement.query_map([account], |row| {
        Ok(Protection {
            id: row.get(0)?,
            kind: word(row, 1, ProtectionKind::parse)?,
            directory_id: row.get(2)?,
            object_id: row.get(3)?,
            dn: row.get(4)?,
            name: row.get(5)?,
            note: row.get(6)?,
            created_by: row.get(7)?,
            created_at: row.get(8)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// `false` when it is on the list already.
pub(super) fn insert_protection(connection: &Connection, account: AccountId, entry: &Protection) -> Result<bool> {
    let added = connection
        .prepare_cached(
            "INSERT OR IGNORE INTO protection (account_id, kind, directory_id, object_id, dn, name, note, created_by, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            account,
            entry.kind.as_str(),
            entry.directory_id,
            entry.object_id,
            entry.dn,
            entry.name,
            entry.note,
            entry.created_by,
            entry.created_at,
        ])?;
    Ok(added > 0)
}

pub(super) fn remove_protection(
    connection: &Connection,
    account: AccountId,
    id: i64,
    by: &str,
    now: Time,
) -> Result<()> {
    connection
        .prepare_cached("UPDATE protection SET removed_by = ?3, removed_at = ?4 WHERE id = ?1 AND account_id = ?2")?
        .execute(params![id, account, by, now])?;
    Ok(())
}

/// What was taken off the protected list since a time, newest first: name, and by whom.
pub(super) fn unprotected_since(
    connection: &Connection,
    account: AccountId,
    since: Time,
    limit: usize,
) -> Result<Vec<(String, String)>> {
    let mut statement = connection.prepare_cached(
        "SELECT name, removed_by FROM protection WHERE account_id = ?1 AND removed_at IS NOT NULL AND removed_at >= ?2
         ORDER BY removed_at DESC LIMIT ?3",
    )?;
    let rows = statement.query_map(params![account, since, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// By whom the two-person rule was made to ask for less since a time, if it was.
pub(super) fn loosened_since(connection: &Connection, account: AccountId, since: Time) -> Result<Option<String>> {
    Ok(connection
        .prepare_cached("SELECT loosened_by FROM two_person_rule WHERE account_id = ?1 AND loosened_at >= ?2")?
        .query_row(params![account, since], |row| row.get(0))
        .optional()?)
}

/// Deletes the rules of an account.
pub(super) fn purge(connection: &Connection, account: AccountId) -> Result<()> {
    connection.execute("DELETE FROM protection WHERE account_id = ?1", [account])?;
    connection.execute("DELETE FROM two_person_rule WHERE account_id = ?1", [account])?;
    Ok(())
}

pub(super) fn rule(connection: &Connection, account: AccountId) -> Result<Rule> {
    let found = connection
        .prepare_cached("SELECT above_count, for_privileged FROM two_person_rule WHERE account_id = ?1")?
        .query_row([account], |row| Ok(Rule { above_count: row.get(0)?, for_privileged: row.get(1)? }))
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// `loosened_by`: it asks for less than before, and who made it so.
pub(super) fn set_rule(
    connection: &Connection,
    account: AccountId,
    rule: Rule,
    loosened_by: Option<&str>,
    now: Time,
) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO two_person_rule (account_id, above_count, for_privileged, updated_at, loosened_by, loosened_at)
             VALUES (?1, ?2, ?3, ?4, ?5, iif(?5 IS NULL, NULL, ?4))
             ON CONFLICT (account_id) DO UPDATE SET above_count = excluded.above_count,
                 for_privileged = excluded.for_privileged, updated_at = excluded.updated_at,
                 loosened_by = coalesce(excluded.loosened_by, loosened_by),
                 loosened_at = coalesce(excluded.loosened_at, loosened_at)",
        )?
        .execute(params![account, rule.above_count, rule.for_privileged, now, loosened_by])?;
    Ok(())
}
