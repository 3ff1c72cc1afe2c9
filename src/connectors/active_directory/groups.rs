//! Groups with all their members: those that the entry names, those that a controller gives only in parts, and those whose
//! primary group it is.
//!
//! Owns that a group is whole or not sent. A controller names 1,500 members at once (MS-ADTS §3.1.1.3.1.3.3); the others
//! are asked for in turn, and where the group changes meanwhile, all of it again.

use std::collections::{HashMap, HashSet};

use super::{
    mapping::Mapper,
    scan::{Excluded, GroupSid, group_sid},
};
use crate::connectors::{
    Failure, FailureKind, Key, MemberRef, Observed, ObservedGroup, Page, Unreadable,
    ldap::{
        Connection, EntryView, Scope, SearchRequest, dn,
        inbox::Plainly,
        pages::{Map as _, Pages, or_cancelled},
    },
};

/// Members on one page; a group is never divided.
const PAGE_MEMBERS: usize = 20_000;
const PAGE_GROUPS: usize = 200;
/// A group that changes each time it is read is given up.
const TRIES_MAX: usize = 5;

/// Who has which primary group (primaryGroupID), which does not name them among its members.
#[derive(Debug, Default)]
pub struct Primary {
    /// Accounts by the security identifier of their primary group: 16 bytes for each.
    pub keys: HashMap<GroupSid, Vec<Key>>,
    /// The names of those that may not have been read before.
    pub texts: HashMap<Key, String>,
}

impl Primary {
    fn of(&self, sid: Option<GroupSid>) -> impl Iterator<Item = MemberRef> {
        let keys = sid.and_then(|sid| self.keys.get(&sid)).map_or(&[][..], Vec::as_slice);
        // Who was read a moment ago is found by the key, and needs no text.
        keys.iter().map(|key| MemberRef { key: *key, text: self.texts.get(key).cloned().unwrap_or_default() })
    }
}

/// Reads groups on one connection.
pub struct Groups<'r, 's> {
    pub connection: &'r mut Connection,
    pub out: &'r mut Pages<'s>,
    pub mapper: Mapper,
    pub excluded: Excluded,
    pub primary: Primary,
    /// The external ids of those that were sent.
    pub sent: HashSet<String>,
    /// How many members are asked for at once; as many as the controller gives when absent.
    pub members_at_once: Option<u32>,
}

/// A group, as far as its first entry tells.
struct Begun {
    dn: String,
    sid: Option<GroupSid>,
    group: ObservedGroup,
    part: Part,
}

impl Groups<'_, '_> {
    /// All groups that a search finds.
    pub async fn read(&mut self, mut request: SearchRequest) -> Result<(), Failure> {
        request.attributes.extend([member_attribute(0, self.members_at_once), CHANGE_NUMBER.to_owned()]);
        let (mut page, mut members, mut partial) = (Vec::new(), 0, Vec::new());
        let mut search = self.connection.search(request);
        let mapper = &mut self.mapper;
        while let Some(chunk) = or_cancelled(self.out.sender(), search.next(&mut Plainly)).await? {
            for entry in chunk.entries().filter_map(EntryView::read) {
                if self.excluded.holds(&entry) {
                    continue;
                }
                match begin(mapper, &entry) {
                    Err(unreadable) => {
                        self.sent.extend(unreadable.external_id.clone());
                        page.push(Observed::Unreadable(unreadable));
                    }
                    Ok(begun) if begun.part.next.is_some() => partial.push(begun),
                    Ok(Begun { sid, group, part, .. }) => {
                        self.sent.insert(group.external_id.clone());
                        let group = with_members(group, part.members, self.primary.of(sid));
                        members += group.members.len();
                        page.push(Observed::Group(Box::new(group)));
                    }
                }
                if members >= PAGE_MEMBERS || page.len() >= PAGE_GROUPS {
                    self.out.send_page(Page::of(std::mem::take(&mut page))).await?;
                    members = 0;
                }
            }
            page.extend(self.out.elsewhere(chunk.references).into_iter().map(Observed::Unreadable));
        }
        self.out.send_page(Page::of(page)).await?;
        for begun in partial {
            self.sent.insert(begun.group.external_id.clone());
            let observed = self.complete(begun).await?;
            self.out.send_page(Page::of(vec![observed])).await?;
        }
        Ok(())
    }

    /// Asks for the members that are lacking, and for all of them again where they are not of one moment.
    async fn complete(&mut self, begun: Begun) -> Result<Observed, Failure> {
        let Begun { dn, sid, group, part } = begun;
        let mut first = Some(part);
        for _ in 0..TRIES_MAX {
            let Some(part) = first else { break };
            if let Some(members) = self.all_parts(&dn, part).await? {
                let group = with_members(group, members, self.primary.of(sid));
                return Ok(Observed::Group(Box::new(group)));
            }
            first = self.part(&dn, 0).await?;
        }
        let reason = "Its members could not be read as a whole: it changed, or went away, while they were.".to_owned();
        Ok(Observed::Unreadable(Unreadable { external_id: Some(group.external_id), name: dn, reason }))
    }

    /// The members from a first part on; `None` when they are not of one moment.
    async fn all_parts(&mut self, dn: &str, first: Part) -> Result<Option<Vec<MemberRef>>, Failure> {
        let Part { mut members, mut next, number, .. } = first;
        while let Some(start) = next {
            match self.part(dn, start).await? {
                Some(part) if part.from == start && part.number == number => {
                    members.extend(part.members);
                    next = part.next;
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(members))
    }

    /// The members from one on, as many as come at once; `None` when the group is gone or they can't be read.
    async fn part(&mut self, dn: &str, start: u32) -> Result<Option<Part>, Failure> {
        let mut search = self.connection.search(SearchRequest {
            base: dn.to_owned(),
            scope: Scope::Base,
            filter: "(objectClass=*)".to_owned(),
            attributes: vec![member_attribute(start, self.members_at_once), CHANGE_NUMBER.to_owned()],
            page_size: 0,
            entries_max: None,
        });
        let mut part = None;
        loop {
            match or_cancelled(self.out.sender(), search.next(&mut Plainly)).await {
                Ok(Some(chunk)) => {
                    part = chunk.entries().filter_map(EntryView::read).filter_map(|entry| named(&entry)).last();
                }
                Ok(None) => return Ok(part),
                Err(failure) if failure.kind == FailureKind::NoSuchBase => return Ok(None),
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// The attribute by which members are asked for, from the one at `start` on.
fn member_attribute(start: u32, at_once: Option<u32>) -> String {
    match (start, at_once) {
        (0, None) => "member".to_owned(),
        (start, None) => format!("member;range={start}-*"),
        (start, Some(count)) => format!("member;range={start}-{}", start.saturating_add(count) - 1),
    }
}

/// Counts the changes of an entry on one controller (MS-ADTS §3.1.1.1.9).
const CHANGE_NUMBER: &str = "uSNChanged";

/// Members that an entry names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Part {
    /// Which of the group's members the first one is.
    from: u32,
    members: Vec<MemberRef>,
    /// The first that it does not name.
    next: Option<u32>,
    number: String,
}

/// The first and the last member that an attribute brings, where the controller gives only some of them
/// (MS-ADTS §3.1.1.3.1.3.3): `member;range=0-1499`, and `member;range=1500-*` for the rest.
fn range(options: &str) -> Option<(u32, Option<u32>)> {
    let (from, to) = options.strip_prefix("range=")?.split_once('-')?;
    let from = from.parse().ok()?;
    match to {
        "*" => Some((from, None)),
        to => to.parse().ok().filter(|to| *to >= from).map(|to| (from, Some(to))),
    }
}

/// The members that an entry names. `None` when it names some in a way that can't be read: a part of a group must not pass
/// for all of it.
fn named(entry: &EntryView<'_>) -> Option<Part> {
    let mut part = Part { number: entry.text(CHANGE_NUMBER).unwrap_or_default().to_owned(), ..Part::default() };
    for (name, values) in entry.attributes() {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let Some(options) = name.strip_prefix("member").filter(|rest| rest.is_empty() || rest.starts_with(';')) else {
            continue;
        };
        // A controller may send an empty `member` beside the one with the range.
        if let Some(options) = options.strip_prefix(';') {
            let (from, to) = range(options)?;
            part.from = from;
            part.next = to.map(|to| to.checked_add(1)).map_or(Some(None), |next| next.map(Some))?;
        }
        part.members.extend(values.filter_map(member));
    }
    Some(part)
}

/// One value of `member`: a DN.
fn member(value: &[u8]) -> Option<MemberRef> {
    let text = String::from_utf8_lossy(value);
    (!text.trim().is_empty()).then(|| MemberRef { key: dn::key_of_any(&text), text: text.into_owned() })
}

fn begin(mapper: &mut Mapper, entry: &EntryView<'_>) -> Result<Begun, Unreadable> {
    let group = mapper.group(entry)?;
    let dn = String::from_utf8_lossy(entry.dn).into_owned();
    match named(entry) {
        Some(part) => Ok(Begun { dn, sid: group_sid(entry), group, part }),
        None => Err(Unreadable {
            external_id: Some(group.external_id),
            name: dn,
            reason: "The controller names its members in parts that can't be read.".to_owned(),
        }),
    }
}

/// The group with its members and with those whose primary group it is: each once, in an order of their own, because a
/// controller finds them in none.
fn with_members(
    mut group: ObservedGroup,
    mut members: Vec<MemberRef>,
    primary: impl Iterator<Item = MemberRef>,
) -> ObservedGroup {
    members.extend(primary);
    members.sort_unstable_by(|one, other| one.key.cmp(&other.key).then_with(|| other.text.cmp(&one.text)));
    members.dedup_by_key(|member| member.key);
    group.members = members;
    group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::ldap::{Limits, answer, fake};

    fn read(attributes: &[(&str, &[&[u8]])]) -> Option<Part> {
        let frame = fake::entry(1, "CN=g,DC=x", attributes);
        let envelope = answer::check_answer(&frame, &Limits::default()).expect("a message");
        named(&EntryView::read(envelope.body).expect("an entry"))
    }

    fn shape(part: Option<Part>) -> Option<(u32, usize, Option<u32>)> {
        part.map(|part| (part.from, part.members.len(), part.next))
    }

    #[test]
    fn a_part_of_a_group_never_passes_for_all_of_it() {
        let two: &[&[u8]] = &[b"CN=a,DC=x", b"CN=b,DC=x"];
        for (attributes, expected) in [
            (vec![("cn", two)], Some((0, 0, None))),
            (vec![("member", two), ("memberOf", two)], Some((0, 2, None))),
            (vec![("Member;Range=0-1", two)], Some((0, 2, Some(2)))),
            (vec![("member;range=2-*", two)], Some((2, 2, None))),
            // An empty one may stand on either side.
            (vec![("member", &[]), ("member;range=0-1", two)], Some((0, 2, Some(2)))),
            (vec![("member;range=0-1", two), ("member", &[])], Some((0, 2, Some(2)))),
            (vec![("member;range=0", two)], None),
            (vec![("member;range=0-x", two)], None),
            (vec![("member;range=5-3", two)], None),
            (vec![("member;range=0-4294967295", two)], None),
            (vec![("member;binary", two)], None),
        ] {
            assert_eq!(shape(read(&attributes)), expected, "{attributes:?}");
        }
    }

    #[test]
    fn members_stand_once_and_in_one_order() {
        let by_name = |name: &str| member(name.as_bytes()).expect("a member");
        let (a, b) = (by_name("CN=a,DC=x"), by_name("CN=b,DC=x"));
        let primary = MemberRef { key: a.key, text: String::new() };
        let members = |list: Vec<MemberRef>| {
            with_members(ObservedGroup::default(), list, std::iter::once(primary.clone())).members
        };
        let once = members(vec![b.clone(), by_name("cn=B, dc=x"), a.clone()]);
        assert_eq!(once.len(), 2);
        assert_eq!(members(vec![a.clone(), by_name("cn=B, dc=x"), b.clone()]), once);
        assert!(once.iter().all(|member| !member.text.is_empty()), "who is named keeps the name: {once:?}");
    }
}
