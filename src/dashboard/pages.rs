//! `/`: figures, what needs attention, directories, recent runs.

use actix_web::HttpResponse;
use askama::Template;

use crate::{
    api_keys,
    clock::Time,
    directories::{self, Run, Standing},
    enforcement::{self, Notable, Why},
    error::Result,
    identities,
    principal::{Level, Permission, Service},
    web::{Ctx, Page, grouped, html},
};

/// Directories on the overview; the rest are on their own page.
const DIRECTORIES_MAX: usize = 100;
const RUNS_SHOWN: usize = 8;
/// Identities in one state are counted up to here.
const COUNT_MAX: i64 = 10_000;

/// One line of "Needs attention".
struct Attention {
    /// `danger`, `warning` or `info`; an icon has the same name.
    tone: &'static str,
    title: String,
    text: String,
    since: Option<Time>,
    href: String,
    action: &'static str,
}

struct DirectoryLine {
    standing: Standing,
    missing: i64,
}

impl DirectoryLine {
    fn state_title(&self) -> &'static str {
        match self.standing.state() {
            "reading" => "Running",
            "failed" => "Last run failed",
            "parked" => "Waits for approval",
            "never" => "Never read",
            "paused" => "Paused",
            _ => "Up to date",
        }
    }
}

/// What a directory holds of somebody's part of the account.
struct PartLine {
    id: i64,
    name: String,
    identities: i64,
    groups: i64,
}

#[derive(Template)]
#[template(path = "dashboard/overview.html")]
struct OverviewPage {
    page: Page,
    may_read: bool,
    /// The reader's role is for a part of the account: what lies in that, and nothing else.
    part: Option<Vec<PartLine>>,
    attention: Vec<Attention>,
    directories: Vec<DirectoryLine>,
    has_more_directories: bool,
    runs: Vec<Run>,
    identities: String,
    groups: String,
    missing: String,
    locked: String,
    has_missing: bool,
    has_locked: bool,
    is_running: bool,
}

impl OverviewPage {
    fn state_title(&self, run: &Run) -> String {
        let mut title = run.state.as_str().to_owned();
        if let Some(first) = title.get_mut(0..1) {
            first.make_ascii_uppercase();
        }
        title
    }

    fn changes(&self, run: &Run) -> i64 {
        run.counts.differences()
    }

    fn part_identities(&self) -> String {
        grouped(self.part.iter().flatten().map(|line| line.identities).sum())
    }

    fn part_groups(&self) -> String {
        grouped(self.part.iter().flatten().map(|line| line.groups).sum())
    }
}

/// A count that stopped at `max`.
fn up_to(count: i64, max: i64) -> String {
    if count >= max { format!("{}+", grouped(max)) } else { grouped(count) }
}

fn attention(line: &DirectoryLine) -> Vec<Attention> {
    let (standing, directory) = (&line.standing, &line.standing.directory);
    let mut found = Vec::new();
    let mut add = |tone, title: String, text: String, href: String, action| {
        found.push(Attention { tone, title, text, since: None, href, action });
    };
    match (standing.state(), &standing.latest) {
        ("failed", Some(run)) => {
            let next_step = run.next_step.as_deref().unwrap_or_default();
            let reason = run.reason.as_deref().unwrap_or("The run failed.");
            add(
                "danger",
                format!("{} could not be read", directory.name),
                format!("{reason} {next_step}").trim().to_owned(),
                format!("/runs/{}", run.id),
                "Open the run",
            );
        }
        ("never", _) => add(
            "info",
            format!("{} has not been read yet", directory.name),
            "Start its first run, or wait for its schedule.".into(),
            format!("/directories/{}", directory.id),
            "Open the directory",
        ),
        _ => {}
    }
    if let Some(first) = found.first_mut() {
        first.since = standing.failing_since;
    }
    if let Some(run) = &standing.parked {
        found.push(Attention {
            tone: "warning",
            title: format!("A plan for {} waits for approval", directory.name),
            text: run.reason.clone().unwrap_or_default(),
            since: None,
            href: format!("/runs/{}", run.id),
            action: "Review the plan",
        });
    }
    let mut add = |tone, title: String, text: &str, href: String, action| {
        found.push(Attention { tone, title, text: text.to_owned(), since: None, href, action });
    };
    if line.missing > 0 {
        let (count, verb) =
            (up_to(line.missing, COUNT_MAX), if line.missing == 1 { "identity is" } else { "identities are" });
        add(
            "warning",
            format!("{count} {verb} missing from {}", directory.name),
            "The directory's answer no longer holds them. They are kept here, marked as missing.",
            format!("/identities?directory={}&status=missing", directory.id),
            "Show them",
        );
    }
    if let Some(run) = standing.latest.as_ref().filter(|run| run.counts.quarantined > 0) {
        let count = run.counts.quarantined;
        let objects = if count == 1 { "object" } else { "objects" };
        add(
            "warning",
            format!("{} {objects} of {} could not be taken over", grouped(count), directory.name),
            "The run says which ones and why. They are tried again by every run.",
            format!("/runs/{}", run.id),
            "Open the run",
        );
    }
    found
}

fn about_request(notable: Notable) -> Attention {
    let (tone, action) = match notable.why {
        Why::BreakGlass => ("danger", "Open the request"),
        Why::AwaitsApproval => ("warning", "Decide"),
        Why::Failed => ("danger", "Open the request"),
        Why::Drifted => ("info", "Open the request"),
        Why::Loosened => ("warning", "Open the rules"),
    };
    Attention {
        tone,
        title: notable.title,
        text: notable.text,
        since: None,
        href: notable.request.map_or_else(|| "/tasks/rules".to_owned(), |id| format!("/tasks/requests/{id}")),
        action,
    }
}

fn about_keys(notable: api_keys::Notable) -> Attention {
    Attention {
        tone: if notable.is_urgent { "warning" } else { "info" },
        title: notable.title,
        text: notable.text,
        since: None,
        href: notable.href,
        action: "Look at it",
    }
}

pub(super) async fn overview(ctx: Ctx) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let may_read = ctx.principal.allows(Permission::Needs(Service::Directories, Level::Read));
    let sees_tasks = ctx.principal.allows(Permission::Needs(Service::Enforcement, Level::Read));
    let now = ctx.kernel.clock.now();
    let part = if ctx.principal.scope.is_some()
        && ctx.principal.allows(Permission::InPart(Service::Directories, Level::Read))
    {
        let sight = identities::sight(&ctx.kernel, &ctx.principal).await?;
        let lines = ctx.kernel.db.read(move |c| identities::queries::directories(c, &sight)).await?;
        let line = |one: identities::DirectoryChoice| PartLine {
            id: one.id,
            name: one.name,
            identities: one.identities,
            groups: one.groups,
        };
        Some(lines.into_iter().map(line).collect())
    } else {
        None
    };
    let notable = match sees_tasks {
        true => ctx.kernel.db.read(move |c| enforcement::notable(c, account, now)).await?,
        false => Vec::new(),
    };
    let sees_keys = ctx.principal.allows(Permission::Needs(Service::Identity, Level::Read));
    let keys = match sees_keys {
        true => ctx.kernel.db.read(move |c| api_keys::notable(c, account, now)).await?,
        false => Vec::new(),
    };
    let (directories, runs, locked) = if may_read {
        ctx.kernel
            .db
            .read(move |c| {
                let mut lines = Vec::new();
                let mut locked = 0;
                for standing in directories::standings(c, account, DIRECTORIES_MAX + 1)? {
                    let id = standing.directory.id;
                    locked += identities::count_state(c, id, "locked", COUNT_MAX)?;
                    lines.push(DirectoryLine {
                        missing: identities::count_state(c, id, "missing", COUNT_MAX)?,
                        standing,
                    });
                }
                Ok((lines, directories::recent_runs(c, account, RUNS_SHOWN)?, locked))
            })
            .await?
    } else {
        (Vec::new(), Vec::new(), 0)
    };
    let mut directories = directories;
    let has_more_directories = directories.len() > DIRECTORIES_MAX;
    directories.truncate(DIRECTORIES_MAX);
    let sum = |of: fn(&DirectoryLine) -> i64| directories.iter().map(of).sum::<i64>();
    let missing = sum(|line| line.missing);
    let template = OverviewPage {
        page: Page::new(&ctx, "Overview", "overview"),
        may_read,
        part,
        attention: notable
            .into_iter()
            .map(about_request)
            .chain(directories.iter().flat_map(attention))
            .chain(keys.into_iter().map(about_keys))
            .collect(),
        identities: grouped(sum(|line| line.standing.directory.identity_count)),
        groups: grouped(sum(|line| line.standing.directory.group_count)),
        missing: up_to(missing, COUNT_MAX),
        locked: up_to(locked, COUNT_MAX),
        has_missing: missing > 0,
        has_locked: locked > 0,
        is_running: directories.iter().any(|line| line.standing.state() == "reading"),
        directories,
        has_more_directories,
        runs,
    };
    html(&template)
}
