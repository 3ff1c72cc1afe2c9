//! Directories: their settings, and the runs that keep the copy true: read, plan, apply.
//!
//! Owns `directory`, `run` and `quarantine`. A run reads through a connector, stores a plan (rows of `identities`),
//! and applies it. Invariants: one run at a time per directory (a unique index, not a hope); nothing takes effect
//! before a reading that ended complete; a failed run leaves the copy as it was and says why and what to do; stored
//! credentials are sealed for their row and never come back.

mod actions;
mod api;
mod counts;
mod credentials;
#[cfg(test)]
mod engine_tests;
mod follow;
mod form;
mod form_guard;
mod form_settings;
mod form_views;
mod guard;
#[cfg(test)]
mod history_tests;
mod keyed;
mod live;
mod measures;
mod model;
mod owned;
mod pace;
mod pages;
mod parts;
mod plan;
mod plan_export;
mod progress;
mod queries;
mod reading;
mod review;
mod review_pages;
mod rewind;
mod run;
mod run_pages;
#[cfg(test)]
mod scripted_tests;
mod staleness;
mod standing;
#[cfg(test)]
mod tests;
mod verify;
pub mod words;

use std::sync::Arc;

pub use actions::{CreateInput, RunInput, create, start_run};
pub use credentials::{ActInput, CredentialsInput, open_act};
pub use live::{Live, LiveJson, LiveState};
pub use measures::{begin as begin_measuring, refresh as refresh_measures};
pub use model::{Directory, Mode, Run, RunState, Schedule};
pub use owned::{OWNED, of_account};
pub use queries::{applied_runs, find, names, principals, read_since, run_began};
pub use run::{Runner, purge};
pub use staleness::surroundings;
pub use standing::{Standing, recent_runs, standings};

use crate::{
    error::{Error, Result},
    kernel::Kernel,
    principal::{AccountId, Level, Permission, Principal, Service},
    schedule::Job,
    web::Routes,
};

pub fn routes(routes: &mut Routes) {
    let read = Permission::Needs(Service::Directories, Level::Read);
    let operate = Permission::Needs(Service::Directories, Level::Operate);
    let full = Permission::Needs(Service::Directories, Level::Full);
    // Whoever may start runs is not by that one who may let a stopped plan pass.
    let approve = Permission::Needs(Service::Approvals, Level::Operate);
    routes.get("/directories", read, pages::list);
    routes.get("/directories/new", full, form::new);
    routes.post("/directories/new", full, form::create);
    routes.post("/directories/sample", full, form::sample);
    routes.post("/directories/probe", full, form::probe);
    routes.get("/directories/{id}", read, pages::detail);
    routes.get("/directories/{id}/edit", full, form::edit);
    routes.post("/directories/{id}/edit", full, form::update);
    routes.post("/directories/{id}/preview", full, form::preview);
    routes.get("/directories/{id}/remove", full, pages::confirm_removal);
    routes.post("/directories/{id}/remove", full, pages::remove);
    routes.post("/directories/{id}/probe", operate, pages::probe);
    routes.post("/directories/{id}/runs", operate, pages::start_run);
    routes.post("/directories/{id}/pause", operate, pages::pause);
    routes.get("/runs", read, run_pages::runs);
    routes.get("/runs/{id}", read, run_pages::run);
    routes.get("/runs/{id}/progress", read, run_pages::run_progress);
    routes.get("/runs/{id}/changes.csv", read, run_pages::export_csv);
    routes.get("/runs/{id}/changes.json", read, run_pages::export_json);
    routes.post("/runs/{id}/approve", approve, review_pages::approve).asks_again();
    routes.post("/runs/{id}/discard", approve, review_pages::discard).asks_again();
    routes.post("/runs/{id}/rewind", full, review_pages::rewind);
    routes.api::<api::__path_list, _, _>(read, api::list);
    routes.api::<api::__path_create, _, _>(full, api::create);
    routes.api::<api::__path_get, _, _>(read, api::get);
    routes.api::<api::__path_update, _, _>(full, api::update);
    routes.api::<api::__path_remove, _, _>(full, api::remove);
    routes.api::<api::__path_probe, _, _>(operate, api::probe);
    routes.api::<api::__path_probe_trial, _, _>(full, api::probe_trial);
    routes.api::<api::__path_sample_trial, _, _>(full, api::sample_trial);
    routes.api::<api::__path_sample, _, _>(full, api::sample);
    routes.api::<api::__path_start_run, _, _>(operate, api::start_run);
    routes.api::<api::__path_preview, _, _>(full, api::preview);
    routes.api::<api::__path_rewind, _, _>(full, api::rewind);
    routes.api::<api::__path_approve, _, _>(approve, api::approve);
    routes.api::<api::__path_discard, _, _>(approve, api::discard);
    routes.api::<api::__path_export_changes_csv, _, _>(read, api::export_changes_csv);
    routes.api::<api::__path_export_changes_json, _, _>(read, api::export_changes_json);
    routes.api::<api::__path_runs_of, _, _>(read, api::runs_of);
    routes.api::<api::__path_list_runs, _, _>(read, api::list_runs);
    routes.api::<api::__path_get_run, _, _>(read, api::get_run);
    routes.api::<api::__path_run_changes, _, _>(read, api::run_changes);
    routes.api::<api::__path_run_quarantine, _, _>(read, api::run_quarantine);
}

/// What came of [`refresh`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    Started,
    /// A run that is going on may have read too early: ask again once it has ended.
    Busy,
    /// Changes alone can't be read, or the copy must stay as it is for now: the schedule does it.
    NotNow,
}

/// Starts to bring the copy of a directory up to date after something was changed there.
pub async fn refresh(kernel: &Kernel, runner: &Runner, account: AccountId, directory: i64) -> Result<Refreshed> {
    let now = kernel.clock.now();
    let (watermark, rewind) = kernel
        .db
        .read(move |c| Ok((queries::watermark(c, directory)?, review::rewind_in_review(c, directory, now)?)))
        .await?;
    if watermark.is_none() || rewind.is_some() {
        return Ok(Refreshed::NotNow);
    }
    let principal = Principal::scheduler(&kernel.config.region, account);
    let input = RunInput { mode: Mode::Delta, dry_run: false };
    match start_run(kernel, &principal, runner, directory, input).await {
        Ok(_) => Ok(Refreshed::Started),
        Err(Error::Conflict(_)) => Ok(Refreshed::Busy),
        Err(other) => Err(other),
    }
}

/// Scheduled runs.
pub fn jobs(runner: &Runner) -> Vec<Job> {
    [(queries::FULL_JOB, Mode::Full), (queries::DELTA_JOB, Mode::Delta)]
        .into_iter()
        .map(|(name, mode)| {
            let runner = runner.clone();
            Job {
                name,
                work: Arc::new(move |subject| {
                    let runner = runner.clone();
                    Box::pin(async move {
                        let directory =
                            subject.parse().map_err(|_| Error::internal("a schedule entry names no directory"))?;
                        runner.run_scheduled(directory, mode).await
                    })
                }),
            }
        })
        .collect()
}
