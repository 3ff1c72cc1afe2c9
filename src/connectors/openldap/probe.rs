//! The probe: each step of the way tried apart, with what was seen and the line that fixes it.
//!
//! It reads at most a thousand ids. It must never stop at the first problem of one server, and never try a password
//! again that one server has refused.

use super::OpenLdap;
use crate::connectors::{
    Ability, AbilityState, ProbeReport, ProbeStep, StepState,
    ldap::{
        Guarded, PAGED_RESULTS, RootDse, SYNC_REQUEST,
        probing::{self, skipped, step},
    },
};

impl OpenLdap {
    /// Every step, on every server. Never fails as a whole.
    pub(super) async fn try_each_step(&self) -> ProbeReport {
        let (report, reached) = self.client.try_servers(self.settings.check(), self.now.as_second()).await;
        match reached {
            Ok(connection) => self.try_reading(connection, report).await,
            Err(why) => self.without_connection(report, why),
        }
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
            let found = probing::base(&mut connection, base).await;
            bases_ok &= found.state != StepState::Failed;
            report.steps.push(found);
        }
        let searches = |bases: Vec<String>, filter: &str| {
            bases.into_iter().map(|base| self.request(base, filter, &["entryUUID".to_owned()])).collect()
        };
        let users = searches(self.settings.user_bases(), self.settings.user_filter());
        let users = probing::count(&mut connection, "users", users, "entryUUID").await;
        let groups = searches(self.settings.group_bases(), self.settings.group_filter());
        let groups = probing::count(&mut connection, "groups", groups, "entryUUID").await;
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
