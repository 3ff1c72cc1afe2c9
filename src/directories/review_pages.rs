//! A person's decision over a plan: what the run's page shows of it, and the two buttons.
//!
//! Owns how the guard's reasons are laid out and which plans have to be confirmed by typing a number. Whether a plan may
//! be approved at all is decided in [`review`], the same for the API.

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use serde::Deserialize;

use super::{
    guard::{GroupLoss, Loss, Objects, SettingChange, Trip},
    model::{Run, RunState},
    review::{self, ApproveInput, Decision, DiscardInput, Review},
    rewind::{self, RewindInput},
    run::Runner,
    run_pages::{self, PlanQuery},
    words::{self, When},
};
use crate::{
    error::{Error, Result},
    web::{Ctx, Form, PathId, html_status, redirect, redirect_with},
};

/// Plans that lose more than this many objects are confirmed by typing how many.
const CONFIRMED_ABOVE: i64 = 10;

/// What a decision was sent with, and why it was refused.
#[derive(Debug, Default)]
pub(super) struct Typed {
    pub reason: String,
    pub confirm: String,
    pub reason_error: String,
    pub confirm_error: String,
    /// What no field is to blame for.
    pub problem: String,
}

/// One reason of the guard.
pub(super) struct TripView {
    pub title: String,
    pub explanation: String,
    pub settings: Vec<SettingChange>,
}

/// A number of the plan against what is allowed.
pub(super) struct FigureRow {
    pub what: String,
    pub number: String,
    pub of: String,
    pub allowed: String,
}

/// Who decided, for a page.
pub(super) struct DecisionView {
    pub by: String,
    pub at: When,
    pub reason: String,
}

/// Everything that was said of a plan, for a page.
pub(super) struct ReviewView {
    pub trips: Vec<TripView>,
    pub figures: Vec<FigureRow>,
    pub approved: Option<DecisionView>,
    pub discarded: Option<DecisionView>,
    pub superseded_by: Option<i64>,
    pub is_preview: bool,
    pub settings_changed: Vec<SettingChange>,
    /// The number to be typed before the plan is approved; empty when none has to be.
    pub to_confirm: String,
    pub typed: Typed,
}

fn figure(trip: &Trip) -> Vec<FigureRow> {
    let number = |number: u64| words::number(i64::try_from(number).unwrap_or(i64::MAX));
    let row = |what: &str, count: u64, of: u64, allowed: String| FigureRow {
        what: what.to_owned(),
        number: number(count),
        of: number(of),
        allowed,
    };
    let objects = |objects: &Objects| match objects {
        Objects::Identities => "Identities in the answer",
        Objects::Groups => "Groups in the answer",
    };
    match trip {
        Trip::OverLimit { loss, number: lost, of, allowed } => {
            let what = match loss {
                Loss::Identities => "Identities that go missing",
                Loss::Groups => "Groups that go missing",
                Loss::Disables => "Identities that stop being active",
                Loss::Memberships => "Memberships that end",
            };
            vec![row(what, *lost, *of, format!("at most {}", number(*allowed)))]
        }
        Trip::PrivilegedGroups { groups, .. } => groups
            .iter()
            .map(|GroupLoss { name, of, number: lost, allowed }| {
                let allowed = format!("at most {}", number(*allowed));
                row(&format!("Members that {name} loses"), *lost, *of, allowed)
            })
            .collect(),
        Trip::EmptyAnswer { objects: kind, present } => vec![row(objects(kind), 0, *present, "at least half".into())],
        Trip::ShortAnswer { objects: kind, answered, present } => {
            vec![row(objects(kind), *answered, *present, "at least half".into())]
        }
        Trip::CountDisagrees { counted, sent } => {
            vec![row("Objects sent, of those the directory counts", *sent, *counted, "99 in 100".into())]
        }
        Trip::NothingFound { .. } | Trip::SettingsChanged { .. } | Trip::WatermarkLost { .. } | Trip::Rewind { .. } => {
            Vec::new()
        }
    }
}

/// How many objects a plan loses, when that has to be typed to approve it.
fn to_confirm(run: &Run) -> Option<i64> {
    (run.counts.missing > CONFIRMED_ABOVE).then_some(run.counts.missing)
}

impl ReviewView {
    pub(super) fn new(ctx: &Ctx, run: &Run, review: Review, typed: Typed) -> Self {
        let decision = |decision: Decision| DecisionView {
            by: run_pages::by(ctx, &decision.by),
            at: When::new(decision.at),
            reason: decision.reason.unwrap_or_default(),
        };
        Self {
            figures: review.trips.iter().flat_map(figure).collect(),
            trips: review
                .trips
                .into_iter()
                .map(|trip| TripView {
                    title: trip.title(),
                    explanation: trip.explanation(),
                    settings: if let Trip::SettingsChanged { settings } = trip { settings } else { Vec::new() },
                })
                .collect(),
            approved: review.approved.map(decision),
            discarded: review.discarded.map(decision),
            superseded_by: review.superseded_by,
            is_preview: review.is_preview,
            settings_changed: review.settings_changed,
            to_confirm: to_confirm(run).map(words::number).unwrap_or_default(),
            typed,
        }
    }
}

/// The fields of both buttons.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DecisionFields {
    reason: String,
    confirm: String,
}

/// A decision that was refused comes back with the whole page (422, or 409 when no field is to blame).
async fn refused(ctx: &Ctx, runner: &Runner, id: i64, fields: DecisionFields, error: Error) -> Result<HttpResponse> {
    let mut typed = Typed { reason: fields.reason, confirm: fields.confirm, ..Typed::default() };
    let status = match error {
        Error::Invalid(errors) => {
            for error in errors {
                match error.field.as_str() {
                    "confirm" => typed.confirm_error = error.message,
                    _ => typed.reason_error = error.message,
                }
            }
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Error::Conflict(message) => {
            typed.problem = message;
            StatusCode::CONFLICT
        }
        other => return Err(other),
    };
    html_status(status, &run_pages::show(ctx, runner, id, PlanQuery::default(), typed).await?)
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// `POST /runs/{id}/approve`.
pub(super) async fn approve(
    ctx: Ctx,
    id: PathId<i64>,
    form: Form<DecisionFields>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    let run = run_pages::find_run(&ctx, id.0).await?;
    let fields = form.0;
    let expected = to_confirm(&run).filter(|_| run.state == RunState::Parked);
    if let Some(expected) = expected.filter(|expected| digits(&fields.confirm) != expected.to_string()) {
        let message = format!("Type {}: so many objects go missing.", words::number(expected));
        return refused(&ctx, &runner, id.0, fields, Error::field("confirm", message)).await;
    }
    let input = ApproveInput { reason: fields.reason.clone() };
    match review::approve(&ctx.kernel, &ctx.principal, &runner, id.0, input).await {
        Ok(run) => Ok(redirect(&format!("/runs/{}", run.id))),
        Err(error) => refused(&ctx, &runner, id.0, fields, error).await,
    }
}

/// `POST /runs/{id}/rewind`: plans the way back to this run.
pub(super) async fn rewind(
    ctx: Ctx,
    id: PathId<i64>,
    _form: Form<Nothing>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    let run = run_pages::find_run(&ctx, id.0).await?;
    let input = RewindInput { to_run: run.id.to_string() };
    match rewind::start(&ctx.kernel, &ctx.principal, &runner, run.directory_id, input).await {
        Ok(started) => Ok(redirect(&format!("/runs/{}", started.id))),
        Err(Error::Invalid(fields)) => {
            let message = fields.into_iter().map(|field| field.message).collect::<Vec<_>>().join(" ");
            refused(&ctx, &runner, id.0, DecisionFields::default(), Error::Conflict(message)).await
        }
        Err(Error::BadRequest(message) | Error::Unavailable { message, .. }) => {
            refused(&ctx, &runner, id.0, DecisionFields::default(), Error::Conflict(message)).await
        }
        Err(error) => refused(&ctx, &runner, id.0, DecisionFields::default(), error).await,
    }
}

/// A form with one button.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Nothing {}

/// `POST /runs/{id}/discard`.
pub(super) async fn discard(
    ctx: Ctx,
    id: PathId<i64>,
    form: Form<DecisionFields>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    let input = DiscardInput { reason: Some(form.0.reason.clone()) };
    match review::discard(&ctx.kernel, &ctx.principal, &runner, id.0, input).await {
        Ok(run) => Ok(redirect_with(
            &format!("/runs/{}", run.id),
            "success",
            "The plan is discarded. The copy stays as it is.",
        )),
        Err(error) => refused(&ctx, &runner, id.0, form.0, error).await,
    }
}
