//! Invitations for those who invite: list, form, the page that shows a link once, one invitation.

use actix_web::{HttpResponse, http::StatusCode};
use askama::Template;
use serde::Deserialize;

use super::{
    accept,
    actions::{self, Sent},
    api::InvitationQuery,
    model::{Invitation, InvitationInput, InvitationState, LIFETIME_DAYS_DEFAULT},
    queries,
};
use crate::{
    clock::Time,
    error::{Error, Result},
    notifications::HandedLink,
    roles::{self, Role},
    users,
    web::{
        Ctx, Form, ListQuery, Listing, PAGE_SIZE, Page, PathId, Query, Refused, href, html, html_status, redirect_with,
    },
};

/// An invitation as it is shown.
struct Row {
    invitation: Invitation,
    role: Role,
    state: InvitationState,
    /// It is open, but lets nobody in: whoever sent it may not give its role any more.
    is_dead: bool,
}

fn row(c: &rusqlite::Connection, invitation: Invitation, now: Time) -> Result<Row> {
    let role = roles::held(c, invitation.account_id, &invitation.role_id)?;
    let state = invitation.state(now);
    let is_dead = state == InvitationState::Invited && !accept::is_backed(c, &invitation)?;
    Ok(Row { state, is_dead, role, invitation })
}

#[derive(Template)]
#[template(path = "invitations/list.html", blocks = ["results"])]
struct ListPage {
    page: Page,
    rows: Vec<Row>,
    query: InvitationQuery,
    first_href: String,
    next_href: String,
}

impl ListPage {
    fn is_state(&self, state: &str) -> bool {
        self.query.state.as_deref().unwrap_or_default() == state
    }
}

/// `GET /invitations`.
pub(super) async fn list(ctx: Ctx, query: Query<InvitationQuery>) -> Result<HttpResponse> {
    let (account, query, now) = (ctx.principal.account()?, query.0, ctx.kernel.clock.now());
    let state = query.state()?;
    let before = ListQuery { limit: None, cursor: query.cursor.clone() }.position::<String>()?;
    let rows = ctx
        .kernel
        .db
        .read(move |c| {
            let found = queries::list(c, account, state, before.as_deref(), PAGE_SIZE + 1, now)?;
            found.into_iter().map(|invitation| row(c, invitation, now)).collect::<Result<Vec<_>>>()
        })
        .await?;
    let Listing { rows, next } = Listing::cut(rows, PAGE_SIZE, |row| row.invitation.id.clone());
    let link = |cursor: &str| {
        href("/invitations", &[("state", query.state.as_deref().unwrap_or_default()), ("cursor", cursor)])
    };
    let template = ListPage {
        page: Page::new(&ctx, "Invitations", "users"),
        rows,
        first_href: query.cursor.as_ref().map(|_| link("")).unwrap_or_default(),
        next_href: next.map(|cursor| link(&cursor)).unwrap_or_default(),
        query,
    };
    if ctx.is_fragment { html(&template.as_results()) } else { html(&template) }
}

/// What the form sends.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct InvitationForm {
    email: String,
    #[serde(default)]
    role_id: String,
    /// Days.
    expires_in_days: String,
}

impl InvitationForm {
    /// The same input that the API takes.
    fn input(&self) -> InvitationInput {
        InvitationInput {
            email: Some(self.email.clone()),
            role_id: Some(self.role_id.clone()),
            // What is no number is out of every range.
            expires_in_days: Some(self.expires_in_days.trim().parse().unwrap_or(0)),
        }
    }
}

#[derive(Template)]
#[template(path = "invitations/form.html")]
struct FormPage {
    page: Page,
    form: InvitationForm,
    roles: Vec<Role>,
    refused: Refused,
    /// The open invitation that stands in the way.
    open: Option<Invitation>,
}

impl FormPage {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }
}

async fn form_page(ctx: &Ctx, form: InvitationForm, error: Option<Error>) -> Result<HttpResponse> {
    let refused = error.map_or_else(|| Ok(Refused::none()), Refused::of)?;
    let (who, now) = (ctx.principal.clone(), ctx.kernel.clock.now());
    let folded = (refused.status == StatusCode::CONFLICT).then(|| users::fold_email(&form.email));
    let (roles, open) = ctx
        .kernel
        .db
        .read(move |c| {
            let open = match folded {
                Some(folded) => queries::find_open(c, who.account()?, &folded)?,
                None => None,
            };
            Ok((roles::grantable(c, &who)?, open))
        })
        .await?;
    let open = open.filter(|open| open.state(now) == InvitationState::Invited);
    let page = Page::new(ctx, "Invite somebody", "users");
    html_status(refused.status, &FormPage { page, form, roles, refused, open })
}

/// `GET /invitations/new`.
pub(super) async fn new(ctx: Ctx) -> Result<HttpResponse> {
    let form = InvitationForm {
        email: String::new(),
        role_id: roles::READ_ONLY.into(),
        expires_in_days: LIFETIME_DAYS_DEFAULT.to_string(),
    };
    form_page(&ctx, form, None).await
}

#[derive(Template)]
#[template(path = "invitations/link.html")]
struct LinkPage {
    page: Page,
    invitation: Invitation,
    link: HandedLink,
}

/// After a link was made: the link itself, this once, or where it was sent. Answered and not redirected to: a redirect
/// would have to keep the link somewhere.
fn sent_page(ctx: &Ctx, sent: Sent) -> Result<HttpResponse> {
    let Sent { invitation, link } = sent;
    match link {
        Some(link) => {
            let page = Page::new(ctx, format!("{} is invited", invitation.email), "users");
            html(&LinkPage { page, invitation, link })
        }
        None => {
            let said = format!("The invitation was sent to {}.", invitation.email);
            Ok(redirect_with(&format!("/invitations/{}", invitation.id), "success", &said))
        }
    }
}

/// `POST /invitations`.
pub(super) async fn create(ctx: Ctx, form: Form<InvitationForm>) -> Result<HttpResponse> {
    match actions::create(&ctx.kernel, &ctx.principal, form.0.input()).await {
        Ok(sent) => sent_page(&ctx, sent),
        Err(error) => form_page(&ctx, form.0, Some(error)).await,
    }
}

#[derive(Template)]
#[template(path = "invitations/detail.html")]
struct DetailPage {
    page: Page,
    row: Row,
    /// A new link can be made.
    may_resend: bool,
    may_revoke: bool,
}

/// `GET /invitations/{id}`.
pub(super) async fn show(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let (account, now) = (ctx.principal.account()?, ctx.kernel.clock.now());
    let found = ctx
        .kernel
        .db
        .read(move |c| queries::find(c, account, &id.0)?.map(|invitation| row(c, invitation, now)).transpose())
        .await?;
    let row = found.ok_or(Error::NotFound("This invitation"))?;
    let page = Page::new(&ctx, row.invitation.email.clone(), "users").named();
    let is_allowed = page.may("identity", "full");
    let is_held = roles::check_grant(&ctx.principal, &row.role).is_ok();
    let template = DetailPage {
        may_resend: is_allowed && is_held && matches!(row.state, InvitationState::Invited | InvitationState::Expired),
        may_revoke: is_allowed && row.state == InvitationState::Invited,
        page,
        row,
    };
    html(&template)
}

/// `POST /invitations/{id}/resend`.
pub(super) async fn resend(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    match actions::resend(&ctx.kernel, &ctx.principal, id.0.clone()).await {
        Ok(sent) => sent_page(&ctx, sent),
        Err(Error::Conflict(why)) => Ok(redirect_with(&format!("/invitations/{}", id.0), "danger", &why)),
        Err(other) => Err(other),
    }
}

/// `POST /invitations/{id}/revoke`.
pub(super) async fn revoke(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let back = format!("/invitations/{}", id.0);
    match actions::revoke(&ctx.kernel, &ctx.principal, id.0).await {
        Ok(()) => Ok(redirect_with(&back, "success", "The invitation is revoked. Its link does not work any more.")),
        Err(Error::Conflict(why)) => Ok(redirect_with(&back, "danger", &why)),
        Err(other) => Err(other),
    }
}
