//! Passkeys: made by somebody who is signed in or on their way, used as a second factor, or alone by somebody who has not said
//! who they are.
//!
//! Everything runs inside the caller's transaction. A question is worth one answer: it is taken out of the table in the
//! transaction that looks at the answer, right or wrong, so a refusal is a value here and not an error, which would put it
//! back. When a question expires is decided by the kernel's clock. Whether somebody may enrol now, whether they are let in, and
//! how often a stranger may ask, is for the caller.

use rusqlite::Connection;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;
use webauthn_rs::prelude::{DiscoverableAuthentication, Passkey, PasskeyRegistration};

use super::{
    enrol::{self, Enrolled},
    model::{Outcome, check_name},
    passkey_queries::{self as queries, Asked, Held},
    relying_party::{Refusal, RelyingParty},
};
use crate::{
    audit::{self, Entry},
    clock::{MINUTE, Time},
    error::{Error, Result},
    kernel::Kernel,
    notifications::{self, MfaChange, MfaChanged},
    proof::Factor,
    secret::{self, Secret},
    users::{self, User},
};

/// How long a question may be answered.
const CHALLENGE_US: i64 = 2 * MINUTE;
/// Passkeys that one user can have: several devices and a spare one.
pub(super) const PASSKEYS_MAX: usize = 10;
/// Questions to one user that are open at once: some tabs.
const OPEN_MAX: i64 = 10;
/// The same for all who have not said who they are.
pub(super) const DISCOVERIES_MAX: i64 = 1_000;

/// What an authenticator is asked for.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Register,
    Factor,
    Discover,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Factor => "factor",
            Self::Discover => "discover",
        }
    }
}

/// A question to an authenticator.
pub struct Challenge {
    /// Comes back with the answer.
    pub token: Secret<String>,
    /// `PublicKeyCredentialCreationOptionsJSON` or `PublicKeyCredentialRequestOptionsJSON`.
    pub options: Value,
}

impl Challenge {
    /// As `static/js/passkeys.js` takes it.
    pub fn as_json(&self) -> Value {
        json!({"challenge": self.token.expose(), "options": self.options})
    }
}

/// An answer, as a browser sends it.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The token of the question.
    pub token: &'a str,
    /// `PublicKeyCredential.toJSON()`.
    pub credential: &'a str,
    /// From where, as it is shown to people.
    pub address: &'a str,
}

/// What became of a registration.
pub enum Registration {
    Enrolled(Enrolled),
    /// A sentence for whoever tried.
    Refused(&'static str),
}

/// What became of a discovery.
#[derive(Debug, PartialEq, Eq)]
pub enum Discovery {
    /// This user was here. They may be disabled, or in no account.
    Proved(String),
    /// Nobody is known to have been here. For the record: the user whose passkey it was to be, if there is such a one.
    Refused(Option<String>),
}

fn hash(token: &str) -> [u8; 32] {
    secret::sha256(token.as_bytes())
}

fn ask(
    c: &Connection,
    purpose: Purpose,
    user_id: Option<&str>,
    (options, state): (Value, impl Serialize),
    now: Time,
) -> Result<Challenge> {
    let token = secret::random_token();
    let asked = Asked {
        purpose: purpose.as_str().to_owned(),
        user_id: user_id.map(str::to_owned),
        state: write(&state)?,
        expires_at: now.plus(CHALLENGE_US),
    };
    let open_max = if user_id.is_some() { OPEN_MAX } else { DISCOVERIES_MAX };
    // Not by the microsecond: of two requests at once the earlier one may be written later.
    queries::purge_asked(c, now, asked.expires_at.plus(CHALLENGE_US))?;
    queries::insert_asked(c, &hash(token.expose()), &asked, open_max)?;
    Ok(Challenge { token, options })
}

/// What was asked with this token, for this purpose and of this user; it is worth nothing from now on.
fn take<T: DeserializeOwned>(
    c: &Connection,
    token: &str,
    purpose: Purpose,
    user_id: Option<&str>,
    now: Time,
) -> Result<Option<T>> {
    let Some(asked) = queries::take_asked(c, &hash(token))? else { return Ok(None) };
    // One that was asked in the future is of a clock that was set back: it must not last for longer than any other.
    let is_open = (1..=CHALLENGE_US).contains(&asked.expires_at.since(now));
    if !is_open || asked.purpose != purpose.as_str() || asked.user_id.as_deref() != user_id {
        return Ok(None);
    }
    read(&asked.state).map(Some)
}

fn write(own: &impl Serialize) -> Result<String> {
    serde_json::to_string(own).map_err(|e| Error::caused("what belongs to a passkey could not be written", e))
}

fn read<T: DeserializeOwned>(own: &str) -> Result<T> {
    serde_json::from_str(own).map_err(|e| Error::caused("what belongs to a passkey could not be read", e))
}

/// What authenticators call a user by: nothing that says who it is.
fn user_handle(user_id: &str) -> Result<Uuid> {
    Uuid::parse_str(user_id).map_err(|e| Error::caused("the id of a user is no UUID", e))
}

/// How somebody comes in without passkeys.
const OTHER_WAYS: &str = "Use another factor or a recovery code, or ask an administrator to reset your second factors.";

fn check_room(held: &[Held]) -> Result<()> {
    if held.len() >= PASSKEYS_MAX {
        return Err(Error::Conflict(format!("You have {PASSKEYS_MAX} passkeys. Remove one of them first.")));
    }
    Ok(())
}

/// Asks for a new passkey of a user.
pub fn begin_registration(c: &Connection, rp: &RelyingParty, user: &User, now: Time) -> Result<Challenge> {
    let held = queries::of_user(c, &user.id)?;
    check_room(&held)?;
    let known = held.into_iter().filter(|held| held.rp_id == rp.id()).map(|held| held.credential_id).collect();
    let asked = rp.ask_registration(user_handle(&user.id)?, &user.email, &user.name, known)?;
    ask(c, Purpose::Register, Some(&user.id), asked, now)
}

/// The console as passkeys know it, or why there are none.
pub fn relying_party(c: &Connection, kernel: &Kernel) -> Result<Result<RelyingParty, &'static str>> {
    Ok(RelyingParty::of(notifications::base_url(c, &kernel.config)?.as_deref()))
}

/// Takes a new passkey of a user in. What is wrong with the name, or that there is no room, is an error: nothing was looked at.
pub fn finish_registration(
    c: &Connection,
    kernel: &Kernel,
    rp: &RelyingParty,
    user: &User,
    answer: Answer<'_>,
    name: &str,
    now: Time,
) -> Result<Registration> {
    let name = check_name("name", name)?;
    check_room(&queries::of_user(c, &user.id)?)?;
    let state: Option<PasskeyRegistration> = take(c, answer.token, Purpose::Register, Some(&user.id), now)?;
    let Some(state) = state else {
        return Ok(Registration::Refused("This took longer than two minutes. Try again."));
    };
    let passkey = match rp.registration(&state, answer.credential) {
        Ok(passkey) => passkey,
        Err(refusal) => return Ok(Registration::Refused(why_not_added(refusal))),
    };
    let credential_id: &[u8] = passkey.cred_id();
    if queries::find(c, credential_id)?.is_some() {
        return Ok(Registration::Refused("This passkey was added before."));
    }
    let held = Held {
        credential_id: credential_id.to_vec(),
        user_id: user.id.clone(),
        name: name.clone(),
        rp_id: rp.id().to_owned(),
        credential: write(&passkey)?,
    };
    queries::insert(c, &Uuid::now_v7().to_string(), &held, now)?;
    enrol::added(c, kernel, user, Factor::Passkey, &name, answer.address, now).map(Registration::Enrolled)
}

fn why_not_added(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotVerified => {
            "The device did not check that it is you. Set a PIN, a fingerprint or your face up on it, and try again."
        }
        Refusal::Unsupported => "This device makes keys of a kind that is not supported. Use another one.",
        _ => "What your browser sent is no passkey for this console. Try again, or use another device.",
    }
}

/// Asks for one of a user's passkeys, as a second factor.
pub fn begin_factor(c: &Connection, rp: &RelyingParty, user_id: &str, now: Time) -> Result<Challenge> {
    let (here, elsewhere): (Vec<_>, Vec<_>) =
        queries::of_user(c, user_id)?.into_iter().partition(|held| held.rp_id == rp.id());
    if here.is_empty() {
        let message = match elsewhere.first() {
            Some(held) => format!(
                "Your passkeys were made for {}, and the console is reached under {} now: no browser offers them here. {OTHER_WAYS}",
                held.rp_id,
                rp.id(),
            ),
            None => format!("You have no passkey. {OTHER_WAYS}"),
        };
        return Err(Error::Conflict(message));
    }
    let allowed: Vec<_> = here.into_iter().map(|held| held.credential_id).collect();
    ask(c, Purpose::Factor, Some(user_id), rp.ask_assertion(&allowed)?, now)
}

/// Asks for any passkey for this console, of somebody who has not said who they are.
pub fn begin_discovery(c: &Connection, rp: &RelyingParty, now: Time) -> Result<Challenge> {
    ask(c, Purpose::Discover, None, rp.ask_assertion(&[])?, now)
}

/// A passkey of a user as their second factor. The caller says whose the records are.
pub fn finish_factor(
    c: &Connection,
    kernel: &Kernel,
    rp: &RelyingParty,
    user_id: &str,
    answer: Answer<'_>,
    now: Time,
) -> Result<(Outcome, Vec<Entry>)> {
    let (found, entries) = finish(c, kernel, rp, Some(user_id), answer, now)?;
    let is_right = matches!(found, Discovery::Proved(_));
    Ok((if is_right { Outcome::Right(Factor::Passkey) } else { Outcome::Wrong }, entries))
}

/// A passkey alone: whose it is, if it is right.
pub fn finish_discovery(
    c: &Connection,
    kernel: &Kernel,
    rp: &RelyingParty,
    answer: Answer<'_>,
    now: Time,
) -> Result<(Discovery, Vec<Entry>)> {
    let (found, entries) = finish(c, kernel, rp, None, answer, now)?;
    let whose = match &found {
        Discovery::Refused(Some(user_id)) => user_id.as_str(),
        _ => return Ok((found, entries)),
    };
    let entries = entries.into_iter().map(|entry| entry.detail("userId", whose)).collect();
    Ok((found, entries))
}

/// Who has proved to be who they are: the user that was asked, or of a discovery whoever the passkey belongs to.
fn finish(
    c: &Connection,
    kernel: &Kernel,
    rp: &RelyingParty,
    asked: Option<&str>,
    answer: Answer<'_>,
    now: Time,
) -> Result<(Discovery, Vec<Entry>)> {
    let purpose = if asked.is_some() { Purpose::Factor } else { Purpose::Discover };
    // As with codes: what cannot be an answer leaves no record, since anybody can send it.
    let nothing = || Ok((Discovery::Refused(None), Vec::new()));
    let state: Option<DiscoverableAuthentication> = take(c, answer.token, purpose, asked, now)?;
    let Some(state) = state else { return nothing() };
    let Ok(signed) = RelyingParty::read_assertion(answer.credential) else { return nothing() };
    let held = queries::find(c, signed.get_credential_id())?.filter(|held| held.rp_id == rp.id());
    let Some(held) = held else {
        let entry = asked.map(|_| failed(Refusal::UnknownPasskey));
        return Ok((Discovery::Refused(None), entry.into_iter().collect()));
    };
    // Whoever was not asked by name has to be named by their authenticator (WebAuthn, 7.2, step 6).
    let handle = signed.get_user_unique_id();
    let is_theirs = match asked {
        Some(user_id) => held.user_id == user_id && handle.is_none_or(|handle| is_handle_of(handle, user_id)),
        None => handle.is_some_and(|handle| is_handle_of(handle, &held.user_id)),
    };
    let mut passkey: Passkey = read(&held.credential)?;
    let result = match is_theirs {
        true => rp.assertion(state, &signed, &passkey),
        false => Err(Refusal::UnknownPasskey),
    };
    let entry = match result {
        Ok(result) => {
            passkey.update_credential(&result);
            queries::note_use(c, &held.credential_id, &write(&passkey)?, now)?;
            return Ok((Discovery::Proved(held.user_id), Vec::new()));
        }
        Err(Refusal::CounterRegressed) => regressed(c, kernel, &held, answer.address, now)?,
        Err(refusal) => failed(refusal),
    };
    Ok((Discovery::Refused(Some(held.user_id)), vec![entry]))
}

fn is_handle_of(handle: &[u8], user_id: &str) -> bool {
    user_handle(user_id).is_ok_and(|expected| expected.as_bytes() == handle)
}

fn failed(refusal: Refusal) -> Entry {
    Entry::new("audit.mfa_failed.v1")
        .outcome(audit::Outcome::Failure)
        .detail("what", "passkey")
        .detail("why", refusal.as_str())
}

/// The signature is right, and so there are two with this key, or a device that counts wrongly. Which of the two was here
/// nobody knows; the user decides whether to remove it.
fn regressed(c: &Connection, kernel: &Kernel, held: &Held, address: &str, now: Time) -> Result<Entry> {
    if let Some(user) = users::find(c, &held.user_id)? {
        let mail = MfaChanged { change: MfaChange::Copied { name: &held.name }, at: now, address };
        notifications::notify(c, &kernel.key, mail.mail(&user.email, &user.locale), now)?;
    }
    Ok(Entry::new("audit.passkey_counter_regressed.v1").outcome(audit::Outcome::Failure).detail("name", &held.name))
}
