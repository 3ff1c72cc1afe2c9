//! The settings of mail through the door: who gets there, what is checked, and that the password never comes back.

use reqwest::header;

use super::{Browser, EMAIL, TestApp, attribute, text};

const PATH: &str = "/settings/mail";
const SECRET: &str = "seventeen-purple-herons";

/// Settings that are fine, for a server that does not exist.
fn fields() -> Vec<(&'static str, &'static str)> {
    vec![
        ("host", "smtp.invalid"),
        ("port", "587"),
        ("security", "starttls"),
        ("userName", "mailer"),
        ("password", SECRET),
        ("fromAddress", "bailiwick@acme.example"),
        ("fromName", "Bailiwick"),
        ("replyTo", ""),
        ("caPem", ""),
    ]
}

fn with(changes: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let mut all = fields();
    for (name, value) in changes {
        all.retain(|(known, _)| known != name);
        all.push((*name, *value));
    }
    all
}

async fn save(browser: &mut Browser, fields: &[(&str, &str)]) -> (u16, String) {
    let answer = browser.post(PATH, fields).await;
    (answer.status().as_u16(), answer.text().await.expect("a page"))
}

#[tokio::test]
async fn only_the_owner_gets_to_the_mail_settings() {
    let app = TestApp::start();
    app.add_user("eve@acme.example", "full-access");
    app.other_account("other", "root@other.example");
    let mut owner = app.signed_in().await;
    assert!(owner.page("/").await.contains("href=\"/settings/mail\""));
    assert_eq!(text(&owner.page(PATH).await, "h1"), "Mail");
    for other in ["eve@acme.example", "root@other.example"] {
        let mut browser = app.signed_in_as(other).await;
        assert!(!browser.page("/").await.contains("/settings/mail"), "{other} is not offered it");
        let answer = browser.get(PATH).await;
        assert_eq!(answer.status(), 403, "{other}");
        assert!(answer.text().await.expect("a page").contains("Only the owner of this appliance"));
        for path in ["", "/remove", "/address", "/test", "/outbox/x/retry", "/outbox/x/discard"] {
            assert_eq!(browser.post(&format!("{PATH}{path}"), &fields()).await.status(), 403, "{other} {path}");
        }
    }
    let answer = app.browser().get(PATH).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()[header::LOCATION], "/sign-in?next=%2Fsettings%2Fmail");
    assert_eq!(app.count("SELECT count(*) FROM mail_server"), 0);
    assert_eq!(app.audited("audit.access_denied.v1").len(), 14);
}

#[tokio::test]
async fn the_password_is_sealed_and_never_comes_back() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    assert_eq!(save(&mut owner, &fields()).await.0, 303);
    let page = owner.page(PATH).await;
    assert_eq!(attribute(&page, "#host", "value").as_deref(), Some("smtp.invalid"));
    assert_eq!(attribute(&page, "#password", "value").as_deref(), Some(""));
    assert!(!page.contains(SECRET));
    // Empty keeps it.
    assert_eq!(save(&mut owner, &with(&[("password", ""), ("fromName", "The console")])).await.0, 303);
    assert_eq!(
        app.count("SELECT count(*) FROM mail_server WHERE length(password) > 30 AND from_name = 'The console'"),
        1
    );
    // Wrong entries come back, the password does not.
    let (status, page) = save(&mut owner, &with(&[("fromAddress", "not an address"), ("host", "other.invalid")])).await;
    assert_eq!(status, 422);
    assert!(text(&page, "#fromAddress-error").contains("one mail address"), "{page}");
    assert_eq!(attribute(&page, "#fromAddress", "value").as_deref(), Some("not an address"));
    assert_eq!(attribute(&page, "#host", "value").as_deref(), Some("other.invalid"));
    assert!(!page.contains(SECRET));
    let records = app.audited("audit.mail_server_updated.v1");
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["passwordChanged"], true);
    assert_eq!(records[0]["changes"]["host"]["after"], "smtp.invalid");
    assert_eq!(records[1]["changes"], serde_json::json!({"fromName": {"before": "Bailiwick", "after": "The console"}}));
    assert_eq!(app.count("SELECT count(*) FROM audit_record WHERE details LIKE '%herons%'"), 0);
    let dir = app.dir.as_ref().expect("a folder").path().to_owned();
    for file in std::fs::read_dir(dir).expect("a folder").flatten() {
        let bytes = std::fs::read(file.path()).expect("a file");
        assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "{:?}", file.path());
    }
    app.assert_audit_verifies();
}

#[tokio::test]
async fn a_stored_password_is_not_sent_to_another_server() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    assert_eq!(save(&mut owner, &fields()).await.0, 303);
    for change in [("host", "smtp.evil.example"), ("port", "25"), ("security", "tls"), ("userName", "eve")] {
        let (status, page) = save(&mut owner, &with(&[("password", ""), change])).await;
        assert_eq!(status, 422, "{change:?}");
        assert!(text(&page, "#password-error").contains("Enter the password again"), "{change:?}: {page}");
    }
    let (status, page) = save(&mut owner, &with(&[("security", "none")])).await;
    assert_eq!(status, 422);
    assert!(text(&page, "#acceptPlaintext-error").contains("read on the way"), "{page}");
    assert_eq!(app.count("SELECT count(*) FROM mail_server WHERE host = 'smtp.invalid' AND security = 'starttls'"), 1);
    for extra in [("id", "2"), ("isOwner", "1"), ("updatedAt", "0")] {
        assert_eq!(save(&mut owner, &with(&[extra])).await.0, 400, "{extra:?}");
    }
    assert_eq!(owner.post("/settings/mail/remove", &[]).await.status(), 303);
    assert_eq!(app.count("SELECT count(*) FROM mail_server"), 0);
    assert_eq!(owner.post("/settings/mail/remove", &[]).await.status(), 404);
}

#[tokio::test]
async fn the_address_of_the_console_comes_from_the_settings_and_never_from_the_request() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    assert!(owner.page(PATH).await.contains("The address of the console is not set"));
    let answer = owner.post("/settings/mail/address", &[("baseUrl", "http://evil.example")]).await;
    assert_eq!(answer.status(), 422);
    let page = answer.text().await.expect("a page");
    assert!(text(&page, "#baseUrl-error").contains("https://"), "{page}");
    assert_eq!(attribute(&page, "#baseUrl", "value").as_deref(), Some("http://evil.example"));
    assert_eq!(owner.post("/settings/mail/address", &[("baseUrl", "https://b.acme.example/")]).await.status(), 303);
    let request = owner.http.get(format!("{}{PATH}", owner.base)).header(header::HOST, "evil.example");
    let cookies: Vec<String> = owner.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let request = request.header(header::COOKIE, cookies.join("; ")).header("x-forwarded-host", "evil.example");
    let page = request.send().await.expect("answered").text().await.expect("a page");
    assert_eq!(attribute(&page, "#baseUrl", "value").as_deref(), Some("https://b.acme.example"));
    assert!(!page.contains("evil.example"), "{page}");
    let records = app.audited("audit.console_address_updated.v1");
    assert_eq!(records[0]["changes"]["baseUrl"]["after"], "https://b.acme.example");
}

#[tokio::test]
async fn what_the_configuration_says_is_shown_and_not_changed() {
    let app = TestApp::start();
    let dir = {
        let mut app = app;
        app.dir.take().expect("a folder")
    };
    let app = TestApp::start_in(dir, |config| config.base_url = "https://fixed.example".parse().ok());
    let mut owner = app.signed_in().await;
    let page = owner.page(PATH).await;
    assert_eq!(attribute(&page, "#baseUrl", "value").as_deref(), Some("https://fixed.example"));
    assert!(attribute(&page, "#baseUrl", "readonly").is_some());
    let answer = owner.post("/settings/mail/address", &[("baseUrl", "https://other.example")]).await;
    assert_eq!(answer.status(), 409);
}

#[tokio::test]
async fn a_test_without_a_way_to_the_server_says_at_which_step_it_ended() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    assert_eq!(owner.post("/settings/mail/test", &[("to", EMAIL)]).await.status(), 409, "nothing is set up");
    let nobody = [("host", "127.0.0.1"), ("port", "1")];
    assert_eq!(save(&mut owner, &with(&nobody)).await.0, 303);
    let answer = owner.post("/settings/mail/test", &[("to", "ida@acme.example\r\nBcc: x@evil.example")]).await;
    assert_eq!(answer.status(), 422);
    let answer = owner.post("/settings/mail/test", &[("to", EMAIL)]).await;
    assert_eq!(answer.status(), 200);
    let page = answer.text().await.expect("a page");
    assert!(text(&page, ".steps li[data-state=failed]").contains("can't be reached"), "{page}");
    assert!(text(&page, ".steps li[data-state=failed] .fix").contains("firewall"), "{page}");
    assert_eq!(page.matches("data-state=\"skipped\"").count(), 6, "{page}");
    let record = &app.audited("audit.mail_server_tested.v1")[0];
    assert_eq!((record["result"].as_str(), record["failedStep"].as_str()), (Some("failure"), Some("connect")));
}
