//! What is done to users: check, change, record.
//!
//! Functions that take a `&Connection` run inside the caller's transaction and answer the audit records to be written
//! with it.

use std::sync::LazyLock;

use rusqlite::Connection;
use serde_json::json;

use super::{
    model::{NewUser, User, UserState, check_email, check_name, fold_email, user_urn},
    passwords::{Comparison, PasswordHash, Passwords, check_password},
    queries,
};
use crate::{
    accounts::Account,
    audit::{self, Entry, Outcome},
    clock::Time,
    error::{Error, Result},
    kernel::Kernel,
    principal::{AccountId, Principal},
    roles,
    secret::Secret,
    sessions,
};

/// Makes a user with a role in an account.
pub fn create(
    connection: &Connection,
    account: &Account,
    new: &NewUser,
    role_id: &str,
    password: &PasswordHash,
    now: Time,
) -> Result<(User, Entry)> {
    let email = check_email("email", &new.email)?;
    let name = check_name("name", &new.name)?;
    let role = roles::find(role_id).ok_or_else(|| Error::field("roleId", "There is no such role."))?;
    let folded = fold_email(&email);
    if queries::find_by_email(connection, &folded)?.is_some() {
        return Err(Error::field("email", "There is already a user with this address."));
    }
    let user = User {
        id: uuid::Uuid::now_v7().to_string(),
        email,
        name,
        locale: "en".into(),
        time_zone: String::new(),
        theme: "auto".into(),
        password_hash: password.clone(),
        state: UserState::Enabled,
        // Whoever comes first: somebody has to.
        is_owner: !queries::has_owner(connection)?,
        created_at: now,
        last_sign_in_at: None,
    };
    queries::insert(connection, &user, &folded)?;
    queries::insert_membership(connection, &user.id, account.id, role.id, now)?;
    let entry = Entry::new("audit.user_created.v1")
        .account(account.id)
        .subject(user_urn(&account.region, Some(account.id), &user.id))
        .changes(json!({}), json!({"email": user.email, "name": user.name, "roleId": role.id}));
    Ok((user, entry))
}

/// Sets a password without asking for the old one, and ends all sessions: for the command line.
pub fn set_password(
    connection: &Connection,
    region: &str,
    account: Option<AccountId>,
    user: &User,
    password: &PasswordHash,
    now: Time,
) -> Result<Entry> {
    queries::set_password(connection, &user.id, &password.0, now)?;
    let ended = sessions::end_all(connection, &user.id, None)?;
    Ok(Entry::new("audit.user_password_reset.v1")
        .subject(user_urn(region, account, &user.id))
        .detail("sessionsEnded", ended))
}

/// Gives a user another role in an account.
pub fn set_role(
    connection: &Connection,
    region: &str,
    user: &User,
    account: AccountId,
    role_id: &str,
) -> Result<Entry> {
    let role = roles::find(role_id).ok_or_else(|| Error::field("roleId", "There is no such role."))?;
    let member = queries::find_member(connection, &user.id, account)?.ok_or(Error::NotFound("This user"))?;
    queries::set_role(connection, &user.id, account, role.id)?;
    Ok(Entry::new("audit.user_role_changed.v1")
        .account(account)
        .subject(user_urn(region, Some(account), &user.id))
        .changes(json!({"roleId": member.role_id}), json!({"roleId": role.id})))
}

/// What users change about themselves.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ProfileInput {
    pub(super) name: String,
    pub(super) locale: String,
    pub(super) time_zone: String,
    pub(super) theme: String,
}

/// The languages that exist.
pub(super) const LOCALES: [(&str, &str); 2] = [("en", "English"), ("ja", "日本語")];

fn check_theme(theme: &str) -> Result<()> {
    if matches!(theme, "auto" | "light" | "dark") {
        return Ok(());
    }
    Err(Error::field("theme", "Choose auto, light or dark."))
}

/// Saves a user's own profile.
pub(super) async fn save_profile(kernel: &Kernel, principal: &Principal, input: ProfileInput) -> Result<()> {
    let mut wrong = Vec::new();
    let mut note = |result: Result<()>| match result {
        Err(Error::Invalid(fields)) => {
            wrong.extend(fields);
            Ok(())
        }
        other => other,
    };
    note(check_name("name", &input.name).map(|_| ()))?;
    note(check_theme(&input.theme))?;
    if !LOCALES.iter().any(|(code, _)| *code == input.locale) {
        note(Err(Error::field("locale", "This language is not available.")))?;
    }
    // Only names from the database, as written there: what a lookup takes in another spelling the browser may not.
    if !input.time_zone.is_empty() && !time_zones().contains(&input.time_zone) {
        note(Err(Error::field("timeZone", "Choose a time zone from the list.")))?;
    }
    if !wrong.is_empty() {
        return Err(Error::Invalid(wrong));
    }
    let name = input.name.trim().to_owned();
    let (account, user_id, region) = (principal.account()?, principal.id.clone(), principal.region.clone());
    audit::change(kernel, principal, move |c| {
        let user = queries::find_member(c, &user_id, account)?.ok_or(Error::Unauthenticated)?.user;
        let before = json!({"name": user.name, "locale": user.locale, "timeZone": user.time_zone, "theme": user.theme});
        let after = json!({"name": name, "locale": input.locale, "timeZone": input.time_zone, "theme": input.theme});
        if before == after {
            return Ok(((), Vec::new()));
        }
        queries::set_profile(c, &user.id, &name, &input.locale, &input.time_zone, &input.theme)?;
        let entry = Entry::new("audit.user_updated.v1")
            .subject(user_urn(&region, Some(account), &user.id))
            .changes(before, after);
        Ok(((), vec![entry]))
    })
    .await
}

/// The names of all time zones, sorted.
pub(super) fn time_zones() -> &'static [String] {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut names: Vec<String> = jiff::tz::db()
            .available()
            .map(|name| name.as_str().to_owned())
            // Places where people are; not `Etc/…`, `posix/…` and the like.
            .filter(|name| name == "UTC" || name.split_once('/').is_some_and(|(area, _)| AREAS.contains(&area)))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    });
    &NAMES
}

const AREAS: [&str; 10] =
    ["Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific"];

/// Saves the theme alone (the switch in the user's menu).
pub(super) async fn save_theme(kernel: &Kernel, principal: &Principal, theme: String) -> Result<()> {
    save_profile(
        kernel,
        principal,
        ProfileInput {
            name: principal.name.clone(),
            locale: principal.locale.clone(),
            time_zone: principal.time_zone.clone(),
            theme,
        },
    )
    .await
}

/// Changes a user's own password: the old one is asked for, all other sessions end.
pub(super) async fn change_password(
    kernel: &Kernel,
    passwords: &Passwords,
    principal: &Principal,
    current: Secret<String>,
    new: Secret<String>,
) -> Result<usize> {
    let (account, user_id) = (principal.account()?, principal.id.clone());
    let member = kernel.db.read(move |c| queries::find_member(c, &user_id, account)).await?;
    let user = member.ok_or(Error::Unauthenticated)?.user;
    let new_password = check_password("new", &new, &user.email)?;
    if current.expose() == new.expose() {
        return Err(Error::field("new", "This is the password you have now."));
    }
    let subject = user_urn(&principal.region, Some(account), &user.id);
    passwords.check_pace(&user.id, kernel.clock.now())?;
    match passwords.compare(current, Some(user.password_hash.clone())).await? {
        Comparison::Right { .. } => {}
        Comparison::Wrong | Comparison::Unreadable => {
            let entry = Entry::new("audit.user_password_changed.v1")
                .subject(subject)
                .outcome(Outcome::Failure)
                .detail("reason", "the current password was wrong");
            audit::record(kernel, principal, vec![entry]).await?;
            return Err(Error::field("current", "This is not your current password."));
        }
    }
    let hash = passwords.hash(new_password).await?;
    let (now, keep) = (kernel.clock.now(), principal.session_id.clone());
    audit::change(kernel, principal, move |c| {
        // Somebody else may have set it meanwhile (the command line): then this request's old password is not right.
        let unchanged = queries::find_member(c, &user.id, account)?
            .is_some_and(|member| member.user.password_hash == user.password_hash);
        if !unchanged {
            return Err(Error::Conflict("The password was changed elsewhere at the same moment.".into()));
        }
        queries::set_password(c, &user.id, &hash.0, now)?;
        let ended = sessions::end_all(c, &user.id, keep.as_deref())?;
        let entry = Entry::new("audit.user_password_changed.v1").subject(subject).detail("sessionsEnded", ended);
        Ok((ended, vec![entry]))
    })
    .await
}

/// Ends one of a user's own sessions.
pub(super) async fn end_session(kernel: &Kernel, principal: &Principal, id: String) -> Result<()> {
    let (account, user_id, region) = (principal.account()?, principal.id.clone(), principal.region.clone());
    audit::change(kernel, principal, move |c| {
        if !sessions::end_one(c, &user_id, &id)? {
            return Err(Error::NotFound("This session"));
        }
        let entry = Entry::new("audit.session_ended.v1")
            .subject(user_urn(&region, Some(account), &user_id))
            .detail("sessionId", id);
        Ok(((), vec![entry]))
    })
    .await
}

/// Ends all sessions of a user, this one too.
pub async fn end_all_sessions(kernel: &Kernel, principal: &Principal) -> Result<usize> {
    let (account, user_id, region) = (principal.account()?, principal.id.clone(), principal.region.clone());
    audit::change(kernel, principal, move |c| {
        let ended = sessions::end_all(c, &user_id, None)?;
        let entry = Entry::new("audit.sessions_ended.v1")
            .subject(user_urn(&region, Some(account), &user_id))
            .detail("sessionsEnded", ended);
        Ok((ended, vec![entry]))
    })
    .await
}
