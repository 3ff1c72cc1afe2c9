//! The pages for strangers: sign-in, first set-up; and sign-out.

use actix_web::{HttpRequest, HttpResponse, cookie::Cookie, http::StatusCode, web::Data};
use askama::Template;
use serde::Deserialize;

use super::{
    actions,
    model::{Attempt, SetupInput, SignInInput, SignedIn},
    path::{Arrival, Browser, KNOWN_BROWSER_US},
};
use crate::{
    clock::SECOND,
    error::{Error, FieldError, Result},
    mfa,
    principal::PrincipalKind,
    secret::Secret,
    sessions::{self, Origin},
    users::{self, Passwords},
    web::{Ctx, Form, Page, Query, door, html, html_status, redirect},
};

/// Makes a browser known after its first sign-in.
const KNOWN_COOKIE: &str = "__Host-bailiwick-known";
/// A sign-in on its way.
pub(super) const JOURNEY_COOKIE: &str = "__Host-bailiwick-journey";

#[derive(Template)]
#[template(path = "sign_in/sign_in.html")]
struct SignInPage {
    page: Page,
    email: String,
    next: String,
    problem: String,
    /// The console has an address that passkeys can be made for.
    has_passkeys: bool,
}

/// The page, with what was wrong.
pub(super) async fn sign_in_page(
    ctx: &Ctx,
    status: StatusCode,
    email: String,
    next: String,
    problem: String,
) -> Result<HttpResponse> {
    let kernel = ctx.kernel.clone();
    let has_passkeys = ctx.kernel.db.read(move |c| Ok(mfa::relying_party(c, &kernel)?.is_ok())).await?;
    let page = Page::new(ctx, "Sign in", "");
    html_status(status, &SignInPage { page, email, next, problem, has_passkeys })
}

#[derive(Deserialize)]
pub(super) struct NextQuery {
    next: Option<String>,
}

/// Where to go after sign-in: a path of this console that is not a stranger's page.
pub(super) fn after(next: &str) -> String {
    door::local_path(next)
        .filter(|path| {
            let path = path.split('?').next().unwrap_or_default();
            let is_strangers = matches!(path, "/sign-out" | "/setup" | "/forgot-password" | "/reset-password");
            !is_strangers && path != "/sign-in" && !path.starts_with("/sign-in/")
        })
        .unwrap_or_else(|| "/".into())
}

pub(super) async fn form(ctx: Ctx, query: Query<NextQuery>) -> Result<HttpResponse> {
    let next = after(query.0.next.as_deref().unwrap_or_default());
    if ctx.principal.kind == PrincipalKind::User {
        return Ok(redirect(&next));
    }
    sign_in_page(&ctx, StatusCode::OK, String::new(), next, String::new()).await
}

/// What makes a browser known, if it says so.
pub(super) fn known_browser(request: &HttpRequest) -> Option<Secret<String>> {
    door::cookie(request, KNOWN_COOKIE).filter(|token| token.len() == 43).map(Secret::new)
}

/// The browser's present session. Whatever the cookie holds, valid or not: it ends with the next sign-in.
pub(super) fn old_session(request: &HttpRequest) -> Option<Secret<String>> {
    door::cookie(request, door::SESSION_COOKIE).map(Secret::new)
}

pub(super) async fn sign_in(
    ctx: Ctx,
    request: HttpRequest,
    passwords: Data<Passwords>,
    input: Form<SignInInput>,
) -> Result<HttpResponse> {
    let next = after(&input.0.next);
    let browser_token = known_browser(&request);
    let old_session = old_session(&request);
    let attempt = actions::sign_in(&ctx.kernel, &passwords, &ctx.address, &input.0, old_session, browser_token).await?;
    let refused = |status, problem: String| sign_in_page(&ctx, status, input.0.email.clone(), next.clone(), problem);
    match attempt {
        Attempt::Arrived(arrival) => Ok(arrived(&next, &arrival)),
        Attempt::Refused => {
            refused(StatusCode::UNPROCESSABLE_ENTITY, "E-mail or password is wrong. Check both and try again.".into())
                .await
        }
        Attempt::Suspended(proof) => super::restoring::page(&ctx, proof),
        Attempt::Throttled { retry_after_s } => {
            let minutes = retry_after_s.div_ceil(60);
            let wait = if minutes == 1 { "a minute".to_owned() } else { format!("{minutes} minutes") };
            let mut answer = refused(
                StatusCode::TOO_MANY_REQUESTS,
                format!(
                    "There were too many attempts. Wait {wait} and try again, or use a browser in which you have signed in before."
                ),
            )
            .await?;
            answer.headers_mut().insert(
                actix_web::http::header::RETRY_AFTER,
                actix_web::http::header::HeaderValue::from(retry_after_s),
            );
            Ok(answer)
        }
    }
}

/// Onwards: into the console, or to the step that is missing.
pub(super) fn arrived(next: &str, arrival: &Arrival) -> HttpResponse {
    match arrival {
        Arrival::In(signed_in) => {
            // The link that led here is used up.
            let next = if signed_in.has_joined { "/" } else { next };
            with_session(redirect(next), signed_in)
        }
        Arrival::OnTheWay(token) => {
            let mut answer = redirect("/sign-in/factor");
            set_cookie(
                &mut answer,
                &door::lasting_cookie(JOURNEY_COOKIE, token.expose(), sessions::JOURNEY_US / SECOND),
            );
            answer
        }
    }
}

/// An answer with the cookies of a new session.
pub(super) fn with_session(mut answer: HttpResponse, signed_in: &SignedIn) -> HttpResponse {
    set_cookie(&mut answer, &door::session_cookie(&signed_in.session_token));
    if let Some(token) = &signed_in.browser_token {
        set_cookie(&mut answer, &door::lasting_cookie(KNOWN_COOKIE, token.expose(), KNOWN_BROWSER_US / SECOND));
    }
    set_cookie(&mut answer, &door::removal(JOURNEY_COOKIE));
    answer
}

pub(super) fn set_cookie(answer: &mut HttpResponse, cookie: &Cookie<'_>) {
    if let Err(error) = answer.add_cookie(cookie) {
        tracing::error!(%error, "a cookie could not be written");
    }
}

/// The journey that a browser is on, if it says so.
pub(super) fn journey_token(request: &HttpRequest) -> Option<Secret<String>> {
    door::cookie(request, JOURNEY_COOKIE).filter(|token| token.len() == 43).map(Secret::new)
}

/// What a browser sends along with any step of its way in.
pub(super) fn browser(ctx: &Ctx, request: &HttpRequest) -> Browser {
    let origin = Origin { address: ctx.address.ip.to_string(), user_agent: ctx.address.user_agent.clone() };
    Browser { origin, old_session: old_session(request), known_token: known_browser(request) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignOutInput {
    /// Where to go afterwards, for a page that somebody else should read; only paths of this console are believed.
    #[serde(default)]
    next: String,
}

pub(super) async fn sign_out(ctx: Ctx, input: Form<SignOutInput>) -> Result<HttpResponse> {
    if let Some(token) = &ctx.session_token {
        actions::sign_out(&ctx.kernel, &ctx.principal, token.as_ref().clone()).await?;
    }
    let next = if input.0.next.is_empty() { "/sign-in".to_owned() } else { after(&input.0.next) };
    let mut answer = redirect(&next);
    set_cookie(&mut answer, &door::removal(door::SESSION_COOKIE));
    Ok(answer)
}

#[derive(Template)]
#[template(path = "sign_in/setup.html")]
struct SetupPage {
    page: Page,
    token: String,
    account: String,
    name: String,
    email: String,
    password_hint: String,
    errors: Vec<FieldError>,
}

impl SetupPage {
    fn error(&self, field: &str) -> &str {
        self.errors.iter().find(|error| error.field == field).map_or("", |error| error.message.as_str())
    }
}

#[derive(Deserialize)]
pub(super) struct TokenQuery {
    #[serde(default)]
    token: String,
}

pub(super) async fn setup_form(ctx: Ctx, query: Query<TokenQuery>) -> Result<HttpResponse> {
    if !actions::is_setup_open(&ctx.kernel, &query.0.token).await? {
        return Err(Error::NotFound(
            "This set-up link (it works once, for 24 hours, and only before there is an account)",
        ));
    }
    html(&SetupPage {
        page: Page::new(&ctx, "Set up", ""),
        token: query.0.token,
        account: String::new(),
        name: String::new(),
        email: String::new(),
        password_hint: ctx.kernel.db.read(users::password_rules).await?.hint(false),
        errors: Vec::new(),
    })
}

pub(super) async fn setup(ctx: Ctx, passwords: Data<Passwords>, input: Form<SetupInput>) -> Result<HttpResponse> {
    let input = input.0;
    match actions::set_up(&ctx.kernel, &passwords, &ctx.address, input.clone()).await {
        Ok(arrival) => Ok(arrived("/", &arrival)),
        Err(Error::Invalid(errors)) => html_status(
            StatusCode::UNPROCESSABLE_ENTITY,
            &SetupPage {
                page: Page::new(&ctx, "Set up", ""),
                token: input.token,
                account: input.account,
                name: input.name,
                email: input.email,
                password_hint: ctx.kernel.db.read(users::password_rules).await?.hint(false),
                errors,
            },
        ),
        Err(other) => Err(other),
    }
}
