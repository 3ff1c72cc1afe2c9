//! The two-person rule: which requests wait for the approval of somebody else.
//!
//! Owns the rule of an account and who counts as somebody else. It never lets a person approve what they asked for
//! themselves, nor by way of a key that they made.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{model::Request, queries, rules_queries};
use crate::{
    clock::{DAY, HOUR, Time},
    error::{FieldError, Result},
    identities::{self, IdentityRow},
    principal::{AccountId, Principal},
};

/// How long a request waits for approval.
pub(super) const APPROVAL_US: i64 = 24 * HOUR;

/// When a second person is needed. By default never: an account may have one administrator only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TwoPersonRule)]
pub struct Rule {
    /// For requests over more identities than this; absent or null: however many there are.
    #[serde(default)]
    pub above_count: Option<i64>,
    /// For requests with a privileged identity among them.
    #[serde(default)]
    pub for_privileged: bool,
}

/// What is to be different; absent fields stay as they are.
#[derive(Debug, Clone, Copy, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TwoPersonRuleUpdate)]
pub struct RuleInput {
    /// Null: however many identities there are.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1000000)]
    pub above_count: Option<Option<i64>>,
    pub for_privileged: Option<bool>,
}

/// A null that is given is an answer.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl RuleInput {
    pub fn onto(self, before: Rule) -> Rule {
        Rule {
            above_count: self.above_count.unwrap_or(before.above_count),
            for_privileged: self.for_privileged.unwrap_or(before.for_privileged),
        }
    }
}

impl Rule {
    /// It asks for a second person where `before` did, and less often.
    pub fn is_looser_than(self, before: Self) -> bool {
        let count = |rule: Self| rule.above_count.unwrap_or(i64::MAX);
        count(self) > count(before) || (before.for_privileged && !self.for_privileged)
    }

    pub fn check(self) -> Result<Self, FieldError> {
        match self.above_count {
            Some(count) if !(0..=1_000_000).contains(&count) => {
                Err(FieldError::new("aboveCount", "Give a number from 0 to 1,000,000, or leave it out."))
            }
            _ => Ok(self),
        }
    }
}

/// Why a request over these identities has to be approved, as a sentence; `None` when it need not be.
/// What `requester` asked for in the last day counts too: a large request is not made small by parts.
pub(super) fn waits_for<'r>(
    connection: &Connection,
    account: AccountId,
    requester: &str,
    identities: impl Iterator<Item = &'r IdentityRow>,
    now: Time,
) -> Result<Option<String>> {
    let identities: Vec<&IdentityRow> = identities.collect();
    let rule = rules_queries::rule(connection, account)?;
    let count = i64::try_from(identities.len()).unwrap_or(i64::MAX);
    if let Some(above) = rule.above_count {
        if count > above {
            return Ok(Some(format!("It is about {count} identities, and more than {above} need a second person.")));
        }
        let mut all = queries::asked_since(connection, account, requester, now.plus(-DAY))?;
        all.extend(identities.iter().map(|identity| identity.id));
        if i64::try_from(all.len()).unwrap_or(i64::MAX) > above {
            return Ok(Some(format!(
                "With those of the last day it is about {} identities, and more than {above} need a second person.",
                all.len()
            )));
        }
    }
    if rule.for_privileged {
        let ids: Vec<i64> = identities.iter().map(|identity| identity.id).collect();
        let privileged = identities::which_are_privileged(connection, &ids)?;
        if let Some(one) = identities.iter().find(|identity| privileged.contains(&identity.id)) {
            return Ok(Some(match privileged.len() {
                1 => format!("{} is privileged, which needs a second person.", one.name()),
                count => format!("{} and {} more are privileged, which needs a second person.", one.name(), count - 1),
            }));
        }
    }
    Ok(None)
}

/// Why somebody may not decide over a request.
pub(super) const NOT_OTHER: &str = "You asked for this yourself, so another person has to approve it. A key that you made does not count as another \
     person.";

/// Whether somebody may decide over a request: another person than the one who asked. A key that was made at the command
/// line has no maker and counts as a person of its own: whoever has that machine has everything.
pub(super) fn is_other(principal: &Principal, request: &Request) -> bool {
    principal.person != request.requester && principal.urn() != request.requested_by
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_less_often_is_looser() {
        let rule = |above_count, for_privileged| Rule { above_count, for_privileged };
        for (after, before, is_looser) in [
            (rule(Some(5), true), rule(Some(5), true), false),
            (rule(Some(6), true), rule(Some(5), true), true),
            (rule(None, true), rule(Some(5), true), true),
            (rule(Some(5), false), rule(Some(5), true), true),
            (rule(Some(4), true), rule(None, false), false),
            (rule(None, true), rule(None, false), false),
        ] {
            assert_eq!(after.is_looser_than(before), is_looser, "{after:?} {before:?}");
        }
    }

    #[test]
    fn what_is_absent_stays_and_null_is_an_answer() {
        let before = Rule { above_count: Some(5), for_privileged: true };
        let read = |json: &str| serde_json::from_str::<RuleInput>(json).expect("an input").onto(before);
        assert_eq!(read(r#"{"aboveCount": 10}"#), Rule { above_count: Some(10), for_privileged: true });
        assert_eq!(read(r#"{"aboveCount": null}"#), Rule { above_count: None, for_privileged: true });
        assert_eq!(read(r#"{"forPrivileged": false}"#), Rule { above_count: Some(5), for_privileged: false });
        assert_eq!(read("{}"), before);
    }
}
