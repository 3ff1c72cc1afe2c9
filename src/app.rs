//! The appliance as a whole: opens its parts, knows every room, serves.
//!
//! The only file that names every room. Owns the order of opening (folder, database, master key), the lock that keeps
//! a second `serve` away, the gate between credentials and principals, and the routes that belong to no room (health,
//! metrics, the OpenAPI document). It holds no rule of any room.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use actix_web::{HttpRequest, HttpResponse, web::Data};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{
    accounts::{self, Belongings, Exporting, KeyFit, Owned, Purge},
    api_keys::{self, Keys},
    audit::{self, Entry, Flood, Outcome},
    clock::{Clock, MINUTE},
    config::Config,
    dashboard,
    db::{self, Db},
    directories::{self, Live, Runner},
    enforcement::{self, Dispatcher},
    error::{Error, Result},
    identities, invitations,
    kernel::{BoxFuture, Kernel},
    mfa, notifications,
    principal::{Level, Permission, Principal, Service},
    proof::{self, Step},
    roles, schedule,
    secret::{KeyError, MasterKey, Secret},
    sessions, sign_in,
    users::{self, Passwords},
    web::{
        self, Address, Answer, Confirmed, Gate, KeyPair, Means, Recognised, Refusal, Routes, ServeError, Surroundings,
        Web,
    },
};

/// Every room's routes.
fn routes() -> Routes {
    let mut routes = Routes::default();
    audit::routes(&mut routes);
    notifications::routes(&mut routes);
    accounts::routes(&mut routes);
    roles::routes(&mut routes);
    users::routes(&mut routes);
    invitations::routes(&mut routes);
    mfa::routes(&mut routes);
    api_keys::routes(&mut routes);
    sign_in::routes(&mut routes);
    identities::routes(&mut routes);
    directories::routes(&mut routes);
    enforcement::routes(&mut routes);
    dashboard::routes(&mut routes);
    routes.open("/healthz", alive);
    routes.open("/readyz", ready);
    routes.open("/metrics", metrics_text);
    routes.open("/api/openapi.json", openapi);
    web::step_up_routes(&mut routes);
    routes.get("/docs/api", Permission::SignedIn, web::reference);
    routes
}

/// Every room's work in the background; all of it ends with the runtime.
fn jobs(app: &App) {
    every(app, Duration::from_secs(600), "sessions", sessions::purge);
    every(app, Duration::from_secs(600), "sign-in", sign_in::purge);
    every(app, Duration::from_secs(600), "second factors", mfa::purge);
    every(app, Duration::from_secs(3600), "links", users::purge);
    every(app, Duration::from_secs(3600), "parts", identities::parts::purge);
    every(app, Duration::from_secs(3600), "mails", notifications::purge);
    tokio::spawn(notifications::work(app.kernel.clone()));
    every(app, Duration::from_secs(60), "idempotency keys", web::purge_answers);
    let (kernel, runner, live) = (app.kernel.clone(), app.runner.clone(), app.live.clone());
    tokio::spawn(async move {
        // Before anything runs: what ends from here on is counted on top.
        if let Err(error) = directories::begin_measuring(&kernel).await {
            tracing::warn!(error = %error.chain(), "the measurements do not begin where they ended");
        }
        // What was interrupted goes first: a schedule that is due must find it going on.
        if let Err(error) = runner.resume().await {
            tracing::error!(error = %error.chain(), "interrupted runs could not be taken up again");
        }
        let now = kernel.clock.now();
        if let Err(error) = kernel.db.write(move |c| identities::retention::schedule_daily(c, now)).await {
            tracing::error!(error = %error.chain(), "old history is not going to be deleted: that could not be scheduled");
        }
        if let Err(error) = kernel.db.write(move |c| invitations::schedule_expiry(c, now)).await {
            tracing::error!(error = %error.chain(), "the end of invitations is not going to be recorded: that could not be scheduled");
        }
        if let Err(error) = kernel.db.write(move |c| api_keys::schedule_daily(c, now)).await {
            tracing::error!(error = %error.chain(), "nobody is going to be told of keys that expire: that could not be scheduled");
        }
        let mut jobs = directories::jobs(&runner);
        jobs.push(api_keys::job(&kernel));
        jobs.push(invitations::job(&kernel));
        jobs.push(identities::retention::job(&kernel, accounts::history_days));
        if let Err(error) = schedule::start(kernel, jobs).await {
            tracing::error!(%error, "the schedule could not be started: nothing runs by itself");
        }
        live.supervise().await;
    });
    let kernel = app.kernel.clone();
    tokio::spawn(async move {
        let owned = owned(&kernel);
        let mut interval = tokio::time::interval(Duration::from_secs(600));
        loop {
            interval.tick().await;
            match accounts::purge_due(&kernel, &owned).await {
                Ok(0) => {}
                Ok(accounts) => tracing::info!(accounts, "deleted accounts whose time was over"),
                Err(error) => tracing::error!(error = %error.chain(), "deleted accounts could not be looked for"),
            }
        }
    });
    tokio::spawn(app.dispatcher.clone().work());
    let (kernel, live) = (app.kernel.clone(), app.live.clone());
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(Duration::from_secs(30));
        loop {
            interval.tick().await;
            for refreshed in [directories::refresh_measures(&kernel).await, live.measure().await] {
                if let Err(error) = refreshed {
                    tracing::warn!(error = %error.chain(), "the measurements could not be refreshed");
                }
            }
            // Without this, measurements pile up until somebody reads them.
            recorder().run_upkeep();
        }
    });
}

/// What each room owns of an account: what an export of it holds, and what is deleted when it goes for good. One list, so
/// that nothing is deleted which could not be taken along before.
pub fn owned(kernel: &Kernel) -> Belongings {
    let (tasks, copies) = (kernel.clone(), kernel.clone());
    let (parts, invited) = (kernel.clone(), kernel.clone());
    let with_the_account = |tables| Owned { tables, purge: None };
    let purged = |tables, purge: Purge| Owned { tables, purge: Some(purge) };
    let rooms = [
        with_the_account(accounts::OWNED),
        with_the_account(users::OWNED),
        with_the_account(sessions::OWNED),
        with_the_account(roles::OWNED),
        purged(
            invitations::OWNED,
            Arc::new(move |account| {
                let kernel = invited.clone();
                Box::pin(async move { kernel.db.write(move |c| invitations::purge(c, account)).await })
            }),
        ),
        with_the_account(api_keys::OWNED),
        purged(enforcement::OWNED, Arc::new(move |account| Box::pin(enforcement::purge(tasks.clone(), account)))),
        // Takes the copies of its directories along; parts are what is left of them.
        purged(directories::OWNED, Arc::new(move |account| Box::pin(directories::purge(copies.clone(), account)))),
        with_the_account(schedule::OWNED),
        purged(
            identities::OWNED,
            Arc::new(move |account| {
                let kernel = parts.clone();
                Box::pin(async move { kernel.db.write(move |c| identities::parts::purge_account(c, account)).await })
            }),
        ),
        with_the_account(audit::OWNED),
    ];
    Belongings { rooms: rooms.into(), directories: directories::of_account }
}

/// Deletes what is past its time, again and again.
fn every(
    app: &App,
    period: Duration,
    what: &'static str,
    purge: fn(&rusqlite::Connection, crate::clock::Time) -> Result<usize>,
) {
    let kernel = app.kernel.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(period);
        loop {
            interval.tick().await;
            let now = kernel.clock.now();
            match kernel.db.write(move |c| purge(c, now)).await {
                Ok(0) => {}
                Ok(rows) => tracing::debug!(what, rows, "deleted what was past its time"),
                Err(error) => tracing::warn!(what, error = %error.chain(), "could not delete what is past its time"),
            }
        }
    });
}

/// Why the appliance does not start. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the data directory {path} cannot be used: {source}")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("another `bailiwick serve` is running on {path}; stop it first")]
    Running { path: PathBuf },
    #[error(
        "the database {path} is gone, but this data directory was in use before; restore a backup with: bailiwick restore (to begin anew instead, empty the directory)"
    )]
    Gone { path: PathBuf },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Database(#[from] db::OpenError),
    #[error("{0}")]
    Failed(String),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::Failed(error.chain())
    }
}

/// The appliance, opened and not yet serving; cheap to clone.
#[derive(Clone)]
pub struct App {
    pub kernel: Kernel,
    pub passwords: Passwords,
    pub runner: Runner,
    pub live: Live,
    pub dispatcher: Dispatcher,
    routes: Arc<Routes>,
}

impl App {
    /// Opens the data directory; makes folder, database and master key on first use when `create`.
    pub fn open(config: Config, clock: Clock, create: bool) -> Result<Self, StartError> {
        let kernel = open_kernel(config, clock, create)?;
        let runner = Runner::new(kernel.clone());
        let live = Live::new(runner.clone());
        let dispatcher = Dispatcher::new(kernel.clone(), runner.clone());
        Ok(Self { kernel, passwords: Passwords::default(), runner, live, dispatcher, routes: Arc::new(routes()) })
    }

    /// All routes, for the access test.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// A new one-time set-up link, if there is no account yet. `base` is where the console is reached.
    pub async fn setup_link(&self, base: &str) -> Result<Option<String>> {
        let now = self.kernel.clock.now();
        let region = self.kernel.config.region.clone();
        let principal = Principal::command_line(&region, None, "serve");
        let token = audit::change(&self.kernel, &principal, move |c| {
            let token = accounts::new_setup_token(c, now)?;
            let entries = token.iter().map(|_| Entry::new("audit.setup_link_created.v1")).collect();
            Ok((token, entries))
        })
        .await?;
        Ok(token.map(|token| format!("{base}/setup?token={}", token.expose())))
    }

    /// Binds the configured address and starts the background work. Call it inside a runtime; [`web::run`] serves.
    pub fn bind(&self) -> Result<web::Bound, StartError> {
        recorder();
        let (kernel, passwords) = (self.kernel.clone(), self.passwords.clone());
        let gate = Arc::new(Door { kernel, keys: Keys::default(), denials: Flood::default(), passwords });
        let web = Web::new(self.kernel.clone(), gate, &self.routes);
        let (passwords, runner) = (Data::new(self.passwords.clone()), Data::new(self.runner.clone()));
        let (live, dispatcher) = (Data::new(self.live.clone()), Data::new(self.dispatcher.clone()));
        let (neighbours, asking) = (Data::new(NEIGHBOURS), Data::new(users::Asking::default()));
        let asking_passkeys = Data::new(sign_in::PasskeyAsking::default());
        let of_members = Data::new(MEMBER_NEIGHBOURS);
        let (belongings, exporting) = (Data::new(owned(&self.kernel)), Data::new(Exporting::default()));
        let bound = web::bind(web, self.routes.clone(), move |state| {
            state
                .app_data(passwords.clone())
                .app_data(runner.clone())
                .app_data(live.clone())
                .app_data(dispatcher.clone())
                .app_data(neighbours.clone())
                .app_data(asking.clone())
                .app_data(asking_passkeys.clone())
                .app_data(of_members.clone())
                .app_data(belongings.clone())
                .app_data(exporting.clone());
        })?;
        jobs(self);
        Ok(bound)
    }
}

/// Where the console is reached, for links: as configured, else the address that is listened on.
pub fn base_url(config: &Config, address: SocketAddr, scheme: &str) -> String {
    if let Some(url) = &config.base_url {
        return url.as_str().trim_end_matches('/').to_owned();
    }
    let port = address.port();
    if address.ip().is_unspecified() { format!("{scheme}://localhost:{port}") } else { format!("{scheme}://{address}") }
}

/// Held while `serve` runs; ends with the process, however it ends.
pub struct ServeLock {
    _file: File,
}

/// Takes the data directory for this process.
pub fn lock_for_serving(data_dir: &Path) -> Result<ServeLock, StartError> {
    make_folder(data_dir)?;
    let path = data_dir.join("serve.lock");
    let folder = |source| StartError::Folder { path: path.clone(), source };
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(folder)?;
    match file.try_lock() {
        Ok(()) => Ok(ServeLock { _file: file }),
        Err(fs::TryLockError::WouldBlock) => Err(StartError::Running { path: data_dir.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(folder(source)),
    }
}

/// The data directory: ours alone (0700), because it holds the master key.
fn make_folder(data_dir: &Path) -> Result<(), StartError> {
    let folder = |source| StartError::Folder { path: data_dir.to_owned(), source };
    if !data_dir.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(folder)?;
    }
    let meta = fs::metadata(data_dir).map_err(folder)?;
    if !meta.is_dir() {
        return Err(folder(std::io::Error::from(std::io::ErrorKind::NotADirectory)));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(data_dir, fs::Permissions::from_mode(0o700)).map_err(folder)?;
    }
    Ok(())
}

/// What stands in `open.lock` once a database was made: it may not be missing afterwards.
const MADE: &[u8] = b"a database was made here\n";

fn open_kernel(mut config: Config, clock: Clock, create: bool) -> Result<Kernel, StartError> {
    let data_dir = config.data_dir.clone();
    let path = Db::file(&data_dir);
    if !create && !path.exists() {
        return Err(db::OpenError::Absent { path }.into());
    }
    make_folder(&data_dir)?;
    // One process at a time makes the database and the key, so that two first starts do not make two of them.
    let lock_path = data_dir.join("open.lock");
    let folder = |source| StartError::Folder { path: lock_path.clone(), source };
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(folder)?;
    lock.lock().map_err(folder)?;
    let mut marker = Vec::new();
    lock.read_to_end(&mut marker).map_err(folder)?;
    // A lost database must not quietly become a new one that anybody with the log can set up (HOSTILE R12).
    if !path.exists() && !marker.is_empty() {
        return Err(StartError::Gone { path });
    }
    if !path.exists() {
        // SQLite would make it readable for all, and give its log files the same mode.
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(folder)?;
    }
    let db = Db::open(&path, create)?;
    if marker.is_empty() {
        lock.write_all(MADE).and_then(|()| lock.sync_all()).map_err(folder)?;
    }
    let key_path = MasterKey::path(&data_dir, std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).as_deref());
    let key = match MasterKey::load(&key_path) {
        Err(KeyError::Missing { .. }) if !db.read_blocking(accounts::is_initialised)? => MasterKey::create(&key_path)?,
        other => other?,
    };
    let key = Arc::new(key);
    match db.read_blocking(|c| accounts::key_fit(c, &key))? {
        KeyFit::Fits => {}
        KeyFit::Mismatch => return Err(KeyError::Mismatch { path: key_path }.into()),
        KeyFit::Unused => {
            let (key, region, now) = (key.clone(), config.region.clone(), clock.now());
            db.write_blocking(move |c| accounts::initialise(c, &key, &region, now))?;
        }
    }
    if let Some(region) = db.read_blocking(accounts::region)?
        && region != config.region
    {
        // Every URN ever recorded names it: the database's word counts.
        tracing::warn!(configured = config.region, fixed = region, "the region is fixed when the appliance is made");
        config.region = region;
    }
    Ok(Kernel { db, clock, key, config: Arc::new(config) })
}

/// Refusals of one principal with one status that are recorded in a minute; the next one says how many were left out.
const DENIALS_MAX: u64 = 30;

/// What roles have to ask of other rooms.
const NEIGHBOURS: roles::Neighbours = roles::Neighbours {
    used_by: |c, account, role| {
        let counted = |count: i64, one: &str, many: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            count => Some(format!("{} {many}", web::grouped(count))),
        };
        let users = counted(users::count_by_role(c, account, role)?, "user", "users");
        let keys = counted(api_keys::count_by_role(c, account, role)?, "API key", "API keys");
        let open = counted(invitations::count_open_by_role(c, account, role)?, "invitation", "invitations");
        Ok([users, keys, open].into_iter().flatten().collect())
    },
    check_administered: users::check_administered,
    check_scope: identities::parts::check,
    choices: |c, account, find, ids| {
        let identities::parts::Choices { directories, groups } = identities::parts::choices(c, account, find, ids)?;
        Ok(roles::ScopeChoices { directories, groups })
    },
};

/// What users have to ask.
const MEMBER_NEIGHBOURS: users::Neighbours =
    users::Neighbours { keys_of: api_keys::count_by_answerer, invitations_of: invitations::count_open_by_inviter };

/// The gate: who is behind a session cookie or an API key. Everything is read again on every request, so that what is
/// taken from somebody is gone with their next one.
struct Door {
    kernel: Kernel,
    keys: Keys,
    denials: Flood,
    passwords: Passwords,
}

impl Door {
    async fn around(&self, principal: &Principal) -> Result<Surroundings> {
        let Some(account) = principal.account else { return Ok(Surroundings::default()) };
        let may_read = |service| principal.allows(Permission::InPart(service, Level::Read));
        let (sees_directories, sees_tasks) = (may_read(Service::Directories), may_read(Service::Enforcement));
        let now = self.kernel.clock.now();
        let sight = match sees_directories && principal.scope.is_some() {
            true => Some(identities::sight(&self.kernel, principal).await?),
            false => None,
        };
        let is_part = principal.scope.is_some();
        let found = self.kernel.db.read(move |c| {
            let mut around = match sees_directories {
                true => directories::surroundings(c, account, now)?,
                false => Surroundings::default(),
            };
            if sees_tasks && !is_part {
                around.requests_waiting = enforcement::waiting(c, account)?;
            }
            Ok(around)
        });
        let mut around = found.await?;
        if let Some(sight) = sight {
            // Plans and runs are about whole directories.
            around.plans_waiting = 0;
            around.stale.retain(|stale| sight.reaches(stale.directory));
        }
        Ok(around)
    }
}

impl Gate for Door {
    fn base_url(&self) -> BoxFuture<'_, Result<Option<String>>> {
        let config = self.kernel.config.clone();
        Box::pin(self.kernel.db.read(move |c| notifications::base_url(c, &config)))
    }

    fn session(&self, token: Secret<String>, from: Address) -> BoxFuture<'_, Result<Recognised>> {
        Box::pin(async move {
            let now = self.kernel.clock.now();
            let found = self
                .kernel
                .db
                .read(move |c| {
                    let Some(session) = sessions::find(c, &token)? else { return Ok(None) };
                    let member = users::find_member(c, &session.user_id, session.account_id)?;
                    let account = accounts::find(c, session.account_id)?;
                    let found = member.zip(account).map(|(member, account)| (session, member, account));
                    Ok(found.filter(|(session, _, account)| {
                        let (idle_us, lifetime_us) = account.session_limits_us();
                        sessions::is_alive(session, sessions::Limits { idle_us, lifetime_us }, now)
                    }))
                })
                .await?;
            let Some((session, member, account)) = found else { return Ok(Recognised::Nobody) };
            if !member.is_enabled() || !account.is_active() {
                return Ok(Recognised::Nobody);
            }
            if proof::step(&session.proof, member.user.factors, member.mfa_rule(&account)) != Step::Enter {
                return Ok(Recognised::Held);
            }
            if !from.is_polling && sessions::is_touch_due(&session, now) {
                let (id, address) = (session.id.clone(), from.ip.to_string());
                let (user, account) = (session.user_id.clone(), session.account_id);
                let noted = self.kernel.db.write(move |c| {
                    users::note_activity(c, &user, account, now)?;
                    sessions::touch(c, &id, &address, now)
                });
                if let Err(error) = noted.await {
                    // A full disk must not sign everybody out: reading goes on.
                    tracing::warn!(error = %error.chain(), "a session's last use could not be noted");
                }
            }
            let principal = member.principal(&account, session.id, from.ip, from.request_id);
            Ok(Recognised::User(principal.proved(session.proved_at)))
        })
    }

    fn api_key(&self, key: KeyPair, from: Address) -> BoxFuture<'_, Result<Option<Principal>>> {
        Box::pin(self.keys.principal(&self.kernel, key, from))
    }

    fn means(&self, principal: Principal) -> BoxFuture<'_, Result<Means>> {
        Box::pin(sign_in::means(&self.kernel, principal))
    }

    fn confirm(&self, principal: Principal, answer: Answer, path: String) -> BoxFuture<'_, Result<Confirmed>> {
        Box::pin(async move { sign_in::confirm(&self.kernel, &self.passwords, &principal, answer, path).await })
    }

    fn surroundings(&self, principal: Principal) -> BoxFuture<'_, Surroundings> {
        Box::pin(async move {
            match self.around(&principal).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(error = %error.chain(), "what stands around a page could not be read");
                    Surroundings::default()
                }
            }
        })
    }

    fn newest_record(&self, principal: Principal) -> BoxFuture<'_, Result<i64>> {
        Box::pin(async move {
            let account = principal.account()?;
            self.kernel.db.read(move |c| audit::newest_of(c, account)).await
        })
    }

    fn denied(&self, principal: Principal, refusal: Refusal) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let now = self.kernel.clock.now();
            // By status: wrong ids in a row must not hide that somebody tries what is forbidden.
            let subject = format!("{} {} {}", principal.urn(), refusal.status, refusal.is_polling);
            let most = if refusal.is_polling { 1 } else { DENIALS_MAX };
            let Some(left_out) = self.denials.admit(&subject, most, MINUTE, now) else { return };
            let entry = Entry::new("audit.access_denied.v1")
                .outcome(Outcome::Denied)
                .detail("method", refusal.method)
                .detail("path", refusal.path)
                .detail("status", refusal.status)
                .detail("why", refusal.why)
                .detail("roleId", &principal.role_id)
                .detail("alsoDeniedBefore", left_out);
            if let Err(error) = audit::record(&self.kernel, &principal, vec![entry]).await {
                tracing::error!(error = %error.chain(), "a refusal could not be recorded");
            }
        })
    }
}

async fn alive() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("alive\n")
}

/// Ready when the database answers.
async fn ready(web: Data<Web>) -> HttpResponse {
    match web.kernel.db.read(accounts::count).await {
        Ok(_) => HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ready\n"),
        Err(error) => {
            tracing::error!(error = %error.chain(), "not ready");
            HttpResponse::ServiceUnavailable()
                .insert_header(("retry-after", "5"))
                .content_type("text/plain; charset=utf-8")
                .body("not ready\n")
        }
    }
}

async fn openapi(web: Data<Web>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(web.openapi.as_str().to_owned())
}

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// The process's one recorder of measurements.
fn recorder() -> &'static PrometheusHandle {
    RECORDER.get_or_init(|| {
        let buckets = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
        let builder = PrometheusBuilder::new();
        let builder = match builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &buckets) {
            Ok(builder) => builder,
            Err(_) => PrometheusBuilder::new(),
        };
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("measurements are recorded elsewhere in this process");
        }
        handle
    })
}

/// Counters and timings, no names and no secrets; but how much goes on here is nobody's business on the network. So:
/// for a scraper on this machine, or on a trusted proxy's, that asks directly. A request that somebody forwarded is
/// answered like an address that does not exist.
async fn metrics_text(request: HttpRequest, web: Data<Web>) -> HttpResponse {
    let forwarded = ["x-forwarded-for", "forwarded", "x-real-ip", "via"];
    let is_direct = !forwarded.iter().any(|name| request.headers().contains_key(*name));
    let is_near = request.peer_addr().is_some_and(|peer| {
        let ip = peer.ip().to_canonical();
        ip.is_loopback() || web.kernel.config.trusted_proxies.iter().any(|net| net.contains(&ip))
    });
    if !is_direct || !is_near {
        return HttpResponse::NotFound().finish();
    }
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(recorder().render())
}
