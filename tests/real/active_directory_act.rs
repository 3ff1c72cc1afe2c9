//! Acting on accounts of a real domain: what a controller of Samba says afterwards to whoever signs in is the proof.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixtures::{
    acting::{act, act_observed, ask, identity, outcome, wait, wait_for},
    appliance::{Api, Appliance, text},
    ldapsearch, programs,
    samba::{self, BASE, STAFF, Samba, Size},
};

const ACT: &str = "svc-act@ad.example.test";

fn acting_draft(samba: &Samba) -> Value {
    let mut draft = samba.draft(&[]);
    draft["credentials"]["act"] = json!({"bindDn": ACT, "password": samba::password(ACT)});
    draft
}

async fn begin() -> (Samba, Appliance, String) {
    let samba = Samba::start(Size::SMALL);
    let appliance = Appliance::start().await;
    let directory = appliance.api.create_directory(&acting_draft(&samba)).await;
    appliance.api.run_applied(&directory).await;
    (samba, appliance, directory)
}

/// What the controller says to a user who signs in with the right password; nothing when it lets them in.
fn refusal(samba: &Samba, user: &str) -> Option<String> {
    samba.refusal(&format!("{user}@ad.example.test"), &samba::password(user))
}

fn is_refused_with(samba: &Samba, user: &str, code: &str) -> bool {
    refusal(samba, user).is_some_and(|said| said.contains(&format!("data {code}")))
}

fn attribute(samba: &Samba, user: &str, name: &str) -> Option<String> {
    let mut command = samba.tool("ldapsearch");
    command.args(["-LLL", "-o", "ldif-wrap=no", "-b", BASE, &format!("(sAMAccountName={user})"), name]);
    ldapsearch::parse(&programs::run(&mut command)).first().and_then(|entry| entry.text(name))
}

#[tokio::test]
async fn a_disabled_user_cannot_sign_in_and_an_enabled_one_can() {
    let (samba, appliance, directory) = begin().await;
    let api = &appliance.api;
    assert_eq!(refusal(&samba, "alice"), None);
    let alice = identity(api, &directory, "alice").await;
    let task = act_observed(api, "disable", &alice).await;
    assert!(is_refused_with(&samba, "alice", "533"), "{:?}", refusal(&samba, "alice"));
    assert_eq!(
        (
            task["before"]["values"]["useraccountcontrol"].as_str(),
            task["after"]["values"]["useraccountcontrol"].as_str()
        ),
        (Some("512"), Some("514"))
    );
    let undone = format!("/api/tasks/{}/undo", text(&task, "id"));
    let request = api.post(&undone, &json!({"reason": "a test"})).await.expect(201);
    assert_eq!(outcome(&wait(api, &text(&request, "requestId"), Duration::from_secs(30)).await).0, "observed");
    assert_eq!(refusal(&samba, "alice"), None);
    // Every other flag stays as it was.
    for (user, flags) in [("no-preauth", 512 + 0x40_0000), ("delegates", 512 + 0x8_0000), ("never-expires", 66048)] {
        let found = identity(api, &directory, user).await;
        act_observed(api, "disable", &found).await;
        assert_eq!(attribute(&samba, user, "userAccountControl"), Some((flags + 2).to_string()), "{user}");
        act_observed(api, "enable", &found).await;
        assert_eq!(attribute(&samba, user, "userAccountControl"), Some(flags.to_string()), "{user}");
    }
    appliance.assert_audit_verifies();
    appliance.assert_nowhere_on_disk(&samba::password(ACT));
}

#[tokio::test]
async fn a_new_password_is_asked_for_and_a_locked_account_unlocked() {
    let (samba, appliance, directory) = begin().await;
    let api = &appliance.api;
    let bob = identity(api, &directory, "bob").await;
    let task = act_observed(api, "force-password-reset", &bob).await;
    assert!(is_refused_with(&samba, "bob", "773"), "{:?}", refusal(&samba, "bob"));
    assert_eq!(task["after"]["values"]["pwdlastset"], "0");
    act_observed(api, "cancel-password-reset", &bob).await;
    assert_eq!(refusal(&samba, "bob"), None);

    for _ in 0..3 {
        let _ = samba.refusal("carol@ad.example.test", "wrong");
    }
    assert!(is_refused_with(&samba, "carol", "775"), "{:?}", refusal(&samba, "carol"));
    let carol = identity(api, &directory, "carol").await;
    act_observed(api, "unlock", &carol).await;
    assert_eq!(refusal(&samba, "carol"), None);

    // Where the domain would never ask for it, or the user could never do it, it is refused with the reason.
    let mut why_not = Vec::new();
    for user in ["never-expires", "cannot-change"] {
        if user == "cannot-change" {
            deny_change_of_password(&samba, "dave");
        }
        let name = if user == "cannot-change" { "dave" } else { user };
        let found = identity(api, &directory, name).await;
        let (state, reason) = outcome(&act(api, "force-password-reset", &[&found]).await);
        assert_eq!(state, "refused", "{reason}");
        why_not.push(reason);
    }
    assert!(why_not[0].contains("never expires") && why_not[1].contains("cannot change"), "{why_not:?}");
    let request = ask(api, "force-sign-out", &[&bob]).await;
    assert_eq!(request["tasks"][0]["state"], "refused");
    assert!(text(&request["tasks"][0], "error").contains("10 hours"), "{request}");
}

/// "User cannot change password": everybody, and the account itself, are denied that right on it.
fn deny_change_of_password(samba: &Samba, user: &str) {
    let right = "ab721a53-1e2f-11d0-9819-00aa0040529b";
    for who in ["WD", "PS"] {
        samba.deny(&format!("CN={user},{STAFF}"), &format!("(OD;;CR;{right};;{who})"));
    }
}

#[tokio::test]
async fn contained_is_disabled_with_a_password_that_nobody_knows() {
    let (samba, appliance, directory) = begin().await;
    let api = &appliance.api;
    let bob = identity(api, &directory, "bob").await;
    act_observed(api, "contain", &bob).await;
    assert!(refusal(&samba, "bob").is_some());
    let task = act_observed(api, "enable", &bob).await;
    assert_eq!(task["after"]["values"]["useraccountcontrol"], "512");
    // Enabled again, the old password does not come back.
    assert!(is_refused_with(&samba, "bob", "52e"), "{:?}", refusal(&samba, "bob"));
    // Who was out of use before is not brought back by taking it back.
    let disabled = identity(api, &directory, "disabled").await;
    let task = act_observed(api, "contain", &disabled).await;
    assert_eq!((task["wasSo"].as_bool(), task.get("inverse")), (Some(false), None), "{task}");
}

#[tokio::test]
async fn nobody_acts_on_those_who_keep_the_domain_alive() {
    let (_samba, appliance, directory) = begin().await;
    let api = &appliance.api;
    let all = api.identities(&directory).await;
    let find = |name: &str| {
        all.iter()
            .find(|identity| text(identity, "userName") == name)
            .unwrap_or_else(|| panic!("{name} is in the copy"))
    };
    let group = api.groups(&directory).await.into_iter().find(|group| text(group, "name") == "g-outer").expect("there");
    api.post("/api/protections", &json!({"kind": "group", "objectId": group["id"]})).await.expect(201);
    let unit = json!({"kind": "unit", "directoryId": directory, "dn": format!("ou=LEFT, {BASE}")});
    api.post("/api/protections", &unit).await.expect(201);
    let cases = [
        ("Administrator", "built-in Administrator"),
        ("krbtgt", "krbtgt"),
        ("svc-sync", "Bailiwick itself"),
        ("svc-act", "Bailiwick itself"),
        ("alice", "Members of g-outer"),
        ("left", "OU=Left"),
    ];
    for action in ["disable", "enable", "force-password-reset", "unlock", "contain"] {
        let people: Vec<&Value> = cases.iter().map(|(name, _)| find(name)).collect();
        for (task, (name, part)) in act(api, action, &people).await.iter().zip(cases) {
            assert_eq!(task["state"], "refused", "{action} {name}: {task}");
            let reason = text(task, "error");
            assert!(reason.to_lowercase().contains(&part.to_lowercase()), "{action} {name}: {reason}");
            assert_eq!(task.get("sentAt"), None);
        }
    }
}

#[tokio::test]
async fn an_actor_without_the_right_is_told_the_line_that_grants_it() {
    let (samba, appliance, directory) = begin().await;
    let api = &appliance.api;
    // The rights end with the unit of the staff.
    let left = identity(api, &directory, "left").await;
    let tasks = act(api, "disable", &[&left]).await;
    let (state, reason) = outcome(&tasks);
    assert_eq!(state, "unsuccessful", "{tasks:?}");
    assert!(reason.contains("may not make this change"), "{reason}");
    let fix = text(&tasks[0], "nextStep");
    assert!(fix.contains("dsacls \"OU=Left,") && fix.contains(&format!("{ACT}:RPWP;userAccountControl;user")), "{fix}");
    assert_eq!(attribute(&samba, "left", "userAccountControl").as_deref(), Some("512"));
    // Plain LDAP: a controller does not even take the bind.
    let plain = json!({"settings": {"servers": ["ldap://10.99.1.2"], "acceptPlaintext": true}});
    api.post(&format!("/api/directories/{directory}"), &plain).await.expect(422);
}

#[tokio::test]
async fn the_probe_says_what_the_actor_may_do_without_doing_it() {
    let samba = Samba::start(Size::SMALL);
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let report = |draft: Value| async move {
        let draft = json!({"kind": draft["kind"], "settings": draft["settings"], "credentials": draft["credentials"]});
        api.post("/api/directories/probe", &draft).await.ok()
    };
    let ability = |report: &Value, name: &str| -> (String, String, String) {
        let all = report["abilities"].as_array().expect("abilities");
        let found =
            all.iter().find(|ability| ability["ability"] == name).unwrap_or_else(|| panic!("{name} in {report}"));
        (text(found, "state"), text(found, "message"), found["fix"].as_str().unwrap_or_default().to_owned())
    };
    // The rights are given on the staff's unit.
    let found = report(acting_draft(&samba)).await;
    for action in ["disable", "force-password-reset", "unlock", "contain"] {
        let (state, message, fix) = ability(&found, action);
        assert_eq!(state, "granted", "{action}: {message}");
        assert!(message.contains("OU=Staff") && message.contains("not in") && message.contains("OU=Left"), "{message}");
        assert!(fix.contains("dsacls") && fix.contains(ACT), "{fix}");
    }
    // Nobody gave the reader anything.
    let mut draft = acting_draft(&samba);
    draft["credentials"]["act"] = draft["credentials"]["read"].clone();
    let found = report(draft).await;
    for (action, right) in
        [("disable", "userAccountControl"), ("unlock", "lockoutTime"), ("contain", "CA;Reset Password;user")]
    {
        let (state, message, fix) = ability(&found, action);
        assert_eq!(state, "missing", "{action}: {message}");
        assert!(fix.contains(right), "{fix}");
    }
    // A refused reader is not tried twice.
    let mut draft = acting_draft(&samba);
    draft["credentials"]["read"]["password"] = json!("wrong");
    let found = report(draft).await;
    let step = found["steps"].as_array().and_then(|steps| steps.iter().find(|step| step["step"] == "act-bind"));
    assert_eq!(step.map(|step| text(step, "state")).as_deref(), Some("skipped"), "{found}");
}

#[tokio::test]
async fn a_controller_that_dies_is_tried_again_until_the_time_is_over() {
    let (mut samba, mut appliance, directory) = begin().await;
    let alice = identity(&appliance.api, &directory, "alice").await;
    samba.kill();
    let request = text(&ask(&appliance.api, "disable", &[&alice]).await, "requestId");
    let tasks = wait_for(&appliance.api, &request, Duration::from_secs(60), |tasks| {
        tasks[0]["attempts"].as_u64().unwrap_or(0) >= 2
    })
    .await;
    assert_eq!(tasks[0]["state"], "queued", "{tasks:?}");
    // A day later nobody waits for it any more.
    appliance.stop();
    appliance.restart_later(1).await;
    let tasks = wait(&appliance.api, &request, Duration::from_secs(60)).await;
    let (state, reason) = outcome(&tasks);
    assert_eq!(state, "timed-out");
    assert!(reason.contains("10.99.1.2"), "{reason}");
}

#[tokio::test]
async fn a_time_box_ends_by_itself_also_after_a_restart() {
    let (samba, mut appliance, directory) = begin().await;
    let carol = identity(&appliance.api, &directory, "carol").await;
    let body = json!({"action": "disable", "identities": [carol["id"]], "reason": "on leave", "for": "4h"});
    let request = appliance.api.post("/api/tasks", &body).await.expect(201);
    assert!(request.get("undoAt").is_some(), "{request}");
    let request = text(&request, "requestId");
    wait(&appliance.api, &request, Duration::from_secs(30)).await;
    assert!(is_refused_with(&samba, "carol", "533"));
    appliance.stop();
    appliance.restart_later(1).await;
    let begun = Instant::now();
    while refusal(&samba, "carol").is_some() {
        let tasks = appliance.api.get("/api/tasks").await;
        assert!(begun.elapsed() < Duration::from_secs(30), "it is taken back: {tasks}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let api: &Api = &appliance.api;
    let ended = api.get(&format!("/api/task-requests/{request}")).await;
    let undo = api.get(&format!("/api/task-requests/{}", text(&ended, "undoneBy"))).await;
    assert_eq!(undo["undoOf"], ended["id"]);
    assert!(text(&undo, "requestedBy").contains("scheduler"), "{undo}");
}
