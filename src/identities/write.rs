//! Writing: what a plan stages, and how apply copies it into place.
//!
//! Owns every write to the copy. Apply works in chunks that are each one transaction, and each can be repeated: what
//! is staged is deleted in the transaction that copies it, and change rows are counted off by the caller in the same
//! transaction. Nothing here decides what changes; `directories::plan` does.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    fold::{directory_facet, fold, index_text},
    model::{ChangeKind, FOREVER, ObjectId, SubjectType},
};
use crate::{
    clock::Time,
    connectors::{GroupFields, IdentityFields, Key, Keys},
    error::Result,
    principal::AccountId,
    secret,
};

/// Raised when what is derived from an object changes (folding, columns), so that unchanged objects are staged again.
const CONTENT_VERSION: u8 = 1;

/// 128 bits of SHA-256.
pub type Hash = [u8; 16];

/// [`type@Hash`] of bytes.
pub fn short_hash(bytes: &[u8]) -> Hash {
    let mut hash = [0; 16];
    hash.copy_from_slice(&secret::sha256(bytes)[..16]);
    hash
}

/// The hash of a set of members; `sorted` is ascending and without doubles.
pub fn member_hash(sorted: &[ObjectId]) -> Hash {
    let bytes: Vec<u8> = sorted.iter().flat_map(|id| id.to_be_bytes()).collect();
    short_hash(&bytes)
}

/// The new content of one object, ready to be copied into its table.
#[derive(Debug)]
pub struct Staged {
    pub object_id: ObjectId,
    object_type: &'static str,
    is_new: bool,
    external_id: String,
    keys: Keys,
    pub content_hash: Hash,
    name: String,
    display_name: Option<String>,
    mail: Option<String>,
    description: Option<String>,
    sort_key: String,
    status: Option<&'static str>,
    pub fields: String,
    search_text: String,
    pub member_hash: Option<Hash>,
    pub member_count: Option<i64>,
}

fn content_hash(fields: &str, keys: &Keys) -> Hash {
    let mut bytes = Vec::with_capacity(fields.len() + 40);
    bytes.push(CONTENT_VERSION);
    for key in [keys.dn, keys.name] {
        bytes.push(u8::from(key.is_some()));
        bytes.extend_from_slice(&key.map_or([0; 16], |key| key.0));
    }
    bytes.extend_from_slice(fields.as_bytes());
    short_hash(&bytes)
}

/// Serialises an identity's content and hashes it: what the planner compares for every object of every run.
pub fn identity_content(fields: &IdentityFields, keys: &Keys) -> Result<(String, Hash)> {
    let json = serde_json::to_string(fields)?;
    let hash = content_hash(&json, keys);
    Ok((json, hash))
}

/// [`identity_content`] for a group, without its members.
pub fn group_content(fields: &GroupFields, keys: &Keys) -> Result<(String, Hash)> {
    let json = serde_json::to_string(fields)?;
    let hash = content_hash(&json, keys);
    Ok((json, hash))
}

impl Staged {
    /// An identity with the content that [`identity_content`] answered.
    pub fn identity(
        id: ObjectId,
        external_id: String,
        keys: Keys,
        fields: IdentityFields,
        json: String,
        hash: Hash,
    ) -> Self {
        let texts = [
            fields.display_name.as_deref(),
            fields.given_name.as_deref(),
            fields.family_name.as_deref(),
            Some(fields.user_name.as_str()),
            fields.upn.as_deref(),
            fields.mail.as_deref(),
            fields.employee_id.as_deref(),
        ];
        let search_text = index_text(texts.into_iter().flatten().chain(fields.mails.iter().map(String::as_str)));
        let shown = fields.display_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&fields.user_name);
        Self {
            object_id: id,
            object_type: "identity",
            is_new: false,
            external_id,
            keys,
            content_hash: hash,
            sort_key: fold(shown),
            name: fields.user_name,
            display_name: fields.display_name,
            mail: fields.mail,
            description: None,
            status: Some(fields.status.as_str()),
            fields: json,
            search_text,
            member_hash: None,
            member_count: None,
        }
    }

    /// A group with the content that [`group_content`] answered, and its members.
    pub fn group(
        id: ObjectId,
        external_id: String,
        keys: Keys,
        fields: GroupFields,
        json: String,
        hash: Hash,
        members: (Hash, i64),
    ) -> Self {
        let search_text = index_text([Some(fields.name.as_str()), fields.description.as_deref()].into_iter().flatten());
        Self {
            object_id: id,
            object_type: "group",
            is_new: false,
            external_id,
            keys,
            content_hash: hash,
            sort_key: fold(&fields.name),
            name: fields.name,
            display_name: None,
            mail: None,
            description: fields.description,
            status: None,
            fields: json,
            search_text,
            member_hash: Some(members.0),
            member_count: Some(members.1),
        }
    }

    /// Says whether the copy has nothing with this id yet.
    #[must_use]
    pub fn new_to_copy(mut self, is_new: bool) -> Self {
        self.is_new = is_new;
        self
    }

    /// A member value that points at nothing in the copy.
    pub fn reference(id: ObjectId, key: Key, text: String) -> Self {
        Self {
            object_id: id,
            object_type: "reference",
            is_new: true,
            external_id: String::new(),
            keys: Keys { dn: Some(key), name: None },
            content_hash: [0; 16],
            name: text,
            display_name: None,
            mail: None,
            description: None,
            sort_key: String::new(),
            status: None,
            fields: String::new(),
            search_text: String::new(),
            member_hash: None,
            member_count: None,
        }
    }
}

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
}

/// Takes `count` numbers out of the common space; answers the first.
pub fn reserve_numbers(connection: &Connection, count: i64) -> Result<ObjectId> {
    Ok(connection
        .prepare_cached("UPDATE object_number SET next = next + ?1 WHERE id = 1 RETURNING next - ?1")?
        .query_row([count], |row| row.get(0))?)
}

/// What the copy knows of an object.
#[derive(Debug, Clone)]
pub struct Known {
    pub id: ObjectId,
    pub content_hash: Hash,
    pub is_gone: bool,
    /// Groups only.
    pub member_hash: Option<Hash>,
}

pub fn find_identity(connection: &Connection, directory: i64, external_id: &str) -> Result<Option<Known>> {
    Ok(connection
        .prepare_cached(
            "SELECT id, content_hash, missing_since_at IS NOT NULL OR removed_at IS NOT NULL
             FROM identity WHERE directory_id = ?1 AND external_id = ?2",
        )?
        .query_row(params![directory, external_id], |row| {
            Ok(Known { id: row.get(0)?, content_hash: row.get(1)?, is_gone: row.get(2)?, member_hash: None })
        })
        .optional()?)
}

pub fn find_group(connection: &Connection, directory: i64, external_id: &str) -> Result<Option<Known>> {
    Ok(connection
        .prepare_cached(
            "SELECT id, content_hash, missing_since_at IS NOT NULL OR removed_at IS NOT NULL, member_hash
             FROM directory_group WHERE directory_id = ?1 AND external_id = ?2",
        )?
        .query_row(params![directory, external_id], |row| {
            Ok(Known {
                id: row.get(0)?,
                content_hash: row.get(1)?,
                is_gone: row.get(2)?,
                member_hash: Some(row.get(3)?),
            })
        })
        .optional()?)
}

fn read_keys(row: &rusqlite::Row<'_>) -> rusqlite::Result<(ObjectId, Keys)> {
    let key = |index| row.get::<_, Option<Hash>>(index).map(|bytes| bytes.map(Key));
    Ok((row.get(0)?, Keys { dn: key(1)?, name: key(2)? }))
}

/// An identity or group of the copy by its external id, with what members refer to it by.
pub fn find_by_external_id(
    connection: &Connection,
    directory: i64,
    external_id: &str,
) -> Result<Option<(ObjectId, Keys)>> {
    Ok(connection
        .prepare_cached(
            "SELECT id, dn_key, name_key FROM identity WHERE directory_id = ?1 AND external_id = ?2
             UNION ALL SELECT id, dn_key, NULL FROM directory_group WHERE directory_id = ?1 AND external_id = ?2 LIMIT 1",
        )?
        .query_row(params![directory, external_id], read_keys)
        .optional()?)
}

/// The same by its distinguished name.
pub fn find_by_dn(connection: &Connection, directory: i64, key: Key) -> Result<Option<(ObjectId, Keys)>> {
    Ok(connection
        .prepare_cached(
            "SELECT id, dn_key, name_key FROM identity
             WHERE directory_id = ?1 AND dn_key = ?2 AND removed_at IS NULL AND missing_since_at IS NULL
             UNION ALL SELECT id, dn_key, NULL FROM directory_group
             WHERE directory_id = ?1 AND dn_key = ?2 AND removed_at IS NULL AND missing_since_at IS NULL LIMIT 1",
        )?
        .query_row(params![directory, key.0], read_keys)
        .optional()?)
}

/// The stored content of an identity, as JSON.
pub fn identity_fields(connection: &Connection, id: ObjectId) -> Result<String> {
    Ok(connection.prepare_cached("SELECT fields FROM identity WHERE id = ?1")?.query_row([id], |row| row.get(0))?)
}

/// The stored content of a group, as JSON.
pub fn group_fields(connection: &Connection, id: ObjectId) -> Result<String> {
    Ok(connection
        .prepare_cached("SELECT fields FROM directory_group WHERE id = ?1")?
        .query_row([id], |row| row.get(0))?)
}

pub fn find_reference(connection: &Connection, directory: i64, key: Key) -> Result<Option<ObjectId>> {
    Ok(connection
        .prepare_cached("SELECT id FROM reference WHERE directory_id = ?1 AND key = ?2")?
        .query_row(params![directory, key.0], |row| row.get(0))
        .optional()?)
}

/// The direct members a group has now, ascending.
pub fn members_now(connection: &Connection, group: ObjectId) -> Result<Vec<ObjectId>> {
    let mut statement = connection
        .prepare_cached("SELECT member_id FROM member WHERE group_id = ?1 AND until_at = ?2 ORDER BY member_id")?;
    let rows = statement.query_map(params![group, FOREVER], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Calls `visit` with the id and name of every object of a directory that is neither missing nor removed.
pub fn each_present(
    connection: &Connection,
    directory: i64,
    mut visit: impl FnMut(SubjectType, ObjectId) -> Result<()>,
) -> Result<()> {
    for (subject, sql) in [
        (
            SubjectType::Identity,
            "SELECT id FROM identity WHERE directory_id = ?1 AND removed_at IS NULL AND missing_since_at IS NULL",
        ),
        (
            SubjectType::Group,
            "SELECT id FROM directory_group WHERE directory_id = ?1 AND removed_at IS NULL AND missing_since_at IS NULL",
        ),
    ] {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([directory])?;
        while let Some(row) = rows.next()? {
            visit(subject, row.get(0)?)?;
        }
    }
    Ok(())
}

/// Writes a part of a plan.
pub fn insert_plan(connection: &Connection, run: i64, staged: &[Staged], changes: &[NewChange]) -> Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO staged (object_id, run_id, object_type, external_id, dn_key, name_key, content_hash, name,
                             display_name, mail, description, sort_key, status, fields, search_text, member_hash, member_count,
                             is_new)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
    )?;
    for object in staged {
        insert.execute(params![
            object.object_id,
            run,
            object.object_type,
            object.external_id,
            object.keys.dn.map(|key| key.0),
            object.keys.name.map(|key| key.0),
            object.content_hash,
            object.name,
            object.display_name,
            object.mail,
            object.description,
            object.sort_key,
            object.status,
            object.fields,
            object.search_text,
            object.member_hash,
            object.member_count,
            object.is_new,
        ])?;
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO change (run_id, subject_type, subject_id, kind, field, before, after) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for change in changes {
        insert.execute(params![
            run,
            change.subject_type.as_str(),
            change.subject_id,
            change.kind.as_str(),
            change.field,
            change.before,
            change.after,
        ])?;
    }
    Ok(())
}

/// Deletes up to `limit` rows of a plan that will not be applied; `false` when nothing was left.
pub fn forget_plan(connection: &Connection, run: i64, limit: i64, with_changes: bool) -> Result<bool> {
    let staged = connection
        .prepare_cached(
            "DELETE FROM staged WHERE object_id IN (SELECT object_id FROM staged WHERE run_id = ?1 ORDER BY object_id LIMIT ?2)",
        )?
        .execute(params![run, limit])?;
    let changes = if with_changes {
        connection
            .prepare_cached(
                "DELETE FROM change WHERE id IN (SELECT id FROM change WHERE run_id = ?1 ORDER BY id LIMIT ?2)",
            )?
            .execute(params![run, limit])?
    } else {
        0
    };
    Ok(staged + changes > 0)
}

/// Forgets that a run was applied: its directory was taken out, and its change rows with it.
pub fn forget_applied(connection: &Connection, run: i64) -> Result<()> {
    connection.prepare_cached("DELETE FROM applied_run WHERE run_id = ?1")?.execute([run])?;
    Ok(())
}

/// Where a run's content goes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub run: i64,
    pub account: AccountId,
    pub directory: i64,
    /// The moment at which all changes of the run take effect.
    pub at: Time,
}

/// Copies up to `limit` staged objects into place; answers how many there were.
pub fn apply_staged(connection: &Connection, target: Target, limit: i64) -> Result<usize> {
    let last: Option<ObjectId> = connection
        .prepare_cached(
            "SELECT max(object_id) FROM (SELECT object_id FROM staged WHERE run_id = ?1 ORDER BY object_id LIMIT ?2)",
        )?
        .query_row(params![target.run, limit], |row| row.get(0))?;
    let Some(last) = last else { return Ok(0) };
    let directory = directory_facet(target.directory);
    connection
        .prepare_cached(
            "INSERT INTO identity (id, account_id, directory_id, external_id, dn_key, name_key, content_hash, user_name,
                                   display_name, mail, sort_key, status, fields, first_seen_at, changed_at)
             SELECT object_id, ?3, ?4, external_id, dn_key, name_key, content_hash, name, display_name, mail, sort_key,
                    status, fields, ?5, ?5
             FROM staged WHERE run_id = ?1 AND object_id <= ?2 AND object_type = 'identity'
             ON CONFLICT (id) DO UPDATE SET
                 dn_key = excluded.dn_key, name_key = excluded.name_key, content_hash = excluded.content_hash,
                 user_name = excluded.user_name, display_name = excluded.display_name, mail = excluded.mail,
                 sort_key = excluded.sort_key, status = excluded.status, fields = excluded.fields,
                 changed_at = excluded.changed_at, missing_since_at = NULL, removed_at = NULL",
        )?
        .execute(params![target.run, last, target.account, target.directory, target.at])?;
    for sql in [
        "INSERT INTO identity_text (rowid, text, directory, status)
         SELECT object_id, search_text, ?3, substr(status, 1, 3) FROM staged
         WHERE run_id = ?1 AND object_id <= ?2 AND object_type = 'identity' AND is_new = 1",
        "INSERT OR REPLACE INTO identity_text (rowid, text, directory, status)
         SELECT object_id, search_text, ?3, substr(status, 1, 3) FROM staged
         WHERE run_id = ?1 AND object_id <= ?2 AND object_type = 'identity' AND is_new = 0",
    ] {
        connection.prepare_cached(sql)?.execute(params![target.run, last, directory])?;
    }
    connection
        .prepare_cached(
            "INSERT INTO directory_group (id, account_id, directory_id, external_id, dn_key, content_hash, member_hash,
                                          member_count, name, description, sort_key, fields, first_seen_at, changed_at)
             SELECT object_id, ?3, ?4, external_id, dn_key, content_hash, member_hash, member_count, name, description,
                    sort_key, fields, ?5, ?5
             FROM staged WHERE run_id = ?1 AND object_id <= ?2 AND object_type = 'group'
             ON CONFLICT (id) DO UPDATE SET
                 dn_key = excluded.dn_key, content_hash = excluded.content_hash, member_hash = excluded.member_hash,
                 member_count = excluded.member_count, name = excluded.name, description = excluded.description,
                 sort_key = excluded.sort_key, fields = excluded.fields, changed_at = excluded.changed_at,
                 missing_since_at = NULL, removed_at = NULL",
        )?
        .execute(params![target.run, last, target.account, target.directory, target.at])?;
    for sql in [
        "INSERT INTO group_text (rowid, text, directory)
         SELECT object_id, search_text, ?3 FROM staged
         WHERE run_id = ?1 AND object_id <= ?2 AND object_type = 'group' AND is_new = 1",
        "INSERT OR REPLACE INTO group_text (rowid, text, directory)
         SELECT object_id, search_text, ?3 FROM staged
         WHERE run_id = ?1 AND object_id <= ?2 AND object_type = 'group' AND is_new = 0",
    ] {
        connection.prepare_cached(sql)?.execute(params![target.run, last, directory])?;
    }
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO reference (id, directory_id, key, text)
             SELECT object_id, ?3, dn_key, name FROM staged
             WHERE run_id = ?1 AND object_id <= ?2 AND object_type = 'reference'",
        )?
        .execute(params![target.run, last, target.directory])?;
    Ok(connection
        .prepare_cached("DELETE FROM staged WHERE run_id = ?1 AND object_id <= ?2")?
        .execute(params![target.run, last])?)
}

/// Makes up to `limit` change rows after row `after` take effect: those that staged content does not carry (missing
/// objects, memberships). Answers the last row looked at and how many there were; `None` when the plan is through.
pub fn apply_changes(connection: &Connection, target: Target, after: i64, limit: i64) -> Result<Option<(i64, i64)>> {
    let (last, count): (Option<i64>, i64) = connection
        .prepare_cached(
            "SELECT max(id), count(*) FROM (SELECT id FROM change WHERE run_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3)",
        )?
        .query_row(params![target.run, after, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some(last) = last else { return Ok(None) };
    for sql in [
        "UPDATE identity SET missing_since_at = ?4, changed_at = ?4 WHERE id IN
             (SELECT subject_id FROM change
              WHERE run_id = ?1 AND id > ?2 AND id <= ?3 AND kind = 'missing' AND subject_type = 'identity')",
        "UPDATE directory_group SET missing_since_at = ?4, changed_at = ?4 WHERE id IN
             (SELECT subject_id FROM change
              WHERE run_id = ?1 AND id > ?2 AND id <= ?3 AND kind = 'missing' AND subject_type = 'group')",
    ] {
        connection.prepare_cached(sql)?.execute(params![target.run, after, last, target.at])?;
    }
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO member (group_id, until_at, member_id, since_at)
             SELECT m.group_id, ?4, m.member_id, m.since_at
             FROM change c JOIN member m
               ON m.group_id = c.subject_id AND m.until_at = ?5 AND m.member_id = CAST(trim(c.before, '\"') AS INTEGER)
             WHERE c.run_id = ?1 AND c.id > ?2 AND c.id <= ?3 AND c.kind = 'member-removed'",
        )?
        .execute(params![target.run, after, last, target.at, FOREVER])?;
    connection
        .prepare_cached(
            "DELETE FROM member WHERE (group_id, until_at, member_id) IN
                 (SELECT subject_id, ?4, CAST(trim(before, '\"') AS INTEGER) FROM change
                  WHERE run_id = ?1 AND id > ?2 AND id <= ?3 AND kind = 'member-removed')",
        )?
        .execute(params![target.run, after, last, FOREVER])?;
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO member (group_id, until_at, member_id, since_at)
             SELECT subject_id, ?5, CAST(trim(after, '\"') AS INTEGER), ?4
             FROM change WHERE run_id = ?1 AND id > ?2 AND id <= ?3 AND kind = 'member-added'",
        )?
        .execute(params![target.run, after, last, target.at, FOREVER])?;
    Ok(Some((last, count)))
}

/// The run's changes are history from now on.
pub fn finish_applied(connection: &Connection, target: Target) -> Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO applied_run (run_id, applied_at) VALUES (?1, ?2)")?
        .execute(params![target.run, target.at])?;
    Ok(())
}

/// How many identities and groups of a directory are not removed (missing ones count).
pub fn counts(connection: &Connection, directory: i64) -> Result<(i64, i64)> {
    Ok(connection.query_row(
        "SELECT (SELECT count(*) FROM identity WHERE directory_id = ?1 AND removed_at IS NULL),
                (SELECT count(*) FROM directory_group WHERE directory_id = ?1 AND removed_at IS NULL)",
        [directory],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?)
}

/// Deletes up to `limit` objects of a directory that was taken out, with all that hangs on them; `false` when nothing
/// was left.
pub fn forget_directory(connection: &Connection, directory: i64, limit: i64) -> Result<bool> {
    let mut left = false;
    for (table, text) in
        [("identity", Some("identity_text")), ("directory_group", Some("group_text")), ("reference", None)]
    {
        let sql = match table {
            "identity" => "SELECT id FROM identity WHERE directory_id = ?1 LIMIT ?2",
            "directory_group" => "SELECT id FROM directory_group WHERE directory_id = ?1 LIMIT ?2",
            _ => "SELECT id FROM reference WHERE directory_id = ?1 LIMIT ?2",
        };
        let ids: Vec<ObjectId> = connection
            .prepare_cached(sql)?
            .query_map(params![directory, limit], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        left |= !ids.is_empty();
        for id in ids {
            connection.prepare_cached("DELETE FROM member WHERE group_id = ?1")?.execute([id])?;
            connection
                .prepare_cached(
                    "DELETE FROM member WHERE (group_id, until_at, member_id, since_at) IN
                         (SELECT group_id, until_at, member_id, since_at FROM member WHERE member_id = ?1)",
                )?
                .execute([id])?;
            connection.prepare_cached("DELETE FROM change WHERE subject_id = ?1")?.execute([id])?;
            match (table, text) {
                ("identity", Some(_)) => {
                    connection.prepare_cached("DELETE FROM identity_text WHERE rowid = ?1")?.execute([id])?;
                    connection.prepare_cached("DELETE FROM identity WHERE id = ?1")?.execute([id])?;
                }
                ("directory_group", Some(_)) => {
                    connection.prepare_cached("DELETE FROM group_text WHERE rowid = ?1")?.execute([id])?;
                    connection.prepare_cached("DELETE FROM directory_group WHERE id = ?1")?.execute([id])?;
                }
                _ => {
                    connection.prepare_cached("DELETE FROM reference WHERE id = ?1")?.execute([id])?;
                }
            }
        }
    }
    Ok(left)
}

/// One field that differs: name, before, after as JSON.
pub type Difference = (String, Option<String>, Option<String>);

/// Field-by-field differences between two stored contents: name, before, after as JSON. Raw attributes are compared
/// one by one as `attributes.<name>`.
pub fn differences(before: &str, after: &str) -> Result<Vec<Difference>> {
    type Object = HashMap<String, serde_json::Value>;
    let (mut before, mut after): (Object, Object) = (serde_json::from_str(before)?, serde_json::from_str(after)?);
    let attributes = |object: &mut Object| match object.remove("attributes") {
        Some(serde_json::Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (old, new) = (attributes(&mut before), attributes(&mut after));
    let mut found = Vec::new();
    let mut compare = |name: String, old: Option<&serde_json::Value>, new: Option<&serde_json::Value>| {
        if old != new {
            found.push((name, old.map(ToString::to_string), new.map(ToString::to_string)));
        }
    };
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        compare(name.clone(), before.get(name), after.get(name));
    }
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        compare(format!("attributes.{name}"), old.get(name), new.get(name));
    }
    Ok(found)
}
