//! A directory with history and with groups in groups: readings of changes, the past, effective members.
//!
//! 100,000 people in 2,000 groups that are in one another, one of them with 50,000 people three levels down.

use std::{fmt::Write as _, time::Duration};

use serde_json::Value;

use super::{
    fixtures::{
        appliance::{Appliance, number, text},
        ldapsearch,
        people::{GROUPS, ODD_UNIT, PEOPLE, Shape, uid},
        slapd::{Options, Slapd},
    },
    past,
    runs::{Times, run, time_full_run, unencrypted},
    table::{Part, Table, Wanted},
};

/// How often a reading of changes is asked whether it has ended.
const EVERY: Duration = Duration::from_millis(1);
const ROUNDS_OF_NOTHING: usize = 20;
const ROUNDS_OF_CHANGES: usize = 5;

pub async fn measure(wanted: &Wanted, table: &mut Table) {
    table.heading("100,000 people, 2,000 groups in one another, with history");
    if !wanted.has(Part::Changes) {
        return table.not_run("asked for with --only changes");
    }
    let shape = Shape::NESTED;
    let slapd = Slapd::start(Options::of(shape));
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let directory = api.create_directory(&unencrypted(&slapd)).await;
    // 111 groups are the tree, and one has 50,000 members of its own.
    time_full_run(api, &directory, "added", shape.people + shape.groups + 112).await;

    deltas(&slapd, &appliance, &directory, table).await;

    let moments = past::rename_everybody(&appliance, &directory, &unencrypted(&slapd)).await;
    past::measure(&appliance, &directory, &shape, &moments, table).await;
    table.shown("peak memory of the process", super::runs::mib(appliance.peak_memory_kib()), "MiB");
}

/// Readings of changes: of none, in turns with a look at the base entry by ldapsearch, and of a hundred.
pub async fn deltas(slapd: &Slapd, appliance: &Appliance, directory: &str, table: &mut Table) {
    let api = &appliance.api;
    let (mut base_reads, mut nothing) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS_OF_NOTHING {
        base_reads.push(ldapsearch::time(ldapsearch::base_read(slapd)).as_secs_f64() * 1_000.0);
        let (ended, took) = run(api, directory, "delta", EVERY).await;
        assert_eq!((&ended["state"], &ended["mode"]), (&"applied".into(), &"delta".into()), "{ended}");
        assert_eq!(number(&ended, "/counts/read"), 0, "{ended}");
        nothing.push(took * 1_000.0);
    }
    let base_read = super::runs::median(&base_reads);
    table.shown("ldapsearch of the base entry, median", base_read, "ms");
    table.limited("delta without a change, median", super::runs::median(&nothing), "ms", base_read + 20.0);
    let mut hundred = Times::default();
    for round in 0..ROUNDS_OF_CHANGES {
        slapd.modify(&hundred_changes(slapd.shape(), round));
        let begun = std::time::Instant::now();
        let (ended, _) = run(api, directory, "delta", EVERY).await;
        hundred.push(begun);
        check_hundred(&ended);
    }
    table.limited("delta with 100 changes of every kind, worst of 5", hundred.quantile(1.0), "ms", 1_000.0);
}

/// 20 people come, 30 change, 10 get another name, 10 move, 10 go; 10 groups get a member and 10 lose one.
fn hundred_changes(shape: Shape, round: usize) -> String {
    let mut ldif = String::new();
    let person = |i: usize| format!("uid={},{PEOPLE}", uid(round * 1_000 + i * 10 + 3));
    // One of the giant group, so that what names it has to be read again.
    let of_the_giant = |i: usize| format!("uid={},{PEOPLE}", uid(shape.people - 10_000 + round * 1_000 + i * 10 + 3));
    for i in 0..20 {
        let uid = format!("new-{round}-{i}");
        let _ = write!(
            ldif,
            "dn: uid={uid},{PEOPLE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: New {i}\nsn: {i}\n\n"
        );
    }
    for i in 0..30 {
        let _ = write!(
            ldif,
            "dn: {}\nchangetype: modify\nreplace: title\ntitle: Title {round}\n-\nreplace: mail\nmail: m{round}-{i}@example.test\n\n",
            person(i)
        );
    }
    for i in 30..40 {
        let dn = if i == 30 { of_the_giant(i) } else { person(i) };
        let _ = write!(ldif, "dn: {dn}\nchangetype: modrdn\nnewrdn: uid=renamed-{round}-{i}\ndeleteoldrdn: 1\n\n");
    }
    for i in 40..50 {
        let dn = if i == 40 { of_the_giant(i) } else { person(i) };
        let rdn = dn.split(',').next().unwrap_or_default();
        let _ =
            write!(ldif, "dn: {dn}\nchangetype: modrdn\nnewrdn: {rdn}\ndeleteoldrdn: 0\nnewsuperior: {ODD_UNIT}\n\n");
    }
    for i in 50..60 {
        let _ = write!(ldif, "dn: {}\nchangetype: delete\n\n", if i == 50 { of_the_giant(i) } else { person(i) });
    }
    for i in 0..10 {
        let _ = write!(
            ldif,
            "dn: cn=g{:05},{GROUPS}\nchangetype: modify\nadd: member\nmember: uid=new-{round}-{i},{PEOPLE}\n-\n\n",
            round * 100 + i
        );
    }
    for i in 0..10 {
        // A leaf of the tree loses its first.
        let leaf = format!("cn=tree-{round}-{i},{GROUPS}");
        let first = (round * 10 + i) * (shape.people / shape.tree);
        let _ =
            write!(ldif, "dn: {leaf}\nchangetype: modify\ndelete: member\nmember: uid={},{PEOPLE}\n-\n\n", uid(first));
    }
    ldif
}

#[track_caller]
fn check_hundred(run: &Value) {
    assert_eq!((text(run, "state"), text(run, "mode")), ("applied".into(), "delta".into()), "{run}");
    assert_eq!((number(run, "/counts/added"), number(run, "/counts/missing")), (20, 10), "{run}");
    assert!(number(run, "/counts/changed") >= 50 + 20, "{run}");
    assert!(number(run, "/counts/membersAdded") >= 10 && number(run, "/counts/membersRemoved") >= 10, "{run}");
}
