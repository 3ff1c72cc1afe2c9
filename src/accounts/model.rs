//! What an account is, and how it may be called.

use serde::Serialize;

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
