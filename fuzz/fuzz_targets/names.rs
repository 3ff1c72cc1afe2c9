//! Distinguished names: normalising never panics, and doing it twice changes nothing more.
#![no_main]

use bailiwick::connectors::ldap::dn;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = dn::first_value(text);
    if let Ok(once) = dn::normalise(text) {
        // A value that is not text is written in a form of its own, which is no DN any more.
        if !once.contains("\\x") {
            assert_eq!(dn::normalise(&once).as_deref(), Ok(once.as_str()));
        }
    }
});
