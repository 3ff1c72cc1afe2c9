//! What a second factor is, and what comes out of proving or enrolling one.

use crate::{
    clock::Time,
    error::{Error, Result},
    proof::Factor,
    secret::Secret,
};

/// An authenticator app or a passkey, as it is shown: nothing of it can be used.
#[derive(Debug, Clone)]
pub struct Device {
    pub id: String,
    pub kind: Factor,
    pub name: String,
    pub created_at: Time,
    pub last_used_at: Option<Time>,
    /// Passkeys: the host name that it was made for.
    pub rp_id: Option<String>,
}

/// The set of recovery codes of a user.
#[derive(Debug, Clone)]
pub struct RecoverySet {
    pub left: usize,
    pub created_at: Time,
    /// When its owner said that it is stored; `None`: not yet.
    pub stored_at: Option<Time>,
}

/// An app that is being enrolled: what its owner has to see.
pub struct TotpEnrolment {
    pub id: String,
    /// Base32 in groups of four, for whoever cannot scan.
    pub text: Secret<String>,
    /// The QR code as the `d` of an SVG path, and the width of the square.
    pub qr: Secret<String>,
    pub width: i32,
}

/// What became of an attempt to prove a factor.
#[derive(Debug)]
pub enum Outcome {
    Right(Factor),
    Wrong,
    /// Too many wrong ones; nothing was looked at.
    TooMany {
        retry_after_s: u64,
    },
}

/// How often a device may be called something: a name of 1 to 64 characters on one line; answers it trimmed.
pub(super) fn check_name(field: &str, name: &str) -> Result<String> {
    let name = name.trim();
    let is_fine = (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if is_fine { Ok(name.to_owned()) } else { Err(Error::field(field, "Give it a name of 1 to 64 characters.")) }
}
