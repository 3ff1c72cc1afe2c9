//! The roles that an account made, as rows of its export.

use crate::owned::Table;

/// What an account owns here.
pub const OWNED: &[Table] = &[
    Table {
        name: "role",
        sql: r#"SELECT account_id, id, name, description, services AS "services:json", scope AS "scope:json", created_at,
                     updated_at
              FROM role
              WHERE account_id = :account"#,
    },
    Table {
        name: "role_mfa",
        sql: "SELECT account_id, role_id, mfa_rule
              FROM role_mfa
              WHERE account_id = :account",
    },
];
