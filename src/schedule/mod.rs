//! Schedule: claims and runs the jobs that other rooms declare.
//!
//! Owns `schedule_entry`: what is due when, who has claimed it, and how it ended. tokio-cron-scheduler only says that
//! a second has gone by; whether something is due, that it is not started twice, and that what was missed while the
//! appliance was off is caught up once and not n times, is decided here, in the database. It must never decide what a
//! job means. Times of day follow the entry's own time zone (croner): a time that daylight saving skips runs at the
//! first moment after it, a time that comes twice runs once.

mod owned;
mod queries;
mod spec;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

pub use owned::OWNED;
pub use queries::{Entry, find, remove, set};
pub use spec::{Spec, SpecInput};
use tokio_cron_scheduler::{Job as Tick, JobScheduler, JobSchedulerError};

use crate::{
    clock,
    error::Result,
    kernel::{BoxFuture, Kernel},
};

/// What runs when an entry is due: gets the entry's subject, answers how it ended in a few words.
pub type Work = Arc<dyn Fn(String) -> BoxFuture<'static, Result<String>> + Send + Sync>;

/// A kind of job that a room declares.
#[derive(Clone)]
pub struct Job {
    /// As in `schedule_entry.job`.
    pub name: &'static str,
    pub work: Work,
}

/// A claim not renewed for this long belongs to a process that died.
const LEASE_US: i64 = 2 * clock::MINUTE;
const RENEW_EVERY: Duration = Duration::from_secs(30);

/// Claims everything that is due and starts it; answers how many were started.
pub async fn run_due(kernel: &Kernel, jobs: &HashMap<&'static str, Work>) -> Result<usize> {
    let now = kernel.clock.now();
    let due = kernel.db.read(move |c| queries::due(c, now)).await?;
    let mut started = 0;
    for entry in due {
        let Some(work) = jobs.get(entry.job.as_str()).cloned() else { continue };
        let (job, subject) = (entry.job.clone(), entry.subject.clone());
        let claimed = kernel.db.write(move |c| queries::claim(c, &job, &subject, now, LEASE_US)).await?;
        if claimed {
            started += 1;
            tokio::spawn(run_one(kernel.clone(), work, entry.job, entry.subject));
        }
    }
    Ok(started)
}

async fn run_one(kernel: Kernel, work: Work, job: String, subject: String) {
    // A task of its own: a panic ends that task, and the entry is released all the same.
    let mut task = tokio::spawn(work(subject.clone()));
    let mut renew = tokio::time::interval(RENEW_EVERY);
    let outcome = loop {
        tokio::select! {
            ended = &mut task => break match ended {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(error)) => {
                    tracing::warn!(%job, %subject, error = %error.chain(), "a scheduled job failed");
                    error.to_string()
                }
                Err(error) => {
                    tracing::error!(%job, %subject, %error, "a scheduled job panicked");
                    "failed unexpectedly; see the log".to_owned()
                }
            },
            _ = renew.tick() => {
                let (job, subject, now) = (job.clone(), subject.clone(), kernel.clock.now());
                if let Err(error) = kernel.db.write(move |c| queries::renew(c, &job, &subject, now, LEASE_US)).await {
                    tracing::warn!(error = %error.chain(), "a claim could not be renewed");
                }
            }
        }
    };
    let now = kernel.clock.now();
    if let Err(error) = kernel.db.write(move |c| queries::finish(c, &job, &subject, now, &outcome)).await {
        tracing::warn!(error = %error.chain(), "the end of a scheduled job could not be noted; its claim runs out by itself");
    }
}

/// Starts looking every second. Keep the answer: dropping it does not stop it, [`JobScheduler::shutdown`] does.
pub async fn start(kernel: Kernel, jobs: Vec<Job>) -> Result<JobScheduler, JobSchedulerError> {
    let jobs: Arc<HashMap<_, _>> = Arc::new(jobs.into_iter().map(|job| (job.name, job.work)).collect());
    let scheduler = JobScheduler::new().await?;
    let tick = Tick::new_repeated_async(Duration::from_secs(1), move |_, _| {
        let (kernel, jobs) = (kernel.clone(), jobs.clone());
        Box::pin(async move {
            if let Err(error) = run_due(&kernel, &jobs).await {
                tracing::warn!(error = %error.chain(), "the schedule could not be read");
            }
        })
    })?;
    scheduler.add(tick).await?;
    scheduler.start().await?;
    Ok(scheduler)
}
