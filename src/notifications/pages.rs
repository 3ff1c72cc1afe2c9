//! The settings of mail: the console's address, the server, the test that tells each step, the queue.

use actix_web::{HttpResponse, http::StatusCode};
use askama::Template;
use serde::Deserialize;

use super::{
    actions,
    model::{Counts, Server, ServerInput, Waiting},
    queries, words,
};
use crate::{
    connectors::{ProbeStep, StepState},
    error::{Error, FieldError, Result},
    web::{Ctx, Form, Page, PathId, StepView, grouped, html_status, redirect_with},
};

const PATH: &str = "/settings/mail";
/// Rows of each list; of more, the number is said.
const ROWS_MAX: usize = 50;

/// What a test found.
struct Probe {
    steps: Vec<StepView>,
    is_ok: bool,
}

impl Probe {
    fn new(steps: &[ProbeStep]) -> Self {
        let view = |step: &ProbeStep| {
            let code = match step.state {
                StepState::Ok => "ok",
                StepState::Warning => "warning",
                StepState::Failed => "failed",
                StepState::Skipped => "skipped",
            };
            StepView::new(code, words::title(&step.step), step.target.as_deref(), &step.message, step.fix.as_deref())
        };
        Self {
            steps: steps.iter().map(view).collect(),
            is_ok: !steps.iter().any(|step| step.state == StepState::Failed),
        }
    }
}

/// A mail of the queue as the page shows it.
struct Row {
    mail: Waiting,
    kind: String,
}

#[derive(Template)]
#[template(path = "notifications/mail.html")]
struct MailPage {
    page: Page,
    /// As stored; `None` where no mail is set up.
    server: Option<Server>,
    form: ServerInput,
    /// A password is stored.
    has_password: bool,
    base_url: String,
    /// It stands in the configuration: shown, not changed.
    is_base_url_fixed: bool,
    test_to: String,
    probe: Option<Probe>,
    counts: Counts,
    queued: Vec<Row>,
    failed: Vec<Row>,
    errors: Vec<FieldError>,
}

impl MailPage {
    fn error(&self, field: &str) -> &str {
        self.errors.iter().find(|error| error.field == field).map_or("", |error| error.message.as_str())
    }

    fn number(&self, count: &i64) -> String {
        grouped(*count)
    }
}

/// What of the page differs from what is stored.
#[derive(Default)]
struct Entered {
    form: Option<ServerInput>,
    base_url: Option<String>,
    test_to: Option<String>,
    probe: Option<Probe>,
    error: Option<Error>,
}

async fn render(ctx: &Ctx, entered: Entered) -> Result<HttpResponse> {
    let errors = match entered.error {
        None => Vec::new(),
        Some(Error::Invalid(fields)) => fields,
        Some(other) => return Err(other),
    };
    let (config, key) = (ctx.kernel.config.clone(), ctx.kernel.key.clone());
    let (server, base_url, counts, queued, failed) = ctx
        .kernel
        .db
        .read(move |c| {
            Ok((
                queries::find_server(c)?,
                super::base_url(c, &config)?,
                queries::counts(c)?,
                queries::list_queued(c, &key, ROWS_MAX)?,
                queries::list_failed(c, &key, ROWS_MAX)?,
            ))
        })
        .await?;
    let rows = |mails: Vec<Waiting>| {
        mails.into_iter().map(|mail| Row { kind: words::kind(&mail.kind).to_owned(), mail }).collect()
    };
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    html_status(
        status,
        &MailPage {
            page: Page::new(ctx, "Mail", "settings"),
            form: entered.form.unwrap_or_else(|| ServerInput::of(server.as_ref())),
            has_password: server.as_ref().is_some_and(|server| !server.user_name.is_empty()),
            server,
            base_url: entered.base_url.unwrap_or(base_url.unwrap_or_default()),
            is_base_url_fixed: ctx.kernel.config.base_url.is_some(),
            test_to: entered.test_to.unwrap_or_else(|| ctx.principal.email.clone()),
            probe: entered.probe,
            counts,
            queued: rows(queued),
            failed: rows(failed),
            errors,
        },
    )
}

pub(super) async fn show(ctx: Ctx) -> Result<HttpResponse> {
    render(&ctx, Entered::default()).await
}

pub(super) async fn save(ctx: Ctx, input: Form<ServerInput>) -> Result<HttpResponse> {
    match actions::save_server(&ctx.kernel, &ctx.principal, input.0.clone()).await {
        Ok(()) => {
            Ok(redirect_with(PATH, "success", "The mail server was saved. Send a test mail to see that it works."))
        }
        Err(error) => render(&ctx, Entered { form: Some(input.0), error: Some(error), ..Entered::default() }).await,
    }
}

pub(super) async fn remove(ctx: Ctx) -> Result<HttpResponse> {
    actions::remove_server(&ctx.kernel, &ctx.principal).await?;
    Ok(redirect_with(PATH, "success", "The mail server was removed. No mail is sent any more."))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct AddressInput {
    base_url: String,
}

pub(super) async fn save_address(ctx: Ctx, input: Form<AddressInput>) -> Result<HttpResponse> {
    match actions::save_address(&ctx.kernel, &ctx.principal, input.0.base_url.clone()).await {
        Ok(()) => Ok(redirect_with(PATH, "success", "The address of the console was saved.")),
        Err(error) => {
            render(&ctx, Entered { base_url: Some(input.0.base_url), error: Some(error), ..Entered::default() }).await
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TestInput {
    to: String,
}

pub(super) async fn test(ctx: Ctx, input: Form<TestInput>) -> Result<HttpResponse> {
    let tested = actions::test(&ctx.kernel, &ctx.principal, &input.0.to).await;
    let (probe, error) = match tested {
        Ok(steps) => (Some(Probe::new(&steps)), None),
        Err(error) => (None, Some(error)),
    };
    render(&ctx, Entered { test_to: Some(input.0.to), probe, error, ..Entered::default() }).await
}

pub(super) async fn retry(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    actions::retry(&ctx.kernel, &ctx.principal, id.0).await?;
    Ok(redirect_with(PATH, "success", "The mail is tried again now."))
}

pub(super) async fn discard(ctx: Ctx, id: PathId<String>) -> Result<HttpResponse> {
    actions::discard(&ctx.kernel, &ctx.principal, id.0).await?;
    Ok(redirect_with(PATH, "success", "The mail was discarded, unsent."))
}
