//! Reading changes alone from a real domain controller of Samba: after each delta the copy is what a full run would make it.
//!
//! The controller tells changes to one account (DirSync), to another it does not, and their numbers are searched for.
//! Samba shows what is deleted to administrators only.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use bailiwick::connectors::{
    Connector as _, DeltaStop, Page, Sighting,
    active_directory::{ActiveDirectory, Settings},
    ldap::Credentials,
};

use crate::fixtures::{
    appliance::{Api, Appliance, PATIENCE, number, text},
    ldapsearch, programs,
    samba::{self, ADMINISTRATOR, BASE, STAFF, SYNC, Samba, Size},
    slapd,
};

const PLAIN: &str = "svc-plain@ad.example.test";

/// One directory of the appliance: the domain as one account sees it.
struct Side {
    name: &'static str,
    id: String,
    sees_deleted: bool,
    is_narrow: bool,
}

struct Domain {
    samba: Samba,
    appliance: Appliance,
    sides: Vec<Side>,
}

async fn run(api: &Api, directory: &str, input: Value) -> Value {
    let run = api.post(&format!("/api/directories/{directory}/runs"), &input).await.expect(202);
    api.wait_for_end(&text(&run, "id"), PATIENCE).await
}

fn draft(samba: &Samba, name: &str, account: &str, settings: &[(&str, Value)]) -> Value {
    let mut draft = samba.draft(settings);
    draft["name"] = json!(name);
    draft["credentials"]["read"] = json!({"bindDn": account, "password": samba::password(account)});
    draft
}

impl Domain {
    /// Each account's directory has been read once; `narrow` is that of a part of the domain.
    async fn start(narrow: &[(&str, Value)]) -> Self {
        let samba = Samba::start(Size::SMALL);
        let appliance = Appliance::start().await;
        let mut sides = Vec::new();
        for (name, account, sees_deleted, settings) in [
            ("told", SYNC, false, &[][..]),
            ("numbered", PLAIN, false, &[][..]),
            ("told, with what is deleted", ADMINISTRATOR, true, &[][..]),
            ("told, a part", SYNC, false, narrow),
            ("numbered, a part", PLAIN, false, narrow),
        ] {
            let id = appliance.api.create_directory(&draft(&samba, name, account, settings)).await;
            appliance.api.run_applied(&id).await;
            sides.push(Side { name, id, sees_deleted, is_narrow: !settings.is_empty() });
        }
        Self { samba, appliance, sides }
    }

    /// Makes a change, has each side read it, and answers the runs. Afterwards a full run would change nothing.
    async fn change(&self, what: &str, ldif: &str) -> Vec<(&Side, Value)> {
        self.samba.modify(ldif);
        let mut runs = Vec::new();
        for side in &self.sides {
            let delta = run(&self.appliance.api, &side.id, json!({"mode": "delta"})).await;
            let stands = (&delta["state"], &delta["mode"]);
            assert_eq!(stands, (&json!("applied"), &json!("delta")), "{what}, {}: {delta}", side.name);
            self.assert_current(what, side).await;
            runs.push((side, delta));
        }
        runs
    }

    async fn assert_current(&self, what: &str, side: &Side) {
        let api = &self.appliance.api;
        let path = format!("/api/directories/{}/runs", side.id);
        let dry = api.post(&path, &json!({"mode": "full", "dryRun": true})).await.expect(202);
        let dry = api.wait_for(&text(&dry, "id"), PATIENCE, |state| state != "reading").await;
        assert_eq!(dry["state"], "planned", "{dry}");
        let counts = ["added", "changed", "missing", "returned", "membersAdded", "membersRemoved", "quarantined"]
            .map(|name| number(&dry, &format!("/counts/{name}")));
        if counts != [0; 7] {
            let lines = api.all(&format!("/api/runs/{}/changes", text(&dry, "id")), "changes").await;
            panic!("{what}, {}: a full run would still change {lines:#?} in {dry}", side.name);
        }
    }
}

fn count(run: &Value, name: &str) -> u64 {
    number(run, &format!("/counts/{name}"))
}

/// A record that replaces one attribute.
fn replace(dn: &str, attribute: &str, value: &str) -> String {
    format!("dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n-\n\n")
}

fn rename(dn: &str, rdn: &str, parent: &str) -> String {
    format!("dn: {dn}\nchangetype: moddn\nnewrdn: {rdn}\ndeleteoldrdn: 1\nnewsuperior: {parent}\n\n")
}

/// By which accounts name this group as their primary one.
fn rid(samba: &Samba, name: &str) -> u32 {
    let mut command = samba.tool("ldapsearch");
    command.args(["-LLL", "-o", "ldif-wrap=no", "-b", BASE, &format!("(sAMAccountName={name})"), "objectSid"]);
    let found = ldapsearch::parse(&programs::run(&mut command));
    u32::from_le_bytes(*found[0].attributes["objectSid"][0].last_chunk().expect("four bytes"))
}

#[tokio::test]
async fn after_each_change_the_copy_is_what_a_full_run_would_make_it() {
    let left = format!("OU=Left,{BASE}");
    let load = format!("OU=Load,{BASE}");
    let domain = Domain::start(&[
        ("baseDns", json!([STAFF, left])),
        ("excludedBaseDns", json!([format!("OU=Out,{STAFF}")])),
        ("userFilter", json!("(!(division=Away))")),
    ])
    .await;
    let (alice, carol) = (format!("CN=alice,{STAFF}"), format!("CN=carol,{STAFF}"));

    for (side, run) in domain.change("nothing", &replace(&format!("CN=svc-act,OU=Services,{BASE}"), "info", "x")).await
    {
        // svc-act lies in no base of the part.
        assert!(count(&run, "read") <= 3 && count(&run, "added") == 0, "{}: {run}", side.name);
    }
    for (side, run) in domain.change("a title", &replace(&alice, "title", "Principal Engineer")).await {
        assert_eq!(count(&run, "changed"), 1, "{}: {run}", side.name);
        // Neither Domain Users, nor whom alice manages where the controller says that her name is as it was.
        let most = if side.name.starts_with("told") { 3 } else { 8 };
        assert!(count(&run, "read") <= most, "{}: {run}", side.name);
    }
    let new = format!("dn: CN=neu,{STAFF}\nchangetype: add\nobjectClass: user\nsAMAccountName: neu\n\n");
    for (side, run) in domain.change("somebody new", &new).await {
        assert_eq!((count(&run, "added"), count(&run, "membersAdded")), (1, u64::from(!side.is_narrow)), "{run}");
    }
    for (side, run) in domain.change("a status", &replace(&carol, "userAccountControl", "514")).await {
        assert_eq!(count(&run, "changed"), 1, "{}: {run}", side.name);
    }
    // bob names alice as his manager, and is told to nobody.
    let runs =
        domain.change("a name", &rename(&alice, "CN=Alicia, born Ahlström".replace(',', "\\,").as_str(), STAFF)).await;
    for (side, run) in runs {
        assert_eq!(count(&run, "changed"), 2, "{}: {run}", side.name);
    }
    let member =
        |how: &str| format!("dn: CN=g-mail,{STAFF}\nchangetype: modify\n{how}: member\nmember: {carol}\n-\n\n");
    for (side, run) in domain.change("a member more", &member("add")).await {
        assert_eq!((count(&run, "membersAdded"), count(&run, "membersRemoved")), (1, 0), "{}: {run}", side.name);
    }
    for (side, run) in domain.change("a member less", &member("delete")).await {
        assert_eq!((count(&run, "membersAdded"), count(&run, "membersRemoved")), (0, 1), "{}: {run}", side.name);
    }
    let own = rid(&domain.samba, "g-primary");
    domain.change("a primary group", &replace(&carol, "primaryGroupID", &own.to_string())).await;
    domain.change("the primary group of before", &replace(&carol, "primaryGroupID", "513")).await;

    let out = |runs: Vec<(&Side, Value)>, name: &str| {
        for (side, run) in runs {
            assert_eq!(count(&run, name), u64::from(side.is_narrow), "{}: {run}", side.name);
        }
    };
    out(domain.change("out of the part", &rename(&carol, "CN=carol", &load)).await, "missing");
    out(domain.change("back into it", &rename(&format!("CN=carol,{load}"), "CN=carol", STAFF)).await, "returned");
    out(domain.change("out by the filter", &replace(&carol, "division", "Away")).await, "missing");
    out(domain.change("back by the filter", &replace(&carol, "division", "Here")).await, "returned");
    let unit = |name: &str, parent: &str| {
        format!("dn: OU={name},{parent}\nchangetype: add\nobjectClass: organizationalUnit\n\n")
    };
    let middle = format!("OU=Middle,{left}");
    let branches = [unit("Out", STAFF), unit("Middle", &left), unit("Inner", &middle)].concat();
    domain.change("new branches", &branches).await;
    out(domain.change("left out", &rename(&carol, "CN=carol", &format!("OU=Out,{STAFF}"))).await, "missing");
    let into_inner = rename(&format!("CN=carol,OU=Out,{STAFF}"), "CN=carol", &format!("OU=Inner,{middle}"));
    out(domain.change("no longer left out", &into_inner).await, "returned");
    // carol is in a branch of a branch, and in groups.
    for (side, run) in domain.change("a branch", &rename(&format!("OU=Inner,{middle}"), "OU=Core", &middle)).await {
        assert_eq!(count(&run, "changed"), 1, "{}: {run}", side.name);
    }
    out(domain.change("a branch out of the part", &rename(&middle, "OU=Far", &load)).await, "missing");
    out(domain.change("and back", &rename(&format!("OU=Far,{load}"), "OU=Middle", &left)).await, "returned");

    let deleted = |names: &[&str]| -> String {
        names.iter().map(|name| format!("dn: CN={name},{STAFF}\nchangetype: delete\n\n")).collect()
    };
    domain.samba.modify(&deleted(&["no-mail", "dave", "g-empty"]));
    for side in &domain.sides {
        let api = &domain.appliance.api;
        let delta = run(api, &side.id, json!({"mode": "delta"})).await;
        assert_eq!(count(&delta, "missing"), if side.sees_deleted { 3 } else { 0 }, "{}: {delta}", side.name);
        if side.sees_deleted {
            domain.assert_current("deleted", side).await;
        }
        let full = api.run_applied(&side.id).await;
        assert_eq!(count(&full, "missing"), if side.sees_deleted { 0 } else { 3 }, "{}: {full}", side.name);
    }
    let abilities = async |side: &Side| {
        let report = domain.appliance.api.post(&format!("/api/directories/{}/probe", side.id), &json!({})).await.ok();
        let abilities = report["abilities"].as_array().expect("a list").clone();
        abilities
            .iter()
            .map(|ability| (text(ability, "ability"), text(ability, "state"), ability["fix"].clone()))
            .collect::<Vec<_>>()
    };
    let fix = |account: &str, what: &str| match what {
        "delta" => json!(format!("dsacls \"{BASE}\" /G \"{account}:CA;Replicating Directory Changes\"")),
        _ => json!(format!(
            "dsacls \"CN=Deleted Objects,{BASE}\" /takeownership, then dsacls \"CN=Deleted Objects,{BASE}\" /G \"{account}:LCRP\""
        )),
    };
    let granted = |name: &str| (name.to_owned(), "granted".to_owned(), Value::Null);
    let missing = |name: &str, account: &str| (name.to_owned(), "missing".to_owned(), fix(account, name));
    let [told, numbered, ..] = domain.sides.as_slice() else { panic!("sides") };
    assert_eq!(abilities(told).await, [granted("read"), granted("delta"), missing("deleted-objects", SYNC)]);
    let expected = [granted("read"), missing("delta", PLAIN), missing("deleted-objects", PLAIN)];
    assert_eq!(abilities(numbered).await, expected);
    domain.samba.show_deleted_to(&[SYNC, PLAIN]);
    assert_eq!(abilities(told).await, ["read", "delta", "deleted-objects"].map(granted));
    let expected = [granted("read"), missing("delta", PLAIN), granted("deleted-objects")];
    assert_eq!(abilities(numbered).await, expected);
    for (side, run) in domain.change("deleted, for all to see", &deleted(&["with-spn", "bob", "g-strangers"])).await {
        assert_eq!(count(&run, "missing"), 3, "{}: {run}", side.name);
    }
    domain.appliance.assert_nowhere_on_disk(&samba::password(SYNC));
}

fn open(samba: &Samba, account: &str) -> ActiveDirectory {
    let settings = json!({"servers": [samba.tls_url()], "caPem": slapd::ca_pem()});
    let settings: Settings = serde_json::from_value(settings).expect("settings");
    let credentials = json!({"bindDn": account, "password": samba::password(account)});
    let credentials: Credentials = serde_json::from_value(credentials).expect("credentials");
    ActiveDirectory::new(settings, credentials, jiff::Timestamp::now())
}

/// The watermark of a full reading.
async fn watermark(directory: &ActiveDirectory) -> String {
    let (sender, mut pages) = mpsc::channel(4);
    let take = async { while pages.recv().await.is_some() {} };
    let (end, ()) = tokio::join!(directory.read_full(sender), take);
    end.expect("read").watermark.expect("a watermark")
}

/// The names of groups with their members as a reading of changes sends them, and its next watermark.
async fn groups_since(
    directory: &ActiveDirectory,
    mark: &str,
) -> Result<(Vec<(String, BTreeSet<String>)>, String), DeltaStop> {
    let (sender, mut pages) = mpsc::channel::<Page>(4);
    let mut groups = Vec::new();
    let take = async {
        while let Some(mut page) = pages.recv().await {
            for index in 0..page.sightings.len() {
                if let Sighting::Group { .. } = page.sightings[index] {
                    let group = page.content.group(index).expect("a group");
                    groups.push((group.fields.name, group.members.into_iter().map(|member| member.text).collect()));
                }
            }
        }
    };
    let delta = directory.delta().expect("it can");
    let (end, ()) = tokio::join!(delta.read_changes(mark, sender), take);
    Ok((groups, end?.watermark))
}

#[tokio::test]
async fn a_group_that_comes_in_parts_is_read_whole_also_when_only_changes_are() {
    let samba = Samba::start(Size::SMALL);
    for account in [SYNC, PLAIN] {
        let directory = open(&samba, account).with_members_at_once(3);
        let before = watermark(&directory).await;
        assert_eq!(before.contains("cookie"), account == SYNC, "{before}");
        samba.modify(&replace(&format!("CN=lg00001,OU=Load,{BASE}"), "description", account));
        let (groups, _) = groups_since(&directory, &before).await.expect("changes");
        let mut command = samba.tool("ldapsearch");
        command.args(["-LLL", "-o", "ldif-wrap=no", "-b", BASE, "(sAMAccountName=lg00001)", "member"]);
        let found = ldapsearch::parse(&programs::run(&mut command));
        let expected: BTreeSet<String> = found[0].texts("member").into_iter().collect();
        assert!(expected.len() > 9);
        assert_eq!(groups, [("lg00001".to_owned(), expected)], "{account}");
    }
}

#[tokio::test]
async fn a_watermark_that_the_controller_can_not_go_on_from_is_lost_with_its_reason() {
    let samba = Samba::start(Size::SMALL);
    let directory = open(&samba, SYNC);
    let before = watermark(&directory).await;
    let lost = async |mark: &str| match groups_since(&directory, mark).await {
        Err(DeltaStop::WatermarkLost { reason }) => reason,
        other => panic!("not lost: {other:?}"),
    };
    let parsed: Value = serde_json::from_str(&before).expect("JSON");
    let with = |pointer: &str, value: Value| {
        let mut changed = parsed.clone();
        *changed.pointer_mut(pointer).expect("there") = value;
        changed.to_string()
    };
    for (mark, part) in [
        (with("/stand/invocationId", json!("11111111-2222-3333-4444-555555555555")), "restored from a backup"),
        (with("/stand/usn", json!(u32::MAX)), "earlier state"),
        (with("/cookie/base64", json!("TVNEUwMAAAA=")), "DirSync cookie"),
        (with("/asked", json!("")), "settings"),
        ("{}".to_owned(), "can't be read"),
    ] {
        let reason = lost(&mark).await;
        assert!(reason.contains(part), "{reason}");
    }
    // The right is gone: the numbers go on from the same place.
    samba.modify(&replace(&format!("CN=g-mail,{STAFF}"), "description", "Changed"));
    let plain = open(&samba, PLAIN);
    let (groups, after) = groups_since(&plain, &before).await.expect("changes");
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert!(!after.contains("cookie"), "{after}");
    assert_eq!(groups_since(&plain, &after).await.expect("no changes").0, []);
}

#[tokio::test]
async fn filters_by_what_no_change_tells_have_everything_read_each_time() {
    let samba = Samba::start(Size::SMALL);
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let filter = json!(format!("(memberOf=CN=g-mail,{STAFF})"));
    let directory = api.create_directory(&samba.draft(&[("userFilter", filter)])).await;
    api.run_applied(&directory).await;
    let add = format!("dn: CN=g-mail,{STAFF}\nchangetype: modify\nadd: member\nmember: CN=carol,{STAFF}\n-\n\n");
    samba.modify(&add);
    let next = run(api, &directory, json!({"mode": "delta"})).await;
    assert_eq!((&next["mode"], &next["state"]), (&json!("full"), &json!("applied")), "{next}");
    assert_eq!(count(&next, "added"), 1, "{next}");
    let report = api.post(&format!("/api/directories/{directory}/probe"), &json!({})).await.ok();
    let told = report["abilities"].as_array().expect("a list").iter().find(|ability| ability["ability"] == "delta");
    assert!(text(told.expect("there"), "message").contains("ask for memberof"), "{report}");
}

#[tokio::test]
async fn another_controller_makes_the_next_run_a_guarded_full_one() {
    let samba = Samba::start(Size::SMALL);
    let mut appliance = Appliance::start().await;
    let directory = appliance.api.create_directory(&samba.draft(&[])).await;
    appliance.api.run_applied(&directory).await;
    appliance.stop();
    let database = rusqlite::Connection::open(appliance.data_dir().join("bailiwick.db")).expect("opened");
    let sql = "UPDATE directory SET watermark = replace(watermark, '\"invocationId\":\"', '\"invocationId\":\"x')";
    assert_eq!(database.execute(sql, []).expect("updated"), 1);
    drop(database);
    appliance.restart().await;
    let delta = run(&appliance.api, &directory, json!({"mode": "delta"})).await;
    assert_eq!((&delta["mode"], &delta["state"]), (&json!("full"), &json!("applied")), "{delta}");
    let path = Api::path("/api/logs", &[("type", "audit.run_planned.v1")]);
    let records = appliance.api.all(&path, "logs").await;
    let reasons: Vec<&str> = records.iter().filter_map(|record| record["details"]["watermarkLost"].as_str()).collect();
    assert!(matches!(reasons.as_slice(), [reason] if reason.contains("restored from a backup")), "{records:?}");
    let next = run(&appliance.api, &directory, json!({"mode": "delta"})).await;
    assert_eq!((&next["mode"], &next["state"]), (&json!("delta"), &json!("applied")), "{next}");
}

mod long {
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test]
    async fn a_hundred_changes_in_a_domain_of_ten_thousand_are_read_at_once() {
        let samba = Samba::start(Size::YARDSTICK);
        let appliance = Appliance::start().await;
        let api = &appliance.api;
        for (round, account) in [ADMINISTRATOR, SYNC, PLAIN].into_iter().enumerate() {
            let directory = api.create_directory(&draft(&samba, account, account, &[])).await;
            api.run_full_within(&directory, 10 * PATIENCE).await;
            samba.modify(&samba.hundred_changes(round));
            let begun = Instant::now();
            let delta = run(api, &directory, json!({"mode": "delta"})).await;
            // Not the figure, which is the benchmark's; but nothing may take as long as all people do.
            assert!(begun.elapsed() < Duration::from_secs(5), "{account}: {:?}", begun.elapsed());
            assert_eq!((&delta["mode"], &delta["state"]), (&json!("delta"), &json!("applied")), "{delta}");
            let missing = if account == ADMINISTRATOR { 10 } else { 0 };
            assert_eq!((count(&delta, "added"), count(&delta, "missing")), (20, missing), "{delta}");
            assert!(count(&delta, "changed") >= 50 + 20, "{delta}");
            if account == ADMINISTRATOR {
                let side = Side { name: "the yardstick", id: directory, sees_deleted: true, is_narrow: false };
                let full = api.run_full_within(&side.id, 10 * PATIENCE).await;
                assert_eq!(
                    (count(&full, "changed"), count(&full, "added"), count(&full, "missing")),
                    (0, 0, 0),
                    "{full}"
                );
            }
        }
    }
}
