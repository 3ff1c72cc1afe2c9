//! Never: whom nobody acts on, whoever asks and by whatever door.
//!
//! Owns the one choke point, [`Never::refusal`]. It is asked when a request is made, and again right before each task is sent:
//! what was allowed an hour ago need not be now. Owns the protected list too. Unsure means refused.

use std::{collections::HashMap, rc::Rc};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{model::TaskState, queries, rules_queries};
use crate::{
    clock::Time,
    connectors::{
        self, Kind, Value,
        act::{self, Action},
        active_directory,
        ldap::dn,
    },
    directories::{self, Directory},
    error::Result,
    identities::{self, IdentityRow, ObjectId, Sight},
    principal::AccountId,
};

/// What a line of the protected list is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProtectionKind {
    Identity,
    /// Its members, through any depth of groups.
    Group,
    /// Everything below a DN (an OU, a container).
    Unit,
}

impl ProtectionKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Group => "group",
            Self::Unit => "unit",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Identity, Self::Group, Self::Unit].into_iter().find(|kind| kind.as_str() == text)
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::Identity => "Identity",
            Self::Group => "Members of a group",
            Self::Unit => "Everybody below a DN",
        }
    }
}

/// A line of the protected list.
#[derive(Debug, Clone)]
pub struct Protection {
    pub id: i64,
    pub kind: ProtectionKind,
    pub directory_id: i64,
    pub object_id: Option<ObjectId>,
    /// Normalised.
    pub dn: Option<String>,
    pub name: String,
    pub note: String,
    pub created_by: String,
    pub created_at: Time,
}

/// Why an action must not be done to an identity. What it names beside that identity stands apart, so that it can be left
/// out for whoever may not see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A line of the protected list, by its name and its note.
    Protected { kind: ProtectionKind, name: String, note: String },
    /// Bailiwick binds as this account, to this directory.
    Own { directory: String },
    /// Nobody else could administer the directory.
    LastOf { group: String, directory: String },
    /// A sentence that names nothing but the identity and its directory.
    Plain(String),
}

impl Refusal {
    /// By a sentence that names nothing but the identity and its directory.
    pub(super) fn of(sentence: impl Into<String>) -> Self {
        Self::Plain(sentence.into())
    }

    /// In full, as a sentence.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Protected { kind, name, note } => {
                let why = if note.is_empty() { String::new() } else { format!(" ({note})") };
                match kind {
                    ProtectionKind::Identity => format!("This identity is on the protected list{why}."),
                    ProtectionKind::Group => format!("Members of {name} are on the protected list{why}."),
                    ProtectionKind::Unit => format!("Everybody below {name} is on the protected list{why}."),
                }
            }
            Self::Own { directory } => format!("Bailiwick itself uses this account, for {directory}."),
            Self::LastOf { group, directory } => {
                format!("This is the last enabled member of {group}: nobody would be left to administer {directory}.")
            }
            Self::Plain(sentence) => sentence.clone(),
        }
    }

    /// For whoever's role is for a part of the account, without the names of what may lie outside of it; `None` when there
    /// are no such names.
    pub(super) fn words_in_part(&self) -> Option<String> {
        let words = match self {
            Self::Plain(_) | Self::Protected { kind: ProtectionKind::Identity, .. } => return None,
            Self::Protected { kind: ProtectionKind::Group, .. } => {
                "This identity is on the protected list, as a member of a group."
            }
            Self::Protected { kind: ProtectionKind::Unit, .. } => {
                "This identity is on the protected list, because of where it lies."
            }
            Self::Own { .. } => "Bailiwick itself uses this account.",
            Self::LastOf { .. } => "This is the last enabled administrator of its directory.",
        };
        Some(words.to_owned())
    }

    /// The one or the other.
    pub(super) fn words_for(&self, is_part: bool) -> String {
        self.words_in_part().filter(|_| is_part).unwrap_or_else(|| self.words())
    }
}

/// A line of the protected list in the API.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Protection)]
pub struct ProtectionJson {
    pub id: String,
    pub kind: ProtectionKind,
    pub directory_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_id: Option<String>,
    /// Of a unit, as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dn: Option<String>,
    pub name: String,
    pub note: String,
    pub created_by: String,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
}

impl From<Protection> for ProtectionJson {
    fn from(entry: Protection) -> Self {
        Self {
            id: entry.id.to_string(),
            kind: entry.kind,
            directory_id: entry.directory_id.to_string(),
            object_id: entry.object_id.map(|id| id.to_string()),
            dn: entry.dn.map(|_| entry.name.clone()),
            name: entry.name,
            note: entry.note,
            created_by: entry.created_by,
            created_at: entry.created_at,
        }
    }
}

/// Groups above one identity that are looked at. Somebody in more is not acted on.
const GROUPS_MAX: usize = 5_000;
/// Members looked at together for another administrator who can sign in.
const MEMBERS_AT_ONCE: usize = 200;

/// What the choke point goes by, read once for all identities of a request.
pub(super) struct Never<'c> {
    connection: &'c Connection,
    account: AccountId,
    protections: Vec<Protection>,
    directories: HashMap<i64, Option<Rc<Directory>>>,
    /// Whom Bailiwick binds as, in any directory of the account: the same domain may be connected twice.
    own: Vec<Own>,
}

/// An account that Bailiwick itself uses.
struct Own {
    bind_name: String,
    directory: String,
}

impl<'c> Never<'c> {
    pub(super) fn read(connection: &'c Connection, account: AccountId) -> Result<Self> {
        let protections = rules_queries::protections(connection, account)?;
        let own = directories::principals(connection, account)?
            .into_iter()
            .map(|(bind_name, directory)| Own { bind_name, directory })
            .collect();
        Ok(Self { connection, account, protections, directories: HashMap::new(), own })
    }

    /// The directory of an identity; `None` when it was taken out.
    fn directory(&mut self, id: i64) -> Result<Option<Rc<Directory>>> {
        if let Some(known) = self.directories.get(&id) {
            return Ok(known.clone());
        }
        let found = directories::find(self.connection, self.account, id)?.map(Rc::new);
        self.directories.insert(id, found.clone());
        Ok(found)
    }

    /// Why `action` must not be done to an identity; `None` when it may be. `except` is the task that asks.
    /// `fresh` is what the directory calls the account now, where that is known.
    pub(super) fn refusal(
        &mut self,
        identity: &IdentityRow,
        fresh: Option<&str>,
        action: Action,
        except: i64,
    ) -> Result<Option<Refusal>> {
        let plain = |sentence: String| Ok(Some(Refusal::Plain(sentence)));
        let Some(directory) = self.directory(identity.directory_id)? else {
            return plain("The directory was taken out of Bailiwick.".to_owned());
        };
        if identity.removed_at.is_some() || identity.missing_since_at.is_some() {
            return plain(
                "The directory's answers do not hold this identity any more. Sync the directory first.".to_owned(),
            );
        }
        if let Err(reason) = connectors::offer(directory.kind, &directory.settings, action) {
            return plain(reason);
        }
        if directory.act_principal.is_none() {
            return plain(format!(
                "{} is only read: it has no credentials for acting. Add them to the directory's settings (“Who acts”).",
                directory.name
            ));
        }
        let is_now = |bind_name: &str| {
            let normal = |dn: &str| dn::normalise(dn).ok().filter(|dn| !dn.is_empty());
            fresh.and_then(normal).is_some_and(|dn| normal(bind_name) == Some(dn))
        };
        if let Some(own) =
            self.own.iter().find(|own| act::is_named(&own.bind_name, &identity.fields) || is_now(&own.bind_name))
        {
            return Ok(Some(Refusal::Own { directory: own.directory.clone() }));
        }
        if let Some(reason) = connectors::never(directory.kind, &identity.fields) {
            return plain(reason);
        }
        let (groups, has_more) = identities::queries::belongings(self.connection, identity.id, GROUPS_MAX)?;
        if has_more {
            return plain(format!("This identity is in more than {GROUPS_MAX} groups, which can't all be looked at."));
        }
        let is_in = |group: Option<ObjectId>| groups.iter().any(|belonging| group == Some(belonging.id));
        for entry in &self.protections {
            let is_it = match entry.kind {
                ProtectionKind::Identity => entry.object_id == Some(identity.id),
                ProtectionKind::Group => is_in(entry.object_id),
                ProtectionKind::Unit => {
                    entry.directory_id == directory.id && is_below(identity, fresh, entry.dn.as_deref())
                }
            };
            if is_it {
                let (name, note) = (entry.name.clone(), entry.note.clone());
                return Ok(Some(Refusal::Protected { kind: entry.kind, name, note }));
            }
        }
        // Also of a locked one: a lock ends.
        if action.takes_away() && identity.status != "disabled" {
            for group in &groups {
                if let Some(name) = self.administrators(&directory, group.id)?
                    && !has_another(self.connection, self.account, &directory, group.id, identity.id, except)?
                {
                    return Ok(Some(Refusal::LastOf { group: name, directory: directory.name.clone() }));
                }
            }
        }
        Ok(None)
    }

    /// The name of a group, if it holds the directory's administrators.
    fn administrators(&self, directory: &Directory, group: ObjectId) -> Result<Option<String>> {
        let Some(row) = identities::queries::find_group(self.connection, &Sight::whole(self.account), group)? else {
            return Ok(None);
        };
        let sid = match row.fields.attributes.get("objectSid").and_then(|values| values.first()) {
            Some(Value::Text(sid)) => sid.as_str(),
            _ => "",
        };
        let is_of_administrators = match directory.kind {
            Kind::ActiveDirectory => active_directory::act::is_of_administrators(sid),
            Kind::Openldap => directory.guard.privileged.covers(&row.name),
        };
        Ok(is_of_administrators.then_some(row.name))
    }
}

/// Whether an identity's DN, as the copy or the directory now has it, lies below another one; an unreadable one might.
fn is_below(identity: &IdentityRow, fresh: Option<&str>, unit: Option<&str>) -> bool {
    let Some(unit) = unit else { return false };
    if fresh.is_some_and(|dn| dn::normalise(dn).map_or(true, |dn| dn::is_within(&dn, unit))) {
        return true;
    }
    match identity.fields.attributes.get("dn").and_then(|values| values.first()) {
        Some(Value::Text(dn)) => dn::normalise(dn).map_or(true, |dn| dn::is_within(&dn, unit)),
        _ => true,
    }
}

/// Whether somebody else in a group can sign in, as far as the copy and the tasks on their way say.
fn has_another(
    connection: &Connection,
    account: AccountId,
    directory: &Directory,
    group: ObjectId,
    than: ObjectId,
    except: i64,
) -> Result<bool> {
    let mut after = 0;
    loop {
        let members = identities::queries::effective_members(connection, group, after, MEMBERS_AT_ONCE)?;
        let Some(last) = members.last().map(|member| member.number) else { return Ok(false) };
        for member in members.iter().filter(|member| member.kind == "identity" && member.number != than) {
            if member.status.as_deref() != Some("active") {
                continue;
            }
            let Some(other) = identities::queries::find_identity(connection, &Sight::whole(account), member.number)?
            else {
                continue;
            };
            if other.directory_id == directory.id && !is_taken_away(connection, directory, member.number, except)? {
                return Ok(true);
            }
        }
        after = last;
    }
}

/// Whether the last thing done to an identity, or on its way, takes its access away and the copy can't know yet.
fn is_taken_away(connection: &Connection, directory: &Directory, identity: ObjectId, except: i64) -> Result<bool> {
    let Some(deed) = queries::last_deed(connection, identity, except)? else { return Ok(false) };
    let read_since = directories::read_since(connection, directory.id)?;
    let is_known_to_the_copy = deed.state == TaskState::Observed && deed.observed_at < read_since;
    Ok(deed.action.takes_away() && !is_known_to_the_copy)
}

#[cfg(test)]
mod tests {
    use super::{ProtectionKind, Refusal};

    #[test]
    fn a_refusal_names_nothing_to_whoever_sees_a_part() {
        let protected = |kind| Refusal::Protected { kind, name: "g-board".into(), note: "the boss".into() };
        let refusals = [
            protected(ProtectionKind::Group),
            protected(ProtectionKind::Unit),
            Refusal::Own { directory: "g-board".into() },
            Refusal::LastOf { group: "g-board".into(), directory: "g-board".into() },
        ];
        for refusal in refusals {
            assert!(refusal.words_for(false).contains("g-board"), "{refusal:?}");
            let said = refusal.words_for(true);
            assert!(!said.contains("g-board") && !said.contains("the boss"), "{said}");
        }
        for refusal in [protected(ProtectionKind::Identity), Refusal::of("The identity is gone.")] {
            assert_eq!(refusal.words_for(true), refusal.words(), "it names the identity alone");
        }
    }
}
