//! Active Directory on a real domain controller of Samba: the copy is what the controller holds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use bailiwick::connectors::{
    Connector as _, Sighting,
    active_directory::{ActiveDirectory, Settings},
};

use crate::fixtures::{
    appliance::{Api, Appliance, draft as slapd_draft, number, text},
    ldapsearch::{self, Entry},
    programs,
    samba::{self, BASE, SYNC, Samba, Size},
    slapd::{self, Slapd},
};

/// What the controller says to its administrator.
fn truth(samba: &Samba, filter: &str, attributes: &[&str]) -> Vec<Entry> {
    let mut command = samba.tool("ldapsearch");
    command.args(["-LLL", "-o", "ldif-wrap=no", "-E", "pr=1000/noprompt", "-b", BASE, filter]).args(attributes);
    ldapsearch::parse(&programs::run(&mut command))
}

const PEOPLE: &str = "(&(objectCategory=person)(objectClass=user))";

/// The names of a group's direct members: people by user name, groups by name.
pub(super) async fn members(api: &Api, group: &Value, is_effective: bool) -> BTreeSet<String> {
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
    let directory = api.create_directory(&samba.draft(&[])).await;
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
        let rid = rid(group);
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

/// By which accounts name a group as their primary one: the last part of its security identifier (MS-DTYP §2.4.2).
pub(super) fn rid(group: &Entry) -> String {
    let last = group.attributes["objectSid"][0].last_chunk().expect("four bytes");
    u32::from_le_bytes(*last).to_string()
}

/// The steps of a probe by name: state and message.
async fn probe(api: &Api, draft: &Value) -> BTreeMap<String, (String, String)> {
    let directory = api.create_directory(draft).await;
    let report = api.post(&format!("/api/directories/{directory}/probe"), &json!({})).await.ok();
    let steps = report["steps"].as_array().unwrap_or_else(|| panic!("steps in {report}"));
    steps.iter().map(|step| (text(step, "step"), (text(step, "state"), text(step, "message")))).collect()
}

/// The draft with another account.
fn draft_as(samba: &Samba, name: &str, account: &str, password: &str) -> Value {
    let mut draft = samba.draft(&[]);
    draft["name"] = json!(name);
    draft["credentials"]["read"] = json!({"bindDn": account, "password": password});
    draft
}

#[tokio::test]
async fn the_probe_names_the_domain_and_explains_every_refused_bind() {
    let samba = Samba::start(Size::SMALL);
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let right = samba::password(SYNC);
    let by_dn = format!("CN=svc-sync,OU=Services,{BASE}");
    for (name, account) in [("UPN", SYNC), ("domain", "ADTEST\\svc-sync"), ("DN", by_dn.as_str())] {
        let steps = probe(api, &draft_as(&samba, name, account, &right)).await;
        for (step, (state, message)) in &steps {
            assert_eq!(state, "ok", "{name}: {step}: {message}");
        }
        let domain = &steps["domain"].1;
        assert!(domain.contains("dc1.ad.example.test") && domain.contains("Windows Server 2008 R2"), "{domain}");
        assert_eq!(steps["clock"].1, "The clocks agree.");
    }
    // Three wrong passwords lock an account of this domain.
    for _ in 0..3 {
        assert!(samba.refusal("dave@ad.example.test", "wrong").is_some());
    }
    for (account, password, word) in [
        ("svc-sync", "wrong", "does not accept this password"),
        ("nobody", "wrong", "does not accept this password"),
        ("disabled", "User-disabled-pw1", "is disabled"),
        ("expired", "User-expired-pw1", "has expired"),
        ("must-change", "User-must-change-pw1", "must change its password"),
        ("dave", "User-dave-pw1", "is locked"),
    ] {
        let upn = format!("{account}@ad.example.test");
        let (state, message) =
            probe(api, &draft_as(&samba, account, &upn, password)).await.remove("bind").expect("a step");
        assert_eq!(state, "failed", "{account}");
        assert!(message.contains(word) && !message.contains(password), "{account}: {message}");
    }
    let mut plain = draft_as(&samba, "plain", SYNC, &right);
    plain["settings"]["servers"] = json!([format!("ldap://{}", samba::ADDRESS)]);
    plain["settings"]["acceptPlaintext"] = json!(true);
    let (state, message) = probe(api, &plain).await.remove("bind").expect("a step");
    assert_eq!(state, "failed");
    assert!(message.contains("strongerAuthRequired"), "{message}");
    plain["name"] = json!("StartTLS");
    plain["settings"]["acceptPlaintext"] = json!(false);
    plain["settings"]["startTls"] = json!(true);
    for (step, (state, message)) in probe(api, &plain).await {
        assert_eq!(state, "ok", "{step}: {message}");
    }
}

#[tokio::test]
async fn another_ldap_server_is_told_from_a_domain_controller() {
    let slapd = Slapd::shared();
    let appliance = Appliance::start().await;
    let mut draft = slapd_draft(slapd);
    draft["kind"] = json!("active-directory");
    let directory = appliance.api.create_directory(&draft).await;
    let reason = appliance.api.run_failed(&directory).await;
    assert!(reason.contains("is no domain controller"), "{reason}");
    draft["name"] = json!("the same, probed");
    let (state, message) = probe(&appliance.api, &draft).await.remove("domain").expect("a step");
    assert_eq!(state, "failed");
    assert!(message.contains("is no domain controller"), "{message}");
}

#[tokio::test]
async fn parts_that_are_left_out_are_not_read_and_their_members_are_shown_as_they_are_named() {
    let samba = Samba::start(Size::SMALL);
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let parts = [
        ("baseDns", json!([samba::STAFF, format!("OU=Left,{BASE}")])),
        ("excludedBaseDns", json!([format!("ou=left,{}", BASE.to_lowercase())])),
        ("groupFilter", json!("(sAMAccountName=g-*)")),
        ("computers", json!(true)),
    ];
    let directory = api.create_directory(&samba.draft(&parts)).await;
    api.run_applied(&directory).await;
    let names: BTreeSet<String> =
        api.identities(&directory).await.iter().map(|identity| text(identity, "userName")).collect();
    assert!(names.contains("alice") && names.contains("PC1$"), "{names:?}");
    assert!(!names.contains("left") && !names.contains("Administrator"), "{names:?}");
    let groups = api.groups(&directory).await;
    let strangers = groups.iter().find(|group| text(group, "name") == "g-strangers").expect("there");
    let shown = api.all(&format!("/api/groups/{}/members", text(strangers, "id")), "members").await;
    let has_stranger = shown.iter().any(|member| text(member, "name").contains("S-1-5-21-1-2-3-1105"));
    assert!(shown.len() == 2 && has_stranger, "{shown:?}");
}

#[tokio::test]
async fn a_group_that_comes_in_parts_is_read_whole() {
    let samba = Samba::start(Size::SMALL);
    let settings = json!({"servers": [samba.tls_url()], "caPem": slapd::ca_pem()});
    let settings: Settings = serde_json::from_value(settings).expect("settings");
    let credentials = json!({"bindDn": SYNC, "password": samba::password(SYNC)});
    let groups = truth(&samba, "(objectClass=group)", &["member"]);
    let largest = groups.iter().map(|group| group.texts("member").len()).max().expect("groups");
    assert!(largest > 3 * 7, "more than three parts: {largest}");
    let read = async |at_once: Option<u32>| {
        let credentials = serde_json::from_value(credentials.clone()).expect("credentials");
        let mut directory = ActiveDirectory::new(settings.clone(), credentials, jiff::Timestamp::now());
        if let Some(count) = at_once {
            directory = directory.with_members_at_once(count);
        }
        let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
        let reading = tokio::spawn(async move { directory.read_full(sender).await });
        let mut found = BTreeMap::new();
        while let Some(mut page) = receiver.recv().await {
            for index in 0..page.sightings.len() {
                match &page.sightings[index] {
                    Sighting::Group { .. } => {
                        let group = page.content.group(index).expect("a group");
                        let members: BTreeSet<String> = group.members.into_iter().map(|member| member.text).collect();
                        found.insert(group.fields.name, members);
                    }
                    Sighting::Unreadable(unreadable) => panic!("{unreadable:?}"),
                    _ => {}
                }
            }
        }
        reading.await.expect("no panic").expect("a whole reading");
        found
    };
    let whole = read(None).await;
    assert_eq!(whole.len(), groups.len());
    for at_once in [1, 7, 20] {
        assert_eq!(read(Some(at_once)).await, whole, "{at_once} at once");
    }
}

#[tokio::test]
async fn what_changes_on_the_controller_is_what_the_next_run_changes() {
    let mut samba = Samba::start(Size::SMALL);
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let directory = api.create_directory(&samba.draft(&[])).await;
    let first = api.run_applied(&directory).await;
    let staff = samba::STAFF;
    samba.modify(&format!(
        "dn: CN=alice,{staff}
changetype: modify
replace: title
title: Principal Engineer
-
replace: userAccountControl
userAccountControl: 514

dn: CN=bob,{staff}
changetype: moddn
newrdn: CN=Robert
deleteoldrdn: 1
newsuperior: OU=Left,{BASE}

dn: CN=g-mail,{staff}
changetype: modify
add: member
member: CN=carol,{staff}

dn: CN=carol,{staff}
changetype: modify
add: otherTelephone
otherTelephone: 1

dn: CN=no-mail,{staff}
changetype: delete
"
    ));
    let run = api.run_applied(&directory).await;
    let counts = |name: &str| number(&run, &format!("/counts/{name}"));
    // alice and bob, g-mail and Domain Users, which no-mail is gone from. What bob is a member of, he stays.
    assert_eq!((counts("changed"), counts("added"), counts("missing"), counts("returned")), (4, 0, 1, 0), "{run}");
    assert_eq!((counts("membersAdded"), counts("membersRemoved")), (1, 1), "{run}");
    let changes = api.all(&format!("/api/runs/{}/changes", text(&run, "id")), "changes").await;
    let has = |kind: &str, field: &str, after: &str| {
        changes.iter().any(|change| {
            text(change, "kind") == kind && change["field"] == field && change["after"].to_string().contains(after)
        })
    };
    assert!(has("changed", "title", "Principal Engineer") && has("changed", "status", "disabled"), "{changes:#?}");
    assert!(has("changed", "attributes.dn", "CN=Robert,OU=Left"), "{changes:#?}");

    samba.kill();
    let reason = api.run_failed(&directory).await;
    assert!(reason.contains(samba::ADDRESS), "{reason}");
    let copy = api.identities(&directory).await;
    assert_eq!(
        copy.len() + api.groups(&directory).await.len(),
        usize::try_from(number(&first, "/counts/read")).expect("few")
    );
}
