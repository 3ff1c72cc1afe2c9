//! What Active Directory says when it refuses a bind or a change: a Windows error code inside the text of an LDAP result.
//!
//! Owns the table from those codes to a kind, a sentence and a next step. The texts are no part of any standard; the codes
//! are those of winerror.h (MS-ERREF §2.2) and of SSPI, and Samba sends the same.

use crate::connectors::FailureKind;

/// What a code means: `{who}` stands for the account, `{server}` for the server.
struct Meaning {
    code: &'static str,
    kind: FailureKind,
    message: &'static str,
    next_step: &'static str,
}

const fn refused(code: &'static str, message: &'static str, next_step: &'static str) -> Meaning {
    Meaning { code, kind: FailureKind::InvalidCredentials, message, next_step }
}

const MEANINGS: [Meaning; 12] = [
    refused(
        "525",
        "{server} has no account {who}",
        "Write the account as a UPN (reader@example.com), as DOMAIN\\reader, or as its whole DN.",
    ),
    refused(
        "52e",
        "{server} knows the account {who}, or hides that it does not, and does not accept this password",
        "Correct the account and its password. More tries with a wrong one may lock the account.",
    ),
    refused(
        "52f",
        "Restrictions on the account {who} do not let it sign in to {server}",
        "Take the account out of the Protected Users group and of authentication policies, or use another one.",
    ),
    refused(
        "530",
        "The account {who} may not sign in to {server} at this time of day",
        "Extend the account's logon hours in Active Directory Users and Computers, Account, Logon Hours.",
    ),
    refused(
        "531",
        "{server} does not let the account {who} sign in from this machine",
        "Empty the account's list of workstations (userWorkstations), or add this machine to it.",
    ),
    refused(
        "532",
        "{server} says that the password of the account {who} has expired",
        "Set a new password for the account and enter it here; for a service account, let it never expire.",
    ),
    refused(
        "533",
        "{server} says that the account {who} is disabled",
        "Enable the account in the directory, or use another one.",
    ),
    refused(
        "534",
        "The account {who} lacks the right to sign in to {server} over the network",
        "Grant the account “Access this computer from the network” on the domain controllers.",
    ),
    refused(
        "701",
        "{server} says that the account {who} has expired",
        "Set the account's expiry to a later day, or to never, in the directory.",
    ),
    refused(
        "773",
        "{server} says that the account {who} must change its password before it can be used",
        "Set a new password for the account, without “must change at next logon”, and enter it here.",
    ),
    refused(
        "775",
        "{server} says that the account {who} is locked after too many wrong passwords",
        "Unlock the account in the directory, then correct the password here if it was wrong.",
    ),
    Meaning {
        code: "80090346",
        kind: FailureKind::ConfidentialityRequired,
        message: "{server} did not accept the channel binding of this connection",
        next_step: "Reach the domain controller directly, not through a proxy that ends TLS, or let it accept clients \
                    without channel binding (LdapEnforceChannelBinding 1).",
    },
];

/// A refused bind (LDAP result 49) in plain words: kind, sentence without its full stop, next step. `None` when the text is
/// not Active Directory's, or its code unknown.
pub fn bind(who: &str, server: &str, diagnostic: &str) -> Option<(FailureKind, String, &'static str)> {
    let code = sub_code(diagnostic)?;
    let meaning = MEANINGS.iter().find(|meaning| meaning.code == code)?;
    let message = meaning.message.replace("{server}", server).replace("{who}", who);
    Some((meaning.kind, message, meaning.next_step))
}

const fn unwilling(code: &'static str, message: &'static str, next_step: &'static str) -> Meaning {
    Meaning { code, kind: FailureKind::Refused, message, next_step }
}

/// What the code at the front of a refused change means: `{who}` stands for the acting account, `{dn}` for the account.
const MEANINGS_OF_CHANGES: [Meaning; 9] = [
    unwilling(
        "0000052d",
        "The domain's password policy does not accept this: the account has no password, or a new one is too short, too \
         simple or was used before",
        "Set a password for the account that keeps the domain's policy, then try again.",
    ),
    Meaning {
        code: "00000005",
        kind: FailureKind::AccessDenied,
        message: "{who} may not make this change to {dn}",
        next_step: "Delegate exactly this right to the acting account.",
    },
    Meaning {
        code: "00002098",
        kind: FailureKind::AccessDenied,
        message: "{who} may not make this change to {dn}",
        next_step: "Delegate exactly this right to the acting account.",
    },
    Meaning {
        code: "0000001f",
        kind: FailureKind::ConfidentialityRequired,
        message: "The domain controller sets passwords over an encrypted connection only",
        next_step: "Use an ldaps:// address, or switch StartTLS on.",
    },
    Meaning {
        code: "00002077",
        kind: FailureKind::Refused,
        message: "Only the system itself may change this of {dn}",
        next_step: "Look at the account in Active Directory Users and Computers.",
    },
    Meaning {
        code: "00002035",
        kind: FailureKind::Refused,
        message: "The domain controller is unwilling to change {dn}",
        next_step: "Look at the Directory Service log of the domain controller at this time.",
    },
    Meaning {
        code: "00000525",
        kind: FailureKind::NotFound,
        message: "The domain has no account {dn} any more",
        next_step: "Sync the directory, then look at the account again.",
    },
    Meaning {
        code: "0000208d",
        kind: FailureKind::NotFound,
        message: "The domain has no account {dn} any more",
        next_step: "Sync the directory, then look at the account again.",
    },
    Meaning {
        code: "0000202b",
        kind: FailureKind::Referral,
        message: "This domain controller does not hold {dn} and points at another one",
        next_step: "Add each domain as a directory of its own, and act through a controller of the account's domain, not \
                    through a global catalog.",
    },
];

/// A refused change in plain words, as [`bind`]. The code stands at the front of
/// `0000052D: SvcErr: DSID-031A12D2, problem 5003 (WILL_NOT_PERFORM), data 0`; where it tells nothing, the problem does
/// (problems of X.511 as Active Directory numbers them).
pub fn modify(who: &str, dn: &str, diagnostic: &str) -> Option<(FailureKind, String, &'static str)> {
    let lower = diagnostic.to_ascii_lowercase();
    let code = lower.get(..8).filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let code = code.filter(|_| lower.get(8..9) == Some(":"))?;
    let by_code = MEANINGS_OF_CHANGES.iter().find(|meaning| meaning.code == code);
    let meaning = by_code.or_else(|| {
        let by_problem = match lower.split_once("problem ")?.1.get(..4)? {
            "4003" => "00002098",
            "5003" => "00002035",
            _ => return None,
        };
        MEANINGS_OF_CHANGES.iter().find(|meaning| meaning.code == by_problem)
    })?;
    Some((meaning.kind, meaning.message.replace("{dn}", dn).replace("{who}", who), meaning.next_step))
}

/// Whether a demand for a protected connection (LDAP result 8) is about signing (MS-ADTS §5.1.2.1): Active Directory's way
/// to say that plain LDAP is not accepted.
pub fn demands_signing(diagnostic: &str) -> bool {
    let lower = diagnostic.to_ascii_lowercase();
    lower.contains("00002028")
        || lower.contains("integrity checking")
        || lower.contains("transport encryption required")
}

/// The code in `80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data 52e, v4563`, in lower case.
/// Of channel binding only the SSPI code at the front tells.
fn sub_code(diagnostic: &str) -> Option<String> {
    let lower = diagnostic.to_ascii_lowercase();
    if lower.starts_with("80090346") {
        return Some("80090346".to_owned());
    }
    let (_, after) = lower.split_once("acceptsecuritycontext error, data ")?;
    let code: String = after.chars().take_while(char::is_ascii_hexdigit).take(8).collect();
    (!code.is_empty()).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str) -> String {
        format!("80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data {code}, v4563")
    }

    #[test]
    fn each_code_has_a_sentence_of_its_own_and_a_next_step() {
        let mut sentences = std::collections::HashSet::new();
        for (code, part) in [
            ("525", "has no account reader@x"),
            ("52e", "does not accept this password"),
            ("52f", "Restrictions"),
            ("530", "time of day"),
            ("531", "from this machine"),
            ("532", "password of the account reader@x has expired"),
            ("533", "is disabled"),
            ("534", "over the network"),
            ("701", "that the account reader@x has expired"),
            ("773", "must change its password"),
            ("775", "is locked"),
        ] {
            for text in [said(code), said(&code.to_ascii_uppercase())] {
                let (kind, message, next_step) = bind("reader@x", "ldaps://dc1:636", &text).expect(code);
                assert_eq!(kind, FailureKind::InvalidCredentials);
                assert!(message.contains(part) && message.contains("ldaps://dc1:636"), "{code}: {message}");
                assert!(
                    !message.contains('{') && !message.ends_with('.') && next_step.ends_with('.'),
                    "{code}: {message}"
                );
                sentences.insert(message);
            }
        }
        assert_eq!(sentences.len(), 11);
        let text = "80090346: LdapErr: DSID-0C090587, comment: AcceptSecurityContext error, data 80090346, v4563";
        let (kind, message, _) = bind("r", "s", text).expect("channel binding");
        assert_eq!((kind, message.contains("channel binding")), (FailureKind::ConfidentialityRequired, true));
    }

    #[test]
    fn refused_changes_are_explained_by_their_code_and_else_by_their_problem() {
        use FailureKind::{AccessDenied, ConfidentialityRequired, NotFound, Referral, Refused};
        for (text, kind, part) in [
            ("0000052D: SvcErr: DSID-031A12D2, problem 5003 (WILL_NOT_PERFORM), data 0", Refused, "password policy"),
            ("0000052D: Constraint violation - check_password_restrictions: the password does not", Refused, "policy"),
            (
                "00002098: SecErr: DSID-03150F94, problem 4003 (INSUFF_ACCESS_RIGHTS), data 0",
                AccessDenied,
                "act@x may not",
            ),
            ("00000005: SecErr: DSID-031A1254, problem 4003 (INSUFF_ACCESS_RIGHTS), data 0", AccessDenied, "CN=a,DC=x"),
            ("000021AF: SecErr: DSID-031A1254, problem 4003 (INSUFF_ACCESS_RIGHTS), data 0", AccessDenied, "may not"),
            (
                "0000001F: SvcErr: DSID-031A12D2, problem 5003 (WILL_NOT_PERFORM), data 0",
                ConfidentialityRequired,
                "encrypted",
            ),
            ("00000524: SvcErr: DSID-031A12D2, problem 5003 (WILL_NOT_PERFORM), data 0", Refused, "unwilling"),
            ("00000525: NameErr: DSID-031A1202, problem 2001 (NO_OBJECT), data 0", NotFound, "no account"),
            ("0000202B: RefErr: DSID-03100835, data 0, 1 access points", Referral, "another one"),
        ] {
            let (found, message, next_step) = modify("act@x", "CN=a,DC=x", text).expect(text);
            assert_eq!(found, kind, "{text}");
            assert!(message.contains(part) && !message.contains('{') && !message.ends_with('.'), "{message}");
            assert!(next_step.ends_with('.'), "{next_step}");
        }
        for text in
            ["", "no write access to parent", "0000052D", "0000052X: y", "00009999: problem 9", "00009999: problem 1"]
        {
            assert_eq!(modify("a", "b", text), None, "{text}");
        }
    }

    #[test]
    fn what_active_directory_did_not_say_is_left_alone() {
        for text in ["", "Account locked", "data 52e", &said("57"), &said(""), "80090308: LdapErr: DSID-0C0903A9"] {
            assert_eq!(bind("r", "s", text), None, "{text}");
        }
        assert!(!demands_signing("confidentiality required"));
        assert!(demands_signing("BindSimple: Transport encryption required."));
        assert!(demands_signing(
            "00002028: LdapErr: DSID-0C09023A, comment: The server requires binds to turn on integrity checking if SSL\\TLS are not already active on the connection, data 0, v4563"
        ));
    }

    #[test]
    fn a_code_in_braces_from_a_server_is_not_taken_for_a_place_to_fill() {
        let (_, message, _) = bind("{server}", "s", &said("533")).expect("known");
        assert_eq!(message, "s says that the account {server} is disabled");
    }
}
