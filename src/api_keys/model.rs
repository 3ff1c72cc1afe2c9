//! What a key is, what it is made from, and the rules for both.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    clock::{DAY, Time},
    error::{Error, FieldError, Result},
    principal::{AccountId, urn},
};

/// How long a key lives when nothing is said.
pub(super) const LIFETIME_DEFAULT_US: i64 = 365 * DAY;
/// Later than this is "never" by another name.
const LIFETIME_MAX_US: i64 = 5 * 365 * DAY;
const ALLOWED_MAX: usize = 64;

/// A key as stored; the secret's hash stays in the table.
#[derive(Debug, Clone)]
pub struct ApiKey {
    pub id: String,
    pub account_id: AccountId,
    pub alias: String,
    pub description: String,
    pub role_id: String,
    pub is_enabled: bool,
    pub allowed_ips: Vec<IpAddr>,
    pub allowed_cidrs: Vec<IpNet>,
    pub created_at: Time,
    pub expires_at: Option<Time>,
    pub last_activity_at: Option<Time>,
    /// The user who made it; `None` when it was made at the command line.
    pub made_by: Option<String>,
}

impl ApiKey {
    /// The key's URN.
    pub fn urn(&self, region: &str) -> String {
        urn("identity", region, Some(self.account_id), "api-key", &self.id)
    }

    pub fn is_expired(&self, now: Time) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Whether it may be used from `address`. No list at all means from anywhere.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        (self.allowed_ips.is_empty() && self.allowed_cidrs.is_empty())
            || self.allowed_ips.contains(&address)
            || self.allowed_cidrs.iter().any(|net| net.contains(&address))
    }

    /// `active`, `locked` or `expired`.
    pub fn state(&self, now: Time) -> &'static str {
        match (self.is_enabled, self.is_expired(now)) {
            (false, _) => "locked",
            (true, true) => "expired",
            (true, false) => "active",
        }
    }

    /// What the audit log compares.
    pub(super) fn record(&self) -> serde_json::Value {
        serde_json::json!({
            "alias": self.alias,
            "description": self.description,
            "roleId": self.role_id,
            "enabled": self.is_enabled,
            "allowedIPs": self.allowed_ips,
            "allowedCIDRs": self.allowed_cidrs,
            "expiresAt": self.expires_at,
        })
    }
}

/// A key as the API writes it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyView {
    id: String,
    alias: String,
    description: String,
    role_id: String,
    #[serde(rename = "allowedIPs")]
    #[schema(value_type = Vec<String>)]
    allowed_ips: Vec<IpAddr>,
    #[serde(rename = "allowedCIDRs")]
    #[schema(value_type = Vec<String>)]
    allowed_cidrs: Vec<IpNet>,
    /// `null`: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Time>,
    enabled: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_activity: Option<Time>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    /// Only in the answer that made the key; it cannot be shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<String>,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            alias: key.alias,
            description: key.description,
            role_id: key.role_id,
            allowed_ips: key.allowed_ips,
            allowed_cidrs: key.allowed_cidrs,
            expires_at: key.expires_at,
            enabled: key.is_enabled,
            last_activity: key.last_activity_at,
            created_at: key.created_at,
            secret: None,
        }
    }
}

/// When a key is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expiry {
    /// Not said: a year for a new key, unchanged for an old one.
    #[default]
    Unsaid,
    /// Said to be `null`.
    Never,
    At(Time),
}

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<Time>::deserialize(deserializer)?.map_or(Self::Never, Self::At))
    }
}

/// A new key (`alias` and `roleId` are needed), or what is to change about one: absent fields stay as they are.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KeyInput {
    /// Unique within the account.
    #[schema(min_length = 1, max_length = 64)]
    pub alias: Option<String>,
    #[schema(max_length = 500)]
    pub description: Option<String>,
    pub role_id: Option<String>,
    /// Addresses from which the key may be used. With `allowedCIDRs` empty too: from anywhere.
    #[serde(rename = "allowedIPs")]
    #[schema(max_items = 64)]
    pub allowed_ips: Option<Vec<String>>,
    /// Networks from which the key may be used.
    #[serde(rename = "allowedCIDRs")]
    #[schema(max_items = 64)]
    pub allowed_cidrs: Option<Vec<String>>,
    /// RFC 3339. Absent: in a year. `null`: never, which takes the role full-access.
    #[serde(default, skip_serializing)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Expiry,
    /// `false` locks the key out.
    pub enabled: Option<bool>,
}

/// What is left of an input once every field was checked.
pub(super) struct Checked {
    pub(super) alias: Option<String>,
    pub(super) description: Option<String>,
    pub(super) role_id: Option<String>,
    pub(super) allowed_ips: Option<Vec<IpAddr>>,
    pub(super) allowed_cidrs: Option<Vec<IpNet>>,
    pub(super) expiry: Expiry,
    pub(super) is_enabled: Option<bool>,
}

impl KeyInput {
    /// Checks every field and names all that are wrong.
    pub(super) fn check(self, now: Time) -> Result<Checked> {
        let mut wrong = Vec::new();
        let alias = self.alias.map(|alias| alias.trim().to_owned());
        if alias.as_deref().is_some_and(|alias| {
            !(1..=64).contains(&alias.chars().count()) || alias.chars().any(char::is_control) || alias.contains(':')
        }) {
            wrong.push(FieldError::new("alias", "Enter 1 to 64 characters on one line, without a colon."));
        }
        let description = self.description.map(|text| text.trim().to_owned());
        if description.as_deref().is_some_and(|text| text.chars().count() > 500) {
            wrong.push(FieldError::new("description", "At most 500 characters."));
        }
        let allowed_ips = self.allowed_ips.map(|list| {
            read_list(&list, "allowedIPs", "an address such as 10.0.0.5 or 2001:db8::5", &mut wrong, |text| {
                text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
            })
        });
        let allowed_cidrs = self.allowed_cidrs.map(|list| {
            read_list(&list, "allowedCIDRs", "a network such as 10.0.0.0/24 or 2001:db8::/48", &mut wrong, |text| {
                text.parse::<IpNet>().ok().map(|net| net.trunc())
            })
        });
        if let Expiry::At(at) = self.expires_at {
            if at <= now {
                wrong.push(FieldError::new("expiresAt", "This is in the past."));
            } else if at.since(now) > LIFETIME_MAX_US {
                wrong.push(FieldError::new("expiresAt", "At most five years from now."));
            }
        }
        if !wrong.is_empty() {
            return Err(Error::Invalid(wrong));
        }
        Ok(Checked {
            alias,
            description,
            role_id: self.role_id,
            allowed_ips,
            allowed_cidrs,
            expiry: self.expires_at,
            is_enabled: self.enabled,
        })
    }
}

fn read_list<T: PartialEq>(
    list: &[String],
    field: &str,
    expected: &str,
    wrong: &mut Vec<FieldError>,
    read: impl Fn(&str) -> Option<T>,
) -> Vec<T> {
    if list.len() > ALLOWED_MAX {
        wrong.push(FieldError::new(field, format!("At most {ALLOWED_MAX} entries.")));
        return Vec::new();
    }
    let mut values: Vec<T> = Vec::with_capacity(list.len());
    for text in list {
        match read(text.trim()) {
            Some(value) if values.contains(&value) => {}
            Some(value) => values.push(value),
            None => {
                let shown: String = text.chars().take(60).collect();
                wrong.push(FieldError::new(field, format!("`{shown}` is not {expected}.")));
                return Vec::new();
            }
        }
    }
    values
}
