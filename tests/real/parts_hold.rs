//! The fixtures themselves: a wrong fixture would make every other test lie.

use std::collections::BTreeSet;

use crate::fixtures::{
    ldapsearch,
    people::{GROUPS, NEST_DEPTH, ODD_UNIT, PEOPLE, SUFFIX, Shape, TWIN_MAIL},
    programs::{Running, wait_until},
    proxy::Proxy,
    slapd::{Certificate, LIMITED_DN, Options, SYNC_DN, SYNC_PASSWORD, Slapd, UNPAGED_DN, ca_pem},
    truth::{Member, Truth, normalise},
};

#[test]
fn the_directory_holds_every_oddity() {
    let slapd = Slapd::shared();
    let truth = Truth::read(slapd);
    assert_eq!(truth.people.len(), Shape::SMALL.people);
    let person = |uid: &str| &truth.people[truth.person(uid)];

    assert_eq!(person("odd-japanese").text("cn").as_deref(), Some("太郎 山田"));
    assert!(person("odd-photo").attributes["jpegPhoto"][0].starts_with(&[0xff, 0xd8]));
    assert!(person("odd-certificate").attributes["userCertificate;binary"][0].starts_with(&[0x30, 0x82]));
    assert!(std::str::from_utf8(&person("odd-audio").attributes["audio"][0]).is_err());
    assert_eq!(person("odd-mails").texts("mail").len(), 4);
    assert!(person("odd-no-mail").texts("mail").is_empty());
    assert_eq!(truth.people.values().filter(|entry| entry.texts("mail") == [TWIN_MAIL]).count(), 2);
    assert!(person("odd-control").text("description").expect("there").contains('\0'));
    assert_eq!(person("odd-long").text("description").expect("there").len(), 65_536);
    assert!(person("odd-language").attributes.contains_key("cn;lang-ja"));
    assert_eq!(person("odd-leading-space").texts("cn"), ["Lead Space", " leading"]);
    assert_eq!(person("odd-trailing-space").texts("cn"), ["Trail Space", "trailing "]);
    assert_eq!(person("odd-locked").texts("pwdAccountLockedTime"), ["20260101000000Z"]);
    assert_eq!(person("odd-permanently-locked").texts("pwdAccountLockedTime"), ["000001010000Z"]);
    assert_eq!(person("odd-must-change").texts("pwdReset"), ["TRUE"]);
    assert_eq!(person("odd-expired").texts("pwdChangedTime"), ["20200101000000Z"]);
    assert!(!person("u000500").texts("userPassword").is_empty(), "the sync account may read what must not be kept");
    for (uid, needs) in [
        ("odd-comma", "\\2C"),
        ("odd-plus", "\\2B"),
        ("odd-backslash", "\\5C"),
        ("odd-leading-space", "\\20"),
        ("odd-trailing-space", "\\20"),
        ("odd-quotes", "\\22"),
        ("odd-unit", "\\2C"),
        ("odd-multi-rdn", "+"),
    ] {
        let dn = &person(uid).dn;
        assert!(dn.contains(needs), "{uid}: {dn}");
    }
}

#[test]
fn groups_of_all_classes_are_nested_and_point_where_they_should() {
    let truth = Truth::read(Slapd::shared());
    let group = |cn: &str| truth.group(&format!("cn={cn},{GROUPS}")).to_owned();
    for class in ["groupOfNames", "groupOfUniqueNames", "posixGroup"] {
        assert!(truth.groups.values().filter(|entry| entry.is_a(class)).count() > 2, "{class}");
    }
    assert_eq!(truth.effective(&group("nest-0")).len(), NEST_DEPTH);
    assert_eq!(truth.effective(&group("diamond-top")).len(), 3);
    assert_eq!(truth.effective(&group("cycle-b")).len(), 3);
    assert_eq!(truth.effective(&group("cycle-self")).len(), 1);
    assert_eq!(truth.effective(&group("posix-parent")).len(), 3);
    assert_eq!(truth.effective(&group("giant")).len(), Shape::SMALL.giant);
    assert_eq!(truth.effective(&group("giant-parent")).len(), Shape::SMALL.giant + 1);
    assert_eq!(truth.effective(&group("respelt")).len(), 4, "other spellings of a DN are the same DN");
    assert_eq!(truth.members[&group("empty")].len(), 0);
    let dangling: BTreeSet<_> =
        truth.members.values().flatten().filter(|member| matches!(member, Member::Dangling(_))).collect();
    let expected = [Member::Dangling("nobody-here".into()), Member::Dangling(format!("cn=nobody,{SUFFIX}"))];
    assert_eq!(dangling, BTreeSet::from_iter(&expected));
    // memberOf in the data is what the overlay would have written.
    let with_member_of = truth.people.values().map(|entry| entry.texts("memberOf").len()).sum::<usize>();
    let in_group_of_names = truth
        .members
        .iter()
        .filter(|(id, _)| truth.groups[*id].is_a("groupOfNames"))
        .flat_map(|(_, members)| members)
        .filter(|member| matches!(member, Member::Person(_)))
        .count();
    assert!(
        with_member_of.abs_diff(in_group_of_names) <= 4,
        "{with_member_of} {in_group_of_names}: only `respelt` differs"
    );
}

#[test]
fn spellings_of_one_dn_are_one() {
    for (one, other) in [
        ("cn=Smith\\, John,ou=p", "CN=smith\\2c JOHN , OU=P"),
        ("cn=\\ lead,dc=x", "cn=\\20lead,dc=x"),
        ("cn=a+uid=b,dc=x", "UID=B + CN=A,dc=x"),
        ("cn=R\\+D,dc=x", "cn=R\\2BD,dc=x"),
        ("cn=back\\\\slash,dc=x", "cn=back\\5Cslash,dc=x"),
    ] {
        assert_eq!(normalise(one), normalise(other), "{one}");
    }
    assert_ne!(normalise("cn=a\\,b,dc=x"), normalise("cn=a,b,dc=x"));
    assert_ne!(normalise("cn=a\\+b=c,dc=x"), normalise("cn=a+b=c,dc=x"));
}

#[test]
fn the_reader_of_ldif_unfolds_and_decodes() {
    let entries = ldapsearch::parse(
        b"# comment\ndn: cn=a,dc=x\ncn: a\ndescription: long\n  line\njpegPhoto:: /9j/\n 4A==\n\ndn:: Y249w7w=\ncn:: w7w=\n\n",
    );
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].texts("description"), ["long line"]);
    assert_eq!(entries[0].attributes["jpegPhoto"], [vec![0xff, 0xd8, 0xff, 0xe0]]);
    assert_eq!(entries[1].dn, "cn=ü");
    assert_eq!(entries[1].texts("cn"), ["ü"]);
}

/// Whether ldapwhoami gets in by LDAPS, and by StartTLS, when it trusts only the tests' authority.
fn tls_works(slapd: &Slapd) -> (bool, bool) {
    let ca = slapd.folder().join("trusted.pem");
    std::fs::write(&ca, ca_pem()).expect("written");
    let try_with = |arguments: &[&str]| {
        let mut command = std::process::Command::new("ldapwhoami");
        command.env("LDAPTLS_CACERT", &ca).env("LDAPTLS_REQCERT", "demand");
        command.arg("-x").args(arguments).output().expect("ldapwhoami is installed").status.success()
    };
    (try_with(&["-H", &slapd.tls_url()]), try_with(&["-ZZ", "-H", &slapd.url()]))
}

#[test]
fn each_certificate_is_good_or_bad_as_named() {
    for (certificate, expected) in [
        (Certificate::Valid, (true, true)),
        (Certificate::Expired, (false, false)),
        (Certificate::WrongName, (false, false)),
        (Certificate::SelfSigned, (false, false)),
        (Certificate::None, (false, false)),
    ] {
        let slapd = Slapd::start(Options::small().with(certificate));
        assert_eq!(tls_works(&slapd), expected, "{certificate:?}");
    }
}

#[test]
fn a_server_comes_back_with_its_data_after_a_kill() {
    let slapd = Slapd::start(Options::small());
    slapd.modify(&format!("dn: uid=u000200,{PEOPLE}\nchangetype: modify\nreplace: mail\nmail: kept@example.test\n"));
    slapd.rename(&format!("uid=u000201,{PEOPLE}"), "uid=renamed");
    slapd.relocate(&format!("uid=u000202,{PEOPLE}"), "uid=u000202", ODD_UNIT);
    slapd.delete(&format!("uid=u000203,{PEOPLE}"));
    slapd.kill();
    assert!(std::net::TcpStream::connect(("127.0.0.1", slapd.port)).is_err());
    slapd.restart();
    let truth = Truth::read(&slapd);
    assert_eq!(truth.people.len(), Shape::SMALL.people - 1);
    assert_eq!(truth.people[truth.person("u000200")].texts("mail"), ["kept@example.test"]);
    assert!(truth.people[truth.person("u000202")].dn.contains("odd"));
    truth.person("renamed");
}

#[test]
fn limits_bite_for_the_limited_accounts_only() {
    let slapd = Slapd::shared();
    for (dn, paged, fits) in [(LIMITED_DN, true, false), (LIMITED_DN, false, false), (UNPAGED_DN, true, false)] {
        let mut command = slapd.tool("ldapsearch");
        command.args(["-LLL", "-D", dn, "-w", SYNC_PASSWORD, "-b", PEOPLE, "(objectClass=inetOrgPerson)", "1.1"]);
        if paged {
            command.args(["-E", "pr=100/noprompt"]);
        }
        let output = command.output().expect("ldapsearch is installed");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), fits, "{dn} paged={paged}: {complaint}");
        let found = String::from_utf8_lossy(&output.stdout).matches("dn:").count();
        assert!(found <= 500, "{dn} paged={paged}: {found}");
    }
}

#[test]
fn three_wrong_passwords_lock_an_account() {
    let slapd = Slapd::start(Options::small());
    let dn = format!("uid=u000300,{PEOPLE}");
    assert!(slapd.accepts(&dn, "canary-secret-u000300"));
    for _ in 0..3 {
        assert!(!slapd.accepts(&dn, "wrong"));
    }
    assert!(!slapd.accepts(&dn, "canary-secret-u000300"));
    assert_eq!(ldapsearch::entry(&slapd, &dn).texts("pwdAccountLockedTime").len(), 1);
}

#[test]
fn the_wire_can_be_stopped_and_cut_in_the_middle_of_an_answer() {
    let slapd = Slapd::shared();
    let wire = Proxy::start(slapd.port);
    let search = || {
        let mut command = std::process::Command::new("ldapsearch");
        command.env("LDAPNOINIT", "1").args(["-x", "-LLL", "-H", &format!("ldap://127.0.0.1:{}", wire.port)]);
        command.args(["-D", SYNC_DN, "-w", SYNC_PASSWORD, "-b", PEOPLE, "(objectClass=inetOrgPerson)", "cn"]);
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("ldapsearch is installed")
    };
    let whole = search().wait_with_output().expect("it ends");
    assert!(whole.status.success());
    for goes_on in [true, false] {
        wire.stall_after(10_000);
        let running = search();
        wire.wait_until_stalled();
        if goes_on {
            wire.release();
        } else {
            wire.cut();
        }
        let output = running.wait_with_output().expect("it ends");
        assert_eq!(output.status.success(), goes_on);
        assert_eq!(output.stdout.len() == whole.stdout.len(), goes_on);
    }
}

#[test]
fn a_program_and_its_files_end_with_their_owner() {
    let folders = tempfile::tempdir().expect("a folder");
    let start = |name: &str| {
        let folder = folders.path().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        (Running::start(None, std::path::Path::new("/bin/sleep"), &["1000".to_owned()], &folder), folder)
    };
    let is_alive = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    };
    let (running, folder) = start("dropped");
    let pid = running.pid();
    assert!(is_alive(pid));
    drop(running);
    assert!(!is_alive(pid) && !folder.exists());

    // When nobody drops it, because the tests themselves were killed: the pipe closes all the same.
    let (mut running, folder) = start("abandoned");
    let pid = running.pid();
    running.let_go_of_the_pipe();
    wait_until("the program is gone", std::time::Duration::from_secs(10), || !is_alive(pid) && !folder.exists());

    // What was killed on purpose may start again on the same files.
    let (mut running, folder) = start("killed");
    running.kill();
    assert!(!is_alive(running.pid()));
    drop(running);
    assert!(folder.exists());
}

mod long {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_large_directory_is_as_large_as_it_says() {
        for shape in [Shape::LARGE, Shape::BENCH] {
            let begun = Instant::now();
            let slapd = Slapd::start(Options::of(shape));
            println!("{} people ready after {:?}", shape.people, begun.elapsed());
            let truth = Truth::read_attributes(&slapd, &["*"]);
            println!("and read by ldapsearch after {:?}", begun.elapsed());
            assert_eq!(truth.people.len(), shape.people);
            let largest = truth.members.values().map(BTreeSet::len).max().expect("groups");
            assert_eq!(largest, shape.giant.max(shape.members));
            assert!(truth.membership_count() >= shape.groups * shape.members + shape.giant);
            assert!(truth.groups.len() >= shape.groups);
        }
    }
}
