//! The last stretch of an API request, between the door and the handler: `Idempotency-Key`, `If-Match`, `ETag`, and the
//! headers that every answer has.
//!
//! All of it holds for every route of the API, because there is no other way to a handler. It must never hold up a
//! request that uses none of it.
//!
//! `If-Match` is compared with what `GET` of the item answers to the same principal. Between that and the change somebody
//! else may change the item; so the account's newest audit record is noted before comparing, and the transaction of the
//! change refuses when there is a newer one ([`super::Ongoing`]). Then all is done again: compared, and carried out or
//! answered with 412. What is not on the record (progress of a run, a key's last use) is not guarded in that instant;
//! nobody's change is lost by it.

use std::{panic::AssertUnwindSafe, sync::Arc};

use actix_web::{
    HttpMessage as _, HttpRequest, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::{Method, StatusCode, header},
    middleware::Next,
    web::{Bytes, Data},
};
use futures_util::{FutureExt as _, future::LocalBoxFuture};

use super::{
    context::{Ctx, Web},
    door::Passage,
    errors,
    etag::{self, Tags},
    once::{self, Begun},
    ongoing::{self, Ongoing},
    rate::Standing,
    refusals::Recorded,
};
use crate::{
    error::{Error, Result},
    principal::Permission,
};

/// Answers like a handler, without its route.
pub(super) type Show = Arc<dyn Fn(HttpRequest) -> LocalBoxFuture<'static, HttpResponse<BoxBody>> + Send + Sync>;

/// The item that a route changes: what `If-Match` is compared with.
#[derive(Clone)]
pub(super) struct Item {
    pub show: Show,
    pub permission: Permission,
}

/// Others may change the account all the time; then it is not a matter of this item any more.
const ATTEMPTS_MAX: usize = 8;

type Answer = ServiceResponse<BoxBody>;

/// Carries an API request that the door has let in.
pub(super) async fn carry<B: MessageBody + 'static>(
    passage: &Arc<Passage>,
    request: ServiceRequest,
    next: Next<B>,
) -> Answer {
    let http_request = request.request().clone();
    let carried = match (once::key(request.headers()), request.method() == Method::POST) {
        (Ok(Some(key)), true) => carry_once(passage, request, next, key).await,
        // On other methods the header has no meaning, and is left alone.
        (Ok(_), _) | (Err(_), false) => {
            let condition = condition(&request);
            match condition {
                Ok(None) => Ok(call(&next, request, None).await),
                Ok(Some(tags)) => carry_if(passage, request, next, &tags, None).await,
                Err(error) => Err(error),
            }
        }
        (Err(error), true) => Err(error),
    };
    tagged(carried.unwrap_or_else(|error| ServiceResponse::from_err(error, http_request)))
}

/// `If-Match`, on methods that change something.
fn condition(request: &ServiceRequest) -> Result<Option<Tags>> {
    let is_asked = request.headers().contains_key(header::IF_MATCH)
        && !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !is_asked {
        return Ok(None);
    }
    let read = Tags::read(request.headers().get_all(header::IF_MATCH));
    read.map(Some).ok_or_else(|| Error::BadRequest("If-Match must be `*` or entity tags such as \"1a2b\".".into()))
}

/// The handler; a panic in one room is that request's 500 and nobody else's (HOSTILE H15).
async fn call<B: MessageBody + 'static>(
    next: &Next<B>,
    request: ServiceRequest,
    ongoing: Option<Arc<Ongoing>>,
) -> Answer {
    let http_request = request.request().clone();
    let ongoing = ongoing.unwrap_or_default();
    let called = ongoing::with(ongoing.clone(), next.call(request));
    let response = match AssertUnwindSafe(called).catch_unwind().await {
        Ok(Ok(response)) => response.map_into_boxed_body(),
        Ok(Err(error)) => ServiceResponse::from_err(error, http_request),
        Err(_) => ServiceResponse::from_err(Error::internal("the handler of this request panicked"), http_request),
    };
    if ongoing.is_refusal_recorded() {
        response.request().extensions_mut().insert(Recorded);
    }
    errors::written(response)
}

async fn body_of(request: &mut ServiceRequest) -> Result<Bytes> {
    let body = request.extract::<Bytes>().await.map_err(|_| Error::TooLarge)?;
    request.set_payload(Payload::from(body.clone()));
    Ok(body)
}

fn web_of(request: &ServiceRequest) -> Result<Data<Web>> {
    request.app_data::<Data<Web>>().cloned().ok_or_else(|| Error::internal("the request road was not set up"))
}

async fn carry_if<B: MessageBody + 'static>(
    passage: &Passage,
    mut request: ServiceRequest,
    next: Next<B>,
    tags: &Tags,
    once: Option<[u8; 32]>,
) -> Result<Answer> {
    let web = web_of(&request)?;
    let ctx = request.extensions().get::<Ctx>().cloned();
    let ctx = ctx.ok_or_else(|| Error::internal("a route was reached without passing the door"))?;
    let Some(item) = &passage.item else {
        return Err(Error::PreconditionFailed("There is no item here that If-Match could be compared with.".into()));
    };
    if !ctx.principal.allows(item.permission) {
        return Err(Error::Forbidden("If-Match is compared with what you may read, and you may not read this.".into()));
    }
    let body = body_of(&mut request).await?;
    for _ in 0..ATTEMPTS_MAX {
        let seen = web.gate.newest_record(ctx.principal.clone()).await?;
        let shown = (item.show)(request.request().clone()).await;
        if shown.status() != StatusCode::OK {
            return Ok(errors::written(ServiceResponse::new(request.request().clone(), shown)));
        }
        let shown = shown.into_body().try_into_bytes();
        let tag = shown.map(|bytes| etag::of(&bytes)).map_err(|_| Error::internal("an item has no length"))?;
        if !tags.matches(&tag) {
            return Err(Error::PreconditionFailed(
                "It is not as If-Match says: somebody changed it, or a figure of it moved on. Read it again.".into(),
            ));
        }
        let ongoing = Ongoing::new(Some(seen), once);
        let response = call(&next, request, Some(ongoing.clone())).await;
        if !ongoing.has_moved() {
            return Ok(response);
        }
        request = ServiceRequest::from_parts(response.into_parts().0, Payload::from(body.clone()));
    }
    Err(Error::Unavailable {
        message: "The account is changing all the time. Nothing was changed; try again.".into(),
        retry_after_s: 1,
    })
}

async fn carry_once<B: MessageBody + 'static>(
    passage: &Arc<Passage>,
    mut request: ServiceRequest,
    next: Next<B>,
    key: String,
) -> Result<Answer> {
    let web = web_of(&request)?;
    let ctx = request.extensions().get::<Ctx>().cloned();
    let ctx = ctx.ok_or_else(|| Error::internal("a route was reached without passing the door"))?;
    let tags = condition(&request)?;
    let body = body_of(&mut request).await?;
    let path = request.uri().path_and_query().map_or("", |path| path.as_str()).to_owned();
    let asked = [request.method().as_str().as_bytes(), path.as_bytes(), &body];
    let reserved = match once::begin(&web.kernel, &web.running, &ctx.principal, &key, asked).await? {
        Begun::Carry(reserved) => reserved,
        Begun::Answered(answer) => return Ok(request.into_response(answer)),
        Begun::Refused { message, retry_after_s } => {
            let error = Error::Conflict(message.to_owned());
            let mut answer = errors::written(request.error_response(error).map_into_boxed_body());
            if let Some(seconds) = retry_after_s {
                answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            return Ok(answer);
        }
    };
    let passage = passage.clone();
    // In a task of its own: whoever asked may be gone before it is done, and asks again for the answer.
    let carrying = actix_web::rt::spawn(async move {
        let http_request = request.request().clone();
        let once = reserved.id;
        let carried = match tags {
            None => Ok(call(&next, request, Some(Ongoing::new(None, Some(once)))).await),
            Some(tags) => carry_if(&passage, request, next, &tags, Some(once)).await,
        };
        let response = carried.unwrap_or_else(|error| ServiceResponse::from_err(error, http_request));
        let (http_request, response) = errors::written(response).into_parts();
        ServiceResponse::new(http_request, once::finish(&web.kernel, reserved, response).await)
    });
    carrying.await.map_err(|e| Error::caused("carrying out a request ended early", e))
}

/// `ETag` on what `GET` shows, and 304 for whoever has it already.
fn tagged(response: Answer) -> Answer {
    let response = errors::written(response);
    let request = response.request();
    let is_json = |value: &header::HeaderValue| value.as_bytes().starts_with(b"application/json");
    let is_shown = matches!(*request.method(), Method::GET | Method::HEAD)
        && response.status() == StatusCode::OK
        && response.headers().get(header::CONTENT_TYPE).is_some_and(is_json);
    if !is_shown {
        return response;
    }
    let known = Tags::read(request.headers().get_all(header::IF_NONE_MATCH));
    let (request, response) = response.into_parts();
    let (mut head, body) = response.into_parts();
    let bytes = match body.try_into_bytes() {
        Ok(bytes) => bytes,
        // A stream is not held back to be hashed.
        Err(body) => return ServiceResponse::new(request, head.set_body(body)),
    };
    let tag = etag::of(&bytes);
    if let Ok(value) = header::HeaderValue::from_str(&tag) {
        head.headers_mut().insert(header::ETAG, value);
    }
    if known.is_some_and(|known| known.matches_weakly(&tag)) {
        *head.status_mut() = StatusCode::NOT_MODIFIED;
        head.headers_mut().remove(header::CONTENT_TYPE);
        return ServiceResponse::new(request, head.set_body(BoxBody::new(())));
    }
    ServiceResponse::new(request, head.set_body(BoxBody::new(bytes)))
}

/// What every answer to a known key says: how many more requests it may make.
pub(super) fn say_rate(response: &mut Answer) {
    let standing = response.request().extensions().get::<Standing>().copied();
    if let Some(standing) = standing {
        standing.write(response.headers_mut());
    }
}
