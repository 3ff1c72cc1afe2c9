//! When something runs: every so often, or by a cron line in a time zone.

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::{
    clock::{self, Time},
    error::FieldError,
};

/// As people and programs write it: `{"every": "1h"}` or `{"cron": "0 3 * * *", "timeZone": "Europe/Berlin"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpecInput {
    /// A number and a unit: `15m`, `2h`, `1d`. At least one minute, at most 31 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// Five fields: minute, hour, day of month, month, day of week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// IANA name of the zone of the cron line; UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// A checked schedule.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    Every { us: i64 },
    Cron { line: Box<Cron>, zone: TimeZone },
}

const EVERY_MIN_US: i64 = clock::MINUTE;
const EVERY_MAX_US: i64 = 31 * clock::DAY;

impl SpecInput {
    pub fn every(text: &str) -> Self {
        Self { every: Some(text.to_owned()), ..Self::default() }
    }

    /// Checks it. `field` is the prefix of the names in errors, for example `schedule.full`.
    pub fn check(&self, field: &str) -> Result<Spec, FieldError> {
        match (&self.every, &self.cron) {
            (Some(every), None) => {
                if self.time_zone.is_some() {
                    return Err(FieldError::new(
                        format!("{field}.timeZone"),
                        "A time zone goes with a cron line only.",
                    ));
                }
                duration(every).map(|us| Spec::Every { us }).ok_or_else(|| {
                    FieldError::new(
                        format!("{field}.every"),
                        "Write a number and a unit, such as 15m, 2h or 1d; at least 1m, at most 31d.",
                    )
                })
            }
            (None, Some(line)) => {
                let name = self.time_zone.as_deref().unwrap_or("UTC");
                let zone = TimeZone::get(name).map_err(|_| {
                    FieldError::new(format!("{field}.timeZone"), "This is not a time zone name, such as Europe/Berlin.")
                })?;
                let cron = CronParser::builder()
                    .seconds(Seconds::Disallowed)
                    .year(Year::Disallowed)
                    .build()
                    .parse(line)
                    .map_err(|e| {
                        FieldError::new(format!("{field}.cron"), format!("This cron line cannot be read: {e}."))
                    })?;
                Ok(Spec::Cron { line: Box::new(cron), zone })
            }
            _ => Err(FieldError::new(field, "Give either `every` or `cron`.")),
        }
    }

    /// In words, for a page.
    pub fn words(&self) -> String {
        match (&self.every, &self.cron) {
            (Some(every), _) => format!("every {every}"),
            (None, Some(line)) => format!("cron {line} ({})", self.time_zone.as_deref().unwrap_or("UTC")),
            (None, None) => "never".into(),
        }
    }
}

fn duration(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "m" | "min" => clock::MINUTE,
        "h" => clock::HOUR,
        "d" => clock::DAY,
        _ => return None,
    };
    let us = number.parse::<i64>().ok()?.checked_mul(unit)?;
    (EVERY_MIN_US..=EVERY_MAX_US).contains(&us).then_some(us)
}

impl Spec {
    /// The first moment after `after`; `None` when a cron line never comes again.
    pub fn next(&self, after: Time) -> Option<Time> {
        match self {
            Self::Every { us } => Some(after.plus(*us)),
            Self::Cron { line, zone } => {
                let from = after.timestamp().to_zoned(zone.clone());
                line.find_next_occurrence(&from, false).ok().map(|zoned| Time::from(zoned.timestamp()))
            }
        }
    }

    /// The next moment after an entry that was due at `due` is started at `now`: for an interval, counted from when it
    /// was due, so that it does not drift, but never in the past, so that what was missed is caught up once.
    pub fn next_after_start(&self, due: Time, now: Time) -> Option<Time> {
        match self {
            Self::Every { us } => {
                let missed = now.since(due).max(0) / us;
                Some(due.plus((missed + 1) * us))
            }
            Self::Cron { .. } => self.next(now),
        }
    }
}
