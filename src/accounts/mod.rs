//! Accounts: the appliance itself, its tenants, and the one-time link that makes the first of them.
//!
//! Owns `appliance`, `account` and `contact`. Invariants: nothing of a suspended account works, from the next request,
//! task and run on; a deleted one can be brought back for 30 days and is then gone with everything it owned; the
//! appliance's row is made once and fixes the region and which master key belongs to this database; an account's id has
//! twelve random digits and never changes; a set-up link works only while there is no account, and once (HOSTILE R12). It
//! must never know users: `sign_in` makes the first one in the same transaction.

mod actions;
mod api;
mod contacts;
mod export;
mod model;
mod owned;
mod owner_pages;
mod pages;
mod queries;
mod regional;
#[cfg(test)]
mod tests;

pub use actions::{Belongings, GRACE_US, Owned, Purge, ask_to_restore, purge_due, restore, update};
pub use contacts::{ContactList, Contacts, begin_contacts, contacts};
pub use export::{Exporting, export_blocking};
pub use model::{Account, AccountState, UpdateInput, check_alias};
pub use owned::OWNED;
pub use queries::{
    count, count_by_maker, find, find_by_alias, find_only, history_days, list, per_user, set_maker, suspended,
};
pub use regional::{LOCALES, check_locale, check_time_zone, time_zones};
use rusqlite::Connection;

use crate::{
    clock::{DAY, Time},
    error::{Error, Result},
    principal::{AccountId, Level, Permission, Service, urn},
    proof::MfaRule,
    secret::{self, MasterKey, Secret},
    web::Routes,
};

/// How long a set-up link works.
const SETUP_LIFETIME_US: i64 = DAY;
const KEY_CHECK_PLACE: &str = "appliance:key_check:1";
const KEY_CHECK: &[u8] = b"bailiwick";

/// Whether a master key belongs to this database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFit {
    /// The database is new: nothing was ever sealed.
    Unused,
    Fits,
    Mismatch,
}

/// Compares the master key with the one that the appliance was made with.
pub fn key_fit(connection: &Connection, key: &MasterKey) -> Result<KeyFit> {
    Ok(match queries::key_check(connection)? {
        None => KeyFit::Unused,
        Some(sealed) => match key.open(KEY_CHECK_PLACE, &sealed) {
            Ok(plain) if plain.expose() == KEY_CHECK => KeyFit::Fits,
            _ => KeyFit::Mismatch,
        },
    })
}

/// Whether the appliance's row exists, which means that a master key was in use.
pub fn is_initialised(connection: &Connection) -> Result<bool> {
    Ok(queries::key_check(connection)?.is_some())
}

/// Makes the appliance's row unless it exists; answers the region that holds.
pub fn initialise(connection: &Connection, key: &MasterKey, region: &str, now: Time) -> Result<String> {
    queries::insert_appliance(connection, region, &key.seal(KEY_CHECK_PLACE, KEY_CHECK), now)?;
    queries::region(connection)
}

/// The region fixed at init; `None` for a new database.
pub fn region(connection: &Connection) -> Result<Option<String>> {
    if is_initialised(connection)? { queries::region(connection).map(Some) } else { Ok(None) }
}

/// A new set-up token, which ends every older one; `None` once there is an account.
pub fn new_setup_token(connection: &Connection, now: Time) -> Result<Option<Secret<String>>> {
    if count(connection)? > 0 {
        return Ok(None);
    }
    let token = secret::random_token();
    queries::set_setup_token(connection, &secret::sha256(token.expose().as_bytes()), now.plus(SETUP_LIFETIME_US))?;
    Ok(Some(token))
}

/// Whether a set-up link works now.
pub fn is_setup_open(connection: &Connection, token: &str, now: Time) -> Result<bool> {
    if count(connection)? > 0 {
        return Ok(false);
    }
    let Some((hash, expires_at)) = queries::setup_token(connection)? else { return Ok(false) };
    Ok(now < expires_at && secret::equal(&hash, &secret::sha256(token.as_bytes())))
}

/// Makes an account with a random id; a time zone that is empty is UTC. The caller is inside a transaction and writes the
/// audit record ([`Account::created`]).
pub fn create(
    connection: &Connection,
    alias: &str,
    locale: &str,
    time_zone: &str,
    created_by: Option<&str>,
    now: Time,
) -> Result<Account> {
    check_alias("account", alias)?;
    check_locale("locale", locale)?;
    check_time_zone("timeZone", time_zone)?;
    if find_by_alias(connection, alias)?.is_some() {
        return Err(Error::field("account", "There is already an account with this alias."));
    }
    let region = queries::region(connection)?;
    let id = random_id(connection)?;
    let account = Account {
        id,
        alias: alias.to_owned(),
        region,
        state: AccountState::Active,
        mfa: MfaRule::Optional,
        locale: locale.to_owned(),
        time_zone: time_zone.to_owned(),
        session_idle_minutes: model::IDLE_MINUTES_DEFAULT,
        session_max_hours: model::MAX_HOURS_DEFAULT,
        history_days: model::HISTORY_DAYS_DEFAULT,
        created_at: now,
        created_by: created_by.map(str::to_owned),
        suspended_at: None,
        suspended_by: None,
        purge_at: None,
        restore_asked_at: None,
        restore_asked_by: None,
        is_purging: false,
    };
    queries::insert(connection, &account)?;
    // Once there is an account, no link may ever make another first one.
    queries::clear_setup_token(connection)?;
    Ok(account)
}

/// Random rather than counted: an account's id says nothing about how many there are.
fn random_id(connection: &Connection) -> Result<AccountId> {
    for _ in 0..64 {
        let mut bytes = [0_u8; 8];
        secret::fill_random(&mut bytes);
        let span = u64::try_from(AccountId::MAX - AccountId::MIN + 1).unwrap_or(1);
        let offset = i64::try_from(u64::from_be_bytes(bytes) % span).unwrap_or(0);
        if let Some(id) = AccountId::new(AccountId::MIN + offset)
            && find(connection, id)?.is_none()
        {
            return Ok(id);
        }
    }
    Err(Error::internal("no free account id was found"))
}

/// An account's URN.
pub fn account_urn(account: &Account) -> String {
    urn("identity", &account.region, Some(account.id), "account", account.id)
}

/// Whether an account is there and anything of it works.
pub fn is_active(connection: &Connection, id: AccountId) -> Result<bool> {
    Ok(find(connection, id)?.is_some_and(|account| account.is_active()))
}

/// Refuses for an account in which nothing works.
pub fn check_active(connection: &Connection, id: AccountId) -> Result<()> {
    if is_active(connection, id)? {
        return Ok(());
    }
    Err(Error::Conflict("This account is suspended: nothing of it works.".into()))
}

/// `/api/accounts`, the account's settings, and all accounts for the owner of the appliance.
pub fn routes(routes: &mut Routes) {
    let read = Permission::Needs(Service::Settings, Level::Read);
    let full = Permission::Needs(Service::Settings, Level::Full);
    routes.get("/settings/account", read, pages::show);
    routes.post("/settings/account", full, pages::update);
    routes.get("/settings/account/delete", Permission::Everything, pages::confirm_deletion);
    routes.post("/settings/account/delete", Permission::Everything, pages::delete).asks_again();
    routes.get("/settings/account/export", Permission::Everything, pages::export).asks_again();
    routes.get("/appliance/accounts", Permission::Owner, owner_pages::list);
    routes.post("/appliance/accounts", Permission::Owner, owner_pages::set_limit);
    routes.get("/appliance/accounts/{id}/suspend", Permission::Owner, owner_pages::confirm_suspension);
    routes.post("/appliance/accounts/{id}/suspend", Permission::Owner, owner_pages::suspend).asks_again();
    routes.post("/appliance/accounts/{id}/restore", Permission::Owner, owner_pages::restore).asks_again();
    routes.api::<api::__path_list, _, _>(Permission::SignedIn, api::list);
    routes.api::<api::__path_get, _, _>(Permission::SignedIn, api::get);
    routes.api::<api::__path_modify, _, _>(full, api::modify);
    routes.api::<api::__path_remove, _, _>(Permission::Everything, api::remove);
    routes.api::<api::__path_export, _, _>(Permission::Everything, api::export);
    contacts::routes(routes);
}
