//! Signing in and out: cookies, fixation, expiry, what a stranger learns, where they end up.

use bailiwick::clock::{HOUR, MINUTE};
use reqwest::header;

use super::{EMAIL, PASSWORD, TestApp, text};

#[tokio::test]
async fn the_right_password_opens_the_console_and_is_on_the_record() {
    let app = TestApp::start();
    let mut browser = app.browser();
    let answer = browser.get("/api-keys").await;
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()[header::LOCATION], "/sign-in?next=%2Fapi-keys");
    let answer = browser.sign_in("IDA@acme.example ", PASSWORD).await;
    assert_eq!((answer.status().as_u16(), answer.headers()[header::LOCATION].to_str().expect("ASCII")), (303, "/"));
    let page = browser.page("/api-keys").await;
    assert_eq!(text(&page, ".user-menu__name"), "Ida Marlow");
    let records = app.audited("audit.signed_in.v1");
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["account"], app.account.to_string());
    assert_eq!(records[0]["address"], "127.0.0.1");
    app.assert_audit_verifies();
}

#[tokio::test]
async fn the_session_cookie_is_out_of_reach_of_scripts_other_sites_and_plain_http() {
    let app = TestApp::start();
    let mut browser = app.browser();
    let answer = browser.sign_in(EMAIL, PASSWORD).await;
    let cookies: Vec<&str> =
        answer.headers().get_all(header::SET_COOKIE).iter().map(|value| value.to_str().expect("ASCII")).collect();
    let session = cookies.iter().find(|line| line.starts_with("__Host-bailiwick-session=")).expect("a session");
    for flag in ["Secure", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(session.split("; ").any(|part| part == flag), "{flag} in {session}");
    }
    assert!(!session.contains("Domain") && !session.contains("Max-Age"), "{session}");
    let token = session.split(['=', ';']).nth(1).expect("a token");
    assert_eq!(token.len(), 43, "256 bits");
    let stored = app.count("SELECT count(*) FROM session WHERE length(token_hash) = 32");
    assert_eq!(stored, 1);
    let bytes = std::fs::read(app.app.kernel.config.data_dir.join("bailiwick.db-wal")).unwrap_or_default();
    assert!(!bytes.windows(token.len()).any(|window| window == token.as_bytes()), "the token itself is not stored");
}

#[tokio::test]
async fn a_session_that_was_there_before_sign_in_is_dead_after_it() {
    let app = TestApp::start();
    // A planted value is not taken over.
    let mut victim = app.browser();
    let planted = "A".repeat(43);
    victim.cookies.insert("__Host-bailiwick-session".into(), planted.clone());
    victim.sign_in(EMAIL, PASSWORD).await;
    assert_ne!(victim.session(), Some(&planted));
    let mut attacker = app.browser();
    attacker.cookies.insert("__Host-bailiwick-session".into(), planted);
    assert_eq!(attacker.get("/profile").await.status(), 303);
    // A real one ends with the next sign-in in the same browser.
    let first = victim.session().expect("a session").clone();
    let token = victim.token("/profile").await;
    let fields = [("csrf", token.as_str()), ("email", EMAIL), ("password", PASSWORD)];
    assert_eq!(victim.post_raw("/sign-in", &fields, &[]).await.status(), 303);
    attacker.cookies.insert("__Host-bailiwick-session".into(), first);
    assert_eq!(attacker.get("/profile").await.status(), 303);
    assert_eq!(victim.get("/profile").await.status(), 200);
    assert_eq!(app.count("SELECT count(*) FROM session"), 1);
}

#[tokio::test]
async fn a_session_ends_after_half_an_hour_of_silence() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    for _ in 0..4 {
        app.forward(29 * MINUTE);
        assert_eq!(browser.get("/profile").await.status(), 200);
    }
    app.forward(30 * MINUTE);
    assert_eq!(browser.get("/profile").await.status(), 303);
    app.forward(-MINUTE);
    assert_eq!(browser.get("/profile").await.status(), 200, "ended means not valid now; the row goes with the purge");
}

#[tokio::test]
async fn no_session_lives_longer_than_twelve_hours() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    for _ in 0..35 {
        app.forward(20 * MINUTE);
        assert_eq!(browser.get("/profile").await.status(), 200);
    }
    app.forward(20 * MINUTE);
    assert_eq!(browser.get("/profile").await.status(), 303);
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_lengthen_a_session() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    app.forward(-HOUR);
    assert_eq!(browser.get("/profile").await.status(), 303);
}

#[tokio::test]
async fn signing_out_ends_the_session_on_the_server() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    let stolen = browser.clone();
    let answer = browser.post("/sign-out", &[]).await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()[header::LOCATION].to_str().expect("ASCII")),
        (303, "/sign-in")
    );
    assert_eq!(browser.session(), None);
    let mut stolen = stolen;
    assert_eq!(stolen.get("/profile").await.status(), 303);
    assert_eq!(app.audited("audit.signed_out.v1").len(), 1);
}

#[tokio::test]
async fn whoever_is_disabled_is_out_with_the_next_request() {
    for taken_away in [
        "UPDATE user SET state = 'disabled'",
        "UPDATE account SET state = 'suspended', suspended_at = 0",
        "DELETE FROM membership",
        "DELETE FROM user",
        "DELETE FROM session",
    ] {
        let app = TestApp::start();
        let mut browser = app.signed_in().await;
        assert_eq!(browser.get("/profile").await.status(), 200);
        app.sql(taken_away);
        assert_eq!(browser.get("/profile").await.status(), 303, "{taken_away}");
        if !taken_away.contains("session") {
            let answer = browser.sign_in(EMAIL, PASSWORD).await;
            // Who could administer a suspended account is told that it is; anybody else is told nothing.
            let expected = if taken_away.contains("suspended") { 403 } else { 422 };
            assert_eq!(answer.status(), expected, "{taken_away}");
        }
    }
}

#[tokio::test]
async fn a_role_that_was_taken_away_is_gone_with_the_next_request() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    assert_eq!(browser.get("/api-keys/new").await.status(), 200);
    app.sql("UPDATE membership SET role_id = 'read-only'");
    assert_eq!(browser.get("/api-keys/new").await.status(), 403);
    assert_eq!(browser.get("/api-keys").await.status(), 200);
    app.sql("UPDATE membership SET role_id = 'no-such-role'");
    assert_eq!(browser.get("/api-keys").await.status(), 403);
    let denied = app.audited("audit.access_denied.v1");
    assert_eq!(denied.len(), 2);
    assert_eq!((denied[0]["path"].as_str(), denied[0]["result"].as_str()), (Some("/api-keys/new"), Some("denied")));
}

#[tokio::test]
async fn a_stranger_cannot_tell_an_unknown_address_from_a_wrong_password() {
    let app = TestApp::start();
    app.add_user("disabled@acme.example", "full-access");
    app.sql("UPDATE user SET state = 'disabled' WHERE email = 'disabled@acme.example'");
    let mut seen = Vec::new();
    for (email, password) in [
        (EMAIL, "wrong wrong wrong wrong"),
        ("nobody@acme.example", "wrong wrong wrong wrong"),
        ("disabled@acme.example", PASSWORD),
        ("not an address", "x"),
        ("", ""),
    ] {
        let mut browser = app.browser();
        let answer = browser.sign_in(email, password).await;
        let mut headers: Vec<String> = answer
            .headers()
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "date" | "x-request-id" | "content-length"))
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII")))
            .collect();
        headers.sort();
        let status = answer.status().as_u16();
        let token = browser.cookies.get("__Host-bailiwick-browser").expect("a browser").clone();
        let body = answer.text().await.expect("a page");
        assert!(!body.contains(&token));
        let csrf = super::attribute(&body, "input[name=csrf]", "value").expect("a token");
        let body = body.replace(&csrf, "").replace(&format!("value=\"{email}\""), "value=\"\"");
        seen.push((status, headers, body));
    }
    for other in &seen[1..] {
        assert_eq!(&seen[0], other);
    }
    assert_eq!(seen[0].0, 422);
    let reasons: Vec<String> = app
        .audited("audit.sign_in_failed.v1")
        .iter()
        .map(|record| record["reason"].as_str().expect("a reason").to_owned())
        .collect();
    assert_eq!(
        reasons,
        [
            "the password is wrong",
            "there is no user with this address",
            "the user is disabled",
            "there is no user with this address",
            "there is no user with this address"
        ]
    );
    let emails: Vec<_> = app.audited("audit.sign_in_failed.v1").iter().map(|record| record["email"].clone()).collect();
    assert_eq!(emails[3], "(not an e-mail address)", "it could be a password");
}

#[tokio::test]
async fn after_sign_in_only_paths_of_this_console_are_believed() {
    let app = TestApp::start();
    let hostile = [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "/\\/evil.example",
        "/%09/evil.example\t",
        "/\t/evil.example",
        "/\n/evil.example",
        "/ /evil.example",
        " //evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "http:evil.example",
        "https:/evil.example",
        "evil.example",
        ".evil.example",
        "@evil.example",
        "/..//evil.example",
        "/.//evil.example",
        "/a/..//evil.example",
        "/./\\evil.example",
        "?next=//evil.example",
        "#//evil.example",
        "",
        "/sign-in",
        "/sign-in?next=/sign-in",
        "/sign-out",
        "/setup?token=x",
        "/\u{2028}/evil.example",
        "/\u{ff0f}evil.example",
        "https%3A%2F%2Fevil.example",
        "/\u{0}",
        "ftp://evil.example",
        "//evil.example@127.0.0.1/",
        "////",
        "//",
        "/\r\nSet-Cookie: a=b",
    ];
    let mut browser = app.signed_in().await;
    for next in hostile {
        let query = serde_urlencoded::to_string([("next", next)]).expect("encoded");
        let answer = browser.get(&format!("/sign-in?{query}")).await;
        // A control character is refused before anybody looks at where it leads.
        if answer.status() == 400 {
            continue;
        }
        assert_eq!(answer.status(), 303, "{next:?}");
        let location = answer.headers()[header::LOCATION].to_str().expect("ASCII").to_owned();
        assert_eq!(location, "/", "{next:?}");
    }
    for (next, expected) in [
        ("/identities?q=a%20b&status=locked", "/identities?q=a%20b&status=locked"),
        ("/runs/7", "/runs/7"),
        ("/a/../api-keys", "/api-keys"),
        ("/search?u=https://x.example//y", "/search?u=https://x.example//y"),
    ] {
        let mut browser = app.browser();
        let token = browser.token("/sign-in").await;
        let fields = [("csrf", token.as_str()), ("email", EMAIL), ("password", PASSWORD), ("next", next)];
        let answer = browser.post_raw("/sign-in", &fields, &[]).await;
        assert_eq!(answer.headers()[header::LOCATION], expected);
    }
}

#[tokio::test]
async fn a_damaged_password_hash_lets_nobody_in_and_says_so_in_the_log() {
    let app = TestApp::start();
    app.sql("UPDATE user SET password_hash = '$argon2id$v=19$m=19456,t=2,p=1$sälz$häsh'");
    assert_eq!(app.browser().sign_in(EMAIL, PASSWORD).await.status(), 422);
    let record = app.audited("audit.sign_in_failed.v1").remove(0);
    assert!(record["reason"].as_str().is_some_and(|reason| reason.contains("cannot be read")), "{record}");
}
