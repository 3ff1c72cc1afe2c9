//! Lists as of a time: which objects stood in one, and in which order.
//!
//! Owns the walks over `past` and over what is there now, side by side. How an object looked is `past`'s business, and
//! whether a time may be asked for at all. Reads only.

use std::{cmp::Reverse, collections::BinaryHeap};

use rusqlite::{Connection, Rows, params};

use super::{
    model::{Accounts, ObjectId, SubjectType, account_type_of},
    queries::{self, Filter, Position},
};
use crate::{clock::Time, error::Result, principal::AccountId};

/// The objects of one directory in the order of their names, now and in the past, after a position: name, id, and
/// whether that is how it stood at the time. One literal for each way, because each walks another index.
fn walks(subject: SubjectType, status: Option<&str>) -> [&'static str; 2] {
    match (subject, status) {
        (SubjectType::Identity, None) => [
            "SELECT sort_key, id, listed_since_at <= ?2 AND ?5 IS NULL FROM identity INDEXED BY identity_by_directory
             WHERE directory_id = ?1 AND removed_at IS NULL AND (sort_key, id) > (?3, ?4) ORDER BY sort_key, id",
            "SELECT sort_key, object_id, until_at > ?2 AND since_at <= ?2 AND ?5 IS NULL
             FROM past INDEXED BY past_by_directory
             WHERE directory_id = ?1 AND kind = 1 AND (sort_key, object_id) > (?3, ?4) ORDER BY sort_key, object_id",
        ],
        (SubjectType::Identity, Some("active")) => [
            "SELECT sort_key, id, listed_since_at <= ?2 AND status = ?5 FROM identity INDEXED BY identity_by_directory
             WHERE directory_id = ?1 AND removed_at IS NULL AND (sort_key, id) > (?3, ?4) ORDER BY sort_key, id",
            "SELECT sort_key, object_id, until_at > ?2 AND since_at <= ?2 AND status = ?5
             FROM past INDEXED BY past_by_directory
             WHERE directory_id = ?1 AND kind = 1 AND (sort_key, object_id) > (?3, ?4) ORDER BY sort_key, object_id",
        ],
        (SubjectType::Identity, Some("missing")) => [
            "SELECT sort_key, id, listed_since_at <= ?2 AND ?5 IS NOT NULL
             FROM identity INDEXED BY identity_missing_in_directory
             WHERE directory_id = ?1 AND removed_at IS NULL AND missing_since_at IS NOT NULL
               AND (sort_key, id) > (?3, ?4) ORDER BY sort_key, id",
            "SELECT sort_key, object_id, until_at > ?2 AND since_at <= ?2 AND ?5 IS NOT NULL
             FROM past INDEXED BY past_missing_in_directory
             WHERE directory_id = ?1 AND kind = 1 AND missing_since_at IS NOT NULL
               AND (sort_key, object_id) > (?3, ?4) ORDER BY sort_key, object_id",
        ],
        (SubjectType::Identity, Some(_)) => [
            "SELECT sort_key, id, listed_since_at <= ?2 FROM identity INDEXED BY identity_by_directory_status
             WHERE directory_id = ?1 AND removed_at IS NULL AND status <> 'active' AND status = ?5
               AND (sort_key, id) > (?3, ?4) ORDER BY sort_key, id",
            "SELECT sort_key, object_id, until_at > ?2 AND since_at <= ?2 FROM past INDEXED BY past_by_directory_status
             WHERE directory_id = ?1 AND status <> 'active' AND status = ?5
               AND (sort_key, object_id) > (?3, ?4) ORDER BY sort_key, object_id",
        ],
        (SubjectType::Group, _) => [
            "SELECT sort_key, id, listed_since_at <= ?2 AND ?5 IS NULL FROM directory_group INDEXED BY group_by_directory
             WHERE directory_id = ?1 AND removed_at IS NULL AND (sort_key, id) > (?3, ?4) ORDER BY sort_key, id",
            "SELECT sort_key, object_id, until_at > ?2 AND since_at <= ?2 AND ?5 IS NULL
             FROM past INDEXED BY past_by_directory
             WHERE directory_id = ?1 AND kind = 2 AND (sort_key, object_id) > (?3, ?4) ORDER BY sort_key, object_id",
        ],
    }
}

/// Directories of an account that were seen at a time, narrowed to one when a filter says so.
pub(super) fn directories(connection: &Connection, account: AccountId, filter: &Filter, at: Time) -> Result<Vec<i64>> {
    let mut ids = queries::directories_seen(connection, account, at)?;
    ids.retain(|id| filter.directory.is_none_or(|chosen| chosen == *id));
    Ok(ids)
}

/// The first `limit` objects after a position by the names they had at a time.
pub(super) fn list(
    connection: &Connection,
    account: AccountId,
    subject: SubjectType,
    filter: &Filter,
    at: Time,
    after: Option<&Position>,
    limit: usize,
) -> Result<Vec<(String, ObjectId)>> {
    let (name, id) = match after {
        Some(Position::Name(name, id)) => (name.as_str(), *id),
        _ => ("", 0),
    };
    let status = filter.status.as_deref().filter(|_| subject == SubjectType::Identity);
    // All at the same pace, in the order of names, whether they fit or not: where a run has changed every name, one walk
    // alone would go to its end before it found anything.
    let (mut now, mut then) = (Vec::new(), Vec::new());
    let mut heads: BinaryHeap<(Reverse<Head>, usize)> = BinaryHeap::new();
    let mut ways: Vec<Way<'_>> = Vec::new();
    let directories = directories(connection, account, filter, at)?;
    for [now_sql, then_sql] in directories.iter().map(|_| walks(subject, status)) {
        now.push(connection.prepare_cached(now_sql)?);
        then.push(connection.prepare_cached(then_sql)?);
    }
    for ((directory, now), then) in directories.into_iter().zip(&mut now).zip(&mut then) {
        ways.push(Way::Walk(now.query(params![directory, at, name, id, status])?));
        ways.push(match few_since(connection, subject, directory, at, (name, id), status)? {
            Some(few) => Way::Few(few.into_iter()),
            None => Way::Walk(then.query(params![directory, at, name, id, status])?),
        });
    }
    for (number, way) in ways.iter_mut().enumerate() {
        heads.extend(way.next()?.map(|head| (Reverse(head), number)));
    }
    let mut found = Vec::with_capacity(limit);
    let mut type_of = connection.prepare_cached("SELECT account_type FROM identity WHERE id = ?1")?;
    while let Some((Reverse((name, id, is_fitting)), number)) = heads.pop() {
        // What an account is, it was: an entry keeps its structural class (RFC 4512 §2.4.2).
        let is_fitting = is_fitting
            && (filter.accounts == Accounts::All
                || filter.accounts.holds(account_type_of(type_of.query_row([id], |row| row.get(0))?)));
        if is_fitting {
            found.push((name, id));
            if found.len() >= limit {
                break;
            }
        }
        if let Some(way) = ways.get_mut(number) {
            heads.extend(way.next()?.map(|head| (Reverse(head), number)));
        }
    }
    Ok(found)
}

/// Name and id, and whether that is how it stood at the time.
type Head = (String, ObjectId, bool);

/// One of the ways that a list is put together from.
enum Way<'w> {
    Walk(Rows<'w>),
    Few(std::vec::IntoIter<Head>),
}

impl Way<'_> {
    fn next(&mut self) -> Result<Option<Head>> {
        match self {
            Self::Walk(rows) => {
                let head =
                    rows.next()?.map(|row| -> rusqlite::Result<Head> { Ok((row.get(0)?, row.get(1)?, row.get(2)?)) });
                Ok(head.transpose()?)
            }
            Self::Few(few) => Ok(few.next()),
        }
    }
}

/// Places in the lists that have ended since a time, when they are few: no more than this.
const FEW: usize = 2_000;

/// The places that objects had at a time and have left since, after a position, in the order of names; `None` when many
/// places have ended since. Shortly after a run that changed every name the past is full of what ended with it, and
/// nothing of that was there any more.
fn few_since(
    connection: &Connection,
    subject: SubjectType,
    directory: i64,
    at: Time,
    after: (&str, ObjectId),
    status: Option<&str>,
) -> Result<Option<Vec<Head>>> {
    let count = "SELECT count(*) FROM (SELECT 1 FROM past INDEXED BY past_until
                 WHERE directory_id = ?1 AND until_at > ?2 LIMIT ?3)";
    let count: usize =
        connection.prepare_cached(count)?.query_row(params![directory, at, FEW + 1], |row| row.get(0))?;
    if count > FEW {
        return Ok(None);
    }
    let mut statement = connection.prepare_cached(
        "SELECT sort_key, object_id FROM past INDEXED BY past_until
         WHERE directory_id = ?1 AND until_at > ?2 AND since_at <= ?2 AND kind = ?3 AND (sort_key, object_id) > (?4, ?5)
           AND (?6 IS NULL OR (?6 = 'missing' AND missing_since_at IS NOT NULL) OR status = ?6)",
    )?;
    let mut rows = statement.query(params![directory, at, subject.code(), after.0, after.1, status])?;
    let mut few = Vec::new();
    while let Some(row) = rows.next()? {
        few.push((row.get(0)?, row.get(1)?, true));
    }
    few.sort_unstable();
    Ok(Some(few))
}

#[cfg(test)]
mod tests {
    use super::{SubjectType, walks};

    #[test]
    fn lists_as_of_a_time_walk_their_index_in_order() {
        let connection = rusqlite::Connection::open_in_memory().expect("a database");
        connection.execute_batch(include_str!("../../migrations/0009_identities.sql")).expect("the schema");
        for status in [None, Some("active"), Some("missing"), Some("disabled")] {
            for subject in [SubjectType::Identity, SubjectType::Group] {
                for sql in walks(subject, status) {
                    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
                    let steps = statement.query_map((1, 1, "m", 1, status), |row| row.get::<_, String>(3));
                    let steps: Vec<String> = steps.expect("a plan").collect::<rusqlite::Result<_>>().expect("rows");
                    let [step] = steps.as_slice() else { panic!("one walk, not {steps:?}") };
                    assert!(step.starts_with("SEARCH") && step.contains("sort_key"), "{sql}: {step}");
                    // What had another place then is walked over, row by row.
                    assert!(status.is_some() || step.contains("COVERING"), "{sql}: {step}");
                }
            }
        }
    }
}
