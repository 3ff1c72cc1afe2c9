//! API keys through both doors: what is shown once, when a key stops working, and what nobody can grant.

use std::time::{Duration, Instant};

use bailiwick::clock::DAY;
use reqwest::Method;
use serde_json::{Value, json};

use super::{TestApp, attribute, text};

async fn create(app: &TestApp, key: &str, body: Value) -> (u16, Value) {
    app.api(key).post("/api/apikeys", &body).await
}

#[tokio::test]
async fn a_secret_is_shown_once_and_stored_nowhere() {
    let app = TestApp::start();
    let root = app.key(app.account, "full-access");
    let (status, made) = create(&app, &root, json!({"alias": "ticket-bot", "roleId": "read-only"})).await;
    assert_eq!(status, 201, "{made}");
    let (id, secret) = (made["id"].as_str().expect("an id"), made["secret"].as_str().expect("a secret"));
    assert!(secret.starts_with("bwk_") && secret.len() == 47, "{secret}");
    assert_eq!(made["expiresAt"], "2027-03-03T09:00:00Z", "a year unless said otherwise");
    for field in ["alias", "description", "roleId", "allowedIPs", "allowedCIDRs", "enabled", "lastActivity"] {
        assert!(made.get(field).is_some(), "{field}");
    }
    assert_eq!(app.api(&format!("{id}:{secret}")).get("/api/accounts").await.0, 200);
    for path in [format!("/api/apikeys/{id}"), "/api/apikeys".into(), "/api/logs?limit=500".into()] {
        let (_, body) = app.api(&root).get(&path).await;
        assert!(!body.to_string().contains(secret), "{path}");
    }
    let dir = app.app.kernel.config.data_dir.clone();
    for file in std::fs::read_dir(dir).expect("a folder") {
        let path = file.expect("a file").path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{}", path.display());
    }
    let records = app.audited("audit.api_key_created.v1");
    assert_eq!(records.last().expect("a record")["changes"]["roleId"]["after"], "read-only");
}

#[tokio::test]
async fn a_key_works_only_in_the_header_and_only_as_a_whole() {
    let app = TestApp::start();
    let key = app.key(app.account, "full-access");
    let (id, secret) = key.split_once(':').expect("id:secret");
    for path in [format!("/api/accounts?api_key={key}"), format!("/api/accounts?key={key}&apikey={key}")] {
        assert_eq!(app.api("").get(&path).await.0, 401, "{path}");
    }
    let mut flipped = secret.to_owned();
    let last = flipped.pop().expect("a character");
    flipped.push(if last == 'A' { 'B' } else { 'A' });
    for wrong in [
        format!("{id}:{flipped}"),
        format!("{id}:{}", &secret[..secret.len() - 1]),
        format!("{id}:{secret}x"),
        format!("{id}:"),
        format!(":{secret}"),
        secret.to_owned(),
        format!("{id}:{}", secret.to_lowercase()),
        format!("%:{secret}"),
        format!("{id}' OR '1'='1:{secret}"),
    ] {
        assert_eq!(app.api(&wrong).get("/api/accounts").await.0, 401, "{wrong}");
    }
    let http = app.browser().http;
    for value in [format!("Bearer {key}"), format!("Basic {key}"), key.clone()] {
        let answer = http.get(format!("{}/api/accounts", app.base)).header("authorization", value).send().await;
        let answer = answer.expect("answered");
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()["www-authenticate"], "ApiKey");
    }
    // Two of them: which one counts would be a guess.
    let twice = http.get(format!("{}/api/accounts", app.base));
    let twice = twice.header("authorization", format!("ApiKey {key}")).header("authorization", format!("ApiKey {key}"));
    assert_eq!(twice.send().await.expect("answered").status(), 401);
}

#[tokio::test]
async fn lock_out_expiry_removal_and_suspension_hold_with_the_next_request() {
    let app = TestApp::start();
    let root = app.key(app.account, "full-access");
    let api = app.api(&root);
    let (_, made) = create(&app, &root, json!({"alias": "bot", "roleId": "read-only"})).await;
    let id = made["id"].as_str().expect("an id").to_owned();
    let bot = app.api(&format!("{id}:{}", made["secret"].as_str().expect("a secret")));
    assert_eq!(bot.get("/api/accounts").await.0, 200);
    let path = format!("/api/apikeys/{id}");
    assert_eq!(api.post(&path, &json!({"enabled": false})).await.0, 200);
    assert_eq!(bot.get("/api/accounts").await.0, 401);
    assert_eq!(api.post(&path, &json!({"enabled": true})).await.0, 200);
    assert_eq!(bot.get("/api/accounts").await.0, 200);
    assert_eq!(api.post(&path, &json!({"expiresAt": "2026-03-04T09:00:00Z"})).await.0, 200);
    app.forward(DAY - 1);
    assert_eq!(bot.get("/api/accounts").await.0, 200);
    app.forward(1);
    assert_eq!(bot.get("/api/accounts").await.0, 401);
    assert_eq!(api.post(&path, &json!({"expiresAt": "2026-03-05T09:00:00Z"})).await.0, 200);
    app.sql("UPDATE account SET state = 'suspended', suspended_at = 0");
    assert_eq!(bot.get("/api/accounts").await.0, 401);
    app.sql("UPDATE account SET state = 'active', suspended_at = NULL");
    assert_eq!(bot.get("/api/accounts").await.0, 200);
    let reasons: Vec<_> = app.audited("audit.api_key_refused.v1").iter().map(|r| r["reason"].clone()).collect();
    assert_eq!(reasons, ["the key is locked out", "the key has expired", "the account is suspended"]);
    assert_eq!(api.send(Method::DELETE, &path, None).await.0, 204);
    assert_eq!(bot.get("/api/accounts").await.0, 401);
    assert_eq!(api.send(Method::DELETE, &path, None).await.0, 404);
    for kind in ["locked_out", "unlocked", "updated", "removed"] {
        assert!(!app.audited(&format!("audit.api_key_{kind}.v1")).is_empty(), "{kind}");
    }
}

#[tokio::test]
async fn a_key_works_only_from_its_addresses() {
    let app = TestApp::start();
    let root = app.key(app.account, "full-access");
    for (ips, cidrs, from, expected) in [
        (json!([]), json!([]), [127, 0, 0, 1], 200),
        (json!(["127.0.0.1"]), json!([]), [127, 0, 0, 1], 200),
        (json!(["::ffff:127.0.0.1"]), json!([]), [127, 0, 0, 1], 200),
        (json!(["127.0.0.2"]), json!([]), [127, 0, 0, 1], 401),
        (json!([]), json!(["127.0.3.0/24"]), [127, 0, 3, 9], 200),
        (json!([]), json!(["127.0.3.0/24"]), [127, 0, 4, 9], 401),
        (json!(["10.0.0.1"]), json!(["127.0.3.77/24"]), [127, 0, 3, 1], 200),
    ] {
        let alias = format!("{ips}{cidrs}{from:?}").replace(':', ".");
        let body = json!({"alias": alias, "roleId": "read-only", "allowedIPs": ips, "allowedCIDRs": cidrs});
        let (status, made) = create(&app, &root, body).await;
        assert_eq!(status, 201, "{made}");
        let key = format!("{}:{}", made["id"].as_str().expect("id"), made["secret"].as_str().expect("secret"));
        let http = app.browser_from(from).http;
        let request = http.get(format!("{}/api/accounts", app.base)).header("authorization", format!("ApiKey {key}"));
        // Nobody is believed about where they come from.
        let answer = request.header("x-forwarded-for", "127.0.0.2").send().await.expect("answered");
        assert_eq!(answer.status(), expected, "{made} from {from:?}");
    }
}

#[tokio::test]
async fn nobody_grants_more_than_they_hold() {
    let app = TestApp::start();
    let root = app.key(app.account, "full-access");
    let other = create(&app, &root, json!({"alias": "strong", "roleId": "full-access"})).await.1;
    let strong = format!("/api/apikeys/{}", other["id"].as_str().expect("an id"));
    // No predefined role may handle keys without being full-access: make one that is a little weaker.
    for role in ["read-only", "auditor", "operator"] {
        let weak = app.key(app.account, role);
        for body in [json!({"alias": "x", "roleId": "full-access"}), json!({"alias": "x", "roleId": role})] {
            assert_eq!(create(&app, &weak, body).await.0, 403, "{role}");
        }
        let own = format!("/api/apikeys/{}", weak.split(':').next().expect("an id"));
        for path in [&own, &strong] {
            for body in [json!({"roleId": "full-access"}), json!({"expiresAt": null}), json!({"allowedIPs": []})] {
                assert_eq!(app.api(&weak).post(path, &body).await.0, 403, "{role} {body}");
            }
        }
    }
    // A key cannot become a user: profile, sessions and sign-out ask for one.
    for path in ["/profile", "/profile/password", "/sign-out", "/profile/sessions/end"] {
        assert_eq!(app.api(&root).post(path, &json!({})).await.0, 303, "{path}");
    }
    assert_eq!(app.count("SELECT count(*) FROM session"), 0);
}

#[tokio::test]
async fn a_wrong_field_is_named() {
    let app = TestApp::start();
    let root = app.key(app.account, "full-access");
    let good = json!({"alias": "good", "roleId": "read-only"});
    assert_eq!(create(&app, &root, good.clone()).await.0, 201);
    let with = |name: &str, value: Value| {
        let mut body = json!({"alias": "other", "roleId": "read-only"});
        body[name] = value;
        body
    };
    for (body, field) in [
        (good, "alias"),
        (json!({"roleId": "read-only"}), "alias"),
        (json!({"alias": "a"}), "roleId"),
        (with("alias", json!("")), "alias"),
        (with("alias", json!("x".repeat(65))), "alias"),
        (with("alias", json!("a\nb")), "alias"),
        (with("alias", json!(7)), "alias"),
        (with("roleId", json!("owner")), "roleId"),
        (with("roleId", json!(["full-access"])), "roleId"),
        (with("allowedIPs", json!(["10.0.0.0/8"])), "allowedIPs"),
        (with("allowedIPs", json!("10.0.0.1")), "allowedIPs"),
        (with("allowedIPs", json!(vec!["10.0.0.1"; 65])), "allowedIPs"),
        (with("allowedCIDRs", json!(["10.0.0.0/33"])), "allowedCIDRs"),
        (with("allowedCIDRs", json!(["0.0.0.0.0/0"])), "allowedCIDRs"),
        (with("expiresAt", json!("tomorrow")), "expiresAt"),
        (with("expiresAt", json!("2026-03-03T09:00:00Z")), "expiresAt"),
        (with("expiresAt", json!("9999-01-01T00:00:00Z")), "expiresAt"),
        (with("enabled", json!("yes")), "enabled"),
        (with("description", json!("x".repeat(501))), "description"),
        (with("id", json!("mine")), "id"),
        (with("accountId", json!("100000000001")), "accountId"),
        (with("secret", json!("bwk_mine")), "secret"),
        (with("secretHash", json!("x")), "secretHash"),
    ] {
        let (status, answer) = create(&app, &root, body.clone()).await;
        assert_eq!(status, 422, "{body}: {answer}");
        assert!(answer["fields"].get(field).is_some(), "{body}: {answer}");
    }
    assert_eq!(app.count("SELECT count(*) FROM api_key"), 2);
}

#[tokio::test]
async fn lists_come_in_pages_that_stay_correct() {
    let app = TestApp::start();
    let root = app.key(app.account, "full-access");
    for i in 0..7 {
        create(&app, &root, json!({"alias": format!("bot-{i}"), "roleId": "read-only"})).await;
    }
    let api = app.api(&root);
    let (_, first) = api.get("/api/apikeys?limit=3").await;
    let next = first["next"].as_str().expect("a cursor");
    create(&app, &root, json!({"alias": "late", "roleId": "read-only"})).await;
    let (_, second) = api.get(&format!("/api/apikeys?limit=3&cursor={next}")).await;
    let names = |page: &Value| -> Vec<String> {
        page["apikeys"].as_array().expect("keys").iter().map(|k| k["alias"].as_str().expect("alias").into()).collect()
    };
    assert_eq!([names(&first), names(&second)].concat(), ["bot-6", "bot-5", "bot-4", "bot-3", "bot-2", "bot-1"]);
    let next = second["next"].as_str().expect("a cursor");
    let (_, last) = api.get(&format!("/api/apikeys?limit=3&cursor={next}")).await;
    assert_eq!(names(&last), ["bot-0", "full-access-0"]);
    assert!(last.get("next").is_none());
    for (query, expected) in
        [("limit=-1", 400), ("limit=501", 400), ("limit=0", 200), ("limit=x", 400), ("cursor=%21", 400)]
    {
        assert_eq!(api.get(&format!("/api/apikeys?{query}")).await.0, expected, "{query}");
    }
}

#[tokio::test]
async fn the_last_use_is_noted_and_a_flood_of_refusals_is_not_a_flood_of_records() {
    let app = TestApp::start();
    let root = app.key(app.account, "full-access");
    let id = root.split(':').next().expect("an id").to_owned();
    app.api(&root).get("/api/accounts").await;
    let begun = Instant::now();
    loop {
        let (_, key) = app.api(&root).get(&format!("/api/apikeys/{id}")).await;
        if key["lastActivity"] == super::START {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{key}");
        tokio::task::yield_now().await;
    }
    let wrong = app.api(&format!("{id}:bwk_{}", "A".repeat(43)));
    for _ in 0..50 {
        assert_eq!(wrong.get("/api/accounts").await.0, 401);
    }
    assert_eq!(app.audited("audit.api_key_refused.v1").len(), 1);
    app.forward(bailiwick::clock::MINUTE);
    wrong.get("/api/accounts").await;
    let records = app.audited("audit.api_key_refused.v1");
    assert_eq!((records.len(), &records[1]["alsoRefusedBefore"]), (2, &json!(49)));
}

#[tokio::test]
async fn the_console_does_what_the_api_does() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    assert_eq!(text(&browser.page("/api-keys").await, ".empty h2"), "No API keys yet");
    let fields = [
        ("alias", "ticket-bot"),
        ("description", "for <b>tickets</b>"),
        ("role", "read-only"),
        ("allowed", "127.0.0.1\r\n10.20.0.0/16"),
        ("expires", "90"),
    ];
    let answer = browser.post("/api-keys", &fields).await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["cache-control"].to_str().expect("ASCII")),
        (200, "no-store")
    );
    let page = answer.text().await.expect("a page");
    let key = text(&page, "#secret");
    let (_, own) = app.api(&key).get("/api/apikeys").await;
    let own = &own["apikeys"][0];
    assert_eq!(own["allowedCIDRs"], json!(["10.20.0.0/16"]));
    assert_eq!(own["expiresAt"], "2026-06-01T09:00:00Z");
    let id = own["id"].as_str().expect("an id");
    let page = browser.page(&format!("/api-keys/{id}")).await;
    assert_eq!(attribute(&page, "#description", "value").as_deref(), Some("for <b>tickets</b>"));
    assert_eq!(text(&page, "#allowed"), "127.0.0.1\n10.20.0.0/16");
    // A wrong field comes back with what was entered and what is wrong.
    let fields = [("alias", ""), ("role", "read-only"), ("allowed", "nonsense"), ("expires", "keep")];
    let answer = browser.post(&format!("/api-keys/{id}"), &fields).await;
    assert_eq!(answer.status(), 422);
    let page = answer.text().await.expect("a page");
    assert!(!text(&page, "#alias-error").is_empty() && !text(&page, "#allowed-error").is_empty(), "{page}");
    let fields = [("alias", "renamed"), ("role", "auditor"), ("allowed", ""), ("expires", "keep")];
    assert_eq!(browser.post(&format!("/api-keys/{id}"), &fields).await.status(), 303);
    assert_eq!(text(&browser.page("/api-keys").await, "tbody th a"), "renamed");
    assert_eq!(browser.post(&format!("/api-keys/{id}/lock-out"), &[]).await.status(), 303);
    assert_eq!(app.api(&key).get("/api/accounts").await.0, 401);
    assert_eq!(browser.post(&format!("/api-keys/{id}/unlock"), &[]).await.status(), 303);
    assert_eq!(app.api(&key).get("/api/accounts").await.0, 200);
    assert_eq!(browser.post(&format!("/api-keys/{id}/remove"), &[]).await.status(), 303);
    assert_eq!(app.api(&key).get("/api/accounts").await.0, 401);
    let page = browser.page("/api-keys").await;
    assert!(text(&page, ".notice").contains("removed"), "{page}");
    assert!(text(&browser.page("/api-keys").await, ".notice").is_empty(), "shown once");
}
