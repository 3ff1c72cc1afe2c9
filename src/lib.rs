//! Bailiwick, the map: one console over every directory an organisation has.
//!
//! It keeps a live copy of people and groups, changes nothing without a plan, and puts every change on a record that
//! shows tampering. One binary, one SQLite file. A **room** is a capability with its own types, SQL, rules, pages, API
//! and tests; a room uses only rooms on lower **floors** (`tests/tidy.rs` keeps that true).
//!
//! | floor | room | what it is |
//! |---|---|---|
//! | 0 | [`error`] | the one error of requests, and its status |
//! | 0 | [`config`] | TOML, environment and flags, checked |
//! | 0 | [`clock`] | the time, passed in |
//! | 0 | [`email`] | what an e-mail address looks like |
//! | 0 | [`secret`] | values that do not print, the master key, sealing |
//! | 0 | [`principal`] | who acts, and what they may |
//! | 0 | [`proof`] | what somebody proved about who they are, and what an account asks for |
//! | 0 | [`owned`] | the file that holds everything of an account |
//! | 0 | [`db`] | SQLite: one writer with two lanes, many readers, migrations |
//! | 0 | [`language`] | the languages of the console: the dictionary, and how a text is found in it |
//! | 0 | [`web`] | the request road: routes with permissions, CSRF, pages, errors, TLS |
//! | 0 | [`kernel`] | the parts above in one hand |
//! | 1 | [`audit`] | the one way to change anything, and the chained log |
//! | 2 | [`schedule`] | claims and runs what is due |
//! | 2 | [`connectors`] | one folder per kind of directory, behind one trait |
//! | 3 | [`notifications`] | the mail settings, the queue of mails and their words |
//! | 3 | [`sessions`] | who is signed in from which browser |
//! | 4 | [`accounts`] [`users`] [`roles`] | who may use this console |
//! | 4 | [`identities`] | people, groups, members and their history |
//! | 5 | [`api_keys`] [`invitations`] | keys for programs; how people become users |
//! | 5 | [`mfa`] | authenticator apps, passkeys and recovery codes |
//! | 6 | [`directories`] | settings, runs, plans, apply |
//! | 6 | [`sign_in`] | the way in: password or passkey, second factor, session; throttle, set-up, sign-out |
//! | 7 | [`enforcement`] | acting on accounts, and the proof that it happened |
//! | 8 | [`dashboard`] [`demo`] | the overview; the throw-away appliance |
//! | – | [`app`] | builds everything; the only file that names every room |
//!
//! # Three walks
//!
//! **A sync run.** [`schedule`] finds `directory-full` or `directory-delta` due and claims it, or somebody posts to
//! `/api/directories/{id}/runs`, or the server of a directory in live mode says that something has changed
//! ([`directories::Live`]): all call [`directories::start_run`], whose row a unique index keeps from doubling.
//! [`directories::Runner`] opens the connector with the unsealed credentials; [`connectors::Connector::read_full`] (or
//! [`connectors::Delta::read_changes`], from the watermark of the last applied run) sends pages of sightings through a
//! bounded channel to the planner, on its own thread. An object whose source the copy knows is not looked at any closer;
//! of any other the page maps the content, and the differences are stored as `change`, the new content as `staged`, in
//! small transactions of the writer's bulk lane. Only a reading that the directory itself ended as complete gets to the
//! end: what was not seen is then missing. The guard judges the figures of the plan in the transaction that stores it: a
//! plan over its limits, or of an answer that cannot be right, is parked until a person approves or discards it; before an
//! approved one takes effect, the directory is read once more to see that it still says so. Apply copies the staged
//! content into place piece by piece; each piece deletes what it copied, so a process killed anywhere goes on where it
//! was. The last transaction sets the state, the history, the watermark and the record. The first plan of a directory is
//! written in place at once: nobody sees that copy before the plan is applied.
//!
//! **A page.** [`web`] gives the request an id, recognises the session through the gate that [`app`] implements, checks
//! the route's [`principal::Permission`] and, for a form, the CSRF token, and asks whoever wants something dangerous once
//! more who they are ([`web::Again`]); the handler reads its input and calls the same action that the API calls; [`audit::change`] commits the change and its record together.
//!
//! **A sign-in.** [`sign_in`] counts the attempt in the database before any work is done, hashes under a bounded number
//! of permits (for an unknown e-mail too), answers every failure with the same words. Whoever is right is
//! somebody on the way into an account: [`proof::step`] says from what they proved, what they have enrolled and what the
//! account and their role ask for whether a factor comes next, one has to be enrolled, or they enter; until then they hold a
//! journey, which opens nothing. Every other way in (passkey, link, another account) goes through the same place. A session
//! remembers what was proved, and the gate asks the same question with every request; [`sessions`] reads user, membership and account again on every request.
//!
//! # What always holds
//!
//! - No route without a permission; no change without a record; no secret in a log, an error or an answer.
//! - Another account's id answers 404. Queries take the account from the principal, never from the request.
//! - An object is known by its directory's immutable id. DN, user name and mail are content.
//! - What people see of the copy is written in `applying` only. A reading that ended early writes nothing to it.
//! - Missing is not deleted: after a grace time an object becomes a tombstone, with its number, its history and its links.
//! - An answer about a moment of the past never changes.
//! - One writer. No transaction holds it for more than about 50 ms.
//!
//! # What is deliberately absent
//!
//! No ORM and no query builder: SQL stands in `queries.rs`, literally. No JavaScript framework: pages work without
//! script, htmx swaps blocks of the same templates. No cache of permissions or sessions: SQLite answers in
//! microseconds, and a revocation must hold on the next request. No OpenSSL, no libxml2: one TLS library, in Rust.

pub mod accounts;
pub mod api_keys;
pub mod app;
pub mod audit;
pub mod clock;
pub mod config;
pub mod connectors;
pub mod dashboard;
pub mod db;
pub mod demo;
pub mod directories;
pub mod email;
pub mod enforcement;
pub mod error;
pub mod identities;
pub mod invitations;
pub mod kernel;
pub mod language;
pub mod mfa;
pub mod notifications;
pub mod owned;
pub mod principal;
pub mod proof;
pub mod roles;
pub mod schedule;
pub mod secret;
pub mod sessions;
pub mod sign_in;
pub mod users;
pub mod web;
