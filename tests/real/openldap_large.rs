//! The same promises with 100,000 people and a group of 50,000.

mod long {
    use std::{collections::BTreeSet, time::{Duration, Instant}};

    use serde_json::json;

    use crate::{
        fixtures::{
            appliance::{Appliance, draft, number, text},
            ldapsearch,
            people::{GROUPS, PEOPLE, Shape, uid},
            slapd::{Options, Slapd},
            truth::Truth,
        },
        real::comparison::{Copy, assert_same_group, assert_same_members, assert_same_objects, assert_same_person},
    };

    const PATIENCE: Duration = Duration::from_secs(240);
    /// The appliance must do with this, whatever it reads.
    const PEAK_MEMORY_KIB: u64 = 150 * 1024;

    #[tokio::test]
    async fn a_hundred_thousand_people_agree_with_ldapsearch_in_bounded_memory() {
        let slapd = Slapd::shared_large();
        let truth = Truth::read_attributes(slapd, &[]);
        assert_eq!(truth.people.len(), Shape::LARGE.people);
        let appliance = Appliance::start().await;
        let api = &appliance.api;
        let directory = api.create_directory(&draft(slapd)).await;

        let begun = Instant::now();
        let run = api.run_full_within(&directory, PATIENCE).await;
        assert_eq!(run["state"], "applied", "{run}");
        println!("first run {:?}, peak memory {} KiB", begun.elapsed(), appliance.peak_memory_kib());
        let objects = (truth.people.len() + truth.groups.len()) as u64;
        assert_eq!(number(&run, "/counts/read"), objects);
        assert_eq!(number(&run, "/counts/membersAdded"), truth.membership_count() as u64);

        let begun = Instant::now();
        let run = api.run_full_within(&directory, PATIENCE).await;
        assert_eq!(number(&run, "/counts/unchanged"), objects, "{run}");
        let peak = appliance.peak_memory_kib();
        println!("unchanged run {:?}, peak memory {peak} KiB", begun.elapsed());
        assert!(peak < PEAK_MEMORY_KIB, "peak memory {peak} KiB");

        let copy = Copy::read(api, &directory).await;
        assert_same_objects(&copy, &truth);
        // Every odd person, and ordinary ones from everywhere.
        let ordinary: BTreeSet<String> = (0..300).map(|i| uid(100 + i * 331)).collect();
        for (external, entry) in &truth.people {
            let uid = entry.text("uid").expect("everyone has one");
            if uid.starts_with('u') && !ordinary.contains(&uid) {
                continue;
            }
            let identity = api.get(&format!("/api/identities/{}", copy.id(external))).await;
            assert_same_person(&identity, &ldapsearch::entry(slapd, &entry.dn));
        }
        for (number, (external, entry)) in truth.groups.iter().enumerate() {
            let is_ordinary = entry.text("cn").is_some_and(|cn| cn.starts_with('g') && cn.len() == 6);
            if is_ordinary && number % 20 != 0 {
                continue;
            }
            assert_same_group(&api.get(&format!("/api/groups/{}", copy.id(external))).await, entry);
            assert_same_members(api, &copy, &truth, external).await;
        }
        let giant = truth.group(&format!("cn=giant,{GROUPS}"));
        assert_eq!(number(&copy.groups[giant], "/memberCount"), Shape::LARGE.giant as u64);
        appliance.assert_audit_verifies();
    }

    #[tokio::test]
    async fn a_large_server_killed_while_it_answers_costs_the_run_and_nothing_else() {
        let slapd = Slapd::start(Options::of(Shape::LARGE));
        let appliance = Appliance::start().await;
        let api = &appliance.api;
        let directory = api.create_directory(&draft(&slapd)).await;
        let run = api.run_full_within(&directory, PATIENCE).await;
        assert_eq!(run["state"], "applied", "{run}");
        let outline = Copy::read(api, &directory).await.outline();

        let run = text(&api.request_run(&directory).await.expect(202), "id");
        loop {
            let seen = api.get(&format!("/api/runs/{run}")).await;
            assert_eq!(seen["state"], "reading", "killed too late: {seen}");
            if number(&seen, "/counts/read") > 5_000 {
                break;
            }
        }
        slapd.kill();
        let run = api.wait_for_end(&run, PATIENCE).await;
        assert_eq!(run["state"], "failed", "{run}");
        assert_eq!(Copy::read(api, &directory).await.outline(), outline);
        slapd.restart();

        // A change to the giant group is two lines, not fifty thousand.
        slapd.modify(&format!(
            "dn: cn=giant,{GROUPS}\nchangetype: modify\ndelete: member\nmember: {dn}\n-\nadd: member\nmember: uid=odd-mails,{PEOPLE}\n",
            dn = format!("uid={},{PEOPLE}", uid(99_000)),
        ));
        let run = api.run_full_within(&directory, PATIENCE).await;
        assert_eq!(run["state"], "applied", "{run}");
        assert_eq!(run["counts"]["membersAdded"], json!(1), "{run}");
        assert_eq!(run["counts"]["membersRemoved"], json!(1), "{run}");
    }
}
