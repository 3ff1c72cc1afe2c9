//! Controllers found by DNS (MS-ADTS §6.3.6.1): those of the site that is named first, then the others.
//!
//! Owns the names that are asked for, and which answers are taken. DNS says where to connect and nothing else: a name must
//! lie in the domain that the settings name, the port is not DNS's to say, the connection is always encrypted, and the
//! certificate must carry the name that was found.

use std::net::{IpAddr, SocketAddr};

use super::settings::Settings;
use crate::{
    connectors::{
        BoxFuture, Failure, FailureKind,
        ldap::{
            Endpoint, errors,
            found::{Find, Found},
            settings::present,
            srv::{self, Lots, Record, Resolver, Silence},
        },
    },
    error::FieldError,
};

const DNS_SERVERS_MAX: usize = 5;
const DNS_PORT: u16 = 53;
/// Leaves room for what is put before it.
const DOMAIN_MAX: usize = 190;
const SITE_MAX: usize = 63;
/// Names in a message.
const TOLD_MAX: usize = 10;

/// The ports of a controller: LDAPS and LDAP, of the domain and of the global catalog.
pub const PORTS: [u16; 2] = [636, 389];
pub const CATALOG_PORTS: [u16; 2] = [3269, 3268];

/// The global catalog of a controller that is listed with its usual port, or without one.
pub fn catalog_of(endpoint: Endpoint) -> Endpoint {
    let ports = PORTS.into_iter().zip(CATALOG_PORTS);
    let port = ports.filter(|(usual, _)| *usual == endpoint.port).map(|(_, catalog)| catalog).next();
    Endpoint { port: port.unwrap_or(endpoint.port), ..endpoint }
}

/// A DNS server as the settings name it: `10.0.0.2`, `10.0.0.2:53`, `[2001:db8::1]:53`.
fn dns_server(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let address = text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, DNS_PORT)))?;
    (address.port() > 0).then_some(address)
}

/// Checks what the settings say about finding controllers.
pub fn check(settings: &Settings, errors: &mut Vec<FieldError>) {
    let domain = present(&settings.domain);
    match (settings.servers.is_empty(), domain) {
        (true, None) => errors.push(FieldError::new(
            "servers",
            "Enter at least one domain controller, for example ldaps://dc1.example.com; or the domain by which controllers are found.",
        )),
        (false, Some(_)) => errors.push(FieldError::new(
            "domain",
            "Either list the domain controllers or name the domain by which they are found, not both.",
        )),
        _ => (),
    }
    if let Some(domain) = domain {
        // A domain of one label would let any name below a top-level domain pass.
        let is_name = srv::host_name(domain).is_some_and(|name| name.contains('.'));
        if domain.len() > DOMAIN_MAX || !is_name {
            let message = "This is not the DNS name of a domain; write it like ad.example.com.";
            errors.push(FieldError::new("domain", message));
        }
        if settings.accept_plaintext && !settings.start_tls {
            errors.push(FieldError::new(
                "acceptPlaintext",
                "Controllers that DNS names are only reached encrypted: anybody could answer in its place. Use LDAPS or StartTLS, or list the controllers.",
            ));
        }
    }
    if let Some(site) = present(&settings.site) {
        let is_label = site.len() <= SITE_MAX && site.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if !is_label {
            errors
                .push(FieldError::new("site", "This is not the name of a site: letters, digits, - and _, at most 63."));
        } else if domain.is_none() {
            errors.push(FieldError::new("site", "A site is looked up in DNS, which takes the domain."));
        }
    }
    if settings.dns_servers.len() > DNS_SERVERS_MAX {
        let message = format!("At most {DNS_SERVERS_MAX} DNS servers can be listed.");
        errors.push(FieldError::new("dnsServers", message));
    } else if settings.dns_servers.iter().any(|server| dns_server(server).is_none()) {
        let message = "A DNS server is an IP address, with or without a port: 10.0.0.2 or 10.0.0.2:53.";
        errors.push(FieldError::new("dnsServers", message));
    } else if !settings.dns_servers.is_empty() && domain.is_none() {
        let message = "DNS servers are asked for the controllers of a domain, which is not named.";
        errors.push(FieldError::new("dnsServers", message));
    }
}

/// What is asked, as one text to compare: a password that was given for one is not sent to what another one finds.
pub fn asked(settings: &Settings) -> String {
    let lower = |text: &Option<String>| present(text).map(str::to_ascii_lowercase);
    let servers: Vec<_> = settings.dns_servers.iter().map(|server| dns_server(server)).collect();
    format!("{:?} {:?} {servers:?}", lower(&settings.domain), lower(&settings.site))
}

/// Finds the controllers of a domain.
#[derive(Debug)]
pub struct Discovery {
    domain: String,
    site: Option<String>,
    dns_servers: Vec<SocketAddr>,
    is_catalog: bool,
    is_ldaps: bool,
    lots: Lots,
}

impl Discovery {
    /// `None` where the settings list the controllers. `reader` is who reads the directory, by whom lots are told apart.
    pub fn of(settings: &Settings, reader: &str) -> Option<Self> {
        let domain = present(&settings.domain).filter(|_| settings.servers.is_empty())?;
        Some(Self {
            domain: domain.strip_suffix('.').unwrap_or(domain).to_ascii_lowercase(),
            site: present(&settings.site).map(str::to_owned),
            dns_servers: settings.dns_servers.iter().filter_map(|server| dns_server(server)).collect(),
            is_catalog: settings.global_catalog,
            is_ldaps: !settings.start_tls,
            lots: Lots { asker: reader.to_lowercase() },
        })
    }

    /// The name under which DNS has the controllers, of one site or of all (MS-ADTS §6.3.2.3).
    fn name(&self, site: Option<&str>) -> String {
        let site = site.map(|site| format!("{site}._sites.")).unwrap_or_default();
        let what = if self.is_catalog { "gc" } else { "dc" };
        format!("_ldap._tcp.{site}{what}._msdcs.{}", self.domain)
    }

    /// What the hosts are, in words.
    fn what(&self) -> &'static str {
        if self.is_catalog { "global catalogs" } else { "domain controllers" }
    }

    fn resolver(&self) -> Result<Resolver, Failure> {
        Resolver::new(&self.dns_servers).map_err(|why| {
            let message = format!("DNS can't be asked for {}: {why}.", self.what());
            Failure::new(FailureKind::NameResolution, message, "Name a DNS server of the domain in the settings.")
        })
    }

    async fn ask(&self) -> Result<Found, Failure> {
        let resolver = self.resolver()?;
        let all = self.name(None);
        let (of_site, of_all) = match &self.site {
            Some(site) => {
                let near = self.name(Some(site));
                let (near, all) = futures_util::future::join(resolver.records(&near), resolver.records(&all)).await;
                (Some(near), all)
            }
            None => (None, resolver.records(&all).await),
        };
        if let (Some(Ok(_)), _) | (_, Ok(_)) = (&of_site, &of_all) {
            return self.found(of_site, of_all.unwrap_or_default());
        }
        Err(self.unfound(&resolver.asked, of_all.err().unwrap_or(Silence::NoRecords)))
    }

    /// Why there is nothing, and what helps.
    fn unfound(&self, asked: &str, why: Silence) -> Failure {
        let (domain, what, name) = (&self.domain, self.what(), self.name(None));
        let message = match why {
            Silence::NoSuchName => format!("There is no domain {domain} for {asked}: {name} does not exist."),
            Silence::NoRecords => format!("DNS knows {domain}, but no {what} of it: {name} has no SRV records."),
            Silence::Unanswered(why) => format!("DNS could not be asked for the {what} of {domain} ({asked}): {why}."),
        };
        let next = "Check the domain's name, and that DNS of the domain is asked: name one of its DNS servers in the settings; or list the controllers.";
        Failure::new(FailureKind::NameResolution, message, next)
    }

    fn in_order(&self, records: Vec<Record>) -> Vec<Record> {
        srv::in_order(records, |target| self.lots.draw(target))
    }

    /// What DNS named, in the order in which it is tried.
    fn found(&self, of_site: Option<Result<Vec<Record>, Silence>>, of_all: Vec<Record>) -> Result<Found, Failure> {
        let mut taken = Taken::default();
        let is_site_known = matches!(of_site, Some(Ok(_)));
        let near = of_site.and_then(Result::ok).unwrap_or_default();
        taken.take(self.in_order(near), &self.domain);
        let near_count = taken.hosts.len();
        taken.take(self.in_order(of_all), &self.domain);
        let Taken { hosts, refused } = taken;
        let (domain, what, count) = (&self.domain, self.what(), hosts.len());
        let left_out = if refused.is_empty() {
            String::new()
        } else {
            format!(" Not used, because they are no hosts of this domain: {}.", told(&refused))
        };
        let fix = "Where controllers have names outside of their domain, list them instead of naming the domain.";
        if hosts.is_empty() {
            let message = format!("DNS names no {what} in {domain}.{left_out}");
            return Err(Failure::new(FailureKind::NameResolution, message, fix));
        }
        let place = match &self.site {
            None => String::new(),
            Some(site) if is_site_known => format!(", {near_count} of them in the site {site}"),
            Some(site) => format!(", none of them in the site {site}, so that those of all sites are used"),
        };
        let what = if count == 1 { what.trim_end_matches('s') } else { what };
        let message =
            format!("DNS names {count} {what} of {domain}{place}. In this order: {}.{left_out}", told(&hosts));
        let fix = if !refused.is_empty() {
            Some(fix.to_owned())
        } else if self.site.is_some() && !is_site_known {
            Some(
                "Check the name of the site (Active Directory Sites and Services), and that it has a controller."
                    .to_owned(),
            )
        } else {
            None
        };
        let [ldaps, ldap] = if self.is_catalog { CATALOG_PORTS } else { PORTS };
        let port = if self.is_ldaps { ldaps } else { ldap };
        let servers = hosts.into_iter().map(|host| Endpoint { is_ldaps: self.is_ldaps, host, port }).collect();
        Ok(Found { servers, message, fix })
    }
}

/// Names for a message, not too many.
fn told(names: &[String]) -> String {
    let more = names.len().saturating_sub(TOLD_MAX);
    let first = names.iter().take(TOLD_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

/// Hosts that may be tried, and what was named beside them.
#[derive(Debug, Default)]
struct Taken {
    hosts: Vec<String>,
    refused: Vec<String>,
}

impl Taken {
    fn take(&mut self, records: Vec<Record>, domain: &str) {
        for record in records {
            let is_within =
                |name: &String| name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            let (name, list) = match srv::host_name(&record.target).filter(is_within) {
                Some(name) => (name, &mut self.hosts),
                None => (errors::printable(&record.target), &mut self.refused),
            };
            if !list.contains(&name) {
                list.push(name);
            }
        }
    }
}

impl Find for Discovery {
    fn find(&self) -> BoxFuture<'_, Result<Found, Failure>> {
        Box::pin(self.ask())
    }

    fn addresses<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Option<Result<Vec<SocketAddr>, Failure>>> {
        Box::pin(async move {
            if self.dns_servers.is_empty() {
                return None;
            }
            let resolver = match self.resolver() {
                Ok(resolver) => resolver,
                Err(failure) => return Some(Err(failure)),
            };
            let addresses = resolver.addresses(&endpoint.host).await;
            let at_port = |addresses: Vec<IpAddr>| {
                addresses.into_iter().map(|address| SocketAddr::new(address, endpoint.port)).collect()
            };
            Some(addresses.map(at_port).map_err(|why| {
                let why = match why {
                    Silence::NoSuchName => "there is no such name".to_owned(),
                    Silence::NoRecords => "it has no address".to_owned(),
                    Silence::Unanswered(why) => why,
                };
                let message = format!("The name {} could not be resolved by {}: {why}.", endpoint.host, resolver.asked);
                let next = "Check the DNS servers in the settings, and the controller's registration in DNS.";
                Failure::new(FailureKind::NameResolution, message, next)
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(json: serde_json::Value) -> Settings {
        serde_json::from_value(json).expect("settings")
    }

    fn discovery(more: serde_json::Value) -> Discovery {
        let mut json = serde_json::json!({"domain": "AD.example.test."});
        json.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        Discovery::of(&settings(json), "reader").expect("no servers are listed")
    }

    fn records(targets: &[&str]) -> Vec<Record> {
        let record = |(at, target): (usize, &&str)| Record {
            priority: u16::try_from(at).expect("few"),
            weight: 100,
            target: (*target).to_owned(),
        };
        targets.iter().enumerate().map(record).collect()
    }

    fn servers(found: &Result<Found, Failure>) -> Vec<String> {
        found.as_ref().expect("found").servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        let wrong = |json: serde_json::Value| -> Vec<String> {
            settings(json).check().into_iter().map(|error| error.field).collect()
        };
        let domain = |name: &str, value: serde_json::Value| {
            let mut json = serde_json::json!({"domain": "ad.example.test"});
            json[name] = value;
            wrong(json)
        };
        assert!(wrong(serde_json::json!({"domain": "ad.example.test"})).is_empty());
        assert_eq!(wrong(serde_json::json!({})), ["servers"]);
        assert_eq!(domain("servers", serde_json::json!(["ldaps://dc1"])), ["domain"]);
        for bad in ["10.0.0.1", "a b", "test", "test.", "ad..test", "_x/", &"a.".repeat(100)] {
            assert_eq!(domain("domain", serde_json::json!(bad)), ["domain"], "{bad}");
        }
        assert_eq!(domain("acceptPlaintext", serde_json::json!(true)), ["acceptPlaintext"]);
        assert!(domain("site", serde_json::json!("Default-First-Site-Name")).is_empty());
        for bad in ["a.b", "a b", &"a".repeat(64)] {
            assert_eq!(domain("site", serde_json::json!(bad)), ["site"], "{bad}");
        }
        assert!(domain("dnsServers", serde_json::json!(["10.0.0.2:53", "10.0.0.3", "::1", "[::1]:5353"])).is_empty());
        for bad in ["dns.example.test", "10.0.0.2:0", "10.0.0.2:99999", ""] {
            assert_eq!(domain("dnsServers", serde_json::json!([bad])), ["dnsServers"], "{bad}");
        }
        assert_eq!(domain("dnsServers", serde_json::json!(vec!["10.0.0.2"; 6])), ["dnsServers"]);
        let listed = serde_json::json!({"servers": ["ldaps://dc1"], "site": "Here", "dnsServers": ["10.0.0.2"]});
        assert_eq!(wrong(listed), ["site", "dnsServers"]);
    }

    #[test]
    fn a_password_is_for_one_domain_site_and_dns_server() {
        let base = serde_json::json!({"domain": "ad.example.test", "site": "Here", "dnsServers": ["10.0.0.2"]});
        let same = |name: &str, value: serde_json::Value| {
            let mut other = base.clone();
            other[name] = value;
            settings(base.clone()).is_same_way(&settings(other))
        };
        assert!(same("domain", serde_json::json!("AD.Example.Test ")));
        assert!(same("dnsServers", serde_json::json!(["10.0.0.2:53"])));
        assert!(same("userFilter", serde_json::json!("(a=b)")));
        assert!(!same("domain", serde_json::json!("evil.example.test")));
        assert!(!same("site", serde_json::json!("There")));
        assert!(!same("dnsServers", serde_json::json!(["10.0.0.3"])));
        assert!(!same("dnsServers", serde_json::json!([])));
        assert!(!same("globalCatalog", serde_json::json!(true)));
        assert!(!same("startTls", serde_json::json!(true)));
        assert!(!same("servers", serde_json::json!(["ldaps://dc1"])));
    }

    #[test]
    fn names_are_asked_for_as_controllers_register_them() {
        let plain = discovery(serde_json::json!({}));
        assert_eq!(plain.name(None), "_ldap._tcp.dc._msdcs.ad.example.test");
        assert_eq!(plain.name(Some("Here")), "_ldap._tcp.Here._sites.dc._msdcs.ad.example.test");
        let catalog = discovery(serde_json::json!({"globalCatalog": true}));
        assert_eq!(catalog.name(Some("Here")), "_ldap._tcp.Here._sites.gc._msdcs.ad.example.test");
    }

    #[test]
    fn encryption_and_catalog_decide_the_address() {
        let one = |more: serde_json::Value| {
            servers(&discovery(more).found(None, records(&["DC1.ad.example.test."]))).remove(0)
        };
        assert_eq!(one(serde_json::json!({})), "ldaps://dc1.ad.example.test:636");
        assert_eq!(one(serde_json::json!({"startTls": true})), "ldap://dc1.ad.example.test:389");
        assert_eq!(one(serde_json::json!({"globalCatalog": true})), "ldaps://dc1.ad.example.test:3269");
        let both = serde_json::json!({"globalCatalog": true, "startTls": true});
        assert_eq!(one(both), "ldap://dc1.ad.example.test:3268");
    }

    #[test]
    fn those_of_the_site_come_first_and_none_comes_twice() {
        let near = discovery(serde_json::json!({"site": "Here"}));
        let all = || records(&["a.ad.example.test.", "b.ad.example.test.", "c.ad.example.test."]);
        let found = near.found(Some(Ok(records(&["C.ad.example.test."]))), all());
        let hosts: Vec<String> = found.iter().flat_map(|found| &found.servers).map(|one| one.host.clone()).collect();
        assert_eq!(hosts, ["c.ad.example.test", "a.ad.example.test", "b.ad.example.test"]);
        let found = found.expect("found");
        assert!(
            found.message.contains("3 domain controllers of") && found.message.contains("1 of them in the site Here")
        );
        assert_eq!(found.fix, None);
        let found = near.found(Some(Err(Silence::NoSuchName)), all()).expect("the others");
        assert_eq!(found.servers.len(), 3);
        assert!(found.message.contains("none of them in the site Here") && found.fix.is_some());
    }

    #[test]
    fn names_outside_of_the_domain_are_refused() {
        let here = discovery(serde_json::json!({}));
        let outside = ["evil.example.", "evilad.example.test.", "10.0.0.1.", ".", "ad.example.test.evil.example."];
        let found = here.found(None, records(&[&outside[..], &["dc1.ad.example.test."]].concat()));
        assert_eq!(servers(&found), ["ldaps://dc1.ad.example.test:636"]);
        let found = found.expect("one");
        assert!(found.message.contains("evilad.example.test") && found.fix.is_some(), "{}", found.message);
        let failure = here.found(None, records(&outside)).expect_err("none is left");
        assert!(failure.message.contains("no domain controllers in ad.example.test"), "{}", failure.message);
    }

    #[test]
    fn silence_is_explained() {
        let here = discovery(serde_json::json!({"dnsServers": ["10.0.0.2"]}));
        for (why, part) in [
            (Silence::NoSuchName, "There is no domain ad.example.test"),
            (Silence::NoRecords, "no domain controllers of it"),
            (Silence::Unanswered("no answer within 5 s".to_owned()), "no answer within 5 s"),
        ] {
            let failure = here.unfound("the DNS server 10.0.0.2:53", why);
            assert!(failure.message.contains(part), "{}", failure.message);
            assert_eq!(failure.kind, FailureKind::NameResolution);
        }
    }

    proptest! {
        #[test]
        fn whatever_dns_names_only_hosts_of_the_domain_are_reached(
            targets in prop::collection::vec("(\\PC{0,20}|[a-zA-Z0-9_.-]{0,12})(\\.?ad\\.example\\.test\\.?)?", 0..30),
        ) {
            let here = discovery(serde_json::json!({"site": "Here"}));
            let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
            let (near, all) = targets.split_at(targets.len() / 2);
            if let Ok(found) = here.found(Some(Ok(records(near))), records(all)) {
                prop_assert!(!found.servers.is_empty());
                let mut seen = std::collections::HashSet::new();
                for server in &found.servers {
                    prop_assert!(server.host == "ad.example.test" || server.host.ends_with(".ad.example.test"));
                    prop_assert!(server.is_ldaps && server.port == 636 && seen.insert(server.host.clone()));
                    prop_assert_eq!(&Endpoint::parse(&server.to_string()), &Ok(server.clone()));
                }
            }
        }
    }
}
