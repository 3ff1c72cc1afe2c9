//! The LDAP client that the on-premises connectors share: ldap3 behind a guard, over our own TLS.
//!
//! Follows RFC 4511 (protocol), RFC 4513 §5.1 (simple bind), RFC 2696 (paging), RFC 4514 (names), RFC 4515 (filters).
//!
//! Invariants:
//! - Nothing a server sends reaches ldap3 before [`guard`] has checked it; a bad message ends the connection, never the
//!   process. Memory per connection is bounded whatever the server sends.
//! - Credentials leave only over TLS, or over plain text after `acceptPlaintext`; there is no fallback from one to the
//!   other. An empty password is never sent: a server may answer it with success (RFC 4513 §5.1.2).
//! - A search is over only when the server said success for every page. Any other result is a [`Failure`].
//! - Referrals and references are never followed.
//! - Every wait has a limit ([`Timeouts`]).
//!
//! Deliberately absent: SASL, anonymous bind, retry and reconnection (the run decides), connection pools.

pub mod ber;
pub mod dn;
pub mod endpoint;
pub mod entry;
pub mod errors;
#[cfg(test)]
pub mod fake;
pub mod filter;
pub mod guard;
pub mod tls;
pub mod wire;

use std::{collections::VecDeque, os::unix::net::UnixStream as StdUnixStream, sync::Arc, time::Duration};

use ldap3::{
    DerefAliases, Ldap, LdapConnAsync, LdapConnSettings, SearchOptions, SearchStream, StdStream, controls::RawControl,
};
use tokio::{net::UnixStream, sync::mpsc, task::JoinHandle, time::timeout};

pub use self::{
    endpoint::Endpoint,
    entry::{EntryView, Values},
    guard::{Chunk, Limits},
    tls::{CertificateView, Trust},
    wire::Protection,
};
use self::{
    errors::{Operation, ServerResult},
    guard::Verdict,
    wire::seconds,
};
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
    fn require_sendable(&self) -> Result<(), Failure> {
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
    /// In the order in which they are tried.
    pub endpoints: Vec<Endpoint>,
    /// StartTLS on `ldap://` addresses.
    pub start_tls: bool,
    /// Plain text on `ldap://` addresses is accepted. Never a fallback.
    pub accept_plaintext: bool,
    /// Authorities of this directory; the system's when absent.
    pub ca_pem: Option<String>,
    pub credentials: Credentials,
    pub timeouts: Timeouts,
    pub limits: Limits,
}

impl Client {
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
        if self.start_tls || self.endpoints.iter().any(|endpoint| endpoint.is_ldaps) {
            Trust::new(self.ca_pem.as_deref()).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Connects to one server and binds.
    pub async fn open(&self, endpoint: &Endpoint, trust: Option<&Trust>) -> Result<Connection, Failure> {
        self.credentials.require_sendable()?;
        let protection = self.protection(endpoint)?;
        let addresses = wire::resolve(endpoint, &self.timeouts).await?;
        let stream = wire::connect(endpoint, &addresses, &self.timeouts).await?;
        let protected = wire::protect(stream, endpoint, protection, trust, &self.timeouts).await;
        let (stream, _) = protected.map_err(|(failure, _)| failure)?;
        let mut connection = Connection::new(stream, endpoint, self.timeouts, self.limits).await?;
        connection.bind(&self.credentials).await?;
        Ok(connection)
    }

    /// Whether the next server of the list might do better after this failure.
    ///
    /// Wrong credentials end it at once: trying them on every server of the list could lock the account.
    pub fn may_try_next(failure: &Failure) -> bool {
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

    /// One failure for all servers of the list: the first one's kind, and what each said.
    pub fn all_failed(failures: Vec<(Endpoint, Failure)>) -> Failure {
        let count = failures.len();
        let mut failures = failures.into_iter();
        let Some((_, first)) = failures.next() else {
            return Failure::new(
                FailureKind::InvalidSettings,
                "No server is configured.",
                "Enter at least one server.",
            );
        };
        if count == 1 {
            return first;
        }
        let others: Vec<String> = failures.map(|(_, failure)| failure.message).collect();
        Failure::new(
            first.kind,
            format!("None of the {count} servers could be used. {} {}", first.message, others.join(" ")),
            first.next_step,
        )
    }
}

/// Chunks between guard and reader. With the one being filled and the one being read, a hostile server can fill three
/// times [`Limits::message_bytes`] and no more.
const CHUNKS_WAITING_MAX: usize = 1;

/// One connection to one server.
#[derive(Debug)]
pub struct Connection {
    ldap: Ldap,
    entries: mpsc::Receiver<Chunk>,
    verdict: Arc<Verdict>,
    server: String,
    timeouts: Timeouts,
    /// A search was started and has not come to its end: its entries may still be on their way.
    is_searching: bool,
    pump: JoinHandle<()>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.pump.abort();
        self.driver.abort();
    }
}

impl Connection {
    /// Puts guard and ldap3 onto a stream that is protected already.
    pub async fn new(
        stream: Box<dyn wire::Stream>,
        endpoint: &Endpoint,
        timeouts: Timeouts,
        limits: Limits,
    ) -> Result<Self, Failure> {
        let server = endpoint.to_string();
        let ours = |error: &dyn std::fmt::Display| {
            Failure::new(
                FailureKind::Other,
                format!("The connection to {server} could not be set up: {error}."),
                "Look at this machine's log.",
            )
        };
        let (outer, inner) = StdUnixStream::pair().map_err(|error| ours(&error))?;
        outer.set_nonblocking(true).map_err(|error| ours(&error))?;
        let outer = UnixStream::from_std(outer).map_err(|error| ours(&error))?;
        let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(inner));
        let (driver, ldap) = LdapConnAsync::with_settings(settings, "ldapi:///").await.map_err(|error| ours(&error))?;
        let driver = tokio::spawn(async move {
            // Why it ended is the guard's to say.
            let _ = driver.drive().await;
        });
        let verdict = Arc::new(Verdict::default());
        let (sender, entries) = mpsc::channel(CHUNKS_WAITING_MAX);
        let pump = tokio::spawn(guard::pump(stream, outer, limits, sender, Arc::clone(&verdict), server.clone()));
        Ok(Self { ldap, entries, verdict, server, timeouts, is_searching: false, pump, driver })
    }

    /// The server as configured.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Simple bind (RFC 4513 §5.1.3).
    pub async fn bind(&mut self, credentials: &Credentials) -> Result<(), Failure> {
        credentials.require_sendable()?;
        let answer =
            timeout(self.timeouts.bind, self.ldap.simple_bind(&credentials.bind_dn, credentials.password.expose()))
                .await;
        match answer {
            Err(_) => Err(Failure::new(
                FailureKind::TimedOut,
                format!("{} did not answer the bind within {}.", self.server, seconds(self.timeouts.bind)),
                "Check that an LDAP server listens on this port (ldaps:// and ldap:// have different ports) and its load.",
            )),
            Ok(Err(error)) => Err(self.lost(error.to_string()).await),
            Ok(Ok(result)) if result.rc == 0 => Ok(()),
            Ok(Ok(result)) => {
                let refused = ServerResult { code: result.rc, diagnostic: &result.text, matched: &result.matched };
                Err(errors::failure(Operation::Bind(&credentials.bind_dn), &self.server, refused))
            }
        }
    }

    /// Starts a search. Its pages come from [`Search::next`]; only its `Ok(None)` is a complete answer.
    pub fn search(&mut self, request: SearchRequest) -> Search<'_> {
        let is_paged = request.page_size > 0;
        Search {
            connection: self,
            request,
            is_paged,
            stream: None,
            ready: VecDeque::new(),
            cookie: Vec::new(),
            page: Page::default(),
            previous_page: None,
            empty_pages: 0,
            entries: 0,
            references: 0,
            has_more: false,
            is_over: false,
        }
    }

    /// What the server says about itself (RFC 4512 §5.1). Servers may hide it, so that an empty answer is no failure.
    pub async fn root_dse(&mut self) -> Result<RootDse, Failure> {
        let mut search = self.search(SearchRequest {
            base: String::new(),
            scope: Scope::Base,
            filter: "(objectClass=*)".to_owned(),
            attributes: ["supportedControl", "namingContexts", "vendorName", "objectClass"].map(str::to_owned).to_vec(),
            page_size: 0,
            entries_max: None,
        });
        let mut root = RootDse::default();
        while let Some(chunk) = search.next().await? {
            for entry in chunk.entries().filter_map(EntryView::read) {
                let texts = |name: &str| -> Vec<String> {
                    entry
                        .values(name)
                        .iter()
                        .filter_map(|value| std::str::from_utf8(value).ok())
                        .map(str::to_owned)
                        .collect()
                };
                root.controls = texts("supportedControl");
                root.naming_contexts = texts("namingContexts");
                root.is_readable = !root.controls.is_empty();
            }
        }
        Ok(root)
    }

    /// Says goodbye and closes.
    pub async fn close(mut self) {
        let _ = timeout(Duration::from_secs(1), self.ldap.unbind()).await;
    }

    /// Why the connection ended: the guard's reason if it has one, else ldap3's.
    async fn lost(&mut self, error: String) -> Failure {
        // The guard sets its verdict before it lets go of this channel.
        let drained = timeout(Duration::from_secs(1), async { while self.entries.recv().await.is_some() {} }).await;
        if let (Ok(()), Some(failure)) = (drained, self.verdict.failure()) {
            return failure;
        }
        Failure::new(
            FailureKind::ConnectionLost,
            format!("The connection to {} was lost: {}.", self.server, errors::printable(&error)),
            "Check that the LDAP server is running, then run again.",
        )
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
    /// Enough after this many entries: the search ends well with the page that reaches it, and [`Search::has_more`]
    /// says whether there were more.
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
    pub fn offers(&self, oid: &str) -> bool {
        self.controls.iter().any(|control| control == oid)
    }
}

/// Simple paged results (RFC 2696).
pub const PAGED_RESULTS: &str = "1.2.840.113556.1.4.319";
/// Content synchronisation (RFC 4533), "syncrepl".
pub const SYNC_REQUEST: &str = "1.3.6.1.4.1.4203.1.9.1.1";

/// Pages without a single entry that are accepted in a row.
const EMPTY_PAGES_MAX: u32 = 100;
/// Entries of one search: ten times the largest directory that this appliance is made for.
const ENTRIES_MAX: u64 = 10_000_000;
/// The longest cookie.
const COOKIE_MAX: usize = 64 * 1024;

/// What is remembered of the page that is coming in.
#[derive(Debug, Default)]
struct Page {
    entries: u64,
    /// SHA-256 of the first entry.
    first: Option<[u8; 32]>,
}

/// A search under way.
pub struct Search<'c> {
    connection: &'c mut Connection,
    request: SearchRequest,
    is_paged: bool,
    stream: Option<SearchStream<'static, String, Vec<String>>>,
    ready: VecDeque<Chunk>,
    cookie: Vec<u8>,
    page: Page,
    /// Cookie that a page was asked with, and its first entry.
    previous_page: Option<(Vec<u8>, [u8; 32])>,
    empty_pages: u32,
    entries: u64,
    references: u64,
    has_more: bool,
    is_over: bool,
}

impl Search<'_> {
    /// The next checked messages. `Ok(None)`: the server said success for every page, and this was all.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Failure> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Ok(Some(chunk));
            }
            if self.is_over {
                return Ok(None);
            }
            let silence = self.connection.timeouts.silence;
            let Some(stream) = &mut self.stream else {
                self.start().await?;
                continue;
            };
            tokio::select! {
                biased;
                chunk = self.connection.entries.recv() => match chunk {
                    Some(chunk) => {
                        self.count(&chunk)?;
                        return Ok(Some(chunk));
                    }
                    None => return Err(self.connection.lost("it was closed".to_owned()).await),
                },
                answer = timeout(silence, stream.next()) => match answer {
                    Err(_) => return Err(self.silent()),
                    Ok(Err(error)) => return Err(self.connection.lost(error.to_string()).await),
                    Ok(Ok(Some(_))) => {
                        return Err(guard::Violation::Shape("an entry came on the wrong way").into_failure(&self.connection.server));
                    }
                    Ok(Ok(None)) => {
                        // The guard hands over a page's entries before its result.
                        while let Ok(chunk) = self.connection.entries.try_recv() {
                            self.count(&chunk)?;
                            self.ready.push_back(chunk);
                        }
                        self.finish_page().await?;
                    }
                },
            }
        }
    }

    /// Whether there were more entries than `entries_max`.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// Entries so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// References to other servers so far; none was followed.
    pub fn references(&self) -> u64 {
        self.references
    }

    async fn start(&mut self) -> Result<(), Failure> {
        if self.connection.is_searching {
            return Err(Failure::new(
                FailureKind::Other,
                format!("The connection to {} still has an unfinished search.", self.connection.server),
                "Run again.",
            ));
        }
        let mut options = SearchOptions::new().deref(DerefAliases::Never);
        if let (false, Some(max)) = (self.is_paged, self.request.entries_max) {
            options = options.sizelimit(i32::try_from(max).unwrap_or(i32::MAX));
        }
        let ldap = &mut self.connection.ldap;
        ldap.with_search_options(options);
        if self.is_paged {
            ldap.with_controls(vec![paging_control(self.request.page_size, &self.cookie)]);
        }
        let scope = match self.request.scope {
            Scope::Base => ldap3::Scope::Base,
            Scope::One => ldap3::Scope::OneLevel,
            Scope::Sub => ldap3::Scope::Subtree,
        };
        let started =
            ldap.streaming_search(&self.request.base, scope, &self.request.filter, self.request.attributes.clone());
        match timeout(self.connection.timeouts.silence, started).await {
            Err(_) => Err(self.silent()),
            Ok(Err(ldap3::LdapError::FilterParsing)) => Err(Failure::new(
                FailureKind::InvalidSettings,
                format!("The filter {} is not valid.", errors::printable(&self.request.filter)),
                "Correct the filter in the directory's settings.",
            )),
            Ok(Err(error)) => Err(self.connection.lost(error.to_string()).await),
            Ok(Ok(stream)) => {
                self.page = Page::default();
                self.connection.is_searching = true;
                self.stream = Some(stream);
                Ok(())
            }
        }
    }

    fn count(&mut self, chunk: &Chunk) -> Result<(), Failure> {
        if self.page.first.is_none() {
            self.page.first = chunk.entries().next().map(crate::secret::sha256);
        }
        let entries = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.page.entries = self.page.entries.saturating_add(entries);
        self.entries = self.entries.saturating_add(entries);
        self.references = self.references.saturating_add(u64::try_from(chunk.references.len()).unwrap_or(u64::MAX));
        if self.entries > ENTRIES_MAX {
            return Err(Failure::new(
                FailureKind::ProtocolViolation,
                format!(
                    "{} sent more than {ENTRIES_MAX} entries, so the connection was closed.",
                    self.connection.server
                ),
                "Narrow the filter or the base DN.",
            ));
        }
        Ok(())
    }

    async fn finish_page(&mut self) -> Result<(), Failure> {
        let Some(mut stream) = self.stream.take() else { return Ok(()) };
        let result = stream.finish().await;
        self.connection.is_searching = false;
        let enough = self.request.entries_max.is_some_and(|max| self.entries >= u64::from(max));
        match result.rc {
            0 => (),
            // The server has no paging: the same again without. Nothing has been delivered yet.
            12 if self.is_paged && self.entries == 0 && self.cookie.is_empty() => {
                self.is_paged = false;
                return Ok(());
            }
            4 if !self.is_paged && enough => {
                self.has_more = true;
                self.is_over = true;
                return Ok(());
            }
            code => {
                let refused = ServerResult { code, diagnostic: &result.text, matched: &result.matched };
                let mut failure =
                    errors::failure(Operation::Search(&self.request.base), &self.connection.server, refused);
                if code == 4 && !self.is_paged && self.request.page_size > 0 {
                    failure.message.push_str(" The server does not offer paging.");
                }
                return Err(failure);
            }
        }
        let cookie = match result.ctrls.iter().find(|control| control.1.ctype == PAGED_RESULTS) {
            Some(control) if self.is_paged => read_cookie(control.1.val.as_deref())
                .map_err(|violation| violation.into_failure(&self.connection.server))?,
            _ => Vec::new(),
        };
        if cookie.is_empty() {
            self.is_over = true;
            return Ok(());
        }
        self.check_progress(&cookie)?;
        if enough {
            self.has_more = true;
            self.is_over = true;
        }
        self.cookie = cookie;
        Ok(())
    }

    /// A server that never comes to an end: the same page for the same cookie again, or only empty pages.
    ///
    /// The same cookie alone is no sign: some servers (389 Directory Server) give a search one cookie for all pages.
    fn check_progress(&mut self, cookie: &[u8]) -> Result<(), Failure> {
        self.empty_pages = if self.page.entries == 0 { self.empty_pages + 1 } else { 0 };
        let is_repeated = match (&self.previous_page, &self.page.first) {
            (Some((before, first)), Some(again)) => before == cookie && first == again,
            _ => false,
        };
        self.previous_page = self.page.first.map(|first| (cookie.to_vec(), first));
        if is_repeated || self.empty_pages > EMPTY_PAGES_MAX {
            return Err(Failure::new(
                FailureKind::ProtocolViolation,
                format!("{} keeps answering with the same page, so the reading was stopped.", self.connection.server),
                "Look for a known paging error of this LDAP server's version, or set the page size to 0 to read without pages.",
            ));
        }
        Ok(())
    }

    fn silent(&self) -> Failure {
        let silence = self.connection.timeouts.silence;
        Failure::new(
            FailureKind::TimedOut,
            format!(
                "{} fell silent for {} during the search below {}.",
                self.connection.server,
                seconds(silence),
                errors::printable(&self.request.base)
            ),
            "Look at the load and the log of the LDAP server; a filter on attributes without an index can take this long.",
        )
    }
}

/// The request control of RFC 2696 §2: critical, so that a server without paging says so.
fn paging_control(page_size: u32, cookie: &[u8]) -> RawControl {
    use ldap3::controls::{MakeCritical as _, PagedResults};
    let size = i32::try_from(page_size).unwrap_or(i32::MAX);
    PagedResults { size, cookie: cookie.to_vec() }.critical().into()
}

/// The cookie of a response control. ldap3's own reader panics on a malformed one.
fn read_cookie(value: Option<&[u8]>) -> Result<Vec<u8>, guard::Violation> {
    const SHAPE: guard::Violation = guard::Violation::Shape("the paging control is not a size and a cookie");
    let mut outer = ber::Elements::new(value.ok_or(SHAPE)?);
    let mut parts = ber::Elements::new(outer.expect(ber::tag::SEQUENCE).ok_or(SHAPE)?);
    parts.expect(ber::tag::INTEGER).ok_or(SHAPE)?;
    let cookie = parts.expect(ber::tag::OCTET_STRING).filter(|cookie| cookie.len() <= COOKIE_MAX).ok_or(SHAPE)?;
    Ok(cookie.to_vec())
}
