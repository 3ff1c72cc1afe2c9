//! What an account is, and who is privileged: the walk through groups, the lists that are narrowed by it, and what pages
//! and exports say.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    api::IdentityQuery,
    model::Accounts,
    page_tests::{body, hrefs, texts},
    pages, past, past_pages, privileges,
    queries::{self, Filter},
    staged,
    tests::{OURS, Place, Plan, account, person, place, start},
    write::NewChange,
    *,
};
use crate::{
    clock::MINUTE,
    connectors::{AccountType, Fact, GroupFields, IdentityFields, Value},
    error::Result,
    web::{PathId, Query},
};

fn privileged_group(name: &str, known: &str) -> GroupFields {
    GroupFields { name: name.into(), privileged: Some(known.into()), ..GroupFields::default() }
}

fn why(place: &Place, id: ObjectId) -> Vec<String> {
    place.read(|c| privileged_paths(c, id))
}

fn privileged_only() -> Filter {
    Filter { is_privileged: true, ..Filter::default() }
}

/// Domain Admins (600) holds Tier 0 (601), which holds Helpdesk (602), which holds Tier 0 again; Administrators (603), here
/// by another name, holds Domain Admins; 604 is any group.
fn domain() -> Place {
    let mut place = place();
    let mut plan = Plan::default();
    for id in 1..=6 {
        plan.identity(id, person(&format!("u{id}"), &format!("Person {id}")));
    }
    let facts = vec![Fact::BuiltInAdministrator];
    plan.identity(7, IdentityFields { facts, ..person("administrator", "Person 7") });
    plan.group_of(600, privileged_group("Domain Admins", "Domain Admins"), &[1, 601]);
    plan.group(601, "Tier 0", &[2, 602]);
    plan.group(602, "Helpdesk", &[3, 601, 9_999]);
    plan.group_of(603, privileged_group("Administratoren", "Administrators"), &[600, 4]);
    plan.group(604, "Everybody", &[1, 2, 3, 4, 5, 600]);
    place.apply(1, plan);
    // Another directory's groups are none of its business.
    let mut plan = Plan::default();
    plan.identity(50, person("u50", "Person 50"));
    plan.group(650, "Domain Admins", &[50]);
    place.apply(2, plan);
    place.see_from_the_start();
    place
}

#[test]
fn the_way_through_groups_is_told_for_every_group_that_makes_privileged() {
    let place = domain();
    for (id, expected) in [
        (1, &["Member of Domain Admins", "Member of Administratoren (Administrators) through Domain Admins"][..]),
        (
            2,
            &[
                "Member of Domain Admins through Tier 0",
                "Member of Administratoren (Administrators) through Tier 0 → Domain Admins",
            ],
        ),
        (
            3,
            &[
                "Member of Domain Admins through Helpdesk → Tier 0",
                "Member of Administratoren (Administrators) through Helpdesk → Tier 0 → Domain Admins",
            ],
        ),
        (4, &["Member of Administratoren (Administrators)"]),
        (5, &[]),
        (6, &[]),
        (7, &["The built-in Administrator"]),
        (50, &[]),
        (604, &[]),
        (12_345, &[]),
    ] {
        assert_eq!(why(&place, id), expected, "{id}");
    }
    let ids: Vec<ObjectId> = (1..=60).collect();
    let found = place.read(|c| which_are_privileged(c, &ids));
    assert_eq!(found, HashSet::from([1, 2, 3, 4, 7]));
    assert_eq!(place.list(&privileged_only()), [1, 2, 3, 4, 7]);
    assert_eq!(place.list(&Filter { directory: Some(2), ..privileged_only() }), [0_i64; 0]);
}

#[test]
fn what_is_missing_makes_nobody_privileged_and_is_not() {
    let mut place = domain();
    let gone = |place: &mut Place, subject, id, kind| {
        let mut plan = Plan::default();
        plan.changes.push(NewChange::of(subject, id, kind));
        place.apply(1, plan)
    };
    gone(&mut place, SubjectType::Group, 601, ChangeKind::Missing);
    assert_eq!(place.list(&privileged_only()), [1, 4, 7]);
    assert_eq!((why(&place, 2), why(&place, 3)), (vec![], vec![]));
    gone(&mut place, SubjectType::Identity, 4, ChangeKind::Missing);
    gone(&mut place, SubjectType::Identity, 7, ChangeKind::Missing);
    assert_eq!((place.list(&privileged_only()), why(&place, 4), why(&place, 7)), (vec![1], vec![], vec![]));
    gone(&mut place, SubjectType::Identity, 7, ChangeKind::Removed);
    gone(&mut place, SubjectType::Group, 600, ChangeKind::Missing);
    gone(&mut place, SubjectType::Group, 600, ChangeKind::Removed);
    assert_eq!(place.list(&privileged_only()), [0_i64; 0]);
    assert_eq!(place.read(|c| which_are_privileged(c, &[1, 2, 3, 4, 7])), HashSet::new());
    // As of the time before, everything was there.
    let first = start().plus(MINUTE);
    let then = place.read(|c| privileges::which_were_privileged(c, &[1, 2, 3, 4, 5, 7], Some(first)));
    assert_eq!(then, HashSet::from([1, 2, 3, 4, 7]));
    let paths = place.read(|c| privileges::reasons(c, 3, Some(first)));
    assert_eq!(paths[0].text(), "Member of Domain Admins through Helpdesk → Tier 0");
    let third = start().plus(3 * MINUTE);
    assert_eq!(place.read(|c| privileges::reasons(c, 3, Some(third))), []);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(24))]
    #[test]
    fn both_walks_find_whom_the_closure_holds(
        edges in proptest::collection::vec((100_i64..112, 0_i64..30), 0..60),
        tops in proptest::collection::btree_set(100_i64..112, 0..3),
        missing in proptest::collection::btree_set(1_i64..30, 0..4),
    ) {
        // Members below 18 are people, above they are groups.
        let member = |number: i64| if number < 18 { number + 1 } else { number - 18 + 100 };
        let mut members: BTreeMap<ObjectId, BTreeSet<ObjectId>> = BTreeMap::new();
        for (group, number) in &edges {
            members.entry(*group).or_default().insert(member(*number));
        }
        let missing: BTreeSet<ObjectId> = missing.into_iter().map(member).collect();
        let mut place = place();
        let mut plan = Plan::default();
        for id in 1..=18 {
            plan.identity(id, person(&format!("u{id}"), "Somebody"));
        }
        for id in 100..112 {
            let privileged = tops.contains(&id).then(|| "Domain Admins".to_owned());
            let fields = GroupFields { name: format!("g{id}"), privileged, ..GroupFields::default() };
            let inside: Vec<ObjectId> = members.get(&id).into_iter().flatten().copied().collect();
            plan.group_of(id, fields, &inside);
        }
        place.apply(1, plan);
        let mut plan = Plan::default();
        for id in &missing {
            let subject = if *id < 100 { SubjectType::Identity } else { SubjectType::Group };
            plan.changes.push(NewChange::of(subject, *id, ChangeKind::Missing));
        }
        place.apply(1, plan);
        let mut reached: BTreeSet<ObjectId> = tops.difference(&missing).copied().collect();
        loop {
            let inside = reached.iter().filter_map(|group| members.get(group)).flatten().copied();
            let more: BTreeSet<ObjectId> = inside.filter(|id| !missing.contains(id) && !reached.contains(id)).collect();
            if more.is_empty() {
                break;
            }
            reached.extend(more);
        }
        let expected: BTreeSet<ObjectId> = reached.into_iter().filter(|id| *id < 100).collect();
        let people: Vec<ObjectId> = (1..=18).collect();
        let bulk: BTreeSet<ObjectId> = place.read(|c| which_are_privileged(c, &people)).into_iter().collect();
        let listed: BTreeSet<ObjectId> = place.list(&privileged_only()).into_iter().collect();
        let alone: BTreeSet<ObjectId> = people.into_iter().filter(|id| !why(&place, *id).is_empty()).collect();
        proptest::prop_assert_eq!((&bulk, &listed, &alone), (&expected, &expected, &expected));
    }
}

/// So many people; every 7th is a computer, every 11th a managed account, and every 5th is disabled.
fn mixed(people: i64) -> (Place, HashMap<ObjectId, IdentityFields>) {
    let mut place = place();
    let mut plan = Plan::default();
    let mut all = HashMap::new();
    for id in 1..=people {
        let account_type = match id {
            id if id % 7 == 0 => AccountType::Computer,
            id if id % 11 == 0 => AccountType::ManagedServiceAccount,
            _ => AccountType::User,
        };
        let status = if id % 5 == 0 { crate::connectors::Status::Disabled } else { crate::connectors::Status::Active };
        let name = ["Anna", "Bo", "Chloé"][usize::try_from(id % 3).expect("small")];
        let fields = IdentityFields { account_type, status, ..person(&format!("u{id}"), &format!("{name} {id}")) };
        plan.identity(id, fields.clone());
        all.insert(id, fields);
    }
    place.apply(1, plan);
    place.see_from_the_start();
    (place, all)
}

/// The list of a filter, page by page; every row comes once.
fn paged(place: &Place, filter: &Filter, page: usize) -> BTreeSet<ObjectId> {
    let (mut found, mut after) = (BTreeSet::new(), None);
    loop {
        let rows =
            place.read(|c| queries::list_identities(c, &Sight::whole(account(OURS)), filter, after.clone(), page));
        let Some(last) = rows.last() else { break };
        after = Some(queries::position(filter, &last.sort_key, last.id));
        for row in &rows {
            assert!(found.insert(row.id), "{} came twice: {filter:?}", row.id);
        }
    }
    found
}

#[test]
fn lists_by_type_and_of_privileged_ones_hold_what_every_row_by_itself_says() {
    // One directory with few privileged accounts and one with more than are looked at one by one.
    for (people, privileged) in [(300_i64, 90_i64), (2_600, 2_300)] {
        let (mut place, all) = mixed(people);
        let mut plan = Plan::default();
        let admins: Vec<ObjectId> = (1..=privileged).collect();
        plan.group_of(90_000, privileged_group("Domain Admins", "Domain Admins"), &[90_001]);
        plan.group(90_001, "nested", &admins);
        plan.group(90_002, "thirds", &(1..=people).filter(|id| id % 3 == 0).collect::<Vec<_>>());
        place.apply(1, plan);
        let now = start().plus(9 * MINUTE);
        for q in ["", "anna", "u1", "zzz"] {
            for status in [None, Some("active"), Some("disabled")] {
                for group in [None, Some(90_002)] {
                    for accounts in [
                        Accounts::All,
                        Accounts::Of(AccountType::User),
                        Accounts::Of(AccountType::Computer),
                        Accounts::Of(AccountType::ManagedServiceAccount),
                        Accounts::NotUsers,
                    ] {
                        for is_privileged in [false, true] {
                            let status = status.map(str::to_owned);
                            let filter =
                                Filter { q: q.into(), status, group, accounts, is_privileged, directory: None };
                            let fits = |id: &ObjectId| {
                                let fields = &all[id];
                                accounts.holds(fields.account_type)
                                    && filter.status.as_deref().is_none_or(|status| fields.status.as_str() == status)
                                    && (group.is_none() || id % 3 == 0)
                                    && (!is_privileged || *id <= privileged)
                                    && fold::has_words(&staged::identity_text(fields), q)
                            };
                            let expected: BTreeSet<ObjectId> = all.keys().copied().filter(fits).collect();
                            assert_eq!(paged(&place, &filter, 97), expected, "{filter:?}");
                            if accounts == Accounts::All {
                                let hidden = expected.iter().filter(|id| !all[*id].account_type.is_user()).count();
                                let counted = place.read(|c| {
                                    queries::count_not_users(c, &Sight::whole(account(OURS)), &filter, 5_000)
                                });
                                assert_eq!(counted, hidden, "{filter:?}");
                            }
                            if people < 1_000 && !is_privileged {
                                let then = place.read(|c| {
                                    past::identities(c, &Sight::whole(account(OURS)), &filter, Some(now), None, 5_000)
                                });
                                let then: BTreeSet<ObjectId> = then.into_iter().map(|row| row.id).collect();
                                assert_eq!(then, expected, "as of a time: {filter:?}");
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A domain with a computer, and with somebody of whom much is worth knowing.
fn shown() -> Place {
    let mut place = domain();
    place.set_kind(1, "active-directory");
    let mut plan = Plan::default();
    plan.identity(20, IdentityFields { account_type: AccountType::Computer, ..person("pc1$", "PC1") });
    plan.identity(21, IdentityFields { account_type: AccountType::ManagedServiceAccount, ..person("gmsa$", "gMSA") });
    let facts = vec![Fact::SidHistory, Fact::PasswordNeverExpires];
    let history = vec![Value::Text("S-1-5-21-9-9-9-1".into()), Value::Text("S-1-5-21-9-9-9-2".into())];
    let mut fields = IdentityFields { facts, ..person("u3", "Person 3") };
    let before = serde_json::to_string(&person("u3", "Person 3")).expect("JSON");
    fields.attributes.insert("sIDHistory".into(), history);
    let after = serde_json::to_string(&fields).expect("JSON");
    let differences = staged::differences(&before, &after).expect("differences");
    plan.put_identity(3, fields, false);
    let line = |difference| NewChange::field(SubjectType::Identity, 3, difference);
    plan.changes.extend(differences.into_iter().map(line));
    place.apply(1, plan);
    place.set_clock(20);
    place
}

#[tokio::test]
async fn the_page_of_an_identity_says_what_is_worth_knowing() {
    let place = shown();
    let page = async |id: i64, as_of: Option<String>| {
        let query = Query(pages::HistoryQuery { as_of, ..pages::HistoryQuery::default() });
        body(pages::identity(place.ctx(OURS), PathId(id), query).await.expect("a page")).await
    };
    let html = page(3, None).await;
    assert_eq!(
        texts(&html, "[aria-labelledby=h-facts] dt"),
        ["Privileged", "SID history (2 entries)", "Password never expires"]
    );
    let reasons = &texts(&html, "[aria-labelledby=h-facts] dd")[0];
    assert!(
        reasons.starts_with(
            "Member of Domain Admins through Helpdesk → Tier 0Member of Administratoren (Administrators) through"
        ),
        "{reasons}"
    );
    assert_eq!(hrefs(&html, "[aria-labelledby=h-facts] a")[..3], ["/groups/600", "/groups/602", "/groups/601"]);
    assert_eq!(texts(&html, ".page-head .badge"), ["privileged"]);
    let late = "may be up to 14 days late";
    assert!(texts(&html, "dl.kv .hint").iter().any(|hint| hint.starts_with(late)), "{html}");
    let lines = texts(&html, ".timeline li");
    let line = lines.iter().find(|line| line.starts_with("Facts")).expect("a line");
    assert!(line.contains("empty→after: Has a SID history; Password never expires"), "{line}");
    // Before that, nothing of it was said, but the memberships were there.
    let html = page(3, Some(place.minute(1))).await;
    assert_eq!(texts(&html, "[aria-labelledby=h-facts] dt"), ["Privileged"]);
    let html = page(20, None).await;
    assert_eq!((texts(&html, ".page-head .badge"), texts(&html, "#h-facts").len()), (vec!["Computer".to_owned()], 0));
    // A directory that says it at once.
    let html = page(50, None).await;
    assert!(!html.contains(late) && !html.contains("h-facts"));
    let query = Query(super::api::CompareQuery { from: Some(place.minute(1)), to: None });
    let html = body(past_pages::compare_identity(place.ctx(OURS), PathId(3), query).await.expect("a page")).await;
    let cells = texts(&html, "table[aria-label=Fields] tbody tr > *");
    assert_eq!(cells[..3], ["Facts", "empty", "Has a SID history; Password never expires"]);
    let html = body(pages::group(place.ctx(OURS), PathId(603), Query(Default::default())).await.expect("a page")).await;
    assert_eq!(texts(&html, ".page-head .badge"), ["privileged"]);
}

#[tokio::test]
async fn the_list_leaves_computers_out_says_so_and_shows_them_when_asked() {
    let place = shown();
    let page = async |query: IdentityQuery| {
        body(pages::identities(place.ctx(OURS), Query(query)).await.expect("a page")).await
    };
    let of = |q: &str, account_type: &str| {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        IdentityQuery { q: given(q), account_type: given(account_type), ..IdentityQuery::default() }
    };
    let names = |html: &str| texts(html, "#results tbody th a").len();
    let html = page(of("", "")).await;
    let foot = texts(&html, ".table-foot");
    assert_eq!(names(&html), 8);
    assert!(foot[0].contains("2 computers and managed service accounts are hidden. Show"), "{foot:?}");
    assert_eq!(hrefs(&html, ".table-foot a"), ["/identities?accountType=all"]);
    assert_eq!(hrefs(&html, "#export a"), ["/identities/export?accountType=user"]);
    assert_eq!(texts(&html, "#results .badge"), ["privileged"; 5]);
    let html = page(of("", "all")).await;
    assert_eq!((names(&html), texts(&html, ".table-foot a").len()), (10, 0));
    assert_eq!(hrefs(&html, "#export a"), ["/identities/export?accountType=all"]);
    let html = page(of("", "computer")).await;
    assert_eq!(texts(&html, "#results tbody th a"), ["PC1"]);
    let html = page(of("pc1", "")).await;
    assert_eq!(texts(&html, "#results h2"), ["Nothing found for “pc1”"]);
    assert_eq!(hrefs(&html, ".table-foot a"), ["/identities?q=pc1&accountType=all"]);
    let html = page(of("pc1", "printer")).await;
    assert_eq!(texts(&html, "#results h2"), ["This search cannot be done"]);
    let privileged = IdentityQuery { privileged: Some("true".into()), ..IdentityQuery::default() };
    let html = page(privileged.clone()).await;
    assert_eq!(names(&html), 5);
    let then = IdentityQuery { as_of: Some(place.minute(1)), ..privileged };
    assert_eq!(texts(&page(then).await, "#results h2"), ["This search cannot be done"]);
    let then = IdentityQuery { as_of: Some(place.minute(9)), ..IdentityQuery::default() };
    let html = page(then).await;
    assert_eq!(names(&html), 8);
    assert!(texts(&html, ".table-foot")[0].contains("Computers and managed service accounts are hidden."));
    // Without computers and privileged groups there is nothing to choose.
    let html =
        body(pages::identities(domain().ctx(OURS), Query(IdentityQuery::default())).await.expect("a page")).await;
    assert_eq!((texts(&html, "#f-type").len(), texts(&html, "label[for=privileged]").len()), (0, 1));
}

#[tokio::test]
async fn the_export_says_what_an_account_is() {
    let place = shown();
    let csv =
        body(pages::export_identities(place.ctx(OURS), Query(IdentityQuery::default())).await.expect("a file")).await;
    let line = |name: &str| csv.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name} in {csv}"));
    assert!(line("user name").contains("status,account type,privileged,facts,missing since"));
    let third = "active,user,Member of Domain Admins through Helpdesk → Tier 0; Member of Administratoren (Administrators) \
                 through Helpdesk → Tier 0 → Domain Admins,sid-history; password-never-expires,";
    assert!(line("u3@").contains(third), "{csv}");
    assert!(line("pc1$").contains("active,computer,,,"), "{csv}");
}

mod long {
    //! Lists of a copy of 100,000, with a time limit: `tests/run --all` runs it.

    use std::time::Instant;

    use super::*;

    const PEOPLE: i64 = 80_000;
    /// They stand together in the order of names, in the middle.
    const COMPUTERS: i64 = 20_000;
    const GROUPS: i64 = 2_000;
    /// What a page may take; a program that is built for debugging takes several times as long.
    const LIMIT_MS: f64 = if cfg!(debug_assertions) { 200.0 } else { 50.0 };

    /// In no privileged group, so far.
    const MOST: ObjectId = 205_002;
    const OPERATORS: ObjectId = 205_003;

    fn large() -> Place {
        let mut place = place();
        let mut plan = Plan::default();
        for id in 1..=PEOPLE {
            let name = ["Anna", "Bo", "Rosa", "Tom"][usize::try_from(id % 4).expect("small")];
            plan.identity(id, person(&format!("u{id}"), &format!("{name} Family{id}")));
        }
        for id in PEOPLE + 1..=PEOPLE + COMPUTERS {
            let fields = person(&format!("pc{id}$"), &format!("PC{id}"));
            plan.identity(id, IdentityFields { account_type: AccountType::Computer, ..fields });
        }
        let group = |number: i64| 200_000 + number;
        for number in 0..GROUPS {
            // Each holds fifty people, and the one after it holds it.
            let mut members: Vec<ObjectId> = (0..50).map(|i| (number * 37 + i * 1_583) % PEOPLE + 1).collect();
            members.extend((number % 20 != 0).then(|| group(number - 1)));
            plan.group(group(number), &format!("group {number}"), &members);
        }
        let admins = [group(3), group(45), 5, 6, 7];
        plan.group_of(group(5_000), privileged_group("Domain Admins", "Domain Admins"), &admins);
        plan.group_of(group(5_001), privileged_group("Administrators", "Administrators"), &[group(5_000)]);
        let all: Vec<ObjectId> = (1..=50_000).collect();
        plan.group(MOST, "most", &all);
        plan.group_of(OPERATORS, privileged_group("Backup Operators", "Backup Operators"), &[8]);
        place.apply(1, plan);
        place
    }

    /// The slowest but two of two hundred times, in milliseconds.
    fn p99(place: &Place, what: &str, mut read: impl FnMut(&rusqlite::Connection, i64) -> Result<usize>) {
        let mut times = Vec::new();
        let mut rows = 0;
        for round in 0..200 {
            let begun = Instant::now();
            rows += place.read(|c| read(c, round));
            times.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        times.sort_by(f64::total_cmp);
        let slow = times[times.len() - 3];
        println!("{what}: p50 {:.2} ms, p99 {slow:.2} ms, {} rows", times[100], rows / 200);
        assert!(slow <= LIMIT_MS, "{what}: {slow} ms");
    }

    #[test]
    fn lists_of_a_hundred_thousand_answer_in_milliseconds() {
        let mut place = large();
        for is_wide in [false, true] {
            if is_wide {
                let mut plan = Plan::default();
                plan.member(OPERATORS, MOST, true);
                place.apply(1, plan);
            }
            println!("{}", if is_wide { "50,000 privileged" } else { "few privileged" });
            let list = |c: &rusqlite::Connection, filter: &Filter, after: Option<queries::Position>, limit: usize| {
                let rows = queries::list_identities(c, &Sight::whole(account(OURS)), filter, after, limit)?;
                let why = privileges::reasons_of(c, rows.iter().map(|row| row.id), None)?;
                Ok(rows.len() + why.len())
            };
            let all = Filter::default();
            let users = Filter { accounts: Accounts::Of(AccountType::User), ..Filter::default() };
            let at = |name: String| Some(queries::Position::Name(name, 0));
            p99(&place, "everybody, any page of 51", |c, i| list(c, &all, at(format!("rosa family{}", i * 97)), 51));
            p99(&place, "everybody, any page of 501", |c, i| list(c, &all, at(format!("rosa family{}", i * 97)), 501));
            p99(&place, "users, the page where all computers are passed by", |c, _| {
                list(c, &users, at("bo family99999".into()), 51)
            });
            p99(&place, "users, search", |c, i| {
                list(c, &Filter { q: format!("family{}", i * 7), ..users.clone() }, None, 51)
            });
            p99(&place, "computers hidden from a search that finds them all", |c, _| {
                queries::count_not_users(
                    c,
                    &Sight::whole(account(OURS)),
                    &Filter { q: "pc".into(), ..Filter::default() },
                    5_000,
                )
            });
            p99(&place, "users, search that finds all computers", |c, _| {
                list(c, &Filter { q: "pc".into(), ..users.clone() }, None, 51)
            });
            p99(&place, "computers hidden", |c, _| {
                queries::count_not_users(c, &Sight::whole(account(OURS)), &all, 5_000)
            });
            p99(&place, "privileged, first page of 51", |c, _| list(c, &privileged_only(), None, 51));
            p99(&place, "privileged, page of 501", |c, i| {
                list(c, &privileged_only(), at(format!("bo family{}", i * 97)), 501)
            });
            p99(&place, "privileged, search", |c, i| {
                list(c, &Filter { q: format!("family{}", i * 7), ..privileged_only() }, None, 51)
            });
            p99(&place, "which of 500 are privileged", |c, i| {
                Ok(which_are_privileged(c, &(i * 100 + 1..i * 100 + 501).collect::<Vec<_>>())?.len())
            });
        }
    }
}
