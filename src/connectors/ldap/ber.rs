//! BER as LDAP uses it (RFC 4511 §5.1): one-byte tags and definite lengths, read in place, without copies.
//!
//! Owns the reading of tag-length-value triples from bytes that a stranger sent. It must never recurse, allocate by a
//! length that it was told, or panic. Writing BER is [`request`](super::request)'s business.

/// The tags of RFC 4511 that this client meets.
pub mod tag {
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const OCTET_STRING: u8 = 0x04;
    pub const ENUMERATED: u8 = 0x0a;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
    pub const CONTROLS: u8 = 0xa0;

    pub const BIND_REQUEST: u8 = 0x60;
    pub const BIND_RESPONSE: u8 = 0x61;
    pub const UNBIND_REQUEST: u8 = 0x42;
    pub const SEARCH_REQUEST: u8 = 0x63;
    pub const SEARCH_ENTRY: u8 = 0x64;
    pub const SEARCH_DONE: u8 = 0x65;
    pub const MODIFY_REQUEST: u8 = 0x66;
    pub const MODIFY_RESPONSE: u8 = 0x67;
    pub const ADD_REQUEST: u8 = 0x68;
    pub const ADD_RESPONSE: u8 = 0x69;
    pub const DELETE_REQUEST: u8 = 0x4a;
    pub const DELETE_RESPONSE: u8 = 0x6b;
    pub const MODIFY_DN_REQUEST: u8 = 0x6c;
    pub const MODIFY_DN_RESPONSE: u8 = 0x6d;
    pub const COMPARE_REQUEST: u8 = 0x6e;
    pub const COMPARE_RESPONSE: u8 = 0x6f;
    pub const ABANDON_REQUEST: u8 = 0x50;
    pub const SEARCH_REFERENCE: u8 = 0x73;
    pub const EXTENDED_REQUEST: u8 = 0x77;
    pub const EXTENDED_RESPONSE: u8 = 0x78;
    pub const INTERMEDIATE_RESPONSE: u8 = 0x79;
}

/// Why bytes are not the BER that LDAP allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BerError {
    #[error("an element is cut short")]
    Truncated,
    #[error("a length is not in the definite form")]
    IndefiniteLength,
    #[error("a length is larger than any message may be")]
    LengthTooLarge,
    #[error("a tag has more than one byte")]
    LongTag,
    #[error("elements are nested too deep")]
    TooDeep,
    #[error("there are too many elements")]
    TooMany,
}

/// One element: its tag byte (class, constructed bit and number) and its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
}

/// A tag and a length, and how many bytes the two took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub tag: u8,
    pub content_bytes: usize,
    pub header_bytes: usize,
}

/// The largest length that is even looked at; every caller has a smaller limit of its own.
const LENGTH_MAX: u64 = 1 << 31;

/// Reads a tag and a length. `Ok(None)` when `bytes` ends before the length does.
///
/// AD and others write lengths in the long form with leading zeros (`84 00 00 01 02`), so that the form is not required
/// to be minimal.
#[inline]
pub fn read_header(bytes: &[u8]) -> Result<Option<Header>, BerError> {
    let [tag, rest @ ..] = bytes else { return Ok(None) };
    if tag & 0x1f == 0x1f {
        return Err(BerError::LongTag);
    }
    let [first, rest @ ..] = rest else { return Ok(None) };
    if *first < 0x80 {
        return Ok(Some(Header { tag: *tag, content_bytes: usize::from(*first), header_bytes: 2 }));
    }
    let count = usize::from(*first & 0x7f);
    if count == 0 {
        return Err(BerError::IndefiniteLength);
    }
    if count > 8 {
        return Err(BerError::LengthTooLarge);
    }
    let Some(digits) = rest.get(..count) else { return Ok(None) };
    let length = digits.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    if length > LENGTH_MAX {
        return Err(BerError::LengthTooLarge);
    }
    let content_bytes = usize::try_from(length).map_err(|_| BerError::LengthTooLarge)?;
    Ok(Some(Header { tag: *tag, content_bytes, header_bytes: 2 + count }))
}

/// A cursor over the elements of a content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    pub fn new(content: &'a [u8]) -> Self {
        Self { rest: content }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element, `Ok(None)` at the end of the content.
    #[inline]
    pub fn next_element(&mut self) -> Result<Option<Element<'a>>, BerError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let header = read_header(self.rest)?.ok_or(BerError::Truncated)?;
        let content = self.rest.get(header.header_bytes..).ok_or(BerError::Truncated)?;
        if content.len() < header.content_bytes {
            return Err(BerError::Truncated);
        }
        let (content, rest) = content.split_at(header.content_bytes);
        self.rest = rest;
        Ok(Some(Element { tag: header.tag, content }))
    }

    /// The next element if it has this tag; `None` for everything else.
    #[inline]
    pub fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        match self.next_element() {
            Ok(Some(element)) if element.tag == tag => Some(element.content),
            _ => None,
        }
    }
}

/// Walks a whole tree and checks that every element is complete, that nothing is nested deeper than `depth_max`, and
/// that there are no more than `elements_max` elements. Needs memory for `depth_max` slices, whatever the input.
pub fn check_tree(bytes: &[u8], depth_max: usize, elements_max: usize) -> Result<(), BerError> {
    let mut open: Vec<Elements<'_>> = Vec::with_capacity(8);
    let mut current = Elements::new(bytes);
    let mut seen = 0_usize;
    loop {
        match current.next_element()? {
            None => match open.pop() {
                Some(outer) => current = outer,
                None => return Ok(()),
            },
            Some(element) => {
                seen += 1;
                if seen > elements_max {
                    return Err(BerError::TooMany);
                }
                if element.tag & 0x20 != 0 {
                    if open.len() + 1 >= depth_max {
                        return Err(BerError::TooDeep);
                    }
                    open.push(current);
                    current = Elements::new(element.content);
                }
            }
        }
    }
}

/// A non-negative INTEGER or ENUMERATED of at most four bytes (RFC 4511: `0 .. maxInt`).
#[inline]
pub fn unsigned(content: &[u8]) -> Option<u32> {
    let first = content.first()?;
    if content.len() > 4 || *first & 0x80 != 0 {
        return None;
    }
    Some(content.iter().fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_may_be_long_but_not_indefinite_and_not_absurd() {
        let read = |bytes: &[u8]| read_header(bytes);
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[0x30]), Ok(None));
        assert_eq!(read(&[0x30, 0x84, 0, 0]), Ok(None));
        assert_eq!(read(&[0x30, 0x05]), Ok(Some(Header { tag: 0x30, content_bytes: 5, header_bytes: 2 })));
        assert_eq!(
            read(&[0x30, 0x84, 0, 0, 1, 2]),
            Ok(Some(Header { tag: 0x30, content_bytes: 258, header_bytes: 6 }))
        );
        assert_eq!(read(&[0x30, 0x80]), Err(BerError::IndefiniteLength));
        assert_eq!(read(&[0x30, 0x89, 0]), Err(BerError::LengthTooLarge));
        assert_eq!(read(&[0x30, 0x86, 1, 0, 0, 0, 0, 0]), Err(BerError::LengthTooLarge), "2^40");
        assert_eq!(read(&[0x30, 0xff]), Err(BerError::LengthTooLarge));
        assert_eq!(read(&[0x3f, 0x81]), Err(BerError::LongTag));
    }

    /// `count` sequences, each holding the next, with lengths that are all right.
    pub fn nested(count: usize) -> Vec<u8> {
        // Built from the inside: prepending each header would be quadratic, so the headers are collected reversed.
        let mut headers: Vec<Vec<u8>> = Vec::with_capacity(count);
        let mut length = 0_usize;
        for _ in 0..count {
            let mut header = vec![0x30];
            if length < 128 {
                header.push(u8::try_from(length).expect("small"));
            } else {
                header.push(0x84);
                header.extend_from_slice(&u32::try_from(length).expect("fits").to_be_bytes());
            }
            length += header.len();
            headers.push(header);
        }
        headers.iter().rev().flatten().copied().collect()
    }

    #[test]
    fn depth_is_limited_without_recursion() {
        assert_eq!(check_tree(&nested(31), 32, 1000), Ok(()));
        assert_eq!(check_tree(&nested(33), 32, 1000), Err(BerError::TooDeep));
        assert_eq!(check_tree(&nested(200_000), 32, 1_000_000), Err(BerError::TooDeep));
        assert_eq!(check_tree(&[0x04, 0x00].repeat(11), 32, 10), Err(BerError::TooMany));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read_header(&bytes);
            let _ = check_tree(&bytes, 8, 100);
            let mut elements = Elements::new(&bytes);
            let mut total = 0;
            while let Ok(Some(element)) = elements.next_element() {
                total += element.content.len();
            }
            prop_assert!(total <= bytes.len());
            let _ = unsigned(&bytes);
        }
    }
}
