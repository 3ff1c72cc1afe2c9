//! The probe: each step of the way tried apart, with what was seen and the line that fixes it.
//!
//! It reads at most a thousand ids. It must never stop at the first problem of one server, and never try a password
//! again that one server has refused.

use super::OpenLdap;
use crate::connectors::{
    Ability, AbilityState, Failure, FailureKind, ProbeReport, ProbeStep, StepState,
    ldap::{
        self, CertificateView, Endpoint, Guarded, PAGED_RESULTS, Protection, RootDse, SYNC_REQUEST, SearchRequest,
        Trust, guarded, wire,
    },
};

/// Users and groups that are counted; more is "or more".
const COUNTED_MAX: u32 = 1000;
/// A certificate that ends sooner is a warning.
const EXPIRY_WARNING_DAYS: i64 = 30;

fn step(
    name: &str,
    target: Option<&str>,
    state: StepState,
    message: impl Into<String>,
    fix: Option<String>,
) -> ProbeStep {
    ProbeStep { step: name.to_owned(), target: target.map(str::to_owned), state, message: message.into(), fix }
}

fn failed(name: &str, target: Option<&str>, failure: Failure) -> ProbeStep {
    step(name, target, StepState::Failed, failure.message, Some(failure.next_step))
}

fn skipped(name: &str, target: Option<&str>, why: &str) -> ProbeStep {
    step(name, target, StepState::Skipped, why, None)
}

/// The steps of one server, and the connection if it came that far.
struct Reached {
    steps: Vec<ProbeStep>,
    connection: Option<Guarded>,
    /// The steps say already why no bind was tried.
    has_bind_step: bool,
}

impl OpenLdap {
    /// Every step, on every server. Never fails as a whole.
    pub(super) async fn try_each_step(&self) -> ProbeReport {
        let mut report = ProbeReport::default();
        for error in self.settings.check() {
            report.steps.push(step("settings", Some(&error.field), StepState::Failed, error.message, None));
        }
        let trust = match self.client.trust() {
            Ok(trust) => trust,
            Err(failure) => {
                report.steps.push(failed("tls", None, failure));
                None
            }
        };
        if !report.steps.is_empty() {
            return self.without_connection(report, "The settings have to be corrected first.");
        }
        // Servers are reached at the same time, but bound to one after the other: a password that one of them refuses
        // is not tried on the next (HOSTILE L24).
        let reached = futures_util::future::join_all(
            self.client.endpoints.iter().map(|endpoint| self.reach(endpoint, trust.as_ref())),
        )
        .await;
        let mut first: Option<Guarded> = None;
        let mut is_refused = false;
        for (endpoint, mut server) in self.client.endpoints.iter().zip(reached) {
            let target = endpoint.to_string();
            report.steps.append(&mut server.steps);
            if let Some(mut connection) = server.connection.take() {
                if is_refused {
                    report.steps.push(skipped(
                        "bind",
                        Some(&target),
                        "Not tried: another server refused this password, and each try could lock the account.",
                    ));
                    continue;
                }
                match connection.bind(&self.client.credentials).await {
                    Ok(()) => {
                        let message =
                            format!("{target} accepts {}.", ldap::errors::printable(&self.client.credentials.bind_dn));
                        report.steps.push(step("bind", Some(&target), StepState::Ok, message, None));
                        if first.is_none() {
                            first = Some(connection);
                        } else {
                            connection.close().await;
                        }
                    }
                    Err(failure) => {
                        is_refused = failure.kind == FailureKind::InvalidCredentials;
                        report.steps.push(failed("bind", Some(&target), failure));
                    }
                }
            } else if !server.has_bind_step {
                report.steps.push(skipped("bind", Some(&target), "There is no connection to bind on."));
            }
        }
        match first {
            Some(connection) => self.try_reading(connection, report).await,
            None => self.without_connection(report, "No server could be used."),
        }
    }

    /// Name, connection, encryption.
    async fn reach(&self, endpoint: &Endpoint, trust: Option<&Trust>) -> Reached {
        let target = endpoint.to_string();
        let target = Some(target.as_str());
        let mut steps = Vec::new();
        let end = |steps| Reached { steps, connection: None, has_bind_step: false };
        let protection = match self.client.protection(endpoint) {
            Ok(protection) => protection,
            Err(failure) => {
                steps.push(failed("tls", target, failure));
                return end(steps);
            }
        };
        let timeouts = &self.client.timeouts;
        let addresses = match wire::resolve(endpoint, timeouts).await {
            Ok(addresses) => {
                let texts: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
                let message = format!("{} is {}.", endpoint.host, texts.join(", "));
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
                steps.push(self.tls_step(target, protection, certificate.as_ref()));
                match Guarded::new(stream, endpoint, *timeouts, self.client.limits).await {
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

    fn tls_step(
        &self,
        target: Option<&str>,
        protection: Protection,
        certificate: Option<&CertificateView>,
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
            return step(
                "tls",
                target,
                StepState::Ok,
                format!("{how} is in use and the certificate is trusted."),
                None,
            );
        };
        let message = format!(
            "{how} is in use. The certificate is trusted: {}, issued by {}, expires {}, SHA-256 {}.",
            certificate.subject, certificate.issuer, certificate.not_after, certificate.fingerprint
        );
        let days_left = (certificate.not_after_second - self.now.as_second()) / 86_400;
        if days_left < EXPIRY_WARNING_DAYS {
            let fix = format!("Renew the certificate of the LDAP server; it expires in {days_left} days.");
            return step("tls", target, StepState::Warning, message, Some(fix));
        }
        step("tls", target, StepState::Ok, message, None)
    }

    /// Bases, users, groups, and what the server offers.
    async fn try_reading(&self, mut connection: Guarded, mut report: ProbeReport) -> ProbeReport {
        let mut bases = self.settings.user_bases();
        for base in self.settings.group_bases() {
            if !bases.contains(&base) {
                bases.push(base);
            }
        }
        let mut bases_ok = true;
        for base in &bases {
            let found = self.base_step(&mut connection, base).await;
            bases_ok &= found.state != StepState::Failed;
            report.steps.push(found);
        }
        let users =
            self.count_step(&mut connection, "users", self.settings.user_bases(), self.settings.user_filter()).await;
        let groups =
            self.count_step(&mut connection, "groups", self.settings.group_bases(), self.settings.group_filter()).await;
        let read_state = if bases_ok && users.state == StepState::Ok && groups.state != StepState::Failed {
            AbilityState::Granted
        } else {
            AbilityState::Missing
        };
        let read = Ability {
            ability: "read".to_owned(),
            state: read_state,
            message: format!("{} {}", users.message, groups.message),
            fix: users.fix.clone().or_else(|| groups.fix.clone()),
        };
        report.steps.push(users);
        report.steps.push(groups);
        let root = connection.root_dse().await.unwrap_or_default();
        report.steps.push(paging_step(&root));
        let (sync_step, delta) = sync_offer(&root);
        report.steps.push(sync_step);
        report.abilities.push(read);
        report.abilities.push(delta);
        connection.close().await;
        report
    }

    async fn base_step(&self, connection: &mut Guarded, base: &str) -> ProbeStep {
        let shown = ldap::errors::printable(base);
        let request = SearchRequest {
            base: base.to_owned(),
            scope: ldap::Scope::Base,
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

    /// Counts up to a thousand entries, and those whose id can't be read.
    async fn count_step(&self, connection: &mut Guarded, name: &str, bases: Vec<String>, filter: &str) -> ProbeStep {
        let (mut found, mut without_id, mut has_more) = (0, 0, false);
        for base in bases {
            let mut request = self.request(base, filter, &["entryUUID".to_owned()]);
            request.page_size = request.page_size.min(COUNTED_MAX);
            request.entries_max = Some(COUNTED_MAX);
            let page = match connection.find(&request).await {
                Ok(page) => page,
                Err(failure) => return failed(name, None, failure),
            };
            found += page.entries.len();
            without_id += page.entries.iter().filter(|entry| guarded::texts(entry, "entryUUID").is_empty()).count();
            has_more |= page.has_more;
        }
        let shown = ldap::errors::printable(filter);
        if found == 0 {
            let fix = format!("Check the base DN and the filter {shown}, and that the bind DN may read {name}.");
            return step(name, None, StepState::Warning, format!("No {name} were found with {shown}."), Some(fix));
        }
        if without_id > 0 {
            let message = format!(
                "{without_id} of {found} {name} have no readable entryUUID, which is the id everything hangs on."
            );
            let fix = "Let the bind DN read the operational attribute entryUUID.".to_owned();
            return step(name, None, StepState::Failed, message, Some(fix));
        }
        let count = if has_more { format!("{} or more", thousands(found)) } else { thousands(found) };
        step(name, None, StepState::Ok, format!("{count} {name} were found."), None)
    }

    fn without_connection(&self, mut report: ProbeReport, why: &str) -> ProbeReport {
        for name in ["base", "users", "groups", "paging", "syncrepl"] {
            report.steps.push(skipped(name, None, why));
        }
        for ability in ["read", "delta"] {
            report.abilities.push(Ability {
                ability: ability.to_owned(),
                state: AbilityState::Unknown,
                message: why.to_owned(),
                fix: None,
            });
        }
        report
    }
}

fn paging_step(root: &RootDse) -> ProbeStep {
    if root.offers(PAGED_RESULTS) {
        return step("paging", None, StepState::Ok, "The server offers paged results.", None);
    }
    let (message, fix) = if root.is_readable {
        (
            "The server does not offer paged results, so everything is read in one answer.",
            "Raise the size limit of the bind DN (olcLimits: size=unlimited), or all runs end at it.",
        )
    } else {
        (
            "The server hides what it offers, so it is unknown whether it has paged results.",
            "Let the bind DN read the root DSE (the entry with the empty DN).",
        )
    };
    step("paging", None, StepState::Warning, message, Some(fix.to_owned()))
}

fn sync_offer(root: &RootDse) -> (ProbeStep, Ability) {
    let (state, ability, message, fix) = if root.offers(SYNC_REQUEST) {
        (
            StepState::Ok,
            AbilityState::Granted,
            "The server offers syncrepl (RFC 4533), by which changes alone can be read.",
            None,
        )
    } else if root.is_readable {
        (
            StepState::Warning,
            AbilityState::Missing,
            "The server does not offer syncrepl (RFC 4533): every run reads everything.",
            Some("Load the overlay syncprov on the database (olcOverlay: syncprov).".to_owned()),
        )
    } else {
        (
            StepState::Warning,
            AbilityState::Unknown,
            "The server hides what it offers, so it is unknown whether it has syncrepl (RFC 4533).",
            Some("Let the bind DN read the root DSE (the entry with the empty DN).".to_owned()),
        )
    };
    (
        step("syncrepl", None, state, message, fix.clone()),
        Ability { ability: "delta".to_owned(), state: ability, message: message.to_owned(), fix },
    )
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
