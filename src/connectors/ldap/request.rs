//! Requests as bytes (RFC 4511 §4.1.1, §4.2, §4.5.1): bind, search with its controls, unbind.
//!
//! Owns the writing of BER. It must never write a filter that [`encode`](super::filter::encode) did not accept, and never leave a
//! copy of a password behind.

use zeroize::Zeroizing;

use super::{Credentials, Scope, ber::tag};

/// Context tag 0, primitive: the simple choice of AuthenticationChoice.
const SIMPLE: u8 = 0x80;

/// A control that goes with a request, always critical: a server that does not know it has to say so.
#[derive(Debug, Clone)]
pub struct Control {
    pub oid: &'static str,
    /// Empty where the control has none.
    pub value: Vec<u8>,
}

/// A search as it is sent.
#[derive(Debug, Clone, Copy)]
pub struct SearchParts<'a> {
    pub base: &'a str,
    pub scope: Scope,
    /// The server's own limit for entries; 0 is none.
    pub size_limit: u32,
    /// Encoded by [`encode`](super::filter::encode).
    pub filter: &'a [u8],
    pub attributes: &'a [String],
}

/// Appends an element with the shortest definite length.
pub fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    put_length(out, content.len());
    out.extend_from_slice(content);
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => out.push(short),
        _ => {
            let digits = length.to_be_bytes();
            let digits = digits.get(digits.iter().take_while(|digit| **digit == 0).count()..).unwrap_or_default();
            // At most eight digits.
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            out.extend_from_slice(digits);
        }
    }
}

/// An element of its own.
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    put(&mut out, tag, content);
    out
}

/// A number that is not negative, as INTEGER or ENUMERATED.
pub fn put_unsigned(out: &mut Vec<u8>, tag: u8, number: u32) {
    // One zero more, so that the first bit is never a sign.
    let mut digits = [0_u8; 5];
    if let Some(tail) = digits.get_mut(1..) {
        tail.copy_from_slice(&number.to_be_bytes());
    }
    let zeros = digits.windows(2).take_while(|pair| matches!(pair, [0, 0..=0x7f])).count();
    put(out, tag, digits.get(zeros..).unwrap_or_default());
}

fn put_boolean(out: &mut Vec<u8>, value: bool) {
    put(out, tag::BOOLEAN, &[if value { 0xff } else { 0 }]);
}

fn message(id: u32, op_tag: u8, op: &[u8], controls: &[Control]) -> Vec<u8> {
    let mut content = Vec::with_capacity(op.len() + 64);
    put_unsigned(&mut content, tag::INTEGER, id);
    put(&mut content, op_tag, op);
    if !controls.is_empty() {
        let mut list = Vec::new();
        for control in controls {
            let mut one = element(tag::OCTET_STRING, control.oid.as_bytes());
            put_boolean(&mut one, true);
            if !control.value.is_empty() {
                put(&mut one, tag::OCTET_STRING, &control.value);
            }
            put(&mut list, tag::SEQUENCE, &one);
        }
        put(&mut content, tag::CONTROLS, &list);
    }
    element(tag::SEQUENCE, &content)
}

/// `BindRequest`, version 3, simple. What held the password on the way is wiped.
pub fn bind(id: u32, credentials: &Credentials) -> Zeroizing<Vec<u8>> {
    let password = credentials.password.expose().as_bytes();
    // Room for all of it, so that growing leaves no copy behind.
    let room = credentials.bind_dn.len() + password.len() + 64;
    let mut op = Zeroizing::new(Vec::with_capacity(room));
    put_unsigned(&mut op, tag::INTEGER, 3);
    put(&mut op, tag::OCTET_STRING, credentials.bind_dn.as_bytes());
    put(&mut op, SIMPLE, password);
    let mut content = Zeroizing::new(Vec::with_capacity(room + 16));
    put_unsigned(&mut content, tag::INTEGER, id);
    put(&mut content, tag::BIND_REQUEST, &op);
    let mut out = Zeroizing::new(Vec::with_capacity(room + 32));
    put(&mut out, tag::SEQUENCE, &content);
    out
}

/// `SearchRequest`. Aliases are never followed.
pub fn search(id: u32, parts: SearchParts<'_>, controls: &[Control]) -> Vec<u8> {
    let mut op = element(tag::OCTET_STRING, parts.base.as_bytes());
    let scope = match parts.scope {
        Scope::Base => 0,
        Scope::One => 1,
        Scope::Sub => 2,
    };
    put_unsigned(&mut op, tag::ENUMERATED, scope);
    put_unsigned(&mut op, tag::ENUMERATED, 0); // neverDerefAliases
    put_unsigned(&mut op, tag::INTEGER, parts.size_limit);
    put_unsigned(&mut op, tag::INTEGER, 0); // no limit of time
    put_boolean(&mut op, false); // values too, not types only
    op.extend_from_slice(parts.filter);
    let mut names = Vec::new();
    for name in parts.attributes {
        put(&mut names, tag::OCTET_STRING, name.as_bytes());
    }
    put(&mut op, tag::SEQUENCE, &names);
    message(id, tag::SEARCH_REQUEST, &op, controls)
}

/// `UnbindRequest`.
pub fn unbind(id: u32) -> Vec<u8> {
    message(id, tag::UNBIND_REQUEST, &[], &[])
}

/// Simple paged results (RFC 2696 §2).
pub fn paging(page_size: u32, cookie: &[u8]) -> Control {
    let mut value = Vec::with_capacity(cookie.len() + 16);
    // RFC 2696: 0 .. maxInt.
    put_unsigned(&mut value, tag::INTEGER, page_size.min(i32::MAX.unsigned_abs()));
    put(&mut value, tag::OCTET_STRING, cookie);
    Control { oid: super::PAGED_RESULTS, value: element(tag::SEQUENCE, &value) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connectors::ldap::{
        ber::{self, Elements},
        filter,
    };

    #[test]
    fn a_search_is_written_byte_for_byte() {
        let attributes = ["cn".to_owned(), "*".to_owned()];
        let parts = SearchParts {
            base: "dc=x",
            scope: Scope::Sub,
            size_limit: 500,
            filter: &filter::encode("(a=b)").expect("a filter"),
            attributes: &attributes,
        };
        let expected = [
            &[0x30, 0x59, 0x02, 0x01, 0x07, 0x63, 0x27][..],
            b"\x04\x04dc=x\x0a\x01\x02\x0a\x01\x00\x02\x02\x01\xf4\x02\x01\x00\x01\x01\x00",
            b"\xa3\x06\x04\x01a\x04\x01b\x30\x07\x04\x02cn\x04\x01*",
            b"\xa0\x2b\x30\x29\x04\x161.2.840.113556.1.4.319\x01\x01\xff\x04\x0c\x30\x0a\x02\x02\x03\xe8\x04\x04\0ab\xff",
        ]
        .concat();
        assert_eq!(search(7, parts, &[paging(1000, b"\0ab\xff")]), expected);
    }

    #[test]
    fn a_bind_is_written_byte_for_byte_also_when_it_is_long() {
        let credentials = |dn: &str, password: &str| -> Credentials {
            serde_json::from_value(serde_json::json!({"bindDn": dn, "password": password})).expect("credentials")
        };
        assert_eq!(
            *bind(1, &credentials("cn=a", "pw")),
            b"\x30\x12\x02\x01\x01\x60\x0d\x02\x01\x03\x04\x04cn=a\x80\x02pw"
        );
        let long = bind(1, &credentials(&"d".repeat(1000), &"p".repeat(1000)));
        assert!(
            long.starts_with(b"\x30\x82\x07\xe2\x02\x01\x01\x60\x82\x07\xdb\x02\x01\x03\x04\x82\x03\xe8ddd"),
            "{long:02x?}"
        );
        assert_eq!(unbind(3), [0x30, 5, 2, 1, 3, 0x42, 0]);
    }

    proptest! {
        #[test]
        fn numbers_and_lengths_read_back(number in 0..=i32::MAX.unsigned_abs(), length in 0..70_000_usize) {
            let mut out = Vec::new();
            put_unsigned(&mut out, tag::INTEGER, number);
            put(&mut out, tag::OCTET_STRING, &vec![7; length]);
            let mut parts = Elements::new(&out);
            prop_assert_eq!(parts.expect(tag::INTEGER).and_then(ber::unsigned), Some(number));
            prop_assert_eq!(parts.expect(tag::OCTET_STRING).map(<[u8]>::len), Some(length));
            prop_assert!(parts.is_empty());
        }
    }
}
