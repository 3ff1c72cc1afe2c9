//! Lists as CSV: read a page at a time and sent as it is read, so that a million rows need no more memory than a few
//! hundred.
//!
//! Owns the columns. An export is on the record before its first row leaves: whoever breaks it off has read some of it
//! all the same. Every cell is written so that a spreadsheet shows it and does not run it.

use actix_web::{HttpResponse, web::Bytes};
use futures_util::stream;
use rusqlite::Connection;

use super::{
    api::{GroupQuery, IdentityQuery, MemberQuery, moment},
    model::{Accounts, GroupRow, IdentityRow, Member, ObjectId},
    parts, past, privileges,
    queries::{self, Filter},
};
use crate::{
    audit::{self, Entry},
    clock::Time,
    connectors::{Attributes, Value},
    error::{Error, Result},
    kernel::Kernel,
    principal::urn,
    web::{Ctx, csv_cell},
};

/// Rows read at once. Raw attributes come with them (photos too), so this bounds memory.
const PAGE_ROWS: usize = 200;

const IDENTITY_COLUMNS: &[&str] = &[
    "id",
    "directory",
    "external id",
    "user name",
    "UPN",
    "mail",
    "mails",
    "display name",
    "given name",
    "family name",
    "employee id",
    "department",
    "title",
    "status",
    "account type",
    "privileged",
    "facts",
    "missing since",
    "created",
    "last sign-in",
    "password changed",
    "DN",
];

fn dn(attributes: &Attributes) -> String {
    match attributes.get("dn").and_then(|values| values.first()) {
        Some(Value::Text(text)) => text.clone(),
        _ => String::new(),
    }
}

fn time(time: Option<Time>) -> String {
    time.map(Time::rfc3339).unwrap_or_default()
}

fn identity_cells(row: IdentityRow, privileged: &[String]) -> Vec<String> {
    let fields = row.fields;
    let text = Option::unwrap_or_default;
    vec![
        row.id.to_string(),
        row.directory_name,
        row.external_id,
        fields.user_name,
        text(fields.upn),
        text(fields.mail),
        fields.mails.join("; "),
        text(fields.display_name),
        text(fields.given_name),
        text(fields.family_name),
        text(fields.employee_id),
        text(fields.department),
        text(fields.title),
        fields.status.as_str().to_owned(),
        fields.account_type.as_str().to_owned(),
        privileged.join("; "),
        fields.facts.iter().map(|fact| fact.as_str()).collect::<Vec<_>>().join("; "),
        time(row.missing_since_at),
        text(fields.created_at),
        text(fields.last_sign_in_at),
        text(fields.password_changed_at),
        dn(&fields.attributes),
    ]
}

const GROUP_COLUMNS: &[&str] =
    &["id", "directory", "external id", "name", "description", "kind", "direct members", "missing since", "DN"];

fn group_cells(row: GroupRow) -> Vec<String> {
    vec![
        row.id.to_string(),
        row.directory_name,
        row.external_id,
        row.name,
        row.description.unwrap_or_default(),
        row.fields.kind.unwrap_or_default(),
        row.member_count.to_string(),
        time(row.missing_since_at),
        dn(&row.fields.attributes),
    ]
}

const MEMBER_COLUMNS: &[&str] = &["id", "type", "name", "user name", "mail", "status", "direct", "since"];

fn member_cells(row: Member) -> Vec<String> {
    vec![
        row.id,
        row.kind,
        row.name,
        row.detail,
        row.mail.unwrap_or_default(),
        row.status.unwrap_or_default(),
        if row.direct { "yes" } else { "no" }.to_owned(),
        time(row.since),
    ]
}

/// One page of rows as cells, and where the next begins; `None` after the last.
type PageOfCells<P> = (Vec<Vec<String>>, Option<P>);

fn cells<T, P>(rows: Vec<T>, position: impl Fn(&T) -> P, cells: impl Fn(T) -> Vec<String>) -> PageOfCells<P> {
    let next = if rows.len() < PAGE_ROWS { None } else { rows.last().map(position) };
    (rows.into_iter().map(cells).collect(), next)
}

fn written<'a>(
    rows: impl IntoIterator<Item = Vec<String>>,
    columns: impl Into<Option<&'a [&'a str]>>,
) -> Result<Bytes> {
    let fail = |e: csv::Error| Error::caused("an export could not be written", e);
    let mut out = csv::Writer::from_writer(Vec::new());
    if let Some(columns) = columns.into() {
        out.write_record(columns).map_err(fail)?;
    }
    for row in rows {
        out.write_record(row.iter().map(|cell| csv_cell(cell))).map_err(fail)?;
    }
    out.into_inner().map(Bytes::from).map_err(|e| Error::internal(e.to_string()))
}

/// An answer that reads on only as fast as it is taken.
fn download<P, F>(kernel: Kernel, name: &str, columns: &'static [&'static str], read: F) -> HttpResponse
where
    P: Send + 'static,
    F: Fn(&Connection, Option<P>) -> Result<PageOfCells<P>> + Clone + Send + 'static,
{
    enum At<P> {
        Start,
        After(P),
        End,
    }
    let body = stream::unfold(At::Start, move |at| {
        let (kernel, read) = (kernel.clone(), read.clone());
        async move {
            let (after, head) = match at {
                At::Start => (None, Some(columns)),
                At::After(position) => (Some(position), None),
                At::End => return None,
            };
            let page = kernel.db.read(move |c| read(c, after)).await;
            let piece = page.and_then(|(rows, next)| Ok((written(rows, head)?, next)));
            Some(match piece {
                Ok((bytes, next)) => (Ok(bytes), next.map_or(At::End, At::After)),
                // The connection is broken off, so that a part is not taken for the whole.
                Err(error) => {
                    tracing::error!(error = %error.chain(), "an export was broken off");
                    (Err(error), At::End)
                }
            })
        }
    });
    HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header(("content-disposition", format!("attachment; filename=\"{name}.csv\"")))
        .streaming(body)
}

fn with_filter(mut entry: Entry, filter: &Filter) -> Entry {
    if !filter.q.trim().is_empty() {
        entry = entry.detail("q", &filter.q);
    }
    for (name, value) in [("directory", filter.directory), ("group", filter.group)] {
        if let Some(id) = value {
            entry = entry.detail(name, id.to_string());
        }
    }
    if let Accounts::Of(account_type) = filter.accounts {
        entry = entry.detail("accountType", account_type.as_str());
    }
    if filter.is_privileged {
        entry = entry.detail("privileged", true);
    }
    match &filter.status {
        Some(status) => entry.detail("status", status),
        None => entry,
    }
}

/// The filtered identities.
pub(super) async fn identities(ctx: &Ctx, query: &IdentityQuery) -> Result<HttpResponse> {
    let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
    let filter = query.filter()?;
    let at = moment("asOf", query.as_of.as_deref(), ctx.kernel.clock.now())?;
    let entry = as_of(with_filter(Entry::new("audit.identities_exported.v1"), &filter), at);
    audit::record(&ctx.kernel, &ctx.principal, vec![entry]).await?;
    Ok(download(ctx.kernel.clone(), "identities", IDENTITY_COLUMNS, move |c, after| {
        let rows = past::identities(c, &sight, &filter, at, after, PAGE_ROWS)?;
        let last = rows.last().filter(|_| rows.len() == PAGE_ROWS);
        let next = last.map(|row| queries::position(&filter, &row.sort_key, row.id));
        let mut why = privileges::reasons_of(c, rows.iter().map(|row| row.id), at)?;
        let mut written = Vec::with_capacity(rows.len());
        for row in rows {
            let privileged = sight.why(c, why.remove(&row.id).unwrap_or_default())?;
            written.push(identity_cells(row, &privileged));
        }
        Ok((written, next))
    }))
}

/// The filtered groups.
pub(super) async fn groups(ctx: &Ctx, query: &GroupQuery) -> Result<HttpResponse> {
    let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
    let filter = query.filter()?;
    let at = moment("asOf", query.as_of.as_deref(), ctx.kernel.clock.now())?;
    let entry = as_of(with_filter(Entry::new("audit.groups_exported.v1"), &filter), at);
    audit::record(&ctx.kernel, &ctx.principal, vec![entry]).await?;
    Ok(download(ctx.kernel.clone(), "groups", GROUP_COLUMNS, move |c, after| {
        let rows = past::groups(c, &sight, &filter, at, after, PAGE_ROWS)?;
        Ok(cells(rows, |row| queries::position(&filter, &row.sort_key, row.id), group_cells))
    }))
}

fn as_of(entry: Entry, at: Option<Time>) -> Entry {
    match at {
        Some(at) => entry.detail("asOf", at),
        None => entry,
    }
}

/// The members of one group.
pub(super) async fn members(ctx: &Ctx, group: ObjectId, query: &MemberQuery) -> Result<HttpResponse> {
    let sight = parts::sight(&ctx.kernel, &ctx.principal).await?;
    let seen = sight.clone();
    let (is_effective, at) = (query.effective.unwrap_or(false), query.moment(ctx)?);
    let found = ctx.kernel.db.read(move |c| past::group_at(c, &seen, group, at)).await?;
    found.ok_or(Error::NotFound("This group"))?;
    let entry = Entry::new("audit.members_exported.v1")
        .subject(urn("directories", &ctx.principal.region, ctx.principal.account, "group", group))
        .detail("effective", is_effective);
    audit::record(&ctx.kernel, &ctx.principal, vec![as_of(entry, at)]).await?;
    Ok(download(ctx.kernel.clone(), "members", MEMBER_COLUMNS, move |c, after| {
        let after = after.unwrap_or(0);
        let rows = past::members(c, &sight, group, is_effective, at, after, PAGE_ROWS)?;
        Ok(cells(rows, |row| row.number, member_cells))
    }))
}
