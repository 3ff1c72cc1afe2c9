//! What accounts of a real domain are: facts, types, and who is privileged, compared with what the controller says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::fixtures::{
    appliance::{Api, Appliance, number, text},
    ldapsearch::{self, Entry},
    programs,
    samba::{BASE, STAFF, Samba, Size},
};

/// What the controller says to its administrator.
fn truth(samba: &Samba, filter: &str, attributes: &[&str]) -> Vec<Entry> {
    let mut command = samba.tool("ldapsearch");
    command.args(["-LLL", "-o", "ldif-wrap=no", "-E", "pr=1000/noprompt", "-b", BASE, filter]).args(attributes);
    ldapsearch::parse(&programs::run(&mut command))
}

fn names(entries: &[Entry]) -> BTreeSet<String> {
    entries.iter().filter_map(|entry| entry.text("sAMAccountName")).collect()
}

async fn by_name(api: &Api, directory: &str) -> BTreeMap<String, Value> {
    api.identities(directory).await.into_iter().map(|identity| (text(&identity, "userName"), identity)).collect()
}

fn strings(value: &Value) -> BTreeSet<String> {
    let items = value.as_array().unwrap_or_else(|| panic!("a list, not {value}"));
    items.iter().map(|item| item.as_str().expect("text").to_owned()).collect()
}

/// Facts and the search that a controller finds them by: bits by LDAP_MATCHING_RULE_BIT_AND (MS-ADTS §3.1.1.3.4.4.1).
const FACTS: [(&str, &str); 13] = [
    ("password-not-required", "(userAccountControl:1.2.840.113556.1.4.803:=32)"),
    ("reversible-encryption", "(userAccountControl:1.2.840.113556.1.4.803:=128)"),
    ("password-never-expires", "(userAccountControl:1.2.840.113556.1.4.803:=65536)"),
    ("smart-card-required", "(userAccountControl:1.2.840.113556.1.4.803:=262144)"),
    ("trusted-for-delegation", "(userAccountControl:1.2.840.113556.1.4.803:=524288)"),
    ("not-delegated", "(userAccountControl:1.2.840.113556.1.4.803:=1048576)"),
    ("des-only", "(userAccountControl:1.2.840.113556.1.4.803:=2097152)"),
    ("pre-authentication-not-required", "(userAccountControl:1.2.840.113556.1.4.803:=4194304)"),
    ("trusted-to-authenticate-for-delegation", "(userAccountControl:1.2.840.113556.1.4.803:=16777216)"),
    ("service-principal-name", "(&(servicePrincipalName=*)(!(objectClass=computer)))"),
    ("admin-count", "(adminCount=1)"),
    ("built-in-administrator", "(sAMAccountName=Administrator)"),
    ("ticket-granting-account", "(sAMAccountName=krbtgt)"),
];

/// Adds flags that the domain is not built with, accounts of services, and ways to be privileged.
pub fn add_more(samba: &Samba) {
    samba.modify(&MORE.replace("{BASE}", BASE).replace("{STAFF}", STAFF));
}

const MORE: &str = "
dn: CN=gmsa,CN=Managed Service Accounts,{BASE}
changetype: add
objectClass: msDS-GroupManagedServiceAccount
sAMAccountName: gmsa$
userAccountControl: 4096
msDS-ManagedPasswordInterval: 30

dn: CN=smsa,CN=Managed Service Accounts,{BASE}
changetype: add
objectClass: msDS-ManagedServiceAccount
sAMAccountName: smsa$
userAccountControl: 4096

dn: CN=carol,{STAFF}
changetype: modify
replace: userAccountControl
userAccountControl: 1311392

dn: CN=bob,{STAFF}
changetype: modify
replace: userAccountControl
userAccountControl: 18874880

dn: CN=alice,{STAFF}
changetype: modify
replace: adminCount
adminCount: 1

dn: CN=Backup Operators,CN=Builtin,{BASE}
changetype: modify
add: member
member: CN=g-outer,{STAFF}

dn: CN=g-inner,{STAFF}
changetype: modify
add: member
member: CN=g-outer,{STAFF}

dn: CN=DnsAdmins,CN=Users,{BASE}
changetype: modify
add: member
member: CN=left,OU=Left,{BASE}

";

#[tokio::test]
async fn facts_types_and_privileged_ones_are_what_the_controller_says() {
    let samba = Samba::start(Size::SMALL);
    add_more(&samba);
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let directory = api.create_directory(&samba.draft(&[("computers", json!(true))])).await;
    let run = api.run_applied(&directory).await;
    assert_eq!(number(&run, "/counts/quarantined"), 0, "{run}");
    let copy = by_name(api, &directory).await;

    for (fact, filter) in FACTS {
        let expected = names(&truth(&samba, &format!("(&(objectClass=user){filter})"), &["sAMAccountName"]));
        assert!(!expected.is_empty(), "nobody has {fact}");
        let has_it = |identity: &&Value| strings(&identity["facts"]).contains(fact);
        let found: BTreeSet<String> = copy.values().filter(has_it).map(|identity| text(identity, "userName")).collect();
        assert_eq!(found, expected, "{fact}");
    }
    for (account_type, filter) in [
        (
            "computer",
            "(&(objectClass=computer)(!(objectClass=msDS-GroupManagedServiceAccount))(!(objectClass=msDS-ManagedServiceAccount)))",
        ),
        (
            "managed-service-account",
            "(|(objectClass=msDS-GroupManagedServiceAccount)(objectClass=msDS-ManagedServiceAccount))",
        ),
        ("user", "(&(objectClass=user)(!(objectClass=computer)))"),
    ] {
        let expected = names(&truth(&samba, filter, &["sAMAccountName"]));
        assert!(!expected.is_empty());
        let listed = api.all(&format!("/api/identities?accountType={account_type}"), "identities").await;
        let found: BTreeSet<String> = listed.iter().map(|identity| text(identity, "userName")).collect();
        assert_eq!(found, expected, "{account_type}");
        assert!(listed.iter().all(|identity| identity["accountType"] == account_type));
    }

    let groups = api.groups(&directory).await;
    let marked: BTreeMap<String, &Value> = groups
        .iter()
        .filter(|group| group.get("privileged").is_some())
        .map(|group| (text(group, "privileged"), group))
        .collect();
    for known in [
        "Domain Admins",
        "Enterprise Admins",
        "Schema Admins",
        "Group Policy Creator Owners",
        "Domain Controllers",
        "Administrators",
        "Account Operators",
        "Server Operators",
        "Print Operators",
        "Backup Operators",
        "Replicator",
        "DnsAdmins",
    ] {
        let group = marked.get(known).unwrap_or_else(|| panic!("{known} is not marked"));
        assert_eq!(text(group, "name"), known);
    }
    let mut expected = BTreeSet::new();
    for group in marked.values() {
        let dn = group["attributes"]["dn"][0].as_str().expect("a name");
        let sid = group["attributes"]["objectSid"][0].as_str().expect("an identifier");
        let rid = sid.rsplit('-').next().expect("a part");
        let filter = format!("(|(memberOf:1.2.840.113556.1.4.1941:={dn})(primaryGroupID={rid}))");
        expected.extend(names(&truth(&samba, &format!("(&(objectClass=user){filter})"), &["sAMAccountName"])));
    }
    for name in ["Administrator", "dave", "alice", "bob", "carol", "left", "DC1$"] {
        assert!(expected.contains(name), "{name} in {expected:?}");
    }
    let listed = api.all_by("/api/identities?privileged=true", "identities", 3).await;
    let found: BTreeSet<String> = listed.iter().map(|identity| text(identity, "userName")).collect();
    assert_eq!(found, expected);
    for (name, identity) in &copy {
        assert_eq!(!strings(&identity["privileged"]).is_empty(), expected.contains(name), "{name}");
        let one = api.get(&format!("/api/identities/{}", text(identity, "id"))).await;
        assert_eq!(one["privileged"], identity["privileged"], "{name}");
    }
    let why = |name: &str| strings(&copy[name]["privileged"]);
    assert!(why("dave").contains("Member of Domain Admins through g-admins"), "{:?}", why("dave"));
    assert!(why("dave").contains("Member of Administrators through g-admins → Domain Admins"), "{:?}", why("dave"));
    assert_eq!(
        why("bob"),
        BTreeSet::from(["Member of Backup Operators through g-inner → g-middle → g-outer".to_owned()])
    );
    assert_eq!(why("DC1$"), BTreeSet::from(["Member of Domain Controllers".to_owned()]));
    assert!(why("Administrator").contains("The built-in Administrator"));

    samba.modify(&format!(
        "dn: CN=never-expires,{STAFF}
changetype: modify
replace: userAccountControl
userAccountControl: 1049088

dn: CN=g-admins,{STAFF}
changetype: modify
delete: member
member: CN=dave,{STAFF}
"
    ));
    let run = api.run_applied(&directory).await;
    let changes = api.all(&format!("/api/runs/{}/changes", text(&run, "id")), "changes").await;
    let change = changes.iter().find(|change| change["field"] == "facts").expect("a line");
    assert_eq!((&change["before"], &change["after"]), (&json!(["password-never-expires"]), &json!(["not-delegated"])));
    let copy = by_name(api, &directory).await;
    assert_eq!(copy["dave"]["privileged"], json!([]));
}

#[tokio::test]
async fn computers_are_not_read_unless_they_are_wanted() {
    let samba = Samba::start(Size::SMALL);
    add_more(&samba);
    let appliance = Appliance::start().await;
    let directory = appliance.api.create_directory(&samba.draft(&[])).await;
    appliance.api.run_applied(&directory).await;
    let copy = by_name(&appliance.api, &directory).await;
    let strangers: Vec<&String> = copy.keys().filter(|name| name.ends_with('$')).collect();
    assert!(strangers.is_empty() && copy.values().all(|identity| identity["accountType"] == "user"), "{strangers:?}");
}
