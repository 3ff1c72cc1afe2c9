//! ldap3 behind the guard, for small questions and for changes: what the probe asks, and what acting sends.
//!
//! Owns the socket pair between ldap3 and the guard. It must never be used to read in bulk: ldap3 keeps what nobody has
//! taken yet (that is the [`reader`](super::reader)'s business), and every answer here is limited.

use std::{net::IpAddr, os::unix::net::UnixStream as StdUnixStream, sync::Arc, time::Duration};

use ldap3::{
    DerefAliases, Ldap, LdapConnAsync, LdapConnSettings, Mod, SearchOptions, StdStream,
    asn1::{PL, StructureTag},
    controls::RawControl,
};
use tokio::{net::UnixStream, task::JoinHandle, time::timeout};

use super::{
    Credentials, Limits, PAGED_RESULTS, RootDse, Scope, SearchRequest, Timeouts, answer,
    endpoint::Endpoint,
    errors::{self, Operation, ServerResult},
    guard::{self, Verdict},
    wire,
};
use crate::connectors::{Failure, FailureKind};

/// One connection to one server.
#[derive(Debug)]
pub struct Guarded {
    ldap: Ldap,
    verdict: Arc<Verdict>,
    server: String,
    /// Of the other end, where it is known.
    address: Option<IpAddr>,
    timeouts: Timeouts,
    pump: JoinHandle<()>,
    driver: JoinHandle<()>,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.pump.abort();
        self.driver.abort();
    }
}

/// What a question found, its first page only.
#[derive(Debug, Default)]
pub struct Found {
    pub entries: Vec<StructureTag>,
    /// The directory has more than was asked for.
    pub has_more: bool,
}

impl Guarded {
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
        let pump = tokio::spawn(guard::pump(stream, outer, limits, Arc::clone(&verdict), server.clone()));
        Ok(Self { ldap, verdict, server, address: None, timeouts, pump, driver })
    }

    /// With the address of the other end.
    pub fn at(mut self, address: Option<IpAddr>) -> Self {
        self.address = address;
        self
    }

    /// The address of the other end, where it is known.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
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
            Err(_) => Err(errors::bind_timed_out(&self.server, self.timeouts.bind)),
            Ok(Err(error)) => Err(self.lost(&error.to_string()).await),
            Ok(Ok(result)) if result.rc == 0 => Ok(()),
            Ok(Ok(result)) => {
                let refused = ServerResult { code: result.rc, diagnostic: &result.text, matched: &result.matched };
                Err(errors::failure(Operation::Bind(&credentials.bind_dn), &self.server, refused))
            }
        }
    }

    /// The first page of a search; the same without paging where the server has none.
    pub async fn find(&mut self, request: &SearchRequest) -> Result<Found, Failure> {
        self.find_with(request, Vec::new()).await
    }

    /// [`Guarded::find`] with controls beside that of paging.
    pub async fn find_with(&mut self, request: &SearchRequest, controls: Vec<RawControl>) -> Result<Found, Failure> {
        match self.try_find(request, request.page_size > 0, controls.clone()).await? {
            Some(found) => Ok(found),
            None => Ok(self.try_find(request, false, controls).await?.unwrap_or_default()),
        }
    }

    /// Changes an entry (RFC 4511 §4.6). `who` is the account that this connection was bound as.
    pub async fn modify(
        &mut self,
        dn: &str,
        who: &str,
        changes: Vec<Mod<Vec<u8>>>,
        controls: Vec<RawControl>,
    ) -> Result<(), Failure> {
        let silence = self.timeouts.silence;
        if !controls.is_empty() {
            self.ldap.with_controls(controls);
        }
        match timeout(silence, self.ldap.modify(dn, changes)).await {
            Err(_) => Err(errors::modify_timed_out(&self.server, silence)),
            Ok(Err(error)) => Err(self.lost(&error.to_string()).await),
            Ok(Ok(result)) if result.rc == 0 => Ok(()),
            Ok(Ok(result)) => {
                let refused = ServerResult { code: result.rc, diagnostic: &result.text, matched: &result.matched };
                Err(errors::failure(Operation::Modify { who, dn }, &self.server, refused))
            }
        }
    }

    /// `None`: the server has no paging.
    async fn try_find(
        &mut self,
        request: &SearchRequest,
        is_paged: bool,
        mut controls: Vec<RawControl>,
    ) -> Result<Option<Found>, Failure> {
        let silence = self.timeouts.silence;
        let mut options = SearchOptions::new().deref(DerefAliases::Never);
        if let (false, Some(max)) = (is_paged, request.entries_max) {
            options = options.sizelimit(i32::try_from(max).unwrap_or(i32::MAX));
        }
        self.ldap.with_search_options(options);
        if is_paged {
            controls.push(paging_control(request.page_size));
        }
        if !controls.is_empty() {
            self.ldap.with_controls(controls);
        }
        let scope = match request.scope {
            Scope::Base => ldap3::Scope::Base,
            Scope::One => ldap3::Scope::OneLevel,
            Scope::Sub => ldap3::Scope::Subtree,
        };
        let started = self.ldap.streaming_search(&request.base, scope, &request.filter, request.attributes.clone());
        let mut stream = match timeout(silence, started).await {
            Err(_) => return Err(errors::silent(&self.server, &request.base, silence)),
            Ok(Err(ldap3::LdapError::FilterParsing)) => {
                return Err(Failure::new(
                    FailureKind::InvalidSettings,
                    format!("The filter {} is not valid.", errors::printable(&request.filter)),
                    "Correct the filter in the directory's settings.",
                ));
            }
            Ok(Err(error)) => return Err(self.lost(&error.to_string()).await),
            Ok(Ok(stream)) => stream,
        };
        let mut found = Found::default();
        loop {
            match timeout(silence, stream.next()).await {
                Err(_) => return Err(errors::silent(&self.server, &request.base, silence)),
                Ok(Err(error)) => return Err(self.lost(&error.to_string()).await),
                Ok(Ok(Some(entry))) if entry.is_ref() || entry.is_intermediate() => (),
                Ok(Ok(Some(entry))) => found.entries.push(entry.0),
                Ok(Ok(None)) => break,
            }
        }
        let result = stream.finish().await;
        match result.rc {
            0 => (),
            12 if is_paged => return Ok(None),
            4 if !is_paged && request.entries_max.is_some_and(|max| found.entries.len() >= max as usize) => {
                found.has_more = true;
                return Ok(Some(found));
            }
            code => {
                let refused = ServerResult { code, diagnostic: &result.text, matched: &result.matched };
                let mut failure = errors::failure(Operation::Search(&request.base), &self.server, refused);
                if code == 4 && !is_paged && request.page_size > 0 {
                    failure.message.push_str(" The server does not offer paging.");
                }
                return Err(failure);
            }
        }
        if let Some(control) = result.ctrls.iter().find(|control| control.1.ctype == PAGED_RESULTS) {
            // ldap3's own reader panics on a malformed one.
            let cookie = answer::paging_cookie(control.1.val.as_deref().unwrap_or_default());
            found.has_more = !cookie.map_err(|violation| violation.into_failure(&self.server))?.is_empty();
        }
        Ok(Some(found))
    }

    /// What the server says about itself (RFC 4512 §5.1). Servers may hide it, so that an empty answer is no failure.
    pub async fn root_dse(&mut self) -> Result<RootDse, Failure> {
        let found = self.find(&RootDse::request()).await?;
        Ok(found.entries.first().map(|entry| RootDse::from_values(|name| texts(entry, name))).unwrap_or_default())
    }

    /// Says goodbye and closes.
    pub async fn close(mut self) {
        let _ = timeout(Duration::from_secs(1), self.ldap.unbind()).await;
    }

    /// Why the connection ended: the guard's reason if it has one, else ldap3's.
    async fn lost(&mut self, error: &str) -> Failure {
        // The guard sets its verdict before it ends.
        let _ = timeout(Duration::from_secs(1), &mut self.pump).await;
        self.verdict.failure().unwrap_or_else(|| errors::lost(&self.server, error))
    }
}

/// The DN of an entry; empty where it is none. The guard has checked the shape.
pub fn dn(entry: &StructureTag) -> String {
    parts(entry).first().map(|dn| String::from_utf8_lossy(octets(dn)).into_owned()).unwrap_or_default()
}

/// The values of one attribute. The guard has checked the shape; what is not as expected is simply not there.
pub fn bytes(entry: &StructureTag, name: &str) -> Vec<Vec<u8>> {
    let attributes = parts(entry).get(1).map(parts).unwrap_or_default();
    let is_it = |attribute: &&StructureTag| {
        parts(attribute).first().is_some_and(|given| octets(given).eq_ignore_ascii_case(name.as_bytes()))
    };
    let values = attributes.iter().find(is_it).and_then(|attribute| parts(attribute).get(1));
    values.map(|values| parts(values).iter().map(|value| octets(value).to_vec()).collect()).unwrap_or_default()
}

/// The same as text.
pub fn texts(entry: &StructureTag, name: &str) -> Vec<String> {
    bytes(entry, name).iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

fn parts(tag: &StructureTag) -> &[StructureTag] {
    match &tag.payload {
        PL::C(parts) => parts,
        PL::P(_) => &[],
    }
}

fn octets(tag: &StructureTag) -> &[u8] {
    match &tag.payload {
        PL::P(bytes) => bytes,
        PL::C(_) => &[],
    }
}

/// The request control of RFC 2696 §2: critical, so that a server without paging says so.
fn paging_control(page_size: u32) -> RawControl {
    use ldap3::controls::{MakeCritical as _, PagedResults};
    let size = i32::try_from(page_size).unwrap_or(i32::MAX);
    PagedResults { size, cookie: Vec::new() }.critical().into()
}
