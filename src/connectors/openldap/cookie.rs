//! OpenLDAP's sync cookies: up to which change, of which server, a reading has come.
//!
//! A cookie is `rid=000,sid=001,csn=CSN;CSN…`. A CSN (change sequence number) is
//! `20260102030405.000006Z#000000#001#000000`: time, count, id of the server that made the change, and modification.
//! There is one for each server that ever took a write, and those of one server only grow. Other servers' cookies are
//! opaque and are refused here; they have no delta yet.

use std::{cmp::Ordering, collections::BTreeMap, fmt};

/// The CSNs of a state, one per server id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cookie {
    csns: BTreeMap<u16, String>,
}

/// Servers that one directory can have: server ids have three hexadecimal digits.
const SERVERS_MAX: usize = 4096;

impl Cookie {
    /// From a cookie that a server sent. `None` for what OpenLDAP would not write.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let csns = text.split(',').find_map(|part| part.strip_prefix("csn="))?;
        Self::of_csns(csns.split(';'))
    }

    /// From the values of `contextCSN`.
    pub fn of_csns<'a>(values: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut csns = BTreeMap::new();
        for csn in values {
            if csns.len() >= SERVERS_MAX {
                return None;
            }
            // The newest counts if a server id comes twice.
            let server = server_id(csn)?;
            let slot = csns.entry(server).or_insert_with(|| csn.to_owned());
            if slot.as_str() < csn {
                *slot = csn.to_owned();
            }
        }
        if csns.is_empty() { None } else { Some(Self { csns }) }
    }

    /// Whether both know of the same servers.
    pub fn has_servers_of(&self, other: &Self) -> bool {
        self.csns.keys().eq(other.csns.keys())
    }

    /// The server ids, as slapd writes them.
    pub fn servers(&self) -> String {
        self.csns.keys().map(|server| format!("{server:03x}")).collect::<Vec<_>>().join(", ")
    }
}

/// A state is later than another when no server has gone back and at least one has moved on; `None` when they can't be
/// compared.
impl PartialOrd for Cookie {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        if !self.has_servers_of(other) {
            return None;
        }
        let mut order = Ordering::Equal;
        for (own, others) in self.csns.values().zip(other.csns.values()) {
            match (order, own.cmp(others)) {
                (_, Ordering::Equal) => (),
                (Ordering::Equal, step) => order = step,
                (before, step) if before == step => (),
                _ => return None,
            }
        }
        Some(order)
    }
}

/// As OpenLDAP takes it from a consumer. The replica id only tells consumers of one server apart.
impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rid=000,csn=")?;
        for (at, csn) in self.csns.values().enumerate() {
            if at > 0 {
                f.write_str(";")?;
            }
            f.write_str(csn)?;
        }
        Ok(())
    }
}

/// The server id in a CSN; `None` for what is no CSN.
fn server_id(csn: &str) -> Option<u16> {
    let is_shaped = csn.len() == 40
        && csn.bytes().enumerate().all(|(at, byte)| match at {
            14 => byte == b'.',
            21 => byte == b'Z',
            22 | 29 | 33 => byte == b'#',
            0..=20 => byte.is_ascii_digit(),
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        });
    if !is_shaped {
        return None;
    }
    u16::from_str_radix(csn.get(30..33)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A1: &str = "20260102030405.000006Z#000000#001#000000";
    const A2: &str = "20260102030405.000006Z#000001#001#000000";
    const B1: &str = "20250102030405.000006Z#000000#002#000000";
    const B2: &str = "20260102030405.000006Z#000000#002#000000";

    fn cookie(csns: &[&str]) -> Cookie {
        Cookie::of_csns(csns.iter().copied()).expect("CSNs")
    }

    #[test]
    fn cookies_are_read_as_slapd_writes_them() {
        for text in [
            format!("rid=001,csn={A1};{B1}"),
            format!("csn={B1};{A1}"),
            format!("rid=000,sid=001,csn={A1};{B1},delcsn={A2}"),
        ] {
            assert_eq!(Cookie::parse(text.as_bytes()), Some(cookie(&[A1, B1])), "{text}");
        }
        assert_eq!(cookie(&[B1, A1, A2]).to_string(), format!("rid=000,csn={A2};{B1}"));
        assert_eq!(cookie(&[A1, "20250102030405.000006Z#000000#0ab#000000"]).servers(), "001, 0ab");
        for bad in ["", "rid=000", "csn=", "csn=x", &format!("csn={A1};"), &format!("csn={}", A1.replace('Z', "z"))] {
            assert_eq!(Cookie::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn states_are_ordered_only_where_they_can_be() {
        use Ordering::{Equal, Greater, Less};
        for (one, other, expected) in [
            (&[A1, B1][..], &[A1, B1][..], Some(Equal)),
            (&[A2, B1], &[A1, B1], Some(Greater)),
            (&[A1, B1], &[A2, B2], Some(Less)),
            (&[A1, B2], &[A2, B1], None),
            (&[A1], &[A1, B1], None),
            (&[A1], &[B1], None),
        ] {
            assert_eq!(cookie(one).partial_cmp(&cookie(other)), expected, "{one:?} {other:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_what_is_read_is_written_the_same(text in "(rid=00[0-9],)?csn=[0-9.Z#;]{0,90}|\\PC{0,60}") {
            if let Some(cookie) = Cookie::parse(text.as_bytes()) {
                prop_assert_eq!(Cookie::parse(cookie.to_string().as_bytes()), Some(cookie));
            }
        }
    }
}
