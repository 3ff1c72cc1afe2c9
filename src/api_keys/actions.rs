//! Creating, changing, locking out and removing keys.

use rusqlite::Connection;
use serde_json::json;

use super::{
    model::{ApiKey, Expiry, KeyInput, LIFETIME_DEFAULT_US},
    queries,
};
use crate::{
    audit::{self, Entry},
    clock::Time,
    error::{Error, Result},
    kernel::Kernel,
    principal::{Level, Principal, PrincipalKind, Rights, urn},
    roles,
    secret::{self, Secret},
};

/// Keys of one account; a program that makes keys in a loop must not fill the table.
const KEYS_MAX: usize = 1_000;
/// Lets a secret scanner recognise what it found.
const SECRET_PREFIX: &str = "bwk_";

/// A key that was just made, with the only copy of its secret.
pub struct CreatedKey {
    pub key: ApiKey,
    pub secret: Secret<String>,
}

/// The role that a key is to have or has: nobody grants more than they hold.
fn check_grant(connection: &Connection, principal: &Principal, role_id: &str) -> Result<()> {
    let role = roles::find(connection, principal.account()?, role_id)?;
    roles::check_grant(principal, &role.ok_or_else(|| Error::field("roleId", "There is no such role."))?)
}

/// A key that never ends can only be made by those who may do everything.
fn check_never(rights: &Rights) -> Result<()> {
    if rights.includes(&Rights::all(Level::Full)) {
        return Ok(());
    }
    Err(Error::Forbidden("Only the role full-access can make a key that never expires.".into()))
}

fn alias_taken() -> Error {
    Error::field("alias", "There is already a key with this alias.")
}

fn insert(connection: &Connection, principal: &Principal, input: KeyInput, now: Time) -> Result<(CreatedKey, Entry)> {
    let account = principal.account()?;
    let input = input.check(now)?;
    let mut missing = Vec::new();
    if input.alias.is_none() {
        missing.push(crate::error::FieldError::new("alias", "Give the key an alias."));
    }
    if input.role_id.is_none() {
        missing.push(crate::error::FieldError::new("roleId", "Choose a role."));
    }
    let (Some(alias), Some(role_id)) = (input.alias, input.role_id) else {
        return Err(Error::Invalid(missing));
    };
    check_grant(connection, principal, &role_id)?;
    let expires_at = match input.expiry {
        Expiry::Unsaid => Some(now.plus(LIFETIME_DEFAULT_US)),
        Expiry::At(at) => Some(at),
        Expiry::Never => {
            check_never(&principal.rights)?;
            None
        }
    };
    if queries::list(connection, account, None, KEYS_MAX)?.len() >= KEYS_MAX {
        return Err(Error::Conflict(format!("This account has {KEYS_MAX} keys. Remove those that are not used.")));
    }
    let secret = Secret::new(format!("{SECRET_PREFIX}{}", secret::random_token().expose()));
    let key = ApiKey {
        id: uuid::Uuid::now_v7().to_string(),
        account_id: account,
        alias,
        description: input.description.unwrap_or_default(),
        role_id,
        is_enabled: input.is_enabled.unwrap_or(true),
        allowed_ips: input.allowed_ips.unwrap_or_default(),
        allowed_cidrs: input.allowed_cidrs.unwrap_or_default(),
        created_at: now,
        expires_at,
        last_activity_at: None,
        made_by: match principal.kind {
            PrincipalKind::User | PrincipalKind::ApiKey => Some(principal.person.clone()),
            _ => None,
        },
    };
    if !queries::insert(connection, &key, &secret::sha256(secret.expose().as_bytes()))? {
        return Err(alias_taken());
    }
    let entry =
        Entry::new("audit.api_key_created.v1").subject(key.urn(&principal.region)).changes(json!({}), key.record());
    Ok((CreatedKey { key, secret }, entry))
}

/// Makes a key in the principal's account.
pub(super) async fn create(kernel: &Kernel, principal: &Principal, input: KeyInput) -> Result<CreatedKey> {
    let (who, now) = (principal.clone(), kernel.clock.now());
    let attempt = Entry::new("audit.api_key_created.v1").detail("roleId", &input.role_id);
    audit::attempt(kernel, principal, attempt, move |c| {
        let (created, entry) = insert(c, &who, input, now)?;
        Ok((created, vec![entry]))
    })
    .await
}

/// Makes a key by the command line.
pub fn create_blocking(kernel: &Kernel, principal: &Principal, input: KeyInput) -> Result<CreatedKey> {
    let (who, now) = (principal.clone(), kernel.clock.now());
    audit::change_blocking(kernel, principal, move |c| {
        let (created, entry) = insert(c, &who, input, now)?;
        Ok((created, vec![entry]))
    })
}

/// Changes the fields that are given.
pub(super) async fn update(kernel: &Kernel, principal: &Principal, id: String, input: KeyInput) -> Result<ApiKey> {
    let (account, now) = (principal.account()?, kernel.clock.now());
    let input = input.check(now)?;
    let who = principal.clone();
    let attempt = Entry::new("audit.api_key_updated.v1")
        .subject(urn("identity", &principal.region, Some(account), "api-key", &id))
        .detail("roleId", &input.role_id);
    audit::attempt(kernel, principal, attempt, move |c| {
        let before = queries::find(c, account, &id)?.ok_or(Error::NotFound("This API key"))?;
        let mut key = before.clone();
        let locks_only = input.is_enabled == Some(false)
            && input.alias.is_none()
            && input.description.is_none()
            && input.role_id.is_none()
            && input.allowed_ips.is_none()
            && input.allowed_cidrs.is_none()
            && input.expiry == Expiry::Unsaid;
        // Locking out takes rights away, which may always be done; anything else could give them.
        if !locks_only {
            roles::check_grant(&who, &roles::held(c, account, &before.role_id)?)?;
        }
        if let Some(role_id) = input.role_id {
            check_grant(c, &who, &role_id)?;
            key.role_id = role_id;
        }
        key.alias = input.alias.unwrap_or(key.alias);
        key.description = input.description.unwrap_or(key.description);
        key.allowed_ips = input.allowed_ips.unwrap_or(key.allowed_ips);
        key.allowed_cidrs = input.allowed_cidrs.unwrap_or(key.allowed_cidrs);
        key.is_enabled = input.is_enabled.unwrap_or(key.is_enabled);
        match input.expiry {
            Expiry::Unsaid => {}
            Expiry::At(at) => key.expires_at = Some(at),
            Expiry::Never if before.expires_at.is_none() => {}
            Expiry::Never => {
                check_never(&who.rights)?;
                key.expires_at = None;
            }
        }
        if key.record() == before.record() {
            return Ok((key, Vec::new()));
        }
        if !queries::update(c, &key)? {
            return Err(alias_taken());
        }
        let kind = match (before.is_enabled, key.is_enabled) {
            (true, false) => "audit.api_key_locked_out.v1",
            (false, true) => "audit.api_key_unlocked.v1",
            _ => "audit.api_key_updated.v1",
        };
        let entry = Entry::new(kind).subject(key.urn(&who.region)).changes(before.record(), key.record());
        Ok((key, vec![entry]))
    })
    .await
}

/// Removes a key for good.
pub(super) async fn remove(kernel: &Kernel, principal: &Principal, id: String) -> Result<()> {
    let (account, region) = (principal.account()?, principal.region.clone());
    audit::change(kernel, principal, move |c| {
        let key = queries::find(c, account, &id)?.ok_or(Error::NotFound("This API key"))?;
        queries::delete(c, account, &id)?;
        let entry = Entry::new("audit.api_key_removed.v1").subject(key.urn(&region)).changes(key.record(), json!({}));
        Ok(((), vec![entry]))
    })
    .await
}
