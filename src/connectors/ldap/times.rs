//! Times as LDAP writes them: GeneralizedTime (RFC 4517 §3.3.13).
//!
//! Owns their reading and writing. What is no time is `None`, whatever it looks like.

/// GeneralizedTime (RFC 4517 §3.3.13) in RFC 3339, UTC, whole seconds. `None` for what is no time.
pub fn rfc3339(text: &str) -> Option<String> {
    // Nearly all are `YYYYMMDDHHMMSSZ`, whose text can be rearranged once the date is known to exist.
    let bytes = text.as_bytes();
    if let (15, Some(b'Z')) = (bytes.len(), bytes.last()) {
        civil(text)?;
        let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
        return Some(format!(
            "{}-{}-{}T{}:{}:{}Z",
            part(0..4),
            part(4..6),
            part(6..8),
            part(8..10),
            part(10..12),
            part(12..14)
        ));
    }
    jiff::Timestamp::from_second(unix_second(text)?).ok().map(|moment| moment.to_string())
}

/// Seconds since 1970 as GeneralizedTime.
pub fn generalized_time(second: i64) -> Option<String> {
    Some(jiff::Timestamp::from_second(second).ok()?.strftime("%Y%m%d%H%M%SZ").to_string())
}

/// Date and time of the first 14 digits, without zone.
fn civil(text: &str) -> Option<jiff::civil::DateTime> {
    let number = |range: std::ops::Range<usize>| -> Option<i16> {
        let digits = text.get(range)?;
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
    };
    let small = |range| number(range).and_then(|value| i8::try_from(value).ok());
    // A leap second is written as 60.
    let second = small(12..14)?.min(if text.get(12..14) == Some("60") { 59 } else { i8::MAX });
    jiff::civil::DateTime::new(number(0..4)?, small(4..6)?, small(6..8)?, small(8..10)?, small(10..12)?, second, 0).ok()
}

/// GeneralizedTime in seconds since 1970. Minutes, seconds and a fraction may be missing; the fraction is dropped.
pub fn unix_second(text: &str) -> Option<i64> {
    if !text.is_ascii() || text.len() > 40 {
        return None;
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, mut rest) = text.split_at_checked(digits)?;
    // Missing minutes and seconds are zero.
    let mut full = *b"00000000000000";
    if !matches!(number.len(), 10 | 12 | 14) {
        return None;
    }
    full.get_mut(..number.len())?.copy_from_slice(number.as_bytes());
    let full = std::str::from_utf8(&full).ok()?;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 {
            return None;
        }
        rest = fraction.get(length..)?;
    }
    let offset_s = match rest.split_at_checked(1)? {
        ("Z", "") => 0,
        (sign @ ("+" | "-"), zone) if zone.len() == 2 || zone.len() == 4 => {
            let hours: i64 = zone.get(..2)?.parse().ok()?;
            let minutes: i64 = if zone.len() == 4 { zone.get(2..)?.parse().ok()? } else { 0 };
            if !zone.bytes().all(|byte| byte.is_ascii_digit()) || hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 3600 + minutes * 60;
            if sign == "+" { offset } else { -offset }
        }
        _ => return None,
    };
    let utc = jiff::tz::TimeZone::UTC.to_timestamp(civil(full)?).ok()?.as_second();
    Some(utc - offset_s)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn generalized_times_become_rfc_3339() {
        for (text, expected) in [
            ("20260102030405Z", Some("2026-01-02T03:04:05Z")),
            ("20260102030405.123456Z", Some("2026-01-02T03:04:05Z")),
            ("20260102030405,5Z", Some("2026-01-02T03:04:05Z")),
            ("202601020304Z", Some("2026-01-02T03:04:00Z")),
            ("2026010203Z", Some("2026-01-02T03:00:00Z")),
            ("20260102030405+0100", Some("2026-01-02T02:04:05Z")),
            ("20260102030405-05", Some("2026-01-02T08:04:05Z")),
            ("20240229000000Z", Some("2024-02-29T00:00:00Z")),
            ("20230229000000Z", None),
            ("20261302030405Z", None),
            ("2026010203040Z", None),
            ("20260102030405", None),
            ("20260102030405ZZ", None),
            ("2026010203040xZ", None),
            ("20260102030405.Z", None),
            ("20260102030405+1", None),
            ("20260102030405+2500", None),
            ("2026０102030405Z", None),
            ("", None),
            ("Z", None),
        ] {
            assert_eq!(rfc3339(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn seconds_are_written_as_they_are_read() {
        for text in ["20260102030405Z", "19700101000000Z", "20991231235959Z"] {
            assert_eq!(unix_second(text).and_then(generalized_time).as_deref(), Some(text));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_texts_never_panic(text in "\\PC{0,40}|[0-9]{8,16}[.,]?[0-9]{0,3}[Z+-]?[0-9]{0,4}") {
            if let Some(shown) = rfc3339(&text) {
                prop_assert!(shown.parse::<jiff::Timestamp>().is_ok(), "{}", shown);
            }
        }
    }
}
