//! The same promises with 100,000 people and a group of 50,000.

mod long {
    use std::{
        collections::BTreeSet,
        time::{Duration, Instant},
    };

    use serde_json::json;

    use crate::{
        fixtures::{
            appliance::{Appliance, draft, draft_with, number, text},
            ldapsearch,
            people::{GROUPS, PEOPLE, Shape, uid},
            proxy::Proxy,
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
        let wire = Proxy::start(slapd.tls_port);
        let appliance = Appliance::start().await;
        let api = &appliance.api;
        let server = json!([format!("ldaps://127.0.0.1:{}", wire.port)]);
        let directory = api.create_directory(&draft_with(&slapd, &[("/settings/servers", server)])).await;
        let run = api.run_full_within(&directory, PATIENCE).await;
        assert_eq!(run["state"], "applied", "{run}");
        let outline = Copy::read(api, &directory).await.outline();

        // In the middle of the people, and among the members of the groups, which come last.
        let whole = wire.passed();
        for percent in [40, 97] {
            wire.stall_after(whole * percent / 100);
            let run = text(&api.request_run(&directory).await.expect(202), "id");
            wire.wait_until_stalled();
            slapd.kill();
            wire.cut();
            let run = api.wait_for_end(&run, PATIENCE).await;
            assert_eq!(run["state"], "failed", "{run}");
            assert_eq!(Copy::read(api, &directory).await.outline(), outline);
            slapd.restart();
        }

        // A change to the giant group is two lines, not fifty thousand.
        slapd.modify(&format!(
            "dn: cn=giant,{GROUPS}\nchangetype: modify\ndelete: member\nmember: uid={},{PEOPLE}\n-\nadd: member\n\
             member: uid=odd-mails,{PEOPLE}\n",
            uid(99_000)
        ));
        let run = api.run_full_within(&directory, PATIENCE).await;
        assert_eq!(run["state"], "applied", "{run}");
        assert_eq!(run["counts"]["membersAdded"], json!(1), "{run}");
        assert_eq!(run["counts"]["membersRemoved"], json!(1), "{run}");
    }
}
