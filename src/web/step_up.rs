//! Asking again: whoever wants something dangerous proves once more that it is them.
//!
//! Owns the page that asks, which stands between a form and a route that [asks again](super::Added::asks_again), or whose
//! action answered [`Error::ProofTooOld`]. Invariants: no handler of such a route runs before the proof; nothing that was
//! typed is lost: the page carries the whole form and sends it to where it was going; what is answered is for the gate, and no
//! handler sees it. It must never decide by itself whether an answer is right: the gate does.

use actix_web::{
    HttpMessage as _, HttpRequest, HttpResponse,
    body::BoxBody,
    dev::ServiceResponse,
    http::{
        Method, StatusCode,
        header::{HeaderValue, REFRESH},
    },
    web::Data,
};
use askama::Template;
use serde::Deserialize;

use super::{
    context::{Ctx, Web},
    door::{self, DoorKind, Passage},
    input::{Form, FormBody, QUERY_CHARS_MAX, Query},
    page::{Page, href, html, html_status, redirect},
    refused::Refused,
    routes::Routes,
};
use crate::{
    error::{Error, Result},
    principal::{Permission, PrincipalKind},
    secret::Secret,
};

/// When a route asks its user again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// When the last proof is older than 15 minutes.
    Aged,
    /// With every request.
    EachTime,
}

/// What a user can prove by that it is them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Means {
    /// Only of whoever has nothing better: a password that was found out must not be enough for what a factor protects.
    pub password: bool,
    /// A code of an authenticator app.
    pub code: bool,
    pub passkey: bool,
}

/// What a user answers when they are asked.
pub enum Answer {
    Password(Secret<String>),
    Code(Secret<String>),
    /// The token of a question to an authenticator, and what it answered.
    Passkey {
        challenge: Secret<String>,
        credential: String,
    },
}

/// How an answer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    Right,
    Wrong,
    /// It is nothing that this user can prove it by, or not any more.
    NotAsked,
}

/// Where a link leads by way of the question, and where the question is answered.
const HERE: &str = "/step-up";
/// Fields of the question. The door takes them out of every form.
const PASSWORD: &str = "stepUpPassword";
const CODE: &str = "stepUpCode";
const CHALLENGE: &str = "stepUpChallenge";
const CREDENTIAL: &str = "stepUpCredential";
/// Characters of a path on the record.
const PATH_CHARS_MAX: usize = 300;

/// The question by itself, for links.
pub fn routes(routes: &mut Routes) {
    routes.get(HERE, Permission::OwnUser, form);
    routes.post(HERE, Permission::OwnUser, done).asks_each_time();
}

fn taken(form: &mut FormBody) -> Option<Answer> {
    let (password, code) = (form.take(PASSWORD), form.take(CODE));
    let passkey = form.take(CHALLENGE).zip(form.take(CREDENTIAL));
    let password = password.map(|password| Answer::Password(Secret::new(password)));
    let code = code.map(|code| Answer::Code(Secret::new(code)));
    let passkey =
        passkey.map(|(challenge, credential)| Answer::Passkey { challenge: Secret::new(challenge), credential });
    password.or(code).or(passkey)
}

/// The question as it is asked first.
pub(super) fn first() -> Refused {
    Refused { status: StatusCode::FORBIDDEN, ..Refused::none() }
}

/// Looks whether the user of a request has to be asked, or has just answered. `None`: the handler is next.
pub(super) async fn ask(passage: &Passage, request: &HttpRequest) -> Result<Option<HttpResponse>> {
    let ctx = request.extensions().get::<Ctx>().cloned();
    let is_theirs = |ctx: &Ctx| ctx.principal.kind == PrincipalKind::User && passage.permission != Permission::Public;
    let Some(ctx) = ctx.filter(|ctx| passage.kind == DoorKind::Page && is_theirs(ctx)) else { return Ok(None) };
    let answer = request.extensions_mut().get_mut::<FormBody>().and_then(taken);
    let now = ctx.kernel.clock.now();
    let is_each_time = passage.again == Some(Again::EachTime);
    // An answer that nobody waits for is not looked at: whoever sends the page twice must not be told that it was wrong.
    if !is_each_time && ctx.principal.has_proved_lately(now) {
        return Ok(None);
    }
    let refused = match answer {
        // Whether it is dangerous may depend on what is asked for: then the handler says so.
        None if passage.again.is_none() => return Ok(None),
        None => first(),
        Some(answer) => match confirm(request, &ctx, answer).await {
            Ok(()) => {
                let principal = ctx.principal.clone().proved(now);
                request.extensions_mut().insert(Ctx { principal, ..ctx });
                return Ok(None);
            }
            Err(error) => Refused::of(error)?,
        },
    };
    page(request, refused).await.map(Some)
}

/// An error says what was wrong with the answer.
async fn confirm(request: &HttpRequest, ctx: &Ctx, answer: Answer) -> Result<()> {
    let (field, wrong) = match &answer {
        Answer::Password(_) => (PASSWORD, "This is not your current password."),
        Answer::Code(_) => (CODE, "This code is not right, or was used before. Wait for the next one and enter it."),
        Answer::Passkey { .. } => ("", "The passkey was not accepted. Try again, or use another factor."),
    };
    let path = request.path().chars().take(PATH_CHARS_MAX).collect();
    match web(request)?.gate.confirm(ctx.principal.clone(), answer, path).await? {
        Confirmed::Right => Ok(()),
        // A passkey has no field that anything could stand at.
        Confirmed::Wrong if field.is_empty() => Err(Error::Conflict(wrong.into())),
        Confirmed::Wrong => Err(Error::field(field, wrong)),
        Confirmed::NotAsked => Err(Error::Conflict("What you confirm with has changed. Confirm once more.".into())),
    }
}

fn web(request: &HttpRequest) -> Result<&Data<Web>> {
    request.app_data::<Data<Web>>().ok_or_else(|| Error::internal("the request road was not set up"))
}

/// Whether a handler has found that the last proof of its user is too old for what they want.
pub(super) fn is_wanted(response: &ServiceResponse<BoxBody>) -> bool {
    let error = response.response().error().and_then(|error| error.as_error::<Error>());
    matches!(error, Some(Error::ProofTooOld))
}

/// The question in place of what was asked for.
pub(super) async fn page(request: &HttpRequest, refused: Refused) -> Result<HttpResponse> {
    let ctx = request.extensions().get::<Ctx>().cloned();
    let ctx = ctx.ok_or_else(|| Error::internal("a route was reached without passing the door"))?;
    if ctx.is_fragment {
        // No part of a page can ask. The script leads there, and back to the page that the reader is on.
        let here = request.headers().get("hx-current-url").and_then(|value| value.to_str().ok());
        let here = here.and_then(|url| url::Url::parse(url).ok());
        let next = here.map(|url| url[url::Position::BeforePath..url::Position::AfterQuery].to_owned());
        let location = by_way_of_the_question(&next.unwrap_or_default());
        return Ok(HttpResponse::Forbidden().insert_header(("hx-redirect", location)).finish());
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(redirect(&by_way_of_the_question(&ctx.path)));
    }
    let fields = request.extensions().get::<FormBody>().map(FormBody::fields).unwrap_or_default();
    show(request, &ctx, &ctx.path, fields, refused).await
}

fn by_way_of_the_question(next: &str) -> String {
    let next = door::local_path(next).filter(|next| next.len() <= QUERY_CHARS_MAX).unwrap_or_default();
    href(HERE, &[("next", &next)])
}

#[derive(Template)]
#[template(path = "layout/step_up.html")]
struct StepUpPage<'a> {
    page: Page,
    /// Where the form goes.
    action: &'a str,
    /// What it carries.
    fields: Vec<(String, String)>,
    is_form: bool,
    means: Means,
    passkey_class: &'static str,
    refused: Refused,
}

impl StepUpPage<'_> {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }
}

async fn show(
    request: &HttpRequest,
    ctx: &Ctx,
    action: &str,
    fields: Vec<(String, String)>,
    refused: Refused,
) -> Result<HttpResponse> {
    let means = web(request)?.gate.means(ctx.principal.clone()).await?;
    let (page, is_form) = (Page::new(ctx, "Confirm that it is you", ""), request.path() != HERE);
    let passkey_class = if means.code { "btn--wide" } else { "btn--primary btn--wide" };
    html_status(refused.status, &StepUpPage { page, action, fields, is_form, means, passkey_class, refused })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Next {
    #[serde(default)]
    next: String,
}

/// `GET /step-up`: on the way to a page or a download.
async fn form(ctx: Ctx, request: HttpRequest, query: Query<Next>) -> Result<HttpResponse> {
    let next = door::local_path(&query.0.next).unwrap_or_default();
    show(&request, &ctx, HERE, vec![("next".to_owned(), next)], Refused::none()).await
}

#[derive(Template)]
#[template(path = "layout/step_up_done.html")]
struct DonePage<'a> {
    page: Page,
    next: &'a str,
}

/// `POST /step-up`: the door has confirmed it. A page and no redirect, because most of these links are downloads: the browser
/// would go on showing a question that was answered.
async fn done(ctx: Ctx, form: Form<Next>) -> Result<HttpResponse> {
    let next = door::local_path(&form.0.next).unwrap_or_else(|| "/".to_owned());
    let mut answer = html(&DonePage { page: Page::new(&ctx, "It is confirmed", ""), next: &next })?;
    let refresh = HeaderValue::from_str(&format!("0; url={next}"));
    answer.headers_mut().insert(REFRESH, refresh.map_err(|e| Error::caused("a path was no header", e))?);
    Ok(answer)
}
