//! Deltas from a real OpenLDAP, applied: the copy is what `ldapsearch` says, entry by entry.

use std::fmt::Write as _;

use serde_json::json;

use super::{comparison::assert_same, watched::Watched};
use crate::fixtures::{
    appliance::number,
    ldapsearch,
    people::{GROUPS, PEOPLE, SUFFIX, Shape, uid},
    slapd::{Options, Slapd},
    truth::Truth,
};

fn small() -> Options {
    Options::of(Shape { people: 300, groups: 30, members: 12, giant: 150, tree: 0, odd: false, member_of: true })
}

/// A hundred changes: of people and groups, of every kind that LDAP has.
fn a_hundred_changes(slapd: &Slapd) {
    let mut ldif = String::new();
    let person = |i: usize| format!("uid={},{PEOPLE}", uid(i));
    let mut change = |dn: &str, record: &str| {
        let _ = write!(ldif, "dn: {dn}\nchangetype: {record}\n\n");
    };
    for i in 0..20 {
        let new = format!("uid=new{i},{PEOPLE}");
        change(&new, &format!("add\nobjectClass: inetOrgPerson\nuid: new{i}\ncn: New {i}\nsn: Person"));
    }
    for i in 100..110 {
        change(&person(i), &format!("modify\nreplace: mail\nmail: m{i}@example.test\nmail: n{i}@example.test"));
        change(&person(i + 10), "modify\nreplace: title\ntitle: Chief\n-\ndelete: mail");
        change(&person(i + 20), &format!("modify\nreplace: sn\nsn: Andersen\n-\nreplace: cn\ncn: Ann Andersen {i}"));
        change(&person(i + 30), &format!("modrdn\nnewrdn: uid=renamed{i}\ndeleteoldrdn: 1"));
        change(
            &person(i + 40),
            &format!("modrdn\nnewrdn: uid={}\ndeleteoldrdn: 1\nnewsuperior: ou=empty,{SUFFIX}", uid(i + 40)),
        );
        change(&person(i + 50), "delete");
    }
    for i in 0..5 {
        let group = |number: usize| format!("cn=g{number:05},{GROUPS}");
        change(&group(i), &format!("modify\nadd: member\nmember: uid=new{i},{PEOPLE}\nmember: uid=new1{i},{PEOPLE}"));
        change(&group(5 + i), &format!("modify\nreplace: member\nmember: {}\nmember: cn=g00000,{GROUPS}", person(i)));
    }
    for i in 0..3 {
        let group = |number: usize| format!("cn=g{number:05},{GROUPS}");
        let team = format!("cn=team{i},{GROUPS}");
        change(&team, &format!("add\nobjectClass: groupOfNames\nmember: {}\nmember: cn=nobody,{SUFFIX}", person(i)));
        change(&group(20 + i), "delete");
        change(&group(23 + i), &format!("modrdn\nnewrdn: cn=renamed-group{i}\ndeleteoldrdn: 1"));
    }
    // Somebody who is added, named by a group, and gone again before anybody has read them.
    change(&format!("uid=brief,{PEOPLE}"), "add\nobjectClass: inetOrgPerson\nuid: brief\ncn: Brief\nsn: Visit");
    assert_eq!(ldif.matches("changetype").count(), 100);
    let _ = write!(ldif, "dn: uid=brief,{PEOPLE}\nchangetype: delete\n\n");
    slapd.modify(&ldif);
    let old = (130..160).map(person).chain((20..26).map(|number| format!("cn=g{number:05},{GROUPS}")));
    ldapsearch::wait_for_refint(slapd, &old.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_hundred_changes_of_every_kind_in_one_delta_leave_the_copy_as_ldapsearch_sees_it() {
    let watched = Watched::on(Slapd::start(small()), &[]).await;
    let before = watched.copy().await;
    let was = Truth::read(&watched.slapd);
    a_hundred_changes(&watched.slapd);
    // Ten of three hundred people are gone, and three of thirty groups: below the limits. Memberships are not.
    let run = watched.run("delta").await;
    assert_eq!(run["mode"], "delta", "{run}");
    let run = match run["state"].as_str() {
        Some("parked") => watched.approve(&run).await,
        _ => run,
    };
    assert_eq!(run["state"], "applied", "{run}");
    assert_eq!((number(&run, "/counts/missing"), number(&run, "/counts/added")), (13, 23), "{run}");
    let is = Truth::read(&watched.slapd);
    assert_same(watched.api(), &watched.directory, &is).await;
    let after = watched.copy().await;
    for (external, entry) in &was.people {
        assert_eq!(after.id(external), before.id(external), "{} is who they were", entry.dn);
    }
    let quiet = watched.api().run_applied(&watched.directory).await;
    for count in ["added", "changed", "missing", "returned", "membersAdded", "membersRemoved"] {
        assert_eq!(number(&quiet, &format!("/counts/{count}")), 0, "a full reading finds nothing more: {quiet}");
    }
    watched.appliance.assert_audit_verifies();
}

#[tokio::test]
async fn who_could_not_be_read_for_a_while_comes_back_by_a_delta() {
    let mut watched = Watched::on(Slapd::start(small()), &[]).await;
    let before = watched.copy().await;
    // Three people and a group, hidden by a rule that somebody takes back.
    watched.slapd.start_again(|options| options.hidden = "^(uid=u00010[0-2]|cn=g00003),");
    let run = watched.api().run_applied(&watched.directory).await;
    assert_eq!(number(&run, "/counts/missing"), 4, "{run}");
    // They themselves do not change. After a restart the server has forgotten what did, and lists what is there.
    watched
        .slapd
        .modify(&format!("dn: uid={},{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: Other\n\n", uid(200)));
    watched.slapd.start_again(|options| options.hidden = "");
    let run = watched.delta().await;
    assert_eq!((number(&run, "/counts/returned"), number(&run, "/counts/missing")), (4, 0), "{run}");
    assert_eq!(watched.copy().await.outline(), before.outline(), "{run}");
    let truth = Truth::read(&watched.slapd);
    assert_same(watched.api(), &watched.directory, &truth).await;
    let quiet = watched.api().run_applied(&watched.directory).await;
    assert_eq!(number(&quiet, "/counts/changed"), 0, "as a full reading has it: {quiet}");
    assert_eq!(quiet["counts"]["unchanged"], json!(truth.people.len() + truth.groups.len()), "{quiet}");
}
