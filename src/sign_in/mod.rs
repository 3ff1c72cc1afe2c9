//! Sign-in: from an e-mail address and a password to a session, the first set-up, and sign-out.
//!
//! Owns `sign_in_attempt` and `known_browser`. Invariants: attempts are counted in the database before any password
//! work, so that neither parallel requests nor a restart buy more guesses (HOSTILE A05); an unknown address and a wrong
//! password get the same bytes after the same work (A17); nobody is locked out for good, and a browser that has signed
//! in before keeps its own allowance while others guess (A04). What a stranger sees never says why; the audit log does,
//! precisely. Accepting an invitation is signing in: there is one way to a session.

mod actions;
mod counter;
mod invited;
mod model;
mod pages;
mod queries;
#[cfg(test)]
mod tests;

pub use actions::{first_account, purge, unlock};
pub use model::FirstAccount;

use crate::{principal::Permission, web::Routes};

/// The pages of signing in and out and of the first set-up.
pub fn routes(routes: &mut Routes) {
    routes.get("/sign-in", Permission::Public, pages::form);
    routes.post("/sign-in", Permission::Public, pages::sign_in);
    routes.post("/sign-out", Permission::OwnUser, pages::sign_out);
    routes.post("/invitation", Permission::Public, invited::create_user);
    routes.post("/invitation/join", Permission::OwnUser, invited::join);
    routes.get("/setup", Permission::Public, pages::setup_form);
    routes.post("/setup", Permission::Public, pages::setup);
}
