//! A directory's credentials: those it is read with, and those that its accounts are acted on with, if any.
//!
//! Owns how they come in, how they are sealed, and where they are unsealed. They never leave this appliance but for the
//! servers that they were given for.

use serde::Deserialize;

use super::{model::Directory, queries};
use crate::{
    connectors::{self, Connector, act::Act},
    error::{Error, FieldError, Result},
    kernel::Kernel,
    secret::{MasterKey, Secret},
};

/// Credentials as they come in; kept as a secret from the first moment.
#[derive(Debug, Default)]
pub struct CredentialsInput {
    /// Absent: the stored ones.
    pub read: Option<Secret<String>>,
    pub act: ActInput,
}

/// What is to become of the credentials for acting.
#[derive(Debug, Default)]
pub enum ActInput {
    /// They stay as they are; a new directory has none.
    #[default]
    Keep,
    /// Nothing can be acted on any more.
    Remove,
    Set(Secret<String>),
}

impl<'de> Deserialize<'de> for CredentialsInput {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            #[serde(default)]
            read: Option<serde_json::Value>,
            #[serde(default)]
            act: Option<serde_json::Value>,
        }
        let value = serde_json::Value::deserialize(deserializer)?;
        // An explicit `null` is an answer too.
        let is_taken_away = value.get("act").is_some_and(serde_json::Value::is_null);
        let raw = Raw::deserialize(value).map_err(serde::de::Error::custom)?;
        let secret = |value: Option<serde_json::Value>| {
            value.filter(|value| !value.is_null()).map(|value| Secret::new(value.to_string()))
        };
        Ok(Self {
            read: secret(raw.read),
            act: match secret(raw.act) {
                Some(given) => ActInput::Set(given),
                None if is_taken_away => ActInput::Remove,
                None => ActInput::Keep,
            },
        })
    }
}

/// Why stored credentials are not used: whoever may edit a directory must not be able to have its password sent to a
/// server of their own, or over a way that others can read.
pub(super) const OTHER_WAY: &str = "The servers or their encryption are different from the stored ones. Give the bind DN and the \
     password again: the stored password is only sent to the servers, and in the way, it was given for.";

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Act,
}

impl Purpose {
    /// What they are sealed for.
    fn place(self, id: i64) -> String {
        match self {
            Self::Read => format!("directory:read_credentials:{id}"),
            Self::Act => format!("directory:act_credentials:{id}"),
        }
    }

    pub(super) fn seal(self, key: &MasterKey, id: i64, credentials: &Secret<String>) -> Vec<u8> {
        key.seal(&self.place(id), credentials.expose().as_bytes())
    }
}

/// What acting becomes: who acts, and the new credentials where there are new ones. `is_same_way`: stored credentials may
/// still be sent where they were given for.
pub(super) fn check_act(
    (kind, settings): (connectors::Kind, &serde_json::Value),
    before: Option<&str>,
    input: &ActInput,
    is_same_way: bool,
) -> Result<Option<String>, Vec<FieldError>> {
    let will_act = match input {
        ActInput::Set(_) => true,
        ActInput::Remove => false,
        ActInput::Keep => before.is_some(),
    };
    if let Some(reason) = connectors::never_acts(kind, settings).filter(|_| will_act) {
        return Err(vec![FieldError::new("credentials.act", reason)]);
    }
    match input {
        ActInput::Set(credentials) => connectors::check_act(kind, credentials).map(Some),
        ActInput::Remove => Ok(None),
        ActInput::Keep if before.is_some() && !is_same_way => Err(vec![FieldError::new("credentials.act", OTHER_WAY)]),
        ActInput::Keep => Ok(before.map(str::to_owned)),
    }
}

/// Stored credentials, unsealed; `None` where there are none.
pub(super) async fn stored(kernel: &Kernel, id: i64, purpose: Purpose) -> Result<Option<Secret<String>>> {
    let Some(sealed) = kernel.db.read(move |c| queries::credentials(c, id, purpose)).await? else { return Ok(None) };
    let opened =
        kernel.key.open(&purpose.place(id), &sealed).map_err(|e| Error::caused("stored credentials do not open", e))?;
    String::from_utf8(opened.expose().clone())
        .map(|text| Some(Secret::new(text)))
        .map_err(|_| Error::internal("stored credentials are not text"))
}

pub(super) async fn stored_read(kernel: &Kernel, id: i64) -> Result<Secret<String>> {
    stored(kernel, id, Purpose::Read).await?.ok_or_else(|| Error::internal("a directory without credentials"))
}

/// A directory, opened to be read with its stored settings and credentials.
pub(super) async fn open(kernel: &Kernel, directory: &Directory) -> Result<Box<dyn Connector>> {
    let credentials = stored_read(kernel, directory.id).await?;
    connectors::open(directory.kind, &directory.settings, &credentials, kernel.clock.now()).map_err(Error::Invalid)
}

/// A directory, opened to be acted on; `None` where it has no credentials for that.
pub async fn open_act(kernel: &Kernel, directory: &Directory) -> Result<Option<Box<dyn Act>>> {
    let Some(act) = stored(kernel, directory.id, Purpose::Act).await? else { return Ok(None) };
    let read = stored_read(kernel, directory.id).await?;
    connectors::open_act(directory.kind, &directory.settings, &read, &act).map(Some).map_err(Error::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_null_and_given_are_three_answers() {
        let read = |json: &str| serde_json::from_str::<CredentialsInput>(json);
        assert!(matches!(read(r#"{"read": {"a": 1}}"#).expect("read").act, ActInput::Keep));
        assert!(matches!(read(r#"{"act": null}"#).expect("read").act, ActInput::Remove));
        let given = read(r#"{"act": {"bindDn": "x"}}"#).expect("read");
        assert!(matches!(given.act, ActInput::Set(secret) if secret.expose().contains("bindDn")));
        assert!(read(r#"{"write": {}}"#).is_err());
    }
}
