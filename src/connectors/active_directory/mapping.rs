//! From an entry as a domain controller sends it to an identity or a group as the console knows it.
//!
//! Owns which attributes are asked for and what they become. Ids, times and security identifiers are shown as Windows
//! writes them. Attributes that a controller changes with every sign-in and does not tell the others (lastLogon, logonCount)
//! are not read: each controller says something else, and each reading would find everybody changed.

use std::{collections::HashSet, sync::Arc};

use super::{
    accounts::{self, Marks},
    forms::{self, Signs},
    settings::{DEFAULT_SOURCES, Settings},
};
use crate::connectors::{
    Attributes, GroupFields, IdentityFields, Key, Keys, ObservedGroup, ObservedIdentity, Unreadable, Value,
    ldap::{
        EntryView, Values, dn,
        mapped::{self, MAIL, Mapped, Place, Sources},
        names::{Meaning, Names},
        pages::Map,
        times,
        values::{short, without_repetition},
    },
};

/// Mail addresses of one person.
const MAILS_MAX: usize = 200;

/// What is read of an account beside the mapped fields, for what it says about its state.
const STATE: [&str; 17] = [
    "objectGUID",
    "objectSid",
    "objectClass",
    "cn",
    "userAccountControl",
    "msDS-User-Account-Control-Computed",
    "accountExpires",
    "pwdLastSet",
    "lastLogonTimestamp",
    "lockoutTime",
    "badPwdCount",
    "adminCount",
    "primaryGroupID",
    "sIDHistory",
    "whenCreated",
    "servicePrincipalName",
    "msDS-AllowedToDelegateTo",
];
/// What administrators look for, kept as it is.
const USUAL: [&str; 20] = [
    "description",
    "proxyAddresses",
    "telephoneNumber",
    "mobile",
    "company",
    "physicalDeliveryOfficeName",
    "streetAddress",
    "l",
    "st",
    "postalCode",
    "co",
    "info",
    "employeeType",
    "userWorkstations",
    "homeDirectory",
    "scriptPath",
    "uid",
    "uidNumber",
    "managedBy",
    "wWWHomePage",
];
const OF_GROUPS: [&str; 12] = [
    "objectGUID",
    "objectSid",
    "objectClass",
    "cn",
    "sAMAccountName",
    "description",
    "groupType",
    "mail",
    "managedBy",
    "info",
    "whenCreated",
    "adminCount",
];

/// Where a value goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Guid,
    Sid,
    SidHistory,
    AccountControl,
    Computed,
    AccountExpires,
    PasswordLastSet,
    LastLogon,
    LockoutTime,
    Created,
    GroupType,
    Description,
    CommonName,
    AccountName,
    ProxyAddresses,
    ObjectClass,
    AdminCount,
    ServicePrincipalName,
    Field(Place),
}

/// Reads entries by the settings. One per reading; it learns the directory's attribute names as they come.
#[derive(Debug)]
pub struct Mapper {
    sources: Sources,
    names: Names<Slot>,
    now_second: i64,
    /// The names under which values stand that are written in another form, and the distinguished name.
    rendered: [Arc<str>; 4],
    dn_name: Arc<str>,
}

/// In the order of [`Mapper::walk`].
const RENDERED: [&str; 4] = ["objectSid", "sIDHistory", "accountExpires", "lockoutTime"];

/// The values that fields are made from.
#[derive(Default)]
struct Found<'a> {
    guid: Option<&'a [u8]>,
    sid: Option<String>,
    sid_history: Vec<String>,
    marks: Marks<'a>,
    signs: Signs<'a>,
    last_logon: Option<&'a str>,
    lockout_time: Option<&'a str>,
    created: Option<&'a str>,
    group_type: Option<&'a str>,
    description: Option<&'a str>,
    common_name: Option<&'a str>,
    account_name: Option<&'a str>,
    proxy_addresses: Vec<&'a str>,
    mapped: Mapped<'a>,
    mails: Vec<&'a str>,
}

impl<'a> Found<'a> {
    fn take(&mut self, slots: &[Slot], values: Values<'a>) {
        for slot in slots {
            match slot {
                Slot::Guid => self.guid = values.first(),
                Slot::Sid => {
                    self.marks.sid = values.first();
                    self.sid = self.marks.sid.and_then(forms::sid_text);
                }
                Slot::SidHistory => {
                    self.sid_history = values.filter_map(forms::sid_text).collect();
                    self.marks.has_sid_history = !self.sid_history.is_empty();
                }
                Slot::ObjectClass => self.marks.account_type = accounts::account_type(values.texts()),
                Slot::ServicePrincipalName => self.marks.has_service_principal_name = values.first().is_some(),
                Slot::ProxyAddresses => self.proxy_addresses = values.texts().take(MAILS_MAX).collect(),
                slot => {
                    let mut texts = values.texts();
                    let Some(first) = texts.next() else { continue };
                    self.fill(*slot, first);
                    if let Slot::Field((MAIL, _)) = slot {
                        self.mails.push(first);
                        self.mails.extend(texts.take(MAILS_MAX - 1));
                    }
                }
            }
        }
    }

    fn fill(&mut self, slot: Slot, text: &'a str) {
        match slot {
            Slot::AccountControl => {
                self.signs.account_control = Some(text);
                self.marks.account_control = Some(text);
            }
            Slot::AdminCount => self.marks.admin_count = Some(text),
            Slot::Computed => self.signs.computed = Some(text),
            Slot::AccountExpires => self.signs.account_expires = Some(text),
            Slot::PasswordLastSet => self.signs.password_last_set = Some(text),
            Slot::LastLogon => self.last_logon = Some(text),
            Slot::LockoutTime => self.lockout_time = Some(text),
            Slot::Created => self.created = Some(text),
            Slot::GroupType => self.group_type = Some(text),
            Slot::Description => self.description = Some(text),
            Slot::CommonName => self.common_name = Some(text),
            Slot::AccountName => self.account_name = Some(text),
            Slot::Guid
            | Slot::Sid
            | Slot::SidHistory
            | Slot::ProxyAddresses
            | Slot::ObjectClass
            | Slot::ServicePrincipalName => {}
            Slot::Field(place) => self.mapped.offer(place, text),
        }
    }

    /// Mail addresses: that of `mail` first, then those that Exchange receives for the account (`smtp:` in
    /// proxyAddresses), none twice.
    fn all_mails(&self) -> Vec<String> {
        let more = self.proxy_addresses.iter().filter_map(|address| match address.split_at_checked(5) {
            Some((kind, address)) if kind.eq_ignore_ascii_case("smtp:") => Some(address),
            _ => None,
        });
        let mut seen = HashSet::new();
        let all = self.mails.iter().copied().chain(more);
        all.filter(|mail| seen.insert(mail.to_lowercase())).take(MAILS_MAX).map(short).collect()
    }
}

fn meaning(sources: &Sources, full: &str, base: &str) -> Meaning<Slot> {
    let fixed = match base {
        "objectguid" => Some(Slot::Guid),
        "objectsid" => Some(Slot::Sid),
        "sidhistory" => Some(Slot::SidHistory),
        "useraccountcontrol" => Some(Slot::AccountControl),
        "msds-user-account-control-computed" => Some(Slot::Computed),
        "accountexpires" => Some(Slot::AccountExpires),
        "pwdlastset" => Some(Slot::PasswordLastSet),
        "lastlogontimestamp" => Some(Slot::LastLogon),
        "lockouttime" => Some(Slot::LockoutTime),
        "whencreated" => Some(Slot::Created),
        "grouptype" => Some(Slot::GroupType),
        "description" => Some(Slot::Description),
        "cn" => Some(Slot::CommonName),
        "samaccountname" => Some(Slot::AccountName),
        "proxyaddresses" => Some(Slot::ProxyAddresses),
        "objectclass" => Some(Slot::ObjectClass),
        "admincount" => Some(Slot::AdminCount),
        "serviceprincipalname" => Some(Slot::ServicePrincipalName),
        _ => None,
    };
    let mut slots: Vec<Slot> = fixed.into_iter().collect();
    slots.extend(mapped::places(sources, full).map(Slot::Field));
    // What is written in another form than it is sent in, and what stands in a field of its own.
    let is_rendered = matches!(
        base,
        "objectguid"
            | "objectsid"
            | "sidhistory"
            | "accountexpires"
            | "pwdlastset"
            | "lastlogontimestamp"
            | "lockouttime"
            | "whencreated"
            | "msds-user-account-control-computed"
            | "member"
            | "usnchanged"
    );
    Meaning { is_kept: !is_rendered, slots }
}

impl Mapper {
    pub fn new(settings: &Settings, now_second: i64) -> Self {
        let sources = settings.mapping.sources(&DEFAULT_SOURCES);
        Self { sources, names: Names::default(), now_second, rendered: RENDERED.map(Into::into), dn_name: "dn".into() }
    }

    /// The attributes to ask for when reading users.
    pub fn user_attributes(settings: &Settings) -> Vec<String> {
        let mut names: Vec<String> = STATE.iter().chain(&USUAL).map(|&name| name.to_owned()).collect();
        names.extend(settings.mapping.sources(&DEFAULT_SOURCES).into_iter().flatten());
        names.extend(settings.attributes.iter().cloned());
        without_repetition(names)
    }

    /// The attributes to ask for when reading groups, without the members.
    pub fn group_attributes(settings: &Settings) -> Vec<String> {
        let names = OF_GROUPS.iter().map(|&name| name.to_owned()).chain(settings.attributes.iter().cloned());
        without_repetition(names.collect())
    }

    /// Walks an entry; what is sent in another form than it is written in is put back among the attributes.
    fn walk<'a>(&mut self, entry: &EntryView<'a>, found: &mut Found<'a>) -> Attributes {
        let sources = &self.sources;
        let learn = |name: &str, base: &str| meaning(sources, name, base);
        let mut attributes = self.names.walk(entry, learn, |slots, values| found.take(slots, values));
        let moment = |text: Option<&str>| text.and_then(forms::moment_rfc3339).into_iter().collect();
        let rendered = [
            found.sid.take().into_iter().collect(),
            std::mem::take(&mut found.sid_history),
            moment(found.signs.account_expires),
            moment(found.lockout_time),
        ];
        for (name, values) in self.rendered.iter().zip::<[Vec<String>; 4]>(rendered) {
            if !values.is_empty() {
                attributes.insert(name.clone(), values.into_iter().map(Value::Text).collect());
            }
        }
        attributes
    }
}

/// DN, its key and the external id, or why the entry can't be used.
pub fn head<'a>(entry: &EntryView<'a>, guid: Option<&[u8]>) -> Result<(&'a str, Key, String), Unreadable> {
    let external_id = guid.and_then(forms::guid_text);
    let unreadable = |reason: &str| Unreadable {
        external_id: external_id.clone(),
        name: short(&String::from_utf8_lossy(entry.dn)),
        reason: reason.to_owned(),
    };
    let (dn, key) = entry.dn_and_key().map_err(|reason| unreadable(&reason))?;
    match &external_id {
        Some(id) => Ok((dn, key, id.clone())),
        None => Err(unreadable("The entry has no readable objectGUID.")),
    }
}

impl Map for Mapper {
    fn identity(&mut self, entry: &EntryView<'_>) -> Result<ObservedIdentity, Unreadable> {
        let mut found = Found::default();
        let mut attributes = self.walk(entry, &mut found);
        let (dn, key, external_id) = head(entry, found.guid)?;
        let mails = found.all_mails();
        attributes.insert(self.dn_name.clone(), vec![Value::Text(dn.to_owned())]);
        let fields = found.mapped.fields(dn, &external_id);
        Ok(ObservedIdentity {
            external_id,
            keys: Keys { dn: Some(key), name: None },
            fields: IdentityFields {
                mail: mails.first().cloned(),
                mails,
                status: found.signs.status(self.now_second),
                created_at: found.created.and_then(times::rfc3339),
                last_sign_in_at: found.last_logon.and_then(forms::moment_rfc3339),
                password_changed_at: found.signs.password_last_set.and_then(forms::moment_rfc3339),
                must_change_password: found.signs.must_change_password(),
                account_type: found.marks.account_type,
                facts: found.marks.facts(),
                attributes,
                ..fields
            },
        })
    }

    /// A group without its members, which take more than its entry.
    fn group(&mut self, entry: &EntryView<'_>) -> Result<ObservedGroup, Unreadable> {
        let mut found = Found::default();
        let mut attributes = self.walk(entry, &mut found);
        let (dn, key, external_id) = head(entry, found.guid)?;
        let name = found.account_name.or(found.common_name).map(short);
        attributes.insert(self.dn_name.clone(), vec![Value::Text(dn.to_owned())]);
        Ok(ObservedGroup {
            keys: Keys { dn: Some(key), name: None },
            fields: GroupFields {
                name: name
                    .or_else(|| dn::first_value(dn).map(|text| short(&text)))
                    .unwrap_or_else(|| external_id.clone()),
                description: found.description.map(short),
                kind: found.group_type.and_then(forms::group_kind),
                privileged: accounts::privileged_group(found.marks.sid, found.account_name).map(str::to_owned),
                attributes,
            },
            external_id,
            members: Vec::new(),
        })
    }
}
