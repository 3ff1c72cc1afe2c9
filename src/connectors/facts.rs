//! What an account is, beside who it is: its kind, and the facts about it that somebody who looks for risk wants to know.
//!
//! Owns their names in the API and the words for people. A fact is what a directory says of an account; what follows from
//! it, and who is privileged through groups, is the business of others.

use serde::{Deserialize, Serialize};

/// What an account stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AccountType {
    /// A person, or whatever signs in as one.
    #[default]
    User,
    /// A machine.
    Computer,
    /// An account whose password the directory itself changes (in Active Directory: sMSA, gMSA and dMSA).
    ManagedServiceAccount,
}

impl AccountType {
    pub const ALL: [Self; 3] = [Self::User, Self::Computer, Self::ManagedServiceAccount];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Computer => "computer",
            Self::ManagedServiceAccount => "managed-service-account",
        }
    }

    /// In words, for a page.
    pub fn title(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Computer => "Computer",
            Self::ManagedServiceAccount => "Managed service account",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether it is a user, which is what most accounts are.
    pub fn is_user(&self) -> bool {
        *self == Self::User
    }
}

/// Something about an account that is worth knowing. In the order in which they are shown, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    BuiltInAdministrator,
    TicketGrantingAccount,
    TrustedForDelegation,
    TrustedToAuthenticateForDelegation,
    PasswordNotRequired,
    ReversibleEncryption,
    PreAuthenticationNotRequired,
    DesOnly,
    ServicePrincipalName,
    SidHistory,
    AdminCount,
    PasswordNeverExpires,
    SmartCardRequired,
    NotDelegated,
}

impl Fact {
    pub const ALL: [Self; 14] = [
        Self::BuiltInAdministrator,
        Self::TicketGrantingAccount,
        Self::TrustedForDelegation,
        Self::TrustedToAuthenticateForDelegation,
        Self::PasswordNotRequired,
        Self::ReversibleEncryption,
        Self::PreAuthenticationNotRequired,
        Self::DesOnly,
        Self::ServicePrincipalName,
        Self::SidHistory,
        Self::AdminCount,
        Self::PasswordNeverExpires,
        Self::SmartCardRequired,
        Self::NotDelegated,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BuiltInAdministrator => "built-in-administrator",
            Self::TicketGrantingAccount => "ticket-granting-account",
            Self::TrustedForDelegation => "trusted-for-delegation",
            Self::TrustedToAuthenticateForDelegation => "trusted-to-authenticate-for-delegation",
            Self::PasswordNotRequired => "password-not-required",
            Self::ReversibleEncryption => "reversible-encryption",
            Self::PreAuthenticationNotRequired => "pre-authentication-not-required",
            Self::DesOnly => "des-only",
            Self::ServicePrincipalName => "service-principal-name",
            Self::SidHistory => "sid-history",
            Self::AdminCount => "admin-count",
            Self::PasswordNeverExpires => "password-never-expires",
            Self::SmartCardRequired => "smart-card-required",
            Self::NotDelegated => "not-delegated",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fact| fact.as_str() == text)
    }

    /// In a few words, for a badge or a line of a history.
    pub fn title(self) -> &'static str {
        match self {
            Self::BuiltInAdministrator => "Built-in Administrator",
            Self::TicketGrantingAccount => "Signs Kerberos tickets",
            Self::TrustedForDelegation => "Trusted for unconstrained delegation",
            Self::TrustedToAuthenticateForDelegation => "Trusted to authenticate for delegation",
            Self::PasswordNotRequired => "Password not required",
            Self::ReversibleEncryption => "Password stored reversibly",
            Self::PreAuthenticationNotRequired => "Pre-authentication not required",
            Self::DesOnly => "DES encryption only",
            Self::ServicePrincipalName => "Has a service principal name",
            Self::SidHistory => "Has a SID history",
            Self::AdminCount => "Was protected by AdminSDHolder",
            Self::PasswordNeverExpires => "Password never expires",
            Self::SmartCardRequired => "Smart card required",
            Self::NotDelegated => "Sensitive, cannot be delegated",
        }
    }

    /// Why it matters, as one sentence.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BuiltInAdministrator => {
                "The account that every domain begins with (RID 500): it can do everything and is not locked out."
            }
            Self::TicketGrantingAccount => {
                "krbtgt (RID 502): whoever has its key makes tickets for anybody; nobody ever signs in with it."
            }
            Self::TrustedForDelegation => {
                "What runs under this account may act as anybody who signs in to it, towards every service."
            }
            Self::TrustedToAuthenticateForDelegation => {
                "It may act as anybody towards the services it is allowed to reach, without that person signing in \
                 (protocol transition)."
            }
            Self::PasswordNotRequired => {
                "The password policy does not hold for this account: its password may even be empty."
            }
            Self::ReversibleEncryption => "Whoever reads the directory's database can read the password itself.",
            Self::PreAuthenticationNotRequired => {
                "Anybody may ask for a ticket of this account and guess its password from that, unnoticed (AS-REP \
                 roasting)."
            }
            Self::DesOnly => "Its Kerberos tickets use DES, which was broken long ago.",
            Self::ServicePrincipalName => {
                "Everybody in the domain may ask for a ticket to it and guess its password from that (Kerberoasting): \
                 the password has to be long, or the account a managed one."
            }
            Self::SidHistory => {
                "It also has the rights of these former security identifiers, which no list of members shows."
            }
            Self::AdminCount => {
                "adminCount is 1: it is or was in a protected group, and does not inherit permissions from its OU; \
                 after it left the group nobody takes that back."
            }
            Self::PasswordNeverExpires => "No policy ever asks for a new password.",
            Self::SmartCardRequired => "It can sign in interactively only with a smart card; the password is random.",
            Self::NotDelegated => {
                "No service may act as this account towards others, which is what privileged ones need."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_in_the_api_are_those_that_are_stored_and_are_read_back() {
        for fact in Fact::ALL {
            assert_eq!(serde_json::to_value(fact).expect("JSON"), fact.as_str());
            assert_eq!(Fact::parse(fact.as_str()), Some(fact));
            assert!(fact.reason().ends_with('.'));
        }
        for kind in AccountType::ALL {
            assert_eq!(serde_json::to_value(kind).expect("JSON"), kind.as_str());
            assert_eq!(AccountType::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(Fact::ALL.map(Fact::title).into_iter().collect::<HashSet<_>>().len(), Fact::ALL.len());
        assert!(Fact::ALL.is_sorted(), "the gravest first, in every list");
    }
}
