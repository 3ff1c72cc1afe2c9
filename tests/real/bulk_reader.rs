//! The product's own LDAP reader against `ldapsearch` and ldap3, on the same data, byte for byte.

use std::collections::BTreeMap;

use bailiwick::connectors::ldap::{Client, Credentials, EntryView, Scope, SearchRequest, Way, inbox::Plainly};
use serde_json::json;

use crate::fixtures::{
    ldapsearch::{self, Entry},
    people::SUFFIX,
    slapd::{SYNC_DN, SYNC_PASSWORD, Slapd, ca_pem},
    truth::{GROUP_FILTER, USER_FILTER},
};

fn client(slapd: &Slapd, is_encrypted: bool) -> Client {
    let credentials: Credentials =
        serde_json::from_value(json!({"bindDn": SYNC_DN, "password": SYNC_PASSWORD})).expect("credentials");
    let url = if is_encrypted { slapd.tls_url() } else { slapd.url() };
    let servers = [url];
    let way = Way { servers: &servers, start_tls: false, ca_pem: Some(ca_pem()), accept_plaintext: !is_encrypted };
    Client::new(way, credentials)
}

/// All entries, in the server's order.
async fn read(slapd: &Slapd, is_encrypted: bool, filter: &str, attributes: &[&str], page_size: u32) -> Vec<Entry> {
    let client = client(slapd, is_encrypted);
    let trust = client.trust().expect("authorities");
    let mut connection =
        client.open(&client.endpoints().await.expect("listed")[0], trust.as_ref()).await.expect("a connection");
    let mut search = connection.search(SearchRequest {
        base: SUFFIX.to_owned(),
        scope: Scope::Sub,
        filter: filter.to_owned(),
        attributes: attributes.iter().map(|&name| name.to_owned()).collect(),
        page_size,
        entries_max: None,
    });
    let mut all = Vec::new();
    while let Some(chunk) = search.next(&mut Plainly).await.expect("read") {
        for body in chunk.entries() {
            let entry = EntryView::read(body).expect("an entry");
            let mut attributes: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
            for (name, values) in entry.attributes() {
                let name = String::from_utf8(name.to_vec()).expect("ASCII");
                attributes.entry(name).or_default().extend(values.map(<[u8]>::to_vec));
            }
            all.push(Entry { dn: String::from_utf8(entry.dn.to_vec()).expect("UTF-8"), attributes });
        }
    }
    assert_eq!(search.entries(), all.len() as u64);
    connection.close().await;
    all
}

/// The same by ldap3, straight at the server.
async fn read_by_ldap3(slapd: &Slapd, filter: &str, attributes: &[&str]) -> Vec<Entry> {
    let (connection, mut ldap) = ldap3::LdapConnAsync::new(&slapd.url()).await.expect("ldap3 connects");
    ldap3::drive!(connection);
    ldap.simple_bind(SYNC_DN, SYNC_PASSWORD).await.expect("bound").success().expect("bound");
    let found = ldap.search(SUFFIX, ldap3::Scope::Subtree, filter, attributes).await.expect("searched");
    let (found, _) = found.success().expect("all of it");
    let entries = found.into_iter().map(|entry| {
        let entry = ldap3::SearchEntry::construct(entry);
        let texts = entry.attrs.into_iter().map(|(name, values)| (name, values.into_iter().map(String::into_bytes)));
        let mut attributes: BTreeMap<String, Vec<Vec<u8>>> =
            texts.map(|(name, values)| (name, values.collect())).collect();
        // ldap3 keeps the values of an attribute that are not text, and only those, apart.
        for (name, values) in entry.bin_attrs {
            attributes.entry(name).or_default().extend(values);
        }
        Entry { dn: entry.dn, attributes }
    });
    entries.collect()
}

/// An attribute without values is not printed by ldapsearch; the order of values is kept where all keep it.
fn comparable(entries: Vec<Entry>) -> Vec<Entry> {
    let mut entries = entries;
    for entry in &mut entries {
        entry.attributes.retain(|_, values| !values.is_empty());
    }
    entries
}

/// ldap3 sorts text from bytes, so that only the set of values can be compared with it.
fn without_order(entries: &[Entry]) -> Vec<Entry> {
    let mut entries = entries.to_vec();
    for values in entries.iter_mut().flat_map(|entry| entry.attributes.values_mut()) {
        values.sort_unstable();
    }
    entries
}

#[tokio::test]
async fn the_bulk_reader_agrees_with_ldapsearch_and_ldap3_byte_for_byte() {
    let slapd = Slapd::shared();
    for (filter, attributes) in [
        (USER_FILTER, &["*", "+"][..]),
        (USER_FILTER, &["uid", "mail", "jpegPhoto", "userCertificate;binary"]),
        (GROUP_FILTER, &["*", "entryUUID"]),
        ("(&(objectClass=person)(!(uid=u*))(|(cn=*a*)(sn>=m)))", &["cn"]),
        ("(objectClass=noSuchClass)", &["*"]),
    ] {
        let ours = comparable(read(slapd, false, filter, attributes, 100).await);
        let theirs = comparable(ldapsearch::search(slapd, SUFFIX, filter, attributes));
        assert!(ours == theirs, "{filter}: {} entries by us, {} by ldapsearch", ours.len(), theirs.len());
        let by_ldap3 = comparable(read_by_ldap3(slapd, filter, attributes).await);
        assert!(without_order(&ours) == without_order(&by_ldap3), "{filter}: ldap3 reads something else");
    }
}

#[tokio::test]
async fn what_is_read_depends_neither_on_the_page_size_nor_on_tls() {
    let slapd = Slapd::shared();
    let expected = read(slapd, false, USER_FILTER, &["*", "entryUUID"], 1_000).await;
    assert_eq!(expected.len(), slapd.shape().people);
    for (is_encrypted, page_size) in [(false, 0), (false, 7), (true, 1_000), (true, 333), (true, 0)] {
        let read = read(slapd, is_encrypted, USER_FILTER, &["*", "entryUUID"], page_size).await;
        assert!(read == expected, "TLS {is_encrypted}, pages of {page_size}: {} entries", read.len());
    }
}
