//! Looking at a plan before it takes effect: its figures for the guard, and its lines searched and narrowed.
//!
//! Reads `change` together with the copy. It decides nothing: what is too much, and who may see it, is `directories`'
//! business.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::{
    fold::fold,
    history::changes_of_run,
    model::{ChangeKind, ChangeRow, ObjectId, SubjectType},
    queries::count_state,
    write::NewChange,
};
use crate::error::Result;

/// The figures of one kind of object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectFigures {
    /// In the copy, neither missing nor removed.
    pub present: i64,
    pub added: i64,
    /// Objects with at least one line that says `changed`.
    pub changed: i64,
    pub missing: i64,
    pub returned: i64,
}

/// A group that loses members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFigures {
    pub name: String,
    pub members: i64,
    pub lost: i64,
}

/// What a plan does to the copy, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanFigures {
    pub identities: ObjectFigures,
    pub groups: ObjectFigures,
    /// Identities whose status leaves `active`.
    pub disabled: i64,
    /// Direct memberships of the groups that are present.
    pub memberships: i64,
    pub memberships_removed: i64,
    /// The groups that `watched` said yes to and that lose members, or that go missing with all of them.
    pub watched: Vec<GroupFigures>,
    /// A hash of the lines, the same for two plans that say the same of the same copy. What is added has another number
    /// in each plan, so there its name stands for it.
    pub digest: [u8; 32],
}

/// How many of a directory's objects are there: identities, groups, direct memberships.
///
/// `stored` is how many the last applied run left (missing ones among them): counting a million rows for a plan of
/// three lines would take longer than the plan.
pub fn present(connection: &Connection, directory: i64, stored: (i64, i64)) -> Result<(i64, i64, i64)> {
    let missing = count_state(connection, directory, "missing", i64::MAX)?;
    let (gone, memberships): (i64, i64) = connection
        .prepare_cached(
            "SELECT count(*) FILTER (WHERE missing_since_at IS NOT NULL),
                    coalesce(sum(member_count) FILTER (WHERE missing_since_at IS NULL), 0)
             FROM directory_group WHERE directory_id = ?1 AND removed_at IS NULL",
        )?
        .query_row([directory], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(((stored.0 - missing).max(0), (stored.1 - gone).max(0), memberships))
}

/// How many more identities and groups there are after a plan that brings nothing back; its lines are read once.
pub fn balance(connection: &Connection, run: i64) -> Result<(i64, i64)> {
    let sql = "SELECT coalesce(sum(iif(c.kind = 'added', 1, -1)) FILTER (WHERE c.subject_type = ?2), 0),
                      coalesce(sum(iif(c.kind = 'added', 1, -1)) FILTER (WHERE c.subject_type = ?3), 0)
               FROM plan p CROSS JOIN change c ON c.id >= p.first_change AND c.id <= p.last_change
               WHERE p.run_id = ?1 AND c.run_id = ?1 AND c.kind IN ('added', 'removed')";
    let codes = params![run, SubjectType::Identity.code(), SubjectType::Group.code()];
    Ok(connection.prepare_cached(sql)?.query_row(codes, |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// The figures of a plan: its lines are read once. `watched` answers for a group's name whether its losses matter.
pub fn figures(
    connection: &Connection,
    directory: i64,
    run: i64,
    stored: (i64, i64),
    watched: impl Fn(&str) -> bool,
) -> Result<PlanFigures> {
    let (identities, groups, memberships) = present(connection, directory, stored)?;
    let mut figures = PlanFigures { memberships, ..PlanFigures::default() };
    (figures.identities.present, figures.groups.present) = (identities, groups);
    let mut losses: HashMap<ObjectId, i64> = HashMap::new();
    let mut gone: Vec<ObjectId> = Vec::new();
    let mut last_changed = None;
    let mut digest = Digest::default();
    let mut statement = connection.prepare_cached(
        "SELECT subject_type, subject_id, kind, field = 'status' AND before = '\"active\"', field, before, after,
                member_id
         FROM plan p CROSS JOIN change c ON c.id >= p.first_change AND c.id <= p.last_change
         WHERE p.run_id = ?1 AND c.run_id = ?1 ORDER BY c.id",
    )?;
    let mut rows = statement.query([run])?;
    while let Some(row) = rows.next()? {
        let subject: ObjectId = row.get(1)?;
        let is_group = row.get::<_, i64>(0)? == SubjectType::Group.code();
        let of = if is_group { &mut figures.groups } else { &mut figures.identities };
        let kind = row.get_ref(2)?.as_str().ok().and_then(ChangeKind::parse);
        let text = |index: usize| row.get_ref(index).ok().and_then(|value| value.as_str().ok()).unwrap_or_default();
        let side = if is_group { SubjectType::Group } else { SubjectType::Identity };
        if let Some(kind) = kind {
            digest.line(side, subject, kind, row.get(7)?, [text(4), text(5), text(6)]);
        }
        match kind {
            Some(ChangeKind::Added) => of.added += 1,
            Some(ChangeKind::Returned) => of.returned += 1,
            Some(ChangeKind::Missing) => {
                of.missing += 1;
                if is_group {
                    gone.push(subject);
                }
            }
            Some(ChangeKind::Changed) => {
                // The lines of one object stand together.
                if last_changed.replace(subject) != Some(subject) {
                    of.changed += 1;
                }
                if !is_group && row.get::<_, Option<bool>>(3)? == Some(true) {
                    figures.disabled += 1;
                }
            }
            Some(ChangeKind::MemberRemoved) => {
                figures.memberships_removed += 1;
                *losses.entry(subject).or_default() += 1;
            }
            _ => {}
        }
    }
    let mut find = connection.prepare_cached("SELECT name, member_count FROM directory_group WHERE id = ?1")?;
    let mut group = |id: ObjectId, lost: Option<i64>| -> Result<()> {
        let found: Option<(String, i64)> = find.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        if let Some((name, members)) = found.filter(|(name, _)| watched(name)) {
            figures.watched.push(GroupFigures { name, members, lost: lost.unwrap_or(members) });
        }
        Ok(())
    };
    for (id, lost) in losses {
        group(id, Some(lost))?;
    }
    for id in gone {
        group(id, None)?;
    }
    figures.digest = digest.finish();
    figures.watched.sort_by(|a, b| (b.lost, &a.name).cmp(&(a.lost, &b.name)));
    Ok(figures)
}

/// A hash of a plan's lines, each together with the hash of those before it. Two plans with the same lines have the
/// same, also where what is new has other numbers.
#[derive(Default)]
pub struct Digest {
    so_far: [u8; 32],
    waiting: Vec<u8>,
    /// The last object that is new.
    added: ObjectId,
}

/// Bytes that are hashed at once.
const DIGEST_PIECE: usize = 64 * 1024;

impl Digest {
    /// Takes a line before it is stored.
    pub fn change(&mut self, change: &NewChange) {
        let [field, before, after] =
            [&change.field, &change.before, &change.after].map(|text| text.as_deref().unwrap_or_default());
        self.line(change.subject_type, change.subject_id, change.kind, change.member_id, [field, before, after]);
    }

    fn line(
        &mut self,
        subject_type: SubjectType,
        subject: ObjectId,
        kind: ChangeKind,
        member: Option<ObjectId>,
        texts: [&str; 3],
    ) {
        // Numbers of what is new differ from plan to plan. The members of a new group follow it.
        if kind == ChangeKind::Added {
            self.added = subject;
        }
        let subject = if subject == self.added { 0 } else { subject };
        let member = if kind == ChangeKind::MemberAdded { 0 } else { member.unwrap_or(0) };
        self.waiting.extend_from_slice(subject_type.as_str().as_bytes());
        self.waiting.extend_from_slice(kind.as_str().as_bytes());
        self.waiting.extend_from_slice(&subject.to_be_bytes());
        self.waiting.extend_from_slice(&member.to_be_bytes());
        for text in texts {
            self.waiting.extend_from_slice(text.as_bytes());
            // No text of a directory holds this byte: it is not UTF-8.
            self.waiting.push(0xff);
        }
        if self.waiting.len() >= DIGEST_PIECE {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.waiting.extend_from_slice(&self.so_far);
        self.so_far = crate::secret::sha256(&self.waiting);
        self.waiting.clear();
    }

    /// The hash of all lines.
    pub fn finish(mut self) -> [u8; 32] {
        self.turn();
        self.so_far
    }
}

/// Whether the first plan of a directory found identities, and how many groups: enough to tell an answer from nothing.
/// Such a plan stands in place.
pub fn found_first(connection: &Connection, directory: i64) -> Result<(bool, i64)> {
    Ok(connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM identity WHERE directory_id = ?1),
                (SELECT count(*) FROM directory_group WHERE directory_id = ?1)",
        params![directory],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?)
}

/// What the lines of a plan are narrowed to.
#[derive(Debug, Clone, Default)]
pub struct LineFilter {
    pub kind: Option<ChangeKind>,
    pub subject: Option<SubjectType>,
    /// A part of the subject's name or user name, or of the member's.
    pub q: String,
}

impl LineFilter {
    /// Whether every line fits.
    pub fn is_open(&self) -> bool {
        self.kind.is_none() && self.subject.is_none() && self.q.trim().is_empty()
    }
}

/// Lines that one request looks at: a search through a plan of a million lines goes on with its cursor instead of
/// keeping a reader for seconds.
const LOOKED_AT_MAX: i64 = 200_000;
const WINDOW: i64 = 10_000;

/// Up to `limit` lines of a plan after line `after`, and where to go on; `None` after the last.
pub fn lines(
    connection: &Connection,
    run: i64,
    filter: &LineFilter,
    after: i64,
    limit: usize,
) -> Result<(Vec<ChangeRow>, Option<i64>)> {
    let kinds: Vec<&'static str> = filter.kind.iter().map(|kind| kind.as_str()).collect();
    let next_of = |rows: &mut Vec<ChangeRow>| {
        (rows.len() > limit).then(|| {
            rows.truncate(limit);
            rows.last().map(|row| row.id)
        })
    };
    if filter.subject.is_none() && filter.q.trim().is_empty() {
        let mut rows = changes_of_run(connection, run, &kinds, after, limit + 1)?;
        let next = next_of(&mut rows).flatten();
        return Ok((rows, next));
    }
    let (mut ids, mut from, mut looked_at) = (Vec::new(), after, 0);
    let goes_on = loop {
        // A window of the run's own lines, whatever numbers they have.
        let end: Option<i64> = connection
            .prepare_cached(
                "SELECT max(id) FROM
                     (SELECT c.id FROM plan p CROSS JOIN change c ON c.id > max(p.first_change - 1, ?2) AND c.id <= p.last_change
                      WHERE p.run_id = ?1 AND c.run_id = ?1 ORDER BY c.id LIMIT ?3)",
            )?
            .query_row(params![run, from, WINDOW], |row| row.get(0))?;
        let Some(end) = end else { break None };
        ids.extend(fitting(connection, run, filter, (from, end), limit + 1 - ids.len())?);
        (from, looked_at) = (end, looked_at + WINDOW);
        if ids.len() > limit {
            break None;
        }
        if looked_at >= LOOKED_AT_MAX {
            let more = "SELECT 1 FROM plan WHERE run_id = ?1 AND last_change > ?2";
            break connection.prepare_cached(more)?.exists(params![run, end])?.then_some(end);
        }
    };
    let mut rows = Vec::with_capacity(ids.len());
    for id in ids {
        rows.extend(changes_of_run(connection, run, &[], id - 1, 1)?);
    }
    let next = next_of(&mut rows).flatten();
    Ok((rows, next.or(goes_on)))
}

/// The lines between two numbers (the first left out) that fit, oldest first.
fn fitting(
    connection: &Connection,
    run: i64,
    filter: &LineFilter,
    (after, end): (i64, i64),
    limit: usize,
) -> Result<Vec<i64>> {
    let mut conditions = vec!["c.run_id = :run AND c.id > :after AND c.id <= :end"];
    let (kind, subject) = (filter.kind.map(ChangeKind::as_str), filter.subject.map(SubjectType::code));
    let typed = filter.q.trim();
    let folded = fold(typed);
    let mut values: Vec<(&str, &dyn ToSql)> =
        vec![(":run", &run), (":after", &after), (":end", &end), (":limit", &limit)];
    if kind.is_some() {
        conditions.push("c.kind = :kind");
        values.push((":kind", &kind));
    }
    if subject.is_some() {
        conditions.push("c.subject_type = :subject");
        values.push((":subject", &subject));
    }
    let mut from = "change c";
    if !folded.is_empty() {
        // What is added is not in the copy yet: its line has the name.
        from = "change c
             LEFT JOIN identity i ON i.id = c.subject_id
             LEFT JOIN directory_group g ON g.id = c.subject_id
             LEFT JOIN identity m ON m.id = c.member_id";
        conditions.push(
            "(instr(i.sort_key, :q) OR instr(lower(i.user_name), :q) OR instr(g.sort_key, :q)
              OR instr(m.sort_key, :q) OR instr(lower(m.user_name), :q)
              OR c.kind = 'added' AND (instr(lower(c.after), :q) OR instr(c.after, :typed)))",
        );
        values.push((":q", &folded));
        values.push((":typed", &typed));
    }
    let conditions = conditions.join(" AND ");
    let mut statement =
        connection.prepare_cached(&format!("SELECT c.id FROM {from} WHERE {conditions} ORDER BY c.id LIMIT :limit"))?;
    let rows = statement.query_map(values.as_slice(), |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
