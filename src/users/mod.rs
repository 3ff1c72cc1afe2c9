//! Users: the humans who sign in to the console, their passwords, their profile, and which role they have where.
//!
//! Owns `user`, `membership`, `user_token` and `password_rule`. Invariants: a user is global, one role per account; no
//! change leaves an account without somebody who can sign in and administer it; nobody touches whoever holds more than they
//! do; a password is stored as argon2id and never in any other form; changing it ends every other session; password work is
//! bounded, so that a flood of sign-ins cannot take the memory (HOSTILE H03). API keys cannot touch profiles. It must never
//! decide who is let in: `sign_in` does.

mod actions;
mod api;
mod member_pages;
mod model;
mod often_tried;
mod owned;
mod pages;
mod passwords;
mod queries;
mod recovery;
mod rules;
#[cfg(test)]
mod tests;

pub use actions::{
    Reach, check_administered, check_over, create, end_all_sessions, grant, join, may_give, reach, set_password,
};
pub use member_pages::Neighbours;
pub use model::{Member, NewUser, User, UserState, check_email, check_name, fold_email, user_urn};
pub use owned::OWNED;
pub use passwords::{Comparison, NewPassword, PasswordHash, Passwords, check_password};
pub use queries::{
    MemberFilter, accounts_of, count_by_role, find, find_by_email, find_member, find_owner, list_members,
    note_activity, note_sign_in, password_rules, replace_hash, set_factors, set_locale, set_verified,
};
pub use recovery::{
    Asking, ask_for_reset, can_mail, find_reset, find_verification, purge, reset, set_email, set_owner, verify,
};
pub use rules::PasswordRules;

use crate::{
    principal::{Level, Permission, Service},
    web::Routes,
};

/// The profile, and the users of an account as pages and API.
pub fn routes(routes: &mut Routes) {
    let own = Permission::OwnUser;
    routes.get("/profile", own, pages::profile);
    routes.post("/profile", own, pages::save);
    routes.post("/profile/theme", own, pages::theme);
    routes.post("/profile/password", own, pages::password);
    routes.post("/profile/email", own, pages::change_email);
    routes.post("/profile/email/verify", own, pages::verify_email);
    routes.post("/profile/sessions/end", own, pages::end_all_sessions);
    routes.post("/profile/sessions/{id}/end", own, pages::end_session);
    let read = Permission::Needs(Service::Identity, Level::Read);
    let full = Permission::Needs(Service::Identity, Level::Full);
    routes.get("/users", read, member_pages::list);
    routes.get("/users/{id}", read, member_pages::show);
    routes.post("/users/{id}", full, member_pages::update).asks_again();
    routes.post("/users/{id}/disable", full, member_pages::disable).asks_again();
    routes.post("/users/{id}/enable", full, member_pages::enable).asks_again();
    routes.post("/users/{id}/sign-out", full, member_pages::sign_out);
    routes.post("/users/{id}/reset-link", full, member_pages::reset_link).asks_again();
    routes.post("/appliance/owner", Permission::Owner, pages::hand_over).asks_again();
    routes.get("/appliance/owner", Permission::Owner, pages::owner);
    routes.get("/appliance/passwords", Permission::Owner, rules::show);
    routes.post("/appliance/passwords", Permission::Owner, rules::save);
    routes.get("/users/{id}/remove", full, member_pages::confirm_removal);
    routes.post("/users/{id}/remove", full, member_pages::remove).asks_again();
    routes.api::<api::__path_list, _, _>(read, api::list);
    routes.api::<api::__path_get, _, _>(read, api::get);
    routes.api::<api::__path_update, _, _>(full, api::update);
    routes.api::<api::__path_remove, _, _>(full, api::remove);
    routes.api::<api::__path_sign_out, _, _>(full, api::sign_out);
    routes.api::<api::__path_reset_link, _, _>(full, api::reset_link);
}
