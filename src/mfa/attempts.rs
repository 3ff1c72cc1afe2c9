//! How many wrong codes a user gets. A code has six digits and three of them count at a time, for each app that they have: what
//! is allowed is so little that nobody guesses one with more than 1 chance in 10,000 in a day (HOSTILE A07), and it is
//! counted in the database, whatever the number of sign-ins on their way.
//!
//! A flood of guesses must not lock the user out: a browser that they came in with before has its own allowance, and so have
//! recovery codes; a passkey has none, because it cannot be guessed.

use rusqlite::Connection;

use super::queries;
use crate::{
    clock::{DAY, MINUTE, SECOND, Time},
    error::Result,
    secret,
};

/// In any fifteen minutes.
const SHORT_MAX: i64 = 5;
const SHORT_US: i64 = 15 * MINUTE;
/// In any day, with one app.
const DAY_MAX: i64 = 16;
/// Authenticator apps that one user can have: each makes a guess likelier to be right.
pub(super) const DEVICES_MAX: usize = 5;

/// Whose attempts are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Counter {
    /// Codes of apps from browsers that the user has never come in with.
    Codes,
    /// Codes of apps from one that they have, by the SHA-256 of its token.
    CodesOfBrowser(String),
    /// Recovery codes, from anywhere.
    Recovery,
}

impl Counter {
    pub(super) fn codes(known_browser: Option<&[u8]>) -> Self {
        known_browser.map_or(Self::Codes, |hash| Self::CodesOfBrowser(secret::encode_hex(hash)))
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Codes => "code".to_owned(),
            Self::CodesOfBrowser(hash) => format!("code:{hash}"),
            Self::Recovery => "recovery".to_owned(),
        }
    }
}

/// Wrong attempts that are allowed in a day. A guess is right for any of the user's apps, so with more apps there are fewer
/// guesses: 3 codes of 10⁶ per app, 16 guesses from strange browsers and 16 from one that was stolen are 96 in 10⁶.
fn day_max(devices: usize) -> i64 {
    DAY_MAX / i64::try_from(devices.max(1)).unwrap_or(DAY_MAX)
}

/// What becomes of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It may be looked at. The number names it, should it turn out to be right; `is_last`: until tomorrow there is no other.
    Counted { id: i64, is_last: bool },
    /// Seconds until the next one may be looked at.
    TooMany(u64),
}

/// Counts an attempt, unless there were too many. Before it is looked at, in the same transaction: of any number at once no
/// more than are allowed are evaluated.
pub(super) fn take(c: &Connection, user_id: &str, counter: &Counter, devices: usize, now: Time) -> Result<Taken> {
    let name = counter.name();
    // What lies in the future is of a clock that was set back.
    let times = queries::attempts(c, user_id, &name, now.plus(-DAY), now)?;
    let most = day_max(devices);
    let wait = |at: Option<&Time>, window_us: i64| at.map(|at| at.plus(window_us).since(now)).filter(|left| *left > 0);
    let nth_newest = |n: i64| usize::try_from(n - 1).ok().and_then(|n| times.get(n));
    let left = wait(nth_newest(most), DAY).max(wait(nth_newest(SHORT_MAX), SHORT_US));
    if let Some(left) = left {
        return Ok(Taken::TooMany(u64::try_from(left.saturating_add(SECOND - 1) / SECOND).unwrap_or(1).max(1)));
    }
    let id = queries::insert_attempt(c, user_id, &name, now)?;
    Ok(Taken::Counted { id, is_last: i64::try_from(times.len()).unwrap_or(most) + 1 >= most })
}

/// Takes an attempt back that was right. The wrong ones before it still count: a thief does not get new guesses whenever the
/// user comes in.
pub(super) fn give_back(c: &Connection, id: i64) -> Result<()> {
    queries::delete_attempt(c, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody who knows the password and guesses day and night, as fast as it goes, from any number of browsers that the user
    /// has never come in with and from one that was stolen from them; and the user, who comes in once an hour.
    #[test]
    fn no_day_of_guessing_has_one_chance_in_ten_thousand_and_the_user_comes_in() {
        use crate::{clock::MINUTE, db::Db};
        let dir = tempfile::tempdir().expect("a folder");
        let db = Db::open(&Db::file(dir.path()), true).expect("a database");
        db.write_blocking(|c| {
            c.execute_batch(
                "INSERT INTO user (id, email, email_folded, name, password_hash, password_changed_at, state, created_at)
                 VALUES ('u', 'e', 'e', 'n', 'h', 0, 'enabled', 0);",
            )?;
            for devices in [1, 2, DEVICES_MAX] {
                let begin = Time(20_000 * DAY).plus(DAY * 100 * i64::try_from(devices).expect("few"));
                let stolen = Counter::codes(Some(&[1; 32]));
                let own = Counter::codes(Some(&[2; 32]));
                let (mut guesses, mut now) = (Vec::new(), begin);
                while now < begin.plus(3 * DAY) {
                    for counter in [&Counter::Codes, &stolen] {
                        if let Taken::Counted { .. } = take(c, "u", counter, devices, now)? {
                            guesses.push(now);
                        }
                    }
                    if now.since(begin) % (60 * MINUTE) == 0 {
                        match take(c, "u", &own, devices, now)? {
                            Taken::Counted { id, .. } => give_back(c, id)?,
                            Taken::TooMany(_) => panic!("the user is locked out at {now:?}"),
                        }
                    }
                    now = now.plus(MINUTE);
                }
                for first in &guesses {
                    let in_a_day = guesses.iter().filter(|at| (0..DAY).contains(&at.since(*first))).count();
                    let chance = in_a_day as f64 * 3.0 * devices as f64 / 1e6;
                    assert!(chance < 1e-4, "{devices} apps: {in_a_day} guesses in a day");
                    let short = guesses.iter().filter(|at| (0..SHORT_US).contains(&at.since(*first))).count();
                    assert!(short <= 10, "{short} in fifteen minutes");
                }
                assert!(guesses.len() >= 3 * 6, "nobody is locked out for good: {}", guesses.len());
            }
            Ok(())
        })
        .expect("simulated");
    }

    #[test]
    fn a_day_of_guesses_has_less_than_one_chance_in_ten_thousand() {
        for devices in 1..=DEVICES_MAX {
            // From strange browsers, and from one that the user has come in with.
            let guesses = 2 * day_max(devices);
            let chance = guesses as f64 * 3.0 * devices as f64 / 1e6;
            assert!(chance < 1e-4, "{devices} apps: {chance}");
            assert!(day_max(devices) >= 3, "people mistype");
        }
    }
}
