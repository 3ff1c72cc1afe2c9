//! Requests and tasks for people: the list, one request, asking for an action, and who is protected.
//!
//! Owns what is shown before somebody confirms: whom it is about, what it does, what it leaves, and who would be refused.
//! Whether anything may be done is decided in `actions` and `never`, the same for the API.

use std::collections::BTreeSet;

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use askama::Template;
use serde::Deserialize;

use super::{
    actions::{self, ReasonInput},
    dispatcher::Dispatcher,
    model::{Asked, IDENTITIES_MAX, Request, RequestState, Task, TaskInput, TaskState},
    queries::{self, TaskFilter},
    rule, sight,
};
use crate::{
    connectors::{
        self,
        act::{Action, Coverage},
    },
    directories::{self, Directory, words},
    error::{Error, FieldError, Result},
    identities::{self, IdentityRow},
    principal::{Level, Permission, Service},
    web::{
        Ctx, Form, ListQuery, Listing, PAGE_SIZE, Page, PathId, Query, grouped, href, html, html_status, redirect,
        redirect_with,
    },
};

/// A request as a row of the list.
struct Row {
    request: Request,
    /// One identity's name, and how many there are besides.
    about: String,
    by: String,
    summary: String,
}

pub(super) fn by(ctx: &Ctx, urn: &str) -> String {
    if urn == ctx.principal.urn() { "you".into() } else { words::who(urn).to_owned() }
}

/// How far a request is, in a few words.
fn summary(request: &Request) -> String {
    let counts = &request.counts;
    let parts = [
        (counts.observed, "observed"),
        (counts.in_progress, "in progress"),
        (counts.queued, "queued"),
        (counts.awaiting_approval, "waiting"),
        (counts.unsuccessful, "unsuccessful"),
        (counts.refused, "refused"),
        (counts.cancelled, "cancelled"),
    ];
    let said: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{} {word}", grouped(count)))
        .collect();
    said.join(", ")
}

#[derive(Template)]
#[template(path = "enforcement/list.html", blocks = ["results"])]
struct ListPage {
    page: Page,
    rows: Vec<Row>,
    states: [RequestState; 6],
    chosen_state: String,
    here: String,
    first_href: String,
    next_href: String,
    /// Something is going on, so the list is asked for again.
    is_live: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ListPageQuery {
    cursor: Option<String>,
    state: Option<String>,
}

/// `GET /tasks`.
pub(super) async fn list(ctx: Ctx, query: Query<ListPageQuery>) -> Result<HttpResponse> {
    let sight = identities::sight(&ctx.kernel, &ctx.principal).await?;
    let chosen_state = query.0.state.unwrap_or_default();
    let state = match chosen_state.as_str() {
        "" => None,
        state => Some(RequestState::parse(state).ok_or(Error::NotFound("This state of a request"))?),
    };
    let list = ListQuery { limit: None, cursor: query.0.cursor.clone() };
    let before = list.position::<i64>()?.unwrap_or(i64::MAX);
    let found = ctx
        .kernel
        .db
        .read(move |c| {
            let requests = sight::list_requests(c, &sight, state, before, PAGE_SIZE + 1)?;
            let mut rows = Vec::with_capacity(requests.len());
            for request in requests {
                let filter = TaskFilter { request: Some(request.id), ..TaskFilter::default() };
                let last = queries::list_tasks(c, sight.account(), filter, i64::MAX, 1)?.into_iter().next();
                rows.push((request, last));
            }
            Ok(rows)
        })
        .await?;
    let tasks = Page::new(&ctx, "Tasks", "tasks");
    let listing = Listing::cut(found, PAGE_SIZE, |(request, _)| request.id).map(|(request, one)| {
        let name = one.map(|task| task.name).unwrap_or_default();
        let about = match request.counts.total() {
            1 => name,
            count => tasks.t2("{} and {} more", name, grouped(count - 1)),
        };
        Row { about, by: by(&ctx, &request.requested_by), summary: summary(&request), request }
    });
    let link = |cursor: &str| href("/tasks", &[("state", &chosen_state), ("cursor", cursor)]);
    let page = ListPage {
        page: tasks,
        is_live: listing.rows.iter().any(|row| row.request.finished_at.is_none()),
        rows: listing.rows,
        states: RequestState::ALL,
        here: link(query.0.cursor.as_deref().unwrap_or_default()),
        first_href: if query.0.cursor.is_some() { link("") } else { String::new() },
        next_href: listing.next.map(|cursor| link(&cursor)).unwrap_or_default(),
        chosen_state,
    };
    if ctx.is_fragment { html(&page.as_results()) } else { html(&page) }
}

/// A task as a row of its request.
pub(super) struct TaskRow {
    pub task: Task,
    pub directory: String,
}

#[derive(Template)]
#[template(path = "enforcement/request.html", blocks = ["live"])]
struct RequestPage {
    page: Page,
    request: Request,
    rows: Vec<TaskRow>,
    summary: String,
    by: String,
    decided_by: String,
    /// What the action does, by kind of directory among the tasks.
    coverage: Vec<(&'static str, Coverage)>,
    can_cancel: bool,
    can_undo: bool,
    /// Something of it stands, or may come to stand.
    is_left: bool,
    /// May decide over it, being somebody else.
    can_decide: bool,
    states: [TaskState; 9],
    chosen_state: String,
    here: String,
    first_href: String,
    next_href: String,
    problem: String,
    reason: String,
    reason_error: String,
}

impl RequestPage {
    fn heading(&self) -> String {
        let about = match (self.rows.first(), self.request.counts.total()) {
            (Some(one), 1) => one.task.name.clone(),
            (_, count) => self.page.n(count, "{} identity", "{} identities"),
        };
        self.page.t1(self.request.action.heading(), about)
    }

    fn total(&self) -> i64 {
        self.request.counts.total()
    }

    fn is_open(&self) -> bool {
        self.request.finished_at.is_none()
    }

    fn inverse(&self) -> &'static str {
        self.request.action.inverse().map_or("", Action::title)
    }
}

/// What came of a form of this page that was refused.
#[derive(Debug, Default)]
struct Typed {
    problem: String,
    reason: String,
    reason_error: String,
}

/// Which of a request's tasks are shown.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RequestQuery {
    cursor: Option<String>,
    state: Option<String>,
}

/// What an action does in each kind of directory that offers it.
fn coverage(directories: &[Directory], action: Action) -> Vec<(&'static str, Coverage)> {
    let mut found: Vec<(&'static str, Coverage)> = Vec::new();
    for directory in directories {
        if let Ok(words) = connectors::offer(directory.kind, &directory.settings, action) {
            let line = (directory.kind.title(), words);
            if !found.contains(&line) {
                found.push(line);
            }
        }
    }
    found.sort_by_key(|(kind, _)| *kind);
    found
}

async fn show(ctx: &Ctx, id: i64, query: &RequestQuery, typed: Typed) -> Result<RequestPage> {
    let account = ctx.principal.account()?;
    let sight = identities::sight(&ctx.kernel, &ctx.principal).await?;
    let state = match query.state.as_deref().unwrap_or_default() {
        "" => None,
        state => Some(TaskState::parse(state).ok_or(Error::NotFound("This state of a task"))?),
    };
    let list = ListQuery { limit: None, cursor: query.cursor.clone() };
    let after = list.position::<i64>()?.unwrap_or(0);
    let (request, tasks, names, all, openness) = ctx
        .kernel
        .db
        .read(move |c| {
            let request = sight::find_request(c, &sight, id)?.ok_or(Error::NotFound("This request"))?;
            let tasks = queries::tasks_page(c, id, state, after, PAGE_SIZE + 1)?;
            let tasks = tasks.into_iter().map(|task| sight::seen(&sight, task)).collect();
            let mut all = Vec::new();
            for directory in queries::directories_of(c, id)? {
                all.extend(directories::find(c, account, directory)?);
            }
            let openness = queries::openness(c, &request)?;
            Ok((request, tasks, directories::names(c, account)?, all, openness))
        })
        .await?;
    let tasks = Listing::cut(tasks, PAGE_SIZE, |task| task.id);
    let link =
        |cursor: &str| href(&back(id), &[("state", query.state.as_deref().unwrap_or_default()), ("cursor", cursor)]);
    let coverage = coverage(&all, request.action);
    let may = |permission| ctx.principal.allows(permission);
    let may_act = may(Permission::InPart(Service::Enforcement, Level::Operate));
    let is_awaiting = request.state == RequestState::AwaitingApproval;
    let can_decide = is_awaiting
        && may(Permission::Needs(Service::Approvals, Level::Operate))
        && rule::is_other(&ctx.principal, &request);
    let mut page = RequestPage {
        page: Page::new(ctx, "", "tasks"),
        summary: summary(&request),
        by: by(ctx, &request.requested_by),
        decided_by: request.decision.as_ref().map(|decision| by(ctx, &decision.by)).unwrap_or_default(),
        coverage,
        can_cancel: may_act && openness.has_unsent,
        can_undo: may_act && openness.has_undoable && !openness.is_undo_awaited && request.finished_at.is_some(),
        is_left: openness.has_undoable || request.finished_at.is_none(),
        can_decide,
        states: TaskState::ALL,
        chosen_state: query.state.clone().unwrap_or_default(),
        here: link(query.cursor.as_deref().unwrap_or_default()),
        first_href: if query.cursor.is_some() { link("") } else { String::new() },
        next_href: tasks.next.map(|cursor| link(&cursor)).unwrap_or_default(),
        rows: tasks
            .rows
            .into_iter()
            .map(|task| TaskRow { directory: names.get(&task.directory_id).cloned().unwrap_or_default(), task })
            .collect(),
        request,
        problem: typed.problem,
        reason: typed.reason,
        reason_error: typed.reason_error,
    };
    page.page.title = page.heading();
    page.page = page.page.named();
    Ok(page)
}

/// `GET /tasks/requests/{id}`.
pub(super) async fn request(ctx: Ctx, id: PathId<i64>, query: Query<RequestQuery>) -> Result<HttpResponse> {
    let page = show(&ctx, id.0, &query.0, Typed::default()).await?;
    if ctx.is_fragment { html(&page.as_live()) } else { html(&page) }
}

/// The one field of the buttons of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ReasonForm {
    reason: String,
}

/// A form that was refused comes back with the whole page.
async fn refused(ctx: &Ctx, id: i64, form: ReasonForm, error: Error) -> Result<HttpResponse> {
    let (status, typed) = match error {
        Error::Invalid(errors) => {
            let message = errors.into_iter().next().map(|error| error.message).unwrap_or_default();
            let typed = Typed { reason: form.reason, reason_error: message, ..Typed::default() };
            (StatusCode::UNPROCESSABLE_ENTITY, typed)
        }
        Error::Conflict(message) => {
            (StatusCode::CONFLICT, Typed { problem: message, reason: form.reason, ..Typed::default() })
        }
        other => return Err(other),
    };
    html_status(status, &show(ctx, id, &RequestQuery::default(), typed).await?)
}

fn back(id: i64) -> String {
    format!("/tasks/requests/{id}")
}

/// `POST /tasks/requests/{id}/approve`.
pub(super) async fn approve(
    ctx: Ctx,
    id: PathId<i64>,
    form: Form<ReasonForm>,
    dispatcher: Data<Dispatcher>,
) -> Result<HttpResponse> {
    decide(ctx, id.0, form.0, dispatcher, true).await
}

/// `POST /tasks/requests/{id}/decline`.
pub(super) async fn decline(
    ctx: Ctx,
    id: PathId<i64>,
    form: Form<ReasonForm>,
    dispatcher: Data<Dispatcher>,
) -> Result<HttpResponse> {
    decide(ctx, id.0, form.0, dispatcher, false).await
}

async fn decide(
    ctx: Ctx,
    id: i64,
    form: ReasonForm,
    dispatcher: Data<Dispatcher>,
    is_approved: bool,
) -> Result<HttpResponse> {
    let input = ReasonInput { reason: form.reason.clone() };
    match actions::decide(&ctx.kernel, &ctx.principal, &dispatcher, id, is_approved, input).await {
        Ok(_) if is_approved => Ok(redirect_with(&back(id), "success", "The request is approved and on its way.")),
        Ok(_) => Ok(redirect_with(&back(id), "success", "The request is declined. Nothing was sent.")),
        Err(error) => refused(&ctx, id, form, error).await,
    }
}

/// `POST /tasks/requests/{id}/cancel`.
pub(super) async fn cancel(ctx: Ctx, id: PathId<i64>, form: Form<ReasonForm>) -> Result<HttpResponse> {
    match actions::cancel(&ctx.kernel, &ctx.principal, id.0).await {
        Ok(_) => Ok(redirect_with(&back(id.0), "success", "What had not been sent is called off.")),
        Err(error) => refused(&ctx, id.0, form.0, error).await,
    }
}

/// `POST /tasks/requests/{id}/undo`.
pub(super) async fn undo(
    ctx: Ctx,
    id: PathId<i64>,
    form: Form<ReasonForm>,
    dispatcher: Data<Dispatcher>,
) -> Result<HttpResponse> {
    let input = ReasonInput { reason: form.0.reason.clone() };
    match actions::undo(&ctx.kernel, &ctx.principal, &dispatcher, id.0, None, input).await {
        Ok((request, _)) => Ok(redirect(&back(request.id))),
        Err(error) => refused(&ctx, id.0, form.0, error).await,
    }
}

// --- asking ---

/// An identity that is about to be acted on.
struct Target {
    identity: IdentityRow,
    /// Its state as a word.
    state: String,
    /// Why it would be refused; empty when it would not.
    refused: String,
}

/// An action that can be chosen.
struct Choice {
    action: Action,
    href: String,
    /// Why nobody chosen can have it; empty when somebody can.
    refused: String,
    does: &'static str,
}

#[derive(Template)]
#[template(path = "enforcement/new.html")]
struct NewPage {
    page: Page,
    /// `None`: an action has to be chosen first.
    action: Option<Action>,
    choices: Vec<Choice>,
    targets: Vec<Target>,
    coverage: Vec<(&'static str, Coverage)>,
    /// The ids, for the form.
    identities: String,
    /// Why another person has to approve it; empty when nobody has to.
    waits_for: String,
    may_break_glass: bool,
    fields: NewForm,
    faults: Vec<FieldError>,
    problem: String,
    back: String,
}

impl NewPage {
    fn error(&self, field: &str) -> String {
        let found = self.faults.iter().find(|fault| fault.field == field);
        found.map(|fault| fault.message.clone()).unwrap_or_default()
    }

    fn allowed(&self) -> usize {
        self.targets.iter().filter(|target| target.refused.is_empty()).count()
    }

    fn about(&self) -> String {
        match self.targets.as_slice() {
            [one] => one.identity.name().to_owned(),
            many => self.page.n(many.len(), "{} identity", "{} identities"),
        }
    }

    fn heading(&self) -> String {
        match self.action {
            Some(action) => self.page.t1(action.heading(), self.about()),
            None => self.page.t1("Act on {}", self.about()),
        }
    }
}

/// What the form sends.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NewForm {
    action: String,
    /// Ids, with commas between them.
    identities: String,
    reason: String,
    /// Empty: for good.
    #[serde(rename = "for")]
    lasts: String,
    #[serde(rename = "breakGlass")]
    break_glass: String,
}

/// Whom a link to the form names: `identity` any number of times, or a `group`, whose effective members it is about.
#[derive(Debug, Default)]
struct Chosen {
    action: Option<Action>,
    ids: Vec<i64>,
    /// The same as it stood in the address, without the action.
    source: Vec<(String, String)>,
}

async fn chosen(ctx: &Ctx, pairs: Vec<(String, String)>) -> Result<Chosen> {
    let sight = identities::sight(&ctx.kernel, &ctx.principal).await?;
    let mut chosen = Chosen::default();
    for (name, value) in pairs {
        if name != "action" {
            chosen.source.push((name.clone(), value.clone()));
        }
        match name.as_str() {
            "action" if value.is_empty() => {}
            "action" => {
                chosen.action = Some(Action::parse(&value).ok_or(Error::NotFound("This action"))?);
            }
            "identity" => {
                let id = value.parse().map_err(|_| Error::NotFound("This identity"))?;
                if !chosen.ids.contains(&id) {
                    chosen.ids.push(id);
                }
            }
            "group" => {
                let id = value.parse().map_err(|_| Error::NotFound("This group"))?;
                let sight = sight.clone();
                let members = ctx
                    .kernel
                    .db
                    .read(move |c| {
                        identities::queries::find_group(c, &sight, id)?.ok_or(Error::NotFound("This group"))?;
                        identities::past::members(c, &sight, id, true, None, 0, IDENTITIES_MAX + 1)
                    })
                    .await?;
                chosen
                    .ids
                    .extend(members.iter().filter(|member| member.kind == "identity").map(|member| member.number));
            }
            _ => return Err(Error::BadRequest(format!("{name} is not known here."))),
        }
    }
    Ok(chosen)
}

async fn new_page(ctx: &Ctx, chosen: Chosen, fields: NewForm) -> Result<NewPage> {
    let account = ctx.principal.account()?;
    let sight = identities::sight(&ctx.kernel, &ctx.principal).await?;
    let Chosen { action, ids, source } = chosen;
    let problem = if ids.is_empty() {
        "Choose at least one identity.".to_owned()
    } else if ids.len() > IDENTITIES_MAX {
        format!("At most {IDENTITIES_MAX} identities go into one request. Choose fewer.")
    } else {
        String::new()
    };
    let ids = if problem.is_empty() { ids } else { Vec::new() };
    let asked = Asked {
        action: action.unwrap_or(Action::Disable),
        identities: ids.clone(),
        reason: String::new(),
        lasts_us: None,
        break_glass: false,
    };
    let (who, now) = (ctx.principal.clone(), ctx.kernel.clock.now());
    let (draft, directories, is_part) = ctx
        .kernel
        .db
        .read(move |c| {
            let is_part = sight.is_part();
            let draft = actions::weigh(c, &who, &sight, asked, now).map_err(|error| match error {
                Error::Invalid(_) => Error::NotFound("One of these identities"),
                other => other,
            })?;
            let ids: BTreeSet<i64> = draft.targets.iter().map(|target| target.row.directory_id).collect();
            let mut directories = Vec::new();
            for id in ids {
                directories.extend(directories::find(c, account, id)?);
            }
            Ok((draft, directories, is_part))
        })
        .await?;
    let joined = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let link = |action: Action| {
        let mut fields = vec![("action", action.as_str())];
        fields.extend(source.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        format!("/tasks/new?{}", serde_urlencoded::to_string(fields).unwrap_or_default())
    };
    let choices = Action::ALL
        .into_iter()
        .map(|action| {
            let mut offers =
                directories.iter().map(|one| connectors::offer(one.kind, &one.settings, action)).peekable();
            let first_refused = offers.peek().and_then(|offer| offer.as_ref().err().cloned());
            let offered = offers.find_map(|offer| offer.ok());
            Choice {
                action,
                href: link(action),
                does: offered.map_or("", |coverage| coverage.does),
                refused: first_refused.filter(|_| offered.is_none()).unwrap_or_default(),
            }
        })
        .collect();
    let targets: Vec<Target> = draft
        .targets
        .into_iter()
        .map(|target| Target {
            state: identities::state_title(target.row.state()),
            refused: target.refused.map(|refusal| refusal.words_for(is_part)).unwrap_or_default(),
            identity: target.row,
        })
        .collect();
    let back = match ids.as_slice() {
        [one] => format!("/identities/{one}"),
        _ => "/identities".to_owned(),
    };
    let mut page = NewPage {
        page: Page::new(ctx, "", "tasks"),
        action,
        choices,
        targets,
        coverage: action.map(|action| coverage(&directories, action)).unwrap_or_default(),
        identities: joined,
        waits_for: draft.waits_for.unwrap_or_default(),
        may_break_glass: ctx.principal.allows(Permission::Needs(Service::Enforcement, Level::Full)),
        fields,
        faults: Vec::new(),
        problem,
        back,
    };
    page.page.title = page.heading();
    page.page = page.page.named();
    Ok(page)
}

/// `GET /tasks/new`: choose what to do, then confirm it.
pub(super) async fn new(ctx: Ctx, query: Query<Vec<(String, String)>>) -> Result<HttpResponse> {
    let chosen = chosen(&ctx, query.0).await?;
    html(&new_page(&ctx, chosen, NewForm::default()).await?)
}

/// `POST /tasks/new`.
pub(super) async fn create(ctx: Ctx, form: Form<NewForm>, dispatcher: Data<Dispatcher>) -> Result<HttpResponse> {
    let form = form.0;
    let action = Action::parse(&form.action).ok_or(Error::NotFound("This action"))?;
    let input = TaskInput {
        action,
        identities: form.identities.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect(),
        reason: form.reason.clone(),
        lasts: Some(form.lasts.clone()).filter(|lasts| !lasts.trim().is_empty()),
        break_glass: !form.break_glass.is_empty(),
    };
    let ids: Vec<i64> = input.identities.iter().filter_map(|id| id.parse().ok()).collect();
    match actions::create(&ctx.kernel, &ctx.principal, &dispatcher, input).await {
        Ok((request, _)) => Ok(redirect(&back(request.id))),
        Err(Error::Invalid(faults)) => {
            let page = new_page(&ctx, Chosen { action: Some(action), ids, source: Vec::new() }, form).await?;
            html_status(StatusCode::UNPROCESSABLE_ENTITY, &NewPage { faults, ..page })
        }
        Err(other) => Err(other),
    }
}

// --- beside an identity ---

#[derive(Template)]
#[template(path = "enforcement/of_identity.html")]
struct OfIdentity {
    page: Page,
    rows: Vec<Task>,
    has_more: bool,
}

/// Tasks shown beside an identity.
const BESIDE: usize = 5;

/// `GET /identities/{id}/tasks`: the newest tasks of an identity, for its page.
pub(super) async fn of_identity(ctx: Ctx, id: PathId<i64>) -> Result<HttpResponse> {
    let sight = identities::sight(&ctx.kernel, &ctx.principal).await?;
    let rows = ctx
        .kernel
        .db
        .read(move |c| {
            identities::queries::find_identity(c, &sight, id.0)?.ok_or(Error::NotFound("This identity"))?;
            let filter = TaskFilter { identity: Some(id.0), ..TaskFilter::default() };
            sight::list_tasks(c, &sight, filter, i64::MAX, BESIDE + 1)
        })
        .await?;
    let listing = Listing::cut(rows, BESIDE, |task| task.id);
    html(&OfIdentity { page: Page::new(&ctx, "Tasks", "tasks"), has_more: listing.next.is_some(), rows: listing.rows })
}
