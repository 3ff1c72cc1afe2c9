//! What the settings of every kind of LDAP directory have in common: how servers are reached, where is looked, which
//! attribute fills which field.
//!
//! Owns the checks of these and their words. The checks look at the text only; whether a server answers is the probe's
//! question.

use serde::{Deserialize, Serialize};

use super::{Endpoint, Scope, dn, filter, values::is_secret};
use crate::{connectors::Outline, error::FieldError};

const SERVERS_MAX: usize = super::TRIED_MAX;
const BASES_MAX: usize = 50;
const BASE_MAX: usize = 1024;
const CA_PEM_MAX: usize = 256 * 1024;
const ATTRIBUTES_MAX: usize = 200;

/// Entries per page unless the settings say otherwise: what ldapsearch is usually given, and AD's maximum.
pub const PAGE_SIZE_DEFAULT: u32 = 1000;

/// How the servers of a directory are reached.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    pub servers: &'a [String],
    pub start_tls: bool,
    pub ca_pem: Option<&'a str>,
    pub accept_plaintext: bool,
}

impl Way<'_> {
    /// The servers. Lines that are no server are left out: settings are checked before they are used.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.servers.iter().filter_map(|server| Endpoint::parse(server).ok()).collect()
    }

    /// Every field that has to be corrected. Whether there has to be a server is the directory's to say.
    pub fn check(&self, errors: &mut Vec<FieldError>) {
        self.check_servers(errors);
        let Some(pem) = self.ca_pem else { return };
        let verdict = if pem.len() > CA_PEM_MAX {
            Err(format!("The certificates are longer than {} KiB.", CA_PEM_MAX / 1024))
        } else if pem.contains('\0') {
            Err("The text holds a NUL character.".to_owned())
        } else {
            crate::connectors::tls::check_ca_pem(pem)
        };
        if let Err(reason) = verdict {
            errors.push(FieldError::new("caPem", reason));
        }
    }

    fn check_servers(&self, errors: &mut Vec<FieldError>) {
        if self.servers.len() > SERVERS_MAX {
            errors.push(FieldError::new("servers", format!("At most {SERVERS_MAX} servers can be listed.")));
            return;
        }
        let mut endpoints = Vec::new();
        for server in self.servers {
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

    /// Whether passwords and data travel unencrypted to at least one server.
    pub fn is_plain(&self) -> bool {
        !self.start_tls
            && self.servers.iter().any(|server| Endpoint::parse(server).is_ok_and(|endpoint| !endpoint.is_ldaps))
    }

    /// Of the outline, what servers have to do with.
    pub fn outline(&self) -> Outline {
        let way = match (self.is_plain(), self.start_tls) {
            (true, _) => "none: password and data travel unencrypted",
            (false, true) => "StartTLS, always required",
            (false, false) => "LDAPS (TLS from the first byte)",
        };
        let trust = match self.ca_pem {
            Some(_) => "own certificate authorities",
            None => "the system's authorities",
        };
        let encryption = if self.is_plain() { way.to_owned() } else { format!("{way}; trusts {trust}") };
        Outline { servers: self.servers.to_vec(), is_plain: self.is_plain(), encryption, parts: Vec::new() }
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

    /// Whether the same servers are reached in the same way: what a password was given for.
    pub fn is_same(&self, other: &Self) -> bool {
        let servers = |way: &Self| way.servers.iter().map(|s| Endpoint::parse(s)).collect::<Vec<_>>();
        let (own, others) = (servers(self), servers(other));
        own.iter().all(Result::is_ok)
            && own == others
            && self.start_tls == other.start_tls
            && self.accept_plaintext == other.accept_plaintext
            && self.ca_pem.map(str::trim) == other.ca_pem.map(str::trim)
    }
}

/// Checks a list of base DNs.
pub fn check_bases(field: &str, bases: &[String], errors: &mut Vec<FieldError>) {
    if bases.len() > BASES_MAX {
        errors.push(FieldError::new(field, format!("At most {BASES_MAX} base DNs can be listed.")));
        return;
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

/// Checks a filter, where one is given.
pub fn check_filter(field: &str, given: &Option<String>, errors: &mut Vec<FieldError>) {
    if let Some(Err(reason)) = present(given).map(filter::check) {
        errors.push(FieldError::new(field, reason));
    }
}

/// Checks the names of raw attributes that are to be kept.
pub fn check_attributes(names: &[String], errors: &mut Vec<FieldError>) {
    if names.len() > ATTRIBUTES_MAX {
        errors.push(FieldError::new("attributes", format!("At most {ATTRIBUTES_MAX} attributes can be listed.")));
    }
    if let Some(bad) = names.iter().find(|name| !filter::is_attribute_description(name)) {
        errors.push(FieldError::new("attributes", format!("{} is not an attribute name.", shown(bad))));
    } else if let Some(secret) = names.iter().find(|name| is_secret(name)) {
        errors.push(FieldError::new("attributes", format!("{} holds secrets and is never read.", shown(secret))));
    }
}

/// A list whose order and case mean nothing, as a text to compare.
pub fn sorted(list: &[String]) -> String {
    let mut list: Vec<String> = list.iter().map(|text| text.trim().to_lowercase()).collect();
    list.sort();
    list.dedup();
    list.join(", ")
}

/// The bases of a search, none within another (an entry would be read twice).
pub fn distinct(bases: &[String], scope: Scope) -> Vec<String> {
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

    /// The attributes that are tried for each field, the first that has a value wins; `defaults` where none is named.
    pub fn sources(&self, defaults: &[&[&str]; 10]) -> [Vec<String>; 10] {
        let given = self.given();
        let mut given = given.iter();
        defaults.map(|defaults| match given.next().and_then(|given| present(given)) {
            Some(attribute) => vec![attribute.to_owned()],
            None => defaults.iter().map(|&name| name.to_owned()).collect(),
        })
    }

    /// All fields with what is tried for each, as a text to compare.
    pub fn text(&self, defaults: &[&[&str]; 10]) -> String {
        let fields = MAPPED_FIELDS.iter().zip(self.sources(defaults));
        let texts: Vec<String> = fields.map(|(field, sources)| format!("{field}: {}", sources.join(" or "))).collect();
        texts.join("; ")
    }

    pub fn check(&self, errors: &mut Vec<FieldError>) {
        for (name, given) in MAPPED_FIELDS.iter().zip(self.given()) {
            if present(given).is_some_and(|given| !filter::is_attribute_description(given)) {
                errors.push(FieldError::new(
                    format!("mapping.{name}"),
                    "This is not an attribute name; write it like mail or employeeNumber.",
                ));
            }
        }
    }
}

/// A form sends an empty text for what was left empty.
pub fn present(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// A value of the caller as it may stand in a message.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("“{short}”")
}
