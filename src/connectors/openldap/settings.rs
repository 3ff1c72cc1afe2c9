//! The settings of an OpenLDAP directory: what the form and the API take, and what they refuse.
//!
//! Owns the field names (the contract of the API), the presets and every check before a setting is stored. The checks
//! look at the text only; whether a server answers is the probe's question.

use serde::{Deserialize, Serialize};

use crate::{
    connectors::{
        Outline, OutlinePart,
        ldap::{
            self,
            settings::{self, Mapping, PAGE_SIZE_DEFAULT, Way, present},
        },
    },
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
    /// The attribute that disables an account; the password policy overlay's pwdAccountLockedTime when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_by: Option<DisableBy>,
}

/// An attribute of the directory's own that means "disabled": `nsAccountLock`, `loginDisabled`, `loginShell` …
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DisableBy {
    pub attribute: String,
    /// Its value in a disabled account.
    pub disabled: String,
    /// Its value in an enabled one; the attribute is taken away when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<String>,
}

const VALUE_MAX: usize = 200;

impl DisableBy {
    fn check(&self, errors: &mut Vec<FieldError>) {
        let mut wrong =
            |field: &str, message: &str| errors.push(FieldError::new(format!("disableBy.{field}"), message));
        let base = ldap::values::base_name(&self.attribute);
        if !ldap::filter::is_attribute_description(&self.attribute) {
            wrong("attribute", "Enter the name of one attribute, for example nsAccountLock.");
        } else if ldap::values::is_secret(&self.attribute) || NEVER_WRITTEN.contains(&base.as_str()) {
            wrong("attribute", "This attribute is what an account is; actions never write it.");
        }
        let is_bad = |value: &str| value.is_empty() || value.len() > VALUE_MAX || value.chars().any(char::is_control);
        if is_bad(&self.disabled) {
            wrong("disabled", "Enter the value that means disabled, at most 200 bytes on one line.");
        }
        match &self.enabled {
            Some(value) if is_bad(value) => {
                wrong("enabled", "Leave this out to take the attribute away, or enter at most 200 bytes on one line.");
            }
            Some(value) if value.eq_ignore_ascii_case(&self.disabled) => {
                wrong("enabled", "The two values have to be different.");
            }
            _ => {}
        }
    }
}

/// What makes an account that account, or holds it up.
const NEVER_WRITTEN: [&str; 11] = [
    "objectclass",
    "uid",
    "cn",
    "entryuuid",
    "entrydn",
    "member",
    "uniquemember",
    "memberuid",
    "uidnumber",
    "gidnumber",
    "structuralobjectclass",
];

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

impl From<Scope> for ldap::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Sub => Self::Sub,
            Scope::One => Self::One,
        }
    }
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

/// The attributes that are tried for each mapped field: those of `inetOrgPerson` (RFC 2798).
pub const DEFAULT_SOURCES: [&[&str]; 10] = [
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

impl Settings {
    /// How the servers are reached.
    pub fn way(&self) -> Way<'_> {
        Way {
            servers: &self.servers,
            start_tls: self.start_tls,
            ca_pem: self.ca_pem(),
            accept_plaintext: self.accept_plaintext,
        }
    }

    /// Every field that has to be corrected. Names are relative to the settings.
    pub fn check(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.servers.is_empty() {
            errors.push(FieldError::new("servers", "Enter at least one server, for example ldaps://ldap.example.com."));
        }
        self.way().check(&mut errors);
        let has_own = !self.user_base_dns.is_empty() && !self.group_base_dns.is_empty();
        if self.base_dns.is_empty() && !has_own {
            errors.push(FieldError::new("baseDns", "Enter at least one base DN, for example dc=example,dc=com."));
        }
        for (field, bases) in
            [("baseDns", &self.base_dns), ("userBaseDns", &self.user_base_dns), ("groupBaseDns", &self.group_base_dns)]
        {
            settings::check_bases(field, bases, &mut errors);
        }
        settings::check_filter("userFilter", &self.user_filter, &mut errors);
        settings::check_filter("groupFilter", &self.group_filter, &mut errors);
        self.mapping.check(&mut errors);
        if self.page_size.is_some_and(|size| size > 10_000) {
            errors.push(FieldError::new("pageSize", "The page size must be between 1 and 10000, or 0 for no paging."));
        }
        settings::check_attributes(&self.attributes, &mut errors);
        if let Some(by) = &self.disable_by {
            by.check(&mut errors);
        }
        errors
    }

    /// What works but should be looked at, as sentences.
    pub fn warnings(&self) -> Vec<String> {
        self.way().warnings()
    }

    /// See [`crate::connectors::outline`].
    pub fn outline(&self) -> Outline {
        let scope = match self.scope {
            Scope::Sub => "everything below the bases",
            Scope::One => "directly below the bases",
        };
        let mut parts = vec![
            OutlinePart::code("Base DNs", &self.base_dns),
            OutlinePart::code("Bases for users", &self.user_base_dns),
            OutlinePart::code("Bases for groups", &self.group_base_dns),
        ];
        parts.retain(|part| !part.values.is_empty());
        parts.extend([
            OutlinePart::words("Scope", scope),
            OutlinePart::code("User filter", &[self.user_filter().to_owned()]),
            OutlinePart::code("Group filter", &[self.group_filter().to_owned()]),
            OutlinePart::words("Preset", self.preset.as_str()),
        ]);
        if let Some(by) = &self.disable_by {
            let written = format!("{}: {}", by.attribute, by.disabled);
            parts.push(OutlinePart::code("Disabled is", &[written]));
        }
        Outline { parts, ..self.way().outline() }
    }

    /// See [`crate::connectors::read_with`].
    pub fn read_with(&self) -> Vec<(&'static str, String)> {
        let own = self.disable_by.iter().map(|by| ("disableBy", format!("{} {}", by.attribute, by.disabled)));
        let usual = [
            ("servers", settings::sorted(&self.servers)),
            ("userBaseDns", settings::sorted(&self.user_bases())),
            ("groupBaseDns", settings::sorted(&self.group_bases())),
            ("scope", if self.scope == Scope::One { "one".to_owned() } else { "sub".to_owned() }),
            ("preset", self.preset.as_str().to_owned()),
            ("userFilter", self.user_filter().to_owned()),
            ("groupFilter", self.group_filter().to_owned()),
            ("mapping", self.mapping.text(&DEFAULT_SOURCES)),
            ("attributes", settings::sorted(&self.attributes)),
        ];
        usual.into_iter().chain(own).collect()
    }

    /// Whether the same servers are reached in the same way as with `other`: what a password was given for.
    pub fn is_same_way(&self, other: &Self) -> bool {
        self.way().is_same(&other.way())
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
        settings::distinct(
            if self.user_base_dns.is_empty() { &self.base_dns } else { &self.user_base_dns },
            self.scope.into(),
        )
    }

    pub fn group_bases(&self) -> Vec<String> {
        settings::distinct(
            if self.group_base_dns.is_empty() { &self.base_dns } else { &self.group_base_dns },
            self.scope.into(),
        )
    }

    /// The first user name attribute in use, where `memberUid` of a posixGroup points (RFC 2307: `uid`).
    pub fn groups_may_be_posix(&self) -> bool {
        self.preset.member_attributes().contains(&"memberUid")
    }
}
