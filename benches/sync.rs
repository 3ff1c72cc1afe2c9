//! The benchmark of the main job: directories of up to a million people on a local slapd, in one table.
//!
//! What is compared is timed in turns on the same machine, so that the ratios mean something on any machine: OpenLDAP's
//! own `ldapsearch -E pr=1000/noprompt` writing to nowhere, the first full run, and a full run with nothing changed.
//! Run it with `cargo bench --bench sync`; a part alone with `-- --only first` (`changes`, `past`, `yardstick`), the
//! million with `-- --million`, everything with `-- --all`, more turns with `-- --rounds 5`. Ends with the table and
//! fails when a limit is not kept; what was not asked for stands in the table as not run. Owns no fixtures: they are
//! the tests'.

#[cfg(test)]
#[expect(dead_code, reason = "the tests are built on the same fixtures and use what the benchmark does not")]
#[path = "../tests/fixtures/mod.rs"]
mod fixtures;

#[cfg(test)]
#[path = "sync/changes.rs"]
mod changes;
#[cfg(test)]
#[path = "sync/first.rs"]
mod first;
#[cfg(test)]
#[path = "sync/million.rs"]
mod million;
#[cfg(test)]
#[path = "sync/past.rs"]
mod past;
#[cfg(test)]
#[path = "sync/runs.rs"]
mod runs;
#[cfg(test)]
#[path = "sync/table.rs"]
mod table;
#[cfg(test)]
#[path = "sync/writes.rs"]
mod writes;
#[cfg(test)]
#[path = "sync/yardstick.rs"]
mod yardstick;

#[cfg(test)]
fn main() -> std::process::ExitCode {
    let wanted = table::Wanted::from_arguments();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut table = table::Table::default();
    runtime.block_on(async {
        first::measure(&wanted, &mut table).await;
        changes::measure(&wanted, &mut table).await;
        yardstick::measure(&wanted, &mut table).await;
        million::measure(&wanted, &mut table).await;
    });
    println!("{table}");
    if table.is_over() { std::process::ExitCode::FAILURE } else { std::process::ExitCode::SUCCESS }
}
