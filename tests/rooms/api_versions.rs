//! What every operation of the API keeps to: entity tags and `If-Match`, nothing unknown in body or query, JSON only.

use std::collections::BTreeSet;

use reqwest::{Method, RequestBuilder, Response, header};
use serde_json::{Value, json};

use super::{Api, TestApp};

fn asking(api: &Api, method: Method, path: &str) -> RequestBuilder {
    let request = api.http.request(method, format!("{}{path}", api.base));
    request.header(header::AUTHORIZATION, format!("ApiKey {}", api.key))
}

async fn tag(api: &Api, path: &str) -> String {
    let answer = asking(api, Method::GET, path).send().await.expect("answered");
    assert_eq!(answer.status(), 200, "{path}");
    answer.headers()[header::ETAG].to_str().expect("ASCII").to_owned()
}

async fn change(api: &Api, path: &str, tags: &str, body: &Value) -> Response {
    asking(api, Method::POST, path).header(header::IF_MATCH, tags).json(body).send().await.expect("answered")
}

async fn document(app: &TestApp) -> Value {
    app.api("").get("/api/openapi.json").await.1
}

/// Method, path and operation of everything in the document.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let all = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods");
        methods.iter().map(|(method, operation)| (method.clone(), path.clone(), operation.clone()))
    });
    all.collect()
}

/// An account with one of most things: the ids of what `GET /api/<collection>` lists first.
async fn filled() -> (TestApp, Api) {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "full-access"));
    let draft = json!({"kind": "openldap", "name": "Main",
        "settings": {"servers": ["ldap://127.0.0.1:1"], "acceptPlaintext": true, "baseDns": ["dc=x"]},
        "credentials": {"read": {"bindDn": "cn=x", "password": "x"}}, "schedule": {"paused": true}});
    let (status, made) = api.post("/api/directories", &draft).await;
    assert_eq!(status, 201, "{made}");
    let (status, run) = api.post("/api/directories/1/runs", &json!({"mode": "full"})).await;
    assert_eq!(status, 202, "{run}");
    let path = format!("/api/runs/{}", run["id"].as_str().expect("an id"));
    while api.get(&path).await.1["state"] != "failed" {
        tokio::task::yield_now().await;
    }
    (app, api)
}

#[tokio::test]
async fn every_item_has_a_strong_tag_and_304_is_answered_while_it_is_the_same() {
    let (app, api) = filled().await;
    let mut checked = BTreeSet::new();
    for (method, pattern, operation) in operations(&document(&app).await) {
        let schema = operation.pointer("/responses/200/content/application~1json/schema");
        if method != "get" || schema.is_none() || pattern.ends_with(".json") {
            continue;
        }
        let mut path = pattern.clone();
        if pattern.contains("{id}") {
            let collection = pattern.split('/').nth(2).expect("a collection");
            let (_, list) = api.get(&format!("/api/{collection}?limit=1")).await;
            let Some(id) = list[collection][0]["id"].as_str() else { continue };
            path = pattern.replace("{id}", id);
        }
        let answer = asking(&api, Method::GET, &path).send().await.expect("answered");
        // Two times are needed to compare.
        if answer.status() == 400 {
            continue;
        }
        assert_eq!(answer.status(), 200, "{path}");
        let tag = answer.headers()[header::ETAG].to_str().expect("ASCII").to_owned();
        assert!(tag.starts_with('"') && tag.len() == 34, "{path}: {tag}");
        for (given, expected) in [
            (tag.clone(), 304),
            (format!("W/{tag}"), 304),
            (format!("\"x\", {tag}"), 304),
            ("*".into(), 304),
            ("\"x\"".into(), 200),
            ("nonsense".into(), 200),
        ] {
            let again = asking(&api, Method::GET, &path).header(header::IF_NONE_MATCH, &given);
            let again = again.send().await.expect("answered");
            assert_eq!(again.status(), expected, "{path} If-None-Match: {given}");
            assert_eq!(again.headers()[header::ETAG], tag.as_str(), "{path}");
            assert_eq!(again.text().await.expect("a body").is_empty(), expected == 304, "{path}");
        }
        let head = asking(&api, Method::HEAD, &path).send().await.expect("answered");
        assert_eq!((head.status().as_u16(), &head.headers()[header::ETAG]), (200, &tag.parse().unwrap()), "{path}");
        checked.insert(pattern);
    }
    for expected in [
        "/api/apikeys/{id}",
        "/api/directories/{id}",
        "/api/accounts/{id}",
        "/api/runs/{id}",
        "/api/two-person-rule",
        "/api/users/{id}",
        "/api/logs/{id}",
        "/api/roles/{id}",
    ] {
        assert!(checked.contains(expected), "{expected} was not checked: {checked:?}");
    }
}

/// Records of something other than that a request was refused.
const CHANGES: &str = "SELECT count(*) FROM audit_record WHERE type <> 'audit.access_denied.v1'";

#[tokio::test]
async fn an_item_is_changed_only_while_it_is_as_if_match_says() {
    let (app, api) = filled().await;
    let key = app.key(app.account, "read-only");
    let key = format!("/api/apikeys/{}", key.split(':').next().expect("an id"));
    let account = format!("/api/accounts/{}", app.account);
    for (path, one, other) in [
        (key.as_str(), json!({"description": "a"}), json!({"description": "b"})),
        ("/api/directories/1", json!({"name": "A"}), json!({"name": "B"})),
        (account.as_str(), json!({"historyDays": 100}), json!({"historyDays": 200})),
        ("/api/two-person-rule", json!({"aboveCount": 1}), json!({"aboveCount": 2})),
    ] {
        let known = tag(&api, path).await;
        assert_eq!(change(&api, path, &known, &one).await.status(), 200, "{path}");
        let now = tag(&api, path).await;
        assert_ne!(now, known, "{path}");
        let records = app.count(CHANGES);
        for (tags, expected) in [
            (known.clone(), 412),
            (format!("W/{now}"), 412),
            ("\"x\", \"y\"".into(), 412),
            ("x".into(), 400),
            (String::new(), 400),
        ] {
            let refused = change(&api, path, &tags, &other).await;
            assert_eq!(refused.status(), expected, "{path} If-Match: {tags}");
            assert!(refused.json::<Value>().await.expect("JSON")["message"].is_string());
        }
        assert_eq!(tag(&api, path).await, now, "{path}");
        assert_eq!(app.count(CHANGES), records, "{path}");
        assert_eq!(change(&api, path, &format!("{known}, {now}"), &other).await.status(), 200, "{path}");
        assert_eq!(change(&api, path, "*", &one).await.status(), 200, "{path}");
    }
    // Removing, and what is done to an item below it.
    let remove = |tags: String| asking(&api, Method::DELETE, &key).header(header::IF_MATCH, tags).send();
    assert_eq!(remove("\"x\"".into()).await.expect("answered").status(), 412);
    assert_eq!(change(&api, "/api/directories/1/probe", "\"x\"", &json!({})).await.status(), 412);
    let known = tag(&api, &key).await;
    assert_eq!(remove(known.clone()).await.expect("answered").status(), 204);
    assert_eq!(remove(known).await.expect("answered").status(), 404);
    // What does not exist yet is not as anybody knows it.
    let new = json!({"alias": "x", "roleId": "read-only"});
    assert_eq!(change(&api, "/api/apikeys", "*", &new).await.status(), 412);
    app.assert_audit_verifies();
}

#[tokio::test]
async fn of_many_who_know_the_same_version_one_wins() {
    let (app, api) = filled().await;
    for round in 0..5 {
        let known = tag(&api, "/api/two-person-rule").await;
        let tasks: Vec<_> = (0..20)
            .map(|number| {
                let (api, known) = (api.clone(), known.clone());
                tokio::spawn(async move {
                    let body = json!({"aboveCount": 1_000 * (round + 1) + number});
                    change(&api, "/api/two-person-rule", &known, &body).await.status().as_u16()
                })
            })
            .collect();
        let mut statuses = Vec::new();
        for task in tasks {
            statuses.push(task.await.expect("ended"));
        }
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| matches!(status, 200 | 412)), "{statuses:?}");
    }
    assert_eq!(app.audited("audit.two_person_rule_updated.v1").len(), 5);
}

#[tokio::test]
async fn a_busy_account_keeps_nobody_from_a_guarded_change() {
    let (app, api) = filled().await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let others: Vec<_> = (0..4)
        .map(|number| {
            let (api, stop) = (api.clone(), stop.clone());
            tokio::spawn(async move {
                let mut days = 30 + number;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    days = if days > 3_000 { 30 } else { days + 7 };
                    let path = "/api/protections";
                    let body = json!({"kind": "unit", "directoryId": "1", "dn": format!("ou=x{days}-{number},dc=x")});
                    api.post(path, &body).await;
                }
            })
        })
        .collect();
    for number in 0..20 {
        let known = tag(&api, "/api/two-person-rule").await;
        let status = change(&api, "/api/two-person-rule", &known, &json!({"aboveCount": number})).await.status();
        assert!(status == 200 || status == 503, "{status}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for other in others {
        other.await.expect("ended");
    }
    assert!(app.count("SELECT above_count FROM two_person_rule") > 10);
}

#[tokio::test]
async fn a_key_that_may_not_read_an_item_cannot_ask_how_it_is() {
    let (app, _) = filled().await;
    let auditor = app.api(&app.key(app.account, "auditor"));
    let refused = change(&auditor, "/api/two-person-rule", "*", &json!({"aboveCount": 1})).await;
    assert_eq!(refused.status(), 403);
}

#[tokio::test]
async fn if_match_and_an_idempotency_key_go_together() {
    let (app, api) = filled().await;
    let known = tag(&api, "/api/two-person-rule").await;
    let ask = |tags: String| {
        let request = asking(&api, Method::POST, "/api/two-person-rule").header(header::IF_MATCH, tags);
        request.header("idempotency-key", "one").json(&json!({"aboveCount": 7})).send()
    };
    assert_eq!(ask(known.clone()).await.expect("answered").status(), 200);
    let again = ask(known).await.expect("answered");
    assert_eq!(again.status(), 200, "the tag is old by now, and the answer is the one that was given");
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(app.count("SELECT has_changed FROM idempotency_key"), 1);
}

#[tokio::test]
async fn a_query_parameter_that_is_not_documented_is_refused_everywhere() {
    let (app, api) = filled().await;
    for (method, path, _) in operations(&document(&app).await) {
        let path = path.replace("{id}", "1");
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
        for query in ["api_key=x", "apiKey=x", "limit[]=1", "%00=1", "x"] {
            let answer = asking(&api, method.clone(), &format!("{path}?{query}")).json(&json!({})).send().await;
            let answer = answer.expect("answered");
            assert_eq!(answer.status(), 400, "{method} {path}?{query}");
        }
    }
    // A key in the address is none.
    let answer = app.browser().http.get(format!("{}/api/accounts?api_key={}", app.base, api.key));
    assert_eq!(answer.send().await.expect("answered").status(), 401);
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let any = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    let schema = any.and_then(|any| any.iter().find(|one| one["type"] != "null")).unwrap_or(schema);
    match schema["$ref"].as_str() {
        Some(pointer) => document.pointer(&pointer[1..]).expect("what is pointed at"),
        None => schema,
    }
}

/// The least that fits a schema, with every object that is spelt out in it.
fn least(document: &Value, schema: &Value) -> Value {
    let schema = resolved(document, schema);
    if let Some(values) = schema["enum"].as_array() {
        return values[0].clone();
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("object");
    match kind {
        "string" => json!("x"),
        "integer" | "number" => json!(schema["minimum"].as_i64().unwrap_or(1)),
        "boolean" => json!(true),
        "array" => json!([least(document, &schema["items"])]),
        _ => {
            let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
            let properties = schema["properties"].as_object().into_iter().flatten();
            let wanted = properties.filter(|(name, property)| {
                required.contains(&&json!(name)) || resolved(document, property)["properties"].is_object()
            });
            wanted.map(|(name, property)| (name.clone(), least(document, property))).collect()
        }
    }
}

/// The places in a body where an object stands that is spelt out in its schema.
fn objects(document: &Value, schema: &Value, pointer: &str) -> Vec<String> {
    let schema = resolved(document, schema);
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    let below =
        properties.iter().flat_map(|(name, property)| objects(document, property, &format!("{pointer}/{name}")));
    std::iter::once(pointer.to_owned()).chain(below).collect()
}

#[tokio::test]
async fn an_unknown_field_is_refused_in_every_body_and_at_every_depth() {
    let (app, api) = filled().await;
    let document = document(&app).await;
    let before = app.count(CHANGES);
    let mut checked = 0;
    for (method, path, operation) in operations(&document) {
        let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") else { continue };
        assert_eq!(resolved(&document, schema)["additionalProperties"], false, "{path} says so");
        let path = path.replace("{id}", "1");
        let body = least(&document, schema);
        for place in objects(&document, schema, "") {
            for smuggled in ["isOwner", "role", "accountId", "id", "state"] {
                let mut body = body.clone();
                let object = body.pointer_mut(&place).and_then(Value::as_object_mut).expect("an object");
                let is_known =
                    resolved(&document, schema).pointer("/properties").is_some_and(|p| p[smuggled].is_object());
                if is_known || object.contains_key(smuggled) {
                    continue;
                }
                object.insert(smuggled.into(), json!("owner"));
                let (status, answer) =
                    api.send(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(), &path, Some(&body)).await;
                assert_eq!(status, 422, "{method} {path} with {place}/{smuggled}: {answer}");
                let named = answer["fields"].as_object().expect("fields").keys().any(|name| name.ends_with(smuggled));
                assert!(named, "{method} {path} with {place}/{smuggled}: {answer}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 60, "only {checked}");
    assert_eq!(app.count(CHANGES), before, "nothing was changed");
}

#[tokio::test]
async fn a_body_that_is_not_said_to_be_json_is_refused_everywhere() {
    let (app, api) = filled().await;
    let document = document(&app).await;
    for (_, path, operation) in operations(&document) {
        let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") else { continue };
        let (path, body) = (path.replace("{id}", "1"), least(&document, schema).to_string());
        for kind in
            ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp"]
        {
            let request = asking(&api, Method::POST, &path).header(header::CONTENT_TYPE, kind).body(body.clone());
            assert_eq!(request.send().await.expect("answered").status(), 400, "{path} as {kind}");
        }
    }
}

#[tokio::test]
async fn the_document_is_whole() {
    let app = TestApp::start();
    assert_eq!(app.app.routes().clashes(), [] as [String; 0]);
    let document = document(&app).await;
    let (mut ids, text) = (BTreeSet::new(), document.to_string());
    for (method, path, operation) in operations(&document) {
        let name = format!("{method} {path}");
        assert!(
            ids.insert(operation["operationId"].as_str().expect("an id").to_owned()),
            "{name}: its id is not its own"
        );
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name} is not explained");
        assert!(operation["x-permission"].is_string(), "{name}");
        let responses = operation["responses"].as_object().expect("answers");
        let mut expected = vec!["400", "401", "403", "429", "500", "503"];
        expected.extend(path.contains("{id}").then_some("404"));
        if method != "get" {
            expected.extend(["409", "413", "422"]);
        }
        for status in expected {
            let schema = &responses[status]["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/Error", "{name} {status}");
        }
        for (status, answer) in responses {
            assert!(answer["description"].is_string(), "{name} {status}");
            assert!(answer["headers"]["X-Request-Id"].is_object(), "{name} {status}");
        }
        for parameter in operation["parameters"].as_array().expect("parameters") {
            assert!(!parameter["schema"].to_string().contains("null"), "{name} {}", parameter["name"]);
            let is_explained = parameter["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(is_explained || parameter["in"] == "path", "{name} {}", parameter["name"]);
        }
    }
    // Everything that is pointed at is there.
    for part in text.split("\"$ref\":\"#").skip(1) {
        let pointer = part.split('"').next().expect("a pointer");
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}
