//! Requests and tasks, as they are stored, shown and written in the API (DESIGN §6, §8).

use serde::{Deserialize, Serialize};

use crate::{
    clock::Time,
    connectors::act::{Action, Standing},
    error::{Error, FieldError, Result},
    principal::AccountId,
};

/// Identities of one request. More at once is no longer read by whoever confirms it.
pub const IDENTITIES_MAX: usize = 1_000;
/// Characters of a reason.
const REASON_MAX: usize = 500;

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// Another person has to approve its request.
    AwaitingApproval,
    Queued,
    /// On its way: whether the directory has it is not known.
    Sent,
    /// The directory said that it took it.
    Accepted,
    /// The directory was read back and says so.
    Observed,
    Unsuccessful,
    /// The directory did not do it, or did not answer, in time.
    TimedOut,
    /// Not sent, because it must not be or would have no effect.
    Refused,
    /// Not sent, because it was called off first.
    Cancelled,
}

impl TaskState {
    pub const ALL: [Self; 9] = [
        Self::AwaitingApproval,
        Self::Queued,
        Self::Sent,
        Self::Accepted,
        Self::Observed,
        Self::Unsuccessful,
        Self::TimedOut,
        Self::Refused,
        Self::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::AwaitingApproval => "awaiting-approval",
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Accepted => "accepted",
            Self::Observed => "observed",
            Self::Unsuccessful => "unsuccessful",
            Self::TimedOut => "timed-out",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::AwaitingApproval => "Awaiting approval",
            Self::Queued => "Queued",
            Self::Sent => "Sent",
            Self::Accepted => "Accepted",
            Self::Observed => "Observed",
            Self::Unsuccessful => "Unsuccessful",
            Self::TimedOut => "Timed out",
            Self::Refused => "Refused",
            Self::Cancelled => "Cancelled",
        }
    }

    /// Nothing happens to it any more.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::AwaitingApproval | Self::Queued | Self::Sent | Self::Accepted)
    }
}

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RequestState {
    AwaitingApproval,
    Running,
    /// Every task was observed.
    Successful,
    PartiallySuccessful,
    /// No task was observed.
    Unsuccessful,
    /// Nothing was sent, because it was called off, declined, or not approved in time.
    Cancelled,
}

impl RequestState {
    pub const ALL: [Self; 6] = [
        Self::AwaitingApproval,
        Self::Running,
        Self::Successful,
        Self::PartiallySuccessful,
        Self::Unsuccessful,
        Self::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::AwaitingApproval => "awaiting-approval",
            Self::Running => "running",
            Self::Successful => "successful",
            Self::PartiallySuccessful => "partially-successful",
            Self::Unsuccessful => "unsuccessful",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::AwaitingApproval => "Awaiting approval",
            Self::Running => "Running",
            Self::Successful => "Successful",
            Self::PartiallySuccessful => "Partially successful",
            Self::Unsuccessful => "Unsuccessful",
            Self::Cancelled => "Cancelled",
        }
    }

    /// From how many tasks ended in which state, once all have.
    pub fn of_tasks(counts: &Counts) -> Self {
        let all = counts.total();
        if counts.observed == all {
            Self::Successful
        } else if counts.observed > 0 {
            Self::PartiallySuccessful
        } else if counts.cancelled == all {
            Self::Cancelled
        } else {
            Self::Unsuccessful
        }
    }
}

/// How many tasks of a request are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    pub awaiting_approval: i64,
    pub queued: i64,
    /// Sent or accepted, and not observed yet.
    pub in_progress: i64,
    pub observed: i64,
    /// Unsuccessful or timed out.
    pub unsuccessful: i64,
    pub refused: i64,
    pub cancelled: i64,
}

impl Counts {
    pub fn add(&mut self, state: TaskState, number: i64) {
        let slot = match state {
            TaskState::AwaitingApproval => &mut self.awaiting_approval,
            TaskState::Queued => &mut self.queued,
            TaskState::Sent | TaskState::Accepted => &mut self.in_progress,
            TaskState::Observed => &mut self.observed,
            TaskState::Unsuccessful | TaskState::TimedOut => &mut self.unsuccessful,
            TaskState::Refused => &mut self.refused,
            TaskState::Cancelled => &mut self.cancelled,
        };
        *slot += number;
    }

    pub fn total(&self) -> i64 {
        self.open() + self.observed + self.unsuccessful + self.refused + self.cancelled
    }

    /// Those that something may still happen to.
    pub fn open(&self) -> i64 {
        self.awaiting_approval + self.queued + self.in_progress
    }
}

/// A request as stored.
#[derive(Debug, Clone)]
pub struct Request {
    pub id: i64,
    pub account_id: AccountId,
    pub action: Action,
    pub reason: String,
    pub requested_by: String,
    pub requester: String,
    pub requested_at: Time,
    pub state: RequestState,
    pub waits_for: Option<String>,
    pub expires_at: Option<Time>,
    pub decision: Option<Decision>,
    pub undo_at: Option<Time>,
    /// The time box is over: taken back, or nothing was left to take back.
    pub undo_ended_at: Option<Time>,
    /// The newest request that takes it back, all or in part, and was not called off nor failed.
    pub undone_by: Option<i64>,
    pub undo_of: Option<i64>,
    pub finished_at: Option<Time>,
    pub counts: Counts,
}

/// What became of a request that waited for another person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TaskRequestDecision)]
pub struct Decision {
    /// `approved`, `declined`, `overridden` or `expired`.
    pub decision: String,
    /// A principal's URN.
    pub by: String,
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
    pub reason: String,
}

/// A task as stored.
#[derive(Debug, Clone)]
pub struct Task {
    pub id: i64,
    pub request_id: i64,
    pub account_id: AccountId,
    pub directory_id: i64,
    pub identity_id: i64,
    pub external_id: String,
    pub name: String,
    pub user_name: String,
    pub action: Action,
    pub state: TaskState,
    pub error: Option<String>,
    /// The same for whoever's role is for a part of the account, where the error names what may lie outside of it.
    pub error_in_part: Option<String>,
    pub next_step: Option<String>,
    pub before: Option<Standing>,
    pub after: Option<Standing>,
    pub was_so: bool,
    /// Taking it back would bring something back: not where the account was out of use before.
    pub can_undo: bool,
    pub attempts: i64,
    pub due_at: Option<Time>,
    pub give_up_at: Option<Time>,
    pub sent_at: Option<Time>,
    pub accepted_at: Option<Time>,
    pub observed_at: Option<Time>,
    pub finished_at: Option<Time>,
    pub inverse_of: Option<i64>,
    pub drift_at: Option<Time>,
    pub drift: Option<String>,
    /// Why it was asked for: its request's.
    pub reason: String,
    pub requested_at: Time,
}

impl Task {
    /// What would take it back now, if anything does: it did something, or may have, that nobody has changed since.
    pub fn inverse(&self) -> Option<Action> {
        let did = match self.state {
            TaskState::Observed => !self.was_so,
            // Sent, and its end is not known: taking it back is harmless where it did nothing.
            TaskState::Unsuccessful | TaskState::TimedOut => self.sent_at.is_some(),
            _ => false,
        };
        self.action.inverse().filter(|_| did && self.can_undo && self.drift_at.is_none())
    }
}

/// A task in the API (DESIGN §8).
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Task)]
pub struct TaskJson {
    pub id: String,
    pub request_id: String,
    pub directory_id: String,
    pub identity_id: String,
    /// The identity's name when it was asked for.
    pub name: String,
    pub user_name: String,
    pub action: Action,
    pub state: TaskState,
    /// Why it was asked for.
    pub reason: String,
    /// Why it is not done, or not done yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// The directory said so already; nothing was sent.
    pub was_so: bool,
    pub attempts: i64,
    /// The account as the directory held it before anything was sent, and as it was read back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub before: Option<Standing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub after: Option<Standing>,
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub sent_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub accepted_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub observed_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Time>,
    /// The action that takes this one back, as long as it can be taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inverse: Option<Action>,
    /// The task that this one takes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inverse_of: Option<String>,
    /// What somebody changed afterwards outside of this appliance, and when that was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub drift_at: Option<Time>,
}

impl From<Task> for TaskJson {
    fn from(task: Task) -> Self {
        Self {
            inverse: task.inverse(),
            id: task.id.to_string(),
            request_id: task.request_id.to_string(),
            directory_id: task.directory_id.to_string(),
            identity_id: task.identity_id.to_string(),
            name: task.name,
            user_name: task.user_name,
            action: task.action,
            state: task.state,
            reason: task.reason,
            error: task.error,
            next_step: task.next_step,
            was_so: task.was_so,
            attempts: task.attempts,
            before: task.before,
            after: task.after,
            requested_at: task.requested_at,
            sent_at: task.sent_at,
            accepted_at: task.accepted_at,
            observed_at: task.observed_at,
            finished_at: task.finished_at,
            inverse_of: task.inverse_of.map(|id| id.to_string()),
            drift: task.drift,
            drift_at: task.drift_at,
        }
    }
}

/// A request in the API.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TaskRequest)]
pub struct RequestJson {
    pub id: String,
    pub action: Action,
    pub state: RequestState,
    pub reason: String,
    /// A principal's URN.
    pub requested_by: String,
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: Time,
    pub counts: Counts,
    /// Why another person has to approve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Until when it can be approved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// When what was done is taken back by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub undo_at: Option<Time>,
    /// When that was over: it was taken back, or nothing was left to take back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub undo_ended_at: Option<Time>,
    /// The newest request that takes this one back, all or in part, and the one that this takes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undone_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Time>,
}

impl From<Request> for RequestJson {
    fn from(request: Request) -> Self {
        Self {
            id: request.id.to_string(),
            action: request.action,
            state: request.state,
            reason: request.reason,
            requested_by: request.requested_by,
            requested_at: request.requested_at,
            counts: request.counts,
            waits_for: request.waits_for,
            expires_at: request.expires_at,
            decision: request.decision,
            undo_at: request.undo_at,
            undo_ended_at: request.undo_ended_at,
            undone_by: request.undone_by.map(|id| id.to_string()),
            undo_of: request.undo_of.map(|id| id.to_string()),
            finished_at: request.finished_at,
        }
    }
}

/// What is answered to whoever asked: the request with its tasks.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TaskRequestCreated)]
pub struct CreatedJson {
    pub request_id: String,
    #[serde(flatten)]
    pub request: RequestJson,
    pub tasks: Vec<TaskJson>,
}

/// A new request (DESIGN §8).
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TaskCreate)]
pub struct TaskInput {
    pub action: Action,
    /// Ids of identities.
    #[schema(max_items = 1000)]
    pub identities: Vec<String>,
    /// Why, for the record.
    #[schema(min_length = 1, max_length = 500)]
    pub reason: String,
    /// Takes it back by itself after this time: a number and `m`, `h` or `d`, from 5 minutes to 90 days.
    #[serde(default, rename = "for")]
    pub lasts: Option<String>,
    /// Goes on without the second person that the account's rule asks for. Needs the level `full` of enforcement, and is
    /// recorded loudly.
    #[serde(default)]
    pub break_glass: bool,
}

/// The shortest and the longest time box, in minutes.
const LASTS_MIN_MINUTES: i64 = 5;
const LASTS_MAX_MINUTES: i64 = 90 * 24 * 60;

/// A time box as written, in microseconds.
pub fn read_lasts(text: &str) -> Result<i64, FieldError> {
    let wrong = || FieldError::new("for", "Give a number of minutes, hours or days, such as 30m, 4h or 7d.");
    let text = text.trim();
    let split = text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at)).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: i64 = number.parse().map_err(|_| wrong())?;
    let each = match unit {
        "m" => 1,
        "h" => 60,
        "d" => 24 * 60,
        _ => return Err(wrong()),
    };
    match number.checked_mul(each) {
        Some(minutes @ LASTS_MIN_MINUTES..=LASTS_MAX_MINUTES) => Ok(minutes * crate::clock::MINUTE),
        _ => Err(FieldError::new("for", "Between 5 minutes and 90 days are possible.")),
    }
}

/// A reason as it goes on the record.
pub fn check_reason(reason: &str) -> Result<String, FieldError> {
    let reason = reason.trim();
    match reason.chars().count() {
        0 => Err(FieldError::new("reason", "Say why, for the record: one sentence is enough.")),
        1..=REASON_MAX => Ok(reason.to_owned()),
        _ => Err(FieldError::new("reason", format!("A reason may have {REASON_MAX} characters at most."))),
    }
}

/// [`TaskInput`], checked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub action: Action,
    pub identities: Vec<i64>,
    pub reason: String,
    pub lasts_us: Option<i64>,
    pub break_glass: bool,
}

impl TaskInput {
    pub fn check(self) -> Result<Asked> {
        let mut errors = Vec::new();
        let reason = check_reason(&self.reason).unwrap_or_else(|error| {
            errors.push(error);
            String::new()
        });
        let mut identities = Vec::with_capacity(self.identities.len().min(IDENTITIES_MAX));
        if self.identities.is_empty() {
            errors.push(FieldError::new("identities", "Name at least one identity."));
        } else if self.identities.len() > IDENTITIES_MAX {
            let message = format!("At most {IDENTITIES_MAX} identities go into one request. Split it.");
            errors.push(FieldError::new("identities", message));
        } else {
            for (at, id) in self.identities.iter().enumerate() {
                match id.parse::<i64>() {
                    Ok(id) if identities.contains(&id) => {}
                    Ok(id) => identities.push(id),
                    Err(_) => {
                        errors.push(FieldError::new(format!("identities[{at}]"), "This is no id of an identity."))
                    }
                }
            }
        }
        let lasts_us = self.lasts.as_deref().map(read_lasts).transpose().unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        if lasts_us.is_some() && !self.action.can_be_for_a_time() {
            let message = "Only what takes access away or gives it back can be limited in time.";
            errors.push(FieldError::new("for", message));
        }
        if errors.is_empty() {
            Ok(Asked { action: self.action, identities, reason, lasts_us, break_glass: self.break_glass })
        } else {
            Err(Error::Invalid(errors))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_successful_as_its_tasks() {
        let of = |states: &[TaskState]| {
            let mut counts = Counts::default();
            states.iter().for_each(|state| counts.add(*state, 1));
            assert_eq!(counts.open(), 0);
            RequestState::of_tasks(&counts)
        };
        use TaskState::{Cancelled, Observed, Refused, TimedOut, Unsuccessful};
        assert_eq!(of(&[Observed, Observed]), RequestState::Successful);
        for other in [Refused, TimedOut, Unsuccessful, Cancelled] {
            assert_eq!(of(&[Observed, other]), RequestState::PartiallySuccessful);
        }
        assert_eq!(of(&[Cancelled, Cancelled]), RequestState::Cancelled);
        assert_eq!(of(&[Refused, Cancelled]), RequestState::Unsuccessful);
        assert_eq!(of(&[TimedOut]), RequestState::Unsuccessful);
    }

    #[test]
    fn time_boxes_have_a_shortest_and_a_longest_time() {
        assert_eq!(read_lasts("4h").expect("four hours"), 4 * crate::clock::HOUR);
        assert_eq!(read_lasts(" 5m ").expect("the shortest"), 5 * crate::clock::MINUTE);
        assert_eq!(read_lasts("90d").expect("the longest"), 90 * crate::clock::DAY);
        for wrong in ["", "h", "4", "4w", "-4h", "4m", "91d", "9223372036854775807d", "4€", "1.5h"] {
            assert_eq!(read_lasts(wrong).expect_err(wrong).field, "for");
        }
    }

    #[test]
    fn everything_that_is_wrong_with_a_request_is_said_at_once() {
        let input = TaskInput {
            action: Action::Unlock,
            identities: vec!["1".into(), "x".into()],
            reason: " ".into(),
            lasts: Some("4h".into()),
            break_glass: false,
        };
        let Error::Invalid(errors) = input.check().expect_err("wrong") else { panic!("fields are named") };
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["reason", "identities[1]", "for"]);
    }
}
