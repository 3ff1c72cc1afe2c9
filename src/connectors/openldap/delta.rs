//! Reading what has changed: by syncrepl (RFC 4533, refreshOnly) where slapd has the overlay syncprov, else by
//! `modifyTimestamp`.
//!
//! What slapd does, measured on 2.5 and minded here:
//! - With a session log, a search for users names every changed entry that is no user as "no longer matches", groups
//!   among them. So a deletion is always told with the kind that was searched for.
//! - Without one (after a restart of slapd), it names all that is there instead, and what it does not name is gone.
//! - An entry that moved from one base to another is gone for one search and there for the other: deletions of a kind
//!   are told last, and none of what was sent.
//! - The overlays memberof and refint change members without a trace: the planner asks for those groups again
//!   ([`Delta::read_groups`](crate::connectors::Delta::read_groups)).
//! - When an entry above others is renamed, those below it have other DNs and no trace of it: what lies below a branch
//!   that has changed is read again. (A branch that was moved out of all bases is only noticed by a full reading.)
//!
//! It must never take a short answer for a list of all that is there.

use std::collections::HashSet;

use tokio::sync::mpsc;

use super::{
    OpenLdap,
    cookie::Cookie,
    mapping::{self, Mapper},
    policy::Policies,
    scan::{Scanner, Sighter, What},
    settings::Scope,
    tolerate,
    watermark::{self, Mark, Method, Stand, Watermark, lost},
};
use crate::connectors::{
    DeltaEnd, DeltaStop, Failure, Page, Sighting, Subject,
    ldap::{
        self, Connection, Endpoint, EntryView, RootDse, SYNC_REQUEST, SearchRequest, Trust,
        answer::{Violation, control_value},
        errors::{self, Operation, ServerResult},
        inbox::{Chunk, End, Look, Plainly, RawEntry},
        pages::{Pages, or_cancelled, read_all},
        sync::{self, Mode, State, SyncMessage, Uuid},
        times,
    },
};

/// How far back changes by time are read again: a change may become visible some time after its timestamp was made, and
/// a server's clock that was off may be set back, by an hour where somebody mistook summer time.
const OVERLAP_S: i64 = 65 * 60;
/// Ids in one filter.
const IDS_AT_ONCE: usize = 50;
/// Changed branches that are read again; beyond, everything is.
const BRANCHES_MAX: usize = 1_000;
/// Deletions that are held back until their kind is read.
const DELETIONS_MAX: usize = 1_000_000;

impl OpenLdap {
    /// Where the server stands before anything is read, and how changes will be read from there on. Nothing that can be
    /// refused here is a failure: the full reading does not need it.
    pub(super) async fn begin(&self, connection: &mut Connection, root: &RootDse) -> Result<Watermark, Failure> {
        let bases = watermark::bases(&self.settings);
        let contexts: Vec<String> =
            bases.iter().map(|base| watermark::context_of(base, &root.naming_contexts)).collect();
        let mut stand = Stand::default();
        for dn in bases.iter().chain(&contexts) {
            tolerate(look_at(connection, dn, &mut stand).await)?;
        }
        let marks = if root.offers(SYNC_REQUEST) || !root.is_readable {
            watermark::marks(&self.settings, root, &stand)
        } else {
            None
        };
        let method = match marks {
            Some(marks) if self.takes_cookies(connection, &marks).await? => Method::Syncrepl(marks),
            _ => Method::Timestamps(None),
        };
        Ok(Watermark::new(connection.server().to_owned(), &self.settings, &stand, method))
    }

    /// Whether the server goes on from its own state: the control may be known to it and the database without a
    /// syncprov all the same.
    async fn takes_cookies(&self, connection: &mut Connection, marks: &[Mark]) -> Result<bool, Failure> {
        let mut asked = HashSet::new();
        for mark in marks.iter().filter(|mark| asked.insert(&mark.context)) {
            let attributes = [NO_ATTRIBUTES.to_owned()];
            let request =
                SearchRequest { scope: ldap::Scope::Base, ..self.request(mark.base.clone(), ANYTHING, &attributes) };
            let control = sync::request(Mode::RefreshOnly, mark.cookie.as_bytes());
            let id = connection.ask(&request, 0, &[control]).await?;
            let end = loop {
                if let (_, Some(end)) = connection.collect(id, &request.base, &mut Ignore).await? {
                    break end;
                }
            };
            if end.code != 0 || control_value(&end.controls, sync::SYNC_DONE).is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A watermark's time, from the newest that was seen; never ahead of our own clock. A server whose clock was ahead is
    /// put right some day, and what changes then has earlier times than what was seen before.
    pub(super) fn since(&self, newest: Option<i64>) -> Option<i64> {
        newest.map(|newest| newest.min(self.now.as_second()))
    }

    pub(super) async fn changes(&self, json: &str, pages: mpsc::Sender<Page>) -> Result<DeltaEnd, DeltaStop> {
        self.require_valid()?;
        let before = Watermark::parse(json, &self.settings)?;
        let trust = self.client.trust()?;
        // The one that made the watermark first: others may lag behind it.
        let mut turns = self.client.turns(Some(&before.server)).await?;
        while let Some(endpoint) = turns.next_server() {
            let mut out = Pages::new(&pages);
            match self.changes_from(endpoint, trust.as_ref(), &before, &mut out).await {
                Ok(end) => return Ok(end),
                Err(DeltaStop::Failed(failure)) => turns.failed(failure, out.has_objects())?,
                Err(stop) => return Err(stop),
            }
        }
        Err(turns.end().into())
    }

    async fn changes_from(
        &self,
        endpoint: &Endpoint,
        trust: Option<&Trust>,
        before: &Watermark,
        out: &mut Pages<'_>,
    ) -> Result<DeltaEnd, DeltaStop> {
        let mut connection = or_cancelled(out.sender(), self.client.open(endpoint, trust)).await?;
        let server = endpoint.to_string();
        let stand = or_cancelled(out.sender(), self.stand(&mut connection, before)).await?;
        before.check_anchors(&server, &stand)?;
        let end = match &before.method {
            Method::Syncrepl(marks) => {
                let mut has_news = false;
                for mark in marks {
                    has_news |= mark.has_news(&server, &stand)?;
                }
                let mut end = DeltaEnd { finds_deletions: true, ..DeltaEnd::default() };
                let mut marks = marks.clone();
                if has_news {
                    let reading = Syncing { directory: self, connection: &mut connection, server: &server, out };
                    (end.lists_identities, end.lists_groups) = reading.all(&mut marks).await?;
                } else if !or_cancelled(out.sender(), self.takes_cookies(&mut connection, &marks)).await? {
                    // Without syncprov the contextCSN stands still, which would look as if nothing changed any more.
                    return Err(lost(&format!("{server} no longer tells changes; the overlay syncprov is missing.")));
                }
                let now = Watermark::new(server.clone(), &self.settings, &stand, Method::Syncrepl(marks));
                DeltaEnd { watermark: now.to_json(), ..end }
            }
            Method::Timestamps(since) => {
                let newest = self.read_since(&mut connection, *since, out).await?;
                let since = self.since(newest).max(*since);
                let now = Watermark::new(server.clone(), &self.settings, &stand, Method::Timestamps(since));
                DeltaEnd { watermark: now.to_json(), ..DeltaEnd::default() }
            }
        };
        connection.close().await;
        Ok(DeltaEnd { server, ..end })
    }

    /// What the server says of itself now. A base that is gone is a failure, as it is in a full reading.
    async fn stand(&self, connection: &mut Connection, before: &Watermark) -> Result<Stand, Failure> {
        let mut dns = watermark::bases(&self.settings);
        if let Method::Syncrepl(marks) = &before.method {
            dns.extend(marks.iter().map(|mark| mark.context.clone()));
        }
        let mut asked = HashSet::new();
        let mut stand = Stand::default();
        for dn in dns.iter().filter(|dn| asked.insert(*dn)) {
            look_at(connection, dn, &mut stand).await?;
        }
        Ok(stand)
    }

    /// Everything with a `modifyTimestamp` not before `since`; answers the newest.
    async fn read_since(
        &self,
        connection: &mut Connection,
        since: Option<i64>,
        out: &mut Pages<'_>,
    ) -> Result<Option<i64>, Failure> {
        let policies = or_cancelled(out.sender(), self.read_policies(connection, None)).await?;
        let scanner = Scanner::new(&self.settings, policies.clone(), self.now.as_second());
        out.map_with(Mapper::new(&self.settings, policies, self.now.as_second()));
        let from = since.and_then(|since| times::generalized_time(since.saturating_sub(OVERLAP_S)));
        let filter = |filter: &str| match &from {
            Some(from) => format!("(&{filter}(modifyTimestamp>={from}))"),
            // Nothing had a time so far: everything is new.
            None => filter.to_owned(),
        };
        let (users, groups) = (filter(self.settings.user_filter()), filter(self.settings.group_filter()));
        self.read_objects(connection, &scanner, (&users, &groups), true, out).await
    }

    /// Reads the objects of a kind with these ids, wherever the settings look for that kind.
    pub(super) async fn read_again(
        &self,
        subject: Subject,
        ids: Vec<String>,
        pages: mpsc::Sender<Page>,
    ) -> Result<(), Failure> {
        self.require_valid()?;
        // What is no UUID can't be the id of anything.
        let ids: Vec<String> = ids.iter().filter_map(|id| mapping::external_id(id)).collect();
        let trust = self.client.trust()?;
        let mut turns = self.client.turns(None).await?;
        while let Some(endpoint) = turns.next_server() {
            let mut out = Pages::new(&pages);
            match self.again_from(endpoint, trust.as_ref(), subject, &ids, &mut out).await {
                Ok(()) => return Ok(()),
                Err(failure) => turns.failed(failure, out.has_objects())?,
            }
        }
        Err(turns.end())
    }

    async fn again_from(
        &self,
        endpoint: &Endpoint,
        trust: Option<&Trust>,
        subject: Subject,
        ids: &[String],
        out: &mut Pages<'_>,
    ) -> Result<(), Failure> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut connection = or_cancelled(out.sender(), self.client.open(endpoint, trust)).await?;
        let (looks, filter, bases, policies) = match subject {
            Subject::Identity => {
                let policies = or_cancelled(out.sender(), self.read_policies(&mut connection, None)).await?;
                (&[What::Users][..], self.settings.user_filter(), self.settings.user_bases(), policies)
            }
            // The status of people is no part of a group.
            Subject::Group => {
                let looks = &[What::GroupsSeen, What::Groups][..];
                (looks, self.settings.group_filter(), self.settings.group_bases(), Policies::default())
            }
        };
        let scanner = Scanner::new(&self.settings, policies.clone(), self.now.as_second());
        out.map_with(Mapper::new(&self.settings, policies, self.now.as_second()));
        for what in looks.iter().copied() {
            let attributes = self.attributes(what, false);
            for batch in ids.chunks(IDS_AT_ONCE) {
                let any: String = batch.iter().map(|id| format!("(entryUUID={id})")).collect();
                let filter = format!("(&{filter}(|{any}))");
                for base in bases.clone() {
                    let search = connection.search(self.request(base, &filter, &attributes));
                    read_all(search, &mut scanner.look(what), out).await?;
                }
            }
        }
        connection.close().await;
        Ok(())
    }
}

const ANYTHING: &str = "(objectClass=*)";
/// Asks for no attribute (RFC 4511 §4.5.1.8).
const NO_ATTRIBUTES: &str = "1.1";

/// Reads one entry's id, and its contextCSN if it has one. An entry that can't be seen is simply not there.
async fn look_at(connection: &mut Connection, dn: &str, stand: &mut Stand) -> Result<(), Failure> {
    let mut search = connection.search(SearchRequest {
        base: dn.to_owned(),
        scope: ldap::Scope::Base,
        filter: ANYTHING.to_owned(),
        attributes: ["entryUUID", "contextCSN"].map(str::to_owned).to_vec(),
        page_size: 0,
        entries_max: None,
    });
    while let Some(chunk) = search.next(&mut Plainly).await? {
        for entry in chunk.entries().filter_map(EntryView::read) {
            if let Some(id) = entry.text("entryUUID").and_then(mapping::external_id) {
                stand.ids.insert(dn.to_owned(), id);
            }
            let values = entry.values("contextCSN");
            let csns = values.iter().filter_map(|value| std::str::from_utf8(value).ok());
            if let Some(state) = Cookie::of_csns(csns) {
                stand.states.insert(dn.to_owned(), state);
            }
        }
    }
    Ok(())
}

/// One reading of changes by syncrepl.
struct Syncing<'r, 's> {
    directory: &'r OpenLdap,
    connection: &'r mut Connection,
    server: &'r str,
    out: &'r mut Pages<'s>,
}

/// How the searches of one kind ended.
#[derive(Debug, Default)]
struct Kind {
    /// What was sent: it is not gone, whatever another search says.
    sent: HashSet<Uuid>,
    gone: Vec<Uuid>,
    /// For each search, whether it listed all that is there.
    lists: Vec<bool>,
}

impl Syncing<'_, '_> {
    /// Reads users, then groups twice, all from the cookies in `marks`, and moves the cookies on. Answers whether what
    /// is there was listed: identities, groups.
    async fn all(mut self, marks: &mut [Mark]) -> Result<(bool, bool), DeltaStop> {
        let directory = self.directory;
        let now_second = directory.now.as_second();
        let policies = directory.read_policies(self.connection, None);
        let policies = or_cancelled(self.out.sender(), policies).await?;
        let scanner = Scanner::new(&directory.settings, policies.clone(), now_second);
        self.out.map_with(Mapper::new(&directory.settings, policies, now_second));
        let branches = self.changed_branches(marks).await?;
        let mut users = Kind::default();
        for mark in marks.iter_mut().filter(|mark| !mark.is_for_groups) {
            mark.cookie = self.one(mark, &scanner, What::Users, &mut users).await?;
        }
        self.below(&branches, &scanner, What::Users, &mut users).await?;
        let lists_identities = self.finish(users, Subject::Identity).await?;
        let mut seen = Kind::default();
        for mark in marks.iter().filter(|mark| mark.is_for_groups) {
            self.one(mark, &scanner, What::GroupsSeen, &mut seen).await?;
        }
        self.below(&branches, &scanner, What::GroupsSeen, &mut seen).await?;
        let mut groups = Kind::default();
        for mark in marks.iter_mut().filter(|mark| mark.is_for_groups) {
            mark.cookie = self.one(mark, &scanner, What::Groups, &mut groups).await?;
        }
        self.below(&branches, &scanner, What::Groups, &mut groups).await?;
        Ok((lists_identities, self.finish(groups, Subject::Group).await?))
    }

    /// Entries with others below them, neither users nor groups, that have changed: they may have been renamed. As
    /// (is below a base of groups, DN).
    async fn changed_branches(&mut self, marks: &[Mark]) -> Result<Vec<(bool, String)>, DeltaStop> {
        let settings = &self.directory.settings;
        let mut branches = Vec::new();
        if settings.scope == Scope::One {
            return Ok(branches);
        }
        let filter = format!("(&(hasSubordinates=TRUE)(!{})(!{}))", settings.user_filter(), settings.group_filter());
        for mark in marks {
            let request = self.directory.request(mark.base.clone(), &filter, &[NO_ATTRIBUTES.to_owned()]);
            let control = sync::request(Mode::RefreshOnly, mark.cookie.as_bytes());
            let id = self.connection.ask(&request, 0, &[control]).await?;
            let mut look = BranchLook(Vec::new());
            let end = loop {
                let answer = self.connection.collect(id, &request.base, &mut look);
                if let (_, Some(end)) = or_cancelled(self.out.sender(), answer).await? {
                    break end;
                }
                if look.0.len() > BRANCHES_MAX {
                    return Err(lost(&format!("More than {BRANCHES_MAX} branches of {} have changed.", self.server)));
                }
            };
            self.end_of(mark, &end, false)?;
            branches.extend(look.0.into_iter().map(|dn| (mark.is_for_groups, dn)));
        }
        Ok(branches)
    }

    /// Reads what lies below changed branches and was not sent yet.
    async fn below(
        &mut self,
        branches: &[(bool, String)],
        scanner: &Scanner,
        what: What,
        kind: &mut Kind,
    ) -> Result<(), DeltaStop> {
        let settings = &self.directory.settings;
        let filter = if what == What::Users { settings.user_filter() } else { settings.group_filter() };
        let attributes = self.directory.attributes(what, false);
        let own = branches.iter().filter(|(is_for_groups, _)| *is_for_groups != (what == What::Users));
        for (_, dn) in own {
            let search = self.connection.search(self.directory.request(dn.clone(), filter, &attributes));
            read_all(search, &mut NewOnly { sighter: scanner.look(what), sent: &mut kind.sent }, self.out).await?;
        }
        Ok(())
    }

    /// One search from one cookie; answers the next.
    async fn one(&mut self, mark: &Mark, scanner: &Scanner, what: What, kind: &mut Kind) -> Result<String, DeltaStop> {
        let settings = &self.directory.settings;
        let filter = if what == What::Users { settings.user_filter() } else { settings.group_filter() };
        let attributes = self.directory.attributes(what, false);
        let request = self.directory.request(mark.base.clone(), filter, &attributes);
        let control = sync::request(Mode::RefreshOnly, mark.cookie.as_bytes());
        let id = self.connection.ask(&request, 0, &[control]).await?;
        let mut look = SyncLook { sighter: scanner.look(what), what, kind, present: Vec::new(), has_listed: false };
        let end = loop {
            let answer = self.connection.collect(id, &request.base, &mut look);
            let (chunk, end): (Chunk<Sighting>, Option<End>) = or_cancelled(self.out.sender(), answer).await?;
            if look.kind.gone.len() > DELETIONS_MAX {
                return Err(lost(&format!("{} names more than {DELETIONS_MAX} deletions.", self.server)));
            }
            let present = std::mem::take(&mut look.present);
            // A result other than success makes what came with it worthless.
            if end.as_ref().is_none_or(|end| end.code == 0) {
                self.out.send(chunk).await?;
                self.out.send_bare(present).await?;
            }
            if let Some(end) = end {
                break end;
            }
        };
        let has_listed = look.has_listed;
        let (cookie, lists) = self.end_of(mark, &end, has_listed)?;
        kind.lists.push(lists);
        Ok(cookie)
    }

    /// What the result of a search says: the next cookie, and whether what was not mentioned is gone.
    fn end_of(&self, mark: &Mark, end: &End, has_listed: bool) -> Result<(String, bool), DeltaStop> {
        let server = self.server;
        let said = if end.diagnostic.is_empty() {
            format!("LDAP result {} {}", end.code, errors::code_name(end.code))
        } else {
            format!("LDAP result {} {}: {}", end.code, errors::code_name(end.code), errors::printable(&end.diagnostic))
        };
        match end.code {
            0 => (),
            4096 => {
                return Err(lost(&format!("{server} no longer knows what has changed since the last run ({said}).")));
            }
            2 | 53 => return Err(lost(&format!("{server} does not go on from where the last run ended ({said})."))),
            12 => {
                return Err(lost(&format!(
                    "{server} no longer tells changes; the overlay syncprov is missing ({said})."
                )));
            }
            3 | 4 | 11 => {
                return Err(lost(&format!("{server} cut the answer with the changes at one of its limits ({said}).")));
            }
            code => {
                let refused = ServerResult { code, diagnostic: &end.diagnostic, matched: &end.matched };
                return Err(errors::failure(Operation::Search(&mark.base), server, refused).into());
            }
        }
        let broken = |violation: Violation| violation.into_failure(server);
        let value = control_value(&end.controls, sync::SYNC_DONE);
        let value = value.ok_or_else(|| broken(Violation::Shape("the end of a sync has no Sync Done control")))?;
        let done = sync::done(value).map_err(broken)?;
        let before = Cookie::parse(mark.cookie.as_bytes());
        let now = done.cookie.and_then(Cookie::parse);
        let has_moved_on = match (&before, &now) {
            (Some(before), Some(now)) => now > before,
            _ => false,
        };
        let lists = has_listed || !done.refresh_deletes;
        // As OpenLDAP's own consumer: a list of all that is there belongs to a later state. Without one, an empty
        // answer would mean that everything is gone.
        if lists && !has_moved_on {
            return Err(lost(&format!("{server} does not say what is gone since the last run.")));
        }
        match now {
            Some(now) if has_moved_on => Ok((now.to_string(), lists)),
            _ => Ok((mark.cookie.clone(), false)),
        }
    }

    /// Tells what is gone, and answers whether what is there was listed.
    async fn finish(&mut self, kind: Kind, subject: Subject) -> Result<bool, DeltaStop> {
        let lists = kind.lists.iter().any(|lists| *lists);
        if lists && !kind.lists.iter().all(|lists| *lists) {
            return Err(lost(&format!(
                "{} lists what is there below one base and what is gone below another.",
                self.server
            )));
        }
        let mut told = kind.sent;
        let gone = kind.gone.into_iter().filter(|id| told.insert(*id));
        let gone = gone.map(|id| Sighting::Deleted { subject, external_id: sync::uuid_text(&id) });
        self.out.send_bare(gone.collect()).await?;
        Ok(lists)
    }
}

/// Looks at what a sync search finds.
struct SyncLook<'k> {
    sighter: Sighter<'k>,
    what: What,
    kind: &'k mut Kind,
    /// Unchanged and there, not handed on yet.
    present: Vec<Sighting>,
    /// A phase is over in which all that is there was listed.
    has_listed: bool,
}

impl SyncLook<'_> {
    fn is_there(&mut self, id: &Uuid) {
        let subject = match self.what {
            What::Users => Subject::Identity,
            What::Groups => Subject::Group,
            // The second look says so.
            What::GroupsSeen => return,
        };
        self.present.push(Sighting::Present { subject, external_id: sync::uuid_text(id) });
    }
}

impl Look for SyncLook<'_> {
    type Seen = Sighting;

    fn entry(&mut self, entry: RawEntry<'_>) -> Result<Option<Sighting>, Violation> {
        let value = control_value(entry.controls, sync::SYNC_STATE);
        let state = sync::entry_state(value.ok_or(Violation::Shape("an entry of a sync has no Sync State control"))?)?;
        match state.state {
            State::Add | State::Modify => {
                self.kind.sent.insert(state.uuid);
                let mut sighting = self.sighter.entry(entry)?;
                // The id is known here even if the bind DN may not read it.
                if let Some(Sighting::Unreadable(unreadable)) = &mut sighting {
                    unreadable.external_id = Some(sync::uuid_text(&state.uuid));
                }
                return Ok(sighting);
            }
            State::Present => self.is_there(&state.uuid),
            State::Delete => self.kind.gone.push(state.uuid),
        }
        entry.walk(|_, _| ())?;
        Ok(None)
    }

    fn intermediate(&mut self, name: &[u8], value: &[u8]) -> Result<bool, Violation> {
        if name != sync::SYNC_INFO.as_bytes() {
            return Ok(false);
        }
        match sync::message(value)? {
            SyncMessage::IdSet { refresh_deletes: true, ids, .. } => self.kind.gone.extend(ids),
            SyncMessage::IdSet { refresh_deletes: false, ids, .. } => ids.for_each(|id| self.is_there(&id)),
            SyncMessage::RefreshPresent { .. } => self.has_listed = true,
            SyncMessage::RefreshDelete { .. } | SyncMessage::NewCookie(_) => (),
        }
        Ok(true)
    }
}

/// Keeps the DNs of what has changed.
struct BranchLook(Vec<String>);

impl Look for BranchLook {
    type Seen = ();

    fn entry(&mut self, entry: RawEntry<'_>) -> Result<Option<()>, Violation> {
        let value = control_value(entry.controls, sync::SYNC_STATE);
        let state = sync::entry_state(value.ok_or(Violation::Shape("an entry of a sync has no Sync State control"))?)?;
        let view = entry.walk(|_, _| ())?;
        if let (State::Add | State::Modify, Ok(dn)) = (state.state, std::str::from_utf8(view.dn)) {
            self.0.push(dn.to_owned());
        }
        Ok(None)
    }

    fn intermediate(&mut self, name: &[u8], _: &[u8]) -> Result<bool, Violation> {
        Ok(name == sync::SYNC_INFO.as_bytes())
    }
}

/// Sights what was not sent yet.
struct NewOnly<'k> {
    sighter: Sighter<'k>,
    sent: &'k mut HashSet<Uuid>,
}

impl Look for NewOnly<'_> {
    type Seen = Sighting;

    fn entry(&mut self, entry: RawEntry<'_>) -> Result<Option<Sighting>, Violation> {
        let sighting = self.sighter.entry(entry)?;
        let id = match &sighting {
            Some(
                Sighting::Identity { external_id, .. }
                | Sighting::GroupSeen { external_id, .. }
                | Sighting::Group { external_id, .. },
            ) => sync::uuid_of(external_id),
            _ => None,
        };
        Ok(sighting.filter(|_| id.is_none_or(|id| self.sent.insert(id))))
    }
}

/// Checks what comes and keeps nothing.
struct Ignore;

impl Look for Ignore {
    type Seen = ();

    fn entry(&mut self, entry: RawEntry<'_>) -> Result<Option<()>, Violation> {
        entry.walk(|_, _| ())?;
        Ok(None)
    }

    fn intermediate(&mut self, name: &[u8], _: &[u8]) -> Result<bool, Violation> {
        Ok(name == sync::SYNC_INFO.as_bytes())
    }
}
