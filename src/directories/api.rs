//! `/api/directories` and `/api/runs`.

use actix_web::{HttpResponse, web::Data};
use serde::Deserialize;

use super::{
    actions::{self, CreateInput, RunInput, TrialInput, UpdateInput},
    model::{Directory, DirectoryJson, QuarantineJson, RunJson},
    queries,
    run::Runner,
};
use crate::{
    connectors::{ProbeReport, Sample},
    error::{Error, Result},
    identities::{self, ChangeJson, ChangeKind},
    web::{Ctx, Json, ListQuery, Listing, PathId, Query},
};

/// The account's directories, by name.
#[utoipa::path(get, path = "/api/directories", tag = "directories", params(ListQuery),
    responses((status = 200, description = "`{\"directories\": […], \"next\"}`", body = [DirectoryJson])))]
pub(super) async fn list(ctx: Ctx, query: Query<ListQuery>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let (limit, after) = (query.0.limit()?, query.0.position::<String>()?.unwrap_or_default());
    let rows = ctx.kernel.db.read(move |c| queries::list(c, account, &after, limit + 1)).await?;
    let listing = Listing::cut(rows, limit, |directory: &Directory| directory.name.clone());
    Ok(listing.map(DirectoryJson::from).json("directories"))
}

/// Connects a directory. Nothing is read yet: start a run, or wait for the schedule.
#[utoipa::path(post, path = "/api/directories", tag = "directories", request_body = CreateInput,
    responses((status = 201, body = DirectoryJson)))]
pub(super) async fn create(ctx: Ctx, input: Json<CreateInput>) -> Result<HttpResponse> {
    let directory = actions::create(&ctx.kernel, &ctx.principal, input.0).await?;
    let location = format!("/api/directories/{}", directory.id);
    Ok(HttpResponse::Created().insert_header(("location", location)).json(DirectoryJson::from(directory)))
}

/// One directory.
#[utoipa::path(get, path = "/api/directories/{id}", tag = "directories", params(("id" = String, Path)),
    responses((status = 200, body = DirectoryJson)))]
pub(super) async fn get(ctx: Ctx, id: PathId<i64>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(DirectoryJson::from(actions::get(&ctx.kernel, &ctx.principal, id.0).await?)))
}

/// Changes a directory: absent fields stay, `settings` and `credentials.read` are replaced as a whole. Other `servers`,
/// `startTls`, `caPem` or `acceptPlaintext` need `credentials.read` too (422): a stored password is only sent to the
/// servers, and in the way, it was given for.
#[utoipa::path(post, path = "/api/directories/{id}", tag = "directories", params(("id" = String, Path)),
    request_body = UpdateInput, responses((status = 200, body = DirectoryJson)))]
pub(super) async fn update(ctx: Ctx, id: PathId<i64>, input: Json<UpdateInput>) -> Result<HttpResponse> {
    let directory = actions::update(&ctx.kernel, &ctx.principal, id.0, input.0).await?;
    Ok(HttpResponse::Ok().json(DirectoryJson::from(directory)))
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
    let location = format!("/api/runs/{}", run.id);
    let body = RunJson::new(run, None, ctx.kernel.clock.now());
    Ok(HttpResponse::Accepted().insert_header(("location", location)).json(body))
}

async fn runs_page(ctx: &Ctx, runner: &Runner, directory: Option<i64>, query: &ListQuery) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let (limit, before) = (query.limit()?, query.position::<i64>()?.unwrap_or(i64::MAX));
    let rows = ctx.kernel.db.read(move |c| queries::list_runs(c, account, directory, before, limit + 1)).await?;
    let now = ctx.kernel.clock.now();
    let listing = Listing::cut(rows, limit, |run| run.id).map(|run| {
        let live = runner.board.find(run.id).map(|progress| progress.figures());
        RunJson::new(run, live, now)
    });
    Ok(listing.json("runs"))
}

/// The runs of one directory, newest first.
#[utoipa::path(get, path = "/api/directories/{id}/runs", tag = "runs", params(("id" = String, Path), ListQuery),
    responses((status = 200, description = "`{\"runs\": […], \"next\"}`", body = [RunJson])))]
pub(super) async fn runs_of(
    ctx: Ctx,
    id: PathId<i64>,
    query: Query<ListQuery>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    actions::get(&ctx.kernel, &ctx.principal, id.0).await?;
    runs_page(&ctx, &runner, Some(id.0), &query.0).await
}

/// All runs of the account, newest first.
#[utoipa::path(get, path = "/api/runs", tag = "runs", params(ListQuery),
    responses((status = 200, description = "`{\"runs\": […], \"next\"}`", body = [RunJson])))]
pub(super) async fn list_runs(ctx: Ctx, query: Query<ListQuery>, runner: Data<Runner>) -> Result<HttpResponse> {
    runs_page(&ctx, &runner, None, &query.0).await
}

/// One run, with its progress while it goes on.
#[utoipa::path(get, path = "/api/runs/{id}", tag = "runs", params(("id" = String, Path)),
    responses((status = 200, body = RunJson)))]
pub(super) async fn get_run(ctx: Ctx, id: PathId<i64>, runner: Data<Runner>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let run = ctx.kernel.db.read(move |c| queries::find_run(c, account, id.0)).await?;
    let run = run.ok_or(Error::NotFound("This run"))?;
    let live = runner.board.find(run.id).map(|progress| progress.figures());
    Ok(HttpResponse::Ok().json(RunJson::new(run, live, ctx.kernel.clock.now())))
}

/// `?kind=` of a plan.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesQuery {
    limit: Option<i64>,
    cursor: Option<String>,
    /// `added changed missing returned member-added member-removed`.
    kind: Option<String>,
}

/// The plan of a run, line by line; once applied, its history.
#[utoipa::path(get, path = "/api/runs/{id}/changes", tag = "runs", params(("id" = String, Path), ChangesQuery),
    responses((status = 200, description = "`{\"changes\": […], \"next\"}`", body = [ChangeJson])))]
pub(super) async fn run_changes(ctx: Ctx, id: PathId<i64>, query: Query<ChangesQuery>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let list = ListQuery { limit: query.0.limit, cursor: query.0.cursor.clone() };
    let (limit, after) = (list.limit()?, list.position::<i64>()?.unwrap_or(0));
    let kinds: Vec<&'static str> = match query.0.kind.as_deref().filter(|kind| !kind.is_empty()) {
        None => Vec::new(),
        Some(kind) => vec![
            ChangeKind::parse(kind)
                .ok_or_else(|| {
                    Error::BadRequest(
                        "kind must be added, changed, missing, returned, member-added or member-removed.".into(),
                    )
                })?
                .as_str(),
        ],
    };
    let rows = ctx
        .kernel
        .db
        .read(move |c| {
            queries::find_run(c, account, id.0)?.ok_or(Error::NotFound("This run"))?;
            identities::changes_of_run(c, id.0, &kinds, after, limit + 1)
        })
        .await?;
    let region = ctx.principal.region.clone();
    Ok(Listing::cut(rows, limit, |row| row.id).map(|row| ChangeJson::new(row, &region, account)).json("changes"))
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
