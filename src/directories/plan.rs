//! The plan: compares what a connector reads with the copy, page by page, and stores the differences.
//!
//! Owns the decision of what changed. Memory is bounded by one page, one group's members, and a few bytes per object:
//! its key (for members) and a bit (seen). It reads the copy and writes only the plan; nothing takes effect here.
//! Objects that were not seen are only known after the directory said that this was all: [`Planner::finish`] must not
//! be called for a reading that ended early.

use std::collections::{HashMap, HashSet, VecDeque};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::progress::Progress;
use crate::{
    connectors::{self, Key, Keys, ObservedGroup, ObservedIdentity, Page, Sighting, Unreadable},
    db::Db,
    error::{Error, Result},
    identities::{
        ChangeKind, ObjectId, SubjectType,
        write::{self, Known, NewChange, Staged},
    },
};

/// How many of each there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub read: i64,
    pub added: i64,
    pub changed: i64,
    pub missing: i64,
    pub returned: i64,
    pub members_added: i64,
    pub members_removed: i64,
    pub quarantined: i64,
    pub unchanged: i64,
}

impl Counts {
    /// Objects and memberships that differ.
    pub fn differences(&self) -> i64 {
        self.added + self.changed + self.missing + self.returned + self.members_added + self.members_removed
    }
}

/// Numbers taken from the common space at once: few at first, then twice as many each time. What a run takes and does
/// not use is lost, and [`Seen`] has a bit for every number there ever was.
const NUMBERS_BLOCK_FIRST: i64 = 16;
const NUMBERS_BLOCK_MAX: i64 = 4_096;
/// A part of the plan that goes to the writer as one transaction (well under 50 ms).
const PART_OBJECTS: usize = 400;
const PART_CHANGES: usize = 4_000;
/// Parts on their way to the writer: enough that neither waits for the other while a group of them is committed. More
/// would pile up in memory (a part is about half a megabyte).
const PARTS_WAITING: usize = 16;
const EXTERNAL_ID_BYTES_MAX: usize = 256;
/// Unreadable objects that are listed one by one; beyond, they are only counted.
const QUARANTINE_LISTED_MAX: usize = 10_000;

/// One bit per number: which objects this run has seen.
#[derive(Default)]
struct Seen(Vec<u64>);

impl Seen {
    /// Marks `id`; `false` when it was marked already.
    fn insert(&mut self, id: ObjectId) -> bool {
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

    fn contains(&self, id: ObjectId) -> bool {
        let id = usize::try_from(id).unwrap_or(0);
        self.0.get(id / 64).is_some_and(|word| word & (1 << (id % 64)) != 0)
    }
}

/// An object that could not be taken.
#[derive(Debug)]
pub struct Quarantined {
    pub external_id: Option<String>,
    pub name: String,
    pub reason: String,
}

/// Makes the plan of one run.
pub struct Planner {
    db: Db,
    run: i64,
    directory: i64,
    progress: std::sync::Arc<Progress>,
    pub counts: Counts,
    numbers: std::ops::Range<ObjectId>,
    numbers_block: i64,
    seen: Seen,
    /// The ids that are new in this run: two entries with one id must not both be added.
    new_ids: HashSet<write::Hash>,
    /// What members refer to, for everything seen in this run.
    keys: HashMap<Key, ObjectId>,
    /// Member values without an object, found or made in this run.
    references: HashMap<Key, ObjectId>,
    groups: HashMap<String, GroupSeen>,
    staged: Vec<Staged>,
    changes: Vec<NewChange>,
    quarantined: Vec<Quarantined>,
    waiting: VecDeque<oneshot::Receiver<Result<()>>>,
}

struct GroupSeen {
    id: ObjectId,
    known: Option<Known>,
    is_read: bool,
}

impl Planner {
    pub fn new(db: Db, run: i64, directory: i64, progress: std::sync::Arc<Progress>) -> Self {
        Self {
            db,
            run,
            directory,
            progress,
            counts: Counts::default(),
            numbers: 0..0,
            numbers_block: NUMBERS_BLOCK_FIRST,
            seen: Seen::default(),
            new_ids: HashSet::new(),
            keys: HashMap::new(),
            references: HashMap::new(),
            groups: HashMap::new(),
            staged: Vec::new(),
            changes: Vec::new(),
            quarantined: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    fn number(&mut self) -> Result<ObjectId> {
        if let Some(id) = self.numbers.next() {
            return Ok(id);
        }
        let count = self.numbers_block;
        self.numbers_block = (count * 2).min(NUMBERS_BLOCK_MAX);
        let first = self.db.bulk_blocking(move |c| write::reserve_numbers(c, count))?;
        self.numbers = first..first + count;
        self.numbers.next().ok_or_else(|| Error::internal("no object numbers are left"))
    }

    /// Takes one page. One read transaction, so that the copy is looked at in one state.
    pub fn page(&mut self, mut page: Page) -> Result<()> {
        let db = self.db.clone();
        db.read_blocking(|connection| {
            for (index, sighting) in page.sightings.into_iter().enumerate() {
                let unreadable = match sighting {
                    Sighting::Identity { .. } => match page.content.identity(index) {
                        Ok(identity) => {
                            self.identity(connection, identity)?;
                            continue;
                        }
                        Err(unreadable) => unreadable,
                    },
                    Sighting::Group { .. } => match page.content.group(index) {
                        Ok(group) => {
                            self.group(connection, group)?;
                            continue;
                        }
                        Err(unreadable) => unreadable,
                    },
                    Sighting::GroupSeen { external_id, keys } => {
                        self.group_seen(connection, external_id, keys)?;
                        continue;
                    }
                    Sighting::Present { .. } | Sighting::Deleted { .. } => continue,
                    Sighting::Unreadable(unreadable) => unreadable,
                };
                let Unreadable { external_id, name, reason } = unreadable;
                self.counts.read += 1;
                self.unreadable(connection, external_id, name, reason)?;
            }
            Ok(())
        })?;
        self.progress.read(self.counts);
        if self.staged.len() >= PART_OBJECTS || self.changes.len() >= PART_CHANGES {
            self.flush()?;
        }
        Ok(())
    }

    fn remember(&mut self, keys: Keys, id: ObjectId) {
        for key in [keys.dn, keys.name].into_iter().flatten() {
            self.keys.insert(key, id);
        }
    }

    fn unreadable(
        &mut self,
        connection: &Connection,
        external_id: Option<String>,
        name: String,
        reason: String,
    ) -> Result<()> {
        self.counts.quarantined += 1;
        // It exists, we just cannot read it: it must not be taken for missing, nor fall out of its groups. Without a
        // readable id it is known by its DN, which is what the connector calls it.
        let known = match &external_id {
            Some(external_id) => write::find_by_external_id(connection, self.directory, external_id)?,
            None => None,
        };
        let known = match (known, connectors::dn_key(&name)) {
            (None, Some(key)) => write::find_by_dn(connection, self.directory, key)?,
            (known, _) => known,
        };
        if let Some((id, keys)) = known {
            self.seen.insert(id);
            self.remember(keys, id);
        }
        if self.quarantined.len() < QUARANTINE_LISTED_MAX {
            self.quarantined.push(Quarantined { external_id, name, reason });
        }
        Ok(())
    }

    fn identity(&mut self, connection: &Connection, observed: ObservedIdentity) -> Result<()> {
        self.counts.read += 1;
        let ObservedIdentity { external_id, keys, fields } = observed;
        if external_id.is_empty() || external_id.len() > EXTERNAL_ID_BYTES_MAX {
            let reason = format!("its id is empty or longer than {EXTERNAL_ID_BYTES_MAX} bytes");
            return self.unreadable(connection, None, fields.user_name, reason);
        }
        let (json, hash) = write::identity_content(&fields, &keys)?;
        let known = write::find_identity(connection, self.directory, &external_id)?;
        if known.is_none() && !self.new_ids.insert(write::short_hash(external_id.as_bytes())) {
            let reason = "another entry of this run has the same id".to_owned();
            return self.unreadable(connection, None, fields.user_name, reason);
        }
        let id = match &known {
            Some(known) => known.id,
            None => self.number()?,
        };
        if !self.seen.insert(id) {
            let reason = "another entry of this run has the same id".to_owned();
            return self.unreadable(connection, Some(external_id), fields.user_name, reason);
        }
        self.remember(keys, id);
        let (subject, is_new) = (SubjectType::Identity, known.is_none());
        match known {
            None => {
                self.counts.added += 1;
                let name = fields.display_name.clone().unwrap_or_else(|| fields.user_name.clone());
                self.line(
                    subject,
                    id,
                    ChangeKind::Added,
                    None,
                    None,
                    Some(serde_json::Value::String(name).to_string()),
                );
            }
            Some(known) if known.content_hash == hash && !known.is_gone => {
                self.counts.unchanged += 1;
                return Ok(());
            }
            Some(known) => {
                let differs = known.content_hash != hash && {
                    let before = write::identity_fields(connection, id)?;
                    self.differences(subject, id, &before, &json)?
                };
                self.count_known(subject, id, known.is_gone, differs);
            }
        }
        self.staged.push(Staged::identity(id, external_id, keys, fields, json, hash).new_to_copy(is_new));
        Ok(())
    }

    fn group_seen(&mut self, connection: &Connection, external_id: String, keys: Keys) -> Result<()> {
        if external_id.is_empty() || external_id.len() > EXTERNAL_ID_BYTES_MAX || self.groups.contains_key(&external_id)
        {
            // Counted and listed when its content comes.
            return Ok(());
        }
        let known = write::find_group(connection, self.directory, &external_id)?;
        let id = match &known {
            Some(known) => known.id,
            None => self.number()?,
        };
        self.seen.insert(id);
        self.remember(keys, id);
        self.groups.insert(external_id, GroupSeen { id, known, is_read: false });
        Ok(())
    }

    fn group(&mut self, connection: &Connection, observed: ObservedGroup) -> Result<()> {
        self.counts.read += 1;
        let ObservedGroup { external_id, keys, fields, members } = observed;
        if !self.groups.contains_key(&external_id) {
            // Made between the two readings of the groups.
            self.group_seen(connection, external_id.clone(), keys)?;
        }
        let Some(group) = self.groups.get_mut(&external_id) else {
            let reason = format!("its id is empty or longer than {EXTERNAL_ID_BYTES_MAX} bytes");
            return self.unreadable(connection, None, fields.name, reason);
        };
        if std::mem::replace(&mut group.is_read, true) {
            let reason = "another group of this run has the same id".to_owned();
            return self.unreadable(connection, Some(external_id), fields.name, reason);
        }
        let (id, known) = (group.id, group.known.take());
        let mut ids = Vec::with_capacity(members.len());
        for member in members {
            ids.push(match self.keys.get(&member.key) {
                Some(id) => *id,
                None => self.reference(connection, member.key, member.text)?,
            });
        }
        ids.sort_unstable();
        ids.dedup();
        let member_hash = write::member_hash(&ids);
        let count = i64::try_from(ids.len()).unwrap_or(i64::MAX);
        let (json, hash) = write::group_content(&fields, &keys)?;
        let (subject, is_new) = (SubjectType::Group, known.is_none());
        match known {
            None => {
                self.counts.added += 1;
                let name = serde_json::Value::String(fields.name.clone()).to_string();
                self.line(subject, id, ChangeKind::Added, None, None, Some(name));
                self.counts.members_added += count;
                for member in ids {
                    self.member_line(id, ChangeKind::MemberAdded, member);
                }
            }
            Some(known) => {
                let same_members = known.member_hash == Some(member_hash);
                if known.content_hash == hash && same_members && !known.is_gone {
                    self.counts.unchanged += 1;
                    return Ok(());
                }
                let mut differs = known.content_hash != hash && {
                    let before = write::group_fields(connection, id)?;
                    self.differences(subject, id, &before, &json)?
                };
                if !same_members {
                    differs = true;
                    let before = write::members_now(connection, id)?;
                    self.member_differences(id, &before, &ids);
                }
                self.count_known(subject, id, known.is_gone, differs);
            }
        }
        self.staged
            .push(Staged::group(id, external_id, keys, fields, json, hash, (member_hash, count)).new_to_copy(is_new));
        if self.changes.len() >= PART_CHANGES {
            self.flush()?;
        }
        Ok(())
    }

    /// A known object that is staged: returned, changed, or neither (only derived columns differ).
    fn count_known(&mut self, subject: SubjectType, id: ObjectId, is_gone: bool, differs: bool) {
        if is_gone {
            self.counts.returned += 1;
            self.line(subject, id, ChangeKind::Returned, None, None, None);
        } else if differs {
            self.counts.changed += 1;
        } else {
            self.counts.unchanged += 1;
        }
    }

    fn reference(&mut self, connection: &Connection, key: Key, text: String) -> Result<ObjectId> {
        if let Some(id) = self.references.get(&key) {
            return Ok(*id);
        }
        let id = match write::find_reference(connection, self.directory, key)? {
            Some(id) => id,
            None => {
                let id = self.number()?;
                self.staged.push(Staged::reference(id, key, text));
                id
            }
        };
        self.references.insert(key, id);
        Ok(id)
    }

    fn line(
        &mut self,
        subject_type: SubjectType,
        subject_id: ObjectId,
        kind: ChangeKind,
        field: Option<String>,
        before: Option<String>,
        after: Option<String>,
    ) {
        self.changes.push(NewChange { subject_type, subject_id, kind, field, before, after });
    }

    fn member_line(&mut self, group: ObjectId, kind: ChangeKind, member: ObjectId) {
        let value = Some(format!("\"{member}\""));
        let (before, after) = if kind == ChangeKind::MemberAdded { (None, value) } else { (value, None) };
        self.line(SubjectType::Group, group, kind, Some("members".into()), before, after);
    }

    fn differences(&mut self, subject: SubjectType, id: ObjectId, before: &str, after: &str) -> Result<bool> {
        let found = write::differences(before, after)?;
        let differs = !found.is_empty();
        for (field, before, after) in found {
            self.line(subject, id, ChangeKind::Changed, Some(field), before, after);
        }
        Ok(differs)
    }

    /// Both ascending and without doubles.
    fn member_differences(&mut self, group: ObjectId, before: &[ObjectId], after: &[ObjectId]) {
        let (mut old, mut new) = (before.iter().copied().peekable(), after.iter().copied().peekable());
        loop {
            match (old.peek().copied(), new.peek().copied()) {
                (None, None) => break,
                (Some(a), Some(b)) if a == b => {
                    old.next();
                    new.next();
                }
                (Some(a), b) if b.is_none_or(|b| a < b) => {
                    old.next();
                    self.counts.members_removed += 1;
                    self.member_line(group, ChangeKind::MemberRemoved, a);
                }
                (_, Some(b)) => {
                    new.next();
                    self.counts.members_added += 1;
                    self.member_line(group, ChangeKind::MemberAdded, b);
                }
                (Some(_), None) => break,
            }
        }
    }

    /// Sends what has gathered to the writer, and waits only when too much is on its way.
    fn flush(&mut self) -> Result<()> {
        let (staged, changes) = (std::mem::take(&mut self.staged), std::mem::take(&mut self.changes));
        let run = self.run;
        if !staged.is_empty() || !changes.is_empty() {
            let mut staged = staged.into_iter();
            let mut changes = changes.into_iter();
            loop {
                let objects: Vec<_> = staged.by_ref().take(PART_OBJECTS).collect();
                let lines: Vec<_> = changes.by_ref().take(PART_CHANGES).collect();
                if objects.is_empty() && lines.is_empty() {
                    break;
                }
                self.waiting.push_back(self.db.bulk_queued(move |c| write::insert_plan(c, run, &objects, &lines))?);
            }
        }
        while self.waiting.len() > PARTS_WAITING {
            self.wait_one()?;
        }
        Ok(())
    }

    fn wait_one(&mut self) -> Result<()> {
        match self.waiting.pop_front() {
            Some(part) => {
                part.blocking_recv().map_err(|_| Error::internal("the writer stopped in the middle of a plan"))?
            }
            None => Ok(()),
        }
    }

    /// After a complete reading: what was not seen is missing; everything is stored.
    pub fn finish(mut self) -> Result<(Counts, Vec<Quarantined>)> {
        let db = self.db.clone();
        let mut missing = Vec::new();
        db.read_blocking(|connection| {
            write::each_present(connection, self.directory, |subject, id| {
                if !self.seen.contains(id) {
                    missing.push((subject, id));
                }
                Ok(())
            })
        })?;
        for (subject, id) in missing {
            self.counts.missing += 1;
            self.line(subject, id, ChangeKind::Missing, None, None, None);
            if self.changes.len() >= PART_CHANGES {
                self.flush()?;
            }
        }
        self.flush()?;
        self.settle()?;
        self.progress.read(self.counts);
        Ok((self.counts, std::mem::take(&mut self.quarantined)))
    }

    /// Waits for everything that is on its way to the writer: also before a failed run is cleaned up.
    pub fn settle(&mut self) -> Result<()> {
        while !self.waiting.is_empty() {
            self.wait_one()?;
        }
        Ok(())
    }
}
