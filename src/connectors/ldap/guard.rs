//! The guard between the wire and ldap3: nothing that a directory sends reaches ldap3 unchecked.
//!
//! Measured on ldap3 0.12.1: deep nesting overflows its stack and a huge length makes it allocate until the process is
//! aborted; `30 00`, an unknown operation or a malformed control panics its task (HOSTILE L17–L19). So ldap3 speaks
//! into one end of a socket pair, and the guard carries its requests to the wire and brings back only messages whose
//! length, nesting, shape and message id are right (RFC 4511). The first that is not ends the connection.
//!
//! Search entries don't go through ldap3 at all: the guard has checked them already, so it hands them to the reader as
//! bytes over a short channel. That keeps memory bounded (ldap3's own channel is not) and makes a slow reader slow the
//! server down instead of filling our memory.
//!
//! Owns the framing and the limits. It must never recurse, reserve memory because of a length it was told, forward an
//! answer to a question that nobody asked, or log the content of a message.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
};

use super::ber::{self, BerError, Elements, tag};
use crate::connectors::{Failure, FailureKind};

/// What one message may be at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Whole message. A group with 50,000 members of 80 bytes is 4 MiB.
    pub message_bytes: usize,
    /// Nesting outside of search entries, whose nesting is fixed.
    pub depth: usize,
    /// Elements of one message. An element of two bytes costs fifty once it is decoded, so bytes alone don't bound memory.
    pub elements: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: 16 * 1024 * 1024, depth: 32, elements: 500_000 }
    }
}

/// Why the guard refused what the server sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("the answer does not start like an LDAP message (first byte {first:#04x}){hint}")]
    NotLdap { first: u8, hint: &'static str },
    #[error("it announced a message of {announced} bytes; {limit} are accepted")]
    TooLong { announced: usize, limit: usize },
    #[error("a message is malformed: {0}")]
    Ber(#[from] BerError),
    #[error("a message is malformed: {0}")]
    Shape(&'static str),
    #[error("it sent an operation (tag {0:#04x}) that is no answer")]
    UnknownOperation(u8),
    #[error("it answered message {id}, which nobody asked")]
    Unsolicited { id: u32 },
    #[error("it answered message {id} with the wrong operation (tag {op:#04x})")]
    WrongAnswer { id: u32, op: u8 },
    #[error("it sent data before the encryption was agreed")]
    EarlyBytes,
}

impl Violation {
    pub fn into_failure(self, server: &str) -> Failure {
        let next_step = match &self {
            Self::NotLdap { .. } => "Check the port and the scheme: ldap:// is usually port 389, ldaps:// port 636.",
            Self::TooLong { .. } => {
                "Leave large attributes out of what is read (attributes in the settings), or split the object in the directory."
            }
            Self::EarlyBytes => {
                "Somebody may be tampering with the connection; use ldaps:// and check the network path."
            }
            _ => "Check that this address really is an LDAP server and that nothing on the way alters the traffic.",
        };
        Failure::new(
            FailureKind::ProtocolViolation,
            format!("{server} broke the LDAP protocol, so the connection was closed: {self}."),
            next_step,
        )
    }
}

/// A checked message: who it answers and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub id: u32,
    /// The tag of the operation.
    pub op: u8,
    /// The content of the operation.
    pub body: &'a [u8],
}

/// The whole length of the message that `bytes` starts with; `None` while its header is incomplete.
pub fn frame_length(bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Violation> {
    match bytes.first() {
        None => return Ok(None),
        Some(&tag::SEQUENCE) => (),
        Some(&first) => {
            let hint = match first {
                0x15 | 0x16 => "; it looks like TLS, so the address should be ldaps://",
                b'S' | b'H' | b'2' | b'<' | b'*' | b'+' => "; it looks like a server of another kind",
                _ => "",
            };
            return Err(Violation::NotLdap { first, hint });
        }
    }
    let Some(header) = ber::read_header(bytes)? else { return Ok(None) };
    let total = header.header_bytes.saturating_add(header.content_bytes);
    if total > limits.message_bytes {
        return Err(Violation::TooLong { announced: total, limit: limits.message_bytes });
    }
    Ok(Some(total))
}

/// Splits a complete message without looking into its operation.
fn open_envelope(frame: &[u8]) -> Result<(Envelope<'_>, Elements<'_>), Violation> {
    let mut outer = Elements::new(frame);
    let content = outer.expect(tag::SEQUENCE).ok_or(Violation::Shape("it is not one sequence"))?;
    if !outer.is_empty() {
        return Err(Violation::Shape("it is not one sequence"));
    }
    let mut parts = Elements::new(content);
    let id = parts.expect(tag::INTEGER).and_then(ber::unsigned).ok_or(Violation::Shape("it has no message id"))?;
    let op = parts.next_element()?.ok_or(Violation::Shape("it has no operation"))?;
    Ok((Envelope { id, op: op.tag, body: op.content }, parts))
}

/// Checks one complete message from a server: afterwards ldap3 can read it without a panic.
pub fn check_answer<'a>(frame: &'a [u8], limits: &Limits) -> Result<Envelope<'a>, Violation> {
    let (envelope, mut rest) = open_envelope(frame)?;
    match envelope.op {
        // The shape of an entry is fixed, so checking it is also the check of its tree.
        tag::SEARCH_ENTRY => check_entry(envelope.body, limits)?,
        tag::SEARCH_REFERENCE => check_strings(envelope.body)?,
        tag::BIND_RESPONSE
        | tag::SEARCH_DONE
        | tag::MODIFY_RESPONSE
        | tag::ADD_RESPONSE
        | tag::DELETE_RESPONSE
        | tag::MODIFY_DN_RESPONSE
        | tag::COMPARE_RESPONSE
        | tag::EXTENDED_RESPONSE => {
            ber::check_tree(envelope.body, limits.depth, limits.elements)?;
            check_result(envelope.body)?;
        }
        tag::INTERMEDIATE_RESPONSE => ber::check_tree(envelope.body, limits.depth, limits.elements)?,
        other => return Err(Violation::UnknownOperation(other)),
    }
    match rest.next_element()? {
        None => (),
        Some(element) if element.tag == tag::CONTROLS => {
            ber::check_tree(element.content, limits.depth, limits.elements)?;
            check_controls(element.content)?;
        }
        // AD puts the name of its notice of disconnection where the controls belong.
        Some(element) if element.tag == 0x8a && envelope.op == tag::EXTENDED_RESPONSE && envelope.id == 0 => (),
        Some(_) => return Err(Violation::Shape("something other than controls follows the operation")),
    }
    if !rest.is_empty() {
        return Err(Violation::Shape("something follows the controls"));
    }
    Ok(envelope)
}

/// `SearchResultEntry` (RFC 4511 §4.5.2): DN, then a sequence of (type, set of values).
fn check_entry(body: &[u8], limits: &Limits) -> Result<(), Violation> {
    const SHAPE: Violation = Violation::Shape("an entry is not a DN and a list of attributes");
    let mut parts = Elements::new(body);
    parts.expect(tag::OCTET_STRING).ok_or(SHAPE)?;
    let mut attributes = Elements::new(parts.expect(tag::SEQUENCE).ok_or(SHAPE)?);
    if !parts.is_empty() {
        return Err(SHAPE);
    }
    let mut seen = 0_usize;
    while let Some(attribute) = attributes.next_element()? {
        if attribute.tag != tag::SEQUENCE {
            return Err(SHAPE);
        }
        let mut attribute = Elements::new(attribute.content);
        attribute.expect(tag::OCTET_STRING).ok_or(SHAPE)?;
        let mut values = Elements::new(attribute.expect(tag::SET).ok_or(SHAPE)?);
        if !attribute.is_empty() {
            return Err(SHAPE);
        }
        seen += 3;
        while let Some(value) = values.next_element()? {
            seen += 1;
            if value.tag != tag::OCTET_STRING {
                return Err(SHAPE);
            }
        }
        if seen > limits.elements {
            return Err(Violation::Ber(BerError::TooMany));
        }
    }
    Ok(())
}

/// A non-empty list of URIs.
fn check_strings(body: &[u8]) -> Result<(), Violation> {
    const SHAPE: Violation = Violation::Shape("a referral is not a list of addresses");
    let mut parts = Elements::new(body);
    if parts.is_empty() {
        return Err(SHAPE);
    }
    while let Some(part) = parts.next_element()? {
        if part.tag != tag::OCTET_STRING || std::str::from_utf8(part.content).is_err() {
            return Err(SHAPE);
        }
    }
    Ok(())
}

/// `LDAPResult` (RFC 4511 §4.1.9) and what bind and extended responses add to it.
fn check_result(body: &[u8]) -> Result<(), Violation> {
    const SHAPE: Violation = Violation::Shape("a result is not a code, a DN and a message");
    let is_text = |content: &[u8]| std::str::from_utf8(content).is_ok();
    let mut parts = Elements::new(body);
    parts.expect(tag::ENUMERATED).and_then(ber::unsigned).ok_or(SHAPE)?;
    for _ in ["matchedDN", "diagnosticMessage"] {
        parts.expect(tag::OCTET_STRING).filter(|content| is_text(content)).ok_or(SHAPE)?;
    }
    while let Some(part) = parts.next_element()? {
        // ldap3 looks at the number of the tag only, so the number decides here what the whole tag has to be.
        match (part.tag & 0x1f, part.tag) {
            (3, 0xa3) => check_strings(part.content)?,
            (7, 0x87) | (11, 0x8b) => (),
            (10, 0x8a) if is_text(part.content) => (),
            (3 | 7 | 10 | 11, _) => return Err(SHAPE),
            _ => (),
        }
    }
    Ok(())
}

/// `Controls` (RFC 4511 §4.1.11): each an OID, then criticality and value, both optional.
fn check_controls(content: &[u8]) -> Result<(), Violation> {
    const SHAPE: Violation = Violation::Shape("a control is not an identifier with a value");
    let mut controls = Elements::new(content);
    while let Some(control) = controls.next_element()? {
        if control.tag != tag::SEQUENCE {
            return Err(SHAPE);
        }
        let mut parts = Elements::new(control.content);
        let oid = parts.expect(tag::OCTET_STRING).ok_or(SHAPE)?;
        if oid.is_empty() || !oid.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
            return Err(SHAPE);
        }
        let mut next = parts.next_element()?;
        if let Some(element) = next.filter(|element| element.tag == tag::BOOLEAN) {
            if element.content.len() != 1 {
                return Err(SHAPE);
            }
            next = parts.next_element()?;
        }
        match next {
            None => (),
            Some(element) if element.tag == tag::OCTET_STRING && parts.is_empty() => (),
            Some(_) => return Err(SHAPE),
        }
    }
    Ok(())
}

/// The result code of a checked message whose operation is a result.
pub fn result_code(body: &[u8]) -> Option<u32> {
    Elements::new(body).expect(tag::ENUMERATED).and_then(ber::unsigned)
}

/// The diagnostic message of a checked message whose operation is a result.
pub fn diagnostic(body: &[u8]) -> String {
    let mut parts = Elements::new(body);
    let _ = (parts.next_element(), parts.next_element());
    parts.expect(tag::OCTET_STRING).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
}

/// Checked messages of one search, in the order they came.
#[derive(Debug, Default)]
pub struct Chunk {
    bytes: Vec<u8>,
    /// Contents of `SearchResultEntry`, as ranges of `bytes`.
    entries: Vec<Range<usize>>,
    /// Addresses that `SearchResultReference` named; never followed.
    pub references: Vec<String>,
}

impl Chunk {
    /// The contents of the entries (`LDAPDN`, `PartialAttributeList`).
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().filter_map(|range| self.bytes.get(range.clone()))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.references.is_empty()
    }
}

/// How many references of one chunk are kept by name; the rest is only a number that nobody needs.
const REFERENCES_KEPT_MAX: usize = 100;

/// What an asked message id may be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Search,
    Result(u8),
    /// Abandoned: answers still on their way are dropped.
    Nothing,
}

/// What the two directions of the pump share, and what the connection asks after it ended.
#[derive(Debug, Default)]
pub struct Verdict {
    failure: OnceLock<Failure>,
    asked: Mutex<HashMap<u32, Expected>>,
}

impl Verdict {
    /// Why the connection ended, if the guard ended it.
    pub fn failure(&self) -> Option<Failure> {
        self.failure.get().cloned()
    }

    fn end(&self, failure: Failure) {
        // Only the first reason counts: what follows is its consequence.
        let _ = self.failure.set(failure);
    }

    fn ask(&self, id: u32, expected: Expected) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(id, expected);
    }

    fn expected(&self, id: u32) -> Option<Expected> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    fn answered(&self, id: u32) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// Carries messages between the wire and ldap3 until one side ends or the server breaks the rules.
pub async fn pump<W>(
    wire: W,
    inner: UnixStream,
    limits: Limits,
    entries: mpsc::Sender<Chunk>,
    verdict: Arc<Verdict>,
    server: String,
) where
    W: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (wire_reader, wire_writer) = tokio::io::split(wire);
    let (inner_reader, inner_writer) = inner.into_split();
    // When either direction ends, so does the other: both halves are dropped and the sockets close.
    let reason = tokio::select! {
        reason = requests(inner_reader, wire_writer, limits, &verdict) => reason,
        reason = answers(wire_reader, inner_writer, limits, &entries, &verdict) => reason,
    };
    match reason {
        Ended::ByUs => (),
        Ended::Violation(violation) => verdict.end(violation.into_failure(&server)),
        Ended::Closed => verdict.end(Failure::new(
            FailureKind::ConnectionLost,
            format!("{server} closed the connection in the middle."),
            "Check that the LDAP server is running and that no firewall cuts long connections, then run again.",
        )),
        Ended::Io(error) => verdict.end(Failure::new(
            FailureKind::ConnectionLost,
            format!("The connection to {server} was lost: {error}."),
            "Check that the LDAP server is running and that no firewall cuts long connections, then run again.",
        )),
        Ended::Notice(text) => verdict.end(Failure::new(
            FailureKind::ConnectionLost,
            format!("{server} ended the connection and said: {text}."),
            "Look at the LDAP server's log; it is usually being stopped or restarted.",
        )),
    }
}

enum Ended {
    ByUs,
    Closed,
    Io(std::io::Error),
    Violation(Violation),
    /// Notice of disconnection (RFC 4511 §4.4.1).
    Notice(String),
}

/// ldap3 → wire, remembering which answers may come.
async fn requests(
    mut inner: impl AsyncRead + Unpin,
    mut wire: impl AsyncWrite + Unpin,
    limits: Limits,
    verdict: &Verdict,
) -> Ended {
    // Requests are ours: only their size is limited by what memory a filter takes.
    let limits = Limits { message_bytes: limits.message_bytes.max(1024 * 1024), ..limits };
    let mut buffer: Vec<u8> = Vec::new();
    loop {
        let mut taken = 0;
        while let Some(rest) = buffer.get(taken..).filter(|rest| !rest.is_empty()) {
            let length = match frame_length(rest, &limits) {
                Ok(Some(length)) if length <= rest.len() => length,
                Ok(_) => break,
                Err(violation) => return Ended::Violation(violation),
            };
            let Some((envelope, _)) = rest.get(..length).and_then(|frame| open_envelope(frame).ok()) else {
                return Ended::ByUs;
            };
            match envelope.op {
                tag::BIND_REQUEST => verdict.ask(envelope.id, Expected::Result(tag::BIND_RESPONSE)),
                tag::SEARCH_REQUEST => verdict.ask(envelope.id, Expected::Search),
                tag::MODIFY_REQUEST => verdict.ask(envelope.id, Expected::Result(tag::MODIFY_RESPONSE)),
                tag::ADD_REQUEST => verdict.ask(envelope.id, Expected::Result(tag::ADD_RESPONSE)),
                tag::DELETE_REQUEST => verdict.ask(envelope.id, Expected::Result(tag::DELETE_RESPONSE)),
                tag::MODIFY_DN_REQUEST => verdict.ask(envelope.id, Expected::Result(tag::MODIFY_DN_RESPONSE)),
                tag::COMPARE_REQUEST => verdict.ask(envelope.id, Expected::Result(tag::COMPARE_RESPONSE)),
                tag::EXTENDED_REQUEST => verdict.ask(envelope.id, Expected::Result(tag::EXTENDED_RESPONSE)),
                tag::ABANDON_REQUEST => {
                    if let Some(id) = ber::unsigned(envelope.body) {
                        verdict.ask(id, Expected::Nothing);
                    }
                }
                // Unbind has no answer.
                _ => (),
            }
            taken += length;
        }
        if taken > 0 {
            let done = buffer.get(..taken).unwrap_or_default();
            if let Err(error) = wire.write_all(done).await {
                return Ended::Io(error);
            }
            if let Err(error) = wire.flush().await {
                return Ended::Io(error);
            }
            // A bind request holds the password.
            zeroize::Zeroize::zeroize(buffer.get_mut(..taken).unwrap_or_default());
            buffer.drain(..taken);
        }
        buffer.reserve(4096);
        match inner.read_buf(&mut buffer).await {
            Ok(0) => {
                let _ = wire.shutdown().await;
                return Ended::ByUs;
            }
            Ok(_) => (),
            Err(_) => return Ended::ByUs,
        }
    }
}

/// Wire → ldap3 and reader, checking every message.
async fn answers(
    mut wire: impl AsyncRead + Unpin,
    mut inner: impl AsyncWrite + Unpin,
    limits: Limits,
    entries: &mpsc::Sender<Chunk>,
    verdict: &Verdict,
) -> Ended {
    let mut buffer: Vec<u8> = Vec::with_capacity(READ_BYTES);
    let mut results: Vec<u8> = Vec::new();
    loop {
        let mut chunk = Chunk::default();
        let mut taken = 0;
        results.clear();
        let mut missing = READ_BYTES;
        let mut ended = None;
        while let Some(rest) = buffer.get(taken..).filter(|rest| !rest.is_empty()) {
            let frame = match frame_length(rest, &limits) {
                Ok(Some(length)) => match rest.get(..length) {
                    Some(frame) => frame,
                    None => {
                        missing = length - rest.len();
                        break;
                    }
                },
                Ok(None) => break,
                Err(violation) => {
                    ended = Some(Ended::Violation(violation));
                    break;
                }
            };
            match sort(frame, taken, &limits, verdict, &mut chunk) {
                Ok(true) => results.extend_from_slice(frame),
                Ok(false) => (),
                Err(reason) => {
                    ended = Some(reason);
                    break;
                }
            }
            taken += frame.len();
            // A result ends its search: the entries before it must reach the reader first.
            if !results.is_empty() {
                break;
            }
        }
        let is_result = !results.is_empty();
        if chunk.is_empty() {
            buffer.drain(..taken);
        } else {
            let tail = buffer.split_off(taken);
            chunk.bytes = std::mem::replace(&mut buffer, tail);
            if entries.send(chunk).await.is_err() {
                return Ended::ByUs;
            }
        }
        if is_result && inner.write_all(&results).await.is_err() {
            return Ended::ByUs;
        }
        if let Some(reason) = ended {
            return reason;
        }
        if is_result && !buffer.is_empty() {
            continue;
        }
        // Doubling at most, whatever length was announced: memory grows with what really arrived.
        buffer.reserve_exact(missing.min(buffer.len().max(READ_BYTES)).max(4096));
        match wire.read_buf(&mut buffer).await {
            Ok(0) => return Ended::Closed,
            Ok(_) => (),
            Err(error) => return Ended::Io(error),
        }
    }
}

/// Checks a message and says where it goes: `true` to ldap3, `false` to the chunk or nowhere.
fn sort(frame: &[u8], start: usize, limits: &Limits, verdict: &Verdict, chunk: &mut Chunk) -> Result<bool, Ended> {
    let Envelope { id, op, body } = check_answer(frame, limits).map_err(Ended::Violation)?;
    if id == 0 {
        if op != tag::EXTENDED_RESPONSE {
            return Err(Ended::Violation(Violation::Unsolicited { id }));
        }
        let text = super::errors::printable(&diagnostic(body));
        return Err(Ended::Notice(if text.is_empty() { "(no reason given)".to_owned() } else { text }));
    }
    match (verdict.expected(id), op) {
        (None, _) => Err(Ended::Violation(Violation::Unsolicited { id })),
        (Some(Expected::Nothing), _) => Ok(false),
        (Some(Expected::Search), tag::SEARCH_ENTRY) => {
            // The body is a part of the frame, so its place follows from the lengths of what is around it.
            let offset = start + (body.as_ptr() as usize - frame.as_ptr() as usize);
            chunk.entries.push(offset..offset + body.len());
            Ok(false)
        }
        (Some(Expected::Search), tag::SEARCH_REFERENCE) => {
            let mut uris = Elements::new(body);
            while let (true, Some(uri)) = (chunk.references.len() < REFERENCES_KEPT_MAX, uris.expect(tag::OCTET_STRING))
            {
                chunk.references.push(super::errors::printable(&String::from_utf8_lossy(uri)));
            }
            Ok(false)
        }
        // Nothing here asks for intermediate responses (RFC 4511 §4.13); a server may send them, a client may ignore them.
        (Some(_), tag::INTERMEDIATE_RESPONSE) => Ok(false),
        (Some(Expected::Search), tag::SEARCH_DONE) => {
            verdict.answered(id);
            Ok(true)
        }
        (Some(Expected::Result(expected)), op) if op == expected => {
            verdict.answered(id);
            Ok(true)
        }
        (Some(_), op) => Err(Ended::Violation(Violation::WrongAnswer { id, op })),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connectors::ldap::fake::{self, element, message, result};

    fn check(frame: &[u8]) -> Result<Envelope<'_>, Violation> {
        check_answer(frame, &Limits::default())
    }

    /// Messages as honest servers send them.
    fn honest() -> Vec<Vec<u8>> {
        let referral = element(0xa3, &element(tag::OCTET_STRING, b"ldap://elsewhere/"));
        let bind_extra = [fake::result_body(0, ""), element(0x87, b"creds")].concat();
        let extended =
            [fake::result_body(0, "bye"), element(0x8a, b"1.3.6.1.4.1.1466.20036"), element(0x8b, b"\0\x01")].concat();
        vec![
            result(1, tag::BIND_RESPONSE, 0, ""),
            message(1, &element(tag::BIND_RESPONSE, &bind_extra)),
            message(2, &element(tag::SEARCH_DONE, &[fake::result_body(10, ""), referral].concat())),
            fake::page_end(3, b"cookie"),
            fake::entry(3, "uid=a,dc=x", &[("uid", &[b"a", b"b"]), ("jpegPhoto", &[b"\xff\xd8\0"]), ("empty", &[])]),
            message(3, &element(tag::SEARCH_REFERENCE, &element(tag::OCTET_STRING, b"ldap://elsewhere/dc=y"))),
            message(0, &element(tag::EXTENDED_RESPONSE, &extended)),
            message(3, &element(tag::INTERMEDIATE_RESPONSE, &element(0x80, b"1.2.3"))),
            result(4, tag::MODIFY_RESPONSE, 50, "insufficient access"),
        ]
    }

    #[test]
    fn honest_messages_pass() {
        for frame in honest() {
            assert_eq!(frame_length(&frame, &Limits::default()), Ok(Some(frame.len())));
            assert!(check(&frame).is_ok(), "{frame:02x?}: {:?}", check(&frame));
        }
        let envelope = honest().remove(8);
        let envelope = check(&envelope).expect("checked");
        assert_eq!((envelope.id, result_code(envelope.body)), (4, Some(50)));
        assert_eq!(diagnostic(envelope.body), "insufficient access");
    }

    #[test]
    fn a_group_with_fifty_thousand_members_passes() {
        let members: Vec<Vec<u8>> = (0..50_000)
            .map(|n| format!("uid=user{n:06},ou=people,ou=some-department,dc=example,dc=test").into_bytes())
            .collect();
        let members: Vec<&[u8]> = members.iter().map(Vec::as_slice).collect();
        let frame = fake::entry(7, "cn=everybody,dc=x", &[("member", &members)]);
        assert!(frame.len() > 2_000_000);
        assert_eq!(frame_length(&frame, &Limits::default()), Ok(Some(frame.len())));
        assert!(check(&frame).is_ok());
    }

    #[test]
    fn messages_that_would_hurt_ldap3_are_refused() {
        let nested = {
            let mut deep = Vec::new();
            for _ in 0..2_000 {
                deep = element(tag::SEQUENCE, &deep);
            }
            deep
        };
        let control = |content: &[u8]| {
            let body = [
                fake::integer(1),
                element(tag::SEARCH_DONE, &fake::result_body(0, "")),
                element(tag::CONTROLS, content),
            ]
            .concat();
            element(tag::SEQUENCE, &body)
        };
        let oid = element(tag::OCTET_STRING, b"1.2.3");
        for (name, frame) in [
            ("an empty sequence", vec![0x30, 0x00]),
            ("only an id", element(tag::SEQUENCE, &fake::integer(1))),
            ("an unknown operation", message(1, &element(0x7e, b""))),
            ("a request", message(1, &element(tag::SEARCH_REQUEST, b""))),
            (
                "a negative id",
                element(
                    tag::SEQUENCE,
                    &[element(tag::INTEGER, &[0xff]), element(tag::SEARCH_DONE, &fake::result_body(0, ""))].concat(),
                ),
            ),
            (
                "an id of five bytes",
                element(
                    tag::SEQUENCE,
                    &[element(tag::INTEGER, &[0, 0, 0, 0, 1]), element(tag::SEARCH_DONE, &fake::result_body(0, ""))]
                        .concat(),
                ),
            ),
            (
                "an empty id",
                element(
                    tag::SEQUENCE,
                    &[element(tag::INTEGER, &[]), element(tag::SEARCH_DONE, &fake::result_body(0, ""))].concat(),
                ),
            ),
            ("an empty result", message(1, &element(tag::SEARCH_DONE, b""))),
            ("a result without message", message(1, &element(tag::SEARCH_DONE, &element(tag::ENUMERATED, &[0])))),
            (
                "a result that is not UTF-8",
                message(
                    1,
                    &element(
                        tag::BIND_RESPONSE,
                        &[
                            element(tag::ENUMERATED, &[0]),
                            element(tag::OCTET_STRING, b"\xff"),
                            element(tag::OCTET_STRING, b""),
                        ]
                        .concat(),
                    ),
                ),
            ),
            (
                "a primitive referral",
                message(1, &element(tag::SEARCH_DONE, &[fake::result_body(10, ""), element(0x83, b"x")].concat())),
            ),
            (
                "nesting in a result",
                message(1, &element(tag::BIND_RESPONSE, &[fake::result_body(0, ""), nested.clone()].concat())),
            ),
            ("nesting in an entry", message(1, &element(tag::SEARCH_ENTRY, &nested))),
            (
                "an entry without attributes",
                message(1, &element(tag::SEARCH_ENTRY, &element(tag::OCTET_STRING, b"dc=x"))),
            ),
            (
                "a nested value",
                message(
                    1,
                    &element(
                        tag::SEARCH_ENTRY,
                        &[
                            element(tag::OCTET_STRING, b"dc=x"),
                            element(
                                tag::SEQUENCE,
                                &element(
                                    tag::SEQUENCE,
                                    &[element(tag::OCTET_STRING, b"a"), element(tag::SET, &nested)].concat(),
                                ),
                            ),
                        ]
                        .concat(),
                    ),
                ),
            ),
            ("a control that is no sequence", control(&oid)),
            ("an empty control", control(&element(tag::SEQUENCE, b""))),
            ("a control without OID", control(&element(tag::SEQUENCE, &element(tag::OCTET_STRING, b"")))),
            ("a control with an odd OID", control(&element(tag::SEQUENCE, &element(tag::OCTET_STRING, b"\xff\xfe")))),
            (
                "a control with an empty boolean",
                control(&element(tag::SEQUENCE, &[oid.clone(), element(tag::BOOLEAN, b"")].concat())),
            ),
            (
                "a control with a constructed boolean",
                control(&element(tag::SEQUENCE, &[oid.clone(), element(0x21, b"")].concat())),
            ),
            ("a control with a number", control(&element(tag::SEQUENCE, &[oid.clone(), fake::integer(1)].concat()))),
            (
                "primitive controls",
                element(
                    tag::SEQUENCE,
                    &[fake::integer(1), element(tag::SEARCH_DONE, &fake::result_body(0, "")), element(0x80, b"x")]
                        .concat(),
                ),
            ),
            (
                "something after the controls",
                element(
                    tag::SEQUENCE,
                    &[
                        fake::integer(1),
                        element(tag::SEARCH_DONE, &fake::result_body(0, "")),
                        element(tag::CONTROLS, b""),
                        oid.clone(),
                    ]
                    .concat(),
                ),
            ),
            ("an empty reference", message(1, &element(tag::SEARCH_REFERENCE, b""))),
            ("bytes after the message", [result(1, tag::SEARCH_DONE, 0, ""), vec![0]].concat()),
        ] {
            assert!(check(&frame).is_err(), "{name} passed");
        }
    }

    #[test]
    fn a_message_is_refused_by_its_header_alone() {
        let limits = Limits { message_bytes: 1000, ..Limits::default() };
        assert!(matches!(
            frame_length(&[0x30, 0x86, 1, 0, 0, 0, 0, 0], &limits),
            Err(Violation::Ber(BerError::LengthTooLarge))
        ));
        assert!(matches!(
            frame_length(&[0x30, 0x82, 0x10, 0], &limits),
            Err(Violation::TooLong { announced: 4100, limit: 1000 })
        ));
        assert!(matches!(frame_length(b"SSH-2.0-x", &limits), Err(Violation::NotLdap { first: b'S', .. })));
        assert!(matches!(frame_length(&[0x15, 3, 3], &limits), Err(Violation::NotLdap { .. })));
        assert!(matches!(frame_length(&[0x30, 0x80], &limits), Err(Violation::Ber(BerError::IndefiniteLength))));
        let many: Vec<&[u8]> = vec![b""; 2000];
        let frame = fake::entry(1, "dc=x", &[("a", &many)]);
        let few = Limits { elements: 1000, ..Limits::default() };
        assert_eq!(check_answer(&frame, &few), Err(Violation::Ber(BerError::TooMany)));
    }

    /// What ldap3 does with a message that has passed.
    fn as_ldap3_reads(frame: &[u8]) {
        use ldap3::asn1::{PL, Tag, parse_tag};
        let (rest, parsed) = parse_tag(frame).expect("ldap3 reads what has passed");
        assert!(rest.is_empty());
        let PL::C(mut parts) = parsed.payload else { panic!("not constructed") };
        assert!(parts.len() >= 2);
        let op = parts.remove(1);
        if !matches!(op.id, 4 | 19 | 25) {
            let _ = ldap3::LdapResult::from(Tag::StructureTag(op));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let limits = Limits::default();
            let _ = frame_length(&bytes, &limits);
            if check(&bytes).is_ok() {
                as_ldap3_reads(&bytes);
            }
            let framed = element(tag::SEQUENCE, &bytes);
            if check(&framed).is_ok() {
                as_ldap3_reads(&framed);
            }
        }

        #[test]
        fn whatever_passes_is_safe_for_ldap3(
            which in 0_usize..9,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 0..4),
        ) {
            let mut frame = honest().remove(which);
            for (at, byte, kind) in changes {
                if frame.is_empty() {
                    break;
                }
                let at = at.index(frame.len());
                match kind {
                    0 => frame[at] = byte,
                    1 => frame.insert(at, byte),
                    _ => {
                        frame.remove(at);
                    }
                }
            }
            if check(&frame).is_ok() {
                as_ldap3_reads(&frame);
            }
        }
    }

    /// Sends `bytes` through the pump to a real ldap3 that waits for a search, and answers how both ended.
    async fn through_ldap3(bytes: Vec<u8>) -> (bool, Option<Failure>) {
        let (mut server, wire) = tokio::io::duplex(1 << 20);
        let (outer, inner) = std::os::unix::net::UnixStream::pair().expect("a pair");
        outer.set_nonblocking(true).expect("non-blocking");
        let settings = ldap3::LdapConnSettings::new().set_std_stream(ldap3::StdStream::Unix(inner));
        let (driver, mut ldap) = ldap3::LdapConnAsync::with_settings(settings, "ldapi:///").await.expect("ldap3");
        let driver = tokio::spawn(driver.drive());
        let verdict = Arc::new(Verdict::default());
        let (sender, mut entries) = mpsc::channel(2);
        let outer = UnixStream::from_std(outer).expect("a socket");
        let pump = tokio::spawn(pump(wire, outer, Limits::default(), sender, Arc::clone(&verdict), "test".to_owned()));
        let asking = tokio::spawn(async move {
            let mut stream = ldap.streaming_search("dc=x", ldap3::Scope::Subtree, "(a=b)", vec!["a"]).await?;
            while stream.next().await?.is_some() {}
            let result = stream.finish().await;
            drop(ldap);
            Ok::<_, ldap3::LdapError>(result.rc)
        });
        let mut request = vec![0; 4096];
        let _ = server.read(&mut request).await.expect("the request");
        server.write_all(&bytes).await.expect("sent");
        drop(server);
        while entries.recv().await.is_some() {}
        let is_sound = asking.await.is_ok() && driver.await.is_ok() && pump.await.is_ok();
        (is_sound, verdict.failure())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_bytes_make_a_task_panic(
            which in 0_usize..9,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            tail in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut bytes = honest().remove(which);
            // The waiting search has message id 1.
            bytes[7] = 1;
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.extend(tail);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let (is_sound, _) = runtime.block_on(async {
                tokio::time::timeout(std::time::Duration::from_secs(10), through_ldap3(bytes)).await.expect("no task is stuck")
            });
            prop_assert!(is_sound);
        }
    }

    #[tokio::test]
    async fn an_answer_that_nobody_asked_for_ends_the_connection() {
        for (bytes, part) in [
            (result(99, tag::SEARCH_DONE, 0, ""), "nobody asked"),
            (fake::user(99, 1), "nobody asked"),
            (result(1, tag::BIND_RESPONSE, 0, ""), "wrong operation"),
            (vec![0x30, 0x00], "malformed"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "another kind"),
        ] {
            let (is_sound, failure) = through_ldap3(bytes).await;
            let failure = failure.expect("a verdict");
            assert!(is_sound);
            assert_eq!(failure.kind, FailureKind::ProtocolViolation);
            assert!(failure.message.contains(part), "{}", failure.message);
        }
        let notice = [fake::result_body(52, "going down"), element(0x8a, b"1.3.6.1.4.1.1466.20036")].concat();
        let (_, failure) = through_ldap3(message(0, &element(tag::EXTENDED_RESPONSE, &notice))).await;
        let failure = failure.expect("a verdict");
        assert_eq!(failure.kind, FailureKind::ConnectionLost);
        assert!(failure.message.contains("going down"), "{}", failure.message);
    }
}
