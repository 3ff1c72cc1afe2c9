//! What has changed on a controller since then, as ids: told by DirSync (MS-ADTS §3.1.1.3.4.1.3), or found by the numbers that
//! a controller gives to changes (uSNChanged, MS-ADTS §3.1.1.1.9).
//!
//! Only ids are taken from what is told. What has become of an object is read again in the way of a full reading, so that the
//! two agree; and what is told of the whole domain is no concern of an account's rights, the second reading is.
//!
//! Owns which other objects are others now, though nothing is told of them: what lies below a branch that was renamed or
//! moved, and who names an object that was (`manager`, `managedBy`, and `member` where it may not have been read before).
//! When one who is named there is deleted, nothing leads to those who named it: its groups are the planner's to ask for, and
//! whose manager it was shows with the next full reading.
//!
//! Measured on Samba 4.17: it gives what is deleted only to who may see it in "Deleted Objects", whatever the right to
//! replicate; Windows tells it to whom it tells changes.

use std::collections::BTreeMap;

use super::{
    forms,
    settings::Settings,
    watermark::{Watermark, lost},
};
use crate::connectors::{
    DeltaStop, Failure, FailureKind, Page,
    ldap::{
        Connection, EntryView, Scope, SearchRequest,
        answer::{Violation, control_value},
        dirsync::{self, DIRSYNC},
        errors::{self, Operation, ServerResult},
        filter,
        inbox::{End, Look, Plainly, RawEntry},
        pages::or_cancelled,
        values::without_repetition,
    },
};
use tokio::sync::mpsc;

/// An objectGUID as it travels.
pub type Guid = [u8; 16];

/// Ids and names in one filter.
pub const IDS_AT_ONCE: usize = 100;
/// Changes that are read one by one; beyond, everything is.
const CHANGES_MAX: usize = 100_000;
/// Answers to one question for changes. A controller puts about a thousand changes into one.
const ANSWERS_MAX: usize = 20_000;

/// What stands in groups: accounts of people and machines, contacts, groups. By classes, because a deleted object keeps
/// these and loses its objectCategory. Machines too where they are not read: groups name them.
const MEMBERS: &str = "(objectClass=person)(objectClass=group)";
/// Entries that others stand below.
const BRANCHES: &str =
    "(objectClass=organizationalUnit)(objectClass=container)(objectClass=organization)(objectClass=locality)";
/// Matches nothing, and is told apart from a mistake: nothing is of both classes.
const NOTHING: &str = "(&(objectClass=user)(objectClass=group))";
/// By whom an object is named (MS-ADTS §3.1.1.1.6, back links): as manager, as who manages it, as member.
const NAMED_BY: [&str; 3] = ["directReports", "managedObjects", MEMBER_OF];
const MEMBER_OF: &str = "memberOf";

/// What is known of one change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// It may have another distinguished name.
    pub may_have_moved: bool,
    /// It may be one that was not read before: its primary group, which does not say so, may have one more.
    pub may_have_come: bool,
}

/// What has changed.
#[derive(Debug, Default)]
pub struct Changes {
    pub objects: BTreeMap<Guid, Change>,
    /// The next cookie, where the controller tells changes.
    pub cookie: Option<Vec<u8>>,
}

impl Changes {
    /// Takes note of a change. Answers whether its branch and its names have to be looked at for the first time.
    fn add(&mut self, guid: Guid, change: Change) -> bool {
        let known = self.objects.entry(guid).or_default();
        let is_first = change.may_have_moved && !known.may_have_moved;
        known.may_have_moved |= change.may_have_moved;
        known.may_have_come |= change.may_have_come;
        is_first
    }

    fn check_count(&self, server: &str) -> Result<(), DeltaStop> {
        if self.objects.len() > CHANGES_MAX {
            return Err(lost(&format!("{server} names more than {CHANGES_MAX} objects that have changed.")));
        }
        Ok(())
    }
}

/// The controller's cookie of now; `None` where it does not tell changes, or not to this account.
pub async fn cookie_of_now(connection: &mut Connection, domain: &str) -> Result<Option<Vec<u8>>, Failure> {
    let mut cookie = Vec::new();
    for _ in 0..ANSWERS_MAX {
        let request = whole(domain, NOTHING.to_owned(), vec!["name".to_owned()], 0);
        let id = connection.ask(&request, 0, &[dirsync::request(&cookie)]).await?;
        let end = loop {
            if let (_, Some(end)) = connection.collect(id, domain, &mut Plainly).await? {
                break end;
            }
        };
        if end.code != 0 {
            return Ok(None);
        }
        let broken = |violation: Violation| violation.into_failure(connection.server());
        let Some(value) = control_value(&end.controls, DIRSYNC) else { return Ok(None) };
        let answer = dirsync::answer(value).map_err(broken)?;
        if !answer.has_more {
            return Ok(Some(answer.cookie.to_vec()));
        }
        if answer.cookie == cookie {
            break;
        }
        cookie = answer.cookie.to_vec();
    }
    Ok(None)
}

fn whole(domain: &str, filter: String, attributes: Vec<String>, page_size: u32) -> SearchRequest {
    SearchRequest { base: domain.to_owned(), scope: Scope::Sub, filter, attributes, page_size, entries_max: None }
}

/// One look for changes on one connection.
pub struct Seeker<'r> {
    pub connection: &'r mut Connection,
    pub settings: &'r Settings,
    /// Every attribute that is read.
    pub attributes: Vec<String>,
    /// Where pages go, which is asked only whether anybody still wants them.
    pub wanted: &'r mpsc::Sender<Page>,
}

impl Seeker<'_> {
    /// What has changed since `before`, and what follows from it.
    pub async fn seek(mut self, before: &Watermark) -> Result<Changes, DeltaStop> {
        let told = match before.cookie()? {
            Some(cookie) => self.told(&before.stand.domain, cookie).await?,
            None => None,
        };
        let mut changes = match told {
            Some(changes) => changes,
            // Also when the right to be told was taken away: the numbers go on from the same place.
            None => self.numbered(&before.stand.domain, before.stand.usn).await?,
        };
        self.follow(&before.stand.domain, &mut changes).await?;
        Ok(changes)
    }

    /// By DirSync; `None` where it is refused.
    async fn told(&mut self, domain: &str, mut cookie: Vec<u8>) -> Result<Option<Changes>, DeltaStop> {
        let server = self.connection.server().to_owned();
        let mut changes = Changes::default();
        let filter = format!("(|{MEMBERS}{BRANCHES})");
        let attributes = self.attributes.iter().map(String::as_str).filter(|name| is_replicated(name));
        let attributes = attributes.chain(["member", "name", "isDeleted"]).map(str::to_owned);
        let attributes = without_repetition(attributes.chain(self.settings.filtered_by()).collect());
        let request = whole(domain, filter, attributes, 0);
        let filtered_by = self.settings.filtered_by();
        for _ in 0..ANSWERS_MAX {
            let mut look = Told { filtered_by: &filtered_by, changes: &mut changes };
            let id = self.connection.ask(&request, 0, &[dirsync::request(&cookie)]).await?;
            let end = loop {
                let answer = self.connection.collect(id, domain, &mut look);
                if let (_, Some(end)) = or_cancelled(self.wanted, answer).await? {
                    break end;
                }
                look.changes.check_count(&server)?;
            };
            if !is_told(&end, domain, &server)? {
                return Ok(None);
            }
            let broken = |violation: Violation| violation.into_failure(&server);
            let value = control_value(&end.controls, DIRSYNC);
            let value = value.ok_or_else(|| broken(Violation::Shape("the end of a DirSync has no control")))?;
            let answer = dirsync::answer(value).map_err(broken)?;
            let has_moved_on = answer.cookie != cookie;
            cookie = answer.cookie.to_vec();
            if !answer.has_more {
                changes.cookie = Some(cookie);
                return Ok(Some(changes));
            }
            if !has_moved_on {
                break;
            }
        }
        Err(Failure::new(
            FailureKind::ProtocolViolation,
            format!("{server} says again and again that there are more changes, so the reading was stopped."),
            "Start a full run; if it happens again, look at the event log of the controller.",
        )
        .into())
    }

    /// By the numbers of changes after `usn`.
    async fn numbered(&mut self, domain: &str, usn: u64) -> Result<Changes, DeltaStop> {
        let first = usn.saturating_add(1);
        let server = self.connection.server().to_owned();
        let filter = format!("(&(uSNChanged>={first})(|{MEMBERS}{BRANCHES}))");
        let attributes = ["objectGUID", "uSNCreated", "lastKnownParent"].map(str::to_owned).to_vec();
        let request = whole(domain, filter, attributes, self.settings.page_size());
        let mut changes = Changes::default();
        let mut look = Numbered { first, may_come: self.settings.is_narrowed(), changes: &mut changes };
        let mut search = self.connection.search(request).with(dirsync::show_deleted());
        while or_cancelled(self.wanted, search.next(&mut look)).await?.is_some() {
            look.changes.check_count(&server)?;
        }
        Ok(changes)
    }

    /// Adds what lies below branches that may have moved, and who names what may have moved.
    async fn follow(&mut self, domain: &str, changes: &mut Changes) -> Result<(), DeltaStop> {
        let server = self.connection.server().to_owned();
        let moved = changes.objects.iter().filter(|(_, change)| change.may_have_moved);
        let mut waiting: Vec<Guid> = moved.map(|(guid, _)| *guid).collect();
        let mut naming = Naming::default();
        while !waiting.is_empty() {
            let rest = waiting.len().saturating_sub(IDS_AT_ONCE);
            let batch = waiting.split_off(rest);
            let mut branches = Vec::new();
            let attributes =
                ["objectGUID", "objectClass"].iter().chain(&NAMED_BY).map(|name| (*name).to_owned()).collect();
            let request = whole(domain, any_of_ids(&batch), attributes, self.settings.page_size());
            let mut search = self.connection.search(request);
            while let Some(chunk) = or_cancelled(self.wanted, search.next(&mut Plainly)).await? {
                for entry in chunk.entries().filter_map(EntryView::read) {
                    let Ok(dn) = std::str::from_utf8(entry.dn) else { continue };
                    if is_member(&entry) {
                        let change = guid_of(&entry).and_then(|guid| changes.objects.get(&guid));
                        naming.take(dn, &entry, change.is_none_or(|change| change.may_have_come));
                    } else {
                        branches.push(dn.to_owned());
                    }
                }
            }
            for branch in branches {
                for guid in self.below(branch).await? {
                    if changes.add(guid, Change { may_have_moved: true, may_have_come: true }) {
                        waiting.push(guid);
                    }
                }
                changes.check_count(&server)?;
            }
        }
        for filter in naming.filters() {
            let request = whole(domain, filter, vec!["objectGUID".to_owned()], self.settings.page_size());
            for guid in self.ids(request).await? {
                changes.add(guid, Change::default());
            }
            changes.check_count(&server)?;
        }
        Ok(())
    }

    /// What may stand in groups, below a branch.
    async fn below(&mut self, branch: String) -> Result<Vec<Guid>, Failure> {
        let request = whole(&branch, format!("(|{MEMBERS})"), vec!["objectGUID".to_owned()], self.settings.page_size());
        match self.ids(request).await {
            // It has another name by now, which will be told.
            Err(failure) if failure.kind == FailureKind::NoSuchBase => Ok(Vec::new()),
            found => found,
        }
    }

    async fn ids(&mut self, request: SearchRequest) -> Result<Vec<Guid>, Failure> {
        let mut found = Vec::new();
        let mut search = self.connection.search(request);
        while let Some(chunk) = or_cancelled(self.wanted, search.next(&mut Plainly)).await? {
            found.extend(chunk.entries().filter_map(EntryView::read).filter_map(|entry| guid_of(&entry)));
        }
        Ok(found)
    }
}

/// A filter for any of these objects.
pub fn any_of_ids(guids: &[Guid]) -> String {
    let any: String = guids.iter().map(|guid| format!("(objectGUID={})", forms::filter_bytes(guid))).collect();
    format!("(|{any})")
}

fn guid_of(entry: &EntryView<'_>) -> Option<Guid> {
    entry.values("objectGUID").first().and_then(|guid| Guid::try_from(*guid).ok())
}

fn is_member(entry: &EntryView<'_>) -> bool {
    let is = |class: &[u8]| class.eq_ignore_ascii_case(b"person") || class.eq_ignore_ascii_case(b"group");
    entry.values("objectClass").into_iter().any(is)
}

/// Whether a controller tells changes of an attribute: not of what it makes up, nor of what it keeps to itself.
fn is_replicated(name: &str) -> bool {
    !["objectGUID", "msDS-User-Account-Control-Computed", "badPwdCount"]
        .iter()
        .any(|other| name.eq_ignore_ascii_case(other))
}

/// Whether a search for changes came to a good end; false where it is refused for good.
fn is_told(end: &End, domain: &str, server: &str) -> Result<bool, DeltaStop> {
    match end.code {
        0 => Ok(true),
        // No right (50), no such control (12), or not here (32, 53).
        12 | 32 | 50 | 53 => Ok(false),
        1 | 2 => {
            let said = errors::printable(&end.diagnostic);
            let code = errors::code_name(end.code);
            Err(lost(&format!("{server} does not go on from where the last run ended ({code} {said}).")))
        }
        code => {
            let refused = ServerResult { code, diagnostic: &end.diagnostic, matched: &end.matched };
            Err(errors::failure(Operation::Search(domain), server, refused).into())
        }
    }
}

/// Takes note of what DirSync tells. Of each object it sends the attributes that have changed, without values where they
/// have none any more.
struct Told<'c> {
    filtered_by: &'c [String],
    changes: &'c mut Changes,
}

impl Look for Told<'_> {
    type Seen = ();

    fn entry(&mut self, raw: RawEntry<'_>) -> Result<Option<()>, Violation> {
        let mut guid = None;
        let mut change = Change::default();
        raw.walk(|name, values| {
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            if is("objectGUID") {
                guid = values.first().and_then(|guid| Guid::try_from(guid).ok());
            } else if is("name") {
                // Also when it is moved and keeps its name, and when it is made.
                change.may_have_moved = true;
                change.may_have_come = true;
            } else if is("primaryGroupID") || is("isDeleted") || self.filtered_by.iter().any(|other| is(other)) {
                change.may_have_come = true;
            }
        })?;
        let guid = guid.ok_or(Violation::Shape("a change that DirSync tells has no objectGUID"))?;
        self.changes.add(guid, change);
        Ok(None)
    }
}

/// Takes note of what has a number of late. Which attributes have changed is not known.
struct Numbered<'c> {
    first: u64,
    may_come: bool,
    changes: &'c mut Changes,
}

impl Look for Numbered<'_> {
    type Seen = ();

    fn entry(&mut self, raw: RawEntry<'_>) -> Result<Option<()>, Violation> {
        let entry = raw.walk(|_, _| ())?;
        let created: Option<u64> = entry.text("uSNCreated").and_then(|number| number.parse().ok());
        // What was brought back from among the deleted keeps the note where it was.
        let may_have_come = self.may_come
            || created.is_none_or(|created| created >= self.first)
            || !entry.values("lastKnownParent").is_empty();
        // One whose id can't be read is not read by a full reading either.
        if let Some(guid) = guid_of(&entry) {
            self.changes.add(guid, Change { may_have_moved: true, may_have_come });
        }
        Ok(None)
    }
}

/// Who names objects.
#[derive(Debug, Default)]
struct Naming {
    /// Distinguished names of those who do.
    by: Vec<String>,
    /// Those who are named by more than a controller says at once.
    of: Vec<String>,
}

impl Naming {
    /// The groups only where they may name one that was not read before: the others are the planner's to ask for.
    fn take(&mut self, dn: &str, entry: &EntryView<'_>, with_groups: bool) {
        for (name, values) in entry.attributes() {
            let name = String::from_utf8_lossy(name);
            let (name, options) = name.split_once(';').unwrap_or((&name, ""));
            let is_wanted = |other: &&str| name.eq_ignore_ascii_case(other) && (with_groups || *other != MEMBER_OF);
            match NAMED_BY.iter().any(is_wanted) {
                // A part of them only.
                true if !options.is_empty() => self.of.push(dn.to_owned()),
                true => self.by.extend(values.texts().map(str::to_owned)),
                false => {}
            }
        }
    }

    /// Filters that find them all.
    fn filters(mut self) -> Vec<String> {
        self.by.sort_unstable();
        self.by.dedup();
        let some = self.by.chunks(IDS_AT_ONCE).map(|some| {
            let any: String = some.iter().map(|dn| format!("(distinguishedName={})", filter::escape(dn))).collect();
            format!("(|{any})")
        });
        let all = self.of.iter().map(|dn| {
            let dn = filter::escape(dn);
            format!("(|(manager={dn})(managedBy={dn})(member={dn}))")
        });
        some.chain(all).collect()
    }
}
