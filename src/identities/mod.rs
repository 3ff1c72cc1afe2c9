//! Identities: the live copy of people and groups, their members, and the history of every change.
//!
//! Owns `object`, `identity`, `directory_group`, `reference`, `member`, `past`, `plan`, `change`, `staged` and
//! `history_edge`. Reads for
//! pages and API are in `queries`, for planners in `lookup`; everything that writes is in `write` and is called by
//! `directories` only. Invariants: an object is known by its directory and external id, never by DN or mail; what a sync
//! no longer sees is marked missing, not deleted; a membership ends by getting an end, so that any earlier time can be
//! read; a directory's copy is seen by nobody before its first plan was applied.

mod api;
mod export;
mod fold;
pub mod handles;
pub(crate) mod history;
pub mod lookup;
mod model;
mod nesting;
mod owned;
#[cfg(test)]
mod page_tests;
mod pages;
pub mod parts;
#[cfg(test)]
mod parts_tests;
pub mod past;
mod past_lists;
mod past_pages;
mod past_search;
pub mod plans;
#[cfg(test)]
mod privilege_tests;
mod privileges;
pub(crate) mod queries;
mod raw;
pub mod retention;
pub mod staged;
#[cfg(test)]
mod tests;
pub mod undoing;
pub mod write;

pub use fold::fold;
pub use history::changes_of_run;
pub use lookup::is_changed_since;
pub use model::{
    ChangeJson, ChangeKind, ChangeRow, DirectoryChoice, GroupJson, IdentityJson, IdentityRow, Member, ObjectId,
    SubjectType,
};
pub use owned::OWNED;
pub use pages::title as state_title;
pub use parts::{Sight, sight};
pub use privileges::{privileged_paths, which_are_privileged};
pub use queries::count_state;

use crate::{
    principal::{Level, Permission, Service},
    web::Routes,
};

pub fn routes(routes: &mut Routes) {
    let read = Permission::InPart(Service::Directories, Level::Read);
    // Two times of the past are compared for whoever sees the whole account.
    let whole = Permission::Needs(Service::Directories, Level::Read);
    routes.get("/identities", read, pages::identities);
    routes.get("/identities/export", read, pages::export_identities);
    routes.get("/identities/{id}", read, pages::identity);
    routes.get("/identities/{id}/compare", whole, past_pages::compare_identity);
    routes.get("/groups", read, pages::groups);
    routes.get("/groups/export", read, pages::export_groups);
    routes.get("/groups/{id}", read, pages::group);
    routes.get("/groups/{id}/export", read, pages::export_members);
    routes.get("/groups/{id}/compare", whole, past_pages::compare_group);
    routes.api::<api::__path_list_identities, _, _>(read, api::list_identities);
    routes.api::<api::__path_export_identities, _, _>(read, api::export_identities);
    routes.api::<api::__path_get_identity, _, _>(read, api::get_identity);
    routes.api::<api::__path_compare_identity, _, _>(whole, api::compare_identity);
    routes.api::<api::__path_compare_group, _, _>(whole, api::compare_group);
    routes.api::<api::__path_identity_changes, _, _>(read, api::identity_changes);
    routes.api::<api::__path_identity_groups, _, _>(read, api::identity_groups);
    routes.api::<api::__path_list_groups, _, _>(read, api::list_groups);
    routes.api::<api::__path_export_groups, _, _>(read, api::export_groups);
    routes.api::<api::__path_get_group, _, _>(read, api::get_group);
    routes.api::<api::__path_group_members, _, _>(read, api::group_members);
    routes.api::<api::__path_group_changes, _, _>(read, api::group_changes);
}
