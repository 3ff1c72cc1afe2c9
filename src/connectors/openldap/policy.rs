//! Whether an account can be used, from the password policy overlay (draft-behera-ldap-password-policy-10, slapo-ppolicy(5))
//! and from older conventions (`shadowExpire`, `nsAccountLock`, `loginDisabled`).
//!
//! Owns the words → [`Status`] rule. It has no clock: the moment to compare with is handed in.

use std::collections::HashMap;

use crate::connectors::{Status, ldap::times::unix_second};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
