//! Handing a mail to the mail server, step by step: by one road the queue sends and the test in the console looks.
//!
//! Owns the order of the steps and how long each may take. It must never send a password, a recipient or a message over a
//! way that is less protected than the settings say, nor wait without a limit.

use std::{
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt as _;
use lettre::{
    Message,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        Error as SmtpError,
        authentication::{Credentials, Mechanism},
        client::AsyncSmtpConnection,
        commands::{Data, Mail as MailFrom, Quit, Rcpt, Rset},
        extension::{ClientId, Extension, MailParameter},
    },
};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{
    dialogue::{self, Broken, Reply, Socket, Wire},
    model::{Mail, Security, Server, check_address},
    words,
};
use crate::{
    clock::{SECOND, Time},
    connectors::{
        Failure, FailureKind, ProbeStep, StepState,
        ldap::errors::printable,
        tls::{self, CertificateView, Trust},
    },
    error::{Error, Result},
    secret::Secret,
};

/// How many addresses of a name are tried.
const ADDRESSES_MAX: usize = 4;
/// A certificate that ends sooner is a warning.
const EXPIRY_WARNING_DAYS: i64 = 30;

/// How long is waited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Resolving the name, and connecting to one address.
    pub connect: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// The reply to a command.
    pub reply: Duration,
    /// The reply to a message: the server may look for viruses first.
    pub message: Duration,
}

impl Patience {
    /// In the background. RFC 5321 §4.5.3.2 asks for minutes; what takes longer than this is tried again.
    pub(super) const SENDING: Self = Self {
        connect: Duration::from_secs(15),
        tls: Duration::from_secs(20),
        reply: Duration::from_secs(60),
        message: Duration::from_secs(180),
    };
    /// While a person waits.
    pub(super) const TESTING: Self = Self {
        connect: Duration::from_secs(8),
        tls: Duration::from_secs(8),
        reply: Duration::from_secs(15),
        message: Duration::from_secs(30),
    };
}

/// Where it ended, and why.
#[derive(Debug)]
pub(super) struct Stop {
    pub step: &'static str,
    pub failure: Failure,
    pub end: End,
}

/// What becomes of the mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Another try later may do.
    Later,
    /// The server will never take it (a 5xx reply to its recipient or its content).
    Never,
    /// The connection is of no use any more; another try later may do.
    Lost,
}

fn stop(step: &'static str, failure: Failure) -> Stop {
    Stop { step, failure, end: End::Lost }
}

/// What went well, for whoever looks.
pub(super) struct Steps {
    target: String,
    steps: Vec<ProbeStep>,
}

impl Steps {
    pub(super) fn new(server: &Server) -> Self {
        Self { target: words::address(server), steps: Vec::new() }
    }

    fn push(&mut self, step: &str, state: StepState, message: String, fix: Option<String>) {
        let target = (step == "connect").then(|| self.target.clone());
        self.steps.push(ProbeStep { step: step.to_owned(), target, state, message, fix });
    }

    fn ok(&mut self, step: &str, message: String) {
        self.push(step, StepState::Ok, message, None);
    }

    fn warning(&mut self, step: &str, message: String, fix: String) {
        self.push(step, StepState::Warning, message, Some(fix));
    }

    /// All steps: what was done, what failed, and what was not tried because of it.
    fn ended(mut self, stop: Option<Stop>) -> Vec<ProbeStep> {
        if let Some(Stop { step, failure, .. }) = stop {
            self.push(step, StepState::Failed, failure.message, Some(failure.next_step));
        }
        for step in words::STEPS {
            if !self.steps.iter().any(|done| done.step == step) {
                self.push(step, StepState::Skipped, "Not tried, because of the step above.".to_owned(), None);
            }
        }
        self.steps
    }
}

/// Sends `mail` now and tells every step.
pub(super) async fn probe(
    server: &Server,
    password: &Secret<String>,
    mail: &Mail,
    now: Time,
    patience: &Patience,
) -> Vec<ProbeStep> {
    let mut steps = Steps::new(server);
    let stop = match Session::open(server, password, now, patience, &mut steps).await {
        Err(stop) => Some(stop),
        Ok(mut session) => {
            let id = uuid::Uuid::now_v7().to_string();
            let stop = match message(server, mail, &id, now) {
                Ok(message) => session.deliver(&message, &mut steps).await.err(),
                Err(error) => {
                    let failure =
                        Failure::new(FailureKind::InvalidSettings, error.to_string(), "Correct the addresses.");
                    Some(self::stop("sender", failure))
                }
            };
            session.close().await;
            stop
        }
    };
    steps.ended(stop)
}

/// The mail as it is sent (RFC 5322, MIME): text and HTML, the same for every try.
pub(super) fn message(server: &Server, mail: &Mail, id: &str, created_at: Time) -> Result<Message> {
    let address = |text: &str| check_address(text).map_err(|message| Error::Conflict(format!("{text}: {message}")));
    let from = address(&server.from_address)?;
    // The settings' check keeps line ends out; the client would panic on one.
    let name = Some(printable(&server.from_name)).filter(|name| !name.is_empty());
    let message_id = format!("<{id}@{}>", from.domain());
    let seconds = u64::try_from(created_at.0 / SECOND).unwrap_or(0);
    let mut builder = Message::builder()
        .from(Mailbox::new(name, from))
        // Never with a name: a name is what people choose (HOSTILE A24).
        .to(Mailbox::new(None, address(&mail.recipient)?))
        .subject(printable(&mail.subject))
        .date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        .message_id(Some(message_id));
    if !server.reply_to.is_empty() {
        builder = builder.reply_to(Mailbox::new(None, address(&server.reply_to)?));
    }
    // RFC 3834 §5: nobody's "I am on holiday" answers it.
    for (name, value) in [("Auto-Submitted", "auto-generated"), ("X-Auto-Response-Suppress", "All")] {
        let name = HeaderName::new_from_ascii(name.to_owned());
        let name = name.map_err(|_| Error::internal("a header's name is not ASCII"))?;
        builder = builder.raw_header(HeaderValue::new(name, value.to_owned()));
    }
    builder
        .multipart(MultiPart::alternative_plain_html(mail.text.clone(), mail.html.clone()))
        .map_err(|error| Error::caused("a mail could not be put together", error))
}

/// A connection on which mails can be handed over.
pub(super) struct Session {
    connection: AsyncSmtpConnection,
    server: Server,
    patience: Patience,
}

impl Session {
    /// Name, connection, encryption, greeting, sign-in.
    pub(super) async fn open(
        server: &Server,
        password: &Secret<String>,
        now: Time,
        patience: &Patience,
        steps: &mut Steps,
    ) -> Result<Self, Stop> {
        let addresses = resolve(server, patience).await.map_err(|failure| stop("name-resolution", failure))?;
        let texts: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
        steps.ok("name-resolution", format!("{} has the address {}.", server.host, texts.join(", ")));
        let mut stream = connect(server, &addresses, patience).await.map_err(|failure| stop("connect", failure))?;
        let end = |error: std::io::Error| stop("connect", words::lost(server, "connecting", &error.to_string()));
        let (peer, own) = (stream.peer_addr().map_err(end)?, stream.local_addr().map_err(end)?);
        steps.ok("connect", format!("{peer} accepts connections."));
        // RFC 5321 §4.1.3: a machine that need not have a name says its address.
        let own = match own.ip() {
            std::net::IpAddr::V4(ip) => ClientId::Ipv4(ip),
            std::net::IpAddr::V6(ip) => ClientId::Ipv6(ip),
        };
        let (mut socket, greeting) = match server.security {
            Security::Tls => (encrypt(stream, server, now, patience, steps).await?, None),
            Security::StartTls => {
                let greeting = start_tls(&mut stream, server, &own, patience).await?;
                (encrypt(stream, server, now, patience, steps).await?, Some(greeting))
            }
            Security::None => {
                steps.warning(
                    "tls",
                    "The connection is not encrypted, as the settings accept: mails, links in them and the password can be read and altered on the way.".to_owned(),
                    "Choose TLS or STARTTLS.".to_owned(),
                );
                (Socket::Plain(stream), None)
            }
        };
        let greeting = match greeting {
            Some(greeting) => greeting,
            None => greeted(server, patience, dialogue::read_reply(&mut socket)).await?,
        };
        let begun =
            AssertUnwindSafe(AsyncSmtpConnection::connect_with_transport(Box::new(Wire::new(socket, peer)), &own));
        let doing = "telling what it offers";
        // The client panics on a capability of spaces only; that is one server's fault and nobody else's trouble.
        let connection = match timeout(patience.reply, begun.catch_unwind()).await {
            Err(_) => return Err(stop("greeting", words::silent(server, doing, patience.reply))),
            Ok(Err(_)) => return Err(stop("greeting", words::lost(server, doing, "its answer makes no sense"))),
            Ok(Ok(Err(error))) => return Err(refused("greeting", server, "", doing, &error)),
            Ok(Ok(Ok(connection))) => connection,
        };
        let offered: Vec<String> = [
            Extension::Authentication(Mechanism::Plain),
            Extension::Authentication(Mechanism::Login),
            Extension::EightBitMime,
            Extension::SmtpUtfEight,
        ]
        .into_iter()
        .filter(|extension| connection.server_info().supports_feature(*extension))
        .map(|extension| extension.to_string())
        .collect();
        let offered = if offered.is_empty() { "nothing that is of use here".to_owned() } else { offered.join(", ") };
        steps.ok("greeting", format!("It says “{}” and offers {offered}.", printable(&greeting.text())));
        let mut session = Self { connection, server: server.clone(), patience: *patience };
        session.sign_in(password, steps).await?;
        Ok(session)
    }

    async fn sign_in(&mut self, password: &Secret<String>, steps: &mut Steps) -> Result<(), Stop> {
        let server = &self.server;
        if server.user_name.is_empty() {
            let message = "No user name is set: the server has to take mails without.".to_owned();
            steps.push("sign-in", StepState::Skipped, message, None);
            return Ok(());
        }
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        if self.connection.server_info().get_auth_mechanism(&mechanisms).is_none() {
            let failure = Failure::new(
                FailureKind::AccessDenied,
                format!(
                    "{} offers no sign-in with a user name and password (AUTH PLAIN or LOGIN).",
                    words::address(server)
                ),
                "Empty user name and password if this server needs none; otherwise use the port for sending with a sign-in (587 or 465).",
            );
            return Err(stop("sign-in", failure));
        }
        let credentials = Credentials::new(server.user_name.clone(), password.expose().clone());
        let asked = self.connection.auth(&mechanisms, &credentials);
        match timeout(self.patience.reply, asked).await {
            Err(_) => Err(stop("sign-in", words::silent(server, "signing in", self.patience.reply))),
            Ok(Ok(_)) => {
                steps.ok("sign-in", format!("{} is accepted.", printable(&server.user_name)));
                Ok(())
            }
            Ok(Err(error)) => {
                let said = words::without_password(&said(&error), &server.user_name, password);
                Err(match error.status() {
                    Some(code) => stop("sign-in", words::refused("sign-in", server, "", code.into(), &said)),
                    None => stop("sign-in", words::lost(server, "signing in", &said)),
                })
            }
        }
    }

    /// Hands one message over. After [`End::Later`] and [`End::Never`] the next one may follow.
    pub(super) async fn deliver(&mut self, message: &Message, steps: &mut Steps) -> Result<(), Stop> {
        let envelope = message.envelope();
        let (Some(from), Some(to)) = (envelope.from(), envelope.to().first()) else {
            let failure =
                Failure::new(FailureKind::InvalidSettings, "The mail has no sender or recipient.", "Report this.");
            return Err(Stop { step: "sender", failure, end: End::Never });
        };
        let recipient = printable(to.as_ref());
        let mut options = Vec::new();
        let is_ascii = |address: &lettre::Address| AsRef::<str>::as_ref(address).is_ascii();
        if !(is_ascii(from) && is_ascii(to)) {
            if !self.connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                let failure = Failure::new(
                    FailureKind::Refused,
                    format!(
                        "{} takes no addresses like {recipient} (it does not offer SMTPUTF8).",
                        words::address(&self.server)
                    ),
                    "Use an address of plain letters, or a mail server that offers SMTPUTF8.",
                );
                return Err(Stop { step: "recipient", failure, end: End::Never });
            }
            options.push(MailParameter::SmtpUtfEight);
        }
        self.ask("sender", &recipient, MailFrom::new(Some(from.clone()), options)).await?;
        steps.ok("sender", format!("Mails from {} are taken.", printable(from.as_ref())));
        self.ask("recipient", &recipient, Rcpt::new(to.clone(), Vec::new())).await?;
        steps.ok("recipient", format!("Mails for {recipient} are taken."));
        self.ask("message", &recipient, Data).await?;
        let formatted = message.formatted();
        let sent = self.connection.message(&formatted);
        let limit = self.patience.message;
        match timeout(limit, sent).await {
            Err(_) => Err(stop("message", words::silent(&self.server, "taking the message", limit))),
            Ok(Ok(reply)) => {
                let reply = printable(&reply.message().collect::<Vec<_>>().join(" "));
                steps.ok("message", format!("The mail for {recipient} was taken; the server said: {reply}."));
                Ok(())
            }
            Ok(Err(error)) => Err(refused("message", &self.server, &recipient, "taking the message", &error)),
        }
    }

    /// One command of a delivery; after a refusal the dialogue is back at its start.
    async fn ask(&mut self, step: &'static str, recipient: &str, command: impl std::fmt::Display) -> Result<(), Stop> {
        let limit = self.patience.reply;
        let mut stopped = match timeout(limit, self.connection.command(command)).await {
            Err(_) => return Err(stop(step, words::silent(&self.server, "taking a mail", limit))),
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => refused(step, &self.server, recipient, "taking a mail", &error),
        };
        if stopped.end != End::Lost && !matches!(timeout(limit, self.connection.command(Rset)).await, Ok(Ok(_))) {
            stopped.end = if stopped.end == End::Never { End::Never } else { End::Lost };
        }
        Err(stopped)
    }

    /// Says good-bye; whether the server answers is of no interest.
    pub(super) async fn close(mut self) {
        let _ = timeout(Duration::from_secs(2), self.connection.command(Quit)).await;
    }
}

/// The text of a reply that was an error, without the client's words around it.
fn said(error: &SmtpError) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    source.unwrap_or_else(|| if error.status().is_some() { String::new() } else { error.to_string() })
}

/// A reply that refuses, or none.
fn refused(step: &'static str, server: &Server, recipient: &str, doing: &str, error: &SmtpError) -> Stop {
    let Some(code) = error.status() else { return stop(step, words::lost(server, doing, &said(error))) };
    let code = u16::from(code);
    let end = match code {
        // RFC 5321 §3.8: the server hangs up.
        421 => End::Lost,
        // A refused sender is a matter of our settings: the mail can go out once they are right.
        500.. if step != "sender" && step != "greeting" => End::Never,
        _ => End::Later,
    };
    Stop { step, failure: words::refused(step, server, recipient, code, &said(error)), end }
}

async fn resolve(server: &Server, patience: &Patience) -> Result<Vec<SocketAddr>, Failure> {
    let host = server.host.as_str();
    if let Ok(ip) = host.parse::<std::net::IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, server.port)]);
    }
    match timeout(patience.connect, tokio::net::lookup_host((host, server.port))).await {
        Err(_) => Err(words::unresolved(host, "no answer in time")),
        Ok(Err(error)) => Err(words::unresolved(host, &error.to_string())),
        Ok(Ok(addresses)) => {
            let addresses: Vec<_> = addresses.take(ADDRESSES_MAX).collect();
            if addresses.is_empty() { Err(words::unresolved(host, "it has no address")) } else { Ok(addresses) }
        }
    }
}

async fn connect(server: &Server, addresses: &[SocketAddr], patience: &Patience) -> Result<TcpStream, Failure> {
    let mut reasons = Vec::new();
    for address in addresses {
        match timeout(patience.connect, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => reasons.push(format!("{address}: {error}")),
            Err(_) => reasons.push(format!("{address}: no answer within {} s", patience.connect.as_secs())),
        }
    }
    Err(words::unreachable(server, &reasons))
}

/// The greeting; any other reply is a refusal.
async fn greeted(
    server: &Server,
    patience: &Patience,
    reading: impl Future<Output = Result<Reply, Broken>>,
) -> Result<Reply, Stop> {
    match timeout(patience.reply, reading).await {
        Err(_) => Err(stop("greeting", words::silent(server, "greeting", patience.reply))),
        Ok(Err(broken)) => Err(stop("greeting", words::lost(server, "greeting", &broken.to_string()))),
        Ok(Ok(reply)) if reply.code == 220 => Ok(reply),
        Ok(Ok(reply)) => Err(stop("greeting", words::refused("greeting", server, "", reply.code, &reply.text()))),
    }
}

/// From the greeting to the server's consent to begin TLS. Nothing but EHLO and STARTTLS is sent.
async fn start_tls(
    stream: &mut TcpStream,
    server: &Server,
    own: &ClientId,
    patience: &Patience,
) -> Result<Reply, Stop> {
    let greeting = greeted(server, patience, dialogue::read_reply(stream)).await?;
    let asked = |reply: Result<Result<Reply, Broken>, tokio::time::error::Elapsed>| match reply {
        Err(_) => Err(stop("tls", words::silent(server, "asked for STARTTLS", patience.reply))),
        Ok(Err(broken)) => Err(stop("tls", words::lost(server, "asked for STARTTLS", &broken.to_string()))),
        Ok(Ok(reply)) => Ok(reply),
    };
    let offer = asked(timeout(patience.reply, dialogue::command(stream, &format!("EHLO {own}"))).await)?;
    if offer.code != 250 {
        return Err(stop("greeting", words::refused("greeting", server, "", offer.code, &offer.text())));
    }
    if !offer.offers("STARTTLS") {
        return Err(stop("tls", words::no_start_tls(server)));
    }
    let consent = asked(timeout(patience.reply, dialogue::command(stream, "STARTTLS")).await)?;
    if consent.code == 220 {
        Ok(greeting)
    } else {
        Err(stop("tls", words::refused("tls", server, "", consent.code, &consent.text())))
    }
}

async fn encrypt(
    stream: TcpStream,
    server: &Server,
    now: Time,
    patience: &Patience,
    steps: &mut Steps,
) -> Result<Socket, Stop> {
    let ca_pem = Some(server.ca_pem.as_str()).filter(|pem| !pem.is_empty());
    let trust = Trust::new(ca_pem).map_err(|failure| stop("tls", failure))?;
    let (config, seen) = trust.client_config().map_err(|failure| stop("tls", failure))?;
    let name = ServerName::try_from(server.host.clone()).map_err(|_| {
        let message = format!("{} is no valid host name.", server.host);
        stop("tls", Failure::new(FailureKind::InvalidSettings, message, "Correct the host."))
    })?;
    let shaken = timeout(patience.tls, TlsConnector::from(Arc::clone(&config)).connect(name, stream)).await;
    let mut failure = match shaken {
        Ok(Ok(stream)) => {
            certificate(server, seen.view().as_ref(), now, steps);
            return Ok(Socket::Tls(Box::new(stream)));
        }
        Ok(Err(error)) => tls::failure(&error, (&words::address(server), &server.host), &trust, &seen, &words::TLS),
        Err(_) => words::silent(server, "agreeing on TLS", patience.tls),
    };
    if let Some(view) = seen.view() {
        failure.message.push_str(&format!(" SHA-256 fingerprint: {}.", view.fingerprint));
    }
    Err(stop("tls", failure))
}

fn certificate(server: &Server, view: Option<&CertificateView>, now: Time, steps: &mut Steps) {
    let how = if server.security == Security::Tls { "TLS" } else { "STARTTLS" };
    let Some(view) = view else {
        return steps.ok("tls", format!("{how} is in use and the certificate is trusted."));
    };
    let message = format!(
        "{how} is in use. The certificate is trusted: {}, issued by {}, expires {}, SHA-256 {}.",
        view.subject, view.issuer, view.not_after, view.fingerprint
    );
    let days_left = (view.not_after_second - now.0 / SECOND) / 86_400;
    if days_left < EXPIRY_WARNING_DAYS {
        let fix = format!("Renew the certificate of the mail server; it expires in {days_left} days.");
        return steps.warning("tls", message, fix);
    }
    steps.ok("tls", message);
}
