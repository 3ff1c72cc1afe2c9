//! The values of the synchronisation controls and messages, and OpenLDAP's cookies.
#![no_main]

use bailiwick::connectors::{ldap::sync, openldap::cookie::Cookie};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = sync::entry_state(bytes);
    let _ = sync::done(bytes);
    if let Ok(sync::SyncMessage::IdSet { ids, .. }) = sync::message(bytes) {
        assert!(ids.count() <= bytes.len() / 16);
    }
    if let Some(cookie) = Cookie::parse(bytes) {
        assert_eq!(Cookie::parse(cookie.to_string().as_bytes()), Some(cookie));
    }
});
