//! A server whose clock is an hour off, and one whose clock is put right: nothing is lost, and what depends on the time
//! of day is wrong by that hour at most.

use serde_json::json;

use super::{comparison::assert_same_objects, watched::Watched};
use crate::fixtures::{
    appliance::{number, text},
    ldapsearch,
    people::{PEOPLE, SUFFIX, Shape, uid},
    slapd::{Options, Slapd},
    truth::Truth,
};

const HOUR: i64 = 3600;

fn off(clock_off_s: i64) -> Options {
    let shape = Shape { people: 300, groups: 30, members: 12, giant: 150, tree: 0, odd: false, member_of: false };
    Options { clock_off_s, ..Options::of(shape) }
}

/// So many seconds from now, as GeneralizedTime.
fn moment(seconds: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    at.strftime("%Y%m%d%H%M%SZ").to_string()
}

fn person(i: usize) -> String {
    format!("uid={},{PEOPLE}", uid(i))
}

fn touch(slapd: &Slapd, i: usize, title: &str) {
    slapd.modify(&format!("dn: {}\nchangetype: modify\nreplace: title\ntitle: {title}\n\n", person(i)));
}

#[tokio::test]
async fn a_clock_an_hour_off_costs_no_change_and_shifts_no_decision_by_more_than_that() {
    for clock_off_s in [HOUR, -HOUR] {
        let slapd = Slapd::start(off(clock_off_s));
        slapd.modify(&format!(
            "dn: cn=default,ou=policies,{SUFFIX}\nchangetype: modify\nreplace: pwdLockoutDuration\npwdLockoutDuration: {}\n\n",
            3 * HOUR
        ));
        let set = |i: usize, attribute: &str, seconds: i64| {
            let time = moment(seconds);
            slapd.modify(&format!("dn: {}\nchangetype: modify\nadd: {attribute}\n{attribute}: {time}\n\n", person(i)));
        };
        set(121, "pwdAccountLockedTime", -5 * HOUR);
        set(122, "pwdEndTime", -2 * HOUR);
        set(123, "pwdEndTime", 2 * HOUR);
        set(124, "pwdStartTime", 2 * HOUR);
        set(125, "pwdStartTime", -2 * HOUR);
        let lock = |i: usize| assert!((0..3).all(|_| !slapd.accepts(&person(i), "wrong")));
        lock(120);
        let before =
            ldapsearch::entry(&slapd, &person(120)).text("pwdAccountLockedTime").expect("the server locked it");
        let is_ahead = before > moment(0);
        assert_eq!(is_ahead, clock_off_s > 0, "the server's clock is off: {before}");

        let watched = Watched::on(slapd, &[]).await;
        let truth = Truth::read(&watched.slapd);
        let look = async |i: usize| {
            let copy = watched.copy().await;
            watched.api().get(&format!("/api/identities/{}", copy.id(truth.person(&uid(i))))).await
        };
        for (i, status) in
            [(120, "locked"), (121, "active"), (122, "expired"), (123, "active"), (124, "staged"), (125, "active")]
        {
            assert_eq!(look(i).await["status"], status, "{} of a server {clock_off_s} s off", uid(i));
        }
        // Deltas go by the server's own time, whatever ours is.
        touch(&watched.slapd, 200, "Changed");
        watched.slapd.delete(&person(201));
        watched.slapd.modify(&format!(
            "dn: uid=newcomer,{PEOPLE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: newcomer\ncn: New\nsn: Comer\n\n"
        ));
        assert!((0..3).all(|_| !watched.slapd.accepts(&person(202), "wrong")));
        let run = watched.delta().await;
        let counts = ["changed", "missing", "added"].map(|name| number(&run, &format!("/counts/{name}")));
        assert_eq!(counts, [2, 1, 1], "{run}");
        assert_eq!(
            (look(200).await["title"].clone(), look(202).await["status"].clone()),
            (json!("Changed"), json!("locked"))
        );
        let is = Truth::read(&watched.slapd);
        let copy = watched.copy().await;
        assert_same_objects(&copy, &is);
        let newcomer = watched.api().get(&format!("/api/identities/{}", copy.id(is.person("newcomer")))).await;
        let created = ldapsearch::entry(&watched.slapd, &format!("uid=newcomer,{PEOPLE}")).text("createTimestamp");
        let shown: jiff::Timestamp = text(&newcomer, "createdAt").parse().expect("a time");
        assert_eq!(Some(shown.strftime("%Y%m%d%H%M%SZ").to_string()), created, "the server's word, not our clock's");
        let quiet = watched.api().run_applied(&watched.directory).await;
        assert_eq!((number(&quiet, "/counts/changed"), number(&quiet, "/counts/missing")), (0, 0), "{quiet}");
    }
}

#[tokio::test]
async fn deltas_by_time_miss_nothing_when_a_clock_that_was_off_is_put_right() {
    // Ahead, then right, then behind: each time the newest change is older than the one before.
    let mut watched = Watched::on(Slapd::start(Options { sync_provider: false, ..off(HOUR) }), &[]).await;
    for (round, clock_off_s) in [HOUR, 0, -HOUR, HOUR].into_iter().enumerate() {
        watched.slapd.start_again(|options| options.clock_off_s = clock_off_s);
        touch(&watched.slapd, 200 + round, &format!("Round {round}"));
        watched.slapd.modify(&format!(
            "dn: uid=new{round},{PEOPLE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: new{round}\ncn: New\nsn: One\n\n"
        ));
        let run = watched.delta().await;
        let counts = ["changed", "added", "missing"].map(|name| number(&run, &format!("/counts/{name}")));
        assert_eq!(counts, [1, 1, 0], "round {round}, {clock_off_s} s off: {run}");
    }
    let quiet = watched.api().run_applied(&watched.directory).await;
    assert_eq!((number(&quiet, "/counts/changed"), number(&quiet, "/counts/added")), (0, 0), "{quiet}");
    assert_same_objects(&watched.copy().await, &Truth::read(&watched.slapd));
}

#[tokio::test]
async fn what_syncrepl_does_not_tell_after_a_clock_was_set_back_a_full_reading_finds() {
    let mut watched = Watched::on(Slapd::start(off(HOUR)), &[]).await;
    touch(&watched.slapd, 200, "An hour from now");
    assert_eq!(number(&watched.delta().await, "/counts/changed"), 1);
    watched.slapd.start_again(|options| options.clock_off_s = 0);
    touch(&watched.slapd, 201, "Now");
    watched.slapd.delete(&person(202));
    // What slapd calls new is newer than its contextCSN, which stands an hour ahead. So its own replicas see nothing
    // either; the copy must not take that for more than it is.
    let run = watched.delta().await;
    assert!(number(&run, "/counts/missing") <= 1 && number(&run, "/counts/changed") <= 1, "{run}");
    let run = watched.api().run_applied(&watched.directory).await;
    assert_eq!(number(&run, "/counts/returned"), 0, "{run}");
    assert_same_objects(&watched.copy().await, &Truth::read(&watched.slapd));
    let look = Truth::read(&watched.slapd).person(&uid(201)).to_owned();
    let found = watched.api().get(&format!("/api/identities/{}", watched.copy().await.id(&look))).await;
    assert_eq!(found["title"], "Now");
}
