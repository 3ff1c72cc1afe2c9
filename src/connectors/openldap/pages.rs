//! Collects what is sighted into pages and hands them on.
//!
//! A page keeps the bytes of its entries as they came and maps one only when asked: most entries of most readings are
//! as they were. Owns the size of a page. It must never hold more than one page.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc;

use super::{
    cancelled,
    mapping::Mapper,
    policy::Policies,
    scan::{Glance, Scanner},
    settings::Settings,
};
use crate::connectors::{
    Content, Failure, ObservedGroup, ObservedIdentity, Page, Sighting, Subject, Unreadable,
    ldap::{Chunk, EntryView},
    no_such_content,
};

/// Objects per page handed on.
const PAGE_OBJECTS: usize = 500;
/// Bytes (as the directory sent them) per page handed on, so that a page of large groups is not a large page.
const PAGE_BYTES: usize = 1024 * 1024;
/// References to other servers that are reported by name.
const REFERENCES_MAX: u64 = 100;

/// The page that is being filled.
pub struct Pages<'s> {
    sender: &'s mpsc::Sender<Page>,
    scanner: Scanner,
    /// Shared with the pages that are under way; they are mapped one at a time, on the planner's thread.
    mapper: Arc<Mutex<Mapper>>,
    sightings: Vec<Sighting>,
    bytes: Vec<u8>,
    /// Where in `bytes` each sighting's entry is; empty for those without content.
    places: Vec<Range<usize>>,
    references: u64,
    /// Something was handed on, so that no other server may be asked any more.
    has_objects: bool,
}

impl<'s> Pages<'s> {
    pub fn new(sender: &'s mpsc::Sender<Page>, settings: &Settings) -> Self {
        Self {
            sender,
            scanner: Scanner::new(settings, Policies::default(), 0),
            mapper: Arc::new(Mutex::new(Mapper::new(settings, Policies::default(), 0))),
            sightings: Vec::new(),
            bytes: Vec::new(),
            places: Vec::new(),
            references: 0,
            has_objects: false,
        }
    }

    pub fn sender(&self) -> &'s mpsc::Sender<Page> {
        self.sender
    }

    pub fn has_objects(&self) -> bool {
        self.has_objects
    }

    /// From here on, entries are looked at in this way.
    pub fn look_with(&mut self, scanner: Scanner, mapper: Mapper) {
        self.scanner = scanner;
        self.mapper = Arc::new(Mutex::new(mapper));
    }

    /// Users or groups with their content.
    pub async fn push_entries(&mut self, subject: Subject, chunk: &Chunk) -> Result<(), Failure> {
        for body in chunk.entries() {
            let Some(entry) = EntryView::read(body) else { continue };
            let mut glance = Glance::default();
            for (name, values) in entry.attributes() {
                glance.attribute(name, values);
            }
            let sighting = self.scanner.sighting(subject, body, &glance);
            let start = self.bytes.len();
            self.bytes.extend_from_slice(body);
            self.take(sighting, start..self.bytes.len()).await?;
        }
        Ok(())
    }

    /// Something without content.
    pub async fn push(&mut self, sighting: Sighting) -> Result<(), Failure> {
        self.take(sighting, 0..0).await
    }

    async fn take(&mut self, sighting: Sighting, place: Range<usize>) -> Result<(), Failure> {
        self.sightings.push(sighting);
        self.places.push(place);
        if self.sightings.len() >= PAGE_OBJECTS || self.bytes.len() >= PAGE_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Hands on what there is.
    pub async fn flush(&mut self) -> Result<(), Failure> {
        if self.sightings.is_empty() {
            return Ok(());
        }
        self.has_objects = true;
        let content = Entries {
            bytes: std::mem::take(&mut self.bytes),
            places: std::mem::take(&mut self.places),
            mapper: Arc::clone(&self.mapper),
        };
        let page = Page { sightings: std::mem::take(&mut self.sightings), content: Box::new(content) };
        self.sender.send(page).await.map_err(|_| cancelled())
    }

    /// A part of the directory lies on another server. That is not followed, but somebody should know.
    pub async fn push_references(&mut self, chunk: &Chunk) -> Result<(), Failure> {
        for address in &chunk.references {
            self.references += 1;
            if self.references <= REFERENCES_MAX {
                let reason = "A part of the directory lies on another server; referrals are not followed.".to_owned();
                let unreadable = Unreadable { external_id: None, name: address.clone(), reason };
                self.push(Sighting::Unreadable(unreadable)).await?;
            }
        }
        Ok(())
    }
}

/// The entries of a page, as they came.
struct Entries {
    bytes: Vec<u8>,
    places: Vec<Range<usize>>,
    mapper: Arc<Mutex<Mapper>>,
}

impl Entries {
    fn map<T>(
        &self,
        index: usize,
        map: impl FnOnce(&mut Mapper, &EntryView<'_>) -> Result<T, Unreadable>,
    ) -> Result<T, Unreadable> {
        let body = self.places.get(index).and_then(|place| self.bytes.get(place.clone()));
        let entry = body.and_then(EntryView::read).ok_or_else(no_such_content)?;
        map(&mut self.mapper.lock().unwrap_or_else(PoisonError::into_inner), &entry)
    }
}

impl Content for Entries {
    fn identity(&mut self, index: usize) -> Result<ObservedIdentity, Unreadable> {
        self.map(index, |mapper, entry| mapper.identity(entry))
    }

    fn group(&mut self, index: usize) -> Result<ObservedGroup, Unreadable> {
        self.map(index, |mapper, entry| mapper.group(entry))
    }
}
