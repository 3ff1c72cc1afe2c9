//! API keys: how programs come in.
//!
//! Owns `api_key`. Invariants: the secret has 256 random bits, is shown once and stored as SHA-256; a key is found by
//! its id and its secret compared in constant time; it acts with one role in one account, and nobody gives a key more
//! rights than they hold themselves (HOSTILE R01, R08); lock-out, expiry and allowed addresses hold with the next
//! request (R07). A key can never touch users' profiles or sessions: those routes ask for a user.

mod actions;
mod api;
mod model;
mod pages;
mod queries;
#[cfg(test)]
mod tests;
mod verify;

pub use actions::{CreatedKey, create_blocking};
pub use model::{ApiKey, Expiry, KeyInput};
pub use queries::{count_by_role, list_all};
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
    routes.post("/api-keys", full, pages::create);
    routes.get("/api-keys/{id}", full, pages::edit);
    routes.post("/api-keys/{id}", full, pages::update);
    routes.post("/api-keys/{id}/lock-out", full, pages::lock_out);
    routes.post("/api-keys/{id}/unlock", full, pages::unlock);
    routes.post("/api-keys/{id}/remove", full, pages::remove);
    routes.api::<api::__path_list, _, _>(read, api::list);
    routes.api::<api::__path_create, _, _>(full, api::create);
    routes.api::<api::__path_get, _, _>(read, api::get);
    routes.api::<api::__path_update, _, _>(full, api::update);
    routes.api::<api::__path_remove, _, _>(full, api::remove);
}
