//! The rooms under test behind a real listener, on a database of their own, and a reader of their pages.
//!
//! Owns who is recognised: the first letter of a token or a key. The test of a page must come in through here.

use std::{path::Path, sync::Arc};

use actix_web::web::Data;
use reqwest::{Client, RequestBuilder, StatusCode, redirect};
use scraper::{Html, Selector};
use serde_json::Value;

use super::super::*;
use crate::{
    clock::{Clock, Time},
    config::Layer,
    db::Db,
    error::Result,
    kernel::{BoxFuture, Kernel},
    principal::{AccountId, Principal, PrincipalKind, PrincipalParts, Rights},
    secret::{MasterKey, Secret},
    web::{self, Address, Gate, KeyPair, Recognised, Refusal, Web, door::SESSION_COOKIE},
};

pub(super) const PASSWORD: &str = "correct-horse-battery-staple";
pub(super) const HOSTILE: &str = "<script>alert(1)</script>\"'\u{202e}evil";

/// Full rights in the first account.
pub(super) const ADMIN: char = 'a';
/// Full rights in the second account.
pub(super) const STRANGER: char = 'b';
/// May read in the first account.
pub(super) const READER: char = 'r';

/// The first letter of a token or key says who it is.
pub(super) struct OpenGate;

/// The clock stands still here.
const NOW: &str = "2026-03-03T09:00:00Z";

fn principal(who: char) -> Option<Principal> {
    let (account, level) = match who {
        ADMIN => (AccountId::MIN, Level::Full),
        STRANGER => (AccountId::MIN + 1, Level::Full),
        READER => (AccountId::MIN, Level::Read),
        _ => return None,
    };
    Some(Principal::new(PrincipalParts {
        kind: PrincipalKind::User,
        account: AccountId::new(account),
        account_alias: "acme".into(),
        region: "default".into(),
        id: who.to_string(),
        person: who.to_string(),
        answerer: None,
        name: "Ida".into(),
        email: "ida@example.com".into(),
        role_id: "full-access".into(),
        rights: Rights::all(level),
        scope: None,
        is_owner: false,
        session_id: Some("s".into()),
        proved_at: Time::parse(NOW),
        address: None,
        request_id: None,
        time_zone: "Europe/Oslo".into(),
        theme: "auto".into(),
        locale: "en".into(),
    }))
}

impl Gate for OpenGate {
    fn session(&self, token: Secret<String>, _: Address) -> BoxFuture<'_, Result<Recognised>> {
        Box::pin(async move {
            Ok(token.expose().chars().next().and_then(principal).map_or(Recognised::Nobody, Recognised::User))
        })
    }

    fn api_key(&self, key: KeyPair, _: Address) -> BoxFuture<'_, Result<Option<Principal>>> {
        Box::pin(async move { Ok(key.id.chars().next().and_then(principal)) })
    }

    fn newest_record(&self, _: Principal) -> BoxFuture<'_, Result<i64>> {
        Box::pin(async { Ok(0) })
    }

    fn denied(&self, _: Principal, _: Refusal) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// The rooms of directories and identities on a database of their own.
pub(super) struct Console {
    _dir: tempfile::TempDir,
    pub(super) kernel: Kernel,
    pub(super) runner: Runner,
    http: Client,
    base: String,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) location: String,
    pub(super) refresh: bool,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn html(&self) -> Html {
        Html::parse_document(&self.body)
    }

    /// The text of everything that a selector finds.
    pub(super) fn text(&self, css: &str) -> String {
        let selector = Selector::parse(css).expect("a selector");
        self.html()
            .select(&selector)
            .flat_map(|element| element.text().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    pub(super) fn count(&self, css: &str) -> usize {
        self.html().select(&Selector::parse(css).expect("a selector")).count()
    }

    /// The value of an input, or the text of a text area.
    pub(super) fn value(&self, name: &str) -> String {
        let html = self.html();
        let area = Selector::parse(&format!("textarea[name='{name}']")).expect("a selector");
        let input = Selector::parse(&format!("input[name='{name}']")).expect("a selector");
        match (html.select(&area).next(), html.select(&input).next()) {
            (Some(area), _) => area.text().collect(),
            (None, Some(input)) => input.value().attr("value").unwrap_or_default().to_owned(),
            _ => panic!("no field {name}: {}", self.body),
        }
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

fn kernel(dir: &Path) -> Kernel {
    let layer = Layer {
        data_dir: Some(dir.to_owned()),
        listen: Some("127.0.0.1:0".to_owned()),
        plain_http: Some(true),
        ..Layer::default()
    };
    let config = layer.finish().expect("a configuration");
    Kernel {
        db: Db::open(&Db::file(dir), true).expect("a database"),
        clock: Clock::fixed(Time::parse(NOW).expect("a time")),
        key: MasterKey::create(&dir.join("master.key")).expect("a key").into(),
        config: config.into(),
    }
}

impl Console {
    pub(super) async fn open() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let kernel = kernel(dir.path());
        kernel
            .db
            .write(|c| {
                Ok(c.execute_batch(
                    "INSERT INTO account (id, alias, region, state, created_at)
                     VALUES (100000000000, 'acme', 'default', 'active', 0), (100000000001, 'other', 'default', 'active', 0)",
                )?)
            })
            .await
            .expect("two accounts");
        let mut routes = Routes::default();
        super::routes(&mut routes);
        let runner = Runner::new(kernel.clone());
        let web = Web::new(kernel.clone(), Arc::new(OpenGate), &routes);
        let (shared, live) = (Data::new(runner.clone()), Data::new(Live::new(runner.clone())));
        let bound = web::bind(web, Arc::new(routes), move |state| {
            state.app_data(shared.clone()).app_data(live.clone());
        })
        .expect("a free port");
        let base = format!("http://{}", bound.address);
        actix_web::rt::spawn(web::run(bound));
        let http = Client::builder().redirect(redirect::Policy::none()).build().expect("a client");
        Self { _dir: dir, kernel, runner, http, base }
    }

    pub(super) async fn send(&self, request: RequestBuilder) -> Answer {
        let answer = request.send().await.expect("an answer");
        let header = |name: &str| {
            answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (status, location, refresh) = (answer.status(), header("location"), header("hx-refresh") == "true");
        Answer { status, location, refresh, body: answer.text().await.expect("text") }
    }

    fn cookie(who: char) -> String {
        format!("{SESSION_COOKIE}={}", who.to_string().repeat(43))
    }

    pub(super) fn asked(&self, who: char, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.base)).header("cookie", Self::cookie(who))
    }

    pub(super) fn posted(&self, who: char, path: &str, fields: &[(String, String)]) -> RequestBuilder {
        let base = who.to_string().repeat(43);
        let token = crate::secret::encode_hex(&self.kernel.key.mac("csrf.v1", base.as_bytes()));
        let mut fields = fields.to_vec();
        fields.push(("csrf".into(), token));
        self.http.post(format!("{}{path}", self.base)).header("cookie", Self::cookie(who)).form(&fields)
    }

    pub(super) async fn get_as(&self, who: char, path: &str) -> Answer {
        self.send(self.asked(who, path)).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.get_as(ADMIN, path).await
    }

    pub(super) async fn fragment(&self, path: &str) -> Answer {
        self.send(self.asked(ADMIN, path).header("hx-request", "true")).await
    }

    pub(super) async fn post_as(&self, who: char, path: &str, fields: &[(String, String)]) -> Answer {
        self.send(self.posted(who, path, fields)).await
    }

    pub(super) async fn post(&self, path: &str, fields: &[(String, String)]) -> Answer {
        self.post_as(ADMIN, path, fields).await
    }

    pub(super) async fn api(&self, path: &str, body: &Value) -> Answer {
        let request = self.http.post(format!("{}{path}", self.base)).header("authorization", Self::key());
        self.send(request.json(body)).await
    }

    pub(super) async fn api_get(&self, path: &str) -> Answer {
        self.send(self.http.get(format!("{}{path}", self.base)).header("authorization", Self::key())).await
    }

    fn key() -> String {
        format!("ApiKey {ADMIN}:{}", "x".repeat(32))
    }

    /// The id of a directory that was made through the form.
    pub(super) async fn connect(&self, changes: &[(&str, &str)]) -> i64 {
        let answer = self.post("/directories/new", &form(changes)).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text(".error-summary"));
        answer.location.rsplit('/').next().and_then(|id| id.parse().ok()).expect("the new directory's page")
    }

    pub(super) async fn count(&self, sql: &'static str) -> i64 {
        self.kernel.db.read(move |c| Ok(c.query_row(sql, [], |row| row.get(0))?)).await.expect("a number")
    }

    /// A run of a directory as `f` leaves it, without a connector.
    pub(super) async fn run(
        &self,
        directory: i64,
        is_dry_run: bool,
        f: impl FnOnce(&rusqlite::Connection, i64) -> Result<()> + Send + 'static,
    ) -> i64 {
        let now = self.kernel.clock.now();
        let account = AccountId::new(AccountId::MIN).expect("an account");
        self.kernel
            .db
            .write(move |c| {
                let directory = queries::find(c, account, directory)?.expect("the directory");
                let urn = "urn:bailiwick:identity:default:100000000000:service/scheduler";
                let run = queries::insert_run(c, &directory, "full", is_dry_run, urn, "", now)?.expect("a new run");
                f(c, run)?;
                Ok(run)
            })
            .await
            .expect("a run")
    }
}

/// A form that is accepted, with some fields changed.
pub(super) fn form(changes: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = [
        ("kind", "openldap"),
        ("name", "Staff"),
        ("servers", "ldaps://127.0.0.1:1"),
        ("tls", "ldaps"),
        ("caPem", ""),
        ("bindDn", "cn=reader,dc=example,dc=com"),
        ("password", PASSWORD),
        ("baseDns", "dc=example,dc=com"),
        ("userBaseDns", ""),
        ("groupBaseDns", ""),
        ("scope", "sub"),
        ("preset", "inetOrgPerson"),
        ("userFilter", ""),
        ("groupFilter", ""),
        ("mapping.userName", ""),
        ("when", "every"),
        ("every", "6"),
        ("unit", "h"),
        ("cron", ""),
        ("timeZone", "UTC"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    for (name, value) in changes {
        fields.retain(|(field, _)| field != name);
        fields.push(((*name).to_owned(), (*value).to_owned()));
    }
    fields
}
