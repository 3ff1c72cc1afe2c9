//! Directories and runs for people: lists, one directory, removal, one run with its live progress and its plan.
//!
//! Owns what a state is called and which next step is offered. It must never decide whether something may be done
//! (routes and `actions` do), and never show a credential.

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use askama::Template;
use serde::Deserialize;

use super::{
    actions::{self, RunInput},
    model::{Directory, Mode, ProgressJson, QuarantineJson, Run, RunState},
    queries,
    run::Runner,
    words::{self, When},
};
use crate::{
    connectors::{
        AbilityState, ProbeReport, StepState,
        ldap::Endpoint,
        openldap::{Scope, Settings},
    },
    error::{Error, Result},
    identities::{self, ChangeKind, ChangeRow},
    web::{Ctx, Form, ListQuery, Listing, PAGE_SIZE, Page, PathId, Query, html, html_status, redirect, redirect_with},
};

/// How a directory is doing, with the runs that say so.
struct Health {
    /// As the style sheet knows states.
    code: &'static str,
    label: &'static str,
    /// The run that goes on.
    active: Option<Run>,
    /// The newest one that ended and was not a dry run.
    last: Option<Run>,
}

impl Health {
    fn new(directory: &Directory, newest: Option<Run>, last: Option<Run>) -> Self {
        let active = newest.filter(Run::is_active);
        let (code, label) = match (&active, last.as_ref().map(|run| run.state)) {
            (Some(run), _) if run.state == RunState::Reading => ("reading", "Reading"),
            (Some(_), _) => ("applying", "Applying"),
            (None, Some(RunState::Failed)) => ("failed", "Last run failed"),
            (None, Some(RunState::Parked)) => ("parked", "Waits for approval"),
            _ if directory.schedule.paused => ("paused", "Paused"),
            (None, None) => ("never", "Never read"),
            _ => ("ok", "Up to date"),
        };
        Self { code, label, active, last }
    }

    fn failed(&self) -> Option<&Run> {
        self.last.as_ref().filter(|run| run.state == RunState::Failed)
    }
}

fn settings(directory: &Directory) -> Settings {
    serde_json::from_value(directory.settings.clone()).unwrap_or_default()
}

/// Whether passwords and data travel unencrypted to at least one server.
fn is_plain(settings: &Settings) -> bool {
    !settings.start_tls
        && settings.servers.iter().any(|server| Endpoint::parse(server).is_ok_and(|endpoint| !endpoint.is_ldaps))
}

fn encryption(settings: &Settings) -> String {
    let way = if is_plain(settings) {
        return "none: password and data travel unencrypted".into();
    } else if settings.start_tls {
        "StartTLS, always required"
    } else {
        "LDAPS (TLS from the first byte)"
    };
    let trust = if settings.ca_pem().is_some() { "own certificate authorities" } else { "the system's authorities" };
    format!("{way}; trusts {trust}")
}

struct DirectoryRow {
    directory: Directory,
    health: Health,
    server: String,
    is_plain: bool,
    identities: String,
    groups: String,
    last_success: When,
    next_run: When,
}

#[derive(Template)]
#[template(path = "directories/list.html")]
struct ListPage {
    page: Page,
    rows: Vec<DirectoryRow>,
    first_href: String,
    next_href: String,
}

/// `?cursor=` of a console list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CursorQuery {
    cursor: Option<String>,
}

impl CursorQuery {
    fn list(&self) -> ListQuery {
        ListQuery { limit: None, cursor: self.cursor.clone() }
    }
}

/// `GET /directories`.
pub(super) async fn list(ctx: Ctx, query: Query<CursorQuery>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let after = query.0.list().position::<String>()?.unwrap_or_default();
    let rows = ctx
        .kernel
        .db
        .read(move |c| {
            queries::list(c, account, &after, PAGE_SIZE + 1)?
                .into_iter()
                .map(|directory| {
                    let (newest, last) = queries::last_runs(c, directory.id)?;
                    let health = Health::new(&directory, newest, last);
                    Ok((directory, health))
                })
                .collect::<Result<Vec<_>>>()
        })
        .await?;
    let listing = Listing::cut(rows, PAGE_SIZE, |(directory, _)| directory.name.clone());
    let next_href = listing.next.as_ref().map(|cursor| format!("/directories?cursor={cursor}")).unwrap_or_default();
    let rows = listing.rows.into_iter().map(|(directory, health)| {
        let settings = settings(&directory);
        DirectoryRow {
            health,
            server: settings.servers.first().cloned().unwrap_or_default(),
            is_plain: is_plain(&settings),
            identities: words::number(directory.identity_count),
            groups: words::number(directory.group_count),
            last_success: directory.applied_at.into(),
            next_run: directory.next_run_at.into(),
            directory,
        }
    });
    html(&ListPage {
        page: Page::new(&ctx, "Directories", "directories"),
        rows: rows.collect(),
        first_href: if query.0.cursor.is_some() { "/directories".into() } else { String::new() },
        next_href,
    })
}

/// One step of a probe as pages show it.
pub(super) struct StepView {
    pub code: &'static str,
    pub icon: &'static str,
    pub word: &'static str,
    pub title: String,
    pub target: String,
    pub message: String,
    pub fix: String,
}

/// What the credentials allow.
pub(super) struct AbilityView {
    pub code: &'static str,
    pub word: &'static str,
    pub title: String,
    pub message: String,
    pub fix: String,
}

/// A probe as pages show it.
pub(super) struct ProbeView {
    pub is_ok: bool,
    pub steps: Vec<StepView>,
    pub abilities: Vec<AbilityView>,
}

impl ProbeView {
    pub(super) fn new(report: &ProbeReport) -> Self {
        let steps = report.steps.iter().map(|step| {
            let (code, icon, word) = match step.state {
                StepState::Ok => ("ok", "success", "OK"),
                StepState::Warning => ("warning", "warning", "Warning"),
                StepState::Failed => ("failed", "danger", "Failed"),
                StepState::Skipped => ("skipped", "dash", "Not tried"),
            };
            let title = match step.step.as_str() {
                "name-resolution" => "Name resolution",
                "connect" => "Connection",
                "tls" => "Encryption",
                "bind" => "Bind",
                "base" => "Base",
                "users" => "Users",
                "groups" => "Groups",
                "paging" => "Paged results",
                "syncrepl" => "Syncrepl",
                "settings" => "Settings",
                other => other,
            };
            StepView {
                code,
                icon,
                word,
                title: title.to_owned(),
                target: step.target.clone().unwrap_or_default(),
                message: step.message.clone(),
                fix: step.fix.clone().unwrap_or_default(),
            }
        });
        let abilities = report.abilities.iter().map(|ability| {
            let (code, word) = match ability.state {
                AbilityState::Granted => ("granted", "Granted"),
                AbilityState::Missing => ("off", "Missing"),
                AbilityState::NotLicensed => ("off", "Not licensed"),
                AbilityState::Unknown => ("skipped", "Unknown"),
            };
            let title = match ability.ability.as_str() {
                "read" => "Read",
                "delta" => "Delta runs",
                other => other,
            };
            AbilityView {
                code,
                word,
                title: title.to_owned(),
                message: ability.message.clone(),
                fix: ability.fix.clone().unwrap_or_default(),
            }
        });
        Self { is_ok: report.is_ok(), steps: steps.collect(), abilities: abilities.collect() }
    }
}

/// One row of a list of runs.
struct RunRow {
    run: Run,
    state: &'static str,
    started: When,
    mode: &'static str,
    by: String,
    read: String,
    changes: String,
    sentence: String,
    duration: String,
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
        (false, _) => "Full",
    }
}

fn by(ctx: &Ctx, run: &Run) -> String {
    if run.requested_by == ctx.principal.urn() { "you".into() } else { run.requested_by_short().to_owned() }
}

impl RunRow {
    fn new(ctx: &Ctx, run: Run) -> Self {
        let is_open = matches!(run.state, RunState::Reading | RunState::Failed);
        Self {
            state: state_label(run.state),
            started: When::new(run.started_at),
            mode: mode_label(&run),
            by: by(ctx, &run),
            read: words::number(run.counts.read),
            // A reading that has not ended has found nothing yet, which is not the same as "no difference".
            changes: if is_open { "–".into() } else { words::counts_short(&run.counts) },
            sentence: if is_open { String::new() } else { words::counts_sentence(&run.counts) },
            duration: words::duration(run.duration_us(ctx.kernel.clock.now())),
            run,
        }
    }
}

#[derive(Template)]
#[template(path = "directories/detail.html", blocks = ["probe"])]
struct DetailPage {
    page: Page,
    directory: Directory,
    health: Health,
    settings: Settings,
    is_plain: bool,
    encryption: String,
    schedule: String,
    identities: String,
    groups: String,
    last_success: When,
    next_run: When,
    runs: Vec<RunRow>,
    audit_href: String,
    probe: Option<ProbeView>,
}

impl DetailPage {
    fn is_one_level(&self) -> bool {
        self.settings.scope == Scope::One
    }
}

/// Runs shown on a directory's own page.
const RECENT_RUNS: usize = 10;

async fn detail_page(ctx: &Ctx, id: i64, probe: Option<ProbeView>) -> Result<DetailPage> {
    let account = ctx.principal.account()?;
    let (directory, runs, newest, last) = ctx
        .kernel
        .db
        .read(move |c| {
            let directory = queries::find(c, account, id)?.ok_or(Error::NotFound("This directory"))?;
            let runs = queries::list_runs(c, account, Some(id), i64::MAX, RECENT_RUNS)?;
            let (newest, last) = queries::last_runs(c, id)?;
            Ok((directory, runs, newest, last))
        })
        .await?;
    let settings = settings(&directory);
    let audit = serde_urlencoded::to_string([("subject", actions::subject(&ctx.principal, id))]).unwrap_or_default();
    Ok(DetailPage {
        page: Page::new(ctx, directory.name.clone(), "directories"),
        health: Health::new(&directory, newest, last),
        is_plain: is_plain(&settings),
        encryption: encryption(&settings),
        schedule: words::schedule(&directory.schedule),
        identities: words::number(directory.identity_count),
        groups: words::number(directory.group_count),
        last_success: directory.applied_at.into(),
        next_run: directory.next_run_at.into(),
        runs: runs.into_iter().map(|run| RunRow::new(ctx, run)).collect(),
        audit_href: format!("/logs?{audit}"),
        settings,
        directory,
        probe,
    })
}

/// `GET /directories/{id}`.
pub(super) async fn detail(ctx: Ctx, id: PathId<i64>) -> Result<HttpResponse> {
    html(&detail_page(&ctx, id.0, None).await?)
}

/// A form without fields of its own. Anything else in it is refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoFields {}

/// `POST /directories/{id}/probe`: with htmx the card alone, without it the page with the card.
pub(super) async fn probe(ctx: Ctx, id: PathId<i64>, _: Form<NoFields>) -> Result<HttpResponse> {
    let report = actions::probe(&ctx.kernel, &ctx.principal, id.0).await?;
    let page = detail_page(&ctx, id.0, Some(ProbeView::new(&report))).await?;
    if ctx.is_fragment { html(&page.as_probe()) } else { html(&page) }
}

/// What kind of run a button asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct StartFields {
    dry_run: String,
}

/// `POST /directories/{id}/runs`: starts a run and goes to it.
pub(super) async fn start_run(
    ctx: Ctx,
    id: PathId<i64>,
    form: Form<StartFields>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    let input = RunInput { mode: Mode::Full, dry_run: !form.0.dry_run.is_empty() };
    match actions::start_run(&ctx.kernel, &ctx.principal, &runner, id.0, input).await {
        Ok(run) => Ok(redirect(&format!("/runs/{}", run.id))),
        Err(Error::Conflict(reason)) => Ok(redirect_with(&format!("/directories/{}", id.0), "warning", &reason)),
        Err(other) => Err(other),
    }
}

/// Pause or resume.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PauseFields {
    paused: bool,
}

/// `POST /directories/{id}/pause`.
pub(super) async fn pause(ctx: Ctx, id: PathId<i64>, form: Form<PauseFields>) -> Result<HttpResponse> {
    let path = format!("/directories/{}", id.0);
    let message =
        if form.0.paused { "The schedule is paused: no run starts by itself." } else { "The schedule goes on." };
    match actions::set_paused(&ctx.kernel, &ctx.principal, id.0, form.0.paused).await {
        Ok(_) => Ok(redirect_with(&path, "success", message)),
        Err(Error::Conflict(reason)) => Ok(redirect_with(&path, "warning", &reason)),
        Err(Error::Invalid(_)) => Ok(redirect_with(
            &path,
            "danger",
            "The stored settings of this directory are no longer accepted. Edit the directory first.",
        )),
        Err(other) => Err(other),
    }
}

#[derive(Template)]
#[template(path = "directories/remove.html")]
struct RemovePage {
    page: Page,
    directory: Directory,
    identities: String,
    groups: String,
    typed: String,
    error: String,
}

fn remove_page(ctx: &Ctx, directory: Directory, typed: String, error: String) -> RemovePage {
    RemovePage {
        page: Page::new(ctx, format!("Remove {}", directory.name), "directories"),
        identities: words::counted(directory.identity_count, "identity", "identities"),
        groups: words::counted(directory.group_count, "group", "groups"),
        directory,
        typed,
        error,
    }
}

/// `GET /directories/{id}/remove`.
pub(super) async fn confirm_removal(ctx: Ctx, id: PathId<i64>) -> Result<HttpResponse> {
    let directory = actions::get(&ctx.kernel, &ctx.principal, id.0).await?;
    html(&remove_page(&ctx, directory, String::new(), String::new()))
}

/// The name, typed to confirm.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveFields {
    confirm: String,
}

/// `POST /directories/{id}/remove`.
pub(super) async fn remove(
    ctx: Ctx,
    id: PathId<i64>,
    form: Form<RemoveFields>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    let directory = actions::get(&ctx.kernel, &ctx.principal, id.0).await?;
    if form.0.confirm.trim() != directory.name {
        let error = "This is not the name of the directory. Nothing was removed.".to_owned();
        let page = remove_page(&ctx, directory, form.0.confirm, error);
        return html_status(StatusCode::UNPROCESSABLE_ENTITY, &page);
    }
    match actions::remove(&ctx.kernel, &ctx.principal, &runner, id.0).await {
        Ok(()) => Ok(redirect_with("/directories", "success", &format!("{} is removed.", directory.name))),
        Err(Error::Conflict(reason)) => {
            html_status(StatusCode::CONFLICT, &remove_page(&ctx, directory, form.0.confirm, reason))
        }
        Err(other) => Err(other),
    }
}

/// Filters of the list of runs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RunsQuery {
    cursor: Option<String>,
    /// An id; empty for all.
    directory: Option<String>,
}

#[derive(Template)]
#[template(path = "directories/runs.html", blocks = ["results"])]
struct RunsPage {
    page: Page,
    rows: Vec<RunRow>,
    /// Id and name.
    directories: Vec<(String, String)>,
    chosen: String,
    first_href: String,
    next_href: String,
}

fn runs_href(directory: &str, cursor: Option<&str>) -> String {
    let fields: Vec<(&str, &str)> = [("directory", Some(directory)), ("cursor", cursor)]
        .into_iter()
        .filter_map(|(name, value)| value.filter(|value| !value.is_empty()).map(|value| (name, value)))
        .collect();
    let query = serde_urlencoded::to_string(fields).unwrap_or_default();
    if query.is_empty() { "/runs".into() } else { format!("/runs?{query}") }
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
    let list = ListQuery { limit: None, cursor: query.0.cursor.clone() };
    let before = list.position::<i64>()?.unwrap_or(i64::MAX);
    let (rows, directories) = ctx
        .kernel
        .db
        .read(move |c| {
            if let Some(id) = directory {
                queries::find(c, account, id)?.ok_or(Error::NotFound("This directory"))?;
            }
            let rows = queries::list_runs(c, account, directory, before, PAGE_SIZE + 1)?;
            Ok((rows, queries::list(c, account, "", DIRECTORIES_OFFERED)?))
        })
        .await?;
    let listing = Listing::cut(rows, PAGE_SIZE, |run| run.id);
    let page = RunsPage {
        page: Page::new(&ctx, "Runs", "runs"),
        first_href: query.0.cursor.map(|_| runs_href(&chosen, None)).unwrap_or_default(),
        next_href: listing.next.map(|cursor| runs_href(&chosen, Some(&cursor))).unwrap_or_default(),
        rows: listing.rows.into_iter().map(|run| RunRow::new(&ctx, run)).collect(),
        directories: directories.into_iter().map(|directory| (directory.id.to_string(), directory.name)).collect(),
        chosen,
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
        let is_object = matches!(kind, Some(ChangeKind::Added | ChangeKind::Missing | ChangeKind::Returned));
        let is_in_copy = row.applied_at.is_some() || !matches!(kind, Some(ChangeKind::Added));
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
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "directories/run.html", blocks = ["live", "plan"])]
struct RunPage {
    page: Page,
    run: Run,
    state: &'static str,
    mode: &'static str,
    by: String,
    started: When,
    duration: String,
    sentence: String,
    live: Option<Live>,
    tabs: Vec<Tab>,
    chosen: String,
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

    fn plan_title(&self) -> &'static str {
        match self.run.state {
            RunState::Applied => "What was applied",
            RunState::Discarded => "What was discarded",
            _ => "Plan",
        }
    }
}

const QUARANTINED: &str = "quarantined";

fn plan_href(run: i64, kind: &str, cursor: Option<&str>) -> String {
    let fields: Vec<(&str, &str)> = [("kind", Some(kind)), ("cursor", cursor)]
        .into_iter()
        .filter_map(|(name, value)| value.filter(|value| !value.is_empty()).map(|value| (name, value)))
        .collect();
    let query = serde_urlencoded::to_string(fields).unwrap_or_default();
    if query.is_empty() { format!("/runs/{run}") } else { format!("/runs/{run}?{query}") }
}

fn tabs(run: &Run, chosen: &str) -> Vec<Tab> {
    let counts = &run.counts;
    [
        ("", "All", None),
        ("added", "Added", Some(counts.added)),
        ("changed", "Changed", Some(counts.changed)),
        ("missing", "Missing", Some(counts.missing)),
        ("returned", "Returned", Some(counts.returned)),
        ("member-added", "Members added", Some(counts.members_added)),
        ("member-removed", "Members removed", Some(counts.members_removed)),
        (QUARANTINED, "Quarantined", Some(counts.quarantined)),
    ]
    .into_iter()
    .filter(|(kind, _, count)| *kind == chosen || count.is_none_or(|count| count > 0))
    .map(|(kind, label, count)| Tab {
        label,
        href: plan_href(run.id, kind, None),
        count: count.map(words::number).unwrap_or_default(),
        is_chosen: kind == chosen,
    })
    .collect()
}

fn live(ctx: &Ctx, runner: &Runner, run: &Run) -> Option<Live> {
    let figures = runner.board.find(run.id).map(|progress| progress.figures());
    run.is_active().then(|| Live::new(run, &ProgressJson::new(run, figures, ctx.kernel.clock.now())))
}

async fn find_run(ctx: &Ctx, id: i64) -> Result<Run> {
    let account = ctx.principal.account()?;
    ctx.kernel.db.read(move |c| queries::find_run(c, account, id)).await?.ok_or(Error::NotFound("This run"))
}

fn run_page(ctx: &Ctx, runner: &Runner, run: Run) -> RunPage {
    RunPage {
        page: Page::new(ctx, format!("Run of {}", run.directory_name), "runs"),
        state: state_label(run.state),
        mode: if run.is_dry_run {
            "Dry run"
        } else if run.mode == "delta" {
            "Delta run"
        } else {
            "Full run"
        },
        by: by(ctx, &run),
        started: When::new(run.started_at),
        duration: words::duration(run.duration_us(ctx.kernel.clock.now())),
        sentence: words::counts_sentence(&run.counts),
        live: live(ctx, runner, &run),
        tabs: Vec::new(),
        chosen: String::new(),
        changes: Vec::new(),
        quarantine: Vec::new(),
        first_href: String::new(),
        next_href: String::new(),
        run,
    }
}

/// `GET /runs/{id}`.
pub(super) async fn run(
    ctx: Ctx,
    id: PathId<i64>,
    query: Query<PlanQuery>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    let chosen = query.0.kind.unwrap_or_default();
    let kinds: Vec<&'static str> = match chosen.as_str() {
        "" | QUARANTINED => Vec::new(),
        kind => vec![ChangeKind::parse(kind).ok_or(Error::NotFound("This part of the plan"))?.as_str()],
    };
    let list = ListQuery { limit: None, cursor: query.0.cursor.clone() };
    let after = list.position::<i64>()?.unwrap_or(0);
    let run = find_run(&ctx, id.0).await?;
    let mut page = run_page(&ctx, &runner, run);
    page.tabs = tabs(&page.run, &chosen);
    let next = if !page.has_plan() {
        None
    } else if chosen == QUARANTINED {
        let rows = ctx.kernel.db.read(move |c| queries::quarantine_of(c, id.0, after, PAGE_SIZE + 1)).await?;
        let listing = Listing::cut(rows, PAGE_SIZE, |row| row.number);
        page.quarantine = listing.rows;
        listing.next
    } else {
        let rows =
            ctx.kernel.db.read(move |c| identities::changes_of_run(c, id.0, &kinds, after, PAGE_SIZE + 1)).await?;
        let listing = Listing::cut(rows, PAGE_SIZE, |row| row.id);
        page.changes = listing.rows.into_iter().map(ChangeView::new).collect();
        listing.next
    };
    page.next_href = next.map(|cursor| plan_href(id.0, &chosen, Some(&cursor))).unwrap_or_default();
    page.first_href = query.0.cursor.map(|_| plan_href(id.0, &chosen, None)).unwrap_or_default();
    page.chosen = chosen;
    if ctx.is_fragment { html(&page.as_plan()) } else { html(&page) }
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
    html(&run_page(&ctx, &runner, run).as_live())
}
