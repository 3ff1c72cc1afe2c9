//! What every room is handed: the database, the clock, the master key, the configuration.

use std::{future::Future, pin::Pin, sync::Arc};

use crate::{clock::Clock, config::Config, db::Db, secret::MasterKey};

/// The kernel's parts; cheap to clone.
#[derive(Clone)]
pub struct Kernel {
    pub db: Db,
    pub clock: Clock,
    pub key: Arc<MasterKey>,
    pub config: Arc<Config>,
}

/// A boxed future, so that a trait with async functions can be used as an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
