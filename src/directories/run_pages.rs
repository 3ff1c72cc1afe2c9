//! Runs for people: the list, one run with its live progress, its plan and what it could not take.
//!
//! Owns what a run's state and its changes are called. It must never decide whether something may be done, and never
//! show a planned change as one that took effect.

use actix_web::{HttpResponse, web::Data};
use askama::Template;
use serde::Deserialize;

use super::{
    api::ChangesQuery,
    model::{ProgressJson, QuarantineJson, Run, RunState},
    plan_export::{self, Format},
    queries, review,
    review_pages::{ReviewView, Typed},
    run::Runner,
    words::{self, When},
};
use crate::{
    error::{Error, Result},
    identities::{ChangeKind, ChangeRow},
    web::{Ctx, ListQuery, Listing, PAGE_SIZE, Page, PathId, Query, href, html, redirect},
};

/// One row of a list of runs.
pub(super) struct RunRow {
    pub run: Run,
    pub state: &'static str,
    pub started: When,
    pub mode: &'static str,
    pub by: String,
    pub read: String,
    pub changes: String,
    pub sentence: String,
    pub duration: String,
}

fn state_label(state: RunState) -> &'static str {
    match state {
        RunState::Reading => "Reading",
        RunState::Planned => "Planned",
        RunState::Parked => "Parked",
        RunState::Applying => "Applying",
        RunState::Applied => "Applied",
        RunState::Discarded => "Discarded",
        RunState::Failed => "Failed",
    }
}

fn mode_label(run: &Run) -> &'static str {
    match (run.is_dry_run, run.mode.as_str()) {
        (true, _) => "Dry run",
        (false, "delta") => "Delta",
        (false, "rewind") => "Rewind",
        (false, _) => "Full",
    }
}

pub(super) fn by(ctx: &Ctx, urn: &str) -> String {
    if urn == ctx.principal.urn() { "you".into() } else { words::who(urn).to_owned() }
}

impl RunRow {
    pub(super) fn new(ctx: &Ctx, run: Run) -> Self {
        let is_open = matches!(run.state, RunState::Reading | RunState::Failed);
        Self {
            state: state_label(run.state),
            started: When::new(run.started_at),
            mode: mode_label(&run),
            by: by(ctx, &run.requested_by),
            read: words::number(run.counts.read),
            // A reading that has not ended has found nothing yet, which is not the same as "no difference".
            changes: if is_open { "–".into() } else { words::counts_short(&run.counts) },
            sentence: if is_open { String::new() } else { words::counts_sentence(&run.counts) },
            duration: words::duration(run.duration_us(ctx.kernel.clock.now())),
            run,
        }
    }
}

/// Filters of the list of runs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RunsQuery {
    cursor: Option<String>,
    /// An id; empty for all.
    directory: Option<String>,
    /// Empty for all.
    state: Option<String>,
}

#[derive(Template)]
#[template(path = "directories/runs.html", blocks = ["results"])]
struct RunsPage {
    page: Page,
    rows: Vec<RunRow>,
    /// Id and name.
    directories: Vec<(String, String)>,
    /// As in the address, and as shown.
    states: [(&'static str, &'static str); 7],
    chosen: String,
    chosen_state: String,
    first_href: String,
    next_href: String,
}

/// Directories offered as a filter.
const DIRECTORIES_OFFERED: usize = 200;

/// `GET /runs`.
pub(super) async fn runs(ctx: Ctx, query: Query<RunsQuery>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let chosen = query.0.directory.unwrap_or_default();
    let directory: Option<i64> = match chosen.as_str() {
        "" => None,
        id => Some(id.parse().map_err(|_| Error::NotFound("This directory"))?),
    };
    let chosen_state = query.0.state.unwrap_or_default();
    let state = match chosen_state.as_str() {
        "" => None,
        state => Some(RunState::parse(state).ok_or(Error::NotFound("This state of a run"))?),
    };
    let list = ListQuery { limit: None, cursor: query.0.cursor.clone() };
    let before = list.position::<i64>()?.unwrap_or(i64::MAX);
    let (rows, directories) = ctx
        .kernel
        .db
        .read(move |c| {
            if let Some(id) = directory {
                queries::find(c, account, id)?.ok_or(Error::NotFound("This directory"))?;
            }
            let rows = match state {
                None => queries::list_runs(c, account, directory, before, PAGE_SIZE + 1)?,
                Some(state) => queries::list_runs_in_state(c, account, directory, state, before, PAGE_SIZE + 1)?,
            };
            Ok((rows, queries::list(c, account, "", DIRECTORIES_OFFERED)?))
        })
        .await?;
    let listing = Listing::cut(rows, PAGE_SIZE, |run| run.id);
    let at = |cursor: &str| href("/runs", &[("directory", &chosen), ("state", &chosen_state), ("cursor", cursor)]);
    let page = RunsPage {
        page: Page::new(&ctx, "Runs", "runs").about(directory),
        first_href: query.0.cursor.map(|_| at("")).unwrap_or_default(),
        next_href: listing.next.map(|cursor| at(&cursor)).unwrap_or_default(),
        states: RunState::ALL.map(|state| (state.as_str(), state_label(state))),
        rows: listing.rows.into_iter().map(|run| RunRow::new(&ctx, run)).collect(),
        directories: directories.into_iter().map(|directory| (directory.id.to_string(), directory.name)).collect(),
        chosen,
        chosen_state,
    };
    if ctx.is_fragment { html(&page.as_results()) } else { html(&page) }
}

/// The moving part of a run's page.
struct Live {
    /// 0 reading, 1 planning, 2 applying.
    step: u8,
    line: String,
    detail: String,
    read: String,
    found: String,
    applied: i64,
    to_apply: i64,
    applied_text: String,
    rate: String,
    elapsed: String,
}

impl Live {
    fn new(run: &Run, progress: &ProgressJson) -> Self {
        let is_applying = progress.phase == "applying" || run.state == RunState::Applying;
        let read = words::number(progress.objects_read);
        let of = format!("{} of {}", words::number(progress.applied), words::number(progress.to_apply));
        let (step, line, detail) = match progress.phase.as_str() {
            _ if is_applying => (2, "Applying the plan", format!("{of} steps")),
            "comparing" => (1, "Looking for what is missing", format!("{read} read")),
            "reading" => (0, "Reading people and groups", format!("{read} so far")),
            "connecting" => (0, "Connecting to the directory", String::new()),
            _ => (1, "Going on", String::new()),
        };
        Self {
            step,
            line: line.to_owned(),
            detail,
            read,
            found: words::number(progress.changes_found),
            applied: progress.applied.min(progress.to_apply),
            to_apply: progress.to_apply,
            applied_text: of,
            rate: words::rate(progress.rate),
            elapsed: words::duration(progress.elapsed_ms.saturating_mul(1000)),
        }
    }

    /// What a screen reader is told: phases, not every figure.
    fn announcement(&self) -> &str {
        &self.line
    }
}

/// One line of the plan.
struct ChangeView {
    row: ChangeRow,
    title: &'static str,
    field: String,
    /// Empty when there is no page of the subject: a planned addition is not in the copy yet.
    href: String,
    name: String,
    is_membership: bool,
    before: String,
    after: String,
}

/// The longest side of a change that a table shows; the API has all of it.
const SIDE_CHARS_MAX: usize = 300;

fn shortened(text: String) -> String {
    match text.char_indices().nth(SIDE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

impl ChangeView {
    fn new(row: ChangeRow) -> Self {
        let kind = ChangeKind::parse(&row.kind);
        let is_membership = matches!(kind, Some(ChangeKind::MemberAdded | ChangeKind::MemberRemoved));
        let is_object =
            matches!(kind, Some(ChangeKind::Added | ChangeKind::Missing | ChangeKind::Returned | ChangeKind::Removed));
        // What is only planned to be added has no page yet, and what was removed has none any more.
        let is_in_copy = match kind {
            Some(ChangeKind::Added) => row.applied_at.is_some(),
            Some(ChangeKind::Removed) => row.applied_at.is_none(),
            _ => true,
        };
        let name = match kind {
            // The line itself remembers what was added, also when the plan is long gone.
            Some(ChangeKind::Added) if row.after.is_some() => row.after_text(),
            _ => row.subject_name.clone(),
        };
        let side = |text: String| if is_membership || is_object { String::new() } else { shortened(text) };
        Self {
            title: row.kind_title(),
            field: field_label(row.field.as_deref()),
            href: if is_in_copy { row.href() } else { String::new() },
            name: shortened(name),
            is_membership,
            before: side(row.before_text()),
            after: side(row.after_text()),
            row,
        }
    }

    fn has_sides(&self) -> bool {
        self.row.kind == "changed"
    }

    /// Whether the field is an attribute of the directory, by its own name.
    fn is_raw(&self) -> bool {
        self.row.field.as_deref().is_some_and(|field| field.starts_with("attributes."))
    }

    fn member(&self) -> &str {
        self.row.member_name.as_deref().unwrap_or_default()
    }
}

/// `familyName` as `Family name`; a raw attribute keeps its own name.
fn field_label(field: Option<&str>) -> String {
    let field = field.unwrap_or_default();
    if let Some(raw) = field.strip_prefix("attributes.") {
        return raw.to_owned();
    }
    let mut label = String::with_capacity(field.len() + 4);
    for (at, letter) in field.chars().enumerate() {
        match (at, letter.is_ascii_uppercase()) {
            (0, _) => label.push(letter.to_ascii_uppercase()),
            (_, true) => {
                label.push(' ');
                label.push(letter.to_ascii_lowercase());
            }
            _ => label.push(letter),
        }
    }
    label
}

struct Tab {
    label: &'static str,
    href: String,
    count: String,
    is_chosen: bool,
}

/// Which part of a plan is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PlanQuery {
    kind: Option<String>,
    #[serde(rename = "subjectType")]
    subject_type: Option<String>,
    q: Option<String>,
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "directories/run.html", blocks = ["live", "plan"])]
pub(super) struct RunPage {
    page: Page,
    run: Run,
    review: ReviewView,
    state: &'static str,
    mode: &'static str,
    by: String,
    started: When,
    duration: String,
    sentence: String,
    live: Option<Live>,
    /// A later run was applied: the copy can be taken back to this one.
    can_rewind: bool,
    tabs: Vec<Tab>,
    chosen: String,
    subject_type: String,
    q: String,
    csv_href: String,
    json_href: String,
    changes: Vec<ChangeView>,
    quarantine: Vec<QuarantineJson>,
    first_href: String,
    next_href: String,
}

impl RunPage {
    fn has_plan(&self) -> bool {
        !matches!(self.run.state, RunState::Reading | RunState::Failed)
    }

    fn number(&self, number: &i64) -> String {
        words::number(*number)
    }

    fn text<'a>(&self, text: &'a Option<String>) -> &'a str {
        text.as_deref().unwrap_or_default()
    }

    fn is_narrowed(&self) -> bool {
        !self.q.is_empty() || !self.subject_type.is_empty()
    }

    fn plan_title(&self) -> &'static str {
        match self.run.state {
            RunState::Applied => "What was applied",
            RunState::Discarded => "What was discarded",
            _ => "Plan",
        }
    }
}

const QUARANTINED: &str = "quarantined";

fn tabs(run: &Run, chosen: &str, subject_type: &str, q: &str) -> Vec<Tab> {
    let counts = &run.counts;
    let path = format!("/runs/{}", run.id);
    [
        ("", "All", None),
        ("added", "Added", Some(counts.added)),
        ("changed", "Changed", Some(counts.changed)),
        ("missing", "Missing", Some(counts.missing)),
        ("returned", "Returned", Some(counts.returned)),
        ("removed", "Removed", Some(counts.removed)),
        ("member-added", "Members added", Some(counts.members_added)),
        ("member-removed", "Members removed", Some(counts.members_removed)),
        (QUARANTINED, "Quarantined", Some(counts.quarantined)),
    ]
    .into_iter()
    .filter(|(kind, _, count)| *kind == chosen || count.is_none_or(|count| count > 0))
    .map(|(kind, label, count)| Tab {
        label,
        href: href(&path, &[("kind", kind), ("subjectType", subject_type), ("q", q)]),
        count: count.map(words::number).unwrap_or_default(),
        is_chosen: kind == chosen,
    })
    .collect()
}

fn live(ctx: &Ctx, runner: &Runner, run: &Run) -> Option<Live> {
    let figures = runner.board.find(run.id).map(|progress| progress.figures());
    run.is_active().then(|| Live::new(run, &ProgressJson::new(run, figures, ctx.kernel.clock.now())))
}

pub(super) async fn find_run(ctx: &Ctx, id: i64) -> Result<Run> {
    let account = ctx.principal.account()?;
    ctx.kernel.db.read(move |c| queries::find_run(c, account, id)).await?.ok_or(Error::NotFound("This run"))
}

async fn run_page(ctx: &Ctx, runner: &Runner, run: Run, typed: Typed) -> Result<RunPage> {
    let id = run.id;
    let (account, directory) = (run.account_id, run.directory_id);
    let (review, stands) = ctx
        .kernel
        .db
        .read(move |c| {
            let applied = queries::find(c, account, directory)?.and_then(|directory| directory.applied_run_id);
            Ok((review::find(c, id)?, applied == Some(id)))
        })
        .await?;
    Ok(RunPage {
        can_rewind: run.state == RunState::Applied && !stands,
        page: Page::new(ctx, format!("Run of {}", run.directory_name), "runs").about(Some(run.directory_id)),
        state: state_label(run.state),
        mode: if review.is_preview {
            "Preview"
        } else if run.is_dry_run {
            "Dry run"
        } else if run.mode == "delta" {
            "Delta run"
        } else if run.rewind_to.is_some() {
            "Rewind"
        } else {
            "Full run"
        },
        by: by(ctx, &run.requested_by),
        started: When::new(run.started_at),
        duration: words::duration(run.duration_us(ctx.kernel.clock.now())),
        sentence: words::counts_sentence(&run.counts),
        live: live(ctx, runner, &run),
        review: ReviewView::new(ctx, &run, review, typed),
        tabs: Vec::new(),
        chosen: String::new(),
        subject_type: String::new(),
        q: String::new(),
        csv_href: String::new(),
        json_href: String::new(),
        changes: Vec::new(),
        quarantine: Vec::new(),
        first_href: String::new(),
        next_href: String::new(),
        run,
    })
}

/// The whole page of a run; `typed` is what a refused decision was sent with.
pub(super) async fn show(ctx: &Ctx, runner: &Runner, id: i64, query: PlanQuery, typed: Typed) -> Result<RunPage> {
    let chosen = query.kind.unwrap_or_default();
    let changes = ChangesQuery {
        limit: None,
        kind: Some(chosen.clone()).filter(|kind| kind != QUARANTINED),
        cursor: query.cursor.clone(),
        subject_type: query.subject_type,
        q: query.q,
    };
    changes.filter().map_err(|_| Error::NotFound("This part of the plan"))?;
    let run = find_run(ctx, id).await?;
    let mut page = run_page(ctx, runner, run, typed).await?;
    page.q = changes.q.clone().unwrap_or_default();
    page.subject_type = changes.subject_type.clone().unwrap_or_default();
    page.tabs = tabs(&page.run, &chosen, &page.subject_type, &page.q);
    let next = if !page.has_plan() {
        None
    } else if chosen == QUARANTINED {
        let after = ListQuery { limit: None, cursor: query.cursor.clone() }.position::<i64>()?.unwrap_or(0);
        let rows = ctx.kernel.db.read(move |c| queries::quarantine_of(c, id, after, PAGE_SIZE + 1)).await?;
        let listing = Listing::cut(rows, PAGE_SIZE, |row| row.number);
        page.quarantine = listing.rows;
        listing.next
    } else {
        let listing = changes.page(ctx, id, PAGE_SIZE).await?;
        page.changes = listing.rows.into_iter().map(ChangeView::new).collect();
        listing.next
    };
    let at = |suffix: &str, cursor: &str| {
        let fields =
            [("kind", chosen.as_str()), ("subjectType", &page.subject_type), ("q", &page.q), ("cursor", cursor)];
        href(&format!("/runs/{id}{suffix}"), &fields)
    };
    let next_href = next.map(|cursor| at("", &cursor)).unwrap_or_default();
    let first_href = query.cursor.map(|_| at("", "")).unwrap_or_default();
    (page.csv_href, page.json_href) = (at("/changes.csv", ""), at("/changes.json", ""));
    (page.next_href, page.first_href) = (next_href, first_href);
    page.chosen = chosen;
    Ok(page)
}

/// `GET /runs/{id}`.
pub(super) async fn run(
    ctx: Ctx,
    id: PathId<i64>,
    query: Query<PlanQuery>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    let page = show(&ctx, &runner, id.0, query.0, Typed::default()).await?;
    if ctx.is_fragment { html(&page.as_plan()) } else { html(&page) }
}

/// `GET /runs/{id}/changes.csv`: the plan as a file, narrowed as on the page.
pub(super) async fn export_csv(ctx: Ctx, id: PathId<i64>, query: Query<ChangesQuery>) -> Result<HttpResponse> {
    plan_export::changes(&ctx, id.0, query.0.filter()?, Format::Csv).await
}

/// `GET /runs/{id}/changes.json`.
pub(super) async fn export_json(ctx: Ctx, id: PathId<i64>, query: Query<ChangesQuery>) -> Result<HttpResponse> {
    plan_export::changes(&ctx, id.0, query.0.filter()?, Format::Json).await
}

/// `GET /runs/{id}/progress`: the moving part, asked for every second; once the run has ended, the whole page is
/// loaded again by htmx (`HX-Refresh`), which also ends the asking.
pub(super) async fn run_progress(ctx: Ctx, id: PathId<i64>, runner: Data<Runner>) -> Result<HttpResponse> {
    let run = find_run(&ctx, id.0).await?;
    if !ctx.is_fragment {
        return Ok(redirect(&format!("/runs/{}", id.0)));
    }
    if !run.is_active() {
        return Ok(HttpResponse::NoContent().insert_header(("hx-refresh", "true")).finish());
    }
    html(&run_page(&ctx, &runner, run, Typed::default()).await?.as_live())
}
