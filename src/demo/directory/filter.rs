//! Search filters, evaluated as RFC 4511 §4.5.1.7 says: true, false or undefined.
//!
//! Owns the three-valued logic: a filter over an attribute type that the schema does not know, or with a value that
//! does not fit, is undefined, and neither it nor its negation matches. Pure; must never take longer than its
//! [`CONDITIONS_MAX`] times the number of entries.

use ldap3_proto::proto::{LdapFilter, LdapSubstringFilter};

use super::entry::{AttributeType, Entry, Syntax, attribute_type, fold};

/// The conditions that one filter may hold. A person's filter has a dozen; the limit bounds the work of one search.
pub const CONDITIONS_MAX: usize = 256;

/// A filter made ready: attribute types resolved, values normalised once.
#[derive(Debug)]
pub enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Present(&'static AttributeType),
    Equal(&'static AttributeType, String),
    AtLeast(&'static AttributeType, String),
    AtMost(&'static AttributeType, String),
    Contains(&'static AttributeType, Pieces),
    Undefined,
}

/// The pieces of a substring filter, normalised.
#[derive(Debug)]
pub struct Pieces {
    initial: Option<String>,
    any: Vec<String>,
    last: Option<String>,
}

/// The filter has more than [`CONDITIONS_MAX`] conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooComplex;

impl Filter {
    pub fn new(filter: &LdapFilter) -> Result<Self, TooComplex> {
        let mut left = CONDITIONS_MAX;
        Self::ready(filter, &mut left)
    }

    // The decoder has bounded the depth already (128), so that this recursion is bounded too.
    fn ready(filter: &LdapFilter, left: &mut usize) -> Result<Self, TooComplex> {
        *left = left.checked_sub(1).ok_or(TooComplex)?;
        let all = |inner: &[LdapFilter], left: &mut usize| -> Result<Vec<Self>, TooComplex> {
            inner.iter().map(|filter| Self::ready(filter, left)).collect()
        };
        Ok(match filter {
            LdapFilter::And(inner) => Self::And(all(inner, left)?),
            LdapFilter::Or(inner) => Self::Or(all(inner, left)?),
            LdapFilter::Not(inner) => Self::Not(Box::new(Self::ready(inner, left)?)),
            LdapFilter::Present(name) => attribute_type(name).map_or(Self::Undefined, Self::Present),
            // "Approximately" is the server's choice (§4.5.1.7.6); equality is allowed and what people expect.
            LdapFilter::Equality(name, value) | LdapFilter::Approx(name, value) => {
                Self::compared(name, value, Self::Equal)
            }
            LdapFilter::GreaterOrEqual(name, value) => Self::ordered(name, value, Self::AtLeast),
            LdapFilter::LessOrEqual(name, value) => Self::ordered(name, value, Self::AtMost),
            LdapFilter::Substring(name, pieces) => Self::containing(name, pieces),
            LdapFilter::Extensible(assertion) => match (&assertion.matching_rule, &assertion.type_) {
                (None, Some(name)) if !assertion.dn_attributes => {
                    Self::compared(name, &assertion.match_value, Self::Equal)
                }
                _ => Self::Undefined,
            },
        })
    }

    fn compared(name: &str, value: &str, make: fn(&'static AttributeType, String) -> Self) -> Self {
        let made = attribute_type(name).and_then(|kind| Some(make(kind, kind.syntax.normalised(value)?)));
        made.unwrap_or(Self::Undefined)
    }

    fn ordered(name: &str, value: &str, make: fn(&'static AttributeType, String) -> Self) -> Self {
        match attribute_type(name).map(|kind| kind.syntax) {
            Some(Syntax::Text | Syntax::Time | Syntax::Number | Syntax::Uuid) => Self::compared(name, value, make),
            _ => Self::Undefined,
        }
    }

    fn containing(name: &str, pieces: &LdapSubstringFilter) -> Self {
        let Some(kind) = attribute_type(name) else { return Self::Undefined };
        let piece = |text: &String| match kind.syntax {
            Syntax::Telephone => kind.syntax.normalised(text),
            _ => Some(fold(text)),
        };
        match kind.syntax {
            Syntax::Text | Syntax::Telephone => Self::Contains(
                kind,
                Pieces {
                    initial: pieces.initial.as_ref().and_then(piece),
                    any: pieces.any.iter().filter_map(piece).collect(),
                    last: pieces.final_.as_ref().and_then(piece),
                },
            ),
            _ => Self::Undefined,
        }
    }

    /// Whether the entry belongs to the answer: only what is true does.
    pub fn matches(&self, entry: &Entry) -> bool {
        self.evaluate(entry) == Some(true)
    }

    /// `None` is undefined.
    fn evaluate(&self, entry: &Entry) -> Option<bool> {
        match self {
            // One pass over each branch: a second one would double the work at every level of nesting.
            Self::And(inner) => Self::joined(inner, entry, false),
            Self::Or(inner) => Self::joined(inner, entry, true),
            Self::Not(inner) => inner.evaluate(entry).map(|result| !result),
            Self::Present(kind) => Some(!entry.values(kind).is_empty()),
            Self::Equal(kind, wanted) => Some(Self::any_value(entry, kind, |value| value == wanted)),
            Self::AtLeast(kind, limit) => Some(Self::any_value(entry, kind, |value| order(kind, value, limit).is_ge())),
            Self::AtMost(kind, limit) => Some(Self::any_value(entry, kind, |value| order(kind, value, limit).is_le())),
            Self::Contains(kind, pieces) => Some(Self::any_value(entry, kind, |value| pieces.fit(value))),
            Self::Undefined => None,
        }
    }

    /// `deciding` is the result of one branch that decides the whole: false for "and", true for "or".
    fn joined(inner: &[Self], entry: &Entry, deciding: bool) -> Option<bool> {
        let mut joined = Some(!deciding);
        for filter in inner {
            match filter.evaluate(entry) {
                Some(result) if result == deciding => return Some(deciding),
                Some(_) => {}
                None => joined = None,
            }
        }
        joined
    }

    fn any_value(entry: &Entry, kind: &AttributeType, is_match: impl Fn(&str) -> bool) -> bool {
        entry.values(kind).iter().filter_map(|value| kind.syntax.normalised(value)).any(|value| is_match(&value))
    }
}

fn order(kind: &AttributeType, a: &str, b: &str) -> std::cmp::Ordering {
    match kind.syntax {
        Syntax::Number => a.parse::<i64>().unwrap_or_default().cmp(&b.parse::<i64>().unwrap_or_default()),
        _ => a.cmp(b),
    }
}

impl Pieces {
    fn fit(&self, value: &str) -> bool {
        let mut rest = value;
        if let Some(initial) = &self.initial {
            let Some(after) = rest.strip_prefix(initial.trim_start()) else { return false };
            rest = after;
        }
        if let Some(last) = &self.last {
            let Some(before) = rest.strip_suffix(last.trim_end()) else { return false };
            rest = before;
        }
        for piece in &self.any {
            let Some((_, after)) = rest.split_once(piece.as_str()) else { return false };
            rest = after;
        }
        true
    }
}
