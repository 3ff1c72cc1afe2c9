//! From an entry as slapd sends it to an identity or a group as the console knows it.
//!
//! Owns which attributes are asked for, which fill which field, which are kept raw and which never are. It must never
//! keep a secret (password hashes, keys), even if the directory sends one unasked; and `memberOf`, which slapd changes
//! without telling a sync (its overlay edits don't touch modifyTimestamp), so that membership is only read from groups.
//!
//! This runs once per entry, 100,000 times a run: what can be decided per attribute name is decided once per name.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    policy::{self, Policies, Signs},
    settings::{MAPPED_FIELDS, Settings},
};
use crate::connectors::{
    Attributes, GroupFields, IdentityFields, Key, Keys, MemberRef, ObservedGroup, ObservedIdentity, Sighting,
    Unreadable, Value,
    ldap::{EntryView, dn},
};

/// The longest text value that is kept raw.
const TEXT_MAX: usize = 64 * 1024;
/// The longest binary value that is kept raw: certificates and small pictures yes, photographs no.
const BINARY_MAX: usize = 64 * 1024;
/// The longest value of a field that the console shows in lists.
const FIELD_MAX: usize = 1024;
/// Raw values of one entry, all together.
const ENTRY_KEPT_MAX: usize = 512 * 1024;
/// Raw values of one attribute; members are not among them.
const VALUES_MAX: usize = 1000;
/// Mail addresses of one person.
const MAILS_MAX: usize = 200;
/// Attribute names remembered; a directory has a few dozen.
const NAMES_MAX: usize = 4096;

/// Attributes that hold secrets, in lower case. They are not asked for where a list is asked for, and dropped always.
const SECRETS: [&str; 24] = [
    "userpassword",
    "authpassword",
    "unicodepwd",
    "dbcspwd",
    "pwdhistory",
    "sambantpassword",
    "sambalmpassword",
    "sambapasswordhistory",
    "sambaclearttextpassword",
    "sambapreviouscleartextpassword",
    "sambacleartextpassword",
    "sambatrustpassword",
    "krbprincipalkey",
    "krbmkey",
    "krbpwdhistory",
    "krbextradata",
    "ipanthash",
    "ntpwdhistory",
    "lmpwdhistory",
    "supplementalcredentials",
    "userpkcs12",
    "usersmimeprivatekey",
    "oathsecret",
    "olcrootpw",
];

/// Whether an attribute (options allowed) holds secrets.
pub fn is_secret(name: &str) -> bool {
    let base = base_name(name);
    SECRETS.contains(&base.as_str())
        || ["password", "passwordhash", "secret", "privatekey"].iter().any(|end| base.ends_with(end))
}

fn base_name(name: &str) -> String {
    name.split(';').next().unwrap_or_default().to_ascii_lowercase()
}

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
    ShadowExpire,
    Uid,
    CommonName,
    /// A mapped field (index into [`MAPPED_FIELDS`]) and the rank of this source.
    Field(usize, usize),
}

const FIELDS: usize = MAPPED_FIELDS.len();
const MAIL: usize = 2;

/// What is known about an attribute name.
#[derive(Debug, Clone)]
struct Plan {
    /// The name as the directory writes it; `None` is not kept raw.
    keep: Option<Arc<str>>,
    /// Always base64: `;binary`.
    is_binary: bool,
    slots: Vec<Slot>,
    is_member: Option<MemberKind>,
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
    sources: [Vec<String>; FIELDS],
    /// Lower-case base names that are kept; empty keeps all.
    kept: HashSet<String>,
    members: &'static [&'static str],
    has_names: bool,
    plans: Vec<Plan>,
    by_name: HashMap<Vec<u8>, usize>,
    policies: Policies,
    now_second: i64,
    /// Under which the distinguished name stands among the attributes.
    dn_name: Arc<str>,
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
    /// Rank and value of the best source so far.
    fields: [Option<(usize, &'a str)>; FIELDS],
    mails: Vec<&'a str>,
}

impl Mapper {
    pub fn new(settings: &Settings, policies: Policies, now_second: i64) -> Self {
        Self {
            sources: settings.mapping.sources(),
            kept: settings.attributes.iter().map(|name| base_name(name)).collect(),
            members: settings.preset.member_attributes(),
            has_names: settings.groups_may_be_posix(),
            plans: Vec::new(),
            by_name: HashMap::new(),
            policies,
            now_second,
            dn_name: "dn".into(),
        }
    }

    /// The attributes to ask for when reading users.
    pub fn user_attributes(settings: &Settings) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        if settings.attributes.is_empty() {
            names.push("*".to_owned());
        } else {
            names.extend(settings.attributes.iter().cloned());
            names.extend(settings.mapping.sources().into_iter().flatten());
            names.extend(SIGNS.map(str::to_owned));
            names.push("uid".to_owned());
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

    /// What a directory's attribute name means here; learned once.
    fn plan_index(&mut self, name: &[u8]) -> usize {
        if let Some(&index) = self.by_name.get(name) {
            return index;
        }
        if self.plans.len() >= NAMES_MAX {
            self.plans.clear();
            self.by_name.clear();
        }
        let plan = self.make_plan(name);
        let index = self.plans.len();
        self.plans.push(plan);
        self.by_name.insert(name.to_vec(), index);
        index
    }

    fn make_plan(&self, name: &[u8]) -> Plan {
        // RFC 4512 §2.5: names are ASCII. What is not, is no attribute of ours and not kept.
        let Some(text) = std::str::from_utf8(name)
            .ok()
            .filter(|text| text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic()))
        else {
            return Plan { keep: None, is_binary: false, slots: Vec::new(), is_member: None };
        };
        let full = text.to_ascii_lowercase();
        let base = base_name(text);
        let is_own = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(&base));
        let is_listed = self.kept.contains(&base);
        let is_kept = if self.kept.is_empty() { !is_own(&OPERATIONAL) && base != "modifytimestamp" } else { is_listed };
        let is_never = is_secret(text) || base == "memberof";
        let slots = if is_never { Vec::new() } else { self.slots(&full) };
        let is_member =
            self.members.iter().find(|member| member.eq_ignore_ascii_case(&full)).map(|member| match *member {
                "uniqueMember" => MemberKind::NameAndUid,
                "memberUid" => MemberKind::UserName,
                _ => MemberKind::Dn,
            });
        Plan {
            keep: (is_kept && !is_never && is_member.is_none()).then(|| text.into()),
            is_binary: full.split(';').skip(1).any(|option| option == "binary"),
            slots,
            is_member,
        }
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
        slots.extend(fixed);
        for (field, sources) in self.sources.iter().enumerate() {
            for (rank, source) in sources.iter().enumerate() {
                if source.eq_ignore_ascii_case(full) {
                    slots.push(Slot::Field(field, rank));
                }
            }
        }
        slots
    }

    /// Walks an entry once: fields into `found`, raw values into the map, members to `on_member`.
    fn walk<'a>(
        &mut self,
        entry: &EntryView<'a>,
        found: &mut Found<'a>,
        mut on_member: impl FnMut(MemberKind, &'a [u8]),
    ) -> Attributes {
        let mut kept = Attributes::new();
        let mut kept_bytes = 0_usize;
        for (name, values) in entry.attributes() {
            let index = self.plan_index(name);
            let Some(plan) = self.plans.get(index) else { continue };
            if !plan.slots.is_empty() {
                let mut texts =
                    values.filter_map(|value| std::str::from_utf8(value).ok()).filter(|text| !text.is_empty());
                if let Some(first) = texts.next() {
                    for &slot in &plan.slots {
                        fill(found, slot, first);
                        if let Slot::Field(MAIL, _) = slot {
                            found.mails.push(first);
                            found.mails.extend(texts.by_ref().take(MAILS_MAX - 1));
                        }
                    }
                }
            }
            if let Some(kind) = plan.is_member {
                values.for_each(|value| on_member(kind, value));
            } else if let Some(name) = &plan.keep {
                let list = kept.entry(name.clone()).or_insert_with(|| Vec::with_capacity(1));
                keep_all(values, plan.is_binary, &mut kept_bytes, list);
            }
        }
        kept
    }

    /// A user entry as identity.
    pub fn identity(&mut self, entry: &EntryView<'_>) -> Result<ObservedIdentity, Unreadable> {
        let mut found = Found::default();
        let mut attributes = self.walk(entry, &mut found, |_, _| ());
        let (dn, key, external_id) = head(entry, found.entry_uuid)?;
        let field = |index: usize| found.fields.get(index).copied().flatten().map(|(_, text)| short(text));
        let [user_name, upn, _, display_name, given_name, family_name, employee_id, department, title, manager] =
            std::array::from_fn(field);
        let user_name =
            user_name.or_else(|| dn::first_value(dn).map(|text| short(&text))).unwrap_or_else(|| external_id.clone());
        let status = self.policies.status(&found.signs, self.now_second);
        let last_sign_in_at =
            [found.last_success, found.auth_timestamp].into_iter().flatten().filter_map(policy::rfc3339).max();
        let mails: Vec<String> = found.mails.iter().map(|mail| short(mail)).collect();
        let name = found.uid.filter(|_| self.has_names).map(|uid| Key::of_name(&uid.to_lowercase()));
        attributes.insert(self.dn_name.clone(), vec![Value::Text(dn.to_owned())]);
        Ok(ObservedIdentity {
            external_id,
            keys: Keys { dn: Some(key), name },
            fields: IdentityFields {
                user_name,
                upn,
                mail: mails.first().cloned(),
                mails,
                display_name,
                given_name,
                family_name,
                employee_id,
                department,
                title,
                manager,
                status,
                created_at: found.created.and_then(policy::rfc3339),
                last_sign_in_at,
                password_changed_at: found.changed.and_then(policy::rfc3339),
                must_change_password: found.is_reset,
                attributes,
            },
        })
    }

    /// A group with its members.
    pub fn group(&mut self, entry: &EntryView<'_>) -> Result<ObservedGroup, Unreadable> {
        let mut found = Found::default();
        let mut members: Vec<MemberRef> = Vec::new();
        let mut attributes = self.walk(entry, &mut found, |kind, value| members.extend(member(kind, value)));
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
            fields: GroupFields { name: name.unwrap_or_else(|| external_id.clone()), description, kind, attributes },
            external_id,
            members,
        })
    }

    /// A group that exists. `None` when it can't be read; the second look reports that.
    pub fn group_seen(entry: &EntryView<'_>, entry_uuid: Option<&str>) -> Option<Sighting> {
        let (_, key, external_id) = head(entry, entry_uuid).ok()?;
        Some(Sighting::GroupSeen { external_id, keys: Keys { dn: Some(key), name: None } })
    }
}

/// DN, its key and the external id, or why the entry can't be used.
fn head<'a>(entry: &EntryView<'a>, entry_uuid: Option<&str>) -> Result<(&'a str, Key, String), Unreadable> {
    let lossy = || short(&String::from_utf8_lossy(entry.dn));
    let external_id = entry_uuid.and_then(external_id);
    let unreadable =
        |reason: &str| Unreadable { external_id: external_id.clone(), name: lossy(), reason: reason.to_owned() };
    let dn = std::str::from_utf8(entry.dn).map_err(|_| unreadable("The DN is not UTF-8."))?;
    if dn.is_empty() || dn.contains('\0') {
        return Err(unreadable("The entry has no usable DN."));
    }
    let normal = dn::normalise(dn).map_err(|reason| unreadable(&format!("The DN can't be read: {reason}.")))?;
    let Some(external_id) = external_id else {
        return Err(without_id(entry, entry_uuid.is_some()));
    };
    Ok((dn, Key::of_dn(&normal), external_id))
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

pub fn is_true(text: &str) -> bool {
    text.trim().eq_ignore_ascii_case("true")
}

fn fill<'a>(found: &mut Found<'a>, slot: Slot, text: &'a str) {
    match slot {
        Slot::EntryUuid => found.entry_uuid = Some(text),
        Slot::Created => found.created = Some(text),
        Slot::LockedTime => found.signs.pwd_account_locked_time = Some(text),
        Slot::Reset => found.is_reset = is_true(text),
        Slot::PasswordChanged => {
            found.changed = Some(text);
            found.signs.pwd_changed_time = Some(text);
        }
        Slot::StartTime => found.signs.pwd_start_time = Some(text),
        Slot::EndTime => found.signs.pwd_end_time = Some(text),
        Slot::PolicySubentry => found.signs.pwd_policy_subentry = Some(text),
        Slot::LastSuccess => found.last_success = Some(text),
        Slot::AuthTimestamp => found.auth_timestamp = Some(text),
        Slot::NsAccountLock | Slot::LoginDisabled => found.signs.is_disabled |= is_true(text),
        Slot::ShadowExpire => found.signs.shadow_expire = Some(text),
        Slot::Uid => found.uid = Some(text),
        Slot::CommonName => found.common_name = Some(text),
        Slot::Field(field, rank) => {
            if let Some(best) = found.fields.get_mut(field)
                && best.is_none_or(|(before, _)| rank < before)
            {
                *best = Some((rank, text));
            }
        }
    }
}

/// One member value; `None` for the empty DN that groups without members carry as a placeholder.
fn member(kind: MemberKind, value: &[u8]) -> Option<MemberRef> {
    let text = String::from_utf8_lossy(value);
    if text.trim().is_empty() {
        return None;
    }
    let key = match kind {
        MemberKind::UserName => Key::of_name(&text.to_lowercase()),
        MemberKind::Dn => dn_key(&text),
        MemberKind::NameAndUid => dn_key(without_uid(&text)),
    };
    Some(MemberRef { key, text: text.into_owned() })
}

fn dn_key(text: &str) -> Key {
    match dn::normalise(text) {
        Ok(normal) => Key::of_dn(&normal),
        // It points at nothing that can be read, but it is a member and shown as such. No normalised DN has a NUL.
        Err(_) => Key::of_dn(&format!("\0{text}")),
    }
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

/// The values of an attribute as they are kept, and how many more there were.
fn keep_all<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    is_binary: bool,
    kept_bytes: &mut usize,
    list: &mut Vec<Value>,
) {
    let mut more = 0_usize;
    for value in values {
        if list.len() < VALUES_MAX {
            list.push(keep(value, is_binary, kept_bytes));
        } else {
            more += 1;
        }
    }
    if more > 0 {
        list.push(Value::Text(format!("({more} more values, not kept)")));
    }
}

/// A raw value as it is kept: text, base64, or how much there was.
fn keep(value: &[u8], is_binary: bool, kept_bytes: &mut usize) -> Value {
    let text = if is_binary || value.contains(&0) { None } else { std::str::from_utf8(value).ok() };
    let max = if text.is_some() { TEXT_MAX } else { BINARY_MAX };
    if value.len() > max || kept_bytes.saturating_add(value.len()) > ENTRY_KEPT_MAX {
        // The hash makes a change of the value show.
        let hash = crate::secret::encode_hex(crate::secret::sha256(value).get(..8).unwrap_or_default());
        return Value::Text(format!("({} bytes, SHA-256 {hash}…, not kept)", value.len()));
    }
    *kept_bytes += value.len();
    match text {
        Some(text) => Value::Text(text.to_owned()),
        None => Value::Binary { base64: STANDARD.encode(value) },
    }
}

/// A field's text, cut at a character if it is too long to be meant.
fn short(text: &str) -> String {
    if text.len() <= FIELD_MAX {
        return text.to_owned();
    }
    let mut end = FIELD_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

fn without_repetition(names: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.into_iter().filter(|name| !is_secret(name) && seen.insert(name.to_ascii_lowercase())).collect()
}

/// An entry as it came, without secrets, for the mapping form.
pub fn raw(entry: &EntryView<'_>) -> Vec<(String, Vec<Value>)> {
    let mut kept_bytes = 0;
    entry
        .attributes()
        .filter_map(|(name, values)| std::str::from_utf8(name).ok().map(|name| (name, values)))
        .filter(|(name, _)| !is_secret(name))
        .map(|(name, values)| {
            let is_binary = name.to_ascii_lowercase().ends_with(";binary");
            let mut list = Vec::new();
            keep_all(values, is_binary, &mut kept_bytes, &mut list);
            (name.to_owned(), list)
        })
        .collect()
}
