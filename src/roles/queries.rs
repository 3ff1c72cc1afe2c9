//! All SQL of the roles room.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::model::{Role, predefined};
use crate::{
    clock::Time,
    error::{Error, Result},
    principal::{AccountId, Scope},
    proof::MfaRule,
};

fn read(row: &Row<'_>) -> rusqlite::Result<Role> {
    // What cannot be read must not mean "the whole account": the row is refused.
    let wrong = |index: usize, error: serde_json::Error| {
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, error.into())
    };
    let (services, scope): (String, Option<String>) = (row.get(3)?, row.get(4)?);
    let scope: Option<Scope> = scope.map(|text| serde_json::from_str(&text).map_err(|e| wrong(4, e))).transpose()?;
    Ok(Role {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        rights: serde_json::from_str(&services).map_err(|e| wrong(3, e))?,
        scope: scope.map(Arc::new),
        is_predefined: false,
        mfa: row.get::<_, Option<MfaRule>>(6)?.unwrap_or_default(),
        updated_at: Some(row.get(5)?),
    })
}

/// The role with this id, in an account.
pub fn find(connection: &Connection, account: AccountId, id: &str) -> Result<Option<Role>> {
    if let Some(role) = predefined().into_iter().find(|role| role.id == id) {
        return Ok(Some(Role { mfa: asked(connection, account, id)?, ..role }));
    }
    Ok(connection
        .prepare_cached(
            "SELECT r.id, r.name, r.description, r.services, r.scope, r.updated_at, m.mfa_rule
             FROM role AS r LEFT JOIN role_mfa AS m ON m.account_id = r.account_id AND m.role_id = r.id
             WHERE r.account_id = ?1 AND r.id = ?2",
        )?
        .query_row(params![account, id], read)
        .optional()?)
}

/// The role that somebody has; one without any right when it is not known.
pub fn held(connection: &Connection, account: AccountId, id: &str) -> Result<Role> {
    Ok(find(connection, account, id)?.unwrap_or_else(|| Role::nothing(id)))
}

/// What a role asks of its holders.
fn asked(connection: &Connection, account: AccountId, id: &str) -> Result<MfaRule> {
    let found = connection
        .prepare_cached("SELECT mfa_rule FROM role_mfa WHERE account_id = ?1 AND role_id = ?2")?
        .query_row(params![account, id], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// Writes what a role asks of its holders.
pub(super) fn set_asked(connection: &Connection, account: AccountId, id: &str, rule: MfaRule) -> Result<()> {
    if rule == MfaRule::Optional {
        connection
            .prepare_cached("DELETE FROM role_mfa WHERE account_id = ?1 AND role_id = ?2")?
            .execute(params![account, id])?;
        return Ok(());
    }
    connection
        .prepare_cached(
            "INSERT INTO role_mfa (account_id, role_id, mfa_rule) VALUES (?1, ?2, ?3)
             ON CONFLICT (account_id, role_id) DO UPDATE SET mfa_rule = excluded.mfa_rule",
        )?
        .execute(params![account, id, rule])?;
    Ok(())
}

/// All roles of an account: the predefined ones, then its own by id.
pub fn list(connection: &Connection, account: AccountId) -> Result<Vec<Role>> {
    let mut statement = connection.prepare_cached(
        "SELECT r.id, r.name, r.description, r.services, r.scope, r.updated_at, m.mfa_rule
         FROM role AS r LEFT JOIN role_mfa AS m ON m.account_id = r.account_id AND m.role_id = r.id
         WHERE r.account_id = ?1 ORDER BY r.id",
    )?;
    let own = statement.query_map([account], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut roles = Vec::with_capacity(own.len() + 4);
    for role in predefined() {
        roles.push(Role { mfa: asked(connection, account, &role.id)?, ..role });
    }
    roles.extend(own);
    Ok(roles)
}

fn texts(role: &Role) -> Result<(String, Option<String>)> {
    let wrong = |e| Error::caused("a role could not be written", e);
    let services = serde_json::to_string(&role.rights).map_err(wrong)?;
    Ok((services, role.scope.as_deref().map(serde_json::to_string).transpose().map_err(wrong)?))
}

/// `false` when there is one with this id.
pub(super) fn insert(connection: &Connection, account: AccountId, role: &Role, now: Time) -> Result<bool> {
    let (services, scope) = texts(role)?;
    let added = connection
        .prepare_cached(
            "INSERT INTO role (account_id, id, name, description, services, scope, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7) ON CONFLICT (account_id, id) DO NOTHING",
        )?
        .execute(params![account, role.id, role.name, role.description, services, scope, now])?;
    if added > 0 {
        set_asked(connection, account, &role.id, role.mfa)?;
    }
    Ok(added > 0)
}

pub(super) fn update(connection: &Connection, account: AccountId, role: &Role, now: Time) -> Result<()> {
    let (services, scope) = texts(role)?;
    connection
        .prepare_cached(
            "UPDATE role SET name = ?3, description = ?4, services = ?5, scope = ?6, updated_at = ?7
             WHERE account_id = ?1 AND id = ?2",
        )?
        .execute(params![account, role.id, role.name, role.description, services, scope, now])?;
    set_asked(connection, account, &role.id, role.mfa)
}

pub(super) fn delete(connection: &Connection, account: AccountId, id: &str) -> Result<()> {
    connection.prepare_cached("DELETE FROM role WHERE account_id = ?1 AND id = ?2")?.execute(params![account, id])?;
    set_asked(connection, account, id, MfaRule::Optional)
}
