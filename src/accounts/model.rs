//! What an account is, how it may be called, and what of it can be changed.

use serde::{Deserialize, Serialize};

use super::regional;
use crate::{
    audit::Entry,
    clock::{HOUR, MINUTE, Time},
    error::{Error, FieldError, Result},
    principal::AccountId,
    proof::{MfaAsked, MfaRule},
};

/// Whether an account's users and keys may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccountState {
    Active,
    /// Nobody and nothing of it works; it is to be deleted if `purgeAt` says so.
    Suspended,
}

impl AccountState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

/// A tenant.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Twelve digits.
    #[schema(value_type = String)]
    pub id: AccountId,
    pub alias: String,
    pub region: String,
    pub state: AccountState,
    /// What everybody who comes in has to prove beyond a password.
    #[serde(flatten, serialize_with = "MfaAsked::write")]
    #[schema(value_type = MfaAsked)]
    pub mfa: MfaRule,
    /// The language of notices to it.
    pub locale: String,
    /// IANA name; empty means UTC.
    pub time_zone: String,
    /// A session ends so long after its last use.
    pub session_idle_minutes: i64,
    /// No session lasts longer.
    pub session_max_hours: i64,
    /// For how many days the past of its directories is kept.
    pub history_days: i64,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// The user who made it.
    #[serde(skip)]
    pub created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub suspended_at: Option<Time>,
    #[serde(skip)]
    pub suspended_by: Option<String>,
    /// When it is deleted with everything it owns.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub purge_at: Option<Time>,
    #[serde(skip)]
    pub restore_asked_at: Option<Time>,
    #[serde(skip)]
    pub restore_asked_by: Option<String>,
    /// What it owns is being deleted.
    #[serde(skip)]
    pub is_purging: bool,
}

impl Account {
    pub fn is_active(&self) -> bool {
        self.state == AccountState::Active
    }

    /// How long a session may be idle, and how old it may be.
    pub fn session_limits_us(&self) -> (i64, i64) {
        (self.session_idle_minutes * MINUTE, self.session_max_hours * HOUR)
    }

    /// The record of its making.
    pub fn created(&self) -> Entry {
        Entry::new("audit.account_created.v1")
            .account(self.id)
            .subject(super::account_urn(self))
            .changes(serde_json::json!({}), serde_json::json!({"alias": self.alias, "region": self.region}))
    }

    /// What the audit log compares.
    pub(super) fn record(&self) -> serde_json::Value {
        serde_json::json!({
            "alias": self.alias,
            "mfaRequired": self.mfa.is_required(),
            "passkeyOnly": self.mfa.is_passkey_only(),
            "locale": self.locale,
            "timeZone": self.time_zone,
            "sessionIdleMinutes": self.session_idle_minutes,
            "sessionMaxHours": self.session_max_hours,
            "historyDays": self.history_days,
        })
    }
}

/// What of an account is to be different; absent fields stay as they are.
#[derive(Debug, Default, Clone, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = AccountUpdate)]
pub struct UpdateInput {
    /// 1 to 63 lower-case letters, digits and hyphens, unique on the appliance.
    pub alias: Option<String>,
    /// Whether everybody who comes in has to prove a second factor.
    pub mfa_required: Option<bool>,
    /// Whether that has to be a passkey; goes with `mfaRequired` only.
    pub passkey_only: Option<bool>,
    /// The language of notices to it.
    pub locale: Option<String>,
    /// IANA name; empty means UTC.
    pub time_zone: Option<String>,
    /// 5 to 480.
    pub session_idle_minutes: Option<i64>,
    /// 1 to 24.
    pub session_max_hours: Option<i64>,
    /// For how many days the past of its directories is kept: 30 to 3650. What is older is deleted within a day.
    #[schema(minimum = 30, maximum = 3650)]
    pub history_days: Option<i64>,
}

/// How long the past is kept unless the account says otherwise: a year, and time to notice that it is over.
pub const HISTORY_DAYS_DEFAULT: i64 = 400;
pub(super) const IDLE_MINUTES_DEFAULT: i64 = 30;
pub(super) const MAX_HOURS_DEFAULT: i64 = 12;

impl UpdateInput {
    /// The account with these changes, or everything that is wrong with them.
    pub(super) fn applied_to(self, account: &Account) -> Result<Account> {
        let mut wrong: Vec<FieldError> = Vec::new();
        let mut number = |field: &str, given: Option<i64>, before: i64, (least, most): (i64, i64), text: &str| {
            let value = given.unwrap_or(before);
            if !(least..=most).contains(&value) {
                wrong.push(FieldError::new(field, text));
            }
            value
        };
        let session_idle_minutes = number(
            "sessionIdleMinutes",
            self.session_idle_minutes,
            account.session_idle_minutes,
            (5, 480),
            "Give 5 to 480 minutes.",
        );
        let session_max_hours = number(
            "sessionMaxHours",
            self.session_max_hours,
            account.session_max_hours,
            (1, 24),
            "Give 1 to 24 hours.",
        );
        let history_days = number(
            "historyDays",
            self.history_days,
            account.history_days,
            (30, 3_650),
            "Keep the history for 30 to 3650 days.",
        );
        let alias = self.alias.map_or_else(|| account.alias.clone(), |alias| alias.trim().to_owned());
        let mfa = account.mfa.changed(self.mfa_required, self.passkey_only).unwrap_or_else(|error| {
            wrong.push(error);
            account.mfa
        });
        let locale = self.locale.unwrap_or_else(|| account.locale.clone());
        let time_zone = self.time_zone.unwrap_or_else(|| account.time_zone.clone());
        for checked in [
            check_alias("alias", &alias),
            regional::check_locale("locale", &locale),
            regional::check_time_zone("timeZone", &time_zone),
        ] {
            match checked {
                Err(Error::Invalid(fields)) => wrong.extend(fields),
                other => other?,
            }
        }
        if !wrong.is_empty() {
            return Err(Error::Invalid(wrong));
        }
        Ok(Account {
            alias,
            mfa,
            locale,
            time_zone,
            session_idle_minutes,
            session_max_hours,
            history_days,
            ..account.clone()
        })
    }
}

/// An alias is 1 to 63 lower-case letters, digits and hyphens, as in a host name (RFC 1123 §2.1), and not a number
/// that could be taken for an id.
pub fn check_alias(field: &str, alias: &str) -> Result<()> {
    let is_fine = (1..=63).contains(&alias.len())
        && alias.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !alias.starts_with('-')
        && !alias.ends_with('-')
        && !alias.bytes().all(|b| b.is_ascii_digit());
    if is_fine {
        return Ok(());
    }
    Err(Error::field(
        field,
        "1 to 63 lower-case letters, digits and hyphens, with at least one letter and no hyphen at either end, such as example-corp.",
    ))
}
