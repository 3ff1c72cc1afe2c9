//! Search filters (RFC 4515) and attribute names (RFC 4512 §2.5) as an administrator types them.
//!
//! Owns the checks before a filter reaches ldap3's recursive parser. It must never build a filter from text that a
//! person typed without [`escape`].

/// The longest filter.
pub const FILTER_MAX: usize = 4096;
/// The deepest nesting: ldap3's parser recurses, and nobody writes more by hand.
const DEPTH_MAX: usize = 50;

/// Why a text is no filter, as a sentence for the form field.
pub fn check(filter: &str) -> Result<(), String> {
    if filter.len() > FILTER_MAX {
        return Err(format!("The filter is longer than {FILTER_MAX} bytes."));
    }
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
    ldap3::parse_filter(filter).map(|_| ()).map_err(|()| {
        "This is not a filter as RFC 4515 writes it, for example (&(objectClass=person)(mail=*)).".to_owned()
    })
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
            let _ = check(&text);
        }
    }
}
