//! Links that prove something: that an address belongs to a user, or that somebody who forgot a password reads their mail.
//!
//! Owns `user_token`. Invariants: the table holds SHA-256 of the token, never the token; a link works once, for a short
//! time, for one user and one address, and not after the password or the address was changed in another way (HOSTILE
//! A19); a new password ends every session and signs nobody in, so that it never stands in for a second factor (A21); who
//! asks is told the same whether the address is known or not (A17), and nobody's mailbox is flooded (A23).

use rusqlite::Connection;
use serde_json::json;

use super::{
    actions,
    model::{User, UserState, check_email, fold_email, user_urn},
    passwords::{Comparison, Passwords, check_password},
    queries::{self, Handover, Token},
};
use crate::{
    accounts,
    audit::{self, Entry, Flood, Outcome},
    clock::{DAY, HOUR, Time},
    error::{Error, Result},
    kernel::Kernel,
    notifications::{self, AddressChange, HandedLink, PasswordChanged, PasswordReset, VerifyAddress},
    principal::{AccountId, Principal},
    secret::{self, MasterKey, Secret},
    sessions,
    web::{Address, href},
};

const RESET: &str = "reset-password";
/// The page where a link for a new password leads.
const RESET_PAGE: &str = "/reset-password";
const VERIFY: &str = "verify-email";
/// How long a link that proves an address works.
const VERIFY_US: i64 = DAY;
/// Links of one kind that a user gets in an hour.
const EACH_HOUR: i64 = 3;
/// Links that are asked for from one address in an hour.
const FROM_ONE_ADDRESS: u64 = 20;
/// What a link that does not work says: not why.
const DEAD: &str =
    "This link does not work any more: it is used up, too old, or was replaced by a newer one. Ask for a new one.";

/// Who asks for links, from where; cheap to clone, one for the whole process.
#[derive(Clone, Default)]
pub struct Asking(Flood);

fn dead() -> Error {
    Error::Conflict(DEAD.into())
}

fn hash(token: &str) -> [u8; 32] {
    secret::sha256(token.as_bytes())
}

/// Makes a token; the older ones of its kind end.
fn issue(
    c: &Connection,
    user: &User,
    purpose: &str,
    email: &str,
    handed: Option<Handover>,
    lifetime_us: i64,
    now: Time,
) -> Result<Secret<String>> {
    queries::end_tokens(c, &user.id, purpose, now)?;
    let token = secret::random_token();
    let stored = Token {
        user_id: user.id.clone(),
        email: email.to_owned(),
        handed,
        created_at: now,
        expires_at: now.plus(lifetime_us),
    };
    queries::insert_token(c, &hash(token.expose()), purpose, &stored)?;
    Ok(token)
}

/// The user of a token that works now.
fn find(c: &Connection, token: &str, purpose: &str, now: Time) -> Result<Option<(User, Token)>> {
    let Some(found) = queries::find_token(c, &hash(token), purpose)?.filter(|found| now < found.expires_at) else {
        return Ok(None);
    };
    let user = queries::find(c, &found.user_id)?.filter(|user| user.state == UserState::Enabled);
    let Some(user) = user else { return Ok(None) };
    Ok(may_still_be_handed(c, &user, found.handed.as_ref())?.then_some((user, found)))
}

/// Why nobody but the user asks for a link to set a new password: whoever has it has the user, and all that they own (HOSTILE
/// R04). `None`: an administrator of their only account may.
fn why_not_handed(c: &Connection, user: &User, account: AccountId) -> Result<Option<&'static str>> {
    Ok(match actions::reach(c, user, account)? {
        actions::Reach::Here => None,
        actions::Reach::Appliance => {
            Some("This user owns the appliance, so they ask for a new password themselves, by mail, or at the machine.")
        }
        actions::Reach::Elsewhere => Some(
            "This user belongs to more than this account, so they ask for a new password themselves, by mail, or \
             somebody sets one at the machine.",
        ),
    })
}

/// Whether what allowed a link to be handed over still does. Whoever copied it may have it yet when the user comes to own more,
/// or to hold more than them.
fn may_still_be_handed(c: &Connection, user: &User, handed: Option<&Handover>) -> Result<bool> {
    let Some(Handover { account, made_by }) = handed else { return Ok(true) };
    let Some(member) = queries::find_member(c, &user.id, *account)? else { return Ok(false) };
    if why_not_handed(c, user, *account)?.is_some() {
        return Ok(false);
    }
    made_by.as_ref().map_or(Ok(true), |made_by| actions::may_give(c, made_by, *account, &member.role))
}

/// Ends every link of a user whose password was changed, and tells them by mail. The links that prove an address too:
/// whoever had the old password may have asked for one, and would come back by it.
pub(super) fn tell_changed(c: &Connection, key: &MasterKey, user: &User, address: &str, now: Time) -> Result<()> {
    queries::end_tokens(c, &user.id, RESET, now)?;
    queries::end_tokens(c, &user.id, VERIFY, now)?;
    notifications::notify(c, key, PasswordChanged { at: now, address }.mail(&user.email, &user.locale), now)?;
    Ok(())
}

/// The account whose log something about a user belongs to.
fn log_account(c: &Connection, user: &User) -> Result<Option<AccountId>> {
    Ok(queries::accounts_of(c, &user.id)?.into_iter().next())
}

fn about(c: &Connection, region: &str, kind: &'static str, user: &User) -> Result<Entry> {
    let account = log_account(c, user)?;
    let entry = Entry::new(kind).subject(user_urn(region, account, &user.id));
    Ok(match account {
        Some(account) => entry.account(account),
        None => entry,
    })
}

// --- a forgotten password ---

/// Whether a link can be mailed at all; the same for everybody, so anybody may know.
pub async fn can_mail(kernel: &Kernel) -> Result<bool> {
    let config = kernel.config.clone();
    kernel
        .db
        .read(move |c| Ok(notifications::is_configured(c)? && notifications::base_url(c, &config)?.is_some()))
        .await
}

/// Mails a link for a new password, if there is a user with this address. Answers at once and does the work afterwards:
/// neither words nor time tell whether there is one.
pub fn ask_for_reset(kernel: &Kernel, asking: &Asking, email: &str, address: &Address) -> Result<()> {
    let now = kernel.clock.now();
    if asking.0.admit(&format!("reset:{}", address.network()), FROM_ONE_ADDRESS, HOUR, now).is_none() {
        return Err(Error::TooManyRequests { retry_after_s: 3600 });
    }
    let (kernel, folded, address) = (kernel.clone(), fold_email(email), address.clone());
    tokio::spawn(async move {
        if let Err(error) = mail_reset(&kernel, folded, &address, now).await {
            tracing::warn!(error = %error.chain(), "a link for a new password could not be mailed");
        }
    });
    Ok(())
}

async fn mail_reset(kernel: &Kernel, folded: String, address: &Address, now: Time) -> Result<()> {
    let region = kernel.config.region.clone();
    let stranger = Principal::stranger(&region, Some(address.ip), Some(address.request_id.clone()));
    let (own, ip) = (kernel.clone(), address.ip);
    audit::change(kernel, &stranger, move |c| {
        let Some(user) = queries::find_by_email(c, &folded)? else { return Ok(((), Vec::new())) };
        let entry = about(c, &region, "audit.password_reset_asked.v1", &user)?;
        if user.state != UserState::Enabled {
            return Ok(((), vec![entry.outcome(Outcome::Denied).detail("reason", "the user is disabled")]));
        }
        if queries::count_tokens(c, &user.id, RESET, now.plus(-HOUR))? >= EACH_HOUR {
            let why = "three links were made in the last hour";
            return Ok(((), vec![entry.outcome(Outcome::Denied).detail("reason", why)]));
        }
        let token = issue(c, &user, RESET, &user.email, None, PasswordReset::LIFETIME_US, now)?;
        let link = notifications::link(c, &own.config, &href(RESET_PAGE, &[("token", token.expose())]))?;
        let mail = PasswordReset { link: &link, asked_at: now, address: ip }.mail(&user.email, &user.locale)?;
        notifications::enqueue(c, &own.key, mail, now)?;
        Ok(((), vec![entry]))
    })
    .await
}

/// How a link for a new password left the appliance.
pub enum Handed {
    /// Mailed to the user.
    Mailed,
    /// To be handed over by whoever asked for it; shown once.
    ToCopy(HandedLink),
}

/// A link for somebody else's new password, by an administrator who holds at least as much (HOSTILE R04).
pub(super) async fn make_reset(kernel: &Kernel, principal: &Principal, id: String) -> Result<Handed> {
    let (who, now, own) = (principal.clone(), kernel.clock.now(), kernel.clone());
    let attempt =
        Entry::new("audit.password_reset_asked.v1").subject(user_urn(&principal.region, principal.account, &id));
    audit::attempt(kernel, principal, attempt, move |c| {
        let account = who.account()?;
        let member = queries::find_member(c, &id, account)?.ok_or(Error::NotFound("This user"))?;
        actions::check_over(&who, &member)?;
        // For oneself it would stand in for the old password.
        if who.person == id {
            return Err(Error::Forbidden("Change your own password on the page of your profile.".into()));
        }
        if let Some(why) = why_not_handed(c, &member.user, account)? {
            return Err(Error::Forbidden(why.into()));
        }
        if queries::count_tokens(c, &id, RESET, now.plus(-HOUR))? >= EACH_HOUR {
            return Err(Error::TooManyRequests { retry_after_s: 3600 });
        }
        let user = member.user;
        let base = notifications::base_url(c, &own.config)?;
        let is_mailed = base.is_some() && notifications::is_configured(c)?;
        let handed = (!is_mailed).then(|| Handover { account, made_by: who.answerer.clone() });
        let token = issue(c, &user, RESET, &user.email, handed, PasswordReset::LIFETIME_US, now)?;
        let made = HandedLink { base, page: RESET_PAGE, token };
        let handed = if is_mailed {
            let link = notifications::link(c, &own.config, &made.path())?;
            let address = who.address.unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
            let mail = PasswordReset { link: &link, asked_at: now, address }.mail(&user.email, &user.locale)?;
            notifications::enqueue(c, &own.key, mail, now)?;
            Handed::Mailed
        } else {
            Handed::ToCopy(made)
        };
        let entry = Entry::new("audit.password_reset_asked.v1")
            .subject(user_urn(&who.region, Some(account), &user.id))
            .detail("mailed", is_mailed);
        Ok((handed, vec![entry]))
    })
    .await
}

/// The address of the user for whom a link sets a new password, if it works now.
pub async fn find_reset(kernel: &Kernel, token: &str) -> Result<Option<String>> {
    let (token, now) = (token.to_owned(), kernel.clock.now());
    kernel.db.read(move |c| Ok(find(c, &token, RESET, now)?.map(|(user, _)| user.email))).await
}

/// Sets a new password by a link, once; answers the user's address. All their sessions end, and nobody is signed in.
pub async fn reset(
    kernel: &Kernel,
    passwords: &Passwords,
    token: String,
    new: Secret<String>,
    address: &Address,
) -> Result<String> {
    let now = kernel.clock.now();
    let asked = token.clone();
    let (found, rules) =
        kernel.db.read(move |c| Ok((find(c, &asked, RESET, now)?, queries::password_rules(c)?))).await?;
    let (user, _) = found.ok_or_else(dead)?;
    let hash = passwords.hash(check_password("new", &new, &user.email, rules)?).await?;
    let region = kernel.config.region.clone();
    let stranger = Principal::stranger(&region, Some(address.ip), Some(address.request_id.clone()));
    let (from, key) = (address.ip.to_string(), kernel.key.clone());
    audit::change(kernel, &stranger, move |c| {
        // Of two at once exactly one finds it: the other's transaction comes after its end.
        let (user, token) = find(c, &token, RESET, now)?.ok_or_else(dead)?;
        let is_about_now = fold_email(&token.email) == fold_email(&user.email);
        if !is_about_now {
            return Err(dead());
        }
        queries::set_password(c, &user.id, &hash.0, now)?;
        if token.handed.is_none() {
            queries::set_verified(c, &user.id, now)?;
        }
        tell_changed(c, &key, &user, &from, now)?;
        let ended = sessions::end_all(c, &user.id, None)?;
        let entry = about(c, &region, "audit.user_password_reset.v1", &user)?
            .detail("sessionsEnded", ended)
            .detail("askedAt", token.created_at);
        Ok((user.email, vec![entry]))
    })
    .await
}

// --- an address ---

/// Mails a link that proves an address: the user's own, or the one that they want to have.
fn mail_verification(c: &Connection, kernel: &Kernel, user: &User, email: &str, now: Time) -> Result<()> {
    if !notifications::is_configured(c)? {
        return Err(Error::Conflict(
            "This appliance sends no mail, so an address cannot be proved. Its owner can set mail up.".into(),
        ));
    }
    if queries::count_tokens(c, &user.id, VERIFY, now.plus(-HOUR))? >= EACH_HOUR {
        return Err(Error::TooManyRequests { retry_after_s: 3600 });
    }
    let token = issue(c, user, VERIFY, email, None, VERIFY_US, now)?;
    let link = notifications::link(c, &kernel.config, &href("/verify-email", &[("token", token.expose())]))?;
    let mail = VerifyAddress { link: &link, expires_at: now.plus(VERIFY_US) }.mail(email, &user.locale)?;
    notifications::enqueue(c, &kernel.key, mail, now)
}

/// Sends the link that proves the principal's own address again.
pub(super) async fn verify_own(kernel: &Kernel, principal: &Principal) -> Result<()> {
    let (id, account, now, own) = (principal.id.clone(), principal.account()?, kernel.clock.now(), kernel.clone());
    let region = principal.region.clone();
    audit::change(kernel, principal, move |c| {
        let user = queries::find_member(c, &id, account)?.ok_or(Error::Unauthenticated)?.user;
        if user.email_verified_at.is_some() {
            return Ok(((), Vec::new()));
        }
        mail_verification(c, &own, &user, &user.email, now)?;
        let subject = user_urn(&region, Some(account), &user.id);
        Ok(((), vec![Entry::new("audit.email_verification_sent.v1").subject(subject)]))
    })
    .await
}

/// Asks for another address: it is theirs once the link that goes there was opened.
pub(super) async fn change_email(
    kernel: &Kernel,
    passwords: &Passwords,
    principal: &Principal,
    email: String,
    current: Secret<String>,
) -> Result<()> {
    let email = check_email("email", &email)?;
    let (id, account) = (principal.id.clone(), principal.account()?);
    let member = kernel.db.read(move |c| queries::find_member(c, &id, account)).await?;
    let user = member.ok_or(Error::Unauthenticated)?.user;
    passwords.check_pace(&user.id, kernel.clock.now())?;
    if !matches!(passwords.compare(current, Some(user.password_hash.clone())).await?, Comparison::Right { .. }) {
        let entry = Entry::new("audit.email_change_asked.v1");
        wrong_password(kernel, principal, entry.subject(user_urn(&principal.region, Some(account), &user.id))).await?;
        return Err(Error::field("currentForEmail", "This is not your current password."));
    }
    let (now, own, region) = (kernel.clock.now(), kernel.clone(), principal.region.clone());
    let from = principal.address.map(|ip| ip.to_string()).unwrap_or_default();
    let who = principal.clone();
    audit::change(kernel, principal, move |c| {
        check_proved(c, &who, &user)?;
        // To the address that they have: whoever took over a session must not take the user along in silence.
        let mail = AddressChange { new: &email, is_done: false, at: now, address: &from };
        notifications::notify(c, &own.key, mail.mail(&user.email, &user.locale), now)?;
        // An address that somebody has is mailed all the same, without a word here: who it is stays unknown.
        mail_verification(c, &own, &user, &email, now)?;
        let entry = Entry::new("audit.email_change_asked.v1")
            .subject(user_urn(&region, Some(account), &user.id))
            .changes(json!({"email": user.email}), json!({"email": email}));
        Ok(((), vec![entry]))
    })
    .await
}

/// The address that a link proves, if it works now.
pub async fn find_verification(kernel: &Kernel, token: &str) -> Result<Option<String>> {
    let (token, now) = (token.to_owned(), kernel.clock.now());
    kernel.db.read(move |c| Ok(find(c, &token, VERIFY, now)?.map(|(_, token)| token.email))).await
}

/// Takes an address as proved; answers it.
pub async fn verify(kernel: &Kernel, token: String, address: &Address) -> Result<String> {
    let now = kernel.clock.now();
    let (region, key, from) = (kernel.config.region.clone(), kernel.key.clone(), address.ip.to_string());
    let stranger = Principal::stranger(&region, Some(address.ip), Some(address.request_id.clone()));
    audit::change(kernel, &stranger, move |c| {
        let (user, token) = find(c, &token, VERIFY, now)?.ok_or_else(dead)?;
        let folded = fold_email(&token.email);
        queries::end_tokens(c, &user.id, VERIFY, now)?;
        if folded == fold_email(&user.email) {
            queries::set_verified(c, &user.id, now)?;
            let entry = about(c, &region, "audit.email_verified.v1", &user)?;
            return Ok((token.email, vec![entry]));
        }
        if queries::find_by_email(c, &folded)?.is_some()
            || !queries::set_email(c, &user.id, &token.email, &folded, Some(now))?
        {
            return Err(Error::Conflict("Another user has this address.".into()));
        }
        // Links that went to the old address are worth nothing any more.
        queries::end_tokens(c, &user.id, RESET, now)?;
        let mail = AddressChange { new: &token.email, is_done: true, at: now, address: &from };
        notifications::notify(c, &key, mail.mail(&user.email, &user.locale), now)?;
        let entry = about(c, &region, "audit.user_email_changed.v1", &user)?
            .changes(json!({"email": user.email}), json!({"email": token.email}));
        Ok((token.email, vec![entry]))
    })
    .await
}

/// Gives a user another address without asking for anything: for the command line, when nobody reads the old one any more.
/// Nothing that was sent to the old address works after that, nor does who is signed in stay so.
pub fn set_email(
    c: &Connection,
    region: &str,
    account: Option<AccountId>,
    user: &User,
    email: &str,
    now: Time,
) -> Result<Entry> {
    let folded = fold_email(email);
    let is_anothers = queries::find_by_email(c, &folded)?.is_some_and(|other| other.id != user.id);
    if is_anothers || !queries::set_email(c, &user.id, email, &folded, None)? {
        return Err(Error::field("to", "Another user has this address."));
    }
    queries::end_tokens(c, &user.id, RESET, now)?;
    queries::end_tokens(c, &user.id, VERIFY, now)?;
    let ended = sessions::end_all(c, &user.id, None)?;
    Ok(Entry::new("audit.user_email_changed.v1")
        .subject(user_urn(region, account, &user.id))
        .changes(json!({"email": user.email}), json!({"email": email}))
        .detail("sessionsEnded", ended))
}

/// Refuses a change whose password was right a moment ago, when the password was changed or the session was ended since: the
/// comparison takes its time, and whoever threw somebody out meanwhile must have thrown them out (HOSTILE W03, W04).
fn check_proved(c: &Connection, principal: &Principal, proved: &User) -> Result<()> {
    let is_same = queries::find(c, &proved.id)?.is_some_and(|user| user.password_hash == proved.password_hash);
    let session = principal.session_id.as_ref();
    let is_there = sessions::list(c, &proved.id)?.iter().any(|one| Some(&one.id) == session);
    if is_same && is_there { Ok(()) } else { Err(Error::Unauthenticated) }
}

/// Puts on the record that somebody in a session did not know its user's password.
async fn wrong_password(kernel: &Kernel, principal: &Principal, entry: Entry) -> Result<()> {
    let entry = entry.outcome(Outcome::Failure).detail("reason", "the current password was wrong");
    audit::record(kernel, principal, vec![entry]).await
}

// --- the owner of the appliance ---

/// Hands the appliance over to another user, who signs in anew to use it, as does the one who had it.
pub(super) async fn hand_over(
    kernel: &Kernel,
    passwords: &Passwords,
    principal: &Principal,
    email: &str,
    current: Secret<String>,
) -> Result<()> {
    let (id, account) = (principal.id.clone(), principal.account()?);
    let member = kernel.db.read(move |c| queries::find_member(c, &id, account)).await?;
    let owner = member.ok_or(Error::Unauthenticated)?.user;
    passwords.check_pace(&owner.id, kernel.clock.now())?;
    if !matches!(passwords.compare(current, Some(owner.password_hash.clone())).await?, Comparison::Right { .. }) {
        wrong_password(kernel, principal, Entry::new("audit.ownership_transferred.v1")).await?;
        return Err(Error::field("current", "This is not your current password."));
    }
    let (folded, now, region) = (fold_email(email), kernel.clock.now(), principal.region.clone());
    let (key, who) = (kernel.key.clone(), principal.clone());
    audit::change(kernel, principal, move |c| {
        check_proved(c, &who, &owner)?;
        // Of two at once the second is not the owner's any more.
        if queries::find_owner(c)?.is_none_or(|present| present.id != owner.id) {
            return Err(Error::Forbidden("You do not own this appliance any more.".into()));
        }
        Ok(((), set_owner(c, &key, &region, &folded, now)?))
    })
    .await
}

/// Makes the user with this address (folded) the owner of the appliance; both sign in anew. It is on the record of an account
/// of each of them.
pub fn set_owner(c: &Connection, key: &MasterKey, region: &str, email_folded: &str, now: Time) -> Result<Vec<Entry>> {
    let to = queries::find_by_email(c, email_folded)?
        .filter(|user| user.state == UserState::Enabled)
        .ok_or_else(|| Error::field("email", "There is no user with this address who can sign in."))?;
    let from = queries::find_owner(c)?;
    if to.is_owner {
        return Err(Error::field("email", "This user owns the appliance already."));
    }
    let Some(account) = active_account(c, &to)? else {
        return Err(Error::field(
            "email",
            "This user can enter no account at present, so they could do nothing as its owner.",
        ));
    };
    queries::set_owner(c, &to.id)?;
    sessions::end_all(c, &to.id, None)?;
    let mut before = None;
    let mut logs = vec![account];
    if let Some(from) = &from {
        sessions::end_all(c, &from.id, None)?;
        before = Some(user_urn(region, None, &from.id));
        logs.extend(log_account(c, from)?.filter(|of| *of != account));
    }
    let confirmed = notifications::OwnershipConfirmed {
        from: from.as_ref().map_or("", |from| from.name.as_str()),
        to: &to.name,
        at: now,
    };
    for user in from.iter().chain([&to]) {
        notifications::notify(c, key, confirmed.mail(&user.email, &user.locale), now)?;
    }
    let after = user_urn(region, None, &to.id);
    let changes = (json!({"owner": before}), json!({"owner": after}));
    let entry = Entry::new("audit.ownership_transferred.v1").subject(after).changes(changes.0, changes.1);
    Ok(logs.into_iter().map(|account| entry.clone().account(account)).collect())
}

/// An account that a user can enter now.
fn active_account(c: &Connection, user: &User) -> Result<Option<AccountId>> {
    for id in queries::accounts_of(c, &user.id)? {
        if accounts::find(c, id)?.is_some_and(|account| account.is_active()) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Deletes links that nobody counts any more.
pub fn purge(c: &Connection, now: Time) -> Result<usize> {
    queries::purge_tokens(c, now.plus(-DAY))
}
