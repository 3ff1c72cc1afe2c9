//! Lists in pages: complete and without doubles while rows come and go, and no cursor leads anywhere else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Api, TestApp, off};

/// How a list's rows are made and taken away in the middle of a walk; `?1` is a row's number. Directory, run, identity and
/// group 1 are there already.
struct List {
    path: &'static str,
    insert: &'static str,
    /// Empty: rows of this list never go away while they are listed.
    remove: &'static str,
}

const LISTS: &[List] = &[
    List {
        path: "/api/apikeys",
        insert: "INSERT INTO api_key (id, account_id, alias, role_id, secret_hash, secret_start, shown_to,
                     created_at)
                 SELECT printf('018f0000-0000-7000-8000-%012d', ?1), id, 'row' || ?1, 'read-only', zeroblob(32), 'rows', 'x', 1
                 FROM account",
        remove: "DELETE FROM api_key WHERE alias = 'row' || ?1",
    },
    List {
        path: "/api/users",
        insert: "INSERT INTO user (id, email, email_folded, name, password_hash, password_changed_at, state, created_at)
                 VALUES (printf('018f0000-0000-7000-8000-%012d', ?1), 'u' || ?1, 'u' || ?1, 'row', 'x', 1, 'enabled', 1);
                 INSERT INTO membership (user_id, account_id, role_id, created_at)
                 SELECT printf('018f0000-0000-7000-8000-%012d', ?1), id, 'read-only', 1 FROM account",
        remove: "DELETE FROM user WHERE email = 'u' || ?1",
    },
    List {
        path: "/api/roles",
        insert: "INSERT INTO role (account_id, id, name, description, services, created_at, updated_at)
                 SELECT id, printf('row-%06d', ?1), 'row', '', '{\"audit\": \"read\"}', 1, 1 FROM account",
        remove: "DELETE FROM role WHERE id = printf('row-%06d', ?1)",
    },
    List {
        path: "/api/invitations",
        insert: "INSERT INTO invitation (id, account_id, email, email_folded, role_id, state, token_hash, is_mailed, invited_by,
                     inviter_name, lifetime_days, created_at, last_sent_at, sent_count, expires_at)
                 SELECT printf('018f0000-0000-7000-8000-%012d', ?1), id, 'u' || ?1, 'u' || ?1, 'read-only', 'invited', randomblob(32),
                     0, 'x', 'x', 7, 1, 1, 1, 9000000000000000 FROM account",
        remove: "DELETE FROM invitation WHERE email = 'u' || ?1",
    },
    List {
        path: "/api/directories",
        insert: "INSERT INTO directory (account_id, kind, name, settings, read_credentials, schedule, guard, created_at, updated_at)
                 SELECT id, 'openldap', printf('row %06d', ?1), '{}', x'00', '{}', '{}', 1, 1 FROM account",
        remove: "UPDATE directory SET removed_at = 1 WHERE name = printf('row %06d', ?1)",
    },
    List { path: "/api/runs", insert: RUN, remove: NO_RUN },
    List { path: "/api/directories/{id}/runs", insert: RUN, remove: NO_RUN },
    List {
        path: "/api/runs/{id}/changes",
        insert: "INSERT INTO change (id, run_id, subject_type, subject_id, kind) VALUES (100 + ?1, 1, 1, 1, 'added')",
        remove: "",
    },
    List {
        path: "/api/identities/{id}/changes",
        insert: "INSERT INTO change (id, run_id, subject_type, subject_id, kind) VALUES (100 + ?1, 1, 1, 1, 'added')",
        remove: NO_CHANGE,
    },
    List {
        path: "/api/groups/{id}/changes",
        insert: "INSERT INTO change (id, run_id, subject_type, subject_id, kind) VALUES (100 + ?1, 1, 2, 1, 'added')",
        remove: NO_CHANGE,
    },
    List {
        path: "/api/runs/{id}/quarantine",
        insert: "INSERT INTO quarantine (id, directory_id, run_id, name, reason) VALUES (100 + ?1, 1, 1, 'row', 'why')",
        remove: "DELETE FROM quarantine WHERE id = 100 + ?1",
    },
    List { path: "/api/identities", insert: IDENTITY, remove: NO_IDENTITY },
    List { path: "/api/groups", insert: GROUP, remove: NO_GROUP },
    List {
        path: "/api/groups/{id}/members",
        insert: "INSERT INTO member (group_id, until_at, member_id, since_at) VALUES (1, 9223372036854775807, 1000 + ?1, 1);
                 INSERT INTO reference (id, directory_id, key, text) VALUES (1000 + ?1, 1, CAST(?1 AS BLOB), 'row')",
        remove: "UPDATE member SET until_at = 2 WHERE group_id = 1 AND member_id = 1000 + ?1",
    },
    List {
        path: "/api/identities/{id}/groups",
        insert: "INSERT INTO directory_group (id, directory_id, external_id, member_count, name, sort_key, fields, first_seen_at,
                     changed_at, listed_since_at) VALUES (1000 + ?1, 1, 'g' || ?1, 1, 'row', 'row', '{}', 1, 1, 1);
                 INSERT INTO member (group_id, until_at, member_id, since_at) VALUES (1000 + ?1, 9223372036854775807, 1, 1)",
        remove: "UPDATE member SET until_at = 2 WHERE group_id = 1000 + ?1",
    },
    List {
        path: "/api/task-requests",
        insert: "INSERT INTO enforcement_request (id, account_id, action, reason, requested_by, requester, requested_at, state)
                 SELECT 100 + ?1, id, 'disable', 'why', 'x', 'x', 1, 'running' FROM account",
        remove: "DELETE FROM enforcement_request WHERE id = 100 + ?1",
    },
    List {
        path: "/api/tasks",
        insert: "INSERT INTO task (id, request_id, account_id, directory_id, identity_id, external_id, name, user_name, action, state)
                 SELECT 100 + ?1, 1, id, 1, 1, 'x', 'x', 'x', 'disable', 'observed' FROM account",
        remove: "DELETE FROM task WHERE id = 100 + ?1",
    },
    List {
        path: "/api/protections",
        insert: "INSERT INTO protection (id, account_id, kind, directory_id, dn, name, note, created_by, created_at)
                 SELECT 100 + ?1, id, 'unit', 1, 'dn' || ?1, 'row', '', 'x', 1 FROM account",
        remove: "UPDATE protection SET removed_at = 1 WHERE id = 100 + ?1",
    },
    List {
        path: "/api/logs",
        insert: "INSERT INTO audit_record (seq, id, at, type, account_id, principal_urn, result, details, prev_hash, hash)
                 SELECT 1000 + ?1, 'row' || ?1, 1, 'audit.row_made.v1', id, 'x', 'success', '{}', zeroblob(32), zeroblob(32) FROM account",
        remove: "",
    },
];

const RUN: &str = "INSERT INTO run (id, account_id, directory_id, mode, requested_by, state, settings_hash, started_at)
                   SELECT 100 + ?1, id, 1, 'full', 'x', 'failed', 'x', 1 FROM account";
const NO_RUN: &str = "DELETE FROM run WHERE id = 100 + ?1";
const NO_CHANGE: &str = "DELETE FROM change WHERE id = 100 + ?1";
const IDENTITY: &str =
    "INSERT INTO identity (id, directory_id, external_id, user_name, sort_key, status, fields, first_seen_at, changed_at,
         listed_since_at) VALUES (100 + ?1, 1, 'i' || ?1, 'row', printf('row %03d', ?1 / 4), 'active', '{}', 1, 1, 1)";
const NO_IDENTITY: &str = "UPDATE identity SET removed_at = 1 WHERE id = 100 + ?1";
const GROUP: &str =
    "INSERT INTO directory_group (id, directory_id, external_id, member_count, name, sort_key, fields, first_seen_at,
         changed_at, listed_since_at) VALUES (100 + ?1, 1, 'g' || ?1, 0, 'row', printf('row %03d', ?1 / 4), '{}', 1, 1, 1)";
const NO_GROUP: &str = "UPDATE directory_group SET removed_at = 1 WHERE id = 100 + ?1";

/// Lists in which rows do not come and go.
const FIXED: &[&str] = &[
    "/api/accounts", // the one that the key belongs to
];

/// What all lists hang on.
const GROUND: &str =
    "INSERT INTO directory (id, account_id, kind, name, settings, read_credentials, schedule, guard, applied_run_id, applied_at,
         first_applied_at, created_at, updated_at) SELECT 1, id, 'openldap', 'ground', '{}', x'00', '{}', '{}', 1, 1, 1, 1, 1 FROM account;
     INSERT INTO run (id, account_id, directory_id, mode, requested_by, state, settings_hash, started_at)
         SELECT 1, id, 1, 'full', 'x', 'applied', 'x', 1 FROM account;
     INSERT INTO plan (run_id, directory_id, first_change, last_change, applying_at, applied_at) VALUES (1, 1, 1, 100000, 1, 1);
     INSERT INTO identity (id, directory_id, external_id, user_name, sort_key, status, fields, first_seen_at, changed_at, listed_since_at)
         VALUES (1, 1, 'ground', 'ground', 'zz', 'active', '{}', 1, 1, 1);
     INSERT INTO directory_group (id, directory_id, external_id, member_count, name, sort_key, fields, first_seen_at, changed_at, listed_since_at)
         VALUES (1, 1, 'ground', 0, 'ground', 'zz', '{}', 1, 1, 1);
     INSERT INTO enforcement_request (id, account_id, action, reason, requested_by, requester, requested_at, state)
         SELECT 1, id, 'disable', 'why', 'x', 'x', 1, 'running' FROM account";

fn write(app: &TestApp, sql: &'static str, number: i64) {
    let kernel = &app.app.kernel;
    off(|| {
        kernel.db.write_blocking(move |c| {
            for statement in sql.split(";\n").filter(|statement| !statement.trim().is_empty()) {
                let mut statement = c.prepare(statement)?;
                match statement.parameter_count() {
                    0 => statement.execute([])?,
                    _ => statement.execute([number])?,
                };
            }
            Ok(())
        })
    })
    .unwrap_or_else(|error| panic!("{sql}: {}", error.chain()));
}

async fn page(api: &Api, path: &str, name: &str, limit: usize, cursor: &str) -> (Vec<String>, Option<String>) {
    let (status, answer) = api.get(&format!("{path}?limit={limit}&cursor={cursor}")).await;
    assert_eq!(status, 200, "{path}: {answer}");
    let rows = answer[name].as_array().unwrap_or_else(|| panic!("{path} has no {name}: {answer}"));
    assert!(rows.len() <= limit, "{path} answers {} of {limit}", rows.len());
    let id = |row: &Value| row["id"].as_str().expect("an id").to_owned();
    (rows.iter().map(id).collect(), answer["next"].as_str().map(str::to_owned))
}

/// Every paged list of the API: its path, and what its rows are called.
async fn paged(app: &TestApp) -> BTreeMap<String, String> {
    let (_, document) = app.api("").get("/api/openapi.json").await;
    let paths = document["paths"].as_object().expect("paths");
    let lists = paths.iter().filter_map(|(path, methods)| {
        let parameters = methods["get"]["parameters"].as_array()?;
        let is_list = !path.contains('.') && parameters.iter().any(|parameter| parameter["name"] == "cursor");
        let schema = methods.pointer("/get/responses/200/content/application~1json/schema")?;
        let name = schema["required"][0].as_str()?.to_owned();
        is_list.then(|| (path.clone(), name))
    });
    lists.collect()
}

#[tokio::test]
async fn every_list_stays_complete_and_without_doubles_while_rows_come_and_go() {
    for list in LISTS {
        let app = TestApp::start();
        write(&app, GROUND, 0);
        let api = app.api(&app.key(app.account, "full-access"));
        let name = paged(&app).await.remove(list.path).unwrap_or_else(|| panic!("{} is no paged list", list.path));
        let path = list.path.replace("{id}", "1");
        for number in 1..=20 {
            write(&app, list.insert, number * 10);
        }
        let (before, _) = page(&api, &path, &name, 500, "").await;
        assert!(before.len() >= 20, "{path}: {} rows", before.len());
        let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let (rows, next) = page(&api, &path, &name, 3, &cursor).await;
            seen.extend(rows);
            pages += 1;
            assert!(pages < 100, "{path} has no end");
            let Some(next) = next else { break };
            cursor = next;
            // One that comes before everything, one among the others, one after everything; and two that go.
            if pages <= 5 {
                for number in [pages, 100 + pages, 1000 + pages] {
                    write(&app, list.insert, number);
                }
                if !list.remove.is_empty() {
                    for number in [pages * 20, 210 - pages * 20] {
                        write(&app, list.remove, number);
                    }
                }
            }
        }
        let (after, _) = page(&api, &path, &name, 500, "").await;
        let unique: BTreeSet<&String> = seen.iter().collect();
        assert_eq!(unique.len(), seen.len(), "{path} shows a row twice: {seen:?}");
        for id in before.iter().filter(|id| after.contains(id)) {
            assert!(unique.contains(id), "{path} leaves {id} out");
        }
        if !list.remove.is_empty() {
            assert!(before.iter().any(|id| !after.contains(id)), "{path}: nothing was removed");
        }
    }
}

#[tokio::test]
async fn every_paged_list_of_the_api_is_walked_here() {
    let app = TestApp::start();
    for path in paged(&app).await.keys() {
        let is_known = LISTS.iter().any(|list| list.path == path) || FIXED.contains(&path.as_str());
        assert!(is_known, "{path} is a new list: say in LISTS how its rows come and go");
    }
}

#[tokio::test]
async fn limits_and_cursors_are_checked_on_every_list() {
    let app = TestApp::start();
    write(&app, GROUND, 0);
    let api = app.api(&app.key(app.account, "full-access"));
    let lists = paged(&app).await;
    let mut cursors = vec!["!!!!".to_owned(), "x".to_owned(), "bnVsbA".to_owned(), "eyJhIjoxfQ".to_owned()];
    for (place, list) in (1..).zip(LISTS) {
        for number in 1..=3 {
            write(&app, list.insert, place * 100 + number);
        }
        let path = list.path.replace("{id}", "1");
        if let (_, Some(next)) = page(&api, &path, &lists[list.path], 1, "").await {
            cursors.push(next);
        }
    }
    assert!(cursors.len() > 12, "{cursors:?}");
    // After the rows, which hang on every account that there is.
    let other = app.other_account("other", "root@other.example");
    let theirs = app.api(&app.key(other.id, "full-access"));
    for (pattern, name) in &lists {
        let path = pattern.replace("{id}", "1");
        for (limit, expected) in [
            ("-1", 400),
            ("501", 400),
            ("x", 400),
            ("", 400),
            ("1.5", 400),
            ("99999999999999999999", 400),
            ("500", 200),
        ] {
            let wanted = if expected == 200 && path.contains("/1") { vec![200, 404] } else { vec![expected] };
            let (status, answer) = api.get(&format!("{path}?limit={limit}")).await;
            assert!(wanted.contains(&status), "{path}?limit={limit}: {status} {answer}");
        }
        let (_, all) = api.get(&format!("{path}?limit=500")).await;
        let (_, none) = api.get(&path).await;
        let (_, zero) = api.get(&format!("{path}?limit=0")).await;
        let ids = |answer: &Value| -> Vec<String> {
            let rows = answer[name].as_array().cloned().unwrap_or_default();
            rows.iter().filter_map(|row| row["id"].as_str().map(str::to_owned)).collect()
        };
        assert_eq!(ids(&none), ids(&zero), "{path}");
        assert_eq!(ids(&none).len(), ids(&all).len().min(25), "{path}");
        for cursor in &cursors {
            // A cursor of another list leads nowhere else: it is refused, or it is a place in this one.
            let (status, answer) = api.get(&format!("{path}?cursor={cursor}")).await;
            assert!(matches!(status, 200 | 400 | 404), "{path}?cursor={cursor}: {status}");
            assert!(ids(&answer).iter().all(|id| ids(&all).contains(id)), "{path}?cursor={cursor}");
            let (status, answer) = theirs.get(&format!("{path}?cursor={cursor}")).await;
            assert!(matches!(status, 200 | 400 | 404), "{path}?cursor={cursor}: {status}");
            // Predefined roles are the same for all accounts; ours are told by their ids.
            let of_ours = |id: &String| ids(&all).contains(id) && (pattern != "/api/roles" || id.starts_with("row-"));
            assert!(!ids(&answer).iter().any(of_ours), "{path}");
        }
        let (status, _) = api.get(&format!("{path}?cursor=!!!!")).await;
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
}
