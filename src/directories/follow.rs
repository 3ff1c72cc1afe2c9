//! Following a reading: which objects of the copy were seen, and which one probably comes next.
//!
//! Owns two small structures of the planner, a few bytes per object at most. Reads the copy only.

use rusqlite::Connection;

use crate::{
    error::Result,
    identities::{
        ObjectId, SubjectType,
        lookup::{self, Held, Known},
    },
};

/// One bit per number: which objects this run has seen.
#[derive(Default)]
pub(super) struct Seen(Vec<u64>);

impl Seen {
    /// Marks `id`; `false` when it was marked already.
    pub(super) fn insert(&mut self, id: ObjectId) -> bool {
        let id = usize::try_from(id).unwrap_or(0);
        let (word, bit) = (id / 64, 1_u64 << (id % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        match self.0.get_mut(word) {
            Some(slot) => {
                let is_new = *slot & bit == 0;
                *slot |= bit;
                is_new
            }
            None => false,
        }
    }

    pub(super) fn contains(&self, id: ObjectId) -> bool {
        let id = usize::try_from(id).unwrap_or(0);
        self.0.get(id / 64).is_some_and(|word| word & (1 << (id % 64)) != 0)
    }
}

/// The objects of the copy that come next, if the directory answers in the order of last time. Then nothing has to be
/// looked up one by one.
#[derive(Default)]
pub(super) struct Ahead {
    rows: Vec<Held>,
    at: usize,
    /// Where the next rows begin.
    from: ObjectId,
    /// Wrong guesses one after the other: beyond [`GUESSES_MAX`], the order is another one.
    wrong: usize,
}

const AHEAD_ROWS: usize = 1_000;
const GUESSES_MAX: usize = 200;

impl Ahead {
    pub(super) fn find(
        &mut self,
        connection: &Connection,
        directory: i64,
        subject: SubjectType,
        external_id: &str,
    ) -> Result<Option<Known>> {
        if self.wrong > GUESSES_MAX {
            return lookup::find(connection, directory, subject, external_id);
        }
        if self.at >= self.rows.len() {
            lookup::ahead(connection, directory, self.from, AHEAD_ROWS, &mut self.rows)?;
            self.at = 0;
            self.from = self.rows.last().map_or(self.from, |last| last.known.id + 1);
        }
        if let Some(next) = self.rows.get(self.at)
            && next.subject == subject
            && next.external_id == external_id
        {
            self.at += 1;
            self.wrong = 0;
            return Ok(Some(next.known));
        }
        self.wrong += 1;
        let found = lookup::find(connection, directory, subject, external_id)?;
        if let Some(found) = found {
            // Go on behind it.
            match self.rows.binary_search_by_key(&found.id, |row| row.known.id) {
                Ok(at) => self.at = at + 1,
                Err(_) => {
                    self.rows.clear();
                    (self.at, self.from) = (0, found.id + 1);
                }
            }
        }
        Ok(found)
    }
}
