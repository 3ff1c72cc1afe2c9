//! `/docs/api`: it names every operation, and its examples do what they say.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Output},
};

use scraper::{Html, Selector};
use serde_json::Value;

use super::TestApp;

fn selector(text: &str) -> Selector {
    Selector::parse(text).expect("a selector")
}

#[tokio::test]
async fn the_page_has_every_operation_with_an_anchor_and_every_link_leads_somewhere() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    let page = browser.page("/docs/api").await;
    let html = Html::parse_document(&page);
    let shown: BTreeSet<String> = html
        .select(&selector(".api-operation > summary"))
        .map(|summary| summary.text().collect::<String>().split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let (_, document) = app.api("").get("/api/openapi.json").await;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            let operation = format!("{} {path}", method.to_uppercase());
            assert!(shown.contains(&operation), "{operation} is missing");
        }
    }
    let ids: Vec<&str> = html.select(&selector("[id]")).filter_map(|element| element.value().id()).collect();
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    for id in &unique {
        assert_eq!(ids.iter().filter(|other| *other == id).count(), 1, "{id} is there twice");
    }
    for link in html.select(&selector("main a[href^='#']")) {
        let target = link.value().attr("href").expect("an address").trim_start_matches('#');
        assert!(unique.contains(target), "#{target} leads nowhere");
    }
    for link in ["/static/examples/audit-log.sh", "/static/examples/audit-log.py", "/api/openapi.json", "/api-keys"] {
        assert!(html.select(&selector(&format!("a[href='{link}']"))).next().is_some(), "{link}");
        assert_eq!(browser.get(link).await.status(), 200, "{link}");
    }
    assert_eq!(app.browser().get("/docs/api").await.status(), 303, "not for strangers");
}

/// Runs an example as it stands in the repository.
fn run(app: &TestApp, file: &str, key: &str) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("static/examples").join(file);
    let mut command = Command::new(path);
    command.env("BAILIWICK_URL", &app.base).env("BAILIWICK_KEY", key);
    command.output().unwrap_or_else(|error| panic!("{file}: {error}"))
}

async fn prints_every_record(file: &'static str) {
    let app = TestApp::start();
    let key = app.key(app.account, "auditor");
    // More than two pages of the size that the examples ask for.
    app.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
         INSERT INTO audit_record (seq, id, at, type, account_id, principal_urn, result, details, prev_hash, hash)
         SELECT 1000 + i, 'row' || i, 1, 'audit.row_made.v1', account.id, 'urn:x ü \"quoted\"', 'success', '{}', zeroblob(32),
                zeroblob(32) FROM n, account",
    );
    let output = tokio::task::block_in_place(|| run(&app, file, &key));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{file}: {said}");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let ids: Vec<String> = printed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["id"].as_str().expect("an id").to_owned())
        .collect();
    let unique: BTreeSet<&String> = ids.iter().collect();
    let expected = app.count("SELECT count(*) FROM audit_record");
    assert_eq!((ids.len(), unique.len()), (usize::try_from(expected).unwrap(), ids.len()), "{file}");
    // A key that is not valid is said, and the exit code says it too.
    let refused =
        tokio::task::block_in_place(|| run(&app, file, "01890000-0000-7000-8000-000000000000:bwk_AAAAAAAAAAAAAAAAAA"));
    assert!(!refused.status.success(), "{file}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("401"), "{file}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_curl_example_prints_the_whole_audit_log() {
    prints_every_record("audit-log.sh").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_example_prints_the_whole_audit_log() {
    prints_every_record("audit-log.py").await;
}
