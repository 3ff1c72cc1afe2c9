//! What a form says when its input was refused, so that nothing of what was typed is lost.

use actix_web::http::StatusCode;

use crate::error::{Error, FieldError, Result};

/// Why a form comes back; empty and 200 for one that is shown the first time.
pub struct Refused {
    pub status: StatusCode,
    /// What stands above the fields.
    pub problem: String,
    /// What stands at them.
    pub errors: Vec<FieldError>,
}

impl Refused {
    /// Of a form that was not sent yet.
    pub fn none() -> Self {
        Self { status: StatusCode::OK, problem: String::new(), errors: Vec::new() }
    }

    /// Of an error that the reader can do something about with the form in front of them: correct it, wait, or ask somebody.
    /// Any other error is answered as it is.
    pub fn of(error: Error) -> Result<Self> {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match error {
            Error::Invalid(errors) => Ok(Self { status, problem: String::new(), errors }),
            Error::Conflict(_) | Error::Forbidden(_) | Error::TooManyRequests { .. } | Error::Unavailable { .. } => {
                Ok(Self { status, problem: error.to_string(), errors: Vec::new() })
            }
            other => Err(other),
        }
    }

    /// What is wrong first with any of these fields, or with anything below one of them.
    pub fn error(&self, fields: &[&str]) -> &str {
        let is_it = |error: &&FieldError| {
            let rests = fields.iter().filter_map(|field| error.field.strip_prefix(field));
            rests.into_iter().any(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.errors.iter().find(is_it).map_or("", |error| error.message.as_str())
    }
}
