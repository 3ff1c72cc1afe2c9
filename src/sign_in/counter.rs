//! How many attempts are let through, and how long the pause is after too many. Pure: no table, no clock.

use crate::clock::{DAY, HOUR, MINUTE, Time};

/// The rule for one kind of subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    /// Attempts that are evaluated before the pause.
    pub(super) attempts_max: i64,
    pub(super) window_us: i64,
    /// The window begins again only after this much quiet, instead of at fixed times: then no window of that length,
    /// wherever it begins, holds more attempts than allowed.
    pub(super) needs_quiet: bool,
    /// The first pause; each further one without a quiet day doubles it.
    pub(super) pause_us: i64,
    pub(super) pause_max_us: i64,
}

/// Per user, from browsers they have never signed in with.
pub(super) const USER: Limit =
    Limit { attempts_max: 5, window_us: 15 * MINUTE, needs_quiet: true, pause_us: 15 * MINUTE, pause_max_us: HOUR };
/// Per browser that the user has signed in with before.
pub(super) const BROWSER: Limit = Limit {
    attempts_max: 10,
    window_us: 15 * MINUTE,
    needs_quiet: true,
    pause_us: 15 * MINUTE,
    pause_max_us: 15 * MINUTE,
};
/// Per address; an office behind one address must be able to come in on a Monday morning.
pub(super) const ADDRESS: Limit =
    Limit { attempts_max: 30, window_us: MINUTE, needs_quiet: false, pause_us: MINUTE, pause_max_us: 15 * MINUTE };
/// All unknown browsers together: against one password tried on thousands of users from thousands of addresses.
pub(super) const EVERYWHERE: Limit =
    Limit { attempts_max: 600, window_us: MINUTE, needs_quiet: false, pause_us: MINUTE, pause_max_us: MINUTE };

/// Pauses stop growing, and begin small again, after a day without an attempt.
pub(super) const MEMORY_US: i64 = DAY;

/// The attempts of one subject.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counter {
    pub(super) attempts: i64,
    pub(super) window_at: Time,
    pub(super) rounds: i64,
    pub(super) blocked_until: Time,
    pub(super) last_at: Time,
}

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Evaluate,
    /// The last one before a pause.
    EvaluateLast,
    /// Microseconds until the next attempt is evaluated.
    Refuse(i64),
}

impl Counter {
    /// Microseconds of pause that are left. A clock that was set back does not lengthen a pause beyond its maximum.
    pub(super) fn pause_left_us(&self, limit: &Limit, now: Time) -> Option<i64> {
        let left = self.blocked_until.since(now);
        (left > 0 && left <= limit.pause_max_us).then_some(left)
    }

    /// Counts an attempt, unless it falls into a pause.
    pub(super) fn take(&mut self, limit: &Limit, now: Time) -> Verdict {
        if let Some(left) = self.pause_left_us(limit, now) {
            return Verdict::Refuse(left);
        }
        let quiet_us = now.since(self.last_at);
        let window_is_over =
            if limit.needs_quiet { quiet_us >= limit.window_us } else { now.since(self.window_at) >= limit.window_us };
        if window_is_over || self.attempts >= limit.attempts_max {
            self.attempts = 0;
            self.window_at = now;
        }
        if quiet_us >= MEMORY_US {
            self.rounds = 0;
        }
        self.attempts += 1;
        self.last_at = now;
        if self.attempts < limit.attempts_max {
            return Verdict::Evaluate;
        }
        let doubled = limit.pause_us.saturating_mul(1 << self.rounds.clamp(0, 20));
        self.blocked_until = now.plus(doubled.min(limit.pause_max_us));
        self.rounds += 1;
        Verdict::EvaluateLast
    }

    /// Takes an attempt back that was right, or was never evaluated.
    pub(super) fn give_back(&mut self, limit: &Limit) {
        if self.attempts >= limit.attempts_max {
            self.blocked_until = Time::default();
            self.rounds = (self.rounds - 1).max(0);
        }
        self.attempts = (self.attempts - 1).max(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time(1_000 * DAY);

    #[test]
    fn no_fifteen_minutes_hold_more_than_five_attempts_of_a_user() {
        // An attacker who tries every ten seconds for a day, and one who waits for what looks like a window's edge.
        for step_us in [10 * 1_000_000, MINUTE, 4 * MINUTE, 7 * MINUTE] {
            let mut counter = Counter::default();
            let mut evaluated = Vec::new();
            let mut now = START;
            while now < START.plus(DAY) {
                if !matches!(counter.take(&USER, now), Verdict::Refuse(_)) {
                    evaluated.push(now);
                }
                now = now.plus(step_us);
            }
            for first in &evaluated {
                let inside = evaluated.iter().filter(|at| (0..USER.window_us).contains(&at.since(*first))).count();
                assert!(inside <= 5, "{inside} attempts within 15 minutes, one every {step_us} µs");
            }
            assert!(evaluated.len() > 20, "never locked out for good");
        }
    }

    #[test]
    fn pauses_double_up_to_an_hour_and_are_forgotten_after_a_quiet_day() {
        let mut counter = Counter::default();
        let mut now = START;
        let mut pause = |counter: &mut Counter, now: &mut Time| {
            while counter.take(&USER, *now) == Verdict::Evaluate {}
            let left = counter.pause_left_us(&USER, *now).expect("a pause");
            *now = now.plus(left);
            left / MINUTE
        };
        assert_eq!([(); 4].map(|()| pause(&mut counter, &mut now)), [15, 30, 60, 60]);
        now = now.plus(DAY);
        assert_eq!(pause(&mut counter, &mut now), 15);
    }

    #[test]
    fn what_is_given_back_does_not_count() {
        let mut counter = Counter::default();
        for _ in 0..50 {
            assert!(!matches!(counter.take(&USER, START), Verdict::Refuse(_)));
            counter.give_back(&USER);
        }
        for _ in 0..4 {
            assert_eq!(counter.take(&USER, START), Verdict::Evaluate);
        }
        assert_eq!(counter.take(&USER, START), Verdict::EvaluateLast);
        counter.give_back(&USER);
        assert_eq!(counter.take(&USER, START), Verdict::EvaluateLast);
        assert!(matches!(counter.take(&USER, START), Verdict::Refuse(_)));
    }

    #[test]
    fn a_clock_set_back_by_a_year_locks_nobody_out() {
        let mut counter = Counter::default();
        while counter.take(&USER, START) == Verdict::Evaluate {}
        assert!(matches!(counter.take(&USER, START), Verdict::Refuse(_)));
        assert_ne!(counter.take(&USER, START.plus(-365 * DAY)), Verdict::Refuse(0));
        assert_eq!(counter.pause_left_us(&USER, START.plus(-365 * DAY)), None);
    }
}
