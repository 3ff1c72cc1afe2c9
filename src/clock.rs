//! The clock, passed in wherever time matters, and the one type for a moment.
//!
//! Owns the only call to the system's clock. No room reads the clock by itself: tests run on a fixed one.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::{Timestamp, tz::TimeZone};
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

/// A moment: microseconds since 1970-01-01T00:00:00Z. Stored as an integer, written as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub i64);

/// Microseconds in one second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds in one minute.
pub const MINUTE: i64 = 60 * SECOND;
/// Microseconds in one hour.
pub const HOUR: i64 = 60 * MINUTE;
/// Microseconds in one day.
pub const DAY: i64 = 24 * HOUR;

impl Time {
    /// The moment `us` microseconds later (earlier when negative); stops at the ends of time.
    pub fn plus(self, us: i64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Microseconds from `earlier` to this moment, negative when `earlier` is later.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_microsecond(self.0).unwrap_or_default()
    }

    /// RFC 3339 in UTC, with as many digits of a second as are not zero.
    pub fn rfc3339(self) -> String {
        self.timestamp().to_string()
    }

    /// Reads RFC 3339 with any offset.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<Timestamp>().ok().map(|t| Self(t.as_microsecond()))
    }

    /// `1 Mar 2026, 09:30 UTC`: what stands in a `<time>` element until the script writes it in the reader's zone.
    pub fn text(self) -> String {
        self.written("%-d %b %Y, %H:%M UTC")
    }

    /// In UTC, as `format` says (`strftime`).
    pub fn written(self, format: &str) -> String {
        self.timestamp().strftime(format).to_string()
    }

    /// `2026-03-01 09:30:00` in a zone, for pages that are read without JavaScript.
    pub fn civil(self, zone: &TimeZone) -> String {
        self.timestamp().to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }
}

impl From<Timestamp> for Time {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp.as_microsecond())
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl serde::Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.rfc3339())
    }
}

impl<'de> serde::Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

impl ToSql for Time {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for Time {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(Self)
    }
}

/// Where the time comes from.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    #[default]
    System,
    /// Stands still until it is set: for tests.
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that shows `time` until [`set`](Self::set).
    pub fn fixed(time: Time) -> Self {
        Self::Fixed(Arc::new(AtomicI64::new(time.0)))
    }

    pub fn now(&self) -> Time {
        match self {
            Self::System => Timestamp::now().into(),
            Self::Fixed(us) => Time(us.load(Ordering::SeqCst)),
        }
    }

    /// Sets a fixed clock; does nothing to the system's.
    pub fn set(&self, time: Time) {
        if let Self::Fixed(us) = self {
            us.store(time.0, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_what_it_writes() {
        let time = Time::parse("2026-03-29T02:30:00.25+02:00").expect("a time");
        assert_eq!(time.rfc3339(), "2026-03-29T00:30:00.25Z");
        assert_eq!(Time::parse(&time.rfc3339()), Some(time));
        assert_eq!(Time::parse("yesterday"), None);
    }
}
