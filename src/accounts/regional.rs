//! Languages and time zones that users and accounts can choose.

use std::sync::LazyLock;

use crate::error::{Error, Result};

/// The languages that exist: code and own name.
pub const LOCALES: [(&str, &str); 1] = [("en", "English")];

pub fn check_locale(field: &str, locale: &str) -> Result<()> {
    if LOCALES.iter().any(|(code, _)| *code == locale) {
        return Ok(());
    }
    Err(Error::field(field, "This language is not available."))
}

/// Only names from the database, as written there: what a lookup takes in another spelling the browser may not. Empty is
/// fine.
pub fn check_time_zone(field: &str, time_zone: &str) -> Result<()> {
    if time_zone.is_empty() || time_zones().iter().any(|known| known == time_zone) {
        return Ok(());
    }
    Err(Error::field(field, "Choose a time zone from the list."))
}

/// The names of all time zones, sorted.
pub fn time_zones() -> &'static [String] {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut names: Vec<String> = jiff::tz::db()
            .available()
            .map(|name| name.as_str().to_owned())
            // Places where people are; not `Etc/…`, `posix/…` and the like.
            .filter(|name| name == "UTC" || name.split_once('/').is_some_and(|(area, _)| AREAS.contains(&area)))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    });
    &NAMES
}

const AREAS: [&str; 10] =
    ["Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific"];
