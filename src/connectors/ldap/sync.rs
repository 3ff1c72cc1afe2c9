//! Content synchronisation (RFC 4533), "syncrepl": the control that asks, and what comes back.
//!
//! Owns the reading and writing of the four structures. What they mean for a directory's copy is the connector's
//! business.

use super::{
    answer::{COOKIE_MAX, Violation},
    ber::{Elements, tag},
    request::{Control, element, put, put_unsigned},
};

/// Sync Request Control (§2.2).
pub const SYNC_REQUEST: &str = "1.3.6.1.4.1.4203.1.9.1.1";
/// Sync State Control (§2.3), with each entry.
pub const SYNC_STATE: &str = "1.3.6.1.4.1.4203.1.9.1.2";
/// Sync Done Control (§2.4), with the result.
pub const SYNC_DONE: &str = "1.3.6.1.4.1.4203.1.9.1.3";
/// Sync Info Message (§2.5), an intermediate response.
pub const SYNC_INFO: &str = "1.3.6.1.4.1.4203.1.9.1.4";

/// An entryUUID as it travels.
pub type Uuid = [u8; 16];

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What has changed until now.
    RefreshOnly = 1,
    /// And what will change from now on.
    RefreshAndPersist = 3,
}

/// The control of a search that goes on from `cookie`.
pub fn request(mode: Mode, cookie: &[u8]) -> Control {
    let mut value = Vec::with_capacity(cookie.len() + 16);
    put_unsigned(&mut value, tag::ENUMERATED, mode as u32);
    put(&mut value, tag::OCTET_STRING, cookie);
    Control { oid: SYNC_REQUEST, value: element(tag::SEQUENCE, &value) }
}

/// What an entry is to the client (§2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Present,
    Add,
    Modify,
    Delete,
}

/// The value of a Sync State Control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryState<'a> {
    pub state: State,
    pub uuid: Uuid,
    pub cookie: Option<&'a [u8]>,
}

/// The value of a Sync Done Control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done<'a> {
    pub cookie: Option<&'a [u8]>,
    /// Everything that is gone was named. Otherwise everything that was not mentioned is gone.
    pub refresh_deletes: bool,
}

/// The value of a Sync Info Message (§2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMessage<'a> {
    NewCookie(&'a [u8]),
    /// A phase is over in which what is gone was named.
    RefreshDelete {
        cookie: Option<&'a [u8]>,
        is_done: bool,
    },
    /// A phase is over in which what is there was named.
    RefreshPresent {
        cookie: Option<&'a [u8]>,
        is_done: bool,
    },
    /// Many at once: gone, or there and unchanged.
    IdSet {
        cookie: Option<&'a [u8]>,
        refresh_deletes: bool,
        ids: Ids<'a>,
    },
}

/// The ids of an [`SyncMessage::IdSet`], checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids<'a>(Elements<'a>);

impl Iterator for Ids<'_> {
    type Item = Uuid;

    fn next(&mut self) -> Option<Uuid> {
        self.0.expect(tag::OCTET_STRING).and_then(|id| id.try_into().ok())
    }
}

/// Reads the optional parts that all of the structures end with.
struct Parts<'a> {
    parts: Elements<'a>,
    next: Option<super::ber::Element<'a>>,
}

impl<'a> Parts<'a> {
    fn new(content: &'a [u8]) -> Result<Self, Violation> {
        let mut parts = Elements::new(content);
        let next = parts.next_element()?;
        Ok(Self { parts, next })
    }

    fn take(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Violation> {
        match self.next {
            Some(element) if element.tag == tag => {
                self.next = self.parts.next_element()?;
                Ok(Some(element.content))
            }
            _ => Ok(None),
        }
    }

    fn cookie(&mut self) -> Result<Option<&'a [u8]>, Violation> {
        let cookie = self.take(tag::OCTET_STRING)?;
        if cookie.is_some_and(|cookie| cookie.len() > COOKIE_MAX) {
            return Err(Violation::Shape("a sync cookie is too long"));
        }
        Ok(cookie)
    }

    fn boolean(&mut self, default: bool) -> Result<bool, Violation> {
        match self.take(tag::BOOLEAN)? {
            None => Ok(default),
            Some([value]) => Ok(*value != 0),
            Some(_) => Err(Violation::Shape("a boolean is not one byte")),
        }
    }

    fn end(&self) -> Result<(), Violation> {
        if self.next.is_none() { Ok(()) } else { Err(Violation::Shape("a sync value has something more")) }
    }
}

fn sequence<'a>(value: &'a [u8], what: &'static str) -> Result<&'a [u8], Violation> {
    let mut outer = Elements::new(value);
    outer.expect(tag::SEQUENCE).filter(|_| outer.is_empty()).ok_or(Violation::Shape(what))
}

/// Reads the value of a Sync State Control.
pub fn entry_state(value: &[u8]) -> Result<EntryState<'_>, Violation> {
    const SHAPE: &str = "the sync state of an entry is not a state and an id";
    let mut parts = Parts::new(sequence(value, SHAPE)?)?;
    let state = match parts.take(tag::ENUMERATED)? {
        Some([0]) => State::Present,
        Some([1]) => State::Add,
        Some([2]) => State::Modify,
        Some([3]) => State::Delete,
        _ => return Err(Violation::Shape(SHAPE)),
    };
    let uuid = parts.take(tag::OCTET_STRING)?.and_then(|id| id.try_into().ok()).ok_or(Violation::Shape(SHAPE))?;
    let cookie = parts.cookie()?;
    parts.end()?;
    Ok(EntryState { state, uuid, cookie })
}

/// Reads the value of a Sync Done Control.
pub fn done(value: &[u8]) -> Result<Done<'_>, Violation> {
    let mut parts = Parts::new(sequence(value, "the end of a sync is not a sequence")?)?;
    let (cookie, refresh_deletes) = (parts.cookie()?, parts.boolean(false)?);
    parts.end()?;
    Ok(Done { cookie, refresh_deletes })
}

/// Reads the value of a Sync Info Message.
pub fn message(value: &[u8]) -> Result<SyncMessage<'_>, Violation> {
    const SHAPE: Violation = Violation::Shape("a sync info message is none of the four kinds");
    let mut outer = Elements::new(value);
    let choice = outer.next_element()?.filter(|_| outer.is_empty()).ok_or(SHAPE)?;
    if choice.tag == 0x80 {
        return if choice.content.len() <= COOKIE_MAX {
            Ok(SyncMessage::NewCookie(choice.content))
        } else {
            Err(SHAPE)
        };
    }
    let mut parts = Parts::new(choice.content)?;
    let cookie = parts.cookie()?;
    let message = match choice.tag {
        0xa1 => SyncMessage::RefreshDelete { cookie, is_done: parts.boolean(true)? },
        0xa2 => SyncMessage::RefreshPresent { cookie, is_done: parts.boolean(true)? },
        0xa3 => {
            let refresh_deletes = parts.boolean(false)?;
            let ids = Elements::new(parts.take(tag::SET)?.ok_or(SHAPE)?);
            let mut all = ids;
            while let Some(id) = all.next_element()? {
                if id.tag != tag::OCTET_STRING || id.content.len() != 16 {
                    return Err(Violation::Shape("an id of a sync info message is no UUID"));
                }
            }
            SyncMessage::IdSet { cookie, refresh_deletes, ids: Ids(ids) }
        }
        _ => return Err(SHAPE),
    };
    parts.end()?;
    Ok(message)
}

/// An id in the text form of RFC 4530.
pub fn uuid_text(id: &Uuid) -> String {
    uuid::Uuid::from_bytes(*id).hyphenated().to_string()
}

/// An id from its text form.
pub fn uuid_of(text: &str) -> Option<Uuid> {
    uuid::Uuid::try_parse(text).ok().map(uuid::Uuid::into_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: Uuid = [0xab; 16];

    fn id() -> Vec<u8> {
        element(tag::OCTET_STRING, &ID)
    }

    fn octets(content: &[u8]) -> Vec<u8> {
        element(tag::OCTET_STRING, content)
    }

    fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
        element(tag::SEQUENCE, &parts.concat())
    }

    #[test]
    fn what_the_standard_writes_is_read() {
        let state = |number: u8| element(tag::ENUMERATED, &[number]);
        let yes = element(tag::BOOLEAN, &[0xff]);
        assert_eq!(
            entry_state(&sequence(&[state(2), id(), octets(b"c")])),
            Ok(EntryState { state: State::Modify, uuid: ID, cookie: Some(b"c") })
        );
        assert_eq!(
            entry_state(&sequence(&[state(0), id()])),
            Ok(EntryState { state: State::Present, uuid: ID, cookie: None })
        );
        assert_eq!(done(&sequence(&[])), Ok(Done { cookie: None, refresh_deletes: false }));
        assert_eq!(
            done(&sequence(&[octets(b"c"), yes.clone()])),
            Ok(Done { cookie: Some(b"c"), refresh_deletes: true })
        );
        assert_eq!(message(&element(0x80, b"c")), Ok(SyncMessage::NewCookie(b"c")));
        assert_eq!(message(&element(0xa1, b"")), Ok(SyncMessage::RefreshDelete { cookie: None, is_done: true }));
        let no = element(tag::BOOLEAN, &[0]);
        assert_eq!(
            message(&element(0xa2, &[octets(b"c"), no].concat())),
            Ok(SyncMessage::RefreshPresent { cookie: Some(b"c"), is_done: false })
        );
        let ids = element(tag::SET, &[id(), id()].concat());
        match message(&element(0xa3, &[yes, ids].concat())) {
            Ok(SyncMessage::IdSet { cookie: None, refresh_deletes: true, ids }) => {
                assert_eq!(ids.collect::<Vec<_>>(), [ID, ID])
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(uuid_text(&ID), "abababab-abab-abab-abab-abababababab");
        assert_eq!((uuid_of(&uuid_text(&ID)), uuid_of("x")), (Some(ID), None));
    }

    #[test]
    fn what_is_shaped_otherwise_is_refused() {
        for bad in [
            vec![],
            sequence(&[]),
            sequence(&[element(tag::ENUMERATED, &[4]), id()]),
            sequence(&[element(tag::ENUMERATED, &[1]), octets(b"short")]),
            sequence(&[element(tag::ENUMERATED, &[1]), id(), octets(b""), octets(b"")]),
            [sequence(&[element(tag::ENUMERATED, &[1]), id()]), vec![0]].concat(),
        ] {
            assert!(entry_state(&bad).is_err(), "{bad:02x?}");
        }
        assert!(done(&sequence(&[element(tag::BOOLEAN, &[])])).is_err());
        assert!(done(&sequence(&[octets(&vec![0; COOKIE_MAX + 1])])).is_err());
        assert!(message(&element(0xa3, b"")).is_err(), "no set");
        assert!(message(&element(0xa3, &element(tag::SET, &octets(b"short")))).is_err());
        assert!(message(&element(0xa4, b"")).is_err());
        assert!(message(&[element(0x80, b"a"), element(0x80, b"b")].concat()).is_err());
    }

    #[test]
    fn the_request_is_written_byte_for_byte() {
        assert_eq!(request(Mode::RefreshOnly, b"rid=0").value, b"\x30\x0a\x0a\x01\x01\x04\x05rid=0");
    }

    proptest! {
        #[test]
        fn arbitrary_values_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            for tag in [tag::SEQUENCE, 0x80, 0xa1, 0xa2, 0xa3] {
                let value = element(tag, &bytes);
                let _ = (entry_state(&value), done(&value));
                if let Ok(SyncMessage::IdSet { ids, .. }) = message(&value) {
                    prop_assert!(ids.count() <= bytes.len());
                }
            }
        }
    }
}
