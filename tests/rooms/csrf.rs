//! Forms: only those that we gave to this very session are taken, and looking never changes anything.

use super::{EMAIL, PASSWORD, TestApp};

#[tokio::test]
async fn a_form_needs_the_token_of_its_own_session() {
    let app = TestApp::start();
    app.add_user("eve@acme.example", "full-access");
    let mut browser = app.signed_in().await;
    let mut eve = app.signed_in_as("eve@acme.example").await;
    let (own, hers) = (browser.token("/profile").await, eve.token("/profile").await);
    let stale = app.browser().token("/sign-in").await;
    assert_ne!(own, hers);
    for wrong in ["", "x", hers.as_str(), stale.as_str(), &own[1..], &own.to_uppercase()] {
        let answer = browser.post_raw("/profile/theme", &[("csrf", wrong), ("theme", "dark")], &[]).await;
        assert_eq!(answer.status(), 403, "{wrong:?}");
    }
    assert_eq!(browser.post_raw("/profile/theme", &[("theme", "dark")], &[]).await.status(), 403);
    let answer = browser.post_raw("/profile/theme", &[("theme", "dark")], &[("x-csrf-token", &hers)]).await;
    assert_eq!(answer.status(), 403);
    assert_eq!(app.count("SELECT count(*) FROM user WHERE theme <> 'auto'"), 0, "nothing was changed");
    let answer = browser.post_raw("/profile/theme", &[("theme", "dark")], &[("x-csrf-token", &own)]).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(app.count("SELECT count(*) FROM user WHERE theme = 'dark'"), 1);
}

#[tokio::test]
async fn a_form_from_another_site_is_refused_with_the_right_token_too() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    let token = browser.token("/profile").await;
    let fields = [("csrf", token.as_str()), ("theme", "dark")];
    for foreign in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "nonsense"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:1"),
    ] {
        assert_eq!(browser.post_raw("/profile/theme", &fields, &[foreign]).await.status(), 403, "{foreign:?}");
    }
    let base = browser.base.clone();
    let own = [("sec-fetch-site", "same-origin"), ("origin", base.as_str())];
    assert_eq!(browser.post_raw("/profile/theme", &fields, &own).await.status(), 303);
}

#[tokio::test]
async fn nobody_can_be_signed_in_by_another_site() {
    let app = TestApp::start();
    let mut browser = app.browser();
    let fields = [("email", EMAIL), ("password", PASSWORD)];
    assert_eq!(browser.post_raw("/sign-in", &fields, &[]).await.status(), 403, "no cookie, no token");
    let foreign_token = app.browser().token("/sign-in").await;
    let fields = [("csrf", foreign_token.as_str()), ("email", EMAIL), ("password", PASSWORD)];
    assert_eq!(browser.post_raw("/sign-in", &fields, &[]).await.status(), 403, "another browser's token");
    assert_eq!(app.count("SELECT count(*) FROM session"), 0);
}

#[tokio::test]
async fn looking_at_every_page_changes_nothing() {
    let app = TestApp::start();
    let key = app.key(app.account, "full-access");
    let id = key.split(':').next().expect("an id").to_owned();
    let mut browser = app.signed_in().await;
    let api = app.api(&key);
    api.get("/api/accounts").await;
    // The time of the last use is a note about the request, not a change.
    let state = "SELECT coalesce(group_concat(x, '|'), '') FROM (
        SELECT 'u' || id || email || name || theme || time_zone || password_hash || state AS x FROM user
        UNION ALL SELECT 'm' || user_id || role_id FROM membership
        UNION ALL SELECT 's' || id || created_at FROM session
        UNION ALL SELECT 'k' || id || alias || role_id || is_enabled || allowed_ips || coalesce(expires_at, 0) FROM api_key
        UNION ALL SELECT 'v' || id || state || hex(token_hash) FROM invitation
        UNION ALL SELECT 'a' || id || alias || state FROM account
        UNION ALL SELECT 'i' || coalesce(hex(setup_token_hash), '') FROM appliance)";
    let look = || -> String {
        app.app.kernel.db.read_blocking(|c| Ok(c.query_row(state, [], |row| row.get(0))?)).expect("read")
    };
    let before = look();
    for entry in app.app.routes().entries() {
        if entry.method == "GET" {
            let path = entry.path.replace("{id}", &id);
            browser.get(&path).await;
            browser.get(&format!("{path}?theme=dark&enabled=false&csrf=x")).await;
            api.get(&path).await;
        }
    }
    assert_eq!(look(), before);
    // The method cannot be smuggled either.
    for (name, value) in [("x-http-method-override", "POST"), ("x-http-method", "DELETE")] {
        let request = browser.http.get(format!("{}/api/apikeys/{id}", browser.base)).header(name, value);
        let answer = request.header("authorization", format!("ApiKey {key}")).send().await.expect("answered");
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(look(), before);
}
