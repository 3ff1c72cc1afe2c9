//! Roles: what whoever signs in may do, as a level per service.
//!
//! Owns the predefined roles; a role is referred to by its id (a slug). Invariant: a role that is not known gives no
//! rights at all. It must never decide whether somebody may grant a role: whoever grants compares with
//! [`Rights::includes`], because nobody grants more than they hold (HOSTILE R01).

mod api;

use serde::Serialize;

use crate::{
    principal::{Level, Permission, Rights, Service},
    web::Routes,
};

/// Everything, the console's own users and keys too.
pub const FULL_ACCESS: &str = "full-access";
/// Everything may be seen, nothing changed.
pub const READ_ONLY: &str = "read-only";

/// A named set of levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    pub id: &'static str,
    pub name: &'static str,
    pub description: &'static str,
    pub rights: Rights,
}

/// All roles, in the order in which they are offered.
pub fn list() -> Vec<Role> {
    vec![
        Role {
            id: FULL_ACCESS,
            name: "Full access",
            description: "Everything in this account, with its users, API keys and settings.",
            rights: Rights::all(Level::Full),
        },
        Role {
            id: "operator",
            name: "Operator",
            description: "Connects and syncs directories and acts on identities; sees neither users nor API keys of the console.",
            rights: Rights::default()
                .with(Service::Directories, Level::Full)
                .with(Service::Enforcement, Level::Operate)
                .with(Service::Approvals, Level::Operate)
                .with(Service::Risk, Level::Operate)
                .with(Service::Audit, Level::Read)
                .with(Service::Settings, Level::Read),
        },
        Role {
            id: READ_ONLY,
            name: "Read only",
            description: "Sees everything and changes nothing.",
            rights: Rights::all(Level::Read),
        },
        Role {
            id: "auditor",
            name: "Auditor",
            description: "Reviews who could do what and when: sees everything, the audit log first, and changes nothing.",
            rights: Rights::all(Level::Read),
        },
    ]
}

/// The role with this id.
pub fn find(id: &str) -> Option<Role> {
    list().into_iter().find(|role| role.id == id)
}

/// What a role allows; nothing when it is not known.
pub fn rights(id: &str) -> Rights {
    find(id).map(|role| role.rights).unwrap_or_default()
}

/// How a role is called; its id when it is not known.
pub fn name(id: &str) -> String {
    find(id).map_or_else(|| id.to_owned(), |role| role.name.to_owned())
}

/// The roles that somebody with `rights` may grant.
pub fn grantable(rights: &Rights) -> Vec<Role> {
    list().into_iter().filter(|role| rights.includes(&role.rights)).collect()
}

/// A role as the API writes it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoleView {
    /// The slug that `roleId` refers to.
    id: &'static str,
    name: &'static str,
    description: &'static str,
    /// Service to level: `none`, `read`, `operate` or `full`.
    #[schema(value_type = Object)]
    services: serde_json::Map<String, serde_json::Value>,
}

impl From<Role> for RoleView {
    fn from(role: Role) -> Self {
        let text = |value: serde_json::Result<serde_json::Value>| value.unwrap_or_default();
        let services = Service::ALL
            .iter()
            .filter_map(|service| {
                let name = text(serde_json::to_value(service)).as_str()?.to_owned();
                Some((name, text(serde_json::to_value(role.rights.level(*service)))))
            })
            .collect();
        Self { id: role.id, name: role.name, description: role.description, services }
    }
}

/// `GET /api/roles`.
pub fn routes(routes: &mut Routes) {
    // Whoever may see users and keys may see what their roles mean.
    let read = Permission::Needs(Service::Identity, Level::Read);
    routes.api::<api::__path_list, _, _>(read, api::list);
    routes.api::<api::__path_get, _, _>(read, api::get);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_access_can_grant_everything() {
        for role in list() {
            let ids: Vec<_> = grantable(&role.rights).iter().map(|granted| granted.id).collect();
            assert!(ids.contains(&role.id), "{} grants itself", role.id);
            assert_eq!(ids.contains(&FULL_ACCESS), role.id == FULL_ACCESS, "{}", role.id);
        }
    }

    #[test]
    fn an_unknown_role_allows_nothing() {
        for id in ["", "owner", "FULL-ACCESS", "full-access ", "full-access\0"] {
            assert_eq!(rights(id), Rights::default(), "{id:?}");
        }
    }
}
