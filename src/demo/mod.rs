//! The demo: a throw-away appliance beside a sample directory, so that a newcomer sees a real sync within a minute.
//!
//! Owns the sample directory and what the demo puts into its appliance. Everything in it is invented; it must never
//! reach beyond loopback, and nothing of it may be used by a real appliance. The directory is connected the way an
//! administrator would connect one: over LDAPS with its authority's certificate, and read by ordinary runs.

pub mod directory;

use std::{sync::Arc, time::Duration};

use self::directory::{Certificate, Limits, SampleDirectory};
use crate::{
    connectors::Kind,
    directories::{self, ActInput, CreateInput, CredentialsInput, Mode, RunInput, RunState, Runner, Schedule},
    error::{Error, Result},
    kernel::Kernel,
    principal::Principal,
    schedule::SpecInput,
    secret::{self, Secret},
    sign_in::{self, FirstAccount},
};

/// How the demo is signed in to.
pub struct SignIn {
    pub email: &'static str,
    pub password: Secret<String>,
}

const EMAIL: &str = "admin@alder-finch.example";
/// The sample directory changes this often, and is read as often.
const CHANGE_EVERY: Duration = Duration::from_secs(60);
/// Any number: the same organisation every time.
const SEED: u64 = 7;

/// Starts the sample directory, makes an account, connects the directory and reads it once. Call it in a runtime; the
/// directory is served until the runtime ends.
pub async fn populate(kernel: &Kernel, runner: &Runner) -> Result<SignIn> {
    let now = kernel.clock.now();
    let sample = Arc::new(SampleDirectory::new(SEED, kernel.clock.clone()));
    let certificate =
        Certificate::new(now.timestamp()).map_err(|e| Error::caused("the sample directory's certificate", e))?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .map_err(|e| Error::caused("the sample directory cannot listen", e))?;
    let port = listener.local_addr().map_err(|e| Error::caused("the sample directory has no address", e))?.port();
    tokio::spawn(directory::serve(sample.clone(), listener, Some(certificate.server.clone()), Limits::default()));

    let password = demo_password();
    let machine = Principal::command_line(&kernel.config.region, None, "demo");
    let first = FirstAccount {
        alias: "alder-finch".into(),
        email: EMAIL.into(),
        name: "Demo Administrator".into(),
        password: password.clone(),
    };
    let (inner, who) = (kernel.clone(), machine.clone());
    let account = tokio::task::spawn_blocking(move || sign_in::first_account(&inner, &who, &first))
        .await
        .map_err(|e| Error::caused("the demo's account could not be made", e))??;
    let machine = Principal::command_line(&kernel.config.region, Some(account), "demo");

    let credentials = |bind_dn: &str, password: &Secret<String>| {
        Secret::new(serde_json::json!({"bindDn": bind_dn, "password": password.expose()}).to_string())
    };
    let input = CreateInput {
        kind: Kind::Openldap,
        name: "Alder & Finch".into(),
        settings: serde_json::json!({
            "servers": [format!("ldaps://127.0.0.1:{port}")],
            "caPem": certificate.ca_pem,
            "baseDns": [directory::BASE_DN],
            "preset": "inetOrgPerson",
        }),
        credentials: CredentialsInput {
            read: Some(credentials(sample.bind_dn(), sample.password())),
            act: ActInput::Set(credentials(directory::ACTOR_DN, sample.actor_password())),
        },
        schedule: Some(Schedule { full: Some(SpecInput::every("1m")), ..Schedule::default() }),
        guard: None,
    };
    let connected = directories::create(kernel, &machine, input).await?;
    let input = RunInput { mode: Mode::Full, dry_run: false };
    let run = directories::start_run(kernel, &machine, runner, connected.id, input).await?;
    let ended = runner.wait(account, run.id).await?;
    if ended.state != RunState::Applied {
        return Err(Error::internal(format!("the first run ended as {}: {:?}", ended.state.as_str(), ended.reason)));
    }
    tokio::spawn(change(kernel.clone(), sample));
    Ok(SignIn { email: EMAIL, password })
}

/// Lets the organisation live.
async fn change(kernel: Kernel, sample: Arc<SampleDirectory>) {
    let mut every = tokio::time::interval(CHANGE_EVERY);
    every.tick().await;
    loop {
        every.tick().await;
        for sentence in sample.tick(kernel.clock.now().timestamp()) {
            tracing::info!(change = sentence, "the sample directory changed");
        }
    }
}

/// Twenty characters that can be typed: 80 random bits of hexadecimal.
fn demo_password() -> Secret<String> {
    let mut bytes = [0_u8; 10];
    secret::fill_random(&mut bytes);
    let hex = secret::encode_hex(&bytes);
    let groups: Vec<String> = hex.as_bytes().chunks(5).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    Secret::new(groups.join("-"))
}
