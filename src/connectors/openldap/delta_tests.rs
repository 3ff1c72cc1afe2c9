//! Reading changes from servers that are broken, hostile or merely unlucky: nothing that they say makes a short answer
//! a whole one.

use std::time::Duration;

use super::*;
use crate::connectors::{
    FailureKind, Observed, Sighting, Subject,
    ldap::{
        ber::tag,
        fake::{self, BIND_DN, PASSWORD, Request, Step, element, message, result, serve},
        request::element as short_element,
        sync::{SYNC_DONE, SYNC_INFO, SYNC_STATE},
    },
};

const BEFORE: &str = "20260102030405.000000Z#000000#000#000000";
const NOW: &str = "20260102030406.000000Z#000000#000#000000";
const ID: &str = "00000000-0000-0000-0000-0000000000aa";

fn open(address: std::net::SocketAddr) -> OpenLdap {
    let settings = Settings {
        servers: vec![format!("ldap://{address}")],
        accept_plaintext: true,
        base_dns: vec!["dc=x".to_owned()],
        ..Settings::default()
    };
    let credentials =
        serde_json::from_value(serde_json::json!({"bindDn": BIND_DN, "password": PASSWORD})).expect("credentials");
    let short = Duration::from_millis(400);
    let timeouts = Timeouts { connect: Duration::from_secs(2), tls: short, bind: short, silence: short };
    let now = "2026-06-01T00:00:00Z".parse().expect("a time");
    OpenLdap::new(settings, credentials, now).with_limits(timeouts, Limits::default())
}

/// A message with a control.
fn with_control(id: u32, op: &[u8], oid: &str, value: &[u8]) -> Vec<u8> {
    let control = [element(tag::OCTET_STRING, oid.as_bytes()), element(tag::OCTET_STRING, value)].concat();
    let controls = element(tag::CONTROLS, &element(tag::SEQUENCE, &control));
    element(tag::SEQUENCE, &[fake::integer(id), op.to_vec(), controls].concat())
}

fn done(id: u32, csn: Option<&str>, refresh_deletes: bool) -> Vec<u8> {
    let mut value =
        csn.map(|csn| element(tag::OCTET_STRING, format!("rid=000,csn={csn}").as_bytes())).unwrap_or_default();
    if refresh_deletes {
        value.extend(element(tag::BOOLEAN, &[0xff]));
    }
    let op = element(tag::SEARCH_DONE, &fake::result_body(0, ""));
    with_control(id, &op, SYNC_DONE, &element(tag::SEQUENCE, &value))
}

fn user(id: u32, number: u8, state: u8) -> Vec<u8> {
    let uuid = [vec![0; 15], vec![number]].concat();
    let text = format!("00000000-0000-0000-0000-{number:012x}");
    let frame = fake::entry(id, &format!("uid=u{number},dc=x"), &[("entryUUID", &[text.as_bytes()])]);
    let body = ldap::answer::check_answer(&frame, &Limits::default()).expect("a message").body.to_vec();
    let value = [element(tag::ENUMERATED, &[state]), element(tag::OCTET_STRING, &uuid)].concat();
    with_control(id, &short_element(tag::SEARCH_ENTRY, &body), SYNC_STATE, &element(tag::SEQUENCE, &value))
}

fn id_set(id: u32, numbers: &[u8], refresh_deletes: bool) -> Vec<u8> {
    let ids = numbers.iter().map(|number| element(tag::OCTET_STRING, &[vec![0; 15], vec![*number]].concat()));
    let set = element(tag::SET, &ids.collect::<Vec<_>>().concat());
    let flag = if refresh_deletes { element(tag::BOOLEAN, &[0xff]) } else { Vec::new() };
    let value = element(0xa3, &[flag, set].concat());
    let body = [element(0x80, SYNC_INFO.as_bytes()), element(0x81, &value)].concat();
    message(id, &element(tag::INTERMEDIATE_RESPONSE, &body))
}

/// What the server answers to a sync search for users.
type Answer = fn(u32) -> Vec<u8>;

/// Reads changes since [`BEFORE`] from a server at [`NOW`] that answers searches for users with `users`, and others
/// with "nothing has changed".
async fn changes(users: Answer) -> (Result<DeltaEnd, DeltaStop>, Vec<Observed>) {
    let (address, _) = serve(move |r: &Request| {
        if r.op != tag::SEARCH_REQUEST {
            return None;
        }
        let bytes = match (r.base.as_str(), &r.cookie, r.is_for_users && !r.is_for_branches) {
            ("dc=x", None, false) => {
                let context: &[&[u8]] = &[NOW.as_bytes()];
                [
                    fake::entry(r.id, "dc=x", &[("entryUUID", &[ID.as_bytes()]), ("contextCSN", context)]),
                    result(r.id, tag::SEARCH_DONE, 0, ""),
                ]
                .concat()
            }
            (_, Some(_), true) => users(r.id),
            (_, Some(_), false) => done(r.id, Some(NOW), true),
            _ => return None,
        };
        Some(vec![Step::Send(bytes)])
    })
    .await;
    let directory = open(address);
    let cookie = cookie::Cookie::of_csns([BEFORE].into_iter()).expect("a CSN");
    let stand = watermark::Stand {
        ids: [("dc=x".to_owned(), ID.to_owned())].into(),
        states: [("dc=x".to_owned(), cookie)].into(),
    };
    let marks = watermark::marks(&directory.settings, &RootDse::default(), &stand).expect("marks");
    let before = Watermark::new(String::new(), &directory.settings, &stand, Method::Syncrepl(marks)).to_json();
    let (sender, mut pages) = mpsc::channel(4);
    let take = async {
        let mut all = Vec::new();
        while let Some(page) = pages.recv().await {
            all.extend(super::tests::mapped(page));
        }
        all
    };
    tokio::join!(directory.read_changes(&before, sender), take)
}

#[tokio::test]
async fn changes_presence_and_deletions_are_told_apart() {
    let (end, seen) = changes(|id| {
        [user(id, 1, 1), id_set(id, &[1, 2], true), user(id, 3, 2), user(id, 4, 3), done(id, Some(NOW), true)].concat()
    })
    .await;
    let end = end.expect("changes");
    assert!(end.finds_deletions && !end.lists_identities && !end.lists_groups);
    assert!(end.watermark.contains(NOW) && !end.watermark.contains(BEFORE));
    let told: Vec<_> = seen
        .iter()
        .map(|one| match one {
            Observed::Identity(identity) => format!("there {}", identity.external_id),
            Observed::Deleted { subject: Subject::Identity, external_id } => format!("gone {external_id}"),
            other => panic!("{other:?}"),
        })
        .collect();
    let id = |number: u8| format!("00000000-0000-0000-0000-{number:012x}");
    // What was sent is not gone, and what is gone comes last.
    assert_eq!(
        told,
        [format!("there {}", id(1)), format!("there {}", id(3)), format!("gone {}", id(2)), format!("gone {}", id(4))]
    );
    let (end, seen) =
        changes(|id| [id_set(id, &[1, 2], false), user(id, 3, 0), user(id, 4, 1), done(id, Some(NOW), false)].concat())
            .await;
    // Groups said what is gone, users what is there.
    let end = end.expect("changes");
    assert_eq!((end.lists_identities, end.lists_groups), (true, false));
    let present = seen.iter().filter(|one| matches!(one, Observed::Present { subject: Subject::Identity, .. }));
    assert_eq!((present.count(), seen.len()), (3, 4));
}

#[tokio::test]
async fn what_does_not_follow_from_the_last_run_is_lost_with_its_reason() {
    fn code(id: u32, code: [u8; 2]) -> Vec<u8> {
        let body = [
            element(tag::ENUMERATED, &code),
            element(tag::OCTET_STRING, b""),
            element(tag::OCTET_STRING, b"says the server"),
        ];
        message(id, &element(tag::SEARCH_DONE, &body.concat()))
    }
    let cases: [(&str, Answer, &str); 8] = [
        ("refresh required", |id| code(id, [0x10, 0]), "no longer knows"),
        ("newer than the provider", |id| code(id, [0, 53]), "does not go on"),
        ("a cookie it can't read", |id| code(id, [0, 2]), "does not go on"),
        ("no syncprov", |id| code(id, [0, 12]), "syncprov is missing"),
        ("size limit", |id| [user(id, 1, 1), code(id, [0, 4])].concat(), "one of its limits"),
        ("an empty list that says nothing", |id| done(id, None, false), "does not say what is gone"),
        ("an empty list of the same state", |id| done(id, Some(BEFORE), false), "does not say what is gone"),
        (
            "a list of an older state",
            |id| [id_set(id, &[1], false), done(id, Some("20250102030405.000000Z#000000#000#000000"), false)].concat(),
            "does not say what is gone",
        ),
    ];
    for (name, answer, part) in cases {
        match changes(answer).await.0 {
            Err(DeltaStop::WatermarkLost { reason }) => assert!(reason.contains(part), "{name}: {reason}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_broken_answer_is_a_failure_and_never_a_delta() {
    fn plain_user(id: u32) -> Vec<u8> {
        fake::user(id, 1)
    }
    let cases: [(&str, Answer, FailureKind); 7] = [
        (
            "an entry without state",
            |id| [plain_user(id), done(id, Some(NOW), true)].concat(),
            FailureKind::ProtocolViolation,
        ),
        ("an end without a word", |id| result(id, tag::SEARCH_DONE, 0, ""), FailureKind::ProtocolViolation),
        (
            "an end of another shape",
            |id| with_control(id, &element(tag::SEARCH_DONE, &fake::result_body(0, "")), SYNC_DONE, b"\x04\x00"),
            FailureKind::ProtocolViolation,
        ),
        (
            "an id that is none",
            |id| {
                let value = element(0xa3, &element(tag::SET, &element(tag::OCTET_STRING, b"short")));
                let body = [element(0x80, SYNC_INFO.as_bytes()), element(0x81, &value)].concat();
                message(id, &element(tag::INTERMEDIATE_RESPONSE, &body))
            },
            FailureKind::ProtocolViolation,
        ),
        ("another message id", |id| user(id + 1, 1, 1), FailureKind::ProtocolViolation),
        ("silence in the middle", |id| user(id, 1, 1), FailureKind::TimedOut),
        ("busy", |id| result(id, tag::SEARCH_DONE, 51, ""), FailureKind::ServerBusy),
    ];
    for (name, answer, kind) in cases {
        match changes(answer).await.0 {
            Err(DeltaStop::Failed(failure)) => assert_eq!(failure.kind, kind, "{name}: {}", failure.message),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_page_says_no_more_than_it_holds() {
    let page = Page::of(vec![Observed::Present { subject: Subject::Group, external_id: "x".to_owned() }]);
    let Page { sightings, mut content } = page;
    assert_eq!(sightings, [Sighting::Present { subject: Subject::Group, external_id: "x".to_owned() }]);
    assert!(content.identity(0).is_err() && content.group(7).is_err());
}
