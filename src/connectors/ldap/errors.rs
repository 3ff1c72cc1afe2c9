//! What LDAP servers say when they refuse, in plain words with a next step.
//!
//! Owns the table from result codes (RFC 4511 appendix A) and slapd's common diagnostics to [`Failure`]; those of Active
//! Directory are in [`windows`]. It must never pass control characters of a server's text on, and never put a password
//! into a message.

use std::time::Duration;

use super::{windows, wire::seconds};
use crate::connectors::{Failure, FailureKind};

/// What was being done when a server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    StartTls,
    /// Binding as this DN.
    Bind(&'a str),
    /// Searching below this base.
    Search(&'a str),
    /// Changing an account, bound as `who`.
    Modify {
        who: &'a str,
        dn: &'a str,
    },
}

/// A result other than success, as it came.
#[derive(Debug, Clone, Copy)]
pub struct ServerResult<'a> {
    pub code: u32,
    /// The server's own text; empty when it said nothing.
    pub diagnostic: &'a str,
    /// The part of the base that exists (RFC 4511 §4.1.9), when the base does not.
    pub matched: &'a str,
}

/// The longest text of a server that is shown.
const TEXT_MAX: usize = 300;

/// A server's text as it may be shown and logged: one line, no control characters, not too long.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(TEXT_MAX));
    for c in text.chars() {
        if out.len() >= TEXT_MAX {
            out.push('…');
            break;
        }
        let is_hidden = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        out.push(if is_hidden { ' ' } else { c });
    }
    out.trim().to_owned()
}

/// The standard's name of a result code.
pub fn code_name(code: u32) -> &'static str {
    match code {
        0 => "success",
        1 => "operationsError",
        2 => "protocolError",
        3 => "timeLimitExceeded",
        4 => "sizeLimitExceeded",
        7 => "authMethodNotSupported",
        8 => "strongerAuthRequired",
        10 => "referral",
        11 => "adminLimitExceeded",
        12 => "unavailableCriticalExtension",
        13 => "confidentialityRequired",
        14 => "saslBindInProgress",
        16 => "noSuchAttribute",
        17 => "undefinedAttributeType",
        18 => "inappropriateMatching",
        19 => "constraintViolation",
        21 => "invalidAttributeSyntax",
        32 => "noSuchObject",
        33 => "aliasProblem",
        34 => "invalidDNSyntax",
        36 => "aliasDereferencingProblem",
        48 => "inappropriateAuthentication",
        49 => "invalidCredentials",
        50 => "insufficientAccessRights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwillingToPerform",
        54 => "loopDetect",
        71 => "affectsMultipleDSAs",
        80 => "other",
        88 => "canceled",
        118 => "canceled",
        122 => "assertionFailed",
        4096 => "syncRefreshRequired",
        _ => "unknown result",
    }
}

/// Turns a refusal into a failure. `server` is the address as configured.
pub fn failure(operation: Operation<'_>, server: &str, result: ServerResult<'_>) -> Failure {
    let diagnostic = printable(result.diagnostic);
    let said = if diagnostic.is_empty() {
        format!("LDAP result {} {}", result.code, code_name(result.code))
    } else {
        format!("LDAP result {} {}: {diagnostic}", result.code, code_name(result.code))
    };
    let (kind, message, next_step) = match operation {
        Operation::StartTls => (
            FailureKind::StartTlsRefused,
            format!("{server} refused StartTLS, so nothing was sent ({said})."),
            "Enable TLS on the LDAP server (olcTLSCertificateFile and olcTLSCertificateKeyFile), or use an ldaps:// address.".to_owned(),
        ),
        Operation::Bind(dn) => bind(&printable(dn), server, result.code, &diagnostic, &said),
        Operation::Search(base) => search(&printable(base), server, result, &diagnostic, &said),
        Operation::Modify { who, dn } => modify(&printable(who), &printable(dn), server, result.code, &diagnostic, &said),
    };
    Failure::new(kind, message, next_step)
}

/// No answer to a bind in time.
pub fn bind_timed_out(server: &str, limit: Duration) -> Failure {
    Failure::new(
        FailureKind::TimedOut,
        format!("{server} did not answer the bind within {}.", seconds(limit)),
        "Check that an LDAP server listens on this port (ldaps:// and ldap:// have different ports) and its load.",
    )
}

/// No answer to a search in time.
pub fn silent(server: &str, base: &str, limit: Duration) -> Failure {
    Failure::new(
        FailureKind::TimedOut,
        format!("{server} fell silent for {} during the search below {}.", seconds(limit), printable(base)),
        "Look at the load and the log of the LDAP server; a filter on attributes without an index can take this long.",
    )
}

/// No answer to a change in time: whether it was made is not known.
pub fn modify_timed_out(server: &str, limit: Duration) -> Failure {
    Failure::new(
        FailureKind::TimedOut,
        format!("{server} did not answer a change within {}.", seconds(limit)),
        "Look at the load and the log of the LDAP server.",
    )
}

/// The server hung up.
pub fn closed(server: &str) -> Failure {
    Failure::new(
        FailureKind::ConnectionLost,
        format!("{server} closed the connection in the middle."),
        "Check that the LDAP server is running and that no firewall cuts long connections, then run again.",
    )
}

/// The connection broke, for the reason that the system gives.
pub fn lost(server: &str, reason: &str) -> Failure {
    Failure::new(
        FailureKind::ConnectionLost,
        format!("The connection to {server} was lost: {}.", printable(reason)),
        "Check that the LDAP server is running and that no firewall cuts long connections, then run again.",
    )
}

/// A notice of disconnection (RFC 4511 §4.4.1) with its text.
pub fn ended_with_notice(server: &str, text: &str) -> Failure {
    let text = if text.is_empty() { "(no reason given)" } else { text };
    Failure::new(
        FailureKind::ConnectionLost,
        format!("{server} ended the connection and said: {text}."),
        "Look at the LDAP server's log; it is usually being stopped or restarted.",
    )
}

fn bind(dn: &str, server: &str, code: u32, diagnostic: &str, said: &str) -> (FailureKind, String, String) {
    if code == 49
        && let Some((kind, message, next_step)) = windows::bind(dn, server, diagnostic)
    {
        return (kind, format!("{message} ({said})."), next_step.to_owned());
    }
    let lower = diagnostic.to_ascii_lowercase();
    match code {
        8 if windows::demands_signing(diagnostic) => (
            FailureKind::ConfidentialityRequired,
            format!("{server} takes a password over an encrypted or signed connection only ({said})."),
            "Use an ldaps:// address, or switch StartTLS on. Domain controllers that demand signing refuse plain LDAP."
                .to_owned(),
        ),
        // slapd also answers 49 for a bind DN that does not exist, so that the two can't be told apart.
        49 if lower.contains("locked") => (
            FailureKind::InvalidCredentials,
            format!("{server} says that the account {dn} is locked ({said})."),
            "Unlock the account in the directory, then correct the password here if it was wrong.".to_owned(),
        ),
        49 => (
            FailureKind::InvalidCredentials,
            format!("{server} does not accept the bind DN {dn} with this password ({said})."),
            "Correct bind DN and password; try them with: ldapwhoami -x -W -D 'BIND DN' -H 'SERVER'.".to_owned(),
        ),
        48 => (
            FailureKind::InvalidCredentials,
            format!("{server} does not let {dn} bind with a password ({said})."),
            "Give the account a userPassword, or use another account.".to_owned(),
        ),
        32 => (
            FailureKind::InvalidCredentials,
            format!("{server} has no account {dn} ({said})."),
            "Correct the bind DN.".to_owned(),
        ),
        34 => (
            FailureKind::InvalidSettings,
            format!("{server} can't read the bind DN {dn} ({said})."),
            "Write the bind DN as the directory does, for example cn=reader,ou=services,dc=example,dc=com.".to_owned(),
        ),
        8 | 13 => confidentiality(server, said),
        7 | 53 => (
            FailureKind::AccessDenied,
            format!("{server} does not allow this way of binding for {dn} ({said})."),
            "Allow simple binds over TLS for this account in the LDAP server.".to_owned(),
        ),
        50 => (
            FailureKind::AccessDenied,
            format!("{server} does not allow {dn} to bind ({said})."),
            "Give anonymous `auth` access to the account's userPassword in the server's access rules.".to_owned(),
        ),
        10 => referral(server, said),
        3 | 4 | 11 => limit(server, "the bind", said),
        51 | 52 => busy(server, said),
        _ => (
            FailureKind::Other,
            format!("{server} refused the bind of {dn} ({said})."),
            "Look at the LDAP server's log at this time.".to_owned(),
        ),
    }
}

fn search(
    base: &str,
    server: &str,
    result: ServerResult<'_>,
    diagnostic: &str,
    said: &str,
) -> (FailureKind, String, String) {
    let lower = diagnostic.to_ascii_lowercase();
    match result.code {
        32 => {
            let matched = printable(result.matched);
            let exists = if matched.is_empty() { String::new() } else { format!(" The part that exists is {matched}.") };
            (
                FailureKind::NoSuchBase,
                format!("The base {base} does not exist on {server}, or the bind DN may not see it ({said}).{exists}"),
                "Correct the base DN, or give the bind DN read access to it.".to_owned(),
            )
        }
        34 => (
            FailureKind::InvalidSettings,
            format!("{server} can't read the base DN {base} ({said})."),
            "Write the base DN as the directory does, for example ou=people,dc=example,dc=com.".to_owned(),
        ),
        50 if lower.contains("restricted to bind") => (
            FailureKind::AccessDenied,
            format!("{server} lets the bind DN do nothing until its password is changed ({said})."),
            "Change the password of the bind account in the directory, then enter the new one here.".to_owned(),
        ),
        50 => (
            FailureKind::AccessDenied,
            format!("The bind DN may not read {base} on {server} ({said})."),
            "Give the bind DN read access to users and groups in the server's access rules.".to_owned(),
        ),
        8 | 13 => confidentiality(server, said),
        10 => referral(server, said),
        71 => referral(server, said),
        3 => (
            FailureKind::LimitExceeded,
            format!("{server} stopped the search below {base} after its time limit; a part of an answer is never used ({said})."),
            "Raise the time limit for the bind DN (olcLimits: dn.exact=\"BIND DN\" time=unlimited), or index the attributes of the filter.".to_owned(),
        ),
        4 => limit(server, &format!("the search below {base}"), said),
        11 => (
            FailureKind::LimitExceeded,
            format!("{server} stopped the search below {base} at an administrative limit; a part of an answer is never used ({said})."),
            "Raise the limits for the bind DN (olcLimits: size.pr=unlimited size.prtotal=unlimited size.unchecked=unlimited).".to_owned(),
        ),
        51 | 52 => busy(server, said),
        1 if lower.contains("bind") => (
            FailureKind::AccessDenied,
            format!("{server} wants a bind before this search ({said})."),
            "Check the bind DN and its rights.".to_owned(),
        ),
        18 | 21 | 17 => (
            FailureKind::InvalidSettings,
            format!("{server} can't use the filter below {base} ({said})."),
            "Correct the filter: an attribute is unknown to the server or can't be compared this way.".to_owned(),
        ),
        53 => (
            FailureKind::AccessDenied,
            format!("{server} is unwilling to search below {base} ({said})."),
            "Look at the LDAP server's log and its olcRequires, olcDisallows and limits settings.".to_owned(),
        ),
        12 => (
            FailureKind::Other,
            format!("{server} refuses to search in pages ({said})."),
            "Allow paged results (1.2.840.113556.1.4.319) for the bind DN.".to_owned(),
        ),
        _ => (
            FailureKind::Other,
            format!("{server} refused the search below {base} ({said})."),
            "Look at the LDAP server's log at this time.".to_owned(),
        ),
    }
}

fn modify(who: &str, dn: &str, server: &str, code: u32, diagnostic: &str, said: &str) -> (FailureKind, String, String) {
    if let Some((kind, message, next_step)) = windows::modify(who, dn, diagnostic) {
        return (kind, format!("{message} ({said})."), next_step.to_owned());
    }
    match code {
        50 => (
            FailureKind::AccessDenied,
            format!("{who} may not make this change to {dn} ({said})."),
            "Give the acting account write access to the attribute in the server's access rules.".to_owned(),
        ),
        32 => (
            FailureKind::NotFound,
            format!("{dn} is not on {server} any more, or {who} may not see it ({said})."),
            "Sync the directory, then look at the account again.".to_owned(),
        ),
        // A value that is taken away has to be there, one that is added must not; and what was asserted has to hold
        // (RFC 4528).
        16 | 20 | 122 => (
            FailureKind::Changed,
            format!("{dn} was changed by somebody else at the same moment ({said})."),
            "It is tried again with the new state.".to_owned(),
        ),
        17 => (
            FailureKind::InvalidSettings,
            format!("{server} does not know the attribute that is to be changed ({said})."),
            "Load the schema that defines it (ppolicy: the module ppolicy.la), or set another attribute in the directory's settings.".to_owned(),
        ),
        65 => (
            FailureKind::InvalidSettings,
            format!("The object classes of {dn} do not allow the attribute that is to be changed ({said})."),
            "Give the accounts an object class that allows it, or set another attribute in the directory's settings.".to_owned(),
        ),
        19 | 21 => (
            FailureKind::InvalidSettings,
            format!("{server} does not accept the new value for {dn} ({said})."),
            "Correct the values in the directory's settings for actions.".to_owned(),
        ),
        8 | 13 => confidentiality(server, said),
        10 => (
            FailureKind::Referral,
            format!("{server} takes no changes and points at another server ({said})."),
            "Put the server that takes changes (the provider) first in the directory's list of servers.".to_owned(),
        ),
        3 | 4 | 11 => limit(server, "the change", said),
        51 | 52 => busy(server, said),
        53 => (
            FailureKind::Refused,
            format!("{server} is unwilling to change {dn} ({said})."),
            "Look at the server's log at this time; a read-only replica or database refuses every change.".to_owned(),
        ),
        _ => (
            FailureKind::Refused,
            format!("{server} refused to change {dn} ({said})."),
            "Look at the LDAP server's log at this time.".to_owned(),
        ),
    }
}

fn confidentiality(server: &str, said: &str) -> (FailureKind, String, String) {
    (
        FailureKind::ConfidentialityRequired,
        format!("{server} demands an encrypted connection ({said})."),
        "Use an ldaps:// address, or switch StartTLS on.".to_owned(),
    )
}

fn referral(server: &str, said: &str) -> (FailureKind, String, String) {
    (
        FailureKind::Referral,
        format!("{server} does not hold this part of the directory and points to another server ({said})."),
        "Referrals are never followed: enter the server that holds this base, or correct the base DN.".to_owned(),
    )
}

fn limit(server: &str, what: &str, said: &str) -> (FailureKind, String, String) {
    (
        FailureKind::LimitExceeded,
        format!("{server} stopped {what} at its size limit; a part of an answer is never used ({said})."),
        "Raise the limit for the bind DN, in OpenLDAP: olcLimits: dn.exact=\"BIND DN\" size=unlimited size.prtotal=unlimited.".to_owned(),
    )
}

fn busy(server: &str, said: &str) -> (FailureKind, String, String) {
    (
        FailureKind::ServerBusy,
        format!("{server} is too busy or not available ({said})."),
        "Wait for the next run, or look at the load and the log of the LDAP server.".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_result_has_its_kind_a_sentence_and_a_next_step() {
        use FailureKind as K;
        let bind = Operation::Bind("cn=reader,dc=x");
        let search = Operation::Search("ou=people,dc=x");
        for (operation, code, diagnostic, kind, part) in [
            (bind, 49, "", K::InvalidCredentials, "with this password"),
            (bind, 49, "Account locked", K::InvalidCredentials, "is locked"),
            (bind, 48, "", K::InvalidCredentials, "bind with a password"),
            (bind, 32, "", K::InvalidCredentials, "no account"),
            (bind, 34, "invalid DN", K::InvalidSettings, "can't read the bind DN"),
            (bind, 8, "", K::ConfidentialityRequired, "encrypted"),
            (bind, 13, "confidentiality required", K::ConfidentialityRequired, "encrypted"),
            (bind, 53, "unauthenticated bind (DN with no password) disallowed", K::AccessDenied, "way of binding"),
            (bind, 50, "", K::AccessDenied, "to bind"),
            (bind, 51, "", K::ServerBusy, "busy"),
            (bind, 52, "", K::ServerBusy, "busy"),
            (bind, 10, "", K::Referral, "another server"),
            (bind, 80, "internal error", K::Other, "internal error"),
            (
                bind,
                49,
                "80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data 775, v4563",
                K::InvalidCredentials,
                "is locked after",
            ),
            (
                bind,
                8,
                "BindSimple: Transport encryption required.",
                K::ConfidentialityRequired,
                "encrypted or signed connection only",
            ),
            (search, 32, "", K::NoSuchBase, "does not exist"),
            (search, 34, "", K::InvalidSettings, "base DN"),
            (search, 50, "", K::AccessDenied, "may not read"),
            (
                search,
                50,
                "Operations are restricted to bind/unbind/abandon/StartTLS/modify password",
                K::AccessDenied,
                "until its password is changed",
            ),
            (search, 3, "", K::LimitExceeded, "time limit"),
            (search, 4, "", K::LimitExceeded, "size limit"),
            (search, 11, "", K::LimitExceeded, "administrative limit"),
            (search, 51, "", K::ServerBusy, "busy"),
            (search, 52, "", K::ServerBusy, "busy"),
            (search, 10, "", K::Referral, "another server"),
            (search, 71, "", K::Referral, "another server"),
            (search, 13, "", K::ConfidentialityRequired, "encrypted"),
            (search, 53, "", K::AccessDenied, "unwilling"),
            (
                search,
                1,
                "000004DC: LdapErr: In order to perform this operation a successful bind must be completed",
                K::AccessDenied,
                "wants a bind",
            ),
            (search, 12, "", K::Other, "in pages"),
            (search, 80, "", K::Other, "refused the search"),
            (search, 9999, "", K::Other, "unknown result"),
            (Operation::StartTls, 2, "unsupported extended operation", K::StartTlsRefused, "refused StartTLS"),
            (Operation::StartTls, 52, "", K::StartTlsRefused, "refused StartTLS"),
        ] {
            let failure = failure(operation, "ldap://h:389", ServerResult { code, diagnostic, matched: "" });
            assert_eq!(failure.kind, kind, "{operation:?} {code}");
            assert!(failure.message.contains(part), "{operation:?} {code}: {}", failure.message);
            assert!(failure.message.contains("ldap://h:389"), "{}", failure.message);
            assert!(failure.message.contains(&code.to_string()), "{}", failure.message);
            assert!(!failure.next_step.is_empty());
        }
        let base = failure(search, "s", ServerResult { code: 32, diagnostic: "", matched: "dc=x" });
        assert!(base.message.contains("The part that exists is dc=x."), "{}", base.message);
    }

    #[test]
    fn a_servers_text_is_shown_without_its_tricks() {
        assert_eq!(printable("a\r\nb\0c\u{1b}[31m\u{202e}d"), "a  b c [31m d");
        assert!(printable(&"x".repeat(10_000)).len() < 310);
        assert_eq!(printable("  "), "");
    }
}
