//! All SQL of the directories room.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    credentials::Purpose,
    live::Wanted,
    model::{Directory, QuarantineJson, Run, RunState},
    plan::{Counts, Quarantined},
};
use crate::{
    clock::Time,
    connectors::{Failure, Kind},
    error::Result,
    principal::AccountId,
    schedule,
};

/// The jobs under which runs are scheduled.
pub(super) const FULL_JOB: &str = "directory-full";
pub(super) const DELTA_JOB: &str = "directory-delta";

/// What [`read_directory`] reads; a macro, so that each statement is one literal.
macro_rules! columns {
    () => {
        "id, account_id, kind, name, settings, read_principal, schedule, guard, applied_run_id, applied_at,
     identity_count, group_count, created_at, updated_at, act_principal"
    };
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    let text: String = row.get(index)?;
    serde_json::from_str(&text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, e.into()))
}

fn read_directory(row: &Row<'_>) -> rusqlite::Result<Directory> {
    let kind: String = row.get(2)?;
    Ok(Directory {
        id: row.get(0)?,
        account_id: row.get(1)?,
        kind: serde_json::from_value::<Kind>(serde_json::Value::String(kind))
            .map_err(|e| rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, e.into()))?,
        name: row.get(3)?,
        settings: json(row, 4)?,
        read_principal: row.get(5)?,
        act_principal: row.get(14)?,
        schedule: json(row, 6)?,
        guard: json(row, 7)?,
        applied_run_id: row.get(8)?,
        applied_at: row.get(9)?,
        identity_count: row.get(10)?,
        group_count: row.get(11)?,
        created_at: row.get(12)?,
        updated_at: row.get(13)?,
        next_run_at: None,
    })
}

fn with_next_run(connection: &Connection, mut directory: Directory) -> Result<Directory> {
    let subject = directory.id.to_string();
    for job in [FULL_JOB, DELTA_JOB] {
        let next = schedule::find(connection, job, &subject)?.and_then(|entry| entry.next_at);
        directory.next_run_at = [directory.next_run_at, next].into_iter().flatten().min();
    }
    Ok(directory)
}

/// Up to `limit` directories of an account by name, after a name.
pub(super) fn list(connection: &Connection, account: AccountId, after: &str, limit: usize) -> Result<Vec<Directory>> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM directory WHERE account_id = ?1 AND removed_at IS NULL AND name > ?2 ORDER BY name LIMIT ?3"
    );
    let rows: Vec<Directory> = connection
        .prepare_cached(sql)?
        .query_map(params![account, after, limit], read_directory)?
        .collect::<rusqlite::Result<_>>()?;
    rows.into_iter().map(|directory| with_next_run(connection, directory)).collect()
}

/// A directory of an account that was not taken out.
pub fn find(connection: &Connection, account: AccountId, id: i64) -> Result<Option<Directory>> {
    let sql =
        concat!("SELECT ", columns!(), " FROM directory WHERE id = ?1 AND account_id = ?2 AND removed_at IS NULL");
    let found = connection.prepare_cached(sql)?.query_row(params![id, account], read_directory).optional()?;
    found.map(|directory| with_next_run(connection, directory)).transpose()
}

/// For the scheduler, which acts for whichever account the directory belongs to.
pub(super) fn account_of(connection: &Connection, id: i64) -> Result<Option<AccountId>> {
    Ok(connection
        .prepare_cached("SELECT account_id FROM directory WHERE id = ?1 AND removed_at IS NULL")?
        .query_row([id], |row| row.get(0))
        .optional()?)
}

pub(super) fn is_name_taken(
    connection: &Connection,
    account: AccountId,
    name: &str,
    except: Option<i64>,
) -> Result<bool> {
    Ok(connection
        .prepare_cached(
            "SELECT 1 FROM directory WHERE account_id = ?1 AND name = ?2 AND removed_at IS NULL AND id IS NOT ?3",
        )?
        .exists(params![account, name, except])?)
}

/// Adds a directory; its sealed credentials follow by [`set_credentials`], because the seal names the row.
pub(super) fn insert(connection: &Connection, directory: &Directory) -> Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO directory (account_id, kind, name, settings, read_credentials, read_principal, schedule, guard,
                                    created_at, updated_at, act_principal)
             VALUES (?1, ?2, ?3, ?4, zeroblob(0), ?5, ?6, ?7, ?8, ?8, ?9)",
        )?
        .execute(params![
            directory.account_id,
            directory.kind.as_str(),
            directory.name,
            directory.settings.to_string(),
            directory.read_principal,
            serde_json::to_string(&directory.schedule)?,
            serde_json::to_string(&directory.guard)?,
            directory.created_at,
            directory.act_principal,
        ])?;
    Ok(connection.last_insert_rowid())
}

pub(super) fn update(connection: &Connection, directory: &Directory) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE directory SET name = ?2, settings = ?3, read_principal = ?4, schedule = ?5, guard = ?6, updated_at = ?7,
                                  act_principal = ?8
             WHERE id = ?1",
        )?
        .execute(params![
            directory.id,
            directory.name,
            directory.settings.to_string(),
            directory.read_principal,
            serde_json::to_string(&directory.schedule)?,
            serde_json::to_string(&directory.guard)?,
            directory.updated_at,
            directory.act_principal,
        ])?;
    Ok(())
}

pub(super) fn set_credentials(connection: &Connection, id: i64, sealed: &[u8]) -> Result<()> {
    connection
        .prepare_cached("UPDATE directory SET read_credentials = ?2 WHERE id = ?1")?
        .execute(params![id, sealed])?;
    Ok(())
}

/// Those for acting; `None` takes them away.
pub(super) fn set_act_credentials(connection: &Connection, id: i64, sealed: Option<&[u8]>) -> Result<()> {
    connection
        .prepare_cached("UPDATE directory SET act_credentials = ?2 WHERE id = ?1")?
        .execute(params![id, sealed])?;
    Ok(())
}

/// Sealed credentials, where there are any.
pub(super) fn credentials(connection: &Connection, id: i64, purpose: Purpose) -> Result<Option<Vec<u8>>> {
    let column = match purpose {
        Purpose::Read => "SELECT read_credentials FROM directory WHERE id = ?1",
        Purpose::Act => "SELECT act_credentials FROM directory WHERE id = ?1",
    };
    Ok(connection.prepare_cached(column)?.query_row([id], |row| row.get(0)).optional()?.flatten())
}

/// Takes the directory out of the console; its copy is deleted afterwards in pieces.
pub(super) fn mark_removed(connection: &Connection, id: i64, now: Time) -> Result<()> {
    // Without its secrets: they are of no use any more.
    connection
        .prepare_cached("UPDATE directory SET removed_at = ?2, read_credentials = zeroblob(0), act_credentials = NULL WHERE id = ?1")?
        .execute(params![id, now])?;
    Ok(())
}

/// The directories of an account that are not taken out.
pub(super) fn of_account(connection: &Connection, account: AccountId) -> Result<Vec<i64>> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM directory WHERE account_id = ?1 AND removed_at IS NULL")?;
    let rows = statement.query_map([account], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn removed(connection: &Connection) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM directory WHERE removed_at IS NOT NULL")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Every run that a directory ever had.
pub(super) fn runs_of(connection: &Connection, directory: i64) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM run WHERE directory_id = ?1 ORDER BY id")?;
    let rows = statement.query_map([directory], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn delete(connection: &Connection, id: i64) -> Result<()> {
    connection.execute("DELETE FROM directory WHERE id = ?1", [id])?;
    Ok(())
}

pub(super) fn set_applied(
    connection: &Connection,
    directory: i64,
    run: i64,
    now: Time,
    identities: i64,
    groups: i64,
) -> Result<()> {
    connection
        .prepare_cached(
            // After a rewind the copy shows what the directory said back then.
            "UPDATE directory SET applied_run_id = ?2,
                 applied_at = coalesce((SELECT n.planned_at FROM run n WHERE n.id = r.rewind_to), r.planned_at, ?3),
                 first_applied_at = coalesce(first_applied_at, ?3), identity_count = ?4, group_count = ?5,
                 watermark = r.watermark
             FROM run r WHERE directory.id = ?1 AND r.id = ?2",
        )?
        .execute(params![directory, run, now, identities, groups])?;
    Ok(())
}

/// What [`read_run`] reads.
macro_rules! run_columns {
    () => {
        "r.id, r.account_id, r.directory_id, d.name, r.mode, r.is_dry_run, r.requested_by, r.state, r.reason,
     r.next_step, r.failure_kind, r.server, r.read_count, r.added, r.changed, r.missing, r.returned, r.members_added,
     r.members_removed, r.quarantined, r.unchanged, r.started_at, r.planned_at, r.finished_at, r.apply_at, r.applied_to, r.removed,
     r.is_in_place, r.rewind_to"
    };
}

fn read_run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let state: String = row.get(7)?;
    Ok(Run {
        id: row.get(0)?,
        account_id: row.get(1)?,
        directory_id: row.get(2)?,
        directory_name: row.get(3)?,
        mode: row.get(4)?,
        is_dry_run: row.get(5)?,
        requested_by: row.get(6)?,
        state: RunState::parse(&state).ok_or(rusqlite::Error::InvalidQuery)?,
        reason: row.get(8)?,
        next_step: row.get(9)?,
        failure_kind: row.get(10)?,
        server: row.get(11)?,
        counts: Counts {
            read: row.get(12)?,
            added: row.get(13)?,
            changed: row.get(14)?,
            missing: row.get(15)?,
            returned: row.get(16)?,
            removed: row.get(26)?,
            members_added: row.get(17)?,
            members_removed: row.get(18)?,
            quarantined: row.get(19)?,
            unchanged: row.get(20)?,
        },
        started_at: row.get(21)?,
        planned_at: row.get(22)?,
        finished_at: row.get(23)?,
        apply_at: row.get(24)?,
        applied_to: row.get(25)?,
        is_in_place: row.get(27)?,
        rewind_to: row.get(28)?,
    })
}

/// Starts a run; `None` when one of this directory is going on.
pub(super) fn insert_run(
    connection: &Connection,
    directory: &Directory,
    mode: &str,
    is_dry_run: bool,
    requested_by: &str,
    settings_hash: &str,
    now: Time,
) -> Result<Option<i64>> {
    let inserted = connection
        .prepare_cached(
            "INSERT OR IGNORE INTO run (account_id, directory_id, mode, is_dry_run, requested_by, state, settings_hash, started_at)
             VALUES (?1, ?2, ?3, ?4, ?5, 'reading', ?6, ?7)",
        )?
        .execute(params![directory.account_id, directory.id, mode, is_dry_run, requested_by, settings_hash, now])?;
    Ok((inserted == 1).then(|| connection.last_insert_rowid()))
}

pub(super) fn find_run(connection: &Connection, account: AccountId, id: i64) -> Result<Option<Run>> {
    let sql = concat!(
        "SELECT ",
        run_columns!(),
        " FROM run r JOIN directory d ON d.id = r.directory_id
         WHERE r.id = ?1 AND r.account_id = ?2 AND d.removed_at IS NULL"
    );
    Ok(connection.prepare_cached(sql)?.query_row(params![id, account], read_run).optional()?)
}

/// Up to `limit` runs of an account, or of one directory, newest first, before run `before`.
pub(super) fn list_runs(
    connection: &Connection,
    account: AccountId,
    directory: Option<i64>,
    before: i64,
    limit: usize,
) -> Result<Vec<Run>> {
    // Two literals, because one statement for both would use the index of neither.
    let sql = match directory {
        Some(_) => concat!(
            "SELECT ",
            run_columns!(),
            " FROM run r JOIN directory d ON d.id = r.directory_id
              WHERE r.account_id = ?1 AND r.directory_id = ?2 AND r.id < ?3 AND d.removed_at IS NULL
              ORDER BY r.id DESC LIMIT ?4"
        ),
        None => concat!(
            "SELECT ",
            run_columns!(),
            " FROM run r JOIN directory d ON d.id = r.directory_id
              WHERE r.account_id = ?1 AND ?2 IS NULL AND r.id < ?3 AND d.removed_at IS NULL
              ORDER BY r.id DESC LIMIT ?4"
        ),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![account, directory, before, limit], read_run)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The newest run of a directory, and the newest one that ended and was not a dry run.
pub(super) fn last_runs(connection: &Connection, directory: i64) -> Result<(Option<Run>, Option<Run>)> {
    let newest = concat!(
        "SELECT ",
        run_columns!(),
        " FROM run r JOIN directory d ON d.id = r.directory_id
         WHERE r.directory_id = ?1 ORDER BY r.id DESC LIMIT 1"
    );
    let ended = concat!(
        "SELECT ",
        run_columns!(),
        " FROM run r JOIN directory d ON d.id = r.directory_id
         WHERE r.directory_id = ?1 AND r.is_dry_run = 0 AND r.state IN ('applied', 'failed', 'discarded', 'parked')
         ORDER BY r.id DESC LIMIT 1"
    );
    let newest = connection.prepare_cached(newest)?.query_row([directory], read_run).optional()?;
    let ended = connection.prepare_cached(ended)?.query_row([directory], read_run).optional()?;
    Ok((newest, ended))
}

/// Runs that were going on when the process ended, of all accounts.
pub(super) fn unfinished_runs(connection: &Connection) -> Result<Vec<Run>> {
    let sql = concat!(
        "SELECT ",
        run_columns!(),
        " FROM run r JOIN directory d ON d.id = r.directory_id
         WHERE r.state IN ('reading', 'applying') OR (r.state = 'planned' AND r.is_dry_run = 0) ORDER BY r.id"
    );
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], read_run)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The run of a directory that stands as going on.
pub(super) fn active_run(connection: &Connection, directory: i64) -> Result<Option<Run>> {
    let unfinished = unfinished_runs(connection)?;
    Ok(unfinished.into_iter().find(|run| run.directory_id == directory))
}

/// Whether a run of the directory is going on.
pub(super) fn has_active_run(connection: &Connection, directory: i64) -> Result<bool> {
    Ok(connection
        .prepare_cached(
            "SELECT 1 FROM run WHERE directory_id = ?1
             AND (state IN ('reading', 'applying') OR (state = 'planned' AND is_dry_run = 0))",
        )?
        .exists([directory])?)
}

/// What a run knows once its reading is complete.
pub(super) struct Planned {
    pub counts: Counts,
    /// Who answered; `None` where nothing was read.
    pub server: Option<String>,
    /// Where the next delta goes on once this plan is applied.
    pub watermark: Option<String>,
    /// How many objects the directory itself says there are.
    pub counted: Option<i64>,
    /// Why a delta had to become a full reading.
    pub watermark_lost: Option<String>,
}

pub(super) fn set_planned(connection: &Connection, run: i64, planned: &Planned, now: Time) -> Result<()> {
    let counts = &planned.counts;
    connection
        .prepare_cached(
            "UPDATE run SET state = 'planned', server = ?2, read_count = ?3, added = ?4, changed = ?5, missing = ?6,
                 returned = ?7, members_added = ?8, members_removed = ?9, quarantined = ?10, unchanged = ?11,
                 planned_at = ?12, finished_at = CASE WHEN is_dry_run THEN ?12 END, removed = ?13, watermark = ?14,
                 counted = ?15, watermark_lost = ?16, mode = CASE WHEN ?16 IS NULL THEN mode ELSE 'full' END
             WHERE id = ?1 AND state = 'reading'",
        )?
        .execute(params![
            run,
            planned.server,
            counts.read,
            counts.added,
            counts.changed,
            counts.missing,
            counts.returned,
            counts.members_added,
            counts.members_removed,
            counts.quarantined,
            counts.unchanged,
            now,
            counts.removed,
            planned.watermark,
            planned.counted,
            planned.watermark_lost,
        ])?;
    Ok(())
}

/// The plan of this run is written where it will be seen, because the directory was never applied.
pub(super) fn set_in_place(connection: &Connection, run: i64, is_in_place: bool) -> Result<()> {
    connection.prepare_cached("UPDATE run SET is_in_place = ?2 WHERE id = ?1")?.execute(params![run, is_in_place])?;
    Ok(())
}

/// The run that a rewind takes the copy back to.
pub(super) fn set_rewind_to(connection: &Connection, run: i64, to_run: i64) -> Result<()> {
    connection.prepare_cached("UPDATE run SET rewind_to = ?2 WHERE id = ?1")?.execute([run, to_run])?;
    Ok(())
}

/// A delta that has nothing to go on from reads everything.
pub(super) fn set_full(connection: &Connection, run: i64) -> Result<()> {
    connection.prepare_cached("UPDATE run SET mode = 'full' WHERE id = ?1")?.execute([run])?;
    Ok(())
}

/// Where a delta of a directory goes on.
pub(super) fn watermark(connection: &Connection, directory: i64) -> Result<Option<String>> {
    Ok(connection
        .prepare_cached("SELECT watermark FROM directory WHERE id = ?1")?
        .query_row([directory], |row| row.get(0))?)
}

/// What [`live`] asks every second.
pub(super) const LIVE: &str = "SELECT id, account_id, settings, read_credentials, watermark IS NOT NULL FROM directory
     WHERE json_extract(schedule, '$.live') = 1 AND removed_at IS NULL
       AND json_extract(schedule, '$.paused') IS NOT 1 AND applied_run_id IS NOT NULL";

/// The directories that are switched to live, not paused, and have been applied.
pub(super) fn live(connection: &Connection) -> Result<Vec<Wanted>> {
    let mut statement = connection.prepare_cached(LIVE)?;
    let rows = statement.query_map([], |row| {
        Ok(Wanted {
            directory: row.get(0)?,
            account: row.get(1)?,
            settings: row.get(2)?,
            credentials: row.get(3)?,
            has_watermark: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The applied run of every directory that has one, with the directory's account.
pub fn applied_runs(connection: &Connection) -> Result<Vec<(i64, AccountId, i64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, account_id, applied_run_id FROM directory WHERE removed_at IS NULL AND applied_run_id IS NOT NULL",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// When the reading began that the copy of a directory shows; `None` before the first. What was so before that moment is in
/// the copy.
pub fn read_since(connection: &Connection, directory: i64) -> Result<Option<Time>> {
    Ok(connection
        .prepare_cached(
            // After a rewind the copy shows what the directory said back then.
            "SELECT coalesce((SELECT n.started_at FROM run n WHERE n.id = r.rewind_to), r.started_at)
             FROM directory d JOIN run r ON r.id = d.applied_run_id WHERE d.id = ?1",
        )?
        .query_row([directory], |row| row.get(0))
        .optional()?)
}

/// When a run began to read.
pub fn run_began(connection: &Connection, run: i64) -> Result<Option<Time>> {
    Ok(connection
        .prepare_cached("SELECT started_at FROM run WHERE id = ?1")?
        .query_row([run], |row| row.get(0))
        .optional()?)
}

/// Whom the directories of an account are read and acted on as, each with the directory's name.
pub fn principals(connection: &Connection, account: AccountId) -> Result<Vec<(String, String)>> {
    let mut statement = connection.prepare_cached(
        "SELECT read_principal, name FROM directory WHERE account_id = ?1 AND removed_at IS NULL
         UNION SELECT act_principal, name FROM directory
         WHERE account_id = ?1 AND removed_at IS NULL AND act_principal IS NOT NULL",
    )?;
    let rows = statement.query_map([account], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// What the directories of an account are called, by number; those that were taken out too.
pub fn names(connection: &Connection, account: AccountId) -> Result<HashMap<i64, String>> {
    let mut statement = connection.prepare_cached("SELECT id, name FROM directory WHERE account_id = ?1")?;
    let rows = statement.query_map([account], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Every directory of every account.
pub(super) fn ids(connection: &Connection) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM directory WHERE removed_at IS NULL")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn is_never_applied(connection: &Connection, directory: i64) -> Result<bool> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM directory WHERE id = ?1 AND applied_run_id IS NULL")?
        .exists([directory])?)
}

pub(super) fn insert_quarantine(connection: &Connection, directory: i64, run: i64, list: &[Quarantined]) -> Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO quarantine (directory_id, run_id, external_id, name, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for object in list {
        insert.execute(params![directory, run, object.external_id, object.name, object.reason])?;
    }
    Ok(())
}

/// Up to `limit` objects that a run could not take, after row `after`.
pub(super) fn quarantine_of(
    connection: &Connection,
    run: i64,
    after: i64,
    limit: usize,
) -> Result<Vec<QuarantineJson>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, external_id, name, reason FROM quarantine WHERE run_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    )?;
    let rows = statement.query_map(params![run, after, limit], |row| {
        let number: i64 = row.get(0)?;
        Ok(QuarantineJson {
            number,
            id: number.to_string(),
            external_id: row.get(1)?,
            name: row.get(2)?,
            reason: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Begins to apply, at a moment that stays the same if it has to be resumed.
pub(super) fn set_applying(connection: &Connection, run: i64, now: Time) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE run SET state = 'applying', applied_to = coalesce(applied_to, 0),
                 apply_at = coalesce(apply_at, CASE WHEN is_in_place THEN started_at ELSE ?2 END)
             WHERE id = ?1 AND state IN ('planned', 'applying')",
        )?
        .execute(params![run, now])?;
    Ok(())
}

pub(super) fn set_applied_to(connection: &Connection, run: i64, change: i64) -> Result<()> {
    connection.prepare_cached("UPDATE run SET applied_to = ?2 WHERE id = ?1")?.execute(params![run, change])?;
    Ok(())
}

pub(super) fn set_run_applied(connection: &Connection, run: i64, now: Time) -> Result<()> {
    connection
        .prepare_cached("UPDATE run SET state = 'applied', finished_at = ?2 WHERE id = ?1")?
        .execute(params![run, now])?;
    Ok(())
}

pub(super) fn set_failed(
    connection: &Connection,
    run: i64,
    failure: &Failure,
    counts: &Counts,
    now: Time,
) -> Result<()> {
    let kind = serde_json::to_value(failure.kind)?;
    let changed = connection
        .prepare_cached(
            "UPDATE run SET state = 'failed', reason = ?2, next_step = ?3, failure_kind = ?4, read_count = ?5, finished_at = ?6
             WHERE id = ?1 AND state IN ('reading', 'planned')",
        )?
        .execute(params![run, failure.message, failure.next_step, kind.as_str(), counts.read, now])?;
    // No row: the run has gone on in the meantime, and nothing may be recorded about a failure.
    if changed == 1 { Ok(()) } else { Err(crate::error::Error::internal("the run does not stand as reading any more")) }
}

/// When the first failed run after run `applied` of a directory started.
pub(super) fn failing_since(connection: &Connection, directory: i64, applied: i64) -> Result<Option<Time>> {
    Ok(connection
        .prepare_cached(
            "SELECT started_at FROM run WHERE directory_id = ?1 AND id > ?2 AND state = 'failed' ORDER BY id LIMIT 1",
        )?
        .query_row(params![directory, applied], |row| row.get(0))
        .optional()?)
}

/// [`list_runs`] of those in one state.
pub(super) fn list_runs_in_state(
    connection: &Connection,
    account: AccountId,
    directory: Option<i64>,
    state: RunState,
    before: i64,
    limit: usize,
) -> Result<Vec<Run>> {
    let sql = match directory {
        Some(_) => concat!(
            "SELECT ",
            run_columns!(),
            " FROM run r JOIN directory d ON d.id = r.directory_id
              WHERE r.account_id = ?1 AND r.directory_id = ?2 AND r.state = ?5 AND r.id < ?3 AND d.removed_at IS NULL
              ORDER BY r.id DESC LIMIT ?4"
        ),
        None => concat!(
            "SELECT ",
            run_columns!(),
            " FROM run r JOIN directory d ON d.id = r.directory_id
              WHERE r.account_id = ?1 AND ?2 IS NULL AND r.state = ?5 AND r.id < ?3 AND d.removed_at IS NULL
              ORDER BY r.id DESC LIMIT ?4"
        ),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![account, directory, before, limit, state.as_str()], read_run)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// [`find_run`] of whichever account.
pub(super) fn find_any_run(connection: &Connection, id: i64) -> Result<Option<Run>> {
    let sql =
        concat!("SELECT ", run_columns!(), " FROM run r JOIN directory d ON d.id = r.directory_id WHERE r.id = ?1");
    Ok(connection.prepare_cached(sql)?.query_row([id], read_run).optional()?)
}

/// How many runs of each directory ended in each state.
pub(super) fn run_totals(connection: &Connection) -> Result<Vec<(i64, String, i64)>> {
    let mut statement = connection.prepare(
        "SELECT r.directory_id, r.state, count(*) FROM run r JOIN directory d ON d.id = r.directory_id
         WHERE d.removed_at IS NULL AND (r.state IN ('applied', 'failed', 'discarded') OR (r.state = 'planned' AND r.is_dry_run = 1))
         GROUP BY r.directory_id, r.state",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// How many changes of each kind the applied runs of each directory made.
pub(super) fn change_totals(connection: &Connection) -> Result<Vec<(i64, &'static str, i64)>> {
    let mut statement = connection.prepare(
        "SELECT r.directory_id, sum(r.added), sum(r.changed), sum(r.missing), sum(r.returned), sum(r.removed), sum(r.members_added),
                sum(r.members_removed)
         FROM run r JOIN directory d ON d.id = r.directory_id
         WHERE d.removed_at IS NULL AND r.state = 'applied' GROUP BY r.directory_id",
    )?;
    let kinds = ["added", "changed", "missing", "returned", "removed", "member-added", "member-removed"];
    let mut rows = statement.query([])?;
    let mut totals = Vec::new();
    while let Some(row) = rows.next()? {
        for (at, kind) in kinds.into_iter().enumerate() {
            totals.push((row.get(0)?, kind, row.get(at + 1)?));
        }
    }
    Ok(totals)
}

/// A directory as the measurements see it.
pub(super) struct Measured {
    pub directory: Directory,
    pub is_parked: bool,
    pub last_success_at: Option<Time>,
    /// The newest run that ended or was parked, and was not a dry run.
    pub last_ended: Option<Run>,
}

/// Every directory of every account.
pub(super) fn measured(connection: &Connection) -> Result<Vec<Measured>> {
    let sql = concat!("SELECT ", columns!(), " FROM directory WHERE removed_at IS NULL ORDER BY id");
    let directories: Vec<Directory> =
        connection.prepare_cached(sql)?.query_map([], read_directory)?.collect::<rusqlite::Result<_>>()?;
    let mut parked = connection.prepare_cached("SELECT 1 FROM run WHERE directory_id = ?1 AND state = 'parked'")?;
    let mut success = connection.prepare_cached("SELECT finished_at FROM run WHERE id = ?1")?;
    directories
        .into_iter()
        .map(|directory| {
            let last_success_at = match directory.applied_run_id {
                Some(run) => success.query_row([run], |row| row.get(0)).optional()?.flatten(),
                None => None,
            };
            Ok(Measured {
                is_parked: parked.exists([directory.id])?,
                last_success_at,
                last_ended: last_runs(connection, directory.id)?.1,
                directory,
            })
        })
        .collect()
}
