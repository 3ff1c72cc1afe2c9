//! Accounts: settings, several of them, entering one from another, and the way out and back.

use bailiwick::{
    accounts, app,
    clock::{DAY, MINUTE},
    principal::AccountId,
};
use reqwest::header;
use serde_json::json;

use super::{EMAIL, PASSWORD, TestApp, attribute, off, text};

fn location(answer: &reqwest::Response) -> String {
    answer.headers().get(header::LOCATION).map(|value| value.to_str().expect("ASCII").to_owned()).unwrap_or_default()
}

fn borrowed<'a>(fields: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    fields.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// What the form of a new account sends.
fn new_account(alias: &str) -> [(&'static str, &str); 3] {
    [("alias", alias), ("locale", "en"), ("timeZone", "")]
}

/// The id of the account with this alias.
fn id(app: &TestApp, alias: &str) -> AccountId {
    let found = off(|| app.app.kernel.db.read_blocking(|c| accounts::find_by_alias(c, alias)));
    found.expect("read").unwrap_or_else(|| panic!("no account {alias}")).id
}

#[tokio::test]
async fn an_account_is_changed_by_page_and_api_alike_and_is_on_the_record() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    let path = format!("/api/accounts/{}", app.account);
    let body = json!({"alias": "acme-oslo", "sessionIdleMinutes": 15, "sessionMaxHours": 8, "timeZone": "Europe/Oslo"});
    let (status, changed) = root.post(&path, &body).await;
    assert_eq!(status, 200, "{changed}");
    for (field, expected) in body.as_object().expect("an object") {
        assert_eq!(&changed[field], expected);
    }
    let changes = &app.audited("audit.account_updated.v1")[0]["changes"];
    assert_eq!(changes["alias"], json!({"before": "acme", "after": "acme-oslo"}));
    app.other_account("other", "other@halden.example");
    for (wrong, field) in [
        (json!({"alias": "other"}), "alias"),
        (json!({"alias": "Not a name"}), "alias"),
        (json!({"sessionIdleMinutes": 4}), "sessionIdleMinutes"),
        (json!({"sessionMaxHours": 25}), "sessionMaxHours"),
        (json!({"timeZone": "Oslo"}), "timeZone"),
        (json!({"locale": "xx"}), "locale"),
    ] {
        let (status, answer) = root.post(&path, &wrong).await;
        assert_eq!((status, answer["fields"][field].is_string()), (422, true), "{wrong}: {answer}");
    }
    // What nobody may set: ids, states, dates.
    for wrong in ["id", "state", "region", "createdAt", "purgeAt"] {
        let status = root.post(&path, &json!({wrong: "active"})).await.0;
        assert!(matches!(status, 400 | 422), "{wrong}: {status}");
    }
    let mut browser = app.signed_in().await;
    let form = [
        ("alias", "acme"),
        ("locale", "en"),
        ("timeZone", ""),
        ("sessionIdleMinutes", "x"),
        ("sessionMaxHours", "12"),
        ("historyDays", "400"),
    ];
    let answer = browser.post("/settings/account", &form).await;
    assert_eq!(answer.status(), 422);
    assert!(answer.text().await.expect("a page").contains("5 to 480 minutes"));
    let fine: Vec<(&str, &str)> =
        form.iter().map(|(name, value)| (*name, if *name == "sessionIdleMinutes" { "30" } else { *value })).collect();
    assert_eq!(browser.post("/settings/account", &fine).await.status(), 303);
    assert_eq!(root.get(&path).await.1["alias"], "acme");
}

#[tokio::test]
async fn sessions_end_as_the_account_says() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    let mut browser = app.signed_in().await;
    let body = json!({"sessionIdleMinutes": 5, "sessionMaxHours": 1});
    assert_eq!(root.post(&format!("/api/accounts/{}", app.account), &body).await.0, 200);
    for _ in 0..14 {
        app.forward(4 * 60_000_000);
        assert_eq!(browser.get("/profile").await.status(), 200, "used again and again");
    }
    app.forward(4 * 60_000_000 + 1);
    assert_eq!(browser.get("/profile").await.status(), 303, "an hour is over");
    let mut browser = app.signed_in().await;
    app.forward(5 * 60_000_000);
    assert_eq!(browser.get("/profile").await.status(), 303, "five minutes of nothing");
}

#[tokio::test]
async fn a_user_makes_as_many_accounts_as_the_appliance_says_and_enters_them() {
    let app = TestApp::start();
    app.add_user("one@acme.example", "read-only");
    let mut one = app.signed_in_as("one@acme.example").await;
    let mut owner = app.signed_in().await;
    assert_eq!(one.post("/accounts/new", &new_account("Bad Alias")).await.status(), 422);
    assert_eq!(one.post("/accounts/new", &new_account("acme")).await.status(), 422, "taken");
    let before = one.session().expect("a session").to_owned();
    let answer = one.post("/accounts/new", &new_account("first-own")).await;
    assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (303, "/"));
    assert_ne!(*one.session().expect("a session"), before, "a new account is a new session");
    // In the new one they may do everything; in the old one as little as before.
    let page = one.page("/settings/account").await;
    assert!(page.contains("first-own") && page.contains("Delete the account"));
    let answer = one.post("/accounts/switch", &[("account", &app.account.to_string())]).await;
    assert_eq!(answer.status(), 303);
    assert!(!one.page("/settings/account").await.contains("Delete the account"));
    assert_eq!(one.post("/accounts/new", &new_account("second-own")).await.status(), 303);
    assert_eq!(one.post("/accounts/new", &new_account("third-own")).await.status(), 403, "two, and no more");
    assert!(app.audited("audit.account_created.v1").iter().any(|record| record["result"] == "denied"));
    // The owner is not counted, and sets the number.
    assert_eq!(one.post("/appliance/accounts", &[("accountsPerUser", "9")]).await.status(), 403);
    assert_eq!(owner.post("/appliance/accounts", &[("accountsPerUser", "-1")]).await.status(), 422);
    assert_eq!(owner.post("/appliance/accounts", &[("accountsPerUser", "0")]).await.status(), 303);
    for alias in ["owners-1", "owners-2", "owners-3"] {
        assert_eq!(owner.post("/accounts/new", &new_account(alias)).await.status(), 303, "{alias}");
    }
    // Where somebody is no member, the account does not exist.
    let others = id(&app, "owners-1").to_string();
    assert_eq!(one.post("/accounts/switch", &[("account", &others)]).await.status(), 404);
    assert_eq!(one.post("/accounts/switch", &[("account", "1")]).await.status(), 404);
    let (ins, outs) = (app.audited("audit.signed_in.v1"), app.audited("audit.signed_out.v1"));
    assert_eq!(ins.iter().filter(|record| record["method"] == "switch").count(), 6);
    assert_eq!(outs.iter().filter(|record| record["method"] == "switch").count(), 6);
    app.assert_audit_verifies();
}

#[tokio::test]
async fn a_deleted_account_is_dead_at_once_comes_back_as_it_was_and_goes_for_good_after_30_days() {
    let app = TestApp::start();
    app.add_user("reader@acme.example", "read-only");
    let key = app.key(app.account, "full-access");
    let api = app.api(&key);
    let other = app.other_account("other", "boss@other.example");
    let mut owner = app.signed_in().await;
    let mut reader = app.signed_in_as("reader@acme.example").await;
    let mut boss = app.signed_in_as("boss@other.example").await;
    let theirs = app.api(&app.key(other.id, "full-access"));
    let role = json!({"id": "a-desk", "name": "Desk", "services": {"audit": "read"}});
    assert_eq!(theirs.post("/api/roles", &role).await.0, 201);

    // Not by whoever may do less, and not without its name.
    assert_eq!(reader.post("/settings/account/delete", &[("confirm", "acme")]).await.status(), 403);
    assert_eq!(boss.post("/settings/account/delete", &[("confirm", "acme")]).await.status(), 422);
    let answer = boss.post("/settings/account/delete", &[("confirm", "other")]).await;
    assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (303, "/sign-in"));
    assert_eq!(boss.get("/profile").await.status(), 303, "signed out");
    assert_eq!(theirs.get("/api/accounts").await.0, 401);
    assert_eq!(api.get("/api/accounts").await.0, 200, "ours goes on");

    // Who could administer it is told how to ask; only after the right password.
    let mut asking = app.browser();
    assert_eq!(asking.sign_in("boss@other.example", "wrong password altogether").await.status(), 422);
    let answer = asking.sign_in("boss@other.example", PASSWORD).await;
    assert_eq!(answer.status(), 403);
    let page = answer.text().await.expect("a page");
    let field = |name: &str| {
        super::attribute(&page, &format!("input[name={name}]"), "value").unwrap_or_else(|| panic!("no {name}: {page}"))
    };
    let token = field("csrf");
    let (user, account, until, seal) = (field("user"), field("account"), field("until"), field("seal"));
    let ask = |account: String, seal: String| {
        vec![
            ("csrf", token.clone()),
            ("user", user.clone()),
            ("account", account),
            ("until", until.clone()),
            ("seal", seal),
        ]
    };
    for wrong in [ask(app.account.to_string(), seal.clone()), ask(account.clone(), "0".repeat(64))] {
        let wrong: Vec<(&str, &str)> = wrong.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(asking.post_raw("/sign-in/restore", &wrong, &[]).await.status(), 403);
    }
    let right = ask(account, seal);
    let right: Vec<(&str, &str)> = right.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(asking.post_raw("/sign-in/restore", &right, &[]).await.status(), 303);

    // The owner sees the wish and brings it back; nobody else can.
    assert!(owner.page("/appliance/accounts").await.contains("asked for it back"));
    let restore = format!("/appliance/accounts/{}/restore", other.id);
    assert_eq!(reader.post(&restore, &[]).await.status(), 403);
    assert_eq!(owner.post(&restore, &[]).await.status(), 303);
    assert_eq!(boss.get("/profile").await.status(), 303, "an old session stays dead");
    let mut boss = app.signed_in_as("boss@other.example").await;
    assert_eq!(theirs.get("/api/roles/a-desk").await.0, 200, "everything is as it was");

    // Deleted again, and nobody asks.
    assert_eq!(boss.post("/settings/account/delete", &[("confirm", "other")]).await.status(), 303);
    let purge = || {
        let app = &app.app;
        async move { accounts::purge_due(&app.kernel, &app::owned(&app.kernel)).await.expect("purged") }
    };
    app.forward(30 * DAY - 1);
    assert_eq!(purge().await, 0);
    app.forward(1);
    let mut owner = app.signed_in().await;
    assert_eq!(owner.post(&restore, &[]).await.status(), 303);
    assert!(owner.page("/appliance/accounts").await.contains("30 days are over"));
    assert_eq!(purge().await, 1);
    assert_eq!(app.count("SELECT count(*) FROM account"), 1);
    assert_eq!(app.count("SELECT count(*) FROM user WHERE email = 'boss@other.example'"), 1, "users stay");
    assert_eq!(app.audited("audit.account_purge_begun.v1").len(), 1, "from there on there is no way back");
    assert_eq!(app.audited("audit.account_purged.v1").len(), 1);
    app.assert_audit_verifies();

    // Nothing of it is left anywhere but in the log: every table that names an account is looked at.
    let left = off(|| {
        app.app.kernel.db.read_blocking(|c| {
            let mut tables = c.prepare(
                "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) p ON p.name = 'account_id'
                 WHERE m.type = 'table'",
            )?;
            let names: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            assert!(names.len() >= 10, "{names:?}");
            let mut left = Vec::new();
            for name in names.into_iter().filter(|name| name != "audit_record") {
                let sql = format!("SELECT count(*) FROM {name} WHERE account_id = ?1");
                let count: i64 = c.query_row(&sql, [other.id], |row| row.get(0))?;
                if count > 0 {
                    left.push((name, count));
                }
            }
            Ok(left)
        })
    });
    assert_eq!(left.expect("read"), []);
    let mut boss = app.browser();
    assert_eq!(boss.sign_in("boss@other.example", PASSWORD).await.status(), 422, "no account to enter");
    assert_eq!(app.signed_in_as(EMAIL).await.get("/profile").await.status(), 200);
}

#[tokio::test]
async fn the_owner_suspends_an_account_and_sees_nothing_of_it() {
    let app = TestApp::start();
    let other = app.other_account("other", "boss@other.example");
    let theirs = app.api(&app.key(other.id, "full-access"));
    let mut owner = app.signed_in().await;
    let mut boss = app.signed_in_as("boss@other.example").await;
    assert_eq!(boss.get("/appliance/accounts").await.status(), 403);
    let path = format!("/appliance/accounts/{}", other.id);
    assert_eq!(boss.post(&format!("{path}/suspend"), &[]).await.status(), 403);
    assert_eq!(owner.post(&format!("{path}/suspend"), &[]).await.status(), 303);
    assert_eq!((boss.get("/profile").await.status().as_u16(), theirs.get("/api/accounts").await.0), (303, 401));
    app.forward(400 * DAY);
    let app_ = &app.app;
    assert_eq!(accounts::purge_due(&app_.kernel, &app::owned(&app_.kernel)).await.expect("none"), 0, "it stays");
    let mut owner = app.signed_in().await;
    assert_eq!(owner.post("/accounts/switch", &[("account", &other.id.to_string())]).await.status(), 404);
    assert_eq!(owner.post(&format!("{path}/restore"), &[]).await.status(), 303);
    app.signed_in_as("boss@other.example").await;
    let kinds = ["audit.account_suspended.v1", "audit.account_restored.v1"];
    for kind in kinds {
        assert_eq!(app.audited(kind)[0]["account"], other.id.to_string(), "{kind}");
    }
}

#[tokio::test]
async fn the_last_account_in_use_is_neither_deleted_nor_suspended_and_the_form_says_why() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    let key = app.api(&app.key(app.account, "full-access"));
    let why = "the only account in use";
    let answer = owner.post("/settings/account/delete", &[("confirm", "acme")]).await;
    assert_eq!(answer.status(), 409);
    let page = answer.text().await.expect("a page");
    assert!(text(&page, "#error-summary").contains(why), "{page}");
    assert_eq!(attribute(&page, "input[name=confirm]", "value").as_deref(), Some("acme"), "what was typed is kept");
    let answer = owner.post(&format!("/appliance/accounts/{}/suspend", app.account), &[]).await;
    assert_eq!(location(&answer), "/appliance/accounts");
    assert!(owner.page("/appliance/accounts").await.contains(why));
    // A suspended one beside it does not count.
    let other = app.other_account("other", "boss@other.example");
    assert_eq!(owner.post(&format!("/appliance/accounts/{}/suspend", other.id), &[]).await.status(), 303);
    assert_eq!(owner.post("/settings/account/delete", &[("confirm", "acme")]).await.status(), 409);
    assert_eq!((owner.get("/profile").await.status().as_u16(), key.get("/api/accounts").await.0), (200, 200));
    assert_eq!(app.count("SELECT count(*) FROM account WHERE state = 'active' AND purge_at IS NULL"), 1);
    assert_eq!(app.count("SELECT count(*) FROM audit_record WHERE type = 'audit.account_deleted.v1'"), 0);
    // With one in use, it goes.
    assert_eq!(owner.post(&format!("/appliance/accounts/{}/restore", other.id), &[]).await.status(), 303);
    assert_eq!(owner.post("/settings/account/delete", &[("confirm", "acme")]).await.status(), 303);
}

#[tokio::test]
async fn of_the_last_two_accounts_that_are_deleted_at_once_one_is_left() {
    for _ in 0..5 {
        let app = TestApp::start();
        app.other_account("other", "boss@other.example");
        let (mut owner, mut boss) = (app.signed_in().await, app.signed_in_as("boss@other.example").await);
        let answers = tokio::join!(
            owner.post("/settings/account/delete", &[("confirm", "acme")]),
            boss.post("/settings/account/delete", &[("confirm", "other")])
        );
        let mut statuses = [answers.0.status().as_u16(), answers.1.status().as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [303, 409]);
        assert_eq!(app.count("SELECT count(*) FROM account WHERE state = 'active'"), 1);
    }
}

#[tokio::test]
async fn the_owner_whose_own_account_is_suspended_brings_it_back_themselves() {
    let app = TestApp::start();
    app.add_user("admin@acme.example", "full-access");
    app.other_account("other", "boss@other.example");
    let mut owner = app.signed_in().await;
    assert_eq!(owner.post("/settings/account/delete", &[("confirm", "acme")]).await.status(), 303);
    let is_active = || app.count("SELECT count(*) FROM account WHERE alias = 'acme' AND state = 'active'") == 1;
    let proof = |page: &str| -> Vec<(&'static str, String)> {
        let names = ["csrf", "user", "account", "until", "seal"];
        names.map(|name| (name, attribute(page, &format!("input[name={name}]"), "value").expect("a field"))).to_vec()
    };
    // Another administrator of it can only ask.
    let mut admin = app.browser();
    let page = admin.sign_in("admin@acme.example", PASSWORD).await.text().await.expect("a page");
    assert_eq!(text(&page, "form button"), "Ask for the account back");
    let theirs = proof(&page);
    assert_eq!(admin.post_raw("/sign-in/restore", &borrowed(&theirs), &[]).await.status(), 303);
    assert!(!is_active(), "asking brings nothing back");
    app.sql(
        "UPDATE membership SET role_id = 'read-only' WHERE user_id = (SELECT id FROM user WHERE email LIKE 'admin@%')",
    );
    let answer = admin.post_raw("/sign-in/restore", &borrowed(&theirs), &[]).await;
    assert_eq!(answer.status(), 403, "whoever administers it no more asks no more");

    let mut browser = app.browser();
    let answer = browser.sign_in(EMAIL, PASSWORD).await;
    assert_eq!(answer.status(), 403, "no session yet");
    assert!(browser.session().is_none());
    let page = answer.text().await.expect("a page");
    assert_eq!(text(&page, "form button"), "Bring the account back");
    let fields = proof(&page);
    // Not with somebody else's name on one's own seal, and not ten minutes later.
    let mut forged = theirs.clone();
    forged[1] = fields[1].clone();
    forged[0] = fields[0].clone();
    assert_eq!(browser.post_raw("/sign-in/restore", &borrowed(&forged), &[]).await.status(), 403);
    app.forward(10 * MINUTE);
    assert_eq!(browser.post_raw("/sign-in/restore", &borrowed(&fields), &[]).await.status(), 403);
    assert!(!is_active());
    let page = browser.sign_in(EMAIL, PASSWORD).await.text().await.expect("a page");
    let fields = proof(&page);
    let answer = browser.post_raw("/sign-in/restore", &borrowed(&fields), &[]).await;
    assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (303, "/sign-in"));
    assert!(is_active());
    assert!(browser.page("/sign-in").await.contains("The account works again"));
    assert_eq!(browser.post_raw("/sign-in/restore", &borrowed(&fields), &[]).await.status(), 409, "once");
    let mut owner = app.signed_in().await;
    assert!(owner.page("/settings/account").await.contains("acme"));
    assert_eq!(app.count("SELECT count(*) FROM account WHERE purge_at IS NOT NULL"), 0);
    let restored = app.audited("audit.account_restored.v1");
    assert_eq!((restored.len(), &restored[0]["account"]), (1, &json!(app.account.to_string())));
    assert_eq!(app.audited("audit.account_restore_asked.v1").len(), 1);
    app.assert_audit_verifies();
}

#[tokio::test]
async fn a_session_alone_makes_no_browser_known() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    assert_eq!(owner.post("/accounts/new", &new_account("second")).await.status(), 303);
    assert_eq!(app.count("SELECT count(*) FROM known_browser"), 1);
    // Somebody else has the session, and nothing of what makes the browser known.
    let mut thief = app.browser();
    let session = owner.session().expect("a session").clone();
    thief.cookies.insert("__Host-bailiwick-session".into(), session);
    let switched = thief.post("/accounts/switch", &[("account", &app.account.to_string())]).await;
    assert_eq!(switched.status(), 303);
    let cookies: Vec<_> = switched.headers().get_all("set-cookie").iter().collect();
    assert!(!cookies.iter().any(|cookie| cookie.to_str().expect("ASCII").contains("bailiwick-known")), "{cookies:?}");
    assert_eq!(app.count("SELECT count(*) FROM known_browser"), 1);
}
