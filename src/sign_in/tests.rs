//! Who is counted together.

use super::model::Subject;
use crate::web::Address;

#[test]
fn one_ipv6_subscriber_is_one_subject_and_a_mapped_address_is_the_plain_one() {
    let name = |text: &str| {
        let ip = text.parse().expect("an address");
        let address = Address { ip, request_id: String::new(), user_agent: String::new(), is_polling: false };
        Subject::address(&address).name
    };
    assert_eq!(name("192.0.2.7"), "address:192.0.2.7");
    assert_eq!(name("::ffff:192.0.2.7"), name("192.0.2.7"));
    assert_eq!(name("2001:db8:1:2::1"), name("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(name("2001:db8:1:2::1"), name("2001:db8:1:3::1"));
}

#[test]
fn a_users_subject_does_not_hold_what_was_typed() {
    let subject = Subject::user("ida@acme.example");
    assert!(!subject.name.contains("ida") && subject.name.len() == 5 + 64, "{}", subject.name);
}
