//! `Idempotency-Key`: a POST is carried out once, however often it is sent (draft-ietf-httpapi-idempotency-key-header).
//!
//! Owns `idempotency_key`. A principal's key stands for one method, path and body for 24 hours. The answer is kept sealed
//! (it may hold a new API key's secret), the request as a keyed hash (it may hold a password).
//!
//! What happens when the process ends in the middle. The key is reserved before the handler begins; the transaction of the
//! change marks the key ([`super::Ongoing`]); the answer is stored last. So a repeat finds one of:
//! - reserved, nothing changed: 409 for a minute, then the request is carried out;
//! - changed, no answer (also one that was forgotten, because there were too many): it is never carried out again. 409, and
//!   the message says that it was done and to look;
//! - an answer: that answer.
//!
//! A client that goes away ends nothing: a request with a key is carried to its end in a task of its own. Answers of 5xx,
//! 401, 403 and 429 are not kept: nothing was done, and the repeat is the way to get it done.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::{
    HttpResponse,
    body::{BoxBody, MessageBody as _},
    http::{StatusCode, header},
};
use serde::{Deserialize, Serialize};

use super::queries;
use crate::{
    clock::{DAY, MINUTE, SECOND, Time},
    error::{Error, Result},
    kernel::Kernel,
    principal::Principal,
    secret,
};

pub(super) const HEADER: &str = "idempotency-key";
/// In an answer that was given before.
pub(super) const REPLAYED: &str = "idempotent-replayed";

const KEY_MAX: usize = 255;
const LIFETIME_US: i64 = DAY;
/// How long a request that was cut off is taken to be going on.
const CUT_OFF_US: i64 = MINUTE;
/// A longer answer is not kept; the repeat is then told that it was done.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Of one principal. Beyond it the oldest answers are forgotten before their time, but never that a request was carried out.
const HELD_BYTES_MAX: i64 = 32 * 1024 * 1024;
/// Keys of one principal; beyond it those go first that changed nothing, which may be asked again, and then new ones wait
/// until older ones end.
const HELD_MAX: i64 = 50_000;
/// After how long to ask again then.
const FULL_RETRY_S: u64 = 3600;

type Id = [u8; 32];

/// The requests with a key that this process is carrying out.
#[derive(Default)]
pub(super) struct Running(Mutex<HashSet<Id>>);

/// One of them; ends when dropped.
pub(super) struct Reserved {
    pub(super) id: Id,
    running: Arc<Running>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// What is to be done with a request that carries a key.
pub(super) enum Begun {
    /// Carry it out, then [`finish`].
    Carry(Reserved),
    /// It was answered before.
    Answered(HttpResponse<BoxBody>),
    /// It cannot be told yet, or never, what became of it: 409.
    Refused { message: &'static str, retry_after_s: Option<i64> },
}

const GOES_ON: &str = "A request with this Idempotency-Key is being carried out. Send it again in a moment.";
const DONE: &str = "The request with this Idempotency-Key was carried out, but its answer was lost. Look at what it changed; it is not done twice.";

/// The key of a request; 400 unless it is 1 to 255 visible ASCII characters. Quotes around it, as the draft writes them,
/// are not part of it.
pub(super) fn key(headers: &header::HeaderMap) -> Result<Option<String>> {
    let mut given = headers.get_all(HEADER);
    let Some(value) = given.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| given.next().is_none()).map(str::trim);
    let inner = |text: &str| text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).map(str::to_owned);
    text.map(|text| inner(text).unwrap_or_else(|| text.to_owned()))
        .filter(|text| (1..=KEY_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()))
        .map(Some)
        .ok_or_else(|| {
            Error::BadRequest("Idempotency-Key must be one word of 1 to 255 visible ASCII characters.".into())
        })
}

/// What an answer is kept as.
#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    kind: String,
    location: Option<String>,
    body: String,
}

fn place(id: &Id) -> String {
    format!("idempotency_key:answer:{}", secret::encode_hex(id))
}

enum Found {
    Fresh,
    OtherRequest,
    Waits(i64),
    Lost,
    Answer(Vec<u8>),
}

/// Reserves the key, or says what became of the request that used it before. `asked` is method, path with query, and
/// body. 422 when the key was used for another request.
pub(super) async fn begin(
    kernel: &Kernel,
    running: &Arc<Running>,
    principal: &Principal,
    key: &str,
    asked: [&[u8]; 3],
) -> Result<Begun> {
    let urn = principal.urn();
    let id = secret::sha256_of(&[urn.as_bytes(), b"\0", key.as_bytes()]);
    let [method, path, body] = asked;
    let request = kernel.key.mac("idempotency.v1", &[method, b"\0", path, b"\0", body].concat());
    if !running.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
        return Ok(Begun::Refused { message: GOES_ON, retry_after_s: Some(1) });
    }
    let reserved = Reserved { id, running: running.clone() };
    let now = kernel.clock.now();
    let found = kernel
        .db
        .write(move |c| {
            let known = queries::find(c, &id)?.filter(|known| now.since(known.created_at) < LIFETIME_US);
            let Some(known) = known else {
                queries::delete(c, &id)?;
                let (number, bytes) = queries::held(c, &urn)?;
                if number >= HELD_MAX && queries::delete_unchanged(c, &urn, number / 4)? == 0 {
                    return Err(Error::TooManyRequests { retry_after_s: FULL_RETRY_S });
                }
                if bytes >= HELD_BYTES_MAX {
                    queries::forget_answers(c, &urn, number / 4 + 1)?;
                }
                queries::insert(c, &id, &urn, &request, now)?;
                return Ok(Found::Fresh);
            };
            let age_us = now.since(known.began_at);
            Ok(match known.answer {
                _ if !secret::equal(&known.request, &request) => Found::OtherRequest,
                Some(answer) => Found::Answer(answer),
                // A clock that was set back must not make anybody wait longer.
                None if (0..CUT_OFF_US).contains(&age_us) => Found::Waits(CUT_OFF_US - age_us),
                None if known.has_changed => Found::Lost,
                None => {
                    queries::begin_again(c, &id, now)?;
                    Found::Fresh
                }
            })
        })
        .await?;
    match found {
        Found::Fresh => Ok(Begun::Carry(reserved)),
        Found::OtherRequest => Err(Error::field(
            "Idempotency-Key",
            "This key was used for another request (method, path or body) within the last 24 hours. Use a new one.",
        )),
        Found::Waits(us) => Ok(Begun::Refused { message: GOES_ON, retry_after_s: Some(us / SECOND + 1) }),
        Found::Lost => Ok(Begun::Refused { message: DONE, retry_after_s: None }),
        Found::Answer(sealed) => answered(kernel, &id, &sealed).map(Begun::Answered),
    }
}

fn answered(kernel: &Kernel, id: &Id, sealed: &[u8]) -> Result<HttpResponse<BoxBody>> {
    let plain = kernel.key.open(&place(id), sealed).map_err(|e| Error::caused("a kept answer cannot be read", e))?;
    let kept: Kept = serde_json::from_slice(plain.expose())?;
    let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = HttpResponse::build(status);
    answer.insert_header((REPLAYED, "true"));
    if let Some(location) = kept.location {
        answer.insert_header((header::LOCATION, location));
    }
    if !kept.kind.is_empty() {
        answer.content_type(kept.kind);
    }
    Ok(answer.body(kept.body))
}

/// Keeps the answer for repeats, or forgets the key when there is nothing to keep. The answer itself goes out either way.
pub(super) async fn finish(
    kernel: &Kernel,
    reserved: Reserved,
    response: HttpResponse<BoxBody>,
) -> HttpResponse<BoxBody> {
    let status = response.status();
    let (head, body) = response.into_parts();
    let bytes = match body.try_into_bytes() {
        Ok(bytes) => bytes,
        Err(body) => return forgotten(kernel, reserved, head.set_body(body)).await,
    };
    let is_kept = !status.is_server_error() && !matches!(status.as_u16(), 401 | 403 | 429);
    let text =
        |name: header::HeaderName| head.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let kept = String::from_utf8(bytes.to_vec()).ok().filter(|body| is_kept && body.len() <= ANSWER_BYTES_MAX);
    let kept = kept.map(|body| Kept {
        status: status.as_u16(),
        kind: text(header::CONTENT_TYPE).unwrap_or_default(),
        location: text(header::LOCATION),
        body,
    });
    let response = head.set_body(bytes).map_into_boxed_body();
    let Some(plain) = kept.and_then(|kept| serde_json::to_vec(&kept).ok()) else {
        return forgotten(kernel, reserved, response).await;
    };
    let (id, sealed) = (reserved.id, kernel.key.seal(&place(&reserved.id), &plain));
    if let Err(error) = kernel.db.write(move |c| queries::set_answer(c, &id, &sealed)).await {
        tracing::error!(error = %error.chain(), "an answer could not be kept for the repeats of its request");
    }
    response
}

/// The request may be carried out again, unless it changed something.
async fn forgotten(kernel: &Kernel, reserved: Reserved, response: HttpResponse<BoxBody>) -> HttpResponse<BoxBody> {
    let id = reserved.id;
    let forgotten = kernel.db.write(move |c| match queries::find(c, &id)? {
        Some(known) if known.has_changed => Ok(()),
        _ => queries::delete(c, &id),
    });
    if let Err(error) = forgotten.await {
        tracing::error!(error = %error.chain(), "an Idempotency-Key could not be given free");
    }
    response
}

/// Forgets what was asked more than 24 hours ago.
pub fn purge_answers(connection: &rusqlite::Connection, now: Time) -> Result<usize> {
    queries::delete_before(connection, now.plus(-LIFETIME_US))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_key_is_one_visible_word() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(
                    HeaderName::from_static(HEADER),
                    HeaderValue::from_bytes(value.as_bytes()).expect("a header"),
                );
            }
            key(&headers).map_err(|error| error.status())
        };
        let long = "k".repeat(255);
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["a-1"]), Ok(Some("a-1".into())));
        assert_eq!(read(&["\"a-1\""]), Ok(Some("a-1".into())));
        assert_eq!(read(&[&long]), Ok(Some(long.clone())));
        for bad in [&[""][..], &["\"\""], &["a b"], &["ü"], &["a", "b"], &[&format!("{long}k")]] {
            assert_eq!(read(bad), Err(400), "{bad:?}");
        }
    }
}
