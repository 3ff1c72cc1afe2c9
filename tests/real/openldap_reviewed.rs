//! What a person decides about plans of a real directory: rewound, parked, discarded, forgotten with the years.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};

use super::{
    comparison::{Copy, assert_same, assert_same_members, assert_same_objects},
    watched::{Watched, codes},
};
use crate::fixtures::{
    appliance::{Api, PATIENCE, number, text},
    people::{GROUPS, PEOPLE, Shape, uid},
    slapd::{Options, Slapd},
    truth::Truth,
};

fn small() -> Options {
    Options::of(Shape { people: 220, groups: 30, members: 12, giant: 150, tree: 0, odd: false, member_of: false })
}

/// Every field of everybody who is there, and every member, by id.
type State = BTreeMap<String, Value>;

/// The copy as it is, or as it was at a time.
async fn state(watched: &Watched, at: Option<&str>) -> State {
    let api = watched.api();
    let mut state = State::new();
    let path = |path: &str, filter: &[(&str, &str)]| {
        let mut query = filter.to_vec();
        query.extend(at.map(|at| ("asOf", at)));
        Api::path(path, &query)
    };
    let directory = [("directory", watched.directory.as_str())];
    for (kind, list) in [("identities", "/api/identities"), ("groups", "/api/groups")] {
        for item in api.all(&path(list, &directory), kind).await {
            if !item["missingSince"].is_null() {
                continue;
            }
            let (id, mut whole) = (text(&item, "id"), item);
            if kind == "groups" {
                let members = api.all(&path(&format!("{list}/{id}/members"), &[]), "members").await;
                // Of who is away only that they are members: their state is not that of the group.
                whole["members"] = members.iter().map(|member| member["id"].clone()).collect();
            }
            state.insert(format!("{kind} {id}"), whole);
        }
    }
    state
}

/// The moment that an answer's `finishedAt` names, and one second more.
fn after(run: &Value) -> String {
    let at: jiff::Timestamp = text(run, "finishedAt").parse().expect("a time");
    (at + jiff::SignedDuration::from_millis(1)).to_string()
}

async fn rewind(watched: &Watched, to_run: &str) -> Value {
    let path = format!("/api/directories/{}/rewind", watched.directory);
    let started = watched.api().post(&path, &json!({"toRun": to_run})).await.expect(202);
    watched.api().wait_for_end(&text(&started, "id"), PATIENCE).await
}

/// Edits of round `round`: fields, a rename, a new person, one who leaves, and members of groups.
fn edit(slapd: &Slapd, round: usize) {
    let mut ldif = String::new();
    let person = |i: usize| format!("uid={},{PEOPLE}", uid(100 + 20 * round + i));
    for i in 0..5 {
        let _ = write!(ldif, "dn: {}\nchangetype: modify\nreplace: title\ntitle: Round {round}\n-\n", person(i));
        let _ = write!(ldif, "replace: mail\nmail: r{round}-{i}@example.test\n\n");
    }
    let _ = write!(ldif, "dn: {}\nchangetype: modrdn\nnewrdn: uid=renamed{round}\ndeleteoldrdn: 1\n\n", person(6));
    let _ = write!(ldif, "dn: {}\nchangetype: delete\n\n", person(7));
    let new = format!("uid=new{round},{PEOPLE}");
    let _ =
        write!(ldif, "dn: {new}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: new{round}\ncn: New\nsn: One\n\n");
    for i in 0..3 {
        let group = format!("cn=g{:05},{GROUPS}", 3 * round + i);
        let _ = write!(ldif, "dn: {group}\nchangetype: modify\nadd: member\nmember: {new}\n-\n");
        let _ = write!(ldif, "replace: description\ndescription: Round {round}\n\n");
    }
    let _ = write!(ldif, "dn: cn=team{round},{GROUPS}\nchangetype: add\nobjectClass: groupOfNames\nmember: {new}\n\n");
    slapd.modify(&ldif);
}

#[tokio::test]
async fn a_rewind_brings_back_every_field_and_member_and_the_next_reading_the_directory() {
    let watched = Watched::on(Slapd::start(small()), &[]).await;
    let first = state(&watched, None).await;
    edit(&watched.slapd, 0);
    let second_run = watched.api().run_applied(&watched.directory).await;
    let second = state(&watched, None).await;
    edit(&watched.slapd, 1);
    let third_run = watched.delta().await;
    let third = state(&watched, None).await;
    assert!(first != second && second != third);

    let parked = rewind(&watched, &watched.first_run).await;
    assert_eq!((&parked["state"], &parked["rewindTo"]), (&json!("parked"), &json!(watched.first_run)), "{parked}");
    assert_eq!(codes(&parked)[0], "rewind", "{parked}");
    assert_eq!(state(&watched, None).await, third, "a plan is no change");
    // Dropped, it changes nothing; asked for again, it is the same plan.
    watched.decide(&parked, "discard").await;
    assert_eq!(state(&watched, None).await, third);
    let parked = rewind(&watched, &watched.first_run).await;
    let rewound_run = watched.approve(&parked).await;
    let rewound = state(&watched, None).await;
    assert_eq!(rewound.keys().collect::<Vec<_>>(), first.keys().collect::<Vec<_>>());
    for (id, was) in &first {
        assert_eq!(&rewound[id], was, "{id}");
    }
    // What came since is missing, not deleted.
    let missing = |state: &State| third.keys().filter(|id| !state.contains_key(*id)).count();
    assert_eq!((missing(&rewound), number(&rewound_run, "/counts/missing")), (4, 4), "two people and two teams");
    // No earlier moment reads in another way than it did.
    for (run, was) in [(&second_run, &second), (&third_run, &third), (&rewound_run, &rewound)] {
        assert_eq!(&state(&watched, Some(&after(run))).await, was, "after run {}", run["id"]);
    }
    // There is no watermark of then: a delta reads everything, and the directory is back.
    let run = watched.run("delta").await;
    assert_eq!((&run["state"], &run["mode"]), (&json!("applied"), &json!("full")), "{run}");
    assert_eq!(state(&watched, None).await, third);
    assert_same(watched.api(), &watched.directory, &Truth::read(&watched.slapd)).await;
    let quiet = watched.api().run_applied(&watched.directory).await;
    assert_eq!((number(&quiet, "/counts/changed"), number(&quiet, "/counts/returned")), (0, 0), "{quiet}");
    watched.appliance.assert_audit_verifies();
}

#[tokio::test]
async fn a_large_rewind_and_the_reading_after_it_are_both_guarded() {
    let watched = Watched::on(Slapd::start(small()), &[]).await;
    let was = state(&watched, None).await;
    watched.delete_people(100..190);
    let (run, _) = watched.parked().await;
    watched.approve(&run).await;
    let now = watched.copy().await;
    let parked = rewind(&watched, &watched.first_run).await;
    assert_eq!(number(&parked, "/counts/returned"), 90, "{parked}");
    watched.approve(&parked).await;
    assert_eq!(state(&watched, None).await, was);
    // The directory still says that they are gone: nobody loses ninety people without being asked.
    let (run, codes) = watched.parked().await;
    assert!(codes.contains(&"over-limit".to_owned()), "{run}");
    assert_eq!(number(&run, "/counts/missing"), 90, "{run}");
    // An approval of what the directory no longer says is no approval.
    watched.delete_people(200..201);
    watched.decide(&run, "approve").await;
    let ended = watched.api().wait_for_end(&text(&run, "id"), PATIENCE).await;
    assert_eq!(ended["state"], "discarded", "{ended}");
    let again = watched.run_after(&run).await;
    assert_eq!((&again["state"], number(&again, "/counts/missing")), (&json!("parked"), 91), "{again}");
    watched.approve(&again).await;
    assert_same_objects(&watched.copy().await, &Truth::read(&watched.slapd));
    assert_eq!(watched.copy().await.outline().len(), now.outline().len());
}

#[tokio::test]
async fn a_third_of_people_and_groups_gone_is_discarded_comes_again_and_is_then_applied_with_its_memberships() {
    let watched = Watched::on(Slapd::start(small()), &[]).await;
    let before = watched.copy().await;
    watched.delete_people(100..190);
    let groups = (0..12).fold(String::new(), |mut ldif, i| {
        let _ = write!(ldif, "dn: cn=g{i:05},{GROUPS}\nchangetype: delete\n\n");
        ldif
    });
    watched.slapd.modify(&groups);
    let (delta, found) = watched.parked_in("delta").await;
    assert!(found.iter().all(|code| code == "over-limit") && found.len() == 2, "{delta}");
    assert_eq!(number(&delta, "/counts/missing"), 102, "{delta}");
    watched.decide(&delta, "discard").await;
    assert_eq!(watched.copy().await.outline(), before.outline());
    let (full, again) = watched.parked().await;
    assert_eq!((again, number(&full, "/counts/missing")), (found, 102), "{full}");
    watched.approve(&full).await;
    let truth = Truth::read(&watched.slapd);
    let after = watched.copy().await;
    assert_same_objects(&after, &truth);
    for group in truth.groups.keys() {
        assert_same_members(watched.api(), &after, &truth, group).await;
    }
    let missing = |copy: &Copy| copy.outline().values().filter(|(_, since)| !since.is_null()).count();
    assert_eq!(missing(&after), 102);
    // Nothing is left to find, and the delta goes on from there.
    assert_eq!(number(&watched.delta().await, "/counts/missing"), 0);
    watched.appliance.assert_audit_verifies();
}

#[tokio::test]
async fn after_forty_days_history_has_an_edge_and_who_was_missing_is_a_tombstone_that_can_come_back() {
    let mut watched = Watched::on(Slapd::start(small()), &[]).await;
    let account = text(&watched.api().all("/api/accounts", "accounts").await[0], "id");
    watched.api().post(&format!("/api/accounts/{account}"), &json!({"historyDays": 30})).await.ok();
    edit(&watched.slapd, 0);
    let second_run = watched.api().run_applied(&watched.directory).await;
    let second = state(&watched, None).await;
    let old = after(&second_run);
    assert_eq!(state(&watched, Some(&old)).await, second);
    let gone = watched.copy().await.outline();
    let (gone, _) = gone.iter().find(|(_, (_, since))| !since.is_null()).expect("one is missing");
    let id = watched.copy().await.id(gone);

    watched.appliance.stop();
    watched.appliance.restart_later(40).await;
    let asked = Api::path("/api/identities", &[("directory", &watched.directory), ("asOf", &old)]);
    let begun = std::time::Instant::now();
    // The daily work is due at once.
    while watched.api().send(reqwest::Method::GET, &asked, None).await.status != 400 {
        assert!(begun.elapsed() < PATIENCE, "history older than 30 days is still answered");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let refused = watched.api().send(reqwest::Method::GET, &asked, None).await.expect(400);
    assert!(refused.to_string().contains("history is kept from"), "{refused}");
    let to_run = json!({"toRun": watched.first_run});
    watched.api().post(&format!("/api/directories/{}/rewind", watched.directory), &to_run).await.expect(400);
    let edge = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 20);
    assert_eq!(state(&watched, Some(&edge.to_string())).await, second, "the state at the edge is whole");
    assert_eq!(state(&watched, None).await, second);
    edit(&watched.slapd, 1);
    let run = watched.api().run_applied(&watched.directory).await;
    assert_eq!((number(&run, "/counts/removed"), number(&run, "/counts/missing")), (1, 1), "{run}");
    assert_same_objects(&watched.copy().await, &Truth::read(&watched.slapd));
    assert!(watched.api().get(&format!("/api/identities/{id}")).await["removedAt"].is_string());
    assert_eq!(state(&watched, Some(&edge.to_string())).await, second, "whatever has been applied since");
}
