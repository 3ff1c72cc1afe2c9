//! The second factors of others: what the account and its roles ask for, who lacks it, and resetting what somebody has lost.
//!
//! Nobody resets their own here, nor those of somebody who holds more than they do, or who belongs to more than this account:
//! there this account's administrators are strangers (HOSTILE R04).

use actix_web::HttpResponse;
use askama::Template;
use rusqlite::Connection;
use serde::Deserialize;

use super::enrol;
use crate::{
    accounts::{self, UpdateInput},
    audit::{self, Entry},
    error::{Error, Result},
    kernel::Kernel,
    principal::{AccountId, Level, Permission, Principal, Service},
    proof::MfaRule,
    roles::{self, Role},
    users::{self, Member, MemberFilter, Reach},
    web::{Ctx, Form, Page, PathId, Refused, html_status, redirect_with},
};

/// Members that the page names; of more, the number is said.
const SHOWN_MAX: usize = 100;

/// Resets what a user has enrolled; answers their name.
pub(super) async fn reset(kernel: &Kernel, principal: &Principal, id: String) -> Result<String> {
    let (who, own, now) = (principal.clone(), kernel.clone(), kernel.clock.now());
    let subject = users::user_urn(&principal.region, principal.account, &id);
    let attempt = Entry::new("audit.mfa_reset.v1").subject(&subject);
    audit::attempt(kernel, principal, attempt, move |c| {
        let account = who.account()?;
        let member = users::find_member(c, &id, account)?.ok_or(Error::NotFound("This user"))?;
        users::check_over(&who, &member)?;
        let why = match users::reach(c, &member.user, account)? {
            _ if who.person == id => Some("Your own second factors are on the page of your profile."),
            Reach::Appliance => Some("This user owns the appliance: theirs are reset at the machine."),
            Reach::Elsewhere => Some("This user belongs to more than this account: theirs are reset at the machine."),
            Reach::Here => None,
        };
        if let Some(why) = why {
            return Err(Error::Forbidden(why.into()));
        }
        let user = member.user;
        if !user.factors.any() {
            return Err(Error::Conflict("This user has no second factor.".into()));
        }
        let address = who.address.map(|ip| ip.to_string()).unwrap_or_default();
        let entry = enrol::reset(c, &own, &user, &who.name, &address, now)?.subject(subject);
        Ok((user.name, vec![entry]))
    })
    .await
}

/// `POST /users/{id}/mfa/reset`.
pub(super) async fn reset_member(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let back = format!("/users/{}", id.0);
    match reset(&ctx.kernel, &ctx.principal, id.0).await {
        Ok(_) => {
            let said =
                "The second factors were reset and the sessions ended. At the next sign-in a new one is enrolled.";
            Ok(redirect_with(&back, "success", said))
        }
        Err(Error::Forbidden(why) | Error::Conflict(why)) => Ok(redirect_with(&back, "danger", &why)),
        Err(error) => Err(error),
    }
}

/// What an account asks for, and what comes of it.
struct Asked {
    rule: MfaRule,
    roles: Vec<Role>,
    /// Members who could not come in under a rule, the longest-standing first, with what they lack.
    lacking: Vec<Lacking>,
    /// How many more there are; all of them for whoever may not know who uses this account.
    more: usize,
}

struct Lacking {
    member: Member,
    what: &'static str,
}

/// Who could not enter at once if the account asked for `rule`, up to `named`, and how many more.
fn lacking(c: &Connection, account: AccountId, rule: MfaRule, named: usize) -> Result<(Vec<Lacking>, usize)> {
    let filter = MemberFilter { state: Some(users::UserState::Enabled), ..MemberFilter::default() };
    let members = users::list_members(c, account, &filter, "", usize::MAX)?;
    let mut found: Vec<Lacking> = Vec::new();
    let mut more = 0;
    for member in members {
        let asked = rule.max(member.role.mfa);
        if asked.is_met_by(member.user.factors) {
            continue;
        }
        if found.len() == named {
            more += 1;
            continue;
        }
        let what = if asked.is_passkey_only() { "a passkey" } else { "a second factor" };
        found.push(Lacking { member, what });
    }
    Ok((found, more))
}

#[derive(Template)]
#[template(path = "mfa/asked.html")]
struct AskedPage {
    page: Page,
    asked: Asked,
    /// What is chosen in the form, which need not be saved.
    chosen: MfaRule,
    is_open: bool,
    refused: Refused,
}

impl AskedPage {
    fn more(&self) -> usize {
        self.asked.more
    }

    fn rules(&self) -> [(MfaRule, &'static str, &'static str); 3] {
        [
            (
                MfaRule::Optional,
                "Whoever has one is asked for it",
                "Everybody decides for themselves whether to add one.",
            ),
            (MfaRule::Required, "Everybody needs a second factor", "An authenticator app or a passkey."),
            (MfaRule::PasskeyOnly, "Everybody needs a passkey", "Nothing that could be typed into a false page."),
        ]
    }
}

async fn page(ctx: &Ctx, chosen: Option<MfaRule>, refused: Refused) -> Result<HttpResponse> {
    let id = ctx.principal.account()?;
    let may_know = ctx.principal.allows(Permission::Needs(Service::Identity, Level::Read));
    let named = if may_know { SHOWN_MAX } else { 0 };
    let read = move |c: &Connection| {
        let account = accounts::find(c, id)?.ok_or(Error::NotFound("This account"))?;
        let chosen = chosen.unwrap_or(account.mfa);
        let (lacking, more) = lacking(c, id, chosen, named)?;
        Ok((Asked { rule: account.mfa, roles: roles::list(c, id)?, lacking, more }, chosen))
    };
    let (asked, chosen) = ctx.kernel.db.read(read).await?;
    let page = Page::new(ctx, "Second factors", "account");
    let is_open = page.may("settings", "full");
    html_status(refused.status, &AskedPage { page, asked, chosen, is_open, refused })
}

/// `GET /settings/mfa`.
pub(super) async fn show(ctx: Ctx) -> Result<HttpResponse> {
    page(&ctx, None, Refused::none()).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleForm {
    mfa: String,
    /// Who lacks it has been seen.
    #[serde(default)]
    seen: String,
}

/// `POST /settings/mfa`. A stricter rule is first shown with those whom it keeps out, and saved when that was seen.
pub(super) async fn save(ctx: Ctx, form: Form<RuleForm>) -> Result<HttpResponse> {
    let rule = MfaRule::parse(&form.0.mfa).ok_or_else(|| Error::BadRequest("There is no such rule.".into()))?;
    let id = ctx.principal.account()?;
    let (before, lacks) = ctx
        .kernel
        .db
        .read(move |c| {
            let account = accounts::find(c, id)?.ok_or(Error::NotFound("This account"))?;
            Ok((account.mfa, lacking(c, id, rule, 0)?.1 > 0))
        })
        .await?;
    if rule > before && lacks && form.0.seen.is_empty() {
        return page(&ctx, Some(rule), Refused::none()).await;
    }
    let input = UpdateInput {
        mfa_required: Some(rule.is_required()),
        passkey_only: Some(rule.is_passkey_only()),
        ..UpdateInput::default()
    };
    match accounts::update(&ctx.kernel, &ctx.principal, input).await {
        Ok(_) => Ok(redirect_with("/settings/mfa", "success", "Saved. It holds with the next request of everybody.")),
        Err(error) => page(&ctx, Some(rule), Refused::of(error)?).await,
    }
}
