//! Invitations: how people become users of an account.
//!
//! Owns `invitation` and `invitation_sending`. Invariants: an invitation is for one e-mail address and one role, both
//! fixed when it is made (HOSTILE A22); its link holds a token of 256 random bits that works once, until its time is over
//! or a newer link takes its place, and is stored as SHA-256; nobody invites into a role that holds more than theirs
//! (R01), nor gets a link to one by sending it again; an address has one open invitation per account; links are made from
//! the configured address only (A20). A link that does not work gets the same answer whatever the reason, and without one
//! nobody learns that an invitation exists (A17); the audit log says precisely, and never holds a token.
//!
//! Accepting is signing in: `sign_in`, above, calls [`accept_new`] and [`accept_existing`] inside its transaction. Which
//! role the inviter may give is asked when the invitation is made and sent, not when it is accepted: they may have left.

mod accept;
mod actions;
mod api;
mod landing;
mod model;
mod owned;
mod pages;
mod queries;
#[cfg(test)]
mod tests;

pub use accept::{Accepted, Newcomer, accept_existing, accept_new, check_newcomer, prospect};
pub use actions::{expire, job, schedule_expiry};
pub use landing::{Entered, refuse};
pub use model::{Invitation, InvitationState, token_in};
pub use owned::OWNED;
pub use queries::{count_open_by_inviter, count_open_by_role};

use rusqlite::Connection;

use crate::{
    error::Result,
    principal::{AccountId, Level, Permission, Service},
    web::Routes,
};

/// Deletes what does not hang on the account's own row.
pub fn purge(connection: &Connection, account: AccountId) -> Result<()> {
    queries::forget_sendings(connection, account)
}

/// The pages and the API of those who invite, and the page that a link opens.
pub fn routes(routes: &mut Routes) {
    let read = Permission::Needs(Service::Identity, Level::Read);
    let full = Permission::Needs(Service::Identity, Level::Full);
    routes.get("/invitations", read, pages::list);
    routes.get("/invitations/new", full, pages::new);
    routes.post("/invitations", full, pages::create).asks_again();
    routes.get("/invitations/{id}", read, pages::show);
    routes.post("/invitations/{id}/resend", full, pages::resend).asks_again();
    routes.post("/invitations/{id}/revoke", full, pages::revoke);
    routes.get("/invitation", Permission::Public, landing::show);
    routes.post("/invitation/reject", Permission::Public, landing::reject);
    routes.api::<api::__path_list, _, _>(read, api::list);
    routes.api::<api::__path_create, _, _>(full, api::create);
    routes.api::<api::__path_get, _, _>(read, api::get);
    routes.api::<api::__path_resend, _, _>(full, api::resend);
    routes.api::<api::__path_revoke, _, _>(full, api::revoke);
}
