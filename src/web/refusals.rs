//! Refusals on the record: that somebody known asked for what is not theirs, or is not there to be given.
//!
//! The one mechanism for all routes. The door calls it with every answer; a refusal that the room has recorded itself, with
//! what it knows of it ([`crate::audit::attempt`]), is not recorded twice. What is recorded: 403 and 404 (another account's
//! id is answered like one that does not exist), 400 (a forged cursor, an unknown parameter or form field), and on a
//! changing request of the API also 422: a field that is not for the caller to set is refused like a misspelt one, and a
//! program has no reason to misspell. A person who has to correct a form (422 of a page) is not put on the record, nor is a
//! stranger, nor what only cannot be done now (409).
//!
//! A record has the method, the path without its query, the status and the reason. It never has a value that was sent: the
//! reason names fields, and is cut where a message would quote. How many there are in a minute is bounded per principal and
//! status by the gate, and the next one says how many were left out: a flood of one kind does not hide another. A page that
//! asks by itself how something goes on, and is left open, makes fewer of them.

use actix_web::{
    HttpMessage as _,
    body::BoxBody,
    dev::ServiceResponse,
    http::{Method, StatusCode},
    web::Data,
};

use super::{
    context::Web,
    door::{self, DoorKind, Passage},
};
use crate::{
    error::{Error, FieldError},
    principal::{Permission, Principal},
};

/// A refused request, as it goes on the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub method: String,
    /// Without the query; cut when it is longer than any of ours.
    pub path: String,
    pub status: u16,
    /// Quotes nothing that was sent, other than names of fields.
    pub why: String,
    /// Asked by an open page and not by anybody's doing.
    pub is_polling: bool,
}

/// Who asks, as soon as they are known.
pub(super) struct Asking(pub Principal);

/// Why an answer is an error, kept when its body is written.
pub(super) struct Why(String);

impl Why {
    pub(super) fn of(error: &Error) -> Self {
        Self(match error {
            Error::Invalid(fields) => format!("wrong fields: {}", names(fields)),
            Error::BadRequest(message) => message.split([':', '`']).next().unwrap_or_default().trim().to_owned(),
            other => other.to_string(),
        })
    }
}

/// The room has put the refusal on the record.
pub(super) struct Recorded;

const PATH_CHARS_MAX: usize = 300;
const NAMES_MAX: usize = 5;
const NAME_CHARS_MAX: usize = 60;

fn names(fields: &[FieldError]) -> String {
    let name = |field: &FieldError| field.field.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    fields.iter().take(NAMES_MAX).map(name).collect::<Vec<String>>().join(", ")
}

fn is_recorded(kind: DoorKind, method: &Method, status: StatusCode) -> bool {
    let is_change = !matches!(*method, Method::GET | Method::HEAD);
    match status {
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => true,
        StatusCode::UNPROCESSABLE_ENTITY => is_change && kind == DoorKind::Api,
        _ => false,
    }
}

/// Records the answer, if it is a refusal of somebody known.
pub(super) async fn record(passage: &Passage, response: &ServiceResponse<BoxBody>) {
    let request = response.request();
    if passage.permission == Permission::Public || !is_recorded(passage.kind, request.method(), response.status()) {
        return;
    }
    let error = response.response().error().and_then(|error| error.as_error::<Error>());
    let (principal, why) = {
        let extensions = request.extensions();
        let Some(Asking(principal)) = extensions.get() else { return };
        if extensions.contains::<Recorded>() {
            return;
        }
        let why = error.map(Why::of).map(|why| why.0).or_else(|| extensions.get::<Why>().map(|why| why.0.clone()));
        (principal.clone(), why.unwrap_or_default())
    };
    let Some(web) = request.app_data::<Data<Web>>().cloned() else { return };
    let refusal = Refusal {
        method: request.method().to_string(),
        path: request.path().chars().take(PATH_CHARS_MAX).collect(),
        status: response.status().as_u16(),
        why,
        is_polling: door::is_polling(request.path()),
    };
    web.gate.denied(principal, refusal).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_quotes_nothing_that_was_sent() {
        let secret = "bwk_secret";
        let long = FieldError::new("x".repeat(500), format!("unknown field `{secret}`"));
        for (error, expected) in [
            (Error::BadRequest(format!("There is no query parameter `{secret}` here.")), "There is no query parameter"),
            (
                Error::BadRequest(format!("The form could not be read: unknown variant `{secret}`.")),
                "The form could not be read",
            ),
            (Error::field("roleId", format!("There is no role {secret}.")), "wrong fields: roleId"),
            (Error::NotFound("This role"), "This role was not found."),
        ] {
            assert_eq!(Why::of(&error).0, expected);
        }
        assert!(Why::of(&Error::Invalid(vec![long; 50])).0.len() < 400);
    }

    #[test]
    fn a_person_who_mistypes_is_not_recorded_and_a_program_is() {
        let is = |kind, method, status| is_recorded(kind, &method, StatusCode::from_u16(status).expect("a status"));
        for (kind, method, status, expected) in [
            (DoorKind::Page, Method::POST, 422, false),
            (DoorKind::Api, Method::POST, 422, true),
            (DoorKind::Api, Method::GET, 422, false),
            (DoorKind::Api, Method::DELETE, 409, false),
            (DoorKind::Page, Method::GET, 404, true),
            (DoorKind::Api, Method::GET, 400, true),
            (DoorKind::Api, Method::POST, 412, false),
            (DoorKind::Api, Method::GET, 429, false),
            (DoorKind::Page, Method::POST, 303, false),
        ] {
            assert_eq!(is(kind, method, status), expected, "{status}");
        }
    }
}
