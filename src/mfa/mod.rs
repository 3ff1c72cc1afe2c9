//! Second factors: authenticator apps (RFC 6238), passkeys (WebAuthn) and the recovery codes for when all of them are lost.
//!
//! Owns `totp_device`, `passkey`, `passkey_challenge`, `recovery_code`, `recovery_set` and `factor_attempt`. Invariants: a code
//! works once; wrong ones are counted in the database before they are looked at, so that neither parallel requests nor a
//! hundred sign-ins on their way buy more guesses (HOSTILE A06–A09); what a user has enrolled stands in `user` too, in step;
//! the secret of an app is sealed with the master key and never taken from a request. It must never decide who is let in:
//! [`crate::proof::step`] does, and `sign_in` asks it.

mod attempts;
mod codes;
mod enrol;
mod model;
mod pages;
mod prove;
mod queries;
mod totp;

pub use enrol::{
    Enrolled, are_codes, begin_totp, confirm_totp, devices, new_codes, note_stored, recovery_set, remove, rename, reset,
};
pub use model::{Device, Outcome, RecoverySet, TotpEnrolment};
pub use pages::codes_page;
pub use prove::{From, prove_code, recover};
use rusqlite::Connection;

use crate::{
    clock::{DAY, Time},
    error::Result,
    principal::Permission,
    web::Routes,
};

/// A user's own factors, and what everybody may read about them.
pub fn routes(routes: &mut Routes) {
    let own = Permission::OwnUser;
    routes.get("/profile/mfa", own, pages::show);
    routes.get("/profile/mfa/app", own, pages::new_app).asks_again();
    routes.post("/profile/mfa/app", own, pages::add_app).asks_again();
    routes.get("/profile/mfa/devices/{id}", own, pages::device);
    routes.post("/profile/mfa/devices/{id}", own, pages::rename);
    routes.post("/profile/mfa/devices/{id}/remove", own, pages::remove).asks_each_time();
    routes.post("/profile/mfa/codes", own, pages::new_codes).asks_again();
    routes.post("/profile/mfa/codes/stored", own, pages::stored);
    routes.post("/profile/mfa/codes/file", own, pages::file);
    routes.get("/sign-in/apps", Permission::Public, pages::apps);
}

/// Forgets the wrong codes of a user, or of everybody; answers how many there were.
pub fn unlock(c: &Connection, user_id: Option<&str>) -> Result<usize> {
    queries::delete_attempts(c, user_id)
}

/// Deletes what means nothing any more.
pub fn purge(c: &Connection, now: Time) -> Result<usize> {
    queries::purge(c, now.plus(-DAY), now)
}
