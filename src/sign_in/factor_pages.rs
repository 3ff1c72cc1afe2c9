//! The pages of a journey: the step that comes next, and the ways around it.
//!
//! They are a stranger's pages: whoever is on a journey is not signed in. Nothing of the account is on them but its alias.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use askama::Template;
use serde::Deserialize;

use super::{
    PasskeyAsking,
    factor::{self, Answer, EnrolledOnTheWay, Enrolling, Enrolment, Standing, Stepped},
    pages::{JOURNEY_COOKIE, after, arrived, browser, journey_token, set_cookie, with_session},
    path::Arrival,
};
use crate::{
    accounts::Account,
    error::{Error, FieldError, Result},
    mfa::{self, TotpEnrolment},
    principal::AccountId,
    proof::Step,
    secret::Secret,
    web::{Ctx, Form, Page, Query, Refused, door, html, html_status, redirect, redirect_with},
};

#[derive(Template)]
#[template(path = "sign_in/factor.html")]
struct FactorPage {
    page: Page,
    email: String,
    account: Account,
    has_totp: bool,
    has_passkey: bool,
    passkey_class: &'static str,
    has_codes: bool,
    is_signed_in: bool,
    others: Vec<Account>,
    refused: Refused,
}

impl FactorPage {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }
}

#[derive(Template)]
#[template(path = "sign_in/enrol.html")]
struct EnrolPage {
    page: Page,
    email: String,
    account: Account,
    /// `None`: only a passkey will do.
    totp: Option<TotpEnrolment>,
    name: String,
    passkey_name: String,
    unavailable: &'static str,
    must_enrol: bool,
    is_signed_in: bool,
    others: Vec<Account>,
    refused: Refused,
}

impl EnrolPage {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }
}

#[derive(Template)]
#[template(path = "sign_in/through.html")]
struct ThroughPage {
    page: Page,
    account: Account,
}

/// Where a browser is without a journey, or with one that has ended.
fn begin_again() -> HttpResponse {
    redirect_with("/sign-in", "info", "This sign-in took too long, or was ended. Begin again.")
}

/// What was typed into the forms of an enrolment.
#[derive(Default)]
struct Typed {
    app: String,
    passkey: String,
}

async fn page(ctx: &Ctx, token: Secret<String>, typed: Typed, refused: Refused) -> Result<HttpResponse> {
    let Some(standing) = factor::standing(&ctx.kernel, token.clone()).await? else { return Ok(begin_again()) };
    let Standing { step, user, account, has_totp, has_passkey, has_codes, unavailable, is_signed_in, others } =
        standing;
    let (email, must_enrol) = (user.email.clone(), user.factors.must_enrol);
    match step {
        Step::Enter => html(&ThroughPage { page: Page::new(ctx, "Sign in", ""), account }),
        Step::Factor { passkey_only } => {
            let template = FactorPage {
                page: Page::new(ctx, "Second factor", ""),
                email,
                account,
                has_totp: has_totp && !passkey_only,
                has_passkey,
                passkey_class: if has_totp && !passkey_only { "btn--wide" } else { "btn--primary btn--wide" },
                has_codes,
                is_signed_in,
                others,
                refused,
            };
            html_status(template.refused.status, &template)
        }
        Step::Enrol { .. } => {
            let totp = factor::begin_totp(&ctx.kernel, &token).await?;
            let page = Page::new(ctx, "Add a second factor", "");
            let Typed { app: name, passkey: passkey_name } = typed;
            let template = EnrolPage {
                page,
                email,
                account,
                totp,
                name,
                passkey_name,
                unavailable,
                must_enrol,
                is_signed_in,
                others,
                refused,
            };
            html_status(template.refused.status, &template)
        }
    }
}

/// `GET /sign-in/factor`: whatever comes next.
pub(super) async fn show(ctx: Ctx, request: HttpRequest) -> Result<HttpResponse> {
    match journey_token(&request) {
        Some(token) => page(&ctx, token, Typed::default(), Refused::none()).await,
        None => Ok(begin_again()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CodeForm {
    code: Secret<String>,
}

/// What a step that was refused says.
fn wrong(stepped: &Stepped, text: &str) -> Error {
    match stepped {
        Stepped::TooMany { retry_after_s } => Error::TooManyRequests { retry_after_s: *retry_after_s },
        _ => Error::field("code", text),
    }
}

/// `POST /sign-in/factor`: a code of an app.
pub(super) async fn prove(ctx: Ctx, request: HttpRequest, form: Form<CodeForm>) -> Result<HttpResponse> {
    let Some(token) = journey_token(&request) else { return Ok(begin_again()) };
    let answer = Answer::Code(form.0.code.expose().clone());
    let proved = factor::prove(&ctx.kernel, token.clone(), &ctx.address, browser(&ctx, &request), answer).await;
    match proved {
        Ok(Stepped::On(arrival, next)) => Ok(arrived(&after(next.expose()), &arrival)),
        Ok(other) => {
            let text = "This code is not right, or was used before. Wait for the next one and enter it.";
            page(&ctx, token, Typed::default(), Refused::of(wrong(&other, text))?).await
        }
        Err(Error::Unauthenticated) => Ok(begin_again()),
        Err(error) => page(&ctx, token, Typed::default(), Refused::of(error)?).await,
    }
}

#[derive(Template)]
#[template(path = "sign_in/recovery.html")]
struct RecoveryPage {
    page: Page,
    has_codes: bool,
    refused: Refused,
}

impl RecoveryPage {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }
}

async fn recovery_page(ctx: &Ctx, token: Secret<String>, refused: Refused) -> Result<HttpResponse> {
    let Some(standing) = factor::standing(&ctx.kernel, token).await? else { return Ok(begin_again()) };
    let page = Page::new(ctx, "Can’t use your device?", "");
    html_status(refused.status, &RecoveryPage { page, has_codes: standing.has_codes, refused })
}

/// `GET /sign-in/recovery`.
pub(super) async fn recovery(ctx: Ctx, request: HttpRequest) -> Result<HttpResponse> {
    match journey_token(&request) {
        Some(token) => recovery_page(&ctx, token, Refused::none()).await,
        None => Ok(begin_again()),
    }
}

/// `POST /sign-in/recovery`: a recovery code, which takes away everything that was enrolled.
pub(super) async fn recover(ctx: Ctx, request: HttpRequest, form: Form<CodeForm>) -> Result<HttpResponse> {
    let Some(token) = journey_token(&request) else { return Ok(begin_again()) };
    let answer = Answer::Recovery(form.0.code.expose().clone());
    match factor::prove(&ctx.kernel, token.clone(), &ctx.address, browser(&ctx, &request), answer).await {
        Ok(Stepped::On(arrival, next)) => Ok(arrived(&after(next.expose()), &arrival)),
        Ok(other) => {
            let text = "This is none of your recovery codes, or it belongs to an older set.";
            recovery_page(&ctx, token, Refused::of(wrong(&other, text))?).await
        }
        Err(Error::Unauthenticated) => Ok(begin_again()),
        Err(error) => recovery_page(&ctx, token, Refused::of(error)?).await,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TotpForm {
    id: String,
    name: String,
    code: Secret<String>,
}

/// `POST /sign-in/enrol/totp`: the first code of an app.
pub(super) async fn enrol_totp(ctx: Ctx, request: HttpRequest, form: Form<TotpForm>) -> Result<HttpResponse> {
    let Some(token) = journey_token(&request) else { return Ok(begin_again()) };
    let TotpForm { id, name, code } = form.0;
    let enrolment = Enrolment::Totp { id, name: name.clone(), code: code.expose().clone() };
    match factor::enrol(&ctx.kernel, token.clone(), &ctx.address, browser(&ctx, &request), enrolment).await {
        Ok(Enrolling::Done(enrolled)) => enrolled_page(&ctx, enrolled),
        Ok(Enrolling::Refused(why)) => Err(Error::internal(why)),
        Err(Error::Unauthenticated) => Ok(begin_again()),
        Err(error) => {
            let typed = Typed { app: name, ..Typed::default() };
            page(&ctx, token, typed, Refused::of(error)?).await
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoFields {}

/// `POST /sign-in/factor/passkey/options`: the question that one of their passkeys answers.
pub(super) async fn passkey_options(ctx: Ctx, request: HttpRequest, _: Form<NoFields>) -> Result<HttpResponse> {
    let token = journey_token(&request).ok_or(Error::Unauthenticated)?;
    let asked = factor::ask_passkey(&ctx.kernel, token, false).await;
    mfa::challenge_json(&ctx, asked)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PasskeyForm {
    challenge: Secret<String>,
    credential: String,
}

/// `POST /sign-in/factor/passkey`.
pub(super) async fn prove_passkey(
    ctx: Ctx,
    request: HttpRequest,
    asking: Data<PasskeyAsking>,
    form: Form<PasskeyForm>,
) -> Result<HttpResponse> {
    asking.check(&ctx)?;
    let Some(token) = journey_token(&request) else { return Ok(begin_again()) };
    let answer = Answer::Passkey(form.0.challenge, form.0.credential);
    match factor::prove(&ctx.kernel, token.clone(), &ctx.address, browser(&ctx, &request), answer).await {
        Ok(Stepped::On(arrival, next)) => Ok(arrived(&after(next.expose()), &arrival)),
        Ok(_) => {
            let error = Error::Conflict("The passkey was not accepted. Try again, or use another factor.".into());
            page(&ctx, token, Typed::default(), Refused::of(error)?).await
        }
        Err(Error::Unauthenticated) => Ok(begin_again()),
        Err(error) => page(&ctx, token, Typed::default(), Refused::of(error)?).await,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NameOnly {
    #[serde(rename = "name")]
    _name: String,
}

/// `POST /sign-in/enrol/passkey/options`: what a new passkey is made for.
pub(super) async fn new_passkey_options(ctx: Ctx, request: HttpRequest, _: Form<NameOnly>) -> Result<HttpResponse> {
    let token = journey_token(&request).ok_or(Error::Unauthenticated)?;
    let asked = factor::ask_passkey(&ctx.kernel, token, true).await;
    mfa::challenge_json(&ctx, asked)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPasskeyForm {
    name: String,
    challenge: Secret<String>,
    credential: String,
}

/// `POST /sign-in/enrol/passkey`.
pub(super) async fn enrol_passkey(ctx: Ctx, request: HttpRequest, form: Form<NewPasskeyForm>) -> Result<HttpResponse> {
    let Some(token) = journey_token(&request) else { return Ok(begin_again()) };
    let NewPasskeyForm { name, challenge, credential } = form.0;
    let enrolment = Enrolment::Passkey { name: name.clone(), challenge, credential };
    let enrolled = factor::enrol(&ctx.kernel, token.clone(), &ctx.address, browser(&ctx, &request), enrolment).await;
    let error = match enrolled {
        Ok(Enrolling::Done(enrolled)) => return enrolled_page(&ctx, enrolled),
        Err(Error::Unauthenticated) => return Ok(begin_again()),
        Ok(Enrolling::Refused(why)) => Error::field("passkey", why),
        // The name of a passkey has its own field beside that of an app.
        Err(Error::Invalid(fields)) => {
            Error::Invalid(fields.into_iter().map(|field| FieldError::new("passkey", field.message)).collect())
        }
        Err(error) => error,
    };
    let typed = Typed { passkey: name, ..Typed::default() };
    page(&ctx, token, typed, Refused::of(error)?).await
}

/// Onwards after an enrolment: past the recovery codes, if some came with it. They are in this answer and nowhere else.
fn enrolled_page(ctx: &Ctx, enrolled: EnrolledOnTheWay) -> Result<HttpResponse> {
    let EnrolledOnTheWay { arrival, next, codes } = enrolled;
    let next = after(next.expose());
    match (arrival, codes) {
        (Arrival::In(signed_in), Some(codes)) => {
            let next = if signed_in.has_joined { "/".to_owned() } else { next };
            let csrf = door::csrf_of(&ctx.kernel.key, signed_in.session_token.expose());
            Ok(with_session(mfa::codes_page(ctx, csrf, &codes, &next, Refused::none())?, &signed_in))
        }
        (arrival, _) => Ok(arrived(&next, &arrival)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountForm {
    account: String,
}

/// `POST /sign-in/account`: into another account instead, which may ask for less.
pub(super) async fn turn_to(ctx: Ctx, request: HttpRequest, form: Form<AccountForm>) -> Result<HttpResponse> {
    let Some(token) = journey_token(&request) else { return Ok(begin_again()) };
    let account = AccountId::parse(&form.0.account).ok_or(Error::NotFound("This account"))?;
    match factor::turn_to(&ctx.kernel, token, &ctx.address, browser(&ctx, &request), account).await {
        Ok(arrival) => Ok(arrived("/", &arrival)),
        Err(Error::Unauthenticated) => Ok(begin_again()),
        Err(error) => Err(error),
    }
}

/// `POST /sign-in/go`: nothing is missing any more.
pub(super) async fn go_in(ctx: Ctx, request: HttpRequest) -> Result<HttpResponse> {
    let Some(token) = journey_token(&request) else { return Ok(begin_again()) };
    match factor::go_in(&ctx.kernel, token, &ctx.address, browser(&ctx, &request)).await {
        Ok((arrival, next)) => Ok(arrived(&after(next.expose()), &arrival)),
        Err(Error::Unauthenticated) => Ok(begin_again()),
        Err(error) => Err(error),
    }
}

/// `POST /sign-in/cancel`.
pub(super) async fn cancel(ctx: Ctx, request: HttpRequest) -> Result<HttpResponse> {
    if let Some(token) = journey_token(&request) {
        factor::cancel(&ctx.kernel, token).await?;
    }
    let mut answer = redirect("/");
    set_cookie(&mut answer, &door::removal(JOURNEY_COOKIE));
    Ok(answer)
}

#[derive(Template)]
#[template(path = "sign_in/continue.html")]
struct ContinuePage {
    page: Page,
    next: String,
}

#[derive(Deserialize)]
pub(super) struct NextQuery {
    #[serde(default)]
    next: String,
}

/// `GET /sign-in/continue`: somebody is signed in, and their account asks for more than they proved.
pub(super) async fn go_on_form(ctx: Ctx, query: Query<NextQuery>) -> Result<HttpResponse> {
    let next = after(&query.0.next);
    html_status(StatusCode::OK, &ContinuePage { page: Page::new(&ctx, "Second factor", ""), next })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NextForm {
    next: String,
}

/// `POST /sign-in/continue`.
pub(super) async fn go_on(ctx: Ctx, request: HttpRequest, form: Form<NextForm>) -> Result<HttpResponse> {
    let next = after(&form.0.next);
    let browser = browser(&ctx, &request);
    match factor::from_session(&ctx.kernel, &ctx.address, browser, Secret::new(next.clone())).await {
        Ok(arrival) => Ok(arrived(&next, &arrival)),
        Err(Error::Unauthenticated) => Ok(redirect("/sign-in")),
        Err(error) => Err(error),
    }
}
