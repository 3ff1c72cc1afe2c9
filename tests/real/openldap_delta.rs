//! Reading changes alone from a real slapd: what a full reading would say afterwards, a delta must say as well.
//!
//! A copy in the test takes in full readings and deltas as the planner does, without its storage. `ldapsearch` and a
//! full reading are the judges.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use bailiwick::connectors::{
    Connector, DeltaEnd, DeltaStop, Heard, Page, Sighting, Source, Subject, Unreadable, WatchStop,
    ldap::Credentials,
    openldap::{OpenLdap, Settings},
};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use crate::fixtures::{
    ldapsearch,
    people::{GROUPS, PEOPLE, SUFFIX, Shape},
    slapd::{LIMITED_DN, Options, SYNC_DN, SYNC_PASSWORD, Slapd},
    truth::{GROUP_FILTER, USER_FILTER},
};

/// Without the overlays that change groups in passing.
fn plain() -> Options {
    Options { member_of: false, ..Options::small() }
}

fn open_with(slapd: &Slapd, bind_dn: &str, change: impl FnOnce(&mut Settings)) -> OpenLdap {
    let settings = json!({"servers": [slapd.url()], "acceptPlaintext": true, "baseDns": [SUFFIX], "pageSize": 200});
    let mut settings: Settings = serde_json::from_value(settings).expect("settings");
    change(&mut settings);
    let credentials: Credentials =
        serde_json::from_value(json!({"bindDn": bind_dn, "password": SYNC_PASSWORD})).expect("credentials");
    OpenLdap::new(settings, credentials, "2026-11-22T12:00:00Z".parse().expect("a time"))
}

fn open(slapd: &Slapd) -> OpenLdap {
    open_with(slapd, SYNC_DN, |_| ())
}

/// What a group is compared by: its source and its members as written.
type Group = (Source, BTreeSet<String>);

/// The copy that a planner would have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Copy {
    people: BTreeMap<String, (Source, String)>,
    groups: BTreeMap<String, Group>,
    unreadable: Vec<Unreadable>,
}

/// What one reading of changes did.
#[derive(Debug, Default)]
struct Seen {
    people: BTreeSet<String>,
    groups: BTreeSet<String>,
    sent: usize,
    present: usize,
    gone: BTreeSet<(bool, String)>,
}

impl Copy {
    fn take(&mut self, mut page: Page, seen: &mut Seen) {
        for (index, sighting) in std::mem::take(&mut page.sightings).into_iter().enumerate() {
            match sighting {
                Sighting::Identity { external_id, source } => {
                    let identity = page.content.identity(index).expect("mapped");
                    assert_eq!(identity.external_id, external_id);
                    seen.people.insert(external_id.clone());
                    seen.sent += 1;
                    let fields = serde_json::to_string(&identity.fields).expect("JSON");
                    self.people.insert(external_id, (source, fields));
                }
                Sighting::GroupSeen { keys, .. } => assert!(keys.dn.is_some()),
                Sighting::Group { external_id, source } => {
                    let group = page.content.group(index).expect("mapped");
                    seen.groups.insert(external_id.clone());
                    seen.sent += 1;
                    let members = group.members.into_iter().map(|member| member.text).collect();
                    self.groups.insert(external_id, (source, members));
                }
                Sighting::Present { subject, external_id } => {
                    seen.present += 1;
                    match subject {
                        Subject::Identity => seen.people.insert(external_id),
                        Subject::Group => seen.groups.insert(external_id),
                    };
                }
                Sighting::Deleted { subject, external_id } => {
                    let is_group = subject == Subject::Group;
                    let others = if is_group { &seen.groups } else { &seen.people };
                    assert!(!others.contains(&external_id), "what was sent is not called gone");
                    if is_group {
                        self.groups.remove(&external_id);
                    } else {
                        self.people.remove(&external_id);
                    }
                    seen.gone.insert((is_group, external_id));
                }
                Sighting::Unreadable(unreadable) => self.unreadable.push(unreadable),
            }
        }
    }

    fn end(&mut self, end: &DeltaEnd, seen: &Seen) {
        if end.lists_identities {
            self.people.retain(|id, _| seen.people.contains(id));
        }
        if end.lists_groups {
            self.groups.retain(|id, _| seen.groups.contains(id));
        }
    }
}

/// A full reading, and its watermark.
async fn full(directory: &OpenLdap) -> (Copy, String) {
    let (sender, mut pages) = mpsc::channel(4);
    let take = async {
        let (mut copy, mut seen) = (Copy::default(), Seen::default());
        while let Some(page) = pages.recv().await {
            copy.take(page, &mut seen);
        }
        copy
    };
    let (end, copy) = tokio::join!(directory.read_full(sender), take);
    (copy, end.expect("read").watermark.expect("a watermark"))
}

/// A reading of changes into `copy`.
async fn delta(directory: &OpenLdap, watermark: &str, copy: &mut Copy) -> Result<(DeltaEnd, Seen), DeltaStop> {
    let (sender, mut pages) = mpsc::channel(4);
    let mut seen = Seen::default();
    let ability = directory.delta().expect("OpenLDAP has it");
    let take = async {
        while let Some(page) = pages.recv().await {
            copy.take(page, &mut seen);
        }
    };
    let (end, ()) = tokio::join!(ability.read_changes(watermark, sender), take);
    let end = end?;
    copy.end(&end, &seen);
    Ok((end, seen))
}

async fn lost(directory: &OpenLdap, watermark: &str) -> String {
    match delta(directory, watermark, &mut Copy::default()).await {
        Err(DeltaStop::WatermarkLost { reason }) => {
            assert!(reason.ends_with('.'), "{reason}");
            reason
        }
        other => panic!("not lost: {other:?}"),
    }
}

/// The copy is what a full reading says, and holds whom `ldapsearch` finds.
async fn assert_current(slapd: &Slapd, copy: &Copy) {
    let (expected, _) = full(&open(slapd)).await;
    assert_eq!(copy.people, expected.people);
    assert_eq!(copy.groups, expected.groups);
    for (filter, ours) in [
        (USER_FILTER, copy.people.keys().cloned().collect::<BTreeSet<_>>()),
        (GROUP_FILTER, copy.groups.keys().cloned().collect()),
    ] {
        let found = ldapsearch::search(slapd, SUFFIX, filter, &["entryUUID"]);
        let ids: BTreeSet<String> = found.iter().map(|entry| entry.text("entryUUID").expect("an id")).collect();
        assert_eq!(ours, ids);
    }
}

/// Changes of every kind, thirty-four of people and groups each time.
fn change_everything(slapd: &Slapd, round: usize) {
    let mut ldif = String::new();
    let first = 200 + 40 * round;
    for i in first..first + 10 {
        let _ = write!(
            ldif,
            "dn: uid=u{i:06},{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: Round {round}\n-\nadd: mail\nmail: r{round}-{i}@example.test\n\n"
        );
        let _ = write!(
            ldif,
            "dn: uid=new{round}-{i},{PEOPLE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: new{round}-{i}\ncn: New\nsn: One\n\n"
        );
    }
    let group = format!("cn=team{round},{GROUPS}");
    let _ = write!(
        ldif,
        "dn: {group}\nchangetype: add\nobjectClass: groupOfNames\ncn: team{round}\nmember: uid=u{first:06},{PEOPLE}\n\n\
         dn: cn=g00001,{GROUPS}\nchangetype: modify\nreplace: description\ndescription: Round {round}\n\n\
         dn: cn=g0000{},{GROUPS}\nchangetype: modify\nadd: member\nmember: uid=new{round}-{first},{PEOPLE}\nmember: uid=u{first:06},{PEOPLE}\n\n",
        2 + round
    );
    slapd.modify(&ldif);
    let second = ldapsearch::entry(slapd, &format!("cn=g0000{},{GROUPS}", 2 + round));
    let member = second.text("member").expect("it has members");
    slapd.modify(&format!(
        "dn: cn=g0000{},{GROUPS}\nchangetype: modify\ndelete: member\nmember: {member}\n\n",
        2 + round
    ));
    for i in first + 10..first + 15 {
        slapd.rename(&format!("uid=u{i:06},{PEOPLE}"), &format!("uid=renamed{i}"));
    }
    for i in first + 15..first + 20 {
        slapd.relocate(&format!("uid=u{i:06},{PEOPLE}"), &format!("uid=u{i:06}"), &format!("ou=empty,{SUFFIX}"));
    }
    for i in first + 20..first + 25 {
        slapd.delete(&format!("uid=u{i:06},{PEOPLE}"));
    }
    slapd.rename(&format!("cn=g000{},{GROUPS}", 10 + round), &format!("cn=renamed-group{round}"));
    slapd.delete(&format!("cn=g000{},{GROUPS}", 20 + round));
}

#[tokio::test]
async fn a_hundred_changes_of_every_kind_come_in_one_delta() {
    let slapd = Slapd::start(plain());
    let directory = open(&slapd);
    let (mut copy, mut watermark) = full(&directory).await;
    assert!(watermark.contains("syncrepl"), "{watermark}");
    for round in 0..3 {
        change_everything(&slapd, round);
        if round == 1 {
            // The session log is in slapd's memory: now it lists what is there instead of what is gone.
            slapd.stop_and_start();
        }
        let (end, seen) = delta(&directory, &watermark, &mut copy).await.expect("changes");
        assert!(end.finds_deletions);
        assert_eq!((end.lists_identities, end.lists_groups), (round == 1, round == 1));
        assert_eq!(seen.present > 0, round == 1);
        // 10 changed, 10 new, 5 renamed and 5 moved people; 1 new, 2 changed and 1 renamed groups.
        assert_eq!(seen.sent, 34, "no more than what has changed is sent");
        assert_current(&slapd, &copy).await;
        watermark = end.watermark;
        let (end, seen) = delta(&directory, &watermark, &mut copy).await.expect("no changes");
        assert_eq!((seen.sent, seen.present, seen.gone.len()), (0, 0, 0));
        assert!(!end.lists_identities && !end.lists_groups);
        assert_eq!(end.watermark, watermark);
    }
    assert_eq!(copy.unreadable, []);
}

#[tokio::test]
async fn what_changes_between_reading_users_and_reading_groups_is_not_lost() {
    let slapd = Slapd::start(plain());
    let directory = open(&slapd);
    let (sender, mut pages) = mpsc::channel(1);
    let mut copy = Copy::default();
    let take = async {
        let mut seen = Seen::default();
        let mut is_first = true;
        while let Some(page) = pages.recv().await {
            if std::mem::take(&mut is_first) {
                change_everything(&slapd, 0);
            }
            copy.take(page, &mut seen);
        }
    };
    let (end, ()) = tokio::join!(directory.read_full(sender), take);
    let watermark = end.expect("read").watermark.expect("a watermark");
    delta(&directory, &watermark, &mut copy).await.expect("changes");
    assert_current(&slapd, &copy).await;
}

#[tokio::test]
async fn several_bases_are_followed_each_with_its_own_cookie() {
    let slapd = Slapd::start(plain());
    let bases = |settings: &mut Settings| {
        settings.base_dns = [PEOPLE, GROUPS, &format!("ou=empty,{SUFFIX}")].map(str::to_owned).to_vec();
    };
    let directory = open_with(&slapd, SYNC_DN, bases);
    let (mut copy, watermark) = full(&directory).await;
    change_everything(&slapd, 0);
    let (end, seen) = delta(&directory, &watermark, &mut copy).await.expect("changes");
    assert_eq!(seen.sent, 34);
    let (expected, _) = full(&directory).await;
    assert_eq!((copy.people, copy.groups), (expected.people, expected.groups));
    assert_ne!(end.watermark, watermark);
    assert!(lost(&open(&slapd), &watermark).await.contains("settings"));
}

#[tokio::test]
async fn a_watermark_that_the_server_cannot_continue_from_is_lost_with_its_reason() {
    let one = Slapd::start(Options { server_id: 1, ..plain() });
    let two = Slapd::start(Options { server_id: 2, ..plain() });
    let touch = |slapd: &Slapd, title: &str| {
        slapd.modify(&format!("dn: uid=u000200,{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: {title}\n\n"));
    };
    // Both had the same data; then each took a change that the other has not.
    let (_, at_first) = full(&open(&one)).await;
    touch(&one, "One");
    touch(&two, "Two");
    let (mut copy, before) = full(&open(&one)).await;
    touch(&one, "Once more");
    let (end, _) = delta(&open(&one), &before, &mut copy).await.expect("its own change");
    let reason = lost(&open(&two), &end.watermark).await;
    assert!(reason.contains("server ids 000, 002; what was read before has those of 000, 001"), "{reason}");
    // Which changes of a new server id were read already is not known either.
    let reason = lost(&open(&one), &at_first).await;
    assert!(reason.contains("server ids 000, 001; what was read before has those of 000"), "{reason}");
    let older = Slapd::start(plain());
    touch(&older, "Newer");
    let (_, newer) = full(&open(&older)).await;
    let restored = Slapd::start(plain());
    let reason = lost(&open(&restored), &newer).await;
    assert!(reason.contains("is older than what was read before"), "{reason}");
    // Another directory with the same names, written later.
    let swapped = Slapd::start(Options { member_of: false, ..Options::of(Shape::MEDIUM) });
    touch(&swapped, "Swapped");
    let reason = lost(&open(&swapped), &before).await;
    assert!(reason.contains("another directory"), "{reason}");
    for nonsense in ["", "{}", "null", "{\"version\":1}"] {
        assert!(lost(&open(&one), nonsense).await.contains("can't be read"), "{nonsense}");
    }
    let none = Slapd::start(Options { sync_provider: false, ..plain() });
    touch(&none, "Unnoticed");
    let reason = lost(&open(&none), &at_first).await;
    assert!(reason.contains("syncprov is missing"), "{reason}");
}

#[tokio::test]
async fn an_answer_cut_at_the_servers_limit_is_no_delta() {
    let slapd = Slapd::start(plain());
    let people_only = |settings: &mut Settings| settings.user_filter = Some("(uid=u0000*)".to_owned());
    // This account may read 500 entries of one search.
    let directory = open_with(&slapd, LIMITED_DN, people_only);
    let (mut copy, watermark) = full(&directory).await;
    let mut ldif = String::new();
    for i in 0..600 {
        let _ = write!(
            ldif,
            "dn: uid=u0000-{i},{PEOPLE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: u0000-{i}\ncn: New\nsn: One\n\n"
        );
    }
    slapd.modify(&ldif);
    let before = copy.clone();
    match delta(&directory, &watermark, &mut copy).await {
        Err(DeltaStop::WatermarkLost { reason }) => assert!(reason.contains("limit"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(before.groups, copy.groups);
}

#[tokio::test]
async fn without_syncprov_changes_are_found_by_their_time_and_deletions_are_not() {
    let slapd = Slapd::start(Options { sync_provider: false, ..plain() });
    let directory = open(&slapd);
    let (mut copy, watermark) = full(&directory).await;
    assert!(watermark.contains("timestamps"), "{watermark}");
    change_everything(&slapd, 0);
    let (end, seen) = delta(&directory, &watermark, &mut copy).await.expect("changes");
    assert!(!end.finds_deletions && !end.lists_identities && !end.lists_groups);
    assert!(seen.sent >= 34, "{}", seen.sent);
    let (expected, _) = full(&directory).await;
    let gone: Vec<_> = copy.people.keys().filter(|id| !expected.people.contains_key(*id)).collect();
    assert_eq!(gone.len(), 5, "the deleted ones stay until a full reading");
    for (id, person) in &expected.people {
        assert_eq!(copy.people.get(id), Some(person));
    }
    for (id, group) in &expected.groups {
        assert_eq!(copy.groups.get(id), Some(group));
    }
    let (again, _) = delta(&directory, &end.watermark, &mut copy).await.expect("changes");
    assert!(!again.finds_deletions);
}

#[tokio::test]
async fn groups_that_overlays_changed_without_a_trace_can_be_read_again() {
    let slapd = Slapd::start(Options::small());
    let directory = open(&slapd);
    let (mut copy, watermark) = full(&directory).await;
    let group = ldapsearch::entry(&slapd, &format!("cn=g00001,{GROUPS}"));
    let id = group.text("entryUUID").expect("an id");
    let member = group.texts("member").into_iter().find(|dn| dn.starts_with("uid=u")).expect("an ordinary member");
    slapd.delete(&member);
    let person = copy.people.iter().find(|(_, (_, fields))| fields.contains(&member)).expect("known").0.clone();
    let (_, seen) = delta(&directory, &watermark, &mut copy).await.expect("changes");
    assert_eq!(seen.sent, 0, "refint's edit of the group is not told");
    // slapd names it in both searches, which did not look for its kind.
    assert_eq!(seen.gone, BTreeSet::from([(false, person.clone()), (true, person)]));
    assert!(copy.groups[&id].1.contains(&member));
    let (sender, mut pages) = mpsc::channel(4);
    let ids = vec![id.to_uppercase(), "no-such-id".to_owned(), "00000000-0000-0000-0000-000000000000".to_owned()];
    let mut seen = Seen::default();
    let take = async {
        while let Some(page) = pages.recv().await {
            copy.take(page, &mut seen);
        }
    };
    let (end, ()) = tokio::join!(directory.delta().expect("it can").read_groups(ids, sender), take);
    end.expect("read");
    assert_eq!(seen.groups, BTreeSet::from([id.clone()]));
    assert!(!copy.groups[&id].1.contains(&member));
    let (sender, mut pages) = mpsc::channel(100);
    let all: Vec<String> = copy.groups.keys().cloned().collect();
    directory.delta().expect("it can").read_groups(all.clone(), sender).await.expect("read");
    let mut seen = Seen::default();
    while let Some(page) = pages.recv().await {
        copy.take(page, &mut seen);
    }
    assert_eq!(seen.groups, all.into_iter().collect(), "in several batches");
    assert_current(&slapd, &copy).await;
}

#[tokio::test]
async fn people_below_a_renamed_branch_are_read_again() {
    let slapd = Slapd::start(plain());
    let directory = open(&slapd);
    slapd.relocate(&format!("uid=u000300,{PEOPLE}"), "uid=u000300", &format!("ou=empty,{SUFFIX}"));
    let (mut copy, watermark) = full(&directory).await;
    slapd.rename(&format!("ou=empty,{SUFFIX}"), "ou=not-empty");
    let (_, seen) = delta(&directory, &watermark, &mut copy).await.expect("changes");
    assert_eq!(seen.sent, 1);
    assert_current(&slapd, &copy).await;
}

/// What a watch has heard once it is as wanted; `None` when it is not within this time.
async fn hears(
    told: &mut watch::Receiver<Heard>,
    patience: Duration,
    wanted: impl FnMut(&Heard) -> bool,
) -> Option<Heard> {
    let waited = tokio::time::timeout(patience, told.wait_for(wanted)).await.ok()?;
    Some(*waited.expect("still watching"))
}

#[tokio::test]
async fn watching_wakes_for_changes_of_people_and_groups_only() {
    let slapd = Slapd::start(plain());
    let directory = open(&slapd);
    let (mut copy, watermark) = full(&directory).await;
    let (heard, mut told) = watch::channel(Heard::default());
    let watching = directory.delta().expect("it can").watch(&watermark, heard).expect("it can");
    let (patience, a_moment) = (Duration::from_secs(20), Duration::from_millis(500));
    let acting = async {
        hears(&mut told, patience, |heard| heard.is_listening).await.expect("the server answers");
        // The first search of a watch tells what has happened since the watermark; nothing has.
        assert_eq!(hears(&mut told, a_moment, |heard| heard.changes > 0).await, None, "nothing has changed");
        let before = told.borrow().changes;
        slapd.modify(&format!("dn: uid=u000200,{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: Woken\n\n"));
        let woken = hears(&mut told, patience, |heard| heard.changes > before).await.expect("woken by a change");
        slapd.delete(&format!("uid=u000201,{PEOPLE}"));
        let woken = hears(&mut told, patience, |heard| heard.changes > woken.changes).await;
        let woken = woken.expect("woken by a deletion");
        slapd.modify(&format!("dn: ou=empty,{SUFFIX}\nchangetype: modify\nreplace: description\ndescription: x\n\n"));
        let more = hears(&mut told, a_moment, |heard| *heard != woken).await;
        assert_eq!(more, None, "neither a person nor a group");
        drop(told);
    };
    let (ended, ()) = tokio::join!(watching, acting);
    ended.expect("ends when nobody listens");
    delta(&directory, &watermark, &mut copy).await.expect("changes");
    assert_current(&slapd, &copy).await;
}

#[tokio::test]
async fn a_server_without_syncprov_does_not_offer_to_be_watched() {
    let with = Slapd::start(plain());
    let without = Slapd::start(Options { sync_provider: false, ..plain() });
    let (_, by_cookies) = full(&open(&with)).await;
    let (_, by_times) = full(&open(&without)).await;
    for watermark in [by_cookies, by_times] {
        let directory = open(&without);
        let (heard, told) = watch::channel(Heard::default());
        let ended = directory.delta().expect("it can").watch(&watermark, heard).expect("it can").await;
        let Err(WatchStop::NotOffered { reason }) = ended else { panic!("{ended:?}") };
        assert!(reason.contains("syncprov"), "{reason}");
        assert_eq!(*told.borrow(), Heard::default());
    }
}
