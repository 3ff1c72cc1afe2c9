//! The records of an account, as rows of its export. They stay in the log when the account goes.

use crate::owned::Table;

/// What an account owns here.
pub const OWNED: &[Table] = &[Table {
    name: "audit_record",
    sql: r#"SELECT seq, id, at, type, account_id, principal_urn, subject_urn, address, request_id, result, details AS
                     "details:json", prev_hash, hash
              FROM audit_record
              WHERE account_id = :account ORDER BY seq"#,
}];
