//! From entries to identities and groups, and which settings are taken: without a server.

use super::*;
use crate::connectors::{
    Key, Sighting, Status, Value,
    ldap::{
        fake::{self, Flaw, certificates},
        pages::Map as _,
        settings::Mapping,
        times, values,
    },
};

/// One user entry, decoded.
fn decode(settings: &Settings, dn: &str, attributes: &[(&str, &[&[u8]])]) -> crate::connectors::ObservedIdentity {
    with_entry(dn, attributes, |entry| mapper(settings).identity(entry)).expect("an identity")
}

fn decode_group(settings: &Settings, dn: &str, attributes: &[(&str, &[&[u8]])]) -> crate::connectors::ObservedGroup {
    with_entry(dn, attributes, |entry| mapper(settings).group(entry)).expect("a group")
}

fn mapper(settings: &Settings) -> Mapper {
    Mapper::new(settings, Policies::default(), 1_780_000_000)
}

fn with_entry<T>(dn: &str, attributes: &[(&str, &[&[u8]])], look: impl FnOnce(&EntryView<'_>) -> T) -> T {
    let frame = fake::entry(1, dn, attributes);
    let envelope = ldap::answer::check_answer(&frame, &Limits::default()).expect("a message");
    look(&EntryView::read(envelope.body).expect("an entry"))
}

const UUID: (&str, &[&[u8]]) = ("entryUUID", &[b"A0000000-0000-0000-0000-00000000000B"]);

#[test]
fn a_person_is_mapped_with_the_defaults_of_inet_org_person() {
    let settings = Settings::default();
    let identity = decode(
        &settings,
        r"uid=anna\2B1,ou=People,dc=x",
        &[
            UUID,
            ("objectClass", &[b"inetOrgPerson"]),
            ("uid", &[b"Anna+1"]),
            ("cn", &["Anna Müller".as_bytes(), b"A. M."]),
            ("sn", &["Müller".as_bytes()]),
            ("givenName", &[b"Anna"]),
            ("mail", &[b"anna@x.test", b"a.mueller@x.test"]),
            ("employeeNumber", &[b"42"]),
            ("departmentNumber", &[b"D7"]),
            ("ou", &[b"People"]),
            ("title", &[b"Clerk"]),
            ("manager", &[b"uid=boss,dc=x"]),
            ("userPassword", &[b"{SSHA}abc"]),
            ("userPassword;x-old", &[b"{SSHA}abc"]),
            ("sambaNTPassword", &[b"abc"]),
            ("memberOf", &[b"cn=g,dc=x"]),
            ("userCertificate;binary", &[b"0\x82\x01"]),
            ("jpegPhoto", &[&[0xff; 70_000]]),
            ("description", &[&[b'x'; 70_000]]),
            ("createTimestamp", &[b"20250102030405Z"]),
            ("pwdChangedTime", &[b"20250203040506Z"]),
            ("pwdLastSuccess", &[b"20260203040506.123456Z"]),
            ("authTimestamp", &[b"20250303040506Z"]),
            ("pwdReset", &[b"TRUE"]),
            ("pwdAccountLockedTime", &[b"20250203040506Z"]),
        ],
    );
    let fields = &identity.fields;
    assert_eq!(identity.external_id, "a0000000-0000-0000-0000-00000000000b");
    assert_eq!(identity.keys.dn, Some(Key::of_dn(r"uid=anna\2b1,ou=people,dc=x")));
    assert_eq!(identity.keys.name, Some(Key::of_name("anna+1")));
    assert_eq!(fields.user_name, "Anna+1");
    assert_eq!(fields.display_name.as_deref(), Some("Anna Müller"), "cn when there is no displayName");
    assert_eq!(fields.mail.as_deref(), Some("anna@x.test"));
    assert_eq!(fields.mails, ["anna@x.test", "a.mueller@x.test"]);
    assert_eq!(fields.department.as_deref(), Some("D7"));
    assert_eq!(fields.employee_id.as_deref(), Some("42"));
    assert_eq!(fields.manager.as_deref(), Some("uid=boss,dc=x"));
    assert_eq!(fields.status, Status::Locked);
    assert!(fields.must_change_password);
    assert_eq!(fields.created_at.as_deref(), Some("2025-01-02T03:04:05Z"));
    assert_eq!(fields.password_changed_at.as_deref(), Some("2025-02-03T04:05:06Z"));
    assert_eq!(fields.last_sign_in_at.as_deref(), Some("2026-02-03T04:05:06Z"));
    let kept: Vec<&str> = fields.attributes.keys().map(|name| &**name).collect();
    assert_eq!(
        kept,
        [
            "cn",
            "departmentNumber",
            "description",
            "dn",
            "employeeNumber",
            "givenName",
            "jpegPhoto",
            "mail",
            "manager",
            "objectClass",
            "ou",
            "sn",
            "title",
            "uid",
            "userCertificate;binary"
        ],
        "no secret, no memberOf, no operational attribute"
    );
    assert_eq!(fields.attributes["userCertificate;binary"], [Value::Binary { base64: "MIIB".to_owned() }]);
    let descriptor = |name: &str| match fields.attributes[name].as_slice() {
        [Value::Text(text)] => text.clone(),
        other => panic!("{other:?}"),
    };
    assert!(descriptor("jpegPhoto").starts_with("(70000 bytes, SHA-256 "), "{}", descriptor("jpegPhoto"));
    assert!(descriptor("description").starts_with("(70000 bytes, "), "{}", descriptor("description"));
}

#[test]
fn the_mapping_and_the_list_of_attributes_are_followed() {
    let settings = Settings {
        mapping: Mapping {
            user_name: Some("MAIL".to_owned()),
            upn: Some("krbPrincipalName".to_owned()),
            ..Mapping::default()
        },
        attributes: vec!["cn".to_owned(), "entryUUID".to_owned()],
        preset: Preset::GroupOfNames,
        ..Settings::default()
    };
    let asked = Mapper::user_attributes(&settings);
    assert!(asked.contains(&"krbPrincipalName".to_owned()) && !asked.contains(&"*".to_owned()), "{asked:?}");
    let identity = decode(
        &settings,
        "cn=X Y,dc=x",
        &[
            UUID,
            ("cn", &[b"X Y"]),
            ("cn;lang-de", &[b"X Z"]),
            ("mail", &[b"x@y.test"]),
            ("krbPrincipalName", &[b"x@R"]),
            ("sn", &[b"Y"]),
        ],
    );
    assert_eq!(identity.fields.user_name, "x@y.test");
    assert_eq!(identity.fields.upn.as_deref(), Some("x@R"));
    assert_eq!(identity.keys.name, None, "these groups refer by DN only");
    let kept: Vec<&str> = identity.fields.attributes.keys().map(|name| &**name).collect();
    assert_eq!(kept, ["cn", "cn;lang-de", "dn", "entryUUID"]);
    let identity = decode(&settings, r"cn=Doe\, J,dc=x", &[UUID]);
    assert_eq!(identity.fields.user_name, "Doe, J", "the RDN's value when the mapped attribute is absent");
}

#[test]
fn members_are_read_in_the_ways_of_all_three_kinds_of_group() {
    let settings = Settings::default();
    let group = decode_group(
        &settings,
        "cn=G,dc=x",
        &[
            UUID,
            ("objectClass", &[b"top", b"groupOfNames"]),
            ("cn", &[b"G"]),
            ("description", &[b"all"]),
            ("member", &[b"uid=a,dc=x", b"UID=B, DC=X", b"uid=b,dc=x", b"", b"garbage"]),
        ],
    );
    assert_eq!(group.fields.name, "G");
    assert_eq!(group.fields.kind.as_deref(), Some("groupOfNames"));
    assert_eq!(group.fields.description.as_deref(), Some("all"));
    assert!(!group.fields.attributes.contains_key("member"));
    let keys: Vec<_> = group.members.iter().map(|member| member.key).collect();
    assert_eq!(keys[..2], [Key::of_dn("uid=a,dc=x"), Key::of_dn("uid=b,dc=x")], "two spellings of one are one");
    assert_eq!(group.members.len(), 3, "the garbage stays visible, the empty placeholder does not");
    assert_eq!(group.members[2].text, "garbage");

    let group = decode_group(
        &Settings { preset: Preset::GroupOfUniqueNames, ..settings.clone() },
        "cn=G,dc=x",
        &[
            UUID,
            ("uniqueMember", &[b"uid=a,dc=x#'0101'B", b"uid=c,dc=x", b"cn=\\#'1'B,dc=x"]),
            ("member", &[b"uid=z,dc=x"]),
        ],
    );
    let keys: Vec<_> = group.members.iter().map(|member| member.key).collect();
    assert_eq!(keys, [Key::of_dn("uid=a,dc=x"), Key::of_dn("uid=c,dc=x"), Key::of_dn("cn=\\23'1'b,dc=x")]);

    let group = decode_group(
        &Settings { preset: Preset::PosixGroup, ..settings },
        "cn=G,dc=x",
        &[UUID, ("objectClass", &[b"posixGroup"]), ("gidNumber", &[b"7"]), ("memberUid", &[b"Anna", b"anna", b"bob"])],
    );
    let keys: Vec<_> = group.members.iter().map(|member| member.key).collect();
    assert_eq!(keys, [Key::of_name("anna"), Key::of_name("bob")]);
}

#[test]
fn an_entry_of_many_large_values_stays_small() {
    let value = vec![b'x'; 60_000];
    let values: Vec<&[u8]> = (0..200).map(|_| value.as_slice()).collect();
    let identity = decode(&Settings::default(), "uid=a,dc=x", &[UUID, ("description", &values)]);
    let bytes: usize = identity.fields.attributes["description"]
        .iter()
        .map(|value| match value {
            Value::Text(text) => text.len(),
            Value::Binary { base64 } => base64.len(),
        })
        .sum();
    assert!(bytes < 600_000, "{bytes}");
    assert_eq!(identity.fields.attributes["description"].len(), 200, "how many there were still shows");
    let values: Vec<&[u8]> = vec![b"a@x.test"; 5000];
    let identity = decode(&Settings::default(), "uid=a,dc=x", &[UUID, ("mail", &values)]);
    assert_eq!(identity.fields.mails.len(), 200);
    assert_eq!(
        identity.fields.attributes["mail"].last(),
        Some(&Value::Text("(4000 more values, not kept)".to_owned()))
    );
}

fn settings_from(json: serde_json::Value) -> Settings {
    serde_json::from_value(json).expect("settings")
}

#[test]
fn good_settings_pass_and_each_bad_one_names_its_field() {
    let ca = certificates(Flaw::None).ca_pem;
    let good = serde_json::json!({
        "servers": ["ldaps://ldap1.example.com", "ldaps://ldap2.example.com:1636"], "caPem": ca, "baseDns": ["dc=example,dc=com"],
        "userFilter": "(objectClass=person)", "groupFilter": "", "preset": "groupOfNames", "scope": "one",
        "mapping": {"userName": "uid", "mail": "mail", "title": ""}, "pageSize": 500, "attributes": ["cn", "mail"]
    });
    assert_eq!(settings_from(good.clone()).check(), []);
    assert_eq!(settings_from(good.clone()).group_filter(), "(objectClass=groupOfNames)", "an empty text is no filter");
    let long_base = format!("ou={},dc=x", "x".repeat(2000));
    for (field, change) in [
        ("servers", serde_json::json!({"servers": []})),
        ("servers", serde_json::json!({"servers": ["http://x"]})),
        ("servers", serde_json::json!({"servers": ["ldaps://x", "LDAPS://X:636"]})),
        ("servers", serde_json::json!({"servers": vec!["ldaps://x"; 11]})),
        ("servers", serde_json::json!({"servers": ["ldaps://x\u{0}"]})),
        ("acceptPlaintext", serde_json::json!({"servers": ["ldap://x"]})),
        ("startTls", serde_json::json!({"startTls": true})),
        ("baseDns", serde_json::json!({"baseDns": []})),
        ("baseDns", serde_json::json!({"baseDns": ["example.com"]})),
        ("baseDns", serde_json::json!({"baseDns": [""]})),
        ("baseDns", serde_json::json!({"baseDns": ["dc=x\u{0}"]})),
        ("baseDns", serde_json::json!({"baseDns": [long_base]})),
        ("userBaseDns", serde_json::json!({"userBaseDns": ["x"]})),
        ("userFilter", serde_json::json!({"userFilter": "(uid=*"})),
        ("userFilter", serde_json::json!({"userFilter": "(uid=*)(|(uid=*))"})),
        ("groupFilter", serde_json::json!({"groupFilter": "cn=x"})),
        ("caPem", serde_json::json!({"caPem": "hello"})),
        ("caPem", serde_json::json!({"caPem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"})),
        ("caPem", serde_json::json!({"caPem": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"})),
        ("caPem", serde_json::json!({"caPem": "x".repeat(300_000)})),
        ("mapping.mail", serde_json::json!({"mapping": {"mail": "e mail"}})),
        ("pageSize", serde_json::json!({"pageSize": 10_001})),
        ("attributes", serde_json::json!({"attributes": ["a b"]})),
        ("attributes", serde_json::json!({"attributes": ["userPassword"]})),
        ("attributes", serde_json::json!({"attributes": vec!["cn"; 201]})),
    ] {
        let mut bad = good.clone();
        for (key, value) in change.as_object().expect("an object") {
            bad[key] = value.clone();
        }
        let errors = settings_from(bad).check();
        assert!(errors.iter().any(|error| error.field == field), "{change}: {errors:?}");
        assert!(errors.iter().all(|error| error.message.ends_with('.') && !error.message.contains('\0')), "{errors:?}");
    }
    for unknown in [
        serde_json::json!({"server": []}),
        serde_json::json!({"mapping": {"phone": "x"}}),
        serde_json::json!({"preset": "ad"}),
    ] {
        assert!(serde_json::from_value::<Settings>(unknown.clone()).is_err(), "{unknown}");
    }
    let plain =
        settings_from(serde_json::json!({"servers": ["ldap://x"], "acceptPlaintext": true, "baseDns": ["dc=x"]}));
    assert_eq!((plain.check(), plain.warnings().len()), (Vec::new(), 1));
    let start_tls = settings_from(serde_json::json!({"servers": ["ldap://x"], "startTls": true, "baseDns": ["dc=x"]}));
    assert_eq!((start_tls.check(), start_tls.warnings().len()), (Vec::new(), 0));
}

#[test]
fn settings_read_back_as_they_were_written() {
    let settings = settings_from(serde_json::json!({
        "servers": ["ldaps://x"], "baseDns": ["dc=x"], "mapping": {"employeeId": "employeeNumber"}, "preset": "posixGroup"
    }));
    let text = serde_json::to_string(&settings).expect("text");
    assert_eq!(serde_json::from_str::<Settings>(&text).expect("settings"), settings);
}

#[test]
fn no_entry_is_read_twice_because_bases_overlap() {
    let bases = |list: &[&str], scope| {
        Settings { base_dns: list.iter().map(|&base| base.to_owned()).collect(), scope, ..Settings::default() }
            .user_bases()
    };
    assert_eq!(bases(&["ou=people,dc=x", "dc=x", "DC=X"], Scope::Sub), ["dc=x"]);
    assert_eq!(bases(&["ou=people,dc=x", "dc=x"], Scope::One), ["ou=people,dc=x", "dc=x"]);
    assert_eq!(bases(&["ou=a,dc=x", "ou=b,dc=x"], Scope::Sub), ["ou=a,dc=x", "ou=b,dc=x"]);
}

#[test]
fn secrets_are_known_by_name() {
    for name in [
        "userPassword",
        "USERPASSWORD;x-y",
        "sambaLMPassword",
        "krbPrincipalKey",
        "pwdHistory",
        "unicodePwd",
        "authPassword",
        "radiusSecret",
    ] {
        assert!(values::is_secret(name), "{name}");
    }
    for name in ["uid", "pwdChangedTime", "sambaPwdLastSet", "mail", "passwordExpirationTime"] {
        assert!(!values::is_secret(name), "{name}");
    }
}

/// What the first look says of a user entry.
fn source_of(settings: &Settings, now_second: i64, attributes: &[(&str, &[&[u8]])]) -> crate::connectors::Source {
    let policies =
        Policies { default: Some(policy::Policy { max_age_s: 86_400, lockout_s: 0 }), ..Policies::default() };
    let frame = fake::entry(1, "uid=a,dc=x", attributes);
    let mut inbox = ldap::inbox::Inbox::default();
    inbox.room(frame.len()).extend(frame);
    let scanner = Scanner::new(settings, policies, now_second);
    let mut chunk = ldap::inbox::Chunk::default();
    inbox.search(1, &Limits::default(), &mut scanner.look(What::Users), &mut chunk).expect("an entry");
    match chunk.seen.as_slice() {
        [Sighting::Identity { source, .. }] => *source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_source_changes_with_the_entry_the_mapping_and_a_status_that_time_changes() {
    let settings = Settings::default();
    let changed_at = times::unix_second("20260601000000Z").expect("a time");
    let entry: [(&str, &[&[u8]]); 3] = [UUID, ("cn", &[b"A"]), ("pwdChangedTime", &[b"20260601000000Z"])];
    let before = source_of(&settings, changed_at, &entry);
    assert_eq!(source_of(&settings, changed_at + 86_399, &entry), before, "time alone changes nothing");
    assert_ne!(source_of(&settings, changed_at + 86_400, &entry), before, "the password has expired");
    let other: [(&str, &[&[u8]]); 3] = [UUID, ("cn", &[b"B"]), entry[2]];
    assert_ne!(source_of(&settings, changed_at, &other), before);
    let mapping = Mapping { title: Some("ou".to_owned()), ..Mapping::default() };
    assert_ne!(source_of(&Settings { mapping, ..Settings::default() }, changed_at, &entry), before);
    let attributes = vec!["cn".to_owned()];
    assert_ne!(source_of(&Settings { attributes, ..Settings::default() }, changed_at, &entry), before);
    let page_size = Some(7);
    assert_eq!(source_of(&Settings { page_size, ..Settings::default() }, changed_at, &entry), before);
}
