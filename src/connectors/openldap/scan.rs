//! The first, cheap look at an entry: its id, and the fingerprint by which an unchanged one is known.
//!
//! Owns what goes into a [`Source`]: the mapping's settings, the bytes of the entry as they came, and the status, which
//! time alone can change (an expiry that has passed). This runs once per entry of every reading, so it must allocate
//! nothing but the id and leave everything else to the mapping.

use aws_lc_rs::digest;

use super::{
    mapping::{self, Mapper},
    policy::{Policies, Signs},
    settings::{DEFAULT_SOURCES, Settings},
};
use crate::connectors::{
    Sighting, Source, Status,
    ldap::{
        EntryView, Values,
        answer::Violation,
        inbox::{Look, RawEntry},
        times, values,
    },
};

/// Raised whenever the mapping reads the same bytes in another way, so that everything is mapped anew once.
const MAPPING_VERSION: u32 = 1;

/// Looks at entries as they come. One per reading.
#[derive(Debug)]
pub struct Scanner {
    users: [u8; 32],
    groups: [u8; 32],
    policies: Policies,
    now_second: i64,
}

/// What the first look needs of one entry, collected attribute by attribute.
#[derive(Debug, Default)]
struct Glance<'a> {
    entry_uuid: Option<&'a str>,
    modified: Option<&'a str>,
    signs: Signs<'a>,
}

impl<'a> Glance<'a> {
    /// Takes note of an attribute. As the mapping does, it takes the first value that is text, and the last attribute
    /// of a name.
    #[inline]
    fn attribute(&mut self, name: &[u8], values: Values<'a>) {
        // Most names are told apart by their length.
        let slot = match name.len() {
            9 if name.eq_ignore_ascii_case(b"entryUUID") => &mut self.entry_uuid,
            10 if name.eq_ignore_ascii_case(b"pwdEndTime") => &mut self.signs.pwd_end_time,
            12 if name.eq_ignore_ascii_case(b"pwdStartTime") => &mut self.signs.pwd_start_time,
            12 if name.eq_ignore_ascii_case(b"shadowExpire") => &mut self.signs.shadow_expire,
            13 if name.eq_ignore_ascii_case(b"nsAccountLock") || name.eq_ignore_ascii_case(b"loginDisabled") => {
                self.signs.is_disabled |= values.texts().next().is_some_and(values::is_true);
                return;
            }
            14 if name.eq_ignore_ascii_case(b"pwdChangedTime") => &mut self.signs.pwd_changed_time,
            15 if name.eq_ignore_ascii_case(b"modifyTimestamp") => &mut self.modified,
            17 if name.eq_ignore_ascii_case(b"pwdPolicySubentry") => &mut self.signs.pwd_policy_subentry,
            20 if name.eq_ignore_ascii_case(b"pwdAccountLockedTime") => &mut self.signs.pwd_account_locked_time,
            _ => return,
        };
        if let Some(text) = values.texts().next() {
            *slot = Some(text);
        }
    }
}

impl Scanner {
    pub fn new(settings: &Settings, policies: Policies, now_second: i64) -> Self {
        let fingerprint = |subject: &str| {
            let mut kept: Vec<String> = settings.attributes.iter().map(|name| name.to_ascii_lowercase()).collect();
            kept.sort_unstable();
            crate::secret::sha256(
                format!(
                    "{MAPPING_VERSION} {subject} {:?} {:?} {kept:?} {:?}",
                    settings.preset,
                    settings.mapping.sources(&DEFAULT_SOURCES),
                    settings.disable_by
                )
                .as_bytes(),
            )
        };
        Self { users: fingerprint("users"), groups: fingerprint("groups"), policies, now_second }
    }

    /// A look at the entries of a search for `what`.
    pub fn look(&self, what: What) -> Sighter<'_> {
        Sighter { scanner: self, what, newest: None }
    }
}

/// What is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Users,
    /// Groups without their content, for their keys.
    GroupsSeen,
    Groups,
}

/// A [`Scanner`] at work on one search.
#[derive(Debug)]
pub struct Sighter<'s> {
    scanner: &'s Scanner,
    what: What,
    /// The newest `modifyTimestamp`, in seconds since 1970, where it was asked for.
    pub newest: Option<i64>,
}

impl Look for Sighter<'_> {
    type Seen = Sighting;

    #[inline]
    fn entry(&mut self, raw: RawEntry<'_>) -> Result<Option<Sighting>, Violation> {
        let mut glance = Glance::default();
        let entry = raw.walk(|name, values| glance.attribute(name, values))?;
        self.newest = self.newest.max(glance.modified.and_then(times::unix_second));
        Ok(self.sighting(&entry, raw.body, &glance))
    }
}

impl Sighter<'_> {
    fn sighting(&self, entry: &EntryView<'_>, body: &[u8], glance: &Glance<'_>) -> Option<Sighting> {
        if self.what == What::GroupsSeen {
            // One that can't be read is reported by the second look.
            return Mapper::group_seen(entry, glance.entry_uuid);
        }
        let Some(external_id) = glance.entry_uuid.and_then(mapping::external_id) else {
            return Some(Sighting::Unreadable(mapping::without_id(entry, glance.entry_uuid.is_some())));
        };
        Some(match self.what {
            What::Users => {
                let status = self.scanner.policies.status(&glance.signs, self.scanner.now_second);
                Sighting::Identity { external_id, source: source(&self.scanner.users, body, status) }
            }
            _ => Sighting::Group { external_id, source: source(&self.scanner.groups, body, Status::Active) },
        })
    }
}

fn source(fingerprint: &[u8; 32], body: &[u8], status: Status) -> Source {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(fingerprint);
    hash.update(body);
    hash.update(status.as_str().as_bytes());
    Source::cut(hash.finish().as_ref())
}
