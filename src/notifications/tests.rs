//! The queue and the settings on a clock that stands still, and the mail as it leaves.

use lettre::Message;
use rusqlite::Connection;

use super::{
    TestMail, actions, enqueue, link,
    mails::{Invitation, PasswordReset},
    model::{self, Mail, Security, Server, ServerInput, Waiting},
    notify, queries, smtp,
};
use crate::{
    clock::{DAY, HOUR, MINUTE, SECOND, Time},
    config::{Config, Layer},
    db::Db,
    error::Error,
    secret::{MasterKey, Secret},
};

fn now() -> Time {
    Time::parse("2026-03-03T09:00:00Z").expect("a time")
}

fn server() -> Server {
    Server {
        host: "smtp.example.com".into(),
        port: 587,
        security: Security::StartTls,
        user_name: String::new(),
        from_address: "bailiwick@example.com".into(),
        from_name: "Bailiwick".into(),
        reply_to: String::new(),
        ca_pem: String::new(),
    }
}

/// A database; with a mail server or without.
fn with<T>(server: Option<Server>, f: impl FnOnce(&Connection, &MasterKey) -> T + Send + 'static) -> T
where
    T: Send + 'static,
{
    let dir = tempfile::tempdir().expect("a folder");
    let db = Db::open(&Db::file(dir.path()), true).expect("a database");
    let key = MasterKey::create(&dir.path().join("master.key")).expect("a key");
    db.write_blocking(move |c| {
        if let Some(server) = server {
            queries::set_server(c, &server, None, now())?;
        }
        Ok(f(c, &key))
    })
    .expect("written")
}

fn config(base_url: Option<&str>) -> Config {
    Layer { base_url: base_url.map(str::to_owned), ..Layer::default() }.finish().expect("a configuration")
}

fn notice() -> Mail {
    TestMail { by: "Ida", at: now() }.mail("ida@acme.example", "en").expect("a mail")
}

fn secret_mail(connection: &Connection) -> Mail {
    let link = link(connection, &config(Some("https://b.example")), "/password-reset?token=topsecret").expect("a link");
    let address = [192, 0, 2, 7].into();
    PasswordReset { link: &link, asked_at: now(), address }.mail("ida@acme.example", "en").expect("a mail")
}

fn failed(connection: &Connection, key: &MasterKey) -> Waiting {
    queries::list_failed(connection, key, 9).expect("a list").pop().expect("a failed mail")
}

fn holds_secret(connection: &Connection) -> bool {
    let sql = "SELECT EXISTS (SELECT 1 FROM mail_outbox WHERE content IS NOT NULL)";
    connection.query_row(sql, [], |row| row.get(0)).expect("counted")
}

/// Begins the one mail that is due.
fn begin_due(c: &Connection, at: Time) -> String {
    let due = queries::due(c, at, 9).expect("due");
    assert_eq!(due.len(), 1, "one is due at {at}");
    let id = due[0].0.clone();
    queries::begin(c, &id, at, at.plus(MINUTE)).expect("begun").expect("it waits");
    id
}

#[test]
fn what_was_sent_keeps_nothing_of_what_it_said() {
    with(Some(server()), |c, key| {
        enqueue(c, key, secret_mail(c), now()).expect("queued");
        assert!(holds_secret(c));
        let id = begin_due(c, now());
        assert!(queries::due(c, now(), 9).expect("due").is_empty(), "it is not taken twice");
        queries::set_sent(c, &id, now()).expect("sent");
        assert!(!holds_secret(c));
        assert_eq!(queries::counts(c).expect("counts").sent, 1);
        assert!(matches!(queries::get_unsent(c, key, &id), Err(Error::NotFound(_))), "what was sent is not sent again");
        let kept = |at| super::purge(c, at).expect("purged");
        assert_eq!((kept(now().plus(29 * DAY)), kept(now().plus(31 * DAY))), (0, 1));
    });
}

#[test]
fn a_mail_that_was_begun_and_not_ended_is_due_again() {
    with(Some(server()), |c, key| {
        enqueue(c, key, notice(), now()).expect("queued");
        let id = begin_due(c, now());
        assert_eq!(begin_due(c, now().plus(MINUTE)), id);
        assert_eq!(queries::get_unsent(c, key, &id).expect("it waits").attempts, 2);
    });
}

#[test]
fn a_mail_is_given_up_after_a_day_and_can_be_tried_again_if_no_secret_was_in_it() {
    with(Some(server()), |c, key| {
        enqueue(c, key, notice(), now()).expect("queued");
        let id = begin_due(c, now());
        queries::set_later(c, &id, now().plus(HOUR), "mail.example said: 450 later.", "Wait.").expect("later");
        assert!(!queries::has_hopeless(c, now().plus(DAY - 1)).expect("asked"));
        assert!(queries::has_hopeless(c, now().plus(DAY)).expect("asked"));
        assert_eq!(queries::give_up(c, now().plus(DAY)).expect("given up"), 1);
        let mail = failed(c, key);
        assert_eq!(mail.error, "It could not be sent within a day. mail.example said: 450 later.");
        assert!(mail.can_retry);
        queries::requeue(c, &id, now().plus(2 * DAY), now().plus(3 * DAY)).expect("queued again");
        assert_eq!(begin_due(c, now().plus(2 * DAY)), id);
    });
}

#[test]
fn a_secret_is_given_up_when_it_expires_and_deleted_with_that() {
    with(Some(server()), |c, key| {
        enqueue(c, key, secret_mail(c), now()).expect("queued");
        assert_eq!(queries::give_up(c, now().plus(30 * MINUTE - 1)).expect("asked"), 0);
        assert_eq!(queries::give_up(c, now().plus(30 * MINUTE)).expect("given up"), 1);
        assert_eq!(failed(c, key).error, "It could not be sent before what it says expired.");
        assert!(!failed(c, key).can_retry && !holds_secret(c));
        enqueue(c, key, secret_mail(c), now()).expect("queued");
        let id = begin_due(c, now());
        queries::set_failed(c, &id, now(), "550 no.", "Check the address.").expect("failed");
        assert!(!holds_secret(c), "what was refused for good is deleted too");
    });
}

#[test]
fn a_full_queue_refuses_and_a_notice_is_then_left_out() {
    with(Some(server()), |c, key| {
        let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                    INSERT INTO mail_outbox (id, kind, recipient, content, has_secret, state, created_at, due_at, give_up_at)
                    SELECT 'm' || i, 'test', x'01', x'01', 0, 'queued', 1, 1, 1 FROM n";
        c.execute(fill, [actions::QUEUE_MAX - 1]).expect("filled");
        enqueue(c, key, notice(), now()).expect("the last place");
        assert!(matches!(enqueue(c, key, notice(), now()), Err(Error::Unavailable { .. })));
        assert!(!notify(c, key, Ok(notice()), now()).expect("no error"));
    });
}

#[test]
fn without_a_server_or_an_address_the_refusal_says_what_to_do() {
    with(None, |c, key| {
        assert!(!super::is_configured(c).expect("asked"));
        assert!(matches!(enqueue(c, key, notice(), now()), Err(Error::Conflict(why)) if why.contains("mail server")));
        assert!(!notify(c, key, Ok(notice()), now()).expect("no error"));
        let refused = link(c, &config(None), "/x").expect_err("no address");
        assert_eq!(refused.to_string(), super::NO_BASE_URL);
        queries::set_address(c, Some("https://stored.example:8443"), now()).expect("set");
        let whole = |config: Config| link(c, &config, "/x?y=1").expect("a link").as_str().to_owned();
        assert_eq!(whole(config(None)), "https://stored.example:8443/x?y=1");
        assert_eq!(whole(config(Some("https://configured.example/"))), "https://configured.example/x?y=1");
        for path in ["x", "//evil.example", "/x\r\nBcc: y", "/é", "https://evil.example", "/x y", ""] {
            assert!(link(c, &config(None), path).is_err(), "{path:?}");
        }
    });
}

#[test]
fn the_queries_of_the_queue_use_its_indexes() {
    with(None, |c, _| {
        for (sql, index) in [
            ("SELECT id FROM mail_outbox WHERE state = 'queued' AND due_at <= 1 ORDER BY due_at LIMIT 9", "mail_due"),
            ("SELECT 1 FROM mail_outbox WHERE state = 'queued' AND give_up_at <= 1", "mail_given_up"),
            ("SELECT id FROM mail_outbox WHERE state = 'failed' ORDER BY ended_at DESC LIMIT 9", "mail_failed"),
            ("DELETE FROM mail_outbox INDEXED BY mail_ended WHERE state <> 'queued' AND ended_at < 1", "mail_ended"),
        ] {
            let mut statement = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a plan");
            let plan: Vec<String> =
                statement.query_map([], |row| row.get(3)).expect("rows").collect::<Result<_, _>>().expect("text");
            let plan = plan.join("; ");
            assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
        }
    });
}

#[test]
fn an_address_of_the_console_has_scheme_host_and_port_only() {
    let read = |text: &str| model::check_base_url(text).unwrap_or_else(|_| "refused".into());
    for (text, expected) in [
        ("https://bailiwick.example.com", "https://bailiwick.example.com"),
        (" https://Bailiwick.example.com:8443/ ", "https://bailiwick.example.com:8443"),
        ("https://bailiwick.example.com:443", "https://bailiwick.example.com"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost", "http://localhost"),
        ("http://bailiwick.example.com", "refused"),
        ("http://localhost.evil.example", "refused"),
        ("https://user:pw@bailiwick.example.com", "refused"),
        ("https://bailiwick.example.com/console", "refused"),
        ("https://bailiwick.example.com/?x", "refused"),
        ("https://bailiwick.example.com/#x", "refused"),
        ("javascript:alert(1)", "refused"),
        ("bailiwick.example.com", "refused"),
        ("https://", "refused"),
        ("ftp://bailiwick.example.com", "refused"),
    ] {
        assert_eq!(read(text), expected, "{text}");
    }
}

fn input() -> ServerInput {
    ServerInput {
        host: "smtp.example.com".into(),
        security: "starttls".into(),
        from_address: "bailiwick@example.com".into(),
        ..ServerInput::default()
    }
}

/// Which fields are wrong.
fn wrong(change: impl FnOnce(&mut ServerInput), before: Option<&Server>) -> Vec<String> {
    let mut input = input();
    change(&mut input);
    match model::check(&input, before) {
        Ok(_) => Vec::new(),
        Err(fields) => fields.into_iter().map(|error| error.field).collect(),
    }
}

#[test]
fn settings_are_checked_field_by_field() {
    type Change = fn(&mut ServerInput);
    let cases: [(Change, &[&str]); 18] = [
        (|_| (), &[]),
        (|i| i.host = String::new(), &["host"]),
        (|i| i.host = "https://smtp.example.com".into(), &["host"]),
        (|i| i.host = "smtp.example.com:587".into(), &["host"]),
        (|i| i.host = "smtp.example.com\r\nx".into(), &["host"]),
        (|i| i.host = "[2001:db8::1]".into(), &[]),
        (|i| i.port = "0".into(), &["port"]),
        (|i| i.port = "65536".into(), &["port"]),
        (|i| i.security = "opportunistic".into(), &["security"]),
        (|i| i.security = "none".into(), &["acceptPlaintext"]),
        (|i| i.from_address = "bailiwick@example.com\r\nBcc: x@evil.example".into(), &["fromAddress"]),
        (|i| i.from_name = "Bailiwick\r\nBcc: x@evil.example".into(), &["fromName"]),
        (|i| i.reply_to = "nobody".into(), &["replyTo"]),
        (|i| i.ca_pem = "nonsense".into(), &["caPem"]),
        (|i| i.user_name = "ida".into(), &["password"]),
        (|i| i.password = Secret::new("hunter2".into()), &["userName"]),
        (|i| (i.user_name, i.password) = ("ida".into(), Secret::new("a\r\nb".into())), &["password"]),
        (|i| (i.user_name, i.password) = ("ida".into(), Secret::new("hunter2".into())), &[]),
    ];
    for (at, (change, expected)) in cases.into_iter().enumerate() {
        assert_eq!(wrong(change, None), expected, "case {at}");
    }
    let ports = ["starttls", "tls", "none"].map(|security| {
        let input = ServerInput { security: security.into(), accept_plaintext: "on".into(), ..input() };
        model::check(&input, None).map(|(server, _)| server.port).unwrap_or_default()
    });
    assert_eq!(ports, [587, 465, 25]);
}

#[test]
fn a_stored_password_stays_with_the_server_it_was_given_for() {
    let stored = Server { user_name: "ida".into(), ..server() };
    let before = Some(&stored);
    let same = |input: &mut ServerInput| input.user_name = "ida".into();
    assert_eq!(wrong(same, before), [""; 0], "empty keeps it");
    type Change = fn(&mut ServerInput);
    let elsewhere: [Change; 5] = [
        |i| i.host = "smtp.evil.example".into(),
        |i| i.port = "2525".into(),
        |i| i.security = "tls".into(),
        |i| (i.security, i.accept_plaintext) = ("none".into(), "on".into()),
        |i| i.user_name = "eve".into(),
    ];
    for (at, change) in elsewhere.into_iter().enumerate() {
        let fields = wrong(
            |input| {
                same(input);
                change(input);
            },
            before,
        );
        assert_eq!(fields, ["password"], "case {at}");
    }
    assert_eq!(wrong(|_| (), before), [""; 0], "without a user name it is removed");
}

fn formatted(server: &Server, mail: &Mail) -> String {
    let message: Message = smtp::message(server, mail, "0190-id", now()).expect("a message");
    String::from_utf8(message.formatted()).expect("ASCII")
}

#[test]
fn a_hostile_name_adds_no_header() {
    with(None, |c, _| {
        let link = link(c, &config(Some("https://b.example")), "/x").expect("a link");
        let name = "Eve\r\nBcc: all@evil.example\r\n\r\nBuy now";
        let invitation = Invitation { account: name, inviter: name, role: name, link: &link, expires_at: now() };
        let mail = invitation.mail("ida@acme.example", "en").expect("a mail");
        // As if the settings' own check had been passed by.
        let server = Server { from_name: name.into(), ..server() };
        let raw = formatted(&server, &mail);
        let head = raw.split("\r\n\r\n").next().expect("a header");
        let starts: Vec<&str> = head
            .lines()
            .filter(|line| !line.starts_with([' ', '\t']))
            .filter_map(|line| line.split(':').next())
            .collect();
        assert!(!starts.contains(&"Bcc"), "{head}");
        for once in ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type"] {
            assert_eq!(starts.iter().filter(|name| **name == once).count(), 1, "{once} in {head}");
        }
        assert!(raw.is_ascii() && raw.lines().all(|line| line.len() <= 998), "RFC 5322 §2.1.1");
    });
}

#[test]
fn a_mail_is_the_same_at_every_try() {
    let mail = notice();
    let raw = formatted(&server(), &mail);
    assert!(raw.contains("Message-ID: <0190-id@example.com>\r\n"), "{raw}");
    assert!(raw.contains("Date: Tue, 03 Mar 2026 09:00:00 +0000\r\n"), "{raw}");
    assert!(raw.contains("To: ida@acme.example\r\n") && raw.contains("Auto-Submitted: auto-generated\r\n"), "{raw}");
    for name in ["Übersicht 日本", "\"Ida\" \\ <x@evil.example>", "a, b; c:", "(", "\u{1f600}".repeat(90).as_str(), ""]
    {
        let raw = formatted(&Server { from_name: name.into(), ..server() }, &mail);
        let from = raw.lines().find(|line| line.starts_with("From:")).expect("a sender");
        assert!(raw.is_ascii() && (!name.is_empty() || from == "From: bailiwick@example.com"), "{name}: {from}");
    }
    let with_answers = Server { reply_to: "help@example.com".into(), ..server() };
    assert!(formatted(&with_answers, &mail).contains("Reply-To: help@example.com\r\n"));
}

#[test]
fn waits_are_shorter_than_what_a_password_reset_lives() {
    // Three tries at least fit into its half an hour.
    let tries: i64 = [15, 60, 300].iter().sum();
    assert!(tries * SECOND < PasswordReset::LIFETIME_US);
}
