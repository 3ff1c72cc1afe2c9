//! What users change about themselves, and where they are signed in.

use super::{EMAIL, PASSWORD, TestApp, attribute, text};

const NEW: &str = "eleven red foxes run uphill";

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_ends_the_other_sessions() {
    let app = TestApp::start();
    let mut here = app.signed_in().await;
    let mut there = app.signed_in().await;
    let wrong = [("current", "not my password at all"), ("new", NEW)];
    assert_eq!(here.post("/profile/password", &wrong).await.status(), 422);
    assert_eq!(there.get("/profile").await.status(), 200);
    let answer = here.post("/profile/password", &[("current", PASSWORD), ("new", "short")]).await;
    assert_eq!(answer.status(), 422);
    let page = answer.text().await.expect("a page");
    assert!(text(&page, "#new-error").contains("15 characters"), "{page}");
    for bad in [PASSWORD, "passwordpassword", "ida@acme.exampleida", "bailiwickbailiwick"] {
        assert_eq!(here.post("/profile/password", &[("current", PASSWORD), ("new", bad)]).await.status(), 422, "{bad}");
    }
    assert_eq!(here.post("/profile/password", &[("current", PASSWORD), ("new", NEW)]).await.status(), 303);
    assert_eq!(here.get("/profile").await.status(), 200);
    assert_eq!(there.get("/profile").await.status(), 303);
    assert_eq!(app.browser().sign_in(EMAIL, PASSWORD).await.status(), 422);
    assert_eq!(app.browser().sign_in(EMAIL, NEW).await.status(), 303);
    let results: Vec<_> =
        app.audited("audit.user_password_changed.v1").iter().map(|record| record["result"].clone()).collect();
    assert_eq!(results, ["failure", "success"]);
    assert_eq!(app.count("SELECT count(*) FROM audit_record WHERE details LIKE '%foxes%'"), 0);
}

#[tokio::test]
async fn the_profile_is_saved_and_wrong_values_are_named() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    let fields = [("name", "Ida <i>M</i>"), ("locale", "en"), ("timeZone", "Europe/Oslo"), ("theme", "dark")];
    assert_eq!(browser.post("/profile", &fields).await.status(), 303);
    let page = browser.page("/profile").await;
    assert_eq!(attribute(&page, "#name", "value").as_deref(), Some("Ida <i>M</i>"));
    assert_eq!(attribute(&page, "html", "data-theme").as_deref(), Some("dark"));
    assert_eq!(attribute(&page, "html", "data-time-zone").as_deref(), Some("Europe/Oslo"));
    assert!(!page.contains("<i>M</i>"));
    for (field, value) in [
        ("name", ""),
        ("name", "a\tb"),
        ("locale", "tlh"),
        ("timeZone", "Europe/Nowhere"),
        ("timeZone", "../../etc/passwd"),
        ("theme", "neon"),
    ] {
        let fields: Vec<_> = fields.iter().map(|f| if f.0 == field { (field, value) } else { *f }).collect();
        let answer = browser.post("/profile", &fields).await;
        assert_eq!(answer.status(), 422, "{field} {value:?}");
    }
    for extra in [("roleId", "full-access"), ("email", "eve@evil.example"), ("id", "x"), ("state", "enabled")] {
        let mut fields = fields.to_vec();
        fields.push(extra);
        assert_eq!(browser.post("/profile", &fields).await.status(), 400, "{extra:?}");
    }
    assert_eq!(app.count("SELECT count(*) FROM user WHERE email = 'ida@acme.example' AND theme = 'dark'"), 1);
}

#[tokio::test]
async fn sessions_are_listed_and_end_one_by_one_or_all_at_once() {
    let app = TestApp::start();
    app.add_user("eve@acme.example", "full-access");
    let mut eve = app.signed_in_as("eve@acme.example").await;
    let mut here = app.signed_in().await;
    let mut there = app.signed_in().await;
    let page = here.page("/profile").await;
    let path = attribute(&page, "tbody form", "action").expect("the other session's form");
    assert_eq!(eve.post(&path, &[]).await.status(), 404, "not hers");
    assert_eq!(here.post(&path, &[]).await.status(), 303);
    assert_eq!(there.get("/profile").await.status(), 303);
    assert_eq!(here.post(&path, &[]).await.status(), 404);
    let mut third = app.signed_in().await;
    assert_eq!(here.post("/profile/sessions/end", &[]).await.status(), 303);
    assert_eq!(here.get("/profile").await.status(), 303);
    assert_eq!(third.get("/profile").await.status(), 303);
    assert_eq!(eve.get("/profile").await.status(), 200);
}

#[tokio::test]
async fn the_theme_switch_leads_back_to_the_page_it_was_on() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    let token = browser.token("/profile").await;
    let fields = [("csrf", token.as_str()), ("theme", "light")];
    for (referer, expected) in [
        (format!("{}/logs?result=denied", app.base), "/logs?result=denied"),
        ("nonsense".into(), "/profile"),
        (format!("{}//evil.example", app.base), "/profile"),
    ] {
        let answer = browser.post_raw("/profile/theme", &fields, &[("referer", &referer)]).await;
        assert_eq!(answer.headers()["location"], expected, "{referer}");
    }
}
