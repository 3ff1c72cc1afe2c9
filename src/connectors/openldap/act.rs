//! Acting on accounts of OpenLDAP: by the password policy overlay (draft-behera-ldap-password-policy-10, slapo-ppolicy(5)),
//! or by an attribute of the directory's own that means "disabled".
//!
//! Owns which attribute is written for which action. It can't know whether the overlay is at work on a database; what is
//! read back proves the attribute, and the words of the coverage say so.

use std::collections::{BTreeMap, HashSet};

use ldap3::{Mod, controls::RawControl};

use super::settings::{DisableBy, Settings};
use crate::connectors::{
    Ability, AbilityState, BoxFuture,
    act::{Action, Coverage, Judgement, Offer, Standing},
    ldap::{
        Guarded, SearchRequest,
        acting::{ASSERTION, Change, Manner},
        dn, filter,
    },
};

/// Locked until an administrator says otherwise (draft §5.3.3).
const FOR_GOOD: &str = "000001010000Z";
const LOCKED: &str = "pwdAccountLockedTime";
const RESET: &str = "pwdReset";

/// How OpenLDAP acts.
pub struct Directory {
    bases: Vec<String>,
    scope: crate::connectors::ldap::Scope,
    filter: String,
    disable_by: Option<DisableBy>,
}

impl Directory {
    pub fn new(settings: &Settings) -> Self {
        Self {
            bases: settings.user_bases(),
            scope: settings.scope.into(),
            filter: settings.user_filter().to_owned(),
            disable_by: settings.disable_by.clone(),
        }
    }
}

/// Whether `action` is offered, and what it does.
pub fn offer(settings: &Settings, action: Action) -> Offer {
    let by_attribute = settings.disable_by.is_some();
    Ok(match action {
        Action::Disable if by_attribute => Coverage {
            does: "Sets the attribute that means “disabled” in this directory to the value in its settings.",
            leaves: "Only services that look at this attribute refuse the account. Connections that are open, services that keep a sign-in for themselves, and accounts in other directories go on.",
            inverse: "Enable sets the other value, or takes the attribute away.",
        },
        Action::Enable if by_attribute => Coverage {
            does: "Sets the attribute that means “disabled” in this directory to its other value, or takes it away.",
            leaves: "A lock or an expiry of the password policy stays.",
            inverse: "Disable sets the value again.",
        },
        Action::Disable => Coverage {
            does: "Sets pwdAccountLockedTime to 000001010000Z: the password policy overlay refuses binds until an administrator takes it away.",
            leaves: "It holds where the overlay is at work with a policy that has pwdLockout TRUE. Connections that are bound already, SSH keys, services that keep a sign-in for themselves, and accounts in other directories go on.",
            inverse: "Enable takes pwdAccountLockedTime away.",
        },
        Action::Enable => Coverage {
            does: "Takes pwdAccountLockedTime away.",
            leaves: "A password that has expired or must be changed stays so. Group memberships are as they were.",
            inverse: "Disable sets pwdAccountLockedTime again.",
        },
        Action::ForcePasswordReset => Coverage {
            does: "Sets pwdReset to TRUE: after a bind nothing is allowed but changing the password.",
            leaves: "It holds where the password policy overlay is at work with pwdMustChange TRUE. The present password still opens that one door. Connections that are bound already go on, and services that only check the password may not notice.",
            inverse: "Cancelling takes pwdReset away.",
        },
        Action::CancelPasswordReset => Coverage {
            does: "Takes pwdReset away: the password need not be changed any more.",
            leaves: "A password that has expired has to be changed all the same.",
            inverse: "Force password reset sets pwdReset again.",
        },
        Action::Unlock => Coverage {
            does: "Takes pwdAccountLockedTime away where it stands for too many wrong passwords.",
            leaves: "What used the wrong password (a phone, a service, an attacker) may lock the account again. A disabled account stays so.",
            inverse: "Nothing takes this back.",
        },
        Action::Contain => {
            return Err("Contain is for Active Directory, where a password can be set beside the flag. Disable the account: a locked account can't bind whatever its password is.".to_owned());
        }
        Action::ForceSignOut => {
            return Err("LDAP has no way to end sessions: a connection that is bound stays bound. What helps: disable the account, which refuses new binds, and restart the services that keep connections or sessions open.".to_owned());
        }
    })
}

impl Manner for Directory {
    fn searches(&self, external_id: &str) -> Option<Vec<SearchRequest>> {
        let filter = format!("(&{}(entryUUID={}))", self.filter, filter::escape(external_id));
        let own = self.disable_by.iter().map(|by| by.attribute.clone());
        let attributes: Vec<String> = [LOCKED, RESET].map(str::to_owned).into_iter().chain(own).collect();
        let search = |base: &String| SearchRequest {
            base: base.clone(),
            scope: self.scope,
            filter: filter.clone(),
            attributes: attributes.clone(),
            page_size: 0,
            entries_max: None,
        };
        Some(self.bases.iter().map(search).collect())
    }

    fn values(&self, first: &dyn Fn(&str) -> Option<Vec<u8>>) -> BTreeMap<String, String> {
        let own = self.disable_by.as_ref().map(|by| by.attribute.as_str());
        let names = [LOCKED, RESET].into_iter().chain(own);
        names
            .filter_map(|name| Some((name.to_ascii_lowercase(), String::from_utf8_lossy(&first(name)?).into_owned())))
            .collect()
    }

    /// The searches begin at the bases.
    fn is_within(&self, _dn: &str) -> bool {
        true
    }

    fn judge(&self, action: Action, standing: &Standing, _before: Option<&Standing>) -> Judgement {
        let locked = standing.value("pwdaccountlockedtime");
        let is_for_good = locked.is_some_and(|time| time.starts_with("000001010000"));
        let is_disabled = match &self.disable_by {
            Some(by) => standing
                .value(&by.attribute.to_ascii_lowercase())
                .is_some_and(|value| value.eq_ignore_ascii_case(&by.disabled)),
            None => is_for_good,
        };
        let must_change = standing.value("pwdreset").is_some_and(|value| value.eq_ignore_ascii_case("TRUE"));
        let is_so = |is_so| if is_so { Judgement::IsSo } else { Judgement::ToDo };
        match action {
            Action::Disable => is_so(is_disabled),
            Action::Enable => is_so(!is_disabled),
            Action::ForcePasswordReset => is_so(must_change),
            Action::CancelPasswordReset => is_so(!must_change),
            Action::Unlock if is_for_good => Judgement::Refused(
                "This account is disabled, not locked after wrong passwords. Enable it instead.".to_owned(),
            ),
            Action::Unlock => is_so(locked.is_none()),
            Action::Contain | Action::ForceSignOut => Judgement::Refused("OpenLDAP has no such action.".to_owned()),
        }
    }

    fn aim(&self, external_id: &str, name: &str, can_assert: bool) -> (String, Vec<RawControl>) {
        // The entry of this name has to be the one that was looked at.
        let assertion = || RawControl {
            ctype: ASSERTION.to_owned(),
            crit: true,
            val: filter::encode(&format!("(entryUUID={})", filter::escape(external_id))).ok(),
        };
        (name.to_owned(), if can_assert { vec![assertion()] } else { Vec::new() })
    }

    fn changes(&self, action: Action, standing: &Standing, original: Option<&Standing>) -> Vec<Change> {
        let set = |name: &str, value: &str| {
            Mod::Replace(name.as_bytes().to_vec(), HashSet::from([value.as_bytes().to_vec()]))
        };
        // Replacing by nothing: no error where the attribute has gone meanwhile (RFC 4511 §4.6).
        let clear = |name: &str| Mod::Replace(name.as_bytes().to_vec(), HashSet::new());
        match (action, &self.disable_by) {
            (Action::Disable, Some(by)) => vec![set(&by.attribute, &by.disabled)],
            (Action::Enable, Some(by)) => {
                // Taking back brings the value back that was there.
                let name = by.attribute.to_ascii_lowercase();
                let was = original.and_then(|original| original.value(&name)).filter(|was| *was != by.disabled);
                vec![match was.or(by.enabled.as_deref()) {
                    Some(value) => set(&by.attribute, value),
                    None => clear(&by.attribute),
                }]
            }
            (Action::Disable, None) => vec![set(LOCKED, FOR_GOOD)],
            (Action::Enable, None) => vec![clear(LOCKED)],
            (Action::ForcePasswordReset, _) => vec![set(RESET, "TRUE")],
            (Action::CancelPasswordReset, _) => vec![clear(RESET)],
            // The very lock that was seen: a new one, or one for good, stays.
            (Action::Unlock, _) => {
                let seen = standing.value("pwdaccountlockedtime").unwrap_or_default();
                vec![Mod::Delete(LOCKED.as_bytes().to_vec(), HashSet::from([seen.as_bytes().to_vec()]))]
            }
            (Action::Contain | Action::ForceSignOut, _) => Vec::new(),
        }
    }

    /// OpenLDAP does not say what may be changed without changing it.
    fn rights<'a>(&'a self, _: &'a mut Guarded, _: &'a mut Guarded, who: &'a str) -> BoxFuture<'a, Vec<Ability>> {
        let unit = self.bases.first().map(String::as_str).unwrap_or_default();
        let ability = |action: Action| Ability {
            ability: action.as_str().to_owned(),
            state: AbilityState::Unknown,
            message: format!("{who} can bind. What it may change is known once it is tried: OpenLDAP does not tell."),
            fix: Some(self.grant_below(action, who, unit)),
        };
        let abilities = [Action::Disable, Action::ForcePasswordReset, Action::Unlock].map(ability).to_vec();
        Box::pin(std::future::ready(abilities))
    }

    fn grant(&self, action: Action, who: &str, dn: &str) -> String {
        self.grant_below(action, who, dn::parent(dn).unwrap_or(dn))
    }
}

impl Directory {
    fn grant_below(&self, action: Action, who: &str, unit: &str) -> String {
        let attribute = match (action, &self.disable_by) {
            (Action::ForcePasswordReset | Action::CancelPasswordReset, _) => RESET,
            (Action::Disable | Action::Enable, Some(by)) => &by.attribute,
            _ => LOCKED,
        };
        format!(
            "Add this rule before the others of the database: olcAccess: {{0}}to dn.subtree=\"{unit}\" attrs={attribute} \
             by dn.exact=\"{who}\" write by * break"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(disable_by: Option<DisableBy>) -> Directory {
        Directory::new(&Settings { base_dns: vec!["dc=x".into()], disable_by, ..Settings::default() })
    }

    fn standing(values: &[(&str, &str)]) -> Standing {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Standing { server: "ldaps://l".into(), name: "uid=a,ou=people,dc=x".into(), values }
    }

    #[test]
    fn a_lock_for_good_is_disabled_and_another_is_a_lock() {
        let manner = directory(None);
        let judge = |action, values: &[_]| manner.judge(action, &standing(values), None);
        let for_good = [("pwdaccountlockedtime", FOR_GOOD)];
        let lock = [("pwdaccountlockedtime", "20260101000000Z")];
        assert_eq!(judge(Action::Disable, &for_good), Judgement::IsSo);
        assert_eq!(judge(Action::Disable, &lock), Judgement::ToDo);
        assert_eq!(judge(Action::Enable, &lock), Judgement::IsSo);
        assert_eq!(judge(Action::Enable, &for_good), Judgement::ToDo);
        assert_eq!(judge(Action::Unlock, &lock), Judgement::ToDo);
        assert_eq!(judge(Action::Unlock, &[]), Judgement::IsSo);
        assert!(matches!(judge(Action::Unlock, &for_good), Judgement::Refused(_)));
        assert_eq!(judge(Action::ForcePasswordReset, &[("pwdreset", "TRUE")]), Judgement::IsSo);
        assert_eq!(judge(Action::CancelPasswordReset, &[("pwdreset", "FALSE")]), Judgement::IsSo);
    }

    #[test]
    fn an_attribute_of_the_directory_s_own_is_set_and_taken_away() {
        let by = |enabled: Option<&str>| DisableBy {
            attribute: "loginShell".into(),
            disabled: "/usr/sbin/nologin".into(),
            enabled: enabled.map(str::to_owned),
        };
        let manner = directory(Some(by(Some("/bin/bash"))));
        let nologin = standing(&[("loginshell", "/usr/sbin/nologin"), ("pwdaccountlockedtime", "20260101000000Z")]);
        assert_eq!(manner.judge(Action::Disable, &nologin, None), Judgement::IsSo);
        assert_eq!(manner.judge(Action::Enable, &nologin, None), Judgement::ToDo);
        assert_eq!(manner.judge(Action::Disable, &standing(&[]), None), Judgement::ToDo);
        assert!(format!("{:?}", manner.changes(Action::Enable, &nologin, None)).starts_with("[Replace"));
        let zsh = standing(&[("loginshell", "/bin/zsh")]);
        let back: Vec<Change> = vec![Mod::Replace(b"loginShell".to_vec(), HashSet::from([b"/bin/zsh".to_vec()]))];
        assert_eq!(format!("{:?}", manner.changes(Action::Enable, &nologin, Some(&zsh))), format!("{back:?}"));
        let cleared = directory(Some(by(None))).changes(Action::Enable, &nologin, None);
        let nothing: Vec<Change> = vec![Mod::Replace(b"loginShell".to_vec(), HashSet::new())];
        assert_eq!(format!("{cleared:?}"), format!("{nothing:?}"));
        let grant = manner.grant(Action::Disable, "cn=act,dc=x", &nologin.name);
        assert!(
            grant.contains("dn.subtree=\"ou=people,dc=x\" attrs=loginShell by dn.exact=\"cn=act,dc=x\""),
            "{grant}"
        );
    }
}
