//! A thin WebDriver client: a headless Chromium of its own per test, and the few commands that our tests use.
//!
//! Owns the browser's life: the driver runs in its own process group with its own profile folder, and both go when the
//! `Browser` is dropped. Every wait is on a condition with a time limit; there is no sleep to hope by.
//! Standard: W3C WebDriver, https://www.w3.org/TR/webdriver2/ (endpoints), plus Chromium's log and DevTools endpoints.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// How long a page may take to come to the state a test waits for.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// How often a condition is looked at again. It costs one local request.
const WAIT_STEP: Duration = Duration::from_millis(25);
/// The key under which WebDriver passes an element's reference (W3C WebDriver, section 12.1).
const ELEMENT_KEY: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys that stand for no character (W3C WebDriver, section 17.4.2).
pub mod key {
    pub const TAB: char = '\u{E004}';
    pub const ENTER: char = '\u{E007}';
}

/// A running browser with one window.
pub struct Browser {
    http: reqwest::Client,
    /// `http://127.0.0.1:PORT/session/ID`
    session_url: String,
    driver: Child,
    /// Removed with everything in it after `Drop` has ended the driver.
    _profile: tempfile::TempDir,
}

/// An element of the page that is shown. It goes stale when the page is replaced.
#[derive(Clone)]
pub struct Element<'b> {
    browser: &'b Browser,
    id: String,
}

/// One entry of the browser's console.
#[derive(Debug, Clone)]
pub struct ConsoleLine {
    /// `SEVERE`, `WARNING`, `INFO`
    pub level: String,
    pub message: String,
}

impl Browser {
    /// Starts chromedriver on a free port and opens a headless window, 1280 × 900.
    ///
    /// # Panics
    /// When chromedriver or chromium is missing or does not start: a missing part is a failure, not a skip.
    pub async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("HOME", profile.path()) // or crash reports land in the home of whoever runs the tests
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("chromedriver must be installed: run tests/run");
        let port = port_of(&mut driver);
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build().unwrap();
        let mut browser = Self { http, session_url: format!("http://127.0.0.1:{port}"), driver, _profile: profile };
        let capabilities = browser.capabilities();
        let session = browser.call("POST", "/session", Some(capabilities)).await;
        let id = session["sessionId"].as_str().expect("a session id").to_owned();
        browser.session_url = format!("{}/session/{id}", browser.session_url);
        browser.resize(1280, 900).await;
        browser
    }

    fn capabilities(&self) -> Value {
        let profile = format!("--user-data-dir={}", self._profile.path().display());
        json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            // The product makes its own certificate on first start.
            "acceptInsecureCerts": true,
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": [
                "--headless=new",
                "--no-sandbox", // as root, Chromium has no sandbox
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage", // /dev/shm is small in containers
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-search-engine-choice-screen",
                "--password-store=basic",
                "--lang=en-GB",
                profile,
            ]},
        }}})
    }

    /// One WebDriver command; answers its `value`.
    async fn try_call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, String> {
        let url = format!("{}{path}", self.session_url);
        let mut request = self.http.request(method.parse().unwrap(), &url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(|e| format!("{method} {path}: {e}"))?;
        let is_ok = answer.status().is_success();
        let mut answer: Value = answer.json().await.map_err(|e| format!("{method} {path}: {e}"))?;
        let value = answer["value"].take();
        if is_ok { Ok(value) } else { Err(format!("{method} {path}: {}: {}", value["error"], value["message"])) }
    }

    #[track_caller]
    fn call<'a>(&'a self, method: &'a str, path: &'a str, body: Option<Value>) -> impl Future<Output = Value> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            match self.try_call(method, path, body).await {
                Ok(value) => value,
                Err(why) => panic!("{why}\n  called at {caller}"),
            }
        }
    }

    /// Opens a URL and waits until the page has loaded.
    pub async fn goto(&self, url: &str) {
        self.call("POST", "/url", Some(json!({"url": url}))).await;
    }

    /// The URL of the page that is shown.
    pub async fn url(&self) -> String {
        self.call("GET", "/url", None).await.as_str().unwrap_or_default().to_owned()
    }

    /// Every element that matches a CSS selector, in document order. May be empty.
    pub async fn find_all(&self, css: &str) -> Vec<Element<'_>> {
        let found = self.call("POST", "/elements", Some(json!({"using": "css selector", "value": css}))).await;
        let id = |value: &Value| value[ELEMENT_KEY].as_str().unwrap().to_owned();
        found.as_array().unwrap().iter().map(|value| Element { browser: self, id: id(value) }).collect()
    }

    /// The first element that matches, as soon as there is one.
    ///
    /// # Panics
    /// When there is none after `WAIT_MAX`, with the page's URL and text.
    pub async fn find(&self, css: &str) -> Element<'_> {
        let since = Instant::now();
        loop {
            if let Some(element) = self.find_all(css).await.into_iter().next() {
                return element;
            }
            assert!(
                since.elapsed() < WAIT_MAX,
                "no element {css} on {}:\n{}",
                self.url().await,
                self.page_text().await
            );
            tokio::time::sleep(WAIT_STEP).await;
        }
    }

    /// The visible text of the whole page.
    pub async fn page_text(&self) -> String {
        self.script("return document.body ? document.body.innerText : ''").await.as_str().unwrap_or_default().to_owned()
    }

    /// Runs JavaScript as the body of a function and answers what it returns, as JSON.
    pub async fn script(&self, body: &str) -> Value {
        self.call("POST", "/execute/sync", Some(json!({"script": body, "args": []}))).await
    }

    /// Runs JavaScript that ends when it calls its last argument, and answers what it passed to it, as JSON.
    pub async fn script_async(&self, body: &str) -> Value {
        self.call("POST", "/execute/async", Some(json!({"script": body, "args": []}))).await
    }

    /// Waits until a JavaScript expression is true.
    ///
    /// # Panics
    /// When it is not after `limit`, with the page's text. An expression that throws counts as not yet true.
    pub async fn wait_until(&self, expression: &str, limit: Duration) {
        let since = Instant::now();
        let body = json!({"script": format!("return Boolean({expression})"), "args": []});
        loop {
            let answer = self.try_call("POST", "/execute/sync", Some(body.clone())).await;
            if answer == Ok(Value::Bool(true)) {
                return;
            }
            assert!(
                since.elapsed() < limit,
                "{expression} did not become true on {} ({answer:?}):\n{}",
                self.url().await,
                self.page_text().await
            );
            tokio::time::sleep(WAIT_STEP).await;
        }
    }

    /// Waits until the URL's path is this one and the page has loaded.
    pub async fn wait_for_path(&self, path: &str) {
        let expression = format!("location.pathname === {} && document.readyState === 'complete'", json!(path));
        self.wait_until(&expression, WAIT_MAX).await;
    }

    /// Presses keys on whatever has the focus.
    pub async fn press(&self, keys: &[char]) {
        let actions: Vec<Value> = keys
            .iter()
            .flat_map(|key| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})])
            .collect();
        let keyboard = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.call("POST", "/actions", Some(keyboard)).await;
    }

    /// Sets the size of the page's area in CSS pixels. A window cannot be narrower than about 500, so the page is told
    /// its size through DevTools, as the browser's own device mode does.
    pub async fn resize(&self, width_px: u32, height_px: u32) {
        let metrics = json!({"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// The language that the browser asks for from the next page on.
    pub async fn prefer_language(&self, tag: &str) {
        let agent = self.script("return navigator.userAgent").await;
        let parameters = json!({"userAgent": agent, "acceptLanguage": tag});
        let command = json!({"cmd": "Emulation.setUserAgentOverride", "params": parameters});
        self.call("POST", "/goog/cdp/execute", Some(command)).await;
    }

    /// Makes pages believe that the system is set to dark (or light) colours.
    pub async fn prefer_dark(&self, is_dark: bool) {
        let scheme = if is_dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", media).await;
    }

    /// One command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.call("POST", "/goog/cdp/execute", Some(json!({"cmd": command, "params": parameters}))).await
    }

    /// What the console said since the last call: script errors, blocked content, failed requests.
    pub async fn take_console(&self) -> Vec<ConsoleLine> {
        let lines = self.call("POST", "/se/log", Some(json!({"type": "browser"}))).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let line = |value: &Value| ConsoleLine { level: text(&value["level"]), message: text(&value["message"]) };
        lines.as_array().into_iter().flatten().map(line).collect()
    }

    /// Writes what is shown, the whole page down to its end, to `target/screenshots/NAME.png`.
    pub async fn screenshot(&self, name: &str) -> PathBuf {
        // By the layout's own width: what is left beside a scroll bar would cut the right edge off.
        let [width, height] =
            ["innerWidth", "document.documentElement.scrollHeight"].map(|what| format!("return {what}"));
        let (width, height) = (self.script(&width).await, self.script(&height).await);
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let shot = self.devtools("Page.captureScreenshot", json!({"captureBeyondViewport": true, "clip": clip})).await;
        let image = STANDARD.decode(shot["data"].as_str().expect("an image")).unwrap();
        let folder = screenshots_folder();
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}.png"));
        std::fs::write(&path, image).unwrap();
        path
    }
}

/// `screenshots` in the target folder, wherever that is: the test binary lies in `target/PROFILE/deps`.
fn screenshots_folder() -> PathBuf {
    let binary = std::env::current_exe().unwrap();
    binary.ancestors().nth(3).expect("the target folder").join("screenshots")
}

/// The port that chromedriver took, from the line in which it says that it is ready.
fn port_of(driver: &mut Child) -> u16 {
    let output = BufReader::new(driver.stdout.take().unwrap());
    for line in output.lines() {
        let line = line.unwrap();
        if let Some((_, port)) = line.trim_end_matches('.').split_once("started successfully on port ") {
            return port.parse().unwrap();
        }
    }
    panic!("chromedriver ended without saying its port");
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to end, chromedriver closes its browser.
        end_group(&mut self.driver);
    }
}

/// Asks a process that leads its own group to end, waits for it, and then ends what is left of the group.
pub fn end_group(leader: &mut Child) {
    let group = format!("-{}", leader.id());
    let send = |signal: &str| Command::new("kill").args([signal, "--", &group]).stderr(Stdio::null()).status();
    let _ = send("-TERM");
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(5) && matches!(leader.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = send("-KILL");
    let _ = leader.wait();
}

impl Element<'_> {
    #[track_caller]
    fn call<'a>(&'a self, method: &'a str, command: &str, body: Option<Value>) -> impl Future<Output = Value> + 'a {
        let path = format!("/element/{}{command}", self.id);
        let caller = std::panic::Location::caller();
        async move {
            match self.browser.try_call(method, &path, body).await {
                Ok(value) => value,
                Err(why) => panic!("{why}\n  called at {caller}"),
            }
        }
    }

    /// Clicks in its middle, as a person would: it fails when something covers it.
    pub async fn click(&self) {
        self.call("POST", "/click", Some(json!({}))).await;
    }

    /// Types into it, after what it holds already.
    pub async fn enter(&self, text: &str) {
        self.call("POST", "/value", Some(json!({"text": text}))).await;
    }

    /// Empties an input.
    pub async fn clear(&self) {
        self.call("POST", "/clear", Some(json!({}))).await;
    }

    /// Its text as shown.
    pub async fn text(&self) -> String {
        self.call("GET", "/text", None).await.as_str().unwrap_or_default().to_owned()
    }

    /// An attribute as the page wrote it; absent is `None`.
    pub async fn attribute(&self, name: &str) -> Option<String> {
        self.call("GET", &format!("/attribute/{name}"), None).await.as_str().map(str::to_owned)
    }
}
