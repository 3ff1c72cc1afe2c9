//! Guessing passwords: how many are evaluated, who is kept out and who is not.

use bailiwick::clock::MINUTE;
use reqwest::header;

use super::{Browser, EMAIL, PASSWORD, TestApp};

const WRONG: &str = "not the password at all";

/// How many of the answers were evaluated (422) and refused (429).
async fn guess_at_once(browsers: Vec<Browser>, email: &'static str) -> (usize, usize) {
    let guesses = browsers
        .into_iter()
        .map(|mut browser| tokio::spawn(async move { browser.sign_in(email, WRONG).await.status().as_u16() }));
    let mut statuses = Vec::new();
    for guess in guesses.collect::<Vec<_>>() {
        statuses.push(guess.await.expect("answered"));
    }
    let count = |status| statuses.iter().filter(|seen| **seen == status).count();
    assert_eq!(count(422) + count(429), statuses.len(), "{statuses:?}");
    (count(422), count(429))
}

#[tokio::test]
async fn of_sixty_four_guesses_at_once_exactly_five_are_evaluated_also_after_a_restart() {
    let app = TestApp::start();
    let mut known = app.signed_in().await;
    // From many addresses, so that only the user's own counter is at work.
    let browsers = (0..64).map(|i| app.browser_from([127, 0, 1, i])).collect();
    assert_eq!(guess_at_once(browsers, EMAIL).await, (5, 59));
    assert_eq!(app.audited("audit.sign_in_failed.v1").len(), 5);
    let throttled = app.audited("audit.sign_in_throttled.v1");
    assert_eq!(throttled.len(), 1, "one record for the pause, not one per guess");
    assert_eq!(throttled[0]["counters"][0], "user");

    let app = app.restart();
    assert_eq!(guess_at_once(vec![app.browser()], EMAIL).await, (0, 1));
    let mut stranger = app.browser();
    let answer = stranger.sign_in(EMAIL, PASSWORD).await;
    assert_eq!(answer.status(), 429, "the right password is not evaluated either");
    let wait_s: i64 = answer.headers()[header::RETRY_AFTER].to_str().expect("ASCII").parse().expect("seconds");
    assert_eq!(wait_s, 900);

    // The browser in which the user has signed in before is not kept out.
    known.base.clone_from(&app.base);
    known.cookies.remove("__Host-bailiwick-session");
    assert_eq!(known.sign_in(EMAIL, WRONG).await.status(), 422);
    assert_eq!(known.sign_in(EMAIL, PASSWORD).await.status(), 303);
    // But its cookie is worth nothing for another user.
    assert_eq!(known.clone().sign_in("other@acme.example", WRONG).await.status(), 422);

    app.forward(15 * MINUTE);
    assert_eq!(stranger.sign_in(EMAIL, PASSWORD).await.status(), 303, "never for good");
    app.assert_audit_verifies();
}

#[tokio::test]
async fn a_known_browser_has_an_end_too() {
    let app = TestApp::start();
    let mut known = app.signed_in().await;
    known.cookies.remove("__Host-bailiwick-session");
    for _ in 0..10 {
        assert_eq!(known.sign_in(EMAIL, WRONG).await.status(), 422);
    }
    assert_eq!(known.sign_in(EMAIL, PASSWORD).await.status(), 429);
    app.forward(15 * MINUTE);
    assert_eq!(known.sign_in(EMAIL, PASSWORD).await.status(), 303);
}

#[tokio::test]
async fn an_unknown_address_is_throttled_like_a_known_one() {
    let app = TestApp::start();
    for email in [EMAIL, "nobody@acme.example"] {
        let mut browser = app.browser();
        let mut statuses = Vec::new();
        for _ in 0..7 {
            statuses.push(browser.sign_in(email, WRONG).await.status().as_u16());
        }
        assert_eq!(statuses, [422, 422, 422, 422, 422, 429, 429], "{email}");
    }
}

#[tokio::test]
async fn one_password_on_many_users_is_stopped_by_the_address() {
    let app = TestApp::start();
    let mut browser = app.browser();
    let mut evaluated = 0;
    for i in 0..40 {
        let answer = browser.sign_in(&format!("user{i}@acme.example"), WRONG).await;
        evaluated += usize::from(answer.status() == 422);
    }
    assert_eq!(evaluated, 30);
    // Somebody elsewhere is not concerned.
    assert_eq!(app.browser_from([127, 0, 0, 9]).sign_in(EMAIL, PASSWORD).await.status(), 303);
    app.forward(MINUTE);
    assert_eq!(browser.sign_in(EMAIL, PASSWORD).await.status(), 303);
}

#[tokio::test]
async fn a_forged_forwarding_header_changes_neither_counter_nor_record() {
    let app = TestApp::start();
    let mut browser = app.browser();
    let token = browser.token("/sign-in").await;
    for i in 0..7 {
        let fields = [("csrf", token.as_str()), ("email", EMAIL), ("password", WRONG)];
        let forged = format!("10.0.0.{i}");
        let headers =
            [("x-forwarded-for", forged.as_str()), ("x-real-ip", forged.as_str()), ("forwarded", "for=10.9.9.9")];
        let answer = browser.post_raw("/sign-in", &fields, &headers).await;
        assert_eq!(answer.status().as_u16(), if i < 5 { 422 } else { 429 });
    }
    for record in app.audited("audit.sign_in_failed.v1") {
        assert_eq!(record["address"], "127.0.0.1");
    }
    assert_eq!(app.count("SELECT count(*) FROM sign_in_attempt WHERE subject LIKE 'address:10.%'"), 0);
    assert_eq!(app.count("SELECT count(*) FROM sign_in_attempt WHERE subject = 'address:127.0.0.1'"), 1);
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_about_the_last_hop_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let app = TestApp::start_in(dir, |config| config.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a net")]);
    let mut browser = app.browser();
    let token = browser.token("/sign-in").await;
    let fields = [("csrf", token.as_str()), ("email", EMAIL), ("password", WRONG)];
    browser.post_raw("/sign-in", &fields, &[("x-forwarded-for", "6.6.6.6, 203.0.113.7, 127.0.0.5")]).await;
    assert_eq!(app.audited("audit.sign_in_failed.v1")[0]["address"], "203.0.113.7");
}

#[tokio::test]
async fn what_was_typed_into_the_address_field_is_not_stored() {
    let app = TestApp::start();
    app.browser().sign_in("my secret password typed too early", WRONG).await;
    assert_eq!(app.count("SELECT count(*) FROM sign_in_attempt WHERE subject LIKE '%secret%'"), 0);
    assert_eq!(app.count("SELECT count(*) FROM audit_record WHERE details LIKE '%secret%'"), 0);
}
