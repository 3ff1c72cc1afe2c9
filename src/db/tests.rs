//! The database room's own tests: lanes, savepoints, refusal of newer files.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::*;

fn open() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().expect("a folder");
    let db = Db::open(&Db::file(dir.path()), true).expect("a database");
    db.write_blocking(|c| Ok(c.execute_batch("CREATE TABLE t (n INTEGER) STRICT")?)).expect("a table");
    (dir, db)
}

fn count(db: &Db) -> i64 {
    db.read_blocking(|c| Ok(c.query_row("SELECT count(*) FROM t", [], |r| r.get(0))?)).expect("a count")
}

#[test]
fn a_failed_or_panicking_write_undoes_only_itself() {
    let (_dir, db) = open();
    std::thread::scope(|scope| {
        for i in 0..40_i64 {
            let db = &db;
            scope.spawn(move || {
                let result = db.write_blocking(move |c| {
                    c.execute("INSERT INTO t VALUES (?1)", [i])?;
                    match i % 4 {
                        0 => Err(Error::Conflict("no".into())),
                        1 => panic!("on purpose"),
                        _ => Ok(()),
                    }
                });
                assert_eq!(result.is_ok(), i % 4 > 1);
            });
        }
    });
    assert_eq!(count(&db), 20);
}

#[test]
fn interactive_writes_go_before_waiting_bulk_chunks() {
    let (_dir, db) = open();
    let order = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(std::sync::Barrier::new(2));
    let first = {
        let gate = gate.clone();
        db.bulk_queued(move |_| {
            gate.wait();
            Ok(())
        })
        .expect("queued")
    };
    let place = |order: &Arc<AtomicUsize>| {
        let order = order.clone();
        move |_: &Connection| Ok(order.fetch_add(1, Ordering::SeqCst))
    };
    let bulk: Vec<_> = (0..5).map(|_| db.bulk_queued(place(&order)).expect("queued")).collect();
    let interactive = db.writer.submit(writer::Lane::Interactive, place(&order)).expect("queued");
    gate.wait();
    first.blocking_recv().expect("answer").expect("ok");
    assert_eq!(interactive.blocking_recv().expect("answer").expect("ok"), 0, "before every bulk chunk");
    for chunk in bulk {
        chunk.blocking_recv().expect("answer").expect("ok");
    }
}

#[test]
fn what_was_answered_is_there_after_reopening() {
    let (dir, db) = open();
    for i in 0..10_i64 {
        db.write_blocking(move |c| Ok(c.execute("INSERT INTO t VALUES (?1)", [i])?)).expect("written");
    }
    drop(db);
    let db = Db::open(&Db::file(dir.path()), false).expect("opens");
    assert_eq!(count(&db), 10);
}

#[test]
fn a_reader_cannot_write() {
    let (_dir, db) = open();
    let result = db.read_blocking(|c| Ok(c.execute("INSERT INTO t VALUES (1)", [])?));
    assert!(result.is_err());
    assert_eq!(count(&db), 0);
}

#[test]
fn a_newer_database_and_a_damaged_one_are_refused() {
    let (dir, db) = open();
    let path = Db::file(dir.path());
    db.write_blocking(|c| Ok(c.pragma_update(None, "user_version", SCHEMA_VERSION + 1)?)).expect("written");
    drop(db);
    assert!(matches!(Db::open(&path, true), Err(OpenError::Newer { .. })));
    std::fs::write(&path, b"this is not a database, and it is longer than one header ".repeat(20)).expect("written");
    let _ = std::fs::remove_file(path.with_extension("db-wal"));
    let _ = std::fs::remove_file(path.with_extension("db-shm"));
    assert!(matches!(Db::open(&path, true), Err(OpenError::Damaged { .. })));
    assert!(matches!(Db::open(&dir.path().join("absent.db"), false), Err(OpenError::Absent { .. })));
}

#[test]
fn a_long_write_goes_on_step_by_step_and_lets_people_through() {
    let (_dir, db) = open();
    let (inner, mut steps) = (db.clone(), 0);
    let mut waiting = None;
    let done = db
        .bulk_steps_blocking(move |c| {
            steps += 1;
            c.execute("INSERT INTO t VALUES (?1)", [steps])?;
            if steps == 3 {
                let inner_count =
                    |c: &Connection| Ok(c.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0))?);
                waiting = Some(inner.writer.submit(writer::Lane::Interactive, inner_count)?);
            }
            Ok(if steps < 50 { Step::More } else { Step::Done((steps, waiting.take())) })
        })
        .expect("done");
    let (steps, waiting) = done;
    assert_eq!((steps, count(&db)), (50, 50));
    let seen = waiting.expect("asked").blocking_recv().expect("answer").expect("ok");
    assert_eq!(seen, 3, "the interactive write ran between two steps, right after it was asked for");
}

#[test]
fn a_step_that_fails_undoes_itself_and_keeps_the_transactions_before() {
    let (_dir, db) = open();
    let mut steps = 0_i64;
    let other = db.clone();
    let failed: Result<()> = db.bulk_steps_blocking(move |c| {
        steps += 1;
        c.execute("INSERT INTO t VALUES (?1)", [steps])?;
        if steps == 3 {
            // Somebody waits: the transaction ends after this step.
            let waiting = other.clone();
            std::thread::spawn(move || waiting.write_blocking(|_| Ok(())));
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        if steps == 5 { Err(Error::Conflict("no".into())) } else { Ok(Step::More) }
    });
    assert!(matches!(failed, Err(Error::Conflict(_))), "its own error is the answer");
    assert_eq!(count(&db), 3);
}

#[test]
fn sqlite_is_compiled_as_the_project_says() {
    let (_dir, db) = open();
    let options = db.read_blocking(|c| {
        let mut statement = c.prepare("SELECT compile_options FROM pragma_compile_options")?;
        let options = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        Ok(options)
    });
    let options = options.expect("options");
    for wanted in ["DEFAULT_MEMSTATUS=0", "DQS=0", "OMIT_LOAD_EXTENSION"] {
        assert!(options.iter().any(|option| option == wanted), "{wanted} is lacking (.cargo/config.toml): {options:?}");
    }
    assert!(!options.iter().any(|option| option == "ENABLE_API_ARMOR"), "{options:?}");
}

#[test]
fn people_are_noticed_where_they_wait_behind_a_bulk_write_and_only_there() {
    let (_dir, db) = open();
    db.write_blocking(|c| Ok(c.execute("INSERT INTO t VALUES (1)", [])?)).expect("nobody in the way");
    assert!(!db.is_among_people());
    let (started, has_started) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel();
    let part = db.bulk_part(&Share::new(), move |_| {
        started.send(()).expect("somebody listens");
        released.recv().map_err(|e| Error::caused("nobody lets go", e))
    });
    has_started.recv().expect("started");
    let waiting = db.writer.submit(writer::Lane::Interactive, |c| Ok(c.execute("INSERT INTO t VALUES (2)", [])?));
    release.send(()).expect("somebody waits");
    part.expect("queued").blocking_recv().expect("answered").expect("ran");
    waiting.expect("queued").blocking_recv().expect("answered").expect("written");
    assert!(db.is_among_people());
}

#[test]
fn parts_of_one_write_fail_together_and_nobody_else_with_them() {
    let (_dir, db) = open();
    let (ours, theirs) = (Share::new(), Share::new());
    let insert = |number: i64| move |c: &rusqlite::Connection| Ok(c.execute("INSERT INTO t VALUES (?1)", [number])?);
    // While the writer is busy with this one, the others gather behind it.
    let busy = db.bulk_queued(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        Ok(())
    });
    let first = db.bulk_part(&ours, insert(1)).expect("queued");
    let wrong = db.bulk_part(&ours, |_| Err::<usize, _>(Error::Conflict("no".into()))).expect("queued");
    let late = db.bulk_part(&ours, insert(4)).expect("queued");
    let other = db.bulk_part(&theirs, insert(2)).expect("queued");
    let last = db.bulk_part(&theirs, insert(3)).expect("queued");
    busy.expect("queued").blocking_recv().expect("answered").expect("done");
    assert_eq!(first.blocking_recv().expect("answered").expect("ran"), 1, "its maker may go on");
    assert!(matches!(wrong.blocking_recv().expect("answered"), Err(Error::Conflict(_))));
    assert!(late.blocking_recv().expect("answered").is_err(), "nothing follows a part that failed");
    assert!(db.bulk_end_blocking(&ours).is_err(), "not all of it was kept");
    assert!(db.bulk_part(&ours, insert(5)).expect("queued").blocking_recv().expect("answered").is_err());
    for kept in [other, last] {
        assert_eq!(kept.blocking_recv().expect("answered").expect("kept"), 1);
    }
    db.bulk_end_blocking(&theirs).expect("all of it was kept");
    assert_eq!(count(&db), 2);
}

#[test]
fn parts_are_answered_before_their_transaction_ends_and_can_be_read_after_their_end() {
    let (_dir, db) = open();
    let share = Share::new();
    let insert = |c: &rusqlite::Connection| Ok(c.execute("INSERT INTO t VALUES (1)", [])?);
    for _ in 0..3 {
        db.bulk_part(&share, insert).expect("queued").blocking_recv().expect("answered").expect("ran");
    }
    assert_eq!(count(&db), 0, "the transaction waits for more of the same");
    db.bulk_end_blocking(&share).expect("kept");
    assert_eq!(count(&db), 3);
}

#[test]
fn a_person_does_not_wait_for_parts_that_may_come() {
    let (_dir, db) = open();
    let share = Share::new();
    let part = db.bulk_part(&share, |c| Ok(c.execute("INSERT INTO t VALUES (1)", [])?)).expect("queued");
    part.blocking_recv().expect("answered").expect("ran");
    let seen = db.write_blocking(|c| Ok(c.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0))?));
    assert_eq!(seen.expect("written"), 1);
    assert_eq!(count(&db), 1, "what had gathered was committed first");
}

/// Pages of the log, as the file on disk shows.
fn log_pages(dir: &tempfile::TempDir) -> u64 {
    let bytes = std::fs::metadata(dir.path().join("bailiwick.db-wal")).map_or(0, |file| file.len());
    bytes / 16_408
}

#[test]
fn the_log_stays_bounded_though_bulk_writes_never_pause() {
    let (dir, db) = open();
    let share = Share::new();
    // 1.25 GB, five times what the log may hold: the same pages again and again.
    for _ in 0..1_250 {
        let part = db.bulk_part(&share, |c| {
            c.execute_batch("CREATE TABLE IF NOT EXISTS wide (id INTEGER PRIMARY KEY, bytes BLOB) STRICT")?;
            for id in 1..=50 {
                c.execute("INSERT OR REPLACE INTO wide VALUES (?1, randomblob(20000))", [id])?;
            }
            Ok(())
        });
        part.expect("queued").blocking_recv().expect("answered").expect("ran");
    }
    db.bulk_end_blocking(&share).expect("kept");
    assert!(log_pages(&dir) <= 16_384 + 4_096, "{} pages", log_pages(&dir));
}
