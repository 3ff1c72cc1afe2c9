//! The log for people: list with filters, one record, CSV export.

use actix_web::HttpResponse;
use askama::Template;

use super::{Entry, api::LogQuery, model::Record, queries, record};
use crate::{
    error::{Error, Result},
    web::{Ctx, PAGE_SIZE, Page, PathId, Query, html},
};

/// How a result is called on pages.
fn result_label(result: &str) -> &str {
    match result {
        "success" => "Success",
        "failure" => "Failure",
        "denied" => "Denied",
        other => other,
    }
}

#[derive(Template)]
#[template(path = "audit/list.html", blocks = ["rows"])]
struct ListPage {
    page: Page,
    records: Vec<Record>,
    kinds: Vec<String>,
    query: LogQuery,
    /// Addresses of the other pages; empty when there is none.
    first_href: String,
    next_href: String,
    export_href: String,
    /// A filter that could not be read.
    problem: String,
}

impl ListPage {
    fn chosen(&self, given: &Option<String>, value: &str) -> bool {
        given.as_deref().unwrap_or_default() == value
    }

    fn text<'a>(&self, given: &'a Option<String>) -> &'a str {
        given.as_deref().unwrap_or_default()
    }

    /// The reader's own word for a moment in a filter, as a `datetime-local` field takes it.
    fn local(&self, given: &Option<String>) -> String {
        let zone = if self.page.time_zone.is_empty() { "UTC" } else { self.page.time_zone.as_str() };
        let time = given.as_deref().and_then(crate::clock::Time::parse);
        let local = time.and_then(|time| time.timestamp().in_tz(zone).ok());
        local.map(|zoned| zoned.strftime("%Y-%m-%dT%H:%M").to_string()).unwrap_or_default()
    }

    fn zone(&self) -> &str {
        if self.page.time_zone.is_empty() { "UTC" } else { &self.page.time_zone }
    }

    fn is_filtered(&self) -> bool {
        let query = &self.query;
        [&query.kind, &query.principal, &query.subject, &query.result, &query.from, &query.to]
            .iter()
            .any(|given| given.as_deref().is_some_and(|text| !text.is_empty()))
    }
}

/// `audit.directory_created.v1` as words.
pub(super) fn title(kind: &str) -> String {
    let middle = kind.strip_prefix("audit.").unwrap_or(kind);
    let middle = middle.rsplit_once(".v").map_or(middle, |(name, _)| name);
    let mut words = middle.replace('_', " ");
    if let Some(first) = words.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    words
}

/// The last part of a URN, which is what people tell things apart by.
pub(super) fn short(urn: &str) -> &str {
    urn.rsplit_once(':').map_or(urn, |(_, last)| last)
}

fn href(path: &str, query: &LogQuery, cursor: Option<&str>) -> String {
    let fields = [
        ("type", query.kind.as_deref()),
        ("principal", query.principal.as_deref()),
        ("subject", query.subject.as_deref()),
        ("result", query.result.as_deref()),
        ("from", query.from.as_deref()),
        ("to", query.to.as_deref()),
        ("cursor", cursor),
    ];
    let given: Vec<_> =
        fields.iter().filter_map(|(name, value)| value.filter(|v| !v.is_empty()).map(|v| (*name, v))).collect();
    let query = serde_urlencoded::to_string(given).unwrap_or_default();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// `datetime-local` fields send a time without a zone: it is the reader's.
fn with_zone(query: &mut LogQuery, zone: &str) {
    let zone = if zone.is_empty() { "UTC" } else { zone };
    for field in [&mut query.from, &mut query.to] {
        if let Some(text) = field.as_deref()
            && let Ok(civil) = text.parse::<jiff::civil::DateTime>()
            && !text.ends_with('Z')
            && let Ok(zoned) = civil.in_tz(zone)
        {
            *field = Some(zoned.timestamp().to_string());
        }
    }
}

pub(super) async fn list(ctx: Ctx, mut query: Query<LogQuery>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    with_zone(&mut query.0, &ctx.principal.time_zone);
    let (listing, problem) = match query.0.page(&ctx, account, PAGE_SIZE).await {
        Ok(listing) => (Some(listing), String::new()),
        Err(Error::BadRequest(message)) => (None, message),
        Err(other) => return Err(other),
    };
    let kinds = ctx.kernel.db.read(move |c| queries::kinds(c, account)).await?;
    let next = listing.as_ref().and_then(|listing| listing.next.clone());
    let template = ListPage {
        page: Page::new(&ctx, "Audit log", "logs"),
        first_href: query.0.cursor.as_ref().map(|_| href("/logs", &query.0, None)).unwrap_or_default(),
        next_href: next.map(|cursor| href("/logs", &query.0, Some(&cursor))).unwrap_or_default(),
        export_href: href("/logs/export", &query.0, None),
        records: listing.map(|listing| listing.rows).unwrap_or_default(),
        kinds,
        query: query.0,
        problem,
    };
    if ctx.is_fragment { html(&template.as_rows()) } else { html(&template) }
}

#[derive(Template)]
#[template(path = "audit/detail.html")]
struct DetailPage {
    page: Page,
    record: Record,
    /// Field, before, after.
    changes: Vec<(String, String, String)>,
    /// The other details: name, value.
    details: Vec<(String, String)>,
    /// The log, narrowed to the same principal or subject.
    by_href: String,
    about_href: String,
}

fn plain(value: Option<&serde_json::Value>) -> String {
    match value {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

pub(super) async fn detail(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let record = ctx.kernel.db.read(move |c| queries::find(c, account, &id.0)).await?;
    let record = record.ok_or(Error::NotFound("This log record"))?;
    let changes = match record.details.get("changes") {
        Some(serde_json::Value::Object(fields)) => fields
            .iter()
            .map(|(field, sides)| (field.clone(), plain(sides.get("before")), plain(sides.get("after"))))
            .collect(),
        _ => Vec::new(),
    };
    let details = record.details.as_object().map(|fields| {
        fields
            .iter()
            .filter(|(name, _)| *name != "changes")
            .map(|(name, value)| (name.clone(), plain(Some(value))))
            .collect()
    });
    let narrowed = |query: LogQuery| href("/logs", &query, None);
    html(&DetailPage {
        by_href: narrowed(LogQuery { principal: Some(record.principal_urn.clone()), ..LogQuery::default() }),
        about_href: narrowed(LogQuery { subject: record.subject_urn.clone(), ..LogQuery::default() }),
        page: Page::new(&ctx, title(&record.kind), "logs"),
        record,
        changes,
        details: details.unwrap_or_default(),
    })
}

/// Rows of one export; more would keep a reader for too long.
const EXPORT_MAX: usize = 100_000;

/// The filtered log as CSV. Itself a record: an export is a read of the log that leaves the building.
pub(super) async fn export(ctx: Ctx, mut query: Query<LogQuery>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    with_zone(&mut query.0, &ctx.principal.time_zone);
    let filter = query.0.filter()?;
    let rows = ctx.kernel.db.read(move |c| queries::list(c, account, &filter, None, EXPORT_MAX)).await?;
    let mut out = csv::Writer::from_writer(Vec::new());
    let fail = |e: csv::Error| Error::caused("the export could not be written", e);
    out.write_record([
        "seq",
        "time",
        "type",
        "result",
        "principal",
        "subject",
        "address",
        "request id",
        "details",
        "hash",
    ])
    .map_err(fail)?;
    for row in &rows {
        let text = |value: &Option<String>| crate::web::csv_cell(value.as_deref().unwrap_or_default());
        out.write_record([
            row.seq.to_string(),
            row.time.rfc3339(),
            row.kind.clone(),
            row.result.clone(),
            crate::web::csv_cell(&row.principal_urn),
            text(&row.subject_urn),
            text(&row.address),
            text(&row.request_id),
            crate::web::csv_cell(&row.details_text),
            row.hash.clone(),
        ])
        .map_err(fail)?;
    }
    let count = rows.len();
    let body = out.into_inner().map_err(|e| Error::internal(e.to_string()))?;
    record(&ctx.kernel, &ctx.principal, vec![Entry::new("audit.log_exported.v1").detail("records", count)]).await?;
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header(("content-disposition", "attachment; filename=\"audit-log.csv\""))
        .body(body))
}
