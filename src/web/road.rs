//! What wraps every request: the id, the log line, the measurements, the security headers, and the errors' bodies.

use std::time::Instant;

use actix_web::{
    HttpMessage,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
};

use super::{
    context::Ctx,
    door,
    errors::{self, Asked, RequestId},
};
use crate::language::Language;

pub(super) async fn travel(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let started = Instant::now();
    let id = uuid::Uuid::now_v7().simple().to_string();
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    let path = request.path().to_owned();
    let path_and_query = request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let is_api = path == "/api" || path.starts_with("/api/");
    let is_fragment = request.headers().get("hx-request").is_some_and(|v| v == "true");

    // No copy of the request may be held across routing: actix-web writes into it and panics when it is shared. So an
    // error that nobody below turned into an answer cannot be dressed here; the door turns all of its into answers.
    let mut response = next.call(request).await?.map_into_boxed_body();
    let http_request = response.request().clone();
    let status = response.status();
    let is_bare = response.response().error().is_some()
        || status == StatusCode::METHOD_NOT_ALLOWED
        || (status == StatusCode::NOT_FOUND && !response.headers().contains_key(header::CONTENT_TYPE));
    if is_bare && !status.is_redirection() && !status.is_success() {
        let theme =
            http_request.extensions().get::<Ctx>().map_or_else(|| "auto".into(), |ctx| ctx.principal.theme.clone());
        let language = http_request.extensions().get::<Language>().copied();
        let asked = Asked {
            is_api,
            is_fragment,
            path_and_query: &path_and_query,
            is_get: method == Method::GET,
            request_id: &id,
            theme: &theme,
            language: language.unwrap_or_else(|| door::accepted_language(&http_request)),
        };
        let made = errors::of_response(response.response(), &asked);
        response = ServiceResponse::new(http_request.clone(), made);
    }
    secure(response.headers_mut(), is_api, &path);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    let took = started.elapsed();
    let pattern = http_request.match_pattern().unwrap_or_else(|| "(none)".into());
    // Anybody can send any word as a method: each would be one more row in memory.
    let method = match method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => {
            method.to_string()
        }
        _ => "(other)".into(),
    };
    let status = response.status().as_u16();
    metrics::histogram!("bailiwick_http_request_duration_seconds", "route" => pattern.clone(), "method" => method.clone())
        .record(took.as_secs_f64());
    metrics::counter!("bailiwick_http_requests_total", "route" => pattern, "method" => method.clone(), "status" => status.to_string())
        .increment(1);
    // The path without its query: search words and tokens do not belong in a log.
    tracing::info!(request_id = %id, method, path, status, took_ms = took.as_millis(), "request");
    Ok(response)
}

/// ASVS 3.4 and 14.3.2: no framing, no sniffing, no inline code, no referrer, nothing kept in shared caches.
fn secure(headers: &mut HeaderMap, is_api: bool, path: &str) {
    let mut set = |name: &'static str, value: &'static str| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    };
    set("x-content-type-options", "nosniff");
    set("x-frame-options", "DENY");
    // Not `no-referrer`: under it browsers send `Origin: null` with forms, and the door would refuse them.
    set("referrer-policy", "same-origin");
    set("cross-origin-opener-policy", "same-origin");
    set("cross-origin-resource-policy", "same-origin");
    set("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()");
    set("strict-transport-security", "max-age=63072000");
    let policy = if is_api {
        "default-src 'none'; frame-ancestors 'none'"
    } else {
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    };
    set("content-security-policy", policy);
    if !path.starts_with("/static/") {
        set("cache-control", "no-store");
    }
}
