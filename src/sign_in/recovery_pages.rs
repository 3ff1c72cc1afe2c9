//! The pages of somebody who forgot their password, and of links that prove an address.
//!
//! They are for strangers, so they say nothing about who exists; `users` decides what a link is worth. Opening a link does
//! nothing yet: mail servers open links too.

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use askama::Template;
use serde::Deserialize;

use super::actions;
use crate::{
    audit,
    error::{Error, FieldError, Result},
    secret::Secret,
    users::{self, Asking, Passwords},
    web::{Ctx, Form, Page, Query, html, html_status, redirect_with},
};

#[derive(Template)]
#[template(path = "sign_in/forgot.html")]
struct ForgotPage {
    page: Page,
    can_mail: bool,
    is_asked: bool,
    email: String,
}

/// `GET /forgot-password`.
pub(super) async fn forgot(ctx: Ctx) -> Result<HttpResponse> {
    let can_mail = users::can_mail(&ctx.kernel).await?;
    let page = Page::new(&ctx, "Forgotten password", "");
    html(&ForgotPage { page, can_mail, is_asked: false, email: String::new() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForgotInput {
    email: String,
}

/// `POST /forgot-password`: the same answer whether there is such a user or not.
pub(super) async fn ask(ctx: Ctx, asking: Data<Asking>, input: Form<ForgotInput>) -> Result<HttpResponse> {
    let can_mail = users::can_mail(&ctx.kernel).await?;
    if can_mail {
        users::ask_for_reset(&ctx.kernel, &asking, &input.0.email, &ctx.address)?;
    }
    html(&ForgotPage {
        page: Page::new(&ctx, "Forgotten password", ""),
        can_mail,
        is_asked: can_mail,
        email: input.0.email,
    })
}

#[derive(Deserialize)]
pub(super) struct TokenQuery {
    #[serde(default)]
    token: String,
}

#[derive(Template)]
#[template(path = "sign_in/reset.html")]
struct ResetPage {
    page: Page,
    token: String,
    /// Whose password it is; `None`: the link does not work.
    email: Option<String>,
    password_hint: String,
    errors: Vec<FieldError>,
}

impl ResetPage {
    fn error(&self, field: &str) -> &str {
        self.errors.iter().find(|error| error.field == field).map_or("", |error| error.message.as_str())
    }
}

async fn reset_page(ctx: &Ctx, status: StatusCode, token: String, errors: Vec<FieldError>) -> Result<HttpResponse> {
    let email = users::find_reset(&ctx.kernel, &token).await?;
    let status = if email.is_some() { status } else { StatusCode::NOT_FOUND };
    let password_hint = ctx.kernel.db.read(users::password_rules).await?.hint(false);
    let page = Page::new(ctx, "Set a new password", "");
    html_status(status, &ResetPage { page, token, email, password_hint, errors })
}

/// `GET /reset-password`.
pub(super) async fn reset_form(ctx: Ctx, query: Query<TokenQuery>) -> Result<HttpResponse> {
    reset_page(&ctx, StatusCode::OK, query.0.token, Vec::new()).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResetInput {
    token: String,
    new: Secret<String>,
}

/// `POST /reset-password`. Nobody is signed in by it.
pub(super) async fn reset(ctx: Ctx, passwords: Data<Passwords>, input: Form<ResetInput>) -> Result<HttpResponse> {
    let ResetInput { token, new } = input.0;
    match users::reset(&ctx.kernel, &passwords, token.clone(), new, &ctx.address).await {
        Ok(email) => {
            // Whoever guessed before must not keep the right password waiting.
            audit::change(&ctx.kernel, &ctx.principal, move |c| Ok(((), vec![actions::after_reset(c, &email)?])))
                .await?;
            Ok(redirect_with("/sign-in", "success", "Your password was set. Sign in with it."))
        }
        Err(Error::Invalid(errors)) => reset_page(&ctx, StatusCode::UNPROCESSABLE_ENTITY, token, errors).await,
        Err(Error::Conflict(_)) => reset_page(&ctx, StatusCode::CONFLICT, token, Vec::new()).await,
        Err(other) => Err(other),
    }
}

#[derive(Template)]
#[template(path = "sign_in/verify.html")]
struct VerifyPage {
    page: Page,
    token: String,
    /// The address that is proved; empty when the link does not work.
    email: String,
    is_done: bool,
    problem: String,
}

/// `GET /verify-email`.
pub(super) async fn verify_form(ctx: Ctx, query: Query<TokenQuery>) -> Result<HttpResponse> {
    let token = query.0.token;
    let email = users::find_verification(&ctx.kernel, &token).await?.unwrap_or_default();
    let status = if email.is_empty() { StatusCode::NOT_FOUND } else { StatusCode::OK };
    let page = Page::new(&ctx, "Confirm your mail address", "");
    html_status(status, &VerifyPage { page, token, email, is_done: false, problem: String::new() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyInput {
    token: String,
}

/// `POST /verify-email`.
pub(super) async fn verify(ctx: Ctx, input: Form<VerifyInput>) -> Result<HttpResponse> {
    let page = Page::new(&ctx, "Confirm your mail address", "");
    let token = String::new();
    match users::verify(&ctx.kernel, input.0.token, &ctx.address).await {
        Ok(email) => html(&VerifyPage { page, token, email, is_done: true, problem: String::new() }),
        Err(Error::Conflict(problem)) => {
            let template = VerifyPage { page, token, email: String::new(), is_done: false, problem };
            html_status(StatusCode::CONFLICT, &template)
        }
        Err(other) => Err(other),
    }
}
