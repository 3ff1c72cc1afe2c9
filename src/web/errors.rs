//! Errors as answers: a page for people, JSON for programs, both with the request id.
//!
//! A 5xx shows nothing but the id; its cause is logged here, once.

use actix_web::{
    HttpMessage as _, HttpResponse, ResponseError,
    body::BoxBody,
    dev::ServiceResponse,
    http::{StatusCode, header},
};
use askama::Template;
use serde_json::json;

use super::{page::Page, refusals::Why};
use crate::{error::Error, language::Language};

/// The id that the page shows and the log holds.
#[derive(Clone)]
pub(super) struct RequestId(pub String);

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// A bare answer; the road writes the body, because only it knows which door was used.
    fn error_response(&self) -> HttpResponse<BoxBody> {
        HttpResponse::new(self.status_code())
    }
}

#[derive(Template)]
#[template(path = "layout/error.html")]
struct ErrorPage<'a> {
    page: Page,
    status: u16,
    title: &'a str,
    message: &'a str,
    request_id: &'a str,
}

/// What an error answer needs to know of its request.
pub(super) struct Asked<'a> {
    pub is_api: bool,
    pub is_fragment: bool,
    pub path_and_query: &'a str,
    pub is_get: bool,
    pub request_id: &'a str,
    pub theme: &'a str,
    pub language: Language,
}

/// The whole answer for an error.
pub(super) fn answer(error: &Error, asked: &Asked<'_>) -> HttpResponse<BoxBody> {
    let status = error.status_code();
    let message = match error {
        Error::Internal { .. } => {
            tracing::error!(request_id = asked.request_id, error = %error.chain(), "a request failed");
            "Something went wrong on our side. Nothing was changed. If it happens again, give your administrator the request id.".to_owned()
        }
        other => other.to_string(),
    };
    let message = match error {
        Error::TooManyRequests { retry_after_s } if asked.is_api => {
            format!("Too many requests. Wait {retry_after_s} seconds and try again.")
        }
        _ => message,
    };
    let mut answer = HttpResponse::build(status);
    match error {
        Error::TooManyRequests { retry_after_s } | Error::Unavailable { retry_after_s, .. } => {
            answer.insert_header(("retry-after", retry_after_s.to_string()));
        }
        _ => {}
    }
    if asked.is_api {
        if matches!(error, Error::Unauthenticated) {
            answer.insert_header(("www-authenticate", "ApiKey"));
        }
        let body = match error {
            Error::Invalid(fields) => {
                let fields: serde_json::Map<_, _> =
                    fields.iter().map(|field| (field.field.clone(), json!(field.message))).collect();
                json!({"message": message, "fields": fields})
            }
            Error::Unauthenticated => json!({"message": "The API key is missing or not valid."}),
            Error::Internal { .. } => json!({"message": message, "requestId": asked.request_id}),
            _ => json!({"message": message}),
        };
        return answer.json(body);
    }
    let way_in = match error {
        Error::Unauthenticated => Some("/sign-in"),
        Error::MoreProof => Some("/sign-in/continue"),
        _ => None,
    };
    if let Some(way_in) = way_in {
        if asked.is_fragment {
            // The script sends the reader there; the fragment's place stays as it was.
            return answer.insert_header(("hx-redirect", way_in)).finish();
        }
        let next = if asked.is_get { asked.path_and_query } else { "/" };
        let query = serde_urlencoded::to_string([("next", next)]).unwrap_or_default();
        let location = if next == "/" { way_in.to_owned() } else { format!("{way_in}?{query}") };
        return HttpResponse::SeeOther().insert_header(("location", location)).finish();
    }
    let page = ErrorPage {
        page: Page::bare(title(status), asked.theme, asked.language),
        status: status.as_u16(),
        title: title(status),
        message: &message,
        request_id: asked.request_id,
    };
    match page.render() {
        Ok(body) => answer.content_type("text/html; charset=utf-8").body(body),
        Err(error) => {
            tracing::error!(%error, "the error page itself could not be rendered");
            answer.content_type("text/plain; charset=utf-8").body(message)
        }
    }
}

/// The answer of an API route; when it is an error that nobody has written out yet, with its body.
pub(super) fn written(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    if response.response().error().is_none() {
        return response;
    }
    let id = response.request().extensions().get::<RequestId>().map_or_else(String::new, |id| id.0.clone());
    let asked = Asked {
        is_api: true,
        is_fragment: false,
        path_and_query: "",
        is_get: false,
        request_id: &id,
        theme: "auto",
        language: Language::English,
    };
    let made = of_response(response.response(), &asked);
    if let Some(error) = response.response().error().and_then(|error| error.as_error::<Error>()) {
        response.request().extensions_mut().insert(Why::of(error));
    }
    let (request, _) = response.into_parts();
    ServiceResponse::new(request, made)
}

/// The whole answer for a response that is an error, ours or one of a lower layer.
pub(super) fn of_response(response: &HttpResponse<BoxBody>, asked: &Asked<'_>) -> HttpResponse<BoxBody> {
    let status = response.status();
    if let Some(error) = response.error().and_then(|error| error.as_error::<Error>()) {
        return answer(error, asked);
    }
    if let Some(error) = response.error().filter(|_| status.is_server_error()) {
        tracing::error!(request_id = %asked.request_id, %error, "a request failed below the rooms");
    }
    let mut made = answer(&from_status(status), asked);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        *made.status_mut() = status;
        if let Some(allow) = response.headers().get(header::ALLOW) {
            made.headers_mut().insert(header::ALLOW, allow.clone());
        }
    }
    made
}

fn title(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "The request could not be read",
        401 => "Sign in to continue",
        403 => "You may not do this",
        404 => "Not found",
        405 => "This address does not take that method",
        409 => "This cannot be done now",
        412 => "It was changed in the meantime",
        413 => "Too large",
        422 => "Please correct the entries",
        429 => "Too many attempts",
        503 => "Not available at the moment",
        _ => "Something went wrong",
    }
}

/// An error for a bare status that a lower layer (actix) answered with.
fn from_status(status: StatusCode) -> Error {
    match status.as_u16() {
        401 => Error::Unauthenticated,
        403 => Error::Forbidden("This is not allowed.".into()),
        404 => Error::NotFound("The page or item"),
        405 => Error::BadRequest("This address does not take that method; see the Allow header.".into()),
        413 => Error::TooLarge,
        code if (400..500).contains(&code) => {
            Error::BadRequest("The request could not be read. Check it and send it again.".into())
        }
        _ => Error::internal(format!("the server answered {status}")),
    }
}
