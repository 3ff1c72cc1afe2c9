//! Entity tags: what `ETag` says of an answer, and what `If-Match` and `If-None-Match` ask (RFC 9110 §8.8.3, §13.1).
//!
//! A tag is a hash of the whole answer, so it changes with everything that is shown, figures too. Why the same one for
//! an answer that is compressed on the way: nothing here is kept by caches (`no-store`), and the tag is compared with
//! what we write, never with bytes that somebody received.

use actix_web::http::header::HeaderValue;

use crate::secret;

/// The strong tag of an answer.
pub(super) fn of(body: &[u8]) -> String {
    let hash: String = secret::encode_hex(&secret::sha256(body)).chars().take(32).collect();
    format!("\"{hash}\"")
}

/// What a condition names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tags {
    Any,
    /// As written, with `W/` in front of weak ones.
    These(Vec<String>),
}

impl Tags {
    /// `None` for what is not a list of tags.
    pub(super) fn read<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Option<Self> {
        let lines: Option<Vec<&str>> = values.map(|value| value.to_str().ok()).collect();
        let text = lines?.join(",");
        if text.trim() == "*" {
            return Some(Self::Any);
        }
        let mut tags = Vec::new();
        let mut rest = text.trim_start_matches([' ', '\t', ',']);
        while !rest.is_empty() {
            let opened = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
            let (inner, after) = opened.split_once('"')?;
            if !inner.bytes().all(|byte| byte.is_ascii_graphic()) {
                return None;
            }
            let weak = if rest.starts_with("W/") { "W/" } else { "" };
            tags.push(format!("{weak}\"{inner}\""));
            let trimmed = after.trim_start_matches([' ', '\t']);
            if !trimmed.is_empty() && !trimmed.starts_with(',') {
                return None;
            }
            rest = trimmed.trim_start_matches([' ', '\t', ',']);
        }
        (!tags.is_empty()).then_some(Self::These(tags))
    }

    /// `If-Match`: the strong comparison, in which a weak tag equals nothing.
    pub(super) fn matches(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|given| given == tag),
        }
    }

    /// `If-None-Match`: the weak comparison.
    pub(super) fn matches_weakly(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|given| given.strip_prefix("W/").unwrap_or(given) == tag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&'static str]) -> Option<Tags> {
        let values: Vec<_> = lines.iter().map(|line| HeaderValue::from_static(line)).collect();
        Tags::read(values.iter())
    }

    #[test]
    fn conditions_are_read_as_the_standard_writes_them() {
        let these = |tags: &[&str]| Some(Tags::These(tags.iter().map(|tag| (*tag).to_owned()).collect()));
        for (lines, expected) in [
            (&["*"][..], Some(Tags::Any)),
            (&["\"a\""], these(&["\"a\""])),
            (&["\"a\", W/\"b,c\" ,\"d\""], these(&["\"a\"", "W/\"b,c\"", "\"d\""])),
            (&["\"a\"", "\"b\""], these(&["\"a\"", "\"b\""])),
            (&["\"\""], these(&["\"\""])),
            (&[", \"a\",,"], these(&["\"a\""])),
            (&[""], None),
            (&["a"], None),
            (&["\"a"], None),
            (&["\"a\" \"b\""], None),
            (&["w/\"a\""], None),
            (&["*, \"a\""], None),
            (&["\"a b\""], None),
        ] {
            assert_eq!(read(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_weak_tag_matches_only_weakly() {
        let weak = read(&["W/\"a\""]).expect("read");
        assert!(weak.matches_weakly("\"a\"") && !weak.matches("\"a\"") && !weak.matches("W/\"b\""));
        assert!(read(&["*"]).expect("read").matches("\"a\""));
        assert_ne!(of(b"{}"), of(b"{ }"));
    }
}
