//! Proving a factor: by a code of an app, or standing in for all of them by a recovery code.
//!
//! Everything happens inside the caller's transaction, the counting too: of fifty equal codes at once one is right (HOSTILE
//! A09), and what was counted stays counted, because a wrong code is an answer and not an error.

use rusqlite::Connection;

use super::{
    attempts::{self, Counter, Taken},
    codes,
    model::Outcome,
    queries, totp,
};
use crate::{
    audit::Entry,
    clock::Time,
    error::{Error, Result},
    kernel::Kernel,
    notifications::{self, MfaChange, MfaChanged},
    proof::{Factor, Factors},
    secret::{MasterKey, Secret},
    sessions,
    users::{self, User},
};

/// Where a secret is sealed.
fn place(id: &str) -> String {
    format!("totp_device:secret:{id}")
}

pub(super) fn seal(key: &MasterKey, id: &str, secret: &Secret<Vec<u8>>) -> Vec<u8> {
    key.seal(&place(id), secret.expose())
}

pub(super) fn open(key: &MasterKey, id: &str, sealed: &[u8]) -> Result<Secret<Vec<u8>>> {
    key.open(&place(id), sealed).map_err(|error| Error::caused("the secret of an app could not be opened", error))
}

/// From where somebody proves a factor.
#[derive(Debug, Clone, Copy)]
pub struct From<'a> {
    /// SHA-256 of the token of a browser that they have come in with before.
    pub known_browser: Option<&'a [u8]>,
    /// As it is shown to them; an empty text: at the machine.
    pub address: &'a str,
}

/// A code of one of a user's apps.
pub fn prove_code(
    c: &Connection,
    kernel: &Kernel,
    user: &User,
    typed: &str,
    from: From<'_>,
    now: Time,
) -> Result<(Outcome, Vec<Entry>)> {
    let Some(code) = totp::normalised(typed) else { return Ok((Outcome::Wrong, Vec::new())) };
    let devices = queries::totps(c, &user.id)?;
    let counter = Counter::codes(from.known_browser);
    let (id, is_last) = match attempts::take(c, &user.id, &counter, devices.len(), now)? {
        Taken::TooMany(retry_after_s) => return Ok((Outcome::TooMany { retry_after_s }, Vec::new())),
        Taken::Counted { id, is_last } => (id, is_last),
    };
    for device in &devices {
        let secret = open(&kernel.key, &device.id, &device.secret)?;
        if let Some(step) = totp::accepted_step(&secret, &code, device.last_step, now)? {
            queries::use_totp(c, &device.id, step, now)?;
            attempts::give_back(c, id)?;
            return Ok((Outcome::Right(Factor::Totp), Vec::new()));
        }
    }
    let mut entries = vec![failed("code")];
    if is_last {
        entries.push(locked(c, kernel, user, from, now)?);
    }
    Ok((Outcome::Wrong, entries))
}

fn failed(what: &'static str) -> Entry {
    Entry::new("audit.mfa_failed.v1").outcome(crate::audit::Outcome::Failure).detail("what", what)
}

/// The last guess of a day was wrong: whoever guessed knows the password, which is what the user has to hear.
fn locked(c: &Connection, kernel: &Kernel, user: &User, from: From<'_>, now: Time) -> Result<Entry> {
    let mail = MfaChanged { change: MfaChange::Guessed, at: now, address: from.address };
    notifications::notify(c, &kernel.key, mail.mail(&user.email, &user.locale), now)?;
    Ok(Entry::new("audit.mfa_locked.v1").outcome(crate::audit::Outcome::Failure))
}

/// A recovery code: if it is right, everything that the user has enrolled is gone, all their sessions have ended, and they
/// have to enrol again before they come in anywhere.
pub fn recover(
    c: &Connection,
    kernel: &Kernel,
    user: &User,
    typed: &str,
    from: From<'_>,
    now: Time,
) -> Result<(Outcome, Vec<Entry>)> {
    let Some(code) = codes::normalised(typed) else { return Ok((Outcome::Wrong, Vec::new())) };
    let id = match attempts::take(c, &user.id, &Counter::Recovery, 1, now)? {
        Taken::TooMany(retry_after_s) => return Ok((Outcome::TooMany { retry_after_s }, Vec::new())),
        Taken::Counted { id, .. } => id,
    };
    if !queries::has_recovery_code(c, &user.id, &codes::hash(&kernel.key, &user.id, &code))? {
        return Ok((Outcome::Wrong, vec![failed("recovery code")]));
    }
    attempts::give_back(c, id)?;
    let ended = clear(c, user)?;
    let mail = MfaChanged { change: MfaChange::Recovered, at: now, address: from.address };
    notifications::notify(c, &kernel.key, mail.mail(&user.email, &user.locale), now)?;
    let entry = Entry::new("audit.mfa_recovered.v1").detail("sessionsEnded", ended);
    // Which kind it stands in for nobody asks: there is none left.
    Ok((Outcome::Right(Factor::Totp), vec![entry]))
}

/// Takes everything away that a user has enrolled; answers how many sessions ended with it.
pub(super) fn clear(c: &Connection, user: &User) -> Result<usize> {
    queries::delete_all(c, &user.id)?;
    users::set_factors(c, &user.id, Factors { must_enrol: true, ..Factors::default() })?;
    sessions::end_all(c, &user.id, None)
}
