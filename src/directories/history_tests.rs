//! Looking back: after any history of the engine, every list as of a run is what was shown right after it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;

use super::{
    engine_tests::{Bench, Copy, DIRECTORY, Edit, Missing, Model, Ref, edit},
    progress::Progress,
    rewind,
};
use crate::{
    clock::{Clock, DAY, Time},
    error::{Error, Result},
    identities::{
        Member, Sight, past,
        queries::{self, Filter},
        retention, write,
    },
    kernel::Kernel,
    principal::AccountId,
};

/// What pages show of the copy, now or as of a time: rows as text, in the order of the lists.
type Shown = BTreeMap<String, Vec<String>>;

impl Bench {
    /// Every list in pages of `limit`: with each filter, searched, and the members and groups of everything.
    fn shown(&self, at: Option<Time>, limit: usize) -> Shown {
        self.kernel.db.read_blocking(|c| Ok(shown(c, at, limit))).expect("what is shown")
    }
}

fn account() -> AccountId {
    AccountId::new(AccountId::MIN).expect("an account")
}

/// All pages of a list, and that every page but the last is full.
fn pages<T, P: Clone>(limit: usize, read: impl Fn(Option<P>) -> Vec<T>, position: impl Fn(&T) -> P) -> Vec<T> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = read(after.clone());
        assert!(page.len() <= limit);
        let is_last = page.len() < limit;
        after = page.last().map(&position).or(after);
        all.extend(page);
        if is_last {
            return all;
        }
    }
}

fn shown(c: &rusqlite::Connection, at: Option<Time>, limit: usize) -> Shown {
    let mut shown = Shown::new();
    let members = |rows: Vec<Member>| -> Vec<String> {
        rows.iter()
            .map(|m| {
                format!("{} {} {} {} {:?} {} {:?}", m.number, m.kind, m.name, m.detail, m.status, m.direct, m.since)
            })
            .collect()
    };
    let everyone =
        past::identities(c, &Sight::whole(account()), &Filter::default(), at, None, 1_000).expect("identities");
    let groups = past::groups(c, &Sight::whole(account()), &Filter::default(), at, None, 1_000).expect("groups");
    let mut filters = vec![Filter::default()];
    for status in ["active", "disabled", "missing", "locked"] {
        filters.push(Filter { status: Some(status.into()), ..Filter::default() });
        filters.push(Filter { status: Some(status.into()), q: "person".into(), ..Filter::default() });
        filters.extend(groups.iter().map(|g| Filter {
            status: Some(status.into()),
            group: Some(g.id),
            ..Filter::default()
        }));
    }
    for q in ["person 1", "p3", "3 person", "p", "group 2", "group", "nobody"] {
        filters.push(Filter { q: q.into(), ..Filter::default() });
        filters.push(Filter { q: q.into(), directory: Some(DIRECTORY), ..Filter::default() });
        filters.extend(groups.iter().map(|g| Filter { q: q.into(), group: Some(g.id), ..Filter::default() }));
    }
    filters.push(Filter { directory: Some(DIRECTORY), ..Filter::default() });
    filters.push(Filter { directory: Some(DIRECTORY + 1), ..Filter::default() });
    for filter in &filters {
        let rows = pages(
            limit,
            |after| past::identities(c, &Sight::whole(account()), filter, at, after, limit).expect("identities"),
            |row| queries::position(filter, &row.sort_key, row.id),
        );
        shown.insert(format!("changed {filter:?}"), rows.iter().map(|row| row.changed_at.rfc3339()).collect());
        let rows = rows.into_iter().map(|row| {
            let dn = row.fields.attributes.get("dn");
            let times = (row.missing_since_at, row.removed_at);
            let (id, name, title, status) = (row.id, row.name(), &row.fields.title, &row.status);
            format!("{id} {name} {} {title:?} {status} {dn:?} {times:?} {}", row.user_name, row.sort_key)
        });
        shown.insert(format!("identities {filter:?}"), rows.collect());
        let rows = pages(
            limit,
            |after| past::groups(c, &Sight::whole(account()), filter, at, after, limit).expect("groups"),
            |row| queries::position(&Filter { group: None, ..filter.clone() }, &row.sort_key, row.id),
        );
        let rows = rows.into_iter().map(|row| {
            let times = (row.missing_since_at, row.removed_at);
            format!("{} {} {} {times:?} {}", row.id, row.name, row.member_count, row.sort_key)
        });
        shown.insert(format!("groups {filter:?}"), rows.collect());
    }
    for is_effective in [false, true] {
        for group in &groups {
            let read = |after: Option<i64>| {
                let after = after.unwrap_or(0);
                past::members(c, &Sight::whole(account()), group.id, is_effective, at, after, limit).expect("members")
            };
            let key = format!("members {} {is_effective}", group.id);
            shown.insert(key, members(pages(limit, read, |member| member.number)));
        }
        let ids = everyone.iter().map(|row| row.id).chain(groups.iter().map(|row| row.id));
        for id in ids {
            let read = |after: Option<i64>| {
                let after = after.unwrap_or(0);
                match at {
                    Some(at) => past::groups_of(c, account(), id, is_effective, at, after, limit),
                    None => queries::groups_of(c, id, is_effective, after, limit),
                }
                .expect("groups")
            };
            shown.insert(format!("groups of {id} {is_effective}"), members(pages(limit, read, |group| group.number)));
        }
    }
    shown
}

/// A list as it is and as it should be.
type Difference<'a> = (&'a String, Option<&'a Vec<String>>, Option<&'a Vec<String>>);

/// The lists that differ, each as it is and as it should be.
fn differing<'a>(is: &'a Shown, should: &'a Shown) -> Vec<Difference<'a>> {
    let keys: BTreeSet<&String> = is.keys().chain(should.keys()).collect();
    keys.into_iter()
        .map(|key| (key, is.get(key), should.get(key)))
        .filter(|(_, is, should)| is != should)
        .take(5)
        .collect()
}

/// One round of a history: edits, the size of apply's pieces, after how many of them it is killed, whether the plan is
/// thrown away, whether it is a delta, and whether what is missing is removed.
type Round = (Vec<Edit>, i64, usize, bool, bool, bool);

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let round = (
        proptest::collection::vec(edit(), 0..12),
        1..9_i64,
        0..12_usize,
        proptest::bool::weighted(0.2),
        any::<bool>(),
        any::<bool>(),
    );
    proptest::collection::vec(round, 1..8)
}

/// Lives through a history; answers what was shown right after each applied run.
fn live(bench: &mut Bench, rounds: &[Round]) -> Vec<(i64, Shown)> {
    live_and(bench, rounds, |_, _| ()).0
}

/// [`live`], with a look at each applied run; and how the directory stands at the end.
fn live_and(bench: &mut Bench, rounds: &[Round], mut look: impl FnMut(&Bench, i64)) -> (Vec<(i64, Shown)>, Model) {
    let (mut model, mut applied, mut seen) = (Model::default(), Model::default(), Vec::new());
    for (edits, piece, stop, is_thrown_away, is_delta, is_grace_over) in rounds {
        edits.iter().for_each(|edit| model.edit(edit));
        bench.remove_missing_since = is_grace_over.then_some(Time(bench.runs * 1_000_000));
        let (run, _) = match *is_delta && bench.is_applied {
            true => bench.plan_changes(&applied, &model),
            false => bench.plan(model.observed()),
        };
        if *is_thrown_away {
            bench.throw_away(run);
            continue;
        }
        if let Some(applied_to) = bench.apply(run, *piece, Some(*stop), 0) {
            assert_eq!(bench.apply(run, piece + 1, None, applied_to), None);
        }
        applied = model.clone();
        seen.push((run, bench.shown(None, 1_000)));
        look(bench, run);
    }
    bench.remove_missing_since = None;
    (seen, model)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// An answer about a past moment is what was shown then, in every list and page size, and it stays so when what is
    /// older is forgotten.
    #[test]
    fn every_list_as_of_a_run_is_what_was_shown_right_after_it(rounds in rounds(), limit in 1..5_usize, edge in 0..8_usize) {
        let mut bench = Bench::new();
        let seen = live(&mut bench, &rounds);
        let check = |bench: &Bench, seen: &[(i64, Shown)]| {
            for (run, then) in seen {
                let at = bench.target(*run).at;
                for at in [at, Time(at.0 + 999_999)] {
                    let shown = bench.shown(Some(at), limit);
                    prop_assert!(shown == *then, "run {} at {:?}: {:#?}", run, at, differing(&shown, then));
                }
            }
            Ok(())
        };
        check(&bench, &seen)?;
        if let Some((first, _)) = seen.first() {
            let before = Time(bench.target(*first).at.0 - 1);
            prop_assert!(bench.shown(Some(before), limit).values().all(Vec::is_empty), "nothing was there before the first run");
        }
        let kept = &seen[edge.min(seen.len())..];
        if let Some((run, _)) = kept.first() {
            let edge = bench.target(*run).at;
            bench.write_all(move |c| retention::forget_before(c, account(), edge, 3));
            for (what, sql) in [
                ("change", "SELECT count(*) FROM change c JOIN plan p ON p.run_id = c.run_id WHERE p.applied_at < ?1"),
                ("past", "SELECT count(*) FROM past WHERE until_at < ?1"),
                ("member", "SELECT count(*) FROM member WHERE until_at < ?1"),
            ] {
                let left: i64 = bench.kernel.db.read_blocking(|c| Ok(c.query_row(sql, [edge], |r| r.get(0))?)).expect("a count");
                prop_assert_eq!(left, 0, "{} before the edge", what);
            }
            // When something changed last before the edge is forgotten with the change itself.
            let without_changed = |mut shown: Shown| {
                shown.retain(|list, _| !list.starts_with("changed"));
                shown
            };
            for (run, then) in kept {
                let then = &without_changed(then.clone());
                let now = without_changed(bench.shown(Some(bench.target(*run).at), limit));
                prop_assert!(now == *then, "run {} after forgetting: {:#?}", run, differing(&now, then));
            }
        }
    }
}

/// People 0 to 3 and group 1, in a directory that was read once.
fn read_once() -> (Bench, Model) {
    let (mut bench, mut model) = (Bench::new(), Model::default());
    for id in 0..4 {
        model.edit(&Edit::Put(id, id, None));
    }
    model.edit(&Edit::PutGroup(1));
    model.edit(&Edit::AddMember(1, Ref::Person(0)));
    bench.sync(&model);
    (bench, model)
}

impl Bench {
    fn read<T>(&self, f: impl FnOnce(&rusqlite::Connection) -> Result<T>) -> T {
        self.kernel.db.read_blocking(f).expect("read")
    }

    fn id(&self, external_id: &str) -> i64 {
        let sql = "SELECT id FROM object WHERE external_id = ?1";
        self.read(|c| Ok(c.query_row(sql, [external_id], |row| row.get(0))?))
    }

    /// The moment of a run.
    fn at(&self, run: i64) -> Time {
        self.target(run).at
    }
}

/// Of a comparison: the fields with both sides, who joined, who left.
type Told = (Vec<(String, String, String)>, Vec<String>, Vec<String>);

fn told(comparison: &past::Comparison) -> Told {
    let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".into());
    let names = |members: &[Member]| members.iter().map(|member| member.name.clone()).collect();
    (
        comparison.fields.iter().map(|(field, a, b)| (field.clone(), side(a), side(b))).collect(),
        names(&comparison.joined),
        names(&comparison.left),
    )
}

#[test]
fn a_comparison_of_two_times_says_what_differs_and_nothing_that_came_and_went() {
    let (mut bench, mut model) = read_once();
    model.edit(&Edit::Put(0, 1, Some(2)));
    model.edit(&Edit::AddMember(1, Ref::Person(2)));
    model.edit(&Edit::RemoveMember(1, Ref::Person(0)));
    bench.sync(&model);
    model.edit(&Edit::Put(0, 0, Some(2)));
    model.edit(&Edit::AddMember(1, Ref::Person(1)));
    model.edit(&Edit::RemoveMember(1, Ref::Person(2)));
    bench.sync(&model);
    let (person, group) = (bench.id("person-0"), bench.id("group-1"));
    let identity = |from, to| {
        let times = (bench.at(from), bench.at(to));
        bench.read(|c| past::compare_identity(c, account(), person, times))
    };
    let compared = identity(1, 3);
    assert_eq!(compared.was_there, (true, true));
    let title = ("title".to_owned(), "-".to_owned(), "\"Title 2\"".to_owned());
    assert_eq!(told(&compared), (vec![title], vec![], vec!["Group 1".to_owned()]), "the name came and went");
    assert_eq!(told(&identity(2, 2)), (vec![], vec![], vec![]), "a moment does not differ from itself");
    let members = |from, to| {
        let times = (bench.at(from), bench.at(to));
        told(&bench.read(|c| past::compare_group(c, account(), group, times)))
    };
    assert_eq!(members(1, 3), (vec![], vec!["Person 1".to_owned()], vec!["Person 0".to_owned()]));
    assert_eq!(members(2, 3), (vec![], vec!["Person 1".to_owned()], vec!["Person 2".to_owned()]));
}

#[test]
fn a_comparison_with_a_time_when_it_was_not_there_says_so_and_lists_no_fields() {
    let (mut bench, mut model) = read_once();
    model.edit(&Edit::Put(9, 1, Some(1)));
    model.edit(&Edit::AddMember(1, Ref::Person(9)));
    bench.sync(&model);
    let id = bench.id("person-9");
    let compared = |from, to| bench.read(|c| past::compare_identity(c, account(), id, (from, to)));
    let new = compared(bench.at(1), bench.at(2));
    assert_eq!((new.was_there, told(&new)), ((false, true), (vec![], vec!["Group 1".to_owned()], vec![])));
    // Before the directory's first plan was applied nobody saw anything, whatever the rows say.
    let before = compared(Time(bench.at(1).0 - 1), bench.at(1));
    assert_eq!((before.was_there, told(&before)), ((false, false), (vec![], vec![], vec![])));
    let elsewhere = AccountId::new(AccountId::MIN + 7).expect("an account");
    let refused = bench.kernel.db.read_blocking(|c| past::compare_identity(c, elsewhere, id, (Time(0), Time(1))));
    assert!(matches!(refused, Err(Error::NotFound(_))));
}

#[test]
fn history_older_than_an_account_keeps_is_deleted_and_refused_and_the_rest_stays() {
    let (mut bench, mut model) = read_once();
    for (title, rdn) in [(0, 1), (1, 2), (2, 3)] {
        model.edit(&Edit::Put(0, 0, Some(title)));
        model.edit(&Edit::Rename(1, rdn));
        bench.sync(&model);
    }
    let shown = |bench: &Bench, run| bench.shown(Some(bench.at(run)), 3);
    let (third, fourth) = (shown(&bench, 3), shown(&bench, 4));
    // The clock of the test stands at the third run plus 30 days.
    let kernel = Kernel { clock: Clock::fixed(bench.at(3).plus(30 * DAY)), ..bench.kernel.clone() };
    let keep = |_: &rusqlite::Connection| Ok(vec![(account(), 30)]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for _ in 0..2 {
        runtime.block_on(retention::forget(&kernel, keep)).expect("forgotten");
    }
    let without_changed = |mut shown: Shown| {
        shown.retain(|list, _| !list.starts_with("changed"));
        shown
    };
    assert_eq!(without_changed(shown(&bench, 3)), without_changed(third));
    assert_eq!(without_changed(shown(&bench, 4)), without_changed(fourth));
    let runs = "SELECT count(DISTINCT run_id) FROM change";
    assert_eq!(bench.read(|c| Ok(c.query_row(runs, [], |row| row.get::<_, i64>(0))?)), 2);
    for at in [bench.at(2), Time(bench.at(3).0 - 1)] {
        let refused = bench.kernel.db.read_blocking(|c| {
            past::identities(c, &Sight::whole(account()), &Filter::default(), Some(at), None, 10).map(|_| ())
        });
        assert!(matches!(&refused, Err(Error::BadRequest(text)) if text.contains("kept from")), "{refused:?}");
    }
    // Keeping more from now on does not bring back what is gone.
    runtime.block_on(retention::forget(&kernel, |_| Ok(vec![(account(), 400)]))).expect("nothing to forget");
    assert_eq!(bench.read(|c| retention::edge(c, account())), Some(bench.at(3)));
}

#[test]
fn nothing_is_said_of_a_moment_while_a_run_takes_effect_at_it() {
    let (mut bench, mut model) = read_once();
    model.edit(&Edit::Put(0, 1, None));
    let (run, _) = bench.plan(model.observed());
    let target = bench.target(run);
    bench.kernel.db.bulk_blocking(move |c| write::begin_applying(c, target)).expect("begun");
    let ask = |bench: &Bench, at: Time| {
        bench.kernel.db.read_blocking(|c| {
            past::identities(c, &Sight::whole(account()), &Filter::default(), Some(at), None, 10).map(|rows| rows.len())
        })
    };
    assert!(matches!(ask(&bench, target.at), Err(Error::Unavailable { .. })));
    assert_eq!(ask(&bench, Time(target.at.0 - 1)).expect("an answer"), 4);
    assert_eq!(bench.apply(run, 5, None, 0), None);
    assert_eq!(ask(&bench, target.at).expect("an answer"), 4);
}

/// Plans the way back to a run.
fn plan_rewind(bench: &mut Bench, to_run: i64) -> i64 {
    bench.runs += 1;
    let (run, at) = (bench.runs, bench.at(to_run));
    bench.kernel.db.bulk_blocking(move |c| write::open_plan(c, run, DIRECTORY)).expect("a plan");
    rewind::plan(&bench.kernel.db, run, DIRECTORY, at, &Arc::new(Progress::default())).expect("a way back");
    run
}

/// What is there of a copy, with memberships of and in what is there only: a name that leads to nobody present may be a
/// missing object or a bare reference.
fn present(copy: &Copy, of: &Copy) -> Copy {
    let is_there = |name: &String| of.people.contains_key(name) || of.groups.contains_key(name);
    let members = |names: &BTreeSet<String>| names.iter().filter(|name| is_there(name)).cloned().collect();
    Copy {
        people: copy.people.clone(),
        groups: copy.groups.iter().map(|(name, names)| (name.clone(), members(names))).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Back to any earlier run, wherever apply is killed: the copy stands exactly as it stood, the history before and in
    /// between reads as it did, and the next reading brings the directory's state back.
    #[test]
    fn rewinding_to_any_run_gives_the_copy_of_that_run(
        rounds in rounds(),
        ways in proptest::collection::vec((any::<prop::sample::Index>(), 1..9_i64, 0..12_usize), 1..4),
    ) {
        let mut bench = Bench::new();
        let mut copies = Vec::new();
        let (seen, model) = live_and(&mut bench, &rounds, |bench, run| copies.push((run, bench.copy())));
        if copies.is_empty() {
            return Ok(());
        }
        for (way, piece, stop) in ways {
            let (to_run, copy) = way.get(&copies).clone();
            let run = plan_rewind(&mut bench, to_run);
            if let Some(applied_to) = bench.apply(run, piece, Some(stop), 0) {
                prop_assert_eq!(bench.apply(run, piece + 1, None, applied_to), None);
            }
            prop_assert_eq!(&bench.copy(), &copy, "run {} took the copy back to run {}", run, to_run);
            copies.push((run, copy));
        }
        for (run, then) in &seen {
            let shown = bench.shown(Some(bench.at(*run)), 3);
            prop_assert!(shown == *then, "run {} after the rewinds: {:#?}", run, differing(&shown, then));
        }
        bench.sync(&model);
        let expected = model.expected(&Missing::default());
        prop_assert_eq!(present(&bench.copy(), &expected), present(&expected, &expected));
        prop_assert_eq!(bench.plan(model.observed()).1.differences(), 0);
    }
}
