//! Reading alone: how fast the bulk reader sees 100,000 people and 2,000 groups, next to `ldapsearch`.
//!
//! The two are timed in turns against one local slapd. The pages that the reader sends are dropped, so that this is the
//! reading with its ids and fingerprints and nothing else. Run it with `cargo bench --bench read`; ends with one table
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
        process::{Command, ExitCode, Stdio},
        time::{Duration, Instant},
    };

    use bailiwick::connectors::{Connector, ldap::Credentials, openldap::OpenLdap};
    use tokio::sync::mpsc;

    use super::fixtures::{
        people::{SUFFIX, Shape},
        slapd::{Options, SYNC_DN, SYNC_PASSWORD, Slapd},
        truth::{GROUP_FILTER, USER_FILTER},
    };

    const ROUNDS: usize = 7;
    /// Of ldapsearch's time.
    const SHARE_MAX: f64 = 0.75;
    const CPU_SECONDS_MAX: f64 = 0.35;

    pub fn main() -> ExitCode {
        let slapd = Slapd::start(Options::of(Shape::BENCH));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        ldapsearch(&slapd);
        let (mut searched, mut read, mut cpu, mut encrypted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            searched.push(ldapsearch(&slapd).as_secs_f64());
            let (wall, used) = measure(&runtime, &slapd, false);
            read.push(wall.as_secs_f64());
            cpu.push(used);
            encrypted.push(measure(&runtime, &slapd, true).0.as_secs_f64());
            let last = round - 1;
            println!(
                "round {round}: ldapsearch {:.2} s, reader {:.2} s with {:.2} s of CPU, over TLS {:.2} s",
                searched[last], read[last], cpu[last], encrypted[last]
            );
        }
        let (searched, read, cpu, encrypted) = (median(searched), median(read), median(cpu), median(encrypted));
        let share = read / searched;
        println!("ldapsearch        {searched:.2} s");
        println!("reader            {read:.2} s    {share:.2} of ldapsearch (at most {SHARE_MAX})");
        println!("reader, CPU       {cpu:.2} s    (at most {CPU_SECONDS_MAX})");
        println!("reader, TLS       {encrypted:.2} s");
        if share > SHARE_MAX || cpu > CPU_SECONDS_MAX { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    fn measure(runtime: &tokio::runtime::Runtime, slapd: &Slapd, is_encrypted: bool) -> (Duration, f64) {
        let ca_pem = super::fixtures::slapd::ca_pem();
        let settings = if is_encrypted {
            serde_json::json!({"servers": [slapd.tls_url()], "caPem": ca_pem, "baseDns": [SUFFIX]})
        } else {
            serde_json::json!({"servers": [slapd.url()], "acceptPlaintext": true, "baseDns": [SUFFIX]})
        };
        let settings = serde_json::from_value(settings).expect("settings");
        let credentials: Credentials =
            serde_json::from_value(serde_json::json!({"bindDn": SYNC_DN, "password": SYNC_PASSWORD}))
                .expect("credentials");
        let connector = OpenLdap::new(settings, credentials, "2026-11-01T00:00:00Z".parse().expect("a time"));
        let (started, before) = (Instant::now(), cpu_seconds());
        let sightings = runtime.block_on(async {
            let (sender, mut pages) = mpsc::channel(4);
            let counting = tokio::task::spawn_blocking(move || {
                let mut sightings = 0;
                while let Some(page) = pages.blocking_recv() {
                    let page: bailiwick::connectors::Page = page;
                    sightings += page.sightings.len();
                }
                sightings
            });
            tokio::spawn(async move { connector.read_full(sender).await.expect("read") }).await.expect("no panic");
            counting.await.expect("counted")
        });
        let shape = slapd.shape();
        assert_eq!(sightings, shape.people + 2 * shape.groups, "everything was seen");
        (started.elapsed(), cpu_seconds() - before)
    }

    /// User and system time of this process.
    fn cpu_seconds() -> f64 {
        let text = std::fs::read_to_string("/proc/self/stat").expect("proc");
        let fields: Vec<&str> = text.rsplit(')').next().expect("fields").split_whitespace().collect();
        let ticks: f64 = fields[11..=12].iter().map(|ticks| ticks.parse::<f64>().expect("a number")).sum();
        ticks / 100.0
    }

    /// The same three searches by `ldapsearch`, written to nowhere.
    fn ldapsearch(slapd: &Slapd) -> Duration {
        let started = Instant::now();
        let users: &[&str] = &[
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
        for (filter, attributes) in
            [(USER_FILTER, users), (GROUP_FILTER, &["entryUUID"][..]), (GROUP_FILTER, &["*", "entryUUID"][..])]
        {
            let mut command: Command = slapd.tool("ldapsearch");
            command.args(["-LLL", "-o", "ldif-wrap=no", "-D", SYNC_DN, "-w", SYNC_PASSWORD]);
            command.args(["-E", "pr=1000/noprompt", "-b", SUFFIX, filter]).args(attributes);
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("ldapsearch is installed");
            assert!(status.success());
        }
        started.elapsed()
    }
}

#[cfg(not(test))]
fn main() {}
