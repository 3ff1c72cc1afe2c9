//! Second factors: authenticator apps (RFC 6238), passkeys (WebAuthn) and the recovery codes for when all of them are lost.
//!
//! Owns `totp_device`, `passkey`, `passkey_challenge`, `recovery_code`, `recovery_set` and `factor_attempt`. Invariants: a code
//! works once; wrong ones are counted in the database before they are looked at, so that neither parallel requests nor a
//! hundred sign-ins on their way buy more guesses (HOSTILE A06–A09); what a user has enrolled stands in `user` too, in step;
//! the secret of an app is sealed with the master key and never taken from a request. It must never decide who is let in:
//! [`crate::proof::step`] does, and `sign_in` asks it.

mod attempts;
#[cfg(test)]
#[path = "../../tests/fixtures/authenticator.rs"]
mod authenticator;
mod codes;
mod enrol;
mod model;
mod others;
mod pages;
mod passkey_queries;
#[cfg(test)]
mod passkey_tests;
mod passkeys;
mod prove;
mod queries;
mod relying_party;
mod totp;

pub use enrol::{
    Enrolled, FirstCode, are_codes, begin_totp, confirm_totp, devices, new_codes, note_stored, recovery_set, remove,
    rename, reset,
};
pub use model::{Device, Outcome, RecoverySet, TotpEnrolment};
pub use pages::{challenge_json, codes_page};
pub use passkeys::{
    Answer, Challenge, Discovery, Registration, begin_discovery, begin_factor, begin_registration, finish_discovery,
    finish_factor, finish_registration, relying_party,
};
pub use prove::{From, prove_code, recover};
pub use relying_party::{Refusal, RelyingParty};
use rusqlite::Connection;

use crate::{
    clock::{DAY, Time},
    error::Result,
    principal::{Level, Permission, Service},
    web::Routes,
};

/// A user's own factors, and what everybody may read about them.
pub fn routes(routes: &mut Routes) {
    let own = Permission::OwnUser;
    routes.get("/profile/mfa", own, pages::show);
    routes.get("/profile/mfa/app", own, pages::new_app).asks_again();
    routes.post("/profile/mfa/app", own, pages::add_app).asks_again();
    routes.get("/profile/mfa/passkey", own, pages::new_passkey).asks_again();
    routes.post("/profile/mfa/passkey", own, pages::add_passkey).asks_again();
    routes.post("/profile/mfa/passkey/options", own, pages::passkey_options);
    routes.get("/profile/mfa/devices/{id}", own, pages::device);
    routes.post("/profile/mfa/devices/{id}", own, pages::rename);
    routes.post("/profile/mfa/devices/{id}/remove", own, pages::remove).asks_each_time();
    routes.post("/profile/mfa/codes", own, pages::new_codes).asks_again();
    routes.post("/profile/mfa/codes/stored", own, pages::stored);
    routes.post("/profile/mfa/codes/file", own, pages::file);
    let (read, full) =
        (Permission::Needs(Service::Settings, Level::Read), Permission::Needs(Service::Settings, Level::Full));
    routes.get("/settings/mfa", read, others::show);
    routes.post("/settings/mfa", full, others::save).asks_again();
    routes
        .post("/users/{id}/mfa/reset", Permission::Needs(Service::Identity, Level::Full), others::reset_member)
        .asks_again();
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
