//! The pool of read connections.
//!
//! Owns how many readers there are and that none of them can write (`query_only`). A connection is opened when it is
//! first needed and kept.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// Enough for two cores to stay busy while some readers wait for the disk.
const READERS_MAX: usize = 8;

#[derive(Clone)]
pub(super) struct Readers {
    path: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path: Arc::new(path), idle: Arc::default(), permits: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    pub(super) async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        self.permits.clone().acquire_owned().await.map_err(|e| Error::caused("the readers are closed", e))
    }

    pub(super) fn with<T>(&self, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open()?,
        };
        // One transaction per closure: all its queries see the same moment.
        connection.execute_batch("BEGIN")?;
        let result = f(&connection);
        let end = connection.execute_batch("COMMIT");
        if end.is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < READERS_MAX {
                idle.push(connection);
            }
        }
        result
    }

    fn open(&self) -> Result<Connection> {
        let connection = super::connect(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(|e| Error::caused("a read connection could not be opened", e))?;
        // Small, because there are several; what is read often is in the system's cache.
        connection.execute_batch("PRAGMA query_only=ON; PRAGMA cache_size=-2000")?;
        Ok(connection)
    }
}
