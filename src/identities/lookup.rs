//! What a planner asks the copy: is this object known, is it the same, what does this name point at.
//!
//! All of it by index, on narrow rows where it is asked for every object of a directory. Reads only.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    handles,
    model::{FOREVER, ObjectId, SubjectType},
};
use crate::{
    clock::Time,
    connectors::{Key, Keys, Source},
    error::Result,
};

/// Whether the directory still has an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    Present,
    /// Not in the last answer; its grace time runs.
    Missing,
    /// A tombstone.
    Removed,
}

impl Gone {
    pub(super) fn code(self) -> i64 {
        match self {
            Self::Present => 0,
            Self::Missing => 1,
            Self::Removed => 2,
        }
    }

    pub(super) fn of_code(code: i64) -> Self {
        match code {
            0 => Self::Present,
            1 => Self::Missing,
            _ => Self::Removed,
        }
    }
}

/// What the copy knows of an object.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub id: ObjectId,
    pub source: Source,
    pub gone: Gone,
}

/// An object of a directory by its external id.
pub fn find(connection: &Connection, directory: i64, subject: SubjectType, external_id: &str) -> Result<Option<Known>> {
    let (head, rest) = handles::of_id(directory, subject, external_id).halves();
    Ok(connection
        .prepare_cached(
            "SELECT o.id, o.source, o.gone FROM handle h CROSS JOIN object o ON o.id = h.object_id
             WHERE h.head = ?1 AND h.rest = ?2",
        )?
        .query_row([head, rest], |row| {
            Ok(Known { id: row.get(0)?, source: Source(row.get(1)?), gone: Gone::of_code(row.get(2)?) })
        })
        .optional()?)
}

/// What the copy knows of an object, with the name it is known by.
#[derive(Debug, Clone)]
pub struct Held {
    pub known: Known,
    pub external_id: String,
}

/// Replaces `rows` with up to `limit` objects of one kind that are there in a directory, from a number on: a directory
/// that answers in the order of last time is followed without looking anything up. None where the next numbers are
/// those of other directories.
pub fn ahead(
    connection: &Connection,
    directory: i64,
    subject: SubjectType,
    from: ObjectId,
    limit: usize,
    rows: &mut Vec<Held>,
) -> Result<()> {
    rows.clear();
    let mut statement = connection.prepare_cached(AHEAD)?;
    let mut found = statement.query(params![directory, subject.code(), from, limit])?;
    while let Some(row) = found.next()? {
        let known = Known { id: row.get(0)?, source: Source(row.get(1)?), gone: Gone::Present };
        rows.push(Held { known, external_id: row.get(2)? });
    }
    Ok(())
}

/// Must walk by number and stop: sorting all that come after, once for each thousand, took nine tenths of a run over a
/// million objects. Nor does it walk on over the objects of other directories.
const AHEAD: &str = "SELECT id, source, external_id FROM object
     WHERE id >= ?3 AND id < ?3 + 4 * ?4 AND directory_id = ?1 AND kind = ?2 AND gone = 0 ORDER BY id LIMIT ?4";

/// What an object is referred to by, as the copy has it.
pub fn keys(connection: &Connection, subject: SubjectType, id: ObjectId) -> Result<Keys> {
    let sql = match subject {
        SubjectType::Identity => "SELECT dn_key, name_key FROM identity WHERE id = ?1",
        SubjectType::Group => "SELECT dn_key, NULL FROM directory_group WHERE id = ?1",
    };
    let found = connection.prepare_cached(sql)?.query_row([id], |row| {
        let key = |index| row.get::<_, Option<[u8; 16]>>(index).map(|bytes| bytes.map(Key));
        Ok(Keys { dn: key(0)?, name: key(1)? })
    });
    Ok(found.optional()?.unwrap_or_default())
}

/// The identities and groups that are or were referred to by a key: present ones first, then missing ones. Removed
/// objects are not found: whoever still names one points at nothing.
pub fn by_key(connection: &Connection, directory: i64, key: Key) -> Result<Vec<ObjectId>> {
    let (head, rest) = key.halves();
    let mut statement = connection.prepare_cached(BY_KEY)?;
    let rows = statement.query_map([head, rest, directory], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut found: Vec<(i64, ObjectId)> = rows.collect::<rusqlite::Result<_>>()?;
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, id)| id).collect())
}

/// Asked for every member of a group that is read: from one narrow table alone, and not sorted there, which takes longer
/// than all the rest.
const BY_KEY: &str =
    "SELECT gone, object_id FROM handle WHERE head = ?1 AND rest = ?2 AND directory_id = ?3 AND gone < 2";

pub fn reference(connection: &Connection, directory: i64, key: Key) -> Result<Option<ObjectId>> {
    Ok(connection
        .prepare_cached("SELECT id FROM reference WHERE directory_id = ?1 AND key = ?2")?
        .query_row(params![directory, key.0], |row| row.get(0))
        .optional()?)
}

/// The stored content of an object, as JSON.
pub fn content(connection: &Connection, subject: SubjectType, id: ObjectId) -> Result<String> {
    let sql = match subject {
        SubjectType::Identity => "SELECT fields FROM identity WHERE id = ?1",
        SubjectType::Group => "SELECT fields FROM directory_group WHERE id = ?1",
    };
    Ok(connection.prepare_cached(sql)?.query_row([id], |row| row.get(0))?)
}

/// The direct members that a group has now, ascending.
pub fn members_now(connection: &Connection, group: ObjectId) -> Result<Vec<ObjectId>> {
    let mut statement = connection
        .prepare_cached("SELECT member_id FROM member WHERE group_id = ?1 AND until_at = ?2 ORDER BY member_id")?;
    let rows = statement.query_map(params![group, FOREVER], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Adds the groups that an object is a direct member of now.
pub fn add_groups_of(connection: &Connection, member: ObjectId, groups: &mut BTreeSet<ObjectId>) -> Result<()> {
    let mut statement =
        connection.prepare_cached("SELECT group_id FROM member WHERE member_id = ?1 AND until_at = ?2")?;
    let mut rows = statement.query(params![member, FOREVER])?;
    while let Some(row) = rows.next()? {
        groups.insert(row.get(0)?);
    }
    Ok(())
}

/// Whether anything of an identity has changed in the copy after a time.
pub fn is_changed_since(connection: &Connection, identity: ObjectId, at: Time) -> Result<bool> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM identity WHERE id = ?1 AND changed_at > ?2")?
        .exists(params![identity, at])?)
}

/// The external id of a group that is not removed.
pub fn group_external_id(connection: &Connection, group: ObjectId) -> Result<Option<String>> {
    Ok(connection
        .prepare_cached("SELECT external_id FROM directory_group WHERE id = ?1 AND removed_at IS NULL")?
        .query_row([group], |row| row.get(0))
        .optional()?)
}

/// Visits every object of a directory that is neither missing nor removed; walks over all objects there are.
pub fn each_present(
    connection: &Connection,
    directory: i64,
    subject: SubjectType,
    mut visit: impl FnMut(ObjectId),
) -> Result<()> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM object WHERE directory_id = ?1 AND kind = ?2 AND gone = 0")?;
    let mut rows = statement.query(params![directory, subject.code()])?;
    while let Some(row) = rows.next()? {
        visit(row.get(0)?);
    }
    Ok(())
}

/// The objects of a directory that have been missing since before `cutoff`.
pub fn missing_before(
    connection: &Connection,
    directory: i64,
    subject: SubjectType,
    cutoff: Time,
) -> Result<Vec<ObjectId>> {
    let sql = match subject {
        SubjectType::Identity => {
            "SELECT id FROM identity INDEXED BY identity_missing_in_directory
             WHERE directory_id = ?1 AND removed_at IS NULL AND missing_since_at IS NOT NULL AND missing_since_at <= ?2"
        }
        SubjectType::Group => {
            "SELECT id FROM directory_group INDEXED BY group_missing_in_directory
             WHERE directory_id = ?1 AND removed_at IS NULL AND missing_since_at IS NOT NULL AND missing_since_at <= ?2"
        }
    };
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![directory, cutoff], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// How many identities and groups of a directory are not removed (missing ones count); walks over all objects there are.
pub fn counts(connection: &Connection, directory: i64) -> Result<(i64, i64)> {
    Ok(connection
        .prepare_cached(
            "SELECT count(*) FILTER (WHERE kind = ?2), count(*) FILTER (WHERE kind = ?3) FROM object
             WHERE directory_id = ?1 AND gone < 2",
        )?
        .query_row(params![directory, SubjectType::Identity.code(), SubjectType::Group.code()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?)
}

/// Whether the copy holds anything of a directory, whatever it is; walks over all objects there are when it does not.
pub fn is_empty(connection: &Connection, directory: i64) -> Result<bool> {
    let sql = "SELECT 1 FROM reference WHERE directory_id = ?1 UNION ALL SELECT 1 FROM object WHERE directory_id = ?1 LIMIT 1";
    Ok(!connection.prepare_cached(sql)?.exists([directory])?)
}

#[cfg(test)]
mod tests {
    use super::{AHEAD, BY_KEY};

    fn steps(sql: &str, values: impl rusqlite::Params) -> Vec<String> {
        let connection = rusqlite::Connection::open_in_memory().expect("a database");
        connection.execute_batch(include_str!("../../migrations/0009_identities.sql")).expect("the schema");
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
        let steps = statement.query_map(values, |row| row.get(3)).expect("a plan");
        steps.collect::<rusqlite::Result<_>>().expect("rows")
    }

    #[test]
    fn what_comes_next_is_read_in_order_of_the_numbers() {
        assert_eq!(steps(AHEAD, [1, 1, 1, 1]), ["SEARCH object USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]);
    }

    #[test]
    fn what_a_name_leads_to_is_read_from_one_narrow_table_alone() {
        assert_eq!(steps(BY_KEY, [1, 1, 1]), ["SEARCH handle USING PRIMARY KEY (head=? AND rest=?)"]);
    }
}
