//! The one thing that may be changed in the sample directory: whether accounts are locked, and whether a new password is
//! asked for.
//!
//! Owns what the actor may write (draft-behera-ldap-password-policy's pwdAccountLockedTime and pwdReset). Everything else is
//! refused, with the code that OpenLDAP would give.

use ldap3_proto::proto::{LdapModify, LdapModifyRequest, LdapModifyType, LdapResultCode};

use super::{
    SampleDirectory,
    entry::{self, Dn},
    organisation::{Lock, Person},
    rendering::LOCKED_FOR_GOOD,
};

/// A refusal: the code and why.
type Refused = (LdapResultCode, &'static str);

impl SampleDirectory {
    /// Makes the changes of one request, all or none.
    pub(super) fn modify(&self, request: &LdapModifyRequest) -> Result<(), Refused> {
        let dn = Dn::parse(&request.dn).ok_or((LdapResultCode::InvalidDNSyntax, "not a DN"))?;
        let snapshot = self.snapshot();
        let found = snapshot.find(&dn.key).ok_or((LdapResultCode::NoSuchObject, ""))?;
        let id = found.values(&entry::ENTRY_UUID).first().cloned().unwrap_or_default();
        self.change(self.clock.now().timestamp(), |organisation, _| {
            let person = organisation.people.iter_mut().find(|person| person.uuid.to_string() == id);
            let person = person.ok_or((LdapResultCode::InsufficentAccessRights, "not an account"))?;
            let mut changed = person.clone();
            request.changes.iter().try_for_each(|change| apply(&mut changed, change))?;
            *person = changed;
            Ok(())
        })
    }
}

fn apply(person: &mut Person, change: &LdapModify) -> Result<(), Refused> {
    let values: Vec<&str> =
        change.modification.vals.iter().filter_map(|value| std::str::from_utf8(value).ok()).collect();
    let refused = Err((LdapResultCode::InsufficentAccessRights, "this is not the actor's to change"));
    match change.modification.atype.to_ascii_lowercase().as_str() {
        "pwdaccountlockedtime" => match (&change.operation, values.as_slice()) {
            (LdapModifyType::Replace, [LOCKED_FOR_GOOD]) => person.lock = Some(Lock::Permanent),
            (LdapModifyType::Replace, []) => person.lock = None,
            (LdapModifyType::Delete, _) if person.lock.is_none() => {
                return Err((LdapResultCode::NoSuchAttribute, "it is not locked"));
            }
            (LdapModifyType::Delete, _) => person.lock = None,
            _ => return refused,
        },
        "pwdreset" => match (&change.operation, values.as_slice()) {
            (LdapModifyType::Replace, ["TRUE"]) => person.must_change_password = true,
            (LdapModifyType::Replace | LdapModifyType::Delete, _) => person.must_change_password = false,
            _ => return refused,
        },
        _ => return refused,
    }
    Ok(())
}
