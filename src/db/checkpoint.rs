//! The checkpointer: moves what was committed from the write-ahead log into the database file, on a thread of its own.
//!
//! Owns how long the log may grow. It runs beside the writer (a passive checkpoint keeps nobody waiting), because a
//! checkpoint reads and writes every page once more and waits for the disk twice. SQLite starts the log anew only when
//! all of it was moved and nobody reads from it, which a writer that never pauses does not let happen: beyond
//! [`LOG_PAGES_MAX`] bulk writes wait ([`Checkpointer::is_behind`]) until that is so; people wait for no more than
//! [`READERS_WAIT`]. After a checkpoint has failed in the file system nothing may be written any more
//! ([`Checkpointer::has_failed`]).

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, hooks::Wal, wal::CheckpointMode};

use super::people::People;

/// So many pages of the log (16 KiB each) are moved at once: fewer, and pages that change again and again are moved
/// again and again.
const PASS_PAGES: u32 = 4_000;
/// While people write: the disk is kept busy for a moment only, or their writes wait for it behind a whole pass.
const PASS_PAGES_AMONG_PEOPLE: u32 = 500;
/// 256 MiB. A longer log takes room, and makes every reader slower.
const LOG_PAGES_MAX: u32 = 16_384;
/// The log's file is not made shorter than this when it is begun anew: 320 MiB, more than it grows to where nobody reads
/// from it for long. Making it shorter takes the file system 60 ms in the middle of a commit (measured), and as long
/// again when the blocks are wanted back: kept at 64 MiB, a first run of a million took 49 s instead of 41.
pub(super) const LOG_BYTES_KEPT: i64 = 320 * 1024 * 1024;
/// Readers are short, and a run's own stop soon after bulk writes do: so many passes are tried, with a pause between two,
/// before the log may grow because somebody reads from it.
const TRIES_MAX: u32 = 20;
const TRY_AGAIN: Duration = Duration::from_millis(25);
/// For so long nobody writes while readers leave the log.
const READERS_WAIT: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Asked {
    pass: bool,
    is_closed: bool,
}

struct Shared {
    asked: Mutex<Asked>,
    ready: Condvar,
    /// Pages in the log after the last commit.
    pages: AtomicU32,
    /// Of them, how many were moved by the last pass.
    moved: AtomicU32,
    /// Bulk writes wait while the log is longer than this.
    limit: AtomicU32,
    people: People,
    has_failed: AtomicBool,
}

impl Shared {
    fn new(people: People) -> Self {
        Self {
            asked: Mutex::default(),
            ready: Condvar::new(),
            pages: AtomicU32::new(0),
            moved: AtomicU32::new(0),
            limit: AtomicU32::new(LOG_PAGES_MAX),
            people,
            has_failed: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle that the writer keeps; the thread ends with it.
pub(super) struct Checkpointer {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Checkpointer {
    /// Moves the log of `writer` by way of `connection`; calls `passed` after each pass.
    pub(super) fn start(
        writer: &mut Connection,
        connection: Connection,
        people: People,
        passed: impl Fn() + Send + 'static,
    ) -> rusqlite::Result<Self> {
        let shared = Arc::new(Shared::new(people));
        let theirs = shared.clone();
        writer.wal_hook(Some(move |_: &mut Wal, pages| {
            theirs.committed(u32::try_from(pages).unwrap_or(0));
            Ok(())
        }))?;
        connection.busy_timeout(READERS_WAIT)?;
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("db-checkpoint".into())
            .spawn(move || work(&theirs, &connection, &passed))
            .map_err(|error| tracing::error!(%error, "the checkpoint thread could not be started"));
        Ok(Self { shared, thread: thread.ok() })
    }

    /// Whether bulk writes have to wait until more of the log was moved.
    pub(super) fn is_behind(&self) -> bool {
        self.shared.is_behind()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.shared.has_failed.load(Ordering::Acquire)
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.ready.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn committed(&self, pages: u32) {
        let before = self.pages.swap(pages, Ordering::AcqRel);
        if pages < before {
            // The log was started anew.
            self.moved.store(0, Ordering::Release);
            self.limit.store(LOG_PAGES_MAX, Ordering::Release);
        }
        if self.is_due() || self.is_behind() {
            self.lock().pass = true;
            self.ready.notify_all();
        }
    }

    fn is_due(&self) -> bool {
        let (pages, moved) = (self.pages.load(Ordering::Acquire), self.moved.load(Ordering::Acquire));
        pages.saturating_sub(moved) >= if self.people.are_here() { PASS_PAGES_AMONG_PEOPLE } else { PASS_PAGES }
    }

    fn is_behind(&self) -> bool {
        self.pages.load(Ordering::Acquire) > self.limit.load(Ordering::Acquire)
    }
}

fn work(shared: &Shared, connection: &Connection, passed: &impl Fn()) {
    let mut tries = 0;
    loop {
        {
            let mut asked = shared.lock();
            while !asked.pass && !shared.is_behind() {
                if asked.is_closed {
                    return;
                }
                asked = shared.ready.wait(asked).unwrap_or_else(PoisonError::into_inner);
            }
            asked.pass = false;
        }
        pass(shared, connection, &mut tries);
        passed();
        if shared.is_behind() {
            std::thread::sleep(TRY_AGAIN);
        }
    }
}

/// `tries` counts the passes in a row that found somebody reading while bulk writes waited.
fn pass(shared: &Shared, connection: &Connection, tries: &mut u32) {
    let was_behind = shared.is_behind();
    let is_all_moved = checkpoint(shared, connection, CheckpointMode::PASSIVE);
    if !was_behind {
        return;
    }
    // Little is left to be moved while nobody writes. When this is done, the next write starts the log anew.
    let is_free = is_all_moved && checkpoint(shared, connection, CheckpointMode::RESTART);
    // Somebody reads from the log. If that goes on, nobody can say for how long: writing goes on too, and the log grows.
    let pages = shared.pages.load(Ordering::Acquire);
    *tries += 1;
    if is_free || *tries >= TRIES_MAX {
        let limit = if is_free { pages } else { pages.saturating_add(PASS_PAGES) };
        shared.limit.store(limit.max(LOG_PAGES_MAX), Ordering::Release);
        *tries = 0;
    }
}

/// Whether everything was moved, and for [`CheckpointMode::RESTART`] whether nobody reads from the log.
fn checkpoint(shared: &Shared, connection: &Connection, mode: CheckpointMode) -> bool {
    match connection.wal_checkpoint_v2(Some(rusqlite::MAIN_DB), mode) {
        Ok((log, moved)) => {
            // The writer may have begun the log anew in the meantime: then what was moved is not of this one.
            let moved_of_this = u32::try_from(moved).unwrap_or(0).min(shared.pages.load(Ordering::Acquire));
            shared.moved.store(moved_of_this, Ordering::Release);
            moved >= log
        }
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure) => {
            tracing::error!(%error, "a checkpoint failed in the file system: no more writes until the next start");
            shared.has_failed.store(true, Ordering::Release);
            false
        }
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => false,
        // The disk is full, say: what is in the log is safe there.
        Err(error) => {
            tracing::warn!(%error, "a checkpoint was put off");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(pages: u32, moved: u32) -> Shared {
        Shared { pages: AtomicU32::new(pages), moved: AtomicU32::new(moved), ..Shared::new(People::default()) }
    }

    #[test]
    fn a_log_beyond_its_limit_is_moved_however_little_of_it_is_left() {
        let shared = shared(LOG_PAGES_MAX - 20, LOG_PAGES_MAX - 20);
        shared.committed(LOG_PAGES_MAX - 10);
        assert!(!shared.lock().pass, "little is left, and there is room");
        shared.committed(LOG_PAGES_MAX + 1);
        assert!(shared.is_behind() && shared.lock().pass, "bulk writes wait for this pass");
    }

    #[test]
    fn passes_are_small_while_people_write() {
        let shared = shared(PASS_PAGES - 1, 0);
        assert!(!shared.is_due());
        shared.people.note();
        assert!(shared.is_due());
    }

    #[test]
    fn bulk_writes_go_on_after_a_pass_whether_all_was_moved_or_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("test.db");
        let open = || {
            let connection = Connection::open(&path).expect("opens");
            let mode: String = connection.query_row("PRAGMA journal_mode=wal", [], |row| row.get(0)).expect("a mode");
            assert_eq!(mode, "wal");
            connection
        };
        let (writer, beside, reader) = (open(), open(), open());
        writer.execute_batch("CREATE TABLE t (n INTEGER) STRICT").expect("a table");
        // Nobody reads; somebody reads the end of the log, so that all can be moved but the log not begun anew; somebody
        // reads what stood before.
        for (is_read, is_old) in [(false, false), (true, false), (true, true)] {
            writer.execute_batch("INSERT INTO t VALUES (1)").expect("written");
            if is_read {
                reader.execute_batch("BEGIN; SELECT count(*) FROM t").expect("a snapshot");
            }
            if is_old {
                writer.execute_batch("INSERT INTO t VALUES (1)").expect("written");
            }
            let (shared, mut tries, mut passes) = (shared(LOG_PAGES_MAX + 1, 0), 0, 0);
            while shared.is_behind() {
                pass(&shared, &beside, &mut tries);
                passes += 1;
            }
            assert_eq!((passes, tries), (if is_read { TRIES_MAX } else { 1 }, 0));
            shared.committed(LOG_PAGES_MAX + 1 + PASS_PAGES);
            assert_eq!(shared.is_behind(), !is_read, "a reader makes the log grow by one pass");
            shared.committed(1);
            assert_eq!(shared.limit.load(Ordering::Acquire), LOG_PAGES_MAX, "begun anew");
            if is_read {
                reader.execute_batch("COMMIT").expect("read");
            }
        }
    }
}
