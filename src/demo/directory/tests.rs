//! The sample directory through the door: asked by ldap3, by raw bytes and by `ldapsearch`.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::SocketAddr,
    process::Output,
    sync::Arc,
    time::Duration,
};

use crate::clock::Clock;
use jiff::Timestamp;
use ldap3::{
    Ldap, LdapConnAsync, Scope as LdapScope, SearchEntry, SearchOptions,
    adapters::{EntriesOnly, PagedResults},
    controls::RawControl,
};
use ldap3_proto::parse_ldap_filter_str;
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{
    BASE_DN, Certificate, Limits, READER_DN, SampleDirectory, entry,
    filter::{CONDITIONS_MAX, Filter},
    serve,
    story_tests::{SEED, entries_of, minutes, start, value},
};

struct Served {
    directory: Arc<SampleDirectory>,
    address: SocketAddr,
    server: JoinHandle<std::io::Result<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn served_with(limits: Limits, tls: Option<&Certificate>) -> Served {
    let directory = Arc::new(SampleDirectory::new(SEED, Clock::fixed(start().into())));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(serve(Arc::clone(&directory), listener, tls.map(|tls| Arc::clone(&tls.server)), limits));
    Served { directory, address, server }
}

async fn served() -> Served {
    served_with(Limits::default(), None).await
}

impl Served {
    async fn connect(&self) -> Ldap {
        let (connection, ldap) = LdapConnAsync::new(&format!("ldap://{}", self.address)).await.expect("connects");
        ldap3::drive!(connection);
        ldap
    }

    async fn reader(&self) -> Ldap {
        let mut ldap = self.connect().await;
        let bound = ldap.simple_bind(READER_DN, self.directory.password().expose()).await.expect("an answer");
        assert_eq!(bound.rc, 0);
        ldap
    }

    /// Names of what a filter finds under the suffix.
    async fn find(&self, filter: &str) -> Vec<String> {
        let (entries, _) = self
            .reader()
            .await
            .search(BASE_DN, LdapScope::Subtree, filter, vec!["1.1"])
            .await
            .and_then(ldap3::SearchResult::success)
            .unwrap_or_else(|error| panic!("{filter}: {error}"));
        entries.into_iter().map(|entry| SearchEntry::construct(entry).dn).collect()
    }
}

// --- Filters --------------------------------------------------------------------------------------------------------

#[test]
fn filters_are_true_false_or_undefined() {
    let directory = SampleDirectory::new(SEED, Clock::fixed(start().into()));
    let snapshot = directory.snapshot();
    let group = snapshot.find(&format!("cn=linux-admins,ou=groups,{BASE_DN}")).expect("a group");
    let person = snapshot.find(&format!("uid=svc-backup,ou=services,{BASE_DN}")).expect("an account");
    let manager = value(person, &entry::MANAGER).to_uppercase().replace(",OU", " ,  Ou");
    for (entry, filter, is_match) in [
        (group, "(cn=LINUX-Admins)", true),
        (group, "(cn=linux)", false),
        (group, "(cn=lin*)", true),
        (group, "(cn=*-*)", true),
        (group, "(cn=l*x*mins)", true),
        (group, "(cn=*admins*linux*)", false),
        (group, "(cn=linux-admins*linux-admins)", false),
        (group, "(objectClass=*)", true),
        (group, "(objectclass=PosixGroup)", true),
        (group, "(commonName=linux-admins)", true),
        (group, "(mail=*)", false),
        (group, "(!(mail=*))", true),
        (group, "(gidNumber>=9)", true),
        (group, "(gidNumber<=9)", false),
        (group, "(gidNumber=020010)", true),
        (group, "(gidNumber=many)", false),
        (group, "(!(gidNumber=many))", false),
        (group, "(noSuchAttribute=*)", false),
        (group, "(!(noSuchAttribute=x))", false),
        (group, "(|(noSuchAttribute=x)(cn=linux-admins))", true),
        (group, "(&(!(noSuchAttribute=x))(cn=linux-admins))", false),
        (group, "(cn>=linux)", true),
        (group, "(cn<=linux)", false),
        (group, "(cn:caseExactMatch:=linux-admins)", false),
        (group, "(modifyTimestamp>=20200101000000Z)", true),
        (group, "(modifyTimestamp<=20200101000000Z)", false),
        (person, "(structuralObjectClass=inetorgperson)", true),
        (person, "(manager=not-a-name)", false),
        (person, "(!(manager=not-a-name))", false),
    ] {
        let parsed = parse_ldap_filter_str(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
        assert_eq!(Filter::new(&parsed).expect("small").matches(entry), is_match, "{filter}");
    }
    let spaced = ldap3_proto::LdapFilter::Equality("title".into(), "  service   ACCOUNT ".into());
    assert!(Filter::new(&spaced).expect("small").matches(person), "blanks and case do not count");
    let by_dn = ldap3_proto::LdapFilter::Equality("manager".into(), manager);
    assert!(Filter::new(&by_dn).expect("small").matches(person), "DNs compare as DNs: {by_dn:?}");
    let none = ldap3_proto::LdapFilter::And(Vec::new());
    assert!(Filter::new(&none).expect("small").matches(person), "(&) is true");
    let many = ldap3_proto::LdapFilter::Or(vec![none; CONDITIONS_MAX]);
    assert!(Filter::new(&many).is_err(), "work is bounded");
}

#[test]
fn the_time_of_a_deep_filter_grows_with_its_length_only() {
    let directory = SampleDirectory::new(SEED, Clock::fixed(start().into()));
    let mut filter = ldap3_proto::LdapFilter::Present("objectClass".into());
    for level in 0..100 {
        filter = match level % 2 {
            0 => ldap3_proto::LdapFilter::And(vec![filter]),
            _ => ldap3_proto::LdapFilter::Or(vec![filter]),
        };
    }
    let filter = Filter::new(&filter).expect("small");
    let snapshot = directory.snapshot();
    assert!(snapshot.entries().iter().all(|entry| filter.matches(entry)));
}

// --- The door -------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn only_the_reader_with_its_password_is_let_in() {
    let served = served().await;
    let password = served.directory.password().expose().clone();
    for (dn, password, code) in [
        (READER_DN, password.as_str(), 0),
        ("CN=Bailiwick-Reader, OU=services,dc=alder-finch,DC=example", password.as_str(), 0),
        (READER_DN, "wrong", 49),
        ("uid=svc-backup,ou=services,dc=alder-finch,dc=example", password.as_str(), 49),
        ("not a name", password.as_str(), 49),
        ("", password.as_str(), 49),
        (READER_DN, "", 53),
        ("", "", 0),
    ] {
        let mut ldap = served.connect().await;
        assert_eq!(ldap.simple_bind(dn, password).await.expect("an answer").rc, code, "{dn:?}");
        let found = ldap.search(BASE_DN, LdapScope::Base, "(objectClass=*)", vec!["*"]).await.expect("an answer");
        assert_eq!(found.1.rc, if code == 0 && !dn.is_empty() { 0 } else { 50 }, "{dn:?} reads");
        assert_eq!(found.0.len(), usize::from(code == 0 && !dn.is_empty()));
    }
    // A failed bind takes away what the one before had given.
    let mut ldap = served.reader().await;
    assert_eq!(ldap.simple_bind(READER_DN, "wrong").await.expect("an answer").rc, 49);
    assert_eq!(ldap.search(BASE_DN, LdapScope::Base, "(objectClass=*)", vec!["*"]).await.expect("an answer").1.rc, 50);
}

#[tokio::test]
async fn everybody_may_read_the_root_dse() {
    let served = served().await;
    let mut ldap = served.connect().await;
    let (entries, _) = ldap
        .search("", LdapScope::Base, "(objectClass=*)", vec!["*", "+"])
        .await
        .expect("an answer")
        .success()
        .expect("found");
    let root = SearchEntry::construct(entries.into_iter().next().expect("one"));
    assert_eq!(root.attrs["namingContexts"], [BASE_DN]);
    assert_eq!(root.attrs["supportedLDAPVersion"], ["3"]);
    assert!(root.attrs["supportedControl"].contains(&"1.2.840.113556.1.4.319".to_owned()));
    assert!(root.attrs.contains_key("vendorName"));
    let (entries, _) = ldap
        .search("", LdapScope::Base, "(objectClass=*)", Vec::<&str>::new())
        .await
        .expect("an answer")
        .success()
        .expect("found");
    let root = SearchEntry::construct(entries.into_iter().next().expect("one"));
    assert_eq!(root.attrs.keys().collect::<Vec<_>>(), ["objectClass"], "operational attributes only when asked for");
}

#[tokio::test]
async fn a_paged_search_returns_everything_exactly_once_though_the_organisation_changes() {
    let served = served().await;
    let mut ldap = served.reader().await;
    let expected: BTreeSet<String> =
        entries_of(&served.directory.snapshot(), "inetOrgPerson").map(|person| person.dn.clone()).collect();
    for page in [1, 7, 100, 270, 540, 1000] {
        let adapters: Vec<Box<dyn ldap3::adapters::Adapter<_, _>>> =
            vec![Box::new(EntriesOnly::new()), Box::new(PagedResults::new(page))];
        let mut stream = ldap
            .streaming_search_with(adapters, BASE_DN, LdapScope::Subtree, "(objectClass=inetOrgPerson)", vec!["uid"])
            .await
            .expect("starts");
        let mut seen = Vec::new();
        while let Some(entry) = stream.next().await.expect("an entry") {
            let entry = SearchEntry::construct(entry);
            assert_eq!(entry.attrs.keys().collect::<Vec<_>>(), ["uid"]);
            seen.push(entry.dn);
        }
        assert_eq!(stream.finish().await.rc, 0);
        assert_eq!(seen.len(), expected.len(), "pages of {page}");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected, "pages of {page}");
    }
    let adapters: Vec<Box<dyn ldap3::adapters::Adapter<_, _>>> =
        vec![Box::new(EntriesOnly::new()), Box::new(PagedResults::new(50))];
    let mut stream = ldap
        .streaming_search_with(adapters, BASE_DN, LdapScope::Subtree, "(objectClass=inetOrgPerson)", vec!["1.1"])
        .await
        .expect("starts");
    let mut seen = BTreeSet::new();
    while let Some(entry) = stream.next().await.expect("an entry") {
        if seen.len() % 20 == 0 {
            served.directory.tick(minutes(1 + i64::try_from(seen.len()).expect("small")));
        }
        assert!(seen.insert(SearchEntry::construct(entry).dn));
    }
    assert_eq!(seen, expected, "one snapshot from the first page to the last");
    let after: BTreeSet<String> =
        entries_of(&served.directory.snapshot(), "inetOrgPerson").map(|person| person.dn.clone()).collect();
    assert_ne!(after, expected);
}

/// The paging control: size and cookie.
fn page(size: u8, cookie: &[u8]) -> RawControl {
    let mut value = vec![0x30, u8::try_from(5 + cookie.len()).expect("short"), 0x02, 0x01, size, 0x04];
    value.push(u8::try_from(cookie.len()).expect("short"));
    value.extend(cookie);
    RawControl { ctype: "1.2.840.113556.1.4.319".into(), crit: true, val: Some(value) }
}

#[tokio::test]
async fn a_cookie_is_good_once_for_its_own_search_and_connection() {
    let served = served().await;
    let mut ldap = served.reader().await;
    let mut other = served.reader().await;
    async fn search(ldap: &mut Ldap, filter: &str, control: RawControl) -> (u32, usize, Vec<u8>) {
        let ldap3::SearchResult(entries, result) = ldap
            .with_controls(control)
            .search(BASE_DN, LdapScope::Subtree, filter, vec!["1.1"])
            .await
            .expect("an answer");
        let cookie = result.ctrls.first().and_then(|control| control.1.val.clone()).unwrap_or_default();
        // SEQUENCE { INTEGER, OCTET STRING of 16 }: the cookie is at the end, if there is one.
        let cookie = if cookie.len() > 16 { cookie[cookie.len() - 16..].to_vec() } else { Vec::new() };
        (result.rc, entries.len(), cookie)
    }
    let people = "(objectClass=inetOrgPerson)";
    let (rc, count, first) = search(&mut ldap, people, page(10, b"")).await;
    assert_eq!((rc, count, first.len()), (0, 10, 16));
    assert_eq!(search(&mut other, people, page(10, &first)).await.0, 53, "another connection's");
    let (rc, count, second) = search(&mut ldap, people, page(10, &first)).await;
    assert_eq!((rc, count), (0, 10));
    assert_eq!(search(&mut ldap, people, page(10, &first)).await.0, 53, "used");
    assert_eq!(search(&mut ldap, "(uid=*)", page(10, &second)).await.0, 53, "another search's");
    let (_, _, third) = search(&mut ldap, people, page(10, b"")).await;
    let (rc, count, none) = search(&mut ldap, people, page(0, &third)).await;
    assert_eq!((rc, count, none.len()), (0, 0, 0), "given up");
    assert_eq!(search(&mut ldap, people, page(10, &third)).await.0, 53);
    let (_, _, oldest) = search(&mut ldap, people, page(10, b"")).await;
    for _ in 0..4 {
        search(&mut ldap, people, page(10, b"")).await;
    }
    assert_eq!(search(&mut ldap, people, page(10, &oldest)).await.0, 53, "open searches are bounded");
}

#[tokio::test]
async fn scopes_limits_and_selections_are_what_was_asked_for() {
    let served = served().await;
    let mut ldap = served.reader().await;
    let snapshot = served.directory.snapshot();
    let contractors = format!("ou=contractors,ou=people,{BASE_DN}");
    for (base, scope, count) in [
        (BASE_DN, LdapScope::Base, 1),
        (BASE_DN, LdapScope::OneLevel, 3),
        (BASE_DN, LdapScope::Subtree, snapshot.entries().len()),
        ("OU=Contractors , ou=People,dc=alder-finch,dc=example", LdapScope::OneLevel, 32),
        (&contractors, LdapScope::Subtree, 33),
        (
            r"cn=Quill\, Barnaby \+ Sons \\ Carpentry,ou=contractors,ou=people,dc=alder-finch,dc=example",
            LdapScope::Subtree,
            1,
        ),
    ] {
        let found = ldap.search(base, scope, "(objectClass=*)", vec!["1.1"]).await.expect("an answer").success();
        assert_eq!(found.expect("found").0.len(), count, "{base}");
    }
    let missing = ldap
        .search(&format!("ou=x,{contractors}"), LdapScope::Subtree, "(uid=*)", vec!["1.1"])
        .await
        .expect("an answer");
    assert_eq!((missing.1.rc, missing.1.matched), (32, contractors.clone()));
    let elsewhere = ldap.search("dc=elsewhere", LdapScope::Subtree, "(uid=*)", vec!["1.1"]).await.expect("an answer");
    assert_eq!((elsewhere.1.rc, elsewhere.1.matched.as_str()), (32, ""));
    assert_eq!(ldap.search("nonsense", LdapScope::Subtree, "(uid=*)", vec!["1.1"]).await.expect("an answer").1.rc, 34);

    ldap.with_search_options(SearchOptions::new().sizelimit(5));
    let cut = ldap.search(BASE_DN, LdapScope::Subtree, "(uid=*)", vec!["1.1"]).await.expect("an answer");
    assert_eq!((cut.0.len(), cut.1.rc), (5, 4));
    ldap.with_search_options(SearchOptions::new().sizelimit(1));
    let whole = ldap.search(BASE_DN, LdapScope::Base, "(objectClass=*)", vec!["1.1"]).await.expect("an answer");
    assert_eq!((whole.0.len(), whole.1.rc), (1, 0), "a limit that is just reached cuts nothing");
    ldap.with_search_options(SearchOptions::new().typesonly(true));
    let types =
        ldap.search(BASE_DN, LdapScope::Base, "(objectClass=*)", vec!["DC", "ENTRYuuid"]).await.expect("an answer").0;
    let types = SearchEntry::construct(types.into_iter().next().expect("one"));
    assert_eq!(
        types.attrs.into_iter().collect::<BTreeMap<_, _>>(),
        BTreeMap::from([("dc".into(), vec![]), ("entryUUID".into(), vec![])])
    );

    let one = |names: Vec<&'static str>| {
        let mut ldap = ldap.clone();
        async move {
            let (entries, _) = ldap
                .search(BASE_DN, LdapScope::Subtree, "(uid=svc-legacy-crm)", names)
                .await
                .expect("an answer")
                .success()
                .expect("found");
            SearchEntry::construct(entries.into_iter().next().expect("one")).attrs
        }
    };
    assert!(one(vec!["1.1"]).await.is_empty());
    let user = one(vec![]).await;
    assert!(
        user.contains_key("title") && !user.contains_key("entryUUID") && !user.contains_key("pwdAccountLockedTime")
    );
    let all = one(vec!["*", "+"]).await;
    assert_eq!(all["pwdAccountLockedTime"], ["000001010000Z"]);
    assert!(all.contains_key("title") && all.contains_key("entryCSN"));
}

#[tokio::test]
async fn filters_work_over_the_wire() {
    let served = served().await;
    let snapshot = served.directory.snapshot();
    let berlin = entries_of(&snapshot, "inetOrgPerson").filter(|p| value(p, &entry::L) == "Berlin").count();
    assert_eq!(served.find("(&(objectClass=inetOrgPerson)(l=berlin))").await.len(), berlin);
    assert_eq!(served.find("(&(objectClass=inetOrgPerson)(!(l=berlin)))").await.len(), 540 - berlin);
    assert_eq!(served.find("(mail=workshop.lisboa@*)").await.len(), 2);
    assert_eq!(served.find(r"(cn=Quill, Barnaby + Sons \5c Carpentry)").await.len(), 1);
    let person = entries_of(&snapshot, "inetOrgPerson").find(|p| !value(p, &entry::SN).is_ascii()).expect("one");
    let found = served.find(&format!("(sn={})", value(person, &entry::SN).to_uppercase())).await;
    assert!(found.contains(&person.dn));
    let member_of = served.find(&format!("(member={})", ldap3::ldap_escape(person.dn.as_str()))).await;
    assert!(member_of.len() >= 2, "team and site at least: {member_of:?}");
}

#[tokio::test]
async fn everything_but_reading_is_refused_in_words() {
    let served = served().await;
    let mut ldap = served.reader().await;
    let entry = format!("uid=svc-backup,ou=services,{BASE_DN}");
    assert_eq!(ldap.delete(&entry).await.expect("an answer").rc, 53);
    assert_eq!(ldap.add(&entry, vec![("cn", HashSet::from(["x"]))]).await.expect("an answer").rc, 53);
    let change = ldap3::Mod::Replace("title", HashSet::from(["x"]));
    assert_eq!(ldap.modify(&entry, vec![change]).await.expect("an answer").rc, 53);
    assert_eq!(ldap.modifydn(&entry, "uid=x", true, None).await.expect("an answer").rc, 53);
    assert_eq!(ldap.compare(&entry, "title", "SERVICE account").await.expect("an answer").0.rc, 6);
    assert_eq!(ldap.compare(&entry, "title", "x").await.expect("an answer").0.rc, 5);
    let start_tls = ldap3::exop::Exop { name: Some("1.3.6.1.4.1.1466.20037".into()), val: None };
    assert_eq!(ldap.extended(start_tls).await.expect("an answer").1.rc, 2);
    let who = ldap.extended(ldap3::exop::WhoAmI).await.expect("an answer").0;
    assert_eq!(who.parse::<ldap3::exop::WhoAmIResp>().authzid, format!("dn:{READER_DN}"));
    for (crit, code) in [(true, 12), (false, 0)] {
        let unknown = RawControl { ctype: "1.2.3.4".into(), crit, val: None };
        let found = ldap.with_controls(unknown).search(BASE_DN, LdapScope::Base, "(objectClass=*)", vec!["1.1"]).await;
        assert_eq!(found.expect("an answer").1.rc, code);
    }
    assert_eq!(
        ldap.search(BASE_DN, LdapScope::Base, "(objectClass=*)", vec!["1.1"]).await.expect("still there").1.rc,
        0
    );
}

// --- Hostile bytes --------------------------------------------------------------------------------------------------

/// What the server says until it hangs up. A reset counts as hanging up: it closed with our bytes unread.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    match tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await {
        Ok(_) => answer,
        Err(_) => panic!("the connection is still open"),
    }
}

#[tokio::test]
async fn garbage_and_huge_lengths_end_the_connection_and_nothing_else() {
    let served = served().await;
    let mut standing = served.reader().await;
    let deep = |levels: usize| {
        let mut bytes = vec![0x30, 0x83, 0, 0xF0, 0, 0x02, 0x01, 0x01, 0x63, 0x83, 0, 0xEF, 0xF8];
        bytes.extend([0xA0, 0x82, 0x7F, 0xFF].repeat(levels));
        bytes.resize(5 + 0xF000, 0xA0);
        bytes
    };
    let nested_whole = {
        let mut inner = vec![0x05, 0x00];
        for _ in 0..5000 {
            let mut outer = vec![0x30, 0x82];
            outer.extend(u16::try_from(inner.len()).expect("short").to_be_bytes());
            outer.extend(inner);
            inner = outer;
        }
        let mut message = vec![0x30, 0x82];
        message.extend(u16::try_from(inner.len() + 3).expect("short").to_be_bytes());
        message.extend([0x02, 0x01, 0x01]);
        message.push(0x77);
        message.extend(&inner[1..]);
        message
    };
    for (name, bytes) in [
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("a TLS greeting", vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01]),
        ("zeros", vec![0; 200_000]),
        ("a length of 4 GB", vec![0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]),
        ("a length of 2^64", vec![0x30, 0x88, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
        ("a length of 127 bytes", [vec![0x30, 0xFF], vec![0xFF; 127]].concat()),
        ("a length just over the limit", vec![0x30, 0x83, 0x01, 0x00, 0x01]),
        ("an indefinite length", vec![0x30, 0x80, 0x02, 0x01, 0x01]),
        ("no message id", vec![0x30, 0x05, 0x04, 0x01, 0x01, 0x42, 0x00]),
        ("a huge message id", vec![0x30, 0x0A, 0x02, 0x09, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("a response", vec![0x30, 0x0C, 0x02, 0x01, 0x01, 0x65, 0x07, 0x0A, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00]),
        ("an unknown operation", vec![0x30, 0x05, 0x02, 0x01, 0x01, 0x7E, 0x00]),
        ("an empty sequence", vec![0x30, 0x00, 0x30, 0x00]),
        ("an empty search", vec![0x30, 0x05, 0x02, 0x01, 0x01, 0x63, 0x00]),
        ("deep nesting, cut short", deep(3000)),
        ("deep nesting, whole", nested_whole),
    ] {
        let mut stream = TcpStream::connect(served.address).await.expect("connects");
        // The server may hang up while we still write: that is what is asked for.
        let _ = stream.write_all(&bytes).await;
        let answer = until_closed(&mut stream).await;
        assert!(answer.len() < 200, "{name}: {} bytes", answer.len());
    }
    let found = standing.search(BASE_DN, LdapScope::Base, "(objectClass=*)", vec!["1.1"]).await.expect("still there");
    assert_eq!(found.1.rc, 0);
    assert!(!served.server.is_finished());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_codec_panic_or_hold_more_than_a_message(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        at in 0_usize..60,
        is_mutated in any::<bool>(),
    ) {
        use tokio_util::{bytes::BytesMut, codec::Decoder as _};
        // A valid search with some of its bytes replaced gets further than noise alone.
        let valid = b"\x30\x2d\x02\x01\x02\x63\x28\x04\x0adc=example\x0a\x01\x02\x0a\x01\x00\x02\x01\x00\x02\x01\x00\x01\x01\x00\xa3\x09\x04\x03uid\x04\x02ab\x30\x00".to_vec();
        let mut bytes = if is_mutated { valid } else { Vec::new() };
        for (offset, byte) in noise.iter().enumerate() {
            match bytes.get_mut(at + offset).filter(|_| offset < 3) {
                Some(slot) => *slot = *byte,
                None => bytes.push(*byte),
            }
        }
        let mut codec = super::server::tests_only_codec(1024);
        let mut buffer = BytesMut::new();
        for chunk in bytes.chunks(16) {
            buffer.extend_from_slice(chunk);
            match codec.decode(&mut buffer) {
                Ok(_) => prop_assert!(buffer.len() <= 2048),
                Err(_) => break,
            }
        }
    }
}

#[tokio::test]
async fn idle_and_surplus_connections_are_closed() {
    let served = served_with(Limits { connections_max: 2, idle_ms: 150, ..Limits::default() }, None).await;
    let mut first = TcpStream::connect(served.address).await.expect("connects");
    let _second = TcpStream::connect(served.address).await.expect("connects");
    let mut third = TcpStream::connect(served.address).await.expect("connects");
    assert!(until_closed(&mut third).await.is_empty(), "one too many");
    let notice = until_closed(&mut first).await;
    assert!(notice.windows(17).any(|text| text == b"idle for too long"), "{notice:?}");
    // Both slots come back.
    let mut ldap = loop {
        let stream = TcpStream::connect(served.address).await;
        drop(stream);
        let Ok((connection, mut ldap)) = LdapConnAsync::new(&format!("ldap://{}", served.address)).await else {
            continue;
        };
        ldap3::drive!(connection);
        if ldap.simple_bind("", "").await.is_ok() {
            break ldap;
        }
    };
    assert_eq!(ldap.simple_bind(READER_DN, "wrong").await.expect("an answer").rc, 49);
}

#[tokio::test]
async fn a_listener_beyond_loopback_is_refused() {
    let directory = Arc::new(SampleDirectory::new(SEED, Clock::fixed(start().into())));
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let error = serve(directory, listener, None, Limits::default()).await.expect_err("refused");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

// --- ldapsearch -----------------------------------------------------------------------------------------------------

async fn ldapsearch(url: &str, ca: &std::path::Path, password: &str, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new("ldapsearch");
    command
        .env("LDAPTLS_CACERT", ca)
        .env("LDAPTLS_REQCERT", "demand")
        .args(["-x", "-LLL", "-o", "ldif-wrap=no", "-H", url, "-D", READER_DN, "-w", password])
        .args(arguments);
    // Off the async thread, on which the server answers.
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    output.expect("ldapsearch (Debian package ldap-utils) is there")
}

#[tokio::test]
async fn ldapsearch_reads_it_over_tls_with_the_certificate_checked() {
    let certificate = Certificate::new(Timestamp::now()).expect("a certificate");
    let served = served_with(Limits::default(), Some(&certificate)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &certificate.ca_pem).expect("written");
    let port = served.address.port();
    let password = served.directory.password().expose();
    // By address: for "localhost" libldap wants the machine's own name in the certificate.
    let url = format!("ldaps://127.0.0.1:{port}");
    let paged = ["-E", "pr=100/noprompt", "-b", BASE_DN, "(objectClass=inetOrgPerson)", "*", "+"];
    let output = ldapsearch(&url, &ca, password, &paged).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("LDIF is ASCII");
    assert_eq!(text.lines().filter(|line| line.starts_with("dn:")).count(), 540);
    assert_eq!(text.lines().filter(|line| line.starts_with("entryUUID:")).count(), 540);
    let output = ldapsearch(
        &url,
        &ca,
        password,
        &["-b", BASE_DN, "(|(cn=VPN users)(&(cn=Finance*Audit)(objectClass=groupOfNames)))", "cn"],
    )
    .await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("cn: VPN users") && text.contains(r"dn: cn=Finance\2c Controlling \2b Audit,ou=groups"),
        "{text}"
    );
    let output = ldapsearch(&url, &ca, "wrong", &["-b", BASE_DN]).await;
    assert_eq!(output.status.code(), Some(49));
    let other = Certificate::new(Timestamp::now()).expect("another");
    std::fs::write(&ca, &other.ca_pem).expect("written");
    assert!(
        !ldapsearch(&url, &ca, password, &["-b", BASE_DN]).await.status.success(),
        "another authority is not trusted"
    );
}
