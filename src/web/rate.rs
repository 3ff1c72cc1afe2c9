//! How many API requests are let through: a bucket per key, and one per address that shows no valid key.
//!
//! In memory and bounded: a restart begins with full buckets, and what is forgotten under a flood of addresses is who
//! was slowed down, never who may come in. A known key is never slowed down by what strangers do from its address. The
//! headers are those of draft-ietf-httpapi-ratelimit-headers-10.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::clock::{MINUTE, SECOND, Time};

/// Buckets that are remembered of each sort. A full bucket needs no remembering.
const BUCKETS_MAX: usize = 10_000;
/// Requests above the rate that may come at once.
const BURST_MAX: u32 = 100;
/// Strangers get this part of a key's rate.
const STRANGERS_SHARE: u32 = 10;

/// Where somebody stands after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Requests a minute.
    pub quota: u32,
    /// Requests that would be let through now.
    pub remaining: u32,
    /// Seconds until the whole quota is there again.
    pub reset_s: i64,
    /// The request was one too many: seconds until the next is let through.
    pub wait_s: Option<i64>,
}

impl Standing {
    /// `RateLimit-Policy` and `RateLimit`.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let policy = format!("\"default\";q={};w=60", self.quota);
        let limit = format!("\"default\";r={};t={}", self.remaining, self.reset_s);
        for (name, value) in [("ratelimit-policy", policy), ("ratelimit", limit)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

/// When each bucket is full again: all that a token bucket has to remember (the "generic cell rate algorithm").
struct Buckets<K>(Mutex<HashMap<K, Time>>);

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Hash + Eq> Buckets<K> {
    /// Takes one request out of a bucket that fills with `quota` a minute.
    fn take(&self, who: K, quota: u32, now: Time) -> Standing {
        let each_us = (MINUTE / i64::from(quota.max(1))).max(1);
        let room_us = each_us.saturating_mul(i64::from(quota) + i64::from(quota.min(BURST_MAX)));
        let seconds = |us: i64| us.div_euclid(SECOND) + i64::from(us.rem_euclid(SECOND) > 0);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not lock anybody out for longer than an empty bucket does.
        let spent_us = held.get(&who).map_or(0, |full_at| full_at.since(now).clamp(0, room_us));
        let is_over = spent_us + each_us > room_us;
        let spent_us = if is_over { spent_us } else { spent_us + each_us };
        if held.len() >= BUCKETS_MAX && !held.contains_key(&who) {
            held.retain(|_, full_at| full_at.since(now) > 0);
            if held.len() >= BUCKETS_MAX {
                held.clear();
            }
        }
        held.insert(who, now.plus(spent_us));
        let remaining = u32::try_from((room_us - spent_us) / each_us).unwrap_or(u32::MAX).min(quota);
        Standing {
            quota,
            remaining,
            reset_s: seconds((spent_us - (room_us - each_us * i64::from(quota))).max(0)),
            wait_s: is_over.then(|| seconds(spent_us + each_us - room_us).max(1)),
        }
    }
}

/// All buckets.
#[derive(Default)]
pub(super) struct Rates {
    keys: Buckets<String>,
    addresses: Buckets<IpAddr>,
}

impl Rates {
    /// A request with a valid key. `per_minute` 0: not counted.
    pub(super) fn of_key(&self, urn: &str, per_minute: u32, now: Time) -> Option<Standing> {
        (per_minute > 0).then(|| self.keys.take(urn.to_owned(), per_minute, now))
    }

    /// A request without one; answers the seconds to wait when there were too many from this address.
    pub(super) fn of_stranger(&self, ip: IpAddr, per_minute: u32, now: Time) -> Option<i64> {
        let quota = (per_minute > 0).then(|| (per_minute / STRANGERS_SHARE).max(1))?;
        self.addresses.take(network(ip), quota, now).wait_s
    }
}

/// Whoever has one IPv6 address has its /64 too.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_000 * MINUTE);

    #[test]
    fn a_bucket_holds_the_rate_and_a_burst_and_fills_with_the_rate() {
        let buckets = Buckets::default();
        let admitted = (0..1_000).filter(|_| buckets.take("a", 600, NOW).wait_s.is_none()).count();
        assert_eq!(admitted, 700);
        let refused = buckets.take("a", 600, NOW);
        assert_eq!((refused.remaining, refused.wait_s), (0, Some(1)));
        assert_eq!(refused.reset_s, 60);
        let later = NOW.plus(MINUTE);
        assert_eq!((0..1_000).filter(|_| buckets.take("a", 600, later).wait_s.is_none()).count(), 600);
        assert_eq!(buckets.take("b", 600, NOW), Standing { quota: 600, remaining: 600, reset_s: 0, wait_s: None });
    }

    #[test]
    fn waiting_as_long_as_told_is_enough() {
        let buckets = Buckets::default();
        let mut now = NOW;
        for _ in 0..1_000 {
            if let Some(wait_s) = buckets.take("a", 7, now).wait_s {
                now = now.plus(wait_s * SECOND);
                assert_eq!(buckets.take("a", 7, now).wait_s, None);
            }
        }
    }

    #[test]
    fn a_clock_set_back_by_a_year_locks_nobody_out() {
        let buckets = Buckets::default();
        while buckets.take("a", 600, NOW).wait_s.is_none() {}
        let back = NOW.plus(-365 * 24 * 60 * MINUTE);
        assert!(buckets.take("a", 600, back).wait_s.is_some_and(|wait_s| wait_s <= 1));
        assert_eq!(buckets.take("a", 600, back.plus(SECOND)).wait_s, None);
    }

    #[test]
    fn a_flood_of_addresses_does_not_fill_the_memory() {
        let rates = Rates::default();
        for i in 0..100_000_u32 {
            let _ = rates.of_stranger(IpAddr::from(i.to_be_bytes()), 600, NOW);
        }
        assert!(rates.addresses.0.lock().expect("not poisoned").len() <= BUCKETS_MAX);
    }

    #[test]
    fn the_addresses_of_one_network_share_a_bucket() {
        let rates = Rates::default();
        let from = |text: &str| text.parse::<IpAddr>().expect("an address");
        while rates.of_stranger(from("2001:db8:1:2::1"), 600, NOW).is_none() {}
        assert!(rates.of_stranger(from("2001:db8:1:2:ffff::9"), 600, NOW).is_some());
        assert!(rates.of_stranger(from("2001:db8:1:3::1"), 600, NOW).is_none());
        assert!(rates.of_stranger(from("192.0.2.1"), 0, NOW).is_none());
    }
}
