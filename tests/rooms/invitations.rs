//! Invitations through the door: every state, every way in, and everybody who must not get in.

use bailiwick::clock::{DAY, HOUR, MINUTE};
use reqwest::{Method, Response, header};
use serde_json::{Value, json};

use super::{Api, Browser, EMAIL, PASSWORD, TestApp, attribute, text};

pub(super) const GUEST: &str = "nora@guest.example";
const NEW_PASSWORD: &str = "seven slow herons at dawn";

/// Invites by the API; answers the invitation's id and its token.
pub(super) async fn invite(api: &Api, email: &str, role: &str) -> (String, String) {
    let (status, made) = api.post("/api/invitations", &json!({"email": email, "roleId": role})).await;
    assert_eq!(status, 201, "{made}");
    (string(&made["id"]), string(&made["token"]))
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

pub(super) fn landing(token: &str) -> String {
    format!("/invitation?token={token}")
}

async fn state(api: &Api, id: &str) -> String {
    string(&api.get(&format!("/api/invitations/{id}")).await.1["state"])
}

/// Sends the form of a link's page, with a token for forms from a page that is always there.
async fn send(browser: &mut Browser, path: &str, fields: &[(&str, &str)]) -> Response {
    browser.post(path, fields).await
}

pub(super) fn newcomer(token: &str) -> [(&str, &str); 4] {
    [("token", token), ("name", "Nora Guest"), ("password", NEW_PASSWORD), ("locale", "en")]
}

fn location(answer: &Response) -> String {
    answer.headers().get(header::LOCATION).map_or("", |value| value.to_str().expect("ASCII")).to_owned()
}

#[tokio::test]
async fn a_newcomer_sees_what_it_is_for_makes_a_user_and_is_in() {
    let app = TestApp::start();
    let mut admin = app.signed_in().await;
    let fields = [("email", " Nora@Guest.example "), ("roleId", "operator"), ("expiresInDays", "3")];
    let answer = admin.post("/invitations", &fields).await;
    assert_eq!(answer.status(), 200);
    let page = answer.text().await.expect("a page");
    let link = text(&page, "#link");
    assert!(link.starts_with("/invitation?token="), "{link}: the server does not guess its address");
    assert!(attribute(&page, "#link", "data-from-here").is_some());

    let mut guest = app.browser();
    let page = guest.page(&link).await;
    let account = app.account.to_string();
    for shown in ["acme", account.as_str(), "default", "Operator", "Ida Marlow", "Nora@Guest.example", "6 Mar 2026"] {
        assert!(page.contains(shown), "{shown} is not shown");
    }
    assert!(page.contains("Enforcement: operate"), "what the role may do");
    let token = attribute(&page, "input[name=token]", "value").expect("a form");
    let refused = send(&mut guest, "/invitation", &[("token", &token), ("name", " "), ("password", "short")]).await;
    assert_eq!(refused.status(), 422);
    let page = refused.text().await.expect("a page");
    assert!(!text(&page, "#name-error").is_empty() && !text(&page, "#password-error").is_empty());

    let answer = send(&mut guest, "/invitation", &newcomer(&token)).await;
    assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (303, "/"));
    let page = guest.page("/").await;
    assert!(page.contains("acme") && page.contains("Nora Guest"));
    assert_eq!(guest.get("/users").await.status(), 403, "the role of the invitation and no other");

    // And by the ordinary way from now on.
    assert_eq!(app.browser().sign_in("nora@guest.example", NEW_PASSWORD).await.status(), 303);
    let accepted = app.audited("audit.invitation_accepted.v1");
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0]["changes"]["state"], json!({"before": "invited", "after": "accepted"}));
    assert_eq!(accepted[0]["account"], account);
    assert_eq!(accepted[0]["emailProven"], false, "a link that was handed over proves no address");
    assert_eq!(app.audited("audit.user_created.v1").last().expect("a record")["account"], account);
    let signed_in = app.audited("audit.signed_in.v1");
    assert!(signed_in.iter().any(|record| record["method"] == "invitation" && record["account"] == account));
    app.assert_audit_verifies();
}

#[tokio::test]
async fn links_begin_with_the_configured_address_whatever_host_is_asked() {
    let dir = tempfile::tempdir().expect("a folder");
    let app =
        TestApp::start_in(dir, |config| config.base_url = Some("https://id.acme.example/".parse().expect("a URL")));
    let other = app.other_account("acme", "root@acme.example");
    let key = app.key(other.id, "full-access");
    let url = format!("{}/api/invitations", app.base);
    for (name, value) in
        [("host", "evil.example"), ("x-forwarded-host", "evil.example"), ("forwarded", "host=evil.example")]
    {
        let body = json!({"email": format!("{}@guest.example", name), "roleId": "read-only"});
        let request =
            app.browser().http.post(&url).header("authorization", format!("ApiKey {key}")).header(name, value);
        let made: Value = request.json(&body).send().await.expect("answered").json().await.expect("JSON");
        let link = string(&made["link"]);
        assert!(link.starts_with("https://id.acme.example/invitation?token="), "{link}");
        assert!(made["token"].is_null());
    }
    let mut admin = app.signed_in_as("root@acme.example").await;
    let fields = [("email", GUEST), ("roleId", "read-only"), ("expiresInDays", "7")];
    let page = admin.post("/invitations", &fields).await.text().await.expect("a page");
    assert!(text(&page, "#link").starts_with("https://id.acme.example/invitation?token="));
    assert!(attribute(&page, "#link", "data-from-here").is_none());
}

#[tokio::test]
async fn the_token_is_shown_once_and_stands_nowhere() {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "full-access"));
    let (id, token) = invite(&api, GUEST, "read-only").await;
    assert_eq!(token.len(), 43);
    for path in [format!("/api/invitations/{id}"), "/api/invitations".into(), "/api/logs?limit=500".into()] {
        let (_, answer) = api.get(&path).await;
        assert!(!answer.to_string().contains(&token), "{path}");
    }
    let mut admin = app.signed_in().await;
    for path in ["/invitations".to_owned(), format!("/invitations/{id}"), "/logs".to_owned()] {
        assert!(!admin.page(&path).await.contains(&token), "{path}");
    }
    let mut guest = app.browser();
    assert_eq!(send(&mut guest, "/invitation", &newcomer(&token)).await.status(), 303);
    let needle = token.clone();
    let stored = app.app.kernel.db.read_blocking(move |c| {
        let mut found = c.prepare(
            "SELECT details || coalesce(subject_urn, '') FROM audit_record
             UNION ALL SELECT email || role_id || hex(token_hash) || inviter_name FROM invitation",
        )?;
        let texts: Vec<String> = found.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        Ok(texts.iter().any(|text| text.contains(&needle)))
    });
    assert!(!stored.expect("read"));
}

#[tokio::test]
async fn somebody_who_has_a_user_signs_in_and_joins_with_a_new_session() {
    let app = TestApp::start();
    let other = app.other_account("globex", "root@globex.example");
    let api = app.api(&app.key(app.account, "full-access"));
    let (id, token) = invite(&api, "Root@globex.example", "auditor").await;
    let mut guest = app.browser();
    let page = guest.page(&landing(&token)).await;
    assert!(attribute(&page, "input[name=password]", "name").is_none(), "no second user is made");
    let href = attribute(&page, "a.btn[href^='/sign-in']", "href").expect("a link to sign in");
    let page = guest.page(&href).await;
    let next = attribute(&page, "input[name=next]", "value").expect("where to go on");
    assert_eq!(next, landing(&token));
    let form = attribute(&page, "input[name=csrf]", "value").expect("a form");
    let fields = [("csrf", form.as_str()), ("email", "root@globex.example"), ("password", PASSWORD), ("next", &next)];
    let answer = guest.post_raw("/sign-in", &fields, &[]).await;
    assert_eq!(location(&answer), next);
    assert_eq!(state(&api, &id).await, "invited", "signing in is not joining for who is in an account already");

    let before = guest.session().expect("signed in").clone();
    let page = guest.page(&next).await;
    assert!(page.contains("full-access-0") && page.contains("Auditor"));
    let mut second = guest.clone();
    let answer = send(&mut guest, "/invitation/join", &[("token", &token)]).await;
    assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (303, "/"));
    assert_ne!(guest.session(), Some(&before), "the session from before is no key to the new account");
    assert_eq!(second.get("/profile").await.status(), 303, "and it has ended");
    assert!(guest.page("/").await.contains(&app.account.to_string()));
    assert_eq!(guest.get("/invitations/new").await.status(), 403, "an auditor");
    assert_eq!(state(&api, &id).await, "accepted");
    let joined = app.audited("audit.user_joined.v1");
    assert_eq!(joined[0]["account"], app.account.to_string());
    assert!(app.audited("audit.invitation_accepted.v1").iter().all(|record| record["result"] == "success"));
    assert_eq!(app.count("SELECT count(*) FROM user WHERE email_folded = 'root@globex.example'"), 1);
    let other = other.id.to_string();
    let theirs = app.api(&app.key(app.account, "auditor")).get("/api/logs?limit=500").await.1;
    assert!(!theirs.to_string().contains(&other), "our log does not name the account they came from");
}

#[tokio::test]
async fn a_user_whom_no_account_has_any_more_joins_by_signing_in() {
    let app = TestApp::start();
    app.add_user(GUEST, "read-only");
    app.sql("DELETE FROM membership WHERE user_id = (SELECT id FROM user WHERE email = 'nora@guest.example')");
    let api = app.api(&app.key(app.account, "full-access"));
    let (id, token) = invite(&api, GUEST, "read-only").await;
    let (_, strange) = invite(&api, "else@guest.example", "full-access").await;
    let mut guest = app.browser();
    let form = guest.token("/sign-in").await;
    let mut results = Vec::new();
    for (password, next) in [
        (PASSWORD, "/".to_owned()),
        (PASSWORD, landing(&strange)),
        (PASSWORD, landing(&"A".repeat(43))),
        ("not the password at all", landing(&token)),
        (PASSWORD, landing(&token)),
    ] {
        let fields = [("csrf", form.as_str()), ("email", GUEST), ("password", password), ("next", &next)];
        let answer = guest.post_raw("/sign-in", &fields, &[]).await;
        results.push((answer.status().as_u16(), location(&answer)));
    }
    let refused = (422, String::new());
    assert_eq!(results[..4], [refused.clone(), refused.clone(), refused.clone(), refused]);
    assert_eq!(results[4], (303, "/".to_owned()));
    assert!(guest.page("/").await.contains("acme"));
    assert_eq!(state(&api, &id).await, "accepted");
}

#[tokio::test]
async fn an_invitation_is_accepted_once() {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "full-access"));
    let (id, token) = invite(&api, GUEST, "read-only").await;
    // Eight at once: they all saw the form.
    let mut guests = Vec::new();
    for _ in 0..8 {
        let mut guest = app.browser();
        let form = guest.token(&landing(&token)).await;
        guests.push((guest, form));
    }
    let mut waiting = Vec::new();
    for (mut guest, form) in guests {
        let token = token.clone();
        waiting.push(tokio::spawn(async move {
            let mut fields = newcomer(&token).to_vec();
            fields.push(("csrf", &form));
            let answer = guest.post_raw("/invitation", &fields, &[]).await;
            (answer.status().as_u16(), guest.session().is_some())
        }));
    }
    let mut statuses = Vec::new();
    for one in waiting {
        statuses.push(one.await.expect("answered"));
    }
    assert_eq!(statuses.iter().filter(|answer| **answer == (303, true)).count(), 1, "{statuses:?}");
    // The others come too late, or the appliance was too busy hashing for all of them.
    let rest: Vec<_> = statuses.iter().filter(|answer| **answer != (303, true)).collect();
    assert!(rest.iter().all(|(status, is_in)| matches!(status, 404 | 503) && !is_in), "{statuses:?}");
    assert_eq!(app.count("SELECT count(*) FROM user"), 2);
    assert_eq!(app.count("SELECT count(*) FROM session"), 1);

    let answer = send(&mut app.browser(), "/invitation", &newcomer(&token)).await;
    assert_eq!(answer.status(), 404);
    assert_eq!(app.browser().get(&landing(&token)).await.status(), 404);
    assert_eq!(state(&api, &id).await, "accepted");
    let attempts = app.audited("audit.invitation_accepted.v1");
    assert_eq!(attempts.iter().filter(|record| record["result"] == "success").count(), 1);
    let last = attempts.last().expect("a record");
    assert_eq!((&last["result"], &last["reason"]), (&json!("failure"), &json!("it was accepted already")));
    app.assert_audit_verifies();
}

#[tokio::test]
async fn of_two_who_join_at_once_one_is_in() {
    let app = TestApp::start();
    app.other_account("globex", "root@globex.example");
    let api = app.api(&app.key(app.account, "full-access"));
    let (_, token) = invite(&api, "root@globex.example", "read-only").await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut guest = app.signed_in_as("root@globex.example").await;
        let token = token.clone();
        waiting.push(tokio::spawn(async move {
            let form = guest.token("/profile").await;
            let fields = [("csrf", form.as_str()), ("token", &token)];
            guest.post_raw("/invitation/join", &fields, &[]).await.status().as_u16()
        }));
    }
    let mut statuses = Vec::new();
    for one in waiting {
        statuses.push(one.await.expect("answered"));
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 404, 404, 404]);
    assert_eq!(app.count("SELECT count(*) FROM membership"), 3);
    let attempts = app.audited("audit.invitation_accepted.v1");
    assert_eq!(attempts.len(), 4, "every attempt is on the record");
}

#[tokio::test]
async fn another_address_does_not_get_in() {
    let app = TestApp::start();
    app.other_account("globex", "root@globex.example");
    let api = app.api(&app.key(app.account, "full-access"));
    let (id, token) = invite(&api, GUEST, "full-access").await;
    let mut eve = app.signed_in_as("root@globex.example").await;
    let page = eve.page(&landing(&token)).await;
    assert!(attribute(&page, "form[action='/invitation/join']", "action").is_none());
    assert!(page.contains("root@globex.example"), "whom they are signed in as");
    let answer = send(&mut eve, "/invitation/join", &[("token", &token)]).await;
    assert_eq!(answer.status(), 403);
    let denied = app.audited("audit.invitation_accepted.v1");
    assert_eq!((&denied[0]["result"], &denied[0]["account"]), (&json!("denied"), &json!(app.account.to_string())));
    assert!(denied[0]["signedInAs"].as_str().is_some_and(|urn| urn.contains("::user/")), "{denied:?}");
    assert_eq!(state(&api, &id).await, "invited");

    // The button on the page: out, and on to the form for whoever is invited.
    let next = attribute(&page, "form[action='/sign-out'] input[name=next]", "value").expect("where to go on");
    let answer = eve.post("/sign-out", &[("next", &next)]).await;
    assert_eq!(location(&answer), landing(&token));
    assert!(attribute(&eve.page(&next).await, "input[name=password]", "name").is_some());
    assert_eq!(app.count("SELECT count(*) FROM membership"), 2);
}

#[tokio::test]
async fn sign_out_leads_nowhere_else() {
    let app = TestApp::start();
    for (next, expected) in [("", "/sign-in"), ("https://evil.example/", "/"), ("//evil.example", "/")] {
        let mut browser = app.signed_in().await;
        assert_eq!(location(&browser.post("/sign-out", &[("next", next)]).await), expected, "{next}");
    }
}

#[tokio::test]
async fn nothing_of_the_invitation_can_be_changed_by_who_accepts_it() {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "full-access"));
    let (id, token) = invite(&api, GUEST, "read-only").await;
    let mut guest = app.browser();
    for smuggled in [
        ("roleId", "full-access"),
        ("role", "full-access"),
        ("role_id", "full-access"),
        ("email", "eve@evil.example"),
        ("accountId", "100000000000"),
        ("id", "1"),
        ("isOwner", "1"),
        ("token", "x"),
    ] {
        let mut fields = newcomer(&token).to_vec();
        fields.push(smuggled);
        let status = send(&mut guest, "/invitation", &fields).await.status();
        assert_eq!(status, 400, "{smuggled:?}");
        let fields = [("token", token.as_str()), smuggled];
        assert_eq!(send(&mut guest, "/invitation/reject", &fields).await.status(), 400, "{smuggled:?}");
    }
    assert_eq!(state(&api, &id).await, "invited");
    let mut fields = newcomer(&token).to_vec();
    fields[3] = ("locale", "xx");
    assert_eq!(send(&mut guest, "/invitation", &fields).await.status(), 422);
    assert_eq!(send(&mut guest, "/invitation", &newcomer(&token)).await.status(), 303);
    let (_, users) = api.get("/api/users").await;
    let nora = users["users"].as_array().expect("a list").iter().find(|user| user["email"] == GUEST).expect("Nora");
    assert_eq!(nora["roleId"], "read-only");
    assert_eq!(app.count("SELECT count(*) FROM user WHERE is_owner = 1"), 1);
    for (body, field) in [
        (json!({"email": GUEST, "roleId": "read-only", "state": "accepted"}), "state"),
        (json!({"email": GUEST, "roleId": "read-only", "invitedBy": "urn:x"}), "invitedBy"),
    ] {
        let (status, answer) = api.post("/api/invitations", &body).await;
        assert_eq!(status, 422);
        assert!(answer["fields"][field].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn time_ends_an_invitation_and_the_job_writes_it_down() {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "full-access"));
    let (id, token) = invite(&api, GUEST, "read-only").await;
    let (_, made) = api.get(&format!("/api/invitations/{id}")).await;
    assert_eq!(made["expiry"], "2026-03-10T09:00:00Z", "seven days");
    app.forward(7 * DAY - 1);
    assert_eq!(app.browser().get(&landing(&token)).await.status(), 200);
    app.forward(1);
    assert_eq!(app.browser().get(&landing(&token)).await.status(), 404);
    assert_eq!(send(&mut app.browser(), "/invitation", &newcomer(&token)).await.status(), 404);
    assert_eq!(app.audited("audit.invitation_accepted.v1")[0]["reason"], "it has expired");
    assert_eq!(state(&api, &id).await, "expired");
    for (filter, count) in [("invited", 0), ("expired", 1)] {
        let (_, list) = api.get(&format!("/api/invitations?state={filter}")).await;
        assert_eq!(list["invitations"].as_array().map(Vec::len), Some(count), "{filter}");
    }
    // Whoever sends it again brings it back, with the whole time.
    bailiwick::invitations::expire(&app.app.kernel).await.expect("written down");
    assert_eq!(app.count("SELECT count(*) FROM invitation WHERE state = 'expired'"), 1);
    assert_eq!(app.audited("audit.invitation_expired.v1").len(), 1, "once, whoever was first");
    assert_eq!(bailiwick::invitations::expire(&app.app.kernel).await.expect("nothing left"), 0);
    let (status, again) = api.post(&format!("/api/invitations/{id}/resend"), &json!({})).await;
    assert_eq!((status, &again["state"], &again["expiry"]), (200, &json!("invited"), &json!("2026-03-17T09:00:00Z")));
    assert_eq!(app.browser().get(&landing(&token)).await.status(), 404, "the old link stays dead");
    assert_eq!(app.browser().get(&landing(&string(&again["token"]))).await.status(), 200);
    app.assert_audit_verifies();
}

#[tokio::test]
async fn a_new_link_kills_the_old_one() {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "full-access"));
    let (id, old) = invite(&api, GUEST, "read-only").await;
    app.forward(2 * DAY);
    let (_, again) = api.post(&format!("/api/invitations/{id}/resend"), &json!({})).await;
    let new = string(&again["token"]);
    assert_ne!(new, old);
    assert_eq!(
        (&again["expiry"], &again["lastSent"]),
        (&json!("2026-03-12T09:00:00Z"), &json!("2026-03-05T09:00:00Z"))
    );
    assert_eq!(app.browser().get(&landing(&old)).await.status(), 404);
    assert_eq!(send(&mut app.browser(), "/invitation", &newcomer(&old)).await.status(), 404);
    assert_eq!(send(&mut app.browser(), "/invitation", &newcomer(&new)).await.status(), 303);
    let resent = app.audited("audit.invitation_resent.v1");
    assert_eq!(resent[0]["changes"]["sentCount"], json!({"before": 1, "after": 2}));
    let (status, _) = api.post(&format!("/api/invitations/{id}/resend"), &json!({})).await;
    assert_eq!(status, 409, "nobody sends an accepted one again");
}

#[tokio::test]
async fn what_was_revoked_or_declined_is_dead() {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "full-access"));
    let (revoked, revoked_token) = invite(&api, GUEST, "read-only").await;
    let path = format!("/api/invitations/{revoked}");
    assert_eq!(api.send(Method::DELETE, &path, None).await.0, 204);
    assert_eq!(api.send(Method::DELETE, &path, None).await.0, 409);
    let (declined, declined_token) = invite(&api, GUEST, "read-only").await;
    let mut guest = app.browser();
    let answer = send(&mut guest, "/invitation/reject", &[("token", &declined_token)]).await;
    assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (303, "/sign-in"));
    assert!(guest.page("/sign-in").await.contains("You declined"));
    let mut states = Vec::new();
    for id in [&revoked, &declined] {
        states.push(state(&api, id).await);
        assert_eq!(api.post(&format!("/api/invitations/{id}/resend"), &json!({})).await.0, 409);
    }
    assert_eq!(states, ["revoked", "rejected"]);
    for token in [&revoked_token, &declined_token] {
        assert_eq!(send(&mut guest, "/invitation", &newcomer(token)).await.status(), 404);
        assert_eq!(send(&mut guest, "/invitation/reject", &[("token", token)]).await.status(), 404);
    }
    assert_eq!(app.audited("audit.invitation_revoked.v1").len(), 1);
    let rejected = app.audited("audit.invitation_rejected.v1");
    let results: Vec<_> = rejected.iter().map(|record| record["result"].as_str().expect("text")).collect();
    assert_eq!(results, ["success", "failure", "failure"]);
    assert_eq!(rejected[0]["account"], app.account.to_string());
    assert_eq!(app.count("SELECT count(*) FROM user"), 1);
}

#[tokio::test]
async fn every_dead_link_looks_the_same() {
    let app = TestApp::start();
    let other = app.other_account("globex", "root@globex.example");
    let api = app.api(&app.key(app.account, "full-access"));
    let theirs = app.api(&app.key(other.id, "full-access"));
    let (_, expired) = invite(&api, "a@guest.example", "read-only").await;
    app.forward(8 * DAY);
    let (revoked_id, revoked) = invite(&api, "b@guest.example", "read-only").await;
    api.send(Method::DELETE, &format!("/api/invitations/{revoked_id}"), None).await;
    let (_, accepted) = invite(&api, "c@guest.example", "read-only").await;
    assert_eq!(send(&mut app.browser(), "/invitation", &newcomer(&accepted)).await.status(), 303);
    let (_, suspended) = invite(&theirs, "d@guest.example", "read-only").await;
    app.sql("UPDATE account SET state = 'suspended', suspended_at = 1 WHERE alias = 'globex'");
    let mut guest = app.browser();
    guest.page("/sign-in").await;
    let mut pages = Vec::new();
    let unknown = "A".repeat(43);
    for token in [&expired, &revoked, &accepted, &suspended, &unknown, "x", "", &"9".repeat(1000), "%27%20OR%201=1"] {
        let answer = guest.get(&landing(token)).await;
        assert_eq!(answer.status(), 404, "{token}");
        let headers = format!(
            "{:?}",
            answer
                .headers()
                .iter()
                .filter(|(name, _)| { !matches!(name.as_str(), "x-request-id" | "date") })
                .collect::<Vec<_>>()
        );
        pages.push((headers, answer.text().await.expect("a page")));
        let fields = newcomer(token);
        let answer = send(&mut guest, "/invitation", &fields).await;
        assert_eq!(answer.status(), 404, "{token}");
    }
    assert!(pages.iter().all(|page| *page == pages[0]));
    assert_eq!(guest.get("/invitation").await.status(), 404);
    for told in ["acme", "globex", "guest.example", "Ida"] {
        assert!(!pages[0].1.contains(told), "{told}");
    }
    // The log knows better, and is not filled by whoever tries on.
    let reasons = |app: &TestApp| -> Vec<String> {
        app.audited("audit.invitation_accepted.v1")
            .iter()
            .filter_map(|r| r["reason"].as_str().map(str::to_owned))
            .collect()
    };
    let known = ["it has expired", "it was revoked", "it was accepted already", "the account is suspended"];
    assert_eq!(reasons(&app), known);
    for _ in 0..30 {
        send(&mut guest, "/invitation", &newcomer(&expired)).await;
    }
    assert_eq!(reasons(&app).len(), 3 + 20);
}

#[tokio::test]
async fn nobody_invites_into_a_role_that_holds_more_than_theirs() {
    let app = TestApp::start();
    let owner = app.api(&app.key(app.account, "full-access"));
    let desk = json!({"id": "desk", "name": "Desk", "services": {"identity": "full", "audit": "read"}});
    assert_eq!(owner.post("/api/roles", &desk).await.0, 201);
    let (above, above_token) = invite(&owner, "boss@guest.example", "full-access").await;
    let api = app.api(&app.admin_key(app.account, "desk"));
    for role in ["full-access", "read-only", "operator"] {
        let (status, _) = api.post("/api/invitations", &json!({"email": GUEST, "roleId": role})).await;
        assert_eq!(status, 403, "{role}");
    }
    let denied = app.audited("audit.invitation_created.v1");
    assert_eq!(denied.iter().filter(|record| record["result"] == "denied").count(), 3);
    assert!(denied.iter().any(|record| record["roleId"] == "operator" && record["email"] == GUEST));
    let (status, _) = api.post(&format!("/api/invitations/{above}/resend"), &json!({})).await;
    assert_eq!(status, 403, "a link to more than one's own role is not had by sending it again");
    assert_eq!(app.audited("audit.invitation_resent.v1")[0]["result"], "denied");
    assert_eq!(app.browser().get(&landing(&above_token)).await.status(), 200, "and the first link still works");
    app.add_user("desk@acme.example", "desk");
    let mut browser = app.signed_in_as("desk@acme.example").await;
    let page = browser.page("/invitations/new").await;
    assert!(attribute(&page, "input[name=roleId][value=desk]", "value").is_some());
    assert!(attribute(&page, "input[name=roleId][value=full-access]", "value").is_none());
    let fields = [("email", GUEST), ("roleId", "full-access"), ("expiresInDays", "7")];
    assert_eq!(browser.post("/invitations", &fields).await.status(), 403);
    assert_eq!(api.post("/api/invitations", &json!({"email": GUEST, "roleId": "desk"})).await.0, 201);
    // Taking rights away may always be done.
    assert_eq!(api.send(Method::DELETE, &format!("/api/invitations/{above}"), None).await.0, 204);
}

#[tokio::test]
async fn an_invitation_is_worth_what_its_sender_may_give_now() {
    let app = TestApp::start();
    let owner = app.api(&app.key(app.account, "full-access"));
    app.add_user("second@acme.example", "full-access");
    let mut second = app.signed_in_as("second@acme.example").await;
    let fields = [("email", GUEST), ("roleId", "operator"), ("expiresInDays", "7")];
    let page = second.post("/invitations", &fields).await.text().await.expect("a page");
    let link = text(&page, "#link");
    assert_eq!(app.browser().get(&link).await.status(), 200);
    let (_, list) = owner.get("/api/invitations").await;
    let id = string(&list["invitations"][0]["id"]);
    let (_, users) = owner.get("/api/users?q=second").await;
    let user = string(&users["users"][0]["id"]);
    let page = app.signed_in().await.page(&format!("/users/{user}/remove")).await;
    assert!(text(&page, ".facts").contains("The link of 1 invitation that they made stops working"), "{page}");
    // Demoted, disabled or removed: the link is dead for whoever holds it, and the console says why.
    let takes = async |link: &str| {
        let fields = newcomer(link.split_once("token=").expect("a token").1);
        app.browser().post("/invitation", &fields).await.status().as_u16()
    };
    for change in [json!({"roleId": "read-only"}), json!({"roleId": "full-access", "state": "disabled"})] {
        assert_eq!(owner.post(&format!("/api/users/{user}"), &change).await.0, 200);
        assert_eq!(app.browser().get(&link).await.status(), 404, "{change}");
        assert_eq!(takes(&link).await, 404, "{change}");
    }
    let reason = app.audited("audit.invitation_accepted.v1").pop().expect("a record")["reason"].clone();
    assert_eq!(reason, "whoever sent it may not give its role any more");
    let mut ida = app.signed_in().await;
    let page = ida.page(&format!("/invitations/{id}")).await;
    assert!(text(&page, ".notice").contains("may not give this role any more"), "{page}");
    assert!(ida.page("/invitations").await.contains("its link does not work"));
    // Somebody who may sends it again, and it hangs on them.
    let page = ida.post(&format!("/invitations/{id}/resend"), &[]).await.text().await.expect("a page");
    let link = text(&page, "#link");
    assert!(app.browser().page(&link).await.contains("Ida Marlow"), "who invites is who sent it last");
    assert_eq!(takes(&link).await, 303);
    app.assert_audit_verifies();
}

#[tokio::test]
async fn a_role_with_an_open_invitation_stays_and_one_that_is_gone_is_said_to_be() {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "full-access"));
    let desk = json!({"id": "desk", "name": "Desk", "services": {"audit": "read"}});
    assert_eq!(api.post("/api/roles", &desk).await.0, 201);
    let (id, token) = invite(&api, GUEST, "desk").await;
    let (status, answer) = api.send(Method::DELETE, "/api/roles/desk", None).await;
    assert_eq!(status, 409);
    assert!(answer["message"].as_str().is_some_and(|text| text.contains("1 invitation")), "{answer}");
    // However it went.
    app.sql("DELETE FROM role");
    let mut guest = app.browser();
    let answer = guest.get(&landing(&token)).await;
    assert_eq!(answer.status(), 409);
    let page = answer.text().await.expect("a page");
    assert!(page.contains("was removed") && page.contains("full-access-0"), "{page}");
    assert!(attribute(&page, "input[name=password]", "name").is_none());
    let answer = send(&mut guest, "/invitation", &newcomer(&token)).await;
    assert_eq!(answer.status(), 409);
    assert!(answer.text().await.expect("a page").contains("to invite you again"));
    assert_eq!(app.count("SELECT count(*) FROM user"), 1);
    assert_eq!(api.post(&format!("/api/invitations/{id}/resend"), &json!({})).await.0, 409);
    assert_eq!(state(&api, &id).await, "invited");
}

#[tokio::test]
async fn wrong_fields_are_named_and_who_is_in_or_invited_is_said() {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "full-access"));
    for (body, fields) in [
        (json!({}), vec!["email", "roleId"]),
        (json!({"email": "x", "roleId": "read-only"}), vec!["email"]),
        (json!({"email": GUEST, "roleId": "nobody"}), vec!["roleId"]),
        (json!({"email": GUEST, "roleId": "read-only", "expiresInDays": 0}), vec!["expiresInDays"]),
        (json!({"email": GUEST, "roleId": "read-only", "expiresInDays": 31}), vec!["expiresInDays"]),
        (json!({"email": GUEST, "roleId": "read-only", "expiresInDays": -1}), vec!["expiresInDays"]),
        (json!({"email": EMAIL.to_uppercase(), "roleId": "read-only"}), vec!["email"]),
        (json!({"email": "a@b.example\r\nBcc: c@d.example", "roleId": "read-only"}), vec!["email"]),
    ] {
        let (status, answer) = api.post("/api/invitations", &body).await;
        assert_eq!(status, 422, "{body}");
        let named: Vec<_> = answer["fields"].as_object().expect("fields").keys().cloned().collect();
        assert_eq!(named, fields, "{body}");
    }
    let mut admin = app.signed_in().await;
    for days in ["0", "31", "x", "", "7.5"] {
        let fields = [("email", GUEST), ("roleId", "read-only"), ("expiresInDays", days)];
        let answer = admin.post("/invitations", &fields).await;
        assert_eq!(answer.status(), 422, "{days}");
        assert!(!text(&answer.text().await.expect("a page"), "#expiresInDays-error").is_empty());
    }
    let (id, _) = invite(&api, GUEST, "read-only").await;
    let (status, _) = api.post("/api/invitations", &json!({"email": "NORA@guest.example", "roleId": "operator"})).await;
    assert_eq!(status, 409, "one open invitation for an address");
    let fields = [("email", GUEST), ("roleId", "operator"), ("expiresInDays", "7")];
    let answer = admin.post("/invitations", &fields).await;
    assert_eq!(answer.status(), 409);
    let page = answer.text().await.expect("a page");
    let href = attribute(&page, "main a[href^='/invitations/0']", "href").expect("the way to send it again");
    assert_eq!(href, format!("/invitations/{id}"));
    let page = admin.page(&href).await;
    assert!(attribute(&page, "form[action$='/resend']", "action").is_some());
    assert_eq!(app.count("SELECT count(*) FROM invitation"), 1);
}

#[tokio::test]
async fn sending_has_a_pace_and_open_ones_a_number() {
    let app = TestApp::start();
    let key = app.key(app.account, "full-access");
    let api = app.api(&key);
    let mut ids = Vec::new();
    for i in 0..15 {
        ids.push(invite(&api, &format!("g{i}@guest.example"), "read-only").await.0);
    }
    app.forward(10 * MINUTE);
    let resend = format!("/api/invitations/{}/resend", ids[0]);
    for _ in 0..5 {
        assert_eq!(api.post(&resend, &json!({})).await.0, 200);
    }
    let url = format!("{}{resend}", app.base);
    let request = app.browser().http.post(url).header("authorization", format!("ApiKey {key}"));
    let answer = request.send().await.expect("answered");
    assert_eq!(answer.status(), 429);
    let wait: i64 = answer.headers()["retry-after"].to_str().expect("ASCII").parse().expect("seconds");
    assert_eq!(wait, 50 * 60 + 1);
    let (status, _) = api.post("/api/invitations", &json!({"email": GUEST, "roleId": "read-only"})).await;
    assert_eq!(status, 429);
    // Somebody else may.
    let second = app.api(&app.key(app.account, "full-access"));
    invite(&second, GUEST, "read-only").await;
    app.forward(50 * MINUTE + 1);
    assert_eq!(api.post(&resend, &json!({})).await.0, 200);

    app.forward(HOUR);
    for round in 0..5 {
        app.forward(2 * HOUR);
        for i in 0..20 {
            let open = app.count("SELECT count(*) FROM invitation WHERE state = 'invited'");
            let body = json!({"email": format!("r{round}-{i}@guest.example"), "roleId": "read-only"});
            let (status, _) = api.post("/api/invitations", &body).await;
            assert_eq!(status, if open < 100 { 201 } else { 409 }, "{open} are open");
        }
    }
    assert_eq!(app.count("SELECT count(*) FROM invitation"), 100);
    let (mut seen, mut path) = (Vec::new(), "/api/invitations?limit=30".to_owned());
    loop {
        let (_, list) = api.get(&path).await;
        seen.extend(list["invitations"].as_array().expect("a list").iter().map(|row| string(&row["id"])));
        let Some(next) = list["next"].as_str() else { break };
        path = format!("/api/invitations?limit=30&cursor={next}");
    }
    let mut sorted = seen.clone();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    sorted.dedup();
    assert_eq!((seen.len(), &seen), (100, &sorted), "each once, the newest first");
}

#[tokio::test]
async fn another_accounts_invitation_cannot_be_touched() {
    let app = TestApp::start();
    let other = app.other_account("globex", "root@globex.example");
    let ours = app.api(&app.key(app.account, "full-access"));
    let theirs = app.api(&app.key(other.id, "full-access"));
    let (id, token) = invite(&ours, GUEST, "read-only").await;
    let path = format!("/api/invitations/{id}");
    assert_eq!(theirs.get(&path).await.0, 404);
    assert_eq!(theirs.post(&format!("{path}/resend"), &json!({})).await.0, 404);
    assert_eq!(theirs.send(Method::DELETE, &path, None).await.0, 404);
    assert_eq!(theirs.get("/api/invitations").await.1["invitations"], json!([]));
    // The same address in two accounts: two invitations, and each is its own.
    let (_, second) = invite(&theirs, GUEST, "read-only").await;
    assert!(app.browser().page(&landing(&second)).await.contains("globex"));
    let mut guest = app.browser();
    assert_eq!(send(&mut guest, "/invitation", &newcomer(&token)).await.status(), 303);
    assert!(guest.page("/").await.contains("acme"));
    let page = guest.page(&landing(&second)).await;
    assert!(attribute(&page, "form[action='/invitation/join']", "action").is_some());
    assert_eq!(send(&mut guest, "/invitation/join", &[("token", &second)]).await.status(), 303);
    assert!(guest.page("/").await.contains("globex"));
}

#[tokio::test]
async fn whoever_is_disabled_or_in_already_does_not_join() {
    let app = TestApp::start();
    app.other_account("globex", "root@globex.example");
    let api = app.api(&app.key(app.account, "full-access"));
    let (id, token) = invite(&api, "root@globex.example", "full-access").await;
    // A user who is disabled on the whole appliance does not get past sign-in, invitation or not.
    app.sql("UPDATE user SET state = 'disabled' WHERE email = 'root@globex.example'");
    let mut guest = app.browser();
    let form = guest.token("/sign-in").await;
    let next = landing(&token);
    let fields = [("csrf", form.as_str()), ("email", "root@globex.example"), ("password", PASSWORD), ("next", &next)];
    assert_eq!(guest.post_raw("/sign-in", &fields, &[]).await.status(), 422);
    assert_eq!(send(&mut guest, "/invitation", &newcomer(&token)).await.status(), 409, "no second user");
    assert_eq!(state(&api, &id).await, "invited");
    app.sql("UPDATE user SET state = 'enabled' WHERE email = 'root@globex.example'");
    // Somebody let them in by another way and disabled them here: a link does not undo that.
    app.sql(
        "INSERT INTO membership (user_id, account_id, role_id, state, created_at)
             SELECT u.id, a.id, 'read-only', 'disabled', 0 FROM user AS u, account AS a
             WHERE u.email = 'root@globex.example' AND a.alias = 'acme'",
    );
    let mut guest = app.signed_in_as("root@globex.example").await;
    assert!(guest.page(&landing(&token)).await.contains("in this account already"));
    assert_eq!(send(&mut guest, "/invitation/join", &[("token", &token)]).await.status(), 409);
    assert_eq!(app.count("SELECT count(*) FROM membership WHERE role_id = 'full-access'"), 2);
    assert_eq!(app.count("SELECT count(*) FROM membership WHERE state = 'disabled'"), 1);
}
