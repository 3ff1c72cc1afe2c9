//! What goes wrong in real life: each a failed run with its own sentence, the copy untouched, the schedule alive.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::comparison::{Copy, assert_same_objects};
use crate::fixtures::{
    appliance::{Api, Appliance, PATIENCE, draft, draft_with, text},
    people::SUFFIX,
    programs::free_port,
    proxy::Proxy,
    slapd::{Certificate, LIMITED_DN, Options, SYNC_DN, SYNC_PASSWORD, Slapd, UNPAGED_DN, other_ca_pem},
    truth::Truth,
};

/// Changes a directory's settings or credentials; what is not named stays. The right credentials go along unless
/// others are given: other servers are not sent the stored ones.
async fn change(api: &Api, directory: &str, changes: &Value) {
    let mut changes = changes.clone();
    let right = credentials(SYNC_DN, SYNC_PASSWORD)["credentials"].clone();
    changes.as_object_mut().expect("changes are an object").entry("credentials").or_insert(right);
    api.post(&format!("/api/directories/{directory}"), &changes).await.ok();
}

/// The directory's settings as the API shows them.
async fn settings(api: &Api, directory: &str) -> Value {
    api.get(&format!("/api/directories/{directory}")).await["settings"].clone()
}

/// The same settings with one of them replaced.
fn with(settings: &Value, name: &str, value: Value) -> Value {
    let mut settings = settings.clone();
    settings.as_object_mut().expect("settings are an object").insert(name.to_owned(), value);
    json!({"settings": settings})
}

fn credentials(dn: &str, password: &str) -> Value {
    json!({"credentials": {"read": {"bindDn": dn, "password": password}}})
}

#[tokio::test]
async fn each_failure_has_its_own_sentence_and_leaves_the_copy_alone() {
    let mut slapd = Slapd::start(Options::small());
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let directory = api.create_directory(&draft(&slapd)).await;
    api.run_applied(&directory).await;
    let good = settings(api, &directory).await;
    let before = Copy::read(api, &directory).await;
    let truth = Truth::read(&slapd);
    assert_same_objects(&before, &truth);

    let mut reasons: BTreeMap<&str, String> = BTreeMap::new();
    // Wrong settings, one at a time.
    for (name, wrong) in [
        ("wrong password", credentials(SYNC_DN, "not-the-password")),
        ("size limit in spite of pages", credentials(LIMITED_DN, SYNC_PASSWORD)),
        ("size limit without pages", credentials(UNPAGED_DN, SYNC_PASSWORD)),
        ("unreachable server", with(&good, "servers", json!([format!("ldaps://127.0.0.1:{}", free_port())]))),
        ("unknown host", with(&good, "servers", json!(["ldaps://no-such-host.invalid:636"]))),
        ("untrusted certificate", with(&good, "caPem", json!(other_ca_pem()))),
        ("no such base", with(&good, "baseDns", json!([format!("ou=nowhere,{SUFFIX}")]))),
    ] {
        change(api, &directory, &wrong).await;
        reasons.insert(name, api.run_failed(&directory).await);
        change(api, &directory, &json!({"settings": good})).await;
        change(api, &directory, &credentials(SYNC_DN, SYNC_PASSWORD)).await;
    }
    // A server that changed.
    for (name, certificate) in
        [("expired certificate", Certificate::Expired), ("wrong host name", Certificate::WrongName)]
    {
        slapd.restart_with(certificate);
        reasons.insert(name, api.run_failed(&directory).await);
    }
    slapd.restart_with(Certificate::SelfSigned);
    let self_signed = api.run_failed(&directory).await;
    assert!(!self_signed.is_empty());
    slapd.restart_with(Certificate::None);
    let mut start_tls = with(&good, "servers", json!([slapd.url()]));
    start_tls["settings"]["startTls"] = json!(true);
    change(api, &directory, &start_tls).await;
    reasons.insert("refused StartTLS", api.run_failed(&directory).await);

    for (name, reason) in &reasons {
        assert!(reason.len() > 20 && reason.contains(' ') && !reason.contains(SYNC_PASSWORD), "{name}: {reason:?}");
        for (other, same) in &reasons {
            let both_limits = name.starts_with("size limit") && other.starts_with("size limit");
            assert!(name == other || both_limits || reason != same, "{name} and {other} both say {reason:?}");
        }
    }
    for (name, word) in [
        ("wrong password", SYNC_DN),
        ("unknown host", "no-such-host.invalid"),
        ("no such base", "ou=nowhere"),
        ("expired certificate", "expired"),
        ("refused StartTLS", "StartTLS"),
        ("size limit in spite of pages", "limit"),
    ] {
        assert!(reasons[name].contains(word), "{name}: {:?} has {word:?}", reasons[name]);
    }

    // Nothing was lost, and the next run after the repair works as if nothing had been.
    assert_eq!(Copy::read(api, &directory).await.outline(), before.outline());
    slapd.restart_with(Certificate::Valid);
    change(api, &directory, &json!({"settings": good})).await;
    let run = api.run_applied(&directory).await;
    assert_eq!(run["counts"]["missing"], 0, "{run}");
    assert_same_objects(&Copy::read(api, &directory).await, &truth);
    appliance.assert_audit_verifies();
}

#[tokio::test]
async fn a_server_that_dies_in_mid_run_costs_the_run_and_nothing_else() {
    let slapd = Slapd::start(Options::small());
    let wire = Proxy::start(slapd.tls_port);
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let server = json!([format!("ldaps://127.0.0.1:{}", wire.port)]);
    let directory = api.create_directory(&draft_with(&slapd, &[("/settings/servers", server)])).await;
    api.run_applied(&directory).await;
    let before = Copy::read(api, &directory).await;

    for bytes in [50, 3_000, 20_000, 150_000, 400_000] {
        wire.stall_after(bytes);
        let run = api.request_run(&directory).await.expect(202);
        wire.wait_until_stalled();
        slapd.kill();
        wire.cut();
        let run = api.wait_for_end(&text(&run, "id"), PATIENCE).await;
        assert_eq!(run["state"], "failed", "killed after {bytes} bytes: {run}");
        assert!(!text(&run, "reason").is_empty());
        assert_eq!(run["counts"]["missing"], 0, "a short answer makes nobody missing: {run}");
        assert_eq!(Copy::read(api, &directory).await.outline(), before.outline(), "killed after {bytes} bytes");
        slapd.restart();
    }
    let run = api.run_applied(&directory).await;
    assert_eq!(run["counts"]["missing"], 0, "{run}");
    assert_eq!(Copy::read(api, &directory).await.outline(), before.outline());
}

#[tokio::test]
async fn a_first_run_that_is_cut_short_leaves_no_half_copy() {
    let slapd = Slapd::shared();
    let wire = Proxy::start(slapd.tls_port);
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let server = json!([format!("ldaps://127.0.0.1:{}", wire.port)]);
    let directory = api.create_directory(&draft_with(slapd, &[("/settings/servers", server)])).await;
    wire.stall_after(300_000);
    let run = api.request_run(&directory).await.expect(202);
    wire.wait_until_stalled();
    wire.cut();
    let run = api.wait_for_end(&text(&run, "id"), PATIENCE).await;
    assert_eq!(run["state"], "failed", "{run}");
    let copy = Copy::read(api, &directory).await;
    assert!(copy.identities.is_empty() && copy.groups.is_empty(), "{} identities", copy.identities.len());
    api.run_applied(&directory).await;
    assert_same_objects(&Copy::read(api, &directory).await, &Truth::read(slapd));
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up_in_time() {
    let slapd = Slapd::start(Options::small());
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let directory = api.create_directory(&draft(&slapd)).await;
    api.run_applied(&directory).await;
    slapd.freeze();
    let run = api.run_full_within(&directory, Duration::from_secs(90)).await;
    assert_eq!(run["state"], "failed", "{run}");
    assert!(!text(&run, "reason").is_empty());
    slapd.thaw();
    api.run_applied(&directory).await;
}

#[tokio::test]
async fn the_second_server_takes_over_when_the_first_is_down() {
    let slapd = Slapd::shared();
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let dead = format!("ldaps://127.0.0.1:{}", free_port());
    let unknown = "ldaps://no-such-host.invalid:636".to_owned();
    let servers = json!([dead, unknown, slapd.tls_url()]);
    let directory = api.create_directory(&draft_with(slapd, &[("/settings/servers", servers)])).await;
    api.run_applied(&directory).await;
    assert_same_objects(&Copy::read(api, &directory).await, &Truth::read(slapd));
}

#[tokio::test]
async fn when_no_server_answers_the_reason_names_each() {
    let slapd = Slapd::shared();
    let appliance = Appliance::start().await;
    let (one, two) = (free_port(), free_port());
    let servers = json!([format!("ldaps://127.0.0.1:{one}"), format!("ldaps://127.0.0.1:{two}")]);
    let directory = appliance.api.create_directory(&draft_with(slapd, &[("/settings/servers", servers)])).await;
    let reason = appliance.api.run_failed(&directory).await;
    assert!(reason.contains(&one.to_string()) && reason.contains(&two.to_string()), "{reason}");
}

#[tokio::test]
async fn plain_ldap_needs_an_explicit_yes() {
    let slapd = Slapd::shared();
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let plain = [("/settings/servers", json!([slapd.url()])), ("/settings/startTls", json!(false))];
    let refused = api.post("/api/directories", &draft_with(slapd, &plain)).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.body["fields"].to_string().contains("acceptPlaintext"), "{}", refused.body);
    assert!(api.all("/api/directories", "directories").await.is_empty());

    let mut accepted = plain.to_vec();
    accepted.push(("/settings/acceptPlaintext", json!(true)));
    let directory = api.create_directory(&draft_with(slapd, &accepted)).await;
    api.run_applied(&directory).await;
    assert_same_objects(&Copy::read(api, &directory).await, &Truth::read(slapd));
}

#[tokio::test]
async fn an_empty_password_is_refused_before_anybody_is_asked() {
    let slapd = Slapd::shared();
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    for password in ["", " ", "\0"] {
        let read = json!({"bindDn": SYNC_DN, "password": password});
        let answer = api.post("/api/directories", &draft_with(slapd, &[("/credentials/read", read)])).await;
        assert!(matches!(answer.status, 400 | 422), "{password:?}: {} {}", answer.status, answer.body);
    }
}
