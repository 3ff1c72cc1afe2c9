//! A plan as a file: CSV for a spreadsheet, JSON for a program; read a page at a time and sent as it is read.
//!
//! Owns the columns. An export is on the record before its first line leaves, and every cell of the CSV is written so
//! that a spreadsheet shows it and does not run it.

use actix_web::{HttpResponse, web::Bytes};
use futures_util::stream;

use super::queries;
use crate::{
    audit::{self, Entry},
    error::{Error, Result},
    identities::{
        ChangeJson, ChangeKind, ChangeRow,
        plans::{self, LineFilter},
    },
    principal::urn,
    web::{Ctx, csv_cell},
};

/// Lines read at once: this bounds memory.
const PAGE_LINES: usize = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Json,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }
}

/// Where a file has got to.
struct At {
    after: i64,
    is_start: bool,
    has_lines: bool,
}

const COLUMNS: [&str; 9] =
    ["line", "change", "subject type", "subject id", "subject", "field", "before", "after", "member"];

fn cells(row: &ChangeRow) -> [String; 9] {
    let kind = ChangeKind::parse(&row.kind);
    let is_membership = matches!(kind, Some(ChangeKind::MemberAdded | ChangeKind::MemberRemoved));
    let name = if kind == Some(ChangeKind::Added) && row.after.is_some() {
        row.after_text()
    } else {
        row.subject_name.clone()
    };
    [
        row.id.to_string(),
        row.kind.clone(),
        row.subject_type.as_str().to_owned(),
        row.subject_id.to_string(),
        name,
        row.field.clone().unwrap_or_default(),
        if is_membership { String::new() } else { row.before_text() },
        if is_membership || kind == Some(ChangeKind::Added) { String::new() } else { row.after_text() },
        row.member_name.clone().unwrap_or_default(),
    ]
}

fn csv_lines(rows: &[ChangeRow], is_first: bool) -> Result<Vec<u8>> {
    let fail = |e: csv::Error| Error::caused("an export could not be written", e);
    let mut out = csv::Writer::from_writer(Vec::new());
    if is_first {
        out.write_record(COLUMNS).map_err(fail)?;
    }
    for row in rows {
        out.write_record(cells(row).iter().map(|cell| csv_cell(cell))).map_err(fail)?;
    }
    out.into_inner().map_err(|e| Error::internal(e.to_string()))
}

/// The lines of a plan that fit, all of them. A file that was broken off is not valid JSON, and its connection ends with
/// an error: a part is not taken for the whole.
pub(super) async fn changes(ctx: &Ctx, run: i64, filter: LineFilter, format: Format) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let found = ctx.kernel.db.read(move |c| queries::find_run(c, account, run)).await?;
    let found = found.ok_or(Error::NotFound("This run"))?;
    let region = ctx.principal.region.clone();
    let mut entry = Entry::new("audit.plan_exported.v1")
        .subject(urn("directories", &region, Some(account), "run", run))
        .detail("directory", &found.directory_name)
        .detail("format", format.name());
    if !filter.is_open() {
        entry = entry
            .detail("q", &filter.q)
            .detail("kind", filter.kind.map(ChangeKind::as_str))
            .detail("subjectType", filter.subject.map(crate::identities::SubjectType::as_str));
    }
    audit::record(&ctx.kernel, &ctx.principal, vec![entry]).await?;
    let kernel = ctx.kernel.clone();
    let body = stream::unfold(Some(At { after: 0, is_start: true, has_lines: false }), move |at| {
        let (kernel, filter, region) = (kernel.clone(), filter.clone(), region.clone());
        async move {
            let At { after, is_start, mut has_lines } = at?;
            let page = kernel.db.read(move |c| plans::lines(c, run, &filter, after, PAGE_LINES)).await;
            let piece = page.and_then(|(rows, next)| {
                let bytes = match format {
                    Format::Csv => csv_lines(&rows, is_start)?,
                    Format::Json => {
                        let mut out = if is_start { b"{\"changes\": [".to_vec() } else { Vec::new() };
                        for row in rows {
                            // A page may be empty, so a comma stands before every line but the very first.
                            out.extend_from_slice(if has_lines { b",\n" } else { b"\n" });
                            has_lines = true;
                            serde_json::to_writer(&mut out, &ChangeJson::new(row, &region, account))?;
                        }
                        if next.is_none() {
                            out.extend_from_slice(b"\n]}\n");
                        }
                        out
                    }
                };
                Ok((Bytes::from(bytes), next.map(|after| At { after, is_start: false, has_lines })))
            });
            Some(match piece {
                Ok((bytes, next)) => (Ok(bytes), next),
                Err(error) => {
                    tracing::error!(error = %error.chain(), "an export was broken off");
                    (Err(error), None)
                }
            })
        }
    });
    let (kind, name) = match format {
        Format::Csv => ("text/csv; charset=utf-8", format!("run-{run}-changes.csv")),
        Format::Json => ("application/json", format!("run-{run}-changes.json")),
    };
    Ok(HttpResponse::Ok()
        .content_type(kind)
        .insert_header(("content-disposition", format!("attachment; filename=\"{name}\"")))
        .streaming(body))
}
