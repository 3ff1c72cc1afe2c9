//! Mail over real sockets: encryption that is demanded, refusals that are explained, and a queue that loses nothing.

use bailiwick::{
    clock::{DAY, HOUR, MINUTE},
    notifications::{self, Invitation, Mail, TestMail},
};
use rusqlite::Connection;

use crate::{
    fixtures::smtp::{Encryption, Options, Sink},
    rooms::{Browser, EMAIL, TestApp, attribute, text},
};

const PASSWORD: &str = "seventeen-purple-herons";
pub(super) const USER: (&str, &str) = ("mailer", PASSWORD);

fn field<'a>(fields: &mut Vec<(&'a str, String)>, name: &'a str, value: impl Into<String>) {
    fields.retain(|(known, _)| *known != name);
    fields.push((name, value.into()));
}

/// Saves the settings for a server, its authority included; `change` has the last word.
pub(super) async fn set_up(browser: &mut Browser, sink: &Sink, change: impl FnOnce(&mut Vec<(&'static str, String)>)) {
    let mut fields = vec![
        ("host", "localhost".to_owned()),
        ("port", sink.port.to_string()),
        ("security", "starttls".to_owned()),
        ("userName", USER.0.to_owned()),
        ("password", USER.1.to_owned()),
        ("fromAddress", "bailiwick@acme.example".to_owned()),
        ("fromName", "Bailiwick".to_owned()),
        ("caPem", sink.ca_pem.clone()),
    ];
    change(&mut fields);
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = browser.post("/settings/mail", &fields).await;
    assert_eq!(answer.status(), 303, "{}", answer.text().await.unwrap_or_default());
}

/// Sends a test mail; answers the page.
async fn test(browser: &mut Browser) -> String {
    let answer = browser.post("/settings/mail/test", &[("to", EMAIL)]).await;
    assert_eq!(answer.status(), 200);
    answer.text().await.expect("a page")
}

/// Each step's state, in the order shown.
fn states(page: &str) -> Vec<String> {
    let html = scraper::Html::parse_document(page);
    let selector = scraper::Selector::parse(".steps li").expect("a selector");
    html.select(&selector).filter_map(|li| li.value().attr("data-state")).map(str::to_owned).collect()
}

/// Runs what waits for the server on a thread that may block, while the appliance works.
pub(super) async fn off<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(f).await.expect("no panic")
}

/// Queues mails as a room does.
async fn queue(app: &TestApp, write: impl FnOnce(&Connection) -> Mail + Send + 'static) {
    let now = app.app.kernel.clock.now();
    let key = app.app.kernel.key.clone();
    let queued = app.app.kernel.db.write(move |c| notifications::enqueue(c, &key, write(c), now));
    queued.await.expect("queued");
}

fn notice(to: &'static str, app: &TestApp) -> impl FnOnce(&Connection) -> Mail + Send + 'static {
    let at = app.app.kernel.clock.now();
    move |_| TestMail { by: "Ida Marlow", at }.mail(to, "en").expect("a mail")
}

/// Waits until a query counts this many.
async fn wait_for_count(app: &TestApp, sql: &str, count: i64) {
    for _ in 0..600 {
        if app.count(sql) == count {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("{sql} is {}, not {count}", app.count(sql));
}

#[tokio::test]
async fn a_test_mail_goes_step_by_step_over_each_encryption_and_sign_in() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    for (encryption, security, user, login_only) in [
        (Encryption::StartTls, "starttls", Some(USER), false),
        (Encryption::Tls, "tls", Some(USER), true),
        (Encryption::None, "none", None, false),
    ] {
        let sink = Sink::start(Options { encryption, user, login_only, ..Options::default() });
        set_up(&mut owner, &sink, |fields| {
            field(fields, "security", security);
            if user.is_none() {
                field(fields, "acceptPlaintext", "on");
                field(fields, "userName", "");
                field(fields, "password", "");
            }
        })
        .await;
        let page = test(&mut owner).await;
        let expected = match user {
            Some(_) => ["ok"; 8],
            None => ["ok", "ok", "warning", "ok", "skipped", "ok", "ok", "ok"],
        };
        assert_eq!(states(&page), expected, "{security}: {page}");
        if user.is_some() {
            assert!(page.contains("CN=Mail test server") && page.contains("expires"), "{page}");
        }
        let mails = sink.mails();
        assert_eq!(mails.len(), 1, "{security}");
        let mail = &mails[0];
        assert_eq!((mail.from.as_str(), mail.to.as_slice()), ("bailiwick@acme.example", &[EMAIL.to_owned()][..]));
        assert_eq!(mail.header("From").as_deref(), Some("Bailiwick <bailiwick@acme.example>"));
        assert_eq!(mail.header("Auto-Submitted").as_deref(), Some("auto-generated"));
        assert!(mail.text().contains("Mails of Bailiwick arrive here.\n"), "{}", mail.text());
        assert!(mail.part("text/html").contains("<h1>Test mail from Bailiwick</h1>"));
    }
    assert_eq!(app.audited("audit.mail_server_tested.v1").len(), 3);
}

#[tokio::test]
async fn stripped_starttls_ends_before_anything_is_sent() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    let sink = Sink::start(Options { encryption: Encryption::None, user: Some(USER), ..Options::default() });
    set_up(&mut owner, &sink, |_| ()).await;
    let page = test(&mut owner).await;
    assert!(
        text(&page, ".steps li[data-state=failed]").contains("does not offer STARTTLS, so nothing was sent"),
        "{page}"
    );
    assert_eq!(states(&page), ["ok", "ok", "failed", "skipped", "skipped", "skipped", "skipped", "skipped"]);
    queue(&app, notice("ida@acme.example", &app)).await;
    wait_for_count(&app, "SELECT count(*) FROM mail_outbox WHERE error LIKE '%STARTTLS%'", 1).await;
    let said = sink.said();
    assert!(said.iter().all(|line| line == "(connected)" || line.starts_with("EHLO ")), "{said:?}");
}

#[tokio::test]
async fn what_is_said_in_the_clear_does_not_count_after_the_encryption() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    let injected = "\r\n250-localhost\r\n250 AUTH PLAIN";
    let sink = Sink::start(Options { user: Some(USER), injected, ..Options::default() });
    set_up(&mut owner, &sink, |_| ()).await;
    let page = test(&mut owner).await;
    assert!(text(&page, ".steps li[data-state=failed]").contains("more than it was asked"), "{page}");
    assert!(!sink.said().iter().any(|line| line.starts_with("AUTH")), "{:?}", sink.said());
}

#[tokio::test]
async fn a_wrong_certificate_is_refused_and_explained() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    let elsewhere =
        Sink::start(Options { certificate_name: Some("other.example"), user: Some(USER), ..Options::default() });
    set_up(&mut owner, &elsewhere, |_| ()).await;
    let page = test(&mut owner).await;
    assert!(
        text(&page, ".steps li[data-state=failed]").contains("it is for other.example, not for localhost"),
        "{page}"
    );
    let unknown = Sink::start(Options { encryption: Encryption::Tls, user: Some(USER), ..Options::default() });
    set_up(&mut owner, &unknown, |fields| {
        field(fields, "security", "tls");
        field(fields, "caPem", elsewhere.ca_pem.clone());
    })
    .await;
    let page = test(&mut owner).await;
    let failed = text(&page, ".steps li[data-state=failed]");
    assert!(failed.contains("not trusted") && failed.contains("mail settings"), "{page}");
    for sink in [&elsewhere, &unknown] {
        assert!(
            !sink.said().iter().any(|line| line.starts_with("AUTH") || line.starts_with("MAIL")),
            "{:?}",
            sink.said()
        );
    }
    // The wrong kind of encryption for the port.
    set_up(&mut owner, &elsewhere, |fields| field(fields, "security", "tls")).await;
    let page = test(&mut owner).await;
    assert!(text(&page, ".steps li[data-state=failed] .fix").contains("STARTTLS usually port 587"), "{page}");
}

#[tokio::test]
async fn a_wrong_password_is_explained_and_not_repeated() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    for login_only in [false, true] {
        let sink = Sink::start(Options { user: Some(("mailer", "another")), login_only, ..Options::default() });
        set_up(&mut owner, &sink, |_| ()).await;
        let page = test(&mut owner).await;
        let failed = text(&page, ".steps li[data-state=failed]");
        assert!(failed.contains("does not accept this user name and password") && failed.contains("535"), "{page}");
        assert!(!page.contains(PASSWORD), "the server repeats it, the page must not");
        assert!(sink.mails().is_empty());
        queue(&app, notice("ida@acme.example", &app)).await;
        wait_for_count(&app, "SELECT count(*) FROM mail_outbox WHERE error LIKE '%535%'", 1).await;
        assert_eq!(app.count("SELECT count(*) FROM mail_outbox WHERE error LIKE '%herons%'"), 0);
        app.sql("DELETE FROM mail_outbox");
    }
}

#[tokio::test]
async fn a_server_that_talks_nonsense_is_a_failed_step_and_nothing_worse() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    for (greeting, capabilities, expected) in [
        (Some("SSH-2.0-OpenSSH_9.2"), vec![], "no reply of a mail server"),
        (Some("554 5.7.1 go away"), vec![], "554 5.7.1 go away"),
        (None, vec!["   ", "X"], "broke"),
    ] {
        let sink = Sink::start(Options { greeting, capabilities, encryption: Encryption::Tls, ..Options::default() });
        set_up(&mut owner, &sink, |fields| {
            field(fields, "security", "tls");
            field(fields, "userName", "");
            field(fields, "password", "");
        })
        .await;
        let page = test(&mut owner).await;
        assert!(text(&page, ".steps li[data-state=failed]").contains(expected), "{expected}: {page}");
        assert_eq!(states(&page)[3], "failed", "{expected}");
    }
}

#[tokio::test]
async fn come_again_later_is_done_and_never_is_believed() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    let sink = Sink::start(Options { user: Some(USER), ..Options::default() });
    set_up(&mut owner, &sink, |_| ()).await;
    sink.refuse_next("later@acme.example", "450 4.2.0 come again");
    sink.refuse_next("never@acme.example", "550 5.1.1 no such user");
    queue(&app, notice("later@acme.example", &app)).await;
    queue(&app, notice("never@acme.example", &app)).await;
    queue(&app, notice("now@acme.example", &app)).await;
    // One refused mail does not keep the others.
    wait_for_count(&app, "SELECT count(*) FROM mail_outbox WHERE state = 'sent'", 1).await;
    wait_for_count(&app, "SELECT count(*) FROM mail_outbox WHERE state = 'failed'", 1).await;
    let page = owner.page("/settings/mail").await;
    assert!(page.contains("450 4.2.0 come again") && page.contains("550 5.1.1 no such user"), "{page}");
    app.forward(MINUTE);
    wait_for_count(&app, "SELECT count(*) FROM mail_outbox WHERE state = 'sent'", 2).await;
    assert_eq!(sink.mails().len(), 2);
    // Tried again by hand, and taken now.
    let failed = app.count("SELECT count(*) FROM mail_outbox WHERE state = 'failed' AND attempts = 1");
    assert_eq!(failed, 1, "550 is not tried again");
    let page = owner.page("/settings/mail").await;
    let retry = attribute(&page, "table[aria-label='Failed mails'] form[action$='/retry']", "action");
    assert_eq!(owner.post(&retry.expect("a button"), &[]).await.status(), 303);
    wait_for_count(&app, "SELECT count(*) FROM mail_outbox WHERE state = 'sent'", 3).await;
    assert_eq!(sink.mails().last().map(|mail| mail.to.clone()), Some(vec!["never@acme.example".to_owned()]));
    assert_eq!(app.audited("audit.mail_retried.v1")[0]["recipient"], "never@acme.example");
    // One dialogue for the first three.
    let connections = sink.said().iter().filter(|line| *line == "(connected)").count();
    assert!(connections <= 4, "{connections} connections");
}

#[tokio::test]
async fn a_mail_outlives_a_restart_and_its_link_is_that_of_the_settings() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    let sink = Sink::start(Options { user: Some(USER), ..Options::default() });
    let port = sink.port;
    set_up(&mut owner, &sink, |_| ()).await;
    assert_eq!(owner.post("/settings/mail/address", &[("baseUrl", "https://b.acme.example")]).await.status(), 303);
    drop(sink);
    // Nobody is there to take it.
    let (now, config) = (app.app.kernel.clock.now(), app.app.kernel.config.clone());
    queue(&app, move |c| {
        let link = notifications::link(c, &config, "/invitations/accept?token=abcdef").expect("a link");
        let inviter = "Ida\r\nBcc: all@evil.example";
        let mail = Invitation { account: "acme", inviter, role: "Operator", link: &link, expires_at: now.plus(DAY) };
        mail.mail("new@acme.example", "en").expect("a mail")
    })
    .await;
    wait_for_count(&app, "SELECT count(*) FROM mail_outbox WHERE error LIKE '%reached%'", 1).await;
    let app = off(move || app.restart()).await;
    let sink = Sink::start_at(port, Options { user: Some(USER), ..Options::default() });
    // Another authority than the settings know: still nothing.
    app.forward(HOUR);
    wait_for_count(&app, "SELECT count(*) FROM mail_outbox WHERE error LIKE '%not trusted%'", 1).await;
    let mut owner = app.signed_in().await;
    set_up(&mut owner, &sink, |_| ()).await;
    app.forward(HOUR);
    let (sink, mail) = off(move || {
        let mail = sink.wait_for_mail_to("new@acme.example");
        (sink, mail)
    })
    .await;
    assert_eq!(mail.link(), "https://b.acme.example/invitations/accept?token=abcdef");
    assert_eq!((mail.headers("Bcc"), mail.headers("Subject")), (0, 1), "{}", mail.raw);
    assert_eq!(mail.to, ["new@acme.example"]);
    let of_invitation =
        "SELECT count(*) FROM mail_outbox WHERE kind = 'invitation' AND state = 'sent' AND content IS NULL";
    wait_for_count(&app, of_invitation, 1).await;
    let invitations = sink.mails().into_iter().filter(|mail| mail.to == ["new@acme.example"]);
    assert_eq!(invitations.count(), 1);
    app.assert_audit_verifies();
}

#[tokio::test]
async fn a_server_that_wants_a_sign_in_or_no_strangers_says_so_in_the_test() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    let sink = Sink::start(Options { user: Some(USER), ..Options::default() });
    set_up(&mut owner, &sink, |fields| {
        field(fields, "userName", "");
        field(fields, "password", "");
    })
    .await;
    let page = test(&mut owner).await;
    assert!(text(&page, ".steps li[data-state=failed]").contains("wants a sign-in"), "{page}");
    set_up(&mut owner, &sink, |_| ()).await;
    sink.refuse_next(EMAIL, "554 5.7.1 Relay access denied");
    let page = test(&mut owner).await;
    assert!(text(&page, ".steps li[data-state=failed] .fix").contains("allow this machine to relay"), "{page}");
    assert_eq!(states(&page)[6], "failed");
    // And in numbers: what happened stands in the measurements.
    queue(&app, notice("ida@acme.example", &app)).await;
    wait_for_count(&app, "SELECT count(*) FROM mail_outbox WHERE state = 'sent'", 1).await;
    let metrics = owner.page("/metrics").await;
    assert!(metrics.contains("bailiwick_mail_attempts_total{outcome=\"sent\"}"), "{metrics}");
    assert!(metrics.contains("bailiwick_mail_waiting"), "{metrics}");
}
