//! Servers of a directory: listed in its settings, or found anew by each one who opens it.
//!
//! Owns that servers are found once per opened directory, so that all of one run, or of one action, sees the same ones.
//! How they are found is the kind of directory's to say ([`Find`]).

use std::{fmt, net::SocketAddr};

use tokio::sync::OnceCell;

use super::{Client, Endpoint, probing::step, wire};
use crate::connectors::{BoxFuture, Failure, ProbeStep, StepState};

/// A way to find servers.
pub trait Find: fmt::Debug + Send + Sync {
    /// Asks anew. There is at least one in an answer.
    fn find(&self) -> BoxFuture<'_, Result<Found, Failure>>;

    /// The addresses of one that was found; `None`: this machine's resolver is to be asked, as for any other server.
    fn addresses<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Option<Result<Vec<SocketAddr>, Failure>>>;
}

/// What was found, and how that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// In the order in which they are tried.
    pub servers: Vec<Endpoint>,
    /// A sentence.
    pub message: String,
    /// Not all is as it should be: what helps.
    pub fix: Option<String>,
}

impl Found {
    /// The first step of a probe.
    pub fn step(&self) -> ProbeStep {
        let state = if self.fix.is_some() { StepState::Warning } else { StepState::Ok };
        step("discovery", None, state, self.message.clone(), self.fix.clone())
    }
}

/// Where the servers of a directory come from.
#[derive(Debug)]
pub enum Servers {
    /// In the order in which they are tried.
    Listed(Vec<Endpoint>),
    /// These are always encrypted.
    Found { by: Box<dyn Find>, found: OnceCell<Found> },
}

impl Servers {
    pub fn found_by(by: impl Find + 'static) -> Self {
        Self::Found { by: Box::new(by), found: OnceCell::new() }
    }
}

impl Client {
    /// What was found, where servers are not listed. Asked once; a failure may be asked again.
    pub async fn found(&self) -> Option<Result<&Found, Failure>> {
        match &self.servers {
            Servers::Listed(_) => None,
            Servers::Found { by, found } => Some(found.get_or_try_init(|| by.find()).await),
        }
    }

    /// The servers in the order in which they are tried, more than are tried at once among them.
    pub async fn endpoints(&self) -> Result<&[Endpoint], Failure> {
        match (&self.servers, self.found().await) {
            (_, Some(found)) => found.map(|found| found.servers.as_slice()),
            (Servers::Listed(servers), _) => Ok(servers),
            (Servers::Found { .. }, None) => Ok(&[]),
        }
    }

    /// The addresses of a server's name.
    pub async fn resolve(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Failure> {
        if let Servers::Found { by, .. } = &self.servers
            && let Some(addresses) = by.addresses(endpoint).await
        {
            return addresses;
        }
        wire::resolve(endpoint, &self.timeouts).await
    }
}
