//! The walk through the console as an administrator takes it, on the demo's sample directory.
//!
//! Each page is opened in light and dark, wide (1280 px) and narrow (360 px), must hold the page rules, and leaves a
//! screenshot. Faults are gathered over the whole walk, so that one run tells them all.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use regex::Regex;

use super::driver::{Browser, end_group};
use super::page_rules;

/// Pages with an address of their own, and the name of their screenshot.
pub(super) const PAGES: &[(&str, &str)] = &[
    ("/", "overview"),
    ("/directories", "directories"),
    ("/directories/new", "directory-new"),
    ("/directories/new?kind=active-directory", "directory-new-domain"),
    ("/runs", "runs"),
    ("/identities", "identities"),
    ("/groups", "groups"),
    ("/tasks", "tasks-none"),
    ("/tasks/rules", "task-rules"),
    ("/logs", "audit-log"),
    ("/api-keys", "api-keys"),
    ("/settings/mail", "settings-mail"),
    ("/docs/api", "api-reference"),
    ("/docs/api#directories-create", "api-reference-open"),
    ("/api-keys/new", "api-key-new"),
    ("/settings/contacts", "contacts"),
    ("/profile", "profile"),
    ("/profile/mfa", "second-factors-none"),
    ("/profile/mfa/app", "second-factor-app"),
    ("/profile/mfa/passkey", "second-factor-passkey"),
    ("/settings/mfa", "second-factors-asked"),
    ("/users", "users-demo"),
    ("/roles", "roles-demo"),
    ("/roles/new", "role-new"),
    ("/roles/full-access", "role-full-access"),
    ("/accounts", "accounts-demo"),
    ("/accounts/new", "account-new-demo"),
    ("/settings/account", "account-demo"),
    ("/settings/account/delete", "account-delete-demo"),
    ("/appliance/accounts", "appliance-accounts-demo"),
    ("/appliance/owner", "appliance-owner-demo"),
    ("/appliance/passwords", "appliance-passwords-demo"),
];

/// Width and colour scheme of every look: 1280 px and 360 px, light and dark.
pub(super) const VIEWS: [(u32, bool); 4] = [(1280, false), (1280, true), (360, false), (360, true)];

/// Lists whose first entry is opened too: the list, and the name of the detail page's screenshot.
pub(super) const DETAILS: &[(&str, &str)] = &[
    ("/directories", "directory"),
    ("/runs", "run"),
    ("/identities", "identity"),
    ("/groups", "group"),
    ("/logs", "audit-record"),
    ("/users", "user-self"),
];

/// An address that does not exist, opened last: the console reports the 404 itself as a failed load.
const NOT_FOUND: &str = "/identities/0";

/// A running `bailiwick demo`: a throw-away appliance with a sample directory that has been synced once.
pub(super) struct Demo {
    process: Child,
    url: String,
    email: String,
    password: String,
}

impl Demo {
    /// Starts it on a free port and waits until it has printed how to sign in.
    pub(super) fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_bailiwick"))
            .args(["demo", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut printed = String::new();
        let mut next = |pattern: &str| {
            let pattern = Regex::new(pattern).unwrap();
            loop {
                if let Some(found) = pattern.captures(&printed) {
                    return found[1].to_owned();
                }
                let line =
                    lines.next().unwrap_or_else(|| panic!("the demo ended without {pattern}; it said:\n{printed}"));
                printed.push_str(&line.unwrap());
                printed.push('\n');
            }
        };
        let url = next(r"(https?://[^\s/]+)");
        let email = next(r"(\S+@\S+)");
        let password = next(r"(?i)password\W+(\S+)\s*\n");
        // A full pipe would stop the demo at its next line.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, url, email, password }
    }

    pub(super) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        end_group(&mut self.process);
    }
}

pub(super) async fn sign_in(browser: &Browser, demo: &Demo) {
    browser.goto(&demo.at("/sign-in")).await;
    browser.find("input[name=email]").await.enter(&demo.email).await;
    browser.find("input[name=password]").await.enter(&demo.password).await;
    browser.find("main form button").await.click().await;
    browser.wait_for_path("/").await;
}

/// Looks at the page that is shown: its faults, and a screenshot named after page, width and scheme.
pub(super) async fn look(browser: &Browser, page: &str, width_px: u32, scheme: &str, faults: &mut Vec<String>) {
    let view = format!("{page}-{width_px}-{scheme}");
    browser.screenshot(&view).await;
    faults.extend(page_rules::faults(browser).await.into_iter().map(|fault| format!("{view}: {fault}")));
}

#[tokio::test]
async fn every_page_holds_the_page_rules_in_both_schemes_and_widths() {
    let demo = Demo::start();
    let browser = Browser::start().await;
    let mut faults = Vec::new();

    for (width_px, is_dark) in VIEWS {
        let scheme = if is_dark { "dark" } else { "light" };
        browser.resize(width_px, 900).await;
        browser.prefer_dark(is_dark).await;
        browser.goto(&demo.at("/sign-in")).await;
        look(&browser, "sign-in", width_px, scheme, &mut faults).await;
    }
    sign_in(&browser, &demo).await;
    for (width_px, is_dark) in VIEWS {
        let scheme = if is_dark { "dark" } else { "light" };
        browser.resize(width_px, 900).await;
        browser.prefer_dark(is_dark).await;
        for (path, page) in PAGES {
            browser.goto(&demo.at(path)).await;
            assert_eq!(browser.url().await, demo.at(path), "{path} must be a page of its own");
            look(&browser, page, width_px, scheme, &mut faults).await;
        }
        for (list, page) in DETAILS {
            browser.goto(&demo.at(list)).await;
            let first = browser.find(&format!("main tbody a[href^='{list}/']:not([href$='/new'])")).await;
            let target = first.attribute("href").await.unwrap_or_default();
            browser.goto(&demo.at(&target)).await;
            look(&browser, page, width_px, scheme, &mut faults).await;
        }
        for (list, page) in [("/identities", "identity"), ("/groups", "group")] {
            browser.goto(&demo.at(list)).await;
            let first = browser.find(&format!("main tbody a[href^='{list}/']")).await;
            let target = first.attribute("href").await.unwrap_or_default();
            let history = if page == "group" { format!("{target}?view=history") } else { target };
            browser.goto(&demo.at(&history)).await;
            let then =
                browser.find(".timeline__when a[href*='asOf=']").await.attribute("href").await.unwrap_or_default();
            let compare =
                browser.find(".timeline__when a[href*='/compare?']").await.attribute("href").await.unwrap_or_default();
            let moment = then.split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default();
            for (path, page) in [
                (then, format!("{page}-then")),
                (compare, format!("{page}-compare")),
                (format!("{list}?{moment}"), format!("{page}-list-then")),
                (format!("{list}?asOf=2001-01-01T00:00:00Z"), format!("{page}-list-long-ago")),
            ] {
                browser.goto(&demo.at(&path)).await;
                look(&browser, &page, width_px, scheme, &mut faults).await;
            }
        }
        browser.goto(&demo.at(NOT_FOUND)).await;
        browser.screenshot(&format!("not-found-{width_px}-{scheme}")).await;
        let console = browser.take_console().await;
        faults.extend(console.into_iter().filter(|line| !line.message.contains("404")).map(|line| line.message));
    }
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

/// Opens the form of the first directory in the list; answers the path of its page.
async fn edit_first_directory(browser: &Browser, demo: &Demo) -> String {
    browser.goto(&demo.at("/directories")).await;
    let first = browser.find("main tbody a[href^='/directories/']:not([href$='/new'])").await;
    let directory = first.attribute("href").await.unwrap_or_default();
    browser.goto(&demo.at(&format!("{directory}/edit"))).await;
    directory
}

/// A plan that the guard stopped: a filter typo saved and run, looked at in every view, searched, and discarded.
#[tokio::test]
async fn a_stopped_plan_is_read_searched_and_discarded() {
    let demo = Demo::start();
    let browser = Browser::start().await;
    sign_in(&browser, &demo).await;
    let directory = edit_first_directory(&browser, &demo).await;
    browser.find("input[name=userFilter]").await.enter("(&(objectClass=inetOrgPerson)(uid=a*))").await;
    // Or the next run of the schedule would take the plan's place in the middle of this.
    browser.find("input[name=paused]").await.click().await;
    browser.find("button[name=then][value=sync]:not([tabindex])").await.click().await;
    let patience = Duration::from_secs(30);
    browser.wait_until("document.querySelector('.page-head .pill[data-state=parked]') !== null", patience).await;
    let run = browser.url().await;
    let mut faults = Vec::new();
    for (width_px, is_dark) in VIEWS {
        let scheme = if is_dark { "dark" } else { "light" };
        browser.resize(width_px, 900).await;
        browser.prefer_dark(is_dark).await;
        for (path, page) in [
            (run.clone(), "run-parked"),
            (demo.at("/"), "overview-parked"),
            (demo.at(&directory), "directory-parked"),
            (demo.at(&format!("{directory}/edit")), "directory-edit"),
            (demo.at("/runs?state=parked"), "runs-parked"),
        ] {
            browser.goto(&path).await;
            look(&browser, page, width_px, scheme, &mut faults).await;
        }
    }
    browser.goto(&run).await;
    let name = browser.find("#lines tbody th bdi").await.text().await;
    browser.find("#f-q").await.enter(&name).await;
    let narrowed = format!(
        "(rows => rows.length > 0 && rows.every(r => r.innerText.includes({})))\
         ([...document.querySelectorAll('#lines tbody tr')])",
        serde_json::json!(name)
    );
    browser.wait_until(&narrowed, Duration::from_secs(5)).await;
    browser.find("#decide input[name=reason]").await.enter("The filter was wrong.").await;
    browser.find("#decide button[formaction$='/discard']").await.click().await;
    browser.wait_until("document.querySelector('.page-head .pill[data-state=discarded]') !== null", patience).await;
    look(&browser, "run-discarded", 360, "dark", &mut faults).await;
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

/// Somebody is disabled for some hours, several are asked for a new password, and it is taken back; then a second person is
/// needed, and the glass is broken.
#[tokio::test]
async fn accounts_are_acted_on_and_the_proof_is_shown() {
    let demo = Demo::start();
    let browser = Browser::start().await;
    sign_in(&browser, &demo).await;
    let patience = Duration::from_secs(30);
    let mut faults = Vec::new();

    browser.goto(&demo.at("/identities?q=a")).await;
    let identity = browser.find("main tbody a[href^='/identities/']").await.attribute("href").await.unwrap_or_default();
    browser.goto(&demo.at(&identity)).await;
    browser.find(".page-head a[href^='/tasks/new']").await.click().await;
    browser.wait_until("document.querySelector('.choices-list') !== null", patience).await;
    let choices = browser.url().await;
    browser.find(".choices-list a[href*='action=disable']").await.click().await;
    browser.wait_until("document.querySelector('form[action=\"/tasks/new\"]') !== null", patience).await;
    let form = browser.url().await;
    browser.find("main form .btn--danger").await.click().await;
    browser.wait_until("document.querySelector('#reason-error') !== null", patience).await;
    browser.screenshot("task-new-refused-1280-light").await;
    // The refusal itself is in the console.
    browser.take_console().await;
    browser.find("input[name=reason]").await.enter("Laptop stolen, ticket 4711").await;
    browser.script("document.querySelector('select[name=for]').value = '4h'").await;
    browser.find("main form .btn--danger").await.click().await;
    browser.wait_until("document.querySelector('.page-head .pill[data-state=running], .page-head .pill[data-state=successful]') !== null", patience).await;
    browser.wait_until("document.querySelector('#request .state[data-state=observed]') !== null", patience).await;
    let request = browser.url().await;

    browser.goto(&demo.at("/identities?q=e")).await;
    for at in [2, 3, 4] {
        browser.find(&format!("main tbody tr:nth-child({at}) input.pick")).await.click().await;
    }
    browser.find("main .table-foot button").await.click().await;
    browser.wait_until("document.querySelector('.choices-list') !== null", patience).await;
    browser.find(".choices-list a[href*='action=force-password-reset']").await.click().await;
    browser.wait_until("document.querySelector('input[name=reason]') !== null", patience).await;
    let bulk_form = browser.url().await;
    browser.find("input[name=reason]").await.enter("Leaked list of passwords").await;
    browser.find("main form .btn--primary").await.click().await;
    browser
        .wait_until("document.querySelectorAll('#request .state[data-state=observed]').length === 3", patience)
        .await;
    let bulk = browser.url().await;

    // From now on two persons are needed for more than one.
    browser.goto(&demo.at("/tasks/rules")).await;
    browser.find("input[name=aboveCount]").await.enter("1").await;
    browser.find("form[action='/tasks/rules/two-person'] button").await.click().await;
    browser.wait_until("document.querySelector('.flash, .toast, [role=status]') !== null", patience).await;
    browser.goto(&bulk_form).await;
    browser.find("input[name=reason]").await.enter("Once more").await;
    look(&browser, "task-new-waits", 1280, "light", &mut faults).await;
    browser.find("main form .btn--primary").await.click().await;
    browser
        .wait_until("document.querySelector('.page-head .pill[data-state=awaiting-approval]') !== null", patience)
        .await;
    let waiting = browser.url().await;
    browser.goto(&demo.at(&format!("/tasks/rules/new?identity={}", identity.trim_start_matches("/identities/")))).await;
    browser.find("input[name=note]").await.enter("On parental leave").await;
    browser.find("main form .btn--primary").await.click().await;
    browser.wait_until("location.pathname.startsWith('/identities/')", patience).await;

    for (width_px, is_dark) in VIEWS {
        let scheme = if is_dark { "dark" } else { "light" };
        browser.resize(width_px, 900).await;
        browser.prefer_dark(is_dark).await;
        for (path, page) in [
            (choices.clone(), "task-choices"),
            (form.clone(), "task-new-protected"),
            (bulk_form.clone(), "task-new"),
            (request.clone(), "task-request"),
            (bulk.clone(), "task-bulk"),
            (waiting.clone(), "task-waiting"),
            (demo.at("/tasks"), "tasks"),
            (demo.at("/tasks/rules"), "task-rules-filled"),
            (demo.at(&identity), "identity-with-tasks"),
        ] {
            browser.goto(&path).await;
            look(&browser, page, width_px, scheme, &mut faults).await;
        }
    }
    // Taken back by the button on the page; which two persons have to agree to as well by now.
    browser.goto(&bulk).await;
    browser.find("#undo input[name=reason]").await.enter("It was another list").await;
    browser.find("#undo button").await.click().await;
    browser
        .wait_until("document.querySelector('.page-head .pill[data-state=awaiting-approval]') !== null", patience)
        .await;
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

/// Live mode, switched on for a server that does not tell changes: the directory's page says so, quietly.
#[tokio::test]
async fn live_mode_is_switched_on_in_the_form_and_explained_on_the_page() {
    let demo = Demo::start();
    let browser = Browser::start().await;
    sign_in(&browser, &demo).await;
    let directory = edit_first_directory(&browser, &demo).await;
    browser.find("input[name=live]").await.click().await;
    browser.find("button[name=then][value=save]:not([tabindex])").await.click().await;
    let page = format!("location.pathname === {}", serde_json::json!(directory));
    browser.wait_until(&page, Duration::from_secs(10)).await;
    let mut faults = Vec::new();
    for (width_px, is_dark) in VIEWS {
        let scheme = if is_dark { "dark" } else { "light" };
        browser.resize(width_px, 900).await;
        browser.prefer_dark(is_dark).await;
        for _ in 0..50 {
            browser.goto(&demo.at(&directory)).await;
            if !browser.find_all("#live-why").await.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let why = browser.find("#live-why").await.text().await;
        assert!(why.contains("does not tell changes"), "{why}");
        look(&browser, "directory-live", width_px, scheme, &mut faults).await;
        browser.goto(&demo.at(&format!("{directory}/edit"))).await;
        look(&browser, "directory-edit-live", width_px, scheme, &mut faults).await;
    }
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

/// A second run, and back to the first one: its page offers it, and the plan waits.
#[tokio::test]
async fn a_rewind_is_planned_on_the_page_of_an_earlier_run() {
    let demo = Demo::start();
    let browser = Browser::start().await;
    sign_in(&browser, &demo).await;
    browser.goto(&demo.at("/runs")).await;
    let first = browser.find("main tbody a[href^='/runs/']").await.attribute("href").await.unwrap_or_default();
    browser.goto(&demo.at(&first)).await;
    browser.find(".page-head form[action$='/runs'] button").await.click().await;
    let patience = Duration::from_secs(30);
    browser.wait_until("document.querySelector('.page-head .pill[data-state=applied]') !== null", patience).await;
    let elsewhere = format!("location.pathname !== {}", serde_json::json!(first));
    browser.wait_until(&elsewhere, patience).await;
    browser.wait_until("document.querySelector('.page-head .pill[data-state=applied]') !== null", patience).await;
    let mut faults = Vec::new();
    browser.goto(&demo.at(&first)).await;
    browser.find("#rewind summary").await.click().await;
    look(&browser, "run-rewind-offered", 1280, "light", &mut faults).await;
    browser.find("#rewind button").await.click().await;
    browser.wait_until("document.querySelector('.page-head .pill[data-state=parked]') !== null", patience).await;
    for (width_px, is_dark) in [(1280, false), (360, true)] {
        browser.resize(width_px, 900).await;
        browser.prefer_dark(is_dark).await;
        look(&browser, "run-rewind", width_px, if is_dark { "dark" } else { "light" }, &mut faults).await;
    }
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

#[tokio::test]
async fn the_keyboard_reaches_the_skip_link_first_on_every_page() {
    let demo = Demo::start();
    let browser = Browser::start().await;
    sign_in(&browser, &demo).await;
    for (path, _) in PAGES {
        browser.goto(&demo.at(path)).await;
        page_rules::assert_tab_reaches_the_skip_link_first(&browser).await;
    }
}

#[tokio::test]
async fn identities_are_found_while_typing() {
    let demo = Demo::start();
    let browser = Browser::start().await;
    sign_in(&browser, &demo).await;
    browser.goto(&demo.at("/identities")).await;
    let name = browser.find("main tbody tr a[href^='/identities/']").await.text().await;
    let before = browser.find_all("main tbody tr").await.len();
    browser.find("main input[type=search]").await.enter(&name).await;
    let narrowed = format!(
        "(rows => rows.length > 0 && rows.length < {before} && rows.every(r => r.innerText.includes({})))\
         ([...document.querySelectorAll('main tbody tr')])",
        serde_json::json!(name)
    );
    browser.wait_until(&narrowed, Duration::from_secs(5)).await;
    browser.wait_until("new URLSearchParams(location.search).has('q')", Duration::from_secs(5)).await;
    page_rules::assert_sound(&browser, "the search's answer").await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_without_saying_what_was_wrong() {
    let demo = Demo::start();
    let browser = Browser::start().await;
    let mut answers = Vec::new();
    for email in [demo.email.as_str(), "nobody@example.test"] {
        browser.goto(&demo.at("/sign-in")).await;
        browser.find("input[name=email]").await.enter(email).await;
        browser.find("input[name=password]").await.enter("not the password").await;
        browser.find("main form button").await.click().await;
        answers.push(browser.find("main [role=alert]").await.text().await);
    }
    assert_eq!(answers[0], answers[1], "the answer must not tell whether the user exists");
    assert!(!answers[0].is_empty());
}

#[tokio::test]
async fn the_lists_work_without_javascript() {
    let demo = Demo::start();
    let browser = Browser::start().await;
    browser.devtools("Emulation.setScriptExecutionDisabled", serde_json::json!({"value": true})).await;
    browser.goto(&demo.at("/sign-in")).await;
    browser.find("input[name=email]").await.enter(&demo.email).await;
    browser.find("input[name=password]").await.enter(&demo.password).await;
    browser.find("main form button").await.click().await;
    for list in ["/directories", "/runs", "/identities", "/groups", "/logs"] {
        browser.goto(&demo.at(list)).await;
        let rows = browser.find_all(&format!("main tbody a[href^='{list}/']")).await;
        assert!(!rows.is_empty(), "{list} shows no entry without JavaScript");
    }
}

/// Opens a page in both widths and schemes and looks at it.
async fn look_at(browser: &Browser, demo: &Demo, path: &str, page: &str, faults: &mut Vec<String>) {
    for (width_px, is_dark) in VIEWS {
        browser.resize(width_px, 900).await;
        browser.prefer_dark(is_dark).await;
        browser.goto(&demo.at(path)).await;
        look(browser, page, width_px, if is_dark { "dark" } else { "light" }, faults).await;
    }
}

/// A key from its making to its second secret; the pages of an old one, and the list.
#[tokio::test]
async fn a_key_is_made_and_rotated() {
    let demo = Demo::start();
    let browser = Browser::start().await;
    sign_in(&browser, &demo).await;
    let mut faults = Vec::new();
    browser.goto(&demo.at("/api-keys/new")).await;
    browser.find("input[name=alias]").await.enter("ticket-bot").await;
    browser.find("main form button.btn--primary").await.click().await;
    let patience = Duration::from_secs(30);
    browser.wait_until("document.querySelector('#secret') !== null", patience).await;
    browser.screenshot("api-key-created").await;
    look_at(&browser, &demo, "/api-keys", "api-keys-one", &mut faults).await;
    let key = browser.find("main tbody a[href^='/api-keys/']").await.attribute("href").await.unwrap_or_default();
    look_at(&browser, &demo, &format!("{key}/rotate"), "api-key-rotate", &mut faults).await;
    browser.find("main form button.btn--primary").await.click().await;
    browser.wait_until("document.querySelector('#secret') !== null", patience).await;
    look_at(&browser, &demo, &key, "api-key", &mut faults).await;
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}
