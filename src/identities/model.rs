//! Identities, groups, members and changes as the console and the API show them.

use std::collections::HashMap;

use serde::Serialize;

use super::fold::fold;

use crate::{
    clock::Time,
    connectors::{AccountType, Fact, GroupFields, IdentityFields, Kind},
};

/// Identity or group: what a change is about.
pub use crate::connectors::Subject as SubjectType;

/// A number of the common space of identities, groups and references.
pub type ObjectId = i64;

/// Which accounts a list holds, by their type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accounts {
    #[default]
    All,
    Of(AccountType),
    /// All but users: what a list of users leaves out.
    NotUsers,
}

impl Accounts {
    pub fn holds(self, account_type: AccountType) -> bool {
        match self {
            Self::All => true,
            Self::Of(wanted) => wanted == account_type,
            Self::NotUsers => !account_type.is_user(),
        }
    }

    /// Whether they are users; `None` when both users and others may be among them.
    pub fn is_user(self) -> Option<bool> {
        match self {
            Self::All => None,
            Self::Of(account_type) => Some(account_type.is_user()),
            Self::NotUsers => Some(false),
        }
    }
}

/// `until_at` of what still lasts.
pub const FOREVER: i64 = i64::MAX;

/// What a list shows of an identity.
#[derive(Debug, Clone)]
pub struct IdentityRow {
    pub id: ObjectId,
    pub directory_id: i64,
    pub directory_name: String,
    pub directory_kind: Option<Kind>,
    pub user_name: String,
    pub display_name: Option<String>,
    pub mail: Option<String>,
    pub status: String,
    pub missing_since_at: Option<Time>,
    /// A tombstone since then; lists do not show those.
    pub removed_at: Option<Time>,
    pub sort_key: String,
    pub fields: IdentityFields,
    pub external_id: String,
    pub changed_at: Time,
}

impl IdentityRow {
    /// The name to show: display name, else user name.
    pub fn name(&self) -> &str {
        self.display_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.user_name)
    }

    /// The state to show: missing goes before the directory's own status.
    pub fn state(&self) -> &str {
        match (self.removed_at, self.missing_since_at) {
            (Some(_), _) => "removed",
            (None, Some(_)) => "missing",
            (None, None) => &self.status,
        }
    }
}

/// An identity in the API (DESIGN §8).
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Identity)]
pub struct IdentityJson {
    pub id: String,
    pub directory_id: String,
    pub external_id: String,
    pub user_name: String,
    pub upn: Option<String>,
    pub mail: Option<String>,
    pub mails: Vec<String>,
    pub display_name: Option<String>,
    pub given_name: Option<String>,
    pub family_name: Option<String>,
    pub employee_id: Option<String>,
    pub department: Option<String>,
    pub title: Option<String>,
    /// The manager's identity, when it is one of this directory.
    pub manager_id: Option<String>,
    /// The manager as the directory writes it.
    pub manager: Option<String>,
    pub status: String,
    pub must_change_password: bool,
    pub account_type: AccountType,
    /// What is worth knowing of this account; empty where its directory says nothing of the kind.
    pub facts: Vec<Fact>,
    /// Why this identity is privileged, one sentence for each group that makes it so: `Member of Domain Admins through
    /// Helpdesk → Tier 0`. Empty when it is not, and for what is missing.
    pub privileged: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub missing_since: Option<Time>,
    /// A tombstone: gone for longer than the directory's grace time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub removed_at: Option<Time>,
    pub created_at: Option<String>,
    /// In Active Directory up to 14 days late: the domain does not write it with every sign-in.
    pub last_sign_in_at: Option<String>,
    pub password_changed_at: Option<String>,
    /// Raw attributes by the directory's names; binary values as `{"base64": "…"}`.
    #[schema(value_type = Object)]
    pub attributes: serde_json::Value,
}

impl IdentityJson {
    /// `manager_id` and `privileged` are looked up by the caller.
    pub fn new(row: IdentityRow, manager_id: Option<ObjectId>, privileged: Vec<String>) -> Self {
        let fields = row.fields;
        Self {
            id: row.id.to_string(),
            directory_id: row.directory_id.to_string(),
            external_id: row.external_id,
            user_name: fields.user_name,
            upn: fields.upn,
            mail: fields.mail,
            mails: fields.mails,
            display_name: fields.display_name,
            given_name: fields.given_name,
            family_name: fields.family_name,
            employee_id: fields.employee_id,
            department: fields.department,
            title: fields.title,
            manager_id: manager_id.map(|id| id.to_string()),
            manager: fields.manager,
            status: fields.status.as_str().to_owned(),
            must_change_password: fields.must_change_password,
            account_type: fields.account_type,
            facts: fields.facts,
            privileged,
            missing_since: row.missing_since_at,
            removed_at: row.removed_at,
            created_at: fields.created_at,
            last_sign_in_at: fields.last_sign_in_at,
            password_changed_at: fields.password_changed_at,
            attributes: serde_json::to_value(fields.attributes).unwrap_or_default(),
        }
    }
}

/// A group as lists and details show it.
#[derive(Debug, Clone)]
pub struct GroupRow {
    pub id: ObjectId,
    pub directory_id: i64,
    pub directory_name: String,
    pub external_id: String,
    pub name: String,
    pub description: Option<String>,
    pub member_count: i64,
    pub missing_since_at: Option<Time>,
    pub removed_at: Option<Time>,
    pub sort_key: String,
    pub fields: GroupFields,
    pub changed_at: Time,
}

/// A group in the API.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Group)]
pub struct GroupJson {
    pub id: String,
    pub directory_id: String,
    pub external_id: String,
    pub name: String,
    pub description: Option<String>,
    /// The directory's word for the kind, for example `groupOfNames`.
    pub kind: Option<String>,
    /// The members of this group are privileged, through other groups too: its well-known name, whatever it is called
    /// here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<String>,
    /// Direct members, those outside the copy included.
    pub member_count: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub missing_since: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub removed_at: Option<Time>,
    #[schema(value_type = Object)]
    pub attributes: serde_json::Value,
}

impl From<GroupRow> for GroupJson {
    fn from(row: GroupRow) -> Self {
        Self {
            id: row.id.to_string(),
            directory_id: row.directory_id.to_string(),
            external_id: row.external_id,
            name: row.name,
            description: row.description,
            kind: row.fields.kind,
            privileged: row.fields.privileged,
            member_count: row.member_count,
            missing_since: row.missing_since_at,
            removed_at: row.removed_at,
            attributes: serde_json::to_value(row.fields.attributes).unwrap_or_default(),
        }
    }
}

/// One member of a group, or one group of an identity.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    pub id: String,
    /// `identity`, `group`, or `reference` (points at nothing in the copy).
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    /// User name of an identity, the raw value of a reference.
    pub detail: String,
    /// The first mail address of an identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// Of an identity as in its own object, or `missing`; of a group only `missing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Named by the group itself, not only through another group.
    pub direct: bool,
    /// Since when it has been a direct member, as far as the copy knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Time>,
    #[serde(skip)]
    pub number: ObjectId,
}

impl Member {
    /// Its page; empty when there is none.
    pub fn href(&self) -> String {
        href(&self.kind, self.number)
    }
}

/// The page of an object by its type; empty for what has no page.
pub fn href(kind: &str, id: ObjectId) -> String {
    match kind {
        "identity" => format!("/identities/{id}"),
        "group" => format!("/groups/{id}"),
        _ => String::new(),
    }
}

/// A group that an object belongs to, and the way there.
#[derive(Debug, Clone)]
pub struct Belonging {
    pub id: ObjectId,
    pub name: String,
    pub is_missing: bool,
    pub member_count: i64,
    /// The groups in between, from the object upwards; empty for a direct membership.
    pub through: Vec<(ObjectId, String)>,
    /// Groups that the reader does not see lie in between too.
    pub is_way_hidden: bool,
}

impl Belonging {
    pub fn is_direct(&self) -> bool {
        self.through.is_empty() && !self.is_way_hidden
    }

    /// Groups that were reached from an object, each with the way there: direct ones first, then by name. `names` has
    /// name, whether it is missing, and how many members.
    pub(super) fn ways(
        member: ObjectId,
        order: Vec<ObjectId>,
        came_from: &HashMap<ObjectId, ObjectId>,
        names: &HashMap<ObjectId, (String, bool, i64)>,
    ) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::with_capacity(order.len());
        for id in order {
            let Some((name, is_missing, member_count)) = names.get(&id).cloned() else { continue };
            let mut through = Vec::new();
            let mut at = came_from.get(&id).copied().unwrap_or(member);
            while at != member {
                through.push((at, names.get(&at).map_or_else(String::new, |(name, ..)| name.clone())));
                at = came_from.get(&at).copied().unwrap_or(member);
            }
            through.reverse();
            found.push(Self { id, name, is_missing, member_count, through, is_way_hidden: false });
        }
        found.sort_by_cached_key(|belonging| (!belonging.is_direct(), fold(&belonging.name)));
        found
    }
}

/// A directory as a filter's list shows it.
#[derive(Debug, Clone)]
pub struct DirectoryChoice {
    pub id: i64,
    pub name: String,
    pub identities: i64,
    pub groups: i64,
    /// Computers or managed service accounts are among the identities.
    pub has_not_users: bool,
    /// It has groups that make their members privileged.
    pub has_privileged: bool,
}

/// An object joined or left a group.
#[derive(Debug, Clone)]
pub struct MembershipEvent {
    pub at: Time,
    pub group: ObjectId,
    pub group_name: String,
    pub joined: bool,
}

/// The kinds of line a plan has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    Added,
    Changed,
    Missing,
    Returned,
    /// Missing for longer than the grace time: a tombstone from here on.
    Removed,
    MemberAdded,
    MemberRemoved,
}

impl ChangeKind {
    pub const ALL: [Self; 7] = [
        Self::Added,
        Self::Changed,
        Self::Missing,
        Self::Returned,
        Self::Removed,
        Self::MemberAdded,
        Self::MemberRemoved,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::Returned => "returned",
            Self::Removed => "removed",
            Self::MemberAdded => "member-added",
            Self::MemberRemoved => "member-removed",
        }
    }

    /// In words, for a page.
    pub fn title(self) -> &'static str {
        match self {
            Self::Added => "Added",
            Self::Changed => "Changed",
            Self::Missing => "Missing",
            Self::Returned => "Returned",
            Self::Removed => "Removed",
            Self::MemberAdded => "Member added",
            Self::MemberRemoved => "Member removed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// How the database writes the type of an account.
pub(super) fn account_type_code(account_type: AccountType) -> i64 {
    match account_type {
        AccountType::User => 0,
        AccountType::Computer => 1,
        AccountType::ManagedServiceAccount => 2,
    }
}

pub(super) fn account_type_of(code: i64) -> AccountType {
    AccountType::ALL.into_iter().find(|kind| account_type_code(*kind) == code).unwrap_or_default()
}

impl SubjectType {
    /// How the database writes it.
    pub(super) fn code(self) -> i64 {
        match self {
            Self::Identity => 1,
            Self::Group => 2,
        }
    }

    pub(super) fn of_code(code: i64) -> Option<Self> {
        [Self::Identity, Self::Group].into_iter().find(|subject| subject.code() == code)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Group => "group",
        }
    }
}

/// One line of a plan or of a history.
#[derive(Debug, Clone)]
pub struct ChangeRow {
    pub id: i64,
    pub run_id: i64,
    pub subject_type: SubjectType,
    pub subject_id: ObjectId,
    pub subject_name: String,
    pub kind: String,
    pub field: Option<String>,
    /// JSON.
    pub before: Option<String>,
    /// JSON.
    pub after: Option<String>,
    /// Of a membership line: the member.
    pub member_id: Option<ObjectId>,
    /// Of a membership line: the member's name.
    pub member_name: Option<String>,
    /// Of a membership line: the member's page; empty when it has none.
    pub member_href: String,
    /// When it took effect; `None` while it is only planned.
    pub applied_at: Option<Time>,
}

impl ChangeRow {
    /// A side of a field as text for a page: plain strings without quotes, lists joined, and words where the API has names.
    pub fn text(field: &str, side: Option<&String>) -> String {
        fn plain(field: &str, value: &serde_json::Value) -> String {
            match value {
                serde_json::Value::Null => String::new(),
                serde_json::Value::String(text) => {
                    let title = match field {
                        "facts" => Fact::parse(text).map(Fact::title),
                        "accountType" => AccountType::parse(text).map(AccountType::title),
                        _ => None,
                    };
                    title.unwrap_or(text).to_owned()
                }
                serde_json::Value::Array(items) => {
                    items.iter().map(|item| plain(field, item)).collect::<Vec<_>>().join("; ")
                }
                serde_json::Value::Object(fields) if fields.contains_key("base64") => "(binary)".to_owned(),
                other => other.to_string(),
            }
        }
        side.and_then(|side| serde_json::from_str(side).ok()).map(|value| plain(field, &value)).unwrap_or_default()
    }

    pub fn before_text(&self) -> String {
        Self::text(self.field.as_deref().unwrap_or_default(), self.before.as_ref())
    }

    pub fn after_text(&self) -> String {
        Self::text(self.field.as_deref().unwrap_or_default(), self.after.as_ref())
    }

    pub fn kind_title(&self) -> &'static str {
        ChangeKind::parse(&self.kind).map_or("Changed", ChangeKind::title)
    }

    pub fn href(&self) -> String {
        href(self.subject_type.as_str(), self.subject_id)
    }
}

/// A change in the API.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Change)]
pub struct ChangeJson {
    pub id: String,
    pub run_id: String,
    /// URN of the identity or group.
    pub subject: String,
    pub subject_id: String,
    /// `identity` or `group`.
    pub subject_type: String,
    pub subject_name: String,
    /// `added changed missing returned removed member-added member-removed`.
    pub kind: String,
    /// For `changed`: the field, raw attributes as `attributes.<name>`; for memberships `members`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
    /// Of a membership line: the member's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member_name: Option<String>,
    /// When it took effect; absent while it is only planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub applied_at: Option<Time>,
}

impl ChangeJson {
    pub fn new(row: ChangeRow, region: &str, account: crate::principal::AccountId) -> Self {
        let side = |side: Option<String>| side.and_then(|side| serde_json::from_str(&side).ok());
        let member = row.member_id.map(|id| serde_json::Value::String(id.to_string()));
        let (joins, leaves) =
            (row.kind == ChangeKind::MemberAdded.as_str(), row.kind == ChangeKind::MemberRemoved.as_str());
        Self {
            id: row.id.to_string(),
            run_id: row.run_id.to_string(),
            subject: crate::principal::urn(
                "directories",
                region,
                Some(account),
                row.subject_type.as_str(),
                row.subject_id,
            ),
            subject_id: row.subject_id.to_string(),
            subject_type: row.subject_type.as_str().to_owned(),
            subject_name: row.subject_name,
            kind: row.kind,
            field: if joins || leaves { Some("members".to_owned()) } else { row.field },
            before: if leaves { member.clone() } else { side(row.before) },
            after: if joins { member } else { side(row.after) },
            member_name: row.member_name,
            applied_at: row.applied_at,
        }
    }
}
