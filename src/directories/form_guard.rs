//! The guard on pages: its fields in the form of a directory, and its words on the directory's page.
//!
//! Owns how limits are typed and said: shares in per cent, an empty field as the default. What they mean is decided in
//! [`super::guard`].

use super::{
    form::Fields,
    guard::{Guard, Limit, Privileged},
    words,
};
use crate::error::FieldError;

/// A share of 0 to 1 as per cent, without more digits than it has.
fn percent(share: f64) -> String {
    ((share * 1e6).round() / 1e4).to_string()
}

fn count(text: &str, default: u32, field: &str, errors: &mut Vec<FieldError>) -> u32 {
    let text = text.trim();
    if text.is_empty() {
        return default;
    }
    text.parse().unwrap_or_else(|_| {
        errors.push(FieldError::new(field, "Give a whole number, 0 or more."));
        default
    })
}

fn share(text: &str, default: f64, field: &str, errors: &mut Vec<FieldError>) -> f64 {
    let text = text.trim().trim_end_matches('%').trim_end().replace(',', ".");
    if text.is_empty() {
        return default;
    }
    match text.parse::<f64>() {
        // Rounded, so that 33.3 per cent are 0.333 and not 0.33299….
        Ok(percent) if (0.0..=100.0).contains(&percent) => (percent * 1e4).round() / 1e6,
        _ => {
            errors.push(FieldError::new(field, "Give a share from 0 to 100 per cent."));
            default
        }
    }
}

/// The guard as typed; what is wrong is named by the API's fields.
pub(super) fn read(fields: &Fields, errors: &mut Vec<FieldError>) -> Guard {
    let mut limit = |name: &str, default: Limit, typed_count: &str, typed_share: &str| Limit {
        count: count(typed_count, default.count, &format!("guard.{name}.count"), errors),
        share: share(typed_share, default.share, &format!("guard.{name}.share"), errors),
    };
    let default = Guard::default();
    let privileged = default.privileged.membership_removals;
    Guard {
        removals: limit("removals", default.removals, &fields.removals_count, &fields.removals_share),
        disables: limit("disables", default.disables, &fields.disables_count, &fields.disables_share),
        membership_removals: limit(
            "membershipRemovals",
            default.membership_removals,
            &fields.memberships_count,
            &fields.memberships_share,
        ),
        privileged: Privileged {
            membership_removals: limit(
                "privileged.membershipRemovals",
                privileged,
                &fields.privileged_count,
                &fields.privileged_share,
            ),
            groups: fields
                .privileged_groups
                .lines()
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
        },
        grace_days: match fields.grace_days.trim() {
            "" => default.grace_days,
            // What is no number is over the limit, which the guard's own check names.
            text => text.parse().unwrap_or(u16::MAX),
        },
    }
}

/// The form's own name of a field of the guard.
pub(super) fn own_name(field: &str) -> &str {
    match field {
        "guard.removals.count" => "removalsCount",
        "guard.removals.share" => "removalsShare",
        "guard.disables.count" => "disablesCount",
        "guard.disables.share" => "disablesShare",
        "guard.membershipRemovals.count" => "membershipsCount",
        "guard.membershipRemovals.share" => "membershipsShare",
        "guard.privileged.membershipRemovals.count" => "privilegedCount",
        "guard.privileged.membershipRemovals.share" => "privilegedShare",
        "guard.privileged.groups" => "privilegedGroups",
        "guard.graceDays" => "graceDays",
        other => other,
    }
}

impl Fields {
    /// The fields with a guard written into them.
    pub(super) fn with_guard(self, guard: &Guard) -> Self {
        let privileged = &guard.privileged.membership_removals;
        Self {
            removals_count: guard.removals.count.to_string(),
            removals_share: percent(guard.removals.share),
            disables_count: guard.disables.count.to_string(),
            disables_share: percent(guard.disables.share),
            memberships_count: guard.membership_removals.count.to_string(),
            memberships_share: percent(guard.membership_removals.share),
            privileged_count: privileged.count.to_string(),
            privileged_share: percent(privileged.share),
            privileged_groups: guard.privileged.groups.join("\n"),
            grace_days: guard.grace_days.to_string(),
            ..self
        }
    }
}

/// One limit as the form shows it.
pub(super) struct LimitRow {
    pub label: &'static str,
    pub sentence: &'static str,
    pub cells: [LimitCell; 2],
}

/// Its count or its share.
pub(super) struct LimitCell {
    pub column: &'static str,
    pub field: &'static str,
    pub value: String,
    pub placeholder: String,
    pub error: String,
}

/// The limits with what was typed; `error` answers what is wrong with a field.
pub(super) fn rows(fields: &Fields, error: impl Fn(&str) -> String) -> Vec<LimitRow> {
    let default = Fields::default().with_guard(&Guard::default());
    let cell = |column, field, value: &String, placeholder: String| LimitCell {
        column,
        field,
        value: value.clone(),
        placeholder,
        error: error(field),
    };
    vec![
        LimitRow {
            label: "Going missing",
            sentence: "Identities in one run; groups likewise, apart.",
            cells: [
                cell("count", "removalsCount", &fields.removals_count, default.removals_count),
                cell("share in per cent", "removalsShare", &fields.removals_share, default.removals_share),
            ],
        },
        LimitRow {
            label: "No longer active",
            sentence: "Disabled, locked, expired, suspended.",
            cells: [
                cell("count", "disablesCount", &fields.disables_count, default.disables_count),
                cell("share in per cent", "disablesShare", &fields.disables_share, default.disables_share),
            ],
        },
        LimitRow {
            label: "Memberships that end",
            sentence: "Of all memberships of the directory.",
            cells: [
                cell("count", "membershipsCount", &fields.memberships_count, default.memberships_count),
                cell("share in per cent", "membershipsShare", &fields.memberships_share, default.memberships_share),
            ],
        },
        LimitRow {
            label: "Members of one privileged group",
            sentence: "Of the groups named below, each by itself.",
            cells: [
                cell("count", "privilegedCount", &fields.privileged_count, default.privileged_count),
                cell("share in per cent", "privilegedShare", &fields.privileged_share, default.privileged_share),
            ],
        },
    ]
}

/// A guard in words.
pub(super) struct GuardView {
    /// What is limited, and how.
    pub limits: Vec<(&'static str, String)>,
    pub groups: String,
    pub grace: String,
}

impl GuardView {
    pub(super) fn new(guard: &Guard) -> Self {
        let limit = |limit: &Limit| match (limit.count, percent(limit.share).as_str()) {
            (0, "0") => "any".to_owned(),
            (count, "0") => format!("more than {}", words::number(i64::from(count))),
            (0, share) => format!("more than {share} %"),
            (count, share) => format!("more than {} and more than {share} %", words::number(i64::from(count))),
        };
        Self {
            limits: vec![
                ("Going missing", limit(&guard.removals)),
                ("No longer active", limit(&guard.disables)),
                ("Memberships that end", limit(&guard.membership_removals)),
                ("Members of a privileged group", limit(&guard.privileged.membership_removals)),
            ],
            groups: guard.privileged.groups.join(", "),
            grace: match guard.grace_days {
                0 => "none: what is missing counts as removed at once".to_owned(),
                days => {
                    format!("{}, then what is missing counts as removed", words::counted(days.into(), "day", "days"))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_that_is_written_into_the_form_reads_the_same() {
        let guards = [
            Guard::default(),
            Guard {
                removals: Limit { share: 0.0001, count: 0 },
                disables: Limit { share: 1.0, count: 4_000_000_000 },
                membership_removals: Limit { share: 0.333, count: 7 },
                privileged: Privileged { groups: Vec::new(), membership_removals: Limit { share: 0.0, count: 0 } },
                grace_days: 0,
            },
        ];
        for guard in guards {
            let mut errors = Vec::new();
            let again = read(&Fields::default().with_guard(&guard), &mut errors);
            assert_eq!((again, errors), (guard, Vec::new()));
        }
    }

    #[test]
    fn what_is_no_number_is_named_at_its_field() {
        let fields = Fields {
            removals_count: "-1".into(),
            removals_share: "101".into(),
            disables_share: " 2,5 % ".into(),
            memberships_share: "NaN".into(),
            privileged_count: "many".into(),
            grace_days: "a month".into(),
            ..Fields::default()
        };
        let mut errors = Vec::new();
        let guard = read(&fields, &mut errors);
        errors.extend(guard.check());
        let names: Vec<&str> = errors.iter().map(|error| own_name(&error.field)).collect();
        assert_eq!(names, ["removalsCount", "removalsShare", "membershipsShare", "privilegedCount", "graceDays"]);
        assert_eq!(guard.disables, Limit { share: 0.025, count: 10 });
    }

    #[test]
    fn limits_are_words() {
        let view = GuardView::new(&Guard { removals: Limit { share: 0.0, count: 0 }, ..Guard::default() });
        assert_eq!(view.limits[0].1, "any");
        assert_eq!(view.limits[1].1, "more than 10 and more than 5 %");
        assert_eq!(view.grace, "30 days, then what is missing counts as removed");
    }
}
