//! The schedule by the real clock: it fires by itself, survives failures, and rests while paused.

mod long {
    use std::time::Duration;

    use serde_json::{Value, json};

    use crate::fixtures::{
        appliance::{Api, Appliance, draft_with, text},
        slapd::{Options, Slapd},
    };

    /// All runs of one directory that ended in `state`.
    async fn runs(api: &Api, directory: &str, state: &str) -> Vec<Value> {
        let all = api.all("/api/runs", "runs").await;
        all.into_iter().filter(|run| text(run, "directoryId") == directory && run["state"] == state).collect()
    }

    #[tokio::test]
    async fn a_schedule_fires_by_itself_goes_on_after_failures_and_rests_while_paused() {
        let slapd = Slapd::start(Options::small());
        let appliance = Appliance::start().await;
        let api = &appliance.api;
        let every_minute = |name: &str, paused: bool| {
            let schedule = json!({"full": {"every": "1m"}, "paused": paused});
            draft_with(&slapd, &[("/name", json!(name)), ("/schedule", schedule)])
        };
        slapd.kill();
        let running = api.create_directory(&every_minute("running", false)).await;
        let paused = api.create_directory(&every_minute("paused", true)).await;
        let wait_for = async |state: &str| {
            for _ in 0..1_000 {
                if !runs(api, &running, state).await.is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(130)).await;
            }
            panic!("no scheduled run was {state} within two minutes");
        };
        wait_for("failed").await;
        slapd.restart();
        wait_for("applied").await;
        for state in ["reading", "planned", "applying", "applied", "failed", "parked", "discarded"] {
            assert!(runs(api, &paused, state).await.is_empty(), "a paused schedule does not fire");
        }
        // Paused does not mean locked: a person may still ask for a run.
        api.run_applied(&paused).await;
    }
}
