//! `/api/tasks`, `/api/task-requests`, `/api/protections` and `/api/two-person-rule`.

use actix_web::{HttpResponse, web::Data};
use serde::Deserialize;

use super::{
    actions::{self, ProtectionInput, ReasonInput},
    dispatcher::Dispatcher,
    model::{CreatedJson, Request, RequestJson, RequestState, Task, TaskInput, TaskJson, TaskState},
    never::{Protection, ProtectionJson},
    queries::TaskFilter,
    rule::{Rule, RuleInput},
    rules_queries, sight,
};
use crate::{
    error::{Error, Result},
    identities,
    web::{Ctx, Json, ListQuery, Listing, PathId, Query},
};

/// Filters of a list of tasks.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskQuery {
    limit: Option<i64>,
    cursor: Option<String>,
    /// A request's id.
    #[param(pattern = "^[0-9]{0,18}$")]
    request: Option<String>,
    /// An identity's id.
    #[param(pattern = "^[0-9]{0,18}$")]
    identity: Option<String>,
    /// A directory's id.
    #[param(pattern = "^[0-9]{0,18}$")]
    directory: Option<String>,
    /// `awaiting-approval queued sent accepted observed unsuccessful timed-out refused cancelled`.
    #[param(pattern = "^(awaiting-approval|queued|sent|accepted|observed|unsuccessful|timed-out|refused|cancelled|)$")]
    state: Option<String>,
}

fn number(name: &str, text: Option<&str>) -> Result<Option<i64>> {
    text.filter(|text| !text.is_empty())
        .map(|text| {
            let is_number = text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = is_number.then(|| text.parse().ok()).flatten();
            number.ok_or_else(|| Error::BadRequest(format!("{name} must be an id.")))
        })
        .transpose()
}

fn state<T>(text: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
    text.filter(|text| !text.is_empty())
        .map(|text| parse(text).ok_or_else(|| Error::BadRequest("This state is not known.".into())))
        .transpose()
}

fn created((request, tasks): (Request, Vec<Task>)) -> HttpResponse {
    HttpResponse::Created().json(CreatedJson {
        request_id: request.id.to_string(),
        request: request.into(),
        tasks: tasks.into_iter().map(TaskJson::from).collect(),
    })
}

/// Acts on identities: one request with a task for each. What must not be done is a task in state `refused`, with the
/// reason; the others go on.
#[utoipa::path(post, path = "/api/tasks", tag = "tasks", request_body = TaskInput,
    responses((status = 201, description = "The request with its tasks.", body = CreatedJson)))]
pub(super) async fn create(ctx: Ctx, body: Json<TaskInput>, dispatcher: Data<Dispatcher>) -> Result<HttpResponse> {
    Ok(created(actions::create(&ctx.kernel, &ctx.principal, &dispatcher, body.0).await?))
}

/// Tasks, newest first.
#[utoipa::path(get, path = "/api/tasks", tag = "tasks", params(TaskQuery),
    responses((status = 200, description = "`{\"tasks\": […], \"next\"}`", body = [TaskJson])))]
pub(super) async fn list(ctx: Ctx, query: Query<TaskQuery>) -> Result<HttpResponse> {
    let sight = identities::sight(&ctx.kernel, &ctx.principal).await?;
    let query = query.0;
    let list = ListQuery { limit: query.limit, cursor: query.cursor };
    let (limit, before) = (list.limit()?, list.position::<i64>()?.unwrap_or(i64::MAX));
    let filter = TaskFilter {
        request: number("request", query.request.as_deref())?,
        identity: number("identity", query.identity.as_deref())?,
        directory: number("directory", query.directory.as_deref())?,
        state: state(query.state.as_deref(), TaskState::parse)?,
    };
    let rows = ctx.kernel.db.read(move |c| sight::list_tasks(c, &sight, filter, before, limit + 1)).await?;
    Ok(Listing::cut(rows, limit, |task| task.id).map(TaskJson::from).json("tasks"))
}

async fn find_task(ctx: &Ctx, id: i64) -> Result<Task> {
    let sight = identities::sight(&ctx.kernel, &ctx.principal).await?;
    ctx.kernel.db.read(move |c| sight::find_task(c, &sight, id)).await?.ok_or(Error::NotFound("This task"))
}

/// One task.
#[utoipa::path(get, path = "/api/tasks/{id}", tag = "tasks", params(("id" = String, Path)),
    responses((status = 200, body = TaskJson)))]
pub(super) async fn get(ctx: Ctx, id: PathId<i64>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(TaskJson::from(find_task(&ctx, id.0).await?)))
}

/// Takes one task back: a new request with the inverse action.
#[utoipa::path(post, path = "/api/tasks/{id}/undo", tag = "tasks", params(("id" = String, Path)), request_body = ReasonInput,
    responses((status = 201, body = CreatedJson)))]
pub(super) async fn undo_task(
    ctx: Ctx,
    id: PathId<i64>,
    body: Json<ReasonInput>,
    dispatcher: Data<Dispatcher>,
) -> Result<HttpResponse> {
    let task = find_task(&ctx, id.0).await?;
    let made = actions::undo(&ctx.kernel, &ctx.principal, &dispatcher, task.request_id, Some(task.id), body.0).await?;
    Ok(created(made))
}

/// Filters of a list of requests.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RequestQuery {
    limit: Option<i64>,
    cursor: Option<String>,
    /// `awaiting-approval running successful partially-successful unsuccessful cancelled`.
    #[param(pattern = "^(awaiting-approval|running|successful|partially-successful|unsuccessful|cancelled|)$")]
    state: Option<String>,
}

/// Requests, newest first.
#[utoipa::path(get, path = "/api/task-requests", tag = "tasks", params(RequestQuery),
    responses((status = 200, description = "`{\"taskRequests\": […], \"next\"}`", body = [RequestJson])))]
pub(super) async fn list_requests(ctx: Ctx, query: Query<RequestQuery>) -> Result<HttpResponse> {
    let sight = identities::sight(&ctx.kernel, &ctx.principal).await?;
    let query = query.0;
    let list = ListQuery { limit: query.limit, cursor: query.cursor };
    let (limit, before) = (list.limit()?, list.position::<i64>()?.unwrap_or(i64::MAX));
    let state = state(query.state.as_deref(), RequestState::parse)?;
    let rows = ctx.kernel.db.read(move |c| sight::list_requests(c, &sight, state, before, limit + 1)).await?;
    Ok(Listing::cut(rows, limit, |request| request.id).map(RequestJson::from).json("taskRequests"))
}

/// One request; its tasks are `GET /api/tasks?request=`.
#[utoipa::path(get, path = "/api/task-requests/{id}", tag = "tasks", params(("id" = String, Path)),
    responses((status = 200, body = RequestJson)))]
pub(super) async fn get_request(ctx: Ctx, id: PathId<i64>) -> Result<HttpResponse> {
    let sight = identities::sight(&ctx.kernel, &ctx.principal).await?;
    let found = ctx.kernel.db.read(move |c| sight::find_request(c, &sight, id.0)).await?;
    Ok(HttpResponse::Ok().json(RequestJson::from(found.ok_or(Error::NotFound("This request"))?)))
}

/// Approves a request of somebody else.
#[utoipa::path(post, path = "/api/task-requests/{id}/approve", tag = "tasks", params(("id" = String, Path)),
    request_body = ReasonInput, responses((status = 200, body = RequestJson)))]
pub(super) async fn approve(
    ctx: Ctx,
    id: PathId<i64>,
    body: Json<ReasonInput>,
    dispatcher: Data<Dispatcher>,
) -> Result<HttpResponse> {
    let request = actions::decide(&ctx.kernel, &ctx.principal, &dispatcher, id.0, true, body.0).await?;
    Ok(HttpResponse::Ok().json(RequestJson::from(request)))
}

/// Declines a request of somebody else: nothing is sent.
#[utoipa::path(post, path = "/api/task-requests/{id}/decline", tag = "tasks", params(("id" = String, Path)),
    request_body = ReasonInput, responses((status = 200, body = RequestJson)))]
pub(super) async fn decline(
    ctx: Ctx,
    id: PathId<i64>,
    body: Json<ReasonInput>,
    dispatcher: Data<Dispatcher>,
) -> Result<HttpResponse> {
    let request = actions::decide(&ctx.kernel, &ctx.principal, &dispatcher, id.0, false, body.0).await?;
    Ok(HttpResponse::Ok().json(RequestJson::from(request)))
}

/// Calls off what of a request has not been sent.
#[utoipa::path(post, path = "/api/task-requests/{id}/cancel", tag = "tasks", params(("id" = String, Path)),
    responses((status = 200, body = RequestJson)))]
pub(super) async fn cancel(ctx: Ctx, id: PathId<i64>) -> Result<HttpResponse> {
    let request = actions::cancel(&ctx.kernel, &ctx.principal, id.0).await?;
    Ok(HttpResponse::Ok().json(RequestJson::from(request)))
}

/// Takes back what a request did and nobody has changed since: a new request with the inverse action.
#[utoipa::path(post, path = "/api/task-requests/{id}/undo", tag = "tasks", params(("id" = String, Path)),
    request_body = ReasonInput, responses((status = 201, body = CreatedJson)))]
pub(super) async fn undo(
    ctx: Ctx,
    id: PathId<i64>,
    body: Json<ReasonInput>,
    dispatcher: Data<Dispatcher>,
) -> Result<HttpResponse> {
    Ok(created(actions::undo(&ctx.kernel, &ctx.principal, &dispatcher, id.0, None, body.0).await?))
}

/// The protected list: whom nobody acts on, in the order in which it was written.
#[utoipa::path(get, path = "/api/protections", tag = "tasks", params(ListQuery),
    responses((status = 200, description = "`{\"protections\": […]}`", body = [ProtectionJson])))]
pub(super) async fn list_protections(ctx: Ctx, query: Query<ListQuery>) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    let (limit, after) = (query.0.limit()?, query.0.position::<i64>()?.unwrap_or(0));
    let rows = ctx.kernel.db.read(move |c| rules_queries::protections(c, account)).await?;
    // The list is short enough to be read whole: it is, whenever anybody is acted on.
    let rows = rows.into_iter().filter(|row| row.id > after).take(limit + 1).collect();
    Ok(Listing::cut(rows, limit, |row: &Protection| row.id).map(ProtectionJson::from).json("protections"))
}

/// Puts an identity, the members of a group, or everybody below a DN on the protected list.
#[utoipa::path(post, path = "/api/protections", tag = "tasks", request_body = ProtectionInput,
    responses((status = 201, body = ProtectionJson)))]
pub(super) async fn protect(ctx: Ctx, body: Json<ProtectionInput>) -> Result<HttpResponse> {
    let added = actions::protect(&ctx.kernel, &ctx.principal, body.0).await?;
    Ok(HttpResponse::Created().json(ProtectionJson::from(added)))
}

/// Takes a line off the protected list.
#[utoipa::path(delete, path = "/api/protections/{id}", tag = "tasks", params(("id" = String, Path)),
    responses((status = 204)))]
pub(super) async fn unprotect(ctx: Ctx, id: PathId<i64>) -> Result<HttpResponse> {
    actions::unprotect(&ctx.kernel, &ctx.principal, id.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// When a second person is needed.
#[utoipa::path(get, path = "/api/two-person-rule", tag = "tasks", responses((status = 200, body = Rule)))]
pub(super) async fn get_rule(ctx: Ctx) -> Result<HttpResponse> {
    let account = ctx.principal.account()?;
    Ok(HttpResponse::Ok().json(ctx.kernel.db.read(move |c| rules_queries::rule(c, account)).await?))
}

/// Sets when a second person is needed.
#[utoipa::path(post, path = "/api/two-person-rule", tag = "tasks", request_body = RuleInput,
    responses((status = 200, body = Rule)))]
pub(super) async fn set_rule(ctx: Ctx, body: Json<RuleInput>) -> Result<HttpResponse> {
    Ok(HttpResponse::Ok().json(actions::set_rule(&ctx.kernel, &ctx.principal, body.0).await?))
}
