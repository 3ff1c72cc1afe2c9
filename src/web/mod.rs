//! The request road: routes with their permissions, who is asking, CSRF, forms and JSON, pages, errors, headers.
//!
//! Owns everything between the socket and a room's handler, and no product rule. Invariants: a route cannot be
//! registered without a [`Permission`](crate::principal::Permission); an unsafe request to a page never reaches its
//! handler without the right CSRF token; every answer, errors too, carries the security headers and a request id; a
//! stranger's error never tells more than its status.

mod assets;
mod context;
mod csv_export;
pub mod door;
mod errors;
mod input;
mod openapi;
mod page;
mod paging;
mod road;
mod routes;
mod sentence;
mod serve;
mod tls;

pub use context::{Address, Ctx, Gate, KeyPair, Stale, Surroundings, Web, read_api_key};
pub use csv_export::csv_cell;
pub use input::{Form, Json, PathId, Query};
pub use page::{Flash, Page, PageUser, grouped, href, html, html_status, redirect, redirect_with};
pub use paging::{Cursor, LIMIT_DEFAULT, ListQuery, Listing, PAGE_SIZE};
pub use routes::{Entry, Routes, Surface};
pub use sentence::said;
pub use serve::{Bound, ServeError, bind, run};
pub use tls::{TlsError, certificate_fingerprint};
