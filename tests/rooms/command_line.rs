//! The command line, as the program that it is, and what only a whole process shows: locks, memory, start and end.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use super::{EMAIL, PASSWORD};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bailiwick"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BAILIWICK_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    program().args(arguments).arg("--data-dir").arg(dir).output().expect("the program starts")
}

fn run_with(dir: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = program();
    command.args(arguments).arg("--data-dir").arg(dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // A command that refuses to start never reads its input.
    let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", out(output), err(output));
    out(output)
}

const INIT: &[&str] = &["init", "--account", "acme", "--email", EMAIL, "--name", "Ida", "--password-stdin"];

fn initialised() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    ok(&run_with(&data, INIT, &format!("{PASSWORD}\n")));
    (dir, data)
}

/// A running `serve`.
struct Serving {
    child: Child,
    base: String,
    said: Vec<String>,
}

impl Serving {
    fn start(data: &Path) -> Self {
        let mut command = program();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--plain-http", "--log-level", "warn", "--data-dir"])
            .arg(data);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let first = lines.next().expect("a line").expect("text");
        let base = first.split_whitespace().find(|word| word.starts_with("http")).expect("an address").to_owned();
        let mut said = vec![first];
        if run(data, &["admin", "list-api-keys", "--account", "acme"]).status.code() != Some(0) {
            said.extend(lines.by_ref().take(2).map(|line| line.expect("text")));
        }
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, base, said }
    }

    fn memory_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    }

    /// SIGTERM; answers how long it took to end.
    fn stop(mut self) -> Duration {
        let begun = Instant::now();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        assert!(self.child.wait().expect("it ends").success());
        begun.elapsed()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn init_makes_an_account_once_and_says_what_exists_the_second_time() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("new/data");
    let said = ok(&run_with(&data, INIT, &format!("{PASSWORD}\n")));
    assert!(said.contains("acme") && said.contains(EMAIL), "{said}");
    let again = ok(&run_with(&data, INIT, "another password entirely\n"));
    assert!(again.contains("exists already"), "{again}");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for file in ["bailiwick.db", "master.key"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
    for (input, arguments) in [
        ("short\n", INIT.to_vec()),
        ("", INIT.to_vec()),
        (PASSWORD, vec!["init", "--account", "Not An Alias", "--email", "x", "--name", "", "--password-stdin"]),
    ] {
        let fresh = tempfile::tempdir().expect("a folder");
        let output = run_with(&fresh.path().join("data"), &arguments, input);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(err(&output).starts_with("bailiwick: "), "{}", err(&output));
    }
    // Without a terminal there is nobody to ask.
    let fresh = tempfile::tempdir().expect("a folder");
    let output = run(fresh.path(), &INIT[..INIT.len() - 1]);
    assert!(err(&output).contains("--password-stdin"), "{}", err(&output));
}

#[test]
fn a_second_serve_is_refused_and_commands_work_beside_the_first() {
    let (_dir, data) = initialised();
    let serving = Serving::start(&data);
    let second = run(&data, &["serve", "--listen", "127.0.0.1:0", "--plain-http"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(err(&second).contains("another `bailiwick serve` is running"), "{}", err(&second));
    let key = ok(&run(&data, &["admin", "create-api-key", "--account", "acme", "--role", "read-only", "--alias", "a"]));
    let key = key.trim_end();
    assert_eq!(key.lines().count(), 1);
    let answer = ask(&serving.base, "/api/accounts", Some(key));
    assert_eq!(answer.0, 200, "{}", answer.1);
    assert!(ok(&run(&data, &["admin", "list-api-keys", "--account", "acme"])).contains("read-only"));
    let twice = run(&data, &["admin", "create-api-key", "--account", "acme", "--role", "read-only", "--alias", "a"]);
    assert!(err(&twice).contains("already a key"), "{}", err(&twice));
    for (arguments, expected) in [
        (
            ["admin", "create-api-key", "--account", "nope", "--role", "read-only", "--alias", "b"],
            "there is no account",
        ),
        (["admin", "create-api-key", "--account", "acme", "--role", "owner", "--alias", "b"], "there is no role"),
    ] {
        let output = run(&data, &arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(err(&output).contains(expected), "{}", err(&output));
    }
    assert!(ok(&run(&data, &["audit", "verify"])).contains("Checked"));
    assert!(ok(&run(&data, &["check"])).contains("database: good"));
    let took = serving.stop();
    assert!(took < Duration::from_secs(8), "ending took {took:?}");
    // After kill -9 too the lock is free.
    let mut serving = Serving::start(&data);
    serving.child.kill().expect("killed");
    serving.child.wait().expect("gone");
    Serving::start(&data).stop();
}

fn ask(base: &str, path: &str, key: Option<&str>) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut request = super::client(None).get(format!("{base}{path}"));
        if let Some(key) = key {
            request = request.header("authorization", format!("ApiKey {key}"));
        }
        let answer = request.send().await.expect("answered");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    })
}

#[test]
fn the_first_start_prints_a_set_up_link_that_works() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    let serving = Serving::start(&data);
    let link = serving.said.iter().find(|line| line.contains("/setup?token=")).expect("a link");
    let path = link.strip_prefix(&serving.base).expect("on this host");
    assert_eq!(ask(&serving.base, path, None).0, 200);
    serving.stop();
}

#[test]
fn verify_finds_what_was_done_behind_our_back() {
    let (_dir, data) = initialised();
    for alias in ["a", "b", "c"] {
        ok(&run(&data, &["admin", "create-api-key", "--account", "acme", "--role", "read-only", "--alias", alias]));
    }
    ok(&run(&data, &["audit", "verify"]));
    let database = rusqlite::Connection::open(data.join("bailiwick.db")).expect("opened");
    database.execute("UPDATE audit_record SET principal_urn = 'urn:nobody' WHERE seq = 3", []).expect("edited");
    drop(database);
    let output = run(&data, &["audit", "verify"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("record 3 was edited"), "{}", out(&output));
}

#[test]
fn a_wrong_or_lost_master_key_and_a_lost_database_are_refused() {
    let (_dir, data) = initialised();
    let key = data.join("master.key");
    let good = std::fs::read(&key).expect("a key");
    std::fs::write(&key, format!("{}\n", "ab".repeat(32))).expect("written");
    let output = run(&data, &["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("does not fit the database"), "{}", err(&output));
    std::fs::remove_file(&key).expect("removed");
    for arguments in [&["check"][..], &["serve", "--listen", "127.0.0.1:0", "--plain-http"]] {
        let output = run(&data, arguments);
        assert!(err(&output).contains("is missing"), "{}", err(&output));
    }
    assert!(!key.exists(), "no new key is made for an old database");
    std::fs::write(&key, good).expect("written");
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    ok(&run(&data, &["check"]));
    std::fs::remove_file(data.join("bailiwick.db")).expect("removed");
    for arguments in [INIT, &["serve", "--listen", "127.0.0.1:0", "--plain-http"]] {
        let output = run_with(&data, arguments, PASSWORD);
        assert_eq!(output.status.code(), Some(1));
        assert!(err(&output).contains("is gone"), "set-up is never opened again: {}", err(&output));
    }
}

#[test]
fn break_glass_resets_second_factors() {
    let (_dir, data) = initialised();
    let none = run(&data, &["admin", "reset-mfa", "--email", EMAIL]);
    assert_eq!((none.status.code(), err(&none).contains("has no second factor")), (Some(1), true), "{}", err(&none));
    let nobody = run(&data, &["admin", "reset-mfa", "--email", "nobody@acme.example"]);
    assert_eq!(nobody.status.code(), Some(1));
    let database = rusqlite::Connection::open(data.join("bailiwick.db")).expect("opened");
    database
        .execute_batch(
            "INSERT INTO totp_device (id, user_id, name, secret, created_at, confirmed_at) SELECT 'd', id, 'Phone', x'00', 1, 1 FROM user;
             UPDATE user SET has_totp = 1;",
        )
        .expect("enrolled");
    ok(&run(&data, &["admin", "reset-mfa", "--email", EMAIL]));
    let left: (i64, i64) = database
        .query_row("SELECT (SELECT count(*) FROM totp_device), must_enrol FROM user", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .expect("read");
    assert_eq!(left, (0, 1));
    let by: String = database
        .query_row("SELECT principal_urn FROM audit_record WHERE type = 'audit.mfa_reset.v1'", [], |row| row.get(0))
        .expect("on the record");
    assert!(by.contains(":cli/"), "{by}");
    ok(&run(&data, &["audit", "verify"]));
}

#[test]
fn break_glass_sets_a_password_and_is_on_the_record() {
    let (_dir, data) = initialised();
    let printed = ok(&run(&data, &["admin", "reset-password", "--email", EMAIL]));
    assert_eq!(printed.trim_end().len(), 43);
    ok(&run_with(
        &data,
        &["admin", "reset-password", "--email", EMAIL, "--password-stdin"],
        "seven blue geese fly south\n",
    ));
    let short = run_with(&data, &["admin", "reset-password", "--email", EMAIL, "--password-stdin"], "short\n");
    assert_eq!(short.status.code(), Some(1));
    ok(&run(&data, &["admin", "unlock"]));
    ok(&run(&data, &["admin", "unlock", "--email", EMAIL]));
    let last = run(&data, &["admin", "grant", "--email", EMAIL, "--account", "acme", "--role", "auditor"]);
    assert!(err(&last).contains("Nobody would be left"), "{}", err(&last));
    ok(&run(&data, &["admin", "grant", "--email", EMAIL, "--account", "acme", "--role", "full-access"]));
    let database = rusqlite::Connection::open(data.join("bailiwick.db")).expect("opened");
    let records: i64 = database
        .query_row(
            "SELECT count(*) FROM audit_record WHERE principal_urn LIKE 'urn:bailiwick:identity:default:%:cli/_%'",
            [],
            |row| row.get(0),
        )
        .expect("counted");
    assert!(records >= 8, "{records}");
    let leaks: i64 = database
        .query_row("SELECT count(*) FROM audit_record WHERE details LIKE '%geese%'", [], |row| row.get(0))
        .expect("counted");
    assert_eq!(leaks, 0);
    ok(&run(&data, &["audit", "verify"]));
}

#[test]
fn an_account_is_exported_into_a_file_of_its_own() {
    let (_dir, data) = initialised();
    let file = data.with_file_name("acme.jsonl");
    let path = file.to_str().expect("text");
    let said = ok(&run(&data, &["admin", "export-account", "--account", "acme", "--out", path]));
    assert!(said.contains(path), "{said}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("a file").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let export = std::fs::read_to_string(&file).expect("read");
    assert!(export.lines().next().expect("a line").contains("\"alias\":\"acme\""), "{export}");
    assert!(export.lines().last().expect("a line").starts_with("{\"end\":true,"), "{export}");
    assert!(export.contains(EMAIL) && !export.contains("$argon2"), "{export}");
    assert!(export.contains("audit.account_exported.v1"), "the export says that it was made");
    let again = run(&data, &["admin", "export-account", "--account", "acme", "--out", path]);
    assert_eq!(again.status.code(), Some(1));
    assert!(err(&again).contains("an existing one is kept"), "{}", err(&again));
    assert_eq!(std::fs::read_to_string(&file).expect("read"), export);
    ok(&run(&data, &["audit", "verify"]));
}

#[test]
fn set_email_gives_a_user_another_address() {
    let (_dir, data) = initialised();
    let taken = run(&data, &["admin", "set-email", "--email", EMAIL, "--to", "not an address"]);
    assert_eq!(taken.status.code(), Some(1));
    ok(&run(&data, &["admin", "set-email", "--email", EMAIL, "--to", "ida@new.example"]));
    let unknown = run(&data, &["admin", "reset-password", "--email", EMAIL]);
    assert_eq!(unknown.status.code(), Some(1));
    ok(&run(&data, &["admin", "reset-password", "--email", "ida@new.example"]));
    let database = rusqlite::Connection::open(data.join("bailiwick.db")).expect("opened");
    let sql = "SELECT principal_urn FROM audit_record WHERE type = 'audit.user_email_changed.v1'";
    let by: String = database.query_row(sql, [], |row| row.get(0)).expect("a record");
    assert!(by.contains(":cli/"), "{by}");
    ok(&run(&data, &["audit", "verify"]));
}

#[test]
fn plain_http_beyond_loopback_and_a_misspelt_setting_are_refused() {
    let (_dir, data) = initialised();
    let output = run(&data, &["serve", "--listen", "0.0.0.0:0", "--plain-http"]);
    assert!(err(&output).contains("loopback"), "{}", err(&output));
    let file = data.join("x.toml");
    std::fs::write(&file, "plain_htpp = true\n").expect("written");
    let output = run(&data, &["check", "--config", file.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("plain_htpp"), "{}", err(&output));
    assert_eq!(run(&data, &["nonsense"]).status.code(), Some(2));
}

/// Enough for a 99th percentile.
const PAGES_MEASURED: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_wrong_passwords_takes_neither_the_memory_nor_the_pages_of_others() {
    let (_dir, data) = initialised();
    let serving = Serving::start(&data);
    let base = serving.base.clone();
    let mut at_work = super::Browser::new(&base, None);
    assert_eq!(at_work.sign_in(EMAIL, PASSWORD).await.status(), 303);
    // A hundred at once, and again until enough of the others' pages were measured: how long one flood lasts is a matter of
    // the machine.
    let (mut took, mut evaluated, mut refused, mut wave) = (Vec::new(), 0, 0, 0_u8);
    while took.len() < PAGES_MEASURED {
        wave += 1;
        let guesses: Vec<_> = (0..100_u8)
            .map(|i| {
                let base = base.clone();
                tokio::spawn(async move {
                    let mut browser = super::Browser::new(&base, Some([127, 0, wave + 1, i].into()));
                    browser.sign_in(&format!("user{wave}-{i}@acme.example"), "some wrong password").await
                })
            })
            .collect();
        // Whoever is signed in already goes on working: pages that read and a form that writes, in turn.
        while guesses.iter().any(|guess| !guess.is_finished()) {
            for path in ["/", "/identities", "/logs", "/profile", "/healthz"] {
                let begun = Instant::now();
                assert_eq!(at_work.get(path).await.status(), 200, "{path}");
                took.push(begun.elapsed());
            }
            let begun = Instant::now();
            assert_eq!(at_work.post("/profile/theme", &[("theme", "dark")]).await.status(), 303);
            took.push(begun.elapsed());
        }
        for guess in guesses {
            let answer = guess.await.expect("answered");
            match answer.status().as_u16() {
                422 => evaluated += 1,
                503 => {
                    assert!(answer.headers().contains_key("retry-after"));
                    refused += 1;
                }
                other => panic!("answered {other}"),
            }
        }
    }
    took.sort();
    let (median, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    let slowest = took[took.len() - 1];
    let peak_mib = serving.memory_kib("VmHWM") / 1024;
    println!(
        "{evaluated} evaluated, {refused} told to wait; {} pages meanwhile: median {median:?}, p99 {p99:?}, slowest \
         {slowest:?}; peak {peak_mib} MiB",
        took.len()
    );
    assert!(evaluated > 0);
    let permits = 2 * std::thread::available_parallelism().expect("cores").get() as u64;
    assert!(peak_mib < (100 + 20 * permits).min(200), "{peak_mib} MiB");
    assert!(p99 < Duration::from_millis(200), "{p99:?}");
    // Nobody was throttled by what was never evaluated.
    assert_eq!(super::Browser::new(&base, None).sign_in(EMAIL, PASSWORD).await.status(), 303);
    serving.stop();
}
