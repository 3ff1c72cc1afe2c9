//! `/api/accounts`: the caller's own account, as a list of one.

use actix_web::{HttpResponse, web::Data};
use serde::Deserialize;

use super::{
    actions::{self, Belongings},
    export::{self, Exporting},
    model::{Account, UpdateInput},
    queries,
};
use crate::{
    error::{Error, Result},
    principal::AccountId,
    web::{Ctx, Json, ListQuery, Listing, PathId, Query},
};

async fn own(ctx: &Ctx) -> Result<Account> {
    let account = ctx.principal.account()?;
    let found = ctx.kernel.db.read(move |c| queries::find(c, account)).await?;
    found.ok_or(Error::NotFound("This account"))
}

/// The accounts that the caller acts in.
#[utoipa::path(get, path = "/api/accounts", tag = "accounts", params(ListQuery),
    responses((status = 200, description = "`{\"accounts\": […], \"next\"}`", body = [Account])))]
pub(super) async fn list(ctx: Ctx, query: Query<ListQuery>) -> Result<HttpResponse> {
    let limit = query.0.limit()?;
    let rows = match query.0.position::<String>()? {
        None => vec![own(&ctx).await?],
        Some(_) => Vec::new(),
    };
    Ok(Listing::cut(rows, limit, |account: &Account| account.id.to_string()).json("accounts"))
}

/// One account.
#[utoipa::path(get, path = "/api/accounts/{id}", tag = "accounts", params(("id" = String, Path)),
    responses((status = 200, body = Account)))]
pub(super) async fn get(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let account = own(&ctx).await?;
    if AccountId::parse(&id.0) != Some(account.id) {
        return Err(Error::NotFound("This account"));
    }
    Ok(HttpResponse::Ok().json(account))
}

/// Changes an account: the fields that are given.
#[utoipa::path(post, path = "/api/accounts/{id}", tag = "accounts", params(("id" = String, Path)),
    request_body = UpdateInput, responses((status = 200, body = Account)))]
pub(super) async fn modify(ctx: Ctx, id: PathId<String>, input: Json<UpdateInput>) -> Result<HttpResponse> {
    if AccountId::parse(&id.0) != Some(ctx.principal.account()?) {
        return Err(Error::NotFound("This account"));
    }
    let account = actions::update(&ctx.kernel, &ctx.principal, input.0).await?;
    Ok(HttpResponse::Ok().json(account))
}

/// What has to be said to delete an account.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmQuery {
    /// The account's alias.
    #[serde(default)]
    confirm: String,
}

/// Deletes an account: it is suspended at once, with this key too, and gone for good after 30 days.
#[utoipa::path(delete, path = "/api/accounts/{id}", tag = "accounts", params(("id" = String, Path), ConfirmQuery),
    responses((status = 200, description = "Suspended; `purgeAt` says until when it can be brought back.", body = Account)))]
pub(super) async fn remove(ctx: Ctx, id: PathId<String>, query: Query<ConfirmQuery>) -> Result<HttpResponse> {
    if AccountId::parse(&id.0) != Some(ctx.principal.account()?) {
        return Err(Error::NotFound("This account"));
    }
    let account = actions::delete(&ctx.kernel, &ctx.principal, &query.0.confirm).await?;
    Ok(HttpResponse::Ok().json(account))
}

/// Everything that an account holds, as JSON lines: its settings, users, roles, keys, directories, people, groups, history,
/// requests and records, without passwords, credentials and hashes of secrets. Only for whoever may do everything in it.
#[utoipa::path(get, path = "/api/accounts/{id}/export", tag = "accounts", params(("id" = String, Path)),
    responses((status = 200, description = "The first line says what it is; each other one is a row as \
    `{\"table\", \"row\"}`; the last one holds how many rows there are and the SHA-256 of all lines before it.",
    body = String, content_type = "application/jsonl")))]
pub(super) async fn export(
    ctx: Ctx,
    id: PathId<String>,
    belongings: Data<Belongings>,
    exporting: Data<Exporting>,
) -> Result<HttpResponse> {
    if AccountId::parse(&id.0) != Some(ctx.principal.account()?) {
        return Err(Error::NotFound("This account"));
    }
    export::download(&ctx.kernel, &ctx.principal, &belongings, &exporting).await
}
