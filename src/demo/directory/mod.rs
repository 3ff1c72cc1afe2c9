//! The sample directory of the demo: an invented organisation, served over real LDAP from inside the process.
//!
//! Owns the organisation "Alder & Finch" (`dc=alder-finch,dc=example`), its small changes every minute, and the server
//! that a connector reads it from. So the demo goes the same way as a real directory: TLS with a checked certificate,
//! bind, paged search. It answers what is in RFC 4511 for reading and refuses every write but those of `acting`.
//!
//! Invariants: the same seed and start time make the same organisation and the same story; a search sees one snapshot
//! from its first page to its last; every member and manager is an entry that exists. It must never listen beyond
//! loopback, hold a password other than those of its own reader and actor, or be started by anything but the demo.

mod acting;
mod certificate;
mod changes;
mod entry;
mod filter;
mod names;
mod organisation;
mod random;
mod rendering;
mod server;
#[cfg(test)]
mod story_tests;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;

pub use certificate::{Certificate, CertificateError};
pub use rendering::{ACTOR_DN, BASE_DN, READER_DN};
pub use server::{Limits, serve};

use crate::{
    clock::Clock,
    secret::{Secret, random_token},
};
use entry::Snapshot;
use organisation::Organisation;

/// The organisation, and what of it is served at the moment.
pub struct SampleDirectory {
    state: Mutex<State>,
    snapshot: ArcSwap<Snapshot>,
    /// When the actor changes something.
    clock: Clock,
    password: Secret<String>,
    actor_password: Secret<String>,
}

struct State {
    organisation: Organisation,
    ticks: u64,
}

impl SampleDirectory {
    /// Builds the organisation as it stands now. The passwords are random and new each time.
    pub fn new(seed: u64, clock: Clock) -> Self {
        let now = clock.now().timestamp();
        let organisation = Organisation::new(seed, now);
        let snapshot = rendering::snapshot(&organisation, &Snapshot::default(), now);
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            state: Mutex::new(State { organisation, ticks: 0 }),
            clock,
            password: random_token(),
            actor_password: random_token(),
        }
    }

    /// The DN of the one account that may bind and read: [`READER_DN`].
    pub fn bind_dn(&self) -> &'static str {
        READER_DN
    }

    /// Its password.
    pub fn password(&self) -> &Secret<String> {
        &self.password
    }

    /// The password of the one account that may act: [`ACTOR_DN`].
    pub fn actor_password(&self) -> &Secret<String> {
        &self.actor_password
    }

    /// A minute passes: two to five small changes. Answers one sentence for each, for the log.
    pub fn tick(&self, now: Timestamp) -> Vec<String> {
        self.change(now, |organisation, ticks| {
            *ticks += 1;
            changes::tick(organisation, *ticks, now)
        })
    }

    /// Changes the organisation and serves it so from then on.
    fn change<T>(&self, now: Timestamp, change: impl FnOnce(&mut Organisation, &mut u64) -> T) -> T {
        // A poisoned lock means that a change panicked half way; the references are still numbers of people who exist.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { organisation, ticks } = &mut *state;
        let done = change(organisation, ticks);
        let before = self.snapshot.load_full();
        self.snapshot.store(Arc::new(rendering::snapshot(organisation, &before, now)));
        done
    }

    /// How many accounts (employees, contractors, service accounts) and groups are served now.
    pub fn counts(&self) -> Counts {
        let snapshot = self.snapshot.load();
        let with = |class: &str| {
            let is_of =
                |entry: &&Arc<entry::Entry>| entry.values(&entry::STRUCTURAL_OBJECT_CLASS).iter().any(|c| c == class);
            snapshot.entries().iter().filter(is_of).count()
        };
        Counts {
            people: with("inetOrgPerson"),
            groups: with("groupOfNames") + with("groupOfUniqueNames") + with("posixGroup"),
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}

/// The size of the sample directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub people: usize,
    pub groups: usize,
}
