//! The way into an account: who somebody is, then what the account asks for beyond that, then a session. Every way in leads
//! through here: password, passkey, directory, set-up link, invitation, another account, recovery.
//!
//! Invariants: [`proof::step`] alone says what comes next, and is asked again in the transaction that begins a session; nothing
//! of an account can be reached from a journey; a session that was gone on from is alive in that transaction too.

use rusqlite::Connection;

use super::{model::SignedIn, queries};
use crate::{
    accounts::{self, Account},
    audit::Entry,
    clock::{DAY, Time},
    error::{Error, Result},
    invitations,
    kernel::Kernel,
    notifications::{self, NewDevice},
    proof::{self, Method, Proof, Step},
    secret::{self, Secret},
    sessions::{self, Journey, Limits, Origin, Session},
    users::{self, Member, User, UserState},
};

/// How long a browser is remembered after its last sign-in.
pub(super) const KNOWN_BROWSER_US: i64 = 180 * DAY;
const KNOWN_BROWSERS_MAX: i64 = 20;

/// Somebody on their way into an account.
pub(super) struct Traveller {
    pub(super) member: Member,
    pub(super) account: Account,
    /// `member` is what this invitation would make of them; it is accepted when they enter.
    pub(super) invitation: Option<Secret<String>>,
}

/// How and from where somebody comes in.
pub(super) struct Entrance {
    pub(super) proof: Proof,
    /// The session that they go on from, if they were signed in.
    pub(super) from: Option<Session>,
    pub(super) origin: Origin,
    /// The browser's session until now.
    pub(super) old_session: Option<Secret<String>>,
    /// The token of a browser that is known to be theirs.
    pub(super) known_token: Option<Secret<String>>,
    /// Where to go in the end.
    pub(super) next: Secret<String>,
}

impl Entrance {
    /// Of a browser that nothing is known of.
    pub(super) fn new(proof: Proof, origin: Origin) -> Self {
        let next = Secret::new(String::new());
        Self { proof, from: None, origin, old_session: None, known_token: None, next }
    }
}

/// What a browser sends along.
#[derive(Clone)]
pub(super) struct Browser {
    pub(super) origin: Origin,
    pub(super) old_session: Option<Secret<String>>,
    /// Of a browser that has come in before, whoever's it is.
    pub(super) known_token: Option<Secret<String>>,
}

/// How far somebody came.
pub(super) enum Arrival {
    In(SignedIn),
    /// Something is missing.
    OnTheWay(Secret<String>),
}

/// Takes somebody who said who they are as far as what they proved leads: into a session, or onto a journey to it.
pub(super) fn arrive(
    c: &Connection,
    kernel: &Kernel,
    traveller: &Traveller,
    entrance: Entrance,
    now: Time,
) -> Result<(Arrival, Vec<Entry>)> {
    if missing(traveller, &entrance.proof) == Step::Enter {
        let (signed_in, entries) = begin(c, kernel, traveller, entrance, now)?;
        return Ok((Arrival::In(signed_in), entries));
    }
    let journey = Journey {
        user_id: traveller.member.user.id.clone(),
        account_id: traveller.account.id,
        session_id: entrance.from.map(|session| session.id),
        proof: entrance.proof,
        next: entrance.next,
    };
    let token = sessions::begin_journey(c, &kernel.key, &journey, now)?;
    let entry = Entry::new("audit.mfa_asked.v1")
        .subject(users::user_urn(&traveller.account.region, Some(traveller.account.id), &journey.user_id))
        .account(traveller.account.id)
        .detail("method", entrance.proof.method.as_str())
        .detail("userAgent", &entrance.origin.user_agent);
    Ok((Arrival::OnTheWay(token), vec![entry]))
}

/// What somebody with this proof still has to do.
pub(super) fn missing(traveller: &Traveller, proof: &Proof) -> Step {
    let Traveller { member, account, .. } = traveller;
    proof::step(proof, member.user.factors, member.mfa_rule(account))
}

/// Takes somebody on a journey as far as what they proved by now leads.
pub(super) fn forward(
    c: &Connection,
    kernel: &Kernel,
    token: &Secret<String>,
    journey: &Journey,
    traveller: &Traveller,
    browser: Browser,
    now: Time,
) -> Result<(Arrival, Vec<Entry>)> {
    let Browser { origin, old_session, known_token } = browser;
    if missing(traveller, &journey.proof) != Step::Enter {
        sessions::change_journey(c, token, journey)?;
        return Ok((Arrival::OnTheWay(token.clone()), Vec::new()));
    }
    // Of two at once one enters: the other finds no journey any more.
    if !sessions::end_journey(c, token)? {
        return Err(Error::Unauthenticated);
    }
    let from = match &journey.session_id {
        Some(id) => {
            let session = alive(c, old_session.as_ref(), &journey.user_id, now)?;
            Some(Some(session).filter(|session| session.id == *id).ok_or(Error::Unauthenticated)?)
        }
        None => None,
    };
    let known_token = known(c, known_token, &traveller.member.user, now)?;
    let next = journey.next.clone();
    let entrance = Entrance { proof: journey.proof, from, origin, old_session, known_token, next };
    let (signed_in, entries) = begin(c, kernel, traveller, entrance, now)?;
    Ok((Arrival::In(signed_in), entries))
}

/// The journey of a token with whoever is on it: still enabled, and still let into the account that it leads to.
pub(super) fn journey(
    c: &Connection,
    kernel: &Kernel,
    token: &Secret<String>,
    now: Time,
) -> Result<Option<(Journey, Traveller)>> {
    let Some(journey) = sessions::find_journey(c, &kernel.key, token, now)? else { return Ok(None) };
    let user = users::find(c, &journey.user_id)?.filter(|user| user.state == UserState::Enabled);
    let Some(user) = user else { return Ok(None) };
    let member = users::find_member(c, &user.id, journey.account_id)?.zip(accounts::find(c, journey.account_id)?);
    let traveller = match member.filter(|(member, account)| member.is_enabled() && account.is_active()) {
        Some((member, account)) => Some(Traveller { member, account, invitation: None }),
        None => match invitations::token_in(journey.next.expose()) {
            Some(token) => invitations::prospect(c, &token, &user, now)?.map(|(member, account)| Traveller {
                member,
                account,
                invitation: Some(token),
            }),
            None => None,
        },
    };
    Ok(traveller.map(|traveller| (journey, traveller)))
}

/// Begins the session of somebody who proved all that is asked for. The old one of this browser ends: a token that was known
/// before sign-in must be worth nothing after it (HOSTILE W01).
fn begin(
    c: &Connection,
    kernel: &Kernel,
    traveller: &Traveller,
    entrance: Entrance,
    now: Time,
) -> Result<(SignedIn, Vec<Entry>)> {
    let Traveller { member, account, invitation } = traveller;
    let Entrance { proof, from, origin, old_session, known_token, .. } = entrance;
    let mut entries = match invitation {
        Some(token) => invitations::accept_existing(c, token, &member.user.email, now)?.entries,
        None => Vec::new(),
    };
    if let Some(token) = old_session {
        sessions::end(c, &token)?;
    }
    let user_id = &member.user.id;
    // A proof does not get younger by going on in another account.
    let last_proof = from.as_ref().map_or(proof.at, |session| session.proved_at);
    let proved_at = proof.factor.map_or(last_proof, |(_, at)| at.max(last_proof));
    let session = sessions::begin(c, user_id, account.id, &origin, proof, proved_at, now)?;
    users::note_sign_in(c, user_id, now)?;
    users::note_activity(c, user_id, account.id, now)?;
    let is_new_browser = known_token.is_none();
    // Only by a proof of who they are: a session that somebody else got hold of must not make a browser theirs.
    let browser_token = known_token.or_else(|| from.is_none().then(secret::random_token));
    if let Some(token) = &browser_token {
        let browser_hash = secret::sha256(token.expose().as_bytes());
        queries::set_known_browser(c, &browser_hash, user_id, now, now.plus(KNOWN_BROWSER_US))?;
        queries::trim_known_browsers(c, user_id, KNOWN_BROWSERS_MAX)?;
    }
    let is_by_link = matches!(proof.method, Method::SetUp | Method::Invitation);
    // The first sign-in of all is no news to whoever does it.
    if is_new_browser && from.is_none() && !is_by_link && member.user.last_sign_in_at.is_some() {
        tell_new_device(c, kernel, member, &origin, now)?;
    }
    metrics::counter!("bailiwick_sign_ins_total", "outcome" => "in").increment(1);
    let entry = Entry::new("audit.signed_in.v1")
        .subject(users::user_urn(&account.region, Some(account.id), user_id))
        .account(account.id)
        .detail("method", if from.is_some() { "switch" } else { proof.method.as_str() })
        .detail("factor", proof.factor.map(|(factor, _)| factor.as_str()))
        .detail("sessionId", session.id)
        .detail("endedToMakeRoom", Some(session.ended).filter(|ended| !ended.is_empty()))
        .detail("newBrowser", is_new_browser)
        .detail("userAgent", &origin.user_agent);
    entries.push(entry);
    let signed_in = SignedIn { session_token: session.token, browser_token, has_joined: invitation.is_some() };
    Ok((signed_in, entries))
}

/// The session of a browser, alive in this transaction. Asked here and not at the door alone, because a session that was ended
/// meanwhile (a new password, signed out everywhere) must not leave an heir, however many requests were on their way (HOSTILE
/// W03, W04).
fn alive(c: &Connection, token: Option<&Secret<String>>, user_id: &str, now: Time) -> Result<Session> {
    let token = token.ok_or(Error::Unauthenticated)?;
    let session = sessions::find(c, token)?.filter(|session| session.user_id == user_id);
    let session = session.ok_or(Error::Unauthenticated)?;
    let account = accounts::find(c, session.account_id)?.ok_or(Error::Unauthenticated)?;
    let (idle_us, lifetime_us) = account.session_limits_us();
    if !sessions::is_alive(&session, Limits { idle_us, lifetime_us }, now) {
        return Err(Error::Unauthenticated);
    }
    Ok(session)
}

/// Going on from the session of a browser: it ends, and another one begins for the same person, with the same proof and age.
pub(super) fn going_on(
    c: &Connection,
    token: Option<Secret<String>>,
    user_id: &str,
    origin: Origin,
    now: Time,
) -> Result<Entrance> {
    let session = alive(c, token.as_ref(), user_id, now)?;
    Ok(Entrance { from: Some(session.clone()), old_session: token, ..Entrance::new(session.proof, origin) })
}

/// A browser's token, if it has signed in as this user before.
pub(super) fn known(
    c: &Connection,
    token: Option<Secret<String>>,
    user: &User,
    now: Time,
) -> Result<Option<Secret<String>>> {
    let Some(token) = token else { return Ok(None) };
    let hash = secret::sha256(token.expose().as_bytes());
    Ok(queries::is_known_browser(c, &hash, &user.id, user.password_changed_at, now)?.then_some(token))
}

/// Mails a user that somebody signed in as them from a browser that was not seen before.
fn tell_new_device(c: &Connection, kernel: &Kernel, member: &Member, origin: &Origin, now: Time) -> Result<()> {
    let Some(link) = notifications::notice_link(c, &kernel.config, "new-device", "/profile")? else { return Ok(()) };
    let Ok(address) = origin.address.parse() else { return Ok(()) };
    let device = sessions::browser(&origin.user_agent);
    let mail = NewDevice { device: &device, address, at: now, link: &link };
    notifications::notify(c, &kernel.key, mail.mail(&member.user.email, &member.user.locale), now)?;
    Ok(())
}
