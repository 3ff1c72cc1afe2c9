//! What can be done with a directory: one function per verb, the same for page and API.

use serde::Deserialize;

use super::{
    credentials::{self, ActInput, CredentialsInput, OTHER_WAY, Purpose, open, stored_read},
    guard::Guard,
    model::{Directory, Mode, Run, Schedule},
    queries,
    review::{self, Preview},
    run::Runner,
};
use crate::{
    accounts,
    audit::{self, Entry},
    connectors::{self, Connector, Failure, Kind, ProbeReport, ProbeStep, Sample, StepState, act::Act},
    error::{Error, FieldError, Result},
    kernel::Kernel,
    principal::{AccountId, Principal, urn},
    schedule::{self, SpecInput},
    secret::Secret,
    web::carried,
};

/// A new directory, or all of an existing one's settings (DESIGN §8).
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = DirectoryCreate)]
pub struct CreateInput {
    pub kind: Kind,
    #[schema(min_length = 1, max_length = 100)]
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

/// What is to be different; absent fields stay as they are.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = DirectoryUpdate)]
pub struct UpdateInput {
    #[schema(min_length = 1, max_length = 100)]
    pub name: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub settings: Option<serde_json::Value>,
    #[schema(value_type = Option<Object>)]
    pub credentials: Option<CredentialsInput>,
    pub schedule: Option<Schedule>,
    pub guard: Option<Guard>,
}

/// The default: everything once a day.
fn default_schedule() -> Schedule {
    Schedule { full: Some(SpecInput::every("24h")), ..Schedule::default() }
}

pub(super) fn check_name(name: &str) -> Vec<FieldError> {
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

pub(super) fn subject(principal: &Principal, id: i64) -> String {
    urn("directories", &principal.region, principal.account, "directory", id)
}

/// What of a directory goes on the record.
fn recorded(directory: &Directory) -> serde_json::Value {
    serde_json::json!({
        "name": directory.name,
        "kind": directory.kind,
        "settings": directory.settings,
        "readsAs": directory.read_principal,
        "actsAs": directory.act_principal,
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
    errors.extend(schedule.check(input.kind.can_be_watched()));
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
    let act_principal = credentials::check_act((input.kind, &input.settings), None, &input.credentials.act, true)
        .unwrap_or_else(|found| {
            errors.extend(found);
            None
        });
    first(errors)?;
    let act = input.credentials.act;
    let now = kernel.clock.now();
    let mut directory = Directory {
        id: 0,
        account_id: account,
        kind: input.kind,
        name: input.name.trim().to_owned(),
        settings: input.settings,
        read_principal,
        act_principal,
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
        queries::set_credentials(c, directory.id, &Purpose::Read.seal(&key, directory.id, &credentials))?;
        if let ActInput::Set(act) = &act {
            let sealed = Purpose::Act.seal(&key, directory.id, act);
            queries::set_act_credentials(c, directory.id, Some(&sealed))?;
        }
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
    let schedule = &directory.schedule;
    for (job, spec) in [(queries::FULL_JOB, &schedule.full), (queries::DELTA_JOB, &schedule.delta)] {
        match spec {
            Some(spec) => schedule::set(connection, job, &id, spec, schedule.paused, now)?,
            None => schedule::remove(connection, job, &id)?,
        }
    }
    Ok(())
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
        errors.extend(schedule.check(after.kind.can_be_watched()));
        after.schedule = schedule;
    }
    if let Some(guard) = input.guard {
        errors.extend(guard.check());
        after.guard = guard;
    }
    let CredentialsInput { read: new_credentials, act } = input.credentials.unwrap_or_default();
    if let Some(settings) = input.settings {
        after.settings = settings;
    }
    let credentials = match &new_credentials {
        Some(credentials) => credentials.clone(),
        None => stored_read(kernel, id).await?,
    };
    match check_connector(after.kind, &after.settings, &credentials) {
        Ok(read_principal) => after.read_principal = read_principal,
        Err(found) => errors.extend(found),
    }
    let is_same_way = connectors::is_same_way(after.kind, &before.settings, &after.settings);
    if new_credentials.is_none() && !is_same_way {
        errors.push(FieldError::new("credentials.read", OTHER_WAY));
    }
    match credentials::check_act((after.kind, &after.settings), before.act_principal.as_deref(), &act, is_same_way) {
        Ok(act_principal) => after.act_principal = act_principal,
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
            queries::set_credentials(c, id, &Purpose::Read.seal(&key, id, credentials))?;
            entry = entry.detail("readCredentials", "replaced");
        }
        match &act {
            ActInput::Keep => {}
            ActInput::Remove => {
                queries::set_act_credentials(c, id, None)?;
                entry = entry.detail("actCredentials", "removed");
            }
            ActInput::Set(act) => {
                queries::set_act_credentials(c, id, Some(&Purpose::Act.seal(&key, id, act)))?;
                entry = entry.detail("actCredentials", "replaced");
            }
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
        for job in [queries::FULL_JOB, queries::DELTA_JOB] {
            schedule::remove(c, job, &id.to_string())?;
        }
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

/// Tries every step of the way; on the record, because it uses the credentials.
pub async fn probe(kernel: &Kernel, principal: &Principal, id: i64) -> Result<ProbeReport> {
    let directory = get(kernel, principal, id).await?;
    let connector = open(kernel, &directory).await?;
    let report = probe_both(connector.as_ref(), credentials::open_act(kernel, &directory).await?.as_deref()).await;
    let failed: Vec<_> =
        report.steps.iter().filter(|s| s.state == connectors::StepState::Failed).map(|s| s.step.clone()).collect();
    let entry = Entry::new("audit.directory_probed.v1")
        .subject(subject(principal, id))
        .outcome(outcome(report.is_ok()))
        .detail("failedSteps", failed);
    audit::record(kernel, principal, vec![entry]).await?;
    Ok(report)
}

/// Tries reading, then acting where the directory is acted on.
async fn probe_both(connector: &dyn Connector, act: Option<&dyn Act>) -> ProbeReport {
    let mut report = connector.probe().await;
    match act {
        None => {}
        Some(act) if report.is_ok() => {
            let acting = act.probe().await;
            report.steps.extend(acting.steps);
            report.abilities.extend(acting.abilities);
        }
        // A password that was refused a moment ago is not sent again: each try could lock the account.
        Some(_) => report.steps.push(ProbeStep {
            step: "act-bind".to_owned(),
            target: None,
            state: StepState::Skipped,
            message: "Not tried: reading has to work first.".to_owned(),
            fix: None,
        }),
    }
    report
}

/// Settings that are not stored yet, or changed ones of a stored directory. The stored credentials of that directory
/// are used when none are given, but only for the servers and the encryption they were given for.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = DirectoryTrial)]
pub struct TrialInput {
    pub kind: Kind,
    #[schema(value_type = Object)]
    pub settings: serde_json::Value,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub credentials: CredentialsInput,
    /// The stored directory whose settings these are to become.
    #[serde(default)]
    pub directory_id: Option<String>,
}

/// A trial that may be made: whom it is about, and how it goes on the record.
struct Trial {
    connector: Box<dyn Connector>,
    act: Option<Box<dyn Act>>,
    entry: Entry,
}

async fn trial(kernel: &Kernel, principal: &Principal, input: TrialInput, kind: &'static str) -> Result<Trial> {
    let mut entry =
        Entry::new(kind).detail("servers", input.settings.get("servers").cloned().unwrap_or(serde_json::Value::Null));
    if let Some(domain) = input.settings.get("domain") {
        entry = entry.detail("domain", domain.clone());
    }
    let stored = match input.directory_id {
        Some(id) => {
            let id = id.parse().map_err(|_| Error::NotFound("This directory"))?;
            entry = entry.subject(subject(principal, id));
            Some(get(kernel, principal, id).await?)
        }
        None => None,
    };
    let is_same_way = stored.as_ref().is_some_and(|stored| {
        stored.kind == input.kind && connectors::is_same_way(stored.kind, &stored.settings, &input.settings)
    });
    let act = match (input.credentials.act, &stored) {
        (ActInput::Set(given), _) => Some(given),
        (ActInput::Keep, Some(stored)) if is_same_way => credentials::stored(kernel, stored.id, Purpose::Act).await?,
        (ActInput::Keep, Some(stored)) if stored.act_principal.is_some() => {
            return Err(Error::field("credentials.act", OTHER_WAY));
        }
        (ActInput::Keep | ActInput::Remove, _) => None,
    };
    let credentials = match (input.credentials.read, &stored) {
        (Some(given), _) => given,
        (None, None) => {
            return Err(Error::field("credentials.read", "Give the credentials that the directory is read with."));
        }
        (None, Some(stored)) if is_same_way => {
            entry = entry.detail("credentials", "stored");
            stored_read(kernel, stored.id).await?
        }
        (None, Some(_)) => return Err(Error::field("credentials.read", OTHER_WAY)),
    };
    let now = kernel.clock.now();
    let connector = connectors::open(input.kind, &input.settings, &credentials, now).map_err(Error::Invalid)?;
    let act = act.map(|act| connectors::open_act(input.kind, &input.settings, &credentials, &act)).transpose();
    Ok(Trial { connector, act: act.map_err(Error::Invalid)?, entry })
}

/// [`probe`] before anything is stored.
pub async fn probe_trial(kernel: &Kernel, principal: &Principal, input: TrialInput) -> Result<ProbeReport> {
    let trial = trial(kernel, principal, input, "audit.directory_probed.v1").await?;
    let report = probe_both(trial.connector.as_ref(), trial.act.as_deref()).await;
    let entry = trial.entry.outcome(outcome(report.is_ok()));
    audit::record(kernel, principal, vec![entry]).await?;
    Ok(report)
}

/// One entry, raw and mapped, before anything is stored. The inner error is the directory's.
pub async fn sample_trial(
    kernel: &Kernel,
    principal: &Principal,
    input: TrialInput,
) -> Result<Result<Sample, Failure>> {
    let trial = trial(kernel, principal, input, "audit.directory_sampled.v1").await?;
    let sample = trial.connector.sample().await;
    let entry = trial.entry.outcome(outcome(sample.is_ok()));
    audit::record(kernel, principal, vec![entry]).await?;
    Ok(sample)
}

fn outcome(is_ok: bool) -> audit::Outcome {
    if is_ok { audit::Outcome::Success } else { audit::Outcome::Failure }
}

/// One entry of a stored directory, raw and mapped; on the record, because it uses the credentials. The inner error is
/// the directory's.
pub async fn sample(kernel: &Kernel, principal: &Principal, id: i64) -> Result<Result<Sample, Failure>> {
    let directory = get(kernel, principal, id).await?;
    let sample = open(kernel, &directory).await?.sample().await;
    let entry = Entry::new("audit.directory_sampled.v1")
        .subject(subject(principal, id))
        .detail("credentials", "stored")
        .outcome(outcome(sample.is_ok()));
    audit::record(kernel, principal, vec![entry]).await?;
    Ok(sample)
}

/// A directory's own failure as an answer of the API.
pub fn refused(failure: Failure) -> Error {
    Error::Conflict(format!("{} {}", failure.message, failure.next_step))
}

/// What kind of run is asked for.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
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
    start(kernel, principal, runner, account, directory_id, input, None).await
}

async fn start(
    kernel: &Kernel,
    principal: &Principal,
    runner: &Runner,
    account: AccountId,
    directory_id: i64,
    input: RunInput,
    preview: Option<Preview>,
) -> Result<Run> {
    let begin = || {
        let (kernel, principal, runner, preview) = (kernel.clone(), principal.clone(), runner.clone(), preview.clone());
        // In a task of its own: when the asker goes away, a run that was stored is carried all the same.
        tokio::spawn(carried(async move {
            begin_run(&kernel, &principal, &runner, account, directory_id, input, preview).await
        }))
    };
    let ended = |e| Error::caused("starting a run ended early", e);
    match begin().await.map_err(ended)? {
        // A run that nobody carries any more must not stand in the way for ever.
        Err(Error::Conflict(_)) if runner.take_up_abandoned(directory_id).await? => begin().await.map_err(ended)?,
        other => other,
    }
}

async fn begin_run(
    kernel: &Kernel,
    principal: &Principal,
    runner: &Runner,
    account: AccountId,
    directory_id: i64,
    input: RunInput,
    preview: Option<Preview>,
) -> Result<Run> {
    let (who, now, board, key) = (principal.clone(), kernel.clock.now(), runner.board.clone(), kernel.key.clone());
    let run = audit::change(kernel, principal, move |c| {
        let mut directory = queries::find(c, account, directory_id)?.ok_or(Error::NotFound("This directory"))?;
        accounts::check_active(c, account)?;
        if let Some(preview) = &preview {
            directory.settings = preview.settings.clone();
        }
        let hash = crate::secret::encode_hex(&crate::secret::sha256(directory.settings.to_string().as_bytes()));
        let id = queries::insert_run(c, &directory, input.mode.as_str(), input.dry_run, &who.urn(), &hash, now)?
            .ok_or_else(|| Error::Conflict("A run of this directory is going on already.".into()))?;
        let entry = Entry::new("audit.run_started.v1")
            .subject(urn("directories", &who.region, who.account, "run", id))
            .detail("directory", directory.name)
            .detail("mode", input.mode.as_str())
            .detail("dryRun", input.dry_run)
            .detail("preview", preview.is_some());
        if let Some(preview) = &preview {
            review::store_preview(c, &key, id, preview)?;
        }
        let run = queries::find_run(c, account, id)?.ok_or(Error::NotFound("This run"))?;
        // Before anybody can see the row: from then on it is carried.
        board.open(id);
        Ok((run, vec![entry]))
    })
    .await?;
    runner.spawn(run.clone());
    Ok(run)
}

/// Settings whose effect is to be seen before they are saved.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = DirectoryPreview)]
pub struct PreviewInput {
    #[schema(value_type = Object)]
    pub settings: serde_json::Value,
    /// Absent: the stored ones, but only for the servers and the encryption they were given for.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub credentials: CredentialsInput,
}

/// A dry run of a stored directory with settings that are not stored; 409 when a run of it is going on.
pub async fn preview(
    kernel: &Kernel,
    principal: &Principal,
    runner: &Runner,
    id: i64,
    input: PreviewInput,
) -> Result<Run> {
    let account = principal.account()?;
    let directory = get(kernel, principal, id).await?;
    let is_same_way = connectors::is_same_way(directory.kind, &directory.settings, &input.settings);
    let (credentials, is_given) = match input.credentials.read {
        Some(given) => (given, true),
        None => (stored_read(kernel, id).await?, false),
    };
    let mut errors = Vec::new();
    let read_principal = check_connector(directory.kind, &input.settings, &credentials).unwrap_or_else(|found| {
        errors.extend(found);
        String::new()
    });
    if !is_given && !is_same_way {
        errors.push(FieldError::new("credentials.read", OTHER_WAY));
    }
    first(errors)?;
    let preview = Preview { settings: input.settings, read_principal, credentials };
    let input = RunInput { mode: Mode::Full, dry_run: true };
    start(kernel, principal, runner, account, id, input, Some(preview)).await
}

/// A directory, opened with the settings of a preview; `directory` has them from then on, in memory.
pub(super) fn open_preview(kernel: &Kernel, directory: &mut Directory, preview: Preview) -> Result<Box<dyn Connector>> {
    let now = kernel.clock.now();
    let connector =
        connectors::open(directory.kind, &preview.settings, &preview.credentials, now).map_err(Error::Invalid)?;
    (directory.settings, directory.read_principal) = (preview.settings, preview.read_principal);
    Ok(connector)
}
