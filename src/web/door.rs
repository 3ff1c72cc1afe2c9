//! The door in front of every route: recognises the caller, checks the route's permission and the CSRF token.
//!
//! It must never let a request with an unsafe method reach a page's handler without a token that belongs to the same
//! session (HOSTILE W07), never let a dangerous one pass whose user has not proved lately that it is them (A12), and never
//! believe a forwarding header from a peer that is not a named proxy (W13).

use std::{net::IpAddr, panic::AssertUnwindSafe, sync::Arc};

use actix_web::{
    HttpMessage, HttpRequest,
    body::{BoxBody, MessageBody},
    cookie::{Cookie, SameSite},
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::{Method, header},
    middleware::Next,
    web::{Bytes, Data},
};
use futures_util::FutureExt as _;

use super::{
    api_road::{self, Item},
    context::{Address, Ctx, Recognised, Surroundings, Web, read_api_key},
    errors::{self, RequestId},
    input::FormBody,
    ongoing::{self, Ongoing},
    refusals::{self, Asking},
    step_up::{self, Again},
};
use crate::{
    error::{Error, Result},
    language::Language,
    principal::{Permission, Principal},
    secret::{self, MasterKey, Secret},
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DoorKind {
    Page,
    Api,
    Open,
}

/// What the door knows of the route behind it.
pub(super) struct Passage {
    pub kind: DoorKind,
    pub permission: Permission,
    pub again: Option<Again>,
    /// The query parameters of an API route; no others are let in (HOSTILE R05, W14).
    pub query: Vec<String>,
    pub item: Option<Item>,
}

/// The session cookie.
pub const SESSION_COOKIE: &str = "__Host-bailiwick-session";
/// Tells one browser from another before anybody has signed in, so that the sign-in form has a CSRF token too.
const BROWSER_COOKIE: &str = "__Host-bailiwick-browser";
/// A message for the next page.
pub const FLASH_COOKIE: &str = "__Host-bailiwick-flash";

const API_VERSION: &str = "v1";

pub(super) async fn pass(
    passage: Arc<Passage>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if passage.kind == DoorKind::Api {
        let mut response = match enter(&passage, &mut request).await {
            Ok(_) => api_road::carry(&passage, request, next).await,
            Err(error) => errors::written(request.error_response(error).map_into_boxed_body()),
        };
        api_road::say_rate(&mut response);
        refusals::record(&passage, &response).await;
        return Ok(response);
    }
    let cookies = match enter(&passage, &mut request).await {
        Ok(cookies) => cookies,
        Err(error) => {
            let response = request.error_response(error).map_into_boxed_body();
            refusals::record(&passage, &response).await;
            return Ok(response);
        }
    };
    let http_request = request.request().clone();
    let asked = step_up::ask(&passage, &http_request).await;
    if let Some(answer) = asked.transpose() {
        let mut response = request.into_response(answer.unwrap_or_else(actix_web::HttpResponse::from_error));
        add_cookies(&mut response, cookies);
        return Ok(response);
    }
    let ongoing = Arc::<Ongoing>::default();
    let called = ongoing::with(ongoing.clone(), next.call(request));
    // A panic in one room is that request's 500 and nobody else's (HOSTILE H15).
    let mut response = match AssertUnwindSafe(called).catch_unwind().await {
        Ok(Ok(response)) => response.map_into_boxed_body(),
        Ok(Err(error)) => ServiceResponse::from_err(error, http_request),
        Err(_) => ServiceResponse::from_err(Error::internal("the handler of this request panicked"), http_request),
    };
    if step_up::is_wanted(&response) {
        // What it depends on, only the handler could know. Nothing was changed: the action has ended with an error.
        let made = step_up::page(response.request(), step_up::first()).await;
        response = response.into_response(made.unwrap_or_else(actix_web::HttpResponse::from_error));
        add_cookies(&mut response, cookies);
        return Ok(response);
    }
    add_cookies(&mut response, cookies);
    if !ongoing.is_refusal_recorded() {
        refusals::record(&passage, &response).await;
    }
    Ok(response)
}

/// Everything before the handler. Answers the cookies that the door itself adds to the response.
async fn enter(passage: &Passage, request: &mut ServiceRequest) -> Result<Vec<Cookie<'static>>> {
    let (kind, permission) = (passage.kind, passage.permission);
    let Some(web) = request.app_data::<Data<Web>>().cloned() else {
        return Err(Error::internal("the request road was not set up"));
    };
    if kind == DoorKind::Open {
        return Ok(Vec::new());
    }
    let address = address(request, &web);
    let mut is_held = false;
    let asked = match kind {
        DoorKind::Api => api_principal(request, &web, &address).await?,
        DoorKind::Page | DoorKind::Open => match page_principal(request, &web, &address).await? {
            Recognised::User(principal) => Some(principal),
            Recognised::Nobody => None,
            Recognised::Held => {
                is_held = true;
                None
            }
        },
    };
    if let Some(principal) = &asked {
        request.extensions_mut().insert(Asking(principal.clone()));
    }
    if kind == DoorKind::Api {
        count(request, &web, asked.as_ref(), &address)?;
    }
    let region = &web.kernel.config.region;
    let is_stranger = asked.is_none();
    let principal = asked.unwrap_or_else(|| {
        Principal::stranger(region, Some(address.ip), Some(address.request_id.clone()))
            .reading(accepted_language(request.request()))
    });
    // For the error page, should it come to that.
    request.extensions_mut().insert(Language::of(&principal.locale));
    if !principal.allows(permission) {
        if is_stranger {
            return Err(if is_held { Error::MoreProof } else { Error::Unauthenticated });
        }
        return Err(Error::Forbidden(principal.why_refused(permission).into()));
    }
    if kind == DoorKind::Api {
        check_query(request, &passage.query)?;
    }
    let session = cookie(request.request(), SESSION_COOKIE).filter(|_| kind == DoorKind::Page && !is_stranger);
    let browser = cookie(request.request(), BROWSER_COOKIE).filter(|token| token.len() == 43);
    let new_browser = (kind == DoorKind::Page && is_stranger && browser.is_none()).then(secret::random_token);
    let csrf_base = session.as_ref().or(browser.as_ref()).or(new_browser.as_ref().map(Secret::expose));
    let csrf = csrf_base.map_or_else(String::new, |base| csrf_of(&web.kernel.key, base));
    if kind == DoorKind::Page && !matches!(*request.method(), Method::GET | Method::HEAD) {
        check_origin(request)?;
        let body = request.extract::<Bytes>().await.map_err(|_| Error::TooLarge)?;
        let form = FormBody::parse(&body)?;
        let sent = request
            .headers()
            .get("x-csrf-token")
            .and_then(|value| value.to_str().ok())
            .or_else(|| form.first("csrf"))
            .unwrap_or_default();
        // A browser that has no cookie yet cannot have been given a form by us.
        if new_browser.is_some() || csrf.is_empty() || !secret::equal(sent.as_bytes(), csrf.as_bytes()) {
            return Err(Error::Forbidden(
                "This form is out of date (you may have signed in or out in another tab). Go back, reload the page and send it again."
                    .into(),
            ));
        }
        request.extensions_mut().insert(form);
        request.set_payload(Payload::None);
    }
    let is_whole_page = kind == DoorKind::Page && !is_stranger && !is_fragment(request);
    let surroundings =
        if is_whole_page { web.gate.surroundings(principal.clone()).await } else { Surroundings::default() };
    let flash = cookie(request.request(), FLASH_COOKIE);
    let clear_flash = flash.is_some() && *request.method() == Method::GET && !is_fragment(request);
    let ctx = Ctx {
        kernel: web.kernel.clone(),
        is_fragment: is_fragment(request),
        is_secure: !web.kernel.config.plain_http,
        path: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
        principal,
        address,
        csrf,
        session_token: session.map(|token| Arc::new(Secret::new(token))),
        flash: flash.filter(|_| clear_flash),
        surroundings: Arc::new(surroundings),
    };
    request.extensions_mut().insert(ctx);
    let mut cookies = Vec::new();
    if let Some(token) = new_browser {
        cookies.push(browser_cookie(token.expose()));
    }
    if clear_flash {
        cookies.push(removal(FLASH_COOKIE));
    }
    Ok(cookies)
}

/// The token that forms send back from pages of the browser with this cookie: its session's, or before there is one its own.
pub fn csrf_of(key: &MasterKey, cookie: &str) -> String {
    secret::encode_hex(&key.mac("csrf.v1", cookie.as_bytes()))
}

fn add_cookies(response: &mut ServiceResponse<BoxBody>, cookies: Vec<Cookie<'static>>) {
    for cookie in cookies {
        if let Err(error) = response.response_mut().add_cookie(&cookie) {
            tracing::error!(%error, "a cookie could not be written");
        }
    }
}

fn host_cookie<'a>(name: &'a str, value: &str) -> Cookie<'a> {
    Cookie::build(name, value.to_owned()).path("/").secure(true).http_only(true).same_site(SameSite::Lax).finish()
}

fn browser_cookie(token: &str) -> Cookie<'static> {
    host_cookie(BROWSER_COOKIE, token)
}

/// The cookie that carries a session; ends with the browser, the server's limits end it earlier.
pub fn session_cookie(token: &Secret<String>) -> Cookie<'static> {
    host_cookie(SESSION_COOKIE, token.expose())
}

/// A cookie of ours with any name (`__Host-` prefix included) that lives for `max_age_s` seconds.
pub fn lasting_cookie<'a>(name: &'a str, value: &str, max_age_s: i64) -> Cookie<'a> {
    let mut cookie = host_cookie(name, value);
    cookie.set_max_age(actix_web::cookie::time::Duration::seconds(max_age_s));
    cookie
}

/// The cookie of a message for the next page; `kind` as in `Flash`.
pub fn flash(kind: &str, text: &str) -> Cookie<'static> {
    let value = serde_urlencoded::to_string([(kind, text)]).unwrap_or_default();
    lasting_cookie(FLASH_COOKIE, &value, 60)
}

/// Takes a cookie away.
pub fn removal(name: &str) -> Cookie<'_> {
    lasting_cookie(name, "", 0)
}

/// A path of this console, safe to redirect to: the query may follow, another host may not (HOSTILE W09). Answers
/// the path as the URL standard reads it, so that what is checked is what the browser will do.
pub fn local_path(text: &str) -> Option<String> {
    let is_plain = text.len() <= 2048
        && text.starts_with('/')
        && !text.starts_with("//")
        && !text.contains('\\')
        && text.chars().all(|c| c.is_ascii_graphic());
    if !is_plain {
        return None;
    }
    let base = url::Url::parse("https://console.invalid/").ok()?;
    let joined = base.join(text).ok()?;
    let is_here = joined.origin() == base.origin() && !joined.path().starts_with("//");
    is_here.then(|| joined[url::Position::BeforePath..url::Position::AfterQuery].to_owned())
}

/// A cookie's value as sent.
pub fn cookie(request: &HttpRequest, name: &str) -> Option<String> {
    request.cookie(name).map(|cookie| cookie.value().to_owned()).filter(|value| !value.is_empty())
}

/// The language that the browser asks for.
pub(super) fn accepted_language(request: &HttpRequest) -> Language {
    let header = request.headers().get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    Language::accepted(header.unwrap_or_default())
}

fn is_fragment(request: &ServiceRequest) -> bool {
    let header = |name: &str| request.headers().get(name).is_some_and(|value| value == "true");
    header("hx-request") && !header("hx-boosted") && !header("hx-history-restore-request")
}

/// The client's address: the peer, or what a named proxy says of it (the last hop that is not such a proxy).
fn address(request: &ServiceRequest, web: &Web) -> Address {
    let peer = request.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |addr| addr.ip().to_canonical());
    let proxies = &web.kernel.config.trusted_proxies;
    let is_proxy = |ip: &IpAddr| proxies.iter().any(|net| net.contains(ip));
    let mut ip = peer;
    if is_proxy(&peer) {
        let forwarded: Vec<&str> = request
            .headers()
            .get_all("x-forwarded-for")
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        for hop in forwarded.iter().rev() {
            let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
            ip = hop.to_canonical();
            if !is_proxy(&ip) {
                break;
            }
        }
    }
    let user_agent = request
        .headers()
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .take(256)
        .collect();
    let request_id = request.extensions().get::<RequestId>().map_or_else(String::new, |id| id.0.clone());
    let is_polling = is_polling(request.path());
    Address { ip, request_id, user_agent, is_polling }
}

/// Whether an open page asks for this address by itself.
pub(super) fn is_polling(path: &str) -> bool {
    path.ends_with("/progress")
}

async fn page_principal(request: &ServiceRequest, web: &Web, address: &Address) -> Result<Recognised> {
    match cookie(request.request(), SESSION_COOKIE) {
        // A session token has 43 characters; anything else is not worth a look into the database.
        Some(token) if token.len() == 43 => web.gate.session(Secret::new(token), address.clone()).await,
        _ => Ok(Recognised::Nobody),
    }
}

async fn api_principal(request: &ServiceRequest, web: &Web, address: &Address) -> Result<Option<Principal>> {
    let headers = request.headers();
    if headers.get("api-version").is_some_and(|version| version != API_VERSION) {
        return Err(Error::BadRequest(format!("This appliance speaks Api-Version {API_VERSION} only.")));
    }
    let mut given = headers.get_all(header::AUTHORIZATION);
    let (Some(value), None) = (given.next(), given.next()) else { return Ok(None) };
    match value.to_str().ok().and_then(read_api_key) {
        Some(key) => web.gate.api_key(key, address.clone()).await,
        None => Ok(None),
    }
}

/// Counts an API request, and refuses one too many.
fn count(request: &ServiceRequest, web: &Web, asked: Option<&Principal>, address: &Address) -> Result<()> {
    let (per_minute, now) = (web.kernel.config.api_rate_per_minute, web.kernel.clock.now());
    let wait_s = match asked {
        Some(principal) => web.rates.of_key(&principal.urn(), per_minute, now).and_then(|standing| {
            request.extensions_mut().insert(standing);
            standing.wait_s
        }),
        None => web.rates.of_stranger(address.ip, per_minute, now),
    };
    match wait_s {
        None => Ok(()),
        Some(seconds) => Err(Error::TooManyRequests { retry_after_s: u64::try_from(seconds).unwrap_or(1) }),
    }
}

/// Refuses a query parameter that the operation does not have: one that is misspelt, or holds a key.
fn check_query(request: &ServiceRequest, known: &[String]) -> Result<()> {
    let unknown = url::form_urlencoded::parse(request.query_string().as_bytes())
        .map(|(name, _)| name)
        .find(|name| !known.iter().any(|known| *known == **name));
    let Some(name) = unknown else { return Ok(()) };
    let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    Err(Error::BadRequest(format!(
        "There is no query parameter `{shown}` here. Keys are sent in the Authorization header only."
    )))
}

/// The browser's own word on where the request comes from; the token decides for browsers that say nothing.
fn check_origin(request: &ServiceRequest) -> Result<()> {
    let refuse = || Err(Error::Forbidden("This request came from another site and was refused.".into()));
    let headers = request.headers();
    if let Some(site) = headers.get("sec-fetch-site")
        && site != "same-origin"
        && site != "none"
    {
        return refuse();
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let same = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"))
            .is_some_and(|(_, origin_host)| origin_host.eq_ignore_ascii_case(host));
        if !same {
            return refuse();
        }
    }
    Ok(())
}
