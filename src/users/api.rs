//! `GET /api/users`: the members of the caller's account.

use actix_web::HttpResponse;

use super::{model::UserView, queries};
use crate::{
    error::{Error, Result},
    web::{Ctx, ListQuery, Listing, PathId, Query},
};

/// The users of this account.
#[utoipa::path(get, path = "/api/users", tag = "users", params(ListQuery),
    responses((status = 200, description = "`{\"users\": […], \"next\"}`", body = [UserView])))]
pub(super) async fn list(ctx: Ctx, query: Query<ListQuery>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let limit = query.0.limit()?;
    let after = query.0.position::<String>()?.unwrap_or_default();
    let rows = ctx.kernel.db.read(move |c| queries::list_members(c, account, &after, limit + 1)).await?;
    Ok(Listing::cut(rows, limit, |member| member.user.id.clone()).map(UserView::from).json("users"))
}

/// One user of this account.
#[utoipa::path(get, path = "/api/users/{id}", tag = "users", params(("id" = String, Path)),
    responses((status = 200, body = UserView)))]
pub(super) async fn get(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let member = ctx.kernel.db.read(move |c| queries::find_member(c, &id.0, account)).await?;
    Ok(HttpResponse::Ok().json(UserView::from(member.ok_or(Error::NotFound("This user"))?)))
}
