//! A real OpenLDAP that answers wrongly in every way that has emptied somebody's user table: nothing takes effect before
//! a person looked at it, and what they approve is exactly what they saw.

use serde_json::{Value, json};

use super::{
    comparison::{Copy, assert_same_objects},
    watched::Watched,
};
use crate::fixtures::{
    appliance::{Api, Appliance, PATIENCE, draft, number, text},
    people::{GROUPS, ODD_UNIT, PEOPLE, Shape, uid},
    slapd::{Options, SYNC_PASSWORD, Slapd},
    truth::Truth,
};

#[tokio::test]
async fn wrong_settings_and_another_server_never_touch_the_copy() {
    let watched = Watched::start().await;
    let truth = Truth::read(&watched.slapd);
    let before = Copy::read(watched.api(), &watched.directory).await;
    let stranger = Slapd::start(Options::of(Shape { people: 900, giant: 0, ..Shape::SMALL }));
    for (what, name, value, expected) in [
        ("a filter typo", "userFilter", json!("(objectClass=inetOrgPersn)"), "empty-answer"),
        ("a filter for half", "userFilter", json!("(&(objectClass=inetOrgPerson)(uid=u0004*))"), "short-answer"),
        ("no groups any more", "groupFilter", json!("(objectClass=groupOfNmes)"), "empty-answer"),
        ("another base", "userBaseDns", json!([ODD_UNIT]), "short-answer"),
        ("another server", "servers", json!([stranger.tls_url()]), "over-limit"),
    ] {
        watched.set(name, value).await;
        let (run, codes) = watched.parked().await;
        assert!(codes.contains(&expected.to_owned()), "{what}: {codes:?}");
        assert!(codes.contains(&"settings-changed".to_owned()), "{what}: {codes:?}");
        let trips = run["trips"].as_array().expect("reasons");
        let changed = trips.iter().find(|trip| trip["code"] == "settings-changed").expect("the settings");
        assert_eq!(changed["figures"]["settings"][0]["setting"], name, "{what}: {changed}");
        let copy = Copy::read(watched.api(), &watched.directory).await;
        assert_eq!(copy.outline(), before.outline(), "{what} changed the copy");
    }
    watched.set("userFilter", watched.settings["userFilter"].clone()).await;
    let run = watched.api().run_applied(&watched.directory).await;
    assert_eq!((number(&run, "/counts/missing"), number(&run, "/counts/membersRemoved")), (0, 0), "{run}");
    assert_same_objects(&Copy::read(watched.api(), &watched.directory).await, &truth);
    let parked = watched.api().all("/api/runs?state=parked", "runs").await;
    assert_eq!(parked, Vec::<Value>::new(), "an applied run takes the place of a plan that waited");
    watched.appliance.assert_audit_verifies();
}

#[tokio::test]
async fn a_third_of_the_people_gone_waits_over_a_restart_and_is_then_applied_as_seen() {
    let mut watched = Watched::start().await;
    watched.delete_people(300..600);
    let (run, codes) = watched.parked().await;
    assert!(codes.contains(&"over-limit".to_owned()), "{codes:?}");
    assert_eq!(number(&run, "/counts/missing"), 300);
    // Read again, it says the same, and the plan that somebody is reading stays.
    let again = watched.api().run_full(&watched.directory).await;
    assert_eq!((&again["state"], &again["supersededBy"]), (&json!("discarded"), &run["id"]), "{again}");
    watched.appliance.kill();
    watched.appliance.restart().await;
    let waiting = watched.api().get(&format!("/api/runs/{}", text(&run, "id"))).await;
    assert_eq!((&waiting["state"], &waiting["trips"]), (&run["state"], &run["trips"]));
    let path = format!("/api/runs/{}/changes", text(&run, "id"));
    let missing = watched.api().all(&format!("{path}?kind=missing&subjectType=identity"), "changes").await;
    assert_eq!(missing.len(), 300);
    let name = text(&missing[7], "subjectName");
    let found = watched.api().all(&Api::path(&path, &[("q", &name), ("kind", "missing")]), "changes").await;
    assert!(found.contains(&missing[7]) && found.len() < 300, "{name}: {} lines", found.len());
    let (status, kind, csv) = watched.api().text(&format!("{path}.csv")).await;
    let lines = String::from_utf8(csv).expect("text").lines().count();
    let all = watched.api().all(&path, "changes").await.len();
    assert_eq!((status, kind.as_str(), lines), (200, "text/csv; charset=utf-8", all + 1));
    let json = watched.api().get(&format!("{path}.json")).await;
    assert_eq!(json["changes"].as_array().map(Vec::len), Some(all));
    watched.approve(&run).await;
    let gone = watched.api().all(&Api::path("/api/identities", &[("status", "missing")]), "identities").await;
    assert_eq!(gone.len(), 300);
    let quiet = watched.api().run_applied(&watched.directory).await;
    assert_eq!(number(&quiet, "/counts/missing"), 0, "{quiet}");
    watched.appliance.assert_audit_verifies();
}

#[tokio::test]
async fn an_emptied_group_and_a_privileged_one_are_noticed() {
    let watched = Watched::start().await;
    watched.slapd.modify(&format!(
        "dn: cn=giant,{GROUPS}\nchangetype: modify\nreplace: member\nmember: uid={},{PEOPLE}\n\n\
         dn: cn=Site Admins,{GROUPS}\nchangetype: add\nobjectClass: groupOfNames\nmember: uid={},{PEOPLE}\n\
         member: uid={},{PEOPLE}\nmember: uid={},{PEOPLE}\nmember: uid={},{PEOPLE}\n\n",
        uid(1),
        uid(1),
        uid(2),
        uid(3),
        uid(4)
    ));
    let (run, codes) = watched.parked().await;
    assert_eq!(codes, ["over-limit"], "{run}");
    assert!(text(&run, "reason").contains("memberships would end"), "{run}");
    watched.approve(&run).await;
    let admins = format!("cn=Site Admins,{GROUPS}");
    watched
        .slapd
        .modify(&format!("dn: {admins}\nchangetype: modify\nreplace: member\nmember: uid={},{PEOPLE}\n\n", uid(1)));
    let (run, codes) = watched.parked().await;
    assert_eq!(codes, ["privileged-groups"], "{run}");
    assert!(text(&run, "reason").contains("Site Admins loses 3 of 4"), "{run}");
    let before = Copy::read(watched.api(), &watched.directory).await;
    let discarded = watched.decide(&run, "discard").await;
    assert_eq!(
        (&discarded["state"], &discarded["discard"]["reason"]),
        (&json!("discarded"), &json!("looked at by the test"))
    );
    assert_eq!(Copy::read(watched.api(), &watched.directory).await.outline(), before.outline());
    // Nothing was decided about the directory: the next run says the same again.
    assert_eq!(watched.parked().await.1, ["privileged-groups"]);
}

#[tokio::test]
async fn a_first_run_that_finds_nobody_is_stopped_and_a_preview_changes_nothing() {
    let (slapd, appliance) = (Slapd::shared(), Appliance::start().await);
    let api = &appliance.api;
    let mut wrong = draft(slapd);
    wrong["settings"]["userFilter"] = json!("(objectClass=inetOrgPersn)");
    let directory = api.create_directory(&wrong).await;
    let run = api.run_full(&directory).await;
    assert_eq!((&run["state"], &run["trips"][0]["code"]), (&json!("parked"), &json!("nothing-found")), "{run}");
    assert_eq!(api.identities(&directory).await.len() + api.groups(&directory).await.len(), 0);
    let right = json!({"settings": draft(slapd)["settings"]});
    api.post(&format!("/api/directories/{directory}"), &right).await.ok();
    api.run_applied(&directory).await;
    let before = Copy::read(api, &directory).await;
    let mut settings = draft(slapd)["settings"].clone();
    settings["userFilter"] = json!("(uid=u0001*)");
    let started = api.post(&format!("/api/directories/{directory}/preview"), &json!({"settings": settings})).await;
    let preview = api.wait_for(&text(&started.expect(202), "id"), PATIENCE, |state| state == "planned").await;
    assert_eq!((&preview["preview"], &preview["dryRun"]), (&json!(true), &json!(true)), "{preview}");
    assert!(number(&preview, "/counts/missing") > 800, "{preview}");
    assert!(preview["trips"].as_array().is_some_and(|trips| trips.len() > 1), "{preview}");
    let approve = format!("/api/runs/{}/approve", text(&preview, "id"));
    api.post(&approve, &json!({"reason": "no"})).await.expect(409);
    assert_eq!(Copy::read(api, &directory).await.outline(), before.outline());
    let stored = api.get(&format!("/api/directories/{directory}")).await;
    assert_eq!(stored["settings"]["userFilter"], draft(slapd)["settings"]["userFilter"]);
    appliance.assert_nowhere_on_disk(SYNC_PASSWORD);
    appliance.assert_audit_verifies();
}

#[tokio::test]
async fn an_approval_applies_nothing_that_the_directory_no_longer_says() {
    let watched = Watched::start().await;
    let before = Copy::read(watched.api(), &watched.directory).await;
    let narrow = json!("(&(objectClass=inetOrgPerson)(!(uid=u0005*)))");
    let access = |rule: &str| watched.slapd.modify(rule);
    access(&format!("dn: uid={},{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: Before\n\n", uid(300)));
    watched.set("userFilter", narrow).await;
    let (run, _) = watched.parked().await;
    // Somebody moves on: the plan that was read says another title now.
    access(&format!("dn: uid={},{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: After\n\n", uid(400)));
    watched.decide(&run, "approve").await;
    let ended = watched.api().wait_for(&text(&run, "id"), PATIENCE, |state| state == "discarded").await;
    assert!(text(&ended["discard"], "reason").contains("moved on"), "{ended}");
    let newest = watched.run_after(&run).await;
    let again = watched.api().wait_for_end(&text(&newest, "id"), PATIENCE).await;
    assert_eq!(again["state"], "parked", "and the new plan waits for a person: {again}");
    assert_eq!(Copy::read(watched.api(), &watched.directory).await.outline(), before.outline());
    // A server that is away cannot say whether the plan still is true.
    watched.slapd.kill();
    watched.decide(&again, "approve").await;
    let waiting = watched.api().wait_for(&text(&again, "id"), PATIENCE, |state| state == "parked").await;
    assert!(text(&waiting, "nextStep").contains("approve again"), "{waiting}");
    watched.slapd.restart();
    watched.approve(&again).await;
    watched.appliance.assert_audit_verifies();
}
