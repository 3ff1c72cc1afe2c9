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
    Key, Observed, Sighting, Status, StepState, Value,
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
fn mapped(mut page: Page) -> Vec<Observed> {
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
    assert_eq!(identities(&observed).len(), 500, "what was handed on before");

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

/// One user entry, decoded.
fn decode(settings: &Settings, dn: &str, attributes: &[(&str, &[&[u8]])]) -> crate::connectors::ObservedIdentity {
    with_entry(dn, attributes, |entry| mapper(settings).identity(entry)).expect("an identity")
}

fn decode_group(settings: &Settings, dn: &str, attributes: &[(&str, &[&[u8]])]) -> crate::connectors::ObservedGroup {
    with_entry(dn, attributes, |entry| mapper(settings).group(entry)).expect("a group")
}

fn mapper(settings: &Settings) -> Mapper {
    Mapper::new(settings, Policies::default(), 1_780_000_000)
}

fn with_entry<T>(dn: &str, attributes: &[(&str, &[&[u8]])], look: impl FnOnce(&EntryView<'_>) -> T) -> T {
    let frame = fake::entry(1, dn, attributes);
    let envelope = ldap::guard::check_answer(&frame, &Limits::default()).expect("a message");
    look(&EntryView::read(envelope.body).expect("an entry"))
}

const UUID: (&str, &[&[u8]]) = ("entryUUID", &[b"A0000000-0000-0000-0000-00000000000B"]);

#[test]
fn a_person_is_mapped_with_the_defaults_of_inet_org_person() {
    let settings = Settings::default();
    let identity = decode(
        &settings,
        r"uid=anna\2B1,ou=People,dc=x",
        &[
            UUID,
            ("objectClass", &[b"inetOrgPerson"]),
            ("uid", &[b"Anna+1"]),
            ("cn", &["Anna Müller".as_bytes(), b"A. M."]),
            ("sn", &["Müller".as_bytes()]),
            ("givenName", &[b"Anna"]),
            ("mail", &[b"anna@x.test", b"a.mueller@x.test"]),
            ("employeeNumber", &[b"42"]),
            ("departmentNumber", &[b"D7"]),
            ("ou", &[b"People"]),
            ("title", &[b"Clerk"]),
            ("manager", &[b"uid=boss,dc=x"]),
            ("userPassword", &[b"{SSHA}abc"]),
            ("userPassword;x-old", &[b"{SSHA}abc"]),
            ("sambaNTPassword", &[b"abc"]),
            ("memberOf", &[b"cn=g,dc=x"]),
            ("userCertificate;binary", &[b"0\x82\x01"]),
            ("jpegPhoto", &[&[0xff; 70_000]]),
            ("description", &[&[b'x'; 70_000]]),
            ("createTimestamp", &[b"20250102030405Z"]),
            ("pwdChangedTime", &[b"20250203040506Z"]),
            ("pwdLastSuccess", &[b"20260203040506.123456Z"]),
            ("authTimestamp", &[b"20250303040506Z"]),
            ("pwdReset", &[b"TRUE"]),
            ("pwdAccountLockedTime", &[b"20250203040506Z"]),
        ],
    );
    let fields = &identity.fields;
    assert_eq!(identity.external_id, "a0000000-0000-0000-0000-00000000000b");
    assert_eq!(identity.keys.dn, Some(Key::of_dn(r"uid=anna\2b1,ou=people,dc=x")));
    assert_eq!(identity.keys.name, Some(Key::of_name("anna+1")));
    assert_eq!(fields.user_name, "Anna+1");
    assert_eq!(fields.display_name.as_deref(), Some("Anna Müller"), "cn when there is no displayName");
    assert_eq!(fields.mail.as_deref(), Some("anna@x.test"));
    assert_eq!(fields.mails, ["anna@x.test", "a.mueller@x.test"]);
    assert_eq!(fields.department.as_deref(), Some("D7"));
    assert_eq!(fields.employee_id.as_deref(), Some("42"));
    assert_eq!(fields.manager.as_deref(), Some("uid=boss,dc=x"));
    assert_eq!(fields.status, Status::Locked);
    assert!(fields.must_change_password);
    assert_eq!(fields.created_at.as_deref(), Some("2025-01-02T03:04:05Z"));
    assert_eq!(fields.password_changed_at.as_deref(), Some("2025-02-03T04:05:06Z"));
    assert_eq!(fields.last_sign_in_at.as_deref(), Some("2026-02-03T04:05:06Z"));
    let kept: Vec<&str> = fields.attributes.keys().map(String::as_str).collect();
    assert_eq!(
        kept,
        [
            "cn",
            "departmentNumber",
            "description",
            "dn",
            "employeeNumber",
            "givenName",
            "jpegPhoto",
            "mail",
            "manager",
            "objectClass",
            "ou",
            "sn",
            "title",
            "uid",
            "userCertificate;binary"
        ],
        "no secret, no memberOf, no operational attribute"
    );
    assert_eq!(fields.attributes["userCertificate;binary"], [Value::Binary { base64: "MIIB".to_owned() }]);
    let descriptor = |name: &str| match fields.attributes[name].as_slice() {
        [Value::Text(text)] => text.clone(),
        other => panic!("{other:?}"),
    };
    assert!(descriptor("jpegPhoto").starts_with("(70000 bytes, SHA-256 "), "{}", descriptor("jpegPhoto"));
    assert!(descriptor("description").starts_with("(70000 bytes, "), "{}", descriptor("description"));
}

#[test]
fn the_mapping_and_the_list_of_attributes_are_followed() {
    let settings = Settings {
        mapping: Mapping {
            user_name: Some("MAIL".to_owned()),
            upn: Some("krbPrincipalName".to_owned()),
            ..Mapping::default()
        },
        attributes: vec!["cn".to_owned(), "entryUUID".to_owned()],
        preset: Preset::GroupOfNames,
        ..Settings::default()
    };
    let asked = Mapper::user_attributes(&settings);
    assert!(asked.contains(&"krbPrincipalName".to_owned()) && !asked.contains(&"*".to_owned()), "{asked:?}");
    let identity = decode(
        &settings,
        "cn=X Y,dc=x",
        &[
            UUID,
            ("cn", &[b"X Y"]),
            ("cn;lang-de", &[b"X Z"]),
            ("mail", &[b"x@y.test"]),
            ("krbPrincipalName", &[b"x@R"]),
            ("sn", &[b"Y"]),
        ],
    );
    assert_eq!(identity.fields.user_name, "x@y.test");
    assert_eq!(identity.fields.upn.as_deref(), Some("x@R"));
    assert_eq!(identity.keys.name, None, "these groups refer by DN only");
    let kept: Vec<&str> = identity.fields.attributes.keys().map(String::as_str).collect();
    assert_eq!(kept, ["cn", "cn;lang-de", "dn", "entryUUID"]);
    let identity = decode(&settings, r"cn=Doe\, J,dc=x", &[UUID]);
    assert_eq!(identity.fields.user_name, "Doe, J", "the RDN's value when the mapped attribute is absent");
}

#[test]
fn members_are_read_in_the_ways_of_all_three_kinds_of_group() {
    let settings = Settings::default();
    let group = decode_group(
        &settings,
        "cn=G,dc=x",
        &[
            UUID,
            ("objectClass", &[b"top", b"groupOfNames"]),
            ("cn", &[b"G"]),
            ("description", &[b"all"]),
            ("member", &[b"uid=a,dc=x", b"UID=B, DC=X", b"uid=b,dc=x", b"", b"garbage"]),
        ],
    );
    assert_eq!(group.fields.name, "G");
    assert_eq!(group.fields.kind.as_deref(), Some("groupOfNames"));
    assert_eq!(group.fields.description.as_deref(), Some("all"));
    assert!(!group.fields.attributes.contains_key("member"));
    let keys: Vec<_> = group.members.iter().map(|member| member.key).collect();
    assert_eq!(keys[..2], [Key::of_dn("uid=a,dc=x"), Key::of_dn("uid=b,dc=x")], "two spellings of one are one");
    assert_eq!(group.members.len(), 3, "the garbage stays visible, the empty placeholder does not");
    assert_eq!(group.members[2].text, "garbage");

    let group = decode_group(
        &Settings { preset: Preset::GroupOfUniqueNames, ..settings.clone() },
        "cn=G,dc=x",
        &[
            UUID,
            ("uniqueMember", &[b"uid=a,dc=x#'0101'B", b"uid=c,dc=x", b"cn=\\#'1'B,dc=x"]),
            ("member", &[b"uid=z,dc=x"]),
        ],
    );
    let keys: Vec<_> = group.members.iter().map(|member| member.key).collect();
    assert_eq!(keys, [Key::of_dn("uid=a,dc=x"), Key::of_dn("uid=c,dc=x"), Key::of_dn("cn=\\23'1'b,dc=x")]);

    let group = decode_group(
        &Settings { preset: Preset::PosixGroup, ..settings },
        "cn=G,dc=x",
        &[UUID, ("objectClass", &[b"posixGroup"]), ("gidNumber", &[b"7"]), ("memberUid", &[b"Anna", b"anna", b"bob"])],
    );
    let keys: Vec<_> = group.members.iter().map(|member| member.key).collect();
    assert_eq!(keys, [Key::of_name("anna"), Key::of_name("bob")]);
}

#[test]
fn an_entry_of_many_large_values_stays_small() {
    let value = vec![b'x'; 60_000];
    let values: Vec<&[u8]> = (0..200).map(|_| value.as_slice()).collect();
    let identity = decode(&Settings::default(), "uid=a,dc=x", &[UUID, ("description", &values)]);
    let bytes: usize = identity.fields.attributes["description"]
        .iter()
        .map(|value| match value {
            Value::Text(text) => text.len(),
            Value::Binary { base64 } => base64.len(),
        })
        .sum();
    assert!(bytes < 600_000, "{bytes}");
    assert_eq!(identity.fields.attributes["description"].len(), 200, "how many there were still shows");
    let values: Vec<&[u8]> = vec![b"a@x.test"; 5000];
    let identity = decode(&Settings::default(), "uid=a,dc=x", &[UUID, ("mail", &values)]);
    assert_eq!(identity.fields.mails.len(), 200);
    assert_eq!(
        identity.fields.attributes["mail"].last(),
        Some(&Value::Text("(4000 more values, not kept)".to_owned()))
    );
}

fn settings_from(json: serde_json::Value) -> Settings {
    serde_json::from_value(json).expect("settings")
}

#[test]
fn good_settings_pass_and_each_bad_one_names_its_field() {
    let ca = certificates(Flaw::None).ca_pem;
    let good = serde_json::json!({
        "servers": ["ldaps://ldap1.example.com", "ldaps://ldap2.example.com:1636"], "caPem": ca, "baseDns": ["dc=example,dc=com"],
        "userFilter": "(objectClass=person)", "groupFilter": "", "preset": "groupOfNames", "scope": "one",
        "mapping": {"userName": "uid", "mail": "mail", "title": ""}, "pageSize": 500, "attributes": ["cn", "mail"]
    });
    assert_eq!(settings_from(good.clone()).check(), []);
    assert_eq!(settings_from(good.clone()).group_filter(), "(objectClass=groupOfNames)", "an empty text is no filter");
    let long_base = format!("ou={},dc=x", "x".repeat(2000));
    for (field, change) in [
        ("servers", serde_json::json!({"servers": []})),
        ("servers", serde_json::json!({"servers": ["http://x"]})),
        ("servers", serde_json::json!({"servers": ["ldaps://x", "LDAPS://X:636"]})),
        ("servers", serde_json::json!({"servers": vec!["ldaps://x"; 11]})),
        ("servers", serde_json::json!({"servers": ["ldaps://x\u{0}"]})),
        ("acceptPlaintext", serde_json::json!({"servers": ["ldap://x"]})),
        ("startTls", serde_json::json!({"startTls": true})),
        ("baseDns", serde_json::json!({"baseDns": []})),
        ("baseDns", serde_json::json!({"baseDns": ["example.com"]})),
        ("baseDns", serde_json::json!({"baseDns": [""]})),
        ("baseDns", serde_json::json!({"baseDns": ["dc=x\u{0}"]})),
        ("baseDns", serde_json::json!({"baseDns": [long_base]})),
        ("userBaseDns", serde_json::json!({"userBaseDns": ["x"]})),
        ("userFilter", serde_json::json!({"userFilter": "(uid=*"})),
        ("userFilter", serde_json::json!({"userFilter": "(uid=*)(|(uid=*))"})),
        ("groupFilter", serde_json::json!({"groupFilter": "cn=x"})),
        ("caPem", serde_json::json!({"caPem": "hello"})),
        ("caPem", serde_json::json!({"caPem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"})),
        ("caPem", serde_json::json!({"caPem": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"})),
        ("caPem", serde_json::json!({"caPem": "x".repeat(300_000)})),
        ("mapping.mail", serde_json::json!({"mapping": {"mail": "e mail"}})),
        ("pageSize", serde_json::json!({"pageSize": 10_001})),
        ("attributes", serde_json::json!({"attributes": ["a b"]})),
        ("attributes", serde_json::json!({"attributes": ["userPassword"]})),
        ("attributes", serde_json::json!({"attributes": vec!["cn"; 201]})),
    ] {
        let mut bad = good.clone();
        for (key, value) in change.as_object().expect("an object") {
            bad[key] = value.clone();
        }
        let errors = settings_from(bad).check();
        assert!(errors.iter().any(|error| error.field == field), "{change}: {errors:?}");
        assert!(errors.iter().all(|error| error.message.ends_with('.') && !error.message.contains('\0')), "{errors:?}");
    }
    for unknown in [
        serde_json::json!({"server": []}),
        serde_json::json!({"mapping": {"phone": "x"}}),
        serde_json::json!({"preset": "ad"}),
    ] {
        assert!(serde_json::from_value::<Settings>(unknown.clone()).is_err(), "{unknown}");
    }
    let plain =
        settings_from(serde_json::json!({"servers": ["ldap://x"], "acceptPlaintext": true, "baseDns": ["dc=x"]}));
    assert_eq!((plain.check(), plain.warnings().len()), (Vec::new(), 1));
    let start_tls = settings_from(serde_json::json!({"servers": ["ldap://x"], "startTls": true, "baseDns": ["dc=x"]}));
    assert_eq!((start_tls.check(), start_tls.warnings().len()), (Vec::new(), 0));
}

#[test]
fn settings_read_back_as_they_were_written() {
    let settings = settings_from(serde_json::json!({
        "servers": ["ldaps://x"], "baseDns": ["dc=x"], "mapping": {"employeeId": "employeeNumber"}, "preset": "posixGroup"
    }));
    let text = serde_json::to_string(&settings).expect("text");
    assert_eq!(serde_json::from_str::<Settings>(&text).expect("settings"), settings);
}

#[test]
fn no_entry_is_read_twice_because_bases_overlap() {
    let bases = |list: &[&str], scope| {
        Settings { base_dns: list.iter().map(|&base| base.to_owned()).collect(), scope, ..Settings::default() }
            .user_bases()
    };
    assert_eq!(bases(&["ou=people,dc=x", "dc=x", "DC=X"], Scope::Sub), ["dc=x"]);
    assert_eq!(bases(&["ou=people,dc=x", "dc=x"], Scope::One), ["ou=people,dc=x", "dc=x"]);
    assert_eq!(bases(&["ou=a,dc=x", "ou=b,dc=x"], Scope::Sub), ["ou=a,dc=x", "ou=b,dc=x"]);
}

#[test]
fn secrets_are_known_by_name() {
    for name in [
        "userPassword",
        "USERPASSWORD;x-y",
        "sambaLMPassword",
        "krbPrincipalKey",
        "pwdHistory",
        "unicodePwd",
        "authPassword",
        "radiusSecret",
    ] {
        assert!(mapping::is_secret(name), "{name}");
    }
    for name in ["uid", "pwdChangedTime", "sambaPwdLastSet", "mail", "passwordExpirationTime"] {
        assert!(!mapping::is_secret(name), "{name}");
    }
}

/// What the first look says of a user entry.
fn source_of(settings: &Settings, now_second: i64, attributes: &[(&str, &[&[u8]])]) -> crate::connectors::Source {
    let policies = Policies { default_max_age_s: Some(86_400), ..Policies::default() };
    let frame = fake::entry(1, "uid=a,dc=x", attributes);
    let body = ldap::guard::check_answer(&frame, &Limits::default()).expect("a message").body;
    let mut glance = scan::Glance::default();
    for (name, values) in EntryView::read(body).expect("an entry").attributes() {
        glance.attribute(name, values);
    }
    match Scanner::new(settings, policies, now_second).sighting(Subject::Identity, body, &glance) {
        Sighting::Identity { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_source_changes_with_the_entry_the_mapping_and_a_status_that_time_changes() {
    let settings = Settings::default();
    let changed_at = policy::unix_second("20260601000000Z").expect("a time");
    let entry: [(&str, &[&[u8]]); 3] = [UUID, ("cn", &[b"A"]), ("pwdChangedTime", &[b"20260601000000Z"])];
    let before = source_of(&settings, changed_at, &entry);
    assert_eq!(source_of(&settings, changed_at + 86_399, &entry), before, "time alone changes nothing");
    assert_ne!(source_of(&settings, changed_at + 86_400, &entry), before, "the password has expired");
    let other: [(&str, &[&[u8]]); 3] = [UUID, ("cn", &[b"B"]), entry[2]];
    assert_ne!(source_of(&settings, changed_at, &other), before);
    let mapping = Mapping { title: Some("ou".to_owned()), ..Mapping::default() };
    assert_ne!(source_of(&Settings { mapping, ..Settings::default() }, changed_at, &entry), before);
    let attributes = vec!["cn".to_owned()];
    assert_ne!(source_of(&Settings { attributes, ..Settings::default() }, changed_at, &entry), before);
    let page_size = Some(7);
    assert_eq!(source_of(&Settings { page_size, ..Settings::default() }, changed_at, &entry), before);
}
