//! What the acting account may do, without doing it: a few accounts of different places are asked what this account may
//! change of them.
//!
//! Owns which accounts are asked and how the answers add up. It writes nothing.

use super::{
    act::{Directory, dacl_only, grant_lines},
    descriptor::{self, right},
    forms,
};
use crate::connectors::{
    Ability, AbilityState, Failure,
    act::{Action, is_any_of},
    ldap::{Guarded, Scope, SearchRequest, acting::Manner as _, dn, guarded},
};

/// Accounts that are looked through for samples, and places (OUs, containers) that one is taken from.
const LOOKED_THROUGH: u32 = 500;
const PLACES_MAX: usize = 8;
/// Accounts below this relative identifier are the domain's own.
const OWN_RIDS: u32 = 1000;

/// What one sample answered.
struct Sample {
    dn: String,
    /// Attributes that may be written, in lower case.
    writable: Vec<String>,
    may_reset: bool,
}

impl Sample {
    fn allows(&self, action: Action) -> bool {
        let may_write = |name: &str| self.writable.iter().any(|writable| writable == name);
        match action {
            Action::Disable | Action::Enable => may_write("useraccountcontrol"),
            Action::ForcePasswordReset | Action::CancelPasswordReset => may_write("pwdlastset"),
            Action::Unlock => may_write("lockouttime"),
            Action::Contain => self.may_reset && may_write("useraccountcontrol"),
            Action::ForceSignOut => false,
        }
    }
}

/// The rights that actions need, as dsacls writes them.
pub fn needed(action: Action) -> &'static [&'static str] {
    match action {
        Action::Disable | Action::Enable => &["RPWP;userAccountControl;user"],
        Action::ForcePasswordReset | Action::CancelPasswordReset => &["RPWP;pwdLastSet;user"],
        Action::Unlock => &["RPWP;lockoutTime;user"],
        Action::Contain => &["CA;Reset Password;user", "RPWP;userAccountControl;user"],
        Action::ForceSignOut => &[],
    }
}

const ASKED: [Action; 4] = [Action::Disable, Action::ForcePasswordReset, Action::Unlock, Action::Contain];

impl Directory {
    /// One ability for each action.
    pub(super) async fn try_rights(&self, reader: &mut Guarded, actor: &mut Guarded, who: &str) -> Vec<Ability> {
        match self.samples(reader, actor, who).await {
            Ok(samples) => ASKED.into_iter().map(|action| ability(action, &samples, who)).collect(),
            Err(failure) => ASKED
                .into_iter()
                .map(|action| Ability {
                    ability: action.as_str().to_owned(),
                    state: AbilityState::Unknown,
                    message: failure.message.clone(),
                    fix: Some(failure.next_step.clone()),
                })
                .collect(),
        }
    }

    async fn samples(&self, reader: &mut Guarded, actor: &mut Guarded, who: &str) -> Result<Vec<Sample>, Failure> {
        let root = request("", Scope::Base, "(objectClass=*)", &["tokenGroups", "defaultNamingContext"]);
        let root = actor.find(&root).await?.entries.into_iter().next();
        let values = |name: &str| root.as_ref().map(|entry| guarded::bytes(entry, name)).unwrap_or_default();
        let sids: Vec<String> = values("tokenGroups").iter().filter_map(|sid| forms::sid_text(sid)).collect();
        let domain = values("defaultNamingContext").into_iter().next().unwrap_or_default();
        let domain = String::from_utf8(domain).unwrap_or_default();
        let mut samples: Vec<Sample> = Vec::new();
        for name in self.places(reader, &domain, who).await? {
            let asked = ["allowedAttributesEffective", "nTSecurityDescriptor"];
            let mut found =
                actor.find_with(&request(&name, Scope::Base, "(objectClass=*)", &asked), vec![dacl_only()]).await?;
            let Some(entry) = found.entries.pop() else { continue };
            let writable = guarded::texts(&entry, "allowedAttributesEffective");
            let descriptor = guarded::bytes(&entry, "nTSecurityDescriptor").into_iter().next().unwrap_or_default();
            samples.push(Sample {
                dn: name,
                writable: writable.into_iter().map(|name| name.to_ascii_lowercase()).collect(),
                may_reset: descriptor::allows(&descriptor, right::RESET_PASSWORD, &sids),
            });
        }
        Ok(samples)
    }

    /// Ordinary accounts, each of another place.
    async fn places(&self, reader: &mut Guarded, domain: &str, who: &str) -> Result<Vec<String>, Failure> {
        // Members of protected groups have rights of their own (AdminSDHolder), and say nothing about the others.
        let filter = format!("(&{}(!(adminCount=1)))", self.filter());
        let (mut names, mut places): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for base in self.bases_or(domain) {
            let mut search = request(&base, Scope::Sub, &filter, &["objectSid", "sAMAccountName"]);
            search.page_size = LOOKED_THROUGH;
            for entry in reader.find(&search).await?.entries {
                let (name, rid) = (guarded::dn(&entry), guarded::bytes(&entry, "objectSid"));
                let is_own = rid.first().and_then(|sid| forms::rid(sid)).is_none_or(|rid| rid < OWN_RIDS);
                let place = dn::parent(&name).unwrap_or_default().to_lowercase();
                let account = guarded::texts(&entry, "sAMAccountName").into_iter().next().unwrap_or_default();
                let is_itself = is_any_of(who, &name, "", &account);
                if is_own || is_itself || places.contains(&place) || !self.is_within(&name) {
                    continue;
                }
                places.push(place);
                names.push(name);
                if names.len() == PLACES_MAX {
                    return Ok(names);
                }
            }
        }
        Ok(names)
    }
}

fn request(base: &str, scope: Scope, filter: &str, attributes: &[&str]) -> SearchRequest {
    SearchRequest {
        base: base.to_owned(),
        scope,
        filter: filter.to_owned(),
        attributes: attributes.iter().map(|&name| name.to_owned()).collect(),
        page_size: 0,
        entries_max: None,
    }
}

fn ability(action: Action, samples: &[Sample], who: &str) -> Ability {
    let place = |sample: &Sample| dn::parent(&sample.dn).unwrap_or(&sample.dn).to_owned();
    let refused: Vec<String> = samples.iter().filter(|sample| !sample.allows(action)).map(place).collect();
    let allowed: Vec<String> = samples.iter().filter(|sample| sample.allows(action)).map(place).collect();
    let rights = needed(action);
    let state = match (samples.is_empty(), allowed.is_empty()) {
        (true, _) => AbilityState::Unknown,
        (false, true) => AbilityState::Missing,
        (false, false) => AbilityState::Granted,
    };
    let what = rights.iter().map(|right| right.split(';').nth(1).unwrap_or(right)).collect::<Vec<_>>().join(", ");
    let message = match (allowed.as_slice(), refused.as_slice()) {
        ([], []) => "No ordinary account was found to ask about.".to_owned(),
        (_, []) => format!("{who} may use it ({what}) on accounts in {}.", allowed.join("; ")),
        ([], _) => format!("{who} may not use it ({what}) on accounts in {}.", refused.join("; ")),
        _ => format!("{who} may use it ({what}) on accounts in {}, not in {}.", allowed.join("; "), refused.join("; ")),
    };
    let fix = refused.first().map(|place| grant_lines(who, place, rights));
    Ability { ability: action.as_str().to_owned(), state, message, fix }
}
