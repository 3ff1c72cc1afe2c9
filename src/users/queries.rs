//! All SQL of the users room.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    model::{Member, User, UserState, fold_email},
    passwords::PasswordHash,
    rules::PasswordRules,
};
use crate::{clock::Time, error::Result, principal::AccountId, proof::Factors, roles};

fn read_user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: row.get(0)?,
        email: row.get(1)?,
        name: row.get(2)?,
        locale: row.get(3)?,
        time_zone: row.get(4)?,
        theme: row.get(5)?,
        password_hash: PasswordHash(row.get(6)?),
        state: state(&row.get::<_, String>(7)?),
        created_at: row.get(8)?,
        last_sign_in_at: row.get(9)?,
        is_owner: row.get(10)?,
        email_verified_at: row.get(11)?,
        password_changed_at: row.get(12)?,
        factors: Factors { totp: row.get(13)?, passkey: row.get(14)?, must_enrol: row.get(15)? },
    })
}

/// A member without the role, which is looked up apart.
struct Membership {
    user: User,
    account_id: AccountId,
    role_id: String,
    state: UserState,
    joined_at: Time,
    last_active_at: Option<Time>,
}

fn read_membership(row: &Row<'_>) -> rusqlite::Result<Membership> {
    Ok(Membership {
        user: read_user(row)?,
        account_id: row.get(16)?,
        role_id: row.get(17)?,
        state: state(&row.get::<_, String>(18)?),
        last_active_at: row.get(19)?,
        joined_at: row.get(20)?,
    })
}

/// Anything that is not plainly enabled is kept out.
fn state(text: &str) -> UserState {
    if text == "enabled" { UserState::Enabled } else { UserState::Disabled }
}

fn with_role(connection: &Connection, row: Membership) -> Result<Member> {
    let Membership { user, account_id, role_id, state, joined_at, last_active_at } = row;
    let role = roles::held(connection, account_id, &role_id)?;
    Ok(Member { user, account_id, role, state, joined_at, last_active_at })
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

/// Makes a user a member of an account.
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
            "SELECT id, email, name, locale, time_zone, theme, password_hash, state, created_at, last_sign_in_at, is_owner,
                    email_verified_at, password_changed_at, has_totp, has_passkey, must_enrol
             FROM user WHERE email_folded = ?1",
        )?
        .query_row([email_folded], read_user)
        .optional()?)
}

/// The user as a member of the account; nothing when they are not one.
pub fn find_member(connection: &Connection, user_id: &str, account: AccountId) -> Result<Option<Member>> {
    let found = connection
        .prepare_cached(
            "SELECT u.id, u.email, u.name, u.locale, u.time_zone, u.theme, u.password_hash, u.state, u.created_at,
                    u.last_sign_in_at, u.is_owner, u.email_verified_at, u.password_changed_at, u.has_totp, u.has_passkey,
                    u.must_enrol, m.account_id, m.role_id, m.state, m.last_active_at, m.created_at
             FROM membership AS m JOIN user AS u ON u.id = m.user_id
             WHERE m.user_id = ?1 AND m.account_id = ?2",
        )?
        .query_row(params![user_id, account], read_membership)
        .optional()?;
    found.map(|row| with_role(connection, row)).transpose()
}

/// The accounts that a user may enter as far as their memberships say, the one they were last active in first.
pub fn accounts_of(connection: &Connection, user_id: &str) -> Result<Vec<AccountId>> {
    let mut statement = connection.prepare_cached(
        "SELECT account_id FROM membership WHERE user_id = ?1 AND state = 'enabled'
         ORDER BY last_active_at DESC NULLS LAST, created_at, account_id",
    )?;
    let rows = statement.query_map([user_id], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Whether a user is a member of any other account, enabled there or not.
pub(super) fn belongs_elsewhere(connection: &Connection, user_id: &str, account: AccountId) -> Result<bool> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM membership WHERE user_id = ?1 AND account_id <> ?2")?
        .exists(params![user_id, account])?)
}

/// What a list of members is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct MemberFilter {
    /// Part of a name or e-mail address, in any case.
    pub q: String,
    pub role: Option<String>,
    pub state: Option<UserState>,
    /// Whether they have a second factor.
    pub mfa_enabled: Option<bool>,
}

/// Up to `limit` members of an account, by user id, after `after`.
pub fn list_members(
    connection: &Connection,
    account: AccountId,
    filter: &MemberFilter,
    after: &str,
    limit: usize,
) -> Result<Vec<Member>> {
    // Each row is read when its turn comes: an account has as many users as an office, not as many as a directory.
    let mut statement = connection.prepare_cached(
        "SELECT u.id, u.email, u.name, u.locale, u.time_zone, u.theme, u.password_hash, u.state, u.created_at,
                u.last_sign_in_at, u.is_owner, u.email_verified_at, u.password_changed_at, u.has_totp, u.has_passkey,
                u.must_enrol, m.account_id, m.role_id, m.state, m.last_active_at, m.created_at
         FROM membership AS m JOIN user AS u ON u.id = m.user_id
         WHERE m.account_id = ?1 AND m.user_id > ?2 AND (?3 IS NULL OR m.role_id = ?3)
           AND (?4 IS NULL OR (?4 = 'enabled') = (m.state = 'enabled' AND u.state = 'enabled'))
           AND (?5 IS NULL OR ?5 = (u.has_totp OR u.has_passkey))
         ORDER BY m.user_id",
    )?;
    let asked = fold_email(&filter.q);
    let state = filter.state.map(UserState::as_str);
    let mut rows =
        statement.query_map(params![account, after, filter.role, state, filter.mfa_enabled], read_membership)?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next().transpose()?
    {
        if asked.is_empty()
            || fold_email(&row.user.name).contains(&asked)
            || fold_email(&row.user.email).contains(&asked)
        {
            found.push(with_role(connection, row)?);
        }
    }
    Ok(found)
}

/// How many members have a role.
pub fn count_by_role(connection: &Connection, account: AccountId, role_id: &str) -> Result<i64> {
    Ok(connection
        .prepare_cached("SELECT count(*) FROM membership WHERE account_id = ?1 AND role_id = ?2")?
        .query_row(params![account, role_id], |row| row.get(0))?)
}

/// The roles of those who can sign in to an account.
pub(super) fn roles_in_use(connection: &Connection, account: AccountId) -> Result<Vec<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT m.role_id FROM membership AS m JOIN user AS u ON u.id = m.user_id
         WHERE m.account_id = ?1 AND m.state = 'enabled' AND u.state = 'enabled'",
    )?;
    let rows = statement.query_map([account], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn set_member(
    connection: &Connection,
    user_id: &str,
    account: AccountId,
    role_id: &str,
    state: UserState,
) -> Result<()> {
    connection
        .prepare_cached("UPDATE membership SET role_id = ?3, state = ?4 WHERE user_id = ?1 AND account_id = ?2")?
        .execute(params![user_id, account, role_id, state.as_str()])?;
    Ok(())
}

pub(super) fn delete_member(connection: &Connection, user_id: &str, account: AccountId) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM membership WHERE user_id = ?1 AND account_id = ?2")?
        .execute(params![user_id, account])?;
    Ok(())
}

/// Remembers that a user was active in an account.
pub fn note_activity(connection: &Connection, user_id: &str, account: AccountId, now: Time) -> Result<()> {
    connection
        .prepare_cached("UPDATE membership SET last_active_at = ?3 WHERE user_id = ?1 AND account_id = ?2")?
        .execute(params![user_id, account, now])?;
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

/// Sets the language that a user reads.
pub fn set_locale(connection: &Connection, user_id: &str, locale: &str) -> Result<()> {
    connection.prepare_cached("UPDATE user SET locale = ?2 WHERE id = ?1")?.execute(params![user_id, locale])?;
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

/// The user with this id.
pub fn find(connection: &Connection, id: &str) -> Result<Option<User>> {
    Ok(connection
        .prepare_cached(
            "SELECT id, email, name, locale, time_zone, theme, password_hash, state, created_at, last_sign_in_at, is_owner,
                    email_verified_at, password_changed_at, has_totp, has_passkey, must_enrol
             FROM user WHERE id = ?1",
        )?
        .query_row([id], read_user)
        .optional()?)
}

/// The owner of the appliance.
pub fn find_owner(connection: &Connection) -> Result<Option<User>> {
    Ok(connection
        .prepare_cached(
            "SELECT id, email, name, locale, time_zone, theme, password_hash, state, created_at, last_sign_in_at, is_owner,
                    email_verified_at, password_changed_at, has_totp, has_passkey, must_enrol
             FROM user WHERE is_owner = 1",
        )?
        .query_row([], read_user)
        .optional()?)
}

/// Makes somebody the owner of the appliance, and nobody else.
pub(super) fn set_owner(connection: &Connection, id: &str) -> Result<()> {
    connection.execute("UPDATE user SET is_owner = 0 WHERE is_owner = 1", [])?;
    connection.execute("UPDATE user SET is_owner = 1 WHERE id = ?1", [id])?;
    Ok(())
}

/// `false` when another user has the address.
pub(super) fn set_email(
    connection: &Connection,
    id: &str,
    email: &str,
    folded: &str,
    verified_at: Option<Time>,
) -> Result<bool> {
    let updated = connection
        .prepare_cached(
            "UPDATE OR IGNORE user SET email = ?2, email_folded = ?3, email_verified_at = ?4 WHERE id = ?1",
        )?
        .execute(params![id, email, folded, verified_at])?;
    Ok(updated > 0)
}

/// Takes a user's address as proved.
pub fn set_verified(connection: &Connection, id: &str, now: Time) -> Result<()> {
    connection
        .prepare_cached("UPDATE user SET email_verified_at = coalesce(email_verified_at, ?2) WHERE id = ?1")?
        .execute(params![id, now])?;
    Ok(())
}

/// A link's token as stored.
pub(super) struct Token {
    pub user_id: String,
    pub email: String,
    /// Who handed it over and where; `None`: it was mailed.
    pub handed: Option<Handover>,
    pub created_at: Time,
    pub expires_at: Time,
}

/// How a link left the appliance that was not mailed.
#[derive(Clone)]
pub(super) struct Handover {
    pub account: AccountId,
    /// The member without whom it would not be; `None`: a key that needs nobody asked for it.
    pub made_by: Option<String>,
}

pub(super) fn insert_token(connection: &Connection, hash: &[u8], purpose: &str, token: &Token) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO user_token (token_hash, user_id, purpose, email, created_at, expires_at, account_id, made_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            hash,
            token.user_id,
            purpose,
            token.email,
            token.created_at,
            token.expires_at,
            token.handed.as_ref().map(|handed| handed.account),
            token.handed.as_ref().and_then(|handed| handed.made_by.as_ref()),
        ])?;
    Ok(())
}

pub(super) fn find_token(connection: &Connection, hash: &[u8], purpose: &str) -> Result<Option<Token>> {
    Ok(connection
        .prepare_cached(
            "SELECT user_id, email, created_at, expires_at, account_id, made_by
             FROM user_token WHERE token_hash = ?1 AND purpose = ?2",
        )?
        .query_row(params![hash, purpose], |row| {
            Ok(Token {
                user_id: row.get(0)?,
                email: row.get(1)?,
                created_at: row.get(2)?,
                expires_at: row.get(3)?,
                handed: match row.get(4)? {
                    Some(account) => Some(Handover { account, made_by: row.get(5)? }),
                    None => None,
                },
            })
        })
        .optional()?)
}

/// How many links of a kind were made for a user since a time.
pub(super) fn count_tokens(connection: &Connection, user_id: &str, purpose: &str, since: Time) -> Result<i64> {
    Ok(connection
        .prepare_cached("SELECT count(*) FROM user_token WHERE user_id = ?1 AND purpose = ?2 AND created_at > ?3")?
        .query_row(params![user_id, purpose, since], |row| row.get(0))?)
}

/// Ends all links of a kind of a user. Their rows stay until they would have ended, so that they are counted.
pub(super) fn end_tokens(connection: &Connection, user_id: &str, purpose: &str, now: Time) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE user_token SET expires_at = ?3 WHERE user_id = ?1 AND purpose = ?2 AND expires_at > ?3",
        )?
        .execute(params![user_id, purpose, now])?;
    Ok(())
}

/// Deletes links that ended some time ago.
pub fn purge_tokens(connection: &Connection, before: Time) -> Result<usize> {
    Ok(connection.execute("DELETE FROM user_token WHERE expires_at < ?1", [before])?)
}

/// Writes which kinds of second factor a user has.
pub fn set_factors(connection: &Connection, user_id: &str, factors: Factors) -> Result<()> {
    connection
        .prepare_cached("UPDATE user SET has_totp = ?2, has_passkey = ?3, must_enrol = ?4 WHERE id = ?1")?
        .execute(params![user_id, factors.totp, factors.passkey, factors.must_enrol])?;
    Ok(())
}

/// How long a password has to be now.
pub fn password_rules(connection: &Connection) -> Result<PasswordRules> {
    let found = connection
        .prepare_cached("SELECT chars_min, chars_min_with_factor FROM password_rule WHERE id = 1")?
        .query_row([], |row| Ok(PasswordRules { chars_min: row.get(0)?, chars_min_with_factor: row.get(1)? }))
        .optional()?;
    Ok(found.unwrap_or_default())
}

pub(super) fn set_password_rules(connection: &Connection, rules: PasswordRules, now: Time) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO password_rule (id, chars_min, chars_min_with_factor, updated_at) VALUES (1, ?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET chars_min = excluded.chars_min,
                 chars_min_with_factor = excluded.chars_min_with_factor, updated_at = excluded.updated_at",
        )?
        .execute(params![rules.chars_min, rules.chars_min_with_factor, now])?;
    Ok(())
}
