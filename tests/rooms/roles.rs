//! Roles through both doors: making and changing them, what nobody can give, who is left to administer, and what each role
//! opens.

use std::collections::BTreeMap;

use bailiwick::{
    principal::{Level, Permission, Rights, Service},
    web::{Again, Surface},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Api, Browser, EMAIL, TestApp, attribute, text};

/// An id that exists nowhere.
const NOBODYS: &str = "01890000-0000-7000-8000-000000000000";

/// A directory, so that a part can be named.
const DIRECTORY: &str =
    "INSERT INTO directory (id, account_id, kind, name, settings, read_credentials, schedule, guard,
                                               created_at, updated_at)
     SELECT 7, min(id), 'openldap', 'Staff', '{}', zeroblob(0), '{}', '{}', 0, 0 FROM account";

fn role(id: &str, services: Value) -> Value {
    json!({"id": id, "name": id, "services": services})
}

async fn make(api: &Api, body: &Value) -> Value {
    let (status, made) = api.post("/api/roles", body).await;
    assert_eq!(status, 201, "{body}: {made}");
    made
}

async fn user_id(api: &Api, email: &str) -> String {
    let (_, found) = api.get(&format!("/api/users?q={email}")).await;
    found["users"][0]["id"].as_str().expect("a user").to_owned()
}

fn denied(app: &TestApp) -> i64 {
    app.count("SELECT count(*) FROM audit_record WHERE result = 'denied'")
}

#[tokio::test]
async fn a_role_is_made_duplicated_changed_and_removed() {
    let app = TestApp::start();
    app.sql(DIRECTORY);
    let api = app.api(&app.key(app.account, "full-access"));
    let mut browser = app.signed_in().await;
    // From a predefined one, on the page.
    let page = browser.page("/roles/new?from=operator").await;
    assert_eq!(attribute(&page, "input[name=id]", "value").as_deref(), Some("operator-copy"));
    let checked = attribute(&page, "input[name=level-directories][checked]", "value");
    assert_eq!(checked.as_deref(), Some("full"));
    let levels = [("level-directories", "read"), ("level-enforcement", "operate")];
    let desk = [("id", "desk"), ("name", " Desk "), ("description", "Oslo"), ("for", "part"), ("directory", "7")];
    let dns = [("units-7", "OU=Oslo,DC=x\n\n ou=bergen,dc=x \n")];
    let fields: Vec<_> = levels.into_iter().chain(desk).chain(dns).collect();
    let answer = browser.post("/roles", &fields).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().ok()), (303, Some("/roles/desk")));
    let (_, made) = api.get("/api/roles/desk").await;
    let units = json!([{"directoryId": "7", "dn": "OU=Oslo,DC=x"}, {"directoryId": "7", "dn": "ou=bergen,dc=x"}]);
    assert_eq!(made["scope"], json!({"directories": ["7"], "groups": [], "units": units}));
    assert_eq!((&made["name"], &made["predefined"]), (&json!("Desk"), &json!(false)));
    assert_eq!((&made["services"]["directories"], &made["services"]["identity"]), (&json!("read"), &json!("none")));
    // The same id again, and what cannot be.
    assert_eq!(browser.post("/roles", &fields).await.status(), 422);
    for (body, field) in [
        (role("desk", json!({"audit": "read"})), "id"),
        (role("full-access", json!({"audit": "read"})), "id"),
        (role("FULL-ACCESS", json!({"audit": "read"})), "id"),
        (role("full-access ", json!({"audit": "read"})), "id"),
        (role("none", json!({})), "services"),
        (role("x", json!({"audit": "read"})), "id"),
        (json!({"id": "nameless", "services": {"audit": "read"}}), "name"),
    ] {
        let (status, answer) = api.post("/api/roles", &body).await;
        assert_eq!(status, 422, "{body}");
        assert!(answer.to_string().contains(&format!("\"{field}\"")), "{body}: {answer}");
    }
    // Changed, field by field; the id never.
    let change = |body: Value| {
        let api = api.clone();
        async move { api.post("/api/roles/desk", &body).await }
    };
    assert_eq!(change(json!({"description": "Oslo and Bergen"})).await.0, 200);
    assert_eq!(change(json!({"id": "other"})).await.0, 422);
    let (status, whole) = change(json!({"scope": null, "services": {"audit": "read"}})).await;
    assert_eq!((status, whole.get("scope")), (200, None));
    assert_eq!(whole["description"], "Oslo and Bergen");
    let page = browser.page("/roles/desk").await;
    assert_eq!(text(&page, "h1"), "Desk");
    // Predefined ones stay as they are.
    for id in ["full-access", "operator", "read-only", "auditor"] {
        let path = format!("/api/roles/{id}");
        assert_eq!(api.post(&path, &json!({"name": "mine"})).await.0, 409, "{id}");
        assert_eq!(api.send(Method::DELETE, &path, None).await.0, 409, "{id}");
        let page = browser.page(&format!("/roles/{id}")).await;
        assert!(attribute(&page, "form[action$=remove]", "action").is_none(), "{id}");
    }
    // Nobody is left without a role by its removal.
    app.add_user("dag@acme.example", "desk");
    app.key(app.account, "desk");
    let (status, answer) = api.send(Method::DELETE, "/api/roles/desk", None).await;
    assert_eq!(status, 409);
    assert!(answer.to_string().contains("1 user, 1 API key"), "{answer}");
    app.sql("DELETE FROM membership WHERE role_id = 'desk'; DELETE FROM api_key WHERE role_id = 'desk'");
    assert_eq!(browser.post("/roles/desk/remove", &[]).await.status(), 303);
    assert_eq!(api.get("/api/roles/desk").await.0, 404);
    assert_eq!(api.send(Method::DELETE, "/api/roles/desk", None).await.0, 404);
    let changes = |kind: &str| app.audited(&format!("audit.role_{kind}.v1"));
    assert_eq!((changes("created").len(), changes("updated").len(), changes("removed").len()), (1, 2, 1));
    assert_eq!(changes("updated")[0]["changes"]["description"]["after"], "Oslo and Bergen");
    app.assert_audit_verifies();
}

#[tokio::test]
async fn somebody_is_always_left_to_administer() {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "full-access"));
    let admins = json!({"identity": "full", "directories": "read"});
    make(&api, &role("admins", admins.clone())).await;
    app.add_user("bo@acme.example", "admins");
    let (ida, bo) = (user_id(&api, EMAIL).await, user_id(&api, "bo@acme.example").await);
    // Ida goes; Bo is the last one, and nothing takes him away.
    assert_eq!(api.post(&format!("/api/users/{ida}"), &json!({"roleId": "read-only"})).await.0, 200);
    let path = format!("/api/users/{bo}");
    for (path, body) in [
        ("/api/roles/admins", json!({"services": {"identity": "operate"}})),
        ("/api/roles/admins", json!({"services": {"directories": "read"}, "scope": null})),
        (path.as_str(), json!({"roleId": "read-only"})),
        (path.as_str(), json!({"state": "disabled"})),
    ] {
        let (status, answer) = api.post(path, &body).await;
        assert_eq!(status, 409, "{path} {body}: {answer}");
    }
    assert_eq!(api.send(Method::DELETE, &path, None).await.0, 409);
    assert_eq!(api.send(Method::DELETE, "/api/roles/admins", None).await.0, 409, "it is in use");
    let (_, role_now) = api.get("/api/roles/admins").await;
    assert_eq!(role_now["services"]["identity"], "full", "nothing of it was written");
    let (_, bo_now) = api.get(&path).await;
    assert_eq!((&bo_now["roleId"], &bo_now["state"]), (&json!("admins"), &json!("enabled")));
    // Somebody disabled counts for nothing, wherever they are disabled.
    app.add_user("cleo@acme.example", "full-access");
    let cleo = format!("/api/users/{}", user_id(&api, "cleo@acme.example").await);
    assert_eq!(api.post(&cleo, &json!({"state": "disabled"})).await.0, 200);
    assert_eq!(api.post(&path, &json!({"roleId": "read-only"})).await.0, 409);
    assert_eq!(api.post(&cleo, &json!({"state": "enabled"})).await.0, 200);
    assert_eq!(api.post(&path, &json!({"roleId": "read-only"})).await.0, 200);
    app.assert_audit_verifies();
}

#[tokio::test]
async fn of_two_administrators_who_demote_each_other_at_once_one_is_left() {
    for _ in 0..5 {
        let app = TestApp::start();
        app.add_user("bo@acme.example", "full-access");
        let api = app.api(&app.key(app.account, "read-only"));
        let (ida, bo) = (user_id(&api, EMAIL).await, user_id(&api, "bo@acme.example").await);
        let (mut one, mut two) = (app.signed_in().await, app.signed_in_as("bo@acme.example").await);
        let (first, second) = (one.token("/profile").await, two.token("/profile").await);
        let (over_bo, over_ida) = (format!("/users/{bo}"), format!("/users/{ida}"));
        let (to_bo, to_ida) =
            ([("csrf", first.as_str()), ("role", "read-only")], [("csrf", second.as_str()), ("role", "read-only")]);
        let answers = tokio::join!(one.post_raw(&over_bo, &to_bo, &[]), two.post_raw(&over_ida, &to_ida, &[]));
        let statuses = (answers.0.status().as_u16(), answers.1.status().as_u16());
        let left = app.count("SELECT count(*) FROM membership WHERE role_id = 'full-access' AND state = 'enabled'");
        assert_eq!(left, 1, "{statuses:?}");
    }
}

#[tokio::test]
async fn an_edited_role_holds_with_the_next_request_of_sessions_and_keys() {
    let app = TestApp::start();
    app.sql(DIRECTORY);
    let root = app.api(&app.key(app.account, "full-access"));
    make(&root, &role("watch", json!({"audit": "read", "directories": "read"}))).await;
    app.add_user("dag@acme.example", "watch");
    let mut dag = app.signed_in_as("dag@acme.example").await;
    let key = app.api(&app.key(app.account, "watch"));
    for (services, scope, logs, directories, identities) in [
        (json!({"audit": "read", "directories": "read"}), Value::Null, 200, 200, 200),
        (json!({"directories": "read"}), Value::Null, 403, 200, 200),
        (json!({"directories": "read"}), json!({"directories": ["7"]}), 403, 403, 200),
        (json!({"enforcement": "operate"}), json!({"directories": ["7"]}), 403, 403, 403),
        (json!({"audit": "full"}), Value::Null, 200, 403, 403),
    ] {
        let body = json!({"services": services, "scope": scope});
        assert_eq!(root.post("/api/roles/watch", &body).await.0, 200, "{body}");
        for (what, expected) in [("logs", logs), ("directories", directories), ("identities", identities)] {
            assert_eq!(dag.get(&format!("/{what}")).await.status(), expected, "{what} with {body}");
            assert_eq!(key.get(&format!("/api/{what}")).await.0, expected, "{what} with {body}");
        }
        // What is offered is what is open.
        let page = dag.page("/").await;
        for (what, expected) in [("logs", logs), ("directories", directories), ("identities", identities)] {
            let is_offered = attribute(&page, &format!(".nav a[href='/{what}']"), "href").is_some();
            assert_eq!(is_offered, expected == 200, "{what} with {body}");
        }
    }
    // Whatever becomes of a role, an id without one opens nothing.
    app.sql("DELETE FROM role");
    for what in ["logs", "directories", "identities"] {
        assert_eq!(dag.get(&format!("/{what}")).await.status(), 403);
        assert_eq!(key.get(&format!("/api/{what}")).await.0, 403);
    }
}

/// What was tried, how, and what it is answered.
struct Attempt {
    what: &'static str,
    method: Method,
    path: String,
    body: Value,
    status: u16,
}

fn attempt(what: &'static str, path: &str, body: Value, status: u16) -> Attempt {
    Attempt { what, method: Method::POST, path: path.to_owned(), body, status }
}

#[tokio::test]
async fn nobody_gets_more_than_they_hold() {
    let app = TestApp::start();
    app.sql(DIRECTORY);
    let root_key = app.key(app.account, "full-access");
    let root = app.api(&root_key);
    // Whoever is tried as administers users and keys, and may do little besides.
    make(&root, &role("people", json!({"identity": "full", "directories": "read"}))).await;
    make(&root, &role("bosses", json!({"identity": "full", "settings": "full"}))).await;
    let part = json!({"directories": ["7"]});
    let desk = json!({"id": "desk", "name": "Desk", "services": {"directories": "read"}, "scope": part});
    make(&root, &desk).await;
    app.add_user("pia@acme.example", "people");
    make(&root, &role("viewer", json!({"directories": "read"}))).await;
    app.add_user("tor@acme.example", "viewer");
    let other = app.other_account("other", "root@other.example");
    let theirs = app.api(&app.key(other.id, "full-access"));
    make(&theirs, &role("theirs", json!({"audit": "read"}))).await;
    let (ida, pia, tor) = (
        user_id(&root, EMAIL).await,
        user_id(&root, "pia@acme.example").await,
        user_id(&root, "tor@acme.example").await,
    );
    let stranger = user_id(&theirs, "root@other.example").await;
    let their_key = theirs.get("/api/apikeys?limit=1").await.1["apikeys"][0]["id"].as_str().expect("a key").to_owned();
    let (root_id, _) = root_key.split_once(':').expect("id:secret");
    let own_key = app.admin_key(app.account, "people");
    let own_id = own_key.split_once(':').expect("id:secret").0.to_owned();
    let people = app.api(&own_key);
    let (status, _) =
        people.post("/api/roles", &role("copy", json!({"identity": "full", "directories": "read"}))).await;
    assert_eq!(status, 201, "what one holds can be given");
    let user = |id: &str| format!("/api/users/{id}");
    let key = |id: &str| format!("/api/apikeys/{id}");
    let more = json!({"services": {"identity": "full", "directories": "full"}});
    let delete = |what, path: String, status| Attempt { what, method: Method::DELETE, path, body: Value::Null, status };
    let everything = json!({"identity": "full", "directories": "full", "enforcement": "full", "approvals": "full",
        "risk": "full", "audit": "full", "settings": "full"});
    let attempts = [
        attempt("own role up", "/api/roles/people", more.clone(), 403),
        attempt("duplicate and raise", "/api/roles/copy", more.clone(), 403),
        attempt("a role with more", "/api/roles", role("more", more["services"].clone()), 403),
        attempt("a role with everything", "/api/roles", role("all", everything), 403),
        attempt("a role with one thing more", "/api/roles", role("log", json!({"audit": "read"})), 403),
        attempt(
            "a role for a part with more",
            "/api/roles",
            json!({"id": "p", "name": "p", "services": {"enforcement": "read"}, "scope": part}),
            422,
        ),
        attempt(
            "a part with more",
            "/api/roles",
            json!({"id": "pp", "name": "p", "services": {"enforcement": "read"}, "scope": part}),
            403,
        ),
        attempt("a role over oneself, lowered", "/api/roles/bosses", json!({"services": {"identity": "read"}}), 403),
        attempt("a role over oneself, renamed", "/api/roles/bosses", json!({"name": "mine"}), 403),
        delete("a role over oneself, removed", "/api/roles/bosses".into(), 403),
        attempt("a predefined role", "/api/roles/read-only", more, 409),
        attempt("oneself to full access", &user(&pia), json!({"roleId": "full-access"}), 403),
        attempt("oneself to a role over oneself", &user(&pia), json!({"roleId": "bosses"}), 403),
        attempt("somebody else to full access", &user(&tor), json!({"roleId": "full-access"}), 403),
        attempt("somebody over oneself, demoted", &user(&ida), json!({"roleId": "people"}), 403),
        attempt("somebody over oneself, disabled", &user(&ida), json!({"state": "disabled"}), 403),
        delete("somebody over oneself, removed", user(&ida), 403),
        attempt("a key with full access", "/api/apikeys", json!({"alias": "a", "roleId": "full-access"}), 403),
        attempt("a key with a role over oneself", "/api/apikeys", json!({"alias": "b", "roleId": "bosses"}), 403),
        attempt(
            "a key that never ends",
            "/api/apikeys",
            json!({"alias": "c", "roleId": "people", "expiresAt": null}),
            403,
        ),
        attempt("own key raised", &key(&own_id), json!({"roleId": "full-access"}), 403),
        attempt("a key over oneself, from elsewhere", &key(root_id), json!({"allowedCIDRs": ["0.0.0.0/0"]}), 403),
        attempt("a key over oneself, taken over", &key(root_id), json!({"roleId": "people"}), 403),
        attempt("another account's role given", &user(&tor), json!({"roleId": "theirs"}), 422),
        attempt("another account's role for a key", "/api/apikeys", json!({"alias": "d", "roleId": "theirs"}), 422),
        attempt("another account's role changed", "/api/roles/theirs", json!({"name": "mine"}), 404),
        delete("another account's role removed", "/api/roles/theirs".into(), 404),
        attempt("another account's user", &user(&stranger), json!({"roleId": "read-only"}), 404),
        delete("another account's user removed", user(&stranger), 404),
        attempt("another account's key", &key(&their_key), json!({"enabled": false}), 404),
        attempt(
            "mass assignment: predefined",
            "/api/roles",
            json!({"id": "m1", "name": "m", "services": {"identity": "read"}, "predefined": true}),
            422,
        ),
        attempt(
            "mass assignment: another account's role",
            "/api/roles",
            json!({"id": "m2", "name": "m", "services": {"identity": "read"}, "accountId": other.id.to_string()}),
            422,
        ),
        attempt("mass assignment: another id", "/api/roles/copy", json!({"id": "full-access"}), 422),
        attempt("mass assignment: owner", &user(&pia), json!({"isOwner": true}), 422),
        attempt("mass assignment: a user's account", &user(&tor), json!({"accountId": other.id.to_string()}), 422),
        attempt("mass assignment: a user's id", &user(&tor), json!({"id": pia}), 422),
        attempt(
            "mass assignment: a key's account",
            "/api/apikeys",
            json!({"alias": "e", "roleId": "people", "accountId": other.id.to_string()}),
            422,
        ),
        attempt("mass assignment: a key's id", &key(&own_id), json!({"id": root_id}), 422),
        attempt("a level in capitals", "/api/roles", role("c1", json!({"identity": "FULL"})), 422),
        attempt("a level that is none", "/api/roles", role("c2", json!({"identity": "owner"})), 422),
        attempt("a service that is none", "/api/roles", role("c3", json!({"*": "full"})), 422),
        attempt(
            "a part of another account",
            "/api/roles",
            json!({"id": "c4", "name": "c", "services": {"directories": "read"}, "scope": {"directories": ["8"]}}),
            422,
        ),
        attempt(
            "a part out of its frame",
            "/api/roles/desk",
            json!({"scope": {"directories": ["7"], "all": true}}),
            422,
        ),
        attempt("a part that administers", "/api/roles/desk", json!({"services": {"identity": "full"}}), 422),
    ];
    let snapshot = |app: &TestApp| {
        let rows = |sql: &'static str| {
            let read = app.app.kernel.db.read_blocking(|c| {
                let mut statement = c.prepare(sql)?;
                let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
                Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
            });
            read.expect("read")
        };
        (
            rows("SELECT account_id || id || name || services || coalesce(scope, '') FROM role ORDER BY 1"),
            rows("SELECT account_id || user_id || role_id || state FROM membership ORDER BY 1"),
            rows(
                "SELECT account_id || id || role_id || coalesce(expires_at, '') || is_enabled || allowed_cidrs FROM api_key ORDER BY 1",
            ),
            rows("SELECT id || is_owner || state FROM user ORDER BY 1"),
        )
    };
    let before = snapshot(&app);
    for one in &attempts {
        let known = denied(&app);
        let body = (one.method == Method::POST).then_some(&one.body);
        let (status, answer) = people.send(one.method.clone(), &one.path, body).await;
        assert_eq!(status, one.status, "{}: {answer}", one.what);
        // What cannot be done with anybody's rights is no more than a mistake.
        assert_eq!(denied(&app), known + i64::from(status != 409), "{} is on the record, once", one.what);
        assert!(!answer.to_string().contains("root@other.example"), "{}: {answer}", one.what);
    }
    assert_eq!(snapshot(&app), before, "nothing of it was written");
    // The same by a person, on the pages.
    let mut browser = app.signed_in_as("pia@acme.example").await;
    let full: Vec<(String, &str)> =
        Service::ALL.iter().map(|one| (format!("level-{}", one.as_str()), "full")).collect();
    let full: Vec<(&str, &str)> = full.iter().map(|(name, level)| (name.as_str(), *level)).collect();
    let named = |id: &'static str| [full.as_slice(), &[("id", id), ("name", "x"), ("for", "account")]].concat();
    let (of_pia, of_ida) = (format!("/users/{pia}"), format!("/users/{ida}"));
    for (what, path, fields) in [
        ("a role with everything", "/roles".to_owned(), named("everything")),
        ("own role with everything", "/roles/people".to_owned(), full.clone()),
        ("own role", of_pia.clone(), vec![("role", "full-access")]),
        ("somebody over oneself", of_ida.clone(), vec![("role", "people")]),
        ("somebody over oneself, disabled", format!("{of_ida}/disable"), vec![]),
        ("somebody over oneself, signed out", format!("{of_ida}/sign-out"), vec![]),
        ("somebody over oneself, removed", format!("{of_ida}/remove"), vec![]),
        ("a role over oneself, removed", "/roles/bosses/remove".to_owned(), vec![]),
    ] {
        let known = denied(&app);
        let mut fields = fields;
        if path == "/roles/people" {
            fields.extend([("name", "people"), ("for", "account")]);
        }
        let status = browser.post(&path, &fields).await.status().as_u16();
        assert!([303, 403, 422].contains(&status), "{what}: {status}");
        assert_eq!(denied(&app), known + 1, "{what} is on the record");
    }
    assert_eq!(snapshot(&app), before, "nothing of it was written");
    // Whoever has a part reaches none of it.
    let desk = app.api(&app.key(app.account, "desk"));
    for (method, path) in [
        (Method::POST, "/api/roles/desk".to_owned()),
        (Method::POST, "/api/roles".to_owned()),
        (Method::POST, user(&pia)),
        (Method::POST, "/api/apikeys".to_owned()),
        (Method::GET, "/api/roles".to_owned()),
        (Method::GET, "/api/users".to_owned()),
        (Method::GET, "/api/logs".to_owned()),
        (Method::GET, "/api/directories".to_owned()),
        (Method::GET, "/api/directories/7".to_owned()),
        (Method::GET, "/api/runs".to_owned()),
        (Method::GET, "/api/protections".to_owned()),
    ] {
        let known = denied(&app);
        let body = json!({"scope": null});
        let status = desk.send(method.clone(), &path, (method == Method::POST).then_some(&body)).await.0;
        assert_eq!((status, denied(&app)), (403, known + 1), "{method} {path}");
    }
    app.assert_audit_verifies();
}

/// What a route is about, as its address says, and nothing that its registration says.
fn service_of(path: &str) -> Option<Service> {
    let first = path.trim_start_matches("/api").trim_start_matches('/').split(['/', '.']).next().unwrap_or_default();
    Some(match first {
        "users" | "roles" | "api-keys" | "apikeys" | "invitations" => Service::Identity,
        "identities" if path.ends_with("/tasks") => Service::Enforcement,
        "directories" | "runs" | "identities" | "groups" => Service::Directories,
        "tasks" | "task-requests" | "protections" | "two-person-rule" => Service::Enforcement,
        "logs" => Service::Audit,
        _ => return None,
    })
}

#[test]
fn a_route_asks_for_a_level_of_what_its_address_is_about() {
    let app = TestApp::start();
    let mut seen = 0;
    for route in app.app.routes().entries() {
        let name = format!("{} {} {:?}", route.method, route.path, route.permission);
        let (Permission::Needs(service, level) | Permission::InPart(service, level)) = route.permission else {
            continue;
        };
        let Some(expected) = service_of(&route.path) else { continue };
        seen += 1;
        let decides = ["/approve", "/discard", "/decline"].iter().any(|end| route.path.ends_with(end));
        assert_eq!(service, if decides { Service::Approvals } else { expected }, "{name}");
        let looks_up = route.path.ends_with("/probe") || route.path.ends_with("/preview");
        if route.method.as_str() != "GET" {
            assert!(level >= Level::Operate || looks_up, "{name} changes something");
        }
        // Parts reach people, groups and what is done to them, and nothing else.
        if matches!(route.permission, Permission::InPart(..)) {
            let kinds = ["/identities", "/groups", "/tasks", "/task-requests"];
            let path = route.path.trim_start_matches("/api");
            assert!(kinds.iter().any(|kind| path.starts_with(kind)) && level <= Level::Operate, "{name}");
        }
    }
    assert!(seen > 80, "{seen}");
}

#[tokio::test]
async fn every_role_opens_what_its_levels_say() {
    let app = TestApp::start();
    app.sql(DIRECTORY);
    let root = app.api(&app.key(app.account, "full-access"));
    let mut roles: BTreeMap<String, (Rights, bool)> = BTreeMap::new();
    for id in ["full-access", "operator", "read-only", "auditor"] {
        let (_, found) = root.get(&format!("/api/roles/{id}")).await;
        roles.insert(id.into(), (serde_json::from_value(found["services"].clone()).expect("levels"), false));
    }
    for service in Service::ALL {
        for level in [Level::Read, Level::Operate, Level::Full] {
            let id = format!("{}-{}", service.as_str(), level.as_str());
            make(&root, &role(&id, json!({service.as_str(): level.as_str()}))).await;
            roles.insert(id, (Rights::default().with(service, level), false));
        }
    }
    let services = json!({"directories": "read", "enforcement": "operate"});
    let desk = json!({"id": "desk", "name": "Desk", "services": services, "scope": {"directories": ["7"]}});
    make(&root, &desk).await;
    let rights = Rights::default().with(Service::Directories, Level::Read).with(Service::Enforcement, Level::Operate);
    roles.insert("desk".into(), (rights, true));
    let routes: Vec<(Method, String, Permission, Surface)> = app
        .app
        .routes()
        .entries()
        .iter()
        // They ask everybody first who they are, and do nothing else: `step_up` goes through them.
        .filter(|route| route.again != Some(Again::EachTime))
        .map(|route| {
            let method = Method::from_bytes(route.method.as_str().as_bytes()).expect("a method");
            (method, route.path.replace("{id}", NOBODYS), route.permission, route.surface)
        })
        .collect();
    let mut asked = 0;
    for (id, (rights, is_part)) in &roles {
        let email: &'static str = format!("{id}@acme.example").leak();
        app.add_user(email, id.clone().leak());
        let api = app.api(&app.admin_key(app.account, id));
        let mut browser = app.signed_in_as(email).await;
        let token = browser.token("/profile").await;
        for (method, path, permission, surface) in &routes {
            if ["/sign-out", "/profile/sessions/end"].contains(&path.as_str()) || *surface == Surface::Open {
                continue;
            }
            let may = match permission {
                Permission::Public | Permission::SignedIn | Permission::OwnUser => true,
                Permission::Owner => false,
                Permission::Needs(service, level) => !is_part && rights.level(*service) >= *level,
                Permission::InPart(service, level) => rights.level(*service) >= *level,
                Permission::Everything => !is_part && rights.includes(&Rights::all(Level::Full)),
            };
            let status = match surface {
                Surface::Api => {
                    let body = (*method == Method::POST).then(|| json!({}));
                    api.send(method.clone(), path, body.as_ref()).await.0
                }
                _ if *permission == Permission::Public => continue,
                _ => page(&mut browser, method, path, &token).await,
            };
            asked += 1;
            // A user's own page is nothing for a key.
            assert_eq!(status == 403, !may, "{id}: {method} {path} answered {status}");
            assert!(status != 401 && status < 500, "{id}: {method} {path} answered {status}");
        }
    }
    assert!(asked > 2_000, "{asked}");
}

async fn page(browser: &mut Browser, method: &Method, path: &str, token: &str) -> u16 {
    match *method {
        Method::GET => browser.get(path).await.status().as_u16(),
        _ => browser.post_raw(path, &[("csrf", token)], &[]).await.status().as_u16(),
    }
}
