//! The LDAP client that the on-premises connectors share: our own reader for bulk, ldap3 behind a guard for the probe,
//! both over our own TLS.
//!
//! Follows RFC 4511 (protocol), RFC 4513 §5.1 (simple bind), RFC 2696 (paging), RFC 4514 (names), RFC 4515 (filters).
//!
//! Invariants:
//! - Every message is checked ([`answer`]) before anything looks at it; a bad one ends the connection, never the
//!   process. Memory per connection is bounded whatever the server sends.
//! - Credentials leave only over TLS, or over plain text after `acceptPlaintext`; there is no fallback from one to the
//!   other. An empty password is never sent: a server may answer it with success (RFC 4513 §5.1.2).
//! - A search is over only when the server said success for every page. Any other result is a [`Failure`].
//! - Referrals and references are never followed.
//! - Every wait has a limit ([`Timeouts`]).
//!
//! Deliberately absent: SASL, anonymous bind, retry and reconnection (the run decides), connection pools.

pub mod acting;
pub mod answer;
pub mod ber;
pub mod dirsync;
pub mod dn;
pub mod endpoint;
pub mod entry;
pub mod errors;
#[cfg(test)]
pub mod fake;
pub mod filter;
pub mod found;
pub mod guard;
pub mod guarded;
pub mod inbox;
pub mod mapped;
pub mod names;
pub mod pages;
pub mod probing;
pub mod reader;
pub mod request;
pub mod sample;
pub mod settings;
pub mod srv;
pub mod sync;
pub mod times;
pub mod values;
pub mod windows;
pub mod wire;

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

pub use self::{
    answer::Limits,
    endpoint::Endpoint,
    entry::{EntryView, Values},
    guarded::Guarded,
    reader::{Connection, Search},
    settings::Way,
    sync::SYNC_REQUEST,
    wire::Protection,
};
pub use crate::connectors::tls::{CertificateView, Trust};
use crate::{
    connectors::{Failure, FailureKind},
    secret::Secret,
};

/// How long each step may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Resolving a name, and connecting to one address.
    pub connect: Duration,
    /// StartTLS, and the TLS handshake.
    pub tls: Duration,
    pub bind: Duration,
    /// Silence while an answer to a search is due.
    pub silence: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            tls: Duration::from_secs(10),
            bind: Duration::from_secs(10),
            silence: Duration::from_secs(30),
        }
    }
}

/// Servers that are tried, however many there are.
pub const TRIED_MAX: usize = 10;

/// Who reads the directory. Deserialises from `{bindDn, password}`.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credentials {
    pub bind_dn: String,
    pub password: Secret<String>,
}

/// The longest password and bind DN that are sent.
const CREDENTIAL_MAX: usize = 1024;

impl Credentials {
    /// What is wrong with them, as field and sentence, before anything is sent.
    pub fn check(&self) -> Vec<crate::error::FieldError> {
        use crate::error::FieldError;
        let mut errors = Vec::new();
        if self.bind_dn.trim().is_empty() {
            errors.push(FieldError::new("bindDn", "The bind DN is empty; anonymous binds are not supported."));
        } else if self.bind_dn.len() > CREDENTIAL_MAX {
            errors.push(FieldError::new("bindDn", format!("The bind DN is longer than {CREDENTIAL_MAX} bytes.")));
        } else if self.bind_dn.chars().any(char::is_control) {
            errors.push(FieldError::new("bindDn", "The bind DN holds a control character."));
        }
        let password = self.password.expose();
        if password.trim().is_empty() {
            errors.push(FieldError::new(
                "password",
                "The password is empty; a server may take that for an anonymous bind, so it is not sent.",
            ));
        } else if password.len() > CREDENTIAL_MAX {
            errors.push(FieldError::new("password", format!("The password is longer than {CREDENTIAL_MAX} bytes.")));
        } else if password.contains('\0') {
            errors.push(FieldError::new("password", "The password holds a NUL character."));
        }
        errors
    }

    /// The same as a failure, for the moment before the first byte is sent.
    pub fn require_sendable(&self) -> Result<(), Failure> {
        match self.check().into_iter().next() {
            None => Ok(()),
            Some(error) => Err(Failure::new(
                FailureKind::InvalidCredentials,
                error.message,
                "Enter bind DN and password of a reading account.",
            )),
        }
    }
}

/// Everything that is needed to reach a directory.
#[derive(Debug)]
pub struct Client {
    servers: found::Servers,
    /// StartTLS on `ldap://` addresses.
    pub start_tls: bool,
    /// Plain text on `ldap://` addresses is accepted. Never a fallback.
    pub accept_plaintext: bool,
    /// Authorities of this directory; the system's when absent.
    pub ca_pem: Option<String>,
    pub credentials: Credentials,
    pub timeouts: Timeouts,
    pub limits: Limits,
    /// See [`Client::prefer`].
    preferred: Mutex<Option<IpAddr>>,
}

impl Client {
    /// To servers that settings name. Lines that are no server are left out: settings are checked before they are used.
    pub fn new(way: Way<'_>, credentials: Credentials) -> Self {
        Self {
            servers: found::Servers::Listed(way.endpoints()),
            start_tls: way.start_tls,
            accept_plaintext: way.accept_plaintext,
            ca_pem: way.ca_pem.map(str::to_owned),
            credentials,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            preferred: Mutex::default(),
        }
    }

    /// The same, with servers from elsewhere.
    pub fn with_servers(self, servers: found::Servers) -> Self {
        Self { servers, ..self }
    }

    /// From here on, this address is tried first, where the name of a server has it among others: servers behind one name
    /// need not agree. It never leads to an address that the name has not.
    pub fn prefer(&self, address: Option<IpAddr>) {
        *self.preferred.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// How connections to this server are protected, or why they must not be made.
    pub fn protection(&self, endpoint: &Endpoint) -> Result<Protection, Failure> {
        match (endpoint.is_ldaps, self.start_tls, self.accept_plaintext) {
            (true, _, _) => Ok(Protection::Ldaps),
            (false, true, _) => Ok(Protection::StartTls),
            (false, false, true) => Ok(Protection::Plaintext),
            (false, false, false) => Err(Failure::new(
                FailureKind::PlaintextNotAccepted,
                format!("{endpoint} would send the password unencrypted, so nothing was sent."),
                "Use an ldaps:// address or switch StartTLS on; plain LDAP needs the explicit consent in the settings.",
            )),
        }
    }

    /// The trusted authorities; `None` when no server uses TLS.
    pub fn trust(&self) -> Result<Option<Trust>, Failure> {
        let is_ldaps = match &self.servers {
            found::Servers::Listed(endpoints) => endpoints.iter().any(|endpoint| endpoint.is_ldaps),
            found::Servers::Found { .. } => true,
        };
        if self.start_tls || is_ldaps { Trust::new(self.ca_pem.as_deref()).map(Some) } else { Ok(None) }
    }

    /// Connects to one server and binds, to read in bulk.
    pub async fn open(&self, endpoint: &Endpoint, trust: Option<&Trust>) -> Result<Connection, Failure> {
        self.credentials.require_sendable()?;
        let (stream, address) = self.connect(endpoint, trust).await?;
        let mut connection = Connection::new(stream, endpoint, self.timeouts, self.limits).at(address);
        connection.bind(&self.credentials).await?;
        Ok(connection)
    }

    /// Connects to one server and binds as `who`, for small questions and changes.
    pub async fn open_guarded(
        &self,
        endpoint: &Endpoint,
        trust: Option<&Trust>,
        who: &Credentials,
    ) -> Result<Guarded, Failure> {
        who.require_sendable()?;
        let (stream, address) = self.connect(endpoint, trust).await?;
        let mut connection = Guarded::new(stream, endpoint, self.timeouts, self.limits).await?.at(address);
        connection.bind(who).await?;
        Ok(connection)
    }

    /// Answers the address of the other end, too, where it is known.
    async fn connect(
        &self,
        endpoint: &Endpoint,
        trust: Option<&Trust>,
    ) -> Result<(Box<dyn wire::Stream>, Option<IpAddr>), Failure> {
        let protection = self.protection(endpoint)?;
        let preferred = *self.preferred.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses = wire::preferring(self.resolve(endpoint).await?, preferred);
        let stream = wire::connect(endpoint, &addresses, &self.timeouts).await?;
        let address = stream.peer_addr().ok().map(|peer| peer.ip());
        let protected = wire::protect(stream, endpoint, protection, trust, &self.timeouts).await;
        protected.map(|(stream, _)| (stream, address)).map_err(|(failure, _)| failure)
    }

    /// The servers in turn: `first` before the others, where it is one of them.
    pub async fn turns(&self, first: Option<&str>) -> Result<Turns<'_>, Failure> {
        let mut endpoints: Vec<&Endpoint> = self.endpoints().await?.iter().collect();
        if let Some(first) = first {
            endpoints.sort_by_key(|endpoint| endpoint.to_string() != first);
        }
        endpoints.truncate(TRIED_MAX);
        Ok(Turns { endpoints: endpoints.into_iter(), failures: Vec::new() })
    }
}

/// The servers of a directory, asked in turn until one can be used.
pub struct Turns<'c> {
    endpoints: std::vec::IntoIter<&'c Endpoint>,
    failures: Vec<Failure>,
}

impl<'c> Turns<'c> {
    /// The server whose turn it is; `None` when all were asked.
    pub fn next_server(&mut self) -> Option<&'c Endpoint> {
        self.endpoints.next()
    }

    /// Takes note of why a server could not be used, or answers the failure when no other may be asked: it would do no
    /// better, or objects were delivered already (`has_objects`) and two servers need not agree.
    pub fn failed(&mut self, failure: Failure, has_objects: bool) -> Result<(), Failure> {
        if has_objects || !Self::may_go_on(&failure) {
            return Err(failure);
        }
        self.failures.push(failure);
        Ok(())
    }

    /// Wrong credentials end it at once: trying them on every server of the list could lock the account.
    fn may_go_on(failure: &Failure) -> bool {
        !matches!(
            failure.kind,
            FailureKind::InvalidCredentials
                | FailureKind::InvalidSettings
                | FailureKind::PlaintextNotAccepted
                | FailureKind::AccessDenied
                | FailureKind::NoSuchBase
                | FailureKind::LimitExceeded
                | FailureKind::Cancelled
        )
    }

    /// One failure for all of them: the first one's kind, and what each said.
    pub fn end(self) -> Failure {
        let count = self.failures.len();
        let mut failures = self.failures.into_iter();
        let Some(first) = failures.next() else {
            return Failure::new(
                FailureKind::InvalidSettings,
                "No server is configured.",
                "Enter at least one server.",
            );
        };
        if count == 1 {
            return first;
        }
        let others: Vec<String> = failures.map(|failure| failure.message).collect();
        Failure::new(
            first.kind,
            format!("None of the {count} servers could be used. {} {}", first.message, others.join(" ")),
            first.next_step,
        )
    }
}

/// The first thing that is wrong with settings, as a failure.
pub fn require_valid(errors: Vec<crate::error::FieldError>) -> Result<(), Failure> {
    match errors.into_iter().next() {
        None => Ok(()),
        Some(error) => Err(Failure::new(
            if error.field == "acceptPlaintext" {
                FailureKind::PlaintextNotAccepted
            } else {
                FailureKind::InvalidSettings
            },
            error.message,
            format!("Correct “{}” in the directory's settings.", error.field),
        )),
    }
}

/// Which entries a search looks at (RFC 4511 §4.5.1.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The base itself.
    Base,
    /// The entries directly below the base.
    One,
    /// The base and everything below it.
    #[default]
    Sub,
}

/// A search.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    pub base: String,
    pub scope: Scope,
    pub filter: String,
    pub attributes: Vec<String>,
    /// Entries per page; 0 asks without paging.
    pub page_size: u32,
    /// Enough after this many entries: the search ends well with the page that reaches it, and says whether there were
    /// more.
    pub entries_max: Option<u32>,
}

/// What a server says about itself.
#[derive(Debug, Clone, Default)]
pub struct RootDse {
    /// False when the server hides it: then nothing is known.
    pub is_readable: bool,
    /// OIDs of the controls offered.
    pub controls: Vec<String>,
    pub naming_contexts: Vec<String>,
}

impl RootDse {
    pub fn request() -> SearchRequest {
        SearchRequest {
            base: String::new(),
            scope: Scope::Base,
            filter: "(objectClass=*)".to_owned(),
            attributes: ["supportedControl", "namingContexts", "vendorName", "objectClass"].map(str::to_owned).to_vec(),
            page_size: 0,
            entries_max: None,
        }
    }

    /// From the values of its attributes.
    pub fn from_values(values: impl Fn(&str) -> Vec<String>) -> Self {
        let controls = values("supportedControl");
        Self { is_readable: !controls.is_empty(), controls, naming_contexts: values("namingContexts") }
    }

    pub fn offers(&self, oid: &str) -> bool {
        self.controls.iter().any(|control| control == oid)
    }
}

/// Simple paged results (RFC 2696).
pub const PAGED_RESULTS: &str = "1.2.840.113556.1.4.319";
