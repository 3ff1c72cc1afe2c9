//! The two-person rule: which requests wait for the approval of somebody else.
//!
//! Owns the rule of an account and who counts as somebody else. It never lets a person approve what they asked for
//! themselves, nor by way of a key that they made.

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{model::Request, queries};
use crate::{
    clock::HOUR,
    error::{Error, FieldError, Result},
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

impl Rule {
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
pub(super) fn waits_for<'r>(
    connection: &Connection,
    account: AccountId,
    identities: impl Iterator<Item = &'r IdentityRow>,
) -> Result<Option<String>> {
    let identities: Vec<&IdentityRow> = identities.collect();
    let rule = queries::rule(connection, account)?;
    let count = i64::try_from(identities.len()).unwrap_or(i64::MAX);
    if let Some(above) = rule.above_count.filter(|above| count > *above) {
        return Ok(Some(format!("It is about {count} identities, and more than {above} need a second person.")));
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

/// Whether somebody may decide over a request: another person than the one who asked.
pub(super) fn check_other(principal: &Principal, request: &Request) -> Result<()> {
    if principal.person == request.requester || principal.urn() == request.requested_by {
        return Err(Error::Forbidden(
            "You asked for this yourself, so another person has to approve it. A key that you made does not count as another person.".into(),
        ));
    }
    Ok(())
}
