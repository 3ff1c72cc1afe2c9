//! Acting on accounts of a real OpenLDAP with its password policy overlay: done, read back, taken back, refused.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixtures::{
    acting::{act, act_observed, ask, identity, outcome, wait},
    appliance::{Api, Appliance, draft, text},
    people::{CANARY, PEOPLE},
    proxy::Proxy,
    slapd::{ACT_DN, Options, SYNC_PASSWORD, Slapd},
};

fn acting_draft(slapd: &Slapd) -> Value {
    let mut draft = draft(slapd);
    draft["credentials"]["act"] = json!({"bindDn": ACT_DN, "password": SYNC_PASSWORD});
    draft
}

fn dn(user: &str) -> String {
    format!("uid={user},{PEOPLE}")
}

fn password(user: &str) -> String {
    format!("{CANARY}{user}")
}

/// A server, an appliance, and the directory, read.
async fn begin() -> (Slapd, Appliance, String) {
    let slapd = Slapd::start(Options::small());
    let appliance = Appliance::start().await;
    let directory = appliance.api.create_directory(&acting_draft(&slapd)).await;
    appliance.api.run_applied(&directory).await;
    (slapd, appliance, directory)
}

#[tokio::test]
async fn an_account_is_disabled_enabled_and_asked_for_a_new_password() {
    let (slapd, appliance, directory) = begin().await;
    let api = &appliance.api;
    let user = identity(api, &directory, "u000107").await;
    let may_sign_in = || slapd.accepts(&dn("u000107"), &password("u000107"));
    assert!(may_sign_in());
    let disabled = act_observed(api, "disable", &user).await;
    assert!(!may_sign_in(), "the server refuses the account");
    assert_eq!(disabled["after"]["values"]["pwdaccountlockedtime"], "000001010000Z");
    assert_eq!(disabled["wasSo"], false);
    assert_eq!(disabled["inverse"], "enable");
    // Done twice, it is sent once.
    let again = act_observed(api, "disable", &user).await;
    assert_eq!((again["wasSo"].as_bool(), again.get("sentAt")), (Some(true), None), "{again}");
    // Whoever asked for the second one wants it so: the first is not taken back over their head.
    let reason = json!({"reason": "it was a test"});
    api.post(&format!("/api/tasks/{}/undo", text(&disabled, "id")), &reason).await.expect(409);
    act_observed(api, "enable", &user).await;
    assert!(may_sign_in());

    let reset = act_observed(api, "force-password-reset", &user).await;
    assert_eq!(reset["after"]["values"]["pwdreset"], "TRUE");
    let undone =
        api.post(&format!("/api/tasks/{}/undo", text(&reset, "id")), &json!({"reason": "mistaken"})).await.expect(201);
    let tasks = wait(api, &text(&undone, "requestId"), Duration::from_secs(60)).await;
    assert_eq!(outcome(&tasks).0, "observed");
    assert_eq!(tasks[0]["action"], "cancel-password-reset");
    assert_eq!(tasks[0]["inverseOf"], reset["id"]);
    // A second undo finds nothing.
    api.post(&format!("/api/tasks/{}/undo", text(&reset, "id")), &json!({"reason": "mistaken"})).await.expect(409);
    appliance.assert_audit_verifies();
    appliance.assert_nowhere_on_disk(SYNC_PASSWORD);
}

#[tokio::test]
async fn a_lock_after_wrong_passwords_is_taken_away_and_one_for_good_is_not() {
    let (slapd, appliance, directory) = begin().await;
    let api = &appliance.api;
    for _ in 0..3 {
        assert!(!slapd.accepts(&dn("u000111"), "wrong"));
    }
    assert!(!slapd.accepts(&dn("u000111"), &password("u000111")), "three wrong passwords lock");
    let user = identity(api, &directory, "u000111").await;
    act_observed(api, "unlock", &user).await;
    assert!(slapd.accepts(&dn("u000111"), &password("u000111")));
    act_observed(api, "disable", &user).await;
    let (state, reason) = outcome(&act(api, "unlock", &[&user]).await);
    assert_eq!(state, "refused");
    assert!(reason.contains("Enable it instead"), "{reason}");
}

#[tokio::test]
async fn what_openldap_cannot_do_is_refused_with_what_helps() {
    let (_slapd, appliance, directory) = begin().await;
    let api = &appliance.api;
    let user = identity(api, &directory, "u000101").await;
    for (action, part) in [("force-sign-out", "no way to end sessions"), ("contain", "Disable the account")] {
        let request = ask(api, action, &[&user]).await;
        assert_eq!(request["state"], "unsuccessful", "over at once: {request}");
        assert_eq!(request["tasks"][0]["state"], "refused");
        let reason = text(&request["tasks"][0], "error");
        assert!(reason.contains(part), "{reason}");
    }
    for (body, status) in [
        (json!({"action": "delete", "identities": [user["id"]], "reason": "x"}), 422),
        (json!({"action": "disable", "identities": [], "reason": "x"}), 422),
        (json!({"action": "disable", "identities": ["999999999"], "reason": "x"}), 422),
        (json!({"action": "disable", "identities": [user["id"]], "reason": " "}), 422),
        (json!({"action": "disable", "identities": [user["id"]]}), 422),
        (json!({"action": "disable", "identities": [user["id"]], "reason": "x", "for": "1y"}), 422),
    ] {
        api.post("/api/tasks", &body).await.expect(status);
    }
}

#[tokio::test]
async fn an_attribute_of_the_directory_s_own_disables() {
    let slapd = Slapd::start(Options::small());
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let mut draft = acting_draft(&slapd);
    draft["settings"]["disableBy"] = json!({"attribute": "description", "disabled": "LEFT", "enabled": "HERE"});
    let directory = api.create_directory(&draft).await;
    api.run_applied(&directory).await;
    let user = identity(api, &directory, "u000103").await;
    // What stood there before comes back when it is taken back, and the copy knows what it means.
    slapd.modify(&format!(
        "dn: {}\nchangetype: modify\nreplace: description\ndescription: night shift\n",
        dn("u000103")
    ));
    let disabled = act_observed(api, "disable", &user).await;
    assert_eq!(disabled["after"]["values"]["description"], "LEFT");
    let begun = Instant::now();
    while identity(api, &directory, "u000103").await["status"] != "disabled" {
        assert!(begun.elapsed() < Duration::from_secs(30), "the copy says so too");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let undo = format!("/api/tasks/{}/undo", text(&disabled, "id"));
    let undone = api.post(&undo, &json!({"reason": "a test"})).await.expect(201);
    let tasks = wait(api, &text(&undone, "requestId"), Duration::from_secs(30)).await;
    assert_eq!(tasks[0]["after"]["values"]["description"], "night shift", "{tasks:?}");
    act_observed(api, "disable", &user).await;
    let enabled = act_observed(api, "enable", &user).await;
    assert_eq!(enabled["after"]["values"]["description"], "HERE");
    for (field, wrong) in
        [("attribute", "userPassword"), ("attribute", "not a name"), ("enabled", "LEFT"), ("disabled", "")]
    {
        draft["settings"]["disableBy"] = json!({"attribute": "description", "disabled": "LEFT", "enabled": "HERE"});
        draft["settings"]["disableBy"][field] = json!(wrong);
        let answer = api.post("/api/directories", &draft).await.expect(422);
        assert!(answer["fields"].get(format!("settings.disableBy.{field}")).is_some(), "{answer}");
    }
}

#[tokio::test]
async fn without_the_right_the_line_that_grants_it_is_named() {
    let slapd = Slapd::start(Options::small());
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let mut draft = acting_draft(&slapd);
    draft["credentials"]["act"] = draft["credentials"]["read"].clone();
    let directory = api.create_directory(&draft).await;
    api.run_applied(&directory).await;
    let user = identity(api, &directory, "u000102").await;
    let tasks = act(api, "disable", &[&user]).await;
    let (state, reason) = outcome(&tasks);
    assert_eq!(state, "unsuccessful");
    assert!(reason.contains("may not make this change") && reason.contains("insufficientAccess"), "{reason}");
    let fix = text(&tasks[0], "nextStep");
    assert!(fix.contains("olcAccess") && fix.contains("pwdAccountLockedTime") && fix.contains(PEOPLE), "{fix}");
    let report = api.post(&format!("/api/directories/{directory}/probe"), &json!({})).await.ok();
    let all = report["abilities"].as_array().expect("abilities");
    let disable = all.iter().find(|ability| ability["ability"] == "disable").expect("acting is tried");
    assert_eq!(disable["state"], "unknown", "OpenLDAP does not tell");
    // Without credentials for acting nothing is even asked.
    api.post(&format!("/api/directories/{directory}"), &json!({"credentials": {"act": null}})).await.ok();
    let (state, reason) = outcome(&act(api, "disable", &[&user]).await);
    assert_eq!(state, "refused");
    assert!(reason.contains("only read"), "{reason}");
    // A wrong password ends at once: another try could lock the account that acts.
    let wrong = json!({"credentials": {"act": {"bindDn": ACT_DN, "password": "wrong"}}});
    api.post(&format!("/api/directories/{directory}"), &wrong).await.ok();
    let tasks = act(api, "disable", &[&user]).await;
    assert_eq!(outcome(&tasks).0, "unsuccessful");
    assert_eq!(tasks[0]["attempts"], 1);
}

#[tokio::test]
async fn a_bulk_is_one_request_and_one_record_and_what_must_not_be_is_refused_in_it() {
    let (slapd, appliance, directory) = begin().await;
    let api = &appliance.api;
    let all = api.identities(&directory).await;
    let users: Vec<&Value> =
        all.iter().filter(|identity| text(identity, "userName").starts_with("u0001")).take(40).collect();
    let protected = users[3];
    let body = json!({"kind": "identity", "objectId": protected["id"], "note": "the boss"});
    api.post("/api/protections", &body).await.expect(201);
    api.post("/api/protections", &body).await.expect(409);
    let tasks = act(api, "disable", &users).await;
    assert_eq!(tasks.len(), users.len());
    for (task, user) in tasks.iter().zip(&users) {
        let is_protected = user["id"] == protected["id"];
        assert_eq!(text(task, "state"), if is_protected { "refused" } else { "observed" }, "{task}");
        let name = text(user, "userName");
        assert_eq!(slapd.accepts(&dn(&name), &password(&name)), is_protected, "{name}");
    }
    let reason = text(&tasks[3], "error");
    assert!(reason.contains("protected list (the boss)"), "{reason}");
    let request = api.get(&format!("/api/task-requests/{}", text(&tasks[0], "requestId"))).await;
    assert_eq!(request["state"], "partially-successful");
    assert_eq!((request["counts"]["observed"].as_u64(), request["counts"]["refused"].as_u64()), (Some(39), Some(1)));
    let logs = api.all("/api/logs", "logs").await;
    let of = |kind: &str| logs.iter().filter(|record| record["type"] == kind).collect::<Vec<_>>();
    let requested = of("audit.enforcement_requested.v1");
    assert_eq!(requested.len(), 1);
    assert_eq!(requested[0]["details"]["identities"].as_array().map(Vec::len), Some(40));
    let finished = of("audit.enforcement_finished.v1");
    assert_eq!(finished.len(), 1);
    assert_eq!(finished[0]["details"]["tasks"].as_array().map(Vec::len), Some(40));
    // Undone as a whole, again as one request.
    let undo = format!("/api/task-requests/{}/undo", text(&request, "id"));
    let undone = api.post(&undo, &json!({"reason": "it was a test"})).await.expect(201);
    let tasks = wait(api, &text(&undone, "requestId"), Duration::from_secs(60)).await;
    assert_eq!(tasks.len(), 39);
    assert!(tasks.iter().all(|task| task["state"] == "observed"));
    assert!(users.iter().all(|user| slapd.accepts(&dn(&text(user, "userName")), &password(&text(user, "userName")))));
    appliance.assert_audit_verifies();
}

#[tokio::test]
async fn a_kill_between_the_change_and_its_answer_ends_observed_and_not_doubled() {
    let slapd = Slapd::start(Options::small());
    let proxy = Proxy::start(slapd.port);
    let mut appliance = Appliance::start().await;
    let mut draft = acting_draft(&slapd);
    draft["settings"]["servers"] = json!([format!("ldap://127.0.0.1:{}", proxy.port)]);
    draft["settings"]["acceptPlaintext"] = json!(true);
    let directory = appliance.api.create_directory(&draft).await;
    appliance.api.run_applied(&directory).await;
    let user = identity(&appliance.api, &directory, "u000105").await;
    proxy.hold_answer_to_a_change();
    let request = text(&ask(&appliance.api, "disable", &[&user]).await, "requestId");
    proxy.wait_until_stalled();
    assert!(!slapd.accepts(&dn("u000105"), &password("u000105")), "the change got there");
    appliance.kill();
    proxy.release();
    let changed_once = modify_stamp(&slapd, "u000105");
    appliance.restart().await;
    let tasks = wait(&appliance.api, &request, Duration::from_secs(60)).await;
    assert_eq!(outcome(&tasks).0, "observed", "{tasks:?}");
    assert_eq!(tasks[0]["wasSo"], false, "it was our change");
    assert_eq!(tasks[0]["inverse"], "enable", "and we can take it back");
    assert_eq!(modify_stamp(&slapd, "u000105"), changed_once, "it was not sent again");
}

/// When the server says that an entry was last changed: finer than a second.
fn modify_stamp(slapd: &Slapd, user: &str) -> String {
    crate::fixtures::ldapsearch::entry(slapd, &dn(user)).text("entryCSN").expect("entryCSN")
}

#[tokio::test]
async fn a_server_that_is_gone_is_tried_again_and_a_change_by_hand_wins() {
    let (slapd, appliance, directory) = begin().await;
    let api = &appliance.api;
    let user = identity(api, &directory, "u000109").await;
    slapd.kill();
    let request = text(&ask(api, "disable", &[&user]).await, "requestId");
    let tried = crate::fixtures::acting::wait_for(api, &request, Duration::from_secs(30), |tasks| {
        tasks[0]["attempts"].as_u64().unwrap_or(0) >= 2
    })
    .await;
    assert_eq!(tried[0]["state"], "queued");
    assert!(text(&tried[0], "error").contains("127.0.0.1"), "{tried:?}");
    slapd.restart();
    let tasks = wait(api, &request, Duration::from_secs(60)).await;
    assert_eq!(outcome(&tasks).0, "observed");
    // The copy is brought up to date by itself.
    let begun = Instant::now();
    while identity(api, &directory, "u000109").await["status"] != "disabled" {
        assert!(begun.elapsed() < Duration::from_secs(30), "a run of changes follows the task");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Somebody enables the account by hand: the next run finds it, and nothing is taken back over their head.
    slapd.modify(&format!("dn: {}\nchangetype: modify\ndelete: pwdAccountLockedTime\n", dn("u000109")));
    while api.request_run(&directory).await.status == 409 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let drifted = crate::fixtures::acting::wait_for(api, &request, Duration::from_secs(30), |tasks| {
        tasks[0].get("drift").is_some()
    })
    .await;
    let what = text(&drifted[0], "drift");
    assert!(what.contains("Enabled outside Bailiwick"), "{what}");
    assert_eq!(drifted[0].get("inverse"), None);
    api.post(&format!("/api/tasks/{}/undo", text(&drifted[0], "id")), &json!({"reason": "x"})).await.expect(409);
}

mod long {
    use super::*;
    use crate::fixtures::people::Shape;

    #[tokio::test]
    async fn a_thousand_at_once_keep_nobody_waiting() {
        let slapd = Slapd::start(Options::of(Shape::YARDSTICK));
        let appliance = Appliance::start().await;
        let api = &appliance.api;
        let directory = api.create_directory(&acting_draft(&slapd)).await;
        api.run_applied(&directory).await;
        let path = Api::path("/api/identities", &[("directory", &directory)]);
        let everybody = api.all(&path, "identities").await;
        let ids: Vec<&Value> = everybody.iter().take(1_000).map(|identity| &identity["id"]).collect();
        // Somebody else changes a setting again and again meanwhile.
        let other = Api::new(&appliance.url(), &appliance.api.key);
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let saving = tokio::spawn(async move {
            let mut waits = Vec::new();
            for count in 1.. {
                let begun = Instant::now();
                other.post("/api/two-person-rule", &json!({"aboveCount": 5_000 + count})).await.ok();
                waits.push(begun.elapsed());
                if stopped.try_recv().is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            waits.sort();
            waits
        });
        let begun = Instant::now();
        let body = json!({"action": "disable", "identities": ids, "reason": "a drill"});
        let request = api.post("/api/tasks", &body).await.expect(201);
        let asked = begun.elapsed();
        let tasks = wait(api, &text(&request, "requestId"), Duration::from_secs(120)).await;
        let done = begun.elapsed();
        stop.send(()).expect("the other one still saves");
        let waits = saving.await.expect("saved all along");
        assert!(tasks.iter().all(|task| task["state"] == "observed"));
        let p99 = waits[waits.len() * 99 / 100];
        println!(
            "asked {asked:?}, done {done:?}, {} saves: p99 {p99:?}, worst {:?}",
            waits.len(),
            waits[waits.len() - 1]
        );
        assert!(asked < Duration::from_secs(5) && p99 < Duration::from_millis(500), "{asked:?} {p99:?}");
    }
}
