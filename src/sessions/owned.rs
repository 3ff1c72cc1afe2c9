//! The sessions in an account, as rows of its export, without what opens them.

use crate::owned::Table;

/// What an account owns here.
pub const OWNED: &[Table] = &[Table {
    name: "session",
    sql: "SELECT id, user_id, account_id, created_at, method, factor, factor_at, proved_at, last_seen_at, address,
                     user_agent
              FROM session
              WHERE account_id = :account",
}];
