//! The one error that requests end with, and how each kind is answered.
//!
//! Owns the meaning of 4xx and 5xx. The message says what failed for which thing, in words for the person who
//! reads it; the cause travels as `source` and is logged once, at the boundary (`web::errors`), with the request id.
//! Secrets, passwords and assertions never enter an error.

use std::error::Error as StdError;

/// One field that has to be corrected.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// The field's name as the caller sent it, for example `settings.servers`.
    pub field: String,
    /// What is wrong and what to do, as a sentence.
    pub message: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Why a request could not be answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 401: not signed in, or the key is not valid. Never says why.
    #[error("Sign in to continue.")]
    Unauthenticated,
    /// 403: signed in, but the account asks for more proof than was given.
    #[error("This account asks for a second factor.")]
    MoreProof,
    /// 403: what they want is dangerous, and it is too long ago that they proved who they are. The door asks them.
    #[error("Confirm that it is you.")]
    ProofTooOld,
    /// 403: may know that the thing exists, but may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// 404: does not exist, or belongs to another account.
    #[error("{0} was not found.")]
    NotFound(&'static str),
    /// 400: the request itself is malformed (JSON, cursor, limit, version).
    #[error("{0}")]
    BadRequest(String),
    /// 409: the state of the thing does not allow it now.
    #[error("{0}")]
    Conflict(String),
    /// 412: the thing is not, or no longer, as `If-Match` says.
    #[error("{0}")]
    PreconditionFailed(String),
    /// 413: more bytes than this route takes.
    #[error("The request is too large.")]
    TooLarge,
    /// 422: correct the fields.
    #[error("Please correct the marked fields.")]
    Invalid(Vec<FieldError>),
    /// 429: too many attempts; the number of seconds to wait.
    #[error("Too many attempts. Wait {retry_after_s} seconds and try again.")]
    TooManyRequests { retry_after_s: u64 },
    /// 503: cannot be done at the moment, nothing was changed.
    #[error("{message}")]
    Unavailable { message: String, retry_after_s: u64 },
    /// 500: our fault. The text is for the log; the page shows the request id only.
    #[error("{context}")]
    Internal {
        context: String,
        #[source]
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
}

/// What every fallible function of the request road answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A single field to correct.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        FieldError::new(field, message).into()
    }

    /// Our fault, without an underlying cause.
    pub fn internal(context: impl Into<String>) -> Self {
        Self::Internal { context: context.into(), source: None }
    }

    /// Our fault, with its cause.
    pub fn caused(context: impl Into<String>, source: impl StdError + Send + Sync + 'static) -> Self {
        Self::Internal { context: context.into(), source: Some(Box::new(source)) }
    }

    /// The HTTP status of this error.
    pub fn status(&self) -> u16 {
        match self {
            Self::Unauthenticated => 401,
            Self::MoreProof | Self::ProofTooOld | Self::Forbidden(_) => 403,
            Self::NotFound(_) => 404,
            Self::BadRequest(_) => 400,
            Self::Conflict(_) => 409,
            Self::PreconditionFailed(_) => 412,
            Self::TooLarge => 413,
            Self::Invalid(_) => 422,
            Self::TooManyRequests { .. } => 429,
            Self::Unavailable { .. } => 503,
            Self::Internal { .. } => 500,
        }
    }

    /// The whole chain of causes on one line, for the log.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl From<FieldError> for Error {
    fn from(error: FieldError) -> Self {
        Self::Invalid(vec![error])
    }
}

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        if let rusqlite::Error::SqliteFailure(code, _) = &source {
            use rusqlite::ErrorCode::{DiskFull, SystemIoFailure};
            if matches!(code.code, DiskFull | SystemIoFailure) {
                tracing::error!(error = %source, "the database cannot be written");
                return Self::Unavailable {
                    message: "The database cannot be written (disk full or failing). Nothing was changed.".into(),
                    retry_after_s: 30,
                };
            }
        }
        Self::caused("the database refused a statement", source)
    }
}

impl From<serde_json::Error> for Error {
    fn from(source: serde_json::Error) -> Self {
        Self::caused("stored JSON does not have the expected shape", source)
    }
}
