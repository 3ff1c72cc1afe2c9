//! Is the product's copy the same as the directory? Entry by entry, value by value, member by member.
//!
//! Owns the comparison and the one place that knows how the API writes a member. It must never be lenient: what
//! `ldapsearch` shows and the copy lacks is a failure, and so is what the copy shows and `ldapsearch` does not.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::fixtures::{
    appliance::{Api, number, text},
    ldapsearch::Entry,
    truth::{Member, Truth},
};

/// Attributes that must never be kept, whoever may read them.
const SECRET: [&str; 2] = ["userpassword", "pwdhistory"];

/// Attributes that a server keeps about an entry. The copy may leave them out; what it shows of them must be true.
const OPERATIONAL: [&str; 22] = [
    "structuralobjectclass",
    "entryuuid",
    "creatorsname",
    "createtimestamp",
    "entrycsn",
    "modifiersname",
    "modifytimestamp",
    "entrydn",
    "subschemasubentry",
    "hassubordinates",
    "memberof",
    "contextcsn",
    "pwdaccountlockedtime",
    "pwdfailuretime",
    "pwdchangedtime",
    "pwdreset",
    "pwdgraceusetime",
    "pwdpolicysubentry",
    "pwdlastsuccess",
    "authtimestamp",
    "pwdstarttime",
    "pwdendtime",
];

/// Attributes that hold members: shown as members, not among a group's attributes.
const MEMBERS: [&str; 3] = ["member", "uniquemember", "memberuid"];

/// The product's copy of one directory, read over the API.
pub struct Copy {
    /// Identities as in the list, by external id.
    pub identities: BTreeMap<String, Value>,
    /// Groups as in the list, by external id.
    pub groups: BTreeMap<String, Value>,
    /// External id by id, of both.
    external: HashMap<String, String>,
}

impl Copy {
    /// Reads every list page; each object must come exactly once.
    pub async fn read(api: &Api, directory: &str) -> Self {
        let identities = once_each(api.identities(directory).await);
        let groups = once_each(api.groups(directory).await);
        let external =
            identities.iter().chain(&groups).map(|(external, item)| (text(item, "id"), external.clone())).collect();
        Self { identities, groups, external }
    }

    /// The product's id of the object with this entryUUID.
    #[track_caller]
    pub fn id(&self, external: &str) -> String {
        let found = self.identities.get(external).or_else(|| self.groups.get(external));
        text(found.unwrap_or_else(|| panic!("{external} is in the copy")), "id")
    }

    /// What is there and what is missing, without the values: for "the copy is untouched".
    pub fn outline(&self) -> BTreeMap<String, (String, Value)> {
        let all = self.identities.iter().chain(&self.groups);
        all.map(|(external, item)| (external.clone(), (text(item, "id"), item["missingSince"].clone()))).collect()
    }

    /// The members of a group as the API lists them, translated to entryUUIDs.
    pub async fn members(&self, api: &Api, group: &str, is_effective: bool) -> BTreeSet<Member> {
        let effective = if is_effective { "true" } else { "false" };
        let path = Api::path(&format!("/api/groups/{}/members", self.id(group)), &[("effective", effective)]);
        let items = api.all(&path, "members").await;
        let count = items.len();
        let members: BTreeSet<Member> = items.iter().map(|item| self.member(group, item)).collect();
        assert_eq!(members.len(), count, "no member of {group} is listed twice");
        members
    }

    /// How the API writes a member: the id of an identity or of a group, or the text of what points at nothing. Who is
    /// missing is named by a DN (or, in a posixGroup, a user name) that leads nowhere in the directory.
    fn member(&self, group: &str, item: &Value) -> Member {
        if item["status"] == "missing" {
            let external = &self.external[&text(item, "id")];
            if self.groups[group]["kind"] == "posixGroup" {
                return Member::Dangling(text(item, "detail"));
            }
            let object = self.identities.get(external).or_else(|| self.groups.get(external));
            let dn = object.and_then(|object| object.pointer("/attributes/dn/0")).and_then(Value::as_str);
            return Member::Dangling(dn.unwrap_or_else(|| panic!("{external} has a DN")).to_owned());
        }
        let external =
            |item| self.external.get(&text(item, "id")).unwrap_or_else(|| panic!("{item} is in the copy")).clone();
        match text(item, "type").as_str() {
            "identity" => Member::Person(external(item)),
            "group" => Member::Group(external(item)),
            "reference" => Member::Dangling(text(item, "detail")),
            other => panic!("{other} is no type of member: {item}"),
        }
    }
}

/// By external id; a second one with the same id fails the test.
fn once_each(items: Vec<Value>) -> BTreeMap<String, Value> {
    let mut by_id = BTreeMap::new();
    for item in items {
        let external = text(&item, "externalId");
        assert!(by_id.insert(external.clone(), item).is_none(), "{external} is listed twice");
    }
    by_id
}

/// Everything of both sides: people, groups, direct and effective members, and each value of each attribute.
pub async fn assert_same(api: &Api, directory: &str, truth: &Truth) {
    let copy = Copy::read(api, directory).await;
    assert_same_objects(&copy, truth);
    for (external, entry) in &truth.people {
        let identity = api.get(&format!("/api/identities/{}", copy.id(external))).await;
        assert_same_person(&identity, entry);
    }
    for (external, entry) in &truth.groups {
        let group = api.get(&format!("/api/groups/{}", copy.id(external))).await;
        assert_same_group(&group, entry);
        assert_same_members(api, &copy, truth, external).await;
    }
}

/// The same objects are there, none of them missing, and each group counts its members right.
pub fn assert_same_objects(copy: &Copy, truth: &Truth) {
    let keys = |map: &BTreeMap<String, Value>| -> BTreeSet<String> {
        map.iter().filter(|(_, item)| item["missingSince"].is_null()).map(|(external, _)| external.clone()).collect()
    };
    assert_eq!(keys(&copy.identities), truth.people.keys().cloned().collect(), "the people");
    assert_eq!(keys(&copy.groups), truth.groups.keys().cloned().collect(), "the groups");
    for (external, members) in &truth.members {
        let dn = &truth.groups[external].dn;
        assert_eq!(number(&copy.groups[external], "/memberCount"), members.len() as u64, "members of {dn}");
    }
}

/// One group's direct and effective members.
pub async fn assert_same_members(api: &Api, copy: &Copy, truth: &Truth, group: &str) {
    let dn = &truth.groups[group].dn;
    assert_eq!(copy.members(api, group, false).await, truth.members[group], "direct members of {dn}");
    let people: BTreeSet<String> = copy
        .members(api, group, true)
        .await
        .into_iter()
        .filter_map(|member| if let Member::Person(id) = member { Some(id) } else { None })
        .collect();
    assert_eq!(people, truth.effective(group), "effective members of {dn}");
}

/// The named fields and the raw attributes of one person.
pub fn assert_same_person(identity: &Value, entry: &Entry) {
    let dn = &entry.dn;
    for (field, attribute) in [
        ("externalId", "entryUUID"),
        ("userName", "uid"),
        ("mail", "mail"),
        ("givenName", "givenName"),
        ("familyName", "sn"),
        ("employeeId", "employeeNumber"),
        ("department", "departmentNumber"),
        ("title", "title"),
    ] {
        assert_eq!(identity[field].as_str(), entry.text(attribute).as_deref(), "{field} of {dn}");
    }
    // Who has no displayName is shown by their common name.
    let shown = entry.text("displayName").or_else(|| entry.text("cn"));
    assert_eq!(identity["displayName"].as_str(), shown.as_deref(), "displayName of {dn}");
    let mails = identity["mails"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mails: Vec<&str> = mails.iter().filter_map(Value::as_str).collect();
    assert_eq!(mails, entry.texts("mail"), "mails of {dn}");
    assert_eq!(identity["status"].as_str(), Some(status(entry)), "status of {dn}");
    assert_same_attributes(&identity["attributes"], entry, &[]);
}

/// The name, the description and the raw attributes of one group.
pub fn assert_same_group(group: &Value, entry: &Entry) {
    let dn = &entry.dn;
    assert_eq!(group["externalId"].as_str(), entry.text("entryUUID").as_deref(), "externalId of {dn}");
    assert_eq!(group["name"].as_str(), entry.text("cn").as_deref(), "name of {dn}");
    assert_eq!(group["description"].as_str(), entry.text("description").as_deref(), "description of {dn}");
    assert_same_attributes(&group["attributes"], entry, &MEMBERS);
}

/// What the password policy states mean (draft-behera-ldap-password-policy-10), for the test data's policy: locked until
/// unlocked, passwords expire after 90 days. Locked for good is what an administrator does to switch an account off.
fn status(entry: &Entry) -> &'static str {
    if entry.texts("pwdAccountLockedTime") == ["000001010000Z"] {
        "disabled"
    } else if !entry.texts("pwdAccountLockedTime").is_empty() {
        "locked"
    } else if entry.text("pwdChangedTime").is_some_and(|time| time.starts_with("2020")) {
        "expired"
    } else {
        "active"
    }
}

/// Each user attribute with the same bytes; operational ones true where they are shown; secret ones nowhere.
fn assert_same_attributes(shown: &Value, entry: &Entry, left_out: &[&str]) {
    let dn = &entry.dn;
    let shown = shown.as_object().unwrap_or_else(|| panic!("attributes of {dn} are an object"));
    assert_eq!(values(&shown["dn"]), [dn.as_bytes()], "the DN is among the attributes");
    for (name, wanted) in &entry.attributes {
        let lower = name.to_lowercase();
        let base = lower.split(';').next().unwrap_or(&lower);
        if SECRET.contains(&base) {
            assert!(!shown.contains_key(name), "{name} of {dn} must not be kept");
        } else if left_out.contains(&base) {
            continue;
        } else if let Some(found) = shown.get(name) {
            let wanted = wanted.iter().map(|value| as_kept(value)).collect();
            assert_eq!(sorted(values(found)), sorted(wanted), "{name} of {dn}");
        } else {
            assert!(OPERATIONAL.contains(&base), "{name} of {dn} is not in the copy");
        }
    }
    for name in shown.keys().filter(|name| *name != "dn") {
        assert!(entry.attributes.contains_key(name), "{name} of {dn} is in the copy only");
        assert!(
            !SECRET.iter().any(|secret| name.to_lowercase().starts_with(secret)),
            "{name} of {dn} must not be kept"
        );
    }
}

/// Values of an attribute as bytes: text as it is, `{"base64": …}` decoded.
fn values(shown: &Value) -> Vec<Vec<u8>> {
    let list = shown.as_array().unwrap_or_else(|| panic!("values are a list: {shown}"));
    let value = |value: &Value| match value {
        Value::String(text) => text.as_bytes().to_vec(),
        other => STANDARD.decode(text(other, "base64")).expect("base64"),
    };
    list.iter().map(value).collect()
}

/// A binary value over this size is kept as its length and hash, so that a copy of 100,000 photographs stays small and
/// a changed photograph still shows.
const BINARY_MAX: usize = 8 * 1024;

fn as_kept(value: &[u8]) -> Vec<u8> {
    let is_text = std::str::from_utf8(value).is_ok() && !value.contains(&0);
    if is_text || value.len() <= BINARY_MAX {
        return value.to_vec();
    }
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, value);
    let hash: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("({} bytes, SHA-256 {hash}…, not kept)", value.len()).into_bytes()
}

fn sorted(mut values: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    values.sort();
    values
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry() -> Entry {
        let values = |values: &[&[u8]]| values.iter().map(|value| value.to_vec()).collect::<Vec<_>>();
        let attributes = BTreeMap::from([
            ("entryUUID".to_owned(), values(&[b"id-1"])),
            ("uid".to_owned(), values(&[b"anna"])),
            ("sn".to_owned(), values(&[b"Berg"])),
            ("mail".to_owned(), values(&[b"a@x", b"b@x"])),
            ("jpegPhoto".to_owned(), values(&[&[0xff, 0xd8]])),
            ("userPassword".to_owned(), values(&[b"secret"])),
            ("memberOf".to_owned(), values(&[b"cn=g"])),
        ]);
        Entry { dn: "uid=anna,dc=x".into(), attributes }
    }

    fn identity() -> Value {
        json!({
            "externalId": "id-1", "userName": "anna", "familyName": "Berg", "mail": "a@x", "mails": ["a@x", "b@x"], "status": "active",
            "attributes": {
                "dn": ["uid=anna,dc=x"], "uid": ["anna"], "sn": ["Berg"], "mail": ["a@x", "b@x"],
                "jpegPhoto": [{"base64": "/9g="}],
            },
        })
    }

    #[test]
    fn a_true_copy_passes_and_each_small_lie_is_caught() {
        assert_same_person(&identity(), &entry());
        for (pointer, lie) in [
            ("/userName", json!("Anna")),
            ("/mail", json!("b@x")),
            ("/mails", json!(["a@x"])),
            ("/status", json!("locked")),
            ("/displayName", json!("Anna")),
            ("/attributes/dn", json!(["uid=other"])),
            ("/attributes/mail", json!(["a@x"])),
            ("/attributes/sn", json!(["berg"])),
            ("/attributes/jpegPhoto", json!([{"base64": "/9k="}])),
            ("/attributes/userPassword", json!(["secret"])),
            ("/attributes/memberOf", json!(["cn=other"])),
            ("/attributes/invented", json!(["x"])),
            ("/attributes/uid", json!([])),
        ] {
            let mut told = identity();
            let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
            told.pointer_mut(parent).and_then(Value::as_object_mut).expect("there").insert(field.into(), lie);
            let caught = std::panic::catch_unwind(|| assert_same_person(&told, &entry()));
            assert!(caught.is_err(), "{pointer} went unnoticed");
        }
        let mut silent = identity();
        silent["attributes"].as_object_mut().expect("there").remove("sn");
        assert!(std::panic::catch_unwind(|| assert_same_person(&silent, &entry())).is_err());
    }
}
