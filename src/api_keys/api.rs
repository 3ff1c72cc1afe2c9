//! `/api/apikeys`.

use actix_web::HttpResponse;

use super::{
    actions,
    model::{KeyInput, KeyView},
    queries,
};
use crate::{
    error::{Error, Result},
    web::{Ctx, Json, ListQuery, Listing, PathId, Query},
};

/// The API keys of this account, the newest first; never their secrets.
#[utoipa::path(get, path = "/api/apikeys", tag = "apikeys", params(ListQuery),
    responses((status = 200, description = "`{\"apikeys\": […], \"next\"}`", body = [KeyView])))]
pub(super) async fn list(ctx: Ctx, query: Query<ListQuery>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let limit = query.0.limit()?;
    let before = query.0.position::<String>()?;
    let rows = ctx.kernel.db.read(move |c| queries::list(c, account, before.as_deref(), limit + 1)).await?;
    Ok(Listing::cut(rows, limit, |key| key.id.clone()).map(KeyView::from).json("apikeys"))
}

/// Makes a key. Its `secret` is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/apikeys", tag = "apikeys", request_body = KeyInput,
    responses((status = 201, body = KeyView)))]
pub(super) async fn create(ctx: Ctx, input: Json<KeyInput>) -> Result<HttpResponse> {
    let created = actions::create(&ctx.kernel, &ctx.principal, input.0).await?;
    let mut view = KeyView::from(created.key);
    view.secret = Some(created.secret.expose().clone());
    Ok(HttpResponse::Created().json(view))
}

/// One key.
#[utoipa::path(get, path = "/api/apikeys/{id}", tag = "apikeys", params(("id" = String, Path)),
    responses((status = 200, body = KeyView)))]
pub(super) async fn get(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let key = ctx.kernel.db.read(move |c| queries::find(c, account, &id.0)).await?;
    Ok(HttpResponse::Ok().json(KeyView::from(key.ok_or(Error::NotFound("This API key"))?)))
}

/// Changes a key: the fields that are given. `{"enabled": false}` locks it out.
#[utoipa::path(post, path = "/api/apikeys/{id}", tag = "apikeys", params(("id" = String, Path)),
    request_body = KeyInput, responses((status = 200, body = KeyView)))]
pub(super) async fn update(ctx: Ctx, id: PathId<String>, input: Json<KeyInput>) -> Result<HttpResponse> {
    let key = actions::update(&ctx.kernel, &ctx.principal, id.0, input.0).await?;
    Ok(HttpResponse::Ok().json(KeyView::from(key)))
}

/// Removes a key for good.
#[utoipa::path(delete, path = "/api/apikeys/{id}", tag = "apikeys", params(("id" = String, Path)),
    responses((status = 204, description = "Removed.")))]
pub(super) async fn remove(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    actions::remove(&ctx.kernel, &ctx.principal, id.0).await?;
    Ok(HttpResponse::NoContent().finish())
}
