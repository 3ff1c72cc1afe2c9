//! The rate of a key and of addresses without one: headers, refusals, and who is not touched by them.

use reqwest::{Response, header};

use super::{Api, TestApp};

async fn ask(api: &Api) -> Response {
    let mut request = api.http.get(format!("{}/api/accounts", api.base));
    if !api.key.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("ApiKey {}", api.key));
    }
    request.send().await.expect("answered")
}

fn limited(per_minute: u32) -> TestApp {
    let mut first = TestApp::start();
    let dir = first.dir.take().expect("a folder");
    let now = first.app.kernel.clock.now();
    drop(first);
    let app = TestApp::start_in(dir, |config| config.api_rate_per_minute = per_minute);
    app.app.kernel.clock.set(now);
    app
}

#[tokio::test]
async fn a_key_is_told_how_many_requests_are_left_and_refused_one_too_many() {
    let app = limited(20);
    let (api, other) = (app.api(&app.key(app.account, "read-only")), app.api(&app.key(app.account, "full-access")));
    let first = ask(&api).await;
    assert_eq!(first.status(), 200);
    assert_eq!(first.headers()["ratelimit-policy"], "\"default\";q=20;w=60");
    assert_eq!(first.headers()["ratelimit"], "\"default\";r=20;t=0");
    for _ in 1..40 {
        assert_eq!(ask(&api).await.status(), 200);
    }
    let refused = ask(&api).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["ratelimit"], "\"default\";r=0;t=60");
    assert_eq!(refused.headers()[header::RETRY_AFTER], "3");
    let told: serde_json::Value = refused.json().await.expect("JSON");
    assert_eq!(told["message"], "Too many requests. Wait 3 seconds and try again.");
    assert_eq!(ask(&other).await.status(), 200, "another key is not touched");
    app.forward(3_000_000);
    assert_eq!(ask(&api).await.status(), 200);
    assert_eq!(ask(&api).await.status(), 429);
    // Refusals carry the headers too, whatever they are for.
    let (status, _) = other.get("/api/accounts?api_key=x").await;
    assert_eq!(status, 400);
    let answer = other.http.get(format!("{}/api/logs/none", app.base));
    let answer = answer.header(header::AUTHORIZATION, format!("ApiKey {}", other.key)).send().await.expect("answered");
    assert_eq!(answer.status(), 404);
    assert!(answer.headers().contains_key("ratelimit"));
}

#[tokio::test]
async fn strangers_are_slowed_down_and_keys_at_the_same_address_are_not() {
    let app = limited(100);
    let (stranger, wrong) = (app.api(""), app.api("01890000-0000-7000-8000-000000000000:bwk_AAAAAAAAAAAAAAAAAAAA"));
    let mut refused = 0;
    for number in 0..40 {
        let answer = ask(if number % 2 == 0 { &stranger } else { &wrong }).await;
        assert!(!answer.headers().contains_key("ratelimit"));
        match answer.status().as_u16() {
            401 => assert_eq!(refused, 0),
            429 => refused += 1,
            other => panic!("answered {other}"),
        }
    }
    assert_eq!(refused, 20);
    assert_eq!(ask(&app.api(&app.key(app.account, "read-only"))).await.status(), 200);
}

#[tokio::test]
async fn without_a_limit_nothing_is_said_of_it() {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "read-only"));
    for _ in 0..30 {
        let answer = ask(&api).await;
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key("ratelimit"));
    }
}
