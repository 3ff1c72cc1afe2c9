//! All accounts of the appliance, for its owner: state, suspending, bringing back, and how many a user may make.
//!
//! It shows that accounts exist and nothing of what is in them: the owner is no member of them.

use actix_web::HttpResponse;
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
    web::{
        Ctx, Form, ListQuery, Listing, PAGE_SIZE, Page, PathId, Query, Refused, href, html, html_status, redirect_with,
    },
};

#[derive(Template)]
#[template(path = "accounts/all.html")]
struct AllPage {
    page: Page,
    accounts: Vec<Account>,
    per_user: String,
    refused: Refused,
    first_href: String,
    next_href: String,
}

impl AllPage {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }
}

async fn page(ctx: &Ctx, list: ListQuery, typed: Option<String>, refused: Refused) -> Result<HttpResponse> {
    let after = list.position::<String>()?.unwrap_or_default();
    let read =
        move |c: &rusqlite::Connection| Ok((queries::list_behind(c, &after, PAGE_SIZE + 1)?, queries::per_user(c)?));
    let (accounts, per_user) = ctx.kernel.db.read(read).await?;
    let Listing { rows, next } = Listing::cut(accounts, PAGE_SIZE, |account| account.alias.clone());
    let link = |cursor: &str| href("/appliance/accounts", &[("cursor", cursor)]);
    let template = AllPage {
        page: Page::new(ctx, "Accounts of this appliance", "appliance"),
        accounts: rows,
        first_href: list.cursor.as_ref().map(|_| link("")).unwrap_or_default(),
        next_href: next.map(|cursor| link(&cursor)).unwrap_or_default(),
        per_user: typed.unwrap_or_else(|| per_user.to_string()),
        refused,
    };
    html_status(template.refused.status, &template)
}

/// Where in the list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountsQuery {
    cursor: Option<String>,
}

/// `GET /appliance/accounts`, by alias.
pub(super) async fn list(ctx: Ctx, query: Query<AccountsQuery>) -> Result<HttpResponse> {
    page(&ctx, ListQuery { limit: None, cursor: query.0.cursor }, None, Refused::none()).await
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
        Err(error) => {
            let list = ListQuery { limit: None, cursor: None };
            page(&ctx, list, Some(form.0.accounts_per_user), Refused::of(error)?).await
        }
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
