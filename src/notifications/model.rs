//! What this room works with: the mail server and how its settings are checked, links, mails, and their way to the end.
//!
//! Owns the limits of every field. It must never let a line end or another control character into what becomes a header
//! or a command (RFC 5321 §4.1.1, HOSTILE A24).

use std::fmt;

use lettre::Address;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Time,
    connectors::tls,
    email,
    error::{Error, FieldError, Result},
    secret::Secret,
    web::href,
};

const HOST_MAX: usize = 253;
const USER_NAME_MAX: usize = 256;
const PASSWORD_MAX: usize = 1024;
const FROM_NAME_MAX: usize = 100;
const CA_PEM_MAX: usize = 256 * 1024;
const BASE_URL_MAX: usize = 300;

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Security {
    /// From the first byte (RFC 8314 §3.3).
    Tls,
    /// STARTTLS (RFC 3207) before anything else; a server that does not offer it gets nothing.
    StartTls,
    /// Not at all, as was explicitly accepted.
    None,
}

impl Security {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::StartTls => "starttls",
            Self::None => "none",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Tls, Self::StartTls, Self::None].into_iter().find(|security| security.as_str() == text)
    }

    /// The usual port: RFC 8314 §7.3, RFC 6409 §3.1, RFC 5321 §4.5.4.2.
    fn port(self) -> u16 {
        match self {
            Self::Tls => 465,
            Self::StartTls => 587,
            Self::None => 25,
        }
    }
}

/// The server that takes our mails; its password is kept apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Server {
    /// A DNS name or an address without brackets.
    pub host: String,
    pub port: u16,
    pub security: Security,
    /// Empty: nobody signs in.
    pub user_name: String,
    pub from_address: String,
    pub from_name: String,
    /// Empty: answers go to the from address.
    pub reply_to: String,
    /// Empty: the system's authorities.
    pub ca_pem: String,
}

/// The form, as it comes in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct ServerInput {
    pub host: String,
    pub port: String,
    pub security: String,
    /// `on`: mails may be read on the way.
    pub accept_plaintext: String,
    pub user_name: String,
    /// Empty: the stored one.
    pub password: Secret<String>,
    pub from_address: String,
    pub from_name: String,
    pub reply_to: String,
    pub ca_pem: String,
}

impl ServerInput {
    /// The stored settings as the form shows them. Where there are none: the way most providers want it.
    pub(super) fn of(server: Option<&Server>) -> Self {
        let Some(server) = server else { return Self { security: "starttls".into(), ..Self::default() } };
        Self {
            host: server.host.clone(),
            port: server.port.to_string(),
            security: server.security.as_str().to_owned(),
            accept_plaintext: if server.security == Security::None { "on".into() } else { String::new() },
            user_name: server.user_name.clone(),
            password: Secret::default(),
            from_address: server.from_address.clone(),
            from_name: server.from_name.clone(),
            reply_to: server.reply_to.clone(),
            ca_pem: server.ca_pem.clone(),
        }
    }
}

/// What becomes of the stored password.
pub(super) enum PasswordChange {
    Keep,
    Remove,
    Set(Secret<String>),
}

/// Why a stored password is not used: whoever may edit the settings must not be able to have it sent elsewhere, or over a
/// way that others can read.
const OTHER_WAY: &str = "The server, its encryption, its authority or the user name is different from the stored one. Enter the \
     password again: the stored one is only sent to the server, and in the way, it was given for.";

/// Checks the form. `before`: what is stored now.
pub(super) fn check(input: &ServerInput, before: Option<&Server>) -> Result<(Server, PasswordChange), Vec<FieldError>> {
    let mut wrong = Vec::new();
    let mut note = |field: &str, message: &str| wrong.push(FieldError::new(field, message));
    let host = input.host.trim().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    if host.is_empty() {
        note("host", "Enter the name of the mail server, such as smtp.example.com.");
    } else if host.len() > HOST_MAX || ServerName::try_from(host.as_str()).is_err() {
        note("host", "This is not a host name or address; write only the name, such as smtp.example.com.");
    }
    let security = Security::parse(&input.security).unwrap_or_else(|| {
        note("security", "Choose how the connection is encrypted.");
        Security::StartTls
    });
    if security == Security::None && input.accept_plaintext != "on" {
        note(
            "acceptPlaintext",
            "Mails, links in them and the password could be read on the way. Accept this, or choose an encryption.",
        );
    }
    let port = match input.port.trim() {
        "" => security.port(),
        text => text.parse().ok().filter(|port| *port > 0).unwrap_or_else(|| {
            note("port", "The port is a number between 1 and 65535, usually 587, 465 or 25.");
            security.port()
        }),
    };
    let user_name = input.user_name.trim().to_owned();
    if user_name.len() > USER_NAME_MAX || user_name.chars().any(char::is_control) {
        note("userName", "A user name has at most 256 characters, and no control characters.");
    }
    let from_address = input.from_address.trim().to_owned();
    if let Err(message) = check_address(&from_address) {
        note("fromAddress", message);
    }
    let from_name = input.from_name.trim().to_owned();
    if from_name.chars().count() > FROM_NAME_MAX || from_name.chars().any(email::is_hidden) {
        note("fromName", "The name has at most 100 characters, on one line.");
    }
    let reply_to = input.reply_to.trim().to_owned();
    if !reply_to.is_empty()
        && let Err(message) = check_address(&reply_to)
    {
        note("replyTo", message);
    }
    let ca_pem = input.ca_pem.trim().to_owned();
    if ca_pem.len() > CA_PEM_MAX {
        note("caPem", "The text is too long: paste only the certificate of the authority.");
    } else if !ca_pem.is_empty()
        && let Err(message) = tls::check_ca_pem(&ca_pem)
    {
        note("caPem", &message);
    }
    let server = Server { host, port, security, user_name, from_address, from_name, reply_to, ca_pem };
    let password = input.password.expose();
    let change = if password.is_empty() {
        match before.filter(|before| !before.user_name.is_empty()) {
            _ if server.user_name.is_empty() => PasswordChange::Remove,
            Some(before) if is_same_way(before, &server) => PasswordChange::Keep,
            Some(_) => {
                note("password", OTHER_WAY);
                PasswordChange::Keep
            }
            None => {
                note("password", "Enter the password of this user name, or leave both empty.");
                PasswordChange::Keep
            }
        }
    } else {
        if server.user_name.is_empty() {
            note("userName", "Enter the user name that the password is for, or leave both empty.");
        }
        if password.len() > PASSWORD_MAX || password.chars().any(char::is_control) {
            note("password", "A password has at most 1024 characters, and no control characters.");
        }
        PasswordChange::Set(input.password.clone())
    };
    if wrong.is_empty() { Ok((server, change)) } else { Err(wrong) }
}

/// Whether a password given for the one may be sent to the other.
fn is_same_way(before: &Server, after: &Server) -> bool {
    let way = |server: &Server| {
        let Server { host, port, security, user_name, ca_pem, .. } = server.clone();
        (host, port, security, user_name, ca_pem)
    };
    way(before) == way(after)
}

/// A mail address that a mail can be sent to or from; the error is a sentence for the field.
pub(super) fn check_address(text: &str) -> Result<Address, &'static str> {
    email::parse(text).ok_or("Enter one mail address, such as bailiwick@example.com.")
}

/// The console's address from the form: scheme, host and port, without a slash at the end.
pub(super) fn check_base_url(text: &str) -> Result<String> {
    let wrong = |message: &str| Err(Error::field("baseUrl", message));
    let text = text.trim();
    let Some(url) = url::Url::parse(text).ok().filter(|_| text.len() <= BASE_URL_MAX) else {
        return wrong("Enter an address such as https://bailiwick.example.com.");
    };
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        return wrong("Enter an address such as https://bailiwick.example.com.");
    };
    let is_here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    if !(url.scheme() == "https" || url.scheme() == "http" && is_here) {
        return wrong("The address has to begin with https://: browsers keep nobody signed in over plain HTTP.");
    }
    let is_bare = url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    if !is_bare {
        return wrong("Only scheme, host and port, such as https://bailiwick.example.com:8443.");
    }
    Ok(url.origin().ascii_serialization())
}

/// A link for somebody to hand over, where no mail is sent: with the console's address in front where that is set. Which
/// address the request came to is never asked: whoever sends it chooses it (HOSTILE A20).
pub struct HandedLink {
    pub base: Option<String>,
    /// The path of the page that it opens.
    pub page: &'static str,
    pub token: Secret<String>,
}

impl HandedLink {
    /// Page and token, which every such link is made of.
    pub fn path(&self) -> String {
        href(self.page, &[("token", self.token.expose())])
    }

    /// The whole link, or its path alone where the address is not set.
    pub fn text(&self) -> String {
        format!("{}{}", self.base.as_deref().unwrap_or_default(), self.path())
    }
}

/// The same as the API answers it, this once. Empty where nothing is to be handed over.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
#[schema(as = HandedLink)]
pub struct LinkView {
    /// To be handed over: where no mail is configured, only in the answer to the request that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    /// In the place of `link` when the appliance's own address is not configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl From<HandedLink> for LinkView {
    fn from(made: HandedLink) -> Self {
        match made.base {
            Some(_) => Self { link: Some(made.text()), token: None },
            None => Self { link: None, token: Some(made.token.expose().clone()) },
        }
    }
}

/// An address of the console, whole. Made by [`link`](super::link) alone; it may hold a secret and does not print.
#[derive(Clone)]
pub struct Link(String);

impl Link {
    pub(super) fn new(base: &str, path: &str) -> Result<Self> {
        let is_fine = path.starts_with('/') && !path.starts_with("//") && path.chars().all(|c| c.is_ascii_graphic());
        if is_fine {
            Ok(Self(format!("{base}{path}")))
        } else {
            Err(Error::internal("a link to no page of the console"))
        }
    }

    /// The address itself, for a mail or a page.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link(…)")
    }
}

/// A mail, ready to be queued. Made by the kinds of mail in this room; it does not print, because links are in it.
#[derive(Clone)]
pub struct Mail {
    /// For the queue's page and the measurements: `invitation`, `password-reset` and so on.
    pub(super) kind: &'static str,
    pub(super) recipient: String,
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
    /// Whoever reads it can do something with it: it is not kept longer than needed.
    pub(super) has_secret: bool,
    /// It is not sent any more from then on.
    pub(super) expires_at: Option<Time>,
}

impl Mail {
    /// Whom it is for.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    pub fn subject(&self) -> &str {
        &self.subject
    }
}

/// A mail of the queue with its body, for sending.
pub(super) struct Queued {
    pub recipient: String,
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// A mail of the queue as the page shows it: without its body.
pub(super) struct Waiting {
    pub id: String,
    pub kind: String,
    pub recipient: String,
    pub created_at: Time,
    pub due_at: Time,
    pub attempts: i64,
    pub error: String,
    pub next_step: String,
    pub ended_at: Option<Time>,
    /// Its body is still there.
    pub can_retry: bool,
}

/// The queue at a glance.
#[derive(Default)]
pub(super) struct Counts {
    pub queued: i64,
    pub failed: i64,
    pub sent: i64,
}
