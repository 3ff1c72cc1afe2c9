//! 100,000 people and 2,000 groups: read for the first time, read again unchanged, searched; memory and start.

use std::{fmt::Write as _, time::Instant};

use super::{
    fixtures::{
        appliance::{Api, Appliance},
        console::Console,
        ldapsearch,
        people::{SUFFIX, Shape},
        slapd::{Options, Slapd},
        truth::USER_FILTER,
    },
    runs::{Dice, MEMORY_MIB, Times, median, mib, time_full_run, time_ldapsearch, unencrypted},
    table::{Part, Table, Wanted},
};

const QUERIES: usize = 500;

pub async fn measure(wanted: &Wanted, table: &mut Table) {
    table.heading("100,000 people, 2,000 groups, 100,000 memberships");
    if !wanted.has(Part::First) {
        return table.not_run("asked for with --only first");
    }
    let slapd = Slapd::start(Options::of(Shape::BENCH));
    let all = Shape::BENCH.people + Shape::BENCH.groups;
    // Fills the page cache: the first reader of a database always is the slowest.
    time_ldapsearch(&slapd);
    let (mut dumps, mut first, mut unchanged, mut peak) = (Vec::new(), Vec::new(), Vec::new(), 0.0_f64);
    let mut last = None;
    for round in 1..=wanted.rounds {
        drop(last.take());
        dumps.push(time_ldapsearch(&slapd));
        let appliance = Appliance::start().await;
        let directory = appliance.api.create_directory(&unencrypted(&slapd)).await;
        first.push(time_full_run(&appliance.api, &directory, "added", all).await);
        dumps.push(time_ldapsearch(&slapd));
        unchanged.push(time_full_run(&appliance.api, &directory, "unchanged", all).await);
        peak = peak.max(mib(appliance.peak_memory_kib()));
        println!(
            "round {round}: ldapsearch {:.2} s and {:.2} s, first run {:.2} s, unchanged run {:.2} s, peak {peak:.0} MiB",
            dumps[dumps.len() - 2],
            dumps[dumps.len() - 1],
            first[first.len() - 1],
            unchanged[unchanged.len() - 1],
        );
        last = Some((appliance, directory));
    }
    let base = median(&dumps);
    table.shown("ldapsearch to nowhere, median", base, "s");
    table.shown("first full run, median", median(&first), "s");
    table.limited("first full run / ldapsearch", median(&first) / base, "×", 1.8);
    table.shown("unchanged full run, median", median(&unchanged), "s");
    table.limited("unchanged full run / ldapsearch", median(&unchanged) / base, "×", 0.8);
    table.limited("peak memory of the process", peak, "MiB", MEMORY_MIB);

    let (mut appliance, directory) = last.expect("at least one round");
    assert_eq!(appliance.api.identities(&directory).await.len(), Shape::BENCH.people, "everybody was read");
    table.shown("memory after the runs", mib(appliance.memory_kib()), "MiB");
    search(&slapd, &appliance, 20.0, table).await;

    let mut starts = Times::default();
    for stop in [true, true, true, true, true, false] {
        if stop {
            appliance.stop();
        } else {
            appliance.kill();
        }
        let begun = Instant::now();
        appliance.restart().await;
        starts.push(begun);
    }
    table.limited("start to first answer, worst of 6", starts.quantile(1.0), "ms", 300.0);
    let _ = appliance.api.get("/api/identities?limit=1").await;
    // Idle means that what the start began has come to rest.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    table.limited("idle memory after a start", mib(appliance.memory_kib()), "MiB", 50.0);
}

/// Search by API and on the page; `limit` is for the 99th of a hundred, in milliseconds.
pub async fn search(slapd: &Slapd, appliance: &Appliance, limit: f64, table: &mut Table) {
    let times = time_searches(slapd, appliance).await;
    table.shown("search by API, median", times.median(), "ms");
    table.limited("search by API, p99 of 500", times.p99(), "ms", limit);
    let console = Console::sign_in(&appliance.url()).await;
    let times = time_queries(&queries(slapd), async |path| drop(console.page(path).await), "/identities").await;
    table.shown("search page, median", times.median(), "ms");
    table.limited("search page, p99 of 500", times.p99(), "ms", limit);
}

/// The times of searches by API.
pub async fn time_searches(slapd: &Slapd, appliance: &Appliance) -> Times {
    time_queries(&queries(slapd), async |path| drop(appliance.api.get(path).await), "/api/identities").await
}

/// Pieces of names, user names, mail addresses and employee ids that exist, of 3 to 8 characters, and some that do not.
fn queries(slapd: &Slapd) -> Vec<String> {
    // A thousand of them, spread over the directory: the whole of a large one is nothing to hold here.
    let filter = format!("(&{USER_FILTER}(uid=u*77))");
    let people = ldapsearch::search(slapd, SUFFIX, &filter, &["displayName", "uid", "mail", "employeeNumber"]);
    let (mut queries, mut dice) = (Vec::new(), Dice::new(7));
    while queries.len() < QUERIES {
        let person = &people[dice.roll(people.len())];
        let field = ["displayName", "uid", "mail", "employeeNumber"][dice.roll(4)];
        let value: Vec<char> = person.text(field).expect("everyone has all four").chars().collect();
        let length = (3 + dice.roll(6)).min(value.len());
        let from = dice.roll(value.len() - length + 1);
        let mut piece: String = value[from..from + length].iter().collect();
        if dice.roll(20) == 0 {
            let _ = write!(piece, "qx");
        }
        queries.push(piece);
    }
    queries
}

/// The time of each query, one after the other.
async fn time_queries(queries: &[String], ask: impl AsyncFn(&str), path: &str) -> Times {
    let mut times = Times::default();
    for query in queries {
        let path = Api::path(path, &[("q", query)]);
        let begun = Instant::now();
        ask(&path).await;
        times.push(begun);
    }
    times
}
