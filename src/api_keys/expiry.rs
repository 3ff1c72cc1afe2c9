//! Keys that end soon: who is told when, and what of all keys somebody should look at.
//!
//! Owns the daily work that warns 30 and 7 days before. Invariants: each warning is on the record once for an expiry, also
//! when days were missed; a key that was locked out is not warned of; a new expiry is warned of anew.

use std::sync::Arc;

use rusqlite::Connection;

use super::{
    model::{ApiKey, State},
    queries,
    standing::{Standing, list_all},
};
use crate::{
    accounts::{self, ContactList},
    audit::{self, Entry},
    clock::{DAY, Time},
    email,
    error::{Error, Result},
    kernel::Kernel,
    notifications::{self, KeyExpires},
    principal::{AccountId, Principal},
    schedule::{self, Job, SpecInput},
    users,
};

/// As in `schedule_entry.job`; its one subject is every account.
const JOB: &str = "api-key-expiry";
const SUBJECT: &str = "all";
/// The first warning comes so long before the end.
const HORIZON_US: i64 = 30 * DAY;
/// Lines on the overview that name one key each.
const NAMED_MAX: usize = 5;

/// Has the work done every day from now on, or leaves it as it is planned already.
pub fn schedule_daily(connection: &Connection, now: Time) -> Result<()> {
    schedule::set(connection, JOB, SUBJECT, &SpecInput::every("24h"), false, now)
}

/// The daily work.
pub fn job(kernel: &Kernel) -> Job {
    let kernel = kernel.clone();
    Job {
        name: JOB,
        work: Arc::new(move |_| {
            let kernel = kernel.clone();
            Box::pin(async move { warn(&kernel).await.map(|count| format!("{count} keys expire soon and were told")) })
        }),
    }
}

/// The warning that is due for a key and was not given.
fn due(key: &ApiKey, now: Time) -> Option<i64> {
    key.warning(now).filter(|days| key.warned_days.is_none_or(|given| given > *days))
}

/// Tells of every key that ends within 30 or 7 days and was not told of; answers how many there were.
pub async fn warn(kernel: &Kernel) -> Result<usize> {
    let now = kernel.clock.now();
    let soon = kernel.db.read(move |c| queries::expiring(c, now, now.plus(HORIZON_US))).await?;
    let mut told = 0;
    for found in soon.into_iter().filter(|key| due(key, now).is_some()) {
        let region = kernel.config.region.clone();
        let scheduler = Principal::scheduler(&region, found.account_id);
        let own = kernel.clone();
        let is_told = audit::change(kernel, &scheduler, move |c| {
            // Read again: it may have been extended, or removed, since.
            let key = queries::find(c, found.account_id, &found.id)?.filter(|key| key.is_enabled);
            let Some((key, days)) = key.and_then(|key| due(&key, now).map(|days| (key, days))) else {
                return Ok((false, Vec::new()));
            };
            queries::set_warned(c, &key.id, days)?;
            let entry = Entry::new("audit.api_key_expires_soon.v1")
                .subject(key.urn(&region))
                .detail("alias", &key.alias)
                .detail("expiresAt", key.expires_at)
                .detail("daysBefore", days)
                .detail("link", page_of(&key))
                .detail("mailed", tell(c, &own, &key, now)?);
            Ok((true, vec![entry]))
        })
        .await?;
        told += usize::from(is_told);
    }
    Ok(told)
}

/// The path of a key's page.
fn page_of(key: &ApiKey) -> String {
    format!("/api-keys/{}", key.id)
}

/// Mails the operations contacts and whoever answers for the key that it ends; answers how many mails that were.
fn tell(c: &Connection, kernel: &Kernel, key: &ApiKey, now: Time) -> Result<usize> {
    let Some(expires_at) = key.expires_at else { return Ok(0) };
    let account = accounts::find(c, key.account_id)?.ok_or(Error::NotFound("This account"))?;
    let Some(link) = notifications::notice_link(c, &kernel.config, "key-expires", &page_of(key))? else { return Ok(0) };
    let told = KeyExpires { account: &account.alias, alias: &key.alias, key_id: &key.id, expires_at, link: &link };
    let mut to: Vec<(String, String)> = Vec::new();
    let answers = match &key.answered_by {
        Some(user) => users::find_member(c, user, key.account_id)?.filter(users::Member::is_enabled),
        None => None,
    };
    to.extend(answers.map(|member| (member.user.email, member.user.locale)));
    for address in accounts::contacts(c, key.account_id, ContactList::Operations)? {
        if to.iter().all(|(known, _)| email::fold(known) != email::fold(&address)) {
            to.push((address, account.locale.clone()));
        }
    }
    let mut mailed = 0;
    for (address, locale) in to {
        mailed += usize::from(notifications::notify(c, &kernel.key, told.mail(&address, &locale), now)?);
    }
    Ok(mailed)
}

/// Something about keys to look at.
#[derive(Debug, Clone)]
pub struct Notable {
    /// It does not work, or will not within a week.
    pub is_urgent: bool,
    pub title: String,
    pub text: String,
    pub href: String,
}

/// What of an account's keys should be looked at, the most urgent first.
pub fn notable(connection: &Connection, account: AccountId, now: Time) -> Result<Vec<Notable>> {
    let (mut orphaned, mut ending) = (Vec::new(), Vec::new());
    for standing in list_all(connection, account, now)? {
        match standing.state {
            State::Orphaned => orphaned.push(standing),
            State::ExpiresSoon => ending.push(standing),
            State::Active | State::Locked | State::Expired => {}
        }
    }
    let mut found = Vec::new();
    if let [first, rest @ ..] = orphaned.as_slice() {
        let title = match rest.len() {
            0 => format!("API key “{}” does not work: {}", first.key.alias, first.answerer.why()),
            more => format!("{} API keys do not work: nobody answers for them", more + 1),
        };
        found.push(Notable {
            is_urgent: true,
            title: title.trim_end_matches('.').to_owned(),
            text: "Take over those that are needed, and remove the others.".to_owned(),
            href: "/api-keys?state=orphaned".to_owned(),
        });
    }
    ending.sort_by_key(|standing| standing.key.expires_at);
    let more = ending.len().saturating_sub(NAMED_MAX);
    for Standing { key, .. } in ending.into_iter().take(NAMED_MAX) {
        let Some(at) = key.expires_at else { continue };
        let days = at.since(now) / DAY;
        let when = match days {
            0 => "within a day".to_owned(),
            1 => "in 1 day".to_owned(),
            days => format!("in {days} days"),
        };
        found.push(Notable {
            is_urgent: days < 7,
            title: format!("API key “{}” expires {when}", key.alias),
            text: format!("What uses it is refused from {} on, unless it is extended.", at.text()),
            href: format!("/api-keys/{}", key.id),
        });
    }
    if more > 0 {
        found.push(Notable {
            is_urgent: false,
            title: match more {
                1 => "1 more API key expires soon".to_owned(),
                more => format!("{more} more API keys expire soon"),
            },
            text: "Extend those that are needed.".to_owned(),
            href: "/api-keys?state=expires-soon".to_owned(),
        });
    }
    Ok(found)
}
