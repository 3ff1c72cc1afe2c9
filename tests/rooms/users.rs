//! Users through both doors: the list, what holds with the next request, what ends where, and who may touch whom.

use bailiwick::{audit, principal::Principal, users};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Api, EMAIL, PASSWORD, TestApp, attribute, off, text};

async fn emails(api: &Api, query: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let (status, body) = api.get(&format!("/api/users?limit=2&{query}&cursor={cursor}")).await;
        assert_eq!(status, 200, "{query}: {body}");
        let rows = body["users"].as_array().expect("a list");
        found.extend(rows.iter().map(|row| row["email"].as_str().expect("an address").to_owned()));
        match body["next"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    found.sort();
    found
}

async fn id_of(api: &Api, email: &str) -> String {
    let (_, body) = api.get(&format!("/api/users?q={email}")).await;
    body["users"][0]["id"].as_str().unwrap_or_else(|| panic!("{email}: {body}")).to_owned()
}

/// Lets a user of ours into another account too.
fn join(app: &TestApp, email: &'static str, account: bailiwick::principal::AccountId, role: &'static str) {
    let machine = Principal::command_line("default", Some(account), "root");
    let now = app.app.kernel.clock.now();
    let write = move |c: &rusqlite::Connection| {
        let user = users::find_by_email(c, email)?.expect("a user");
        Ok(((), users::grant(c, "default", &user, account, role, now)?))
    };
    off(|| audit::change_blocking(&app.app.kernel, &machine, write)).expect("a member");
}

#[tokio::test]
async fn the_list_is_narrowed_by_name_role_and_state() {
    let app = TestApp::start();
    for (email, role) in [
        ("anna@acme.example", "read-only"),
        ("bjorn@acme.example", "auditor"),
        ("chloe@acme.example", "read-only"),
        ("dag@acme.example", "operator"),
    ] {
        app.add_user(email, role);
    }
    app.other_account("other", "anna@other.example");
    let api = app.api(&app.key(app.account, "full-access"));
    let dag = id_of(&api, "dag@acme.example").await;
    assert_eq!(api.post(&format!("/api/users/{dag}"), &json!({"state": "disabled"})).await.0, 200);
    let all = ["anna@acme.example", "bjorn@acme.example", "chloe@acme.example", "dag@acme.example", EMAIL];
    for (query, expected) in [
        ("", &all[..]),
        ("q=ACME", &all),
        ("q=anna", &all[..1]),
        ("q=ida%20m", &all[4..]),
        ("q=nobody", &[]),
        ("role=read-only", &[all[0], all[2]]),
        ("role=read-only&q=chl", &[all[2]]),
        ("role=none-such", &[]),
        ("state=disabled", &[all[3]]),
        ("state=enabled", &[all[0], all[1], all[2], all[4]]),
        ("state=enabled&role=operator", &[]),
    ] {
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(emails(&api, query).await, expected, "{query}");
    }
    for query in ["state=gone", "limit=x", "cursor=x", "accountId=1", "limit=2&limit=3"] {
        assert_eq!(api.get(&format!("/api/users?{query}")).await.0, 400, "{query}");
    }
    // The page shows the same.
    let mut browser = app.signed_in().await;
    let page = browser.page("/users?role=read-only&q=chl").await;
    assert!(page.contains("chloe@acme.example") && !page.contains("anna@acme.example"), "{page}");
}

#[tokio::test]
async fn another_role_holds_with_the_next_request_of_a_session_that_goes_on() {
    let app = TestApp::start();
    app.add_user("bo@acme.example", "read-only");
    let api = app.api(&app.key(app.account, "full-access"));
    let mut bo = app.signed_in_as("bo@acme.example").await;
    let id = id_of(&api, "bo@acme.example").await;
    let path = format!("/api/users/{id}");
    for (role, users, roles_new) in
        [("read-only", 200, 403), ("full-access", 200, 200), ("operator", 403, 403), ("read-only", 200, 403)]
    {
        assert_eq!(api.post(&path, &json!({"roleId": role})).await.0, 200, "{role}");
        assert_eq!(bo.get("/users").await.status(), users, "{role}");
        assert_eq!(bo.get("/roles/new").await.status(), roles_new, "{role}");
    }
    let records = app.audited("audit.user_role_changed.v1");
    assert_eq!(records.len(), 3, "to the same role is no change: {records:?}");
    assert_eq!(records[0]["changes"]["roleId"]["after"], "full-access");
    // An id that does not exist, and a role that does not.
    assert_eq!(api.post("/api/users/nobody", &json!({"roleId": "auditor"})).await.0, 404);
    assert_eq!(api.post(&path, &json!({"roleId": "no-such"})).await.0, 422);
    app.assert_audit_verifies();
}

#[tokio::test]
async fn whoever_is_disabled_or_removed_is_so_in_one_account_only() {
    let app = TestApp::start();
    let other = app.other_account("other", "root@other.example");
    app.add_user("bo@acme.example", "read-only");
    join(&app, "bo@acme.example", other.id, "auditor");
    let (ours, theirs) = (app.api(&app.key(app.account, "full-access")), app.api(&app.key(other.id, "full-access")));
    let id = id_of(&ours, "bo@acme.example").await;
    assert_eq!(id_of(&theirs, "bo@acme.example").await, id, "one user, two memberships");
    let path = format!("/api/users/{id}");
    // The account that they were last active in is the one that they enter.
    app.sql("UPDATE membership SET last_active_at = CASE role_id WHEN 'auditor' THEN 1 ELSE 2 END");
    let mut here = app.signed_in_as("bo@acme.example").await;
    app.sql("UPDATE membership SET last_active_at = CASE role_id WHEN 'auditor' THEN 2 ELSE 1 END");
    let mut there = app.signed_in_as("bo@acme.example").await;
    assert!(here.page("/").await.contains(&app.account.to_string()));
    assert!(there.page("/").await.contains(&other.id.to_string()));
    let (status, disabled) = ours.post(&path, &json!({"state": "disabled"})).await;
    assert_eq!((status, &disabled["state"]), (200, &json!("disabled")));
    assert_eq!(here.get("/").await.status(), 303, "their session here has ended");
    assert_eq!(there.get("/").await.status(), 200, "the one there goes on");
    assert_eq!(app.audited("audit.user_disabled.v1")[0]["sessionsEnded"], 1);
    assert_eq!(theirs.get(&path).await.1["state"], "enabled");
    // Enabled again: a session that ended stays ended.
    assert_eq!(ours.post(&path, &json!({"state": "enabled"})).await.0, 200);
    assert_eq!(here.get("/").await.status(), 303);
    // Removed there, by whoever administers there.
    assert_eq!(theirs.send(Method::DELETE, &path, None).await.0, 204);
    assert_eq!(there.get("/").await.status(), 303);
    assert_eq!((theirs.get(&path).await.0, ours.get(&path).await.0), (404, 200));
    assert_eq!(theirs.send(Method::DELETE, &path, None).await.0, 404);
    let mut again = app.signed_in_as("bo@acme.example").await;
    assert!(again.page("/").await.contains(&app.account.to_string()));
    app.assert_audit_verifies();
}

#[tokio::test]
async fn another_accounts_user_does_not_exist() {
    let app = TestApp::start();
    let other = app.other_account("other", "root@other.example");
    let (ours, theirs) = (app.api(&app.key(app.account, "full-access")), app.api(&app.key(other.id, "full-access")));
    let id = id_of(&theirs, "root@other.example").await;
    let path = format!("/api/users/{id}");
    let nobody = format!("/api/users/{}", id.replace(|c: char| c.is_ascii_digit(), "0"));
    let same = |answers: (Value, Value)| assert_eq!(answers.0["error"], answers.1["error"]);
    let (status, body) = ours.get(&path).await;
    assert_eq!(status, 404);
    same((body, ours.get(&nobody).await.1));
    let change = json!({"state": "disabled"});
    let (status, body) = ours.post(&path, &change).await;
    assert_eq!(status, 404);
    same((body, ours.post(&nobody, &change).await.1));
    assert_eq!(ours.send(Method::DELETE, &path, None).await.0, 404);
    let mut browser = app.signed_in().await;
    for end in ["", "/remove"] {
        assert_eq!(browser.get(&format!("/users/{id}{end}")).await.status(), 404, "{end}");
    }
    for end in ["", "/disable", "/enable", "/sign-out", "/remove"] {
        let answer = browser.post(&format!("/users/{id}{end}"), &[("role", "read-only")]).await;
        let location = answer.headers().get("location").map(|value| value.to_str().expect("ASCII").to_owned());
        assert!(answer.status() == 404 || location.is_some(), "{end}: {}", answer.status());
    }
    assert_eq!(theirs.get(&path).await.1["state"], "enabled");
    assert_eq!(app.count("SELECT count(*) FROM membership"), 2);
}

#[tokio::test]
async fn whoever_holds_less_does_not_touch_whoever_holds_more() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    let people = json!({"id": "people", "name": "People", "services": {"identity": "full", "directories": "read"}});
    assert_eq!(root.post("/api/roles", &people).await.0, 201);
    app.add_user("pia@acme.example", "people");
    app.add_user("per@acme.example", "people");
    app.add_user("otto@acme.example", "operator");
    let people = app.api(&app.admin_key(app.account, "people"));
    let mut otto = app.signed_in_as("otto@acme.example").await;
    // `operator` holds less of identity and more of the rest: neither is over the other.
    for email in [EMAIL, "otto@acme.example"] {
        let path = format!("/api/users/{}", id_of(&root, email).await);
        for body in
            [json!({"roleId": "people"}), json!({"state": "disabled"}), json!({"state": "enabled", "roleId": "people"})]
        {
            assert_eq!(people.post(&path, &body).await.0, 403, "{email} {body}");
        }
        assert_eq!(people.send(Method::DELETE, &path, None).await.0, 403, "{email}");
    }
    assert_eq!(otto.get("/").await.status(), 200);
    // An equal can be: they administer too.
    let per = format!("/api/users/{}", id_of(&root, "per@acme.example").await);
    assert_eq!(people.post(&per, &json!({"state": "disabled"})).await.0, 200);
    let refused: Vec<Value> = ["audit.user_updated.v1", "audit.user_removed.v1"]
        .iter()
        .flat_map(|kind| app.audited(kind))
        .filter(|record| record["result"] == "denied")
        .collect();
    assert_eq!(refused.len(), 8);
    assert!(refused.iter().all(|record| record["why"] == "This user holds more rights than you do."), "{refused:?}");
    // What is not allowed is not offered either.
    let mut pia = app.signed_in_as("pia@acme.example").await;
    let page = pia.page(&format!("/users/{}", id_of(&root, EMAIL).await)).await;
    for end in ["disable", "sign-out", "remove"] {
        assert!(
            attribute(&page, &format!("main form[action$={end}] button"), "class").is_none(),
            "{end} is offered: {page}"
        );
    }
}

#[tokio::test]
async fn a_link_that_was_handed_over_dies_when_its_user_comes_to_hold_more() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    let desk = json!({"id": "desk", "name": "Desk", "services": {"identity": "full"}});
    assert_eq!(root.post("/api/roles", &desk).await.0, 201);
    let low = json!({"id": "low", "name": "Low", "services": {"identity": "read"}});
    assert_eq!(root.post("/api/roles", &low).await.0, 201);
    app.add_user("desk@acme.example", "desk");
    app.add_user("low@acme.example", "low");
    let (desk, low) = (id_of(&root, "desk@acme.example").await, id_of(&root, "low@acme.example").await);
    let mut browser = app.signed_in_as("desk@acme.example").await;
    let change = async |user: &str, body: Value| {
        assert_eq!(root.post(&format!("/api/users/{user}"), &body).await.0, 200, "{body}");
    };
    let mut link = async || {
        // Three an hour are made for one user, and this test wants more.
        app.sql("DELETE FROM user_token");
        let answer = browser.post(&format!("/users/{low}/reset-link"), &[]).await;
        text(&answer.text().await.expect("a page"), "#link")
    };
    let opens = async |link: &str| app.browser().get(link).await.status().as_u16();
    // The user is given more than whoever copied the link holds.
    let copied = link().await;
    assert_eq!(opens(&copied).await, 200);
    change(&low, json!({"roleId": "operator"})).await;
    assert_eq!(opens(&copied).await, 404);
    let fields = [("token", copied.split_once("token=").expect("a token").1), ("new", "eleven quick larks by noon")];
    assert_eq!(app.browser().post("/reset-password", &fields).await.status(), 404);
    change(&low, json!({"roleId": "low"})).await;
    // Their role grows.
    let copied = link().await;
    let more = json!({"services": {"identity": "read", "audit": "read"}});
    assert_eq!(root.post("/api/roles/low", &more).await.0, 200);
    assert_eq!(opens(&copied).await, 404);
    assert_eq!(root.post("/api/roles/low", &json!({"services": {"identity": "read"}})).await.0, 200);
    // Whoever copied it is disabled.
    let copied = link().await;
    assert_eq!(opens(&copied).await, 200);
    change(&desk, json!({"state": "disabled"})).await;
    assert_eq!(opens(&copied).await, 404);
    change(&desk, json!({"state": "enabled"})).await;
    // The user comes into another account.
    let mut browser = app.signed_in_as("desk@acme.example").await;
    app.sql("DELETE FROM user_token");
    let answer = browser.post(&format!("/users/{low}/reset-link"), &[]).await;
    let copied = text(&answer.text().await.expect("a page"), "#link");
    assert_eq!(opens(&copied).await, 200);
    app.other_account("other", "boss@other.example");
    app.sql(
        "INSERT INTO membership (user_id, account_id, role_id, created_at)
         SELECT user.id, account.id, 'read-only', 1 FROM user JOIN account ON account.alias = 'other'
         WHERE user.email = 'low@acme.example'",
    );
    assert_eq!(opens(&copied).await, 404);
    app.sql("DELETE FROM membership WHERE created_at = 1");
    assert_eq!(opens(&copied).await, 200, "they belong to this account alone again");
    // They come to own the appliance.
    let fields = [("email", "low@acme.example"), ("current", PASSWORD)];
    assert_eq!(app.signed_in().await.post("/appliance/owner", &fields).await.status(), 303);
    assert_eq!(opens(&copied).await, 404);
}

#[tokio::test]
async fn the_api_answers_every_link_that_is_to_be_handed_over_in_one_form() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    app.add_user("low@acme.example", "read-only");
    let reset = format!("/api/users/{}/reset-link", id_of(&root, "low@acme.example").await);
    let invite = |email: &str| json!({"email": email, "roleId": "read-only"});
    let made = [
        ("/reset-password", root.post(&reset, &json!({})).await.1),
        ("/invitation", root.post("/api/invitations", &invite("one@guest.example")).await.1),
    ];
    for (page, made) in made {
        let token = made["token"].as_str().expect("a token");
        assert!(made["link"].is_null(), "{page}");
        assert_eq!(app.browser().get(&format!("{page}?token={token}")).await.status(), 200, "{page}");
    }
    let base = "https://bailiwick.example.com";
    let mut owner = app.signed_in().await;
    assert_eq!(owner.post("/settings/mail/address", &[("baseUrl", base)]).await.status(), 303);
    let made = [
        ("/reset-password", root.post(&reset, &json!({})).await.1),
        ("/invitation", root.post("/api/invitations", &invite("two@guest.example")).await.1),
    ];
    for (page, made) in made {
        let link = made["link"].as_str().and_then(|link| link.strip_prefix(base)).expect("a link");
        assert!(made["token"].is_null() && link.starts_with(&format!("{page}?token=")), "{link}");
        assert_eq!(app.browser().get(link).await.status(), 200, "{page}");
    }
}
