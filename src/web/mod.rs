//! The request road: routes with their permissions, who is asking, CSRF, forms and JSON, pages, errors, headers.
//!
//! Owns everything between the socket and a room's handler, and no product rule. Invariants: a route cannot be
//! registered without a [`Permission`](crate::principal::Permission); an unsafe request to a page never reaches its
//! handler without the right CSRF token, nor anybody a dangerous one without a fresh proof of who they are; every answer,
//! errors too, carries the security headers and a request id; a stranger's error never tells more than its status. For every
//! route of the API, without the room's doing: a rate per key, `Idempotency-Key` on POST, `ETag` and `If-Match`, no parameter
//! that is not documented. Owns `idempotency_key`.

mod api_road;
mod assets;
mod context;
mod csv_export;
pub mod door;
mod errors;
mod etag;
mod input;
mod once;
mod ongoing;
mod openapi;
mod page;
mod paging;
mod queries;
mod rate;
mod reference;
mod refusals;
mod refused;
mod road;
mod routes;
mod sentence;
mod serve;
mod step_up;
mod steps;
mod tls;

pub use context::{Address, Ctx, Gate, KeyPair, Recognised, Stale, Surroundings, Web, read_api_key};
pub use csv_export::csv_cell;
pub use input::{Form, Json, PathId, Query};
pub use once::purge_answers;
pub use ongoing::{Ongoing, carried, ongoing};
pub use page::{Flash, Page, PageUser, grouped, href, html, html_status, redirect, redirect_with};
pub use paging::{Cursor, LIMIT_DEFAULT, ListQuery, Listing, PAGE_SIZE};
pub use reference::page as reference;
pub use refusals::Refusal;
pub use refused::Refused;
pub use routes::{Added, Entry, Routes, Surface};
pub use sentence::said;
pub use serve::{Bound, ServeError, bind, run};
pub use step_up::{Again, Answer, Confirmed, Means, routes as step_up_routes};
pub use steps::StepView;
pub use tls::{TlsError, certificate_fingerprint};
