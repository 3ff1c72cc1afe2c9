//! OpenLDAP and directories like it: reading people and groups.
//!
//! The external id is `entryUUID` (RFC 4530). People and groups are read in pages with simple paged results
//! (RFC 2696); account status comes from the password policy overlay. Membership is read from groups only, never from
//! `memberOf`.
//!
//! Owns settings, mapping and the order of reading. It must never follow a referral, read on another server after
//! objects of one have been delivered (two replicas need not agree), or call a reading complete that was cut.

pub mod act;
pub mod cookie;
mod delta;
#[cfg(test)]
mod delta_tests;
pub mod mapping;
#[cfg(test)]
mod mapping_tests;
pub mod policy;
mod probe;
mod scan;
pub mod settings;
#[cfg(test)]
mod tests;
mod watch;
mod watermark;

use tokio::sync::{mpsc, watch as told};

pub use self::settings::{Preset, Scope, Settings};
use self::{
    mapping::Mapper,
    policy::{Policies, Policy},
    scan::{Scanner, What},
    watermark::{Method, Watermark},
};
use crate::connectors::ldap::Credentials;
use crate::connectors::{
    BoxFuture, Connector, Delta, DeltaEnd, DeltaStop, Failure, FailureKind, Heard, Page, ProbeReport, ReadEnd, Sample,
    Subject, WatchStop,
    ldap::{
        self, Client, Connection, Endpoint, EntryView, Limits, RootDse, SearchRequest, Timeouts, Trust, dn,
        inbox::Plainly,
        pages::{Pages, or_cancelled, read_all},
        sample,
    },
};

/// An OpenLDAP directory, opened with its settings and credentials.
pub struct OpenLdap {
    settings: Settings,
    client: Client,
    now: jiff::Timestamp,
}

impl OpenLdap {
    /// Opens nothing yet. `now` is the moment with which expiry times are compared.
    ///
    /// Settings that [`Settings::check`] refuses are accepted here and fail when used, with their reason.
    pub fn new(settings: Settings, credentials: Credentials, now: jiff::Timestamp) -> Self {
        let client = Client::new(settings.way(), credentials);
        Self { settings, client, now }
    }

    /// The same with other limits, for tests.
    pub fn with_limits(mut self, timeouts: Timeouts, limits: Limits) -> Self {
        self.client.timeouts = timeouts;
        self.client.limits = limits;
        self
    }

    fn require_valid(&self) -> Result<(), Failure> {
        ldap::require_valid(self.settings.check())
    }

    async fn read(&self, pages: mpsc::Sender<Page>) -> Result<ReadEnd, Failure> {
        self.require_valid()?;
        let trust = self.client.trust()?;
        let mut turns = self.client.turns(None).await?;
        while let Some(endpoint) = turns.next_server() {
            let mut out = Pages::new(&pages);
            match self.read_from(endpoint, trust.as_ref(), &mut out).await {
                Ok(watermark) => {
                    let server = endpoint.to_string();
                    return Ok(ReadEnd { server, watermark: Some(watermark.to_json()), counted: None });
                }
                Err(failure) => turns.failed(failure, out.has_objects())?,
            }
        }
        Err(turns.end())
    }

    async fn read_from(
        &self,
        endpoint: &Endpoint,
        trust: Option<&Trust>,
        out: &mut Pages<'_>,
    ) -> Result<Watermark, Failure> {
        let mut connection = or_cancelled(out.sender(), self.client.open(endpoint, trust)).await?;
        let root = or_cancelled(out.sender(), connection.root_dse()).await;
        let root = tolerate(root)?.unwrap_or_default();
        // Before the first page: what changes while it is read is read again, not lost.
        let mut watermark = or_cancelled(out.sender(), self.begin(&mut connection, &root)).await?;
        let is_by_time = matches!(watermark.method, Method::Timestamps(_));
        let policies = or_cancelled(out.sender(), self.read_policies(&mut connection, Some(&root))).await?;
        let scanner = Scanner::new(&self.settings, policies.clone(), self.now.as_second());
        out.map_with(Mapper::new(&self.settings, policies, self.now.as_second()));
        let filters = (self.settings.user_filter(), self.settings.group_filter());
        let newest = self.read_objects(&mut connection, &scanner, filters, is_by_time, out).await?;
        if is_by_time {
            watermark.method = Method::Timestamps(self.since(newest));
        }
        connection.close().await;
        Ok(watermark)
    }

    /// All users that fit the first filter, and twice all groups that fit the second. Answers the newest
    /// `modifyTimestamp`, which is asked for when `is_by_time`.
    async fn read_objects(
        &self,
        connection: &mut Connection,
        scanner: &Scanner,
        (users, groups): (&str, &str),
        is_by_time: bool,
        out: &mut Pages<'_>,
    ) -> Result<Option<i64>, Failure> {
        let mut newest = None;
        for what in [What::Users, What::GroupsSeen, What::Groups] {
            let attributes = self.attributes(what, is_by_time);
            let (bases, filter) = match what {
                What::Users => (self.settings.user_bases(), users),
                What::GroupsSeen | What::Groups => (self.settings.group_bases(), groups),
            };
            let mut look = scanner.look(what);
            for base in bases {
                let search = connection.search(self.request(base, filter, &attributes));
                read_all(search, &mut look, out).await?;
            }
            newest = newest.max(look.newest);
        }
        Ok(newest)
    }

    /// The attributes to ask for.
    fn attributes(&self, what: What, is_by_time: bool) -> Vec<String> {
        let mut names = match what {
            What::Users => Mapper::user_attributes(&self.settings),
            What::GroupsSeen => vec!["entryUUID".to_owned()],
            What::Groups => Mapper::group_attributes(&self.settings),
        };
        if is_by_time && what != What::GroupsSeen {
            names.push("modifyTimestamp".to_owned());
        }
        names
    }

    fn request(&self, base: String, filter: &str, attributes: &[String]) -> SearchRequest {
        SearchRequest {
            base,
            scope: self.settings.scope.into(),
            filter: filter.to_owned(),
            attributes: attributes.to_vec(),
            page_size: self.settings.page_size(),
            entries_max: None,
        }
    }

    /// The password policies that the bind DN may read. A directory without any, or that hides them, is no failure:
    /// expiry is then unknown and nobody is called expired.
    async fn read_policies(&self, connection: &mut Connection, root: Option<&RootDse>) -> Result<Policies, Failure> {
        let mut policies = Policies::default();
        let root = match root {
            Some(root) => root.clone(),
            None => tolerate(connection.root_dse().await)?.unwrap_or_default(),
        };
        let contexts = policy_bases(&self.settings, &root.naming_contexts);
        let default_dn = tolerate(find_default_policy(connection).await)?.flatten();
        for base in contexts {
            let mut search = connection.search(SearchRequest {
                base,
                scope: ldap::Scope::Sub,
                filter: "(objectClass=pwdPolicy)".to_owned(),
                attributes: ["pwdMaxAge", "pwdLockoutDuration", "cn"].map(str::to_owned).to_vec(),
                page_size: self.settings.page_size(),
                entries_max: Some(1000),
            });
            let mut named_default: Vec<Policy> = Vec::new();
            while let Some(Some(chunk)) = tolerate(search.next(&mut Plainly).await)? {
                for entry in chunk.entries().filter_map(EntryView::read) {
                    let Some(dn) = std::str::from_utf8(entry.dn).ok().and_then(|dn| dn::normalise(dn).ok()) else {
                        continue;
                    };
                    let seconds = |name| entry.text(name).and_then(|text| text.trim().parse::<i64>().ok()).unwrap_or(0);
                    let policy = Policy { max_age_s: seconds("pwdMaxAge"), lockout_s: seconds("pwdLockoutDuration") };
                    if default_dn.as_ref() == Some(&dn) {
                        policies.default = Some(policy);
                    }
                    if entry.text("cn").is_some_and(|cn| cn.to_ascii_lowercase().contains("default")) {
                        named_default.push(policy);
                    }
                    policies.by_dn.insert(dn, policy);
                }
            }
            // Which policy is the default stands in cn=config, which reading accounts seldom see. One that is called
            // default, and only one, is taken for it.
            if let (None, None, [only]) = (&default_dn, policies.default, named_default.as_slice()) {
                policies.default = Some(*only);
            }
        }
        Ok(policies)
    }

    async fn read_sample(&self) -> Result<Sample, Failure> {
        self.require_valid()?;
        let trust = self.client.trust()?;
        let mut turns = self.client.turns(None).await?;
        while let Some(endpoint) = turns.next_server() {
            match self.sample_from(endpoint, trust.as_ref()).await {
                Ok(sample) => return Ok(sample),
                Err(failure) => turns.failed(failure, false)?,
            }
        }
        Err(turns.end())
    }

    async fn sample_from(&self, endpoint: &Endpoint, trust: Option<&Trust>) -> Result<Sample, Failure> {
        let mut connection = self.client.open(endpoint, trust).await?;
        let policies = self.read_policies(&mut connection, None).await?;
        let mut mapper = Mapper::new(&self.settings, policies, self.now.as_second());
        // Everything is shown, also what the settings would not keep: choosing is what the form is for.
        let mut attributes = Mapper::user_attributes(&self.settings);
        attributes.insert(0, "*".to_owned());
        attributes.dedup();
        let bases = self.settings.user_bases().into_iter();
        let requests = bases.map(|base| self.request(base, self.settings.user_filter(), &attributes)).collect();
        let found = sample::richest(&mut connection, requests, &mut mapper).await?;
        connection.close().await;
        Ok(found)
    }
}

impl Connector for OpenLdap {
    fn probe(&self) -> BoxFuture<'_, ProbeReport> {
        Box::pin(self.try_each_step())
    }

    fn read_full(&self, pages: mpsc::Sender<Page>) -> BoxFuture<'_, Result<ReadEnd, Failure>> {
        Box::pin(self.read(pages))
    }

    fn delta(&self) -> Option<&dyn Delta> {
        Some(self)
    }

    fn sample(&self) -> BoxFuture<'_, Result<Sample, Failure>> {
        Box::pin(self.read_sample())
    }
}

impl Delta for OpenLdap {
    fn read_changes<'a>(
        &'a self,
        watermark: &'a str,
        pages: mpsc::Sender<Page>,
    ) -> BoxFuture<'a, Result<DeltaEnd, DeltaStop>> {
        Box::pin(self.changes(watermark, pages))
    }

    fn read_identities(
        &self,
        external_ids: Vec<String>,
        pages: mpsc::Sender<Page>,
    ) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.read_again(Subject::Identity, external_ids, pages))
    }

    fn read_groups(&self, external_ids: Vec<String>, pages: mpsc::Sender<Page>) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.read_again(Subject::Group, external_ids, pages))
    }

    fn watch<'a>(
        &'a self,
        watermark: &'a str,
        heard: told::Sender<Heard>,
    ) -> Option<BoxFuture<'a, Result<(), WatchStop>>> {
        Some(Box::pin(self.wait_for_changes(watermark, heard)))
    }
}

/// A side question may be refused; it may not cost the connection.
fn tolerate<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(failure)
            if matches!(
                failure.kind,
                FailureKind::TimedOut
                    | FailureKind::ConnectionLost
                    | FailureKind::ProtocolViolation
                    | FailureKind::Cancelled
            ) =>
        {
            Err(failure)
        }
        Err(_) => Ok(None),
    }
}

/// `olcPPolicyDefault`, where the bind DN may read cn=config.
async fn find_default_policy(connection: &mut Connection) -> Result<Option<String>, Failure> {
    let mut search = connection.search(SearchRequest {
        base: "cn=config".to_owned(),
        scope: ldap::Scope::Sub,
        filter: "(olcPPolicyDefault=*)".to_owned(),
        attributes: vec!["olcPPolicyDefault".to_owned()],
        page_size: 0,
        entries_max: None,
    });
    let mut found = None;
    while let Some(chunk) = search.next(&mut Plainly).await? {
        for entry in chunk.entries().filter_map(EntryView::read) {
            found = found.or_else(|| entry.text("olcPPolicyDefault").and_then(|dn| dn::normalise(dn).ok()));
        }
    }
    Ok(found)
}

/// Where policies are looked for: the naming contexts that hold a base, or what the bases' `dc` parts say.
fn policy_bases(settings: &Settings, naming_contexts: &[String]) -> Vec<String> {
    let bases = settings.user_bases();
    let bases = bases.iter().filter_map(|base| dn::normalise(base).ok());
    let mut found: Vec<String> = bases.map(|base| watermark::context_of(&base, naming_contexts)).collect();
    found.sort();
    found.dedup();
    found
}
