//! Where reading changes goes on: what a watermark holds, and whether it still fits the server that answers.
//!
//! Owns the JSON, which nobody else reads. A watermark holds the settings that it was made with, the entryUUIDs of the
//! bases (so that another directory with the same names is noticed), and one of two methods:
//! - `syncrepl`: a sync cookie for each search (RFC 4533), where slapd has the overlay syncprov;
//! - `timestamps`: the newest `modifyTimestamp` seen. Entries that are gone leave no trace there.
//!
//! It must never let a state pass that the server may not continue from: what was missed then would be missed for good.

use std::{cmp::Ordering, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::{
    cookie::Cookie,
    settings::{DEFAULT_SOURCES, Settings},
};
use crate::connectors::{
    DeltaStop,
    ldap::{RootDse, dn},
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
    /// Fingerprint of the settings that say what is read.
    asked: String,
    /// Normalised base → the entryUUID of its entry, where it can be read.
    anchors: BTreeMap<String, Option<String>>,
    pub method: Method,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Method {
    Syncrepl(Vec<Mark>),
    /// Seconds since 1970, by the server's clock; `None` when nothing had a time.
    Timestamps(Option<i64>),
}

/// How far one search has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mark {
    /// As in the settings.
    pub base: String,
    pub is_for_groups: bool,
    /// Normalised DN of the naming context, whose entry has the contextCSN.
    pub context: String,
    pub cookie: String,
}

/// What a server says of itself before anything is read from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stand {
    /// Normalised DN → entryUUID.
    pub ids: BTreeMap<String, String>,
    /// Normalised DN → contextCSN.
    pub states: BTreeMap<String, Cookie>,
}

impl Watermark {
    pub fn new(server: String, settings: &Settings, stand: &Stand, method: Method) -> Self {
        let anchors = bases(settings).into_iter().map(|base| {
            let id = stand.ids.get(&base).cloned();
            (base, id)
        });
        Self { version: VERSION, server, asked: asked(settings), anchors: anchors.collect(), method }
    }

    /// Reads what [`Self::to_json`] wrote. It is lost when another version or other settings wrote it.
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
        Ok(mark)
    }

    pub fn to_json(&self) -> String {
        // Strings, numbers and maps with text keys always become JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether `server`, which stands where it says, holds the directory that this watermark is of.
    pub fn check_anchors(&self, server: &str, stand: &Stand) -> Result<(), DeltaStop> {
        for (base, before) in &self.anchors {
            if let (Some(before), Some(now)) = (before, stand.ids.get(base))
                && before != now
            {
                return Err(lost(&format!(
                    "{server} holds another directory than before: the base {base} has another entryUUID ({now}, it was {before})."
                )));
            }
        }
        Ok(())
    }
}

impl Mark {
    /// Whether there is anything new on `server` since, or why this can't be told.
    pub fn has_news(&self, server: &str, stand: &Stand) -> Result<bool, DeltaStop> {
        let Some(before) = Cookie::parse(self.cookie.as_bytes()) else {
            return Err(lost("Where the last run ended can't be read by this version."));
        };
        let context = &self.context;
        let Some(now) = stand.states.get(context) else {
            return Err(lost(&format!("{server} no longer shows up to which change it is (contextCSN of {context}).")));
        };
        match now.partial_cmp(&before) {
            Some(Ordering::Equal) => Ok(false),
            Some(Ordering::Greater) => Ok(true),
            Some(Ordering::Less) => Err(lost(&format!(
                "{server} is older than what was read before (contextCSN of {context}): it was restored from a backup, or it is another server that lags behind."
            ))),
            None if !now.has_servers_of(&before) => Err(lost(&format!(
                "{server} knows changes of the server ids {}; what was read before has those of {} (contextCSN of {context}).",
                now.servers(),
                before.servers()
            ))),
            None => Err(lost(&format!(
                "{server} has other changes than the server that was read before (contextCSN of {context})."
            ))),
        }
    }
}

/// Where the searches of a directory begin, given what the server stands at; `None` when it does not say for each.
pub fn marks(settings: &Settings, root: &RootDse, stand: &Stand) -> Option<Vec<Mark>> {
    let users = settings.user_bases().into_iter().map(|base| (base, false));
    let groups = settings.group_bases().into_iter().map(|base| (base, true));
    users
        .chain(groups)
        .map(|(base, is_for_groups)| {
            let context = context_of(&dn::normalise(&base).ok()?, &root.naming_contexts);
            let cookie = stand.states.get(&context)?.to_string();
            Some(Mark { base, is_for_groups, context, cookie })
        })
        .collect()
}

/// The normalised bases of both kinds.
pub fn bases(settings: &Settings) -> Vec<String> {
    let all = settings.user_bases().into_iter().chain(settings.group_bases());
    let mut normal: Vec<String> = all.filter_map(|base| dn::normalise(&base).ok()).collect();
    normal.sort_unstable();
    normal.dedup();
    normal
}

/// The naming context that holds a normalised base, or what its `dc` parts say where the server does not.
pub fn context_of(base: &str, naming_contexts: &[String]) -> String {
    let known = naming_contexts.iter().filter_map(|context| dn::normalise(context).ok());
    let holding = known.filter(|context| !context.is_empty() && dn::is_within(base, context));
    holding.max_by_key(String::len).unwrap_or_else(|| match base.find("dc=") {
        Some(0) => base.to_owned(),
        _ => base.find(",dc=").and_then(|at| base.get(at + 1..)).unwrap_or(base).to_owned(),
    })
}

pub fn lost(reason: &str) -> DeltaStop {
    DeltaStop::WatermarkLost { reason: reason.to_owned() }
}

/// The settings that say which entries and attributes are read.
fn asked(settings: &Settings) -> String {
    let text = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        settings.user_bases(),
        settings.group_bases(),
        settings.scope,
        settings.user_filter(),
        settings.group_filter(),
        settings.attributes,
        settings.mapping.sources(&DEFAULT_SOURCES),
    );
    crate::secret::encode_hex(crate::secret::sha256(text.as_bytes()).get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csn(second: u32, server: u32) -> String {
        format!("202601020304{second:02}.000000Z#000000#{server:03x}#000000")
    }

    fn stand(csns: &[String]) -> Stand {
        let state = Cookie::of_csns(csns.iter().map(String::as_str)).expect("CSNs");
        Stand {
            ids: BTreeMap::from([("ou=a,dc=x".to_owned(), "id".to_owned())]),
            states: BTreeMap::from([("dc=x".to_owned(), state)]),
        }
    }

    fn settings() -> Settings {
        Settings { base_dns: vec!["OU=a, dc=x".to_owned()], ..Settings::default() }
    }

    fn root() -> RootDse {
        RootDse { naming_contexts: vec!["dc=other".to_owned(), "DC=x".to_owned()], ..RootDse::default() }
    }

    fn reason(stop: Result<impl std::fmt::Debug, DeltaStop>) -> String {
        match stop {
            Err(DeltaStop::WatermarkLost { reason }) => {
                assert!(reason.ends_with('.'), "{reason}");
                reason
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_watermark_reads_back_and_is_lost_with_other_settings() {
        let stand = stand(&[csn(1, 1), csn(2, 2)]);
        let marks = marks(&settings(), &root(), &stand).expect("marks");
        assert_eq!(marks.len(), 2);
        assert_eq!(marks[0].context, "dc=x");
        let watermark = Watermark::new("ldap://h".to_owned(), &settings(), &stand, Method::Syncrepl(marks));
        let json = watermark.to_json();
        assert_eq!(Watermark::parse(&json, &settings()), Ok(watermark.clone()));
        let other = Settings { user_filter: Some("(cn=*)".to_owned()), ..settings() };
        assert!(reason(Watermark::parse(&json, &other)).contains("settings"));
        assert!(reason(Watermark::parse("{}", &settings())).contains("can't be read"));
        assert_eq!(watermark.check_anchors("s", &stand), Ok(()));
        let swapped = Stand { ids: BTreeMap::from([("ou=a,dc=x".to_owned(), "other".to_owned())]), ..stand };
        assert!(reason(watermark.check_anchors("s", &swapped)).contains("another directory"));
    }

    #[test]
    fn only_a_state_that_follows_is_continued() {
        let before = stand(&[csn(3, 1), csn(3, 2)]);
        let mark = marks(&settings(), &root(), &before).expect("marks").remove(0);
        assert_eq!(mark.has_news("s", &before), Ok(false));
        assert_eq!(mark.has_news("s", &stand(&[csn(3, 1), csn(4, 2)])), Ok(true));
        for (now, part) in [
            (stand(&[csn(2, 1), csn(3, 2)]), "older"),
            (stand(&[csn(2, 1), csn(4, 2)]), "other changes"),
            (stand(&[csn(9, 1)]), "server ids 001;"),
            (stand(&[csn(9, 1), csn(9, 3)]), "server ids 001, 003;"),
            (Stand::default(), "no longer shows"),
        ] {
            let reason = reason(mark.has_news("s", &now));
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn a_context_is_found_also_when_the_server_hides_them() {
        assert_eq!(context_of("ou=a,dc=x,dc=y", &["DC=y".to_owned(), "dc=x, dc=y".to_owned()]), "dc=x,dc=y");
        assert_eq!(context_of("ou=a,dc=x,dc=y", &[]), "dc=x,dc=y");
        assert_eq!(context_of("dc=x,dc=y", &["dc=z".to_owned()]), "dc=x,dc=y");
        assert_eq!(context_of("ou=a,o=b", &[]), "ou=a,o=b");
    }
}
