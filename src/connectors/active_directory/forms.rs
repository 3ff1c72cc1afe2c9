//! The forms in which Active Directory writes things: ids, security identifiers, times, account flags.
//!
//! Owns their reading. Nothing here knows a directory or a clock.

use std::fmt::Write as _;

use crate::connectors::Status;

/// objectGUID (MS-DTYP §2.3.4.2) as it is written: the first three parts are little-endian.
pub fn guid_text(bytes: &[u8]) -> Option<String> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::with_capacity(36);
    for (at, from) in ORDER.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{:02x}", bytes.get(from)?);
    }
    Some(text)
}

/// The bytes of an objectGUID from [`guid_text`].
pub fn guid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if text.len() != 36 || digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let written = u128::from_str_radix(&digits, 16).ok()?.to_be_bytes();
    let [a, b, c, d, e, f, g, h, rest @ ..] = written;
    let mut bytes = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.get_mut(8..)?.copy_from_slice(&rest);
    Some(bytes)
}

/// Bytes as they stand in a filter (RFC 4515 §3).
pub fn filter_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        let _ = write!(text, "\\{byte:02x}");
    }
    text
}

/// A security identifier (MS-DTYP §2.4.2) as text: `S-1-5-21-…-1105`.
pub fn sid_text(bytes: &[u8]) -> Option<String> {
    let (&[revision, count, a, b, c, d, e, f], parts) = bytes.split_first_chunk::<8>()?;
    if revision != 1 || count > 15 || parts.len() != usize::from(count) * 4 {
        return None;
    }
    let authority = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    let mut text = format!("S-1-{authority}");
    for part in parts.chunks_exact(4) {
        let _ = write!(text, "-{}", u32::from_le_bytes(part.try_into().ok()?));
    }
    Some(text)
}

/// The relative identifier: the last part of a security identifier.
pub fn rid(sid: &[u8]) -> Option<u32> {
    sid_text(sid)?;
    sid.last_chunk::<4>().map(|part| u32::from_le_bytes(*part))
}

/// Seconds between 1601, where Windows begins to count, and 1970.
const EPOCH_S: i64 = 11_644_473_600;

/// A moment (MS-DTYP §2.3.3: 100 ns since 1601) in seconds since 1970; `None` for never, which is 0 or the end of time.
pub fn moment(text: &str) -> Option<i64> {
    match text.trim().parse::<i64>().ok()? {
        ..=0 | i64::MAX => None,
        ticks => Some(ticks / 10_000_000 - EPOCH_S),
    }
}

/// The same as RFC 3339.
pub fn moment_rfc3339(text: &str) -> Option<String> {
    jiff::Timestamp::from_second(moment(text)?).ok().map(|moment| moment.to_string())
}

/// Bits of userAccountControl (MS-ADTS §2.2.16).
pub mod account {
    pub const DISABLED: u32 = 0x2;
    pub const PASSWORD_NOT_REQUIRED: u32 = 0x20;
    pub const REVERSIBLE_ENCRYPTION: u32 = 0x80;
    pub const WORKSTATION_TRUST: u32 = 0x1000;
    pub const SERVER_TRUST: u32 = 0x2000;
    pub const PASSWORD_NEVER_EXPIRES: u32 = 0x1_0000;
    pub const SMART_CARD_REQUIRED: u32 = 0x4_0000;
    pub const TRUSTED_FOR_DELEGATION: u32 = 0x8_0000;
    pub const NOT_DELEGATED: u32 = 0x10_0000;
    pub const DES_ONLY: u32 = 0x20_0000;
    pub const NO_PRE_AUTHENTICATION: u32 = 0x40_0000;
    pub const TRUSTED_TO_AUTHENTICATE: u32 = 0x100_0000;
}

/// Bits of msDS-User-Account-Control-Computed (MS-ADTS §3.1.1.4.5.17).
pub mod computed {
    pub const LOCKED: u32 = 0x10;
    pub const PASSWORD_EXPIRED: u32 = 0x80_0000;
}

/// A bit field as it is written: a signed number.
pub fn bits(text: &str) -> Option<u32> {
    text.trim().parse::<i32>().ok().map(i32::cast_unsigned)
}

/// What an account says about its usability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signs<'a> {
    pub account_control: Option<&'a str>,
    pub computed: Option<&'a str>,
    pub account_expires: Option<&'a str>,
    pub password_last_set: Option<&'a str>,
}

impl Signs<'_> {
    /// The status at `now` (seconds since 1970). The strongest word wins: disabled, then expired, then locked. A password
    /// that has expired does not end an account: it has to be changed.
    pub fn status(&self, now_second: i64) -> Status {
        if self.account_control.and_then(bits).is_some_and(|bits| bits & account::DISABLED != 0) {
            return Status::Disabled;
        }
        if self.account_expires.and_then(moment).is_some_and(|end| end <= now_second) {
            return Status::Expired;
        }
        if self.computed.and_then(bits).is_some_and(|bits| bits & computed::LOCKED != 0) {
            return Status::Locked;
        }
        Status::Active
    }

    /// Whether the password has to be changed at the next sign-in: an administrator said so (pwdLastSet 0), or it has
    /// expired.
    pub fn must_change_password(&self) -> bool {
        self.password_last_set.is_some_and(|text| text.trim() == "0")
            || self.computed.and_then(bits).is_some_and(|bits| bits & computed::PASSWORD_EXPIRED != 0)
    }
}

/// groupType (MS-ADTS §2.2.12) in the words of Active Directory's own tools.
pub fn group_kind(text: &str) -> Option<String> {
    let bits = bits(text)?;
    let scope = match bits & 0xf {
        value if value & 0x1 != 0 => "built-in",
        value if value & 0x2 != 0 => "global",
        value if value & 0x4 != 0 => "domain local",
        value if value & 0x8 != 0 => "universal",
        _ => return None,
    };
    let purpose = if bits & 0x8000_0000 != 0 { "security" } else { "distribution" };
    Some(format!("{scope} {purpose}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_written_as_windows_does() {
        let bytes: Vec<u8> = (0..16).collect();
        let text = guid_text(&bytes).expect("an id");
        assert_eq!(text, "03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(guid_bytes(&text).map(Vec::from), Some(bytes.clone()));
        assert_eq!(guid_text(&bytes[..15]), None);
        assert_eq!(guid_bytes("03020100-0504-0706-0809-0a0b0c0d0e0"), None);
        assert_eq!(guid_bytes("0302010050504-0706-0809-0a0b0c0d0e0f"), None);
        assert_eq!(filter_bytes(&[0, 0x2a, 0xff]), r"\00\2a\ff");
    }

    #[test]
    fn security_identifiers_are_read_and_nothing_else() {
        let sid = [1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 81, 4, 0, 0];
        assert_eq!(sid_text(&sid).as_deref(), Some("S-1-5-21-1-2-3-1105"));
        assert_eq!(rid(&sid), Some(1105));
        assert_eq!(sid_text(&[1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).as_deref(), Some("S-1-1-0"));
        for wrong in [&sid[..27], &[], &[2, 0, 0, 0, 0, 0, 0, 5], &[1, 2, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0]] {
            assert_eq!((sid_text(wrong), rid(wrong)), (None, None));
        }
    }

    #[test]
    fn times_and_never() {
        assert_eq!(moment("116444736000000000"), Some(0));
        assert_eq!(moment_rfc3339("133485408000000000").as_deref(), Some("2024-01-01T00:00:00Z"));
        for never in ["0", "9223372036854775807", "-1", "", "soon"] {
            assert_eq!(moment(never), None, "{never}");
        }
    }

    #[test]
    fn the_strongest_word_wins() {
        let signs = |control, computed, expires| Signs {
            account_control: Some(control),
            computed: Some(computed),
            account_expires: Some(expires),
            password_last_set: Some("133485408000000000"),
        };
        let never = "9223372036854775807";
        let past = "133485408000000000";
        for (signs, status) in [
            (signs("512", "0", never), Status::Active),
            (signs("514", "16", past), Status::Disabled),
            (signs("512", "16", past), Status::Expired),
            (signs("66048", "16", never), Status::Locked),
            (signs("512", "8388608", "0"), Status::Active),
            (Signs::default(), Status::Active),
        ] {
            assert_eq!(signs.status(1_780_000_000), status, "{signs:?}");
        }
        assert!(signs("512", "8388608", never).must_change_password());
        assert!(!signs("512", "16", never).must_change_password());
        assert!(Signs { password_last_set: Some("0"), ..Signs::default() }.must_change_password());
    }

    #[test]
    fn groups_are_called_as_their_tools_call_them() {
        for (text, kind) in [
            ("-2147483646", Some("global security")),
            ("-2147483644", Some("domain local security")),
            ("-2147483640", Some("universal security")),
            ("-2147483643", Some("built-in security")),
            ("2", Some("global distribution")),
            ("0", None),
            ("many", None),
        ] {
            assert_eq!(group_kind(text).as_deref(), kind);
        }
    }

    proptest! {
        #[test]
        fn any_id_reads_back(bytes in any::<[u8; 16]>()) {
            let text = guid_text(&bytes).expect("16 bytes");
            prop_assert_eq!(guid_bytes(&text), Some(bytes));
        }

        #[test]
        fn any_bytes_are_a_security_identifier_or_not(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(sid_text(&bytes).is_some(), rid(&bytes).is_some() || bytes.len() == 8 && bytes[0] == 1 && bytes[1] == 0);
        }
    }
}
