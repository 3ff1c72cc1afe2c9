//! Asking for a suspended account back, by somebody who proved their password and has no other account to enter. The
//! owner of the appliance does not ask: they would wait for themselves, with no page left to answer on.
//!
//! Owns the proof that the page hands back: it names one user and one account, ends after ten minutes, and lets nobody
//! into anything: all that it does is to put a request before the owner, or to bring the owner's own account back.

use actix_web::HttpResponse;
use askama::Template;
use rusqlite::Connection;
use serde::Deserialize;

use crate::{
    accounts::{self, Account},
    audit::{self, Entry},
    clock::{MINUTE, Time},
    error::{Error, Result},
    kernel::Kernel,
    notifications::{self, RestoreAsked},
    principal::AccountId,
    secret,
    users::{self, Member},
    web::{Ctx, Form, Page, html_status, redirect_with},
};

const PROOF_US: i64 = 10 * MINUTE;

/// What the page sends back.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proof {
    user: String,
    account: String,
    /// Microseconds, as [`Time`] counts them.
    until: i64,
    seal: String,
    /// For the page.
    #[serde(skip)]
    alias: String,
    #[serde(skip)]
    purge_at: Option<Time>,
    #[serde(skip)]
    is_owner: bool,
    #[serde(skip)]
    may_ask: bool,
}

fn seal(kernel: &Kernel, user: &str, account: &str, until: i64) -> String {
    let text = format!("{user}|{account}|{until}");
    secret::encode_hex(&kernel.key.mac("restore-account.v1", text.as_bytes()))
}

/// Of somebody whose password was right a moment ago.
pub(super) fn proof(kernel: &Kernel, member: &Member, account: &Account, now: Time) -> Proof {
    let (user, id, until) = (member.user.id.clone(), account.id.to_string(), now.plus(PROOF_US).0);
    let (alias, purge_at, is_owner) = (account.alias.clone(), account.purge_at, member.user.is_owner);
    let may_ask = is_owner || member.role.is_administrator();
    // Without a seal it proves nothing.
    let seal = if may_ask { seal(kernel, &user, &id, until) } else { String::new() };
    Proof { user, account: id, until, seal, alias, purge_at, is_owner, may_ask }
}

#[derive(Template)]
#[template(path = "sign_in/suspended.html")]
struct SuspendedPage {
    page: Page,
    proof: Proof,
}

/// Says why nobody comes in, and offers those who administer the account to ask for it.
pub(super) fn page(ctx: &Ctx, proof: Proof) -> Result<HttpResponse> {
    let page = Page::new(ctx, "This account is suspended", "");
    html_status(actix_web::http::StatusCode::FORBIDDEN, &SuspendedPage { page, proof })
}

/// `POST /sign-in/restore`.
pub(super) async fn ask(ctx: Ctx, form: Form<Proof>) -> Result<HttpResponse> {
    let (proof, now) = (form.0, ctx.kernel.clock.now());
    let expected = seal(&ctx.kernel, &proof.user, &proof.account, proof.until);
    let is_right = secret::equal(expected.as_bytes(), proof.seal.as_bytes()) && now.0 < proof.until;
    let account = AccountId::parse(&proof.account).filter(|_| is_right);
    let Some(account) = account else {
        return Err(Error::Forbidden("This page is out of date. Sign in again.".into()));
    };
    let user = proof.user.clone();
    let found = ctx
        .kernel
        .db
        .read(move |c| Ok(users::find_member(c, &user, account)?.zip(accounts::find(c, account)?)))
        .await?;
    let (member, of) = found.filter(|(member, _)| member.is_enabled()).ok_or(Error::NotFound("This account"))?;
    let principal = member.principal(&of, String::new(), ctx.address.ip, ctx.address.request_id.clone());
    let (by, user, own) = (principal.urn(), member.user.id.clone(), ctx.kernel.clone());
    let said = audit::change(&ctx.kernel, &principal, move |c| {
        // Read again: the appliance may have been handed over while the page was open.
        let member = users::find_member(c, &user, account)?.ok_or(Error::NotFound("This account"))?;
        bring_back(c, &own, &member, &by, now)
    })
    .await?;
    Ok(redirect_with("/sign-in", "success", said))
}

/// What an administrator of a suspended account can do for it, from wherever they ask: the owner of the appliance brings it
/// back, anybody else asks the owner, who is told by mail once. Answers what to say.
pub(super) fn bring_back(
    c: &Connection,
    kernel: &Kernel,
    member: &Member,
    by: &str,
    now: Time,
) -> Result<(&'static str, Vec<Entry>)> {
    let id = member.account_id;
    if member.user.is_owner {
        let (_, entry) = accounts::restore(c, id, now)?;
        return Ok(("The account works again.", vec![entry]));
    }
    let account = accounts::find(c, id)?.ok_or(Error::NotFound("This account"))?;
    let asked = accounts::ask_to_restore(c, id, by, now)?;
    // Whoever asks again and again fills neither a mailbox nor the log.
    if asked.is_some() {
        tell_owner(c, kernel, member, &account, now)?;
    }
    Ok(("The owner of the appliance was asked to bring the account back.", asked.into_iter().collect()))
}

/// Mails the owner of the appliance that somebody waits for them.
fn tell_owner(c: &Connection, kernel: &Kernel, member: &Member, account: &Account, now: Time) -> Result<()> {
    let Some(owner) = users::find_owner(c)? else { return Ok(()) };
    let kind = "restore-asked";
    let Some(link) = notifications::notice_link(c, &kernel.config, kind, "/appliance/accounts")? else { return Ok(()) };
    let told = RestoreAsked {
        account: &account.alias,
        account_id: &account.id.to_string(),
        by: &format!("{} ({})", member.user.name, member.user.email),
        delete_at: account.purge_at,
        link: &link,
    };
    notifications::notify(c, &kernel.key, told.mail(&owner.email, &owner.locale), now)?;
    Ok(())
}
