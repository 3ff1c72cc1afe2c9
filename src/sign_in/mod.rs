//! Sign-in: from an e-mail address and a password to a session in an account, the first set-up, the way from one account
//! into another, and sign-out.
//!
//! Owns `sign_in_attempt` and `known_browser`. Invariants: attempts are counted in the database before any password
//! work, so that neither parallel requests nor a restart buy more guesses (HOSTILE A05); an unknown address and a wrong
//! password get the same bytes after the same work (A17); nobody is locked out for good, and a browser that has signed
//! in before keeps its own allowance while others guess (A04). What a stranger sees never says why; the audit log does,
//! precisely. Accepting an invitation is signing in: there is one way to a session.

mod actions;
mod counter;
mod factor;
mod factor_pages;
mod invited;
mod model;
mod own_accounts;
mod pages;
mod passkey;
mod path;
mod queries;
mod recovery_pages;
mod restoring;
mod step_up;
#[cfg(test)]
mod tests;

pub use actions::{first_account, purge, unlock};
pub use model::FirstAccount;
pub use passkey::PasskeyAsking;
pub use step_up::{confirm, means};

use crate::{principal::Permission, web::Routes};

/// The pages of signing in and out and of the first set-up.
pub fn routes(routes: &mut Routes) {
    routes.get("/sign-in", Permission::Public, pages::form);
    routes.post("/sign-in", Permission::Public, pages::sign_in);
    routes.get("/sign-in/factor", Permission::Public, factor_pages::show);
    routes.post("/sign-in/factor", Permission::Public, factor_pages::prove);
    routes.post("/sign-in/factor/passkey", Permission::Public, factor_pages::prove_passkey);
    routes.post("/sign-in/factor/passkey/options", Permission::Public, factor_pages::passkey_options);
    routes.post("/sign-in/enrol/passkey", Permission::Public, factor_pages::enrol_passkey);
    routes.post("/sign-in/enrol/passkey/options", Permission::Public, factor_pages::new_passkey_options);
    routes.post("/sign-in/passkey", Permission::Public, passkey::sign_in);
    routes.post("/sign-in/passkey/options", Permission::Public, passkey::options);
    routes.post("/step-up/passkey/options", Permission::OwnUser, step_up::passkey_options);
    routes.get("/sign-in/recovery", Permission::Public, factor_pages::recovery);
    routes.post("/sign-in/recovery", Permission::Public, factor_pages::recover);
    routes.post("/sign-in/enrol/totp", Permission::Public, factor_pages::enrol_totp);
    routes.post("/sign-in/account", Permission::Public, factor_pages::turn_to);
    routes.post("/sign-in/go", Permission::Public, factor_pages::go_in);
    routes.post("/sign-in/cancel", Permission::Public, factor_pages::cancel);
    routes.get("/sign-in/continue", Permission::Public, factor_pages::go_on_form);
    routes.post("/sign-in/continue", Permission::Public, factor_pages::go_on);
    routes.post("/sign-out", Permission::OwnUser, pages::sign_out);
    routes.post("/sign-in/restore", Permission::Public, restoring::ask);
    routes.get("/accounts", Permission::OwnUser, own_accounts::list);
    routes.get("/accounts/new", Permission::OwnUser, own_accounts::new);
    routes.post("/accounts/new", Permission::OwnUser, own_accounts::create);
    routes.post("/accounts/switch", Permission::OwnUser, own_accounts::switch);
    routes.post("/accounts/restore", Permission::OwnUser, own_accounts::ask_to_restore);
    routes.get("/forgot-password", Permission::Public, recovery_pages::forgot);
    routes.post("/forgot-password", Permission::Public, recovery_pages::ask);
    routes.get("/reset-password", Permission::Public, recovery_pages::reset_form);
    routes.post("/reset-password", Permission::Public, recovery_pages::reset);
    routes.get("/verify-email", Permission::Public, recovery_pages::verify_form);
    routes.post("/verify-email", Permission::Public, recovery_pages::verify);
    routes.post("/invitation", Permission::Public, invited::create_user);
    routes.post("/invitation/join", Permission::OwnUser, invited::join);
    routes.get("/setup", Permission::Public, pages::setup_form);
    routes.post("/setup", Permission::Public, pages::setup);
}
