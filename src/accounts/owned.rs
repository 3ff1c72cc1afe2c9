//! What an account is, as rows of its export.

use crate::owned::Table;

/// What an account owns here.
pub const OWNED: &[Table] = &[
    Table {
        name: "account",
        sql: "SELECT id, alias, region, state, mfa_rule, locale, time_zone, session_idle_minutes,
                     session_max_hours, history_days, created_at, created_by, suspended_at, suspended_by, purge_at,
                     restore_asked_at, restore_asked_by
              FROM account
              WHERE id = :account",
    },
    Table {
        name: "contact",
        sql: "SELECT account_id, list, position, email
              FROM contact
              WHERE account_id = :account ORDER BY list, position",
    },
];
