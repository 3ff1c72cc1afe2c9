//! The first steps of every probe: each server's name, connection, encryption and bind, tried apart; and the words of steps.
//!
//! It reads at most a thousand ids. It must never stop at the first problem of one server, and never try a password
//! again that one server has refused.

use super::{
    CertificateView, Client, Endpoint, Guarded, Protection, Scope, SearchRequest, TRIED_MAX, Trust, errors, guarded,
    wire,
};
use crate::{
    connectors::{Failure, FailureKind, ProbeReport, ProbeStep, StepState},
    error::FieldError,
};

/// Users and groups that are counted; more is "or more".
const COUNTED_MAX: u32 = 1000;
/// A certificate that ends sooner is a warning.
const EXPIRY_WARNING_DAYS: i64 = 30;

pub fn step(
    name: &str,
    target: Option<&str>,
    state: StepState,
    message: impl Into<String>,
    fix: Option<String>,
) -> ProbeStep {
    ProbeStep { step: name.to_owned(), target: target.map(str::to_owned), state, message: message.into(), fix }
}

pub fn failed(name: &str, target: Option<&str>, failure: Failure) -> ProbeStep {
    step(name, target, StepState::Failed, failure.message, Some(failure.next_step))
}

pub fn skipped(name: &str, target: Option<&str>, why: &str) -> ProbeStep {
    step(name, target, StepState::Skipped, why, None)
}

/// The steps of one server, and the connection if it came that far.
struct Reached {
    steps: Vec<ProbeStep>,
    connection: Option<Guarded>,
    /// The steps say already why no bind was tried.
    has_bind_step: bool,
}

impl Client {
    /// Checks the settings (`errors` is what is wrong with them), reaches all servers and binds to each. Answers what was
    /// seen, and a connection to the first that let us in, or why there is none.
    pub async fn try_servers(
        &self,
        errors: Vec<FieldError>,
        now_second: i64,
    ) -> (ProbeReport, Result<Guarded, &'static str>) {
        let wrong = |error: FieldError| step("settings", Some(&error.field), StepState::Failed, error.message, None);
        let mut steps: Vec<ProbeStep> = errors.into_iter().map(wrong).collect();
        let trust = self.trust().unwrap_or_else(|failure| {
            steps.push(failed("tls", None, failure));
            None
        });
        if !steps.is_empty() {
            return (ProbeReport { steps, abilities: Vec::new() }, Err("The settings have to be corrected first."));
        }
        let servers = match self.found().await {
            Some(Ok(found)) => {
                steps.push(found.step());
                found.servers.as_slice()
            }
            Some(Err(failure)) => {
                steps.push(failed("discovery", None, failure));
                return (ProbeReport { steps, abilities: Vec::new() }, Err("No server was found."));
            }
            None => self.endpoints().await.unwrap_or_default(),
        };
        let servers = servers.get(..TRIED_MAX).unwrap_or(servers);
        let (tried, first) = self.try_each(servers, trust.as_ref(), now_second).await;
        steps.extend(tried);
        (ProbeReport { steps, abilities: Vec::new() }, first.ok_or("No server could be used."))
    }

    async fn try_each(
        &self,
        servers: &[Endpoint],
        trust: Option<&Trust>,
        now_second: i64,
    ) -> (Vec<ProbeStep>, Option<Guarded>) {
        let mut steps = Vec::new();
        // Servers are reached at the same time, but bound to one after the other: a password that one of them refuses
        // is not tried on the next (HOSTILE L24).
        let reached =
            futures_util::future::join_all(servers.iter().map(|endpoint| self.reach(endpoint, trust, now_second)))
                .await;
        let mut first: Option<Guarded> = None;
        let mut is_refused = false;
        for (endpoint, mut server) in servers.iter().zip(reached) {
            let target = endpoint.to_string();
            steps.append(&mut server.steps);
            if let Some(mut connection) = server.connection.take() {
                if is_refused {
                    steps.push(skipped(
                        "bind",
                        Some(&target),
                        "Not tried: another server refused this password, and each try could lock the account.",
                    ));
                    continue;
                }
                match connection.bind(&self.credentials).await {
                    Ok(()) => {
                        let message = format!("{target} accepts {}.", errors::printable(&self.credentials.bind_dn));
                        steps.push(step("bind", Some(&target), StepState::Ok, message, None));
                        if first.is_none() {
                            first = Some(connection);
                        } else {
                            connection.close().await;
                        }
                    }
                    Err(failure) => {
                        is_refused = failure.kind == FailureKind::InvalidCredentials;
                        steps.push(failed("bind", Some(&target), failure));
                    }
                }
            } else if !server.has_bind_step {
                steps.push(skipped("bind", Some(&target), "There is no connection to bind on."));
            }
        }
        (steps, first)
    }

    /// Name, connection, encryption.
    async fn reach(&self, endpoint: &Endpoint, trust: Option<&Trust>, now_second: i64) -> Reached {
        let target = endpoint.to_string();
        let target = Some(target.as_str());
        let mut steps = Vec::new();
        let end = |steps| Reached { steps, connection: None, has_bind_step: false };
        let protection = match self.protection(endpoint) {
            Ok(protection) => protection,
            Err(failure) => {
                steps.push(failed("tls", target, failure));
                return end(steps);
            }
        };
        let timeouts = &self.timeouts;
        let addresses = match self.resolve(endpoint).await {
            Ok(addresses) => {
                let texts: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
                let message = format!("{} has the address {}.", endpoint.host, texts.join(", "));
                steps.push(step("name-resolution", target, StepState::Ok, message, None));
                addresses
            }
            Err(failure) => {
                steps.push(failed("name-resolution", target, failure));
                steps.push(skipped("connect", target, "The name has no address."));
                steps.push(skipped("tls", target, "There is no connection."));
                return end(steps);
            }
        };
        let stream = match wire::connect(endpoint, &addresses, timeouts).await {
            Ok(stream) => {
                steps.push(step("connect", target, StepState::Ok, format!("{endpoint} accepts connections."), None));
                stream
            }
            Err(failure) => {
                steps.push(failed("connect", target, failure));
                steps.push(skipped("tls", target, "There is no connection."));
                return end(steps);
            }
        };
        match wire::protect(stream, endpoint, protection, trust, timeouts).await {
            Ok((stream, certificate)) => {
                steps.push(tls(target, protection, certificate.as_ref(), now_second));
                match Guarded::new(stream, endpoint, *timeouts, self.limits).await {
                    Ok(connection) => Reached { steps, connection: Some(connection), has_bind_step: false },
                    Err(failure) => {
                        steps.push(failed("bind", target, failure));
                        Reached { steps, connection: None, has_bind_step: true }
                    }
                }
            }
            Err((failure, certificate)) => {
                let mut failure = failure;
                if let Some(certificate) = certificate {
                    failure.message.push_str(&format!(" SHA-256 fingerprint: {}.", certificate.fingerprint));
                }
                steps.push(failed("tls", target, failure));
                end(steps)
            }
        }
    }
}

fn tls(
    target: Option<&str>,
    protection: Protection,
    certificate: Option<&CertificateView>,
    now_second: i64,
) -> ProbeStep {
    let how = match protection {
        Protection::Plaintext => {
            return step(
                "tls",
                target,
                StepState::Warning,
                "The connection is not encrypted, as the settings accept: the password and all data can be seen and altered on the way.",
                Some("Use an ldaps:// address or switch StartTLS on.".to_owned()),
            );
        }
        Protection::Ldaps => "TLS",
        Protection::StartTls => "StartTLS",
    };
    let Some(certificate) = certificate else {
        return step("tls", target, StepState::Ok, format!("{how} is in use and the certificate is trusted."), None);
    };
    let message = format!(
        "{how} is in use. The certificate is trusted: {}, issued by {}, expires {}, SHA-256 {}.",
        certificate.subject, certificate.issuer, certificate.not_after, certificate.fingerprint
    );
    let days_left = (certificate.not_after_second - now_second) / 86_400;
    if days_left < EXPIRY_WARNING_DAYS {
        let fix = format!("Renew the certificate of the LDAP server; it expires in {days_left} days.");
        return step("tls", target, StepState::Warning, message, Some(fix));
    }
    step("tls", target, StepState::Ok, message, None)
}

/// Whether a base can be seen.
pub async fn base(connection: &mut Guarded, base: &str) -> ProbeStep {
    let shown = errors::printable(base);
    let request = SearchRequest {
        base: base.to_owned(),
        scope: Scope::Base,
        filter: "(objectClass=*)".to_owned(),
        attributes: vec!["1.1".to_owned()],
        page_size: 0,
        entries_max: None,
    };
    match connection.find(&request).await {
        Ok(found) if !found.entries.is_empty() => {
            step("base", Some(&shown), StepState::Ok, format!("{shown} exists."), None)
        }
        Ok(_) => {
            let fix = "Correct the base DN, or give the bind DN read access to it.".to_owned();
            let message = format!("{shown} can't be seen by the bind DN.");
            step("base", Some(&shown), StepState::Failed, message, Some(fix))
        }
        Err(failure) => failed("base", Some(&shown), failure),
    }
}

/// Counts up to a thousand entries of each search, and those whose id, the attribute `id`, can't be read.
pub async fn count(connection: &mut Guarded, name: &str, requests: Vec<SearchRequest>, id: &str) -> ProbeStep {
    let (mut found, mut without_id, mut has_more) = (0, 0, false);
    let filter = requests.first().map(|request| request.filter.clone()).unwrap_or_default();
    for mut request in requests {
        request.page_size = request.page_size.min(COUNTED_MAX);
        request.entries_max = Some(COUNTED_MAX);
        let page = match connection.find(&request).await {
            Ok(page) => page,
            Err(failure) => return failed(name, None, failure),
        };
        found += page.entries.len();
        without_id += page.entries.iter().filter(|entry| guarded::texts(entry, id).is_empty()).count();
        has_more |= page.has_more;
    }
    let shown = errors::printable(&filter);
    if found == 0 {
        let fix = format!("Check the base DN and the filter {shown}, and that the bind DN may read {name}.");
        return step(name, None, StepState::Warning, format!("No {name} were found with {shown}."), Some(fix));
    }
    if without_id > 0 {
        let message =
            format!("{without_id} of {found} {name} have no readable {id}, which is the id everything hangs on.");
        let fix = format!("Let the bind DN read the attribute {id}.");
        return step(name, None, StepState::Failed, message, Some(fix));
    }
    let count = if has_more { format!("{} or more", thousands(found)) } else { thousands(found) };
    step(name, None, StepState::Ok, format!("{count} {name} were found."), None)
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
