//! The past for people: the moment that a page is shown as of, a page for what was not there then, and two times
//! compared.
//!
//! Owns the `asOf` field of lists and details. It reads through `past` and decides nothing.

use actix_web::{HttpResponse, http::StatusCode};
use askama::Template;
use jiff::tz::TimeZone;

use super::{
    api::{CompareQuery, moment},
    model::{ChangeRow, Member, ObjectId, SubjectType},
    pages::field_title,
    parts::Sight,
    past::{self, COMPARED_MAX, Comparison},
    queries,
};
use crate::{
    clock::{SECOND, Time},
    error::{Error, Result},
    web::{Ctx, Page, PathId, Query, href, html, html_status},
};

/// The moment a page is shown as of; `at` is `None` for now.
#[derive(Debug, Clone, Default)]
pub(super) struct AsOf {
    pub(super) at: Option<Time>,
    /// The same page as things are now.
    pub(super) now_href: String,
}

impl AsOf {
    /// Of a query; a moment that cannot be read is said by whoever reads the list.
    pub(super) fn new(ctx: &Ctx, given: Option<&str>, now_href: String) -> Result<Self> {
        Ok(Self { at: moment("asOf", given, ctx.kernel.clock.now())?, now_href })
    }

    pub(super) fn is_set(&self) -> bool {
        self.at.is_some()
    }

    /// For a link: the whole moment; empty for now.
    pub(super) fn value(&self) -> String {
        self.at.map(Time::rfc3339).unwrap_or_default()
    }

    /// For a field of a form.
    pub(super) fn field(&self) -> String {
        self.at.map(field).unwrap_or_default()
    }

    pub(super) fn text(&self) -> String {
        self.at.map(Time::text).unwrap_or_default()
    }

    /// What to put behind the address of an object.
    pub(super) fn suffix(&self) -> String {
        href("", &[("asOf", &self.value())])
    }
}

/// A moment as `datetime-local` writes it, in UTC. Up to the next second: what happened at the moment has happened then.
fn field(at: Time) -> String {
    at.plus(SECOND - 1).civil(&TimeZone::UTC).replace(' ', "T")
}

#[derive(Template)]
#[template(path = "identities/absent.html")]
struct AbsentPage {
    page: Page,
    name: String,
    subject: SubjectType,
    /// The list it would stand in.
    list: String,
    at: Time,
    first_listed_at: Option<Time>,
    removed_at: Option<Time>,
    now_href: String,
    list_href: String,
}

impl AbsentPage {
    /// It came into the copy only later.
    fn is_later(&self) -> bool {
        self.first_listed_at.is_some_and(|first| first > self.at)
    }

    fn is_identity(&self) -> bool {
        self.subject == SubjectType::Identity
    }
}

/// What is known of an object that was not there at a time.
pub(super) struct Absent {
    pub(super) subject: SubjectType,
    pub(super) id: ObjectId,
    pub(super) directory_id: i64,
    pub(super) name: String,
    pub(super) at: Time,
    pub(super) first_listed_at: Option<Time>,
    pub(super) removed_at: Option<Time>,
}

/// A 404 that says why, and where to go on.
pub(super) fn absent(ctx: &Ctx, found: Absent) -> Result<HttpResponse> {
    let (list, section) = match found.subject {
        SubjectType::Identity => ("Identities", "identities"),
        SubjectType::Group => ("Groups", "groups"),
    };
    let page = AbsentPage {
        page: Page::new(ctx, found.name.clone(), section).named().about(Some(found.directory_id)),
        name: found.name,
        subject: found.subject,
        list: list.to_owned(),
        at: found.at,
        first_listed_at: found.first_listed_at,
        removed_at: found.removed_at.filter(|removed| *removed <= found.at),
        now_href: format!("/{section}/{}", found.id),
        list_href: href(&format!("/{section}"), &[("asOf", &found.at.rfc3339())]),
    };
    html_status(StatusCode::NOT_FOUND, &page)
}

/// One field that differs.
struct FieldLine {
    label: String,
    /// The label is the directory's own attribute name.
    is_raw: bool,
    before: String,
    after: String,
}

#[derive(Template)]
#[template(path = "identities/compare.html")]
struct ComparePage {
    page: Page,
    name: String,
    subject: SubjectType,
    path: String,
    list: String,
    list_href: String,
    /// As the form's fields want them.
    from: String,
    to: String,
    times: Option<(Time, Time)>,
    /// Times that cannot be compared.
    problem: String,
    was_there: (bool, bool),
    fields: Vec<FieldLine>,
    joined: Vec<Member>,
    left: Vec<Member>,
}

impl ComparePage {
    fn is_group(&self) -> bool {
        self.subject == SubjectType::Group
    }

    fn is_same(&self) -> bool {
        self.was_there.0 == self.was_there.1 && self.fields.is_empty() && self.joined.is_empty() && self.left.is_empty()
    }

    /// Who joined and who left, each with an id and a title for its table.
    fn sides(&self) -> [(&'static str, &'static str, &[Member]); 2] {
        let [joined, left] = match self.subject {
            SubjectType::Group => ["Members that joined", "Members that left"],
            SubjectType::Identity => ["Groups joined", "Groups left"],
        };
        [("h-joined", joined, self.joined.as_slice()), ("h-left", left, self.left.as_slice())]
    }

    fn is_cut(&self, members: &[Member]) -> bool {
        members.len() >= COMPARED_MAX
    }

    fn then_href(&self, at: &Time) -> String {
        href(&self.path, &[("asOf", &at.rfc3339())])
    }
}

async fn compare(ctx: &Ctx, subject: SubjectType, id: ObjectId, query: &CompareQuery) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let sight = Sight::whole(account);
    let known = ctx
        .kernel
        .db
        .read(move |c| {
            Ok(match subject {
                SubjectType::Identity => {
                    queries::find_identity(c, &sight, id)?.map(|row| (row.name().to_owned(), row.directory_id))
                }
                SubjectType::Group => queries::find_group(c, &sight, id)?.map(|row| (row.name, row.directory_id)),
            })
        })
        .await?;
    let (list, section, what) = match subject {
        SubjectType::Identity => ("Identities", "identities", "This identity"),
        SubjectType::Group => ("Groups", "groups", "This group"),
    };
    let (name, directory) = known.ok_or(Error::NotFound(what))?;
    let read = async {
        let Some(times) = query.chosen(ctx)? else { return Ok(None) };
        let found = ctx.kernel.db.read(move |c| match subject {
            SubjectType::Identity => past::compare_identity(c, account, id, times),
            SubjectType::Group => past::compare_group(c, account, id, times),
        });
        Ok(Some((times, found.await?)))
    };
    let (found, problem) = match read.await {
        Ok(found) => (found, String::new()),
        Err(Error::BadRequest(message) | Error::Unavailable { message, .. }) => (None, message),
        Err(other) => return Err(other),
    };
    let times = found.as_ref().map(|(times, _)| *times);
    let comparison = found.map_or_else(Comparison::default, |(_, comparison)| comparison);
    let given = |text: &Option<String>| moment("", text.as_deref(), ctx.kernel.clock.now()).ok().flatten().map(field);
    html(&ComparePage {
        page: Page::new(ctx, format!("{name}: two times"), section).about(Some(directory)),
        name,
        subject,
        path: format!("/{section}/{id}"),
        list: list.to_owned(),
        list_href: format!("/{section}"),
        from: given(&query.from).unwrap_or_default(),
        to: given(&query.to).unwrap_or_default(),
        times,
        problem,
        was_there: comparison.was_there,
        fields: comparison
            .fields
            .iter()
            .map(|(field, before, after)| {
                let raw = field.strip_prefix("attributes.");
                FieldLine {
                    label: raw.map_or_else(|| field_title(field), str::to_owned),
                    is_raw: raw.is_some(),
                    before: ChangeRow::text(field, before.as_ref()),
                    after: ChangeRow::text(field, after.as_ref()),
                }
            })
            .collect(),
        joined: comparison.joined,
        left: comparison.left,
    })
}

pub(super) async fn compare_identity(
    ctx: Ctx,
    id: PathId<ObjectId>,
    query: Query<CompareQuery>,
) -> Result<HttpResponse> {
    compare(&ctx, SubjectType::Identity, id.0, &query.0).await
}

pub(super) async fn compare_group(ctx: Ctx, id: PathId<ObjectId>, query: Query<CompareQuery>) -> Result<HttpResponse> {
    compare(&ctx, SubjectType::Group, id.0, &query.0).await
}
