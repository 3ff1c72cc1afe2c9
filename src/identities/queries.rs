//! Reading: lists, search, details, members, history. All SQL of the room that does not write.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, params_from_iter};
use serde::{Deserialize, Serialize};

use super::{
    fold::fold,
    model::{ChangeRow, FOREVER, GroupRow, IdentityRow, Member, ObjectId},
};
use crate::{connectors::Key, error::Result, principal::AccountId};

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
}

/// Where a list goes on: after a name, or after a number when a search orders by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Position {
    Name(String, ObjectId),
    Number(ObjectId),
}

/// How a free text is looked for.
#[derive(Debug, PartialEq, Eq)]
enum Search {
    Everything,
    /// One or two letters: the beginning of the shown name.
    Beginning(String),
    /// An FTS5 expression over trigrams.
    Inside(String),
}

fn search(q: &str) -> Search {
    let folded = fold(q);
    let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let words: Vec<&str> = folded.split_whitespace().collect();
    let length = |text: &str| text.chars().count();
    if words.is_empty() {
        Search::Everything
    } else if words.iter().all(|word| length(word) >= 3) {
        // Every word somewhere, in any order.
        Search::Inside(words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" AND "))
    } else if length(&folded) >= 3 {
        // A trigram index cannot look for shorter words by themselves: take the text as it stands.
        Search::Inside(quote(&words.join(" ")))
    } else {
        Search::Beginning(folded)
    }
}

const IDENTITY_COLUMNS: &str =
    "i.id, i.directory_id, d.name, i.user_name, i.display_name, i.mail, i.status, i.missing_since_at,
     i.sort_key, i.fields, i.external_id, i.changed_at";

fn read_identity(row: &Row<'_>) -> rusqlite::Result<IdentityRow> {
    let fields: String = row.get(9)?;
    Ok(IdentityRow {
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
        format!(
            "SELECT {columns} FROM {} WHERE {} ORDER BY {} LIMIT :limit",
            self.from,
            self.conditions.join(" AND "),
            self.order
        )
    }
}

/// The last character that can follow a beginning in a range scan.
const LAST: char = char::MAX;

fn identity_sql(account: AccountId, filter: &Filter, after: Option<Position>) -> Sql {
    let mut sql = Sql { from: "", conditions: Vec::new(), order: "i.sort_key, i.id", values: Vec::new() };
    let search = search(&filter.q);
    // One access path for each way to ask; `+column` keeps the planner from choosing another index for a filter.
    match (&search, filter.group, filter.status.as_deref(), filter.directory) {
        (Search::Inside(expression), ..) => {
            sql.from =
                "identity_text t CROSS JOIN identity i ON i.id = t.rowid JOIN directory d ON d.id = i.directory_id";
            sql.with("t.text MATCH :expression", ":expression", expression.clone());
            sql.order = "t.rowid";
        }
        (_, Some(_), ..) => {
            sql.from = "member m CROSS JOIN identity i ON i.id = m.member_id JOIN directory d ON d.id = i.directory_id";
            sql.order = "m.member_id";
        }
        (_, None, Some("missing"), _) => {
            sql.from = "identity i INDEXED BY identity_missing JOIN directory d ON d.id = i.directory_id";
        }
        (_, None, Some(status), _) if status != "active" => {
            sql.from = "identity i INDEXED BY identity_by_status JOIN directory d ON d.id = i.directory_id";
            sql.conditions.push("i.status <> 'active'");
        }
        (_, None, _, Some(_)) => {
            sql.from = "identity i INDEXED BY identity_by_directory JOIN directory d ON d.id = i.directory_id";
        }
        _ => sql.from = "identity i INDEXED BY identity_by_name JOIN directory d ON d.id = i.directory_id",
    }
    sql.with("i.account_id = :account", ":account", account);
    sql.conditions.push("i.removed_at IS NULL AND d.removed_at IS NULL");
    if let Some(directory) = filter.directory {
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
    if let Search::Beginning(text) = search {
        sql.with("i.sort_key >= :beginning", ":beginning", text.clone());
        sql.with("i.sort_key < :end", ":end", format!("{text}{LAST}"));
    }
    match (after, sql.order) {
        (Some(Position::Name(name, id)), "i.sort_key, i.id") => {
            sql.with("(i.sort_key, i.id) > (:after_name, :after)", ":after_name", name);
            sql.values.push((":after", Box::new(id)));
        }
        (Some(Position::Number(id)), "t.rowid") => sql.with("t.rowid > :after", ":after", id),
        (Some(Position::Number(id)), "m.member_id") => sql.with("m.member_id > :after", ":after", id),
        // A cursor of another kind of list: begin at the start rather than guess.
        _ => {}
    }
    sql
}

fn query<T>(
    connection: &Connection,
    sql: &Sql,
    columns: &str,
    limit: usize,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(&sql.text(columns))?;
    let mut bound: Vec<(&str, &dyn ToSql)> = sql.values.iter().map(|(name, value)| (*name, value.as_ref())).collect();
    bound.push((":limit", &limit));
    let rows = statement.query_map(bound.as_slice(), |row| read(row))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Up to `limit` identities in the order of [`position`].
pub fn list_identities(
    connection: &Connection,
    account: AccountId,
    filter: &Filter,
    after: Option<Position>,
    limit: usize,
) -> Result<Vec<IdentityRow>> {
    query(connection, &identity_sql(account, filter, after), IDENTITY_COLUMNS, limit, read_identity)
}

/// The cursor after a row of a list with this filter.
pub fn position(filter: &Filter, sort_key: &str, id: ObjectId) -> Position {
    if filter.group.is_some() || matches!(search(&filter.q), Search::Inside(_)) {
        Position::Number(id)
    } else {
        Position::Name(sort_key.to_owned(), id)
    }
}

pub fn find_identity(connection: &Connection, account: AccountId, id: ObjectId) -> Result<Option<IdentityRow>> {
    let sql = format!(
        "SELECT {IDENTITY_COLUMNS} FROM identity i JOIN directory d ON d.id = i.directory_id
         WHERE i.id = ?1 AND i.account_id = ?2 AND i.removed_at IS NULL AND d.removed_at IS NULL"
    );
    Ok(connection.prepare_cached(&sql)?.query_row(params![id, account], read_identity).optional()?)
}

/// The identity of a directory that has this distinguished name: id and shown name.
pub fn find_by_dn(connection: &Connection, directory: i64, key: Key) -> Result<Option<(ObjectId, String)>> {
    Ok(connection
        .prepare_cached(
            "SELECT id, coalesce(display_name, user_name) FROM identity
             WHERE directory_id = ?1 AND dn_key = ?2 AND removed_at IS NULL LIMIT 1",
        )?
        .query_row(params![directory, key.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

const GROUP_COLUMNS: &str =
    "g.id, g.directory_id, d.name, g.external_id, g.name, g.description, g.member_count, g.missing_since_at,
     g.sort_key, g.fields, g.changed_at";

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
    })
}

fn group_sql(account: AccountId, filter: &Filter, after: Option<Position>) -> Sql {
    let mut sql = Sql { from: "", conditions: Vec::new(), order: "g.sort_key, g.id", values: Vec::new() };
    let search = search(&filter.q);
    match (&search, filter.directory) {
        (Search::Inside(expression), _) => {
            sql.from =
                "group_text t CROSS JOIN directory_group g ON g.id = t.rowid JOIN directory d ON d.id = g.directory_id";
            sql.with("t.text MATCH :expression", ":expression", expression.clone());
            sql.order = "t.rowid";
        }
        (_, Some(_)) => {
            sql.from = "directory_group g INDEXED BY group_by_directory JOIN directory d ON d.id = g.directory_id"
        }
        _ => sql.from = "directory_group g INDEXED BY group_by_name JOIN directory d ON d.id = g.directory_id",
    }
    sql.with("g.account_id = :account", ":account", account);
    sql.conditions.push("g.removed_at IS NULL AND d.removed_at IS NULL");
    if let Some(directory) = filter.directory {
        sql.with("g.directory_id = :directory", ":directory", directory);
    }
    if let Search::Beginning(text) = search {
        sql.with("g.sort_key >= :beginning", ":beginning", text.clone());
        sql.with("g.sort_key < :end", ":end", format!("{text}{LAST}"));
    }
    match (after, sql.order) {
        (Some(Position::Name(name, id)), "g.sort_key, g.id") => {
            sql.with("(g.sort_key, g.id) > (:after_name, :after)", ":after_name", name);
            sql.values.push((":after", Box::new(id)));
        }
        (Some(Position::Number(id)), "t.rowid") => sql.with("t.rowid > :after", ":after", id),
        _ => {}
    }
    sql
}

/// Up to `limit` groups; `filter.status` and `filter.group` are not looked at.
pub fn list_groups(
    connection: &Connection,
    account: AccountId,
    filter: &Filter,
    after: Option<Position>,
    limit: usize,
) -> Result<Vec<GroupRow>> {
    query(connection, &group_sql(account, filter, after), GROUP_COLUMNS, limit, read_group)
}

pub fn find_group(connection: &Connection, account: AccountId, id: ObjectId) -> Result<Option<GroupRow>> {
    let sql = format!(
        "SELECT {GROUP_COLUMNS} FROM directory_group g JOIN directory d ON d.id = g.directory_id
         WHERE g.id = ?1 AND g.account_id = ?2 AND g.removed_at IS NULL AND d.removed_at IS NULL"
    );
    Ok(connection.prepare_cached(&sql)?.query_row(params![id, account], read_group).optional()?)
}

/// What a number of the common space is called: type, name, detail.
fn describe(connection: &Connection, id: ObjectId) -> Result<(String, String, String)> {
    let found = connection
        .prepare_cached(
            "SELECT 'identity', coalesce(nullif(display_name, ''), user_name), user_name FROM identity WHERE id = ?1
             UNION ALL SELECT 'group', name, coalesce(description, '') FROM directory_group WHERE id = ?1
             UNION ALL SELECT 'reference', text, text FROM reference WHERE id = ?1
             UNION ALL SELECT object_type, coalesce(nullif(display_name, ''), name), name FROM staged WHERE object_id = ?1
             LIMIT 1",
        )?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    Ok(found.unwrap_or_else(|| ("reference".into(), format!("object {id}"), String::new())))
}

fn members(
    connection: &Connection,
    sql: &str,
    of: ObjectId,
    after: ObjectId,
    limit: usize,
    direct_sql: &str,
) -> Result<Vec<Member>> {
    let ids: Vec<ObjectId> = connection
        .prepare_cached(sql)?
        .query_map(params![of, FOREVER, after, limit], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut is_direct = connection.prepare_cached(direct_sql)?;
    ids.into_iter()
        .map(|id| {
            let (kind, name, detail) = describe(connection, id)?;
            let direct = is_direct.exists(params![of, FOREVER, id])?;
            Ok(Member { id: id.to_string(), kind, sort_key: fold(&name), name, detail, direct, number: id })
        })
        .collect()
}

const HAS_MEMBER: &str = "SELECT 1 FROM member WHERE group_id = ?1 AND until_at = ?2 AND member_id = ?3";
const IN_GROUP: &str = "SELECT 1 FROM member WHERE member_id = ?1 AND until_at = ?2 AND group_id = ?3";

/// The direct members of a group, by number, after `after`.
pub fn direct_members(connection: &Connection, group: ObjectId, after: ObjectId, limit: usize) -> Result<Vec<Member>> {
    let sql = "SELECT member_id FROM member WHERE group_id = ?1 AND until_at = ?2 AND member_id > ?3 ORDER BY member_id LIMIT ?4";
    members(connection, sql, group, after, limit, HAS_MEMBER)
}

/// Everything that is a member of a group through any depth of groups; cycles end, the group itself is left out.
pub fn effective_members(
    connection: &Connection,
    group: ObjectId,
    after: ObjectId,
    limit: usize,
) -> Result<Vec<Member>> {
    let sql = "WITH RECURSIVE reach (id) AS (
                   SELECT ?1 UNION SELECT m.member_id FROM reach r JOIN member m ON m.group_id = r.id AND m.until_at = ?2)
               SELECT id FROM reach WHERE id <> ?1 AND id > ?3 ORDER BY id LIMIT ?4";
    members(connection, sql, group, after, limit, HAS_MEMBER)
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
             SELECT ?1 UNION SELECT m.group_id FROM reach r JOIN member m ON m.member_id = r.id AND m.until_at = ?2)
         SELECT id FROM reach WHERE id <> ?1 AND id > ?3 ORDER BY id LIMIT ?4"
    } else {
        "SELECT group_id FROM member WHERE member_id = ?1 AND until_at = ?2 AND group_id > ?3 ORDER BY group_id LIMIT ?4"
    };
    members(connection, sql, member, after, limit, IN_GROUP)
}

fn read_change(row: &Row<'_>) -> rusqlite::Result<ChangeRow> {
    Ok(ChangeRow {
        id: row.get(0)?,
        run_id: row.get(1)?,
        subject_type: row.get(2)?,
        subject_id: row.get(3)?,
        subject_name: String::new(),
        kind: row.get(4)?,
        field: row.get(5)?,
        before: row.get(6)?,
        after: row.get(7)?,
        member_name: None,
        applied_at: row.get(8)?,
    })
}

/// Puts the names in that the rows only point at.
fn name_changes(connection: &Connection, mut rows: Vec<ChangeRow>) -> Result<Vec<ChangeRow>> {
    for row in &mut rows {
        row.subject_name = describe(connection, row.subject_id)?.1;
        let member = match row.kind.as_str() {
            "member-added" => row.after.as_deref(),
            "member-removed" => row.before.as_deref(),
            _ => None,
        };
        if let Some(id) = member.and_then(|id| id.trim_matches('"').parse().ok()) {
            row.member_name = Some(describe(connection, id)?.1);
        }
    }
    Ok(rows)
}

/// The history of one object, newest first, before row `before`: only what took effect.
pub fn history(connection: &Connection, subject: ObjectId, before: i64, limit: usize) -> Result<Vec<ChangeRow>> {
    let rows = connection
        .prepare_cached(
            "SELECT c.id, c.run_id, c.subject_type, c.subject_id, c.kind, c.field, c.before, c.after, a.applied_at
             FROM change c JOIN applied_run a ON a.run_id = c.run_id
             WHERE c.subject_id = ?1 AND c.id < ?2 ORDER BY c.id DESC LIMIT ?3",
        )?
        .query_map(params![subject, before, limit], read_change)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    name_changes(connection, rows)
}

/// The lines of one run's plan after row `after`, oldest first, of one kind or of all.
pub fn changes_of_run(
    connection: &Connection,
    run: i64,
    kinds: &[&'static str],
    after: i64,
    limit: usize,
) -> Result<Vec<ChangeRow>> {
    let marks = vec!["?"; kinds.len()].join(", ");
    let narrowed = if kinds.is_empty() { String::new() } else { format!("AND c.kind IN ({marks})") };
    let sql = format!(
        "SELECT c.id, c.run_id, c.subject_type, c.subject_id, c.kind, c.field, c.before, c.after, a.applied_at
         FROM change c LEFT JOIN applied_run a ON a.run_id = c.run_id
         WHERE c.run_id = ? AND c.id > ? {narrowed} ORDER BY c.id LIMIT ?"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut values: Vec<&dyn ToSql> = vec![&run, &after];
    values.extend(kinds.iter().map(|kind| kind as &dyn ToSql));
    values.push(&limit);
    let rows = connection
        .prepare_cached(&sql)?
        .query_map(params_from_iter(values), read_change)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    name_changes(connection, rows)
}

#[cfg(test)]
pub(super) fn plan_of(connection: &Connection, filter: &Filter) -> Vec<String> {
    let account = AccountId::new(AccountId::MIN).expect("an account");
    let sql = identity_sql(account, filter, Some(position(filter, "m", 5)));
    let mut statement =
        connection.prepare(&format!("EXPLAIN QUERY PLAN {}", sql.text(IDENTITY_COLUMNS))).expect("a statement");
    let mut bound: Vec<(&str, &dyn ToSql)> = sql.values.iter().map(|(name, value)| (*name, value.as_ref())).collect();
    bound.push((":limit", &10));
    statement
        .query_map(bound.as_slice(), |row| row.get(3))
        .expect("a plan")
        .collect::<rusqlite::Result<_>>()
        .expect("rows")
}
