//! Every route, seen by a stranger: what is public, and what every answer carries. Who else gets in where, `access` asks, and
//! what each role opens, `roles`.

use bailiwick::{principal::Permission, web::Surface};
use reqwest::{Method, header};
use serde_json::json;

use super::{Api, Browser, TestApp};

/// An id that exists nowhere.
const NOBODYS: &str = "01890000-0000-7000-8000-000000000000";

/// Public pages and files: what a stranger may open. Only shrinks, or grows with a reason.
const PUBLIC: &[(&str, &str)] = &[
    ("GET", "/sign-in"),
    ("POST", "/sign-in"),
    // With the cookie of a sign-in whose password was right, and no further than its next step.
    ("GET", "/sign-in/factor"),
    ("POST", "/sign-in/factor"),
    ("GET", "/sign-in/recovery"),
    ("POST", "/sign-in/recovery"),
    ("POST", "/sign-in/enrol/totp"),
    ("POST", "/sign-in/factor/passkey"),
    ("POST", "/sign-in/factor/passkey/options"),
    ("POST", "/sign-in/enrol/passkey"),
    ("POST", "/sign-in/enrol/passkey/options"),
    ("POST", "/sign-in/passkey"), // the answer of a passkey, which is the proof itself
    ("POST", "/sign-in/passkey/options"), // a question that only a passkey answers
    ("POST", "/sign-in/account"),
    ("POST", "/sign-in/go"),
    ("POST", "/sign-in/cancel"),
    ("GET", "/sign-in/continue"),  // says nothing but that more is asked for
    ("POST", "/sign-in/continue"), // with a session whose account asks for more
    ("GET", "/sign-in/apps"),      // which apps there are for codes
    ("POST", "/sign-in/restore"),  // with the proof that a right password was given a moment ago
    ("GET", "/forgot-password"),
    ("POST", "/forgot-password"), // the same answer whoever asks
    ("GET", "/reset-password"),
    ("POST", "/reset-password"), // with the token of a link
    ("GET", "/verify-email"),
    ("POST", "/verify-email"),      // likewise
    ("GET", "/setup"),              // 404 unless the one-time link is open
    ("POST", "/setup"),             // likewise
    ("GET", "/invitation"),         // whoever is invited is a stranger yet; 404 without the token of an open link
    ("POST", "/invitation"),        // likewise
    ("POST", "/invitation/reject"), // likewise
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),          // from this machine only
    ("GET", "/api/openapi.json"), // says what the API is, not what is in it
];

struct Route {
    method: Method,
    path: String,
    permission: Permission,
    surface: Surface,
}

fn routes(app: &TestApp) -> Vec<Route> {
    let entries = app.app.routes().entries();
    let routes = entries.iter().map(|entry| Route {
        method: Method::from_bytes(entry.method.as_str().as_bytes()).expect("a method"),
        path: entry.path.clone(),
        permission: entry.permission,
        surface: entry.surface,
    });
    routes.collect()
}

/// Asks as a browser, with a right token where one is needed: then only the permission decides.
async fn ask(browser: &mut Browser, route: &Route, id: &str) -> (u16, String) {
    let path = route.path.replace("{id}", id);
    let answer = match route.method {
        Method::GET => browser.get(&path).await,
        _ if browser.session().is_some() => browser.post(&path, &[]).await,
        _ => browser.post_raw(&path, &[], &[]).await,
    };
    let location = answer.headers().get(header::LOCATION).map(|value| value.to_str().expect("ASCII").to_owned());
    (answer.status().as_u16(), location.unwrap_or_default())
}

async fn ask_api(api: &Api, route: &Route, id: &str) -> u16 {
    let body = (route.method == Method::POST).then(|| json!({}));
    api.send(route.method.clone(), &route.path.replace("{id}", id), body.as_ref()).await.0
}

#[tokio::test]
async fn a_stranger_gets_nowhere_but_to_the_public_pages() {
    let app = TestApp::start();
    let public: Vec<_> = routes(&app)
        .into_iter()
        .filter(|route| route.permission == Permission::Public)
        .map(|route| (route.method.to_string(), route.path))
        .collect();
    for route in &public {
        assert!(PUBLIC.contains(&(route.0.as_str(), route.1.as_str())), "{route:?} became public");
    }
    for known in PUBLIC {
        assert!(public.contains(&(known.0.to_owned(), known.1.to_owned())), "{known:?} is not public: take it off");
    }
    let nobody = [
        app.api(""),
        app.api("x"),
        app.api("x:y"),
        app.api(&format!("{NOBODYS}:bwk_{}", "A".repeat(43))),
        app.api(&format!("{NOBODYS}:{}", "A".repeat(300))),
    ];
    for route in routes(&app).iter().filter(|route| route.permission != Permission::Public) {
        let name = format!("{} {}", route.method, route.path);
        if route.surface == Surface::Api {
            for api in &nobody {
                assert_eq!(ask_api(api, route, NOBODYS).await, 401, "{name}");
            }
        } else {
            let (status, location) = ask(&mut app.browser(), route, NOBODYS).await;
            assert_eq!(status, 303, "{name}");
            assert!(location.starts_with("/sign-in"), "{name}: {location}");
        }
    }
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    let mut stranger = app.browser();
    let mut paths: Vec<String> = routes(&app).into_iter().map(|route| route.path.replace("{id}", NOBODYS)).collect();
    paths.extend(
        ["/nothing", "/api/nothing", "/static/css/app.css", "/static/nothing", "/%00", "/api/../x"].map(str::to_owned),
    );
    for path in paths {
        let mut answers = vec![browser.get(&path).await, stranger.get(&path).await];
        for method in ["POST", "DELETE", "PUT", "OPTIONS", "TRACE", "NONSENSE"] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let request = stranger.http.request(method, format!("{}{path}", stranger.base));
            answers.push(request.send().await.expect("answered"));
        }
        for answer in answers {
            let status = answer.status().as_u16();
            assert!(status < 500, "{path} answered {status}");
            for (name, expected) in [
                ("x-content-type-options", "nosniff"),
                ("x-frame-options", "DENY"),
                ("referrer-policy", "same-origin"),
                ("cross-origin-opener-policy", "same-origin"),
                ("cross-origin-resource-policy", "same-origin"),
                ("strict-transport-security", "max-age=63072000"),
            ] {
                let seen = answer.headers().get(name).and_then(|value| value.to_str().ok());
                assert_eq!(seen, Some(expected), "{name} of {path} ({status})");
            }
            let policy = answer.headers()["content-security-policy"].to_str().expect("ASCII");
            assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}");
            assert!(!policy.contains("unsafe"), "{path}");
            assert!(answer.headers().contains_key("x-request-id"), "{path} ({status})");
            if !path.starts_with("/static/") {
                assert_eq!(answer.headers()["cache-control"], "no-store", "{path} ({status})");
            }
            assert!(!answer.headers().contains_key("server"));
            assert!(!answer.headers().contains_key("access-control-allow-origin"));
        }
    }
}

#[tokio::test]
async fn measurements_are_for_this_machine_and_nobody_behind_a_proxy() {
    let app = TestApp::start();
    let mut browser = app.browser();
    browser.page("/sign-in").await;
    let body = browser.page("/metrics").await;
    assert!(body.contains("bailiwick_http_requests_total"), "{body}");
    for header in ["x-forwarded-for", "forwarded", "x-real-ip", "via"] {
        let request = browser.http.get(format!("{}/metrics", browser.base)).header(header, "127.0.0.1");
        assert_eq!(request.send().await.expect("answered").status(), 404, "{header}");
    }
    let strange = Method::from_bytes(b"FILLTHEMEMORY").expect("a method");
    let request = browser.http.request(strange, format!("{}/metrics", browser.base));
    assert_eq!(request.send().await.expect("answered").status(), 405);
    assert!(!browser.page("/metrics").await.contains("FILLTHEMEMORY"));
}

#[tokio::test]
async fn the_api_description_names_every_api_route() {
    let app = TestApp::start();
    let (status, document) = app.api("").get("/api/openapi.json").await;
    assert_eq!(status, 200);
    for route in routes(&app).iter().filter(|route| route.surface == Surface::Api) {
        let method = route.method.as_str().to_lowercase();
        assert!(document["paths"][&route.path][&method].is_object(), "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn an_unknown_api_version_is_refused() {
    let app = TestApp::start();
    let key = app.key(app.account, "read-only");
    for (version, expected) in [("v1", 200), ("v2", 400), ("1", 400), ("", 400)] {
        let request = app.browser().http.get(format!("{}/api/accounts", app.base)).header("api-version", version);
        let answer = request.header("authorization", format!("ApiKey {key}")).send().await.expect("answered");
        assert_eq!(answer.status(), expected, "{version:?}");
    }
}
