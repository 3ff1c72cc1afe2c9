//! Who is asking: the gate that recognises them, and what a handler is told about the request.

use std::{net::IpAddr, sync::Arc};

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload};

use super::{
    once::Running,
    rate::Rates,
    reference::Reference,
    refusals::Refusal,
    routes::Routes,
    step_up::{Answer, Confirmed, Means},
};
use crate::{
    clock::Time,
    error::{Error, Result},
    kernel::{BoxFuture, Kernel},
    principal::Principal,
    secret::Secret,
};

/// Where a request comes from, after trusted proxies were taken into account.
#[derive(Debug, Clone)]
pub struct Address {
    pub ip: IpAddr,
    pub request_id: String,
    pub user_agent: String,
    /// Asked by a page that refreshes itself, not by a person: does not keep a session from going idle.
    pub is_polling: bool,
}

impl Address {
    /// What counts as one place when attempts are counted: an IPv4 address, or the /64 that one IPv6 subscriber has
    /// (RFC 6177).
    pub fn network(&self) -> String {
        match self.ip.to_canonical() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => {
                let prefix = u128::from(ip) >> 64 << 64;
                format!("{}/64", std::net::Ipv6Addr::from(prefix))
            }
        }
    }
}

/// An API key as sent: `Authorization: ApiKey <id>:<secret>`.
pub struct KeyPair {
    pub id: String,
    pub secret: Secret<String>,
}

/// Reads the `Authorization` header's value; `None` unless it has the documented shape.
pub fn read_api_key(value: &str) -> Option<KeyPair> {
    let rest = value.strip_prefix("ApiKey ")?;
    let (id, secret) = rest.trim().split_once(':')?;
    (id.len() <= 64 && (16..=256).contains(&secret.len()))
        .then(|| KeyPair { id: id.to_owned(), secret: Secret::new(secret.to_owned()) })
}

/// Who a session cookie stands for.
#[derive(Debug)]
pub enum Recognised {
    Nobody,
    /// Somebody whose account asks for more than was proved: a stranger, until they prove it.
    Held,
    User(Principal),
}

/// Recognises principals. `app` implements it over `sessions` and `api_keys`, which this room may not know.
pub trait Gate: Send + Sync {
    /// The user behind a session cookie, if the session is valid now; marks it as used.
    fn session(&self, token: Secret<String>, from: Address) -> BoxFuture<'_, Result<Recognised>>;
    /// The key's principal, if it is valid now and from this address.
    fn api_key(&self, key: KeyPair, from: Address) -> BoxFuture<'_, Result<Option<Principal>>>;
    /// Somebody known was refused: goes on the record, unless there are too many of the kind.
    fn denied(&self, principal: Principal, refusal: Refusal) -> BoxFuture<'_, ()>;
    /// The number of the newest audit record of their account: it changes with everything that is changed there.
    fn newest_record(&self, principal: Principal) -> BoxFuture<'_, Result<i64>>;
    /// What a user can prove by that it is them.
    fn means(&self, _principal: Principal) -> BoxFuture<'_, Result<Means>> {
        Box::pin(async { Ok(Means::default()) })
    }
    /// A user says again that it is them, for what is at this path. Right or wrong, it goes on the record.
    fn confirm(&self, _principal: Principal, _answer: Answer, _path: String) -> BoxFuture<'_, Result<Confirmed>> {
        Box::pin(async { Ok(Confirmed::Wrong) })
    }
    /// How people reach the console, without a slash at the end, if that is set. Never taken from a request.
    fn base_url(&self) -> BoxFuture<'_, Result<Option<String>>> {
        Box::pin(async { Ok(None) })
    }
    /// What is to be shown around every page of theirs. A page must not fail because of it.
    fn surroundings(&self, _principal: Principal) -> BoxFuture<'_, Surroundings> {
        Box::pin(async { Surroundings::default() })
    }
}

/// What stands around every page of an account, whatever it is about.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Directories whose copy is older than it should be.
    pub stale: Vec<Stale>,
    /// Plans that wait for approval.
    pub plans_waiting: i64,
    /// Requests to act that wait for approval.
    pub requests_waiting: i64,
}

/// A copy that is older than it should be.
#[derive(Debug, Clone)]
pub struct Stale {
    pub directory: i64,
    pub name: String,
    /// The data is of this moment.
    pub from: Time,
    /// A sentence after "Data of … is from ….".
    pub why: &'static str,
    /// Every run has failed since then, which is said instead of `why`.
    pub since: Option<Time>,
    /// Where to see more, and what the link says.
    pub href: String,
    pub action: &'static str,
}

/// What the road needs, shared by all workers.
#[derive(Clone)]
pub struct Web {
    pub kernel: Kernel,
    pub gate: Arc<dyn Gate>,
    /// The OpenAPI document, made once from the routes.
    pub openapi: Arc<String>,
    /// The page that explains it.
    pub(super) reference: Arc<Reference>,
    pub(super) rates: Arc<Rates>,
    pub(super) running: Arc<Running>,
}

impl Web {
    pub fn new(kernel: Kernel, gate: Arc<dyn Gate>, routes: &Routes) -> Self {
        let document = routes.openapi();
        let reference = Arc::new(Reference::new(&document));
        let openapi = Arc::new(document.to_string());
        Self { kernel, gate, openapi, reference, rates: Arc::default(), running: Arc::default() }
    }
}

/// A handler's view of its request. Always there: the door put it in.
#[derive(Clone)]
pub struct Ctx {
    pub kernel: Kernel,
    pub principal: Principal,
    pub address: Address,
    /// The token that forms of this page have to send back.
    pub csrf: String,
    /// The session cookie's token, for sign-out and re-authentication.
    pub session_token: Option<Arc<Secret<String>>>,
    /// Asked by htmx for a part of a page.
    pub is_fragment: bool,
    pub is_secure: bool,
    pub path: String,
    /// A message carried over a redirect.
    pub flash: Option<String>,
    pub surroundings: Arc<Surroundings>,
}

impl FromRequest for Ctx {
    type Error = Error;
    type Future = std::future::Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let found = request.extensions().get::<Self>().cloned();
        std::future::ready(found.ok_or_else(|| Error::internal("a route was reached without passing the door")))
    }
}
