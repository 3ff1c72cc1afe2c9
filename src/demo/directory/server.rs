//! LDAP on a socket: connections, binds and searches over the sample directory (RFC 4511, RFC 2696 paging).
//!
//! Owns the wire and its limits: message length, number of connections, idle time, slow readers. The codec is
//! ldap3_proto's; in front of it stands a check of the first bytes, so that a message that announces too much, or is no
//! LDAP request at all, ends the connection before it is read. One connection can hurt only itself: it must never
//! panic the process, make memory grow, or keep another one waiting.

use std::{collections::VecDeque, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use ldap3_proto::{
    DisconnectionNotice, LdapCodec,
    control::LdapControl,
    proto::{
        LdapBindCred, LdapBindRequest, LdapBindResponse, LdapCompareRequest, LdapExtendedRequest, LdapExtendedResponse,
        LdapFilter, LdapMsg, LdapOp, LdapPartialAttribute, LdapResult, LdapResultCode, LdapSearchRequest,
        LdapSearchResultEntry, LdapSearchScope, OID_WHOAMI,
    },
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{
    bytes::BytesMut,
    codec::{Decoder, Encoder, Framed},
};

use super::{
    SampleDirectory,
    entry::{self, Attribute, Content, Dn, Entry, Scope, Snapshot, Usage},
    filter::Filter,
    rendering::{ACTOR_DN, BASE_DN, READER_DN},
};
use crate::secret;

/// What one server takes before it says no.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; one more is closed at once.
    pub connections_max: usize,
    /// One request, headers included.
    pub message_bytes_max: usize,
    /// A connection that asks nothing for so long is closed.
    pub idle_ms: u64,
    /// A TLS handshake has to be done in this time.
    pub handshake_ms: u64,
    /// A client that takes nothing for so long is cut.
    pub write_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 32,
            message_bytes_max: 64 * 1024,
            idle_ms: 300_000,
            handshake_ms: 10_000,
            write_ms: 30_000,
        }
    }
}

/// Paged searches that one connection may have open; the oldest is forgotten for a new one.
const PAGED_SEARCHES_MAX: usize = 4;
/// Nesting of BER elements in one request; the deepest filter a person writes needs a dozen.
const DEPTH_MAX: usize = 64;
const PAGED_RESULTS: &str = "1.2.840.113556.1.4.319";
const MANAGE_DSA_IT: &str = "2.16.840.1.113730.3.4.2";

/// Serves the directory until the future is dropped; every connection ends with it. With `tls` this is LDAPS, without
/// it plain LDAP. Fails when the listener is not on loopback: the sample directory is for this machine only.
pub async fn serve(
    directory: Arc<SampleDirectory>,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    limits: Limits,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the sample directory listens on loopback only, not on {address}"),
        ));
    }
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                        tracing::warn!(%peer, "the sample directory has all its connections in use");
                        continue;
                    };
                    connections.spawn(connection(Arc::clone(&directory), stream, peer, tls.clone(), limits.clone(), slot));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to come back rather than spin.
                    tracing::warn!(%error, "the sample directory could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(
    directory: Arc<SampleDirectory>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    limits: Limits,
    _slot: OwnedSemaphorePermit,
) {
    // Many small answers on one stream: without this each waits for the acknowledgement of the one before.
    let ended = match (stream.set_nodelay(true), tls) {
        (Err(error), _) => Err(error),
        (Ok(()), None) => converse(&directory, stream, &limits).await,
        (Ok(()), Some(config)) => match within(limits.handshake_ms, TlsAcceptor::from(config).accept(stream)).await {
            Ok(stream) => converse(&directory, stream, &limits).await,
            Err(error) => Err(error),
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection to the sample directory ended early");
    }
}

async fn within<T>(limit_ms: u64, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(Duration::from_millis(limit_ms), work).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// ldap3_proto's codec behind a check of the first bytes of each message.
struct Codec {
    inner: LdapCodec,
    message_bytes_max: usize,
}

impl Codec {
    fn new(message_bytes_max: usize) -> Self {
        Self { inner: LdapCodec::new(Some(message_bytes_max), Some(DEPTH_MAX)), message_bytes_max }
    }

    /// Whether what has arrived can still become a request: a sequence of a definite, bearable length, a message id,
    /// and the tag of a request (RFC 4511 §4.1.1, §5.1). Bytes that are not there yet are not missed.
    fn check_start(&self, received: &[u8]) -> Result<(), &'static str> {
        let mut bytes = received.iter().copied();
        match bytes.next() {
            None => return Ok(()),
            Some(0x30) => {}
            Some(_) => return Err("not an LDAP message"),
        }
        match bytes.next() {
            None => return Ok(()),
            Some(short @ ..=0x7F) if usize::from(short) <= self.message_bytes_max => {}
            Some(count @ 0x81..=0x84) => {
                let mut length = 0_usize;
                for _ in 0x80..count {
                    let Some(byte) = bytes.next() else { return Ok(()) };
                    length = length << 8 | usize::from(byte);
                }
                if length > self.message_bytes_max {
                    return Err("the message is too long");
                }
            }
            Some(_) => return Err("the message is too long"),
        }
        match (bytes.next(), bytes.next()) {
            (None, _) | (Some(0x02), None) => return Ok(()),
            (Some(0x02), Some(length @ 1..=4)) => {
                for _ in 0..length {
                    if bytes.next().is_none() {
                        return Ok(());
                    }
                }
            }
            _ => return Err("no message id"),
        }
        match bytes.next() {
            // Bind, unbind, search, modify, add, delete, modify DN, compare, abandon, extended.
            None | Some(0x60 | 0x42 | 0x63 | 0x66 | 0x68 | 0x4A | 0x6C | 0x6E | 0x50 | 0x77) => Ok(()),
            Some(_) => Err("not an LDAP request"),
        }
    }
}

impl Decoder for Codec {
    type Item = LdapMsg;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<LdapMsg>> {
        self.check_start(buffer).map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason))?;
        self.inner.decode(buffer)
    }
}

impl Encoder<LdapMsg> for Codec {
    type Error = io::Error;

    fn encode(&mut self, message: LdapMsg, buffer: &mut BytesMut) -> io::Result<()> {
        self.inner.encode(message, buffer)
    }
}

/// One connection's state.
#[derive(Default)]
struct Session {
    /// May read.
    is_reader: bool,
    /// May act, and read.
    is_actor: bool,
    paged: VecDeque<Paged>,
}

/// A search of which some pages are still to come.
struct Paged {
    cookie: [u8; 16],
    request: LdapSearchRequest,
    /// What is left, and with it the snapshot that the first page was taken from. Unchanged entries are shared between
    /// snapshots, so that an old one costs little.
    left: VecDeque<Arc<Entry>>,
    /// Entries that the client's size limit still allows; nothing when it set none.
    allowance: Option<usize>,
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    directory: &SampleDirectory,
    stream: S,
    limits: &Limits,
) -> io::Result<()> {
    let mut framed = Framed::new(stream, Codec::new(limits.message_bytes_max));
    let mut session = Session::default();
    loop {
        let message = match tokio::time::timeout(Duration::from_millis(limits.idle_ms), framed.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => {
                let notice = DisconnectionNotice::gen_response(LdapResultCode::ProtocolError, &error.to_string());
                within(limits.write_ms, framed.send(notice)).await?;
                return Err(error);
            }
            Err(_) => {
                let notice = DisconnectionNotice::gen_response(LdapResultCode::Unavailable, "idle for too long");
                return within(limits.write_ms, framed.send(notice)).await;
            }
        };
        let id = message.msgid;
        let Some((answers, done)) = answer(directory, &mut session, message) else { return Ok(()) };
        for entry in answers {
            within(limits.write_ms, framed.feed(LdapMsg::new(id, LdapOp::SearchResultEntry(entry)))).await?;
        }
        if let Some(done) = done {
            within(limits.write_ms, framed.send(done)).await?;
        }
    }
}

/// The entries of an answer, made as they are sent, and its last message.
type Answer = (Box<dyn Iterator<Item = LdapSearchResultEntry> + Send>, Option<LdapMsg>);

fn result(code: LdapResultCode, message: &str) -> LdapResult {
    LdapResult { code, matcheddn: String::new(), message: message.to_owned(), referral: Vec::new() }
}

/// The answer to one request; nothing when the connection is to end.
fn answer(directory: &SampleDirectory, session: &mut Session, message: LdapMsg) -> Option<Answer> {
    let LdapMsg { msgid, op, ctrl } = message;
    // A critical control that is not known has to be refused (RFC 4511 §4.1.11); these two ask nothing of a server
    // without referrals, or are taken by the search.
    let is_refused = ctrl.iter().any(|control| match control {
        LdapControl::SimplePagedResults { .. } | LdapControl::ManageDsaIT { .. } => false,
        LdapControl::SyncRequest { criticality, .. }
        | LdapControl::PasswordPolicyRequest { criticality }
        | LdapControl::SearchOptions { criticality, .. }
        | LdapControl::ShowDeleted { criticality }
        | LdapControl::SdFlags { criticality, .. }
        | LdapControl::ExtendedDn { criticality, .. }
        | LdapControl::Unknown { criticality, .. } => *criticality,
        // The codec does not keep how critical these are; to answer without them could mislead.
        LdapControl::ServerSort { .. } | LdapControl::AdDirsync { .. } => true,
        LdapControl::SyncState { .. } | LdapControl::SyncDone { .. } | LdapControl::ServerSortResult { .. } => false,
    });
    let refusal = || result(LdapResultCode::UnavailableCriticalExtension, "this control is not supported");
    let unwilling = || match is_refused {
        true => refusal(),
        false => result(LdapResultCode::UnwillingToPerform, "the sample directory is for reading only"),
    };
    let op = match op {
        LdapOp::UnbindRequest => return None,
        // Every answer is whole before the next request is read: there is never anything left to abandon.
        LdapOp::AbandonRequest(_) => return Some((Box::new(std::iter::empty()), None)),
        LdapOp::BindRequest(_) if is_refused => {
            LdapOp::BindResponse(LdapBindResponse { res: refusal(), saslcreds: None })
        }
        LdapOp::BindRequest(request) => {
            // A bind ends what the identity before it had begun (§4.2.1).
            *session = Session::default();
            let res = bind(directory, &request);
            session.is_reader = res.code == LdapResultCode::Success && !request.dn.is_empty();
            session.is_actor = session.is_reader && Dn::parse(&request.dn) == Dn::parse(ACTOR_DN);
            LdapOp::BindResponse(LdapBindResponse { res, saslcreds: None })
        }
        LdapOp::SearchRequest(_) if is_refused => LdapOp::SearchResultDone(refusal()),
        LdapOp::SearchRequest(request) => return Some(search(directory, session, msgid, request, &ctrl)),
        LdapOp::CompareRequest(_) if is_refused => LdapOp::CompareResult(refusal()),
        LdapOp::CompareRequest(request) => LdapOp::CompareResult(compare(directory, session, &request)),
        LdapOp::ExtendedRequest(request) => LdapOp::ExtendedResponse(extended(session, &request)),
        LdapOp::ModifyRequest(request) if session.is_actor && !is_refused => {
            LdapOp::ModifyResponse(match directory.modify(&request) {
                Ok(()) => result(LdapResultCode::Success, ""),
                Err((code, message)) => result(code, message),
            })
        }
        LdapOp::ModifyRequest(_) => LdapOp::ModifyResponse(unwilling()),
        LdapOp::AddRequest(_) => LdapOp::AddResponse(unwilling()),
        LdapOp::DelRequest(_) => LdapOp::DelResponse(unwilling()),
        LdapOp::ModifyDNRequest(_) => LdapOp::ModifyDNResponse(unwilling()),
        // A response is no request; the check of the first bytes lets none through.
        _ => return None,
    };
    Some((Box::new(std::iter::empty()), Some(LdapMsg::new(msgid, op))))
}

fn bind(directory: &SampleDirectory, request: &LdapBindRequest) -> LdapResult {
    use LdapResultCode::{AuthMethodNotSupported, InvalidCredentials, ProtocolError, Success, UnwillingToPerform};
    if request.version != 3 {
        return result(ProtocolError, "only LDAP version 3");
    }
    let LdapBindCred::Simple(password) = &request.cred else {
        return result(AuthMethodNotSupported, "only simple binds");
    };
    match (request.dn.is_empty(), password.is_empty()) {
        (true, true) => result(Success, ""),
        // Not anonymous and not a proof either (RFC 4513 §5.1.2).
        (false, true) => result(UnwillingToPerform, "a bind with a name needs a password"),
        (is_nameless, false) => {
            let known = [(READER_DN, directory.password()), (ACTOR_DN, directory.actor_password())];
            let is_right = known.iter().any(|(dn, right)| {
                let is_known = !is_nameless && Dn::parse(&request.dn) == Dn::parse(dn);
                is_known && secret::equal(password.as_bytes(), right.expose().as_bytes())
            });
            if is_right { result(Success, "") } else { result(InvalidCredentials, "") }
        }
    }
}

fn extended(session: &Session, request: &LdapExtendedRequest) -> LdapExtendedResponse {
    if request.name == OID_WHOAMI {
        let who = match (session.is_actor, session.is_reader) {
            (true, _) => format!("dn:{ACTOR_DN}"),
            (false, true) => format!("dn:{READER_DN}"),
            (false, false) => String::new(),
        };
        return LdapExtendedResponse { res: result(LdapResultCode::Success, ""), name: None, value: Some(who.into()) };
    }
    // StartTLS among them: the same port never speaks both (RFC 4511 §4.12 for the code).
    let res = result(LdapResultCode::ProtocolError, "this extended operation is not supported");
    LdapExtendedResponse { res, name: None, value: None }
}

fn compare(directory: &SampleDirectory, session: &Session, request: &LdapCompareRequest) -> LdapResult {
    if !session.is_reader {
        return result(LdapResultCode::InsufficentAccessRights, "bind first");
    }
    let Some(dn) = Dn::parse(&request.dn) else { return result(LdapResultCode::InvalidDNSyntax, "not a DN") };
    let snapshot = directory.snapshot();
    let Some(entry) = snapshot.find(&dn.key) else { return no_such_object(&snapshot, &dn) };
    if entry::attribute_type(&request.atype).is_none() {
        return result(LdapResultCode::UndefinedAttributeType, "");
    }
    let is_equal = String::from_utf8(request.val.clone()).is_ok_and(|value| {
        Filter::new(&LdapFilter::Equality(request.atype.clone(), value)).is_ok_and(|f| f.matches(entry))
    });
    result(if is_equal { LdapResultCode::CompareTrue } else { LdapResultCode::CompareFalse }, "")
}

fn no_such_object(snapshot: &Snapshot, dn: &Dn) -> LdapResult {
    let matcheddn = snapshot.nearest(&dn.key).map(|entry| entry.dn.clone()).unwrap_or_default();
    LdapResult { matcheddn, ..result(LdapResultCode::NoSuchObject, "") }
}

/// What the server says about itself (RFC 4512 §5.1), readable by everybody.
fn root_dse() -> Entry {
    let mut content = Content::default();
    content.add(&entry::OBJECT_CLASS, ["top"]);
    content.add(&entry::NAMING_CONTEXTS, [BASE_DN]);
    content.add(&entry::SUPPORTED_LDAP_VERSION, ["3"]);
    content.add(&entry::SUPPORTED_CONTROL, [PAGED_RESULTS, MANAGE_DSA_IT]);
    content.add(&entry::SUPPORTED_EXTENSION, [OID_WHOAMI]);
    // "+" for operational attributes (RFC 3673), `(&)` and `(|)` (RFC 4526).
    content.add(&entry::SUPPORTED_FEATURES, ["1.3.6.1.4.1.4203.1.5.1", "1.3.6.1.4.1.4203.1.5.3"]);
    content.add(&entry::VENDOR_NAME, ["Bailiwick demo, sample directory"]);
    content.add(&entry::VENDOR_VERSION, [env!("CARGO_PKG_VERSION")]);
    Entry { dn: String::new(), key: String::new(), content, stamps: Content::default() }
}

fn search(
    directory: &SampleDirectory,
    session: &mut Session,
    id: i32,
    request: LdapSearchRequest,
    ctrl: &[LdapControl],
) -> Answer {
    let fail = |res: LdapResult| -> Answer {
        (Box::new(std::iter::empty()), Some(LdapMsg::new(id, LdapOp::SearchResultDone(res))))
    };
    let mut pages = ctrl.iter().filter_map(|control| match control {
        LdapControl::SimplePagedResults { size, cookie } => Some((*size, cookie)),
        _ => None,
    });
    let page = pages.next();
    let Ok(size_limit) = usize::try_from(request.sizelimit) else {
        return fail(result(LdapResultCode::ProtocolError, "a negative size limit"));
    };
    let page_size = match page.map(|(size, _)| usize::try_from(size)).transpose() {
        Ok(size) if pages.next().is_none() => size,
        _ => return fail(result(LdapResultCode::ProtocolError, "the paging control is not valid")),
    };

    let (mut left, allowance) = match page {
        Some((_, cookie)) if !cookie.is_empty() => {
            // Cookies are this connection's own, for the search they came from, and good for one use (RFC 2696 §3).
            let known = session.paged.iter().position(|paged| paged.cookie.as_slice() == cookie.as_slice());
            let paged = known.and_then(|index| session.paged.remove(index));
            match paged.filter(|paged| paged.request == request) {
                Some(paged) => (paged.left, paged.allowance),
                None => {
                    return fail(result(
                        LdapResultCode::UnwillingToPerform,
                        "the paging cookie is not valid (any more)",
                    ));
                }
            }
        }
        _ => match found(directory, session, &request) {
            Ok(found) => (found, Some(size_limit).filter(|limit| *limit > 0)),
            Err(res) => return fail(res),
        },
    };
    // A page of size 0 with a cookie gives the search up.
    let is_given_up = page_size == Some(0) && page.is_some_and(|(_, cookie)| !cookie.is_empty());
    if is_given_up {
        left.clear();
    }

    let total = left.len();
    let mut take = page_size.filter(|size| *size > 0).unwrap_or(usize::MAX).min(total);
    let mut code = LdapResultCode::Success;
    if allowance.is_some_and(|allowed| allowed < total && allowed <= take) {
        take = allowance.unwrap_or_default();
        code = LdapResultCode::SizeLimitExceeded;
    }
    let rest = left.split_off(take);
    let mut done = LdapMsg::new(id, LdapOp::SearchResultDone(result(code.clone(), "")));
    if page.is_some() {
        let mut cookie = Vec::new();
        if !rest.is_empty() && code == LdapResultCode::Success {
            let mut fresh = [0_u8; 16];
            secret::fill_random(&mut fresh);
            cookie = fresh.to_vec();
            if session.paged.len() >= PAGED_SEARCHES_MAX {
                session.paged.pop_front();
            }
            let allowance = allowance.map(|allowed| allowed.saturating_sub(take));
            session.paged.push_back(Paged { cookie: fresh, request: request.clone(), left: rest, allowance });
        }
        done.ctrl.push(LdapControl::SimplePagedResults { size: i64::try_from(total).unwrap_or(0), cookie });
    }
    let selection = Selection::new(&request);
    (Box::new(left.into_iter().map(move |entry| selection.of(&entry))), Some(done))
}

/// Everything that a new search finds.
fn found(
    directory: &SampleDirectory,
    session: &Session,
    request: &LdapSearchRequest,
) -> Result<VecDeque<Arc<Entry>>, LdapResult> {
    let filter = Filter::new(&request.filter)
        .map_err(|_| result(LdapResultCode::AdminLimitExceeded, "the filter has too many conditions"))?;
    let base =
        Dn::parse(&request.base).ok_or_else(|| result(LdapResultCode::InvalidDNSyntax, "the base is not a DN"))?;
    if base.key.is_empty() && request.scope == LdapSearchScope::Base {
        let entry = root_dse();
        return Ok(filter.matches(&entry).then(|| Arc::new(entry)).into_iter().collect());
    }
    if !session.is_reader {
        return Err(result(
            LdapResultCode::InsufficentAccessRights,
            "bind first; anonymous users may read the root DSE only",
        ));
    }
    let snapshot = directory.snapshot();
    if snapshot.find(&base.key).is_none() {
        return Err(no_such_object(&snapshot, &base));
    }
    let scope = match request.scope {
        LdapSearchScope::Base => Scope::Base,
        LdapSearchScope::OneLevel => Scope::One,
        LdapSearchScope::Subtree => Scope::Subtree,
        LdapSearchScope::Children => Scope::Children,
    };
    Ok(snapshot.in_scope(&base.key, scope).filter(|entry| filter.matches(entry)).map(Arc::clone).collect())
}

/// Which attributes a search asked for (RFC 4511 §4.5.1.8).
struct Selection {
    named: Vec<&'static str>,
    is_all_user: bool,
    is_all_operational: bool,
    is_types_only: bool,
}

impl Selection {
    fn new(request: &LdapSearchRequest) -> Self {
        let has = |wanted: &str| request.attrs.iter().any(|name| name == wanted);
        Self {
            // Names that the schema does not know are passed over, and so is "1.1", which asks for nothing.
            named: request.attrs.iter().filter_map(|name| entry::attribute_type(name)).map(|kind| kind.name).collect(),
            is_all_user: request.attrs.is_empty() || has("*"),
            is_all_operational: has("+"),
            is_types_only: request.typesonly,
        }
    }

    fn wants(&self, attribute: &Attribute) -> bool {
        let by_kind = match attribute.kind.usage {
            Usage::User => self.is_all_user,
            Usage::Operational => self.is_all_operational,
        };
        by_kind || self.named.contains(&attribute.kind.name)
    }

    fn of(&self, entry: &Entry) -> LdapSearchResultEntry {
        let attributes = entry.attributes().filter(|attribute| self.wants(attribute)).map(|attribute| {
            let values = if self.is_types_only { &[] } else { attribute.values.as_slice() };
            LdapPartialAttribute {
                atype: attribute.kind.name.to_owned(),
                vals: values.iter().map(|value| value.clone().into_bytes()).collect(),
            }
        });
        LdapSearchResultEntry { dn: entry.dn.clone(), attributes: attributes.collect() }
    }
}

/// The codec for the property tests next door.
#[cfg(test)]
pub fn tests_only_codec(message_bytes_max: usize) -> impl Decoder<Item = LdapMsg, Error = io::Error> {
    Codec::new(message_bytes_max)
}
