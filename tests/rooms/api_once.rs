//! `Idempotency-Key`: a POST is carried out once, whatever happens in between.

use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};

use super::{Api, TestApp};

const KEY: &str = "idempotency-key";

async fn post(api: &Api, path: &str, key: &str, body: &Value) -> Response {
    let request = api.http.post(format!("{}{path}", api.base)).header(KEY, key).json(body);
    let request = request.header(header::AUTHORIZATION, format!("ApiKey {}", api.key));
    request.send().await.expect("answered")
}

fn is_replayed(answer: &Response) -> bool {
    answer.headers().get("idempotent-replayed").is_some_and(|value| value == "true")
}

fn protection(dn: &str) -> Value {
    json!({"alias": dn, "roleId": "read-only"})
}

async fn full(app: &TestApp) -> Api {
    app.api(&app.key(app.account, "full-access"))
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_changes_nothing() {
    let app = TestApp::start();
    let api = full(&app).await;
    let first = post(&api, "/api/apikeys", "one", &protection("robot")).await;
    assert_eq!(first.status(), StatusCode::CREATED);
    assert!(!is_replayed(&first));
    let kind = first.headers()[header::CONTENT_TYPE].clone();
    let first = first.text().await.expect("a body");
    assert!(first.contains("bwk_"), "the secret is shown");
    for _ in 0..3 {
        let again = post(&api, "/api/apikeys", "one", &protection("robot")).await;
        assert_eq!(again.status(), StatusCode::CREATED);
        assert!(is_replayed(&again));
        assert_eq!(again.headers()[header::CONTENT_TYPE], kind);
        assert_eq!(again.text().await.expect("a body"), first);
    }
    assert_eq!(app.count("SELECT count(*) FROM api_key"), 2);
    assert_eq!(app.audited("audit.api_key_created.v1").len(), 2);
    // Quotes, as the draft writes them, name the same key.
    assert!(is_replayed(&post(&api, "/api/apikeys", "\"one\"", &protection("robot")).await));
    app.assert_audit_verifies();
}

#[tokio::test]
async fn an_answer_outlives_a_restart_and_is_forgotten_after_a_day() {
    let mut app = TestApp::start();
    let key = app.key(app.account, "full-access");
    let first = post(&app.api(&key), "/api/apikeys", "one", &protection("robot")).await.text().await.expect("a body");
    app = app.restart();
    let api = app.api(&key);
    app.forward(24 * 3600 * 1_000_000 - 1);
    let again = post(&api, "/api/apikeys", "one", &protection("robot")).await;
    assert!(is_replayed(&again));
    assert_eq!(again.text().await.expect("a body"), first);
    app.forward(1);
    let anew = post(&api, "/api/apikeys", "one", &protection("robot")).await;
    assert_eq!(anew.status(), StatusCode::UNPROCESSABLE_ENTITY, "carried out, and the alias is taken");
    assert!(!is_replayed(&anew));
}

#[tokio::test]
async fn the_database_holds_neither_the_answer_nor_the_request_in_clear() {
    let app = TestApp::start();
    let api = full(&app).await;
    let made: Value = post(&api, "/api/apikeys", "one", &protection("robot")).await.json().await.expect("JSON");
    let secret = made["secret"].as_str().expect("a secret");
    let dir = app.dir.as_ref().expect("a folder").path();
    for entry in std::fs::read_dir(dir).expect("a folder").flatten().filter(|entry| entry.path().is_file()) {
        let bytes = std::fs::read(entry.path()).expect("a file");
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "the secret stands in {}", entry.path().display());
    }
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_principal() {
    let app = TestApp::start();
    let (api, other) = (full(&app).await, full(&app).await);
    assert_eq!(post(&api, "/api/apikeys", "one", &protection("robot")).await.status(), 201);
    let with_body = post(&api, "/api/apikeys", "one", &protection("other")).await;
    assert_eq!(with_body.status(), 422);
    let told: Value = with_body.json().await.expect("JSON");
    assert!(told["fields"]["Idempotency-Key"].as_str().is_some_and(|text| text.contains("another request")), "{told}");
    assert_eq!(post(&api, "/api/protections", "one", &protection("robot")).await.status(), 422);
    // Of somebody else it is another key, and of another account too.
    assert_eq!(post(&other, "/api/apikeys", "one", &protection("other")).await.status(), 201);
    let stranger = app.other_account("other", "root@other.example");
    let theirs = app.api(&app.key(stranger.id, "full-access"));
    assert_eq!(post(&theirs, "/api/apikeys", "one", &protection("robot")).await.status(), 201);
}

#[tokio::test]
async fn what_was_refused_is_kept_and_what_was_not_tried_is_not() {
    let app = TestApp::start();
    let api = full(&app).await;
    let wrong = json!({"alias": "", "roleId": "read-only"});
    let first = post(&api, "/api/apikeys", "wrong", &wrong).await;
    assert_eq!(first.status(), 422);
    let first: Value = first.json().await.expect("JSON");
    let again = post(&api, "/api/apikeys", "wrong", &wrong).await;
    assert!(is_replayed(&again));
    assert_eq!((again.status().as_u16(), again.json::<Value>().await.expect("JSON")), (422, first));
    // 403 is not kept: with another role the same request is carried out.
    let reader = app.api(&app.key(app.account, "read-only"));
    assert_eq!(post(&reader, "/api/apikeys", "mine", &protection("x")).await.status(), 403);
    app.sql("UPDATE api_key SET role_id = 'full-access', administers = 'always'");
    let done = post(&reader, "/api/apikeys", "mine", &protection("x")).await;
    assert_eq!(done.status(), 201);
    assert!(!is_replayed(&done));
}

#[tokio::test]
async fn hundred_at_once_are_carried_out_once() {
    let app = TestApp::start();
    let api = full(&app).await;
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move {
                let answer = post(&api, "/api/apikeys", "one", &protection("robot")).await;
                (answer.status().as_u16(), answer.headers().contains_key(header::RETRY_AFTER))
            })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        match task.await.expect("ended") {
            (201, _) => made += 1,
            (409, true) => {}
            other => panic!("answered {other:?}"),
        }
    }
    assert!(made >= 1);
    assert_eq!(app.count("SELECT count(*) FROM api_key"), 2);
}

#[tokio::test]
async fn a_request_that_was_cut_off_is_repeated_after_a_minute_unless_it_changed_something() {
    let app = TestApp::start();
    let api = full(&app).await;
    assert_eq!(post(&api, "/api/apikeys", "one", &protection("robot")).await.status(), 201);
    // As a process leaves it that was killed between the reservation and the change.
    app.sql("UPDATE idempotency_key SET answer = NULL, answer_bytes = 0, has_changed = 0; DELETE FROM api_key WHERE alias = 'robot'");
    let early = post(&api, "/api/apikeys", "one", &protection("robot")).await;
    assert_eq!(early.status(), 409);
    assert_eq!(early.headers()[header::RETRY_AFTER], "61");
    app.forward(60 * 1_000_000);
    let late = post(&api, "/api/apikeys", "one", &protection("robot")).await;
    assert_eq!(late.status(), 201);
    assert!(!is_replayed(&late));
    // Between the change and the answer.
    assert_eq!(app.count("SELECT has_changed FROM idempotency_key"), 1);
    app.sql("UPDATE idempotency_key SET answer = NULL, answer_bytes = 0");
    app.forward(120 * 1_000_000);
    for _ in 0..2 {
        let lost = post(&api, "/api/apikeys", "one", &protection("robot")).await;
        assert_eq!(lost.status(), 409);
        assert!(
            lost.json::<Value>().await.expect("JSON")["message"].as_str().expect("text").contains("not done twice")
        );
    }
    assert_eq!(app.count("SELECT count(*) FROM api_key WHERE alias = 'robot'"), 1);
}

#[tokio::test]
async fn what_is_no_key_is_refused_and_on_other_methods_it_means_nothing() {
    let app = TestApp::start();
    let api = full(&app).await;
    for bad in ["", "a b", &"k".repeat(256), "\"\""] {
        assert_eq!(post(&api, "/api/apikeys", bad, &protection("robot")).await.status(), 400, "{bad:?}");
    }
    let request = api.http.get(format!("{}/api/apikeys", api.base)).header(KEY, "a b");
    let request = request.header(header::AUTHORIZATION, format!("ApiKey {}", api.key));
    assert_eq!(request.send().await.expect("answered").status(), 200);
    assert_eq!(app.count("SELECT count(*) FROM idempotency_key"), 0);
}

#[tokio::test]
async fn every_post_of_the_api_takes_a_key() {
    let app = TestApp::start();
    let api = full(&app).await;
    let mut checked = 0;
    for entry in app.app.routes().entries() {
        if entry.surface != bailiwick::web::Surface::Api || entry.method != "POST" {
            continue;
        }
        let path = entry.path.replace("{id}", "999999999999");
        let key = format!("k{checked}");
        let first = post(&api, &path, &key, &json!({"nonsense": 1})).await;
        assert!(first.status().is_client_error(), "{path}: {}", first.status());
        let first = (first.status(), first.text().await.expect("a body"));
        let again = post(&api, &path, &key, &json!({"nonsense": 1})).await;
        assert!(is_replayed(&again), "{path}");
        assert_eq!((again.status(), again.text().await.expect("a body")), first, "{path}");
        checked += 1;
    }
    assert!(checked >= 15, "only {checked} operations");
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let app = TestApp::start();
    let api = full(&app).await;
    let urn = format!("urn:bailiwick:identity:default:{}:api-key/{}", app.account, api.key.split(':').next().unwrap());
    // Answers of 32 MiB in all of our own, and one of somebody else.
    let kernel = &app.app.kernel;
    let now = kernel.clock.now();
    kernel
        .db
        .write(move |c| {
            let mut insert = c.prepare(
                "INSERT INTO idempotency_key (id, principal, request, created_at, began_at, answer, answer_bytes)
                 VALUES (randomblob(32), ?1, randomblob(32), ?2, ?2, x'00', 32768)",
            )?;
            for _ in 0..1_024 {
                insert.execute(rusqlite::params![urn, now])?;
            }
            insert.execute(rusqlite::params!["somebody else", now])?;
            Ok(())
        })
        .await
        .expect("written");
    assert_eq!(post(&api, "/api/apikeys", "one", &protection("robot")).await.status(), 201);
    // A quarter of the answers is forgotten, but not that those requests were carried out.
    let answered = "SELECT count(*) FROM idempotency_key WHERE answer IS NOT NULL AND principal";
    assert_eq!(app.count(&format!("{answered} <> 'somebody else'")), 1_024 - 257 + 1);
    assert_eq!(app.count(&format!("{answered} = 'somebody else'")), 1);
    assert_eq!(app.count("SELECT count(*) FROM idempotency_key"), 1_026);
    assert!(
        post(&api, "/api/apikeys", "one", &protection("robot")).await.headers().contains_key("idempotent-replayed")
    );
    app.forward(24 * 3600 * 1_000_000);
    let now = app.app.kernel.clock.now();
    let mut purged = 0;
    while app.count("SELECT count(*) FROM idempotency_key") > 0 {
        purged += app.app.kernel.db.write(move |c| bailiwick::web::purge_answers(c, now)).await.expect("purged");
    }
    assert_eq!(purged, 1_026);
}
