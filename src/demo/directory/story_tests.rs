//! The sample directory's organisation: whole at every minute of its story.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use crate::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{
    BASE_DN, SampleDirectory,
    changes::{PEOPLE_MAX, PEOPLE_MIN},
    entry::{self, Dn, Entry, Snapshot},
    rendering::generalised_time,
};

pub(super) const SEED: u64 = 7;

pub(super) fn start() -> Timestamp {
    "2026-03-02T08:00:00Z".parse().expect("a time")
}

pub(super) fn minutes(count: i64) -> Timestamp {
    start().checked_add(SignedDuration::from_mins(count)).expect("a time")
}

pub(super) fn entries_of<'a>(snapshot: &'a Snapshot, class: &'a str) -> impl Iterator<Item = &'a Arc<Entry>> {
    snapshot.entries().iter().filter(move |entry| entry.values(&entry::OBJECT_CLASS).iter().any(|c| c == class))
}

pub(super) fn value<'a>(entry: &'a Entry, kind: &entry::AttributeType) -> &'a str {
    entry.values(kind).first().map_or("", String::as_str)
}

/// Everything that must hold at any time. Answers the number of people.
///
/// References are compared as written, not as DNs: the server writes them the way it names the entries.
fn check_integrity(snapshot: &Snapshot) -> usize {
    let by_dn: HashMap<&str, &Arc<Entry>> = snapshot.entries().iter().map(|entry| (entry.dn.as_str(), entry)).collect();
    assert_eq!(by_dn.len(), snapshot.entries().len(), "no DN twice");
    let mut seen = HashSet::from(["dc=example"]);
    for entry in snapshot.entries() {
        let parent = Dn::parent_key(&entry.key).expect("a parent");
        assert!(seen.contains(parent), "{} comes after its superior", entry.dn);
        assert!(seen.insert(&entry.key), "{} is there twice", entry.key);
        for kind in [&entry::MEMBER, &entry::UNIQUE_MEMBER, &entry::MANAGER] {
            let mut values = HashSet::new();
            for dn in entry.values(kind) {
                assert!(by_dn.contains_key(dn.as_str()), "{}: {} {dn} is gone", entry.dn, kind.name);
                assert!(values.insert(dn), "{}: {} {dn} twice", entry.dn, kind.name);
            }
        }
    }
    for (class, kind) in [("groupOfNames", &entry::MEMBER), ("groupOfUniqueNames", &entry::UNIQUE_MEMBER)] {
        for group in entries_of(snapshot, class) {
            assert!(!group.values(kind).is_empty(), "{} has no member", group.dn);
        }
    }
    let people: Vec<_> = entries_of(snapshot, "inetOrgPerson").collect();
    let uids: HashSet<&str> = people.iter().map(|person| value(person, &entry::UID)).collect();
    assert_eq!(uids.len(), people.len(), "no user name twice");
    for group in entries_of(snapshot, "posixGroup") {
        assert!(group.values(&entry::MEMBER_UID).iter().all(|uid| uids.contains(uid.as_str())), "{}", group.dn);
    }
    for kind in [&entry::ENTRY_UUID, &entry::ENTRY_CSN] {
        let ids: HashSet<&str> = snapshot.entries().iter().map(|entry| value(entry, kind)).collect();
        assert_eq!(ids.len(), snapshot.entries().len(), "{} is unique", kind.name);
    }
    for person in &people {
        let mut above = *person;
        let mut steps = 0;
        while let Some(manager) = above.values(&entry::MANAGER).first() {
            above = by_dn.get(manager.as_str()).expect("the manager");
            steps += 1;
            assert!(steps < 6, "{} has no end of managers", person.dn);
        }
        assert_eq!(value(above, &entry::TITLE), "Chief Executive Officer");
    }
    people.len()
}

#[test]
fn the_organisation_is_of_a_believable_size_and_whole() {
    let directory = SampleDirectory::new(SEED, Clock::fixed(start().into()));
    let snapshot = directory.snapshot();
    assert_eq!(check_integrity(&snapshot), 540);
    let counts = directory.counts();
    assert_eq!(counts.people, 540);
    let nested = entries_of(&snapshot, "groupOfNames")
        .filter(|group| {
            let holds = group.values(&entry::MEMBER).iter().any(|member| member.contains("ou=groups"));
            let is_held =
                entries_of(&snapshot, "groupOfNames").any(|other| other.values(&entry::MEMBER).contains(&group.dn));
            holds || is_held
        })
        .count();
    assert!(counts.groups >= 45 && nested >= 40, "{counts:?}, {nested} of them nested");
    assert!(entries_of(&snapshot, "posixGroup").count() >= 3);
    assert!(entries_of(&snapshot, "groupOfUniqueNames").count() >= 3);
}

#[test]
fn every_state_and_oddity_an_administrator_meets_is_there() {
    let directory = SampleDirectory::new(SEED, Clock::fixed(start().into()));
    let snapshot = directory.snapshot();
    let people: Vec<_> = entries_of(&snapshot, "inetOrgPerson").collect();
    let count = |fits: &dyn Fn(&Entry) -> bool| people.iter().filter(|person| fits(person)).count();
    let lock = |person: &Entry| value(person, &entry::PWD_ACCOUNT_LOCKED_TIME).to_owned();
    assert!(count(&|p| lock(p) == "000001010000Z") >= 5, "disabled for good");
    assert!(count(&|p| lock(p).starts_with("2026")) >= 4, "locked");
    assert!(count(&|p| value(p, &entry::PWD_RESET) == "TRUE") >= 5, "must change");
    assert!(count(&|p| p.values(&entry::MAIL).is_empty()) >= 6, "without mail");
    assert!(count(&|p| p.values(&entry::MAIL).len() == 2) >= 20, "with two mails");
    assert!(count(&|p| value(p, &entry::EMPLOYEE_TYPE) == "contractor") >= 30);
    assert_eq!(count(&|p| value(p, &entry::EMPLOYEE_TYPE) == "service"), 6);
    assert_eq!(count(&|p| value(p, &entry::MAIL) == "workshop.lisboa@alder-finch.example"), 2, "one mail for two");
    assert_eq!(count(&|p| p.dn.starts_with(r"cn=Quill\2c Barnaby \2b Sons \5c Carpentry,")), 1);
    for range in [
        '\u{370}'..'\u{400}',
        '\u{400}'..'\u{500}',
        '\u{590}'..'\u{600}',
        '\u{600}'..'\u{700}',
        '\u{900}'..'\u{980}',
        '\u{1EA0}'..'\u{1F00}',
        '\u{3040}'..'\u{A000}',
        '\u{AC00}'..'\u{D7A4}',
    ] {
        assert!(count(&|p| value(p, &entry::CN).chars().any(|c| range.contains(&c))) >= 3, "names in {range:?}");
    }
    let is_ascii = |person: &Entry| value(person, &entry::UID).is_ascii() && !value(person, &entry::UID).contains(' ');
    assert_eq!(count(&is_ascii), people.len(), "user names can be typed");
}

#[test]
fn groups_nest_four_deep_and_one_ring_closes() {
    let directory = SampleDirectory::new(SEED, Clock::fixed(start().into()));
    let snapshot = directory.snapshot();
    let members: HashMap<&str, Vec<String>> = entries_of(&snapshot, "groupOfNames")
        .map(|group| {
            let keys = group.values(&entry::MEMBER).iter().map(|dn| Dn::parse(dn).expect("a DN").key).collect();
            (group.key.as_str(), keys)
        })
        .collect();
    let group = |name: &str| format!("cn={name},ou=groups,{BASE_DN}");
    let effective = |from: String| {
        let (mut seen, mut open) = (BTreeMap::from([(from.clone(), 0)]), vec![(from, 0)]);
        while let Some((key, depth)) = open.pop() {
            for member in members.get(key.as_str()).into_iter().flatten() {
                if !seen.contains_key(member) {
                    seen.insert(member.clone(), depth + 1);
                    open.push((member.clone(), depth + 1));
                }
            }
        }
        seen
    };
    let staff = effective(group("all staff"));
    assert_eq!(staff.get(&group("database operations")), Some(&4));
    let people = staff.keys().filter(|key| key.contains("ou=people")).count();
    assert_eq!(people, 534, "everybody but the service accounts");
    let ring = members.get(group("project kingfisher partners").as_str()).expect("a group");
    assert!(ring.contains(&group("project kingfisher")));
    assert!(effective(group("project kingfisher")).contains_key(&group("project kingfisher partners")));
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let tell = |seed| {
        let directory = SampleDirectory::new(seed, Clock::fixed(start().into()));
        let story: Vec<_> = (1..=20).flat_map(|minute| directory.tick(minutes(minute))).collect();
        let snapshot = directory.snapshot();
        (story, snapshot.entries().iter().map(|entry| format!("{entry:?}")).collect::<Vec<_>>())
    };
    assert_eq!(tell(1), tell(1));
    assert_ne!(tell(1).0, tell(2).0);
}

#[test]
fn a_tick_stamps_what_it_changed_and_nothing_else() {
    let directory = SampleDirectory::new(SEED, Clock::fixed(start().into()));
    for minute in 1..=60 {
        let before = directory.snapshot();
        let now = minutes(minute);
        let done = directory.tick(now);
        assert!((2..=5).contains(&done.len()), "{done:?}");
        let after = directory.snapshot();
        let old: HashMap<&str, &Arc<Entry>> =
            before.entries().iter().map(|e| (value(e, &entry::ENTRY_UUID), e)).collect();
        let mut differing = 0;
        for entry in after.entries() {
            match old.get(value(entry, &entry::ENTRY_UUID)) {
                Some(same) if Arc::ptr_eq(same, entry) => {}
                other => {
                    differing += 1;
                    assert_eq!(value(entry, &entry::MODIFY_TIMESTAMP), generalised_time(now));
                    assert!(value(entry, &entry::ENTRY_CSN).starts_with(generalised_time(now).trim_end_matches('Z')));
                    if let Some(other) = other {
                        assert!(other.dn != entry.dn || other.content != entry.content);
                        assert_eq!(value(other, &entry::CREATE_TIMESTAMP), value(entry, &entry::CREATE_TIMESTAMP));
                    }
                }
            }
        }
        assert!(differing + before.entries().len().saturating_sub(after.entries().len()) > 0, "{done:?}");
        assert!(differing < 60, "{differing} entries for {done:?}");
    }
}

#[test]
fn a_rename_keeps_the_entry_uuid_and_is_followed_by_groups() {
    let directory = SampleDirectory::new(SEED, Clock::fixed(start().into()));
    for minute in 1..400 {
        let before = directory.snapshot();
        directory.tick(minutes(minute));
        let after = directory.snapshot();
        for person in entries_of(&before, "inetOrgPerson") {
            let id = value(person, &entry::ENTRY_UUID);
            let Some(now) = after.entries().iter().find(|e| value(e, &entry::ENTRY_UUID) == id) else { continue };
            if now.dn == person.dn {
                continue;
            }
            assert_ne!(value(now, &entry::SN), value(person, &entry::SN));
            assert_eq!(value(now, &entry::EMPLOYEE_NUMBER), value(person, &entry::EMPLOYEE_NUMBER));
            let is_named = |snapshot: &Snapshot, dn: &String| {
                entries_of(snapshot, "groupOfNames").any(|group| group.values(&entry::MEMBER).contains(dn))
            };
            assert!(is_named(&before, &person.dn) && is_named(&after, &now.dn));
            assert!(!is_named(&after, &person.dn));
            return;
        }
    }
    panic!("nobody married in 400 minutes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, ..ProptestConfig::default() })]

    #[test]
    fn five_hundred_minutes_leave_no_dangling_name_and_keep_the_size(seed in any::<u64>()) {
        let directory = SampleDirectory::new(seed, Clock::fixed(start().into()));
        let groups = directory.counts().groups;
        for minute in 1..=500 {
            let done = directory.tick(minutes(minute));
            prop_assert!(!done.is_empty(), "minute {minute} is empty");
            let people = check_integrity(&directory.snapshot());
            prop_assert!((PEOPLE_MIN..=PEOPLE_MAX).contains(&people), "{people} people");
        }
        prop_assert_eq!(directory.counts().groups, groups);
    }

    #[test]
    fn a_name_is_equal_to_itself_however_it_is_escaped(text in "[ -~é木]{1,20}") {
        let key = |value: &str| Dn::parse(&format!("cn={value},{BASE_DN}")).map(|dn| dn.key);
        let all_hex: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        prop_assert_eq!(key(&ldap3::dn_escape(text.as_str())), key(&all_hex));
        prop_assert!(key(&all_hex).is_some_and(|key| Dn::parent_key(&key) == Some(BASE_DN)));
    }
}
