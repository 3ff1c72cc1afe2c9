//! The profile: what users see and change about themselves.

use actix_web::{HttpResponse, web::Data};
use askama::Template;
use rusqlite::Connection;
use serde::Deserialize;

use super::{
    actions::{self, ProfileInput},
    passwords::Passwords,
    queries, recovery,
};
use crate::{
    accounts,
    clock::Time,
    error::{Error, Result},
    proof::Factors,
    roles::Role,
    secret::Secret,
    sessions::{self, Limits, Session},
    web::{Ctx, Form, Page, PathId, Refused, door, html, html_status, redirect, redirect_with},
};

#[derive(Template)]
#[template(path = "users/profile.html")]
struct ProfilePage {
    page: Page,
    email: String,
    is_verified: bool,
    /// Mail is set up: addresses can be proved.
    can_mail: bool,
    factors: Factors,
    role: Role,
    name: String,
    locale: String,
    locales: &'static [(&'static str, &'static str)],
    time_zone: String,
    time_zones: &'static [String],
    theme: String,
    sessions: Vec<SessionRow>,
    this_session: String,
    /// The address that was asked for.
    new_email: String,
    refused: Refused,
    password_hint: String,
}

impl ProfilePage {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }
}

/// What was typed into one of the page's forms; the others show what is stored.
#[derive(Default)]
struct Entered {
    profile: Option<ProfileInput>,
    email: String,
}

async fn render(ctx: &Ctx, entered: Entered, error: Option<Error>) -> Result<HttpResponse> {
    let refused = error.map_or_else(|| Ok(Refused::none()), Refused::of)?;
    let (account, user_id, now) = (ctx.principal.account()?, ctx.principal.id.clone(), ctx.kernel.clock.now());
    let read = move |c: &Connection| {
        Ok((
            queries::find_member(c, &user_id, account)?,
            alive_sessions(c, &user_id, now)?,
            queries::password_rules(c)?,
        ))
    };
    let (member, sessions, rules) = ctx.kernel.db.read(read).await?;
    let member = member.ok_or(Error::Unauthenticated)?;
    let can_mail = recovery::can_mail(&ctx.kernel).await?;
    let user = member.user;
    let shown = entered.profile.unwrap_or(ProfileInput {
        name: user.name,
        locale: user.locale,
        time_zone: user.time_zone,
        theme: user.theme,
    });
    html_status(
        refused.status,
        &ProfilePage {
            page: Page::new(ctx, "Profile", "profile"),
            is_verified: user.email_verified_at.is_some(),
            factors: user.factors,
            can_mail,
            email: user.email,
            role: member.role,
            name: shown.name,
            locale: shown.locale,
            locales: &accounts::LOCALES,
            time_zone: shown.time_zone,
            time_zones: accounts::time_zones(),
            theme: shown.theme,
            sessions,
            this_session: ctx.principal.session_id.clone().unwrap_or_default(),
            new_email: entered.email,
            refused,
            password_hint: rules.hint(false),
        },
    )
}

/// A session as a row: with the account that it is in.
struct SessionRow {
    session: Session,
    account: String,
}

/// The sessions of a user that have not ended.
fn alive_sessions(c: &Connection, user_id: &str, now: Time) -> Result<Vec<SessionRow>> {
    let mut rows = Vec::new();
    for session in sessions::list(c, user_id)? {
        let Some(account) = accounts::find(c, session.account_id)? else { continue };
        let (idle_us, lifetime_us) = account.session_limits_us();
        if sessions::is_alive(&session, Limits { idle_us, lifetime_us }, now) {
            rows.push(SessionRow { session, account: account.alias });
        }
    }
    Ok(rows)
}

pub(super) async fn profile(ctx: Ctx) -> Result<HttpResponse> {
    render(&ctx, Entered::default(), None).await
}

pub(super) async fn save(ctx: Ctx, input: Form<ProfileInput>) -> Result<HttpResponse> {
    match actions::save_profile(&ctx.kernel, &ctx.principal, input.0.clone()).await {
        Ok(()) => Ok(redirect_with("/profile", "success", "Your profile was saved.")),
        Err(error) => render(&ctx, Entered { profile: Some(input.0), ..Entered::default() }, Some(error)).await,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ThemeInput {
    theme: String,
}

pub(super) async fn theme(ctx: Ctx, request: actix_web::HttpRequest, input: Form<ThemeInput>) -> Result<HttpResponse> {
    actions::save_theme(&ctx.kernel, &ctx.principal, input.0.theme).await?;
    // Back to the page that the menu was opened on; the header is ours because the door refused other sites.
    let back = request
        .headers()
        .get(actix_web::http::header::REFERER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| url::Url::parse(value).ok())
        .and_then(|url| door::local_path(&url[url::Position::BeforePath..url::Position::AfterQuery]))
        .unwrap_or_else(|| "/profile".into());
    Ok(redirect(&back))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordInput {
    current: Secret<String>,
    new: Secret<String>,
}

pub(super) async fn password(ctx: Ctx, passwords: Data<Passwords>, input: Form<PasswordInput>) -> Result<HttpResponse> {
    let PasswordInput { current, new } = input.0;
    match actions::change_password(&ctx.kernel, &passwords, &ctx.principal, current, new).await {
        Ok(0) => Ok(redirect_with("/profile", "success", "Your password was changed.")),
        Ok(_) => Ok(redirect_with("/profile", "success", "Your password was changed. Your other sessions have ended.")),
        Err(error) => render(&ctx, Entered::default(), Some(error)).await,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct EmailInput {
    email: String,
    current_for_email: Secret<String>,
}

/// `POST /profile/email`.
pub(super) async fn change_email(
    ctx: Ctx,
    passwords: Data<Passwords>,
    input: Form<EmailInput>,
) -> Result<HttpResponse> {
    let EmailInput { email, current_for_email } = input.0;
    match recovery::change_email(&ctx.kernel, &passwords, &ctx.principal, email.clone(), current_for_email).await {
        Ok(()) => {
            let said = "A link was mailed to the new address. It is yours once you open that link, within a day.";
            Ok(redirect_with("/profile", "success", said))
        }
        Err(error) => render(&ctx, Entered { email, ..Entered::default() }, Some(error)).await,
    }
}

/// `POST /profile/email/verify`.
pub(super) async fn verify_email(ctx: Ctx) -> Result<HttpResponse> {
    match recovery::verify_own(&ctx.kernel, &ctx.principal).await {
        Ok(()) => Ok(redirect_with("/profile", "success", "A link was mailed to your address. Open it within a day.")),
        Err(error) => render(&ctx, Entered::default(), Some(error)).await,
    }
}

#[derive(Template)]
#[template(path = "users/owner.html")]
struct OwnerPage {
    page: Page,
    email: String,
    refused: Refused,
}

impl OwnerPage {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }
}

/// `GET /appliance/owner`.
pub(super) async fn owner(ctx: Ctx) -> Result<HttpResponse> {
    let page = Page::new(&ctx, "Hand the appliance over", "appliance");
    html(&OwnerPage { page, email: String::new(), refused: Refused::none() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnerInput {
    email: String,
    current: Secret<String>,
}

/// `POST /appliance/owner`. Both are signed out.
pub(super) async fn hand_over(ctx: Ctx, passwords: Data<Passwords>, input: Form<OwnerInput>) -> Result<HttpResponse> {
    let OwnerInput { email, current } = input.0;
    match recovery::hand_over(&ctx.kernel, &passwords, &ctx.principal, &email, current).await {
        Ok(()) => Ok(signed_out()),
        Err(error) => {
            let refused = Refused::of(error)?;
            let page = Page::new(&ctx, "Hand the appliance over", "appliance");
            html_status(refused.status, &OwnerPage { page, email, refused })
        }
    }
}

pub(super) async fn end_session(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let is_own = ctx.principal.session_id.as_deref() == Some(id.0.as_str());
    actions::end_session(&ctx.kernel, &ctx.principal, id.0).await?;
    if is_own {
        return Ok(signed_out());
    }
    Ok(redirect_with("/profile", "success", "That session has ended."))
}

pub(super) async fn end_all_sessions(ctx: Ctx) -> Result<HttpResponse> {
    actions::end_all_sessions(&ctx.kernel, &ctx.principal).await?;
    Ok(signed_out())
}

fn signed_out() -> HttpResponse {
    let mut answer = redirect("/sign-in");
    if let Err(error) = answer.add_cookie(&door::removal(door::SESSION_COOKIE)) {
        tracing::error!(%error, "a cookie could not be removed");
    }
    answer
}
