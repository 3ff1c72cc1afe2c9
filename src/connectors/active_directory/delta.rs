//! Reading what has changed: the objects whose ids [`changes`] finds, read again in the way of a full reading.
//!
//! What was deleted and what is no longer where the settings look are the same here: it was named as changed, and is not
//! found. A group is sent with all of its members; those whose primary group it is are asked for by the group, because
//! nothing else says who they are.
//!
//! Owns the order of a reading of changes. It must never go on from a watermark of another controller, nor read groups on
//! another controller than the one that told of the change: the other may not know it yet.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use tokio::sync::mpsc;

use super::{
    ActiveDirectory,
    changes::{self, Change, Changes, Guid, IDS_AT_ONCE, Seeker, any_of_ids},
    controller::Controller,
    forms,
    groups::{Groups, Primary},
    is_own_partition,
    mapping::{self, Mapper},
    reading_rights,
    scan::{AccountLook, Excluded, GroupSid, GroupsSeen, primary_group, rid_of},
    watermark::{Stand, Watermark, lost},
};
use crate::connectors::{
    DeltaEnd, DeltaStop, Failure, FailureKind, Page, Sighting, Subject,
    ldap::{
        self, Connection, Endpoint, EntryView, SearchRequest, Trust,
        answer::Violation,
        inbox::{Look, RawEntry},
        pages::{Pages, or_cancelled, read_all},
    },
};

/// Members of primary groups that are asked for without pages, which take a controller of Samba four times as long. One of
/// Windows gives a thousand in this way, says so, and is asked again with pages.
const UNPAGED_MAX: u32 = 50_000;

impl ActiveDirectory {
    /// Where the controller stands before anything is read; `None` where changes can't be read from it. Nothing that can be
    /// refused here is a failure: the full reading does not need it.
    pub(super) async fn begin(
        &self,
        mut connection: Connection,
        endpoint: &Endpoint,
        trust: Option<&Trust>,
        controller: &Controller,
    ) -> Result<(Connection, Option<Watermark>), Failure> {
        if self.settings.global_catalog || self.settings.untold().is_some() {
            return Ok((connection, None));
        }
        let Some(stand) = tolerate(Stand::ask(&mut connection, controller).await)?.flatten() else {
            return Ok((connection, None));
        };
        let cookie = match changes::cookie_of_now(&mut connection, &controller.domain).await {
            // A controller may have to look through all of the domain to say this, and the numbers will do.
            Err(failure) if failure.kind == FailureKind::TimedOut => {
                self.client.prefer(connection.address());
                connection = self.client.open(endpoint, trust).await?;
                None
            }
            answer => tolerate(answer)?.flatten(),
        };
        let place = (connection.server().to_owned(), connection.address());
        let watermark = Watermark::new(place, &self.settings, stand, cookie.as_deref());
        Ok((connection, Some(watermark)))
    }

    pub(super) async fn changes(&self, json: &str, pages: mpsc::Sender<Page>) -> Result<DeltaEnd, DeltaStop> {
        ldap::require_valid(self.settings.check())?;
        let before = Watermark::parse(json, &self.settings)?;
        let trust = self.client.trust()?;
        self.client.prefer(before.address);
        // Only the one that made the watermark can go on from it. Another is asked so that it can be told apart.
        let mut turns = self.client.turns(Some(&before.server)).await?;
        while let Some(endpoint) = turns.next_server() {
            let mut out = Pages::new(&pages);
            match self.changes_from(endpoint, trust.as_ref(), &before, &mut out).await {
                Ok(end) => {
                    // Set once at most: a connector is opened for one run.
                    let _ = self.answered.set(end.server.clone());
                    return Ok(end);
                }
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
        let wanted = out.sender();
        let mut connection = or_cancelled(wanted, self.client.open(endpoint, trust)).await?;
        let server = endpoint.to_string();
        let address = connection.address();
        // What the planner asks for afterwards is asked of the same one.
        self.client.prefer(address);
        let controller = or_cancelled(wanted, Controller::ask(&mut connection)).await?;
        // Before what has changed is asked for: what changes from here on is told the next time.
        let stand = or_cancelled(wanted, Stand::ask(&mut connection, &controller)).await?;
        before.check(&server, stand.as_ref())?;
        let stand = stand.ok_or_else(|| lost("The controller no longer says how far it has come."))?;
        let mut attributes = Mapper::user_attributes(&self.settings);
        attributes.extend(Mapper::group_attributes(&self.settings));
        let seeker = Seeker { connection: &mut connection, settings: &self.settings, attributes, wanted };
        let Changes { objects, cookie } = seeker.seek(before).await?;

        let mut again = self.again(&mut connection, &controller, out);
        let guids: Vec<Guid> = objects.keys().copied().collect();
        let (sent, primary_groups) = again.identities(&guids, &objects).await?;
        again.gone(Subject::Identity, &guids, &sent).await?;
        let of_groups = guids.chunks(IDS_AT_ONCE).map(any_of_ids).chain(any_of_sids(&primary_groups));
        let sent = again.groups(of_groups.collect()).await?;
        again.gone(Subject::Group, &guids, &sent).await?;

        let finds_deletions =
            or_cancelled(wanted, reading_rights::sees_deleted(&mut connection, &controller.domain)).await?;
        connection.close().await;
        let watermark = Watermark::new((server.clone(), address), &self.settings, stand, cookie.as_deref()).to_json();
        Ok(DeltaEnd { server, watermark, finds_deletions, ..DeltaEnd::default() })
    }

    fn again<'r, 's>(
        &'r self,
        connection: &'r mut Connection,
        controller: &Controller,
        out: &'r mut Pages<'s>,
    ) -> Again<'r, 's> {
        out.map_with(Mapper::new(&self.settings, self.now.as_second()));
        out.keep_quiet_about(is_own_partition);
        let bases = self.settings.bases(controller.top(&self.settings));
        let excluded = Excluded(self.settings.excluded());
        Again { directory: self, connection, out, bases, excluded, is_limited: false }
    }

    /// Reads the objects of a kind with these ids, wherever the settings look for that kind.
    pub(super) async fn read_again(
        &self,
        subject: Subject,
        ids: Vec<String>,
        pages: mpsc::Sender<Page>,
    ) -> Result<(), Failure> {
        ldap::require_valid(self.settings.check())?;
        // What is no GUID can't be the id of anything.
        let guids: Vec<Guid> = ids.iter().filter_map(|id| forms::guid_bytes(id)).collect();
        if guids.is_empty() {
            return Ok(());
        }
        let trust = self.client.trust()?;
        let mut turns = self.client.turns(self.answered.get().map(String::as_str)).await?;
        while let Some(endpoint) = turns.next_server() {
            let mut out = Pages::new(&pages);
            match self.again_from(endpoint, trust.as_ref(), subject, &guids, &mut out).await {
                Ok(()) => return Ok(()),
                Err(failure) if self.answered.get().is_some() => return Err(failure),
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
        guids: &[Guid],
        out: &mut Pages<'_>,
    ) -> Result<(), Failure> {
        let mut connection = or_cancelled(out.sender(), self.client.open(endpoint, trust)).await?;
        let controller = or_cancelled(out.sender(), Controller::ask(&mut connection)).await?;
        let mut again = self.again(&mut connection, &controller, out);
        match subject {
            Subject::Identity => drop(again.identities(guids, &BTreeMap::new()).await?),
            Subject::Group => drop(again.groups(guids.chunks(IDS_AT_ONCE).map(any_of_ids).collect()).await?),
        }
        connection.close().await;
        Ok(())
    }
}

/// Reads objects again on one connection, in the way of a full reading.
struct Again<'r, 's> {
    directory: &'r ActiveDirectory,
    connection: &'r mut Connection,
    out: &'r mut Pages<'s>,
    bases: Vec<String>,
    excluded: Excluded,
    /// The controller gives some entries at once, and the rest in pages.
    is_limited: bool,
}

impl Again<'_, '_> {
    fn request(&self, base: &str, filter: String, attributes: Vec<String>) -> SearchRequest {
        // Fewer than any controller gives at once.
        SearchRequest { page_size: 0, ..self.directory.request(base, filter, attributes) }
    }

    /// Sends the accounts with these ids. Answers who was sent, and the primary groups (objectSid) of those who may have
    /// come, as `objects` says.
    async fn identities(
        &mut self,
        guids: &[Guid],
        objects: &BTreeMap<Guid, Change>,
    ) -> Result<(HashSet<String>, BTreeSet<GroupSid>), Failure> {
        let settings = &self.directory.settings;
        let accounts = AccountLook::new(settings, self.directory.now.as_second());
        let mut look = Tracked { accounts, objects, sent: HashSet::new(), primary_groups: BTreeSet::new() };
        for batch in guids.chunks(IDS_AT_ONCE) {
            for base in self.bases.clone() {
                let filter = format!("(&{}{})", settings.user_filter(), any_of_ids(batch));
                let request = self.request(&base, filter, Mapper::user_attributes(settings));
                read_all(self.connection.search(request), &mut look, self.out).await?;
            }
        }
        Ok((look.sent, look.primary_groups))
    }

    /// Sends the groups that fit one of these filters, with all their members. Answers which were sent.
    async fn groups(&mut self, filters: Vec<String>) -> Result<HashSet<String>, Failure> {
        let settings = &self.directory.settings;
        let filters: Vec<String> =
            filters.into_iter().map(|filter| format!("(&{}{filter})", settings.group_filter())).collect();
        let seen = GroupsSeen { excluded: self.excluded.clone() };
        let mut look = TrackedSeen { seen, sent: HashSet::new(), rids: BTreeSet::new(), found: 0 };
        let mut with_content = Vec::new();
        for base in self.bases.clone() {
            for filter in &filters {
                let before = look.found;
                let attributes = ["objectGUID", "objectSid"].map(str::to_owned).to_vec();
                let request = self.request(&base, filter.clone(), attributes);
                read_all(self.connection.search(request), &mut look, self.out).await?;
                if look.found > before {
                    let attributes = Mapper::group_attributes(settings);
                    with_content.push(self.request(&base, filter.clone(), attributes));
                }
            }
        }
        let TrackedSeen { sent, rids, .. } = look;
        let primary = self.primary(&rids).await?;
        let mut groups = Groups {
            connection: &mut *self.connection,
            out: &mut *self.out,
            mapper: Mapper::new(settings, self.directory.now.as_second()),
            excluded: self.excluded.clone(),
            primary,
            sent,
            members_at_once: self.directory.members_at_once,
        };
        for request in with_content {
            groups.read(request).await?;
        }
        Ok(groups.sent)
    }

    /// Who has one of these primary groups.
    async fn primary(&mut self, rids: &BTreeSet<u32>) -> Result<Primary, Failure> {
        let settings = &self.directory.settings;
        let rids: Vec<u32> = rids.iter().copied().collect();
        let mut all = Primary::default();
        for batch in rids.chunks(IDS_AT_ONCE) {
            let any: String = batch.iter().map(|rid| format!("(primaryGroupID={rid})")).collect();
            let filter = format!("(&{}(|{any}))", settings.user_filter());
            for base in self.bases.clone() {
                let attributes = ["objectGUID", "objectSid", "primaryGroupID"].map(str::to_owned).to_vec();
                let paged = self.directory.request(&base, filter.clone(), attributes);
                let unpaged = SearchRequest { page_size: 0, entries_max: Some(UNPAGED_MAX), ..paged.clone() };
                let mut found = None;
                if !self.is_limited {
                    found = self.primary_by(unpaged).await?;
                    self.is_limited = found.is_none();
                }
                let found = match found {
                    Some(found) => found,
                    None => self.primary_by(paged).await?.unwrap_or_default(),
                };
                found.keys.into_iter().for_each(|(group, keys)| all.keys.entry(group).or_default().extend(keys));
                all.texts.extend(found.texts);
            }
        }
        Ok(all)
    }

    /// `None`: there are more than the controller gives in this way.
    async fn primary_by(&mut self, request: SearchRequest) -> Result<Option<Primary>, Failure> {
        let is_paged = request.page_size > 0;
        let mut look = PrimaryLook { excluded: &self.excluded, primary: Primary::default() };
        let mut search = self.connection.search(request);
        loop {
            match or_cancelled(self.out.sender(), search.next(&mut look)).await {
                Ok(Some(_)) => {}
                Ok(None) if search.has_more() => return Ok(None),
                Ok(None) => return Ok(Some(look.primary)),
                Err(failure) if failure.kind == FailureKind::LimitExceeded && !is_paged => return Ok(None),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Tells that what has changed and was not sent is gone: deleted, or elsewhere, or another kind of thing.
    async fn gone(&mut self, subject: Subject, guids: &[Guid], sent: &HashSet<String>) -> Result<(), Failure> {
        let ids = guids.iter().filter_map(|guid| forms::guid_text(guid)).filter(|id| !sent.contains(id));
        self.out.send_bare(ids.map(|external_id| Sighting::Deleted { subject, external_id }).collect()).await
    }
}

/// Filters for groups with these security identifiers.
fn any_of_sids(sids: &BTreeSet<GroupSid>) -> Vec<String> {
    let parts: Vec<String> = sids.iter().map(|sid| format!("(objectSid={})", forms::filter_bytes(sid))).collect();
    parts.chunks(IDS_AT_ONCE).map(|some| format!("(|{})", some.concat())).collect()
}

/// The security identifier of an account's primary group.
fn primary_of(entry: &EntryView<'_>) -> Option<GroupSid> {
    primary_group(entry.values("objectSid").first().copied(), entry.text("primaryGroupID"))
}

/// Looks at accounts as a full reading does, and remembers them.
struct Tracked<'o> {
    accounts: AccountLook,
    objects: &'o BTreeMap<Guid, Change>,
    sent: HashSet<String>,
    primary_groups: BTreeSet<GroupSid>,
}

impl Look for Tracked<'_> {
    type Seen = Sighting;

    fn entry(&mut self, raw: RawEntry<'_>) -> Result<Option<Sighting>, Violation> {
        let sighting = self.accounts.entry(raw)?;
        match &sighting {
            Some(Sighting::Identity { external_id, .. }) => {
                let guid = forms::guid_bytes(external_id);
                let change = guid.and_then(|guid| self.objects.get(&guid)).copied().unwrap_or_default();
                if change.may_have_come {
                    self.primary_groups.extend(EntryView::read(raw.body).as_ref().and_then(primary_of));
                }
                self.sent.insert(external_id.clone());
            }
            Some(Sighting::Unreadable(unreadable)) => self.sent.extend(unreadable.external_id.clone()),
            _ => {}
        }
        Ok(sighting)
    }
}

/// Sees groups as a full reading does, and remembers them.
struct TrackedSeen {
    seen: GroupsSeen,
    sent: HashSet<String>,
    rids: BTreeSet<u32>,
    /// Those that can't be read included.
    found: usize,
}

impl Look for TrackedSeen {
    type Seen = Sighting;

    fn entry(&mut self, raw: RawEntry<'_>) -> Result<Option<Sighting>, Violation> {
        let sighting = self.seen.entry(raw)?;
        self.found += 1;
        if let Some(Sighting::GroupSeen { external_id, .. }) = &sighting {
            self.sent.insert(external_id.clone());
            self.rids.extend(EntryView::read(raw.body).as_ref().and_then(rid_of));
        }
        Ok(sighting)
    }
}

/// Takes note of who has which primary group.
struct PrimaryLook<'e> {
    excluded: &'e Excluded,
    primary: Primary,
}

impl Look for PrimaryLook<'_> {
    type Seen = ();

    fn entry(&mut self, raw: RawEntry<'_>) -> Result<Option<()>, Violation> {
        let entry = raw.walk(|_, _| ())?;
        let group = primary_of(&entry);
        // As in a full reading: whoever can't be read is no member.
        let guid = entry.values("objectGUID").first().copied();
        if let (Some(group), Ok((dn, key, _)), false) =
            (group, mapping::head(&entry, guid), self.excluded.holds(&entry))
        {
            self.primary.keys.entry(group).or_default().push(key);
            self.primary.texts.insert(key, dn.to_owned());
        }
        Ok(None)
    }
}

/// A side question may be refused; it may not cost the connection.
fn tolerate<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    use FailureKind::{Cancelled, ConnectionLost, ProtocolViolation, TimedOut};
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(failure) if matches!(failure.kind, TimedOut | ConnectionLost | ProtocolViolation | Cancelled) => {
            Err(failure)
        }
        Err(_) => Ok(None),
    }
}
