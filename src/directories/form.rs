//! The form of a directory: new, edit, "Test the connection" and "Show a sample", all from one template.
//!
//! Owns the way from form fields to the inputs of [`actions`] and back, and the names of the fields in errors. The
//! password typed into the form is never rendered again, and the stored one never reaches a page at all; whether the
//! stored one may be used is decided in `actions`, the same for the API.

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use askama::Template;
use serde::Deserialize;

use super::{
    actions::{self, CreateInput, PreviewInput, RunInput, TrialInput, UpdateInput},
    credentials::{ActInput, CredentialsInput},
    form_guard, form_settings,
    form_settings::FormSettings,
    form_views::{MAPPED_LABELS, PresetRow, SampleView, presets},
    guard::Guard,
    model::{Directory, Mode, Schedule},
    pages::ProbeView,
    run::Runner,
    words,
};
use crate::{
    connectors::{Failure, Kind, ldap::settings::MAPPED_FIELDS},
    error::{Error, FieldError, Result},
    principal::Principal,
    schedule::SpecInput,
    secret::Secret,
    web::{Ctx, Form, Page, PathId, Query, html, html_status, redirect, redirect_with},
};

/// The fields as the form sends them. Unknown ones are refused by [`Form`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Fields {
    /// The stored directory being edited, for sample and probe; empty for a new one.
    pub directory: String,
    pub kind: String,
    pub name: String,
    /// One per line.
    pub servers: String,
    pub domain: String,
    pub site: String,
    /// One per line.
    pub dns_servers: String,
    pub global_catalog: String,
    /// `ldaps starttls plain`.
    pub tls: String,
    pub accept_plaintext: String,
    pub ca_pem: String,
    pub bind_dn: String,
    pub password: Secret<String>,
    /// Empty: nobody acts.
    pub act_bind_dn: String,
    pub act_password: Secret<String>,
    pub disable_attribute: String,
    pub disabled_value: String,
    pub enabled_value: String,
    pub base_dns: String,
    pub user_base_dns: String,
    pub group_base_dns: String,
    pub excluded_base_dns: String,
    pub computers: String,
    pub scope: String,
    pub preset: String,
    pub user_filter: String,
    pub group_filter: String,
    #[serde(rename = "mapping.userName")]
    pub mapping_user_name: String,
    #[serde(rename = "mapping.upn")]
    pub mapping_upn: String,
    #[serde(rename = "mapping.mail")]
    pub mapping_mail: String,
    #[serde(rename = "mapping.displayName")]
    pub mapping_display_name: String,
    #[serde(rename = "mapping.givenName")]
    pub mapping_given_name: String,
    #[serde(rename = "mapping.familyName")]
    pub mapping_family_name: String,
    #[serde(rename = "mapping.employeeId")]
    pub mapping_employee_id: String,
    #[serde(rename = "mapping.department")]
    pub mapping_department: String,
    #[serde(rename = "mapping.title")]
    pub mapping_title: String,
    #[serde(rename = "mapping.manager")]
    pub mapping_manager: String,
    /// `every cron hand`.
    pub when: String,
    pub every: String,
    /// `m h d`.
    pub unit: String,
    pub cron: String,
    pub time_zone: String,
    /// Empty: changes are not read by themselves.
    pub changes_every: String,
    /// `m h d`.
    pub changes_unit: String,
    pub paused: String,
    pub live: String,
    // The guard: counts, shares in per cent; empty ones have the default.
    pub removals_count: String,
    pub removals_share: String,
    pub disables_count: String,
    pub disables_share: String,
    pub memberships_count: String,
    pub memberships_share: String,
    pub privileged_count: String,
    pub privileged_share: String,
    /// One per line.
    pub privileged_groups: String,
    pub grace_days: String,
    /// Which button: `sync` after saving, anything else just saves.
    pub then: String,
}

/// What the fields say, before anything is checked beyond what only a form can get wrong.
pub(super) struct Read {
    pub name: String,
    pub settings: FormSettings,
    pub credentials: CredentialsInput,
    pub schedule: Schedule,
    pub guard: Guard,
    pub errors: Vec<FieldError>,
}

pub(super) fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

pub(super) fn given(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

pub(super) fn is_ticked(text: &str) -> bool {
    !text.is_empty()
}

/// A number that is not one still reaches the check of the schedule, which names the field.
fn interval(count: &str, unit: &str) -> SpecInput {
    let unit = if matches!(unit, "m" | "h" | "d") { unit } else { "?" };
    SpecInput::every(&format!("{}{unit}", count.trim()))
}

fn typed(bind_dn: &str, password: &Secret<String>) -> Secret<String> {
    Secret::new(serde_json::json!({"bindDn": bind_dn, "password": password.expose()}).to_string())
}

impl Fields {
    /// The fields of a new directory.
    fn fresh(principal: &Principal) -> Self {
        let zone = if principal.time_zone.is_empty() { "UTC" } else { &principal.time_zone };
        Self {
            tls: "ldaps".into(),
            when: "every".into(),
            every: "24".into(),
            unit: "h".into(),
            changes_unit: "m".into(),
            time_zone: zone.to_owned(),
            ..Self::default()
        }
        .with_guard(&Guard::default())
    }

    /// The fields of a stored directory; the password stays empty.
    pub(super) fn stored(directory: &Directory, principal: &Principal) -> Self {
        let mut fields = Self {
            directory: directory.id.to_string(),
            name: directory.name.clone(),
            bind_dn: directory.read_principal.clone(),
            act_bind_dn: directory.act_principal.clone().unwrap_or_default(),
            paused: if directory.schedule.paused { "on".into() } else { String::new() },
            live: if directory.schedule.live { "on".into() } else { String::new() },
            ..Self::fresh(principal)
        }
        .with_guard(&directory.guard);
        form_settings::fill(&mut fields, directory);
        match &directory.schedule.full {
            None => fields.when = "hand".into(),
            Some(SpecInput { cron: Some(line), time_zone, .. }) => {
                fields.when = "cron".into();
                fields.cron = line.clone();
                fields.time_zone = time_zone.clone().unwrap_or_else(|| "UTC".into());
            }
            Some(spec) => {
                if let Some((count, unit)) = spec.every.as_deref().and_then(words::interval) {
                    fields.every = count.to_string();
                    fields.unit = unit.into();
                }
            }
        }
        let changes = directory.schedule.delta.as_ref().and_then(|spec| spec.every.as_deref());
        if let Some((count, unit)) = changes.and_then(words::interval) {
            fields.changes_every = count.to_string();
            fields.changes_unit = unit.into();
        }
        fields
    }

    /// The values of the mapping, in the order of [`MAPPED_FIELDS`].
    fn mapping_values(&self) -> [&str; 10] {
        [
            &self.mapping_user_name,
            &self.mapping_upn,
            &self.mapping_mail,
            &self.mapping_display_name,
            &self.mapping_given_name,
            &self.mapping_family_name,
            &self.mapping_employee_id,
            &self.mapping_department,
            &self.mapping_title,
            &self.mapping_manager,
        ]
    }

    fn read_schedule(&self, stored: Option<&Directory>, errors: &mut Vec<FieldError>) -> Schedule {
        let full = match self.when.as_str() {
            "every" => Some(interval(&self.every, &self.unit)),
            "cron" => Some(SpecInput {
                every: None,
                cron: Some(self.cron.trim().to_owned()),
                time_zone: given(&self.time_zone),
            }),
            "hand" => None,
            _ => {
                errors.push(FieldError::new("schedule.full", "Choose when the directory is read."));
                None
            }
        };
        Schedule {
            full,
            delta: match given(&self.changes_every) {
                Some(every) => Some(interval(&every, &self.changes_unit)),
                // This form has no cron line for changes: one that was set by the API stays.
                None => stored.and_then(|stored| stored.schedule.delta.clone()).filter(|spec| spec.cron.is_some()),
            },
            paused: is_ticked(&self.paused),
            live: is_ticked(&self.live),
        }
    }

    fn read_credentials(&self, stored: Option<&Directory>, errors: &mut Vec<FieldError>) -> Option<Secret<String>> {
        let bind_dn = self.bind_dn.trim();
        match stored {
            Some(stored) if self.password.expose().is_empty() && bind_dn == stored.read_principal => None,
            Some(_) if self.password.expose().is_empty() => {
                errors.push(FieldError::new(
                    "credentials.read.password",
                    "The bind DN is another one: enter its password.",
                ));
                None
            }
            _ => Some(typed(bind_dn, &self.password)),
        }
    }

    fn act_credentials(&self, stored: Option<&Directory>, errors: &mut Vec<FieldError>) -> ActInput {
        let bind_dn = self.act_bind_dn.trim();
        let before = stored.and_then(|directory| directory.act_principal.as_deref());
        match (bind_dn.is_empty(), self.act_password.expose().is_empty()) {
            (true, true) if before.is_some() => ActInput::Remove,
            (true, true) => ActInput::Keep,
            (false, true) if before == Some(bind_dn) => ActInput::Keep,
            (false, true) => {
                let message = "Enter the password of the account that acts.";
                errors.push(FieldError::new("credentials.act.password", message));
                ActInput::Keep
            }
            (_, false) => ActInput::Set(typed(bind_dn, &self.act_password)),
        }
    }

    /// Reads the fields; `stored` is the directory being edited.
    pub(super) fn read(&self, stored: Option<&Directory>) -> Read {
        let mut errors = Vec::new();
        let settings = form_settings::read(self, stored, &mut errors);
        let credentials = CredentialsInput {
            read: self.read_credentials(stored, &mut errors),
            act: self.act_credentials(stored, &mut errors),
        };
        let schedule = self.read_schedule(stored, &mut errors);
        let guard = form_guard::read(self, &mut errors);
        Read { name: self.name.clone(), settings, credentials, schedule, guard, errors }
    }
}

impl Read {
    /// Everything that is wrong, when the form alone shows something wrong: so that all of it is named at once.
    fn check(&self) -> Result<()> {
        if self.errors.is_empty() {
            return Ok(());
        }
        let mut errors = actions::check_name(&self.name);
        errors.extend(self.errors.iter().cloned());
        errors.extend(self.schedule.check(self.settings.kind().can_be_watched()));
        errors.extend(self.guard.check());
        let more = self.settings.check();
        errors.extend(more.into_iter().map(|e| FieldError::new(format!("settings.{}", e.field), e.message)));
        Err(Error::Invalid(errors))
    }

    fn trial(self, directory: Option<&Directory>) -> Result<TrialInput> {
        self.check()?;
        Ok(TrialInput {
            kind: self.settings.kind(),
            settings: self.settings.json()?,
            credentials: self.credentials,
            directory_id: directory.map(|directory| directory.id.to_string()),
        })
    }
}

/// The form's own name of a field of the inputs.
fn own_name(field: &str) -> &str {
    match field {
        "credentials.read" => "password",
        "credentials.act" | "credentials.act.password" => "actPassword",
        "credentials.act.bindDn" => "actBindDn",
        "settings.disableBy.attribute" => "disableAttribute",
        "settings.disableBy.disabled" => "disabledValue",
        "settings.disableBy.enabled" => "enabledValue",
        "schedule.full" => "when",
        "schedule.full.every" => "every",
        "schedule.full.cron" => "cron",
        "schedule.full.timeZone" => "timeZone",
        "schedule.delta" | "schedule.delta.every" => "changesEvery",
        "schedule.live" => "live",
        "settings.startTls" => "tls",
        field if field.starts_with("guard.") => form_guard::own_name(field),
        _ => {
            let rest = field.strip_prefix("settings.").or_else(|| field.strip_prefix("credentials.read."));
            // `servers[1]` belongs to the one field that holds all of them.
            let name = rest.unwrap_or(field);
            name.split_once('[').map_or(name, |(name, _)| name)
        }
    }
}

const LABELS: [(&str, &str); 43] = [
    ("name", "Name"),
    ("kind", "Kind"),
    ("servers", "Servers"),
    ("domain", "Domain"),
    ("site", "Site"),
    ("dnsServers", "DNS servers"),
    ("globalCatalog", "Global catalog"),
    ("tls", "Encryption"),
    ("acceptPlaintext", "Plain LDAP"),
    ("caPem", "Certificate authorities"),
    ("bindDn", "Bind DN"),
    ("password", "Password"),
    ("actBindDn", "Bind DN for acting"),
    ("actPassword", "Password for acting"),
    ("disableAttribute", "Attribute that disables"),
    ("disabledValue", "Value when disabled"),
    ("enabledValue", "Value when enabled"),
    ("baseDns", "Base DNs"),
    ("userBaseDns", "Bases for users"),
    ("groupBaseDns", "Bases for groups"),
    ("excludedBaseDns", "Left out"),
    ("computers", "Computers"),
    ("scope", "Scope"),
    ("preset", "Preset"),
    ("userFilter", "User filter"),
    ("groupFilter", "Group filter"),
    ("when", "Schedule"),
    ("every", "Every"),
    ("cron", "Cron line"),
    ("timeZone", "Time zone"),
    ("changesEvery", "Changes, every"),
    ("live", "Live mode"),
    ("attributes", "Attributes"),
    ("removalsCount", "Going missing, count"),
    ("removalsShare", "Going missing, share"),
    ("disablesCount", "No longer active, count"),
    ("disablesShare", "No longer active, share"),
    ("membershipsCount", "Memberships that end, count"),
    ("membershipsShare", "Memberships that end, share"),
    ("privilegedCount", "Members of one privileged group, count"),
    ("privilegedShare", "Members of one privileged group, share"),
    ("privilegedGroups", "Privileged groups"),
    ("graceDays", "Grace days"),
];

/// One line of the error summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub field: String,
    pub label: String,
    pub message: String,
}

impl Fault {
    fn new(error: &FieldError) -> Self {
        let field = own_name(&error.field);
        let label = LABELS.iter().find(|(name, _)| *name == field).map(|(_, label)| *label).or_else(|| {
            let name = field.strip_prefix("mapping.")?;
            let at = MAPPED_FIELDS.iter().position(|mapped| *mapped == name)?;
            MAPPED_LABELS.get(at).copied()
        });
        Self { field: field.to_owned(), label: label.unwrap_or(field).to_owned(), message: error.message.clone() }
    }
}

struct MappingRow {
    field: &'static str,
    label: &'static str,
    value: String,
    placeholder: String,
    error: String,
}

/// The answer of one of the two buttons that try without saving.
#[derive(Default)]
enum Tried {
    #[default]
    Nothing,
    Sample(Box<SampleView>),
    Failed(Failure),
    Probe(Box<ProbeView>),
    /// The fields have to be corrected first.
    Refused,
}

#[derive(Template)]
#[template(path = "directories/form.html", blocks = ["sample", "probe"])]
struct FormPage {
    page: Page,
    fields: Fields,
    directory: Option<Directory>,
    faults: Vec<Fault>,
    /// Something that no field is to blame for.
    problem: String,
    tried: Tried,
}

impl FormPage {
    fn new(ctx: &Ctx, fields: Fields, directory: Option<Directory>) -> Self {
        let title = match &directory {
            Some(directory) => format!("Edit {}", directory.name),
            None => "Connect a directory".to_owned(),
        };
        Self {
            page: Page::new(ctx, title, "directories"),
            fields,
            directory,
            faults: Vec::new(),
            problem: String::new(),
            tried: Tried::Nothing,
        }
    }

    fn with_errors(mut self, errors: &[FieldError]) -> Self {
        self.faults = errors.iter().map(Fault::new).collect();
        self
    }

    fn action(&self) -> String {
        match &self.directory {
            Some(directory) => format!("/directories/{}/edit", directory.id),
            None => "/directories/new".into(),
        }
    }

    fn back(&self) -> String {
        match &self.directory {
            Some(directory) => format!("/directories/{}", directory.id),
            None => "/directories".into(),
        }
    }

    /// What is wrong with one field; empty when nothing is.
    fn error(&self, field: &str) -> String {
        let messages: Vec<&str> =
            self.faults.iter().filter(|fault| fault.field == field).map(|fault| fault.message.as_str()).collect();
        messages.join(" ")
    }

    fn summary(&self) -> String {
        match self.faults.len() {
            0 => String::new(),
            1 => "One entry has to be corrected".into(),
            count => format!("{count} entries have to be corrected"),
        }
    }

    fn kind(&self) -> Kind {
        form_settings::kind(&self.fields, self.directory.as_ref()).unwrap_or(Kind::Openldap)
    }

    fn is_active_directory(&self) -> bool {
        self.kind() == Kind::ActiveDirectory
    }

    /// The kinds to choose from, each with the address of its form.
    fn kinds(&self) -> [(Kind, String); 2] {
        Kind::ALL.map(|kind| (kind, format!("/directories/new?kind={}", kind.as_str())))
    }

    fn presets(&self) -> [PresetRow; 4] {
        presets()
    }

    fn preset(&self) -> PresetRow {
        let [first, second, third, fourth] = presets();
        [second, third, fourth].into_iter().find(|preset| preset.code == self.fields.preset).unwrap_or(first)
    }

    fn limits(&self) -> Vec<form_guard::LimitRow> {
        form_guard::rows(&self.fields, |field| self.error(field))
    }

    fn mapping(&self) -> Vec<MappingRow> {
        let defaults = form_settings::sources(self.kind());
        MAPPED_FIELDS
            .iter()
            .zip(MAPPED_LABELS)
            .zip(self.fields.mapping_values().into_iter().zip(defaults))
            .map(|((field, label), (value, sources))| MappingRow {
                field,
                label,
                value: value.to_owned(),
                placeholder: sources.join(", else "),
                error: self.error(&format!("mapping.{field}")),
            })
            .collect()
    }
}

/// `?kind=` of a new directory's form.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KindQuery {
    kind: Option<Kind>,
}

/// `GET /directories/new`.
pub(super) async fn new(ctx: Ctx, query: Query<KindQuery>) -> Result<HttpResponse> {
    let kind = query.0.kind.unwrap_or(Kind::Openldap).as_str().to_owned();
    html(&FormPage::new(&ctx, Fields { kind, ..Fields::fresh(&ctx.principal) }, None))
}

/// `GET /directories/{id}/edit`.
pub(super) async fn edit(ctx: Ctx, id: PathId<i64>) -> Result<HttpResponse> {
    let directory = actions::get(&ctx.kernel, &ctx.principal, id.0).await?;
    html(&FormPage::new(&ctx, Fields::stored(&directory, &ctx.principal), Some(directory)))
}

/// A refused form comes back with its entries (422, or 409 for what is nobody's entry); other errors pass.
fn refused(ctx: &Ctx, fields: Fields, directory: Option<Directory>, error: Error) -> Result<HttpResponse> {
    let page = FormPage::new(ctx, fields, directory);
    match error {
        Error::Invalid(errors) => html_status(StatusCode::UNPROCESSABLE_ENTITY, &page.with_errors(&errors)),
        Error::Conflict(message) => html_status(StatusCode::CONFLICT, &FormPage { problem: message, ..page }),
        other => Err(other),
    }
}

/// `POST /directories/new`.
pub(super) async fn create(ctx: Ctx, form: Form<Fields>, runner: Data<Runner>) -> Result<HttpResponse> {
    let read = form.0.read(None);
    let created = match read.check().and_then(|()| read.settings.json()) {
        Err(error) => Err(error),
        Ok(settings) => {
            let input = CreateInput {
                kind: read.settings.kind(),
                name: read.name,
                settings,
                credentials: read.credentials,
                schedule: Some(read.schedule),
                guard: Some(read.guard),
            };
            actions::create(&ctx.kernel, &ctx.principal, input).await
        }
    };
    match created {
        Ok(directory) => saved(&ctx, &runner, directory.id, &form.0.then, "The directory is connected.").await,
        Err(error) => refused(&ctx, form.0, None, error),
    }
}

/// `POST /directories/{id}/edit`.
pub(super) async fn update(
    ctx: Ctx,
    id: PathId<i64>,
    form: Form<Fields>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    let directory = actions::get(&ctx.kernel, &ctx.principal, id.0).await?;
    let read = form.0.read(Some(&directory));
    let updated = match read.check().and_then(|()| read.settings.json()) {
        Err(error) => Err(error),
        Ok(settings) => {
            let input = UpdateInput {
                name: Some(read.name),
                settings: Some(settings),
                credentials: Some(read.credentials),
                schedule: Some(read.schedule),
                guard: Some(read.guard),
            };
            actions::update(&ctx.kernel, &ctx.principal, id.0, input).await
        }
    };
    match updated {
        Ok(_) => saved(&ctx, &runner, id.0, &form.0.then, "The settings are saved.").await,
        Err(error) => refused(&ctx, form.0, Some(directory), error),
    }
}

/// After saving: to the directory, or to the run that was asked for.
async fn saved(ctx: &Ctx, runner: &Runner, id: i64, then: &str, message: &str) -> Result<HttpResponse> {
    let path = format!("/directories/{id}");
    if then != "sync" {
        return Ok(redirect_with(&path, "success", message));
    }
    let input = RunInput { mode: Mode::Full, dry_run: false };
    match actions::start_run(&ctx.kernel, &ctx.principal, runner, id, input).await {
        Ok(run) => Ok(redirect(&format!("/runs/{}", run.id))),
        Err(Error::Conflict(reason)) => Ok(redirect_with(&path, "warning", &format!("{message} {reason}"))),
        Err(other) => Err(other),
    }
}

/// `POST /directories/{id}/preview`: a dry run with the settings as typed; nothing is saved.
pub(super) async fn preview(
    ctx: Ctx,
    id: PathId<i64>,
    form: Form<Fields>,
    runner: Data<Runner>,
) -> Result<HttpResponse> {
    let directory = actions::get(&ctx.kernel, &ctx.principal, id.0).await?;
    let read = form.0.read(Some(&directory));
    let started = match read.check().and_then(|()| read.settings.json()) {
        Err(error) => Err(error),
        Ok(settings) => {
            let input = PreviewInput { settings, credentials: read.credentials };
            actions::preview(&ctx.kernel, &ctx.principal, &runner, id.0, input).await
        }
    };
    match started {
        Ok(run) => Ok(redirect(&format!("/runs/{}", run.id))),
        Err(error) => refused(&ctx, form.0, Some(directory), error),
    }
}

async fn edited(ctx: &Ctx, fields: &Fields) -> Result<Option<Directory>> {
    if fields.directory.is_empty() {
        return Ok(None);
    }
    let id = fields.directory.parse().map_err(|_| Error::NotFound("This directory"))?;
    actions::get(&ctx.kernel, &ctx.principal, id).await.map(Some)
}

/// `POST /directories/sample`: one entry with the settings as typed. With htmx the block alone, without it the form.
pub(super) async fn sample(ctx: Ctx, form: Form<Fields>) -> Result<HttpResponse> {
    let directory = edited(&ctx, &form.0).await?;
    let tried = match form.0.read(directory.as_ref()).trial(directory.as_ref()) {
        Ok(input) => actions::sample_trial(&ctx.kernel, &ctx.principal, input).await,
        Err(error) => Err(error),
    };
    let page = FormPage::new(&ctx, form.0, directory);
    let (status, page) = match tried {
        Ok(Ok(sample)) => {
            (StatusCode::OK, FormPage { tried: Tried::Sample(Box::new(SampleView::new(&sample))), ..page })
        }
        Ok(Err(failure)) => (StatusCode::OK, FormPage { tried: Tried::Failed(failure), ..page }),
        Err(Error::Invalid(errors)) => {
            (StatusCode::UNPROCESSABLE_ENTITY, FormPage { tried: Tried::Refused, ..page.with_errors(&errors) })
        }
        Err(other) => return Err(other),
    };
    if ctx.is_fragment { html_status(status, &page.as_sample()) } else { html_status(status, &page) }
}

/// `POST /directories/probe`: each step of the way with the settings as typed.
pub(super) async fn probe(ctx: Ctx, form: Form<Fields>) -> Result<HttpResponse> {
    let directory = edited(&ctx, &form.0).await?;
    let tried = match form.0.read(directory.as_ref()).trial(directory.as_ref()) {
        Ok(input) => actions::probe_trial(&ctx.kernel, &ctx.principal, input).await,
        Err(error) => Err(error),
    };
    let page = FormPage::new(&ctx, form.0, directory);
    let (status, page) = match tried {
        Ok(report) => (StatusCode::OK, FormPage { tried: Tried::Probe(Box::new(ProbeView::new(&report))), ..page }),
        Err(Error::Invalid(errors)) => {
            (StatusCode::UNPROCESSABLE_ENTITY, FormPage { tried: Tried::Refused, ..page.with_errors(&errors) })
        }
        Err(other) => return Err(other),
    };
    if ctx.is_fragment { html_status(status, &page.as_probe()) } else { html_status(status, &page) }
}
