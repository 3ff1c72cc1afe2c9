//! What an account owns: its export, and that nothing of it is left when it is gone.
//!
//! Both are checked against the schema and not against a list of what somebody thought of: a new table fails here until it
//! is exported or left out with a reason, and until there is a row of it that a purge has to find.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick::{
    accounts, app,
    clock::DAY,
    identities::{SubjectType, handles},
    principal::AccountId,
    secret,
};
use reqwest::header;
use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::{EMAIL, PASSWORD, TestApp, off, text};

/// Tables that are no account's: an export has nothing of them, and a purge leaves them alone.
const OF_NO_ACCOUNT: &[(&str, &str)] = &[
    ("appliance", "the appliance itself"),
    ("audit_head", "the end of the appliance's one chain"),
    ("user", "users are global and stay; what an account knows of them is in its memberships"),
    ("user_token", "links of users, who stay"),
    ("password_rule", "a setting of the appliance"),
    ("sign_in_attempt", "counters by hash, gone within a day"),
    ("journey", "sign-ins of users on their way, gone within ten minutes"),
    ("totp_device", "of users, who stay"),
    ("passkey", "of users, who stay"),
    ("passkey_challenge", "of users, gone within two minutes"),
    ("recovery_code", "of users, who stay"),
    ("recovery_set", "of users, who stay"),
    ("factor_attempt", "of users, gone within a day"),
    ("known_browser", "of users, who stay"),
    ("idempotency_key", "answers by hash, gone within a day"),
    ("mail_server", "a setting of the appliance"),
    ("console_address", "a setting of the appliance"),
    ("mail_outbox", "mails to addresses, which may be anybody's; gone after 30 days"),
    ("object_number", "one counter for all"),
    ("sqlite_sequence", "the database's own counters"),
];

/// Tables of an account that say nothing which other rows of its export do not say.
const WORKED_OUT: &[(&str, &str)] = &[
    ("object", "numbers of the identities and groups, with a hash of what the directory said"),
    ("handle", "hashes that objects are looked up by"),
    ("identity_text", "the search over identities"),
    ("group_text", "the search over groups"),
    ("part_mark", "up to where parts are worked out"),
    ("part_object", "which objects lie in which part"),
    ("drift_mark", "up to which run was looked for drift"),
    ("invitation_sending", "how often somebody sent, for an hour"),
];

/// Columns of exported tables that stay here.
const KEPT_BACK: &[(&str, &str, &str)] = &[
    ("account", "is_purging", "it is only true when there is nobody left to export it"),
    ("api_key", "secret_hash", "secret"),
    ("api_key", "previous_hash", "secret"),
    ("session", "token_hash", "secret"),
    ("invitation", "token_hash", "secret"),
    ("directory", "read_credentials", "secret, sealed"),
    ("directory", "act_credentials", "secret, sealed"),
    ("run", "preview_credentials", "secret, sealed"),
    ("identity", "dn_key", "a hash for looking up"),
    ("identity", "name_key", "a hash for looking up"),
    ("identity", "sort_key", "the name, folded for sorting"),
    ("directory_group", "dn_key", "a hash for looking up"),
    ("directory_group", "sort_key", "the name, folded for sorting"),
    ("reference", "key", "a hash for looking up"),
    ("staged", "source", "a hash of what the directory said"),
    ("staged", "dn_key", "a hash for looking up"),
    ("staged", "name_key", "a hash for looking up"),
    ("staged", "sort_key", "the name, folded for sorting"),
    ("staged", "search_text", "the names, folded for searching"),
];

/// What must not stand in any export, whatever it is called in its table.
const SECRET: &str = "never-to-be-exported";

fn names(c: &Connection, sql: &str) -> Vec<String> {
    let mut statement = c.prepare(sql).expect("a statement");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<rusqlite::Result<_>>().expect("names")
}

/// All tables but the insides of full-text indexes.
fn tables(c: &Connection) -> BTreeSet<String> {
    let all = names(c, "SELECT name FROM sqlite_master WHERE type = 'table'");
    let inside = |name: &String| ["identity_text_", "group_text_"].iter().any(|start| name.starts_with(start));
    all.into_iter().filter(|name| !inside(name)).collect()
}

fn reading<T: Send>(app: &TestApp, f: impl FnOnce(&Connection) -> T + Send) -> T {
    off(|| app.app.kernel.db.read_blocking(|c| Ok(f(c)))).expect("read")
}

fn exported(app: &TestApp) -> BTreeMap<&'static str, &'static str> {
    let belongings = app::owned(&app.app.kernel);
    belongings.rooms.iter().flat_map(|room| room.tables).map(|table| (table.name, table.sql)).collect()
}

#[tokio::test]
async fn no_table_and_no_column_of_the_schema_is_unknown_to_the_export() {
    let app = TestApp::start();
    let exported = exported(&app);
    let schema = reading(&app, |c| {
        let of = |name: &String| (name.clone(), names(c, &format!("SELECT name FROM pragma_table_info('{name}')")));
        tables(c).iter().map(of).collect::<BTreeMap<_, _>>()
    });
    let left_out: BTreeSet<&str> = OF_NO_ACCOUNT.iter().chain(WORKED_OUT).map(|(name, _)| *name).collect();
    for (name, columns) in &schema {
        let is_exported = exported.contains_key(name.as_str());
        assert_ne!(
            is_exported,
            left_out.contains(name.as_str()),
            "{name}: name it in its room's owned.rs, or in here with the reason why it is left out"
        );
        if !is_exported {
            continue;
        }
        let sql = exported[name.as_str()];
        let shown: BTreeSet<String> = reading(&app, |c| {
            let statement = c.prepare(sql).expect("a statement");
            statement.column_names().map(|name| name.trim_end_matches(":json").to_owned()).collect()
        });
        for column in columns {
            let is_kept_back = KEPT_BACK.iter().any(|(table, kept, _)| table == name && kept == column);
            assert_ne!(shown.contains(column), is_kept_back, "{name}.{column}: export it, or say in here why not");
        }
    }
    // Nothing is left out that is not there any more.
    for name in left_out.iter().chain(exported.keys()) {
        assert!(schema.contains_key(*name), "there is no table {name}");
    }
    for (table, column, _) in KEPT_BACK {
        assert!(schema[*table].iter().any(|known| known == column), "there is no {table}.{column}");
    }
}

/// A row in every table that an account can own, as its room would write it.
fn fill(c: &Connection, account: AccountId, directory: i64) {
    let secret_hash = |what: &str| secret::sha256(format!("{what}{account}").as_bytes()).to_vec();
    let (person, group) = (directory * 10 + 1, directory * 10 + 2);
    let user: String = c
        .query_row("SELECT user_id FROM membership WHERE account_id = ?1", [account], |row| row.get(0))
        .expect("a user");
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        c.execute(sql, values).unwrap_or_else(|e| panic!("{sql}: {e}"));
    };
    run(
        "INSERT INTO contact (account_id, list, position, email) VALUES (?1, 'general', 1, 'a@b.example')",
        &[&account],
    );
    run(
        "INSERT INTO session (token_hash, id, user_id, account_id, created_at, method, proved_at, last_seen_at, address, user_agent)
         VALUES (?1, 's' || ?2, ?3, ?2, 1, 'password', 1, 1, '192.0.2.1', 'x')",
        &[&secret_hash("session"), &account, &user],
    );
    run(
        "INSERT INTO role (account_id, id, name, description, services, created_at, updated_at)
         VALUES (?1, 'desk', 'Desk', '', '{\"audit\":\"read\"}', 1, 1)",
        &[&account],
    );
    run("INSERT INTO role_mfa (account_id, role_id, mfa_rule) VALUES (?1, 'desk', 'required')", &[&account]);
    run(
        "INSERT INTO invitation (id, account_id, email, email_folded, role_id, state, token_hash, is_mailed, invited_by,
                                 inviter_name, lifetime_days, created_at, last_sent_at, sent_count, expires_at)
         VALUES ('i' || ?1, ?1, 'n@b.example', 'n@b.example', 'desk', 'invited', ?2, 0, 'urn', 'Ida', 7, 1, 1, 1, 9)",
        &[&account, &secret_hash("invitation")],
    );
    run("INSERT INTO invitation_sending (sender, sent_at) VALUES (?1 || '/x', 1)", &[&account]);
    run(
        "INSERT INTO api_key (id, account_id, alias, role_id, secret_hash, secret_start, shown_to, previous_hash,
                              previous_start, previous_shown_to, previous_ends_at, created_at)
         VALUES ('k' || ?1, ?1, 'key', 'desk', ?2, 'abcd', 'x', ?2, 'abcd', 'x', 9, 1)",
        &[&account, &secret_hash("key")],
    );
    run("INSERT INTO api_key_setting (account_id, may_administer) VALUES (?1, 1)", &[&account]);
    run(
        "INSERT INTO directory (id, account_id, kind, name, settings, read_credentials, act_credentials, schedule, guard,
                                created_at, updated_at)
         VALUES (?1, ?2, 'openldap', 'People', '{}', ?3, ?3, '{}', '{}', 1, 1)",
        &[&directory, &account, &SECRET.as_bytes()],
    );
    run(
        "INSERT INTO run (id, account_id, directory_id, mode, requested_by, state, settings_hash, started_at,
                          preview_credentials)
         VALUES (?1, ?2, ?1, 'full', 'urn', 'failed', 'x', 1, ?3)",
        &[&directory, &account, &SECRET.as_bytes()],
    );
    run("INSERT INTO quarantine (directory_id, run_id, name, reason) VALUES (?1, ?1, 'x', 'no id')", &[&directory]);
    run(
        "INSERT INTO schedule_entry (job, subject, spec) VALUES ('directory-full', ?1, '{\"every\":\"1h\"}')",
        &[&directory.to_string()],
    );
    for (id, kind, subject) in [(person, 1, SubjectType::Identity), (group, 2, SubjectType::Group)] {
        let external = format!("external-{id}");
        run(
            "INSERT INTO object (id, directory_id, kind, external_id, source) VALUES (?1, ?2, ?3, ?4, x'00')",
            &[&id, &directory, &kind, &external],
        );
        let (head, rest) = handles::of_id(directory, subject, &external).halves();
        run(
            "INSERT INTO handle (head, rest, object_id, directory_id) VALUES (?1, ?2, ?3, ?4)",
            &[&head, &rest, &id, &directory],
        );
        run(
            "INSERT INTO past (object_id, until_at, since_at, directory_id, kind, sort_key) VALUES (?1, 2, 1, ?2, ?3, 'x')",
            &[&id, &directory, &kind],
        );
    }
    run(
        "INSERT INTO identity (id, directory_id, external_id, user_name, sort_key, status, fields, first_seen_at,
                               changed_at, listed_since_at)
         VALUES (?1, ?2, 'external-' || ?1, 'anna', 'anna', 'active', '{\"title\":\"Dr\"}', 1, 1, 1)",
        &[&person, &directory],
    );
    run("INSERT INTO identity_text (rowid, text, directory, status) VALUES (?1, 'anna', 'd1', 'active')", &[&person]);
    run(
        "INSERT INTO directory_group (id, directory_id, external_id, member_count, name, sort_key, fields, first_seen_at,
                                      changed_at, listed_since_at)
         VALUES (?1, ?2, 'external-' || ?1, 1, 'staff', 'staff', '{}', 1, 1, 1)",
        &[&group, &directory],
    );
    run("INSERT INTO group_text (rowid, text, directory) VALUES (?1, 'staff', 'd1')", &[&group]);
    run(
        "INSERT INTO member (group_id, until_at, member_id, since_at) VALUES (?1, 9223372036854775807, ?2, 1)",
        &[&group, &person],
    );
    run("INSERT INTO reference (directory_id, key, text) VALUES (?1, x'01', 'cn=gone')", &[&directory]);
    run(
        "INSERT INTO change (id, run_id, subject_type, subject_id, kind) VALUES (?1 * 10, ?1, 1, ?2, 'added')",
        &[&directory, &person],
    );
    run(
        "INSERT INTO plan (run_id, directory_id, first_change, last_change) VALUES (?1, ?1, ?1 * 10, ?1 * 10)",
        &[&directory],
    );
    run(
        "INSERT INTO staged (run_id, object_id, kind, is_new, external_id, source, name, sort_key, account_type,
                             is_privileged, fields, search_text)
         VALUES (?1, ?2, 1, 1, 'e', x'00', 'anna', 'anna', 0, 0, '{}', 'anna')",
        &[&directory, &person],
    );
    run("INSERT INTO history_edge (account_id, from_at) VALUES (?1, 1)", &[&account]);
    run("INSERT INTO part (id, account_id, scope, used_at) VALUES (?1, ?2, '{}', 1)", &[&directory, &account]);
    run("INSERT INTO part_mark (part_id, directory_id, run_id) VALUES (?1, ?1, ?1)", &[&directory]);
    run(
        "INSERT INTO part_object (part_id, object_id, why, directory_id) VALUES (?1, ?2, 1, ?1)",
        &[&directory, &person],
    );
    run(
        "INSERT INTO enforcement_request (id, account_id, action, reason, requested_by, requester, requested_at, state)
         VALUES (?1, ?2, 'disable', 'left', 'urn', 'urn', 1, 'successful')",
        &[&directory, &account],
    );
    run(
        "INSERT INTO task (request_id, account_id, directory_id, identity_id, external_id, name, user_name, action, state)
         VALUES (?1, ?2, ?1, ?3, 'e', 'Anna', 'anna', 'disable', 'observed')",
        &[&directory, &account, &person],
    );
    run(
        "INSERT INTO protection (account_id, kind, directory_id, object_id, name, note, created_by, created_at)
         VALUES (?1, 'identity', ?2, ?3, 'Anna', '', 'urn', 1)",
        &[&account, &directory, &person],
    );
    run("INSERT INTO two_person_rule (account_id, for_privileged, updated_at) VALUES (?1, 1, 1)", &[&account]);
    run("INSERT INTO drift_mark (directory_id, run_id) VALUES (?1, ?1)", &[&directory]);
}

fn filled(app: &TestApp, account: AccountId, directory: i64) {
    let write = move |c: &Connection| {
        c.execute("DELETE FROM contact WHERE account_id = ?1", params![account])?;
        fill(c, account, directory);
        Ok(())
    };
    off(|| app.app.kernel.db.write_blocking(write)).expect("filled");
}

fn counts(app: &TestApp) -> BTreeMap<String, i64> {
    reading(app, |c| {
        let count = |name: &String| {
            let sql = format!("SELECT count(*) FROM \"{name}\"");
            (name.clone(), c.query_row(&sql, [], |row| row.get(0)).expect("counted"))
        };
        tables(c).iter().map(count).collect()
    })
}

/// The lines of an export, whose end was checked.
fn lines(export: &str) -> Vec<Value> {
    let (before, last) = export.trim_end().rsplit_once('\n').expect("lines");
    let end: Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(end["sha256"], secret::encode_hex(&secret::sha256(format!("{before}\n").as_bytes())));
    let lines: Vec<Value> = before.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut found: BTreeMap<&str, u64> = BTreeMap::new();
    for line in lines.iter().skip(1) {
        *found.entry(line["table"].as_str().expect("a table")).or_default() += 1;
    }
    for (table, rows) in end["rows"].as_object().expect("counts") {
        assert_eq!(found.get(table.as_str()).copied().unwrap_or(0), rows.as_u64().expect("a count"), "{table}");
    }
    lines
}

#[tokio::test]
async fn an_export_holds_every_row_of_its_account_and_no_secret_and_none_of_anothers() {
    let app = TestApp::start();
    let other = app.other_account("other", "boss@other.example");
    filled(&app, app.account, 901);
    filled(&app, other.id, 902);
    app.add_user("reader@acme.example", "read-only");
    let root = app.api(&app.key(app.account, "full-access"));
    let path = format!("/api/accounts/{}/export", app.account);
    let (status, answer) = root.get(&path).await;
    let export = answer.as_str().expect("lines").to_owned();
    assert_eq!(status, 200, "{export}");
    let lines = lines(&export);
    assert_eq!(lines[0]["export"], "bailiwick-account");
    assert_eq!(lines[0]["account"], app.account.to_string());
    let of =
        |table: &str| lines.iter().filter(|line| line["table"] == table).map(|line| &line["row"]).collect::<Vec<_>>();
    for table in exported(&app).keys() {
        assert!(!of(table).is_empty(), "there is no row of {table}");
    }
    assert_eq!(of("account")[0]["alias"], "acme");
    assert_eq!(of("identity")[0]["userName"], "anna");
    assert_eq!(of("identity")[0]["fields"], json!({"title": "Dr"}));
    assert_eq!(of("membership").len(), 2);
    assert!(of("membership").iter().any(|row| row["email"] == EMAIL));

    // Nothing that opens anything.
    let hashes = [
        reading(&app, |c| names(c, "SELECT password_hash FROM user")),
        reading(&app, |c| {
            names(
                c,
                "SELECT lower(hex(secret_hash)) FROM api_key UNION ALL SELECT lower(hex(token_hash)) FROM session
                 UNION ALL SELECT lower(hex(token_hash)) FROM invitation",
            )
        }),
    ];
    assert!(hashes.iter().all(|found| found.len() >= 2));
    for hash in hashes.iter().flatten() {
        assert!(!export.contains(hash.as_str()), "{hash}");
    }
    assert!(!export.contains("$argon2") && !export.contains(SECRET));
    assert!(!export.contains(&secret::encode_hex(SECRET.as_bytes())));
    // Nothing of the neighbour.
    assert!(!export.contains(&other.id.to_string()) && !export.contains("boss@other.example"));
    assert!(of("identity").iter().all(|row| row["directoryId"] == 901));

    // On the record, for nobody else, and not for whoever holds less.
    assert_eq!(app.audited("audit.account_exported.v1").len(), 1);
    let theirs = app.api(&app.key(other.id, "full-access"));
    assert_eq!(theirs.get(&path).await.0, 404);
    for role in ["read-only", "operator", "auditor"] {
        assert_eq!(app.api(&app.key(app.account, role)).get(&path).await.0, 403, "{role}");
    }
    let settings = json!({"id": "settings-only", "name": "Settings", "services": {"settings": "full"}});
    assert_eq!(root.post("/api/roles", &settings).await.0, 201);
    assert_eq!(app.api(&app.key(app.account, "settings-only")).get(&path).await.0, 403);
    assert_eq!(app.audited("audit.account_exported.v1").len(), 1);
    let denied = app.audited("audit.access_denied.v1");
    assert_eq!(denied.iter().filter(|record| record["path"] == path.as_str()).count(), 5, "{denied:?}");
    app.assert_audit_verifies();
}

#[tokio::test]
async fn the_pages_offer_the_export_as_a_file_to_whoever_may_delete() {
    let app = TestApp::start();
    app.add_user("reader@acme.example", "read-only");
    let mut owner = app.signed_in().await;
    for page in ["/settings/account", "/settings/account/delete"] {
        assert!(owner.page(page).await.contains("href=\"/settings/account/export\""), "{page}");
    }
    let answer = owner.get("/settings/account/export").await;
    assert_eq!(answer.status(), 200);
    let header = |name| answer.headers()[name].to_str().expect("ASCII").to_owned();
    assert_eq!(header(header::CONTENT_DISPOSITION), "attachment; filename=\"acme-2026-03-03.jsonl\"");
    assert_eq!(header(header::CONTENT_TYPE), "application/jsonl; charset=utf-8");
    lines(&answer.text().await.expect("lines"));
    let mut reader = app.signed_in_as("reader@acme.example").await;
    assert!(!reader.page("/settings/account").await.contains("/export"));
    assert_eq!(reader.get("/settings/account/export").await.status(), 403);
    assert_eq!(text(&owner.page("/settings/account/delete").await, "h1"), "Delete acme?");
}

/// So many people more in a directory that an export of it does not fit into what a connection holds on its way.
fn crowd(app: &TestApp, directory: i64) {
    let add = move |c: &Connection| {
        let added = c.execute(
            "WITH RECURSIVE n (i) AS (SELECT 100000 UNION ALL SELECT i + 1 FROM n WHERE i < 160000)
             INSERT INTO identity (id, directory_id, external_id, user_name, sort_key, status, fields, first_seen_at,
                                   changed_at, listed_since_at)
             SELECT ?1 * 1000000 + i, ?1, 'e' || i, 'user' || i, 'user' || i, 'active',
                    '{\"department\":\"Sales and marketing\"}', 1, 1, 1 FROM n",
            [directory],
        )?;
        Ok(added)
    };
    assert_eq!(off(|| app.app.kernel.db.write_blocking(add)).expect("added"), 60_001);
}

/// Asks for the export of an account; what is answered is not read yet.
async fn asked(app: &TestApp, account: AccountId, key: &str) -> reqwest::Response {
    let url = format!("{}/api/accounts/{account}/export", app.base);
    let request = app.api(key).http.get(url).header(header::AUTHORIZATION, format!("ApiKey {key}"));
    request.send().await.expect("an answer")
}

#[tokio::test]
async fn whoever_downloads_slowly_keeps_nobody_else_from_an_export() {
    let app = TestApp::start();
    let (second, third) =
        (app.other_account("second", "boss@second.example"), app.other_account("third", "boss@third.example"));
    let mut slow = Vec::new();
    for (account, directory) in [(app.account, 901), (second.id, 902)] {
        filled(&app, account, directory);
        crowd(&app, directory);
        let key = app.key(account, "full-access");
        let mut answer = asked(&app, account, &key).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.chunk().await.expect("bytes").is_some());
        slow.push((account, key, answer));
    }
    let answer = asked(&app, third.id, &app.key(third.id, "full-access")).await;
    assert_eq!(answer.status(), 200);
    assert!(!lines(&answer.text().await.expect("lines")).is_empty());
    for (account, key, answer) in slow {
        assert_eq!(asked(&app, account, &key).await.status(), 429, "the first one still goes on");
        assert!(answer.text().await.expect("the rest").len() > 10_000_000);
    }
}

#[tokio::test]
async fn a_large_account_leaves_in_pieces_and_no_part_of_it_stays_on_the_disk() {
    let app = TestApp::start();
    filled(&app, app.account, 901);
    crowd(&app, 901);
    let key = app.key(app.account, "full-access");
    // One at a time: the second is told to come back; a client that hangs up ends its own.
    let mut first = asked(&app, app.account, &key).await;
    assert_eq!(first.status(), 200);
    assert!(first.chunk().await.expect("bytes").is_some());
    let second = asked(&app, app.account, &key).await;
    assert_eq!(second.status(), 429);
    assert!(second.headers().contains_key(header::RETRY_AFTER));
    drop(first);
    let begun = std::time::Instant::now();
    let export = loop {
        let answer = asked(&app, app.account, &key).await;
        if answer.status() == 200 {
            break answer.text().await.expect("lines");
        }
        assert_eq!(answer.status(), 429);
        assert!(begun.elapsed().as_secs() < 60, "nobody noticed that the first one hung up");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(export.len() > 10_000_000, "{}", export.len());
    assert!(lines(&export).len() > 60_000);
    let dir = app.dir.as_ref().expect("a folder");
    let left = std::fs::read_dir(dir.path()).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    assert_eq!(left.filter(|name| name.to_string_lossy().contains("export")).count(), 0);
}

#[tokio::test]
async fn after_a_purge_no_row_of_the_account_is_left_in_any_table() {
    let app = TestApp::start();
    filled(&app, app.account, 901);
    // The user of the other account is there before, and stays.
    let other = app.other_account("other", "boss@other.example");
    app.sql(
        "DELETE FROM membership WHERE account_id = (SELECT id FROM account WHERE alias = 'other');
         DELETE FROM account WHERE alias = 'other'",
    );
    let before = counts(&app);
    let (id, now) = (other.id, app.app.kernel.clock.now());
    let make = move |c: &Connection| {
        c.execute(
            "INSERT INTO account (id, alias, region, state, locale, time_zone, session_idle_minutes, session_max_hours,
                                  history_days, created_at)
             SELECT ?1, 'other', region, 'active', locale, time_zone, session_idle_minutes, session_max_hours, history_days,
                    created_at FROM account",
            [id],
        )?;
        c.execute(
            "INSERT INTO membership (user_id, account_id, role_id, created_at)
             SELECT id, ?1, 'full-access', 1 FROM user WHERE email = 'boss@other.example'",
            [id],
        )?;
        Ok(())
    };
    off(|| app.app.kernel.db.write_blocking(make)).expect("made");
    filled(&app, id, 902);
    // In every table that is an account's there is a row to find.
    let with = counts(&app);
    let of_no_account: BTreeSet<&str> = OF_NO_ACCOUNT.iter().map(|(name, _)| *name).collect();
    for (table, rows) in &with {
        let is_more = *rows > before[table];
        let is_of_accounts = !of_no_account.contains(table.as_str()) && table != "audit_record";
        assert!(is_more || !is_of_accounts, "{table}: put a row of an account into it, above");
    }
    let records = "SELECT count(*) FROM audit_record WHERE account_id = (SELECT id FROM account WHERE alias = 'other')";
    let mut boss = app.signed_in_as("boss@other.example").await;
    assert_eq!(boss.post("/settings/account/delete", &[("confirm", "other")]).await.status(), 303);
    let records = app.count(records);
    app.forward(30 * DAY);
    assert!(now < app.app.kernel.clock.now());
    let app_ = &app.app;
    assert_eq!(accounts::purge_due(&app_.kernel, &app::owned(&app_.kernel)).await.expect("purged"), 1);
    let after = counts(&app);
    for (table, rows) in &after {
        if !of_no_account.contains(table.as_str()) && table != "audit_record" {
            assert_eq!(*rows, before[table], "{table}");
        }
    }
    assert_eq!(after["user"], before["user"], "users stay");
    let kept = off(|| {
        app_.kernel.db.read_blocking(|c| {
            let sql = "SELECT count(*) FROM audit_record WHERE account_id = ?1";
            Ok(c.query_row(sql, [id], |row| row.get::<_, i64>(0))?)
        })
    });
    assert_eq!(kept.expect("counted"), records + 2, "the log stays, and says that it went");
    let mut again = app.browser();
    assert_eq!(again.sign_in("boss@other.example", PASSWORD).await.status(), 422);
    app.assert_audit_verifies();
}
