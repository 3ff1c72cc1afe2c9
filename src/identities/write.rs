//! Writing: how a plan is stored, and how apply makes it take effect.
//!
//! Owns every write to the copy. Nothing here decides what changes; `directories::plan` does. Two ways lead to the same
//! `write_objects`: a plan for a copy that people see is staged first and copied by apply, in steps that are each one
//! transaction and can each be repeated (what is staged is deleted in the transaction that copies it, and change rows
//! are counted off by the caller in the same transaction); the plan of a directory that was never applied is written
//! in place at once, because nobody sees that copy before its first plan is applied.

use rusqlite::{Connection, params};

use super::{
    fold::directory_facet,
    handles::{self, Hash},
    lookup::Gone,
    model::{ChangeKind, FOREVER, ObjectId, SubjectType, account_type_code, account_type_of},
    staged::{Difference, SearchText, Staged, StagedKind},
};
use crate::{
    clock::Time,
    connectors::{Key, Keys, Source, Status},
    error::{Error, Result},
};

/// One line of a plan, to be written.
#[derive(Debug)]
pub struct NewChange {
    pub subject_type: SubjectType,
    pub subject_id: ObjectId,
    pub kind: ChangeKind,
    pub field: Option<String>,
    /// JSON.
    pub before: Option<String>,
    /// JSON.
    pub after: Option<String>,
    /// Who joins or leaves a group.
    pub member_id: Option<ObjectId>,
}

impl NewChange {
    /// An object is added, missing, back or removed.
    pub fn of(subject_type: SubjectType, subject_id: ObjectId, kind: ChangeKind) -> Self {
        Self { subject_type, subject_id, kind, field: None, before: None, after: None, member_id: None }
    }

    /// `member` joins or leaves a group.
    pub fn member(group: ObjectId, kind: ChangeKind, member: ObjectId) -> Self {
        Self { member_id: Some(member), ..Self::of(SubjectType::Group, group, kind) }
    }

    /// A field differs.
    pub fn field(subject_type: SubjectType, subject_id: ObjectId, (field, before, after): Difference) -> Self {
        Self { field: Some(field), before, after, ..Self::of(subject_type, subject_id, ChangeKind::Changed) }
    }
}

/// Which plan is written, and where it takes effect.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub run: i64,
    pub directory: i64,
    /// The moment at which all changes of the run take effect.
    pub at: Time,
}

/// Takes `count` numbers out of the common space; answers the first.
pub fn reserve_numbers(connection: &Connection, count: i64) -> Result<ObjectId> {
    Ok(connection
        .prepare_cached("UPDATE object_number SET next = next + ?1 WHERE id = 1 RETURNING next - ?1")?
        .query_row([count], |row| row.get(0))?)
}

/// Makes the plan of a run known, before its first line.
pub fn open_plan(connection: &Connection, run: i64, directory: i64) -> Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO plan (run_id, directory_id) VALUES (?1, ?2)")?
        .execute([run, directory])?;
    Ok(())
}

/// Stores a part of a plan.
pub fn store_part(connection: &Connection, run: i64, staged: &[Staged], changes: &[NewChange]) -> Result<()> {
    insert_staged(connection, run, staged)?;
    insert_changes(connection, run, changes)
}

/// Stores a part of a directory's first plan where it is going to be seen once the plan is applied; without the words
/// by which objects are found ([`write_search_texts`]) and what they are looked up by ([`handles::insert_sorted`]).
pub fn store_part_in_place(
    connection: &Connection,
    target: Target,
    staged: &[Staged],
    changes: &[NewChange],
) -> Result<()> {
    write_objects(connection, target, staged)?;
    insert_changes(connection, target.run, changes)?;
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO member (group_id, until_at, member_id, since_at) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for change in changes.iter().filter(|change| change.kind == ChangeKind::MemberAdded) {
        insert.execute(params![change.subject_id, FOREVER, change.member_id, target.at])?;
    }
    Ok(())
}

fn insert_changes(connection: &Connection, run: i64, changes: &[NewChange]) -> Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO change (run_id, subject_type, subject_id, kind, field, before, after, member_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let mut first = None;
    for change in changes {
        insert.execute(params![
            run,
            change.subject_type.code(),
            change.subject_id,
            change.kind.as_str(),
            change.field,
            change.before,
            change.after,
            change.member_id,
        ])?;
        first = first.or_else(|| Some(connection.last_insert_rowid()));
    }
    if let Some(first) = first {
        connection
            .prepare_cached(
                "UPDATE plan SET first_change = coalesce(first_change, ?2), last_change = ?3 WHERE run_id = ?1",
            )?
            .execute([run, first, connection.last_insert_rowid()])?;
    }
    Ok(())
}

/// A macro, so that each statement is one literal.
macro_rules! staged_columns {
    () => {
        "object_id, kind, is_new, external_id, source, dn_key, name_key, name, display_name, mail, description, sort_key,
         status, account_type, is_privileged, fields, search_text, member_count"
    };
}

fn insert_staged(connection: &Connection, run: i64, staged: &[Staged]) -> Result<()> {
    let mut insert = connection.prepare_cached(concat!(
        "INSERT INTO staged (",
        staged_columns!(),
        ", run_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)"
    ))?;
    for object in staged {
        insert.execute(params![
            object.object_id,
            object.kind.code(),
            object.is_new,
            object.external_id,
            object.source.0,
            object.keys.dn.map(|key| key.0),
            object.keys.name.map(|key| key.0),
            object.name,
            object.display_name,
            object.mail,
            object.description,
            object.sort_key,
            object.status.map(Status::as_str),
            account_type_code(object.account_type),
            object.is_privileged,
            object.fields,
            object.search_text,
            object.member_count,
            run,
        ])?;
    }
    Ok(())
}

/// The first `limit` staged objects of a run, by number.
fn read_staged(connection: &Connection, run: i64, limit: i64) -> Result<Vec<Staged>> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        staged_columns!(),
        " FROM staged WHERE run_id = ?1 ORDER BY object_id LIMIT ?2"
    ))?;
    let mut rows = statement.query([run, limit])?;
    let mut staged = Vec::new();
    while let Some(row) = rows.next()? {
        let key = |index| row.get::<_, Option<Hash>>(index).map(|bytes| bytes.map(Key));
        let status = match row.get::<_, Option<String>>(12)? {
            Some(text) => Some(Status::parse(&text).ok_or_else(|| Error::internal("an unknown status is staged"))?),
            None => None,
        };
        staged.push(Staged {
            object_id: row.get(0)?,
            kind: StagedKind::of_code(row.get(1)?)
                .ok_or_else(|| Error::internal("an unknown kind of staged object"))?,
            is_new: row.get(2)?,
            external_id: row.get(3)?,
            source: Source(row.get(4)?),
            keys: Keys { dn: key(5)?, name: key(6)? },
            name: row.get(7)?,
            display_name: row.get(8)?,
            mail: row.get(9)?,
            description: row.get(10)?,
            sort_key: row.get(11)?,
            status,
            account_type: account_type_of(row.get(13)?),
            is_privileged: row.get(14)?,
            fields: row.get(15)?,
            search_text: row.get(16)?,
            member_count: row.get(17)?,
        });
    }
    Ok(staged)
}

/// Writes objects into the copy, all but the words by which they are found and their handles.
fn write_objects(connection: &Connection, target: Target, staged: &[Staged]) -> Result<()> {
    insert_identities(connection, target, staged)?;
    for object in staged {
        match (object.kind, object.is_new) {
            (StagedKind::Identity, true) => {}
            (StagedKind::Identity, false) => update_identity(connection, target, object)?,
            (StagedKind::Group, true) => insert_group(connection, target, object)?,
            (StagedKind::Group, false) => update_group(connection, target, object)?,
            (StagedKind::Reference, _) => {
                connection
                    .prepare_cached(
                        "INSERT OR IGNORE INTO reference (id, directory_id, key, text) VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![
                        object.object_id,
                        target.directory,
                        object.keys.dn.map(|key| key.0),
                        object.name
                    ])?;
            }
        }
    }
    // Table by table: the pages of one stay at hand.
    let mut insert = connection.prepare_cached(
        "INSERT INTO object (id, directory_id, kind, external_id, source) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut update = connection.prepare_cached("UPDATE object SET source = ?2, gone = 0 WHERE id = ?1")?;
    for object in staged.iter().filter(|object| object.kind != StagedKind::Reference) {
        if object.is_new {
            insert.execute(params![
                object.object_id,
                target.directory,
                object.kind.code(),
                object.external_id,
                object.source.0
            ])?;
        } else {
            update.execute(params![object.object_id, object.source.0])?;
        }
    }
    Ok(())
}

/// Writes the words by which objects are found. Many at once: FTS5 writes a piece of its index for each transaction that
/// has words, and pieces have to be merged.
pub fn write_search_texts(connection: &Connection, directory: i64, texts: &[SearchText]) -> Result<()> {
    let facet = directory_facet(directory);
    let mut insert_identity = connection
        .prepare_cached("INSERT INTO identity_text (rowid, text, directory, status) VALUES (?1, ?2, ?3, ?4)")?;
    let mut replace_identity = connection.prepare_cached(
        "INSERT OR REPLACE INTO identity_text (rowid, text, directory, status) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let mut insert_group =
        connection.prepare_cached("INSERT INTO group_text (rowid, text, directory) VALUES (?1, ?2, ?3)")?;
    let mut replace_group =
        connection.prepare_cached("INSERT OR REPLACE INTO group_text (rowid, text, directory) VALUES (?1, ?2, ?3)")?;
    for text in texts {
        let id = text.object_id;
        match (text.kind, text.is_new) {
            (StagedKind::Identity, true) => insert_identity.execute(params![id, text.text, facet, text.state])?,
            (StagedKind::Identity, false) => replace_identity.execute(params![id, text.text, facet, text.state])?,
            (StagedKind::Group, true) => insert_group.execute(params![id, text.text, facet])?,
            (StagedKind::Group, false) => replace_group.execute(params![id, text.text, facet])?,
            (StagedKind::Reference, _) => 0,
        };
    }
    Ok(())
}

/// Which parts of the search index are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merging {
    /// Many of about one size into one, so that what is written again and again stays little.
    Alike,
    /// All into one.
    All,
}

/// More parts than this make a search slow, because each of its words is looked for in every one of them. Measured with a
/// million people after a run that changed all: 18 to 22 ms for the slowest search of a hundred, and 4 to 6 in one part.
const SEARCH_PARTS_MAX: i64 = 32;

/// How many parts the search index of identities has, and that of groups: from one to the next by the index's key, because
/// each has a row for every page.
const SEARCH_PARTS: [&str; 2] = [
    "WITH RECURSIVE part (id) AS (
         SELECT min(segid) FROM identity_text_idx
         UNION ALL SELECT (SELECT min(segid) FROM identity_text_idx WHERE segid > part.id) FROM part WHERE id IS NOT NULL
     ) SELECT count(id) FROM part",
    "WITH RECURSIVE part (id) AS (
         SELECT min(segid) FROM group_text_idx
         UNION ALL SELECT (SELECT min(segid) FROM group_text_idx WHERE segid > part.id) FROM part WHERE id IS NOT NULL
     ) SELECT count(id) FROM part",
];

/// What is to be merged when a run is over.
pub fn merging_due(connection: &Connection) -> Result<Merging> {
    let count = |sql| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0));
    let [identities, groups] = SEARCH_PARTS.map(count);
    Ok(if identities?.max(groups?) > SEARCH_PARTS_MAX { Merging::All } else { Merging::Alike })
}

/// Merges some of the parts that the search index was written in: about `pages` of 4 KiB for each of the two kinds. `false`
/// when nothing was left to do.
pub fn merge_search_texts(connection: &Connection, pages: i64, which: Merging) -> Result<bool> {
    // FTS5, “The 'merge' command”: below zero it takes parts of all sizes.
    let pages = if which == Merging::All { -pages } else { pages };
    let mut has_merged = false;
    for sql in [
        "INSERT INTO identity_text (identity_text, rank) VALUES ('merge', ?1)",
        "INSERT INTO group_text (group_text, rank) VALUES ('merge', ?1)",
    ] {
        let before = connection.total_changes();
        connection.prepare_cached(sql)?.execute([pages])?;
        // The statement itself counts as one (FTS5, “The 'merge' command”).
        has_merged |= connection.total_changes().saturating_sub(before) >= 2;
    }
    Ok(has_merged)
}

fn insert_identities(connection: &Connection, target: Target, staged: &[Staged]) -> Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO identity (id, directory_id, external_id, dn_key, name_key, user_name, display_name, mail, sort_key,
                               status, fields, first_seen_at, changed_at, listed_since_at, account_type, is_privileged)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12, ?12, ?13, ?14)",
    )?;
    for object in staged.iter().filter(|object| object.kind == StagedKind::Identity && object.is_new) {
        insert.execute(params![
            object.object_id,
            target.directory,
            object.external_id,
            object.keys.dn.map(|key| key.0),
            object.keys.name.map(|key| key.0),
            object.name,
            object.display_name,
            object.mail,
            object.sort_key,
            object.status.map(Status::as_str),
            object.fields,
            target.at,
            account_type_code(object.account_type),
            object.is_privileged,
        ])?;
    }
    Ok(())
}

fn update_identity(connection: &Connection, target: Target, object: &Staged) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO past (object_id, until_at, since_at, directory_id, kind, sort_key, status, missing_since_at)
             SELECT id, ?2, listed_since_at, directory_id, 1, sort_key, status, missing_since_at FROM identity
             WHERE id = ?1 AND removed_at IS NULL AND listed_since_at < ?2
               AND (sort_key <> ?3 OR status <> ?4 OR missing_since_at IS NOT NULL)",
        )?
        .execute(params![object.object_id, target.at, object.sort_key, object.status.map(Status::as_str)])?;
    connection
        .prepare_cached(
            "UPDATE identity SET
                 listed_since_at = CASE WHEN sort_key <> ?7 OR status <> ?8 OR missing_since_at IS NOT NULL
                                          OR removed_at IS NOT NULL THEN ?10 ELSE listed_since_at END,
                 dn_key = ?2, name_key = ?3, user_name = ?4, display_name = ?5, mail = ?6,
                 sort_key = ?7, status = ?8, fields = ?9, changed_at = ?10, missing_since_at = NULL, removed_at = NULL,
                 account_type = ?11, is_privileged = ?12
             WHERE id = ?1",
        )?
        .execute(params![
            object.object_id,
            object.keys.dn.map(|key| key.0),
            object.keys.name.map(|key| key.0),
            object.name,
            object.display_name,
            object.mail,
            object.sort_key,
            object.status.map(Status::as_str),
            object.fields,
            target.at,
            account_type_code(object.account_type),
            object.is_privileged,
        ])?;
    Ok(())
}

fn insert_group(connection: &Connection, target: Target, object: &Staged) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO directory_group (id, directory_id, external_id, dn_key, member_count, name, description,
                                          sort_key, fields, first_seen_at, changed_at, listed_since_at, is_privileged)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?10, ?11)",
        )?
        .execute(params![
            object.object_id,
            target.directory,
            object.external_id,
            object.keys.dn.map(|key| key.0),
            object.member_count,
            object.name,
            object.description,
            object.sort_key,
            object.fields,
            target.at,
            object.is_privileged,
        ])?;
    Ok(())
}

fn update_group(connection: &Connection, target: Target, object: &Staged) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO past (object_id, until_at, since_at, directory_id, kind, sort_key, missing_since_at)
             SELECT id, ?2, listed_since_at, directory_id, 2, sort_key, missing_since_at FROM directory_group
             WHERE id = ?1 AND removed_at IS NULL AND listed_since_at < ?2
               AND (sort_key <> ?3 OR missing_since_at IS NOT NULL)",
        )?
        .execute(params![object.object_id, target.at, object.sort_key])?;
    connection
        .prepare_cached(
            "UPDATE directory_group SET
                 listed_since_at = CASE WHEN sort_key <> ?6 OR missing_since_at IS NOT NULL OR removed_at IS NOT NULL
                                        THEN ?8 ELSE listed_since_at END,
                 dn_key = ?2, member_count = ?3, name = ?4, description = ?5, sort_key = ?6, fields = ?7,
                 changed_at = ?8, missing_since_at = NULL, removed_at = NULL, is_privileged = ?9
             WHERE id = ?1",
        )?
        .execute(params![
            object.object_id,
            object.keys.dn.map(|key| key.0),
            object.member_count,
            object.name,
            object.description,
            object.sort_key,
            object.fields,
            target.at,
            object.is_privileged,
        ])?;
    Ok(())
}

/// Copies up to `limit` staged objects into place; answers how many there were.
pub fn apply_staged(connection: &Connection, target: Target, limit: i64) -> Result<usize> {
    let mut staged = read_staged(connection, target.run, limit)?;
    let Some(last) = staged.last().map(|object| object.object_id) else { return Ok(0) };
    handles::follow(connection, target.directory, &staged)?;
    write_objects(connection, target, &staged)?;
    let texts: Vec<SearchText> = staged.iter_mut().filter_map(Staged::take_search_text).collect();
    write_search_texts(connection, target.directory, &texts)?;
    Ok(connection
        .prepare_cached("DELETE FROM staged WHERE run_id = ?1 AND object_id <= ?2")?
        .execute([target.run, last])?)
}

/// Makes up to `limit` change rows after row `after` take effect: those that staged content does not carry (missing
/// and removed objects, memberships). Answers the last row looked at and how many there were; `None` when the plan is
/// through.
pub fn apply_changes(connection: &Connection, target: Target, after: i64, limit: i64) -> Result<Option<(i64, i64)>> {
    let (last, count): (Option<i64>, i64) = connection
        .prepare_cached(
            "SELECT max(id), count(*) FROM
                 (SELECT c.id FROM plan p CROSS JOIN change c ON c.id > max(p.first_change - 1, ?2) AND c.id <= p.last_change
                  WHERE p.run_id = ?1 AND c.run_id = ?1 ORDER BY c.id LIMIT ?3)",
        )?
        .query_row(params![target.run, after, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some(last) = last else { return Ok(None) };
    for (kind, gone) in [(ChangeKind::Missing, Gone::Missing), (ChangeKind::Removed, Gone::Removed)] {
        let mut statement = connection.prepare_cached(
            "SELECT subject_type, subject_id FROM change WHERE id > ?2 AND id <= ?3 AND run_id = ?1 AND kind = ?4",
        )?;
        let mut rows = statement.query(params![target.run, after, last, kind.as_str()])?;
        while let Some(row) = rows.next()? {
            let subject =
                SubjectType::of_code(row.get(0)?).ok_or_else(|| Error::internal("an unknown kind of subject"))?;
            set_gone(connection, target, subject, row.get(1)?, gone)?;
        }
    }
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO member (group_id, until_at, member_id, since_at)
             SELECT m.group_id, ?4, m.member_id, m.since_at
             FROM change c CROSS JOIN member m ON m.group_id = c.subject_id AND m.until_at = ?5 AND m.member_id = c.member_id
             WHERE c.id > ?2 AND c.id <= ?3 AND c.run_id = ?1 AND c.kind = 'member-removed'",
        )?
        .execute(params![target.run, after, last, target.at, FOREVER])?;
    connection
        .prepare_cached(
            "DELETE FROM member WHERE (group_id, until_at, member_id) IN
                 (SELECT subject_id, ?4, member_id FROM change
                  WHERE id > ?2 AND id <= ?3 AND run_id = ?1 AND kind = 'member-removed')",
        )?
        .execute(params![target.run, after, last, FOREVER])?;
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO member (group_id, until_at, member_id, since_at)
             SELECT subject_id, ?5, member_id, ?4
             FROM change WHERE id > ?2 AND id <= ?3 AND run_id = ?1 AND kind = 'member-added'",
        )?
        .execute(params![target.run, after, last, target.at, FOREVER])?;
    Ok(Some((last, count)))
}

fn set_gone(connection: &Connection, target: Target, subject: SubjectType, id: ObjectId, gone: Gone) -> Result<()> {
    let (keep_past, missing, removed) = match subject {
        SubjectType::Identity => (
            "INSERT OR IGNORE INTO past (object_id, until_at, since_at, directory_id, kind, sort_key, status, missing_since_at)
             SELECT id, ?2, listed_since_at, directory_id, 1, sort_key, status, missing_since_at FROM identity
             WHERE id = ?1 AND removed_at IS NULL AND listed_since_at < ?2",
            "UPDATE identity SET missing_since_at = ?2, changed_at = ?2, listed_since_at = ?2 WHERE id = ?1",
            "UPDATE identity SET removed_at = ?2, changed_at = ?2, listed_since_at = ?2 WHERE id = ?1",
        ),
        SubjectType::Group => (
            "INSERT OR IGNORE INTO past (object_id, until_at, since_at, directory_id, kind, sort_key, missing_since_at)
             SELECT id, ?2, listed_since_at, directory_id, 2, sort_key, missing_since_at FROM directory_group
             WHERE id = ?1 AND removed_at IS NULL AND listed_since_at < ?2",
            "UPDATE directory_group SET missing_since_at = ?2, changed_at = ?2, listed_since_at = ?2 WHERE id = ?1",
            "UPDATE directory_group SET removed_at = ?2, changed_at = ?2, listed_since_at = ?2 WHERE id = ?1",
        ),
    };
    let is_removed = gone == Gone::Removed;
    connection.prepare_cached(keep_past)?.execute(params![id, target.at])?;
    connection.prepare_cached(if is_removed { removed } else { missing })?.execute(params![id, target.at])?;
    connection.prepare_cached("UPDATE object SET gone = ?2 WHERE id = ?1")?.execute(params![id, gone.code()])?;
    handles::set_gone(connection, id, gone)?;
    if is_removed {
        let sql = match subject {
            SubjectType::Identity => "DELETE FROM identity_text WHERE rowid = ?1",
            SubjectType::Group => "DELETE FROM group_text WHERE rowid = ?1",
        };
        connection.prepare_cached(sql)?.execute([id])?;
    }
    Ok(())
}

/// Notes the moment at which the run's changes are going to be history, before the first of them is made: until
/// [`finish_applied`] nothing can be said of that moment and later ones.
pub fn begin_applying(connection: &Connection, target: Target) -> Result<()> {
    open_plan(connection, target.run, target.directory)?;
    connection
        .prepare_cached("UPDATE plan SET applying_at = ?2 WHERE run_id = ?1 AND applied_at IS NULL")?
        .execute(params![target.run, target.at])?;
    Ok(())
}

/// The run's changes are history from now on.
pub fn finish_applied(connection: &Connection, target: Target) -> Result<()> {
    open_plan(connection, target.run, target.directory)?;
    connection
        .prepare_cached("UPDATE plan SET applied_at = ?2 WHERE run_id = ?1 AND applied_at IS NULL")?
        .execute(params![target.run, target.at])?;
    Ok(())
}

/// Deletes up to `limit` rows of a plan; `false` when nothing was left. Without its lines the plan itself goes too, and
/// with it the memory that it was applied.
pub fn forget_plan(connection: &Connection, run: i64, limit: i64, with_changes: bool) -> Result<bool> {
    let staged = connection
        .prepare_cached(
            "DELETE FROM staged WHERE run_id = ?1 AND object_id IN
                 (SELECT object_id FROM staged WHERE run_id = ?1 ORDER BY object_id LIMIT ?2)",
        )?
        .execute([run, limit])?;
    if staged > 0 || !with_changes {
        return Ok(staged > 0);
    }
    let changes = connection
        .prepare_cached(
            "DELETE FROM change WHERE id IN
                 (SELECT c.id FROM plan p CROSS JOIN change c ON c.id >= p.first_change AND c.id <= p.last_change
                  WHERE p.run_id = ?1 AND c.run_id = ?1 ORDER BY c.id LIMIT ?2)",
        )?
        .execute([run, limit])?;
    if changes > 0 {
        // The next piece need not look for what is gone.
        connection
            .prepare_cached(
                "UPDATE plan SET first_change =
                     (SELECT min(c.id) FROM change c WHERE c.id >= plan.first_change AND c.id <= plan.last_change AND c.run_id = ?1)
                 WHERE run_id = ?1",
            )?
            .execute([run])?;
        return Ok(true);
    }
    connection.prepare_cached("DELETE FROM plan WHERE run_id = ?1")?.execute([run])?;
    Ok(false)
}

/// Objects looked at in one step, whosever they are.
const WALK: i64 = 20_000;

/// Deletes up to `limit` objects of a directory with all that hangs on them, their history only `with_changes`, from the
/// number behind `after` on, which it moves; `false` when nothing was left.
pub fn forget_copy(
    connection: &Connection,
    directory: i64,
    after: &mut ObjectId,
    limit: i64,
    with_changes: bool,
) -> Result<bool> {
    let last: Option<ObjectId> =
        connection.prepare_cached("SELECT max(id) FROM object")?.query_row([], |row| row.get(0))?;
    let until = *after + WALK;
    let ids: Vec<(ObjectId, i64)> = connection
        .prepare_cached(
            "SELECT id, kind FROM object WHERE id > ?1 AND id <= ?2 AND directory_id = ?3 ORDER BY id LIMIT ?4",
        )?
        .query_map(params![*after, until, directory, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let is_walked = i64::try_from(ids.len()).unwrap_or(i64::MAX) < limit;
    for (id, kind) in ids {
        if forget_memberships(connection, id, limit)? {
            return Ok(true);
        }
        let (delete_text, delete) = match SubjectType::of_code(kind) {
            Some(SubjectType::Group) => {
                ("DELETE FROM group_text WHERE rowid = ?1", "DELETE FROM directory_group WHERE id = ?1")
            }
            _ => ("DELETE FROM identity_text WHERE rowid = ?1", "DELETE FROM identity WHERE id = ?1"),
        };
        handles::forget(connection, id)?;
        if with_changes {
            connection.prepare_cached("DELETE FROM change WHERE subject_id = ?1")?.execute([id])?;
        }
        connection.prepare_cached("DELETE FROM past WHERE object_id = ?1")?.execute([id])?;
        for sql in [delete_text, delete, "DELETE FROM object WHERE id = ?1"] {
            connection.prepare_cached(sql)?.execute([id])?;
        }
        *after = id;
    }
    if is_walked {
        *after = until;
    }
    if !is_walked || last.is_some_and(|last| until < last) {
        return Ok(true);
    }
    let references: Vec<ObjectId> = connection
        .prepare_cached("SELECT id FROM reference WHERE directory_id = ?1 LIMIT ?2")?
        .query_map([directory, limit], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for id in &references {
        if forget_memberships(connection, *id, limit)? {
            return Ok(true);
        }
        connection.prepare_cached("DELETE FROM reference WHERE id = ?1")?.execute([*id])?;
    }
    Ok(!references.is_empty())
}

/// Deletes an object's memberships and its members. A group of a million members is taken apart in pieces: `true` when
/// there may be more.
fn forget_memberships(connection: &Connection, id: ObjectId, limit: i64) -> Result<bool> {
    let members = connection
        .prepare_cached(
            "DELETE FROM member WHERE (group_id, until_at, member_id, since_at) IN
                 (SELECT group_id, until_at, member_id, since_at FROM member WHERE group_id = ?1 LIMIT ?2)",
        )?
        .execute([id, limit])?;
    if i64::try_from(members).unwrap_or(i64::MAX) >= limit {
        return Ok(true);
    }
    connection
        .prepare_cached(
            "DELETE FROM member WHERE (group_id, until_at, member_id, since_at) IN
                 (SELECT group_id, until_at, member_id, since_at FROM member WHERE member_id = ?1)",
        )?
        .execute([id])?;
    Ok(false)
}
