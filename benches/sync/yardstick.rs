//! The public yardstick: 10,000 users, 1,000 groups and 200,000 memberships. A well-known product is said to take about
//! five minutes for its first sync of them.

use std::time::Duration;

use super::{
    fixtures::{
        appliance::{Appliance, number},
        ldapsearch,
        people::Shape,
        samba::{self, Samba, Size},
        slapd::{Options, Slapd},
    },
    runs::{median, run, time_full_run, time_ldapsearch, unencrypted},
    table::{Part, Table, Wanted},
};

const ROUNDS_OF_CHANGES: usize = 5;

pub async fn measure(wanted: &Wanted, table: &mut Table) {
    table.heading("10,000 users, 1,000 groups, 200,000 memberships");
    if !wanted.has(Part::Yardstick) {
        return table.not_run("asked for with --only yardstick");
    }
    let slapd = Slapd::start(Options::of(Shape::YARDSTICK));
    time_ldapsearch(&slapd);
    let all = Shape::YARDSTICK.people + Shape::YARDSTICK.groups;
    let (mut first, mut unchanged) = (Vec::new(), Vec::new());
    for _ in 0..wanted.rounds {
        let appliance = Appliance::start().await;
        let directory = appliance.api.create_directory(&unencrypted(&slapd)).await;
        first.push(time_full_run(&appliance.api, &directory, "added", all).await);
        unchanged.push(time_full_run(&appliance.api, &directory, "unchanged", all).await);
    }
    // Elsewhere: about 300 s.
    table.limited("first full run, median", median(&first), "s", 5.0);
    table.shown("unchanged full run, median", median(&unchanged), "s");
    domain(wanted, table).await;
}

/// The same in a domain of Samba, over TLS.
async fn domain(wanted: &Wanted, table: &mut Table) {
    table.heading("Active Directory (Samba): 10,000 users, 1,000 groups, 200,000 memberships");
    let size = Size::YARDSTICK;
    let samba = Samba::start(size);
    let (mut dumps, mut first, mut unchanged) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..wanted.rounds {
        let mut dump = samba.tool("ldapsearch");
        dump.args(["-LLL", "-E", "pr=1000/noprompt", "-b", samba::BASE, "(|(objectClass=user)(objectClass=group))"]);
        dumps.push(ldapsearch::time(dump).as_secs_f64());
        let appliance = Appliance::start().await;
        let directory = appliance.api.create_directory(&samba.draft(&[])).await;
        let (run, took) = run(&appliance.api, &directory, "full", Duration::from_millis(100)).await;
        assert_eq!(run["state"], "applied", "{run}");
        let added = number(&run, "/counts/added");
        assert!(added > (size.users + size.groups) as u64, "{run}");
        let memberships = (size.groups * size.members + size.users) as u64;
        assert!(number(&run, "/counts/membersAdded") > memberships, "{run}");
        first.push(took);
        let all = usize::try_from(added).expect("a number");
        unchanged.push(time_full_run(&appliance.api, &directory, "unchanged", all).await);
    }
    table.shown("ldapsearch to nowhere, median", median(&dumps), "s");
    // Elsewhere: about 300 s.
    table.limited("first full run, median", median(&first), "s", 60.0);
    table.shown("unchanged full run, median", median(&unchanged), "s");
    let appliance = Appliance::start().await;
    let directory = appliance.api.create_directory(&samba.draft(&[])).await;
    run(&appliance.api, &directory, "full", Duration::from_millis(100)).await;
    let mut hundred = Vec::new();
    for round in 0..ROUNDS_OF_CHANGES {
        samba.modify(&samba.hundred_changes(round));
        let (ended, took) = run(&appliance.api, &directory, "delta", Duration::from_millis(5)).await;
        assert_eq!((&ended["state"], &ended["mode"]), (&"applied".into(), &"delta".into()), "{ended}");
        assert!(number(&ended, "/counts/added") == 20 && number(&ended, "/counts/changed") >= 70, "{ended}");
        hundred.push(took);
    }
    let worst = hundred.iter().copied().fold(0.0, f64::max);
    table.limited("delta with 100 changes of every kind by DirSync, worst of 5", worst, "s", 2.0);
}
