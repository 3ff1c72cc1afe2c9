//! As of a time: what the copy held then.
//!
//! Owns the way back. An object's content at a time is what it is now, with every later change undone; where it stood in
//! the lists is kept in `past`; memberships have their own ends. An answer about a moment never changes any more: a plan
//! takes effect at the moment it is applied, never before, and a directory is seen from its first applied plan on.
//! Reads only.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    fold::{fold, has_words},
    model::{Belonging, FOREVER, GroupRow, IdentityRow, Member, ObjectId, SubjectType},
    nesting,
    parts::Sight,
    past_lists::{directories, list},
    past_search,
    queries::{self, Filter, Position},
    retention, staged,
};
use crate::{
    clock::Time,
    error::{Error, Result},
    principal::AccountId,
};

/// Refuses moments that no lasting answer can be given about: from before the history is kept, and since a run began to
/// take effect that has not ended yet.
///
/// # Errors
/// 400 with the moment from which on the history is there; 503 while a run is being applied.
pub fn check_readable(connection: &Connection, account: AccountId, at: Time) -> Result<()> {
    if let Some(from) = retention::edge(connection, account)?
        && at < from
    {
        return Err(Error::BadRequest(format!(
            "The history is kept from {} on. Choose a later time; an administrator can change how long it is kept.",
            from.text()
        )));
    }
    if queries::is_applying_since(connection, account, at)? {
        return Err(Error::Unavailable {
            message:
                "A run is being applied at the moment. Ask again when it has ended, or for a time before it began."
                    .into(),
            retry_after_s: 5,
        });
    }
    Ok(())
}

/// How an object stood in the lists at a time.
struct Stand {
    missing_since_at: Option<Time>,
}

/// `None`: it was not there yet, or a tombstone.
fn stand(connection: &Connection, subject: SubjectType, id: ObjectId, at: Time) -> Result<Option<Stand>> {
    let now = match subject {
        SubjectType::Identity => {
            "SELECT missing_since_at FROM identity WHERE id = ?1 AND listed_since_at <= ?2 AND removed_at IS NULL"
        }
        SubjectType::Group => {
            "SELECT missing_since_at FROM directory_group WHERE id = ?1 AND listed_since_at <= ?2 AND removed_at IS NULL"
        }
    };
    let before = "SELECT missing_since_at FROM past WHERE object_id = ?1 AND until_at > ?2 AND since_at <= ?2 LIMIT 1";
    for sql in [now, before] {
        let found = connection
            .prepare_cached(sql)?
            .query_row(params![id, at], |row| Ok(Stand { missing_since_at: row.get(0)? }))
            .optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// How an object stood in the lists at a time: `None` when it was not there, else since when it was missing.
pub(super) fn missing_since(
    connection: &Connection,
    subject: SubjectType,
    id: ObjectId,
    at: Time,
) -> Result<Option<Option<Time>>> {
    Ok(stand(connection, subject, id, at)?.map(|stand| stand.missing_since_at))
}

/// Undoes what changed of an object after a time. `content` is its JSON now.
pub(super) fn content_at(connection: &Connection, id: ObjectId, content: &str, at: Time) -> Result<serde_json::Value> {
    let mut content: serde_json::Map<String, serde_json::Value> = serde_json::from_str(content)?;
    for (field, before) in changes_after(connection, id, at)? {
        staged::undo(&mut content, &field, before.as_deref())?;
    }
    Ok(serde_json::Value::Object(content))
}

/// The fields that changed after a time and what they were before, the last change first.
fn changes_after(connection: &Connection, id: ObjectId, at: Time) -> Result<Vec<(String, Option<String>)>> {
    let mut statement = connection.prepare_cached(
        "SELECT c.field, c.before FROM change c JOIN plan p ON p.run_id = c.run_id
         WHERE c.subject_id = ?1 AND c.kind = 'changed' AND p.applied_at > ?2 AND c.field IS NOT NULL ORDER BY c.id DESC",
    )?;
    let rows = statement.query_map(params![id, at], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Takes the fields of an object back to a time. Most have not changed since and stay as they are.
fn fields_at<T: Serialize + DeserializeOwned>(
    connection: &Connection,
    id: ObjectId,
    now: &T,
    at: Time,
) -> Result<Option<T>> {
    let changes = changes_after(connection, id, at)?;
    if changes.is_empty() {
        return Ok(None);
    }
    let serde_json::Value::Object(mut content) = serde_json::to_value(now)? else { return Ok(None) };
    for (field, before) in changes {
        staged::undo(&mut content, &field, before.as_deref())?;
    }
    Ok(Some(serde_json::from_value(serde_json::Value::Object(content))?))
}

/// When an object was last changed before a time. What is older than the history is kept was changed when its first
/// known place in the lists began, or before.
fn changed_at(connection: &Connection, id: ObjectId, at: Time, now: Time) -> Result<Time> {
    let found: Option<Time> = connection
        .prepare_cached(
            "SELECT p.applied_at FROM change c JOIN plan p ON p.run_id = c.run_id
             WHERE c.subject_id = ?1 AND p.applied_at <= ?2 ORDER BY c.id DESC LIMIT 1",
        )?
        .query_row(params![id, at], |row| row.get(0))
        .optional()?;
    if let Some(found) = found {
        return Ok(found);
    }
    let sql = "SELECT min(since_at) FROM past WHERE object_id = ?1";
    let first: Option<Time> = connection.prepare_cached(sql)?.query_row([id], |row| row.get(0))?;
    Ok(first.unwrap_or(now).min(at))
}

/// Takes an identity of the copy back to how it was.
fn taken_back(connection: &Connection, mut row: IdentityRow, at: Time) -> Result<Option<IdentityRow>> {
    let Some(stand) = stand(connection, SubjectType::Identity, row.id, at)? else { return Ok(None) };
    let fields = fields_at(connection, row.id, &row.fields, at)?.unwrap_or_else(|| std::mem::take(&mut row.fields));
    row.missing_since_at = stand.missing_since_at;
    row.removed_at = None;
    row.changed_at = changed_at(connection, row.id, at, row.changed_at)?;
    row.user_name.clone_from(&fields.user_name);
    row.display_name.clone_from(&fields.display_name);
    row.mail.clone_from(&fields.mail);
    fields.status.as_str().clone_into(&mut row.status);
    row.sort_key = fold(row.name());
    row.fields = fields;
    Ok(Some(row))
}

/// An identity as it was at a time; `None` when it was not there.
pub fn identity(connection: &Connection, account: AccountId, id: ObjectId, at: Time) -> Result<Option<IdentityRow>> {
    match queries::find_identity(connection, &Sight::whole(account), id)? {
        Some(row) if queries::was_seen(connection, row.directory_id, at)? => taken_back(connection, row, at),
        _ => Ok(None),
    }
}

/// A group as it was at a time; `None` when it was not there.
pub fn group(connection: &Connection, account: AccountId, id: ObjectId, at: Time) -> Result<Option<GroupRow>> {
    let Some(mut row) = queries::find_group(connection, &Sight::whole(account), id)? else { return Ok(None) };
    let Some(stand) = stand(connection, SubjectType::Group, id, at)? else { return Ok(None) };
    if !queries::was_seen(connection, row.directory_id, at)? {
        return Ok(None);
    }
    let fields = fields_at(connection, id, &row.fields, at)?.unwrap_or_else(|| std::mem::take(&mut row.fields));
    row.missing_since_at = stand.missing_since_at;
    row.removed_at = None;
    row.changed_at = changed_at(connection, id, at, row.changed_at)?;
    row.name.clone_from(&fields.name);
    row.description.clone_from(&fields.description);
    row.sort_key = fold(&row.name);
    row.member_count = connection
        .prepare_cached("SELECT count(*) FROM member WHERE group_id = ?1 AND until_at > ?2 AND since_at <= ?2")?
        .query_row(params![id, at], |found| found.get(0))?;
    row.fields = fields;
    Ok(Some(row))
}

/// [`identity`], or as it is now.
pub fn identity_at(
    connection: &Connection,
    sight: &Sight,
    id: ObjectId,
    at: Option<Time>,
) -> Result<Option<IdentityRow>> {
    match at {
        Some(at) => {
            let account = sight.past()?;
            check_readable(connection, account, at)?;
            identity(connection, account, id, at)
        }
        None => queries::find_identity(connection, sight, id),
    }
}

/// [`group`], or as it is now.
pub fn group_at(connection: &Connection, sight: &Sight, id: ObjectId, at: Option<Time>) -> Result<Option<GroupRow>> {
    match at {
        Some(at) => {
            let account = sight.past()?;
            check_readable(connection, account, at)?;
            group(connection, account, id, at)
        }
        None => queries::find_group(connection, sight, id),
    }
}

/// Candidates that are looked at in one go.
const CANDIDATES_MAX: usize = 2_000;

/// Up to `limit` identities, as they are or as they were at a time: by name; when searched or of one group, by number.
/// A search finds the words of then.
pub fn identities(
    connection: &Connection,
    sight: &Sight,
    filter: &Filter,
    at: Option<Time>,
    after: Option<Position>,
    limit: usize,
) -> Result<Vec<IdentityRow>> {
    let Some(at) = at else { return queries::list_identities(connection, sight, filter, after, limit) };
    let account = sight.past()?;
    check_readable(connection, account, at)?;
    let mut rows = Vec::with_capacity(limit);
    if !queries::is_search(filter) && filter.group.is_none() {
        for (_, id) in list(connection, account, SubjectType::Identity, filter, at, after.as_ref(), limit)? {
            rows.extend(identity(connection, account, id, at)?);
        }
        return Ok(rows);
    }
    let now = Filter { status: None, group: None, ..filter.clone() };
    let mut from = number_of(after.as_ref());
    loop {
        let mut batches: Vec<BTreeSet<ObjectId>> = Vec::new();
        // Beyond the last of a full batch there may be more: nothing is decided there yet.
        let mut horizon = ObjectId::MAX;
        let mut cut = |batch: &BTreeSet<ObjectId>| {
            if batch.len() >= CANDIDATES_MAX {
                horizon = horizon.min(batch.last().copied().unwrap_or(ObjectId::MAX));
            }
        };
        if let Some(group) = filter.group {
            let batch = member_numbers(connection, group, at, from, CANDIDATES_MAX)?.into_iter().collect();
            cut(&batch);
            batches.push(batch);
        }
        if queries::is_search(filter) {
            let after = Some(Position::Number(from));
            let found = queries::list_identities(connection, &Sight::whole(account), &now, after, CANDIDATES_MAX)?;
            let mut batch: BTreeSet<ObjectId> = found.into_iter().map(|row| row.id).collect();
            cut(&batch);
            for directory in directories(connection, account, filter, at)? {
                past_search::candidates(connection, directory, SubjectType::Identity, &filter.q, at, from, &mut batch)?;
            }
            batches.push(batch);
        }
        let Some(first) = batches.first() else { return Ok(rows) };
        for id in first.iter().filter(|id| **id <= horizon && batches.iter().all(|batch| batch.contains(id))) {
            let Some(row) = identity(connection, account, *id, at)? else { continue };
            let is_fitting = match filter.status.as_deref() {
                None => true,
                Some("missing") => row.missing_since_at.is_some(),
                Some(status) => row.status == status,
            };
            if is_fitting
                && filter.accounts.holds(row.fields.account_type)
                && filter.directory.is_none_or(|directory| row.directory_id == directory)
                && has_words(&staged::identity_text(&row.fields), &filter.q)
            {
                rows.push(row);
            }
            if rows.len() >= limit {
                return Ok(rows);
            }
        }
        if horizon == ObjectId::MAX {
            return Ok(rows);
        }
        from = horizon;
    }
}

fn number_of(after: Option<&Position>) -> ObjectId {
    match after {
        Some(Position::Number(id)) => *id,
        _ => 0,
    }
}

/// Up to `limit` groups, as they are or as they were at a time: by name; when searched, by number.
pub fn groups(
    connection: &Connection,
    sight: &Sight,
    filter: &Filter,
    at: Option<Time>,
    after: Option<Position>,
    limit: usize,
) -> Result<Vec<GroupRow>> {
    let filter = &Filter { status: None, group: None, ..filter.clone() };
    let Some(at) = at else { return queries::list_groups(connection, sight, filter, after, limit) };
    let account = sight.past()?;
    check_readable(connection, account, at)?;
    let mut rows = Vec::with_capacity(limit);
    if !queries::is_search(filter) {
        for (_, id) in list(connection, account, SubjectType::Group, filter, at, after.as_ref(), limit)? {
            rows.extend(group(connection, account, id, at)?);
        }
        return Ok(rows);
    }
    let from = number_of(after.as_ref());
    let mut candidates = BTreeSet::new();
    for directory in directories(connection, account, filter, at)? {
        past_search::candidates(connection, directory, SubjectType::Group, &filter.q, at, from, &mut candidates)?;
    }
    // Groups are few: all that are found are looked at.
    let mut after = Some(Position::Number(from));
    loop {
        let found = queries::list_groups(connection, &Sight::whole(account), filter, after, CANDIDATES_MAX)?;
        after = found.last().map(|row| Position::Number(row.id));
        let is_full = found.len() >= CANDIDATES_MAX;
        candidates.extend(found.into_iter().map(|row| row.id));
        if !is_full {
            break;
        }
    }
    for id in candidates {
        let found = group(connection, account, id, at)?;
        rows.extend(found.filter(|row| has_words(&staged::group_text(&row.fields), &filter.q)));
        if rows.len() >= limit {
            break;
        }
    }
    Ok(rows)
}

/// The numbers of the direct members that a group had at a time, after `after`.
fn member_numbers(
    connection: &Connection,
    group: ObjectId,
    at: Time,
    after: ObjectId,
    limit: usize,
) -> Result<Vec<ObjectId>> {
    let mut found = BTreeSet::new();
    for sql in [
        "SELECT member_id FROM member WHERE group_id = ?1 AND until_at = ?5 AND member_id > ?3 AND since_at <= ?2
         ORDER BY member_id LIMIT ?4",
        "SELECT member_id FROM member WHERE group_id = ?1 AND until_at > ?2 AND until_at < ?5 AND since_at <= ?2
           AND member_id > ?3 ORDER BY member_id LIMIT ?4",
    ] {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![group, at, after, limit, FOREVER])?;
        while let Some(row) = rows.next()? {
            found.insert(row.get::<_, ObjectId>(0)?);
        }
    }
    Ok(found.into_iter().take(limit).collect())
}

/// Since when the membership lasted that was there at a time.
fn since(connection: &Connection, group: ObjectId, member: ObjectId, at: Time) -> Result<Option<Time>> {
    Ok(connection
        .prepare_cached(
            "SELECT since_at FROM member WHERE member_id = ?2 AND group_id = ?1 AND until_at > ?3 AND since_at <= ?3 LIMIT 1",
        )?
        .query_row(params![group, member, at], |row| row.get(0))
        .optional()?)
}

/// An object as a member list of a time shows it.
fn described(connection: &Connection, account: AccountId, id: ObjectId, at: Time) -> Result<Member> {
    let member = |kind: &str, name: String, detail: String| Member {
        id: id.to_string(),
        kind: kind.to_owned(),
        name,
        detail,
        mail: None,
        status: None,
        direct: false,
        since: None,
        number: id,
    };
    if let Some(row) = queries::find_identity(connection, &Sight::whole(account), id)? {
        // Who did not stand in the lists but was a member all the same was a tombstone.
        let stand = stand(connection, SubjectType::Identity, id, at)?;
        let fields = fields_at(connection, id, &row.fields, at)?.unwrap_or(row.fields);
        let status = match stand {
            None => "removed",
            Some(Stand { missing_since_at: Some(_) }) => "missing",
            Some(_) => fields.status.as_str(),
        };
        let name = fields.display_name.filter(|name| !name.is_empty()).unwrap_or_else(|| fields.user_name.clone());
        let (status, mail) = (Some(status.to_owned()), fields.mail);
        return Ok(Member { mail, status, ..member("identity", name, fields.user_name) });
    }
    if let Some(row) = queries::find_group(connection, &Sight::whole(account), id)? {
        let stand = stand(connection, SubjectType::Group, id, at)?;
        let fields = fields_at(connection, id, &row.fields, at)?.unwrap_or(row.fields);
        let status = match stand {
            None => Some("removed".to_owned()),
            Some(stand) => stand.missing_since_at.map(|_| "missing".to_owned()),
        };
        return Ok(Member { status, ..member("group", fields.name, fields.description.unwrap_or_default()) });
    }
    let text: Option<String> = connection
        .prepare_cached("SELECT text FROM reference WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let text = text.unwrap_or_else(|| format!("object {id}"));
    Ok(member("reference", text.clone(), text))
}

/// The members of a group, by number, as they are or as they were at a time: direct ones, or through any depth of groups.
pub fn members(
    connection: &Connection,
    sight: &Sight,
    group: ObjectId,
    is_effective: bool,
    at: Option<Time>,
    after: ObjectId,
    limit: usize,
) -> Result<Vec<Member>> {
    match at {
        Some(at) => members_then(connection, sight.past()?, group, is_effective, at, after, limit),
        None => members_seen(connection, sight, group, is_effective, after, limit),
    }
}

/// Those that lie in what is seen.
fn members_seen(
    connection: &Connection,
    sight: &Sight,
    group: ObjectId,
    is_effective: bool,
    mut after: ObjectId,
    limit: usize,
) -> Result<Vec<Member>> {
    let mut found = Vec::new();
    loop {
        let members = match is_effective {
            true => queries::effective_members(connection, group, after, limit)?,
            false => queries::direct_members(connection, group, after, limit)?,
        };
        let has_more = members.len() == limit;
        after = members.last().map_or(after, |member| member.number);
        for member in members {
            if sight.holds_object(connection, member.number)? {
                found.push(member);
            }
            if found.len() == limit {
                return Ok(found);
            }
        }
        if !has_more {
            return Ok(found);
        }
    }
}

fn members_then(
    connection: &Connection,
    account: AccountId,
    group: ObjectId,
    is_effective: bool,
    at: Time,
    after: ObjectId,
    limit: usize,
) -> Result<Vec<Member>> {
    check_readable(connection, account, at)?;
    let mut ids: BTreeSet<ObjectId> = BTreeSet::new();
    let reached = if is_effective { nesting::inside_at(connection, group, at)? } else { HashSet::from([group]) };
    for source in reached {
        ids.extend(member_numbers(connection, source, at, after, limit + 1)?);
    }
    if is_effective {
        ids.remove(&group);
    }
    let mut found = Vec::with_capacity(limit);
    for id in ids.into_iter().take(limit) {
        let mut member = described(connection, account, id, at)?;
        member.since = since(connection, group, id, at)?;
        member.direct = member.since.is_some();
        found.push(member);
    }
    Ok(found)
}

/// The groups that an object was a member of at a time, by number: directly, or through groups.
pub fn groups_of(
    connection: &Connection,
    account: AccountId,
    member: ObjectId,
    is_effective: bool,
    at: Time,
    after: ObjectId,
    limit: usize,
) -> Result<Vec<Member>> {
    check_readable(connection, account, at)?;
    let mut statement = connection
        .prepare_cached("SELECT group_id FROM member WHERE member_id = ?1 AND until_at > ?2 AND since_at <= ?2")?;
    let (mut reached, mut waiting) = (BTreeSet::new(), vec![member]);
    while let Some(next) = waiting.pop() {
        let rows = statement.query_map(params![next, at], |row| row.get(0))?;
        for group in rows.collect::<rusqlite::Result<Vec<ObjectId>>>()? {
            if (group != member || !is_effective)
                && !reached.contains(&group)
                && stand(connection, SubjectType::Group, group, at)?.is_some()
            {
                reached.insert(group);
                if is_effective {
                    waiting.push(group);
                }
            }
        }
    }
    let mut found = Vec::new();
    for id in reached.into_iter().filter(|id| *id > after).take(limit) {
        let mut group = described(connection, account, id, at)?;
        group.since = since(connection, id, member, at)?;
        group.direct = group.since.is_some();
        found.push(group);
    }
    Ok(found)
}

/// Groups looked at for somebody who sees a part: so many that those which are seen are among them.
const LOOKED_AT_MAX: usize = 10_000;

/// Those that lie in what is seen. Of the way there, what is seen.
fn belongings_seen(
    connection: &Connection,
    sight: &Sight,
    member: ObjectId,
    max: usize,
) -> Result<(Vec<Belonging>, bool)> {
    if !sight.is_part() {
        return queries::belongings(connection, member, max);
    }
    let mut seen = Vec::new();
    for mut belonging in queries::belongings(connection, member, LOOKED_AT_MAX)?.0 {
        let Some(group) = queries::find_group(connection, sight, belonging.id)? else { continue };
        belonging.member_count = group.member_count;
        let mut through = Vec::new();
        for step in belonging.through {
            if sight.holds_object(connection, step.0)? {
                through.push(step);
            } else {
                belonging.is_way_hidden = true;
            }
        }
        seen.push(Belonging { through, ..belonging });
    }
    let has_more = seen.len() > max;
    seen.truncate(max);
    Ok((seen, has_more))
}

/// The groups that an object is a member of, by number: those that lie in what is seen.
pub fn groups_seen(
    connection: &Connection,
    sight: &Sight,
    member: ObjectId,
    is_effective: bool,
    mut after: ObjectId,
    limit: usize,
) -> Result<Vec<Member>> {
    let mut found = Vec::new();
    loop {
        let groups = queries::groups_of(connection, member, is_effective, after, limit)?;
        let has_more = groups.len() == limit;
        after = groups.last().map_or(after, |group| group.number);
        for group in groups {
            if sight.holds_object(connection, group.number)? {
                found.push(group);
            }
            if found.len() == limit {
                return Ok(found);
            }
        }
        if !has_more {
            return Ok(found);
        }
    }
}

/// All groups that an object belongs to, or belonged to at a time, each with the shortest way there, direct ones first,
/// then by name; and whether there were more than `max`.
pub fn belongings(
    connection: &Connection,
    sight: &Sight,
    member: ObjectId,
    at: Option<Time>,
    max: usize,
) -> Result<(Vec<Belonging>, bool)> {
    let Some(at) = at else { return belongings_seen(connection, sight, member, max) };
    let account = sight.past()?;
    check_readable(connection, account, at)?;
    let mut came_from: HashMap<ObjectId, ObjectId> = HashMap::new();
    let mut names: HashMap<ObjectId, (String, bool, i64)> = HashMap::new();
    let mut order: Vec<ObjectId> = Vec::new();
    let mut waiting = VecDeque::from([member]);
    let mut statement = connection.prepare_cached(
        "SELECT group_id FROM member WHERE member_id = ?1 AND until_at > ?2 AND since_at <= ?2 ORDER BY group_id",
    )?;
    while let Some(next) = waiting.pop_front() {
        if order.len() > max {
            break;
        }
        let rows = statement.query_map(params![next, at], |row| row.get(0))?;
        for id in rows.collect::<rusqlite::Result<Vec<ObjectId>>>()? {
            if id == member || came_from.contains_key(&id) || order.len() > max {
                continue;
            }
            let Some(row) = group(connection, account, id, at)? else { continue };
            names.insert(id, (row.name, row.missing_since_at.is_some(), row.member_count));
            came_from.insert(id, next);
            order.push(id);
            waiting.push_back(id);
        }
    }
    let has_more = order.len() > max;
    order.truncate(max);
    Ok((Belonging::ways(member, order, &came_from, &names), has_more))
}

/// Since when an object has been in the copy, as far as the history goes; `None` for one that was never listed.
pub fn first_listed(connection: &Connection, id: ObjectId) -> Result<Option<Time>> {
    Ok(connection
        .prepare_cached(
            "SELECT min(at) FROM (SELECT since_at AS at FROM past WHERE object_id = ?1
                 UNION ALL SELECT listed_since_at FROM identity WHERE id = ?1
                 UNION ALL SELECT listed_since_at FROM directory_group WHERE id = ?1)",
        )?
        .query_row([id], |row| row.get(0))?)
}

/// What differs between two times: fields (raw attributes as `attributes.<name>`), and who joined and left.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// Whether it stood in the lists at the first time, and at the second.
    pub was_there: (bool, bool),
    pub fields: Vec<staged::Difference>,
    /// Groups joined and left by an identity; members that joined and left a group. At most [`COMPARED_MAX`] of each.
    pub joined: Vec<Member>,
    pub left: Vec<Member>,
}

/// Memberships that a comparison names.
pub const COMPARED_MAX: usize = 500;

fn compare_members(
    connection: &Connection,
    account: AccountId,
    before: &BTreeSet<ObjectId>,
    after: &BTreeSet<ObjectId>,
    (from, to): (Time, Time),
) -> Result<(Vec<Member>, Vec<Member>)> {
    let name = |ids: Vec<ObjectId>, at: Time| -> Result<Vec<Member>> {
        let mut found = Vec::new();
        for id in ids.into_iter().take(COMPARED_MAX) {
            found.push(described(connection, account, id, at)?);
        }
        Ok(found)
    };
    Ok((
        name(after.difference(before).copied().collect(), to)?,
        name(before.difference(after).copied().collect(), from)?,
    ))
}

/// Compares an identity with itself at another time.
pub fn compare_identity(
    connection: &Connection,
    account: AccountId,
    id: ObjectId,
    times: (Time, Time),
) -> Result<Comparison> {
    let row =
        queries::find_identity(connection, &Sight::whole(account), id)?.ok_or(Error::NotFound("This identity"))?;
    let json = serde_json::to_string(&row.fields)?;
    let groups = |at: Time| -> Result<BTreeSet<ObjectId>> {
        let mut statement = connection
            .prepare_cached("SELECT group_id FROM member WHERE member_id = ?1 AND until_at > ?2 AND since_at <= ?2")?;
        let rows = statement.query_map(params![id, at], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    };
    compare(connection, account, (SubjectType::Identity, id, row.directory_id), &json, times, groups)
}

/// Compares a group with itself at another time.
pub fn compare_group(
    connection: &Connection,
    account: AccountId,
    id: ObjectId,
    times: (Time, Time),
) -> Result<Comparison> {
    let row = queries::find_group(connection, &Sight::whole(account), id)?.ok_or(Error::NotFound("This group"))?;
    let json = serde_json::to_string(&row.fields)?;
    let members = |at: Time| -> Result<BTreeSet<ObjectId>> {
        let mut statement = connection
            .prepare_cached("SELECT member_id FROM member WHERE group_id = ?1 AND until_at > ?2 AND since_at <= ?2")?;
        let rows = statement.query_map(params![id, at], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    };
    compare(connection, account, (SubjectType::Group, id, row.directory_id), &json, times, members)
}

fn compare(
    connection: &Connection,
    account: AccountId,
    (subject, id, directory): (SubjectType, ObjectId, i64),
    json: &str,
    (from, to): (Time, Time),
    linked: impl Fn(Time) -> Result<BTreeSet<ObjectId>>,
) -> Result<Comparison> {
    check_readable(connection, account, from)?;
    check_readable(connection, account, to)?;
    let was_there = |at: Time| -> Result<bool> {
        Ok(queries::was_seen(connection, directory, at)? && stand(connection, subject, id, at)?.is_some())
    };
    let was_there = (was_there(from)?, was_there(to)?);
    // Nobody saw a membership of a directory whose copy nobody saw.
    let linked =
        |at: Time| if queries::was_seen(connection, directory, at)? { linked(at) } else { Ok(BTreeSet::new()) };
    let (before, after) = (content_at(connection, id, json, from)?, content_at(connection, id, json, to)?);
    let fields = if was_there.0 && was_there.1 {
        staged::differences(&before.to_string(), &after.to_string())?
    } else {
        Vec::new()
    };
    let (joined, left) = compare_members(connection, account, &linked(from)?, &linked(to)?, (from, to))?;
    Ok(Comparison { was_there, fields, joined, left })
}
