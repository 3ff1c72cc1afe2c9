//! Users: the humans who sign in to the console, their passwords, their profile, and which role they have where.
//!
//! Owns `user` and `membership`. Invariants: a user is global, one role per account; a password is stored as argon2id
//! and never in any other form; changing it ends every other session; password work is bounded, so that a flood of
//! sign-ins cannot take the memory (HOSTILE H03). API keys cannot touch profiles. It must never decide who is let in:
//! `sign_in` does.

mod actions;
mod api;
mod common_passwords;
mod model;
mod pages;
mod passwords;
mod queries;
#[cfg(test)]
mod tests;

pub use actions::{create, end_all_sessions, set_password, set_role};
pub use model::{Member, NewUser, User, UserState, check_email, check_name, fold_email, user_urn};
pub use passwords::{Comparison, NewPassword, PasswordHash, Passwords, check_password};
pub use queries::{find_by_email, find_member, first_membership, list_members, note_sign_in, replace_hash};

use crate::{
    principal::{Level, Permission, Service},
    web::Routes,
};

/// The profile pages and `GET /api/users`.
pub fn routes(routes: &mut Routes) {
    let own = Permission::OwnUser;
    routes.get("/profile", own, pages::profile);
    routes.post("/profile", own, pages::save);
    routes.post("/profile/theme", own, pages::theme);
    routes.post("/profile/password", own, pages::password);
    routes.post("/profile/sessions/end", own, pages::end_all_sessions);
    routes.post("/profile/sessions/{id}/end", own, pages::end_session);
    let read = Permission::Needs(Service::Identity, Level::Read);
    routes.api::<api::__path_list, _, _>(read, api::list);
    routes.api::<api::__path_get, _, _>(read, api::get);
}
