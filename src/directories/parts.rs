//! The way of a plan to the writer: its parts, and the object numbers that it takes.
//!
//! Owns how much of a plan is on its way at once. All parts stand or fall together ([`Share`]), and nothing is known to
//! be kept before [`Parts::settle`].

use std::{collections::VecDeque, ops::Range};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    db::{Db, Share},
    error::{Error, Result},
    identities::{ObjectId, write},
};

/// Numbers taken from the common space at once: few at first, then twice as many each time. What a run takes and does
/// not use is lost, and a planner has a bit for every number there ever was.
const NUMBERS_FIRST: i64 = 16;
const NUMBERS_MAX: i64 = 16_384;
/// Parts on their way to the writer: enough that neither waits for the other while a group of them is committed. More
/// would pile up in memory (a part is up to half a megabyte).
const WAITING_MAX: usize = 16;

/// What goes to the writer in one piece: well under 50 ms, also over a million objects.
pub(super) const PART_OBJECTS: usize = 400;
pub(super) const PART_CHANGES: usize = 4_000;
const PART_OBJECTS_AMONG_PEOPLE: usize = 100;

pub(super) struct Parts {
    db: Db,
    share: Share,
    waiting: VecDeque<oneshot::Receiver<Result<()>>>,
    numbers: Range<ObjectId>,
    /// The numbers after these, when they have been asked for.
    numbers_ahead: Option<oneshot::Receiver<Result<Range<ObjectId>>>>,
    /// How many are asked for next.
    numbers_next: i64,
}

/// Waits for a part of the plan to be written.
fn answered<T>(part: oneshot::Receiver<Result<T>>) -> Result<T> {
    part.blocking_recv().map_err(|_| Error::internal("the writer stopped in the middle of a plan"))?
}

impl Parts {
    pub(super) fn new(db: Db) -> Self {
        Self {
            db,
            share: Share::new(),
            waiting: VecDeque::new(),
            numbers: 0..0,
            numbers_ahead: None,
            numbers_next: NUMBERS_FIRST,
        }
    }

    /// A number for a new object.
    pub(super) fn number(&mut self) -> Result<ObjectId> {
        if self.numbers.is_empty() {
            let reserved = match self.numbers_ahead.take() {
                Some(reserved) => reserved,
                None => self.reserve_numbers()?,
            };
            self.numbers = answered(reserved)?;
        } else if self.numbers_ahead.is_none() && self.numbers.end - self.numbers.start <= self.numbers_next / 2 {
            // Asked for before they are needed: the writer answers when it commits.
            self.numbers_ahead = Some(self.reserve_numbers()?);
        }
        self.numbers.next().ok_or_else(|| Error::internal("no object numbers are left"))
    }

    fn reserve_numbers(&mut self) -> Result<oneshot::Receiver<Result<Range<ObjectId>>>> {
        let count = self.numbers_next;
        self.numbers_next = (count * 2).min(NUMBERS_MAX);
        self.db.bulk_part(&self.share, move |c| {
            let first = write::reserve_numbers(c, count)?;
            Ok(first..first + count)
        })
    }

    /// How many objects a part should have now.
    pub(super) fn objects_max(&self) -> usize {
        if self.db.is_among_people() { PART_OBJECTS_AMONG_PEOPLE } else { PART_OBJECTS }
    }

    /// Sends one part.
    pub(super) fn send(&mut self, write: impl FnOnce(&Connection) -> Result<()> + Send + 'static) -> Result<()> {
        self.waiting.push_back(self.db.bulk_part(&self.share, write)?);
        Ok(())
    }

    /// Waits while too much is on its way.
    pub(super) fn pause(&mut self) -> Result<()> {
        while self.waiting.len() > WAITING_MAX {
            self.wait_one()?;
        }
        Ok(())
    }

    fn wait_one(&mut self) -> Result<()> {
        self.waiting.pop_front().map_or(Ok(()), answered)
    }

    /// Waits for everything that is on its way: also before a failed run is cleaned up.
    pub(super) fn settle(&mut self) -> Result<()> {
        while !self.waiting.is_empty() {
            self.wait_one()?;
        }
        self.db.bulk_end_blocking(&self.share)
    }
}
