//! From a key as sent to a principal: the check at the door.
//!
//! It must never let time or answer tell why a key was refused; the audit log says it, once a minute per key and
//! reason, so that a flood of refusals does not fill the log.

use std::sync::Arc;

use rusqlite::Connection;

use super::{
    model::{Administers, ApiKey, held_by_key},
    queries::{self, StoredKey},
    standing::{Answerer, answerer, holder},
};
use crate::{
    accounts::{self, Account},
    audit::{self, Entry, Flood, Outcome},
    clock::{MINUTE, Time},
    error::Result,
    kernel::Kernel,
    principal::{Principal, PrincipalKind, PrincipalParts, Rights, Scope},
    roles, secret,
    web::{Address, KeyPair},
};

/// The last use is written at most this often.
const TOUCH_EVERY_US: i64 = MINUTE;

/// The check, with what it remembers between requests; cheap to clone.
#[derive(Clone, Default)]
pub struct Keys {
    refusals: Flood,
}

enum Verdict {
    /// No key has this id.
    Unknown,
    Refused {
        key: Box<ApiKey>,
        reason: &'static str,
    },
    Valid(Box<Valid>),
}

/// Everything that makes a principal of a key.
struct Valid {
    key: ApiKey,
    /// Those that are left to it of its role.
    rights: Rights,
    scope: Option<Arc<Scope>>,
    account: Account,
    /// Who was shown the secret that was sent.
    shown_to: String,
    is_previous: bool,
}

fn judge(connection: &Connection, sent: &KeyPair, address: &Address, now: Time) -> Result<Verdict> {
    let sent_hash = secret::sha256(sent.secret.expose().as_bytes());
    let found = queries::find_with_secrets(connection, &sent.id)?;
    // The same two comparisons whether there is such a key, and whether it has two secrets or one (HOSTILE R06).
    let nothing = [0; 32];
    let hash = found.as_ref().map_or(&nothing[..], |stored| &stored.secret.hash);
    let older = found.as_ref().and_then(|stored| stored.previous.as_ref());
    let is_present = secret::equal(&sent_hash, hash);
    let is_older = secret::equal(&sent_hash, older.map_or(&nothing[..], |older| &older.hash));
    let Some(StoredKey { key, secret, previous }) = found else { return Ok(Verdict::Unknown) };
    let account = accounts::find(connection, key.account_id)?;
    let answerer = answerer(connection, key.account_id, key.answered_by.as_deref())?;
    let shown_to = match (is_present, previous) {
        (false, Some(older)) if is_older => older.shown_to,
        _ => secret.shown_to,
    };
    let is_previous = is_older && !is_present;
    // An old secret is worth what those may who know it: the new answerer was never shown it.
    let holder = match is_previous {
        true => holder(connection, key.account_id, &shown_to)?,
        false => Answerer::Machine,
    };
    let reason = match account {
        _ if !is_present && !is_older => "the secret is wrong",
        _ if is_previous && key.previous(now).is_none() => "the secret was replaced by a new one",
        _ if !key.is_enabled => "the key is locked out",
        _ if key.is_expired(now) => "the key has expired",
        _ if !key.allows(address.ip) => "the key may not be used from this address",
        None => "the account does not exist",
        Some(account) if !account.is_active() => "the account is suspended",
        Some(account) => match answerer.refusal().or_else(|| holder.refusal()) {
            Some(reason) => reason,
            None => {
                let role = roles::held(connection, account.id, &key.role_id)?;
                let may_administer = match key.administers {
                    Administers::No => false,
                    Administers::IfAllowed => queries::lets_keys_administer(connection, account.id)?,
                    Administers::Always => true,
                };
                let (rights, scope) = holder.narrow(answerer.narrow((role.rights, role.scope)));
                let rights = held_by_key(rights, may_administer);
                return Ok(Verdict::Valid(Box::new(Valid { key, rights, scope, account, shown_to, is_previous })));
            }
        },
    };
    Ok(Verdict::Refused { key: Box::new(key), reason })
}

impl Keys {
    /// The principal of a key that is valid now and from this address.
    pub async fn principal(&self, kernel: &Kernel, sent: KeyPair, address: Address) -> Result<Option<Principal>> {
        let now = kernel.clock.now();
        let from = address.clone();
        let verdict = kernel.db.read(move |c| judge(c, &sent, &from, now)).await?;
        match verdict {
            Verdict::Unknown => {
                metrics::counter!("bailiwick_api_keys_refused_total", "reason" => "unknown").increment(1);
                Ok(None)
            }
            Verdict::Refused { key, reason } => {
                metrics::counter!("bailiwick_api_keys_refused_total", "reason" => reason).increment(1);
                self.record_refusal(kernel, &key, reason, &address, now).await?;
                Ok(None)
            }
            Verdict::Valid(valid) => {
                if is_note_due(&valid, now) {
                    let (id, address) = (valid.key.id.clone(), address.ip.to_string());
                    let is_previous = valid.is_previous;
                    // Not waited for: the request must not be slowed down by a note about itself.
                    let noted =
                        kernel.db.bulk_queued(move |c| queries::note_activity(c, &id, &address, is_previous, now));
                    if let Err(error) = noted {
                        tracing::warn!(%error, "a key's last use could not be noted");
                    }
                }
                Ok(Some(principal(*valid, &address)))
            }
        }
    }

    async fn record_refusal(
        &self,
        kernel: &Kernel,
        key: &ApiKey,
        reason: &'static str,
        address: &Address,
        now: Time,
    ) -> Result<()> {
        let Some(suppressed) = self.refusals.admit(&format!("{}:{reason}", key.id), 1, MINUTE, now) else {
            return Ok(());
        };
        let region = &kernel.config.region;
        let stranger = Principal::stranger(region, Some(address.ip), Some(address.request_id.clone()));
        let entry = Entry::new("audit.api_key_refused.v1")
            .account(key.account_id)
            .subject(key.urn(region))
            .outcome(Outcome::Denied)
            .detail("reason", reason)
            .detail("alias", &key.alias)
            .detail("alsoRefusedBefore", suppressed);
        audit::record(kernel, &stranger, vec![entry]).await
    }
}

/// Whether the last note about the use of a key, or of the secret that was sent, is old enough for another.
fn is_note_due(valid: &Valid, now: Time) -> bool {
    let is_old = |at: Option<Time>| at.is_none_or(|at| now.since(at) >= TOUCH_EVERY_US || at > now);
    is_old(valid.key.last_activity_at)
        || valid.is_previous && is_old(valid.key.previous.as_ref().and_then(|previous| previous.used_at))
}

fn principal(valid: Valid, address: &Address) -> Principal {
    let Valid { key, rights, scope, account, shown_to, is_previous: _ } = valid;
    Principal::new(PrincipalParts {
        kind: PrincipalKind::ApiKey,
        account: Some(account.id),
        account_alias: account.alias,
        region: account.region,
        id: key.id,
        person: shown_to,
        answerer: key.answered_by,
        name: key.alias,
        email: String::new(),
        role_id: key.role_id,
        rights,
        scope,
        is_owner: false,
        session_id: None,
        proved_at: None,
        address: Some(address.ip),
        request_id: Some(address.request_id.clone()),
        time_zone: key.time_zone,
        theme: "auto".into(),
        locale: key.locale,
    })
}
