//! Active Directory on a real domain controller of Samba: the copy is what the controller holds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::fixtures::{
    appliance::{Api, Appliance, number, text},
    ldapsearch::{self, Entry},
    programs,
    samba::{self, BASE, SYNC, Samba, Size},
    slapd,
};

/// A directory of the controller, with these settings changed.
fn draft(samba: &Samba, changes: &[(&str, Value)]) -> Value {
    let mut settings = json!({"servers": [samba.tls_url()], "caPem": slapd::ca_pem()});
    for (name, value) in changes {
        settings[*name] = value.clone();
    }
    json!({
        "kind": "active-directory",
        "name": "Example domain",
        "settings": settings,
        "credentials": {"read": {"bindDn": SYNC, "password": samba::password(SYNC)}},
        "schedule": {"full": null, "paused": true},
    })
}

/// What the controller says to its administrator.
fn truth(samba: &Samba, filter: &str, attributes: &[&str]) -> Vec<Entry> {
    let mut command = samba.tool("ldapsearch");
    command.args(["-LLL", "-o", "ldif-wrap=no", "-E", "pr=1000/noprompt", "-b", BASE, filter]).args(attributes);
    ldapsearch::parse(&programs::run(&mut command))
}

const PEOPLE: &str = "(&(objectCategory=person)(objectClass=user))";

/// The names of a group's direct members: people by user name, groups by name.
async fn members(api: &Api, group: &Value, is_effective: bool) -> BTreeSet<String> {
    let path = format!("/api/groups/{}/members?effective={is_effective}", text(group, "id"));
    let all = api.all(&path, "members").await;
    let name = |member: &Value| text(member, if text(member, "type") == "identity" { "detail" } else { "name" });
    all.iter().map(name).collect()
}

#[tokio::test]
async fn the_copy_agrees_with_the_controller() {
    let samba = Samba::start(Size::SMALL);
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let directory = api.create_directory(&draft(&samba, &[])).await;
    let run = api.run_applied(&directory).await;
    let people = truth(&samba, PEOPLE, &["*"]);
    let groups = truth(&samba, "(objectClass=group)", &["*"]);
    assert_eq!(number(&run, "/counts/read"), (people.len() + groups.len()) as u64, "{run}");
    assert_eq!(number(&run, "/counts/quarantined"), 0);

    let copy = api.identities(&directory).await;
    let by_name: BTreeMap<String, &Value> =
        copy.iter().map(|identity| (text(identity, "userName"), identity)).collect();
    for person in &people {
        let name = person.text("sAMAccountName").expect("a name");
        let identity = by_name.get(&name).unwrap_or_else(|| panic!("{name} is not in the copy"));
        for (field, attribute) in
            [("upn", "userPrincipalName"), ("mail", "mail"), ("displayName", "displayName"), ("title", "title")]
        {
            let mut expected = person.text(attribute);
            if field == "displayName" {
                expected = expected.or_else(|| person.text("cn"));
            }
            assert_eq!(identity[field].as_str().map(str::to_owned), expected, "{name}: {field}");
        }
    }
    let status = |name: &str| text(by_name[name], "status");
    assert_eq!(status("alice"), "active");
    assert_eq!(status("disabled"), "disabled");
    assert_eq!(status("expired"), "expired");
    assert_eq!(status("krbtgt"), "disabled");
    assert_eq!(by_name["bob"]["managerId"], by_name["alice"]["id"]);

    let copied = api.groups(&directory).await;
    assert_eq!(copied.len(), groups.len());
    let names: BTreeMap<String, String> = people
        .iter()
        .chain(&groups)
        .map(|entry| (entry.dn.to_lowercase(), entry.text("sAMAccountName").expect("a name")))
        .collect();
    for group in &groups {
        let name = group.text("sAMAccountName").expect("a name");
        let found =
            copied.iter().find(|copy| text(copy, "name") == name).unwrap_or_else(|| panic!("{name} is missing"));
        let (_, rid) = sid(group).rsplit_once('-').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a SID");
        let mut expected: BTreeSet<String> =
            group.texts("member").iter().filter_map(|dn| names.get(&dn.to_lowercase()).cloned()).collect();
        let has_it = |person: &&Entry| person.text("primaryGroupID").as_deref() == Some(rid.as_str());
        expected.extend(people.iter().filter(has_it).filter_map(|person| person.text("sAMAccountName")));
        let mut shown = members(api, found, false).await;
        shown.retain(|member| names.values().any(|name| name == member));
        assert_eq!(shown, expected, "{name}");
    }
    let outer = copied.iter().find(|group| text(group, "name") == "g-outer").expect("there");
    let chain = format!("(&{PEOPLE}(memberOf:1.2.840.113556.1.4.1941:=CN=g-outer,{}))", samba::STAFF);
    let expected: BTreeSet<String> =
        truth(&samba, &chain, &["sAMAccountName"]).iter().filter_map(|entry| entry.text("sAMAccountName")).collect();
    let mut effective = members(api, outer, true).await;
    effective.retain(|name| by_name.contains_key(name));
    assert_eq!(effective, expected);

    let again = api.run_applied(&directory).await;
    assert_eq!(number(&again, "/counts/unchanged"), number(&run, "/counts/read"), "{again}");
    appliance.assert_nowhere_on_disk(&samba::password(SYNC));
}

/// A group's security identifier as text, by our own reading of MS-DTYP §2.4.2.
fn sid(entry: &Entry) -> String {
    let bytes = &entry.attributes["objectSid"][0];
    let part = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let parts: Vec<String> = (8..bytes.len()).step_by(4).map(|at| part(at).to_string()).collect();
    format!("S-1-{}-{}", bytes[7], parts.join("-"))
}
