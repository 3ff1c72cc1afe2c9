//! The organisation as LDAP entries.
//!
//! Owns the shape of the tree and which attribute shows what (inetOrgPerson RFC 2798, groupOfNames RFC 4519,
//! posixGroup RFC 2307, password policy draft-behera-ldap-password-policy). Names of members and managers are written
//! from numbers each time, so that they follow every rename. An entry that reads the same as before is taken over as
//! it was, with its times; it must never get a new `modifyTimestamp` without a difference.

use std::{collections::HashMap, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};
use ldap3::dn_escape;
use uuid::Uuid;

use super::{
    entry::{self, Content, Dn, Entry, Snapshot},
    names::LOCALES,
    organisation::{DEPARTMENTS, Group, GroupClass, Kind, Lock, Member, Organisation, Person, PersonId, SITES, TEAMS},
    random::Random,
};

/// The suffix of the tree.
pub const BASE_DN: &str = "dc=alder-finch,dc=example";
/// The account that may read.
pub const READER_DN: &str = "cn=bailiwick-reader,ou=services,dc=alder-finch,dc=example";
/// The account that may act on accounts.
pub const ACTOR_DN: &str = "cn=bailiwick-actor,ou=services,dc=alder-finch,dc=example";
const ADMINISTRATOR_DN: &str = "cn=admin,dc=alder-finch,dc=example";
/// "Locked until an administrator unlocks it".
pub const LOCKED_FOR_GOOD: &str = "000001010000Z";

/// Generalised time (RFC 4517 §3.3.13), UTC, whole seconds.
pub fn generalised_time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M%SZ").to_string()
}

/// A change sequence number as OpenLDAP writes it: time with microseconds, count within, replica, 0.
fn csn(at: Timestamp, count: u32) -> String {
    let micros = at.subsec_microsecond().unsigned_abs();
    format!("{}.{micros:06}Z#{count:06x}#000#000000", at.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M%S"))
}

/// The entries of one rendering, with what has to be known while they are made.
struct Rendering<'a> {
    organisation: &'a Organisation,
    /// Entries of the last snapshot by `entryUUID`.
    previous: HashMap<&'a str, &'a Arc<Entry>>,
    person_dns: HashMap<PersonId, String>,
    now: Timestamp,
    changes: u32,
    entries: Vec<Arc<Entry>>,
}

/// Everything as entries, superiors first. `now` is the time of the change for what differs from `previous`.
pub fn snapshot(organisation: &Organisation, previous: &Snapshot, now: Timestamp) -> Snapshot {
    let by_uuid =
        previous.entries().iter().filter_map(|entry| Some((entry.values(&entry::ENTRY_UUID).first()?.as_str(), entry)));
    let mut rendering = Rendering {
        organisation,
        previous: by_uuid.collect(),
        person_dns: organisation.people.iter().map(|person| (person.id, person_dn(person))).collect(),
        now,
        changes: 0,
        entries: Vec::with_capacity(organisation.people.len() + organisation.groups.len() + 8),
    };
    rendering.containers();
    for person in &organisation.people {
        rendering.person(person);
    }
    for group in &organisation.groups {
        rendering.group(group);
    }
    Snapshot::new(rendering.entries)
}

fn person_dn(person: &Person) -> String {
    let branch = match person.kind {
        Kind::Employee => "ou=people",
        Kind::Contractor => "ou=contractors,ou=people",
        Kind::Service => "ou=services",
    };
    match &person.display_name {
        Some(shown) if person.is_named_by_cn => format!("cn={},{branch},{BASE_DN}", dn_escape(shown.as_str())),
        _ => format!("uid={},{branch},{BASE_DN}", dn_escape(person.uid.as_str())),
    }
}

fn group_dn(group: &Group) -> String {
    format!("cn={},ou=groups,{BASE_DN}", dn_escape(group.name.as_str()))
}

impl Rendering<'_> {
    /// Adds an entry: the old one when nothing differs, a freshly stamped one otherwise.
    fn push(
        &mut self,
        dn: String,
        mut content: Content,
        uuid: Uuid,
        structural: &str,
        created: Timestamp,
        modified: Timestamp,
    ) {
        content.add(&entry::STRUCTURAL_OBJECT_CLASS, [structural]);
        let uuid = uuid.to_string();
        content.add(&entry::ENTRY_UUID, [uuid.as_str()]);
        content.add(&entry::ENTRY_DN, [dn.as_str()]);
        content.add(&entry::CREATORS_NAME, [ADMINISTRATOR_DN]);
        content.add(&entry::MODIFIERS_NAME, [ADMINISTRATOR_DN]);
        content.add(&entry::CREATE_TIMESTAMP, [generalised_time(created)]);
        if let Some(same) = self.previous.get(uuid.as_str()).filter(|old| old.dn == dn && old.content == content) {
            self.entries.push(Arc::clone(same));
            return;
        }
        let is_first = self.previous.is_empty();
        let at = if is_first { modified } else { self.now };
        self.changes += 1;
        let mut stamps = Content::default();
        stamps.add(&entry::MODIFY_TIMESTAMP, [generalised_time(at)]);
        stamps.add(&entry::ENTRY_CSN, [csn(at, self.changes)]);
        let key = Dn::parse(&dn).map(|dn| dn.key).unwrap_or_default();
        self.entries.push(Arc::new(Entry { dn, key, content, stamps }));
    }

    fn containers(&mut self) {
        let started = self.organisation.started;
        // Their own sequence, so that the tree's ids do not move when a name list grows.
        let mut random = Random::step(self.organisation.seed, u64::MAX);
        let mut root = Content::default();
        root.add(&entry::OBJECT_CLASS, ["top", "dcObject", "organization"]);
        root.add(&entry::DC, ["alder-finch"]);
        root.add(&entry::O, ["Alder & Finch"]);
        root.add(&entry::DESCRIPTION, ["Makers of fine instruments (sample data, invented)"]);
        self.push(BASE_DN.to_owned(), root, random.uuid(), "organization", started, started);
        for (branch, name, description) in [
            ("ou=people", "people", "Employees"),
            ("ou=contractors,ou=people", "contractors", "External people"),
            ("ou=services", "services", "Accounts used by programs"),
            ("ou=groups", "groups", "Groups"),
        ] {
            let mut content = Content::default();
            content.add(&entry::OBJECT_CLASS, ["top", "organizationalUnit"]);
            content.add(&entry::OU, [name]);
            content.add(&entry::DESCRIPTION, [description]);
            self.push(format!("{branch},{BASE_DN}"), content, random.uuid(), "organizationalUnit", started, started);
        }
        for (dn, name, description) in [
            (READER_DN, "bailiwick-reader", "Reads the directory for Bailiwick"),
            (ACTOR_DN, "bailiwick-actor", "Acts on accounts for Bailiwick"),
        ] {
            let mut content = Content::default();
            content.add(&entry::OBJECT_CLASS, ["top", "applicationProcess"]);
            content.add(&entry::CN, [name]);
            content.add(&entry::DESCRIPTION, [description]);
            self.push(dn.to_owned(), content, random.uuid(), "applicationProcess", started, started);
        }
    }

    fn person(&mut self, person: &Person) {
        let name = &person.name;
        let mut content = Content::default();
        content.add(&entry::OBJECT_CLASS, ["top", "person", "organizationalPerson", "inetOrgPerson"]);
        content.add(&entry::UID, [person.uid.as_str()]);
        let latin = name.full_latin();
        match &person.display_name {
            Some(shown) => content.add(&entry::CN, [shown.as_str()]),
            None => content.add(&entry::CN, std::iter::once(name.full()).chain(latin.clone())),
        }
        content.add(&entry::SN, [name.family.as_str()]);
        content.add(&entry::GIVEN_NAME, Some(name.given.as_str()).filter(|given| !given.is_empty()));
        // Colleagues abroad have to be able to read it: the own script first, Latin letters beside it.
        let shown = match (&person.display_name, latin) {
            (Some(shown), _) => shown.clone(),
            (None, Some(latin)) => format!("{} ({latin})", name.full()),
            (None, None) => name.full(),
        };
        content.add(&entry::DISPLAY_NAME, [shown]);
        content.add(&entry::MAIL, person.mails.iter().cloned());
        content.add(&entry::EMPLOYEE_NUMBER, [person.employee_number.to_string()]);
        content.add(
            &entry::EMPLOYEE_TYPE,
            [match person.kind {
                Kind::Employee => "employee",
                Kind::Contractor => "contractor",
                Kind::Service => "service",
            }],
        );
        let department = DEPARTMENTS.get(person.department).map(|department| department.name);
        content.add(&entry::DEPARTMENT_NUMBER, department);
        content.add(&entry::OU, person.team.and_then(|team| TEAMS.get(team)).map(|team| team.name).or(department));
        content.add(&entry::TITLE, [person.title.as_str()]);
        content.add(&entry::MANAGER, person.manager.and_then(|manager| self.person_dns.get(&manager)).cloned());
        content.add(&entry::TELEPHONE_NUMBER, person.phone.clone());
        content.add(&entry::L, SITES.get(person.site).map(|site| site.city));
        if person.kind != Kind::Service {
            content.add(&entry::PREFERRED_LANGUAGE, LOCALES.get(name.locale).map(|locale| locale.language));
        }
        content.add(&entry::DESCRIPTION, person.description);
        content.add(&entry::PWD_CHANGED_TIME, [generalised_time(person.password_changed)]);
        match person.lock {
            Some(Lock::Permanent) => content.add(&entry::PWD_ACCOUNT_LOCKED_TIME, [LOCKED_FOR_GOOD]),
            Some(Lock::Since(at)) => content.add(&entry::PWD_ACCOUNT_LOCKED_TIME, [generalised_time(at)]),
            None => {}
        }
        if person.must_change_password {
            content.add(&entry::PWD_RESET, ["TRUE"]);
        }
        let dn = self.person_dns.get(&person.id).cloned().unwrap_or_default();
        self.push(dn, content, person.uuid, "inetOrgPerson", person.created, person.modified);
    }

    fn group(&mut self, group: &Group) {
        let mut content = Content::default();
        let (class, members) = match group.class {
            GroupClass::Names => ("groupOfNames", &entry::MEMBER),
            GroupClass::UniqueNames => ("groupOfUniqueNames", &entry::UNIQUE_MEMBER),
            GroupClass::Posix { .. } => ("posixGroup", &entry::MEMBER_UID),
        };
        content.add(&entry::OBJECT_CLASS, ["top", class]);
        content.add(&entry::CN, [group.name.as_str()]);
        content.add(&entry::DESCRIPTION, [group.description.as_str()]);
        let is_posix = matches!(group.class, GroupClass::Posix { .. });
        if let GroupClass::Posix { gid } = group.class {
            content.add(&entry::GID_NUMBER, [gid.to_string()]);
        }
        let names = group.members.iter().filter_map(|member| match member {
            Member::Person(id) if is_posix => self.organisation.person(*id).map(|person| person.uid.clone()),
            Member::Person(id) => self.person_dns.get(id).cloned(),
            Member::Group(id) => self.organisation.group(*id).map(group_dn),
        });
        content.add(members, names.collect::<Vec<_>>());
        self.push(group_dn(group), content, group.uuid, class, group.created, group.modified);
    }
}
