//! `/api/invitations`.

use actix_web::HttpResponse;
use serde::Deserialize;

use super::{
    actions,
    model::{InvitationInput, InvitationState, InvitationView},
    queries,
};
use crate::{
    error::{Error, Result},
    web::{Ctx, Json, ListQuery, Listing, PathId, Query},
};

/// Filters of a list of invitations.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct InvitationQuery {
    pub(super) limit: Option<i64>,
    pub(super) cursor: Option<String>,
    /// `invited`, `accepted`, `rejected`, `revoked` or `expired`.
    #[param(pattern = "^(invited|accepted|rejected|revoked|expired|)$")]
    pub(super) state: Option<String>,
}

impl InvitationQuery {
    pub(super) fn state(&self) -> Result<Option<InvitationState>> {
        let given = self.state.as_deref().filter(|text| !text.is_empty());
        let unknown = || Error::BadRequest("state must be invited, accepted, rejected, revoked or expired.".into());
        given.map(|text| InvitationState::parse(text).ok_or_else(unknown)).transpose()
    }
}

/// The invitations of this account, the newest first; never their links.
#[utoipa::path(get, path = "/api/invitations", tag = "invitations", params(InvitationQuery),
    responses((status = 200, description = "`{\"invitations\": […], \"next\"}`", body = [InvitationView])))]
pub(super) async fn list(ctx: Ctx, query: Query<InvitationQuery>) -> Result<HttpResponse> {
    let (account, state, now) = (ctx.principal.account()?, query.0.state()?, ctx.kernel.clock.now());
    let list = ListQuery { limit: query.0.limit, cursor: query.0.cursor };
    let (limit, before) = (list.limit()?, list.position::<String>()?);
    let rows = ctx.kernel.db.read(move |c| queries::list(c, account, state, before.as_deref(), limit + 1, now)).await?;
    let listing = Listing::cut(rows, limit, |invitation| invitation.id.clone());
    Ok(listing.map(|invitation| InvitationView::new(invitation, now)).json("invitations"))
}

/// Invites somebody. Without mail the answer holds, this once, the `link` to hand over, or the `token` of it when the
/// appliance's own address is not configured: put that behind `<address>/invitation?token=`.
#[utoipa::path(post, path = "/api/invitations", tag = "invitations", request_body = InvitationInput,
    responses((status = 201, body = InvitationView),
        (status = 409, description = "There is an open invitation for this address, or there are too many.")))]
pub(super) async fn create(ctx: Ctx, input: Json<InvitationInput>) -> Result<HttpResponse> {
    let sent = actions::create(&ctx.kernel, &ctx.principal, input.0).await?;
    let view = InvitationView::new(sent.invitation, ctx.kernel.clock.now()).with_link(sent.link);
    Ok(HttpResponse::Created().json(view))
}

/// One invitation.
#[utoipa::path(get, path = "/api/invitations/{id}", tag = "invitations", params(("id" = String, Path)),
    responses((status = 200, body = InvitationView)))]
pub(super) async fn get(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let (account, now) = (ctx.principal.account()?, ctx.kernel.clock.now());
    let found = ctx.kernel.db.read(move |c| queries::find(c, account, &id.0)).await?;
    Ok(HttpResponse::Ok().json(InvitationView::new(found.ok_or(Error::NotFound("This invitation"))?, now)))
}

/// Makes a new link, with the whole time again; the old one is dead. Also for an invitation that has expired.
#[utoipa::path(post, path = "/api/invitations/{id}/resend", tag = "invitations", params(("id" = String, Path)),
    responses((status = 200, body = InvitationView),
        (status = 409, description = "It has ended, its role is gone, or who it was for is in the account by now.")))]
pub(super) async fn resend(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let sent = actions::resend(&ctx.kernel, &ctx.principal, id.0).await?;
    let view = InvitationView::new(sent.invitation, ctx.kernel.clock.now()).with_link(sent.link);
    Ok(HttpResponse::Ok().json(view))
}

/// Revokes an open invitation: its link is dead at once. It stays in the list.
#[utoipa::path(delete, path = "/api/invitations/{id}", tag = "invitations", params(("id" = String, Path)),
    responses((status = 204, description = "Revoked."), (status = 409, description = "It has ended already.")))]
pub(super) async fn revoke(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    actions::revoke(&ctx.kernel, &ctx.principal, id.0).await?;
    Ok(HttpResponse::NoContent().finish())
}
