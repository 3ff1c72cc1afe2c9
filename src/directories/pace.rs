//! How much of a long write one step takes on, so that a step is short whatever it meets.
//!
//! Owns a number that follows the clock. The writer serves people between two steps: a step over rows of a large
//! directory takes ten times as long as the same step over a small one, because each row is on a page of its own.

use std::time::{Duration, Instant};

/// What a step should take: a person who saves something waits for one step and one commit.
const STEP: Duration = Duration::from_millis(5);
const ROWS_MIN: i64 = 10;

pub(super) struct Pace {
    rows: i64,
    rows_max: i64,
}

impl Pace {
    /// Begins with few rows, and never takes more than `rows_max`.
    pub(super) fn up_to(rows_max: i64) -> Self {
        Self { rows: (rows_max / 10).max(ROWS_MIN), rows_max }
    }

    /// Does one step with as many rows as fit, and learns from how long it took.
    pub(super) fn step<T>(&mut self, work: impl FnOnce(i64) -> T) -> T {
        let begun = Instant::now();
        let done = work(self.rows);
        self.learn(begun.elapsed());
        done
    }

    fn learn(&mut self, took: Duration) {
        let rows = if took > 2 * STEP {
            self.rows / 2
        } else if took > STEP {
            self.rows - self.rows / 8
        } else {
            self.rows + self.rows / 4 + 1
        };
        self.rows = rows.clamp(ROWS_MIN, self.rows_max.max(ROWS_MIN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_shrink_while_they_take_long_and_grow_again() {
        let mut pace = Pace::up_to(1_000);
        let last_of = |pace: &mut Pace, steps: usize, took_ms: u64| {
            (0..steps).for_each(|_| pace.learn(Duration::from_millis(took_ms)));
            pace.rows
        };
        assert_eq!(last_of(&mut pace, 30, 1), 1_000);
        assert_eq!(last_of(&mut pace, 3, 100), 125);
        assert_eq!(last_of(&mut pace, 30, 100), ROWS_MIN);
        // A row takes a fifth of a millisecond.
        for _ in 0..200 {
            let rows = u64::try_from(pace.rows).expect("not negative");
            pace.learn(Duration::from_micros(rows * 200));
        }
        let fitting = i64::try_from(STEP.as_micros() / 200).expect("few");
        assert!((fitting * 2 / 3..=fitting * 3 / 2).contains(&pace.rows), "{} rows of 0.2 ms each", pace.rows);
    }
}
