//! Aliases, the key check and the set-up token by themselves.

use std::path::Path;

use super::*;
use crate::{clock::HOUR, db::Db};

fn open(dir: &Path) -> (Db, MasterKey) {
    let db = Db::open(&Db::file(dir), true).expect("a database");
    let key = MasterKey::create(&dir.join("master.key")).expect("a key");
    (db, key)
}

#[test]
fn an_alias_is_a_host_name_and_not_a_number() {
    for fine in ["a", "acme", "halden-marine", "3com", "a1", &"a".repeat(63)] {
        assert!(check_alias("account", fine).is_ok(), "{fine}");
    }
    for bad in
        ["", "-a", "a-", "Acme", "a_b", "a b", "a.b", "ä", "100000000001", "7", &"a".repeat(64), "a\n", "urn:x", "a/b"]
    {
        assert!(check_alias("account", bad).is_err(), "{bad:?}");
    }
}

#[test]
fn only_the_key_that_made_the_appliance_fits() {
    let dir = tempfile::tempdir().expect("a folder");
    let (db, key) = open(dir.path());
    let other = MasterKey::create(&dir.path().join("other.key")).expect("a key");
    assert_eq!(db.read_blocking(|c| key_fit(c, &key)).expect("read"), KeyFit::Unused);
    let region = db
        .write_blocking(move |c| {
            initialise(c, &key, "north", Time(1))?;
            // A second time nothing changes, whoever asks.
            let region = initialise(c, &other, "south", Time(2))?;
            assert_eq!(key_fit(c, &key)?, KeyFit::Fits);
            assert_eq!(key_fit(c, &other)?, KeyFit::Mismatch);
            Ok(region)
        })
        .expect("written");
    assert_eq!(region, "north");
}

#[test]
fn a_set_up_token_ends_with_its_day_its_successor_and_the_first_account() {
    let dir = tempfile::tempdir().expect("a folder");
    let (db, key) = open(dir.path());
    db.write_blocking(move |c| {
        let now = Time(1_000 * DAY);
        initialise(c, &key, "default", now)?;
        let old = new_setup_token(c, now)?.expect("a token");
        let token = new_setup_token(c, now)?.expect("a token");
        let open = |token: &Secret<String>, at| is_setup_open(c, token.expose(), at).expect("read");
        assert!(!open(&old, now) && open(&token, now.plus(24 * HOUR - 1)) && !open(&token, now.plus(24 * HOUR)));
        assert!(!is_setup_open(c, "", now)? && !is_setup_open(c, &token.expose()[1..], now)?);
        let account = create(c, "acme", "en", "", None, now)?;
        assert!(account.id.to_string().len() == 12 && !open(&token, now));
        assert!(new_setup_token(c, now)?.is_none());
        assert!(matches!(create(c, "acme", "en", "", None, now), Err(Error::Invalid(_))), "an alias is unique");
        Ok(())
    })
    .expect("written");
}
