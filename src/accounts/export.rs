//! Everything of an account as one file, while it is still there: for whoever may delete it, and for the command line.
//!
//! Owns how the file leaves (what is in it: `crate::owned`). It is written row by row, so a million identities need no
//! more memory than a few hundred, and it never holds the writer: it is one read transaction, so all of it is as of one
//! moment.
//!
//! While a read transaction lasts, SQLite cannot start its log anew: the log grows by all that is written meanwhile, and
//! bulk writes slow down (`db::checkpoint`). So the transaction must not last as long as somebody takes to download: the
//! rows go into a file without a name in the data directory, as fast as the disk takes them, and the answer reads behind.
//!
//! Two things are bounded, each as long as it is held. A few are written at a time, of all accounts; the next one waits
//! until one of them is written, which no reader can put off by being slow. The file takes as much room as the export is
//! long until the download ends, however it ends; so each account makes one export at a time, and is told so.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::{HttpResponse, web::Bytes};
use futures_util::stream;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{account_urn, actions::Belongings, model::Account, queries};
use crate::{
    audit::{self, Entry},
    clock::Time,
    error::{Error, Result},
    kernel::Kernel,
    owned::{self, Head, Sink},
    principal::{AccountId, Principal},
};

/// Bytes that are handed to the network at once.
const PIECE_BYTES: u64 = 64 * 1024;
/// Exports that are written at the same time, of all accounts. Each holds one of the few connections that everybody reads
/// by.
const WRITTEN_AT_ONCE: usize = 2;
/// When to ask again, while another export of the account is on its way.
const ASK_AGAIN_S: u64 = 30;

/// Which accounts are being exported; cheap to clone, one for the whole process.
#[derive(Clone)]
pub struct Exporting {
    accounts: Arc<Mutex<HashSet<AccountId>>>,
    places: Arc<Semaphore>,
}

impl Default for Exporting {
    fn default() -> Self {
        Self { accounts: Arc::default(), places: Arc::new(Semaphore::new(WRITTEN_AT_ONCE)) }
    }
}

/// Held as long as an export is on its way, to the end of its download.
struct Turn {
    exporting: Exporting,
    account: AccountId,
}

impl Exporting {
    fn begin(&self, account: AccountId) -> Result<Turn> {
        if !self.accounts.lock().unwrap_or_else(PoisonError::into_inner).insert(account) {
            return Err(Error::TooManyRequests { retry_after_s: ASK_AGAIN_S });
        }
        Ok(Turn { exporting: self.clone(), account })
    }

    /// Waits until an export may be written; held as long as that takes.
    async fn place(&self) -> Result<OwnedSemaphorePermit> {
        let place = self.places.clone().acquire_owned();
        place.await.map_err(|e| Error::caused("no export is written any more", e))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.exporting.accounts.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.account);
    }
}

fn entry(account: &Account) -> Entry {
    Entry::new("audit.account_exported.v1").account(account.id).subject(account_urn(account))
}

fn write(c: &Connection, belongings: &Belongings, id: AccountId, now: Time, sink: &mut Sink<'_>) -> Result<u64> {
    let account = queries::find(c, id)?.ok_or(Error::NotFound("This account"))?;
    let directories = (belongings.directories)(c, id)?;
    let head = Head { account: id, alias: account.alias, region: account.region, at: now };
    let tables = belongings.rooms.iter().flat_map(|room| room.tables);
    owned::write(c, &head, tables, &directories, sink)
}

fn failed(source: std::io::Error) -> Error {
    Error::caused("an export could not be written", source)
}

/// Writes the export of any account into a file that nobody else can read; answers how many rows it has. For the command
/// line, also while the account is suspended. An existing file is not overwritten.
pub fn export_blocking(
    kernel: &Kernel,
    principal: &Principal,
    belongings: &Belongings,
    account: &Account,
    path: &Path,
) -> Result<u64> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|source| {
        Error::caused(format!("the file {} could not be made (an existing one is kept)", path.display()), source)
    })?;
    let (entry, now) = (entry(account), kernel.clock.now());
    // On the record before anything is out.
    audit::change_blocking(kernel, principal, move |_| Ok(((), vec![entry])))?;
    let written = kernel.db.read_blocking(|c| {
        let mut sink = |piece: &[u8]| file.write_all(piece).map_err(failed);
        write(c, belongings, account.id, now, &mut sink)
    });
    let ended = written.and_then(|rows| file.sync_all().map_err(failed).map(|()| rows));
    if ended.is_err() && std::fs::remove_file(path).is_err() {
        tracing::warn!(path = %path.display(), "a part of an export could not be removed");
    }
    ended
}

/// How far the file is written.
#[derive(Clone, Copy)]
enum Written {
    Bytes(u64),
    /// Whole: so many.
    All(u64),
    Failed,
}

/// A file without a name: gone with the last of those who hold it.
fn spool(folder: &Path) -> Result<File> {
    let path = folder.join(format!("export-{}.tmp", uuid::Uuid::now_v7()));
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(file)
}

/// What an answer reads, behind what is being written.
struct Reading {
    file: Arc<File>,
    at: u64,
    written: watch::Receiver<Written>,
    has_failed: bool,
    _turn: Turn,
}

impl Reading {
    /// The next bytes; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let (written, is_all) = match *self.written.borrow_and_update() {
                Written::Bytes(bytes) => (bytes, false),
                Written::All(bytes) => (bytes, true),
                Written::Failed => return Err(Error::internal("an export was broken off")),
            };
            if self.at < written {
                let (file, at, length) = (self.file.clone(), self.at, (written - self.at).min(PIECE_BYTES));
                let read = tokio::task::spawn_blocking(move || {
                    let mut piece = vec![0; usize::try_from(length).unwrap_or(0)];
                    file.read_exact_at(&mut piece, at).map(|()| piece)
                });
                let piece =
                    read.await.map_err(|e| Error::caused("reading an export ended early", e))?.map_err(failed)?;
                self.at += length;
                return Ok(Some(Bytes::from(piece)));
            }
            if is_all {
                return Ok(None);
            }
            if self.written.changed().await.is_err() {
                return Err(Error::internal("an export was broken off"));
            }
        }
    }
}

/// The export of the principal's own account, as a download.
pub(super) async fn download(
    kernel: &Kernel,
    principal: &Principal,
    belongings: &Belongings,
    exporting: &Exporting,
) -> Result<HttpResponse> {
    let id = principal.account()?;
    let turn = exporting.begin(id)?;
    let place = exporting.place().await?;
    let now = kernel.clock.now();
    let file = Arc::new(spool(&kernel.config.data_dir)?);
    let account = audit::change(kernel, principal, move |c| {
        let account = queries::find(c, id)?.ok_or(Error::NotFound("This account"))?;
        let entry = entry(&account);
        Ok((account, vec![entry]))
    })
    .await?;
    let (tell, written) = watch::channel(Written::Bytes(0));
    let (kernel, belongings, out) = (kernel.clone(), belongings.clone(), file.clone());
    tokio::spawn(async move {
        let done = kernel.db.read(move |c| {
            let (mut bytes, mut out) = (0_u64, &*out);
            let mut sink = |piece: &[u8]| {
                if tell.is_closed() {
                    return Err(Error::internal("nobody takes the export any more"));
                }
                out.write_all(piece).map_err(failed)?;
                bytes += u64::try_from(piece.len()).unwrap_or(0);
                tell.send_replace(Written::Bytes(bytes));
                Ok(())
            };
            let done = write(c, &belongings, id, now, &mut sink);
            tell.send_replace(if done.is_ok() { Written::All(bytes) } else { Written::Failed });
            done
        });
        let done = done.await;
        drop(place);
        match done {
            Ok(rows) => tracing::info!(account = %id, rows, "an account was exported"),
            Err(error) => tracing::error!(account = %id, error = %error.chain(), "an export was broken off"),
        }
    });
    let reading = Reading { file, at: 0, written, has_failed: false, _turn: turn };
    let body = stream::unfold(reading, |mut reading| async move {
        if reading.has_failed {
            return None;
        }
        let piece = reading.next().await.transpose()?;
        // The connection is broken off, so that a part is not taken for the whole.
        reading.has_failed = piece.is_err();
        Some((piece, reading))
    });
    let day: String = now.rfc3339().chars().take(10).collect();
    let name = format!("attachment; filename=\"{}-{day}.jsonl\"", account.alias);
    Ok(HttpResponse::Ok()
        .content_type("application/jsonl; charset=utf-8")
        .insert_header(("content-disposition", name))
        .streaming(body))
}
