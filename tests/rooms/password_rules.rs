//! How long passwords have to be: what the owner of the appliance says holds wherever one is set.

use super::{EMAIL, PASSWORD, TestApp, text};

const PATH: &str = "/appliance/passwords";
/// Twenty characters.
const TWENTY: &str = "six red foxes run by";

fn fields<'a>(alone: &'a str, with: &'a str) -> [(&'a str, &'a str); 2] {
    [("charsMin", alone), ("charsMinWithFactor", with)]
}

#[tokio::test]
async fn only_the_owner_sets_the_length_and_only_within_limits() {
    let app = TestApp::start();
    app.add_user("eve@acme.example", "full-access");
    let mut eve = app.signed_in_as("eve@acme.example").await;
    assert_eq!(eve.get(PATH).await.status(), 403);
    assert_eq!(eve.post(PATH, &fields("20", "8")).await.status(), 403);
    let mut owner = app.signed_in().await;
    assert!(owner.page("/appliance/accounts").await.contains(&format!("href=\"{PATH}\"")));
    assert_eq!(super::attribute(&owner.page(PATH).await, "#charsMin", "value").as_deref(), Some("15"));
    for (alone, with, wrong) in [
        ("14", "8", "charsMin"),
        ("65", "8", "charsMin"),
        ("", "8", "charsMin"),
        ("fifteen", "8", "charsMin"),
        ("15", "7", "charsMinWithFactor"),
        ("64", "65", "charsMinWithFactor"),
        ("20", "21", "charsMinWithFactor"),
    ] {
        let answer = owner.post(PATH, &fields(alone, with)).await;
        assert_eq!(answer.status(), 422, "{alone} {with}");
        let page = answer.text().await.expect("a page");
        assert!(!text(&page, &format!("#{wrong}-error")).is_empty(), "{alone} {with}: {page}");
    }
    assert_eq!(owner.post(PATH, &[("charsMin", "20"), ("charsMinWithFactor", "8"), ("id", "2")]).await.status(), 400);
    assert_eq!(app.count("SELECT count(*) FROM password_rule"), 0);
    assert_eq!(owner.post(PATH, &fields("64", "8")).await.status(), 303);
    assert_eq!(owner.post(PATH, &fields("64", "8")).await.status(), 303, "the same again is no change");
    let records = app.audited("audit.password_rules_updated.v1");
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["changes"]["charsMin"]["before"], 15);
    assert_eq!(records[0]["changes"]["charsMin"]["after"], 64);
}

#[tokio::test]
async fn the_length_holds_and_is_said_wherever_a_password_is_set() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    assert_eq!(owner.post(PATH, &fields("24", "10")).await.status(), 303);
    let said = "At least 24 characters.";
    // Who is signed in with a shorter one stays so, and signs in again.
    let mut owner = app.signed_in().await;

    // The profile.
    assert!(text(&owner.page("/profile").await, "#new-hint").contains(said));
    let answer = owner.post("/profile/password", &[("current", PASSWORD), ("new", TWENTY)]).await;
    assert_eq!(answer.status(), 422);
    assert!(text(&answer.text().await.expect("a page"), "#new-error").contains(said));

    // An invitation.
    let api = app.api(&app.key(app.account, "full-access"));
    let input = serde_json::json!({"email": "new@guest.example", "roleId": "read-only"});
    let (_, made) = api.post("/api/invitations", &input).await;
    let token = made["token"].as_str().expect("a token").to_owned();
    let path = format!("/invitation?token={token}");
    let mut guest = app.browser();
    assert!(text(&guest.page(&path).await, "#password-hint").contains(said));
    let newcomer = |password| [("token", token.as_str()), ("name", "New"), ("password", password), ("locale", "en")];
    let answer = guest.post("/invitation", &newcomer(TWENTY)).await;
    assert_eq!(answer.status(), 422);
    assert!(text(&answer.text().await.expect("a page"), "#password-error").contains(said));
    assert_eq!(guest.post("/invitation", &newcomer("six red foxes run by the river")).await.status(), 303);

    // A link for a new password.
    assert_eq!(owner.post("/settings/mail/address", &[("baseUrl", "https://b.acme.example")]).await.status(), 303);
    let id = app.app.kernel.db.read_blocking(|c| {
        Ok(c.query_row("SELECT id FROM user WHERE email = 'new@guest.example'", [], |row| row.get::<_, String>(0))?)
    });
    let page =
        owner.post(&format!("/users/{}/reset-link", id.expect("an id")), &[]).await.text().await.expect("a page");
    let at = page.find("token=").expect("a link") + "token=".len();
    let token = page[at..at + 43].to_owned();
    let mut guest = app.browser();
    assert!(text(&guest.page(&format!("/reset-password?token={token}")).await, "#new-hint").contains(said));
    let answer = guest.post("/reset-password", &[("token", &token), ("new", TWENTY)]).await;
    assert_eq!(answer.status(), 422);
    let fine = [("token", token.as_str()), ("new", "six red foxes run by the lake")];
    assert_eq!(guest.post("/reset-password", &fine).await.status(), 303);

    // No rule of composition, and what everybody tries stays refused however long it is.
    let repeated = "password".repeat(4);
    let answer = owner.post("/profile/password", &[("current", PASSWORD), ("new", &repeated)]).await;
    assert_eq!(answer.status(), 422);
    let plain = [("current", PASSWORD), ("new", "onlysmalllettersandlongenough")];
    assert_eq!(owner.post("/profile/password", &plain).await.status(), 303);
    assert_eq!(app.browser().sign_in(EMAIL, plain[1].1).await.status(), 303);
}
