//! The rooms through the door: a whole appliance on a loopback port with a clock that stands still, asked over HTTP.
//!
//! One file per room or rule. The appliance runs in this process, so that a test can set its clock and look into its
//! database; the command line is tested as the program that it is.

mod access;
mod api_key_life;
mod api_keys;
mod api_once;
mod api_paging;
mod api_rate;
mod api_reference;
mod api_versions;
mod bad_input;
mod command_line;
mod contacts;
mod csrf;
mod door;
mod history;
mod hostile;
mod invitation_ends;
mod invitations;
mod japanese;
mod mail;
pub mod mfa;
mod notices;
mod owned;
mod password_rules;
mod profile;
mod roles;
mod setup;
mod sign_in;
mod stale;
mod step_up;
mod tenants;
mod throttle;
mod timing;
mod users;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::mpsc,
};

use bailiwick::{
    accounts::{self, Account},
    api_keys as keys,
    app::App,
    audit,
    clock::{Clock, Time},
    config::{Config, Layer},
    principal::{AccountId, Principal},
    secret::Secret,
    sign_in::{FirstAccount, first_account},
    users::{self as members, NewUser},
    web,
};
use reqwest::{Method, Response, header};
use scraper::{Html, Selector};
use serde_json::Value;

pub const EMAIL: &str = "ida@acme.example";
pub const PASSWORD: &str = "nine green otters swim home";
pub const START: &str = "2026-03-03T09:00:00Z";

/// A running appliance with one account and its full-access user; ends when dropped.
pub struct TestApp {
    pub app: App,
    pub base: String,
    pub account: AccountId,
    pub dir: Option<tempfile::TempDir>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Runs what blocks on a thread of its own: a test's thread drives a runtime and must not.
fn off<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(f).join()).expect("no panic")
}

fn config(dir: &std::path::Path) -> Config {
    let layer = Layer {
        data_dir: Some(dir.to_owned()),
        listen: Some("127.0.0.1:0".into()),
        plain_http: Some(true),
        // The clock stands still here, so an empty bucket would never fill; `api_rate` tests the limit.
        api_rate_per_minute: Some(0),
        ..Layer::default()
    };
    layer.finish().expect("a configuration")
}

impl TestApp {
    pub fn start() -> Self {
        let mut app = Self::start_empty();
        app.account = app.add_first();
        app
    }

    /// The first account with its full-access user.
    pub fn add_first(&self) -> AccountId {
        let machine = Principal::command_line("default", None, "root");
        let first = FirstAccount {
            alias: "acme".into(),
            email: EMAIL.into(),
            name: "Ida Marlow".into(),
            password: Secret::new(PASSWORD.into()),
        };
        off(|| first_account(&self.app.kernel, &machine, &first)).expect("an account")
    }

    /// Without any account.
    pub fn start_empty() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        Self::start_in(dir, |_| ())
    }

    pub fn start_in(dir: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(dir.path());
        change(&mut config);
        let clock = Clock::fixed(Time::parse(START).expect("a time"));
        let app = off(|| App::open(config, clock, true)).expect("an appliance");
        let accounts = app.kernel.db.read_blocking(accounts::list).expect("accounts");
        let account = accounts.first().map_or_else(|| AccountId::new(AccountId::MIN).expect("an id"), |a| a.id);
        let (tell, told) = mpsc::channel::<SocketAddr>();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let serving = app.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.expect("a runtime");
            runtime.block_on(async move {
                let bound = serving.bind().expect("bound");
                tell.send(bound.address).expect("somebody waits for the address");
                tokio::select! {
                    ended = web::run(bound) => ended.expect("served"),
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        let address = told.recv().expect("the address");
        let base = format!("http://{address}");
        Self { app, base, account, dir: Some(dir), stop: Some(stop), thread: Some(thread) }
    }

    /// Ends this one and starts again on the same data, the clock where it was.
    pub fn restart(mut self) -> Self {
        let dir = self.dir.take().expect("a folder");
        let now = self.app.kernel.clock.now();
        drop(self);
        let app = Self::start_in(dir, |_| ());
        app.app.kernel.clock.set(now);
        app
    }

    pub fn forward(&self, us: i64) {
        let clock = &self.app.kernel.clock;
        clock.set(clock.now().plus(us));
    }

    /// SQL that no room offers: what a test has to break or to count.
    pub fn sql(&self, sql: &'static str) {
        off(|| self.app.kernel.db.write_blocking(move |c| Ok(c.execute_batch(sql)?))).expect("executed");
    }

    pub fn count(&self, sql: &str) -> i64 {
        self.app.kernel.db.read_blocking(|c| Ok(c.query_row(sql, [], |row| row.get(0))?)).expect("counted")
    }

    /// Details of all audit records of a type, the oldest first.
    pub fn audited(&self, kind: &str) -> Vec<Value> {
        let rows: Vec<(String, String, Option<i64>, Option<String>)> = self
            .app
            .kernel
            .db
            .read_blocking(|c| {
                let mut statement = c.prepare(
                    "SELECT details, result, account_id, address FROM audit_record WHERE type = ?1 ORDER BY seq",
                )?;
                let rows =
                    statement.query_map([kind], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .expect("records");
        rows.into_iter()
            .map(|(details, result, account, address)| {
                let mut details: Value = serde_json::from_str(&details).expect("JSON");
                details["result"] = result.into();
                details["account"] = account.map_or(Value::Null, |id| id.to_string().into());
                details["address"] = address.into();
                details
            })
            .collect()
    }

    pub fn assert_audit_verifies(&self) {
        let kernel = &self.app.kernel;
        let report = kernel.db.read_blocking(|c| audit::verify(c, &kernel.key)).expect("verified");
        assert_eq!(report.findings, []);
    }

    /// Another tenant on the same appliance, with a full-access user.
    pub fn other_account(&self, alias: &'static str, email: &'static str) -> Account {
        self.add_account(alias, email, "full-access")
    }

    fn add_account(&self, alias: &'static str, email: &'static str, role: &'static str) -> Account {
        let kernel = &self.app.kernel;
        let now = kernel.clock.now();
        let hash = hashed();
        let machine = Principal::command_line("default", None, "root");
        let write = move |c: &rusqlite::Connection| {
            let account = accounts::create(c, alias, "en", "", None, now)?;
            let new = NewUser { email: email.into(), name: "Somebody Else".into() };
            let (_, entry) = members::create(c, &account, &new, role, &hash, now)?;
            Ok((account.clone(), vec![account.created(), entry]))
        };
        off(|| audit::change_blocking(kernel, &machine, write)).expect("another account")
    }

    /// One more user of the first account; the password is the same.
    pub fn add_user(&self, email: &'static str, role: &'static str) {
        let kernel = &self.app.kernel;
        let (now, id) = (kernel.clock.now(), self.account);
        let hash = hashed();
        let machine = Principal::command_line("default", Some(id), "root");
        let write = move |c: &rusqlite::Connection| {
            let account = accounts::find(c, id)?.expect("the account");
            let new = NewUser { email: email.into(), name: "One More".into() };
            let (_, entry) = members::create(c, &account, &new, role, &hash, now)?;
            Ok(((), vec![entry]))
        };
        off(|| audit::change_blocking(kernel, &machine, write)).expect("a user");
    }

    /// An API key of an account, as `id:secret`.
    pub fn key(&self, account: AccountId, role: &str) -> String {
        self.key_with(account, role, None)
    }

    /// One that may change users, roles and keys as far as its role says; others only look, unless they may do everything.
    pub fn admin_key(&self, account: AccountId, role: &str) -> String {
        self.key_with(account, role, Some(true))
    }

    fn key_with(&self, account: AccountId, role: &str, may_administer: Option<bool>) -> String {
        let machine = Principal::command_line("default", Some(account), "root");
        let count = self.count("SELECT count(*) FROM api_key");
        let input = keys::KeyInput {
            alias: Some(format!("{role}-{count}")),
            role_id: Some(role.into()),
            may_administer,
            ..keys::KeyInput::default()
        };
        let made = off(|| keys::create_blocking(&self.app.kernel, &machine, input)).expect("a key");
        format!("{}:{}", made.key.id, made.secret.expose())
    }

    pub fn browser(&self) -> Browser {
        Browser::new(&self.base, None)
    }

    /// A browser on another address of this machine's loopback network.
    pub fn browser_from(&self, ip: [u8; 4]) -> Browser {
        Browser::new(&self.base, Some(IpAddr::from(ip)))
    }

    /// A browser in which the first user is signed in.
    pub async fn signed_in(&self) -> Browser {
        self.signed_in_as(EMAIL).await
    }

    pub async fn signed_in_as(&self, email: &str) -> Browser {
        let mut browser = self.browser();
        let answer = browser.sign_in(email, PASSWORD).await;
        assert_eq!(answer.status(), 303, "{email} signs in");
        browser
    }

    pub fn api(&self, key: &str) -> Api {
        Api { http: client(None), base: self.base.clone(), key: key.to_owned() }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The password of all users here, hashed once: it is the slowest part of a test.
fn hashed() -> members::PasswordHash {
    static HASH: std::sync::OnceLock<members::PasswordHash> = std::sync::OnceLock::new();
    HASH.get_or_init(|| {
        let password = members::check_password(
            "password",
            &Secret::new(PASSWORD.into()),
            "x@y.example",
            members::PasswordRules::default(),
        );
        password.expect("a fine password").hash_blocking().expect("hashed")
    })
    .clone()
}

fn client(from: Option<IpAddr>) -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .local_address(from)
        .timeout(std::time::Duration::from_secs(60))
        .build()
        .expect("a client")
}

/// A browser without scripts: keeps cookies, sends forms with the token of their page.
#[derive(Clone)]
pub struct Browser {
    pub http: reqwest::Client,
    pub base: String,
    /// By hand, because the client's own jar keeps `Secure` cookies back on plain HTTP.
    pub cookies: BTreeMap<String, String>,
}

impl Browser {
    fn new(base: &str, from: Option<IpAddr>) -> Self {
        Self { http: client(from), base: base.to_owned(), cookies: BTreeMap::new() }
    }

    fn cookie_line(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    pub fn keep_cookies(&mut self, answer: &Response) {
        for line in answer.headers().get_all(header::SET_COOKIE) {
            let line = line.to_str().expect("ASCII");
            let (name, value) = line.split(';').next().expect("a pair").split_once('=').expect("name=value");
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    pub async fn get(&mut self, path: &str) -> Response {
        let request = self.http.get(format!("{}{path}", self.base)).header(header::COOKIE, self.cookie_line());
        let answer = request.send().await.unwrap_or_else(|e| panic!("GET {path}: {e}"));
        self.keep_cookies(&answer);
        answer
    }

    /// A page that must be answered with 200.
    pub async fn page(&mut self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200, "GET {path}");
        answer.text().await.expect("a page")
    }

    /// The CSRF token of a page.
    pub async fn token(&mut self, path: &str) -> String {
        let page = self.page(path).await;
        attribute(&page, "input[name=csrf]", "value").unwrap_or_else(|| panic!("no form on {path}"))
    }

    /// A form, exactly as given.
    pub async fn post_raw(&mut self, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Response {
        let mut request = self.http.post(format!("{}{path}", self.base)).header(header::COOKIE, self.cookie_line());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.form(fields).send().await.unwrap_or_else(|e| panic!("POST {path}: {e}"));
        self.keep_cookies(&answer);
        answer
    }

    /// A form with the right token.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let is_signed_in = self.cookies.contains_key("__Host-bailiwick-session");
        let token = self.token(if is_signed_in { "/profile" } else { "/sign-in" }).await;
        let mut all = vec![("csrf", token.as_str())];
        all.extend_from_slice(fields);
        self.post_raw(path, &all, &[]).await
    }

    pub async fn sign_in(&mut self, email: &str, password: &str) -> Response {
        let token = self.token("/sign-in").await;
        let fields = [("csrf", token.as_str()), ("email", email), ("password", password), ("next", "")];
        self.post_raw("/sign-in", &fields, &[]).await
    }

    /// Proves again that it is them, who have no second factor.
    pub async fn confirm(&mut self, password: &str) {
        let answer = self.post("/step-up", &[("next", "/"), ("stepUpPassword", password)]).await;
        assert_eq!(answer.status(), 200, "it is confirmed");
    }

    pub fn session(&self) -> Option<&String> {
        self.cookies.get("__Host-bailiwick-session")
    }
}

/// The attribute of the first element that a selector finds.
pub fn attribute(page: &str, selector: &str, name: &str) -> Option<String> {
    let html = Html::parse_document(page);
    let selector = Selector::parse(selector).expect("a selector");
    html.select(&selector).next().and_then(|element| element.value().attr(name)).map(str::to_owned)
}

/// The text of the first element that a selector finds.
pub fn text(page: &str, selector: &str) -> String {
    let html = Html::parse_document(page);
    let selector = Selector::parse(selector).expect("a selector");
    html.select(&selector).next().map(|e| e.text().collect::<String>().trim().to_owned()).unwrap_or_default()
}

/// The API with one key.
#[derive(Clone)]
pub struct Api {
    pub http: reqwest::Client,
    pub base: String,
    pub key: String,
}

impl Api {
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
        if !self.key.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("ApiKey {}", self.key));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(Method::POST, path, Some(body)).await
    }
}
