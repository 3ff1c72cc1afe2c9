//! How keys stand: who answers for each, and whether it works because of that.
//!
//! A key that a user made goes with that user (HOSTILE R07): who was disabled or has left may still know its secret. Another
//! administrator who takes it over answers for it from then on. And it never does more than they may: whoever loses a role
//! loses it for their keys too. Owns what "orphaned" and "held back" mean; nothing here changes anything.

use std::{collections::HashMap, sync::Arc};

use rusqlite::Connection;

use super::{
    model::{ApiKey, State},
    queries,
};
use crate::{
    accounts,
    clock::Time,
    error::Result,
    principal::{AccountId, Rights, Scope},
    roles::Role,
    users,
};

/// Who answers for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answerer {
    /// Made at the command line: it needs nobody.
    Machine,
    /// Somebody who may enter the account, by name, and with what role.
    Present(String, Role),
    Disabled(String),
    /// The account asks them for a second factor that they do not have: they could not enter it themselves.
    Unproven(String),
    /// Not a member of the account any more.
    Gone,
}

impl Answerer {
    pub fn is_missing(&self) -> bool {
        !matches!(self, Self::Machine | Self::Present(..))
    }

    /// Why a key of theirs is refused, for the audit log.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Machine | Self::Present(..) => None,
            Self::Disabled(_) => Some("the user who answers for the key is disabled"),
            Self::Unproven(_) => Some("the user who answers for the key lacks the second factor that is asked of them"),
            Self::Gone => Some("the user who answers for the key has left the account"),
        }
    }

    /// What is left of what a key may do: what whoever answers for it may too. Two different parts of an account have
    /// nothing in common that could be told cheaply and surely, so nothing is left of them.
    pub(super) fn narrow(&self, (rights, scope): (Rights, Option<Arc<Scope>>)) -> (Rights, Option<Arc<Scope>>) {
        let Self::Present(_, theirs) = self else { return (rights, scope) };
        let common = rights.common(&theirs.rights);
        match (&scope, &theirs.scope) {
            (own, None) => (common, own.clone()),
            (None, theirs) => (common, theirs.clone()),
            (Some(own), Some(theirs)) if own == theirs => (common, Some(own.clone())),
            (own, _) => (Rights::default(), own.clone()),
        }
    }

    /// Whether a key with this role may do less than the role says.
    pub(super) fn holds_back(&self, role: &Role) -> bool {
        let whole = (role.rights, role.scope.clone());
        self.narrow(whole.clone()) != whole
    }

    /// In plain words, after "This key does not work: ".
    pub(super) fn why(&self) -> String {
        match self {
            Self::Machine | Self::Present(..) => String::new(),
            Self::Disabled(name) => format!("{name}, who answers for it, is disabled."),
            Self::Unproven(name) => {
                format!("{name}, who answers for it, lacks the second factor that is asked of them.")
            }
            Self::Gone => "whoever answered for it is not in this account any more.".to_owned(),
        }
    }
}

/// A user as the one who answers for keys.
pub(super) fn answerer(connection: &Connection, account: AccountId, user: Option<&str>) -> Result<Answerer> {
    let Some(user) = user else { return Ok(Answerer::Machine) };
    let found = users::find_member(connection, user, account)?.zip(accounts::find(connection, account)?);
    Ok(match found {
        None => Answerer::Gone,
        Some((member, _)) if !member.is_enabled() => Answerer::Disabled(member.user.name),
        Some((member, account)) if !member.mfa_rule(&account).is_met_by(member.user.factors) => {
            Answerer::Unproven(member.user.name)
        }
        Some((member, _)) => Answerer::Present(member.user.name, member.role),
    })
}

/// Whoever was shown a secret, as the one who answers for its use: an old secret does no more than they may, whoever answers
/// for the key by now.
pub(super) fn holder(connection: &Connection, account: AccountId, shown_to: &str) -> Result<Answerer> {
    match users::find(connection, shown_to)? {
        // Nobody known was shown it: that was at the machine.
        None => Ok(Answerer::Machine),
        Some(_) => answerer(connection, account, Some(shown_to)),
    }
}

/// A key, who answers for it, and how it stands because of both.
#[derive(Debug, Clone)]
pub struct Standing {
    pub key: ApiKey,
    pub answerer: Answerer,
    pub state: State,
}

impl Standing {
    pub(super) fn of(connection: &Connection, key: ApiKey, now: Time) -> Result<Self> {
        let answerer = answerer(connection, key.account_id, key.answered_by.as_deref())?;
        Ok(Self { state: key.state(now, answerer.is_missing()), answerer, key })
    }

    pub(super) fn find(connection: &Connection, account: AccountId, id: &str, now: Time) -> Result<Option<Self>> {
        queries::find(connection, account, id)?.map(|key| Self::of(connection, key, now)).transpose()
    }
}

/// What a list of keys is narrowed to.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyFilter {
    /// Part of an alias or description in any case, or the beginning of an id or of a secret.
    pub(super) q: String,
    pub(super) state: Option<State>,
}

impl KeyFilter {
    fn takes(&self, key: &ApiKey) -> bool {
        let asked = self.q.trim();
        let folded = asked.to_lowercase();
        let begins = |text: &str| text.starts_with(asked);
        asked.is_empty()
            || key.alias.to_lowercase().contains(&folded)
            || key.description.to_lowercase().contains(&folded)
            || begins(&key.id)
            || begins(&key.secret_start)
            || key.previous.as_ref().is_some_and(|previous| begins(&previous.start))
    }
}

/// Keys of an account, the newest first, before id `before`, up to `limit`.
pub(super) fn list(
    connection: &Connection,
    account: AccountId,
    filter: &KeyFilter,
    before: Option<&str>,
    limit: usize,
    now: Time,
) -> Result<Vec<Standing>> {
    let mut known: HashMap<String, Answerer> = HashMap::new();
    queries::list(connection, account, before, limit, |key| {
        if !filter.takes(&key) {
            return Ok(None);
        }
        let answerer = match &key.answered_by {
            None => Answerer::Machine,
            Some(user) => match known.get(user) {
                Some(answerer) => answerer.clone(),
                None => {
                    let answerer = answerer(connection, account, Some(user))?;
                    known.insert(user.clone(), answerer.clone());
                    answerer
                }
            },
        };
        let state = key.state(now, answerer.is_missing());
        let is_wanted = filter.state.is_none_or(|wanted| wanted == state);
        Ok(is_wanted.then_some(Standing { key, answerer, state }))
    })
}

/// All keys of an account, for the command line.
pub fn list_all(connection: &Connection, account: AccountId, now: Time) -> Result<Vec<Standing>> {
    list(connection, account, &KeyFilter::default(), None, usize::MAX, now)
}
