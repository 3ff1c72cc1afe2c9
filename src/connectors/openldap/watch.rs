//! Live mode: waiting until slapd says that something has changed (RFC 4533, refreshAndPersist).
//!
//! It only wakes: what has changed is read by an ordinary reading of changes, whose checks and order it would have to
//! repeat otherwise. It must never call an entry changed that the server only says is there, nor wake for what reading
//! itself does: a server may write each bind down in the entry that binds (slapd's `lastbind`), and then each run would
//! lead to the next. What else changes in that entry, the next run for another reason reads.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    OpenLdap,
    watermark::{Mark, Method, Watermark, lost},
};
use crate::connectors::{
    Heard, WatchStop,
    ldap::{
        Connection, Endpoint, Trust,
        answer::{Violation, control_value},
        dn,
        errors::{self, Operation, ServerResult},
        inbox::{Look, RawEntry},
        reader::Listened,
        sync::{self, Mode, State, SyncMessage},
    },
};

/// Silence after which a connection is taken up anew: one that a firewall has dropped says nothing for ever.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// RFC 4511 appendix A: the server does not know a control that it may not ignore.
const UNAVAILABLE_CRITICAL_EXTENSION: u32 = 12;

/// The searches of one watch, which is on when every one of them is.
struct Told<'h> {
    heard: &'h watch::Sender<Heard>,
    silent: AtomicUsize,
}

impl Told<'_> {
    fn one_answered(&self) {
        if self.silent.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.heard.send_modify(|heard| heard.is_listening = true);
        }
    }
}

impl OpenLdap {
    /// See [`Delta::watch`](crate::connectors::Delta::watch).
    pub(super) async fn wait_for_changes(&self, json: &str, heard: watch::Sender<Heard>) -> Result<(), WatchStop> {
        self.require_valid()?;
        let before = Watermark::parse(json, &self.settings)?;
        let Method::Syncrepl(marks) = &before.method else {
            return Err(not_offered(&before.server));
        };
        let trust = self.client.trust()?;
        let mut turns = self.client.turns(Some(&before.server)).await?;
        while let Some(endpoint) = turns.next_server() {
            // One connection for each base: a search that goes on has it for itself.
            let mut bases: Vec<&Mark> = Vec::new();
            for mark in marks {
                if !bases.iter().any(|other| other.base == mark.base) {
                    bases.push(mark);
                }
            }
            let told = Told { heard: &heard, silent: AtomicUsize::new(bases.len()) };
            let watching =
                bases.into_iter().map(|mark| Box::pin(self.watch_base(endpoint, trust.as_ref(), mark, &told)));
            // The first that ends ends all: they are taken up together again.
            let ended = futures_util::future::select_all(watching).await.0;
            heard.send_if_modified(|heard| std::mem::take(&mut heard.is_listening));
            match ended {
                Err(WatchStop::Failed(failure)) => turns.failed(failure, false)?,
                ended => return ended,
            }
        }
        Err(turns.end().into())
    }

    async fn watch_base(
        &self,
        endpoint: &Endpoint,
        trust: Option<&Trust>,
        mark: &Mark,
        told: &Told<'_>,
    ) -> Result<(), WatchStop> {
        tokio::select! {
            biased;
            ended = self.watch_connection(endpoint, trust, mark, told) => ended,
            () = told.heard.closed() => Ok(()),
        }
    }

    async fn watch_connection(
        &self,
        endpoint: &Endpoint,
        trust: Option<&Trust>,
        mark: &Mark,
        told: &Told<'_>,
    ) -> Result<(), WatchStop> {
        let mut connection: Connection = self.client.open(endpoint, trust).await?;
        let filter = format!("(|{}{})", self.settings.user_filter(), self.settings.group_filter());
        let request = self.request(mark.base.clone(), &filter, &["1.1".to_owned()]);
        let control = sync::request(Mode::RefreshAndPersist, mark.cookie.as_bytes());
        let id = connection.ask(&request, 0, &[control]).await?;
        let own = dn::normalise(&self.client.credentials.bind_dn).ok();
        let mut look = Changed { own, ..Changed::default() };
        let mut is_on = false;
        loop {
            let listened = connection.listen(id, &mut look, PATIENCE).await?;
            if look.is_answered && !std::mem::replace(&mut is_on, true) {
                told.one_answered();
            }
            if std::mem::take(&mut look.is_changed) {
                told.heard.send_modify(|heard| heard.changes += 1);
            }
            look.is_told = is_on;
            match listened {
                Listened::More => (),
                Listened::Nothing => return Ok(()),
                Listened::Over(end) => match end.code {
                    0 => return Ok(()),
                    4096 => {
                        return Err(lost(&format!(
                            "{endpoint} no longer knows what has changed since the last run (LDAP result 4096)."
                        ))
                        .into());
                    }
                    UNAVAILABLE_CRITICAL_EXTENSION => return Err(not_offered(&endpoint.to_string())),
                    code => {
                        let refused = ServerResult { code, diagnostic: &end.diagnostic, matched: &end.matched };
                        let operation = Operation::Search(&mark.base);
                        return Err(errors::failure(operation, &endpoint.to_string(), refused).into());
                    }
                },
            }
        }
    }
}

fn not_offered(server: &str) -> WatchStop {
    let reason = format!("{server} does not tell changes: it has no overlay syncprov.");
    WatchStop::NotOffered { reason }
}

/// What came, as far as anybody has to know.
#[derive(Default)]
struct Changed {
    /// The normalised DN of the entry that reads.
    own: Option<String>,
    is_changed: bool,
    /// The server has said anything at all about the sync: it has taken the search on.
    is_answered: bool,
    /// That was passed on.
    is_told: bool,
}

impl Changed {
    fn is_own(&self, dn: &[u8]) -> bool {
        let Some(own) = &self.own else { return false };
        std::str::from_utf8(dn).is_ok_and(|dn| dn::normalise(dn).is_ok_and(|dn| dn == *own))
    }
}

impl Look for Changed {
    type Seen = ();

    fn entry(&mut self, entry: RawEntry<'_>) -> Result<Option<()>, Violation> {
        let value = control_value(entry.controls, sync::SYNC_STATE);
        let state = sync::entry_state(value.ok_or(Violation::Shape("an entry of a sync has no Sync State control"))?)?;
        self.is_answered = true;
        let entry = entry.walk(|_, _| ())?;
        self.is_changed |= match state.state {
            State::Present => false,
            State::Delete => true,
            State::Add | State::Modify => !self.is_own(entry.dn),
        };
        Ok(None)
    }

    fn intermediate(&mut self, name: &[u8], value: &[u8]) -> Result<bool, Violation> {
        if name != sync::SYNC_INFO.as_bytes() {
            return Ok(false);
        }
        self.is_answered = true;
        match sync::message(value)? {
            // Which are gone follows from a list of those that are there: somebody has to look.
            SyncMessage::IdSet { .. } | SyncMessage::RefreshPresent { .. } => self.is_changed = true,
            SyncMessage::RefreshDelete { .. } | SyncMessage::NewCookie(_) => (),
        }
        Ok(true)
    }

    fn is_content(&self) -> bool {
        self.is_changed || (self.is_answered && !self.is_told)
    }
}
