//! The benchmark of the main job: 100,000 people and 2,000 groups on a local slapd.
//!
//! What is compared is timed in turns on the same machine, so that the ratios mean something on any machine: OpenLDAP's
//! own `ldapsearch -E pr=1000/noprompt` writing to nowhere, the first full run, and a full run with nothing changed.
//! Run it with `cargo bench --bench sync`; `-- --rounds 5` for more turns. Ends with one table and fails when a limit
//! is not kept. Owns no fixtures: they are the tests'.

#[cfg(test)]
#[expect(dead_code, reason = "the tests are built on the same fixtures and use what the benchmark does not")]
#[path = "../tests/fixtures/mod.rs"]
mod fixtures;

#[cfg(test)]
fn main() -> std::process::ExitCode {
    measured::main()
}

#[cfg(test)]
mod measured {
    use std::{
        fmt::Write as _,
        process::{ExitCode, Stdio},
        time::{Duration, Instant},
    };

    use serde_json::{Value, json};

    use super::fixtures::{
        appliance::{Api, Appliance, draft_with, number, text},
        console::Console,
        ldapsearch,
        people::{SUFFIX, Shape},
        slapd::{Options, Slapd},
        truth::{GROUP_FILTER, USER_FILTER},
    };

    /// What the product's bulk reading asks for, so that ldapsearch moves the same bytes.
    const ATTRIBUTES: [&str; 11] = [
        "*",
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
    const QUERIES: usize = 500;
    const PATIENCE: Duration = Duration::from_secs(600);

    /// One line of the table.
    struct Line {
        what: &'static str,
        value: f64,
        unit: &'static str,
        /// The most that is allowed; nothing for what is only shown.
        limit: Option<f64>,
    }

    pub fn main() -> ExitCode {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let lines = runtime.block_on(measure(rounds()));
        println!("{}", table(&lines));
        let is_over = lines.iter().any(|line| line.limit.is_some_and(|limit| line.value > limit));
        if is_over { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    /// `--rounds N`; cargo adds arguments of its own.
    fn rounds() -> usize {
        let arguments: Vec<String> = std::env::args().collect();
        let given = arguments.iter().position(|argument| argument == "--rounds").and_then(|at| arguments.get(at + 1));
        given.map_or(3, |text| text.parse().expect("--rounds takes a number"))
    }

    async fn measure(rounds: usize) -> Vec<Line> {
        let slapd = Slapd::start(Options::of(Shape::BENCH));
        // Fills the page cache: the first reader of a database always is the slowest.
        time_ldapsearch(&slapd);
        let (mut ldapsearch, mut first, mut unchanged, mut peak) = (Vec::new(), Vec::new(), Vec::new(), 0.0_f64);
        let mut last = None;
        for round in 1..=rounds {
            drop(last.take());
            ldapsearch.push(time_ldapsearch(&slapd));
            let appliance = Appliance::start().await;
            let directory = appliance.api.create_directory(&unencrypted(&slapd)).await;
            first.push(time_run(&appliance.api, &directory, "added").await);
            ldapsearch.push(time_ldapsearch(&slapd));
            unchanged.push(time_run(&appliance.api, &directory, "unchanged").await);
            peak = peak.max(mib(appliance.peak_memory_kib()));
            println!(
                "round {round}: ldapsearch {:.2} s and {:.2} s, first run {:.2} s, unchanged run {:.2} s, peak {peak:.0} MiB",
                ldapsearch[ldapsearch.len() - 2],
                ldapsearch[ldapsearch.len() - 1],
                first[first.len() - 1],
                unchanged[unchanged.len() - 1],
            );
            last = Some((appliance, directory));
        }
        let (mut appliance, directory) = last.expect("at least one round");
        assert_eq!(appliance.api.identities(&directory).await.len(), Shape::BENCH.people, "everybody was read");
        let after_runs = mib(appliance.memory_kib());

        let queries = queries(&slapd);
        let (api_median, api_p99) =
            time_queries(&queries, async |path| drop(appliance.api.get(path).await), "/api/identities").await;
        let console = Console::sign_in(&appliance.url()).await;
        let (page_median, page_p99) =
            time_queries(&queries, async |path| drop(console.page(path).await), "/identities").await;

        let mut starts = Vec::new();
        for _ in 0..5 {
            appliance.stop();
            starts.push(appliance.restart().await.as_secs_f64() * 1_000.0);
        }
        appliance.kill();
        starts.push(appliance.restart().await.as_secs_f64() * 1_000.0);
        let _ = appliance.api.get("/api/identities?limit=1").await;
        // Idle means that what the start began has come to rest.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let idle = mib(appliance.memory_kib());

        let base = median(&ldapsearch);
        let line = |what, value, unit, limit: f64| Line { what, value, unit, limit: Some(limit) };
        let shown = |what, value, unit| Line { what, value, unit, limit: None };
        vec![
            shown("ldapsearch to nowhere, median", base, "s"),
            shown("first full run, median", median(&first), "s"),
            shown("unchanged full run, median", median(&unchanged), "s"),
            line("first full run / ldapsearch", median(&first) / base, "×", 4.0),
            line("unchanged full run / ldapsearch", median(&unchanged) / base, "×", 2.5),
            line("peak memory of the process", peak, "MiB", 150.0),
            shown("memory after the runs", after_runs, "MiB"),
            shown("search by API, median", api_median, "ms"),
            line("search by API, p99", api_p99, "ms", 20.0),
            shown("search page, median", page_median, "ms"),
            line("search page, p99", page_p99, "ms", 20.0),
            line("start to first answer, worst of 6", starts.iter().copied().fold(0.0, f64::max), "ms", 300.0),
            line("idle memory after a start", idle, "MiB", 50.0),
        ]
    }

    /// Both sides read without TLS: what is compared is the reading, not two TLS libraries.
    fn unencrypted(slapd: &Slapd) -> Value {
        let settings = [("/settings/servers", json!([slapd.url()])), ("/settings/acceptPlaintext", json!(true))];
        draft_with(slapd, &settings)
    }

    /// Seconds of one dump of the same entries and attributes.
    fn time_ldapsearch(slapd: &Slapd) -> f64 {
        let filter = format!("(|{USER_FILTER}{GROUP_FILTER})");
        let mut command = ldapsearch::command(slapd, SUFFIX, &filter, &ATTRIBUTES);
        let begun = Instant::now();
        let status =
            command.stdout(Stdio::null()).status().expect("ldapsearch is installed (apt-get install ldap-utils)");
        assert!(status.success(), "ldapsearch ended with {status}");
        begun.elapsed().as_secs_f64()
    }

    /// Seconds of one full run, from asking for it until it is applied; `counted` is where every object must be.
    async fn time_run(api: &Api, directory: &str, counted: &str) -> f64 {
        let begun = Instant::now();
        let run = text(&api.request_run(directory).await.expect(202), "id");
        let run: Value = api.wait_for_end(&run, PATIENCE).await;
        let took = begun.elapsed().as_secs_f64();
        assert_eq!(run["state"], "applied", "{run}");
        let all = (Shape::BENCH.people + Shape::BENCH.groups) as u64;
        assert_eq!(number(&run, &format!("/counts/{counted}")), all, "{run}");
        took
    }

    /// Pieces of names, user names, mail addresses and employee ids that exist, of 3 to 8 characters, and some that do not.
    fn queries(slapd: &Slapd) -> Vec<String> {
        let people = ldapsearch::search(slapd, SUFFIX, USER_FILTER, &["displayName", "uid", "mail", "employeeNumber"]);
        let mut queries = Vec::new();
        let mut seed = 7_usize;
        let mut roll = |sides: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % sides.max(1)
        };
        while queries.len() < QUERIES {
            let person = &people[roll(people.len())];
            let field = ["displayName", "uid", "mail", "employeeNumber"][roll(4)];
            let value: Vec<char> = person.text(field).expect("everyone has all four").chars().collect();
            let length = (3 + roll(6)).min(value.len());
            let from = roll(value.len() - length + 1);
            let mut piece: String = value[from..from + length].iter().collect();
            if roll(20) == 0 {
                let _ = write!(piece, "qx");
            }
            queries.push(piece);
        }
        queries
    }

    /// Median and p99 of the wall time of each query, in milliseconds, one after the other.
    async fn time_queries(queries: &[String], ask: impl AsyncFn(&str), path: &str) -> (f64, f64) {
        let mut times = Vec::new();
        for query in queries {
            let path = Api::path(path, &[("q", query)]);
            let begun = Instant::now();
            ask(&path).await;
            times.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        times.sort_by(f64::total_cmp);
        (times[times.len() / 2], times[times.len() * 99 / 100])
    }

    fn median(values: &[f64]) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
    }

    #[expect(clippy::cast_precision_loss, reason = "memory sizes are far below 2^52")]
    fn mib(kib: u64) -> f64 {
        kib as f64 / 1_024.0
    }

    fn table(lines: &[Line]) -> String {
        let mut text = format!("\n{:<36}{:>12}  {:<5}{:>10}  verdict\n", "what", "measured", "", "limit");
        for line in lines {
            let (limit, verdict) = match line.limit {
                Some(limit) => (format!("{limit:.1}"), if line.value > limit { "OVER" } else { "ok" }),
                None => (String::new(), ""),
            };
            let _ = writeln!(text, "{:<36}{:>12.2}  {:<5}{limit:>10}  {verdict}", line.what, line.value, line.unit);
        }
        text
    }
}
