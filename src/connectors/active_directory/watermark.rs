//! Where reading changes goes on: what a watermark holds, and whether it still fits the controller that answers.
//!
//! Owns the JSON, which nobody else reads. A watermark is of one controller: each counts its own changes (MS-ADTS §3.1.1.1.9), and
//! a controller that was restored from a backup counts anew under another invocationId. It holds the number of the
//! controller's latest change and, where the account may replicate changes, the controller's DirSync cookie.
//!
//! It must never let a position pass that the controller may not continue from: what was missed then would be missed for
//! good. A cookie that is not the one that was stored never leaves: Samba answers some of those with "nothing has changed",
//! and others not at all.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{controller::Controller, forms, settings::Settings};
use crate::{
    connectors::{
        DeltaStop, Failure,
        ldap::{Connection, EntryView, Scope, SearchRequest, answer::COOKIE_MAX, inbox::Plainly},
    },
    secret,
};

/// Raised when older watermarks can't be used any more.
const VERSION: u32 = 1;

/// Where a reading of changes goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Watermark {
    version: u32,
    /// The server that was read, as configured.
    pub server: String,
    /// Its address: one name may have those of many controllers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Fingerprint of the settings that say what is read.
    asked: String,
    pub stand: Stand,
    /// Absent where changes are found by their numbers alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    cookie: Option<Cookie>,
}

/// A DirSync cookie as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Cookie {
    base64: String,
    /// The first half of its SHA-256.
    check: String,
}

/// Which controller, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stand {
    /// The domain's naming context.
    pub domain: String,
    /// The controller's name.
    pub host: String,
    /// Of the controller's copy of the directory, as the GUID is written.
    pub invocation_id: String,
    /// The number of the latest change.
    pub usn: u64,
}

impl Stand {
    /// How far the controller has come; `None` where it does not say.
    pub async fn ask(connection: &mut Connection, controller: &Controller) -> Result<Option<Self>, Failure> {
        let Some(usn) = controller.latest_change.parse().ok().filter(|_| !controller.service.is_empty()) else {
            return Ok(None);
        };
        let mut search = connection.search(SearchRequest {
            base: controller.service.clone(),
            scope: Scope::Base,
            filter: "(objectClass=*)".to_owned(),
            attributes: vec!["invocationId".to_owned()],
            page_size: 0,
            entries_max: None,
        });
        let mut invocation_id = None;
        while let Some(chunk) = search.next(&mut Plainly).await? {
            for entry in chunk.entries().filter_map(EntryView::read) {
                invocation_id = entry.values("invocationId").first().and_then(|id| forms::guid_text(id));
            }
        }
        Ok(invocation_id.map(|invocation_id| Self {
            domain: controller.domain.clone(),
            host: controller.host.clone(),
            invocation_id,
            usn,
        }))
    }
}

impl Watermark {
    /// Of the controller at the other end of a connection to `server`, which is at `address`.
    pub fn new(
        (server, address): (String, Option<IpAddr>),
        settings: &Settings,
        stand: Stand,
        cookie: Option<&[u8]>,
    ) -> Self {
        let cookie = cookie.map(|cookie| Cookie { base64: STANDARD.encode(cookie), check: check(cookie) });
        Self { version: VERSION, server, address, asked: asked(settings), stand, cookie }
    }

    /// Reads what [`Self::to_json`] wrote. It is lost when another version or other settings wrote it, or when it is
    /// damaged.
    pub fn parse(json: &str, settings: &Settings) -> Result<Self, DeltaStop> {
        let Ok(mark) = serde_json::from_str::<Self>(json) else {
            return Err(lost("Where the last run ended can't be read by this version."));
        };
        if mark.version != VERSION {
            return Err(lost("Where the last run ended was written by another version."));
        }
        if mark.asked != asked(settings) {
            return Err(lost("The settings of what is read have changed since the last run."));
        }
        mark.cookie()?;
        Ok(mark)
    }

    pub fn to_json(&self) -> String {
        // Strings and numbers always become JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The DirSync cookie, as the controller gave it.
    pub fn cookie(&self) -> Result<Option<Vec<u8>>, DeltaStop> {
        let Some(stored) = &self.cookie else { return Ok(None) };
        let cookie = STANDARD.decode(&stored.base64).ok().filter(|cookie| check(cookie) == stored.check);
        match cookie {
            Some(cookie) if !cookie.is_empty() && cookie.len() <= COOKIE_MAX => Ok(Some(cookie)),
            _ => Err(lost("The controller's own mark of where the last run ended (DirSync cookie) is damaged.")),
        }
    }

    /// Whether the controller behind `server`, which stands where it says, can go on from here.
    pub fn check(&self, server: &str, now: Option<&Stand>) -> Result<(), DeltaStop> {
        let before = &self.stand;
        let Some(now) = now else {
            return Err(lost(&format!(
                "{server} no longer says which controller it is and how far it has come (dsServiceName, invocationId, highestCommittedUSN)."
            )));
        };
        if now.domain != before.domain {
            return Err(lost(&format!(
                "{server} is a controller of {}; {} was read before.",
                now.domain, before.domain
            )));
        }
        if now.invocation_id != before.invocation_id {
            return Err(lost(&if now.host == before.host {
                format!(
                    "The controller {} was restored from a backup or made anew: its invocationId is {}, it was {}.",
                    now.host, now.invocation_id, before.invocation_id
                )
            } else {
                format!(
                    "{server} is the controller {} now; {} was read before, and each counts its changes by itself.",
                    now.host, before.host
                )
            }));
        }
        if now.usn < before.usn {
            return Err(lost(&format!(
                "The controller {} is older than what was read before (highestCommittedUSN is {}, it was {}): it was put back to an earlier state.",
                now.host, now.usn, before.usn
            )));
        }
        Ok(())
    }
}

pub fn lost(reason: &str) -> DeltaStop {
    DeltaStop::WatermarkLost { reason: reason.to_owned() }
}

fn check(cookie: &[u8]) -> String {
    secret::encode_hex(secret::sha256(cookie).get(..16).unwrap_or_default())
}

/// The settings that say what is read. Which controllers there are changes nothing: they are told apart by their ids.
fn asked(settings: &Settings) -> String {
    let parts: Vec<_> =
        settings.read_with().into_iter().filter(|(name, _)| !matches!(*name, "servers" | "domain")).collect();
    check(format!("{parts:?} {}", settings.computers).as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings() -> Settings {
        serde_json::from_value(serde_json::json!({"servers": ["ldaps://dc1"]})).expect("settings")
    }

    fn stand() -> Stand {
        Stand { domain: "DC=x".into(), host: "dc1.x".into(), invocation_id: "one".into(), usn: 100 }
    }

    fn mark(cookie: Option<&[u8]>) -> Watermark {
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        Watermark::new(("ldaps://dc1".to_owned(), address), &settings(), stand(), cookie)
    }

    fn reason<T: std::fmt::Debug>(result: Result<T, DeltaStop>) -> String {
        match result {
            Err(DeltaStop::WatermarkLost { reason }) => {
                assert!(reason.ends_with('.'), "{reason}");
                reason
            }
            other => panic!("not lost: {other:?}"),
        }
    }

    #[test]
    fn what_was_written_is_read_back_and_nothing_else() {
        for cookie in [None, Some(&b"\0\xffcookie"[..])] {
            let mark = mark(cookie);
            let json = mark.to_json();
            assert_eq!(Watermark::parse(&json, &settings()), Ok(mark.clone()), "{json}");
            assert_eq!(mark.cookie().expect("whole").as_deref(), cookie);
            let more = serde_json::json!({"servers": ["ldaps://dc1", "ldaps://dc2"], "pageSize": 7});
            let more: Settings = serde_json::from_value(more).expect("settings");
            assert!(Watermark::parse(&json, &more).is_ok(), "one controller more changes nothing");
            let computers = Settings { computers: true, ..settings() };
            assert!(reason(Watermark::parse(&json, &computers)).contains("settings"));
            let version = json.replace("\"version\":1", "\"version\":2");
            assert!(reason(Watermark::parse(&version, &settings())).contains("another version"));
        }
        for nonsense in ["", "{}", "null", "[1]", "{\"version\":1}"] {
            assert!(reason(Watermark::parse(nonsense, &settings())).contains("can't be read"), "{nonsense}");
        }
    }

    #[test]
    fn a_damaged_cookie_is_never_sent() {
        let json = mark(Some(b"MSDS cookie")).to_json();
        let other = STANDARD.encode(b"MSDS cookiE");
        for damaged in [
            json.replace(&STANDARD.encode(b"MSDS cookie"), &other),
            json.replace(&STANDARD.encode(b"MSDS cookie"), "%%%"),
            json.replace(&STANDARD.encode(b"MSDS cookie"), ""),
            mark(Some(b"")).to_json(),
            mark(Some(&vec![7; COOKIE_MAX + 1])).to_json(),
        ] {
            assert_ne!(damaged, json);
            let reason = reason(Watermark::parse(&damaged, &settings()));
            assert!(reason.contains("DirSync cookie"), "{reason}");
        }
    }

    #[test]
    fn only_the_same_controller_that_went_on_is_continued() {
        let mark = mark(None);
        assert_eq!(mark.check("s", Some(&stand())), Ok(()));
        assert_eq!(mark.check("s", Some(&Stand { usn: 101, ..stand() })), Ok(()));
        let other = Stand { invocation_id: "two".into(), ..stand() };
        for (now, part) in [
            (Some(Stand { usn: 99, ..stand() }), "earlier state"),
            (Some(other.clone()), "restored from a backup"),
            (Some(Stand { host: "dc2.x".into(), ..other }), "is the controller dc2.x now"),
            (Some(Stand { domain: "DC=y".into(), ..stand() }), "is a controller of DC=y"),
            (None, "no longer says"),
        ] {
            let reason = reason(mark.check("s", now.as_ref()));
            assert!(reason.contains(part), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn changed_text_is_lost_or_means_the_same(at in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f) {
            let mark = mark(Some(b"MSDS\x03\0\0\0 and more of a cookie"));
            let mut json = mark.to_json().into_bytes();
            let at = at.index(json.len());
            json[at] = byte;
            let json = String::from_utf8(json).expect("ASCII");
            if let Ok(read) = Watermark::parse(&json, &settings()) {
                // Whatever else was changed: the cookie that would be sent is the one that was stored.
                prop_assert_eq!(read.cookie(), mark.cookie());
            }
        }
    }
}
