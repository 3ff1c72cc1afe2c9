//! What a plan is made for and what it comes to: how many of each kind of difference, and what could not be taken.

use crate::clock::Time;

/// How many of each there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub read: i64,
    pub added: i64,
    pub changed: i64,
    pub missing: i64,
    pub returned: i64,
    /// Missing for longer than the grace time.
    pub removed: i64,
    pub members_added: i64,
    pub members_removed: i64,
    pub quarantined: i64,
    pub unchanged: i64,
}

impl Counts {
    /// Objects and memberships that differ.
    pub fn differences(&self) -> i64 {
        self.added
            + self.changed
            + self.missing
            + self.returned
            + self.removed
            + self.members_added
            + self.members_removed
    }
}

/// An object that could not be taken.
#[derive(Debug)]
pub struct Quarantined {
    pub external_id: Option<String>,
    pub name: String,
    pub reason: String,
}

/// What a plan is made for.
#[derive(Debug, Clone, Copy)]
pub struct Aim {
    pub run: i64,
    pub directory: i64,
    /// The directory was never applied: its plan is written in place, to take effect at this moment.
    pub in_place_at: Option<Time>,
    /// What has been missing since this moment or longer is removed.
    pub remove_missing_since: Option<Time>,
}

/// Which kinds of object a complete reading named all of: what of them was not seen is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    pub identities: bool,
    pub groups: bool,
}

impl Listed {
    pub const ALL: Self = Self { identities: true, groups: true };
}
