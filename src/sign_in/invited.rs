//! Coming in by an invitation: a new user, or one who is signed in and joins another account.
//!
//! What may be accepted is decided in `invitations`; here it becomes a session, in the same transaction. Whoever has a
//! user and is not signed in goes by the ordinary sign-in.

use actix_web::{HttpRequest, HttpResponse, web::Data};

use super::{
    model::{JoinInput, NewcomerInput},
    pages,
    path::{self, Arrival, Entrance, Traveller},
};
use crate::{
    audit,
    error::{Error, Result},
    invitations::{self, Accepted, Entered, Newcomer},
    principal::Principal,
    proof::{Method, Proof},
    secret::Secret,
    sessions::Origin,
    users::{self, Passwords},
    web::{Ctx, Form},
};

fn origin(ctx: &Ctx) -> Origin {
    Origin { address: ctx.address.ip.to_string(), user_agent: ctx.address.user_agent.clone() }
}

fn stranger(ctx: &Ctx) -> Principal {
    Principal::stranger(&ctx.kernel.config.region, Some(ctx.address.ip), Some(ctx.address.request_id.clone()))
}

/// `POST /invitation`: somebody who has no user yet.
pub(super) async fn create_user(
    ctx: Ctx,
    request: HttpRequest,
    passwords: Data<Passwords>,
    input: Form<NewcomerInput>,
) -> Result<HttpResponse> {
    let NewcomerInput { token, name, password, locale } = input.0;
    let newcomer = Newcomer { name, locale };
    let old_session = pages::old_session(&request);
    match accept_new(&ctx, &passwords, &token, newcomer.clone(), password, old_session).await {
        Ok(arrival) => Ok(pages::arrived("/", &arrival)),
        Err(error) => {
            let entered = Entered { name: newcomer.name, locale: newcomer.locale };
            invitations::refuse(&ctx, token, entered, error).await
        }
    }
}

async fn accept_new(
    ctx: &Ctx,
    passwords: &Passwords,
    token: &Secret<String>,
    newcomer: Newcomer,
    password: Secret<String>,
    old_session: Option<Secret<String>>,
) -> Result<Arrival> {
    let password = invitations::check_newcomer(&ctx.kernel, token, &newcomer, &password).await?;
    let hash = passwords.hash(password).await?;
    let (token, now) = (token.clone(), ctx.kernel.clock.now());
    let entrance = Entrance { old_session, ..Entrance::new(Proof::new(Method::Invitation, now), origin(ctx)) };
    let own = ctx.kernel.clone();
    audit::change(&ctx.kernel, &stranger(ctx), move |c| {
        let Accepted { member, account, mut entries } = invitations::accept_new(c, &token, &newcomer, &hash, now)?;
        let traveller = Traveller { member, account, invitation: None };
        let (arrival, more) = path::arrive(c, &own, &traveller, entrance, now)?;
        entries.extend(more);
        Ok((arrival, entries))
    })
    .await
}

/// `POST /invitation/join`: the user of this browser. They get a new session, in the account that they join.
pub(super) async fn join(ctx: Ctx, request: HttpRequest, input: Form<JoinInput>) -> Result<HttpResponse> {
    let token = input.0.token;
    match accept_existing(&ctx, &request, &token).await {
        Ok(arrival) => Ok(pages::arrived("/", &arrival)),
        Err(error) => invitations::refuse(&ctx, token, Entered::default(), error).await,
    }
}

async fn accept_existing(ctx: &Ctx, request: &HttpRequest, token: &Secret<String>) -> Result<Arrival> {
    let (email, now) = (ctx.principal.email.clone(), ctx.kernel.clock.now());
    let (asked, folded) = (token.clone(), users::fold_email(&email));
    let prospect = ctx
        .kernel
        .db
        .read(move |c| {
            let user = users::find_by_email(c, &folded)?.ok_or(Error::Unauthenticated)?;
            invitations::prospect(c, &asked, &user, now)
        })
        .await?;
    // The record names them as somebody of the account that they join. Without a prospect it is going to be refused, and
    // that is for the transaction to say.
    let principal = match prospect {
        Some((member, account)) => {
            member.principal(&account, String::new(), ctx.address.ip, ctx.address.request_id.clone())
        }
        None => stranger(ctx),
    };
    let (token, known_token) = (token.clone(), pages::known_browser(request));
    let (old_session, origin) = (pages::old_session(request), origin(ctx));
    let (own, who) = (ctx.kernel.clone(), ctx.principal.clone());
    audit::change(&ctx.kernel, &principal, move |c| {
        let entrance = path::going_on(c, old_session, &who.id, origin, now)?;
        let Accepted { member, account, mut entries } = invitations::accept_existing(c, &token, &email, now)?;
        let known_token = path::known(c, known_token, &member.user, now)?;
        let entrance = Entrance { known_token, ..entrance };
        let (arrival, more) = path::arrive(c, &own, &Traveller { member, account, invitation: None }, entrance, now)?;
        entries.extend(more);
        Ok((arrival, entries))
    })
    .await
}
