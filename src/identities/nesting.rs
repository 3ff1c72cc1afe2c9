//! Groups in groups: which groups are reached from one, now or at a time.
//!
//! Owns the way down. Only memberships of groups are followed, and they are found without looking at those of people:
//! a directory's groups are read in one go and so have numbers that follow one another, and the members of a group are
//! kept by number. A group of fifty thousand people in another one costs as much as a group of three. Reads only.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    lookup::Gone,
    model::{FOREVER, ObjectId, SubjectType},
    past,
};
use crate::{clock::Time, error::Result};

/// The numbers of a directory's groups: first and last of each row of numbers without a gap, ascending.
struct Groups(Vec<(ObjectId, ObjectId)>);

impl Groups {
    /// Of the directory that `group` is in.
    fn beside(connection: &Connection, group: ObjectId, states: &[Gone]) -> Result<Self> {
        let sql = "SELECT directory_id FROM directory_group WHERE id = ?1";
        let directory: Option<i64> = connection.prepare_cached(sql)?.query_row([group], |row| row.get(0)).optional()?;
        directory.map_or(Ok(Self(Vec::new())), |directory| Self::of(connection, directory, states))
    }

    /// Of a directory.
    fn of(connection: &Connection, directory: i64, states: &[Gone]) -> Result<Self> {
        let mut statement = connection.prepare_cached(
            "SELECT id FROM object INDEXED BY object_of_groups
             WHERE directory_id = ?1 AND kind = 2 AND gone = ?2 ORDER BY id",
        )?;
        let mut ids: Vec<ObjectId> = Vec::new();
        for gone in states {
            let mut rows = statement.query(params![directory, gone.code()])?;
            while let Some(row) = rows.next()? {
                ids.push(row.get(0)?);
            }
        }
        ids.sort_unstable();
        let mut rows: Vec<(ObjectId, ObjectId)> = Vec::new();
        for id in ids {
            match rows.last_mut() {
                Some((_, last)) if *last + 1 == id => *last = id,
                _ => rows.push((id, id)),
            }
        }
        Ok(Self(rows))
    }

    fn has(&self, id: ObjectId) -> bool {
        let at = self.0.partition_point(|(first, _)| *first <= id);
        at.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, last)| id <= *last)
    }
}

/// Everything reached from `groups` by `inside`, themselves included; cycles end.
fn reach(
    groups: Vec<ObjectId>,
    mut inside: impl FnMut(ObjectId, &mut Vec<ObjectId>) -> Result<()>,
) -> Result<HashSet<ObjectId>> {
    let mut reached: HashSet<ObjectId> = groups.iter().copied().collect();
    let (mut waiting, mut found) = (groups, Vec::new());
    while let Some(next) = waiting.pop() {
        inside(next, &mut found)?;
        waiting.extend(found.drain(..).filter(|inner| reached.insert(*inner)));
    }
    Ok(reached)
}

/// Adds the groups among the members that a group has now.
fn groups_in(connection: &Connection, groups: &Groups, group: ObjectId, found: &mut Vec<ObjectId>) -> Result<()> {
    let members: Option<usize> = connection
        .prepare_cached("SELECT member_count FROM directory_group WHERE id = ?1")?
        .query_row([group], |row| row.get(0))
        .ok();
    if members.is_some_and(|members| members < groups.0.len()) {
        let mut statement =
            connection.prepare_cached("SELECT member_id FROM member WHERE group_id = ?1 AND until_at = ?2")?;
        let mut rows = statement.query(params![group, FOREVER])?;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            if groups.has(id) {
                found.push(id);
            }
        }
        return Ok(());
    }
    let mut statement = connection.prepare_cached(
        "SELECT member_id FROM member WHERE group_id = ?1 AND until_at = ?2 AND member_id >= ?3 AND member_id <= ?4",
    )?;
    for (first, last) in &groups.0 {
        let mut rows = statement.query(params![group, FOREVER, first, last])?;
        while let Some(row) = rows.next()? {
            found.push(row.get(0)?);
        }
    }
    Ok(())
}

/// A group and everything that is a group inside it.
pub(super) fn inside(connection: &Connection, group: ObjectId) -> Result<HashSet<ObjectId>> {
    let groups = Groups::beside(connection, group, &[Gone::Present, Gone::Missing])?;
    reach(vec![group], |next, found| groups_in(connection, &groups, next, found))
}

/// Groups of a directory that are there, and everything inside them that is a group and there too.
pub(super) fn inside_present(
    connection: &Connection,
    directory: i64,
    tops: Vec<ObjectId>,
) -> Result<HashSet<ObjectId>> {
    if tops.is_empty() {
        return Ok(HashSet::new());
    }
    let groups = Groups::of(connection, directory, &[Gone::Present])?;
    reach(tops, |next, found| groups_in(connection, &groups, next, found))
}

/// [`inside`], at a time.
pub(super) fn inside_at(connection: &Connection, group: ObjectId, at: Time) -> Result<HashSet<ObjectId>> {
    // A tombstone was a group once.
    let groups = Groups::beside(connection, group, &[Gone::Present, Gone::Missing, Gone::Removed])?;
    let mut lasting = connection.prepare_cached(
        "SELECT member_id FROM member
         WHERE group_id = ?1 AND until_at = ?2 AND member_id >= ?3 AND member_id <= ?4 AND since_at <= ?5",
    )?;
    let mut ended = connection.prepare_cached(
        "SELECT member_id FROM member WHERE group_id = ?1 AND until_at > ?3 AND until_at < ?2 AND since_at <= ?3",
    )?;
    reach(vec![group], |next, found| {
        for (first, last) in &groups.0 {
            let mut rows = lasting.query(params![next, FOREVER, first, last, at])?;
            while let Some(row) = rows.next()? {
                found.push(row.get(0)?);
            }
        }
        let mut rows = ended.query(params![next, FOREVER, at])?;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            if groups.has(id) {
                found.push(id);
            }
        }
        let mut was_there = Vec::with_capacity(found.len());
        for id in found.drain(..) {
            if past::missing_since(connection, SubjectType::Group, id, at)?.is_some() {
                was_there.push(id);
            }
        }
        *found = was_there;
        Ok(())
    })
}
