//! What goes into a sign-in and what comes out of it.

use super::{
    counter::{ADDRESS, BROWSER, EVERYWHERE, Limit, USER},
    path::Arrival,
};
use crate::{
    secret::{self, Secret},
    web::Address,
};

/// What the form sends.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignInInput {
    pub(super) email: String,
    pub(super) password: Secret<String>,
    /// Where to go afterwards; only paths of this console are believed.
    #[serde(default)]
    pub(super) next: String,
}

/// What the set-up form sends.
#[derive(Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetupInput {
    pub(super) token: String,
    pub(super) account: String,
    pub(super) name: String,
    pub(super) email: String,
    pub(super) password: Secret<String>,
}

/// What the form of an invitation sends, for somebody who has no user yet. The address and the role stand in the
/// invitation and nowhere else (HOSTILE A22).
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewcomerInput {
    pub(super) token: Secret<String>,
    pub(super) name: String,
    pub(super) password: Secret<String>,
    #[serde(default)]
    pub(super) locale: String,
}

/// What somebody sends who is signed in and joins.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JoinInput {
    pub(super) token: Secret<String>,
}

/// The first account and its full-access user.
#[derive(Debug, Clone)]
pub struct FirstAccount {
    pub alias: String,
    pub email: String,
    pub name: String,
    pub password: Secret<String>,
}

/// What the browser is given at sign-in.
pub(super) struct SignedIn {
    pub(super) session_token: Secret<String>,
    /// For the cookie that makes this browser known.
    pub(super) browser_token: Option<Secret<String>>,
    /// An invitation was accepted on the way.
    pub(super) has_joined: bool,
}

/// How an attempt to sign in ended.
pub(super) enum Attempt {
    /// They said who they are.
    Arrived(Arrival),
    /// For any reason that a stranger is not told.
    Refused,
    /// The password was right and the account is suspended; they may ask for it back.
    Suspended(super::restoring::Proof),
    Throttled {
        retry_after_s: u64,
    },
}

/// Somebody or something whose attempts are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) limit: Limit,
}

impl Subject {
    /// A user, whether they exist or not. Hashed: what people type into the wrong field must not be stored.
    pub(super) fn user(email_folded: &str) -> Self {
        let name = format!("user:{}", secret::encode_hex(&secret::sha256(email_folded.as_bytes())));
        Self { name, limit: USER }
    }

    pub(super) fn browser(token_hash: &[u8]) -> Self {
        Self { name: format!("browser:{}", secret::encode_hex(token_hash)), limit: BROWSER }
    }

    pub(super) fn address(address: &Address) -> Self {
        Self { name: format!("address:{}", address.network()), limit: ADDRESS }
    }

    pub(super) fn everywhere() -> Self {
        Self { name: "everywhere".into(), limit: EVERYWHERE }
    }
}
