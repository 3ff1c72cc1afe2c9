//! Parts of an account: what a role for some directories, groups or units sees, and nothing else.
//!
//! Owns `part`, `part_mark` and `part_object`, and [`Sight`], without which nothing of the copy is listed or found: it is
//! made from a principal here and nowhere else, and engines that work for the whole account say so. What lies in a part
//! is stored, so that a list of a part walks as fast as a list of everything. It is worked out anew before an answer is
//! given whenever a run of one of its directories was applied since: who left a unit or a group is gone with the next
//! request. The past is not shown to parts: what lay in one then is not stored.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    model::{FOREVER, GroupRow, IdentityRow, ObjectId},
    nesting,
    privileges::Reason,
    queries::{self, Filter},
    retention,
};
use crate::{
    clock::{DAY, HOUR, Time},
    connectors::{self, Attributes, Value, ldap::dn},
    error::{Error, FieldError, Result},
    kernel::Kernel,
    principal::{AccountId, Principal, Scope},
};

/// Whose eyes the copy is read with.
#[derive(Debug, Clone)]
pub struct Sight {
    account: AccountId,
    part: Option<Arc<Part>>,
}

/// A part as lists need it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) id: i64,
    /// Directories that are in it whole; the same as JSON.
    whole: BTreeSet<i64>,
    pub(super) whole_json: String,
    /// All directories that something of it may lie in.
    directories: BTreeSet<i64>,
}

/// A part with no whole directory and no more objects than this is listed by looking at each of them.
const FEW_MAX: usize = 2_000;
/// Rows written at once: the writer is not held for longer than a moment.
const ROWS_AT_ONCE: usize = 2_000;
/// Changed objects beyond which everything is looked at instead.
const CHANGES_MAX: i64 = 20_000;
/// A part that nobody used for so long is forgotten.
const UNUSED_US: i64 = 30 * DAY;
/// How often the last use is written.
const USED_EVERY_US: i64 = HOUR;

/// All that is said of privileged groups that are not seen.
const PRIVILEGED: &str = "Member of a privileged group";

const IN_UNIT: i64 = 1;
const IN_GROUP: i64 = 2;

impl Sight {
    /// Of an engine that works for the whole account: plans, guards, tasks that were allowed.
    pub fn whole(account: AccountId) -> Self {
        Self { account, part: None }
    }

    pub fn account(&self) -> AccountId {
        self.account
    }

    pub(super) fn part(&self) -> Option<&Part> {
        self.part.as_deref()
    }

    pub fn is_part(&self) -> bool {
        self.part.is_some()
    }

    /// The account, for reading its past.
    pub fn past(&self) -> Result<AccountId> {
        match self.part {
            None => Ok(self.account),
            Some(_) => Err(Error::Forbidden(
                "Your role is for a part of this account, of which only the present can be seen.".into(),
            )),
        }
    }

    /// Whether something of a directory may be seen.
    pub fn reaches(&self, directory: i64) -> bool {
        self.part().is_none_or(|part| part.directories.contains(&directory))
    }

    /// Whether all of a directory is seen.
    pub(super) fn is_whole(&self, directory: i64) -> bool {
        self.part().is_none_or(|part| part.whole.contains(&directory))
    }

    /// Whether an object is seen.
    pub fn holds(&self, connection: &Connection, directory: i64, object: ObjectId) -> Result<bool> {
        match self.part() {
            Some(part) if !part.whole.contains(&directory) => holds(connection, part.id, object),
            _ => Ok(true),
        }
    }

    /// The same of an identity or a group whose directory is not known.
    pub(super) fn holds_object(&self, connection: &Connection, object: ObjectId) -> Result<bool> {
        let Some(part) = self.part() else { return Ok(true) };
        let directory = connection
            .prepare_cached("SELECT directory_id FROM object WHERE id = ?1")?
            .query_row([object], |row| row.get(0))
            .optional()?;
        match directory {
            Some(directory) => self.holds(connection, directory, object),
            // A reference to what was not read: nobody knows where it lies.
            None => holds(connection, part.id, object),
        }
    }

    /// All objects of a part that is small, as JSON; `None` where lists are walked instead.
    pub(super) fn few(&self, connection: &Connection) -> Result<Option<String>> {
        let Some(part) = self.part().filter(|part| part.whole.is_empty()) else { return Ok(None) };
        let mut statement =
            connection.prepare_cached("SELECT DISTINCT object_id FROM part_object WHERE part_id = ?1 LIMIT ?2")?;
        let rows = statement.query_map(params![part.id, FEW_MAX + 1], |row| row.get(0))?;
        let ids: Vec<ObjectId> = rows.collect::<rusqlite::Result<_>>()?;
        if ids.len() > FEW_MAX { Ok(None) } else { Ok(Some(serde_json::to_string(&ids)?)) }
    }

    /// Why somebody is privileged, as sentences that name nothing but what is seen.
    pub(super) fn why(&self, connection: &Connection, why: Vec<Reason>) -> Result<Vec<String>> {
        let all = why.len();
        let seen = self.reasons(connection, why)?;
        let mut sentences: Vec<String> = seen.iter().map(Reason::text).collect();
        if sentences.len() < all {
            sentences.push(PRIVILEGED.to_owned());
        }
        Ok(sentences)
    }

    /// The reasons that name nothing but what is seen.
    pub(super) fn reasons(&self, connection: &Connection, why: Vec<Reason>) -> Result<Vec<Reason>> {
        if !self.is_part() {
            return Ok(why);
        }
        let mut seen = Vec::with_capacity(why.len());
        for reason in why {
            let mut is_seen = true;
            for (group, _) in reason.group.iter().chain(&reason.through) {
                is_seen = is_seen && self.holds_object(connection, *group)?;
            }
            if is_seen {
                seen.push(reason);
            }
        }
        Ok(seen)
    }

    /// How many identities and groups of a directory are seen.
    pub(super) fn counts(&self, connection: &Connection, directory: i64) -> Result<Option<(i64, i64)>> {
        let Some(part) = self.part().filter(|part| !part.whole.contains(&directory)) else { return Ok(None) };
        let mut statement = connection.prepare_cached(
            "SELECT count(DISTINCT o.id) FILTER (WHERE o.kind = 1), count(DISTINCT o.id) FILTER (WHERE o.kind = 2)
             FROM part_object p CROSS JOIN object o ON o.id = p.object_id
             WHERE p.part_id = ?1 AND p.directory_id = ?2 AND o.gone < 2",
        )?;
        Ok(Some(statement.query_row(params![part.id, directory], |row| Ok((row.get(0)?, row.get(1)?)))?))
    }

    /// How many direct members of a group are seen. `all` is how many it has.
    pub(super) fn members(&self, connection: &Connection, directory: i64, group: ObjectId, all: i64) -> Result<i64> {
        let Some(part) = self.part().filter(|part| !part.whole.contains(&directory)) else { return Ok(all) };
        let in_group = "SELECT 1 FROM part_object WHERE part_id = ?1 AND object_id = ?2 AND why = 2";
        if connection.prepare_cached(in_group)?.exists(params![part.id, group])? {
            // All that is inside a group of the part is in it.
            return Ok(all);
        }
        let mut statement = connection.prepare_cached(
            "SELECT count(*) FROM member m WHERE m.group_id = ?1 AND m.until_at = ?2
               AND EXISTS (SELECT 1 FROM part_object p WHERE p.part_id = ?3 AND p.object_id = m.member_id)",
        )?;
        Ok(statement.query_row(params![group, FOREVER, part.id], |row| row.get(0))?)
    }

    /// Whether a value of an attribute is the name of something of the copy that is not seen. A manager's is shown only
    /// when it is known to be of somebody who is seen: a name that somebody had before is nobody's any more.
    fn is_hidden(&self, connection: &Connection, directory: i64, attribute: &str, value: &str) -> Result<bool> {
        let is_manager = attribute.eq_ignore_ascii_case("manager");
        let key = Some(value).filter(|value| value.contains('=')).and_then(connectors::dn_key);
        let Some((head, rest)) = key.map(|key| key.halves()) else { return Ok(is_manager) };
        let sql = "SELECT object_id FROM handle WHERE head = ?1 AND rest = ?2 AND directory_id = ?3";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![head, rest, directory])?;
        let mut is_known = false;
        while let Some(row) = rows.next()? {
            is_known = true;
            if !self.holds(connection, directory, row.get(0)?)? {
                return Ok(true);
            }
        }
        Ok(is_manager && !is_known)
    }

    /// Takes the names of what is not seen out of an object's attributes.
    fn veil(&self, connection: &Connection, directory: i64, attributes: &mut Attributes) -> Result<()> {
        for (name, values) in attributes.iter_mut().filter(|(name, _)| &***name != "dn") {
            let mut seen = Vec::with_capacity(values.len());
            for value in values.drain(..) {
                let is_hidden = match &value {
                    Value::Text(text) => self.is_hidden(connection, directory, name, text)?,
                    Value::Binary { .. } => false,
                };
                if !is_hidden {
                    seen.push(value);
                }
            }
            *values = seen;
        }
        attributes.retain(|_, values| !values.is_empty());
        Ok(())
    }

    /// An identity as it may be shown; `None` when it is not seen.
    pub(super) fn identity(&self, connection: &Connection, mut row: IdentityRow) -> Result<Option<IdentityRow>> {
        if self.is_whole(row.directory_id) {
            return Ok(Some(row));
        }
        if !self.holds(connection, row.directory_id, row.id)? {
            return Ok(None);
        }
        self.veil(connection, row.directory_id, &mut row.fields.attributes)?;
        if let Some(manager) = &row.fields.manager
            && self.is_hidden(connection, row.directory_id, "manager", manager)?
        {
            row.fields.manager = None;
        }
        Ok(Some(row))
    }

    /// A group as it may be shown, with the members that are seen; `None` when it is not seen itself.
    pub(super) fn group(&self, connection: &Connection, mut row: GroupRow) -> Result<Option<GroupRow>> {
        if self.is_whole(row.directory_id) {
            return Ok(Some(row));
        }
        if !self.holds(connection, row.directory_id, row.id)? {
            return Ok(None);
        }
        self.veil(connection, row.directory_id, &mut row.fields.attributes)?;
        row.member_count = self.members(connection, row.directory_id, row.id, row.member_count)?;
        Ok(Some(row))
    }

    /// A side of a changed field as it may be shown: the same values are left out. JSON.
    pub(super) fn side(
        &self,
        connection: &Connection,
        directory: i64,
        field: &str,
        side: &str,
    ) -> Result<Option<String>> {
        let attribute = field.strip_prefix("attributes.").unwrap_or(field);
        if self.is_whole(directory) || attribute == "dn" {
            return Ok(Some(side.to_owned()));
        }
        Ok(match serde_json::from_str(side)? {
            serde_json::Value::String(text) if self.is_hidden(connection, directory, attribute, &text)? => None,
            serde_json::Value::Array(values) => {
                let mut seen = Vec::with_capacity(values.len());
                for value in values {
                    let is_hidden = match value.as_str() {
                        Some(text) => self.is_hidden(connection, directory, attribute, text)?,
                        None => false,
                    };
                    if !is_hidden {
                        seen.push(value);
                    }
                }
                Some(serde_json::Value::Array(seen).to_string())
            }
            _ => Some(side.to_owned()),
        })
    }
}

fn holds(connection: &Connection, part: i64, object: ObjectId) -> Result<bool> {
    let sql = "SELECT 1 FROM part_object WHERE part_id = ?1 AND object_id = ?2";
    Ok(connection.prepare_cached(sql)?.exists(params![part, object])?)
}

/// What somebody sees, worked out anew where the copy has moved on.
pub async fn sight(kernel: &Kernel, principal: &Principal) -> Result<Sight> {
    let account = principal.account()?;
    let Some(scope) = principal.scope.clone() else { return Ok(Sight::whole(account)) };
    let now = kernel.clock.now();
    let text = serde_json::to_string(scope.as_ref())?;
    let asked = (scope.clone(), text.clone());
    let found = kernel.db.read(move |c| look(c, account, &asked.0, &asked.1, now)).await?;
    let (part, stale) = match found {
        Found::Current(part) => return Ok(Sight { account, part: Some(Arc::new(part)) }),
        Found::Stale(part, stale) => (part, stale),
        Found::New => (kernel.db.write(move |c| insert(c, account, &text, now)).await?, true),
    };
    if stale {
        // One at a time: others wait for what is being worked out anyway.
        static WORKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _working = WORKING.lock().await;
        bring_up(kernel, account, part, &scope).await?;
    }
    kernel
        .db
        .write(move |c| {
            let sql = "UPDATE part SET used_at = ?2 WHERE id = ?1";
            c.prepare_cached(sql)?.execute(params![part, now])?;
            Ok(())
        })
        .await?;
    let part = kernel.db.read(move |c| read(c, account, part, &scope)).await?;
    Ok(Sight { account, part: Some(Arc::new(part)) })
}

enum Found {
    Current(Part),
    /// Its number, and whether the copy has moved on; else only its use is to be noted.
    Stale(i64, bool),
    New,
}

fn look(connection: &Connection, account: AccountId, scope: &Scope, text: &str, now: Time) -> Result<Found> {
    let found: Option<(i64, Time)> = connection
        .prepare_cached("SELECT id, used_at FROM part WHERE account_id = ?1 AND scope = ?2")?
        .query_row(params![account, text], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((id, used_at)) = found else { return Ok(Found::New) };
    for directory in worked_out(connection, account, scope)? {
        if applied(connection, directory)? != mark(connection, id, directory)? {
            return Ok(Found::Stale(id, true));
        }
    }
    if now.since(used_at) > USED_EVERY_US {
        return Ok(Found::Stale(id, false));
    }
    read(connection, account, id, scope).map(Found::Current)
}

fn insert(connection: &Connection, account: AccountId, scope: &str, now: Time) -> Result<i64> {
    connection
        .prepare_cached("INSERT INTO part (account_id, scope, used_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute(params![account, scope, now])?;
    Ok(connection
        .prepare_cached("SELECT id FROM part WHERE account_id = ?1 AND scope = ?2")?
        .query_row(params![account, scope], |row| row.get(0))?)
}

fn read(connection: &Connection, account: AccountId, id: i64, scope: &Scope) -> Result<Part> {
    let mut whole: BTreeSet<i64> = scope.directories.iter().copied().collect();
    // Whatever a scope names: what belongs to another account is in nobody's part.
    let own = queries::directories_of(connection, account)?;
    whole.retain(|directory| own.contains(directory));
    let mut directories = worked_out(connection, account, scope)?;
    directories.extend(&whole);
    Ok(Part { id, whole_json: serde_json::to_string(&whole)?, whole, directories })
}

/// The directory that a group is in.
fn directory_of(connection: &Connection, group: ObjectId) -> Result<Option<i64>> {
    Ok(connection
        .prepare_cached("SELECT directory_id FROM directory_group WHERE id = ?1")?
        .query_row([group], |row| row.get(0))
        .optional()?)
}

/// Whether a group is one of a directory and no tombstone, which has no members to be seen through it.
fn is_there(connection: &Connection, directory: i64, group: ObjectId) -> Result<bool> {
    let sql = "SELECT 1 FROM directory_group WHERE id = ?1 AND directory_id = ?2 AND removed_at IS NULL";
    Ok(connection.prepare_cached(sql)?.exists(params![group, directory])?)
}

/// The directories of which a part is worked out: those of its groups and units.
fn worked_out(connection: &Connection, account: AccountId, scope: &Scope) -> Result<BTreeSet<i64>> {
    let mut found: BTreeSet<i64> = scope.units.iter().map(|unit| unit.directory).collect();
    for group in &scope.groups {
        found.extend(directory_of(connection, *group)?);
    }
    let own = queries::directories_of(connection, account)?;
    found.retain(|directory| own.contains(directory));
    Ok(found)
}

/// The last applied run of a directory; 0 when there is none.
fn applied(connection: &Connection, directory: i64) -> Result<i64> {
    Ok(connection
        .prepare_cached("SELECT max(run_id) FROM plan WHERE directory_id = ?1 AND applied_at IS NOT NULL")?
        .query_row([directory], |row| row.get::<_, Option<i64>>(0))?
        .unwrap_or(0))
}

fn mark(connection: &Connection, part: i64, directory: i64) -> Result<i64> {
    Ok(connection
        .prepare_cached("SELECT run_id FROM part_mark WHERE part_id = ?1 AND directory_id = ?2")?
        .query_row(params![part, directory], |row| row.get(0))
        .optional()?
        .unwrap_or(-1))
}

/// What is to be written so that one directory of a part is right.
struct Difference {
    run: i64,
    joined: Vec<(ObjectId, i64)>,
    left: Vec<(ObjectId, i64)>,
}

/// Works a part out anew, as far as the copy has moved on.
async fn bring_up(kernel: &Kernel, account: AccountId, part: i64, scope: &Arc<Scope>) -> Result<()> {
    let asked = scope.clone();
    for directory in kernel.db.read(move |c| worked_out(c, account, &asked)).await? {
        let asked = scope.clone();
        let Difference { run, joined, left } =
            kernel.db.read(move |c| difference(c, account, part, directory, &asked)).await?;
        // What left goes first: the part is rather too small for a moment than too large.
        for rows in left.chunks(ROWS_AT_ONCE).map(<[_]>::to_vec) {
            kernel
                .db
                .write(move |c| {
                    let sql = "DELETE FROM part_object WHERE part_id = ?1 AND object_id = ?2 AND why = ?3";
                    let mut statement = c.prepare_cached(sql)?;
                    for (object, why) in rows {
                        statement.execute(params![part, object, why])?;
                    }
                    Ok(())
                })
                .await?;
        }
        for rows in joined.chunks(ROWS_AT_ONCE).map(<[_]>::to_vec) {
            kernel
                .db
                .write(move |c| {
                    let mut statement = c.prepare_cached(
                        "INSERT OR IGNORE INTO part_object (part_id, object_id, why, directory_id) VALUES (?1, ?2, ?3, ?4)",
                    )?;
                    for (object, why) in rows {
                        statement.execute(params![part, object, why, directory])?;
                    }
                    Ok(())
                })
                .await?;
        }
        kernel
            .db
            .write(move |c| {
                c.prepare_cached(
                    "INSERT INTO part_mark (part_id, directory_id, run_id) VALUES (?1, ?2, ?3)
                     ON CONFLICT (part_id, directory_id) DO UPDATE SET run_id = excluded.run_id",
                )?
                .execute(params![part, directory, run])?;
                Ok(())
            })
            .await?;
    }
    Ok(())
}

fn difference(
    connection: &Connection,
    account: AccountId,
    part: i64,
    directory: i64,
    scope: &Scope,
) -> Result<Difference> {
    let (run, since) = (applied(connection, directory)?, mark(connection, part, directory)?);
    let mut difference = Difference { run, joined: Vec::new(), left: Vec::new() };
    if run == since {
        return Ok(difference);
    }
    let mut compare = |why: i64, before: HashSet<ObjectId>, after: HashSet<ObjectId>| {
        difference.joined.extend(after.difference(&before).map(|object| (*object, why)));
        difference.left.extend(before.difference(&after).map(|object| (*object, why)));
    };
    let units: Vec<String> = scope
        .units
        .iter()
        .filter(|unit| unit.directory == directory)
        .filter_map(|unit| dn::normalise(&unit.dn).ok())
        .filter(|dn| !dn.is_empty())
        .collect();
    match changed_since(connection, account, directory, since)? {
        Some(changed) => {
            let (mut before, mut after) = (HashSet::new(), HashSet::new());
            for object in changed {
                if stored(connection, part, object)? {
                    before.insert(object);
                }
                if !units.is_empty() && lies_in(connection, object, &units)? {
                    after.insert(object);
                }
            }
            compare(IN_UNIT, before, after);
        }
        None => {
            let after = if units.is_empty() { HashSet::new() } else { all_in(connection, directory, &units)? };
            compare(IN_UNIT, stored_of(connection, part, directory, IN_UNIT)?, after);
        }
    }
    let mut inside: HashSet<ObjectId> = HashSet::new();
    for group in &scope.groups {
        if is_there(connection, directory, *group)? {
            for group in nesting::inside(connection, *group)? {
                inside.insert(group);
                let mut members =
                    connection.prepare_cached("SELECT member_id FROM member WHERE group_id = ?1 AND until_at = ?2")?;
                let mut rows = members.query(params![group, FOREVER])?;
                while let Some(row) = rows.next()? {
                    inside.insert(row.get(0)?);
                }
            }
        }
    }
    compare(IN_GROUP, stored_of(connection, part, directory, IN_GROUP)?, inside);
    Ok(difference)
}

/// The objects of a directory that runs after `since` changed; `None`: too many, or not all of them are known: nothing was
/// worked out yet, or the lines of such a run are deleted because history is not kept for so long.
fn changed_since(
    connection: &Connection,
    account: AccountId,
    directory: i64,
    since: i64,
) -> Result<Option<BTreeSet<ObjectId>>> {
    if since <= 0 {
        return Ok(None);
    }
    if let Some(edge) = retention::edge(connection, account)? {
        let sql = "SELECT 1 FROM plan WHERE directory_id = ?1 AND run_id > ?2 AND applied_at < ?3";
        if connection.prepare_cached(sql)?.exists(params![directory, since, edge])? {
            return Ok(None);
        }
    }
    let mut plans = connection.prepare_cached(
        "SELECT run_id, first_change, last_change FROM plan
         WHERE directory_id = ?1 AND run_id > ?2 AND applied_at IS NOT NULL AND first_change IS NOT NULL",
    )?;
    let mut subjects = connection
        .prepare_cached("SELECT DISTINCT subject_id FROM change WHERE id >= ?1 AND id <= ?2 AND run_id = ?3")?;
    let mut found = BTreeSet::new();
    let mut span = 0;
    let mut rows = plans.query(params![directory, since])?;
    while let Some(row) = rows.next()? {
        let (run, first, last): (i64, i64, Option<i64>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let last = last.unwrap_or(first);
        span += last - first + 1;
        if span > CHANGES_MAX {
            return Ok(None);
        }
        let ids = subjects.query_map(params![first, last, run], |row| row.get(0))?;
        for id in ids {
            found.insert(id?);
        }
    }
    Ok(Some(found))
}

fn stored(connection: &Connection, part: i64, object: ObjectId) -> Result<bool> {
    let sql = "SELECT 1 FROM part_object WHERE part_id = ?1 AND object_id = ?2 AND why = 1";
    Ok(connection.prepare_cached(sql)?.exists(params![part, object])?)
}

fn stored_of(connection: &Connection, part: i64, directory: i64, why: i64) -> Result<HashSet<ObjectId>> {
    let mut statement = connection
        .prepare_cached("SELECT object_id FROM part_object WHERE part_id = ?1 AND directory_id = ?2 AND why = ?3")?;
    let rows = statement.query_map(params![part, directory, why], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn is_in(written: Option<String>, units: &[String]) -> bool {
    // What cannot be read lies nowhere.
    let Some(name) = written.and_then(|text| dn::normalise(&text).ok()) else { return false };
    units.iter().any(|unit| dn::is_within(&name, unit))
}

/// Identities and groups with their DNs, as the connectors keep them.
const DN_OF: [&str; 2] = [
    "SELECT json_extract(fields, '$.attributes.dn[0]') FROM identity WHERE id = ?1 AND removed_at IS NULL",
    "SELECT json_extract(fields, '$.attributes.dn[0]') FROM directory_group WHERE id = ?1 AND removed_at IS NULL",
];
const DNS_OF: [&str; 2] = [
    "SELECT id, json_extract(fields, '$.attributes.dn[0]') FROM identity INDEXED BY identity_by_directory
     WHERE directory_id = ?1 AND removed_at IS NULL",
    "SELECT id, json_extract(fields, '$.attributes.dn[0]') FROM directory_group INDEXED BY group_by_directory
     WHERE directory_id = ?1 AND removed_at IS NULL",
];

fn lies_in(connection: &Connection, object: ObjectId, units: &[String]) -> Result<bool> {
    for sql in DN_OF {
        let found: Option<Option<String>> =
            connection.prepare_cached(sql)?.query_row([object], |row| row.get(0)).optional()?;
        if let Some(written) = found {
            return Ok(is_in(written, units));
        }
    }
    Ok(false)
}

fn all_in(connection: &Connection, directory: i64, units: &[String]) -> Result<HashSet<ObjectId>> {
    let mut found = HashSet::new();
    for sql in DNS_OF {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([directory])?;
        while let Some(row) = rows.next()? {
            if is_in(row.get(1)?, units) {
                found.insert(row.get(0)?);
            }
        }
    }
    Ok(found)
}

/// Forgets parts that no role has used for a long time.
pub fn purge(connection: &Connection, now: Time) -> Result<usize> {
    Ok(connection.execute("DELETE FROM part WHERE used_at < ?1", [now.plus(-UNUSED_US)])?)
}

/// Forgets all parts of an account, and from when on its history is there.
pub fn purge_account(connection: &Connection, account: AccountId) -> Result<()> {
    connection.execute("DELETE FROM part WHERE account_id = ?1", [account])?;
    connection.execute("DELETE FROM history_edge WHERE account_id = ?1", [account])?;
    Ok(())
}

/// Names what of a scope does not exist in an account.
pub fn check(connection: &Connection, account: AccountId, scope: &Scope) -> Result<Vec<FieldError>> {
    let sight = Sight::whole(account);
    let own: BTreeSet<i64> =
        queries::directories(connection, &sight)?.into_iter().map(|directory| directory.id).collect();
    let mut wrong = Vec::new();
    let none = "There is no directory with this id.";
    for (at, directory) in scope.directories.iter().enumerate() {
        if !own.contains(directory) {
            wrong.push(FieldError::new(format!("scope.directories[{at}]"), none));
        }
    }
    for (at, group) in scope.groups.iter().enumerate() {
        if queries::find_group(connection, &sight, *group)?.is_none_or(|group| group.removed_at.is_some()) {
            wrong.push(FieldError::new(format!("scope.groups[{at}]"), "There is no group with this id."));
        }
    }
    for (at, unit) in scope.units.iter().enumerate() {
        if !own.contains(&unit.directory) {
            wrong.push(FieldError::new(format!("scope.units[{at}].directoryId"), none));
        }
        if dn::normalise(&unit.dn).map_or(true, |dn| dn.is_empty()) {
            let text =
                format!("“{}” is no DN. Write it as the directory does, such as OU=Oslo,DC=example,DC=com.", unit.dn);
            wrong.push(FieldError::new(format!("scope.units[{at}].dn"), text));
        }
    }
    Ok(wrong)
}

/// Groups that a search for a scope offers.
const OFFERED: usize = 20;

/// What a scope is chosen from.
#[derive(Debug, Default)]
pub struct Choices {
    /// Id and name.
    pub directories: Vec<(i64, String)>,
    /// Id, name and directory's name.
    pub groups: Vec<(ObjectId, String, String)>,
}

/// The directories of an account, the groups with these ids, and those that a search finds.
pub fn choices(connection: &Connection, account: AccountId, find: &str, ids: &[ObjectId]) -> Result<Choices> {
    let sight = Sight::whole(account);
    let mut choices = Choices::default();
    for directory in queries::directories(connection, &sight)? {
        choices.directories.push((directory.id, directory.name));
    }
    let mut add = |group: super::model::GroupRow| {
        if !choices.groups.iter().any(|(id, ..)| *id == group.id) {
            choices.groups.push((group.id, group.name, group.directory_name));
        }
    };
    for id in ids {
        queries::find_group(connection, &sight, *id)?.into_iter().for_each(&mut add);
    }
    if !find.is_empty() {
        let filter = Filter { q: find.to_owned(), ..Filter::default() };
        queries::list_groups(connection, &sight, &filter, None, OFFERED)?.into_iter().for_each(&mut add);
    }
    Ok(choices)
}
