//! The steps of a journey: proving a factor, enrolling one, standing in with a recovery code, choosing another account.
//!
//! A step looks at the journey inside the transaction that it writes in: of two at once exactly one goes on, and what was true
//! when the page was shown need not be true any more. It must never let a journey do anything that is not its next step: whoever
//! has a factor does not enrol another one before they have proved it (HOSTILE A11).

use rusqlite::Connection;

use super::path::{self, Arrival, Browser, Traveller};
use crate::{
    accounts::{self, Account},
    audit::{self, Entry},
    clock::Time,
    error::{Error, Result},
    kernel::Kernel,
    mfa::{self, Challenge, Registration, RelyingParty, TotpEnrolment},
    principal::{AccountId, Principal},
    proof::{Proof, Step},
    secret::{self, Secret},
    sessions::{self, Journey},
    users::{self, Member, User},
    web::Address,
};

/// A journey as its pages show it.
pub(super) struct Standing {
    pub(super) step: Step,
    pub(super) user: User,
    pub(super) account: Account,
    /// Whether they have an authenticator app and a passkey.
    pub(super) has_totp: bool,
    pub(super) has_passkey: bool,
    pub(super) has_codes: bool,
    /// Why there can be no passkeys; empty when there can.
    pub(super) unavailable: &'static str,
    /// They are going on from a session.
    pub(super) is_signed_in: bool,
    /// Other accounts that they could enter instead.
    pub(super) others: Vec<Account>,
}

/// How a step ended.
pub(super) enum Stepped {
    /// They went on; where to in the end.
    On(Arrival, Secret<String>),
    Wrong,
    TooMany {
        retry_after_s: u64,
    },
}

/// What was enrolled on the way.
pub(super) struct EnrolledOnTheWay {
    pub(super) arrival: Arrival,
    pub(super) next: Secret<String>,
    /// The recovery codes that came with it.
    pub(super) codes: Option<Vec<Secret<String>>>,
}

/// What somebody proves a factor by.
pub(super) enum Answer {
    Code(String),
    Recovery(String),
    /// The token of the question, and what the browser answered.
    Passkey(Secret<String>, String),
}

/// Where a journey stands.
pub(super) async fn standing(kernel: &Kernel, token: Secret<String>) -> Result<Option<Standing>> {
    let (own, now) = (kernel.clone(), kernel.clock.now());
    kernel
        .db
        .read(move |c| {
            let Some((journey, traveller)) = path::journey(c, &own, &token, now)? else { return Ok(None) };
            let step = path::missing(&traveller, &journey.proof);
            let has_codes = mfa::recovery_set(c, &journey.user_id)?.is_some_and(|set| set.left > 0);
            let others = others(c, &journey.user_id, traveller.account.id)?;
            let factors = traveller.member.user.factors;
            Ok(Some(Standing {
                step,
                user: traveller.member.user,
                account: traveller.account,
                is_signed_in: journey.session_id.is_some(),
                has_totp: factors.totp,
                unavailable: mfa::relying_party(c, &own)?.err().unwrap_or_default(),
                has_passkey: factors.passkey,
                has_codes,
                others,
            }))
        })
        .await
}

/// The accounts that somebody may enter, but for one.
fn others(c: &Connection, user_id: &str, but: AccountId) -> Result<Vec<Account>> {
    let mut others = Vec::new();
    for id in users::accounts_of(c, user_id)?.into_iter().filter(|id| *id != but) {
        others.extend(accounts::find(c, id)?.filter(Account::is_active));
    }
    others.sort_by(|a, b| a.alias.cmp(&b.alias));
    Ok(others)
}

/// What is on record about somebody on a journey, in the account that it leads to.
fn about(traveller: &Traveller, entries: Vec<Entry>) -> Vec<Entry> {
    let (urn, account) = (urn(traveller), traveller.account.id);
    entries.into_iter().map(|entry| entry.subject(&urn).account(account)).collect()
}

/// What they did by themselves, now that it is known who they are.
fn by(urn: &str, entries: Vec<Entry>) -> Vec<Entry> {
    entries.into_iter().map(|entry| entry.by(urn)).collect()
}

/// Whoever is on a journey, as the record names them.
fn urn(traveller: &Traveller) -> String {
    let Traveller { member, account, .. } = traveller;
    users::user_urn(&account.region, Some(account.id), &member.user.id)
}

/// Does something with the journey of a token, in one transaction, as a stranger: who it is is what is being proved.
async fn with_journey<T, F>(kernel: &Kernel, token: &Secret<String>, address: &Address, step: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&Connection, Journey, Traveller, Time) -> Result<(T, Vec<Entry>)> + Send + 'static,
{
    let (own, token, now) = (kernel.clone(), token.clone(), kernel.clock.now());
    let stranger = Principal::stranger(&kernel.config.region, Some(address.ip), Some(address.request_id.clone()));
    audit::change(kernel, &stranger, move |c| {
        let (journey, traveller) = path::journey(c, &own, &token, now)?.ok_or(Error::Unauthenticated)?;
        step(c, journey, traveller, now)
    })
    .await
}

/// Proves a factor on the way.
pub(super) async fn prove(
    kernel: &Kernel,
    token: Secret<String>,
    address: &Address,
    browser: Browser,
    answer: Answer,
) -> Result<Stepped> {
    let (own, from, asked) = (kernel.clone(), address.ip.to_string(), token.clone());
    with_journey(kernel, &token, address, move |c, mut journey, traveller, now| {
        let user = &traveller.member.user;
        let passkey_only = match path::missing(&traveller, &journey.proof) {
            Step::Factor { passkey_only } => passkey_only,
            // Somebody else of theirs was faster, or nothing is asked for any more.
            _ => {
                let next = journey.next.clone();
                return Ok((Stepped::On(Arrival::OnTheWay(asked), next), Vec::new()));
            }
        };
        let known = path::known(c, browser.known_token.clone(), user, now)?;
        let known = known.map(|token| secret::sha256(token.expose().as_bytes()));
        let from = mfa::From { known_browser: known.as_ref().map(<[u8; 32]>::as_slice), address: &from };
        let (outcome, entries) = match &answer {
            Answer::Code(_) if passkey_only => {
                return Err(Error::field("code", "This account takes passkeys only."));
            }
            Answer::Code(code) => mfa::prove_code(c, &own, user, code, from, now)?,
            Answer::Recovery(code) => mfa::recover(c, &own, user, code, from, now)?,
            Answer::Passkey(challenge, credential) => {
                let answer = mfa::Answer { token: challenge.expose(), credential, address: from.address };
                mfa::finish_factor(c, &own, &rp(c, &own)?, &user.id, answer, now)?
            }
        };
        let mut entries = about(&traveller, entries);
        match outcome {
            mfa::Outcome::Wrong => Ok((Stepped::Wrong, entries)),
            mfa::Outcome::TooMany { retry_after_s } => Ok((Stepped::TooMany { retry_after_s }, entries)),
            mfa::Outcome::Right(factor) => {
                let urn = urn(&traveller);
                let next = journey.next.clone();
                let (arrival, more) = match answer {
                    Answer::Recovery(_) => (restart(c, &own, &journey, now)?, Vec::new()),
                    Answer::Code(_) | Answer::Passkey(..) => {
                        journey.proof = journey.proof.with(factor, now);
                        path::forward(c, &own, &asked, &journey, &traveller, browser, now)?
                    }
                };
                entries.extend(more);
                Ok((Stepped::On(arrival, next), by(&urn, entries)))
            }
        }
    })
    .await
}

/// After a recovery code everything of this user has ended, the journey too. They go on with a new one, from their password.
fn restart(c: &Connection, kernel: &Kernel, journey: &Journey, now: Time) -> Result<Arrival> {
    let proof = Proof { factor: None, ..journey.proof };
    let journey = Journey { session_id: None, proof, ..journey.clone() };
    Ok(Arrival::OnTheWay(sessions::begin_journey(c, &kernel.key, &journey, now)?))
}

/// The app that is being enrolled on the way; nothing when that is not the next step, or only a passkey would do.
pub(super) async fn begin_totp(kernel: &Kernel, token: &Secret<String>) -> Result<Option<TotpEnrolment>> {
    let (own, token, now) = (kernel.clone(), token.clone(), kernel.clock.now());
    kernel
        .db
        .write(move |c| {
            let Some((journey, traveller)) = path::journey(c, &own, &token, now)? else { return Ok(None) };
            match path::missing(&traveller, &journey.proof) {
                Step::Enrol { passkey_only: false } => {
                    mfa::begin_totp(c, &own.key, &traveller.member.user, now).map(Some)
                }
                _ => Ok(None),
            }
        })
        .await
}

/// The console as passkeys know it; a conflict that says why when there are none.
pub(super) fn rp(c: &Connection, kernel: &Kernel) -> Result<RelyingParty> {
    mfa::relying_party(c, kernel)?.map_err(|why| Error::Conflict(why.into()))
}

/// The question to an authenticator that is the next step, if that is a passkey's: to use one, or to make one.
pub(super) async fn ask_passkey(kernel: &Kernel, token: Secret<String>, is_new: bool) -> Result<Challenge> {
    let (own, now) = (kernel.clone(), kernel.clock.now());
    kernel
        .db
        .write(move |c| {
            let (journey, traveller) = path::journey(c, &own, &token, now)?.ok_or(Error::Unauthenticated)?;
            let user = &traveller.member.user;
            match path::missing(&traveller, &journey.proof) {
                Step::Factor { .. } if !is_new => mfa::begin_factor(c, &rp(c, &own)?, &user.id, now),
                Step::Enrol { .. } if is_new => mfa::begin_registration(c, &rp(c, &own)?, user, now),
                _ => Err(Error::Conflict("This is not asked for any more. Reload the page.".into())),
            }
        })
        .await
}

/// What somebody enrols.
pub(super) enum Enrolment {
    Totp { id: String, name: String, code: String },
    Passkey { name: String, challenge: Secret<String>, credential: String },
}

/// How an enrolment on the way ended.
pub(super) enum Enrolling {
    Done(EnrolledOnTheWay),
    /// A sentence for whoever tried.
    Refused(&'static str),
}

/// Enrols a factor on the way, which proves it too.
pub(super) async fn enrol(
    kernel: &Kernel,
    token: Secret<String>,
    address: &Address,
    browser: Browser,
    enrolment: Enrolment,
) -> Result<Enrolling> {
    let (own, from, asked) = (kernel.clone(), address.ip.to_string(), token.clone());
    with_journey(kernel, &token, address, move |c, mut journey, traveller, now| {
        let user = &traveller.member.user;
        let passkey_only = match path::missing(&traveller, &journey.proof) {
            Step::Enrol { passkey_only } => passkey_only,
            _ => return Err(Error::Conflict("A second factor was enrolled meanwhile. Go on with that one.".into())),
        };
        let enrolled = match &enrolment {
            Enrolment::Totp { .. } if passkey_only => {
                return Err(Error::Conflict("This account takes passkeys only.".into()));
            }
            Enrolment::Totp { id, name, code } => {
                mfa::confirm_totp(c, &own, user, mfa::FirstCode { id, name, code, address: &from }, now)?
            }
            Enrolment::Passkey { name, challenge, credential } => {
                let answer = mfa::Answer { token: challenge.expose(), credential, address: &from };
                match mfa::finish_registration(c, &own, &rp(c, &own)?, user, answer, name, now)? {
                    Registration::Enrolled(enrolled) => enrolled,
                    Registration::Refused(why) => return Ok((Enrolling::Refused(why), Vec::new())),
                }
            }
        };
        let urn = urn(&traveller);
        journey.proof = journey.proof.with(enrolled.kind, now);
        // The user has one factor more than when the journey was looked up.
        let (journey, traveller) = match path::journey(c, &own, &asked, now)? {
            Some((_, traveller)) => (journey, traveller),
            None => return Err(Error::Unauthenticated),
        };
        let next = journey.next.clone();
        let (arrival, more) = path::forward(c, &own, &asked, &journey, &traveller, browser, now)?;
        let mut entries = about(&traveller, enrolled.entries);
        entries.extend(more);
        Ok((Enrolling::Done(EnrolledOnTheWay { arrival, next, codes: enrolled.codes }), by(&urn, entries)))
    })
    .await
}

/// Turns to another account of the same user.
pub(super) async fn turn_to(
    kernel: &Kernel,
    token: Secret<String>,
    address: &Address,
    browser: Browser,
    account: AccountId,
) -> Result<Arrival> {
    let (own, asked) = (kernel.clone(), token.clone());
    with_journey(kernel, &token, address, move |c, mut journey, _, now| {
        let member = users::find_member(c, &journey.user_id, account)?.filter(Member::is_enabled);
        let member = member.ok_or(Error::NotFound("This account"))?;
        let account = accounts::find(c, account)?.filter(Account::is_active).ok_or(Error::NotFound("This account"))?;
        journey.account_id = account.id;
        let traveller = Traveller { member, account, invitation: None };
        let urn = urn(&traveller);
        let (arrival, entries) = path::forward(c, &own, &asked, &journey, &traveller, browser, now)?;
        Ok((arrival, by(&urn, entries)))
    })
    .await
}

/// Goes on when nothing is missing any more.
pub(super) async fn go_in(
    kernel: &Kernel,
    token: Secret<String>,
    address: &Address,
    browser: Browser,
) -> Result<(Arrival, Secret<String>)> {
    let (own, asked) = (kernel.clone(), token.clone());
    with_journey(kernel, &token, address, move |c, journey, traveller, now| {
        let (urn, next) = (urn(&traveller), journey.next.clone());
        let (arrival, entries) = path::forward(c, &own, &asked, &journey, &traveller, browser, now)?;
        Ok(((arrival, next), by(&urn, entries)))
    })
    .await
}

/// Begins a journey from a session whose account asks for more than was proved.
pub(super) async fn from_session(
    kernel: &Kernel,
    address: &Address,
    browser: Browser,
    next: Secret<String>,
) -> Result<Arrival> {
    let (own, now) = (kernel.clone(), kernel.clock.now());
    let stranger = Principal::stranger(&kernel.config.region, Some(address.ip), Some(address.request_id.clone()));
    audit::change(kernel, &stranger, move |c| {
        let Browser { origin, old_session, known_token } = browser;
        let session = match &old_session {
            Some(token) => sessions::find(c, token)?.ok_or(Error::Unauthenticated)?,
            None => return Err(Error::Unauthenticated),
        };
        let member = users::find_member(c, &session.user_id, session.account_id)?.filter(Member::is_enabled);
        let account = accounts::find(c, session.account_id)?.filter(Account::is_active);
        let (member, account) = member.zip(account).ok_or(Error::Unauthenticated)?;
        let entrance = path::going_on(c, old_session, &session.user_id, origin, now)?;
        let known_token = path::known(c, known_token, &member.user, now)?;
        let entrance = path::Entrance { known_token, next, ..entrance };
        let traveller = Traveller { member, account, invitation: None };
        let urn = urn(&traveller);
        let (arrival, entries) = path::arrive(c, &own, &traveller, entrance, now)?;
        Ok((arrival, by(&urn, entries)))
    })
    .await
}

/// Gives a journey up.
pub(super) async fn cancel(kernel: &Kernel, token: Secret<String>) -> Result<()> {
    kernel.db.write(move |c| sessions::end_journey(c, &token).map(|_| ())).await
}
