//! The access test: every route, asked by everybody who must not get through, with the ids of real objects.
//!
//! Nothing here is said route by route: what is expected follows from the permission of the route and from who asks. A new
//! route is asked too, without anybody's doing; when it takes an id or a body that is not known here, the test says what to
//! add. What differs from the rule stands in [`OTHERWISE`], which only shrinks.

use std::collections::BTreeSet;

use bailiwick::{
    accounts::Account,
    principal::{AccountId, Level, Permission, Rights, Service},
    web::{Again, Surface},
};
use reqwest::{Method, header};
use rusqlite::types::ValueRef;
use serde_json::{Value, json};

use super::{Api, Browser, TestApp};

/// In everything that people would see of an object of the fixture.
const MARKER: &str = "quokka";
const USER: &str = "01890000-0000-7000-8000-00000000000a";
const KEY: &str = "01890000-0000-7000-8000-00000000000b";
const INVITATION: &str = "01890000-0000-7000-8000-00000000000c";
const SESSION: &str = "01890000-0000-7000-8000-00000000000d";
const DEVICE: &str = "01890000-0000-7000-8000-00000000000f";
const MAIL: &str = "01890000-0000-7000-8000-00000000000e";

/// One of each kind, in the first account. Directory 8 is all that the scoped role reaches, and nothing is in it.
const FIXTURE: &str = r#"
    INSERT INTO directory (id, account_id, kind, name, settings, read_credentials, schedule, guard, applied_run_id, applied_at,
                           first_applied_at, identity_count, group_count, created_at, updated_at)
    SELECT 7, min(id), 'openldap', 'quokka', '{"servers": ["ldaps://quokka.example"], "baseDns": ["dc=quokka"]}', zeroblob(0),
           '{}', '{}', 6, 1, 1, 1, 1, 0, 0 FROM account
    UNION ALL
    SELECT 8, min(id), 'openldap', 'Desk', '{"servers": ["ldaps://desk.example"], "baseDns": ["dc=desk"]}', zeroblob(0),
           '{}', '{}', NULL, NULL, NULL, 0, 0, 0, 0 FROM account;
    INSERT INTO run (id, account_id, directory_id, mode, requested_by, state, settings_hash, started_at)
    SELECT 6, min(id), 7, 'full', 'urn:quokka', 'applied', '', 1 FROM account
    UNION ALL SELECT 7, min(id), 7, 'full', 'urn:quokka', 'parked', '', 2 FROM account;
    INSERT INTO plan (run_id, directory_id, first_change, last_change, applying_at, applied_at) VALUES (6, 7, 1, 1, 1, 1);
    INSERT INTO identity (id, directory_id, external_id, user_name, display_name, sort_key, status, fields, first_seen_at,
                          changed_at, listed_since_at)
    VALUES (7, 7, 'quokka', 'quokka', 'quokka', 'quokka', 'active', '{}', 1, 1, 1);
    INSERT INTO directory_group (id, directory_id, external_id, member_count, name, sort_key, fields, first_seen_at, changed_at,
                                 listed_since_at)
    VALUES (9, 7, 'quokkas', 0, 'quokkas', 'quokkas', '{}', 1, 1, 1);
    INSERT INTO enforcement_request (id, account_id, action, reason, requested_by, requester, requested_at, state, finished_at)
    SELECT 7, min(id), 'disable', 'quokka', 'urn:quokka', 'quokka', 1, 'successful', 2 FROM account;
    INSERT INTO task (id, request_id, account_id, directory_id, identity_id, external_id, name, user_name, action, state,
                      finished_at)
    SELECT 7, 7, min(id), 7, 7, 'quokka', 'quokka', 'quokka', 'disable', 'observed', 2 FROM account;
    INSERT INTO protection (id, account_id, kind, directory_id, dn, name, note, created_by, created_at)
    SELECT 7, min(id), 'unit', 7, 'ou=quokka', 'ou=quokka', 'quokka', 'urn:quokka', 1 FROM account;
    INSERT INTO user (id, email, email_folded, name, password_hash, password_changed_at, state, created_at)
    VALUES ('01890000-0000-7000-8000-00000000000a', 'quokka@acme.example', 'quokka@acme.example', 'quokka', 'x', 1, 'enabled', 1);
    INSERT INTO role (account_id, id, name, description, services, created_at, updated_at)
    SELECT min(id), 'quokka', 'quokka', 'quokka', '{"audit": "read"}', 1, 1 FROM account;
    INSERT INTO membership (user_id, account_id, role_id, created_at)
    SELECT '01890000-0000-7000-8000-00000000000a', min(id), 'quokka', 1 FROM account;
    INSERT INTO api_key (id, account_id, alias, role_id, secret_hash, secret_start, shown_to, created_at)
    SELECT '01890000-0000-7000-8000-00000000000b', min(id), 'quokka', 'quokka', zeroblob(32), 'quok', 'quokka', 1 FROM account;
    INSERT INTO invitation (id, account_id, email, email_folded, role_id, state, token_hash, is_mailed, invited_by, inviter_name,
                            lifetime_days, created_at, last_sent_at, sent_count, expires_at)
    SELECT '01890000-0000-7000-8000-00000000000c', min(id), 'quokka@guest.example', 'quokka@guest.example', 'quokka', 'invited',
           zeroblob(32), 0, 'urn:quokka', 'quokka', 30, 1, 1, 1, 9000000000000000 FROM account;
    INSERT INTO session (token_hash, id, user_id, account_id, created_at, method, proved_at, last_seen_at, address, user_agent)
    SELECT zeroblob(32), '01890000-0000-7000-8000-00000000000d', '01890000-0000-7000-8000-00000000000a', min(id), 1,
           'password', 1, 9000000000000000, '192.0.2.1', 'quokka' FROM account;
    INSERT INTO totp_device (id, user_id, name, secret, created_at, confirmed_at)
    VALUES ('01890000-0000-7000-8000-00000000000f', '01890000-0000-7000-8000-00000000000a', 'quokka', x'00', 1, 1);
    INSERT INTO mail_outbox (id, kind, recipient, content, has_secret, state, created_at, due_at, give_up_at, error, ended_at)
    VALUES ('01890000-0000-7000-8000-00000000000e', 'test', x'00', x'00', 0, 'failed', 1, 1, 1, 'quokka', 9000000000000000);
    INSERT INTO contact (account_id, list, position, email) SELECT min(id), 'billing', 5, 'quokka@acme.example' FROM account;
"#;

/// What the rows of the fixture are in. None of them may change while they are asked for.
const ROWS: &[&str] = &[
    "SELECT * FROM account WHERE alias = 'acme'",
    "SELECT * FROM directory WHERE id IN (7, 8)",
    "SELECT * FROM run",
    "SELECT * FROM identity",
    "SELECT * FROM directory_group",
    "SELECT * FROM enforcement_request WHERE account_id = (SELECT id FROM account WHERE alias = 'acme')",
    "SELECT * FROM task WHERE account_id = (SELECT id FROM account WHERE alias = 'acme')",
    "SELECT * FROM protection WHERE account_id = (SELECT id FROM account WHERE alias = 'acme')",
    "SELECT * FROM user WHERE name = 'quokka'",
    "SELECT * FROM membership WHERE role_id = 'quokka'",
    "SELECT * FROM role WHERE id = 'quokka'",
    "SELECT * FROM api_key WHERE alias = 'quokka'",
    "SELECT * FROM invitation WHERE account_id = (SELECT id FROM account WHERE alias = 'acme')",
    "SELECT * FROM session WHERE user_agent = 'quokka'",
    "SELECT * FROM totp_device WHERE name = 'quokka'",
    "SELECT * FROM mail_outbox WHERE error = 'quokka'",
    "SELECT * FROM contact WHERE account_id = (SELECT id FROM account WHERE alias = 'acme')",
];

/// Whose id a path takes; the longest beginning counts. An id of the first account, but for what has none of its own.
fn object(path: &str, place: &Place) -> String {
    let account = place.app.account.to_string();
    let objects = [
        ("/directories/{id}", "7"),
        ("/runs/{id}", "7"),
        ("/identities/{id}", "7"),
        ("/groups/{id}", "9"),
        ("/tasks/{id}", "7"),
        ("/tasks/requests/{id}", "7"),
        ("/tasks/rules/{id}", "7"),
        ("/task-requests/{id}", "7"),
        ("/protections/{id}", "7"),
        ("/users/{id}", USER),
        ("/roles/{id}", MARKER),
        ("/apikeys/{id}", KEY),
        ("/api-keys/{id}", KEY),
        ("/invitations/{id}", INVITATION),
        ("/logs/{id}", &place.record),
        ("/accounts/{id}", &account),
        ("/appliance/accounts/{id}", &account),
        ("/profile/sessions/{id}", SESSION),
        ("/profile/mfa/devices/{id}", DEVICE),
        ("/settings/mail/outbox/{id}", MAIL),
    ];
    let path = path.strip_prefix("/api/").map_or_else(|| path.to_owned(), |rest| format!("/{rest}"));
    let found = objects.iter().filter(|(begin, _)| path.starts_with(begin)).max_by_key(|(begin, _)| begin.len());
    let found = found.unwrap_or_else(|| {
        panic!("{path} takes an id of a kind that is not in the fixture: make one in FIXTURE, look at it in ROWS, name it here")
    });
    found.1.to_owned()
}

/// What has to be in the query for a route to be about something. An id in it is the first account's, too.
const QUERIES: &[(&str, &str)] = &[
    ("/tasks/rules/new", "?identity=7"),
    ("/identities/{id}/compare", "?from=2026-03-03T08:00:00Z"),
    ("/groups/{id}/compare", "?from=2026-03-03T08:00:00Z"),
    ("/api/identities/{id}/compare", "?from=2026-03-03T08:00:00Z"),
    ("/api/groups/{id}/compare", "?from=2026-03-03T08:00:00Z"),
];

/// Fields that a form about an object cannot do without: else it is refused before the object is looked for.
const FORMS: &[(&str, &[(&str, &str)])] = &[
    ("/tasks/rules/new", &[("kind", "identity"), ("object", "7")]),
    ("/users/{id}", &[("role", "read-only")]),
    ("/roles/{id}/mfa", &[("mfa", "required")]),
    ("/profile/mfa/devices/{id}", &[("name", "x")]),
    ("/directories/{id}/remove", &[("confirm", "quokka")]),
    ("/directories/{id}/pause", &[("paused", "true")]),
    ("/api-keys/{id}", &[("alias", "x"), ("expires", "keep"), ("role", "read-only")]),
    ("/api-keys/{id}/rotate", &[("overlap", "24"), ("secret", "quok")]),
];

/// The same of the API's bodies; elsewhere an empty object does.
const BODIES: &[(&str, &str)] = &[
    ("/api/runs/{id}/approve", r#"{"reason": "why"}"#),
    ("/api/tasks/{id}/undo", r#"{"reason": "why"}"#),
    ("/api/task-requests/{id}/approve", r#"{"reason": "why"}"#),
    ("/api/task-requests/{id}/decline", r#"{"reason": "why"}"#),
    ("/api/task-requests/{id}/undo", r#"{"reason": "why"}"#),
    ("/api/directories/{id}/runs", r#"{"mode": "full"}"#),
    ("/api/directories/{id}/preview", r#"{"settings": {}}"#),
    ("/api/directories/{id}/rewind", r#"{"toRun": "6"}"#),
];

/// They end the session that asks, which is each user's own right.
const ENDS_THE_SESSION: &[&str] = &["/sign-out", "/profile/sessions/end"];

/// Answers that the rule does not say: who, what, the status, and why it is right. Only shrinks, or grows with a reason.
const OTHERWISE: &[(Fate, &str, &str, u16, &str)] = &[
    (Fate::Lowest, "GET", "/api/accounts/{id}", 200, "whoever is in an account may know its name"),
    (Fate::Part, "GET", "/api/accounts/{id}", 200, "likewise"),
];

/// What becomes of whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Is nobody, or nobody any more.
    Nobody,
    /// Is in the account, with a role that opens nothing.
    Lowest,
    /// Has a role for a part of the account, in which nothing is.
    Part,
    /// May do everything, in another account.
    Other,
}

struct Caller {
    what: &'static str,
    fate: Fate,
    api: Option<Api>,
    browser: Option<(Browser, String)>,
}

struct Place {
    app: TestApp,
    callers: Vec<Caller>,
    /// The id of an audit record of the first account.
    record: String,
}

struct Route {
    method: Method,
    path: String,
    permission: Permission,
    surface: Surface,
    again: Option<Again>,
}

struct Seen {
    status: u16,
    location: String,
    body: String,
}

fn routes(app: &TestApp) -> Vec<Route> {
    let entries = app.app.routes().entries().iter();
    let routes = entries.map(|entry| Route {
        method: Method::from_bytes(entry.method.as_str().as_bytes()).expect("a method"),
        path: entry.path.clone(),
        permission: entry.permission,
        surface: entry.surface,
        again: entry.again,
    });
    routes.collect()
}

async fn session(app: &TestApp, email: &str) -> (Browser, String) {
    let mut browser = app.signed_in_as(email).await;
    let token = browser.token("/profile").await;
    (browser, token)
}

impl Place {
    async fn new() -> Self {
        let app = TestApp::start();
        app.sql(FIXTURE);
        let root = app.api(&app.key(app.account, "full-access"));
        let part = json!({"directories": ["8"]});
        let services = json!({"directories": "read", "enforcement": "operate"});
        for role in [
            json!({"id": "lowest", "name": "Lowest", "services": {"risk": "read"}}),
            json!({"id": "desk", "name": "Desk", "services": services, "scope": part}),
        ] {
            let (status, made) = root.post("/api/roles", &role).await;
            assert_eq!(status, 201, "{made}");
        }
        app.add_user("low@acme.example", "lowest");
        app.add_user("desk@acme.example", "desk");
        let other = app.other_account("other", "root@other.example");
        let closed = app.other_account("closed", "root@closed.example");
        let dead = |what, api| Caller { what, fate: Fate::Nobody, api: Some(api), browser: None };
        let with = |key: String, sql: &'static str| {
            let id = key.split(':').next().expect("an id").to_owned();
            let change = move |c: &rusqlite::Connection| Ok(c.execute(sql, [id])?);
            assert_eq!(super::off(|| app.app.kernel.db.write_blocking(change)).expect("changed"), 1);
            app.api(&key)
        };
        let (low, desk, theirs) =
            (app.key(app.account, "lowest"), app.key(app.account, "desk"), app.key(other.id, "full-access"));
        let user =
            |what, fate, key: &str, browser| Caller { what, fate, api: Some(app.api(key)), browser: Some(browser) };
        let mut callers = vec![
            Caller {
                what: "a stranger",
                fate: Fate::Nobody,
                api: Some(app.api("")),
                browser: Some((app.browser(), String::new())),
            },
            dead(
                "a locked key",
                with(app.key(app.account, "full-access"), "UPDATE api_key SET is_enabled = 0 WHERE id = ?1"),
            ),
            dead(
                "an expired key",
                with(app.key(app.account, "full-access"), "UPDATE api_key SET expires_at = 1 WHERE id = ?1"),
            ),
            dead(
                "a key from a wrong address",
                with(
                    app.key(app.account, "full-access"),
                    "UPDATE api_key SET allowed_ips = '[\"192.0.2.7\"]' WHERE id = ?1",
                ),
            ),
            user("the lowest role", Fate::Lowest, &low, session(&app, "low@acme.example").await),
            user("a scoped role", Fate::Part, &desk, session(&app, "desk@acme.example").await),
            user("another account's administrator", Fate::Other, &theirs, session(&app, "root@other.example").await),
        ];
        callers.push(suspended(&app, &closed).await);
        callers.push(half_way(&app).await);
        callers.push(held(&app).await);
        // A key is no user: pages know none.
        callers.push(dead("a key at a page", app.api(&low)));
        let (_, list) = root.get("/api/logs?limit=1").await;
        let record = list["logs"][0]["id"].as_str().expect("a record").to_owned();
        Self { app, callers, record }
    }

    fn path(&self, route: &Route) -> String {
        let query = QUERIES.iter().find(|(path, _)| *path == route.path && route.method == Method::GET);
        let path = match route.path.contains("{id}") {
            true => route.path.replace("{id}", &object(&route.path, self)),
            false => route.path.clone(),
        };
        format!("{path}{}", query.map_or("", |(_, query)| *query))
    }

    /// The rows of the fixture, as text.
    fn rows(&self) -> Vec<String> {
        let read = self.app.app.kernel.db.read_blocking(|c| {
            let mut seen = Vec::new();
            for sql in ROWS {
                let mut statement = c.prepare(sql)?;
                let columns = statement.column_count();
                let mut rows = statement.query([])?;
                let before = seen.len();
                while let Some(row) = rows.next()? {
                    let values =
                        (0..columns).map(|i| row.get_ref(i)).collect::<rusqlite::Result<Vec<ValueRef<'_>>>>()?;
                    seen.push(format!("{sql}: {values:?}"));
                }
                assert!(seen.len() > before, "{sql} finds nothing: the fixture lacks it");
            }
            Ok(seen)
        });
        read.expect("read")
    }
}

/// Somebody who may do everything and has entered the password alone. They hold a journey, and offer it as a session too.
async fn half_way(app: &TestApp) -> Caller {
    app.add_user("factor@acme.example", "full-access");
    app.enrolled("factor@acme.example").await;
    let mut browser = app.browser();
    browser.half_way("factor@acme.example").await;
    let token = browser.token("/sign-in/factor").await;
    browser.cookies.insert("__Host-bailiwick-session".into(), browser.cookies[super::mfa::JOURNEY].clone());
    Caller { what: "a journey", fate: Fate::Nobody, api: None, browser: Some((browser, token)) }
}

/// Somebody who may do everything, whose session is from before they had a factor.
async fn held(app: &TestApp) -> Caller {
    app.add_user("held@acme.example", "full-access");
    let browser = session(app, "held@acme.example").await;
    app.enrolled("held@acme.example").await;
    Caller { what: "a held session", fate: Fate::Nobody, api: None, browser: Some(browser) }
}

/// The account is suspended after its administrator has signed in.
async fn suspended(app: &TestApp, account: &Account) -> Caller {
    let key = app.key(account.id, "full-access");
    let browser = session(app, "root@closed.example").await;
    assert_eq!(app.api(&key).get("/api/accounts").await.0, 200);
    let path = format!("/appliance/accounts/{}/suspend", account.id);
    assert_eq!(app.signed_in().await.post(&path, &[]).await.status(), 303);
    Caller { what: "a suspended account", fate: Fate::Nobody, api: Some(app.api(&key)), browser: Some(browser) }
}

fn body(route: &Route) -> Value {
    let body = BODIES.iter().find(|(path, _)| *path == route.path).map_or("{}", |(_, body)| *body);
    serde_json::from_str(body).expect("JSON")
}

async fn ask_api(api: &Api, route: &Route, path: &str) -> Seen {
    let mut request = api.http.request(route.method.clone(), format!("{}{path}", api.base));
    if !api.key.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("ApiKey {}", api.key));
    }
    if route.method == Method::POST && route.surface == Surface::Api {
        request = request.json(&body(route));
    }
    seen(request.send().await.expect("answered")).await
}

async fn ask_page(browser: &mut Browser, token: &str, route: &Route, path: &str) -> Seen {
    if route.method == Method::GET {
        return seen(browser.get(path).await).await;
    }
    let mut fields = vec![("csrf", token)];
    fields.extend(FORMS.iter().filter(|(path, _)| *path == route.path).flat_map(|(_, fields)| fields.iter().copied()));
    // Else nobody gets as far as the object. Everywhere else the proof of these sessions is fresh.
    if route.again == Some(Again::EachTime) {
        fields.push(("stepUpPassword", super::PASSWORD));
    }
    seen(browser.post_raw(path, &fields, &[]).await).await
}

async fn seen(answer: reqwest::Response) -> Seen {
    let location = answer.headers().get(header::LOCATION).map(|value| value.to_str().expect("ASCII").to_owned());
    let status = answer.status().as_u16();
    Seen { status, location: location.unwrap_or_default(), body: answer.text().await.expect("a body") }
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Status(u16),
    /// Sent to the sign-in page.
    SignIn,
    /// Let in, and shown nothing of the fixture.
    Nothing,
}

/// What the rule says.
fn expected(fate: Fate, route: &Route, names_ours: bool) -> Expected {
    let nothing = if names_ours { Expected::Status(404) } else { Expected::Nothing };
    let rights = match fate {
        Fate::Nobody if route.surface == Surface::Api => return Expected::Status(401),
        Fate::Nobody => return Expected::SignIn,
        Fate::Lowest => Rights::default().with(Service::Risk, Level::Read),
        Fate::Part => {
            Rights::default().with(Service::Directories, Level::Read).with(Service::Enforcement, Level::Operate)
        }
        Fate::Other => Service::ALL.into_iter().fold(Rights::default(), |all, one| all.with(one, Level::Full)),
    };
    let may = match route.permission {
        Permission::Public | Permission::SignedIn | Permission::OwnUser => true,
        Permission::Owner => false,
        Permission::Needs(service, level) => fate != Fate::Part && rights.allows(service, level),
        Permission::InPart(service, level) => rights.allows(service, level),
        Permission::Everything => fate == Fate::Other,
    };
    if may { nothing } else { Expected::Status(403) }
}

fn is_as(seen: &Seen, expected: &Expected, route: &Route) -> bool {
    match expected {
        Expected::Status(status) => seen.status == *status,
        Expected::SignIn => seen.status == 303 && seen.location.starts_with("/sign-in"),
        Expected::Nothing if route.method == Method::GET => seen.status == 200,
        Expected::Nothing => seen.status < 500 && ![401, 403].contains(&seen.status),
    }
}

#[tokio::test]
async fn every_route_refuses_everybody_who_must_not_get_through() {
    let mut place = Place::new().await;
    let before = place.rows();
    let mut callers = std::mem::take(&mut place.callers);
    let (mut wrong, mut used, mut asked) = (Vec::new(), BTreeSet::new(), 0);
    let of_account = place.app.account.to_string();
    for route in routes(&place.app).iter().filter(|route| route.permission != Permission::Public) {
        let path = place.path(route);
        let names_ours = route.path.contains("{id}") || QUERIES.iter().any(|(known, _)| *known == route.path);
        for caller in &mut callers {
            let seen = match (route.surface, &mut caller.browser, &caller.api) {
                (Surface::Page, Some(_), _) if caller.fate != Fate::Nobody && ends_the_session(route) => continue,
                (Surface::Page, Some((browser, token)), _) => ask_page(browser, token, route, &path).await,
                (Surface::Page, None, Some(api)) => ask_api(api, route, &path).await,
                // Alive, at the API: that is the caller with the lowest role.
                (Surface::Api, _, Some(_)) if caller.what == "a key at a page" => continue,
                (_, _, Some(api)) => ask_api(api, route, &path).await,
                (_, _, None) => continue,
            };
            asked += 1;
            let rule = expected(caller.fate, route, names_ours);
            let known = OTHERWISE
                .iter()
                .find(|one| (one.0, one.1, one.2) == (caller.fate, route.method.as_str(), route.path.as_str()));
            let expected = known.map_or(rule, |(_, _, _, status, _)| Expected::Status(*status));
            if known.is_some() {
                used.insert((caller.fate, route.method.to_string(), route.path.clone()));
            }
            let name = format!("{} {path} by {}", route.method, caller.what);
            if !is_as(&seen, &expected, route) {
                wrong.push(format!("{name} answered {} {} and not {expected:?}", seen.status, seen.location));
            }
            let shows = seen.body.contains(MARKER) || (caller.fate == Fate::Other && seen.body.contains(&of_account));
            // Role and account ids are in the address that was asked for, and an error may say it again.
            if shows && (seen.status == 200 || !path.contains(MARKER)) && known.is_none() {
                wrong.push(format!("{name} shows something of another's ({})", seen.status));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} answers of {asked} are not what permission and caller say.\nIf a route about an object answers 400 or 422, it needs \
         fields in FORMS, BODIES or QUERIES.\n  {}",
        wrong.len(),
        wrong.join("\n  ")
    );
    for (fate, method, path, status, _) in OTHERWISE {
        let route =
            routes(&place.app).into_iter().find(|route| (route.method.as_str(), route.path.as_str()) == (method, path));
        let route = route.unwrap_or_else(|| panic!("{method} {path} is no route: take it off OTHERWISE"));
        assert!(used.contains(&(*fate, (*method).to_owned(), (*path).to_owned())), "{method} {path} was not asked");
        let rule = expected(*fate, &route, path.contains("{id}"));
        assert_ne!(rule, Expected::Status(*status), "{method} {path} is what the rule says: take it off OTHERWISE");
    }
    assert!(asked > 1_500, "{asked}");
    assert_eq!(place.rows(), before, "nothing of it was changed");
    place.app.assert_audit_verifies();
}

fn ends_the_session(route: &Route) -> bool {
    ENDS_THE_SESSION.contains(&route.path.as_str())
}

#[tokio::test]
async fn what_the_fixture_holds_is_really_there_for_whoever_may_see_it() {
    let place = Place::new().await;
    let api = place.app.api(&place.app.key(place.app.account, "full-access"));
    let (mut browser, token) = session(&place.app, super::EMAIL).await;
    let mut wrong = Vec::new();
    // What is each user's own nobody else may see, whatever their role.
    let is_shared = |route: &&Route| route.permission != Permission::OwnUser && route.path.contains("{id}");
    for route in routes(&place.app).iter().filter(is_shared).filter(|route| route.method == Method::GET) {
        let path = place.path(route);
        let seen = match route.surface {
            Surface::Api => ask_api(&api, route, &path).await,
            _ => ask_page(&mut browser, &token, route, &path).await,
        };
        // A time before the copy was made is answered with when it was made: it is there, and has no past yet.
        let is_past = route.path.ends_with("/compare") && seen.status == 400;
        // What is somebody's own is nobody's else, whatever they may do.
        let is_theirs = route.path.starts_with("/profile/") && seen.status == 404;
        // Without a script the page of the run itself is the way to see how it goes on.
        let is_led = route.path.ends_with("/progress") && seen.status == 303 && seen.location == "/runs/7";
        if seen.status != 200 && !is_past && !is_led && !is_theirs {
            wrong.push(format!("GET {path} answered {}", seen.status));
        }
    }
    assert!(wrong.is_empty(), "an object that is not there proves nothing:\n  {}", wrong.join("\n  "));
    // What is on these lists is about routes that there are, and is needed.
    let known: BTreeSet<String> = routes(&place.app).into_iter().map(|route| route.path).collect();
    let listed = QUERIES.iter().map(|(path, _)| *path).chain(FORMS.iter().map(|(path, _)| *path));
    for path in listed.chain(BODIES.iter().map(|(path, _)| *path)).chain(ENDS_THE_SESSION.iter().copied()) {
        assert!(known.contains(path), "{path} is no route any more: take it off");
    }
    for path in ENDS_THE_SESSION {
        let (mut browser, token) = session(&place.app, "low@acme.example").await;
        browser.post_raw(path, &[("csrf", &token)], &[]).await;
        assert_eq!(browser.get("/profile").await.status(), 303, "{path} does not end the session: take it off");
    }
    let real = |path: &str| match path.contains("{id}") {
        true => path.replace("{id}", &object(path, &place)),
        false => path.to_owned(),
    };
    let (mut browser, token) = session(&place.app, "root@other.example").await;
    let mut needless = Vec::new();
    for (path, _) in FORMS {
        if browser.post_raw(&real(path), &[("csrf", &token)], &[]).await.status() == 404 {
            needless.push(path);
        }
    }
    let theirs = place.app.api(&place.app.key(other(&place.app), "full-access"));
    for (path, _) in BODIES {
        if theirs.post(&real(path), &json!({})).await.0 == 404 {
            needless.push(path);
        }
    }
    assert!(needless.is_empty(), "they are refused without any field: take them off FORMS and BODIES: {needless:?}");
}

fn other(app: &TestApp) -> AccountId {
    AccountId::new(app.count("SELECT id FROM account WHERE alias = 'other'")).expect("an id")
}
