//! Notices by mail: who is told what, that nothing waits for mail, that no host is guessed, and that the queue is sealed.

use bailiwick::{
    api_keys,
    clock::DAY,
    principal::{AccountId, Principal},
    users,
};
use serde_json::json;

use super::{Browser, EMAIL, PASSWORD, TestApp, attribute, off};

const BASE: &str = "https://bailiwick.acme.example";

/// A mail of the queue, opened.
#[derive(Debug, PartialEq, Eq)]
struct Queued {
    kind: String,
    to: String,
    subject: String,
    text: String,
}

fn queue(app: &TestApp) -> Vec<Queued> {
    let kernel = &app.app.kernel;
    off(|| {
        kernel.db.read_blocking(|c| {
            let mut statement =
                c.prepare("SELECT id, kind, recipient, content FROM mail_outbox ORDER BY created_at, id")?;
            let rows = statement.query_map([], |row| {
                let (id, kind): (String, String) = (row.get(0)?, row.get(1)?);
                let (recipient, content): (Vec<u8>, Vec<u8>) = (row.get(2)?, row.get(3)?);
                let open = |place: &str, sealed: &[u8]| {
                    let plain = kernel.key.open(&format!("mail_outbox:{place}:{id}"), sealed).expect("it opens");
                    String::from_utf8(plain.expose().to_vec()).expect("UTF-8")
                };
                let to = open("recipient", &recipient);
                let content: (String, String, String) =
                    serde_json::from_str(&open("content", &content)).expect("a mail");
                Ok(Queued { kind, to, subject: content.0, text: content.1 })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    })
    .expect("read")
}

/// Kind and recipient of what is in the queue.
fn told(app: &TestApp) -> Vec<(String, String)> {
    queue(app).into_iter().map(|mail| (mail.kind, mail.to)).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(kind, to)| ((*kind).to_owned(), (*to).to_owned())).collect()
}

/// A mail server that does not exist: mails are queued, and stay there.
async fn set_mail_up(owner: &mut Browser) {
    let fields = [
        ("host", "smtp.invalid"),
        ("port", "587"),
        ("security", "starttls"),
        ("userName", ""),
        ("password", ""),
        ("fromAddress", "bailiwick@acme.example"),
        ("fromName", "Bailiwick"),
        ("replyTo", ""),
        ("caPem", ""),
    ];
    assert_eq!(owner.post("/settings/mail", &fields).await.status(), 303);
}

async fn set_address(owner: &mut Browser) {
    assert_eq!(owner.post("/settings/mail/address", &[("baseUrl", BASE)]).await.status(), 303);
}

async fn set_contacts(app: &TestApp, account: AccountId, contacts: &serde_json::Value) {
    let api = app.api(&app.key(account, "full-access"));
    let (status, answer) = api.post(&format!("/api/accounts/{account}/contacts"), contacts).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn the_end_of_a_key_is_told_to_operations_and_to_whoever_answers_for_it_once() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    let operations = json!({"operations": ["ops@acme.example", "IDA@acme.example"], "general": ["all@acme.example"]});
    set_contacts(&app, app.account, &operations).await;
    let fields = [("alias", "reports"), ("role", "read-only"), ("expires", "90")];
    assert_eq!(owner.post("/api-keys", &fields).await.status(), 200);
    let warn = || async { api_keys::warn(&app.app.kernel).await.expect("warned") };
    app.forward(61 * DAY);
    let mut owner = app.signed_in().await;

    // Nothing is sent where no mail is set up, nor with a guessed host where the console has no address; told all the same.
    assert_eq!(warn().await, 1);
    assert_eq!(told(&app), []);
    set_mail_up(&mut owner).await;
    app.sql("UPDATE api_key SET warned_days = NULL");
    assert_eq!(warn().await, 1);
    assert_eq!(told(&app), [], "no link, no mail");
    set_address(&mut owner).await;
    app.sql("UPDATE api_key SET warned_days = NULL");
    assert_eq!(warn().await, 1);
    assert_eq!(told(&app), pairs(&[("key-expires", EMAIL), ("key-expires", "ops@acme.example")]));
    assert_eq!(warn().await, 0, "once");
    let mails = queue(&app);
    assert!(mails[0].subject.contains("reports"), "{mails:?}");
    let link = mails[0].text.lines().find(|line| line.starts_with("http")).expect("a link");
    assert!(link.starts_with(&format!("{BASE}/api-keys/")), "{link}");
    let mailed: Vec<_> =
        app.audited("audit.api_key_expires_soon.v1").iter().map(|record| record["mailed"].clone()).collect();
    assert_eq!(mailed, [json!(0), json!(0), json!(2)]);
}

#[tokio::test]
async fn general_contacts_hear_of_deletion_and_suspension_and_the_owner_of_the_wish_to_come_back() {
    let app = TestApp::start();
    let other = app.other_account("other", "boss@other.example");
    let mut owner = app.signed_in().await;
    let general = json!({"general": ["board@other.example", "it@other.example"], "operations": ["ops@other.example"]});
    set_contacts(&app, other.id, &general).await;
    set_mail_up(&mut owner).await;
    let suspend = format!("/appliance/accounts/{}/suspend", other.id);
    assert_eq!(owner.post(&suspend, &[]).await.status(), 303);
    let kinds = [("account-suspended", "board@other.example"), ("account-suspended", "it@other.example")];
    assert_eq!(told(&app), pairs(&kinds));
    assert!(queue(&app)[0].text.contains("Ida Marlow"), "{:?}", queue(&app)[0]);

    // Its users ask for it back: not mailed while the console has no address, and mailed once when it has one.
    let ask = || async {
        let mut asking = app.browser();
        let answer = asking.sign_in("boss@other.example", PASSWORD).await;
        assert_eq!(answer.status(), 403);
        let page = answer.text().await.expect("a page");
        let field = |name: &str| attribute(&page, &format!("input[name={name}]"), "value").expect("a field");
        let fields = ["csrf", "user", "account", "until", "seal"].map(|name| (name, field(name)));
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(asking.post_raw("/sign-in/restore", &fields, &[]).await.status(), 303);
    };
    ask().await;
    assert_eq!(told(&app).len(), 2, "no mail with a guessed host");
    set_address(&mut owner).await;
    app.sql("DELETE FROM mail_outbox; UPDATE account SET restore_asked_at = NULL, restore_asked_by = NULL");
    ask().await;
    ask().await;
    assert_eq!(told(&app), pairs(&[("restore-asked", EMAIL)]), "once, to the owner");
    let mail = &queue(&app)[0];
    assert!(mail.text.contains("boss@other.example") && mail.text.contains(&format!("{BASE}/appliance/accounts")));
    // And so from the console, by somebody who has another account to be in.
    app.sql(
        "DELETE FROM mail_outbox; UPDATE account SET restore_asked_at = NULL, restore_asked_by = NULL;
         INSERT INTO membership (user_id, account_id, role_id, created_at)
         SELECT u.id, a.id, 'read-only', 0 FROM user AS u, account AS a
         WHERE u.email = 'boss@other.example' AND a.alias = 'acme'",
    );
    let mut boss = app.signed_in_as("boss@other.example").await;
    app.sql("DELETE FROM mail_outbox WHERE kind <> 'restore-asked'");
    for _ in 0..2 {
        assert_eq!(boss.post("/accounts/restore", &[("account", &other.id.to_string())]).await.status(), 303);
    }
    assert_eq!(told(&app), pairs(&[("restore-asked", EMAIL)]), "once, to the owner");
    assert_eq!(app.audited("audit.account_restore_asked.v1").len(), 3, "once for each time that nobody had asked");
    app.sql("DELETE FROM membership WHERE role_id = 'read-only'");

    // Deleted by its own user.
    assert_eq!(owner.post(&format!("/appliance/accounts/{}/restore", other.id), &[]).await.status(), 303);
    app.sql("DELETE FROM mail_outbox");
    let mut boss = app.signed_in_as("boss@other.example").await;
    app.sql("DELETE FROM mail_outbox");
    assert_eq!(boss.post("/settings/account/delete", &[("confirm", "other")]).await.status(), 303);
    let kinds = [("account-suspended", "board@other.example"), ("account-suspended", "it@other.example")];
    assert_eq!(told(&app), pairs(&kinds));
    assert!(queue(&app)[0].text.contains("Deleted for good on"), "{:?}", queue(&app)[0]);
    app.assert_audit_verifies();
}

#[tokio::test]
async fn what_happens_does_not_wait_for_mail() {
    let app = TestApp::start();
    let other = app.other_account("other", "boss@other.example");
    set_contacts(&app, other.id, &json!({"general": ["board@other.example"]})).await;
    let mut boss = app.signed_in_as("boss@other.example").await;
    assert_eq!(boss.post("/settings/account/delete", &[("confirm", "other")]).await.status(), 303);
    assert_eq!(app.audited("audit.account_deleted.v1").len(), 1);
    assert_eq!(app.count("SELECT count(*) FROM mail_outbox"), 0);
    let metrics = app.browser().page("/metrics").await;
    let counted = metrics.lines().any(|line| {
        line.starts_with("bailiwick_notices_left_out_total") && line.contains("kind=\"account-suspended\"")
    });
    assert!(counted, "{metrics}");
}

#[tokio::test]
async fn a_new_owner_and_the_one_before_are_both_told() {
    let app = TestApp::start();
    app.add_user("next@acme.example", "full-access");
    let mut owner = app.signed_in().await;
    set_mail_up(&mut owner).await;
    let fields = [("email", "next@acme.example"), ("current", PASSWORD)];
    assert_eq!(owner.post("/appliance/owner", &fields).await.status(), 303);
    let kinds = [("ownership-confirmed", EMAIL), ("ownership-confirmed", "next@acme.example")];
    assert_eq!(told(&app), pairs(&kinds));
}

#[tokio::test]
async fn nothing_of_a_queued_mail_can_be_read_in_the_files() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    set_mail_up(&mut owner).await;
    set_address(&mut owner).await;
    let api = app.api(&app.key(app.account, "full-access"));
    let secret_person = "someone.secret@guest.example";
    let input = json!({"email": "invited@guest.example", "roleId": "read-only"});
    let (status, invited) = api.post("/api/invitations", &input).await;
    assert_eq!(status, 201, "{invited}");
    // A reset's address stands nowhere else in clear but with its user; a contact's does, so another one is taken.
    let (kernel, now) = (app.app.kernel.clone(), app.app.kernel.clock.now());
    let mail = bailiwick::notifications::TestMail { by: "Zebulon Quartz", at: now };
    let mail = mail.mail(secret_person, "en").expect("a mail");
    let key = kernel.key.clone();
    kernel.db.write(move |c| bailiwick::notifications::enqueue(c, &key, mail, now)).await.expect("queued");
    let link = queue(&app)[0].text.lines().find(|line| line.starts_with("http")).expect("a link").to_owned();
    let token = link.split_once("token=").expect("a token").1.to_owned();
    assert_eq!(queue(&app)[1].to, secret_person);
    let dir = app.dir.as_ref().expect("a folder");
    let mut read = 0;
    for entry in std::fs::read_dir(dir.path()).expect("a folder") {
        let path = entry.expect("an entry").path();
        if !path.is_file() {
            continue;
        }
        let bytes = std::fs::read(&path).expect("read");
        read += bytes.len();
        for clear in [token.as_str(), secret_person, "Zebulon Quartz", "Test mail from Bailiwick", "invites you to"] {
            let is_there = bytes.windows(clear.len()).any(|window| window == clear.as_bytes());
            assert!(!is_there, "{clear:?} stands in {}", path.display());
        }
    }
    assert!(read > 100_000, "{read}");
    // The page of the queue names the recipient and nothing else.
    let page = owner.page("/settings/mail").await;
    assert!(page.contains(secret_person) && !page.contains(&token));
}

#[tokio::test]
async fn links_and_examples_begin_with_the_address_of_the_settings() {
    let app = TestApp::start();
    let mut owner = app.signed_in().await;
    let key = |alias: &'static str| [("alias", alias), ("role", "read-only"), ("expires", "365")];
    let page = owner.post("/api-keys", &key("first")).await.text().await.expect("a page");
    assert!(page.contains("https://bailiwick.example.org/api/"), "an address that is nobody's: {page}");
    assert!(!page.contains(&app.base), "not where it was asked");
    assert!(!owner.page("/docs/api").await.contains(&app.base));
    set_address(&mut owner).await;
    let page = owner.post("/api-keys", &key("second")).await.text().await.expect("a page");
    assert!(page.contains(&format!("{BASE}/api/")), "{page}");
    let page = owner.page("/docs/api").await;
    assert!(page.contains(&format!("BAILIWICK_URL={BASE}")), "{page}");
}

#[tokio::test]
async fn set_email_at_the_machine_ends_sessions_and_mailed_links_and_is_on_the_record() {
    let app = TestApp::start();
    app.add_user("old@acme.example", "read-only");
    app.add_user("taken@acme.example", "read-only");
    let mut owner = app.signed_in().await;
    set_mail_up(&mut owner).await;
    set_address(&mut owner).await;
    let mut user = app.signed_in_as("old@acme.example").await;
    let change = [("email", "wanted@acme.example"), ("currentForEmail", PASSWORD)];
    assert_eq!(user.post("/profile/email", &change).await.status(), 303);
    assert_eq!(app.browser().post("/forgot-password", &[("email", "old@acme.example")]).await.status(), 200);
    // The mail is written behind the answer.
    for _ in 0..400 {
        if app.count("SELECT count(*) FROM user_token") == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(app.count("SELECT count(*) FROM user_token"), 2);
    let kernel = &app.app.kernel;
    let (account, now) = (app.account, kernel.clock.now());
    let machine = Principal::command_line("default", Some(account), "root");
    let set = |to: &'static str| {
        let write = move |c: &rusqlite::Connection| {
            let user = users::find_by_email(c, "old@acme.example")?.expect("the user");
            Ok(((), vec![users::set_email(c, "default", Some(account), &user, to, now)?]))
        };
        off(|| bailiwick::audit::change_blocking(kernel, &machine, write))
    };
    assert!(set("Taken@acme.example").is_err(), "another user's");
    assert_eq!(user.get("/profile").await.status(), 200, "nothing was changed");
    set("new@acme.example").expect("set");
    assert_eq!(user.get("/profile").await.status(), 303, "signed out");
    let is_live = "SELECT count(*) FROM user_token WHERE expires_at > ";
    assert_eq!(app.count(&format!("{is_live}{}", now.0)), 0, "links are dead");
    for mail in queue(&app).iter().filter(|mail| mail.kind == "password-reset") {
        let link = mail.text.lines().find_map(|line| line.strip_prefix(BASE)).expect("a link");
        assert_eq!(app.browser().get(link).await.status(), 404);
    }
    assert_eq!(app.browser().sign_in("old@acme.example", PASSWORD).await.status(), 422);
    app.signed_in_as("new@acme.example").await;
    let record = &app.audited("audit.user_email_changed.v1")[0];
    assert_eq!(record["changes"]["email"], json!({"before": "old@acme.example", "after": "new@acme.example"}));
    assert_eq!(record["sessionsEnded"], 1);
    app.assert_audit_verifies();
}
