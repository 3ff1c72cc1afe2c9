//! What an account or a group of Active Directory is: the facts about an account, its kind, and the groups that make their
//! members privileged wherever they are called what.
//!
//! Owns the reading of userAccountControl (MS-ADTS §2.2.16) and of well-known security identifiers (MS-DTYP §2.4.2.4). It
//! reads no directory. Whether a password can be changed by its owner stands in access control lists and not in a bit
//! (ADS_UF_PASSWD_CANT_CHANGE says nothing in a domain), so nothing is said about it.

use super::forms::{self, account};
use crate::connectors::{AccountType, Fact};

/// Bits of userAccountControl that are facts.
const BITS: [(u32, Fact); 9] = [
    (account::PASSWORD_NOT_REQUIRED, Fact::PasswordNotRequired),
    (account::REVERSIBLE_ENCRYPTION, Fact::ReversibleEncryption),
    (account::PASSWORD_NEVER_EXPIRES, Fact::PasswordNeverExpires),
    (account::SMART_CARD_REQUIRED, Fact::SmartCardRequired),
    (account::TRUSTED_FOR_DELEGATION, Fact::TrustedForDelegation),
    (account::NOT_DELEGATED, Fact::NotDelegated),
    (account::DES_ONLY, Fact::DesOnly),
    (account::NO_PRE_AUTHENTICATION, Fact::PreAuthenticationNotRequired),
    (account::TRUSTED_TO_AUTHENTICATE, Fact::TrustedToAuthenticateForDelegation),
];

/// What an entry says that is worth knowing of its account.
#[derive(Debug, Clone, Copy, Default)]
pub struct Marks<'a> {
    pub account_control: Option<&'a str>,
    pub sid: Option<&'a [u8]>,
    pub admin_count: Option<&'a str>,
    pub has_service_principal_name: bool,
    pub has_sid_history: bool,
    pub account_type: AccountType,
}

impl Marks<'_> {
    /// Sorted, none twice.
    pub fn facts(&self) -> Vec<Fact> {
        let control = self.account_control.and_then(forms::bits).unwrap_or_default();
        let mut facts: Vec<Fact> = BITS.iter().filter(|(bit, _)| control & bit != 0).map(|(_, fact)| *fact).collect();
        let mut mark = |is_so: bool, fact: Fact| facts.extend(is_so.then_some(fact));
        let rid = self.sid.and_then(domain_rid);
        mark(rid == Some(500), Fact::BuiltInAdministrator);
        mark(rid == Some(502), Fact::TicketGrantingAccount);
        // Every computer has some, and managed accounts have passwords that nobody guesses.
        mark(self.has_service_principal_name && self.account_type.is_user(), Fact::ServicePrincipalName);
        mark(self.has_sid_history, Fact::SidHistory);
        mark(self.admin_count.is_some_and(|text| text.trim() == "1"), Fact::AdminCount);
        facts.sort_unstable();
        facts
    }
}

/// What an account is, by its classes. A managed service account is a computer to the schema.
pub fn account_type<'a>(classes: impl Iterator<Item = &'a str>) -> AccountType {
    const MANAGED: [&str; 3] =
        ["msDS-GroupManagedServiceAccount", "msDS-ManagedServiceAccount", "msDS-DelegatedManagedServiceAccount"];
    let mut found = AccountType::User;
    for class in classes {
        if MANAGED.iter().any(|managed| class.eq_ignore_ascii_case(managed)) {
            return AccountType::ManagedServiceAccount;
        }
        if class.eq_ignore_ascii_case("computer") {
            found = AccountType::Computer;
        }
    }
    found
}

/// The relative identifier of an account or group of a domain (`S-1-5-21-a-b-c-RID`).
fn domain_rid(sid: &[u8]) -> Option<u32> {
    let rid = forms::rid(sid)?;
    let is_of_domain = sid.get(1) == Some(&5) && forms::sid_text(sid)?.starts_with("S-1-5-21-");
    is_of_domain.then_some(rid)
}

/// The name that Windows gave a group which makes its members privileged, whatever it is called here (a German domain calls
/// it otherwise); `None` for all others. DnsAdmins has no identifier of its own and is known by its name: its members can
/// make a domain controller run their code.
pub fn privileged_group(sid: Option<&[u8]>, account_name: Option<&str>) -> Option<&'static str> {
    if account_name.is_some_and(|name| name.eq_ignore_ascii_case("DnsAdmins")) {
        return Some("DnsAdmins");
    }
    let sid = sid?;
    if let Some(rid) = domain_rid(sid) {
        return match rid {
            512 => Some("Domain Admins"),
            516 => Some("Domain Controllers"),
            518 => Some("Schema Admins"),
            519 => Some("Enterprise Admins"),
            520 => Some("Group Policy Creator Owners"),
            526 => Some("Key Admins"),
            527 => Some("Enterprise Key Admins"),
            _ => None,
        };
    }
    match forms::sid_text(sid)?.strip_prefix("S-1-5-32-")? {
        "544" => Some("Administrators"),
        "548" => Some("Account Operators"),
        "549" => Some("Server Operators"),
        "550" => Some("Print Operators"),
        "551" => Some("Backup Operators"),
        "552" => Some("Replicator"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `S-1-5-` and these.
    fn sid(parts: &[u32]) -> Vec<u8> {
        let mut bytes = vec![1, u8::try_from(parts.len()).expect("few"), 0, 0, 0, 0, 0, 5];
        parts.iter().for_each(|part| bytes.extend(part.to_le_bytes()));
        bytes
    }

    #[test]
    fn every_bit_is_the_fact_that_the_standard_gives_it() {
        // MS-ADTS §2.2.16, every bit that it names.
        let bits: [(u32, &[Fact]); 22] = [
            (0x1, &[]),
            (0x2, &[]),
            (0x8, &[]),
            (0x10, &[]),
            (0x20, &[Fact::PasswordNotRequired]),
            (0x40, &[]),
            (0x80, &[Fact::ReversibleEncryption]),
            (0x200, &[]),
            (0x800, &[]),
            (0x1000, &[]),
            (0x2000, &[]),
            (0x1_0000, &[Fact::PasswordNeverExpires]),
            (0x2_0000, &[]),
            (0x4_0000, &[Fact::SmartCardRequired]),
            (0x8_0000, &[Fact::TrustedForDelegation]),
            (0x10_0000, &[Fact::NotDelegated]),
            (0x20_0000, &[Fact::DesOnly]),
            (0x40_0000, &[Fact::PreAuthenticationNotRequired]),
            (0x80_0000, &[]),
            (0x100_0000, &[Fact::TrustedToAuthenticateForDelegation]),
            (0x200_0000, &[]),
            (0x400_0000, &[]),
        ];
        let facts = |control: &str| Marks { account_control: Some(control), ..Marks::default() }.facts();
        for (bit, expected) in bits {
            assert_eq!(facts(&(0x200 | bit).to_string()), expected, "{bit:#x}");
        }
        let all = bits.iter().fold(0, |all, (bit, _)| all | bit);
        assert_eq!(facts(&all.to_string()).len(), BITS.len());
        assert!(facts(&all.to_string()).is_sorted());
        for none in ["", "many", "-", "99999999999"] {
            assert_eq!(facts(none), [], "{none}");
        }
    }

    #[test]
    fn what_other_attributes_say_is_a_fact_too() {
        let rid = |rid: u32| sid(&[21, 1, 2, 3, rid]);
        let (administrator, krbtgt, other, local) = (rid(500), rid(502), rid(1105), sid(&[32, 500]));
        let of = |sid: &[u8]| Marks { sid: Some(sid), ..Marks::default() }.facts();
        assert_eq!(of(&administrator), [Fact::BuiltInAdministrator]);
        assert_eq!(of(&krbtgt), [Fact::TicketGrantingAccount]);
        assert_eq!((of(&other), of(&local), of(&[])), (vec![], vec![], vec![]));
        for (text, is_so) in [("1", true), ("0", false), ("", false), ("11", false)] {
            let facts = Marks { admin_count: Some(text), ..Marks::default() }.facts();
            assert_eq!(facts.contains(&Fact::AdminCount), is_so, "{text}");
        }
        for account_type in AccountType::ALL {
            let marks = Marks { has_service_principal_name: true, account_type, ..Marks::default() };
            assert_eq!(marks.facts().contains(&Fact::ServicePrincipalName), account_type == AccountType::User);
        }
        assert_eq!(Marks { has_sid_history: true, ..Marks::default() }.facts(), [Fact::SidHistory]);
    }

    #[test]
    fn accounts_are_what_their_classes_say() {
        let user = ["top", "person", "organizationalPerson", "user"];
        let computer = [&user[..], &["computer"]].concat();
        for (more, expected) in [
            ("inetOrgPerson", AccountType::User),
            ("computer", AccountType::Computer),
            ("Computer", AccountType::Computer),
        ] {
            assert_eq!(account_type(user.into_iter().chain([more])), expected, "{more}");
        }
        for managed in
            ["msDS-GroupManagedServiceAccount", "msDS-ManagedServiceAccount", "msds-groupmanagedserviceaccount"]
        {
            let classes = computer.iter().copied().chain([managed]);
            assert_eq!(account_type(classes), AccountType::ManagedServiceAccount, "{managed}");
        }
        assert_eq!(account_type([].into_iter()), AccountType::User);
    }

    #[test]
    fn privileged_groups_are_known_by_their_identifier_and_not_by_their_name() {
        let domain = |rid: u32| sid(&[21, 1, 2, 3, rid]);
        for (rid, expected) in [
            (512, Some("Domain Admins")),
            (513, None),
            (516, Some("Domain Controllers")),
            (518, Some("Schema Admins")),
            (519, Some("Enterprise Admins")),
            (520, Some("Group Policy Creator Owners")),
            (521, None),
            (526, Some("Key Admins")),
            (527, Some("Enterprise Key Admins")),
            (544, None),
            (1105, None),
        ] {
            assert_eq!(privileged_group(Some(&domain(rid)), Some("Domänen-Admins")), expected, "{rid}");
        }
        for (rid, expected) in [
            (544, Some("Administrators")),
            (545, None),
            (548, Some("Account Operators")),
            (549, Some("Server Operators")),
            (550, Some("Print Operators")),
            (551, Some("Backup Operators")),
            (552, Some("Replicator")),
            (512, None),
        ] {
            assert_eq!(privileged_group(Some(&sid(&[32, rid])), None), expected, "{rid}");
        }
        assert_eq!(privileged_group(Some(&domain(1106)), Some("dnsadmins")), Some("DnsAdmins"));
        assert_eq!(privileged_group(Some(&domain(1106)), Some("Domain Admins")), None);
        assert_eq!(privileged_group(Some(&[1, 2, 3]), None), None);
        assert_eq!(privileged_group(None, None), None);
    }
}
