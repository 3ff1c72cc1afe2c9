//! A plan that was stopped, through the door: what its page says, who may decide, and what becomes of it.

use reqwest::StatusCode;
use serde_json::json;

use super::{
    super::*,
    console::{ADMIN, Console, READER, STRANGER, form},
};
use crate::{
    clock::Time,
    directories::guard::{Loss, Trip},
    error::Result,
    identities::{
        ChangeKind, SubjectType,
        write::{self, NewChange},
    },
    principal::{AccountId, Principal},
};

fn account() -> AccountId {
    AccountId::new(AccountId::MIN).expect("an account")
}

/// Plans a run and says of it what the guard would.
fn plan(c: &rusqlite::Connection, run: i64, missing: i64, trips: &[Trip]) -> Result<Vec<i64>> {
    let counts = plan::Counts { read: 100, missing, ..plan::Counts::default() };
    let server = "ldaps://one.example:636".to_owned();
    let planned =
        queries::Planned { counts, server: Some(server), watermark: None, counted: None, watermark_lost: None };
    queries::set_planned(c, run, &planned, Time(0))?;
    let found = queries::find_run(c, account(), run)?.expect("the run");
    let directory = queries::find(c, account(), found.directory_id)?.expect("the directory");
    review::note_read_with(c, run, &review::read_with(&directory))?;
    let by = Principal::scheduler("default", account());
    review::settle(c, &found, directory.applied_run_id, None, trips, &by, Time(0)).map(|(_, dropped)| dropped)
}

fn many() -> Trip {
    Trip::OverLimit { loss: Loss::Identities, number: 40, of: 100, allowed: 10 }
}

/// A run whose plan waits for approval, with lines that name three people and a group.
async fn parked(console: &Console, directory: i64, missing: i64) -> i64 {
    console
        .run(directory, false, move |c, run| {
            plan(c, run, missing, &[many()])?;
            let line = |subject_type, subject_id, kind, after: Option<&str>| NewChange {
                subject_type,
                subject_id,
                kind,
                field: None,
                before: None,
                after: after.map(str::to_owned),
                member_id: None,
            };
            let (person, group) = (SubjectType::Identity, SubjectType::Group);
            let lines = [
                line(person, 7, ChangeKind::Added, Some("\"Tuva Berg\"")),
                line(person, 8, ChangeKind::Added, Some("\"=cmd|calc\"")),
                line(person, 9, ChangeKind::Missing, None),
                line(group, 11, ChangeKind::Added, Some("\"Bergen <b>\"")),
            ];
            write::open_plan(c, run, directory)?;
            write::store_part(c, run, &[], &lines)
        })
        .await
}

async fn ended(console: &Console, run: i64) -> String {
    console.runner.wait(account(), run).await.expect("the run").state.as_str().to_owned()
}

fn fields(reason: &str, confirm: &str) -> Vec<(String, String)> {
    vec![("reason".into(), reason.into()), ("confirm".into(), confirm.into())]
}

#[actix_web::test]
async fn a_parked_plan_says_why_it_waits_and_what_is_allowed() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let run = parked(&console, id, 40).await;
    let page = console.get(&format!("/runs/{run}")).await;
    let notice = page.text(".notice--warning");
    for words in ["Many identities go missing", "40 identities would be marked as missing", "lets 10 go"] {
        assert!(notice.contains(words), "{words}: {notice}");
    }
    let figures = page.text("table[aria-label='Against the guard'] tbody");
    assert!(figures.contains("at most 10") && figures.contains("100"), "{figures}");
    assert_eq!(page.count(&format!("form[action='/runs/{run}/approve'] input[name=confirm]")), 1);
    for path in ["/directories".to_owned(), format!("/directories/{id}"), "/runs?state=parked".into()] {
        let page = console.get(&path).await;
        assert!(page.count(&format!("main a[href='/runs/{run}']")) >= 1, "{path} leads to the plan");
    }
    assert_eq!(console.get("/runs?state=applied").await.count("tbody tr"), 0);
    assert_eq!(console.get("/runs?state=stolen").await.status, StatusCode::NOT_FOUND);
    let listed = console.api_get(&format!("/api/runs?state=parked&directory={id}")).await.json();
    let trip = &listed["runs"][0]["trips"][0];
    assert_eq!((&trip["code"], &trip["figures"]["allowed"]), (&json!("over-limit"), &json!(10)));
    assert_eq!(console.api_get("/api/runs?state=x").await.status, StatusCode::BAD_REQUEST);
    let reader = console.get_as(READER, &format!("/runs/{run}")).await;
    assert_eq!((reader.status, reader.count("main form[method=post]")), (StatusCode::OK, 0));
}

#[actix_web::test]
async fn only_who_may_decides_and_only_with_a_reason_and_the_number() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let run = parked(&console, id, 40).await;
    let path = format!("/runs/{run}/approve");
    for verb in ["approve", "discard"] {
        let path = format!("/runs/{run}/{verb}");
        assert_eq!(console.post_as(READER, &path, &fields("x", "40")).await.status, StatusCode::FORBIDDEN);
        assert_eq!(console.post_as(STRANGER, &path, &fields("x", "40")).await.status, StatusCode::NOT_FOUND);
    }
    let long = "x".repeat(501);
    for (reason, confirm, field) in [
        ("", "40", "reason"),
        ("  ", "40", "reason"),
        (&long, "40", "reason"),
        ("They left.", "41", "confirm"),
        ("They left.", "", "confirm"),
    ] {
        let answer = console.post(&path, &fields(reason, confirm)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{confirm}");
        assert_eq!(answer.count(&format!("#{field}-error")), 1, "{field}: {}", answer.body);
        assert_eq!(answer.value("reason"), reason);
    }
    let answer = console.api(&format!("/api/runs/{run}/approve"), &json!({"reason": ""})).await;
    assert!(answer.json()["fields"]["reason"].is_string(), "{}", answer.body);
    assert_eq!(console.count("SELECT count(*) FROM run WHERE state = 'parked'").await, 1);
    let answer = console.post(&path, &fields("They left.", "40")).await;
    assert_eq!((answer.status, answer.location), (StatusCode::SEE_OTHER, format!("/runs/{run}")));
    assert_eq!(ended(&console, run).await, "applied");
    let json = console.api_get(&format!("/api/runs/{run}")).await.json();
    assert_eq!(json["approval"]["reason"], "They left.");
    assert!(json["approval"]["by"].as_str().is_some_and(|urn| urn.contains(":user/a")), "{json}");
    assert!(console.get(&format!("/runs/{run}")).await.text(".notice--info").contains("They left."));
    // Decided is decided.
    for verb in ["approve", "discard"] {
        let answer = console.api(&format!("/api/runs/{run}/{verb}"), &json!({"reason": "again"})).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{verb}: {}", answer.body);
    }
    let recorded =
        "SELECT count(*) FROM audit_record WHERE type = 'audit.run_approved.v1' AND details LIKE '%They left.%'";
    assert_eq!(console.count(recorded).await, 1);
}

#[actix_web::test]
async fn a_discarded_plan_keeps_its_lines_and_loses_what_it_staged() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let run = parked(&console, id, 3).await;
    let page = console.get(&format!("/runs/{run}")).await;
    assert_eq!(page.count("input[name=confirm]"), 0, "three people are not worth typing a number");
    let answer = console.post(&format!("/runs/{run}/discard"), &fields("The base was wrong.", "")).await;
    assert_eq!(answer.location, format!("/runs/{run}"));
    let page = console.get(&format!("/runs/{run}")).await;
    assert!(page.text(".notice--info").contains("The base was wrong."), "{}", page.text(".notice"));
    assert_eq!(page.count("#plan tbody tr"), 4);
    assert_eq!(console.count("SELECT count(*) FROM run WHERE state = 'discarded' AND superseded_by IS NULL").await, 1);
    let answer = console.post(&format!("/runs/{run}/approve"), &fields("On second thoughts.", "")).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(answer.text("#error-summary").contains("does not wait"), "{}", answer.text("#error-summary"));
}

#[actix_web::test]
async fn a_plan_is_not_approved_when_copy_or_settings_have_moved_on() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let run = parked(&console, id, 40).await;
    let approve = format!("/api/runs/{run}/approve");
    let reason = json!({"reason": "They left."});
    let settings = |filter: &str| json!({"settings": {"servers": ["ldaps://127.0.0.1:1"], "baseDns": ["dc=example,dc=com"], "userFilter": filter}});
    assert_eq!(console.api(&format!("/api/directories/{id}"), &settings("(uid=*)")).await.status, StatusCode::OK);
    let answer = console.api(&approve, &reason).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.body);
    assert!(answer.body.contains("userFilter"), "{}", answer.body);
    // The filter of the preset, written out, reads the same.
    let same = settings("(objectClass=inetOrgPerson)");
    assert_eq!(console.api(&format!("/api/directories/{id}"), &same).await.status, StatusCode::OK);
    let other = console.run(id, false, |_, _| Ok(())).await;
    let answer = console.api(&approve, &reason).await;
    assert!(answer.status == StatusCode::CONFLICT && answer.body.contains("is going on"), "{}", answer.body);
    console
        .kernel
        .db
        .write(move |c| {
            plan(c, other, 0, &[])?;
            queries::set_run_applied(c, other, Time(0))?;
            queries::set_applied(c, id, other, Time(0), 100, 3)
        })
        .await
        .expect("another run was applied");
    let answer = console.api(&approve, &reason).await;
    assert!(answer.status == StatusCode::CONFLICT && answer.body.contains("moved on"), "{}", answer.body);
    assert_eq!(console.count("SELECT count(*) FROM run WHERE state = 'parked'").await, 1, "nothing was decided");
}

#[actix_web::test]
async fn a_later_parked_plan_takes_the_place_of_an_earlier_one() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let (first, second) = (parked(&console, id, 40).await, parked(&console, id, 41).await);
    assert_eq!(console.count("SELECT count(*) FROM run WHERE state = 'parked'").await, 1);
    let old = console.api_get(&format!("/api/runs/{first}")).await.json();
    assert_eq!((&old["state"], &old["supersededBy"]), (&json!("discarded"), &json!(second.to_string())));
    assert_eq!(old["discard"]["reason"], format!("superseded by run {second}"));
    let page = console.get(&format!("/runs/{first}")).await;
    assert_eq!(page.count(&format!(".notice a[href='/runs/{second}']")), 1, "{}", page.text(".notice"));
    // A dry run stops nobody and takes nobody's place; what the guard would say is shown.
    let dry =
        console.run(id, true, |c, run| plan(c, run, 50, &[many()]).map(|dropped| assert_eq!(dropped, [0; 0]))).await;
    let page = console.get(&format!("/runs/{dry}")).await;
    assert!(page.text(".notice--warning").contains("would be marked"), "{}", page.text(".notice"));
    assert_eq!(page.count("form[action$='/approve']"), 0);
    let answer = console.api(&format!("/api/runs/{dry}/approve"), &json!({"reason": "x"})).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(console.api(&format!("/api/runs/{dry}/discard"), &json!({})).await.json()["state"], "discarded");
    // After a restart it still waits.
    console.runner.resume().await.expect("resumed");
    assert_eq!(console.api_get(&format!("/api/runs/{second}")).await.json()["state"], "parked");
}

#[actix_web::test]
async fn the_lines_of_a_plan_are_searched_and_downloaded() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let run = parked(&console, id, 1).await;
    for (query, expected) in [
        ("", 4),
        ("q=berg", 2),
        ("q=BERG&subjectType=group", 1),
        ("subjectType=identity", 3),
        ("subjectType=identity&kind=missing", 1),
        ("q=nobody", 0),
        ("q=%25", 0),
        ("q=%27%22%3B--", 0),
    ] {
        let listed = console.api_get(&format!("/api/runs/{run}/changes?{query}")).await.json();
        assert_eq!(listed["changes"].as_array().map(Vec::len), Some(expected), "{query}: {listed}");
        assert!(listed.get("next").is_none(), "{query}");
        let page = console.fragment(&format!("/runs/{run}?{query}")).await;
        assert_eq!((page.count("main"), page.count("#lines tbody tr")), (0, expected), "{query}: {}", page.body);
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/runs/{run}/changes?subjectType=identity&limit=1&cursor={cursor}");
        let page = console.api_get(&path).await.json();
        seen.extend(page["changes"].as_array().expect("lines").iter().map(|line| line["subjectId"].to_string()));
        match page["next"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, ["\"7\"", "\"8\"", "\"9\""]);
    for (path, status) in [
        (format!("/api/runs/{run}/changes?subjectType=person"), StatusCode::BAD_REQUEST),
        (format!("/api/runs/{run}/changes?kind=stolen"), StatusCode::BAD_REQUEST),
        (format!("/api/runs/{run}/changes?q={}", "x".repeat(201)), StatusCode::BAD_REQUEST),
        ("/api/runs/999/changes.csv".to_owned(), StatusCode::NOT_FOUND),
    ] {
        assert_eq!(console.api_get(&path).await.status, status, "{path}");
    }
    let csv = console.get(&format!("/runs/{run}/changes.csv")).await;
    assert_eq!(csv.body.lines().count(), 5, "{}", csv.body);
    assert!(csv.body.contains("'=cmd|calc") && !csv.body.contains(",=cmd"), "no formula: {}", csv.body);
    let json = console.api_get(&format!("/api/runs/{run}/changes.json?q=berg")).await.json();
    assert_eq!(json["changes"].as_array().map(Vec::len), Some(2));
    let empty = console.api_get(&format!("/api/runs/{run}/changes.json?q=nobody")).await.json();
    assert_eq!(empty["changes"], json!([]));
    let recorded = "SELECT count(*) FROM audit_record WHERE type = 'audit.plan_exported.v1'";
    assert_eq!(console.count(recorded).await, 3);
    assert_eq!(console.get_as(STRANGER, &format!("/runs/{run}/changes.csv")).await.status, StatusCode::NOT_FOUND);
}

#[actix_web::test]
async fn a_preview_reads_with_settings_that_are_not_saved_and_keeps_no_password() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let stored = console.api_get(&format!("/api/directories/{id}")).await.json()["settings"].clone();
    let preview = format!("/api/directories/{id}/preview");
    let wrong = json!({"settings": {"servers": ["ldaps://127.0.0.1:1"], "baseDns": [], "userFilter": "uid"}});
    let answer = console.api(&preview, &wrong).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.json()["fields"]["settings.userFilter"].is_string(), "{}", answer.body);
    let elsewhere = json!({"settings": {"servers": ["ldaps://127.0.0.2:1"], "baseDns": ["dc=example,dc=com"]}});
    let answer = console.api(&preview, &elsewhere).await;
    assert!(answer.json()["fields"]["credentials.read"].is_string(), "not the stored password: {}", answer.body);
    let narrower = form(&[("userFilter", "(uid=a*)"), ("password", ""), ("directory", &id.to_string())]);
    let answer = console.post(&format!("/directories/{id}/preview"), &narrower).await;
    let run: i64 = answer.location.rsplit('/').next().and_then(|id| id.parse().ok()).expect("the preview's page");
    // Nobody listens there: what matters is with what it was tried, and what is left of it.
    assert_eq!(ended(&console, run).await, "failed");
    let json = console.api_get(&format!("/api/runs/{run}")).await.json();
    assert_eq!((&json["preview"], &json["dryRun"]), (&json!(true), &json!(true)));
    let kept = "SELECT count(*) FROM run WHERE preview_credentials IS NOT NULL";
    assert_eq!(console.count(kept).await, 0);
    let read_with = "SELECT count(*) FROM run WHERE read_with LIKE '%(uid=a*)%'";
    assert_eq!(console.count(read_with).await, 1);
    assert_eq!(console.api_get(&format!("/api/directories/{id}")).await.json()["settings"], stored);
    let refused = console.posted(READER, &format!("/directories/{id}/preview"), &narrower);
    assert_eq!(console.send(refused).await.status, StatusCode::FORBIDDEN);
    let bad = form(&[("userFilter", "uid"), ("directory", &id.to_string())]);
    let answer = console.send(console.posted(ADMIN, &format!("/directories/{id}/preview"), &bad)).await;
    assert_eq!((answer.status, answer.value("userFilter")), (StatusCode::UNPROCESSABLE_ENTITY, "uid".to_owned()));
}

#[actix_web::test]
async fn the_guard_is_set_in_the_form_and_by_the_api() {
    let console = Console::open().await;
    let id = console
        .connect(&[
            ("removalsCount", "3"),
            ("removalsShare", "2,5"),
            ("privilegedGroups", "wheel\n*ops*\n"),
            ("graceDays", "7"),
        ])
        .await;
    let guard = console.api_get(&format!("/api/directories/{id}")).await.json()["guard"].clone();
    assert_eq!(guard["removals"], json!({"share": 0.025, "count": 3}));
    assert_eq!((&guard["disables"], &guard["graceDays"]), (&json!({"share": 0.05, "count": 10}), &json!(7)));
    assert_eq!(guard["privileged"]["groups"], json!(["wheel", "*ops*"]));
    let edit = console.get(&format!("/directories/{id}/edit")).await;
    for (name, value) in
        [("removalsShare", "2.5"), ("privilegedGroups", "wheel\n*ops*"), ("graceDays", "7"), ("disablesCount", "10")]
    {
        assert_eq!(edit.value(name), value, "{name}");
    }
    for (name, value) in
        [("removalsCount", "-1"), ("disablesShare", "200"), ("graceDays", "500"), ("privilegedCount", "x")]
    {
        let answer = console.post("/directories/new", &form(&[("name", "Other"), (name, value)])).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
        assert_eq!(
            answer.count(&format!(".error-summary a[href='#{name}']")),
            1,
            "{name}: {}",
            answer.text(".error-summary")
        );
        assert_eq!(answer.value(name), value);
    }
    for (guard, field) in [
        (json!({"removals": {"share": 2, "count": 1}}), "guard.removals.share"),
        (json!({"graceDays": 401}), "guard.graceDays"),
        (json!({"privileged": {"groups": [""]}}), "guard.privileged.groups"),
        (json!({"removal": {}}), "guard"),
    ] {
        let answer = console.api(&format!("/api/directories/{id}"), &json!({"guard": guard})).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{guard}");
        let fields = answer.json()["fields"].as_object().map(|fields| fields.keys().cloned().collect::<String>());
        assert!(fields.is_some_and(|fields| fields.starts_with(field)), "{guard}: {}", answer.body);
    }
    let page = console.get(&format!("/directories/{id}")).await;
    assert!(page.text(".kv").contains("more than 3 and more than 2.5 %"), "{}", page.text(".kv"));
}
