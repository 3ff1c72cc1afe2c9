//! What was asked for and done in an account, as rows of its export.

use crate::owned::Table;

/// What an account owns here.
pub const OWNED: &[Table] = &[
    Table {
        name: "enforcement_request",
        sql:
            "SELECT id, account_id, action, reason, requested_by, requester, requested_at, state, waits_for, expires_at,
                     decision, decided_by, decided_at, decision_reason, undo_at, undo_ended_at, undo_of, finished_at
              FROM enforcement_request
              WHERE account_id = :account",
    },
    Table {
        name: "task",
        sql: r#"SELECT id, request_id, account_id, directory_id, identity_id, external_id, name, user_name, action, state,
                     error, error_in_part, next_step, before AS "before:json", after AS "after:json", was_so, can_undo, attempts,
                     due_at, give_up_at, sent_at, accepted_at, observed_at, finished_at, inverse_of, drift_at, drift
              FROM task
              WHERE account_id = :account"#,
    },
    Table {
        name: "protection",
        sql: "SELECT id, account_id, kind, directory_id, object_id, dn, name, note, created_by, created_at, removed_by,
                     removed_at
              FROM protection
              WHERE account_id = :account",
    },
    Table {
        name: "two_person_rule",
        sql: "SELECT account_id, above_count, for_privileged, updated_at, loosened_by, loosened_at
              FROM two_person_rule
              WHERE account_id = :account",
    },
];
