//! A run from start to end: read, plan, apply; and what happens to one that was interrupted.
//!
//! Owns the order of the steps and every state change of a run. Invariants: a copy that people see is only touched in
//! `applying` (the first plan of a directory is written in place, where nobody sees it before it is applied); a run that
//! does not end with a complete reading leaves nothing but its failed row; apply can be killed anywhere and goes on at
//! the next start, with the same moment and the same result; a failure of one run, a panic too, ends that run and
//! nothing else.

use std::sync::Arc;

use rusqlite::Connection;

use super::{
    actions, credentials, guard, measures,
    model::{Directory, Mode, Run, RunState},
    pace::Pace,
    plan::{Aim, Counts, Listed, Planner, Quarantined},
    progress::{Board, Phase, Progress},
    queries,
    reading::{self, Read, Reader, Short},
    review, rewind,
};
use crate::{
    audit::{self, Entry, Outcome},
    clock::{DAY, Time},
    connectors::{Connector, Failure, FailureKind},
    db::{Db, Step},
    error::{Error, FieldError, Result},
    identities::{
        lookup, past, plans, undoing,
        write::{self, Merging, Target},
    },
    kernel::Kernel,
    principal::{AccountId, Principal, urn},
};

/// Objects and change rows of one step at most; [`Pace`] takes fewer where they take longer.
const APPLY_OBJECTS: i64 = 1_000;
const APPLY_CHANGES: i64 = 4_000;
/// Pages of the search index that are merged in one step at most, and how many steps of writing go before such a one.
const MERGE_PAGES: i64 = 64;
const STEPS_PER_MERGE: usize = 4;
const FORGET_ROWS: i64 = 4_000;
const FORGET_OBJECTS: i64 = 200;
const WAIT_EVERY: std::time::Duration = std::time::Duration::from_millis(250);

/// Starts runs and knows which go on; cheap to clone.
#[derive(Clone)]
pub struct Runner {
    pub(super) kernel: Kernel,
    pub board: Board,
}

/// Why a run did not get to its end.
pub(super) enum Stop {
    /// The directory, or the way to it.
    Failed(Failure),
    /// Us: the database, a bug.
    Broken(Error),
}

/// A plan whose lines are written, before it is judged.
struct Drafted {
    planned: queries::Planned,
    quarantined: Vec<Quarantined>,
    /// Every object was sent or named, so that what is missing is known.
    is_full: bool,
    /// The run that it goes back to, and that run's moment.
    rewind: Option<(i64, Time)>,
    entry: Entry,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Stop {
    pub(super) fn failure(self) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::Broken(Error::Invalid(fields)) => not_accepted(&fields),
            Self::Broken(error) => {
                tracing::error!(error = %error.chain(), "a run failed on our side");
                Failure::new(
                    FailureKind::Other,
                    "The run failed inside the appliance, not at the directory.",
                    "Look into the appliance's log; the copy was not touched.",
                )
            }
        }
    }
}

/// Settings that were stored by another version.
pub(super) fn not_accepted(fields: &[FieldError]) -> Failure {
    let wrong: Vec<String> = fields.iter().map(|f| format!("{}: {}", f.field, f.message)).collect();
    Failure::new(
        FailureKind::InvalidSettings,
        format!("The stored settings of this directory are no longer accepted: {}", wrong.join(" ")),
        "Open the directory's settings, correct them and save.",
    )
}

impl Runner {
    pub fn new(kernel: Kernel) -> Self {
        Self { kernel, board: Board::default() }
    }

    /// Carries the run through, in a task of its own.
    pub fn spawn(&self, run: Run) -> tokio::task::JoinHandle<()> {
        let runner = self.clone();
        let progress = self.board.open(run.id);
        // A task of its own, so that it does not end with whoever asked.
        tokio::spawn(async move {
            let id = run.id;
            let inner = runner.clone();
            // One task inside another: a panic in a connector fails this run, and the board is cleared all the same.
            let carried = tokio::spawn({
                let (run, progress) = (run.clone(), progress.clone());
                async move { inner.carry(&run, &progress).await }
            });
            let stop = match carried.await {
                Ok(Ok(())) => None,
                Ok(Err(stop)) => Some(stop),
                Err(panic) => Some(Stop::Broken(Error::caused("a run panicked", panic))),
            };
            if let Some(stop) = stop {
                runner.fail(&run, stop, &progress).await;
            }
            progress.enter(Phase::Done);
            runner.board.end(id, &progress);
            measures::count(&runner.kernel, id).await;
        })
    }

    pub(super) fn principal(&self, run: &Run) -> Principal {
        Principal::scheduler(&self.kernel.config.region, run.account_id)
    }

    async fn carry(&self, run: &Run, progress: &Arc<Progress>) -> Result<(), Stop> {
        let reader = self.reader(run);
        if run.state == RunState::Reading {
            // Not even a connection is opened for a suspended account.
            reader.check().await?;
            self.read_and_plan(run, progress).await?;
            let (account, id) = (run.account_id, run.id);
            let planned = self.kernel.db.read(move |c| queries::find_run(c, account, id)).await?;
            // A dry run ends here, and so does a plan that the guard parked.
            if !planned.is_some_and(|run| run.is_active()) {
                return Ok(());
            }
        }
        // What is half applied is finished: a copy is whole even while its account rests.
        if run.state != RunState::Applying {
            reader.check().await?;
        }
        if run.state == RunState::Planned && !self.is_still_true(run, progress).await? {
            return Ok(());
        }
        self.apply(run, progress).await.map_err(Stop::Broken)
    }

    pub(super) fn reader(&self, run: &Run) -> Reader {
        Reader { db: self.kernel.db.clone(), account: run.account_id }
    }

    async fn read_and_plan(&self, run: &Run, progress: &Arc<Progress>) -> Result<(), Stop> {
        progress.enter(Phase::Connecting);
        let (account, directory_id) = (run.account_id, run.directory_id);
        let directory = self.kernel.db.read(move |c| queries::find(c, account, directory_id)).await?;
        let mut directory = directory.ok_or_else(|| Error::internal("the run's directory is gone"))?;
        let (id, key) = (run.id, self.kernel.key.clone());
        if let Some(to_run) = run.rewind_to {
            return self.plan_rewind(&directory, run, to_run, progress).await;
        }
        let connector = match self.kernel.db.read(move |c| review::find_preview(c, &key, id)).await? {
            Some(preview) => actions::open_preview(&self.kernel, &mut directory, preview)?,
            None => credentials::open(&self.kernel, &directory).await?,
        };
        self.read_by(connector.as_ref(), &directory, run, progress).await
    }

    /// Reads the directory by its connector, and plans.
    pub(super) async fn read_by(
        &self,
        connector: &dyn Connector,
        directory: &Directory,
        run: &Run,
        progress: &Arc<Progress>,
    ) -> Result<(), Stop> {
        let (id, directory_id) = (run.id, directory.id);
        self.clear_way(directory, run).await?;
        let mut lost = None;
        if run.mode == Mode::Delta.as_str() {
            let watermark = self.kernel.db.read(move |c| queries::watermark(c, directory_id)).await?;
            match (connector.delta(), watermark) {
                (Some(delta), Some(watermark)) => {
                    let planner = self.planner(directory, run, progress);
                    match reading::changes(&self.reader(run), delta, &watermark, planner).await? {
                        (planner, Ok(read)) => return self.plan(run, (planner, Ok(read)), None, progress).await,
                        (planner, Err(Short::Stop(stop))) => {
                            return self.plan(run, (planner, Err(stop)), None, progress).await;
                        }
                        (planner, Err(short)) => {
                            reading::settled(planner).await;
                            self.forget(id, true).await;
                            self.kernel
                                .db
                                .write(move |c| {
                                    write::open_plan(c, id, directory_id)?;
                                    queries::set_full(c, id)
                                })
                                .await?;
                            if let Short::Lost(reason) = short {
                                lost = Some(reason);
                            }
                        }
                    }
                }
                // Nothing to go on from yet, or never: that is no loss.
                (None, _) | (_, None) => {
                    self.kernel.db.write(move |c| queries::set_full(c, id)).await?;
                }
            }
        }
        let ended = reading::everything(&self.reader(run), connector, self.planner(directory, run, progress)).await?;
        self.plan(run, ended, lost, progress).await
    }

    /// Plans the way back to how the copy stood after an earlier run. Nothing is read from the directory, and the plan is
    /// always parked.
    async fn plan_rewind(
        &self,
        directory: &Directory,
        run: &Run,
        to_run: i64,
        progress: &Arc<Progress>,
    ) -> Result<(), Stop> {
        self.clear_way(directory, run).await?;
        progress.enter(Phase::Comparing);
        let (id, directory_id, account) = (run.id, run.directory_id, run.account_id);
        let (db, live) = (self.kernel.db.clone(), progress.clone());
        let planned = tokio::task::spawn_blocking(move || -> Result<(Time, Counts)> {
            let at = db
                .read_blocking(|c| undoing::applied_at(c, directory_id, to_run))?
                .ok_or_else(|| Error::internal("the run to go back to was never applied"))?;
            let counts = rewind::plan(&db, id, directory_id, at, &live)?;
            // Had the history been cut in the meantime, the plan might lack something.
            db.read_blocking(|c| past::check_readable(c, account, at))?;
            Ok((at, counts))
        });
        let (at, counts) =
            planned.await.map_err(|e| Stop::Broken(Error::caused("planning a rewind panicked", e)))??;
        let entry = self.entry("audit.run_planned.v1", run).detail("toRun", to_run.to_string());
        let planned = queries::Planned { counts, server: None, watermark: None, counted: None, watermark_lost: None };
        let drafted = Drafted { planned, quarantined: Vec::new(), is_full: false, rewind: Some((to_run, at)), entry };
        self.put_down(run, drafted).await
    }

    /// Judges a plan whose lines are written, and stores what it comes to and whether it may be applied: in one
    /// transaction, because a plan that stands as planned may be.
    async fn put_down(&self, run: &Run, drafted: Drafted) -> Result<(), Stop> {
        let Drafted { planned, quarantined, is_full, rewind, entry } = drafted;
        let (id, directory, counts) = (run.id, run.directory_id, planned.counts);
        let told = review::Told { is_full, watermark_lost: planned.watermark_lost.clone(), counted: planned.counted };
        let asked = run.clone();
        let (base, digest, trips) = self
            .kernel
            .db
            .read(move |c| {
                let stored = queries::find(c, asked.account_id, directory)?;
                let stored = stored.ok_or_else(|| Error::internal("the run's directory is gone"))?;
                let (mut facts, digest) = review::facts(c, &stored, &asked, &counts, told)?;
                let Some((run, at)) = rewind else {
                    return Ok((stored.applied_run_id, digest, guard::judge(&stored.guard, &facts)));
                };
                // Nothing was read, with whatever settings.
                facts.settings_changed.clear();
                let mut trips = vec![guard::Trip::Rewind { run, at }];
                trips.extend(guard::judge(&stored.guard, &facts));
                Ok((stored.applied_run_id, digest, trips))
            })
            .await?;
        let (stored, by, now) = (run.clone(), self.principal(run), self.kernel.clock.now());
        let entry = entry.detail("counts", super::model::CountsJson::from(counts));
        let who = by.clone();
        let dropped = audit::change(&self.kernel, &by, move |c| {
            if let Some((to_run, _)) = rewind {
                // The copy is going to be what that run read: the next reading is compared with how that one was read.
                review::note_read_with(c, id, &review::read_with_of(c, to_run)?)?;
            }
            queries::insert_quarantine(c, directory, id, &quarantined)?;
            queries::set_planned(c, id, &planned, now)?;
            let (mut entries, dropped) = review::settle(c, &stored, base, digest, &trips, &who, now)?;
            entries.insert(0, entry);
            Ok((dropped, entries))
        })
        .await?;
        self.drop_superseded(id, dropped).await;
        Ok(())
    }

    /// Deletes what plans had staged that another one took the place of.
    async fn drop_superseded(&self, by: i64, dropped: Vec<i64>) {
        for dropped in dropped {
            self.drop_plan(dropped, true).await;
            // This run itself is counted where it ends.
            if dropped != by {
                measures::count(&self.kernel, dropped).await;
            }
        }
    }

    pub(super) fn planner(&self, directory: &Directory, run: &Run, progress: &Arc<Progress>) -> Planner {
        let aim = Aim {
            run: run.id,
            directory: directory.id,
            in_place_at: directory.applied_run_id.is_none().then_some(run.started_at),
            remove_missing_since: Some(self.kernel.clock.now().plus(-DAY * i64::from(directory.guard.grace_days))),
        };
        Planner::new(self.kernel.db.clone(), aim, progress.clone())
    }

    /// Ends the plan of a complete reading, or takes back what a reading that broke off has stored.
    async fn plan(
        &self,
        run: &Run,
        (mut planner, read): (Planner, Result<Read, Stop>),
        lost: Option<String>,
        progress: &Arc<Progress>,
    ) -> Result<(), Stop> {
        progress.enter(Phase::Comparing);
        let finished = tokio::task::spawn_blocking(move || -> Result<(Read, Counts, Vec<Quarantined>), Stop> {
            match read {
                Ok(read) => {
                    let (counts, quarantined) = planner.finish(read.listed)?;
                    Ok((read, counts, quarantined))
                }
                Err(stop) => {
                    reading::settle(&mut planner);
                    Err(stop)
                }
            }
        })
        .await
        .map_err(|e| Stop::Broken(Error::caused("the planner panicked", e)))?;
        let (read, counts, quarantined) = finished?;
        let mut entry = self.entry("audit.run_planned.v1", run).detail("server", &read.server);
        if let Some(reason) = &lost {
            entry = entry.detail("watermarkLost", reason);
        }
        let is_full = read.listed == Listed::ALL;
        let planned = queries::Planned {
            counts,
            server: Some(read.server),
            watermark: read.watermark,
            counted: read.counted,
            watermark_lost: lost,
        };
        self.put_down(run, Drafted { planned, quarantined, is_full, rewind: None, entry }).await
    }

    /// What earlier plans of this directory left behind and this run makes out of date; and what this one is read with.
    async fn clear_way(&self, directory: &Directory, run: &Run) -> Result<(), Stop> {
        let (id, directory_id, is_in_place) = (run.id, directory.id, directory.applied_run_id.is_none());
        // What an earlier plan staged that nobody is going to apply is of no use from here on.
        for (stale, with_changes) in self.kernel.db.read(move |c| review::left_over(c, directory_id, id)).await? {
            self.drop_plan(stale, with_changes).await;
        }
        if is_in_place && !self.kernel.db.read(move |c| lookup::is_empty(c, directory_id)).await? {
            // A first plan that waits stands where this one is going to stand.
            let (this, by, now) = (run.clone(), self.principal(run), self.kernel.clock.now());
            let who = by.clone();
            audit::change(&self.kernel, &by, move |c| {
                let (entries, _) = review::supersede(c, &this, &who, now)?;
                Ok(((), entries))
            })
            .await?;
            self.forget_copy(directory_id).await?;
        }
        let read_with = review::read_with(directory);
        self.kernel
            .db
            .write(move |c| {
                review::note_read_with(c, id, &read_with)?;
                write::open_plan(c, id, directory_id)?;
                queries::set_in_place(c, id, is_in_place)
            })
            .await?;
        Ok(())
    }

    /// Carries out a plan that a person approved; whether it may be is checked where the approval is stored.
    pub fn approve(&self, run: Run) -> tokio::task::JoinHandle<()> {
        self.spawn(run)
    }

    /// Deletes what a plan that is not going to be applied had staged, and notes that it is gone.
    pub(super) async fn drop_plan(&self, run: i64, with_changes: bool) {
        self.forget(run, with_changes).await;
        let now = self.kernel.clock.now();
        if let Err(error) = self.kernel.db.write(move |c| review::set_dropped(c, run, now)).await {
            tracing::warn!(run, error = %error.chain(), "a dropped plan could not be noted; the next run tries again");
        }
    }

    /// `drop_plan` in the background, with the lines of the plan kept: a person discarded it and may want to
    /// look again.
    pub fn drop_later(&self, run: i64) {
        let runner = self.clone();
        tokio::spawn(async move {
            runner.drop_plan(run, false).await;
            measures::count(&runner.kernel, run).await;
        });
    }

    pub(super) fn entry(&self, kind: &'static str, run: &Run) -> Entry {
        Entry::new(kind)
            .subject(urn("directories", &self.kernel.config.region, Some(run.account_id), "run", run.id))
            .detail("directory", &run.directory_name)
    }

    /// Makes the stored plan take effect. Also where an interrupted one goes on.
    async fn apply(&self, run: &Run, progress: &Arc<Progress>) -> Result<()> {
        let (account, id, now) = (run.account_id, run.id, self.kernel.clock.now());
        let kernel = self.kernel.clone();
        let started = kernel
            .db
            .write(move |c| {
                queries::set_applying(c, id, now)?;
                let started = queries::find_run(c, account, id)?;
                if let Some((run, at)) = started.as_ref().and_then(|run| Some((run, run.apply_at?))) {
                    write::begin_applying(c, Target { run: id, directory: run.directory_id, at })?;
                }
                Ok(started)
            })
            .await?
            .ok_or_else(|| Error::internal("the run is gone"))?;
        let at = started.apply_at.ok_or_else(|| Error::internal("the run has no moment to apply at"))?;
        let target = Target { run: id, directory: run.directory_id, at };
        progress.enter(Phase::Applying);
        let counts = started.counts;
        let objects = counts.added + counts.changed + counts.returned;
        let steps = objects + counts.differences();
        progress.to_apply(steps);
        let (principal, entry) = (self.principal(run), self.entry("audit.run_applied.v1", run));
        let (live, applied) = (progress.clone(), run.clone());
        let dropped = tokio::task::spawn_blocking(move || -> Result<Vec<i64>> {
            let figures = live.clone();
            let is_in_place = started.is_in_place;
            let (mut pace, mut merging) = (Pace::up_to(APPLY_OBJECTS), Pace::up_to(MERGE_PAGES));
            let mut turn = 0_usize;
            kernel.db.bulk_steps_blocking(move |c| {
                turn += 1;
                if turn.is_multiple_of(STEPS_PER_MERGE + 1) {
                    merging.step(|pages| write::merge_search_texts(c, pages, Merging::Alike))?;
                    return Ok(Step::More);
                }
                let done = if is_in_place { 0 } else { pace.step(|rows| write::apply_staged(c, target, rows))? };
                figures.applied(i64::try_from(done).unwrap_or(0));
                Ok(if done == 0 { Step::Done(()) } else { Step::More })
            })?;
            let mut applied_to = started.applied_to.unwrap_or(0);
            let mut pace = Pace::up_to(APPLY_CHANGES);
            kernel.db.bulk_steps_blocking(move |c| {
                if is_in_place {
                    return Ok(Step::Done(()));
                }
                let step = pace.step(|rows| write::apply_changes(c, target, applied_to, rows))?;
                let Some((last, count)) = step else {
                    return Ok(Step::Done(()));
                };
                queries::set_applied_to(c, target.run, last)?;
                applied_to = last;
                live.applied(count);
                Ok(Step::More)
            })?;
            let now = kernel.clock.now();
            let entry = entry.detail("counts", super::model::CountsJson::from(counts));
            // The last transaction: state, history and record together, synchronously on disk.
            let (identities, groups) = kernel.db.read_blocking(|c| count(c, &applied, &counts))?;
            let who = principal.clone();
            let dropped = audit::change_blocking(&kernel, &principal, move |c| {
                write::finish_applied(c, target)?;
                queries::set_run_applied(c, target.run, now)?;
                queries::set_applied(c, target.directory, target.run, now, identities, groups)?;
                if counts.differences() == 0 {
                    review::keep_rewind(c, target.directory, target.run)?;
                }
                // A plan that waits for approval was made against a copy that is no longer there.
                let (mut entries, dropped) = review::supersede(c, &applied, &who, now)?;
                entries.insert(0, entry);
                Ok((dropped, entries))
            })?;
            Ok(dropped)
        })
        .await
        .map_err(|e| Error::caused("apply panicked", e))??;
        for id in dropped {
            self.drop_plan(id, true).await;
            measures::count(&self.kernel, id).await;
        }
        if objects > 0 {
            self.merge_search_texts().await;
        }
        Ok(())
    }

    /// Tidies the search index up after a run that wrote to it. Whatever comes of it, the run is applied; the next one goes
    /// on where this one stopped.
    async fn merge_search_texts(&self) {
        let db = self.kernel.db.clone();
        let merged = tokio::task::spawn_blocking(move || {
            let which = db.read_blocking(write::merging_due)?;
            let mut pace = Pace::up_to(MERGE_PAGES);
            db.bulk_steps_blocking(move |c| {
                let is_more = pace.step(|pages| write::merge_search_texts(c, pages, which))?;
                Ok(if is_more { Step::More } else { Step::Done(()) })
            })
        });
        if let Err(error) = merged.await.map_err(|e| Error::caused("merging panicked", e)).and_then(|merged| merged) {
            tracing::warn!(error = %error.chain(), "the search index was not tidied up");
        }
    }

    async fn fail(&self, run: &Run, stop: Stop, progress: &Arc<Progress>) {
        let account = run.account_id;
        let id = run.id;
        // Without knowing how the run stands nothing may be deleted: it is taken up again later.
        let state = match self.kernel.db.read(move |c| queries::find_run(c, account, id)).await {
            Ok(Some(run)) => run.state,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(run = id, error = %error.chain(), "a failed run could not be looked at; it is taken up again later");
                return;
            }
        };
        if state == RunState::Applying {
            // The plan stands and is going to be finished: when the next run is asked for, or at the next start.
            if let Stop::Broken(error) = stop {
                tracing::error!(run = id, error = %error.chain(), "applying was interrupted; it goes on when the next run is due, or at the next start");
            }
            return;
        }
        let failure = stop.failure();
        tracing::warn!(run = id, directory = %run.directory_name, reason = %failure.message, "the run failed");
        self.forget(id, true).await;
        self.forget_in_place(run.directory_id).await;
        let read = progress.figures().read;
        let counts = Counts { read, ..Counts::default() };
        let entry = self
            .entry("audit.run_failed.v1", run)
            .outcome(Outcome::Failure)
            .detail("reason", &failure.message)
            .detail("code", failure.kind);
        let now = self.kernel.clock.now();
        let written = audit::change(&self.kernel, &self.principal(run), move |c| {
            queries::set_failed(c, id, &failure, &counts, now)?;
            Ok(((), vec![entry]))
        })
        .await;
        if let Err(error) = written {
            tracing::error!(run = id, error = %error.chain(), "the failure of a run could not be stored");
        }
        metrics::counter!("bailiwick_sync_failures_total", "directory" => run.directory_id.to_string()).increment(1);
    }

    /// Deletes what a run staged (and its change rows), piece by piece.
    async fn forget(&self, run: i64, with_changes: bool) {
        let db = self.kernel.db.clone();
        let forgotten = tokio::task::spawn_blocking(move || forget_plan(&db, run, with_changes)).await;
        if !matches!(forgotten, Ok(Ok(()))) {
            tracing::warn!(run, "a failed run's plan could not be cleaned up; the next start tries again");
        }
    }

    /// Deletes what the first plan of a directory has written in place. Nobody has seen it.
    async fn forget_in_place(&self, directory: i64) {
        let cleared = async {
            if self.kernel.db.read(move |c| queries::is_never_applied(c, directory)).await? {
                self.forget_copy(directory).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = cleared.await {
            tracing::warn!(directory, error = %error.chain(), "a failed first plan could not be cleaned up; the next run tries again");
        }
    }

    async fn forget_copy(&self, directory: i64) -> Result<()> {
        let db = self.kernel.db.clone();
        tokio::task::spawn_blocking(move || {
            let (mut pace, mut after) = (Pace::up_to(FORGET_OBJECTS), 0);
            db.bulk_steps_blocking(move |c| {
                let is_more = pace.step(|rows| write::forget_copy(c, directory, &mut after, rows, false))?;
                Ok(if is_more { Step::More } else { Step::Done(()) })
            })
        })
        .await
        .map_err(|e| Error::caused("clearing a copy panicked", e))?
    }

    /// After a start: goes on with what was being applied, fails what was being read and reads it again.
    pub async fn resume(&self) -> Result<()> {
        let unfinished = self.kernel.db.read(queries::unfinished_runs).await?;
        for run in unfinished {
            let is_read_again = run.state == RunState::Reading && !run.is_dry_run && run.rewind_to.is_none();
            if self.take_up(&run).await && is_read_again {
                self.redo(&run).await;
            }
        }
        self.clear_removed();
        Ok(())
    }

    /// Takes up a run that stands as active but that nobody carries: after a start, or after an error kept its end from
    /// being stored. Answers whether there was nobody.
    async fn take_up(&self, run: &Run) -> bool {
        let Some(progress) = self.board.claim(run.id) else { return false };
        if run.state != RunState::Reading {
            tracing::info!(run = run.id, "going on with an interrupted run");
            self.spawn(run.clone());
            return true;
        }
        let next_step = if run.is_dry_run {
            "Ask for the dry run again."
        } else if run.rewind_to.is_some() {
            "Ask for the rewind again."
        } else {
            "Nothing to do: the directory is read again by a new run."
        };
        let reason = "The appliance was stopped while this run was reading.";
        let failure = Failure::new(FailureKind::Cancelled, reason, next_step);
        self.fail(run, Stop::Failed(failure), &progress).await;
        self.board.close(run.id);
        true
    }

    /// Takes up whatever run of a directory stands in the way of another one; answers whether the way is free now.
    pub async fn take_up_abandoned(&self, directory: i64) -> Result<bool> {
        let active = self.kernel.db.read(move |c| queries::active_run(c, directory)).await?;
        Ok(match active {
            Some(run) => self.take_up(&run).await && run.state == RunState::Reading,
            None => false,
        })
    }

    pub(super) async fn redo(&self, run: &Run) {
        let input = actions::RunInput { mode: Mode::Full, dry_run: false };
        let started = actions::start_run(&self.kernel, &self.principal(run), self, run.directory_id, input).await;
        if let Err(error) = started {
            tracing::warn!(directory = run.directory_id, error = %error.chain(), "an interrupted run was not started again");
        }
    }

    /// One scheduled run; answers how it ended once it has.
    pub async fn run_scheduled(&self, directory: i64, mode: Mode) -> Result<String> {
        let account = self.kernel.db.read(move |c| queries::account_of(c, directory)).await?;
        let Some(account) = account else { return Ok("the directory is gone".into()) };
        let now = self.kernel.clock.now();
        if let Some(rewind) = self.kernel.db.read(move |c| review::rewind_in_review(c, directory, now)).await? {
            // Its plan is about the copy as it stands. A run that a person asks for still takes its place.
            return Ok(format!("skipped: run {rewind}, a rewind, waits for approval"));
        }
        let principal = Principal::scheduler(&self.kernel.config.region, account);
        let input = actions::RunInput { mode, dry_run: false };
        let run = match actions::start_run(&self.kernel, &principal, self, directory, input).await {
            Ok(run) => run,
            Err(Error::Conflict(reason)) => return Ok(format!("skipped: {reason}")),
            Err(other) => return Err(other),
        };
        // The claim of the schedule lasts as long as the run.
        let ended = self.wait(account, run.id).await?;
        Ok(format!("run {} {}", ended.id, ended.state.as_str()))
    }

    /// Waits until a run does nothing any more; answers how it stands then.
    pub async fn wait(&self, account: AccountId, run: i64) -> Result<Run> {
        while self.board.find(run).is_some() {
            tokio::time::sleep(WAIT_EVERY).await;
        }
        let ended = self.kernel.db.read(move |c| queries::find_run(c, account, run)).await?;
        ended.ok_or_else(|| Error::internal("the run is gone"))
    }

    /// Deletes the copies of directories that were taken out, in the background.
    pub fn clear_removed(&self) {
        let db = self.kernel.db.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = clear_removed(&db) {
                tracing::error!(error = %error.chain(), "the copy of a removed directory could not be deleted; the next start tries again");
            }
        });
    }
}

/// Deletes everything that an account has in directories, the copies too.
pub async fn purge(kernel: Kernel, account: AccountId) -> Result<()> {
    let now = kernel.clock.now();
    kernel
        .db
        .write(move |c| {
            for directory in queries::of_account(c, account)? {
                queries::mark_removed(c, directory, now)?;
                for job in [queries::FULL_JOB, queries::DELTA_JOB] {
                    crate::schedule::remove(c, job, &directory.to_string())?;
                }
            }
            Ok(())
        })
        .await?;
    let db = kernel.db.clone();
    tokio::task::spawn_blocking(move || clear_removed(&db))
        .await
        .map_err(|e| Error::caused("clearing the copies of an account ended early", e))?
}

fn clear_removed(db: &Db) -> Result<()> {
    for directory in db.read_blocking(queries::removed)? {
        for run in db.read_blocking(|c| queries::runs_of(c, directory))? {
            forget_plan(db, run, true)?;
        }
        let (mut pace, mut after) = (Pace::up_to(FORGET_OBJECTS), 0);
        db.bulk_steps_blocking(move |c| {
            if pace.step(|rows| write::forget_copy(c, directory, &mut after, rows, true))? {
                return Ok(Step::More);
            }
            queries::delete(c, directory)?;
            Ok(Step::Done(()))
        })?;
    }
    Ok(())
}

/// Deletes what a run staged, and its lines with it when `with_changes`, piece by piece.
fn forget_plan(db: &Db, run: i64, with_changes: bool) -> Result<()> {
    let mut pace = Pace::up_to(FORGET_ROWS);
    db.bulk_steps_blocking(move |c| {
        let is_more = pace.step(|rows| write::forget_plan(c, run, rows, with_changes))?;
        Ok(if is_more { Step::More } else { Step::Done(()) })
    })
}

/// How many identities and groups a directory has once a run is applied. Counting a million takes longer than a run that
/// finds little. What came back may have been removed or only missing: then they are counted.
fn count(connection: &Connection, run: &Run, counts: &Counts) -> Result<(i64, i64)> {
    let is_as_before = counts.added + counts.returned + counts.removed == 0;
    let is_small = counts.returned == 0 && counts.differences() <= APPLY_CHANGES;
    let directory = queries::find(connection, run.account_id, run.directory_id)?;
    match directory.filter(|directory| directory.applied_run_id.is_some() && (is_as_before || is_small)) {
        Some(directory) => {
            let (identities, groups) = if is_as_before { (0, 0) } else { plans::balance(connection, run.id)? };
            Ok((directory.identity_count + identities, directory.group_count + groups))
        }
        None => lookup::counts(connection, run.directory_id),
    }
}
