//! What mail servers say when they refuse, in plain words with a next step.
//!
//! Owns these words. It must never repeat a password, however the server wraps it: what it answers to a sign-in may hold
//! what was sent to it.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::model::{Security, Server};
use crate::{
    connectors::{Failure, FailureKind, ldap::errors::printable, tls::Words},
    secret::Secret,
};

/// How its TLS is spoken of.
pub(super) const TLS: Words =
    Words { server: "the mail server", settings: "the mail settings", ports: PORTS, hung_up: PORTS };

const PORTS: &str =
    "Check port and encryption: TLS from the first byte is usually port 465, STARTTLS usually port 587.";

/// The steps of a sending, in their order.
pub(super) const STEPS: [&str; 8] =
    ["name-resolution", "connect", "tls", "greeting", "sign-in", "sender", "recipient", "message"];

/// The steps as people say them.
pub(super) fn title(step: &str) -> &str {
    match step {
        "name-resolution" => "Name resolution",
        "connect" => "Connection",
        "tls" => "Encryption",
        "greeting" => "Greeting",
        "sign-in" => "Sign-in",
        "sender" => "Sender",
        "recipient" => "Recipient",
        "message" => "Message",
        other => other,
    }
}

/// What waits in the queue, as people say it.
pub(super) fn kind(kind: &str) -> &str {
    match kind {
        "invitation" => "Invitation",
        "verify-address" => "Address to be verified",
        "password-reset" => "Password reset",
        "password-changed" => "Password changed",
        "mfa-changed" => "Second factors changed",
        "new-device" => "New device",
        "key-expires" => "API key expires",
        "address-change" => "Change of a mail address",
        "ownership-confirmed" => "Ownership transferred",
        "account-suspended" => "Account suspended",
        "restore-asked" => "Account asked for",
        "test" => "Test",
        other => other,
    }
}

/// `mail.example.com:587`, brackets around an IPv6 address.
pub(super) fn address(server: &Server) -> String {
    let Server { host, port, .. } = server;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A refusal by reply code at a step.
pub(super) fn refused(step: &str, server: &Server, recipient: &str, code: u16, text: &str) -> Failure {
    let at = address(server);
    let text = printable(text);
    let said = if text.is_empty() { format!("it said: {code}") } else { format!("it said: {code} {text}") };
    let is_later = (400..500).contains(&code);
    let needs_sign_in = code == 530 || text.contains("5.7.0") && code < 560;
    let (kind, message, next_step) = match step {
        "greeting" => (
            if is_later { FailureKind::ServerBusy } else { FailureKind::Refused },
            format!("{at} does not talk to this machine; {said}."),
            "Look at the mail server's log; it may refuse this machine's address, or take mails on another port (587 or 465).".to_owned(),
        ),
        "tls" => (
            FailureKind::StartTlsRefused,
            format!("{at} refused STARTTLS, so nothing was sent; {said}."),
            "Look at the mail server's TLS settings and log.".to_owned(),
        ),
        "sign-in" if is_later => (
            FailureKind::ServerBusy,
            format!("{at} can't check the user name and password now; {said}."),
            "Wait a little and test again; look at the mail server's log if it stays so.".to_owned(),
        ),
        "sign-in" if matches!(code, 504 | 534 | 538) => (
            FailureKind::AccessDenied,
            format!("{at} does not let this user sign in in this way; {said}."),
            "Allow signing in with a password (SMTP AUTH) for this mailbox; some providers want an app password.".to_owned(),
        ),
        "sign-in" => (
            FailureKind::InvalidCredentials,
            format!("{at} does not accept this user name and password; {said}."),
            "Correct the user name and the password. Some providers want the whole mail address as user name, an app password instead of the mailbox's own, or SMTP AUTH switched on for the mailbox.".to_owned(),
        ),
        "sender" if needs_sign_in => (
            FailureKind::AccessDenied,
            format!("{at} wants a sign-in before it takes a mail; {said}."),
            if server.security == Security::None {
                "Choose an encryption, and enter a user name and password.".to_owned()
            } else {
                "Enter a user name and password.".to_owned()
            },
        ),
        "sender" => (
            FailureKind::Refused,
            format!("{at} does not take mails from {}; {said}.", server.from_address),
            "Use a from address that this server lets the user send from, and whose domain is its own.".to_owned(),
        ),
        "recipient" if is_later => (
            FailureKind::ServerBusy,
            format!("{at} does not take mails for {recipient} now; {said}."),
            "Wait: many servers ask unknown senders to come again after some minutes.".to_owned(),
        ),
        "recipient" => (
            FailureKind::Refused,
            format!("{at} does not take mails for {recipient}; {said}."),
if text.contains("5.1.") {
                "Check the address.".to_owned()
            } else {
                "Check the address. If it is right, this server may not pass mails on to other domains: sign in, or allow this machine to relay.".to_owned()
            },
        ),
        _ => (
            if is_later { FailureKind::ServerBusy } else { FailureKind::Refused },
            format!("{at} did not take the message for {recipient}; {said}."),
            "Look at the mail server's log: a content filter, a size limit or a full disk may be the reason.".to_owned(),
        ),
    };
    Failure::new(kind, message, next_step)
}

/// What a server answered to a sign-in, without what was sent to it.
pub(super) fn without_password(text: &str, user_name: &str, password: &Secret<String>) -> String {
    let password = password.expose();
    let sent = [
        password.clone(),
        STANDARD.encode(password),
        STANDARD.encode(format!("\0{user_name}\0{password}")),
        STANDARD.encode(format!("{user_name}\0{user_name}\0{password}")),
    ];
    let is_said = sent.iter().any(|form| !form.is_empty() && text.contains(form.trim_end_matches('=')));
    if is_said { "(an answer that repeats the password)".to_owned() } else { text.to_owned() }
}

/// The name of the server has no address.
pub(super) fn unresolved(host: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::NameResolution,
        format!("The name {host} could not be resolved: {}.", printable(why)),
        "Check the spelling and this machine's DNS settings (try: getent hosts NAME), or enter an IP address.",
    )
}

/// No address accepts a connection.
pub(super) fn unreachable(server: &Server, reasons: &[String]) -> Failure {
    Failure::new(
        FailureKind::Unreachable,
        format!("{} can't be reached ({}).", address(server), reasons.join("; ")),
        "Check host and port, that the mail server is running, and that a firewall lets this machine through. Many providers block port 25.",
    )
}

/// The server does not offer STARTTLS: perhaps it cannot, perhaps somebody on the way took it out.
pub(super) fn no_start_tls(server: &Server) -> Failure {
    Failure::new(
        FailureKind::StartTlsRefused,
        format!("{} does not offer STARTTLS, so nothing was sent.", address(server)),
        "Enable STARTTLS on the mail server, or use port 465 with TLS. If it is enabled, something between here and there takes it out of the dialogue.",
    )
}

/// The dialogue broke.
pub(super) fn lost(server: &Server, doing: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::ConnectionLost,
        format!("The dialogue with {} broke while {doing}: {}.", address(server), printable(why)),
        format!("{PORTS} Look at the mail server's log."),
    )
}

/// No answer in time.
pub(super) fn silent(server: &Server, doing: &str, limit: std::time::Duration) -> Failure {
    Failure::new(
        FailureKind::TimedOut,
        format!("{} fell silent for {} s while {doing}.", address(server), limit.as_secs()),
        format!("{PORTS} Look at the mail server's load and log."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_repeats_the_password_is_not_shown() {
        let password = Secret::new("hunter2 is long".to_owned());
        let coded = STANDARD.encode("\0bailiwick\0hunter2 is long");
        for text in
            ["535 no hunter2 is long here", &format!("501 cannot decode {coded}"), &STANDARD.encode("hunter2 is long")]
        {
            assert!(!without_password(text, "bailiwick", &password).contains(text), "{text}");
        }
        assert_eq!(without_password("5.7.8 wrong", "bailiwick", &password), "5.7.8 wrong");
        assert_eq!(without_password("5.7.8 wrong", "", &Secret::default()), "5.7.8 wrong");
    }
}
