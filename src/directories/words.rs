//! Numbers, durations, rates, counts and schedules as words for pages.
//!
//! Owns every sentence that is made from figures, so that two pages never say the same thing in two ways. It must
//! never decide anything: what is shown, and where, is the pages' business.

use super::{model::Schedule, plan::Counts};
use crate::{
    clock::{DAY, HOUR, MINUTE, SECOND, Time},
    schedule::SpecInput,
};

/// A moment as the template's `ui::time` takes it: RFC 3339 for the script, words for readers without one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct When {
    pub utc: String,
    pub text: String,
}

impl When {
    pub fn new(time: Time) -> Self {
        Self { utc: time.rfc3339(), text: format!("{} UTC", time.civil(&jiff::tz::TimeZone::UTC)) }
    }
}

impl From<Option<Time>> for When {
    /// No time is shown as a dash.
    fn from(time: Option<Time>) -> Self {
        time.map(Self::new).unwrap_or_default()
    }
}

/// `1234567` as `1,234,567`.
pub fn number(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        out.push('−');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 group`, `2 groups`.
pub fn counted(count: i64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// The last part of a principal's URN, which is what people tell principals apart by.
pub fn who(urn: &str) -> &str {
    match urn.rsplit_once(':').map_or(urn, |(_, last)| last) {
        "service/scheduler" => "schedule",
        "service/live" => "live mode",
        other => other,
    }
}

/// Microseconds as `420 ms`, `3.2 s`, `41 s`, `1 min 4 s`, `2 h 5 min`, `3 d 4 h`: two units at most.
pub fn duration(us: i64) -> String {
    let us = us.max(0);
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{large} {large_unit}") } else { format!("{large} {large_unit} {small} {small_unit}") }
    };
    // Tenths are rounded first, so that 9.96 s is 10 s and not 10.0 s.
    let tenths = us.saturating_add(SECOND / 20) / (SECOND / 10);
    if us < SECOND {
        format!("{} ms", us / 1000)
    } else if tenths < 100 {
        format!("{}.{} s", tenths / 10, tenths % 10)
    } else if us < MINUTE {
        format!("{} s", us.max(10 * SECOND) / SECOND)
    } else if us < HOUR {
        two(us / MINUTE, "min", us % MINUTE / SECOND, "s")
    } else if us < DAY {
        two(us / HOUR, "h", us % HOUR / MINUTE, "min")
    } else {
        two(us / DAY, "d", us % DAY / HOUR, "h")
    }
}

/// Objects per second as `2,950 objects/s`; a dash when it cannot be said yet.
pub fn rate(per_second: i64) -> String {
    if per_second <= 0 { "–".into() } else { format!("{} objects/s", number(per_second)) }
}

/// What a run found, in few characters: `+3 ~11 −2 ↩1 ×4, members +7 −2`; what is nought is left out.
pub fn counts_short(counts: &Counts) -> String {
    let part = |sign: &str, count: i64| (count > 0).then(|| format!("{sign}{}", number(count)));
    let join = |parts: &[Option<String>]| parts.iter().flatten().cloned().collect::<Vec<_>>().join(" ");
    let objects = join(&[
        part("+", counts.added),
        part("~", counts.changed),
        part("−", counts.missing),
        part("↩", counts.returned),
        part("×", counts.removed),
    ]);
    let members = join(&[part("+", counts.members_added), part("−", counts.members_removed)]);
    let members = if members.is_empty() { members } else { format!("members {members}") };
    match (objects.is_empty(), members.is_empty()) {
        (true, true) => "no difference".into(),
        (false, false) => format!("{objects}, {members}"),
        _ => objects + &members,
    }
}

/// What a run found, as a sentence for readers and screen readers.
pub fn counts_sentence(counts: &Counts) -> String {
    let part = |count: i64, words: &str| (count > 0).then(|| format!("{} {words}", number(count)));
    let mut parts: Vec<String> = [
        part(counts.added, "added"),
        part(counts.changed, "changed"),
        part(counts.missing, "missing"),
        part(counts.returned, "returned"),
        part(counts.removed, "removed"),
        (counts.members_added > 0).then(|| counted(counts.members_added, "member added", "members added")),
        (counts.members_removed > 0).then(|| counted(counts.members_removed, "member removed", "members removed")),
        part(counts.quarantined, "quarantined"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let read = counted(counts.read, "object read", "objects read");
    match parts.pop() {
        None => format!("{read}; nothing differs from the copy."),
        Some(last) if parts.is_empty() => format!("{read}: {last}."),
        Some(last) => format!("{read}: {} and {last}.", parts.join(", ")),
    }
}

/// Number and unit (`m`, `h` or `d`) of an interval as the schedule takes it; `None` for anything else.
pub fn interval(every: &str) -> Option<(i64, &'static str)> {
    let every = every.trim();
    let digits = every.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = every.split_at_checked(digits)?;
    let unit = match unit.trim() {
        "m" | "min" => "m",
        "h" => "h",
        "d" => "d",
        _ => return None,
    };
    Some((count.parse().ok()?, unit))
}

fn spec(spec: &SpecInput) -> String {
    match (&spec.every, &spec.cron) {
        (Some(every), _) => match interval(every) {
            Some((1, "m")) => "every minute".into(),
            Some((1, "h")) => "every hour".into(),
            Some((1, "d")) => "every day".into(),
            Some((count, unit)) => {
                let unit = match unit {
                    "m" => "minutes",
                    "h" => "hours",
                    _ => "days",
                };
                format!("every {} {unit}", number(count))
            }
            None => format!("every {every}"),
        },
        (None, Some(line)) => {
            format!("by the cron line {line}, in the time zone {}", spec.time_zone.as_deref().unwrap_or("UTC"))
        }
        (None, None) => "only by hand".into(),
    }
}

/// When runs happen: `every 24 hours`, `only by hand; changes every 15 minutes`; whether it is paused is said apart.
pub fn schedule(schedule: &Schedule) -> String {
    let full = schedule.full.as_ref().map_or_else(|| "only by hand".to_owned(), spec);
    match &schedule.delta {
        Some(delta) => format!("{full}; changes {}", spec(delta)),
        None => full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        for (us, expected) in [
            (-5, "0 ms"),
            (0, "0 ms"),
            (420_400, "420 ms"),
            (999_999, "999 ms"),
            (SECOND, "1.0 s"),
            (3_240_000, "3.2 s"),
            (9_960_000, "10 s"),
            (41 * SECOND, "41 s"),
            (59_999_999, "59 s"),
            (MINUTE, "1 min"),
            (64 * SECOND, "1 min 4 s"),
            (HOUR, "1 h"),
            (2 * HOUR + 5 * MINUTE + 59 * SECOND, "2 h 5 min"),
            (3 * DAY + 4 * HOUR, "3 d 4 h"),
            (i64::MAX, "106751991 d 4 h"),
        ] {
            assert_eq!(duration(us), expected, "{us}");
        }
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (given, expected) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567"), (-12_345, "−12,345")]
        {
            assert_eq!(number(given), expected);
        }
        assert_eq!(counted(1, "group", "groups"), "1 group");
        assert_eq!(counted(2_000, "group", "groups"), "2,000 groups");
        assert_eq!((rate(2_950), rate(0)), ("2,950 objects/s".into(), "–".into()));
    }

    #[test]
    fn counts_leave_out_what_is_nought() {
        let none = Counts { read: 1, unchanged: 1, ..Counts::default() };
        assert_eq!(counts_short(&none), "no difference");
        assert_eq!(counts_sentence(&none), "1 object read; nothing differs from the copy.");
        let some = Counts { read: 1_200, added: 3, missing: 2, members_added: 1, quarantined: 4, ..Counts::default() };
        assert_eq!(counts_short(&some), "+3 −2, members +1");
        assert_eq!(counts_sentence(&some), "1,200 objects read: 3 added, 2 missing, 1 member added and 4 quarantined.");
        assert_eq!(counts_short(&Counts { removed: 4, ..Counts::default() }), "×4");
        assert_eq!(counts_short(&Counts { members_removed: 7, ..Counts::default() }), "members −7");
        assert_eq!(counts_sentence(&Counts { read: 9, changed: 1, ..Counts::default() }), "9 objects read: 1 changed.");
    }

    #[test]
    fn schedules_are_words() {
        let every = |text: &str| schedule(&Schedule { full: Some(SpecInput::every(text)), ..Schedule::default() });
        for (text, expected) in [
            ("1h", "every hour"),
            ("24h", "every 24 hours"),
            ("15 min", "every 15 minutes"),
            ("1d", "every day"),
            ("x", "every x"),
        ] {
            assert_eq!(every(text), expected);
        }
        assert_eq!(schedule(&Schedule::default()), "only by hand");
        let cron = SpecInput { cron: Some("0 3 * * *".into()), time_zone: Some("Europe/Oslo".into()), every: None };
        assert_eq!(
            schedule(&Schedule { full: Some(cron), ..Schedule::default() }),
            "by the cron line 0 3 * * *, in the time zone Europe/Oslo"
        );
    }
}
