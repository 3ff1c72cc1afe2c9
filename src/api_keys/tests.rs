//! Where a key may be used from, and that lists walk an index.

use super::*;
use crate::{
    clock::{DAY, Time},
    db::Db,
    principal::{AccountId, Rights},
};

fn key(ips: &[&str], cidrs: &[&str]) -> ApiKey {
    ApiKey {
        id: "k".into(),
        account_id: AccountId::new(AccountId::MIN).expect("an id"),
        alias: "a".into(),
        description: String::new(),
        locale: "en".into(),
        time_zone: String::new(),
        role_id: "read-only".into(),
        administers: Administers::No,
        secret_start: "bwk_abcd".into(),
        previous: None,
        is_enabled: true,
        allowed_ips: ips.iter().map(|ip| ip.parse().expect("an address")).collect(),
        allowed_cidrs: cidrs.iter().map(|net| net.parse().expect("a network")).collect(),
        created_at: Time(0),
        made_by: None,
        answered_by: None,
        expires_at: Some(Time(100)),
        warned_days: None,
        last_activity_at: None,
        last_address: None,
    }
}

#[test]
fn a_list_of_addresses_lets_in_what_it_names_and_nothing_else() {
    for (ips, cidrs, from, expected) in [
        (&[][..], &[][..], "203.0.113.9", true),
        (&["192.0.2.1"], &[], "192.0.2.1", true),
        (&["192.0.2.1"], &[], "::ffff:192.0.2.1", true),
        (&["192.0.2.1"], &[], "192.0.2.2", false),
        (&["192.0.2.1"], &["10.0.0.0/8"], "10.255.0.1", true),
        (&[], &["10.0.0.0/8"], "::ffff:10.0.0.1", true),
        (&[], &["10.0.0.0/8"], "11.0.0.1", false),
        (&[], &["2001:db8::/32"], "2001:db8:ffff::1", true),
        (&[], &["2001:db8::/32"], "2001:db9::1", false),
        (&[], &["::/0"], "192.0.2.1", false),
    ] {
        assert_eq!(key(ips, cidrs).allows(from.parse().expect("an address")), expected, "{ips:?} {cidrs:?} {from}");
    }
}

#[test]
fn a_key_expires_at_its_moment() {
    assert_eq!(key(&[], &[]).state(Time(99), false), State::Active);
    assert_eq!(key(&[], &[]).state(Time(99), true), State::Orphaned);
    assert_eq!(key(&[], &[]).state(Time(100), true), State::Expired);
    assert_eq!(ApiKey { is_enabled: false, ..key(&[], &[]) }.state(Time(100), true), State::Locked);
    assert_eq!(ApiKey { expires_at: None, ..key(&[], &[]) }.state(Time(i64::MAX), false), State::Active);
}

#[test]
fn the_end_is_told_30_and_7_days_before_of_keys_that_had_longer_to_live() {
    for (life, left, expected) in [
        (365, 31, None),
        (365, 30, Some(30)),
        (365, 8, Some(30)),
        (365, 7, Some(7)),
        (365, 0, None),
        (30, 30, None),
        (30, 8, None),
        (30, 7, Some(7)),
        (7, 7, None),
        (7, 1, None),
    ] {
        let key = ApiKey { expires_at: Some(Time(life * DAY)), ..key(&[], &[]) };
        assert_eq!(key.warning(Time((life - left) * DAY)), expected, "{left} of {life} days left");
    }
    assert_eq!(ApiKey { expires_at: None, ..key(&[], &[]) }.warning(Time(0)), None);
}

#[test]
fn without_leave_a_key_has_of_identity_no_more_than_read() {
    for level in Level::ALL {
        let role = Rights::all(Level::Full).with(Service::Identity, level);
        let held = model::held_by_key(role, false);
        assert_eq!(held.level(Service::Identity), level.min(Level::Read));
        assert_eq!(held.with(Service::Identity, level), role, "nothing else is taken");
        assert_eq!(model::held_by_key(role, true), role);
    }
}

#[test]
fn every_query_walks_an_index() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Db::open(&Db::file(dir.path()), true).expect("a database");
    db.read_blocking(|c| {
        for sql in [
            "SELECT alias FROM api_key WHERE account_id = 1 AND id < '~' ORDER BY id DESC LIMIT 3",
            "SELECT alias FROM api_key WHERE id = 'x'",
            "SELECT count(*) FROM api_key WHERE account_id = 1 AND answered_by = 'x'",
            "SELECT alias FROM api_key WHERE expires_at > 1 AND expires_at <= 2 AND is_enabled = 1 ORDER BY expires_at",
        ] {
            let mut statement = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let plan: Vec<String> = statement.query_map([], |row| row.get(3))?.collect::<rusqlite::Result<_>>()?;
            assert!(plan.iter().all(|step| step.starts_with("SEARCH")), "{sql}: {plan:?}");
        }
        Ok(())
    })
    .expect("planned");
}
