//! The main promise, on a real OpenLDAP with 1,000 difficult people: the copy is what the directory holds, and each
//! difference is one readable line.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

use super::comparison::{Copy, assert_same, assert_same_members, assert_same_objects};
use crate::fixtures::{
    appliance::{Api, Appliance, draft, draft_with, number, text},
    console::Console,
    ldapsearch::{self, Entry},
    people::{CANARY, GROUPS, ODD_UNIT, PEOPLE, TWIN_MAIL},
    slapd::{Options, SYNC_PASSWORD, Slapd},
    truth::{Member, Truth},
};

/// An appliance that has read the directory once, and what it read.
struct Synced {
    appliance: Appliance,
    directory: String,
    first_run: Value,
}

impl Synced {
    async fn with(slapd: &Slapd) -> Self {
        let appliance = Appliance::start().await;
        let directory = appliance.api.create_directory(&draft(slapd)).await;
        let first_run = appliance.api.run_applied(&directory).await;
        Self { appliance, directory, first_run }
    }

    fn api(&self) -> &Api {
        &self.appliance.api
    }

    /// The lines of a run's plan about one object, as (kind, field, before, after).
    async fn changes(&self, run: &Value, subject: &str) -> Vec<(String, Value, Value, Value)> {
        let all = self.api().all(&format!("/api/runs/{}/changes", text(run, "id")), "changes").await;
        let about = |change: &&Value| text(change, "subject").ends_with(&format!("/{subject}"));
        let line = |change: &Value| {
            (text(change, "kind"), change["field"].clone(), change["before"].clone(), change["after"].clone())
        };
        all.iter().filter(about).map(line).collect()
    }
}

#[tokio::test]
async fn the_copy_agrees_with_ldapsearch_in_every_value_and_member() {
    let slapd = Slapd::shared();
    let truth = Truth::read(slapd);
    let synced = Synced::with(slapd).await;
    let objects = (truth.people.len() + truth.groups.len()) as u64;
    let counts = |name: &str| number(&synced.first_run, &format!("/counts/{name}"));
    assert_eq!((counts("read"), counts("added")), (objects, objects));
    assert_eq!((counts("changed"), counts("missing"), counts("returned"), counts("unchanged")), (0, 0, 0, 0));
    assert_eq!(counts("quarantined"), 0, "nothing in this directory is unreadable");
    assert_eq!(counts("membersAdded"), truth.membership_count() as u64);
    assert_same(synced.api(), &synced.directory, &truth).await;
    synced.appliance.assert_audit_verifies();
}

#[tokio::test]
async fn a_binary_value_is_shown_as_base64_and_a_text_as_text() {
    let synced = Synced::with(Slapd::shared()).await;
    let truth = Truth::read(Slapd::shared());
    let copy = Copy::read(synced.api(), &synced.directory).await;
    let attributes = async |uid: &str| {
        let identity = synced.api().get(&format!("/api/identities/{}", copy.id(truth.person(uid)))).await;
        identity["attributes"].clone()
    };
    let photo = attributes("odd-photo").await;
    assert_eq!(photo["jpegPhoto"].as_array().map(Vec::len), Some(2));
    assert!(photo["jpegPhoto"][0]["base64"].is_string() && photo["cn"][0] == "Photo Graph", "{photo}");
    let certificate = attributes("odd-certificate").await;
    assert!(certificate["userCertificate;binary"][0]["base64"].is_string(), "{certificate}");
}

#[tokio::test]
async fn stored_passwords_and_bind_passwords_are_nowhere_on_disk() {
    let mut synced = Synced::with(Slapd::shared()).await;
    synced.appliance.assert_nowhere_on_disk(CANARY);
    synced.appliance.assert_nowhere_on_disk(SYNC_PASSWORD);
    let shown = synced.api().get(&format!("/api/directories/{}", synced.directory)).await;
    assert!(!shown.to_string().contains(SYNC_PASSWORD), "{shown}");
    // What was only in memory may be written at the end.
    synced.appliance.stop();
    synced.appliance.assert_nowhere_on_disk(CANARY);
    synced.appliance.assert_nowhere_on_disk(SYNC_PASSWORD);
}

#[tokio::test]
async fn a_second_run_with_nothing_changed_writes_nothing() {
    let slapd = Slapd::shared();
    let synced = Synced::with(slapd).await;
    let before = Copy::read(synced.api(), &synced.directory).await;
    let second = synced.api().run_applied(&synced.directory).await;
    let read = number(&second, "/counts/read");
    assert_eq!(read, number(&synced.first_run, "/counts/read"));
    assert_eq!(number(&second, "/counts/unchanged"), read);
    for count in ["added", "changed", "missing", "returned", "membersAdded", "membersRemoved", "quarantined"] {
        assert_eq!(number(&second, &format!("/counts/{count}")), 0, "{count}");
    }
    let lines = synced.api().all(&format!("/api/runs/{}/changes", text(&second, "id")), "changes").await;
    assert!(lines.is_empty(), "{lines:?}");
    let after = Copy::read(synced.api(), &synced.directory).await;
    assert_eq!(before.identities, after.identities);
    assert_eq!(before.groups, after.groups);
}

#[tokio::test]
async fn each_difference_is_one_line_and_a_rename_keeps_the_identity() {
    let slapd = Slapd::start(Options::small());
    let synced = Synced::with(&slapd).await;
    let before = Copy::read(synced.api(), &synced.directory).await;
    let was = Truth::read(&slapd);
    let external = |uid: &str| was.person(uid).to_owned();
    let (changed, renamed, moved, removed) =
        (external("u000200"), external("u000201"), external("u000202"), external("u000203"));
    let team = was.group(&format!("cn=team,{GROUPS}")).to_owned();
    let old_mail = was.people[&changed].text("mail").expect("has one");

    slapd.modify(&format!(
        "dn: uid=u000200,{PEOPLE}\nchangetype: modify\nreplace: mail\nmail: new@example.test\n-\nreplace: title\ntitle: Chief\n\n\
         dn: cn=team,{GROUPS}\nchangetype: modify\nadd: member\nmember: uid=u000204,{PEOPLE}\n\n\
         dn: uid=newcomer,{PEOPLE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: newcomer\ncn: New Comer\nsn: Comer\n\n"
    ));
    slapd.rename(&format!("uid=u000201,{PEOPLE}"), "uid=renamed");
    slapd.relocate(&format!("uid=u000202,{PEOPLE}"), "uid=u000202", ODD_UNIT);
    slapd.delete(&format!("uid=u000203,{PEOPLE}"));

    let run = synced.api().run_applied(&synced.directory).await;
    let is = Truth::read(&slapd);
    let newcomer = is.person("newcomer").to_owned();
    let after = Copy::read(synced.api(), &synced.directory).await;

    assert_eq!(number(&run, "/counts/added"), 1);
    assert_eq!(number(&run, "/counts/missing"), 1);
    assert_eq!(synced.changes(&run, &after.id(&newcomer)).await[0].0, "added");

    let lines = synced.changes(&run, &before.id(&changed)).await;
    let field = |name: &str| {
        let line = lines.iter().find(|(_, field, _, _)| field == name);
        line.unwrap_or_else(|| panic!("a line for {name} in {lines:?}")).clone()
    };
    assert_eq!(field("mail"), ("changed".into(), json!("mail"), json!(old_mail), json!("new@example.test")));
    assert_eq!(field("title").3, json!("Chief"));

    assert_eq!(after.id(&renamed), before.id(&renamed), "a modrdn keeps the identity");
    assert_eq!(after.identities[&renamed]["userName"], "renamed");
    assert_eq!(after.id(&moved), before.id(&moved), "a move keeps the identity");
    let lines = synced.changes(&run, &before.id(&moved)).await;
    assert!(!lines.is_empty() && lines.iter().all(|line| line.0 == "changed"), "{lines:?}");

    let gone = synced.api().get(&format!("/api/identities/{}", before.id(&removed))).await;
    assert!(gone["missingSince"].is_string(), "missing is not deleted: {gone}");
    assert_eq!(gone["userName"], "u000203");
    assert_eq!(synced.changes(&run, &before.id(&removed)).await[0].0, "missing");

    assert!(number(&run, "/counts/membersAdded") >= 1);
    let lines = synced.changes(&run, &before.id(&team)).await;
    assert!(lines.iter().any(|line| line.0 == "member-added"), "{lines:?}");

    assert_same(synced.api(), &synced.directory, &is).await;
    let history = synced.api().all(&format!("/api/identities/{}/changes", before.id(&changed)), "changes").await;
    let kinds: Vec<String> = history.iter().map(|change| text(change, "kind")).collect();
    assert!(kinds.contains(&"added".to_owned()) && kinds.contains(&"changed".to_owned()), "{kinds:?}");
    synced.appliance.assert_audit_verifies();
}

#[tokio::test]
async fn who_leaves_the_base_is_missing_and_who_comes_back_is_the_same() {
    let slapd = Slapd::start(Options::small());
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let bases = json!([PEOPLE, GROUPS]);
    let directory = api.create_directory(&draft_with(&slapd, &[("/settings/baseDns", bases)])).await;
    api.run_applied(&directory).await;
    let before = Copy::read(api, &directory).await;
    let external = Truth::read(&slapd).person("u000202").to_owned();

    slapd.relocate(&format!("uid=u000202,{PEOPLE}"), "uid=u000202", ODD_UNIT);
    let run = api.run_applied(&directory).await;
    assert_eq!(number(&run, "/counts/missing"), 1, "{run}");
    let away = api.get(&format!("/api/identities/{}", before.id(&external))).await;
    assert!(away["missingSince"].is_string(), "{away}");

    let again = api.run_applied(&directory).await;
    assert_eq!(number(&again, "/counts/missing"), 0, "missing is counted once: {again}");

    slapd.relocate(&format!("uid=u000202,{ODD_UNIT}"), "uid=u000202", PEOPLE);
    let run = api.run_applied(&directory).await;
    assert_eq!((number(&run, "/counts/returned"), number(&run, "/counts/added")), (1, 0), "{run}");
    let back = api.get(&format!("/api/identities/{}", before.id(&external))).await;
    assert!(back["missingSince"].is_null(), "{back}");
    assert_eq!(Copy::read(api, &directory).await.outline(), before.outline());
}

#[tokio::test]
async fn members_come_and_go_one_by_one() {
    let slapd = Slapd::start(Options::small());
    let synced = Synced::with(&slapd).await;
    let giant = format!("cn=giant,{GROUPS}");
    slapd.modify(&format!(
        "dn: {giant}\nchangetype: modify\ndelete: member\nmember: uid=u000900,{PEOPLE}\nmember: uid=u000901,{PEOPLE}\n-\n\
         add: member\nmember: uid=u000100,{PEOPLE}\n\n\
         dn: cn=empty,{GROUPS}\nchangetype: modify\nadd: memberUid\nmemberUid: u000101\n\n\
         dn: cn=cycle-a,{GROUPS}\nchangetype: modify\ndelete: member\nmember: cn=cycle-b,{GROUPS}\n\n"
    ));
    let run = synced.api().run_applied(&synced.directory).await;
    assert_eq!(number(&run, "/counts/membersAdded"), 2, "{run}");
    assert_eq!(number(&run, "/counts/membersRemoved"), 3, "{run}");
    assert_same(synced.api(), &synced.directory, &Truth::read(&slapd)).await;
}

#[tokio::test]
async fn a_person_knows_their_groups_direct_and_effective() {
    let slapd = Slapd::shared();
    let synced = Synced::with(slapd).await;
    let truth = Truth::read(slapd);
    let copy = Copy::read(synced.api(), &synced.directory).await;
    for uid in ["u000999", "u000979", "u000969", "odd-japanese", "odd-mails", "odd-posix", "odd-comma", "u000500"] {
        let external = truth.person(uid);
        let person = Member::Person(external.to_owned());
        let direct: BTreeSet<_> =
            truth.members.iter().filter(|(_, members)| members.contains(&person)).map(|(id, _)| id).collect();
        let effective: BTreeSet<_> =
            truth.groups.keys().filter(|group| truth.effective(group).contains(external)).collect();
        for (wanted, flag) in [(direct, "false"), (effective, "true")] {
            let path = Api::path(&format!("/api/identities/{}/groups", copy.id(external)), &[("effective", flag)]);
            let groups = synced.api().all(&path, "groups").await;
            let ids: BTreeSet<String> = groups.iter().map(|group| text(group, "id")).collect();
            assert_eq!(ids.len(), groups.len(), "{uid}: each group once");
            assert_eq!(ids, wanted.iter().map(|group| copy.id(group)).collect(), "{uid} effective={flag}");
        }
    }
    // A cycle ends.
    for name in ["cycle-a", "cycle-b", "cycle-c", "cycle-self"] {
        assert_same_members(synced.api(), &copy, &truth, truth.group(&format!("cn={name},{GROUPS}"))).await;
    }
}

#[tokio::test]
async fn password_policy_states_are_told_apart() {
    let slapd = Slapd::start(Options::small());
    let synced = Synced::with(&slapd).await;
    let truth = Truth::read(&slapd);
    let copy = Copy::read(synced.api(), &synced.directory).await;
    let look = async |uid: &str| synced.api().get(&format!("/api/identities/{}", copy.id(truth.person(uid)))).await;
    for (uid, status) in [
        ("odd-locked", "locked"),
        ("odd-permanently-locked", "disabled"),
        ("odd-expired", "expired"),
        ("odd-must-change", "active"),
        ("odd-no-password", "active"),
        ("u000300", "active"),
    ] {
        assert_eq!(look(uid).await["status"], status, "{uid}");
    }
    assert_eq!(look("odd-must-change").await["mustChangePassword"], true);
    let locked = synced.api().all(&Api::path("/api/identities", &[("status", "locked")]), "identities").await;
    assert_eq!(locked.len(), 1, "{locked:?}");

    // And a real lock, made by the server itself.
    let dn = format!("uid=u000300,{PEOPLE}");
    for _ in 0..3 {
        assert!(!slapd.accepts(&dn, "wrong"));
    }
    let run = synced.api().run_applied(&synced.directory).await;
    assert_eq!(look("u000300").await["status"], "locked");
    let lines = synced.changes(&run, &copy.id(truth.person("u000300"))).await;
    let line = lines.iter().find(|(_, field, _, _)| field == "status");
    assert_eq!(line, Some(&("changed".into(), json!("status"), json!("active"), json!("locked"))), "{lines:?}");
}

/// Lower case, without accents: what a reader who types on another keyboard means.
fn folded(text: &str) -> String {
    text.nfkd().filter(|c| !is_combining_mark(*c)).collect::<String>().to_lowercase()
}

/// Whether a person is found by `wanted`, by the fields that the search promises.
fn fits(entry: &Entry, wanted: &str) -> bool {
    let fields = ["displayName", "uid", "mail", "employeeNumber"];
    fields.iter().flat_map(|field| entry.texts(field)).any(|value| folded(&value).contains(&folded(wanted)))
}

#[tokio::test]
async fn search_finds_parts_of_names_in_any_case_and_without_accents() {
    let slapd = Slapd::shared();
    let synced = Synced::with(slapd).await;
    let truth = Truth::read(slapd);
    for query in [
        "müller",
        "MULLER",
        "mull",
        "sørensen",
        "Renée Mül",
        "renee mul",
        "O'Brien",
        "u0005",
        "U000555",
        "e0000777",
        "ёлкин",
        "Ёлк",
        "АРСЕНИЙ",
        "παπαδοπουλος",
        "山田",
        "太郎 山田",
        "محمد",
        "สมชาย",
        "jürgen nguyễn",
        "jurgen nguyen",
        "🦊",
        "twin@exam",
        "THIRD.mail",
        "fourth+tag",
        "odd user.name",
        "<script>",
        "=hyperlink",
        "no-such-person",
    ] {
        let path = Api::path("/api/identities", &[("q", query), ("directory", &synced.directory)]);
        let found = synced.api().all(&path, "identities").await;
        let found: BTreeSet<String> = found.iter().map(|item| text(item, "externalId")).collect();
        let wanted: BTreeSet<String> =
            truth.people.iter().filter(|(_, entry)| fits(entry, query)).map(|(id, _)| id.clone()).collect();
        let names = |ids: &BTreeSet<String>| ids.iter().map(|id| truth.people[id].dn.clone()).collect::<Vec<_>>();
        assert_eq!(names(&found), names(&wanted), "search for {query:?}");
    }
    let twins = synced.api().all(&Api::path("/api/identities", &[("q", TWIN_MAIL)]), "identities").await;
    assert_eq!(twins.len(), 2, "two entries with the same mail are two identities");
}

#[tokio::test]
async fn the_page_finds_who_the_api_finds() {
    let synced = Synced::with(Slapd::shared()).await;
    let console = Console::sign_in(&synced.appliance.url()).await;
    for (query, shown, hidden) in [
        ("twin@exam", "odd-twin-b", "odd-japanese"),
        ("山田", "odd-japanese", "odd-twin-a"),
        ("<script>", "odd-script", "odd-mails"),
    ] {
        let page = console.page(&Api::path("/identities", &[("q", query)])).await;
        assert!(page.contains(shown) && !page.contains(hidden), "{query}: {page}");
        assert!(!page.contains("<script>alert(1)"), "what a directory says is text, never markup");
    }
}

#[tokio::test]
async fn a_search_text_is_never_taken_for_a_query_language() {
    let synced = Synced::with(Slapd::shared()).await;
    for query in [
        "\"",
        "'",
        "*",
        "a*",
        "a OR b",
        "NOT a",
        "a AND",
        "(",
        ")",
        "NEAR(a b)",
        "%",
        "_",
        "^",
        "col:umn",
        "-a",
        "--",
        ";",
        "\\",
        "a\"b",
        "x\0y",
        " ",
        "ab",
        "a",
        "\u{301}",
        "{",
        "+",
    ] {
        let path = Api::path("/api/identities", &[("q", query)]);
        let answer = synced.api().send(reqwest::Method::GET, &path, None).await;
        assert!(matches!(answer.status, 200 | 400 | 422), "{query:?} answered {}: {}", answer.status, answer.body);
    }
    let long = "x".repeat(5_000);
    let answer = synced.api().send(reqwest::Method::GET, &Api::path("/api/identities", &[("q", &long)]), None).await;
    assert!(matches!(answer.status, 200 | 400 | 414 | 422), "{}", answer.status);
}

#[tokio::test]
async fn pages_of_any_size_cover_everything_exactly_once() {
    let slapd = Slapd::shared();
    let synced = Synced::with(slapd).await;
    let whole: Vec<String> =
        synced.api().identities(&synced.directory).await.iter().map(|item| text(item, "id")).collect();
    assert_eq!(whole.len(), slapd.shape().people);
    let path = Api::path("/api/identities", &[("directory", &synced.directory)]);
    for limit in [0, 1, 7, 499] {
        // A page size of 1 would be a thousand requests: there the filter keeps it short.
        let path = if limit == 1 { Api::path("/api/identities", &[("q", "u00099")]) } else { path.clone() };
        let expected = if limit == 1 { synced.api().all(&path, "identities").await.len() } else { whole.len() };
        let pages: Vec<String> =
            synced.api().all_by(&path, "identities", limit).await.iter().map(|item| text(item, "id")).collect();
        assert_eq!(pages.len(), expected, "limit {limit}");
        assert_eq!(pages.iter().collect::<BTreeSet<_>>().len(), expected, "limit {limit}: no identity twice");
    }
    for bad in ["-1", "501", "x"] {
        let answer = synced.api().send(reqwest::Method::GET, &format!("/api/identities?limit={bad}"), None).await;
        assert_eq!(answer.status, 400, "limit={bad}: {}", answer.body);
    }
    let answer = synced.api().send(reqwest::Method::GET, "/api/identities?cursor=nonsense", None).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
}

#[tokio::test]
async fn filters_by_group_and_status_agree_with_ldapsearch() {
    let slapd = Slapd::shared();
    let synced = Synced::with(slapd).await;
    let truth = Truth::read(slapd);
    let copy = Copy::read(synced.api(), &synced.directory).await;
    for name in ["team", "giant", "g00009", "escaped"] {
        let found = truth
            .groups
            .iter()
            .find(|(_, entry)| entry.dn.ends_with(GROUPS) && entry.dn.starts_with(&format!("cn={name},")));
        let group = match found {
            Some((id, _)) => id.as_str(),
            None => truth.group(&format!("cn=odd\\, group \\+ more \\\\ end,{GROUPS}")),
        };
        let path = Api::path("/api/identities", &[("group", &copy.id(group))]);
        let found: BTreeSet<String> =
            synced.api().all(&path, "identities").await.iter().map(|item| text(item, "externalId")).collect();
        let direct: BTreeSet<String> = truth.members[group]
            .iter()
            .filter_map(|member| if let Member::Person(id) = member { Some(id.clone()) } else { None })
            .collect();
        assert_eq!(found, direct, "{name}");
    }
}

/// Where the console and the API let the filtered list be saved.
const EXPORT: &str = "/api/identities.csv";

#[tokio::test]
async fn the_csv_export_has_every_person_once_and_no_formula() {
    let slapd = Slapd::shared();
    let synced = Synced::with(slapd).await;
    let (status, kind, body) = synced.api().text(&Api::path(EXPORT, &[("directory", &synced.directory)])).await;
    assert_eq!(status, 200);
    assert!(kind.starts_with("text/csv"), "{kind}");
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body);
    let mut reader = csv::Reader::from_reader(body);
    let rows: Vec<BTreeMap<String, String>> = reader.deserialize().map(|row| row.expect("well-formed CSV")).collect();
    assert_eq!(rows.len(), slapd.shape().people);
    for row in &rows {
        for (column, cell) in row {
            // OWASP "CSV Injection": a spreadsheet runs what starts like this.
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{column}: {cell:?}");
        }
    }
    let all_text = String::from_utf8_lossy(body).into_owned();
    assert!(all_text.contains("太郎 山田") && all_text.contains("odd-comma") && !all_text.contains(CANARY));

    let (_, _, filtered) = synced.api().text(&Api::path(EXPORT, &[("q", TWIN_MAIL)])).await;
    assert_eq!(
        csv::Reader::from_reader(filtered.as_slice()).records().count(),
        2,
        "what is filtered is what is exported"
    );
    let logs = synced.api().get("/api/logs?limit=50").await.to_string();
    assert!(logs.contains("export"), "an export is on the record: {logs}");
}

#[tokio::test]
async fn start_tls_and_several_bases_read_the_same_people() {
    let slapd = Slapd::shared();
    let appliance = Appliance::start().await;
    let changes = [
        ("/name", json!("by StartTLS")),
        ("/settings/servers", json!([slapd.url()])),
        ("/settings/startTls", json!(true)),
        ("/settings/baseDns", json!([PEOPLE, GROUPS, ODD_UNIT])),
    ];
    let directory = appliance.api.create_directory(&draft_with(slapd, &changes)).await;
    appliance.api.run_applied(&directory).await;
    assert_same(&appliance.api, &directory, &Truth::read(slapd)).await;
}

#[tokio::test]
async fn a_base_inside_another_base_counts_nobody_twice() {
    let slapd = Slapd::shared();
    let appliance = Appliance::start().await;
    let bases = json!(["dc=example,dc=test", PEOPLE]);
    let directory = appliance.api.create_directory(&draft_with(slapd, &[("/settings/baseDns", bases)])).await;
    let run = appliance.api.run_applied(&directory).await;
    let truth = Truth::read(slapd);
    assert_eq!(number(&run, "/counts/added"), (truth.people.len() + truth.groups.len()) as u64, "{run}");
    assert_eq!(Copy::read(&appliance.api, &directory).await.identities.len(), truth.people.len());
}

#[tokio::test]
async fn the_user_filter_decides_who_is_read() {
    let slapd = Slapd::shared();
    let appliance = Appliance::start().await;
    let filter = "(&(objectClass=inetOrgPerson)(|(title=Nurse)(uid=odd-\\2a*)(cn=太郎*)))";
    let directory =
        appliance.api.create_directory(&draft_with(slapd, &[("/settings/userFilter", json!(filter))])).await;
    appliance.api.run_applied(&directory).await;
    let wanted: BTreeSet<String> = ldapsearch::search(slapd, "dc=example,dc=test", filter, &["entryUUID"])
        .iter()
        .map(|entry| entry.text("entryUUID").expect("there"))
        .collect();
    assert!(wanted.len() > 50);
    let found: BTreeSet<String> = Copy::read(&appliance.api, &directory).await.identities.into_keys().collect();
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn a_dry_run_shows_its_plan_and_changes_nothing() {
    let slapd = Slapd::start(Options::small());
    let synced = Synced::with(&slapd).await;
    let before = Copy::read(synced.api(), &synced.directory).await;
    slapd.modify(&format!("dn: uid=u000200,{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: Planned\n"));
    let path = format!("/api/directories/{}/runs", synced.directory);
    let run = synced.api().post(&path, &json!({"mode": "full", "dryRun": true})).await.expect(202);
    let run =
        synced.api().wait_for(&text(&run, "id"), std::time::Duration::from_secs(60), |state| state != "reading").await;
    assert!(matches!(run["state"].as_str(), Some("planned" | "parked" | "discarded")), "{run}");
    assert_eq!(number(&run, "/counts/changed"), 1, "{run}");
    let external = Truth::read(&slapd).person("u000200").to_owned();
    let lines = synced.changes(&run, &before.id(&external)).await;
    assert!(lines.iter().any(|(_, field, _, after)| field == "title" && after == "Planned"), "{lines:?}");
    assert_eq!(Copy::read(synced.api(), &synced.directory).await.identities, before.identities);
    // The plan that was only looked at does not stand in the way of the real one.
    let applied = synced.api().run_applied(&synced.directory).await;
    assert_eq!(number(&applied, "/counts/changed"), 1, "{applied}");
}

#[tokio::test]
async fn a_removed_directory_leaves_nothing_to_the_next_one() {
    let slapd = Slapd::shared();
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let removed = api.create_directory(&draft(slapd)).await;
    let path = format!("/api/directories/{removed}");
    let run = api.post(&format!("{path}/runs"), &json!({"mode": "full", "dryRun": true})).await.expect(202);
    api.wait_for(&text(&run, "id"), std::time::Duration::from_secs(60), |state| state == "planned").await;
    api.send(reqwest::Method::DELETE, &path, None).await.expect(204);
    assert_eq!(api.send(reqwest::Method::GET, &path, None).await.status, 404);
    let next = api.create_directory(&draft(slapd)).await;
    assert_ne!(next, removed, "a number is not used again");
    let run = api.run_applied(&next).await;
    let copy = Copy::read(api, &next).await;
    assert_same_objects(&copy, &Truth::read(slapd));
    assert_eq!(number(&run, "/counts/added"), number(&run, "/counts/read"), "{run}");
    appliance.assert_audit_verifies();
}

#[tokio::test]
async fn two_requests_at_once_are_one_run_and_one_conflict() {
    let slapd = Slapd::shared();
    let wire = crate::fixtures::proxy::Proxy::start(slapd.tls_port);
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let server = json!([format!("ldaps://127.0.0.1:{}", wire.port)]);
    let directory = api.create_directory(&draft_with(slapd, &[("/settings/servers", server)])).await;
    wire.stall_after(20_000);
    let (one, other) = tokio::join!(api.request_run(&directory), api.request_run(&directory));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 409], "{} {}", one.body, other.body);
    api.request_run(&directory).await.expect(409);
    wire.release();
    let run = if one.status == 202 { one.body } else { other.body };
    let run = api.wait_for_end(&text(&run, "id"), crate::fixtures::appliance::PATIENCE).await;
    assert_eq!(run["state"], "applied", "{run}");
    assert_eq!(api.all("/api/runs", "runs").await.len(), 1, "the refused request left no run");
    api.run_applied(&directory).await;
}
