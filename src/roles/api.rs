//! `/api/roles`.

use actix_web::{HttpResponse, web::Data};

use super::{
    actions,
    model::{Neighbours, RoleInput, RoleJson},
    queries,
};
use crate::{
    error::{Error, Result},
    web::{Ctx, Json, ListQuery, Listing, PathId, Query},
};

/// The roles that users and API keys can be given, by id.
#[utoipa::path(get, path = "/api/roles", tag = "roles", params(ListQuery),
    responses((status = 200, description = "`{\"roles\": […], \"next\"}`", body = [RoleJson])))]
pub(super) async fn list(ctx: Ctx, query: Query<ListQuery>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let (limit, after) = (query.0.limit()?, query.0.position::<String>()?);
    let mut rows = ctx.kernel.db.read(move |c| queries::list(c, account)).await?;
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    rows.retain(|role| after.as_ref().is_none_or(|after| role.id > *after));
    rows.truncate(limit + 1);
    Ok(Listing::cut(rows, limit, |role| role.id.clone()).map(RoleJson::from).json("roles"))
}

/// One role.
#[utoipa::path(get, path = "/api/roles/{id}", tag = "roles", params(("id" = String, Path)),
    responses((status = 200, body = RoleJson)))]
pub(super) async fn get(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let role = ctx.kernel.db.read(move |c| queries::find(c, account, &id.0)).await?;
    Ok(HttpResponse::Ok().json(RoleJson::from(role.ok_or(Error::NotFound("This role"))?)))
}

/// Makes a role. Nobody can make one that holds more than they do.
#[utoipa::path(post, path = "/api/roles", tag = "roles", request_body = RoleInput,
    responses((status = 201, body = RoleJson)))]
pub(super) async fn create(ctx: Ctx, input: Json<RoleInput>, neighbours: Data<Neighbours>) -> Result<HttpResponse> {
    let role = actions::create(&ctx.kernel, &ctx.principal, **neighbours, input.0).await?;
    Ok(HttpResponse::Created().json(RoleJson::from(role)))
}

/// Changes a role: the fields that are given. It holds with the next request of whoever has it.
#[utoipa::path(post, path = "/api/roles/{id}", tag = "roles", params(("id" = String, Path)), request_body = RoleInput,
    responses((status = 200, body = RoleJson)))]
pub(super) async fn update(
    ctx: Ctx,
    id: PathId<String>,
    input: Json<RoleInput>,
    neighbours: Data<Neighbours>,
) -> Result<HttpResponse> {
    let role = actions::update(&ctx.kernel, &ctx.principal, **neighbours, id.0, input.0).await?;
    Ok(HttpResponse::Ok().json(RoleJson::from(role)))
}

/// Removes a role that nobody has.
#[utoipa::path(delete, path = "/api/roles/{id}", tag = "roles", params(("id" = String, Path)),
    responses((status = 204, description = "Removed."), (status = 409, description = "Somebody has it, or it is predefined.")))]
pub(super) async fn remove(ctx: Ctx, id: PathId<String>, neighbours: Data<Neighbours>) -> Result<HttpResponse> {
    actions::remove(&ctx.kernel, &ctx.principal, **neighbours, id.0).await?;
    Ok(HttpResponse::NoContent().finish())
}
