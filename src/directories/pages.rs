//! Directories for people: the list, one directory with its connection test, removal.
//!
//! Owns what a state is called and which next step is offered. It must never decide whether something may be done
//! (routes and `actions` do), and never show a credential.

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use askama::Template;
use serde::Deserialize;

use super::{
    actions::{self, RunInput},
    form_guard::GuardView,
    live::{Live, LiveJson, LiveState},
    model::{Directory, Mode, Run, RunState},
    queries, review,
    run::Runner,
    run_pages::RunRow,
    words::{self, When},
};
use crate::{
    connectors::{self, AbilityState, Outline, ProbeReport, StepState, act::Action},
    error::{Error, Result},
    web::{
        Ctx, Form, ListQuery, Listing, PAGE_SIZE, Page, PathId, Query, StepView, html, html_status, redirect,
        redirect_with,
    },
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
    /// The one whose plan waits for approval.
    parked: Option<Run>,
}

impl Health {
    fn find(connection: &rusqlite::Connection, directory: &Directory) -> Result<Self> {
        let (newest, last) = queries::last_runs(connection, directory.id)?;
        let parked = review::parked_run(connection, directory)?;
        Ok(Self::new(directory, newest, last, parked))
    }

    fn new(directory: &Directory, newest: Option<Run>, last: Option<Run>, parked: Option<Run>) -> Self {
        let active = newest.filter(Run::is_active);
        let (code, label) = match (&active, last.as_ref().map(|run| run.state)) {
            (Some(run), _) if run.state == RunState::Reading => ("reading", "Reading"),
            (Some(_), _) => ("applying", "Applying"),
            (None, Some(RunState::Failed)) => ("failed", "Last run failed"),
            (None, _) if parked.is_some() => ("parked", "Waits for approval"),
            _ if directory.schedule.paused => ("paused", "Paused"),
            _ if directory.applied_run_id.is_none() => ("never", "Never read"),
            (None, Some(RunState::Discarded)) => ("discarded", "Last plan discarded"),
            _ => ("ok", "Up to date"),
        };
        Self { code, label, active, last, parked }
    }

    /// The run that says why the state is what it is.
    fn linked(&self) -> Option<&Run> {
        self.failed().or(self.parked.as_ref())
    }

    fn failed(&self) -> Option<&Run> {
        self.last.as_ref().filter(|run| run.state == RunState::Failed)
    }
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
                    let health = Health::find(c, &directory)?;
                    Ok((directory, health))
                })
                .collect::<Result<Vec<_>>>()
        })
        .await?;
    let listing = Listing::cut(rows, PAGE_SIZE, |(directory, _)| directory.name.clone());
    let next_href = listing.next.as_ref().map(|cursor| format!("/directories?cursor={cursor}")).unwrap_or_default();
    let rows = listing.rows.into_iter().map(|(directory, health)| {
        let outline = connectors::outline(directory.kind, &directory.settings);
        DirectoryRow {
            health,
            server: outline.servers.into_iter().next().unwrap_or_default(),
            is_plain: outline.is_plain,
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
            let code = match step.state {
                StepState::Ok => "ok",
                StepState::Warning => "warning",
                StepState::Failed => "failed",
                StepState::Skipped => "skipped",
            };
            let title = match step.step.as_str() {
                "discovery" => "Discovery",
                "name-resolution" => "Name resolution",
                "connect" => "Connection",
                "tls" => "Encryption",
                "bind" => "Bind",
                "act-bind" => "Bind for acting",
                "domain" => "Domain",
                "clock" => "Clock",
                "base" => "Base",
                "users" => "Users",
                "groups" => "Groups",
                "paging" => "Paged results",
                "syncrepl" => "Syncrepl",
                "settings" => "Settings",
                other => other,
            };
            StepView::new(code, title, step.target.as_deref(), &step.message, step.fix.as_deref())
        });
        let abilities = report.abilities.iter().map(|ability| {
            let (code, word) = match ability.state {
                AbilityState::Granted => ("granted", "Granted"),
                AbilityState::Missing => ("off", "Not granted"),
                AbilityState::NotLicensed => ("off", "Not licensed"),
                AbilityState::Unknown => ("skipped", "Unknown"),
            };
            let title = match ability.ability.as_str() {
                "read" => "Read",
                "delta" => "Delta runs",
                "deleted-objects" => "Deleted objects",
                other => Action::parse(other).map_or(other, |action| action.title()),
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

/// Live mode as the page shows it.
struct LiveView {
    word: &'static str,
    /// Why, and what to do; empty when there is nothing to say.
    why: String,
    since: When,
    last_change: When,
    next_try: When,
}

impl LiveView {
    fn new(live: LiveJson) -> Self {
        let word = match live.state {
            LiveState::Off if live.reason.is_some() => "waiting",
            LiveState::Off => "off",
            LiveState::Connecting => "connecting",
            LiveState::Watching => "on: changes arrive within seconds",
            LiveState::Retrying => "interrupted",
            LiveState::NotOffered => "not offered by the server",
        };
        let why: Vec<String> = [live.reason, live.next_step].into_iter().flatten().collect();
        Self {
            word,
            why: why.join(" "),
            since: live.since.into(),
            last_change: live.last_change_at.into(),
            next_try: live.next_try_at.into(),
        }
    }
}

#[derive(Template)]
#[template(path = "directories/detail.html", blocks = ["probe"])]
struct DetailPage {
    page: Page,
    directory: Directory,
    health: Health,
    outline: Outline,
    guard: GuardView,
    schedule: String,
    live: LiveView,
    identities: String,
    groups: String,
    last_success: When,
    next_run: When,
    runs: Vec<RunRow>,
    audit_href: String,
    probe: Option<ProbeView>,
}

/// Runs shown on a directory's own page.
const RECENT_RUNS: usize = 10;

async fn detail_page(ctx: &Ctx, live: &Live, id: i64, probe: Option<ProbeView>) -> Result<DetailPage> {
    let account = ctx.principal.account()?;
    let (directory, runs, health) = ctx
        .kernel
        .db
        .read(move |c| {
            let directory = queries::find(c, account, id)?.ok_or(Error::NotFound("This directory"))?;
            let runs = queries::list_runs(c, account, Some(id), i64::MAX, RECENT_RUNS)?;
            let health = Health::find(c, &directory)?;
            Ok((directory, runs, health))
        })
        .await?;
    let audit = serde_urlencoded::to_string([("subject", actions::subject(&ctx.principal, id))]).unwrap_or_default();
    Ok(DetailPage {
        page: Page::new(ctx, directory.name.clone(), "directories").named().about(Some(id)),
        health,
        guard: GuardView::new(&directory.guard),
        schedule: words::schedule(&directory.schedule),
        live: LiveView::new(live.standing(&directory)),
        identities: words::number(directory.identity_count),
        groups: words::number(directory.group_count),
        last_success: directory.applied_at.into(),
        next_run: directory.next_run_at.into(),
        runs: runs.into_iter().map(|run| RunRow::new(ctx, run)).collect(),
        audit_href: format!("/logs?{audit}"),
        outline: connectors::outline(directory.kind, &directory.settings),
        directory,
        probe,
    })
}

/// `GET /directories/{id}`.
pub(super) async fn detail(ctx: Ctx, id: PathId<i64>, live: Data<Live>) -> Result<HttpResponse> {
    html(&detail_page(&ctx, &live, id.0, None).await?)
}

/// A form without fields of its own. Anything else in it is refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoFields {}

/// `POST /directories/{id}/probe`: with htmx the card alone, without it the page with the card.
pub(super) async fn probe(ctx: Ctx, id: PathId<i64>, _: Form<NoFields>, live: Data<Live>) -> Result<HttpResponse> {
    let report = actions::probe(&ctx.kernel, &ctx.principal, id.0).await?;
    let page = detail_page(&ctx, &live, id.0, Some(ProbeView::new(&report))).await?;
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
