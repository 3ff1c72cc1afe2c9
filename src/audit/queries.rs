//! All SQL of the audit room.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::model::Record;
use crate::{clock::Time, error::Result, principal::AccountId, secret};

pub(super) fn newest(connection: &Connection) -> Result<Option<(i64, Vec<u8>)>> {
    Ok(connection
        .prepare_cached("SELECT seq, hash FROM audit_record ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// The number of an account's newest record; 0 when there is none.
pub fn newest_of(connection: &Connection, account: AccountId) -> Result<i64> {
    Ok(connection
        .prepare_cached("SELECT coalesce(max(seq), 0) FROM audit_record WHERE account_id = ?1")?
        .query_row([account], |row| row.get(0))?)
}

pub(super) fn insert(connection: &Connection, record: &Record) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO audit_record (seq, id, at, type, account_id, principal_urn, subject_urn, address, request_id,
                                       result, details, prev_hash, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            record.seq,
            record.id,
            record.time,
            record.kind,
            record.account_id,
            record.principal_urn,
            record.subject_urn,
            record.address,
            record.request_id,
            record.result,
            record.details_text,
            record.prev_hash_bytes,
            record.hash_bytes,
        ])?;
    Ok(())
}

pub(super) fn set_head(connection: &Connection, seq: i64, hash: &[u8], mac: &[u8]) -> Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO audit_head (id, seq, hash, mac) VALUES (1, ?1, ?2, ?3)")?
        .execute(params![seq, hash, mac])?;
    Ok(())
}

/// Sequence number, hash and keyed hash of the newest record.
type Head = (i64, Vec<u8>, Vec<u8>);

/// What the head remembers of the newest record.
pub(super) fn head(connection: &Connection) -> Result<Option<Head>> {
    Ok(connection
        .query_row("SELECT seq, hash, mac FROM audit_head WHERE id = 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?)
}

const COLUMNS: &str = "seq, id, at, type, account_id, principal_urn, subject_urn, address, request_id, result, details,
                       prev_hash, hash";

fn read(row: &Row<'_>) -> rusqlite::Result<Record> {
    let details_text: String = row.get(10)?;
    let (prev_hash_bytes, hash_bytes): (Vec<u8>, Vec<u8>) = (row.get(11)?, row.get(12)?);
    Ok(Record {
        seq: row.get(0)?,
        id: row.get(1)?,
        time: row.get(2)?,
        kind: row.get(3)?,
        account_id: row.get(4)?,
        principal_urn: row.get(5)?,
        subject_urn: row.get(6)?,
        address: row.get(7)?,
        request_id: row.get(8)?,
        result: row.get(9)?,
        details: serde_json::from_str(&details_text).unwrap_or(serde_json::Value::Null),
        details_text,
        prev_hash: secret::encode_hex(&prev_hash_bytes),
        hash: secret::encode_hex(&hash_bytes),
        prev_hash_bytes,
        hash_bytes,
    })
}

/// What a list of records is narrowed to.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) kind: Option<String>,
    pub(super) principal: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) result: Option<String>,
    pub(super) from: Option<Time>,
    pub(super) to: Option<Time>,
}

const LAST_UNTIL: &str = "SELECT max(seq) FROM audit_record WHERE account_id = ?1 AND at <= ?2";
const FIRST_SINCE: &str = "SELECT min(seq) FROM audit_record WHERE account_id = ?1 AND at >= ?2";

/// The statement that a list is read by.
fn list_sql(filter: &Filter) -> String {
    // The narrowest filter chooses the index, and by name: SQLite thinks no better of one that holds the few rows with a
    // subject, or with a failure, than of the one with all rows of the account.
    let narrowed = match (&filter.subject, &filter.principal, &filter.kind, &filter.result) {
        (Some(_), ..) => {
            "audit_record INDEXED BY audit_by_subject
             WHERE subject_urn = ?4 AND (?5 IS NULL OR principal_urn = ?5) AND (?6 IS NULL OR type = ?6)
               AND (?7 IS NULL OR result = ?7)"
        }
        (None, Some(_), ..) => {
            "audit_record INDEXED BY audit_by_principal
             WHERE ?4 IS NULL AND principal_urn = ?5 AND (?6 IS NULL OR type = ?6) AND (?7 IS NULL OR result = ?7)"
        }
        (None, None, Some(_), _) => {
            "audit_record INDEXED BY audit_by_type
             WHERE ?4 IS NULL AND ?5 IS NULL AND type = ?6 AND (?7 IS NULL OR result = ?7)"
        }
        (None, None, None, Some(result)) if result != "success" => {
            "audit_record INDEXED BY audit_by_result
             WHERE ?4 IS NULL AND ?5 IS NULL AND ?6 IS NULL AND result = ?7 AND result <> 'success'"
        }
        _ => {
            "audit_record INDEXED BY audit_by_account
             WHERE ?4 IS NULL AND ?5 IS NULL AND ?6 IS NULL AND (?7 IS NULL OR result = ?7)"
        }
    };
    format!(
        "SELECT {COLUMNS} FROM {narrowed} AND account_id = ?1 AND seq >= ?2 AND seq < ?3 ORDER BY seq DESC LIMIT ?8"
    )
}

/// Up to `limit` records of an account, newest first, before sequence number `before`.
pub(super) fn list(
    connection: &Connection,
    account: AccountId,
    filter: &Filter,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<Record>> {
    // Times become sequence numbers first: then every combination of filters walks one index by seq.
    let upper = match filter.to {
        Some(to) => connection
            .prepare_cached(LAST_UNTIL)?
            .query_row(params![account, to], |row| row.get::<_, Option<i64>>(0))?
            .unwrap_or(0)
            .saturating_add(1),
        None => i64::MAX,
    };
    let lower = match filter.from {
        Some(from) => connection
            .prepare_cached(FIRST_SINCE)?
            .query_row(params![account, from], |row| row.get::<_, Option<i64>>(0))?
            .unwrap_or(i64::MAX),
        None => 0,
    };
    let upper = upper.min(before.unwrap_or(i64::MAX));
    let mut statement = connection.prepare_cached(&list_sql(filter))?;
    let rows = statement.query_map(
        params![account, lower, upper, filter.subject, filter.principal, filter.kind, filter.result, limit],
        read,
    )?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// How SQLite walks to a list, by each of its statements.
#[cfg(test)]
pub(super) fn plan_of(connection: &Connection, filter: &Filter) -> Vec<String> {
    let steps = |sql: &str| -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
        let unknown = vec![None::<i64>; statement.parameter_count()];
        statement.query_map(rusqlite::params_from_iter(unknown), |row| row.get(3))?.collect()
    };
    let statements = [LAST_UNTIL.to_owned(), FIRST_SINCE.to_owned(), list_sql(filter)];
    statements.iter().flat_map(|sql| steps(sql).expect("a plan")).collect()
}

pub(super) fn find(connection: &Connection, account: AccountId, id: &str) -> Result<Option<Record>> {
    let sql = format!("SELECT {COLUMNS} FROM audit_record WHERE account_id = ?1 AND id = ?2");
    Ok(connection.prepare_cached(&sql)?.query_row(params![account, id], read).optional()?)
}

/// The kinds of record that an account has, for the filter's list.
pub(super) fn kinds(connection: &Connection, account: AccountId) -> Result<Vec<String>> {
    // A skip scan by hand: one index probe per kind, however long the log is.
    let mut statement = connection
        .prepare_cached("SELECT type FROM audit_record WHERE account_id = ?1 AND type > ?2 ORDER BY type LIMIT 1")?;
    let mut kinds: Vec<String> = Vec::new();
    while let Some(kind) =
        statement.query_row(params![account, kinds.last().map_or("", String::as_str)], |row| row.get(0)).optional()?
    {
        kinds.push(kind);
    }
    Ok(kinds)
}

/// Every record in the order of the chain.
pub(super) fn each(connection: &Connection, mut visit: impl FnMut(Record)) -> Result<()> {
    let sql = format!("SELECT {COLUMNS} FROM audit_record ORDER BY seq");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        visit(read(row)?);
    }
    Ok(())
}
