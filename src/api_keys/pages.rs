//! The keys for people: list, create, edit, lock out, remove; and the page that shows a secret once.

use actix_web::{HttpResponse, http::StatusCode};
use askama::Template;
use serde::Deserialize;

use super::{
    actions,
    model::{ApiKey, Expiry, KeyInput},
    queries,
};
use crate::{
    clock::{DAY, Time},
    error::{Error, FieldError, Result},
    principal::{Level, Rights},
    roles::{self, Role},
    web::{Ctx, Form, ListQuery, Listing, PAGE_SIZE, Page, PathId, Query, html, html_status, redirect_with},
};

/// A key as a row of the list.
struct Row {
    key: ApiKey,
    role: String,
    state: &'static str,
    allowed: Vec<String>,
}

impl Row {
    fn state_label(&self) -> &'static str {
        match self.state {
            "locked" => "Locked out",
            "expired" => "Expired",
            _ => "Active",
        }
    }
}

fn allowed(key: &ApiKey) -> Vec<String> {
    let ips = key.allowed_ips.iter().map(ToString::to_string);
    ips.chain(key.allowed_cidrs.iter().map(ToString::to_string)).collect()
}

#[derive(Template)]
#[template(path = "api_keys/list.html")]
struct ListPage {
    page: Page,
    rows: Vec<Row>,
    first_href: String,
    next_href: String,
}

#[derive(Deserialize)]
pub(super) struct PageQuery {
    cursor: Option<String>,
}

pub(super) async fn list(ctx: Ctx, query: Query<PageQuery>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let query = ListQuery { limit: None, cursor: query.0.cursor };
    let before = query.position::<String>()?;
    let is_first = before.is_none();
    let now = ctx.kernel.clock.now();
    let rows = ctx
        .kernel
        .db
        .read(move |c| {
            let row = |key: ApiKey| {
                let role = roles::held(c, account, &key.role_id)?.name;
                Ok(Row { role, state: key.state(now), allowed: allowed(&key), key })
            };
            let keys = queries::list(c, account, before.as_deref(), PAGE_SIZE + 1)?;
            keys.into_iter().map(row).collect::<Result<Vec<_>>>()
        })
        .await?;
    let listing = Listing::cut(rows, PAGE_SIZE, |row| row.key.id.clone());
    html(&ListPage {
        page: Page::new(&ctx, "API keys", "api-keys"),
        rows: listing.rows,
        first_href: if is_first { String::new() } else { "/api-keys".into() },
        next_href: listing.next.map(|cursor| format!("/api-keys?cursor={cursor}")).unwrap_or_default(),
    })
}

/// What the form sends, for new keys and old ones.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyForm {
    alias: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    role: String,
    /// Addresses and networks, one a line.
    #[serde(default)]
    allowed: String,
    /// Days from now, `never`, or `keep`.
    expires: String,
}

impl KeyForm {
    /// The same input that the API takes.
    fn input(&self, now: Time) -> Result<KeyInput> {
        let lines = self.allowed.split(['\n', ',', ' ']).map(str::trim).filter(|line| !line.is_empty());
        let (cidrs, ips): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.contains('/'));
        let expires_at = match self.expires.as_str() {
            "keep" => Expiry::Unsaid,
            "never" => Expiry::Never,
            days => match days.parse::<i64>() {
                Ok(days @ 1..=1825) => Expiry::At(now.plus(days * DAY)),
                _ => return Err(Error::field("expires", "Choose when the key expires.")),
            },
        };
        Ok(KeyInput {
            alias: Some(self.alias.clone()),
            description: Some(self.description.clone()),
            role_id: Some(self.role.clone()),
            allowed_ips: Some(ips.into_iter().map(str::to_owned).collect()),
            allowed_cidrs: Some(cidrs.into_iter().map(str::to_owned).collect()),
            expires_at,
            enabled: None,
        })
    }
}

#[derive(Template)]
#[template(path = "api_keys/form.html")]
struct FormPage {
    page: Page,
    form: KeyForm,
    /// The key that is edited; `None` for a new one.
    key: Option<ApiKey>,
    state: &'static str,
    roles: Vec<Role>,
    may_never: bool,
    errors: Vec<FieldError>,
}

impl FormPage {
    /// What is wrong with any of the fields that one input of the page stands for.
    fn error(&self, fields: &[&str]) -> &str {
        self.errors
            .iter()
            .find(|error| fields.contains(&error.field.as_str()))
            .map_or("", |error| error.message.as_str())
    }
}

async fn form_page(ctx: &Ctx, form: KeyForm, key: Option<ApiKey>, errors: Vec<FieldError>) -> Result<HttpResponse> {
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let title = match &key {
        Some(key) => format!("API key “{}”", key.alias),
        None => "Create an API key".into(),
    };
    let who = ctx.principal.clone();
    let roles = ctx.kernel.db.read(move |c| roles::grantable(c, &who)).await?;
    html_status(
        status,
        &FormPage {
            page: Page::new(ctx, title, "api-keys"),
            form,
            state: key.as_ref().map_or("", |key| key.state(ctx.kernel.clock.now())),
            key,
            roles,
            may_never: ctx.principal.rights.includes(&Rights::all(Level::Full)),
            errors,
        },
    )
}

pub(super) async fn new(ctx: Ctx) -> Result<HttpResponse> {
    let form = KeyForm {
        alias: String::new(),
        description: String::new(),
        role: roles::READ_ONLY.into(),
        allowed: String::new(),
        expires: "365".into(),
    };
    form_page(&ctx, form, None, Vec::new()).await
}

#[derive(Template)]
#[template(path = "api_keys/created.html")]
struct CreatedPage {
    page: Page,
    alias: String,
    /// The whole key, `id:secret`: this answer is the only place where it ever stands.
    whole: String,
    base: String,
}

/// Answers with the secret itself and not with a redirect: a redirect would have to keep it somewhere.
pub(super) async fn create(ctx: Ctx, form: Form<KeyForm>) -> Result<HttpResponse> {
    let made = match form.0.input(ctx.kernel.clock.now()) {
        Ok(input) => actions::create(&ctx.kernel, &ctx.principal, input).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(created) => {
            let base = match &ctx.kernel.config.base_url {
                Some(url) => url.as_str().trim_end_matches('/').to_owned(),
                None => "https://<this appliance>".into(),
            };
            html(&CreatedPage {
                page: Page::new(&ctx, format!("API key “{}” created", created.key.alias), "api-keys"),
                whole: format!("{}:{}", created.key.id, created.secret.expose()),
                alias: created.key.alias,
                base,
            })
        }
        Err(Error::Invalid(errors)) => form_page(&ctx, form.0, None, errors).await,
        Err(other) => Err(other),
    }
}

async fn get(ctx: &Ctx, id: String) -> Result<ApiKey> {
    let account = ctx.principal.account()?;
    let key = ctx.kernel.db.read(move |c| queries::find(c, account, &id)).await?;
    key.ok_or(Error::NotFound("This API key"))
}

pub(super) async fn edit(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let key = get(&ctx, id.0).await?;
    let form = KeyForm {
        alias: key.alias.clone(),
        description: key.description.clone(),
        role: key.role_id.clone(),
        allowed: allowed(&key).join("\n"),
        expires: "keep".into(),
    };
    form_page(&ctx, form, Some(key), Vec::new()).await
}

pub(super) async fn update(ctx: Ctx, id: PathId<String>, form: Form<KeyForm>) -> Result<HttpResponse> {
    let updated = match form.0.input(ctx.kernel.clock.now()) {
        Ok(input) => actions::update(&ctx.kernel, &ctx.principal, id.0.clone(), input).await,
        Err(error) => Err(error),
    };
    match updated {
        Ok(_) => Ok(redirect_with("/api-keys", "success", "The key was saved.")),
        Err(Error::Invalid(errors)) => {
            let key = get(&ctx, id.0).await?;
            form_page(&ctx, form.0, Some(key), errors).await
        }
        Err(other) => Err(other),
    }
}

async fn enable(ctx: &Ctx, id: String, is_enabled: bool) -> Result<()> {
    let input = KeyInput { enabled: Some(is_enabled), ..KeyInput::default() };
    actions::update(&ctx.kernel, &ctx.principal, id, input).await.map(|_| ())
}

pub(super) async fn lock_out(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    enable(&ctx, id.0, false).await?;
    Ok(redirect_with("/api-keys", "success", "The key is locked out: it is refused from now on."))
}

pub(super) async fn unlock(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    enable(&ctx, id.0, true).await?;
    Ok(redirect_with("/api-keys", "success", "The key works again."))
}

pub(super) async fn remove(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    actions::remove(&ctx.kernel, &ctx.principal, id.0).await?;
    Ok(redirect_with("/api-keys", "success", "The key was removed."))
}
