//! SIGKILL in the middle: what was begun goes on or is redone, nothing is doubled, nothing is lost.

use std::time::{Duration, Instant};

use super::comparison::{Copy, assert_same, assert_same_members, assert_same_objects};
use crate::fixtures::{
    appliance::{Appliance, PATIENCE, draft_with, text},
    people::{GROUPS, PEOPLE, Shape},
    slapd::{Options, Slapd},
    truth::Truth,
};
use serde_json::{Value, json};

/// Kills the appliance as soon as the run is in `state` and `later` more has passed; answers the state seen last.
async fn kill_when(appliance: &mut Appliance, run: &str, state: &str, later: Duration) -> String {
    let deadline = Instant::now() + PATIENCE;
    let seen = loop {
        let seen = text(&appliance.api.get(&format!("/api/runs/{run}")).await, "state");
        if seen == state || !matches!(seen.as_str(), "reading" | "planned" | "applying") {
            break seen;
        }
        assert!(Instant::now() < deadline, "run {run} still is {seen}");
    };
    // The point is to hit different moments of the work, so here time itself is the condition.
    tokio::time::sleep(later).await;
    appliance.kill();
    seen
}

/// After a restart: waits for the interrupted run to end; when it was given up, the appliance has begun another one by
/// itself, which must be applied.
async fn settle(appliance: &Appliance, directory: &str, run: &str) -> Value {
    let run = appliance.api.wait_for_end(run, PATIENCE).await;
    if run["state"] == "applied" {
        return run;
    }
    assert_eq!(run["state"], "failed", "an interrupted run goes on or is failed: {run}");
    assert!(!text(&run, "reason").is_empty(), "{run}");
    let runs = appliance.api.all(&format!("/api/directories/{directory}/runs"), "runs").await;
    let newest = text(&runs[0], "id");
    assert_ne!(newest, text(&run, "id"), "a run that was given up is done again: {runs:?}");
    let redone = appliance.api.wait_for_end(&newest, PATIENCE).await;
    assert_eq!(redone["state"], "applied", "{redone}");
    redone
}

/// The copy is the directory, to the last member of a few telling groups.
async fn assert_whole(appliance: &Appliance, directory: &str, truth: &Truth) {
    let copy = Copy::read(&appliance.api, directory).await;
    assert_same_objects(&copy, truth);
    for name in ["giant", "escaped", "nest-0", "g00009", "g00123"] {
        let found = truth.groups.iter().find(|(_, entry)| entry.text("cn").is_some_and(|cn| cn == name));
        let group =
            found.map_or_else(|| truth.group(&format!("cn=odd\\, group \\+ more \\\\ end,{GROUPS}")), |(id, _)| id);
        assert_same_members(&appliance.api, &copy, truth, group).await;
    }
}

#[tokio::test]
async fn a_kill_during_the_first_apply_doubles_nothing_and_loses_nothing() {
    let slapd = Slapd::start(Options::of(Shape::MEDIUM));
    let truth = Truth::read_attributes(&slapd, &[]);
    let mut appliance = Appliance::start().await;
    let mut killed_in_apply = 0;
    for (round, (state, later_ms)) in
        [("applying", 0), ("applying", 5), ("applying", 25), ("applying", 80), ("planned", 0), ("reading", 40)]
            .into_iter()
            .enumerate()
    {
        let name = json!(format!("round {round}"));
        let directory = appliance.api.create_directory(&draft_with(&slapd, &[("/name", name)])).await;
        let run = text(&appliance.api.request_run(&directory).await.expect(202), "id");
        let seen = kill_when(&mut appliance, &run, state, Duration::from_millis(later_ms)).await;
        killed_in_apply += u32::from(seen == "applying");
        appliance.restart().await;
        appliance.assert_audit_verifies();
        settle(&appliance, &directory, &run).await;
        assert_whole(&appliance, &directory, &truth).await;
        appliance.assert_audit_verifies();
        // Nothing is left over that a further run would find.
        let next = appliance.api.run_applied(&directory).await;
        let read = next["counts"]["read"].clone();
        assert_eq!(next["counts"]["unchanged"], read, "round {round}: {next}");
    }
    assert!(killed_in_apply >= 2, "only {killed_in_apply} kills came while a run was applying");
}

#[tokio::test]
async fn a_kill_while_changes_are_applied_keeps_ids_and_history() {
    let slapd = Slapd::start(Options::of(Shape::MEDIUM));
    let mut appliance = Appliance::start().await;
    let directory = appliance.api.create_directory(&draft_with(&slapd, &[("/name", json!("changing"))])).await;
    appliance.api.run_applied(&directory).await;
    let before = Copy::read(&appliance.api, &directory).await;
    for (round, later_ms) in [0, 10, 40].into_iter().enumerate() {
        // Half of the people get a new title.
        let records: String = (1_000..5_000)
            .map(|i| format!("dn: uid=u{i:06},{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: Round {round}\n\n"))
            .collect();
        slapd.modify(&records);
        let run = text(&appliance.api.request_run(&directory).await.expect(202), "id");
        kill_when(&mut appliance, &run, "applying", Duration::from_millis(later_ms)).await;
        appliance.restart().await;
        settle(&appliance, &directory, &run).await;
        let after = Copy::read(&appliance.api, &directory).await;
        assert_eq!(after.outline(), before.outline(), "round {round}");
        let truth = Truth::read_attributes(&slapd, &["title"]);
        for (external, entry) in &truth.people {
            assert_eq!(after.identities[external]["title"].as_str(), entry.text("title").as_deref(), "{}", entry.dn);
        }
        // The history has the change once, not once for each attempt.
        let id = before.id(truth.person("u002000"));
        let history = appliance.api.all(&format!("/api/identities/{id}/changes"), "changes").await;
        let titles: Vec<&Value> = history.iter().filter(|change| change["field"] == "title").collect();
        assert_eq!(titles.len(), round + 1, "{titles:?}");
        appliance.assert_audit_verifies();
    }
}

#[tokio::test]
async fn a_stop_in_mid_run_is_quick_and_clean() {
    let slapd = Slapd::shared();
    let wire = crate::fixtures::proxy::Proxy::start(slapd.tls_port);
    let mut appliance = Appliance::start().await;
    let server = json!([format!("ldaps://127.0.0.1:{}", wire.port)]);
    let directory = appliance.api.create_directory(&draft_with(slapd, &[("/settings/servers", server)])).await;
    wire.stall_after(100_000);
    let run = text(&appliance.api.request_run(&directory).await.expect(202), "id");
    wire.wait_until_stalled();
    appliance.stop();
    wire.release();
    appliance.restart().await;
    settle(&appliance, &directory, &run).await;
    assert_same_objects(&Copy::read(&appliance.api, &directory).await, &Truth::read(slapd));
    appliance.assert_audit_verifies();
}

/// Kills that are spread over everything a run does, from the request to long after its end.
const KILLS: u64 = 60;

/// Numbers from 0 to below `sides`, the same in every test run.
fn roll(seed: &mut u64, sides: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % sides.max(1)
}

/// Waits until whatever goes on by itself has ended: a run that a kill ended is followed by another one.
async fn rest(appliance: &Appliance, directory: &str) {
    loop {
        let runs = appliance.api.all(&format!("/api/directories/{directory}/runs"), "runs").await;
        let newest = appliance.api.wait_for_end(&text(&runs[0], "id"), PATIENCE).await;
        if newest["state"] == "applied" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn sixty_kills_at_random_moments_end_in_the_state_of_an_undisturbed_run() {
    let slapd = Slapd::start(Options::small());
    let mut appliance = Appliance::start().await;
    let directory = appliance.api.create_directory(&draft_with(&slapd, &[("/name", json!("killed"))])).await;
    let mut seed = 4_711;
    let mut states: Vec<String> = Vec::new();
    for round in 0..KILLS {
        // Changes of people and of members; the first rounds kill the very first run.
        if round >= 5 {
            let from = 200 + roll(&mut seed, 300);
            let records: String = (from..from + 40)
                .map(|i| {
                    format!("dn: uid=u{i:06},{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: Round {round}\n\n")
                })
                .collect();
            slapd.modify(&format!(
                "{records}dn: cn=team,{GROUPS}\nchangetype: modify\nadd: member\nmember: cn=killed {round},dc=elsewhere\n\n"
            ));
        }
        let mode = if round % 2 == 0 { "full" } else { "delta" };
        // What an earlier kill interrupted may still be going on; then that is what is killed.
        let asked = appliance.api.post(&format!("/api/directories/{directory}/runs"), &json!({"mode": mode})).await;
        let run = match asked.status {
            409 => text(&appliance.api.all(&format!("/api/directories/{directory}/runs"), "runs").await[0], "id"),
            _ => text(&asked.expect(202), "id"),
        };
        // Half of the kills as soon as the run is seen at work on something, half at any moment of it.
        match roll(&mut seed, 4) {
            0 => drop(kill_when(&mut appliance, &run, "applying", Duration::from_millis(roll(&mut seed, 8))).await),
            1 => drop(kill_when(&mut appliance, &run, "planned", Duration::from_millis(roll(&mut seed, 4))).await),
            _ => {
                tokio::time::sleep(Duration::from_millis(roll(&mut seed, 350))).await;
                appliance.kill();
            }
        }
        appliance.restart().await;
        if roll(&mut seed, 3) == 0 {
            // Once more, while it picks up what it was doing.
            tokio::time::sleep(Duration::from_millis(roll(&mut seed, 60))).await;
            appliance.kill();
            appliance.restart().await;
        }
        states.push(text(&appliance.api.get(&format!("/api/runs/{run}")).await, "state"));
        if round % 12 == 11 {
            rest(&appliance, &directory).await;
            appliance.api.run_applied(&directory).await;
            assert_same(&appliance.api, &directory, &Truth::read(&slapd)).await;
            appliance.assert_audit_verifies();
        }
    }
    rest(&appliance, &directory).await;
    // Both ways to be interrupted came, and so did runs that were through already.
    for state in ["failed", "applied"] {
        assert!(states.iter().any(|seen| seen == state), "{states:?}");
    }
    let last = appliance.api.run_applied(&directory).await;
    let again = appliance.api.run_applied(&directory).await;
    assert_eq!(again["counts"]["unchanged"], again["counts"]["read"], "{last} {again}");
    assert_same(&appliance.api, &directory, &Truth::read(&slapd)).await;
    appliance.assert_audit_verifies();
    // What was never disturbed holds the same.
    let undisturbed = Appliance::start().await;
    let other = undisturbed.api.create_directory(&draft_with(&slapd, &[("/name", json!("undisturbed"))])).await;
    undisturbed.api.run_applied(&other).await;
    let (killed, whole) = (Copy::read(&appliance.api, &directory).await, Copy::read(&undisturbed.api, &other).await);
    let content = |copy: &Copy| -> Vec<(String, Value)> {
        let all = copy.identities.iter().chain(&copy.groups);
        all.map(|(external, item)| {
            let mut item = item.clone();
            for name in ["id", "directoryId", "managerId"] {
                if let Some(fields) = item.as_object_mut() {
                    fields.remove(name);
                }
            }
            (external.clone(), item)
        })
        .collect()
    };
    assert_eq!(content(&killed), content(&whole));
}
