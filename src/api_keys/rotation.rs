//! Rotation: a new secret for a key, while the old one works on for as long as programs need to change over.
//!
//! Invariants: a key has at most two secrets, and rotating again ends the older one at once; the new one is shown once;
//! nobody rotates a key that holds more than they do, for they would see its secret (HOSTILE R08); who was shown the new
//! secret answers for the key, so that it goes with them (HOSTILE R07).

use serde::Deserialize;
use serde_json::json;

use super::{
    actions::{CreatedKey, DrawnSecret, changeable, shown_to},
    model::key_urn,
    queries,
    standing::Standing,
};
use crate::{
    audit::{self, Entry},
    clock::{HOUR, Time},
    error::{Error, Result},
    kernel::Kernel,
    principal::Principal,
};

/// A night, and the day after it.
pub(super) const OVERLAP_HOURS_DEFAULT: i64 = 24;
const OVERLAP_HOURS_MAX: i64 = 168;

/// How a key is to get a new secret.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = KeyRotation)]
pub(super) struct RotateInput {
    /// For how many hours the old secret works on: 0 to 168; absent means 24.
    pub(super) overlap_hours: Option<i64>,
}

impl RotateInput {
    fn ends_at(&self, now: Time) -> Result<Time> {
        match self.overlap_hours.unwrap_or(OVERLAP_HOURS_DEFAULT) {
            hours @ 0..=OVERLAP_HOURS_MAX => Ok(now.plus(hours * HOUR)),
            _ => Err(Error::field("overlapHours", format!("Choose 0 to {OVERLAP_HOURS_MAX} hours."))),
        }
    }
}

/// Gives a key a new secret. `seen` is the start of the secret that is to be replaced, where somebody has looked at it:
/// a form that is sent twice must not end the secret that its first answer showed.
pub(super) async fn rotate(
    kernel: &Kernel,
    principal: &Principal,
    id: String,
    input: RotateInput,
    seen: Option<String>,
) -> Result<CreatedKey> {
    let (who, account, now) = (principal.clone(), principal.account()?, kernel.clock.now());
    let ends_at = input.ends_at(now)?;
    let attempt = Entry::new("audit.api_key_rotated.v1").subject(key_urn(&principal.region, account, &id));
    audit::attempt(kernel, principal, attempt, move |c| {
        let before = changeable(c, &who, account, &id)?;
        if seen.is_some_and(|seen| seen != before.secret_start) {
            return Err(Error::Conflict(
                "This key was rotated meanwhile. Look at it before you rotate it again.".into(),
            ));
        }
        // The old secret of somebody who is not to use it any more does not come back to life for the overlap.
        let is_orphaned = Standing::of(c, before.clone(), now)?.answerer.is_missing();
        let ends_at = if is_orphaned { now } else { ends_at };
        let drawn = DrawnSecret::draw();
        let person = shown_to(&who, &id);
        let answered_by = who.answerer.clone().or_else(|| before.answered_by.clone());
        queries::rotate(c, account, &id, &drawn.stored(&person), answered_by.as_deref(), ends_at)?;
        let key = queries::find(c, account, &id)?.ok_or(Error::NotFound("This API key"))?;
        let entry = Entry::new("audit.api_key_rotated.v1")
            .subject(key.urn(&who.region))
            .changes(
                json!({"secret": shown(&before.secret_start), "answeredBy": before.answered_by}),
                json!({"secret": shown(&key.secret_start), "answeredBy": key.answered_by}),
            )
            .detail("previousEndsAt", ends_at)
            .detail("endedAtOnce", before.previous(now).map(|older| shown(&older.start)));
        Ok((CreatedKey { key, secret: drawn.whole }, vec![entry]))
    })
    .await
}

/// A secret as the log names it.
fn shown(start: &str) -> String {
    format!("{start}…")
}

/// Ends the old secret before its time.
pub(super) async fn end_previous(kernel: &Kernel, principal: &Principal, id: String) -> Result<()> {
    let (account, region, now) = (principal.account()?, principal.region.clone(), kernel.clock.now());
    audit::change(kernel, principal, move |c| {
        let key = queries::find(c, account, &id)?.ok_or(Error::NotFound("This API key"))?;
        let previous = key.previous(now).ok_or(Error::NotFound("An old secret that still works"))?;
        queries::end_previous(c, account, &id, now)?;
        let entry = Entry::new("audit.api_key_secret_ended.v1")
            .subject(key.urn(&region))
            .changes(json!({"endsAt": previous.ends_at}), json!({"endsAt": now}))
            .detail("secret", shown(&previous.start));
        Ok(((), vec![entry]))
    })
    .await
}
