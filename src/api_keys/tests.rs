//! Where a key may be used from, and that lists walk an index.

use super::*;
use crate::{clock::Time, db::Db, principal::AccountId};

fn key(ips: &[&str], cidrs: &[&str]) -> ApiKey {
    ApiKey {
        id: "k".into(),
        account_id: AccountId::new(AccountId::MIN).expect("an id"),
        alias: "a".into(),
        description: String::new(),
        role_id: "read-only".into(),
        is_enabled: true,
        allowed_ips: ips.iter().map(|ip| ip.parse().expect("an address")).collect(),
        allowed_cidrs: cidrs.iter().map(|net| net.parse().expect("a network")).collect(),
        created_at: Time(0),
        expires_at: Some(Time(100)),
        last_activity_at: None,
        made_by: None,
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
    assert_eq!(key(&[], &[]).state(Time(99)), "active");
    assert_eq!(key(&[], &[]).state(Time(100)), "expired");
    assert_eq!(ApiKey { is_enabled: false, ..key(&[], &[]) }.state(Time(100)), "locked");
    assert_eq!(ApiKey { expires_at: None, ..key(&[], &[]) }.state(Time(i64::MAX)), "active");
}

#[test]
fn every_query_walks_an_index() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Db::open(&Db::file(dir.path()), true).expect("a database");
    db.read_blocking(|c| {
        for sql in [
            "SELECT alias FROM api_key WHERE account_id = 1 AND id < '~' ORDER BY id DESC LIMIT 3",
            "SELECT alias FROM api_key WHERE id = 'x'",
        ] {
            let mut statement = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let plan: Vec<String> = statement.query_map([], |row| row.get(3))?.collect::<rusqlite::Result<_>>()?;
            assert!(plan.iter().all(|step| step.starts_with("SEARCH")), "{sql}: {plan:?}");
        }
        Ok(())
    })
    .expect("planned");
}
