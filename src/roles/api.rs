//! `GET /api/roles`.

use actix_web::HttpResponse;

use super::RoleView;
use crate::{
    error::{Error, Result},
    web::{ListQuery, Listing, PathId, Query},
};

/// The roles that users and API keys can be given.
#[utoipa::path(get, path = "/api/roles", tag = "roles", params(ListQuery),
    responses((status = 200, description = "`{\"roles\": […], \"next\"}`", body = [RoleView])))]
pub(super) async fn list(query: Query<ListQuery>) -> Result<HttpResponse> {
    let limit = query.0.limit()?;
    let after = query.0.position::<String>()?;
    let skip = |id: &str| after.as_deref().is_some_and(|after| id <= after);
    let mut roles = super::list();
    roles.sort_by_key(|role| role.id);
    let rows = roles.into_iter().filter(|role| !skip(role.id)).take(limit + 1).collect();
    Ok(Listing::cut(rows, limit, |role: &super::Role| role.id).map(RoleView::from).json("roles"))
}

/// One role.
#[utoipa::path(get, path = "/api/roles/{id}", tag = "roles", params(("id" = String, Path)),
    responses((status = 200, body = RoleView)))]
pub(super) async fn get(id: PathId<String>) -> Result<HttpResponse> {
    let role = super::find(&id.0).ok_or(Error::NotFound("This role"))?;
    Ok(HttpResponse::Ok().json(RoleView::from(role)))
}
