//! What a role is, what it is made from, and the rules for both.

use std::{borrow::Cow, sync::Arc};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Time,
    error::{FieldError, Result},
    language::Language,
    principal::{AccountId, Level, Rights, Scope, Service, Unit, urn},
    proof::{MfaAsked, MfaRule},
    web::Page,
};

/// Everything, the console's own users and keys too.
pub const FULL_ACCESS: &str = "full-access";
/// Everything may be seen, nothing changed.
pub const READ_ONLY: &str = "read-only";

/// What is said of a role whose id is not known.
const GONE: &str = "This role does not exist any more.";

/// Directories, groups and units of one role together. More than this is a directory of its own.
const SCOPE_MAX: usize = 200;

/// A named set of levels, for an account or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    pub id: String,
    pub name: String,
    pub description: String,
    pub rights: Rights,
    /// `None`: the whole account.
    pub scope: Option<Arc<Scope>>,
    pub is_predefined: bool,
    /// What it asks of its holders, where the account does not ask for more.
    pub mfa: MfaRule,
    pub updated_at: Option<Time>,
}

impl Role {
    fn predefined(id: &str, name: &str, description: &str, rights: Rights) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            description: description.to_owned(),
            rights,
            scope: None,
            is_predefined: true,
            mfa: MfaRule::Optional,
            updated_at: None,
        }
    }

    /// What an id that is not known stands for: nothing.
    pub(super) fn nothing(id: &str) -> Self {
        Self { is_predefined: false, ..Self::predefined(id, id, GONE, Rights::default()) }
    }

    /// Its name for a reader of a language: of those that come with the appliance it is a text of ours, of all others
    /// what somebody called them.
    pub fn name_in(&self, language: Language) -> Cow<'_, str> {
        if self.is_predefined { language.say(&self.name) } else { Cow::Borrowed(&self.name) }
    }

    /// The same on a page.
    pub fn name_on(&self, page: &Page) -> Cow<'_, str> {
        self.name_in(page.language())
    }

    /// Its description on a page, likewise.
    pub fn description_on(&self, page: &Page) -> Cow<'_, str> {
        let is_ours = self.is_predefined || self.description == GONE;
        if is_ours { page.t(self.description.as_str()) } else { Cow::Borrowed(&self.description) }
    }

    /// Whether its holders administer the account: users, roles and keys, all of it.
    pub fn is_administrator(&self) -> bool {
        self.scope.is_none() && self.rights.allows(Service::Identity, Level::Full)
    }

    /// Whether whoever holds these rights, for all of the account or for a part, may give it: nobody gives more than they hold,
    /// and nobody who is held to a part gives anything.
    pub(super) fn is_given_by(&self, rights: Rights, is_part: bool) -> bool {
        !is_part && rights.includes(&self.rights)
    }

    /// Whether its holders may give another role.
    pub fn lets_give(&self, other: &Self) -> bool {
        other.is_given_by(self.rights, self.scope.is_some())
    }

    pub(super) fn urn(&self, region: &str, account: AccountId) -> String {
        urn("identity", region, Some(account), "role", &self.id)
    }

    /// What the audit log compares.
    pub(super) fn record(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name,
            "description": self.description,
            "services": self.rights,
            "scope": self.scope.as_deref().map(ScopeJson::from),
            "mfaRequired": self.mfa.is_required(),
            "passkeyOnly": self.mfa.is_passkey_only(),
        })
    }
}

/// The predefined roles, in the order in which they are offered.
pub(super) fn predefined() -> [Role; 4] {
    [
        Role::predefined(
            FULL_ACCESS,
            "Full access",
            "Everything in this account, with its users, API keys and settings.",
            Rights::all(Level::Full),
        ),
        Role::predefined(
            "operator",
            "Operator",
            "Connects and syncs directories and acts on identities; sees neither users nor API keys of the console.",
            Rights::default()
                .with(Service::Directories, Level::Full)
                .with(Service::Enforcement, Level::Operate)
                .with(Service::Approvals, Level::Operate)
                .with(Service::Risk, Level::Operate)
                .with(Service::Audit, Level::Read)
                .with(Service::Settings, Level::Read),
        ),
        Role::predefined(READ_ONLY, "Read only", "Sees everything and changes nothing.", Rights::all(Level::Read)),
        Role::predefined(
            "auditor",
            "Auditor",
            "Reviews who could do what and when: sees everything, the audit log first, and changes nothing.",
            Rights::all(Level::Read),
        ),
    ]
}

/// What a scope can be chosen from.
#[derive(Debug, Clone, Default)]
pub struct ScopeChoices {
    /// Directories of the account: id and name.
    pub directories: Vec<(i64, String)>,
    /// The groups that were asked for, those of a search or those of a scope: id, name and directory's name.
    pub groups: Vec<(i64, String, String)>,
}

/// What roles have to ask of rooms above and beside them; `app` fills it in.
#[derive(Clone, Copy)]
pub struct Neighbours {
    /// Who has a role, as `3 users`, `1 API key`; empty when nobody has.
    pub used_by: fn(&Connection, AccountId, &str) -> Result<Vec<String>>,
    /// Refuses when nobody who can sign in is left to administer an account.
    pub check_administered: fn(&Connection, AccountId) -> Result<()>,
    /// Names what of a scope does not exist.
    pub check_scope: fn(&Connection, AccountId, &Scope) -> Result<Vec<FieldError>>,
    /// The directories of an account, and the groups that a search finds or that have these ids.
    pub choices: fn(&Connection, AccountId, &str, &[i64]) -> Result<ScopeChoices>,
}

/// A scope in the API.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = RoleScope)]
pub(super) struct ScopeJson {
    /// Directories' ids: everything in them.
    directories: Vec<String>,
    /// Groups' ids: the groups and everything inside them, through any depth.
    groups: Vec<String>,
    /// Everything at or below these DNs.
    units: Vec<UnitJson>,
}

/// A unit in the API.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = RoleScopeUnit)]
pub(super) struct UnitJson {
    directory_id: String,
    dn: String,
}

impl From<&Scope> for ScopeJson {
    fn from(scope: &Scope) -> Self {
        let texts = |ids: &[i64]| ids.iter().map(ToString::to_string).collect();
        Self {
            directories: texts(&scope.directories),
            groups: texts(&scope.groups),
            units: scope
                .units
                .iter()
                .map(|unit| UnitJson { directory_id: unit.directory.to_string(), dn: unit.dn.clone() })
                .collect(),
        }
    }
}

impl ScopeJson {
    /// Sorted and without doubles, so that equal scopes are the same.
    fn check(self, wrong: &mut Vec<FieldError>) -> Option<Arc<Scope>> {
        let mut note = |field: String, message: &str| wrong.push(FieldError::new(field, message));
        let mut ids = |name: &str, texts: Vec<String>| {
            let mut ids: Vec<i64> = Vec::with_capacity(texts.len());
            for (at, text) in texts.iter().enumerate() {
                match text.trim().parse() {
                    Ok(id) => ids.push(id),
                    Err(_) => note(format!("scope.{name}[{at}]"), "Give an id."),
                }
            }
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let (directories, groups) = (ids("directories", self.directories), ids("groups", self.groups));
        let mut units: Vec<Unit> = Vec::with_capacity(self.units.len());
        for (at, unit) in self.units.into_iter().enumerate() {
            match unit.directory_id.trim().parse() {
                Ok(directory) => units.push(Unit { directory, dn: unit.dn.trim().to_owned() }),
                Err(_) => note(format!("scope.units[{at}].directoryId"), "Give an id."),
            }
        }
        units.sort_by(|a, b| (a.directory, &a.dn).cmp(&(b.directory, &b.dn)));
        units.dedup();
        let scope = Scope { directories, groups, units };
        let count = scope.directories.len() + scope.groups.len() + scope.units.len();
        if scope.is_empty() {
            note("scope".into(), "Name at least one directory, group or unit, or leave the scope out.");
        } else if count > SCOPE_MAX {
            note("scope".into(), "At most 200 directories, groups and units together.");
        }
        Some(Arc::new(scope))
    }
}

/// A role as the API writes it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Role)]
pub(super) struct RoleJson {
    /// The slug that `roleId` refers to.
    id: String,
    name: String,
    description: String,
    /// Service to level: `none`, `read`, `operate` or `full`.
    #[schema(value_type = Object)]
    services: Rights,
    /// The part of the account that it is for; absent: all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<ScopeJson>,
    /// What its holders have to prove, where the account does not ask for more.
    #[serde(flatten, serialize_with = "MfaAsked::write")]
    #[schema(value_type = MfaAsked)]
    mfa: MfaRule,
    /// It comes with the appliance: only what it asks its holders to prove can be changed.
    predefined: bool,
}

impl From<Role> for RoleJson {
    fn from(role: Role) -> Self {
        Self {
            scope: role.scope.as_deref().map(ScopeJson::from),
            id: role.id,
            name: role.name,
            description: role.description,
            services: role.rights,
            mfa: role.mfa,
            predefined: role.is_predefined,
        }
    }
}

/// A role to be made, or what is to be different about one: absent fields stay as they are.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RoleInput {
    /// 2 to 64 lower-case letters, digits and hyphens, beginning with a letter. It never changes.
    pub(super) id: Option<String>,
    /// 1 to 64 characters.
    pub(super) name: Option<String>,
    /// At most 500 characters.
    pub(super) description: Option<String>,
    /// Service to level. Services that are not named get `none`.
    #[schema(value_type = Option<Object>)]
    pub(super) services: Option<Rights>,
    /// `null`: the whole account.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<ScopeJson>)]
    pub(super) scope: Option<Option<ScopeJson>>,
    /// Whether its holders have to prove a second factor.
    pub(super) mfa_required: Option<bool>,
    /// Whether that has to be a passkey; goes with `mfaRequired` only.
    pub(super) passkey_only: Option<bool>,
}

/// A null that is given is an answer.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<ScopeJson>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Whether an id is one that a role can have.
fn is_slug(id: &str) -> bool {
    (2..=64).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && id.starts_with(|c: char| c.is_ascii_lowercase())
        && !id.ends_with('-')
}

impl RoleInput {
    /// Whether nothing else is to be different than what holders have to prove.
    pub(super) fn is_about_mfa_alone(&self) -> bool {
        self.name.is_none() && self.description.is_none() && self.services.is_none() && self.scope.is_none()
    }

    /// The role with these changes, or everything that is wrong with them.
    pub(super) fn onto(self, before: Role, wrong: &mut Vec<FieldError>) -> Role {
        let mut role = before;
        if let Some(id) = self.id {
            if !is_slug(&id) {
                let text =
                    "2 to 64 lower-case letters, digits and hyphens, beginning with a letter, such as helpdesk-oslo.";
                wrong.push(FieldError::new("id", text));
            }
            role.id = id;
        }
        if let Some(name) = self.name {
            role.name = name.trim().to_owned();
        }
        if !(1..=64).contains(&role.name.chars().count()) || role.name.chars().any(char::is_control) {
            wrong.push(FieldError::new("name", "Enter a name of 1 to 64 characters."));
        }
        if let Some(description) = self.description {
            role.description = description.trim().to_owned();
        }
        if role.description.chars().count() > 500 {
            wrong.push(FieldError::new("description", "At most 500 characters."));
        }
        role.rights = self.services.unwrap_or(role.rights);
        match self.scope {
            None => {}
            Some(None) => role.scope = None,
            Some(Some(scope)) => role.scope = scope.check(wrong),
        }
        match role.mfa.changed(self.mfa_required, self.passkey_only) {
            Ok(rule) => role.mfa = rule,
            Err(error) => wrong.push(error),
        }
        if role.rights == Rights::default() {
            wrong.push(FieldError::new("services", "Give the role at least one level."));
        }
        if role.scope.is_some() && !in_part().includes(&role.rights) {
            let text = "A role for a part of the account can hold directories up to read and enforcement up to operate: \
                        everything else is about the whole account.";
            wrong.push(FieldError::new("services", text));
        }
        role
    }
}

/// The most that a role for a part of an account can hold.
pub(super) fn in_part() -> Rights {
    Rights::default().with(Service::Directories, Level::Read).with(Service::Enforcement, Level::Operate)
}
