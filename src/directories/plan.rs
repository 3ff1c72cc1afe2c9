//! The plan: compares what a connector sees with the copy, page by page, and stores the differences.
//!
//! Owns the decision of what changed. Memory is bounded by one page, one group's members, and a few bytes per object:
//! a bit (seen), and its key while it is new. It reads the copy and writes only the plan; nothing takes effect here.
//! Objects that were not seen are only known after the directory said that this was all: [`Planner::finish`] must not
//! be called for a reading that ended early.
//!
//! What makes it fast is what it does not do. An object whose source is the one that the copy knows is not even mapped;
//! a group like that is skipped with all its members, unless what its members' names lead to may have changed in this
//! run (it is then called affected). A name leads to an object that is there, else to one that is missing, else
//! to a reference.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use rusqlite::Connection;

pub use super::counts::{Aim, Counts, Listed, Quarantined};
use super::{
    follow::{Ahead, GroupSeen, Seen, Unread},
    keyed::Keyed,
    parts::{PART_CHANGES, PART_OBJECTS, Parts},
    progress::Progress,
};
use crate::{
    connectors::{self, Content, Key, Keys, ObservedGroup, ObservedIdentity, Page, Sighting, Source, Unreadable},
    db::Db,
    error::{Error, Result},
    identities::{
        ChangeKind, ObjectId, SubjectType,
        handles::{self, Hash},
        lookup::{self, Gone, Known},
        plans::Digest,
        staged::{self, Named, SearchText, Staged},
        write::{self, Merging, NewChange, Target},
    },
};

/// Words of objects that are written together (about 5 ms).
const PART_TEXTS: usize = 1_000;
/// After so many of them pieces of the search index are merged, where there are many: about twice what was written.
const TEXT_PARTS_PER_MERGE: usize = 16;
const MERGES: usize = 20;
/// Pages of one of these (about 5 ms).
const MERGE_PAGES: i64 = 16;
/// Handles that are written together.
const PART_HANDLES: usize = 8_000;
/// Handles that are sorted together (10 MB): the more there are, the fewer pages of the table are touched for each.
const HANDLES_MAX: usize = 400_000;
const EXTERNAL_ID_BYTES_MAX: usize = 256;
/// Unreadable objects that are listed one by one; beyond, they are only counted.
const QUARANTINE_LISTED_MAX: usize = 10_000;

/// Makes the plan of one run.
pub struct Planner {
    db: Db,
    parts: Parts,
    aim: Aim,
    progress: Arc<Progress>,
    pub counts: Counts,
    seen: Seen,
    ahead: Ahead,
    pub(super) unread: Unread,
    /// The ids that are new in this run, as handles: two entries with one id must not both be added.
    new_ids: Keyed,
    /// Names that lead somewhere else since this run began: to a new object, or to one whose name changed.
    gained: Keyed,
    gained_max: usize,
    /// `new_ids` and `gained` were emptied: the rest has to be looked up.
    has_forgotten: bool,
    /// Handles of objects that are written in place.
    handles: Vec<(Hash, ObjectId)>,
    /// Names that objects of the copy have given up in this run.
    lost: Keyed,
    /// Objects whose memberships need a look, because of `lost` or because they went missing.
    unsettled: Vec<ObjectId>,
    /// Member values without an object, found or made in this run.
    references: Keyed,
    groups: HashMap<String, GroupSeen>,
    /// Groups that must be looked at though their source is unchanged; known once all identities have been seen.
    affected: Option<BTreeSet<ObjectId>>,
    staged: Vec<Staged>,
    /// Of objects that were written in place.
    texts: Vec<SearchText>,
    /// Parts with words since pieces of the search index were merged.
    text_parts: usize,
    changes: Vec<NewChange>,
    quarantined: Vec<Quarantined>,
    scratch: Vec<u8>,
    /// The lines are hashed instead of written.
    digest: Option<Digest>,
}

/// What there is under an external id.
enum Found {
    Known(Known),
    /// Nothing yet; the handle that it makes.
    New(Key),
}

impl Found {
    fn known(&self) -> Option<Known> {
        match self {
            Self::Known(known) => Some(*known),
            Self::New(_) => None,
        }
    }
}

/// New names kept in memory while their objects can be looked up in the copy instead (a plan that is written in place).
const GAINED_MAX: usize = 400_000;

impl Planner {
    pub fn new(db: Db, aim: Aim, progress: Arc<Progress>) -> Self {
        Self {
            parts: Parts::new(db.clone()),
            db,
            aim,
            progress,
            counts: Counts::default(),
            seen: Seen::default(),
            ahead: Ahead::default(),
            unread: Unread::default(),
            new_ids: Keyed::default(),
            gained: Keyed::default(),
            gained_max: GAINED_MAX,
            has_forgotten: false,
            handles: Vec::new(),
            lost: Keyed::default(),
            unsettled: Vec::new(),
            references: Keyed::default(),
            groups: HashMap::new(),
            affected: None,
            staged: Vec::new(),
            texts: Vec::new(),
            text_parts: 0,
            changes: Vec::new(),
            quarantined: Vec::new(),
            scratch: Vec::new(),
            digest: None,
        }
    }

    #[cfg(test)]
    pub(super) fn remembering(self, gained_max: usize) -> Self {
        Self { gained_max, ..self }
    }

    /// A plan that is not written, only hashed: see [`Planner::digest`].
    #[must_use]
    pub fn only_hashing(mut self) -> Self {
        self.digest = Some(Digest::default());
        self
    }

    /// The hash of a plan that is [`only_hashing`](Self::only_hashing), after [`complete`](Self::complete).
    pub fn digest(&mut self) -> Option<[u8; 32]> {
        self.digest.take().map(Digest::finish)
    }

    /// Takes one page.
    pub fn page(&mut self, page: Page) -> Result<()> {
        let Page { mut sightings, mut content } = page;
        let is_group = |sighting: &Sighting| matches!(sighting, Sighting::Group { .. });
        let first_group = match self.affected {
            None => sightings.iter().position(is_group),
            Some(_) => None,
        };
        let mut done = 0;
        if let Some(first_group) = first_group {
            // What members' names lead to is only known once everything before has been seen.
            let groups = sightings.split_off(first_group);
            self.look(sightings, done, content.as_mut())?;
            self.settle_names()?;
            (sightings, done) = (groups, first_group);
        }
        self.look(sightings, done, content.as_mut())?;
        self.progress.read(self.counts);
        // Groups that were only seen can't be looked up before they are written: from there on nothing is forgotten.
        if self.aim.in_place_at.is_some() && self.gained.len() > self.gained_max && self.groups.is_empty() {
            self.flush()?;
            self.flush_handles()?;
            self.settle()?;
            self.gained = Keyed::default();
            self.new_ids = Keyed::default();
            self.has_forgotten = true;
        }
        Ok(())
    }

    /// Takes sightings of a page from number `first` on.
    fn look(&mut self, sightings: Vec<Sighting>, first: usize, content: &mut dyn Content) -> Result<()> {
        let db = self.db.clone();
        let mut sightings = sightings.into_iter().enumerate();
        while sightings.len() > 0 {
            db.read_blocking(|connection| {
                for (index, sighting) in sightings.by_ref() {
                    self.sighting(connection, sighting, first + index, content)?;
                    if self.has_part() {
                        break;
                    }
                }
                Ok(())
            })?;
            if self.has_part() {
                // With no snapshot of the copy open: the log can't be started anew under a reader (see `db`).
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Enough has gathered for a part.
    fn has_part(&self) -> bool {
        self.staged.len() >= self.parts.objects_max() || self.changes.len() >= PART_CHANGES
    }

    fn sighting(
        &mut self,
        connection: &Connection,
        sighting: Sighting,
        index: usize,
        content: &mut dyn Content,
    ) -> Result<()> {
        match sighting {
            Sighting::Identity { external_id, source } => {
                self.counts.read += 1;
                self.identity(connection, external_id, source, || content.identity(index))
            }
            Sighting::GroupSeen { external_id, keys } => self.group_seen(connection, external_id, keys),
            Sighting::Group { external_id, source } => {
                self.counts.read += 1;
                self.group(connection, external_id, source, || content.group(index))
            }
            Sighting::Present { subject, external_id } => {
                let known = lookup::find(connection, self.aim.directory, subject, &external_id)?;
                if let (true, Some(known)) = (self.unread.note(known, subject, external_id), known) {
                    self.seen.insert(known.id);
                }
                Ok(())
            }
            Sighting::Deleted { subject, external_id } => self.deleted(connection, subject, &external_id),
            Sighting::Unreadable(unreadable) => {
                self.counts.read += 1;
                self.unreadable(connection, unreadable)
            }
        }
    }

    fn unreadable(&mut self, connection: &Connection, unreadable: Unreadable) -> Result<()> {
        let Unreadable { external_id, name, reason } = unreadable;
        self.counts.quarantined += 1;
        // It exists, we just cannot read it: it must not be taken for missing, nor fall out of its groups. Without a
        // readable id it is known by its DN, which is what the connector calls it.
        let mut found = false;
        if let Some(external_id) = &external_id {
            for subject in [SubjectType::Identity, SubjectType::Group] {
                if let Some(known) = lookup::find(connection, self.aim.directory, subject, external_id)? {
                    self.seen.insert(known.id);
                    found = true;
                }
            }
        }
        if !found && let Some(key) = connectors::dn_key(&name) {
            for id in lookup::by_key(connection, self.aim.directory, key)? {
                self.seen.insert(id);
            }
        }
        if self.quarantined.len() < QUARANTINE_LISTED_MAX {
            self.quarantined.push(Quarantined { external_id, name, reason });
        }
        Ok(())
    }

    /// What the copy, or this run, knows under an external id. The inner error says why it cannot be one, or that another
    /// entry of this run has it.
    fn known(
        &mut self,
        connection: &Connection,
        subject: SubjectType,
        external_id: &str,
    ) -> Result<std::result::Result<Found, &'static str>> {
        const TWICE: &str = "another entry of this run has the same id";
        if external_id.is_empty() || external_id.len() > EXTERNAL_ID_BYTES_MAX {
            return Ok(Err("its id is empty or longer than 256 bytes"));
        }
        // In a plan that is written in place everything is new, and remembered until there is too much of it.
        let is_remembered = self.aim.in_place_at.is_some() && !self.has_forgotten;
        let known = match is_remembered {
            true => None,
            false => self.ahead.find(connection, self.aim.directory, subject, external_id)?,
        };
        if let Some(known) = known {
            let is_first = self.unread.take(known.id) | self.seen.insert(known.id);
            return Ok(if is_first { Ok(Found::Known(known)) } else { Err(TWICE) });
        }
        let handle = handles::of_id(self.aim.directory, subject, external_id);
        Ok(if self.new_ids.insert(handle.0, 0) { Ok(Found::New(handle)) } else { Err(TWICE) })
    }

    /// The number of an object: a new one where there was none.
    fn number_of(&mut self, found: &Found) -> Result<ObjectId> {
        match found {
            Found::Known(known) => Ok(known.id),
            Found::New(_) => self.parts.number(),
        }
    }

    /// Notes what an object is referred to by from now on; `before` is what the copy knows.
    fn name(&mut self, connection: &Connection, id: ObjectId, keys: Keys, before: Option<Keys>) -> Result<()> {
        if let Some(before) = before {
            if before == keys {
                return Ok(());
            }
            for key in [before.dn, before.name].into_iter().flatten() {
                self.lost.insert(key.0, id);
            }
            self.unsettled.push(id);
        }
        self.unread.renamed(|| self.groups.values().any(|group| group.is_read));
        for key in [keys.dn, keys.name].into_iter().flatten() {
            self.gained.insert(key.0, id);
            // Who named it before it was there named a reference.
            if self.aim.in_place_at.is_none()
                && let Some(reference) = lookup::reference(connection, self.aim.directory, key)?
            {
                self.unsettled.push(reference);
            }
        }
        Ok(())
    }

    fn identity(
        &mut self,
        connection: &Connection,
        external_id: String,
        source: Source,
        observe: impl FnOnce() -> std::result::Result<ObservedIdentity, Unreadable>,
    ) -> Result<()> {
        let subject = SubjectType::Identity;
        let found = match self.known(connection, subject, &external_id)? {
            Ok(found) => found,
            Err(reason) => {
                let name = match observe() {
                    Ok(observed) => observed.fields.user_name,
                    Err(unreadable) => unreadable.name,
                };
                let unreadable = Unreadable { external_id: None, name, reason: reason.to_owned() };
                return self.unreadable(connection, unreadable);
            }
        };
        let known = found.known();
        if known.is_some_and(|known| known.source == source && known.gone == Gone::Present) {
            self.counts.unchanged += 1;
            return Ok(());
        }
        let ObservedIdentity { keys, fields, .. } = match observe() {
            Ok(observed) => observed,
            Err(unreadable) => return self.unreadable(connection, unreadable),
        };
        let json = self.json(&fields)?;
        let id = self.number_of(&found)?;
        self.seen.insert(id);
        let before = known.map(|known| lookup::keys(connection, subject, known.id)).transpose()?;
        let mut words_of = None;
        match known {
            None => {
                self.name(connection, id, keys, None)?;
                self.counts.added += 1;
                let name = fields.display_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&fields.user_name);
                self.added(subject, id, name)?;
            }
            Some(known) => {
                // A tombstone's name leads nowhere: it is gained when the object comes back.
                self.name(connection, id, keys, before.filter(|_| known.gone != Gone::Removed))?;
                let content = lookup::content(connection, subject, id)?;
                let differs = content != json && self.differences(subject, id, &content, &json)?;
                self.count_known(subject, id, known.gone != Gone::Present, differs);
                words_of = (known.gone != Gone::Removed).then_some(content);
            }
        }
        if let Found::New(handle) = found {
            self.handled(id, handle, keys);
        }
        let named = Named { object_id: id, is_new: known.is_none(), external_id, source, keys };
        let identity = Staged::identity(named, fields, json);
        self.staged.push(identity.without_words_of(words_of.as_deref())?);
        Ok(())
    }

    fn group_seen(&mut self, connection: &Connection, external_id: String, keys: Keys) -> Result<()> {
        if self.groups.contains_key(&external_id) {
            // Counted and listed when its content comes.
            return Ok(());
        }
        // Also when its content comes: an id that cannot be one.
        let Ok(found) = self.known(connection, SubjectType::Group, &external_id)? else { return Ok(()) };
        let (id, known) = (self.number_of(&found)?, found.known());
        self.seen.insert(id);
        let before = match known {
            Some(known) if known.gone != Gone::Removed => Some(lookup::keys(connection, SubjectType::Group, known.id)?),
            _ => None,
        };
        self.name(connection, id, keys, before)?;
        self.groups.insert(external_id, GroupSeen { id, known, is_read: false });
        Ok(())
    }

    fn group(
        &mut self,
        connection: &Connection,
        external_id: String,
        source: Source,
        observe: impl FnOnce() -> std::result::Result<ObservedGroup, Unreadable>,
    ) -> Result<()> {
        let subject = SubjectType::Group;
        let mut observed = None;
        let mut observe = Some(observe);
        if !self.groups.contains_key(&external_id) {
            // Made between the two readings of the groups.
            match observe.take().map(|observe| observe()) {
                Some(Ok(group)) => {
                    self.group_seen(connection, external_id.clone(), group.keys)?;
                    observed = Some(group);
                }
                Some(Err(unreadable)) => return self.unreadable(connection, unreadable),
                None => {}
            }
        }
        let twice = match self.groups.get_mut(&external_id) {
            Some(group) => {
                std::mem::replace(&mut group.is_read, true).then_some("another group of this run has the same id")
            }
            None => Some("its id is empty, longer than 256 bytes, or that of another entry of this run"),
        };
        if let Some(reason) = twice {
            let name = match (observed, observe) {
                (Some(group), _) => group.fields.name,
                (None, Some(observe)) => observe().map_or_else(|unreadable| unreadable.name, |group| group.fields.name),
                (None, None) => String::new(),
            };
            return self.unreadable(connection, Unreadable { external_id: None, name, reason: reason.to_owned() });
        }
        let Some(&GroupSeen { id, known, .. }) = self.groups.get(&external_id) else { return Ok(()) };
        let is_affected = self.affected.as_ref().is_some_and(|affected| affected.contains(&id));
        if known.is_some_and(|known| known.source == source && known.gone == Gone::Present) && !is_affected {
            self.counts.unchanged += 1;
            return Ok(());
        }
        let observed = match (observed, observe) {
            (Some(group), _) => Ok(group),
            (None, Some(observe)) => observe(),
            (None, None) => return Ok(()),
        };
        let ObservedGroup { keys, fields, mut members, .. } = match observed {
            Ok(group) => group,
            Err(unreadable) => return self.unreadable(connection, unreadable),
        };
        // In the order of the index that they are looked up in.
        members.sort_unstable_by_key(|member| member.key);
        let mut ids = Vec::with_capacity(members.len());
        for member in members {
            ids.push(self.resolve(connection, member.key, member.text)?);
        }
        ids.sort_unstable();
        ids.dedup();
        let count = i64::try_from(ids.len()).unwrap_or(i64::MAX);
        let json = self.json(&fields)?;
        let mut words_of = None;
        match known {
            None => {
                self.counts.added += 1;
                self.added(subject, id, &fields.name)?;
                self.counts.members_added += count;
                for member in ids {
                    self.member_line(id, ChangeKind::MemberAdded, member);
                }
            }
            Some(known) => {
                let before = lookup::members_now(connection, id)?;
                let same_members = before == ids;
                if known.source == source && same_members && known.gone == Gone::Present {
                    self.counts.unchanged += 1;
                    return Ok(());
                }
                let content = lookup::content(connection, subject, id)?;
                let mut differs = content != json && self.differences(subject, id, &content, &json)?;
                if !same_members {
                    differs = true;
                    self.member_differences(id, &before, &ids);
                }
                self.count_known(subject, id, known.gone != Gone::Present, differs);
                words_of = (known.gone != Gone::Removed).then_some(content);
            }
        }
        if known.is_none() {
            self.handled(id, handles::of_id(self.aim.directory, subject, &external_id), keys);
        }
        let named = Named { object_id: id, is_new: known.is_none(), external_id, source, keys };
        let group = Staged::group(named, fields, json, count);
        self.staged.push(group.without_words_of(words_of.as_deref())?);
        Ok(())
    }

    /// The directory says that an object is gone (a delta).
    fn deleted(&mut self, connection: &Connection, subject: SubjectType, external_id: &str) -> Result<()> {
        if let Some(known) = lookup::find(connection, self.aim.directory, subject, external_id)?
            && known.gone == Gone::Present
            && self.seen.insert(known.id)
        {
            self.missing(subject, known.id);
            // Its groups may have changed without a word: OpenLDAP's refint does not tell (RFC 4533 has no way to).
            self.unsettled.push(known.id);
        }
        Ok(())
    }

    fn missing(&mut self, subject: SubjectType, id: ObjectId) {
        self.counts.missing += 1;
        self.line(subject, id, ChangeKind::Missing);
    }

    /// A known object that is staged: returned, changed, or neither (only derived columns differ).
    fn count_known(&mut self, subject: SubjectType, id: ObjectId, is_gone: bool, differs: bool) {
        if is_gone {
            self.counts.returned += 1;
            self.line(subject, id, ChangeKind::Returned);
        } else if differs {
            self.counts.changed += 1;
        } else {
            self.counts.unchanged += 1;
        }
    }

    /// What a member's name leads to.
    fn resolve(&mut self, connection: &Connection, key: Key, text: String) -> Result<ObjectId> {
        if let Some(id) = self.gained.get(&key.0) {
            return Ok(id);
        }
        for id in lookup::by_key(connection, self.aim.directory, key)? {
            if self.lost.get(&key.0) != Some(id) {
                return Ok(id);
            }
        }
        if let Some(id) = self.references.get(&key.0) {
            return Ok(id);
        }
        let id = match lookup::reference(connection, self.aim.directory, key)? {
            Some(id) => id,
            None => {
                let id = self.parts.number()?;
                self.staged.push(Staged::reference(id, key, text));
                id
            }
        };
        self.references.insert(key.0, id);
        Ok(id)
    }

    /// All identities and the names of all groups have been seen: which groups may have other members though they are
    /// unchanged themselves?
    fn settle_names(&mut self) -> Result<()> {
        if self.aim.in_place_at.is_some() {
            // Names of more objects than are kept in memory are looked up, so they must be there.
            self.flush()?;
            self.flush_handles()?;
            if self.has_forgotten {
                self.settle()?;
            }
            self.affected = Some(BTreeSet::new());
            return Ok(());
        }
        for subject in [SubjectType::Identity, SubjectType::Group] {
            self.remove_long_missing(subject)?;
        }
        self.affected = Some(self.groups_with_unsettled()?);
        Ok(())
    }

    fn groups_with_unsettled(&self) -> Result<BTreeSet<ObjectId>> {
        let mut groups = BTreeSet::new();
        self.db.read_blocking(|connection| {
            self.unsettled.iter().try_for_each(|id| lookup::add_groups_of(connection, *id, &mut groups))
        })?;
        Ok(groups)
    }

    /// What has been missing for the grace time and was not seen in this run becomes a tombstone.
    fn remove_long_missing(&mut self, subject: SubjectType) -> Result<()> {
        let Some(cutoff) = self.aim.remove_missing_since else { return Ok(()) };
        let db = self.db.clone();
        db.read_blocking(|connection| {
            for id in lookup::missing_before(connection, self.aim.directory, subject, cutoff)? {
                if self.unread.names(id) || !self.seen.insert(id) {
                    continue;
                }
                self.counts.removed += 1;
                self.line(subject, id, ChangeKind::Removed);
                let keys = lookup::keys(connection, subject, id)?;
                for key in [keys.dn, keys.name].into_iter().flatten() {
                    self.lost.insert(key.0, id);
                }
                self.unsettled.push(id);
            }
            Ok(())
        })
    }

    fn line(&mut self, subject: SubjectType, id: ObjectId, kind: ChangeKind) {
        self.changes.push(NewChange::of(subject, id, kind));
    }

    /// With its name: a plan that is thrown away can still be read.
    fn added(&mut self, subject: SubjectType, id: ObjectId, name: &str) -> Result<()> {
        let after = Some(serde_json::to_string(name)?);
        self.changes.push(NewChange { after, ..NewChange::of(subject, id, ChangeKind::Added) });
        Ok(())
    }

    /// JSON in memory of its own size, not of one that it grew to.
    fn json(&mut self, fields: &impl serde::Serialize) -> Result<String> {
        self.scratch.clear();
        serde_json::to_writer(&mut self.scratch, fields)?;
        Ok(std::str::from_utf8(&self.scratch).map_err(|e| Error::caused("JSON that is not UTF-8", e))?.to_owned())
    }

    fn member_line(&mut self, group: ObjectId, kind: ChangeKind, member: ObjectId) {
        self.changes.push(NewChange::member(group, kind, member));
    }

    fn differences(&mut self, subject: SubjectType, id: ObjectId, before: &str, after: &str) -> Result<bool> {
        let found = staged::differences(before, after)?;
        let differs = !found.is_empty();
        self.changes.extend(found.into_iter().map(|difference| NewChange::field(subject, id, difference)));
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
        if let Some(digest) = &mut self.digest {
            changes.iter().for_each(|change| digest.change(change));
            return Ok(());
        }
        let Aim { run, directory, in_place_at, .. } = self.aim;
        let mut staged = staged;
        if in_place_at.is_some() {
            self.texts.extend(staged.iter_mut().filter_map(Staged::take_search_text));
            if self.texts.len() >= PART_TEXTS {
                self.flush_texts()?;
            }
        }
        let (mut staged, mut changes) = (staged.into_iter(), changes.into_iter());
        loop {
            let objects: Vec<_> = staged.by_ref().take(PART_OBJECTS).collect();
            let lines: Vec<_> = changes.by_ref().take(PART_CHANGES).collect();
            if objects.is_empty() && lines.is_empty() {
                break;
            }
            self.parts.send(move |c| match in_place_at {
                Some(at) => write::store_part_in_place(c, Target { run, directory, at }, &objects, &lines),
                None => write::store_part(c, run, &objects, &lines),
            })?;
        }
        if self.handles.len() >= HANDLES_MAX {
            self.flush_handles()?;
        }
        self.parts.pause()
    }

    fn flush_texts(&mut self) -> Result<()> {
        let (texts, directory) = (std::mem::take(&mut self.texts), self.aim.directory);
        if !texts.is_empty() {
            self.parts.send(move |c| write::write_search_texts(c, directory, &texts))?;
            self.text_parts += 1;
        }
        if self.text_parts >= TEXT_PARTS_PER_MERGE {
            self.text_parts = 0;
            for _ in 0..MERGES {
                self.parts.send(move |c| write::merge_search_texts(c, MERGE_PAGES, Merging::Alike).map(|_| ()))?;
            }
        }
        Ok(())
    }

    /// Notes what a new object is going to be looked up by, where it is written in place.
    fn handled(&mut self, id: ObjectId, handle: Key, keys: Keys) {
        if self.aim.in_place_at.is_some() {
            self.handles.extend([Some(handle), keys.dn, keys.name].into_iter().flatten().map(|key| (key.0, id)));
        }
    }

    /// Writes the handles that wait, sorted; after the objects, so that no handle is ever left alone.
    fn flush_handles(&mut self) -> Result<()> {
        let mut handles = std::mem::take(&mut self.handles);
        handles::sort(&mut handles);
        let directory = self.aim.directory;
        for part in handles.chunks(PART_HANDLES) {
            let part = part.to_vec();
            self.parts.send(move |c| handles::insert_sorted(c, directory, &part))?;
        }
        Ok(())
    }

    /// After a delta's last page: the external ids of groups that were not sent though their members may be others
    /// now, or though the copy does not hold them. They have to be read, and their pages taken, before [`Planner::finish`].
    pub fn affected_groups(&mut self) -> Result<Vec<String>> {
        if self.affected.is_none() {
            self.settle_names()?;
        }
        let db = self.db.clone();
        let read: HashSet<ObjectId> =
            self.groups.values().filter(|group| group.is_read).map(|group| group.id).collect();
        // Groups that went missing since then count too. What is read from here on is affected by definition.
        let affected = self.groups_with_unsettled()?;
        self.affected = Some(affected.clone());
        db.read_blocking(|connection| {
            let mut ids = std::mem::take(&mut self.unread.groups);
            for group in affected.iter().filter(|group| !read.contains(group)) {
                ids.extend(lookup::group_external_id(connection, *group)?);
            }
            Ok(ids)
        })
    }

    /// After a complete reading: what was not seen is missing; everything is stored.
    pub fn finish(mut self, listed: Listed) -> Result<(Counts, Vec<Quarantined>)> {
        self.complete(listed)?;
        Ok((self.counts, std::mem::take(&mut self.quarantined)))
    }

    /// [`finish`](Self::finish), with the planner kept.
    pub fn complete(&mut self, listed: Listed) -> Result<()> {
        if self.affected.is_none() {
            // No group was read: nothing else settles what identities left behind.
            self.settle_names()?;
        }
        if self.aim.in_place_at.is_none() {
            let kinds = [(SubjectType::Identity, listed.identities), (SubjectType::Group, listed.groups)];
            for (subject, _) in kinds.into_iter().filter(|(_, is_listed)| *is_listed) {
                let db = self.db.clone();
                let (mut missing, seen) = (Vec::new(), &self.seen);
                db.read_blocking(|connection| {
                    lookup::each_present(connection, self.aim.directory, subject, |id| {
                        if !seen.contains(id) {
                            missing.push(id);
                        }
                    })
                })?;
                for id in missing {
                    self.missing(subject, id);
                    if self.changes.len() >= PART_CHANGES {
                        self.flush()?;
                    }
                }
            }
        }
        self.flush()?;
        self.flush_texts()?;
        self.flush_handles()?;
        self.settle()?;
        self.progress.read(self.counts);
        Ok(())
    }

    /// Waits for everything that is on its way to the writer: also before a failed run is cleaned up.
    pub fn settle(&mut self) -> Result<()> {
        self.parts.settle()
    }
}
