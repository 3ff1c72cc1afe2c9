//! Enrolling factors, taking them away, and the recovery codes that come with the first one.
//!
//! Everything here runs inside the caller's transaction, which has asked before whether this person may enrol now. The secret of
//! an app is made here and never taken from a request (HOSTILE A11).

use rusqlite::Connection;

use super::{
    attempts::DEVICES_MAX,
    codes,
    model::{Device, RecoverySet, TotpEnrolment, check_name},
    prove, queries, totp,
};
use crate::{
    audit::Entry,
    clock::{HOUR, Time},
    error::{Error, Result},
    kernel::Kernel,
    notifications::{self, MfaChange, MfaChanged},
    proof::{Factor, Factors},
    secret::{MasterKey, Secret},
    users::{self, User},
};

/// How long an enrolment waits for its first code.
const ENROLMENT_US: i64 = HOUR;

/// What a user has enrolled.
pub fn devices(c: &Connection, user_id: &str) -> Result<Vec<Device>> {
    queries::devices(c, user_id)
}

/// The set of recovery codes of a user, if they have one.
pub fn recovery_set(c: &Connection, user_id: &str) -> Result<Option<RecoverySet>> {
    queries::recovery_set(c, user_id)
}

fn shown(id: String, secret: &Secret<Vec<u8>>, user: &User) -> Result<TotpEnrolment> {
    let (qr, width) = totp::qr(&totp::uri(secret, &user.email)?)?;
    Ok(TotpEnrolment { id, text: Secret::new(totp::as_text(secret)?), qr: Secret::new(qr), width })
}

/// The app that a user is enrolling: the one that was begun within the last hour, or a new one. Asking twice shows the same one,
/// so that a page can be reloaded, and a wrong code does not cost a second scan.
pub fn begin_totp(c: &Connection, key: &MasterKey, user: &User, now: Time) -> Result<TotpEnrolment> {
    let age_us = |at: Time| now.since(at);
    if let Some((begun, at)) = queries::unconfirmed_totp(c, &user.id)?
        && (0..ENROLMENT_US).contains(&age_us(at))
    {
        return shown(begun.id.clone(), &prove::open(key, &begun.id, &begun.secret)?, user);
    }
    let (id, secret) = (uuid::Uuid::now_v7().to_string(), totp::new_secret());
    queries::replace_unconfirmed_totp(c, &user.id, &id, &prove::seal(key, &id, &secret), now)?;
    shown(id, &secret, user)
}

/// What was enrolled.
pub struct Enrolled {
    pub kind: Factor,
    /// The codes that come with the first factor: shown once.
    pub codes: Option<Vec<Secret<String>>>,
    pub entries: Vec<Entry>,
}

/// The first code of an app that is being enrolled.
#[derive(Debug, Clone, Copy)]
pub struct FirstCode<'a> {
    /// Of the enrolment.
    pub id: &'a str,
    /// What the user calls the device.
    pub name: &'a str,
    pub code: &'a str,
    /// From where, as mails say it.
    pub address: &'a str,
}

/// Confirms the app that is being enrolled by its first code.
pub fn confirm_totp(c: &Connection, kernel: &Kernel, user: &User, first: FirstCode<'_>, now: Time) -> Result<Enrolled> {
    let FirstCode { id, name, code: typed, address } = first;
    let name = check_name("name", name)?;
    if queries::totps(c, &user.id)?.len() >= DEVICES_MAX {
        return Err(Error::Conflict(format!("You have {DEVICES_MAX} authenticator apps. Remove one of them first.")));
    }
    let begun = queries::unconfirmed_totp(c, &user.id)?.filter(|(begun, _)| begun.id == id);
    let Some((begun, _)) = begun else {
        return Err(Error::Conflict(
            "This enrolment was begun anew elsewhere. Scan the code that is shown now.".into(),
        ));
    };
    let wrong = || {
        Error::field(
            "code",
            "This code is not right. Check that the clock of your device is, and enter the code that it shows now.",
        )
    };
    let code = totp::normalised(typed).ok_or_else(wrong)?;
    let secret = prove::open(&kernel.key, &begun.id, &begun.secret)?;
    let step = totp::accepted_step(&secret, &code, 0, now)?.ok_or_else(wrong)?;
    if !queries::confirm_totp(c, &user.id, id, &name, step, now)? {
        return Err(Error::Conflict("This app was enrolled already.".into()));
    }
    added(c, kernel, user, Factor::Totp, &name, address, now)
}

/// Everything that follows when a user has one factor more.
pub(super) fn added(
    c: &Connection,
    kernel: &Kernel,
    user: &User,
    kind: Factor,
    name: &str,
    address: &str,
    now: Time,
) -> Result<Enrolled> {
    note_kinds(c, &user.id)?;
    let codes = match queries::recovery_set(c, &user.id)? {
        Some(_) => None,
        None => Some(new_codes(c, &kernel.key, &user.id, now)?),
    };
    let mail = MfaChanged { change: MfaChange::Added { kind: kind.title(), name }, at: now, address };
    notifications::notify(c, &kernel.key, mail.mail(&user.email, &user.locale), now)?;
    let entry = Entry::new("audit.mfa_enrolled.v1").detail("kind", kind.as_str()).detail("name", name);
    Ok(Enrolled { kind, codes, entries: vec![entry] })
}

/// Writes which kinds a user has, after any change to them.
fn note_kinds(c: &Connection, user_id: &str) -> Result<Factors> {
    let devices = queries::devices(c, user_id)?;
    let has = |kind| devices.iter().any(|device| device.kind == kind);
    let factors = Factors { totp: has(Factor::Totp), passkey: has(Factor::Passkey), must_enrol: false };
    users::set_factors(c, user_id, factors)?;
    Ok(factors)
}

/// A new set of recovery codes; the old one is worth nothing from now on.
pub fn new_codes(c: &Connection, key: &MasterKey, user_id: &str, now: Time) -> Result<Vec<Secret<String>>> {
    let set = codes::new_set();
    let hashes: Vec<[u8; 32]> = set.iter().map(|code| codes::hash(key, user_id, code.expose())).collect();
    queries::replace_recovery(c, user_id, &hashes, now)?;
    Ok(set)
}

/// Whether these are codes of the present set, so that a page with them may be shown again.
pub fn are_codes(c: &Connection, key: &MasterKey, user_id: &str, shown: &[&str]) -> Result<bool> {
    for code in shown {
        let Some(code) = codes::normalised(code) else { return Ok(false) };
        if !queries::has_recovery_code(c, user_id, &codes::hash(key, user_id, &code))? {
            return Ok(false);
        }
    }
    Ok(shown.len() == codes::COUNT)
}

/// Notes that a user said that their codes are stored.
pub fn note_stored(c: &Connection, user_id: &str, now: Time) -> Result<bool> {
    queries::set_stored(c, user_id, now)
}

/// Renames one of a user's devices.
pub fn rename(c: &Connection, user_id: &str, id: &str, name: &str) -> Result<Entry> {
    let name = check_name("name", name)?;
    let before = find(c, user_id, id)?;
    queries::rename_device(c, user_id, id, &name)?;
    Ok(Entry::new("audit.mfa_renamed.v1")
        .changes(serde_json::json!({"name": before.name}), serde_json::json!({"name": name})))
}

fn find(c: &Connection, user_id: &str, id: &str) -> Result<Device> {
    let found = queries::devices(c, user_id)?.into_iter().find(|device| device.id == id);
    found.ok_or(Error::NotFound("This device"))
}

/// Takes one device away. With the last one go the recovery codes: they stand in for something that is no more. Answers what
/// the user has left; the caller asks whether that is enough, and errs if it is not.
pub fn remove(
    c: &Connection,
    kernel: &Kernel,
    user: &User,
    id: &str,
    address: &str,
    now: Time,
) -> Result<(Factors, Entry)> {
    let device = find(c, &user.id, id)?;
    queries::delete_device(c, &user.id, id)?;
    let left = note_kinds(c, &user.id)?;
    if !left.any() {
        queries::delete_all(c, &user.id)?;
    }
    let change = MfaChange::Removed { kind: device.kind.title(), name: &device.name };
    let mail = MfaChanged { change, at: now, address };
    notifications::notify(c, &kernel.key, mail.mail(&user.email, &user.locale), now)?;
    let entry = Entry::new("audit.mfa_removed.v1").detail("kind", device.kind.as_str()).detail("name", &device.name);
    Ok((left, entry))
}

/// Resets what a user has enrolled, for somebody who has lost it: they have to enrol again before they come in anywhere, and
/// their sessions end. `by` is whoever did it, as the mail says it.
pub fn reset(c: &Connection, kernel: &Kernel, user: &User, by: &str, address: &str, now: Time) -> Result<Entry> {
    let ended = prove::clear(c, user)?;
    let mail = MfaChanged { change: MfaChange::Reset { by }, at: now, address };
    notifications::notify(c, &kernel.key, mail.mail(&user.email, &user.locale), now)?;
    Ok(Entry::new("audit.mfa_reset.v1").detail("sessionsEnded", ended))
}
