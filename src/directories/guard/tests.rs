//! Every limit and wire at its edge, and what must hold for any figures.

use proptest::prelude::*;

use super::*;

fn full() -> Facts {
    Facts {
        is_full: true,
        was_applied: true,
        identities: Tally { present: 100, ..Tally::default() },
        groups: Tally { present: 20, ..Tally::default() },
        memberships: 400,
        ..Facts::default()
    }
}

fn codes(guard: &Guard, facts: &Facts) -> Vec<&'static str> {
    judge(guard, facts).iter().map(Trip::code).collect()
}

#[test]
fn a_limit_trips_above_both_its_count_and_its_share() {
    let limit = |count, share| Limit { share, count };
    for (limit, of, allowed) in [
        (Limit::DEFAULT, 100, 10),
        (Limit::DEFAULT, 200, 10),
        (Limit::DEFAULT, 201, 10),
        (Limit::DEFAULT, 1_000, 50),
        (Limit::DEFAULT, 1_000_000, 50_000),
        (Limit::DEFAULT_PRIVILEGED, 5, 2),
        (Limit::DEFAULT_PRIVILEGED, 50, 10),
        (limit(0, 0.0), 1_000, 0),
        (limit(0, 0.29), 100, 29),
        (limit(0, 1.0), 7, 7),
        (limit(500, 0.0), 1_000_000, 500),
    ] {
        assert_eq!(limit.allowance(of), allowed, "{limit:?} of {of}");
    }
    let mut facts = full();
    facts.identities.missing = 10;
    assert_eq!(codes(&Guard::default(), &facts), [""; 0]);
    facts.identities.missing = 11;
    assert_eq!(
        judge(&Guard::default(), &facts),
        [Trip::OverLimit { loss: Loss::Identities, number: 11, of: 100, allowed: 10 }]
    );
    facts.identities.missing = 1;
    let strict = Guard { removals: limit(0, 0.0), ..Guard::default() };
    assert_eq!(codes(&strict, &facts), ["over-limit"]);
}

#[test]
fn an_empty_and_a_half_answer_trip_whatever_the_limits_are() {
    let open = Limit { share: 1.0, count: u32::MAX };
    let guard = Guard { removals: open, disables: open, membership_removals: open, ..Guard::default() };
    for (missing, expected) in [(100, "empty-answer"), (99, "short-answer"), (51, "short-answer")] {
        let mut facts = full();
        facts.identities.missing = missing;
        assert_eq!(codes(&guard, &facts), [expected], "{missing} of 100 identities");
        let mut facts = full();
        facts.groups = Tally { present: 100, missing, ..Tally::default() };
        assert_eq!(codes(&guard, &facts), [expected], "{missing} of 100 groups");
    }
    let mut facts = full();
    facts.identities.missing = 50;
    assert_eq!(codes(&guard, &facts), [""; 0]);
    // Other data behind the same address: as many objects, but none of ours.
    facts.identities = Tally { present: 100, missing: 100, added: 100, ..Tally::default() };
    assert_eq!(codes(&Guard::default(), &facts), ["over-limit"]);
    // One of three is not half an answer, none of three is an empty one.
    facts.identities = Tally { present: 3, missing: 2, ..Tally::default() };
    assert_eq!(codes(&guard, &facts), [""; 0]);
    facts.identities.missing = 3;
    assert_eq!(codes(&guard, &facts), ["empty-answer"]);
    // A delta run says nothing about what it did not send.
    facts.is_full = false;
    assert_eq!(codes(&guard, &facts), [""; 0]);
}

#[test]
fn other_settings_trip_when_the_plan_shows_them() {
    let mut facts = full();
    let change = SettingChange { setting: "userFilter".into(), before: "(a=*)".into(), after: "(b=*)".into() };
    facts.settings_changed = vec![change.clone()];
    let guard = Guard::default();
    assert_eq!(codes(&guard, &facts), [""; 0]);
    facts.identities.added = 10;
    assert_eq!(codes(&guard, &facts), [""; 0]);
    facts.identities.added = 11;
    assert_eq!(codes(&guard, &facts), ["settings-changed"]);
    facts.identities = Tally { present: 100, changed: 11, ..Tally::default() };
    assert_eq!(codes(&guard, &facts), ["settings-changed"]);
    facts.identities = Tally { present: 100, missing: 1, ..Tally::default() };
    let trips = judge(&guard, &facts);
    assert_eq!(trips, [Trip::SettingsChanged { settings: vec![change] }]);
    assert!(trips[0].explanation().starts_with("userFilter is not what the last applied run was read with"));
}

#[test]
fn a_lost_watermark_trips_only_when_something_would_be_lost() {
    let mut facts = Facts { watermark_lost: Some("The server knows another cookie".into()), ..full() };
    assert_eq!(codes(&Guard::default(), &facts), [""; 0]);
    facts.memberships_removed = 1;
    assert_eq!(codes(&Guard::default(), &facts), ["watermark-lost"]);
}

#[test]
fn a_count_may_be_off_by_one_in_a_hundred() {
    for (counted, sent, trips) in
        [(1_000, 990, false), (1_000, 989, true), (99, 98, true), (50, 50, false), (50, 60, false), (0, 0, false)]
    {
        let facts = Facts { counted: Some((counted, sent)), ..full() };
        assert_eq!(codes(&Guard::default(), &facts) == ["count-disagrees"], trips, "{counted} {sent}");
    }
}

#[test]
fn a_first_run_is_stopped_only_when_it_finds_nobody() {
    let first = |identities, groups| Facts {
        is_full: true,
        identities: Tally { added: identities, ..Tally::default() },
        groups: Tally { added: groups, ..Tally::default() },
        ..Facts::default()
    };
    for (identities, groups, expected) in
        [(0, 0, vec!["nothing-found"]), (0, 7, vec!["nothing-found"]), (1, 0, vec![]), (100_000, 2_000, vec![])]
    {
        assert_eq!(codes(&Guard::default(), &first(identities, groups)), expected, "{identities}, {groups}");
    }
}

#[test]
fn a_privileged_group_has_its_own_limit() {
    let loss = |name: &str, of, number| GroupLoss { name: name.into(), of, number, allowed: 0 };
    let mut facts = full();
    facts.privileged = vec![loss("Domain Admins", 10, 2), loss("wheel", 4, 3)];
    assert_eq!(
        judge(&Guard::default(), &facts),
        [Trip::PrivilegedGroups { groups: vec![GroupLoss { allowed: 2, ..loss("wheel", 4, 3) }], count: 1 }]
    );
    let privileged = Privileged::default();
    for (name, is_covered) in [
        ("Domain Admins", true),
        ("ADMINISTRATORS", true),
        ("wheel", true),
        ("sudo", true),
        ("root", true),
        ("wheels", false),
        ("pseudo", false),
        ("Staff", false),
        ("", false),
    ] {
        assert_eq!(privileged.covers(name), is_covered, "{name}");
    }
}

#[test]
fn a_star_stands_for_any_characters() {
    for (pattern, name, expected) in [
        ("*", "", true),
        ("*", "x", true),
        ("a*", "abc", true),
        ("*c", "abc", true),
        ("a*c", "abc", true),
        ("a*c", "ac", true),
        ("a*b", "a", false),
        ("ab*b", "ab", false),
        ("*a*b*", "xxaxxbxx", true),
        ("*a*b*", "xxbxxaxx", false),
        ("**", "x", true),
        ("", "", true),
        ("", "x", false),
        ("a.c", "abc", false),
        ("ä*", "äx", true),
    ] {
        assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
    }
}

#[test]
fn a_guard_says_what_is_wrong_with_it() {
    let bad = Limit { share: 1.5, count: 0 };
    let guard = Guard {
        removals: bad,
        disables: Limit { share: f64::NAN, ..bad },
        membership_removals: Limit { share: -0.1, ..bad },
        privileged: Privileged { groups: vec![" ".into()], membership_removals: bad },
        grace_days: 401,
    };
    let fields: Vec<String> = guard.check().into_iter().map(|error| error.field).collect();
    assert_eq!(
        fields,
        [
            "guard.removals.share",
            "guard.disables.share",
            "guard.membershipRemovals.share",
            "guard.privileged.membershipRemovals.share",
            "guard.privileged.groups",
            "guard.graceDays"
        ]
    );
    assert!(Guard::default().check().is_empty());
}

#[test]
fn what_is_absent_has_its_default() {
    let read = |text: &str| serde_json::from_str::<Guard>(text).expect("a guard");
    assert_eq!(read("{}"), Guard::default());
    let guard = read(r#"{"privileged": {"groups": ["ops"]}, "disables": {"share": 0, "count": 3}}"#);
    assert_eq!(guard.removals, Limit::DEFAULT);
    assert_eq!(guard.disables, Limit { share: 0.0, count: 3 });
    assert_eq!(guard.privileged.membership_removals, Limit::DEFAULT_PRIVILEGED);
    assert_eq!((guard.privileged.groups, guard.grace_days), (vec!["ops".to_owned()], 30));
    assert!(serde_json::from_str::<Guard>(r#"{"removal": {"share": 0, "count": 3}}"#).is_err());
}

#[test]
fn every_trip_has_plain_sentences_and_comes_back_from_json() {
    let change = SettingChange { setting: "baseDns".into(), before: "a".into(), after: "b".into() };
    let loss = GroupLoss { name: "wheel".into(), of: 4, number: 3, allowed: 2 };
    let trips = [
        Trip::OverLimit { loss: Loss::Identities, number: 1_200, of: 4_000, allowed: 200 },
        Trip::OverLimit { loss: Loss::Groups, number: 11, of: 20, allowed: 10 },
        Trip::OverLimit { loss: Loss::Disables, number: 11, of: 20, allowed: 10 },
        Trip::OverLimit { loss: Loss::Memberships, number: 11, of: 20, allowed: 10 },
        Trip::PrivilegedGroups { groups: vec![loss; 5], count: 30 },
        Trip::EmptyAnswer { objects: Objects::Groups, present: 1 },
        Trip::ShortAnswer { objects: Objects::Identities, answered: 3, present: 9 },
        Trip::NothingFound { groups: 0 },
        Trip::NothingFound { groups: 2 },
        Trip::SettingsChanged { settings: vec![change.clone(), change.clone(), change] },
        Trip::WatermarkLost { reason: "Gone".into() },
        Trip::CountDisagrees { counted: 100, sent: 40 },
    ];
    for trip in &trips {
        for text in [trip.explanation(), trip.next_step().to_owned()] {
            assert!(text.ends_with('.') && text.starts_with(|c: char| c.is_alphanumeric()), "{text}");
        }
        assert!(!trip.title().is_empty() && !trip.title().ends_with('.'));
        let json = serde_json::to_value(trip).expect("JSON");
        assert_eq!(json["code"], trip.code());
        assert_eq!(&serde_json::from_value::<Trip>(json).expect("a trip"), trip);
    }
    assert_eq!(
        trips[0].explanation(),
        "1,200 identities would be marked as missing; of 4,000 identities the guard lets 200 go without a person."
    );
    assert_eq!(
        trips[4].explanation(),
        "wheel loses 3 of 4, wheel loses 3 of 4, wheel loses 3 of 4, and 27 more groups: more than the guard allows for privileged groups."
    );
    assert!(trips[9].explanation().starts_with("baseDns, baseDns and baseDns are not"));
    assert_eq!(reason(&trips[7..9]).matches("with no identity").count(), 2);
    assert!(reason(&trips).ends_with(" There are 10 more reasons."));
}

fn limit() -> impl Strategy<Value = Limit> {
    (0.0..=1.0_f64, 0..50_u32).prop_map(|(share, count)| Limit { share, count })
}

fn guard() -> impl Strategy<Value = Guard> {
    (limit(), limit(), limit(), limit()).prop_map(|(removals, disables, membership_removals, privileged)| Guard {
        removals,
        disables,
        membership_removals,
        privileged: Privileged { membership_removals: privileged, ..Privileged::default() },
        ..Guard::default()
    })
}

fn tally() -> impl Strategy<Value = Tally> {
    (0..200_u64, 0..50_u64, 0..50_u64, 0..200_u64, 0..20_u64).prop_map(
        |(present, added, changed, missing, returned)| Tally {
            present,
            added,
            changed: changed.min(present),
            missing: missing.min(present),
            returned,
        },
    )
}

fn facts() -> impl Strategy<Value = Facts> {
    (any::<bool>(), any::<bool>(), tally(), tally(), 0..200_u64, 0..300_u64, 0..300_u64, 0..40_u64, any::<bool>())
        .prop_map(|(is_full, was_applied, identities, groups, disabled, memberships, removed, of, is_changed)| Facts {
            is_full,
            was_applied,
            identities,
            groups,
            disabled: disabled.min(identities.present),
            memberships,
            memberships_removed: removed.min(memberships),
            privileged: vec![GroupLoss { name: "wheel".into(), of, number: removed.min(of), allowed: 0 }],
            settings_changed: is_changed
                .then(|| SettingChange { setting: "x".into(), before: "1".into(), after: "2".into() })
                .into_iter()
                .collect(),
            ..Facts::default()
        })
}

/// A trip without its figures; an answer that got shorter still is one.
fn family(trip: &Trip) -> String {
    match trip {
        Trip::OverLimit { loss, .. } => format!("{loss:?}"),
        Trip::EmptyAnswer { objects, .. } | Trip::ShortAnswer { objects, .. } => format!("short {objects:?}"),
        other => other.code().to_owned(),
    }
}

fn families(guard: &Guard, facts: &Facts) -> std::collections::BTreeSet<String> {
    judge(guard, facts).iter().map(family).collect()
}

proptest! {
    #[test]
    fn more_losses_never_take_a_reason_away(guard in guard(), facts in facts(), more in 0..100_u64, which in 0..5) {
        let mut worse = facts.clone();
        match which {
            0 => worse.identities.missing = (facts.identities.missing + more).min(facts.identities.present),
            1 => worse.groups.missing = (facts.groups.missing + more).min(facts.groups.present),
            2 => worse.disabled += more,
            3 => worse.memberships_removed += more,
            _ => worse.privileged[0].number += more,
        }
        prop_assert!(families(&guard, &worse).is_superset(&families(&guard, &facts)));
    }

    #[test]
    fn a_stricter_guard_never_takes_a_reason_away(guard in guard(), facts in facts(), by in 0.0..1.0_f64, less in 0..50_u32) {
        let tighter = |limit: Limit| Limit { share: limit.share * by, count: limit.count.saturating_sub(less) };
        let strict = Guard {
            removals: tighter(guard.removals),
            disables: tighter(guard.disables),
            membership_removals: tighter(guard.membership_removals),
            privileged: Privileged {
                membership_removals: tighter(guard.privileged.membership_removals),
                ..guard.privileged.clone()
            },
            ..guard.clone()
        };
        prop_assert!(families(&strict, &facts).is_superset(&families(&guard, &facts)));
    }

    #[test]
    fn an_allowance_is_the_larger_of_count_and_share(limit in limit(), of in 0..100_000_u64, lost in 0..100_000_u64) {
        let exceeds_share = lost as f64 > limit.share * of as f64 + 1e-6;
        prop_assert_eq!(lost > limit.allowance(of), exceeds_share && lost > u64::from(limit.count));
    }

    #[test]
    fn a_plan_that_takes_nothing_away_from_unchanged_settings_is_applied(guard in guard(), facts in facts()) {
        let tally = |tally: Tally| Tally { missing: 0, ..tally };
        let harmless = Facts {
            was_applied: true,
            identities: tally(facts.identities),
            groups: tally(facts.groups),
            disabled: 0,
            memberships_removed: 0,
            privileged: Vec::new(),
            settings_changed: Vec::new(),
            ..facts
        };
        prop_assert_eq!(judge(&guard, &harmless), []);
    }

    #[test]
    fn losing_more_than_half_of_a_full_answer_always_needs_a_person(guard in guard(), present in 4..5_000_u64, kept in 0.0..0.5_f64) {
        let left = (present as f64 * kept).floor() as u64;
        let facts = Facts {
            is_full: true,
            was_applied: true,
            identities: Tally { present, missing: present - left, ..Tally::default() },
            ..Facts::default()
        };
        prop_assume!(left * 2 < present);
        prop_assert!(!judge(&guard, &facts).is_empty());
    }
}
