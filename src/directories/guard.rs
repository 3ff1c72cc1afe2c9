//! The guard: looks at the figures of a plan and says why it should not be applied without a person.
//!
//! Owns the limits of a directory, their defaults, and every sentence about a plan that was stopped. It is pure: no
//! SQL, no clock, no settings of its own; [`judge`] sees [`Facts`] and answers [`Trip`]s. It must never decide what
//! happens to a run (that is `run`'s business), and a trip must never depend on anything but the figures, so that a
//! person who reads them understands why.
//!
//! Why limits *and* wires: a limit is a number that a busy directory may exceed on an honest day, so it can be set. A
//! wire (an empty answer, half an answer, other settings) is what a broken source looks like, and cannot be switched
//! off. People lost every user to exactly these: a mistyped filter, and an API that answered 200 with half a page.

use serde::{Deserialize, Serialize};

use super::words;
use crate::{clock::Time, error::FieldError};

/// One limit: a plan with more than both is not applied by itself. So the larger of the two is what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = GuardLimit)]
pub struct Limit {
    /// Share of those there are, 0 to 1.
    pub share: f64,
    pub count: u32,
}

impl Limit {
    /// Ten, or one in twenty (HOSTILE G14).
    pub const DEFAULT: Self = Self { share: 0.05, count: 10 };
    /// For the members of one privileged group: two, or one in five. Such groups are small, and each member matters.
    pub const DEFAULT_PRIVILEGED: Self = Self { share: 0.2, count: 2 };

    /// How many of `of` may be lost.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are far below 2^52, shares are between 0 and 1"
    )]
    pub fn allowance(&self, of: u64) -> u64 {
        // 0.29 × 100 is 28.999… in binary: a whole number that was meant must not be missed by a rounding.
        let by_share = (self.share.clamp(0.0, 1.0) * of as f64 + 1e-6).floor() as u64;
        by_share.max(u64::from(self.count))
    }
}

/// Groups whose members are guarded more strictly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = GuardPrivileged)]
pub struct Privileged {
    /// Names of groups, in any case; `*` stands for any characters. Empty: no group is privileged.
    #[serde(default = "Privileged::default_groups")]
    pub groups: Vec<String>,
    /// Of the members of one such group.
    #[serde(default = "Privileged::default_limit")]
    pub membership_removals: Limit,
}

impl Privileged {
    /// What administrators' groups are called on most systems: `Domain Admins`, `administrators`, `wheel`, `sudo`.
    fn default_groups() -> Vec<String> {
        ["*admin*", "root", "sudo", "wheel"].map(str::to_owned).to_vec()
    }

    fn default_limit() -> Limit {
        Limit::DEFAULT_PRIVILEGED
    }

    /// Whether a group of this name is one of them.
    pub fn covers(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.groups.iter().any(|pattern| matches(&pattern.trim().to_lowercase(), &name))
    }
}

impl Default for Privileged {
    fn default() -> Self {
        Self { groups: Self::default_groups(), membership_removals: Limit::DEFAULT_PRIVILEGED }
    }
}

/// Whether `name` is what `pattern` says, where `*` stands for any characters. Takes time in proportion to the product
/// of their lengths at worst, which [`Guard::check`] bounds.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|head| name.strip_prefix(head)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(tail) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(tail)
}

/// Limits that park a plan, and how long what is missing stays. Absent parts have their defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Guard {
    /// Of the identities that go missing in one run, and apart from them of the groups: more than 10 and more than 5 %.
    pub removals: Limit,
    /// Of the identities that stop being active (disabled, locked, expired, suspended …): more than 10 and more than 5 %.
    pub disables: Limit,
    /// Of all direct memberships: more than 10 and more than 5 %.
    pub membership_removals: Limit,
    pub privileged: Privileged,
    /// Days after which what is missing counts as removed: 0 to 400, 30 by default.
    pub grace_days: u16,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            removals: Limit::DEFAULT,
            disables: Limit::DEFAULT,
            membership_removals: Limit::DEFAULT,
            privileged: Privileged::default(),
            grace_days: Self::GRACE_DAYS,
        }
    }
}

impl Guard {
    pub const GRACE_DAYS: u16 = 30;
    pub const GRACE_DAYS_MAX: u16 = 400;
    const GROUPS_MAX: usize = 100;
    const GROUP_CHARS_MAX: usize = 200;

    /// Every field that has to be corrected, named as in the API.
    pub fn check(&self) -> Vec<FieldError> {
        let limits = [
            ("guard.removals.share", &self.removals),
            ("guard.disables.share", &self.disables),
            ("guard.membershipRemovals.share", &self.membership_removals),
            ("guard.privileged.membershipRemovals.share", &self.privileged.membership_removals),
        ];
        let mut errors: Vec<FieldError> = limits
            .into_iter()
            .filter(|(_, limit)| !(0.0..=1.0).contains(&limit.share))
            .map(|(field, _)| FieldError::new(field, "A share is a number between 0 and 1."))
            .collect();
        let groups = &self.privileged.groups;
        let is_name = |name: &String| {
            let length = name.trim().chars().count();
            (1..=Self::GROUP_CHARS_MAX).contains(&length) && !name.chars().any(char::is_control)
        };
        if groups.len() > Self::GROUPS_MAX || !groups.iter().all(is_name) {
            errors.push(FieldError::new(
                "guard.privileged.groups",
                format!(
                    "Give at most {} names of 1 to {} characters; * stands for any characters.",
                    Self::GROUPS_MAX,
                    Self::GROUP_CHARS_MAX
                ),
            ));
        }
        if self.grace_days > Self::GRACE_DAYS_MAX {
            errors.push(FieldError::new(
                "guard.graceDays",
                format!("The grace time is a number of days from 0 to {}.", Self::GRACE_DAYS_MAX),
            ));
        }
        errors
    }
}

/// The figures of one kind of object: in the copy before the run, and in the plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// In the copy and neither missing nor removed.
    pub present: u64,
    pub added: u64,
    pub changed: u64,
    pub missing: u64,
    pub returned: u64,
}

impl Tally {
    /// How many the directory answered with, of a full run.
    fn answered(&self) -> u64 {
        (self.present + self.added + self.returned).saturating_sub(self.missing)
    }
}

/// What a privileged group would lose. Also a group that goes missing: then all of its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupLoss {
    pub name: String,
    /// Members before.
    pub of: u64,
    pub number: u64,
    /// How many may go; [`judge`] fills it in.
    #[serde(default)]
    pub allowed: u64,
}

/// A setting that decides what is read and that is not as it was; without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SettingChange {
    /// As in the API.
    pub setting: String,
    pub before: String,
    pub after: String,
}

/// Everything [`judge`] looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The run read everything, so what was not seen is missing.
    pub is_full: bool,
    /// An earlier run was applied: there is a copy that can be harmed.
    pub was_applied: bool,
    pub identities: Tally,
    pub groups: Tally,
    /// Identities that are active in the copy and something else in the plan.
    pub disabled: u64,
    /// Direct memberships in the copy.
    pub memberships: u64,
    pub memberships_removed: u64,
    /// Groups that [`Privileged::covers`], as far as they lose members.
    pub privileged: Vec<GroupLoss>,
    pub settings_changed: Vec<SettingChange>,
    /// Why the directory no longer knows the watermark, when that is not its ordinary way to ask for a full reading.
    pub watermark_lost: Option<String>,
    /// How many objects the directory itself said it holds, and how many it sent.
    pub counted: Option<(u64, u64)>,
}

impl Facts {
    /// Whether the plan takes anything away.
    fn loses(&self) -> bool {
        self.identities.missing + self.groups.missing + self.disabled + self.memberships_removed > 0
    }
}

/// What a limit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    Identities,
    Groups,
    Disables,
    Memberships,
}

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objects {
    Identities,
    Groups,
}

impl Objects {
    fn many(self) -> &'static str {
        match self {
            Self::Identities => "identities",
            Self::Groups => "groups",
        }
    }

    fn counted(self, number: u64) -> String {
        match self {
            Self::Identities => counted(number, "identity", "identities"),
            Self::Groups => counted(number, "group", "groups"),
        }
    }
}

/// One reason to park a plan. Stored as JSON with the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Trip {
    /// More than the guard allows.
    OverLimit {
        loss: Loss,
        number: u64,
        of: u64,
        allowed: u64,
    },
    /// One or more privileged groups lose more than allowed; the first of them, and how many there are.
    PrivilegedGroups {
        groups: Vec<GroupLoss>,
        count: u64,
    },
    /// The copy holds some, the answer none.
    EmptyAnswer {
        objects: Objects,
        present: u64,
    },
    /// The answer holds less than half of what the copy holds.
    ShortAnswer {
        objects: Objects,
        answered: u64,
        present: u64,
    },
    /// The first run of a directory found nobody.
    NothingFound {
        groups: u64,
    },
    /// What is read is not what was read before, and the plan shows it.
    SettingsChanged {
        settings: Vec<SettingChange>,
    },
    WatermarkLost {
        reason: String,
    },
    /// The plan takes the copy back to how it stood after an earlier run, at that moment.
    Rewind {
        run: i64,
        at: Time,
    },
    /// The directory sent fewer objects than it said it holds.
    CountDisagrees {
        counted: u64,
        sent: u64,
    },
}

/// Below this many, half an answer is one or two people who left.
const SHORT_ANSWER_FROM: u64 = 4;
/// One in so many objects may be deleted between the directory's count and the end of the reading.
const COUNT_SLACK: u64 = 100;
/// Groups that a trip names.
const GROUPS_NAMED: usize = 20;

/// Every reason why this plan needs a person, the gravest first. None: it may be applied.
///
/// * Limits count what is lost in one run. What was missing for longer than the grace time and is now removed does not
///   count again: the plan that lost it was judged.
/// * Other settings park a plan that takes anything away, or that adds or changes more than the limit of removals
///   allows to vanish: after a change of filter, base or mapping somebody should look at what it did. A plan with
///   fewer additions shows that the change was harmless.
/// * A lost watermark parks a plan that takes anything away.
/// * A first run has nothing to lose; it is stopped only when it finds nobody, which is a mistake in the settings.
pub fn judge(guard: &Guard, facts: &Facts) -> Vec<Trip> {
    let (identities, groups) = (&facts.identities, &facts.groups);
    let mut trips = Vec::new();
    if let Some((counted, sent)) = facts.counted
        && counted.saturating_sub(sent) > counted / COUNT_SLACK
    {
        trips.push(Trip::CountDisagrees { counted, sent });
    }
    if !facts.was_applied {
        if facts.is_full && identities.answered() == 0 {
            trips.push(Trip::NothingFound { groups: groups.answered() });
        }
        return trips;
    }
    for (objects, tally) in [(Objects::Identities, identities), (Objects::Groups, groups)] {
        let (answered, present) = (tally.answered(), tally.present);
        if !facts.is_full || present == 0 {
            continue;
        }
        if answered == 0 {
            trips.push(Trip::EmptyAnswer { objects, present });
        } else if present >= SHORT_ANSWER_FROM && answered < present.div_ceil(2) {
            trips.push(Trip::ShortAnswer { objects, answered, present });
        }
    }
    let is_much = |tally: &Tally| tally.added.max(tally.changed) > guard.removals.allowance(tally.present);
    if !facts.settings_changed.is_empty() && (facts.loses() || is_much(identities) || is_much(groups)) {
        trips.push(Trip::SettingsChanged { settings: facts.settings_changed.clone() });
    }
    if let Some(reason) = facts.watermark_lost.as_ref().filter(|_| facts.loses()) {
        trips.push(Trip::WatermarkLost { reason: reason.clone() });
    }
    for (loss, limit, number, of) in [
        (Loss::Identities, guard.removals, identities.missing, identities.present),
        (Loss::Groups, guard.removals, groups.missing, groups.present),
        (Loss::Disables, guard.disables, facts.disabled, identities.present),
        (Loss::Memberships, guard.membership_removals, facts.memberships_removed, facts.memberships),
    ] {
        let allowed = limit.allowance(of);
        if number > allowed {
            trips.push(Trip::OverLimit { loss, number, of, allowed });
        }
    }
    let limit = guard.privileged.membership_removals;
    let over = || facts.privileged.iter().filter(|group| group.number > limit.allowance(group.of));
    let count = over().count();
    if count > 0 {
        let named = |group: &GroupLoss| GroupLoss { allowed: limit.allowance(group.of), ..group.clone() };
        let groups = over().take(GROUPS_NAMED).map(named).collect();
        trips.push(Trip::PrivilegedGroups { groups, count: u64::try_from(count).unwrap_or(u64::MAX) });
    }
    trips
}

fn number(number: u64) -> String {
    words::number(i64::try_from(number).unwrap_or(i64::MAX))
}

fn counted(number: u64, one: &str, many: &str) -> String {
    words::counted(i64::try_from(number).unwrap_or(i64::MAX), one, many)
}

impl Trip {
    /// The stable name, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::OverLimit { .. } => "over-limit",
            Self::PrivilegedGroups { .. } => "privileged-groups",
            Self::EmptyAnswer { .. } => "empty-answer",
            Self::ShortAnswer { .. } => "short-answer",
            Self::NothingFound { .. } => "nothing-found",
            Self::SettingsChanged { .. } => "settings-changed",
            Self::WatermarkLost { .. } => "watermark-lost",
            Self::Rewind { .. } => "rewind",
            Self::CountDisagrees { .. } => "count-disagrees",
        }
    }

    /// A few words.
    pub fn title(&self) -> String {
        match self {
            Self::OverLimit { loss: Loss::Identities, .. } => "Many identities go missing".into(),
            Self::OverLimit { loss: Loss::Groups, .. } => "Many groups go missing".into(),
            Self::OverLimit { loss: Loss::Disables, .. } => "Many identities stop being active".into(),
            Self::OverLimit { loss: Loss::Memberships, .. } => "Many memberships end".into(),
            Self::PrivilegedGroups { count: 1, .. } => "A privileged group loses members".into(),
            Self::PrivilegedGroups { .. } => "Privileged groups lose members".into(),
            Self::EmptyAnswer { objects, .. } => format!("The directory answered without any {}", objects.many()),
            Self::ShortAnswer { objects, .. } => {
                format!("The directory answered with less than half of the {}", objects.many())
            }
            Self::NothingFound { .. } => "The first run found nobody".into(),
            Self::SettingsChanged { .. } => "The settings are not those of the last applied run".into(),
            Self::WatermarkLost { .. } => "The directory no longer knows where the last run ended".into(),
            Self::Rewind { run, .. } => format!("The copy would go back to run {run}"),
            Self::CountDisagrees { .. } => "The directory sent fewer objects than it counts".into(),
        }
    }

    /// What was seen, with its figures, as a sentence.
    pub fn explanation(&self) -> String {
        match self {
            Self::OverLimit { loss, number: lost, of, allowed } => {
                let (what, all) = match loss {
                    Loss::Identities => (
                        format!("{} would be marked as missing", counted(*lost, "identity", "identities")),
                        counted(*of, "identity", "identities"),
                    ),
                    Loss::Groups => (
                        format!("{} would be marked as missing", counted(*lost, "group", "groups")),
                        counted(*of, "group", "groups"),
                    ),
                    Loss::Disables => (
                        format!("{} would stop being active", counted(*lost, "identity", "identities")),
                        counted(*of, "identity", "identities"),
                    ),
                    Loss::Memberships => (
                        format!("{} would end", counted(*lost, "membership", "memberships")),
                        counted(*of, "membership", "memberships"),
                    ),
                };
                format!("{what}; of {all} the guard lets {} go without a person.", number(*allowed))
            }
            Self::PrivilegedGroups { groups, count } => {
                let named: Vec<String> = groups
                    .iter()
                    .take(3)
                    .map(|group| format!("{} loses {} of {}", group.name, number(group.number), number(group.of)))
                    .collect();
                let more = count.saturating_sub(u64::try_from(named.len()).unwrap_or(0));
                let more = if more > 0 {
                    format!(", and {}", counted(more, "more group", "more groups"))
                } else {
                    String::new()
                };
                format!("{}{more}: more than the guard allows for privileged groups.", named.join(", "))
            }
            Self::EmptyAnswer { objects, present } => {
                format!("The copy holds {}; this run was sent none.", objects.counted(*present))
            }
            Self::ShortAnswer { objects, answered, present } => {
                format!("The copy holds {}; this run was sent {}.", objects.counted(*present), number(*answered))
            }
            Self::NothingFound { groups: 0 } => "The directory answered, but with no identity and no group.".into(),
            Self::NothingFound { groups } => {
                format!("The directory answered with {}, but with no identity.", counted(*groups, "group", "groups"))
            }
            Self::SettingsChanged { settings } => {
                let names: Vec<&str> = settings.iter().map(|change| change.setting.as_str()).collect();
                let verb = if names.len() == 1 { "is" } else { "are" };
                format!(
                    "{} {verb} not what the last applied run was read with, so the plan may come from the settings and not from the directory.",
                    sentence_list(&names)
                )
            }
            Self::WatermarkLost { reason } => {
                format!("{} Everything was read anew, and the plan takes something away.", dotted(reason))
            }
            Self::Rewind { run, at } => format!(
                "The copy would stand as it stood right after run {run}, {}. The directory itself is not changed: its next reading brings its present state back, under the guard.",
                at.text()
            ),
            Self::CountDisagrees { counted: all, sent } => {
                format!("By its own count the directory holds {} objects, but it sent {}.", number(*all), number(*sent))
            }
        }
    }

    /// What to look at before approving.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::OverLimit { .. } => {
                "Look through the plan. If people really left, approve it; if not, discard it and look at the directory, its filter and its base."
            }
            Self::PrivilegedGroups { .. } => {
                "Ask whoever looks after these groups. If the members were taken out on purpose, approve the plan."
            }
            Self::EmptyAnswer { .. } | Self::ShortAnswer { .. } => {
                "Check base, filter and the rights of the reading account, and whether the server holds all its data. Discard the plan unless the directory was really emptied."
            }
            Self::NothingFound { .. } => {
                "Check base, user filter and the rights of the reading account, then discard this plan and read again."
            }
            Self::SettingsChanged { .. } => {
                "Look through the plan. Approve it if this is what the new settings were meant to do; if not, discard it and correct the settings."
            }
            Self::WatermarkLost { .. } => {
                "Check that this is the same server with the same data, for example after a restore, then approve or discard the plan."
            }
            Self::Rewind { .. } => {
                "Pause the directory's schedule first: a reading that is applied takes the place of this plan, and ends what it did. Then look through the plan and approve or discard it."
            }
            Self::CountDisagrees { .. } => {
                "Check the server's limits and the rights of the reading account, discard the plan and read again."
            }
        }
    }
}

fn dotted(text: &str) -> String {
    let text = text.trim();
    if text.ends_with('.') { text.to_owned() } else { format!("{text}.") }
}

/// `a`, `a and b`, `a, b and c`.
fn sentence_list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Reasons that a list or a message names in full.
const REASONS_NAMED: usize = 2;

/// Why a plan was parked, as one text for lists and messages: the gravest reasons, and how many more there are.
pub fn reason(trips: &[Trip]) -> String {
    let mut text = trips.iter().take(REASONS_NAMED).map(Trip::explanation).collect::<Vec<_>>().join(" ");
    match trips.len().saturating_sub(REASONS_NAMED) {
        0 => {}
        1 => text.push_str(" There is one more reason."),
        more => text.push_str(&format!(" There are {more} more reasons.")),
    }
    text
}

#[cfg(test)]
mod tests;
