//! What an account is, and how it may be called.

use serde::{Deserialize, Serialize};

use crate::{
    audit::Entry,
    clock::Time,
    error::{Error, Result},
    principal::AccountId,
};

/// Whether an account's users and keys may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccountState {
    Active,
    Suspended,
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
    pub mfa_required: bool,
    /// For how many days the past of its directories is kept.
    pub history_days: i64,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
}

impl Account {
    pub fn is_active(&self) -> bool {
        self.state == AccountState::Active
    }

    /// The record of its making.
    pub fn created(&self) -> Entry {
        Entry::new("audit.account_created.v1")
            .account(self.id)
            .subject(super::account_urn(self))
            .changes(serde_json::json!({}), serde_json::json!({"alias": self.alias, "region": self.region}))
    }
}

/// What of an account is to be different; absent fields stay as they are.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = AccountUpdate)]
pub struct UpdateInput {
    /// For how many days the past of its directories is kept: 30 to 3650. What is older is deleted within a day.
    #[schema(minimum = 30, maximum = 3650)]
    pub history_days: Option<i64>,
}

/// How long the past is kept unless the account says otherwise: a year, and time to notice that it is over.
pub const HISTORY_DAYS_DEFAULT: i64 = 400;
const HISTORY_DAYS_MIN: i64 = 30;
const HISTORY_DAYS_MAX: i64 = 3_650;

impl UpdateInput {
    /// The account with these changes.
    pub(super) fn applied_to(&self, account: &Account) -> Result<Account> {
        let history_days = self.history_days.unwrap_or(account.history_days);
        if !(HISTORY_DAYS_MIN..=HISTORY_DAYS_MAX).contains(&history_days) {
            return Err(Error::field(
                "historyDays",
                format!("Keep the history for {HISTORY_DAYS_MIN} to {HISTORY_DAYS_MAX} days."),
            ));
        }
        Ok(Account { history_days, ..account.clone() })
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
