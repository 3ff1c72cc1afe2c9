//! What is done to users: check, change, record.
//!
//! Functions that take a `&Connection` run inside the caller's transaction and answer the audit records to be written
//! with it.

use rusqlite::Connection;
use serde_json::json;

use super::{
    model::{Member, MemberInput, NewUser, User, UserState, check_email, check_name, fold_email, user_urn},
    passwords::{Comparison, PasswordHash, Passwords, check_password},
    queries, recovery,
};
use crate::{
    accounts::{self, Account},
    audit::{self, Entry, Outcome},
    clock::Time,
    error::{Error, Result},
    kernel::Kernel,
    principal::{AccountId, Principal},
    proof::Factors,
    roles::{self, Role},
    secret::{MasterKey, Secret},
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
    let role = find_role(connection, account.id, role_id)?;
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
        email_verified_at: None,
        password_changed_at: now,
        created_at: now,
        last_sign_in_at: None,
        factors: Factors::default(),
    };
    queries::insert(connection, &user, &folded)?;
    queries::insert_membership(connection, &user.id, account.id, &role.id, now)?;
    let entry = Entry::new("audit.user_created.v1")
        .account(account.id)
        .subject(user_urn(&account.region, Some(account.id), &user.id))
        .changes(json!({}), json!({"email": user.email, "name": user.name, "roleId": role.id}));
    Ok((user, entry))
}

/// Sets a password without asking for the old one, and ends all sessions: for the command line.
pub fn set_password(
    connection: &Connection,
    key: &MasterKey,
    region: &str,
    account: Option<AccountId>,
    user: &User,
    password: &PasswordHash,
    now: Time,
) -> Result<Entry> {
    queries::set_password(connection, &user.id, &password.0, now)?;
    recovery::tell_changed(connection, key, user, "", now)?;
    let ended = sessions::end_all(connection, &user.id, None)?;
    Ok(Entry::new("audit.user_password_reset.v1")
        .subject(user_urn(region, account, &user.id))
        .detail("sessionsEnded", ended))
}

/// Refuses when nobody who can sign in is left to administer an account. Asked at the end of every change that could
/// take the last one away (HOSTILE R03).
pub fn check_administered(connection: &Connection, account: AccountId) -> Result<()> {
    for role in queries::roles_in_use(connection, account)? {
        if roles::held(connection, account, &role)?.is_administrator() {
            return Ok(());
        }
    }
    Err(Error::Conflict(
        "Nobody would be left to administer this account: give somebody else a role with full identity rights first."
            .into(),
    ))
}

/// Whether a user may give a role in an account now. What hangs on whoever gave it is asked this whenever it is used: nobody lets
/// others in after they have lost the right, nor into a role that has grown beyond theirs (HOSTILE R04).
pub fn may_give(connection: &Connection, user_id: &str, account: AccountId, role: &Role) -> Result<bool> {
    let member = queries::find_member(connection, user_id, account)?.filter(Member::is_enabled);
    Ok(member.is_some_and(|member| member.role.lets_give(role)))
}

/// Makes a user a member of an account, or gives them another role there: by an invitation, and for the command line, when
/// whoever could do it in the console has left. Somebody disabled is let in again.
pub fn grant(
    connection: &Connection,
    region: &str,
    user: &User,
    account: AccountId,
    role_id: &str,
    now: Time,
) -> Result<Vec<Entry>> {
    let role = find_role(connection, account, role_id)?;
    let subject = user_urn(region, Some(account), &user.id);
    let after = json!({"roleId": role.id, "state": UserState::Enabled});
    let Some(member) = queries::find_member(connection, &user.id, account)? else {
        queries::insert_membership(connection, &user.id, account, &role.id, now)?;
        return Ok(vec![
            Entry::new("audit.user_joined.v1").account(account).subject(subject).changes(json!({}), after),
        ]);
    };
    queries::set_member(connection, &user.id, account, &role.id, UserState::Enabled)?;
    check_administered(connection, account)?;
    let before = json!({"roleId": member.role.id, "state": member.state});
    Ok(vec![Entry::new("audit.user_role_changed.v1").account(account).subject(subject).changes(before, after)])
}

/// Makes a user who exists a member of an account.
pub fn join(
    connection: &Connection,
    user_id: &str,
    account: &Account,
    role_id: &str,
    now: Time,
) -> Result<(Member, Entry)> {
    let role = find_role(connection, account.id, role_id)?;
    if queries::find_member(connection, user_id, account.id)?.is_some() {
        return Err(Error::Conflict("This user belongs to the account already.".into()));
    }
    queries::insert_membership(connection, user_id, account.id, &role.id, now)?;
    let member = queries::find_member(connection, user_id, account.id)?.ok_or(Error::NotFound("This user"))?;
    let entry = Entry::new("audit.user_joined.v1")
        .account(account.id)
        .subject(user_urn(&account.region, Some(account.id), user_id))
        .changes(json!({}), json!({"email": member.user.email, "roleId": role.id}));
    Ok((member, entry))
}

fn find_role(connection: &Connection, account: AccountId, id: &str) -> Result<Role> {
    roles::find(connection, account, id)?.ok_or_else(|| Error::field("roleId", "There is no such role."))
}

/// Changes a member's role or state in the principal's account.
pub(super) async fn update_member(
    kernel: &Kernel,
    principal: &Principal,
    id: String,
    input: MemberInput,
) -> Result<Member> {
    let who = principal.clone();
    let attempt = Entry::new("audit.user_updated.v1")
        .subject(user_urn(&principal.region, principal.account, &id))
        .detail("roleId", &input.role_id)
        .detail("state", input.state);
    audit::attempt(kernel, principal, attempt, move |c| {
        let account = who.account()?;
        let member = queries::find_member(c, &id, account)?.ok_or(Error::NotFound("This user"))?;
        check_over(&who, &member)?;
        let role = match &input.role_id {
            Some(id) => find_role(c, account, id)?,
            None => member.role.clone(),
        };
        let state = input.state.unwrap_or(member.state);
        if (&role, state) == (&member.role, member.state) {
            return Ok((member, Vec::new()));
        }
        // By a key of theirs neither.
        if who.person == id {
            return Err(Error::Forbidden("Your own role and state are changed by another administrator.".into()));
        }
        roles::check_grant(&who, &role)?;
        if state == UserState::Disabled {
            check_owner_stays(c, &who, &member)?;
        }
        queries::set_member(c, &id, account, &role.id, state)?;
        check_administered(c, account)?;
        let ended = match state {
            UserState::Enabled => 0,
            UserState::Disabled => sessions::end_all_in(c, &id, account)?,
        };
        let kind = match (member.state, state) {
            (UserState::Enabled, UserState::Disabled) => "audit.user_disabled.v1",
            (UserState::Disabled, UserState::Enabled) => "audit.user_enabled.v1",
            _ => "audit.user_role_changed.v1",
        };
        let entry = Entry::new(kind)
            .subject(user_urn(&who.region, Some(account), &id))
            .changes(
                json!({"roleId": member.role.id, "state": member.state}),
                json!({"roleId": role.id, "state": state}),
            )
            .detail("sessionsEnded", ended);
        Ok((Member { role, state, ..member }, vec![entry]))
    })
    .await
}

/// Whoever holds more than oneself is not touched (HOSTILE R04).
pub fn check_over(principal: &Principal, member: &Member) -> Result<()> {
    roles::check_grant(principal, &member.role)
        .map_err(|_| Error::Forbidden("This user holds more rights than you do.".into()))
}

/// How far a user reaches beyond an account: its administrators are not theirs there.
pub enum Reach {
    Here,
    /// Other accounts too.
    Elsewhere,
    /// They own the appliance.
    Appliance,
}

/// How far a user reaches beyond an account.
pub fn reach(c: &Connection, user: &User, account: AccountId) -> Result<Reach> {
    Ok(match user.is_owner {
        true => Reach::Appliance,
        false if queries::belongs_elsewhere(c, &user.id, account)? => Reach::Elsewhere,
        false => Reach::Here,
    })
}

/// Whoever owns the appliance has to be able to enter it: nobody else takes their last account from them.
fn check_owner_stays(c: &Connection, principal: &Principal, member: &Member) -> Result<()> {
    let is_last = || -> Result<bool> {
        let own = queries::accounts_of(c, &member.user.id)?;
        Ok(own.into_iter().all(|account| account == member.account_id))
    };
    if member.user.is_owner && principal.person != member.user.id && is_last()? {
        let why = "This user owns the appliance and has no other account to enter it by. They can hand the appliance over first.";
        return Err(Error::Conflict(why.into()));
    }
    Ok(())
}

/// Takes a user out of the principal's account. The user stays, in other accounts too.
pub(super) async fn remove_member(kernel: &Kernel, principal: &Principal, id: String) -> Result<()> {
    let who = principal.clone();
    let attempt = Entry::new("audit.user_removed.v1").subject(user_urn(&principal.region, principal.account, &id));
    audit::attempt(kernel, principal, attempt, move |c| {
        let account = who.account()?;
        let member = queries::find_member(c, &id, account)?.ok_or(Error::NotFound("This user"))?;
        check_over(&who, &member)?;
        check_owner_stays(c, &who, &member)?;
        queries::delete_member(c, &id, account)?;
        check_administered(c, account)?;
        let ended = sessions::end_all_in(c, &id, account)?;
        let entry = Entry::new("audit.user_removed.v1")
            .subject(user_urn(&who.region, Some(account), &id))
            .changes(json!({"email": member.user.email, "roleId": member.role.id}), json!({}))
            .detail("sessionsEnded", ended);
        Ok(((), vec![entry]))
    })
    .await
}

/// Ends all sessions that a member has in the principal's account.
pub(super) async fn sign_out_member(kernel: &Kernel, principal: &Principal, id: String) -> Result<usize> {
    let who = principal.clone();
    let attempt = Entry::new("audit.sessions_ended.v1").subject(user_urn(&principal.region, principal.account, &id));
    audit::attempt(kernel, principal, attempt, move |c| {
        let account = who.account()?;
        let member = queries::find_member(c, &id, account)?.ok_or(Error::NotFound("This user"))?;
        check_over(&who, &member)?;
        let ended = sessions::end_all_in(c, &id, account)?;
        let entry = Entry::new("audit.sessions_ended.v1")
            .subject(user_urn(&who.region, Some(account), &id))
            .detail("sessionsEnded", ended);
        Ok((ended, vec![entry]))
    })
    .await
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
    note(accounts::check_locale("locale", &input.locale))?;
    note(accounts::check_time_zone("timeZone", &input.time_zone))?;
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
    let read = move |c: &Connection| Ok((queries::find_member(c, &user_id, account)?, queries::password_rules(c)?));
    let (member, rules) = kernel.db.read(read).await?;
    let user = member.ok_or(Error::Unauthenticated)?.user;
    let new_password = check_password("new", &new, &user.email, rules)?;
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
    let address = principal.address.map(|ip| ip.to_string()).unwrap_or_default();
    let key = kernel.key.clone();
    audit::change(kernel, principal, move |c| {
        // Somebody else may have set it meanwhile (the command line): then this request's old password is not right.
        let unchanged = queries::find_member(c, &user.id, account)?
            .is_some_and(|member| member.user.password_hash == user.password_hash);
        if !unchanged {
            return Err(Error::Conflict("The password was changed elsewhere at the same moment.".into()));
        }
        queries::set_password(c, &user.id, &hash.0, now)?;
        recovery::tell_changed(c, &key, &user, &address, now)?;
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
