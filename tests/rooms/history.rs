//! How long the past is kept: an account's setting, who may change it, and what is answered about older times.

use serde_json::json;

use super::TestApp;

#[tokio::test]
async fn how_long_history_is_kept_is_changed_by_those_who_may_and_is_on_the_record() {
    let app = TestApp::start();
    let other = app.other_account("other", "other@halden.example");
    let (ours, theirs) = (format!("/api/accounts/{}", app.account), format!("/api/accounts/{}", other.id));
    let root = app.api(&app.key(app.account, "full-access"));
    assert_eq!(root.get(&ours).await.1["historyDays"], 400, "unless said otherwise");
    for wrong in [json!({"historyDays": 29}), json!({"historyDays": 3651}), json!({"historyDays": -1})] {
        assert_eq!(root.post(&ours, &wrong).await.0, 422, "{wrong}");
    }
    for wrong in [json!({"historyDays": "400"}), json!({"region": "x"})] {
        let status = root.post(&ours, &wrong).await.0;
        assert!(matches!(status, 400 | 422), "{wrong}: {status}");
    }
    for role in ["operator", "read-only", "auditor"] {
        let api = app.api(&app.key(app.account, role));
        assert_eq!(api.post(&ours, &json!({"historyDays": 90})).await.0, 403, "{role}");
    }
    assert_eq!(root.post(&theirs, &json!({"historyDays": 90})).await.0, 404);
    let (status, changed) = root.post(&ours, &json!({"historyDays": 90})).await;
    assert_eq!((status, &changed["historyDays"]), (200, &json!(90)));
    assert_eq!(root.get(&ours).await.1["historyDays"], 90);
    let records = app.audited("audit.account_updated.v1");
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["changes"]["historyDays"], json!({"before": 400, "after": 90}));
    app.assert_audit_verifies();
}

#[tokio::test]
async fn a_time_before_the_history_is_kept_is_refused_with_the_time_it_begins() {
    let app = TestApp::start();
    app.sql("INSERT INTO history_edge (account_id, from_at) SELECT id, 1767225600000000 FROM account");
    let root = app.api(&app.key(app.account, "full-access"));
    for path in ["/api/identities", "/api/groups"] {
        let (status, body) = root.get(&format!("{path}?asOf=2025-12-31T23:59:59Z")).await;
        assert_eq!(status, 400, "{body}");
        assert!(body.to_string().contains("The history is kept from 1 Jan 2026, 00:00 UTC"), "{body}");
        assert_eq!(root.get(&format!("{path}?asOf=2026-01-01T00:00:00Z")).await.0, 200);
    }
}
