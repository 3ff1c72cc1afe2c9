//! Who may not be acted on, and who has to agree: the rules of enforcement on a real OpenLDAP, through the API.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fixtures::{
    acting::{act, ask, identity, outcome, wait},
    appliance::{Api, Appliance, draft, text},
    console::Console,
    people::{CANARY, GROUPS, PEOPLE},
    slapd::{ACT_DN, Options, SYNC_PASSWORD, Slapd},
};

async fn begin(groups: &[(&str, &[&str])]) -> (Slapd, Appliance, String) {
    let slapd = Slapd::start(Options::small());
    for (name, members) in groups {
        let members: String = members.iter().map(|member| format!("member: {member}\n")).collect();
        slapd.modify(&format!(
            "dn: cn={name},{GROUPS}\nchangetype: add\nobjectClass: groupOfNames\ncn: {name}\n{members}"
        ));
    }
    let appliance = Appliance::start().await;
    let mut draft = draft(&slapd);
    draft["credentials"]["act"] = json!({"bindDn": ACT_DN, "password": SYNC_PASSWORD});
    let directory = appliance.api.create_directory(&draft).await;
    appliance.api.run_applied(&directory).await;
    (slapd, appliance, directory)
}

fn dn(user: &str) -> String {
    format!("uid={user},{PEOPLE}")
}

fn may_sign_in(slapd: &Slapd, user: &str) -> bool {
    slapd.accepts(&dn(user), &format!("{CANARY}{user}"))
}

/// A key made at the command line: somebody else.
fn other_key(appliance: &Appliance, account: &str) -> Api {
    let said = appliance.command_line(&[
        "admin",
        "create-api-key",
        "--account",
        account,
        "--role",
        "full-access",
        "--alias",
        "second",
    ]);
    let said = String::from_utf8(said.stdout).expect("text");
    let key = said.split_whitespace().find(|word| word.contains(':')).expect("id:secret").to_owned();
    Api::new(&appliance.url(), &key)
}

async fn account(api: &Api) -> String {
    text(&api.get("/api/accounts").await["accounts"][0], "id")
}

/// A key made by whoever `api` is.
async fn own_key(appliance: &Appliance, api: &Api) -> Api {
    let made = api.post("/api/apikeys", &json!({"alias": "mine", "roleId": "full-access"})).await.expect(201);
    Api::new(&appliance.url(), &format!("{}:{}", text(&made, "id"), text(&made, "secret")))
}

#[tokio::test]
async fn a_second_person_has_to_agree_and_is_never_the_one_who_asked() {
    let (slapd, mut appliance, directory) = begin(&[]).await;
    let api = &appliance.api;
    api.post("/api/two-person-rule", &json!({"aboveCount": -1})).await.expect(422);
    api.post("/api/two-person-rule", &json!({"aboveCount": 1})).await.ok();
    let (one, two) = (identity(api, &directory, "u000101").await, identity(api, &directory, "u000102").await);

    // One alone goes at once; two wait.
    assert_eq!(outcome(&act(api, "disable", &[&one]).await).0, "observed");
    assert_eq!(outcome(&act(api, "enable", &[&one]).await).0, "observed");
    let request = ask(api, "disable", &[&one, &two]).await;
    assert_eq!(request["state"], "awaiting-approval");
    assert!(text(&request, "waitsFor").contains("2 identities"), "{request}");
    let path = format!("/api/task-requests/{}", text(&request, "requestId"));
    let approve = format!("{path}/approve");
    let reason = json!({"reason": "looks right"});
    // Not the one who asked, and not a key of theirs.
    api.post(&approve, &reason).await.expect(403);
    own_key(&appliance, api).await.post(&approve, &reason).await.expect(403);
    assert!(may_sign_in(&slapd, "u000101") && may_sign_in(&slapd, "u000102"), "nothing was sent");
    let other = other_key(&appliance, &account(api).await);
    other.post(&approve, &json!({"reason": ""})).await.expect(422);
    other.post(&approve, &reason).await.ok();
    let tasks = wait(api, &text(&request, "requestId"), Duration::from_secs(30)).await;
    assert!(tasks.iter().all(|task| task["state"] == "observed"), "{tasks:?}");
    assert!(!may_sign_in(&slapd, "u000101") && !may_sign_in(&slapd, "u000102"));
    other.post(&approve, &reason).await.expect(409);
    let decided = api.get(&path).await;
    assert_eq!(decided["decision"]["decision"], "approved");
    assert_ne!(decided["decision"]["by"], decided["requestedBy"]);

    // Declined and called off: nothing is sent.
    let declined = ask(api, "enable", &[&one, &two]).await;
    let path = format!("/api/task-requests/{}", text(&declined, "requestId"));
    other.post(&format!("{path}/decline"), &json!({"reason": "not yet"})).await.ok();
    assert_eq!(api.get(&path).await["state"], "cancelled");
    let called_off = ask(api, "enable", &[&one, &two]).await;
    let path = format!("/api/task-requests/{}", text(&called_off, "requestId"));
    assert_eq!(api.post(&format!("{path}/cancel"), &json!({})).await.ok()["state"], "cancelled");
    api.post(&format!("{path}/cancel"), &json!({})).await.expect(409);
    assert!(!may_sign_in(&slapd, "u000101"));

    // In parts it is as large as it is.
    let three = identity(api, &directory, "u000103").await;
    let part = ask(api, "disable", &[&three]).await;
    assert_eq!(part["state"], "awaiting-approval", "{part}");
    assert!(text(&part, "waitsFor").contains("of the last day"), "{part}");
    // What changed while it waited counts when it is sent: somebody has been put on the protected list.
    let body = json!({"kind": "identity", "objectId": three["id"], "note": "since"});
    api.post("/api/protections", &body).await.expect(201);
    let path = format!("/api/task-requests/{}", text(&part, "requestId"));
    other.post(&format!("{path}/approve"), &reason).await.ok();
    let (state, why) = outcome(&wait(api, &text(&part, "requestId"), Duration::from_secs(30)).await);
    assert_eq!((state.as_str(), why.contains("protected list")), ("refused", true), "{why}");
    assert!(may_sign_in(&slapd, "u000103"));

    // In an emergency it goes on, loudly.
    let ids = [one["id"].clone(), two["id"].clone()];
    let body = json!({"action": "enable", "identities": ids, "reason": "fire", "breakGlass": true});
    let broken = api.post("/api/tasks", &body).await.expect(201);
    assert_eq!(broken["decision"]["decision"], "overridden");
    wait(api, &text(&broken, "requestId"), Duration::from_secs(30)).await;
    assert!(may_sign_in(&slapd, "u000101"));
    let logs = api.all("/api/logs", "logs").await;
    let count = |kind: &str| logs.iter().filter(|record| record["type"] == kind).count();
    assert_eq!(count("audit.enforcement_break_glass_used.v1"), 1);
    // Two approvals, and two attempts by the one who asked.
    assert_eq!((count("audit.enforcement_approved.v1"), count("audit.enforcement_declined.v1")), (4, 1));
    let denied = logs.iter().filter(|record| record["type"] == "audit.enforcement_approved.v1");
    assert_eq!(denied.filter(|record| record["result"] == "denied").count(), 2);

    // Nobody agrees within a day.
    let forgotten = ask(api, "disable", &[&one, &two]).await;
    let path = format!("/api/task-requests/{}", text(&forgotten, "requestId"));
    appliance.stop();
    appliance.restart_later(2).await;
    let api = &appliance.api;
    wait(api, &text(&forgotten, "requestId"), Duration::from_secs(30)).await;
    let expired = api.get(&path).await;
    assert_eq!(
        (expired["state"].as_str(), expired["decision"]["decision"].as_str()),
        (Some("cancelled"), Some("expired"))
    );
    assert!(may_sign_in(&slapd, "u000101"));
    appliance.assert_audit_verifies();
}

#[tokio::test]
async fn the_last_administrator_who_can_sign_in_stays() {
    let (first, second) = (dn("u000101"), dn("u000102"));
    let inner = format!("cn=ops,{GROUPS}");
    let (slapd, appliance, directory) =
        begin(&[("ops", &[&second]), ("domain-admins", &[&first, &inner]), ("staff", &[&first, &second])]).await;
    let api = &appliance.api;
    let (one, two) = (identity(api, &directory, "u000101").await, identity(api, &directory, "u000102").await);
    // Together: one of them goes, never both.
    let tasks = act(api, "disable", &[&one, &two]).await;
    assert_eq!((tasks[0]["state"].as_str(), tasks[1]["state"].as_str()), (Some("refused"), Some("observed")));
    assert!(text(&tasks[0], "error").contains("last enabled member of domain-admins"), "{tasks:?}");
    assert!(may_sign_in(&slapd, "u000101") && !may_sign_in(&slapd, "u000102"));
    // Alone, and after the copy knows of the other: refused as well.
    assert_eq!(outcome(&act(api, "disable", &[&one]).await).0, "refused");
    wait_for_status(api, &directory, "u000102", "disabled").await;
    assert_eq!(outcome(&act(api, "disable", &[&one]).await).0, "refused");
    // Locked after wrong passwords is not gone: a lock ends.
    for _ in 0..3 {
        assert!(!slapd.accepts(&dn("u000101"), "wrong"));
    }
    wait_for_status(api, &directory, "u000101", "locked").await;
    assert_eq!(outcome(&act(api, "disable", &[&one]).await).0, "refused");
    // What does not keep them out is done; and once another one is there, so is this.
    assert_eq!(outcome(&act(api, "unlock", &[&one]).await).0, "observed");
    assert_eq!(outcome(&act(api, "enable", &[&two]).await).0, "observed");
    wait_for_status(api, &directory, "u000102", "active").await;
    assert_eq!(outcome(&act(api, "disable", &[&one]).await).0, "observed");
}

/// Runs until the copy says so.
async fn wait_for_status(api: &Api, directory: &str, user: &str, status: &str) {
    let begun = std::time::Instant::now();
    while identity(api, directory, user).await["status"] != status {
        assert!(begun.elapsed() < Duration::from_secs(30), "{user} becomes {status}");
        let _ = api.request_run(directory).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_task_that_was_called_off_stays_so_and_the_first_asked_is_the_first_done() {
    let (slapd, appliance, directory) = begin(&[]).await;
    let api = &appliance.api;
    let (one, two) = (identity(api, &directory, "u000101").await, identity(api, &directory, "u000102").await);
    // The server takes connections and answers nobody: the lane is in the middle of a try.
    slapd.freeze();
    let called_off = text(&ask(api, "disable", &[&one]).await, "requestId");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let path = format!("/api/task-requests/{called_off}/cancel");
    assert_eq!(api.post(&path, &json!({})).await.ok()["state"], "cancelled");
    let first = text(&ask(api, "disable", &[&two]).await, "requestId");
    let second = text(&ask(api, "enable", &[&two]).await, "requestId");
    slapd.thaw();
    for request in [&first, &second] {
        let tasks = wait(api, request, Duration::from_secs(90)).await;
        assert_eq!((tasks[0]["state"].as_str(), tasks[0]["wasSo"].as_bool()), (Some("observed"), Some(false)));
    }
    assert!(may_sign_in(&slapd, "u000101"), "what was called off is not sent when the server is back");
    assert!(may_sign_in(&slapd, "u000102"), "the last that was asked for is what stands");
    assert_eq!(api.get(&format!("/api/task-requests/{called_off}")).await["state"], "cancelled");
}

#[tokio::test]
async fn what_is_not_the_same_matter_does_not_keep_a_time_box_from_ending() {
    let (slapd, mut appliance, directory) = begin(&[]).await;
    let user = identity(&appliance.api, &directory, "u000106").await;
    let body = json!({"action": "disable", "identities": [user["id"]], "reason": "a while", "for": "1h"});
    let request = text(&appliance.api.post("/api/tasks", &body).await.expect(201), "requestId");
    wait(&appliance.api, &request, Duration::from_secs(30)).await;
    assert_eq!(outcome(&act(&appliance.api, "force-password-reset", &[&user]).await).0, "observed");
    assert_eq!(outcome(&act(&appliance.api, "cancel-password-reset", &[&user]).await).0, "observed");
    appliance.stop();
    appliance.restart_later(1).await;
    let begun = std::time::Instant::now();
    while !may_sign_in(&slapd, "u000106") {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is taken back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_time_box_is_called_off_by_a_change_by_hand() {
    let (slapd, mut appliance, directory) = begin(&[]).await;
    let user = identity(&appliance.api, &directory, "u000105").await;
    let body = json!({"action": "disable", "identities": [user["id"]], "reason": "a while", "for": "4h"});
    let request = text(&appliance.api.post("/api/tasks", &body).await.expect(201), "requestId");
    wait(&appliance.api, &request, Duration::from_secs(30)).await;
    // Somebody enables it by hand, and disables it again for a reason of their own; the runs in between see both.
    for status in ["disabled", "active", "disabled"] {
        if status == "active" {
            slapd.modify(&format!("dn: {}\nchangetype: modify\ndelete: pwdAccountLockedTime\n", dn("u000105")));
        } else if may_sign_in(&slapd, "u000105") {
            let locked = "replace: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n";
            slapd.modify(&format!("dn: {}\nchangetype: modify\n{locked}", dn("u000105")));
        }
        wait_for_status(&appliance.api, &directory, "u000105", status).await;
    }
    let drifted = |tasks: &[Value]| tasks[0].get("drift").is_some();
    crate::fixtures::acting::wait_for(&appliance.api, &request, Duration::from_secs(30), drifted).await;
    appliance.stop();
    appliance.restart_later(1).await;
    let begun = std::time::Instant::now();
    let path = format!("/api/task-requests/{request}");
    loop {
        let seen = appliance.api.get(&path).await;
        if seen.get("undoEndedAt").is_some() {
            assert!(seen.get("undoneBy").is_none(), "{seen}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{seen}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!may_sign_in(&slapd, "u000105"), "the later change by hand stands");
}

#[tokio::test]
async fn an_undo_that_is_declined_leaves_the_time_box_as_it_was() {
    let (slapd, mut appliance, directory) = begin(&[]).await;
    let api = &appliance.api;
    let user = identity(api, &directory, "u000107").await;
    let body = json!({"action": "disable", "identities": [user["id"]], "reason": "a while", "for": "4h"});
    let request = text(&api.post("/api/tasks", &body).await.expect(201), "requestId");
    wait(api, &request, Duration::from_secs(30)).await;
    let path = format!("/api/task-requests/{request}");
    let button = format!("action=\"/tasks/requests/{request}/undo\"");
    let console = Console::sign_in(&appliance.url()).await;
    assert!(console.page(&format!("/tasks/requests/{request}")).await.contains(&button));

    api.post("/api/two-person-rule", &json!({"aboveCount": 0})).await.ok();
    let undo = api.post(&format!("{path}/undo"), &json!({"reason": "enough"})).await.expect(201);
    assert_eq!(undo["state"], "awaiting-approval");
    assert_eq!(text(&api.get(&path).await, "undoneBy"), text(&undo, "requestId"));
    assert!(!console.page(&format!("/tasks/requests/{request}")).await.contains(&button), "it waits already");
    let other = other_key(&appliance, &account(api).await);
    let decline = format!("/api/task-requests/{}/decline", text(&undo, "requestId"));
    other.post(&decline, &json!({"reason": "not yet"})).await.ok();
    let seen = api.get(&path).await;
    assert!(seen.get("undoneBy").is_none() && seen.get("undoEndedAt").is_none(), "{seen}");
    let page = console.page(&format!("/tasks/requests/{request}")).await;
    assert!(page.contains(&button) && page.contains("For a time only"), "it can be asked for again");

    appliance.stop();
    appliance.restart_later(1).await;
    let begun = std::time::Instant::now();
    while !may_sign_in(&slapd, "u000107") {
        assert!(begun.elapsed() < Duration::from_secs(30), "its time is over all the same");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn access_that_was_given_for_a_time_and_cannot_be_taken_back_is_told() {
    let (slapd, mut appliance, directory) = begin(&[]).await;
    let api = &appliance.api;
    let user = identity(api, &directory, "u000108").await;
    assert_eq!(outcome(&act(api, "disable", &[&user]).await).0, "observed");
    let body = json!({"action": "enable", "identities": [user["id"]], "reason": "a visit", "for": "4h"});
    let request = text(&api.post("/api/tasks", &body).await.expect(201), "requestId");
    wait(api, &request, Duration::from_secs(30)).await;
    api.post("/api/protections", &json!({"kind": "identity", "objectId": user["id"]})).await.expect(201);
    let news = "Disable 1 identity was not wholly done";
    assert!(!Console::sign_in(&appliance.url()).await.page("/").await.contains(news));

    appliance.stop();
    appliance.restart_later(1).await;
    let begun = std::time::Instant::now();
    let undone_by = loop {
        let seen = appliance.api.get(&format!("/api/task-requests/{request}")).await;
        if seen.get("undoEndedAt").is_some() {
            break appliance.api.all("/api/task-requests", "taskRequests").await[0].clone();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{seen}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let tasks = wait(&appliance.api, &text(&undone_by, "id"), Duration::from_secs(30)).await;
    let (state, why) = outcome(&tasks);
    assert_eq!((state.as_str(), why.contains("protected list")), ("refused", true), "{why}");
    assert!(may_sign_in(&slapd, "u000108"));
    let console = Console::sign_in(&appliance.url()).await;
    let overview = console.page("/").await;
    assert!(overview.contains(news) && overview.contains(&format!("The time of request {request} is over.")));
    let page = console.page(&format!("/tasks/requests/{request}")).await;
    assert!(page.contains("it could not be taken back"));
}
