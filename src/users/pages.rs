//! The profile: what users see and change about themselves.

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use askama::Template;
use rusqlite::Connection;
use serde::Deserialize;

use super::{
    actions::{self, ProfileInput},
    passwords::Passwords,
    queries,
};
use crate::{
    accounts,
    clock::Time,
    error::{Error, Result},
    secret::Secret,
    sessions::{self, Limits, Session},
    web::{Ctx, Form, Page, PathId, door, html_status, redirect, redirect_with},
};

#[derive(Template)]
#[template(path = "users/profile.html")]
struct ProfilePage {
    page: Page,
    email: String,
    role: String,
    name: String,
    locale: String,
    locales: &'static [(&'static str, &'static str)],
    time_zone: String,
    time_zones: &'static [String],
    theme: String,
    sessions: Vec<SessionRow>,
    this_session: String,
    errors: Vec<crate::error::FieldError>,
}

impl ProfilePage {
    fn error(&self, field: &str) -> &str {
        self.errors.iter().find(|error| error.field == field).map_or("", |error| error.message.as_str())
    }
}

async fn render(ctx: &Ctx, entered: Option<ProfileInput>, error: Option<Error>) -> Result<HttpResponse> {
    let errors = match error {
        None => Vec::new(),
        Some(Error::Invalid(fields)) => fields,
        Some(other) => return Err(other),
    };
    let (account, user_id, now) = (ctx.principal.account()?, ctx.principal.id.clone(), ctx.kernel.clock.now());
    let (member, sessions) = ctx
        .kernel
        .db
        .read(move |c| Ok((queries::find_member(c, &user_id, account)?, alive_sessions(c, &user_id, now)?)))
        .await?;
    let member = member.ok_or(Error::Unauthenticated)?;
    let user = member.user;
    let shown = entered.unwrap_or(ProfileInput {
        name: user.name,
        locale: user.locale,
        time_zone: user.time_zone,
        theme: user.theme,
    });
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    html_status(
        status,
        &ProfilePage {
            page: Page::new(ctx, "Profile", "profile"),
            email: user.email,
            role: member.role.name.clone(),
            name: shown.name,
            locale: shown.locale,
            locales: &accounts::LOCALES,
            time_zone: shown.time_zone,
            time_zones: accounts::time_zones(),
            theme: shown.theme,
            sessions,
            this_session: ctx.principal.session_id.clone().unwrap_or_default(),
            errors,
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
    render(&ctx, None, None).await
}

pub(super) async fn save(ctx: Ctx, input: Form<ProfileInput>) -> Result<HttpResponse> {
    match actions::save_profile(&ctx.kernel, &ctx.principal, input.0.clone()).await {
        Ok(()) => Ok(redirect_with("/profile", "success", "Your profile was saved.")),
        Err(error) => render(&ctx, Some(input.0), Some(error)).await,
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
        Err(error) => render(&ctx, None, Some(error)).await,
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
