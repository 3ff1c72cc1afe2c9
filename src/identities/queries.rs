//! Reading: lists, search, details, members. All SQL of these; the history and the past have their own files.

use std::collections::{BTreeSet, HashMap, VecDeque};

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use serde::{Deserialize, Serialize};

use super::{
    fold::{Facets, has_words, match_expression},
    model::{
        Accounts, Belonging, DirectoryChoice, FOREVER, GroupRow, IdentityRow, Member, ObjectId, account_type_code,
    },
    nesting,
    parts::Sight,
    privileges::{self, Who},
    staged,
};
use crate::{clock::Time, connectors::Kind, error::Result, principal::AccountId};

/// What a list of identities or groups is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Free text.
    pub q: String,
    pub directory: Option<i64>,
    /// A status, or `missing`.
    pub status: Option<String>,
    /// Direct members of this group only.
    pub group: Option<ObjectId>,
    pub accounts: Accounts,
    /// Privileged ones only ([`privileges`]); of now.
    pub is_privileged: bool,
}

/// Where a list goes on: after a name, or after a number when a search orders by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Position {
    Name(String, ObjectId),
    Number(ObjectId),
}

const IDENTITY_COLUMNS: &str =
    "i.id, i.directory_id, d.name, i.user_name, i.display_name, i.mail, i.status, i.missing_since_at,
     i.sort_key, i.fields, i.external_id, i.changed_at, i.removed_at, d.kind";

fn read_identity(row: &Row<'_>) -> rusqlite::Result<IdentityRow> {
    let fields: String = row.get(9)?;
    let kind: String = row.get(13)?;
    Ok(IdentityRow {
        directory_kind: Kind::ALL.into_iter().find(|known| known.as_str() == kind),
        id: row.get(0)?,
        directory_id: row.get(1)?,
        directory_name: row.get(2)?,
        user_name: row.get(3)?,
        display_name: row.get(4)?,
        mail: row.get(5)?,
        status: row.get(6)?,
        missing_since_at: row.get(7)?,
        sort_key: row.get(8)?,
        fields: serde_json::from_str(&fields)
            .map_err(|e| rusqlite::Error::FromSqlConversionFailure(9, rusqlite::types::Type::Text, e.into()))?,
        external_id: row.get(10)?,
        changed_at: row.get(11)?,
        removed_at: row.get(12)?,
    })
}

/// Pieces of a list's SQL, every piece a literal, every value a parameter.
struct Sql {
    from: &'static str,
    conditions: Vec<&'static str>,
    order: &'static str,
    values: Vec<(&'static str, Box<dyn ToSql>)>,
}

impl Sql {
    fn with(&mut self, condition: &'static str, name: &'static str, value: impl ToSql + 'static) {
        self.conditions.push(condition);
        self.values.push((name, Box::new(value)));
    }

    fn text(&self, columns: &str) -> String {
        let (from, order, conditions) = (self.from, self.order, self.conditions.join(" AND "));
        format!("SELECT {columns} FROM {from} WHERE {conditions} ORDER BY {order} LIMIT :limit")
    }

    fn bound<'a>(&'a self, limit: &'a usize) -> Vec<(&'a str, &'a dyn ToSql)> {
        let mut bound: Vec<(&str, &dyn ToSql)> =
            self.values.iter().map(|(name, value)| (*name, value.as_ref())).collect();
        bound.push((":limit", limit));
        bound
    }
}

/// More directories than this are not written into a search.
const SCOPE_MAX: usize = 32;

/// The directories of an account whose copy may be seen: not taken out, and with a plan that was applied.
fn visible(connection: &Connection, sight: &Sight) -> Result<Vec<i64>> {
    let sql = "SELECT id FROM directory
               WHERE account_id = ?1 AND removed_at IS NULL AND applied_run_id IS NOT NULL ORDER BY id";
    let mut directories = numbers(connection, sql, &[&sight.account()])?;
    directories.retain(|directory| sight.reaches(*directory));
    Ok(directories)
}

/// The directories of an account, whether anything of them was read yet or not.
pub(super) fn directories_of(connection: &Connection, account: AccountId) -> Result<BTreeSet<i64>> {
    let sql = "SELECT id FROM directory WHERE account_id = ?1 AND removed_at IS NULL";
    Ok(numbers(connection, sql, &[&account])?.into_iter().collect())
}

/// Whether a directory was seen at a time, which is from its first applied plan on.
pub(super) fn was_seen(connection: &Connection, directory: i64, at: Time) -> Result<bool> {
    let sql = "SELECT 1 FROM directory WHERE id = ?1 AND first_applied_at <= ?2";
    Ok(connection.prepare_cached(sql)?.exists(params![directory, at])?)
}

/// Since when the directory of an object has been seen.
pub(super) fn seen_since(connection: &Connection, directory: i64) -> Result<Option<Time>> {
    let sql = "SELECT first_applied_at FROM directory WHERE id = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([directory], |row| row.get(0))?)
}

/// The directories of an account that were seen at a time and are not taken out.
pub(super) fn directories_seen(connection: &Connection, account: AccountId, at: Time) -> Result<Vec<i64>> {
    let sql = "SELECT id FROM directory
               WHERE account_id = ?1 AND removed_at IS NULL AND first_applied_at <= ?2 ORDER BY id";
    numbers(connection, sql, &[&account, &at])
}

/// Whether a plan of the account has begun to take effect by then and has not ended doing so.
pub(super) fn is_applying_since(connection: &Connection, account: AccountId, at: Time) -> Result<bool> {
    let sql = "SELECT 1 FROM plan p INDEXED BY plan_applying CROSS JOIN directory d ON d.id = p.directory_id
               WHERE p.applying_at IS NOT NULL AND p.applied_at IS NULL AND p.applying_at <= ?2
                 AND d.account_id = ?1 AND d.applied_run_id IS NOT NULL";
    Ok(connection.prepare_cached(sql)?.exists(params![account, at])?)
}

/// What one list is read from.
enum Walk {
    /// The text index or one group's members: one statement. A search by text is narrowed to these directories where
    /// that helps.
    Once(Vec<i64>),
    /// Each of these directories by name, merged.
    Merge(Vec<i64>),
}

/// How to walk a list; `None`: nothing can be found.
///
/// The text index knows no accounts. Without its narrowing, a word that is common in another account would be read to
/// its end.
fn walk(connection: &Connection, sight: &Sight, filter: &Filter) -> Result<Option<Walk>> {
    let mut directories = visible(connection, sight)?;
    if let Some(chosen) = filter.directory {
        directories.retain(|directory| *directory == chosen);
    }
    if directories.is_empty() {
        return Ok(None);
    }
    if !is_search(filter) {
        return Ok(Some(if filter.group.is_some() { Walk::Once(Vec::new()) } else { Walk::Merge(directories) }));
    }
    if filter.status.as_deref() == Some("missing") {
        let mut any = connection.prepare_cached(
            "SELECT 1 FROM identity INDEXED BY identity_missing_in_directory
             WHERE directory_id = ?1 AND removed_at IS NULL AND missing_since_at IS NOT NULL LIMIT 1",
        )?;
        let mut has_missing = false;
        for directory in &directories {
            has_missing = has_missing || any.exists([directory])?;
        }
        if !has_missing {
            return Ok(None);
        }
    }
    if filter.directory.is_none() {
        let is_alone = !connection
            .prepare_cached("SELECT 1 FROM directory WHERE account_id <> ?1 OR applied_run_id IS NULL LIMIT 1")?
            .exists([sight.account()])?;
        // A part is narrowed to its directories however alone the account is.
        if (is_alone && !sight.is_part()) || directories.len() > SCOPE_MAX {
            directories.clear();
        }
    }
    Ok(Some(Walk::Once(directories)))
}

fn identity_sql(
    sight: &Sight,
    filter: &Filter,
    scope: &[i64],
    directory: Option<i64>,
    after: Option<&Position>,
    few: Option<&str>,
    who: Option<&Who>,
) -> Sql {
    let mut sql = Sql { from: "", conditions: Vec::new(), order: "i.sort_key, i.id", values: Vec::new() };
    // One access path for each way to ask; INDEXED BY and CROSS JOIN keep the planner from guessing another.
    let indexed_status = filter.status.as_deref().filter(|status| !matches!(*status, "missing" | "active"));
    let is_user = filter.accounts.is_user();
    let expression = match_expression(&filter.q, Facets { directories: scope, status: indexed_status, is_user });
    match (expression, filter.group, filter.status.as_deref()) {
        (expression, group, _) if few.is_some() => {
            sql.from =
                "json_each(:few) w CROSS JOIN identity i ON i.id = w.value JOIN directory d ON d.id = i.directory_id";
            sql.values.push((":few", Box::new(few.unwrap_or_default().to_owned())));
            if expression.is_some() || group.is_some() {
                sql.order = "i.id";
            }
        }
        (Some(expression), ..) => {
            sql.from =
                "identity_text t CROSS JOIN identity i ON i.id = t.rowid JOIN directory d ON d.id = i.directory_id";
            sql.with("t.identity_text MATCH :expression", ":expression", expression);
            sql.order = "t.rowid";
        }
        (None, Some(_), _) => {
            sql.from = "member m CROSS JOIN identity i ON i.id = m.member_id JOIN directory d ON d.id = i.directory_id";
            sql.order = "m.member_id";
        }
        (None, None, Some("missing")) => {
            sql.from = "identity i INDEXED BY identity_missing_in_directory JOIN directory d ON d.id = i.directory_id";
        }
        (None, None, Some(status)) if status != "active" => {
            sql.from = "identity i INDEXED BY identity_by_directory_status JOIN directory d ON d.id = i.directory_id";
            sql.conditions.push("i.status <> 'active'");
        }
        (None, None, _) if is_user == Some(false) => {
            sql.from = "identity i INDEXED BY identity_not_user JOIN directory d ON d.id = i.directory_id";
        }
        _ => sql.from = "identity i INDEXED BY identity_by_directory JOIN directory d ON d.id = i.directory_id",
    }
    sql.with("d.account_id = :account", ":account", sight.account());
    in_part(&mut sql, sight, directory.or(filter.directory), IDENTITY_IN_PART);
    sql.conditions.push("i.removed_at IS NULL AND d.removed_at IS NULL AND d.applied_run_id IS NOT NULL");
    if let Some(directory) = directory.or(filter.directory) {
        sql.with("i.directory_id = :directory", ":directory", directory);
    }
    match filter.status.as_deref() {
        None => {}
        Some("missing") => sql.conditions.push("i.missing_since_at IS NOT NULL"),
        Some(status) => sql.with("i.status = :status", ":status", status.to_owned()),
    }
    if let Some(group) = filter.group {
        if sql.from.starts_with("member") {
            sql.with("m.group_id = :group AND m.until_at = 9223372036854775807", ":group", group);
        } else {
            sql.with(
                "EXISTS (SELECT 1 FROM member g WHERE g.group_id = :group AND g.until_at = 9223372036854775807 AND g.member_id = i.id)",
                ":group",
                group,
            );
        }
    }
    if let Some(is_user) = is_user {
        sql.conditions.push(if is_user { "i.account_type = 0" } else { "i.account_type <> 0" });
        if let Accounts::Of(account_type) = filter.accounts {
            sql.with("i.account_type = :account_type", ":account_type", account_type_code(account_type));
        }
    }
    if let Some(who) = who {
        // Who is missing has no rights to use.
        sql.conditions.push("i.missing_since_at IS NULL");
        match who {
            // They are who is walked.
            Who::Few(_) => {}
            Who::In(groups) => sql.with(
                "(i.is_privileged = 1 OR EXISTS (SELECT 1 FROM member v WHERE v.member_id = i.id AND v.until_at = 9223372036854775807
                    AND v.group_id IN (SELECT value FROM json_each(:groups))))",
                ":groups",
                groups.clone(),
            ),
        }
    }
    go_on(&mut sql, after);
    sql
}

const IDENTITY_IN_PART: &str = "(i.directory_id IN (SELECT value FROM json_each(:whole))
    OR EXISTS (SELECT 1 FROM part_object p WHERE p.part_id = :part AND p.object_id = i.id))";
const GROUP_IN_PART: &str = "(g.directory_id IN (SELECT value FROM json_each(:whole))
    OR EXISTS (SELECT 1 FROM part_object p WHERE p.part_id = :part AND p.object_id = g.id))";

/// Narrows a list to the part of the account that is seen.
fn in_part(sql: &mut Sql, sight: &Sight, directory: Option<i64>, condition: &'static str) {
    let Some(part) = sight.part() else { return };
    if directory.is_some_and(|directory| sight.is_whole(directory)) {
        return;
    }
    sql.with(condition, ":part", part.id);
    sql.values.push((":whole", Box::new(part.whole_json.clone())));
}

/// Narrows a list to what comes after a position.
fn go_on(sql: &mut Sql, after: Option<&Position>) {
    match (after, sql.order) {
        (Some(Position::Name(name, id)), "i.sort_key, i.id") => {
            sql.with("(i.sort_key, i.id) > (:after_name, :after)", ":after_name", name.clone());
            sql.values.push((":after", Box::new(*id)));
        }
        (Some(Position::Name(name, id)), "g.sort_key, g.id") => {
            sql.with("(g.sort_key, g.id) > (:after_name, :after)", ":after_name", name.clone());
            sql.values.push((":after", Box::new(*id)));
        }
        (Some(Position::Number(id)), "t.rowid") => sql.with("t.rowid > :after", ":after", *id),
        (Some(Position::Number(id)), "m.member_id") => sql.with("m.member_id > :after", ":after", *id),
        (Some(Position::Number(id)), "i.id") => sql.with("i.id > :after", ":after", *id),
        // A cursor of another kind of list: begin at the start rather than guess.
        _ => {}
    }
}

fn query<T>(
    connection: &Connection,
    sql: &Sql,
    columns: &str,
    limit: usize,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(&sql.text(columns))?;
    let rows = statement.query_map(sql.bound(&limit).as_slice(), |row| read(row))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The first `limit` rows of several lists that are each in the order of `key`. Every list is walked no further than
/// it is needed.
fn merge<T, K: Ord>(
    connection: &Connection,
    lists: &[Sql],
    columns: &str,
    limit: usize,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    key: impl Fn(&T) -> K,
) -> Result<Vec<T>> {
    let mut statements =
        lists.iter().map(|sql| connection.prepare_cached(&sql.text(columns))).collect::<rusqlite::Result<Vec<_>>>()?;
    let mut walks = Vec::with_capacity(lists.len());
    for (statement, sql) in statements.iter_mut().zip(lists) {
        let mut rows = statement.query(sql.bound(&limit).as_slice())?;
        let head = rows.next()?.map(&read).transpose()?;
        walks.push((head, rows));
    }
    let mut found = Vec::new();
    while found.len() < limit {
        let nearest =
            walks.iter_mut().filter(|(head, _)| head.is_some()).min_by_key(|(head, _)| head.as_ref().map(&key));
        let Some((head, rows)) = nearest else { break };
        let next = rows.next()?.map(&read).transpose()?;
        found.extend(std::mem::replace(head, next));
    }
    Ok(found)
}

/// Up to `limit` identities in the order of [`position`].
pub fn list_identities(
    connection: &Connection,
    sight: &Sight,
    filter: &Filter,
    after: Option<Position>,
    limit: usize,
) -> Result<Vec<IdentityRow>> {
    let after = after.as_ref();
    if let Some(group) = filter.group
        && !sight.holds_object(connection, group)?
    {
        // Who is in a group that is not seen is not told either.
        return Ok(Vec::new());
    }
    let who = who(connection, sight, filter)?;
    let few = match &who {
        Some(Who::Few(ids)) => Some(ids.clone()),
        _ => sight.few(connection)?,
    };
    if few.is_some() {
        // So few that each of them can be looked at: the text index would be walked for nothing.
        let sql = identity_sql(sight, filter, &[], None, after, few.as_deref(), who.as_ref());
        let ids: Vec<ObjectId> = query(connection, &sql, "i.id", usize::MAX >> 1, |row| row.get(0))?;
        let found = ids.into_iter().map(|id| find_identity(connection, sight, id)).filter_map(Result::transpose);
        let fits = |row: &IdentityRow| has_words(&staged::identity_text(&row.fields), &filter.q);
        return found.filter(|row| row.as_ref().map_or(true, fits)).take(limit).collect();
    }
    let rows = match walk(connection, sight, filter)? {
        None => Vec::new(),
        Some(Walk::Once(scope)) => query(
            connection,
            &identity_sql(sight, filter, &scope, None, after, None, who.as_ref()),
            IDENTITY_COLUMNS,
            limit,
            read_identity,
        )?,
        Some(Walk::Merge(directories)) => {
            let lists: Vec<Sql> = directories
                .into_iter()
                .map(|directory| identity_sql(sight, filter, &[], Some(directory), after, None, who.as_ref()))
                .collect();
            merge(connection, &lists, IDENTITY_COLUMNS, limit, read_identity, |row| (row.sort_key.clone(), row.id))?
        }
    };
    rows.into_iter().filter_map(|row| sight.identity(connection, row).transpose()).collect()
}

/// Whom a list of privileged accounts is narrowed to.
fn who(connection: &Connection, sight: &Sight, filter: &Filter) -> Result<Option<Who>> {
    if !filter.is_privileged {
        return Ok(None);
    }
    let mut directories = visible(connection, sight)?;
    directories.retain(|directory| filter.directory.is_none_or(|chosen| chosen == *directory));
    privileges::who(connection, &directories).map(Some)
}

/// How many accounts that are no users a filter finds, whatever types it asks for, counted up to `max`.
pub fn count_not_users(connection: &Connection, sight: &Sight, filter: &Filter, max: usize) -> Result<usize> {
    let filter = &Filter { accounts: Accounts::NotUsers, ..filter.clone() };
    if filter.is_privileged || (sight.is_part() && (filter.group.is_some() || sight.few(connection)?.is_some())) {
        return Ok(list_identities(connection, sight, filter, None, max)?.len());
    }
    let lists: Vec<Sql> = match walk(connection, sight, filter)? {
        None => Vec::new(),
        Some(Walk::Once(scope)) => vec![identity_sql(sight, filter, &scope, None, None, None, None)],
        Some(Walk::Merge(directories)) => {
            directories.into_iter().map(|id| identity_sql(sight, filter, &[], Some(id), None, None, None)).collect()
        }
    };
    let mut count = 0;
    for sql in lists {
        count += query(connection, &sql, "i.id", max - count, |_| Ok(()))?.len();
    }
    Ok(count)
}

/// Whether a filter asks for a text that can be searched for.
pub fn is_search(filter: &Filter) -> bool {
    match_expression(&filter.q, Facets::default()).is_some()
}

/// The cursor after a row of a list with this filter.
pub fn position(filter: &Filter, sort_key: &str, id: ObjectId) -> Position {
    if filter.group.is_some() || is_search(filter) {
        Position::Number(id)
    } else {
        Position::Name(sort_key.to_owned(), id)
    }
}

/// An identity by its number; a tombstone too.
pub fn find_identity(connection: &Connection, sight: &Sight, id: ObjectId) -> Result<Option<IdentityRow>> {
    let sql = format!(
        "SELECT {IDENTITY_COLUMNS} FROM identity i JOIN directory d ON d.id = i.directory_id
         WHERE i.id = ?1 AND d.account_id = ?2 AND d.removed_at IS NULL AND d.applied_run_id IS NOT NULL"
    );
    let found = connection.prepare_cached(&sql)?.query_row(params![id, sight.account()], read_identity).optional()?;
    found.map_or(Ok(None), |row| sight.identity(connection, row))
}

const GROUP_COLUMNS: &str =
    "g.id, g.directory_id, d.name, g.external_id, g.name, g.description, g.member_count, g.missing_since_at,
     g.sort_key, g.fields, g.changed_at, g.removed_at";

fn read_group(row: &Row<'_>) -> rusqlite::Result<GroupRow> {
    let fields: String = row.get(9)?;
    Ok(GroupRow {
        id: row.get(0)?,
        directory_id: row.get(1)?,
        directory_name: row.get(2)?,
        external_id: row.get(3)?,
        name: row.get(4)?,
        description: row.get(5)?,
        member_count: row.get(6)?,
        missing_since_at: row.get(7)?,
        sort_key: row.get(8)?,
        fields: serde_json::from_str(&fields)
            .map_err(|e| rusqlite::Error::FromSqlConversionFailure(9, rusqlite::types::Type::Text, e.into()))?,
        changed_at: row.get(10)?,
        removed_at: row.get(11)?,
    })
}

fn group_sql(sight: &Sight, filter: &Filter, scope: &[i64], directory: Option<i64>, after: Option<&Position>) -> Sql {
    let mut sql = Sql { from: "", conditions: Vec::new(), order: "g.sort_key, g.id", values: Vec::new() };
    match match_expression(&filter.q, Facets { directories: scope, ..Facets::default() }) {
        Some(expression) => {
            sql.from =
                "group_text t CROSS JOIN directory_group g ON g.id = t.rowid JOIN directory d ON d.id = g.directory_id";
            sql.with("t.group_text MATCH :expression", ":expression", expression);
            sql.order = "t.rowid";
        }
        None => sql.from = "directory_group g INDEXED BY group_by_directory JOIN directory d ON d.id = g.directory_id",
    }
    sql.with("d.account_id = :account", ":account", sight.account());
    in_part(&mut sql, sight, directory.or(filter.directory), GROUP_IN_PART);
    sql.conditions.push("g.removed_at IS NULL AND d.removed_at IS NULL AND d.applied_run_id IS NOT NULL");
    if let Some(directory) = directory.or(filter.directory) {
        sql.with("g.directory_id = :directory", ":directory", directory);
    }
    go_on(&mut sql, after);
    sql
}

/// Up to `limit` groups; `filter.status` and `filter.group` are not looked at.
pub fn list_groups(
    connection: &Connection,
    sight: &Sight,
    filter: &Filter,
    after: Option<Position>,
    limit: usize,
) -> Result<Vec<GroupRow>> {
    let filter = &Filter { status: None, group: None, ..filter.clone() };
    let after = after.as_ref();
    let rows = match walk(connection, sight, filter)? {
        None => Vec::new(),
        Some(Walk::Once(scope)) => {
            query(connection, &group_sql(sight, filter, &scope, None, after), GROUP_COLUMNS, limit, read_group)?
        }
        Some(Walk::Merge(directories)) => {
            let lists: Vec<Sql> = directories
                .into_iter()
                .map(|directory| group_sql(sight, filter, &[], Some(directory), after))
                .collect();
            merge(connection, &lists, GROUP_COLUMNS, limit, read_group, |row| (row.sort_key.clone(), row.id))?
        }
    };
    rows.into_iter().filter_map(|row| sight.group(connection, row).transpose()).collect()
}

/// A group by its number; a tombstone too.
pub fn find_group(connection: &Connection, sight: &Sight, id: ObjectId) -> Result<Option<GroupRow>> {
    let sql = format!(
        "SELECT {GROUP_COLUMNS} FROM directory_group g JOIN directory d ON d.id = g.directory_id
         WHERE g.id = ?1 AND d.account_id = ?2 AND d.removed_at IS NULL AND d.applied_run_id IS NOT NULL"
    );
    let found = connection.prepare_cached(&sql)?.query_row(params![id, sight.account()], read_group).optional()?;
    found.map_or(Ok(None), |row| sight.group(connection, row))
}

/// What a number of the common space stands for.
pub(super) struct Described {
    pub(super) kind: String,
    pub(super) name: String,
    detail: String,
    mail: Option<String>,
    status: Option<String>,
}

/// No run has this number.
const NO_RUN: i64 = 0;

/// Looks an object up in the copy and, for a plan that is not applied, among what `run` has staged.
pub(super) fn describe(connection: &Connection, id: ObjectId, run: i64) -> Result<Described> {
    let found = connection
        .prepare_cached(
            "SELECT 'identity', coalesce(nullif(display_name, ''), user_name), user_name, mail,
                    CASE WHEN removed_at IS NOT NULL THEN 'removed'
                         WHEN missing_since_at IS NOT NULL THEN 'missing' ELSE status END FROM identity WHERE id = ?1
             UNION ALL SELECT 'group', name, coalesce(description, ''), NULL,
                    CASE WHEN removed_at IS NOT NULL THEN 'removed'
                         WHEN missing_since_at IS NOT NULL THEN 'missing' END FROM directory_group WHERE id = ?1
             UNION ALL SELECT 'reference', text, text, NULL, NULL FROM reference WHERE id = ?1
             UNION ALL SELECT CASE kind WHEN 1 THEN 'identity' WHEN 2 THEN 'group' ELSE 'reference' END,
                    coalesce(nullif(display_name, ''), name), name, mail, status
                    FROM staged WHERE run_id = ?2 AND object_id = ?1
             LIMIT 1",
        )?
        .query_row([id, run], |row| {
            Ok(Described {
                kind: row.get(0)?,
                name: row.get(1)?,
                detail: row.get(2)?,
                mail: row.get(3)?,
                status: row.get(4)?,
            })
        })
        .optional()?;
    Ok(found.unwrap_or_else(|| Described {
        kind: "reference".into(),
        name: format!("object {id}"),
        detail: String::new(),
        mail: None,
        status: None,
    }))
}

/// Describes members or groups; `since_sql` finds the direct membership of `of` with each.
fn members(connection: &Connection, ids: Vec<ObjectId>, of: ObjectId, since_sql: &str) -> Result<Vec<Member>> {
    let mut since_of = connection.prepare_cached(since_sql)?;
    ids.into_iter()
        .map(|id| {
            let Described { kind, name, detail, mail, status } = describe(connection, id, NO_RUN)?;
            let since: Option<Time> = since_of.query_row(params![of, FOREVER, id], |row| row.get(0)).optional()?;
            Ok(Member {
                id: id.to_string(),
                kind,
                name,
                detail,
                mail,
                status,
                direct: since.is_some(),
                since,
                number: id,
            })
        })
        .collect()
}

fn numbers(connection: &Connection, sql: &str, values: &[&dyn ToSql]) -> Result<Vec<ObjectId>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(values, |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

const MEMBER_SINCE: &str = "SELECT since_at FROM member WHERE group_id = ?1 AND until_at = ?2 AND member_id = ?3";
const GROUP_SINCE: &str = "SELECT since_at FROM member WHERE member_id = ?1 AND until_at = ?2 AND group_id = ?3";
const MEMBERS_AFTER: &str =
    "SELECT member_id FROM member WHERE group_id = ?1 AND until_at = ?2 AND member_id > ?3 ORDER BY member_id LIMIT ?4";

/// The direct members of a group, by number, after `after`.
pub fn direct_members(connection: &Connection, group: ObjectId, after: ObjectId, limit: usize) -> Result<Vec<Member>> {
    let ids = numbers(connection, MEMBERS_AFTER, &[&group, &FOREVER, &after, &limit])?;
    members(connection, ids, group, MEMBER_SINCE)
}

/// Everything that is a member of a group through any depth of groups; cycles end, the group itself is left out.
///
/// Only groups are followed, and each gives no more than one page: a group of a million people inside another one
/// costs as much as any page.
pub fn effective_members(
    connection: &Connection,
    group: ObjectId,
    after: ObjectId,
    limit: usize,
) -> Result<Vec<Member>> {
    let mut ids: BTreeSet<ObjectId> = BTreeSet::new();
    for source in &nesting::inside(connection, group)? {
        // One more than asked for: the group itself may be among them, and is left out.
        for id in numbers(connection, MEMBERS_AFTER, &[source, &FOREVER, &after, &(limit + 1)])? {
            let is_beyond = ids.len() >= limit && ids.last().is_some_and(|last| id > *last);
            if is_beyond {
                break;
            }
            if id != group {
                ids.insert(id);
            }
            if ids.len() > limit {
                ids.pop_last();
            }
        }
    }
    members(connection, ids.into_iter().collect(), group, MEMBER_SINCE)
}

/// The groups that an object is a member of, directly or through groups, by number.
pub fn groups_of(
    connection: &Connection,
    member: ObjectId,
    effective: bool,
    after: ObjectId,
    limit: usize,
) -> Result<Vec<Member>> {
    let sql = if effective {
        "WITH RECURSIVE reach (id) AS (
             SELECT ?1 UNION SELECT m.group_id FROM reach r JOIN member m ON m.member_id = r.id AND m.until_at = ?2
                 JOIN directory_group g ON g.id = m.group_id AND g.removed_at IS NULL)
         SELECT id FROM reach WHERE id <> ?1 AND id > ?3 ORDER BY id LIMIT ?4"
    } else {
        "SELECT group_id FROM member m CROSS JOIN directory_group g ON g.id = m.group_id
         WHERE member_id = ?1 AND until_at = ?2 AND group_id > ?3 AND g.removed_at IS NULL ORDER BY group_id LIMIT ?4"
    };
    let ids = numbers(connection, sql, &[&member, &FOREVER, &after, &limit])?;
    members(connection, ids, member, GROUP_SINCE)
}

/// All groups that an object belongs to, each with the shortest way there, direct ones first, then by name; and
/// whether there were more than `max`.
pub fn belongings(connection: &Connection, member: ObjectId, max: usize) -> Result<(Vec<Belonging>, bool)> {
    // Breadth first: the first way to a group is a shortest one.
    let mut came_from: HashMap<ObjectId, ObjectId> = HashMap::new();
    let mut order: Vec<ObjectId> = Vec::new();
    let mut waiting = VecDeque::from([member]);
    let sql = "SELECT group_id FROM member m CROSS JOIN directory_group g ON g.id = m.group_id
               WHERE member_id = ?1 AND until_at = ?2 AND g.removed_at IS NULL ORDER BY group_id LIMIT ?3";
    while let Some(next) = waiting.pop_front() {
        if order.len() > max {
            break;
        }
        for group in numbers(connection, sql, &[&next, &FOREVER, &(max + 1)])? {
            if group != member && !came_from.contains_key(&group) {
                came_from.insert(group, next);
                order.push(group);
                waiting.push_back(group);
            }
        }
    }
    let has_more = order.len() > max;
    order.truncate(max);
    let mut names: HashMap<ObjectId, (String, bool, i64)> = HashMap::new();
    let mut find = connection
        .prepare_cached("SELECT name, missing_since_at IS NOT NULL, member_count FROM directory_group WHERE id = ?1")?;
    for group in &order {
        if let Some(found) = find.query_row([group], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()? {
            names.insert(*group, found);
        }
    }
    Ok((Belonging::ways(member, order, &came_from, &names), has_more))
}

/// The account's directories for a filter's list, by name: id, name, and how many identities and groups the copy holds.
pub fn directories(connection: &Connection, sight: &Sight) -> Result<Vec<DirectoryChoice>> {
    let mut statement = connection.prepare_cached(
        "SELECT d.id, d.name, d.identity_count, d.group_count,
                EXISTS (SELECT 1 FROM identity i INDEXED BY identity_not_user
                        WHERE i.directory_id = d.id AND i.removed_at IS NULL AND i.account_type <> 0),
                EXISTS (SELECT 1 FROM directory_group g INDEXED BY group_privileged
                        WHERE g.directory_id = d.id AND g.is_privileged = 1)
         FROM directory d WHERE d.account_id = ?1 AND d.removed_at IS NULL ORDER BY d.name LIMIT 500",
    )?;
    let rows = statement.query_map([sight.account()], |row| {
        Ok(DirectoryChoice {
            id: row.get(0)?,
            name: row.get(1)?,
            identities: row.get(2)?,
            groups: row.get(3)?,
            has_not_users: row.get(4)?,
            has_privileged: row.get(5)?,
        })
    })?;
    let mut choices: Vec<DirectoryChoice> = rows.collect::<rusqlite::Result<_>>()?;
    choices.retain(|directory| sight.reaches(directory.id));
    for choice in &mut choices {
        if let Some((identities, groups)) = sight.counts(connection, choice.id)? {
            (choice.identities, choice.groups) = (identities, groups);
            // Whether a part holds any is not told by whether its directory does.
            let any = |filter: Filter| Filter { directory: Some(choice.id), ..filter };
            let not_users = any(Filter { accounts: Accounts::NotUsers, ..Filter::default() });
            choice.has_not_users =
                choice.has_not_users && !list_identities(connection, sight, &not_users, None, 1)?.is_empty();
            let privileged = any(Filter { is_privileged: true, ..Filter::default() });
            choice.has_privileged =
                choice.has_privileged && !list_identities(connection, sight, &privileged, None, 1)?.is_empty();
        }
    }
    Ok(choices)
}

/// How many identities of a directory are in a state (`missing`, or a status that is not `active`), counted up to `max`.
pub fn count_state(connection: &Connection, directory: i64, state: &str, max: i64) -> Result<i64> {
    let sql = if state == "missing" {
        "SELECT count(*) FROM (SELECT 1 FROM identity INDEXED BY identity_missing_in_directory
         WHERE directory_id = ?1 AND removed_at IS NULL AND missing_since_at IS NOT NULL AND ?2 <> '' LIMIT ?3)"
    } else {
        "SELECT count(*) FROM (SELECT 1 FROM identity INDEXED BY identity_by_directory_status
         WHERE directory_id = ?1 AND removed_at IS NULL AND status <> 'active' AND status = ?2 LIMIT ?3)"
    };
    Ok(connection.prepare_cached(sql)?.query_row(params![directory, state, max], |row| row.get(0))?)
}

#[cfg(test)]
fn steps(connection: &Connection, sql: &Sql, columns: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", sql.text(columns))).expect("a statement");
    let mut bound: Vec<(&str, &dyn ToSql)> = sql.values.iter().map(|(name, value)| (*name, value.as_ref())).collect();
    bound.push((":limit", &10));
    statement
        .query_map(bound.as_slice(), |row| row.get(3))
        .expect("a plan")
        .collect::<rusqlite::Result<_>>()
        .expect("rows")
}

/// How SQLite walks to a page in the middle of a list.
#[cfg(test)]
pub(super) fn plan_of(connection: &Connection, filter: &Filter) -> Vec<String> {
    let sight = Sight::whole(AccountId::new(AccountId::MIN).expect("an account"));
    steps(
        connection,
        &identity_sql(&sight, filter, &[1, 2], Some(1), Some(&position(filter, "m", 5)), None, None),
        IDENTITY_COLUMNS,
    )
}

#[cfg(test)]
pub(super) fn group_plan_of(connection: &Connection, filter: &Filter) -> Vec<String> {
    let sight = Sight::whole(AccountId::new(AccountId::MIN).expect("an account"));
    let filter = Filter { group: None, status: None, ..filter.clone() };
    steps(connection, &group_sql(&sight, &filter, &[1, 2], Some(1), Some(&position(&filter, "m", 5))), GROUP_COLUMNS)
}
