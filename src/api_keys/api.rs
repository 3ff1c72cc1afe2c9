//! `/api/apikeys`.

use std::net::IpAddr;

use actix_web::{HttpRequest, HttpResponse, web::Data};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    actions::{self, CreatedKey},
    model::{Administers, KeyInput, State},
    queries,
    rotation::{self, RotateInput},
    standing::{self, KeyFilter, Standing},
};
use crate::{
    clock::Time,
    error::{Error, Result},
    principal::{Level, Permission, PrincipalKind, Service},
    web::{Ctx, Json, ListQuery, Listing, PathId, Query, Web},
};

/// A key as the API writes it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKey)]
pub(super) struct KeyView {
    id: String,
    alias: String,
    description: String,
    role_id: String,
    locale: String,
    /// IANA name; empty means UTC.
    time_zone: String,
    /// Whether it was given leave to change users, roles, keys and identity providers where its role says so.
    may_administer: bool,
    #[serde(rename = "allowedIPs")]
    #[schema(value_type = Vec<String>)]
    allowed_ips: Vec<IpAddr>,
    #[serde(rename = "allowedCIDRs")]
    #[schema(value_type = Vec<String>)]
    allowed_cidrs: Vec<IpNet>,
    /// `null`: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Time>,
    enabled: bool,
    /// `active`, `expires-soon`, `locked`, `expired`, or `orphaned`: who answered for it was disabled or has left.
    state: &'static str,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_activity: Option<Time>,
    /// Where it was last used from.
    last_address: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    /// The user who made it; `null`: made at the command line.
    made_by: Option<String>,
    /// The user without whom it does not work; `null`: it needs none.
    answered_by: Option<String>,
    /// How its secret begins, to tell which one was found somewhere.
    secret_start: String,
    /// The secret before this one, while it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_secret: Option<PreviousView>,
    /// Only in the answer that made it; it cannot be shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// An old secret that still works.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKeyPreviousSecret)]
struct PreviousView {
    start: String,
    #[schema(value_type = String, format = DateTime)]
    ends_at: Time,
    /// Since it is the old one.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_activity: Option<Time>,
}

impl KeyView {
    fn of(Standing { key, state, .. }: Standing, now: Time) -> Self {
        let previous_secret = key.previous(now).map(|previous| PreviousView {
            start: previous.start.clone(),
            ends_at: previous.ends_at,
            last_activity: previous.used_at,
        });
        Self {
            id: key.id,
            alias: key.alias,
            description: key.description,
            role_id: key.role_id,
            locale: key.locale,
            time_zone: key.time_zone,
            may_administer: key.administers != Administers::No,
            allowed_ips: key.allowed_ips,
            allowed_cidrs: key.allowed_cidrs,
            expires_at: key.expires_at,
            enabled: key.is_enabled,
            state: state.as_str(),
            last_activity: key.last_activity_at,
            last_address: key.last_address,
            created_at: key.created_at,
            made_by: key.made_by,
            answered_by: key.answered_by,
            secret_start: key.secret_start,
            previous_secret,
            secret: None,
        }
    }

    /// With the secret that stands nowhere else.
    async fn with_secret(ctx: &Ctx, created: CreatedKey) -> Result<Self> {
        let (key, now) = (created.key, ctx.kernel.clock.now());
        let standing = ctx.kernel.db.read(move |c| Standing::of(c, key, now)).await?;
        Ok(Self { secret: Some(created.secret.expose().clone()), ..Self::of(standing, now) })
    }
}

/// Filters of a list of keys.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyQuery {
    /// Rows per page: 1 to 500; 0 or absent means 25.
    pub(super) limit: Option<i64>,
    /// From the answer before: its `next`.
    pub(super) cursor: Option<String>,
    /// Part of an alias or description, or how an id or a secret begins.
    #[param(max_length = 200)]
    pub(super) q: Option<String>,
    /// `active`, `expires-soon`, `locked`, `expired` or `orphaned`.
    #[param(pattern = "^(active|expires-soon|locked|expired|orphaned|)$")]
    pub(super) state: Option<String>,
}

impl KeyQuery {
    pub(super) fn filter(&self) -> Result<KeyFilter> {
        let q = self.q.clone().unwrap_or_default();
        if q.chars().count() > 200 {
            return Err(Error::BadRequest("q may have 200 characters at most.".into()));
        }
        let state = self.state.as_deref().filter(|text| !text.is_empty()).map(|text| {
            State::parse(text).ok_or_else(|| {
                Error::BadRequest("state must be active, expires-soon, locked, expired or orphaned.".into())
            })
        });
        Ok(KeyFilter { q, state: state.transpose()? })
    }
}

/// The API keys of this account, the newest first; never their secrets.
#[utoipa::path(get, path = "/api/apikeys", tag = "apikeys", params(KeyQuery),
    responses((status = 200, description = "`{\"apikeys\": […], \"next\"}`", body = [KeyView])))]
pub(super) async fn list(ctx: Ctx, query: Query<KeyQuery>) -> Result<HttpResponse> {
    let (account, now) = (ctx.principal.account()?, ctx.kernel.clock.now());
    let filter = query.0.filter()?;
    let page = ListQuery { limit: query.0.limit, cursor: query.0.cursor };
    let (limit, before) = (page.limit()?, page.position::<String>()?);
    let rows =
        ctx.kernel.db.read(move |c| standing::list(c, account, &filter, before.as_deref(), limit + 1, now)).await?;
    let listing = Listing::cut(rows, limit, |standing| standing.key.id.clone());
    Ok(listing.map(|standing| KeyView::of(standing, now)).json("apikeys"))
}

/// Makes a key. Its `secret` is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/apikeys", tag = "apikeys", request_body = KeyInput,
    responses((status = 201, body = KeyView)))]
pub(super) async fn create(ctx: Ctx, input: Json<KeyInput>) -> Result<HttpResponse> {
    let created = actions::create(&ctx.kernel, &ctx.principal, input.0).await?;
    Ok(HttpResponse::Created().json(KeyView::with_secret(&ctx, created).await?))
}

/// What the account lets its keys do.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKeySettings)]
pub(super) struct SettingView {
    /// Whether keys with `mayAdminister` may use it. Only a user with full access changes this, in the console.
    keys_may_administer: bool,
}

/// What this account lets its keys do.
#[utoipa::path(get, path = "/api/apikeys/settings", tag = "apikeys",
    responses((status = 200, body = SettingView)))]
pub(super) async fn setting(ctx: Ctx) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let keys_may_administer = ctx.kernel.db.read(move |c| queries::lets_keys_administer(c, account)).await?;
    Ok(HttpResponse::Ok().json(SettingView { keys_may_administer }))
}

async fn found(ctx: &Ctx, id: String) -> Result<HttpResponse> {
    let (account, now) = (ctx.principal.account()?, ctx.kernel.clock.now());
    let standing = ctx.kernel.db.read(move |c| Standing::find(c, account, &id, now)).await?;
    let standing = standing.ok_or(Error::NotFound("This API key"))?;
    Ok(HttpResponse::Ok().json(KeyView::of(standing, now)))
}

/// The key that asks.
#[utoipa::path(get, path = "/api/apikeys/self", tag = "apikeys", responses((status = 200, body = KeyView)))]
pub(super) async fn own(ctx: Ctx) -> Result<HttpResponse> {
    if ctx.principal.kind != PrincipalKind::ApiKey {
        return Err(Error::NotFound("An API key of yours"));
    }
    found(&ctx, ctx.principal.id.clone()).await
}

/// One key. A key may always read itself; others take the right to read them.
#[utoipa::path(get, path = "/api/apikeys/{id}", tag = "apikeys", params(("id" = String, Path)),
    responses((status = 200, body = KeyView)))]
pub(super) async fn get(ctx: Ctx, id: PathId<String>, web: Data<Web>, request: HttpRequest) -> Result<HttpResponse> {
    let is_own = ctx.principal.kind == PrincipalKind::ApiKey && ctx.principal.id == id.0;
    if !is_own && !ctx.principal.allows(Permission::Needs(Service::Identity, Level::Read)) {
        web.gate.denied(ctx.principal.clone(), request.method().to_string(), request.path().to_owned()).await;
        // Whoever may not look at keys is not told which ones there are.
        return Err(Error::NotFound("This API key"));
    }
    found(&ctx, id.0).await
}

/// Changes a key: the fields that are given. `{"enabled": false}` locks it out.
#[utoipa::path(post, path = "/api/apikeys/{id}", tag = "apikeys", params(("id" = String, Path)),
    request_body = KeyInput, responses((status = 200, body = KeyView)))]
pub(super) async fn update(ctx: Ctx, id: PathId<String>, input: Json<KeyInput>) -> Result<HttpResponse> {
    let standing = actions::update(&ctx.kernel, &ctx.principal, id.0, input.0).await?;
    Ok(HttpResponse::Ok().json(KeyView::of(standing, ctx.kernel.clock.now())))
}

/// Gives a key a new secret, which is in this answer and nowhere else. The old one works on for a while
/// (`previousSecret`); one that was older ends at once.
#[utoipa::path(post, path = "/api/apikeys/{id}/rotate", tag = "apikeys", params(("id" = String, Path)),
    request_body = RotateInput, responses((status = 200, body = KeyView)))]
pub(super) async fn rotate(ctx: Ctx, id: PathId<String>, input: Json<RotateInput>) -> Result<HttpResponse> {
    let rotated = rotation::rotate(&ctx.kernel, &ctx.principal, id.0, input.0).await?;
    Ok(HttpResponse::Ok().json(KeyView::with_secret(&ctx, rotated).await?))
}

/// Ends the old secret of a key that was rotated, before its time.
#[utoipa::path(delete, path = "/api/apikeys/{id}/previous-secret", tag = "apikeys", params(("id" = String, Path)),
    responses((status = 204, description = "It does not work any more.")))]
pub(super) async fn end_previous(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    rotation::end_previous(&ctx.kernel, &ctx.principal, id.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Removes a key for good.
#[utoipa::path(delete, path = "/api/apikeys/{id}", tag = "apikeys", params(("id" = String, Path)),
    responses((status = 204, description = "Removed.")))]
pub(super) async fn remove(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    actions::remove(&ctx.kernel, &ctx.principal, id.0).await?;
    Ok(HttpResponse::NoContent().finish())
}
