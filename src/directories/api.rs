//! `/api/directories` and `/api/runs`.

use actix_web::{HttpResponse, web::Data};
use serde::Deserialize;

use super::{
    actions::{self, CreateInput, PreviewInput, RunInput, TrialInput, UpdateInput},
    live::Live,
    model::{Directory, DirectoryJson, QuarantineJson, Run, RunJson, RunState},
    plan_export, queries,
    review::{self, ApproveInput, DiscardInput},
    rewind::{self, RewindInput},
    run::Runner,
};
use crate::{
    connectors::{ProbeReport, Sample},
    error::{Error, Result},
    identities::{
        ChangeJson, ChangeKind, ChangeRow, SubjectType,
        plans::{self, LineFilter},
    },
    web::{Ctx, Cursor, Json, ListQuery, Listing, PathId, Query},
};

/// The account's directories, by name.
#[utoipa::path(get, path = "/api/directories", tag = "directories", params(ListQuery),
    responses((status = 200, description = "`{\"directories\": […], \"next\"}`", body = [DirectoryJson])))]
pub(super) async fn list(ctx: Ctx, query: Query<ListQuery>, live: Data<Live>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let (limit, after) = (query.0.limit()?, query.0.position::<String>()?.unwrap_or_default());
    let rows = ctx
        .kernel
        .db
        .read(move |c| {
            let rows = queries::list(c, account, &after, limit + 1)?;
            rows.into_iter().map(|row| Ok((review::parked_run(c, &row)?, row))).collect::<Result<Vec<_>>>()
        })
        .await?;
    let now = ctx.kernel.clock.now();
    let listing = Listing::cut(rows, limit, |(_, directory)| directory.name.clone());
    let listing = listing.map(|(parked, row)| {
        let standing = live.standing(&row);
        DirectoryJson::new(row, parked.as_ref(), standing, now)
    });
    Ok(listing.json("directories"))
}

/// A directory as it stands now.
async fn standing(ctx: &Ctx, live: &Live, directory: Directory) -> Result<DirectoryJson> {
    let (directory, parked) = ctx
        .kernel
        .db
        .read(move |c| Ok((review::parked_run(c, &directory)?, directory)))
        .await
        .map(|(run, of)| (of, run))?;
    let standing = live.standing(&directory);
    Ok(DirectoryJson::new(directory, parked.as_ref(), standing, ctx.kernel.clock.now()))
}

/// Connects a directory. Nothing is read yet: start a run, or wait for the schedule.
#[utoipa::path(post, path = "/api/directories", tag = "directories", request_body = CreateInput,
    responses((status = 201, body = DirectoryJson)))]
pub(super) async fn create(ctx: Ctx, input: Json<CreateInput>, live: Data<Live>) -> Result<HttpResponse> {
    let directory = actions::create(&ctx.kernel, &ctx.principal, input.0).await?;
    let location = format!("/api/directories/{}", directory.id);
    Ok(HttpResponse::Created().insert_header(("location", location)).json(standing(&ctx, &live, directory).await?))
}

/// One directory.
#[utoipa::path(get, path = "/api/directories/{id}", tag = "directories", params(("id" = String, Path)),
    responses((status = 200, body = DirectoryJson)))]
pub(super) async fn get(ctx: Ctx, id: PathId<i64>, live: Data<Live>) -> Result<HttpResponse> {
    let directory = actions::get(&ctx.kernel, &ctx.principal, id.0).await?;
    Ok(HttpResponse::Ok().json(standing(&ctx, &live, directory).await?))
}

/// Changes a directory: absent fields stay, `settings` and `credentials.read` are replaced as a whole. Other `servers`,
/// `startTls`, `caPem` or `acceptPlaintext` (of an Active Directory other `domain`, `site`, `dnsServers` or `globalCatalog`) need `credentials.read` too (422): a stored password is only sent to the
/// servers, and in the way, it was given for.
#[utoipa::path(post, path = "/api/directories/{id}", tag = "directories", params(("id" = String, Path)),
    request_body = UpdateInput, responses((status = 200, body = DirectoryJson)))]
pub(super) async fn update(
    ctx: Ctx,
    id: PathId<i64>,
    input: Json<UpdateInput>,
    live: Data<Live>,
) -> Result<HttpResponse> {
    let directory = actions::update(&ctx.kernel, &ctx.principal, id.0, input.0).await?;
    Ok(HttpResponse::Ok().json(standing(&ctx, &live, directory).await?))
}

/// Disconnects a directory and deletes its copy. The directory itself is not touched.
#[utoipa::path(delete, path = "/api/directories/{id}", tag = "directories", params(("id" = String, Path)),
    responses((status = 204, description = "Removed.")))]
pub(super) async fn remove(ctx: Ctx, id: PathId<i64>, runner: Data<Runner>) -> Result<HttpResponse> {
    actions::remove(&ctx.kernel, &ctx.principal, &runner, id.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Tries each step of the way to the directory.
#[utoipa::path(post, path = "/api/directories/{id}/probe", tag = "directories", params(("id" = String, Path)),
    responses((status = 200, body = ProbeReport)))]
pub(super) async fn probe(ctx: Ctx, id: PathId<i64>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(actions::probe(&ctx.kernel, &ctx.principal, id.0).await?))
}

/// Tries settings that are not stored.
#[utoipa::path(post, path = "/api/directories/probe", tag = "directories", request_body = TrialInput,
    responses((status = 200, body = ProbeReport)))]
pub(super) async fn probe_trial(ctx: Ctx, input: Json<TrialInput>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(actions::probe_trial(&ctx.kernel, &ctx.principal, input.0).await?))
}

/// Reads one entry with settings that are not stored, raw and mapped.
#[utoipa::path(post, path = "/api/directories/sample", tag = "directories", request_body = TrialInput,
    responses((status = 200, description = "`{dn, attributes, mapped}`", body = Object)))]
pub(super) async fn sample_trial(ctx: Ctx, input: Json<TrialInput>) -> Result<HttpResponse> {
    let sample: Sample =
        actions::sample_trial(&ctx.kernel, &ctx.principal, input.0).await?.map_err(actions::refused)?;
    Ok(HttpResponse::Ok().json(sample))
}

/// Reads one entry of a directory, raw and mapped.
#[utoipa::path(post, path = "/api/directories/{id}/sample", tag = "directories", params(("id" = String, Path)),
    responses((status = 200, description = "`{dn, attributes, mapped}`", body = Object)))]
pub(super) async fn sample(ctx: Ctx, id: PathId<i64>) -> Result<HttpResponse> {
    let sample = actions::sample(&ctx.kernel, &ctx.principal, id.0).await?.map_err(actions::refused)?;
    Ok(HttpResponse::Ok().json(sample))
}

/// Starts a run.
#[utoipa::path(post, path = "/api/directories/{id}/runs", tag = "runs", params(("id" = String, Path)),
    request_body = RunInput, responses((status = 202, body = RunJson)))]
pub(super) async fn start_run(
    ctx: Ctx,
    id: PathId<i64>,
    input: Json<RunInput>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    let run = actions::start_run(&ctx.kernel, &ctx.principal, &runner, id.0, input.0).await?;
    accepted(&ctx, &runner, run).await
}

/// Shows what settings would change before they are saved: a dry run with them. Answers the run; its plan is at
/// `/api/runs/{id}/changes` once it is `planned`, and `trips` says what the guard would stop. Nothing of it can be
/// applied.
#[utoipa::path(post, path = "/api/directories/{id}/preview", tag = "runs", params(("id" = String, Path)),
    request_body = PreviewInput, responses((status = 202, body = RunJson)))]
pub(super) async fn preview(
    ctx: Ctx,
    id: PathId<i64>,
    input: Json<PreviewInput>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    let run = actions::preview(&ctx.kernel, &ctx.principal, &runner, id.0, input.0).await?;
    accepted(&ctx, &runner, run).await
}

/// Plans the way back to how the copy stood right after an applied run. Answers the run; its plan is parked for approval
/// once it is made. The directory itself is not changed, and its next reading brings its present state back, under the
/// guard.
#[utoipa::path(post, path = "/api/directories/{id}/rewind", tag = "runs", params(("id" = String, Path)),
    request_body = RewindInput, responses((status = 202, body = RunJson)))]
pub(super) async fn rewind(
    ctx: Ctx,
    id: PathId<i64>,
    input: Json<RewindInput>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    let run = rewind::start(&ctx.kernel, &ctx.principal, &runner, id.0, input.0).await?;
    accepted(&ctx, &runner, run).await
}

/// A run with everything that is said of it.
async fn whole(ctx: &Ctx, runner: &Runner, run: Run) -> Result<RunJson> {
    let id = run.id;
    let review = ctx.kernel.db.read(move |c| review::find(c, id)).await?;
    let live = runner.board.find(id).map(|progress| progress.figures());
    Ok(RunJson::new(run, review, live, ctx.kernel.clock.now()))
}

async fn accepted(ctx: &Ctx, runner: &Runner, run: Run) -> Result<HttpResponse> {
    let location = format!("/api/runs/{}", run.id);
    Ok(HttpResponse::Accepted().insert_header(("location", location)).json(whole(ctx, runner, run).await?))
}

/// Lets the plan of a parked run take effect: that plan, and only while the copy and the settings are those it was made
/// with (409 otherwise). The reason goes on the record.
#[utoipa::path(post, path = "/api/runs/{id}/approve", tag = "runs", params(("id" = String, Path)),
    request_body = ApproveInput, responses((status = 202, body = RunJson)))]
pub(super) async fn approve(
    ctx: Ctx,
    id: PathId<i64>,
    input: Json<ApproveInput>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    let run = review::approve(&ctx.kernel, &ctx.principal, &runner, id.0, input.0).await?;
    accepted(&ctx, &runner, run).await
}

/// Drops the plan of a parked run, or of a dry run. The copy stays as it is.
#[utoipa::path(post, path = "/api/runs/{id}/discard", tag = "runs", params(("id" = String, Path)),
    request_body = DiscardInput, responses((status = 200, body = RunJson)))]
pub(super) async fn discard(
    ctx: Ctx,
    id: PathId<i64>,
    input: Json<DiscardInput>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    let run = review::discard(&ctx.kernel, &ctx.principal, &runner, id.0, input.0).await?;
    Ok(HttpResponse::Ok().json(whole(&ctx, &runner, run).await?))
}

/// Filters of a list of runs.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RunsQuery {
    limit: Option<i64>,
    cursor: Option<String>,
    /// `reading planned parked applying applied discarded failed`.
    #[param(pattern = "^(reading|planned|parked|applying|applied|discarded|failed|)$")]
    state: Option<String>,
    /// The id of a directory.
    #[param(pattern = "^[0-9]{0,18}$")]
    directory: Option<String>,
}

impl RunsQuery {
    fn directory(&self) -> Result<Option<i64>> {
        let Some(id) = self.directory.as_deref().filter(|id| !id.is_empty()) else { return Ok(None) };
        let is_number = id.len() <= 18 && id.bytes().all(|byte| byte.is_ascii_digit());
        let number = is_number.then(|| id.parse().ok()).flatten();
        number.map(Some).ok_or_else(|| Error::BadRequest("directory must be an id.".into()))
    }
}

async fn runs_page(ctx: &Ctx, runner: &Runner, directory: Option<i64>, query: &RunsQuery) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let list = ListQuery { limit: query.limit, cursor: query.cursor.clone() };
    let (limit, before) = (list.limit()?, list.position::<i64>()?.unwrap_or(i64::MAX));
    let state = match query.state.as_deref().filter(|state| !state.is_empty()) {
        None => None,
        Some(state) => Some(RunState::parse(state).ok_or_else(|| {
            let states = RunState::ALL.map(RunState::as_str).join(", ");
            Error::BadRequest(format!("state must be one of {states}."))
        })?),
    };
    let rows = ctx
        .kernel
        .db
        .read(move |c| {
            let rows = match state {
                None => queries::list_runs(c, account, directory, before, limit + 1)?,
                Some(state) => queries::list_runs_in_state(c, account, directory, state, before, limit + 1)?,
            };
            rows.into_iter().map(|run| Ok((review::find(c, run.id)?, run))).collect::<Result<Vec<_>>>()
        })
        .await?;
    let now = ctx.kernel.clock.now();
    let listing = Listing::cut(rows, limit, |(_, run)| run.id).map(|(review, run)| {
        let live = runner.board.find(run.id).map(|progress| progress.figures());
        RunJson::new(run, review, live, now)
    });
    Ok(listing.json("runs"))
}

/// The runs of one directory, newest first.
#[utoipa::path(get, path = "/api/directories/{id}/runs", tag = "runs", params(("id" = String, Path), RunsQuery),
    responses((status = 200, description = "`{\"runs\": […], \"next\"}`", body = [RunJson])))]
pub(super) async fn runs_of(
    ctx: Ctx,
    id: PathId<i64>,
    query: Query<RunsQuery>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    actions::get(&ctx.kernel, &ctx.principal, id.0).await?;
    if query.0.directory()?.is_some_and(|other| other != id.0) {
        return Err(Error::field("directory", "These are the runs of one directory, and this is another."));
    }
    runs_page(&ctx, &runner, Some(id.0), &query.0).await
}

/// All runs of the account, newest first.
#[utoipa::path(get, path = "/api/runs", tag = "runs", params(RunsQuery),
    responses((status = 200, description = "`{\"runs\": […], \"next\"}`", body = [RunJson])))]
pub(super) async fn list_runs(ctx: Ctx, query: Query<RunsQuery>, runner: Data<Runner>) -> Result<HttpResponse> {
    runs_page(&ctx, &runner, query.0.directory()?, &query.0).await
}

/// One run, with its progress while it goes on.
#[utoipa::path(get, path = "/api/runs/{id}", tag = "runs", params(("id" = String, Path)),
    responses((status = 200, body = RunJson)))]
pub(super) async fn get_run(ctx: Ctx, id: PathId<i64>, runner: Data<Runner>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let run = ctx.kernel.db.read(move |c| queries::find_run(c, account, id.0)).await?;
    let run = run.ok_or(Error::NotFound("This run"))?;
    Ok(HttpResponse::Ok().json(whole(&ctx, &runner, run).await?))
}

/// What the lines of a plan are narrowed to.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ChangesQuery {
    pub limit: Option<i64>,
    pub cursor: Option<String>,
    /// `added changed missing returned removed member-added member-removed`.
    #[param(pattern = "^(added|changed|missing|returned|removed|member-added|member-removed|)$")]
    pub kind: Option<String>,
    /// `identity` or `group`.
    #[param(pattern = "^(identity|group|)$")]
    pub subject_type: Option<String>,
    /// A part of the name or the user name of the subject or the member.
    #[param(max_length = 200)]
    pub q: Option<String>,
}

/// Characters of a search text; more finds nothing and costs time.
const Q_CHARS_MAX: usize = 200;

impl ChangesQuery {
    pub fn filter(&self) -> Result<LineFilter> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let kind = match given(&self.kind) {
            None => None,
            Some(kind) => Some(ChangeKind::parse(&kind).ok_or_else(|| {
                let kinds = ChangeKind::ALL.map(ChangeKind::as_str).join(", ");
                Error::BadRequest(format!("kind must be one of {kinds}."))
            })?),
        };
        let subject = match given(&self.subject_type).as_deref() {
            None => None,
            Some("identity") => Some(SubjectType::Identity),
            Some("group") => Some(SubjectType::Group),
            Some(_) => return Err(Error::BadRequest("subjectType must be identity or group.".into())),
        };
        let q = given(&self.q).unwrap_or_default();
        if q.chars().count() > Q_CHARS_MAX {
            return Err(Error::BadRequest(format!("q must not be longer than {Q_CHARS_MAX} characters.")));
        }
        Ok(LineFilter { kind, subject, q })
    }

    /// A page of lines, and the cursor of the next.
    pub async fn page(&self, ctx: &Ctx, run: i64, limit: usize) -> Result<Listing<ChangeRow>> {
        let (account, filter) = (ctx.principal.account()?, self.filter()?);
        let after = ListQuery { limit: None, cursor: self.cursor.clone() }.position::<i64>()?.unwrap_or(0);
        let (rows, next) = ctx
            .kernel
            .db
            .read(move |c| {
                queries::find_run(c, account, run)?.ok_or(Error::NotFound("This run"))?;
                plans::lines(c, run, &filter, after, limit)
            })
            .await?;
        Ok(Listing { rows, next: next.map(|next| Cursor::write(&next)) })
    }
}

/// The plan of a run, line by line; once applied, its history. A page may hold fewer lines than asked for, or none, and
/// still have a next one: a search looks at a part of a long plan at a time.
#[utoipa::path(get, path = "/api/runs/{id}/changes", tag = "runs", params(("id" = String, Path), ChangesQuery),
    responses((status = 200, description = "`{\"changes\": […], \"next\"}`", body = [ChangeJson])))]
pub(super) async fn run_changes(ctx: Ctx, id: PathId<i64>, query: Query<ChangesQuery>) -> Result<HttpResponse> {
    let limit = ListQuery { limit: query.0.limit, cursor: None }.limit()?;
    let (region, account) = (ctx.principal.region.clone(), ctx.principal.account()?);
    let listing = query.0.page(&ctx, id.0, limit).await?;
    Ok(listing.map(|row| ChangeJson::new(row, &region, account)).json("changes"))
}

/// The whole plan of a run as CSV, narrowed as the list is.
#[utoipa::path(get, path = "/api/runs/{id}/changes.csv", tag = "runs", params(("id" = String, Path), ChangesQuery),
    responses((status = 200, description = "One line per change, with a heading.", body = String, content_type = "text/csv")))]
pub(super) async fn export_changes_csv(ctx: Ctx, id: PathId<i64>, query: Query<ChangesQuery>) -> Result<HttpResponse> {
    plan_export::changes(&ctx, id.0, query.0.filter()?, plan_export::Format::Csv).await
}

/// The same as one JSON document, `{"changes": […]}`.
#[utoipa::path(get, path = "/api/runs/{id}/changes.json", tag = "runs", params(("id" = String, Path), ChangesQuery),
    responses((status = 200, description = "`{\"changes\": […]}`", body = [ChangeJson])))]
pub(super) async fn export_changes_json(ctx: Ctx, id: PathId<i64>, query: Query<ChangesQuery>) -> Result<HttpResponse> {
    plan_export::changes(&ctx, id.0, query.0.filter()?, plan_export::Format::Json).await
}

/// What a run could not take, and why; tried again by every run.
#[utoipa::path(get, path = "/api/runs/{id}/quarantine", tag = "runs", params(("id" = String, Path), ListQuery),
    responses((status = 200, description = "`{\"quarantine\": […], \"next\"}`", body = [QuarantineJson])))]
pub(super) async fn run_quarantine(ctx: Ctx, id: PathId<i64>, query: Query<ListQuery>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let (limit, after) = (query.0.limit()?, query.0.position::<i64>()?.unwrap_or(0));
    let rows = ctx
        .kernel
        .db
        .read(move |c| {
            queries::find_run(c, account, id.0)?.ok_or(Error::NotFound("This run"))?;
            queries::quarantine_of(c, id.0, after, limit + 1)
        })
        .await?;
    Ok(Listing::cut(rows, limit, |row| row.number).json("quarantine"))
}
