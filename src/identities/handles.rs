//! Handles: what objects are looked up by, each a hash of an external id or of a name that others refer by.
//!
//! Owns every write to `handle`, and that an object has exactly the handles of its external id and its names, marked gone
//! as it is. Only the first plan of a directory is written without them: its objects first, then all their handles sorted
//! ([`insert_sorted`]), because hashes that come one by one touch the whole table again and again.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    lookup::{self, Gone},
    model::{ObjectId, SubjectType},
    staged::{Staged, StagedKind},
};
use crate::{
    connectors::{Key, Keys},
    error::Result,
    secret,
};

/// 128 bits of SHA-256.
pub type Hash = [u8; 16];

/// The handle that an external id makes.
pub fn of_id(directory: i64, subject: SubjectType, external_id: &str) -> Key {
    let parts = [&directory.to_be_bytes()[..], &subject.code().to_be_bytes(), external_id.as_bytes()];
    let mut hash = [0; 16];
    hash.copy_from_slice(&secret::sha256_of(&parts)[..16]);
    Key(hash)
}

fn all_of(id: Key, keys: Keys) -> impl Iterator<Item = Key> {
    [Some(id), keys.dn, keys.name].into_iter().flatten()
}

/// The identity of a directory that has this distinguished name: id and shown name.
pub fn find_by_dn(connection: &Connection, directory: i64, key: Key) -> Result<Option<(ObjectId, String)>> {
    let (head, rest) = key.halves();
    Ok(connection
        .prepare_cached(
            "SELECT i.id, coalesce(i.display_name, i.user_name) FROM handle h CROSS JOIN identity i ON i.id = h.object_id
             WHERE h.head = ?1 AND h.rest = ?2 AND h.directory_id = ?3 AND i.removed_at IS NULL LIMIT 1",
        )?
        .query_row(params![head, rest, directory], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// Puts handles in the order of the table, which compares their halves as signed numbers.
pub fn sort(handles: &mut [(Hash, ObjectId)]) {
    handles.sort_unstable_by_key(|(handle, id)| (Key(*handle).halves(), *id));
}

/// Writes handles of a directory's first plan. In the order of [`sort`] they cost the least.
pub fn insert_sorted(connection: &Connection, directory: i64, handles: &[(Hash, ObjectId)]) -> Result<()> {
    let mut insert = connection.prepare_cached(INSERT)?;
    for (handle, id) in handles {
        let (head, rest) = Key(*handle).halves();
        insert.execute(params![head, rest, id, directory])?;
    }
    Ok(())
}

const INSERT: &str = "INSERT OR IGNORE INTO handle (head, rest, object_id, directory_id) VALUES (?1, ?2, ?3, ?4)";

/// Lets the handles follow what is about to be written: new objects get theirs, those that are there already (missing and
/// removed ones too) lose those of names they had.
pub(super) fn follow(connection: &Connection, directory: i64, staged: &[Staged]) -> Result<()> {
    let mut insert = connection.prepare_cached(INSERT)?;
    for object in staged {
        let subject = match object.kind {
            StagedKind::Identity => SubjectType::Identity,
            StagedKind::Group => SubjectType::Group,
            StagedKind::Reference => continue,
        };
        if !object.is_new {
            let (gone, before) =
                (gone(connection, object.object_id)?, lookup::keys(connection, subject, object.object_id)?);
            if gone == Some(Gone::Present) && before == object.keys {
                continue;
            }
            forget(connection, object.object_id)?;
        }
        for handle in all_of(of_id(directory, subject, &object.external_id), object.keys) {
            let (head, rest) = handle.halves();
            insert.execute(params![head, rest, object.object_id, directory])?;
        }
    }
    Ok(())
}

fn gone(connection: &Connection, id: ObjectId) -> Result<Option<Gone>> {
    let mut statement = connection.prepare_cached("SELECT gone FROM object WHERE id = ?1")?;
    Ok(statement.query_row([id], |row| row.get(0).map(Gone::of_code)).optional()?)
}

/// The handles that an object has, by its rows.
fn stored(connection: &Connection, id: ObjectId) -> Result<Vec<Key>> {
    let found: Option<(i64, i64, String)> = connection
        .prepare_cached("SELECT directory_id, kind, external_id FROM object WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((directory, subject, external_id)) =
        found.and_then(|(directory, kind, external_id)| Some((directory, SubjectType::of_code(kind)?, external_id)))
    else {
        return Ok(Vec::new());
    };
    let keys = lookup::keys(connection, subject, id)?;
    Ok(all_of(of_id(directory, subject, &external_id), keys).collect())
}

/// An object goes missing, or is removed.
pub(super) fn set_gone(connection: &Connection, id: ObjectId, gone: Gone) -> Result<()> {
    for handle in stored(connection, id)? {
        let (head, rest) = handle.halves();
        connection
            .prepare_cached("UPDATE handle SET gone = ?4 WHERE head = ?1 AND rest = ?2 AND object_id = ?3")?
            .execute(params![head, rest, id, gone.code()])?;
    }
    Ok(())
}

/// Deletes the handles of an object whose rows are still there.
pub(super) fn forget(connection: &Connection, id: ObjectId) -> Result<()> {
    for handle in stored(connection, id)? {
        let (head, rest) = handle.halves();
        connection
            .prepare_cached("DELETE FROM handle WHERE head = ?1 AND rest = ?2 AND object_id = ?3")?
            .execute(params![head, rest, id])?;
    }
    Ok(())
}
