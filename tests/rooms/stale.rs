//! Old data says that it is old: on every page that shows it, in the API, and in the measurements after a restart too.

use std::time::Duration;

use serde_json::json;

use super::{TestApp, text};

const HOUR: i64 = 3_600_000_000;

/// Two directories: one read every hour and applied at half past eight, one read by hand years ago.
fn app() -> TestApp {
    let app = TestApp::start();
    app.sql(
        "INSERT INTO directory (id, account_id, kind, name, settings, read_credentials, schedule, guard, applied_run_id,
                                applied_at, identity_count, group_count, created_at, updated_at)
         SELECT 1, id, 'openldap', 'Staff', '{}', zeroblob(0), '{\"full\": {\"every\": \"1h\"}}', '{}', 1,
                unixepoch('2026-03-03T08:30:00Z') * 1000000, 3, 1, 0, 0 FROM account
         UNION ALL SELECT 2, id, 'openldap', 'Archive', '{}', zeroblob(0), '{}', '{}', 2, 0, 3, 1, 0, 0 FROM account;
         INSERT INTO run (id, account_id, directory_id, mode, requested_by, state, settings_hash, added, missing, started_at,
                          planned_at, apply_at, finished_at)
         SELECT 1, id, 1, 'full', 'urn:x:service/scheduler', 'applied', '', 4, 1, unixepoch('2026-03-03T08:29:30Z') * 1000000,
                unixepoch('2026-03-03T08:30:00Z') * 1000000, unixepoch('2026-03-03T08:30:00Z') * 1000000,
                unixepoch('2026-03-03T08:30:12Z') * 1000000 FROM account",
    );
    app
}

#[tokio::test]
async fn a_copy_older_than_twice_its_interval_says_so_and_why_wherever_it_is_shown() {
    let app = app();
    let mut browser = app.signed_in().await;
    let api = app.api(&app.key(app.account, "read-only"));
    assert_eq!(text(&browser.page("/identities").await, ".stale"), "");
    assert!(api.get("/api/directories/1").await.1["staleSince"].is_null());
    app.forward(2 * HOUR);
    let mut browser = app.signed_in().await;
    for path in
        ["/", "/directories", "/directories/1", "/runs", "/runs/1", "/identities", "/identities?directory=1", "/groups"]
    {
        let banner = text(&browser.page(path).await, ".stale");
        assert!(banner.starts_with("Data of Staff is from 3 Mar 2026, 08:30 UTC"), "{path}: {banner}");
        assert!(banner.contains("No run has been applied since"), "{path}: {banner}");
    }
    for path in ["/identities?directory=2", "/directories/2", "/api-keys", "/profile"] {
        assert_eq!(text(&browser.page(path).await, ".stale"), "", "{path} shows nothing of it");
    }
    let (_, shown) = api.get("/api/directories/1").await;
    assert_eq!(
        (shown["staleSince"].as_str(), shown["lastAppliedAt"].as_str()),
        (Some("2026-03-03T10:30:00Z"), Some("2026-03-03T08:30:00Z"))
    );
    assert!(api.get("/api/directories/2").await.1["staleSince"].is_null(), "by hand only is never late");
    app.sql("UPDATE directory SET schedule = '{\"full\": {\"every\": \"1h\"}, \"paused\": true}' WHERE id = 1");
    assert!(text(&browser.page("/groups").await, ".stale").contains("The schedule is paused"));
    app.sql(
        "INSERT INTO run (id, account_id, directory_id, mode, requested_by, state, settings_hash, started_at, finished_at)
         SELECT 3, id, 1, 'full', 'urn:x:service/scheduler', 'failed', '', unixepoch('2026-03-03T09:30:00Z') * 1000000, 0 FROM account",
    );
    let banner = text(&browser.page("/groups").await, ".stale");
    assert!(banner.contains("Every run has failed since 3 Mar 2026, 09:30 UTC"), "{banner}");
    app.sql("UPDATE run SET state = 'parked', reason = 'Many.' WHERE id = 3");
    let page = browser.page("/groups").await;
    assert!(text(&page, ".stale").contains("A plan waits for approval"), "{}", text(&page, ".stale"));
    assert_eq!(super::attribute(&page, ".stale a", "href").as_deref(), Some("/runs/3"));
    assert!(text(&page, ".nav__count").contains("1 waiting for approval"));
    assert_eq!(api.get("/api/directories/1").await.1["parkedRunId"], "3");
    let other = app.other_account("other", "zoe@other.example");
    let stranger = app.api(&app.key(other.id, "read-only"));
    assert_eq!(stranger.get("/api/directories/1").await.0, 404);
    let page = app.signed_in_as("zoe@other.example").await.page("/groups").await;
    assert_eq!((text(&page, ".stale"), text(&page, ".nav__count")), (String::new(), String::new()));
}

#[tokio::test]
async fn whoever_has_a_part_is_told_of_its_directories_alone() {
    let app = app();
    let api = app.api(&app.key(app.account, "full-access"));
    for (id, directory, email) in [("staff", "1", "sam@acme.example"), ("archive", "2", "art@acme.example")] {
        let scope = json!({"directories": [directory]});
        let body = json!({"id": id, "name": id, "services": {"directories": "read"}, "scope": scope});
        assert_eq!(api.post("/api/roles", &body).await.0, 201);
        app.add_user(email, id);
    }
    app.sql(
        "INSERT INTO run (id, account_id, directory_id, mode, requested_by, state, settings_hash, started_at)
         SELECT 3, id, 1, 'full', 'urn:x:service/scheduler', 'parked', '', 0 FROM account",
    );
    app.forward(2 * HOUR);
    for (email, is_told, mine, other) in
        [("sam@acme.example", true, "Staff", "Archive"), ("art@acme.example", false, "Archive", "Staff")]
    {
        let mut browser = app.signed_in_as(email).await;
        for path in ["/", "/identities", "/groups"] {
            let page = browser.page(path).await;
            assert_eq!(text(&page, ".stale").contains("Data of Staff"), is_told, "{path} for {email}");
            assert!(page.contains(mine) && !page.contains(other), "{path} for {email}: {page}");
            // What it would lead to is about whole directories.
            assert_eq!(super::attribute(&page, ".stale a", "href"), None);
            assert_eq!(text(&page, ".nav__count"), "");
        }
    }
}

#[tokio::test]
async fn the_measurements_are_right_after_a_restart() {
    let app = app();
    app.sql("UPDATE directory SET applied_at = applied_at - 86400000000 WHERE id = 1");
    app.sql(
        "INSERT INTO run (id, account_id, directory_id, mode, requested_by, state, settings_hash, started_at)
         SELECT 3, id, 1, 'full', 'urn:x:service/scheduler', 'parked', '', 0 FROM account",
    );
    let app = app.restart();
    let mut browser = app.browser();
    let begun = std::time::Instant::now();
    // They are set by a task of their own, right after the start.
    let body = loop {
        let body = browser.page("/metrics").await;
        if body.contains("bailiwick_sync_stale{") || begun.elapsed() > Duration::from_secs(20) {
            break body;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    for line in [
        "bailiwick_sync_stale{directory=\"1\"} 1",
        "bailiwick_sync_stale{directory=\"2\"} 0",
        "bailiwick_sync_parked{directory=\"1\"} 1",
        "bailiwick_sync_parked{directory=\"2\"} 0",
        "bailiwick_sync_last_success_timestamp_seconds{directory=\"1\"} 1772526612",
        "bailiwick_sync_runs_total{directory=\"1\",state=\"applied\"} 1",
        "bailiwick_sync_changes_total{directory=\"1\",kind=\"added\"} 4",
        "bailiwick_sync_changes_total{directory=\"1\",kind=\"missing\"} 1",
    ] {
        assert!(body.lines().any(|found| found == line), "{line} in {body}");
    }
    assert!(body.contains("bailiwick_sync_last_run_duration_seconds{directory=\"1\"}"), "{body}");
}
