//! Acting on accounts of Active Directory: which attributes decide, and what is written.
//!
//! Owns the bits of userAccountControl that are touched (one), the rule by which "must change the password" is useless, and
//! the lines that grant the rights. It must never touch the built-in Administrator or krbtgt, whoever asks.

use std::{collections::BTreeMap, collections::HashSet};

use ldap3::{Mod, controls::RawControl};

use super::{
    acting_rights, descriptor, forms,
    settings::{READ_ONLY, Settings},
};
use crate::{
    connectors::{
        Ability, BoxFuture, IdentityFields, Value,
        act::{Action, Coverage, Judgement, Offer, Standing},
        ldap::{
            Guarded, Scope, SearchRequest,
            acting::{Change, Manner},
            dn,
        },
    },
    secret,
};

const CONTROL: &str = "useraccountcontrol";
const PASSWORD_SET: &str = "pwdlastset";
const LOCKOUT: &str = "lockouttime";
const COMPUTED: &str = "msds-user-account-control-computed";
const SID: &str = "objectsid";
/// Ours: the access rights of the account keep it from changing its password.
const CANNOT_CHANGE: &str = "cannotchangepassword";

const ATTRIBUTES: [&str; 6] =
    ["userAccountControl", "msDS-User-Account-Control-Computed", "pwdLastSet", "lockoutTime", "objectSid", DESCRIPTOR];
const DESCRIPTOR: &str = "nTSecurityDescriptor";

/// LDAP_SERVER_SD_FLAGS_OID (MS-ADTS §3.1.1.3.4.1.11): of the security descriptor only who may do what, because auditing
/// rules are for administrators alone. The value is `SEQUENCE { INTEGER 4 }`.
pub(super) fn dacl_only() -> RawControl {
    let value = vec![0x30, 3, 2, 1, 4];
    RawControl { ctype: "1.2.840.113556.1.4.801".to_owned(), crit: false, val: Some(value) }
}

/// How Active Directory acts.
pub struct Directory {
    bases: Vec<String>,
    excluded: Vec<String>,
    filter: String,
    is_plain: bool,
}

impl Directory {
    pub fn new(settings: &Settings) -> Self {
        Self {
            bases: settings.base_dns.iter().filter_map(|base| dn::normalise(base).ok()).collect(),
            excluded: settings.excluded(),
            filter: settings.user_filter(),
            is_plain: settings.way().is_plain(),
        }
    }

    /// What an account is, as a filter.
    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    /// Where accounts are, `domain` when the settings name nothing.
    pub(super) fn bases_or(&self, domain: &str) -> Vec<String> {
        if self.bases.is_empty() { vec![domain.to_owned()] } else { self.bases.clone() }
    }
}

/// Whether `action` is offered, and what it does.
pub fn offer(settings: &Settings, action: Action) -> Offer {
    if settings.global_catalog {
        return Err(READ_ONLY.to_owned());
    }
    Ok(match action {
        Action::Disable => Coverage {
            does: "Sets “account is disabled” (userAccountControl, bit 2) and leaves every other flag as it is. New sign-ins are refused at once.",
            leaves: "Kerberos tickets that were issued already stay valid until they end (10 hours unless the domain policy says otherwise; controllers look again once a ticket is older than 20 minutes). Open sessions, cached sign-ins of machines off the network, and accounts in other directories go on. Other controllers follow by replication.",
            inverse: "Enable takes the flag away again.",
        },
        Action::Enable => Coverage {
            does: "Takes “account is disabled” away (userAccountControl, bit 2) and leaves every other flag as it is.",
            leaves: "An account that has expired or is locked still can't sign in. Group memberships are as they were.",
            inverse: "Disable sets the flag again.",
        },
        Action::ForcePasswordReset => Coverage {
            does: "Sets pwdLastSet to 0: at the next sign-in the password has to be changed. Sign-ins that can't change a password, such as LDAP binds, are refused until then.",
            leaves: "The present password still opens the dialog in which it is changed, so this keeps nobody out who knows it. Kerberos tickets and open sessions go on.",
            inverse: "Cancelling sets pwdLastSet to now: the password counts as new, its former age is lost.",
        },
        Action::CancelPasswordReset => Coverage {
            does: "Sets pwdLastSet to now: the password need not be changed any more.",
            leaves: "The password counts as new from now on: its former age is lost.",
            inverse: "Force password reset asks for a new password again.",
        },
        Action::Unlock => Coverage {
            does: "Sets lockoutTime to 0: an account that was locked after too many wrong passwords can sign in again.",
            leaves: "What used the wrong password (a phone, a service, an attacker) may lock it again. A disabled or expired account stays so.",
            inverse: "Nothing takes this back.",
        },
        Action::Contain if settings.way().is_plain() => {
            return Err("Contain sets a password, which needs an encrypted connection. Use an ldaps:// address or StartTLS; or disable the account.".to_owned());
        }
        Action::Contain => Coverage {
            does: "Sets a random password that nobody knows and disables the account, in one change.",
            leaves: "Kerberos tickets that were issued already stay valid until they end (10 hours unless the domain policy says otherwise). Open sessions and accounts in other directories go on.",
            inverse: "Enable takes the flag away; the old password does not come back, so a new one has to be set.",
        },
        Action::ForceSignOut => {
            return Err("Active Directory has no way to end sessions: a Kerberos ticket lives until it ends, 10 hours unless the domain policy says otherwise. What helps: disable the account, which controllers notice for tickets older than 20 minutes; and lock or restart the machines that it is signed in to.".to_owned());
        }
    })
}

/// Why an account is never acted on: the built-in Administrator and krbtgt (MS-ADTS §6.1.1.6), in any domain.
pub fn never(fields: &IdentityFields) -> Option<String> {
    let sid = match fields.attributes.get("objectSid").and_then(|values| values.first()) {
        Some(Value::Text(sid)) => sid.as_str(),
        _ => "",
    };
    never_by_sid(sid).or_else(|| fields.user_name.to_ascii_lowercase().starts_with("krbtgt").then(|| KRBTGT.to_owned()))
}

const KRBTGT: &str =
    "This is krbtgt, the key of all Kerberos tickets of the domain; acting on it would lock everybody out.";

fn never_by_sid(sid: &str) -> Option<String> {
    match sid.strip_prefix("S-1-5-21-")?.rsplit_once('-')?.1 {
        "500" => Some("This is the built-in Administrator, the last way into the domain.".to_owned()),
        "502" => Some(KRBTGT.to_owned()),
        _ => None,
    }
}

/// Whether a group holds the domain's administrators: Administrators, Domain Admins, Enterprise Admins.
pub fn is_of_administrators(sid: &str) -> bool {
    sid == "S-1-5-32-544"
        || sid
            .strip_prefix("S-1-5-21-")
            .and_then(|rest| rest.rsplit_once('-'))
            .is_some_and(|(_, rid)| matches!(rid, "512" | "519"))
}

fn bits(standing: &Standing) -> Option<u32> {
    standing.value(CONTROL).and_then(forms::bits)
}

impl Manner for Directory {
    fn searches(&self, external_id: &str) -> Option<Vec<SearchRequest>> {
        forms::guid_bytes(external_id)?;
        // By its id, wherever it has been moved to (MS-ADTS §3.1.1.3.1.2.4).
        Some(vec![SearchRequest {
            base: format!("<GUID={external_id}>"),
            scope: Scope::Base,
            filter: self.filter.clone(),
            attributes: ATTRIBUTES.map(str::to_owned).to_vec(),
            page_size: 0,
            entries_max: None,
        }])
    }

    fn controls(&self) -> Vec<RawControl> {
        vec![dacl_only()]
    }

    fn values(&self, first: &dyn Fn(&str) -> Option<Vec<u8>>) -> BTreeMap<String, String> {
        let text = |name: &str| first(name).and_then(|value| String::from_utf8(value).ok());
        let mut values = BTreeMap::new();
        for name in [CONTROL, COMPUTED, PASSWORD_SET, LOCKOUT] {
            values.extend(text(name).map(|value| (name.to_owned(), value)));
        }
        values.extend(first(SID).and_then(|sid| forms::sid_text(&sid)).map(|sid| (SID.to_owned(), sid)));
        if first(DESCRIPTOR).is_some_and(|descriptor| descriptor::denies_change_of_password(&descriptor)) {
            values.insert(CANNOT_CHANGE.to_owned(), "TRUE".to_owned());
        }
        values
    }

    fn is_within(&self, dn: &str) -> bool {
        let Ok(normal) = dn::normalise(dn) else { return false };
        (self.bases.is_empty() || self.bases.iter().any(|base| dn::is_within(&normal, base)))
            && !self.excluded.iter().any(|base| dn::is_within(&normal, base))
    }

    fn judge(&self, action: Action, standing: &Standing, before: Option<&Standing>) -> Judgement {
        if let Some(reason) = standing.value(SID).and_then(never_by_sid) {
            return Judgement::Refused(reason);
        }
        let Some(bits) = bits(standing) else {
            return Judgement::Refused(
                "The reading account can't see userAccountControl of this account, so nothing could be proved."
                    .to_owned(),
            );
        };
        let is_disabled = bits & forms::account::DISABLED != 0;
        // Absent is unknown: a controller always has it.
        let Some(password_set) = standing.value(PASSWORD_SET) else {
            return Judgement::Refused(
                "The reading account can't see pwdLastSet of this account, so nothing could be proved.".to_owned(),
            );
        };
        let is_locked =
            standing.value(COMPUTED).and_then(forms::bits).is_some_and(|bits| bits & forms::computed::LOCKED != 0);
        let is_so = |is_so| if is_so { Judgement::IsSo } else { Judgement::ToDo };
        match action {
            Action::Disable => is_so(is_disabled),
            Action::Enable => is_so(!is_disabled),
            Action::ForcePasswordReset => match why_no_reset(bits, standing) {
                Some(reason) => Judgement::Refused(reason.to_owned()),
                None => is_so(password_set == "0"),
            },
            Action::CancelPasswordReset => is_so(password_set != "0"),
            Action::Unlock => is_so(!is_locked && standing.value(LOCKOUT).is_none_or(|time| time == "0")),
            Action::Contain if self.is_plain => {
                Judgement::Refused("A password is never sent over a connection without encryption.".to_owned())
            }
            // Sent once, the password is another one; sent twice would be harmless, but nobody could tell.
            Action::Contain => {
                is_so(is_disabled && before.is_some_and(|before| before.value(PASSWORD_SET) != Some(password_set)))
            }
            Action::ForceSignOut => Judgement::Refused("Active Directory has no way to end sessions.".to_owned()),
        }
    }

    fn aim(&self, external_id: &str, _: &str, _: bool) -> (String, Vec<RawControl>) {
        // By its id, wherever it was moved to meanwhile (MS-ADTS §3.1.1.3.1.2.4).
        (format!("<GUID={external_id}>"), Vec::new())
    }

    fn changes(&self, action: Action, standing: &Standing, _: Option<&Standing>) -> Vec<Change> {
        let set = |name: &str, value: &str| {
            Mod::Replace(name.as_bytes().to_vec(), HashSet::from([value.as_bytes().to_vec()]))
        };
        // Takes the old value away and adds the new one: refused when somebody else was quicker, so that no other bit is
        // ever written over.
        let control = |change: fn(u32) -> u32| -> Vec<Change> {
            let old = standing.value(CONTROL).unwrap_or_default();
            let new = bits(standing).map(|bits| change(bits).cast_signed().to_string()).unwrap_or_default();
            let name = || b"userAccountControl".to_vec();
            vec![
                Mod::Delete(name(), HashSet::from([old.as_bytes().to_vec()])),
                Mod::Add(name(), HashSet::from([new.into_bytes()])),
            ]
        };
        match action {
            Action::Disable => control(|bits| bits | forms::account::DISABLED),
            Action::Enable => control(|bits| bits & !forms::account::DISABLED),
            Action::ForcePasswordReset => vec![set("pwdLastSet", "0")],
            Action::CancelPasswordReset => vec![set("pwdLastSet", "-1")],
            Action::Unlock => vec![set("lockoutTime", "0")],
            Action::Contain => {
                let password = Mod::Replace(b"unicodePwd".to_vec(), HashSet::from([random_password()]));
                let is_enabled = bits(standing).is_some_and(|bits| bits & forms::account::DISABLED == 0);
                let flag = if is_enabled { control(|bits| bits | forms::account::DISABLED) } else { Vec::new() };
                std::iter::once(password).chain(flag).collect()
            }
            Action::ForceSignOut => Vec::new(),
        }
    }

    fn rights<'a>(
        &'a self,
        reader: &'a mut Guarded,
        actor: &'a mut Guarded,
        who: &'a str,
    ) -> BoxFuture<'a, Vec<Ability>> {
        Box::pin(self.try_rights(reader, actor, who))
    }

    fn grant(&self, action: Action, who: &str, dn: &str) -> String {
        grant_lines(who, dn::parent(dn).unwrap_or(dn), acting_rights::needed(action))
    }
}

/// The lines of Microsoft's dsacls that give `who` these rights on all users below `unit`. Members of protected groups take
/// no rights from there (AdminSDHolder).
pub fn grant_lines(who: &str, unit: &str, rights: &[&str]) -> String {
    let grants: Vec<String> = rights.iter().map(|right| format!("\"{who}:{right}\"")).collect();
    format!(
        "As a domain administrator: dsacls \"{unit}\" /I:S /G {}. A member of a protected group (adminCount 1) takes its \
         rights from CN=AdminSDHolder instead.",
        grants.join(" ")
    )
}

/// Why "must change the password at the next sign-in" would have no effect, or could never be met.
fn why_no_reset(bits: u32, standing: &Standing) -> Option<&'static str> {
    const DONT_EXPIRE_PASSWORD: u32 = 0x1_0000;
    const SMARTCARD_REQUIRED: u32 = 0x4_0000;
    if bits & DONT_EXPIRE_PASSWORD != 0 {
        return Some(
            "“Password never expires” is set on this account, so the domain would not ask for a new one. Take that flag away first, or disable the account.",
        );
    }
    if bits & SMARTCARD_REQUIRED != 0 {
        return Some(
            "This account signs in with a smart card only; its password is never asked for. Disable the account instead.",
        );
    }
    standing.value(CANNOT_CHANGE).map(|_| {
        "“User cannot change password” is set on this account, so it could never sign in again by itself. Set a new password for it, or disable it."
    })
}

/// A new password as unicodePwd takes it (MS-ADTS §3.1.1.3.1.5.1): in quotes, UTF-16, little-endian. 256 random bits, and a
/// character of each class that a policy may ask for.
fn random_password() -> Vec<u8> {
    let password = format!("\"aA1-{}\"", secret::random_token().expose());
    password.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(values: &[(&str, &str)]) -> Standing {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Standing { server: "ldaps://dc1".into(), name: "CN=a,OU=Staff,DC=x".into(), values }
    }

    fn directory() -> Directory {
        Directory::new(&Settings { servers: vec!["ldaps://dc1".into()], ..Settings::default() })
    }

    #[test]
    fn only_the_flag_of_disabled_accounts_is_touched() {
        let manner = directory();
        for (action, old, new) in [
            (Action::Disable, "512", "514"),
            (Action::Disable, "66048", "66050"),
            (Action::Enable, "66050", "66048"),
            (Action::Enable, "-2147483134", "-2147483136"),
        ] {
            let changes = manner.changes(action, &standing(&[(CONTROL, old)]), None);
            let name = || b"userAccountControl".to_vec();
            let expected: Vec<Change> = vec![
                Mod::Delete(name(), HashSet::from([old.as_bytes().to_vec()])),
                Mod::Add(name(), HashSet::from([new.as_bytes().to_vec()])),
            ];
            assert_eq!(format!("{changes:?}"), format!("{expected:?}"));
        }
    }

    #[test]
    fn what_is_so_is_not_sent_and_what_is_useless_is_refused() {
        let manner = directory();
        // pwdLastSet is always there; the last one of a name counts.
        let judge = |action, values: &[(&str, &str)]| {
            let values = [&[(PASSWORD_SET, "1")], values].concat();
            manner.judge(action, &standing(&values), None)
        };
        let refused = |judgement| match judgement {
            Judgement::Refused(reason) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(judge(Action::Disable, &[(CONTROL, "514")]), Judgement::IsSo);
        assert_eq!(judge(Action::Disable, &[(CONTROL, "512")]), Judgement::ToDo);
        assert_eq!(judge(Action::Enable, &[(CONTROL, "512")]), Judgement::IsSo);
        assert_eq!(judge(Action::Unlock, &[(CONTROL, "512")]), Judgement::IsSo);
        assert_eq!(judge(Action::Unlock, &[(CONTROL, "512"), (LOCKOUT, "133485408000000000")]), Judgement::ToDo);
        assert_eq!(judge(Action::ForcePasswordReset, &[(CONTROL, "512"), (PASSWORD_SET, "1")]), Judgement::ToDo);
        assert_eq!(judge(Action::ForcePasswordReset, &[(CONTROL, "512"), (PASSWORD_SET, "0")]), Judgement::IsSo);
        for (values, part) in [
            (&[(CONTROL, "66048")][..], "never expires"),
            (&[(CONTROL, "262656")], "smart card"),
            (&[(CONTROL, "512"), (CANNOT_CHANGE, "TRUE")], "cannot change"),
        ] {
            let reason = refused(judge(Action::ForcePasswordReset, values));
            assert!(reason.contains(part), "{reason}");
        }
        assert!(refused(judge(Action::Disable, &[])).contains("userAccountControl"));
        let unseen = manner.judge(Action::ForcePasswordReset, &standing(&[(CONTROL, "512")]), None);
        assert!(refused(unseen).contains("pwdLastSet"));
        assert_eq!(judge(Action::Unlock, &[(CONTROL, "512"), (COMPUTED, "16")]), Judgement::ToDo);
        for action in Action::ALL {
            for rid in ["500", "502"] {
                refused(judge(action, &[(CONTROL, "512"), (SID, &format!("S-1-5-21-1-2-3-{rid}"))]));
            }
        }
        let before = standing(&[(CONTROL, "512"), (PASSWORD_SET, "1")]);
        let contained = |before, values: &[_]| manner.judge(Action::Contain, &standing(values), before);
        assert_eq!(contained(None, &[(CONTROL, "514"), (PASSWORD_SET, "2")]), Judgement::ToDo);
        assert_eq!(contained(Some(&before), &[(CONTROL, "514"), (PASSWORD_SET, "1")]), Judgement::ToDo);
        assert_eq!(contained(Some(&before), &[(CONTROL, "514"), (PASSWORD_SET, "2")]), Judgement::IsSo);
    }

    #[test]
    fn nothing_is_acted_on_by_a_global_catalog() {
        let settings = Settings { global_catalog: true, ..Settings::default() };
        for action in Action::ALL {
            let reason = offer(&settings, action).expect_err("read only");
            assert!(reason.contains("a global catalog, which is read only"), "{reason}");
        }
    }

    #[test]
    fn the_last_ways_into_a_domain_are_known() {
        let fields = |user_name: &str, sid: &str| IdentityFields {
            user_name: user_name.into(),
            attributes: [("objectSid".into(), vec![Value::Text(sid.into())])].into(),
            ..IdentityFields::default()
        };
        assert!(never(&fields("root", "S-1-5-21-1-2-3-500")).is_some());
        assert!(never(&fields("krbtgt", "S-1-5-21-1-2-3-502")).is_some());
        assert!(never(&fields("krbtgt_2031", "S-1-5-21-1-2-3-1500")).is_some());
        assert!(never(&fields("alice", "S-1-5-21-1-2-3-1500")).is_none());
        assert!(never(&fields("alice", "S-1-5-32-500")).is_none());
        assert!(is_of_administrators("S-1-5-32-544") && is_of_administrators("S-1-5-21-1-2-3-512"));
        assert!(!is_of_administrators("S-1-5-21-1-2-3-513") && !is_of_administrators("S-1-5-32-545"));
    }
}
