//! All SQL of the mfa room.

use rusqlite::{Connection, OptionalExtension, params};

use super::model::{Device, RecoverySet};
use crate::{clock::Time, error::Result, proof::Factor};

/// An authenticator app with its sealed secret.
pub(super) struct Totp {
    pub(super) id: String,
    pub(super) secret: Vec<u8>,
    pub(super) last_step: u64,
}

/// The confirmed apps of a user.
pub(super) fn totps(c: &Connection, user_id: &str) -> Result<Vec<Totp>> {
    let mut statement = c.prepare_cached(
        "SELECT id, secret, last_step FROM totp_device WHERE user_id = ?1 AND confirmed_at IS NOT NULL
         ORDER BY created_at",
    )?;
    let rows = statement
        .query_map([user_id], |row| Ok(Totp { id: row.get(0)?, secret: row.get(1)?, last_step: row.get(2)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The app that a user is enrolling.
pub(super) fn unconfirmed_totp(c: &Connection, user_id: &str) -> Result<Option<(Totp, Time)>> {
    Ok(c.prepare_cached(
        "SELECT id, secret, last_step, created_at FROM totp_device WHERE user_id = ?1 AND confirmed_at IS NULL",
    )?
    .query_row([user_id], |row| {
        Ok((Totp { id: row.get(0)?, secret: row.get(1)?, last_step: row.get(2)? }, row.get(3)?))
    })
    .optional()?)
}

/// Begins to enrol an app; what was begun before ends.
pub(super) fn replace_unconfirmed_totp(
    c: &Connection,
    user_id: &str,
    id: &str,
    secret: &[u8],
    now: Time,
) -> Result<()> {
    c.prepare_cached("DELETE FROM totp_device WHERE user_id = ?1 AND confirmed_at IS NULL")?.execute([user_id])?;
    c.prepare_cached("INSERT INTO totp_device (id, user_id, name, secret, created_at) VALUES (?1, ?2, '', ?3, ?4)")?
        .execute(params![id, user_id, secret, now])?;
    Ok(())
}

/// `false` when it was replaced or confirmed meanwhile.
pub(super) fn confirm_totp(c: &Connection, user_id: &str, id: &str, name: &str, step: u64, now: Time) -> Result<bool> {
    let changed = c
        .prepare_cached(
            "UPDATE totp_device SET name = ?3, last_step = ?4, confirmed_at = ?5, last_used_at = ?5
             WHERE id = ?2 AND user_id = ?1 AND confirmed_at IS NULL",
        )?
        .execute(params![user_id, id, name, step, now])?;
    Ok(changed > 0)
}

/// Notes that a code of this step was accepted.
pub(super) fn use_totp(c: &Connection, id: &str, step: u64, now: Time) -> Result<()> {
    c.prepare_cached("UPDATE totp_device SET last_step = ?2, last_used_at = ?3 WHERE id = ?1 AND last_step < ?2")?
        .execute(params![id, step, now])?;
    Ok(())
}

/// What a user has enrolled, apps first, each kind by age.
pub(super) fn devices(c: &Connection, user_id: &str) -> Result<Vec<Device>> {
    let mut statement = c.prepare_cached(
        "SELECT id, name, created_at, last_used_at FROM totp_device
         WHERE user_id = ?1 AND confirmed_at IS NOT NULL ORDER BY created_at",
    )?;
    let apps = statement.query_map([user_id], |row| {
        Ok(Device {
            id: row.get(0)?,
            kind: Factor::Totp,
            name: row.get(1)?,
            created_at: row.get(2)?,
            last_used_at: row.get(3)?,
            rp_id: None,
        })
    })?;
    let mut devices = apps.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut statement = c.prepare_cached(
        "SELECT id, name, created_at, last_used_at, rp_id FROM passkey WHERE user_id = ?1 ORDER BY created_at",
    )?;
    let passkeys = statement.query_map([user_id], |row| {
        Ok(Device {
            id: row.get(0)?,
            kind: Factor::Passkey,
            name: row.get(1)?,
            created_at: row.get(2)?,
            last_used_at: row.get(3)?,
            rp_id: row.get(4)?,
        })
    })?;
    for passkey in passkeys {
        devices.push(passkey?);
    }
    Ok(devices)
}

/// Takes one device of a user away; `false` when it is not theirs.
pub(super) fn delete_device(c: &Connection, user_id: &str, id: &str) -> Result<bool> {
    let apps = c
        .prepare_cached("DELETE FROM totp_device WHERE user_id = ?1 AND id = ?2 AND confirmed_at IS NOT NULL")?
        .execute([user_id, id])?;
    let passkeys = c.prepare_cached("DELETE FROM passkey WHERE user_id = ?1 AND id = ?2")?.execute([user_id, id])?;
    Ok(apps + passkeys > 0)
}

/// `false` when it is not theirs.
pub(super) fn rename_device(c: &Connection, user_id: &str, id: &str, name: &str) -> Result<bool> {
    let apps = c
        .prepare_cached("UPDATE totp_device SET name = ?3 WHERE user_id = ?1 AND id = ?2 AND confirmed_at IS NOT NULL")?
        .execute([user_id, id, name])?;
    let passkeys = c
        .prepare_cached("UPDATE passkey SET name = ?3 WHERE user_id = ?1 AND id = ?2")?
        .execute([user_id, id, name])?;
    Ok(apps + passkeys > 0)
}

/// Takes everything away that a user has enrolled, or begun to.
pub(super) fn delete_all(c: &Connection, user_id: &str) -> Result<()> {
    c.prepare_cached("DELETE FROM totp_device WHERE user_id = ?1")?.execute([user_id])?;
    c.prepare_cached("DELETE FROM passkey WHERE user_id = ?1")?.execute([user_id])?;
    c.prepare_cached("DELETE FROM passkey_challenge WHERE user_id = ?1")?.execute([user_id])?;
    c.prepare_cached("DELETE FROM recovery_code WHERE user_id = ?1")?.execute([user_id])?;
    c.prepare_cached("DELETE FROM recovery_set WHERE user_id = ?1")?.execute([user_id])?;
    Ok(())
}

// --- recovery codes ---

pub(super) fn recovery_set(c: &Connection, user_id: &str) -> Result<Option<RecoverySet>> {
    Ok(c.prepare_cached(
        "SELECT created_at, stored_at, (SELECT count(*) FROM recovery_code WHERE user_id = ?1)
         FROM recovery_set WHERE user_id = ?1",
    )?
    .query_row([user_id], |row| Ok(RecoverySet { created_at: row.get(0)?, stored_at: row.get(1)?, left: row.get(2)? }))
    .optional()?)
}

/// A new set; the old one is worth nothing from now on.
pub(super) fn replace_recovery(c: &Connection, user_id: &str, hashes: &[[u8; 32]], now: Time) -> Result<()> {
    c.prepare_cached("DELETE FROM recovery_code WHERE user_id = ?1")?.execute([user_id])?;
    c.prepare_cached("INSERT OR REPLACE INTO recovery_set (user_id, created_at) VALUES (?1, ?2)")?
        .execute(params![user_id, now])?;
    let mut insert =
        c.prepare_cached("INSERT INTO recovery_code (user_id, code_hash, created_at) VALUES (?1, ?2, ?3)")?;
    for hash in hashes {
        insert.execute(params![user_id, hash, now])?;
    }
    Ok(())
}

/// Whether a code is one of the present set.
pub(super) fn has_recovery_code(c: &Connection, user_id: &str, hash: &[u8]) -> Result<bool> {
    Ok(c.prepare_cached("SELECT 1 FROM recovery_code WHERE user_id = ?1 AND code_hash = ?2")?
        .exists(params![user_id, hash])?)
}

/// Notes that the owner of a set said that it is stored; `false`: there is another set by now, or they said so before.
pub(super) fn set_stored(c: &Connection, user_id: &str, now: Time) -> Result<bool> {
    let changed = c
        .prepare_cached("UPDATE recovery_set SET stored_at = ?2 WHERE user_id = ?1 AND stored_at IS NULL")?
        .execute(params![user_id, now])?;
    Ok(changed > 0)
}

// --- attempts ---

/// When the attempts of a counter were made since then, the newest first. Those of a clock that was set back are left out.
pub(super) fn attempts(c: &Connection, user_id: &str, counter: &str, since: Time, until: Time) -> Result<Vec<Time>> {
    let mut statement = c.prepare_cached(
        "SELECT at FROM factor_attempt WHERE user_id = ?1 AND counter = ?2 AND at > ?3 AND at <= ?4 ORDER BY at DESC",
    )?;
    let rows = statement.query_map(params![user_id, counter, since, until], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn insert_attempt(c: &Connection, user_id: &str, counter: &str, now: Time) -> Result<i64> {
    c.prepare_cached("INSERT INTO factor_attempt (user_id, counter, at) VALUES (?1, ?2, ?3)")?
        .execute(params![user_id, counter, now])?;
    Ok(c.last_insert_rowid())
}

pub(super) fn delete_attempt(c: &Connection, id: i64) -> Result<()> {
    c.prepare_cached("DELETE FROM factor_attempt WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Forgets attempts of a user, or of everybody; answers how many there were.
pub(super) fn delete_attempts(c: &Connection, user_id: Option<&str>) -> Result<usize> {
    Ok(c.prepare_cached("DELETE FROM factor_attempt WHERE ?1 IS NULL OR user_id = ?1")?.execute([user_id])?)
}

pub(super) fn purge(c: &Connection, attempts_before: Time, now: Time) -> Result<usize> {
    let attempts = c.execute("DELETE FROM factor_attempt WHERE at < ?1", [attempts_before])?;
    Ok(attempts + c.execute("DELETE FROM passkey_challenge WHERE expires_at <= ?1", [now])?)
}
