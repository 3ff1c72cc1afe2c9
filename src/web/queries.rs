//! All SQL of the request road: the requests that carried an `Idempotency-Key`.

use rusqlite::{Connection, OptionalExtension, params};

use crate::{clock::Time, error::Result};

/// A request as remembered.
pub(super) struct Remembered {
    pub request: Vec<u8>,
    pub created_at: Time,
    pub began_at: Time,
    pub has_changed: bool,
    pub answer: Option<Vec<u8>>,
}

pub(super) fn find(connection: &Connection, id: &[u8]) -> Result<Option<Remembered>> {
    Ok(connection
        .prepare_cached("SELECT request, created_at, began_at, has_changed, answer FROM idempotency_key WHERE id = ?1")?
        .query_row([id], |row| {
            Ok(Remembered {
                request: row.get(0)?,
                created_at: row.get(1)?,
                began_at: row.get(2)?,
                has_changed: row.get(3)?,
                answer: row.get(4)?,
            })
        })
        .optional()?)
}

pub(super) fn insert(connection: &Connection, id: &[u8], principal: &str, request: &[u8], now: Time) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO idempotency_key (id, principal, request, created_at, began_at) VALUES (?1, ?2, ?3, ?4, ?4)",
        )?
        .execute(params![id, principal, request, now])?;
    Ok(())
}

pub(super) fn begin_again(connection: &Connection, id: &[u8], now: Time) -> Result<()> {
    connection.prepare_cached("UPDATE idempotency_key SET began_at = ?2 WHERE id = ?1")?.execute(params![id, now])?;
    Ok(())
}

pub(super) fn set_changed(connection: &Connection, id: &[u8]) -> Result<()> {
    connection.prepare_cached("UPDATE idempotency_key SET has_changed = 1 WHERE id = ?1")?.execute([id])?;
    Ok(())
}

pub(super) fn set_answer(connection: &Connection, id: &[u8], answer: &[u8]) -> Result<()> {
    connection
        .prepare_cached("UPDATE idempotency_key SET answer = ?2, answer_bytes = length(?2) WHERE id = ?1")?
        .execute(params![id, answer])?;
    Ok(())
}

pub(super) fn delete(connection: &Connection, id: &[u8]) -> Result<()> {
    connection.prepare_cached("DELETE FROM idempotency_key WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// How many a principal has, and the bytes of their answers.
pub(super) fn held(connection: &Connection, principal: &str) -> Result<(i64, i64)> {
    Ok(connection
        .prepare_cached("SELECT count(*), coalesce(sum(answer_bytes), 0) FROM idempotency_key WHERE principal = ?1")?
        .query_row([principal], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// Forgets the oldest answers of a principal, but not that there was a request.
pub(super) fn forget_answers(connection: &Connection, principal: &str, number: i64) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE idempotency_key SET answer = NULL, answer_bytes = 0 WHERE id IN
                (SELECT id FROM idempotency_key WHERE principal = ?1 AND answer_bytes > 0 ORDER BY created_at LIMIT ?2)",
        )?
        .execute(params![principal, number])?;
    Ok(())
}

/// Deletes the oldest requests of a principal that were answered and changed nothing; answers how many.
pub(super) fn delete_unchanged(connection: &Connection, principal: &str, number: i64) -> Result<usize> {
    Ok(connection
        .prepare_cached(
            "DELETE FROM idempotency_key WHERE id IN
                (SELECT id FROM idempotency_key WHERE principal = ?1 AND has_changed = 0 AND answer IS NOT NULL
                 ORDER BY created_at LIMIT ?2)",
        )?
        .execute(params![principal, number])?)
}

/// Forgets what was asked before `before`, the oldest first, a bounded number at a time.
pub(super) fn delete_before(connection: &Connection, before: Time) -> Result<usize> {
    Ok(connection
        .prepare_cached(
            "DELETE FROM idempotency_key WHERE id IN
                (SELECT id FROM idempotency_key WHERE created_at <= ?1 ORDER BY created_at LIMIT 1000)",
        )?
        .execute([before])?)
}

#[cfg(test)]
mod tests {
    use crate::db::Db;

    #[test]
    fn every_query_walks_an_index() {
        let dir = tempfile::tempdir().expect("a folder");
        let db = Db::open(&Db::file(dir.path()), true).expect("a database");
        db.read_blocking(|c| {
            for (sql, expected) in [
                ("SELECT request FROM idempotency_key WHERE id = x'00'", "sqlite_autoindex_idempotency_key_1"),
                (
                    "SELECT count(*), sum(answer_bytes) FROM idempotency_key WHERE principal = 'x'",
                    "COVERING INDEX idempotency_key_by_principal",
                ),
                (
                    "SELECT id FROM idempotency_key WHERE principal = 'x' AND answer_bytes > 0 ORDER BY created_at LIMIT 2",
                    "idempotency_key_by_principal",
                ),
                (
                    "SELECT id FROM idempotency_key WHERE principal = 'x' AND has_changed = 0 AND answer IS NOT NULL
                     ORDER BY created_at LIMIT 2",
                    "idempotency_key_by_principal",
                ),
                (
                    "SELECT id FROM idempotency_key WHERE created_at <= 1 ORDER BY created_at LIMIT 3",
                    "idempotency_key_by_age",
                ),
            ] {
                let mut statement = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                let plan: Vec<String> = statement.query_map([], |row| row.get(3))?.collect::<rusqlite::Result<_>>()?;
                assert!(plan.iter().all(|step| step.starts_with("SEARCH") && step.contains(expected)), "{sql}: {plan:?}");
            }
            Ok(())
        })
        .expect("planned");
    }
}
