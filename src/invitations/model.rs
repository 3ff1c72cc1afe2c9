//! What an invitation is, what it is made from, and its link.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Time,
    error::{Error, FieldError, Result},
    notifications::{HandedLink, LinkView},
    principal::{AccountId, urn},
    secret::Secret,
    users,
    web::{door, href},
};

/// How long a link works when nothing is said.
pub(super) const LIFETIME_DAYS_DEFAULT: i64 = 7;
pub(super) const LIFETIME_DAYS_MAX: i64 = 30;

/// Where a link leads.
pub(super) const LANDING: &str = "/invitation";

/// How far an invitation got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InvitationState {
    Invited,
    Accepted,
    Rejected,
    Revoked,
    Expired,
}

impl InvitationState {
    pub const ALL: [Self; 5] = [Self::Invited, Self::Accepted, Self::Rejected, Self::Revoked, Self::Expired];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Invited => "Invited",
            Self::Accepted => "Joined",
            Self::Rejected => "Declined",
            Self::Revoked => "Revoked",
            Self::Expired => "Expired",
        }
    }

    /// The shape and colour of the style sheet: `accepted` there means that a task goes on.
    pub(super) fn tone(self) -> &'static str {
        match self {
            Self::Invited => "planned",
            Self::Accepted => "success",
            Self::Rejected => "refused",
            Self::Revoked => "removed",
            Self::Expired => "expired",
        }
    }
}

/// An invitation as stored; the token's hash stays in the table.
#[derive(Debug, Clone)]
pub struct Invitation {
    pub id: String,
    pub account_id: AccountId,
    pub email: String,
    pub email_folded: String,
    pub role_id: String,
    /// As stored; [`Invitation::state`] is what holds.
    pub(super) stored_state: InvitationState,
    /// The present link went to the address itself, so whoever opens it reads mail there.
    pub is_mailed: bool,
    /// URN of whoever sent it last.
    pub invited_by: String,
    pub inviter_name: String,
    /// The member it hangs on; `None`: it needs none.
    pub inviter_id: Option<String>,
    pub lifetime_days: i64,
    pub created_at: Time,
    pub last_sent_at: Time,
    pub sent_count: i64,
    pub expires_at: Time,
    pub ended_at: Option<Time>,
    /// The user who it became.
    pub accepted_by: Option<String>,
}

impl Invitation {
    /// Its state at `now`: time ends it, whether anybody has written so or not.
    pub fn state(&self, now: Time) -> InvitationState {
        if self.stored_state == InvitationState::Invited && self.expires_at <= now {
            return InvitationState::Expired;
        }
        self.stored_state
    }

    pub fn urn(&self, region: &str) -> String {
        invitation_urn(region, self.account_id, &self.id)
    }

    /// What the audit log compares.
    pub(super) fn record(&self) -> serde_json::Value {
        serde_json::json!({
            "email": self.email,
            "roleId": self.role_id,
            "state": self.stored_state,
            "expiry": self.expires_at,
            "lastSent": self.last_sent_at,
            "sentCount": self.sent_count,
            "acceptedBy": self.accepted_by,
            "invitedBy": self.invited_by,
        })
    }
}

pub(super) fn invitation_urn(region: &str, account: AccountId, id: &str) -> String {
    urn("identity", region, Some(account), "invitation", id)
}

/// The path of the page that a token opens.
pub(super) fn landing_path(token: &Secret<String>) -> String {
    href(LANDING, &[("token", token.expose())])
}

/// The token in a path that an invitation links to: where somebody goes on after they have signed in.
pub fn token_in(path: &str) -> Option<Secret<String>> {
    let path = door::local_path(path)?;
    let (page, query) = path.split_once('?')?;
    if page != LANDING {
        return None;
    }
    let fields: Vec<(String, String)> = serde_urlencoded::from_str(query).ok()?;
    fields.into_iter().find(|(name, _)| name == "token").map(|(_, token)| Secret::new(token))
}

/// Whom to invite. `email` and `roleId` are needed.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct InvitationInput {
    pub(super) email: Option<String>,
    /// One that holds no more than the caller's own.
    pub(super) role_id: Option<String>,
    /// 1 to 30; absent: 7.
    pub(super) expires_in_days: Option<i64>,
}

/// An input with every field checked.
pub(super) struct Checked {
    pub(super) email: String,
    pub(super) role_id: String,
    pub(super) lifetime_days: i64,
}

impl InvitationInput {
    /// Names all fields that are wrong at once.
    pub(super) fn check(self) -> Result<Checked> {
        let mut wrong = Vec::new();
        let email = match users::check_email("email", self.email.as_deref().unwrap_or_default()) {
            Ok(email) => email,
            Err(Error::Invalid(fields)) => {
                wrong.extend(fields);
                String::new()
            }
            Err(other) => return Err(other),
        };
        let role_id = self.role_id.unwrap_or_default();
        if role_id.is_empty() {
            wrong.push(FieldError::new("roleId", "Choose a role."));
        }
        let lifetime_days = self.expires_in_days.unwrap_or(LIFETIME_DAYS_DEFAULT);
        if !(1..=LIFETIME_DAYS_MAX).contains(&lifetime_days) {
            wrong.push(FieldError::new("expiresInDays", format!("From 1 to {LIFETIME_DAYS_MAX} days.")));
        }
        if wrong.is_empty() { Ok(Checked { email, role_id, lifetime_days }) } else { Err(Error::Invalid(wrong)) }
    }
}

/// An invitation as the API writes it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Invitation)]
pub(super) struct InvitationView {
    id: String,
    email: String,
    role_id: String,
    state: InvitationState,
    /// When the present link ends.
    #[schema(value_type = String, format = DateTime)]
    expiry: Time,
    #[schema(value_type = String, format = DateTime)]
    last_sent: Time,
    /// URN.
    invited_by: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    #[serde(flatten)]
    link: LinkView,
}

impl InvitationView {
    pub(super) fn new(invitation: Invitation, now: Time) -> Self {
        Self {
            state: invitation.state(now),
            id: invitation.id,
            email: invitation.email,
            role_id: invitation.role_id,
            expiry: invitation.expires_at,
            last_sent: invitation.last_sent_at,
            invited_by: invitation.invited_by,
            created_at: invitation.created_at,
            link: LinkView::default(),
        }
    }

    /// The same with what is shown once.
    pub(super) fn with_link(self, link: Option<HandedLink>) -> Self {
        Self { link: link.map(LinkView::from).unwrap_or_default(), ..self }
    }
}
