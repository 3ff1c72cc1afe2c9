//! From a key as sent to a principal: the check at the door.
//!
//! It must never let time or answer tell why a key was refused; the audit log says it, once a minute per key and
//! reason, so that a flood of refusals does not fill the log.

use rusqlite::Connection;

use super::{model::ApiKey, queries};
use crate::{
    accounts::{self, Account},
    audit::{self, Entry, Flood, Outcome},
    clock::{MINUTE, Time},
    error::Result,
    kernel::Kernel,
    principal::{Principal, PrincipalKind, PrincipalParts},
    roles::{self, Role},
    secret,
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
    Valid {
        key: Box<ApiKey>,
        role: Box<Role>,
        account: Box<Account>,
    },
}

fn judge(connection: &Connection, sent: &KeyPair, address: &Address, now: Time) -> Result<Verdict> {
    let sent_hash = secret::sha256(sent.secret.expose().as_bytes());
    let Some((key, hash)) = queries::find_with_secret(connection, &sent.id)? else {
        // The same comparison as for a key that exists.
        let _ = secret::equal(&sent_hash, &[0; 32]);
        return Ok(Verdict::Unknown);
    };
    let is_right = secret::equal(&sent_hash, &hash);
    let account = accounts::find(connection, key.account_id)?;
    let reason = match (&account, is_right) {
        (_, false) => "the secret is wrong",
        _ if !key.is_enabled => "the key is locked out",
        _ if key.is_expired(now) => "the key has expired",
        _ if !key.allows(address.ip) => "the key may not be used from this address",
        (None, true) => "the account does not exist",
        (Some(account), true) if !account.is_active() => "the account is suspended",
        (Some(account), true) => {
            let account = Box::new(account.clone());
            let role = Box::new(roles::held(connection, account.id, &key.role_id)?);
            return Ok(Verdict::Valid { key: Box::new(key), role, account });
        }
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
            Verdict::Valid { key, role, account } => {
                let is_due = key.last_activity_at.is_none_or(|at| now.since(at) >= TOUCH_EVERY_US || at > now);
                if is_due {
                    let (id, address) = (key.id.clone(), address.ip.to_string());
                    // Not waited for: the request must not be slowed down by a note about itself.
                    if let Err(error) = kernel.db.bulk_queued(move |c| queries::note_activity(c, &id, &address, now)) {
                        tracing::warn!(%error, "a key's last use could not be noted");
                    }
                }
                Ok(Some(principal(&key, &role, &account, &address)))
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

fn principal(key: &ApiKey, role: &Role, account: &Account, address: &Address) -> Principal {
    Principal::new(PrincipalParts {
        kind: PrincipalKind::ApiKey,
        account: Some(account.id),
        account_alias: account.alias.clone(),
        region: account.region.clone(),
        id: key.id.clone(),
        person: key.made_by.clone().unwrap_or_else(|| key.id.clone()),
        name: key.alias.clone(),
        email: String::new(),
        role_id: key.role_id.clone(),
        rights: role.rights,
        scope: role.scope.clone(),
        is_owner: false,
        session_id: None,
        address: Some(address.ip),
        request_id: Some(address.request_id.clone()),
        time_zone: String::new(),
        theme: "auto".into(),
        locale: "en".into(),
    })
}
