//! Live mode against a real slapd: what changes there is here within seconds, whatever happens in between, and nothing
//! of it becomes a loop.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::fixtures::{
    appliance::{Api, Appliance, PATIENCE, draft_with, text},
    ldapsearch,
    people::{CANARY, GROUPS, PEOPLE, uid},
    slapd::{Options, SYNC_DN, SYNC_PASSWORD, Slapd},
};

/// Within what time a change has to be in the copy.
const SECONDS: Duration = Duration::from_secs(5);

/// An appliance with a directory in live mode that has been read once.
struct Watched {
    slapd: Slapd,
    appliance: Appliance,
    path: String,
    directory: String,
}

impl Watched {
    async fn start(options: Options) -> Self {
        Self::start_with(options, &[]).await
    }

    /// With some of the draft's fields replaced, by JSON pointer.
    async fn start_with(options: Options, changes: &[(&str, Value)]) -> Self {
        let (slapd, appliance) = (Slapd::start(options), Appliance::start().await);
        let mut changes = changes.to_vec();
        changes.push(("/schedule", json!({"full": {"every": "24h"}, "live": true})));
        let draft = draft_with(&slapd, &changes);
        let directory = appliance.api.create_directory(&draft).await;
        let path = format!("/api/directories/{directory}");
        let unread = &appliance.api.get(&path).await["live"];
        assert_eq!((&unread["state"], unread["reason"].is_string()), (&json!("off"), true), "{unread}");
        appliance.api.run_applied(&directory).await;
        Self { slapd, appliance, path, directory }
    }

    async fn watching(options: Options) -> Self {
        let watched = Self::start(options).await;
        watched.stands("watching").await;
        watched
    }

    fn api(&self) -> &Api {
        &self.appliance.api
    }

    /// Waits until `f` answers something.
    async fn until<T>(&self, what: &str, patience: Duration, mut f: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = f(self).await {
                return found;
            }
            assert!(begun.elapsed() < patience, "not within {patience:?}: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for a state of live mode; answers what is said of it.
    async fn stands(&self, state: &str) -> Value {
        self.until(state, PATIENCE, async |this| {
            let live = this.api().get(&this.path).await["live"].clone();
            (live["state"] == state).then_some(live)
        })
        .await
    }

    /// Changes the directory.
    async fn set(&self, change: Value) -> Value {
        self.api().post(&self.path, &change).await.ok()
    }

    fn retitle(&self, number: usize, title: &str) {
        let dn = format!("uid={},{PEOPLE}", uid(number));
        self.slapd.modify(&format!("dn: {dn}\nchangetype: modify\nreplace: title\ntitle: {title}\n\n"));
    }

    /// Waits until somebody of the copy is as `wanted`; answers how long that took.
    async fn person(&self, name: &str, patience: Duration, wanted: impl Fn(&Value) -> bool) -> Duration {
        let begun = Instant::now();
        let path = Api::path("/api/identities", &[("directory", &self.directory), ("q", name)]);
        self.until(name, patience, async |this| {
            let found = this.api().all(&path, "identities").await;
            found.iter().find(|one| one["userName"] == name).filter(|one| wanted(one)).map(|_| ())
        })
        .await;
        begun.elapsed()
    }

    async fn runs(&self) -> Vec<Value> {
        self.api().all(&format!("{}/runs", self.path), "runs").await
    }

    /// Waits until there are so many runs, and nothing was told since the newest began; answers how many.
    async fn at_rest(&self, count: usize) -> usize {
        self.until("at rest", 2 * PATIENCE, async |this| {
            let (runs, live) = (this.runs().await, this.api().get(&this.path).await["live"].clone());
            let newest = runs.first()?;
            let is_over = matches!(newest["state"].as_str(), Some("applied" | "parked" | "discarded"));
            let is_quiet = live["lastChangeAt"].as_str()? < newest["startedAt"].as_str()?;
            (is_over && is_quiet && runs.len() >= count).then_some(runs.len())
        })
        .await
    }

    /// Connections that slapd has open on its port for LDAPS.
    fn connections(&self) -> usize {
        let wanted = format!(":{:04X}", self.slapd.tls_port);
        let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
        let open = |line: &&str| {
            let mut columns = line.split_whitespace().skip(1);
            let (local, state) = (columns.next().unwrap_or_default(), columns.nth(1).unwrap_or_default());
            local.ends_with(&wanted) && state == "01"
        };
        table.lines().filter(open).count()
    }
}

#[tokio::test]
async fn what_changes_in_the_directory_is_in_the_copy_within_seconds_and_nobody_asked() {
    let mut watched = Watched::watching(Options::small()).await;
    assert_eq!(watched.runs().await.len(), 1, "nothing has changed, nothing is read");
    // Each of them arrives. How soon is told by the quickest: the machine may be busy with other tests.
    let mut quickest = PATIENCE;
    for title in ["Told at once", "Told again", "And again"] {
        watched.retitle(200, title);
        quickest = quickest.min(watched.person(&uid(200), PATIENCE, |person| person["title"] == title).await);
    }
    assert!(quickest < SECONDS, "{quickest:?}");
    watched.slapd.modify(&format!(
        "dn: uid=livia,{PEOPLE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: livia\ncn: Livia\nsn: Live\n\n\
         dn: cn=live,{GROUPS}\nchangetype: add\nobjectClass: groupOfNames\ncn: live\nmember: uid=livia,{PEOPLE}\n\n"
    ));
    watched.person("livia", PATIENCE, |_| true).await;
    watched.slapd.delete(&format!("uid={},{PEOPLE}", uid(201)));
    watched.person(&uid(201), PATIENCE, |person| person["missingSince"].is_string()).await;
    let runs = watched.runs().await;
    let (live, first) = runs.split_at(runs.len() - 1);
    assert!(text(&first[0], "requestedBy").contains("api-key"), "{first:?}");
    for run in live {
        assert!(text(run, "requestedBy").ends_with(":service/live"), "{run}");
        assert_eq!((&run["mode"], &run["state"]), (&json!("delta"), &json!("applied")), "{run}");
    }
    let shown = watched.stands("watching").await;
    assert!(shown["lastChangeAt"].is_string() && shown["since"].is_string(), "{shown}");
    let (_, _, measured) = watched.api().text("/metrics").await;
    let line = format!("bailiwick_directory_live{{directory=\"{}\"}} 1\n", watched.directory);
    assert!(String::from_utf8(measured).expect("text").contains(&line), "{line}");
    // The server is gone for a while, and then the appliance; what changes meanwhile arrives.
    watched.slapd.kill();
    let shown = watched.stands("retrying").await;
    assert!(text(&shown, "reason").len() > 20 && shown["nextTryAt"].is_string(), "{shown}");
    watched.slapd.restart();
    watched.retitle(202, "While it was away");
    watched.person(&uid(202), PATIENCE, |person| person["title"] == "While it was away").await;
    watched.stands("watching").await;
    watched.appliance.stop();
    watched.retitle(203, "While we were away");
    watched.appliance.restart().await;
    watched.person(&uid(203), PATIENCE, |person| person["title"] == "While we were away").await;
    watched.stands("watching").await;
    watched.appliance.assert_audit_verifies();
}

#[tokio::test]
async fn live_mode_follows_its_settings_at_once() {
    let watched = Watched::watching(Options::small()).await;
    let closed = async |why: &str| {
        watched.until(why, PATIENCE, async |this| (this.connections() == 0).then_some(())).await;
    };
    let schedule = |live: bool, paused: bool| json!({"schedule": {"live": live, "paused": paused}});
    assert_eq!(watched.connections(), 1);
    let off = watched.set(schedule(false, false)).await;
    assert_eq!(off["live"], json!({"state": "off"}));
    closed("switched off").await;
    watched.set(schedule(true, false)).await;
    watched.stands("watching").await;
    let paused = watched.set(schedule(true, true)).await;
    assert_eq!(
        (&paused["live"]["state"], &paused["live"]["reason"]),
        (&json!("off"), &json!("The schedule is paused."))
    );
    closed("paused").await;
    watched.set(schedule(true, false)).await;
    watched.stands("watching").await;
    // A name is no reason to connect again.
    let since = watched.set(json!({"name": "Another name"})).await["live"]["since"].clone();
    let credentials = |password: &str| json!({"credentials": {"read": {"bindDn": SYNC_DN, "password": password}}});
    watched.set(credentials("not the password")).await;
    let refused = watched.stands("retrying").await;
    assert!(text(&refused, "reason").contains("does not accept the bind DN"), "{refused}");
    assert_ne!(refused["since"], since);
    watched.set(credentials(SYNC_PASSWORD)).await;
    watched.stands("watching").await;
    assert_eq!(watched.connections(), 1, "one at a time");
    watched.retitle(200, "Still told");
    watched.person(&uid(200), PATIENCE, |person| person["title"] == "Still told").await;
    let changes = watched.api().all("/api/logs?type=audit.directory_updated.v1", "logs").await;
    assert!(changes.iter().any(|record| record.to_string().contains("\"live\":false")), "{changes:?}");
    watched
        .until("no run goes on", PATIENCE, async |this| {
            let removed = this.api().send(Method::DELETE, &this.path, None).await;
            (removed.status == 204).then_some(())
        })
        .await;
    closed("removed").await;
}

#[tokio::test]
async fn a_plan_that_waits_is_not_made_again_and_again() {
    let watched = Watched::watching(Options::small()).await;
    let ldif = (300..600).fold(String::new(), |mut ldif, i| {
        let _ = write!(ldif, "dn: uid={},{PEOPLE}\nchangetype: delete\n\n", uid(i));
        ldif
    });
    watched.slapd.modify(&ldif);
    watched
        .until("parked", PATIENCE, async |this| {
            this.runs().await.iter().any(|run| run["state"] == "parked").then_some(())
        })
        .await;
    let before = watched.at_rest(2).await;
    // A server that comes back tells everything since the watermark, which the plan that waits has not moved.
    watched.slapd.stop_and_start();
    let after = watched.at_rest(before + 1).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        assert_eq!(watched.at_rest(0).await, after, "a run that finds the same is not followed by another one");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    watched.stands("watching").await;
    let waiting = watched.runs().await.into_iter().find(|run| run["state"] == "parked").expect("it waits");
    let approve = format!("/api/runs/{}/approve", text(&waiting, "id"));
    watched.api().post(&approve, &json!({"reason": "They have left."})).await.ok();
    watched.api().wait_for(&text(&waiting, "id"), PATIENCE, |state| state == "applied").await;
    watched.retitle(200, "And on");
    watched.person(&uid(200), PATIENCE, |person| person["title"] == "And on").await;
}

#[tokio::test]
async fn a_server_that_writes_our_own_binds_down_is_not_read_in_a_loop() {
    let dn = format!("uid={},{PEOPLE}", uid(300));
    let credentials = json!({"bindDn": dn, "password": format!("{CANARY}{}", uid(300))});
    // Few enough for whoever has no exemption from the server's limits; who binds is among them.
    let narrow = [
        ("/credentials/read", credentials),
        ("/settings/userFilter", json!("(uid=u0003*)")),
        ("/settings/groupFilter", json!("(&(objectClass=groupOfNames)(cn=g0000*))")),
    ];
    let watched = Watched::start_with(Options { last_bind: true, ..Options::small() }, &narrow).await;
    watched.stands("watching").await;
    watched.retitle(301, "Told");
    watched.person(&uid(301), PATIENCE, |person| person["title"] == "Told").await;
    let csn = || ldapsearch::entry(&watched.slapd, &dn).text("entryCSN");
    let before = csn();
    let runs = watched.at_rest(2).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        assert_eq!(watched.at_rest(0).await, runs);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    watched.retitle(302, "Told too");
    watched.person(&uid(302), PATIENCE, |person| person["title"] == "Told too").await;
    assert_ne!(csn(), before, "the bind was written down");
}

#[tokio::test]
async fn a_copy_that_was_taken_back_stays_so_until_the_next_full_run() {
    let watched = Watched::watching(Options::small()).await;
    watched.retitle(200, "Taken back");
    watched.person(&uid(200), PATIENCE, |person| person["title"] == "Taken back").await;
    watched.at_rest(2).await;
    let runs = watched.runs().await;
    let first = text(runs.last().expect("the first"), "id");
    let run = watched.api().post(&format!("{}/rewind", watched.path), &json!({"toRun": first})).await.expect(202);
    let run = text(&run, "id");
    watched.api().wait_for(&run, PATIENCE, |state| state == "parked").await;
    watched.api().post(&format!("/api/runs/{run}/approve"), &json!({"reason": "To look."})).await.ok();
    watched.api().wait_for(&run, PATIENCE, |state| state == "applied").await;
    let shown = watched.stands("off").await;
    assert!(text(&shown, "reason").contains("next full run"), "{shown}");
    watched.until("closed", PATIENCE, async |this| (this.connections() == 0).then_some(())).await;
    watched.person(&uid(200), PATIENCE, |person| person["title"] != "Taken back").await;
    watched.api().run_applied(&watched.directory).await;
    watched.stands("watching").await;
}

#[tokio::test]
async fn settings_that_lose_the_watermark_are_read_once_and_wait() {
    let watched = Watched::watching(Options::small()).await;
    let mut settings = watched.api().get(&watched.path).await["settings"].clone();
    settings["userFilter"] = json!("(&(objectClass=inetOrgPerson)(uid=u0004*))");
    watched.set(json!({"settings": settings})).await;
    let shown = watched.stands("retrying").await;
    assert!(text(&shown, "reason").contains("settings"), "{shown}");
    let run = watched.runs().await.into_iter().next().expect("the newest");
    assert_eq!((&run["mode"], &run["state"]), (&json!("full"), &json!("parked")), "{run}");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        assert_eq!(watched.runs().await.len(), 2);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_tell_changes_is_said_to_be_one() {
    let watched = Watched::start(Options { sync_provider: false, ..Options::small() }).await;
    let shown = watched.stands("not-offered").await;
    assert!(text(&shown, "reason").contains("syncprov") && shown["nextTryAt"].is_string(), "{shown}");
    assert_eq!(watched.runs().await.len(), 1);
    let (_, _, measured) = watched.api().text("/metrics").await;
    let line = format!("bailiwick_directory_live{{directory=\"{}\"}} 0\n", watched.directory);
    assert!(String::from_utf8(measured).expect("text").contains(&line), "{line}");
    // The schedules, and people, still start runs.
    watched.api().run_applied(&watched.directory).await;
    watched.stands("not-offered").await;
}
