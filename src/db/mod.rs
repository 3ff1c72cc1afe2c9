//! The database: one SQLite file, one writer with two lanes, many readers.
//!
//! Owns opening (WAL, foreign keys, migrations), the writer thread and the pool of read connections. It knows no
//! table of any room. Invariants: `journal_mode` reads back as `wal` on every connection; interactive writes are
//! committed with `synchronous=FULL` before they are answered, several of them in one transaction, each in its own
//! savepoint; bulk chunks wait for interactive writes; after a failed fsync nothing is written any more, because
//! SQLite would report the next commit as good (HOSTILE §0.7).
//!
//! Why one writer thread: SQLite has one writer anyway; a queue in front of it gives priorities and group commit
//! instead of `SQLITE_BUSY`.

mod checkpoint;
mod migrations;
mod people;
mod readers;
mod writer;

use std::path::{Path, PathBuf};

pub use migrations::SCHEMA_VERSION;
use rusqlite::{Connection, OpenFlags};
pub use writer::{Share, Step};

use crate::error::{Error, Result};

/// Why the database could not be opened. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the database {path} was made by a newer version (schema {found}, this program knows {known}); install that version again, or restore a backup"
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error(
        "the database {path} could not be switched to write-ahead logging (it says `{mode}`); is the file system a local one?"
    )]
    NotWal { path: PathBuf, mode: String },
    #[error("the database {path} is damaged or not a database; restore a backup with: bailiwick restore")]
    Damaged { path: PathBuf, source: rusqlite::Error },
    #[error("the database {path} cannot be opened: {source}")]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("the copy before the upgrade could not be made: {source}")]
    Copy { source: rusqlite::Error },
    #[error("the database {path} does not exist; run: bailiwick init")]
    Absent { path: PathBuf },
}

/// A handle to the database; cheap to clone.
#[derive(Clone)]
pub struct Db {
    writer: writer::Writer,
    readers: readers::Readers,
}

impl Db {
    /// The database file in a data directory.
    pub fn file(data_dir: &Path) -> PathBuf {
        data_dir.join("bailiwick.db")
    }

    /// Opens the file (making it when `create`), brings it to this program's schema, starts the writer.
    pub fn open(path: &Path, create: bool) -> Result<Self, OpenError> {
        if !create && !path.exists() {
            return Err(OpenError::Absent { path: path.to_owned() });
        }
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        migrations::run(path, &mut connection)?;
        let beside = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let writer = writer::Writer::start(connection, beside)
            .map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })?;
        Ok(Self { writer, readers: readers::Readers::new(path.to_owned()) })
    }

    /// Runs `f` on a read connection, off the async threads. `f` sees one consistent snapshot.
    pub async fn read<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let readers = self.readers.clone();
        let permit = readers.permit().await?;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            readers.with(f)
        })
        .await
        .map_err(|e| Error::caused("a database read ended early", e))?
    }

    /// Runs `f` on a read connection on this thread: for threads that may block (a run's planner, the command line).
    pub fn read_blocking<T>(&self, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.readers.with(f)
    }

    /// Runs `f` in the writer's interactive lane and answers after it is on disk. An `Err` (or a panic) undoes
    /// everything `f` wrote and nothing else. `f` must be short: no transaction holds the writer for more than 50 ms.
    pub async fn write<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.writer.submit(writer::Lane::Interactive, f)?.await.map_err(|_| writer_stopped())?
    }

    /// [`write`](Self::write) for a thread that may block.
    pub fn write_blocking<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.writer.submit(writer::Lane::Interactive, f)?.blocking_recv().map_err(|_| writer_stopped())?
    }

    /// Runs `f` in the bulk lane, behind all interactive writes. Durable with the next
    /// interactive commit or checkpoint, not at once: only for what can be redone.
    pub fn bulk_blocking<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.writer.submit(writer::Lane::Bulk, f)?.blocking_recv().map_err(|_| writer_stopped())?
    }

    /// A long write: `f` is run again and again in the bulk lane until it answers [`Step::Done`]. Each step must be
    /// short (well under 50 ms) and leave the data consistent, because a transaction may end after any of them, and a
    /// killed process with it. An `Err` undoes that step and those since the last transaction ended.
    pub fn bulk_steps_blocking<T, F>(&self, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<Step<T>> + Send + 'static,
    {
        self.writer.submit_steps(f)?.blocking_recv().map_err(|_| writer_stopped())?
    }

    /// Queues `f` in the bulk lane without waiting; the receiver answers when it is done.
    pub fn bulk_queued<T, F>(&self, f: F) -> Result<tokio::sync::oneshot::Receiver<Result<T>>>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.writer.submit(writer::Lane::Bulk, f)
    }

    /// Whether people have waited for the writer within the last seconds: then the parts of a long write should be small.
    pub fn is_among_people(&self) -> bool {
        self.writer.people().are_here()
    }

    /// Queues a part of one long write. The receiver answers when the part has run, so that the next can be made; whether
    /// it lasts is known after [`bulk_end_blocking`](Self::bulk_end_blocking): when one part of a [`Share`] fails, those
    /// of the same transaction are undone with it and none after it are run.
    pub fn bulk_part<T, F>(&self, share: &Share, f: F) -> Result<tokio::sync::oneshot::Receiver<Result<T>>>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.writer.submit_part(share.clone(), f)
    }

    /// Waits until every part of `share` that was queued is committed, and so can be read; an error when one was not.
    pub fn bulk_end_blocking(&self, share: &Share) -> Result<()> {
        self.writer.submit_end(share.clone())?.blocking_recv().map_err(|_| writer_stopped())?
    }
}

fn writer_stopped() -> Error {
    Error::Unavailable { message: "The database is shutting down. Nothing was changed.".into(), retry_after_s: 5 }
}

/// Opens one connection with every protection switched on, and reads back that it is.
fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, OpenError> {
    let fail = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { path: path.to_owned(), source }
        }
        _ => OpenError::Sqlite { path: path.to_owned(), source },
    };
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(fail)?;
    connection.busy_timeout(std::time::Duration::from_secs(10)).map_err(fail)?;
    // Only a new file takes it: with larger pages a run writes fewer of them, and half the time.
    connection.execute_batch("PRAGMA page_size=16384").map_err(fail)?;
    let mode: String = connection.query_row("PRAGMA journal_mode=wal", [], |row| row.get(0)).map_err(fail)?;
    if mode != "wal" {
        return Err(OpenError::NotWal { path: path.to_owned(), mode });
    }
    connection
        .execute_batch(
            "PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON;
             PRAGMA temp_store=MEMORY; PRAGMA mmap_size=0;",
        )
        .map_err(fail)?;
    connection.pragma_update(None, "journal_size_limit", checkpoint::LOG_BYTES_KEPT).map_err(fail)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

#[cfg(test)]
mod tests;
