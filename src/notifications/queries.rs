//! All SQL of the notifications room.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    model::{Counts, Mail, Security, Server, Waiting},
    sealing,
};
use crate::{
    clock::Time,
    error::{Error, Result},
    secret::MasterKey,
};

/// The console's address in the settings.
pub(super) fn find_address(connection: &Connection) -> Result<Option<String>> {
    Ok(connection
        .prepare_cached("SELECT base_url FROM console_address WHERE id = 1")?
        .query_row([], |row| row.get(0))
        .optional()?)
}

/// Sets the console's address, or takes it out.
pub(super) fn set_address(connection: &Connection, base_url: Option<&str>, now: Time) -> Result<()> {
    match base_url {
        Some(base_url) => connection.execute(
            "INSERT INTO console_address (id, base_url, updated_at) VALUES (1, ?1, ?2)
             ON CONFLICT (id) DO UPDATE SET base_url = excluded.base_url, updated_at = excluded.updated_at",
            params![base_url, now],
        )?,
        None => connection.execute("DELETE FROM console_address WHERE id = 1", [])?,
    };
    Ok(())
}

/// The mail server, if there is one.
pub(super) fn find_server(connection: &Connection) -> Result<Option<Server>> {
    Ok(connection
        .prepare_cached(
            "SELECT host, port, security, user_name, from_address, from_name, reply_to, ca_pem FROM mail_server WHERE id = 1",
        )?
        .query_row([], |row| {
            let security: String = row.get(2)?;
            Ok(Server {
                host: row.get(0)?,
                port: row.get(1)?,
                // What cannot be read asks for more protection, not for less.
                security: Security::parse(&security).unwrap_or(Security::StartTls),
                user_name: row.get(3)?,
                from_address: row.get(4)?,
                from_name: row.get(5)?,
                reply_to: row.get(6)?,
                ca_pem: row.get(7)?,
            })
        })
        .optional()?)
}

/// The sealed password.
pub(super) fn sealed_password(connection: &Connection) -> Result<Option<Vec<u8>>> {
    let found: Option<Option<Vec<u8>>> = connection
        .prepare_cached("SELECT password FROM mail_server WHERE id = 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(found.flatten())
}

/// Sets the mail server with its sealed password.
pub(super) fn set_server(connection: &Connection, server: &Server, password: Option<&[u8]>, now: Time) -> Result<()> {
    connection.execute(
        "INSERT INTO mail_server (id, host, port, security, user_name, password, from_address, from_name, reply_to, ca_pem,
                                  updated_at)
         VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (id) DO UPDATE SET host = excluded.host, port = excluded.port, security = excluded.security,
             user_name = excluded.user_name, password = excluded.password, from_address = excluded.from_address,
             from_name = excluded.from_name, reply_to = excluded.reply_to, ca_pem = excluded.ca_pem,
             updated_at = excluded.updated_at",
        params![
            server.host,
            server.port,
            server.security.as_str(),
            server.user_name,
            password,
            server.from_address,
            server.from_name,
            server.reply_to,
            server.ca_pem,
            now
        ],
    )?;
    Ok(())
}

pub(super) fn remove_server(connection: &Connection) -> Result<()> {
    connection.execute("DELETE FROM mail_server WHERE id = 1", [])?;
    Ok(())
}

/// A mail as it is stored: sealed.
pub(super) struct Sealed {
    pub recipient: Vec<u8>,
    /// Subject and bodies; `None` once they are gone.
    pub content: Option<Vec<u8>>,
}

/// Writes a mail into the queue, due at once.
pub(super) fn insert(
    connection: &Connection,
    id: &str,
    mail: &Mail,
    sealed: &Sealed,
    now: Time,
    give_up_at: Time,
) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO mail_outbox (id, kind, recipient, content, has_secret, state, created_at, due_at, give_up_at,
                                      expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, 'queued', ?6, ?6, ?7, ?8)",
        )?
        .execute(params![
            id,
            mail.kind,
            sealed.recipient,
            sealed.content,
            mail.has_secret,
            now,
            give_up_at,
            mail.expires_at
        ])?;
    Ok(())
}

/// How many mails wait, at most `limit`.
pub(super) fn count_queued(connection: &Connection, limit: i64) -> Result<i64> {
    Ok(connection
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM mail_outbox INDEXED BY mail_due WHERE state = 'queued' LIMIT ?1)",
        )?
        .query_row([limit], |row| row.get(0))?)
}

/// How many mails are in which state.
pub(super) fn counts(connection: &Connection) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut statement = connection.prepare_cached("SELECT state, count(*) FROM mail_outbox GROUP BY state")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    for row in rows {
        let (state, count) = row?;
        match state.as_str() {
            "queued" => counts.queued = count,
            "failed" => counts.failed = count,
            _ => counts.sent = count,
        }
    }
    Ok(counts)
}

/// The mails that are due, the longest waiting first, and how often each was tried.
pub(super) fn due(connection: &Connection, now: Time, limit: usize) -> Result<Vec<(String, i64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, attempts FROM mail_outbox INDEXED BY mail_due
         WHERE state = 'queued' AND due_at <= ?1 ORDER BY due_at LIMIT ?2",
    )?;
    let rows = statement.query_map(params![now, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Whether there is a mail to give up.
pub(super) fn has_hopeless(connection: &Connection, now: Time) -> Result<bool> {
    Ok(connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM mail_outbox INDEXED BY mail_given_up WHERE state = 'queued' AND give_up_at <= ?1)",
        )?
        .query_row([now], |row| row.get(0))?)
}

/// Gives up what was tried for long enough; answers how many mails that were.
pub(super) fn give_up(connection: &Connection, now: Time) -> Result<usize> {
    Ok(connection
        .prepare_cached(
            "UPDATE mail_outbox
             SET state = 'failed', ended_at = ?1,
                 error = CASE WHEN expires_at <= ?1 THEN 'It could not be sent before what it says expired.'
                              ELSE 'It could not be sent within a day.' END || coalesce(' ' || error, ''),
                 content = CASE has_secret WHEN 1 THEN NULL ELSE content END
             WHERE state = 'queued' AND give_up_at <= ?1",
        )?
        .execute([now])?)
}

/// A mail that is still to be sent, with its body; and from here on it counts as tried, and is not due before `again_at`:
/// whatever ends the program in the middle, it is not tried in a hurry again.
pub(super) fn begin(
    connection: &Connection,
    id: &str,
    now: Time,
    again_at: Time,
) -> Result<Option<(String, Time, Sealed)>> {
    Ok(connection
        .prepare_cached(
            "UPDATE mail_outbox SET attempts = attempts + 1, due_at = ?3
             WHERE id = ?1 AND state = 'queued' AND give_up_at > ?2
             RETURNING kind, created_at, recipient, content",
        )?
        .query_row(params![id, now, again_at], |row| {
            Ok((row.get(0)?, row.get(1)?, Sealed { recipient: row.get(2)?, content: row.get(3)? }))
        })
        .optional()?)
}

/// The server has taken it.
pub(super) fn set_sent(connection: &Connection, id: &str, now: Time) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE mail_outbox
             SET state = 'sent', ended_at = ?2, error = NULL, next_step = NULL, content = NULL
             WHERE id = ?1 AND state = 'queued'",
        )?
        .execute(params![id, now])?;
    Ok(())
}

/// It did not go out now, and is tried again then.
pub(super) fn set_later(connection: &Connection, id: &str, due_at: Time, error: &str, next_step: &str) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE mail_outbox SET due_at = ?2, error = ?3, next_step = ?4 WHERE id = ?1 AND state = 'queued'",
        )?
        .execute(params![id, due_at, error, next_step])?;
    Ok(())
}

/// The server cannot be used now: all of these are tried again then.
pub(super) fn set_unreachable(
    connection: &Connection,
    ids: &[String],
    due_at: Time,
    error: &str,
    next_step: &str,
) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "UPDATE mail_outbox SET attempts = attempts + 1, due_at = ?2, error = ?3, next_step = ?4
         WHERE id = ?1 AND state = 'queued'",
    )?;
    for id in ids {
        statement.execute(params![id, due_at, error, next_step])?;
    }
    Ok(())
}

/// It was refused for good.
pub(super) fn set_failed(connection: &Connection, id: &str, now: Time, error: &str, next_step: &str) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE mail_outbox
             SET state = 'failed', ended_at = ?2, error = ?3, next_step = ?4,
                 content = CASE has_secret WHEN 1 THEN NULL ELSE content END
             WHERE id = ?1 AND state = 'queued'",
        )?
        .execute(params![id, now, error, next_step])?;
    Ok(())
}

fn read_waiting(row: &Row<'_>, key: &MasterKey) -> rusqlite::Result<Waiting> {
    let id: String = row.get(0)?;
    let recipient: Vec<u8> = row.get(2)?;
    Ok(Waiting {
        recipient: sealing::open_recipient(key, &id, &recipient),
        id,
        kind: row.get(1)?,
        created_at: row.get(3)?,
        due_at: row.get(4)?,
        attempts: row.get(5)?,
        error: row.get::<_, Option<String>>(6)?.unwrap_or_default(),
        next_step: row.get::<_, Option<String>>(7)?.unwrap_or_default(),
        ended_at: row.get(8)?,
        can_retry: row.get(9)?,
    })
}

/// What waits, the next one first.
pub(super) fn list_queued(connection: &Connection, key: &MasterKey, limit: usize) -> Result<Vec<Waiting>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, kind, recipient, created_at, due_at, attempts, error, next_step, ended_at, content IS NOT NULL
         FROM mail_outbox INDEXED BY mail_due WHERE state = 'queued' ORDER BY due_at LIMIT ?1",
    )?;
    let rows = statement.query_map([limit], |row| read_waiting(row, key))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// What failed, the newest first.
pub(super) fn list_failed(connection: &Connection, key: &MasterKey, limit: usize) -> Result<Vec<Waiting>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, kind, recipient, created_at, due_at, attempts, error, next_step, ended_at, content IS NOT NULL
         FROM mail_outbox INDEXED BY mail_failed WHERE state = 'failed' ORDER BY ended_at DESC LIMIT ?1",
    )?;
    let rows = statement.query_map([limit], |row| read_waiting(row, key))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A mail that waits or has failed.
pub(super) fn get_unsent(connection: &Connection, key: &MasterKey, id: &str) -> Result<Waiting> {
    connection
        .prepare_cached(
            "SELECT id, kind, recipient, created_at, due_at, attempts, error, next_step, ended_at, content IS NOT NULL
             FROM mail_outbox WHERE id = ?1 AND state <> 'sent'",
        )?
        .query_row([id], |row| read_waiting(row, key))
        .optional()?
        .ok_or(Error::NotFound("This mail"))
}

/// Puts a mail back into the queue, due now.
pub(super) fn requeue(connection: &Connection, id: &str, now: Time, give_up_at: Time) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE mail_outbox
             SET state = 'queued', ended_at = NULL, due_at = ?2, give_up_at = min(?3, coalesce(expires_at, ?3))
             WHERE id = ?1 AND state <> 'sent'",
        )?
        .execute(params![id, now, give_up_at])?;
    Ok(())
}

pub(super) fn remove(connection: &Connection, id: &str) -> Result<()> {
    connection.prepare_cached("DELETE FROM mail_outbox WHERE id = ?1 AND state <> 'sent'")?.execute([id])?;
    Ok(())
}

/// Deletes what ended before `before`.
pub(super) fn purge(connection: &Connection, before: Time) -> Result<usize> {
    Ok(connection
        .prepare_cached("DELETE FROM mail_outbox INDEXED BY mail_ended WHERE state <> 'queued' AND ended_at < ?1")?
        .execute([before])?)
}
