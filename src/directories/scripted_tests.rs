//! Whole runs by a connector that says what the test wants: what no real directory says on demand.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::{Notify, mpsc};

use super::{
    engine_tests::{Bench, DIRECTORY},
    guard::Trip,
    model::{Directory, Mode, Run, RunState},
    queries, review,
    run::Runner,
};
use crate::{
    clock::{DAY, HOUR},
    connectors::{
        BoxFuture, Connector, Delta, DeltaEnd, DeltaStop, Failure, GroupFields, IdentityFields, Key, Keys, MemberRef,
        Observed, ObservedGroup, ObservedIdentity, Page, ProbeReport, ReadEnd, Sample, Sighting, Subject,
    },
    principal::{AccountId, Principal},
};

/// What the directory holds, and what it says of itself and of changes.
#[derive(Default)]
struct Script {
    people: Vec<ObservedIdentity>,
    groups: Vec<ObservedGroup>,
    counted: Option<u64>,
    /// A reading of changes sends these, page by page.
    changes: Vec<Vec<Observed>>,
    /// It sends everything and then no end, and says so here.
    hangs: Option<Arc<Notify>>,
    /// Ids that were asked for after a reading of changes.
    asked: std::sync::Mutex<BTreeSet<String>>,
}

fn person(name: &str) -> ObservedIdentity {
    let keys = Keys { dn: Some(Key::of_dn(&format!("uid={name}"))), name: None };
    let fields = IdentityFields { user_name: name.to_owned(), ..IdentityFields::default() };
    ObservedIdentity { external_id: format!("id-{name}"), keys, fields }
}

fn group(name: &str, members: &[&str]) -> ObservedGroup {
    let member = |name: &&str| {
        let text = format!("uid={name}");
        MemberRef { key: Key::of_dn(&text), text }
    };
    ObservedGroup {
        external_id: format!("id-{name}"),
        keys: Keys { dn: Some(Key::of_dn(&format!("cn={name}"))), name: None },
        fields: GroupFields { name: name.to_owned(), ..GroupFields::default() },
        members: members.iter().map(member).collect(),
    }
}

fn sent(group: &ObservedGroup) -> [Observed; 2] {
    let seen = Observed::GroupSeen { external_id: group.external_id.clone(), keys: group.keys };
    [seen, Observed::Group(Box::new(group.clone()))]
}

fn present(subject: Subject, name: &str) -> Observed {
    Observed::Present { subject, external_id: format!("id-{name}") }
}

impl Script {
    fn of(people: &[&str], groups: Vec<ObservedGroup>) -> Self {
        Self { people: people.iter().map(|name| person(name)).collect(), groups, ..Self::default() }
    }

    /// The objects of a kind that `wanted` names, as a reading sends them.
    fn objects(&self, subject: Subject, wanted: impl Fn(&str) -> bool) -> Vec<Observed> {
        let people = self.people.iter().filter(|_| subject == Subject::Identity);
        let people = people.filter(|person| wanted(&person.external_id));
        let mut all: Vec<Observed> = people.map(|person| Observed::Identity(Box::new(person.clone()))).collect();
        let groups: Vec<_> = self.groups.iter().filter(|_| subject == Subject::Group).map(sent).collect();
        let is_wanted = |one: &Observed| match one {
            Observed::GroupSeen { external_id, .. } => wanted(external_id),
            Observed::Group(group) => wanted(&group.external_id),
            _ => false,
        };
        for at in 0..2 {
            all.extend(groups.iter().filter_map(|pair| pair.get(at)).filter(|one| is_wanted(one)).cloned());
        }
        all
    }

    fn asked_for(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").iter().cloned().collect()
    }

    fn again(
        &self,
        subject: Subject,
        ids: Vec<String>,
        pages: mpsc::Sender<Page>,
    ) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            self.asked.lock().expect("not poisoned").extend(ids.iter().cloned());
            let found = self.objects(subject, |id| ids.iter().any(|wanted| wanted == id));
            pages.send(Page::of(found)).await.expect("somebody reads");
            Ok(())
        })
    }
}

impl Connector for Script {
    fn probe(&self) -> BoxFuture<'_, ProbeReport> {
        Box::pin(async { ProbeReport::default() })
    }

    fn read_full(&self, pages: mpsc::Sender<Page>) -> BoxFuture<'_, Result<ReadEnd, Failure>> {
        Box::pin(async move {
            for subject in [Subject::Identity, Subject::Group] {
                pages.send(Page::of(self.objects(subject, |_| true))).await.expect("somebody reads");
            }
            if let Some(hangs) = &self.hangs {
                hangs.notify_one();
                std::future::pending::<()>().await;
            }
            Ok(ReadEnd { server: "script".into(), watermark: Some("here".into()), counted: self.counted })
        })
    }

    fn delta(&self) -> Option<&dyn Delta> {
        Some(self)
    }

    fn sample(&self) -> BoxFuture<'_, Result<Sample, Failure>> {
        Box::pin(async { Ok(Sample::default()) })
    }
}

impl Delta for Script {
    fn read_changes<'a>(
        &'a self,
        watermark: &'a str,
        pages: mpsc::Sender<Page>,
    ) -> BoxFuture<'a, Result<DeltaEnd, DeltaStop>> {
        Box::pin(async move {
            let mut listed = [false; 2];
            for page in &self.changes {
                for one in page {
                    match Page::of(vec![one.clone()]).sightings.first() {
                        Some(Sighting::Present { subject: Subject::Identity, .. }) => listed[0] = true,
                        Some(Sighting::Present { subject: Subject::Group, .. }) => listed[1] = true,
                        _ => {}
                    }
                }
                pages.send(Page::of(page.clone())).await.expect("somebody reads");
            }
            Ok(DeltaEnd {
                server: "script".into(),
                watermark: watermark.into(),
                lists_identities: listed[0],
                lists_groups: listed[1],
                finds_deletions: true,
            })
        })
    }

    fn read_identities(&self, ids: Vec<String>, pages: mpsc::Sender<Page>) -> BoxFuture<'_, Result<(), Failure>> {
        self.again(Subject::Identity, ids, pages)
    }

    fn read_groups(&self, ids: Vec<String>, pages: mpsc::Sender<Page>) -> BoxFuture<'_, Result<(), Failure>> {
        self.again(Subject::Group, ids, pages)
    }
}

struct Stage {
    bench: Bench,
    runner: Runner,
}

fn account() -> AccountId {
    AccountId::new(AccountId::MIN).expect("an account")
}

impl Stage {
    fn new() -> Self {
        // It blocks, which a thread of the runtime may not.
        let bench = std::thread::scope(|scope| scope.spawn(Bench::new).join().expect("a bench"));
        let runner = Runner::new(bench.kernel.clone());
        Self { bench, runner }
    }

    fn principal() -> Principal {
        Principal::scheduler("default", account())
    }

    fn run(&self, id: i64) -> Run {
        self.bench.kernel.db.read_blocking(|c| queries::find_run(c, account(), id)).expect("read").expect("a run")
    }

    fn later(&self, duration: i64) {
        let clock = &self.bench.kernel.clock;
        clock.set(clock.now().plus(duration));
    }

    /// A whole run; answers it as it stands when nothing goes on any more.
    async fn read(&self, script: &Script, mode: Mode) -> Run {
        self.later(60_000_000);
        let (db, now) = (&self.bench.kernel.db, self.bench.kernel.clock.now());
        let (directory, id): (Directory, i64) = db
            .write(move |c| {
                let directory = queries::find(c, account(), DIRECTORY)?.expect("a directory");
                let id = queries::insert_run(c, &directory, mode.as_str(), false, "urn:test", "", now)?;
                Ok((directory, id.expect("no other run goes on")))
            })
            .await
            .expect("a run");
        let progress = self.runner.board.open(id);
        let read = self.runner.read_by(script, &directory, &self.run(id), &progress).await;
        assert!(read.is_ok(), "{}", read.err().map(|stop| stop.failure().message).unwrap_or_default());
        self.runner.board.close(id);
        self.carry(id).await
    }

    /// Applies what stands as planned.
    async fn carry(&self, id: i64) -> Run {
        let run = self.run(id);
        if run.state == RunState::Planned {
            self.runner.spawn(run).await.expect("carried");
        }
        self.run(id)
    }

    async fn applied(&self, script: &Script, mode: Mode) -> Run {
        let run = self.read(script, mode).await;
        assert_eq!(run.state, RunState::Applied, "{:?}", run.reason);
        run
    }

    /// Plans the way back to a run; it is parked.
    async fn rewind(&self, to_run: i64) -> Run {
        let input = super::rewind::RewindInput { to_run: to_run.to_string() };
        let run = super::rewind::start(&self.bench.kernel, &Self::principal(), &self.runner, DIRECTORY, input).await;
        let ended = self.runner.wait(account(), run.expect("started").id).await.expect("planned");
        assert_eq!(ended.state, RunState::Parked, "{:?}", ended.reason);
        ended
    }

    /// External ids of what stands as missing, and the members of each group by name.
    fn missing(&self) -> Vec<String> {
        let sql = "SELECT external_id FROM identity WHERE missing_since_at IS NOT NULL
                   UNION ALL SELECT external_id FROM directory_group WHERE missing_since_at IS NOT NULL ORDER BY 1";
        self.texts(sql)
    }

    /// Present identities that are members, as `group: member`, and what is written of others.
    fn members(&self) -> Vec<String> {
        self.texts(
            "SELECT g.name || ': ' || coalesce(i.user_name, 'nobody called ' || r.text) FROM member m
             JOIN directory_group g ON g.id = m.group_id LEFT JOIN identity i ON i.id = m.member_id
             LEFT JOIN reference r ON r.id = m.member_id WHERE m.until_at = 9223372036854775807 ORDER BY 1",
        )
    }

    fn texts(&self, sql: &'static str) -> Vec<String> {
        let read = |c: &rusqlite::Connection| {
            let mut statement = c.prepare(sql)?;
            Ok(statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
        };
        self.bench.kernel.db.read_blocking(read).expect("texts")
    }
}

const PEOPLE: [&str; 5] = ["ada", "bo", "cy", "di", "ed"];

#[tokio::test]
async fn a_reading_ends_soon_after_its_account_was_suspended_and_leaves_nothing() {
    let stage = Stage::new();
    let hangs = Arc::new(Notify::new());
    let script = Script { hangs: Some(hangs.clone()), ..Script::of(&["ann", "bo"], Vec::new()) };
    let (db, now) = (stage.bench.kernel.db.clone(), stage.bench.kernel.clock.now());
    let (directory, id) = db
        .write(move |c| {
            let directory = queries::find(c, account(), DIRECTORY)?.expect("a directory");
            let id = queries::insert_run(c, &directory, Mode::Full.as_str(), false, "urn:test", "", now)?;
            Ok((directory, id.expect("no other run goes on")))
        })
        .await
        .expect("a run");
    let (run, progress) = (stage.run(id), stage.runner.board.open(id));
    let reading = stage.runner.read_by(&script, &directory, &run, &progress);
    let suspend = async {
        hangs.notified().await;
        let sql = "UPDATE account SET state = 'suspended', suspended_at = 1, purge_at = 2";
        db.write(move |c| Ok(c.execute(sql, [])?)).await.expect("suspended");
    };
    let (read, ()) = tokio::time::timeout(std::time::Duration::from_secs(20), async { tokio::join!(reading, suspend) })
        .await
        .expect("it ends");
    let failure = read.expect_err("it fails").failure();
    assert_eq!(failure.message, "The account was suspended meanwhile.");
    let left = db.read_blocking(|c| Ok(c.query_row("SELECT count(*) FROM identity", [], |row| row.get::<_, i64>(0))?));
    assert_eq!(left.expect("counted"), 0);
}

#[tokio::test]
async fn a_directory_that_counts_more_than_it_sends_is_not_believed() {
    let stage = Stage::new();
    let whole = || Script { counted: Some(6), ..Script::of(&PEOPLE, vec![group("team", &["ada", "bo"])]) };
    let first = stage.read(&Script { counted: Some(9), ..whole() }, Mode::Full).await;
    assert_eq!(first.state, RunState::Parked, "also the first run, which has nothing to lose");
    stage.applied(&whole(), Mode::Full).await;
    // One of six is missing: far below every limit, but the directory itself says that there are six.
    let short = Script { people: whole().people.into_iter().skip(1).collect(), ..whole() };
    let parked = stage.read(&short, Mode::Full).await;
    assert_eq!(parked.state, RunState::Parked);
    let review = stage.bench.kernel.db.read_blocking(|c| review::find(c, parked.id)).expect("a review");
    assert_eq!(review.trips, [Trip::CountDisagrees { counted: 6, sent: 5 }]);
    assert!(stage.missing().is_empty());
    let believed = Script { counted: Some(5), ..short };
    assert_eq!(stage.applied(&believed, Mode::Full).await.counts.missing, 1);
    let uncounted = Script { counted: None, ..believed };
    assert_eq!(stage.applied(&uncounted, Mode::Full).await.counts.missing, 0);
}

/// A copy of five people and two groups from which `bo` and the group `old` are missing.
async fn with_missing() -> (Stage, Script) {
    let stage = Stage::new();
    let groups = || vec![group("team", &["ada", "bo"]), group("old", &["cy"])];
    stage.applied(&Script::of(&PEOPLE, groups()), Mode::Full).await;
    let hidden = Script::of(&["ada", "cy", "di", "ed"], vec![group("team", &["ada", "bo"])]);
    stage.applied(&hidden, Mode::Full).await;
    assert_eq!(stage.missing(), ["id-bo", "id-old"]);
    (stage, Script::of(&PEOPLE, groups()))
}

fn everybody_is_present() -> Vec<Vec<Observed>> {
    let people = PEOPLE.iter().map(|name| present(Subject::Identity, name)).collect();
    vec![people, ["team", "old"].iter().map(|name| present(Subject::Group, name)).collect()]
}

#[tokio::test]
async fn what_is_named_as_there_comes_back_in_the_same_delta() {
    let (stage, script) = with_missing().await;
    let script = Script { changes: everybody_is_present(), ..script };
    let run = stage.applied(&script, Mode::Delta).await;
    assert_eq!((run.mode.as_str(), run.counts.returned, run.counts.missing), ("delta", 2, 0));
    assert_eq!(script.asked_for(), ["id-bo", "id-old"], "what the copy holds is not read again");
    assert!(stage.missing().is_empty());
    assert_eq!(stage.members(), ["old: cy", "team: ada", "team: bo"]);
    let quiet = stage.applied(&script, Mode::Full).await;
    assert_eq!(quiet.counts.differences(), 0);
}

#[tokio::test]
async fn what_is_named_as_there_is_not_removed_when_its_grace_time_is_over() {
    let (stage, script) = with_missing().await;
    stage.later(31 * DAY);
    let run = stage.applied(&Script { changes: everybody_is_present(), ..script }, Mode::Delta).await;
    assert_eq!((run.counts.returned, run.counts.removed, run.counts.quarantined), (2, 0, 0));
    assert!(stage.missing().is_empty());
}

#[tokio::test]
async fn a_tombstone_that_is_named_as_there_comes_back_under_its_id() {
    let (stage, script) = with_missing().await;
    let ids = "SELECT id || external_id FROM identity ORDER BY 1";
    let before = stage.texts(ids);
    stage.later(31 * DAY);
    let hidden = Script::of(&["ada", "cy", "di", "ed"], vec![group("team", &["ada", "bo"])]);
    assert_eq!(stage.applied(&hidden, Mode::Full).await.counts.removed, 2);
    assert_eq!(stage.members()[0], "old: cy", "of a tombstone nothing is asked");
    let run = stage.applied(&Script { changes: everybody_is_present(), ..script }, Mode::Delta).await;
    assert_eq!((run.counts.returned, run.counts.added, run.counts.quarantined), (2, 0, 0));
    assert_eq!(
        (stage.texts(ids), stage.members()),
        (before, vec!["old: cy".into(), "team: ada".into(), "team: bo".into()])
    );
}

#[tokio::test]
async fn what_was_named_as_there_may_be_sent_all_the_same() {
    let (stage, mut script) = with_missing().await;
    // The branch above everybody was renamed: what lies below is named as unchanged, and read again.
    let mut changes = everybody_is_present();
    let mut moved = person("ada");
    moved.fields.title = Some("Moved".into());
    changes[0].push(Observed::Identity(Box::new(moved.clone())));
    script.people[0] = moved;
    let run = stage.applied(&Script { changes, ..script }, Mode::Delta).await;
    assert_eq!((run.counts.changed, run.counts.returned, run.counts.quarantined), (1, 2, 0));
    let twice = vec![vec![Observed::Identity(Box::new(person("ada"))), Observed::Identity(Box::new(person("ada")))]];
    let run = stage.applied(&Script { changes: twice, ..Script::of(&PEOPLE, Vec::new()) }, Mode::Delta).await;
    assert_eq!(run.counts.quarantined, 1, "two entries with one id are still told apart");
}

#[tokio::test]
async fn a_name_that_was_looked_up_too_early_leads_to_a_full_reading() {
    let (stage, mut script) = with_missing().await;
    // Somebody the copy has never had, named by a group that changed before anybody asked for that person.
    let new = group("team", &["ada", "bo", "flo"]);
    let mut changes = everybody_is_present();
    changes[0].push(present(Subject::Identity, "flo"));
    changes[1].retain(|one| !matches!(one, Observed::Present { external_id, .. } if external_id == "id-team"));
    changes[1].extend(sent(&new));
    script.people.push(person("flo"));
    script.groups[0] = new;
    let run = stage.applied(&Script { changes, ..script }, Mode::Delta).await;
    assert_eq!((run.mode.as_str(), run.counts.added, run.counts.returned), ("full", 1, 2));
    assert_eq!(stage.members(), ["old: cy", "team: ada", "team: bo", "team: flo"], "not: nobody called flo");
}

#[tokio::test]
async fn a_rewind_in_review_holds_the_schedule_for_a_day_and_gives_way_to_what_moves_the_copy() {
    let stage = Stage::new();
    let whole = Script::of(&PEOPLE, vec![group("team", &["ada", "bo"])]);
    let first = stage.applied(&whole, Mode::Full).await;
    let more = Script::of(&["ada", "bo", "cy", "di", "ed", "flo"], whole.groups.clone());
    stage.applied(&more, Mode::Full).await;
    let rewind = stage.rewind(first.id).await;
    stage.later(23 * HOUR);
    for mode in [Mode::Full, Mode::Delta] {
        let said = stage.runner.run_scheduled(DIRECTORY, mode).await.expect("an answer");
        assert_eq!(said, format!("skipped: run {}, a rewind, waits for approval", rewind.id));
    }
    // Somebody reads it all the same, and nothing has changed: the plan is as true as before.
    stage.applied(&more, Mode::Full).await;
    assert_eq!(stage.run(rewind.id).state, RunState::Parked);
    let reason = || review::ApproveInput { reason: "tested".into() };
    review::approve(&stage.bench.kernel, &Stage::principal(), &stage.runner, rewind.id, reason())
        .await
        .expect("approved");
    assert_eq!(stage.runner.wait(account(), rewind.id).await.expect("a run").state, RunState::Applied);
    assert_eq!(stage.missing(), ["id-flo"]);
    // A reading that moves the copy takes the place of the plan.
    stage.applied(&more, Mode::Full).await;
    let waiting = stage.rewind(first.id).await;
    stage.applied(&whole, Mode::Full).await;
    let gone = stage.run(waiting.id);
    assert_eq!(gone.state, RunState::Discarded);
    let refused = review::approve(&stage.bench.kernel, &Stage::principal(), &stage.runner, waiting.id, reason()).await;
    assert!(refused.is_err());
    // One that was forgotten does not end the readings.
    stage.applied(&more, Mode::Full).await;
    let forgotten = stage.rewind(first.id).await;
    stage.later(25 * HOUR);
    let said = stage.runner.run_scheduled(DIRECTORY, Mode::Full).await.expect("an answer");
    assert!(said.starts_with("run ") && forgotten.state == RunState::Parked, "{said}");
}
