//! The mail settings in a browser: set up, tested, with a queue; and the mails themselves as a mail program shows them.

use std::time::Duration;

use bailiwick::{
    clock::DAY,
    notifications::{self, Invitation, PasswordReset, TestMail},
};

use super::{console::VIEWS, driver::Browser, page_rules};
use crate::{
    fixtures::smtp::{Options, Sink},
    rooms::{EMAIL, PASSWORD, TestApp},
};

async fn look(browser: &Browser, path: &str, page: &str, faults: &mut Vec<String>) {
    for (width_px, is_dark) in VIEWS {
        browser.resize(width_px, 900).await;
        browser.prefer_dark(is_dark).await;
        if !path.is_empty() {
            browser.goto(path).await;
        }
        let view = format!("{page}-{width_px}-{}", if is_dark { "dark" } else { "light" });
        browser.screenshot(&view).await;
        faults.extend(page_rules::faults(browser).await.into_iter().map(|fault| format!("{view}: {fault}")));
    }
}

/// Presses a form's button and waits for what is to stand on the next page.
async fn press(browser: &Browser, form: &str, then: &str) {
    browser.script("document.querySelectorAll('.notice--success, .error, .steps').forEach(e => e.remove())").await;
    browser.find(&format!("form[action='{form}'] .form__actions button")).await.click().await;
    browser.wait_until(&format!("document.querySelector('{then}') !== null"), Duration::from_secs(20)).await;
}

#[tokio::test]
async fn mail_is_set_up_and_tested_in_the_console_and_its_queue_is_seen() {
    let app = TestApp::start();
    let sink = Sink::start(Options { user: Some(("mailer", "herons")), ..Options::default() });
    let browser = Browser::start().await;
    let mut faults = Vec::new();
    let at = |path: &str| format!("{}{path}", app.base);
    browser.goto(&at("/sign-in")).await;
    browser.find("input[name=email]").await.enter(EMAIL).await;
    browser.find("input[name=password]").await.enter(PASSWORD).await;
    browser.find("main form button").await.click().await;
    browser.wait_for_path("/").await;

    browser.goto(&at("/settings/mail")).await;
    browser.find("#baseUrl").await.enter("https://bailiwick.acme.example").await;
    press(&browser, "/settings/mail/address", ".notice--success").await;
    browser.find("#host").await.enter("localhost").await;
    browser.find("#port").await.enter(&sink.port.to_string()).await;
    browser.find("#userName").await.enter("mailer").await;
    press(&browser, "/settings/mail", "#password-error").await;
    // Refused: it says so beside the fields, and keeps what was typed.
    assert!(browser.find("#password-error").await.text().await.contains("Enter the password"));
    assert_eq!(browser.find("#host").await.attribute("value").await.as_deref(), Some("localhost"));
    // The browser reports the 422 itself as a failed load.
    browser.take_console().await;
    look(&browser, "", "settings-mail-refused", &mut faults).await;
    browser.find("#password").await.enter("wrong").await;
    browser.find("#fromAddress").await.enter("bailiwick@acme.example").await;
    let pem = serde_json::json!(sink.ca_pem);
    browser.script(&format!("document.querySelector('#caPem').value = {pem}")).await;
    press(&browser, "/settings/mail", ".notice--success").await;
    press(&browser, "/settings/mail/test#test", ".steps li").await;
    let why = browser.find(".steps li[data-state=failed]").await.text().await;
    assert!(why.contains("does not accept this user name and password"), "{why}");
    look(&browser, "", "settings-mail-test-failed", &mut faults).await;
    browser.find("#password").await.enter("herons").await;
    press(&browser, "/settings/mail", ".notice--success").await;
    press(&browser, "/settings/mail/test#test", ".steps li").await;
    assert_eq!(browser.find_all(".steps li[data-state=ok]").await.len(), 8);

    sink.refuse_next("later@acme.example", "450 4.2.0 Greylisted, come again in five minutes");
    sink.refuse_next("never@acme.example", "550 5.1.1 The e-mail account that you tried to reach does not exist");
    sink.refuse_next("gone@acme.example", "550 5.1.1 no such user");
    let (kernel, now) = (app.app.kernel.clone(), app.app.kernel.clock.now());
    let (config, key) = (kernel.config.clone(), kernel.key.clone());
    let write = move |c: &rusqlite::Connection| {
        let link =
            notifications::link(c, &config, "/invitations/accept?token=3q2nXo0aS1b9fV4yUeKk7JwLr8ZtCp6hQmNdGxEiBvY")?;
        let (account, inviter, role, expires_at) = ("acme", "Ida Marlow", "Operator", now.plus(7 * DAY));
        let invitation = Invitation { account, inviter, role, link: &link, expires_at };
        let reset = PasswordReset { link: &link, asked_at: now, address: [192, 0, 2, 7].into() };
        notifications::enqueue(c, &key, TestMail { by: "Ida", at: now }.mail("later@acme.example", "en")?, now)?;
        notifications::enqueue(c, &key, TestMail { by: "Ida", at: now }.mail("never@acme.example", "en")?, now)?;
        notifications::enqueue(c, &key, invitation.mail("gone@acme.example", "en")?, now)?;
        notifications::enqueue(c, &key, invitation.mail("new@acme.example", "en")?, now)?;
        notifications::enqueue(c, &key, reset.mail("ida@acme.example", "en")?, now)
    };
    kernel.db.write(write).await.expect("queued");
    let (invited, reset) = tokio::task::spawn_blocking(move || {
        (sink.wait_for_mail_to("new@acme.example"), sink.wait_for_mail_to("ida@acme.example"))
    })
    .await
    .expect("two mails");
    // The server has them a moment before the queue knows.
    let begun = std::time::Instant::now();
    while app.count("SELECT count(*) FROM mail_outbox WHERE state = 'sent'") < 2 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{}", queue(&app));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    browser.goto(&at("/settings/mail")).await;
    assert_eq!(browser.find_all("table[aria-label='Waiting mails'] tbody tr").await.len(), 1);
    assert_eq!(browser.find_all("table[aria-label='Failed mails'] tbody tr").await.len(), 2);
    look(&browser, &at("/settings/mail"), "settings-mail-queue", &mut faults).await;

    // The mails, as a mail program with a style of its own shows them: without the console's.
    let folder = tempfile::tempdir().expect("a folder");
    for (name, mail) in [("mail-invitation", invited), ("mail-password-reset", reset)] {
        let path = folder.path().join(format!("{name}.html"));
        std::fs::write(&path, mail.part("text/html")).expect("written");
        look(&browser, &format!("file://{}", path.display()), name, &mut faults).await;
    }
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

/// How every mail of the queue stands.
fn queue(app: &TestApp) -> String {
    let sql = "SELECT group_concat(kind || ' is ' || state || ' ' || ifnull(error, ''), '; ') FROM mail_outbox";
    let found = app.app.kernel.db.read_blocking(|c| Ok(c.query_row(sql, [], |row| row.get::<_, String>(0))?));
    found.expect("read")
}
