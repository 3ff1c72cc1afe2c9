//! Live mode: waiting until slapd says that something has changed (RFC 4533, refreshAndPersist).
//!
//! It only wakes: what has changed is read by an ordinary reading of changes, whose checks and order it would have to
//! repeat otherwise. It must never call an entry changed that the server only says is there.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{
    OpenLdap,
    watermark::{Mark, Method, Watermark, lost},
};
use crate::connectors::{
    DeltaStop,
    ldap::{
        Client, Connection, Endpoint, Trust,
        answer::{Violation, control_value},
        errors::{self, Operation, ServerResult},
        inbox::{Look, RawEntry},
        reader::Listened,
        sync::{self, Mode, State, SyncMessage},
    },
};

/// Silence after which a connection is taken up anew: one that a firewall has dropped says nothing for ever.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

impl OpenLdap {
    /// See [`Delta::watch`](crate::connectors::Delta::watch).
    pub(super) async fn wait_for_changes(&self, json: &str, changed: mpsc::Sender<()>) -> Result<(), DeltaStop> {
        self.require_valid()?;
        let before = Watermark::parse(json, &self.settings)?;
        let Method::Syncrepl(marks) = &before.method else {
            return Err(lost(
                "The server does not tell changes (there is no overlay syncprov), so it can't be watched.",
            ));
        };
        let trust = self.client.trust()?;
        let mut failures = Vec::new();
        for endpoint in self.endpoints_after(&before.server) {
            // One connection for each base: a search that goes on has it for itself.
            let mut bases: Vec<&Mark> = Vec::new();
            for mark in marks {
                if !bases.iter().any(|other| other.base == mark.base) {
                    bases.push(mark);
                }
            }
            let watching =
                bases.into_iter().map(|mark| Box::pin(self.watch_base(endpoint, trust.as_ref(), mark, &changed)));
            // The first that ends ends all: they are taken up together again.
            match futures_util::future::select_all(watching).await.0 {
                Err(DeltaStop::Failed(failure)) if Client::may_try_next(&failure) => {
                    failures.push((endpoint.clone(), failure));
                }
                ended => return ended,
            }
        }
        Err(Client::all_failed(failures).into())
    }

    async fn watch_base(
        &self,
        endpoint: &Endpoint,
        trust: Option<&Trust>,
        mark: &Mark,
        changed: &mpsc::Sender<()>,
    ) -> Result<(), DeltaStop> {
        tokio::select! {
            biased;
            ended = self.watch_connection(endpoint, trust, mark, changed) => ended,
            () = changed.closed() => Ok(()),
        }
    }

    async fn watch_connection(
        &self,
        endpoint: &Endpoint,
        trust: Option<&Trust>,
        mark: &Mark,
        changed: &mpsc::Sender<()>,
    ) -> Result<(), DeltaStop> {
        let mut connection: Connection = self.client.open(endpoint, trust).await?;
        let filter = format!("(|{}{})", self.settings.user_filter(), self.settings.group_filter());
        let request = self.request(mark.base.clone(), &filter, &["1.1".to_owned()]);
        let control = sync::request(Mode::RefreshAndPersist, mark.cookie.as_bytes());
        let id = connection.ask(&request, 0, &[control]).await?;
        let mut look = Changed(false);
        loop {
            let listened = connection.listen(id, &mut look, PATIENCE).await?;
            if std::mem::take(&mut look.0) {
                // Full means that it was said already and nobody has heard it yet.
                let _ = changed.try_send(());
            }
            match listened {
                Listened::More => (),
                Listened::Nothing => return Ok(()),
                Listened::Over(end) if end.code == 4096 => {
                    return Err(lost(&format!(
                        "{endpoint} no longer knows what has changed since the last run (LDAP result 4096)."
                    )));
                }
                Listened::Over(end) => {
                    let refused = ServerResult { code: end.code, diagnostic: &end.diagnostic, matched: &end.matched };
                    return Err(errors::failure(Operation::Search(&mark.base), &endpoint.to_string(), refused).into());
                }
            }
        }
    }
}

/// Whether anything has changed.
struct Changed(bool);

impl Look for Changed {
    type Seen = ();

    fn entry(&mut self, entry: RawEntry<'_>) -> Result<Option<()>, Violation> {
        let value = control_value(entry.controls, sync::SYNC_STATE);
        let state = sync::entry_state(value.ok_or(Violation::Shape("an entry of a sync has no Sync State control"))?)?;
        self.0 |= state.state != State::Present;
        entry.walk(|_, _| ())?;
        Ok(None)
    }

    fn intermediate(&mut self, name: &[u8], value: &[u8]) -> Result<bool, Violation> {
        if name != sync::SYNC_INFO.as_bytes() {
            return Ok(false);
        }
        match sync::message(value)? {
            // Which are gone follows from a list of those that are there: somebody has to look.
            SyncMessage::IdSet { .. } | SyncMessage::RefreshPresent { .. } => self.0 = true,
            SyncMessage::RefreshDelete { .. } | SyncMessage::NewCookie(_) => (),
        }
        Ok(true)
    }

    fn is_content(&self) -> bool {
        self.0
    }
}
