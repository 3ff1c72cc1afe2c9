//! Whether people are waiting for the writer these days: long writes then take smaller steps.
//!
//! Owns one moment, shared by the writer, the checkpointer and whoever prepares long writes.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// After that long without anybody, long writes go at their own pace again.
const HERE_FOR: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Default)]
pub(super) struct People(Arc<Mutex<Option<Instant>>>);

impl People {
    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A person waits for a bulk write to be committed.
    pub(super) fn note(&self) {
        *self.lock() = Some(Instant::now());
    }

    /// Whether somebody has waited within the last seconds.
    pub(super) fn are_here(&self) -> bool {
        self.lock().is_some_and(|at| at.elapsed() < HERE_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_here_for_a_while_after_one_has_waited() {
        let people = People::default();
        assert!(!people.are_here());
        people.note();
        assert!(people.clone().are_here());
        *people.lock() = Instant::now().checked_sub(HERE_FOR);
        assert!(!people.are_here());
    }
}
