//! Asking again: what is dangerous waits for a proof that is not older than 15 minutes, in the very session that wants it, and
//! nothing that was typed is lost on the way.

use std::collections::BTreeSet;

use bailiwick::{
    clock::{MINUTE, SECOND},
    web::{Again, Surface},
};
use reqwest::{Method, Response};
use scraper::{Html, Selector};
use serde_json::{Value, json};
use totp_rs::{Algorithm, Builder, Secret};

use super::{Browser, PASSWORD, TestApp, attribute, text};

/// What asks again, and when. Whoever takes a line off says so here.
const DANGEROUS: &[(&str, &str, Again)] = &[
    ("GET", "/logs/export", Again::Aged),
    ("GET", "/profile/mfa/app", Again::Aged),
    ("GET", "/profile/mfa/passkey", Again::Aged),
    ("GET", "/settings/account/export", Again::Aged),
    ("POST", "/api-keys", Again::Aged),
    ("POST", "/api-keys/setting", Again::Aged),
    ("POST", "/api-keys/{id}", Again::Aged),
    ("POST", "/api-keys/{id}/end-old-secret", Again::Aged),
    ("POST", "/api-keys/{id}/lock-out", Again::Aged),
    ("POST", "/api-keys/{id}/remove", Again::Aged),
    ("POST", "/api-keys/{id}/rotate", Again::Aged),
    ("POST", "/api-keys/{id}/take-over", Again::Aged),
    ("POST", "/api-keys/{id}/unlock", Again::Aged),
    ("POST", "/appliance/accounts/{id}/restore", Again::Aged),
    ("POST", "/appliance/accounts/{id}/suspend", Again::Aged),
    ("POST", "/appliance/owner", Again::Aged),
    ("POST", "/invitations", Again::Aged),
    ("POST", "/invitations/{id}/resend", Again::Aged),
    ("POST", "/profile/mfa/app", Again::Aged),
    ("POST", "/profile/mfa/codes", Again::Aged),
    ("POST", "/profile/mfa/devices/{id}/remove", Again::EachTime),
    ("POST", "/profile/mfa/passkey", Again::Aged),
    ("POST", "/roles", Again::Aged),
    ("POST", "/roles/{id}", Again::Aged),
    ("POST", "/roles/{id}/mfa", Again::Aged),
    ("POST", "/roles/{id}/remove", Again::Aged),
    ("POST", "/runs/{id}/approve", Again::Aged),
    ("POST", "/runs/{id}/discard", Again::Aged),
    ("POST", "/settings/account/delete", Again::Aged),
    ("POST", "/settings/mail", Again::Aged),
    ("POST", "/settings/mail/address", Again::Aged),
    ("POST", "/settings/mail/remove", Again::Aged),
    ("POST", "/settings/mfa", Again::Aged),
    ("POST", "/step-up", Again::EachTime),
    ("POST", "/tasks/requests/{id}/approve", Again::Aged),
    ("POST", "/tasks/requests/{id}/decline", Again::Aged),
    ("POST", "/users/{id}", Again::Aged),
    ("POST", "/users/{id}/disable", Again::Aged),
    ("POST", "/users/{id}/enable", Again::Aged),
    ("POST", "/users/{id}/mfa/reset", Again::Aged),
    ("POST", "/users/{id}/remove", Again::Aged),
    ("POST", "/users/{id}/reset-link", Again::Aged),
];

const FAILED: &str = "audit.step_up_failed.v1";
const CONFIRMED: &str = "audit.step_up_confirmed.v1";
/// Long enough ago to be asked again.
const AGED: i64 = 16 * MINUTE;

/// What a page asks and carries.
struct Question {
    status: u16,
    action: String,
    /// Everything that the form has, but for what is typed into it.
    carried: Vec<(String, String)>,
    page: String,
}

impl Question {
    async fn read(answer: Response) -> Self {
        let status = answer.status().as_u16();
        let page = answer.text().await.expect("a page");
        let html = Html::parse_document(&page);
        let selector = |text| Selector::parse(text).expect("a selector");
        let form = html.select(&selector("form")).next();
        let form = form.unwrap_or_else(|| panic!("no form ({status}): {page}"));
        // As a browser sends it: every line end becomes two characters.
        let value = |text: &str| text.replace("\r\n", "\n").replace('\n', "\r\n");
        let carried = form
            .select(&selector("input[type=hidden]"))
            .map(|input| (input.attr("name").expect("a name").to_owned(), value(input.attr("value").expect("a value"))))
            .collect();
        let action = form.attr("action").expect("an action").to_owned();
        assert_eq!(text(&page, "h1"), "Confirm that it is you");
        Self { status, action, carried, page }
    }

    fn asks_for(&self, field: &str) -> bool {
        attribute(&self.page, &format!("input[name={field}]"), "name").is_some()
    }

    async fn answer(&self, browser: &mut Browser, field: &str, value: &str) -> Response {
        let mut fields: Vec<(&str, &str)> = self.carried.iter().map(|(name, value)| (&**name, &**value)).collect();
        fields.push((field, value));
        browser.post_raw(&self.action, &fields, &[]).await
    }
}

/// The last audit record: nothing is changed without one.
fn newest(app: &TestApp) -> i64 {
    app.count("SELECT max(seq) FROM audit_record")
}

/// The code that an app with this key shows now.
fn code(app: &TestApp, key: &str) -> String {
    let secret = Secret::try_from_base32(key.replace(' ', "")).expect("a key");
    let totp = Builder::new().with_algorithm(Algorithm::SHA1).with_secret(secret).with_account_name("x").build();
    let at = app.app.kernel.clock.now().0 / SECOND;
    totp.expect("an app").generate(at.try_into().expect("after 1970")).to_string()
}

/// Adds an authenticator app to whoever is signed in; answers its key.
async fn enrol(app: &TestApp, browser: &mut Browser) -> String {
    let page = browser.page("/profile/mfa/app").await;
    let key = text(&page, "#totp-key");
    let id = attribute(&page, "input[name=id]", "value").expect("an id");
    let fields = [("id", id.as_str()), ("name", "telephone"), ("code", &code(app, &key))];
    let answer = browser.post("/profile/mfa/app", &fields).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.expect("a page"));
    key
}

#[tokio::test]
async fn everything_dangerous_asks_whoever_proved_it_long_ago_and_does_nothing_before() {
    let app = TestApp::start();
    let entries = app.app.routes().entries();
    let found: BTreeSet<(&str, &str, bool)> = entries
        .iter()
        .filter_map(|route| {
            route.again.map(|again| (route.method.as_str(), route.path.as_str(), again == Again::EachTime))
        })
        .collect();
    let listed = DANGEROUS.iter().map(|(method, path, again)| (*method, *path, *again == Again::EachTime)).collect();
    assert_eq!(found, listed, "what asks again is not what DANGEROUS says");
    for (method, path, again) in DANGEROUS {
        let mut browser = app.signed_in().await;
        if *again == Again::Aged {
            app.forward(AGED);
        }
        let (path, before) = (path.replace("{id}", "1"), newest(&app));
        if *method == "GET" {
            let answer = browser.get(&format!("{path}?q=a%20b&type=x")).await;
            let location = answer.headers()["location"].to_str().expect("ASCII").to_owned();
            let query = serde_urlencoded::to_string([("next", format!("{path}?q=a%20b&type=x"))]).expect("a query");
            assert_eq!((answer.status().as_u16(), location), (303, format!("/step-up?{query}")), "{path}");
        } else {
            let fields = [("name", "a \"b\" <c>\r\nd"), ("name", "e"), ("id", "&amp;")];
            let question = Question::read(browser.post(&path, &fields).await).await;
            assert_eq!((question.status, &question.action), (403, &path), "{path}");
            let carried: Vec<_> = question.carried.iter().filter(|(name, _)| name != "csrf").collect();
            let sent: Vec<_> = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            assert_eq!(carried, sent.iter().collect::<Vec<_>>(), "{path}");
            // A wrong answer is as good as none, and asked for again with everything that was typed.
            let again = question.answer(&mut browser, "stepUpPassword", "not the password").await;
            let again = Question::read(again).await;
            assert_eq!((again.status, &again.carried), (422, &question.carried), "{path}");
            assert_eq!(text(&again.page, "#stepUpPassword-error"), "This is not your current password.");
            assert!(!again.page.contains("not the password"));
            assert_eq!(app.audited(FAILED).last().expect("a record")["path"], json!(path));
            assert_eq!(newest(&app), before + 1, "{path}: nothing else was done");
            // Wrong ones are counted.
            app.forward(AGED);
            continue;
        }
        assert_eq!(newest(&app), before, "{path}");
    }
    // Everything else goes on, whatever was proved when; and no answer reaches a handler.
    let mut browser = app.signed_in().await;
    app.forward(AGED);
    for fields in [&[("theme", "dark")][..], &[("theme", "light"), ("stepUpCode", "123456")]] {
        assert_ne!(browser.post("/profile/theme", fields).await.status(), 400);
    }
    for path in ["/", "/profile", "/logs", "/roles", "/api-keys/new", "/settings/account/delete"] {
        assert_eq!(browser.get(path).await.status(), 200, "{path}");
    }
    assert!(entries.iter().all(|route| route.surface == Surface::Page || route.again.is_none()));
    app.assert_audit_verifies();
}

const DIRECTORIES: &str =
    "INSERT INTO directory (id, account_id, kind, name, settings, read_credentials, schedule, guard, created_at, updated_at)
     SELECT id, account, 'openldap', 'Staff ' || id, '{}', zeroblob(0), '{}', '{}', 0, 0
     FROM (SELECT min(id) AS account FROM account), (SELECT 7 AS id UNION SELECT 8)";

#[tokio::test]
async fn whoever_confirms_gets_what_they_asked_for_once_and_with_everything_they_typed() {
    let app = TestApp::start();
    app.sql(DIRECTORIES);
    let api = app.api(&app.key(app.account, "full-access"));
    let mut browser = app.signed_in().await;
    app.forward(AGED);
    let description = "the \"desk\" of 'Oslo' & <Bergen>\r\nsecond line\r\n";
    let units = "OU=Oslo,DC=x\r\n\r\n ou=\"bergen\",dc=x \r\n";
    let fields = [
        ("id", "desk"),
        ("name", "Desk"),
        ("description", description),
        ("for", "part"),
        ("directory", "7"),
        ("directory", "8"),
        ("level-directories", "read"),
        ("units-7", units),
    ];
    let question = Question::read(browser.post("/roles", &fields).await).await;
    assert!(question.asks_for("stepUpPassword") && !question.asks_for("stepUpCode"));
    assert_eq!(app.count("SELECT count(*) FROM role WHERE id = 'desk'"), 0);
    let answer = question.answer(&mut browser, "stepUpPassword", PASSWORD).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().ok()), (303, Some("/roles/desk")));
    let (_, made) = api.get("/api/roles/desk").await;
    assert_eq!(made["description"], json!(description.replace("\r\n", "\n").trim()));
    assert_eq!(made["scope"]["directories"], json!(["7", "8"]));
    assert_eq!(made["scope"]["units"][0], json!({"directoryId": "7", "dn": "OU=Oslo,DC=x"}));
    assert_eq!(app.audited("audit.role_created.v1").len(), 1);
    let confirmed = app.audited(CONFIRMED);
    assert_eq!(
        (confirmed.len(), &confirmed[0]["means"], &confirmed[0]["path"]),
        (1, &json!("password"), &json!("/roles"))
    );
    assert_eq!(app.audited("audit.access_denied.v1"), Vec::<Value>::new(), "to be asked is no refusal");
    // For the next 15 minutes nobody is asked again.
    app.forward(15 * MINUTE);
    assert_eq!(browser.post("/roles/desk/remove", &[]).await.status(), 303);
    app.forward(SECOND);
    assert_eq!(browser.post("/roles", &fields).await.status(), 403);
    app.assert_audit_verifies();
}

#[tokio::test]
async fn a_stolen_session_gets_nowhere_without_the_password() {
    let app = TestApp::start();
    let mut thief = app.signed_in().await;
    app.forward(AGED);
    let fields = [("alias", "backdoor"), ("role", "full-access"), ("expires", "30")];
    let before = newest(&app);
    let question = Question::read(thief.post("/api-keys", &fields).await).await;
    for guess in ["", "password", "otters", "green", "nine"] {
        assert_eq!(question.answer(&mut thief, "stepUpPassword", guess).await.status(), 422, "{guess}");
    }
    // From now on not even the right one is looked at.
    let answer = question.answer(&mut thief, "stepUpPassword", PASSWORD).await;
    assert_eq!(answer.status(), 429);
    let failed = app.audited(FAILED);
    assert_eq!((failed.len(), newest(&app)), (5, before + 5), "each is on the record, and nothing was done");
    assert!(failed.iter().all(|one| one["result"] == "failure" && one["means"] == "password"));
    // Nor is there a way around the question.
    for fields in [
        vec![("stepUpCode", "000000")],
        vec![("stepUpPassword", PASSWORD), ("stepUpPassword", PASSWORD)],
        vec![("proved_at", "9000000000000000")],
    ] {
        assert_ne!(thief.post("/api-keys", &fields).await.status(), 303);
    }
    assert_eq!(thief.get("/logs/export").await.status(), 303);
    assert_eq!(thief.get("/settings/account/export").await.status(), 303);
    assert_eq!(app.count("SELECT count(*) FROM api_key"), 0);
    assert_eq!(app.audited(CONFIRMED), Vec::<Value>::new());
    // Whoever has the password is not kept out by that.
    app.forward(AGED);
    thief.confirm(PASSWORD).await;
    assert_eq!(thief.get("/logs/export").await.status(), 200);
}

#[tokio::test]
async fn whoever_has_a_factor_confirms_with_it_and_a_code_works_once() {
    let app = TestApp::start();
    app.add_user("eve@acme.example", "full-access");
    let (mut ida, mut eve) = (app.signed_in().await, app.signed_in_as("eve@acme.example").await);
    let (key, hers) = (enrol(&app, &mut ida).await, enrol(&app, &mut eve).await);
    let used = code(&app, &key);
    app.forward(AGED);
    let role = [("id", "desk"), ("name", "Desk"), ("level-audit", "read"), ("for", "all")];
    let question = Question::read(ida.post("/roles", &role).await).await;
    assert!(question.asks_for("stepUpCode") && !question.asks_for("stepUpPassword"));
    // The password is no proof any more, the code of an app of somebody else never was.
    let answer = question.answer(&mut ida, "stepUpPassword", PASSWORD).await;
    assert_eq!(Question::read(answer).await.status, 409);
    assert_eq!(question.answer(&mut ida, "stepUpCode", &code(&app, &hers)).await.status(), 422);
    assert_eq!(question.answer(&mut ida, "stepUpCode", &used).await.status(), 422);
    assert_eq!(app.count("SELECT count(*) FROM role WHERE id = 'desk'"), 0);
    let right = code(&app, &key);
    let answer = question.answer(&mut ida, "stepUpCode", &right).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(app.audited(CONFIRMED)[0]["means"], json!("totp"));
    assert_eq!(app.audited(FAILED).len(), 3);
    // The next time the same code is spent.
    app.forward(AGED);
    let question = Question::read(ida.post("/roles/desk/remove", &[]).await).await;
    assert_eq!(question.answer(&mut ida, "stepUpCode", &right).await.status(), 422);
    // Wrong ones are counted as at the sign-in: five in fifteen minutes.
    for _ in 0..4 {
        assert_eq!(question.answer(&mut ida, "stepUpCode", "000000").await.status(), 422);
    }
    assert_eq!(question.answer(&mut ida, "stepUpCode", &code(&app, &key)).await.status(), 429);
    assert_eq!(app.count("SELECT count(*) FROM role WHERE id = 'desk'"), 1);
    // A recovery code is a way back in and no proof.
    app.forward(AGED);
    assert_eq!(question.answer(&mut ida, "stepUpCode", "abcde-fghjk").await.status(), 422);
    assert_eq!(question.answer(&mut ida, "stepUpCode", &code(&app, &key)).await.status(), 303);
    app.assert_audit_verifies();
}

#[tokio::test]
async fn of_many_equal_codes_at_once_one_confirms() {
    let app = TestApp::start();
    let mut ida = app.signed_in().await;
    let key = enrol(&app, &mut ida).await;
    app.forward(AGED);
    let question = Question::read(ida.post("/profile/mfa/codes", &[]).await).await;
    let before = app.audited("audit.recovery_codes_made.v1").len();
    // A double click, eight times over: whoever comes too late finds the session proved, or the code spent.
    let right = code(&app, &key);
    let mut fields: Vec<(&str, &str)> = question.carried.iter().map(|(name, value)| (&**name, &**value)).collect();
    fields.push(("stepUpCode", &right));
    let all = (0..8).map(|_| {
        let (mut browser, fields, action) = (ida.clone(), fields.clone(), question.action.clone());
        async move { browser.post_raw(&action, &fields, &[]).await.status().as_u16() }
    });
    let answers = futures_util::future::join_all(all).await;
    assert!(answers.contains(&200), "{answers:?}");
    assert_eq!(app.audited(CONFIRMED).len(), 1, "{answers:?}");
    assert!(app.audited("audit.recovery_codes_made.v1").len() > before);
}

#[tokio::test]
async fn a_proof_counts_for_the_session_that_gave_it() {
    let app = TestApp::start();
    app.add_user("eve@acme.example", "full-access");
    let (mut one, mut two, mut eve) =
        (app.signed_in().await, app.signed_in().await, app.signed_in_as("eve@acme.example").await);
    app.forward(AGED);
    one.confirm(PASSWORD).await;
    assert_eq!(one.get("/logs/export").await.status(), 200);
    for other in [&mut two, &mut eve] {
        assert_eq!(other.get("/logs/export").await.status(), 303);
        assert_eq!(other.post("/roles/x/remove", &[]).await.status(), 403);
    }
    // A session that was ended is not revived by an answer to what it asked.
    let question = Question::read(two.post("/roles/x/remove", &[]).await).await;
    app.sql("DELETE FROM session");
    let answer = question.answer(&mut two, "stepUpPassword", PASSWORD).await;
    assert_eq!(answer.status(), 303);
    assert!(answer.headers()["location"].to_str().expect("ASCII").starts_with("/sign-in"));
    assert_eq!(app.count("SELECT count(*) FROM session"), 0);
}

#[tokio::test]
async fn a_key_is_not_asked_and_signing_in_is_a_proof() {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "full-access"));
    app.forward(AGED);
    let role = json!({"id": "desk", "name": "Desk", "services": {"audit": "read"}});
    assert_eq!(api.post("/api/roles", &role).await.0, 201);
    let mut browser = app.signed_in().await;
    app.forward(15 * MINUTE);
    assert_eq!(browser.get("/logs/export").await.status(), 200);
    // Entering another account is none.
    app.other_account("other", "root@other.example");
    app.sql(
        "INSERT INTO membership (user_id, account_id, role_id, created_at)
         SELECT user.id, account.id, 'full-access', 1 FROM user, account
         WHERE user.email = 'ida@acme.example' AND account.alias = 'other'",
    );
    let other = app.count("SELECT id FROM account WHERE alias = 'other'").to_string();
    app.forward(SECOND);
    assert_eq!(browser.post("/accounts/switch", &[("account", &other)]).await.status(), 303);
    assert_eq!(browser.get("/logs/export").await.status(), 303);
    browser.confirm(PASSWORD).await;
    assert_eq!(browser.get("/logs/export").await.status(), 200);
    app.assert_audit_verifies();
}

/// HOSTILE A12.
#[tokio::test]
async fn a_factor_is_taken_away_only_by_whoever_proves_it_with_that_very_request() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    let key = enrol(&app, &mut browser).await;
    let device =
        app.app.kernel.db.read_blocking(|c| Ok(c.query_row("SELECT id FROM totp_device", [], |row| row.get(0))?));
    let device: String = device.expect("a device");
    let path = format!("/profile/mfa/devices/{device}/remove");
    let there = || app.count("SELECT count(*) FROM totp_device");
    // A minute after everything was proved.
    app.forward(MINUTE);
    for (field, value) in [("", ""), ("stepUpPassword", PASSWORD), ("stepUpCode", "000000"), ("stepUpCode", "")] {
        let fields: &[(&str, &str)] = if field.is_empty() { &[] } else { &[(field, value)] };
        let answer = browser.post(&path, fields).await;
        assert!([403, 409, 422].contains(&answer.status().as_u16()), "{field}={value}: {}", answer.status());
        assert_eq!(there(), 1, "{field}={value}");
    }
    // A proof for something else is none for this.
    let proof = code(&app, &key);
    assert_eq!(browser.post("/step-up", &[("next", "/"), ("stepUpCode", &proof)]).await.status(), 200);
    assert_eq!(browser.post(&path, &[("stepUpCode", &proof)]).await.status(), 422);
    assert_eq!(browser.post(&path, &[]).await.status(), 403);
    // No key reaches a page, and there is no other way to it.
    let api = app.api(&app.key(app.account, "full-access"));
    assert_eq!(api.send(Method::POST, &path, None).await.0, 303, "sent to the sign-in");
    assert_eq!(there(), 1);
    app.forward(30 * SECOND);
    let question = Question::read(browser.post(&path, &[]).await).await;
    let answer = question.answer(&mut browser, "stepUpCode", &code(&app, &key)).await;
    assert_eq!((answer.status().as_u16(), there()), (303, 0));
    assert_eq!(app.audited("audit.mfa_removed.v1").len(), 1);
    // Another one takes its place only with a fresh proof, too.
    app.forward(AGED);
    assert_eq!(browser.get("/profile/mfa/app").await.status(), 303);
    assert_eq!(browser.post("/profile/mfa/app", &[]).await.status(), 403);
    app.assert_audit_verifies();
}

#[tokio::test]
async fn a_link_leads_on_after_the_question_and_only_to_this_console() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    app.forward(AGED);
    let path = "/logs/export?type=audit.signed_in.v1&result=success";
    let answer = browser.get(path).await;
    let location = answer.headers()["location"].to_str().expect("ASCII").to_owned();
    let question = Question::read(browser.get(&location).await).await;
    assert_eq!((question.status, question.action.as_str()), (200, "/step-up"));
    assert_eq!(question.answer(&mut browser, "stepUpPassword", "wrong").await.status(), 422);
    let answer = question.answer(&mut browser, "stepUpPassword", PASSWORD).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["refresh"], format!("0; url={path}"));
    let page = answer.text().await.expect("a page");
    assert_eq!(attribute(&page, ".btn--primary", "href").as_deref(), Some(path));
    assert_eq!(browser.get(path).await.status(), 200);
    for evil in ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nb: c"] {
        let fields = [("next", evil), ("stepUpPassword", PASSWORD)];
        app.forward(AGED);
        let answer = browser.post("/step-up", &fields).await;
        let refresh = answer.headers().get("refresh").map(|value| value.to_str().expect("ASCII").to_owned());
        assert_eq!(refresh.as_deref(), Some("0; url=/"), "{evil}");
        assert!(!answer.text().await.expect("a page").contains("evil"), "{evil}");
    }
    assert_eq!(app.browser().get("/step-up").await.status(), 303, "strangers are not asked");
    // A part of a page cannot ask: the whole one does.
    app.forward(AGED);
    let token = browser.token("/profile").await;
    let here = format!("{}/roles/x?tab=1", app.base);
    let headers = [("hx-request", "true"), ("hx-current-url", here.as_str())];
    let answer = browser.post_raw("/roles/x/remove", &[("csrf", &token)], &headers).await;
    assert_eq!(answer.headers()["hx-redirect"], "/step-up?next=%2Froles%2Fx%3Ftab%3D1");
}

/// A privileged identity and a plain one, in a directory that can be acted on.
const PRIVILEGED: &str = r#"
    INSERT INTO directory (id, account_id, kind, name, settings, read_credentials, act_credentials, act_principal, schedule,
                           guard, applied_run_id, applied_at, first_applied_at, created_at, updated_at)
    SELECT 7, min(id), 'openldap', 'Staff', '{"servers": ["ldaps://ldap.example"], "baseDns": ["dc=x"]}', zeroblob(0),
           zeroblob(0), 'cn=act,dc=x', '{}', '{}', 6, 1, 1, 0, 0 FROM account;
    INSERT INTO run (id, account_id, directory_id, mode, requested_by, state, settings_hash, started_at)
    SELECT 6, min(id), 7, 'full', 'urn', 'applied', '', 1 FROM account;
    INSERT INTO plan (run_id, directory_id, first_change, last_change, applying_at, applied_at) VALUES (6, 7, 1, 1, 1, 1);
    INSERT INTO identity (id, directory_id, external_id, user_name, display_name, sort_key, status, fields, is_privileged,
                          first_seen_at, changed_at, listed_since_at)
    VALUES (7, 7, 'a', 'root', 'Root', 'root', 'active', '{}', 1, 1, 1, 1),
           (8, 7, 'b', 'anna', 'Anna', 'anna', 'active', '{}', 0, 1, 1, 1);
"#;

#[tokio::test]
async fn acting_on_somebody_privileged_asks_again_and_on_others_does_not() {
    let app = TestApp::start();
    app.sql(PRIVILEGED);
    let mut browser = app.signed_in().await;
    app.forward(AGED);
    let asking = |identities: &'static str| {
        [("action", "disable"), ("identities", identities), ("reason", "left\r\nin a \"hurry\""), ("for", "")]
    };
    let requests = || app.count("SELECT count(*) FROM enforcement_request");
    assert_eq!(browser.post("/tasks/new", &asking("8")).await.status(), 303);
    assert_eq!(requests(), 1);
    let question = Question::read(browser.post("/tasks/new", &asking("8,7")).await).await;
    assert_eq!((question.status, question.action.as_str(), requests()), (403, "/tasks/new", 1));
    let answer = question.answer(&mut browser, "stepUpPassword", "wrong").await;
    assert_eq!((Question::read(answer).await.status, requests()), (422, 1));
    assert_eq!(question.answer(&mut browser, "stepUpPassword", PASSWORD).await.status(), 303);
    assert_eq!(requests(), 2);
    assert_eq!(app.count("SELECT count(*) FROM enforcement_request WHERE reason LIKE '%in a \"hurry\"'"), 2);
    assert_eq!(app.audited("audit.access_denied.v1"), Vec::<Value>::new());
    // A key is not asked.
    app.forward(AGED);
    let api = app.api(&app.key(app.account, "full-access"));
    let task = json!({"action": "unlock", "identities": ["7"], "reason": "x"});
    let (status, answer) = api.post("/api/tasks", &task).await;
    assert_ne!(status, 403, "{answer}");
    app.assert_audit_verifies();
}

#[tokio::test]
async fn no_form_that_asks_again_is_sent_as_a_part_of_a_page() {
    let app = TestApp::start();
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/templates"))];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).expect("a folder").flatten().map(|file| file.path()) {
            if file.is_dir() {
                folders.push(file);
                continue;
            }
            let text = std::fs::read_to_string(&file).expect("a template");
            for rest in text.split("hx-post=\"").skip(1) {
                seen += 1;
                let target = rest.split('"').next().expect("a target");
                let asks = app.app.routes().entries().iter().any(|route| {
                    let mut parts = route.path.split("{id}");
                    route.again.is_some()
                        && parts.next().is_some_and(|part| target.starts_with(part))
                        && parts.all(|part| target.ends_with(part))
                        && route.path.contains("{id}") == target.contains("{{")
                });
                assert!(!asks, "{}: {target} asks again, and what was typed would be lost", file.display());
            }
        }
    }
    assert!(seen > 0, "this looked for nothing");
}
