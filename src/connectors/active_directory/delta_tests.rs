//! Reading changes from controllers that are broken, hostile or merely unlucky: nothing that they say makes a short answer
//! a whole one.

use std::time::Duration;

use super::{
    watermark::{Stand, Watermark},
    *,
};
use crate::connectors::{
    FailureKind, Observed, ObservedGroup, Sighting, Subject,
    ldap::{
        Timeouts,
        ber::tag,
        dirsync::DIRSYNC,
        fake::{self, BIND_DN, PASSWORD, Request, Step, element, serve},
    },
};

const DOMAIN: &str = "DC=x";
const SERVICE: &str = "CN=NTDS Settings,CN=DC1";
const INVOCATION: [u8; 16] = [7; 16];

fn settings(address: std::net::SocketAddr) -> Settings {
    Settings { servers: vec![format!("ldap://{address}")], accept_plaintext: true, ..Settings::default() }
}

fn open(address: std::net::SocketAddr) -> ActiveDirectory {
    let credentials =
        serde_json::from_value(serde_json::json!({"bindDn": BIND_DN, "password": PASSWORD})).expect("credentials");
    let now = "2026-06-01T00:00:00Z".parse().expect("a time");
    let mut directory = ActiveDirectory::new(settings(address), credentials, now);
    let short = Duration::from_millis(400);
    directory.client.timeouts = Timeouts { connect: Duration::from_secs(2), tls: short, bind: short, silence: short };
    directory
}

/// What the controller stood at.
fn before(address: std::net::SocketAddr) -> String {
    let invocation_id = forms::guid_text(&INVOCATION).expect("sixteen bytes");
    let stand = Stand { domain: DOMAIN.into(), host: "dc1.x".into(), invocation_id, usn: 100 };
    Watermark::new((format!("ldap://{address}"), None), &settings(address), stand, Some(b"before")).to_json()
}

/// The end of a search, with a DirSync control of this value.
fn end(id: u32, value: &[u8]) -> Vec<u8> {
    let control = [element(tag::OCTET_STRING, DIRSYNC.as_bytes()), element(tag::OCTET_STRING, value)].concat();
    let controls = element(tag::CONTROLS, &element(tag::SEQUENCE, &control));
    let done = element(tag::SEARCH_DONE, &fake::result_body(0, ""));
    element(tag::SEQUENCE, &[fake::integer(id), done, controls].concat())
}

fn told(id: u32, has_more: bool, cookie: &[u8]) -> Vec<u8> {
    let parts = [fake::integer(u32::from(has_more)), fake::integer(0), element(tag::OCTET_STRING, cookie)];
    end(id, &element(tag::SEQUENCE, &parts.concat()))
}

/// A change that DirSync tells.
fn change(id: u32, guid: u8) -> Vec<u8> {
    fake::entry(id, "CN=a,DC=x", &[("objectGUID", &[&[guid; 16]]), ("title", &[b"new"])])
}

/// What the controller answers to a question with this DirSync cookie.
type Told = fn(u32, &[u8]) -> Vec<Step>;

/// Side questions are answered as an honest controller does; `others` answers searches of the domain that are no DirSync.
async fn changes_of(
    told: Told,
    others: fn(&Request) -> Option<Vec<Step>>,
) -> (Result<DeltaEnd, DeltaStop>, Vec<Observed>) {
    let (address, _) = serve(move |r: &Request| {
        let one = |attributes: &[(&str, &[&[u8]])]| {
            let entry = fake::entry(r.id, &r.base, attributes);
            Some(vec![Step::Send(entry), Step::Send(fake::result(r.id, tag::SEARCH_DONE, 0, ""))])
        };
        match (r.op, r.base.as_str(), &r.cookie) {
            (tag::SEARCH_REQUEST, "", _) => one(&[
                ("defaultNamingContext", &[DOMAIN.as_bytes()]),
                ("dnsHostName", &[b"dc1.x"]),
                ("dsServiceName", &[SERVICE.as_bytes()]),
                ("highestCommittedUSN", &[b"200"]),
            ]),
            (tag::SEARCH_REQUEST, SERVICE, _) => one(&[("invocationId", &[&INVOCATION])]),
            (tag::SEARCH_REQUEST, DOMAIN, Some(cookie)) if !cookie.is_empty() => Some(told(r.id, cookie)),
            (tag::SEARCH_REQUEST, DOMAIN, _) => others(r),
            _ => None,
        }
    })
    .await;
    let directory = open(address);
    let (sender, mut pages) = mpsc::channel::<Page>(4);
    let take = async {
        let mut seen = Vec::new();
        while let Some(mut page) = pages.recv().await {
            for (index, sighting) in std::mem::take(&mut page.sightings).into_iter().enumerate() {
                seen.push(match sighting {
                    Sighting::Deleted { subject, external_id } => Observed::Deleted { subject, external_id },
                    Sighting::GroupSeen { external_id, keys } => Observed::GroupSeen { external_id, keys },
                    Sighting::Group { .. } => Observed::Group(Box::new(page.content.group(index).expect("mapped"))),
                    other => panic!("{other:?}"),
                });
            }
        }
        seen
    };
    let mark = before(address);
    tokio::join!(directory.read_changes(&mark, sender), take)
}

async fn changes(told: Told) -> (Result<DeltaEnd, DeltaStop>, Vec<Observed>) {
    changes_of(told, |_| None).await
}

async fn failure(told: Told) -> FailureKind {
    match changes(told).await {
        (Err(DeltaStop::Failed(failure)), seen) if seen.is_empty() => failure.kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn all_that_is_told_is_asked_for_before_anything_is_called_changed() {
    let (outcome, seen) = changes(|id, cookie| match cookie {
        b"before" => vec![Step::Send(change(id, 1)), Step::Send(told(id, true, b"between"))],
        b"between" => vec![Step::Send(change(id, 2)), Step::Send(told(id, false, b"after"))],
        other => panic!("{other:?}"),
    })
    .await;
    let gone: Vec<(Subject, String)> = seen
        .into_iter()
        .map(|seen| match seen {
            Observed::Deleted { subject, external_id } => (subject, external_id),
            other => panic!("{other:?}"),
        })
        .collect();
    let guid = |number: u8| forms::guid_text(&[number; 16]).expect("sixteen bytes");
    let both = |subject| [(subject, guid(1)), (subject, guid(2))];
    assert_eq!(gone, [both(Subject::Identity), both(Subject::Group)].concat());
    let end = outcome.expect("changes");
    assert!(!end.finds_deletions, "deleted objects can't be seen");
    let next: serde_json::Value = serde_json::from_str(&end.watermark).expect("JSON");
    assert_eq!((&next["cookie"]["base64"], &next["stand"]["usn"]), (&"YWZ0ZXI=".into(), &200.into()), "{next}");
    assert_eq!(next["address"], "127.0.0.1");
}

#[tokio::test]
async fn a_broken_answer_is_a_failure_and_never_a_delta() {
    let violation = FailureKind::ProtocolViolation;
    assert_eq!(failure(|id, _| vec![Step::Send(fake::result(id, tag::SEARCH_DONE, 0, ""))]).await, violation);
    assert_eq!(failure(|id, _| vec![Step::Send(end(id, b"\x30\x03\x02\x01\0"))]).await, violation);
    assert_eq!(failure(|id, _| vec![Step::Send(told(id, false, b""))]).await, violation);
    // The same again and again.
    assert_eq!(failure(|id, cookie| vec![Step::Send(told(id, true, cookie))]).await, violation);
    let without_id = |id, _: &[u8]| {
        let entry = fake::entry(id, "CN=a,DC=x", &[("title", &[b"new"])]);
        vec![Step::Send(entry), Step::Send(told(id, false, b"after"))]
    };
    assert_eq!(failure(without_id).await, violation);
    assert_eq!(failure(|_, _| vec![Step::Silence]).await, FailureKind::TimedOut);
    assert_eq!(failure(|id, _| vec![Step::Send(change(id, 1)), Step::Silence]).await, FailureKind::TimedOut);
    assert_eq!(failure(|id, _| vec![Step::Send(change(id, 1)), Step::Close]).await, FailureKind::ConnectionLost);
    assert_eq!(
        failure(|id, _| vec![Step::Send(fake::result(id, tag::SEARCH_DONE, 51, ""))]).await,
        FailureKind::ServerBusy
    );
    assert_eq!(
        failure(|id, _| vec![Step::Send(fake::result(id, tag::SEARCH_DONE, 4, ""))]).await,
        FailureKind::LimitExceeded
    );
}

#[tokio::test]
async fn a_controller_that_does_not_take_its_own_cookie_has_lost_it() {
    let (outcome, _) = changes(|id, _| vec![Step::Send(fake::result(id, tag::SEARCH_DONE, 2, "bad cookie"))]).await;
    match outcome {
        Err(DeltaStop::WatermarkLost { reason }) => assert!(reason.contains("bad cookie"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn where_dirsync_is_refused_the_numbers_of_changes_are_searched() {
    for refuse in [
        (|id, _| vec![Step::Send(fake::result(id, tag::SEARCH_DONE, 50, ""))]) as Told,
        |id, _| vec![Step::Send(fake::result(id, tag::SEARCH_DONE, 12, ""))],
        |id, _| vec![Step::Send(fake::result(id, tag::SEARCH_DONE, 53, ""))],
    ] {
        let (outcome, seen) = changes_of(refuse, |r| {
            let is_wanted = r.names("uSNChanged") && r.names("101");
            is_wanted.then(|| vec![Step::Send(change(r.id, 3)), Step::Send(fake::page_end(r.id, b""))])
        })
        .await;
        assert_eq!(seen.len(), 2, "gone as a person and as a group: {seen:?}");
        let end = outcome.expect("changes");
        assert!(!end.watermark.contains("cookie") && end.watermark.contains("\"usn\":200"), "{}", end.watermark);
    }
}

/// S-1-5-21-1-2-3-513.
const SID: [u8; 28] = [1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 1, 2, 0, 0];

/// A group has changed that is the primary one of two accounts, which the controller gives in pages only.
fn with_primary_members(r: &Request) -> Option<Vec<Step>> {
    let account = |number: u8| {
        let dn = format!("CN=u{number},DC=x");
        let mut sid = SID;
        sid[24] = number;
        let id: &[&[u8]] = &[&[number; 16]];
        fake::entry(r.id, &dn, &[("objectGUID", id), ("objectSid", &[&sid]), ("primaryGroupID", &[b"513"])])
    };
    let over = |code| fake::result(r.id, tag::SEARCH_DONE, code, "");
    if r.names("userAccountControl") || !r.names("objectGUID") {
        return None;
    }
    let sent = match (r.names("primaryGroupID"), &r.cookie) {
        (true, None) => vec![account(1), over(4)],
        (true, Some(_)) => vec![account(1), account(2), fake::page_end(r.id, b"")],
        (false, _) if r.names("objectSid") => {
            let attributes: &[(&str, &[&[u8]])] =
                &[("objectGUID", &[&[9; 16]]), ("objectSid", &[&SID]), ("member", &[b"CN=named,DC=y"])];
            vec![fake::entry(r.id, "CN=g,DC=x", attributes), over(0)]
        }
        _ => return None,
    };
    Some(sent.into_iter().map(Step::Send).collect())
}

#[tokio::test]
async fn members_by_primary_group_are_whole_also_where_they_come_in_pages() {
    let one = |id, _: &[u8]| vec![Step::Send(change(id, 9)), Step::Send(told(id, false, b"after"))];
    let (outcome, seen) = changes_of(one, with_primary_members).await;
    outcome.expect("changes");
    let groups: Vec<&ObservedGroup> = seen
        .iter()
        .filter_map(|seen| match seen {
            Observed::Group(group) => Some(&**group),
            _ => None,
        })
        .collect();
    let [group] = groups.as_slice() else { panic!("{seen:?}") };
    let mut members: Vec<&str> = group.members.iter().map(|member| member.text.as_str()).collect();
    members.sort_unstable();
    assert_eq!(members, ["CN=named,DC=y", "CN=u1,DC=x", "CN=u2,DC=x"]);
    let is_gone = |seen: &Observed| matches!(seen, Observed::Deleted { subject: Subject::Group, .. });
    assert!(!seen.iter().any(is_gone), "what was sent is not called gone: {seen:?}");
}
