//! Who acts and what they may do: the vocabulary that the request road, the audit log and every action share.
//!
//! Owns the shape of a principal, of an account's id and of a URN. It knows no table: `sessions` and `api_keys` make
//! principals, `web` checks them against a route's [`Permission`].

use std::{fmt, net::IpAddr, sync::Arc};

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};

use crate::{clock::Time, proof};

/// A tenant's id: exactly twelve digits, the first not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(i64);

impl AccountId {
    pub const MIN: i64 = 100_000_000_000;
    pub const MAX: i64 = 999_999_999_999;

    /// `None` unless the number has twelve digits.
    pub fn new(number: i64) -> Option<Self> {
        (Self::MIN..=Self::MAX).contains(&number).then_some(Self(number))
    }

    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse().ok())
            .flatten()
            .and_then(Self::new)
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for AccountId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl ToSql for AccountId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for AccountId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Self::new(i64::column_result(value)?).ok_or(FromSqlError::InvalidType)
    }
}

/// `urn:bailiwick:<service>:<region>:<account>:<type>/<id>`; positions never change, clients parse them.
pub fn urn(service: &str, region: &str, account: Option<AccountId>, kind: &str, id: impl fmt::Display) -> String {
    match account {
        Some(account) => format!("urn:bailiwick:{service}:{region}:{account}:{kind}/{id}"),
        None => format!("urn:bailiwick:{service}:{region}::{kind}/{id}"),
    }
}

/// What a role can be given a level for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    Identity,
    Directories,
    Enforcement,
    Approvals,
    Risk,
    Audit,
    Settings,
}

impl Service {
    pub const ALL: [Self; 7] = [
        Self::Identity,
        Self::Directories,
        Self::Enforcement,
        Self::Approvals,
        Self::Risk,
        Self::Audit,
        Self::Settings,
    ];

    /// As it is written everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Directories => "directories",
            Self::Enforcement => "enforcement",
            Self::Approvals => "approvals",
            Self::Risk => "risk",
            Self::Audit => "audit",
            Self::Settings => "settings",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.as_str() == text)
    }

    /// As people read it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Identity => "Identity",
            Self::Directories => "Directories",
            Self::Enforcement => "Enforcement",
            Self::Approvals => "Approvals",
            Self::Risk => "Risk",
            Self::Audit => "Audit",
            Self::Settings => "Settings",
        }
    }

    /// What it is about, as one line.
    pub fn about(self) -> &'static str {
        match self {
            Self::Identity => "Users, roles, invitations, API keys and identity providers of this console",
            Self::Directories => "Directories, their runs and plans, people and groups",
            Self::Enforcement => "Acting on accounts of directories",
            Self::Approvals => "Deciding over requests of others",
            Self::Risk => "Findings and policies",
            Self::Audit => "The audit log",
            Self::Settings => "The account itself: its name, contacts and limits",
        }
    }
}

/// How much of a service: each level includes the ones before it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    #[default]
    None,
    Read,
    Operate,
    Full,
}

impl Level {
    pub const ALL: [Self; 4] = [Self::None, Self::Read, Self::Operate, Self::Full];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Full => "full",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }
}

/// The levels a principal has, one per service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights([Level; Service::ALL.len()]);

impl Rights {
    /// The same level for every service.
    pub fn all(level: Level) -> Self {
        Self([level; Service::ALL.len()])
    }

    #[must_use]
    pub fn with(mut self, service: Service, level: Level) -> Self {
        if let Some(slot) = self.0.get_mut(service as usize) {
            *slot = level;
        }
        self
    }

    pub fn level(&self, service: Service) -> Level {
        self.0.get(service as usize).copied().unwrap_or_default()
    }

    pub fn allows(&self, service: Service, level: Level) -> bool {
        self.level(service) >= level
    }

    /// What both hold: the lower level of each service.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        Service::ALL
            .into_iter()
            .fold(Self::default(), |rights, one| rights.with(one, self.level(one).min(other.level(one))))
    }

    /// Whether everything that `other` holds is held here too: nobody grants more than they hold.
    pub fn includes(&self, other: &Self) -> bool {
        Service::ALL.iter().all(|service| self.level(*service) >= other.level(*service))
    }
}

impl Serialize for Rights {
    /// Service to level.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Service::ALL.iter().map(|service| (service, self.level(*service))))
    }
}

impl<'de> Deserialize<'de> for Rights {
    /// Services that are not named get nothing.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let levels = std::collections::BTreeMap::<Service, Level>::deserialize(deserializer)?;
        Ok(levels.into_iter().fold(Self::default(), |rights, (service, level)| rights.with(service, level)))
    }
}

/// The part of an account that a role is for: what lies in any of these, and nothing else of the account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Everything in these directories.
    pub directories: Vec<i64>,
    /// These groups, and everything inside them through any depth.
    pub groups: Vec<i64>,
    /// Everything at or below these DNs.
    pub units: Vec<Unit>,
}

/// A unit of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    pub directory: i64,
    /// As it was written.
    pub dn: String,
}

impl Scope {
    pub fn is_empty(&self) -> bool {
        self.directories.is_empty() && self.groups.is_empty() && self.units.is_empty()
    }
}

/// What a route asks of whoever calls it. There is no route without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Strangers too: sign-in, set-up, static files, health.
    Public,
    /// A user of the console who is signed in, for what is their own (profile, sessions, sign-out).
    OwnUser,
    /// Any principal who is signed in.
    SignedIn,
    /// The appliance's owner, signed in: what belongs to no account (mail, limits, accounts of others).
    Owner,
    /// A level of a service, for the whole account.
    Needs(Service, Level),
    /// The same, and whoever has it for a part of the account may come too: the handler shows and does only what lies
    /// in that part. Any other route refuses them, so that none can forget to.
    InPart(Service, Level),
    /// Everything there is, in all of the account: for what takes or ends all of it.
    Everything,
}

/// The kinds of principal, as their URNs name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrincipalKind {
    User,
    ApiKey,
    Scheduler,
    CommandLine,
    /// Nobody yet: a failed sign-in, the set-up link.
    Stranger,
}

/// Whoever acts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Principal(Arc<PrincipalParts>);

/// The parts of a principal.
#[derive(Debug, Clone)]
pub struct PrincipalParts {
    pub kind: PrincipalKind,
    /// The account they act in; `None` only for strangers and appliance-wide command lines.
    pub account: Option<AccountId>,
    pub account_alias: String,
    pub region: String,
    /// The user's or key's own id.
    pub id: String,
    /// The human behind it, as far as one is known: a user's own id, of a key the user who made it. Two principals with the
    /// same one are no two persons.
    pub person: String,
    /// The user without whom they could do nothing: a user themselves, of a key whoever answers for it. `None`: nobody.
    pub answerer: Option<String>,
    /// How the console shows them: a name or an alias.
    pub name: String,
    /// Users only.
    pub email: String,
    pub role_id: String,
    pub rights: Rights,
    /// The part of the account that the rights are for; `None`: all of it.
    pub scope: Option<Arc<Scope>>,
    /// The user who owns the appliance.
    pub is_owner: bool,
    /// The session's public id, for users.
    pub session_id: Option<String>,
    /// When they last proved that it is them; users in a session only.
    pub proved_at: Option<Time>,
    pub address: Option<IpAddr>,
    pub request_id: Option<String>,
    /// IANA name; empty means the browser's.
    pub time_zone: String,
    pub theme: String,
    pub locale: String,
}

impl std::ops::Deref for Principal {
    type Target = PrincipalParts;

    fn deref(&self) -> &PrincipalParts {
        &self.0
    }
}

impl Principal {
    pub fn new(parts: PrincipalParts) -> Self {
        Self(Arc::new(parts))
    }

    fn bare(kind: PrincipalKind, region: &str, account: Option<AccountId>, id: &str, rights: Rights) -> Self {
        Self::new(PrincipalParts {
            kind,
            account,
            account_alias: String::new(),
            region: region.to_owned(),
            id: id.to_owned(),
            person: id.to_owned(),
            answerer: None,
            name: id.to_owned(),
            email: String::new(),
            role_id: String::new(),
            rights,
            scope: None,
            is_owner: false,
            session_id: None,
            proved_at: None,
            address: None,
            request_id: None,
            time_zone: String::new(),
            theme: "auto".into(),
            locale: "en".into(),
        })
    }

    /// The scheduler acting for one account.
    pub fn scheduler(region: &str, account: AccountId) -> Self {
        Self::bare(PrincipalKind::Scheduler, region, Some(account), "scheduler", Rights::all(Level::Operate))
    }

    /// Live mode acting for one account: a server said that something has changed.
    pub fn live(region: &str, account: AccountId) -> Self {
        Self::bare(PrincipalKind::Scheduler, region, Some(account), "live", Rights::all(Level::Operate))
    }

    /// Somebody at the machine's command line, named by their operating-system user.
    pub fn command_line(region: &str, account: Option<AccountId>, os_user: &str) -> Self {
        Self::bare(PrincipalKind::CommandLine, region, account, os_user, Rights::all(Level::Full))
    }

    /// Somebody with these rights, and nothing else.
    #[cfg(test)]
    pub fn with_rights(region: &str, account: AccountId, rights: Rights) -> Self {
        Self::bare(PrincipalKind::User, region, Some(account), "somebody", rights)
    }

    /// The same for a part of the account.
    #[cfg(test)]
    pub fn in_part(region: &str, account: AccountId, rights: Rights, scope: Arc<Scope>) -> Self {
        let bare = Self::with_rights(region, account, rights);
        match Arc::try_unwrap(bare.0) {
            Ok(parts) => Self::new(PrincipalParts { scope: Some(scope), ..parts }),
            Err(shared) => Self(shared),
        }
    }

    /// Somebody who has not signed in.
    pub fn stranger(region: &str, address: Option<IpAddr>, request_id: Option<String>) -> Self {
        let bare = Self::bare(PrincipalKind::Stranger, region, None, "anonymous", Rights::default());
        match Arc::try_unwrap(bare.0) {
            Ok(parts) => Self::new(PrincipalParts { address, request_id, ..parts }),
            Err(shared) => Self(shared),
        }
    }

    /// The same, reading another language than English: a stranger has no profile that says it.
    #[must_use]
    pub fn reading(self, language: crate::language::Language) -> Self {
        match Arc::try_unwrap(self.0) {
            Ok(parts) => Self::new(PrincipalParts { locale: language.code().into(), ..parts }),
            Err(shared) => Self(shared),
        }
    }

    /// The same, having proved then that it is them.
    #[must_use]
    pub fn proved(self, at: Time) -> Self {
        Self::new(PrincipalParts { proved_at: Some(at), ..Arc::unwrap_or_clone(self.0) })
    }

    /// Whether it is not long ago that they proved who they are. A key is never asked: it has nothing to prove it with, and
    /// what it may do is limited in other ways.
    pub fn has_proved_lately(&self, now: Time) -> bool {
        self.kind != PrincipalKind::User || self.proved_at.is_some_and(|at| proof::is_fresh(at, now))
    }

    /// Their URN, as the audit log records it.
    pub fn urn(&self) -> String {
        let kind = match self.kind {
            PrincipalKind::User => "user",
            PrincipalKind::ApiKey => "api-key",
            PrincipalKind::Scheduler => "service",
            PrincipalKind::CommandLine => "cli",
            PrincipalKind::Stranger => "stranger",
        };
        urn("identity", &self.region, self.account, kind, &self.id)
    }

    /// The account they act in; refused for whoever has none.
    pub fn account(&self) -> crate::error::Result<AccountId> {
        self.account.ok_or(crate::error::Error::Unauthenticated)
    }

    pub fn allows(&self, permission: Permission) -> bool {
        match permission {
            Permission::Public => true,
            Permission::OwnUser => self.kind == PrincipalKind::User,
            Permission::SignedIn => self.kind != PrincipalKind::Stranger,
            Permission::Owner => self.kind == PrincipalKind::User && self.is_owner,
            Permission::Needs(service, level) => self.scope.is_none() && self.rights.allows(service, level),
            Permission::InPart(service, level) => self.rights.allows(service, level),
            Permission::Everything => self.holds_everything(),
        }
    }

    /// Whether they may do everything there is in their account, in all of it.
    pub fn holds_everything(&self) -> bool {
        self.scope.is_none() && self.rights.includes(&Rights::all(Level::Full))
    }

    /// What somebody is told whom [`allows`](Self::allows) refuses.
    pub fn why_refused(&self, permission: Permission) -> &'static str {
        match (self.kind, permission) {
            (
                PrincipalKind::ApiKey,
                Permission::Needs(Service::Identity, level) | Permission::InPart(Service::Identity, level),
            ) if level > Level::Read => {
                "An API key changes users, roles, keys and identity providers only when its role says so, somebody with full access gave it leave, and the account lets its keys do so."
            }
            (_, Permission::Owner) => "Only the owner of this appliance may do this.",
            (_, Permission::Everything) => "Only somebody who may do everything in this account may do this.",
            _ => "Your role does not allow this. Ask an administrator of this account.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_id_has_twelve_digits() {
        assert!(AccountId::parse("100000000001").is_some());
        for bad in ["", "1", "000000000001", "1000000000010", "10000000000x", "+10000000001", "１00000000001"] {
            assert_eq!(AccountId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn rights_include_only_what_is_held_in_every_service() {
        let reader = Rights::all(Level::Read);
        let operator = reader.with(Service::Directories, Level::Operate);
        assert!(operator.includes(&reader) && !reader.includes(&operator));
        assert!(!operator.with(Service::Audit, Level::None).includes(&reader));
    }
}
