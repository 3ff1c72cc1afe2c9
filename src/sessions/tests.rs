//! When a session is valid, and that every query of the room walks an index.

use super::*;
use crate::{clock::SECOND, db::Db, proof::Method};

const NOW: Time = Time(1_000 * 24 * HOUR);

#[test]
fn a_session_is_valid_up_to_the_microsecond_and_no_further() {
    let session = |created_us: i64, seen_us: i64| Session {
        id: String::new(),
        user_id: String::new(),
        account_id: AccountId::new(AccountId::MIN).expect("an id"),
        proof: Proof::new(Method::Password, NOW.plus(-created_us)),
        proved_at: NOW.plus(-created_us),
        last_seen_at: NOW.plus(-seen_us),
        address: String::new(),
        user_agent: String::new(),
    };
    for (created_us, seen_us, expected) in [
        (0, 0, true),
        (HOUR, 30 * MINUTE - 1, true),
        (HOUR, 30 * MINUTE, false),
        (12 * HOUR - 1, 0, true),
        (12 * HOUR, 0, false),
        // Clocks that were set back: a little is drift, more is somebody's hand.
        (-4 * MINUTE, -4 * MINUTE, true),
        (-6 * MINUTE, -6 * MINUTE, false),
        (HOUR, -6 * MINUTE, false),
    ] {
        let limits = Limits { idle_us: 30 * MINUTE, lifetime_us: 12 * HOUR };
        assert_eq!(is_alive(&session(created_us, seen_us), limits, NOW), expected, "{created_us} {seen_us}");
    }
    assert!(!is_touch_due(&session(HOUR, 59 * SECOND), NOW) && is_touch_due(&session(HOUR, MINUTE), NOW));
}

#[test]
fn browsers_are_named_as_people_know_them() {
    let named = |user_agent: &str| {
        let session = Session {
            id: String::new(),
            user_id: String::new(),
            account_id: AccountId::new(AccountId::MIN).expect("an id"),
            proof: Proof::new(Method::Password, NOW),
            proved_at: NOW,
            last_seen_at: NOW,
            address: String::new(),
            user_agent: user_agent.to_owned(),
        };
        session.browser()
    };
    for (user_agent, expected) in [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/142.0 Safari/537.36 Edg/142.0", "Edge on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 14_0) Version/17 Safari/605.1", "Safari on macOS"),
        ("Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/142.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8.5.0", "curl"),
        ("", "Unknown browser"),
    ] {
        assert_eq!(named(user_agent), expected);
    }
}

#[test]
fn the_oldest_session_ends_when_there_are_too_many_and_the_purge_takes_what_has_ended() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Db::open(&Db::file(dir.path()), true).expect("a database");
    db.write_blocking(|c| {
        c.execute_batch(
            "INSERT INTO account (id, alias, region, state, created_at) VALUES (100000000001, 'a', 'default', 'active', 0);
             INSERT INTO user (id, email, email_folded, name, password_hash, password_changed_at, state, created_at)
             VALUES ('u', 'e', 'e', 'n', 'h', 0, 'enabled', 0);",
        )?;
        let account = AccountId::new(100_000_000_001).expect("an id");
        let origin = Origin { address: "127.0.0.1".into(), user_agent: String::new() };
        let mut tokens = Vec::new();
        for i in 0..25 {
            let now = NOW.plus(i * SECOND);
            tokens.push(begin(c, "u", account, &origin, Proof::new(Method::Password, now), now, now)?.token);
        }
        assert_eq!(list(c, "u")?.len(), 20);
        assert!(find(c, &tokens[4])?.is_none() && find(c, &tokens[5])?.is_some());
        assert_eq!(purge(c, NOW.plus(8 * HOUR + 9 * SECOND))?, 5);
        assert_eq!(end_all(c, "u", None)?, 15);
        Ok(())
    })
    .expect("written");
}

#[test]
fn every_query_walks_an_index() {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Db::open(&Db::file(dir.path()), true).expect("a database");
    db.read_blocking(|c| {
        for sql in [
            "SELECT id FROM session WHERE token_hash = x'00'",
            "SELECT id FROM session WHERE user_id = 'u' ORDER BY created_at DESC, id DESC",
            "DELETE FROM session WHERE created_at <= 1",
            "DELETE FROM session WHERE last_seen_at <= 1",
        ] {
            let mut statement = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let plan: Vec<String> = statement.query_map([], |row| row.get(3))?.collect::<rusqlite::Result<_>>()?;
            assert!(plan.iter().any(|step| step.starts_with("SEARCH")), "{sql}: {plan:?}");
            assert!(!plan.iter().any(|step| step.starts_with("SCAN")), "{sql}: {plan:?}");
        }
        Ok(())
    })
    .expect("planned");
}
