//! Contacts of an account: who stands there first, what a list takes, and who may look and change.

use bailiwick::accounts::{self, ContactList};
use reqwest::Method;
use serde_json::{Value, json};

use super::{EMAIL, TestApp, text};

#[tokio::test]
async fn whoever_makes_an_account_is_its_first_contact() {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "read-only"));
    let path = format!("/api/accounts/{}/contacts", app.account);
    let (status, contacts) = api.get(&path).await;
    assert_eq!((status, contacts), (200, json!({"billing": [EMAIL], "operations": [EMAIL], "general": [EMAIL]})));
    for list in ContactList::ALL {
        let told = app.app.kernel.db.read_blocking(|c| accounts::contacts(c, app.account, list)).expect("read");
        assert_eq!(told, [EMAIL]);
    }
    assert_eq!(api.post(&path, &json!({"general": []})).await.0, 403);
}

#[tokio::test]
async fn lists_are_changed_one_by_one_and_what_changed_is_on_the_record() {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "full-access"));
    let path = format!("/api/accounts/{}/contacts", app.account);
    let lists = json!({"operations": ["noc@acme.example", " On.Call@acme.example "], "general": []});
    let (status, changed) = api.post(&path, &lists).await;
    assert_eq!(status, 200, "{changed}");
    let expected = json!({
        "billing": [EMAIL], "operations": ["noc@acme.example", "On.Call@acme.example"], "general": [],
    });
    assert_eq!(changed, expected);
    assert_eq!(api.get(&path).await.1, expected);
    let records = app.audited("audit.contacts_updated.v1");
    assert_eq!(records.len(), 1);
    assert_eq!(
        records[0]["changes"],
        json!({
            "operations": {"before": [EMAIL], "after": ["noc@acme.example", "On.Call@acme.example"]},
            "general": {"before": [EMAIL], "after": []},
        })
    );
    // The same again is no change.
    assert_eq!(api.post(&path, &lists).await.0, 200);
    assert_eq!(app.audited("audit.contacts_updated.v1").len(), 1);
    app.assert_audit_verifies();
}

#[tokio::test]
async fn a_list_takes_five_addresses_each_once() {
    let app = TestApp::start();
    let api = app.api(&app.key(app.account, "full-access"));
    let path = format!("/api/accounts/{}/contacts", app.account);
    let many = |count: usize| (0..count).map(|i| format!("a{i}@acme.example")).collect::<Vec<_>>();
    for (body, field) in [
        (json!({"billing": many(6)}), "billing"),
        (json!({"operations": ["nobody"]}), "operations"),
        (json!({"general": ["a@acme.example\nBcc: everybody@example.org"]}), "general"),
        (json!({"general": "a@acme.example"}), "general"),
        (json!({"general": ["a@acme.example", 7]}), "general[1]"),
        (json!({"security": []}), "security"),
        (json!({"accountId": "100000000001"}), "accountId"),
    ] {
        let (status, answer) = api.post(&path, &body).await;
        assert_eq!(status, 422, "{body}: {answer}");
        assert!(answer["fields"].get(field).is_some(), "{body}: {answer}");
    }
    assert_eq!(api.post(&path, &json!({"billing": many(5)})).await.0, 200);
    let (_, once) = api.post(&path, &json!({"general": ["ida@acme.example", "IDA@acme.example"]})).await;
    assert_eq!(once["general"], json!(["ida@acme.example"]));
    assert_eq!(app.count("SELECT count(*) FROM contact"), 7);
}

#[tokio::test]
async fn another_account_has_its_own() {
    let app = TestApp::start();
    let other = app.other_account("other", "root@other.example");
    let theirs = app.api(&app.key(other.id, "full-access"));
    let ours = format!("/api/accounts/{}/contacts", app.account);
    for method in [Method::GET, Method::POST] {
        let body = (method == Method::POST).then(|| json!({"general": ["mallory@other.example"]}));
        assert_eq!(theirs.send(method, &ours, body.as_ref()).await.0, 404);
    }
    let own = format!("/api/accounts/{}/contacts", other.id);
    assert_eq!(theirs.post(&own, &json!({"general": ["root@other.example"]})).await.0, 200);
    let (_, contacts): (u16, Value) = app.api(&app.key(app.account, "read-only")).get(&ours).await;
    assert_eq!(contacts["general"], json!([EMAIL]));
}

#[tokio::test]
async fn the_page_does_what_the_api_does() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    let page = browser.page("/settings/contacts").await;
    for list in ["billing", "operations", "general"] {
        assert_eq!(text(&page, &format!("#{list}")), EMAIL);
    }
    let wrong = [("billing", "a@b.example\r\nnonsense"), ("operations", ""), ("general", "")];
    let answer = browser.post("/settings/contacts", &wrong).await;
    assert_eq!(answer.status(), 422);
    let page = answer.text().await.expect("a page");
    assert!(text(&page, "#billing-error").contains("nonsense"), "{page}");
    assert_eq!(text(&page, "#billing"), "a@b.example\nnonsense", "what was typed is still there");
    let fields = [("billing", "a@b.example\r\n\r\n c@d.example "), ("operations", EMAIL), ("general", "")];
    assert_eq!(browser.post("/settings/contacts", &fields).await.status(), 303);
    let page = browser.page("/settings/contacts").await;
    assert_eq!(text(&page, "#billing"), "a@b.example\nc@d.example");
    app.add_user("reader@acme.example", "read-only");
    let mut reader = app.signed_in_as("reader@acme.example").await;
    let page = reader.page("/settings/contacts").await;
    assert!(text(&page, "form .form__actions").is_empty(), "who may not change is not offered to");
    assert_eq!(reader.post("/settings/contacts", &fields).await.status(), 403);
}
