//! Search, lists, members and history, on a database that was filled the way a run fills it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    history, lookup,
    model::{Accounts, FOREVER},
    queries::{self, Filter},
    staged::{Named, Staged},
    write::{self, Merging, NewChange, Target},
    *,
};
use crate::{
    clock::{Clock, MINUTE, Time},
    config::Layer,
    connectors::{AccountType, GroupFields, IdentityFields, Key, Keys, Source, Status, Value},
    db::Db,
    error::Result,
    kernel::Kernel,
    principal::{AccountId, Principal},
    secret::MasterKey,
    web::{Address, Ctx},
};

pub(super) const OURS: i64 = AccountId::MIN;
pub(super) const THEIRS: i64 = AccountId::MIN + 1;

pub(super) fn account(id: i64) -> AccountId {
    AccountId::new(id).expect("an account")
}

/// Two accounts: ours with directories 1 and 2, theirs with directory 3.
pub(super) struct Place {
    _dir: tempfile::TempDir,
    kernel: Kernel,
    runs: i64,
}

/// Writes from a thread that may block, inside a runtime too.
fn write_to<T: Send + 'static>(
    kernel: &Kernel,
    f: impl FnOnce(&rusqlite::Connection) -> Result<T> + Send + 'static,
) -> T {
    std::thread::scope(|scope| scope.spawn(|| kernel.db.write_blocking(f)).join().expect("a thread").expect("written"))
}

pub(super) fn start() -> Time {
    Time::parse("2026-03-03T09:00:00Z").expect("a time")
}

pub(super) fn place() -> Place {
    let dir = tempfile::tempdir().expect("a folder");
    let config = Layer { data_dir: Some(dir.path().to_owned()), ..Layer::default() }.finish().expect("a configuration");
    let kernel = Kernel {
        db: Db::open(&Db::file(dir.path()), true).expect("a database"),
        clock: Clock::fixed(start()),
        key: MasterKey::create(&dir.path().join("master.key")).expect("a key").into(),
        config: config.into(),
    };
    write_to(&kernel, |c| {
        for (id, alias) in [(OURS, "ours"), (THEIRS, "theirs")] {
            c.execute(
                "INSERT INTO account (id, alias, region, state, created_at) VALUES (?1, ?2, 'default', 'active', 0)",
                rusqlite::params![id, alias],
            )?;
        }
        for (id, owner, name) in [(1, OURS, "Staff"), (2, OURS, "Yard"), (3, THEIRS, "Elsewhere")] {
            c.execute(
                    "INSERT INTO directory (id, account_id, kind, name, settings, read_credentials, schedule, guard, created_at, updated_at, applied_run_id)
                     VALUES (?1, ?2, 'openldap', ?3, '{}', zeroblob(0), '{}', '{}', 0, 0, 1)",
                    rusqlite::params![id, owner, name],
                )?;
        }
        Ok(())
    });
    Place { _dir: dir, kernel, runs: 0 }
}

/// What one run brings.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) staged: Vec<Staged>,
    pub(super) changes: Vec<NewChange>,
}

pub(super) fn named(id: ObjectId, is_new: bool, keys: Keys) -> Named {
    Named { object_id: id, is_new, external_id: format!("uuid-{id}"), source: Source([1; 16]), keys }
}

impl Plan {
    pub(super) fn identity(&mut self, id: ObjectId, fields: IdentityFields) {
        self.put_identity(id, fields, true);
        self.changes.push(NewChange::of(SubjectType::Identity, id, ChangeKind::Added));
    }

    /// An identity that the copy has already when it is not new.
    pub(super) fn put_identity(&mut self, id: ObjectId, fields: IdentityFields, is_new: bool) {
        let keys = Keys { dn: Some(Key::of_dn(&format!("uid={}", fields.user_name))), name: None };
        let json = serde_json::to_string(&fields).expect("content");
        self.staged.push(Staged::identity(named(id, is_new, keys), fields, json));
    }

    pub(super) fn group(&mut self, id: ObjectId, name: &str, members: &[ObjectId]) {
        let fields = GroupFields { name: name.into(), kind: Some("groupOfNames".into()), ..GroupFields::default() };
        self.group_of(id, fields, members);
    }

    pub(super) fn group_of(&mut self, id: ObjectId, fields: GroupFields, members: &[ObjectId]) {
        let keys = Keys { dn: Some(Key::of_dn(&format!("cn={}", fields.name))), name: None };
        let json = serde_json::to_string(&fields).expect("content");
        let count = i64::try_from(members.len()).expect("a count");
        self.staged.push(Staged::group(named(id, true, keys), fields, json, count));
        self.changes.push(NewChange::of(SubjectType::Group, id, ChangeKind::Added));
        for member in members {
            self.member(id, *member, true);
        }
    }

    /// A group that the copy has already, with one member.
    pub(super) fn put_group(&mut self, id: ObjectId, fields: GroupFields) {
        let keys = Keys { dn: Some(Key::of_dn(&format!("cn={}", fields.name))), name: None };
        let json = serde_json::to_string(&fields).expect("content");
        self.staged.push(Staged::group(named(id, false, keys), fields, json, 1));
    }

    pub(super) fn member(&mut self, group: ObjectId, member: ObjectId, joins: bool) {
        let kind = if joins { ChangeKind::MemberAdded } else { ChangeKind::MemberRemoved };
        self.changes.push(NewChange::member(group, kind, member));
    }
}

impl Place {
    fn store(&mut self, directory: i64, plan: Plan) -> i64 {
        self.runs += 1;
        let run = self.runs;
        write_to(&self.kernel, move |c| {
            write::open_plan(c, run, directory)?;
            write::store_part(c, run, &plan.staged, &plan.changes)
        });
        run
    }

    /// Applies a stored run in small steps, each of them `times` times over when its transaction is repeated.
    fn apply_stored(&self, run: i64, directory: i64, at: Time) {
        let target = Target { run, directory, at };
        write_to(&self.kernel, move |c| {
            while write::apply_staged(c, target, 700)? > 0 {}
            let mut after = 0;
            while let Some((last, _)) = write::apply_changes(c, target, after, 5)? {
                // A process that died before it noted how far it was does the step again.
                write::apply_changes(c, target, after, 5)?;
                after = last;
            }
            write::finish_applied(c, target)
        });
    }

    pub(super) fn apply(&mut self, directory: i64, plan: Plan) -> i64 {
        let run = self.store(directory, plan);
        self.apply_stored(run, directory, start().plus(run * MINUTE));
        run
    }

    pub(super) fn read<T>(&self, f: impl FnOnce(&rusqlite::Connection) -> Result<T>) -> T {
        self.kernel.db.read_blocking(f).expect("read")
    }

    /// As if the directories had been seen since long ago.
    pub(super) fn see_from_the_start(&self) {
        write_to(&self.kernel, |c| Ok(c.execute("UPDATE directory SET first_applied_at = 0", [])?));
    }

    /// As if a directory were of another kind.
    pub(super) fn set_kind(&self, directory: i64, kind: &'static str) {
        write_to(&self.kernel, move |c| {
            Ok(c.execute("UPDATE directory SET kind = ?2 WHERE id = ?1", rusqlite::params![directory, kind])?)
        });
    }

    /// The moment of the run that was the `number`th.
    pub(super) fn minute(&self, number: i64) -> String {
        start().plus(number * MINUTE).rfc3339()
    }

    pub(super) fn set_clock(&self, minutes: i64) {
        self.kernel.clock.set(start().plus(minutes * MINUTE));
    }

    pub(super) fn list(&self, filter: &Filter) -> Vec<ObjectId> {
        let rows = self.read(|c| queries::list_identities(c, &Sight::whole(account(OURS)), filter, None, 100_000));
        rows.into_iter().map(|row| row.id).collect()
    }

    /// What a sight lists, in order of number.
    pub(super) fn list_as(&self, sight: &Sight, filter: &Filter) -> Vec<ObjectId> {
        let rows = self.read(|c| queries::list_identities(c, sight, filter, None, 100_000));
        let mut ids: Vec<ObjectId> = rows.into_iter().map(|row| row.id).collect();
        ids.sort_unstable();
        ids
    }

    /// What no room writes by itself.
    pub(super) fn write(&self, sql: &'static str) {
        write_to(&self.kernel, move |c| Ok(c.execute_batch(sql)?));
    }

    pub(super) fn count(&self, sql: &str) -> i64 {
        self.read(|c| Ok(c.query_row(sql, [], |row| row.get(0))?))
    }

    /// Deletes the history before a time.
    pub(super) fn forget(&self, edge: Time) {
        write_to(&self.kernel, move |c| {
            c.execute(
                "INSERT INTO history_edge (account_id, from_at) VALUES (?1, ?2)",
                rusqlite::params![account(OURS), edge],
            )?;
            while retention::forget_before(c, account(OURS), edge, 100)? {}
            Ok(())
        });
    }

    /// Forgets parts that are not used.
    pub(super) fn purge(&self, now: Time) {
        write_to(&self.kernel, move |c| parts::purge(c, now));
    }

    fn found(&self, q: &str) -> Vec<ObjectId> {
        self.list(&Filter { q: q.into(), ..Filter::default() })
    }

    pub(super) fn ctx(&self, account_id: i64) -> Ctx {
        Ctx {
            kernel: self.kernel.clone(),
            principal: Principal::command_line("default", Some(account(account_id)), "root"),
            address: Address {
                ip: [127, 0, 0, 1].into(),
                request_id: "r".into(),
                user_agent: String::new(),
                is_polling: false,
            },
            csrf: "token".into(),
            session_token: None,
            is_fragment: false,
            is_secure: true,
            path: "/".into(),
            flash: None,
            surroundings: Default::default(),
        }
    }
}

pub(super) fn person(user_name: &str, display_name: &str) -> IdentityFields {
    IdentityFields {
        user_name: user_name.into(),
        display_name: Some(display_name.into()),
        mail: Some(format!("{user_name}@halden.example")),
        mails: vec![format!("{user_name}@halden.example")],
        attributes: BTreeMap::from([("dn".into(), vec![Value::Text(format!("uid={user_name},dc=halden"))])]),
        ..IdentityFields::default()
    }
}

const STATUSES: [Status; 5] = [Status::Active, Status::Disabled, Status::Active, Status::Locked, Status::Active];

pub(super) fn crowd(plan: &mut Plan, ids: std::ops::Range<ObjectId>) {
    for id in ids {
        let names = ["Anna", "Bjørn", "Chloé", "Dmitri", "Élodie", "Fatou", "Gro"];
        let name = names[usize::try_from(id).expect("a number") % names.len()];
        let status = STATUSES[usize::try_from(id).expect("a number") % STATUSES.len()];
        plan.identity(id, IdentityFields { status, ..person(&format!("u{id}"), &format!("{name} Crowd{}", id % 100)) });
    }
}

#[test]
fn people_are_found_by_any_part_of_what_they_are_known_by() {
    let mut place = place();
    let mut plan = Plan::default();
    let people = [
        (1, "muellerk", "Käthe Müller"),
        (2, "wli", "Wei Li"),
        (3, "haoki", "青木 遥"),
        (4, "ytakahashi", "高山田太郎"),
        (5, "fox", "Renard 🦊 Roux"),
        (6, "lorlov", "Лев Орлов"),
        (7, "quote", "Conan \"The\" O'Brien"),
        (8, "stars", "Anna* OR NEAR(x) -b ^c {text} : col"),
        (9, "percent", "100% under_score \\back"),
        (10, "kim", "김민수"),
        (11, "noura", "نورة القحطاني"),
        (12, "x", ""),
    ];
    for (id, user_name, name) in people {
        plan.identity(id, person(user_name, name));
    }
    plan.identity(13, IdentityFields { employee_id: Some("E-20107".into()), ..person("emp", "Someone Else") });
    plan.identity(
        14,
        IdentityFields {
            given_name: Some("Marguerite".into()),
            family_name: Some("Duval".into()),
            mails: vec!["first@halden.example".into(), "second.address@yard.example".into()],
            ..person("mduval", "M. D.")
        },
    );
    place.apply(1, plan);
    for (q, expected) in [
        ("müller", &[1][..]),
        ("MULLER", &[1]),
        ("kathe", &[1]),
        ("ülle", &[1]),
        ("llerk", &[1]),
        ("müller käthe", &[1]),
        ("käthe  müll", &[1]),
        ("müller wei", &[]),
        // Two letters and one: where a word begins.
        ("li", &[2]),
        ("LI", &[2]),
        ("li wei", &[2]),
        ("wei l", &[2]),
        ("w", &[2]),
        ("wl", &[2]),
        // Characters that are words by themselves are found anywhere.
        ("青", &[3]),
        ("木", &[3]),
        ("青木", &[3]),
        ("遥", &[3]),
        ("山田", &[4]),
        ("田太", &[4]),
        ("太郎", &[4]),
        ("山田太", &[4]),
        ("郎", &[4]),
        ("山田 ytaka", &[4]),
        ("田山", &[]),
        ("🦊", &[5]),
        ("🦊 ren", &[5]),
        ("орл", &[6]),
        ("ОРЛОВ лев", &[6]),
        ("ле", &[6]),
        ("김", &[10]),
        ("민수", &[10]),
        ("نورة", &[11]),
        ("القح", &[11]),
        // Nothing typed is an operator.
        ("\"the\"", &[7]),
        ("\"", &[7]),
        ("o'brien", &[7]),
        ("anna*", &[8]),
        ("near(x)", &[8]),
        ("OR near(", &[8]),
        ("renard OR haoki", &[]),
        ("NOT fox", &[]),
        ("-b", &[8]),
        ("{text}", &[8]),
        ("text : col", &[8]),
        ("ann*z", &[]),
        ("100%", &[9]),
        ("r_s", &[9]),
        ("\\back", &[9]),
        ("x", &[12]),
        ("20107", &[13]),
        ("e-201", &[13]),
        ("second.addr", &[14]),
        ("@yard.ex", &[14]),
        ("marguerite", &[14]),
        ("duval m", &[14]),
    ] {
        assert_eq!(place.found(q), expected, "{q}");
    }
    assert_eq!(place.found("  ").len(), 14);
    assert_eq!(place.found("halden.example").len(), 14);
}

#[test]
fn a_changed_name_is_found_and_the_old_one_is_not() {
    let mut place = place();
    let mut plan = Plan::default();
    plan.identity(1, person("kmueller", "Käthe Müller"));
    place.apply(1, plan);
    let mut plan = Plan::default();
    plan.put_identity(1, person("kmueller", "Käthe 山田"), false);
    place.apply(1, plan);
    assert_eq!((place.found("müller").len(), place.found("山田"), place.found("mueller")), (0, vec![1], vec![1]));
}

#[test]
fn what_a_plan_adds_and_removes_is_what_the_counts_differ_by() {
    let mut place = place();
    let mut plan = Plan::default();
    crowd(&mut plan, 1..6);
    place.apply(1, plan);
    let counts = |place: &Place| place.read(|c| lookup::counts(c, 1));
    let before = counts(&place);
    let mut plan = Plan::default();
    crowd(&mut plan, 6..9);
    plan.put_identity(1, person("one", "Another Name"), false);
    plan.group(20, "Group", &[1, 2, 3, 6]);
    plan.changes.push(NewChange::of(SubjectType::Identity, 2, ChangeKind::Removed));
    plan.changes.push(NewChange::of(SubjectType::Identity, 3, ChangeKind::Missing));
    let run = place.apply(1, plan);
    let (identities, groups) = place.read(|c| super::plans::balance(c, run));
    assert_eq!((identities, groups), (2, 1));
    assert_eq!(counts(&place), (before.0 + identities, before.1 + groups));
}

#[test]
fn a_search_index_written_in_many_parts_is_merged_and_finds_the_same() {
    let mut place = place();
    let add = |place: &mut Place, id| {
        let mut plan = Plan::default();
        plan.identity(id, person(&format!("person{id}"), "Käthe Müller"));
        place.apply(1, plan);
    };
    let parts = |place: &Place| -> i64 {
        place.read(|c| Ok(c.query_row("SELECT count(DISTINCT segid) FROM identity_text_idx", [], |row| row.get(0))?))
    };
    let merge = |place: &Place, which, people: usize| {
        let mut steps = 0;
        while write_to(&place.kernel, move |c| write::merge_search_texts(c, 1, which)) {
            steps += 1;
            assert_eq!(place.found("müller").len(), people);
        }
        steps
    };
    (1..=40).for_each(|id| add(&mut place, id));
    assert_eq!(parts(&place), 40, "nothing is merged while a run writes");
    assert_eq!(place.read(write::merging_due), Merging::All);
    assert!(merge(&place, Merging::Alike, 40) > 0);
    assert_eq!((parts(&place), place.read(write::merging_due)), (1, Merging::Alike));
    // A few small ones beside a large one are left, unless all are to be one.
    (41..=44).for_each(|id| add(&mut place, id));
    assert_eq!(merge(&place, Merging::Alike, 44), 0);
    assert_eq!(parts(&place), 5);
    assert!(merge(&place, Merging::All, 44) > 0);
    assert_eq!(parts(&place), 1);
    assert_eq!(place.found("person44"), [44]);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]
    #[test]
    fn every_word_is_found_by_its_beginning_and_by_any_three_characters(
        text in "[a-zA-Zäß\"*' 山田太郎🦊김ا]{1,14}",
        from in 0_usize..14,
        length in 1_usize..6,
    ) {
        let folded = fold(&text);
        let Some(word) = folded.split_whitespace().nth(from % 3).or_else(|| folded.split_whitespace().next()) else {
            return Ok(());
        };
        let characters: Vec<char> = word.chars().collect();
        let first = from % characters.len();
        let part: String = characters.iter().skip(first).take(length).collect();
        let is_short = part.chars().count() < 3;
        let begins_alone = characters[first] > '\u{7f}' && !characters[first].is_lowercase();
        if is_short && first > 0 && !begins_alone {
            return Ok(());
        }
        let connection = rusqlite::Connection::open_in_memory().expect("a database");
        connection.execute_batch("CREATE VIRTUAL TABLE t USING fts5 (text, content='', contentless_delete=1, tokenize='trigram')")
            .expect("a table");
        connection.execute("INSERT INTO t (rowid, text) VALUES (1, ?1)", [fold::index_text([text.as_str()])]).expect("a row");
        let expression = fold::match_expression(&part, fold::Facets::default()).expect("an expression");
        let found: i64 = connection.query_row("SELECT count(*) FROM t WHERE text MATCH ?1", [expression], |row| row.get(0))
            .expect("an answer");
        proptest::prop_assert_eq!(found, 1, "{:?} in {:?}", part, text);
        proptest::prop_assert!(fold::has_words(&fold::index_text([text.as_str()]), &part), "{:?} in {:?}", part, text);
    }
}

/// Filters of every kind, alone and together.
fn filters() -> Vec<Filter> {
    let mut filters = Vec::new();
    for q in ["", "crowd", "cr", "crowd1 anna", "u1"] {
        for directory in [None, Some(1)] {
            for status in [None, Some("active"), Some("locked"), Some("missing")] {
                for group in [None, Some(90_001)] {
                    let filter =
                        Filter { q: q.into(), directory, status: status.map(Into::into), group, ..Filter::default() };
                    for accounts in [Accounts::Of(AccountType::User), Accounts::Of(AccountType::Computer)] {
                        filters.push(Filter { accounts, ..filter.clone() });
                    }
                    filters.push(filter);
                }
            }
        }
    }
    filters
}

#[test]
fn paging_shows_every_row_once_while_rows_are_inserted() {
    let mut place = place();
    let mut plan = Plan::default();
    crowd(&mut plan, 1..1_200);
    let members: Vec<ObjectId> = (1..1_200).filter(|id| id % 3 == 0).collect();
    plan.group(90_001, "thirds", &members);
    place.apply(1, plan);
    let mut plan = Plan::default();
    crowd(&mut plan, 2_000..2_400);
    place.apply(2, plan);
    let mut plan = Plan::default();
    plan.changes.extend((1..100).map(|id| NewChange::of(SubjectType::Identity, id, ChangeKind::Missing)));
    place.apply(1, plan);
    let mut next_id = 3_000;
    for filter in filters() {
        let expected: BTreeSet<ObjectId> = place.list(&filter).into_iter().collect();
        let mut seen: HashMap<ObjectId, usize> = HashMap::new();
        let (mut after, mut pages) = (None, 0);
        loop {
            let rows =
                place.read(|c| queries::list_identities(c, &Sight::whole(account(OURS)), &filter, after.clone(), 37));
            let Some(last) = rows.last() else { break };
            after = Some(queries::position(&filter, &last.sort_key, last.id));
            for row in rows {
                *seen.entry(row.id).or_default() += 1;
            }
            pages += 1;
            if pages % 3 == 1 {
                let mut plan = Plan::default();
                crowd(&mut plan, next_id..next_id + 3);
                next_id += 3;
                place.apply(1, plan);
            }
        }
        assert!(seen.values().all(|times| *times == 1), "{filter:?}: a row came twice");
        let missed: Vec<_> = expected.iter().filter(|id| !seen.contains_key(*id)).collect();
        assert!(missed.is_empty(), "{filter:?}: {missed:?} never came");
    }
}

#[test]
fn filters_narrow_to_what_they_say() {
    let mut place = place();
    let mut plan = Plan::default();
    crowd(&mut plan, 1..501);
    plan.group(90_001, "some", &[3, 4, 8]);
    place.apply(1, plan);
    let mut plan = Plan::default();
    crowd(&mut plan, 1_000..1_100);
    place.apply(2, plan);
    let mut plan = Plan::default();
    plan.changes.push(NewChange::of(SubjectType::Identity, 8, ChangeKind::Missing));
    place.apply(1, plan);
    let ids = |directory, status: Option<&str>, group, q: &str| {
        let status = status.map(Into::into);
        let mut ids = place.list(&Filter { q: q.into(), directory, status, group, ..Filter::default() });
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(None, None, None, "").len(), 600);
    assert_eq!(ids(Some(1), None, None, "").len(), 500);
    assert_eq!(ids(Some(2), Some("locked"), None, "").len(), 20);
    assert_eq!(ids(None, Some("locked"), None, "").len(), 120);
    assert_eq!(ids(None, Some("active"), None, "").len(), 360);
    assert_eq!(ids(None, Some("missing"), None, ""), [8]);
    assert_eq!(ids(Some(2), Some("missing"), None, ""), [0_i64; 0]);
    assert_eq!(ids(None, None, Some(90_001), ""), [3, 4, 8]);
    assert_eq!(ids(None, Some("locked"), Some(90_001), ""), [3, 8]);
    assert_eq!(ids(Some(1), None, Some(90_001), "u4"), [4]);
    assert_eq!(ids(None, Some("expired"), None, "crowd"), [0_i64; 0]);
    let missing = place.read(|c| count_state(c, 1, "missing", 10));
    assert_eq!((missing, place.read(|c| count_state(c, 1, "locked", 10))), (1, 10));
}

#[test]
fn another_account_sees_nothing() {
    let mut place = place();
    let mut plan = Plan::default();
    crowd(&mut plan, 1..50);
    plan.group(90_001, "crowd-group", &[1, 2]);
    place.apply(1, plan);
    let theirs = account(THEIRS);
    for filter in filters() {
        let rows = place.read(|c| queries::list_identities(c, &Sight::whole(theirs), &filter, None, 10));
        assert!(rows.is_empty(), "{filter:?}");
        assert!(
            place.read(|c| queries::list_groups(c, &Sight::whole(theirs), &filter, None, 10)).is_empty(),
            "{filter:?}"
        );
    }
    assert!(place.read(|c| queries::find_identity(c, &Sight::whole(theirs), 1)).is_none());
    assert!(place.read(|c| queries::find_group(c, &Sight::whole(theirs), 90_001)).is_none());
    assert!(place.read(|c| queries::find_identity(c, &Sight::whole(account(OURS)), 1)).is_some());
}

#[test]
fn a_removed_directory_takes_its_objects_out_of_every_list_at_once() {
    let mut place = place();
    let mut plan = Plan::default();
    crowd(&mut plan, 1..20);
    place.apply(1, plan);
    write_to(&place.kernel, |c| Ok(c.execute("UPDATE directory SET removed_at = 1 WHERE id = 1", [])?));
    assert_eq!((place.found("").len(), place.found("crowd").len()), (0, 0));
    assert!(place.read(|c| queries::find_identity(c, &Sight::whole(account(OURS)), 1)).is_none());
}

/// Everything under a group by definition.
fn closure(edges: &[(ObjectId, Vec<ObjectId>)], group: ObjectId) -> BTreeSet<ObjectId> {
    let mut reached = BTreeSet::from([group]);
    loop {
        let more: BTreeSet<ObjectId> =
            edges.iter().filter(|(from, _)| reached.contains(from)).flat_map(|(_, to)| to.iter().copied()).collect();
        let before = reached.len();
        reached.extend(more);
        if reached.len() == before {
            reached.remove(&group);
            return reached;
        }
    }
}

#[test]
fn effective_members_reach_through_every_depth_and_end_in_cycles() {
    let mut place = place();
    let mut plan = Plan::default();
    crowd(&mut plan, 1..400);
    let edges: Vec<(ObjectId, Vec<ObjectId>)> = vec![
        (501, (1..50).chain([502, 503, 501]).collect()),
        (502, (40..200).chain([504]).collect()),
        (503, vec![503]),
        (504, (300..350).chain([501]).collect()),
        (505, vec![]),
        (506, vec![501, 399]),
    ];
    for (id, members) in &edges {
        plan.group(*id, &format!("g{id}"), members);
    }
    place.apply(1, plan);
    for (group, _) in &edges {
        for limit in [1, 7, 50, 1_000] {
            let (mut seen, mut after) = (Vec::new(), 0);
            loop {
                let rows = place.read(|c| queries::effective_members(c, *group, after, limit));
                let Some(last) = rows.last() else { break };
                after = last.number;
                assert!(rows.len() <= limit);
                seen.extend(rows.iter().map(|row| row.number));
            }
            assert_eq!(seen, closure(&edges, *group).into_iter().collect::<Vec<_>>(), "group {group} by {limit}");
        }
    }
    // Upwards: an identity's groups, with the way there.
    let (groups, has_more) = place.read(|c| queries::belongings(c, 320, 100));
    let ways: Vec<(ObjectId, Vec<ObjectId>)> =
        groups.iter().map(|group| (group.id, group.through.iter().map(|(id, _)| *id).collect())).collect();
    assert_eq!(
        (ways, has_more),
        (vec![(504, vec![]), (501, vec![504, 502]), (502, vec![504]), (506, vec![504, 502, 501])], false)
    );
    let numbers: Vec<ObjectId> =
        place.read(|c| queries::groups_of(c, 320, true, 0, 100)).into_iter().map(|group| group.number).collect();
    assert_eq!(numbers, [501, 502, 504, 506]);
    assert_eq!(place.read(|c| queries::belongings(c, 320, 2)).0.len(), 2);
}

#[test]
fn a_history_holds_only_what_was_applied() {
    let mut place = place();
    let mut plan = Plan::default();
    plan.identity(1, person("a", "Anna"));
    plan.group(501, "g", &[1]);
    let first = place.apply(1, plan);
    let mut plan = Plan::default();
    plan.changes.push(NewChange {
        field: Some("title".into()),
        before: None,
        after: Some("\"Chief\"".into()),
        ..NewChange::of(SubjectType::Identity, 1, ChangeKind::Changed)
    });
    let planned = place.store(1, plan);
    let kinds = |place: &Place| -> Vec<(i64, String)> {
        place
            .read(|c| history::history(c, &Sight::whole(account(OURS)), 1, 1, FOREVER, 10))
            .into_iter()
            .map(|row| (row.run_id, row.kind))
            .collect()
    };
    assert_eq!(kinds(&place), [(first, "added".to_owned())]);
    let at = start().plus(10 * MINUTE);
    place.apply_stored(planned, 1, at);
    assert_eq!(kinds(&place), [(planned, "changed".to_owned()), (first, "added".to_owned())]);
    let mut plan = Plan::default();
    plan.member(501, 1, false);
    let left = place.store(1, plan);
    place.apply_stored(left, 1, start().plus(20 * MINUTE));
    let events = place.read(|c| history::membership_events(c, 1, Time(i64::MIN), Time(FOREVER)));
    let joined: Vec<bool> = events.iter().map(|event| event.joined).collect();
    assert_eq!(joined, [false, true]);
    let group: Vec<(String, Option<String>)> = place
        .read(|c| history::history(c, &Sight::whole(account(OURS)), 1, 501, FOREVER, 10))
        .into_iter()
        .map(|row| (row.kind, row.member_name))
        .collect();
    let anna = Some("Anna".to_owned());
    assert_eq!(group, [("member-removed".into(), anna.clone()), ("member-added".into(), anna), ("added".into(), None)]);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(12))]
    #[test]
    fn memberships_can_be_read_back_as_of_any_run(
        steps in proptest::collection::vec(proptest::collection::btree_set(1_i64..12, 0..8), 1..9)
    ) {
        let mut place = place();
        let mut plan = Plan::default();
        crowd(&mut plan, 1..12);
        plan.group(501, "g", &[]);
        place.apply(1, plan);
        let mut now: BTreeSet<ObjectId> = BTreeSet::new();
        let mut by_run = Vec::new();
        for wanted in &steps {
            let mut plan = Plan::default();
            for left in now.difference(wanted) {
                plan.member(501, *left, false);
            }
            for joined in wanted.difference(&now) {
                plan.member(501, *joined, true);
            }
            let run = place.apply(1, plan);
            now.clone_from(wanted);
            by_run.push((start().plus(run * MINUTE), wanted.clone()));
            let stored: BTreeSet<ObjectId> = place.read(|c| lookup::members_now(c, 501)).into_iter().collect();
            proptest::prop_assert_eq!(&stored, wanted);
        }
        for (at, wanted) in by_run {
            let then: BTreeSet<ObjectId> = place.read(|c| {
                let mut statement = c.prepare(
                    "SELECT member_id FROM member WHERE group_id = 501 AND since_at <= ?1 AND until_at > ?1",
                )?;
                let rows = statement.query_map([at], |row| row.get(0))?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            });
            proptest::prop_assert_eq!(then, wanted);
        }
    }
}

#[test]
fn every_list_walks_an_index_and_sorts_nothing() {
    let place = place();
    place.read(|c| {
        for filter in filters() {
            for plan in [queries::plan_of(c, &filter), queries::group_plan_of(c, &filter)] {
                for step in &plan {
                    let is_walk =
                        step.starts_with("SEARCH") || step.contains("VIRTUAL TABLE") || step.starts_with("CORRELATED");
                    assert!(is_walk && !step.contains("B-TREE"), "{filter:?}: {plan:?}");
                }
            }
        }
        Ok(())
    });
}

#[test]
fn a_word_is_indexed_once_and_a_hostile_value_stays_small() {
    assert_eq!(fold::index_text(["Wei Li", "li"]), "  wei  li");
    assert_eq!(fold::index_text(["山田太"]), "  山田太  田太  太");
    let long = "山".repeat(100_000);
    assert!(fold::index_text([long.as_str()]).len() < 8_000);
}
