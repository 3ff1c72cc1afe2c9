//! What of requests and tasks somebody sees whose role is for a part of the account: tasks on identities of the part, and
//! requests that are about nothing else.
//!
//! Owns the finding and listing of both for people and programs; the queue works for the whole account and does not come
//! here.

use rusqlite::Connection;

use super::{
    model::{Request, RequestState, Task},
    queries::{self, TaskFilter},
};
use crate::{error::Result, identities::Sight};

/// Whether all that a request is about is seen.
fn is_seen(connection: &Connection, sight: &Sight, request: i64) -> Result<bool> {
    if !sight.is_part() {
        return Ok(true);
    }
    queries::is_about_only(connection, request, |directory, identity| sight.holds(connection, directory, identity))
}

/// A task as somebody sees it: why it was refused names nothing outside of the part.
pub(super) fn seen(sight: &Sight, mut task: Task) -> Task {
    if sight.is_part() && task.error_in_part.is_some() {
        task.error = task.error_in_part.take();
    }
    task
}

pub(super) fn find_request(connection: &Connection, sight: &Sight, id: i64) -> Result<Option<Request>> {
    match queries::find_request(connection, sight.account(), id)? {
        Some(request) if is_seen(connection, sight, id)? => Ok(Some(request)),
        _ => Ok(None),
    }
}

pub(super) fn find_task(connection: &Connection, sight: &Sight, id: i64) -> Result<Option<Task>> {
    match queries::find_task(connection, sight.account(), id)? {
        Some(task) if sight.holds(connection, task.directory_id, task.identity_id)? => Ok(Some(seen(sight, task))),
        _ => Ok(None),
    }
}

/// Requests, newest first, before a number; of one state if one is named.
pub(super) fn list_requests(
    connection: &Connection,
    sight: &Sight,
    state: Option<RequestState>,
    mut before: i64,
    limit: usize,
) -> Result<Vec<Request>> {
    let mut seen = Vec::new();
    loop {
        let found = queries::list_requests(connection, sight.account(), state, before, limit)?;
        let has_more = found.len() == limit;
        before = found.last().map_or(before, |request| request.id);
        for request in found {
            if is_seen(connection, sight, request.id)? {
                seen.push(request);
            }
            if seen.len() == limit {
                return Ok(seen);
            }
        }
        if !has_more {
            return Ok(seen);
        }
    }
}

/// Tasks, newest first, before a number.
pub(super) fn list_tasks(
    connection: &Connection,
    sight: &Sight,
    filter: TaskFilter,
    mut before: i64,
    limit: usize,
) -> Result<Vec<Task>> {
    let mut found = Vec::new();
    loop {
        let tasks = queries::list_tasks(connection, sight.account(), filter, before, limit)?;
        let has_more = tasks.len() == limit;
        before = tasks.last().map_or(before, |task| task.id);
        for task in tasks {
            if sight.holds(connection, task.directory_id, task.identity_id)? {
                found.push(seen(sight, task));
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
