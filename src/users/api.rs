//! `/api/users`: the members of the caller's account. New ones come by invitation.

use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};

use super::{
    actions,
    model::{MemberInput, UserState, UserView},
    queries::{self, MemberFilter},
    recovery::{self, Handed},
};
use crate::{
    error::{Error, Result},
    notifications::LinkView,
    web::{Ctx, Json, ListQuery, Listing, PathId, Query},
};

/// Filters of a list of users.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct UserQuery {
    pub(super) limit: Option<i64>,
    pub(super) cursor: Option<String>,
    /// Part of a name or e-mail address.
    #[param(max_length = 200)]
    pub(super) q: Option<String>,
    /// A role's id.
    pub(super) role: Option<String>,
    /// `enabled` or `disabled`.
    #[param(pattern = "^(enabled|disabled|)$")]
    pub(super) state: Option<String>,
    /// `true` or `false`: whether they have a second factor.
    #[param(pattern = "^(true|false|)$")]
    #[serde(rename = "mfaEnabled")]
    pub(super) mfa_enabled: Option<String>,
}

impl UserQuery {
    pub(super) fn filter(&self) -> Result<MemberFilter> {
        let q = self.q.clone().unwrap_or_default();
        if q.chars().count() > 200 {
            return Err(Error::BadRequest("q may have 200 characters at most.".into()));
        }
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let state = given(&self.state).map(|text| {
            UserState::parse(&text).ok_or_else(|| Error::BadRequest("state must be enabled or disabled.".into()))
        });
        let mfa_enabled = given(&self.mfa_enabled).map(|text| match text.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Error::BadRequest("mfaEnabled must be true or false.".into())),
        });
        Ok(MemberFilter {
            q,
            role: given(&self.role),
            state: state.transpose()?,
            mfa_enabled: mfa_enabled.transpose()?,
        })
    }
}

/// The users of this account.
#[utoipa::path(get, path = "/api/users", tag = "users", params(UserQuery),
    responses((status = 200, description = "`{\"users\": […], \"next\"}`", body = [UserView])))]
pub(super) async fn list(ctx: Ctx, query: Query<UserQuery>) -> Result<HttpResponse> {
    let (account, filter) = (ctx.principal.account()?, query.0.filter()?);
    let list = ListQuery { limit: query.0.limit, cursor: query.0.cursor };
    let (limit, after) = (list.limit()?, list.position::<String>()?.unwrap_or_default());
    let rows = ctx.kernel.db.read(move |c| queries::list_members(c, account, &filter, &after, limit + 1)).await?;
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

/// Changes a user's role or state in this account. It holds with their next request.
#[utoipa::path(post, path = "/api/users/{id}", tag = "users", params(("id" = String, Path)), request_body = MemberInput,
    responses((status = 200, body = UserView)))]
pub(super) async fn update(ctx: Ctx, id: PathId<String>, input: Json<MemberInput>) -> Result<HttpResponse> {
    let member = actions::update_member(&ctx.kernel, &ctx.principal, id.0, input.0).await?;
    Ok(HttpResponse::Ok().json(UserView::from(member)))
}

/// Takes a user out of this account. The user stays, in other accounts too.
#[utoipa::path(delete, path = "/api/users/{id}", tag = "users", params(("id" = String, Path)),
    responses((status = 204, description = "Removed."), (status = 409, description = "The last administrator.")))]
pub(super) async fn remove(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    actions::remove_member(&ctx.kernel, &ctx.principal, id.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What came of signing somebody out.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SignedOut {
    sessions_ended: usize,
}

/// Ends all sessions that a user has in this account.
#[utoipa::path(post, path = "/api/users/{id}/sign-out", tag = "users", params(("id" = String, Path)),
    responses((status = 200, body = SignedOut)))]
pub(super) async fn sign_out(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let sessions_ended = actions::sign_out_member(&ctx.kernel, &ctx.principal, id.0).await?;
    Ok(HttpResponse::Ok().json(SignedOut { sessions_ended }))
}

/// How a link for a new password left the appliance.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResetLink {
    /// It went to the user by mail.
    mailed: bool,
    #[serde(flatten)]
    link: LinkView,
}

/// Makes a link by which a user sets a new password, once, within 30 minutes. Only for whoever belongs to this account
/// alone and holds no more than the caller. Without mail the answer holds, this once, the `link` to hand over, or the `token` of
/// it when the appliance's own address is not configured: put that behind `<address>/reset-password?token=`.
#[utoipa::path(post, path = "/api/users/{id}/reset-link", tag = "users", params(("id" = String, Path)),
    responses((status = 200, body = ResetLink)))]
pub(super) async fn reset_link(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let answer = match recovery::make_reset(&ctx.kernel, &ctx.principal, id.0).await? {
        Handed::Mailed => ResetLink { mailed: true, link: LinkView::default() },
        Handed::ToCopy(made) => ResetLink { mailed: false, link: made.into() },
    };
    Ok(HttpResponse::Ok().json(answer))
}
