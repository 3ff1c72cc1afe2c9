//! A reading: pages from a connector, taken by a planner on a thread of its own.
//!
//! Owns the way between the two, and its bounds. Decides nothing about the plan.

use tokio::sync::mpsc;

use super::{
    plan::{Listed, Planner},
    run::Stop,
};
use crate::{
    accounts,
    connectors::{Connector, Delta, DeltaStop, Failure, FailureKind, Page},
    db::Db,
    error::{Error, Result},
    kernel::BoxFuture,
    principal::AccountId,
};

/// Pages between the connector and the planner; more would pile up in memory.
const PAGES_WAITING: usize = 4;
/// A server that sends just enough to stay alive must not own the directory for ever.
const READING_MAX: std::time::Duration = std::time::Duration::from_secs(6 * 3600);

/// How often a reading asks whether its account is suspended.
const ASKED_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// The account that a run is for: when it is suspended, nothing more is read for it.
pub(super) struct Reader {
    pub(super) db: Db,
    pub(super) account: AccountId,
}

impl Reader {
    async fn is_active(&self) -> Result<bool> {
        let account = self.account;
        self.db.read(move |c| accounts::is_active(c, account)).await
    }

    /// Stops the run of an account that is suspended.
    pub(super) async fn check(&self) -> Result<(), Stop> {
        if self.is_active().await? { Ok(()) } else { Err(account_suspended()) }
    }

    /// Ends when the account is not active any more.
    async fn suspended(&self) {
        loop {
            tokio::time::sleep(ASKED_EVERY).await;
            // A database that cannot be read stops the run by itself.
            if matches!(self.is_active().await, Ok(false)) {
                return;
            }
        }
    }
}

fn account_suspended() -> Stop {
    let (reason, next_step) = ("The account was suspended meanwhile.", "Run it again once the account is back.");
    Stop::Failed(Failure::new(FailureKind::Cancelled, reason, next_step))
}

/// What a complete reading says of itself.
pub(super) struct Read {
    pub server: String,
    /// Where the next delta goes on.
    pub watermark: Option<String>,
    /// How many objects the directory itself says there are.
    pub counted: Option<i64>,
    pub listed: Listed,
}

/// Objects that are asked for one by one after a reading of changes; beyond, everything is read.
const UNREAD_MAX: usize = 10_000;

/// How a reading of changes fell short.
pub(super) enum Short {
    /// All must be read, and why.
    Lost(String),
    /// All must be read, though nothing is wrong with the watermark.
    All,
    Stop(Stop),
}

impl From<Stop> for Short {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Failure> for Short {
    fn from(failure: Failure) -> Self {
        Self::Stop(Stop::Failed(failure))
    }
}

impl From<DeltaStop> for Short {
    fn from(stop: DeltaStop) -> Self {
        match stop {
            DeltaStop::Failed(failure) => failure.into(),
            DeltaStop::WatermarkLost { reason } => Self::Lost(reason),
        }
    }
}

/// Reads everything. The planner comes back in any case, to be finished or settled; the outer error is its panic.
pub(super) async fn everything(
    reader: &Reader,
    connector: &dyn Connector,
    planner: Planner,
) -> Result<(Planner, Result<Read, Stop>), Stop> {
    let (planner, reading) = feed(reader, planner, |pages| connector.read_full(pages)).await?;
    let read = reading.map(|end| Read {
        server: end.server,
        watermark: end.watermark,
        counted: end.counted.and_then(|counted| i64::try_from(counted).ok()),
        listed: Listed::ALL,
    });
    Ok((planner, read))
}

/// Reads what changed since `watermark`, then what is there though the copy does not hold it, then the groups that the
/// planner asks for.
pub(super) async fn changes(
    reader: &Reader,
    delta: &dyn Delta,
    watermark: &str,
    planner: Planner,
) -> Result<(Planner, Result<Read, Short>), Stop> {
    let (mut planner, reading) = feed(reader, planner, |pages| delta.read_changes(watermark, pages)).await?;
    let end = match reading {
        Ok(end) => end,
        Err(short) => return Ok((planner, Err(short))),
    };
    let read = Read {
        server: end.server,
        watermark: Some(end.watermark),
        counted: None,
        listed: Listed { identities: end.lists_identities, groups: end.lists_groups },
    };
    if planner.unread.identities.len() + planner.unread.groups.len() > UNREAD_MAX {
        return Ok((planner, Err(Short::All)));
    }
    let identities = planner.unread.begin();
    if !identities.is_empty() {
        let (fed, reading) = feed(reader, planner, |pages| delta.read_identities(identities, pages)).await?;
        planner = fed;
        if let Err(short) = reading {
            return Ok((planner, Err(short)));
        }
    }
    let (mut planner, groups) = tokio::task::spawn_blocking(move || {
        let groups = planner.affected_groups();
        (planner, groups)
    })
    .await
    .map_err(panicked)?;
    let groups = match groups {
        Err(error) => return Ok((planner, Err(Short::Stop(Stop::Broken(error))))),
        Ok(groups) => groups,
    };
    if !groups.is_empty() {
        let (fed, reading) = feed(reader, planner, |pages| delta.read_groups(groups, pages)).await?;
        planner = fed;
        if let Err(short) = reading {
            return Ok((planner, Err(short)));
        }
    }
    let is_whole = !planner.unread.is_out_of_order();
    Ok((planner, if is_whole { Ok(read) } else { Err(Short::All) }))
}

fn panicked(error: tokio::task::JoinError) -> Stop {
    Stop::Broken(Error::caused("the planner panicked", error))
}

async fn feed<'a, T, E, S>(
    reader: &Reader,
    planner: Planner,
    read: impl FnOnce(mpsc::Sender<Page>) -> BoxFuture<'a, Result<T, E>>,
) -> Result<(Planner, Result<T, S>), Stop>
where
    E: Into<S>,
    S: From<Stop>,
{
    let (sender, receiver) = mpsc::channel(PAGES_WAITING);
    let planning = tokio::task::spawn_blocking(move || take_pages(planner, receiver));
    let reading = tokio::time::timeout(READING_MAX, read(sender));
    let reading = tokio::select! {
        reading = reading => Some(reading),
        () = reader.suspended() => None,
    };
    let (planner, planned) = planning.await.map_err(panicked)?;
    let ended = match (reading, planned) {
        // Our own error first: the connector only saw that nobody listened any more.
        (_, Err(error)) => Err(Stop::Broken(error).into()),
        (None, Ok(())) => Err(account_suspended().into()),
        (Some(Ok(Ok(end))), Ok(())) => Ok(end),
        (Some(Ok(Err(stop))), Ok(())) => Err(stop.into()),
        (Some(Err(_)), Ok(())) => Err(Stop::Failed(Failure::new(
            FailureKind::TimedOut,
            "The directory had not sent everything after six hours.",
            "Look at the server's load, or narrow the base or the filters.",
        ))
        .into()),
    };
    Ok((planner, ended))
}

/// Nothing of a plan may arrive after it was cleaned up.
pub(super) fn settle(planner: &mut Planner) {
    if let Err(error) = planner.settle() {
        tracing::warn!(error = %error.chain(), "a part of a failed plan was not written");
    }
}

/// [`settle`] off the async threads.
pub(super) async fn settled(mut planner: Planner) {
    let waited = tokio::task::spawn_blocking(move || settle(&mut planner)).await;
    if let Err(error) = waited {
        tracing::warn!(%error, "waiting for a plan's last parts ended early");
    }
}

/// The planner's thread: takes pages until the connector closes the channel.
fn take_pages(mut planner: Planner, mut pages: mpsc::Receiver<Page>) -> (Planner, Result<()>) {
    while let Some(page) = pages.blocking_recv() {
        if let Err(error) = planner.page(page) {
            // Dropping the receiver tells the connector to stop.
            return (planner, Err(error));
        }
    }
    (planner, Ok(()))
}
