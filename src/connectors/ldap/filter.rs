//! Search filters (RFC 4515) and attribute names (RFC 4512 §2.5) as an administrator types them.
//!
//! Owns the checks before a filter reaches ldap3's recursive parser, and its encoding (RFC 4511 §4.5.1.7). It must never build a filter from text that a
//! person typed without [`escape`].

use ldap3::asn1::{ASNTag, PL, StructureTag, TagClass};

use super::request::put;

/// The longest filter that is typed.
pub const FILTER_MAX: usize = 4096;
/// The deepest nesting: ldap3's parser recurses, and nobody writes more by hand.
const DEPTH_MAX: usize = 50;

/// Why a text is no filter, as a sentence for the form field.
pub fn check(filter: &str) -> Result<(), String> {
    if filter.len() > FILTER_MAX {
        return Err(format!("The filter is longer than {FILTER_MAX} bytes."));
    }
    check_shape(filter)
}

fn check_shape(filter: &str) -> Result<(), String> {
    if filter.chars().any(char::is_control) {
        return Err("The filter holds a control character; write special characters as \\xx.".to_owned());
    }
    if !filter.starts_with('(') || !filter.ends_with(')') {
        return Err("The filter must stand in parentheses, as in (objectClass=inetOrgPerson).".to_owned());
    }
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    for byte in filter.bytes() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1).ok_or("The filter closes a parenthesis that was not opened.")?,
            _ => (),
        }
        deepest = deepest.max(depth);
    }
    if depth > 0 {
        return Err("The filter has a parenthesis that is not closed.".to_owned());
    }
    if deepest > DEPTH_MAX {
        return Err(format!("The filter is nested deeper than {DEPTH_MAX} levels."));
    }
    parse(filter).map(|_| ())
}

fn parse(filter: &str) -> Result<StructureTag, String> {
    ldap3::parse_filter(filter).map(ASNTag::into_structure).map_err(|()| {
        "This is not a filter as RFC 4515 writes it, for example (&(objectClass=person)(mail=*)).".to_owned()
    })
}

/// A filter as it goes into a search request, or why the text is none. It may be longer than a typed one: a connector
/// adds to what was typed.
pub fn encode(filter: &str) -> Result<Vec<u8>, String> {
    check_shape(filter)?;
    let mut out = Vec::with_capacity(filter.len() + 16);
    write(&parse(filter)?, &mut out);
    Ok(out)
}

/// The depth is limited: [`check_shape`] has counted the parentheses.
fn write(part: &StructureTag, out: &mut Vec<u8>) {
    let class = match part.class {
        TagClass::Universal => 0x00,
        TagClass::Application => 0x40,
        TagClass::Context => 0x80,
        TagClass::Private => 0xc0,
    };
    // No tag of a filter has a number over 9.
    let number = u8::try_from(part.id).unwrap_or(0x1f);
    match &part.payload {
        PL::P(content) => put(out, class | number, content),
        PL::C(parts) => {
            let mut content = Vec::new();
            for part in parts {
                write(part, &mut content);
            }
            put(out, class | 0x20 | number, &content);
        }
    }
}

/// The attributes that a filter asks for, in lower case and without options. A filter that [`check`] refuses may name more or
/// less.
pub fn attributes(filter: &str) -> Vec<String> {
    // In a value, a parenthesis is escaped: each one begins a part.
    let names = filter.split('(').filter_map(|part| part.split(['=', '<', '>', '~', ':', ';']).next());
    let mut names: Vec<String> =
        names.filter(|name| is_attribute_description(name)).map(str::to_ascii_lowercase).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A value as it may stand in a filter.
pub fn escape(value: &str) -> String {
    use std::fmt::Write as _;
    value.bytes().fold(String::with_capacity(value.len()), |mut out, byte| {
        if matches!(byte, b'*' | b'(' | b')' | b'\\' | 0) || !byte.is_ascii_graphic() && byte != b' ' {
            let _ = write!(out, "\\{byte:02x}");
        } else {
            out.push(char::from(byte));
        }
        out
    })
}

/// Whether this can be an attribute description: a name or an OID, with options (`cn;lang-de`), or `*` and `+`.
pub fn is_attribute_description(name: &str) -> bool {
    if name.len() > 128 {
        return false;
    }
    let mut parts = name.split(';');
    let base = parts.next().unwrap_or_default();
    let is_keystring = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_name = base.starts_with(|c: char| c.is_ascii_alphabetic()) && is_keystring(base);
    let is_oid = base.starts_with(|c: char| c.is_ascii_digit())
        && base.split('.').all(|arc| !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit()));
    (is_name || is_oid) && parts.all(|option| !option.is_empty() && is_keystring(option))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn filters_are_checked_before_they_are_sent() {
        for good in [
            "(uid=*)",
            "(&(objectClass=person)(!(mail=*)))",
            "(cn=a\\2ab)",
            "(cn:dn:2.4.6.8.10:=x)",
            "(cn=Jürgen)",
            "(|(a=b)(c>=d))",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "uid=*",
            "(uid=*",
            "uid=*)",
            "(uid=*))((a=b)",
            "(&(a=b)",
            "()",
            "(uid)",
            "(uid=a\0)",
            "(uid=\\zz)",
            "(uid=*)(uid=*)",
            "(uid=a\n)",
            "((a=b))",
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert!(check(&format!("{}(a=b){}", "(!".repeat(60), ")".repeat(60))).is_err());
        assert!(check(&format!("(a={})", "x".repeat(5000))).is_err());
    }

    #[test]
    fn filters_are_encoded_as_the_standard_says() {
        let encoded = |filter| encode(filter).expect(filter);
        assert_eq!(encoded("(uid=*)"), b"\x87\x03uid");
        assert_eq!(encoded("(cn=a\\2a\\00)"), b"\xa3\x09\x04\x02cn\x04\x03a*\0");
        assert_eq!(
            encoded("(&(a=b)(!(c>=d))(|(e<=f)(g~=h)))"),
            b"\xa0\x24\xa3\x06\x04\x01a\x04\x01b\xa2\x08\xa5\x06\x04\x01c\x04\x01d\xa1\x10\xa6\x06\x04\x01e\x04\x01f\xa8\x06\x04\x01g\x04\x01h"
        );
        assert_eq!(encoded("(cn=a*b*c)"), b"\xa4\x0f\x04\x02cn\x30\x09\x80\x01a\x81\x01b\x82\x01c");
        assert_eq!(encoded("(cn:dn:2.5.13.5:=x)"), b"\xa9\x14\x81\x082.5.13.5\x82\x02cn\x83\x01x\x84\x01\xff");
        assert!(encode("(uid=*").is_err());
    }

    #[test]
    fn the_attributes_that_a_filter_asks_for_are_known() {
        for (filter, expected) in [
            ("(uid=*)", &["uid"][..]),
            ("(&(objectClass=person)(!(Mail=*@x=y)))", &["mail", "objectclass"]),
            ("(|(a>=1)(b<=2)(c~=3)(d:dn:2.4:=x)(e;lang-de=f)(A=2))", &["a", "b", "c", "d", "e"]),
            ("(:2.4.6:=x)", &[]),
            ("(cn=\\28uid=\\29)", &["cn"]),
        ] {
            assert_eq!(attributes(filter), expected, "{filter}");
        }
    }

    #[test]
    fn attribute_names_are_names_or_oids() {
        for good in ["cn", "cn;lang-de", "userCertificate;binary", "2.5.4.3", "a-1"] {
            assert!(is_attribute_description(good), "{good}");
        }
        for bad in ["", "1a", "c n", "cn;", "*", "cn=", "ü", "2..5", "-a", "a_b", "cn\0"] {
            assert!(!is_attribute_description(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_escaped_value_can_only_be_a_value(value in "\\PC{0,40}|[*()\\\\\0]{0,10}") {
            let filter = format!("(uid={})", escape(&value));
            prop_assert_eq!(check(&filter), Ok(()));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "[()&|!=*\\\\a-z0-9]{0,60}") {
            let _ = (check(&text), attributes(&text));
        }
    }
}
