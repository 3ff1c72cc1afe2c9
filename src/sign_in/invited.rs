//! Coming in by an invitation: a new user, or one who is signed in and joins another account.
//!
//! What may be accepted is decided in `invitations`; here it becomes a session, in the same transaction. Whoever has a
//! user and is not signed in goes by the ordinary sign-in.

use actix_web::{HttpRequest, HttpResponse, web::Data};

use super::{
    actions::{self, Entrance, Method},
    model::{JoinInput, NewcomerInput, SignedIn},
    pages,
};
use crate::{
    audit,
    error::{Error, Result},
    invitations::{self, Accepted, Entered, Newcomer},
    principal::Principal,
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
        Ok(signed_in) => Ok(pages::into_console("/", &signed_in)),
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
) -> Result<SignedIn> {
    let password = invitations::check_newcomer(&ctx.kernel, token, &newcomer, &password).await?;
    let hash = passwords.hash(password).await?;
    let (token, now) = (token.clone(), ctx.kernel.clock.now());
    let entrance = Entrance { old_session, ..Entrance::new(Method::Invitation, origin(ctx)) };
    let own = ctx.kernel.clone();
    audit::change(&ctx.kernel, &stranger(ctx), move |c| {
        let Accepted { member, account, mut entries } = invitations::accept_new(c, &token, &newcomer, &hash, now)?;
        let (signed_in, more) = actions::begin(c, &member, &account, entrance, &own, now)?;
        entries.extend(more);
        Ok((signed_in, entries))
    })
    .await
}

/// `POST /invitation/join`: the user of this browser. They get a new session, in the account that they join.
pub(super) async fn join(ctx: Ctx, request: HttpRequest, input: Form<JoinInput>) -> Result<HttpResponse> {
    let token = input.0.token;
    match accept_existing(&ctx, &request, &token).await {
        Ok(signed_in) => Ok(pages::into_console("/", &signed_in)),
        Err(error) => invitations::refuse(&ctx, token, Entered::default(), error).await,
    }
}

async fn accept_existing(ctx: &Ctx, request: &HttpRequest, token: &Secret<String>) -> Result<SignedIn> {
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
    let entrance =
        Entrance { old_session: pages::old_session(request), ..Entrance::new(Method::Invitation, origin(ctx)) };
    let (own, who) = (ctx.kernel.clone(), ctx.principal.clone());
    audit::change(&ctx.kernel, &principal, move |c| {
        let entrance = actions::go_on(c, entrance, &who, now)?;
        let Accepted { member, account, mut entries } = invitations::accept_existing(c, &token, &email, now)?;
        let known_token = actions::known(c, known_token, &member.user, now)?;
        let entrance = Entrance { known_token, ..entrance };
        let (signed_in, more) = actions::begin(c, &member, &account, entrance, &own, now)?;
        entries.extend(more);
        Ok((signed_in, entries))
    })
    .await
}
