//! The connector against servers that are broken, hostile or merely unlucky (HOSTILE §5.2): every one of them costs the
//! run, none the process, and no password leaves in clear where it must not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::*;
use crate::connectors::{
    Observed, Sighting, StepState,
    ldap::{
        ber::tag,
        fake::{
            self, BIND_DN, Flaw, Heard, PASSWORD, Request, Step, certificates, converse, listen, page_end, polite,
            result, serve, user,
        },
    },
};

fn credentials() -> Credentials {
    serde_json::from_value(serde_json::json!({"bindDn": BIND_DN, "password": PASSWORD})).expect("credentials")
}

fn plain(addresses: &[std::net::SocketAddr]) -> Settings {
    Settings {
        servers: addresses.iter().map(|address| format!("ldap://{address}")).collect(),
        accept_plaintext: true,
        base_dns: vec!["dc=x".to_owned()],
        ..Settings::default()
    }
}

/// Short waits, so that a silent server is noticed soon.
fn open(settings: Settings) -> OpenLdap {
    let short = Duration::from_millis(400);
    let timeouts =
        Timeouts { connect: Duration::from_secs(2), tls: Duration::from_secs(2), bind: short, silence: short };
    let now = "2026-06-01T00:00:00Z".parse().expect("a time");
    OpenLdap::new(settings, credentials(), now).with_limits(timeouts, Limits::default())
}

/// Reads everything: how it ended, and what was handed on until then.
async fn read(directory: &OpenLdap) -> (Result<ReadEnd, Failure>, Vec<Observed>) {
    let (sender, mut receiver) = mpsc::channel(4);
    let collect = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(page) = receiver.recv().await {
            all.extend(mapped(page));
        }
        all
    });
    let end =
        tokio::time::timeout(Duration::from_secs(20), directory.read_full(sender)).await.expect("every reading ends");
    (end, collect.await.expect("collected"))
}

/// Everything of a page, mapped. What can't be mapped is unreadable, as the planner takes it.
pub fn mapped(mut page: Page) -> Vec<Observed> {
    let sightings = std::mem::take(&mut page.sightings);
    let mapped = |(index, sighting)| match sighting {
        Sighting::Identity { external_id, .. } => page.content.identity(index).map(|identity| {
            assert_eq!(identity.external_id, external_id);
            Observed::Identity(Box::new(identity))
        }),
        Sighting::Group { external_id, .. } => page.content.group(index).map(|group| {
            assert_eq!(group.external_id, external_id);
            Observed::Group(Box::new(group))
        }),
        Sighting::GroupSeen { external_id, keys } => Ok(Observed::GroupSeen { external_id, keys }),
        Sighting::Present { subject, external_id } => Ok(Observed::Present { subject, external_id }),
        Sighting::Deleted { subject, external_id } => Ok(Observed::Deleted { subject, external_id }),
        Sighting::Unreadable(unreadable) => Err(unreadable),
    };
    let observed = sightings.into_iter().enumerate().map(mapped);
    observed.map(|one| one.unwrap_or_else(Observed::Unreadable)).collect()
}

async fn kind_of(settings: Settings) -> FailureKind {
    let (end, _) = read(&open(settings)).await;
    let failure = end.expect_err("a failure");
    assert!(failure.message.ends_with(['.', '…']), "{}", failure.message);
    assert!(!failure.next_step.is_empty());
    assert!(!format!("{failure:?}").contains(PASSWORD));
    failure.kind
}

fn identities(observed: &[Observed]) -> Vec<&crate::connectors::ObservedIdentity> {
    observed
        .iter()
        .filter_map(|one| if let Observed::Identity(identity) = one { Some(&**identity) } else { None })
        .collect()
}

/// What a fake server answers to a request.
type Answer = fn(&Request) -> Vec<Step>;

/// Answers the search for users with `steps`, everything else politely.
async fn users_answered(steps: Answer) -> (Settings, Heard) {
    let (address, heard) = serve(move |request| request.is_for_users.then(|| steps(request))).await;
    (plain(&[address]), heard)
}

#[tokio::test]
async fn a_polite_server_is_read_page_by_page() {
    let (settings, _) = users_answered(|request| match request.cookie.as_deref() {
        Some(b"") => vec![
            Step::Send(user(request.id, 1)),
            Step::Send(user(request.id, 2)),
            Step::Send(page_end(request.id, b"one")),
        ],
        Some(b"one") => vec![Step::Send([user(request.id, 3), page_end(request.id, b"")].concat())],
        other => panic!("an unexpected cookie {other:?}"),
    })
    .await;
    let server = settings.servers[0].clone();
    let (end, observed) = read(&open(settings)).await;
    assert_eq!(end.expect("read").server, server);
    let names: Vec<_> = identities(&observed).iter().map(|identity| identity.fields.user_name.clone()).collect();
    assert_eq!(names, ["u1", "u2", "u3"]);
}

#[tokio::test]
async fn hostile_answers_cost_the_run_and_not_the_process() {
    fn nested(depth: usize) -> Vec<u8> {
        // Long-form headers all the way, each with the right length, as in HOSTILE L17.
        let mut headers = Vec::with_capacity(depth);
        let mut length = 0_usize;
        for _ in 0..depth {
            headers.push([&[0x30, 0x84][..], &u32::try_from(length).expect("fits").to_be_bytes()].concat());
            length += 6;
        }
        headers.iter().rev().flatten().copied().collect()
    }
    let cases: [(&str, Answer); 9] = [
        ("nested 200,000 deep", |r| {
            vec![Step::Send(fake::message(r.id, &fake::element(tag::SEARCH_ENTRY, &nested(200_000)))), Step::Silence]
        }),
        ("nested 200,000 deep in a result", |r| {
            let body = [fake::result_body(0, ""), nested(200_000)].concat();
            vec![Step::Send(fake::message(r.id, &fake::element(tag::SEARCH_DONE, &body))), Step::Silence]
        }),
        ("a length of 2^40", |_| vec![Step::Send(vec![0x30, 0x86, 1, 0, 0, 0, 0, 0]), Step::Silence]),
        ("a length of 64 MiB", |_| vec![Step::Send(vec![0x30, 0x84, 4, 0, 0, 0]), Step::Silence]),
        ("an empty sequence", |_| vec![Step::Send(vec![0x30, 0x00]), Step::Silence]),
        ("an unknown operation", |r| vec![Step::Send(fake::message(r.id, &fake::element(0x7e, b"x"))), Step::Silence]),
        ("garbage", |_| vec![Step::Send(b"\xde\xad\xbe\xef".repeat(100)), Step::Silence]),
        ("another message id", |r| vec![Step::Send(user(r.id + 7, 1)), Step::Silence]),
        ("a bind answer to a search", |r| vec![Step::Send(result(r.id, tag::BIND_RESPONSE, 0, "")), Step::Silence]),
    ];
    for (name, steps) in cases {
        let (settings, _) = users_answered(steps).await;
        let started = Instant::now();
        assert_eq!(kind_of(settings).await, FailureKind::ProtocolViolation, "{name}");
        assert!(started.elapsed() < Duration::from_secs(5), "{name} took {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_cut_answer_is_never_a_whole_one() {
    let cases: [(&str, Answer, FailureKind); 10] = [
        (
            "size limit",
            |r| vec![Step::Send(user(r.id, 1)), Step::Send(result(r.id, tag::SEARCH_DONE, 4, ""))],
            FailureKind::LimitExceeded,
        ),
        (
            "administrative limit",
            |r| vec![Step::Send(user(r.id, 1)), Step::Send(result(r.id, tag::SEARCH_DONE, 11, ""))],
            FailureKind::LimitExceeded,
        ),
        (
            "time limit",
            |r| vec![Step::Send(user(r.id, 1)), Step::Send(result(r.id, tag::SEARCH_DONE, 3, ""))],
            FailureKind::LimitExceeded,
        ),
        ("busy", |r| vec![Step::Send(result(r.id, tag::SEARCH_DONE, 51, ""))], FailureKind::ServerBusy),
        ("unavailable", |r| vec![Step::Send(result(r.id, tag::SEARCH_DONE, 52, ""))], FailureKind::ServerBusy),
        ("access", |r| vec![Step::Send(result(r.id, tag::SEARCH_DONE, 50, ""))], FailureKind::AccessDenied),
        ("no base", |r| vec![Step::Send(result(r.id, tag::SEARCH_DONE, 32, ""))], FailureKind::NoSuchBase),
        (
            "cut between pages",
            |r| match r.cookie.as_deref() {
                Some(b"") => vec![Step::Send([user(r.id, 1), page_end(r.id, b"next")].concat())],
                _ => vec![Step::Close],
            },
            FailureKind::ConnectionLost,
        ),
        (
            "cut within an entry",
            |r| {
                let mut entry = user(r.id, 1);
                entry.truncate(20);
                vec![Step::Send(entry), Step::Close]
            },
            FailureKind::ConnectionLost,
        ),
        (
            "an error on a later page",
            |r| match r.cookie.as_deref() {
                Some(b"") => vec![Step::Send([user(r.id, 1), page_end(r.id, b"next")].concat())],
                _ => vec![Step::Send(result(r.id, tag::SEARCH_DONE, 80, "internal error"))],
            },
            FailureKind::Other,
        ),
    ];
    for (name, steps, kind) in cases {
        let (settings, _) = users_answered(steps).await;
        assert_eq!(kind_of(settings).await, kind, "{name}");
    }
}

#[tokio::test]
async fn silence_is_noticed_at_every_step() {
    let silent = |op: u8| move |request: &Request| (request.op == op).then(|| vec![Step::Silence]);
    for (op, name) in [(tag::BIND_REQUEST, "bind"), (tag::SEARCH_REQUEST, "search")] {
        let (address, _) = serve(silent(op)).await;
        assert_eq!(kind_of(plain(&[address])).await, FailureKind::TimedOut, "{name}");
    }
    let mute = listen(|stream: TcpStream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let tls = Settings {
        servers: vec![format!("ldaps://localhost:{}", mute.port())],
        accept_plaintext: false,
        ..plain(&[mute])
    };
    assert_eq!(kind_of(tls).await, FailureKind::TimedOut, "TLS handshake");
    let start_tls = Settings { start_tls: true, accept_plaintext: false, ..plain(&[mute]) };
    assert_eq!(kind_of(start_tls).await, FailureKind::TimedOut, "StartTLS");
}

#[tokio::test]
async fn a_server_that_never_comes_to_an_end_is_cut() {
    let (settings, _) = users_answered(|r| vec![Step::Send([user(r.id, 1), page_end(r.id, b"same")].concat())]).await;
    assert_eq!(kind_of(settings).await, FailureKind::ProtocolViolation, "the same page again and again");
    let (settings, _) = users_answered(|r| vec![Step::Send(page_end(r.id, b"same"))]).await;
    assert_eq!(kind_of(settings).await, FailureKind::ProtocolViolation, "empty pages without end");
}

#[tokio::test]
async fn one_cookie_for_all_pages_is_fine_while_the_pages_differ() {
    // As 389 Directory Server does.
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    let (settings, _) = users_answered(|r| {
        let number = PAGE.fetch_add(1, Ordering::SeqCst);
        let cookie: &[u8] = if number < 4 { b"slot" } else { b"" };
        vec![Step::Send([user(r.id, u32::try_from(number).expect("small")), page_end(r.id, cookie)].concat())]
    })
    .await;
    let (end, observed) = read(&open(settings)).await;
    end.expect("read");
    assert_eq!(identities(&observed).len(), 5);
}

#[tokio::test]
async fn a_server_without_paging_is_read_in_one_answer() {
    let (settings, _) = users_answered(|r| match r.cookie {
        Some(_) => vec![Step::Send(result(r.id, tag::SEARCH_DONE, 12, "critical extension is unavailable"))],
        None => vec![Step::Send([user(r.id, 1), result(r.id, tag::SEARCH_DONE, 0, "")].concat())],
    })
    .await;
    let (end, observed) = read(&open(settings)).await;
    end.expect("read");
    assert_eq!(identities(&observed).len(), 1);
    let (settings, _) = users_answered(|r| match r.cookie {
        Some(_) => vec![Step::Send(result(r.id, tag::SEARCH_DONE, 12, ""))],
        None => vec![Step::Send([user(r.id, 1), result(r.id, tag::SEARCH_DONE, 4, "")].concat())],
    })
    .await;
    let failure = read(&open(settings)).await.0.expect_err("cut");
    assert_eq!(failure.kind, FailureKind::LimitExceeded);
    assert!(failure.message.contains("does not offer paging"), "{}", failure.message);
}

#[tokio::test]
async fn referrals_are_reported_and_never_followed() {
    let contacted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&contacted);
    let sink = listen(move |_stream: TcpStream| {
        let counter = Arc::clone(&counter);
        async move {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let (address, _) = serve(move |r: &Request| {
        r.is_for_users.then(|| {
            let uri = fake::element(tag::OCTET_STRING, format!("ldap://{sink}/dc=x").as_bytes());
            let reference = fake::message(r.id, &fake::element(tag::SEARCH_REFERENCE, &uri));
            vec![Step::Send([user(r.id, 1), reference, page_end(r.id, b"")].concat())]
        })
    })
    .await;
    let (end, observed) = read(&open(plain(&[address]))).await;
    end.expect("the rest is whole");
    let reported =
        observed.iter().any(|one| matches!(one, Observed::Unreadable(seen) if seen.name.contains(&sink.to_string())));
    assert!(reported, "{observed:?}");
    let (address, _) = serve(move |r: &Request| {
        r.is_for_users.then(|| {
            let uri = fake::element(0xa3, &fake::element(tag::OCTET_STRING, format!("ldap://{sink}/dc=x").as_bytes()));
            let body = [fake::result_body(10, ""), uri].concat();
            vec![Step::Send(fake::message(r.id, &fake::element(tag::SEARCH_DONE, &body)))]
        })
    })
    .await;
    assert_eq!(kind_of(plain(&[address])).await, FailureKind::Referral);
    let (address, _) = serve(|r: &Request| {
        (r.op == tag::BIND_REQUEST).then(|| vec![Step::Send(result(r.id, tag::BIND_RESPONSE, 10, ""))])
    })
    .await;
    assert_eq!(kind_of(plain(&[address])).await, FailureKind::Referral);
    assert_eq!(contacted.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_empty_password_or_bind_dn_is_never_sent() {
    let (address, heard) = serve(|_| None).await;
    for (bind_dn, password) in [
        ("cn=reader,dc=x", ""),
        ("cn=reader,dc=x", "  \t"),
        ("cn=reader,dc=x", "a\0b"),
        ("", "secret"),
        (" ", "secret"),
    ] {
        let credentials =
            serde_json::from_value(serde_json::json!({"bindDn": bind_dn, "password": password})).expect("credentials");
        let directory = OpenLdap::new(plain(&[address]), credentials, jiff::Timestamp::UNIX_EPOCH);
        let failure = read(&directory).await.0.expect_err("refused");
        assert_eq!(failure.kind, FailureKind::InvalidCredentials, "{bind_dn:?} {password:?}");
    }
    assert!(heard.is_empty(), "not even a connection's first byte");
}

#[tokio::test]
async fn a_refused_password_is_tried_once() {
    static BINDS: AtomicUsize = AtomicUsize::new(0);
    let refuse = |r: &Request| {
        (r.op == tag::BIND_REQUEST).then(|| {
            BINDS.fetch_add(1, Ordering::SeqCst);
            vec![Step::Send(result(r.id, tag::BIND_RESPONSE, 49, ""))]
        })
    };
    let (one, _) = serve(refuse).await;
    let (two, _) = serve(refuse).await;
    assert_eq!(kind_of(plain(&[one, two])).await, FailureKind::InvalidCredentials);
    assert_eq!(BINDS.load(Ordering::SeqCst), 1);
    let report = open(plain(&[one, two])).probe().await;
    assert_eq!(BINDS.load(Ordering::SeqCst), 2, "once more by the probe");
    let states: Vec<_> = report.steps.iter().filter(|step| step.step == "bind").map(|step| step.state).collect();
    assert_eq!(states, [StepState::Failed, StepState::Skipped]);
}

#[tokio::test]
async fn the_next_server_is_asked_until_one_has_delivered() {
    let (good, _) =
        serve(|r| r.is_for_users.then(|| vec![Step::Send([user(r.id, 1), page_end(r.id, b"")].concat())])).await;
    let dead =
        { tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address") };
    let (busy, _) = serve(|r| r.is_for_users.then(|| vec![Step::Send(result(r.id, tag::SEARCH_DONE, 51, ""))])).await;
    let (end, observed) = read(&open(plain(&[dead, busy, good]))).await;
    assert_eq!(end.expect("read").server, format!("ldap://{good}"));
    assert_eq!(identities(&observed).len(), 1);

    let (dies, _) = serve(|r| {
        r.is_for_users.then(|| match r.cookie.as_deref() {
            Some(b"") => {
                let mut bytes: Vec<u8> = (0..600).flat_map(|number| user(r.id, number)).collect();
                bytes.extend(page_end(r.id, b"next"));
                vec![Step::Send(bytes)]
            }
            _ => vec![Step::Close],
        })
    })
    .await;
    let (end, observed) = read(&open(plain(&[dies, good]))).await;
    assert_eq!(end.expect_err("no second server after the first object").kind, FailureKind::ConnectionLost);
    assert_eq!(identities(&observed).len(), 600, "what was handed on before");

    let failure = read(&open(plain(&[dead, busy]))).await.0.expect_err("none left");
    assert_eq!(failure.kind, FailureKind::Unreachable);
    assert!(
        failure.message.contains(&dead.to_string()) && failure.message.contains(&busy.to_string()),
        "{}",
        failure.message
    );
}

#[tokio::test]
async fn an_unknown_name_and_a_closed_port_are_told_apart() {
    let settings = Settings { servers: vec!["ldap://no-such-host.invalid".to_owned()], ..plain(&[]) };
    assert_eq!(kind_of(settings).await, FailureKind::NameResolution);
    let settings = Settings { servers: vec!["ldap://127.0.0.1:1".to_owned()], ..plain(&[]) };
    assert_eq!(kind_of(settings).await, FailureKind::Unreachable);
}

#[tokio::test]
async fn plain_text_needs_consent_and_is_no_fallback() {
    let (address, heard) = serve(|_| None).await;
    let settings = Settings { accept_plaintext: false, ..plain(&[address]) };
    assert_eq!(kind_of(settings).await, FailureKind::PlaintextNotAccepted);
    assert!(heard.is_empty());
}

/// A server that answers StartTLS with `answer` and then goes on in clear.
async fn start_tls_answered(answer: Vec<u8>) -> (Settings, Heard) {
    let (address, heard) =
        serve(move |r| (r.op == tag::EXTENDED_REQUEST).then(|| vec![Step::Send(answer.clone())])).await;
    // Consent to plain text must not turn a refused StartTLS into it.
    (Settings { start_tls: true, accept_plaintext: true, ..plain(&[address]) }, heard)
}

#[tokio::test]
async fn without_start_tls_nothing_is_sent() {
    let early = [result(1, tag::EXTENDED_RESPONSE, 0, ""), result(2, tag::BIND_RESPONSE, 0, "")].concat();
    for (name, answer, kind) in [
        (
            "refused",
            result(1, tag::EXTENDED_RESPONSE, 2, "unsupported extended operation"),
            FailureKind::StartTlsRefused,
        ),
        ("unavailable", result(1, tag::EXTENDED_RESPONSE, 52, ""), FailureKind::StartTlsRefused),
        ("a notice of disconnection", result(0, tag::EXTENDED_RESPONSE, 0, ""), FailureKind::StartTlsRefused),
        ("early bytes", early, FailureKind::ProtocolViolation),
        ("another operation", result(1, tag::BIND_RESPONSE, 0, ""), FailureKind::ProtocolViolation),
        ("another id", result(3, tag::EXTENDED_RESPONSE, 0, ""), FailureKind::ProtocolViolation),
        ("garbage", b"HTTP/1.1 400\r\n".to_vec(), FailureKind::ProtocolViolation),
        ("a huge answer", vec![0x30, 0x84, 1, 0, 0, 0], FailureKind::ProtocolViolation),
        ("nothing after success", result(1, tag::EXTENDED_RESPONSE, 0, ""), FailureKind::TimedOut),
    ] {
        let (settings, heard) = start_tls_answered(answer).await;
        assert_eq!(kind_of(settings).await, kind, "{name}");
        assert!(!heard.has(PASSWORD) && !heard.has(BIND_DN), "{name}: credentials in clear");
    }
}

/// A TLS server; `start_tls` says how TLS begins. Nothing is heard in clear but StartTLS itself.
async fn tls_server(config: Arc<rustls::ServerConfig>, start_tls: bool) -> (u16, Heard) {
    let heard = Heard::default();
    let recorder = heard.clone();
    let address = listen(move |mut stream: TcpStream| {
        let (config, recorder) = (Arc::clone(&config), recorder.clone());
        async move {
            if start_tls {
                let mut request = [0; 31];
                let Ok(_) = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut request).await else { return };
                let Ok(()) = stream.write_all(&result(1, tag::EXTENDED_RESPONSE, 0, "")).await else { return };
            }
            if let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
                let answer = |r: &Request| {
                    r.is_for_users.then(|| vec![Step::Send([user(r.id, 1), page_end(r.id, b"")].concat())])
                };
                converse(stream, answer, Some(recorder)).await;
            }
        }
    })
    .await;
    (address.port(), heard)
}

#[tokio::test]
async fn certificates_are_checked_and_the_reason_is_precise() {
    for start_tls in [false, true] {
        for (flaw, expected, part) in [
            (Flaw::None, None, ""),
            (Flaw::SelfSignedAndPinned, None, ""),
            (Flaw::Expired, Some(FailureKind::CertificateExpired), "it expired on 2002-01-01"),
            (Flaw::NotYetValid, Some(FailureKind::CertificateExpired), "it is not valid before 3001-01-01"),
            (
                Flaw::OtherName,
                Some(FailureKind::CertificateName),
                "it is for elsewhere.example, 127.0.0.2, not for localhost",
            ),
            (Flaw::SelfSigned, Some(FailureKind::CertificateUntrusted), "it is self-signed"),
        ] {
            let certificates = certificates(flaw);
            let (port, heard) = tls_server(certificates.config, start_tls).await;
            let scheme = if start_tls { "ldap" } else { "ldaps" };
            let settings = Settings {
                servers: vec![format!("{scheme}://localhost:{port}")],
                start_tls,
                accept_plaintext: false,
                ca_pem: Some(certificates.ca_pem),
                ..plain(&[])
            };
            assert_eq!(settings.check(), [], "{flaw:?}");
            let (end, observed) = read(&open(settings.clone())).await;
            let report = open(settings).probe().await;
            let tls = report.steps.iter().find(|step| step.step == "tls").expect("a step");
            match (end, expected) {
                (Ok(_), None) => {
                    assert_eq!(identities(&observed).len(), 1);
                    assert!(heard.has(PASSWORD), "the bind came through TLS");
                    assert!(tls.message.contains("CN=Test server"), "{}", tls.message);
                }
                (Err(failure), Some(kind)) => {
                    assert_eq!(failure.kind, kind, "{flaw:?}: {failure:?}");
                    assert!(failure.message.contains(part), "{flaw:?}: {}", failure.message);
                    assert!(failure.message.contains("Test server"), "{flaw:?}: {}", failure.message);
                    assert!(heard.is_empty(), "{flaw:?}: nothing was said");
                    assert_eq!(tls.state, StepState::Failed);
                    assert!(tls.message.contains(part) && tls.message.contains("fingerprint"), "{}", tls.message);
                }
                (end, expected) => panic!("{flaw:?}: {end:?} instead of {expected:?}"),
            }
        }
    }
}

#[tokio::test]
async fn an_authority_that_the_system_does_not_know_is_not_trusted() {
    let certificates = certificates(Flaw::None);
    let (port, heard) = tls_server(certificates.config, false).await;
    let settings =
        Settings { servers: vec![format!("ldaps://localhost:{port}")], accept_plaintext: false, ..plain(&[]) };
    assert_eq!(kind_of(settings).await, FailureKind::CertificateUntrusted);
    assert!(heard.is_empty());
}

#[tokio::test]
async fn ldaps_to_a_plain_port_and_plain_to_a_tls_port_are_explained() {
    let (address, heard) = serve(|r| Some(polite(r))).await;
    let settings = Settings {
        servers: vec![format!("ldaps://localhost:{}", address.port())],
        accept_plaintext: false,
        ..plain(&[])
    };
    let failure = read(&open(settings)).await.0.expect_err("no TLS");
    assert!(matches!(failure.kind, FailureKind::Tls | FailureKind::TimedOut), "{failure:?}");
    assert!(!heard.has(PASSWORD));
    let certificates = certificates(Flaw::None);
    let tls = listen(move |stream: TcpStream| {
        let config = Arc::clone(&certificates.config);
        async move {
            let _ = tokio_rustls::TlsAcceptor::from(config).accept(stream).await;
        }
    })
    .await;
    let failure = read(&open(plain(&[tls]))).await.0.expect_err("no LDAP");
    assert!(matches!(failure.kind, FailureKind::ProtocolViolation | FailureKind::ConnectionLost), "{failure:?}");
}

#[tokio::test]
async fn a_reading_that_nobody_wants_any_more_stops() {
    let (settings, _) = users_answered(|r| {
        let mut bytes: Vec<u8> = (0..500).flat_map(|number| user(r.id, number)).collect();
        bytes.extend(page_end(r.id, format!("{}", r.id).as_bytes()));
        vec![Step::Send(bytes)]
    })
    .await;
    let (sender, mut receiver) = mpsc::channel(1);
    let directory = open(settings);
    let reading = directory.read_full(sender);
    let cancelling = async {
        let _ = receiver.recv().await;
        drop(receiver);
    };
    let (end, ()) = tokio::join!(reading, cancelling);
    assert_eq!(end.expect_err("cancelled").kind, FailureKind::Cancelled);
}

#[tokio::test]
async fn an_odd_entry_is_set_aside_and_the_rest_is_read() {
    let (settings, _) = users_answered(|r| {
        let uuid: &[&[u8]] = &[b"00000000-0000-0000-0000-00000000000A"];
        vec![Step::Send(
            [
                fake::entry(r.id, "uid=no-id,dc=x", &[("uid", &[b"no-id"])]),
                fake::entry(r.id, "uid=bad-id,dc=x", &[("entryUUID", &[b"nonsense"])]),
                fake::entry(r.id, "not a dn", &[("entryUUID", uuid)]),
                fake::entry(r.id, "", &[("entryUUID", uuid)]),
                user(r.id, 1),
                page_end(r.id, b""),
            ]
            .concat(),
        )]
    })
    .await;
    let (end, observed) = read(&open(settings)).await;
    end.expect("the run goes on");
    let reasons: Vec<_> = observed
        .iter()
        .filter_map(|one| {
            if let Observed::Unreadable(seen) = one { Some(format!("{}: {}", seen.name, seen.reason)) } else { None }
        })
        .collect();
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    assert_eq!(identities(&observed).len(), 1);
}
