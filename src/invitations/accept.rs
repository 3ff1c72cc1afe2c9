//! The other end of a link: what it opens, accepting, rejecting, and the record of what was refused.
//!
//! Everything is asked again inside the transaction that accepts, and the row's own state decides who was first: of two
//! at once exactly one is in. It must never tell a link's holder why it does not work.

use rusqlite::Connection;
use serde_json::json;

use super::{
    model::{Invitation, InvitationState},
    queries,
};
use crate::{
    accounts::{self, Account},
    audit::{self, Entry, Outcome},
    clock::Time,
    error::{Error, FieldError, Result},
    kernel::Kernel,
    principal::Principal,
    roles::{self, Role},
    secret::{self, Secret},
    users::{self, Member, NewPassword, NewUser, PasswordHash, User, UserState},
    web::Address,
};

/// What [`secret::random_token`] makes.
const TOKEN_LENGTH: usize = 43;
/// Refused attempts with one link that are put on the record.
const REFUSALS_MAX: i64 = 20;

/// The one answer for every link that does not work.
pub(super) fn dead() -> Error {
    Error::NotFound("This invitation")
}

fn role_removed(invitation: &Invitation) -> Error {
    Error::Conflict(format!(
        "The role of this invitation was removed. Ask {} to invite you again.",
        invitation.inviter_name
    ))
}

/// Whether the member who sent an invitation may give its role now. A role that was removed holds nothing, which is another
/// matter.
pub(super) fn is_backed(connection: &Connection, invitation: &Invitation) -> Result<bool> {
    let Some(inviter) = &invitation.inviter_id else { return Ok(true) };
    let role = roles::held(connection, invitation.account_id, &invitation.role_id)?;
    users::may_give(connection, inviter, invitation.account_id, &role)
}

/// What a token leads to.
enum Found {
    Open(Box<(Invitation, Account)>),
    /// Why it does not work is for the log alone.
    Dead(Box<Invitation>, &'static str),
    Unknown,
}

fn find(connection: &Connection, token: &Secret<String>, now: Time) -> Result<Found> {
    if token.expose().len() != TOKEN_LENGTH {
        return Ok(Found::Unknown);
    }
    let hash = secret::sha256(token.expose().as_bytes());
    let Some((invitation, stored)) = queries::find_by_token(connection, &hash)? else { return Ok(Found::Unknown) };
    // The index was asked for a hash, so its time tells nothing about a token; the comparison is in constant time too.
    if !secret::equal(&stored, &hash) {
        return Ok(Found::Unknown);
    }
    let why = match invitation.state(now) {
        InvitationState::Invited => None,
        InvitationState::Accepted => Some("it was accepted already"),
        InvitationState::Rejected => Some("it was rejected"),
        InvitationState::Revoked => Some("it was revoked"),
        InvitationState::Expired => Some("it has expired"),
    };
    if let Some(why) = why {
        return Ok(Found::Dead(Box::new(invitation), why));
    }
    if !is_backed(connection, &invitation)? {
        return Ok(Found::Dead(Box::new(invitation), "whoever sent it may not give its role any more"));
    }
    Ok(match accounts::find(connection, invitation.account_id)?.filter(Account::is_active) {
        Some(account) => Found::Open(Box::new((invitation, account))),
        None => Found::Dead(Box::new(invitation), "the account is suspended"),
    })
}

/// An open invitation as whoever holds its link may see it.
pub(super) struct Look {
    pub(super) invitation: Invitation,
    pub(super) account: Account,
    /// `None`: it was removed meanwhile.
    pub(super) role: Option<Role>,
    /// There is a user with this address, in whatever account.
    pub(super) is_known: bool,
    /// And in this account already.
    pub(super) is_member: bool,
}

/// What a token opens; nothing when it does not work.
pub(super) fn look(connection: &Connection, token: &Secret<String>, now: Time) -> Result<Option<Look>> {
    let Found::Open(open) = find(connection, token, now)? else { return Ok(None) };
    let (invitation, account) = *open;
    let role = roles::find(connection, account.id, &invitation.role_id)?;
    let user = users::find_by_email(connection, &invitation.email_folded)?;
    let is_member = match &user {
        Some(user) => users::find_member(connection, &user.id, account.id)?.is_some(),
        None => false,
    };
    Ok(Some(Look { invitation, account, role, is_known: user.is_some(), is_member }))
}

/// Everything that both ways of accepting ask for.
fn open(connection: &Connection, token: &Secret<String>, now: Time) -> Result<(Invitation, Account, Role)> {
    let Found::Open(open) = find(connection, token, now)? else { return Err(dead()) };
    let (invitation, account) = *open;
    match roles::find(connection, account.id, &invitation.role_id)? {
        Some(role) => Ok((invitation, account, role)),
        None => Err(role_removed(&invitation)),
    }
}

/// The user of an address as the member that a token would make them; nothing when it would not. For the record's
/// principal, and for signing in somebody who is in no account yet.
pub fn prospect(
    connection: &Connection,
    token: &Secret<String>,
    user: &User,
    now: Time,
) -> Result<Option<(Member, Account)>> {
    let Some(Look { invitation, account, role: Some(role), is_member: false, .. }) = look(connection, token, now)?
    else {
        return Ok(None);
    };
    if users::fold_email(&user.email) != invitation.email_folded {
        return Ok(None);
    }
    let member = Member {
        user: user.clone(),
        account_id: account.id,
        role,
        state: UserState::Enabled,
        joined_at: now,
        last_active_at: None,
    };
    Ok(Some((member, account)))
}

/// What somebody who has no user yet says about themselves.
#[derive(Debug, Clone)]
pub struct Newcomer {
    pub name: String,
    /// A language's code; empty: English.
    pub locale: String,
}

/// An accepted invitation: who is in, and the records of it.
pub struct Accepted {
    pub member: Member,
    pub account: Account,
    pub entries: Vec<Entry>,
}

/// Checks what a newcomer typed, before their password is hashed: a link that does not work costs no hash.
pub async fn check_newcomer(
    kernel: &Kernel,
    token: &Secret<String>,
    newcomer: &Newcomer,
    password: &Secret<String>,
) -> Result<NewPassword> {
    let (token, now) = (token.clone(), kernel.clock.now());
    let read = move |c: &Connection| Ok((open_for_newcomer(c, &token, now)?.0.email, users::password_rules(c)?));
    let (email, rules) = kernel.db.read(read).await?;
    let mut wrong: Vec<FieldError> = Vec::new();
    let mut note = |error| match error {
        Error::Invalid(fields) => {
            wrong.extend(fields);
            Ok(())
        }
        other => Err(other),
    };
    users::check_name("name", &newcomer.name).map(|_| ()).or_else(&mut note)?;
    accounts::check_locale("locale", &newcomer.locale).or_else(&mut note)?;
    let password = match users::check_password("password", password, &email, rules) {
        Ok(password) => Some(password),
        Err(error) => {
            note(error)?;
            None
        }
    };
    match password {
        Some(password) if wrong.is_empty() => Ok(password),
        _ => Err(Error::Invalid(wrong)),
    }
}

fn open_for_newcomer(
    connection: &Connection,
    token: &Secret<String>,
    now: Time,
) -> Result<(Invitation, Account, Role)> {
    let (invitation, account, role) = open(connection, token, now)?;
    if users::find_by_email(connection, &invitation.email_folded)?.is_some() {
        return Err(Error::Conflict("There is a user with this address by now. Sign in to join.".into()));
    }
    Ok((invitation, account, role))
}

/// Makes the user of an invitation, inside the caller's transaction.
pub fn accept_new(
    connection: &Connection,
    token: &Secret<String>,
    newcomer: &Newcomer,
    password: &PasswordHash,
    now: Time,
) -> Result<Accepted> {
    let (invitation, account, role) = open_for_newcomer(connection, token, now)?;
    let new = NewUser { email: invitation.email.clone(), name: newcomer.name.clone() };
    let (user, created) = users::create(connection, &account, &new, &role.id, password, now)?;
    if !newcomer.locale.is_empty() {
        users::set_locale(connection, &user.id, &newcomer.locale)?;
    }
    let entries = vec![complete(connection, &invitation, &account, &user.id, now)?, created];
    accepted(connection, &user.id, account, entries)
}

/// Makes an existing user a member, inside the caller's transaction. The caller knows that it is them.
pub fn accept_existing(connection: &Connection, token: &Secret<String>, email: &str, now: Time) -> Result<Accepted> {
    let (invitation, account, role) = open(connection, token, now)?;
    // By the address and never by what the browser sends along (HOSTILE A22).
    if users::fold_email(email) != invitation.email_folded {
        return Err(Error::Forbidden("This invitation is for another address than yours.".into()));
    }
    let user = users::find_by_email(connection, &invitation.email_folded)?;
    let user = user.filter(|user| user.state == UserState::Enabled).ok_or(Error::Unauthenticated)?;
    if users::find_member(connection, &user.id, account.id)?.is_some() {
        return Err(Error::Conflict("You are in this account already.".into()));
    }
    let mut entries = vec![complete(connection, &invitation, &account, &user.id, now)?];
    entries.extend(users::grant(connection, &account.region, &user, account.id, &role.id, now)?);
    accepted(connection, &user.id, account, entries)
}

/// Uses the link up.
fn complete(
    connection: &Connection,
    invitation: &Invitation,
    account: &Account,
    user_id: &str,
    now: Time,
) -> Result<Entry> {
    if !queries::end(connection, &invitation.id, InvitationState::Accepted, Some(user_id), now)? {
        return Err(dead());
    }
    // A link from a mail proves that its reader has the address; one that was handed over proves nothing.
    if invitation.is_mailed {
        users::set_verified(connection, user_id, now)?;
    }
    Ok(Entry::new("audit.invitation_accepted.v1")
        .account(account.id)
        .subject(invitation.urn(&account.region))
        .changes(
            json!({"state": InvitationState::Invited}),
            json!({"state": InvitationState::Accepted, "acceptedBy": user_id}),
        )
        .detail("email", &invitation.email)
        .detail("roleId", &invitation.role_id)
        .detail("invitedBy", &invitation.invited_by)
        .detail("emailProven", invitation.is_mailed))
}

fn accepted(connection: &Connection, user_id: &str, account: Account, entries: Vec<Entry>) -> Result<Accepted> {
    let member = users::find_member(connection, user_id, account.id)?
        .ok_or_else(|| Error::internal("whoever accepted an invitation is no member of its account"))?;
    Ok(Accepted { member, account, entries })
}

/// Whoever opens a link, for the record. Not the principal of the account that their browser is signed in to: its number
/// is nobody's business in the account that invites.
fn link_holder(kernel: &Kernel, address: &Address) -> Principal {
    Principal::stranger(&kernel.config.region, Some(address.ip), Some(address.request_id.clone()))
}

/// Says no. Anybody who holds the link may.
pub(super) async fn reject(
    kernel: &Kernel,
    address: &Address,
    user_urn: Option<String>,
    token: Secret<String>,
) -> Result<()> {
    let now = kernel.clock.now();
    audit::change(kernel, &link_holder(kernel, address), move |c| {
        let Found::Open(open) = find(c, &token, now)? else { return Err(dead()) };
        let (invitation, account) = *open;
        if !queries::end(c, &invitation.id, InvitationState::Rejected, None, now)? {
            return Err(dead());
        }
        let entry = Entry::new("audit.invitation_rejected.v1")
            .account(account.id)
            .subject(invitation.urn(&account.region))
            .changes(json!({"state": InvitationState::Invited}), json!({"state": InvitationState::Rejected}))
            .detail("email", &invitation.email)
            .detail("signedInAs", user_urn);
        Ok(((), vec![entry]))
    })
    .await
}

/// Puts a refused attempt to use a link on the record of its account, with the true reason (HOSTILE U12). What is no
/// token of ours leaves no trace, and no link more than [`REFUSALS_MAX`]: strangers must not fill the log.
pub(super) async fn record_refusal(
    kernel: &Kernel,
    address: &Address,
    kind: &'static str,
    user_urn: Option<String>,
    token: Secret<String>,
    error: &Error,
) -> Result<()> {
    let outcome = match error {
        Error::Forbidden(_) => Outcome::Denied,
        Error::NotFound(_) | Error::Conflict(_) | Error::Unauthenticated => Outcome::Failure,
        _ => return Ok(()),
    };
    let (said, now) = (error.to_string(), kernel.clock.now());
    audit::change(kernel, &link_holder(kernel, address), move |c| {
        let (invitation, reason) = match find(c, &token, now)? {
            Found::Open(open) => (open.0, said),
            Found::Dead(invitation, why) => (*invitation, why.to_owned()),
            Found::Unknown => return Ok(((), Vec::new())),
        };
        if !queries::note_refusal(c, &invitation.id, REFUSALS_MAX)? {
            return Ok(((), Vec::new()));
        }
        let region = accounts::region(c)?.unwrap_or_default();
        let entry = Entry::new(kind)
            .account(invitation.account_id)
            .subject(invitation.urn(&region))
            .outcome(outcome)
            .detail("reason", reason)
            .detail("email", &invitation.email)
            .detail("signedInAs", user_urn);
        Ok(((), vec![entry]))
    })
    .await
}
