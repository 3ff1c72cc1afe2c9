//! What the guard and people say of a plan: figures gathered, parked, approved, discarded, superseded.
//!
//! Owns the review columns of `run` and the two verbs of a person over a plan. Invariants: a plan that the guard stopped
//! takes effect only by an approval with a reason, of a person with the permission, and only while the copy and the
//! settings are those it was made with; a directory has one parked plan at most, the newest; what a dropped plan had
//! staged is deleted. A rewind that waits holds the schedule back for a day: nearly every reading of a living directory
//! moves the copy on, and nobody could ever approve one.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{
    guard::{self, Facts, GroupLoss, SettingChange, Tally, Trip},
    model::{Directory, Run, RunState},
    plan::Counts,
    queries,
    run::Runner,
};
use crate::{
    audit::{self, Entry},
    clock::{DAY, Time},
    connectors::{self, Failure},
    error::{Error, Result},
    identities::plans,
    kernel::Kernel,
    principal::{AccountId, Principal, urn},
    secret::{MasterKey, Secret},
};

/// The settings that decide what is read, name (as in the API) to text.
pub type ReadWith = BTreeMap<String, String>;

/// [`ReadWith`] of a directory: of its settings, and who reads.
pub fn read_with(directory: &Directory) -> ReadWith {
    let mut parts = connectors::read_with(directory.kind, &directory.settings);
    parts.insert("credentials.read.bindDn".to_owned(), directory.read_principal.clone());
    parts
}

/// What differs. A setting that only one of the two knows came with an update of the appliance: it is left out.
fn differences(before: &ReadWith, after: &ReadWith) -> Vec<SettingChange> {
    before
        .iter()
        .filter_map(|(setting, before)| {
            let after = after.get(setting).filter(|after| *after != before)?;
            Some(SettingChange { setting: setting.clone(), before: before.clone(), after: after.clone() })
        })
        .collect()
}

/// Who decided about a plan, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// A principal's URN.
    pub by: String,
    pub at: Time,
    pub reason: Option<String>,
}

/// What was said of a plan.
#[derive(Debug, Clone, Default)]
pub struct Review {
    pub trips: Vec<Trip>,
    pub approved: Option<Decision>,
    pub discarded: Option<Decision>,
    pub superseded_by: Option<i64>,
    /// Read with settings that are not stored.
    pub is_preview: bool,
    /// Of a preview: what differs from the last applied run.
    pub settings_changed: Vec<SettingChange>,
}

fn read_review(row: &Row<'_>) -> rusqlite::Result<Review> {
    let trips: Option<String> = row.get(0)?;
    let decision = |by: usize| -> rusqlite::Result<Option<Decision>> {
        let who: Option<String> = row.get(by)?;
        Ok(match (who, row.get(by + 1)?) {
            (Some(by_urn), Some(at)) => Some(Decision { by: by_urn, at, reason: row.get(by + 2)? }),
            _ => None,
        })
    };
    Ok(Review {
        // Trips of a later version may have codes that this one does not know: the sentences are in `reason`.
        trips: trips.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default(),
        approved: decision(1)?,
        discarded: decision(4)?,
        superseded_by: row.get(7)?,
        is_preview: row.get(8)?,
        settings_changed: Vec::new(),
    })
}

/// What was said of a run's plan; nothing for a run that is not there.
pub fn find(connection: &Connection, run: i64) -> Result<Review> {
    let found = connection
        .prepare_cached(
            "SELECT trips, approved_by, approved_at, approval_reason, discarded_by, discarded_at,
                    discard_reason, superseded_by, preview_settings IS NOT NULL
             FROM run WHERE id = ?1",
        )?
        .query_row([run], read_review)
        .optional()?;
    let mut review = found.unwrap_or_default();
    if review.is_preview {
        let sql = "SELECT coalesce((SELECT b.read_with FROM directory d JOIN run b ON b.id = d.applied_run_id WHERE d.id = r.directory_id), '{}'),
                          r.read_with FROM run r WHERE r.id = ?1";
        let (before, after): (String, String) =
            connection.prepare_cached(sql)?.query_row([run], |row| Ok((row.get(0)?, row.get(1)?)))?;
        review.settings_changed = differences(&serde_json::from_str(&before)?, &serde_json::from_str(&after)?);
    }
    Ok(review)
}

/// Notes what a run is read with, before its first page.
pub fn note_read_with(connection: &Connection, run: i64, read_with: &ReadWith) -> Result<()> {
    connection
        .prepare_cached("UPDATE run SET read_with = ?2, preview_credentials = NULL WHERE id = ?1")?
        .execute(params![run, serde_json::to_string(read_with)?])?;
    Ok(())
}

pub(super) fn read_with_of(connection: &Connection, run: i64) -> Result<ReadWith> {
    let json: Option<String> = connection
        .prepare_cached("SELECT read_with FROM run WHERE id = ?1")?
        .query_row([run], |row| row.get(0))
        .optional()?;
    Ok(json.map(|json| serde_json::from_str(&json)).transpose()?.unwrap_or_default())
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// What the connector said at the end of a reading.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Every object was sent or named, so that what is missing is known.
    pub is_full: bool,
    /// Why a delta had to become a full reading.
    pub watermark_lost: Option<String>,
    /// How many objects the directory itself says there are.
    pub counted: Option<i64>,
}

/// The figures that the guard judges a complete plan by, and a hash of its lines where they were read. `directory` is
/// as stored now: its guard says which groups are privileged.
pub fn facts(
    connection: &Connection,
    directory: &Directory,
    run: &Run,
    counts: &Counts,
    told: Told,
) -> Result<(Facts, Option<[u8; 32]>)> {
    let mut facts = Facts {
        is_full: told.is_full,
        was_applied: directory.applied_run_id.is_some(),
        watermark_lost: told.watermark_lost,
        counted: told.counted.map(|counted| (natural(counted), natural(counts.read))),
        ..Facts::default()
    };
    let Some(applied) = directory.applied_run_id else {
        let (has_identities, groups) = plans::found_first(connection, directory.id)?;
        facts.identities.added = u64::from(has_identities);
        facts.groups.added = natural(groups);
        return Ok((facts, None));
    };
    facts.settings_changed = differences(&read_with_of(connection, applied)?, &read_with_of(connection, run.id)?);
    if counts.differences() == 0 {
        // Nothing is lost, so the answer was whole; the figures are of no use and cost a look at every group.
        facts.identities.present = natural(directory.identity_count);
        return Ok((facts, None));
    }
    let privileged = &directory.guard.privileged;
    let stored = (directory.identity_count, directory.group_count);
    let figures = plans::figures(connection, directory.id, run.id, stored, |name| privileged.covers(name))?;
    let tally = |of: plans::ObjectFigures| Tally {
        present: natural(of.present),
        added: natural(of.added),
        changed: natural(of.changed),
        missing: natural(of.missing),
        returned: natural(of.returned),
    };
    facts.identities = tally(figures.identities);
    facts.groups = tally(figures.groups);
    facts.disabled = natural(figures.disabled);
    facts.memberships = natural(figures.memberships);
    facts.memberships_removed = natural(figures.memberships_removed);
    facts.privileged = figures
        .watched
        .into_iter()
        .map(|group| GroupLoss {
            name: group.name,
            of: natural(group.members),
            number: natural(group.lost),
            allowed: 0,
        })
        .collect();
    Ok((facts, Some(figures.digest)))
}

/// Stores what the guard said of a plan that stands as planned. A dry run keeps it as a warning; any other run is parked
/// when there was something, and takes the place of a plan that was parked before, unless it says the same: somebody may
/// be reading that one, and on a schedule of minutes they would never get to its end. Answers the records, and the runs
/// whose plans are to be dropped.
pub fn settle(
    connection: &Connection,
    run: &Run,
    base: Option<i64>,
    digest: Option<[u8; 32]>,
    trips: &[Trip],
    by: &Principal,
    now: Time,
) -> Result<(Vec<Entry>, Vec<i64>)> {
    let json = (!trips.is_empty()).then(|| serde_json::to_string(trips)).transpose()?;
    let is_parked = !trips.is_empty() && !run.is_dry_run;
    connection
        .prepare_cached("UPDATE run SET base_run_id = ?2, trips = ?3, plan_digest = ?4 WHERE id = ?1")?
        .execute(params![run.id, base, json, digest])?;
    if !is_parked {
        return Ok((Vec::new(), Vec::new()));
    }
    if let Some(same) = same_parked(connection, run)? {
        let reason = format!("the same as run {same}, which waits for approval");
        connection
            .prepare_cached(
                "UPDATE run SET state = 'discarded', discarded_by = ?2, discarded_at = ?3, discard_reason = ?4,
                     superseded_by = ?5, finished_at = ?3
                 WHERE id = ?1 AND state = 'planned'",
            )?
            .execute(params![run.id, by.urn(), now, reason, same])?;
        let entry = record("audit.run_discarded.v1", by, run)
            .changes(serde_json::json!({"state": "planned"}), serde_json::json!({"state": "discarded"}))
            .detail("reason", reason);
        return Ok((vec![entry], vec![run.id]));
    }
    let reason = guard::reason(trips);
    let next_step = trips.first().map(Trip::next_step).unwrap_or_default();
    connection
        .prepare_cached(
            "UPDATE run SET state = 'parked', parked_at = ?2, finished_at = ?2, reason = ?3, next_step = ?4
             WHERE id = ?1 AND state = 'planned'",
        )?
        .execute(params![run.id, now, reason, next_step])?;
    let codes: Vec<&str> = trips.iter().map(Trip::code).collect();
    let entry = record("audit.run_parked.v1", by, run).detail("reason", &reason).detail("trips", codes);
    let (mut entries, dropped) = supersede(connection, run, by, now)?;
    entries.insert(0, entry);
    Ok((entries, dropped))
}

/// The parked run whose plan has the same lines, for the same reasons, against the same copy and with the same settings.
fn same_parked(connection: &Connection, run: &Run) -> Result<Option<i64>> {
    Ok(connection
        .prepare_cached(
            "SELECT p.id FROM run p JOIN run r ON r.id = ?2
             WHERE p.directory_id = ?1 AND p.state = 'parked' AND p.plan_digest = r.plan_digest AND p.trips = r.trips
               AND p.base_run_id IS r.base_run_id AND p.read_with = r.read_with",
        )?
        .query_row([run.directory_id, run.id], |row| row.get(0))
        .optional()?)
}

fn record(kind: &'static str, by: &Principal, run: &Run) -> Entry {
    Entry::new(kind)
        .subject(urn("directories", &by.region, Some(run.account_id), "run", run.id))
        .detail("directory", &run.directory_name)
}

/// Discards the plans of the directory that wait for approval while a later one takes their place. Answers the records,
/// and the runs whose plans are to be dropped.
pub fn supersede(connection: &Connection, run: &Run, by: &Principal, now: Time) -> Result<(Vec<Entry>, Vec<i64>)> {
    let reason = format!("superseded by run {}", run.id);
    let mut statement = connection.prepare_cached(
        "UPDATE run SET state = 'discarded', discarded_by = ?3, discarded_at = ?4, discard_reason = ?5, superseded_by = ?2
         WHERE directory_id = ?1 AND state = 'parked' AND id <> ?2 AND (mode <> 'rewind' OR base_run_id IS NOT ?2) RETURNING id",
    )?;
    let rows = statement.query_map(params![run.directory_id, run.id, by.urn(), now, reason], |row| row.get(0))?;
    let ids: Vec<i64> = rows.collect::<rusqlite::Result<_>>()?;
    let entries = ids
        .iter()
        .map(|id| {
            record("audit.run_discarded.v1", by, &Run { id: *id, ..run.clone() })
                .changes(serde_json::json!({"state": "parked"}), serde_json::json!({"state": "discarded"}))
                .detail("reason", &reason)
        })
        .collect();
    Ok((entries, ids))
}

/// Earlier plans of a directory that are not going to be applied and still have something staged, and whether their
/// lines go too. A plan that a person looked at keeps its lines; one that a later plan replaced says the same as that.
pub fn left_over(connection: &Connection, directory: i64, before: i64) -> Result<Vec<(i64, bool)>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, superseded_by IS NOT NULL FROM run
         WHERE directory_id = ?1 AND id < ?2 AND dropped_at IS NULL
           AND (state = 'discarded' OR (state = 'planned' AND is_dry_run = 1))",
    )?;
    let rows = statement.query_map(params![directory, before], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Notes that what a plan had staged is gone.
pub fn set_dropped(connection: &Connection, run: i64, now: Time) -> Result<()> {
    connection.prepare_cached("UPDATE run SET dropped_at = ?2 WHERE id = ?1")?.execute(params![run, now])?;
    Ok(())
}

/// The plan of a directory that waits for approval.
pub fn parked_run(connection: &Connection, directory: &Directory) -> Result<Option<Run>> {
    let id: Option<i64> = connection
        .prepare_cached("SELECT id FROM run WHERE directory_id = ?1 AND state = 'parked' ORDER BY id DESC LIMIT 1")?
        .query_row([directory.id], |row| row.get(0))
        .optional()?;
    match id {
        Some(id) => queries::find_run(connection, directory.account_id, id),
        None => Ok(None),
    }
}

/// How long a rewind that waits for approval holds the schedule back. One that was forgotten must not end the readings.
const REWIND_HOLDS: i64 = DAY;

/// The rewind of a directory that has been waiting for approval for less than a day.
pub fn rewind_in_review(connection: &Connection, directory: i64, now: Time) -> Result<Option<i64>> {
    Ok(connection
        .prepare_cached(
            "SELECT id FROM run WHERE directory_id = ?1 AND state = 'parked' AND mode = 'rewind' AND parked_at > ?2",
        )?
        .query_row(params![directory, now.plus(-REWIND_HOLDS)], |row| row.get(0))
        .optional()?)
}

/// An applied run that found no difference left the copy as a rewind in review knows it.
pub fn keep_rewind(connection: &Connection, directory: i64, applied: i64) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE run SET base_run_id = ?2 WHERE directory_id = ?1 AND state = 'parked' AND mode = 'rewind'",
        )?
        .execute([directory, applied])?;
    Ok(())
}

/// How many plans of an account wait for approval.
pub fn plans_waiting(connection: &Connection, account: AccountId) -> Result<i64> {
    Ok(connection
        .prepare_cached(
            "SELECT count(*) FROM run r JOIN directory d ON d.id = r.directory_id
             WHERE r.account_id = ?1 AND r.state = 'parked' AND d.removed_at IS NULL",
        )?
        .query_row([account], |row| row.get(0))?)
}

/// Why a parked plan is to be applied.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = RunApproval)]
pub struct ApproveInput {
    /// For the record.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
}

/// Why a plan is dropped.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = RunDiscard)]
pub struct DiscardInput {
    /// For the record.
    #[schema(max_length = 500)]
    pub reason: Option<String>,
}

const REASON_CHARS_MAX: usize = 500;

fn checked(reason: Option<&str>, is_required: bool) -> Result<Option<String>> {
    let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
    let length = reason.map_or(0, |reason| reason.chars().count());
    if (is_required && length == 0) || length > REASON_CHARS_MAX {
        return Err(Error::field("reason", format!("Give a reason of 1 to {REASON_CHARS_MAX} characters.")));
    }
    Ok(reason.map(str::to_owned))
}

/// Refuses what can no longer be decided: the plan is not waiting, or what it was made with is not what is there.
fn check_unmoved(connection: &Connection, run: &Run) -> Result<()> {
    if run.state != RunState::Parked {
        return Err(Error::Conflict(format!(
            "This plan does not wait for approval: the run is {}.",
            run.state.as_str()
        )));
    }
    let directory = queries::find(connection, run.account_id, run.directory_id)?;
    let directory = directory.ok_or(Error::NotFound("This directory"))?;
    let base: Option<i64> =
        connection.query_row("SELECT base_run_id FROM run WHERE id = ?1", [run.id], |row| row.get(0))?;
    if base != directory.applied_run_id {
        return Err(Error::Conflict(
            "The copy has moved on since this plan was made: another run was applied. Discard it and read again."
                .into(),
        ));
    }
    // Nothing of a rewind came from the directory, whatever its settings are.
    let changed = match run.rewind_to {
        Some(_) => Vec::new(),
        None => differences(&read_with_of(connection, run.id)?, &read_with(&directory)),
    };
    if !changed.is_empty() {
        let names: Vec<&str> = changed.iter().map(|change| change.setting.as_str()).collect();
        return Err(Error::Conflict(format!(
            "The settings of the directory were changed since this plan was made ({}). Discard it and read again.",
            names.join(", ")
        )));
    }
    if queries::has_active_run(connection, run.directory_id)? {
        return Err(Error::Conflict(
            "A run of this directory is going on. Wait until it has ended: it may take the place of this plan.".into(),
        ));
    }
    Ok(())
}

/// Lets a parked plan take effect: that plan, and only while the copy and the settings are those it was made with.
pub async fn approve(
    kernel: &Kernel,
    principal: &Principal,
    runner: &Runner,
    id: i64,
    input: ApproveInput,
) -> Result<Run> {
    let account = principal.account()?;
    let reason = checked(Some(&input.reason), true)?;
    let (kernel, principal, runner) = (kernel.clone(), principal.clone(), runner.clone());
    // In a task of its own: when the asker goes away, an approval that was stored is carried out all the same.
    let approved = tokio::spawn(async move {
        let (now, who, board) = (kernel.clock.now(), principal.clone(), runner.board.clone());
        let stored = audit::change(&kernel, &principal, move |c| {
            let run = queries::find_run(c, account, id)?.ok_or(Error::NotFound("This run"))?;
            check_unmoved(c, &run)?;
            c.prepare_cached(
                "UPDATE run SET state = 'planned', finished_at = NULL, approved_by = ?2, approved_at = ?3, approval_reason = ?4
                 WHERE id = ?1 AND state = 'parked'",
            )?
            .execute(params![id, who.urn(), now, reason])?;
            let entry = record("audit.run_approved.v1", &who, &run)
                .changes(serde_json::json!({"state": "parked"}), serde_json::json!({"state": "applying"}))
                .detail("reason", reason)
                .detail("parkedBecause", &run.reason)
                .detail("counts", super::model::CountsJson::from(run.counts));
            let run = queries::find_run(c, account, id)?.ok_or(Error::NotFound("This run"))?;
            // Before anybody can see the row: from then on it is carried. The one that parked it may not be gone yet.
            board.open_again(id);
            Ok((run, vec![entry]))
        })
        .await;
        match stored {
            Ok(run) => {
                runner.approve(run.clone());
                Ok(run)
            }
            Err(error) => {
                // A run that waits is on nobody's board.
                if !matches!(error, Error::Conflict(_) | Error::NotFound(_)) {
                    runner.board.close(id);
                }
                Err(error)
            }
        }
    });
    approved.await.map_err(|e| Error::caused("an approval ended early", e))?
}

/// The hash of a plan that a person approved and that has not begun to take effect; `None` where there is nothing to
/// compare: no person had to, or the plan is a directory's first.
pub fn approved_digest(connection: &Connection, run: i64) -> Result<Option<[u8; 32]>> {
    Ok(connection
        .prepare_cached(
            "SELECT plan_digest FROM run
             WHERE id = ?1 AND state = 'planned' AND approved_at IS NOT NULL AND plan_digest IS NOT NULL AND mode <> 'rewind'",
        )?
        .query_row([run], |row| row.get(0))
        .optional()?)
}

/// The directory could not be read to see whether an approved plan is still true: it goes on waiting, unapproved.
pub fn wait_again(connection: &Connection, run: i64, failure: &Failure, now: Time) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE run SET state = 'parked', finished_at = ?2, approved_by = NULL, approved_at = NULL,
                 approval_reason = NULL, next_step = ?3
             WHERE id = ?1 AND state = 'planned'",
        )?
        .execute(params![
            run,
            now,
            format!(
                "It was approved, but the directory could not be read to see whether the plan still is what it says. {} {} Then approve again.",
                failure.message, failure.next_step
            )
        ])?;
    Ok(())
}

/// The directory says something else than when an approved plan was made: the plan is not applied.
pub fn move_on(connection: &Connection, run: &Run, by: &Principal, now: Time) -> Result<Entry> {
    const REASON: &str = "The directory has moved on since this plan was made. It is read again by a new run.";
    connection
        .prepare_cached(
            "UPDATE run SET state = 'discarded', finished_at = ?3, discarded_by = ?2, discarded_at = ?3, discard_reason = ?4
             WHERE id = ?1 AND state = 'planned'",
        )?
        .execute(params![run.id, by.urn(), now, REASON])?;
    Ok(record("audit.run_discarded.v1", by, run)
        .changes(serde_json::json!({"state": "planned"}), serde_json::json!({"state": "discarded"}))
        .detail("reason", REASON))
}

/// Drops a parked plan, or what a dry run found.
pub async fn discard(
    kernel: &Kernel,
    principal: &Principal,
    runner: &Runner,
    id: i64,
    input: DiscardInput,
) -> Result<Run> {
    let account = principal.account()?;
    let reason = checked(input.reason.as_deref(), false)?;
    let (now, who) = (kernel.clock.now(), principal.clone());
    let run = audit::change(kernel, principal, move |c| {
        let run = queries::find_run(c, account, id)?.ok_or(Error::NotFound("This run"))?;
        let is_waiting = run.state == RunState::Parked || (run.state == RunState::Planned && run.is_dry_run);
        if !is_waiting {
            return Err(Error::Conflict(format!("There is no plan to discard: the run is {}.", run.state.as_str())));
        }
        c.prepare_cached(
            "UPDATE run SET state = 'discarded', discarded_by = ?2, discarded_at = ?3, discard_reason = ?4 WHERE id = ?1",
        )?
        .execute(params![id, who.urn(), now, reason])?;
        let entry = record("audit.run_discarded.v1", &who, &run)
            .changes(serde_json::json!({"state": run.state}), serde_json::json!({"state": "discarded"}))
            .detail("reason", reason)
            .detail("counts", super::model::CountsJson::from(run.counts));
        let run = queries::find_run(c, account, id)?.ok_or(Error::NotFound("This run"))?;
        Ok((run, vec![entry]))
    })
    .await?;
    runner.drop_later(id);
    Ok(run)
}

/// Settings that are not stored, as a run is to be read with them.
#[derive(Debug, Clone)]
pub struct Preview {
    pub settings: serde_json::Value,
    pub read_principal: String,
    pub credentials: Secret<String>,
}

fn preview_place(run: i64) -> String {
    format!("run:preview_credentials:{run}")
}

/// Keeps what a preview is read with, until it is.
pub fn store_preview(connection: &Connection, key: &MasterKey, run: i64, preview: &Preview) -> Result<()> {
    let sealed = key.seal(&preview_place(run), preview.credentials.expose().as_bytes());
    connection
        .prepare_cached(
            "UPDATE run SET preview_settings = ?2, preview_principal = ?3, preview_credentials = ?4 WHERE id = ?1",
        )?
        .execute(params![run, preview.settings.to_string(), preview.read_principal, sealed])?;
    Ok(())
}

/// What a preview is to be read with; `None` for every other run.
pub fn find_preview(connection: &Connection, key: &MasterKey, run: i64) -> Result<Option<Preview>> {
    let found = connection
        .prepare_cached("SELECT preview_settings, preview_principal, preview_credentials FROM run WHERE id = ?1")?
        .query_row([run], |row| {
            let settings: Option<String> = row.get(0)?;
            let sealed: Option<Vec<u8>> = row.get(2)?;
            Ok((settings, row.get::<_, Option<String>>(1)?, sealed.unwrap_or_default()))
        })
        .optional()?;
    let Some((Some(settings), principal, sealed)) = found else { return Ok(None) };
    let opened = key
        .open(&preview_place(run), &sealed)
        .map_err(|e| Error::caused("the credentials of a preview do not open", e))?;
    let credentials = String::from_utf8(opened.expose().clone())
        .map_err(|_| Error::internal("the credentials of a preview are not text"))?;
    Ok(Some(Preview {
        settings: serde_json::from_str(&settings)?,
        read_principal: principal.unwrap_or_default(),
        credentials: Secret::new(credentials),
    }))
}

/// One reason of the guard in the API.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Trip)]
pub struct TripJson {
    /// `over-limit privileged-groups empty-answer short-answer nothing-found settings-changed watermark-lost
    /// count-disagrees rewind`.
    pub code: String,
    pub title: String,
    /// What was seen, with its figures, as a sentence.
    pub explanation: String,
    pub next_step: String,
    /// The figures by name; which ones depends on the code.
    #[schema(value_type = Object)]
    pub figures: serde_json::Value,
}

impl TripJson {
    pub fn new(trip: &Trip) -> Self {
        let mut figures = serde_json::to_value(trip).unwrap_or_default();
        if let Some(fields) = figures.as_object_mut() {
            fields.remove("code");
        }
        Self {
            code: trip.code().to_owned(),
            title: trip.title(),
            explanation: trip.explanation(),
            next_step: trip.next_step().to_owned(),
            figures,
        }
    }
}

/// Who decided about a plan, in the API.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Decision)]
pub struct DecisionJson {
    /// URN of a user, a key, or the scheduler.
    pub by: String,
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<Decision> for DecisionJson {
    fn from(decision: Decision) -> Self {
        Self { by: decision.by, at: decision.at, reason: decision.reason }
    }
}
