//! The accounts of a user: which there are, entering another one, making one, and asking for one back.
//!
//! Entering another account is a sign-out and a sign-in: a new session with a new token, both on the record. It must never
//! let anybody into an account that a sign-in would not let them into.

use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use rusqlite::Connection;
use serde::Deserialize;

use super::{
    pages::{arrived, known_browser, old_session},
    path::{self, Arrival, Entrance, Traveller},
    restoring,
};
use crate::{
    accounts::{self, Account},
    audit::{self, Entry, Outcome},
    error::{Error, Result},
    principal::{AccountId, Principal},
    roles::{self, Role},
    sessions::Origin,
    users::{self, Member},
    web::{Ctx, Form, Page, Refused, html, html_status, redirect, redirect_with},
};

/// An account of the reader.
struct Own {
    account: Account,
    role: Role,
    /// May ask for it back.
    may_ask: bool,
}

#[derive(Template)]
#[template(path = "accounts/own.html")]
struct OwnPage {
    page: Page,
    accounts: Vec<Own>,
    here: String,
    /// The reader owns the appliance: they need not ask anybody.
    is_owner: bool,
    /// Why no account can be made; empty when one can.
    no_more: String,
}

/// Whether a user may make another account; else why not.
fn may_make(c: &Connection, principal: &Principal) -> Result<Result<(), String>> {
    if principal.is_owner {
        return Ok(Ok(()));
    }
    let (most, made) = (accounts::per_user(c)?, accounts::count_by_maker(c, &principal.id)?);
    Ok(match most {
        0 => Err("Only the owner of the appliance makes accounts.".to_owned()),
        most if made >= most => Err(format!("You have made {made} accounts, and a user may make {most}.")),
        _ => Ok(()),
    })
}

/// `GET /accounts`.
pub(super) async fn list(ctx: Ctx) -> Result<HttpResponse> {
    let who = ctx.principal.clone();
    let (accounts, no_more) = ctx
        .kernel
        .db
        .read(move |c| {
            let mut own = Vec::new();
            for id in users::accounts_of(c, &who.id)? {
                if let Some((member, account)) = users::find_member(c, &who.id, id)?.zip(accounts::find(c, id)?) {
                    let may_ask = restoring::may_ask(&member);
                    own.push(Own { account, role: member.role, may_ask });
                }
            }
            own.sort_by(|a, b| a.account.alias.cmp(&b.account.alias));
            Ok((own, may_make(c, &who)?.err().unwrap_or_default()))
        })
        .await?;
    let here = ctx.principal.account()?.to_string();
    let is_owner = ctx.principal.is_owner;
    html(&OwnPage { page: Page::new(&ctx, "Your accounts", "accounts"), accounts, here, is_owner, no_more })
}

/// The account that a form names, and the reader as a member of it.
async fn named(ctx: &Ctx, text: &str) -> Result<(Member, Account)> {
    let none = || Error::NotFound("This account");
    let (id, user) = (AccountId::parse(text).ok_or_else(none)?, ctx.principal.id.clone());
    let found = ctx.kernel.db.read(move |c| Ok(users::find_member(c, &user, id)?.zip(accounts::find(c, id)?))).await?;
    found.ok_or_else(none)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountForm {
    account: String,
}

fn signed_out(ctx: &Ctx) -> Entry {
    Entry::new("audit.signed_out.v1")
        .subject(users::user_urn(&ctx.principal.region, ctx.principal.account, &ctx.principal.id))
        .detail("sessionId", &ctx.principal.session_id)
        .detail("method", "switch")
}

/// `POST /accounts/switch`.
pub(super) async fn switch(ctx: Ctx, request: HttpRequest, form: Form<AccountForm>) -> Result<HttpResponse> {
    let (member, account) = named(&ctx, &form.0.account).await?;
    if !member.is_enabled() || !account.is_active() {
        let why = if account.is_active() { "You are disabled in this account." } else { "This account is suspended." };
        // Not on that account's record: whoever is in it no more could fill it, one row a click.
        return Ok(redirect_with("/accounts", "danger", why));
    }
    if account.id == ctx.principal.account()? {
        // There they are already; a new session would only be a younger one.
        return Ok(redirect("/"));
    }
    enter(&ctx, &request, move |_| Ok((member, account, Vec::new()))).await
}

/// Ends the present session and begins one in the account that `find` answers, in one transaction.
async fn enter<F>(ctx: &Ctx, request: &HttpRequest, find: F) -> Result<HttpResponse>
where
    F: FnOnce(&Connection) -> Result<(Member, Account, Vec<Entry>)> + Send + 'static,
{
    let now = ctx.kernel.clock.now();
    let origin = Origin { address: ctx.address.ip.to_string(), user_agent: ctx.address.user_agent.clone() };
    let (own, known) = (ctx.kernel.clone(), known_browser(request));
    let (old, out, who) = (old_session(request), signed_out(ctx), ctx.principal.clone());
    let arrival = audit::change(&ctx.kernel, &ctx.principal, move |c| {
        let (found, account, mut entries) = find(c)?;
        // What was true when the page was asked for need not be true any more.
        let member = users::find_member(c, &found.user.id, account.id)?.filter(Member::is_enabled);
        let member = member.ok_or(Error::NotFound("This account"))?;
        accounts::check_active(c, account.id)?;
        let known_token = path::known(c, known, &member.user, now)?;
        let entrance = Entrance { known_token, ..path::going_on(c, old, &who.id, origin, now)? };
        let urn = users::user_urn(&account.region, Some(account.id), &member.user.id);
        let (arrival, begun) = path::arrive(c, &own, &Traveller { member, account, invitation: None }, entrance, now)?;
        entries.extend(begun);
        let mut entries: Vec<Entry> = entries.into_iter().map(|entry| entry.by(&urn)).collect();
        // Whoever is asked for something first has not left yet.
        if matches!(arrival, Arrival::In(_)) {
            entries.push(out);
        }
        Ok((arrival, entries))
    })
    .await?;
    Ok(arrived("/", &arrival))
}

#[derive(Template)]
#[template(path = "accounts/new.html")]
struct NewPage {
    page: Page,
    form: NewForm,
    locales: &'static [(&'static str, &'static str)],
    time_zones: &'static [String],
    no_more: String,
    refused: Refused,
}

impl NewPage {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }
}

async fn new_page(ctx: &Ctx, form: NewForm, refused: Refused) -> Result<HttpResponse> {
    let who = ctx.principal.clone();
    let no_more = ctx.kernel.db.read(move |c| Ok(may_make(c, &who)?.err().unwrap_or_default())).await?;
    let page = Page::new(ctx, "Create an account", "accounts");
    let (locales, time_zones) = (&accounts::LOCALES, accounts::time_zones());
    html_status(refused.status, &NewPage { page, form, locales, time_zones, no_more, refused })
}

/// `GET /accounts/new`.
pub(super) async fn new(ctx: Ctx) -> Result<HttpResponse> {
    let form = NewForm {
        alias: String::new(),
        locale: ctx.principal.locale.clone(),
        time_zone: ctx.principal.time_zone.clone(),
    };
    new_page(&ctx, form, Refused::none()).await
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NewForm {
    alias: String,
    locale: String,
    time_zone: String,
}

/// `POST /accounts/new`: makes an account whose maker may do everything in it, and enters it.
pub(super) async fn create(ctx: Ctx, request: HttpRequest, form: Form<NewForm>) -> Result<HttpResponse> {
    let (who, now, asked) = (ctx.principal.clone(), ctx.kernel.clock.now(), form.0.clone());
    let made = enter(&ctx, &request, move |c| {
        if let Err(why) = may_make(c, &who)? {
            return Err(Error::Forbidden(why));
        }
        let account = accounts::create(c, asked.alias.trim(), &asked.locale, &asked.time_zone, Some(&who.id), now)?;
        accounts::begin_contacts(c, account.id, &who.email)?;
        let (member, joined) = users::join(c, &who.id, &account, roles::FULL_ACCESS, now)?;
        Ok((member, account.clone(), vec![account.created(), joined]))
    })
    .await;
    match made {
        Ok(answer) => Ok(answer),
        Err(error) => {
            if let Error::Forbidden(why) = &error {
                let entry = Entry::new("audit.account_created.v1").outcome(Outcome::Denied).detail("why", why);
                audit::record(&ctx.kernel, &ctx.principal, vec![entry]).await?;
            }
            new_page(&ctx, form.0, Refused::of(error)?).await
        }
    }
}

/// `POST /accounts/restore`: asks for an account back; the owner of the appliance brings it back.
pub(super) async fn ask_to_restore(ctx: Ctx, form: Form<AccountForm>) -> Result<HttpResponse> {
    let (member, account) = named(&ctx, &form.0.account).await?;
    let there = member.principal(&account, String::new(), ctx.address.ip, ctx.address.request_id.clone());
    let said = restoring::bring_back(&ctx.kernel, &there).await?;
    Ok(redirect_with("/accounts", "success", said))
}
