//! A million people and 20,000 groups: what grows with the directory, and what must not.
//!
//! Owns how much disk it takes: the built directory in `tests/cache/` (1.6 GiB, kept), a copy of it that is served and
//! the appliance's database (both in the folder for temporary files, removed at the end). It is not run where there is
//! less room than that.

use std::{path::Path, process::Command, time::Duration};

use super::{
    first,
    fixtures::{
        appliance::{Appliance, number},
        console::Console,
        people::Shape,
        slapd::{Options, Slapd},
    },
    past,
    runs::{MEMORY_MIB, mib, run, time_ldapsearch, unencrypted},
    table::{Part, Table, Wanted},
    writes,
};

/// Room for the directory twice, and for the appliance's database with its log and history.
const DISK_GIB: f64 = 12.0;
const SAVE_MS: f64 = 100.0;
const EVERY: Duration = Duration::from_millis(100);

pub async fn measure(wanted: &Wanted, table: &mut Table) {
    table.heading("1,000,000 people, 20,000 groups in one another");
    if !wanted.has(Part::Million) {
        return table.not_run("asked for with --million or --all");
    }
    let free = free_gib(&std::env::temp_dir()).min(free_gib(Path::new(env!("CARGO_MANIFEST_DIR"))));
    if free < DISK_GIB {
        // Asked for and not there: that must not look like success.
        table.limited("GiB of disk that are lacking", DISK_GIB - free, "GiB", 0.0);
        return;
    }
    let shape = Shape::MILLION;
    let slapd = Slapd::start(Options::of(shape));
    // The copy that is served was written a moment ago; what of it is not on disk yet must not stand in the appliance's way.
    assert!(Command::new("sync").status().is_ok_and(|status| status.success()), "sync is everywhere");
    let draft = unencrypted(&slapd);
    time_ldapsearch(&slapd);
    let mut dumps = vec![time_ldapsearch(&slapd)];
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let console = Console::sign_in(&appliance.url()).await;
    let directory = api.create_directory(&draft).await;
    let all = (shape.people + shape.groups + 112) as u64;
    let peak = || mib(appliance.peak_memory_kib());

    let ((ended, first), saves) = writes::during(&console, run(api, &directory, "full", EVERY)).await;
    assert_eq!((&ended["state"], number(&ended, "/counts/added")), (&"applied".into(), all), "{ended}");
    let after_first = peak();
    dumps.push(time_ldapsearch(&slapd));
    let (ended, unchanged) = run(api, &directory, "full", EVERY).await;
    assert_eq!((&ended["state"], number(&ended, "/counts/unchanged")), (&"applied".into(), all), "{ended}");
    let base = super::runs::median(&dumps);
    table.shown("ldapsearch to nowhere", base, "s");
    table.shown("first full run", first, "s");
    table.shown("first full run / ldapsearch", first / base, "×");
    table.shown("unchanged full run", unchanged, "s");
    table.shown("unchanged full run / ldapsearch", unchanged / base, "×");
    table.limited("peak memory of a first and an unchanged run", peak(), "MiB", MEMORY_MIB);
    table.shown("peak memory of the first run", after_first, "MiB");
    table.shown("profile saved during the first run, median", saves.median(), "ms");
    table.limited(&format!("profile saved during the first run, p99 of {}", saves.count()), saves.p99(), "ms", SAVE_MS);

    super::changes::deltas(&slapd, &appliance, &directory, table).await;

    let moment = super::fixtures::appliance::text(&ended, "finishedAt");
    let (parked, planning) = writes::during(&console, past::plan_renaming(api, &directory, &draft)).await;
    let after_plan = peak();
    let (applied, applying) = writes::during(&console, past::approve(api, &parked)).await;
    let changed = number(&applied, "/counts/changed");
    assert!(changed >= shape.people as u64 * 9 / 10, "{applied}");
    for (what, saves) in [("planned", &planning), ("read again and applied", &applying)] {
        table.shown(&format!("profile saved while a million changes are {what}, median"), saves.median(), "ms");
        let name = format!("profile saved while a million changes are {what}, p99 of {}", saves.count());
        table.limited(&name, saves.p99(), "ms", SAVE_MS);
    }
    table.shown("peak memory, until a million changes were planned", after_plan, "MiB");
    table.limited("peak memory, until they were applied", peak(), "MiB", MEMORY_MIB);

    // Right after such a run the search index is made one part of many.
    let busy = first::time_searches(&slapd, &appliance).await;
    table.shown("search by API right after the run, p99 of 500", busy.p99(), "ms");
    tokio::time::sleep(Duration::from_secs(20)).await;
    first::search(&slapd, &appliance, 20.0, table).await;
    let moments = [moment, super::fixtures::appliance::text(&applied, "finishedAt")];
    past::measure(&appliance, &directory, &shape, &moments, table).await;
    table.limited("peak memory of everything", peak(), "MiB", MEMORY_MIB);
    table.shown("disk: the directory served", folder_gib(slapd.folder()), "GiB");
    table.shown("disk: the appliance", folder_gib(&appliance.data_dir()), "GiB");
}

/// Free room on the file system of a folder.
fn free_gib(folder: &Path) -> f64 {
    kib(Command::new("df").args(["-k", "--output=avail"]).arg(folder))
}

/// What a folder takes on disk; holes take nothing.
fn folder_gib(folder: &Path) -> f64 {
    kib(Command::new("du").arg("-sk").arg(folder))
}

/// The last line's first number of a tool that counts in KiB, in GiB.
fn kib(command: &mut Command) -> f64 {
    let output = command.output().expect("df and du are everywhere");
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.lines().last().and_then(|line| line.split_whitespace().next());
    let kib: f64 = number.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("a number of KiB, not {text}"));
    kib / (1024.0 * 1024.0)
}
