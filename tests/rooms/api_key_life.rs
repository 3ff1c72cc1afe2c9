//! The life of a key: who answers for it, what it may administer, its secrets, and its end.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use bailiwick::{
    api_keys::{self, Keys},
    clock::{DAY, HOUR},
    principal::{Level, Permission, Principal, Service},
    secret::Secret,
    web::{Address, KeyPair, Surface},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Api, Browser, EMAIL, TestApp, attribute, off, text};

/// Makes a key in the console and answers it whole.
async fn made(browser: &mut Browser, alias: &str, role: &str, more: &[(&str, &str)]) -> String {
    let mut fields = vec![("alias", alias), ("role", role), ("expires", "365")];
    fields.extend_from_slice(more);
    let answer = browser.post("/api-keys", &fields).await;
    assert_eq!(answer.status(), 200, "{alias}");
    text(&answer.text().await.expect("a page"), "#secret")
}

fn id(key: &str) -> &str {
    key.split_once(':').expect("id:secret").0
}

/// Rotates a key by its page, as a person would: with the secret that the page is about.
async fn rotate(browser: &mut Browser, key_id: &str, overlap: &str) -> reqwest::Response {
    let path = format!("/api-keys/{key_id}/rotate");
    let page = browser.page(&path).await;
    let secret = attribute(&page, "input[name=secret]", "value").expect("the secret that is replaced");
    browser.post(&path, &[("overlap", overlap), ("secret", &secret)]).await
}

async fn user_id(root: &Api, email: &str) -> String {
    let (_, users) = root.get("/api/users?limit=500").await;
    let users = users["users"].as_array().expect("users").clone();
    let user = users.into_iter().find(|user| user["email"] == email).expect("the user");
    user["id"].as_str().expect("an id").to_owned()
}

fn refusals(app: &TestApp) -> Vec<Value> {
    app.audited("audit.api_key_refused.v1").iter().map(|record| record["reason"].clone()).collect()
}

async fn principal(app: &TestApp, key: &str) -> Option<Principal> {
    let (id, secret) = key.split_once(':').expect("id:secret");
    let pair = KeyPair { id: id.to_owned(), secret: Secret::new(secret.to_owned()) };
    let address = Address {
        ip: IpAddr::from([127, 0, 0, 1]),
        request_id: String::new(),
        user_agent: String::new(),
        is_polling: false,
    };
    Keys::default().principal(&app.app.kernel, pair, address).await.expect("judged")
}

#[tokio::test]
async fn a_key_reads_itself_whatever_its_role() {
    let app = TestApp::start();
    let (key, other) = (app.key(app.account, "operator"), app.key(app.account, "full-access"));
    let api = app.api(&key);
    let (status, own) = api.get("/api/apikeys/self").await;
    assert_eq!((status, own["id"].as_str()), (200, Some(id(&key))), "{own}");
    assert!(own.get("secret").is_none() && own["secretStart"].as_str().expect("a start").len() == 8, "{own}");
    assert!(key.contains(own["secretStart"].as_str().expect("a start")));
    let (status, by_id) = api.get(&format!("/api/apikeys/{}", id(&key))).await;
    assert_eq!((status, &by_id["id"], &by_id["secretStart"]), (200, &own["id"], &own["secretStart"]));
    assert_eq!(api.get("/api/apikeys").await.0, 403);
    // Another key's id, and one that does not exist, look the same; both were an attempt.
    assert_eq!(app.audited("audit.access_denied.v1").len(), 1);
    for asked in [id(&other), "01890000-0000-7000-8000-000000000000"] {
        assert_eq!(api.get(&format!("/api/apikeys/{asked}")).await.0, 404);
    }
    assert_eq!(app.audited("audit.access_denied.v1").len(), 3);
    assert_eq!(api.post(&format!("/api/apikeys/{}", id(&key)), &json!({"description": "mine"})).await.0, 403);
    assert_eq!(app.api("").get("/api/apikeys/self").await.0, 401);
}

/// Every API route that changes users, roles, keys or what else `identity` is about.
async fn administering(app: &TestApp, api: &Api) -> Vec<(String, u16)> {
    let mut answers = Vec::new();
    for route in app.app.routes().entries() {
        if route.surface == Surface::Api
            && matches!(route.permission, Permission::Needs(Service::Identity, level) if level > Level::Read)
        {
            let method = Method::from_bytes(route.method.as_str().as_bytes()).expect("a method");
            let path = route.path.replace("{id}", "01890000-0000-7000-8000-000000000000");
            let body = (method == Method::POST).then(|| json!({}));
            answers.push((format!("{method} {path}"), api.send(method, &path, body.as_ref()).await.0));
        }
    }
    assert!(answers.len() >= 8, "{answers:?}");
    answers
}

#[tokio::test]
async fn a_key_administers_only_with_leave_and_while_the_account_lets_it() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    let plain = made(&mut browser, "plain", "full-access", &[]).await;
    let leave = [("offersLeave", "1"), ("mayAdminister", "on")];
    let with_leave = made(&mut browser, "with leave", "full-access", &leave).await;
    for key in [&plain, &with_leave] {
        let api = app.api(key);
        for (route, status) in administering(&app, &api).await {
            assert_eq!(status, 403, "{route}");
        }
        let (_, said) = api.post("/api/apikeys", &json!({})).await;
        assert!(said["message"].as_str().expect("a message").contains("gave it leave"), "{said}");
        // What it may look at it still sees, and the rest of its role it has.
        assert_eq!(api.get("/api/users").await.0, 200);
        assert_eq!(api.get("/api/apikeys/settings").await, (200, json!({"keysMayAdminister": false})));
        let contacts = format!("/api/accounts/{}/contacts", app.account);
        assert_eq!(api.post(&contacts, &json!({"general": []})).await.0, 200);
    }
    assert_eq!(browser.post("/api-keys/setting", &[("keysMayAdminister", "on")]).await.status(), 303);
    for (route, status) in administering(&app, &app.api(&plain)).await {
        assert_eq!(status, 403, "{route}");
    }
    for (route, status) in administering(&app, &app.api(&with_leave)).await {
        assert!(status != 403 && status < 500, "{route} answered {status}");
    }
    // No key gives leave, not even one that has it: neither to a new key nor to another or to itself.
    let api = app.api(&with_leave);
    let body = json!({"alias": "child", "roleId": "full-access", "mayAdminister": true});
    assert_eq!(api.post("/api/apikeys", &body).await.0, 403);
    let (status, child) = api.post("/api/apikeys", &json!({"alias": "child", "roleId": "full-access"})).await;
    assert_eq!((status, &child["mayAdminister"]), (201, &json!(false)));
    let child_path = format!("/api/apikeys/{}", child["id"].as_str().expect("an id"));
    assert_eq!(api.post(&child_path, &json!({"mayAdminister": true})).await.0, 403);
    let denied = app.audited("audit.api_key_created.v1").into_iter().filter(|record| record["result"] == "denied");
    assert_eq!(denied.count(), 1);
    assert_eq!(app.audited("audit.api_key_updated.v1")[0]["result"], "denied");
    // Taken back, for all of them and for one.
    assert_eq!(browser.post("/api-keys/setting", &[]).await.status(), 303);
    assert_eq!(api.post(&child_path, &json!({"description": "x"})).await.0, 403);
    assert_eq!(browser.post("/api-keys/setting", &[("keysMayAdminister", "on")]).await.status(), 303);
    assert_eq!(api.post(&child_path, &json!({"description": "x"})).await.0, 200);
    let without = [("alias", "with leave"), ("role", "full-access"), ("expires", "keep"), ("offersLeave", "1")];
    assert_eq!(browser.post(&format!("/api-keys/{}", id(&with_leave)), &without).await.status(), 303);
    assert_eq!(api.post(&child_path, &json!({"description": "y"})).await.0, 403);
    assert_eq!(app.audited("audit.api_key_setting_changed.v1").len(), 3);
}

#[tokio::test]
async fn only_full_access_in_the_console_or_the_machine_gives_leave() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    let role = json!({"id": "key-desk", "name": "Key desk", "services": {"identity": "full"}});
    assert_eq!(root.post("/api/roles", &role).await.0, 201, "full access at the command line means what it says");
    app.add_user("desk@acme.example", "key-desk");
    let mut desk = app.signed_in_as("desk@acme.example").await;
    let page = desk.page("/api-keys/new").await;
    assert_eq!(attribute(&page, "#mayAdminister", "type"), None, "it is not offered");
    let fields =
        [("alias", "a"), ("role", "key-desk"), ("expires", "30"), ("offersLeave", "1"), ("mayAdminister", "on")];
    assert_eq!(desk.post("/api-keys", &fields).await.status(), 403);
    assert_eq!(desk.post("/api-keys/setting", &[("keysMayAdminister", "on")]).await.status(), 403);
    let denied = app.audited("audit.api_key_setting_changed.v1");
    assert_eq!((denied.len(), &denied[0]["result"]), (1, &json!("denied")));
    // At the command line other roles administer when that is said.
    let machine = Principal::command_line("default", Some(app.account), "root");
    for (may_administer, expected) in [(None, 403), (Some(true), 422)] {
        let input = api_keys::KeyInput {
            alias: Some(format!("desk {may_administer:?}")),
            role_id: Some("key-desk".into()),
            may_administer,
            ..api_keys::KeyInput::default()
        };
        let made = off(|| api_keys::create_blocking(&app.app.kernel, &machine, input)).expect("a key");
        let api = app.api(&format!("{}:{}", made.key.id, made.secret.expose()));
        assert_eq!(api.post("/api/apikeys", &json!({})).await.0, expected);
    }
    let created = app.audited("audit.api_key_created.v1");
    assert_eq!(created.last().expect("a record")["changes"]["mayAdminister"]["after"], "always");
    // Somebody who may handle keys still touches none that holds more.
    let strong = format!("/api-keys/{}", id(&root.key));
    assert!(desk.page(&strong).await.contains("holds more rights than you do"));
    for (path, fields) in
        [("rotate", &[("overlap", "0"), ("secret", "bwk_0000")][..]), ("take-over", &[]), ("unlock", &[])]
    {
        assert_eq!(desk.post(&format!("{strong}/{path}"), fields).await.status(), 403, "{path}");
    }
    assert_eq!(desk.get(&format!("{strong}/rotate")).await.status(), 403);
    assert_eq!(app.audited("audit.api_key_rotated.v1")[0]["result"], "denied");
    assert_eq!(root.get("/api/accounts").await.0, 200);
}

#[tokio::test]
async fn a_rotated_key_has_two_secrets_for_a_while() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    let (_, first) = root.post("/api/apikeys", &json!({"alias": "bot", "roleId": "read-only"})).await;
    let path = format!("/api/apikeys/{}", first["id"].as_str().expect("an id"));
    let whole =
        |key: &Value| format!("{}:{}", key["id"].as_str().expect("id"), key["secret"].as_str().expect("secret"));
    let works = |key: &Value| {
        let api = app.api(&whole(key));
        async move { api.get("/api/accounts").await.0 == 200 }
    };
    for (hours, field) in [(json!(-1), 422), (json!(169), 422), (json!("1"), 422), (json!(0.5), 422)] {
        assert_eq!(root.post(&format!("{path}/rotate"), &json!({"overlapHours": hours})).await.0, field, "{hours}");
    }
    let (status, second) = root.post(&format!("{path}/rotate"), &json!({})).await;
    assert_eq!(status, 200, "{second}");
    assert_ne!(second["secret"], first["secret"]);
    assert_eq!(second["previousSecret"]["endsAt"], "2026-03-04T09:00:00Z");
    assert_eq!(second["previousSecret"]["start"], first["secretStart"]);
    assert!(works(&first).await && works(&second).await);
    app.forward(DAY - 1);
    assert!(works(&first).await && works(&second).await);
    app.forward(1);
    assert!(!works(&first).await && works(&second).await);
    let (_, key) = root.get(&path).await;
    assert!(key.get("previousSecret").is_none() && key.get("secret").is_none(), "{key}");
    // Rotating again ends the older one at once.
    let (_, third) = root.post(&format!("{path}/rotate"), &json!({"overlapHours": 168})).await;
    let (_, fourth) = root.post(&format!("{path}/rotate"), &json!({"overlapHours": 1})).await;
    assert!(!works(&second).await && works(&third).await && works(&fourth).await);
    let records = app.audited("audit.api_key_rotated.v1");
    assert_eq!(records.len(), 3);
    assert_eq!(records[2]["endedAtOnce"], format!("{}…", second["secretStart"].as_str().expect("a start")));
    // The page says that the old one still works, and whether anybody uses it; ended, it is refused.
    let mut browser = app.signed_in().await;
    let console = format!("/api-keys/{}", id(&whole(&first)));
    let begun = Instant::now();
    while !browser.page(&console).await.contains("It was last used") {
        assert!(begun.elapsed() < Duration::from_secs(10));
        works(&third).await;
    }
    assert!(browser.page(&console).await.contains("works until"));
    assert_eq!(browser.post(&format!("{console}/end-old-secret"), &[]).await.status(), 303);
    assert!(!works(&third).await && works(&fourth).await);
    assert_eq!(browser.post(&format!("{console}/end-old-secret"), &[]).await.status(), 404);
    assert_eq!(root.send(Method::DELETE, &format!("{path}/previous-secret"), None).await.0, 404);
    assert_eq!(app.audited("audit.api_key_secret_ended.v1").len(), 1);
    // Without overlap, by the page, which shows the new secret this once.
    assert!(browser.page(&format!("{console}/rotate")).await.contains("works on for"));
    let answer = rotate(&mut browser, id(&whole(&first)), "0").await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["cache-control"]),
        (200, &"no-store".parse().expect("a value"))
    );
    let fifth = text(&answer.text().await.expect("a page"), "#secret");
    assert!(!works(&fourth).await && app.api(&fifth).get("/api/accounts").await.0 == 200);
    for _ in 0..2 {
        let page = browser.page(&console).await;
        assert!(!page.contains(fifth.split_once(':').expect("id:secret").1) && !page.contains("works until"));
    }
    assert_eq!(refusals(&app)[0], "the secret was replaced by a new one");
    // Each is a secret of a locked key alike.
    root.post(&format!("{path}/rotate"), &json!({})).await;
    root.post(&path, &json!({"enabled": false})).await;
    assert_eq!(app.api(&fifth).get("/api/accounts").await.0, 401);
    app.assert_audit_verifies();
}

#[tokio::test]
async fn whoever_was_shown_a_secret_is_the_person_behind_it() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    app.add_user("second@acme.example", "full-access");
    let (ida, second) = (user_id(&root, EMAIL).await, user_id(&root, "second@acme.example").await);
    let mut browser = app.signed_in().await;
    let old = made(&mut browser, "bot", "full-access", &[]).await;
    assert_eq!(principal(&app, &old).await.expect("a principal").person, ida);
    let mut other = app.signed_in_as("second@acme.example").await;
    let answer = rotate(&mut other, id(&old), "24").await;
    let new = text(&answer.text().await.expect("a page"), "#secret");
    assert_eq!(principal(&app, &new).await.expect("a principal").person, second);
    assert_eq!(principal(&app, &old).await.expect("a principal").person, ida, "who may still use the old one");
    // Of the command line nobody is known: such a key is a person of its own, and so are those that it makes.
    assert_eq!(principal(&app, &root.key).await.expect("a principal").person, id(&root.key));
    let (_, child) = root.post("/api/apikeys", &json!({"alias": "child", "roleId": "read-only"})).await;
    let child = format!("{}:{}", child["id"].as_str().expect("id"), child["secret"].as_str().expect("secret"));
    assert_eq!(principal(&app, &child).await.expect("a principal").person, id(&root.key));
}

#[tokio::test]
async fn whoever_sees_a_new_secret_answers_for_the_key_and_it_goes_with_them() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    app.add_user("second@acme.example", "full-access");
    let second = user_id(&root, "second@acme.example").await;
    let machine = app.key(app.account, "read-only");
    let mut browser = app.signed_in_as("second@acme.example").await;
    let page = browser.page(&format!("/api-keys/{}/rotate", id(&machine))).await;
    assert!(page.contains("You answer for the key from then on"), "it is said before");
    let answer = rotate(&mut browser, id(&machine), "24").await;
    let new = text(&answer.text().await.expect("a page"), "#secret");
    assert_eq!(root.get(&format!("/api/apikeys/{}", id(&machine))).await.1["answeredBy"], json!(second));
    let record = app.audited("audit.api_key_rotated.v1").pop().expect("a record");
    assert_eq!(record["changes"]["answeredBy"], json!({"before": null, "after": second}));
    // The same form once more would end the secret that was just shown: it is refused, and nothing is changed.
    let stale = [("overlap", "0"), ("secret", "bwk_0000")];
    assert_eq!(browser.post(&format!("/api-keys/{}/rotate", id(&machine)), &stale).await.status(), 303);
    assert_eq!(
        (app.api(&new).get("/api/accounts").await.0, app.api(&machine).get("/api/accounts").await.0),
        (200, 200)
    );
    assert_eq!(root.post(&format!("/api/users/{second}"), &json!({"state": "disabled"})).await.0, 200);
    assert_eq!(
        (app.api(&new).get("/api/accounts").await.0, app.api(&machine).get("/api/accounts").await.0),
        (401, 401)
    );
}

#[tokio::test]
async fn an_old_secret_is_worth_what_those_may_who_know_it() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    app.add_user("maker@acme.example", "full-access");
    let maker = user_id(&root, "maker@acme.example").await;
    let path = format!("/api/users/{maker}");
    let mut browser = app.signed_in_as("maker@acme.example").await;
    let (first, second) =
        (made(&mut browser, "one", "full-access", &[]).await, made(&mut browser, "two", "full-access", &[]).await);
    let mut ida = app.signed_in().await;
    // Demoted, and then the key is rotated by somebody who holds it all: the overlap gives them nothing back.
    assert_eq!(root.post(&path, &json!({"roleId": "auditor"})).await.0, 200);
    assert_eq!(app.api(&first).get("/api/apikeys").await.0, 200);
    let role = json!({"id": "logs", "name": "Logs", "services": {"audit": "read"}});
    assert_eq!(root.post("/api/roles", &role).await.0, 201);
    assert_eq!(root.post(&path, &json!({"roleId": "logs"})).await.0, 200);
    let new = rotate(&mut ida, id(&first), "24").await.text().await.expect("a page");
    let (old, new) = (app.api(&first), app.api(&text(&new, "#secret")));
    assert_eq!((old.get("/api/logs").await.0, old.get("/api/directories").await.0), (200, 403));
    assert_eq!((new.get("/api/logs").await.0, new.get("/api/directories").await.0), (200, 200));
    // Disabled: the old secret was refused, and is not woken by the overlap.
    assert_eq!(root.post(&path, &json!({"state": "disabled"})).await.0, 200);
    assert_eq!((old.get("/api/logs").await.0, app.api(&second).get("/api/logs").await.0), (401, 401));
    let page = rotate(&mut ida, id(&second), "168").await.text().await.expect("a page");
    assert_eq!(app.api(&second).get("/api/logs").await.0, 401);
    assert_eq!(app.api(&text(&page, "#secret")).get("/api/logs").await.0, 200);
    assert!(!ida.page(&format!("/api-keys/{}", id(&second))).await.contains("works until"));
}

#[tokio::test]
async fn a_key_never_does_more_than_whoever_answers_for_it() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    app.add_user("maker@acme.example", "full-access");
    let maker = user_id(&root, "maker@acme.example").await;
    let mut browser = app.signed_in_as("maker@acme.example").await;
    let key = made(&mut browser, "bot", "full-access", &[]).await;
    let api = app.api(&key);
    assert_eq!((api.get("/api/logs").await.0, api.get("/api/directories").await.0), (200, 200));
    let role =
        |id: &str, services: Value, scope: Value| json!({"id": id, "name": id, "services": services, "scope": scope});
    let part = |of: &str| json!({"directories": [of]});
    app.sql(
        "INSERT INTO directory (id, account_id, kind, name, settings, read_credentials, schedule, guard, created_at, updated_at)
         SELECT 8, id, 'openldap', 'HQ', '{}', x'00', '{}', '{}', 0, 0 FROM account",
    );
    for role in [
        role("auditing", json!({"audit": "read"}), Value::Null),
        role("part", json!({"directories": "read", "enforcement": "operate"}), part("8")),
    ] {
        let (status, made) = root.post("/api/roles", &role).await;
        assert_eq!(status, 201, "{made}");
    }
    let path = format!("/api/users/{maker}");
    // The maker is demoted: with the next request their key is too, whatever its own role says.
    assert_eq!(root.post(&path, &json!({"roleId": "auditing"})).await.0, 200);
    assert_eq!((api.get("/api/logs").await.0, api.get("/api/directories").await.0), (200, 403));
    let page = app.signed_in().await.page(&format!("/api-keys/{}", id(&key))).await;
    assert!(text(&page, ".notice").contains("may do less than its role says"), "{page}");
    // Held to a part, the key is held to the same part.
    assert_eq!(root.post(&path, &json!({"roleId": "part"})).await.0, 200);
    let held = principal(&app, &key).await.expect("a principal");
    assert_eq!(held.scope.as_ref().map(|scope| scope.directories.clone()), Some(vec![8]));
    assert!(held.rights.allows(Service::Directories, Level::Read) && !held.rights.allows(Service::Audit, Level::Read));
    assert_eq!((api.get("/api/logs").await.0, api.get("/api/identities").await.0), (403, 200));
    // Somebody who holds it all takes it over, and it does what its role says again.
    assert_eq!(app.signed_in().await.post(&format!("/api-keys/{}/take-over", id(&key)), &[]).await.status(), 303);
    assert_eq!((api.get("/api/logs").await.0, api.get("/api/directories").await.0), (200, 200));
}

#[tokio::test]
async fn a_key_goes_with_the_user_who_answers_for_it() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    app.add_user("maker@acme.example", "full-access");
    let maker = user_id(&root, "maker@acme.example").await;
    let mut browser = app.signed_in_as("maker@acme.example").await;
    let key = made(&mut browser, "bot", "full-access", &[("offersLeave", "1"), ("mayAdminister", "on")]).await;
    let api = app.api(&key);
    browser.post("/api-keys/setting", &[("keysMayAdminister", "on")]).await;
    // Also what the key made in turn.
    let (_, child) = api.post("/api/apikeys", &json!({"alias": "child", "roleId": "read-only"})).await;
    assert_eq!((&child["madeBy"], &child["answeredBy"]), (&json!(maker), &json!(maker)));
    let child =
        app.api(&format!("{}:{}", child["id"].as_str().expect("id"), child["secret"].as_str().expect("secret")));
    assert_eq!(child.get("/api/accounts").await.0, 200);
    let path = format!("/api/users/{maker}");
    let begun = Instant::now();
    assert_eq!(root.post(&path, &json!({"state": "disabled"})).await.0, 200);
    assert_eq!((api.get("/api/accounts").await.0, child.get("/api/accounts").await.0), (401, 401));
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(refusals(&app)[0], "the user who answers for the key is disabled");
    let states = |list: Value| -> Vec<String> {
        list["apikeys"]
            .as_array()
            .expect("keys")
            .iter()
            .map(|k| k["alias"].as_str().expect("an alias").into())
            .collect()
    };
    assert_eq!(states(root.get("/api/apikeys?state=orphaned").await.1), ["child", "bot"]);
    let mut ida = app.signed_in().await;
    assert!(text(&ida.page("/").await, ".attention b").contains("2 API keys do not work"), "it stands on the overview");
    let page = ida.page(&format!("/api-keys/{}", id(&key))).await;
    assert!(text(&page, ".notice").contains("One More, who answers for it, is disabled"), "{page}");
    assert_eq!(root.post(&path, &json!({"state": "enabled"})).await.0, 200);
    assert_eq!(api.get("/api/accounts").await.0, 200);
    let page = ida.page(&format!("/users/{maker}/remove")).await;
    assert!(text(&page, ".facts").contains("2 API keys that they answer for stop working at once"), "{page}");
    assert_eq!(ida.post(&format!("/users/{maker}/remove"), &[]).await.status(), 303);
    assert_eq!((api.get("/api/accounts").await.0, child.get("/api/accounts").await.0), (401, 401));
    assert!(refusals(&app).contains(&json!("the user who answers for the key has left the account")));
    // Somebody else takes one over, and answers for it from now on.
    assert_eq!(ida.post(&format!("/api-keys/{}/take-over", id(&key)), &[]).await.status(), 303);
    assert_eq!((api.get("/api/accounts").await.0, child.get("/api/accounts").await.0), (200, 401));
    let (_, taken) = root.get(&format!("/api/apikeys/{}", id(&key))).await;
    assert_eq!((&taken["madeBy"], &taken["answeredBy"]), (&json!(maker), &json!(user_id(&root, EMAIL).await)));
    assert_eq!(app.audited("audit.api_key_taken_over.v1").len(), 1);
    // By the API: for the user behind the key that asks, or for nobody, when it was made on the machine.
    let child_path = format!("/api/apikeys/{}", id(&child.key));
    assert_eq!(api.post(&child_path, &json!({"takeOver": true})).await.1["answeredBy"], taken["answeredBy"]);
    assert_eq!(child.get("/api/accounts").await.0, 200);
    assert_eq!(root.post(&child_path, &json!({"takeOver": true})).await.1["answeredBy"], Value::Null);
    app.sql("UPDATE user SET state = 'disabled' WHERE email = 'ida@acme.example'");
    assert_eq!((api.get("/api/accounts").await.0, child.get("/api/accounts").await.0), (401, 200));
    assert_eq!(root.get("/api/accounts").await.0, 200, "a key of the machine needs nobody");
}

#[tokio::test]
async fn the_end_of_a_key_is_told_twice_and_once_each() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    let key = |alias: &str, expires_at: &str| json!({"alias": alias, "roleId": "read-only", "expiresAt": expires_at});
    let (_, long) = root.post("/api/apikeys", &key("long", "2026-05-02T09:00:00Z")).await;
    root.post("/api/apikeys", &key("short", "2026-03-13T09:00:00Z")).await;
    let (_, locked) = root.post("/api/apikeys", &key("locked", "2026-05-02T09:00:00Z")).await;
    let path = |key: &Value| format!("/api/apikeys/{}", key["id"].as_str().expect("an id"));
    root.post(&path(&locked), &json!({"enabled": false})).await;
    let told = || async {
        api_keys::warn(&app.app.kernel).await.expect("warned");
        let records = app.audited("audit.api_key_expires_soon.v1");
        records
            .iter()
            .map(|r| format!("{} {}", r["alias"].as_str().expect("alias"), r["daysBefore"]))
            .collect::<Vec<_>>()
    };
    assert!(told().await.is_empty(), "60 days before, and 10 days of 10");
    app.forward(4 * DAY);
    assert_eq!(told().await, ["short 7"]);
    assert_eq!(told().await, ["short 7"], "once");
    app.forward(26 * DAY);
    assert_eq!(told().await, ["short 7", "long 30"]);
    assert_eq!(root.get(&path(&long)).await.1["state"], "expires-soon");
    let mut browser = app.signed_in().await;
    let page = browser.page("/").await;
    assert_eq!(text(&page, ".attention b"), "API key “long” expires in 30 days");
    assert_eq!(text(&browser.page("/api-keys").await, "[data-state=expires-soon]"), "Expires soon");
    app.add_user("operator@acme.example", "operator");
    let page = app.signed_in_as("operator@acme.example").await.page("/").await;
    assert!(!page.contains("API key “long”"), "who may not see keys is not told of them");
    app.forward(23 * DAY + HOUR);
    assert_eq!(told().await, ["short 7", "long 30", "long 7"]);
    assert_eq!(told().await.len(), 3);
    // Extended, it begins anew.
    assert_eq!(root.post(&path(&long), &json!({"expiresAt": "2026-06-30T09:00:00Z"})).await.0, 200);
    assert_eq!(told().await.len(), 3);
    app.forward(50 * DAY);
    assert_eq!(told().await[3..], ["long 30"], "days that were missed make no difference");
    let last = app.audited("audit.api_key_expires_soon.v1").pop().expect("a record");
    assert_eq!(last["account"], app.account.to_string());
    app.assert_audit_verifies();
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_about_where_a_key_is_used_and_nobody_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let app = TestApp::start_in(dir, |config| {
        config.trusted_proxies = vec!["127.0.0.1".parse::<IpAddr>().expect("an address").into()]
    });
    let account = app.add_first();
    let root = app.key(account, "full-access");
    for (allowed, from, forwarded, expected) in [
        ("203.0.113.7/32", [127, 0, 0, 1], "203.0.113.7", 200),
        ("203.0.113.7/32", [127, 0, 0, 1], "203.0.113.8", 401),
        ("203.0.113.7/32", [127, 0, 0, 1], "::ffff:203.0.113.7", 200),
        ("203.0.113.7/32", [127, 0, 0, 1], "::FFFF:cb00:7107", 200),
        ("2001:db8::/32", [127, 0, 0, 1], "2001:db8:0:1::9", 200),
        ("2001:db8::/32", [127, 0, 0, 1], "2001:db9::9", 401),
        // What the client wrote itself stands before what the proxy saw.
        ("203.0.113.7/32", [127, 0, 0, 1], "203.0.113.7, 198.51.100.1", 401),
        ("203.0.113.7/32", [127, 0, 0, 1], "198.51.100.1, 203.0.113.7", 200),
        ("203.0.113.7/32", [127, 0, 0, 1], "203.0.113.7, nonsense", 401),
        ("203.0.113.7/32", [127, 0, 0, 1], "", 401),
        // Not a named proxy.
        ("203.0.113.7/32", [127, 0, 0, 2], "203.0.113.7", 401),
        ("127.0.0.2/32", [127, 0, 0, 2], "203.0.113.7", 200),
        // The proxy's own address is not the client's.
        ("127.0.0.1/32", [127, 0, 0, 1], "203.0.113.7", 401),
        // The mapped form names the same networks; anything wider is no mapped form.
        ("::/0", [127, 0, 0, 1], "203.0.113.7", 401),
        ("::ffff:203.0.113.0/120", [127, 0, 0, 1], "203.0.113.7", 200),
    ] {
        let alias = format!("{allowed} {from:?} {forwarded}").replace(':', ".");
        let body = json!({"alias": alias, "roleId": "read-only", "allowedCIDRs": [allowed]});
        let (status, made) = app.api(&root).post("/api/apikeys", &body).await;
        assert_eq!(status, 201, "{made}");
        let key = format!("{}:{}", made["id"].as_str().expect("id"), made["secret"].as_str().expect("secret"));
        let http = app.browser_from(from).http;
        let request =
            http.get(format!("{}/api/apikeys/self", app.base)).header("authorization", format!("ApiKey {key}"));
        let answer = request.header("x-forwarded-for", forwarded).send().await.expect("answered");
        assert_eq!(answer.status(), expected, "{alias}");
        let last = app.audited("audit.api_key_refused.v1").pop();
        if expected == 401 {
            let last = last.expect("a record");
            assert_eq!(last["reason"], "the key may not be used from this address");
            assert_eq!(last["alias"], made["alias"]);
        } else {
            let begun = Instant::now();
            let noted =
                if from == [127, 0, 0, 1] { forwarded.rsplit(", ").next().expect("a hop") } else { "127.0.0.2" };
            let noted = noted.parse::<IpAddr>().expect("an address").to_canonical().to_string();
            let path = format!("/api/apikeys/{}", id(&key));
            while app.api(&root).get(&path).await.1["lastAddress"] != noted {
                assert!(begun.elapsed() < Duration::from_secs(10), "{alias}");
            }
        }
    }
}

#[tokio::test]
async fn language_and_time_zone_are_a_keys_own_and_checked_as_a_users() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    let body = json!({"alias": "bot", "roleId": "read-only", "locale": "en", "timeZone": "Europe/Oslo"});
    let (status, made) = root.post("/api/apikeys", &body).await;
    assert_eq!((status, &made["locale"], &made["timeZone"]), (201, &json!("en"), &json!("Europe/Oslo")));
    let key = format!("{}:{}", made["id"].as_str().expect("id"), made["secret"].as_str().expect("secret"));
    assert_eq!(principal(&app, &key).await.expect("a principal").time_zone, "Europe/Oslo");
    for (field, value) in [("locale", "tlh"), ("locale", ""), ("timeZone", "Mars/Olympus"), ("timeZone", "europe/oslo")]
    {
        let (status, answer) = root.post(&format!("/api/apikeys/{}", id(&key)), &json!({field: value})).await;
        assert_eq!(status, 422, "{field} {value}");
        assert!(answer["fields"].get(field).is_some(), "{answer}");
    }
    let mut browser = app.signed_in().await;
    let page = browser.page(&format!("/api-keys/{}", id(&key))).await;
    assert_eq!(attribute(&page, "#timeZone option[selected]", "value").as_deref(), Some("Europe/Oslo"));
}

#[tokio::test]
async fn a_long_list_is_searched_and_narrowed() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    let mut keys = Vec::new();
    for i in 0..9 {
        let body = json!({"alias": format!("Bot-{i}"), "roleId": "read-only", "enabled": i % 3 > 0});
        keys.push(root.post("/api/apikeys", &body).await.1);
    }
    let aliases = |query: String| {
        let root = root.clone();
        async move {
            let (status, list) = root.get(&format!("/api/apikeys?{query}")).await;
            assert_eq!(status, 200, "{query}");
            let keys = list["apikeys"].as_array().expect("keys").clone();
            keys.iter().map(|key| key["alias"].as_str().expect("an alias").to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(aliases("state=locked".into()).await, ["Bot-6", "Bot-3", "Bot-0"]);
    assert_eq!(aliases("q=bot-7".into()).await, ["Bot-7"]);
    assert_eq!(aliases(format!("q={}", keys[4]["id"].as_str().expect("an id"))).await, ["Bot-4"]);
    assert_eq!(aliases(format!("q={}", keys[5]["secretStart"].as_str().expect("a start"))).await, ["Bot-5"]);
    assert_eq!(aliases("q=bot&state=active&limit=500".into()).await.len(), 6);
    assert_eq!(root.get("/api/apikeys?state=open").await.0, 400);
    assert_eq!(root.get(&format!("/api/apikeys?q={}", "x".repeat(201))).await.0, 400);
    let mut browser = app.signed_in().await;
    let page = browser.page("/api-keys?q=bot-2&state=active").await;
    assert_eq!(text(&page, "tbody th a"), "Bot-2");
    assert_eq!(attribute(&page, "main input[name=q]", "value").as_deref(), Some("bot-2"));
    assert!(text(&browser.page("/api-keys?q=nothing").await, ".empty").contains("No key fits"));
}

#[tokio::test]
async fn a_key_becomes_no_session_and_stands_nowhere_but_as_a_hash() {
    let app = TestApp::start();
    let root = app.api(&app.key(app.account, "full-access"));
    let (_, made) = root.post("/api/apikeys", &json!({"alias": "bot", "roleId": "full-access"})).await;
    let (_, rotated) =
        root.post(&format!("/api/apikeys/{}/rotate", made["id"].as_str().expect("id")), &json!({})).await;
    let secrets = [&made, &rotated].map(|key| key["secret"].as_str().expect("a secret").to_owned());
    let key = format!("{}:{}", made["id"].as_str().expect("id"), secrets[1]);
    // As a cookie, in the address, in a form: nobody comes in (HOSTILE R05, R08).
    let http = app.browser().http;
    for name in ["__Host-bailiwick-session", "session", "api_key"] {
        let request = http.get(format!("{}/profile", app.base)).header("cookie", format!("{name}={}", secrets[1]));
        assert_eq!(request.send().await.expect("answered").status(), 303, "{name}");
    }
    for query in [format!("api_key={key}"), format!("apikey={key}"), format!("access_token={}", secrets[1])] {
        assert_eq!(app.api("").get(&format!("/api/accounts?{query}")).await.0, 401);
    }
    let mut browser = app.browser();
    assert_ne!(browser.sign_in(EMAIL, &secrets[1]).await.status(), 303);
    assert_eq!(app.count("SELECT count(*) FROM session"), 0);
    let folder = app.app.kernel.config.data_dir.clone();
    for file in std::fs::read_dir(folder).expect("a folder") {
        let path = file.expect("a file").path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        for secret in &secrets {
            // Not even a good part of it.
            let part = &secret.as_bytes()[8..20];
            assert!(!bytes.windows(part.len()).any(|window| window == part), "{}", path.display());
        }
    }
}
