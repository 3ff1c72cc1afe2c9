//! The public yardstick: 10,000 users, 1,000 groups and 200,000 memberships. A well-known product is said to take about
//! five minutes for its first sync of them.

use super::{
    fixtures::{
        appliance::Appliance,
        people::Shape,
        slapd::{Options, Slapd},
    },
    runs::{median, time_full_run, time_ldapsearch, unencrypted},
    table::{Part, Table, Wanted},
};

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
}
