//! The users of an account for people: list with filters, one user, role and state, sign-out, removal.

use actix_web::{HttpResponse, web::Data};
use askama::Template;
use serde::Deserialize;

use super::{
    actions,
    api::UserQuery,
    model::{Member, MemberInput, UserState, user_urn},
    queries,
    recovery::{self, Handed},
};
use crate::{
    error::{Error, Result},
    notifications::HandedLink,
    principal::AccountId,
    roles::{self, Role},
    web::{
        Ctx, Form, ListQuery, Listing, PAGE_SIZE, Page, PathId, Query, Refused, href, html, html_status, redirect_with,
    },
};

#[derive(Template)]
#[template(path = "users/list.html", blocks = ["results"])]
struct ListPage {
    page: Page,
    rows: Vec<Member>,
    roles: Vec<Role>,
    query: UserQuery,
    own_id: String,
    first_href: String,
    next_href: String,
}

impl ListPage {
    fn typed(&self) -> &str {
        self.query.q.as_deref().unwrap_or_default()
    }

    fn is_role(&self, id: &str) -> bool {
        self.query.role.as_deref() == Some(id)
    }

    fn is_mfa(&self, enabled: &str) -> bool {
        self.query.mfa_enabled.as_deref().unwrap_or_default() == enabled
    }

    fn is_state(&self, state: &str) -> bool {
        self.query.state.as_deref().unwrap_or_default() == state
    }
}

fn state_title(state: UserState) -> &'static str {
    match state {
        UserState::Enabled => "Enabled",
        UserState::Disabled => "Disabled",
    }
}

/// `GET /users`.
pub(super) async fn list(ctx: Ctx, query: Query<UserQuery>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let query = query.0;
    let filter = query.filter()?;
    let list = ListQuery { limit: None, cursor: query.cursor.clone() };
    let after = list.position::<String>()?.unwrap_or_default();
    let (rows, roles) = ctx
        .kernel
        .db
        .read(move |c| {
            let rows = queries::list_members(c, account, &filter, &after, PAGE_SIZE + 1)?;
            Ok((rows, roles::list(c, account)?))
        })
        .await?;
    let Listing { rows, next } = Listing::cut(rows, PAGE_SIZE, |member| member.user.id.clone());
    let link = |cursor: &str| {
        let given = |text: &Option<String>| text.clone().unwrap_or_default();
        let (q, role, state) = (given(&query.q), given(&query.role), given(&query.state));
        let mfa = given(&query.mfa_enabled);
        href("/users", &[("q", &q), ("role", &role), ("state", &state), ("mfaEnabled", &mfa), ("cursor", cursor)])
    };
    let template = ListPage {
        page: Page::new(&ctx, "Users", "users"),
        rows,
        roles,
        own_id: ctx.principal.id.clone(),
        first_href: query.cursor.as_ref().map(|_| link("")).unwrap_or_default(),
        next_href: next.map(|cursor| link(&cursor)).unwrap_or_default(),
        query,
    };
    if ctx.is_fragment { html(&template.as_results()) } else { html(&template) }
}

#[derive(Template)]
#[template(path = "users/member.html")]
struct MemberPage {
    page: Page,
    member: Member,
    region: String,
    /// The roles that this reader may give, and the present one.
    roles: Vec<Role>,
    chosen: String,
    is_self: bool,
    /// May be changed by this reader.
    is_open: bool,
    refused: Refused,
}

impl MemberPage {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }

    /// As the audit log names whoever acts in this account.
    fn urn(&self) -> String {
        user_urn(&self.region, Some(self.member.account_id), &self.member.user.id)
    }

    fn state_title(&self) -> &'static str {
        state_title(self.member.shown_state())
    }
}

async fn find(ctx: &Ctx, id: String) -> Result<Member> {
    let account = ctx.principal.account()?;
    ctx.kernel.db.read(move |c| queries::find_member(c, &id, account)).await?.ok_or(Error::NotFound("This user"))
}

async fn page(ctx: &Ctx, id: String, chosen: Option<String>, error: Option<Error>) -> Result<HttpResponse> {
    let member = find(ctx, id).await?;
    let who = ctx.principal.clone();
    let mut roles = ctx.kernel.db.read(move |c| roles::grantable(c, &who)).await?;
    if !roles.iter().any(|role| role.id == member.role.id) {
        roles.push(member.role.clone());
    }
    let refused = error.map_or_else(|| Ok(Refused::none()), Refused::of)?;
    let page = Page::new(ctx, member.user.name.clone(), "users").named();
    let is_self = ctx.principal.id == member.user.id;
    let is_open = page.may("identity", "full") && roles::check_grant(&ctx.principal, &member.role).is_ok();
    let chosen = chosen.unwrap_or_else(|| member.role.id.clone());
    let region = ctx.principal.region.clone();
    html_status(refused.status, &MemberPage { page, roles, chosen, is_self, is_open, refused, region, member })
}

/// `GET /users/{id}`.
pub(super) async fn show(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    page(&ctx, id.0, None, None).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoleForm {
    role: String,
}

/// `POST /users/{id}`.
pub(super) async fn update(ctx: Ctx, id: PathId<String>, form: Form<RoleForm>) -> Result<HttpResponse> {
    let input = MemberInput { role_id: Some(form.0.role.clone()), state: None };
    match actions::update_member(&ctx.kernel, &ctx.principal, id.0.clone(), input).await {
        Ok(_) => Ok(redirect_with(&format!("/users/{}", id.0), "success", "The role was changed. It holds at once.")),
        Err(error) => page(&ctx, id.0, Some(form.0.role), Some(error)).await,
    }
}

async fn set_state(ctx: Ctx, id: String, state: UserState, said: &str) -> Result<HttpResponse> {
    let input = MemberInput { role_id: None, state: Some(state) };
    match actions::update_member(&ctx.kernel, &ctx.principal, id.clone(), input).await {
        Ok(_) => Ok(redirect_with(&format!("/users/{id}"), "success", said)),
        Err(error) => page(&ctx, id, None, Some(error)).await,
    }
}

/// `POST /users/{id}/disable`.
pub(super) async fn disable(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    set_state(ctx, id.0, UserState::Disabled, "The user is disabled and signed out of this account.").await
}

/// `POST /users/{id}/enable`.
pub(super) async fn enable(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    set_state(ctx, id.0, UserState::Enabled, "The user may sign in to this account again.").await
}

/// `POST /users/{id}/sign-out`.
pub(super) async fn sign_out(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    match actions::sign_out_member(&ctx.kernel, &ctx.principal, id.0.clone()).await {
        Ok(_) => {
            let said = "All sessions of this user in this account have ended.";
            Ok(redirect_with(&format!("/users/{}", id.0), "success", said))
        }
        Err(error) => page(&ctx, id.0, None, Some(error)).await,
    }
}

#[derive(Template)]
#[template(path = "users/reset_link.html")]
struct LinkPage {
    page: Page,
    member: Member,
    link: HandedLink,
}

/// `POST /users/{id}/reset-link`. A link to copy is in this answer and nowhere else.
pub(super) async fn reset_link(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    match recovery::make_reset(&ctx.kernel, &ctx.principal, id.0.clone()).await {
        Ok(Handed::Mailed) => {
            let said = "A link to set a new password was mailed. It works once, for 30 minutes.";
            Ok(redirect_with(&format!("/users/{}", id.0), "success", said))
        }
        Ok(Handed::ToCopy(link)) => {
            let member = find(&ctx, id.0).await?;
            let page = Page::new(&ctx, format!("New password for {}", member.user.name), "users");
            html(&LinkPage { page, member, link })
        }
        Err(error) => page(&ctx, id.0, None, Some(error)).await,
    }
}

#[derive(Template)]
#[template(path = "users/remove.html")]
struct RemovePage {
    page: Page,
    member: Member,
    /// API keys that stop with them.
    keys: i64,
    /// Open invitations whose links do.
    invitations: i64,
}

/// What users have to ask of rooms above; `app` fills it in.
#[derive(Clone, Copy)]
pub struct Neighbours {
    /// How many API keys of an account a user answers for.
    pub keys_of: fn(&rusqlite::Connection, AccountId, &str) -> Result<i64>,
    /// How many open invitations into an account a user made.
    pub invitations_of: fn(&rusqlite::Connection, AccountId, &str) -> Result<i64>,
}

/// `GET /users/{id}/remove`.
pub(super) async fn confirm_removal(
    ctx: Ctx,
    id: PathId<String>,
    neighbours: Data<Neighbours>,
) -> Result<HttpResponse> {
    let (account, user, neighbours) = (ctx.principal.account()?, id.0.clone(), *neighbours.get_ref());
    let member = find(&ctx, id.0).await?;
    let count = move |c: &rusqlite::Connection| {
        Ok(((neighbours.keys_of)(c, account, &user)?, (neighbours.invitations_of)(c, account, &user)?))
    };
    let (keys, invitations) = ctx.kernel.db.read(count).await?;
    let page = Page::new(&ctx, format!("Remove {}", member.user.name), "users");
    html(&RemovePage { page, member, keys, invitations })
}

/// `POST /users/{id}/remove`.
pub(super) async fn remove(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    match actions::remove_member(&ctx.kernel, &ctx.principal, id.0.clone()).await {
        Ok(()) => Ok(redirect_with("/users", "success", "The user was removed from this account.")),
        Err(error) => page(&ctx, id.0, None, Some(error)).await,
    }
}
