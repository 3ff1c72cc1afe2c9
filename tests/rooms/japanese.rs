//! The console speaks the reader's language: a user's by the profile, a stranger's by the browser.

use regex::Regex;
use reqwest::header;
use scraper::Html;

use super::{Browser, EMAIL, PASSWORD, TestApp, attribute, text};

/// Words that stay as they are: names of products, parts and standards, identifiers and units.
const NAMES: &str = r"(?x)\b(?:
    Android|iOS|TOTP|JavaScript|
    nora@guest|name@example\.org|One\ More|read-only-\d|full-access-\d|helpdesk-oslo|
    Bailiwick|API|AWS|LDAPS?|OpenLDAP|Active|Directory|StartTLS|TLS|DNS?|UPN|URN|CA|SHA|RFC|CSV|JSON|ID|UTC|IP|PEM|DNs?|
    Syncrepl|syncrepl|syncprov|DirSync|NTP|SID|OU|CN|RID|cron|Ctrl|ida|acme|example|com|ldaps?|ldap|dc1?|ad|Ida|Marlow|
    Staff|Archive|Locked|Missing|English|Windows|Kerberos|krbtgt|Administrators?|Domain|Enterprise|Admins|
    nsAccountLock|loginDisabled|loginShell|pwdAccountLockedTime|pwdReset|TRUE|usr|sbin|nologin|reader|cn|dc|DC|Services|
    EXAMPLE|objectGUID|entryUUID|inetOrgPerson|groupOfNames|groupOfUniqueNames|posixAccount|posixGroup|Europe|Berlin|
    member|uniqueMember|memberUid|objectClass|person|uid|mail|displayName|givenName|sn|employeeNumber|departmentNumber|
    title|manager|user|bailiwick|audit|verify|urn|identity|identities|default|full|read|v1|MiB|KiB|Version|directory|
    session|auth|account|service|scheduler|Oslo|Mar|PATH|Europe|
    STARTTLS|SMTP|HTTPS?|https|smtp|globex|gone|Firefox|curl|Python|OpenAPI|helpdesk|corp|ticket|bot|default|base_url
)\b";

/// The texts of a page that a reader sees or hears and that hold words of English.
fn english_left_on(page: &str) -> Vec<String> {
    let names = Regex::new(NAMES).unwrap();
    let words = Regex::new(r"[A-Za-z]{3,}").unwrap();
    let document = Html::parse_document(page);
    let mut left = Vec::new();
    let mut look = |text: &str| {
        if words.is_match(&names.replace_all(text, "")) {
            left.push(text.trim().to_owned());
        }
    };
    for node in document.tree.nodes() {
        if let Some(text) = node.value().as_text() {
            // Names and texts of people and directories, code, ids; and times, which the script writes.
            let is_data = node.ancestors().filter_map(|up| up.value().as_element()).any(|element| {
                ["bdi", "code", "pre", "time", "script", "style", "option", "textarea", "kbd", "del", "ins"]
                    .contains(&element.name())
                    && (element.name() != "option" || element.attr("value").is_some_and(|value| value.contains('/')))
                    || element.attr("translate") == Some("no")
                    || element.classes().any(|class| class == "mono" || class == "trunc")
            });
            if !is_data {
                look(text);
            }
        }
        if let Some(element) = node.value().as_element() {
            for name in ["title", "aria-label", "placeholder", "alt", "data-label", "data-announce"] {
                let is_sample = element.attr("translate") == Some("no")
                    || element.classes().any(|class| class == "input--mono" || class == "trunc");
                if let Some(value) = element.attr(name).filter(|_| !is_sample) {
                    look(value);
                }
            }
        }
    }
    left
}

/// Two directories with runs of each state, one of them failing, and objects whose names are words of the dictionary.
fn app() -> TestApp {
    let app = TestApp::start();
    app.sql(
        "INSERT INTO directory (id, account_id, kind, name, settings, read_credentials, schedule, guard, applied_run_id,
                                applied_at, identity_count, group_count, created_at, updated_at)
         SELECT 1, id, 'openldap', 'Locked', '{\"servers\": [\"ldaps://ldap.example.com\"], \"baseDns\": [\"dc=example\"]}',
                zeroblob(0), '{\"full\": {\"every\": \"1h\"}, \"delta\": {\"every\": \"5m\"}}', '{}', 1,
                unixepoch('2026-03-01T08:30:00Z') * 1000000, 3, 1, 0, 0 FROM account
         UNION ALL SELECT 2, id, 'active-directory', 'Missing', '{}', zeroblob(0), '{}', '{}', NULL, NULL, 0, 0, 0, 0 FROM account;
         INSERT INTO run (id, account_id, directory_id, mode, requested_by, state, settings_hash, added, missing, started_at,
                          planned_at, apply_at, finished_at)
         SELECT 1, id, 1, 'full', 'urn:x:service/scheduler', 'applied', '', 4, 1, unixepoch('2026-03-01T08:29:30Z') * 1000000,
                unixepoch('2026-03-01T08:30:00Z') * 1000000, unixepoch('2026-03-01T08:30:00Z') * 1000000,
                unixepoch('2026-03-01T08:30:12Z') * 1000000 FROM account;
         INSERT INTO run (id, account_id, directory_id, mode, requested_by, state, settings_hash, reason, next_step, failure_kind,
                          started_at, finished_at)
         SELECT 2, id, 1, 'delta', 'urn:x:service/live', 'failed', '',
                'ldaps://ldap.example.com closed the connection in the middle.',
                'Check that the LDAP server is running and that no firewall cuts long connections, then run again.', 'connection-lost',
                unixepoch('2026-03-03T08:30:00Z') * 1000000, unixepoch('2026-03-03T08:31:04Z') * 1000000 FROM account",
    );
    app
}

async fn japanese(app: &TestApp) -> Browser {
    let mut browser = app.signed_in().await;
    let fields = [("name", "Ida Marlow"), ("locale", "ja"), ("timeZone", ""), ("theme", "auto")];
    assert_eq!(browser.post("/profile", &fields).await.status(), 303);
    browser
}

#[tokio::test]
async fn no_english_is_left_on_the_pages_of_a_japanese_user() {
    let app = app();
    let mut browser = japanese(&app).await;
    let mut left = Vec::new();
    for path in [
        "/",
        "/directories",
        "/directories/1",
        "/directories/2",
        "/directories/new",
        "/directories/new?kind=active-directory",
        "/directories/1/edit",
        "/directories/1/remove",
        "/runs",
        "/runs?state=failed",
        "/runs?state=parked",
        "/runs/1",
        "/runs/2",
        "/identities",
        "/identities?q=q9",
        "/identities?status=locked",
        "/identities?asOf=2001-01-01T00:00:00Z",
        "/groups",
        "/groups?q=q9",
        "/tasks",
        "/tasks/rules",
        "/logs",
        "/logs?result=denied",
        "/tasks/new",
    ] {
        let page = browser.page(path).await;
        assert_eq!(attribute(&page, "html", "lang").as_deref(), Some("ja"), "{path}");
        left.extend(english_left_on(&page).into_iter().map(|text| format!("{path}: {text}")));
    }
    let answer = browser.get("/runs/999").await;
    assert_eq!(answer.status(), 404);
    let page = answer.text().await.expect("a page");
    assert_eq!(text(&page, "h1"), "見つかりません");
    left.extend(english_left_on(&page).into_iter().map(|text| format!("/runs/999: {text}")));
    let page = browser.page("/logs?type=audit.user_updated.v1").await;
    let page = browser.page(&attribute(&page, "tbody th a", "href").expect("a record")).await;
    assert!(text(&page, "h1").contains("ユーザーの更新"), "{page}");
    assert!(left.is_empty(), "{} texts:\n  {}", left.len(), left.join("\n  "));
}

/// The paths that a table of a page links to.
fn linked(page: &str, begin: &str) -> Vec<String> {
    let selector = scraper::Selector::parse("main tbody th a").expect("a selector");
    let document = Html::parse_document(page);
    let links = document.select(&selector).filter_map(|link| link.attr("href")).map(str::to_owned);
    links.filter(|path| path.starts_with(begin)).collect()
}

#[tokio::test]
async fn no_english_is_left_on_the_pages_of_users_roles_keys_and_settings() {
    let app = app();
    app.add_user("one@acme.example", "operator");
    app.other_account("globex", "root@globex.example");
    app.key(app.account, "read-only");
    let full = app.api(&app.key(app.account, "full-access"));
    let role = serde_json::json!({"id": "helpdesk", "name": "Missing", "description": "Locked", "services": {"directories": "read"},
                                  "scope": {"directories": ["1"], "units": [{"directoryId": "1", "dn": "OU=Oslo,DC=example,DC=com"}]}});
    let made = full.post("/api/roles", &role).await;
    assert_eq!(made.0, 201, "{}", made.1);
    app.sql(
        "INSERT INTO account (id, alias, region, state, created_at, suspended_at, purge_at, restore_asked_at)
         SELECT 900000000000, 'gone', region, 'suspended', created_at, created_at, created_at, created_at
         FROM account WHERE alias = 'acme'",
    );
    let mut browser = japanese(&app).await;
    let mut pages: Vec<(String, String)> = Vec::new();
    let mut paths: Vec<String> = [
        "/users",
        "/users?q=q9",
        "/roles",
        "/roles/new",
        "/roles/new?from=operator",
        "/roles/operator",
        "/roles/helpdesk",
        "/invitations",
        "/invitations?state=expired",
        "/invitations/new",
        "/accounts",
        "/accounts/new",
        "/settings/account",
        "/settings/account/delete",
        "/settings/contacts",
        "/settings/mail",
        "/appliance/accounts",
        "/appliance/owner",
        "/api-keys",
        "/api-keys?q=q9",
        "/api-keys/new",
        "/profile",
        "/profile/mfa",
        "/profile/mfa/app",
        "/profile/mfa/passkey",
        "/settings/mfa",
        "/sign-in/apps",
        "/sign-in/continue",
    ]
    .map(str::to_owned)
    .to_vec();
    // What a form answers: refusals, what is shown once, and the messages of what was done.
    let invite = [("email", "nora@guest.example"), ("roleId", "operator"), ("expiresInDays", "7")];
    let key = [("alias", "Missing"), ("role", "read-only"), ("expires", "30"), ("allowed", "10.0.0.0/8")];
    let account = [
        ("alias", "!"),
        ("locale", "xx"),
        ("timeZone", "x"),
        ("sessionIdleMinutes", "1"),
        ("sessionMaxHours", "99"),
        ("historyDays", "1"),
    ];
    let server = [("host", "smtp.example.com"), ("port", ""), ("security", "none"), ("fromAddress", "a@example.com")];
    let forms: &[(&str, &[(&str, &str)])] = &[
        ("/invitations", &invite),
        ("/invitations", &invite),
        ("/invitations", &[("email", "x"), ("roleId", "x"), ("expiresInDays", "99")]),
        ("/api-keys", &key),
        ("/api-keys", &key),
        ("/api-keys", &[("alias", ""), ("role", ""), ("expires", "x"), ("allowed", "x")]),
        ("/api-keys/setting", &[("keysMayAdminister", "on")]),
        ("/roles", &[("id", "X"), ("name", ""), ("for", "part")]),
        ("/roles", &[("id", "auditor"), ("name", "x"), ("level-audit", "read"), ("for", "account")]),
        ("/roles/look-up", &[("find", "q9"), ("for", "part")]),
        ("/settings/account", &account),
        ("/settings/account/delete", &[("confirm", "x")]),
        ("/settings/contacts", &[("billing", "x"), ("operations", ""), ("general", "a@example.com")]),
        ("/settings/mail/address", &[("baseUrl", "x")]),
        ("/settings/mail/address", &[("baseUrl", "https://bailiwick.example.com")]),
        ("/settings/mail", &server),
        ("/settings/mfa", &[("mfa", "required")]),
        ("/profile/mfa/app", &[("id", "x"), ("name", ""), ("code", "1")]),
        ("/profile/mfa/codes", &[]),
        ("/profile/password", &[("current", "x"), ("new", "short")]),
        ("/profile/email/verify", &[]),
        ("/appliance/owner", &[("email", "nobody@acme.example"), ("current", PASSWORD)]),
        ("/appliance/accounts", &[("accountsPerUser", "x")]),
    ];
    for &(path, fields) in forms {
        let answer = browser.post(path, fields).await;
        let status = answer.status().as_u16();
        assert!([200, 303, 409, 422].contains(&status), "{path}: {status}");
        match answer.headers().get(header::LOCATION).map(|to| to.to_str().expect("ASCII").to_owned()) {
            Some(to) => pages.push((format!("{path} → {to}"), browser.page(&to).await)),
            None => pages.push((format!("POST {path}"), answer.text().await.expect("a page"))),
        }
    }
    for list in ["/users", "/api-keys", "/invitations"] {
        let page = browser.page(list).await;
        let found = linked(&page, list);
        assert!(!found.is_empty(), "{list}");
        for path in found {
            match list {
                "/users" => paths.push(format!("{path}/remove")),
                "/api-keys" => paths.push(format!("{path}/rotate")),
                _ => {}
            }
            paths.push(path);
        }
    }
    let keys = linked(&browser.page("/api-keys").await, "/api-keys");
    let users = linked(&browser.page("/users").await, "/users");
    let key = keys.last().expect("a key");
    let locked = browser.post(&format!("{key}/lock-out"), &[]).await;
    assert_eq!(locked.status(), 303);
    let secret = attribute(&browser.page(&format!("{key}/rotate")).await, "input[name=secret]", "value");
    let fields = [("overlap", "24"), ("secret", secret.as_deref().expect("the secret that is replaced"))];
    let rotated = browser.post(&format!("{key}/rotate"), &fields).await;
    pages.push(("a rotated key".to_owned(), rotated.text().await.expect("a page")));
    for user in users {
        let answer = browser.post(&format!("{user}/reset-link"), &[]).await;
        if answer.status() == 200 {
            pages.push(("a link for a new password".to_owned(), answer.text().await.expect("a page")));
        }
    }
    let links = pages.iter().filter(|(path, _)| path == "a link for a new password").count();
    assert_eq!(links, 1, "of everybody but the reader");
    paths.push(format!("/appliance/accounts/{}/suspend", app.account));
    for path in paths {
        let page = browser.page(&path).await;
        pages.push((path, page));
    }
    let mut left = Vec::new();
    for (path, page) in &pages {
        assert_eq!(attribute(page, "html", "lang").as_deref(), Some("ja"), "{path}");
        left.extend(english_left_on(page).into_iter().map(|text| format!("{path}: {text}")));
    }
    let page = browser.page("/docs/api").await;
    assert_eq!(text(&page, "#begin h2"), "はじめに", "the frame of the reference is translated");
    assert!(left.is_empty(), "{} texts:\n  {}", left.len(), left.join("\n  "));

    let page = browser.page("/roles").await;
    assert!(page.contains("<bdi>Missing</bdi>") && page.contains("<bdi>オペレーター</bdi>"), "{page}");
    let page = browser.page("/roles/helpdesk").await;
    assert_eq!((text(&page, "h1"), text(&page, "title")), ("Missing".into(), "Missing · Bailiwick".into()));
    let page = browser.page("/roles/operator").await;
    assert_eq!(attribute(&page, "#name", "value").as_deref(), Some("オペレーター"));
    let page = browser.page("/invitations/new").await;
    assert!(text(&page, "label[for=roleId-helpdesk]").starts_with("Missing"), "{page}");
}

/// The pages that strangers see, as a browser gets them that asks for Japanese.
#[tokio::test]
async fn no_english_is_left_on_the_pages_of_japanese_strangers() {
    let dir = tempfile::tempdir().expect("a folder");
    let app =
        TestApp::start_in(dir, |config| config.base_url = Some("https://id.acme.example/".parse().expect("a URL")));
    app.add_first();
    let account = app.app.kernel.db.read_blocking(bailiwick::accounts::list).expect("accounts")[0].id;
    let api = app.api(&app.key(account, "full-access"));
    let invitation = serde_json::json!({"email": "nora@guest.example", "roleId": "operator"});
    let (_, new) = api.post("/api/invitations", &invitation).await;
    let invitation = serde_json::json!({"email": EMAIL, "roleId": "operator"});
    let other = app.other_account("globex", "root@globex.example");
    let (_, known) = app.api(&app.key(other.id, "full-access")).post("/api/invitations", &invitation).await;
    let link = |made: &serde_json::Value| {
        let link = made["link"].as_str().expect("a link");
        link.strip_prefix("https://id.acme.example").expect("a link to here").to_owned()
    };
    app.sql(
        "INSERT INTO mail_server (id, host, port, security, from_address, from_name, reply_to, user_name, ca_pem, updated_at)
         VALUES (1, 'smtp.invalid', 587, 'starttls', 'a@acme.example', '', '', '', '', 0)",
    );
    let japanese = [("accept-language", "ja")];
    let mut left = Vec::new();
    let mut take = |path: &str, page: &str| {
        assert_eq!(attribute(page, "html", "lang").as_deref(), Some("ja"), "{path}");
        left.extend(english_left_on(page).into_iter().map(|text| format!("{path}: {text}")));
    };
    for path in [
        "/sign-in",
        "/forgot-password",
        "/reset-password?token=x",
        "/verify-email?token=x",
        "/invitation?token=x",
        &link(&new),
        &link(&known),
        "/setup",
    ] {
        let browser = app.browser();
        let request = browser.http.get(format!("{}{path}", browser.base)).header(header::ACCEPT_LANGUAGE, "ja");
        let page = request.send().await.expect("an answer").text().await.expect("a page");
        take(path, &page);
        if path == link(&new) {
            let chosen = attribute(&page, "select[name=locale] option[selected]", "value");
            assert_eq!(chosen.as_deref(), Some("ja"), "a newcomer is offered the language they read");
        }
    }
    let mut browser = app.browser();
    let csrf = browser.token("/sign-in").await;
    let fields = [("csrf", csrf.as_str()), ("email", EMAIL), ("password", "wrong"), ("next", "")];
    let wrong = browser.post_raw("/sign-in", &fields, &japanese).await;
    assert_eq!(wrong.status(), 422);
    take("a wrong password", &wrong.text().await.expect("a page"));
    let asked = browser.post_raw("/forgot-password", &fields[..2], &japanese).await;
    assert_eq!(asked.status(), 200);
    take("a forgotten password", &asked.text().await.expect("a page"));
    app.sql("UPDATE account SET state = 'suspended', suspended_at = 0, purge_at = 1");
    let fields = [("csrf", csrf.as_str()), ("email", EMAIL), ("password", PASSWORD), ("next", "")];
    let suspended = browser.post_raw("/sign-in", &fields, &japanese).await;
    assert_eq!(suspended.status(), 403);
    let page = suspended.text().await.expect("a page");
    assert_eq!(text(&page, "h1"), "アカウント acme は停止されています");
    take("a suspended account", &page);
    assert!(left.is_empty(), "{} texts:\n  {}", left.len(), left.join("\n  "));
}

#[tokio::test]
async fn what_people_named_is_not_translated() {
    let app = app();
    let mut browser = japanese(&app).await;
    let page = browser.page("/directories").await;
    assert!(text(&page, "tbody th").contains("Locked"), "{page}");
    let page = browser.page("/directories/1").await;
    assert_eq!((text(&page, "h1"), text(&page, "title")), ("Locked".into(), "Locked · Bailiwick".into()));
    let page = browser.page("/runs/1").await;
    assert_eq!(text(&page, "h1"), "Locked の実行");
    let page = browser.page("/runs").await;
    assert!(text(&page, "#f-directory").contains("Locked"), "{page}");
}

#[tokio::test]
async fn a_message_and_a_fault_are_japanese_and_the_record_of_them_is_english() {
    let app = app();
    let mut browser = japanese(&app).await;
    assert!(text(&browser.page("/profile").await, ".notice").contains("プロファイルを保存しました。"));
    let answer = browser.post("/directories/1/remove", &[("confirm", "Lock")]).await;
    assert_eq!(answer.status(), 422);
    let page = answer.text().await.expect("a page");
    assert_eq!(text(&page, "#confirm-error"), "ディレクトリの名前と一致しません。何も削除されていません。");
    let api = app.api(&app.key(app.account, "read-only"));
    let (_, run) = api.get("/api/runs/2").await;
    assert!(run["reason"].as_str().is_some_and(|reason| reason.contains("closed the connection")), "{run}");
    let page = browser.page("/runs/2").await;
    assert!(page.contains("ldaps://ldap.example.com が途中で接続を閉じました。"), "{page}");
}

#[tokio::test]
async fn a_stranger_is_answered_in_the_language_of_the_browser() {
    let app = TestApp::start();
    let browser = app.browser();
    for (accepted, lang, title) in [
        ("ja,en;q=0.8", "ja", "サインイン · Bailiwick"),
        ("en-US,ja;q=0.3", "en", "Sign in · Bailiwick"),
        ("de", "en", "Sign in · Bailiwick"),
    ] {
        let request = browser.http.get(format!("{}/sign-in", browser.base)).header(header::ACCEPT_LANGUAGE, accepted);
        let page = request.send().await.expect("an answer").text().await.expect("a page");
        assert_eq!(attribute(&page, "html", "lang").as_deref(), Some(lang), "{accepted}");
        assert_eq!(text(&page, "title"), title);
        let request = browser.http.get(format!("{}/nowhere", browser.base)).header(header::ACCEPT_LANGUAGE, accepted);
        let page = request.send().await.expect("an answer").text().await.expect("a page");
        assert_eq!(attribute(&page, "html", "lang").as_deref(), Some(lang), "{accepted}");
    }
    assert_eq!(app.browser().sign_in(EMAIL, PASSWORD).await.status(), 303, "the profile's language holds from here on");
}
