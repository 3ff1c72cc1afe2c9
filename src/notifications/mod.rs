//! Notifications: what the appliance tells people outside of the console. Today that is mail.
//!
//! Owns `mail_server`, `console_address` and `mail_outbox`, the words and the layout of every mail, and the one dialogue
//! with a mail server (SMTP, RFC 5321), by which the queue sends and the test in the console looks. It knows addresses,
//! never users: who gets a mail is the business of the room that writes it.
//!
//! Invariants:
//! - A mail is queued in the transaction of what it tells ([`enqueue`]), sent at least once, and has an end: sent, refused
//!   for good, or given up after a day or when it stops being true. A secret in it (a link) does not outlive that end here.
//! - Every link begins with the address in the configuration or in the settings ([`link`]), never with what a request
//!   says (HOSTILE A20): a mail with a link can only be made from a [`Link`].
//! - A mail in the queue is sealed with the master key, its recipient too: a copy of the database tells nobody a link.
//! - STARTTLS is demanded, never tried (HOSTILE A24): without it nothing is sent, the password least of all. The stored
//!   password goes only to the server it was given for, in the way it was given for.
//! - Names that people chose never reach a header, and stand in the bodies without control characters, escaped.
//! - Only the owner of the appliance reads and changes the settings: they belong to no account.

mod actions;
mod dialogue;
mod mails;
mod model;
mod pages;
mod queries;
mod sealing;
mod sending;
mod smtp;
#[cfg(test)]
mod tests;
mod words;

pub use actions::{enqueue, notice_link, notify};
pub use mails::{
    AccountSuspended, AddressChange, Invitation, KeyExpires, MfaChange, MfaChanged, NewDevice, OwnershipConfirmed,
    PasswordChanged, PasswordReset, RestoreAsked, TestMail, VerifyAddress,
};
pub use model::{HandedLink, Link, LinkView, Mail};
pub use sending::work;

use rusqlite::Connection;

use crate::{
    clock::{DAY, Time},
    config::Config,
    error::{Error, Result},
    principal::Permission,
    web::Routes,
};

/// Ended mails are kept this long, for whoever asks whether one was sent.
const KEPT_US: i64 = 30 * DAY;

/// What stands in the way of every link, and what to do.
pub const NO_BASE_URL: &str =
    "The address of the console is not set, so no link can be made. The owner of the appliance sets it under Settings.";

/// Whether there is a server that mails are handed to. Where there is none, offer a link to copy instead.
pub fn is_configured(connection: &Connection) -> Result<bool> {
    Ok(queries::find_server(connection)?.is_some())
}

/// How people reach the console, without a slash at the end: as the configuration says, else as the settings say, else
/// unknown. Never taken from a request.
pub fn base_url(connection: &Connection, config: &Config) -> Result<Option<String>> {
    match &config.base_url {
        Some(url) => Ok(Some(url.as_str().trim_end_matches('/').to_owned())),
        None => queries::find_address(connection),
    }
}

/// A link to a page of the console (`/…`, encoded), for a mail or to be copied; a conflict that says what to do while the
/// address of the console is not set.
pub fn link(connection: &Connection, config: &Config, path: &str) -> Result<Link> {
    let base = base_url(connection, config)?.ok_or_else(|| Error::Conflict(NO_BASE_URL.into()))?;
    Link::new(&base, path)
}

/// Deletes what is past its time.
pub fn purge(connection: &Connection, now: Time) -> Result<usize> {
    queries::purge(connection, now.plus(-KEPT_US))
}

/// The settings' pages. No API: only the owner gets here, and a key is no user.
pub fn routes(routes: &mut Routes) {
    let owner = Permission::Owner;
    routes.get("/settings/mail", owner, pages::show);
    routes.post("/settings/mail", owner, pages::save).asks_again();
    routes.post("/settings/mail/remove", owner, pages::remove).asks_again();
    routes.post("/settings/mail/address", owner, pages::save_address).asks_again();
    routes.post("/settings/mail/test", owner, pages::test);
    routes.post("/settings/mail/outbox/{id}/retry", owner, pages::retry);
    routes.post("/settings/mail/outbox/{id}/discard", owner, pages::discard);
}
