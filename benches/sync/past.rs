//! Lists as of a time, and effective members, in a copy where a run has changed everybody's name.
//!
//! A run that changes every name is the hardest thing for a list as of a time: nobody stands where they stood then.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    fixtures::{
        appliance::{Api, Appliance, number, text},
        people::Shape,
    },
    runs::{Dice, Times, run, time_paths, wait},
    table::Table,
};

const REQUESTS: usize = 200;
const LIMIT_MS: f64 = 50.0;

/// Has the family names shown instead of the whole names, reads everything again, and has the plan approved and applied.
/// Answers moments before it, and one after it, as the API writes them.
pub async fn rename_everybody(appliance: &Appliance, directory: &str, draft: &Value) -> Vec<String> {
    let api = &appliance.api;
    let mut moments: Vec<String> = api
        .all(&format!("/api/directories/{directory}/runs"), "runs")
        .await
        .iter()
        .filter(|run| run["state"] == "applied" && run["counts"]["unchanged"] != run["counts"]["read"])
        .map(|run| text(run, "finishedAt"))
        .collect();
    let parked = plan_renaming(api, directory, draft).await;
    let applied = approve(api, &parked).await;
    moments.push(text(&applied, "finishedAt"));
    moments
}

/// Has the family names shown instead of the whole names; answers the parked run that read them.
pub async fn plan_renaming(api: &Api, directory: &str, draft: &Value) -> Value {
    let mut settings = draft["settings"].clone();
    settings["mapping"] = json!({"displayName": "sn"});
    let body = json!({"settings": settings, "credentials": draft["credentials"]});
    api.post(&format!("/api/directories/{directory}"), &body).await.ok();
    let (parked, _) = run(api, directory, "full", Duration::from_millis(20)).await;
    assert_eq!(parked["state"], "parked", "{parked}");
    // Another name is no other member: what groups in groups led to the first time, they lead to now.
    let members = (number(&parked, "/counts/membersAdded"), number(&parked, "/counts/membersRemoved"));
    assert_eq!(members, (0, 0), "{parked}");
    assert!(number(&parked, "/counts/changed") >= number(&parked, "/counts/read") * 9 / 10, "{parked}");
    parked
}

/// Approves a parked run and waits until it is applied.
pub async fn approve(api: &Api, parked: &Value) -> Value {
    let id = text(parked, "id");
    api.post(&format!("/api/runs/{id}/approve"), &json!({"reason": "the benchmark looked at it"})).await.ok();
    let applied = wait(api, &id, Duration::from_millis(20), |state| !matches!(state, "planned" | "applying")).await;
    assert_eq!(applied["state"], "applied", "{applied}");
    applied
}

pub async fn measure(appliance: &Appliance, directory: &str, shape: &Shape, moments: &[String], table: &mut Table) {
    let api = &appliance.api;
    let tree = group_named(api, directory, "tree").await;
    let members = format!("/api/groups/{tree}/members?effective=true");

    let first_pages = time_paths(api, &vec![members.clone(); REQUESTS]).await;
    table.limited("effective members of 50,000, first page, p99 of 200", first_pages.p99(), "ms", LIMIT_MS);
    let (count, pages, seconds) = count(api, &members).await;
    // The 110 groups on the way are members too.
    assert!(count.abs_diff(shape.tree + 110) <= 200, "{count} effective members");
    table.limited("effective members of 50,000, any page of 500, p99", pages.p99(), "ms", LIMIT_MS);
    table.shown("effective members of 50,000, all of them", seconds, "s");

    let mut dice = Dice::new(11);
    let mut at = || Api::path("/", &[("asOf", &moments[dice.roll(moments.len())])]).replace("/?", "");
    let asked: Vec<String> = (0..REQUESTS).map(|_| format!("{members}&{}", at())).collect();
    let times = time_paths(api, &asked).await;
    table.limited("effective members as of a time, p99 of 200", times.p99(), "ms", LIMIT_MS);

    let identities = format!("/api/identities?directory={directory}");
    let first = time_paths(api, &(0..REQUESTS).map(|_| format!("{identities}&{}", at())).collect::<Vec<_>>()).await;
    table.limited("list of identities as of a time, first page, p99 of 200", first.p99(), "ms", LIMIT_MS);
    let mut deep = Times::default();
    for _ in 0..5 {
        // Forty pages on, at one and the same time.
        let list = format!("{identities}&limit=100&{}", at());
        let mut next: Option<String> = None;
        for _ in 0..REQUESTS / 5 {
            let cursor = next.take().map(|cursor| Api::path("/", &[("cursor", &cursor)]).replace("/?", "&"));
            let begun = Instant::now();
            let page = api.get(&format!("{list}{}", cursor.unwrap_or_default())).await;
            deep.push(begun);
            next = page["next"].as_str().map(str::to_owned);
            assert_eq!(page["identities"].as_array().map(Vec::len), Some(100), "a full page");
        }
    }
    table.limited("list of identities as of a time, pages of 100, p99 of 200", deep.p99(), "ms", LIMIT_MS);
    let searches: Vec<String> = (0..REQUESTS)
        .map(|i| format!("{identities}&q={}&{}", ["anna", "mueller", "u0042", "smith"][i % 4], at()))
        .collect();
    let times = time_paths(api, &searches).await;
    table.shown("search as of a time, median", times.median(), "ms");
    table.shown("search as of a time, p99 of 200", times.p99(), "ms");
}

/// The id of the group with this very name.
async fn group_named(api: &Api, directory: &str, name: &str) -> String {
    let found = api.all(&Api::path("/api/groups", &[("directory", directory), ("q", name)]), "groups").await;
    text(found.iter().find(|group| group["name"] == name).unwrap_or_else(|| panic!("a group {name}")), "id")
}

/// How many there are in a list of members, page by page; the times of the pages, and the seconds of all.
async fn count(api: &Api, members: &str) -> (usize, Times, f64) {
    let (mut count, mut times, mut next, begun) = (0, Times::default(), None::<String>, Instant::now());
    loop {
        let cursor = next.take().map(|cursor| Api::path("/", &[("cursor", &cursor)]).replace("/?", "&"));
        let asked = Instant::now();
        let page = api.get(&format!("{members}&limit=500{}", cursor.unwrap_or_default())).await;
        times.push(asked);
        count += page["members"].as_array().map_or(0, Vec::len);
        next = page["next"].as_str().map(str::to_owned);
        if next.is_none() {
            return (count, times, begun.elapsed().as_secs_f64());
        }
    }
}
