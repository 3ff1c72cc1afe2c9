//! The directories of an account and their runs, as rows of its export, without credentials.

use rusqlite::Connection;

use crate::{error::Result, owned::Table, principal::AccountId};

/// What an account owns here.
pub const OWNED: &[Table] = &[
    Table {
        name: "directory",
        sql: r#"SELECT id, account_id, kind, name, settings AS "settings:json", read_principal, act_principal, schedule AS
                     "schedule:json", guard AS "guard:json", applied_run_id, applied_at, first_applied_at,
                     identity_count, group_count, watermark, created_at, updated_at, removed_at
              FROM directory
              WHERE account_id = :account"#,
    },
    Table {
        name: "run",
        sql: r#"SELECT id, account_id, directory_id, mode, is_dry_run, requested_by, state, reason, next_step,
                     failure_kind, server, settings_hash, read_count, added, changed, missing, returned, removed,
                     members_added, members_removed, quarantined, unchanged, is_in_place, watermark, counted,
                     watermark_lost, started_at, planned_at, finished_at, apply_at, applied_to, read_with AS
                     "read_with:json", rewind_to, base_run_id, trips AS "trips:json", parked_at, plan_digest,
                     approved_by, approved_at, approval_reason, discarded_by, discarded_at, discard_reason,
                     superseded_by, dropped_at, preview_settings AS "preview_settings:json", preview_principal
              FROM run
              WHERE account_id = :account"#,
    },
    Table {
        name: "quarantine",
        sql: "SELECT id, directory_id, run_id, external_id, name, reason
              FROM quarantine
              WHERE directory_id IN (SELECT value FROM json_each(:directories))",
    },
];

/// The directories of an account, those too that are on their way out.
pub fn of_account(connection: &Connection, account: AccountId) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM directory WHERE account_id = ?1 ORDER BY id")?;
    let rows = statement.query_map([account], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
