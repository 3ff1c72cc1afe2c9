//! Enforcement: acting on accounts of directories, and the proof that it happened.
//!
//! Owns `enforcement_request`, `task`, `protection`, `two_person_rule` and `drift_mark`. A request is one action on one or
//! many identities; each identity is a task. Invariants: `never` is asked when a request is made and again before each
//! task is sent, and there is no other way to a directory; a task that was sent begins again by looking, so that it is
//! never done twice; it counts as done only when the directory was read back and says so. Deliberately absent: acting by
//! an application, an agent, or anything but the directory itself.

mod actions;
mod api;
mod dispatcher;
mod drift;
mod model;
mod never;
mod notable;
mod owned;
mod pages;
mod queries;
mod rule;
mod rules_pages;
mod rules_queries;
mod sight;

pub use dispatcher::Dispatcher;
pub use notable::{Notable, Why, notable, waiting};
pub use owned::OWNED;

use crate::{
    directories,
    error::Result,
    kernel::Kernel,
    principal::{AccountId, Level, Permission, Service},
    web::Routes,
};

/// Requests deleted at once; each has up to a thousand tasks.
const PURGED_AT_ONCE: usize = 5;

/// Deletes everything that an account has here.
pub async fn purge(kernel: Kernel, account: AccountId) -> Result<()> {
    while kernel.db.write(move |c| queries::purge(c, account, PURGED_AT_ONCE)).await? {}
    let purged = move |c: &rusqlite::Connection| {
        for directory in directories::of_account(c, account)? {
            queries::forget_looked(c, directory)?;
        }
        rules_queries::purge(c, account)
    };
    kernel.db.write(purged).await
}

pub fn routes(routes: &mut Routes) {
    let read = Permission::InPart(Service::Enforcement, Level::Read);
    let operate = Permission::InPart(Service::Enforcement, Level::Operate);
    // The rules are about the whole account.
    let read_rules = Permission::Needs(Service::Enforcement, Level::Read);
    let full = Permission::Needs(Service::Enforcement, Level::Full);
    // Whoever may ask is not by that one who may approve.
    let approve = Permission::Needs(Service::Approvals, Level::Operate);
    routes.get("/tasks", read, pages::list);
    routes.get("/tasks/new", operate, pages::new);
    routes.post("/tasks/new", operate, pages::create);
    routes.get("/tasks/requests/{id}", read, pages::request);
    routes.post("/tasks/requests/{id}/approve", approve, pages::approve).asks_again();
    routes.post("/tasks/requests/{id}/decline", approve, pages::decline).asks_again();
    routes.post("/tasks/requests/{id}/cancel", operate, pages::cancel);
    routes.post("/tasks/requests/{id}/undo", operate, pages::undo);
    routes.get("/tasks/rules", read_rules, rules_pages::rules);
    routes.post("/tasks/rules/two-person", full, rules_pages::set_rule);
    routes.post("/tasks/rules/units", full, rules_pages::protect_unit);
    routes.get("/tasks/rules/new", full, rules_pages::new_protection);
    routes.post("/tasks/rules/new", full, rules_pages::protect);
    routes.post("/tasks/rules/{id}/remove", full, rules_pages::unprotect);
    routes.get("/identities/{id}/tasks", read, pages::of_identity);
    routes.api::<api::__path_create, _, _>(operate, api::create);
    routes.api::<api::__path_list, _, _>(read, api::list);
    routes.api::<api::__path_get, _, _>(read, api::get);
    routes.api::<api::__path_undo_task, _, _>(operate, api::undo_task);
    routes.api::<api::__path_list_requests, _, _>(read, api::list_requests);
    routes.api::<api::__path_get_request, _, _>(read, api::get_request);
    routes.api::<api::__path_approve, _, _>(approve, api::approve);
    routes.api::<api::__path_decline, _, _>(approve, api::decline);
    routes.api::<api::__path_cancel, _, _>(operate, api::cancel);
    routes.api::<api::__path_undo, _, _>(operate, api::undo);
    routes.api::<api::__path_list_protections, _, _>(read_rules, api::list_protections);
    routes.api::<api::__path_protect, _, _>(full, api::protect);
    routes.api::<api::__path_unprotect, _, _>(full, api::unprotect);
    routes.api::<api::__path_get_rule, _, _>(read_rules, api::get_rule);
    routes.api::<api::__path_set_rule, _, _>(full, api::set_rule);
}
