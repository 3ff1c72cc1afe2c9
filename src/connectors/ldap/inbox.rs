//! The receiving end of a search: from bytes, as they come, to checked entries.
//!
//! Bytes come in pieces of any size. What is complete is checked and looked at once, in place; a full [`Chunk`] takes
//! the buffer with it, so that no entry is copied. Has no connection of its own, so that any bytes can be tried on it.
//!
//! Owns the order of messages within one operation. It must never accept an answer to a question that nobody asked, or
//! hold more than one chunk and one message.

use std::ops::Range;

use super::{
    EntryView, Values,
    answer::{self, Envelope, Limits, Violation},
    ber::{Elements, tag},
    errors,
};

/// Entries of one chunk.
pub const CHUNK_ENTRIES: usize = 500;
/// Bytes of one chunk, so that one of large groups is not large.
pub const CHUNK_BYTES: usize = 1024 * 1024;
/// How many references of one chunk are kept by name; the rest is only a number that nobody needs.
const REFERENCES_KEPT_MAX: usize = 100;
/// Messages that a server may send beside what was asked, for each chunk.
const CHATTER_MAX: usize = 10_000;
/// How much is asked of the system at once.
const READ_BYTES: usize = 128 * 1024;

/// An entry that nobody has looked at yet.
#[derive(Debug, Clone, Copy)]
pub struct RawEntry<'a> {
    /// DN and attributes, as they came.
    pub body: &'a [u8],
    /// Checked controls.
    pub controls: &'a [u8],
    limits: &'a Limits,
}

impl<'a> RawEntry<'a> {
    /// The one walk over an entry: checks it, and shows every attribute.
    #[inline]
    pub fn walk(self, on_attribute: impl FnMut(&'a [u8], Values<'a>)) -> Result<EntryView<'a>, Violation> {
        answer::walk_entry(self.body, self.limits, on_attribute)
    }
}

/// Looks at what a search finds.
pub trait Look {
    /// What is kept of an entry beside its bytes.
    type Seen: Send;

    /// Looks at an entry. It must [`walk`](RawEntry::walk) it, which is the check. `None` drops the entry.
    fn entry(&mut self, entry: RawEntry<'_>) -> Result<Option<Self::Seen>, Violation>;

    /// Looks at an intermediate response (RFC 4511 §4.13). `false` when nobody asked for it.
    fn intermediate(&mut self, _name: &[u8], _value: &[u8]) -> Result<bool, Violation> {
        Ok(false)
    }

    /// Whether it has what it waits for, where a search goes on for ever.
    fn is_content(&self) -> bool {
        false
    }
}

/// Checks entries and keeps them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plainly;

impl Look for Plainly {
    type Seen = ();

    fn entry(&mut self, entry: RawEntry<'_>) -> Result<Option<()>, Violation> {
        entry.walk(|_, _| ()).map(|_| Some(()))
    }
}

/// Checked entries of one search, in the order they came.
#[derive(Debug)]
pub struct Chunk<S> {
    pub bytes: Vec<u8>,
    /// The contents of the entries (`LDAPDN`, `PartialAttributeList`), as ranges of `bytes`.
    pub places: Vec<Range<usize>>,
    /// What was seen of each.
    pub seen: Vec<S>,
    /// Entries that came, those that were dropped included.
    pub count: u64,
    /// Addresses that `SearchResultReference` named; never followed.
    pub references: Vec<String>,
}

impl<S> Default for Chunk<S> {
    fn default() -> Self {
        Self { bytes: Vec::new(), places: Vec::new(), seen: Vec::new(), count: 0, references: Vec::new() }
    }
}

impl<S> Chunk<S> {
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.places.iter().filter_map(|place| self.bytes.get(place.clone()))
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.references.is_empty()
    }
}

/// How an operation ended, as the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub code: u32,
    pub matched: String,
    pub diagnostic: String,
    /// Checked controls.
    pub controls: Vec<u8>,
}

/// Why an operation can't go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    Violation(Violation),
    /// Notice of disconnection (RFC 4511 §4.4.1) with its text.
    Notice(String),
}

impl From<Violation> for Broken {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// How far taking messages out of the inbox got.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Some bytes more are needed; this is a good number to ask for.
    Wants(usize),
    /// The chunk is full.
    Full,
    /// The operation is over.
    Over(End),
}

/// Bytes that came and were not looked at yet.
#[derive(Debug, Default)]
pub struct Inbox {
    buffer: Vec<u8>,
    /// How much of `buffer` belongs to the chunk that is being filled.
    taken: usize,
    chatter: usize,
}

impl Inbox {
    /// Where the next bytes go, with room for `wanted` at most doubled by what is there: memory grows with what really
    /// arrived, whatever length was announced.
    pub fn room(&mut self, wanted: usize) -> &mut Vec<u8> {
        let waiting = self.buffer.len() - self.taken;
        let wanted = wanted.min(waiting.max(READ_BYTES)).max(READ_BYTES / 2);
        if self.buffer.capacity() - self.buffer.len() < wanted {
            self.buffer.reserve(wanted);
        }
        &mut self.buffer
    }

    /// How many bytes are read at once: what does not fit a chunk is copied into the next.
    pub const READ_BYTES: usize = READ_BYTES;

    /// The answer of an operation that has only one, with the tag `op`.
    pub fn result(&mut self, id: u32, op: u8, limits: &Limits) -> Result<Progress, Broken> {
        struct NoEntries;
        impl Look for NoEntries {
            type Seen = ();
            fn entry(&mut self, _: RawEntry<'_>) -> Result<Option<()>, Violation> {
                Err(Violation::Shape("an entry answers what is no search"))
            }
        }
        self.take(id, op, limits, &mut NoEntries, &mut Chunk::default())
    }

    /// Takes the complete messages that answer search `id` into `chunk`, which is completed by [`Self::cut`].
    pub fn search<L: Look>(
        &mut self,
        id: u32,
        limits: &Limits,
        look: &mut L,
        chunk: &mut Chunk<L::Seen>,
    ) -> Result<Progress, Broken> {
        self.take(id, tag::SEARCH_DONE, limits, look, chunk)
    }

    fn take<L: Look>(
        &mut self,
        id: u32,
        last: u8,
        limits: &Limits,
        look: &mut L,
        chunk: &mut Chunk<L::Seen>,
    ) -> Result<Progress, Broken> {
        loop {
            if chunk.seen.len() >= CHUNK_ENTRIES || self.taken >= CHUNK_BYTES {
                return Ok(Progress::Full);
            }
            let rest = self.buffer.get(self.taken..).unwrap_or_default();
            let Some(length) = answer::frame_length(rest, limits)? else { return Ok(Progress::Wants(0)) };
            let Some(frame) = rest.get(..length) else { return Ok(Progress::Wants(length - rest.len())) };
            let envelope = answer::check_around_entry(frame, limits)?;
            let Envelope { op, body, controls, .. } = envelope;
            check_id(&envelope, id)?;
            match op {
                tag::SEARCH_ENTRY if last == tag::SEARCH_DONE => {
                    chunk.count += 1;
                    if let Some(seen) = look.entry(RawEntry { body, controls, limits })? {
                        // The body is a part of the frame, so its place follows from the lengths around it.
                        let start = self.taken + (body.as_ptr() as usize - frame.as_ptr() as usize);
                        chunk.places.push(start..start + body.len());
                        chunk.seen.push(seen);
                    }
                }
                tag::SEARCH_REFERENCE if last == tag::SEARCH_DONE => {
                    let mut uris = Elements::new(body);
                    while let (true, Some(uri)) =
                        (chunk.references.len() < REFERENCES_KEPT_MAX, uris.expect(tag::OCTET_STRING))
                    {
                        chunk.references.push(errors::printable(&String::from_utf8_lossy(uri)));
                    }
                }
                tag::INTERMEDIATE_RESPONSE => {
                    let (name, value) = intermediate(body)?;
                    if !look.intermediate(name, value)? {
                        self.chatter += 1;
                        if self.chatter > CHATTER_MAX {
                            return Err(Violation::Chatter(self.chatter).into());
                        }
                    }
                }
                op if op == last => {
                    let result = answer::result(body);
                    let end = End {
                        code: result.code,
                        matched: result.matched.to_owned(),
                        diagnostic: result.diagnostic.to_owned(),
                        controls: controls.to_vec(),
                    };
                    self.taken += length;
                    return Ok(Progress::Over(end));
                }
                op => return Err(Violation::WrongAnswer { id, op }.into()),
            }
            self.taken += length;
        }
    }

    /// Gives `chunk` the bytes of its entries and keeps what came behind them.
    pub fn cut<S>(&mut self, chunk: &mut Chunk<S>) {
        self.chatter = 0;
        if chunk.places.is_empty() {
            self.buffer.drain(..self.taken);
        } else {
            let waiting = self.buffer.get(self.taken..).unwrap_or_default();
            // The next chunk is probably as large as this one.
            let mut next = Vec::with_capacity(self.taken.min(CHUNK_BYTES).max(waiting.len()) + READ_BYTES);
            next.extend_from_slice(waiting);
            self.buffer.truncate(self.taken);
            chunk.bytes = std::mem::replace(&mut self.buffer, next);
        }
        self.taken = 0;
    }
}

/// The id must be the one asked. Id 0 is a notice of disconnection or nothing.
fn check_id(envelope: &Envelope<'_>, id: u32) -> Result<(), Broken> {
    match envelope.id {
        given if given == id => Ok(()),
        0 if envelope.op == tag::EXTENDED_RESPONSE => {
            Err(Broken::Notice(errors::printable(answer::result(envelope.body).diagnostic)))
        }
        id => Err(Violation::Unsolicited { id }.into()),
    }
}

/// `IntermediateResponse`: a name and a value, both optional.
fn intermediate(body: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let mut parts = Elements::new(body);
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    while let Some(part) = parts.next_element()? {
        match part.tag {
            0x80 => name = part.content,
            0x81 => value = part.content,
            _ => return Err(Violation::Shape("an intermediate response is not a name and a value")),
        }
    }
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connectors::ldap::fake::{self, element, message};

    #[derive(Debug, PartialEq)]
    struct Fed {
        entries: Vec<Vec<u8>>,
        references: Vec<String>,
        outcome: Result<Option<End>, Broken>,
    }

    /// Feeds `bytes` in pieces that end at `cuts`, as a connection would.
    fn feed(bytes: &[u8], cuts: &[usize]) -> Fed {
        let (mut inbox, limits) = (Inbox::default(), Limits::default());
        let (mut entries, mut references) = (Vec::new(), Vec::new());
        let mut chunk = Chunk::default();
        let mut at = 0;
        let mut ends = cuts.iter().copied().chain([bytes.len()]);
        let outcome = loop {
            let progress = match inbox.search(7, &limits, &mut Plainly, &mut chunk) {
                Ok(progress) => progress,
                Err(broken) => break Err(broken),
            };
            let is_wanting = match progress {
                Progress::Wants(_) => true,
                Progress::Full => {
                    inbox.cut(&mut chunk);
                    entries.extend(chunk.entries().map(<[u8]>::to_vec));
                    references.append(&mut chunk.references);
                    chunk = Chunk::default();
                    false
                }
                Progress::Over(end) => break Ok(Some(end)),
            };
            if is_wanting {
                let Some(end) = ends.next() else { break Ok(None) };
                inbox.room(1).extend_from_slice(&bytes[at..end]);
                at = end;
            }
        };
        inbox.cut(&mut chunk);
        entries.extend(chunk.entries().map(<[u8]>::to_vec));
        references.append(&mut chunk.references);
        Fed { entries, references, outcome }
    }

    fn body(frame: &[u8]) -> Vec<u8> {
        answer::check_answer(frame, &Limits::default()).expect("a message").body.to_vec()
    }

    #[test]
    fn entries_come_out_as_they_came_in_however_the_bytes_are_cut() {
        let users: Vec<Vec<u8>> = (0..1_200).map(|number| fake::user(7, number)).collect();
        let reference = message(7, &element(tag::SEARCH_REFERENCE, &element(tag::OCTET_STRING, b"ldap://x/")));
        let chatter = message(7, &element(tag::INTERMEDIATE_RESPONSE, &element(0x80, b"1.2.3")));
        let mut bytes = users.concat();
        bytes.extend([reference, chatter, fake::page_end(7, b"next")].concat());
        let expected: Vec<Vec<u8>> = users.iter().map(|frame| body(frame)).collect();
        for step in [1, 7, 100, 4_096, bytes.len()] {
            let cuts: Vec<usize> = (0..bytes.len()).step_by(step).skip(1).collect();
            let Fed { entries, references, outcome } = feed(&bytes, &cuts);
            assert!(entries == expected, "in steps of {step}");
            assert_eq!(references, ["ldap://x/"]);
            let end = outcome.expect("well formed").expect("over");
            let cookie = answer::control_value(&end.controls, crate::connectors::ldap::PAGED_RESULTS);
            assert_eq!((end.code, answer::paging_cookie(cookie.expect("a control"))), (0, Ok(&b"next"[..])));
        }
    }

    #[test]
    fn what_is_no_answer_to_this_search_breaks_it() {
        let notice = [fake::result_body(52, "going down"), element(0x8a, b"1.3.6.1.4.1.1466.20036")].concat();
        for (bytes, expected) in [
            (fake::user(8, 1), Broken::Violation(Violation::Unsolicited { id: 8 })),
            (fake::user(0, 1), Broken::Violation(Violation::Unsolicited { id: 0 })),
            (
                fake::result(7, tag::BIND_RESPONSE, 0, ""),
                Broken::Violation(Violation::WrongAnswer { id: 7, op: tag::BIND_RESPONSE }),
            ),
            (message(0, &element(tag::EXTENDED_RESPONSE, &notice)), Broken::Notice("going down".to_owned())),
            (
                message(7, &element(tag::INTERMEDIATE_RESPONSE, &element(0x82, b""))),
                Broken::Violation(Violation::Shape("an intermediate response is not a name and a value")),
            ),
            (
                message(7, &element(tag::INTERMEDIATE_RESPONSE, b"")).repeat(CHATTER_MAX + 1),
                Broken::Violation(Violation::Chatter(CHATTER_MAX + 1)),
            ),
        ] {
            assert_eq!(feed(&bytes, &[]).outcome, Err(expected));
        }
    }

    #[test]
    fn an_entry_is_no_answer_to_a_bind() {
        let mut inbox = Inbox::default();
        inbox.room(100).extend(fake::user(2, 1));
        let refused = inbox.result(2, tag::BIND_RESPONSE, &Limits::default());
        assert_eq!(refused, Err(Broken::Violation(Violation::WrongAnswer { id: 2, op: tag::SEARCH_ENTRY })));
    }

    #[test]
    fn room_grows_with_what_came_and_not_with_what_was_announced() {
        let mut inbox = Inbox::default();
        assert!(inbox.room(usize::MAX).capacity() <= 4 * READ_BYTES);
        inbox.room(0).extend(vec![0; 10 * READ_BYTES]);
        assert!(inbox.room(usize::MAX).capacity() <= 40 * READ_BYTES);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = feed(&bytes, &[]);
            let _ = feed(&message(7, &bytes), &[]);
            for op in [tag::SEARCH_ENTRY, tag::SEARCH_DONE, tag::SEARCH_REFERENCE, tag::INTERMEDIATE_RESPONSE] {
                let _ = feed(&message(7, &element(op, &bytes)), &[]);
            }
        }

        #[test]
        fn changed_messages_are_refused_or_read_the_same_in_pieces(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 0..4),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut bytes = [fake::user(7, 1), fake::user(7, 2), fake::page_end(7, b"c")].concat();
            for (at, byte, kind) in changes {
                let at = at.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => {
                        bytes.remove(at);
                    }
                }
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.sort_unstable();
            prop_assert_eq!(feed(&bytes, &cuts), feed(&bytes, &[]));
        }
    }
}
