//! A user's own second factors: what they have, adding, renaming and removing, and the recovery codes.

use actix_web::{HttpResponse, http::header};
use askama::Template;
use rusqlite::Connection;
use serde::Deserialize;

use super::{
    enrol::{self, FirstCode},
    model::{Device, RecoverySet, TotpEnrolment},
    passkeys::{self, Answer, Challenge, Registration},
};
use crate::{
    accounts,
    audit::{self, Entry},
    clock::Time,
    error::{Error, Result},
    kernel::Kernel,
    language::Language,
    notifications::{self, MfaChange, MfaChanged},
    principal::Principal,
    proof::{Factors, MfaRule},
    secret::Secret,
    sessions,
    users::{self, User},
    web::{Ctx, Form, Page, PathId, Refused, door, html, html_status, redirect_with},
};

const HERE: &str = "/profile/mfa";

/// Apps that the codes were tried with, and where they run.
const APPS: &[(&str, &str)] = &[
    ("Google Authenticator", "Android and iOS"),
    ("Microsoft Authenticator", "Android and iOS"),
    ("Aegis", "Android, open source"),
    ("FreeOTP", "Android and iOS, open source"),
    ("1Password", "Telephones and computers, with your passwords"),
    ("Bitwarden", "Telephones and computers, with your passwords, open source"),
];

/// The user behind a request, as they are in this transaction.
fn own(c: &Connection, who: &Principal) -> Result<User> {
    Ok(users::find_member(c, &who.id, who.account()?)?.ok_or(Error::Unauthenticated)?.user)
}

/// From where, as mails say it.
fn address(who: &Principal) -> String {
    who.address.map(|ip| ip.to_string()).unwrap_or_default()
}

/// The most that any account of a user asks of them, and which one it is.
fn asked_of(c: &Connection, user_id: &str) -> Result<Option<(MfaRule, String)>> {
    let mut most: Option<(MfaRule, String)> = None;
    for id in users::accounts_of(c, user_id)? {
        let Some((member, account)) = users::find_member(c, user_id, id)?.zip(accounts::find(c, id)?) else { continue };
        let rule = member.mfa_rule(&account);
        if rule > most.as_ref().map_or(MfaRule::Optional, |(rule, _)| *rule) {
            most = Some((rule, account.alias));
        }
    }
    Ok(most)
}

/// Refuses what would leave a user without the factor that one of their accounts asks for.
fn check_left(c: &Connection, user_id: &str, left: Factors) -> Result<()> {
    match asked_of(c, user_id)? {
        Some((rule, account)) if !rule.is_met_by(left) => {
            let what = if rule.is_passkey_only() { "a passkey" } else { "a second factor" };
            Err(Error::Conflict(format!(
                "The account {account} asks you for {what}. Add another one before you remove this."
            )))
        }
        _ => Ok(()),
    }
}

#[derive(Template)]
#[template(path = "mfa/profile.html")]
struct ProfilePage {
    page: Page,
    /// What the reader's accounts ask for, as a sentence.
    asked: &'static str,
    devices: Vec<Device>,
    recovery: Option<RecoverySet>,
    /// The host name that passkeys are made for now.
    rp_id: Option<String>,
    refused: Refused,
}

impl ProfilePage {
    /// A passkey that no browser offers under the present address.
    fn is_elsewhere(&self, device: &Device) -> bool {
        device.rp_id.is_some() && device.rp_id != self.rp_id
    }
}

/// `GET /profile/mfa`.
pub(super) async fn show(ctx: Ctx) -> Result<HttpResponse> {
    let (id, kernel) = (ctx.principal.id.clone(), ctx.kernel.clone());
    let read = move |c: &Connection| {
        let rp_id = passkeys::relying_party(c, &kernel)?.ok().map(|rp| rp.id().to_owned());
        Ok((asked_of(c, &id)?, enrol::devices(c, &id)?, enrol::recovery_set(c, &id)?, rp_id))
    };
    let (asked, devices, recovery, rp_id) = ctx.kernel.db.read(read).await?;
    let asked = match asked.map(|(rule, _)| rule) {
        Some(MfaRule::PasskeyOnly) => "One of your accounts asks for a passkey.",
        Some(MfaRule::Required) => "One of your accounts asks for a second factor.",
        _ => "What proves that it is you, beyond your password",
    };
    let page = Page::new(&ctx, "Second factors", "profile");
    html(&ProfilePage { page, asked, devices, recovery, rp_id, refused: Refused::none() })
}

#[derive(Template)]
#[template(path = "mfa/new_app.html")]
struct NewAppPage {
    page: Page,
    totp: TotpEnrolment,
    name: String,
    refused: Refused,
}

impl NewAppPage {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }
}

async fn app_page(ctx: &Ctx, name: String, refused: Refused) -> Result<HttpResponse> {
    let (who, kernel, now) = (ctx.principal.clone(), ctx.kernel.clone(), ctx.kernel.clock.now());
    let totp = ctx.kernel.db.write(move |c| enrol::begin_totp(c, &kernel.key, &own(c, &who)?, now)).await?;
    let page = Page::new(ctx, "Add an authenticator app", "profile");
    html_status(refused.status, &NewAppPage { page, totp, name, refused })
}

/// `GET /profile/mfa/app`.
pub(super) async fn new_app(ctx: Ctx) -> Result<HttpResponse> {
    app_page(&ctx, String::new(), Refused::none()).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppForm {
    id: String,
    name: String,
    code: Secret<String>,
}

/// `POST /profile/mfa/app`: the first code.
pub(super) async fn add_app(ctx: Ctx, form: Form<AppForm>) -> Result<HttpResponse> {
    let AppForm { id, name, code } = form.0;
    let typed = name.clone();
    let added = change(&ctx, move |c, kernel, who, now| {
        let (user, from) = (own(c, who)?, address(who));
        let first = FirstCode { id: &id, name: &typed, code: code.expose(), address: &from };
        let enrolled = enrol::confirm_totp(c, kernel, &user, first, now)?;
        // Enrolling it proves it: this session goes on, all others are asked for it.
        sessions::note_proof(c, who.session_id.as_deref().unwrap_or_default(), Some(enrolled.kind), now)?;
        Ok((enrolled.codes, enrolled.entries))
    });
    match added.await {
        Ok(Some(codes)) => codes_page(&ctx, ctx.csrf.clone(), &codes, HERE, Refused::none()),
        Ok(None) => Ok(redirect_with(HERE, "success", "The app was added.")),
        Err(error) => app_page(&ctx, name, Refused::of(error)?).await,
    }
}

#[derive(Template)]
#[template(path = "mfa/new_passkey.html")]
struct NewPasskeyPage {
    page: Page,
    name: String,
    /// Why there can be none; empty when there can.
    unavailable: &'static str,
    refused: Refused,
}

impl NewPasskeyPage {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }
}

async fn passkey_page(ctx: &Ctx, name: String, refused: Refused) -> Result<HttpResponse> {
    let kernel = ctx.kernel.clone();
    let rp = ctx.kernel.db.read(move |c| passkeys::relying_party(c, &kernel)).await?;
    let (page, unavailable) = (Page::new(ctx, "Add a passkey", "profile"), rp.err().unwrap_or_default());
    html_status(refused.status, &NewPasskeyPage { page, name, unavailable, refused })
}

/// `GET /profile/mfa/passkey`.
pub(super) async fn new_passkey(ctx: Ctx) -> Result<HttpResponse> {
    passkey_page(&ctx, String::new(), Refused::none()).await
}

/// A question to an authenticator as its script takes it, or why there is none, in the reader's language.
pub fn challenge_json(ctx: &Ctx, asked: Result<Challenge>) -> Result<HttpResponse> {
    match asked {
        Ok(challenge) => Ok(HttpResponse::Ok().json(challenge.as_json())),
        Err(error) => {
            let refused = Refused::of(error)?;
            let said = Language::of(&ctx.principal.locale).say(&refused.problem).into_owned();
            Ok(HttpResponse::build(refused.status).json(serde_json::json!({"message": said})))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PasskeyOptionsForm {
    #[serde(rename = "name")]
    _name: String,
}

/// `POST /profile/mfa/passkey/options`: what a new passkey is made for.
pub(super) async fn passkey_options(ctx: Ctx, _: Form<PasskeyOptionsForm>) -> Result<HttpResponse> {
    let (who, kernel, now) = (ctx.principal.clone(), ctx.kernel.clone(), ctx.kernel.clock.now());
    let asked = ctx.kernel.db.write(move |c| {
        let rp = passkeys::relying_party(c, &kernel)?.map_err(|why| Error::Conflict(why.into()))?;
        passkeys::begin_registration(c, &rp, &own(c, &who)?, now)
    });
    challenge_json(&ctx, asked.await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PasskeyForm {
    name: String,
    challenge: Secret<String>,
    credential: String,
}

/// `POST /profile/mfa/passkey`.
pub(super) async fn add_passkey(ctx: Ctx, form: Form<PasskeyForm>) -> Result<HttpResponse> {
    let PasskeyForm { name, challenge, credential } = form.0;
    let typed = name.clone();
    let added = change(&ctx, move |c, kernel, who, now| {
        let rp = passkeys::relying_party(c, kernel)?.map_err(|why| Error::Conflict(why.into()))?;
        let (user, from) = (own(c, who)?, address(who));
        let answer = Answer { token: challenge.expose(), credential: &credential, address: &from };
        match passkeys::finish_registration(c, kernel, &rp, &user, answer, &typed, now)? {
            Registration::Enrolled(enrolled) => {
                sessions::note_proof(c, who.session_id.as_deref().unwrap_or_default(), Some(enrolled.kind), now)?;
                Ok((Ok(enrolled.codes), enrolled.entries))
            }
            Registration::Refused(why) => Ok((Err(why), Vec::new())),
        }
    });
    match added.await {
        Ok(Ok(Some(codes))) => codes_page(&ctx, ctx.csrf.clone(), &codes, HERE, Refused::none()),
        Ok(Ok(None)) => Ok(redirect_with(HERE, "success", "The passkey was added.")),
        Ok(Err(why)) => passkey_page(&ctx, name, Refused::of(Error::Conflict(why.into()))?).await,
        Err(error) => passkey_page(&ctx, name, Refused::of(error)?).await,
    }
}

/// A change to the reader's own factors, with its record.
async fn change<T, F>(ctx: &Ctx, f: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&Connection, &Kernel, &Principal, Time) -> Result<(T, Vec<Entry>)> + Send + 'static,
{
    let (kernel, who, now) = (ctx.kernel.clone(), ctx.principal.clone(), ctx.kernel.clock.now());
    let subject = users::user_urn(&who.region, who.account, &who.id);
    audit::change(&ctx.kernel, &ctx.principal, move |c| {
        let (done, entries) = f(c, &kernel, &who, now)?;
        Ok((done, entries.into_iter().map(|entry| entry.subject(&subject)).collect()))
    })
    .await
}

#[derive(Template)]
#[template(path = "mfa/device.html")]
struct DevicePage {
    page: Page,
    device: Device,
    name: String,
    is_last: bool,
    refused: Refused,
}

impl DevicePage {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }
}

async fn device_page(ctx: &Ctx, id: &str, name: Option<String>, refused: Refused) -> Result<HttpResponse> {
    let user = ctx.principal.id.clone();
    let devices = ctx.kernel.db.read(move |c| enrol::devices(c, &user)).await?;
    let is_last = devices.len() == 1;
    let device = devices.into_iter().find(|device| device.id == id).ok_or(Error::NotFound("This device"))?;
    let name = name.unwrap_or_else(|| device.name.clone());
    let page = Page::new(ctx, device.name.clone(), "profile").named();
    html_status(refused.status, &DevicePage { page, device, name, is_last, refused })
}

/// `GET /profile/mfa/devices/{id}`.
pub(super) async fn device(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    device_page(&ctx, &id.0, None, Refused::none()).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NameForm {
    name: String,
}

/// `POST /profile/mfa/devices/{id}`.
pub(super) async fn rename(ctx: Ctx, id: PathId<String>, form: Form<NameForm>) -> Result<HttpResponse> {
    let (device, name) = (id.0.clone(), form.0.name.clone());
    let renamed = change(&ctx, move |c, _, who, _| {
        let entry = enrol::rename(c, &who.id, &device, &name)?;
        Ok(((), vec![entry]))
    });
    match renamed.await {
        Ok(()) => Ok(redirect_with(HERE, "success", "The name was changed.")),
        Err(error) => device_page(&ctx, &id.0, Some(form.0.name), Refused::of(error)?).await,
    }
}

/// `POST /profile/mfa/devices/{id}/remove`.
pub(super) async fn remove(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let device = id.0.clone();
    let removed = change(&ctx, move |c, kernel, who, now| {
        let (left, entry) = enrol::remove(c, kernel, &own(c, who)?, &device, &address(who), now)?;
        check_left(c, &who.id, left)?;
        Ok(((), vec![entry]))
    });
    match removed.await {
        Ok(()) => Ok(redirect_with(HERE, "success", "It was removed.")),
        Err(error) => device_page(&ctx, &id.0, None, Refused::of(error)?).await,
    }
}

#[derive(Template)]
#[template(path = "mfa/codes.html")]
struct CodesPage<'a> {
    page: Page,
    codes: Vec<&'a str>,
    joined: String,
    next: &'a str,
    refused: Refused,
}

impl CodesPage<'_> {
    fn error(&self, field: &str) -> &str {
        self.refused.error(&[field])
    }
}

/// The page that shows recovery codes, which then goes on to `next`. `csrf` is of the session that reads it.
pub fn codes_page(
    ctx: &Ctx,
    csrf: String,
    codes: &[Secret<String>],
    next: &str,
    refused: Refused,
) -> Result<HttpResponse> {
    let codes: Vec<&str> = codes.iter().map(|code| code.expose().as_str()).collect();
    let mut page = Page::new(ctx, "Your recovery codes", "");
    page.csrf = csrf;
    html_status(refused.status, &CodesPage { page, joined: codes.join(" "), codes, next, refused })
}

/// `POST /profile/mfa/codes`: a new set.
pub(super) async fn new_codes(ctx: Ctx) -> Result<HttpResponse> {
    let codes = change(&ctx, |c, kernel, who, now| {
        let user = own(c, who)?;
        if !user.factors.any() {
            return Err(Error::Conflict("Recovery codes stand in for a second factor. Add one first.".into()));
        }
        let codes = enrol::new_codes(c, &kernel.key, &user.id, now)?;
        let mail = MfaChanged { change: MfaChange::NewCodes, at: now, address: &address(who) };
        notifications::notify(c, &kernel.key, mail.mail(&user.email, &user.locale), now)?;
        Ok((codes, vec![Entry::new("audit.recovery_codes_made.v1")]))
    })
    .await?;
    codes_page(&ctx, ctx.csrf.clone(), &codes, HERE, Refused::none())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CodesForm {
    codes: Secret<String>,
    next: String,
    #[serde(default)]
    stored: String,
}

/// The codes that a form carries, if they are the present ones of whoever sends it: a page of ours shows nothing else.
async fn carried(ctx: &Ctx, codes: &Secret<String>) -> Result<Vec<Secret<String>>> {
    let (user, kernel) = (ctx.principal.id.clone(), ctx.kernel.clone());
    let codes: Vec<String> = codes.expose().split(' ').map(str::to_owned).take(64).collect();
    let asked = codes.clone();
    let are_theirs = ctx.kernel.db.read(move |c| {
        let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
        enrol::are_codes(c, &kernel.key, &user, &asked)
    });
    if !are_theirs.await? {
        return Err(Error::Conflict("These recovery codes were replaced by a newer set.".into()));
    }
    Ok(codes.into_iter().map(Secret::new).collect())
}

/// `POST /profile/mfa/codes/stored`.
pub(super) async fn stored(ctx: Ctx, form: Form<CodesForm>) -> Result<HttpResponse> {
    let CodesForm { codes, next, stored } = form.0;
    let next = door::local_path(&next).unwrap_or_else(|| "/".to_owned());
    let codes = carried(&ctx, &codes).await?;
    if stored.is_empty() {
        let error = Error::field("stored", "Store them first: nobody can show them to you again.");
        return codes_page(&ctx, ctx.csrf.clone(), &codes, &next, Refused::of(error)?);
    }
    change(&ctx, |c, _, who, now| {
        let is_new = enrol::note_stored(c, &who.id, now)?;
        Ok(((), is_new.then(|| Entry::new("audit.recovery_codes_stored.v1")).into_iter().collect()))
    })
    .await?;
    Ok(redirect_with(&next, "success", "Your recovery codes are stored. You can come in without your device now."))
}

/// `POST /profile/mfa/codes/file`.
pub(super) async fn file(ctx: Ctx, form: Form<CodesForm>) -> Result<HttpResponse> {
    let codes = carried(&ctx, &form.0.codes).await?;
    let mut text = format!("Bailiwick: {}\n\n", ctx.principal.email);
    for code in &codes {
        text.push_str(code.expose());
        text.push('\n');
    }
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header((header::CONTENT_DISPOSITION, "attachment; filename=\"bailiwick-recovery-codes.txt\""))
        .body(text))
}

#[derive(Template)]
#[template(path = "mfa/apps.html")]
struct AppsPage {
    page: Page,
    apps: &'static [(&'static str, &'static str)],
}

/// `GET /sign-in/apps`: for whoever is on their way in, and anybody else.
pub(super) async fn apps(ctx: Ctx) -> Result<HttpResponse> {
    html(&AppsPage { page: Page::new(&ctx, "Authenticator apps", ""), apps: APPS })
}
