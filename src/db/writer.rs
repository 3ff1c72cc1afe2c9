//! The writer: one thread, one connection, an interactive and a bulk lane.
//!
//! Owns group commit and the order of the lanes. It must never answer an interactive write before the commit, and
//! never write again after a commit or a checkpoint failed with an I/O error. Parts of one long write (a [`Share`]) are
//! the only thing that is answered before it is committed: its maker goes on at once, and asks at the end whether all
//! of it was kept.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{checkpoint::Checkpointer, people::People};
use crate::error::{Error, Result};

/// Waiting interactive writes beyond this are refused with 503 instead of queued without end.
const QUEUE_MAX: usize = 2_048;
/// No more writes share one commit than this, and none are added once this much time has gone by.
const GROUP_MAX: usize = 256;
const GROUP_TIME_MAX: Duration = Duration::from_millis(40);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Interactive,
    Bulk,
}

/// Bulk chunks share one commit for as long as nobody waits, up to this much time: each commit writes every page it
/// touched, and small chunks spread over large indexes touch the same pages again and again.
const BULK_TIME_MAX: Duration = Duration::from_millis(300);
/// The same while people write: what was gathered has to be committed before the next of them is served.
const BULK_TIME_AMONG_PEOPLE: Duration = Duration::from_millis(5);

/// Bulk writes that succeed or fail together: they stand in one transaction without a savepoint around each. A savepoint
/// copies every page that is touched within it, which costs more than the writing itself.
#[derive(Debug, Clone, Default)]
pub struct Share(Arc<AtomicBool>);

impl Share {
    /// Shared with nothing that is there already.
    pub fn new() -> Self {
        Self::default()
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn fail(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether one of the writes was undone: none of the others may follow.
    fn has_failed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What one run of a closure asks for.
enum Ran {
    /// Its changes are kept; it is done.
    Kept,
    /// Its changes are kept; it wants to be run again.
    Again,
    /// Its changes are undone; it is done.
    Undone,
}

/// What a bulk closure answers when it works in steps.
pub enum Step<T> {
    More,
    Done(T),
}

/// One write: runs inside a transaction, answers after its end.
trait Work: Send {
    fn run(&mut self, connection: &Connection) -> Ran;
    /// Delivers the result, or the commit's error instead of it.
    fn answer(self: Box<Self>, commit: Result<()>);
    /// Whether it is likely that more of the same write comes in a moment: worth keeping the transaction open for.
    fn expects_more(&self) -> bool {
        false
    }
}

struct Closure<T, F> {
    f: Option<F>,
    result: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnOnce(&Connection) -> Result<T> + Send> Work for Closure<T, F> {
    fn run(&mut self, connection: &Connection) -> Ran {
        let Some(f) = self.f.take() else { return Ran::Undone };
        let result = catch_unwind(AssertUnwindSafe(|| f(connection)))
            .unwrap_or_else(|_| Err(Error::internal("a write panicked; its changes were undone")));
        let ran = if result.is_ok() { Ran::Kept } else { Ran::Undone };
        self.result = Some(result);
        ran
    }

    fn answer(self: Box<Self>, commit: Result<()>) {
        send(self.answer, commit, self.result);
    }
}

fn send<T>(answer: oneshot::Sender<Result<T>>, commit: Result<()>, own: Option<Result<T>>) {
    let result = match (commit, own) {
        (Ok(()), Some(result)) => result,
        // A write that failed by itself keeps its own error: it says more than the commit's.
        (Err(_), Some(Err(own))) => Err(own),
        (Err(commit), _) => Err(commit),
        (Ok(()), None) => Err(Error::internal("a write did not run")),
    };
    // The asker may have gone away (its connection closed): the write stands all the same.
    let _ = answer.send(result);
}

/// A part of a long write: answered as soon as it ran.
struct Part<T, F> {
    f: Option<F>,
    share: Share,
    answer: Option<oneshot::Sender<Result<T>>>,
}

impl<T: Send, F: FnOnce(&Connection) -> Result<T> + Send> Work for Part<T, F> {
    fn run(&mut self, connection: &Connection) -> Ran {
        let (Some(f), Some(answer)) = (self.f.take(), self.answer.take()) else { return Ran::Undone };
        let result = if self.share.has_failed() {
            Err(part_failed())
        } else {
            catch_unwind(AssertUnwindSafe(|| f(connection)))
                .unwrap_or_else(|_| Err(Error::internal("a write panicked; its changes were undone")))
        };
        let ran = if result.is_ok() { Ran::Kept } else { Ran::Undone };
        if result.is_err() {
            self.share.fail();
        }
        send(answer, Ok(()), Some(result));
        ran
    }

    fn answer(mut self: Box<Self>, commit: Result<()>) {
        if let Err(error) = commit {
            self.share.fail();
            // It did not run at all.
            if let Some(answer) = self.answer.take() {
                send(answer, Err(error), None);
            }
        }
    }

    fn expects_more(&self) -> bool {
        true
    }
}

/// The end of a long write: answers after the commit, and only well when every part was kept.
struct End {
    share: Share,
    answer: oneshot::Sender<Result<()>>,
}

impl Work for End {
    fn run(&mut self, _: &Connection) -> Ran {
        if self.share.has_failed() { Ran::Undone } else { Ran::Kept }
    }

    fn answer(self: Box<Self>, commit: Result<()>) {
        let own = if self.share.has_failed() { Err(part_failed()) } else { Ok(()) };
        send(self.answer, commit, Some(own));
    }
}

fn part_failed() -> Error {
    Error::internal("another part of this write failed, and all of them were undone")
}

/// A long write in steps, each well under 50 ms; it may be spread over several transactions.
struct Steps<T, F> {
    f: F,
    result: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnMut(&Connection) -> Result<Step<T>> + Send> Work for Steps<T, F> {
    fn run(&mut self, connection: &Connection) -> Ran {
        let f = &mut self.f;
        let step = catch_unwind(AssertUnwindSafe(|| f(connection)))
            .unwrap_or_else(|_| Err(Error::internal("a step of a long write panicked; it was undone")));
        match step {
            Ok(Step::More) => Ran::Again,
            Ok(Step::Done(value)) => {
                self.result = Some(Ok(value));
                Ran::Kept
            }
            Err(error) => {
                self.result = Some(Err(error));
                Ran::Undone
            }
        }
    }

    fn answer(self: Box<Self>, commit: Result<()>) {
        send(self.answer, commit, self.result);
    }
}

#[derive(Default)]
struct Queue {
    interactive: VecDeque<Box<dyn Work>>,
    bulk: VecDeque<(Share, Box<dyn Work>)>,
    is_closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until something waits, or `until`.
    fn wait_for_more<'a>(&self, mut queue: MutexGuard<'a, Queue>, until: Instant) -> MutexGuard<'a, Queue> {
        while queue.interactive.is_empty() && queue.bulk.is_empty() && !queue.is_closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self.ready.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue
    }

    fn wake(&self) {
        // With the lock, or a thread that is just about to wait would miss it.
        drop(self.lock());
        self.ready.notify_all();
    }
}

/// Closes the queue when the last handle goes, so that the thread ends.
struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.ready.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // Wait for the queue to be worked off: what was accepted is written.
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
pub(super) struct Writer {
    owner: Arc<Owner>,
    people: People,
}

impl Writer {
    /// `beside` is the checkpointer's connection.
    pub(super) fn start(mut connection: Connection, beside: Connection) -> rusqlite::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), ready: Condvar::new() });
        connection.execute_batch("PRAGMA cache_size=-32000")?;
        let waiting = shared.clone();
        let people = People::default();
        let checkpointer = Checkpointer::start(&mut connection, beside, people.clone(), move || waiting.wake())?;
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("db-writer".into()).spawn({
            let people = people.clone();
            move || work(&theirs, &Desk { connection, checkpointer, people })
        });
        if let Err(error) = &thread {
            tracing::error!(%error, "the writer thread could not be started");
            shared.lock().is_closed = true;
        }
        Ok(Self { owner: Arc::new(Owner { shared, thread: Mutex::new(thread.ok()) }), people })
    }

    pub(super) fn people(&self) -> &People {
        &self.people
    }

    pub(super) fn submit<T, F>(&self, lane: Lane, f: F) -> Result<oneshot::Receiver<Result<T>>>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.enqueue(lane, Share::new(), Box::new(Closure { f: Some(f), result: None, answer: sender }))?;
        Ok(receiver)
    }

    pub(super) fn submit_part<T, F>(&self, share: Share, f: F) -> Result<oneshot::Receiver<Result<T>>>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let part = Part { f: Some(f), share: share.clone(), answer: Some(sender) };
        self.enqueue(Lane::Bulk, share, Box::new(part))?;
        Ok(receiver)
    }

    pub(super) fn submit_end(&self, share: Share) -> Result<oneshot::Receiver<Result<()>>> {
        let (sender, receiver) = oneshot::channel();
        self.enqueue(Lane::Bulk, share.clone(), Box::new(End { share, answer: sender }))?;
        Ok(receiver)
    }

    pub(super) fn submit_steps<T, F>(&self, f: F) -> Result<oneshot::Receiver<Result<T>>>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<Step<T>> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.enqueue(Lane::Bulk, Share::new(), Box::new(Steps { f, result: None, answer: sender }))?;
        Ok(receiver)
    }

    fn enqueue(&self, lane: Lane, share: Share, work: Box<dyn Work>) -> Result<()> {
        let mut queue = self.owner.shared.lock();
        if queue.is_closed {
            return Err(super::writer_stopped());
        }
        let waiting = match lane {
            Lane::Interactive => queue.interactive.len(),
            Lane::Bulk => queue.bulk.len(),
        };
        if waiting >= QUEUE_MAX {
            return Err(Error::Unavailable {
                message: "The appliance is busy writing. Nothing was changed; try again in a moment.".into(),
                retry_after_s: 2,
            });
        }
        match lane {
            Lane::Interactive => queue.interactive.push_back(work),
            Lane::Bulk => queue.bulk.push_back((share, work)),
        }
        drop(queue);
        self.owner.shared.ready.notify_all();
        Ok(())
    }
}

/// What the writer's thread works with. The connection goes first when it ends.
struct Desk {
    connection: Connection,
    checkpointer: Checkpointer,
    people: People,
}

fn work(shared: &Shared, desk: &Desk) {
    let connection = &desk.connection;
    let mut is_broken = false;
    loop {
        let group = {
            let mut queue = shared.lock();
            while queue.interactive.is_empty() && (queue.bulk.is_empty() || desk.checkpointer.is_behind()) {
                if queue.is_closed && queue.bulk.is_empty() {
                    return;
                }
                queue = shared.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::take(&mut queue.interactive)
        };
        is_broken |= desk.checkpointer.has_failed();
        if !group.is_empty() {
            commit_group(connection, group, &mut is_broken);
        }
        // Bulk chunks between two groups: bulk waits for people, but is never starved by them.
        if !desk.checkpointer.is_behind() {
            commit_bulk(shared, desk, &mut is_broken);
        }
    }
}

fn commit_group(connection: &Connection, mut waiting: VecDeque<Box<dyn Work>>, is_broken: &mut bool) {
    while !waiting.is_empty() {
        let mut done = Vec::with_capacity(waiting.len().min(GROUP_MAX));
        let started = Instant::now();
        let mut result = begin(connection, "FULL", *is_broken);
        if result.is_ok() {
            while done.len() < GROUP_MAX && started.elapsed() < GROUP_TIME_MAX {
                let Some(mut work) = waiting.pop_front() else { break };
                if let Err(error) = run_in_savepoint(connection, work.as_mut()) {
                    result = Err(error);
                    done.push(work);
                    break;
                }
                done.push(work);
            }
        } else {
            done.extend(waiting.drain(..));
        }
        let result = finish(connection, result, is_broken);
        for work in done {
            work.answer(copy(&result));
        }
    }
}

fn commit_bulk(shared: &Shared, desk: &Desk, is_broken: &mut bool) {
    let connection = &desk.connection;
    let Some((share, mut work)) = shared.lock().bulk.pop_front() else { return };
    let time_max = if desk.people.are_here() { BULK_TIME_AMONG_PEOPLE } else { BULK_TIME_MAX };
    let until = Instant::now() + time_max;
    let mut done = Vec::new();
    let mut unfinished = None;
    let mut result = begin(connection, "NORMAL", *is_broken);
    if result.is_err() {
        done.push(work);
    } else {
        loop {
            let expects_more = work.expects_more();
            match work.run(connection) {
                Ran::Again => unfinished = Some(work),
                Ran::Kept => done.push(work),
                Ran::Undone => {
                    // Its own error is the answer of that one; the others share its fate.
                    result = Err(Error::internal("a write beside this one failed, and both were undone"));
                    done.push(work);
                    break;
                }
            }
            let mut queue = shared.lock();
            if expects_more {
                queue = shared.wait_for_more(queue, until);
            }
            let has_people = !queue.interactive.is_empty();
            if has_people {
                desk.people.note();
            }
            if has_people || Instant::now() >= until {
                break;
            }
            let is_ours = queue.bulk.front().is_some_and(|(next, _)| next.is(&share));
            match unfinished
                .take()
                .or_else(|| if is_ours { queue.bulk.pop_front().map(|(_, work)| work) } else { None })
            {
                Some(next) => work = next,
                None => break,
            }
        }
    }
    let result = finish(connection, result, is_broken);
    match (unfinished, &result) {
        // Behind the others: one long write must not keep the rest of the lane waiting.
        (Some(work), Ok(())) => shared.lock().bulk.push_back((share, work)),
        (Some(work), Err(_)) => done.push(work),
        (None, _) => {}
    }
    for work in done {
        work.answer(copy(&result));
    }
}

fn begin(connection: &Connection, synchronous: &str, is_broken: bool) -> Result<()> {
    if is_broken {
        return Err(broken());
    }
    // The pragma takes effect outside a transaction only; a bulk chunk becomes durable with the next FULL commit.
    connection.execute_batch(if synchronous == "FULL" {
        "PRAGMA synchronous=FULL"
    } else {
        "PRAGMA synchronous=NORMAL"
    })?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    Ok(())
}

fn run_in_savepoint(connection: &Connection, work: &mut dyn Work) -> Result<Ran> {
    connection.execute_batch("SAVEPOINT one_write")?;
    let ran = work.run(connection);
    if matches!(ran, Ran::Undone) {
        connection.execute_batch("ROLLBACK TO one_write")?;
    }
    connection.execute_batch("RELEASE one_write")?;
    Ok(ran)
}

fn finish(connection: &Connection, result: Result<()>, is_broken: &mut bool) -> Result<()> {
    let committed = result.and_then(|()| match connection.execute_batch("COMMIT") {
        Ok(()) => Ok(()),
        Err(error) => {
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure) {
                *is_broken = true;
                tracing::error!(%error, "a commit failed in the file system: no more writes until the next start");
            }
            Err(Error::from(error))
        }
    });
    if committed.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    committed
}

fn broken() -> Error {
    Error::Unavailable {
        message: "The disk failed while writing. Nothing is written until the appliance is restarted.".into(),
        retry_after_s: 60,
    }
}

/// The commit's outcome for every write of the group.
fn copy(result: &Result<()>) -> Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(Error::Unavailable { message, retry_after_s }) => {
            Err(Error::Unavailable { message: message.clone(), retry_after_s: *retry_after_s })
        }
        Err(other) => Err(Error::internal(other.chain())),
    }
}
