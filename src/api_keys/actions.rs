//! Creating, changing, locking out and removing keys, and what an account lets them do.

use rusqlite::Connection;
use serde_json::json;

use super::{
    model::{Administers, ApiKey, Expiry, KeyInput, LIFETIME_DEFAULT_US, SECRET_PREFIX, key_urn},
    queries::{self, NewSecret},
    standing::Standing,
};
use crate::{
    audit::{self, Entry},
    clock::Time,
    error::{Error, FieldError, Result},
    kernel::Kernel,
    principal::{AccountId, Principal, PrincipalKind, urn},
    roles,
    secret::{self, Secret},
};

/// Keys of one account; a program that makes keys in a loop must not fill the table.
const KEYS_MAX: usize = 1_000;

/// A key with the only copy of its new secret.
pub struct CreatedKey {
    pub key: ApiKey,
    pub secret: Secret<String>,
}

/// A secret that was just drawn.
pub(super) struct DrawnSecret {
    pub(super) whole: Secret<String>,
    hash: [u8; 32],
    start: String,
}

impl DrawnSecret {
    /// 256 random bits behind the prefix.
    pub(super) fn draw() -> Self {
        let token = secret::random_token();
        let start = token.expose().chars().take(4).collect();
        let whole = Secret::new(format!("{SECRET_PREFIX}{}", token.expose()));
        Self { hash: secret::sha256(whole.expose().as_bytes()), whole, start }
    }

    pub(super) fn stored<'a>(&'a self, shown_to: &'a str) -> NewSecret<'a> {
        NewSecret { hash: &self.hash, start: &self.start, shown_to }
    }
}

/// The person who sees a secret that `principal` has drawn for key `id`. Of the command line nobody is known: a key that
/// was shown there is a person of its own.
pub(super) fn shown_to(principal: &Principal, id: &str) -> String {
    match principal.kind {
        PrincipalKind::User | PrincipalKind::ApiKey => principal.person.clone(),
        _ => id.to_owned(),
    }
}

/// The role that a key is to have or has: nobody grants more than they hold.
fn check_grant(connection: &Connection, principal: &Principal, role_id: &str) -> Result<()> {
    let role = roles::find(connection, principal.account()?, role_id)?;
    roles::check_grant(principal, &role.ok_or_else(|| Error::field("roleId", "There is no such role."))?)
}

/// A key that never ends can only be made by those who may do everything.
fn check_never(principal: &Principal) -> Result<()> {
    if principal.holds_everything() {
        return Ok(());
    }
    Err(Error::Forbidden("Only the role full-access can make a key that never expires.".into()))
}

/// Leave to administer comes from a person, never from a key (HOSTILE R08).
fn check_gives_leave(principal: &Principal) -> Result<()> {
    if principal.kind == PrincipalKind::User && principal.holds_everything() {
        return Ok(());
    }
    Err(Error::Forbidden(
        "Only a user with the role full-access, in the console, can let a key administer users, roles and keys.".into(),
    ))
}

/// Whether a new key may administer. On the machine itself full access means what it says.
fn administers(principal: &Principal, wanted: Option<bool>, role_id: &str) -> Result<Administers> {
    if principal.kind == PrincipalKind::CommandLine {
        let is_given = wanted.unwrap_or(role_id == roles::FULL_ACCESS);
        return Ok(if is_given { Administers::Always } else { Administers::No });
    }
    if wanted != Some(true) {
        return Ok(Administers::No);
    }
    check_gives_leave(principal)?;
    Ok(Administers::IfAllowed)
}

fn alias_taken() -> Error {
    Error::field("alias", "There is already a key with this alias.")
}

fn insert(connection: &Connection, principal: &Principal, input: KeyInput, now: Time) -> Result<(CreatedKey, Entry)> {
    let account = principal.account()?;
    let input = input.check(now)?;
    let mut missing = Vec::new();
    if input.alias.is_none() {
        missing.push(FieldError::new("alias", "Give the key an alias."));
    }
    if input.role_id.is_none() {
        missing.push(FieldError::new("roleId", "Choose a role."));
    }
    let (Some(alias), Some(role_id)) = (input.alias, input.role_id) else {
        return Err(Error::Invalid(missing));
    };
    check_grant(connection, principal, &role_id)?;
    let expires_at = match input.expiry {
        Expiry::Unsaid => Some(now.plus(LIFETIME_DEFAULT_US)),
        Expiry::At(at) => Some(at),
        Expiry::Never => {
            check_never(principal)?;
            None
        }
    };
    if queries::count(connection, account)? >= KEYS_MAX {
        return Err(Error::Conflict(format!("This account has {KEYS_MAX} keys. Remove those that are not used.")));
    }
    let drawn = DrawnSecret::draw();
    let user = principal.answerer.clone();
    let key = ApiKey {
        id: uuid::Uuid::now_v7().to_string(),
        account_id: account,
        alias,
        description: input.description.unwrap_or_default(),
        locale: input.locale.unwrap_or_else(|| "en".into()),
        time_zone: input.time_zone.unwrap_or_default(),
        administers: administers(principal, input.may_administer, &role_id)?,
        role_id,
        secret_start: format!("{SECRET_PREFIX}{}", drawn.start),
        previous: None,
        is_enabled: input.is_enabled.unwrap_or(true),
        allowed_ips: input.allowed_ips.unwrap_or_default(),
        allowed_cidrs: input.allowed_cidrs.unwrap_or_default(),
        created_at: now,
        made_by: user.clone(),
        answered_by: user,
        expires_at,
        warned_days: None,
        last_activity_at: None,
        last_address: None,
    };
    let person = shown_to(principal, &key.id);
    if !queries::insert(connection, &key, &drawn.stored(&person))? {
        return Err(alias_taken());
    }
    let entry =
        Entry::new("audit.api_key_created.v1").subject(key.urn(&principal.region)).changes(json!({}), key.record());
    Ok((CreatedKey { key, secret: drawn.whole }, entry))
}

/// Makes a key in the principal's account.
pub(super) async fn create(kernel: &Kernel, principal: &Principal, input: KeyInput) -> Result<CreatedKey> {
    let (who, now) = (principal.clone(), kernel.clock.now());
    let attempt = Entry::new("audit.api_key_created.v1")
        .detail("alias", &input.alias)
        .detail("roleId", &input.role_id)
        .detail("mayAdminister", input.may_administer);
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

/// The key with this id in an account, which the principal may change: nobody touches more than they hold.
pub(super) fn changeable(
    connection: &Connection,
    principal: &Principal,
    account: AccountId,
    id: &str,
) -> Result<ApiKey> {
    let key = queries::find(connection, account, id)?.ok_or(Error::NotFound("This API key"))?;
    roles::check_grant(principal, &roles::held(connection, account, &key.role_id)?)?;
    Ok(key)
}

/// Changes the fields that are given.
pub(super) async fn update(kernel: &Kernel, principal: &Principal, id: String, input: KeyInput) -> Result<Standing> {
    let (account, now) = (principal.account()?, kernel.clock.now());
    let attempt = Entry::new("audit.api_key_updated.v1")
        .subject(key_urn(&principal.region, account, &id))
        .detail("roleId", &input.role_id)
        .detail("mayAdminister", input.may_administer)
        .detail("takeOver", input.take_over);
    let input = input.check(now)?;
    let who = principal.clone();
    audit::attempt(kernel, principal, attempt, move |c| {
        // Locking out takes rights away, which may always be done; anything else could give them.
        let before = match input.is_lock_out() {
            true => queries::find(c, account, &id)?.ok_or(Error::NotFound("This API key"))?,
            false => changeable(c, &who, account, &id)?,
        };
        let mut key = before.clone();
        if let Some(role_id) = input.role_id {
            check_grant(c, &who, &role_id)?;
            key.role_id = role_id;
        }
        key.alias = input.alias.unwrap_or(key.alias);
        key.description = input.description.unwrap_or(key.description);
        key.locale = input.locale.unwrap_or(key.locale);
        key.time_zone = input.time_zone.unwrap_or(key.time_zone);
        key.allowed_ips = input.allowed_ips.unwrap_or(key.allowed_ips);
        key.allowed_cidrs = input.allowed_cidrs.unwrap_or(key.allowed_cidrs);
        key.is_enabled = input.is_enabled.unwrap_or(key.is_enabled);
        match (input.may_administer, key.administers) {
            (Some(true), Administers::No) => {
                check_gives_leave(&who)?;
                key.administers = Administers::IfAllowed;
            }
            (Some(false), _) => key.administers = Administers::No,
            _ => {}
        }
        match input.expiry {
            Expiry::Unsaid => {}
            Expiry::At(at) => key.expires_at = Some(at),
            Expiry::Never if before.expires_at.is_none() => {}
            Expiry::Never => {
                check_never(&who)?;
                key.expires_at = None;
            }
        }
        if key.expires_at != before.expires_at {
            key.warned_days = None;
        }
        if input.takes_over {
            key.answered_by = who.answerer.clone();
        }
        if key.record() == before.record() {
            return Ok((Standing::of(c, key, now)?, Vec::new()));
        }
        if !queries::update(c, &key)? {
            return Err(alias_taken());
        }
        let kind = match (before.is_enabled, key.is_enabled) {
            (true, false) => "audit.api_key_locked_out.v1",
            (false, true) => "audit.api_key_unlocked.v1",
            _ if key.answered_by != before.answered_by => "audit.api_key_taken_over.v1",
            _ => "audit.api_key_updated.v1",
        };
        let entry = Entry::new(kind).subject(key.urn(&who.region)).changes(before.record(), key.record());
        Ok((Standing::of(c, key, now)?, vec![entry]))
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

/// Says whether those of the account's keys that were given leave to administer may.
pub(super) async fn let_keys_administer(kernel: &Kernel, principal: &Principal, lets: bool) -> Result<()> {
    let (who, account) = (principal.clone(), principal.account()?);
    let entry = || {
        Entry::new("audit.api_key_setting_changed.v1").subject(urn(
            "identity",
            &principal.region,
            Some(account),
            "account",
            account,
        ))
    };
    let (attempt, done) = (entry().detail("keysMayAdminister", lets), entry());
    audit::attempt(kernel, principal, attempt, move |c| {
        let before = queries::lets_keys_administer(c, account)?;
        if before == lets {
            return Ok(((), Vec::new()));
        }
        if lets {
            check_gives_leave(&who)?;
        }
        queries::set_lets_keys_administer(c, account, lets)?;
        let entry = done.changes(json!({"keysMayAdminister": before}), json!({"keysMayAdminister": lets}));
        Ok(((), vec![entry]))
    })
    .await
}
