//! What can be done with requests: one function per verb, the same for page and API.
//!
//! A request is one record in the log with the list of everybody it is about; what became of each task is the record of
//! its end. Nothing here talks to a directory: that is the [`dispatcher`](super::dispatcher)'s work.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{
    dispatcher::Dispatcher,
    model::{Asked, Decision, IDENTITIES_MAX, Request, RequestState, Task, TaskInput, TaskState, check_reason},
    never::{Never, Protection, ProtectionKind, Refusal},
    queries::{self, NewTask},
    rule::{self, Rule, RuleInput},
    rules_queries, sight,
};
use crate::{
    audit::{self, Entry, Outcome},
    clock::{DAY, MINUTE, Time},
    connectors::ldap::dn,
    directories,
    error::{Error, Result},
    identities::{self, IdentityRow, Sight},
    kernel::Kernel,
    principal::{AccountId, Level, Permission, Principal, Service, urn},
};

/// How long a task is tried before it counts as timed out.
const TRY_US: i64 = 15 * MINUTE;
/// The same for the end of a time box: nobody is there to ask again.
const TRY_TO_END_US: i64 = 7 * DAY;

pub(super) fn subject(region: &str, account: AccountId, request: i64) -> String {
    urn("enforcement", region, Some(account), "request", request)
}

/// One identity of a request, for the log.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    identity_id: String,
    directory_id: String,
    name: &'a str,
    user_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
}

/// Whom a request is about, for the log.
fn listed(tasks: &[Task]) -> Vec<Listed<'_>> {
    let line = |task| {
        let Task { identity_id, directory_id, name, user_name, state, error, .. }: &Task = task;
        Listed {
            identity_id: identity_id.to_string(),
            directory_id: directory_id.to_string(),
            name,
            user_name,
            refused: error.as_deref().filter(|_| *state == TaskState::Refused),
        }
    };
    tasks.iter().map(line).collect()
}

/// A request that was just written, with its tasks.
pub type Made = (Request, Vec<Task>);

/// Where a new request comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    Asked,
    /// It takes this request back, because somebody says so.
    UndoOf(i64),
    /// The same, because its time is over.
    EndOf(i64),
}

/// An identity that is to be acted on.
struct Target {
    identity: i64,
    /// The task that is taken back, if one is.
    inverse_of: Option<i64>,
}

/// A target, looked up and judged.
pub(super) struct Weighed {
    pub row: IdentityRow,
    inverse_of: Option<i64>,
    pub refused: Option<Refusal>,
}

/// What a request will be. Found out before it is written: looking at a thousand identities takes longer than the writer
/// may be held. What changes in between is noticed before anything is sent.
pub(super) struct Draft {
    asked: Asked,
    origin: Origin,
    pub targets: Vec<Weighed>,
    pub waits_for: Option<String>,
}

/// The draft of a request by somebody; also what the page shows before it is asked for.
pub(super) fn weigh(c: &Connection, who: &Principal, sight: &Sight, asked: Asked, now: Time) -> Result<Draft> {
    let targets = asked.identities.iter().map(|id| Target { identity: *id, inverse_of: None }).collect();
    draft(c, who, sight, asked, targets, Origin::Asked, now)
}

fn draft(
    c: &Connection,
    who: &Principal,
    sight: &Sight,
    asked: Asked,
    targets: Vec<Target>,
    origin: Origin,
    now: Time,
) -> Result<Draft> {
    let account = who.account()?;
    let mut never = Never::read(c, account)?;
    let mut weighed = Vec::with_capacity(targets.len());
    for (at, target) in targets.into_iter().enumerate() {
        let row = identities::queries::find_identity(c, sight, target.identity)?
            .ok_or_else(|| Error::field(format!("identities[{at}]"), "There is no identity with this id."))?;
        let refused = never.refusal(&row, None, asked.action, 0)?;
        weighed.push(Weighed { row, inverse_of: target.inverse_of, refused });
    }
    // That a time box ends was decided on when it began; anything that a person asks for is weighed.
    let waits_for = match origin {
        Origin::Asked | Origin::UndoOf(_) => {
            rule::waits_for(c, account, &who.person, weighed.iter().map(|target| &target.row), now)?
        }
        Origin::EndOf(_) => None,
    };
    Ok(Draft { asked, origin, targets: weighed, waits_for })
}

/// Whoever acts on somebody privileged has proved lately that it is them.
fn check_proof(c: &Connection, who: &Principal, draft: Draft, now: Time) -> Result<Draft> {
    if who.has_proved_lately(now) {
        return Ok(draft);
    }
    let acted_on = draft.targets.iter().filter(|target| target.refused.is_none());
    let ids: Vec<i64> = acted_on.map(|target| target.row.id).collect();
    if identities::which_are_privileged(c, &ids)?.is_empty() { Ok(draft) } else { Err(Error::ProofTooOld) }
}

/// Asks for an action. Identities that must not be acted on are refused one by one; the others go on.
pub async fn create(kernel: &Kernel, principal: &Principal, dispatcher: &Dispatcher, input: TaskInput) -> Result<Made> {
    let asked = input.check()?;
    if asked.break_glass && !principal.allows(Permission::Needs(Service::Enforcement, Level::Full)) {
        let entry = Entry::new("audit.enforcement_break_glass_used.v1").detail("reason", &asked.reason);
        let why = "Going on without a second person needs the level full of enforcement.";
        return Err(denied(kernel, principal, entry, why).await?);
    }
    let (asker, now) = (principal.clone(), kernel.clock.now());
    let sight = identities::sight(kernel, principal).await?;
    let seen = sight.clone();
    let draft = kernel.db.read(move |c| check_proof(c, &asker, weigh(c, &asker, &seen, asked, now)?, now)).await?;
    make(kernel, principal, dispatcher, &sight, draft, now).await
}

/// Writes what was drafted, and lets it begin.
async fn make(
    kernel: &Kernel,
    principal: &Principal,
    dispatcher: &Dispatcher,
    sight: &Sight,
    draft: Draft,
    now: Time,
) -> Result<Made> {
    let who = principal.clone();
    let (request, tasks) = audit::change(kernel, principal, move |c| write(c, &who, draft, now)).await?;
    dispatcher.wake();
    // The record says why in full; the answer names nothing outside of their part.
    Ok((request, tasks.into_iter().map(|task| sight::seen(sight, task)).collect()))
}

/// Puts on the record that somebody was refused; answers the refusal.
async fn denied(kernel: &Kernel, principal: &Principal, entry: Entry, why: &str) -> Result<Error> {
    audit::record(kernel, principal, vec![entry.outcome(Outcome::Denied).detail("why", why)]).await?;
    Ok(Error::Forbidden(why.to_owned()))
}

/// Writes a request and its tasks; answers them and what goes on the record.
pub(super) fn write(c: &Connection, who: &Principal, draft: Draft, now: Time) -> Result<(Made, Vec<Entry>)> {
    let account = who.account()?;
    let Draft { asked, origin, targets, waits_for } = draft;
    let is_overridden = waits_for.is_some() && asked.break_glass;
    let waits = waits_for.is_some() && !is_overridden;
    let mut request = Request {
        id: 0,
        account_id: account,
        action: asked.action,
        reason: asked.reason.clone(),
        requested_by: who.urn(),
        requester: who.person.clone(),
        requested_at: now,
        state: if waits { RequestState::AwaitingApproval } else { RequestState::Running },
        waits_for,
        expires_at: waits.then(|| now.plus(rule::APPROVAL_US)),
        decision: None,
        undo_at: asked.lasts_us.map(|us| now.plus(us)),
        undo_ended_at: None,
        undone_by: None,
        undo_of: match origin {
            Origin::Asked => None,
            Origin::UndoOf(id) | Origin::EndOf(id) => Some(id),
        },
        finished_at: None,
        counts: Default::default(),
    };
    request.id = queries::insert_request(c, &request)?;
    if is_overridden {
        let decision = Decision { decision: "overridden".into(), by: who.urn(), at: now, reason: asked.reason.clone() };
        queries::set_decision(c, request.id, &decision)?;
    }
    let give_up_at = now.plus(if matches!(origin, Origin::EndOf(_)) { TRY_TO_END_US } else { TRY_US });
    for Weighed { row, inverse_of, refused } in targets {
        let refused = match queries::open_task(c, row.id, asked.action)? {
            Some(other) => Some(Refusal::of(format!("Task {other} is doing this already."))),
            None if !still_stands(c, account, inverse_of)? => Some(Refusal::of("It was changed since.")),
            None => refused,
        };
        let state = match (&refused, waits) {
            (Some(_), _) => TaskState::Refused,
            (None, true) => TaskState::AwaitingApproval,
            (None, false) => TaskState::Queued,
        };
        let task = NewTask { identity: &row, state, refused: refused.as_ref(), give_up_at, inverse_of };
        queries::insert_task(c, &request, &task)?;
    }
    if let Origin::EndOf(id) = origin {
        queries::end_time_box(c, id, now)?;
    }
    let ended = queries::finish_if_over(c, request.id, now)?;
    let request = queries::find_request(c, account, request.id)?.ok_or(Error::NotFound("This request"))?;
    let tasks = queries::tasks_of(c, request.id)?;
    let is_all_refused = request.counts.refused == request.counts.total();
    let mut entry = Entry::new("audit.enforcement_requested.v1")
        .subject(subject(&who.region, account, request.id))
        .outcome(if is_all_refused { Outcome::Denied } else { Outcome::Success })
        .detail("action", request.action)
        .detail("reason", &request.reason)
        .detail("identities", listed(&tasks));
    if let Some(why) = &request.waits_for {
        entry = entry.detail("waitsFor", why);
    }
    if let Some(at) = request.undo_at {
        entry = entry.detail("undoAt", at);
    }
    if let Some(of) = request.undo_of {
        entry = entry.detail("undoOf", of.to_string());
    }
    let mut entries = vec![entry];
    if is_overridden {
        entries.push(
            Entry::new("audit.enforcement_break_glass_used.v1")
                .subject(subject(&who.region, account, request.id))
                .detail("reason", &request.reason)
                .detail("waitsFor", &request.waits_for),
        );
    }
    if ended.is_some() {
        entries.push(finished(&who.region, &request, &tasks));
    }
    Ok(((request, tasks), entries))
}

/// Whether the task that is to be taken back, if one is, still can be.
fn still_stands(c: &Connection, account: AccountId, inverse_of: Option<i64>) -> Result<bool> {
    let Some(id) = inverse_of else { return Ok(true) };
    match queries::find_task(c, account, id)? {
        Some(task) => Ok(task.inverse().is_some() && queries::later_rival(c, &task)?.is_none()),
        None => Ok(false),
    }
}

/// What became of a task, for the log.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ended<'a> {
    task_id: String,
    identity_id: String,
    user_name: &'a str,
    state: TaskState,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Ended<'a> {
    fn new(task: &'a Task) -> Self {
        Self {
            task_id: task.id.to_string(),
            identity_id: task.identity_id.to_string(),
            user_name: &task.user_name,
            state: task.state,
            error: task.error.as_deref(),
            server: task.after.as_ref().map(|after| after.server.as_str()),
            before: task.before.as_ref().map(|before| &before.values),
            after: task.after.as_ref().map(|after| &after.values),
        }
    }
}

/// The record of a request's end: what became of each task.
pub(super) fn finished(region: &str, request: &Request, tasks: &[Task]) -> Entry {
    let lines: Vec<Ended<'_>> = tasks.iter().map(Ended::new).collect();
    Entry::new("audit.enforcement_finished.v1")
        .subject(subject(region, request.account_id, request.id))
        .outcome(match request.state {
            RequestState::Successful | RequestState::Cancelled => Outcome::Success,
            _ => Outcome::Failure,
        })
        .detail("action", request.action)
        .detail("state", request.state)
        .detail("tasks", lines)
}

/// Ends a request if all of its tasks have; answers the record of that.
pub(super) fn end_if_over(
    c: &Connection,
    region: &str,
    account: AccountId,
    request: i64,
    now: Time,
) -> Result<Option<Entry>> {
    if queries::finish_if_over(c, request, now)?.is_none() {
        return Ok(None);
    }
    let found = queries::find_request(c, account, request)?.ok_or(Error::NotFound("This request"))?;
    Ok(Some(finished(region, &found, &queries::tasks_of(c, request)?)))
}

/// A decision's reason, in the API and the form.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TaskRequestReason)]
pub struct ReasonInput {
    /// For the record.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}

/// Approves or declines a request that waits for a second person.
pub async fn decide(
    kernel: &Kernel,
    principal: &Principal,
    dispatcher: &Dispatcher,
    id: i64,
    is_approved: bool,
    input: ReasonInput,
) -> Result<Request> {
    let account = principal.account()?;
    let reason = check_reason(&input.reason)?;
    let (word, kind) = match is_approved {
        true => ("approved", "audit.enforcement_approved.v1"),
        false => ("declined", "audit.enforcement_declined.v1"),
    };
    let subject = subject(&principal.region, account, id);
    let entry = Entry::new(kind).subject(subject).detail("reason", &reason);
    let (who, now) = (principal.clone(), kernel.clock.now());
    let asked = kernel.db.read(move |c| queries::find_request(c, account, id)).await?;
    if !rule::is_other(principal, &asked.ok_or(Error::NotFound("This request"))?) {
        return Err(denied(kernel, principal, entry, rule::NOT_OTHER).await?);
    }
    let request = audit::change(kernel, principal, move |c| {
        let request = queries::find_request(c, account, id)?.ok_or(Error::NotFound("This request"))?;
        if request.state != RequestState::AwaitingApproval {
            return Err(Error::Conflict("This request does not wait for approval any more.".into()));
        }
        if request.expires_at.is_some_and(|at| at <= now) {
            return Err(Error::Conflict("This request was not approved in time. Ask for it again.".into()));
        }
        queries::set_decision(c, id, &Decision { decision: word.into(), by: who.urn(), at: now, reason })?;
        let mut entries = vec![entry];
        if is_approved {
            // The time box is as long as it was asked for, however long the approval took.
            let undo_at = request.undo_at.map(|at| now.plus(at.since(request.requested_at)));
            queries::release(c, id, now, now.plus(TRY_US), undo_at)?;
        } else {
            queries::cancel_unsent(c, id, "The request was declined.", now)?;
            entries.extend(end_if_over(c, &who.region, account, id, now)?);
        }
        let request = queries::find_request(c, account, id)?.ok_or(Error::NotFound("This request"))?;
        Ok((request, entries))
    })
    .await?;
    dispatcher.wake();
    Ok(request)
}

/// Calls off what of a request has not been sent.
pub async fn cancel(kernel: &Kernel, principal: &Principal, id: i64) -> Result<Request> {
    let account = principal.account()?;
    let (who, now) = (principal.clone(), kernel.clock.now());
    let sight = identities::sight(kernel, principal).await?;
    audit::change(kernel, principal, move |c| {
        let request = sight::find_request(c, &sight, id)?.ok_or(Error::NotFound("This request"))?;
        let cancelled = queries::cancel_unsent(c, id, "It was called off before it was sent.", now)?;
        if cancelled == 0 {
            return Err(Error::Conflict(match request.counts.open() {
                0 => "This request is over. What it did can be taken back.".into(),
                _ => "Everything of this request has been sent already.".to_owned(),
            }));
        }
        let mut entries = vec![
            Entry::new("audit.enforcement_cancelled.v1")
                .subject(subject(&who.region, account, id))
                .detail("tasks", cancelled),
        ];
        entries.extend(end_if_over(c, &who.region, account, id, now)?);
        let request = queries::find_request(c, account, id)?.ok_or(Error::NotFound("This request"))?;
        Ok((request, entries))
    })
    .await
}

/// Takes back what a request did and nobody has changed since: a new request. `task` narrows it to one.
pub async fn undo(
    kernel: &Kernel,
    principal: &Principal,
    dispatcher: &Dispatcher,
    id: i64,
    task: Option<i64>,
    input: ReasonInput,
) -> Result<Made> {
    let reason = check_reason(&input.reason)?;
    let (asker, now) = (principal.clone(), kernel.clock.now());
    let sight = identities::sight(kernel, principal).await?;
    let seen = sight.clone();
    let draft = kernel
        .db
        .read(move |c| {
            let request = match task {
                // One task is theirs to take back, whomever else its request is about.
                Some(task) => match sight::find_task(c, &seen, task)? {
                    Some(_) => queries::find_request(c, seen.account(), id)?,
                    None => None,
                },
                None => sight::find_request(c, &seen, id)?,
            };
            let request = request.ok_or(Error::NotFound("This request"))?;
            if request.counts.open() > 0 {
                return Err(Error::Conflict(
                    "This request is still going on. Call off what is not sent, or wait until it has ended.".into(),
                ));
            }
            let draft = take_back(c, &asker, &request, task, reason, Origin::UndoOf(id), now)?;
            draft.map(|draft| check_proof(c, &asker, draft, now)).transpose()
        })
        .await?;
    let draft = draft.ok_or_else(|| {
        Error::Conflict(
            "Nothing of this can be taken back: it was not done, was so already, or was changed since.".into(),
        )
    })?;
    make(kernel, principal, dispatcher, &sight, draft, now).await
}

/// The request that takes another one back, all of it or one task; `None` when nothing of it can be.
pub(super) fn take_back(
    c: &Connection,
    who: &Principal,
    request: &Request,
    only: Option<i64>,
    reason: String,
    origin: Origin,
    now: Time,
) -> Result<Option<Draft>> {
    let Some(action) = request.action.inverse() else { return Ok(None) };
    let targets: Vec<Target> = queries::undoable(c, request, only, IDENTITIES_MAX)?
        .into_iter()
        .map(|task| Target { identity: task.identity_id, inverse_of: Some(task.id) })
        .collect();
    if targets.is_empty() {
        return Ok(None);
    }
    let asked = Asked {
        action,
        identities: targets.iter().map(|target| target.identity).collect(),
        reason,
        lasts_us: None,
        break_glass: false,
    };
    // Whoever may take it back sees whom it is about.
    draft(c, who, &Sight::whole(request.account_id), asked, targets, origin, now).map(Some)
}

/// A line for the protected list.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = ProtectionCreate)]
pub struct ProtectionInput {
    pub kind: ProtectionKind,
    /// Of an identity or a group: its id.
    #[serde(default)]
    pub object_id: Option<String>,
    /// Of a unit: the directory's id and the DN.
    #[serde(default)]
    pub directory_id: Option<String>,
    #[serde(default)]
    pub dn: Option<String>,
    /// Why, for whoever is refused because of it; may be empty.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub note: String,
}

const NOTE_MAX: usize = 200;

/// Puts somebody on the protected list.
pub async fn protect(kernel: &Kernel, principal: &Principal, input: ProtectionInput) -> Result<Protection> {
    let account = principal.account()?;
    let note = input.note.trim().to_owned();
    if note.chars().count() > NOTE_MAX {
        return Err(Error::field("note", format!("A note may have {NOTE_MAX} characters at most.")));
    }
    let (who, now) = (principal.clone(), kernel.clock.now());
    audit::change(kernel, principal, move |c| {
        let number = |field: &str, text: &Option<String>| -> Result<i64> {
            let wrong = || Error::field(field, "Give an id.");
            text.as_deref().and_then(|text| text.trim().parse().ok()).ok_or_else(wrong)
        };
        let none = || Error::field("objectId", "There is nothing with this id.");
        let (directory_id, object_id, normal, name) = match input.kind {
            ProtectionKind::Identity => {
                let id = number("objectId", &input.object_id)?;
                let row = identities::queries::find_identity(c, &Sight::whole(account), id)?.ok_or_else(none)?;
                (row.directory_id, Some(id), None, row.name().to_owned())
            }
            ProtectionKind::Group => {
                let id = number("objectId", &input.object_id)?;
                let row = identities::queries::find_group(c, &Sight::whole(account), id)?.ok_or_else(none)?;
                (row.directory_id, Some(id), None, row.name)
            }
            ProtectionKind::Unit => {
                let id = number("directoryId", &input.directory_id)?;
                directories::find(c, account, id)?
                    .ok_or_else(|| Error::field("directoryId", "There is no directory with this id."))?;
                let written = input.dn.unwrap_or_default().trim().to_owned();
                let wrong =
                    |_| Error::field("dn", "Write a DN as the directory does, such as OU=Services,DC=example,DC=com.");
                let normal = dn::normalise(&written).map_err(wrong)?;
                if normal.is_empty() {
                    return Err(Error::field("dn", "Enter a DN."));
                }
                (id, None, Some(normal), written)
            }
        };
        let entry = Protection {
            id: 0,
            kind: input.kind,
            directory_id,
            object_id,
            dn: normal,
            name,
            note,
            created_by: who.urn(),
            created_at: now,
        };
        if !rules_queries::insert_protection(c, account, &entry)? {
            return Err(Error::Conflict("This is on the protected list already.".into()));
        }
        let added = Protection { id: c.last_insert_rowid(), ..entry };
        let record = Entry::new("audit.protection_added.v1")
            .subject(urn("enforcement", &who.region, Some(account), "protection", added.id))
            .detail("kind", added.kind)
            .detail("name", &added.name)
            .detail("note", &added.note);
        Ok((added, vec![record]))
    })
    .await
}

/// Takes a line off the protected list.
pub async fn unprotect(kernel: &Kernel, principal: &Principal, id: i64) -> Result<()> {
    let account = principal.account()?;
    let (who, now) = (principal.clone(), kernel.clock.now());
    audit::change(kernel, principal, move |c| {
        let found = rules_queries::protections(c, account)?.into_iter().find(|entry| entry.id == id);
        let entry = found.ok_or(Error::NotFound("This line of the protected list"))?;
        rules_queries::remove_protection(c, account, id, &who.urn(), now)?;
        let record = Entry::new("audit.protection_removed.v1")
            .subject(urn("enforcement", &who.region, Some(account), "protection", id))
            .detail("kind", entry.kind)
            .detail("name", &entry.name)
            .detail("note", &entry.note);
        Ok(((), vec![record]))
    })
    .await
}

/// Sets the two-person rule.
pub async fn set_rule(kernel: &Kernel, principal: &Principal, input: RuleInput) -> Result<Rule> {
    let account = principal.account()?;
    let (who, now) = (principal.clone(), kernel.clock.now());
    audit::change(kernel, principal, move |c| {
        let before = rules_queries::rule(c, account)?;
        let rule = input.onto(before).check()?;
        if before == rule {
            return Ok((rule, Vec::new()));
        }
        let by = who.urn();
        rules_queries::set_rule(c, account, rule, rule.is_looser_than(before).then_some(by.as_str()), now)?;
        let record = Entry::new("audit.two_person_rule_updated.v1")
            .subject(urn("enforcement", &who.region, Some(account), "two-person-rule", account))
            .changes(before, rule);
        Ok((rule, vec![record]))
    })
    .await
}
