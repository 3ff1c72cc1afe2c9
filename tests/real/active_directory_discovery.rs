//! Controllers of a real domain found by its own DNS, and its global catalog.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::active_directory::{members, rid};
use crate::fixtures::{
    acting::{act_observed, ask, identity},
    appliance::{Api, Appliance, PATIENCE, number, text},
    ldapsearch::{self, Entry},
    programs,
    samba::{self, ADDRESS, BASE, DOMAIN, HOST, STAFF, SYNC, Samba, Size},
};

const ACT: &str = "svc-act@ad.example.test";
const SITE: &str = "Default-First-Site-Name";
const PEOPLE: &str = "(&(objectCategory=person)(objectClass=user))";

/// The steps of a probe, in order: name, state, message, fix.
async fn probe(api: &Api, draft: &Value) -> Vec<[String; 4]> {
    let trial = json!({"kind": draft["kind"], "settings": draft["settings"], "credentials": draft["credentials"]});
    let report = api.post("/api/directories/probe", &trial).await.ok();
    let steps = report["steps"].as_array().unwrap_or_else(|| panic!("steps in {report}"));
    let part = |step: &Value, name: &str| step[name].as_str().unwrap_or_default().to_owned();
    steps.iter().map(|step| ["step", "state", "message", "fix"].map(|name| part(step, name))).collect()
}

async fn delta(api: &Api, directory: &str) -> Value {
    let run = api.post(&format!("/api/directories/{directory}/runs"), &json!({"mode": "delta"})).await.expect(202);
    api.wait_for_end(&text(&run, "id"), PATIENCE).await
}

fn retitle(samba: &Samba, name: &str, title: &str) {
    samba.modify(&format!("dn: CN={name},{STAFF}\nchangetype: modify\nreplace: title\ntitle: {title}\n"));
}

/// Puts a controller that is not there into the site `Branch`, and a host of somebody else.
fn add_branch(samba: &Samba) {
    let (zone, name) = (format!("_msdcs.{DOMAIN}"), "_ldap._tcp.Branch._sites.dc");
    samba.add_to_dns(&zone, name, "SRV", &format!("dc0.{DOMAIN} 389 0 100"));
    samba.add_to_dns(&zone, name, "SRV", "dc1.elsewhere.test 389 0 100");
    samba.add_to_dns(DOMAIN, "dc0", "A", "127.0.0.1");
}

#[tokio::test]
async fn a_controller_that_dns_names_is_read_followed_and_acted_on() {
    let samba = Samba::start(Size::SMALL);
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let listed = api.create_directory(&samba.draft(&[])).await;
    let expected = number(&api.run_applied(&listed).await, "/counts/read");
    for (name, settings) in
        [("by domain", &[][..]), ("by site, StartTLS", &[("site", json!(SITE)), ("startTls", json!(true))])]
    {
        let mut draft = samba.found_draft(settings);
        draft["name"] = json!(name);
        draft["credentials"]["act"] = json!({"bindDn": ACT, "password": samba::password(ACT)});
        let directory = api.create_directory(&draft).await;
        let run = api.run_applied(&directory).await;
        assert_eq!(number(&run, "/counts/read"), expected, "{name}: {run}");
        retitle(&samba, "alice", name);
        let run = delta(api, &directory).await;
        assert_eq!((text(&run, "mode"), number(&run, "/counts/changed")), ("delta".to_owned(), 1), "{name}: {run}");
        let bob = identity(api, &directory, "bob").await;
        act_observed(api, "disable", &bob).await;
        act_observed(api, "enable", &bob).await;
        let trial = json!({
            "kind": "active-directory",
            "settings": draft["settings"],
            "credentials": {"read": draft["credentials"]["read"]},
        });
        let sample = api.post("/api/directories/sample", &trial).await.ok();
        assert!(text(&sample, "dn").ends_with(BASE), "{sample}");
    }
    // A changed domain, site or DNS server may be another's: the stored password stays here.
    let mut draft = samba.found_draft(&[]);
    draft["name"] = json!("kept");
    let directory = api.create_directory(&draft).await;
    for (field, value) in [
        ("domain", json!("evil.test")),
        ("dnsServers", json!(["10.99.1.3"])),
        ("site", json!(SITE)),
        ("globalCatalog", json!(true)),
    ] {
        let mut settings = draft["settings"].clone();
        settings[field] = value;
        let body = json!({"settings": settings});
        let answer = api.post(&format!("/api/directories/{directory}"), &body).await.expect(422);
        assert!(text(&answer["fields"], "credentials.read").contains("password"), "{field}: {answer}");
    }
    appliance.assert_audit_verifies();
}

#[tokio::test]
async fn a_controller_that_is_dead_is_passed_over_and_the_one_that_was_read_is_stuck_to() {
    let samba = Samba::start(Size::SMALL);
    add_branch(&samba);
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let listed = samba.draft(&[("servers", json!(["ldaps://127.0.0.1:1", samba.tls_url()]))]);
    let mut found = samba.found_draft(&[("site", json!("Branch"))]);
    found["name"] = json!("found");
    for draft in [listed, found] {
        let directory = api.create_directory(&draft).await;
        let run = api.run_applied(&directory).await;
        assert!(number(&run, "/counts/read") > 40, "{run}");
        retitle(&samba, "alice", &text(&draft, "name"));
        let run = delta(api, &directory).await;
        assert_eq!((text(&run, "mode"), number(&run, "/counts/changed")), ("delta".to_owned(), 1), "{run}");
    }
}

#[tokio::test]
async fn the_probe_says_what_dns_answered() {
    let samba = Samba::start(Size::SMALL);
    add_branch(&samba);
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    for (settings, parts) in [
        (&[][..], &["DNS names 1 domain controller of ad.example.test.", HOST][..]),
        (&[("site", json!(SITE))], &["1 of them in the site Default-First-Site-Name", HOST]),
        (&[("globalCatalog", json!(true))], &["DNS names 1 global catalog", HOST]),
    ] {
        for [step, state, message, _] in probe(api, &samba.found_draft(settings)).await {
            assert_eq!(state, "ok", "{step}: {message}");
            if step == "discovery" {
                assert!(parts.iter().all(|part| message.contains(part)), "{message}");
            }
        }
    }
    let unknown = probe(api, &samba.found_draft(&[("site", json!("Nowhere"))])).await;
    let [step, state, message, fix] = &unknown[0];
    assert_eq!((step.as_str(), state.as_str()), ("discovery", "warning"), "{message}");
    assert!(message.contains("none of them in the site Nowhere") && message.contains(HOST), "{message}");
    assert!(fix.contains("name of the site"), "{fix}");
    assert!(unknown.iter().any(|[step, state, ..]| step == "users" && state == "ok"), "{unknown:?}");

    let branch = probe(api, &samba.found_draft(&[("site", json!("Branch"))])).await;
    let [_, state, message, _] = &branch[0];
    assert_eq!(state, "warning", "{message}");
    assert!(message.contains("dc0.ad.example.test, dc1.ad.example.test"), "{message}");
    assert!(message.contains("no hosts of this domain: dc1.elsewhere.test"), "{message}");
    let states: Vec<&str> =
        branch.iter().filter(|[step, ..]| step == "connect").map(|[_, state, ..]| state.as_str()).collect();
    assert_eq!(states, ["failed", "ok"]);

    for (field, value, part) in [
        ("domain", json!("other.test"), "There is no domain other.test"),
        ("dnsServers", json!(["127.0.0.1:1"]), "DNS could not be asked"),
    ] {
        let steps = probe(api, &samba.found_draft(&[(field, value)])).await;
        let [step, state, message, fix] = &steps[0];
        assert_eq!((step.as_str(), state.as_str()), ("discovery", "failed"), "{message}");
        assert!(message.contains(part) && fix.contains("DNS"), "{message} {fix}");
        assert!(steps.iter().skip(1).all(|[_, state, ..]| state == "skipped"), "{steps:?}");
    }
    let mut draft = samba.found_draft(&[("domain", json!("other.test"))]);
    draft["name"] = json!("unknown");
    let directory = api.create_directory(&draft).await;
    let reason = api.run_failed(&directory).await;
    assert!(reason.contains("There is no domain other.test"), "{reason}");
}

/// What the global catalog says to the administrator.
fn catalog(samba: &Samba, filter: &str) -> Vec<Entry> {
    let mut command = samba.catalog_tool("ldapsearch");
    command.args(["-LLL", "-o", "ldif-wrap=no", "-E", "pr=1000/noprompt", "-b", BASE, filter]);
    ldapsearch::parse(&programs::run(&mut command))
}

#[tokio::test]
async fn a_global_catalog_is_read_as_it_stands_and_never_acted_on() {
    let samba = Samba::start(Size::SMALL);
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let (people, groups) = (catalog(&samba, PEOPLE), catalog(&samba, "(objectCategory=group)"));
    assert!(people.len() > 40 && groups.len() > 10);
    let names: BTreeMap<String, String> = people
        .iter()
        .chain(&groups)
        .map(|entry| (entry.dn.to_lowercase(), entry.text("sAMAccountName").expect("a name")))
        .collect();
    let port = json!([format!("ldaps://{ADDRESS}")]);
    let mut listed = samba.draft(&[("servers", port), ("globalCatalog", json!(true))]);
    listed["name"] = json!("listed");
    let found = samba.found_draft(&[("globalCatalog", json!(true)), ("startTls", json!(true))]);
    for draft in [listed, found] {
        let directory = api.create_directory(&draft).await;
        let run = api.run_applied(&directory).await;
        assert_eq!(number(&run, "/counts/read"), (people.len() + groups.len()) as u64, "{run}");
        assert_eq!(number(&run, "/counts/quarantined"), 0, "{run}");
        let copy: BTreeSet<String> =
            api.identities(&directory).await.iter().map(|identity| text(identity, "userName")).collect();
        let expected: BTreeSet<String> = people.iter().filter_map(|entry| entry.text("sAMAccountName")).collect();
        assert_eq!(copy, expected);
        let copied = api.groups(&directory).await;
        for group in &groups {
            let name = group.text("sAMAccountName").expect("a name");
            let rid = rid(group);
            let mut expected: BTreeSet<String> =
                group.texts("member").iter().filter_map(|dn| names.get(&dn.to_lowercase()).cloned()).collect();
            let has_it = |person: &&Entry| person.text("primaryGroupID").as_deref() == Some(rid.as_str());
            let is_of_domain = group.dn.to_lowercase().find("cn=builtin,").is_none();
            expected.extend(
                people.iter().filter(|person| is_of_domain && has_it(person)).filter_map(|p| p.text("sAMAccountName")),
            );
            let copy = copied.iter().find(|copy| text(copy, "name") == name).unwrap_or_else(|| panic!("no {name}"));
            let mut shown = members(api, copy, false).await;
            shown.retain(|member| names.values().any(|name| name == member));
            assert_eq!(shown, expected, "{name}");
        }
        // There are no changes to read: it is a full run.
        retitle(&samba, "alice", &format!("of {}", text(&draft, "name")));
        let run = delta(api, &directory).await;
        assert_eq!((text(&run, "mode"), number(&run, "/counts/changed")), ("full".to_owned(), 1), "{run}");

        let alice = identity(api, &directory, "alice").await;
        for action in ["disable", "unlock", "force-password-reset", "contain", "force-sign-out"] {
            let request = ask(api, action, &[&alice]).await;
            assert_eq!(request["tasks"][0]["state"], "refused", "{request}");
            let reason = text(&request["tasks"][0], "error");
            assert!(reason.contains("global catalog, which is read only"), "{action}: {reason}");
        }
        let mut acting = draft["credentials"].clone();
        acting["act"] = json!({"bindDn": SYNC, "password": "never sent"});
        let body = json!({"credentials": acting});
        let answer = api.post(&format!("/api/directories/{directory}"), &body).await.expect(422);
        assert!(text(&answer["fields"], "credentials.act").contains("read only"), "{answer}");
        let steps = probe(api, &draft).await;
        let [_, state, message, _] = steps.iter().find(|[step, ..]| step == "domain").expect("a step");
        assert!(
            state == "ok" && message.contains(&format!("global catalog is read, of the forest {BASE}")),
            "{message}"
        );
        let trial = json!({"kind": draft["kind"], "settings": draft["settings"], "credentials": acting});
        let answer = api.post("/api/directories/probe", &trial).await.expect(422);
        assert!(text(&answer["fields"], "credentials.act").contains("read only"), "{answer}");
    }
    // A directory that acts can't become a global catalog while it does.
    let mut draft = samba.draft(&[]);
    draft["name"] = json!("acting");
    draft["credentials"]["act"] = json!({"bindDn": ACT, "password": samba::password(ACT)});
    let directory = api.create_directory(&draft).await;
    let mut settings = draft["settings"].clone();
    settings["globalCatalog"] = json!(true);
    let path = format!("/api/directories/{directory}");
    let mut body = json!({"settings": settings, "credentials": {"read": draft["credentials"]["read"]}});
    let answer = api.post(&path, &body).await.expect(422);
    assert!(text(&answer["fields"], "credentials.act").contains("read only"), "{answer}");
    body["credentials"]["act"] = Value::Null;
    api.post(&path, &body).await.expect(200);
}
