//! Before an approved plan takes effect: is it still what the directory says?
//!
//! A person approves what they have read, hours after it was planned. The directory is read once more, in the same way,
//! into a plan that is not written but only hashed; only the same plan is applied. Owns what becomes of the approval
//! when it is another one (the plan is dropped and a new one made) or when nobody can say (it goes on waiting).

use std::sync::Arc;

use super::{
    credentials,
    model::{Mode, Run},
    progress::{Phase, Progress},
    queries,
    reading::{self, Short},
    review,
    run::{Runner, Stop},
};
use crate::{
    audit::{self, Outcome},
    error::Error,
};

impl Runner {
    /// Whether an approved plan may take effect. Plans that nobody had to approve may: they are seconds old.
    pub(super) async fn is_still_true(&self, run: &Run, progress: &Arc<Progress>) -> Result<bool, Stop> {
        let id = run.id;
        let Some(digest) = self.kernel.db.read(move |c| review::approved_digest(c, id)).await? else { return Ok(true) };
        progress.enter(Phase::Connecting);
        let found = match self.read_again(run, progress).await {
            Ok(found) => found,
            Err(stop) => {
                let failure = stop.failure();
                let (now, by) = (self.kernel.clock.now(), self.principal(run));
                let entry = self
                    .entry("audit.run_approval_suspended.v1", run)
                    .outcome(Outcome::Failure)
                    .detail("reason", &failure.message);
                audit::change(&self.kernel, &by, move |c| {
                    review::wait_again(c, id, &failure, now)?;
                    Ok(((), vec![entry]))
                })
                .await?;
                return Ok(false);
            }
        };
        if found == Some(digest) {
            return Ok(true);
        }
        let (now, by, this) = (self.kernel.clock.now(), self.principal(run), run.clone());
        let who = by.clone();
        audit::change(&self.kernel, &by, move |c| {
            let entry = review::move_on(c, &this, &who, now)?;
            Ok(((), vec![entry]))
        })
        .await?;
        self.redo(run).await;
        self.drop_plan(id, false).await;
        Ok(false)
    }

    /// The hash of the plan that the directory's answer of now would make; `None` when it cannot be compared.
    async fn read_again(&self, run: &Run, progress: &Arc<Progress>) -> Result<Option<[u8; 32]>, Stop> {
        let (account, directory_id) = (run.account_id, run.directory_id);
        let directory = self.kernel.db.read(move |c| queries::find(c, account, directory_id)).await?;
        let directory = directory.ok_or_else(|| Error::internal("the run's directory is gone"))?;
        let connector = credentials::open(&self.kernel, &directory).await?;
        let planner = self.planner(&directory, run, progress).only_hashing();
        let (mut planner, read) = if run.mode == Mode::Delta.as_str() {
            let watermark = self.kernel.db.read(move |c| queries::watermark(c, directory_id)).await?;
            let (Some(delta), Some(watermark)) = (connector.delta(), watermark) else { return Ok(None) };
            match reading::changes(&self.reader(run), delta, &watermark, planner).await? {
                (planner, Ok(read)) => (planner, read),
                (_, Err(Short::Lost(_) | Short::All)) => return Ok(None),
                (_, Err(Short::Stop(stop))) => return Err(stop),
            }
        } else {
            match reading::everything(&self.reader(run), connector.as_ref(), planner).await? {
                (planner, Ok(read)) => (planner, read),
                (_, Err(stop)) => return Err(stop),
            }
        };
        let hashed = tokio::task::spawn_blocking(move || {
            planner.complete(read.listed)?;
            Ok::<_, Error>(planner.digest())
        });
        hashed.await.map_err(|e| Stop::Broken(Error::caused("the planner panicked", e)))?.map_err(Stop::Broken)
    }
}
