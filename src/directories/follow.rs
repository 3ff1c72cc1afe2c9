//! Following a reading: which objects of the copy were seen, which one probably comes next, and which have to be asked
//! for.
//!
//! Owns the small structures of the planner, a few bytes per object at most. Reads the copy only.

use rusqlite::Connection;

use crate::{
    error::Result,
    identities::{
        ObjectId, SubjectType,
        lookup::{self, Gone, Held, Known},
    },
};

/// A group that was seen before any group's members are looked at.
pub(super) struct GroupSeen {
    pub(super) id: ObjectId,
    pub(super) known: Option<Known>,
    pub(super) is_read: bool,
}

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

    /// Takes the mark away; `false` when there was none.
    pub(super) fn remove(&mut self, id: ObjectId) -> bool {
        let id = usize::try_from(id).unwrap_or(0);
        let Some(slot) = self.0.get_mut(id / 64) else { return false };
        let was_marked = *slot & (1 << (id % 64)) != 0;
        *slot &= !(1 << (id % 64));
        was_marked
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
    subject: Option<SubjectType>,
    rows: Vec<Held>,
    at: usize,
    /// Where the next rows begin.
    from: ObjectId,
    /// Right guesses since the last wrong one: the more there were, the more rows are read at once. So a delta, which
    /// names objects here and there, does not read a thousand rows for each.
    right: usize,
    /// Wrong guesses one after the other: beyond [`GUESSES_MAX`], the order is another one.
    wrong: usize,
}

const AHEAD_ROWS_MIN: usize = 8;
const AHEAD_ROWS_MAX: usize = 1_000;
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
        if self.subject != Some(subject) {
            // Groups come after identities, and have numbers of their own.
            *self = Self { subject: Some(subject), wrong: self.wrong, ..Self::default() };
        }
        if self.at >= self.rows.len() {
            let limit = self.right.clamp(AHEAD_ROWS_MIN, AHEAD_ROWS_MAX);
            lookup::ahead(connection, directory, subject, self.from, limit, &mut self.rows)?;
            self.at = 0;
            self.from = self.rows.last().map_or(self.from, |last| last.known.id + 1);
        }
        if let Some(next) = self.rows.get(self.at)
            && next.external_id == external_id
        {
            self.at += 1;
            self.right += 1;
            self.wrong = 0;
            return Ok(Some(next.known));
        }
        self.wrong += 1;
        self.right = 0;
        let found = lookup::find(connection, directory, subject, external_id)?;
        if let Some(found) = found {
            // Go on behind it.
            let at = self.rows.partition_point(|row| row.known.id <= found.id);
            let is_before_all = self.rows.first().is_none_or(|first| found.id < first.known.id);
            if is_before_all || at >= self.rows.len() {
                self.rows.clear();
                (self.at, self.from) = (0, found.id + 1);
            } else {
                self.at = at;
            }
        }
        Ok(found)
    }
}

/// What a directory names as there and unchanged, without its content. Some of it the copy holds as missing, or not at
/// all (it could not be read before): without its content it would stay so until a full reading.
#[derive(Default)]
pub(super) struct Unread {
    pub identities: Vec<String>,
    pub groups: Vec<String>,
    /// Objects of the copy that were named, and whose content has not come since.
    named: Seen,
    /// Content is asked for now, after what refers to it has come.
    is_late: bool,
    is_out_of_order: bool,
}

impl Unread {
    /// Takes note of what was named; `true` when the copy holds it as it is.
    pub(super) fn note(&mut self, known: Option<Known>, subject: SubjectType, external_id: String) -> bool {
        if let Some(known) = known {
            self.named.insert(known.id);
            if known.gone == Gone::Present {
                return true;
            }
        }
        match subject {
            SubjectType::Identity => self.identities.push(external_id),
            SubjectType::Group => self.groups.push(external_id),
        }
        false
    }

    /// Whether an object was named as there.
    pub(super) fn names(&self, id: ObjectId) -> bool {
        self.named.contains(id)
    }

    /// The content of an object comes; whether it was named before. That is no second entry of the same id.
    pub(super) fn take(&mut self, id: ObjectId) -> bool {
        self.named.remove(id)
    }

    /// From here on they are read. Answers the identities among them.
    pub(super) fn begin(&mut self) -> Vec<String> {
        self.is_late = !self.identities.is_empty() || !self.groups.is_empty();
        std::mem::take(&mut self.identities)
    }

    /// An object is referred to by other names than before; `was_referred` says whether names were looked up already.
    pub(super) fn renamed(&mut self, was_referred: impl FnOnce() -> bool) {
        self.is_out_of_order = self.is_out_of_order || (self.is_late && was_referred());
    }

    /// Whether a name was looked up before it was known what it leads to.
    pub(super) fn is_out_of_order(&self) -> bool {
        self.is_out_of_order
    }
}
