//! Acting on accounts of an LDAP directory: two connections to one server, one that reads and one that changes.
//!
//! Owns how an account is found, how a change is sent, and that both happen on the same server. Which attributes decide
//! and which change does what is the kind of directory's to say ([`Manner`]).

use std::collections::BTreeMap;

use ldap3::{Mod, controls::RawControl};

use super::{Client, Credentials, Endpoint, Guarded, SearchRequest, Trust, errors, guarded, probing};
use crate::connectors::{
    Ability, BoxFuture, Failure, FailureKind, ProbeReport, StepState,
    act::{Act, Action, Actor, Judgement, Standing},
};

/// The assertion control (RFC 4528).
pub const ASSERTION: &str = "1.3.6.1.1.12";

/// One change of an attribute.
pub type Change = Mod<Vec<u8>>;

/// How a kind of LDAP directory acts.
pub trait Manner: Send + Sync {
    /// Where an account is looked for, with the attributes that decide; `None` when the id can't be one.
    fn searches(&self, external_id: &str) -> Option<Vec<SearchRequest>>;

    /// Controls of these searches.
    fn controls(&self) -> Vec<RawControl> {
        Vec::new()
    }

    /// The values that decide, by name in lower case, from what `first` answers: the first value of an attribute.
    fn values(&self, first: &dyn Fn(&str) -> Option<Vec<u8>>) -> BTreeMap<String, String>;

    /// Whether the settings look there at all.
    fn is_within(&self, dn: &str) -> bool;

    /// See [`Act::judge`].
    fn judge(&self, action: Action, standing: &Standing, before: Option<&Standing>) -> Judgement;

    /// What is sent.
    fn changes(&self, action: Action, standing: &Standing, original: Option<&Standing>) -> Vec<Change>;

    /// What a change names the account by, and the control that keeps it from anybody else's entry: between looking and
    /// changing, a name may have become somebody else's. `can_assert`: the server takes assertions (RFC 4528).
    fn aim(&self, external_id: &str, name: &str, can_assert: bool) -> (String, Vec<RawControl>);

    /// What the acting account may do, found out without doing it.
    fn rights<'a>(
        &'a self,
        reader: &'a mut Guarded,
        actor: &'a mut Guarded,
        who: &'a str,
    ) -> BoxFuture<'a, Vec<Ability>>;

    /// The line that gives `who` exactly the right to `action` on this account.
    fn grant(&self, action: Action, who: &str, dn: &str) -> String;
}

/// A directory that is acted on.
pub struct Acting<M> {
    pub client: Client,
    pub act_credentials: Credentials,
    pub manner: M,
}

impl<M: Manner> Acting<M> {
    async fn reach(&self, first: Option<&str>) -> Result<Hands<'_, M>, Failure> {
        let trust = self.client.trust()?;
        let mut turns = self.client.turns(first).await?;
        while let Some(endpoint) = turns.next_server() {
            match self.reach_one(endpoint, trust.as_ref()).await {
                Ok(hands) => return Ok(hands),
                Err(failure) => turns.failed(failure, false)?,
            }
        }
        Err(turns.end())
    }

    async fn reach_one(&self, endpoint: &Endpoint, trust: Option<&Trust>) -> Result<Hands<'_, M>, Failure> {
        let reader = self.client.open_guarded(endpoint, trust, &self.client.credentials).await?;
        // A name may stand for many controllers, of which each holds what it holds.
        self.client.prefer(reader.address());
        let mut actor = self.client.open_guarded(endpoint, trust, &self.act_credentials).await?;
        let can_assert = actor.root_dse().await?.offers(ASSERTION);
        Ok(Hands { acting: self, reader, actor, can_assert })
    }
}

impl<M: Manner> Act for Acting<M> {
    fn begin<'a>(&'a self, first: Option<&'a str>) -> BoxFuture<'a, Result<Box<dyn Actor + 'a>, Failure>> {
        Box::pin(async move { Ok(Box::new(self.reach(first).await?) as Box<dyn Actor>) })
    }

    fn judge(&self, action: Action, standing: &Standing, before: Option<&Standing>) -> Judgement {
        self.manner.judge(action, standing, before)
    }

    fn probe(&self) -> BoxFuture<'_, ProbeReport> {
        Box::pin(self.try_acting())
    }
}

impl<M: Manner> Acting<M> {
    async fn try_acting(&self) -> ProbeReport {
        let who = &self.act_credentials.bind_dn;
        let mut hands = match self.reach(None).await {
            Ok(hands) => hands,
            Err(failure) => {
                let steps = vec![probing::failed("act-bind", None, failure)];
                return ProbeReport { steps, abilities: Vec::new() };
            }
        };
        let abilities = self.manner.rights(&mut hands.reader, &mut hands.actor, who).await;
        let server = hands.actor.server().to_owned();
        let message = format!("{server} accepts {}, which acts.", errors::printable(who));
        Box::new(hands).close().await;
        ProbeReport { steps: vec![probing::step("act-bind", Some(&server), StepState::Ok, message, None)], abilities }
    }
}

struct Hands<'a, M> {
    acting: &'a Acting<M>,
    reader: Guarded,
    actor: Guarded,
    can_assert: bool,
}

impl<M: Manner> Hands<'_, M> {
    async fn find(&mut self, external_id: &str) -> Result<Option<Standing>, Failure> {
        let manner = &self.acting.manner;
        for request in manner.searches(external_id).unwrap_or_default() {
            let found = match self.reader.find_with(&request, manner.controls()).await {
                Ok(found) => found,
                // By its id there is either one or none.
                Err(failure) if failure.kind == FailureKind::NoSuchBase => continue,
                Err(failure) => return Err(failure),
            };
            let Some(entry) = found.entries.first() else { continue };
            let name = guarded::dn(entry);
            if !manner.is_within(&name) {
                continue;
            }
            let mut values = manner.values(&|attribute| guarded::bytes(entry, attribute).into_iter().next());
            // What the reader may not see is not absent: the actor is asked too.
            if let Some(seen) = self.actor.find_with(&request, manner.controls()).await?.entries.first() {
                let more = manner.values(&|attribute| guarded::bytes(seen, attribute).into_iter().next());
                values = more.into_iter().chain(values).collect();
            }
            return Ok(Some(Standing { server: self.reader.server().to_owned(), name, values }));
        }
        Ok(None)
    }

    async fn change(
        &mut self,
        action: Action,
        external_id: &str,
        standing: &Standing,
        original: Option<&Standing>,
    ) -> Result<(), Failure> {
        let changes = self.acting.manner.changes(action, standing, original);
        let who = &self.acting.act_credentials.bind_dn;
        let (target, controls) = self.acting.manner.aim(external_id, &standing.name, self.can_assert);
        let sent = self.actor.modify(&target, who, changes, controls).await;
        sent.map_err(|mut failure| {
            if failure.kind == FailureKind::AccessDenied {
                failure.next_step = self.acting.manner.grant(action, who, &standing.name);
            }
            failure
        })
    }
}

impl<'a, M: Manner> Actor for Hands<'a, M> {
    fn look<'b>(&'b mut self, external_id: &'b str) -> BoxFuture<'b, Result<Option<Standing>, Failure>> {
        Box::pin(self.find(external_id))
    }

    fn send<'b>(
        &'b mut self,
        action: Action,
        external_id: &'b str,
        standing: &'b Standing,
        original: Option<&'b Standing>,
    ) -> BoxFuture<'b, Result<(), Failure>> {
        Box::pin(self.change(action, external_id, standing, original))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        let (reader, actor) = (self.reader, self.actor);
        Box::pin(async move {
            reader.close().await;
            actor.close().await;
        })
    }
}
