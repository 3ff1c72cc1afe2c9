//! Making, changing and removing roles, and whether somebody may give one.

use rusqlite::Connection;

use super::{
    model::{Neighbours, Role, RoleInput},
    queries,
};
use crate::{
    audit::{self, Entry},
    error::{Error, FieldError, Result},
    kernel::Kernel,
    principal::{AccountId, Principal},
};

/// Roles of one account; a program that makes roles in a loop must not fill the table.
const ROLES_MAX: usize = 200;

const PREDEFINED: &str = "Predefined roles cannot be changed or removed, but for what they ask their holders to prove. Duplicate it instead.";
const MORE_THAN_HELD: &str = "You cannot give or change a role with more rights than your own.";

/// Whether somebody may give a role: only who holds at least as much, and for the whole account.
fn may_grant(principal: &Principal, role: &Role) -> bool {
    role.is_given_by(principal.rights, principal.scope.is_some())
}

/// Nobody grants more than they hold.
pub fn check_grant(principal: &Principal, role: &Role) -> Result<()> {
    if may_grant(principal, role) { Ok(()) } else { Err(Error::Forbidden(MORE_THAN_HELD.into())) }
}

/// The roles that somebody may give.
pub fn grantable(connection: &Connection, principal: &Principal) -> Result<Vec<Role>> {
    let mut roles = queries::list(connection, principal.account()?)?;
    roles.retain(|role| may_grant(principal, role));
    Ok(roles)
}

/// The role that an input makes of another one, with everything checked.
fn made(
    c: &Connection,
    principal: &Principal,
    neighbours: &Neighbours,
    input: RoleInput,
    before: Role,
) -> Result<Role> {
    let account = principal.account()?;
    let mut wrong: Vec<FieldError> = Vec::new();
    let role = input.onto(before, &mut wrong);
    if let Some(scope) = role.scope.as_deref() {
        wrong.extend((neighbours.check_scope)(c, account, scope)?);
    }
    if !wrong.is_empty() {
        return Err(Error::Invalid(wrong));
    }
    check_grant(principal, &role)?;
    Ok(role)
}

/// Makes a role.
pub(super) async fn create(
    kernel: &Kernel,
    principal: &Principal,
    neighbours: Neighbours,
    input: RoleInput,
) -> Result<Role> {
    let missing: Vec<FieldError> = [
        ("id", "Give the role an id.", input.id.is_none()),
        ("name", "Give the role a name.", input.name.is_none()),
        ("services", "Give the role at least one level.", input.services.is_none()),
    ]
    .into_iter()
    .filter(|(_, _, is_missing)| *is_missing)
    .map(|(field, message, _)| FieldError::new(field, message))
    .collect();
    if !missing.is_empty() {
        return Err(Error::Invalid(missing));
    }
    let (who, now) = (principal.clone(), kernel.clock.now());
    let attempt = Entry::new("audit.role_created.v1").detail("roleId", &input.id).detail("services", input.services);
    audit::attempt(kernel, principal, attempt, move |c| {
        let account = who.account()?;
        let role = made(c, &who, &neighbours, input, Role { description: String::new(), ..Role::nothing("") })?;
        if queries::list(c, account)?.len() >= ROLES_MAX {
            return Err(Error::Conflict(format!("This account has {ROLES_MAX} roles. Remove those that nobody has.")));
        }
        if queries::find(c, account, &role.id)?.is_some() || !queries::insert(c, account, &role, now)? {
            return Err(Error::field("id", "There is already a role with this id."));
        }
        let entry = Entry::new("audit.role_created.v1")
            .subject(role.urn(&who.region, account))
            .changes(serde_json::json!({}), role.record());
        Ok((role, vec![entry]))
    })
    .await
}

fn changeable(c: &Connection, account: AccountId, id: &str) -> Result<Role> {
    let role = queries::find(c, account, id)?.ok_or(Error::NotFound("This role"))?;
    if role.is_predefined {
        return Err(Error::Conflict(PREDEFINED.into()));
    }
    Ok(role)
}

/// Changes the fields that are given. It holds with the next request of whoever has the role.
pub(super) async fn update(
    kernel: &Kernel,
    principal: &Principal,
    neighbours: Neighbours,
    id: String,
    input: RoleInput,
) -> Result<Role> {
    if input.id.as_ref().is_some_and(|given| *given != id) {
        return Err(Error::field("id", "The id of a role never changes."));
    }
    let (who, now) = (principal.clone(), kernel.clock.now());
    let attempt = Entry::new("audit.role_updated.v1").detail("roleId", &id).detail("services", input.services);
    audit::attempt(kernel, principal, attempt, move |c| {
        let account = who.account()?;
        let before = queries::find(c, account, &id)?.ok_or(Error::NotFound("This role"))?;
        if before.is_predefined && !input.is_about_mfa_alone() {
            return Err(Error::Conflict(PREDEFINED.into()));
        }
        // Taking rights from a role that holds more than oneself is a change to it too.
        check_grant(&who, &before)?;
        let role = made(c, &who, &neighbours, input, before.clone())?;
        if role == before {
            return Ok((role, Vec::new()));
        }
        match role.is_predefined {
            true => queries::set_asked(c, account, &role.id, role.mfa)?,
            false => queries::update(c, account, &role, now)?,
        }
        (neighbours.check_administered)(c, account)?;
        let entry = Entry::new("audit.role_updated.v1")
            .subject(role.urn(&who.region, account))
            .changes(before.record(), role.record());
        Ok((Role { updated_at: Some(now), ..role }, vec![entry]))
    })
    .await
}

/// Removes a role that nobody has.
pub(super) async fn remove(kernel: &Kernel, principal: &Principal, neighbours: Neighbours, id: String) -> Result<()> {
    let who = principal.clone();
    let attempt = Entry::new("audit.role_removed.v1").detail("roleId", &id);
    audit::attempt(kernel, principal, attempt, move |c| {
        let account = who.account()?;
        let role = changeable(c, account, &id)?;
        check_grant(&who, &role)?;
        let users = (neighbours.used_by)(c, account, &id)?;
        if !users.is_empty() {
            return Err(Error::Conflict(format!(
                "This role is in use: {}. Give them another one first.",
                users.join(", ")
            )));
        }
        queries::delete(c, account, &id)?;
        let entry = Entry::new("audit.role_removed.v1")
            .subject(role.urn(&who.region, account))
            .changes(role.record(), serde_json::json!({}));
        Ok(((), vec![entry]))
    })
    .await
}
