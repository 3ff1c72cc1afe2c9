//! An account's own settings for people: name, sessions, language, history, and its deletion.

use actix_web::{HttpResponse, web::Data};
use askama::Template;
use serde::Deserialize;

use super::{
    actions::{self, Belongings},
    export::{self, Exporting},
    model::{Account, UpdateInput},
    queries, regional,
};
use crate::{
    error::{Error, Result},
    principal::Permission,
    web::{Ctx, Form, Page, Refused, door, html_status, redirect, redirect_with},
};

/// What the form sends.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct AccountForm {
    alias: String,
    locale: String,
    time_zone: String,
    session_idle_minutes: String,
    session_max_hours: String,
    history_days: String,
}

impl AccountForm {
    fn of(account: &Account) -> Self {
        Self {
            alias: account.alias.clone(),
            locale: account.locale.clone(),
            time_zone: account.time_zone.clone(),
            session_idle_minutes: account.session_idle_minutes.to_string(),
            session_max_hours: account.session_max_hours.to_string(),
            history_days: account.history_days.to_string(),
        }
    }

    /// The same input that the API takes. What is no number is out of every range.
    fn input(&self) -> UpdateInput {
        let number = |text: &str| Some(text.trim().parse().unwrap_or(-1));
        UpdateInput {
            alias: Some(self.alias.clone()),
            mfa_required: None,
            passkey_only: None,
            locale: Some(self.locale.clone()),
            time_zone: Some(self.time_zone.clone()),
            session_idle_minutes: number(&self.session_idle_minutes),
            session_max_hours: number(&self.session_max_hours),
            history_days: number(&self.history_days),
        }
    }
}

#[derive(Template)]
#[template(path = "accounts/settings.html")]
struct SettingsPage {
    page: Page,
    account: Account,
    form: AccountForm,
    locales: &'static [(&'static str, &'static str)],
    time_zones: &'static [String],
    is_open: bool,
    may_delete: bool,
    refused: Refused,
}

impl SettingsPage {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }
}

async fn own(ctx: &Ctx) -> Result<Account> {
    let account = ctx.principal.account()?;
    ctx.kernel.db.read(move |c| queries::find(c, account)).await?.ok_or(Error::NotFound("This account"))
}

async fn page(ctx: &Ctx, form: Option<AccountForm>, refused: Refused) -> Result<HttpResponse> {
    let account = own(ctx).await?;
    let page = Page::new(ctx, "Account", "account");
    let template = SettingsPage {
        is_open: page.may("settings", "full"),
        may_delete: ctx.principal.allows(Permission::Everything),
        page,
        form: form.unwrap_or_else(|| AccountForm::of(&account)),
        account,
        locales: &regional::LOCALES,
        time_zones: regional::time_zones(),
        refused,
    };
    html_status(template.refused.status, &template)
}

/// `GET /settings/account`.
pub(super) async fn show(ctx: Ctx) -> Result<HttpResponse> {
    page(&ctx, None, Refused::none()).await
}

/// `POST /settings/account`.
pub(super) async fn update(ctx: Ctx, form: Form<AccountForm>) -> Result<HttpResponse> {
    match actions::update(&ctx.kernel, &ctx.principal, form.0.input()).await {
        Ok(_) => Ok(redirect_with("/settings/account", "success", "The account was saved.")),
        Err(error) => page(&ctx, Some(form.0), Refused::of(error)?).await,
    }
}

#[derive(Template)]
#[template(path = "accounts/delete.html")]
struct DeletePage {
    page: Page,
    account: Account,
    typed: String,
    refused: Refused,
}

async fn deletion(ctx: &Ctx, typed: String, refused: Refused) -> Result<HttpResponse> {
    let account = own(ctx).await?;
    let page = Page::new(ctx, format!("Delete {}", account.alias), "account");
    html_status(refused.status, &DeletePage { page, account, typed, refused })
}

/// `GET /settings/account/delete`.
pub(super) async fn confirm_deletion(ctx: Ctx) -> Result<HttpResponse> {
    deletion(&ctx, String::new(), Refused::none()).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteForm {
    confirm: String,
}

/// `POST /settings/account/delete`. Whoever does it is signed out with everybody else.
pub(super) async fn delete(ctx: Ctx, form: Form<DeleteForm>) -> Result<HttpResponse> {
    match actions::delete(&ctx.kernel, &ctx.principal, &form.0.confirm).await {
        Ok(account) => {
            let until = account.purge_at.map(|at| at.text()).unwrap_or_default();
            let said = format!(
                "The account {} is deleted: nothing of it works any more. The appliance's owner can bring it back until {until}.",
                account.alias
            );
            let mut answer = redirect("/sign-in");
            for cookie in [door::removal(door::SESSION_COOKIE), door::flash("info", &said)] {
                if let Err(error) = answer.add_cookie(&cookie) {
                    tracing::error!(%error, "a cookie could not be written");
                }
            }
            Ok(answer)
        }
        Err(error) => deletion(&ctx, form.0.confirm, Refused::of(error)?).await,
    }
}

/// `GET /settings/account/export`: everything that the account holds.
pub(super) async fn export(ctx: Ctx, belongings: Data<Belongings>, exporting: Data<Exporting>) -> Result<HttpResponse> {
    export::download(&ctx.kernel, &ctx.principal, &belongings, &exporting).await
}
