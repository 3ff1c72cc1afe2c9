//! Distinguished names (RFC 4514): read, compared, never used as an identity's key.
//!
//! A group names its members by DN, and the same DN can be written in many ways: other case, spaces around the
//! separators, `\2C` for `\,`, the parts of a multi-valued RDN in another order. [`normalise`] writes all of them the
//! same way, as far as the common matching rules (caseIgnoreMatch, RFC 4518 preparation) agree. The result is only a
//! key for comparing; it is never sent to a directory and never shown.
//!
//! Must never panic on what a directory sends, and must never make two different DNs equal by dropping characters.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use crate::connectors::Key;

/// The text is not a DN as RFC 4514 writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DnError {
    #[error("a part has no `=`")]
    NoEquals,
    #[error("an attribute type is missing or has a character that is not allowed")]
    BadType,
    #[error("an escape is incomplete")]
    BadEscape,
    #[error("a value has a character that must be escaped")]
    BadCharacter,
}

/// The one way in which a DN is written for comparing: types and values in lower case, values prepared, parts of a
/// multi-valued RDN sorted, no spaces around separators, special characters as `\xx`.
pub fn normalise(dn: &str) -> Result<String, DnError> {
    if let Some(simple) = normalise_simple(dn) {
        return Ok(simple);
    }
    let mut out = String::with_capacity(dn.len());
    // Only at the start: at the end a space may be escaped, which the reading of the value knows.
    let mut rest = dn.trim_start_matches(' ');
    if rest.is_empty() {
        return Ok(out);
    }
    let mut parts: Vec<String> = Vec::new();
    loop {
        let (part, after) = read_part(rest)?;
        parts.push(part);
        let separator = after.chars().next();
        if separator != Some('+') {
            parts.sort_unstable();
            out.push_str(&parts.join("+"));
            parts.clear();
        }
        match separator {
            None => return Ok(out),
            Some('+') => (),
            Some(_) => out.push(','),
        }
        rest = after.get(1..).unwrap_or_default();
    }
}

/// Most DNs need lower case and nothing else. `None` sends the others the long way.
fn normalise_simple(dn: &str) -> Option<String> {
    let mut out = Vec::with_capacity(dn.len());
    let mut in_type = true;
    let mut type_start = 0;
    // A space is fine within a value, and only there.
    let mut last = b',';
    for &byte in dn.as_bytes() {
        match byte {
            b'A'..=b'Z' => out.push(byte.to_ascii_lowercase()),
            b'a'..=b'z' | b'0'..=b'9' | b'-' => out.push(byte),
            b'=' if in_type => {
                if !is_canonical_type(out.get(type_start..)?) {
                    return None;
                }
                in_type = false;
                out.push(byte);
            }
            b',' if !in_type && last != b' ' => {
                in_type = true;
                out.push(byte);
                type_start = out.len();
            }
            b' ' if !in_type && last != b' ' && last != b'=' => out.push(byte),
            b'.' | b'_' | b'@' | b'/' | b':' | b'\'' | b'(' | b')' | b'*' | b'&' | b'!' | b'?' if !in_type => {
                out.push(byte)
            }
            _ => return None,
        }
        last = byte;
    }
    if in_type || last == b' ' {
        return None;
    }
    String::from_utf8(out).ok()
}

/// A descriptor in lower case that is not another name of a shorter one.
fn is_canonical_type(name: &[u8]) -> bool {
    match name {
        b"uid" | b"cn" | b"ou" | b"dc" | b"o" | b"c" | b"l" | b"st" => true,
        [first, ..] => {
            first.is_ascii_alphabetic() && std::str::from_utf8(name).is_ok_and(|name| canonical_type(name) == name)
        }
        [] => false,
    }
}

/// The short name of an attribute type (RFC 4514 §3, RFC 4519) for its other names and its OID.
fn canonical_type(lower: &str) -> &str {
    match lower.strip_prefix("oid.").unwrap_or(lower) {
        "2.5.4.3" | "commonname" => "cn",
        "2.5.4.4" | "surname" => "sn",
        "2.5.4.6" | "countryname" => "c",
        "2.5.4.7" | "localityname" => "l",
        "2.5.4.8" | "stateorprovincename" => "st",
        "2.5.4.9" | "streetaddress" => "street",
        "2.5.4.10" | "organizationname" => "o",
        "2.5.4.11" | "organizationalunitname" => "ou",
        "2.5.4.5" => "serialnumber",
        "2.5.4.42" | "gn" => "givenname",
        "0.9.2342.19200300.100.1.1" | "userid" => "uid",
        "0.9.2342.19200300.100.1.25" | "domaincomponent" => "dc",
        "0.9.2342.19200300.100.1.3" | "rfc822mailbox" => "mail",
        "1.2.840.113549.1.9.1" | "email" | "emailaddress" => "emailaddress",
        other => other,
    }
}

fn trim_spaces(text: &str) -> &str {
    text.trim_matches(' ')
}

/// Reads `type=value` up to the separator that follows; answers the normalised part and the rest from the separator on.
fn read_part(text: &str) -> Result<(String, &str), DnError> {
    let (name, rest) = text.split_once('=').ok_or(DnError::NoEquals)?;
    let name = trim_spaces(name).to_ascii_lowercase();
    let is_descriptor = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == ';';
    let is_dotted = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    // `OID.` (RFC 1779) goes with an OID and nothing else: found by fuzzing, `OID.=a` lost its type.
    let is_allowed = match name.strip_prefix("oid.") {
        Some(oid) => is_dotted(oid),
        None => is_dotted(&name) || is_descriptor && name.chars().all(allowed),
    };
    if !is_allowed {
        return Err(DnError::BadType);
    }
    let (value, after) = read_value(rest)?;
    let mut part = canonical_type(&name).to_owned();
    part.push('=');
    match value {
        RawValue::Hex(digits) => {
            part.push('#');
            part.push_str(&digits);
        }
        RawValue::Bytes(bytes) => write_value(&bytes, &mut part),
    }
    Ok((part, after))
}

enum RawValue {
    /// `#` and the BER of the value in hexadecimal digits: compared as it is.
    Hex(String),
    Bytes(Vec<u8>),
}

fn read_value(text: &str) -> Result<(RawValue, &str), DnError> {
    let text = text.trim_start_matches(' ');
    if let Some(hex) = text.strip_prefix('#') {
        let end = hex.find([',', '+', ';']).unwrap_or(hex.len());
        let (digits, after) = hex.split_at(end);
        let digits = trim_spaces(digits).to_ascii_lowercase();
        if digits.is_empty() || !digits.len().is_multiple_of(2) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Err(DnError::BadEscape);
        }
        return Ok((RawValue::Hex(digits), after));
    }
    if let Some(quoted) = text.strip_prefix('"') {
        return read_quoted(quoted);
    }
    let mut bytes = Vec::with_capacity(text.len().min(64));
    // How much of `bytes` is certain: unescaped spaces at the end don't belong to the value.
    let mut certain = 0;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ',' | '+' | ';' => {
                bytes.truncate(certain);
                return Ok((RawValue::Bytes(bytes), text.get(at..).unwrap_or_default()));
            }
            '\\' => {
                read_escape(&mut chars, &mut bytes)?;
                certain = bytes.len();
            }
            '"' | '<' | '>' | '\0' => return Err(DnError::BadCharacter),
            ' ' => bytes.push(b' '),
            other => {
                push_char(other, &mut bytes);
                certain = bytes.len();
            }
        }
    }
    bytes.truncate(certain);
    Ok((RawValue::Bytes(bytes), ""))
}

/// The quoted form of RFC 2253, which RFC 4514 no longer writes but old directories hold.
fn read_quoted(text: &str) -> Result<(RawValue, &str), DnError> {
    let mut bytes = Vec::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let after = text.get(at + 1..).unwrap_or_default().trim_start_matches(' ');
                return match after.chars().next() {
                    None | Some(',' | '+' | ';') => Ok((RawValue::Bytes(bytes), after)),
                    Some(_) => Err(DnError::BadCharacter),
                };
            }
            '\\' => read_escape(&mut chars, &mut bytes)?,
            other => push_char(other, &mut bytes),
        }
    }
    Err(DnError::BadEscape)
}

/// After a backslash: two hexadecimal digits, or a special character itself.
fn read_escape(chars: &mut std::str::CharIndices<'_>, bytes: &mut Vec<u8>) -> Result<(), DnError> {
    let (_, first) = chars.next().ok_or(DnError::BadEscape)?;
    if let Some(high) = first.to_digit(16) {
        let low = chars.next().and_then(|(_, c)| c.to_digit(16)).ok_or(DnError::BadEscape)?;
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| DnError::BadEscape)?);
        return Ok(());
    }
    if matches!(first, ' ' | '"' | '#' | '+' | ',' | ';' | '<' | '=' | '>' | '\\') {
        push_char(first, bytes);
        return Ok(());
    }
    Err(DnError::BadEscape)
}

fn push_char(c: char, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Prepares a value (NFKC, lower case, one space where several are, none at the ends) and writes it unambiguously.
fn write_value(bytes: &[u8], out: &mut String) {
    use std::fmt::Write as _;
    let Ok(text) = std::str::from_utf8(bytes) else {
        // Not text: compared byte by byte. The `\x` can't begin what the branch below writes.
        out.push_str("\\x");
        for byte in bytes {
            let _ = write!(out, "{byte:02x}");
        }
        return;
    };
    let prepared: Cow<'_, str> = if text.is_ascii() {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        // Folding may undo the composition, so that it is composed again.
        Cow::Owned(text.nfkc().collect::<String>().to_lowercase().nfkc().collect())
    };
    let mut space_pending = false;
    let start = out.len();
    for c in prepared.chars() {
        match c {
            ' ' => space_pending = true,
            _ => {
                if space_pending && out.len() > start {
                    out.push(' ');
                }
                space_pending = false;
                if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' | '#') || c.is_control() {
                    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                        let _ = write!(out, "\\{byte:02x}");
                    }
                } else {
                    out.push(c);
                }
            }
        }
    }
}

/// Whether the normalised DN `inner` is `outer` or lies below it.
pub fn is_within(inner: &str, outer: &str) -> bool {
    outer.is_empty()
        || inner == outer
        // In a normalised DN a comma is always a separator: those of values are written `\2c`.
        || inner.strip_suffix(outer).is_some_and(|head| head.ends_with(','))
}

/// The value of the first RDN as text, for a name when an entry has no better one.
pub fn first_value(dn: &str) -> Option<String> {
    let (_, rest) = dn.split_once('=')?;
    match read_value(rest).ok()?.0 {
        RawValue::Bytes(bytes) => String::from_utf8(bytes).ok().filter(|text| !text.is_empty()),
        RawValue::Hex(_) => None,
    }
}

/// What a DN lies below, as written; `None` at the top.
pub fn parent(dn: &str) -> Option<&str> {
    let mut is_escaped = false;
    let mut is_quoted = false;
    for (at, c) in dn.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' | ';' if !is_quoted => return dn.get(at + 1..).map(str::trim_start).filter(|rest| !rest.is_empty()),
            _ => {}
        }
    }
    None
}

/// The key of what stands where a DN belongs. One that can't be read points at nothing, but it is a member and shown as
/// such; no normalised DN has a NUL.
pub fn key_of_any(text: &str) -> Key {
    normalise(text).map_or_else(|_| Key::of_dn(&format!("\0{text}")), |normal| Key::of_dn(&normal))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(a: &str, b: &str) {
        assert_eq!(normalise(a).expect(a), normalise(b).expect(b), "{a} and {b}");
    }

    fn different(a: &str, b: &str) {
        assert_ne!(normalise(a).expect(a), normalise(b).expect(b), "{a} and {b}");
    }

    #[test]
    fn a_parent_begins_after_the_first_rdn() {
        assert_eq!(parent(r"CN=Comma\, Carl,OU=Staff, DC=x"), Some("OU=Staff, DC=x"));
        assert_eq!(parent(r#"CN="a,b",DC=x"#), Some("DC=x"));
        for top in ["DC=x", "", r"CN=a\,", "CN=a,"] {
            assert_eq!(parent(top), None, "{top}");
        }
    }

    #[test]
    fn the_same_dn_written_differently_is_the_same() {
        same("uid=u1,ou=people,dc=example,dc=test", "UID=U1, OU=People , DC=Example,DC=TEST");
        same(r"cn=Doe\, John,dc=x", r"CN=doe\2C john,dc=X");
        same(r"cn=a\+b,dc=x", r"cn=a\2bb,dc=x");
        same("cn=a+uid=b,dc=x", "uid=b + cn=a,dc=x");
        same("cn=two  spaces,dc=x", "cn=two spaces,dc=x");
        same(r"cn=\ lead\ ,dc=x", "cn=lead,dc=x");
        same("cn=Jürgen,dc=x", r"cn=j\C3\BCrgen,dc=x");
        same("cn=J\u{fc}rgen,dc=x", "cn=Ju\u{308}rgen,dc=x");
        same("cn=ÉLODIE,dc=x", "cn=élodie,dc=x");
        same("0.9.2342.19200300.100.1.1=u1,dc=x", "uid=u1,dc=x");
        same("OID.2.5.4.3=a,dc=x", "cn=a,dc=x");
        same("commonName=a,dc=x", "cn=a,dc=x");
        same(r#"cn="Doe, John",dc=x"#, r"cn=Doe\, John,dc=x");
        same("cn=a;dc=x", "cn=a,dc=x");
        same("cn=#04024869,dc=x", "cn=#04024869 ,dc=x");
        same("cn=李雷,dc=x", "CN=李雷,dc=x");
        same("cn=O'Brien (x) & y/z,dc=x", "cn=o'brien (x) & y/z,dc=x");
        same("", " ");
    }

    #[test]
    fn different_dns_stay_different() {
        different(r"cn=a\,b,dc=x", "cn=a,cn=b,dc=x");
        different("cn=ab,dc=x", "cn=a b,dc=x");
        different(r"cn=a\+cn\=b,dc=x", "cn=a+cn=b,dc=x");
        different("cn=a,dc=x", "uid=a,dc=x");
        different(r"cn=\#04024869,dc=x", "cn=#04024869,dc=x");
        different(r"cn=\FF,dc=x", r"cn=\FE,dc=x");
        different(r"cn=\FF,dc=x", r"cn=\\xff,dc=x");
        different("cn=u,dc=x", "cn=ü,dc=x");
        different("cn=a,dc=x", "cn=a");
        different(r"cn=a\00,dc=x", "cn=a,dc=x");
    }

    #[test]
    fn what_is_no_dn_is_refused() {
        for text in [
            "x",
            "=a",
            "cn",
            "cn=a,",
            ",cn=a",
            "cn=a,,dc=x",
            r"cn=a\",
            r"cn=\4",
            r"cn=\zz",
            "cn=a\"b",
            "cn=<a>",
            "cn=a+",
            "c n=a",
            "cn=#0",
            "cn=#zz",
            "cn=#",
            "cn=\"a",
            "cn=\"a\"b",
            "cn=a\0",
            "ü=a",
            "1a=b",
            "oid.=a",
            "OID.cn=a",
        ] {
            assert!(normalise(text).is_err(), "{text:?} became {:?}", normalise(text));
        }
    }

    #[test]
    fn the_simple_way_and_the_long_way_agree() {
        for text in [
            "uid=u1,ou=people,dc=example,dc=test",
            "CN=A B,O=C",
            "cn=o'brien.x_y@z,dc=x",
            "cn=,dc=x",
            "cn=a ,dc=x",
            "cn= a",
        ] {
            if let Some(simple) = normalise_simple(text) {
                // A value that needs the long way, appended, forces it for the whole.
                let long = normalise(&format!(r"{text},cn=\2c")).expect(text);
                assert_eq!(format!(r"{simple},cn=\2c"), long, "{text}");
            }
        }
        assert!(normalise_simple("uid=u000001,ou=people,dc=example,dc=test").is_some());
    }

    #[test]
    fn being_within_follows_whole_parts() {
        let within = |a: &str, b: &str| is_within(&normalise(a).expect(a), &normalise(b).expect(b));
        assert!(within("ou=people,dc=x", "dc=x"));
        assert!(within("dc=x", "DC=X"));
        assert!(within("dc=x", ""));
        assert!(!within("dc=x", "ou=people,dc=x"));
        assert!(!within("ou=adc=x", "dc=x"));
        assert!(!within(r"cn=a\,dc=x", "dc=x"));
    }

    #[test]
    fn the_first_value_names_an_entry() {
        assert_eq!(first_value(r"cn=Doe\, John,dc=x").as_deref(), Some("Doe, John"));
        assert_eq!(first_value("uid=u1+cn=x,dc=x").as_deref(), Some("u1"));
        assert_eq!(first_value(""), None);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,60}") {
            let _ = normalise(&text);
            let _ = first_value(&text);
        }

        #[test]
        fn normalising_twice_changes_nothing(values in proptest::collection::vec("[ -~à-ÿΑ-ω一-丐]{1,12}", 1..4)) {
            let dn = values.iter().map(|value| format!("cn={}", escape(value))).collect::<Vec<_>>().join(",");
            let once = normalise(&dn).expect("escaped");
            prop_assert_eq!(normalise(&once).expect("normal"), once.clone());
        }

        #[test]
        fn case_and_spacing_never_matter(values in proptest::collection::vec("[a-z0-9 ,+=#;\\\\]{1,12}", 1..4)) {
            let plain = values.iter().map(|value| format!("cn={}", escape(value))).collect::<Vec<_>>().join(",");
            let spread = values.iter().map(|value| format!(" CN = {} ", escape(&value.to_uppercase()))).collect::<Vec<_>>().join(" , ");
            prop_assert_eq!(normalise(&plain).expect("plain"), normalise(&spread).expect("spread"));
        }

        #[test]
        fn any_simple_dn_reads_as_the_long_way_does(dn in "(cn|uid|OU|sn|commonName)=[a-zA-Z0-9 .@'-]{0,8}(,(dc|ou)=[a-zA-Z ]{0,6}){0,2}") {
            if let Some(simple) = normalise_simple(&dn) {
                let tail = format!("{dn},cn=\\2c");
                prop_assert_eq!(format!("{simple},cn=\\2c"), normalise(&tail).expect("long"));
            }
        }
    }

    fn escape(value: &str) -> String {
        let mut out = String::new();
        for c in value.chars() {
            if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' | '#' | ' ') {
                out.push('\\');
            }
            out.push(c);
        }
        out
    }
}
