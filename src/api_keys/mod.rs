//! API keys: how programs come in.
//!
//! Owns `api_key` and `api_key_setting`. Invariants: a secret has 256 random bits, is shown once and stored as SHA-256; a key
//! is found by its id and its secret compared in constant time; it acts with one role in one account, and nobody gives a
//! key more rights than they hold themselves (HOSTILE R01, R08); lock-out, expiry, allowed addresses, the end of an old
//! secret, and that the user who answers for it was disabled or has left, hold with the next request (R07).
//!
//! A key may read itself. What `identity` above read is about (users, roles, keys, identity providers) it does not have,
//! whatever its role says, unless it was given leave and the account's setting lets its keys use it: that is taken from its
//! rights where its principal is made, so that no route can forget to. A key can never touch users' profiles or sessions:
//! those routes ask for a user.

mod actions;
mod api;
mod expiry;
mod model;
mod owned;
mod pages;
mod queries;
mod rotation;
mod standing;
#[cfg(test)]
mod tests;
mod verify;

pub use actions::{CreatedKey, create_blocking};
pub use expiry::{Notable, job, notable, schedule_daily, warn};
pub use model::{Administers, ApiKey, Expiry, KeyInput, PreviousSecret, State};
pub use owned::OWNED;
pub use queries::{count_by_answerer, count_by_role};
pub use standing::{Answerer, Standing, list_all};
pub use verify::Keys;

use crate::{
    principal::{Level, Permission, Service},
    web::Routes,
};

/// The pages and the API of keys.
pub fn routes(routes: &mut Routes) {
    let read = Permission::Needs(Service::Identity, Level::Read);
    let full = Permission::Needs(Service::Identity, Level::Full);
    routes.get("/api-keys", read, pages::list);
    routes.get("/api-keys/new", full, pages::new);
    routes.post("/api-keys", full, pages::create).asks_again();
    routes.get("/api-keys/{id}", full, pages::edit);
    routes.post("/api-keys/{id}", full, pages::update).asks_again();
    routes.post("/api-keys/{id}/lock-out", full, pages::lock_out).asks_again();
    routes.post("/api-keys/{id}/unlock", full, pages::unlock).asks_again();
    routes.post("/api-keys/{id}/take-over", full, pages::take_over).asks_again();
    routes.get("/api-keys/{id}/rotate", full, pages::confirm_rotation);
    routes.post("/api-keys/{id}/rotate", full, pages::rotate).asks_again();
    routes.post("/api-keys/{id}/end-old-secret", full, pages::end_previous).asks_again();
    routes.post("/api-keys/{id}/remove", full, pages::remove).asks_again();
    routes.post("/api-keys/setting", full, pages::set_setting).asks_again();
    routes.api::<api::__path_list, _, _>(read, api::list);
    routes.api::<api::__path_create, _, _>(full, api::create);
    routes.api::<api::__path_setting, _, _>(read, api::setting);
    routes.api::<api::__path_own, _, _>(Permission::SignedIn, api::own);
    // Of another key than itself only with the right to read them.
    routes.api::<api::__path_get, _, _>(Permission::SignedIn, api::get);
    routes.api::<api::__path_update, _, _>(full, api::update);
    routes.api::<api::__path_rotate, _, _>(full, api::rotate);
    routes.api::<api::__path_end_previous, _, _>(full, api::end_previous);
    routes.api::<api::__path_remove, _, _>(full, api::remove);
}
