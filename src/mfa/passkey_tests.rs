//! Passkeys with an authenticator that attacks (HOSTILE A14), and with answers that no authenticator ever made (A15).

use std::sync::Arc;

use proptest::{prelude::*, test_runner::TestRunner};
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use webauthn_rs::prelude::Passkey;

use super::{
    Answer, Challenge, Discovery, Outcome, Registration, RelyingParty,
    authenticator::{Authenticator, Fault, attestation_object, cbor_bytes, decoded, encoded},
    begin_discovery, begin_factor, begin_registration, enrol, finish_discovery, finish_factor, finish_registration,
    passkeys::{DISCOVERIES_MAX, PASSKEYS_MAX},
};
use crate::{
    audit::Entry,
    clock::{Clock, HOUR, MINUTE, Time},
    config::Layer,
    db::Db,
    error::Error,
    kernel::Kernel,
    secret::{self, MasterKey},
    users::{self, User},
};

const ORIGIN: &str = "https://console.example";
const IDA: &str = "0198c2a0-0000-7000-8000-000000000001";
const BEN: &str = "0198c2a0-0000-7000-8000-000000000002";
const NOW: Time = Time(1_000 * 24 * HOUR);

/// Two users, a mail server that nobody asks, and one transaction.
struct Place<'a> {
    c: &'a Connection,
    kernel: Kernel,
    rp: RelyingParty,
}

fn rp(base_url: &str) -> RelyingParty {
    RelyingParty::of(Some(base_url)).unwrap_or_else(|why| panic!("{base_url}: {why}"))
}

fn with(test: impl FnOnce(&Place<'_>) + Send + 'static) {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Db::open(&Db::file(dir.path()), true).expect("a database");
    let key = MasterKey::create(&dir.path().join("master.key")).expect("a key");
    let config = Layer::default().finish().expect("a configuration");
    let kernel = Kernel { db: db.clone(), clock: Clock::fixed(NOW), key: Arc::new(key), config: Arc::new(config) };
    // Without the writer's thread: a test that fails shows its own panic.
    let c = Connection::open(Db::file(dir.path())).expect("the database");
    for (id, name) in [(IDA, "ida"), (BEN, "ben")] {
        c.execute(
            "INSERT INTO user (id, email, email_folded, name, password_hash, password_changed_at, state, created_at)
             VALUES (?1, ?2 || '@acme.example', ?2 || '@acme.example', ?2, 'h', 0, 'enabled', 0)",
            params![id, name],
        )
        .expect("a user");
    }
    c.execute_batch(
        "INSERT INTO mail_server (id, host, port, security, user_name, from_address, from_name, reply_to, ca_pem, updated_at)
         VALUES (1, 'localhost', 25, 'none', '', 'bailiwick@acme.example', 'Bailiwick', '', '', 0)",
    )
    .expect("a mail server");
    test(&Place { c: &c, kernel, rp: rp(ORIGIN) });
}

/// The state of the appliance from which a test goes on: a passkey of each of the two users, on a device of its own.
fn with_passkeys(test: impl FnOnce(&Place<'_>, &mut Authenticator, &mut Authenticator) + Send + 'static) {
    with(|place| {
        let (mut ida, mut ben) = (Authenticator::at(ORIGIN), Authenticator::at(ORIGIN));
        place.enrolled(IDA, &mut ida);
        place.enrolled(BEN, &mut ben);
        test(place, &mut ida, &mut ben);
    });
}

fn answer<'a>(challenge: &'a Challenge, credential: &'a str) -> Answer<'a> {
    Answer { token: challenge.token.expose(), credential, address: "192.0.2.7" }
}

/// What the record says about why.
fn why(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| format!("{entry:?}")).collect()
}

impl Place<'_> {
    fn user(&self, id: &str) -> User {
        users::find(self.c, id).expect("read").expect("a user")
    }

    fn ask(&self, id: &str) -> Challenge {
        begin_registration(self.c, &self.rp, &self.user(id), NOW).expect("asked")
    }

    fn register(&self, id: &str, challenge: &Challenge, credential: &str, now: Time) -> Registration {
        let answer = answer(challenge, credential);
        finish_registration(self.c, &self.kernel, &self.rp, &self.user(id), answer, "Phone", now).expect("an answer")
    }

    fn enrolled(&self, id: &str, authenticator: &mut Authenticator) {
        let challenge = self.ask(id);
        let made = authenticator.create(&challenge.options, &[]).to_string();
        assert!(matches!(self.register(id, &challenge, &made, NOW), Registration::Enrolled(_)));
    }

    fn ask_factor(&self, id: &str) -> Challenge {
        begin_factor(self.c, &self.rp, id, NOW).expect("asked")
    }

    /// Whether this is a proof, and what is recorded.
    fn factor(&self, id: &str, challenge: &Challenge, credential: &str, now: Time) -> (bool, Vec<String>) {
        let answer = answer(challenge, credential);
        let (outcome, entries) =
            finish_factor(self.c, &self.kernel, &self.rp, id, answer, now).expect("an answer and no error");
        (matches!(outcome, Outcome::Right(_)), why(&entries))
    }

    fn ask_anybody(&self) -> Challenge {
        begin_discovery(self.c, &self.rp, NOW).expect("asked")
    }

    fn discovery(&self, challenge: &Challenge, credential: &str, now: Time) -> (Option<String>, Vec<String>) {
        let answer = answer(challenge, credential);
        let (found, entries) =
            finish_discovery(self.c, &self.kernel, &self.rp, answer, now).expect("an answer and no error");
        let user = if let Discovery::Proved(user) = found { Some(user) } else { None };
        (user, why(&entries))
    }

    fn count(&self, sql: &str) -> i64 {
        self.c.query_row(sql, [], |row| row.get(0)).expect("a number")
    }

    fn open(&self) -> i64 {
        self.count("SELECT count(*) FROM passkey_challenge")
    }
}

#[test]
fn passkeys_are_bound_to_the_name_of_the_console() {
    for (base_url, expected) in [
        ("https://console.example", "console.example"),
        ("https://console.example:8443", "console.example"),
        ("https://Console.Example/", "console.example"),
        ("http://localhost:8080", "localhost"),
    ] {
        assert_eq!(rp(base_url).id(), expected);
    }
    for (base_url, expected) in [
        (None, "is not set"),
        (Some("nonsense"), "is not set"),
        (Some("https://192.0.2.7"), "is a number"),
        (Some("https://[2001:db8::1]:8443"), "is a number"),
        (Some("http://console.example"), "begins with http"),
        (Some("http://127.0.0.1:8080"), "is a number"),
    ] {
        let why = RelyingParty::of(base_url).err().expect("a reason");
        assert!(why.contains(expected) && why.ends_with("under Settings."), "{base_url:?}: {why}");
    }
}

#[test]
fn a_passkey_is_added_and_used_as_a_factor_and_alone() {
    with(|place| {
        let mut device = Authenticator::at(ORIGIN);
        let challenge = place.ask(IDA);
        let options = &challenge.options;
        assert_eq!(options["rp"], json!({"name": "Bailiwick", "id": "console.example"}));
        assert_eq!(options["attestation"], "none");
        assert_eq!(options["timeout"], 120_000);
        assert_eq!(options["authenticatorSelection"]["residentKey"], "preferred");
        assert_eq!(options["authenticatorSelection"]["userVerification"], "required");
        assert_eq!(options["user"]["name"], "ida@acme.example");
        let made = device.create(options, &[]).to_string();
        let Registration::Enrolled(enrolled) = place.register(IDA, &challenge, &made, NOW) else { panic!("refused") };
        assert_eq!(enrolled.codes.expect("recovery codes with the first factor").len(), 10);
        assert!(place.user(IDA).factors.passkey && !place.user(BEN).factors.passkey);
        let devices = enrol::devices(place.c, IDA).expect("read");
        assert_eq!(
            devices.iter().map(|one| (one.name.as_str(), one.rp_id.as_deref())).collect::<Vec<_>>(),
            [("Phone", Some("console.example"))]
        );

        let challenge = place.ask_factor(IDA);
        assert_eq!(challenge.options["userVerification"], "required");
        assert_eq!(challenge.options["rpId"], "console.example");
        assert_eq!(challenge.options["allowCredentials"].as_array().expect("a list").len(), 1);
        assert!(challenge.as_json()["challenge"].is_string() && challenge.as_json()["options"].is_object());
        let signed = device.get(&challenge.options, &[]).to_string();
        let later = NOW.plus(MINUTE);
        assert_eq!(place.factor(IDA, &challenge, &signed, later), (true, vec![]));
        assert_eq!(enrol::devices(place.c, IDA).expect("read")[0].last_used_at, Some(later));

        let challenge = place.ask_anybody();
        assert_eq!(challenge.options["userVerification"], "required");
        assert_eq!(challenge.options["allowCredentials"], json!([]));
        let signed = device.get(&challenge.options, &[]).to_string();
        assert_eq!(place.discovery(&challenge, &signed, NOW), (Some(IDA.to_owned()), vec![]));
        // An authenticator that is asked for the passkeys of a known user need not say who it is.
        let challenge = place.ask_factor(IDA);
        let signed = device.get(&challenge.options, &[Fault::UserHandle(None)]).to_string();
        assert!(place.factor(IDA, &challenge, &signed, NOW).0);
        assert_eq!(place.open(), 0);
    });
}

/// HOSTILE A14.
#[test]
fn a_passkey_is_not_added_from_an_answer_that_is_wrong() {
    with(|place| {
        let stale = place.ask(IDA).options["challenge"].as_str().expect("a challenge").to_owned();
        for fault in [
            Fault::Challenge(stale),
            Fault::Origin("https://console.example.evil.example"),
            Fault::Origin("https://evil.console.example"),
            Fault::Origin("https://console.example:8443"),
            Fault::Origin("http://console.example"),
            Fault::Framed,
            Fault::RpId("evil.example"),
            Fault::OtherCeremony,
            Fault::NotPresent,
            Fault::NotVerified,
            Fault::CredentialId(vec![]),
            Fault::CredentialId(vec![7; 1024]),
        ] {
            let challenge = place.ask(IDA);
            let mut device = Authenticator::at(ORIGIN);
            let made = device.create(&challenge.options, std::slice::from_ref(&fault)).to_string();
            let Registration::Refused(why) = place.register(IDA, &challenge, &made, NOW) else { panic!("{fault:?}") };
            let is_about_the_device = why.starts_with("The device did not check that it is you.");
            assert_eq!(is_about_the_device, fault == Fault::NotVerified, "{fault:?}: {why}");
            // The question is answered, though wrongly.
            let right = device.create(&challenge.options, &[]).to_string();
            assert!(matches!(place.register(IDA, &challenge, &right, NOW), Registration::Refused(_)), "{fault:?}");
        }
        assert_eq!(place.count("SELECT count(*) FROM passkey"), 0);
        assert!(!place.user(IDA).factors.any());
        assert_eq!(place.count("SELECT count(*) FROM mail_outbox"), 0);
    });
}

/// HOSTILE A14.
#[test]
fn an_answer_that_is_wrong_proves_nothing_and_uses_the_question_up() {
    with_passkeys(|place, ida, ben| {
        let stale = place.ask_factor(IDA);
        let stale = stale.options["challenge"].as_str().expect("a challenge").to_owned();
        let of_ben = ben.credentials[0].id.clone();
        let handle_of_ben = ben.credentials[0].user_handle.clone();
        for (fault, expected) in [
            (Fault::Challenge(stale), "wrong-challenge"),
            (Fault::Origin("https://evil.example"), "wrong-origin"),
            (Fault::Origin("https://evil.console.example"), "wrong-origin"),
            (Fault::Origin("https://console.example:8443"), "wrong-origin"),
            (Fault::Origin("http://console.example"), "wrong-origin"),
            (Fault::Framed, "wrong-origin"),
            (Fault::RpId("evil.example"), "wrong-rp-id"),
            (Fault::OtherCeremony, "wrong-ceremony"),
            (Fault::NotPresent, "not-present"),
            (Fault::NotVerified, "not-verified"),
            (Fault::CredentialId(of_ben), "unknown-passkey"),
            (Fault::CredentialId(vec![7; 32]), "unknown-passkey"),
            (Fault::UserHandle(Some(handle_of_ben)), "unknown-passkey"),
            (Fault::UserHandle(Some(vec![])), "unknown-passkey"),
            (Fault::Signature, "wrong-signature"),
            (Fault::Counter(1), "counter_regressed"),
            (Fault::Counter(0), "counter_regressed"),
        ] {
            let challenge = place.ask_factor(IDA);
            let signed = ida.get(&challenge.options, std::slice::from_ref(&fault)).to_string();
            let (is_right, record) = place.factor(IDA, &challenge, &signed, NOW);
            assert!(!is_right, "{fault:?}");
            assert!(record.len() == 1 && record[0].contains(expected), "{fault:?}: {record:?}");
            let right = ida.get(&challenge.options, &[]).to_string();
            assert_eq!(
                place.factor(IDA, &challenge, &right, NOW),
                (false, vec![]),
                "{fault:?}: the question is used up"
            );

            let challenge = place.ask_anybody();
            let signed = ida.get(&challenge.options, std::slice::from_ref(&fault)).to_string();
            let (user, record) = place.discovery(&challenge, &signed, NOW);
            assert_eq!(user, None, "{fault:?}");
            // Of somebody who has not said who they are there is a record if the passkey is somebody's.
            let whose = match fault {
                Fault::CredentialId(ref id) if id.len() == 32 && id[..4] == [7; 4] => None,
                Fault::CredentialId(_) => Some(BEN),
                _ => Some(IDA),
            };
            assert!(record.iter().all(|one| one.contains(expected)), "{fault:?}: {record:?}");
            assert_eq!(record.first().map(|one| one.contains(whose.unwrap_or("?"))), whose.map(|_| true), "{fault:?}");
            let right = ida.get(&challenge.options, &[]).to_string();
            assert_eq!(place.discovery(&challenge, &right, NOW), (None, vec![]), "{fault:?}: the question is used up");
        }
        // Alone, a passkey that does not say whose it is says nothing.
        let challenge = place.ask_anybody();
        let signed = ida.get(&challenge.options, &[Fault::UserHandle(None)]).to_string();
        assert_eq!(place.discovery(&challenge, &signed, NOW).0, None);
        // Ben's own device does not help somebody who is asked as Ida.
        let challenge = place.ask_factor(IDA);
        let mut options = challenge.options.clone();
        options["allowCredentials"] = json!([]);
        let signed = ben.get(&options, &[]).to_string();
        assert!(!place.factor(IDA, &challenge, &signed, NOW).0);
        // After all of that the right one still works.
        let challenge = place.ask_factor(IDA);
        let signed = ida.get(&challenge.options, &[]).to_string();
        assert!(place.factor(IDA, &challenge, &signed, NOW).0);
        // A right answer works once.
        assert!(!place.factor(IDA, &challenge, &signed, NOW).0);
    });
}

/// HOSTILE A14.
#[test]
fn a_question_may_be_answered_for_two_minutes_by_whom_it_was_asked() {
    with_passkeys(|place, ida, ben| {
        for (after, expected) in [
            (0, true),
            (2 * MINUTE - 1, true),
            (2 * MINUTE, false),
            // A clock that was set back makes nothing last longer.
            (-1, false),
            (-HOUR, false),
        ] {
            let now = NOW.plus(after);
            let challenge = place.ask_factor(IDA);
            let signed = ida.get(&challenge.options, &[]).to_string();
            assert_eq!(place.factor(IDA, &challenge, &signed, now), (expected, vec![]), "{after}");
            let challenge = place.ask_anybody();
            let signed = ida.get(&challenge.options, &[]).to_string();
            assert_eq!(place.discovery(&challenge, &signed, now).0.is_some(), expected, "{after}");
            let challenge = place.ask(IDA);
            let made = Authenticator::at(ORIGIN).create(&challenge.options, &[]).to_string();
            let is_enrolled = matches!(place.register(IDA, &challenge, &made, now), Registration::Enrolled(_));
            assert_eq!(is_enrolled, expected, "{after}");
        }
        // What was asked for one thing, or of one user, is worth nothing for another one.
        let challenge = place.ask_factor(IDA);
        let signed = ida.get(&challenge.options, &[]).to_string();
        assert_eq!(place.discovery(&challenge, &signed, NOW), (None, vec![]));
        let challenge = place.ask_anybody();
        let signed = ida.get(&challenge.options, &[]).to_string();
        assert_eq!(place.factor(IDA, &challenge, &signed, NOW), (false, vec![]));
        let challenge = place.ask_factor(IDA);
        let mut options = challenge.options.clone();
        options["allowCredentials"] = json!([]);
        let signed = ben.get(&options, &[]).to_string();
        assert_eq!(place.factor(BEN, &challenge, &signed, NOW), (false, vec![]));
        let challenge = place.ask(IDA);
        let made = ben.create(&challenge.options, &[]).to_string();
        assert!(matches!(place.register(BEN, &challenge, &made, NOW), Registration::Refused(_)));
        assert_eq!(place.open(), 0);
    });
}

/// HOSTILE A14.
#[test]
fn a_copied_authenticator_is_refused_recorded_and_told() {
    with_passkeys(|place, ida, _| {
        let mut copy = ida.copied();
        for _ in 0..3 {
            let challenge = place.ask_factor(IDA);
            let signed = ida.get(&challenge.options, &[]).to_string();
            assert!(place.factor(IDA, &challenge, &signed, NOW).0);
        }
        let told = "SELECT count(*) FROM mail_outbox WHERE kind = 'mfa-changed'";
        let before = place.count(told);
        for is_alone in [false, true] {
            let (is_right, record) = if is_alone {
                let challenge = place.ask_anybody();
                let signed = copy.get(&challenge.options, &[]).to_string();
                let (user, record) = place.discovery(&challenge, &signed, NOW);
                (user.is_some(), record)
            } else {
                let challenge = place.ask_factor(IDA);
                let signed = copy.get(&challenge.options, &[]).to_string();
                place.factor(IDA, &challenge, &signed, NOW)
            };
            assert!(!is_right && record.len() == 1, "{record:?}");
            assert!(
                record[0].contains("audit.passkey_counter_regressed.v1") && record[0].contains("Failure"),
                "{record:?}"
            );
            assert!(record[0].contains("Phone") && record[0].contains(IDA) == is_alone, "{record:?}");
        }
        assert_eq!(place.count(told), before + 2);
        // Two questions at once do not let a counter pass twice.
        let (first, second) = (place.ask_factor(IDA), place.ask_factor(IDA));
        let one = ida.get(&first.options, &[Fault::Counter(50)]).to_string();
        let two = ida.get(&second.options, &[Fault::Counter(50)]).to_string();
        assert!(place.factor(IDA, &first, &one, NOW).0 && !place.factor(IDA, &second, &two, NOW).0);
    });
}

#[test]
fn an_authenticator_without_a_counter_is_taken() {
    with(|place| {
        let mut device = Authenticator::at(ORIGIN);
        let challenge = place.ask(IDA);
        let made = device.create(&challenge.options, &[Fault::Counter(0)]).to_string();
        assert!(matches!(place.register(IDA, &challenge, &made, NOW), Registration::Enrolled(_)));
        for _ in 0..2 {
            let challenge = place.ask_factor(IDA);
            let signed = device.get(&challenge.options, &[Fault::Counter(0)]).to_string();
            assert_eq!(place.factor(IDA, &challenge, &signed, NOW), (true, vec![]));
        }
    });
}

#[test]
fn a_removed_passkey_proves_nothing_even_if_it_was_asked_for() {
    with_passkeys(|place, ida, _| {
        let challenge = place.ask_factor(IDA);
        let signed = ida.get(&challenge.options, &[]).to_string();
        let device = enrol::devices(place.c, IDA).expect("read").remove(0);
        enrol::remove(place.c, &place.kernel, &place.user(IDA), &device.id, "192.0.2.7", NOW).expect("removed");
        assert!(!place.factor(IDA, &challenge, &signed, NOW).0);
        assert!(matches!(begin_factor(place.c, &place.rp, IDA, NOW), Err(Error::Conflict(_))));
    });
}

#[test]
fn a_user_has_ten_passkeys_and_each_once() {
    with_passkeys(|place, ida, ben| {
        // A device that ignores that it holds one, and one that gives out what belongs to somebody else.
        for id in [ida.credentials[0].id.clone(), ben.credentials[0].id.clone()] {
            let challenge = place.ask(IDA);
            let mut device = Authenticator::at(ORIGIN);
            let made = device.create(&challenge.options, &[Fault::CredentialId(id)]).to_string();
            assert!(matches!(place.register(IDA, &challenge, &made, NOW), Registration::Refused(_)));
        }
        let challenge = place.ask(IDA);
        assert_eq!(decoded(&challenge.options["excludeCredentials"][0]["id"]), ida.credentials[0].id);
        for _ in 1..PASSKEYS_MAX {
            place.enrolled(IDA, &mut Authenticator::at(ORIGIN));
        }
        assert!(matches!(begin_registration(place.c, &place.rp, &place.user(IDA), NOW), Err(Error::Conflict(_))));
        let made = Authenticator::at(ORIGIN).create(&challenge.options, &[]).to_string();
        let user = place.user(IDA);
        let refused = |name: &str| {
            finish_registration(place.c, &place.kernel, &place.rp, &user, answer(&challenge, &made), name, NOW).err()
        };
        assert!(matches!(refused("Phone"), Some(Error::Conflict(_))));
        assert!(matches!(refused(" "), Some(Error::Invalid(_))));
    });
}

#[test]
fn passkeys_for_another_name_are_not_asked_for_and_the_reader_is_told() {
    with_passkeys(|place, ida, _| {
        let moved = rp("https://bailiwick.example");
        let Err(Error::Conflict(why)) = begin_factor(place.c, &moved, IDA, NOW) else { panic!("asked") };
        assert!(why.contains("console.example") && why.contains("bailiwick.example") && why.contains("recovery code"));
        // A device that signs for the new name with the old key.
        let challenge = begin_discovery(place.c, &moved, NOW).expect("asked");
        let mut options = challenge.options.clone();
        options["rpId"] = "console.example".into();
        let faults = [Fault::RpId("bailiwick.example"), Fault::Origin("https://bailiwick.example")];
        let signed = ida.get(&options, &faults).to_string();
        let (found, _) =
            finish_discovery(place.c, &place.kernel, &moved, answer(&challenge, &signed), NOW).expect("an answer");
        assert_eq!(found, Discovery::Refused(None));
        // The new name is asked for anew, though there is a passkey on the device.
        let challenge = begin_registration(place.c, &moved, &place.user(IDA), NOW).expect("asked");
        assert_eq!(challenge.options["excludeCredentials"], json!([]));
    });
}

#[test]
fn open_questions_are_bounded_and_the_oldest_go_first() {
    with_passkeys(|place, ida, _| {
        for i in 0..15 {
            begin_factor(place.c, &place.rp, IDA, NOW.plus(i)).expect("asked");
        }
        assert_eq!(place.open(), 10);
        let first = place.ask_anybody();
        let mut last = place.ask_anybody();
        for i in 1..=DISCOVERIES_MAX + 20 {
            last = begin_discovery(place.c, &place.rp, NOW.plus(i)).expect("asked");
        }
        let of_strangers = "SELECT count(*) FROM passkey_challenge WHERE user_id IS NULL";
        assert_eq!((place.count(of_strangers), place.open()), (DISCOVERIES_MAX, DISCOVERIES_MAX + 10));
        let signed = ida.get(&first.options, &[]).to_string();
        assert_eq!(place.discovery(&first, &signed, NOW.plus(MINUTE)).0, None);
        let signed = ida.get(&last.options, &[]).to_string();
        assert_eq!(place.discovery(&last, &signed, NOW.plus(MINUTE)).0.as_deref(), Some(IDA));
        // What is left over, and what a clock that was set back left in the future, goes with the next question.
        begin_discovery(place.c, &place.rp, NOW.plus(-HOUR)).expect("asked");
        assert_eq!(place.open(), 1);
        begin_discovery(place.c, &place.rp, NOW.plus(HOUR)).expect("asked");
        assert_eq!(place.open(), 1);
    });
}

#[test]
fn every_query_walks_an_index() {
    with(|place| {
        for sql in [
            "SELECT id FROM passkey WHERE user_id = 'x' ORDER BY created_at",
            "SELECT id FROM passkey WHERE credential_id = x'00'",
            "DELETE FROM passkey_challenge WHERE expires_at <= 1",
            "DELETE FROM passkey_challenge WHERE expires_at > 1",
            "SELECT token_hash FROM passkey_challenge WHERE user_id IS NULL ORDER BY expires_at DESC LIMIT -1 OFFSET 9",
        ] {
            let mut statement = place.c.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
            let plan: Vec<String> = statement
                .query_map([], |row| row.get(3))
                .expect("planned")
                .collect::<rusqlite::Result<_>>()
                .expect("a plan");
            let is_step = |step: &String| step.starts_with("SEARCH");
            assert!(plan.iter().all(is_step), "{sql}: {plan:?}");
        }
    });
}

#[test]
fn an_attestation_that_nobody_asked_for_is_not_read() {
    with(|place| {
        for statement in [&[0xa0][..], &[0xf6], &[0x01], &[0xa1, 0x63, b'x', b'5', b'c', 0x81, 0x41, 0x30]] {
            for format in ["packed", "tpm", "android-safetynet", "apple", "no such"] {
                let challenge = place.ask(IDA);
                let mut made = Authenticator::at(ORIGIN).create(&challenge.options, &[]);
                let auth_data = decoded(&made["response"]["authenticatorData"]);
                made["response"]["attestationObject"] =
                    encoded(&attestation_object(format, statement, &auth_data)).into();
                let done = place.register(IDA, &challenge, &made.to_string(), NOW);
                assert!(matches!(done, Registration::Enrolled(_)), "{format}");
                place.c.execute("DELETE FROM passkey", []).expect("removed");
            }
        }
    });
}

/// HOSTILE A15: what is wrong in ways that only hand-made answers are.
#[test]
fn answers_that_no_authenticator_makes_are_refused() {
    with_passkeys(|place, ida, _| {
        let nested = |depth: usize| [vec![0x81; depth], vec![0x01]].concat();
        let head = |flags: u8| [&secret::sha256(b"console.example")[..], &[flags, 0, 0, 0, 9]].concat();
        let attested = |key: &[u8]| [head(0b0100_0101), vec![0; 16], vec![0, 4, 1, 2, 3, 4], key.to_vec()].concat();
        let rsa = |n: &[u8], e: &[u8]| {
            let key = [&[0xa4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20][..], &cbor_bytes(n), &[0x21], &cbor_bytes(e)];
            attested(&key.concat())
        };
        let ec = |x: &[u8], y: &[u8]| {
            let key = [&[0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21][..], &cbor_bytes(x), &[0x22], &cbor_bytes(y)];
            attested(&key.concat())
        };
        let datas = [
            vec![],
            vec![0; 36],
            head(0b0000_0101),
            head(0b0100_0101),
            head(0b1000_0101),
            attested(&[]),
            attested(&nested(200)),
            attested(&[0xbf]),
            attested(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            attested(&[0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            // Keys that are none: zero, even, one, and points that lie on no curve.
            rsa(&[0; 256], &[0, 0, 0]),
            rsa(&[0xff; 256], &[0, 0, 0]),
            rsa(&[0xfe; 256], &[1, 0, 1]),
            rsa(&[&[0; 255][..], &[1]].concat(), &[1, 0, 1]),
            rsa(&[0xff; 16], &[1, 0, 1]),
            ec(&[0; 32], &[0; 32]),
            ec(&[0xff; 32], &[0xff; 32]),
            ec(&[1; 31], &[1; 33]),
            [head(0b0100_0101), vec![0; 16], vec![0xff, 0xff], vec![1; 64]].concat(),
        ];
        let objects = datas.iter().map(|data| attestation_object("none", &[0xa0], data)).chain([
            vec![],
            vec![0xff],
            nested(10_000),
            vec![0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            vec![0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            attestation_object("none", &nested(1_000), &[]),
        ]);
        for object in objects {
            let challenge = place.ask(IDA);
            let mut made = Authenticator::at(ORIGIN).create(&challenge.options, &[]);
            made["response"]["attestationObject"] = encoded(&object).into();
            let done = place.register(IDA, &challenge, &made.to_string(), NOW);
            assert!(matches!(done, Registration::Refused(_)), "{object:02x?}");
        }
        let large = format!("{{\"id\": \"{}\"}}", "x".repeat(64 * 1024));
        let deep = "[".repeat(60_000);
        let wordy = format!("{}{}", " ".repeat(64 * 1024), ida.get(&place.ask_factor(IDA).options, &[]));
        for text in ["", "null", "{}", "[]", "{\"id\":1}", "\u{0}", &large, &deep, &wordy] {
            let challenge = place.ask_factor(IDA);
            assert_eq!(place.factor(IDA, &challenge, text, NOW), (false, vec![]));
            let challenge = place.ask_anybody();
            assert_eq!(place.discovery(&challenge, text, NOW), (None, vec![]));
            let challenge = place.ask(IDA);
            assert!(matches!(place.register(IDA, &challenge, text, NOW), Registration::Refused(_)));
        }
        for data in &datas {
            let challenge = place.ask_factor(IDA);
            let mut signed = ida.get(&challenge.options, &[]);
            signed["response"]["authenticatorData"] = encoded(data).into();
            assert!(!place.factor(IDA, &challenge, &signed.to_string(), NOW).0);
        }
    });
}

/// One thing that is done to bytes on their way.
#[derive(Debug, Clone)]
enum Change {
    Cut(usize),
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
}

fn a_change() -> impl Strategy<Value = Change> {
    let at = 0..4_096_usize;
    prop_oneof![
        at.clone().prop_map(Change::Cut),
        (at.clone(), 1..=255_u8).prop_map(|(at, mask)| Change::Flip(at, mask)),
        (at.clone(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at.clone(), 1..40_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        (at, 1..40_usize).prop_map(|(at, length)| Change::Repeat(at, length)),
    ]
}

fn changed(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes {
        let within = |at: usize, bytes: &[u8]| at % (bytes.len() + 1);
        match change {
            Change::Cut(at) => bytes.truncate(within(*at, &bytes)),
            Change::Flip(at, mask) => {
                let at = within(*at, &bytes);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= mask;
                }
            }
            Change::Insert(at, more) => {
                let at = within(*at, &bytes);
                bytes.splice(at..at, more.iter().copied());
            }
            Change::Remove(at, length) => {
                let at = within(*at, &bytes);
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            Change::Repeat(at, length) => {
                let at = within(*at, &bytes);
                let piece = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// HOSTILE A15: attestation objects, authenticator data, client data, signatures and whole answers, cut and altered.
#[test]
fn whatever_was_done_to_an_answer_it_is_taken_or_refused_and_never_an_error() {
    with_passkeys(|place, ida, _| {
        let fields = ["attestationObject", "clientDataJSON", "authenticatorData", "signature", "userHandle"];
        let case = (0..=fields.len(), prop::collection::vec(a_change(), 1..4));
        let mut runner = TestRunner::new(ProptestConfig::with_cases(1_500));
        let ida = std::cell::RefCell::new(ida);
        runner
            .run(&case, |(field, changes)| {
                let alter = |mut answer: Value| -> String {
                    match fields.get(field) {
                        Some(name) => {
                            let part = &answer["response"][name];
                            let bytes = if part.is_null() { Vec::new() } else { decoded(part) };
                            answer["response"][name] = encoded(&changed(&bytes, &changes)).into();
                            answer.to_string()
                        }
                        None => String::from_utf8_lossy(&changed(answer.to_string().as_bytes(), &changes)).into_owned(),
                    }
                };
                let challenge = place.ask(IDA);
                let made = alter(Authenticator::at(ORIGIN).create(&challenge.options, &[]));
                if let Registration::Enrolled(_) = place.register(IDA, &challenge, &made, NOW) {
                    // What was stored can be read again, or its owner would never come in.
                    let stored: Vec<String> = place
                        .c
                        .prepare("SELECT credential FROM passkey")
                        .and_then(|mut all| all.query_map([], |row| row.get(0))?.collect())
                        .expect("read");
                    for credential in stored {
                        serde_json::from_str::<Passkey>(&credential).expect("a passkey");
                    }
                    let first = &ida.borrow().credentials[0].id;
                    place
                        .c
                        .execute("DELETE FROM passkey WHERE user_id = ?1 AND credential_id <> ?2", params![IDA, first])
                        .expect("removed");
                }
                let challenge = place.ask_factor(IDA);
                let signed = alter(ida.borrow_mut().get(&challenge.options, &[]));
                place.factor(IDA, &challenge, &signed, NOW);
                let challenge = place.ask_anybody();
                let signed = alter(ida.borrow_mut().get(&challenge.options, &[]));
                place.discovery(&challenge, &signed, NOW);
                Ok(())
            })
            .expect("no answer is an error");
    });
}
