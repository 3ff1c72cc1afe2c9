//! The settings of an OpenLDAP directory: what the form and the API take, and what they refuse.
//!
//! Owns the field names (the contract of the API), the presets and every check before a setting is stored. The checks
//! look at the text only; whether a server answers is the probe's question.

use serde::{Deserialize, Serialize};

use crate::{
    connectors::ldap::{Endpoint, dn, filter, tls},
    error::FieldError,
};

/// Settings as stored and as the API shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// `ldaps://host:636` or `ldap://host:389`, in the order in which they are tried.
    pub servers: Vec<String>,
    /// StartTLS on `ldap://` servers.
    pub start_tls: bool,
    /// Certificates of the authorities that issue the servers' certificates; the system's list when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// "I accept that passwords and data travel unencrypted" for `ldap://` servers without StartTLS.
    pub accept_plaintext: bool,
    /// Where users and groups are.
    pub base_dns: Vec<String>,
    /// Where users are, if not at all of `baseDns`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user_base_dns: Vec<String>,
    /// Where groups are, if not at all of `baseDns`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_base_dns: Vec<String>,
    pub scope: Scope,
    pub preset: Preset,
    /// Instead of the preset's filter for users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_filter: Option<String>,
    /// Instead of the preset's filter for groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_filter: Option<String>,
    pub mapping: Mapping,
    /// Entries per page, 1 to 10,000; 0 reads without paging; 1,000 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_size: Option<u32>,
    /// Which raw attributes are kept; all user attributes when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
}

/// How deep below a base is looked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everything below.
    #[default]
    Sub,
    /// Directly below only.
    One,
}

/// What kinds of objects the directory uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum Preset {
    /// People are `inetOrgPerson`; groups are any of the three kinds.
    #[default]
    #[serde(rename = "inetOrgPerson")]
    InetOrgPerson,
    /// Groups are `groupOfNames` (`member`).
    #[serde(rename = "groupOfNames")]
    GroupOfNames,
    /// Groups are `groupOfUniqueNames` (`uniqueMember`).
    #[serde(rename = "groupOfUniqueNames")]
    GroupOfUniqueNames,
    /// People are `inetOrgPerson` or `posixAccount`; groups are `posixGroup` (`memberUid`).
    #[serde(rename = "posixGroup")]
    PosixGroup,
}

impl Preset {
    pub const ALL: [Self; 4] = [Self::InetOrgPerson, Self::GroupOfNames, Self::GroupOfUniqueNames, Self::PosixGroup];

    /// The name in settings and forms.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InetOrgPerson => "inetOrgPerson",
            Self::GroupOfNames => "groupOfNames",
            Self::GroupOfUniqueNames => "groupOfUniqueNames",
            Self::PosixGroup => "posixGroup",
        }
    }

    pub fn user_filter(self) -> &'static str {
        match self {
            Self::InetOrgPerson | Self::GroupOfNames | Self::GroupOfUniqueNames => "(objectClass=inetOrgPerson)",
            Self::PosixGroup => "(|(objectClass=inetOrgPerson)(objectClass=posixAccount))",
        }
    }

    pub fn group_filter(self) -> &'static str {
        match self {
            Self::InetOrgPerson => {
                "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))"
            }
            Self::GroupOfNames => "(objectClass=groupOfNames)",
            Self::GroupOfUniqueNames => "(objectClass=groupOfUniqueNames)",
            Self::PosixGroup => "(objectClass=posixGroup)",
        }
    }

    /// The attributes that name members.
    pub fn member_attributes(self) -> &'static [&'static str] {
        match self {
            Self::InetOrgPerson => &["member", "uniqueMember", "memberUid"],
            Self::GroupOfNames => &["member"],
            Self::GroupOfUniqueNames => &["uniqueMember"],
            Self::PosixGroup => &["memberUid"],
        }
    }
}

/// Which attribute fills which field. An absent one takes the default; see [`Mapping::sources`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mapping {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub employee_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub department: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
}

/// The fields that the mapping fills, in the order of [`Mapping::sources`].
pub const MAPPED_FIELDS: [&str; 10] = [
    "userName",
    "upn",
    "mail",
    "displayName",
    "givenName",
    "familyName",
    "employeeId",
    "department",
    "title",
    "manager",
];

impl Mapping {
    fn given(&self) -> [&Option<String>; 10] {
        [
            &self.user_name,
            &self.upn,
            &self.mail,
            &self.display_name,
            &self.given_name,
            &self.family_name,
            &self.employee_id,
            &self.department,
            &self.title,
            &self.manager,
        ]
    }

    /// The attributes that are tried for each field, the first that has a value wins. The defaults are those of
    /// `inetOrgPerson` (RFC 2798).
    pub fn sources(&self) -> [Vec<String>; 10] {
        const DEFAULTS: [&[&str]; 10] = [
            &["uid", "cn"],
            &["userPrincipalName"],
            &["mail"],
            &["displayName", "cn"],
            &["givenName"],
            &["sn"],
            &["employeeNumber"],
            &["departmentNumber", "ou"],
            &["title"],
            &["manager"],
        ];
        let given = self.given();
        let mut given = given.iter();
        DEFAULTS.map(|defaults| match given.next().and_then(|given| present(given)) {
            Some(attribute) => vec![attribute.to_owned()],
            None => defaults.iter().map(|&name| name.to_owned()).collect(),
        })
    }
}

/// A form sends an empty text for what was left empty.
fn present(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// Entries per page unless the settings say otherwise: what ldapsearch is usually given, and AD's maximum.
pub const PAGE_SIZE_DEFAULT: u32 = 1000;

const SERVERS_MAX: usize = 10;
const BASES_MAX: usize = 50;
const BASE_MAX: usize = 1024;
const CA_PEM_MAX: usize = 256 * 1024;
const ATTRIBUTES_MAX: usize = 200;

impl Settings {
    /// Every field that has to be corrected. Names are relative to the settings.
    pub fn check(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        self.check_servers(&mut errors);
        self.check_bases(&mut errors);
        for (field, filter) in
            [("userFilter", present(&self.user_filter)), ("groupFilter", present(&self.group_filter))]
        {
            if let Some(Err(reason)) = filter.map(filter::check) {
                errors.push(FieldError::new(field, reason));
            }
        }
        if let Some(pem) = present(&self.ca_pem) {
            let verdict = if pem.len() > CA_PEM_MAX {
                Err(format!("The certificates are longer than {} KiB.", CA_PEM_MAX / 1024))
            } else if pem.contains('\0') {
                Err("The text holds a NUL character.".to_owned())
            } else {
                tls::check_ca_pem(pem)
            };
            if let Err(reason) = verdict {
                errors.push(FieldError::new("caPem", reason));
            }
        }
        for (name, given) in MAPPED_FIELDS.iter().zip(self.mapping.given()) {
            if present(given).is_some_and(|given| !filter::is_attribute_description(given)) {
                errors.push(FieldError::new(
                    format!("mapping.{name}"),
                    "This is not an attribute name; write it like mail or employeeNumber.",
                ));
            }
        }
        if self.page_size.is_some_and(|size| size > 10_000) {
            errors.push(FieldError::new("pageSize", "The page size must be between 1 and 10000, or 0 for no paging."));
        }
        if self.attributes.len() > ATTRIBUTES_MAX {
            errors.push(FieldError::new("attributes", format!("At most {ATTRIBUTES_MAX} attributes can be listed.")));
        }
        if let Some(bad) = self.attributes.iter().find(|name| !filter::is_attribute_description(name)) {
            errors.push(FieldError::new("attributes", format!("{} is not an attribute name.", shown(bad))));
        } else if let Some(secret) = self.attributes.iter().find(|name| super::mapping::is_secret(name)) {
            errors.push(FieldError::new("attributes", format!("{} holds secrets and is never read.", shown(secret))));
        }
        errors
    }

    fn check_servers(&self, errors: &mut Vec<FieldError>) {
        if self.servers.is_empty() {
            errors.push(FieldError::new("servers", "Enter at least one server, for example ldaps://ldap.example.com."));
        }
        if self.servers.len() > SERVERS_MAX {
            errors.push(FieldError::new("servers", format!("At most {SERVERS_MAX} servers can be listed.")));
            return;
        }
        let mut endpoints = Vec::new();
        for server in &self.servers {
            match Endpoint::parse(server) {
                Ok(endpoint) if endpoints.contains(&endpoint) => {
                    errors.push(FieldError::new("servers", format!("{endpoint} is listed twice.")));
                }
                Ok(endpoint) => endpoints.push(endpoint),
                Err(reason) => errors.push(FieldError::new("servers", format!("{}: {reason}", shown(server)))),
            }
        }
        if self.start_tls {
            if let Some(ldaps) = endpoints.iter().find(|endpoint| endpoint.is_ldaps) {
                errors.push(FieldError::new(
                    "startTls",
                    format!(
                        "{ldaps} is encrypted from the start; StartTLS is for ldap:// servers. Use one of the two."
                    ),
                ));
            }
        } else if !self.accept_plaintext
            && let Some(plain) = endpoints.iter().find(|endpoint| !endpoint.is_ldaps)
        {
            errors.push(FieldError::new(
                "acceptPlaintext",
                format!("{plain} would send the password and all data unencrypted. Use ldaps:// or StartTLS, or accept this explicitly."),
            ));
        }
    }

    fn check_bases(&self, errors: &mut Vec<FieldError>) {
        let has_own = !self.user_base_dns.is_empty() && !self.group_base_dns.is_empty();
        if self.base_dns.is_empty() && !has_own {
            errors.push(FieldError::new("baseDns", "Enter at least one base DN, for example dc=example,dc=com."));
        }
        for (field, bases) in
            [("baseDns", &self.base_dns), ("userBaseDns", &self.user_base_dns), ("groupBaseDns", &self.group_base_dns)]
        {
            if bases.len() > BASES_MAX {
                errors.push(FieldError::new(field, format!("At most {BASES_MAX} base DNs can be listed.")));
                continue;
            }
            for base in bases {
                let reason = if base.trim().is_empty() {
                    "A base DN is empty.".to_owned()
                } else if base.len() > BASE_MAX {
                    format!("A base DN is longer than {BASE_MAX} bytes.")
                } else if base.chars().any(char::is_control) {
                    "A base DN holds a control character.".to_owned()
                } else if let Err(reason) = dn::normalise(base) {
                    format!("{} is not a DN: {reason}. Write it like ou=people,dc=example,dc=com.", shown(base))
                } else {
                    continue;
                };
                errors.push(FieldError::new(field, reason));
            }
        }
    }

    /// What works but should be looked at, as sentences.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let plain =
            self.servers.iter().filter_map(|server| Endpoint::parse(server).ok()).find(|endpoint| !endpoint.is_ldaps);
        if let (Some(plain), false, true) = (plain, self.start_tls, self.accept_plaintext) {
            warnings.push(format!(
                "{plain} is read without encryption: password and data can be seen and altered on the way."
            ));
        }
        warnings
    }

    /// Whether the same servers are reached in the same way as with `other`: what a password was given for.
    pub fn is_same_way(&self, other: &Self) -> bool {
        let servers = |settings: &Self| settings.servers.iter().map(|s| Endpoint::parse(s)).collect::<Vec<_>>();
        let (own, others) = (servers(self), servers(other));
        own.iter().all(Result::is_ok)
            && own == others
            && self.start_tls == other.start_tls
            && self.accept_plaintext == other.accept_plaintext
            && self.ca_pem().map(str::trim) == other.ca_pem().map(str::trim)
    }

    pub fn user_filter(&self) -> &str {
        present(&self.user_filter).unwrap_or(self.preset.user_filter())
    }

    pub fn group_filter(&self) -> &str {
        present(&self.group_filter).unwrap_or(self.preset.group_filter())
    }

    pub fn ca_pem(&self) -> Option<&str> {
        present(&self.ca_pem)
    }

    pub fn page_size(&self) -> u32 {
        self.page_size.unwrap_or(PAGE_SIZE_DEFAULT)
    }

    /// The bases for users, none within another (an entry would be read twice).
    pub fn user_bases(&self) -> Vec<String> {
        distinct(if self.user_base_dns.is_empty() { &self.base_dns } else { &self.user_base_dns }, self.scope)
    }

    pub fn group_bases(&self) -> Vec<String> {
        distinct(if self.group_base_dns.is_empty() { &self.base_dns } else { &self.group_base_dns }, self.scope)
    }

    /// The first user name attribute in use, where `memberUid` of a posixGroup points (RFC 2307: `uid`).
    pub fn groups_may_be_posix(&self) -> bool {
        self.preset.member_attributes().contains(&"memberUid")
    }
}

fn distinct(bases: &[String], scope: Scope) -> Vec<String> {
    let normal: Vec<(String, &String)> =
        bases.iter().filter_map(|base| dn::normalise(base).ok().map(|normal| (normal, base))).collect();
    let mut kept: Vec<String> = Vec::new();
    for (at, (normal_base, base)) in normal.iter().enumerate() {
        let is_covered = normal.iter().enumerate().any(|(other_at, (other, _))| {
            if other == normal_base {
                return other_at < at;
            }
            scope == Scope::Sub && dn::is_within(normal_base, other)
        });
        if !is_covered {
            kept.push((*base).clone());
        }
    }
    kept
}

/// A value of the caller as it may stand in a message.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("“{short}”")
}
