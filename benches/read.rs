//! Reading alone: how fast the bulk reader sees 100,000 people and 2,000 groups, next to `ldapsearch`.
//!
//! The two are timed in turns against one local slapd. The pages that the reader sends are dropped, so that this is the
//! reading with its ids and fingerprints and nothing else. Then readings of changes alone: of none, and of a hundred.
//! Run it with `cargo bench --bench read`; ends with one table
//! and fails when a limit is not kept. Owns no fixtures: they are the tests'.

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
        process::ExitCode,
        time::{Duration, Instant},
    };

    use bailiwick::connectors::{Connector, Page, ldap::Credentials, openldap::OpenLdap};
    use tokio::{runtime::Runtime, sync::mpsc};

    use super::fixtures::{
        ldapsearch,
        people::{GROUPS, PEOPLE, SUFFIX, Shape, uid},
        slapd::{Options, SYNC_DN, SYNC_PASSWORD, Slapd},
        truth::{GROUP_FILTER, USER_FILTER},
    };

    const ROUNDS: usize = 7;
    /// Of ldapsearch's time.
    const SHARE_MAX: f64 = 0.75;
    const CPU_SECONDS_MAX: f64 = 0.35;
    const NO_CHANGES_MORE_MS: f64 = 20.0;
    const HUNDRED_CHANGES_MAX_MS: f64 = 1_000.0;

    pub fn main() -> ExitCode {
        let slapd = Slapd::start(Options::of(Shape::BENCH));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        search(&slapd);
        let (mut searched, mut read, mut cpu, mut encrypted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            searched.push(search(&slapd).as_secs_f64());
            let (wall, used, _) = measure(&runtime, &slapd, false);
            read.push(wall.as_secs_f64());
            cpu.push(used);
            encrypted.push(measure(&runtime, &slapd, true).0.as_secs_f64());
            let last = round - 1;
            println!(
                "round {round}: ldapsearch {:.2} s, reader {:.2} s with {:.2} s of CPU, over TLS {:.2} s",
                searched[last], read[last], cpu[last], encrypted[last]
            );
        }
        let watermark = measure(&runtime, &slapd, false).2;
        let (mut base_reads, mut nothing) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            base_reads.push(ldapsearch::time(ldapsearch::base_read(&slapd)).as_secs_f64() * 1_000.0);
            let (wall, sightings) = measure_changes(&runtime, &slapd, &watermark);
            assert_eq!(sightings, 0);
            nothing.push(wall.as_secs_f64() * 1_000.0);
        }
        change_a_hundred(&slapd);
        let (hundred, sightings) = measure_changes(&runtime, &slapd, &watermark);
        // Groups are seen twice; each search names what changed and is not of its kind as gone.
        assert_eq!(sightings, 90 + 2 * 10 + 10 + 90);
        let (searched, read, cpu, encrypted) = (median(searched), median(read), median(cpu), median(encrypted));
        let (base_read, nothing, hundred) = (median(base_reads), median(nothing), hundred.as_secs_f64() * 1_000.0);
        let share = read / searched;
        println!("ldapsearch              {searched:.2} s");
        println!("reader                  {read:.2} s    {share:.2} of ldapsearch (at most {SHARE_MAX})");
        println!("reader, CPU             {cpu:.2} s    (at most {CPU_SECONDS_MAX})");
        println!("reader, TLS             {encrypted:.2} s");
        println!("ldapsearch, base only   {base_read:.1} ms");
        println!("no changes              {nothing:.1} ms  (at most {:.1})", base_read + NO_CHANGES_MORE_MS);
        println!("a hundred changes       {hundred:.1} ms  (at most {HUNDRED_CHANGES_MAX_MS})");
        let is_over = share > SHARE_MAX
            || cpu > CPU_SECONDS_MAX
            || nothing > base_read + NO_CHANGES_MORE_MS
            || hundred > HUNDRED_CHANGES_MAX_MS;
        if is_over { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    fn connector(slapd: &Slapd, is_encrypted: bool) -> OpenLdap {
        let ca_pem = super::fixtures::slapd::ca_pem();
        let settings = if is_encrypted {
            serde_json::json!({"servers": [slapd.tls_url()], "caPem": ca_pem, "baseDns": [SUFFIX]})
        } else {
            serde_json::json!({"servers": [slapd.url()], "acceptPlaintext": true, "baseDns": [SUFFIX]})
        };
        let settings = serde_json::from_value(settings).expect("settings");
        let credentials = serde_json::json!({"bindDn": SYNC_DN, "password": SYNC_PASSWORD});
        let credentials: Credentials = serde_json::from_value(credentials).expect("credentials");
        OpenLdap::new(settings, credentials, "2026-11-01T00:00:00Z".parse().expect("a time"))
    }

    /// Counts the sightings of all pages, on a thread of its own as the planner has it.
    fn count(mut pages: mpsc::Receiver<Page>) -> tokio::task::JoinHandle<usize> {
        tokio::task::spawn_blocking(move || {
            let mut sightings = 0;
            while let Some(page) = pages.blocking_recv() {
                sightings += page.sightings.len();
            }
            sightings
        })
    }

    /// A full reading: how long it took, its CPU, and its watermark.
    fn measure(runtime: &Runtime, slapd: &Slapd, is_encrypted: bool) -> (Duration, f64, String) {
        let connector = connector(slapd, is_encrypted);
        let (started, before) = (Instant::now(), cpu_seconds());
        let (sightings, watermark) = runtime.block_on(async {
            let (sender, pages) = mpsc::channel(4);
            let counting = count(pages);
            let reading = tokio::spawn(async move { connector.read_full(sender).await.expect("read") });
            let watermark = reading.await.expect("no panic").watermark.expect("a watermark");
            (counting.await.expect("counted"), watermark)
        });
        let shape = slapd.shape();
        assert_eq!(sightings, shape.people + 2 * shape.groups, "everything was seen");
        (started.elapsed(), cpu_seconds() - before, watermark)
    }

    /// A reading of changes: how long it took, and its sightings.
    fn measure_changes(runtime: &Runtime, slapd: &Slapd, watermark: &str) -> (Duration, usize) {
        let connector = connector(slapd, false);
        let started = Instant::now();
        let sightings = runtime.block_on(async {
            let (sender, pages) = mpsc::channel(4);
            let counting = count(pages);
            connector.delta().expect("it can").read_changes(watermark, sender).await.expect("read");
            counting.await.expect("counted")
        });
        (started.elapsed(), sightings)
    }

    fn change_a_hundred(slapd: &Slapd) {
        let person = |i: usize| {
            format!("dn: uid={},{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: Changed\n\n", uid(1_000 * i))
        };
        slapd.modify(&(1..=90).map(person).collect::<String>());
        let group = |i: usize| {
            format!("dn: cn=g{i:05},{GROUPS}\nchangetype: modify\nreplace: description\ndescription: Changed\n\n")
        };
        slapd.modify(&(1..=10).map(group).collect::<String>());
    }

    /// User and system time of this process.
    fn cpu_seconds() -> f64 {
        let text = std::fs::read_to_string("/proc/self/stat").expect("proc");
        let fields: Vec<&str> = text.rsplit(')').next().expect("fields").split_whitespace().collect();
        let ticks: f64 = fields[11..=12].iter().map(|ticks| ticks.parse::<f64>().expect("a number")).sum();
        ticks / 100.0
    }

    /// The same three searches by `ldapsearch`, written to nowhere.
    fn search(slapd: &Slapd) -> Duration {
        let searches: [(&str, &[&str]); 3] = [
            (USER_FILTER, &ldapsearch::ATTRIBUTES),
            (GROUP_FILTER, &["entryUUID"]),
            (GROUP_FILTER, &["*", "entryUUID"]),
        ];
        let time = |(filter, attributes)| ldapsearch::time(ldapsearch::command(slapd, SUFFIX, filter, attributes));
        searches.map(time).into_iter().sum()
    }
}

#[cfg(not(test))]
fn main() {}
