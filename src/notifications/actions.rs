//! What is done with the mail settings and the queue: check, change, record.
//!
//! Owns where the password is sealed for. It must never write a password, or the body of a mail, into the log.

use rusqlite::Connection;
use serde_json::json;

use super::{
    mails::TestMail,
    model::{self, Link, Mail, PasswordChange, Security, Server, ServerInput},
    queries, sealing,
    smtp::{self, Patience},
};
use crate::{
    audit::{self, Entry, Outcome},
    clock::{DAY, Time},
    config::Config,
    connectors::{ProbeStep, StepState},
    error::{Error, Result},
    kernel::Kernel,
    principal::{Principal, urn},
    secret::{MasterKey, Secret},
};

/// Mails that wait; more are refused: an unreachable server must not fill the disk.
pub(super) const QUEUE_MAX: i64 = 10_000;
/// How long a mail is tried.
pub(super) const TRIED_FOR_US: i64 = DAY;
/// What the password is sealed for.
const PASSWORD_PLACE: &str = "mail_server:password:1";

/// Queues a mail in the caller's transaction: it is sent if, and only if, what it tells was committed. A conflict where no
/// mail is set up (ask [`is_configured`](super::is_configured) first), unavailable while the queue is full.
pub fn enqueue(connection: &Connection, key: &MasterKey, mail: Mail, now: Time) -> Result<()> {
    if !super::is_configured(connection)? {
        return Err(Error::Conflict(
            "No mail is sent here: the owner of the appliance has not set a mail server up.".into(),
        ));
    }
    if queries::count_queued(connection, QUEUE_MAX)? >= QUEUE_MAX {
        metrics::counter!("bailiwick_mail_refused_total").increment(1);
        tracing::error!(waiting = QUEUE_MAX, "the queue of mails is full: look at Settings → Mail");
        return Err(Error::Unavailable {
            message:
                "The queue of mails is full. Nothing was changed. The owner of the appliance sees why under Settings."
                    .into(),
            retry_after_s: 60,
        });
    }
    let give_up_at = mail.expires_at.map_or(now.plus(TRIED_FOR_US), |at| at.min(now.plus(TRIED_FOR_US)));
    let id = uuid::Uuid::now_v7().to_string();
    queries::insert(connection, &id, &mail, &sealing::seal(key, &id, &mail), now, give_up_at)
}

/// [`enqueue`] for a mail that only tells what has happened anyway: where none can be queued, what happened still does.
/// Answers whether it was queued.
pub fn notify(connection: &Connection, key: &MasterKey, mail: Result<Mail>, now: Time) -> Result<bool> {
    let mail = match mail {
        Ok(mail) => mail,
        // An address that mail programs do not know as one: what happened does not wait for that.
        Err(Error::Invalid(_)) => {
            left_out("any", "no mail can be sent to the address");
            return Ok(false);
        }
        Err(other) => return Err(other),
    };
    let kind = mail.kind;
    match enqueue(connection, key, mail, now) {
        Ok(()) => Ok(true),
        Err(Error::Conflict(_)) => {
            left_out(kind, "no mail is set up");
            Ok(false)
        }
        Err(Error::Unavailable { .. }) => {
            left_out(kind, "the queue is full");
            tracing::warn!(kind, "a notice was not queued");
            Ok(false)
        }
        Err(other) => Err(other),
    }
}

/// The link of a notice, or nothing where the address of the console is not set: then the notice is left out too, because
/// a link to a guessed host is worse than none.
pub fn notice_link(connection: &Connection, config: &Config, kind: &'static str, path: &str) -> Result<Option<Link>> {
    match super::link(connection, config, path) {
        Ok(link) => Ok(Some(link)),
        Err(Error::Conflict(_)) => {
            left_out(kind, "the console has no address");
            Ok(None)
        }
        Err(other) => Err(other),
    }
}

fn left_out(kind: &'static str, reason: &'static str) {
    metrics::counter!("bailiwick_notices_left_out_total", "kind" => kind, "reason" => reason).increment(1);
}

/// The server with its password, unsealed; `None` where no mail is set up.
pub(super) async fn load(kernel: &Kernel) -> Result<Option<(Server, Secret<String>)>> {
    let found =
        kernel.db.read(|c| Ok(queries::find_server(c)?.map(|server| (server, queries::sealed_password(c))))).await?;
    let Some((server, sealed)) = found else { return Ok(None) };
    let Some(sealed) = sealed? else { return Ok(Some((server, Secret::default()))) };
    let opened = kernel
        .key
        .open(PASSWORD_PLACE, &sealed)
        .map_err(|e| Error::caused("the mail server's password does not open", e))?;
    let password = String::from_utf8(opened.expose().clone())
        .map_err(|_| Error::internal("the mail server's password is no text"))?;
    Ok(Some((server, Secret::new(password))))
}

fn server_urn(principal: &Principal) -> String {
    urn("settings", &principal.region, None, "mail", "server")
}

/// Saves the mail server.
pub(super) async fn save_server(kernel: &Kernel, principal: &Principal, input: ServerInput) -> Result<()> {
    let (now, key, subject) = (kernel.clock.now(), kernel.key.clone(), server_urn(principal));
    audit::change(kernel, principal, move |c| {
        let before = queries::find_server(c)?;
        let (server, change) = model::check(&input, before.as_ref()).map_err(Error::Invalid)?;
        let is_new_password = matches!(change, PasswordChange::Set(_));
        if before.as_ref() == Some(&server) && !is_new_password {
            return Ok(((), Vec::new()));
        }
        let sealed = match change {
            PasswordChange::Keep => queries::sealed_password(c)?,
            PasswordChange::Remove => None,
            PasswordChange::Set(password) => Some(key.seal(PASSWORD_PLACE, password.expose().as_bytes())),
        };
        queries::set_server(c, &server, sealed.as_deref(), now)?;
        let mut entry = Entry::new("audit.mail_server_updated.v1")
            .subject(subject)
            .changes(json!(before), json!(server))
            .detail("passwordChanged", is_new_password);
        if server.security == Security::None {
            entry = entry.detail("plaintextAccepted", true);
        }
        Ok(((), vec![entry]))
    })
    .await
}

/// Takes the mail server out: no mail is sent any more. What waits is tried again once there is another one, for as long
/// as it would have been.
pub(super) async fn remove_server(kernel: &Kernel, principal: &Principal) -> Result<()> {
    let subject = server_urn(principal);
    audit::change(kernel, principal, move |c| {
        let before = queries::find_server(c)?.ok_or(Error::NotFound("The mail server"))?;
        queries::remove_server(c)?;
        let entry = Entry::new("audit.mail_server_removed.v1").subject(subject).changes(json!(before), json!({}));
        Ok(((), vec![entry]))
    })
    .await
}

/// Saves the console's address, or takes it out when it is empty.
pub(super) async fn save_address(kernel: &Kernel, principal: &Principal, base_url: String) -> Result<()> {
    if kernel.config.base_url.is_some() {
        return Err(Error::Conflict(
            "The address is set in the configuration of this machine; change it there.".into(),
        ));
    }
    let now = kernel.clock.now();
    let subject = urn("settings", &principal.region, None, "console", "address");
    audit::change(kernel, principal, move |c| {
        let after = if base_url.trim().is_empty() { None } else { Some(model::check_base_url(&base_url)?) };
        let before = queries::find_address(c)?;
        if before == after {
            return Ok(((), Vec::new()));
        }
        queries::set_address(c, after.as_deref(), now)?;
        let entry = Entry::new("audit.console_address_updated.v1")
            .subject(subject)
            .changes(json!({"baseUrl": before}), json!({"baseUrl": after}));
        Ok(((), vec![entry]))
    })
    .await
}

/// Sends a test mail by the stored settings, now and not by way of the queue; answers each step.
pub(super) async fn test(kernel: &Kernel, principal: &Principal, to: &str) -> Result<Vec<ProbeStep>> {
    let to = to.trim();
    model::check_address(to).map_err(|message| Error::field("to", message))?;
    let now = kernel.clock.now();
    let (server, password) = load(kernel)
        .await?
        .ok_or_else(|| Error::Conflict("Save the mail server first; then it can be tested.".into()))?;
    let mail = TestMail { by: &principal.name, at: now }.mail(to, &principal.locale)?;
    let steps = smtp::probe(&server, &password, &mail, now, &Patience::TESTING).await;
    let failed = steps.iter().find(|step| step.state == StepState::Failed);
    let entry = Entry::new("audit.mail_server_tested.v1")
        .subject(server_urn(principal))
        .outcome(if failed.is_none() { Outcome::Success } else { Outcome::Failure })
        .detail("recipient", to)
        .detail("failedStep", failed.map(|step| step.step.clone()));
    audit::record(kernel, principal, vec![entry]).await?;
    Ok(steps)
}

fn mail_urn(region: &str, id: &str) -> String {
    urn("settings", region, None, "mail", id)
}

/// Puts a mail that waits or was given up back to the front.
pub(super) async fn retry(kernel: &Kernel, principal: &Principal, id: String) -> Result<()> {
    let (now, region, key) = (kernel.clock.now(), principal.region.clone(), kernel.key.clone());
    audit::change(kernel, principal, move |c| {
        let mail = queries::get_unsent(c, &key, &id)?;
        if !mail.can_retry {
            return Err(Error::Conflict(
                "The link in this mail was deleted when it was given up. Have a new one sent where it came from."
                    .into(),
            ));
        }
        queries::requeue(c, &id, now, now.plus(TRIED_FOR_US))?;
        let entry = Entry::new("audit.mail_retried.v1")
            .subject(mail_urn(&region, &id))
            .detail("kind", mail.kind)
            .detail("recipient", mail.recipient);
        Ok(((), vec![entry]))
    })
    .await
}

/// Takes a mail that waits or has failed out of the queue, unsent.
pub(super) async fn discard(kernel: &Kernel, principal: &Principal, id: String) -> Result<()> {
    let (region, key) = (principal.region.clone(), kernel.key.clone());
    audit::change(kernel, principal, move |c| {
        let mail = queries::get_unsent(c, &key, &id)?;
        queries::remove(c, &id)?;
        let entry = Entry::new("audit.mail_discarded.v1")
            .subject(mail_urn(&region, &id))
            .detail("kind", mail.kind)
            .detail("recipient", mail.recipient);
        Ok(((), vec![entry]))
    })
    .await
}
