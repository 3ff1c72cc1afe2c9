//! Groups with all their members: those that the entry names, those that a controller gives only in parts, and those whose
//! primary group it is.
//!
//! Owns that a group is whole or not sent. A controller names 1,500 members at once (MS-ADTS §3.1.1.3.1.3.3); the others
//! are asked for in turn, and where the group changes meanwhile, all of it again.

use std::collections::{HashMap, HashSet};

use super::{
    mapping::{self, Mapper},
    scan::{Excluded, rid_of},
};
use crate::connectors::{
    Failure, FailureKind, Key, MemberRef, Observed, ObservedGroup, Page,
    ldap::{
        Connection, EntryView, Scope, SearchRequest,
        inbox::Plainly,
        pages::{Map as _, Pages, or_cancelled},
    },
};

/// Members on one page; a group is never divided.
const PAGE_MEMBERS: usize = 20_000;
const PAGE_GROUPS: usize = 200;
/// A group that changes each time it is read is given up.
const TRIES_MAX: usize = 5;

/// Reads groups on one connection.
pub struct Groups<'r, 's> {
    pub connection: &'r mut Connection,
    pub out: &'r mut Pages<'s>,
    pub mapper: Mapper,
    pub excluded: Excluded,
    /// Accounts by the relative identifier of their primary group.
    pub primary: HashMap<u32, Vec<Key>>,
    /// How many members are asked for at once; as many as the controller gives when absent.
    pub members_at_once: Option<u32>,
}

/// A group, as far as its first entry tells.
struct Begun {
    dn: String,
    rid: Option<u32>,
    group: ObservedGroup,
    /// The first member that was not named, and the change number at which the others were.
    rest: Option<(u32, String)>,
}

impl Groups<'_, '_> {
    /// All groups that a search finds.
    pub async fn read(&mut self, mut request: SearchRequest) -> Result<(), Failure> {
        request.attributes.extend([member_attribute(0, self.members_at_once), CHANGE_NUMBER.to_owned()]);
        let (mut page, mut members, mut partial) = (Vec::new(), 0, Vec::new());
        let mut search = self.connection.search(request);
        while let Some(chunk) = or_cancelled(self.out.sender(), search.next(&mut Plainly)).await? {
            for entry in chunk.entries().filter_map(EntryView::read) {
                if self.excluded.holds(&entry) {
                    continue;
                }
                match begin(&mut self.mapper, &entry) {
                    Err(unreadable) => page.push(Observed::Unreadable(unreadable)),
                    Ok(begun) if begun.rest.is_some() => partial.push(begun),
                    Ok(begun) => {
                        let group = with_primary(begun, &self.primary);
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
            let observed = self.complete(begun).await?;
            self.out.send_page(Page::of(vec![observed])).await?;
        }
        Ok(())
    }

    /// Asks for the members that are lacking.
    async fn complete(&mut self, begun: Begun) -> Result<Observed, Failure> {
        let (dn, external_id) = (begun.dn.clone(), begun.group.external_id.clone());
        let mut begun = begun;
        for _ in 0..TRIES_MAX {
            let Some((mut start, number)) = begun.rest.take() else {
                return Ok(Observed::Group(Box::new(with_primary(begun, &self.primary))));
            };
            let is_whole = loop {
                let Some(part) = self.part(&dn, start).await? else { break None };
                if part.number != number {
                    break Some(false);
                }
                begun.group.members.extend(part.members);
                match part.next {
                    Some(next) if next > start => start = next,
                    // A controller that gives the same part again and again never comes to an end.
                    Some(_) => return Err(endless(self.connection.server(), &dn)),
                    None => break Some(true),
                }
            };
            match is_whole {
                Some(true) => continue,
                Some(false) => {
                    let Some(again) = self.part(&dn, 0).await? else { break };
                    begun.group.members = again.members;
                    begun.rest = again.next.map(|next| (next, again.number));
                }
                None => break,
            }
        }
        let reason = "Its members could not be read as a whole: it changed, or went away, while they were.".to_owned();
        Ok(Observed::Unreadable(crate::connectors::Unreadable { external_id: Some(external_id), name: dn, reason }))
    }

    /// Some of the members; `None` when the group is gone.
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
                Ok(Some(chunk)) => part = chunk.entries().filter_map(EntryView::read).map(|entry| named(&entry)).last(),
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
struct Part {
    members: Vec<MemberRef>,
    /// The first that it does not name.
    next: Option<u32>,
    number: String,
}

fn named(entry: &EntryView<'_>) -> Part {
    let (mut members, mut next) = (Vec::new(), None);
    for (name, values) in entry.attributes() {
        let range = mapping::range_end(name, "member");
        if range.is_some() || name.eq_ignore_ascii_case(b"member") {
            members.extend(values.filter_map(mapping::member));
            next = range.flatten().map(|end| end.saturating_add(1));
        }
    }
    Part { members, next, number: entry.text(CHANGE_NUMBER).unwrap_or_default().to_owned() }
}

fn begin(mapper: &mut Mapper, entry: &EntryView<'_>) -> Result<Begun, crate::connectors::Unreadable> {
    let mut group = mapper.group(entry)?;
    let part = named(entry);
    group.members = part.members;
    Ok(Begun {
        dn: String::from_utf8_lossy(entry.dn).into_owned(),
        rid: rid_of(entry),
        group,
        rest: part.next.map(|next| (next, part.number)),
    })
}

/// The group with those whose primary group it is; each member once.
fn with_primary(begun: Begun, primary: &HashMap<u32, Vec<Key>>) -> ObservedGroup {
    let Begun { rid, mut group, .. } = begun;
    if let Some(more) = rid.and_then(|rid| primary.get(&rid)) {
        // They were read a moment ago, so each is found by its key and no text is needed.
        group.members.extend(more.iter().map(|key| MemberRef { key: *key, text: String::new() }));
        // The order in which a controller finds them is no order.
        group.members.sort_unstable_by_key(|member| member.key);
    }
    let mut seen = HashSet::with_capacity(group.members.len());
    group.members.retain(|member| seen.insert(member.key));
    group
}

fn endless(server: &str, dn: &str) -> Failure {
    Failure::new(
        FailureKind::ProtocolViolation,
        format!(
            "{server} gives the same members of {} again and again.",
            crate::connectors::ldap::errors::printable(dn)
        ),
        "Look at the log of the domain controller.",
    )
}
