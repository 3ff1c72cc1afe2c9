//! What a domain controller says about itself in its root DSE (MS-ADTS §3.1.1.3.2).
//!
//! Owns the attributes that are asked for and what they mean. An address that answers as something else is told so in
//! words, because nothing after this would make sense.

use super::Settings;
use crate::connectors::{
    Failure, FailureKind,
    ldap::{Connection, EntryView, Scope, SearchRequest, inbox::Plainly},
};

/// One controller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Controller {
    /// The domain's naming context.
    pub domain: String,
    pub host: String,
    pub domain_level: String,
    pub forest_level: String,
    /// GeneralizedTime.
    pub time: String,
    /// The DN of its own settings object ("NTDS Settings").
    pub service: String,
    /// The number of its latest change (highestCommittedUSN); each controller counts its own.
    pub latest_change: String,
    /// The naming context of the domain that the forest began with.
    pub forest: String,
}

impl Controller {
    pub const ATTRIBUTES: [&str; 8] = [
        "defaultNamingContext",
        "dnsHostName",
        "domainFunctionality",
        "forestFunctionality",
        "currentTime",
        "dsServiceName",
        "highestCommittedUSN",
        "rootDomainNamingContext",
    ];

    /// From the values of its attributes.
    pub fn of(values: impl Fn(&str) -> Vec<String>) -> Self {
        let first = |name| values(name).into_iter().next().unwrap_or_default();
        let [domain, host, domain_level, forest_level, time, service, latest_change, forest] =
            Self::ATTRIBUTES.map(first);
        Self { domain, host, domain_level, forest_level, time, service, latest_change, forest }
    }

    pub async fn ask(connection: &mut Connection) -> Result<Self, Failure> {
        let mut search = connection.search(SearchRequest {
            base: String::new(),
            scope: Scope::Base,
            filter: "(objectClass=*)".to_owned(),
            attributes: Self::ATTRIBUTES.map(str::to_owned).to_vec(),
            page_size: 0,
            entries_max: None,
        });
        let mut found = Self::default();
        while let Some(chunk) = search.next(&mut Plainly).await? {
            for entry in chunk.entries().filter_map(EntryView::read) {
                found = Self::of(|name| entry.text(name).map(str::to_owned).into_iter().collect());
            }
        }
        found.require(connection.server())?;
        Ok(found)
    }

    /// Where all is that is read when the settings name nothing: its domain, or the forest.
    pub fn top(&self, settings: &Settings) -> &str {
        if settings.global_catalog && !self.forest.is_empty() { &self.forest } else { &self.domain }
    }

    /// It is one at all.
    pub fn require(&self, server: &str) -> Result<(), Failure> {
        if self.domain.is_empty() {
            return Err(Failure::new(
                FailureKind::InvalidSettings,
                format!("{server} names no domain (defaultNamingContext), so it is no domain controller."),
                "Enter the address of a domain controller, or add this directory as OpenLDAP.",
            ));
        }
        Ok(())
    }
}
