//! The pages and the form of directories, through the door: HTML by selector, JSON by value, and what was stored.

mod console;
mod reviewing;
mod rewinding;

use reqwest::StatusCode;
use serde_json::json;

use self::console::{ADMIN, Console, HOSTILE, PASSWORD, READER, STRANGER, form};
use super::*;
use crate::{
    clock::Time,
    identities::{
        ChangeKind, SubjectType,
        write::{self, NewChange},
    },
};

#[actix_web::test]
async fn every_field_of_the_form_is_stored_and_comes_back() {
    let console = Console::open().await;
    let mapped: Vec<(String, String)> = crate::connectors::ldap::settings::MAPPED_FIELDS
        .iter()
        .map(|field| (format!("mapping.{field}"), format!("x-{}", field.to_ascii_lowercase())))
        .collect();
    let mut changes: Vec<(&str, &str)> = vec![
        ("name", "  Wide staff "),
        ("servers", "ldap://One.example:390\r\n\r\n  ldap://two.example \r\n"),
        ("tls", "starttls"),
        ("baseDns", "dc=example,dc=com\r\nou=x,dc=example,dc=org"),
        ("userBaseDns", "ou=people,dc=example,dc=com"),
        ("groupBaseDns", "ou=groups,dc=example,dc=com"),
        ("scope", "one"),
        ("preset", "posixGroup"),
        ("userFilter", "(uid=*)"),
        ("groupFilter", "(cn=*)"),
        ("when", "cron"),
        ("cron", "0 3 * * *"),
        ("timeZone", "Europe/Berlin"),
        ("changesEvery", "15"),
        ("changesUnit", "m"),
        ("paused", "on"),
        ("live", "on"),
    ];
    changes.extend(mapped.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let id = console.connect(&changes).await;
    let stored = console.api_get(&format!("/api/directories/{id}")).await.json();
    assert_eq!(stored["name"], "Wide staff");
    let settings = &stored["settings"];
    assert_eq!(settings["servers"], json!(["ldap://One.example:390", "ldap://two.example"]));
    assert_eq!((&settings["startTls"], &settings["acceptPlaintext"]), (&json!(true), &json!(false)));
    assert_eq!(settings["baseDns"], json!(["dc=example,dc=com", "ou=x,dc=example,dc=org"]));
    assert_eq!(settings["userBaseDns"], json!(["ou=people,dc=example,dc=com"]));
    assert_eq!(settings["groupBaseDns"], json!(["ou=groups,dc=example,dc=com"]));
    assert_eq!((&settings["scope"], &settings["preset"]), (&json!("one"), &json!("posixGroup")));
    assert_eq!((&settings["userFilter"], &settings["groupFilter"]), (&json!("(uid=*)"), &json!("(cn=*)")));
    assert_eq!(settings["mapping"].as_object().map(serde_json::Map::len), Some(10));
    assert_eq!(settings["mapping"]["employeeId"], "x-employeeid");
    assert_eq!(
        stored["schedule"],
        json!({
            "full": {"cron": "0 3 * * *", "timeZone": "Europe/Berlin"},
            "delta": {"every": "15m"},
            "paused": true,
            "live": true,
        })
    );
    let edit = console.get(&format!("/directories/{id}/edit")).await;
    for (name, value) in [
        ("name", "Wide staff"),
        ("servers", "ldap://One.example:390\nldap://two.example"),
        ("bindDn", "cn=reader,dc=example,dc=com"),
        ("userFilter", "(uid=*)"),
        ("mapping.manager", "x-manager"),
        ("cron", "0 3 * * *"),
        ("timeZone", "Europe/Berlin"),
        ("password", ""),
    ] {
        assert_eq!(edit.value(name), value, "{name}");
    }
    for chosen in [
        "#tls-starttls[checked]",
        "#when-cron[checked]",
        "#paused[checked]",
        "#live[checked]",
        "option[value=one][selected]",
    ] {
        assert_eq!(edit.count(chosen), 1, "{chosen}");
    }
    // Sent back as it came, it is accepted without the password and changes nothing.
    let again: Vec<(&str, &str)> = changes.iter().copied().chain([("password", ""), ("name", "Wide staff")]).collect();
    let answer = console.post(&format!("/directories/{id}/edit"), &form(&again)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text(".error-summary"));
    assert_eq!(console.api_get(&format!("/api/directories/{id}")).await.json()["settings"], *settings);
}

#[actix_web::test]
async fn the_form_of_a_domain_asks_for_what_a_domain_has() {
    let console = Console::open().await;
    let fresh = console.get("/directories/new?kind=active-directory").await;
    assert_eq!(fresh.value("kind"), "active-directory");
    for (field, count) in [("excludedBaseDns", 1), ("computers", 1), ("preset", 0), ("userBaseDns", 0), ("live", 0)] {
        assert_eq!(fresh.count(&format!("[name={field}]")), count, "{field}");
    }
    assert_eq!(fresh.count("[name='mapping.userName'][placeholder=sAMAccountName]"), 1);
    let changes = [
        ("kind", "active-directory"),
        ("servers", "ldaps://dc1.example.com\nldaps://dc2.example.com"),
        ("bindDn", "EXAMPLE\\reader"),
        ("baseDns", ""),
        ("excludedBaseDns", "OU=Left,DC=example,DC=com"),
        ("userFilter", "(department=IT)"),
        ("computers", "on"),
    ];
    let id = console.connect(&changes).await;
    let stored = console.api_get(&format!("/api/directories/{id}")).await.json();
    assert_eq!(stored["kind"], "active-directory");
    let settings = &stored["settings"];
    assert_eq!(settings["excludedBaseDns"], json!(["OU=Left,DC=example,DC=com"]));
    assert_eq!((&settings["computers"], &settings["userFilter"]), (&json!(true), &json!("(department=IT)")));
    let page = console.get(&format!("/directories/{id}")).await;
    let shown = page.text("main");
    for part in
        ["Active Directory", "the whole domain", "OU=Left,DC=example,DC=com", "ldaps://dc2.example.com", "read too"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let edit = console.get(&format!("/directories/{id}/edit")).await;
    assert_eq!(edit.value("excludedBaseDns"), "OU=Left,DC=example,DC=com");
    assert_eq!((edit.value("bindDn"), edit.count("#computers[checked]")), ("EXAMPLE\\reader".to_owned(), 1));
    // A stored directory stays of its kind, whatever a form says.
    let again: Vec<(&str, &str)> =
        changes.iter().copied().chain([("password", ""), ("kind", "openldap"), ("name", "Domain")]).collect();
    let answer = console.post(&format!("/directories/{id}/edit"), &form(&again)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text(".error-summary"));
    let after = console.api_get(&format!("/api/directories/{id}")).await.json();
    assert_eq!((&after["kind"], &after["name"], &after["settings"]), (&stored["kind"], &json!("Domain"), settings));
    let wrong =
        console.post("/directories/new", &form(&[("kind", "active-directory"), ("excludedBaseDns", "?")])).await;
    assert_eq!((wrong.status, wrong.count("#excludedBaseDns[aria-invalid]")), (StatusCode::UNPROCESSABLE_ENTITY, 1));
}

#[actix_web::test]
async fn the_form_of_a_domain_takes_a_name_for_dns_instead_of_servers() {
    let console = Console::open().await;
    let changes = [
        ("kind", "active-directory"),
        ("servers", ""),
        ("tls", "ldaps"),
        ("baseDns", ""),
        ("domain", "ad.example.com"),
        ("site", "Berlin"),
        ("dnsServers", "10.0.0.2\n10.0.0.3:53"),
    ];
    let id = console.connect(&changes).await;
    let settings = console.api_get(&format!("/api/directories/{id}")).await.json()["settings"].clone();
    assert_eq!((&settings["domain"], &settings["site"]), (&json!("ad.example.com"), &json!("Berlin")));
    assert_eq!(settings["dnsServers"], json!(["10.0.0.2", "10.0.0.3:53"]));
    let shown = console.get(&format!("/directories/{id}")).await.text("main");
    assert!(shown.contains("found by DNS (10.0.0.2, 10.0.0.3:53), those of the site Berlin first"), "{shown}");
    assert!(console.get("/directories").await.text("main").contains("ad.example.com"));
    let edit = console.get(&format!("/directories/{id}/edit")).await;
    assert_eq!((edit.value("domain"), edit.value("site")), ("ad.example.com".to_owned(), "Berlin".to_owned()));
    let post = async |more: &[(&str, &str)]| {
        let changes: Vec<(&str, &str)> = changes.iter().chain(more).copied().collect();
        console.post(&format!("/directories/{id}/edit"), &form(&changes)).await
    };
    for (field, value) in [
        ("domain", "10.0.0.1"),
        ("site", "a.b"),
        ("dnsServers", "dns.example.com"),
        ("acceptPlaintext", "on"),
        ("domain", ""),
    ] {
        let answer = post(&[(field, value), ("tls", if field == "acceptPlaintext" { "plain" } else { "ldaps" })]).await;
        let named = if value.is_empty() { "servers" } else { field };
        let link = format!(".error-summary a[href='#{named}']");
        assert_eq!(answer.count(&link), 1, "{field} {value}: {}", answer.text(".error-summary"));
    }
    let answer = post(&[("globalCatalog", "on"), ("actBindDn", "x@ad.example.com"), ("actPassword", "secret")]).await;
    assert_eq!(answer.count(".error-summary a[href='#actPassword']"), 1, "{}", answer.text(".error-summary"));
    assert_eq!(post(&[("globalCatalog", "on")]).await.status, StatusCode::SEE_OTHER);
    let shown = console.get(&format!("/directories/{id}")).await.text("main");
    assert!(shown.contains("members of universal groups alone"), "{shown}");
}

#[actix_web::test]
async fn when_changes_are_read_is_set_in_the_form() {
    let console = Console::open().await;
    let id = console.connect(&[("kind", "active-directory"), ("changesEvery", "5"), ("changesUnit", "m")]).await;
    let (page, api) = (format!("/directories/{id}"), format!("/api/directories/{id}"));
    assert!(console.get(&page).await.text("main").contains("every 6 hours; changes every 5 minutes"));
    let edit = console.get(&format!("{page}/edit")).await;
    assert_eq!((edit.value("changesEvery"), edit.count("#changesUnit option[value=m][selected]")), ("5".to_owned(), 1));
    let save = async |every: &str| {
        let fields = form(&[("kind", "active-directory"), ("password", ""), ("changesEvery", every)]);
        console.post(&format!("{page}/edit"), &fields).await
    };
    for wrong in ["0", "soon", "-1"] {
        let answer = save(wrong).await;
        assert_eq!(answer.count("#changesEvery[aria-invalid]"), 1, "{wrong}: {}", answer.text(".error-summary"));
    }
    assert_eq!(save("").await.status, StatusCode::SEE_OTHER);
    assert!(console.api_get(&api).await.json()["schedule"].get("delta").is_none());
    // A cron line is none of this form's, and stays.
    let cron = json!({"schedule": {"full": null, "delta": {"cron": "*/5 * * * *"}, "paused": true}});
    assert_eq!(console.api(&api, &cron).await.status, StatusCode::OK);
    assert_eq!(save("").await.status, StatusCode::SEE_OTHER);
    assert_eq!(console.api_get(&api).await.json()["schedule"]["delta"]["cron"], "*/5 * * * *");
}

#[actix_web::test]
async fn a_wrong_entry_is_named_at_its_field_and_nothing_is_stored() {
    let console = Console::open().await;
    let long = "x".repeat(2_000);
    let long_server = format!("ldaps://{long}.example");
    let long_filter = format!("(cn={})", "x".repeat(70_000));
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("name", "")], "name"),
        (&[("name", &long)], "name"),
        (&[("name", "two\nlines")], "name"),
        (&[("servers", "")], "servers"),
        (&[("servers", "https://ldap.example")], "servers"),
        (&[("servers", "ldaps://user:secret@ldap.example")], "servers"),
        (&[("servers", "ldaps://a.example\nldaps://a.example")], "servers"),
        (&[("servers", &long_server)], "servers"),
        (&[("servers", "ldap://ldap.example")], "acceptPlaintext"),
        (&[("tls", "starttls")], "tls"),
        (&[("tls", "none")], "tls"),
        (&[("tls", "plain")], "acceptPlaintext"),
        (&[("caPem", "not a certificate")], "caPem"),
        (&[("bindDn", "")], "bindDn"),
        (&[("bindDn", &long)], "bindDn"),
        (&[("password", "")], "password"),
        (&[("password", &long)], "password"),
        (&[("baseDns", "")], "baseDns"),
        (&[("baseDns", "not a dn")], "baseDns"),
        (&[("baseDns", &long)], "baseDns"),
        (&[("userBaseDns", "???")], "userBaseDns"),
        (&[("groupBaseDns", "???")], "groupBaseDns"),
        (&[("scope", "base")], "scope"),
        (&[("preset", "mine")], "preset"),
        (&[("kind", "okta")], "kind"),
        (&[("userFilter", "objectClass=*")], "userFilter"),
        (&[("userFilter", &long_filter)], "userFilter"),
        (&[("groupFilter", "(cn=")], "groupFilter"),
        (&[("mapping.mail", "mail; drop")], "mapping.mail"),
        (&[("when", "")], "when"),
        (&[("when", "often")], "when"),
        (&[("every", "0")], "every"),
        (&[("every", "-5")], "every"),
        (&[("every", "")], "every"),
        (&[("every", "99999999999999999999")], "every"),
        (&[("unit", "weeks")], "every"),
        (&[("when", "cron"), ("cron", "")], "cron"),
        (&[("when", "cron"), ("cron", "61 * * * *")], "cron"),
        (&[("when", "cron"), ("cron", &long)], "cron"),
        (&[("when", "cron"), ("cron", "0 3 * * *"), ("timeZone", "Mars/Olympus")], "timeZone"),
    ];
    for (changes, field) in cases {
        let answer = console.post("/directories/new", &form(changes)).await;
        let case = format!("{:?} at {field}", changes.iter().map(|(name, _)| name).collect::<Vec<_>>());
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{case}");
        let links = answer.count(&format!(".error-summary a[href='#{field}']"));
        assert!(links > 0, "{case}: {}", answer.text(".error-summary"));
        assert!(!answer.body.contains(PASSWORD), "{case}: the password came back");
        assert_eq!(answer.count(&format!("[id='{field}-error']")), 1, "{case}: a message at the field");
        // The other entries are kept.
        if !changes.iter().any(|(name, _)| *name == "name") {
            assert_eq!(answer.value("name"), "Staff", "{case}");
        }
    }
    for (changes, status) in [
        (&[("name", "a\u{0}b")], StatusCode::UNPROCESSABLE_ENTITY),
        (&[("name", "a\u{1b}[2J")], StatusCode::UNPROCESSABLE_ENTITY),
        (&[("role", "owner")], StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(console.post("/directories/new", &form(changes)).await.status, status, "{changes:?}");
    }
    let huge = "x".repeat(1_100_000);
    assert_eq!(
        console.post("/directories/new", &form(&[("caPem", &huge)])).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(console.count("SELECT count(*) FROM directory").await, 0);
}

#[actix_web::test]
async fn all_wrong_entries_are_named_at_once() {
    let console = Console::open().await;
    let answer = console
        .post(
            "/directories/new",
            &form(&[("name", ""), ("servers", "x"), ("bindDn", ""), ("when", "cron"), ("cron", "x")]),
        )
        .await;
    for field in ["name", "servers", "bindDn", "cron"] {
        assert_eq!(
            answer.count(&format!(".error-summary a[href='#{field}']")),
            1,
            "{field}: {}",
            answer.text(".error-summary")
        );
    }
    assert!(answer.text(".error-summary h2").contains("4 entries"));
}

#[actix_web::test]
async fn an_interval_and_a_cron_line_together_are_refused_by_the_api() {
    let console = Console::open().await;
    let mut body = json!({
        "kind": "openldap", "name": "Staff",
        "settings": {"servers": ["ldaps://127.0.0.1:1"], "baseDns": ["dc=example,dc=com"]},
        "credentials": {"read": {"bindDn": "cn=reader", "password": PASSWORD}},
        "schedule": {"full": {"every": "1h", "cron": "0 3 * * *"}},
    });
    let answer = console.api("/api/directories", &body).await;
    assert_eq!(
        (answer.status, answer.json()["fields"]["schedule.full"].is_string()),
        (StatusCode::UNPROCESSABLE_ENTITY, true)
    );
    body["schedule"] = json!({"full": {"cron": "x".repeat(5_000)}});
    let answer = console.api("/api/directories", &body).await;
    assert!(answer.json()["fields"]["schedule.full.cron"].is_string(), "{}", answer.body);
}

#[actix_web::test]
async fn the_stored_password_never_comes_back() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let failed = console
        .run(id, false, |c, run| {
            let failure = crate::connectors::Failure::new(crate::connectors::FailureKind::Other, "No.", "Look.");
            queries::set_failed(c, run, &failure, &plan::Counts::default(), Time(0))
        })
        .await;
    for path in [
        "/directories".to_owned(),
        format!("/directories/{id}"),
        format!("/directories/{id}/edit"),
        format!("/directories/{id}/remove"),
        "/runs".into(),
        format!("/runs/{failed}"),
    ] {
        let answer = console.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(!answer.body.contains(PASSWORD), "{path}");
    }
    for path in ["/api/directories".to_owned(), format!("/api/directories/{id}"), "/api/runs".into()] {
        let answer = console.api_get(&path).await;
        assert!(answer.status == StatusCode::OK && !answer.body.contains(PASSWORD), "{path}");
    }
    let typed = "another-password-typed-just-now";
    let refused = console.post(&format!("/directories/{id}/edit"), &form(&[("name", ""), ("password", typed)])).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!refused.body.contains(typed) && !refused.body.contains(PASSWORD));
    let records = console.count("SELECT count(*) FROM audit_record WHERE details LIKE '%correct-horse%'").await;
    assert_eq!(records, 0);
}

/// A listener that nobody may have reached.
fn trap() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("without waiting");
    let address = format!("ldap://{}", listener.local_addr().expect("an address"));
    (listener, address)
}

#[actix_web::test]
async fn the_stored_password_is_not_sent_to_other_servers_or_in_another_way() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let stored = console.api_get(&format!("/api/directories/{id}")).await.json()["settings"].clone();
    let (listener, evil) = trap();
    let ca = rcgen::generate_simple_self_signed(vec!["ldap.example".to_owned()]).expect("a certificate").cert.pem();
    for (what, change) in [
        ("servers", json!({"servers": [evil], "acceptPlaintext": true})),
        ("one more server", json!({"servers": ["ldaps://127.0.0.1:1", "ldaps://evil.example"]})),
        ("startTls", json!({"servers": ["ldap://127.0.0.1:1"], "startTls": true})),
        ("caPem", json!({"caPem": ca})),
        ("acceptPlaintext", json!({"acceptPlaintext": true})),
    ] {
        let mut settings = stored.clone();
        for (name, value) in change.as_object().expect("an object") {
            settings[name] = value.clone();
        }
        let trial = json!({"kind": "openldap", "settings": settings, "directoryId": id.to_string()});
        for (path, body) in [
            (format!("/api/directories/{id}"), json!({"settings": settings})),
            ("/api/directories/probe".into(), trial.clone()),
            ("/api/directories/sample".into(), trial.clone()),
        ] {
            let answer = console.api(&path, &body).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{what} by {path}: {}", answer.body);
            let message = answer.json()["fields"]["credentials.read"].as_str().unwrap_or_default().to_owned();
            assert!(message.contains("password"), "{what} by {path}: {}", answer.body);
        }
        let mut given = trial;
        given["credentials"] = json!({"read": {"bindDn": "cn=x,dc=example,dc=com", "password": "given anew"}});
        if what != "servers" {
            assert_eq!(
                console.api("/api/directories/probe", &given).await.status,
                StatusCode::OK,
                "{what}, given anew"
            );
        }
    }
    let fields = form(&[
        ("servers", evil.as_str()),
        ("tls", "plain"),
        ("acceptPlaintext", "on"),
        ("password", ""),
        ("directory", &id.to_string()),
    ]);
    for path in [format!("/directories/{id}/edit"), "/directories/probe".into(), "/directories/sample".into()] {
        let answer = console.post(&path, &fields).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        assert_eq!(answer.count(".error-summary a[href='#password']"), 1, "{path}: {}", answer.text(".error-summary"));
    }
    assert!(listener.accept().is_err(), "somebody was reached");
    assert_eq!(console.api_get(&format!("/api/directories/{id}")).await.json()["settings"], stored);
    // The bind DN alone: the stored password belongs to the stored one.
    let answer =
        console.post(&format!("/directories/{id}/edit"), &form(&[("bindDn", "cn=other"), ("password", "")])).await;
    assert_eq!(answer.count(".error-summary a[href='#password']"), 1);
}

#[actix_web::test]
async fn what_does_not_change_the_way_needs_no_password() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let path = format!("/api/directories/{id}");
    for body in [
        json!({"name": "Renamed"}),
        json!({"schedule": {"full": {"every": "30m"}, "paused": true}}),
        json!({"settings": {"servers": ["LDAPS://127.0.0.1:1/"], "baseDns": ["dc=example,dc=org"], "userFilter": "(uid=*)"}}),
    ] {
        let answer = console.api(&path, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{body}: {}", answer.body);
    }
    let with_password = json!({
        "settings": {"servers": ["ldaps://127.0.0.2:1"], "baseDns": ["dc=example,dc=org"]},
        "credentials": {"read": {"bindDn": "cn=reader,dc=example,dc=com", "password": "new"}},
    });
    assert_eq!(console.api(&path, &with_password).await.status, StatusCode::OK);
}

#[actix_web::test]
async fn a_trial_with_another_accounts_directory_is_not_found() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let fields = form(&[("password", ""), ("directory", &id.to_string())]);
    for path in ["/directories/probe", "/directories/sample"] {
        assert_eq!(console.post_as(STRANGER, path, &fields).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let run = console.run(id, true, |_, _| Ok(())).await;
    for path in [
        format!("/directories/{id}"),
        format!("/directories/{id}/edit"),
        format!("/directories/{id}/remove"),
        format!("/runs/{run}"),
        format!("/runs/{run}/progress"),
        format!("/runs?directory={id}"),
    ] {
        assert_eq!(console.get_as(STRANGER, &path).await.status, StatusCode::NOT_FOUND, "{path}");
        assert_ne!(console.get(&path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(console.get_as(STRANGER, "/directories").await.count("tbody tr"), 0);
    assert_eq!(console.get_as(STRANGER, "/runs").await.count("tbody tr"), 0);
}

#[actix_web::test]
async fn a_reader_is_offered_nothing_that_is_refused() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let page = console.get_as(READER, &format!("/directories/{id}")).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.count("main form, main a[href$='/edit'], main a[href$='/remove']"), 0);
    assert_eq!(console.get_as(READER, "/directories").await.count("main a[href='/directories/new']"), 0);
    assert_eq!(console.get_as(READER, "/directories/new").await.status, StatusCode::FORBIDDEN);
    let fields = [("confirm".to_owned(), "Staff".to_owned())];
    let answer = console.post_as(READER, &format!("/directories/{id}/remove"), &fields).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[actix_web::test]
async fn hostile_names_are_text_everywhere() {
    let console = Console::open().await;
    let id = console.connect(&[("name", HOSTILE), ("bindDn", "cn=<img src=x onerror=alert(1)>")]).await;
    let run = console
        .run(id, false, |c, run| {
            let failure = crate::connectors::Failure::new(
                crate::connectors::FailureKind::Other,
                "The server said <script>alert(1)</script>.",
                "Look.",
            );
            queries::set_failed(c, run, &failure, &plan::Counts::default(), Time(0))
        })
        .await;
    for path in [
        "/directories".to_owned(),
        format!("/directories/{id}"),
        format!("/directories/{id}/edit"),
        format!("/directories/{id}/remove"),
        "/runs".into(),
        format!("/runs/{run}"),
    ] {
        let answer = console.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        for raw in ["<script>alert", "<img src=x", "alert(1)</script>\"'"] {
            assert!(!answer.body.contains(raw), "{path}: {raw}");
        }
        assert_eq!(answer.count("script:not([src]), [onerror]"), 0, "{path}");
        // What could turn the text around it stays inside an element of its own direction.
        let outside = answer.body.replace("<option", "<bdi").replace("value=\"", "<bdi>");
        let parts: Vec<&str> = outside.split('\u{202e}').collect();
        for part in
            parts.iter().take(parts.len() - 1).filter(|part| !part.contains("<title>") || part.contains("<main"))
        {
            let opened = part.rfind("<bdi").unwrap_or(0);
            assert!(opened > part.rfind("</bdi>").unwrap_or(0), "{path}: …{}", &part[part.len().saturating_sub(80)..]);
        }
    }
}

#[actix_web::test]
async fn a_failed_run_says_why_and_what_to_do() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let run = console
        .run(id, false, |c, run| {
            let failure = crate::connectors::Failure::new(
                crate::connectors::FailureKind::InvalidCredentials,
                "ldap.example refused the bind DN or its password.",
                "Enter the right password in the settings.",
            );
            queries::set_failed(c, run, &failure, &plan::Counts { read: 1_234, ..plan::Counts::default() }, Time(0))
        })
        .await;
    for path in [format!("/runs/{run}"), format!("/directories/{id}")] {
        let notice = console.get(&path).await.text(".notice--danger");
        for words in ["refused the bind DN or its password", "Enter the right password", "copy was not touched"] {
            assert!(notice.contains(words), "{path}: {notice}");
        }
    }
    let page = console.get(&format!("/runs/{run}")).await;
    assert!(page.text(".stats").contains("1,234") && page.text(".stats").contains("invalid-credentials"));
    assert_eq!(page.count("[hx-trigger]"), 0, "nothing is asked for any more");
    assert!(console.get("/directories").await.text("tbody .state").contains("Last run failed"));
    let filtered = format!("/runs?directory={id}");
    assert!(console.get(&filtered).await.text("tbody").contains("refused the bind DN"));
    let results = console.fragment(&filtered).await;
    assert_eq!((results.count("main"), results.count("#results tbody tr")), (0, 1), "{}", results.body);
}

#[actix_web::test]
async fn progress_is_asked_for_until_the_run_ends() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let run = console.run(id, false, |_, _| Ok(())).await;
    let progress = console.runner.board.open(run);
    progress.read(plan::Counts { read: 12_345, added: 7, ..plan::Counts::default() });
    let path = format!("/runs/{run}/progress");
    let page = console.get(&format!("/runs/{run}")).await;
    assert_eq!(page.count(&format!("#run-live[hx-get='{path}'][hx-trigger='every 1s']")), 1);
    assert_eq!(page.count("noscript"), 1, "a way on for readers without scripts");
    assert!(page.text(".page-head .actions").trim().is_empty(), "no second run is offered");
    let live = console.fragment(&path).await;
    assert_eq!((live.status, live.refresh, live.count("main")), (StatusCode::OK, false, 0));
    assert!(live.text(".stats").contains("12,345"), "{}", live.body);
    progress.enter(progress::Phase::Applying);
    progress.to_apply(10);
    progress.applied(4);
    assert_eq!(console.fragment(&path).await.count("progress[value='4'][max='10']"), 1);
    console.kernel.db.write(move |c| queries::set_run_applied(c, run, Time(0))).await.expect("applied");
    let ended = console.fragment(&path).await;
    assert_eq!((ended.status, ended.refresh), (StatusCode::NO_CONTENT, true));
    let without_scripts = console.get(&path).await;
    assert_eq!(without_scripts.location, format!("/runs/{run}"));
}

#[actix_web::test]
async fn a_dry_run_says_that_nothing_was_changed_and_lists_what_it_would_do() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let run = console
        .run(id, true, move |c, run| {
            let counts = plan::Counts { read: 3, added: 1, changed: 1, quarantined: 1, ..plan::Counts::default() };
            let server = "ldaps://one.example:636".to_owned();
            let planned =
                queries::Planned { counts, server: Some(server), watermark: None, counted: None, watermark_lost: None };
            queries::set_planned(c, run, &planned, Time(0))?;
            write::open_plan(c, run, id)?;
            let line = |subject_id, kind, field: Option<&str>, before: Option<&str>, after: &str| NewChange {
                subject_type: SubjectType::Identity,
                subject_id,
                kind,
                field: field.map(str::to_owned),
                before: before.map(str::to_owned),
                after: Some(after.to_owned()),
                member_id: None,
            };
            let lines = [
                line(7, ChangeKind::Added, None, None, "\"Tuva <b>\""),
                line(8, ChangeKind::Changed, Some("familyName"), Some("\"Old\""), "\"New\""),
            ];
            write::store_part(c, run, &[], &lines)?;
            let object = plan::Quarantined {
                external_id: None,
                name: "uid=broken,dc=example".into(),
                reason: "It has no entryUUID.".into(),
            };
            queries::insert_quarantine(c, id, run, &[object])
        })
        .await;
    let page = console.get(&format!("/runs/{run}")).await;
    assert!(page.text(".notice--info").contains("Nothing was changed"), "{}", page.body);
    let plan = page.text("#plan tbody");
    for words in ["Tuva <b>", "Family name", "Old", "New"] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
    assert_eq!(page.count("#plan a[href='/identities/7']"), 0, "what was not added has no page");
    assert_eq!(page.count("#plan a[href='/identities/8']"), 1);
    let added = console.get(&format!("/runs/{run}?kind=added")).await;
    assert_eq!(added.count("#plan tbody tr"), 1);
    let quarantined = console.get(&format!("/runs/{run}?kind=quarantined")).await;
    assert!(quarantined.text("#plan tbody").contains("It has no entryUUID."));
    assert_eq!(console.get(&format!("/runs/{run}?kind=stolen")).await.status, StatusCode::NOT_FOUND);
    let listed = console.api_get(&format!("/api/runs/{run}/quarantine?limit=1")).await.json();
    assert_eq!(listed["quarantine"][0]["reason"], "It has no entryUUID.");
    assert!(listed.get("next").is_none());
    assert_eq!(console.api_get("/api/runs/999/quarantine").await.status, StatusCode::NOT_FOUND);
}

#[actix_web::test]
async fn a_directory_is_removed_only_by_its_name() {
    let console = Console::open().await;
    let id = console.connect(&[]).await;
    let path = format!("/directories/{id}/remove");
    let field = |text: &str| [("confirm".to_owned(), text.to_owned())];
    for wrong in ["", "staff", "Staf"] {
        let answer = console.post(&path, &field(wrong)).await;
        assert_eq!((answer.status, answer.count("#confirm-error")), (StatusCode::UNPROCESSABLE_ENTITY, 1), "{wrong:?}");
    }
    assert_eq!(console.count("SELECT count(*) FROM directory WHERE removed_at IS NULL").await, 1);
    assert_eq!(console.post(&path, &field("Staff")).await.location, "/directories");
    assert_eq!(console.get(&format!("/directories/{id}")).await.status, StatusCode::NOT_FOUND);
}

#[actix_web::test]
async fn pausing_shows_and_resuming_plans_the_next_run() {
    let console = Console::open().await;
    assert!(console.get("/directories").await.text(".empty h2").contains("Connect your first directory"));
    let id = console.connect(&[]).await;
    let list = || async { console.get("/directories").await.text("tbody") };
    assert!(list().await.contains("Never read"));
    let paused = |value: &str| [("paused".to_owned(), value.to_owned())];
    let path = format!("/directories/{id}/pause");
    assert_eq!(console.post(&path, &paused("true")).await.status, StatusCode::SEE_OTHER);
    assert!(list().await.contains("Paused"));
    assert_eq!(console.post(&path, &paused("false")).await.status, StatusCode::SEE_OTHER);
    assert!(console.get(&format!("/directories/{id}")).await.body.contains("2026-03-03T15:00:00Z"), "six hours later");
    assert_eq!(console.post(&path, &paused("perhaps")).await.status, StatusCode::BAD_REQUEST);
}

#[actix_web::test]
async fn plain_ldap_is_warned_about_wherever_the_directory_is_shown() {
    let console = Console::open().await;
    let id = console.connect(&[("servers", "ldap://127.0.0.1:1"), ("tls", "plain"), ("acceptPlaintext", "on")]).await;
    assert_eq!(console.get("/directories").await.count(".badge--warn"), 1);
    let page = console.get(&format!("/directories/{id}")).await;
    assert!(page.count(".badge--warn") >= 1 && page.text(".kv").contains("travel unencrypted"));
}

#[actix_web::test]
async fn a_trial_answers_with_a_block_for_scripts_and_with_the_form_for_others() {
    let console = Console::open().await;
    let fields = form(&[("name", "Not yet")]);
    let page = console.post("/directories/sample", &fields).await;
    assert_eq!((page.status, page.value("name")), (StatusCode::OK, "Not yet".to_owned()));
    assert!(page.text("#sample .notice--danger").contains("No sample could be read"), "{}", page.text("#sample"));
    let block = console.posted(ADMIN, "/directories/probe", &fields).header("hx-request", "true");
    let block = console.send(block).await;
    assert_eq!((block.status, block.count("form, main")), (StatusCode::OK, 0), "{}", block.body);
    assert!(block.count("#probe .steps li[data-state=failed]") >= 1 && block.text(".steps .fix").len() > 10);
    assert_eq!(console.count("SELECT count(*) FROM directory").await, 0, "nothing is saved");
}
