//! Audit: the one way to change anything, and the log that shows tampering.
//!
//! [`change`] commits a change and its records in one transaction; [`record`] writes what is not a change (a failed
//! sign-in, a refused request, an export). Owns `audit_record` and `audit_head`. Invariants: sequence numbers have no
//! gap; each record's hash covers its content and the hash before it (SHA-256 over a length-prefixed encoding, so
//! that no two contents look alike); the newest record is also kept under the master key, so that a cut-off tail
//! shows. Secrets never come here.
//!
//! Why the head is read from the table on every write and not kept in memory: the command line writes from another
//! process while the server runs.

mod api;
mod chain;
mod flood;
mod model;
mod owned;
mod pages;
mod queries;
#[cfg(test)]
mod tests;
mod verify;

use rusqlite::Connection;

pub use flood::Flood;
pub use model::{Entry, Outcome, Record};
pub use owned::OWNED;
pub use queries::newest_of;
pub use verify::{Finding, Report, verify};

use crate::{
    error::{Error, Result},
    kernel::Kernel,
    principal::{Level, Permission, Principal, Service},
    web::{self, Routes},
};

/// Runs `f` in one transaction and writes the records it answers, by `principal`, in the same one. An error, from
/// `f` or from the log, undoes both.
pub async fn change<T, F>(kernel: &Kernel, principal: &Principal, f: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<(T, Vec<Entry>)> + Send + 'static,
{
    let (kernel_, principal, ongoing) = (kernel.clone(), principal.clone(), web::ongoing());
    kernel
        .db
        .write(move |connection| {
            if let (Some(ongoing), Some(account)) = (&ongoing, principal.account) {
                ongoing.check(|| newest_of(connection, account))?;
            }
            let written = write(&kernel_, connection, &principal, f)?;
            if let Some(ongoing) = &ongoing {
                if written.is_refusal {
                    ongoing.note_refusal();
                }
                if written.has_changed {
                    ongoing.note_change(connection)?;
                }
            }
            Ok(written.value)
        })
        .await
}

/// [`change`] that may be refused: that somebody asked for what they may not do is put on the record as `attempt`.
pub async fn attempt<T, F>(kernel: &Kernel, principal: &Principal, attempt: Entry, f: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<(T, Vec<Entry>)> + Send + 'static,
{
    let done = change(kernel, principal, f).await;
    if let Err(Error::Forbidden(why)) = &done {
        record(kernel, principal, vec![attempt.outcome(Outcome::Denied).detail("why", why)]).await?;
    }
    done
}

/// [`change`] for a thread that may block (a run, the command line).
pub fn change_blocking<T, F>(kernel: &Kernel, principal: &Principal, f: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<(T, Vec<Entry>)> + Send + 'static,
{
    let (kernel_, principal) = (kernel.clone(), principal.clone());
    kernel.db.write_blocking(move |connection| write(&kernel_, connection, &principal, f).map(|written| written.value))
}

/// Writes records that accompany no change.
pub async fn record(kernel: &Kernel, principal: &Principal, entries: Vec<Entry>) -> Result<()> {
    let (kernel_, principal) = (kernel.clone(), principal.clone());
    let written =
        kernel.db.write(move |connection| write(&kernel_, connection, &principal, |_| Ok(((), entries)))).await?;
    if let Some(ongoing) = web::ongoing().filter(|_| written.is_refusal) {
        ongoing.note_refusal();
    }
    Ok(())
}

/// What a transaction has written.
struct Written<T> {
    value: T,
    /// There was something to record.
    has_changed: bool,
    /// It was recorded that somebody did not get what they asked for.
    is_refusal: bool,
}

fn write<T>(
    kernel: &Kernel,
    connection: &Connection,
    principal: &Principal,
    f: impl FnOnce(&Connection) -> Result<(T, Vec<Entry>)>,
) -> Result<Written<T>> {
    let (value, entries) = f(connection)?;
    let (has_changed, is_refusal) =
        (!entries.is_empty(), entries.iter().any(|entry| entry.outcome != Outcome::Success));
    chain::append(connection, &kernel.key, kernel.clock.now(), principal, entries)?;
    Ok(Written { value, has_changed, is_refusal })
}

/// The pages and the API of the log.
pub fn routes(routes: &mut Routes) {
    let read = Permission::Needs(Service::Audit, Level::Read);
    routes.get("/logs", read, pages::list);
    routes.get("/logs/export", read, pages::export).asks_again();
    routes.get("/logs/{id}", read, pages::detail);
    routes.api::<api::__path_list, _, _>(read, api::list);
    routes.api::<api::__path_get, _, _>(read, api::get);
}
