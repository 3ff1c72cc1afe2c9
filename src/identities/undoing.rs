//! The way back to an earlier moment: which objects of a directory were touched since, and each of them then and now.
//!
//! What a plan is made of that takes the copy back. Reads only, object by object; what becomes of it is the planner's
//! business (`directories::rewind`).

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    lookup::{self, Gone},
    model::{FOREVER, ObjectId, SubjectType},
    past,
};
use crate::{clock::Time, connectors::Keys, error::Result};

/// How an object stood at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stood {
    /// Not in the copy yet, or a tombstone.
    Absent,
    Missing,
    Present,
}

/// One object, then and now.
#[derive(Debug)]
pub struct Turned {
    pub external_id: String,
    pub stood: Stood,
    pub gone: Gone,
    /// JSON.
    pub content_then: String,
    /// JSON.
    pub content_now: String,
    pub keys_now: Keys,
    /// Direct members of a group, ascending.
    pub members_then: Vec<ObjectId>,
    pub members_now: Vec<ObjectId>,
}

/// The moment at which a run of a directory took effect; `None` when it never did.
pub fn applied_at(connection: &Connection, directory: i64, run: i64) -> Result<Option<Time>> {
    Ok(connection
        .prepare_cached(
            "SELECT applied_at FROM plan WHERE run_id = ?1 AND directory_id = ?2 AND applied_at IS NOT NULL",
        )?
        .query_row([run, directory], |row| row.get(0))
        .optional()?)
}

/// The runs of a directory whose plans took effect after a moment.
pub fn applied_since(connection: &Connection, directory: i64, at: Time) -> Result<Vec<i64>> {
    let mut statement = connection
        .prepare_cached("SELECT run_id FROM plan WHERE directory_id = ?1 AND applied_at > ?2 ORDER BY run_id")?;
    let rows = statement.query_map(params![directory, at], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Objects that lines of a plan are about.
pub type Subjects = Vec<(SubjectType, ObjectId)>;

/// What up to `limit` lines of a plan after line `after` are about, and the last of these lines; `None` after the last.
/// One object comes as often as it has lines.
pub fn touched(connection: &Connection, run: i64, after: i64, limit: i64) -> Result<Option<(Subjects, i64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT c.id, c.subject_type, c.subject_id
         FROM plan p CROSS JOIN change c ON c.id > max(p.first_change - 1, ?2) AND c.id <= p.last_change
         WHERE p.run_id = ?1 AND c.run_id = ?1 ORDER BY c.id LIMIT ?3",
    )?;
    let mut rows = statement.query(params![run, after, limit])?;
    let (mut found, mut last) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        last = Some(row.get(0)?);
        if let Some(subject) = SubjectType::of_code(row.get(1)?) {
            found.push((subject, row.get(2)?));
        }
    }
    Ok(last.map(|last| (found, last)))
}

/// An object then and now; `None` when the copy has never had it.
pub fn turned(connection: &Connection, subject: SubjectType, id: ObjectId, at: Time) -> Result<Option<Turned>> {
    let sql = "SELECT external_id, gone FROM object WHERE id = ?1 AND kind = ?2";
    let found = connection
        .prepare_cached(sql)?
        .query_row(params![id, subject.code()], |row| Ok((row.get::<_, String>(0)?, Gone::of_code(row.get(1)?))));
    let Some((external_id, gone)) = found.optional()? else { return Ok(None) };
    let content_now = lookup::content(connection, subject, id)?;
    let (members_then, members_now) = match subject {
        SubjectType::Identity => (Vec::new(), Vec::new()),
        SubjectType::Group => (members_at(connection, id, at)?, lookup::members_now(connection, id)?),
    };
    Ok(Some(Turned {
        external_id,
        stood: match past::missing_since(connection, subject, id, at)? {
            None => Stood::Absent,
            Some(None) => Stood::Present,
            Some(Some(_)) => Stood::Missing,
        },
        gone,
        content_then: past::content_at(connection, id, &content_now, at)?.to_string(),
        content_now,
        keys_now: lookup::keys(connection, subject, id)?,
        members_then,
        members_now,
    }))
}

/// The direct members that a group had at a moment, ascending.
fn members_at(connection: &Connection, group: ObjectId, at: Time) -> Result<Vec<ObjectId>> {
    let mut statement = connection.prepare_cached(
        "SELECT member_id FROM member WHERE group_id = ?1 AND until_at = ?3 AND since_at <= ?2
         UNION SELECT member_id FROM member WHERE group_id = ?1 AND until_at > ?2 AND until_at < ?3 AND since_at <= ?2
         ORDER BY 1",
    )?;
    let rows = statement.query_map(params![group, at, FOREVER], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
