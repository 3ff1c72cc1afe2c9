//! The chain: what verify must see.

use std::path::Path;

use super::*;
use crate::{
    clock::{Clock, Time},
    config::Layer,
    db::Db,
    principal::AccountId,
    secret::MasterKey,
};

fn kernel(dir: &Path) -> Kernel {
    let config = Layer { data_dir: Some(dir.to_owned()), ..Layer::default() }.finish().expect("a configuration");
    Kernel {
        db: Db::open(&Db::file(dir), true).expect("a database"),
        clock: Clock::fixed(Time::parse("2026-03-03T09:00:00Z").expect("a time")),
        key: MasterKey::create(&dir.join("master.key")).expect("a key").into(),
        config: config.into(),
    }
}

fn principal() -> Principal {
    Principal::command_line("default", AccountId::new(AccountId::MIN), "root")
}

fn filled(records: usize) -> (tempfile::TempDir, Kernel) {
    let dir = tempfile::tempdir().expect("a folder");
    let kernel = kernel(dir.path());
    for i in 0..records {
        change_blocking(&kernel, &principal(), move |_| {
            let entry = Entry::new("audit.test_done.v1").subject(format!("urn:{i}")).changes(
                serde_json::json!({"name": "a", "same": 1}),
                serde_json::json!({"name": format!("b{i}"), "same": 1}),
            );
            Ok(((), vec![entry]))
        })
        .expect("written");
    }
    (dir, kernel)
}

fn findings(kernel: &Kernel) -> Vec<String> {
    kernel
        .db
        .read_blocking(|c| verify(c, &kernel.key))
        .expect("verified")
        .findings
        .into_iter()
        .map(|finding| finding.message)
        .collect()
}

fn tamper(kernel: &Kernel, sql: &'static str) {
    kernel.db.write_blocking(move |c| Ok(c.execute_batch(sql)?)).expect("tampered");
}

#[test]
fn an_untouched_log_verifies_and_an_empty_one_too() {
    assert_eq!(findings(&filled(0).1), Vec::<String>::new());
    assert_eq!(findings(&filled(25).1), Vec::<String>::new());
}

#[test]
fn every_kind_of_tampering_is_found_and_named() {
    for (sql, expected) in [
        ("UPDATE audit_record SET details = '{}' WHERE seq = 5", "record 5 was edited"),
        ("UPDATE audit_record SET at = at + 1 WHERE seq = 6", "record 6 was edited"),
        ("UPDATE audit_record SET principal_urn = 'urn:x' WHERE seq = 1", "record 1 was edited"),
        ("UPDATE audit_record SET address = '' WHERE seq = 7", "record 7 was edited"),
        ("UPDATE audit_record SET hash = zeroblob(32) WHERE seq = 7", "record 7 was edited"),
        ("DELETE FROM audit_record WHERE seq = 5", "record 5 was removed"),
        ("DELETE FROM audit_record WHERE seq IN (5, 6, 7)", "records 5 to 7 were removed"),
        ("DELETE FROM audit_record WHERE seq = 1", "record 1 was removed"),
        ("DELETE FROM audit_record WHERE seq > 8", "the newest records were removed"),
        ("DELETE FROM audit_record", "the newest records were removed"),
        ("DELETE FROM audit_head", "the head of the log is missing"),
        (
            "UPDATE audit_head SET seq = 9, hash = (SELECT hash FROM audit_record WHERE seq = 9)",
            "the head of the log was edited",
        ),
        // Two records change places.
        (
            "UPDATE audit_record SET seq = 100 WHERE seq = 3; UPDATE audit_record SET seq = 3 WHERE seq = 4;
             UPDATE audit_record SET seq = 4 WHERE seq = 100",
            "record 3 was edited",
        ),
        // A copy of a real record appended as a new one.
        (
            "INSERT INTO audit_record SELECT 11, id || 'x', at, type, account_id, principal_urn, subject_urn, address,
             request_id, result, details, prev_hash, hash FROM audit_record WHERE seq = 10",
            "record 11 was edited",
        ),
    ] {
        let (_dir, kernel) = filled(10);
        tamper(&kernel, sql);
        let findings = findings(&kernel);
        assert!(findings.iter().any(|message| message.contains(expected)), "{sql}: {findings:?}");
    }
}

#[test]
fn a_well_formed_record_written_by_somebody_else_is_found_by_the_head() {
    let (dir, kernel) = filled(3);
    // The forger has the database and knows the format, but not the master key.
    let forger =
        Kernel { key: MasterKey::create(&dir.path().join("other.key")).expect("a key").into(), ..kernel.clone() };
    change_blocking(&forger, &principal(), |_| Ok(((), vec![Entry::new("audit.test_done.v1")]))).expect("written");
    assert!(findings(&kernel).iter().any(|message| message.contains("head of the log was edited")));
}

#[test]
fn a_failed_change_leaves_no_record_and_a_record_no_change() {
    let (_dir, kernel) = filled(2);
    let result: Result<()> = change_blocking(&kernel, &principal(), |c| {
        c.execute_batch("CREATE TABLE half_done (n INTEGER)")?;
        Err(crate::error::Error::Conflict("no".into()))
    });
    assert!(result.is_err());
    let (records, tables): (i64, i64) = kernel
        .db
        .read_blocking(|c| {
            Ok(c.query_row(
                "SELECT (SELECT count(*) FROM audit_record), (SELECT count(*) FROM sqlite_schema WHERE name = 'half_done')",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?)
        })
        .expect("counted");
    assert_eq!((records, tables), (2, 0));
}

#[test]
fn only_differing_fields_are_kept() {
    let entry = Entry::new("audit.test_done.v1")
        .changes(serde_json::json!({"a": 1, "b": 2, "gone": "x"}), serde_json::json!({"a": 1, "b": 3, "new": "y"}));
    let changes = entry.details["changes"].as_object().expect("changes");
    assert_eq!(changes.keys().collect::<Vec<_>>(), ["b", "gone", "new"]);
}

#[test]
fn every_filter_of_the_list_walks_an_index() {
    let (_dir, kernel) = filled(1);
    let choices = |one: &str| [None, Some(one.to_owned())];
    kernel
        .db
        .read_blocking(|c| {
            for kind in choices("audit.test_done.v1") {
                for principal in choices("urn:p") {
                    for subject in choices("urn:s") {
                        for result in [None, Some("failure".to_owned()), Some("success".to_owned())] {
                            let (kind, principal, subject) = (kind.clone(), principal.clone(), subject.clone());
                            let filter = queries::Filter { kind, principal, subject, result, from: None, to: None };
                            let plan = queries::plan_of(c, &filter);
                            let is_walk =
                                |step: &String| step.starts_with("SEARCH") && step.contains("INDEX audit_by_");
                            assert!(plan.len() == 3 && plan.iter().all(is_walk), "{filter:?}: {plan:?}");
                            // What is narrowed by an equality is never read through from the account's first record on.
                            let is_narrowed = filter.subject.is_some()
                                || filter.principal.is_some()
                                || filter.kind.is_some()
                                || filter.result.as_deref() == Some("failure");
                            let walks_all = plan.iter().any(|step| step.contains("INDEX audit_by_account "));
                            assert_eq!(is_narrowed, !walks_all, "{filter:?}: {plan:?}");
                        }
                    }
                }
            }
            Ok(())
        })
        .expect("planned");
}
