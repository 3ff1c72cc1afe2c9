//! The page that a link opens: what the invitation is for, and the ways to accept it or not.
//!
//! Public, and silent without a working token: every link that does not work gets the same page (HOSTILE A17).

use actix_web::{HttpResponse, http::StatusCode};
use askama::Template;
use rusqlite::Connection;
use serde::Deserialize;

use super::{
    accept::{self, Look},
    model::{Invitation, landing_path},
};
use crate::{
    accounts::{self, Account},
    error::{Error, FieldError, Result},
    principal::{Level, PrincipalKind, Service},
    roles::Role,
    secret::Secret,
    users,
    web::{Ctx, Form, Page, Query, href, html_status, redirect_with},
};

/// What the reader of the page can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nobody has this address yet: make a user.
    Create,
    /// Somebody has, and the reader is not signed in.
    SignIn,
    /// It is the reader.
    Join,
    /// It is the reader, and they are in already.
    Member,
    /// Somebody else is signed in.
    Other,
    /// There is nothing to join any more.
    NoRole,
}

/// What a newcomer had typed, but for the password.
#[derive(Debug, Clone, Default)]
pub struct Entered {
    pub name: String,
    pub locale: String,
}

#[derive(Template)]
#[template(path = "invitations/landing.html")]
struct LandingPage {
    page: Page,
    way: Way,
    invitation: Invitation,
    account: Account,
    role: Option<Role>,
    /// Service and level, in words.
    levels: Vec<(&'static str, &'static str)>,
    token: String,
    /// This page again, after signing in or out.
    here: String,
    sign_in_href: String,
    entered: Entered,
    locales: &'static [(&'static str, &'static str)],
    problem: String,
    password_hint: String,
    errors: Vec<FieldError>,
}

impl LandingPage {
    fn error(&self, field: &str) -> &str {
        self.errors.iter().find(|error| error.field == field).map_or("", |error| error.message.as_str())
    }
}

#[derive(Template)]
#[template(path = "invitations/dead.html")]
struct DeadPage {
    page: Page,
}

fn dead_page(ctx: &Ctx) -> Result<HttpResponse> {
    let page = Page::new(ctx, "This invitation does not work", "");
    html_status(StatusCode::NOT_FOUND, &DeadPage { page })
}

async fn landing(
    ctx: &Ctx,
    token: Secret<String>,
    entered: Entered,
    status: StatusCode,
    problem: String,
    errors: Vec<FieldError>,
) -> Result<HttpResponse> {
    // A newcomer most likely wants the language that they read this page in.
    let locale = if entered.locale.is_empty() { ctx.principal.locale.clone() } else { entered.locale };
    let entered = Entered { locale, ..entered };
    let (asked, now) = (token.clone(), ctx.kernel.clock.now());
    let read = move |c: &Connection| Ok((accept::look(c, &asked, now)?, users::password_rules(c)?));
    let (found, rules) = ctx.kernel.db.read(read).await?;
    let Some(Look { invitation, account, role, is_known, is_member }) = found else { return dead_page(ctx) };
    let is_user = ctx.principal.kind == PrincipalKind::User;
    let is_theirs = is_user && users::fold_email(&ctx.principal.email) == invitation.email_folded;
    let way = match (&role, is_theirs) {
        (None, _) => Way::NoRole,
        (_, true) if is_member => Way::Member,
        (_, true) => Way::Join,
        _ if is_user => Way::Other,
        _ if is_known => Way::SignIn,
        _ => Way::Create,
    };
    let rights = role.as_ref().map(|role| role.rights).unwrap_or_default();
    let levels = Service::ALL.iter().map(|service| (service.title(), rights.level(*service)));
    let here = landing_path(&token);
    let template = LandingPage {
        page: Page::new(ctx, format!("Invitation to {}", account.alias), ""),
        way,
        levels: levels.filter(|(_, level)| *level > Level::None).map(|(title, l)| (title, l.as_str())).collect(),
        invitation,
        account,
        role,
        token: token.expose().clone(),
        sign_in_href: href("/sign-in", &[("next", &here)]),
        here,
        entered,
        locales: &accounts::LOCALES,
        problem,
        password_hint: rules.hint(false),
        errors,
    };
    let status = if way == Way::NoRole { StatusCode::CONFLICT } else { status };
    html_status(status, &template)
}

#[derive(Deserialize)]
pub(super) struct TokenQuery {
    #[serde(default)]
    token: String,
}

/// `GET /invitation?token=`.
pub(super) async fn show(ctx: Ctx, query: Query<TokenQuery>) -> Result<HttpResponse> {
    let token = Secret::new(query.0.token);
    landing(&ctx, token, Entered::default(), StatusCode::OK, String::new(), Vec::new()).await
}

/// The answer to an attempt to accept that failed, and its record.
pub async fn refuse(ctx: &Ctx, token: Secret<String>, entered: Entered, error: Error) -> Result<HttpResponse> {
    refuse_as(ctx, "audit.invitation_accepted.v1", token, entered, error).await
}

async fn refuse_as(
    ctx: &Ctx,
    kind: &'static str,
    token: Secret<String>,
    entered: Entered,
    error: Error,
) -> Result<HttpResponse> {
    accept::record_refusal(&ctx.kernel, &ctx.address, kind, signed_in_as(ctx), token.clone(), &error).await?;
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match error {
        Error::NotFound(_) => dead_page(ctx),
        Error::Invalid(errors) => landing(ctx, token, entered, status, String::new(), errors).await,
        Error::Conflict(problem) | Error::Forbidden(problem) => {
            landing(ctx, token, entered, status, problem, Vec::new()).await
        }
        other => Err(other),
    }
}

/// The user of this browser, whom no account is named for.
fn signed_in_as(ctx: &Ctx) -> Option<String> {
    let principal = &ctx.principal;
    (principal.kind == PrincipalKind::User).then(|| users::user_urn(&principal.region, None, &principal.id))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RejectForm {
    token: Secret<String>,
}

/// `POST /invitation/reject`.
pub(super) async fn reject(ctx: Ctx, form: Form<RejectForm>) -> Result<HttpResponse> {
    let token = form.0.token;
    match accept::reject(&ctx.kernel, &ctx.address, signed_in_as(&ctx), token.clone()).await {
        Ok(()) => {
            let next = if ctx.principal.kind == PrincipalKind::User { "/" } else { "/sign-in" };
            Ok(redirect_with(next, "success", "You declined the invitation. Its link does not work any more."))
        }
        Err(error) => refuse_as(&ctx, "audit.invitation_rejected.v1", token, Entered::default(), error).await,
    }
}
