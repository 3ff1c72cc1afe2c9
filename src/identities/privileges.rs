//! Who is privileged, and through which groups.
//!
//! An identity is privileged when it is, through any depth of groups, a member of a group that its directory marks so
//! (connectors::GroupFields::privileged), or when it is privileged by itself. Only what is there counts: a missing group
//! gives nobody rights, a missing identity has none. Owns the walk upwards, which costs as many steps as somebody has
//! groups and is the same in a directory of a million, and the walk down for lists. Reads only; nothing of it is stored,
//! so it is never older than the memberships.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    rc::Rc,
};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    model::{FOREVER, ObjectId, SubjectType},
    nesting, past,
};
use crate::{clock::Time, error::Result};

/// One reason why an identity is privileged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason {
    /// The group that makes it so: id and name. `None`: it is privileged by itself.
    pub group: Option<(ObjectId, String)>,
    /// The name by which the group is known everywhere, where it is called otherwise here.
    pub well_known: Option<String>,
    /// The groups in between, from the identity upwards, on a shortest way; empty for a direct membership.
    pub through: Vec<(ObjectId, String)>,
}

impl Reason {
    /// As a sentence: `Member of Domain Admins through Helpdesk → Tier 0`.
    pub(super) fn text(&self) -> String {
        let Some((_, name)) = &self.group else { return BY_ITSELF.to_owned() };
        let known = self.well_known.as_ref().map(|known| format!(" ({known})")).unwrap_or_default();
        let through: Vec<&str> = self.through.iter().map(|(_, name)| name.as_str()).collect();
        let through = if through.is_empty() { String::new() } else { format!(" through {}", through.join(" → ")) };
        format!("Member of {name}{known}{through}")
    }
}

const BY_ITSELF: &str = "The built-in Administrator";

/// Groups, and whether each of them is a privileged one.
type Groups = Rc<[(ObjectId, bool)]>;

/// The way up, now or at a time. It remembers what several objects share.
struct Upwards<'c> {
    connection: &'c Connection,
    at: Option<Time>,
    /// What groups are in.
    above: HashMap<ObjectId, Groups>,
    /// Names of groups, and those that they are known by everywhere.
    names: HashMap<ObjectId, (String, Option<String>)>,
    /// Whether a directory has privileged groups.
    directories: HashMap<i64, bool>,
}

impl<'c> Upwards<'c> {
    fn new(connection: &'c Connection, at: Option<Time>) -> Self {
        Self { connection, at, above: HashMap::new(), names: HashMap::new(), directories: HashMap::new() }
    }

    /// Whether an identity is privileged by itself; `None` when nothing makes it privileged: it is not there, or its
    /// directory has no privileged groups.
    fn begin(&mut self, id: ObjectId) -> Result<Option<bool>> {
        let sql = "SELECT missing_since_at IS NULL AND removed_at IS NULL, is_privileged, directory_id
                   FROM identity WHERE id = ?1";
        let found = self
            .connection
            .prepare_cached(sql)?
            .query_row([id], |row| Ok((row.get::<_, bool>(0)?, row.get::<_, bool>(1)?, row.get::<_, i64>(2)?)));
        let Some((is_there, is_privileged, directory)) = found.optional()? else { return Ok(None) };
        if !is_privileged && !self.has_privileged(directory)? {
            return Ok(None);
        }
        let is_there = match self.at {
            None => is_there,
            Some(at) => past::missing_since(self.connection, SubjectType::Identity, id, at)? == Some(None),
        };
        Ok(is_there.then_some(is_privileged))
    }

    fn has_privileged(&mut self, directory: i64) -> Result<bool> {
        if let Some(known) = self.directories.get(&directory) {
            return Ok(*known);
        }
        let sql = "SELECT 1 FROM directory_group INDEXED BY group_privileged
                   WHERE directory_id = ?1 AND is_privileged = 1 LIMIT 1";
        let has_any = self.connection.prepare_cached(sql)?.exists([directory])?;
        self.directories.insert(directory, has_any);
        Ok(has_any)
    }

    /// The groups that another group is a direct member of.
    fn above(&mut self, group: ObjectId) -> Result<Groups> {
        if let Some(known) = self.above.get(&group) {
            return Ok(Rc::clone(known));
        }
        let groups = self.groups_of(group)?;
        self.above.insert(group, Rc::clone(&groups));
        Ok(groups)
    }

    /// The groups that have an object as a direct member.
    fn groups_of(&self, member: ObjectId) -> Result<Groups> {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let Some(at) = self.at else {
            let mut statement = self.connection.prepare_cached(
                "SELECT g.id, g.is_privileged FROM member m CROSS JOIN directory_group g ON g.id = m.group_id
                 WHERE m.member_id = ?1 AND m.until_at = ?2 AND g.removed_at IS NULL AND g.missing_since_at IS NULL
                 ORDER BY m.group_id",
            )?;
            let rows = statement.query_map(params![member, FOREVER], read)?;
            return Ok(rows.collect::<rusqlite::Result<_>>()?);
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT g.id, g.is_privileged FROM member m CROSS JOIN directory_group g ON g.id = m.group_id
             WHERE m.member_id = ?1 AND m.until_at > ?2 AND m.since_at <= ?2 ORDER BY g.id",
        )?;
        let rows = statement.query_map(params![member, at], read)?;
        let mut groups: Vec<(ObjectId, bool)> = Vec::new();
        for group in rows.collect::<rusqlite::Result<Vec<(ObjectId, bool)>>>()? {
            if past::missing_since(self.connection, SubjectType::Group, group.0, at)? == Some(None) {
                groups.push(group);
            }
        }
        Ok(groups.into())
    }

    fn name(&mut self, group: ObjectId) -> Result<(String, Option<String>)> {
        if let Some(known) = self.names.get(&group) {
            return Ok(known.clone());
        }
        let sql = "SELECT name, fields ->> 'privileged' FROM directory_group WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let named: (String, Option<String>) = statement.query_row([group], |row| Ok((row.get(0)?, row.get(1)?)))?;
        self.names.insert(group, named.clone());
        Ok(named)
    }

    fn reasons(&mut self, id: ObjectId) -> Result<Vec<Reason>> {
        let Some(is_privileged) = self.begin(id)? else { return Ok(Vec::new()) };
        // Breadth first: the first way to a group is a shortest one.
        let mut came_from: HashMap<ObjectId, ObjectId> = HashMap::new();
        let mut found = Vec::new();
        let mut waiting = VecDeque::from([id]);
        while let Some(next) = waiting.pop_front() {
            let above = if next == id { self.groups_of(next)? } else { self.above(next)? };
            for &(group, is_privileged) in above.iter() {
                if let Entry::Vacant(place) = came_from.entry(group) {
                    place.insert(next);
                    waiting.push_back(group);
                    found.extend(is_privileged.then_some(group));
                }
            }
        }
        let mut reasons = Vec::new();
        if is_privileged {
            reasons.push(Reason { group: None, well_known: None, through: Vec::new() });
        }
        for group in found {
            let (name, well_known) = self.name(group)?;
            let mut through = Vec::new();
            let mut at = came_from.get(&group).copied().unwrap_or(id);
            while at != id {
                through.push((at, self.name(at)?.0));
                at = came_from.get(&at).copied().unwrap_or(id);
            }
            through.reverse();
            let well_known = well_known.filter(|known| !known.eq_ignore_ascii_case(&name));
            reasons.push(Reason { group: Some((group, name)), well_known, through });
        }
        Ok(reasons)
    }

    /// Those of some identities that are privileged.
    fn which(&mut self, ids: &[ObjectId]) -> Result<HashSet<ObjectId>> {
        let mut privileged = HashSet::new();
        let mut candidates = HashSet::new();
        for id in ids {
            match self.begin(*id)? {
                None => {}
                Some(true) => {
                    privileged.insert(*id);
                }
                Some(false) => {
                    candidates.insert(*id);
                }
            }
        }
        // All the way up first, noting who is in what; then down from the privileged groups: so a ring of groups is no trap.
        let mut inside: HashMap<ObjectId, Vec<ObjectId>> = HashMap::new();
        let (mut tops, mut waiting) = (Vec::new(), Vec::new());
        let mut note = |member: ObjectId, above: &[(ObjectId, bool)], waiting: &mut Vec<ObjectId>| {
            for &(group, is_privileged) in above {
                let members = inside.entry(group).or_insert_with(|| {
                    waiting.push(group);
                    tops.extend(is_privileged.then_some(group));
                    Vec::new()
                });
                members.push(member);
            }
        };
        for id in &candidates {
            note(*id, &self.groups_of(*id)?, &mut waiting);
        }
        while let Some(group) = waiting.pop() {
            note(group, &self.above(group)?, &mut waiting);
        }
        while let Some(group) = tops.pop() {
            for member in inside.remove(&group).unwrap_or_default() {
                if candidates.contains(&member) {
                    privileged.insert(member);
                } else {
                    tops.push(member);
                }
            }
        }
        Ok(privileged)
    }
}

/// Why an identity is privileged, now or at a time: each privileged group once, on a shortest way, the nearest first.
/// The names of groups are those of now.
pub(super) fn reasons(connection: &Connection, id: ObjectId, at: Option<Time>) -> Result<Vec<Reason>> {
    Upwards::new(connection, at).reasons(id)
}

/// Why an identity is privileged, as sentences, one for each privileged group, the nearest first; empty when it is not.
/// `Member of Domain Admins through Helpdesk → Tier 0`.
pub fn privileged_paths(connection: &Connection, id: ObjectId) -> Result<Vec<String>> {
    Ok(reasons(connection, id, None)?.iter().map(Reason::text).collect())
}

/// [`reasons`] of those of some identities that are privileged.
pub(super) fn reasons_of(
    connection: &Connection,
    ids: impl Iterator<Item = ObjectId>,
    at: Option<Time>,
) -> Result<HashMap<ObjectId, Vec<Reason>>> {
    let mut upwards = Upwards::new(connection, at);
    let privileged = upwards.which(&ids.collect::<Vec<_>>())?;
    privileged.into_iter().map(|id| Ok((id, upwards.reasons(id)?))).collect()
}

/// Those of some identities that are privileged. Each group that several of them lead to is looked at once.
pub fn which_are_privileged(connection: &Connection, ids: &[ObjectId]) -> Result<HashSet<ObjectId>> {
    which_were_privileged(connection, ids, None)
}

/// [`which_are_privileged`], now or at a time.
pub(super) fn which_were_privileged(
    connection: &Connection,
    ids: &[ObjectId],
    at: Option<Time>,
) -> Result<HashSet<ObjectId>> {
    Upwards::new(connection, at).which(ids)
}

/// Whom a list of privileged identities is made from.
#[derive(Debug)]
pub(super) enum Who {
    /// These objects, and no others; groups and references may be among them. JSON.
    Few(String),
    /// Who is a direct member of one of these groups, or privileged by itself. JSON.
    In(String),
}

/// More than this are not looked at one by one. Measured with a copy of 100,000, unoptimised: 500 are searched in 13 ms.
const FEW_MAX: usize = 2_000;

/// Whom a list of the privileged identities of some directories is made from.
pub(super) fn who(connection: &Connection, directories: &[i64]) -> Result<Who> {
    let numbers = |sql: &str, of: i64| -> Result<Vec<ObjectId>> {
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map([of], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    };
    let (mut groups, mut people) = (HashSet::new(), HashSet::new());
    for directory in directories {
        let tops = numbers(
            "SELECT id FROM directory_group INDEXED BY group_privileged
             WHERE directory_id = ?1 AND is_privileged = 1 AND removed_at IS NULL AND missing_since_at IS NULL",
            *directory,
        )?;
        groups.extend(nesting::inside_present(connection, *directory, tops)?);
        people.extend(numbers(
            "SELECT id FROM identity INDEXED BY identity_privileged WHERE directory_id = ?1 AND is_privileged = 1",
            *directory,
        )?);
    }
    let mut members =
        connection.prepare_cached("SELECT member_id FROM member WHERE group_id = ?1 AND until_at = ?2 LIMIT ?3")?;
    for group in &groups {
        let mut rows = members.query(params![group, FOREVER, FEW_MAX + 1])?;
        while let Some(row) = rows.next()? {
            people.insert(row.get(0)?);
        }
        if people.len() > FEW_MAX {
            return Ok(Who::In(serde_json::to_string(&groups)?));
        }
    }
    Ok(Who::Few(serde_json::to_string(&people)?))
}
