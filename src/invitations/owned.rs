//! The invitations of an account, as rows of its export, without what their links hold.

use crate::owned::Table;

/// What an account owns here.
pub const OWNED: &[Table] = &[Table {
    name: "invitation",
    sql: "SELECT id, account_id, email, email_folded, role_id, state, is_mailed, invited_by, inviter_name,
                     lifetime_days, created_at, last_sent_at, sent_count, expires_at, ended_at, accepted_by, inviter_id,
                     refusals
              FROM invitation
              WHERE account_id = :account",
}];
