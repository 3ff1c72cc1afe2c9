//! What a key is, what it is made from, and the rules for both.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer};

use crate::{
    accounts,
    clock::{DAY, Time},
    error::{Error, FieldError, Result},
    principal::{AccountId, Level, Rights, Service, urn},
};

/// How long a key lives when nothing is said.
pub(super) const LIFETIME_DEFAULT_US: i64 = 365 * DAY;
/// Later than this is "never" by another name.
const LIFETIME_MAX_US: i64 = 5 * 365 * DAY;
const ALLOWED_MAX: usize = 64;
/// Its end is told so many days before, the last warning first. A key that never had so long to live is not warned of it.
const WARNINGS_DAYS: [i64; 2] = [7, 30];
/// Lets a secret scanner recognise what it found.
pub(super) const SECRET_PREFIX: &str = "bwk_";

/// Whether a key may change users, roles, keys and identity providers where its role says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Administers {
    No,
    /// While the account's setting lets its keys.
    IfAllowed,
    /// Said on the machine itself: whoever has that has everything.
    Always,
}

impl Administers {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::IfAllowed => "if-allowed",
            Self::Always => "always",
        }
    }

    /// What cannot be read is no.
    pub(super) fn parse(text: &str) -> Self {
        [Self::IfAllowed, Self::Always].into_iter().find(|known| known.as_str() == text).unwrap_or(Self::No)
    }
}

/// What of a role's rights a key has: without leave to administer, it may only look at what administration is about.
pub(super) fn held_by_key(rights: Rights, may_administer: bool) -> Rights {
    match may_administer {
        true => rights,
        false => rights.with(Service::Identity, rights.level(Service::Identity).min(Level::Read)),
    }
}

/// The secret before the present one.
#[derive(Debug, Clone)]
pub struct PreviousSecret {
    pub start: String,
    /// Works until then.
    pub ends_at: Time,
    /// When it was last used, since it is the previous one.
    pub used_at: Option<Time>,
}

/// A key as stored; the hashes of its secrets stay in the table.
#[derive(Debug, Clone)]
pub struct ApiKey {
    pub id: String,
    pub account_id: AccountId,
    pub alias: String,
    pub description: String,
    pub locale: String,
    /// IANA name; empty means UTC.
    pub time_zone: String,
    pub role_id: String,
    pub administers: Administers,
    /// The first characters of its secret, with the prefix.
    ///
    /// Why not an id that says what it is: an id stands in URNs, cursors and programs' settings and never alone, and the
    /// first characters of ours are a time. What people find in a log or a file is a secret, so that is what can be
    /// recognised: 24 of its 256 bits.
    pub secret_start: String,
    pub previous: Option<PreviousSecret>,
    pub is_enabled: bool,
    pub allowed_ips: Vec<IpAddr>,
    pub allowed_cidrs: Vec<IpNet>,
    pub created_at: Time,
    /// The user who made it, also by way of another key; `None`: made at the command line.
    pub made_by: Option<String>,
    /// The user without whom it does not work: who made it, or took it over. `None`: it needs none.
    pub answered_by: Option<String>,
    pub expires_at: Option<Time>,
    /// The last warning about this expiry, in days before it.
    pub warned_days: Option<i64>,
    pub last_activity_at: Option<Time>,
    pub last_address: Option<String>,
}

/// How a key stands, as the API writes it and people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Active,
    /// It works, and its end was told.
    ExpiresSoon,
    Locked,
    Expired,
    /// Whoever answered for it was disabled or has left.
    Orphaned,
}

impl State {
    pub const ALL: [Self; 5] = [Self::Active, Self::ExpiresSoon, Self::Locked, Self::Expired, Self::Orphaned];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::ExpiresSoon => "expires-soon",
            Self::Locked => "locked",
            Self::Expired => "expired",
            Self::Orphaned => "orphaned",
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::ExpiresSoon => "Expires soon",
            Self::Locked => "Locked out",
            Self::Expired => "Expired",
            Self::Orphaned => "Orphaned",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl ApiKey {
    /// The key's URN.
    pub fn urn(&self, region: &str) -> String {
        key_urn(region, self.account_id, &self.id)
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

    /// The warning that belongs to this moment, in days before the end.
    pub(super) fn warning(&self, now: Time) -> Option<i64> {
        let expires_at = self.expires_at.filter(|at| *at > now)?;
        let (left, life) = (expires_at.since(now), expires_at.since(self.created_at));
        WARNINGS_DAYS.into_iter().find(|days| left <= days * DAY && life > days * DAY)
    }

    /// How it stands; `is_orphaned`: nobody answers for it who has to.
    pub(super) fn state(&self, now: Time, is_orphaned: bool) -> State {
        match (self.is_enabled, self.is_expired(now)) {
            (false, _) => State::Locked,
            (true, true) => State::Expired,
            (true, false) if is_orphaned => State::Orphaned,
            (true, false) if self.warning(now).is_some() => State::ExpiresSoon,
            (true, false) => State::Active,
        }
    }

    /// The secret before this one, while it works.
    pub fn previous(&self, now: Time) -> Option<&PreviousSecret> {
        self.previous.as_ref().filter(|previous| previous.ends_at > now)
    }

    /// What the audit log compares.
    pub(super) fn record(&self) -> serde_json::Value {
        serde_json::json!({
            "alias": self.alias,
            "description": self.description,
            "locale": self.locale,
            "timeZone": self.time_zone,
            "roleId": self.role_id,
            "mayAdminister": self.administers.as_str(),
            "enabled": self.is_enabled,
            "allowedIPs": self.allowed_ips,
            "allowedCIDRs": self.allowed_cidrs,
            "expiresAt": self.expires_at,
            "answeredBy": self.answered_by,
        })
    }
}

/// The URN of a key, also of one that does not exist.
pub(super) fn key_urn(region: &str, account: AccountId, id: &str) -> String {
    urn("identity", region, Some(account), "api-key", id)
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
    /// The language of what it is answered.
    pub locale: Option<String>,
    /// IANA name; empty means UTC.
    pub time_zone: Option<String>,
    /// Whether it may change users, roles, keys and identity providers where its role says so, and while the account's
    /// setting lets its keys. No key can set it: a user with full access does, in the console.
    pub may_administer: Option<bool>,
    /// `true`: from now on the caller answers for it. Without somebody who does, and may enter the account, a key that a
    /// user made does not work.
    pub take_over: Option<bool>,
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
    pub(super) locale: Option<String>,
    pub(super) time_zone: Option<String>,
    pub(super) may_administer: Option<bool>,
    pub(super) takes_over: bool,
}

impl Checked {
    /// Whether nothing is asked for but to lock the key out.
    pub(super) fn is_lock_out(&self) -> bool {
        self.is_enabled == Some(false)
            && self.alias.is_none()
            && self.description.is_none()
            && self.role_id.is_none()
            && self.allowed_ips.is_none()
            && self.allowed_cidrs.is_none()
            && self.expiry == Expiry::Unsaid
            && self.locale.is_none()
            && self.time_zone.is_none()
            && self.may_administer.is_none()
            && !self.takes_over
    }
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
                text.parse::<IpNet>().ok().map(unmapped)
            })
        });
        if let Expiry::At(at) = self.expires_at {
            if at <= now {
                wrong.push(FieldError::new("expiresAt", "This is in the past."));
            } else if at.since(now) > LIFETIME_MAX_US {
                wrong.push(FieldError::new("expiresAt", "At most five years from now."));
            }
        }
        for checked in [
            self.locale.as_deref().map(|locale| accounts::check_locale("locale", locale)),
            self.time_zone.as_deref().map(|zone| accounts::check_time_zone("timeZone", zone)),
        ] {
            match checked {
                Some(Err(Error::Invalid(fields))) => wrong.extend(fields),
                Some(Err(other)) => return Err(other),
                _ => {}
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
            locale: self.locale,
            time_zone: self.time_zone,
            may_administer: self.may_administer,
            takes_over: self.take_over == Some(true),
        })
    }
}

/// A network as its addresses are compared: an IPv4-mapped one (`::ffff:10.0.0.0/104`) is the IPv4 network that it names.
fn unmapped(net: IpNet) -> IpNet {
    let mapped = match net {
        IpNet::V6(net) if net.prefix_len() >= 96 => net.addr().to_ipv4_mapped(),
        _ => None,
    };
    mapped.and_then(|ip| Ipv4Net::new(ip, net.prefix_len() - 96).ok()).map_or(net, IpNet::V4).trunc()
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
