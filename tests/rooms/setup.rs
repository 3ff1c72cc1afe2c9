//! The one-time set-up link.

use super::{EMAIL, PASSWORD, TestApp, text};
use bailiwick::clock::DAY;

async fn link(app: &TestApp) -> String {
    let link = app.app.setup_link(&app.base).await.expect("a link").expect("no account yet");
    link.strip_prefix(&app.base).expect("on this host").to_owned()
}

fn fields<'a>(csrf: &'a str, token: &'a str) -> [(&'a str, &'a str); 6] {
    [("csrf", csrf), ("token", token), ("account", "acme"), ("name", "Ida"), ("email", EMAIL), ("password", PASSWORD)]
}

#[tokio::test]
async fn the_link_makes_the_first_account_and_signs_in() {
    let app = TestApp::start_empty();
    let path = link(&app).await;
    let token = path.split_once("token=").expect("a token").1.to_owned();
    let mut browser = app.browser();
    let page = browser.page(&path).await;
    let csrf = super::attribute(&page, "input[name=csrf]", "value").expect("a token");
    let mut wrong = fields(&csrf, &token);
    wrong[2].1 = "Not An Alias";
    wrong[5].1 = "short";
    let answer = browser.post_raw("/setup", &wrong, &[]).await;
    assert_eq!(answer.status(), 422);
    let page = answer.text().await.expect("a page");
    assert!(!text(&page, "#account-error").is_empty() && !text(&page, "#password-error").is_empty(), "{page}");
    let answer = browser.post_raw("/setup", &fields(&csrf, &token), &[]).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().expect("ASCII")), (303, "/"));
    assert_eq!(browser.get("/profile").await.status(), 200);
    // It works once, and no new one is given.
    assert_eq!(app.browser().get(&path).await.status(), 404);
    assert!(app.app.setup_link(&app.base).await.expect("asked").is_none());
    for kind in ["setup_link_created", "account_created", "user_created", "signed_in"] {
        assert_eq!(app.audited(&format!("audit.{kind}.v1")).len(), 1, "{kind}");
    }
    app.assert_audit_verifies();
}

#[tokio::test]
async fn of_two_browsers_at_once_exactly_one_wins() {
    let app = TestApp::start_empty();
    let path = link(&app).await;
    let token = path.split_once("token=").expect("a token").1.to_owned();
    let attempts: Vec<_> = (0..8)
        .map(|_| {
            let (mut browser, path, token) = (app.browser(), path.clone(), token.clone());
            tokio::spawn(async move {
                let csrf = browser.token(&path).await;
                browser.post_raw("/setup", &fields(&csrf, &token), &[]).await.status().as_u16()
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for attempt in attempts {
        statuses.push(attempt.await.expect("answered"));
    }
    assert_eq!(statuses.iter().filter(|status| **status == 303).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 303 | 404 | 409 | 503)), "{statuses:?}");
    assert_eq!(app.count("SELECT count(*) FROM account"), 1);
    assert_eq!(app.count("SELECT count(*) FROM user"), 1);
}

#[tokio::test]
async fn a_wrong_an_old_and_a_replaced_link_are_the_same_nothing() {
    let app = TestApp::start_empty();
    let old = link(&app).await;
    let path = link(&app).await;
    for wrong in [old.as_str(), "/setup", "/setup?token=", "/setup?token=x", &path[..path.len() - 1]] {
        assert_eq!(app.browser().get(wrong).await.status(), 404, "{wrong}");
    }
    assert_eq!(app.browser().get(&path).await.status(), 200);
    app.forward(DAY);
    assert_eq!(app.browser().get(&path).await.status(), 404);
    let app = TestApp::start();
    assert!(app.app.setup_link(&app.base).await.expect("asked").is_none(), "there is an account");
    assert_eq!(app.browser().get("/setup").await.status(), 404);
}
