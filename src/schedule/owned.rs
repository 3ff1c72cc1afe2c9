//! What is scheduled for the directories of an account, as rows of its export.

use crate::owned::Table;

/// What an account owns here.
pub const OWNED: &[Table] = &[Table {
    name: "schedule_entry",
    sql: r#"SELECT job, subject, spec AS "spec:json", is_paused, next_at, lease_until, last_started_at,
                     last_finished_at, last_outcome
              FROM schedule_entry
              WHERE job IN ('directory-full', 'directory-delta')
                AND subject IN (SELECT CAST(value AS TEXT) FROM json_each(:directories))"#,
}];
