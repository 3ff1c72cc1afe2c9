//! A directory that is not where it was, not what it was, or that stops in the middle of a sentence: the copy stays as it
//! is until a person has seen what would become of it.

use serde_json::json;

use super::{
    comparison::{assert_same_members, assert_same_objects},
    watched::{Watched, codes},
};
use crate::fixtures::{
    appliance::{PATIENCE, number, text},
    people::{GROUPS, PEOPLE, SUFFIX, Shape},
    proxy::Proxy,
    slapd::{Options, SYNC_DN, SYNC_PASSWORD, Slapd},
    truth::Truth,
};

/// Three hundred ordinary people, and groups of which nothing is kept by overlays.
fn plain() -> Options {
    Options::of(Shape { people: 300, groups: 30, members: 12, giant: 150, tree: 0, odd: false, member_of: false })
}

/// Behind a wire whose far end can be put somewhere else.
async fn wired(slapd: Slapd) -> (Watched, Proxy) {
    let wire = Proxy::start(slapd.tls_port);
    let server = json!([format!("ldaps://127.0.0.1:{}", wire.port)]);
    (Watched::on(slapd, &[("/settings/servers", server)]).await, wire)
}

#[tokio::test]
async fn an_answer_without_anybody_and_one_with_half_of_them_wait_though_the_server_says_success() {
    let mut watched = Watched::on(Slapd::start(plain()), &[]).await;
    let before = watched.copy().await;
    for (hidden, expected) in [("^uid=", "empty-answer"), ("^uid=u000(0|10|11|12|13|14|15|16|17)", "short-answer")] {
        // What a changed access rule does: the same question, and success with less.
        watched.slapd.start_again(|options| options.hidden = hidden);
        let (run, codes) = watched.parked().await;
        assert_eq!(codes[0], expected, "{run}");
        assert!(!codes.contains(&"settings-changed".to_owned()), "{run}");
        assert_eq!(watched.copy().await.outline(), before.outline(), "{expected}");
    }
    watched.slapd.start_again(|options| options.hidden = "");
    let run = watched.api().run_applied(&watched.directory).await;
    assert_eq!((number(&run, "/counts/missing"), number(&run, "/counts/returned")), (0, 0), "{run}");
    watched.appliance.assert_audit_verifies();
}

#[tokio::test]
async fn a_renamed_branch_changes_names_and_loses_nobody() {
    let mut watched = Watched::on(Slapd::start(plain()), &[]).await;
    let before = watched.copy().await;
    watched.slapd.rename(PEOPLE, "ou=staff");
    // Everybody has another name, and the groups still write the old ones.
    let (run, codes) = watched.parked_in("delta").await;
    assert_eq!(codes, ["over-limit"], "{run}");
    assert!(text(&run, "reason").contains("memberships"), "{run}");
    let counts = |name: &str| number(&run, &format!("/counts/{name}"));
    assert_eq!((counts("missing"), counts("added"), counts("returned")), (0, 0, 0), "{run}");
    assert!(counts("changed") >= 300, "{run}");
    let again = watched.run("full").await;
    assert_eq!(again["supersededBy"], run["id"], "a full reading says the same: {again}");
    assert_eq!(watched.copy().await.outline(), before.outline());
    watched.approve(&run).await;
    let truth = Truth::read(&watched.slapd);
    let after = watched.copy().await;
    assert_same_objects(&after, &truth);
    for group in truth.groups.keys() {
        assert_same_members(watched.api(), &after, &truth, group).await;
    }
    assert_eq!(after.outline(), before.outline(), "the same ids, nobody missing");
    // And back, told by a server that has forgotten what changed and lists everybody as there.
    watched.slapd.rename(&format!("ou=staff,{SUFFIX}"), "ou=people");
    watched.slapd.start_again(|_| ());
    let (run, _) = watched.parked_in("delta").await;
    assert_eq!((number(&run, "/counts/missing"), number(&run, "/counts/quarantined")), (0, 0), "{run}");
    watched.approve(&run).await;
    let (truth, again) = (Truth::read(&watched.slapd), watched.copy().await);
    for group in truth.groups.keys() {
        assert_same_members(watched.api(), &again, &truth, group).await;
    }
    let quiet = watched.api().run_applied(&watched.directory).await;
    assert_eq!((number(&quiet, "/counts/changed"), number(&quiet, "/counts/membersAdded")), (0, 0), "{quiet}");
}

#[tokio::test]
async fn a_base_that_moved_fails_until_the_settings_follow_and_everybody_is_who_they_were() {
    let bases = [("/settings/baseDns", json!([PEOPLE, GROUPS]))];
    let watched = Watched::on(Slapd::start(plain()), &bases).await;
    let before = watched.copy().await;
    let staff = format!("ou=staff,ou=empty,{SUFFIX}");
    watched.slapd.relocate(PEOPLE, "ou=staff", &format!("ou=empty,{SUFFIX}"));
    for mode in ["delta", "full"] {
        let run = watched.run(mode).await;
        assert_eq!((&run["state"], &run["reasonCode"]), (&json!("failed"), &json!("no-such-base")), "{run}");
        assert!(text(&run, "reason").contains(PEOPLE), "{run}");
    }
    assert_eq!(watched.copy().await.outline(), before.outline());
    // An administrator who mistypes the new base is told, and loses nothing.
    watched.set("baseDns", json!([GROUPS])).await;
    let (_, codes) = watched.parked().await;
    assert_eq!(codes[..2], ["empty-answer", "settings-changed"]);
    watched.set("baseDns", json!([staff, GROUPS])).await;
    let (run, codes) = watched.parked().await;
    assert_eq!(codes, ["settings-changed", "over-limit"], "{run}");
    assert_eq!((number(&run, "/counts/missing"), number(&run, "/counts/added")), (0, 0), "{run}");
    assert_eq!(watched.copy().await.outline(), before.outline());
    watched.approve(&run).await;
    let after = watched.copy().await;
    assert_same_objects(&after, &Truth::read(&watched.slapd));
    assert_eq!(after.outline(), before.outline(), "the same ids, nobody missing");
    watched.appliance.assert_audit_verifies();
}

#[tokio::test]
async fn another_server_behind_the_same_address_is_noticed_by_every_kind_of_run() {
    let (watched, wire) = wired(Slapd::start(plain())).await;
    let before = watched.copy().await;
    // The same names, everybody with another entryUUID: what a directory loaded from an LDIF export looks like.
    let stranger = Slapd::start(Options::of(Shape { people: 299, ..plain().shape }));
    wire.lead_to(stranger.tls_port);
    for (mode, reason) in [("delta", Some("another directory")), ("full", None)] {
        let run = watched.run(mode).await;
        if mode == "delta" {
            assert_eq!((&run["state"], &run["mode"]), (&json!("parked"), &json!("full")), "{run}");
            assert_eq!(codes(&run)[..2], ["watermark-lost", "over-limit"], "{run}");
            assert_eq!(number(&run, "/counts/missing"), before.outline().len() as u64, "nobody of before: {run}");
        } else {
            assert!(matches!(run["state"].as_str(), Some("parked" | "discarded")), "{run}");
        }
        let lost = watched.lost_watermark(&run).await;
        assert_eq!(lost.is_some(), reason.is_some(), "{lost:?}");
        assert!(reason.is_none_or(|reason| lost.unwrap_or_default().contains(reason)), "{run}");
        assert_eq!(watched.copy().await.outline(), before.outline(), "{mode}");
    }
    wire.lead_to(watched.slapd.tls_port);
    watched.delta().await;
    assert_eq!(watched.copy().await.outline(), before.outline());
    assert_eq!(watched.api().all("/api/runs?state=parked", "runs").await.len(), 0);
}

#[tokio::test]
async fn a_server_restored_from_a_backup_and_one_with_another_cookie_lead_to_a_guarded_full_reading() {
    let (watched, wire) = wired(Slapd::start(plain())).await;
    watched.slapd.modify(&format!(
        "dn: uid=u000200,{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: After the backup\n\n\
         dn: uid=u000201,{PEOPLE}\nchangetype: modify\nreplace: mail\nmail: after@example.test\n\n"
    ));
    watched.delta().await;
    let backup = Slapd::start(plain());
    wire.lead_to(backup.tls_port);
    let run = watched.run("delta").await;
    // The cookie is of no use, and nothing is lost by what the backup says: it is applied.
    assert_eq!((&run["state"], &run["mode"]), (&json!("applied"), &json!("full")), "{run}");
    assert_eq!((number(&run, "/counts/changed"), number(&run, "/counts/missing")), (2, 0), "{run}");
    let lost = watched.lost_watermark(&run).await.expect("the cookie is lost");
    assert!(lost.contains("is older than what was read before"), "{lost}");
    assert_same_objects(&watched.copy().await, &Truth::read(&backup));
    // A second server with changes of its own, under its own server id, and fewer people.
    let other = Slapd::start(Options { server_id: 2, ..plain() });
    let gone: String = (250..280).map(|i| format!("dn: uid=u{i:06},{PEOPLE}\nchangetype: delete\n\n")).collect();
    other.modify(&gone);
    let before = watched.copy().await;
    wire.lead_to(other.tls_port);
    let run = watched.run("delta").await;
    assert_eq!((&run["state"], &run["mode"]), (&json!("parked"), &json!("full")), "{run}");
    assert!(codes(&run).contains(&"watermark-lost".to_owned()), "{run}");
    let lost = watched.lost_watermark(&run).await.expect("the cookie is lost");
    assert!(lost.contains("server ids 000, 002"), "{lost}");
    assert_eq!(watched.copy().await.outline(), before.outline());
    watched.approve(&run).await;
    assert_same_objects(&watched.copy().await, &Truth::read(&other));
    // From there on its cookie counts.
    other.modify(&format!("dn: uid=u000210,{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: Followed\n\n"));
    assert_eq!(number(&watched.delta().await, "/counts/changed"), 1);
}

#[tokio::test]
async fn the_second_of_two_servers_with_its_own_cookies_is_read_in_full_once_and_then_followed() {
    let one = Slapd::start(Options { server_id: 1, ..plain() });
    let two = Slapd::start(Options { server_id: 2, ..plain() });
    let touch = |slapd: &Slapd, person: usize| {
        slapd.modify(&format!("dn: uid=u{person:06},{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: Touched\n\n"));
    };
    touch(&one, 200);
    touch(&two, 200);
    touch(&two, 201);
    let servers = [("/settings/servers", json!([one.tls_url(), two.tls_url()]))];
    let watched = Watched::on(one, &servers).await;
    watched.delta().await;
    watched.slapd.kill();
    let run = watched.run("delta").await;
    assert_eq!((&run["state"], &run["mode"]), (&json!("applied"), &json!("full")), "{run}");
    assert_eq!(run["server"], two.tls_url(), "{run}");
    assert_eq!((number(&run, "/counts/changed"), number(&run, "/counts/missing")), (1, 0), "{run}");
    touch(&two, 202);
    assert_eq!(number(&watched.delta().await, "/counts/changed"), 1);
    // The first one is back, without what the second was told: the one whose cookie it is goes first.
    watched.slapd.restart();
    touch(&two, 203);
    let run = watched.delta().await;
    assert_eq!((&run["server"], number(&run, "/counts/changed")), (&json!(two.tls_url()), 1), "{run}");
    assert_same_objects(&watched.copy().await, &Truth::read(&two));
}

#[tokio::test]
async fn a_connection_cut_right_after_page_seven_costs_the_run_and_nothing_else() {
    const PAGE: usize = 25;
    let slapd = Slapd::start(plain());
    let wire = Proxy::start(slapd.port);
    let settings = [
        ("/settings/servers", json!([format!("ldap://127.0.0.1:{}", wire.port)])),
        ("/settings/startTls", json!(false)),
        ("/settings/acceptPlaintext", json!(true)),
        ("/settings/pageSize", json!(PAGE)),
    ];
    let watched = Watched::on(slapd, &settings).await;
    let before = watched.copy().await;
    watched.slapd.modify(&format!("dn: uid=u000200,{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: New\n\n"));
    // Page 7 ends among the people; the 13th page and the 14th end the people and the names of the groups.
    for page in [7, 12, 13] {
        wire.cut_after_page(page, PAGE);
        let run = watched.run("full").await;
        assert!(wire.has_cut(), "the run had {page} pages: {run}");
        assert_eq!((&run["state"], &run["reasonCode"]), (&json!("failed"), &json!("connection-lost")), "{page}: {run}");
        if page == 7 {
            assert_eq!(number(&run, "/counts/read"), 7 * PAGE as u64, "{run}");
        }
        let copy = watched.copy().await;
        assert_eq!((copy.outline(), &copy.identities), (before.outline(), &before.identities), "{page}");
    }
    let run = watched.api().run_applied(&watched.directory).await;
    assert_eq!((number(&run, "/counts/changed"), number(&run, "/counts/missing")), (1, 0), "{run}");
    assert_same_objects(&watched.copy().await, &Truth::read(&watched.slapd));
    // A first run that is cut there leaves nothing behind.
    let fresh = json!({
        "kind": "openldap", "name": "Cut", "schedule": {"full": {"every": "24h"}, "paused": true},
        "credentials": {"read": {"bindDn": SYNC_DN, "password": SYNC_PASSWORD}},
        "settings": watched.settings,
    });
    let fresh = watched.api().create_directory(&fresh).await;
    wire.cut_after_page(7, PAGE);
    let run = watched.api().run_full_within(&fresh, PATIENCE).await;
    assert_eq!(run["state"], "failed", "{run}");
    assert_eq!(watched.api().identities(&fresh).await.len(), 0);
    watched.api().run_applied(&fresh).await;
    assert_eq!(watched.api().identities(&fresh).await.len(), 300);
}
