//! What can be done with a directory: one function per verb, the same for page and API.

use serde::Deserialize;

use super::{
    model::{Directory, Guard, Mode, Run, Schedule},
    queries,
    run::Runner,
};
use crate::{
    audit::{self, Entry},
    connectors::{self, Connector, Kind, ProbeReport, Sample},
    error::{Error, FieldError, Result},
    kernel::Kernel,
    principal::{Principal, urn},
    schedule::{self, SpecInput},
    secret::Secret,
};

/// A new directory, or all of an existing one's settings (DESIGN §8).
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = DirectoryCreate)]
pub struct CreateInput {
    pub kind: Kind,
    pub name: String,
    /// As the kind of directory needs them.
    #[schema(value_type = Object)]
    pub settings: serde_json::Value,
    /// `{"read": {…}}` as the kind of directory needs them.
    #[schema(value_type = Object)]
    pub credentials: CredentialsInput,
    #[serde(default)]
    pub schedule: Option<Schedule>,
    #[serde(default)]
    pub guard: Option<Guard>,
}

/// Credentials as they come in; kept as a secret from the first moment.
#[derive(Debug, Default)]
pub struct CredentialsInput {
    pub read: Option<Secret<String>>,
}

impl<'de> Deserialize<'de> for CredentialsInput {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            #[serde(default)]
            read: Option<serde_json::Value>,
        }
        let raw = Raw::deserialize(deserializer)?;
        Ok(Self { read: raw.read.filter(|value| !value.is_null()).map(|value| Secret::new(value.to_string())) })
    }
}

/// What is to be different; absent fields stay as they are.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = DirectoryUpdate)]
pub struct UpdateInput {
    pub name: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub settings: Option<serde_json::Value>,
    #[schema(value_type = Option<Object>)]
    pub credentials: Option<CredentialsInput>,
    pub schedule: Option<Schedule>,
    pub guard: Option<Guard>,
}

/// Where a directory's read credentials are sealed for.
fn place(id: i64) -> String {
    format!("directory:read_credentials:{id}")
}

/// The default: everything once a day.
fn default_schedule() -> Schedule {
    Schedule { full: Some(SpecInput::every("24h")), delta: None, paused: false }
}

fn check_name(name: &str) -> Vec<FieldError> {
    let length = name.trim().chars().count();
    if (1..=100).contains(&length) && !name.chars().any(char::is_control) {
        Vec::new()
    } else {
        vec![FieldError::new("name", "Give the directory a name of 1 to 100 characters on one line.")]
    }
}

fn first(errors: Vec<FieldError>) -> Result<()> {
    if errors.is_empty() { Ok(()) } else { Err(Error::Invalid(errors)) }
}

fn subject(principal: &Principal, id: i64) -> String {
    urn("directories", &principal.region, principal.account, "directory", id)
}

/// What of a directory goes on the record.
fn recorded(directory: &Directory) -> serde_json::Value {
    serde_json::json!({
        "name": directory.name,
        "kind": directory.kind,
        "settings": directory.settings,
        "readsAs": directory.read_principal,
        "schedule": directory.schedule,
        "guard": directory.guard,
    })
}

/// Checks everything about settings and credentials together: all fields that are wrong are named at once.
fn check_connector(
    kind: Kind,
    settings: &serde_json::Value,
    credentials: &Secret<String>,
) -> Result<String, Vec<FieldError>> {
    connectors::check(kind, settings, credentials)
}

pub async fn create(kernel: &Kernel, principal: &Principal, input: CreateInput) -> Result<Directory> {
    let account = principal.account()?;
    let schedule = input.schedule.unwrap_or_else(default_schedule);
    let guard = input.guard.unwrap_or_default();
    let mut errors = check_name(&input.name);
    errors.extend(schedule.check());
    errors.extend(guard.check());
    let credentials = match input.credentials.read {
        Some(credentials) => credentials,
        None => {
            errors.push(FieldError::new("credentials.read", "Give the credentials that the directory is read with."));
            Secret::new("{}".to_owned())
        }
    };
    let read_principal = check_connector(input.kind, &input.settings, &credentials).unwrap_or_else(|found| {
        errors.extend(found);
        String::new()
    });
    first(errors)?;
    let now = kernel.clock.now();
    let mut directory = Directory {
        id: 0,
        account_id: account,
        kind: input.kind,
        name: input.name.trim().to_owned(),
        settings: input.settings,
        read_principal,
        schedule,
        guard,
        applied_run_id: None,
        applied_at: None,
        identity_count: 0,
        group_count: 0,
        created_at: now,
        updated_at: now,
        next_run_at: None,
    };
    let (key, who) = (kernel.key.clone(), principal.clone());
    audit::change(kernel, principal, move |c| {
        if queries::is_name_taken(c, account, &directory.name, None)? {
            return Err(Error::field("name", "Another directory of this account has this name."));
        }
        directory.id = queries::insert(c, &directory)?;
        let sealed = key.seal(&place(directory.id), credentials.expose().as_bytes());
        queries::set_credentials(c, directory.id, &sealed)?;
        set_schedule(c, &directory, now)?;
        let entry = Entry::new("audit.directory_created.v1")
            .subject(subject(&who, directory.id))
            .changes(serde_json::json!({}), recorded(&directory));
        let stored = queries::find(c, account, directory.id)?.ok_or(Error::NotFound("This directory"))?;
        Ok((stored, vec![entry]))
    })
    .await
}

fn set_schedule(connection: &rusqlite::Connection, directory: &Directory, now: crate::clock::Time) -> Result<()> {
    let id = directory.id.to_string();
    match &directory.schedule.full {
        Some(spec) => schedule::set(connection, queries::FULL_JOB, &id, spec, directory.schedule.paused, now),
        None => schedule::remove(connection, queries::FULL_JOB, &id),
    }
}

pub async fn get(kernel: &Kernel, principal: &Principal, id: i64) -> Result<Directory> {
    let account = principal.account()?;
    kernel.db.read(move |c| queries::find(c, account, id)).await?.ok_or(Error::NotFound("This directory"))
}

pub async fn update(kernel: &Kernel, principal: &Principal, id: i64, input: UpdateInput) -> Result<Directory> {
    let account = principal.account()?;
    let before = get(kernel, principal, id).await?;
    let mut after = before.clone();
    after.updated_at = kernel.clock.now();
    let mut errors = Vec::new();
    if let Some(name) = input.name {
        errors.extend(check_name(&name));
        after.name = name.trim().to_owned();
    }
    if let Some(schedule) = input.schedule {
        errors.extend(schedule.check());
        after.schedule = schedule;
    }
    if let Some(guard) = input.guard {
        errors.extend(guard.check());
        after.guard = guard;
    }
    let new_credentials = input.credentials.and_then(|credentials| credentials.read);
    if let Some(settings) = input.settings {
        after.settings = settings;
    }
    let credentials = match &new_credentials {
        Some(credentials) => credentials.clone(),
        None => stored_credentials(kernel, id).await?,
    };
    match check_connector(after.kind, &after.settings, &credentials) {
        Ok(read_principal) => after.read_principal = read_principal,
        Err(found) => errors.extend(found),
    }
    first(errors)?;
    let (key, who) = (kernel.key.clone(), principal.clone());
    audit::change(kernel, principal, move |c| {
        // What was checked is what is there: nobody changed it meanwhile.
        let current = queries::find(c, account, id)?.ok_or(Error::NotFound("This directory"))?;
        if current.updated_at != before.updated_at {
            return Err(Error::Conflict("Somebody else changed this directory just now. Reload and try again.".into()));
        }
        if queries::is_name_taken(c, account, &after.name, Some(id))? {
            return Err(Error::field("name", "Another directory of this account has this name."));
        }
        queries::update(c, &after)?;
        let mut entry = Entry::new("audit.directory_updated.v1")
            .subject(subject(&who, id))
            .changes(recorded(&before), recorded(&after));
        if let Some(credentials) = &new_credentials {
            queries::set_credentials(c, id, &key.seal(&place(id), credentials.expose().as_bytes()))?;
            entry = entry.detail("readCredentials", "replaced");
        }
        set_schedule(c, &after, after.updated_at)?;
        let stored = queries::find(c, account, id)?.ok_or(Error::NotFound("This directory"))?;
        Ok((stored, vec![entry]))
    })
    .await
}

/// Pauses or resumes the schedule.
pub async fn set_paused(kernel: &Kernel, principal: &Principal, id: i64, paused: bool) -> Result<Directory> {
    let directory = get(kernel, principal, id).await?;
    let schedule = Schedule { paused, ..directory.schedule };
    update(kernel, principal, id, UpdateInput { schedule: Some(schedule), ..UpdateInput::default() }).await
}

/// Takes a directory out: from the console at once, its copy in the background.
pub async fn remove(kernel: &Kernel, principal: &Principal, runner: &Runner, id: i64) -> Result<()> {
    let account = principal.account()?;
    let (who, now) = (principal.clone(), kernel.clock.now());
    audit::change(kernel, principal, move |c| {
        let directory = queries::find(c, account, id)?.ok_or(Error::NotFound("This directory"))?;
        if queries::has_active_run(c, id)? {
            return Err(Error::Conflict("A run of this directory is going on. Wait until it has ended.".into()));
        }
        queries::mark_removed(c, id, now)?;
        schedule::remove(c, queries::FULL_JOB, &id.to_string())?;
        let entry = Entry::new("audit.directory_removed.v1")
            .subject(subject(&who, id))
            .changes(recorded(&directory), serde_json::json!({}))
            .detail("identities", directory.identity_count)
            .detail("groups", directory.group_count);
        Ok(((), vec![entry]))
    })
    .await?;
    runner.clear_removed();
    Ok(())
}

async fn stored_credentials(kernel: &Kernel, id: i64) -> Result<Secret<String>> {
    let sealed = kernel.db.read(move |c| queries::credentials(c, id)).await?;
    let opened =
        kernel.key.open(&place(id), &sealed).map_err(|e| Error::caused("stored credentials do not open", e))?;
    String::from_utf8(opened.expose().clone())
        .map(Secret::new)
        .map_err(|_| Error::internal("stored credentials are not text"))
}

/// A directory, opened with its stored settings and credentials.
pub(super) async fn open(kernel: &Kernel, directory: &Directory) -> Result<Box<dyn Connector>> {
    let credentials = stored_credentials(kernel, directory.id).await?;
    connectors::open(directory.kind, &directory.settings, &credentials, kernel.clock.now()).map_err(Error::Invalid)
}

/// Tries every step of the way; on the record, because it uses the credentials.
pub async fn probe(kernel: &Kernel, principal: &Principal, id: i64) -> Result<ProbeReport> {
    let directory = get(kernel, principal, id).await?;
    let report = open(kernel, &directory).await?.probe().await;
    let failed: Vec<_> =
        report.steps.iter().filter(|s| s.state == connectors::StepState::Failed).map(|s| s.step.clone()).collect();
    let entry = Entry::new("audit.directory_probed.v1")
        .subject(subject(principal, id))
        .outcome(if report.is_ok() { audit::Outcome::Success } else { audit::Outcome::Failure })
        .detail("failedSteps", failed);
    audit::record(kernel, principal, vec![entry]).await?;
    Ok(report)
}

/// Settings that are not stored yet, or changed ones of a stored directory, whose credentials are used when none are
/// given. The bind password typed for one server is only ever sent to that directory's servers.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = DirectoryTrial)]
pub struct TrialInput {
    pub kind: Kind,
    #[schema(value_type = Object)]
    pub settings: serde_json::Value,
    #[schema(value_type = Object)]
    pub credentials: CredentialsInput,
}

fn trial(kernel: &Kernel, input: TrialInput) -> Result<Box<dyn Connector>> {
    let credentials = input
        .credentials
        .read
        .ok_or_else(|| Error::field("credentials.read", "Give the credentials that the directory is read with."))?;
    check_connector(input.kind, &input.settings, &credentials).map_err(Error::Invalid)?;
    connectors::open(input.kind, &input.settings, &credentials, kernel.clock.now()).map_err(Error::Invalid)
}

/// [`probe`] before anything is stored.
pub async fn probe_trial(kernel: &Kernel, principal: &Principal, input: TrialInput) -> Result<ProbeReport> {
    let servers = input.settings.get("servers").cloned().unwrap_or_default();
    let report = trial(kernel, input)?.probe().await;
    let entry = Entry::new("audit.directory_probed.v1")
        .outcome(if report.is_ok() { audit::Outcome::Success } else { audit::Outcome::Failure })
        .detail("servers", servers);
    audit::record(kernel, principal, vec![entry]).await?;
    Ok(report)
}

/// One entry, raw and mapped, before anything is stored.
pub async fn sample_trial(kernel: &Kernel, principal: &Principal, input: TrialInput) -> Result<Sample> {
    let servers = input.settings.get("servers").cloned().unwrap_or_default();
    let entry = Entry::new("audit.directory_sampled.v1").detail("servers", servers);
    audit::record(kernel, principal, vec![entry]).await?;
    trial(kernel, input)?
        .sample()
        .await
        .map_err(|failure| Error::Conflict(format!("{} {}", failure.message, failure.next_step)))
}

/// One entry of a stored directory, raw and mapped.
pub async fn sample(kernel: &Kernel, principal: &Principal, id: i64) -> Result<Sample> {
    let directory = get(kernel, principal, id).await?;
    let sample = open(kernel, &directory).await?.sample().await;
    sample.map_err(|failure| Error::Conflict(format!("{} {}", failure.message, failure.next_step)))
}

/// What kind of run is asked for.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = RunCreate)]
pub struct RunInput {
    pub mode: Mode,
    /// Stop after the plan.
    #[serde(default)]
    pub dry_run: bool,
}

/// Starts a run; 409 when one of this directory is going on.
pub async fn start_run(
    kernel: &Kernel,
    principal: &Principal,
    runner: &Runner,
    directory_id: i64,
    input: RunInput,
) -> Result<Run> {
    let account = principal.account()?;
    if input.mode == Mode::Delta {
        return Err(Error::field("mode", "This directory is read with full runs only. Ask for mode full."));
    }
    let (who, now) = (principal.clone(), kernel.clock.now());
    let run = audit::change(kernel, principal, move |c| {
        let directory = queries::find(c, account, directory_id)?.ok_or(Error::NotFound("This directory"))?;
        let hash = crate::secret::encode_hex(&crate::secret::sha256(directory.settings.to_string().as_bytes()));
        let id = queries::insert_run(c, &directory, input.mode.as_str(), input.dry_run, &who.urn(), &hash, now)?
            .ok_or_else(|| Error::Conflict("A run of this directory is going on already.".into()))?;
        let entry = Entry::new("audit.run_started.v1")
            .subject(urn("directories", &who.region, who.account, "run", id))
            .detail("directory", directory.name)
            .detail("mode", input.mode.as_str())
            .detail("dryRun", input.dry_run);
        let run = queries::find_run(c, account, id)?.ok_or(Error::NotFound("This run"))?;
        Ok((run, vec![entry]))
    })
    .await?;
    runner.spawn(run.clone());
    Ok(run)
}
