//! What a user is; the rule for names.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::passwords::PasswordHash;
pub use crate::email::{check as check_email, fold as fold_email};
use crate::{
    accounts::Account,
    clock::Time,
    error::{Error, Result},
    principal::{AccountId, Principal, PrincipalKind, PrincipalParts, urn},
    proof::{Factors, MfaRule},
    roles::Role,
};

/// Whether a user may sign in at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UserState {
    Enabled,
    Disabled,
}

impl UserState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Enabled, Self::Disabled].into_iter().find(|state| state.as_str() == text)
    }
}

/// A human who signs in to the console.
#[derive(Debug, Clone)]
pub struct User {
    pub id: String,
    pub email: String,
    pub name: String,
    pub locale: String,
    /// IANA name; empty means the browser's.
    pub time_zone: String,
    pub theme: String,
    pub password_hash: PasswordHash,
    pub state: UserState,
    /// Owns the appliance.
    pub is_owner: bool,
    /// When a link sent to this address was opened.
    pub email_verified_at: Option<Time>,
    pub password_changed_at: Time,
    pub created_at: Time,
    pub last_sign_in_at: Option<Time>,
    pub factors: Factors,
}

/// A user as a member of one account.
#[derive(Debug, Clone)]
pub struct Member {
    pub user: User,
    pub account_id: AccountId,
    pub role: Role,
    /// In this account.
    pub state: UserState,
    pub joined_at: Time,
    /// When they last did something in this account.
    pub last_active_at: Option<Time>,
}

impl Member {
    /// Whether they may enter, as a user and in this account.
    pub fn is_enabled(&self) -> bool {
        self.user.state == UserState::Enabled && self.state == UserState::Enabled
    }

    /// What this account asks of them: by itself, or because of their role.
    pub fn mfa_rule(&self, account: &Account) -> MfaRule {
        account.mfa.max(self.role.mfa)
    }

    /// In this account, as shown.
    pub fn shown_state(&self) -> UserState {
        if self.is_enabled() { UserState::Enabled } else { UserState::Disabled }
    }

    /// This member, acting in their account through one session.
    pub fn principal(&self, account: &Account, session_id: String, address: IpAddr, request_id: String) -> Principal {
        Principal::new(PrincipalParts {
            kind: PrincipalKind::User,
            account: Some(account.id),
            account_alias: account.alias.clone(),
            region: account.region.clone(),
            id: self.user.id.clone(),
            person: self.user.id.clone(),
            answerer: Some(self.user.id.clone()),
            name: self.user.name.clone(),
            email: self.user.email.clone(),
            role_id: self.role.id.clone(),
            rights: self.role.rights,
            scope: self.role.scope.clone(),
            is_owner: self.user.is_owner,
            session_id: Some(session_id),
            proved_at: None,
            address: Some(address),
            request_id: Some(request_id),
            time_zone: self.user.time_zone.clone(),
            theme: self.user.theme.clone(),
            locale: self.user.locale.clone(),
        })
    }
}

/// What is needed to make a user.
#[derive(Debug, Clone)]
pub struct NewUser {
    pub email: String,
    pub name: String,
}

/// A user as the API writes it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserView {
    id: String,
    email: String,
    name: String,
    /// The role in the caller's account.
    role_id: String,
    state: UserState,
    mfa_enabled: bool,
    /// A link sent to the address was opened.
    email_verified: bool,
    /// When they came into the caller's account.
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    /// When they last did something in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    last_activity: Option<Time>,
}

impl From<Member> for UserView {
    fn from(member: Member) -> Self {
        let state = member.shown_state();
        let user = member.user;
        Self {
            id: user.id,
            email: user.email,
            name: user.name,
            role_id: member.role.id,
            state,
            mfa_enabled: user.factors.any(),
            email_verified: user.email_verified_at.is_some(),
            created_at: member.joined_at,
            last_activity: member.last_active_at,
        }
    }
}

/// What is to be different about a member; absent fields stay as they are.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = UserUpdate)]
pub struct MemberInput {
    pub role_id: Option<String>,
    /// In this account.
    pub state: Option<UserState>,
}

/// A user's URN as seen from one account.
pub fn user_urn(region: &str, account: Option<AccountId>, id: &str) -> String {
    urn("identity", region, account, "user", id)
}

/// A person's name: 1 to 100 characters on one line; answers it trimmed.
pub fn check_name(field: &str, name: &str) -> Result<String> {
    let name = name.trim();
    let is_fine = (1..=100).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if is_fine { Ok(name.to_owned()) } else { Err(Error::field(field, "Enter a name of 1 to 100 characters.")) }
}
