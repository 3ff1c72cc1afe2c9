//! How far a run is: kept in memory while it goes on, read by pages and API every second.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU8, Ordering},
    },
};

use super::plan::Counts;

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    Reading,
    Comparing,
    Applying,
    Done,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Reading => "reading",
            Self::Comparing => "comparing",
            Self::Applying => "applying",
            Self::Done => "done",
        }
    }
}

/// Live figures of one run.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    read: AtomicI64,
    differences: AtomicI64,
    applied: AtomicI64,
    to_apply: AtomicI64,
}

/// A moment's figures.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    pub phase: Phase,
    pub read: i64,
    pub differences: i64,
    pub applied: i64,
    pub to_apply: i64,
}

impl Progress {
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub fn read(&self, counts: Counts) {
        if counts.read > 0 && self.phase.load(Ordering::Relaxed) == Phase::Connecting as u8 {
            self.enter(Phase::Reading);
        }
        self.read.store(counts.read, Ordering::Relaxed);
        self.differences.store(counts.differences(), Ordering::Relaxed);
    }

    pub fn to_apply(&self, total: i64) {
        self.to_apply.store(total, Ordering::Relaxed);
    }

    pub fn applied(&self, more: i64) {
        self.applied.fetch_add(more, Ordering::Relaxed);
    }

    pub fn figures(&self) -> Figures {
        Figures {
            phase: match self.phase.load(Ordering::Relaxed) {
                0 => Phase::Connecting,
                1 => Phase::Reading,
                2 => Phase::Comparing,
                3 => Phase::Applying,
                _ => Phase::Done,
            },
            read: self.read.load(Ordering::Relaxed),
            differences: self.differences.load(Ordering::Relaxed),
            applied: self.applied.load(Ordering::Relaxed),
            to_apply: self.to_apply.load(Ordering::Relaxed),
        }
    }
}

/// The runs that go on in this process.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<HashMap<i64, Arc<Progress>>>>);

impl Board {
    pub fn open(&self, run: i64) -> Arc<Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(run).or_default().clone()
    }

    /// Opens a run that nobody carries; `None` when somebody does.
    pub fn claim(&self, run: i64) -> Option<Arc<Progress>> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(run) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => Some(place.insert(Arc::default()).clone()),
        }
    }

    /// Opens a run anew: whoever carried it until now is about to end, and must not close what is opened here.
    pub fn open_again(&self, run: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(run, Arc::default());
    }

    pub fn find(&self, run: i64) -> Option<Arc<Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&run).cloned()
    }

    pub fn close(&self, run: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }

    /// Closes a run for the one who carried it with `progress`, unless somebody else has taken it up since.
    pub fn end(&self, run: i64, progress: &Arc<Progress>) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.get(&run).is_some_and(|open| Arc::ptr_eq(open, progress)) {
            runs.remove(&run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_does_not_close_what_was_opened_again() {
        let board = Board::default();
        let first = board.open(7);
        board.open_again(7);
        board.end(7, &first);
        let second = board.find(7).expect("the second carrier's");
        assert!(board.claim(7).is_none(), "nobody else may take it up");
        board.end(7, &second);
        assert!(board.find(7).is_none());
    }
}
