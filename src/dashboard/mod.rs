//! Dashboard: the first page after sign-in, which says how every directory stands and what needs attention.
//!
//! Owns no table and no rule; it asks lower rooms. Invariant: no question here grows with the number of identities:
//! what would have to be counted is counted up to a limit and then called "more than".

mod pages;
#[cfg(test)]
mod tests;

use crate::{principal::Permission, web::Routes};

pub fn routes(routes: &mut Routes) {
    // Everybody who may sign in lands here; what their role may not read is left out.
    routes.get("/", Permission::SignedIn, pages::overview);
}
