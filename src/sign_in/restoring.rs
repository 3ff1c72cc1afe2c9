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
    audit,
    clock::{MINUTE, Time},
    error::{Error, Result},
    kernel::Kernel,
    notifications::{self, RestoreAsked},
    principal::{AccountId, Principal},
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

/// Whether a member can do anything for an account that is suspended.
pub(super) fn may_ask(member: &Member) -> bool {
    member.is_enabled() && (member.user.is_owner || member.role.is_administrator())
}

/// Of somebody whose password was right a moment ago.
pub(super) fn proof(kernel: &Kernel, member: &Member, account: &Account, now: Time) -> Proof {
    let (user, id, until) = (member.user.id.clone(), account.id.to_string(), now.plus(PROOF_US).0);
    let (alias, purge_at, is_owner) = (account.alias.clone(), account.purge_at, member.user.is_owner);
    let may_ask = may_ask(member);
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
    let proof = form.0;
    let expected = seal(&ctx.kernel, &proof.user, &proof.account, proof.until);
    let is_right = secret::equal(expected.as_bytes(), proof.seal.as_bytes()) && ctx.kernel.clock.now().0 < proof.until;
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
    let (member, of) = found.ok_or(Error::NotFound("This account"))?;
    let principal = member.principal(&of, String::new(), ctx.address.ip, ctx.address.request_id.clone());
    let said = bring_back(&ctx.kernel, &principal).await?;
    Ok(redirect_with("/sign-in", "success", said))
}

/// What a member of a suspended account can do for it, from wherever they ask: the owner of the appliance brings it back, an
/// administrator asks the owner, who is told by mail once. `principal` acts in that account. Answers what to say.
pub(super) async fn bring_back(kernel: &Kernel, principal: &Principal) -> Result<&'static str> {
    let (id, who, own, now) = (principal.account()?, principal.clone(), kernel.clone(), kernel.clock.now());
    audit::change(kernel, principal, move |c| {
        // Read again: a role may have been lost, or the appliance handed over, while the page was open.
        let member = users::find_member(c, &who.id, id)?.ok_or(Error::NotFound("This account"))?;
        if !may_ask(&member) {
            // On the record of the account that they are in, by the door: somebody else's log is not theirs to fill.
            return Err(Error::Forbidden("Only its administrators can ask for an account back.".into()));
        }
        if member.user.is_owner {
            let (_, entry) = accounts::restore(c, id, now)?;
            return Ok(("The account works again.", vec![entry]));
        }
        let account = accounts::find(c, id)?.ok_or(Error::NotFound("This account"))?;
        let asked = accounts::ask_to_restore(c, id, &who.urn(), now)?;
        // Whoever asks again and again fills neither a mailbox nor the log.
        if asked.is_some() {
            tell_owner(c, &own, &member, &account, now)?;
        }
        Ok(("The owner of the appliance was asked to bring the account back.", asked.into_iter().collect()))
    })
    .await
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
