//! Signing in and out, and making the first account.

use rusqlite::Connection;
use serde_json::json;

use super::{
    counter::{self, Verdict},
    model::{Attempt, FirstAccount, SetupInput, SignInInput, Subject},
    path::{self, Arrival, Entrance, Traveller},
    queries, restoring,
};
use crate::{
    accounts::{self, Account},
    audit::{self, Entry, Outcome},
    clock::{SECOND, Time},
    error::{Error, Result},
    invitations,
    kernel::Kernel,
    mfa,
    principal::{AccountId, Principal},
    proof::{Method, Proof},
    roles,
    secret::{self, Secret},
    sessions::{self, Origin},
    users::{self, Comparison, Member, NewUser, PasswordHash, PasswordRules, Passwords, User},
    web::Address,
};

/// What the database knows about somebody who wants to come in.
struct Candidate {
    user: Option<User>,
    member: Option<(Member, Account)>,
    /// `member` is what an invitation would make of them: they are in no account that they could enter, and come with
    /// the link that changes it.
    invitation: Option<Secret<String>>,
    /// The account whose log a failure belongs to.
    log_account: Option<AccountId>,
    is_known_browser: bool,
    pause_left_us: Option<i64>,
}

fn candidate(
    connection: &Connection,
    email_folded: &str,
    browser_hash: Option<&[u8]>,
    address: &Address,
    invitation: Option<Secret<String>>,
    now: Time,
) -> Result<Candidate> {
    let user = users::find_by_email(connection, email_folded)?;
    // The same queries whether the user exists or not.
    let user_id = user.as_ref().map_or("", |user| user.id.as_str());
    let member = destination(connection, user_id)?;
    let account_id = member.as_ref().map(|(_, account)| account.id);
    let has_way_in = member.as_ref().is_some_and(|(_, account)| account.is_active());
    let prospect = match (&user, &invitation) {
        (Some(user), Some(token)) if !has_way_in => invitations::prospect(connection, token, user, now)?,
        _ => None,
    };
    let invitation = invitation.filter(|_| prospect.is_some());
    let member = prospect.or(member);
    let log_account = match account_id {
        Some(id) => Some(id),
        // A stranger's failure belongs to nobody; where there is only one account, its auditor should see it.
        None => accounts::find_only(connection)?,
    };
    let is_known_browser = match browser_hash {
        Some(hash) => {
            let changed_at = user.as_ref().map_or(now, |user| user.password_changed_at);
            queries::is_known_browser(connection, hash, user_id, changed_at, now)?
        }
        None => false,
    };
    let subjects = subjects(email_folded, browser_hash.filter(|_| is_known_browser), address);
    let pause_left_us = pause(connection, &subjects, now)?;
    Ok(Candidate { user, member, invitation, log_account, is_known_browser, pause_left_us })
}

/// Where a user comes in: the account they were last active in; one that is suspended only where there is no other.
pub(super) fn destination(connection: &Connection, user_id: &str) -> Result<Option<(Member, Account)>> {
    let own = users::accounts_of(connection, user_id)?;
    let mut accounts = own.iter().map(|id| accounts::find(connection, *id)).collect::<Result<Vec<_>>>()?;
    accounts.sort_by_key(|account| !account.as_ref().is_some_and(Account::is_active));
    match accounts.into_iter().flatten().next() {
        Some(account) => Ok(users::find_member(connection, user_id, account.id)?.map(|member| (member, account))),
        None => Ok(None),
    }
}

fn subjects(email_folded: &str, known_browser: Option<&[u8]>, address: &Address) -> Vec<Subject> {
    match known_browser {
        Some(hash) => vec![Subject::browser(hash)],
        None => vec![Subject::user(email_folded), Subject::address(address), Subject::everywhere()],
    }
}

/// The longest pause that any of the subjects is in.
fn pause(connection: &Connection, subjects: &[Subject], now: Time) -> Result<Option<i64>> {
    let mut longest = None;
    for subject in subjects {
        if let Some(counter) = queries::counter(connection, &subject.name)? {
            longest = longest.max(counter.pause_left_us(&subject.limit, now));
        }
    }
    Ok(longest)
}

/// Counts an attempt for all subjects, or for none when one of them is in a pause. Answers which pauses begin.
fn take(connection: &Connection, subjects: &[Subject], now: Time) -> Result<Result<Vec<String>, i64>> {
    if let Some(left) = pause(connection, subjects, now)? {
        return Ok(Err(left));
    }
    let mut begun = Vec::new();
    for subject in subjects {
        let mut counter = queries::counter(connection, &subject.name)?.unwrap_or_default();
        if counter.take(&subject.limit, now) == Verdict::EvaluateLast {
            begun.push(subject.name.clone());
        }
        queries::set_counter(connection, &subject.name, &counter)?;
    }
    Ok(Ok(begun))
}

fn give_back(connection: &Connection, subjects: &[Subject]) -> Result<()> {
    for subject in subjects {
        if let Some(mut counter) = queries::counter(connection, &subject.name)? {
            counter.give_back(&subject.limit);
            queries::set_counter(connection, &subject.name, &counter)?;
        }
    }
    Ok(())
}

fn seconds(us: i64) -> u64 {
    u64::try_from(us.saturating_add(SECOND - 1) / SECOND).unwrap_or(1).max(1)
}

/// What a failed attempt's record says about the address that was typed: people type passwords into the wrong field.
fn shown_email(email: &str) -> &str {
    let email = email.trim();
    if email.len() <= 254 && email.contains('@') && !email.contains(char::is_whitespace) {
        email
    } else {
        "(not an e-mail address)"
    }
}

/// One attempt to sign in. `old_session` is the browser's present one, which ends; `browser_token` is the cookie of a
/// browser that has signed in before.
pub(super) async fn sign_in(
    kernel: &Kernel,
    passwords: &Passwords,
    address: &Address,
    input: &SignInInput,
    old_session: Option<Secret<String>>,
    browser_token: Option<Secret<String>>,
) -> Result<Attempt> {
    let now = kernel.clock.now();
    let folded = users::fold_email(&input.email);
    let browser_hash = browser_token.as_ref().map(|token| secret::sha256(token.expose().as_bytes()));
    let found = {
        let (folded, address) = (folded.clone(), address.clone());
        let invitation = invitations::token_in(&input.next);
        let look = move |c: &Connection| {
            candidate(c, &folded, browser_hash.as_ref().map(|hash| hash.as_slice()), &address, invitation, now)
        };
        kernel.db.read(look).await?
    };
    let throttled = |left_us| {
        metrics::counter!("bailiwick_sign_ins_total", "outcome" => "throttled").increment(1);
        Ok(Attempt::Throttled { retry_after_s: seconds(left_us) })
    };
    if let Some(left) = found.pause_left_us {
        return throttled(left);
    }
    let known_browser = browser_hash.filter(|_| found.is_known_browser);
    let counted = subjects(&folded, known_browser.as_ref().map(|hash| hash.as_slice()), address);
    let stranger = Principal::stranger(&kernel.config.region, Some(address.ip), Some(address.request_id.clone()));
    let subject_urn =
        found.user.as_ref().map(|user| users::user_urn(&kernel.config.region, found.log_account, &user.id));
    let about = {
        let (subject_urn, log_account) = (subject_urn, found.log_account);
        move |kind: &'static str| {
            let mut entry = Entry::new(kind).outcome(Outcome::Failure);
            if let Some(urn) = &subject_urn {
                entry = entry.subject(urn.clone());
            }
            match log_account {
                Some(account) => entry.account(account),
                None => entry,
            }
        }
    };
    // Counted before any password work, in one transaction: of 64 at once, five are evaluated.
    let taken = {
        let (counted, about, email) = (counted.clone(), about.clone(), shown_email(&input.email).to_owned());
        audit::change(kernel, &stranger, move |c| {
            let taken = take(c, &counted, now)?;
            let entries = match &taken {
                Ok(begun) if !begun.is_empty() => vec![
                    about("audit.sign_in_throttled.v1")
                        .detail("email", email)
                        .detail("counters", begun.iter().map(|name| kind_of(name)).collect::<Vec<_>>()),
                ],
                _ => Vec::new(),
            };
            Ok((taken, entries))
        })
        .await?
    };
    if let Err(left) = taken {
        return throttled(left);
    }
    let stored = found.user.as_ref().map(|user| user.password_hash.clone());
    let compared = match passwords.compare(input.password.clone(), stored).await {
        Ok(compared) => compared,
        Err(error) => {
            // Nothing was evaluated, so nothing is counted: a flood must not use up the real user's attempts.
            kernel.db.write(move |c| give_back(c, &counted)).await?;
            return Err(error);
        }
    };
    let refusal = match (&compared, &found.user, &found.member) {
        (_, None, _) => Some("there is no user with this address"),
        (Comparison::Wrong, ..) => Some("the password is wrong"),
        (Comparison::Unreadable, ..) => Some("the stored password hash cannot be read; reset the password"),
        (Comparison::Right { .. }, Some(user), _) if user.state != users::UserState::Enabled => {
            Some("the user is disabled")
        }
        (Comparison::Right { .. }, _, None) => Some("the user belongs to no account"),
        (Comparison::Right { .. }, _, Some((_, account))) if !account.is_active() => Some("the account is suspended"),
        (Comparison::Right { .. }, ..) => None,
    };
    // The password was right: they are told why they do not come in, and whoever may ask for the account back is told how.
    let suspended = match (&compared, &found.user, &found.member) {
        (Comparison::Right { .. }, Some(user), Some((member, account)))
            if user.state == users::UserState::Enabled && !account.is_active() =>
        {
            Some(Attempt::Suspended(restoring::proof(kernel, member, account, now)))
        }
        _ => None,
    };
    let (Comparison::Right { replacement }, Some((member, account)), None) = (compared, found.member, refusal) else {
        metrics::counter!("bailiwick_sign_ins_total", "outcome" => "refused").increment(1);
        let entry = about("audit.sign_in_failed.v1")
            .detail("reason", refusal.unwrap_or("unknown"))
            .detail("email", shown_email(&input.email))
            .detail("knownBrowser", known_browser.is_some());
        audit::record(kernel, &stranger, vec![entry]).await?;
        return Ok(suspended.unwrap_or(Attempt::Refused));
    };
    let origin = Origin { address: address.ip.to_string(), user_agent: address.user_agent.clone() };
    let own = kernel.clone();
    let known_token = browser_token.filter(|_| known_browser.is_some());
    // The record names the user as the one who acted; the session's id is known once it exists.
    let principal = member.principal(&account, String::new(), address.ip, address.request_id.clone());
    let traveller = Traveller { member, account, invitation: found.invitation };
    let next = Secret::new(input.next.clone());
    let arrival = audit::change(kernel, &principal, move |c| {
        let (member, account) = (&traveller.member, &traveller.account);
        // The comparison took its time: whoever was disabled or given a new password meanwhile does not get in.
        let current = users::find_member(c, &member.user.id, account.id)?;
        // One who joins by the way is no member yet.
        let is_same = current.map_or(traveller.invitation.is_some(), |now| {
            now.user.password_hash == member.user.password_hash && now.is_enabled() == member.is_enabled()
        });
        if !is_same {
            return Err(Error::Conflict("Your account was changed just now. Sign in again.".into()));
        }
        reset(c, &counted)?;
        if let Some(new) = &replacement {
            users::replace_hash(c, &member.user.id, &member.user.password_hash, new)?;
        }
        let proof = Proof::new(Method::Password, now);
        let entrance = Entrance { proof, from: None, origin, old_session, known_token, next };
        path::arrive(c, &own, &traveller, entrance, now)
    })
    .await?;
    Ok(Attempt::Arrived(arrival))
}

/// `user`, `address`, …: the hash behind it means nothing to a reader.
fn kind_of(subject: &str) -> &str {
    subject.split_once(':').map_or(subject, |(kind, _)| kind)
}

/// After the right password: the user's counter begins anew, what others share gets this attempt back.
fn reset(connection: &Connection, counted: &[Subject]) -> Result<()> {
    for subject in counted {
        if matches!(kind_of(&subject.name), "user" | "browser") {
            queries::delete_counter(connection, &subject.name)?;
        } else {
            give_back(connection, std::slice::from_ref(subject))?;
        }
    }
    Ok(())
}

/// Ends the browser's session.
pub(super) async fn sign_out(kernel: &Kernel, principal: &Principal, token: Secret<String>) -> Result<()> {
    let (region, account) = (principal.region.clone(), principal.account);
    audit::change(kernel, principal, move |c| {
        let entries = sessions::end(c, &token)?
            .map(|session| {
                Entry::new("audit.signed_out.v1")
                    .subject(users::user_urn(&region, account, &session.user_id))
                    .detail("sessionId", session.id)
            })
            .into_iter()
            .collect();
        Ok(((), entries))
    })
    .await
}

/// Makes the first account and its full-access user, inside the caller's transaction.
fn make_first(
    connection: &Connection,
    first: &FirstAccount,
    hash: &PasswordHash,
    now: Time,
) -> Result<(Account, Member, Vec<Entry>)> {
    if accounts::count(connection)? > 0 {
        return Err(Error::Conflict("This appliance is set up already. Sign in.".into()));
    }
    let account = accounts::create(connection, &first.alias, "en", "", None, now)?;
    let new = NewUser { email: first.email.clone(), name: first.name.clone() };
    let (user, user_entry) = users::create(connection, &account, &new, roles::FULL_ACCESS, hash, now)?;
    accounts::set_maker(connection, account.id, &user.id)?;
    accounts::begin_contacts(connection, account.id, &user.email)?;
    let entries = vec![account.created(), user_entry];
    let member = users::find_member(connection, &user.id, account.id)?
        .ok_or_else(|| Error::internal("the first user is no member of the first account"))?;
    Ok((account, member, entries))
}

/// Checks all fields at once, so that the form shows everything that is wrong.
fn check_first(first: &FirstAccount, rules: PasswordRules) -> Result<users::NewPassword> {
    let mut wrong = Vec::new();
    let mut note = |error| match error {
        Error::Invalid(fields) => {
            wrong.extend(fields);
            Ok(())
        }
        other => Err(other),
    };
    if let Err(error) = accounts::check_alias("account", &first.alias) {
        note(error)?;
    }
    if let Err(error) = users::check_email("email", &first.email) {
        note(error)?;
    }
    if let Err(error) = users::check_name("name", &first.name) {
        note(error)?;
    }
    let password = match users::check_password("password", &first.password, &first.email, rules) {
        Ok(password) => Some(password),
        Err(error) => {
            note(error)?;
            None
        }
    };
    match password {
        Some(password) if wrong.is_empty() => Ok(password),
        _ => Err(Error::Invalid(wrong)),
    }
}

/// The first account by the command line: alone on its thread, no link needed.
pub fn first_account(kernel: &Kernel, principal: &Principal, first: &FirstAccount) -> Result<AccountId> {
    let rules = kernel.db.read_blocking(users::password_rules)?;
    let hash = check_first(first, rules)?.hash_blocking()?;
    let (first, now) = (first.clone(), kernel.clock.now());
    audit::change_blocking(kernel, principal, move |c| {
        let (account, _, entries) = make_first(c, &first, &hash, now)?;
        Ok((account.id, entries))
    })
}

/// Whether a set-up link works now.
pub(super) async fn is_setup_open(kernel: &Kernel, token: &str) -> Result<bool> {
    let (token, now) = (token.to_owned(), kernel.clock.now());
    kernel.db.read(move |c| accounts::is_setup_open(c, &token, now)).await
}

/// The first account by the one-time link. Of two browsers at once exactly one wins: the token is checked again in
/// the transaction that uses it up.
pub(super) async fn set_up(
    kernel: &Kernel,
    passwords: &Passwords,
    address: &Address,
    input: SetupInput,
) -> Result<Arrival> {
    let ended =
        || Error::NotFound("This set-up link (it works once, for 24 hours, and only before there is an account)");
    if !is_setup_open(kernel, &input.token).await? {
        return Err(ended());
    }
    let first = FirstAccount { alias: input.account, email: input.email, name: input.name, password: input.password };
    let rules = kernel.db.read(users::password_rules).await?;
    let hash = passwords.hash(check_first(&first, rules)?).await?;
    let (now, token) = (kernel.clock.now(), input.token);
    let origin = Origin { address: address.ip.to_string(), user_agent: address.user_agent.clone() };
    let stranger = Principal::stranger(&kernel.config.region, Some(address.ip), Some(address.request_id.clone()));
    let own = kernel.clone();
    audit::change(kernel, &stranger, move |c| {
        if !accounts::is_setup_open(c, &token, now)? {
            return Err(ended());
        }
        let (account, member, mut entries) = make_first(c, &first, &hash, now)?;
        let entrance = Entrance::new(Proof::new(Method::SetUp, now), origin);
        let traveller = Traveller { member, account, invitation: None };
        let (arrival, more) = path::arrive(c, &own, &traveller, entrance, now)?;
        entries.extend(more);
        Ok((arrival, entries))
    })
    .await
}

/// Forgets failed attempts: of one user, or all of them. Answers how many counters there were.
pub fn unlock(connection: &Connection, email: Option<&str>) -> Result<(usize, Entry)> {
    let cleared = match email {
        Some(email) => {
            let user = users::find_by_email(connection, &users::fold_email(email))?;
            let codes = user.map_or(Ok(0), |user| mfa::unlock(connection, Some(&user.id)))?;
            forget_passwords(connection, email)? + codes
        }
        None => queries::delete_all_counters(connection)? + mfa::unlock(connection, None)?,
    };
    Ok((cleared, unlocked(email.unwrap_or("everybody"), cleared)))
}

fn forget_passwords(connection: &Connection, email: &str) -> Result<usize> {
    queries::delete_counter(connection, &Subject::user(&users::fold_email(email)).name)
}

fn unlocked(user: &str, counters: usize) -> Entry {
    Entry::new("audit.sign_in_unlocked.v1").changes(json!({}), json!({"user": user})).detail("counters", counters)
}

/// Forgets wrong passwords of a user who has a new one. Wrong codes stay counted: whoever reads the user's mail is no less a
/// stranger to their second factor.
pub(super) fn after_reset(connection: &Connection, email: &str) -> Result<Entry> {
    Ok(unlocked(email, forget_passwords(connection, email)?))
}

/// Deletes counters and browsers that mean nothing any more.
pub fn purge(connection: &Connection, now: Time) -> Result<usize> {
    let counters =
        queries::purge_counters(connection, now.plus(-counter::USER.window_us), now.plus(-counter::MEMORY_US))?;
    Ok(counters + queries::purge_known_browsers(connection, now)?)
}
