//! Directories and runs as stored and as the API shows them.

use serde::{Deserialize, Serialize};

use super::{
    guard::Guard,
    live::LiveJson,
    plan::Counts,
    progress::Figures,
    review::{DecisionJson, Review, TripJson},
    staleness,
};
use crate::{clock::Time, connectors::Kind, error::FieldError, principal::AccountId, schedule::SpecInput};

/// When a directory is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Schedule {
    /// Reading everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<SpecInput>,
    /// Reading what has changed since the last run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<SpecInput>,
    /// No run starts by itself.
    pub paused: bool,
    /// Waits at the server for changes and reads them within seconds, beside the schedules. Needs a server that tells
    /// changes; `live` of the directory says whether it does.
    pub live: bool,
}

impl Schedule {
    /// `can_be_live`: directories of this kind may be able to tell changes ([`Kind::can_be_watched`]).
    pub fn check(&self, can_be_live: bool) -> Vec<FieldError> {
        let mut errors: Vec<FieldError> = [("schedule.full", &self.full), ("schedule.delta", &self.delta)]
            .into_iter()
            .filter_map(|(field, spec)| {
                let spec = spec.as_ref()?;
                too_long(field, spec).or_else(|| spec.check(field).err())
            })
            .collect();
        if self.live && !can_be_live {
            let message = "Directories of this kind do not tell changes. Leave live mode off and set a schedule.";
            errors.push(FieldError::new("schedule.live", message));
        }
        errors
    }
}

/// Characters of one part of a schedule: more is no cron line, and is not worth reading.
const SPEC_PART_MAX: usize = 100;

fn too_long(field: &str, spec: &SpecInput) -> Option<FieldError> {
    [("every", &spec.every), ("cron", &spec.cron), ("timeZone", &spec.time_zone)]
        .into_iter()
        .find(|(_, part)| part.as_ref().is_some_and(|part| part.len() > SPEC_PART_MAX))
        .map(|(name, _)| {
            FieldError::new(format!("{field}.{name}"), format!("This is longer than {SPEC_PART_MAX} characters."))
        })
}

/// A directory as stored, without its secrets.
#[derive(Debug, Clone)]
pub struct Directory {
    pub id: i64,
    pub account_id: AccountId,
    pub kind: Kind,
    pub name: String,
    /// JSON as the connector's settings.
    pub settings: serde_json::Value,
    pub read_principal: String,
    /// Who acts on its accounts; `None` where nobody can.
    pub act_principal: Option<String>,
    pub schedule: Schedule,
    pub guard: Guard,
    pub applied_run_id: Option<i64>,
    pub applied_at: Option<Time>,
    pub identity_count: i64,
    pub group_count: i64,
    pub created_at: Time,
    pub updated_at: Time,
    /// When the next full run is due, from the schedule.
    pub next_run_at: Option<Time>,
}

/// A directory in the API; secrets never come back.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Directory)]
pub struct DirectoryJson {
    pub id: String,
    pub kind: Kind,
    pub name: String,
    #[schema(value_type = Object)]
    pub settings: serde_json::Value,
    /// Who the appliance reads as (a bind DN), and who it acts as where it can; secrets are not shown.
    #[schema(value_type = Object)]
    pub credentials: serde_json::Value,
    pub schedule: Schedule,
    pub guard: Guard,
    pub identity_count: i64,
    pub group_count: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_applied_run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_applied_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_run_at: Option<Time>,
    /// Since when the copy is older than twice its interval; absent while it is not. What it shows is of
    /// `lastAppliedAt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub stale_since: Option<Time>,
    /// The run whose plan waits for approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked_run_id: Option<String>,
    /// How live mode stands.
    pub live: LiveJson,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Time,
}

impl DirectoryJson {
    /// With the run whose plan waits for approval, as it stands `now`.
    pub fn new(directory: Directory, parked: Option<&Run>, live: LiveJson, now: Time) -> Self {
        Self {
            live,
            stale_since: staleness::stale_since(&directory, now),
            parked_run_id: parked.map(|run| run.id.to_string()),
            id: directory.id.to_string(),
            kind: directory.kind,
            name: directory.name,
            settings: directory.settings,
            credentials: match directory.act_principal {
                Some(act) => {
                    serde_json::json!({"read": {"bindDn": directory.read_principal}, "act": {"bindDn": act}})
                }
                None => serde_json::json!({"read": {"bindDn": directory.read_principal}}),
            },
            schedule: directory.schedule,
            guard: directory.guard,
            identity_count: directory.identity_count,
            group_count: directory.group_count,
            last_applied_run_id: directory.applied_run_id.map(|id| id.to_string()),
            last_applied_at: directory.applied_at,
            next_run_at: directory.next_run_at,
            created_at: directory.created_at,
            updated_at: directory.updated_at,
        }
    }
}

/// What a run reads: everything, what changed, or nothing but the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Full,
    Delta,
    /// Takes the copy back; started by `rewind`, never by naming it.
    #[serde(skip_deserializing)]
    #[schema(skip)]
    Rewind,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Delta => "delta",
            Self::Rewind => "rewind",
        }
    }
}

/// Where a run is (DESIGN §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    Reading,
    Planned,
    Parked,
    Applying,
    Applied,
    Discarded,
    Failed,
}

impl RunState {
    pub const ALL: [Self; 7] =
        [Self::Reading, Self::Planned, Self::Parked, Self::Applying, Self::Applied, Self::Discarded, Self::Failed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Planned => "planned",
            Self::Parked => "parked",
            Self::Applying => "applying",
            Self::Applied => "applied",
            Self::Discarded => "discarded",
            Self::Failed => "failed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A run as stored.
#[derive(Debug, Clone)]
pub struct Run {
    pub id: i64,
    pub account_id: AccountId,
    pub directory_id: i64,
    pub directory_name: String,
    pub mode: String,
    pub is_dry_run: bool,
    pub requested_by: String,
    pub state: RunState,
    pub reason: Option<String>,
    pub next_step: Option<String>,
    pub failure_kind: Option<String>,
    pub server: Option<String>,
    pub counts: Counts,
    pub started_at: Time,
    pub planned_at: Option<Time>,
    pub finished_at: Option<Time>,
    pub apply_at: Option<Time>,
    pub applied_to: Option<i64>,
    /// Its plan was written where it is seen once it is applied.
    pub is_in_place: bool,
    /// Of a rewind: the run that the copy is taken back to.
    pub rewind_to: Option<i64>,
}

impl Run {
    /// Whether something is still going to happen without a person.
    pub fn is_active(&self) -> bool {
        match self.state {
            RunState::Reading | RunState::Applying => true,
            RunState::Planned => !self.is_dry_run,
            _ => false,
        }
    }

    /// From the start to the end, or to `now` while it goes on, in microseconds; without the time in which a plan
    /// waited for a person.
    pub fn duration_us(&self, now: Time) -> i64 {
        let waited = match (self.planned_at, self.apply_at) {
            (Some(planned), Some(apply)) => apply.since(planned).max(0),
            _ => 0,
        };
        (self.finished_at.unwrap_or(now).since(self.started_at) - waited).max(0)
    }
}

/// How many of each there are.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CountsJson {
    /// Objects read: identities and groups.
    pub read: i64,
    pub added: i64,
    /// Objects with at least one field or member that differs.
    pub changed: i64,
    pub missing: i64,
    pub returned: i64,
    /// Missing for longer than the grace time.
    pub removed: i64,
    pub members_added: i64,
    pub members_removed: i64,
    pub quarantined: i64,
    pub unchanged: i64,
}

impl From<Counts> for CountsJson {
    fn from(counts: Counts) -> Self {
        Self {
            read: counts.read,
            added: counts.added,
            changed: counts.changed,
            missing: counts.missing,
            returned: counts.returned,
            removed: counts.removed,
            members_added: counts.members_added,
            members_removed: counts.members_removed,
            quarantined: counts.quarantined,
            unchanged: counts.unchanged,
        }
    }
}

/// An object that a run could not take.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Quarantined)]
pub struct QuarantineJson {
    #[serde(skip)]
    pub number: i64,
    pub id: String,
    /// Absent when the object has no readable one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// The object as the directory names it (a DN in LDAP).
    pub name: String,
    /// Why, as a sentence.
    pub reason: String,
}

/// How far a run is.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProgressJson {
    /// `connecting reading comparing applying done`.
    pub phase: String,
    pub objects_read: i64,
    pub changes_found: i64,
    /// Steps of the plan that are applied, of how many.
    pub applied: i64,
    pub to_apply: i64,
    pub elapsed_ms: i64,
    /// Objects read per second so far.
    pub rate: i64,
}

impl ProgressJson {
    /// From live figures, or from what the finished run says.
    pub fn new(run: &Run, live: Option<Figures>, now: Time) -> Self {
        let elapsed_ms = run.duration_us(now) / 1000;
        let reading_ms = run.planned_at.map_or(elapsed_ms, |planned| planned.since(run.started_at).max(0) / 1000);
        let (phase, read, found, applied, to_apply) = match live {
            Some(live) => (live.phase.as_str(), live.read, live.differences, live.applied, live.to_apply),
            None => ("done", run.counts.read, run.counts.differences(), 0, 0),
        };
        Self {
            phase: phase.to_owned(),
            objects_read: read,
            changes_found: found,
            applied,
            to_apply,
            elapsed_ms,
            rate: if reading_ms > 0 { read.saturating_mul(1000) / reading_ms } else { 0 },
        }
    }
}

/// A run in the API.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Run)]
pub struct RunJson {
    pub id: String,
    pub directory_id: String,
    pub directory_name: String,
    /// `full delta rewind`.
    pub mode: String,
    /// Of a rewind: the id of the run that the copy is taken back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewind_to: Option<String>,
    pub dry_run: bool,
    pub state: RunState,
    /// Why it failed, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// Stable name of the reason, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    pub requested_by: String,
    /// Reads with settings that are not stored, to show what they would do.
    pub preview: bool,
    /// Why the guard parked the plan; of a dry run, why it would.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trips: Vec<TripJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<DecisionJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discard: Option<DecisionJson>,
    /// The later run whose plan took the place of this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<String>,
    pub counts: CountsJson,
    pub progress: ProgressJson,
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Time>,
}

impl RunJson {
    pub fn new(run: Run, review: Review, live: Option<Figures>, now: Time) -> Self {
        let progress = ProgressJson::new(&run, live, now);
        Self {
            id: run.id.to_string(),
            directory_id: run.directory_id.to_string(),
            directory_name: run.directory_name,
            mode: run.mode,
            rewind_to: run.rewind_to.map(|id| id.to_string()),
            dry_run: run.is_dry_run,
            state: run.state,
            reason: run.reason,
            next_step: run.next_step,
            reason_code: run.failure_kind,
            server: run.server,
            requested_by: run.requested_by,
            preview: review.is_preview,
            trips: review.trips.iter().map(TripJson::new).collect(),
            approval: review.approved.map(DecisionJson::from),
            discard: review.discarded.map(DecisionJson::from),
            superseded_by: review.superseded_by.map(|id| id.to_string()),
            counts: run.counts.into(),
            progress,
            started_at: run.started_at,
            finished_at: run.finished_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_mode_is_refused_where_no_directory_of_the_kind_tells_changes() {
        let live = Schedule { live: true, ..Schedule::default() };
        assert_eq!(live.check(true), []);
        let fields: Vec<String> = live.check(false).into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["schedule.live"]);
        assert_eq!(Schedule::default().check(false), []);
    }
}
