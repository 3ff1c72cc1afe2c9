//! All SQL of the users room.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    model::{Member, User, UserState},
    passwords::PasswordHash,
};
use crate::{clock::Time, error::Result, principal::AccountId};

fn read_user(row: &Row<'_>) -> rusqlite::Result<User> {
    let state: String = row.get(7)?;
    Ok(User {
        id: row.get(0)?,
        email: row.get(1)?,
        name: row.get(2)?,
        locale: row.get(3)?,
        time_zone: row.get(4)?,
        theme: row.get(5)?,
        password_hash: PasswordHash(row.get(6)?),
        // Anything that is not plainly enabled is kept out.
        state: if state == "enabled" { UserState::Enabled } else { UserState::Disabled },
        created_at: row.get(8)?,
        last_sign_in_at: row.get(9)?,
        is_owner: row.get(10)?,
    })
}

fn read_member(row: &Row<'_>) -> rusqlite::Result<Member> {
    Ok(Member { user: read_user(row)?, account_id: row.get(11)?, role_id: row.get(12)? })
}

pub(super) fn insert(connection: &Connection, user: &User, email_folded: &str) -> Result<()> {
    connection.execute(
        "INSERT INTO user (id, email, email_folded, name, locale, time_zone, theme, password_hash, password_changed_at,
                           state, created_at, is_owner)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'enabled', ?9, ?10)",
        params![
            user.id,
            user.email,
            email_folded,
            user.name,
            user.locale,
            user.time_zone,
            user.theme,
            user.password_hash.0,
            user.created_at,
            user.is_owner,
        ],
    )?;
    Ok(())
}

pub(super) fn insert_membership(
    connection: &Connection,
    user_id: &str,
    account: AccountId,
    role_id: &str,
    now: Time,
) -> Result<()> {
    connection.execute(
        "INSERT INTO membership (user_id, account_id, role_id, created_at) VALUES (?1, ?2, ?3, ?4)",
        params![user_id, account, role_id, now],
    )?;
    Ok(())
}

/// Whether the appliance has an owner.
pub(super) fn has_owner(connection: &Connection) -> Result<bool> {
    Ok(connection.prepare_cached("SELECT 1 FROM user WHERE is_owner = 1")?.exists([])?)
}

/// The user with this e-mail address; `email` as `fold_email` answers it.
pub fn find_by_email(connection: &Connection, email_folded: &str) -> Result<Option<User>> {
    Ok(connection
        .prepare_cached(
            "SELECT id, email, name, locale, time_zone, theme, password_hash, state, created_at, last_sign_in_at, is_owner
             FROM user WHERE email_folded = ?1",
        )?
        .query_row([email_folded], read_user)
        .optional()?)
}

/// The user as a member of the account; nothing when they are not one.
pub fn find_member(connection: &Connection, user_id: &str, account: AccountId) -> Result<Option<Member>> {
    Ok(connection
        .prepare_cached(
            "SELECT u.id, u.email, u.name, u.locale, u.time_zone, u.theme, u.password_hash, u.state, u.created_at,
                    u.last_sign_in_at, u.is_owner, m.account_id, m.role_id
             FROM membership AS m JOIN user AS u ON u.id = m.user_id
             WHERE m.user_id = ?1 AND m.account_id = ?2",
        )?
        .query_row(params![user_id, account], read_member)
        .optional()?)
}

/// The account that a user signs in to: the one they have belonged to for the longest time.
pub fn first_membership(connection: &Connection, user_id: &str) -> Result<Option<AccountId>> {
    Ok(connection
        .prepare_cached("SELECT account_id FROM membership WHERE user_id = ?1 ORDER BY created_at, account_id LIMIT 1")?
        .query_row([user_id], |row| row.get(0))
        .optional()?)
}

/// Up to `limit` members of an account, by user id, after `after`.
pub fn list_members(connection: &Connection, account: AccountId, after: &str, limit: usize) -> Result<Vec<Member>> {
    let mut statement = connection.prepare_cached(
        "SELECT u.id, u.email, u.name, u.locale, u.time_zone, u.theme, u.password_hash, u.state, u.created_at,
                u.last_sign_in_at, u.is_owner, m.account_id, m.role_id
         FROM membership AS m JOIN user AS u ON u.id = m.user_id
         WHERE m.account_id = ?1 AND m.user_id > ?2 ORDER BY m.user_id LIMIT ?3",
    )?;
    let rows = statement.query_map(params![account, after, limit], read_member)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn set_role(connection: &Connection, user_id: &str, account: AccountId, role_id: &str) -> Result<()> {
    connection.execute(
        "UPDATE membership SET role_id = ?3 WHERE user_id = ?1 AND account_id = ?2",
        params![user_id, account, role_id],
    )?;
    Ok(())
}

pub(super) fn set_profile(
    connection: &Connection,
    user_id: &str,
    name: &str,
    locale: &str,
    time_zone: &str,
    theme: &str,
) -> Result<()> {
    connection.execute(
        "UPDATE user SET name = ?2, locale = ?3, time_zone = ?4, theme = ?5 WHERE id = ?1",
        params![user_id, name, locale, time_zone, theme],
    )?;
    Ok(())
}

pub(super) fn set_password(connection: &Connection, user_id: &str, hash: &str, now: Time) -> Result<()> {
    connection.execute(
        "UPDATE user SET password_hash = ?2, password_changed_at = ?3 WHERE id = ?1",
        params![user_id, hash, now],
    )?;
    Ok(())
}

/// Puts a hash with today's parameters in the place of `old`; does nothing if the password was changed meanwhile.
pub fn replace_hash(connection: &Connection, user_id: &str, old: &PasswordHash, new: &PasswordHash) -> Result<()> {
    connection.execute(
        "UPDATE user SET password_hash = ?3 WHERE id = ?1 AND password_hash = ?2",
        params![user_id, old.0, new.0],
    )?;
    Ok(())
}

/// Remembers when the user last signed in.
pub fn note_sign_in(connection: &Connection, user_id: &str, now: Time) -> Result<()> {
    connection.prepare_cached("UPDATE user SET last_sign_in_at = ?2 WHERE id = ?1")?.execute(params![user_id, now])?;
    Ok(())
}
