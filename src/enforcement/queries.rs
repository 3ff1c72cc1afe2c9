//! SQL of requests and tasks, and of what was found about them.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::{
    model::{Counts, Decision, Request, RequestState, Task, TaskState},
    never::Refusal,
};
use crate::{
    clock::Time,
    connectors::act::{Action, Standing},
    error::Result,
    identities::IdentityRow,
    principal::AccountId,
};

/// Text of a column as one of an enumeration's words.
pub(super) fn word<T>(row: &Row<'_>, index: usize, parse: impl Fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text: String = row.get(index)?;
    parse(&text).ok_or_else(|| {
        let error = format!("{text} is not known").into();
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, error)
    })
}

fn standing(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Standing>> {
    let text: Option<String> = row.get(index)?;
    let read = |text: String| {
        serde_json::from_str(&text)
            .map_err(|e| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, e.into()))
    };
    text.map(read).transpose()
}

/// What [`read_request`] reads; a macro, so that each statement is one literal.
macro_rules! request_columns {
    () => {
        "id, account_id, action, reason, requested_by, requester, requested_at, state, waits_for, expires_at, decision,
         decided_by, decided_at, decision_reason, undo_at, undo_ended_at, undo_of, finished_at,
         (SELECT max(u.id) FROM enforcement_request u
          WHERE u.undo_of = enforcement_request.id AND u.state NOT IN ('cancelled', 'unsuccessful'))"
    };
}

/// What [`read_task`] reads; `t` is the task, `r` its request.
macro_rules! tasks {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.request_id, t.account_id, t.directory_id, t.identity_id, t.external_id, t.name, t.user_name,
                    t.action, t.state, t.error, t.next_step, t.before, t.after, t.was_so, t.attempts, t.due_at,
                    t.give_up_at, t.sent_at, t.accepted_at, t.observed_at, t.finished_at, t.inverse_of, t.drift_at,
                    t.drift, r.reason, r.requested_at, t.can_undo, t.error_in_part
             FROM task t JOIN enforcement_request r ON r.id = t.request_id ",
            $rest
        )
    };
}

fn read_request(row: &Row<'_>) -> rusqlite::Result<Request> {
    let decision: Option<String> = row.get(10)?;
    let decision = match decision {
        Some(decision) => Some(Decision {
            decision,
            by: row.get::<_, Option<String>>(11)?.unwrap_or_default(),
            at: row.get::<_, Option<Time>>(12)?.unwrap_or_default(),
            reason: row.get::<_, Option<String>>(13)?.unwrap_or_default(),
        }),
        None => None,
    };
    Ok(Request {
        id: row.get(0)?,
        account_id: row.get(1)?,
        action: word(row, 2, Action::parse)?,
        reason: row.get(3)?,
        requested_by: row.get(4)?,
        requester: row.get(5)?,
        requested_at: row.get(6)?,
        state: word(row, 7, RequestState::parse)?,
        waits_for: row.get(8)?,
        expires_at: row.get(9)?,
        decision,
        undo_at: row.get(14)?,
        undo_ended_at: row.get(15)?,
        undo_of: row.get(16)?,
        finished_at: row.get(17)?,
        undone_by: row.get(18)?,
        counts: Counts::default(),
    })
}

fn read_task(row: &Row<'_>) -> rusqlite::Result<Task> {
    Ok(Task {
        id: row.get(0)?,
        request_id: row.get(1)?,
        account_id: row.get(2)?,
        directory_id: row.get(3)?,
        identity_id: row.get(4)?,
        external_id: row.get(5)?,
        name: row.get(6)?,
        user_name: row.get(7)?,
        action: word(row, 8, Action::parse)?,
        state: word(row, 9, TaskState::parse)?,
        error: row.get(10)?,
        next_step: row.get(11)?,
        before: standing(row, 12)?,
        after: standing(row, 13)?,
        was_so: row.get(14)?,
        attempts: row.get(15)?,
        due_at: row.get(16)?,
        give_up_at: row.get(17)?,
        sent_at: row.get(18)?,
        accepted_at: row.get(19)?,
        observed_at: row.get(20)?,
        finished_at: row.get(21)?,
        inverse_of: row.get(22)?,
        drift_at: row.get(23)?,
        drift: row.get(24)?,
        reason: row.get(25)?,
        requested_at: row.get(26)?,
        can_undo: row.get(27)?,
        error_in_part: row.get(28)?,
    })
}

fn counts_of(connection: &Connection, request: i64) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut statement =
        connection.prepare_cached("SELECT state, count(*) FROM task WHERE request_id = ?1 GROUP BY state")?;
    let mut rows = statement.query([request])?;
    while let Some(row) = rows.next()? {
        counts.add(word(row, 0, TaskState::parse)?, row.get(1)?);
    }
    Ok(counts)
}

fn with_counts(connection: &Connection, mut request: Request) -> Result<Request> {
    request.counts = counts_of(connection, request.id)?;
    Ok(request)
}

pub(super) fn insert_request(connection: &Connection, request: &Request) -> Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO enforcement_request (account_id, action, reason, requested_by, requester, requested_at, state,
                                              waits_for, expires_at, undo_at, undo_of)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            request.account_id,
            request.action.as_str(),
            request.reason,
            request.requested_by,
            request.requester,
            request.requested_at,
            request.state.as_str(),
            request.waits_for,
            request.expires_at,
            request.undo_at,
            request.undo_of,
        ])?;
    Ok(connection.last_insert_rowid())
}

/// A task of a request that begins.
pub(super) struct NewTask<'a> {
    pub identity: &'a IdentityRow,
    pub state: TaskState,
    /// Why it is refused, where it is.
    pub refused: Option<&'a Refusal>,
    /// Until when it is tried, where it is queued.
    pub give_up_at: Time,
    pub inverse_of: Option<i64>,
}

pub(super) fn insert_task(connection: &Connection, request: &Request, task: &NewTask<'_>) -> Result<()> {
    let now = request.requested_at;
    let is_queued = task.state == TaskState::Queued;
    connection
        .prepare_cached(
            "INSERT INTO task (request_id, account_id, directory_id, identity_id, external_id, name, user_name, action, state,
                               error, due_at, give_up_at, finished_at, inverse_of, error_in_part)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(params![
            request.id,
            request.account_id,
            task.identity.directory_id,
            task.identity.id,
            task.identity.external_id,
            task.identity.name(),
            task.identity.user_name,
            request.action.as_str(),
            task.state.as_str(),
            task.refused.map(Refusal::words),
            is_queued.then_some(now),
            is_queued.then_some(task.give_up_at),
            task.refused.map(|_| now),
            task.inverse_of,
            task.refused.and_then(Refusal::words_in_part),
        ])?;
    Ok(())
}

/// Writes everything of a task that changes while it is carried out. `false` when it was over already, called off
/// meanwhile: then nothing is written.
pub(super) fn update_task(connection: &Connection, task: &Task) -> Result<bool> {
    let json = |standing: &Option<Standing>| standing.as_ref().map(serde_json::to_string).transpose();
    let written = connection
        .prepare_cached(
            "UPDATE task SET state = ?2, error = ?3, next_step = ?4, before = ?5, after = ?6, was_so = ?7, attempts = ?8,
                             due_at = ?9, give_up_at = ?10, sent_at = ?11, accepted_at = ?12, observed_at = ?13,
                             finished_at = ?14, can_undo = ?15, error_in_part = ?16
             WHERE id = ?1 AND state IN ('queued', 'sent', 'accepted')",
        )?
        .execute(params![
            task.id,
            task.state.as_str(),
            task.error,
            task.next_step,
            json(&task.before)?,
            json(&task.after)?,
            task.was_so,
            task.attempts,
            task.due_at,
            task.give_up_at,
            task.sent_at,
            task.accepted_at,
            task.observed_at,
            task.finished_at,
            task.can_undo,
            task.error_in_part,
        ])?;
    Ok(written > 0)
}

/// A request of an account, with its counts.
pub(super) fn find_request(connection: &Connection, account: AccountId, id: i64) -> Result<Option<Request>> {
    let sql = concat!("SELECT ", request_columns!(), " FROM enforcement_request WHERE id = ?1 AND account_id = ?2");
    let found = connection.prepare_cached(sql)?.query_row(params![id, account], read_request).optional()?;
    found.map(|request| with_counts(connection, request)).transpose()
}

/// Requests of an account, newest first, before a number; of one state if one is named.
pub(super) fn list_requests(
    connection: &Connection,
    account: AccountId,
    state: Option<RequestState>,
    before: i64,
    limit: usize,
) -> Result<Vec<Request>> {
    let sql = concat!(
        "SELECT ",
        request_columns!(),
        " FROM enforcement_request WHERE account_id = ?1 AND id < ?2 AND (?3 IS NULL OR state = ?3) ORDER BY id DESC LIMIT ?4"
    );
    some_requests(connection, sql, &[&account, &before, &state.map(RequestState::as_str), &limit])
}

pub(super) fn find_task(connection: &Connection, account: AccountId, id: i64) -> Result<Option<Task>> {
    Ok(connection
        .prepare_cached(tasks!("WHERE t.id = ?1 AND t.account_id = ?2"))?
        .query_row(params![id, account], read_task)
        .optional()?)
}

/// All tasks of a request, in order; there are at most as many as a request may have.
pub(super) fn tasks_of(connection: &Connection, request: i64) -> Result<Vec<Task>> {
    let mut statement = connection.prepare_cached(tasks!("WHERE t.request_id = ?1 ORDER BY t.id"))?;
    let rows = statement.query_map([request], read_task)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Whether a request is about nothing but identities that are `seen`, which is asked with the directory and the identity
/// of each until one is not.
pub(super) fn is_about_only(
    connection: &Connection,
    request: i64,
    seen: impl Fn(i64, i64) -> Result<bool>,
) -> Result<bool> {
    let mut statement =
        connection.prepare_cached("SELECT directory_id, identity_id FROM task WHERE request_id = ?1")?;
    let mut rows = statement.query([request])?;
    let mut is_any = false;
    while let Some(row) = rows.next()? {
        is_any = true;
        if !seen(row.get(0)?, row.get(1)?)? {
            return Ok(false);
        }
    }
    Ok(is_any)
}

/// Some tasks of a request after a number, in order; of one state if one is named.
pub(super) fn tasks_page(
    connection: &Connection,
    request: i64,
    state: Option<TaskState>,
    after: i64,
    limit: usize,
) -> Result<Vec<Task>> {
    let mut statement = connection.prepare_cached(tasks!(
        "WHERE t.request_id = ?1 AND t.id > ?2 AND (?3 IS NULL OR t.state = ?3) ORDER BY t.id LIMIT ?4"
    ))?;
    let rows = statement.query_map(params![request, after, state.map(TaskState::as_str), limit], read_task)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The directories that the tasks of a request are in.
pub(super) fn directories_of(connection: &Connection, request: i64) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached("SELECT DISTINCT directory_id FROM task WHERE request_id = ?1")?;
    let rows = statement.query_map([request], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// What can be done about a request now.
pub(super) struct Openness {
    /// Some of it was not sent yet.
    pub has_unsent: bool,
    /// Some of it can be taken back.
    pub has_undoable: bool,
    /// Somebody asked for taking it back, which waits for approval.
    pub is_undo_awaited: bool,
}

pub(super) fn openness(connection: &Connection, request: &Request) -> Result<Openness> {
    let has_undoable = request.action.inverse().is_some() && !undoable(connection, request, None, 1)?.is_empty();
    Ok(connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM task WHERE request_id = ?1 AND state IN ('awaiting-approval', 'queued')
                              AND sent_at IS NULL),
                    EXISTS (SELECT 1 FROM enforcement_request WHERE undo_of = ?1 AND state = 'awaiting-approval')",
        )?
        .query_row([request.id], |row| {
            Ok(Openness { has_unsent: row.get(0)?, has_undoable, is_undo_awaited: row.get(1)? })
        })?)
}

/// Tasks of a request, or one of them, that can be taken back: they did something, or may have, that nobody has changed or
/// decided otherwise since.
pub(super) fn undoable(
    connection: &Connection,
    request: &Request,
    only: Option<i64>,
    limit: usize,
) -> Result<Vec<Task>> {
    let mut statement = connection.prepare_cached(tasks!(
        "WHERE t.request_id = ?1 AND (?2 IS NULL OR t.id = ?2) AND t.can_undo = 1 AND t.drift_at IS NULL
           AND ((t.state = 'observed' AND t.was_so = 0)
             OR (t.state IN ('unsuccessful', 'timed-out') AND t.sent_at IS NOT NULL))
           AND NOT EXISTS (SELECT 1 FROM task o WHERE o.identity_id = t.identity_id AND o.id > t.id
             AND (o.sent_at IS NOT NULL OR o.state IN ('queued', 'sent', 'accepted', 'observed'))
             AND o.action IN (SELECT value FROM json_each(?3)))
         ORDER BY t.id LIMIT ?4"
    ))?;
    let rows = statement.query_map(params![request.id, only, rivals(request.action), limit], read_task)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The actions that decide over the same thing, as a JSON list.
fn rivals(action: Action) -> String {
    let words: Vec<&str> = action.rivals().iter().map(|action| action.as_str()).collect();
    serde_json::json!(words).to_string()
}

/// What a list of tasks is narrowed to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TaskFilter {
    pub request: Option<i64>,
    pub identity: Option<i64>,
    pub directory: Option<i64>,
    pub state: Option<TaskState>,
}

/// Tasks of an account, newest first, before a number.
pub(super) fn list_tasks(
    connection: &Connection,
    account: AccountId,
    filter: TaskFilter,
    before: i64,
    limit: usize,
) -> Result<Vec<Task>> {
    // One statement for each way in, so that each walks its own index.
    let sql = match (filter.identity, filter.request) {
        (Some(_), _) => {
            tasks!(
                "WHERE t.identity_id = ?3 AND (?4 IS NULL OR t.request_id = ?4) AND t.account_id = ?1 AND t.id < ?2
                   AND (?5 IS NULL OR t.directory_id = ?5) AND (?6 IS NULL OR t.state = ?6) ORDER BY t.id DESC LIMIT ?7"
            )
        }
        (None, Some(_)) => {
            tasks!(
                "WHERE t.request_id = ?4 AND (?3 IS NULL OR t.identity_id = ?3) AND t.account_id = ?1 AND t.id < ?2
                   AND (?5 IS NULL OR t.directory_id = ?5) AND (?6 IS NULL OR t.state = ?6) ORDER BY t.id DESC LIMIT ?7"
            )
        }
        (None, None) => {
            tasks!(
                "WHERE t.account_id = ?1 AND t.id < ?2 AND (?3 IS NULL OR t.identity_id = ?3)
                   AND (?4 IS NULL OR t.request_id = ?4) AND (?5 IS NULL OR t.directory_id = ?5)
                   AND (?6 IS NULL OR t.state = ?6) ORDER BY t.id DESC LIMIT ?7"
            )
        }
    };
    let mut statement = connection.prepare_cached(sql)?;
    let values = params![
        account,
        before,
        filter.identity,
        filter.request,
        filter.directory,
        filter.state.map(TaskState::as_str),
        limit
    ];
    let rows = statement.query_map(values, read_task)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Directories that have a task to be looked at, and when the next one is.
pub(super) fn due_directories(connection: &Connection, now: Time) -> Result<(Vec<i64>, Option<Time>)> {
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT t.directory_id FROM task t WHERE t.due_at <= ?1 AND NOT EXISTS (
             SELECT 1 FROM task o WHERE o.identity_id = t.identity_id AND o.id < t.id AND o.due_at IS NOT NULL)",
    )?;
    let rows = statement.query_map([now], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let next = connection
        .prepare_cached("SELECT min(due_at) FROM task WHERE due_at > ?1")?
        .query_row([now], |row| row.get(0))?;
    Ok((rows, next))
}

/// The tasks of a directory whose time has come, the longest due first. What was asked for first of an identity is done
/// first, however long it has to wait.
pub(super) fn due_tasks(connection: &Connection, directory: i64, now: Time, limit: usize) -> Result<Vec<Task>> {
    let mut statement = connection.prepare_cached(tasks!(
        "WHERE t.due_at <= ?1 AND t.directory_id = ?2 AND NOT EXISTS (
                 SELECT 1 FROM task o WHERE o.identity_id = t.identity_id AND o.id < t.id AND o.due_at IS NOT NULL)
             ORDER BY t.due_at, t.id LIMIT ?3"
    ))?;
    let rows = statement.query_map(params![now, directory, limit], read_task)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Marks a request as over once all of its tasks are; answers its state if that was now.
pub(super) fn finish_if_over(connection: &Connection, id: i64, now: Time) -> Result<Option<RequestState>> {
    let counts = counts_of(connection, id)?;
    if counts.open() > 0 {
        return Ok(None);
    }
    let state = RequestState::of_tasks(&counts);
    let changed = connection
        .prepare_cached(
            "UPDATE enforcement_request SET state = ?2, finished_at = ?3 WHERE id = ?1 AND finished_at IS NULL",
        )?
        .execute(params![id, state.as_str(), now])?;
    Ok((changed > 0).then_some(state))
}

pub(super) fn set_decision(connection: &Connection, id: i64, decision: &Decision) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE enforcement_request SET decision = ?2, decided_by = ?3, decided_at = ?4, decision_reason = ?5
             WHERE id = ?1",
        )?
        .execute(params![id, decision.decision, decision.by, decision.at, decision.reason])?;
    Ok(())
}

/// Lets the tasks of an approved request go.
pub(super) fn release(
    connection: &Connection,
    id: i64,
    now: Time,
    give_up_at: Time,
    undo_at: Option<Time>,
) -> Result<()> {
    connection
        .prepare_cached("UPDATE enforcement_request SET state = 'running', undo_at = ?2 WHERE id = ?1")?
        .execute(params![id, undo_at])?;
    connection
        .prepare_cached(
            "UPDATE task SET state = 'queued', due_at = ?2, give_up_at = ?3
             WHERE request_id = ?1 AND state = 'awaiting-approval'",
        )?
        .execute(params![id, now, give_up_at])?;
    Ok(())
}

/// Calls off what of a request has not been sent; answers how many tasks that were.
pub(super) fn cancel_unsent(connection: &Connection, id: i64, why: &str, now: Time) -> Result<usize> {
    Ok(connection
        .prepare_cached(
            "UPDATE task SET state = 'cancelled', error = ?2, due_at = NULL, finished_at = ?3
             WHERE request_id = ?1 AND state IN ('awaiting-approval', 'queued') AND sent_at IS NULL",
        )?
        .execute(params![id, why, now])?)
}

/// Requests whose time has come: approval that did not come, and time boxes that have ended.
pub(super) fn expired(connection: &Connection, now: Time) -> Result<Vec<(AccountId, i64)>> {
    let sql = "SELECT account_id, id FROM enforcement_request
               WHERE state = 'awaiting-approval' AND expires_at <= ?1 ORDER BY expires_at LIMIT 100";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([now], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn to_undo(connection: &Connection, now: Time) -> Result<Vec<(AccountId, i64)>> {
    let sql = "SELECT account_id, id FROM enforcement_request
               WHERE undo_at <= ?1 AND undo_ended_at IS NULL AND state <> 'awaiting-approval' ORDER BY undo_at LIMIT 100";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([now], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A time box is over: it is taken back, or nothing was left to take back.
pub(super) fn end_time_box(connection: &Connection, id: i64, now: Time) -> Result<()> {
    connection
        .prepare_cached("UPDATE enforcement_request SET undo_ended_at = ?2 WHERE id = ?1")?
        .execute(params![id, now])?;
    Ok(())
}

pub(super) fn set_undo_at(connection: &Connection, id: i64, at: Time) -> Result<()> {
    connection.prepare_cached("UPDATE enforcement_request SET undo_at = ?2 WHERE id = ?1")?.execute(params![id, at])?;
    Ok(())
}

/// The identities that a person asked for actions on since a time, without anybody else's approval.
pub(super) fn asked_since(
    connection: &Connection,
    account: AccountId,
    requester: &str,
    since: Time,
) -> Result<HashSet<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT t.identity_id FROM enforcement_request r JOIN task t ON t.request_id = r.id
             WHERE r.account_id = ?1 AND r.requester = ?2 AND r.requested_at >= ?3 AND r.undo_of IS NULL
               AND r.decision IS NULL AND r.state <> 'awaiting-approval' AND t.state NOT IN ('refused', 'cancelled')",
    )?;
    let rows = statement.query_map(params![account, requester, since], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// When the next request expires or is to be taken back.
pub(super) fn next_deadline(connection: &Connection) -> Result<Option<Time>> {
    let expiring: Option<Time> = connection
        .prepare_cached("SELECT min(expires_at) FROM enforcement_request WHERE state = 'awaiting-approval'")?
        .query_row([], |row| row.get(0))?;
    let boxed: Option<Time> = connection
        .prepare_cached(
            "SELECT min(undo_at) FROM enforcement_request
             WHERE undo_at IS NOT NULL AND undo_ended_at IS NULL AND state <> 'awaiting-approval'",
        )?
        .query_row([], |row| row.get(0))?;
    Ok([expiring, boxed].into_iter().flatten().min())
}

/// Whether a later task decides over the same thing of the identity: `None` none does, `Some(false)` one did or may have,
/// `Some(true)` one is on its way.
pub(super) fn later_rival(connection: &Connection, task: &Task) -> Result<Option<bool>> {
    Ok(connection
        .prepare_cached(
            "SELECT max(state IN ('queued', 'sent', 'accepted')) FROM task
             WHERE identity_id = ?1 AND id > ?2
               AND (sent_at IS NOT NULL OR state IN ('queued', 'sent', 'accepted', 'observed'))
               AND action IN (SELECT value FROM json_each(?3))",
        )?
        .query_row(params![task.identity_id, task.id, rivals(task.action)], |row| row.get(0))?)
}

/// An open task of the same action on an identity.
pub(super) fn open_task(connection: &Connection, identity: i64, action: Action) -> Result<Option<i64>> {
    Ok(connection
        .prepare_cached(
            "SELECT id FROM task WHERE identity_id = ?1 AND action = ?2
               AND state IN ('queued', 'sent', 'accepted') ORDER BY id LIMIT 1",
        )?
        .query_row(params![identity, action.as_str()], |row| row.get(0))
        .optional()?)
}

/// The last thing that was done to an identity or is on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deed {
    pub action: Action,
    pub state: TaskState,
    pub observed_at: Option<Time>,
}

pub(super) fn last_deed(connection: &Connection, identity: i64, except: i64) -> Result<Option<Deed>> {
    Ok(connection
        .prepare_cached(
            // What takes access away counts from the moment that it is queued, and also where its end is not known; what
            // gives it back counts once it was seen.
            "SELECT action, state, observed_at FROM task
             WHERE identity_id = ?1 AND id <> ?2
               AND ((action IN ('disable', 'contain')
                       AND (sent_at IS NOT NULL OR state IN ('queued', 'sent', 'accepted', 'observed')))
                 OR (action = 'enable' AND state = 'observed'))
             ORDER BY id DESC LIMIT 1",
        )?
        .query_row(params![identity, except], |row| {
            Ok(Deed {
                action: word(row, 0, Action::parse)?,
                state: word(row, 1, TaskState::parse)?,
                observed_at: row.get(2)?,
            })
        })
        .optional()?)
}

// --- what is notable ---

pub(super) fn count_waiting(connection: &Connection, account: AccountId) -> Result<i64> {
    Ok(connection
        .prepare_cached(
            "SELECT count(*) FROM enforcement_request WHERE account_id = ?1 AND state = 'awaiting-approval'",
        )?
        .query_row([account], |row| row.get(0))?)
}

fn some_requests(connection: &Connection, sql: &str, values: &[&dyn ToSql]) -> Result<Vec<Request>> {
    let rows: Vec<Request> =
        connection.prepare_cached(sql)?.query_map(values, read_request)?.collect::<rusqlite::Result<_>>()?;
    rows.into_iter().map(|request| with_counts(connection, request)).collect()
}

/// Requests that wait for approval, those that expire first.
pub(super) fn awaiting(connection: &Connection, account: AccountId, limit: usize) -> Result<Vec<Request>> {
    let sql = concat!(
        "SELECT ",
        request_columns!(),
        " FROM enforcement_request WHERE account_id = ?1 AND state = 'awaiting-approval' ORDER BY expires_at LIMIT ?2"
    );
    some_requests(connection, sql, &[&account, &limit])
}

/// Requests that went on without a second person, newest first.
pub(super) fn overridden_since(
    connection: &Connection,
    account: AccountId,
    since: Time,
    limit: usize,
) -> Result<Vec<Request>> {
    let sql = concat!(
        "SELECT ",
        request_columns!(),
        " FROM enforcement_request INDEXED BY request_overridden
          WHERE account_id = ?1 AND decision = 'overridden' AND decided_at >= ?2 ORDER BY decided_at DESC LIMIT ?3"
    );
    some_requests(connection, sql, &[&account, &since, &limit])
}

/// Requests of which something failed, newest first. What was only refused or called off did not, except where it was to
/// take something back, which stands now though nobody wants it any more.
pub(super) fn failed_since(
    connection: &Connection,
    account: AccountId,
    since: Time,
    limit: usize,
) -> Result<Vec<Request>> {
    let sql = concat!(
        "SELECT ",
        request_columns!(),
        " FROM enforcement_request WHERE account_id = ?1 AND finished_at >= ?2 AND id IN (
              SELECT t.request_id FROM task t INDEXED BY task_failed
              WHERE t.account_id = ?1 AND t.finished_at >= ?2
                AND (t.state IN ('unsuccessful', 'timed-out') OR (t.state = 'refused' AND t.inverse_of IS NOT NULL)))
          ORDER BY id DESC LIMIT ?3"
    );
    some_requests(connection, sql, &[&account, &since, &limit])
}

/// Tasks whose effect somebody else undid, the last found first.
pub(super) fn drifted_since(
    connection: &Connection,
    account: AccountId,
    since: Time,
    limit: usize,
) -> Result<Vec<Task>> {
    let mut statement = connection.prepare_cached(tasks!(
        "WHERE t.account_id = ?1 AND t.drift_at IS NOT NULL AND t.drift_at >= ?2 ORDER BY t.drift_at DESC LIMIT ?3"
    ))?;
    let rows = statement.query_map(params![account, since, limit], read_task)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

// --- drift ---

/// The applied run up to which a directory was looked at; 0 when it never was.
pub(super) fn looked(connection: &Connection, directory: i64) -> Result<i64> {
    Ok(connection
        .prepare_cached("SELECT run_id FROM drift_mark WHERE directory_id = ?1")?
        .query_row([directory], |row| row.get(0))
        .optional()?
        .unwrap_or(0))
}

pub(super) fn set_looked(connection: &Connection, directory: i64, run: i64) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO drift_mark (directory_id, run_id) VALUES (?1, ?2)
             ON CONFLICT (directory_id) DO UPDATE SET run_id = excluded.run_id",
        )?
        .execute(params![directory, run])?;
    Ok(())
}

pub(super) fn forget_looked(connection: &Connection, directory: i64) -> Result<()> {
    connection.prepare_cached("DELETE FROM drift_mark WHERE directory_id = ?1")?.execute([directory])?;
    Ok(())
}

/// What was done in a directory since a time and stands as far as is known.
pub(super) fn watched(connection: &Connection, directory: i64, since: Time) -> Result<Vec<Task>> {
    let mut statement = connection.prepare_cached(tasks!(
        "WHERE t.directory_id = ?1 AND t.observed_at >= ?2 AND t.state = 'observed' AND t.was_so = 0 AND t.drift_at IS NULL
         ORDER BY t.id"
    ))?;
    let rows = statement.query_map(params![directory, since], read_task)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn set_drift(connection: &Connection, task: i64, at: Time, what: &str) -> Result<()> {
    connection
        .prepare_cached("UPDATE task SET drift_at = ?2, drift = ?3 WHERE id = ?1")?
        .execute(params![task, at, what])?;
    Ok(())
}

// --- the end of an account ---

/// Deletes some requests of an account, with their tasks; `false` when there is none left.
pub(super) fn purge(connection: &Connection, account: AccountId, limit: usize) -> Result<bool> {
    let deleted = connection
        .prepare_cached(
            "DELETE FROM enforcement_request WHERE id IN
                 (SELECT id FROM enforcement_request WHERE account_id = ?1 ORDER BY id LIMIT ?2)",
        )?
        .execute(params![account, limit])?;
    Ok(deleted > 0)
}
