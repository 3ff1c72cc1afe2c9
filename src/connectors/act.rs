//! Acting on one account: what can be asked for, what stands in the directory, and whether one is the other yet.
//!
//! Owns the words of actions. An [`Actor`] looks as the reader and changes as the actor, on one server, so that what is
//! read back is what that server holds. It decides nothing about when, how often and whether at all: that is
//! `enforcement`'s business.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BoxFuture, Failure, IdentityFields, ProbeReport};

/// What can be done to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Disable,
    Enable,
    ForceSignOut,
    ForcePasswordReset,
    /// Takes [`Action::ForcePasswordReset`] back.
    CancelPasswordReset,
    Unlock,
    /// [`Action::Disable`], and a random password that nobody knows.
    Contain,
}

impl Action {
    pub const ALL: [Self; 7] = [
        Self::Disable,
        Self::Enable,
        Self::ForceSignOut,
        Self::ForcePasswordReset,
        Self::CancelPasswordReset,
        Self::Unlock,
        Self::Contain,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::ForceSignOut => "force-sign-out",
            Self::ForcePasswordReset => "force-password-reset",
            Self::CancelPasswordReset => "cancel-password-reset",
            Self::Unlock => "unlock",
            Self::Contain => "contain",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == text)
    }

    /// As a button says it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Disable => "Disable",
            Self::Enable => "Enable",
            Self::ForceSignOut => "Force sign-out",
            Self::ForcePasswordReset => "Force password reset",
            Self::CancelPasswordReset => "Cancel password reset",
            Self::Unlock => "Unlock",
            Self::Contain => "Contain",
        }
    }

    /// As a heading, with a place for whom it is about.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Disable => "Disable {}",
            Self::Enable => "Enable {}",
            Self::ForceSignOut => "Force sign-out of {}",
            Self::ForcePasswordReset => "Force password reset of {}",
            Self::CancelPasswordReset => "Cancel password reset of {}",
            Self::Unlock => "Unlock {}",
            Self::Contain => "Contain {}",
        }
    }

    /// What takes it back; `None` where nothing does.
    pub fn inverse(self) -> Option<Self> {
        match self {
            Self::Disable | Self::Contain => Some(Self::Enable),
            Self::Enable => Some(Self::Disable),
            Self::ForcePasswordReset => Some(Self::CancelPasswordReset),
            Self::CancelPasswordReset => Some(Self::ForcePasswordReset),
            Self::ForceSignOut | Self::Unlock => None,
        }
    }

    /// The actions that decide over the same thing of an account: what a later one of them did, an earlier one must not take
    /// back.
    pub fn rivals(self) -> &'static [Self] {
        match self {
            Self::Disable | Self::Enable => &[Self::Disable, Self::Enable, Self::Contain],
            Self::ForcePasswordReset | Self::CancelPasswordReset => {
                &[Self::ForcePasswordReset, Self::CancelPasswordReset, Self::Contain]
            }
            Self::Contain => {
                &[Self::Disable, Self::Enable, Self::Contain, Self::ForcePasswordReset, Self::CancelPasswordReset]
            }
            Self::Unlock => &[Self::Unlock],
            Self::ForceSignOut => &[Self::ForceSignOut],
        }
    }

    /// It can be done for a time: a run finds it when somebody changes it meanwhile.
    pub fn can_be_for_a_time(self) -> bool {
        matches!(self, Self::Disable | Self::Enable | Self::Contain)
    }

    /// Afterwards the account can't be used.
    pub fn takes_away(self) -> bool {
        matches!(self, Self::Disable | Self::Contain)
    }
}

/// An account as one server holds it, as far as actions depend on it. It holds no secret and is stored as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// The server that was asked, as configured.
    pub server: String,
    /// What the directory calls the account (a DN).
    pub name: String,
    /// The values of the attributes that decide, by their names in lower case; absent ones are left out.
    pub values: BTreeMap<String, String>,
}

impl Standing {
    /// The value of an attribute, whose name is in lower case.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

/// What an action would do to an account as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing: it is so.
    IsSo,
    /// It is to be sent.
    ToDo,
    /// It would have no effect, or must not be; the reason is a sentence.
    Refused(String),
}

/// What an action does in a kind of directory, in plain words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// What is written, and what follows from it.
    pub does: &'static str,
    /// What goes on in spite of it.
    pub leaves: &'static str,
    /// What taking it back means.
    pub inverse: &'static str,
}

/// Whether an action is offered, and if not, why and what does help.
pub type Offer = Result<Coverage, String>;

/// Acting, with the directory's own credentials for it.
pub trait Act: Send + Sync {
    /// Reaches the first server that lets both in, the reader and the actor, on one address of it; `first` before the others.
    fn begin<'a>(&'a self, first: Option<&'a str>) -> BoxFuture<'a, Result<Box<dyn Actor + 'a>, Failure>>;

    /// Whether both are let in, and what the actor may do. Nothing is changed by it.
    fn probe(&self) -> BoxFuture<'_, ProbeReport>;

    /// What `action` would do. `before` is how the account stood before it was first sent, where it was sent.
    fn judge(&self, action: Action, standing: &Standing, before: Option<&Standing>) -> Judgement;
}

/// Acting on one server.
pub trait Actor: Send {
    /// The account as it stands, read as the reader; `None` when the directory, as far as its settings look, has none.
    fn look<'a>(&'a mut self, external_id: &'a str) -> BoxFuture<'a, Result<Option<Standing>, Failure>>;

    /// Sends an action that [`Act::judge`] calls [`Judgement::ToDo`] to the account with this id, as it `standing`s. `Ok` when
    /// the server said that it took it. `original` is how the account stood before what is now taken back.
    fn send<'a>(
        &'a mut self,
        action: Action,
        external_id: &'a str,
        standing: &'a Standing,
        original: Option<&'a Standing>,
    ) -> BoxFuture<'a, Result<(), Failure>>;

    /// Says goodbye.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// Whether an account is the one that `bind_name` names: a DN, a UPN, or `DOMAIN\name`. It rather says yes once too often.
pub fn is_named(bind_name: &str, fields: &IdentityFields) -> bool {
    let dn = match fields.attributes.get("dn").and_then(|values| values.first()) {
        Some(super::Value::Text(dn)) => dn.as_str(),
        _ => "",
    };
    is_any_of(bind_name, dn, fields.upn.as_deref().unwrap_or_default(), &fields.user_name)
}

/// The same for an account that is known by some of its names; what is not known of it is empty.
pub fn is_any_of(bind_name: &str, dn: &str, upn: &str, user_name: &str) -> bool {
    let bind_name = bind_name.trim();
    let is_same = |name: &str| !name.is_empty() && name.to_lowercase() == bind_name.to_lowercase();
    let normal = |dn: &str| super::ldap::dn::normalise(dn).ok().filter(|dn| !dn.is_empty());
    if is_same(dn) || normal(dn).is_some_and(|dn| normal(bind_name) == Some(dn)) {
        return true;
    }
    let local = match (bind_name.rsplit_once('\\'), bind_name.split_once('@')) {
        (Some((_, local)), _) | (None, Some((local, _))) => local,
        (None, None) => bind_name,
    };
    let user_name = user_name.to_lowercase();
    is_same(upn) || (!user_name.is_empty() && user_name == local.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::Value;

    #[test]
    fn an_account_is_known_by_every_name_it_can_bind_with() {
        let fields = IdentityFields {
            user_name: "svc-act".into(),
            upn: Some("svc-act@ad.example.test".into()),
            attributes: [("dn".into(), vec![Value::Text("CN=svc-act,OU=Services,DC=x".into())])].into(),
            ..IdentityFields::default()
        };
        for name in [
            "svc-act@ad.example.test",
            "SVC-ACT@AD.example.test",
            "svc-act@other.suffix",
            "ADTEST\\svc-act",
            "svc-act",
            "cn=SVC-act, ou=services,dc=x",
        ] {
            assert!(is_named(name, &fields), "{name}");
        }
        for name in ["", "svc", "ADTEST\\svc-act2", "cn=svc-act,dc=x", "svc-act\\alice"] {
            assert!(!is_named(name, &fields), "{name}");
        }
        assert!(!is_named("", &IdentityFields::default()));
    }

    #[test]
    fn what_takes_an_action_back_is_taken_back_by_an_action_too() {
        for action in Action::ALL {
            assert_eq!(Action::parse(action.as_str()), Some(action));
            if let Some(inverse) = action.inverse() {
                assert!(inverse.inverse().is_some(), "{inverse:?}");
            }
        }
    }
}
