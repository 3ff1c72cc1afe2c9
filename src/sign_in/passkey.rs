//! Signing in with a passkey alone: it says who it is, proves that it is here, and has checked who uses it, which is both
//! factors at once (WebAuthn level 3, user verification).
//!
//! Whoever asks is a stranger until the answer is right; what they are told never says why it was not.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use serde::Deserialize;

use super::{
    actions, factor,
    model::Attempt,
    pages::{self, after, arrived},
    path::{self, Entrance, Traveller},
    restoring,
};
use crate::{
    accounts::{self, Account},
    audit::{self, Entry, Flood, Outcome},
    clock::MINUTE,
    error::{Error, Result},
    invitations,
    mfa::{self, Discovery},
    principal::Principal,
    proof::{Factor, Method, Proof},
    secret::Secret,
    users::{self, Member, UserState},
    web::{Ctx, Form},
};

/// Questions and answers from one address in a minute: each is a row, of the questions or of the record.
const FROM_ONE_ADDRESS: u64 = 60;

/// Who asks and answers, from where; cheap to clone, one for the whole process.
#[derive(Clone, Default)]
pub struct PasskeyAsking(Flood);

impl PasskeyAsking {
    /// Refuses one too many.
    pub(super) fn check(&self, ctx: &Ctx) -> Result<()> {
        match self.0.admit(&ctx.address.network(), FROM_ONE_ADDRESS, MINUTE, ctx.kernel.clock.now()) {
            Some(_) => Ok(()),
            None => Err(Error::TooManyRequests { retry_after_s: 60 }),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OptionsForm {
    #[serde(rename = "next", default)]
    _next: String,
}

/// `POST /sign-in/passkey/options`.
pub(super) async fn options(ctx: Ctx, asking: Data<PasskeyAsking>, _: Form<OptionsForm>) -> Result<HttpResponse> {
    let (kernel, now) = (ctx.kernel.clone(), ctx.kernel.clock.now());
    let asked = match asking.check(&ctx) {
        Ok(()) => ctx.kernel.db.write(move |c| mfa::begin_discovery(c, &factor::rp(c, &kernel)?, now)).await,
        Err(error) => Err(error),
    };
    mfa::challenge_json(&ctx, asked)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PasskeyForm {
    challenge: Secret<String>,
    credential: String,
    #[serde(default)]
    next: String,
}

/// `POST /sign-in/passkey`.
pub(super) async fn sign_in(
    ctx: Ctx,
    request: HttpRequest,
    asking: Data<PasskeyAsking>,
    form: Form<PasskeyForm>,
) -> Result<HttpResponse> {
    asking.check(&ctx)?;
    let next = after(&form.0.next);
    match attempt(&ctx, &request, form.0, next.clone()).await? {
        Attempt::Arrived(arrival) => Ok(arrived(&next, &arrival)),
        Attempt::Suspended(proof) => restoring::page(&ctx, proof),
        Attempt::Refused | Attempt::Throttled { .. } => {
            let problem = "The passkey was not accepted. Try again, or sign in with your password.".to_owned();
            pages::sign_in_page(&ctx, StatusCode::UNPROCESSABLE_ENTITY, String::new(), next, problem).await
        }
    }
}

async fn attempt(ctx: &Ctx, request: &HttpRequest, form: PasskeyForm, next: String) -> Result<Attempt> {
    let (kernel, now) = (ctx.kernel.clone(), ctx.kernel.clock.now());
    let stranger =
        Principal::stranger(&kernel.config.region, Some(ctx.address.ip), Some(ctx.address.request_id.clone()));
    let browser = pages::browser(ctx, request);
    let from = ctx.address.ip.to_string();
    audit::change(&ctx.kernel, &stranger, move |c| {
        let answer = mfa::Answer { token: form.challenge.expose(), credential: &form.credential, address: &from };
        let (found, entries) = mfa::finish_discovery(c, &kernel, &factor::rp(c, &kernel)?, answer, now)?;
        let id = match &found {
            Discovery::Proved(id) | Discovery::Refused(Some(id)) => id.as_str(),
            Discovery::Refused(None) => "",
        };
        let user = users::find(c, id)?;
        let invitation = invitations::token_in(&next);
        let there = actions::destination(c, id)?;
        // What is refused is on the record of the account that it was about, or of the only one there is.
        let log_account = match &there {
            Some((_, account)) => Some(account.id),
            None => accounts::find_only(c)?,
        };
        let subject = user.as_ref().map(|user| users::user_urn(&kernel.config.region, log_account, &user.id));
        let about = |entry: Entry| {
            let entry = match &subject {
                Some(urn) => entry.subject(urn),
                None => entry,
            };
            match log_account {
                Some(account) => entry.account(account),
                None => entry,
            }
        };
        let mut entries: Vec<Entry> = entries.into_iter().map(about).collect();
        let mut refuse = |why: &str, attempt: Attempt| {
            metrics::counter!("bailiwick_sign_ins_total", "outcome" => "refused").increment(1);
            let entry = Entry::new("audit.sign_in_failed.v1").outcome(Outcome::Failure);
            entries.push(about(entry.detail("reason", why).detail("method", Method::Passkey.as_str())));
            Ok((attempt, std::mem::take(&mut entries)))
        };
        let user = match (found, user) {
            (Discovery::Proved(_), Some(user)) if user.state == UserState::Enabled => user,
            (Discovery::Proved(_), Some(_)) => return refuse("the user is disabled", Attempt::Refused),
            _ => return refuse("the passkey was not accepted", Attempt::Refused),
        };
        let has_way_in = there.as_ref().is_some_and(|(_, account)| account.is_active());
        let prospect = match &invitation {
            Some(token) if !has_way_in => invitations::prospect(c, token, &user, now)?,
            _ => None,
        };
        let traveller = match (prospect, there) {
            (Some((member, account)), _) => Traveller { member, account, invitation },
            (None, Some((member, account))) => Traveller { member, account, invitation: None },
            (None, None) => return refuse("the user belongs to no account", Attempt::Refused),
        };
        if !traveller.account.is_active() {
            let proof = restoring::proof(&kernel, &traveller.member, &traveller.account, now);
            return refuse("the account is suspended", Attempt::Suspended(proof));
        }
        let known_token = path::known(c, browser.known_token, &user, now)?;
        let proof = Proof::new(Method::Passkey, now).with(Factor::Passkey, now);
        let entrance = Entrance {
            old_session: browser.old_session,
            known_token,
            next: Secret::new(next),
            ..Entrance::new(proof, browser.origin)
        };
        let urn = urn_of(&traveller.member, &traveller.account);
        let (arrival, more) = path::arrive(c, &kernel, &traveller, entrance, now)?;
        entries.extend(more);
        Ok((Attempt::Arrived(arrival), entries.into_iter().map(|entry| entry.by(&urn)).collect()))
    })
    .await
}

fn urn_of(member: &Member, account: &Account) -> String {
    users::user_urn(&account.region, Some(account.id), &member.user.id)
}
