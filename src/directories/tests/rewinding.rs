//! Taking a copy back to an earlier run, through the door: who may, what the plan says, and what it leaves behind.

use reqwest::StatusCode;
use serde_json::json;

use super::{
    super::*,
    console::{Console, READER, STRANGER},
};
use crate::{
    clock::{HOUR, Time},
    connectors::{IdentityFields, Keys, Source},
    identities::{
        ChangeKind, SubjectType,
        staged::{Named, Staged},
        write::{self, NewChange, Target},
    },
    principal::AccountId,
};

fn account() -> AccountId {
    AccountId::new(AccountId::MIN).expect("an account")
}

/// An applied run that gives person 1 this name; an hour goes by before.
async fn named(console: &Console, directory: i64, before: Option<&'static str>, name: &'static str) -> i64 {
    let now = console.kernel.clock.now().plus(HOUR);
    console.kernel.clock.set(now);
    console
        .run(directory, false, move |c, run| {
            let fields = IdentityFields {
                user_name: "anna".into(),
                display_name: Some(name.into()),
                ..IdentityFields::default()
            };
            let json = serde_json::to_string(&fields)?;
            let (external_id, keys) = ("uuid-1".to_owned(), Keys::default());
            let who = Named { object_id: 1, is_new: before.is_none(), external_id, source: Source([7; 16]), keys };
            let kind = if before.is_none() { ChangeKind::Added } else { ChangeKind::Changed };
            let line = NewChange {
                subject_type: SubjectType::Identity,
                subject_id: 1,
                kind,
                field: before.map(|_| "displayName".to_owned()),
                before: before.map(|before| json!(before).to_string()),
                after: Some(json!(name).to_string()),
                member_id: None,
            };
            let counts = plan::Counts { changed: 1, ..plan::Counts::default() };
            let watermark = Some("csn 7".to_owned());
            let planned = queries::Planned { counts, server: None, watermark, counted: None, watermark_lost: None };
            queries::set_planned(c, run, &planned, now)?;
            write::open_plan(c, run, directory)?;
            write::store_part(c, run, &[Staged::identity(who, fields, json)], &[line])?;
            let target = Target { run, directory, at: now };
            queries::set_applying(c, run, now)?;
            write::apply_staged(c, target, 10)?;
            write::apply_changes(c, target, 0, 10)?;
            write::finish_applied(c, target)?;
            queries::set_run_applied(c, run, now)?;
            queries::set_applied(c, directory, run, now, 1, 0)
        })
        .await
}

async fn ended(console: &Console, run: i64) -> String {
    console.runner.wait(account(), run).await.expect("the run").state.as_str().to_owned()
}

#[actix_web::test]
async fn a_copy_is_taken_back_by_a_plan_that_waits_and_is_on_the_record() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let first = named(&console, id, None, "Anna Berg").await;
    let read_at = console.kernel.clock.now();
    let second = named(&console, id, Some("Anna Berg"), "Anna Dahl").await;
    console.kernel.clock.set(console.kernel.clock.now().plus(HOUR));
    let api = format!("/api/directories/{id}/rewind");
    for to_run in ["", "x", "999", &second.to_string()] {
        let answer = console.api(&api, &json!({"toRun": to_run})).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{to_run}: {}", answer.body);
        assert!(answer.json()["fields"]["toRun"].is_string(), "{}", answer.body);
    }
    let named_mode = console.api(&format!("/api/directories/{id}/runs"), &json!({"mode": "rewind"})).await;
    assert!(named_mode.status.is_client_error(), "a rewind is not started by its name: {}", named_mode.body);
    let path = format!("/runs/{first}/rewind");
    assert_eq!(console.post_as(READER, &path, &[]).await.status, StatusCode::FORBIDDEN);
    assert_eq!(console.post_as(STRANGER, &path, &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(console.get(&format!("/runs/{second}")).await.count("#rewind"), 0, "the copy stands there");
    assert_eq!(console.get_as(READER, &format!("/runs/{first}")).await.count("#rewind"), 0);
    let page = console.get(&format!("/runs/{first}")).await;
    assert_eq!(page.count(&format!("form[action='{path}']")), 1);
    assert!(page.text("#rewind").contains("its next reading brings its present state back"));
    let answer = console.post(&path, &[]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text("#error-summary"));
    let run: i64 = answer.location.rsplit('/').next().and_then(|id| id.parse().ok()).expect("the run's page");
    assert_eq!(ended(&console, run).await, "parked");
    let json = console.api_get(&format!("/api/runs/{run}")).await.json();
    assert_eq!((&json["mode"], &json["rewindTo"]), (&json!("rewind"), &json!(first.to_string())));
    assert_eq!((&json["trips"][0]["code"], &json["counts"]["changed"]), (&json!("rewind"), &json!(1)));
    let page = console.get(&format!("/runs/{run}")).await;
    assert!(page.text(".notice--warning").contains(&format!("right after run {first}")), "{}", page.text(".notice"));
    assert!(page.text("#lines").contains("Anna Berg"));
    // The note stands apart from the figures above it.
    assert!(page.text("p.section").contains(&format!("right after run {first}")), "{}", page.text("p.section"));
    assert!(page.text(".notice--warning").contains("For a day the directory is not read on schedule"));
    let name = "SELECT count(*) FROM identity WHERE display_name = 'Anna Dahl' AND sort_key = 'anna dahl'";
    assert_eq!(console.count(name).await, 1, "nothing has taken effect");
    let answer = console.api(&format!("/api/runs/{run}/approve"), &json!({"reason": "Renamed by mistake."})).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    assert_eq!(ended(&console, run).await, "applied");
    let name = "SELECT count(*) FROM identity WHERE display_name = 'Anna Berg' AND sort_key = 'anna berg'";
    assert_eq!(console.count(name).await, 1);
    assert_eq!(console.count("SELECT count(*) FROM object WHERE source = zeroblob(16)").await, 1, "is looked at again");
    assert_eq!(console.count("SELECT count(*) FROM directory WHERE watermark IS NULL").await, 1, "all is read next");
    let shows = console.count("SELECT applied_at FROM directory").await;
    assert_eq!(Time(shows), read_at, "the copy says how old it is");
    for (kind, detail) in [
        ("audit.run_started.v1", format!("\"toRun\":\"{first}\"")),
        ("audit.run_planned.v1", format!("\"toRun\":\"{first}\"")),
        ("audit.run_parked.v1", "\"rewind\"".to_owned()),
        ("audit.run_approved.v1", "Renamed by mistake.".to_owned()),
        ("audit.run_applied.v1", "\"changed\":1".to_owned()),
    ] {
        let sql = "SELECT count(*) FROM audit_record WHERE type = ?1 AND instr(details, ?2)";
        let found: i64 = console
            .kernel
            .db
            .read(move |c| Ok(c.query_row(sql, [kind, &detail], |row| row.get(0))?))
            .await
            .expect("a number");
        assert_eq!(found, 1, "{kind}");
    }
}

#[actix_web::test]
async fn a_rewind_that_was_interrupted_or_goes_too_far_back_changes_nothing() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let first = named(&console, id, None, "Anna Berg").await;
    named(&console, id, Some("Anna Berg"), "Anna Dahl").await;
    // As if the process had ended while it was planned: it is not read from the directory instead.
    let run = console.run(id, false, move |c, run| queries::set_rewind_to(c, run, first)).await;
    console.runner.resume().await.expect("resumed");
    assert_eq!(ended(&console, run).await, "failed");
    assert_eq!(console.count("SELECT count(*) FROM run").await, 3, "no other run was started");
    let edge = console.kernel.clock.now();
    console
        .kernel
        .db
        .write(move |c| {
            let sql = "INSERT INTO history_edge (account_id, from_at) VALUES (?1, ?2)";
            Ok(c.execute(sql, rusqlite::params![account(), edge])?)
        })
        .await
        .expect("an edge");
    let answer = console.api(&format!("/api/directories/{id}/rewind"), &json!({"toRun": first.to_string()})).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
    let answer = console.post(&format!("/runs/{first}/rewind"), &[]).await;
    assert!(answer.text("#error-summary").contains("kept from"), "{}", answer.text("#error-summary"));
}
