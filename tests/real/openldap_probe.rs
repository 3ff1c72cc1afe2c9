//! The probe names the step that fails, and only that one.

use serde_json::{Value, json};

use crate::fixtures::{
    appliance::{Api, Appliance, draft_with, text},
    programs::free_port,
    slapd::{Certificate, Options, SYNC_DN, Slapd, UNPAGED_DN, other_ca_pem},
};

/// What is wrong, the server, the settings that make it so, the step that must fail, and a word of its message.
type Case<'a> = (&'a str, &'a Slapd, Vec<(&'a str, Value)>, &'a str, &'a str);

/// Probes a directory made from the draft with these changes; answers its steps as (step, state, message, fix).
async fn probe(
    api: &Api,
    slapd: &Slapd,
    name: &str,
    changes: &[(&str, Value)],
) -> Vec<(String, String, String, Value)> {
    let mut changes = changes.to_vec();
    changes.push(("/name", json!(name)));
    let directory = api.create_directory(&draft_with(slapd, &changes)).await;
    let report = api.post(&format!("/api/directories/{directory}/probe"), &json!({})).await.ok();
    let steps = report["steps"].as_array().unwrap_or_else(|| panic!("steps in {report}"));
    steps
        .iter()
        .map(|step| (text(step, "step"), text(step, "state"), text(step, "message"), step["fix"].clone()))
        .collect()
}

#[tokio::test]
async fn a_good_directory_is_ok_in_every_step() {
    let appliance = Appliance::start().await;
    let steps = probe(&appliance.api, Slapd::shared(), "good", &[]).await;
    let names: Vec<&str> = steps.iter().map(|step| step.0.as_str()).collect();
    for step in ["name-resolution", "connect", "tls", "bind", "base", "users", "groups", "paging", "syncrepl"] {
        assert!(names.contains(&step), "{step} is tried: {names:?}");
    }
    for (step, state, message, _) in &steps {
        assert_eq!(state, "ok", "{step}: {message}");
    }
    let tls = &steps.iter().find(|step| step.0 == "tls").expect("there").2;
    assert!(tls.contains("directory.example.test"), "the certificate's subject is shown: {tls}");
}

#[tokio::test]
async fn each_bad_setting_fails_in_its_own_step_with_a_fix() {
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let good = Slapd::shared();
    let expired = Slapd::start(Options::small().with(Certificate::Expired));
    let wrong_name = Slapd::start(Options::small().with(Certificate::WrongName));
    let self_signed = Slapd::start(Options::small().with(Certificate::SelfSigned));
    let without_tls = Slapd::start(Options::small().with(Certificate::None));
    let nobody = json!([format!("ldaps://127.0.0.1:{}", free_port())]);
    let password = json!({"bindDn": SYNC_DN, "password": "wrong"});
    let unpaged = json!({"bindDn": UNPAGED_DN, "password": "sync-secret"});
    let start_tls = [("/settings/servers", json!([without_tls.url()])), ("/settings/startTls", json!(true))];
    let cases: Vec<Case> = vec![
        (
            "unknown host",
            good,
            vec![("/settings/servers", json!(["ldaps://no-such-host.invalid:636"]))],
            "name-resolution",
            "no-such-host.invalid",
        ),
        ("unreachable", good, vec![("/settings/servers", nobody)], "connect", "127.0.0.1"),
        ("untrusted", good, vec![("/settings/caPem", json!(other_ca_pem()))], "tls", "trusted"),
        ("expired", &expired, vec![], "tls", "expired"),
        ("wrong name", &wrong_name, vec![], "tls", "other.example.test"),
        ("self-signed", &self_signed, vec![], "tls", ""),
        ("StartTLS refused", &without_tls, start_tls.to_vec(), "tls", "StartTLS"),
        ("wrong password", good, vec![("/credentials/read", password)], "bind", SYNC_DN),
        (
            "no such base",
            good,
            vec![("/settings/baseDns", json!(["ou=nowhere,dc=example,dc=test"]))],
            "base",
            "ou=nowhere",
        ),
        ("paging refused", good, vec![("/credentials/read", unpaged)], "users", ""),
    ];
    for (name, slapd, changes, failing, word) in cases {
        let steps = probe(api, slapd, name, &changes).await;
        let failed = steps.iter().find(|step| step.1 == "failed");
        let (step, _, message, fix) = failed.unwrap_or_else(|| panic!("{name}: a step fails in {steps:?}"));
        assert_eq!(step, failing, "{name}: {message}");
        assert!(message.contains(word), "{name}: {message:?} has {word:?}");
        assert!(fix.as_str().is_some_and(|fix| !fix.is_empty()), "{name}: a fix beside {message:?}");
        for (later, state, message, _) in steps.iter().skip_while(|step| step.1 != "failed").skip(1) {
            // Who may not read may still be told what the server offers.
            let may_go_on = matches!(later.as_str(), "paging" | "syncrepl") && matches!(failing, "base" | "users");
            assert!(may_go_on || state == "skipped" || state == "failed", "{name}: {later} is {state}: {message}");
        }
        assert!(!format!("{steps:?}").contains("sync-secret"), "no password in a probe");
    }
}

#[tokio::test]
async fn filters_that_find_nobody_are_pointed_at() {
    let appliance = Appliance::start().await;
    for (name, setting, step) in
        [("no users", "/settings/userFilter", "users"), ("no groups", "/settings/groupFilter", "groups")]
    {
        let changes = [(setting, json!("(objectClass=dSA)"))];
        let steps = probe(&appliance.api, Slapd::shared(), name, &changes).await;
        let found = steps.iter().find(|found| found.0 == step).expect("the step is there");
        assert!(matches!(found.1.as_str(), "failed" | "warning"), "{found:?}");
        let others = steps.iter().filter(|other| other.0 != step);
        assert!(others.clone().all(|other| other.1 == "ok"), "{:?}", others.collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_server_without_syncrepl_is_said_to_have_none() {
    let appliance = Appliance::start().await;
    let slapd = Slapd::start(Options { sync_provider: false, ..Options::small() });
    let steps = probe(&appliance.api, &slapd, "no syncprov", &[]).await;
    let found = steps.iter().find(|step| step.0 == "syncrepl").expect("the step is there");
    assert_ne!(found.1, "ok", "{found:?}");
    assert!(steps.iter().filter(|step| step.0 != "syncrepl").all(|step| step.1 == "ok"), "{steps:?}");
}
