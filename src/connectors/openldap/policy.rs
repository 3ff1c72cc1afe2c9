//! Whether an account can be used, from the password policy overlay (draft-behera-ldap-password-policy-10, slapo-ppolicy(5))
//! and from older conventions (`shadowExpire`, `nsAccountLock`, `loginDisabled`).
//!
//! Owns the words → [`Status`] rule and the times of RFC 4517 §3.3.13. It has no clock: the moment to compare with is
//! handed in.

use std::collections::HashMap;

use crate::connectors::Status;

/// One policy, as far as a status depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Seconds after which a password expires (`pwdMaxAge`); 0 is never.
    pub max_age_s: i64,
    /// Seconds after which a lock of too many failures ends by itself (`pwdLockoutDuration`); 0 is never.
    pub lockout_s: i64,
}

/// The policies that the directory holds.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// By normalised DN.
    pub by_dn: HashMap<String, Policy>,
    /// The policy of entries without `pwdPolicySubentry`.
    pub default: Option<Policy>,
}

/// What an entry says about its usability, as texts of the directory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Signs<'a> {
    pub pwd_account_locked_time: Option<&'a str>,
    pub pwd_changed_time: Option<&'a str>,
    pub pwd_start_time: Option<&'a str>,
    pub pwd_end_time: Option<&'a str>,
    pub pwd_policy_subentry: Option<&'a str>,
    /// Days since 1970 (RFC 2307 `shadowExpire`); -1 is never.
    pub shadow_expire: Option<&'a str>,
    /// `nsAccountLock` or `loginDisabled` is TRUE.
    pub is_disabled: bool,
}

impl Policies {
    /// The policy of an entry; `None` when it can't be known.
    fn of(&self, signs: &Signs<'_>) -> Option<Policy> {
        match signs.pwd_policy_subentry {
            Some(dn) => crate::connectors::ldap::dn::normalise(dn).ok().and_then(|dn| self.by_dn.get(&dn).copied()),
            None => self.default,
        }
    }

    /// The status at `now` (seconds since 1970, by our clock: no server says what its own one shows). The strongest word
    /// wins: disabled, then locked, then expired.
    pub fn status(&self, signs: &Signs<'_>, now_second: i64) -> Status {
        let time = |text: Option<&str>| text.and_then(unix_second);
        // The server leaves the time of a lock where it is until somebody signs in.
        let has_ended = |locked: &str| match (self.of(signs), unix_second(locked)) {
            (Some(Policy { lockout_s: lockout_s @ 1.., .. }), Some(at)) => at.saturating_add(lockout_s) <= now_second,
            _ => false,
        };
        match signs.pwd_account_locked_time {
            // Locked for good: only an administrator writes this (draft §5.3.3).
            Some(text) if text.starts_with("000001010000") => return Status::Disabled,
            _ if signs.is_disabled => return Status::Disabled,
            Some(text) if !has_ended(text) => return Status::Locked,
            _ => (),
        }
        if time(signs.pwd_start_time).is_some_and(|start| start > now_second) {
            return Status::Staged;
        }
        if time(signs.pwd_end_time).is_some_and(|end| end <= now_second) {
            return Status::Expired;
        }
        let shadow = signs.shadow_expire.and_then(|text| text.trim().parse::<i64>().ok());
        if shadow.is_some_and(|day| day >= 0 && day.saturating_mul(86_400) <= now_second) {
            return Status::Expired;
        }
        if let (Some(Policy { max_age_s: max_age_s @ 1.., .. }), Some(changed)) =
            (self.of(signs), time(signs.pwd_changed_time))
            && changed.saturating_add(max_age_s) <= now_second
        {
            return Status::Expired;
        }
        Status::Active
    }
}

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

    #[test]
    fn the_strongest_word_about_an_account_wins() {
        let now = unix_second("20260601000000Z").expect("a time");
        let policies = Policies {
            by_dn: HashMap::from([
                ("cn=strict,dc=x".to_owned(), Policy { max_age_s: 86_400, lockout_s: 900 }),
                ("cn=never,dc=x".to_owned(), Policy::default()),
            ]),
            default: Some(Policy { max_age_s: 90 * 86_400, lockout_s: 0 }),
        };
        let check =
            |signs: Signs<'_>, expected: Status| assert_eq!(policies.status(&signs, now), expected, "{signs:?}");
        let none = Signs::default();
        check(none, Status::Active);
        check(Signs { pwd_account_locked_time: Some("000001010000Z"), ..none }, Status::Disabled);
        check(Signs { pwd_account_locked_time: Some("00000101000000Z"), ..none }, Status::Disabled);
        check(Signs { pwd_account_locked_time: Some("20260531000000Z"), ..none }, Status::Locked);
        check(Signs { pwd_account_locked_time: Some("20260531000000Z"), is_disabled: true, ..none }, Status::Disabled);
        check(Signs { is_disabled: true, ..none }, Status::Disabled);
        check(Signs { pwd_changed_time: Some("20260531000000Z"), ..none }, Status::Active);
        check(Signs { pwd_changed_time: Some("20260101000000Z"), ..none }, Status::Expired);
        let strict = Signs { pwd_policy_subentry: Some("CN=Strict, dc=x"), ..none };
        check(Signs { pwd_changed_time: Some("20260530000000Z"), ..strict }, Status::Expired);
        // A lock of a quarter of an hour; the server does not take its time away when it ends.
        check(Signs { pwd_account_locked_time: Some("20260531234501Z"), ..strict }, Status::Locked);
        check(Signs { pwd_account_locked_time: Some("20260531234500Z"), ..strict }, Status::Active);
        check(Signs { pwd_account_locked_time: Some("20260601003000Z"), ..strict }, Status::Locked);
        check(Signs { pwd_account_locked_time: Some("000001010000Z"), ..strict }, Status::Disabled);
        check(Signs { pwd_account_locked_time: Some("unreadable"), ..strict }, Status::Locked);
        let unknown = Signs { pwd_policy_subentry: Some("cn=gone,dc=x"), ..none };
        check(Signs { pwd_account_locked_time: Some("20200101000000Z"), ..unknown }, Status::Locked);
        let ended = Signs { pwd_account_locked_time: Some("20260531000000Z"), ..strict };
        check(Signs { pwd_changed_time: Some("20260530000000Z"), ..ended }, Status::Expired);
        check(Signs { pwd_changed_time: Some("20260531120000Z"), ..strict }, Status::Active);
        check(
            Signs { pwd_changed_time: Some("20200101000000Z"), pwd_policy_subentry: Some("cn=never,dc=x"), ..none },
            Status::Active,
        );
        check(
            Signs { pwd_changed_time: Some("20200101000000Z"), pwd_policy_subentry: Some("cn=gone,dc=x"), ..none },
            Status::Active,
        );
        check(Signs { shadow_expire: Some("20000"), ..none }, Status::Expired);
        check(Signs { shadow_expire: Some("-1"), ..none }, Status::Active);
        check(Signs { shadow_expire: Some("99999"), ..none }, Status::Active);
        check(Signs { shadow_expire: Some("x"), ..none }, Status::Active);
        check(Signs { pwd_end_time: Some("20260531000000Z"), ..none }, Status::Expired);
        check(Signs { pwd_start_time: Some("20270101000000Z"), ..none }, Status::Staged);
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
