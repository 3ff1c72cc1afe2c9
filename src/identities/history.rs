//! The history: what changed about an object, when it joined and left groups, and the lines of a plan, which become history
//! once it is applied.
//!
//! Owns the reading of `change` for people. Undoing it is `past`'s business. Reads only.

use std::cmp::Reverse;

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, params_from_iter};

use super::{
    fold::fold,
    model::{ChangeRow, FOREVER, MembershipEvent, ObjectId, SubjectType, href},
    parts::Sight,
    queries::describe,
};
use crate::{clock::Time, error::Result};

/// When an object joined and left groups, from `from` until before `until`, newest first.
pub fn membership_events(
    connection: &Connection,
    member: ObjectId,
    from: Time,
    until: Time,
) -> Result<Vec<MembershipEvent>> {
    // One object's memberships over all time: bounded by what one account can be a member of.
    let mut statement = connection.prepare_cached(
        "SELECT m.group_id, g.name, m.since_at, m.until_at FROM member m JOIN directory_group g ON g.id = m.group_id
         WHERE m.member_id = ?1 LIMIT 10000",
    )?;
    let mut rows = statement.query([member])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let (group, name, since, left): (ObjectId, String, Time, Time) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        for (at, joined) in [(since, true), (left, false)] {
            if at >= from && at < until && at.0 != FOREVER {
                events.push(MembershipEvent { at, group, group_name: name.clone(), joined });
            }
        }
    }
    events.sort_by_cached_key(|event| (Reverse(event.at), event.joined, fold(&event.group_name)));
    Ok(events)
}

/// The run whose changes took effect at a moment.
pub fn run_applied_at(connection: &Connection, at: Time) -> Result<Option<i64>> {
    Ok(connection
        .prepare_cached("SELECT run_id FROM plan WHERE applied_at = ?1 LIMIT 1")?
        .query_row([at], |row| row.get(0))
        .optional()?)
}

fn read_change(row: &Row<'_>) -> rusqlite::Result<ChangeRow> {
    let subject_type = SubjectType::of_code(row.get(2)?).ok_or(rusqlite::Error::InvalidQuery)?;
    Ok(ChangeRow {
        id: row.get(0)?,
        run_id: row.get(1)?,
        subject_type,
        subject_id: row.get(3)?,
        subject_name: String::new(),
        kind: row.get(4)?,
        field: row.get(5)?,
        before: row.get(6)?,
        after: row.get(7)?,
        member_id: row.get(9)?,
        member_name: None,
        member_href: String::new(),
        applied_at: row.get(8)?,
    })
}

/// Puts the names in that the rows only point at.
fn name_changes(connection: &Connection, mut rows: Vec<ChangeRow>) -> Result<Vec<ChangeRow>> {
    for row in &mut rows {
        row.subject_name = describe(connection, row.subject_id, row.run_id)?.name;
        if let Some(id) = row.member_id {
            let member = describe(connection, id, row.run_id)?;
            row.member_href = href(&member.kind, id);
            row.member_name = Some(member.name);
        }
    }
    Ok(rows)
}

/// The history of one object, newest first, before row `before`: only what took effect.
/// Members that are not seen are left out, and so are the names of what is not.
pub fn history(
    connection: &Connection,
    sight: &Sight,
    directory: i64,
    subject: ObjectId,
    before: i64,
    limit: usize,
) -> Result<Vec<ChangeRow>> {
    let part = sight.part().filter(|_| !sight.is_whole(directory)).map(|part| part.id);
    let mut rows = connection
        .prepare_cached(
            "SELECT c.id, c.run_id, c.subject_type, c.subject_id, c.kind, c.field, c.before, c.after, a.applied_at, c.member_id
             FROM change c JOIN plan a ON a.run_id = c.run_id
             WHERE c.subject_id = ?1 AND c.id < ?2 AND a.applied_at IS NOT NULL
               AND (?4 IS NULL OR c.member_id IS NULL
                    OR EXISTS (SELECT 1 FROM part_object p WHERE p.part_id = ?4 AND p.object_id = c.member_id))
             ORDER BY c.id DESC LIMIT ?3",
        )?
        .query_map(params![subject, before, limit, part], read_change)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    if part.is_some() {
        for row in &mut rows {
            let field = row.field.as_deref().unwrap_or_default();
            for side in [&mut row.before, &mut row.after] {
                *side = match side.take() {
                    Some(text) => sight.side(connection, directory, field, &text)?,
                    None => None,
                };
            }
        }
    }
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
        "SELECT c.id, c.run_id, c.subject_type, c.subject_id, c.kind, c.field, c.before, c.after, a.applied_at, c.member_id
         FROM plan a CROSS JOIN change c ON c.id >= a.first_change AND c.id <= a.last_change
         WHERE a.run_id = ? AND c.run_id = a.run_id AND c.id > ? {narrowed} ORDER BY c.id LIMIT ?"
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
