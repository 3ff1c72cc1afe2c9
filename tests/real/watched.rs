//! An appliance and a directory of its own that something is about to happen to.
//!
//! Owns how a test asks for runs and decides about their plans. It must never decide what should have happened.

use serde_json::{Value, json};

use super::comparison::Copy;
use crate::fixtures::{
    appliance::{Api, Appliance, PATIENCE, draft_with, text},
    ldapsearch,
    people::{PEOPLE, uid},
    slapd::{Options, SYNC_DN, SYNC_PASSWORD, Slapd},
};

/// An appliance that has read a directory once.
pub struct Watched {
    pub slapd: Slapd,
    pub appliance: Appliance,
    pub directory: String,
    pub settings: Value,
    /// The id of the first run.
    pub first_run: String,
}

impl Watched {
    pub async fn start() -> Self {
        Self::on(Slapd::start(Options::small()), &[]).await
    }

    /// The same with another server, and with parts of the draft replaced, by JSON pointer.
    pub async fn on(slapd: Slapd, changes: &[(&str, Value)]) -> Self {
        let appliance = Appliance::start().await;
        let draft = draft_with(&slapd, changes);
        let directory = appliance.api.create_directory(&draft).await;
        let first_run = text(&appliance.api.run_applied(&directory).await, "id");
        Self { slapd, appliance, directory, settings: draft["settings"].clone(), first_run }
    }

    pub fn api(&self) -> &Api {
        &self.appliance.api
    }

    pub async fn copy(&self) -> Copy {
        Copy::read(self.api(), &self.directory).await
    }

    /// Stores the settings with one of them replaced.
    pub async fn set(&self, name: &str, value: Value) {
        let mut settings = self.settings.clone();
        settings[name] = value;
        let credentials = json!({"read": {"bindDn": SYNC_DN, "password": SYNC_PASSWORD}});
        let body = json!({"settings": settings, "credentials": credentials});
        self.api().post(&format!("/api/directories/{}", self.directory), &body).await.ok();
    }

    /// A run in a mode (`full`, `delta`), waited for until it ended, one way or the other.
    pub async fn run(&self, mode: &str) -> Value {
        let started =
            self.api().post(&format!("/api/directories/{}/runs", self.directory), &json!({"mode": mode})).await;
        self.api().wait_for_end(&text(&started.expect(202), "id"), PATIENCE).await
    }

    /// A delta that must be applied as one.
    pub async fn delta(&self) -> Value {
        let run = self.run("delta").await;
        assert_eq!((&run["state"], &run["mode"]), (&json!("applied"), &json!("delta")), "{run}");
        run
    }

    /// A full run that must be parked; answers it and the codes of the reasons.
    pub async fn parked(&self) -> (Value, Vec<String>) {
        self.parked_in("full").await
    }

    /// The same in another mode.
    pub async fn parked_in(&self, mode: &str) -> (Value, Vec<String>) {
        let run = self.run(mode).await;
        assert_eq!(run["state"], "parked", "{run}");
        assert!(text(&run, "reason").len() > 20 && text(&run, "nextStep").len() > 20, "{run}");
        let codes = codes(&run);
        (run, codes)
    }

    pub async fn decide(&self, run: &Value, verb: &str) -> Value {
        let reason = json!({"reason": "looked at by the test"});
        let path = format!("/api/runs/{}/{verb}", text(run, "id"));
        self.api().post(&path, &reason).await.ok()
    }

    pub async fn approve(&self, run: &Value) -> Value {
        self.decide(run, "approve").await;
        let ended = self.api().wait_for_end(&text(run, "id"), PATIENCE).await;
        assert_eq!(ended["state"], "applied", "{ended}");
        assert_eq!(ended["counts"], run["counts"], "that plan, and no other");
        ended
    }

    /// The run that is started because `run` is no longer true, waited for until it ended.
    pub async fn run_after(&self, run: &Value) -> Value {
        let path = format!("/api/directories/{}/runs", self.directory);
        let begun = std::time::Instant::now();
        loop {
            let newest = self.api().all(&path, "runs").await.swap_remove(0);
            if newest["id"] != run["id"] {
                return self.api().wait_for_end(&text(&newest, "id"), PATIENCE).await;
            }
            assert!(begun.elapsed() < PATIENCE, "nothing is read again after {run}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Deletes people, and waits until the server has taken them out of their groups where it does that.
    pub fn delete_people(&self, numbers: std::ops::Range<usize>) {
        let gone: Vec<String> = numbers.map(|i| format!("uid={},{PEOPLE}", uid(i))).collect();
        let ldif: Vec<String> = gone.iter().map(|dn| format!("dn: {dn}\nchangetype: delete\n\n")).collect();
        self.slapd.modify(&ldif.concat());
        if self.slapd.shape().member_of {
            ldapsearch::wait_for_refint(&self.slapd, &gone);
        }
    }

    /// Why the watermark of a run was lost, as the audit log has it; nothing when it was not.
    pub async fn lost_watermark(&self, run: &Value) -> Option<String> {
        let path = Api::path("/api/logs", &[("type", "audit.run_planned.v1")]);
        let records = self.api().all(&path, "logs").await;
        let of = format!(":run/{}", text(run, "id"));
        let record = records.iter().find(|record| text(record, "subjectUrn").ends_with(&of));
        let record = record.unwrap_or_else(|| panic!("a record of {run} in {records:?}"));
        record["details"]["watermarkLost"].as_str().map(str::to_owned)
    }
}

/// The codes of the reasons why a run was parked.
pub fn codes(run: &Value) -> Vec<String> {
    run["trips"].as_array().expect("reasons").iter().map(|trip| text(trip, "code")).collect()
}
