//! Identities and groups for people: lists with search, one identity, one group, and their exports.

use std::{cmp::Reverse, collections::HashSet};

use actix_web::HttpResponse;
use askama::Template;
use rusqlite::Connection;
use serde::Deserialize;

use super::{
    api::{self, GroupQuery, IdentityQuery, MemberQuery, moment},
    export, history,
    model::{Belonging, ChangeRow, DirectoryChoice, FOREVER, GroupRow, IdentityRow, Member, ObjectId, SubjectType},
    parts::{self, Sight},
    past,
    past_pages::{Absent, AsOf, absent},
    privileges::{self, Reason},
    queries,
    raw::{Attribute, attributes, first_text, shortened},
};
use crate::{
    clock::Time,
    connectors::{Fact, Kind, Status},
    error::{Error, Result},
    web::{Ctx, Cursor, Listing, PAGE_SIZE, Page, PathId, Query, grouped, href, html},
};

fn text(given: &Option<String>) -> &str {
    given.as_deref().unwrap_or_default()
}

/// A state as a word: `active` is `Active`.
pub fn title(state: &str) -> String {
    let mut words = state.replace('-', " ");
    if let Some(first) = words.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    words
}

/// A filter that could not be read is said on the page, with the form as it was sent.
fn problem_of<T>(result: Result<T>) -> Result<(Option<T>, String)> {
    match result {
        Ok(value) => Ok((Some(value), String::new())),
        Err(Error::BadRequest(message) | Error::Unavailable { message, .. }) => Ok((None, message)),
        Err(other) => Err(other),
    }
}

#[derive(Template)]
#[template(path = "identities/list.html", blocks = ["rows"])]
struct IdentitiesPage {
    page: Page,
    identities: Vec<IdentityRow>,
    directories: Vec<DirectoryChoice>,
    /// The group that the list is narrowed to: id and name.
    group: Option<(ObjectId, String)>,
    as_of: AsOf,
    query: IdentityQuery,
    /// A filter that could not be read.
    problem: String,
    /// Addresses of other pages; empty when there is none.
    first_href: String,
    next_href: String,
    export_href: String,
    is_fragment: bool,
    /// Of those shown.
    privileged: HashSet<ObjectId>,
    /// Accounts that are no users, would be found, and are left out; counted up to [`HIDDEN_MAX`].
    hidden: usize,
}

/// Hidden accounts are not counted beyond this.
const HIDDEN_MAX: usize = 5_000;

impl IdentitiesPage {
    fn statuses(&self) -> Vec<(&'static str, String)> {
        let statuses = Status::ALL.iter().map(|status| status.as_str());
        statuses.chain(["missing"]).map(|status| (status, title(status))).collect()
    }

    fn is_chosen(&self, given: &Option<String>, value: &impl ToString) -> bool {
        text(given) == value.to_string()
    }

    fn is_filtered(&self) -> bool {
        self.query.fields().iter().any(|(name, value)| *name != "asOf" && !value.is_empty())
    }

    /// Who is privileged can be asked for where a directory says which groups make it so.
    fn has_privileged(&self) -> bool {
        self.query.privileged.is_some() || self.directories.iter().any(|directory| directory.has_privileged)
    }

    /// The types of account to choose from: none where all are users.
    fn account_types(&self) -> Vec<(&'static str, &'static str)> {
        if self.query.account_type.is_none() && !self.directories.iter().any(|directory| directory.has_not_users) {
            return Vec::new();
        }
        vec![
            ("", "Users only"),
            ("all", "All accounts"),
            ("computer", "Computers only"),
            ("managed-service-account", "Managed service accounts only"),
        ]
    }

    /// How many accounts are left out, in words; empty when none is.
    fn hidden_text(&self) -> String {
        let hidden = match self.hidden {
            0 => return String::new(),
            _ if self.as_of.is_set() => return "Computers and managed service accounts are hidden.".to_owned(),
            1 => return "1 computer or managed service account is hidden.".to_owned(),
            HIDDEN_MAX.. => format!("More than {}", grouped(HIDDEN_MAX as i64)),
            some => grouped(some as i64),
        };
        format!("{hidden} computers and managed service accounts are hidden.")
    }

    /// This list with them.
    fn all_href(&self) -> String {
        self.with("accountType", "all")
    }

    fn typed(&self) -> &str {
        text(&self.query.q).trim()
    }

    /// How many there are, when that is known without counting: of everything, or of one directory.
    fn total(&self) -> Option<String> {
        let query = &self.query;
        if self.as_of.is_set() {
            return None;
        }
        let uncounted = [&query.q, &query.status, &query.group, &query.privileged];
        if uncounted.into_iter().any(|given| !text(given).is_empty())
            || !matches!(text(&query.account_type), "" | "all")
            || self.hidden >= HIDDEN_MAX
        {
            return None;
        }
        let chosen = text(&query.directory);
        let counted =
            self.directories.iter().filter(|directory| chosen.is_empty() || directory.id.to_string() == chosen);
        let all: i64 = counted.map(|directory| directory.identities).sum();
        Some(grouped(all - self.hidden as i64))
    }

    fn has_other_filters(&self) -> bool {
        self.query.fields().iter().any(|(name, value)| !matches!(*name, "q" | "asOf") && !value.is_empty())
    }

    /// The same search in everything.
    fn only_typed(&self) -> String {
        href("/identities", &[("q", self.typed()), ("asOf", text(&self.query.as_of))])
    }

    fn state_title(&self, row: &IdentityRow) -> String {
        title(row.state())
    }

    /// This list without one of its filters.
    fn without(&self, filter: &str) -> String {
        self.with(filter, "")
    }

    fn with(&self, filter: &str, value: &str) -> String {
        href(
            "/identities",
            &self.query.fields().map(|(name, given)| (name, if name == filter { value } else { given })),
        )
    }
}

pub(super) async fn identities(ctx: Ctx, query: Query<IdentityQuery>) -> Result<HttpResponse> {
    let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
    let seen = sight.clone();
    let query = query.0;
    let wanted: Option<ObjectId> = text(&query.group).parse().ok();
    let (directories, group) = ctx
        .kernel
        .db
        .read(move |c| {
            let group = match wanted {
                Some(id) => queries::find_group(c, &seen, id)?.map(|group| (id, group.name)),
                None => None,
            };
            Ok((queries::directories(c, &seen)?, group))
        })
        .await?;
    // People come here for people; where computers are read too, they are shown to who asks for them.
    let hides = text(&query.account_type).is_empty() && directories.iter().any(|directory| directory.has_not_users);
    let account_type = if hides { Some("user".to_owned()) } else { query.account_type.clone() };
    let narrowed = IdentityQuery { account_type, ..query.clone() };
    let (listing, problem) = problem_of(narrowed.page(&ctx, PAGE_SIZE).await)?;
    let (identities, next) = listing.map_or((Vec::new(), None), |listing| (listing.rows, listing.next));
    let at = moment("asOf", query.as_of.as_deref(), ctx.kernel.clock.now()).ok().flatten();
    let filter = query.filter().ok().filter(|_| hides && problem.is_empty());
    let ids: Vec<ObjectId> = identities.iter().map(|row| row.id).collect();
    let (privileged, hidden) = ctx
        .kernel
        .db
        .read(move |c| {
            let hidden = match filter {
                Some(filter) => queries::count_not_users(c, &sight, &filter, HIDDEN_MAX)?,
                None => 0,
            };
            Ok((privileges::which_were_privileged(c, &ids, at)?, hidden))
        })
        .await?;
    let link = |given: &IdentityQuery, cursor: &str, path: &str| {
        href(path, &[given.fields().as_slice(), &[("cursor", cursor)]].concat())
    };
    let fields = |cursor: &str, path: &str| link(&query, cursor, path);
    let now = IdentityQuery { as_of: None, ..query.clone() };
    let as_of = AsOf::new(&ctx, query.as_of.as_deref(), link(&now, "", "/identities"));
    let template = IdentitiesPage {
        page: Page::new(&ctx, "Identities", "identities").about(text(&query.directory).parse().ok()),
        first_href: query.cursor.as_ref().map(|_| fields("", "/identities")).unwrap_or_default(),
        next_href: next.map(|cursor| fields(&cursor, "/identities")).unwrap_or_default(),
        // What is exported is what is shown.
        export_href: link(if hidden > 0 { &narrowed } else { &query }, "", "/identities/export"),
        privileged,
        hidden,
        identities,
        directories,
        group,
        as_of: problem_of(as_of)?.0.unwrap_or_default(),
        problem,
        is_fragment: ctx.is_fragment,
        query,
    };
    if ctx.is_fragment { html(&template.as_rows()) } else { html(&template) }
}

pub(super) async fn export_identities(ctx: Ctx, query: Query<IdentityQuery>) -> Result<HttpResponse> {
    export::identities(&ctx, &query.0).await
}

#[derive(Template)]
#[template(path = "identities/groups.html", blocks = ["rows"])]
struct GroupsPage {
    page: Page,
    groups: Vec<GroupRow>,
    directories: Vec<DirectoryChoice>,
    as_of: AsOf,
    query: GroupQuery,
    problem: String,
    first_href: String,
    next_href: String,
    export_href: String,
    is_fragment: bool,
}

impl GroupsPage {
    fn is_chosen(&self, given: &Option<String>, value: &impl ToString) -> bool {
        text(given) == value.to_string()
    }

    fn is_filtered(&self) -> bool {
        !text(&self.query.q).is_empty() || !text(&self.query.directory).is_empty()
    }

    fn typed(&self) -> &str {
        text(&self.query.q).trim()
    }

    fn total(&self) -> Option<String> {
        let chosen = text(&self.query.directory);
        let counted =
            self.directories.iter().filter(|directory| chosen.is_empty() || directory.id.to_string() == chosen);
        (text(&self.query.q).is_empty() && !self.as_of.is_set())
            .then(|| grouped(counted.map(|directory| directory.groups).sum()))
    }
}

pub(super) async fn groups(ctx: Ctx, query: Query<GroupQuery>) -> Result<HttpResponse> {
    let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
    let query = query.0;
    let (listing, problem) = problem_of(query.page(&ctx, PAGE_SIZE).await)?;
    let directories = ctx.kernel.db.read(move |c| queries::directories(c, &sight)).await?;
    let (groups, next) = listing.map_or((Vec::new(), None), |listing| (listing.rows, listing.next));
    let link = |as_of: &str, cursor: &str, path: &str| {
        let chosen =
            [("q", text(&query.q)), ("directory", text(&query.directory)), ("asOf", as_of), ("cursor", cursor)];
        href(path, &chosen)
    };
    let fields = |cursor: &str, path: &str| link(text(&query.as_of), cursor, path);
    let as_of = AsOf::new(&ctx, query.as_of.as_deref(), link("", "", "/groups"));
    let template = GroupsPage {
        page: Page::new(&ctx, "Groups", "groups").about(text(&query.directory).parse().ok()),
        first_href: query.cursor.as_ref().map(|_| fields("", "/groups")).unwrap_or_default(),
        next_href: next.map(|cursor| fields(&cursor, "/groups")).unwrap_or_default(),
        export_href: fields("", "/groups/export"),
        groups,
        directories,
        as_of: problem_of(as_of)?.0.unwrap_or_default(),
        problem,
        is_fragment: ctx.is_fragment,
        query,
    };
    if ctx.is_fragment { html(&template.as_rows()) } else { html(&template) }
}

pub(super) async fn export_groups(ctx: Ctx, query: Query<GroupQuery>) -> Result<HttpResponse> {
    export::groups(&ctx, &query.0).await
}

pub(super) async fn export_members(ctx: Ctx, id: PathId<ObjectId>, query: Query<MemberQuery>) -> Result<HttpResponse> {
    export::members(&ctx, id.0, &query.0).await
}

/// One line of a history.
struct Event {
    at: Time,
    /// `ok`, `warn`, `bad`, or nothing.
    tone: &'static str,
    label: String,
    /// The label is the directory's own attribute name.
    is_raw: bool,
    /// The other side of a membership: page (may be empty) and name.
    other: Option<(String, String)>,
    /// Before and after, of a changed field.
    diff: Option<(String, String)>,
    run: Option<i64>,
    /// The events of one moment stand together; the first of them leads there, as RFC 3339.
    moment: Option<String>,
}

/// A field of the API as words: `passwordChangedAt` is `Password changed`.
pub(super) fn field_title(field: &str) -> String {
    let known = match field {
        "upn" => "UPN",
        "mail" => "Mail",
        "mails" => "Mail addresses",
        "createdAt" => "Created",
        "lastSignInAt" => "Last sign-in",
        "passwordChangedAt" => "Password changed",
        "userName" => "User name",
        _ => "",
    };
    if !known.is_empty() {
        return known.to_owned();
    }
    let mut words = String::new();
    for c in field.chars() {
        if c.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    title(&words)
}

impl Event {
    fn of_change(row: &ChangeRow) -> Self {
        let at = row.applied_at.unwrap_or_default();
        let line = |tone, label: &str| Self {
            at,
            tone,
            label: label.to_owned(),
            is_raw: false,
            other: None,
            diff: None,
            run: Some(row.run_id),
            moment: None,
        };
        let other = || row.member_name.clone().map(|name| (row.member_href.clone(), name));
        match row.kind.as_str() {
            "added" => line("ok", "First seen"),
            "missing" => line("bad", "Missing from the directory's answer"),
            "returned" => line("ok", "Seen again"),
            "removed" => line("bad", "Removed: missing for longer than the grace time"),
            "member-added" => Self { other: other(), ..line("ok", "Member added") },
            "member-removed" => Self { other: other(), ..line("", "Member removed") },
            _ => {
                let field = row.field.as_deref().unwrap_or_default();
                let (before, after) = (shortened(&row.before_text()), shortened(&row.after_text()));
                let tone = match (field, after.as_str()) {
                    ("status", "active") => "ok",
                    ("status", _) => "bad",
                    _ => "",
                };
                let raw = field.strip_prefix("attributes.");
                Self {
                    is_raw: raw.is_some(),
                    diff: Some((before, after)),
                    ..line(tone, &raw.map_or_else(|| field_title(field), str::to_owned))
                }
            }
        }
    }
}

/// A position in a history: the last change row shown, and the moment from which on everything was shown.
type Before = (i64, i64);

/// One page of the history of an object: what changed about it and which groups it joined and left, newest first.
fn history(
    connection: &Connection,
    sight: &Sight,
    directory: i64,
    subject: ObjectId,
    before: Option<Before>,
) -> Result<(Vec<Event>, Option<Before>)> {
    let (before, until) = before.unwrap_or((FOREVER, FOREVER));
    let mut rows = history::history(connection, sight, directory, subject, before, PAGE_SIZE + 1)?;
    let has_more = rows.len() > PAGE_SIZE;
    rows.truncate(PAGE_SIZE);
    let next = rows.last().filter(|_| has_more).map(|row| (row.id, row.applied_at.unwrap_or_default().0));
    let from = Time(next.map_or(i64::MIN, |(_, at)| at));
    let mut events: Vec<Event> = Vec::new();
    for event in history::membership_events(connection, subject, from, Time(until))? {
        if !sight.holds_object(connection, event.group)? {
            continue;
        }
        let label = if event.joined { "Became a member of" } else { "No longer a member of" };
        events.push(Event {
            at: event.at,
            tone: if event.joined { "ok" } else { "" },
            label: label.to_owned(),
            is_raw: false,
            other: Some((format!("/groups/{}", event.group), event.group_name)),
            diff: None,
            run: history::run_applied_at(connection, event.at)?,
            moment: None,
        });
    }
    events.extend(rows.iter().map(Event::of_change));
    // Of one moment, memberships stand above: one is seen first and joins then.
    events.sort_by_key(|event| Reverse(event.at));
    // The first plan of a directory is seen from when it was applied, though it says when the reading began.
    let seen = queries::seen_since(connection, directory)?.unwrap_or_default();
    let mut last = None;
    for event in &mut events {
        // A run is about the whole directory.
        event.run = event.run.filter(|_| !sight.is_part());
        let is_first = last.replace(event.at) != Some(event.at);
        event.moment = is_first.then(|| event.at.max(seen).rfc3339());
    }
    Ok((events, next))
}

/// `?before=` of a history, and the moment that the page is shown as of.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    pub(super) before: Option<String>,
    #[serde(rename = "asOf")]
    pub(super) as_of: Option<String>,
}

fn position_before(before: &Option<String>) -> Result<Option<Before>> {
    before.as_deref().filter(|text| !text.is_empty()).map(Cursor::read).transpose()
}

/// Groups shown on one page of an identity or group.
const BELONGINGS_MAX: usize = 500;

#[derive(Template)]
#[template(path = "identities/detail.html")]
struct IdentityPage {
    page: Page,
    path: String,
    as_of: AsOf,
    identity: IdentityRow,
    dn: String,
    is_privileged: bool,
    /// Why, as far as the reader may know.
    reasons: Vec<Reason>,
    /// Page (empty when outside the copy) and name, or the raw value.
    manager: Option<(String, String)>,
    attributes: Vec<Attribute>,
    groups: Vec<Belonging>,
    has_more_groups: bool,
    events: Vec<Event>,
    newest_href: String,
    older_href: String,
}

impl IdentityPage {
    fn state_title(&self) -> String {
        title(self.identity.state())
    }

    fn status_title(&self) -> String {
        title(&self.identity.status)
    }

    /// A time as the directory's connector wrote it: for machines and for readers; empty when there is none.
    fn moment(&self, given: &Option<String>) -> (String, String) {
        match given.as_deref().and_then(Time::parse) {
            Some(time) => (time.rfc3339(), time.text()),
            None => (String::new(), String::new()),
        }
    }

    /// All addresses, the first one first.
    fn mails(&self) -> Vec<&str> {
        let fields = &self.identity.fields;
        let mut mails: Vec<&str> = fields.mail.iter().map(String::as_str).collect();
        for mail in &fields.mails {
            if !mails.contains(&mail.as_str()) {
                mails.push(mail);
            }
        }
        mails
    }

    /// Facts and why they matter.
    fn facts(&self) -> Vec<(String, &'static str)> {
        let fields = &self.identity.fields;
        let titled = |fact: &Fact| match (fact, fields.attributes.get("sIDHistory").map(Vec::len)) {
            (Fact::SidHistory, Some(1)) => "SID history (1 entry)".to_owned(),
            (Fact::SidHistory, Some(entries)) => format!("SID history ({entries} entries)"),
            _ => fact.title().to_owned(),
        };
        fields.facts.iter().map(|fact| (titled(fact), fact.reason())).collect()
    }

    fn lateness_days(&self) -> Option<u32> {
        self.identity.directory_kind.and_then(Kind::sign_in_lateness_days)
    }

    fn direct_count(&self) -> usize {
        self.groups.iter().filter(|group| group.is_direct()).count()
    }
}

pub(super) async fn identity(ctx: Ctx, id: PathId<ObjectId>, query: Query<HistoryQuery>) -> Result<HttpResponse> {
    let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
    let before = position_before(&query.0.before)?;
    let path = format!("/identities/{}", id.0);
    let as_of = AsOf::new(&ctx, query.0.as_of.as_deref(), path.clone())?;
    let at = as_of.at;
    let found = ctx
        .kernel
        .db
        .read(move |c| {
            let now = queries::find_identity(c, &sight, id.0)?.ok_or(Error::NotFound("This identity"))?;
            let Some(row) = past::identity_at(c, &sight, id.0, at)? else {
                return Ok(Err(Absent {
                    subject: SubjectType::Identity,
                    id: id.0,
                    directory_id: now.directory_id,
                    name: now.name().to_owned(),
                    at: at.unwrap_or_default(),
                    first_listed_at: past::first_listed(c, id.0)?,
                    removed_at: now.removed_at,
                }));
            };
            let manager = api::manager(c, &sight, &row)?;
            let groups = past::belongings(c, &sight, id.0, at, BELONGINGS_MAX)?;
            let why = privileges::reasons(c, id.0, at)?;
            let is_privileged = !why.is_empty();
            let reasons = sight.reasons(c, why)?;
            Ok(Ok((
                row,
                manager,
                groups,
                (is_privileged, reasons),
                history(c, &sight, now.directory_id, id.0, before)?,
            )))
        })
        .await?;
    let (identity, manager, groups, (is_privileged, reasons), (events, next)) = match found {
        Ok(found) => found,
        Err(found) => return absent(&ctx, found),
    };
    let on = |fields: &[(&str, &str)]| href(&path, &[&[("asOf", as_of.value().as_str())], fields].concat());
    let manager = match manager {
        Some((id, name)) => Some((format!("/identities/{id}"), name)),
        None => identity.fields.manager.clone().map(|raw| (String::new(), raw)),
    };
    html(&IdentityPage {
        page: Page::new(&ctx, identity.name(), "identities").named().about(Some(identity.directory_id)),
        dn: first_text(identity.fields.attributes.get("dn")),
        manager,
        attributes: attributes(&identity.fields.attributes),
        groups: groups.0,
        has_more_groups: groups.1,
        is_privileged,
        reasons,
        events,
        newest_href: before.map(|_| format!("{}#history", on(&[]))).unwrap_or_default(),
        older_href: next
            .map(|next| format!("{}#history", on(&[("before", &Cursor::write(&next))])))
            .unwrap_or_default(),
        path,
        as_of,
        identity,
    })
}

/// What a group's page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Direct,
    Effective,
    MemberOf,
    History,
    Attributes,
}

/// `?effective=true`, or `?view=member-of|history|attributes`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupPageQuery {
    pub(super) effective: Option<bool>,
    pub(super) view: Option<String>,
    pub(super) cursor: Option<String>,
    pub(super) before: Option<String>,
    #[serde(rename = "asOf")]
    pub(super) as_of: Option<String>,
}

impl GroupPageQuery {
    fn view(&self) -> Result<View> {
        match (text(&self.view), self.effective.unwrap_or(false)) {
            ("", false) => Ok(View::Direct),
            ("", true) => Ok(View::Effective),
            ("member-of", _) => Ok(View::MemberOf),
            ("history", _) => Ok(View::History),
            ("attributes", _) => Ok(View::Attributes),
            _ => Err(Error::BadRequest("view must be member-of, history or attributes.".into())),
        }
    }
}

#[derive(Template)]
#[template(path = "identities/group.html")]
struct GroupPage {
    page: Page,
    group: GroupRow,
    dn: String,
    view: View,
    path: String,
    as_of: AsOf,
    members: Vec<Member>,
    groups: Vec<Belonging>,
    has_more_groups: bool,
    attributes: Vec<Attribute>,
    events: Vec<Event>,
    newest_href: String,
    older_href: String,
    first_href: String,
    next_href: String,
}

impl GroupPage {
    fn is_effective(&self) -> bool {
        self.view == View::Effective
    }

    fn member_title(&self, member: &Member) -> String {
        match member.kind.as_str() {
            "identity" => "Identity".into(),
            "group" => "Group".into(),
            _ => "Unknown".into(),
        }
    }

    fn state_title(&self, state: &str) -> String {
        title(state)
    }

    fn kind(&self) -> &str {
        text(&self.group.fields.kind)
    }

    /// A tab of this page, as of the same moment.
    fn tab(&self, name: &str, value: &str) -> String {
        href(&self.path, &[(name, value), ("asOf", &self.as_of.value())])
    }

    fn export_href(&self) -> String {
        let effective = if self.is_effective() { "true" } else { "" };
        href(&format!("{}/export", self.path), &[("effective", effective), ("asOf", &self.as_of.value())])
    }

    fn search_href(&self) -> String {
        href("/identities", &[("group", &self.group.id.to_string()), ("asOf", &self.as_of.value())])
    }
}

pub(super) async fn group(ctx: Ctx, id: PathId<ObjectId>, query: Query<GroupPageQuery>) -> Result<HttpResponse> {
    let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
    let id = id.0;
    let (query, view) = (query.0.clone(), query.0.view()?);
    let before = position_before(&query.before)?;
    let path = format!("/groups/{id}");
    let as_of = AsOf::new(&ctx, query.as_of.as_deref(), path.clone())?;
    let at = as_of.at;
    let after: ObjectId =
        query.cursor.as_deref().filter(|text| !text.is_empty()).map(Cursor::read).transpose()?.unwrap_or(0);
    let found = ctx
        .kernel
        .db
        .read(move |c| {
            let now = queries::find_group(c, &sight, id)?.ok_or(Error::NotFound("This group"))?;
            let Some(group) = past::group_at(c, &sight, id, at)? else {
                return Ok(Err(Absent {
                    subject: SubjectType::Group,
                    id,
                    directory_id: now.directory_id,
                    name: now.name.clone(),
                    at: at.unwrap_or_default(),
                    first_listed_at: past::first_listed(c, id)?,
                    removed_at: now.removed_at,
                }));
            };
            let members = match view {
                View::Direct | View::Effective => {
                    past::members(c, &sight, id, view == View::Effective, at, after, PAGE_SIZE + 1)?
                }
                _ => Vec::new(),
            };
            let groups = match view {
                View::MemberOf => past::belongings(c, &sight, id, at, BELONGINGS_MAX)?,
                _ => (Vec::new(), false),
            };
            let history = match view {
                View::History => history(c, &sight, now.directory_id, id, before)?,
                _ => (Vec::new(), None),
            };
            Ok(Ok((group, members, groups, history)))
        })
        .await?;
    let (group, members, groups, (events, next_past)) = match found {
        Ok(found) => found,
        Err(found) => return absent(&ctx, found),
    };
    let Listing { rows: members, next } = Listing::cut(members, PAGE_SIZE, |member| member.number);
    let then = as_of.value();
    let on = |fields: &[(&str, &str)]| href(&path, &[fields, &[("asOf", then.as_str())]].concat());
    let effective = if view == View::Effective { "true" } else { "" };
    html(&GroupPage {
        page: Page::new(&ctx, group.name.clone(), "groups").named().about(Some(group.directory_id)),
        dn: first_text(group.fields.attributes.get("dn")),
        view,
        attributes: if view == View::Attributes { attributes(&group.fields.attributes) } else { Vec::new() },
        first_href: if after > 0 { on(&[("effective", effective)]) } else { String::new() },
        next_href: next.map(|cursor| on(&[("effective", effective), ("cursor", &cursor)])).unwrap_or_default(),
        newest_href: before.map(|_| on(&[("view", "history")])).unwrap_or_default(),
        older_href: next_past
            .map(|next| on(&[("view", "history"), ("before", &Cursor::write(&next))]))
            .unwrap_or_default(),
        path,
        as_of,
        group,
        members,
        groups: groups.0,
        has_more_groups: groups.1,
        events,
    })
}
