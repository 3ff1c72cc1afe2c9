//! The copy of an account's directories, its history and its plans, as rows of its export.
//!
//! What is worked out from the rest (search texts, hashes that names are looked up by, which objects lie in whose part) is
//! left out: it doubles the file and says nothing new.

use crate::owned::Table;

/// What an account owns here.
pub const OWNED: &[Table] = &[
    Table {
        name: "identity",
        sql: r#"SELECT id, directory_id, external_id, user_name, display_name, mail, status, account_type, is_privileged,
                     fields AS "fields:json", first_seen_at, changed_at, listed_since_at, missing_since_at, removed_at
              FROM identity
              WHERE directory_id IN (SELECT value FROM json_each(:directories))"#,
    },
    Table {
        name: "directory_group",
        sql: r#"SELECT id, directory_id, external_id, member_count, name, description, is_privileged, fields AS
                     "fields:json", first_seen_at, changed_at, listed_since_at, missing_since_at, removed_at
              FROM directory_group
              WHERE directory_id IN (SELECT value FROM json_each(:directories))"#,
    },
    Table {
        name: "member",
        sql: "SELECT m.group_id, m.until_at, m.member_id, m.since_at
              FROM directory_group g CROSS JOIN member m ON m.group_id = g.id
              WHERE g.directory_id IN (SELECT value FROM json_each(:directories))",
    },
    Table {
        name: "reference",
        sql: "SELECT id, directory_id, text
              FROM reference
              WHERE directory_id IN (SELECT value FROM json_each(:directories))",
    },
    Table {
        name: "past",
        sql: "SELECT object_id, until_at, since_at, directory_id, kind, sort_key, status, missing_since_at
              FROM past
              WHERE directory_id IN (SELECT value FROM json_each(:directories))",
    },
    Table {
        name: "plan",
        sql: "SELECT run_id, directory_id, first_change, last_change, applying_at, applied_at
              FROM plan
              WHERE directory_id IN (SELECT value FROM json_each(:directories))",
    },
    Table {
        name: "change",
        sql: r#"SELECT c.id, c.run_id, c.subject_type, c.subject_id, c.kind, c.field, c.before AS "before:json", c.after AS
                     "after:json", c.member_id
              FROM plan p CROSS JOIN change c ON c.id BETWEEN p.first_change AND p.last_change
              WHERE p.directory_id IN (SELECT value FROM json_each(:directories)) AND c.run_id = p.run_id"#,
    },
    Table {
        name: "staged",
        sql: r#"SELECT s.run_id, s.object_id, s.kind, s.is_new, s.external_id, s.name, s.display_name, s.mail,
                     s.description, s.status, s.account_type, s.is_privileged, s.fields AS "fields:json", s.member_count
              FROM staged s
              WHERE s.run_id IN (SELECT p.run_id FROM plan p WHERE p.directory_id IN (SELECT value FROM json_each(:directories)))"#,
    },
    Table {
        name: "history_edge",
        sql: "SELECT account_id, from_at
              FROM history_edge
              WHERE account_id = :account",
    },
    Table {
        name: "part",
        sql: r#"SELECT id, account_id, scope AS "scope:json", used_at
              FROM part
              WHERE account_id = :account"#,
    },
];
