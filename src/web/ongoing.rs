//! What a request has promised about its change, kept where the transaction of that change can look at it; and whether its
//! refusal is on the record already.
//!
//! The road knows of `If-Match` and `Idempotency-Key`; whether they hold is only certain inside the transaction. A value
//! that travels beside the handler brings the two together without any room's help: the road puts it there, and
//! [`crate::audit::change`], the one way to change anything, asks it. A handler that hands its work to another task takes
//! it along with [`carried`].

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use rusqlite::Connection;

use super::queries;
use crate::error::{Error, Result};

tokio::task_local! {
    static ONGOING: Arc<Ongoing>;
}

/// The promises of one request, and what became of it.
#[derive(Default)]
pub struct Ongoing {
    /// The account's newest record when `If-Match` was found to hold.
    seen: Mutex<Option<i64>>,
    has_moved: AtomicBool,
    is_refusal_recorded: AtomicBool,
    /// The `Idempotency-Key`'s row.
    once: Option<[u8; 32]>,
}

impl Ongoing {
    pub(super) fn new(seen: Option<i64>, once: Option<[u8; 32]>) -> Arc<Self> {
        Arc::new(Self { seen: Mutex::new(seen), once, ..Self::default() })
    }

    /// Refuses the first transaction of the request when something of the account was changed since `If-Match` was
    /// compared; the road then compares again. `newest` answers the account's newest record.
    pub fn check(&self, newest: impl FnOnce() -> Result<i64>) -> Result<()> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        match seen {
            Some(seen) if newest()? != seen => {
                self.has_moved.store(true, Ordering::Release);
                Err(Error::PreconditionFailed("It was changed in the meantime.".into()))
            }
            _ => Ok(()),
        }
    }

    /// Notes in the transaction of a change that the request is not to be carried out again.
    pub fn note_change(&self, connection: &Connection) -> Result<()> {
        self.once.as_ref().map_or(Ok(()), |id| queries::set_changed(connection, id))
    }

    /// Notes that the room has put the refusal of this request on the record.
    pub fn note_refusal(&self) {
        self.is_refusal_recorded.store(true, Ordering::Release);
    }

    pub(super) fn is_refusal_recorded(&self) -> bool {
        self.is_refusal_recorded.load(Ordering::Acquire)
    }

    pub(super) fn has_moved(&self) -> bool {
        self.has_moved.load(Ordering::Acquire)
    }
}

/// The promises of the request that this task works for.
pub fn ongoing() -> Option<Arc<Ongoing>> {
    ONGOING.try_with(Arc::clone).ok()
}

pub(super) async fn with<F: Future>(ongoing: Arc<Ongoing>, f: F) -> F::Output {
    ONGOING.scope(ongoing, f).await
}

/// Work of this request that goes on in a task of its own.
pub fn carried<F: Future + Send>(f: F) -> impl Future<Output = F::Output> + Send {
    let ongoing = ongoing().unwrap_or_default();
    ONGOING.scope(ongoing, f)
}
