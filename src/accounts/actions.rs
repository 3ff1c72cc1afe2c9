//! What is done to accounts: changing them, and the way out: suspended for a while, then gone.

use rusqlite::Connection;

use super::{
    account_urn,
    contacts::{ContactList, contacts},
    model::{Account, AccountState, UpdateInput},
    queries,
};
use crate::{
    audit::{self, Entry},
    clock::{DAY, Time},
    error::{Error, Result},
    kernel::{BoxFuture, Kernel},
    notifications::{self, AccountSuspended},
    owned::Table,
    principal::{AccountId, Principal},
    secret::MasterKey,
    sessions,
};

/// How long a deleted account can be brought back.
pub const GRACE_US: i64 = 30 * DAY;

/// Changes what may be changed of the principal's account.
pub async fn update(kernel: &Kernel, principal: &Principal, input: UpdateInput) -> Result<Account> {
    let id = principal.account()?;
    audit::change(kernel, principal, move |c| {
        let before = queries::find(c, id)?.ok_or(Error::NotFound("This account"))?;
        let after = input.applied_to(&before)?;
        if after.alias != before.alias && queries::find_by_alias(c, &after.alias)?.is_some() {
            return Err(Error::field("alias", "There is already an account with this alias."));
        }
        if after.record() == before.record() {
            return Ok((after, Vec::new()));
        }
        queries::update(c, &after)?;
        let entry = Entry::new("audit.account_updated.v1")
            .subject(account_urn(&before))
            .changes(before.record(), after.record());
        Ok((after, vec![entry]))
    })
    .await
}

/// Takes an account out of use: nobody and nothing of it works from here on, and its general contacts are told. Never the
/// last one: the owner would have no page left to bring it back on, and once it was gone the appliance would take itself
/// for a new one.
fn suspend(
    c: &Connection,
    key: &MasterKey,
    who: &Principal,
    account: &Account,
    purge_at: Option<Time>,
    now: Time,
) -> Result<Entry> {
    if account.is_active() && queries::count_active_beside(c, account.id)? == 0 {
        return Err(Error::Conflict(
            "This is the only account in use on this appliance. Create another one first, from the list of your accounts."
                .into(),
        ));
    }
    queries::suspend(c, account.id, &who.urn(), now, purge_at)?;
    let ended = sessions::end_account(c, account.id)?;
    let (id, urn) = (account.id.to_string(), who.urn());
    let by = if who.name.is_empty() { urn.as_str() } else { who.name.as_str() };
    let told = AccountSuspended { account: &account.alias, account_id: &id, by, at: now, delete_at: purge_at };
    for to in contacts(c, account.id, ContactList::General)? {
        notifications::notify(c, key, told.mail(&to, &account.locale), now)?;
    }
    let kind = if purge_at.is_some() { "audit.account_deleted.v1" } else { "audit.account_suspended.v1" };
    Ok(Entry::new(kind)
        .account(account.id)
        .subject(account_urn(account))
        .changes(
            serde_json::json!({"state": account.state, "purgeAt": account.purge_at}),
            serde_json::json!({"state": AccountState::Suspended, "purgeAt": purge_at}),
        )
        .detail("sessionsEnded", ended))
}

/// Deletes the principal's account: suspended at once, gone for good after [`GRACE_US`]. `confirm` is its alias.
pub(super) async fn delete(kernel: &Kernel, principal: &Principal, confirm: &str) -> Result<Account> {
    let (id, who, now, confirm) =
        (principal.account()?, principal.clone(), kernel.clock.now(), confirm.trim().to_owned());
    let key = kernel.key.clone();
    audit::change(kernel, principal, move |c| {
        let account = queries::find(c, id)?.ok_or(Error::NotFound("This account"))?;
        if confirm != account.alias {
            return Err(Error::field("confirm", format!("Type {} to confirm.", account.alias)));
        }
        let entry = suspend(c, &key, &who, &account, Some(now.plus(GRACE_US)), now)?;
        let after = queries::find(c, id)?.ok_or(Error::NotFound("This account"))?;
        Ok((after, vec![entry]))
    })
    .await
}

/// Brings a suspended account back: by the owner of the appliance, or at the machine. What it owned is as it was.
pub fn restore(c: &Connection, id: AccountId, now: Time) -> Result<(Account, Entry)> {
    let account = queries::find(c, id)?.ok_or(Error::NotFound("This account"))?;
    if account.is_active() {
        return Err(Error::Conflict("This account is in use already.".into()));
    }
    if account.is_purging || account.purge_at.is_some_and(|at| at <= now) {
        return Err(Error::Conflict("Its 30 days are over: what it owned is being deleted.".into()));
    }
    queries::restore(c, id)?;
    let entry = Entry::new("audit.account_restored.v1").account(id).subject(account_urn(&account)).changes(
        serde_json::json!({"state": account.state, "purgeAt": account.purge_at}),
        serde_json::json!({"state": AccountState::Active, "purgeAt": null}),
    );
    Ok((queries::find(c, id)?.unwrap_or(account), entry))
}

/// Suspends or restores any account, for the owner of the appliance.
pub(super) async fn set_state(
    kernel: &Kernel,
    principal: &Principal,
    id: AccountId,
    state: AccountState,
) -> Result<Account> {
    let (who, now, key) = (principal.clone(), kernel.clock.now(), kernel.key.clone());
    audit::change(kernel, principal, move |c| {
        let account = queries::find(c, id)?.ok_or(Error::NotFound("This account"))?;
        match state {
            AccountState::Active => restore(c, id, now).map(|(account, entry)| (account, vec![entry])),
            AccountState::Suspended if !account.is_active() => {
                Err(Error::Conflict("This account is suspended already.".into()))
            }
            AccountState::Suspended => {
                let entry = suspend(c, &key, &who, &account, None, now)?;
                Ok((queries::find(c, id)?.unwrap_or(account), vec![entry]))
            }
        }
    })
    .await
}

/// Asks the owner of the appliance to bring an account back; `None` when they were asked already.
pub fn ask_to_restore(c: &Connection, id: AccountId, by: &str, now: Time) -> Result<Option<Entry>> {
    let account = queries::find(c, id)?.ok_or(Error::NotFound("This account"))?;
    if account.is_active() {
        return Err(Error::Conflict("This account is in use again. Sign in.".into()));
    }
    if account.restore_asked_at.is_some() {
        return Ok(None);
    }
    queries::ask_to_restore(c, id, by, now)?;
    Ok(Some(Entry::new("audit.account_restore_asked.v1").account(id).subject(account_urn(&account))))
}

/// Sets how many accounts a user other than the owner may have made.
pub(super) async fn set_per_user(kernel: &Kernel, principal: &Principal, count: i64) -> Result<()> {
    if !(0..=100).contains(&count) {
        return Err(Error::field("accountsPerUser", "Give a number from 0 to 100."));
    }
    audit::change(kernel, principal, move |c| {
        let before = queries::per_user(c)?;
        if before == count {
            return Ok(((), Vec::new()));
        }
        queries::set_per_user(c, count)?;
        let changed = |count: i64| serde_json::json!({"accountsPerUser": count});
        Ok(((), vec![Entry::new("audit.appliance_updated.v1").changes(changed(before), changed(count))]))
    })
    .await
}

/// How a room deletes what it owns of an account; in small steps, and may be called again after it was interrupted.
pub type Purge = std::sync::Arc<dyn Fn(AccountId) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// What one room owns of an account.
#[derive(Clone)]
pub struct Owned {
    /// What an export holds of it.
    pub tables: &'static [Table],
    /// How it goes; `None` where it hangs on the account's own row, or stays (the log).
    pub purge: Option<Purge>,
}

/// What all rooms own of an account, and whose directories are whose.
#[derive(Clone)]
pub struct Belongings {
    pub rooms: std::sync::Arc<[Owned]>,
    pub directories: fn(&Connection, AccountId) -> Result<Vec<i64>>,
}

/// Deletes accounts whose time is over, with everything that they own. Users stay; the audit log keeps its records. One
/// that cannot be deleted does not keep the others; it is tried again with the next call.
pub async fn purge_due(kernel: &Kernel, belongings: &Belongings) -> Result<usize> {
    let now = kernel.clock.now();
    let due = kernel.db.read(move |c| queries::to_purge(c, now)).await?;
    let mut purged = 0;
    for account in due {
        let alias = account.alias.clone();
        match purge(kernel, belongings, account, now).await {
            Ok(true) => purged += 1,
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%alias, error = %error.chain(), "a deleted account could not be purged; it is tried again");
            }
        }
    }
    Ok(purged)
}

/// `false` when it was brought back before anything of it was touched.
async fn purge(kernel: &Kernel, belongings: &Belongings, account: Account, now: Time) -> Result<bool> {
    let id = account.id;
    let principal = Principal::scheduler(&kernel.config.region, id);
    let begun = account.clone();
    let goes_on = audit::change(kernel, &principal, move |c| {
        let goes_on = queries::begin_purge(c, id, now)?;
        // Once, however often it is interrupted: from here on there is no way back.
        let is_first = goes_on && !begun.is_purging;
        let entry = Entry::new("audit.account_purge_begun.v1").subject(account_urn(&begun));
        Ok((goes_on, is_first.then_some(entry).into_iter().collect()))
    });
    if !goes_on.await? {
        return Ok(false);
    }
    for purge in belongings.rooms.iter().filter_map(|room| room.purge.as_ref()) {
        purge(id).await?;
    }
    audit::change(kernel, &principal, move |c| {
        queries::delete(c, id)?;
        let entry = Entry::new("audit.account_purged.v1").subject(account_urn(&account));
        Ok((true, vec![entry.detail("alias", account.alias)]))
    })
    .await
}
