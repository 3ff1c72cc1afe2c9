//! All accounts of the appliance, for its owner: state, suspending, bringing back, and how many a user may make.
//!
//! It shows that accounts exist and nothing of what is in them: the owner is no member of them.

use actix_web::{HttpResponse, http::StatusCode};
use askama::Template;
use serde::Deserialize;

use super::{
    actions,
    model::{Account, AccountState},
    queries,
};
use crate::{
    error::{Error, Result},
    principal::AccountId,
    web::{Ctx, Form, Page, PathId, html, html_status, redirect_with},
};

#[derive(Template)]
#[template(path = "accounts/all.html")]
struct AllPage {
    page: Page,
    accounts: Vec<Account>,
    per_user: String,
    error: String,
}

async fn page(ctx: &Ctx, typed: Option<String>, error: String) -> Result<HttpResponse> {
    let (accounts, per_user) = ctx.kernel.db.read(|c| Ok((queries::list(c)?, queries::per_user(c)?))).await?;
    let status = if error.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let template = AllPage {
        page: Page::new(ctx, "Accounts of this appliance", "appliance"),
        accounts,
        per_user: typed.unwrap_or_else(|| per_user.to_string()),
        error,
    };
    html_status(status, &template)
}

/// `GET /appliance/accounts`.
pub(super) async fn list(ctx: Ctx) -> Result<HttpResponse> {
    page(&ctx, None, String::new()).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct LimitForm {
    accounts_per_user: String,
}

/// `POST /appliance/accounts`.
pub(super) async fn set_limit(ctx: Ctx, form: Form<LimitForm>) -> Result<HttpResponse> {
    let count = form.0.accounts_per_user.trim().parse().unwrap_or(-1);
    match actions::set_per_user(&ctx.kernel, &ctx.principal, count).await {
        Ok(()) => Ok(redirect_with("/appliance/accounts", "success", "The limit was saved.")),
        Err(Error::Invalid(errors)) => {
            let error = errors.into_iter().next().map(|error| error.message).unwrap_or_default();
            page(&ctx, Some(form.0.accounts_per_user), error).await
        }
        Err(other) => Err(other),
    }
}

async fn set_state(ctx: &Ctx, id: &str, state: AccountState, said: &str) -> Result<HttpResponse> {
    let id = AccountId::parse(id).ok_or(Error::NotFound("This account"))?;
    match actions::set_state(&ctx.kernel, &ctx.principal, id, state).await {
        Ok(_) => Ok(redirect_with("/appliance/accounts", "success", said)),
        Err(Error::Conflict(why)) => Ok(redirect_with("/appliance/accounts", "danger", &why)),
        Err(other) => Err(other),
    }
}

#[derive(Template)]
#[template(path = "accounts/suspend.html")]
struct SuspendPage {
    page: Page,
    account: Account,
}

/// `GET /appliance/accounts/{id}/suspend`.
pub(super) async fn confirm_suspension(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let id = AccountId::parse(&id.0).ok_or(Error::NotFound("This account"))?;
    let found = ctx.kernel.db.read(move |c| queries::find(c, id)).await?;
    let account = found.filter(Account::is_active).ok_or(Error::NotFound("This account"))?;
    html(&SuspendPage { page: Page::new(&ctx, "Suspend an account", "appliance"), account })
}

/// `POST /appliance/accounts/{id}/suspend`.
pub(super) async fn suspend(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    set_state(&ctx, &id.0, AccountState::Suspended, "The account is suspended: nothing of it works any more.").await
}

/// `POST /appliance/accounts/{id}/restore`.
pub(super) async fn restore(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    set_state(&ctx, &id.0, AccountState::Active, "The account works again, with everything that it owned.").await
}
