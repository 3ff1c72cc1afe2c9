//! A search entry read in place (RFC 4511 §4.5.2).
//!
//! [`walk_entry`](super::answer::walk_entry) has checked the shape already; this only walks it. It copies nothing: 100,000 entries are read on a small
//! machine, and most values are looked at once.

use super::{
    ber::{Elements, tag},
    dn,
};
use crate::connectors::Key;

/// A `SearchResultEntry`.
#[derive(Debug, Clone, Copy, Default)]
pub struct EntryView<'a> {
    /// The DN as it came; should be UTF-8, but nobody promised.
    pub dn: &'a [u8],
    attributes: Elements<'a>,
}

impl<'a> EntryView<'a> {
    /// Reads the content of a `SearchResultEntry`. `None` if it is none.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let mut parts = Elements::new(body);
        let dn = parts.expect(tag::OCTET_STRING)?;
        let attributes = Elements::new(parts.expect(tag::SEQUENCE)?);
        Some(Self { dn, attributes })
    }

    /// From the DN and the list of attributes.
    pub fn new(dn: &'a [u8], attributes: Elements<'a>) -> Self {
        Self { dn, attributes }
    }

    /// The DN as text and the key that it makes, or why it can't be used, as a sentence.
    pub fn dn_and_key(&self) -> Result<(&'a str, Key), String> {
        let dn = std::str::from_utf8(self.dn).map_err(|_| "The DN is not UTF-8.".to_owned())?;
        if dn.is_empty() || dn.contains('\0') {
            return Err("The entry has no usable DN.".to_owned());
        }
        let normal = dn::normalise(dn).map_err(|reason| format!("The DN can't be read: {reason}."))?;
        Ok((dn, Key::of_dn(&normal)))
    }

    /// The attributes with their values, in the server's order.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes(self.attributes)
    }

    /// The values of one attribute, its name compared without case.
    pub fn values(&self, name: &str) -> Vec<&'a [u8]> {
        let mut found = self.attributes().filter(|(given, _)| given.eq_ignore_ascii_case(name.as_bytes()));
        found.next().map(|(_, values)| values.collect()).unwrap_or_default()
    }

    /// The first value of one attribute as text.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.values(name).first().and_then(|value| std::str::from_utf8(value).ok())
    }
}

pub struct Attributes<'a>(Elements<'a>);

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a [u8], Values<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let mut attribute = Elements::new(self.0.expect(tag::SEQUENCE)?);
        let name = attribute.expect(tag::OCTET_STRING)?;
        Some((name, Values(Elements::new(attribute.expect(tag::SET)?))))
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Values<'a>(Elements<'a>);

impl<'a> Values<'a> {
    pub fn new(values: Elements<'a>) -> Self {
        Self(values)
    }

    pub fn first(mut self) -> Option<&'a [u8]> {
        self.next()
    }

    /// Those that are text and not empty.
    pub fn texts(self) -> impl Iterator<Item = &'a str> {
        self.filter_map(|value| std::str::from_utf8(value).ok()).filter(|text| !text.is_empty())
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.expect(tag::OCTET_STRING)
    }
}
