//! What each command does.
//!
//! Every command works while `serve` runs: it opens the same database and is one more writer in line. What it changes
//! is recorded with the principal `…:cli/<operating-system user>`. Whoever can read the data directory may do this;
//! the directory belongs to the service's user alone (HOSTILE R10).

mod ask;
mod demo;
mod flags;
mod heaps;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use bailiwick::{
    accounts, api_keys,
    api_keys::{Expiry, KeyInput},
    app::{self, App, StartError},
    audit,
    clock::{Clock, DAY},
    config::{Config, LogFormat},
    db::{Db, OpenError},
    error::Error,
    mfa,
    principal::{AccountId, Principal},
    roles,
    secret::{self, Secret},
    sign_in, users, web,
};
use clap::{Parser, Subcommand};

/// One console over every directory an organisation has.
#[derive(Parser)]
#[command(name = "bailiwick", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    settings: flags::Settings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the console and the API.
    Serve,
    /// Start a throw-away appliance with a sample directory; prints where and how to sign in.
    Demo,
    /// Make the data directory, the first account and its full-access user. Safe to run twice.
    Init {
        /// Short name of the organisation: lower-case letters, digits and hyphens.
        #[arg(long)]
        account: String,
        /// The first user's e-mail address.
        #[arg(long)]
        email: String,
        /// The first user's name.
        #[arg(long)]
        name: String,
        /// Read the password from standard input instead of asking for it.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Administer from the machine itself; every change is audited.
    #[command(subcommand)]
    Admin(Admin),
    /// The audit log.
    #[command(subcommand)]
    Audit(Audit),
    /// Check the configuration, the database and the master key.
    Check,
    /// Print the version.
    Version,
}

#[derive(Subcommand)]
enum Admin {
    /// Make an API key; prints `id:secret`, which cannot be shown again.
    CreateApiKey {
        /// Account id or alias.
        #[arg(long)]
        account: String,
        /// Role: full-access, operator, read-only or auditor.
        #[arg(long)]
        role: String,
        /// What uses the key.
        #[arg(long)]
        alias: String,
        #[arg(long, default_value = "")]
        description: String,
        /// Days until the key expires.
        #[arg(long, default_value_t = 365, conflicts_with = "never_expires")]
        expires_in_days: i64,
        #[arg(long)]
        never_expires: bool,
        /// Let it change users, roles, keys and identity providers where its role says so. full-access always may.
        #[arg(long)]
        may_administer: bool,
    },
    /// List the API keys of an account: id, state, role, alias.
    ListApiKeys {
        /// Account id or alias.
        #[arg(long)]
        account: String,
    },
    /// Set a user's password and end their sessions. Without --password-stdin a random one is made and printed.
    ResetPassword {
        #[arg(long)]
        email: String,
        /// Read the new password from standard input.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Reset what a user has enrolled as second factors and end their sessions: they enrol a new one at the next sign-in.
    ResetMfa {
        #[arg(long)]
        email: String,
    },
    /// Give a user another role in an account.
    Grant {
        #[arg(long)]
        email: String,
        /// Account id or alias.
        #[arg(long)]
        account: String,
        #[arg(long)]
        role: String,
    },
    /// Make another user the owner of the appliance; both sign in anew.
    SetOwner {
        #[arg(long)]
        email: String,
    },
    /// List the accounts: id, state, when they go for good, alias.
    ListAccounts,
    /// Write everything that an account holds into a file, also while it is suspended: JSON lines, without passwords and
    /// secrets. An existing file is not overwritten.
    ExportAccount {
        /// Account id or alias.
        #[arg(long)]
        account: String,
        #[arg(long)]
        out: PathBuf,
    },
    /// Give a user another address, where theirs is lost: their sessions end, links that were mailed die, and the new
    /// address counts as not proved.
    SetEmail {
        /// The present address.
        #[arg(long)]
        email: String,
        /// The new one.
        #[arg(long)]
        to: String,
    },
    /// Bring a suspended or deleted account back, within 30 days.
    RestoreAccount {
        /// Account id or alias.
        #[arg(long)]
        account: String,
    },
    /// Forget failed sign-ins, so that waiting times end at once.
    Unlock {
        /// Only this user's; without it everybody's, and all addresses'.
        #[arg(long)]
        email: Option<String>,
    },
}

#[derive(Subcommand)]
enum Audit {
    /// Walk the whole log and say what was edited, removed or inserted. Exit code 1 if anything was.
    Verify,
}

/// Why a command ended without doing what it was asked to.
enum Failure {
    Start(StartError),
    Config(bailiwick::config::ConfigError),
    Request(Error),
    /// Already a sentence for the person who reads it.
    Said(String),
    /// Everything was said on standard output; only the exit code is left.
    Found,
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}
impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::Start(error.into())
    }
}
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Request(error)
    }
}
impl From<bailiwick::config::ConfigError> for Failure {
    fn from(error: bailiwick::config::ConfigError) -> Self {
        Self::Config(error)
    }
}

impl Failure {
    fn message(&self) -> String {
        match self {
            Self::Start(error) => error.to_string(),
            Self::Config(error) => format!("configuration: {error}"),
            Self::Request(Error::Invalid(fields)) => {
                let lines: Vec<String> =
                    fields.iter().map(|field| format!("{}: {}", field.field, field.message)).collect();
                lines.join("\n")
            }
            Self::Request(error) => error.chain(),
            Self::Said(text) => text.clone(),
            Self::Found => String::new(),
        }
    }
}

/// Runs the command that was given.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match command(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let message = failure.message();
            if !message.is_empty() {
                let _ = writeln!(std::io::stderr(), "bailiwick: {message}");
            }
            ExitCode::from(1)
        }
    }
}

/// A line of the result. A closed pipe is nobody's error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn command(cli: Cli) -> Result<(), Failure> {
    if matches!(cli.command, Command::Version) {
        say(concat!("bailiwick ", env!("CARGO_PKG_VERSION")));
        return Ok(());
    }
    if matches!(cli.command, Command::Demo) {
        let config = cli.settings.demo_config(demo::folder()?)?;
        start_log(&config, Some("warn"));
        return demo::run(config);
    }
    let config = cli.settings.config()?;
    match cli.command {
        Command::Serve => {
            heaps::keep_few();
            start_log(&config, None);
            serve(config)
        }
        other => {
            // A command's own words are its result; what happens on the way is only of interest when it goes wrong.
            start_log(&config, Some("warn"));
            match other {
                Command::Init { account, email, name, password_stdin } => {
                    init(config, account, email, name, password_stdin)
                }
                Command::Admin(admin) => self::admin(config, admin),
                Command::Audit(Audit::Verify) => verify(config),
                Command::Check => check(config),
                Command::Serve | Command::Demo | Command::Version => Ok(()),
            }
        }
    }
}

/// Logs go to standard error: systemd's journal takes them from there.
fn start_log(config: &Config, level: Option<&str>) {
    use tracing_subscriber::{EnvFilter, fmt};
    let wanted = level.unwrap_or(&config.log.level);
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|_| EnvFilter::new("info"));
    // It prints as an error, byte by byte, whatever a stranger sends as a passkey. Refusals go on the record without that.
    let filter = match "webauthn_rs_core=off".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    let log = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.log.format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            log.with_ansi(is_terminal).with_target(false).try_init()
        }
    };
    if started.is_err() {
        let _ = writeln!(std::io::stderr(), "bailiwick: the log could not be started");
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::Said(format!("the runtime could not be started: {e}")))
}

fn serve(config: Config) -> Result<(), Failure> {
    let _lock = app::lock_for_serving(&config.data_dir)?;
    let app = App::open(config, Clock::System, true)?;
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let bound = app.bind()?;
        let base = app::base_url(&app.kernel.config, bound.address, bound.scheme);
        tracing::info!(address = %bound.address, scheme = bound.scheme, version = env!("CARGO_PKG_VERSION"), "serving");
        say(&format!("Bailiwick serves {base} (listening on {}).", bound.address));
        if let Some(fingerprint) = &bound.fingerprint {
            say(&format!("Certificate fingerprint (SHA-256): {fingerprint}"));
        }
        if let Some(link) = app.setup_link(&base).await.map_err(StartError::from)? {
            say("There is no account yet. Open this link to make the first one; it works once, for 24 hours:");
            say(&link);
        }
        web::run(bound).await.map_err(StartError::from)
    });
    // Long-running work of other rooms is cut off here; what it did not finish it takes up at the next start.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    ended.map_err(Failure::from)
}

fn open(config: Config) -> Result<App, Failure> {
    Ok(App::open(config, Clock::System, false)?)
}

fn principal(app: &App, account: Option<AccountId>) -> Principal {
    Principal::command_line(&app.kernel.config.region, account, &ask::os_user())
}

fn init(config: Config, alias: String, email: String, name: String, password_stdin: bool) -> Result<(), Failure> {
    let app = App::open(config, Clock::System, true)?;
    let accounts = app.kernel.db.read_blocking(accounts::list)?;
    if !accounts.is_empty() {
        for account in &accounts {
            say(&format!("The account {} ({}) exists already.", account.id, account.alias));
        }
        say("Nothing was changed. To set a new password: bailiwick admin reset-password --email …");
        return Ok(());
    }
    let password = if password_stdin {
        ask::password_from_stdin().map_err(Failure::Said)?
    } else {
        let rules = app.kernel.db.read_blocking(users::password_rules)?;
        ask::password_from_terminal(rules.chars_min(false)).map_err(Failure::Said)?
    };
    let first = sign_in::FirstAccount { alias, email, name, password };
    let account = match sign_in::first_account(&app.kernel, &principal(&app, None), &first) {
        Ok(account) => account,
        // Another `init`, or the set-up link, was faster: that is what exists now.
        Err(Error::Conflict(message)) => return Err(Failure::Said(message)),
        Err(other) => return Err(other.into()),
    };
    say(&format!("Account {account} ({}) with full-access user {}.", first.alias, first.email.trim()));
    Ok(())
}

/// By id or by alias.
fn find_account(app: &App, text: &str) -> Result<accounts::Account, Failure> {
    let found = app.kernel.db.read_blocking(|c| match AccountId::parse(text) {
        Some(id) => accounts::find(c, id),
        None => accounts::find_by_alias(c, text),
    })?;
    found.ok_or_else(|| {
        let all = app.kernel.db.read_blocking(accounts::list).unwrap_or_default();
        let list: Vec<String> = all.iter().map(|account| format!("{} ({})", account.id, account.alias)).collect();
        Failure::Said(if list.is_empty() {
            "there is no account yet; run: bailiwick init".into()
        } else {
            format!("there is no account `{text}`; there is: {}", list.join(", "))
        })
    })
}

fn find_user(app: &App, email: &str) -> Result<(users::User, Option<AccountId>), Failure> {
    let folded = users::fold_email(email);
    let found = app.kernel.db.read_blocking(|c| {
        let user = users::find_by_email(c, &folded)?;
        let account = match &user {
            Some(user) => users::accounts_of(c, &user.id)?.into_iter().next(),
            None => None,
        };
        Ok(user.map(|user| (user, account)))
    })?;
    found.ok_or_else(|| Failure::Said(format!("there is no user with the address {email}")))
}

fn check_role(app: &App, account: AccountId, role: &str) -> Result<(), Failure> {
    let roles = app.kernel.db.read_blocking(|c| roles::list(c, account))?;
    let ids: Vec<&str> = roles.iter().map(|role| role.id.as_str()).collect();
    if ids.contains(&role) {
        return Ok(());
    }
    Err(Failure::Said(format!("there is no role `{role}`; there is: {}", ids.join(", "))))
}

fn admin(config: Config, admin: Admin) -> Result<(), Failure> {
    let app = open(config)?;
    let now = app.kernel.clock.now();
    match admin {
        Admin::CreateApiKey { account, role, alias, description, expires_in_days, never_expires, may_administer } => {
            let account = find_account(&app, &account)?;
            check_role(&app, account.id, &role)?;
            let expires_at =
                if never_expires { Expiry::Never } else { Expiry::At(now.plus(expires_in_days.saturating_mul(DAY))) };
            let input = KeyInput {
                alias: Some(alias),
                description: Some(description),
                role_id: Some(role),
                expires_at,
                may_administer: may_administer.then_some(true),
                ..KeyInput::default()
            };
            let created = api_keys::create_blocking(&app.kernel, &principal(&app, Some(account.id)), input)?;
            say(&format!("{}:{}", created.key.id, created.secret.expose()));
        }
        Admin::ListApiKeys { account } => {
            let account = find_account(&app, &account)?;
            for standing in app.kernel.db.read_blocking(|c| api_keys::list_all(c, account.id, now))? {
                let (key, state) = (standing.key, standing.state.as_str());
                say(&format!("{}  {state:<12}  {:<12}  {}", key.id, key.role_id, key.alias));
            }
        }
        Admin::ResetPassword { email, password_stdin } => {
            let (user, account) = find_user(&app, &email)?;
            let rules = app.kernel.db.read_blocking(users::password_rules)?;
            let made = (!password_stdin).then(secret::random_token);
            let entered = match &made {
                Some(token) => Secret::new(token.expose().clone()),
                None => ask::password_from_stdin().map_err(Failure::Said)?,
            };
            let hash = users::check_password("password", &entered, &user.email, rules)?.hash_blocking()?;
            let (key, region) = (app.kernel.key.clone(), app.kernel.config.region.clone());
            audit::change_blocking(&app.kernel, &principal(&app, account), move |c| {
                let entry = users::set_password(c, &key, &region, account, &user, &hash, now)?;
                let (_, unlocked) = sign_in::unlock(c, Some(&user.email))?;
                Ok(((), vec![entry, unlocked]))
            })?;
            match made {
                Some(token) => say(token.expose()),
                None => say("The password was set; all sessions of this user have ended."),
            }
        }
        Admin::ResetMfa { email } => {
            let (user, account) = find_user(&app, &email)?;
            if !user.factors.any() {
                return Err(Failure::Said(format!("{email} has no second factor.")));
            }
            let kernel = app.kernel.clone();
            let subject = users::user_urn(&app.kernel.config.region, account, &user.id);
            audit::change_blocking(&app.kernel, &principal(&app, account), move |c| {
                let entry = mfa::reset(c, &kernel, &user, "", "", now)?;
                let cleared = mfa::unlock(c, Some(&user.id))?;
                Ok(((), vec![entry.subject(subject).detail("attemptsForgotten", cleared)]))
            })?;
            say(&format!("The second factors of {email} were reset; a new one is enrolled at the next sign-in."));
        }
        Admin::Grant { email, account, role } => {
            let account = find_account(&app, &account)?;
            check_role(&app, account.id, &role)?;
            let (user, _) = find_user(&app, &email)?;
            let region = app.kernel.config.region.clone();
            let given = role.clone();
            audit::change_blocking(&app.kernel, &principal(&app, Some(account.id)), move |c| {
                Ok(((), users::grant(c, &region, &user, account.id, &given, now)?))
            })?;
            say(&format!("{email} now has the role {role} in {} ({}).", account.id, account.alias));
        }
        Admin::SetOwner { email } => {
            let (folded, region) = (users::fold_email(&email), app.kernel.config.region.clone());
            let key = app.kernel.key.clone();
            audit::change_blocking(&app.kernel, &principal(&app, None), move |c| {
                Ok(((), users::set_owner(c, &key, &region, &folded, now)?))
            })?;
            say(&format!("{email} owns the appliance now."));
        }
        Admin::ListAccounts => {
            for account in app.kernel.db.read_blocking(accounts::list)? {
                let state = if account.is_active() { "active" } else { "suspended" };
                let until = account.purge_at.map_or_else(String::new, |at| at.rfc3339());
                say(&format!("{}  {state:<9}  {until:<20}  {}", account.id, account.alias));
            }
        }
        Admin::ExportAccount { account, out } => {
            let account = find_account(&app, &account)?;
            let who = principal(&app, Some(account.id));
            let rows = accounts::export_blocking(&app.kernel, &who, &app::owned(&app.kernel), &account, &out)?;
            say(&format!("{rows} rows of {} ({}) are in {}.", account.id, account.alias, out.display()));
        }
        Admin::SetEmail { email, to } => {
            let (user, account) = find_user(&app, &email)?;
            let region = app.kernel.config.region.clone();
            let address = users::check_email("to", &to)?;
            audit::change_blocking(&app.kernel, &principal(&app, account), move |c| {
                Ok(((), vec![users::set_email(c, &region, account, &user, &address, now)?]))
            })?;
            say(&format!("{email} is {} now; all sessions of this user have ended.", to.trim()));
        }
        Admin::RestoreAccount { account } => {
            let account = find_account(&app, &account)?;
            let id = account.id;
            audit::change_blocking(&app.kernel, &principal(&app, Some(id)), move |c| {
                let (account, entry) = accounts::restore(c, id, now)?;
                Ok((account, vec![entry]))
            })?;
            say(&format!("The account {id} ({}) works again.", account.alias));
        }
        Admin::Unlock { email } => {
            let account = match &email {
                Some(email) => find_user(&app, email)?.1,
                None => None,
            };
            let cleared = audit::change_blocking(&app.kernel, &principal(&app, account), move |c| {
                let (cleared, entry) = sign_in::unlock(c, email.as_deref())?;
                Ok((cleared, vec![entry]))
            })?;
            say(&format!("Forgot {cleared} counter(s) of failed sign-ins."));
        }
    }
    Ok(())
}

fn verify(config: Config) -> Result<(), Failure> {
    let app = open(config)?;
    let report = app.kernel.db.read_blocking(|c| audit::verify(c, &app.kernel.key))?;
    say(&format!(
        "Checked {} record(s), the newest is number {} with hash {}.",
        report.records,
        report.newest_seq,
        if report.newest_hash.is_empty() { "(none)" } else { &report.newest_hash }
    ));
    if report.findings.is_empty() {
        say("Every record fits its hash, every link and number fits, and the head fits the master key.");
        return Ok(());
    }
    for finding in &report.findings {
        say(&format!("FOUND: {}", finding.message));
    }
    say(&format!("{} finding(s): this log was changed by something other than the appliance.", report.findings.len()));
    Err(Failure::Found)
}

fn check(config: Config) -> Result<(), Failure> {
    say(&format!("configuration: good (data directory {}, listening on {})", config.data_dir.display(), config.listen));
    let path: PathBuf = Db::file(&config.data_dir);
    if !path.exists() {
        say("database: none yet; `bailiwick serve` or `bailiwick init` makes it");
        return Ok(());
    }
    let app = open(config)?;
    say(&format!("master key: good ({})", app.kernel.key.file().display()));
    let problems: Vec<String> = app.kernel.db.read_blocking(|c| {
        let mut statement = c.prepare("PRAGMA quick_check(20)")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    })?;
    if problems != ["ok"] {
        for problem in &problems {
            say(&format!("database: {problem}"));
        }
        return Err(Failure::Said(format!("the database {} is damaged; restore a backup", path.display())));
    }
    say(&format!("database: good ({})", path.display()));
    Ok(())
}
