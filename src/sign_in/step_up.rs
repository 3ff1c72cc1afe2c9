//! Proving again that it is them, in the middle of a session: what dangerous actions ask for ([`crate::web::Again`]).
//!
//! Invariants: whoever has a second factor proves that, never their password; an answer counts for the session that gave it and
//! for no other; wrong ones spend the same allowances as anywhere else (HOSTILE A01, A07), and every one is on the record. A
//! recovery code proves nothing here: it is a way back in, and ends the session.

use actix_web::HttpResponse;
use rusqlite::Connection;
use serde::Deserialize;

use super::factor;
use crate::{
    accounts::{self, Account},
    audit::{self, Entry, Outcome},
    error::{Error, Result},
    kernel::Kernel,
    mfa,
    principal::Principal,
    proof::Factor,
    sessions,
    users::{self, Comparison, Member, PasswordHash, Passwords},
    web::{Answer, Confirmed, Ctx, Form, Means},
};

/// The user behind a session, as they are now.
fn member(c: &Connection, who: &Principal) -> Result<(Member, Account)> {
    let id = who.account()?;
    let found = users::find_member(c, &who.id, id)?.zip(accounts::find(c, id)?);
    found.filter(|(member, _)| member.is_enabled()).ok_or(Error::Unauthenticated)
}

fn means_of(member: &Member, account: &Account) -> Means {
    let factors = member.user.factors;
    // Where only a passkey opens the door, a code that can be typed into another site does not open what is behind it.
    let code = factors.totp && !member.mfa_rule(account).is_passkey_only();
    Means { password: !factors.any(), code, passkey: factors.passkey }
}

/// What a user can prove by that it is them.
pub async fn means(kernel: &Kernel, who: Principal) -> Result<Means> {
    kernel.db.read(move |c| member(c, &who).map(|(member, account)| means_of(&member, &account))).await
}

/// The stored hash that an entered password is right for. Compared outside the transaction: it takes long.
async fn matched(
    kernel: &Kernel,
    passwords: &Passwords,
    who: &Principal,
    answer: &Answer,
) -> Result<Option<PasswordHash>> {
    let Answer::Password(entered) = answer else { return Ok(None) };
    let asker = who.clone();
    let (member, account) = kernel.db.read(move |c| member(c, &asker)).await?;
    if !means_of(&member, &account).password {
        return Ok(None);
    }
    passwords.check_pace(&who.id, kernel.clock.now())?;
    let hash = member.user.password_hash;
    let compared = passwords.compare(entered.clone(), Some(hash.clone())).await?;
    Ok(matches!(compared, Comparison::Right { .. }).then_some(hash))
}

/// What came of an answer.
enum Judged {
    Right(Option<Factor>),
    Wrong,
    NotAsked,
    TooMany { retry_after_s: u64 },
}

/// Judges an answer and notes a right one at its session. `path`: what it was asked for.
pub async fn confirm(
    kernel: &Kernel,
    passwords: &Passwords,
    principal: &Principal,
    answer: Answer,
    path: String,
) -> Result<Confirmed> {
    let matched = matched(kernel, passwords, principal, &answer).await?;
    let (own, who, now) = (kernel.clone(), principal.clone(), kernel.clock.now());
    let judged = audit::change(kernel, principal, move |c| {
        let (member, account) = member(c, &who)?;
        let (user, means) = (&member.user, means_of(&member, &account));
        let address = who.address.map(|ip| ip.to_string()).unwrap_or_default();
        let (judged, mut entries) = match &answer {
            Answer::Password(_) if !means.password => (Judged::NotAsked, Vec::new()),
            // The password may have been changed while this one was compared.
            Answer::Password(_) if matched.as_ref() == Some(&user.password_hash) => (Judged::Right(None), Vec::new()),
            Answer::Password(_) => (Judged::Wrong, Vec::new()),
            Answer::Code(_) if !means.code => (Judged::NotAsked, Vec::new()),
            Answer::Code(code) => {
                // A known browser has an allowance of its own so that its owner can come in while others guess. Here they are in.
                let from = mfa::From { known_browser: None, address: &address };
                let (outcome, entries) = mfa::prove_code(c, &own, user, code.expose(), from, now)?;
                let judged = match outcome {
                    mfa::Outcome::Right(factor) => Judged::Right(Some(factor)),
                    mfa::Outcome::Wrong => Judged::Wrong,
                    mfa::Outcome::TooMany { retry_after_s } => Judged::TooMany { retry_after_s },
                };
                (judged, entries)
            }
            Answer::Passkey { .. } if !means.passkey => (Judged::NotAsked, Vec::new()),
            Answer::Passkey { challenge, credential } => {
                let answer = mfa::Answer { token: challenge.expose(), credential, address: &address };
                let (outcome, entries) = mfa::finish_factor(c, &own, &factor::rp(c, &own)?, &user.id, answer, now)?;
                let judged = match outcome {
                    mfa::Outcome::Right(factor) => Judged::Right(Some(factor)),
                    _ => Judged::Wrong,
                };
                (judged, entries)
            }
        };
        let session = who.session_id.as_deref().unwrap_or_default();
        let entry = match &judged {
            Judged::Right(factor) => {
                // One that was ended meanwhile is not proved anew, and whoever sits in front of it is out.
                if !sessions::note_proof(c, session, *factor, now)? {
                    return Err(Error::Unauthenticated);
                }
                Some(Entry::new("audit.step_up_confirmed.v1"))
            }
            Judged::Wrong | Judged::NotAsked => Some(Entry::new("audit.step_up_failed.v1").outcome(Outcome::Failure)),
            Judged::TooMany { .. } => None,
        };
        let means = match answer {
            Answer::Password(_) => "password",
            Answer::Code(_) => Factor::Totp.as_str(),
            Answer::Passkey { .. } => Factor::Passkey.as_str(),
        };
        entries
            .extend(entry.map(|entry| entry.detail("means", means).detail("path", path).detail("sessionId", session)));
        let subject = users::user_urn(&account.region, Some(account.id), &user.id);
        Ok((judged, entries.into_iter().map(|entry| entry.subject(&subject)).collect()))
    });
    match judged.await? {
        Judged::Right(_) => Ok(Confirmed::Right),
        Judged::Wrong => Ok(Confirmed::Wrong),
        Judged::NotAsked => Ok(Confirmed::NotAsked),
        Judged::TooMany { retry_after_s } => Err(Error::TooManyRequests { retry_after_s }),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoFields {}

/// `POST /step-up/passkey/options`: the question that one of the user's passkeys answers.
pub(super) async fn passkey_options(ctx: Ctx, _: Form<NoFields>) -> Result<HttpResponse> {
    let (kernel, user, now) = (ctx.kernel.clone(), ctx.principal.id.clone(), ctx.kernel.clock.now());
    let asked = ctx.kernel.db.write(move |c| mfa::begin_factor(c, &factor::rp(c, &kernel)?, &user, now)).await;
    mfa::challenge_json(&ctx, asked)
}
