//! The keys of an account, as rows of its export, without their secrets in any form.

use crate::owned::Table;

/// What an account owns here.
pub const OWNED: &[Table] = &[
    Table {
        name: "api_key",
        sql: r#"SELECT id, account_id, alias, description, locale, time_zone, role_id, administers, secret_start, shown_to,
                     previous_start, previous_shown_to, previous_ends_at, previous_used_at, is_enabled, allowed_ips AS
                     "allowed_ips:json", allowed_cidrs AS "allowed_cidrs:json", created_at, made_by, answered_by,
                     expires_at, warned_days, last_activity_at, last_address
              FROM api_key
              WHERE account_id = :account"#,
    },
    Table {
        name: "api_key_setting",
        sql: "SELECT account_id, may_administer
              FROM api_key_setting
              WHERE account_id = :account",
    },
];
