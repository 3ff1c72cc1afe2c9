//! From an entry as slapd sends it to an identity or a group as the console knows it.
//!
//! Owns which attributes are asked for, which fill which field, which are kept raw and which never are. It must never
//! keep a secret (password hashes, keys), even if the directory sends one unasked; and `memberOf`, which slapd changes
//! without telling a sync (its overlay edits don't touch modifyTimestamp), so that membership is only read from groups.
//!
//! This runs once per entry, 100,000 times a run: what can be decided per attribute name is decided once per name.

use std::{collections::HashSet, sync::Arc};

use super::{
    policy::{Policies, Signs},
    settings::{DEFAULT_SOURCES, Settings},
};
use crate::connectors::{
    GroupFields, IdentityFields, Key, Keys, MemberRef, ObservedGroup, ObservedIdentity, Sighting, Unreadable, Value,
    ldap::{
        EntryView, Values, dn,
        mapped::{self, MAIL, Mapped, Place, Sources},
        names::{Meaning, Names},
        pages::Map,
        times,
        values::{base_name, is_true, short, without_repetition},
    },
};

/// Mail addresses of one person.
const MAILS_MAX: usize = 200;

/// Operational attributes that a reading needs and must name (`*` covers user attributes only, RFC 4511 §4.5.1.8).
const OPERATIONAL: [&str; 10] = [
    "entryUUID",
    "createTimestamp",
    "pwdAccountLockedTime",
    "pwdReset",
    "pwdChangedTime",
    "pwdStartTime",
    "pwdEndTime",
    "pwdPolicySubentry",
    "pwdLastSuccess",
    "authTimestamp",
];
/// User attributes of other products that say that an account is not usable.
const SIGNS: [&str; 3] = ["nsAccountLock", "loginDisabled", "shadowExpire"];

/// Where a value goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    EntryUuid,
    Created,
    LockedTime,
    Reset,
    PasswordChanged,
    StartTime,
    EndTime,
    PolicySubentry,
    LastSuccess,
    AuthTimestamp,
    NsAccountLock,
    LoginDisabled,
    /// The attribute that the settings say disables an account.
    OwnDisables,
    ShadowExpire,
    Uid,
    CommonName,
    Field(Place),
    Member(MemberKind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberKind {
    Dn,
    /// A DN with an optional bit string behind it (RFC 4517 §3.3.21).
    NameAndUid,
    UserName,
}

/// Reads entries by the settings. One per reading; it learns the directory's attribute names as they come.
#[derive(Debug)]
pub struct Mapper {
    rules: Rules,
    names: Names<Slot>,
    has_names: bool,
    policies: Policies,
    now_second: i64,
    /// Under which the distinguished name stands among the attributes.
    dn_name: Arc<str>,
}

/// What the settings make of an attribute's name.
#[derive(Debug)]
struct Rules {
    sources: Sources,
    /// Name in lower case and value of the attribute that the settings say disables an account.
    disables: Option<(String, String)>,
    /// Lower-case base names that are kept; empty keeps all.
    kept: HashSet<String>,
    members: &'static [&'static str],
}

/// The first values of the attributes that fields are made from.
#[derive(Default)]
struct Found<'a> {
    entry_uuid: Option<&'a str>,
    created: Option<&'a str>,
    changed: Option<&'a str>,
    last_success: Option<&'a str>,
    auth_timestamp: Option<&'a str>,
    is_reset: bool,
    uid: Option<&'a str>,
    common_name: Option<&'a str>,
    signs: Signs<'a>,
    mapped: Mapped<'a>,
    mails: Vec<&'a str>,
}

impl<'a> Found<'a> {
    /// Takes note of an attribute's first text; `false` when it has none.
    fn texts(&mut self, slots: &[Slot], values: Values<'a>) -> bool {
        let Some(first) = values.texts().next() else { return false };
        slots.iter().for_each(|slot| self.fill(*slot, first));
        true
    }

    fn fill(&mut self, slot: Slot, text: &'a str) {
        match slot {
            Slot::EntryUuid => self.entry_uuid = Some(text),
            Slot::Created => self.created = Some(text),
            Slot::LockedTime => self.signs.pwd_account_locked_time = Some(text),
            Slot::Reset => self.is_reset = is_true(text),
            Slot::PasswordChanged => {
                self.changed = Some(text);
                self.signs.pwd_changed_time = Some(text);
            }
            Slot::StartTime => self.signs.pwd_start_time = Some(text),
            Slot::EndTime => self.signs.pwd_end_time = Some(text),
            Slot::PolicySubentry => self.signs.pwd_policy_subentry = Some(text),
            Slot::LastSuccess => self.last_success = Some(text),
            Slot::AuthTimestamp => self.auth_timestamp = Some(text),
            Slot::NsAccountLock | Slot::LoginDisabled => self.signs.is_disabled |= is_true(text),
            Slot::ShadowExpire => self.signs.shadow_expire = Some(text),
            Slot::Uid => self.uid = Some(text),
            Slot::CommonName => self.common_name = Some(text),
            Slot::Member(_) | Slot::OwnDisables => {}
            Slot::Field(place) => self.mapped.offer(place, text),
        }
    }
}

impl Mapper {
    pub fn new(settings: &Settings, policies: Policies, now_second: i64) -> Self {
        let rules = Rules {
            disables: settings.disable_by.as_ref().map(|by| (by.attribute.to_ascii_lowercase(), by.disabled.clone())),
            sources: settings.mapping.sources(&DEFAULT_SOURCES),
            kept: settings.attributes.iter().map(|name| base_name(name)).collect(),
            members: settings.preset.member_attributes(),
        };
        let has_names = settings.groups_may_be_posix();
        Self { rules, names: Names::default(), has_names, policies, now_second, dn_name: "dn".into() }
    }

    /// The attributes to ask for when reading users.
    pub fn user_attributes(settings: &Settings) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        if settings.attributes.is_empty() {
            names.push("*".to_owned());
        } else {
            names.extend(settings.attributes.iter().cloned());
            names.extend(settings.mapping.sources(&DEFAULT_SOURCES).into_iter().flatten());
            names.extend(SIGNS.map(str::to_owned));
            names.push("uid".to_owned());
            names.extend(settings.disable_by.iter().map(|by| by.attribute.clone()));
        }
        names.extend(OPERATIONAL.map(str::to_owned));
        without_repetition(names)
    }

    /// The attributes to ask for when reading groups.
    pub fn group_attributes(settings: &Settings) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        if settings.attributes.is_empty() {
            names.push("*".to_owned());
        } else {
            names.extend(settings.attributes.iter().cloned());
            names.extend(["cn", "description", "objectClass"].map(str::to_owned));
            names.extend(settings.preset.member_attributes().iter().map(|&name| name.to_owned()));
        }
        names.push("entryUUID".to_owned());
        without_repetition(names)
    }

    /// A group that exists. `None` when it can't be read; the second look reports that.
    pub fn group_seen(entry: &EntryView<'_>, entry_uuid: Option<&str>) -> Option<Sighting> {
        let (_, key, external_id) = head(entry, entry_uuid).ok()?;
        Some(Sighting::GroupSeen { external_id, keys: Keys { dn: Some(key), name: None } })
    }
}

impl Map for Mapper {
    /// A user entry as identity.
    fn identity(&mut self, entry: &EntryView<'_>) -> Result<ObservedIdentity, Unreadable> {
        let mut found = Found::default();
        let rules = &self.rules;
        let meaning = |name: &str, base: &str| rules.meaning(name, base);
        let mut attributes = self.names.walk(entry, meaning, |slots, values| {
            if found.texts(slots, values) && slots.iter().any(|slot| matches!(slot, Slot::Field((MAIL, _)))) {
                found.mails.extend(values.texts().take(MAILS_MAX));
            }
            if slots.contains(&Slot::OwnDisables) {
                found.signs.is_disabled |= rules.disables(values);
            }
        });
        let (dn, key, external_id) = head(entry, found.entry_uuid)?;
        let status = self.policies.status(&found.signs, self.now_second);
        let last_sign_in_at =
            [found.last_success, found.auth_timestamp].into_iter().flatten().filter_map(times::rfc3339).max();
        let mails: Vec<String> = found.mails.iter().map(|mail| short(mail)).collect();
        let name = found.uid.filter(|_| self.has_names).map(|uid| Key::of_name(&uid.to_lowercase()));
        attributes.insert(self.dn_name.clone(), vec![Value::Text(dn.to_owned())]);
        let fields = found.mapped.fields(dn, &external_id);
        Ok(ObservedIdentity {
            external_id,
            keys: Keys { dn: Some(key), name },
            fields: IdentityFields {
                mail: mails.first().cloned(),
                mails,
                status,
                created_at: found.created.and_then(times::rfc3339),
                last_sign_in_at,
                password_changed_at: found.changed.and_then(times::rfc3339),
                must_change_password: found.is_reset,
                attributes,
                ..fields
            },
        })
    }

    /// A group with its members.
    fn group(&mut self, entry: &EntryView<'_>) -> Result<ObservedGroup, Unreadable> {
        let mut found = Found::default();
        let mut members: Vec<MemberRef> = Vec::new();
        let rules = &self.rules;
        let meaning = |name: &str, base: &str| rules.meaning(name, base);
        let mut attributes = self.names.walk(entry, meaning, |slots, values| {
            found.texts(slots, values);
            for slot in slots {
                if let Slot::Member(kind) = slot {
                    members.extend(values.filter_map(|value| member(*kind, value)));
                }
            }
        });
        let (dn, key, external_id) = head(entry, found.entry_uuid)?;
        // The same member under two spellings, or with two UID suffixes, is one member.
        if members.len() > 1 {
            let mut seen = HashSet::with_capacity(members.len());
            members.retain(|member| seen.insert(member.key));
        }
        let name = found.common_name.map(short).or_else(|| dn::first_value(dn).map(|text| short(&text)));
        let kinds: Vec<&str> =
            entry.values("objectClass").iter().filter_map(|value| std::str::from_utf8(value).ok()).collect();
        let kind = ["groupOfNames", "groupOfUniqueNames", "posixGroup"]
            .into_iter()
            .find(|kind| kinds.iter().any(|class| class.eq_ignore_ascii_case(kind)))
            .map(str::to_owned)
            .or_else(|| kinds.iter().find(|class| !class.eq_ignore_ascii_case("top")).map(|class| short(class)));
        let description = entry.text("description").map(short);
        attributes.insert(self.dn_name.clone(), vec![Value::Text(dn.to_owned())]);
        Ok(ObservedGroup {
            keys: Keys { dn: Some(key), name: None },
            fields: GroupFields {
                name: name.unwrap_or_else(|| external_id.clone()),
                description,
                kind,
                privileged: None,
                attributes,
            },
            external_id,
            members,
        })
    }
}

impl Rules {
    fn meaning(&self, name: &str, base: &str) -> Meaning<Slot> {
        let is_kept = if self.kept.is_empty() {
            !OPERATIONAL.iter().any(|own| own.eq_ignore_ascii_case(base)) && base != "modifytimestamp"
        } else {
            self.kept.contains(base)
        };
        let member = self.members.iter().find(|member| member.eq_ignore_ascii_case(name)).map(|member| match *member {
            "uniqueMember" => MemberKind::NameAndUid,
            "memberUid" => MemberKind::UserName,
            _ => MemberKind::Dn,
        });
        let mut slots = self.slots(name);
        slots.extend(member.map(Slot::Member));
        Meaning { is_kept: is_kept && member.is_none(), slots }
    }

    /// Whether these values of the attribute that disables accounts do so.
    fn disables(&self, mut values: Values<'_>) -> bool {
        let disabled = self.disables.as_ref().map(|(_, disabled)| disabled.as_str());
        let text = values.next().and_then(|value| std::str::from_utf8(value).ok());
        text.zip(disabled).is_some_and(|(text, disabled)| text.eq_ignore_ascii_case(disabled))
    }

    fn slots(&self, full: &str) -> Vec<Slot> {
        let mut slots = Vec::new();
        let fixed = match full {
            "entryuuid" => Some(Slot::EntryUuid),
            "createtimestamp" => Some(Slot::Created),
            "pwdaccountlockedtime" => Some(Slot::LockedTime),
            "pwdreset" => Some(Slot::Reset),
            "pwdchangedtime" => Some(Slot::PasswordChanged),
            "pwdstarttime" => Some(Slot::StartTime),
            "pwdendtime" => Some(Slot::EndTime),
            "pwdpolicysubentry" => Some(Slot::PolicySubentry),
            "pwdlastsuccess" => Some(Slot::LastSuccess),
            "authtimestamp" => Some(Slot::AuthTimestamp),
            "nsaccountlock" => Some(Slot::NsAccountLock),
            "logindisabled" => Some(Slot::LoginDisabled),
            "shadowexpire" => Some(Slot::ShadowExpire),
            "uid" => Some(Slot::Uid),
            "cn" => Some(Slot::CommonName),
            _ => None,
        };
        if self.disables.as_ref().is_some_and(|(name, _)| name == full) {
            slots.push(Slot::OwnDisables);
        }
        slots.extend(fixed);
        slots.extend(mapped::places(&self.sources, full).map(Slot::Field));
        slots
    }
}

/// DN, its key and the external id, or why the entry can't be used.
fn head<'a>(entry: &EntryView<'a>, entry_uuid: Option<&str>) -> Result<(&'a str, Key, String), Unreadable> {
    let lossy = || short(&String::from_utf8_lossy(entry.dn));
    let external_id = entry_uuid.and_then(external_id);
    let unreadable =
        |reason: &str| Unreadable { external_id: external_id.clone(), name: lossy(), reason: reason.to_owned() };
    let (dn, key) = entry.dn_and_key().map_err(|reason| unreadable(&reason))?;
    let Some(external_id) = external_id else {
        return Err(without_id(entry, entry_uuid.is_some()));
    };
    Ok((dn, key, external_id))
}

/// An entry that has no usable id.
pub fn without_id(entry: &EntryView<'_>, has_attribute: bool) -> Unreadable {
    let reason = if has_attribute { "The entryUUID is not a UUID." } else { "The entry has no readable entryUUID." };
    let name = short(&String::from_utf8_lossy(entry.dn));
    Unreadable { external_id: None, name, reason: reason.to_owned() }
}

/// The external id that an entryUUID gives (RFC 4530), in lower case.
pub fn external_id(text: &str) -> Option<String> {
    let text = text.trim();
    is_external_id(text).then(|| text.to_ascii_lowercase())
}

/// RFC 4530: a UUID in its usual text form.
fn is_external_id(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// One member value; `None` for the empty DN that groups without members carry as a placeholder.
fn member(kind: MemberKind, value: &[u8]) -> Option<MemberRef> {
    let text = String::from_utf8_lossy(value);
    if text.trim().is_empty() {
        return None;
    }
    let key = match kind {
        MemberKind::UserName => Key::of_name(&text.to_lowercase()),
        MemberKind::Dn => dn::key_of_any(&text),
        MemberKind::NameAndUid => dn::key_of_any(without_uid(&text)),
    };
    Some(MemberRef { key, text: text.into_owned() })
}

/// `uid=x,dc=y#'0101'B` without the bit string.
fn without_uid(text: &str) -> &str {
    match text.rsplit_once('#') {
        Some((name, uid))
            if uid
                .strip_prefix('\'')
                .and_then(|uid| uid.strip_suffix("'B"))
                .is_some_and(|bits| bits.bytes().all(|b| matches!(b, b'0' | b'1'))) =>
        {
            name
        }
        _ => text,
    }
}
