//! Forgotten passwords, addresses that are proved, and the appliance handed over: by links out of real mails.

use std::sync::Arc;

use bailiwick::clock::{DAY, HOUR, MINUTE};
use serde_json::Value;

use super::mail::{USER, off, set_up};
use crate::{
    fixtures::smtp::{Options, Received, Sink},
    rooms::{Browser, EMAIL, PASSWORD, TestApp},
};

const NEW: &str = "twelve silver foxes run far";
const BASE: &str = "https://console.acme.example";

/// An appliance that mails, and where its mails arrive.
async fn begin() -> (TestApp, Arc<Sink>, Browser) {
    let app = TestApp::start();
    let sink = Arc::new(Sink::start(Options { user: Some(USER), ..Options::default() }));
    let mut owner = app.signed_in().await;
    set_up(&mut owner, &sink, |_| ()).await;
    assert_eq!(owner.post("/settings/mail/address", &[("baseUrl", BASE)]).await.status(), 303);
    (app, sink, owner)
}

/// The links of this many mails that lead to one page, as paths; each must begin with the address that was set.
async fn links(sink: &Arc<Sink>, page: &'static str, count: usize) -> Vec<String> {
    let waiting = sink.clone();
    let found = move |sink: &Sink| -> Vec<String> {
        let links = sink.mails().into_iter().flat_map(|mail| mail.links());
        let of_page = links.filter(|link| link.contains(page));
        of_page
            .map(|link| link.strip_prefix(BASE).unwrap_or_else(|| panic!("{link} leads elsewhere")).to_owned())
            .collect()
    };
    off(move || {
        waiting.wait_until("mails with a link", |sink| found(sink).len() >= count);
        found(&waiting)
    })
    .await
}

fn token(path: &str) -> String {
    path.split_once("token=").expect("a token").1.to_owned()
}

async fn ask(app: &TestApp, email: &str) -> (u16, String) {
    let mut stranger = app.browser();
    let answer = stranger.post("/forgot-password", &[("email", email)]).await;
    let status = answer.status().as_u16();
    (status, answer.text().await.expect("a page").replace(email, "…"))
}

async fn set(app: &TestApp, token: &str, password: &str) -> u16 {
    let mut stranger = app.browser();
    stranger.post("/reset-password", &[("token", token), ("new", password)]).await.status().as_u16()
}

#[tokio::test]
async fn a_forgotten_password_is_set_by_the_link_of_a_mail_once_and_ends_every_session() {
    let (app, sink, mut owner) = begin().await;
    app.add_user("two@acme.example", "read-only");
    let (known, unknown) = (ask(&app, EMAIL).await, ask(&app, "nobody@acme.example").await);
    assert_eq!(known.0, 200);
    let without_token = |page: &str| page.replace(char::is_alphanumeric, "x").len();
    assert_eq!(without_token(&known.1), without_token(&unknown.1), "the same answer for both");
    let first = links(&sink, "/reset-password", 1).await.swap_remove(0);
    assert_eq!(ask(&app, &EMAIL.to_uppercase()).await.0, 200);
    let second = links(&sink, "/reset-password", 2).await.swap_remove(1);
    // The newer link ends the older one.
    assert_eq!(app.browser().get(&first).await.status(), 404);
    assert_eq!(set(&app, &token(&first), NEW).await, 404);
    assert_eq!(app.browser().get(&second).await.status(), 200);
    for weak in ["short", EMAIL, "password password", &"x".repeat(300)] {
        assert_eq!(set(&app, &token(&second), weak).await, 422, "{weak}");
    }
    // Two at once: exactly one sets it.
    let (one, two) = (token(&second), token(&second));
    let both = tokio::join!(set(&app, &one, NEW), set(&app, &two, "another fourteen brown bears"));
    assert!(matches!(both, (303, 404) | (404, 303)), "{both:?}");
    let password = if both.0 == 303 { NEW } else { "another fourteen brown bears" };
    assert_eq!(owner.get("/profile").await.status(), 303, "signed out");
    assert_eq!(app.browser().sign_in(EMAIL, PASSWORD).await.status(), 422);
    let mut again = app.browser();
    assert_eq!(again.sign_in(EMAIL, password).await.status(), 303);
    assert!(again.page("/profile").await.contains("proved."), "the mail arrived, so the address is theirs");
    // The user is told; the used link is dead, and nothing of it stands in the log or the database.
    let waiting = sink.clone();
    let is_told = |mail: &Received| mail.header("subject").is_some_and(|text| text.contains("password was changed"));
    off(move || waiting.wait_until("the news", |sink| sink.mails().iter().any(is_told))).await;
    assert_eq!(set(&app, &token(&second), NEW).await, 404);
    assert_eq!(app.audited("audit.user_password_reset.v1").len(), 1);
    for dead in [token(&first), token(&second)] {
        let sql = format!(
            "SELECT (SELECT count(*) FROM audit_record WHERE details LIKE '%{dead}%')
                  + (SELECT count(*) FROM mail_outbox WHERE instr(content, CAST('{dead}' AS BLOB)) > 0)"
        );
        assert_eq!(app.count(&sql), 0);
    }
    app.assert_audit_verifies();
}

#[tokio::test]
async fn links_die_with_their_time_their_user_and_the_password_that_they_were_for() {
    let (app, sink, mut owner) = begin().await;
    app.add_user("two@acme.example", "read-only");
    ask(&app, "two@acme.example").await;
    let late = token(&links(&sink, "/reset-password", 1).await.swap_remove(0));
    app.forward(30 * MINUTE - 1);
    assert_eq!(app.browser().get(&format!("/reset-password?token={late}")).await.status(), 200);
    app.forward(1);
    assert_eq!(set(&app, &late, NEW).await, 404);
    // Changed in another way meanwhile.
    ask(&app, "two@acme.example").await;
    let overtaken = token(&links(&sink, "/reset-password", 2).await.swap_remove(1));
    let mut two = app.signed_in_as("two@acme.example").await;
    let fields = [("current", PASSWORD), ("new", "eleven golden geese fly home")];
    assert_eq!(two.post("/profile/password", &fields).await.status(), 303);
    assert_eq!(set(&app, &overtaken, NEW).await, 404);
    // Disabled on the whole appliance.
    app.forward(HOUR);
    ask(&app, "two@acme.example").await;
    let disabled = token(&links(&sink, "/reset-password", 3).await.swap_remove(2));
    app.sql("UPDATE user SET state = 'disabled' WHERE email = 'two@acme.example'");
    assert_eq!(set(&app, &disabled, NEW).await, 404);
    // What is no token is none.
    let long = "x".repeat(5000);
    for wrong in ["", "x", "' OR 1=1 --", long.as_str()] {
        assert_eq!(set(&app, wrong, NEW).await, 404, "{}", wrong.len());
    }
    drop(owner.get("/profile").await);
}

#[tokio::test]
async fn nobodys_mailbox_is_flooded_and_hosts_in_headers_lead_nowhere() {
    let (app, sink, _) = begin().await;
    for _ in 0..8 {
        assert_eq!(ask(&app, EMAIL).await.0, 200, "the same answer, however often");
    }
    let mut stranger = app.browser();
    let token = stranger.token("/forgot-password").await;
    for (name, value) in
        [("x-forwarded-host", "evil.example"), ("forwarded", "host=evil.example"), ("x-original-host", "evil.example")]
    {
        let fields = [("csrf", token.as_str()), ("email", "two@acme.example")];
        stranger.post_raw("/forgot-password", &fields, &[(name, value)]).await;
    }
    links(&sink, "/reset-password", 3).await;
    app.forward(HOUR);
    assert_eq!(ask(&app, EMAIL).await.0, 200);
    let got = links(&sink, "/reset-password", 4).await;
    assert_eq!(got.len(), 4, "three in the first hour, one in the second");
    assert!(sink.mails().iter().all(|mail| !mail.raw.contains("evil.example")));
    let denied = app.audited("audit.password_reset_asked.v1");
    assert!(denied.iter().filter(|record| record["result"] == "denied").count() >= 4);
    // From one address it ends too, for whatever users.
    let mut statuses = Vec::new();
    for i in 0..25 {
        statuses.push(ask(&app, &format!("user{i}@acme.example")).await.0);
    }
    assert!(statuses.contains(&429) && statuses[0] == 200, "{statuses:?}");
    // The account itself was never locked.
    assert_eq!(app.browser().sign_in(EMAIL, PASSWORD).await.status(), 303);
}

#[tokio::test]
async fn another_address_is_theirs_once_its_link_was_opened() {
    let (app, sink, mut owner) = begin().await;
    app.add_user("two@acme.example", "read-only");
    let change = |email: &'static str, password: &'static str| [("email", email), ("currentForEmail", password)];
    assert_eq!(owner.post("/profile/email", &change("new@acme.example", "wrong")).await.status(), 422);
    assert_eq!(owner.post("/profile/email", &change("no address", PASSWORD)).await.status(), 422);
    assert_eq!(owner.post("/profile/email", &change("new@acme.example", PASSWORD)).await.status(), 303);
    let link = links(&sink, "/verify-email", 1).await.swap_remove(0);
    assert!(owner.page("/profile").await.contains(EMAIL), "not yet");
    assert!(app.browser().page(&link).await.contains("new@acme.example"), "opening it alone does nothing");
    let open = async |token: &str| app.browser().post("/verify-email", &[("token", token)]).await.status().as_u16();
    assert_eq!(open(&token(&link)).await, 200);
    assert_eq!(open(&token(&link)).await, 409, "once");
    assert_eq!(app.browser().sign_in(EMAIL, PASSWORD).await.status(), 422);
    assert_eq!(app.browser().sign_in("new@acme.example", PASSWORD).await.status(), 303);
    // Somebody else's address is asked for without a word, and never given.
    assert_eq!(owner.post("/profile/email", &change("two@acme.example", PASSWORD)).await.status(), 303);
    let theirs = token(&links(&sink, "/verify-email", 2).await.swap_remove(1));
    assert_eq!(open(&theirs).await, 409);
    assert_eq!(app.browser().sign_in("two@acme.example", PASSWORD).await.status(), 303);
    // Too late, and too often.
    assert_eq!(owner.post("/profile/email", &change("third@acme.example", PASSWORD)).await.status(), 303);
    let late = token(&links(&sink, "/verify-email", 3).await.swap_remove(2));
    assert_eq!(owner.post("/profile/email", &change("fourth@acme.example", PASSWORD)).await.status(), 429);
    app.forward(DAY);
    assert_eq!(open(&late).await, 409);
    // An address is not proved by saying so.
    let key = app.key(app.account, "full-access");
    let api = app.api(&key);
    let id = api.get("/api/users").await.1["users"][0]["id"].as_str().expect("an id").to_owned();
    let body = serde_json::json!({"emailVerified": true});
    assert!(matches!(api.post(&format!("/api/users/{id}"), &body).await.0, 400 | 422));
}

#[tokio::test]
async fn an_administrator_makes_a_link_for_those_who_hold_no_more_and_belong_nowhere_else() {
    let app = TestApp::start();
    app.add_user("two@acme.example", "read-only");
    app.add_user("desk@acme.example", "operator");
    let mut owner = app.signed_in().await;
    let root = app.api(&app.key(app.account, "full-access"));
    let users = root.get("/api/users").await.1;
    let id = |email: &str| {
        let list = users["users"].as_array().expect("users").iter().find(|user| user["email"] == email);
        list.expect("the user")["id"].as_str().expect("an id").to_owned()
    };
    let path = |email: &str| format!("/users/{}/reset-link", id(email));
    // Without an address of the console the link is to be completed by whoever hands it over.
    let page = owner.post(&path("two@acme.example"), &[]).await.text().await.expect("a page");
    assert!(crate::rooms::text(&page, "#link[data-from-here]").starts_with("/reset-password?token="), "{page}");
    assert_eq!(owner.post("/settings/mail/address", &[("baseUrl", BASE)]).await.status(), 303);
    let answer = owner.post(&path("two@acme.example"), &[]).await;
    assert_eq!(answer.status(), 200);
    let page = answer.text().await.expect("a page");
    let link = crate::rooms::text(&page, "#link");
    let made = token(link.strip_prefix(BASE).expect("our address"));
    assert_eq!(set(&app, &made, NEW).await, 303);
    assert_eq!(app.browser().sign_in("two@acme.example", NEW).await.status(), 303);
    assert!(!app.signed_in().await.page("/profile").await.contains(NEW));
    // Not by whoever may not, not for whoever holds more, and not for the owner of the appliance.
    let mut desk = app.signed_in_as("desk@acme.example").await;
    assert_eq!(desk.post(&path("two@acme.example"), &[]).await.status(), 403);
    let role = serde_json::json!({"id": "people", "name": "People", "services": {"identity": "full"}});
    assert_eq!(root.post("/api/roles", &role).await.0, 201);
    app.add_user("people@acme.example", "people");
    let mut people = app.signed_in_as("people@acme.example").await;
    assert_eq!(people.post(&path(EMAIL), &[]).await.status(), 403);
    assert_eq!(people.post(&path("desk@acme.example"), &[]).await.status(), 403, "an operator holds what they do not");
    app.add_user("second@acme.example", "full-access");
    let mut second = app.signed_in_as("second@acme.example").await;
    assert_eq!(second.post(&path(EMAIL), &[]).await.status(), 403, "the owner of the appliance");
    let mut two = app.browser();
    assert_eq!(two.sign_in("two@acme.example", NEW).await.status(), 303);
    assert_eq!(
        two.post("/accounts/new", &[("alias", "of-two"), ("locale", "en"), ("timeZone", "")]).await.status(),
        303
    );
    assert_eq!(owner.post(&path("two@acme.example"), &[]).await.status(), 403, "they own more than this account");
    let denied = app.audited("audit.password_reset_asked.v1");
    assert!(denied.iter().filter(|record| record["result"] == "denied").count() >= 4);
}

#[tokio::test]
async fn the_appliance_is_handed_over_by_its_owner_with_their_password_and_both_sign_in_anew() {
    let (app, sink, mut owner) = begin().await;
    app.add_user("two@acme.example", "read-only");
    let mut two = app.signed_in_as("two@acme.example").await;
    let hand = |email: &'static str, password: &'static str| [("email", email), ("current", password)];
    assert_eq!(two.post("/appliance/owner", &hand("two@acme.example", PASSWORD)).await.status(), 403);
    assert_eq!(owner.post("/appliance/owner", &hand("two@acme.example", "wrong")).await.status(), 422);
    assert_eq!(owner.post("/appliance/owner", &hand("nobody@acme.example", PASSWORD)).await.status(), 422);
    assert_eq!(owner.post("/appliance/owner", &hand(EMAIL, PASSWORD)).await.status(), 422);
    assert_eq!(owner.post("/appliance/owner", &hand("two@acme.example", PASSWORD)).await.status(), 303);
    assert_eq!(
        (owner.get("/profile").await.status().as_u16(), two.get("/profile").await.status().as_u16()),
        (303, 303)
    );
    let mut owner = app.signed_in().await;
    let mut two = app.signed_in_as("two@acme.example").await;
    assert_eq!(owner.get("/appliance/accounts").await.status(), 403);
    assert_eq!(two.get("/appliance/accounts").await.status(), 200);
    assert_eq!(two.get("/users").await.status(), 200, "the role in the account is what it was");
    let is_told = |mail: &Received| mail.header("subject").is_some_and(|text| text.contains("ownership"));
    let waiting = sink.clone();
    off(move || waiting.wait_until("both told", |sink| sink.mails().iter().filter(|mail| is_told(mail)).count() == 2))
        .await;
    assert_eq!(app.count("SELECT count(*) FROM user WHERE is_owner = 1"), 1);
    let results: Vec<Value> =
        app.audited("audit.ownership_transferred.v1").iter().map(|record| record["result"].clone()).collect();
    assert_eq!(results, ["failure", "success"], "the wrong password is on the record too");
}
