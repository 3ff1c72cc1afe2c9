//! What no honest client sends: each a clear 4xx, nothing changed, the process alive.

use reqwest::{Method, header};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{EMAIL, PASSWORD, TestApp};

#[tokio::test]
async fn a_body_of_ten_megabytes_is_refused_on_every_route_that_takes_one() {
    let app = TestApp::start();
    let key = app.key(app.account, "full-access");
    let mut browser = app.signed_in().await;
    let token = browser.token("/profile").await;
    let large = "x".repeat(10 * 1024 * 1024);
    for path in ["/sign-in", "/profile", "/api-keys"] {
        let fields = [("csrf", token.as_str()), ("alias", large.as_str())];
        assert_eq!(browser.post_raw(path, &fields, &[]).await.status(), 413, "{path}");
    }
    let (status, _) = app.api(&key).post("/api/apikeys", &json!({"alias": large})).await;
    assert_eq!(status, 413);
    assert_eq!(browser.get("/profile").await.status(), 200);
}

#[tokio::test]
async fn control_characters_and_broken_bodies_are_refused() {
    let app = TestApp::start();
    let key = app.key(app.account, "full-access");
    let mut browser = app.signed_in().await;
    let token = browser.token("/profile").await;
    for name in ["a\0b", "a\u{1b}[2J", "a\u{7f}", "a\u{85}b"] {
        let fields = [("csrf", token.as_str()), ("name", name), ("locale", "en"), ("timeZone", ""), ("theme", "auto")];
        let status = browser.post_raw("/profile", &fields, &[]).await.status().as_u16();
        assert_eq!(status, 422, "{name:?}");
        let (status, answer) = app.api(&key).post("/api/apikeys", &json!({"alias": name, "roleId": "read-only"})).await;
        assert_eq!(status, 422, "{name:?} {answer}");
        let mut stranger = app.browser();
        assert_eq!(stranger.sign_in(name, PASSWORD).await.status(), 422);
        assert_eq!(stranger.sign_in(EMAIL, name).await.status(), 422);
    }
    let http = app.browser().http;
    let url = format!("{}/api/apikeys", app.base);
    for (kind, body, expected) in [
        ("application/json", &b"{"[..], 400),
        ("application/json", b"\xff\xfe", 400),
        ("application/json", b"", 400),
        ("application/json", b"[]", 422),
        ("application/json", b"null", 422),
        ("text/plain", br#"{"alias":"a","roleId":"read-only"}"#, 400),
        ("application/x-www-form-urlencoded", b"alias=a&roleId=read-only", 400),
        ("", br#"{"alias":"a","roleId":"read-only"}"#, 400),
    ] {
        let mut request = http.post(&url).header(header::AUTHORIZATION, format!("ApiKey {key}")).body(body.to_vec());
        if !kind.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let answer = request.send().await.expect("answered");
        assert_eq!(answer.status(), expected, "{kind} {:?}", String::from_utf8_lossy(body));
        let answer: serde_json::Value = answer.json().await.expect("JSON");
        assert!(answer["message"].is_string());
    }
    assert_eq!(app.count("SELECT count(*) FROM api_key"), 1);
}

#[tokio::test]
async fn ids_that_cannot_be_are_not_found() {
    let app = TestApp::start();
    let key = app.key(app.account, "full-access");
    for id in ["0", "-1", "x", "%00", "%2e%2e%2f", "'%20OR%201=1", "%F0%9F%92%A9", &"9".repeat(3000), "a%0d%0ab"] {
        for collection in ["apikeys", "users", "accounts", "logs", "roles", "invitations"] {
            for method in [Method::GET, Method::DELETE] {
                let (status, _) = app.api(&key).send(method.clone(), &format!("/api/{collection}/{id}"), None).await;
                assert!(matches!(status, 400 | 404 | 405), "{method} {collection}/{id}: {status}");
            }
        }
    }
}

/// Sends bytes as they are and reads the answer's first line.
async fn raw(app: &TestApp, bytes: &[u8]) -> String {
    let address = app.base.strip_prefix("http://").expect("http");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(std::time::Duration::from_secs(15), stream.read(&mut answer)).await;
    let length = read.expect("an answer or an end").unwrap_or(0);
    String::from_utf8_lossy(&answer[..length]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn ambiguous_lengths_are_refused() {
    let app = TestApp::start();
    for head in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Content-Length: -1",
        "Content-Length: +5",
        "Content-Length: 99999999999999999999",
    ] {
        let request = format!(
            "POST /sign-in HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        let first = raw(&app, request.as_bytes()).await;
        assert!(!first.contains(" 200") && !first.contains(" 5"), "{head}: {first}");
    }
    assert_eq!(app.browser().get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn thousands_of_headers_and_fields_are_refused() {
    let app = TestApp::start();
    let headers: String = (0..10_000).map(|i| format!("X-{i}: y\r\n")).collect();
    let first = raw(&app, format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).await;
    assert!(!first.contains(" 200"), "{first}");
    let mut browser = app.signed_in().await;
    let token = browser.token("/profile").await;
    let mut fields = vec![("csrf", token.as_str())];
    fields.extend(std::iter::repeat_n(("name", "x"), 5_000));
    assert_eq!(browser.post_raw("/profile", &fields, &[]).await.status(), 413);
}
