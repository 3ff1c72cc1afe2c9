//! OpenLDAP and directories like it: reading people and groups.
//!
//! The external id is `entryUUID` (RFC 4530). People and groups are read in pages with simple paged results
//! (RFC 2696); account status comes from the password policy overlay. Membership is read from groups only, never from
//! `memberOf`.
//!
//! Owns settings, mapping and the order of reading. It must never follow a referral, read on another server after
//! objects of one have been delivered (two replicas need not agree), or call a reading complete that was cut.

pub mod cookie;
pub mod mapping;
#[cfg(test)]
mod mapping_tests;
mod pages;
pub mod policy;
mod probe;
mod scan;
pub mod settings;
#[cfg(test)]
mod tests;

use tokio::sync::mpsc;

pub use self::settings::{Mapping, Preset, Scope, Settings};
use self::{
    mapping::Mapper,
    pages::Pages,
    policy::Policies,
    scan::{Scanner, What},
};
pub use crate::connectors::ldap::Credentials;
use crate::connectors::{
    BoxFuture, Connector, Delta, Failure, FailureKind, Page, ProbeReport, ReadEnd, Sample, Sighting,
    ldap::{
        self, Client, Connection, Endpoint, EntryView, Limits, Search, SearchRequest, Timeouts, Trust, dn,
        inbox::{Look, Plainly},
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
        let client = Client {
            endpoints: settings.servers.iter().filter_map(|server| Endpoint::parse(server).ok()).collect(),
            start_tls: settings.start_tls,
            accept_plaintext: settings.accept_plaintext,
            ca_pem: settings.ca_pem().map(str::to_owned),
            credentials,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
        };
        Self { settings, client, now }
    }

    /// The same with other limits, for tests.
    pub fn with_limits(mut self, timeouts: Timeouts, limits: Limits) -> Self {
        self.client.timeouts = timeouts;
        self.client.limits = limits;
        self
    }

    fn require_valid(&self) -> Result<(), Failure> {
        match self.settings.check().into_iter().next() {
            None => Ok(()),
            Some(error) => Err(Failure::new(
                if error.field == "acceptPlaintext" {
                    FailureKind::PlaintextNotAccepted
                } else {
                    FailureKind::InvalidSettings
                },
                error.message,
                format!("Correct “{}” in the directory's settings.", error.field),
            )),
        }
    }

    async fn read(&self, pages: mpsc::Sender<Page>) -> Result<ReadEnd, Failure> {
        self.require_valid()?;
        let trust = self.client.trust()?;
        let mut failures = Vec::new();
        for endpoint in &self.client.endpoints {
            let mut out = Pages::new(&pages);
            match self.read_from(endpoint, trust.as_ref(), &mut out).await {
                Ok(()) => return Ok(ReadEnd { server: endpoint.to_string(), ..ReadEnd::default() }),
                Err(failure) if out.has_objects() || !Client::may_try_next(&failure) => return Err(failure),
                Err(failure) => failures.push((endpoint.clone(), failure)),
            }
        }
        Err(Client::all_failed(failures))
    }

    async fn read_from(&self, endpoint: &Endpoint, trust: Option<&Trust>, out: &mut Pages<'_>) -> Result<(), Failure> {
        let mut connection = or_cancelled(out.sender(), self.client.open(endpoint, trust)).await?;
        let policies = or_cancelled(out.sender(), self.read_policies(&mut connection)).await?;
        let scanner = Scanner::new(&self.settings, policies.clone(), self.now.as_second());
        out.map_with(Mapper::new(&self.settings, policies, self.now.as_second()));
        let attributes = Mapper::user_attributes(&self.settings);
        for base in self.settings.user_bases() {
            let search = connection.search(self.request(base, self.settings.user_filter(), &attributes));
            read_all(search, &mut scanner.look(What::Users), out).await?;
        }
        let id_only = ["entryUUID".to_owned()];
        for base in self.settings.group_bases() {
            let search = connection.search(self.request(base, self.settings.group_filter(), &id_only));
            read_all(search, &mut scanner.look(What::GroupsSeen), out).await?;
        }
        let attributes = Mapper::group_attributes(&self.settings);
        for base in self.settings.group_bases() {
            let search = connection.search(self.request(base, self.settings.group_filter(), &attributes));
            read_all(search, &mut scanner.look(What::Groups), out).await?;
        }
        connection.close().await;
        Ok(())
    }

    fn request(&self, base: String, filter: &str, attributes: &[String]) -> SearchRequest {
        SearchRequest {
            base,
            scope: match self.settings.scope {
                Scope::Sub => ldap::Scope::Sub,
                Scope::One => ldap::Scope::One,
            },
            filter: filter.to_owned(),
            attributes: attributes.to_vec(),
            page_size: self.settings.page_size(),
            entries_max: None,
        }
    }

    /// The password policies that the bind DN may read. A directory without any, or that hides them, is no failure:
    /// expiry is then unknown and nobody is called expired.
    async fn read_policies(&self, connection: &mut Connection) -> Result<Policies, Failure> {
        let mut policies = Policies::default();
        let contexts =
            policy_bases(&self.settings, &tolerate(connection.root_dse().await)?.unwrap_or_default().naming_contexts);
        let default_dn = tolerate(find_default_policy(connection).await)?.flatten();
        for base in contexts {
            let mut search = connection.search(SearchRequest {
                base,
                scope: ldap::Scope::Sub,
                filter: "(objectClass=pwdPolicy)".to_owned(),
                attributes: vec!["pwdMaxAge".to_owned(), "cn".to_owned()],
                page_size: self.settings.page_size(),
                entries_max: Some(1000),
            });
            let mut named_default: Vec<i64> = Vec::new();
            while let Some(Some(chunk)) = tolerate(search.next(&mut Plainly).await)? {
                for entry in chunk.entries().filter_map(EntryView::read) {
                    let Some(dn) = std::str::from_utf8(entry.dn).ok().and_then(|dn| dn::normalise(dn).ok()) else {
                        continue;
                    };
                    let max_age_s = entry.text("pwdMaxAge").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
                    if default_dn.as_ref() == Some(&dn) {
                        policies.default_max_age_s = Some(max_age_s);
                    }
                    if entry.text("cn").is_some_and(|cn| cn.to_ascii_lowercase().contains("default")) {
                        named_default.push(max_age_s);
                    }
                    policies.by_dn.insert(dn, max_age_s);
                }
            }
            // Which policy is the default stands in cn=config, which reading accounts seldom see. One that is called
            // default, and only one, is taken for it.
            if let (None, None, [only]) = (&default_dn, policies.default_max_age_s, named_default.as_slice()) {
                policies.default_max_age_s = Some(*only);
            }
        }
        Ok(policies)
    }

    async fn read_sample(&self) -> Result<Sample, Failure> {
        self.require_valid()?;
        let trust = self.client.trust()?;
        let mut failures = Vec::new();
        for endpoint in &self.client.endpoints {
            match self.sample_from(endpoint, trust.as_ref()).await {
                Ok(sample) => return Ok(sample),
                Err(failure) if !Client::may_try_next(&failure) => return Err(failure),
                Err(failure) => failures.push((endpoint.clone(), failure)),
            }
        }
        Err(Client::all_failed(failures))
    }

    /// The richest of the first users, so that the form has something to show.
    async fn sample_from(&self, endpoint: &Endpoint, trust: Option<&Trust>) -> Result<Sample, Failure> {
        const LOOKED_AT: u32 = 20;
        let mut connection = self.client.open(endpoint, trust).await?;
        let policies = self.read_policies(&mut connection).await?;
        let mut mapper = Mapper::new(&self.settings, policies, self.now.as_second());
        // Everything is shown, also what the settings would not keep: choosing is what the form is for.
        let mut attributes = Mapper::user_attributes(&self.settings);
        attributes.insert(0, "*".to_owned());
        attributes.dedup();
        for base in self.settings.user_bases() {
            let mut request = self.request(base, self.settings.user_filter(), &attributes);
            request.page_size = request.page_size.min(LOOKED_AT);
            request.entries_max = Some(LOOKED_AT);
            let mut search = connection.search(request);
            let mut best: Option<(usize, Sample)> = None;
            while let Some(chunk) = search.next(&mut Plainly).await? {
                for entry in chunk.entries().filter_map(EntryView::read) {
                    let count = entry.attributes().count();
                    if best.as_ref().is_some_and(|(before, _)| *before >= count) {
                        continue;
                    }
                    let mapped = mapper.identity(&entry).map(|identity| identity.fields).unwrap_or_default();
                    let dn = String::from_utf8_lossy(entry.dn).into_owned();
                    best = Some((count, Sample { dn, attributes: mapping::raw(&entry), mapped }));
                }
            }
            if let Some((_, sample)) = best {
                connection.close().await;
                return Ok(sample);
            }
        }
        Err(Failure::new(
            FailureKind::Other,
            "No user was found, so there is no entry to show.",
            "Check the base DN and the user filter, and that the bind DN may read users.",
        ))
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
        None
    }

    fn sample(&self) -> BoxFuture<'_, Result<Sample, Failure>> {
        Box::pin(self.read_sample())
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
    let bases: Vec<String> = settings.user_bases().iter().filter_map(|base| dn::normalise(base).ok()).collect();
    let mut found: Vec<String> = naming_contexts
        .iter()
        .filter_map(|context| dn::normalise(context).ok())
        .filter(|context| !context.is_empty() && bases.iter().any(|base| dn::is_within(base, context)))
        .collect();
    if found.is_empty() {
        found = bases
            .iter()
            .map(|base| match base.find("dc=") {
                Some(0) => base.clone(),
                _ => base.find(",dc=").and_then(|at| base.get(at + 1..)).unwrap_or(base).to_owned(),
            })
            .collect();
    }
    found.sort();
    found.dedup();
    found
}

/// Reads a search to its end, unless nobody wants it any more.
async fn read_all(
    mut search: Search<'_>,
    look: &mut (impl Look<Seen = Sighting> + Send),
    out: &mut Pages<'_>,
) -> Result<(), Failure> {
    while let Some(chunk) = or_cancelled(out.sender(), search.next(look)).await? {
        out.send(chunk).await?;
    }
    Ok(())
}

async fn or_cancelled<T>(
    sender: &mpsc::Sender<Page>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        done = work => done,
        () = sender.closed() => Err(cancelled()),
    }
}

fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "The reading was stopped.", "Start it again when you want to.")
}
