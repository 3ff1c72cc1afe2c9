//! What the reading account may do beside reading: be told changes, and see what was deleted. Asked without changing
//! anything, for the probe, with the line that grants what is missing.

use super::{ActiveDirectory, changes, controller::Controller, watermark::Stand};
use crate::connectors::{
    Ability, AbilityState, Failure, FailureKind,
    ldap::{Connection, EntryView, Scope, SearchRequest, Trust, dirsync, errors, inbox::Plainly},
};

/// In the order in which they are told.
const NAMES: [&str; 2] = ["delta", "deleted-objects"];

impl ActiveDirectory {
    /// What the account may do on the controller that is configured as `server`.
    pub(super) async fn reading_abilities(&self, server: &str) -> Vec<Ability> {
        if self.settings.global_catalog {
            return vec![catalog()];
        }
        match self.ask_rights(server).await {
            Ok(abilities) => abilities.into(),
            Err(failure) => unknown(&failure.message),
        }
    }

    async fn ask_rights(&self, server: &str) -> Result<[Ability; 2], Failure> {
        let endpoint = self.client.endpoints().await?.iter().find(|endpoint| endpoint.to_string() == server);
        let endpoint = endpoint.ok_or_else(|| {
            Failure::new(FailureKind::Other, "The controller is not known.", "Probe the directory again.")
        })?;
        let trust: Option<Trust> = self.client.trust()?;
        let mut connection = self.client.open(endpoint, trust.as_ref()).await?;
        let controller = Controller::ask(&mut connection).await?;
        let stand = Stand::ask(&mut connection, &controller).await?;
        let deleted = sees_deleted(&mut connection, &controller.domain).await?;
        let is_told = changes::cookie_of_now(&mut connection, &controller.domain).await?.is_some();
        connection.close().await;
        let account = self.account();
        let changes = match (self.settings.untold(), stand) {
            (Some(what), _) => unfollowed(&what),
            (None, None) => uncounted(),
            (None, Some(_)) => delta(is_told, &controller.domain, &account),
        };
        Ok([changes, deleted_objects(deleted, &controller.domain, &account)])
    }

    /// The account as dsacls takes it: it knows no distinguished names.
    fn account(&self) -> String {
        let name = &self.client.credentials.bind_dn;
        let is_name = name.contains(['@', '\\']) && !name.contains('=');
        if is_name { errors::printable(name) } else { "DOMAIN\\account".to_owned() }
    }
}

/// When nothing could be asked.
pub fn unknown(why: &str) -> Vec<Ability> {
    let ability = |name: &str| Ability {
        ability: name.to_owned(),
        state: AbilityState::Unknown,
        message: why.to_owned(),
        fix: None,
    };
    NAMES.into_iter().map(ability).collect()
}

fn ability(name: &str, state: AbilityState, message: &str, fix: Option<String>) -> Ability {
    Ability { ability: name.to_owned(), state, message: message.to_owned(), fix }
}

/// Filters by what no change tells.
fn unfollowed(what: &str) -> Ability {
    let [name, _] = NAMES;
    let message = format!("The filters ask for {what}, which changes without a word: every run reads everything.");
    let fix = "Narrow by base DNs or by attributes of the objects themselves instead.".to_owned();
    ability(name, AbilityState::Missing, &message, Some(fix))
}

/// DirSync is refused there (MS-ADTS §3.1.1.3.4.1.3), and numbers of changes are of one domain's copy.
fn catalog() -> Ability {
    let [name, _] = NAMES;
    let message = "A global catalog does not tell what has changed: every run reads everything.";
    let fix = "To read changes, add each domain as a directory of its own.".to_owned();
    ability(name, AbilityState::Missing, message, Some(fix))
}

fn uncounted() -> Ability {
    let [name, _] = NAMES;
    let message = "The controller does not say how far it has come: every run reads everything.";
    let fix = "Let the account read the controller's “NTDS Settings” (invocationId).".to_owned();
    ability(name, AbilityState::Missing, message, Some(fix))
}

fn delta(is_told: bool, domain: &str, account: &str) -> Ability {
    let [name, _] = NAMES;
    if is_told {
        let message = "The controller tells this account what has changed (DirSync).";
        return ability(name, AbilityState::Granted, message, None);
    }
    let message = "The controller does not tell this account what has changed (DirSync), so that changes are found by their numbers (uSNChanged) instead.";
    let fix = format!("dsacls \"{domain}\" /G \"{account}:CA;Replicating Directory Changes\"");
    ability(name, AbilityState::Missing, message, Some(fix))
}

fn deleted_objects(is_seen: bool, domain: &str, account: &str) -> Ability {
    let [_, name] = NAMES;
    if is_seen {
        return ability(
            name,
            AbilityState::Granted,
            "Deleted objects can be seen, so that runs that read changes find them.",
            None,
        );
    }
    let container = format!("CN=Deleted Objects,{domain}");
    let message = "Deleted objects can't be seen. What is deleted is found by the next full run, unless the controller tells it with the other changes.";
    let fix = format!("dsacls \"{container}\" /takeownership, then dsacls \"{container}\" /G \"{account}:LCRP\"");
    ability(name, AbilityState::Missing, message, Some(fix))
}

/// Whether what was deleted can be seen. Samba shows the place itself to everybody, without any of its attributes.
pub async fn sees_deleted(connection: &mut Connection, domain: &str) -> Result<bool, Failure> {
    let request = SearchRequest {
        base: format!("CN=Deleted Objects,{domain}"),
        scope: Scope::Base,
        filter: "(objectClass=*)".to_owned(),
        attributes: vec!["objectClass".to_owned()],
        page_size: 0,
        entries_max: None,
    };
    let mut search = connection.search(request).with(dirsync::show_deleted());
    let mut is_seen = false;
    loop {
        match search.next(&mut Plainly).await {
            Ok(Some(chunk)) => {
                is_seen |=
                    chunk.entries().filter_map(EntryView::read).any(|entry| !entry.values("objectClass").is_empty());
            }
            Ok(None) => return Ok(is_seen),
            Err(failure) if matches!(failure.kind, FailureKind::NoSuchBase | FailureKind::AccessDenied) => {
                return Ok(false);
            }
            Err(failure) => return Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_the_line_that_grants_it() {
        let missing = delta(false, "DC=x", "X\\reader");
        assert_eq!(missing.state, AbilityState::Missing);
        assert_eq!(missing.fix.as_deref(), Some("dsacls \"DC=x\" /G \"X\\reader:CA;Replicating Directory Changes\""));
        assert!(missing.message.contains("uSNChanged"));
        assert_eq!(delta(true, "DC=x", "X\\reader").fix, None);
        assert!(uncounted().message.contains("every run reads everything"));
        assert!(unfollowed("memberof").message.contains("ask for memberof"));
        let fix = deleted_objects(false, "DC=x", "reader@x").fix.expect("a line");
        assert_eq!(
            fix,
            "dsacls \"CN=Deleted Objects,DC=x\" /takeownership, then dsacls \"CN=Deleted Objects,DC=x\" /G \"reader@x:LCRP\""
        );
        assert_eq!(deleted_objects(true, "DC=x", "reader@x").state, AbilityState::Granted);
    }
}
