//! The engine on a directory that lives in the test: whatever happens to it, the copy follows.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use proptest::prelude::*;
use rusqlite::Connection;

use super::{
    plan::{Aim, Counts, Listed, Planner},
    progress::Progress,
};
use crate::{
    clock::{Clock, Time},
    config::Layer,
    connectors::{
        GroupFields, IdentityFields, Key, Keys, MemberRef, Observed, ObservedGroup, ObservedIdentity, Page, Status,
        Subject, Unreadable, Value,
    },
    db::Db,
    error::Result,
    identities::{
        SubjectType, handles, lookup,
        write::{self, Target},
    },
    kernel::Kernel,
    secret::MasterKey,
};

/// A directory as a test thinks of it: people by external id, groups with members by external id or dangling text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Model {
    people: BTreeMap<u8, Person>,
    groups: BTreeMap<u8, BTreeSet<Ref>>,
    /// The last part of the DN of people who are gone: groups still write it.
    gone: BTreeMap<u8, u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Person {
    name: u8,
    title: Option<u8>,
    /// Part of the DN: a rename changes it and what groups write.
    rdn: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ref {
    Person(u8),
    Group(u8),
    Nowhere(u8),
}

fn person_dn(id: u8, rdn: u8) -> String {
    format!("uid=p{id}-{rdn},dc=test")
}

fn group_dn(id: u8) -> String {
    format!("cn=g{id},dc=test")
}

impl Model {
    fn rdn(&self, id: u8) -> u8 {
        self.people.get(&id).map(|person| person.rdn).or_else(|| self.gone.get(&id).copied()).unwrap_or(0)
    }

    fn identity(id: u8, person: &Person) -> Observed {
        let dn = person_dn(id, person.rdn);
        let attributes = BTreeMap::from([("dn".into(), vec![Value::Text(dn.clone())])]);
        let fields = IdentityFields {
            user_name: format!("p{id}"),
            display_name: Some(format!("Person {}", person.name)),
            title: person.title.map(|t| format!("Title {t}")),
            status: if person.name == 3 { Status::Disabled } else { Status::Active },
            attributes,
            ..IdentityFields::default()
        };
        let keys = Keys { dn: Some(Key::of_dn(&dn)), name: None };
        Observed::Identity(Box::new(ObservedIdentity { external_id: format!("person-{id}"), keys, fields }))
    }

    fn group_seen(id: u8) -> Observed {
        let keys = Keys { dn: Some(Key::of_dn(&group_dn(id))), name: None };
        Observed::GroupSeen { external_id: format!("group-{id}"), keys }
    }

    fn group(&self, id: u8, members: &BTreeSet<Ref>) -> Observed {
        Observed::Group(Box::new(ObservedGroup {
            external_id: format!("group-{id}"),
            keys: Keys { dn: Some(Key::of_dn(&group_dn(id))), name: None },
            fields: GroupFields { name: format!("Group {id}"), ..GroupFields::default() },
            members: members.iter().map(|member| self.member_ref(*member)).collect(),
        }))
    }

    /// What a reading of changes since `before` sends: a group only when it was edited itself, as where the server
    /// keeps memberships in order without a word. A server that `is_listing` names all that is there instead of what is
    /// gone.
    fn changes_since(&self, before: &Self, is_listing: bool) -> Vec<Observed> {
        let deleted = |subject, external_id| Observed::Deleted { subject, external_id };
        let present = |subject, external_id| Observed::Present { subject, external_id };
        let mut out = Vec::new();
        for (id, person) in &self.people {
            if before.people.get(id) != Some(person) {
                out.push(Self::identity(*id, person));
            } else if is_listing {
                out.push(present(Subject::Identity, format!("person-{id}")));
            }
        }
        for id in before.people.keys().filter(|id| !is_listing && !self.people.contains_key(id)) {
            out.push(deleted(Subject::Identity, format!("person-{id}")));
        }
        let edited: Vec<_> =
            self.groups.iter().filter(|(id, members)| before.groups.get(id) != Some(members)).collect();
        out.extend(edited.iter().map(|(id, _)| Self::group_seen(**id)));
        out.extend(edited.iter().map(|(id, members)| self.group(**id, members)));
        let is_edited = |id: &u8| edited.iter().any(|(edited, _)| *edited == id);
        let unedited = self.groups.keys().filter(|id| is_listing && !is_edited(id));
        out.extend(unedited.map(|id| present(Subject::Group, format!("group-{id}"))));
        for id in before.groups.keys().filter(|id| !is_listing && !self.groups.contains_key(id)) {
            out.push(deleted(Subject::Group, format!("group-{id}")));
        }
        out
    }

    fn member_ref(&self, member: Ref) -> MemberRef {
        let text = match member {
            Ref::Person(id) => person_dn(id, self.rdn(id)),
            Ref::Group(id) => group_dn(id),
            Ref::Nowhere(id) => format!("cn=nowhere{id},dc=elsewhere"),
        };
        MemberRef { key: Key::of_dn(&text), text }
    }

    pub(super) fn observed(&self) -> Vec<Observed> {
        let mut out: Vec<Observed> = self.people.iter().map(|(id, person)| Self::identity(*id, person)).collect();
        out.extend(self.groups.keys().map(|id| Self::group_seen(*id)));
        out.extend(self.groups.iter().map(|(id, members)| self.group(*id, members)));
        out
    }

    /// What the copy must hold: external id → (name, title), and group → members. `missing` are the people and groups
    /// that the copy knows as missing, with the last part of the DN it knows: their names still lead to them.
    pub(super) fn expected(&self, missing: &Missing) -> Copy {
        Copy {
            people: self
                .people
                .iter()
                .map(|(id, p)| {
                    (format!("person-{id}"), (format!("Person {}", p.name), p.title.map(|t| format!("Title {t}"))))
                })
                .collect(),
            groups: self
                .groups
                .iter()
                .map(|(id, members)| {
                    let names = members
                        .iter()
                        .map(|member| match member {
                            Ref::Person(id) if self.people.contains_key(id) => format!("person-{id}"),
                            Ref::Person(id) if missing.people.get(id) == Some(&self.rdn(*id)) => format!("person-{id}"),
                            Ref::Group(id) if self.groups.contains_key(id) || missing.groups.contains(id) => {
                                format!("group-{id}")
                            }
                            other => self.member_ref(*other).text,
                        })
                        .collect();
                    (format!("group-{id}"), names)
                })
                .collect(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Copy {
    pub(super) people: BTreeMap<String, (String, Option<String>)>,
    pub(super) groups: BTreeMap<String, BTreeSet<String>>,
}

/// Whom the copy knows though they are gone.
#[derive(Debug, Clone, Default)]
pub(super) struct Missing {
    people: BTreeMap<u8, u8>,
    groups: BTreeSet<u8>,
}

impl Missing {
    /// After a run was applied that took the copy from `before` to `now`.
    fn apply(&mut self, before: &Model, now: &Model) {
        for (id, person) in &before.people {
            self.people.insert(*id, person.rdn);
        }
        self.groups.extend(before.groups.keys());
        self.people.retain(|id, _| !now.people.contains_key(id));
        self.groups.retain(|id| !now.groups.contains_key(id));
    }
}

pub(super) struct Bench {
    _dir: tempfile::TempDir,
    pub(super) kernel: Kernel,
    pub(super) runs: i64,
    pub(super) is_applied: bool,
    pub(super) remove_missing_since: Option<Time>,
}

pub(super) const DIRECTORY: i64 = 1;

fn kernel(dir: &Path) -> Kernel {
    let config = Layer { data_dir: Some(dir.to_owned()), ..Layer::default() }.finish().expect("a configuration");
    Kernel {
        db: Db::open(&Db::file(dir), true).expect("a database"),
        clock: Clock::fixed(Time::parse("2026-03-03T09:00:00Z").expect("a time")),
        key: MasterKey::create(&dir.join("master.key")).expect("a key").into(),
        config: config.into(),
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let kernel = kernel(dir.path());
        kernel
            .db
            .write_blocking(|c| {
                Ok(c.execute_batch(
                    "INSERT INTO account (id, alias, region, state, created_at) VALUES (100000000000, 'a', 'default', 'active', 0);
                     INSERT INTO directory (id, account_id, kind, name, settings, read_credentials, schedule, guard, created_at, updated_at)
                     VALUES (1, 100000000000, 'openldap', 'd', '{}', zeroblob(0), '{}', '{}', 0, 0);",
                )?)
            })
            .expect("a directory");
        Self { _dir: dir, kernel, runs: 0, is_applied: false, remove_missing_since: None }
    }

    fn planner(&mut self) -> Planner {
        self.runs += 1;
        let (run, in_place_at) = (self.runs, (!self.is_applied).then_some(Time(self.runs * 1_000_000)));
        if !self.is_applied {
            self.write_all(|c| write::forget_copy(c, DIRECTORY, &mut 0, 3, false));
        }
        self.kernel.db.bulk_blocking(move |c| write::open_plan(c, run, DIRECTORY)).expect("a plan");
        let aim = Aim { run, directory: DIRECTORY, in_place_at, remove_missing_since: self.remove_missing_since };
        // As in a directory that is too large for the memory: with each page, all that can be looked up is forgotten.
        Planner::new(self.kernel.db.clone(), aim, Arc::new(Progress::default())).remembering(0)
    }

    fn feed(planner: &mut Planner, observed: Vec<Observed>) {
        let mut page = Vec::new();
        for one in observed {
            page.push(one);
            if page.len() == 7 {
                planner.page(Page::of(std::mem::take(&mut page))).expect("a page");
            }
        }
        planner.page(Page::of(page)).expect("the last page");
    }

    pub(super) fn plan(&mut self, observed: Vec<Observed>) -> (i64, Counts) {
        let mut planner = self.planner();
        Self::feed(&mut planner, observed);
        let (counts, _) = planner.finish(Listed::ALL).expect("a plan");
        (self.runs, counts)
    }

    /// A plan of what changed, with the groups read again that the planner asks for. Every other run the server lists
    /// what is there.
    pub(super) fn plan_changes(&mut self, before: &Model, now: &Model) -> (i64, Counts) {
        let mut planner = self.planner();
        let is_listing = self.runs % 2 == 0;
        Self::feed(&mut planner, now.changes_since(before, is_listing));
        assert_eq!(planner.unread.begin(), [""; 0], "the copy holds all that has not changed");
        let asked: Vec<u8> = planner
            .affected_groups()
            .expect("groups")
            .iter()
            .map(|id| id.trim_start_matches("group-").parse().expect("a number"))
            .filter(|id| now.groups.contains_key(id))
            .collect();
        Self::feed(&mut planner, asked.iter().map(|id| Model::group_seen(*id)).collect());
        Self::feed(&mut planner, asked.iter().map(|id| now.group(*id, &now.groups[id])).collect());
        let (counts, _) = planner.finish(Listed { identities: is_listing, groups: is_listing }).expect("a plan");
        (self.runs, counts)
    }

    pub(super) fn write_all(
        &self,
        step: impl Fn(&rusqlite::Connection) -> crate::error::Result<bool> + Clone + Send + 'static,
    ) {
        while self.kernel.db.bulk_blocking(step.clone()).expect("written") {}
    }

    pub(super) fn throw_away(&self, run: i64) {
        self.write_all(move |c| write::forget_plan(c, run, 3, true));
        if !self.is_applied {
            self.write_all(|c| write::forget_copy(c, DIRECTORY, &mut 0, 3, true));
            self.kernel.db.read_blocking(assert_handles).expect("handles");
        }
    }

    pub(super) fn target(&self, run: i64) -> Target {
        Target { run, directory: DIRECTORY, at: Time(run * 1_000_000) }
    }

    /// Applies in pieces of `piece`; stops after `stop` pieces as if the process had been killed there.
    pub(super) fn apply(&mut self, run: i64, piece: i64, stop: Option<usize>, mut applied_to: i64) -> Option<i64> {
        let target = self.target(run);
        let mut pieces = 0;
        let killed = |pieces: &mut usize| {
            *pieces += 1;
            stop.is_some_and(|stop| *pieces > stop)
        };
        // The first plan stands in place already.
        let (mut has_staged, mut has_changes) = (self.is_applied, self.is_applied);
        while has_staged || has_changes {
            if killed(&mut pieces) {
                return Some(applied_to);
            }
            if has_staged {
                let copied = self.kernel.db.bulk_blocking(move |c| write::apply_staged(c, target, piece));
                has_staged = copied.expect("applied") > 0;
                continue;
            }
            let from = applied_to;
            match self.kernel.db.bulk_blocking(move |c| write::apply_changes(c, target, from, piece)).expect("applied")
            {
                Some((last, _)) => applied_to = last,
                None => has_changes = false,
            }
        }
        self.kernel
            .db
            .bulk_blocking(move |c| {
                write::finish_applied(c, target)?;
                // What set_applied does to the directory of a run.
                Ok(c.execute(
                    "UPDATE directory SET applied_run_id = ?1, applied_at = ?2, first_applied_at = coalesce(first_applied_at, ?2)",
                    rusqlite::params![run, target.at],
                )?)
            })
            .expect("finished");
        self.is_applied = true;
        None
    }

    pub(super) fn sync(&mut self, model: &Model) -> Counts {
        let (run, counts) = self.plan(model.observed());
        assert_eq!(self.apply(run, 5, None, 0), None);
        counts
    }

    /// The copy as it is at `at`: present objects, memberships by interval.
    pub(super) fn copy(&self) -> Copy {
        self.kernel
            .db
            .read_blocking(|c| {
                assert_handles(c)?;
                let mut copy = Copy::default();
                let mut people = c.prepare(
                    "SELECT external_id, display_name, json_extract(fields, '$.title') FROM identity
                     WHERE missing_since_at IS NULL AND removed_at IS NULL",
                )?;
                for row in people.query_map([], |r| Ok((r.get(0)?, (r.get(1)?, r.get(2)?))))? {
                    let (id, person) = row?;
                    copy.people.insert(id, person);
                }
                let mut groups = c.prepare(
                    "SELECT id, external_id, member_count FROM directory_group WHERE missing_since_at IS NULL AND removed_at IS NULL",
                )?;
                let groups: Vec<(i64, String, i64)> =
                    groups.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect::<rusqlite::Result<_>>()?;
                for (id, external_id, count) in groups {
                    let mut members = c.prepare(
                        "SELECT coalesce((SELECT external_id FROM identity WHERE id = m.member_id),
                                         (SELECT external_id FROM directory_group WHERE id = m.member_id),
                                         (SELECT text FROM reference WHERE id = m.member_id))
                         FROM member m WHERE group_id = ?1 AND until_at = 9223372036854775807",
                    )?;
                    let members: Vec<String> = members.query_map([id], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?;
                    assert_eq!(members.len(), usize::try_from(count).expect("a count"), "member_count of {external_id}");
                    copy.groups.insert(external_id, members.into_iter().collect());
                }
                Ok(copy)
            })
            .expect("the copy")
    }

    fn count(&self, sql: &'static str) -> i64 {
        self.kernel.db.read_blocking(|c| Ok(c.query_row(sql, [], |r| r.get(0))?)).expect("a count")
    }
}

/// Every object has the handles of its id and its names, marked gone as it is, and there are no others.
fn assert_handles(connection: &Connection) -> Result<()> {
    let mut expected = BTreeSet::new();
    let mut objects = connection.prepare("SELECT id, directory_id, kind, external_id, gone FROM object")?;
    let mut rows = objects.query([])?;
    while let Some(row) = rows.next()? {
        let (id, directory, external_id, gone): (i64, i64, String, i64) =
            (row.get(0)?, row.get(1)?, row.get(3)?, row.get(4)?);
        let subject = if row.get::<_, i64>(2)? == 1 { SubjectType::Identity } else { SubjectType::Group };
        let keys = lookup::keys(connection, subject, id)?;
        for key in [Some(handles::of_id(directory, subject, &external_id)), keys.dn, keys.name].into_iter().flatten() {
            let (head, rest) = key.halves();
            expected.insert((head, rest, id, directory, gone));
        }
    }
    let mut stored = connection.prepare("SELECT head, rest, object_id, directory_id, gone FROM handle")?;
    let stored = stored.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?)))?;
    assert_eq!(stored.collect::<rusqlite::Result<BTreeSet<_>>>()?, expected, "handles");
    Ok(())
}

fn small() -> Model {
    let person = |name| Person { name, title: None, rdn: 0 };
    Model {
        people: (0..20).map(|id| (id, person(id))).collect(),
        groups: BTreeMap::from([
            (1, (0..10).map(Ref::Person).chain([Ref::Group(2), Ref::Nowhere(1)]).collect()),
            (2, BTreeSet::from([Ref::Person(11), Ref::Group(1)])),
            (3, BTreeSet::new()),
        ]),
        gone: BTreeMap::new(),
    }
}

#[test]
fn the_first_run_adds_everything_and_the_second_writes_nothing() {
    let (mut bench, model) = (Bench::new(), small());
    let counts = bench.sync(&model);
    assert_eq!((counts.read, counts.added, counts.members_added), (23, 23, 14));
    assert_eq!(bench.copy(), model.expected(&Missing::default()));
    let rows = "SELECT (SELECT count(*) FROM change) + (SELECT count(*) FROM staged)";
    let before = bench.count(rows);
    let counts = bench.sync(&model);
    assert_eq!((counts.unchanged, counts.differences()), (23, 0));
    assert_eq!(bench.count(rows), before);
    assert_eq!(
        bench.count("SELECT count(*) FROM identity WHERE changed_at > 1000000"),
        0,
        "no identity row was written"
    );
}

#[test]
fn numbers_are_not_wasted_by_runs_that_find_little_new() {
    let (mut bench, mut model) = (Bench::new(), small());
    bench.sync(&model);
    let next = "SELECT next FROM object_number";
    let before = bench.count(next);
    for id in 100..110 {
        model.people.insert(id, Person { name: id, title: None, rdn: 0 });
        bench.sync(&model);
        bench.sync(&model);
    }
    assert!(bench.count(next) - before <= 10 * 16, "{} numbers for 10 people", bench.count(next) - before);
}

#[test]
fn a_rename_keeps_the_identity_and_its_memberships() {
    let (mut bench, mut model) = (Bench::new(), small());
    bench.sync(&model);
    let ids = "SELECT group_concat(id) FROM identity WHERE external_id = 'person-3'";
    let before = bench.kernel.db.read_blocking(|c| Ok(c.query_row(ids, [], |r| r.get::<_, String>(0))?)).expect("ids");
    model.people.get_mut(&3).expect("person 3").rdn = 9;
    let counts = bench.sync(&model);
    assert_eq!((counts.changed, counts.added, counts.missing, counts.members_added), (1, 0, 0, 0));
    let after = bench.kernel.db.read_blocking(|c| Ok(c.query_row(ids, [], |r| r.get::<_, String>(0))?)).expect("ids");
    assert_eq!(before, after);
    assert_eq!(bench.copy(), model.expected(&Missing::default()));
}

#[test]
fn two_entries_with_one_id_are_quarantined_and_neither_is_missing() {
    let (mut bench, model) = (Bench::new(), small());
    bench.sync(&model);
    let mut observed = model.observed();
    let double = observed[0].clone();
    observed.insert(1, double);
    observed.insert(
        2,
        Observed::Unreadable(Unreadable { external_id: Some("person-5".into()), name: "x".into(), reason: "y".into() }),
    );
    observed.retain(|one| !matches!(one, Observed::Identity(identity) if identity.external_id == "person-5"));
    let (_, counts) = bench.plan(observed);
    assert_eq!((counts.quarantined, counts.missing), (2, 0));
}

#[test]
fn two_new_entries_with_one_id_do_not_stop_the_first_run() {
    let (mut bench, model) = (Bench::new(), small());
    let mut observed = model.observed();
    let double = observed[0].clone();
    observed.insert(5, double);
    let (run, counts) = bench.plan(observed);
    assert_eq!((counts.quarantined, counts.added), (1, 23));
    assert_eq!(bench.apply(run, 5, None, 0), None);
    assert_eq!(bench.copy(), model.expected(&Missing::default()));
}

#[test]
fn an_entry_whose_id_cannot_be_read_is_neither_missing_nor_out_of_its_groups() {
    let (mut bench, model) = (Bench::new(), small());
    bench.sync(&model);
    let mut observed = model.observed();
    observed.retain(|one| !matches!(one, Observed::Identity(identity) if identity.external_id == "person-5"));
    observed.insert(
        0,
        Observed::Unreadable(Unreadable { external_id: None, name: person_dn(5, 0), reason: "no entryUUID".into() }),
    );
    let (_, counts) = bench.plan(observed);
    assert_eq!((counts.quarantined, counts.differences()), (1, 0));
}

#[test]
fn a_plan_that_is_not_applied_changes_nothing_and_can_be_forgotten() {
    let (mut bench, mut model) = (Bench::new(), small());
    bench.sync(&model);
    let before = bench.copy();
    model.people.remove(&1);
    model.groups.remove(&2);
    let (run, counts) = bench.plan(model.observed());
    assert_eq!(counts.missing, 2);
    assert_eq!(bench.copy(), before);
    bench.throw_away(run);
    assert_eq!(bench.count("SELECT count(*) FROM staged"), 0);
    assert_eq!(bench.count("SELECT count(*) FROM change WHERE run_id = 2"), 0);
}

#[derive(Debug, Clone)]
pub(super) enum Edit {
    Put(u8, u8, Option<u8>),
    Rename(u8, u8),
    Delete(u8),
    PutGroup(u8),
    DeleteGroup(u8),
    AddMember(u8, Ref),
    RemoveMember(u8, Ref),
}

fn reference() -> impl Strategy<Value = Ref> {
    prop_oneof![(0..12_u8).prop_map(Ref::Person), (0..5_u8).prop_map(Ref::Group), (0..3_u8).prop_map(Ref::Nowhere)]
}

pub(super) fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (0..12_u8, 0..4_u8, proptest::option::of(0..3_u8)).prop_map(|(id, name, title)| Edit::Put(id, name, title)),
        (0..12_u8, 0..4_u8).prop_map(|(id, rdn)| Edit::Rename(id, rdn)),
        (0..12_u8).prop_map(Edit::Delete),
        (0..5_u8).prop_map(Edit::PutGroup),
        (0..5_u8).prop_map(Edit::DeleteGroup),
        (0..5_u8, reference()).prop_map(|(group, member)| Edit::AddMember(group, member)),
        (0..5_u8, reference()).prop_map(|(group, member)| Edit::RemoveMember(group, member)),
    ]
}

impl Model {
    pub(super) fn edit(&mut self, edit: &Edit) {
        match *edit {
            Edit::Put(id, name, title) => {
                let rdn = self.rdn(id);
                self.people.insert(id, Person { name, title, rdn });
                self.gone.remove(&id);
            }
            Edit::Rename(id, rdn) => {
                if let Some(person) = self.people.get_mut(&id) {
                    person.rdn = rdn;
                }
            }
            Edit::Delete(id) => {
                if let Some(person) = self.people.remove(&id) {
                    self.gone.insert(id, person.rdn);
                }
            }
            Edit::PutGroup(id) => {
                self.groups.entry(id).or_default();
            }
            Edit::DeleteGroup(id) => {
                self.groups.remove(&id);
            }
            Edit::AddMember(group, member) => {
                self.groups.entry(group).and_modify(|members| {
                    members.insert(member);
                });
            }
            Edit::RemoveMember(group, member) => {
                self.groups.entry(group).and_modify(|members| {
                    members.remove(&member);
                });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Random edits, full runs and deltas, plans that are thrown away, and applies killed at a random piece: after every
    /// applied run the copy equals the directory, and every membership that ever was can be read at its time.
    #[test]
    fn the_copy_equals_the_directory_after_any_history(
        rounds in proptest::collection::vec(
            (proptest::collection::vec(edit(), 0..12), 1..9_i64, 0..12_usize, proptest::bool::weighted(0.2), any::<bool>()), 1..9)
    ) {
        let (mut bench, mut model) = (Bench::new(), Model::default());
        let (mut applied, mut missing) = (Model::default(), Missing::default());
        let mut past: Vec<(i64, BTreeMap<String, BTreeSet<String>>)> = Vec::new();
        for (edits, piece, stop, is_thrown_away, is_delta) in rounds {
            for edit in &edits {
                model.edit(edit);
            }
            let is_delta = is_delta && bench.is_applied;
            let (run, counts) = if is_delta { bench.plan_changes(&applied, &model) } else { bench.plan(model.observed()) };
            prop_assert_eq!(counts.read, counts.added + counts.changed + counts.returned + counts.unchanged + counts.quarantined);
            if is_thrown_away {
                bench.throw_away(run);
                continue;
            }
            // Killed after `stop` pieces; what a piece wrote is committed, the watermark with it.
            if let Some(applied_to) = bench.apply(run, piece, Some(stop), 0) {
                prop_assert_eq!(bench.apply(run, piece + 1, None, applied_to), None);
            }
            missing.apply(&applied, &model);
            applied = model.clone();
            prop_assert_eq!(&bench.copy(), &model.expected(&missing), "after a {} run", if is_delta { "delta" } else { "full" });
            past.push((run, bench.copy().groups));
            let again = bench.plan(model.observed()).1;
            prop_assert_eq!(again.differences(), 0);
        }
        for (run, groups) in past {
            let at = bench.target(run).at;
            let then: BTreeMap<String, BTreeSet<String>> = bench.kernel.db.read_blocking(|c| {
                let mut statement = c.prepare(
                    "SELECT g.external_id, coalesce(i.external_id, h.external_id, r.text) FROM member m
                     JOIN directory_group g ON g.id = m.group_id
                     LEFT JOIN identity i ON i.id = m.member_id LEFT JOIN directory_group h ON h.id = m.member_id
                     LEFT JOIN reference r ON r.id = m.member_id
                     WHERE m.since_at <= ?1 AND m.until_at > ?1")?;
                let mut then: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
                for row in statement.query_map([at], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?)))? {
                    let (group, member) = row?;
                    then.entry(group).or_default().insert(member);
                }
                Ok(then)
            }).expect("then");
            for (group, members) in groups {
                prop_assert_eq!(then.get(&group).cloned().unwrap_or_default(), members, "{} at run {}", group, run);
            }
        }
    }
}
