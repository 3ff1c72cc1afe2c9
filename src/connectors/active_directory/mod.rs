//! Active Directory: reading people and groups from a domain controller.
//!
//! The external id is `objectGUID`. Accounts and groups are read in pages; membership is read from groups, together with
//! the primary group, which names its members nowhere but in their own entries.
//!
//! Owns settings, mapping and the order of reading. It must never follow a referral, read on another controller after
//! objects of one have been delivered, or call a reading complete that was cut.

mod accounts;
pub mod act;
mod acting_rights;
mod changes;
mod controller;
mod delta;
#[cfg(test)]
mod delta_tests;
mod descriptor;
mod discovery;
pub mod forms;
mod groups;
pub mod mapping;
mod probe;
mod reading_rights;
mod scan;
pub mod settings;
mod watermark;

use std::{collections::HashSet, sync::OnceLock};

use tokio::sync::mpsc;

pub use self::settings::Settings;
use self::{
    controller::Controller,
    groups::Groups,
    mapping::Mapper,
    scan::{AccountLook, Excluded, GroupsSeen},
    watermark::Watermark,
};
use crate::connectors::{
    BoxFuture, Connector, Delta, DeltaEnd, DeltaStop, Failure, Page, ProbeReport, ReadEnd, Sample, Subject,
    ldap::{
        self, Client, Credentials, Endpoint, Scope, SearchRequest, Trust,
        pages::{Pages, or_cancelled, read_all},
        sample,
    },
};

/// An Active Directory, opened with its settings and credentials.
pub struct ActiveDirectory {
    settings: Settings,
    client: Client,
    now: jiff::Timestamp,
    members_at_once: Option<u32>,
    /// The server that told what has changed.
    answered: OnceLock<String>,
}

impl ActiveDirectory {
    /// Opens nothing yet. `now` is the moment with which expiry times are compared.
    pub fn new(settings: Settings, credentials: Credentials, now: jiff::Timestamp) -> Self {
        let client = settings.client(credentials);
        Self { settings, client, now, members_at_once: None, answered: OnceLock::new() }
    }

    /// Asks for so many members of a group at once, whatever a controller would give.
    pub fn with_members_at_once(mut self, count: u32) -> Self {
        self.members_at_once = Some(count.max(1));
        self
    }

    async fn read(&self, pages: mpsc::Sender<Page>) -> Result<ReadEnd, Failure> {
        ldap::require_valid(self.settings.check())?;
        let trust = self.client.trust()?;
        let mut turns = self.client.turns(None).await?;
        while let Some(endpoint) = turns.next_server() {
            let mut out = Pages::new(&pages);
            match self.read_from(endpoint, trust.as_ref(), &mut out).await {
                Ok(watermark) => {
                    let watermark = watermark.as_ref().map(Watermark::to_json);
                    return Ok(ReadEnd { server: endpoint.to_string(), watermark, counted: None });
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
    ) -> Result<Option<Watermark>, Failure> {
        let mut connection = or_cancelled(out.sender(), self.client.open(endpoint, trust)).await?;
        let controller = or_cancelled(out.sender(), Controller::ask(&mut connection)).await?;
        // Before the first page: what changes while it is read is read again, not lost.
        let begun = self.begin(connection, endpoint, trust, &controller);
        let (mut connection, watermark) = or_cancelled(out.sender(), begun).await?;
        let bases = self.settings.bases(controller.top(&self.settings));
        let mapper = || Mapper::new(&self.settings, self.now.as_second());
        out.map_with(mapper());
        out.keep_quiet_about(is_own_partition);
        let mut accounts = AccountLook::new(&self.settings, self.now.as_second());
        for base in &bases {
            let request = self.request(base, self.settings.user_filter(), Mapper::user_attributes(&self.settings));
            read_all(connection.search(request), &mut accounts, out).await?;
        }
        let excluded = Excluded(self.settings.excluded());
        let mut seen = GroupsSeen { excluded: excluded.clone() };
        for base in &bases {
            let request = self.request(base, self.settings.group_filter(), vec!["objectGUID".to_owned()]);
            read_all(connection.search(request), &mut seen, out).await?;
        }
        let mut groups = Groups {
            connection: &mut connection,
            out,
            mapper: mapper(),
            excluded,
            primary: accounts.primary,
            sent: HashSet::new(),
            members_at_once: self.members_at_once,
        };
        for base in &bases {
            let attributes = Mapper::group_attributes(&self.settings);
            groups.read(self.request(base, self.settings.group_filter(), attributes)).await?;
        }
        connection.close().await;
        Ok(watermark)
    }

    fn request(&self, base: &str, filter: String, attributes: Vec<String>) -> SearchRequest {
        SearchRequest {
            base: base.to_owned(),
            scope: Scope::Sub,
            filter,
            attributes,
            page_size: self.settings.page_size(),
            entries_max: None,
        }
    }

    async fn read_sample(&self) -> Result<Sample, Failure> {
        ldap::require_valid(self.settings.check())?;
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
        let controller = Controller::ask(&mut connection).await?;
        // Everything is shown, also what the settings would not keep: choosing is what the form is for.
        let mut attributes = Mapper::user_attributes(&self.settings);
        attributes.insert(0, "*".to_owned());
        let bases = self.settings.bases(controller.top(&self.settings));
        let requests = bases.iter().map(|base| self.request(base, self.settings.user_filter(), attributes.clone()));
        let mut mapper = Mapper::new(&self.settings, self.now.as_second());
        let found = sample::richest(&mut connection, requests.collect(), &mut mapper).await?;
        connection.close().await;
        Ok(found)
    }
}

impl Connector for ActiveDirectory {
    fn probe(&self) -> BoxFuture<'_, ProbeReport> {
        Box::pin(self.try_each_step())
    }

    fn read_full(&self, pages: mpsc::Sender<Page>) -> BoxFuture<'_, Result<ReadEnd, Failure>> {
        Box::pin(self.read(pages))
    }

    fn delta(&self) -> Option<&dyn Delta> {
        if self.settings.global_catalog { None } else { Some(self) }
    }

    fn sample(&self) -> BoxFuture<'_, Result<Sample, Failure>> {
        Box::pin(self.read_sample())
    }
}

impl Delta for ActiveDirectory {
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
}

/// Whether a reference names a partition that every domain has and where nobody's account is (MS-ADTS §3.1.1.1.3): a search
/// of the whole domain always comes with these.
fn is_own_partition(reference: &str) -> bool {
    let dn = reference.splitn(4, '/').nth(3).unwrap_or_default();
    ["CN=Configuration,", "DC=DomainDnsZones,", "DC=ForestDnsZones,"]
        .iter()
        .any(|partition| dn.get(..partition.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(partition)))
}

#[cfg(test)]
mod tests {
    use super::is_own_partition;

    #[test]
    fn only_the_partitions_of_every_domain_are_passed_over() {
        assert!(is_own_partition("ldap://ad.example.test/CN=Configuration,DC=ad,DC=example,DC=test"));
        assert!(is_own_partition("ldaps://ad.example.test/dc=domaindnszones,dc=ad,dc=example,dc=test"));
        for other in
            ["ldap://child.ad.example.test/DC=child,DC=ad,DC=example,DC=test", "ldap://x", "", "CN=Configuration,DC=x"]
        {
            assert!(!is_own_partition(other), "{other}");
        }
    }
}
