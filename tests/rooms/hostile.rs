//! What somebody tries who is in already, or was: asking for what is another's, slipping in fields that are not theirs to
//! set, coming back after they were shut out. Each is refused, and whoever is known is on the record.

use std::os::unix::fs::PermissionsExt as _;

use bailiwick::{
    clock::MINUTE,
    principal::Permission,
    web::{Again, Surface},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{EMAIL, PASSWORD, TestApp};

const DENIED: &str = "audit.access_denied.v1";

fn refused(app: &TestApp) -> i64 {
    app.count("SELECT count(*) FROM audit_record WHERE result <> 'success'")
}

#[tokio::test]
async fn whoever_asks_for_ids_of_others_is_told_of_none_and_is_on_the_record_of_their_own_account() {
    let app = TestApp::start();
    let key = app.key(app.account, "full-access");
    let ours = app.api(&key);
    let key_id = key.split(':').next().expect("an id");
    let (_, users) = ours.get("/api/users").await;
    let ida = users["users"][0]["id"].as_str().expect("a user");
    let invitation = json!({"email": "guest@acme.example", "roleId": "read-only"});
    let (_, invited) = ours.post("/api/invitations", &invitation).await;
    let invited = invited["id"].as_str().expect("an id");
    let (_, logs) = ours.get("/api/logs").await;
    let record = logs["logs"][0]["id"].as_str().expect("a record");
    let other = app.other_account("other", "root@other.example");
    let theirs = app.api(&app.key(other.id, "full-access"));
    let mut browser = app.signed_in_as("root@other.example").await;
    let token = browser.token("/profile").await;
    let account = format!("/api/accounts/{}", app.account);
    let mut expected = Vec::new();
    for (method, path, body) in [
        (Method::GET, format!("/api/users/{ida}"), Value::Null),
        (Method::POST, format!("/api/users/{ida}"), json!({"roleId": "read-only"})),
        (Method::DELETE, format!("/api/users/{ida}"), Value::Null),
        (Method::GET, format!("/api/apikeys/{key_id}"), Value::Null),
        (Method::POST, format!("/api/apikeys/{key_id}"), json!({"enabled": false})),
        (Method::POST, format!("/api/apikeys/{key_id}/rotate"), json!({})),
        (Method::GET, format!("/api/invitations/{invited}"), Value::Null),
        (Method::DELETE, format!("/api/invitations/{invited}"), Value::Null),
        (Method::GET, format!("/api/logs/{record}"), Value::Null),
        (Method::GET, account.clone(), Value::Null),
        (Method::POST, account, json!({"alias": "mine"})),
        // One that does not exist is answered, and recorded, like one of somebody else.
        (Method::GET, "/api/users/01890000-0000-7000-8000-000000000000".into(), Value::Null),
    ] {
        let (status, answer) = theirs.send(method.clone(), &path, (!body.is_null()).then_some(&body)).await;
        assert_eq!(status, 404, "{method} {path}: {answer}");
        expected.push((method.to_string(), path));
    }
    for path in [format!("/users/{ida}"), format!("/api-keys/{key_id}"), format!("/logs/{record}")] {
        // The query is nobody's business; the log has the path.
        assert_eq!(browser.get(&format!("{path}?q=secret")).await.status(), 404, "{path}");
        expected.push(("GET".into(), path));
    }
    let path = format!("/users/{ida}/disable");
    assert_eq!(browser.post_raw(&path, &[("csrf", &token)], &[]).await.status(), 404);
    expected.push(("POST".into(), path));
    let records = app.audited(DENIED);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let seen: Vec<(String, String)> = records.iter().map(|one| (text(&one["method"]), text(&one["path"]))).collect();
    assert_eq!(seen, expected, "each once");
    for one in &records {
        assert_eq!((&one["status"], &one["result"]), (&json!(404), &json!("denied")), "{one}");
        assert_eq!((&one["account"], &one["address"]), (&json!(other.id.to_string()), &json!("127.0.0.1")), "{one}");
        assert!(text(&one["why"]).ends_with("not found."), "{one}");
        assert!(!one.to_string().contains("secret"), "{one}");
    }
    assert_eq!(refused(&app), i64::try_from(records.len()).expect("few"), "and nothing else");
    let (_, log) = ours.get("/api/logs?type=audit.access_denied.v1").await;
    assert_eq!(log["logs"], json!([]), "our log does not name who asked");
    app.assert_audit_verifies();
}

#[tokio::test]
async fn what_is_tried_beside_the_rules_is_on_the_record_with_its_status_and_quotes_nothing() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    let reader = app.api(&app.key(app.account, "read-only"));
    let (_, users) = root.get("/api/users").await;
    let ida = format!("/api/users/{}", users["users"][0]["id"].as_str().expect("a user"));
    let secret = "bwk_sesame";
    let endless = format!("/api/users/{}", "9".repeat(3_000));
    assert_eq!(root.get(&endless).await.0, 404);
    let long = app.audited(DENIED)[0]["path"].as_str().map(str::len);
    assert_eq!(long, Some(300), "the log is not filled by one long address");
    let mut asked = vec![endless];
    for (api, method, path, body, status, why) in [
        (&reader, Method::POST, "/api/apikeys".to_owned(), json!({"alias": secret}), 403, "role"),
        (&root, Method::GET, format!("/api/users?cursor={secret}"), Value::Null, 400, ""),
        (&root, Method::GET, format!("/api/users?api_key={secret}"), Value::Null, 400, "query parameter"),
        (&root, Method::POST, ida.clone(), json!({"isOwner": secret}), 422, "isOwner"),
        (&root, Method::POST, ida, json!({"roleId": secret}), 422, "roleId"),
    ] {
        let before = app.audited(DENIED).len();
        let (got, answer) = api.send(method.clone(), &path, (!body.is_null()).then_some(&body)).await;
        assert_eq!(got, status, "{method} {path}: {answer}");
        let records = app.audited(DENIED);
        assert_eq!(records.len(), before + 1, "{method} {path}");
        let last = records.last().expect("a record");
        assert_eq!(last["status"], status, "{last}");
        assert!(last["why"].as_str().is_some_and(|text| text.contains(why)), "{last}");
        assert!(!last.to_string().contains("sesame"), "{last}");
        asked.push(path);
    }
    // Without the query, and cut where it is endless.
    let recorded: Vec<Value> = app.audited(DENIED).iter().map(|one| one["path"].clone()).collect();
    let shown = |path: &String| path.split('?').next().expect("a path").chars().take(300).collect::<String>();
    assert_eq!(recorded, asked.iter().map(shown).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_flood_of_refusals_is_counted_and_hides_no_other_kind() {
    let app = TestApp::start();
    app.add_user("eve@acme.example", "read-only");
    let mut eve = app.signed_in_as("eve@acme.example").await;
    for _ in 0..70 {
        assert_eq!(eve.get("/users/nobody").await.status(), 404);
    }
    assert_eq!(app.audited(DENIED).len(), 30);
    // Somebody else, and another answer to the same one, are counted by themselves.
    assert_eq!(eve.get("/roles/new").await.status(), 403);
    assert_eq!(app.signed_in().await.get("/users/nobody").await.status(), 404);
    assert_eq!(app.audited(DENIED).len(), 32);
    app.forward(MINUTE);
    assert_eq!(eve.get("/users/nobody").await.status(), 404);
    let records = app.audited(DENIED);
    assert_eq!((records.len(), &records[32]["alsoDeniedBefore"]), (33, &json!(40)));
    assert!(records[..32].iter().all(|one| one["alsoDeniedBefore"] == 0));
}

#[tokio::test]
async fn a_page_that_asks_by_itself_leaves_one_line_a_minute() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    for _ in 0..10 {
        assert_eq!(browser.get("/runs/999/progress").await.status(), 404);
    }
    assert_eq!(app.audited(DENIED).len(), 1);
    app.forward(MINUTE);
    assert_eq!(browser.get("/runs/999/progress").await.status(), 404);
    let records = app.audited(DENIED);
    assert_eq!((records.len(), &records[1]["alsoDeniedBefore"]), (2, &json!(9)));
}

#[tokio::test]
async fn what_a_room_has_recorded_is_not_recorded_again() {
    let app = TestApp::start();
    app.other_account("other", "eve@other.example");
    let root = app.api(&app.key(app.account, "full-access"));
    let desk = json!({"id": "desk", "name": "Desk", "services": {"identity": "full"}});
    assert_eq!(root.post("/api/roles", &desk).await.0, 201);
    let api = app.api(&app.admin_key(app.account, "desk"));
    let above = json!({"email": "x@guest.example", "roleId": "full-access"});
    assert_eq!(api.post("/api/invitations", &above).await.0, 403);
    app.add_user("desk@acme.example", "desk");
    let mut browser = app.signed_in_as("desk@acme.example").await;
    let fields = [("email", "x@guest.example"), ("roleId", "full-access"), ("expiresInDays", "7")];
    assert_eq!(browser.post("/invitations", &fields).await.status(), 403);
    // A link in the hands of somebody else is the business of the account that invites, and of no other.
    let (_, made) = root.post("/api/invitations", &json!({"email": "x@guest.example", "roleId": "desk"})).await;
    let token = made["token"].as_str().expect("a token");
    let mut eve = app.signed_in_as("eve@other.example").await;
    assert_eq!(eve.post("/invitation/join", &[("token", token)]).await.status(), 403);
    // A wrong password for a change of one's own.
    let fields = [("current", "not the password"), ("new", "seven slow herons at dawn")];
    assert_eq!(eve.post("/profile/password", &fields).await.status(), 422);
    assert_eq!(app.audited(DENIED), Vec::<Value>::new());
    let created = app.audited("audit.invitation_created.v1");
    assert_eq!(created.iter().filter(|one| one["result"] == "denied").count(), 2);
    assert_eq!(refused(&app), 4);
}

#[tokio::test]
async fn mistakes_of_people_and_questions_of_strangers_are_no_refusals() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    let key = app.key(app.account, "full-access");
    let fields = [("name", ""), ("locale", "en"), ("timeZone", ""), ("theme", "auto")];
    assert_eq!(browser.post("/profile", &fields).await.status(), 422, "a form to correct");
    assert_eq!(browser.post("/settings/account/delete", &[("confirm", "acme")]).await.status(), 409);
    let api = app.api(&key);
    assert_eq!(api.post("/api/roles/read-only", &json!({"name": "x"})).await.0, 409);
    assert_eq!(api.get("/api/users?limit=1").await.0, 200);
    let mut stranger = app.browser();
    assert_eq!(stranger.get("/users/nobody").await.status(), 303);
    assert_eq!(stranger.get("/nowhere").await.status(), 404);
    assert_eq!(stranger.get("/invitation?token=x").await.status(), 404);
    assert_eq!(app.api("").get("/api/users/nobody").await.0, 401);
    assert_eq!(refused(&app), 0);
}

#[tokio::test]
async fn what_was_ended_stays_ended_after_a_restart() {
    let mut app = TestApp::start();
    app.add_user("gone@acme.example", "full-access");
    app.add_user("less@acme.example", "full-access");
    let root_key = app.key(app.account, "full-access");
    let root = app.api(&root_key);
    let locked = app.key(app.account, "full-access");
    let removed = app.key(app.account, "full-access");
    let (_, users) = root.get("/api/users").await;
    let id = |email: &str| {
        let rows = users["users"].as_array().expect("a list");
        let found = rows.iter().find(|user| user["email"] == email).expect("a user");
        found["id"].as_str().expect("an id").to_owned()
    };
    let mut out = app.signed_in().await;
    let stolen = out.clone();
    let gone = app.signed_in_as("gone@acme.example").await;
    let mut less = app.signed_in_as("less@acme.example").await;
    let (_, invited) = root.post("/api/invitations", &json!({"email": "x@guest.example", "roleId": "read-only"})).await;
    assert_eq!(out.post("/sign-out", &[]).await.status(), 303);
    let key_path = |key: &str| format!("/api/apikeys/{}", key.split(':').next().expect("an id"));
    assert_eq!(root.post(&key_path(&locked), &json!({"enabled": false})).await.0, 200);
    assert_eq!(root.send(Method::DELETE, &key_path(&removed), None).await.0, 204);
    let path = format!("/api/users/{}", id("gone@acme.example"));
    assert_eq!(root.post(&path, &json!({"state": "disabled"})).await.0, 200);
    let path = format!("/api/users/{}", id("less@acme.example"));
    assert_eq!(root.post(&path, &json!({"roleId": "auditor"})).await.0, 200);
    let path = format!("/api/invitations/{}", invited["id"].as_str().expect("an id"));
    assert_eq!(root.send(Method::DELETE, &path, None).await.0, 204);

    app = app.restart();
    for mut dead in [stolen, gone] {
        dead.base.clone_from(&app.base);
        assert_eq!(dead.get("/profile").await.status(), 303);
    }
    less.base.clone_from(&app.base);
    assert_eq!((less.get("/logs").await.status().as_u16(), less.get("/roles/new").await.status().as_u16()), (200, 403));
    for key in [&locked, &removed] {
        assert_eq!(app.api(key).get("/api/accounts").await.0, 401);
    }
    assert_eq!(app.api(&root_key).get("/api/accounts").await.0, 200, "what was not ended goes on");
    let link = format!("/invitation?token={}", invited["token"].as_str().expect("a token"));
    assert_eq!(app.browser().get(&link).await.status(), 404);
    assert_eq!(app.browser().sign_in("gone@acme.example", PASSWORD).await.status(), 422);
}

/// Routes that read no field but the token of their form, so none can be slipped in. Only shrinks, or grows with such a route.
const TAKE_NOTHING: &[&str] = &[
    "/profile/email/verify",
    "/profile/sessions/{id}/end",
    "/profile/mfa/devices/{id}/remove",
    "/profile/mfa/codes",
    "/users/{id}/mfa/reset",
    "/users/{id}/disable",
    "/users/{id}/enable",
    "/users/{id}/sign-out",
    "/users/{id}/reset-link",
    "/users/{id}/remove",
    "/api-keys/{id}/lock-out",
    "/api-keys/{id}/unlock",
    "/api-keys/{id}/take-over",
    "/api-keys/{id}/end-old-secret",
    "/api-keys/{id}/remove",
    "/settings/mail/remove",
    "/settings/mail/outbox/{id}/retry",
    "/settings/mail/outbox/{id}/discard",
    "/roles/{id}/remove",
    "/appliance/accounts/{id}/suspend",
    "/appliance/accounts/{id}/restore",
    "/invitations/{id}/resend",
    "/invitations/{id}/revoke",
];

/// They end the session that asks.
const ENDS_THE_SESSION: &[&str] = &["/sign-out", "/profile/sessions/end"];

#[tokio::test]
async fn no_form_takes_a_field_that_it_does_not_have() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    let token = browser.token("/profile").await;
    let (mut taken, mut known, mut checked) = (Vec::new(), Vec::new(), 0);
    // Bodies of the API are asked in `api_versions`.
    for route in app.app.routes().entries() {
        let is_form =
            route.surface == Surface::Page && route.method == "POST" && route.permission != Permission::Public;
        if !is_form || ENDS_THE_SESSION.contains(&route.path.as_str()) {
            continue;
        }
        let path = route.path.replace("{id}", "1");
        let mut fields = vec![("csrf", token.as_str()), ("isOwner", "1")];
        if route.again == Some(Again::EachTime) {
            fields.push(("stepUpPassword", PASSWORD));
        }
        let answer = browser.post_raw(&path, &fields, &[]).await;
        checked += 1;
        match (answer.status() == 400, TAKE_NOTHING.contains(&route.path.as_str())) {
            (false, false) => taken.push(format!("{} ({})", route.path, answer.status())),
            (true, true) => known.push(route.path.clone()),
            _ => {}
        }
    }
    assert!(taken.is_empty(), "an unknown field is not refused by {taken:#?}");
    assert!(known.is_empty(), "they refuse it: take them off the list: {known:?}");
    assert!(checked > 50, "{checked}");
    assert_eq!(app.count("SELECT count(*) FROM user WHERE is_owner = 1"), 1);
}

#[tokio::test]
async fn nobody_proves_an_address_by_saying_so() {
    let app = TestApp::start();
    app.add_user("eve@acme.example", "full-access");
    let mut eve = app.signed_in_as("eve@acme.example").await;
    for smuggled in ["emailVerified", "email_verified_at", "verified", "email", "isOwner", "roleId", "state"] {
        let fields =
            [("name", "Eve"), ("locale", "en"), ("timeZone", ""), ("theme", "auto"), (smuggled, "eve@evil.example")];
        assert_eq!(eve.post("/profile", &fields).await.status(), 400, "{smuggled}");
    }
    let root = app.api(&app.key(app.account, "full-access"));
    let (_, users) = root.get("/api/users?q=eve@acme.example").await;
    let path = format!("/api/users/{}", users["users"][0]["id"].as_str().expect("a user"));
    for smuggled in ["emailVerified", "emailVerifiedAt", "email", "password", "isOwner", "accountId", "id"] {
        let (status, answer) = root.post(&path, &json!({"state": "enabled", smuggled: true})).await;
        assert_eq!((status, answer["fields"][smuggled].is_string()), (422, true), "{smuggled}: {answer}");
    }
    let proven = "SELECT count(*) FROM user WHERE email_verified_at IS NOT NULL OR email LIKE '%evil%'";
    assert_eq!(app.count(proven), 0);
}

/// What a page must not hold as it is.
const MARKUP: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}";

#[tokio::test]
async fn markup_in_what_people_name_is_text_on_every_page() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    let mut browser = app.signed_in().await;
    let fields = [("name", MARKUP), ("locale", "en"), ("timeZone", ""), ("theme", "auto")];
    assert_eq!(browser.post("/profile", &fields).await.status(), 303);
    let role = json!({"id": "hostile", "name": MARKUP, "description": MARKUP, "services": {"audit": "read"}});
    assert_eq!(root.post("/api/roles", &role).await.0, 201);
    let key = json!({"alias": "hostile", "description": MARKUP, "roleId": "hostile"});
    let (status, key) = root.post("/api/apikeys", &key).await;
    assert_eq!(status, 201, "{key}");
    let guest = "\"<script>alert(1)</script>\"@guest.example";
    root.post("/api/invitations", &json!({"email": guest, "roleId": "hostile"})).await;
    let (_, invited) = root.post("/api/invitations", &json!({"email": "x@guest.example", "roleId": "hostile"})).await;
    // A browser that calls itself so.
    let mut second = app.browser();
    let token = second.token("/sign-in").await;
    let fields = [("csrf", token.as_str()), ("email", EMAIL), ("password", PASSWORD), ("next", "")];
    assert_eq!(second.post_raw("/sign-in", &fields, &[("user-agent", MARKUP)]).await.status(), 303);
    let mut stranger = app.browser();
    stranger.sign_in(MARKUP, MARKUP).await;
    let (_, logs) = root.get("/api/logs?limit=500").await;
    let mut paths: Vec<String> = app
        .app
        .routes()
        .entries()
        .iter()
        .filter(|route| route.surface == Surface::Page && route.method == "GET" && !route.path.contains("{id}"))
        .map(|route| route.path.clone())
        .collect();
    paths.extend(["/roles/hostile".to_owned(), "/roles/new?from=hostile".to_owned()]);
    paths.push(format!("/api-keys/{}", key["id"].as_str().expect("an id")));
    paths.push(format!("/invitations/{}", invited["id"].as_str().expect("an id")));
    paths.extend(
        logs["logs"].as_array().expect("a list").iter().map(|one| format!("/logs/{}", one["id"].as_str().expect("id"))),
    );
    let query = serde_urlencoded::to_string([("q", MARKUP)]).expect("encoded");
    paths.extend(["users", "roles", "identities", "nowhere"].map(|page| format!("/{page}?{query}")));
    let mut shown = 0;
    for path in &paths {
        let answer = browser.get(path).await;
        if answer.status() == 303 {
            continue;
        }
        let kind = answer.headers()["content-type"].to_str().expect("ASCII").to_owned();
        let page = answer.text().await.expect("a page");
        // A download says that it is no page, and no browser takes it for one.
        if !kind.starts_with("text/html") {
            assert!(
                path.ends_with("/export") && ["text/csv", "application/jsonl"].iter().any(|one| kind.starts_with(one)),
                "{path}: {kind}"
            );
            continue;
        }
        for raw in ["<script>alert", "<img src=x", "'><img"] {
            assert!(!page.contains(raw), "{path} holds {raw}");
        }
        shown += usize::from(page.contains("alert(1)"));
    }
    let link = format!("/invitation?token={}", invited["token"].as_str().expect("a token"));
    let page = app.browser().page(&link).await;
    assert!(page.contains("alert(1)") && !page.contains("<script>alert") && !page.contains("<img src=x"));
    assert!(shown > 15, "it is shown on {shown} pages only, so little was tried");
}

#[tokio::test]
async fn the_data_folder_is_for_the_service_alone_whatever_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("opened");
    let app = TestApp::start_in(dir, |_| ());
    let folder = app.dir.as_ref().expect("a folder").path();
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o700);
    let files: Vec<_> = std::fs::read_dir(folder).expect("a folder").flatten().map(|file| file.path()).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&file) & 0o077, 0, "{}", file.display());
    }
}

#[tokio::test]
async fn every_form_of_every_page_needs_the_token_of_its_session_and_a_request_of_this_site() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    let right = browser.token("/profile").await;
    let wrong = app.signed_in().await.token("/profile").await;
    let mut stranger = app.browser();
    stranger.page("/sign-in").await;
    let mut checked = 0;
    for route in app.app.routes().entries() {
        if route.surface != Surface::Page || route.method != "POST" {
            continue;
        }
        let path = route.path.replace("{id}", "1");
        let whose = if route.permission == Permission::Public { &mut stranger } else { &mut browser };
        for (token, headers) in [
            ("", None),
            (wrong.as_str(), None),
            (right.as_str(), Some(("sec-fetch-site", "cross-site"))),
            (right.as_str(), Some(("origin", "https://evil.example"))),
        ] {
            let answer = whose.post_raw(&path, &[("csrf", token)], headers.as_slice()).await;
            assert_eq!(answer.status(), 403, "{path} with {headers:?}");
        }
        // What a page of another site can send without asking: JSON that calls itself text.
        let cookies: Vec<String> = whose.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = whose.http.post(format!("{}{path}", app.base)).header("cookie", cookies.join("; "));
        let answer = request.header("content-type", "text/plain").body(r#"{"theme": "dark"}"#).send().await;
        assert_eq!(answer.expect("answered").status(), 403, "{path}");
        checked += 1;
    }
    assert!(checked > 60, "{checked}");
    assert_eq!(browser.get("/profile").await.status(), 200);
}
