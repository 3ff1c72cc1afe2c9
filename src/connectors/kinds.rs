//! The kinds of directory there are, and which code each one is: settings as JSON on this side, a connector on the other.
//!
//! Owns where kinds are told apart: a new one is a new arm of each function here. Its form is the directories' business.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Connector, IdentityFields,
    act::{Act, Action, Offer},
    active_directory, ldap, openldap,
};
use crate::{clock::Time, error::FieldError, secret::Secret};

/// The kinds of directory there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Openldap,
    ActiveDirectory,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Openldap, Self::ActiveDirectory];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Openldap => "openldap",
            Self::ActiveDirectory => "active-directory",
        }
    }

    /// The name shown to people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Openldap => "OpenLDAP",
            Self::ActiveDirectory => "Active Directory",
        }
    }

    /// By how many days the time of the last sign-in may be late in directories of this kind, where they say it late. Active
    /// Directory writes lastLogonTimestamp again only when the one it has is 9 to 14 days old (MS-ADA1, lastLogonTimestamp,
    /// and MS-ADA2, msDS-LogonTimeSyncInterval, which is 14 unless somebody changed it).
    pub fn sign_in_lateness_days(self) -> Option<u32> {
        match self {
            Self::Openldap => None,
            Self::ActiveDirectory => Some(14),
        }
    }

    /// Whether directories of this kind may be able to say when something changes ([`super::Delta::watch`]). Whether a server
    /// does is known once it is asked.
    pub fn can_be_watched(self) -> bool {
        match self {
            Self::Openldap => true,
            Self::ActiveDirectory => false,
        }
    }
}

fn read_json<T: serde::de::DeserializeOwned>(prefix: &str, json: &str) -> Result<T, FieldError> {
    let mut reader = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let path = e.path().to_string();
        let field = if path == "." { prefix.to_owned() } else { format!("{prefix}.{path}") };
        // Only names of fields and types, never the value: it may be a secret.
        let message = match e.inner().classify() {
            serde_json::error::Category::Data if prefix == "settings" => {
                e.inner().to_string().split(" at line ").next().unwrap_or_default().to_owned()
            }
            _ => "This field has the wrong type, is missing, or is not known.".to_owned(),
        };
        FieldError::new(field, message)
    })
}

/// Puts the names of fields below the one that holds them.
fn below(prefix: &str, errors: Vec<FieldError>) -> Vec<FieldError> {
    errors.into_iter().map(|e| FieldError::new(format!("{prefix}.{}", e.field), e.message)).collect()
}

/// Credentials of an LDAP directory, as they stand at `field`.
fn ldap_credentials(field: &str, credentials: &Secret<String>) -> Result<ldap::Credentials, Vec<FieldError>> {
    let credentials = read_json::<ldap::Credentials>(field, credentials.expose()).map_err(|error| vec![error])?;
    let errors = below(field, credentials.check());
    if errors.is_empty() { Ok(credentials) } else { Err(errors) }
}

/// Settings and credentials of an LDAP directory, checked by `check`.
fn ldap_parts<S: serde::de::DeserializeOwned>(
    settings: &serde_json::Value,
    credentials: &Secret<String>,
    check: impl Fn(&S) -> Vec<FieldError>,
) -> Result<(S, ldap::Credentials), Vec<FieldError>> {
    let read_settings = read_json::<S>("settings", &settings.to_string());
    let read_credentials = ldap_credentials("credentials.read", credentials);
    match (read_settings, read_credentials) {
        (Ok(settings), Ok(credentials)) => {
            let errors = below("settings", check(&settings));
            if errors.is_empty() { Ok((settings, credentials)) } else { Err(errors) }
        }
        (settings, credentials) => {
            let mut errors: Vec<FieldError> =
                settings.as_ref().map_or_else(|e| vec![e.clone()], |s| below("settings", check(s)));
            errors.extend(credentials.err().into_iter().flatten());
            Err(errors)
        }
    }
}

/// Checks settings and credentials (JSON, as the kind of directory needs them) without opening anything. Answers who
/// the directory is read as, which is shown; or every field that is wrong.
pub fn check(
    kind: Kind,
    settings: &serde_json::Value,
    credentials: &Secret<String>,
) -> Result<String, Vec<FieldError>> {
    let credentials = match kind {
        Kind::Openldap => ldap_parts(settings, credentials, openldap::Settings::check)?.1,
        Kind::ActiveDirectory => ldap_parts(settings, credentials, active_directory::Settings::check)?.1,
    };
    check_bind_name(kind, "credentials.read", &credentials.bind_dn)?;
    Ok(credentials.bind_dn)
}

/// The same for the credentials that accounts are acted on with: answers who acts.
pub fn check_act(kind: Kind, credentials: &Secret<String>) -> Result<String, Vec<FieldError>> {
    let credentials = match kind {
        Kind::Openldap | Kind::ActiveDirectory => ldap_credentials("credentials.act", credentials)?,
    };
    check_bind_name(kind, "credentials.act", &credentials.bind_dn)?;
    Ok(credentials.bind_dn)
}

fn check_bind_name(kind: Kind, field: &str, name: &str) -> Result<(), Vec<FieldError>> {
    let wrong = match kind {
        Kind::Openldap => None,
        Kind::ActiveDirectory => active_directory::settings::check_bind_name(name),
    };
    wrong.map_or(Ok(()), |error| Err(below(field, vec![error])))
}

/// Why a directory with these settings takes no credentials for acting, whatever the action.
pub fn never_acts(kind: Kind, settings: &serde_json::Value) -> Option<&'static str> {
    match kind {
        Kind::Openldap => None,
        Kind::ActiveDirectory => stored::<active_directory::Settings>(settings)
            .filter(|settings| settings.global_catalog)
            .map(|_| active_directory::settings::READ_ONLY),
    }
}

/// Whether two settings lead to the same servers in the same way (encryption, trusted authorities), so that
/// credentials given for one may be sent with the other. Settings that cannot be read never do.
pub fn is_same_way(kind: Kind, one: &serde_json::Value, other: &serde_json::Value) -> bool {
    fn both<S: serde::de::DeserializeOwned>(one: &serde_json::Value, other: &serde_json::Value) -> Option<(S, S)> {
        Some((stored(one)?, stored(other)?))
    }
    match kind {
        Kind::Openldap => both::<openldap::Settings>(one, other).is_some_and(|(one, other)| one.is_same_way(&other)),
        Kind::ActiveDirectory => {
            both::<active_directory::Settings>(one, other).is_some_and(|(one, other)| one.is_same_way(&other))
        }
    }
}

/// What the console shows of a directory's settings.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    /// As configured, in the order in which they are tried.
    pub servers: Vec<String>,
    /// Passwords and data travel unencrypted to at least one server.
    pub is_plain: bool,
    /// How the connection is protected and what is trusted, in words.
    pub encryption: String,
    /// Where is looked and for what.
    pub parts: Vec<OutlinePart>,
}

/// One setting as it is shown.
#[derive(Debug, Clone)]
pub struct OutlinePart {
    pub name: &'static str,
    pub values: Vec<String>,
    /// The values are written as the directory understands them, and are no words.
    pub is_code: bool,
}

impl OutlinePart {
    pub fn code(name: &'static str, values: &[String]) -> Self {
        Self { name, values: values.to_vec(), is_code: true }
    }

    pub fn words(name: &'static str, text: &str) -> Self {
        Self { name, values: vec![text.to_owned()], is_code: false }
    }
}

/// Settings that can't be read have an empty outline.
pub fn outline(kind: Kind, settings: &serde_json::Value) -> Outline {
    match kind {
        Kind::Openldap => stored::<openldap::Settings>(settings).map(|settings| settings.outline()),
        Kind::ActiveDirectory => stored::<active_directory::Settings>(settings).map(|settings| settings.outline()),
    }
    .unwrap_or_default()
}

/// The settings that decide what is read, name (as in the API) to text, with defaults filled in: a filter that is written
/// out and the same filter by its preset read the same. The order of the servers, how they are reached, and page sizes
/// change nothing that is read.
pub fn read_with(kind: Kind, settings: &serde_json::Value) -> BTreeMap<String, String> {
    let parts = match kind {
        Kind::Openldap => stored::<openldap::Settings>(settings).map(|settings| settings.read_with()),
        Kind::ActiveDirectory => stored::<active_directory::Settings>(settings).map(|settings| settings.read_with()),
    };
    parts.unwrap_or_default().into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
}

/// Settings as a kind of directory has them; `None` when they are none of this kind.
pub fn stored<S: serde::de::DeserializeOwned>(settings: &serde_json::Value) -> Option<S> {
    S::deserialize(settings).ok()
}

/// Opens a directory with settings and credentials that [`check`] accepted. `now` is what expiry times are compared
/// with.
pub fn open(
    kind: Kind,
    settings: &serde_json::Value,
    credentials: &Secret<String>,
    now: Time,
) -> Result<Box<dyn Connector>, Vec<FieldError>> {
    Ok(match kind {
        Kind::Openldap => {
            let (settings, credentials) = ldap_parts(settings, credentials, openldap::Settings::check)?;
            Box::new(openldap::OpenLdap::new(settings, credentials, now.timestamp()))
        }
        Kind::ActiveDirectory => {
            let (settings, credentials) = ldap_parts(settings, credentials, active_directory::Settings::check)?;
            Box::new(active_directory::ActiveDirectory::new(settings, credentials, now.timestamp()))
        }
    })
}

/// Opens a directory to act on its accounts, read with the one and changed with the other credentials.
pub fn open_act(
    kind: Kind,
    settings: &serde_json::Value,
    read: &Secret<String>,
    act: &Secret<String>,
) -> Result<Box<dyn Act>, Vec<FieldError>> {
    if let Some(reason) = never_acts(kind, settings) {
        return Err(vec![FieldError::new("credentials.act", reason)]);
    }
    let act_credentials = ldap_credentials("credentials.act", act)?;
    Ok(match kind {
        Kind::Openldap => {
            let (settings, credentials) = ldap_parts(settings, read, openldap::Settings::check)?;
            let client = ldap::Client::new(settings.way(), credentials);
            Box::new(ldap::acting::Acting { client, act_credentials, manner: openldap::act::Directory::new(&settings) })
        }
        Kind::ActiveDirectory => {
            let (settings, credentials) = ldap_parts(settings, read, active_directory::Settings::check)?;
            let client = settings.client(credentials);
            let manner = active_directory::act::Directory::new(&settings);
            Box::new(ldap::acting::Acting { client, act_credentials, manner })
        }
    })
}

/// Whether a directory with these settings offers `action`; settings that can't be read offer nothing.
pub fn offer(kind: Kind, settings: &serde_json::Value, action: Action) -> Offer {
    let unreadable = || "The settings of this directory can't be read.".to_owned();
    match kind {
        Kind::Openldap => openldap::act::offer(&stored(settings).ok_or_else(unreadable)?, action),
        Kind::ActiveDirectory => active_directory::act::offer(&stored(settings).ok_or_else(unreadable)?, action),
    }
}

/// Why an account must never be acted on, whoever asks: it keeps the directory itself alive.
pub fn never(kind: Kind, fields: &IdentityFields) -> Option<String> {
    match kind {
        Kind::Openldap => None,
        Kind::ActiveDirectory => active_directory::act::never(fields),
    }
}
