//! What is sighted, on its way to the planner.
//!
//! A page keeps the bytes of its entries as they came and maps one only when asked: most entries of most readings are
//! as they were. A page is a chunk of the reader, which owns its size.

use std::{
    collections::HashSet,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc;

use super::{
    EntryView, Search,
    inbox::{Chunk, Look},
};
use crate::connectors::{
    Content, Failure, FailureKind, ObservedGroup, ObservedIdentity, Page, Sighting, Unreadable, no_such_content,
};

/// Sightings without content on one page.
const BARE_MAX: usize = 2_000;
/// References to other servers that are reported by name.
const REFERENCES_MAX: usize = 100;

/// From an entry to an object, as a kind of directory does it.
pub trait Map: Send + 'static {
    fn identity(&mut self, entry: &EntryView<'_>) -> Result<ObservedIdentity, Unreadable>;
    fn group(&mut self, entry: &EntryView<'_>) -> Result<ObservedGroup, Unreadable>;
}

/// Shared with the pages that are under way; they are mapped one at a time, on the planner's thread.
type Shared = Arc<Mutex<dyn Map>>;

/// Where pages go.
pub struct Pages<'s> {
    sender: &'s mpsc::Sender<Page>,
    mapper: Option<Shared>,
    /// References that were reported, each once.
    references: HashSet<String>,
    /// Those that are always there and mean nothing.
    is_usual: fn(&str) -> bool,
    /// Something was handed on, so that no other server may be asked any more.
    has_objects: bool,
}

impl<'s> Pages<'s> {
    pub fn new(sender: &'s mpsc::Sender<Page>) -> Self {
        Self { sender, mapper: None, references: HashSet::new(), is_usual: |_| false, has_objects: false }
    }

    pub fn sender(&self) -> &'s mpsc::Sender<Page> {
        self.sender
    }

    pub fn has_objects(&self) -> bool {
        self.has_objects
    }

    /// References that are not worth telling.
    pub fn keep_quiet_about(&mut self, is_usual: fn(&str) -> bool) {
        self.is_usual = is_usual;
    }

    /// From here on, entries are mapped in this way.
    pub fn map_with(&mut self, mapper: impl Map) {
        self.mapper = Some(Arc::new(Mutex::new(mapper)));
    }

    /// Hands a chunk on as a page.
    pub async fn send(&mut self, chunk: Chunk<Sighting>) -> Result<(), Failure> {
        let Chunk { bytes, places, seen: mut sightings, references, .. } = chunk;
        sightings.extend(self.elsewhere(references).into_iter().map(Sighting::Unreadable));
        let content = Box::new(Entries { bytes, places, mapper: self.mapper.clone() });
        self.send_page(Page { sightings, content }).await
    }

    /// Hands on what is mapped already.
    pub async fn send_page(&mut self, page: Page) -> Result<(), Failure> {
        if page.sightings.is_empty() {
            return Ok(());
        }
        self.has_objects = true;
        self.sender.send(page).await.map_err(|_| cancelled())
    }

    /// A part of the directory lies on another server. That is not followed, but somebody should know.
    pub fn elsewhere(&mut self, references: Vec<String>) -> Vec<Unreadable> {
        let reason = "A part of the directory lies on another server; referrals are not followed.";
        let mut found = Vec::new();
        for name in references {
            let is_quiet = (self.is_usual)(&name) || self.references.len() >= REFERENCES_MAX;
            if !is_quiet && self.references.insert(name.clone()) {
                found.push(Unreadable { external_id: None, name, reason: reason.to_owned() });
            }
        }
        found
    }

    /// Hands on what has no content.
    pub async fn send_bare(&mut self, sightings: Vec<Sighting>) -> Result<(), Failure> {
        let mut rest = sightings.into_iter();
        loop {
            let part: Vec<Sighting> = rest.by_ref().take(BARE_MAX).collect();
            if part.is_empty() {
                return Ok(());
            }
            self.send(Chunk { seen: part, ..Chunk::default() }).await?;
        }
    }
}

/// The entries of a page, as they came.
struct Entries {
    bytes: Vec<u8>,
    /// Where in `bytes` each sighting's entry is; references have none.
    places: Vec<Range<usize>>,
    mapper: Option<Shared>,
}

impl Entries {
    fn map<T>(
        &self,
        index: usize,
        map: impl FnOnce(&mut dyn Map, &EntryView<'_>) -> Result<T, Unreadable>,
    ) -> Result<T, Unreadable> {
        let body = self.places.get(index).and_then(|place| self.bytes.get(place.clone()));
        let entry = body.and_then(EntryView::read).ok_or_else(no_such_content)?;
        let mapper = self.mapper.as_ref().ok_or_else(no_such_content)?;
        map(&mut *mapper.lock().unwrap_or_else(PoisonError::into_inner), &entry)
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

/// Reads a search to its end, unless nobody wants it any more.
pub async fn read_all(
    mut search: Search<'_>,
    look: &mut (impl Look<Seen = Sighting> + Send),
    out: &mut Pages<'_>,
) -> Result<(), Failure> {
    while let Some(chunk) = or_cancelled(out.sender(), search.next(look)).await? {
        out.send(chunk).await?;
    }
    Ok(())
}

/// The outcome of `work`, unless nobody wants the pages any more.
pub async fn or_cancelled<T>(
    sender: &mpsc::Sender<Page>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        done = work => done,
        () = sender.closed() => Err(cancelled()),
    }
}

fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "The reading was stopped.", "Start it again when you want to.")
}
