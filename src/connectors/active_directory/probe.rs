//! The probe: each step of the way tried apart, with what was seen and the line that fixes it.

use super::{ActiveDirectory, controller::Controller, reading_rights};
use crate::connectors::{
    Ability, AbilityState, ProbeReport, ProbeStep, StepState,
    ldap::{
        Guarded, Scope, SearchRequest, guarded,
        probing::{self, failed, skipped, step},
        times,
    },
};

/// Kerberos' own limit (RFC 4120 §6.2.2, MS-KILE): beyond it nobody can sign in.
const CLOCK_OFF_MAX_S: i64 = 300;

impl ActiveDirectory {
    /// Every step, on every controller. Never fails as a whole.
    pub(super) async fn try_each_step(&self) -> ProbeReport {
        let (report, reached) = self.client.try_servers(self.settings.check(), self.now.as_second()).await;
        match reached {
            Ok(connection) => self.try_reading(connection, report).await,
            Err(why) => without_connection(report, why),
        }
    }

    async fn try_reading(&self, mut connection: Guarded, mut report: ProbeReport) -> ProbeReport {
        let (domain_step, top) = self.domain_step(&mut connection).await;
        report.steps.extend(domain_step);
        let Some(top) = top else {
            connection.close().await;
            return without_connection(report, "The domain is not known.");
        };
        let bases = self.settings.bases(&top);
        let mut is_read = true;
        for base in &bases {
            let found = probing::base(&mut connection, base).await;
            is_read &= found.state != StepState::Failed;
            report.steps.push(found);
        }
        let searches = |filter: String| -> Vec<SearchRequest> {
            bases.iter().map(|base| self.request(base, filter.clone(), vec!["objectGUID".to_owned()])).collect()
        };
        let users = searches(self.settings.user_filter());
        let users = probing::count(&mut connection, "users", users, "objectGUID").await;
        let groups = searches(self.settings.group_filter());
        let groups = probing::count(&mut connection, "groups", groups, "objectGUID").await;
        is_read &= users.state == StepState::Ok && groups.state != StepState::Failed;
        report.abilities.push(Ability {
            ability: "read".to_owned(),
            state: if is_read { AbilityState::Granted } else { AbilityState::Missing },
            message: format!("{} {}", users.message, groups.message),
            fix: users.fix.clone().or_else(|| groups.fix.clone()),
        });
        report.steps.extend([users, groups]);
        let server = connection.server().to_owned();
        connection.close().await;
        report.abilities.extend(self.reading_abilities(&server).await);
        report
    }

    /// What the controller says about itself and its clock, and where all is.
    async fn domain_step(&self, connection: &mut Guarded) -> (Vec<ProbeStep>, Option<String>) {
        let request = SearchRequest {
            base: String::new(),
            scope: Scope::Base,
            filter: "(objectClass=*)".to_owned(),
            attributes: Controller::ATTRIBUTES.map(str::to_owned).to_vec(),
            page_size: 0,
            entries_max: None,
        };
        let found = match connection.find(&request).await {
            Ok(found) => found,
            Err(failure) => return (vec![failed("domain", None, failure)], None),
        };
        let values = |name: &str| found.entries.first().map(|entry| guarded::texts(entry, name)).unwrap_or_default();
        let controller = Controller::of(values);
        if let Err(failure) = controller.require(connection.server()) {
            return (vec![failed("domain", None, failure)], None);
        }
        let top = controller.top(&self.settings);
        let catalog = if self.settings.global_catalog {
            format!(" Its global catalog is read, of the forest {top}.")
        } else {
            String::new()
        };
        let message = format!(
            "{} is a controller of {}; the domain is of level {}, the forest of level {}.{catalog}",
            controller.host,
            controller.domain,
            level(&controller.domain_level),
            level(&controller.forest_level)
        );
        let domain = step("domain", None, StepState::Ok, message, None);
        (vec![domain, self.clock_step(&controller)], Some(top.to_owned()))
    }

    fn clock_step(&self, controller: &Controller) -> ProbeStep {
        let Some(theirs) = times::unix_second(&controller.time) else {
            return step("clock", None, StepState::Warning, "The controller does not say what time it is.", None);
        };
        let off = theirs - self.now.as_second();
        let message = match off {
            -2..=2 => "The clocks agree.".to_owned(),
            off if off > 0 => format!("The controller's clock is {off} seconds ahead of this machine's."),
            off => format!("The controller's clock is {} seconds behind this machine's.", -off),
        };
        if off.abs() > CLOCK_OFF_MAX_S {
            let fix = "Let both take their time from the same servers (NTP); beyond five minutes nobody can sign in.";
            return step("clock", None, StepState::Warning, message, Some(fix.to_owned()));
        }
        step("clock", None, StepState::Ok, message, None)
    }
}

/// A functional level (MS-ADTS §6.1.4.4) as Windows calls it.
fn level(number: &str) -> &str {
    match number {
        "0" => "Windows 2000",
        "1" => "Windows Server 2003 interim",
        "2" => "Windows Server 2003",
        "3" => "Windows Server 2008",
        "4" => "Windows Server 2008 R2",
        "5" => "Windows Server 2012",
        "6" => "Windows Server 2012 R2",
        "7" => "Windows Server 2016",
        "10" => "Windows Server 2025",
        "" => "unknown",
        other => other,
    }
}

fn without_connection(mut report: ProbeReport, why: &str) -> ProbeReport {
    for name in ["domain", "clock", "base", "users", "groups"] {
        if report.steps.iter().all(|step| step.step != name) {
            report.steps.push(skipped(name, None, why));
        }
    }
    let ability =
        Ability { ability: "read".to_owned(), state: AbilityState::Unknown, message: why.to_owned(), fix: None };
    report.abilities.push(ability);
    report.abilities.extend(reading_rights::unknown(why));
    report
}
