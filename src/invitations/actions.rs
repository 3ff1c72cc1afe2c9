//! Inviting, sending again, revoking, and the end of time.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::Connection;
use serde_json::json;

use super::{
    model::{Checked, Invitation, InvitationInput, InvitationState, LANDING, invitation_urn},
    queries,
};
use crate::{
    accounts,
    audit::{self, Entry},
    clock::{DAY, HOUR, SECOND, Time},
    error::{Error, Result},
    kernel::Kernel,
    language::Language,
    notifications::{self, HandedLink},
    principal::{AccountId, Principal},
    roles::{self, Role},
    schedule::{self, Job, SpecInput},
    secret::{self, Secret},
    users,
};

/// Open invitations of one account: a program that invites in a loop must not fill the table.
const OPEN_MAX: i64 = 100;
/// How often one person, and the keys they made, may send within [`SENT_WINDOW_US`].
const SENT_MAX: usize = 20;
const SENT_WINDOW_US: i64 = HOUR;

/// As in `schedule_entry.job`; its one subject is every account.
const JOB: &str = "invitation-expiry";
const SUBJECT: &str = "all";
/// Invitations that one transaction ends.
const EXPIRE_ROWS: usize = 100;

/// An invitation whose link was just made.
pub(super) struct Sent {
    pub(super) invitation: Invitation,
    /// To be handed over; `None`: it went out by mail.
    pub(super) link: Option<HandedLink>,
}

/// Gets a new link to whom it is for, inside the transaction that makes it. The one place where mail is written; without
/// mail the link is answered, for whoever asked to hand it over.
fn deliver(
    connection: &Connection,
    kernel: &Kernel,
    invitation: &Invitation,
    role: &Role,
    token: &Secret<String>,
    now: Time,
) -> Result<Option<HandedLink>> {
    let base = notifications::base_url(connection, &kernel.config)?;
    let link = HandedLink { base, page: LANDING, token: token.clone() };
    if link.base.is_none() || !notifications::is_configured(connection)? {
        return Ok(Some(link));
    }
    let account = accounts::find(connection, invitation.account_id)?.ok_or(Error::NotFound("This account"))?;
    // Whoever has a user here chose a language; of a stranger only the account can guess one.
    let known = users::find_by_email(connection, &invitation.email_folded)?;
    let locale = known.map_or(account.locale, |user| user.locale);
    let mail = notifications::Invitation {
        account: &account.alias,
        inviter: &invitation.inviter_name,
        role: &role.name_in(Language::of(&locale)),
        link: &notifications::link(connection, &kernel.config, &link.path())?,
        expires_at: invitation.expires_at,
    };
    notifications::enqueue(connection, &kernel.key, mail.mail(&invitation.email, &locale)?, now)?;
    Ok(None)
}

/// Refuses who has sent too much, else counts one more.
fn take_sending(connection: &Connection, principal: &Principal, account: AccountId, now: Time) -> Result<()> {
    let sender = format!("{account}/{}", principal.person);
    let since = now.plus(-SENT_WINDOW_US);
    let sent = queries::sent_since(connection, &sender, since, SENT_MAX)?;
    if sent.len() >= SENT_MAX {
        let wait_us = sent.last().map_or(SENT_WINDOW_US, |oldest| oldest.since(since));
        let retry_after_s = u64::try_from(wait_us.div_euclid(SECOND) + 1).unwrap_or(1);
        return Err(Error::TooManyRequests { retry_after_s });
    }
    queries::note_sending(connection, &sender, now, since)
}

fn check_room(connection: &Connection, account: AccountId, now: Time) -> Result<()> {
    if queries::count_open(connection, account, now)? < OPEN_MAX {
        return Ok(());
    }
    Err(Error::Conflict(format!("This account has {OPEN_MAX} open invitations. Revoke those that are not needed.")))
}

const IS_MEMBER: &str = "There is already a user with this address in this account.";

/// Whether an address is that of somebody in the account, disabled or not.
fn is_member(connection: &Connection, account: AccountId, email_folded: &str) -> Result<bool> {
    let Some(user) = users::find_by_email(connection, email_folded)? else { return Ok(false) };
    Ok(users::find_member(connection, &user.id, account)?.is_some())
}

/// Ends an invitation whose time is over, with its record.
fn lapse(connection: &Connection, invitation: &Invitation, region: &str, now: Time) -> Result<Option<Entry>> {
    if !queries::end(connection, &invitation.id, InvitationState::Expired, None, now)? {
        return Ok(None);
    }
    let entry = Entry::new("audit.invitation_expired.v1")
        .account(invitation.account_id)
        .subject(invitation.urn(region))
        .changes(json!({"state": InvitationState::Invited}), json!({"state": InvitationState::Expired}))
        .detail("email", &invitation.email);
    Ok(Some(entry))
}

/// Invites somebody into the principal's account.
pub(super) async fn create(kernel: &Kernel, principal: &Principal, input: InvitationInput) -> Result<Sent> {
    let attempt =
        Entry::new("audit.invitation_created.v1").detail("email", &input.email).detail("roleId", &input.role_id);
    let Checked { email, role_id, lifetime_days } = input.check()?;
    let (who, now, own) = (principal.clone(), kernel.clock.now(), kernel.clone());
    audit::attempt(kernel, principal, attempt, move |c| {
        let account = who.account()?;
        let role =
            roles::find(c, account, &role_id)?.ok_or_else(|| Error::field("roleId", "There is no such role."))?;
        roles::check_grant(&who, &role)?;
        let email_folded = users::fold_email(&email);
        if is_member(c, account, &email_folded)? {
            return Err(Error::field("email", IS_MEMBER));
        }
        let mut entries = Vec::new();
        if let Some(open) = queries::find_open(c, account, &email_folded)? {
            if open.state(now) == InvitationState::Invited {
                return Err(Error::Conflict(format!(
                    "{} is invited already. Send that invitation again, or revoke it first.",
                    open.email
                )));
            }
            entries.extend(lapse(c, &open, &who.region, now)?);
        }
        check_room(c, account, now)?;
        take_sending(c, &who, account, now)?;
        let token = secret::random_token();
        let invitation = Invitation {
            id: uuid::Uuid::now_v7().to_string(),
            account_id: account,
            email,
            email_folded,
            role_id,
            stored_state: InvitationState::Invited,
            is_mailed: false,
            invited_by: who.urn(),
            inviter_name: who.name.clone(),
            inviter_id: who.answerer.clone(),
            lifetime_days,
            created_at: now,
            last_sent_at: now,
            sent_count: 1,
            expires_at: now.plus(lifetime_days * DAY),
            ended_at: None,
            accepted_by: None,
        };
        let link = deliver(c, &own, &invitation, &role, &token, now)?;
        let invitation = Invitation { is_mailed: link.is_none(), ..invitation };
        queries::insert(c, &invitation, &secret::sha256(token.expose().as_bytes()))?;
        let entry = Entry::new("audit.invitation_created.v1")
            .subject(invitation.urn(&who.region))
            .changes(json!({}), invitation.record())
            .detail("byMail", invitation.is_mailed);
        entries.push(entry);
        Ok((Sent { invitation, link }, entries))
    })
    .await
}

/// Makes a new link, with the whole time again; the old one is dead. Also for an invitation that has expired.
pub(super) async fn resend(kernel: &Kernel, principal: &Principal, id: String) -> Result<Sent> {
    let (who, now, own) = (principal.clone(), kernel.clock.now(), kernel.clone());
    let account = principal.account()?;
    let attempt = Entry::new("audit.invitation_resent.v1").subject(invitation_urn(&who.region, account, &id));
    audit::attempt(kernel, principal, attempt, move |c| {
        let before = queries::find(c, account, &id)?.ok_or(Error::NotFound("This invitation"))?;
        if !matches!(before.state(now), InvitationState::Invited | InvitationState::Expired) {
            return Err(ended());
        }
        let role = roles::find(c, account, &before.role_id)?.ok_or_else(|| {
            Error::Conflict("The role of this invitation was removed. Invite again, into another role.".into())
        })?;
        // A link is worth what its role holds: whoever asks for a new one must hold as much as whoever made the first.
        roles::check_grant(&who, &role)?;
        if is_member(c, account, &before.email_folded)? {
            return Err(Error::Conflict(IS_MEMBER.into()));
        }
        if queries::find_open(c, account, &before.email_folded)?.is_some_and(|open| open.id != before.id) {
            return Err(Error::Conflict("There is a newer invitation for this address. Send that one again.".into()));
        }
        if before.state(now) == InvitationState::Expired {
            check_room(c, account, now)?;
        }
        take_sending(c, &who, account, now)?;
        let token = secret::random_token();
        let invitation = Invitation {
            stored_state: InvitationState::Invited,
            is_mailed: false,
            // Whoever sends it again stands for it now.
            invited_by: who.urn(),
            inviter_name: who.name.clone(),
            inviter_id: who.answerer.clone(),
            last_sent_at: now,
            sent_count: before.sent_count + 1,
            expires_at: now.plus(before.lifetime_days * DAY),
            ended_at: None,
            ..before.clone()
        };
        let link = deliver(c, &own, &invitation, &role, &token, now)?;
        let invitation = Invitation { is_mailed: link.is_none(), ..invitation };
        queries::renew(c, &invitation, &secret::sha256(token.expose().as_bytes()))?;
        let entry = Entry::new("audit.invitation_resent.v1")
            .subject(invitation.urn(&who.region))
            .changes(before.record(), invitation.record())
            .detail("email", &invitation.email)
            .detail("byMail", invitation.is_mailed);
        Ok((Sent { invitation, link }, vec![entry]))
    })
    .await
}

fn ended() -> Error {
    Error::Conflict("This invitation has ended. Invite again if it is needed.".into())
}

/// Takes an open invitation back: its link is dead at once. It takes rights away, so it does not matter how much its
/// role holds.
pub(super) async fn revoke(kernel: &Kernel, principal: &Principal, id: String) -> Result<()> {
    let (who, now) = (principal.clone(), kernel.clock.now());
    let account = principal.account()?;
    audit::change(kernel, principal, move |c| {
        let invitation = queries::find(c, account, &id)?.ok_or(Error::NotFound("This invitation"))?;
        let is_open = invitation.state(now) == InvitationState::Invited;
        if !is_open || !queries::end(c, &id, InvitationState::Revoked, None, now)? {
            return Err(ended());
        }
        let entry = Entry::new("audit.invitation_revoked.v1")
            .subject(invitation.urn(&who.region))
            .changes(json!({"state": InvitationState::Invited}), json!({"state": InvitationState::Revoked}))
            .detail("email", &invitation.email);
        Ok(((), vec![entry]))
    })
    .await
}

/// Writes down which invitations have expired, with their records; answers how many. Nothing waits for it: what is past
/// its time is refused and shown as expired before.
pub async fn expire(kernel: &Kernel) -> Result<usize> {
    let mut count = 0;
    loop {
        let now = kernel.clock.now();
        let lapsed = kernel.db.read(move |c| queries::list_lapsed(c, now, EXPIRE_ROWS)).await?;
        let is_last = lapsed.len() < EXPIRE_ROWS;
        let mut by_account: BTreeMap<AccountId, Vec<Invitation>> = BTreeMap::new();
        for invitation in lapsed {
            by_account.entry(invitation.account_id).or_default().push(invitation);
        }
        for (account, invitations) in by_account {
            let principal = Principal::scheduler(&kernel.config.region, account);
            let region = principal.region.clone();
            count += audit::change(kernel, &principal, move |c| {
                let mut entries = Vec::new();
                for invitation in &invitations {
                    // It may have been sent again since it was read.
                    let present = queries::find(c, account, &invitation.id)?;
                    if present.is_some_and(|present| present.state(now) == InvitationState::Expired) {
                        entries.extend(lapse(c, invitation, &region, now)?);
                    }
                }
                Ok((entries.len(), entries))
            })
            .await?;
        }
        if is_last {
            return Ok(count);
        }
    }
}

/// Has [`expire`] run from now on, or leaves it as it is planned already.
pub fn schedule_expiry(connection: &Connection, now: Time) -> Result<()> {
    schedule::set(connection, JOB, SUBJECT, &SpecInput::every("10m"), false, now)
}

/// The work that [`schedule_expiry`] plans.
pub fn job(kernel: &Kernel) -> Job {
    let kernel = kernel.clone();
    Job {
        name: JOB,
        work: Arc::new(move |_| {
            let kernel = kernel.clone();
            Box::pin(async move { Ok(format!("{} invitations have expired", expire(&kernel).await?)) })
        }),
    }
}
