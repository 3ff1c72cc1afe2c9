//! The pages and exports of identities and groups, as their readers get them.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::{HttpResponse, body::to_bytes};
use scraper::{Html, Selector};

use super::{
    api::{CompareQuery, GroupQuery, IdentityQuery, MemberQuery},
    pages, past_pages,
    tests::{OURS, Place, Plan, THEIRS, crowd, person, place},
    write::NewChange,
    *,
};
use crate::{
    connectors::{IdentityFields, Status, Value},
    error::Error,
    web::{Ctx, PathId, Query},
};

pub(super) async fn body(response: HttpResponse) -> String {
    let bytes = to_bytes(response.into_body()).await.map_err(|_| "no body").expect("a body");
    String::from_utf8(bytes.to_vec()).expect("text")
}

pub(super) fn texts(html: &str, selector: &str) -> Vec<String> {
    let selector = Selector::parse(selector).expect("a selector");
    let page = Html::parse_document(html);
    page.select(&selector)
        .map(|element| element.text().collect::<String>().split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

pub(super) fn hrefs(html: &str, selector: &str) -> Vec<String> {
    let selector = Selector::parse(selector).expect("a selector");
    let page = Html::parse_document(html);
    page.select(&selector).filter_map(|element| element.value().attr("href").map(str::to_owned)).collect()
}

fn shown() -> Place {
    let mut place = place();
    let mut plan = Plan::default();
    crowd(&mut plan, 1..121);
    plan.identity(
        200,
        IdentityFields {
            manager: Some("uid=u7".into()),
            status: Status::Locked,
            must_change_password: true,
            last_sign_in_at: Some("2026-02-01T10:00:00Z".into()),
            attributes: BTreeMap::from([
                ("dn".into(), vec![Value::Text("uid=evil,dc=halden".into())]),
                ("photo".into(), vec![Value::Binary { base64: "AAECAwQ=".into() }]),
                ("memberOf".into(), (0..30).map(|i| Value::Text(format!("cn=g{i}"))).collect()),
            ]),
            ..person("evil", "<script>alert(1)</script> =1+1")
        },
    );
    plan.identity(201, person("=cmd|' /C calc'!A0", "@SUM(A1)"));
    plan.group(501, "inner", &[200, 1]);
    plan.group(502, "outer", &[501, 3]);
    place.apply(1, plan);
    place
}

#[tokio::test]
async fn the_list_of_identities_pages_searches_and_answers_fragments() {
    let place = shown();
    let query = |q: &str, cursor: Option<String>| {
        Query(IdentityQuery { q: Some(q.into()), cursor, ..IdentityQuery::default() })
    };
    let mut names = Vec::new();
    let mut cursor = None;
    loop {
        let html = body(pages::identities(place.ctx(OURS), query("", cursor)).await.expect("a page")).await;
        names.extend(hrefs(&html, "#results tbody th a"));
        let next = hrefs(&html, ".pager a[rel=next]").pop();
        let Some(next) = next else { break };
        cursor = next.split("cursor=").nth(1).map(str::to_owned);
    }
    let distinct: BTreeSet<&String> = names.iter().collect();
    assert_eq!((names.len(), distinct.len()), (122, 122));
    let html = body(pages::identities(place.ctx(OURS), query("<script>", None)).await.expect("a page")).await;
    assert_eq!(texts(&html, "#results tbody th a"), ["<script>alert(1)</script> =1+1"]);
    assert!(!html.contains("<script>alert"));
    let html = body(pages::identities(place.ctx(OURS), query("zzzz", None)).await.expect("a page")).await;
    assert_eq!(texts(&html, "#results h2"), ["Nothing found for “zzzz”"]);
    let fragment = Ctx { is_fragment: true, ..place.ctx(OURS) };
    let html = body(pages::identities(fragment, query("crowd1", None)).await.expect("a page")).await;
    assert!(!html.contains("<html") && html.contains("id=\"results\""), "{html}");
    assert_eq!(hrefs(&html, "#export a"), ["/identities/export?q=crowd1"]);
    let bad = Query(IdentityQuery { status: Some("asleep".into()), ..IdentityQuery::default() });
    let html = body(pages::identities(place.ctx(OURS), bad).await.expect("a page")).await;
    assert_eq!(texts(&html, "#results h2"), ["This search cannot be done"]);
    let grouped = Query(IdentityQuery { group: Some("501".into()), ..IdentityQuery::default() });
    let html = body(pages::identities(place.ctx(OURS), grouped).await.expect("a page")).await;
    assert_eq!(
        (texts(&html, "#results tbody th a").len(), texts(&html, ".filters .badge")),
        (2, vec!["members of inner".to_owned()])
    );
    let empty = Ctx { ..place.ctx(THEIRS) };
    let html = body(pages::identities(empty, query("", None)).await.expect("a page")).await;
    assert_eq!(texts(&html, "#results h2"), ["Nothing read yet"]);
}

#[tokio::test]
async fn an_identity_shows_fields_groups_attributes_and_history() {
    let place = shown();
    let query = || Query(pages::HistoryQuery::default());
    let html = body(pages::identity(place.ctx(OURS), PathId(200), query()).await.expect("a page")).await;
    assert_eq!(texts(&html, "h1"), ["<script>alert(1)</script> =1+1"]);
    assert_eq!(texts(&html, ".page-head .pill"), ["Locked"]);
    assert_eq!(hrefs(&html, "dl.kv a"), ["/identities/7"]);
    let groups = texts(&html, "table[aria-label=Groups] tbody tr > *");
    assert_eq!(groups, ["inner", "Direct", "2", "outer", "through inner", "2"]);
    assert!(texts(&html, "table[aria-label=Attributes] summary").contains(&"binary, 5 bytes".to_owned()));
    assert!(texts(&html, "table[aria-label=Attributes] summary").contains(&"10 more".to_owned()));
    let events = texts(&html, ".timeline b");
    assert!(
        events.contains(&"First seen".to_owned()) && events.contains(&"Became a member of".to_owned()),
        "{events:?}"
    );
    assert_eq!(texts(&html, ".timeline a").iter().filter(|text| *text == "run 1").count(), 2);
    for (ctx, id) in [(place.ctx(THEIRS), 200), (place.ctx(OURS), 9_999), (place.ctx(OURS), -1), (place.ctx(OURS), 501)]
    {
        let answer = pages::identity(ctx, PathId(id), query()).await;
        assert!(matches!(answer, Err(Error::NotFound(_))), "{id}");
    }
}

#[tokio::test]
async fn a_history_of_many_lines_is_paged_without_loss() {
    let mut place = shown();
    for i in 0..130 {
        let mut plan = Plan::default();
        plan.changes.push(NewChange {
            field: Some("title".into()),
            before: Some(format!("\"t{i}\"")),
            after: Some(format!("\"t{}\"", i + 1)),
            ..NewChange::of(SubjectType::Identity, 200, ChangeKind::Changed)
        });
        if i % 10 == 0 {
            plan.member(502, 200, i % 20 == 0);
        }
        place.apply(1, plan);
    }
    let (mut lines, mut before) = (Vec::new(), None);
    for _ in 0..10 {
        let query = Query(pages::HistoryQuery { before: before.clone(), as_of: None });
        let html = body(pages::identity(place.ctx(OURS), PathId(200), query).await.expect("a page")).await;
        lines.extend(texts(&html, ".timeline li"));
        let Some(next) = hrefs(&html, ".pager a[rel=next]").pop() else { break };
        before = next.split("before=").nth(1).map(|rest| rest.trim_end_matches("#history").to_owned());
    }
    let distinct: BTreeSet<&String> = lines.iter().collect();
    // 130 changes, "first seen", joined `inner`, and 13 times joined or left `outer`.
    assert_eq!((lines.len(), distinct.len()), (145, 145));
}

#[tokio::test]
async fn a_group_shows_direct_and_effective_members() {
    let place = shown();
    let query = |effective, view: &str| {
        Query(pages::GroupPageQuery {
            effective: Some(effective),
            view: Some(view.into()),
            ..pages::GroupPageQuery::default()
        })
    };
    let html = body(pages::group(place.ctx(OURS), PathId(502), query(false, "")).await.expect("a page")).await;
    assert_eq!(hrefs(&html, ".table th a"), ["/identities/3", "/groups/501"]);
    let html = body(pages::group(place.ctx(OURS), PathId(502), query(true, "")).await.expect("a page")).await;
    assert_eq!(hrefs(&html, ".table th a"), ["/identities/1", "/identities/3", "/identities/200", "/groups/501"]);
    let html = body(pages::group(place.ctx(OURS), PathId(501), query(false, "member-of")).await.expect("a page")).await;
    assert_eq!(texts(&html, ".table th a"), ["outer"]);
    let html = body(pages::group(place.ctx(OURS), PathId(501), query(false, "history")).await.expect("a page")).await;
    let lines = texts(&html, ".timeline b");
    assert_eq!(lines.iter().filter(|line| *line == "Member added").count(), 2, "{lines:?}");
    let html =
        body(pages::group(place.ctx(OURS), PathId(501), query(false, "attributes")).await.expect("a page")).await;
    assert!(html.contains("uuid-501"));
    assert!(matches!(pages::group(place.ctx(OURS), PathId(501), query(false, "x")).await, Err(Error::BadRequest(_))));
    for (ctx, id) in [(place.ctx(THEIRS), 501), (place.ctx(OURS), 200)] {
        assert!(matches!(pages::group(ctx, PathId(id), query(false, "")).await, Err(Error::NotFound(_))));
    }
    let html = body(pages::groups(place.ctx(OURS), Query(GroupQuery::default())).await.expect("a page")).await;
    assert_eq!(texts(&html, "#results tbody th a"), ["inner", "outer"]);
}

fn records(csv: &str) -> Vec<Vec<String>> {
    csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(csv.as_bytes())
        .records()
        .map(|record| record.expect("a record").iter().map(str::to_owned).collect())
        .collect()
}

#[tokio::test]
async fn an_export_has_every_row_runs_nothing_and_is_on_the_record() {
    let mut place = shown();
    let mut plan = Plan::default();
    crowd(&mut plan, 1_000..1_700);
    place.apply(2, plan);
    let all = Query(IdentityQuery::default());
    let rows = records(&body(pages::export_identities(place.ctx(OURS), all).await.expect("an export")).await);
    let ids: BTreeSet<&String> = rows.iter().skip(1).map(|row| &row[0]).collect();
    assert_eq!((rows.len(), ids.len()), (1 + 822, 822));
    assert_eq!(rows[0].first().map(String::as_str), Some("id"));
    let unsafe_cells = rows.iter().flatten().filter(|cell| cell.starts_with(['=', '+', '-', '@'])).count();
    assert_eq!(unsafe_cells, 0);
    let narrowed =
        Query(IdentityQuery { q: Some("crowd".into()), directory: Some("2".into()), ..IdentityQuery::default() });
    let rows = records(&body(pages::export_identities(place.ctx(OURS), narrowed).await.expect("an export")).await);
    assert_eq!(rows.len(), 1 + 700);
    let groups = pages::export_groups(place.ctx(OURS), Query(GroupQuery::default())).await.expect("an export");
    assert_eq!(records(&body(groups).await).len(), 3);
    let effective = Query(MemberQuery { effective: Some(true), ..MemberQuery::default() });
    let members = pages::export_members(place.ctx(OURS), PathId(502), effective).await.expect("an export");
    assert_eq!(records(&body(members).await).len(), 5);
    let denied = pages::export_members(place.ctx(THEIRS), PathId(502), Query(MemberQuery::default())).await;
    assert!(matches!(denied, Err(Error::NotFound(_))));
    let kinds: Vec<(String, String)> = place.read(|c| {
        let mut statement = c.prepare("SELECT type, details FROM audit_record ORDER BY seq")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    });
    let kinds: Vec<(&str, &str)> = kinds.iter().map(|(kind, details)| (kind.as_str(), details.as_str())).collect();
    assert_eq!(
        kinds,
        [
            ("audit.identities_exported.v1", "{}"),
            ("audit.identities_exported.v1", r#"{"directory":"2","q":"crowd"}"#),
            ("audit.groups_exported.v1", "{}"),
            ("audit.members_exported.v1", r#"{"effective":true}"#),
        ]
    );
}

/// One person whose title changed at the second run and who left a group at the third; another came at the second.
fn lived() -> Place {
    let mut place = place();
    let mut plan = Plan::default();
    plan.identity(1, person("anna", "Anna Berg"));
    plan.group(501, "crew", &[1]);
    place.apply(1, plan);
    let mut plan = Plan::default();
    let fields = IdentityFields { title: Some("Mate".into()), ..person("anna", "Anna Dahl") };
    plan.put_identity(1, fields, false);
    for (field, before, after) in [("displayName", Some("\"Anna Berg\""), "\"Anna Dahl\""), ("title", None, "\"Mate\"")]
    {
        plan.changes.push(NewChange {
            field: Some(field.into()),
            before: before.map(Into::into),
            after: Some(after.into()),
            ..NewChange::of(SubjectType::Identity, 1, ChangeKind::Changed)
        });
    }
    plan.identity(2, person("bo", "Bo Lind"));
    place.apply(1, plan);
    let mut plan = Plan::default();
    plan.member(501, 1, false);
    place.apply(1, plan);
    place.see_from_the_start();
    place.set_clock(10);
    place
}

#[tokio::test]
async fn pages_show_the_past_say_so_and_lead_back() {
    let place = lived();
    let first = place.minute(1);
    let list = |as_of: &str| Query(IdentityQuery { as_of: Some(as_of.into()), ..IdentityQuery::default() });
    let html = body(pages::identities(place.ctx(OURS), list(&first)).await.expect("a page")).await;
    assert_eq!(texts(&html, "#results tbody th a"), ["Anna Berg"]);
    assert!(texts(&html, ".as-of")[0].starts_with("As it was on 3 Mar 2026, 09:01 UTC"), "{html}");
    assert_eq!(hrefs(&html, ".as-of a"), ["/identities"]);
    let kept = format!("asOf={}", first.replace(':', "%3A"));
    assert_eq!(hrefs(&html, "#results tbody th a"), [format!("/identities/1?{kept}")]);
    assert_eq!(hrefs(&html, "#export a"), [format!("/identities/export?{kept}")]);
    // A form's field is in UTC and has no Z.
    let html = body(pages::identities(place.ctx(OURS), list("2026-03-03T09:02")).await.expect("a page")).await;
    assert_eq!(texts(&html, "#results tbody th a"), ["Anna Dahl", "Bo Lind"]);
    let html = body(pages::identities(place.ctx(OURS), list("2026-03-03T08:00")).await.expect("a page")).await;
    assert_eq!(texts(&html, "#results h2"), ["Nothing was there then"]);
    for wrong in ["yesterday", "2030-01-01T00:00"] {
        let html = body(pages::identities(place.ctx(OURS), list(wrong)).await.expect("a page")).await;
        assert_eq!(texts(&html, "#results h2"), ["This search cannot be done"], "{wrong}");
    }
    let then = |as_of: &str| Query(pages::HistoryQuery { before: None, as_of: Some(as_of.into()) });
    let html = body(pages::identity(place.ctx(OURS), PathId(1), then(&first)).await.expect("a page")).await;
    assert_eq!(texts(&html, "h1"), ["Anna Berg"]);
    assert_eq!(texts(&html, "table[aria-label=Groups] th a"), ["crew"]);
    let html = body(pages::identity(place.ctx(OURS), PathId(1), then("")).await.expect("a page")).await;
    assert_eq!((texts(&html, "h1"), texts(&html, ".as-of").len()), (vec!["Anna Dahl".to_owned()], 0));
    let links = hrefs(&html, ".timeline__when a");
    let third = place.minute(3);
    assert!(links.contains(&format!("/identities/1?asOf={third}")), "{links:?}");
    assert!(links.contains(&format!("/identities/1/compare?from={third}")), "{links:?}");
    let query = Query(pages::GroupPageQuery { as_of: Some(first.clone()), ..pages::GroupPageQuery::default() });
    let html = body(pages::group(place.ctx(OURS), PathId(501), query).await.expect("a page")).await;
    assert_eq!(texts(&html, ".table th a"), ["Anna Berg"]);
    assert!(hrefs(&html, ".tabs a").iter().all(|href| href.contains("asOf=")));
    // Who came later was not there, and the page says since when.
    let answer = pages::identity(place.ctx(OURS), PathId(2), then(&first)).await.expect("a page");
    assert_eq!(answer.status(), 404);
    let html = body(answer).await;
    assert!(texts(&html, ".empty p")[0].contains("It was first seen on 3 Mar 2026, 09:02 UTC"), "{html}");
    assert!(matches!(pages::identity(place.ctx(THEIRS), PathId(2), then(&first)).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn two_times_are_compared_on_a_page() {
    let place = lived();
    let query = |from: &str, to: &str| Query(CompareQuery { from: Some(from.into()), to: Some(to.into()) });
    let page = async |id: i64, from: &str, to: &str| {
        body(past_pages::compare_identity(place.ctx(OURS), PathId(id), query(from, to)).await.expect("a page")).await
    };
    let (first, second) = (place.minute(1), place.minute(2));
    let html = page(1, &first, "").await;
    assert_eq!(
        texts(&html, "table[aria-label=Fields] tbody tr > *"),
        ["Display name", "Anna Berg", "Anna Dahl", "Title", "empty", "Mate"]
    );
    assert_eq!(texts(&html, "table[aria-label='Groups left'] th"), ["Name", "Description", "crew"]);
    let html = page(1, &second, &second).await;
    assert_eq!(texts(&html, ".empty h2"), ["No difference"]);
    let html = page(2, &first, "").await;
    assert!(texts(&html, ".notice")[0].contains("it came in between"));
    let html = page(1, "", "").await;
    assert_eq!(texts(&html, ".empty h2"), ["Choose a time"]);
    for (from, to) in [(second.as_str(), first.as_str()), ("soon", ""), ("2030-01-01T00:00", "")] {
        let html = page(1, from, to).await;
        assert_eq!(texts(&html, ".empty h2"), ["These times cannot be compared"], "{from} {to}");
    }
    let group = past_pages::compare_group(place.ctx(OURS), PathId(501), query(&first, "")).await.expect("a page");
    assert_eq!(texts(&body(group).await, "table[aria-label='Members that left'] th a"), ["Anna Berg"], "named as then");
    for (ctx, id) in [(place.ctx(THEIRS), 1), (place.ctx(OURS), 501)] {
        let answer = past_pages::compare_identity(ctx, PathId(id), query(&first, "")).await;
        assert!(matches!(answer, Err(Error::NotFound(_))));
    }
}

#[tokio::test]
async fn the_page_of_a_tombstone_says_since_when_and_keeps_its_history() {
    let mut place = lived();
    for kind in [ChangeKind::Missing, ChangeKind::Removed] {
        let mut plan = Plan::default();
        plan.changes.push(NewChange::of(SubjectType::Identity, 1, kind));
        plan.changes.push(NewChange::of(SubjectType::Group, 501, kind));
        place.apply(1, plan);
    }
    let query = || Query(pages::HistoryQuery::default());
    let html = body(pages::identity(place.ctx(OURS), PathId(1), query()).await.expect("a page")).await;
    assert_eq!(texts(&html, ".page-head .pill"), ["Removed"]);
    assert!(texts(&html, ".notice")[0].contains("Removed since 3 Mar 2026, 09:05 UTC"), "{html}");
    assert!(texts(&html, ".timeline b").contains(&"First seen".to_owned()));
    let html = body(pages::group(place.ctx(OURS), PathId(501), Query(Default::default())).await.expect("a page")).await;
    assert!(texts(&html, ".notice")[0].contains("Removed since"), "{html}");
    let later = Query(pages::HistoryQuery { before: None, as_of: Some(place.minute(6)) });
    let answer = pages::identity(place.ctx(OURS), PathId(1), later).await.expect("a page");
    assert_eq!(answer.status(), 404);
    assert!(texts(&body(answer).await, ".empty p")[0].contains("It was removed on 3 Mar 2026, 09:05 UTC"));
}
