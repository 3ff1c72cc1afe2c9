//! The first, cheap look at an account: its id, the fingerprint by which an unchanged one is known, and its primary group.
//!
//! Owns what goes into a [`Source`]: the mapping's settings, the bytes of the entry as they came, and the status, which
//! time alone can change. This runs once per account of every reading.

use aws_lc_rs::digest;

use super::{
    forms::{self, Signs},
    groups::Primary,
    mapping,
    settings::{DEFAULT_SOURCES, Settings},
};
use crate::connectors::{
    Keys, Sighting, Source,
    ldap::{
        EntryView, Values,
        answer::Violation,
        dn,
        inbox::{Look, RawEntry},
    },
};

/// Raised whenever the mapping reads the same bytes in another way, so that everything is mapped anew once.
const MAPPING_VERSION: u32 = 2;

/// Parts of the directory that are left out, normalised.
#[derive(Debug, Clone, Default)]
pub struct Excluded(pub Vec<String>);

impl Excluded {
    pub fn holds(&self, entry: &EntryView<'_>) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let normal = std::str::from_utf8(entry.dn).ok().and_then(|dn| dn::normalise(dn).ok());
        normal.is_some_and(|normal| self.0.iter().any(|base| dn::is_within(&normal, base)))
    }
}

/// Looks at accounts as they come. One per reading.
#[derive(Debug)]
pub struct AccountLook {
    fingerprint: [u8; 32],
    excluded: Excluded,
    now_second: i64,
    pub primary: Primary,
}

impl AccountLook {
    pub fn new(settings: &Settings, now_second: i64) -> Self {
        let text = format!("{MAPPING_VERSION} accounts {:?}", settings.mapping.sources(&DEFAULT_SOURCES));
        Self {
            fingerprint: crate::secret::sha256(text.as_bytes()),
            excluded: Excluded(settings.excluded()),
            now_second,
            primary: Primary::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Glance<'a> {
    guid: Option<&'a [u8]>,
    primary: Option<&'a str>,
    sid: Option<&'a [u8]>,
    signs: Signs<'a>,
}

impl<'a> Glance<'a> {
    #[inline]
    fn attribute(&mut self, name: &[u8], values: Values<'a>) {
        // Most names are told apart by their length.
        let slot = match name.len() {
            10 if name.eq_ignore_ascii_case(b"objectGUID") => {
                self.guid = values.first();
                return;
            }
            9 if name.eq_ignore_ascii_case(b"objectSid") => {
                self.sid = values.first();
                return;
            }
            10 if name.eq_ignore_ascii_case(b"pwdLastSet") => &mut self.signs.password_last_set,
            14 if name.eq_ignore_ascii_case(b"accountExpires") => &mut self.signs.account_expires,
            14 if name.eq_ignore_ascii_case(b"primaryGroupID") => &mut self.primary,
            18 if name.eq_ignore_ascii_case(b"userAccountControl") => &mut self.signs.account_control,
            34 if name.eq_ignore_ascii_case(b"msDS-User-Account-Control-Computed") => &mut self.signs.computed,
            _ => return,
        };
        *slot = values.first().and_then(|value| std::str::from_utf8(value).ok());
    }
}

impl Look for AccountLook {
    type Seen = Sighting;

    fn entry(&mut self, raw: RawEntry<'_>) -> Result<Option<Sighting>, Violation> {
        let mut glance = Glance::default();
        let entry = raw.walk(|name, values| glance.attribute(name, values))?;
        if self.excluded.holds(&entry) {
            return Ok(None);
        }
        let (_, key, external_id) = match mapping::head(&entry, glance.guid) {
            Ok(head) => head,
            Err(unreadable) => return Ok(Some(Sighting::Unreadable(unreadable))),
        };
        if let Some(group) = primary_group(glance.sid, glance.primary) {
            self.primary.keys.entry(group).or_default().push(key);
        }
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&self.fingerprint);
        hash.update(raw.body);
        hash.update(glance.signs.status(self.now_second).as_str().as_bytes());
        Ok(Some(Sighting::Identity { external_id, source: Source::cut(hash.finish().as_ref()) }))
    }
}

/// Sees that groups exist, and under which keys.
#[derive(Debug)]
pub struct GroupsSeen {
    pub excluded: Excluded,
}

impl Look for GroupsSeen {
    type Seen = Sighting;

    fn entry(&mut self, raw: RawEntry<'_>) -> Result<Option<Sighting>, Violation> {
        let mut guid = None;
        let entry = raw.walk(|name, values| {
            if name.eq_ignore_ascii_case(b"objectGUID") {
                guid = values.first();
            }
        })?;
        if self.excluded.holds(&entry) {
            return Ok(None);
        }
        // One that can't be read is reported by the second look.
        let head = mapping::head(&entry, guid).ok();
        Ok(head
            .map(|(_, key, external_id)| Sighting::GroupSeen { external_id, keys: Keys { dn: Some(key), name: None } }))
    }
}

/// The security identifier of a group of a domain: `S-1-5-21-`, three parts for the domain, and one for the group.
pub type GroupSid = [u8; 28];

/// An account's primary group, which its entry names by the last part alone: it is of the account's own domain.
pub fn primary_group(account: Option<&[u8]>, rid: Option<&str>) -> Option<GroupSid> {
    let rid: u32 = rid?.trim().parse().ok()?;
    let mut sid = GroupSid::try_from(account?).ok().filter(|sid| matches!(sid, [1, 5, ..]))?;
    *sid.last_chunk_mut()? = rid.to_le_bytes();
    Some(sid)
}

/// A group's own.
pub fn group_sid(entry: &EntryView<'_>) -> Option<GroupSid> {
    entry.values("objectSid").first().and_then(|sid| GroupSid::try_from(*sid).ok())
}

/// The relative identifier of a group's security identifier, by which accounts name their primary group.
pub fn rid_of(entry: &EntryView<'_>) -> Option<u32> {
    entry.values("objectSid").first().and_then(|sid| forms::rid(sid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_group_is_of_the_domain_of_the_account() {
        let sid = |domain: u8, rid: u32| -> GroupSid {
            let mut sid = [1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, domain, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
            sid[24..].copy_from_slice(&rid.to_le_bytes());
            sid
        };
        assert_eq!(primary_group(Some(&sid(1, 1105)), Some("513")), Some(sid(1, 513)));
        assert_ne!(primary_group(Some(&sid(2, 1105)), Some("513")), Some(sid(1, 513)));
        for (account, rid) in [(None, Some("513")), (Some(&sid(1, 1)[..27]), Some("513")), (Some(&sid(1, 1)), None)] {
            assert_eq!(primary_group(account, rid), None);
        }
        assert_eq!(primary_group(Some(&sid(1, 1)), Some("many")), None);
    }
}
