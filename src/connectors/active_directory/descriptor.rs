//! Security descriptors (MS-DTYP §2.4.6): whom an object's access rights let do what, as far as acting needs it.
//!
//! Owns the reading of their binary form. Malformed ones let nobody do anything and deny nothing.

use super::forms;

/// Extended rights (MS-ADTS §5.1.3.2.1) in the binary form of their GUIDs.
pub mod right {
    /// ab721a53-1e2f-11d0-9819-00aa0040529b, User-Change-Password.
    pub const CHANGE_PASSWORD: [u8; 16] =
        [0x53, 0x1a, 0x72, 0xab, 0x2f, 0x1e, 0xd0, 0x11, 0x98, 0x19, 0x00, 0xaa, 0x00, 0x40, 0x52, 0x9b];
    /// 00299570-246d-11d0-a768-00aa006e0529, User-Force-Change-Password: what the tools call "Reset Password".
    pub const RESET_PASSWORD: [u8; 16] =
        [0x70, 0x95, 0x29, 0x00, 0x6d, 0x24, 0xd0, 0x11, 0xa7, 0x68, 0x00, 0xaa, 0x00, 0x6e, 0x05, 0x29];
}

/// RIGHT_DS_CONTROL_ACCESS, and what includes it.
const CONTROL_ACCESS: u32 = 0x100;
const GENERIC_ALL: u32 = 0x1000_0000;

/// One entry of an access control list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    is_denial: bool,
    mask: u32,
    /// The one right or attribute that it is about; `None` for all of them.
    object: Option<[u8; 16]>,
    sid: String,
    /// It is for objects below this one only.
    is_for_others: bool,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes).map(usize::from)
}

/// The entries of the discretionary list, in their order; those of kinds that are not known are left out.
fn entries(descriptor: &[u8]) -> Vec<Entry> {
    let acl = match word(descriptor, 16) {
        // No list at all is not an empty one; neither is read as one that allows something.
        Some(0) | None => return Vec::new(),
        Some(offset) => usize::try_from(offset).ok().and_then(|offset| descriptor.get(offset..)).unwrap_or_default(),
    };
    let mut rest = acl.get(8..).unwrap_or_default();
    let mut found = Vec::new();
    for _ in 0..half(acl, 4).unwrap_or(0) {
        let Some(ace) = half(rest, 2).filter(|size| *size >= 8).and_then(|size| rest.get(..size)) else { break };
        rest = rest.get(ace.len()..).unwrap_or_default();
        found.extend(entry(ace));
    }
    found
}

fn entry(ace: &[u8]) -> Option<Entry> {
    const INHERIT_ONLY: u8 = 0x8;
    let (kind, flags) = (*ace.first()?, *ace.get(1)?);
    let mask = word(ace, 4)?;
    // ACCESS_ALLOWED, ACCESS_DENIED, and the two with an object (MS-DTYP §2.4.4).
    let (object, sid_at) = match kind {
        0 | 1 => (None, 8),
        5 | 6 => {
            let present = word(ace, 8)?;
            let has_object = present & 1 != 0;
            let has_inherited = present & 2 != 0;
            let object = if has_object { Some(ace.get(12..28)?.try_into().ok()?) } else { None };
            (object, 12 + if has_object { 16 } else { 0 } + if has_inherited { 16 } else { 0 })
        }
        _ => return None,
    };
    Some(Entry {
        is_denial: matches!(kind, 1 | 6),
        mask,
        object,
        sid: sid_prefix(ace.get(sid_at..)?)?,
        is_for_others: flags & INHERIT_ONLY != 0,
    })
}

/// The SID at the front of some bytes; applications may append data to an entry.
fn sid_prefix(bytes: &[u8]) -> Option<String> {
    let length = 8 + usize::from(*bytes.get(1)?) * 4;
    forms::sid_text(bytes.get(..length)?)
}

/// Whether whoever has these SIDs may use an extended right on the object: the first entry that speaks of it decides.
pub fn allows(descriptor: &[u8], right: [u8; 16], sids: &[String]) -> bool {
    let speaks = |entry: &&Entry| {
        !entry.is_for_others
            && entry.mask & (CONTROL_ACCESS | GENERIC_ALL) != 0
            && entry.object.is_none_or(|object| object == right)
            && sids.contains(&entry.sid)
    };
    entries(descriptor).iter().find(speaks).is_some_and(|entry| !entry.is_denial)
}

/// Whether the account itself, or everybody, is denied the right to change its password: what "User cannot change password"
/// is (MS-ADTS §5.1.3.2.1).
pub fn denies_change_of_password(descriptor: &[u8]) -> bool {
    const EVERYBODY: &str = "S-1-1-0";
    const SELF: &str = "S-1-5-10";
    entries(descriptor).iter().any(|entry| {
        entry.is_denial
            && !entry.is_for_others
            && entry.object == Some(right::CHANGE_PASSWORD)
            && matches!(entry.sid.as_str(), EVERYBODY | SELF)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SELF: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 5, 10, 0, 0, 0];
    const OTHER: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 5, 11, 0, 0, 0];

    /// Kind, flags, object, SID.
    type Line<'a> = (u8, u8, Option<[u8; 16]>, &'a [u8]);

    fn descriptor(entries: &[Line<'_>]) -> Vec<u8> {
        let mut acl = Vec::new();
        for (kind, flags, object, sid) in entries {
            let with_object = matches!(kind, 5 | 6);
            let size = 8 + sid.len() + if with_object { 4 + object.map_or(0, |_| 16) } else { 0 };
            acl.extend([*kind, *flags]);
            acl.extend(u16::try_from(size).expect("short").to_le_bytes());
            acl.extend(CONTROL_ACCESS.to_le_bytes());
            if with_object {
                acl.extend(u32::from(object.is_some()).to_le_bytes());
                acl.extend(object.unwrap_or_default().iter().take(if object.is_some() { 16 } else { 0 }));
            }
            acl.extend(*sid);
        }
        let mut bytes = vec![1, 0, 4, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 4, 0];
        bytes.extend(u16::try_from(8 + acl.len()).expect("short").to_le_bytes());
        bytes.extend(u16::try_from(entries.len()).expect("few").to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(acl);
        bytes
    }

    #[test]
    fn who_may_not_change_their_password_is_read_from_the_access_rights() {
        let change = Some(right::CHANGE_PASSWORD);
        assert!(denies_change_of_password(&descriptor(&[(5, 0, change, &OTHER), (6, 0, change, &SELF)])));
        for entries in [
            &[(5, 0, change, &SELF[..])][..],
            &[(6, 0, change, &OTHER)],
            &[(6, 8, change, &SELF)],
            &[(6, 0, Some(right::RESET_PASSWORD), &SELF)],
            &[(6, 0, None, &SELF)],
            &[],
        ] {
            assert!(!denies_change_of_password(&descriptor(entries)), "{entries:?}");
        }
    }

    #[test]
    fn the_first_entry_that_speaks_of_a_right_decides() {
        let reset = Some(right::RESET_PASSWORD);
        let sids = ["S-1-5-11".to_owned()];
        let may = |entries: &[Line<'_>]| allows(&descriptor(entries), right::RESET_PASSWORD, &sids);
        assert!(may(&[(5, 0, reset, &OTHER)]));
        assert!(may(&[(5, 0, None, &OTHER)]) && may(&[(0, 0, None, &OTHER)]), "all extended rights");
        assert!(may(&[(5, 0, reset, &OTHER), (6, 0, reset, &OTHER)]));
        assert!(!may(&[(6, 0, reset, &OTHER), (5, 0, reset, &OTHER)]));
        assert!(!may(&[(5, 8, reset, &OTHER)]), "for others only");
        assert!(!may(&[(5, 0, Some(right::CHANGE_PASSWORD), &OTHER)]) && !may(&[(5, 0, reset, &SELF)]) && !may(&[]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_descriptor_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = entries(&bytes);
        }

        #[test]
        fn a_damaged_descriptor_is_read_without_harm(at in 0_usize..68, to in any::<u8>(), cut in 0_usize..69) {
            let mut bytes = descriptor(&[(6, 0, Some(right::CHANGE_PASSWORD), &SELF)]);
            prop_assert_eq!(bytes.len(), 68);
            bytes[at] = to;
            bytes.truncate(cut);
            prop_assert!(entries(&bytes).len() <= 1);
        }
    }
}
