//! Migrations: the SQL files in `migrations/`, in order, each run once.
//!
//! Owns `user_version`. Forward only; a released file is never edited. The whole upgrade is one transaction, after a
//! copy of the file was made beside it.

use std::path::Path;

use rusqlite::Connection;

use super::OpenError;

const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_audit.sql"),
    include_str!("../../migrations/0002_accounts.sql"),
    include_str!("../../migrations/0003_users.sql"),
    include_str!("../../migrations/0004_sessions.sql"),
    include_str!("../../migrations/0005_sign_in.sql"),
    include_str!("../../migrations/0006_api_keys.sql"),
    include_str!("../../migrations/0007_schedule.sql"),
    include_str!("../../migrations/0008_directories.sql"),
    include_str!("../../migrations/0009_identities.sql"),
    include_str!("../../migrations/0010_enforcement.sql"),
    include_str!("../../migrations/0011_roles.sql"),
    include_str!("../../migrations/0012_notifications.sql"),
    include_str!("../../migrations/0013_idempotency.sql"),
    include_str!("../../migrations/0014_invitations.sql"),
    include_str!("../../migrations/0015_contacts.sql"),
    include_str!("../../migrations/0016_mfa.sql"),
];

/// The schema this program knows.
#[expect(clippy::cast_possible_wrap, reason = "a handful of files")]
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

pub(super) fn run(path: &Path, connection: &mut Connection) -> Result<(), OpenError> {
    let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sqlite)?;
    if found > SCHEMA_VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION });
    }
    if found == SCHEMA_VERSION {
        return Ok(());
    }
    if found > 0 {
        let copy = path.with_extension(format!("before-{SCHEMA_VERSION}.db"));
        // A copy that an interrupted upgrade left behind is older than the data: make it anew.
        let _ = std::fs::remove_file(&copy);
        connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()]).map_err(|source| OpenError::Copy { source })?;
    }
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive).map_err(sqlite)?;
    // Another process may have upgraded while we waited for the lock.
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sqlite)?;
    for (number, sql) in (1..).zip(MIGRATIONS) {
        if number > found {
            transaction.execute_batch(sql).map_err(sqlite)?;
        }
    }
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)
}
