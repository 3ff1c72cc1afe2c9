//! The settings of an Active Directory: what the form and the API take, and what they refuse.
//!
//! Owns the field names (the contract of the API) and every check before a setting is stored.

use serde::{Deserialize, Serialize};

use super::discovery::{self, Discovery};
use crate::{
    connectors::{
        Outline, OutlinePart,
        ldap::{
            Client, Credentials, Scope, dn, filter,
            found::Servers,
            settings::{self, Mapping, PAGE_SIZE_DEFAULT, Way, present},
        },
    },
    error::FieldError,
};

/// Settings as stored and as the API shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = ActiveDirectorySettings)]
pub struct Settings {
    /// Domain controllers, unless there is a `domain`: `ldaps://dc1.example.com` or `ldap://dc1.example.com`, in the order in which they are tried.
    pub servers: Vec<String>,
    /// The DNS name of the domain, such as `ad.example.com`, instead of `servers`: its controllers are found by DNS (SRV
    /// records) whenever the directory is opened. Each must have its name in this domain, and a certificate with it. With
    /// `globalCatalog`, the domain that the forest began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The site of `domain` whose controllers are tried before the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// DNS servers that know `domain`, as IP address with or without a port; the system's when absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_servers: Vec<String>,
    /// The global catalog is read (ports 3269 and 3268 instead of 636 and 389): all domains of the forest, but only a part
    /// of the attributes, and the members of universal groups alone. Nothing can be acted on, and every run is a full one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub global_catalog: bool,
    /// StartTLS on `ldap://` servers; with `domain`, StartTLS instead of LDAPS.
    pub start_tls: bool,
    /// Certificates of the authorities that issue the controllers' certificates; the system's list when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// "I accept that passwords and data travel unencrypted" for `ldap://` servers without StartTLS.
    pub accept_plaintext: bool,
    /// Where users and groups are; when empty, the whole domain, or the tree that the forest began with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub base_dns: Vec<String>,
    /// Parts of these that are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excluded_base_dns: Vec<String>,
    /// Narrows what is a user here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_filter: Option<String>,
    /// Narrows what is a group here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_filter: Option<String>,
    /// Accounts of computers and services (gMSA) are read too.
    pub computers: bool,
    pub mapping: Mapping,
    /// Entries per page, 1 to 1,000, which is the most that a controller gives; 1,000 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_size: Option<u32>,
    /// Attributes that are read beside the usual ones, and kept as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
}

/// The attributes that are tried for each mapped field.
pub const DEFAULT_SOURCES: [&[&str]; 10] = [
    &["sAMAccountName"],
    &["userPrincipalName"],
    &["mail"],
    &["displayName", "cn"],
    &["givenName"],
    &["sn"],
    &["employeeID", "employeeNumber"],
    &["department"],
    &["title"],
    &["manager"],
];

/// People, as Active Directory's own tools understand it (MS-ADTS §3.1.1.2.3.1: objectCategory is indexed).
const PEOPLE: &str = "(&(objectCategory=person)(objectClass=user))";
/// Computers are users to the schema, and gMSA are computers.
const ALL_ACCOUNTS: &str = "(objectClass=user)";
const GROUPS: &str = "(objectCategory=group)";

/// Back links, what a controller makes up when it is asked, and what each keeps to itself (MS-ADTS §3.1.1.4.5, §3.1.1.1.6):
/// they change without a change of the object.
const UNTOLD: [&str; 17] = [
    "memberOf",
    "directReports",
    "managedObjects",
    "tokenGroups",
    "tokenGroupsGlobalAndUniversal",
    "msds-memberOfTransitive",
    "msds-memberTransitive",
    "msDS-User-Account-Control-Computed",
    "msDS-UserPasswordExpiryTimeComputed",
    "msDS-ResultantPSO",
    "badPwdCount",
    "badPasswordTime",
    "lastLogon",
    "lastLogoff",
    "logonCount",
    "whenChanged",
    "uSNChanged",
];
/// LDAP_MATCHING_RULE_TRANSITIVE_EVAL: who is related to somebody who is related.
const IN_CHAIN: &str = "1.2.840.113556.1.4.1941";

/// What reading a global catalog means.
const CATALOG: &str = "read instead of a domain: the forest's accounts and groups, but only a part of their attributes, and the members of universal groups alone, so that who is privileged may not show. Every run is a full one, and nothing can be acted on.";

/// Why nothing is acted on by a global catalog.
pub const READ_ONLY: &str = "This directory reads a global catalog, which is read only. Add each domain as a directory of its own to act on its accounts.";

/// What is wrong with a name to bind as. Controllers take more forms (MS-ADTS §5.1.1.1.1: display names, SIDs, SPNs …), by
/// which an account could not be told to be the one that Bailiwick itself uses.
pub fn check_bind_name(name: &str) -> Option<FieldError> {
    let name = name.trim();
    let is_dn = dn::normalise(name).is_ok_and(|normal| !normal.is_empty());
    let is_upn = name.matches('@').count() == 1 && !name.contains(['/', '\\']);
    let is_with_domain = name.matches('\\').count() == 1 && !name.contains(['/', '@']);
    let message = "Write the account as a UPN (reader@example.com), as DOMAIN\\reader, or as its whole DN.";
    (!is_dn && !is_upn && !is_with_domain).then(|| FieldError::new("bindDn", message))
}

impl Settings {
    /// How the controllers are reached.
    pub fn way(&self) -> Way<'_> {
        Way {
            servers: &self.servers,
            start_tls: self.start_tls,
            ca_pem: present(&self.ca_pem),
            accept_plaintext: self.accept_plaintext,
        }
    }

    /// Everything that is needed to reach a controller, or its global catalog.
    pub fn client(&self, credentials: Credentials) -> Client {
        let discovery = Discovery::of(self, &credentials.bind_dn);
        let client = Client::new(self.way(), credentials);
        match discovery {
            Some(discovery) => client.with_servers(Servers::found_by(discovery)),
            None if self.global_catalog => {
                let endpoints = self.way().endpoints().into_iter().map(discovery::catalog_of);
                client.with_servers(Servers::Listed(endpoints.collect()))
            }
            None => client,
        }
    }

    /// Every field that has to be corrected. Names are relative to the settings.
    pub fn check(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        discovery::check(self, &mut errors);
        self.way().check(&mut errors);
        settings::check_bases("baseDns", &self.base_dns, &mut errors);
        settings::check_bases("excludedBaseDns", &self.excluded_base_dns, &mut errors);
        settings::check_filter("userFilter", &self.user_filter, &mut errors);
        settings::check_filter("groupFilter", &self.group_filter, &mut errors);
        self.mapping.check(&mut errors);
        if self.page_size.is_some_and(|size| !(1..=1000).contains(&size)) {
            errors.push(FieldError::new("pageSize", "The page size must be between 1 and 1000."));
        }
        settings::check_attributes(&self.attributes, &mut errors);
        errors
    }

    /// What works but should be looked at, as sentences.
    pub fn warnings(&self) -> Vec<String> {
        self.way().warnings()
    }

    /// See [`crate::connectors::outline`].
    pub fn outline(&self) -> Outline {
        let all = if self.global_catalog { "the tree that the forest began with" } else { "the whole domain" };
        let bases = match self.base_dns.as_slice() {
            [] => OutlinePart::words("Base DNs", all),
            bases => OutlinePart::code("Base DNs", bases),
        };
        let mut parts = vec![bases, OutlinePart::code("Left out", &self.excluded_base_dns)];
        parts.retain(|part| !part.values.is_empty());
        parts.extend([
            OutlinePart::code("User filter", &[self.user_filter()]),
            OutlinePart::code("Group filter", &[self.group_filter()]),
            OutlinePart::words("Computers", if self.computers { "read too" } else { "not read" }),
        ]);
        if self.global_catalog {
            parts.insert(0, OutlinePart::words("Global catalog", CATALOG));
        }
        let mut outline = self.way().outline();
        if let Some(domain) = present(&self.domain) {
            parts.insert(0, OutlinePart::words("Controllers", &self.found_by()));
            outline.servers = vec![domain.to_owned()];
        }
        Outline { parts, ..outline }
    }

    /// How controllers are found, in words.
    fn found_by(&self) -> String {
        let site = present(&self.site).map(|site| format!(", those of the site {site} first")).unwrap_or_default();
        let servers = match self.dns_servers.as_slice() {
            [] => String::new(),
            servers => format!(" ({})", servers.join(", ")),
        };
        format!("found by DNS{servers}{site}")
    }

    /// See [`crate::connectors::read_with`].
    pub fn read_with(&self) -> Vec<(&'static str, String)> {
        let mut parts = vec![
            ("servers", settings::sorted(&self.servers)),
            ("baseDns", settings::sorted(&self.base_dns)),
            ("excludedBaseDns", settings::sorted(&self.excluded_base_dns)),
            ("userFilter", self.user_filter()),
            ("groupFilter", self.group_filter()),
            ("mapping", self.mapping.text(&DEFAULT_SOURCES)),
            ("attributes", settings::sorted(&self.attributes)),
        ];
        // What nobody has set is left out: it was not there in earlier runs either.
        parts.extend(present(&self.domain).map(|domain| ("domain", domain.to_lowercase())));
        parts.extend(self.global_catalog.then(|| ("globalCatalog", "yes".to_owned())));
        parts
    }

    /// Whether the same controllers are reached in the same way as with `other`: what a password was given for.
    pub fn is_same_way(&self, other: &Self) -> bool {
        self.way().is_same(&other.way())
            && discovery::asked(self) == discovery::asked(other)
            && self.global_catalog == other.global_catalog
    }

    pub fn user_filter(&self) -> String {
        let kind = if self.computers { ALL_ACCOUNTS } else { PEOPLE };
        present(&self.user_filter).map_or_else(|| kind.to_owned(), |own| format!("(&{kind}{own})"))
    }

    pub fn group_filter(&self) -> String {
        present(&self.group_filter).map_or_else(|| GROUPS.to_owned(), |own| format!("(&{GROUPS}{own})"))
    }

    /// The attributes that the filters ask for, in lower case.
    pub fn filtered_by(&self) -> Vec<String> {
        let filters = [present(&self.user_filter), present(&self.group_filter)];
        filters.into_iter().flatten().flat_map(filter::attributes).collect()
    }

    /// What the filters ask for that no change tells, so that nobody can say when one who was not read before has to be.
    pub fn untold(&self) -> Option<String> {
        if [&self.user_filter, &self.group_filter].into_iter().flatten().any(|own| own.contains(IN_CHAIN)) {
            return Some(format!("the rule {IN_CHAIN}"));
        }
        self.filtered_by().into_iter().find(|name| UNTOLD.iter().any(|other| name.eq_ignore_ascii_case(other)))
    }

    /// Whether an account of the domain may be read, or not, for what its attributes or its place are.
    pub fn is_narrowed(&self) -> bool {
        present(&self.user_filter).is_some() || !self.base_dns.is_empty() || !self.excluded_base_dns.is_empty()
    }

    pub fn page_size(&self) -> u32 {
        self.page_size.unwrap_or(PAGE_SIZE_DEFAULT)
    }

    /// Where is looked: none within another, `domain` when the settings name nothing.
    pub fn bases(&self, domain: &str) -> Vec<String> {
        if self.base_dns.is_empty() { vec![domain.to_owned()] } else { settings::distinct(&self.base_dns, Scope::Sub) }
    }

    /// The parts that are left out, normalised.
    pub fn excluded(&self) -> Vec<String> {
        self.excluded_base_dns.iter().filter_map(|base| dn::normalise(base).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: serde_json::Value) -> Settings {
        serde_json::from_value(json).expect("settings")
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        let wrong = |json: serde_json::Value| -> Vec<String> {
            settings(json).check().into_iter().map(|error| error.field).collect()
        };
        assert_eq!(wrong(serde_json::json!({})), ["servers"]);
        assert_eq!(wrong(serde_json::json!({"servers": ["ldap://dc1"]})), ["acceptPlaintext"]);
        assert_eq!(wrong(serde_json::json!({"servers": ["ldaps://dc1"], "pageSize": 1001})), ["pageSize"]);
        assert_eq!(wrong(serde_json::json!({"servers": ["ldaps://dc1"], "pageSize": 0})), ["pageSize"]);
        let bases = serde_json::json!({"servers": ["ldaps://dc1"], "baseDns": ["x"], "excludedBaseDns": [""]});
        assert_eq!(wrong(bases), ["baseDns", "excludedBaseDns"]);
        let filters = serde_json::json!({"servers": ["ldaps://dc1"], "userFilter": "(a", "groupFilter": "b)"});
        assert_eq!(wrong(filters), ["userFilter", "groupFilter"]);
        let secret = serde_json::json!({"servers": ["ldaps://dc1"], "attributes": ["unicodePwd"]});
        assert_eq!(wrong(secret), ["attributes"]);
        assert!(wrong(serde_json::json!({"servers": ["ldaps://dc1"]})).is_empty());
    }

    #[test]
    fn filters_that_no_change_can_be_held_against_are_known() {
        let untold =
            |user: &str, group: &str| settings(serde_json::json!({"userFilter": user, "groupFilter": group})).untold();
        assert_eq!(untold("(department=IT)", "(sAMAccountName=g-*)"), None);
        assert_eq!(untold("(&(mail=*)(MemberOf=CN=a,DC=x))", "(cn=*)").as_deref(), Some("memberof"));
        assert_eq!(untold("(mail=*)", "(!(whenChanged>=20260101000000.0Z))").as_deref(), Some("whenchanged"));
        let chain = untold("(manager:1.2.840.113556.1.4.1941:=CN=a,DC=x)", "(cn=*)");
        assert_eq!(chain.as_deref(), Some("the rule 1.2.840.113556.1.4.1941"));
        assert_eq!(Settings::default().untold(), None);
    }

    #[test]
    fn an_account_is_named_in_one_of_three_forms() {
        for name in ["reader@example.com", "EXAMPLE\\reader", "CN=reader,OU=Services,DC=example,DC=com"] {
            assert_eq!(check_bind_name(name), None, "{name}");
        }
        for name in [
            "reader",
            "Reading Account",
            "S-1-5-21-1-2-3-1105",
            "example.com/Services/reader",
            "HTTP/x@EXAMPLE",
            "",
            "{guid}",
        ] {
            assert!(check_bind_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn filters_only_narrow() {
        let own = settings(serde_json::json!({"userFilter": "(department=IT)", "computers": true}));
        assert_eq!(own.user_filter(), "(&(objectClass=user)(department=IT))");
        assert_eq!(Settings::default().user_filter(), PEOPLE);
        assert_eq!(Settings::default().group_filter(), GROUPS);
        assert_eq!(Settings::default().bases("DC=x"), ["DC=x"]);
        let nested = settings(serde_json::json!({"baseDns": ["OU=a,DC=x", "DC=x"]}));
        assert_eq!(nested.bases("DC=y"), ["DC=x"]);
    }
}
