//! Messages from a server: where one ends, and whether it is shaped as RFC 4511 says.
//!
//! Owns the framing, the limits, and the checks of every operation that a server can answer with. Everything is read in
//! place. It must never recurse, reserve memory because of a length that it was told, or let a message pass that is
//! malformed: what has passed is safe for ldap3, which panics on less (HOSTILE L17–L19), and for our own reader.

use super::{
    EntryView, Values,
    ber::{self, BerError, Elements, tag},
    errors::ServerResult,
};
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
    #[error("it sent more than {limit} bytes in answer to one question")]
    AnswerTooLong { limit: usize },
    #[error("it sent {0} messages that no search asks for")]
    Chatter(usize),
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
    /// The content of its controls; empty when there are none.
    pub controls: &'a [u8],
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
pub fn open_envelope(frame: &[u8]) -> Result<(Envelope<'_>, Elements<'_>), Violation> {
    let mut outer = Elements::new(frame);
    let content = outer.expect(tag::SEQUENCE).ok_or(Violation::Shape("it is not one sequence"))?;
    if !outer.is_empty() {
        return Err(Violation::Shape("it is not one sequence"));
    }
    let mut parts = Elements::new(content);
    let id = parts.expect(tag::INTEGER).and_then(ber::unsigned).ok_or(Violation::Shape("it has no message id"))?;
    let op = parts.next_element()?.ok_or(Violation::Shape("it has no operation"))?;
    Ok((Envelope { id, op: op.tag, body: op.content, controls: &[] }, parts))
}

/// Checks one complete message from a server, but for the content of a search entry, which [`walk_entry`] checks.
pub fn check_around_entry<'a>(frame: &'a [u8], limits: &Limits) -> Result<Envelope<'a>, Violation> {
    let (mut envelope, mut rest) = open_envelope(frame)?;
    match envelope.op {
        tag::SEARCH_ENTRY => (),
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
            envelope.controls = element.content;
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

/// Checks one complete message from a server: afterwards ldap3 can read it without a panic.
pub fn check_answer<'a>(frame: &'a [u8], limits: &Limits) -> Result<Envelope<'a>, Violation> {
    let envelope = check_around_entry(frame, limits)?;
    if envelope.op == tag::SEARCH_ENTRY {
        walk_entry(envelope.body, limits, |_, _| ())?;
    }
    Ok(envelope)
}

/// Checks a `SearchResultEntry` (RFC 4511 §4.5.2: DN, then a sequence of (type, set of values)) and shows every
/// attribute on the way, so that a look at an entry costs no second walk. Its shape is fixed, so that checking it is
/// also the check of its nesting.
#[inline]
pub fn walk_entry<'a>(
    body: &'a [u8],
    limits: &Limits,
    mut on_attribute: impl FnMut(&'a [u8], Values<'a>),
) -> Result<EntryView<'a>, Violation> {
    const SHAPE: Violation = Violation::Shape("an entry is not a DN and a list of attributes");
    let mut parts = Elements::new(body);
    let dn = parts.expect(tag::OCTET_STRING).ok_or(SHAPE)?;
    let list = Elements::new(parts.expect(tag::SEQUENCE).ok_or(SHAPE)?);
    if !parts.is_empty() {
        return Err(SHAPE);
    }
    let mut attributes = list;
    let mut seen = 0_usize;
    while let Some(attribute) = attributes.next_element()? {
        if attribute.tag != tag::SEQUENCE {
            return Err(SHAPE);
        }
        let mut attribute = Elements::new(attribute.content);
        let name = attribute.expect(tag::OCTET_STRING).ok_or(SHAPE)?;
        let all = Elements::new(attribute.expect(tag::SET).ok_or(SHAPE)?);
        if !attribute.is_empty() {
            return Err(SHAPE);
        }
        seen += 3;
        let mut values = all;
        while let Some(value) = values.next_element()? {
            seen += 1;
            if value.tag != tag::OCTET_STRING {
                return Err(SHAPE);
            }
        }
        if seen > limits.elements {
            return Err(Violation::Ber(BerError::TooMany));
        }
        on_attribute(name, Values::new(all));
    }
    Ok(EntryView::new(dn, list))
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

/// Code, matched DN and diagnostic message of a checked message whose operation is a result.
pub fn result(body: &[u8]) -> ServerResult<'_> {
    let mut parts = Elements::new(body);
    let code = parts.expect(tag::ENUMERATED).and_then(ber::unsigned).unwrap_or(80);
    let mut text = || parts.expect(tag::OCTET_STRING).and_then(|text| std::str::from_utf8(text).ok());
    let (matched, diagnostic) = (text().unwrap_or_default(), text().unwrap_or_default());
    ServerResult { code, diagnostic, matched }
}

/// The value of a control among checked controls: `None` when it is absent, empty when it has none.
pub fn control_value<'a>(controls: &'a [u8], oid: &str) -> Option<&'a [u8]> {
    let mut controls = Elements::new(controls);
    while let Some(control) = controls.expect(tag::SEQUENCE) {
        let mut parts = Elements::new(control);
        if parts.expect(tag::OCTET_STRING) != Some(oid.as_bytes()) {
            continue;
        }
        let mut value: &[u8] = &[];
        while let Ok(Some(part)) = parts.next_element() {
            if part.tag == tag::OCTET_STRING {
                value = part.content;
            }
        }
        return Some(value);
    }
    None
}

/// The longest cookie, of paging and of synchronisation.
pub const COOKIE_MAX: usize = 64 * 1024;

/// The cookie in the value of a paged-results response control (RFC 2696 §2).
pub fn paging_cookie(value: &[u8]) -> Result<&[u8], Violation> {
    const SHAPE: Violation = Violation::Shape("the paging control is not a size and a cookie");
    let mut parts = Elements::new(Elements::new(value).expect(tag::SEQUENCE).ok_or(SHAPE)?);
    parts.expect(tag::INTEGER).ok_or(SHAPE)?;
    parts.expect(tag::OCTET_STRING).filter(|cookie| cookie.len() <= COOKIE_MAX).ok_or(SHAPE)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::connectors::ldap::fake::{self, element, message};

    pub fn check(frame: &[u8]) -> Result<Envelope<'_>, Violation> {
        check_answer(frame, &Limits::default())
    }

    /// Messages as honest servers send them.
    pub fn honest() -> Vec<Vec<u8>> {
        let referral = element(0xa3, &element(tag::OCTET_STRING, b"ldap://elsewhere/"));
        let bind_extra = [fake::result_body(0, ""), element(0x87, b"creds")].concat();
        let extended =
            [fake::result_body(0, "bye"), element(0x8a, b"1.3.6.1.4.1.1466.20036"), element(0x8b, b"\0\x01")].concat();
        vec![
            fake::result(1, tag::BIND_RESPONSE, 0, ""),
            message(1, &element(tag::BIND_RESPONSE, &bind_extra)),
            message(2, &element(tag::SEARCH_DONE, &[fake::result_body(10, ""), referral].concat())),
            fake::page_end(3, b"cookie"),
            fake::entry(3, "uid=a,dc=x", &[("uid", &[b"a", b"b"]), ("jpegPhoto", &[b"\xff\xd8\0"]), ("empty", &[])]),
            message(3, &element(tag::SEARCH_REFERENCE, &element(tag::OCTET_STRING, b"ldap://elsewhere/dc=y"))),
            message(0, &element(tag::EXTENDED_RESPONSE, &extended)),
            message(3, &element(tag::INTERMEDIATE_RESPONSE, &element(0x80, b"1.2.3"))),
            fake::result(4, tag::MODIFY_RESPONSE, 50, "insufficient access"),
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
        let refused = result(envelope.body);
        assert_eq!((envelope.id, refused.code, refused.diagnostic), (4, 50, "insufficient access"));
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
            ("bytes after the message", [fake::result(1, tag::SEARCH_DONE, 0, ""), vec![0]].concat()),
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

    #[test]
    fn a_control_is_found_among_others() {
        let control = |oid: &str, rest: &[u8]| {
            element(tag::SEQUENCE, &[element(tag::OCTET_STRING, oid.as_bytes()), rest.to_vec()].concat())
        };
        let critical = element(tag::BOOLEAN, &[0xff]);
        let controls = [
            control("1.2.3", &critical),
            control("1.2.4", &[critical, element(tag::OCTET_STRING, b"value")].concat()),
            control("1.2.5", b""),
        ]
        .concat();
        assert_eq!(control_value(&controls, "1.2.4"), Some(&b"value"[..]));
        assert_eq!(control_value(&controls, "1.2.3"), Some(&b""[..]));
        assert_eq!(control_value(&controls, "1.2"), None);
        assert_eq!(control_value(b"", "1.2"), None);
    }
}
