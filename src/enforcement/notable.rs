//! What of enforcement somebody should look at: requests that wait for a person, broken glass, loosened rules, drift, and
//! what failed.
//!
//! Owns which of it is still news. The overview shows it; nothing here changes anything.

use rusqlite::Connection;

use super::{model::Request, queries, rules_queries};
use crate::{
    clock::{DAY, Time},
    directories::words,
    error::Result,
    principal::AccountId,
};

/// News is told for so long.
const NEWS_US: i64 = 7 * DAY;
/// Of each kind.
const EACH_MAX: usize = 5;

/// Why a request is notable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    AwaitsApproval,
    /// It went on without the second person that was asked for.
    BreakGlass,
    /// Not everything of it was done.
    Failed,
    /// Somebody changed what it did, outside of this appliance.
    Drifted,
    /// The rules that hold back were made to hold back less.
    Loosened,
}

/// Something to look at.
#[derive(Debug, Clone)]
pub struct Notable {
    pub why: Why,
    /// `None`: about the rules.
    pub request: Option<i64>,
    pub title: String,
    pub text: String,
}

fn about(request: &Request) -> String {
    let count = request.counts.total();
    let noun = if count == 1 { "identity" } else { "identities" };
    request.action.heading().replace("{}", &format!("{} {noun}", crate::web::grouped(count)))
}

/// How many requests wait for approval.
pub fn waiting(connection: &Connection, account: AccountId) -> Result<i64> {
    queries::count_waiting(connection, account)
}

/// What should be looked at, the most urgent first.
pub fn notable(connection: &Connection, account: AccountId, now: Time) -> Result<Vec<Notable>> {
    let since = now.plus(-NEWS_US);
    let mut found = Vec::new();
    for request in queries::overridden_since(connection, account, since, EACH_MAX)? {
        let decision = request.decision.as_ref();
        found.push(Notable {
            why: Why::BreakGlass,
            request: Some(request.id),
            title: format!("Break glass: {} without a second person", about(&request)),
            text: decision.map(|decision| decision.reason.clone()).unwrap_or_default(),
        });
    }
    if let Some(by) = rules_queries::loosened_since(connection, account, since)? {
        found.push(Notable {
            why: Why::Loosened,
            request: None,
            title: "The two-person rule asks for less than before".to_owned(),
            text: format!("Changed by {}.", words::who(&by)),
        });
    }
    for (name, by) in rules_queries::unprotected_since(connection, account, since, EACH_MAX)? {
        found.push(Notable {
            why: Why::Loosened,
            request: None,
            title: format!("{name} is not protected any more"),
            text: format!("Taken off the protected list by {}.", words::who(&by)),
        });
    }
    for request in queries::awaiting(connection, account, EACH_MAX)? {
        found.push(Notable {
            why: Why::AwaitsApproval,
            request: Some(request.id),
            title: format!("{} waits for approval", about(&request)),
            text: request.reason.clone(),
        });
    }
    for request in queries::failed_since(connection, account, since, EACH_MAX)? {
        found.push(Notable {
            why: Why::Failed,
            request: Some(request.id),
            title: format!("{} was not wholly done", about(&request)),
            text: format!(
                "{} of {} were not observed. {}",
                request.counts.total() - request.counts.observed,
                request.counts.total(),
                request.reason
            ),
        });
    }
    for task in queries::drifted_since(connection, account, since, EACH_MAX)? {
        found.push(Notable {
            why: Why::Drifted,
            request: Some(task.request_id),
            title: format!("{} was changed after it was acted on", task.name),
            text: task.drift.unwrap_or_default(),
        });
    }
    Ok(found)
}
