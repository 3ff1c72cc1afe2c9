//! A role for a part of an account, on real OpenLDAP servers: what its holders see and do, in the console and by API, compared
//! with what the directories say lies in that part.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
    time::Duration,
};

use bailiwick::{
    accounts, app::App, audit, clock::Clock, config::Layer, principal::Principal, secret::Secret, users, users::NewUser,
};
use regex::Regex;
use serde_json::{Value, json};

use crate::fixtures::{
    acting::{act, act_observed, ask, outcome, wait},
    appliance::{ADMIN_PASSWORD, Api, Appliance, draft, text},
    console::Console,
    people::{GROUPS, PEOPLE, SUFFIX, Shape},
    slapd::{ACT_DN, Options, SYNC_PASSWORD, Slapd},
    truth::{Truth, normalise},
};

const EMAIL: &str = "desk@example.test";
const OSLO: &str = "ou=oslo,dc=example,dc=test";

/// Directory and external id of each of many.
type Keys = BTreeSet<(String, String)>;

/// Two servers, read by one appliance, a user and a key with a role for: a unit of the first, a group of it with a group
/// in it that holds it again, and all of the second.
struct Place {
    a: Slapd,
    _b: Slapd,
    appliance: Appliance,
    /// Directories' ids.
    in_a: String,
    in_b: String,
    /// The second server's people and groups.
    all_b: Truth,
    desk: Api,
}

fn group(name: &str, parent: &str, members: &[String]) -> String {
    let members: String = members.iter().map(|member| format!("member: {member}\n")).collect();
    format!("dn: cn={name},{parent}\nchangetype: add\nobjectClass: groupOfNames\ncn: {name}\n{members}\n")
}

fn person(number: usize) -> String {
    format!("uid=u{number:06},{PEOPLE}")
}

fn top() -> String {
    format!("cn=top,{GROUPS}")
}

/// A user is made by the library: the appliance stands still meanwhile.
fn add_user(appliance: &Appliance, role: &'static str) {
    let layer = Layer { data_dir: Some(appliance.data_dir()), ..Layer::default() };
    let app = App::open(layer.finish().expect("a configuration"), Clock::System, false).expect("an appliance");
    let password =
        users::check_password("password", &Secret::new(ADMIN_PASSWORD.into()), EMAIL, users::PasswordRules::default())
            .expect("a fine password");
    let (hash, now) = (password.hash_blocking().expect("hashed"), app.kernel.clock.now());
    let write = move |c: &rusqlite::Connection| {
        let account = accounts::list(c)?.remove(0);
        let new = NewUser { email: EMAIL.into(), name: "Desk".into() };
        let (_, entry) = users::create(c, &account, &new, role, &hash, now)?;
        Ok(((), vec![entry]))
    };
    audit::change_blocking(&app.kernel, &Principal::command_line("default", None, "root"), write).expect("a user");
}

impl Place {
    async fn start() -> Self {
        let a = Slapd::start(Options::small());
        let small = Shape { people: 300, groups: 30, members: 12, giant: 150, odd: false, ..Shape::SMALL };
        let b = Slapd::start(Options::of(small));
        let unit = |dn: &str, name: &str| {
            format!("dn: {dn}\nchangetype: add\nobjectClass: organizationalUnit\nou: {name}\n\n")
        };
        let desk = format!("ou=desk,{OSLO}");
        a.modify(&(unit(OSLO, "oslo") + &unit(&desk, "desk") + &unit(&format!("ou=not-oslo,{SUFFIX}"), "not-oslo")));
        for number in 700..712 {
            a.relocate(&person(number), &format!("uid=u{number:06}"), if number < 706 { OSLO } else { &desk });
        }
        a.relocate(&person(720), "uid=u000720", &format!("ou=not-oslo,{SUFFIX}"));
        let mid = format!("cn=mid,{GROUPS}");
        let inside = format!("uid=u000700,{OSLO}");
        a.modify(
            &(group("top", GROUPS, std::slice::from_ref(&mid))
                + &group("mid", GROUPS, &[person(801), person(802), top(), "uid=nobody,dc=elsewhere".into()])
                + &group(
                    "staff",
                    OSLO,
                    &[inside.clone(), person(601), person(801), "cn=mixed,ou=groups,dc=example,dc=test".into()],
                )
                + &group("mixed", GROUPS, &[inside.clone(), person(602)])),
        );
        let mut appliance = Appliance::start().await;
        let mut ids = Vec::new();
        for (slapd, name) in [(&a, "Alpha"), (&b, "Beta")] {
            let mut draft = draft(slapd);
            draft["name"] = name.into();
            draft["credentials"]["act"] = json!({"bindDn": ACT_DN, "password": SYNC_PASSWORD});
            let id = appliance.api.create_directory(&draft).await;
            appliance.api.run_applied(&id).await;
            ids.push(id);
        }
        let (in_b, in_a) = (ids.remove(1), ids.remove(0));
        let groups = appliance.api.groups(&in_a).await;
        let top = groups.iter().find(|group| group["name"] == "top").expect("the group");
        let scope = json!({"directories": [in_b], "groups": [top["id"]],
            "units": [{"directoryId": in_a, "dn": "OU=Oslo, DC=EXAMPLE,DC=test"}]});
        let services = json!({"directories": "read", "enforcement": "operate"});
        let role = json!({"id": "desk", "name": "Desk", "services": services, "scope": scope});
        appliance.api.post("/api/roles", &role).await.expect(201);
        let key = json!({"alias": "desk", "roleId": "desk"});
        let made = appliance.api.post("/api/apikeys", &key).await.expect(201);
        appliance.stop();
        // On a thread that may block.
        std::thread::scope(|scope| scope.spawn(|| add_user(&appliance, "desk")).join()).expect("a user");
        appliance.restart().await;
        let desk = Api::new(&appliance.url(), &format!("{}:{}", text(&made, "id"), text(&made, "secret")));
        let all_b = Truth::read(&b);
        Self { a, _b: b, appliance, in_a, in_b, all_b, desk }
    }

    fn root(&self) -> &Api {
        &self.appliance.api
    }

    /// What lies in the part: directory and external id of people and of groups.
    fn truth(&self) -> (Keys, Keys) {
        let truth = Truth::read(&self.a);
        let end = format!("\u{1}{}", normalise(OSLO));
        let lies = |dn: &str| normalise(dn).ends_with(&end);
        let within = |entries: &BTreeMap<String, crate::fixtures::ldapsearch::Entry>| -> BTreeSet<String> {
            entries.iter().filter(|(_, entry)| lies(&entry.dn)).map(|(id, _)| id.clone()).collect()
        };
        let mut people = within(&truth.people);
        people.extend(truth.effective(truth.group(&top())));
        let mut groups = within(&truth.groups);
        groups.extend([truth.group(&top()).to_owned(), truth.group(&format!("cn=mid,{GROUPS}")).to_owned()]);
        let of = |directory: &String, ids: BTreeSet<String>| -> Keys {
            ids.into_iter().map(|id| (directory.clone(), id)).collect()
        };
        let mut all = (of(&self.in_a, people), of(&self.in_a, groups));
        all.0.extend(of(&self.in_b, self.all_b.people.keys().cloned().collect()));
        all.1.extend(of(&self.in_b, self.all_b.groups.keys().cloned().collect()));
        all
    }
}

fn keys(rows: &[Value]) -> Keys {
    let found: BTreeSet<_> = rows.iter().map(|row| (text(row, "directoryId"), text(row, "externalId"))).collect();
    assert_eq!(found.len(), rows.len(), "nothing comes twice");
    found
}

fn ids(rows: &[Value]) -> BTreeSet<String> {
    rows.iter().map(|row| text(row, "id")).collect()
}

/// The ordinary user names that a text holds, whatever they stand in.
fn names(text: &str) -> BTreeSet<String> {
    static NAME: OnceLock<Regex> = OnceLock::new();
    let name = NAME.get_or_init(|| Regex::new(r"\bu\d{6}\b").expect("a pattern"));
    name.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

async fn csv(api: &Api, path: &str) -> BTreeSet<String> {
    let (status, kind, body) = api.text(path).await;
    assert_eq!((status, kind.starts_with("text/csv")), (200, true), "{path}");
    let mut reader = csv::Reader::from_reader(body.as_slice());
    reader.records().map(|record| record.expect("a line")[0].to_owned()).collect()
}

/// Every way to see something, by API, and that nothing of the rest is seen in any of them.
async fn check_seen(place: &Place) {
    let (people, groups) = place.truth();
    let (root, desk) = (place.root(), &place.desk);
    let (all_people, all_groups) =
        (root.all("/api/identities", "identities").await, root.all("/api/groups", "groups").await);
    let seen = desk.all_by("/api/identities", "identities", 37).await;
    assert_eq!(keys(&seen), people);
    let seen_groups = desk.all_by("/api/groups", "groups", 7).await;
    assert_eq!(keys(&seen_groups), groups);
    let (seen_ids, seen_group_ids) = (ids(&seen), ids(&seen_groups));
    assert_eq!(csv(desk, "/api/identities.csv").await, seen_ids);
    assert_eq!(csv(desk, "/api/groups.csv").await, seen_group_ids);
    // Narrowed: what a list of everything finds, as far as it is seen.
    let mut filters: Vec<(&str, String)> = ["u0007", "u0001", "example", "an", "zzz", "u000700", "u000601", ""]
        .into_iter()
        .map(|q| ("q", q.to_owned()))
        .collect();
    filters.extend(["active", "disabled", "locked", "missing"].map(|status| ("status", status.to_owned())));
    filters.extend([
        ("directory", place.in_a.clone()),
        ("directory", place.in_b.clone()),
        ("privileged", "true".into()),
    ]);
    filters.extend(seen_group_ids.iter().take(40).map(|id| ("group", id.clone())));
    for (name, value) in filters {
        let path = Api::path("/api/identities", &[(name, value.as_str())]);
        let expected: BTreeSet<String> =
            ids(&root.all(&path, "identities").await).intersection(&seen_ids).cloned().collect();
        assert_eq!(ids(&desk.all_by(&path, "identities", 11).await), expected, "{path}");
        let path = Api::path("/api/identities.csv", &[(name, value.as_str())]);
        assert_eq!(csv(desk, &path).await, expected, "{path}");
    }
    // Who of them is in a group that is not seen is not told.
    let is_hidden = |group: &&Value| !seen_group_ids.contains(&text(group, "id"));
    for group in all_groups.iter().filter(is_hidden) {
        let path = Api::path("/api/identities", &[("group", &text(group, "id"))]);
        assert_eq!(desk.all(&path, "identities").await, Vec::<Value>::new(), "{}", text(group, "name"));
    }
    // One by one: there, or as what never existed.
    let (status, nothing) = answer(desk, "/api/identities/999999999").await;
    assert_eq!(status, 404);
    for row in all_people.iter().filter(|row| text(row, "directoryId") == place.in_a) {
        let id = text(row, "id");
        let is_seen = seen_ids.contains(&id);
        let (status, body) = answer(desk, &format!("/api/identities/{id}")).await;
        assert_eq!(status, if is_seen { 200 } else { 404 }, "{}", text(row, "userName"));
        if !is_seen {
            assert_eq!(body["message"], nothing["message"]);
        }
    }
    let hidden: Vec<&Value> = all_people.iter().filter(|row| !seen_ids.contains(&text(row, "id"))).take(3).collect();
    for (kind, id) in hidden
        .iter()
        .map(|row| ("identities", text(row, "id")))
        .chain(all_groups.iter().filter(is_hidden).take(10).map(|row| ("groups", text(row, "id"))))
    {
        for end in ["", "/changes", if kind == "groups" { "/members" } else { "/groups" }] {
            assert_eq!(answer(desk, &format!("/api/{kind}/{id}{end}")).await.0, 404, "{kind}/{id}{end}");
        }
    }
    // What is seen names nobody who is not.
    let known: BTreeSet<String> =
        seen.iter().filter(|row| text(row, "directoryId") == place.in_a).map(|row| text(row, "userName")).collect();
    let check = |path: &str, body: &Value| {
        let strangers: Vec<String> = names(&body.to_string()).difference(&known).cloned().collect();
        assert_eq!(strangers, Vec::<String>::new(), "{path}: {body}");
    };
    let list = desk.all(&Api::path("/api/identities", &[("directory", &place.in_a)]), "identities").await;
    check("the list", &Value::Array(list.clone()));
    for id in ids(&list) {
        for end in ["", "/changes", "/groups", "/groups?effective=true"] {
            let path = format!("/api/identities/{id}{end}");
            let (status, body) = answer(desk, &path).await;
            assert_eq!(status, 200, "{path}");
            check(&path, &body);
            for group in body["groups"].as_array().into_iter().flatten() {
                assert!(seen_group_ids.contains(&text(group, "id")), "{path}: {group}");
            }
        }
    }
    let list = desk.all(&Api::path("/api/groups", &[("directory", &place.in_a)]), "groups").await;
    check("the groups", &Value::Array(list.clone()));
    for row in &list {
        let id = text(row, "id");
        for end in ["", "/changes", "/members", "/members?effective=true"] {
            let path = format!("/api/groups/{id}{end}");
            let (status, body) = answer(desk, &path).await;
            assert_eq!(status, 200, "{path}");
            check(&path, &body);
            for member in body["members"].as_array().into_iter().flatten().filter(|one| one["type"] != "reference") {
                let member = text(member, "id");
                assert!(seen_ids.contains(&member) || seen_group_ids.contains(&member), "{path}: {body}");
            }
            if end == "/members" {
                let count = body["members"].as_array().map_or(0, Vec::len);
                assert_eq!(row["memberCount"], count, "{path}");
            }
        }
    }
}

async fn answer(api: &Api, path: &str) -> (u16, Value) {
    let answer = api.send(reqwest::Method::GET, path, None).await;
    (answer.status, answer.body)
}

async fn find(api: &Api, directory: &str, user: &str) -> Option<Value> {
    let path = Api::path("/api/identities", &[("directory", directory), ("q", user)]);
    api.all(&path, "identities").await.into_iter().find(|row| row["userName"] == user)
}

#[tokio::test]
async fn whoever_has_a_part_sees_that_part_and_nothing_else() {
    let place = Place::start().await;
    check_seen(&place).await;
    let (root, desk) = (place.root(), &place.desk);
    for path in ["/api/directories", "/api/runs", "/api/users", "/api/roles", "/api/logs", "/api/protections"] {
        assert_eq!(answer(desk, path).await.0, 403, "{path}");
    }
    for path in [format!("/api/directories/{}", place.in_b), "/api/identities?asOf=2026-01-01T00:00:00Z".into()] {
        assert_eq!(answer(desk, &path).await.0, 403, "{path}");
    }
    // The console says the same.
    let console = Console::sign_in_as(&place.appliance.url(), EMAIL).await;
    let (people, groups) = place.truth();
    let overview = console.page("/").await;
    assert!(overview.contains(&format!("<a href=\"/identities\">{}</a>", people.len())), "{overview}");
    assert!(overview.contains(&format!("<a href=\"/groups\">{}</a>", groups.len())), "{overview}");
    for closed in ["/directories", "/runs", "/logs", "/users", "/roles", "/api-keys", "/tasks/rules"] {
        assert!(!overview.contains(&format!("href=\"{closed}\"")), "{closed} is offered");
        assert_eq!(console.status(closed).await, 403, "{closed}");
    }
    let list = console.page(&format!("/identities?directory={}", place.in_a)).await;
    let in_a = people.iter().filter(|(directory, _)| *directory == place.in_a).count();
    assert!(list.contains(&format!("of {in_a} identities")), "{list}");
    assert!(!list.contains("asOf") && list.contains("name=\"identity\""), "{list}");
    let whole = root.all(&Api::path("/api/identities", &[("directory", &place.in_a)]), "identities").await;
    let known: BTreeSet<String> = whole
        .iter()
        .filter(|row| people.contains(&(place.in_a.clone(), text(row, "externalId"))))
        .map(|row| text(row, "userName"))
        .collect();
    let inside = find(root, &place.in_a, "u000700").await.expect("they exist");
    let outside = find(root, &place.in_a, "u000601").await.expect("they exist");
    let groups_of_a = root.groups(&place.in_a).await;
    let id_of = |name: &str| text(groups_of_a.iter().find(|group| group["name"] == name).expect("a group"), "id");
    let of_staff = format!("/groups/{}", id_of("staff"));
    let mut pages = vec![format!("/identities/{}", text(&inside, "id")), "/tasks".into()];
    pages.extend(
        ["", "?effective=true", "?view=member-of", "?view=history", "?view=attributes"]
            .map(|view| format!("{of_staff}{view}")),
    );
    pages.push(format!("/tasks/new?group={}", id_of("staff")));
    pages.push(format!("/tasks/new?action=disable&group={}", id_of("top")));
    pages.push(format!("/identities/{}/tasks", text(&inside, "id")));
    for path in pages {
        let page = console.page(&path).await;
        let strangers: Vec<String> = names(&page).difference(&known).cloned().collect();
        assert_eq!(strangers, Vec::<String>::new(), "{path}");
        for closed in ["/compare", "asOf=", "/directories/", "/runs/", "/tasks/rules"] {
            assert!(!page.contains(closed), "{closed} is offered on {path}");
        }
    }
    let (id, mixed) = (text(&outside, "id"), id_of("mixed"));
    for path in [
        format!("/identities/{id}"),
        format!("/identities/{id}/tasks"),
        format!("/tasks/new?identity={id}"),
        format!("/tasks/new?action=disable&identity={}&identity={id}", text(&inside, "id")),
        format!("/tasks/new?group={mixed}"),
        format!("/groups/{mixed}"),
        format!("/groups/{mixed}/export"),
    ] {
        assert_eq!(console.status(&path).await, 404, "{path}");
    }
    let csv = console.page(&format!("{of_staff}/export")).await;
    assert!(names(&csv).is_subset(&known) && csv.contains("u000801"), "{csv}");
    place.appliance.assert_audit_verifies();
}

#[tokio::test]
async fn who_leaves_is_gone_and_who_comes_is_there_with_the_next_request() {
    let place = Place::start().await;
    let (root, desk) = (place.root(), &place.desk);
    let console = Console::sign_in_as(&place.appliance.url(), EMAIL).await;
    let sees = async |user: &str| find(desk, &place.in_a, user).await.is_some();
    assert!(sees("u000700").await && sees("u000801").await && !sees("u000500").await && !sees("u000803").await);
    let left = text(&find(root, &place.in_a, "u000700").await.expect("they exist"), "id");
    assert_eq!(console.status(&format!("/identities/{left}")).await, 200);
    // Out of the unit, into it; out of the nested group, into it.
    place.a.relocate(&format!("uid=u000700,{OSLO}"), "uid=u000700", PEOPLE);
    place.a.relocate(&person(500), "uid=u000500", &format!("ou=desk,{OSLO}"));
    place.a.modify(&format!(
        "dn: cn=mid,{GROUPS}\nchangetype: modify\ndelete: member\nmember: {}\n-\nadd: member\nmember: {}\n",
        person(801),
        person(803)
    ));
    // Not before the copy knows.
    assert!(sees("u000700").await && !sees("u000500").await);
    root.run_applied(&place.in_a).await;
    assert_eq!(console.status(&format!("/identities/{left}")).await, 404);
    assert!(!sees("u000700").await && !sees("u000801").await && sees("u000500").await && sees("u000803").await);
    check_seen(&place).await;
    // A unit that gets another name takes everybody in it along; a group that loses its inner one loses theirs.
    place.a.rename(&format!("ou=desk,{OSLO}"), "ou=counter");
    place.a.modify(&format!("dn: {}\nchangetype: modify\nreplace: member\nmember: {}\n", top(), person(900)));
    place.a.delete(&format!("uid=u000701,{OSLO}"));
    root.run_applied(&place.in_a).await;
    assert!(sees("u000900").await && sees("u000706").await && !sees("u000803").await);
    let missing = find(desk, &place.in_a, "u000701").await.expect("who vanished is missing and not gone");
    assert!(missing["missingSince"].is_string(), "{missing}");
    let (people, _) = place.truth();
    let seen = desk.all("/api/identities", "identities").await;
    let there: Vec<Value> = seen.into_iter().filter(|row| row["missingSince"].is_null()).collect();
    assert_eq!(keys(&there), people);
    // A directory that is taken out takes its part along.
    assert!(find(desk, &place.in_b, "u000001").await.is_some());
    let gone = root.send(reqwest::Method::DELETE, &format!("/api/directories/{}", place.in_b), None).await;
    assert!((200..300).contains(&gone.status), "{gone:?}");
    assert!(find(desk, &place.in_b, "u000001").await.is_none());
    let seen = desk.all("/api/identities", "identities").await;
    assert!(seen.iter().all(|row| text(row, "directoryId") == place.in_a));
}

#[tokio::test]
async fn whoever_has_a_part_acts_in_it_and_nowhere_else() {
    let place = Place::start().await;
    let (root, desk) = (place.root(), &place.desk);
    let find = async |user: &str| find(root, &place.in_a, user).await.expect("they exist");
    let (inside, other, outside) = (find("u000702").await, find("u000703").await, find("u000601").await);
    act_observed(desk, "disable", &inside).await;
    act_observed(desk, "enable", &inside).await;
    // Outside is refused as what does not exist, all of it, and the place in the list is named.
    let try_on = async |ids: &[&str]| {
        let body = json!({"action": "disable", "identities": ids, "reason": "a test"});
        desk.post("/api/tasks", &body).await
    };
    let (id_in, id_out) = (text(&inside, "id"), text(&outside, "id"));
    let known = root.all("/api/tasks", "tasks").await.len();
    let nobody = try_on(&["999999999"]).await.expect(422);
    let refused = try_on(&[&id_out]).await.expect(422);
    assert_eq!(refused["fields"], nobody["fields"], "{refused}");
    let mixed = try_on(&[&id_in, &id_out]).await.expect(422);
    assert!(mixed.to_string().contains("identities[1]") && !mixed.to_string().contains("identities[0]"), "{mixed}");
    assert!(!mixed.to_string().contains("u000601"), "{mixed}");
    assert_eq!(root.all("/api/tasks", "tasks").await.len(), known, "nothing was asked for");
    // What others do: of a mixed request the task of theirs, and not the request.
    let request = text(&ask(root, "disable", &[&inside, &outside]).await, "requestId");
    let tasks = wait(root, &request, Duration::from_secs(60)).await;
    let (mine, theirs) = (&tasks[0], &tasks[1]);
    assert_eq!((text(mine, "identityId"), text(theirs, "identityId")), (id_in.clone(), id_out.clone()));
    let seen = desk.all("/api/tasks", "tasks").await;
    assert!(ids(&seen).contains(&text(mine, "id")) && !ids(&seen).contains(&text(theirs, "id")));
    let narrowed = desk.all(&Api::path("/api/tasks", &[("request", &request)]), "tasks").await;
    assert_eq!(ids(&narrowed), BTreeSet::from([text(mine, "id")]));
    let by_identity = desk.all(&Api::path("/api/tasks", &[("identity", &id_out)]), "tasks").await;
    assert_eq!(by_identity, Vec::<Value>::new());
    assert_eq!(answer(desk, &format!("/api/tasks/{}", text(mine, "id"))).await.0, 200);
    assert_eq!(answer(desk, &format!("/api/tasks/{}", text(theirs, "id"))).await.0, 404);
    let path = format!("/api/task-requests/{request}");
    assert_eq!(answer(desk, &path).await.0, 404);
    assert!(!ids(&desk.all_by("/api/task-requests", "taskRequests", 1).await).contains(&request));
    let reason = json!({"reason": "a test"});
    desk.post(&format!("{path}/cancel"), &json!({})).await.expect(404);
    desk.post(&format!("{path}/undo"), &reason).await.expect(404);
    desk.post(&format!("/api/tasks/{}/undo", text(theirs, "id")), &reason).await.expect(404);
    desk.post(&format!("{path}/approve"), &reason).await.expect(403);
    let console = Console::sign_in_as(&place.appliance.url(), EMAIL).await;
    assert_eq!(console.status(&format!("/tasks/requests/{request}")).await, 404);
    assert!(!console.page("/tasks").await.contains("u000601"));
    // One's own part of it can be taken back, and nothing else of it is.
    let undone = desk.post(&format!("/api/tasks/{}/undo", text(mine, "id")), &reason).await.expect(201);
    let undone = wait(desk, &text(&undone, "requestId"), Duration::from_secs(60)).await;
    assert_eq!((outcome(&undone).0.as_str(), text(&undone[0], "identityId")), ("observed", id_in.clone()));
    // A request of theirs has its buttons.
    let whole = desk.all_by("/api/task-requests", "taskRequests", 1).await;
    let page = console.page(&format!("/tasks/requests/{}", text(&whole[0], "id"))).await;
    assert!(page.contains("id=\"undo\""), "{page}");
    // Why somebody is not acted on names no group of elsewhere.
    let groups = root.groups(&place.in_a).await;
    let mixed = groups.iter().find(|group| group["name"] == "mixed").expect("a group");
    let member = find("u000700").await;
    root.post("/api/protections", &json!({"kind": "group", "objectId": mixed["id"], "note": "secret-note"}))
        .await
        .expect(201);
    for (api, is_named) in [(desk, false), (root, true)] {
        let (state, why) = outcome(&act(api, "disable", &[&member]).await);
        assert_eq!(
            (state.as_str(), why.contains("mixed") || why.contains("secret-note")),
            ("refused", is_named),
            "{why}"
        );
    }
    let told = desk.all(&Api::path("/api/tasks", &[("identity", &text(&member, "id"))]), "tasks").await;
    assert_eq!(told.len(), 2);
    assert!(!Value::Array(told).to_string().contains("mixed"));
    let id = text(&member, "id");
    for path in [format!("/tasks/new?action=disable&identity={id}"), format!("/identities/{id}/tasks")] {
        let page = console.page(&path).await;
        assert!(!page.contains("mixed") && !page.contains("secret-note"), "{path}: {page}");
    }
    // Another part holds with the next request, of keys and of sessions that go on.
    let (alpha, beta) =
        (json!({"units": [{"directoryId": place.in_a, "dn": OSLO}]}), json!({"directories": [place.in_b]}));
    for (scope, expected) in [(&beta, 404), (&alpha, 200), (&beta, 404)] {
        root.post("/api/roles/desk", &json!({"scope": scope})).await.ok();
        assert_eq!(answer(desk, &format!("/api/identities/{id_in}")).await.0, expected, "{scope}");
        assert_eq!(console.status(&format!("/identities/{id_in}")).await, expected, "{scope}");
    }
    desk.post("/api/tasks", &json!({"action": "disable", "identities": [text(&other, "id")], "reason": "r"}))
        .await
        .expect(422);
    root.post("/api/roles/desk", &json!({"scope": null})).await.ok();
    assert_eq!(answer(desk, &format!("/api/identities/{id_out}")).await.0, 200);
    place.appliance.assert_audit_verifies();
}
