//! Asking a domain controller for what has changed (MS-ADTS §3.1.1.3.4.1.3, "DirSync"): the control that asks, and the one that
//! comes back.
//!
//! Owns the reading and writing of the two. A cookie is the controller's own business: it is sent back as it came, and never
//! looked into. What a change means for a directory's copy is the connector's.

use super::{
    answer::{COOKIE_MAX, Violation},
    ber::{Elements, tag},
    request::{Control, element, put, put_unsigned},
};

/// LDAP_SERVER_DIRSYNC_OID.
pub const DIRSYNC: &str = "1.2.840.113556.1.4.841";
/// LDAP_SERVER_SHOW_DELETED_OID (MS-ADTS §3.1.1.3.4.1.14): what was deleted is found too.
pub const SHOW_DELETED: &str = "1.2.840.113556.1.4.417";

/// LDAP_DIRSYNC_INCREMENTAL_VALUES: of an attribute with many values, those that came or went.
const INCREMENTAL_VALUES: u32 = 0x8000_0000;
/// How much the controller may send in one answer; it says then that there is more.
const ANSWER_BYTES: u32 = 1024 * 1024;

/// The control of a search for what has changed since `cookie`; an empty one asks for everything.
pub fn request(cookie: &[u8]) -> Control {
    let mut value = Vec::with_capacity(cookie.len() + 20);
    // A signed number of 32 bits, whose highest bit this is.
    put(&mut value, tag::INTEGER, &INCREMENTAL_VALUES.to_be_bytes());
    put_unsigned(&mut value, tag::INTEGER, ANSWER_BYTES);
    put(&mut value, tag::OCTET_STRING, cookie);
    Control { oid: DIRSYNC, value: element(tag::SEQUENCE, &value) }
}

/// The control of a search that finds what was deleted, too. It has no value.
pub fn show_deleted() -> Control {
    Control { oid: SHOW_DELETED, value: Vec::new() }
}

/// What comes with the result of such a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// There is more, which the same question with this cookie brings.
    pub has_more: bool,
    pub cookie: &'a [u8],
}

/// Reads the value of the control that comes back.
pub fn answer(value: &[u8]) -> Result<Answer<'_>, Violation> {
    const SHAPE: Violation = Violation::Shape("the DirSync control is not a flag, a number and a cookie");
    let mut outer = Elements::new(value);
    let mut parts = Elements::new(outer.expect(tag::SEQUENCE).filter(|_| outer.is_empty()).ok_or(SHAPE)?);
    let flag = parts.expect(tag::INTEGER).filter(|flag| (1..=8).contains(&flag.len())).ok_or(SHAPE)?;
    parts.expect(tag::INTEGER).ok_or(SHAPE)?;
    let cookie = parts.expect(tag::OCTET_STRING).filter(|_| parts.is_empty()).ok_or(SHAPE)?;
    if cookie.is_empty() {
        return Err(Violation::Shape("the DirSync control has no cookie"));
    }
    if cookie.len() > COOKIE_MAX {
        return Err(Violation::Shape("a DirSync cookie is too long"));
    }
    Ok(Answer { has_more: flag.iter().any(|byte| *byte != 0), cookie })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(flag: &[u8], cookie: &[u8]) -> Vec<u8> {
        let parts = [element(tag::INTEGER, flag), element(tag::INTEGER, &[0]), element(tag::OCTET_STRING, cookie)];
        element(tag::SEQUENCE, &parts.concat())
    }

    #[test]
    fn the_request_is_written_byte_for_byte() {
        let expected = b"\x30\x0f\x02\x04\x80\0\0\0\x02\x03\x10\0\0\x04\x02ab";
        assert_eq!(request(b"ab").value, expected);
        assert_eq!(show_deleted().value, b"");
    }

    #[test]
    fn what_a_controller_answers_is_read() {
        assert_eq!(answer(&value(&[0], b"c")), Ok(Answer { has_more: false, cookie: b"c" }));
        assert_eq!(answer(&value(&[1], b"c")), Ok(Answer { has_more: true, cookie: b"c" }));
        // Controllers of Windows write lengths in the long form, and flags of four bytes.
        let long = b"\x30\x84\0\0\0\x0c\x02\x04\0\0\0\x01\x02\x01\0\x04\x01c";
        assert_eq!(answer(long), Ok(Answer { has_more: true, cookie: b"c" }));
    }

    #[test]
    fn what_is_shaped_otherwise_is_refused() {
        let good = value(&[0], b"cookie");
        for bad in [
            vec![],
            element(tag::SEQUENCE, b""),
            value(&[], b"c"),
            value(&[0; 9], b"c"),
            value(&[0], b""),
            value(&[0], &vec![0; COOKIE_MAX + 1]),
            [good.clone(), vec![0]].concat(),
            element(tag::SEQUENCE, &[element(tag::INTEGER, &[0]), element(tag::OCTET_STRING, b"c")].concat()),
        ] {
            assert!(answer(&bad).is_err(), "{:02x?}", bad.get(..40.min(bad.len())));
        }
        for end in 0..good.len() {
            assert!(answer(&good[..end]).is_err(), "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_values_never_panic_and_no_cookie_is_made_up(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            for bytes in [bytes.clone(), element(tag::SEQUENCE, &bytes)] {
                if let Ok(read) = answer(&bytes) {
                    prop_assert!(!read.cookie.is_empty() && bytes.ends_with(read.cookie));
                }
            }
        }
    }
}
