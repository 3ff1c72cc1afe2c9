//! The members of an account, as rows of its export: who they are, and nothing that they sign in with.

use crate::owned::Table;

/// What an account knows of its users, who belong to no account.
pub const OWNED: &[Table] = &[Table {
    name: "membership",
    sql: "SELECT m.user_id, m.account_id, m.role_id, m.state, m.created_at, m.last_active_at, u.email, u.name,
                     u.locale, u.time_zone, u.state AS user_state, u.email_verified_at, u.last_sign_in_at,
                     u.has_totp, u.has_passkey, u.must_enrol
              FROM membership m JOIN user u ON u.id = m.user_id
              WHERE m.account_id = :account ORDER BY m.user_id",
}];
