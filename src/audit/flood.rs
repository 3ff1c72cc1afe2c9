//! Keeps a flood of refused attempts from filling the log: a few records per subject and period, with how many were
//! left out before.
//!
//! In memory only. After a restart a subject may be recorded again at once, which is one record too many and not one
//! too few.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::clock::Time;

/// Subjects that are remembered; beyond that the quiet ones are forgotten, and if none is quiet, all.
const SUBJECTS_MAX: usize = 10_000;

/// Who was recorded when; cheap to clone, clones share the memory.
#[derive(Clone, Default)]
pub struct Flood {
    seen: Arc<Mutex<HashMap<String, Seen>>>,
}

struct Seen {
    period_at: Time,
    admitted: u64,
    left_out: u64,
}

impl Flood {
    /// `Some(how many were left out before)` when the attempt is to be recorded: at most `admitted_max` in each
    /// `period_us`.
    pub fn admit(&self, subject: &str, admitted_max: u64, period_us: i64, now: Time) -> Option<u64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = seen.get_mut(subject) {
            // A clock that was set back must not silence a subject.
            if !(0..period_us).contains(&now.since(known.period_at)) {
                known.period_at = now;
                known.admitted = 0;
            }
            if known.admitted >= admitted_max {
                known.left_out += 1;
                return None;
            }
            known.admitted += 1;
            return Some(std::mem::take(&mut known.left_out));
        }
        if seen.len() >= SUBJECTS_MAX {
            seen.retain(|_, known| (0..period_us).contains(&now.since(known.period_at)));
            if seen.len() >= SUBJECTS_MAX {
                seen.clear();
            }
        }
        seen.insert(subject.to_owned(), Seen { period_at: now, admitted: 1, left_out: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{MINUTE, SECOND};

    #[test]
    fn one_record_a_minute_says_how_many_were_left_out() {
        let flood = Flood::default();
        let start = Time(1_000 * MINUTE);
        assert_eq!(flood.admit("a", 1, MINUTE, start), Some(0));
        for i in 0..59 {
            assert_eq!(flood.admit("a", 1, MINUTE, start.plus(i * SECOND)), None);
        }
        assert_eq!(flood.admit("b", 1, MINUTE, start), Some(0), "each subject by itself");
        assert_eq!(flood.admit("a", 1, MINUTE, start.plus(MINUTE)), Some(59));
        assert_eq!(flood.admit("a", 1, MINUTE, start), Some(0), "a clock set back silences nobody");
    }

    #[test]
    fn its_memory_is_bounded() {
        let flood = Flood::default();
        for i in 0..3 * SUBJECTS_MAX {
            assert_eq!(flood.admit(&i.to_string(), 1, MINUTE, Time(0)), Some(0));
        }
        assert!(flood.seen.lock().expect("unpoisoned").len() <= SUBJECTS_MAX);
    }
}
