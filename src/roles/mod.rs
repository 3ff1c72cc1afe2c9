//! Roles: what whoever signs in may do, as a level per service, for the whole account or for a part of it.
//!
//! Owns `role` and the predefined roles; a role is referred to by its id, a slug that never changes. Invariants: a role
//! that is not known gives no rights at all; a predefined one cannot be changed; nobody makes or changes a role that holds
//! more than they do themselves, before or after (HOSTILE R01); a role for a part of the account gives no right over the
//! whole of it. Whoever has a role is read again with every request, so that an edit holds with the next one.
//!
//! Who has which role is known by rooms above; what they have to say is handed in as [`Neighbours`].

mod actions;
mod api;
mod model;
mod owned;
mod pages;
mod queries;
#[cfg(test)]
mod tests;

pub use actions::{check_grant, grantable};
pub use model::{FULL_ACCESS, Neighbours, READ_ONLY, Role, ScopeChoices};
pub use owned::OWNED;
pub use queries::{find, held, list};

use crate::{
    principal::{Level, Permission, Service},
    web::Routes,
};

/// The pages and the API of roles.
pub fn routes(routes: &mut Routes) {
    // Whoever may see users and keys may see what their roles mean.
    let read = Permission::Needs(Service::Identity, Level::Read);
    let full = Permission::Needs(Service::Identity, Level::Full);
    routes.get("/roles", read, pages::list);
    routes.get("/roles/new", full, pages::new);
    routes.post("/roles", full, pages::create).asks_again();
    routes.post("/roles/look-up", full, pages::look_up);
    routes.get("/roles/{id}", read, pages::show);
    routes.post("/roles/{id}", full, pages::update).asks_again();
    routes.post("/roles/{id}/mfa", full, pages::update_mfa).asks_again();
    routes.post("/roles/{id}/remove", full, pages::remove).asks_again();
    routes.api::<api::__path_list, _, _>(read, api::list);
    routes.api::<api::__path_create, _, _>(full, api::create);
    routes.api::<api::__path_get, _, _>(read, api::get);
    routes.api::<api::__path_update, _, _>(full, api::update);
    routes.api::<api::__path_remove, _, _>(full, api::remove);
}
