//! Who may use the console, from both ends and in two browsers: the first start, somebody invited by mail, their role
//! changed while they work, a key that is locked out, a forgotten password, and the account deleted and brought back.

use std::{sync::Arc, time::Duration};

use bailiwick::principal::AccountId;

use super::{
    console::{self, VIEWS},
    driver::Browser,
};
use crate::{
    fixtures::smtp::{Options, Received, Sink},
    rooms::{EMAIL, PASSWORD, TestApp},
};

const BASE: &str = "https://console.acme.example";
const PATIENCE: Duration = Duration::from_secs(20);
const NORA: &str = "nora@guest.example";
const NORAS: &str = "seven slow herons at dawn";
const NORAS_NEXT: &str = "eleven quick larks by noon";

/// Two people before one appliance, and where its mails arrive.
struct Walk {
    app: TestApp,
    sink: Arc<Sink>,
    ida: Browser,
    nora: Browser,
    faults: Vec<String>,
}

impl Walk {
    async fn start() -> Self {
        let app = TestApp::start_empty();
        let sink = Arc::new(Sink::start(Options { user: Some(("mailer", "herons")), ..Options::default() }));
        Self { app, sink, ida: Browser::start().await, nora: Browser::start().await, faults: Vec::new() }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.app.base)
    }

    /// Looks at what a browser shows, in every view, without asking for it again.
    async fn look(&mut self, who: Who, page: &str) {
        let browser = if who == Who::Ida { &self.ida } else { &self.nora };
        // What was refused on purpose is in the console as a failed load.
        let lines = browser.take_console().await;
        self.faults.extend(lines.into_iter().filter(|l| !l.message.contains("status of 4")).map(|l| l.message));
        for (width_px, is_dark) in VIEWS {
            browser.resize(width_px, 900).await;
            browser.prefer_dark(is_dark).await;
            console::look(browser, page, width_px, if is_dark { "dark" } else { "light" }, &mut self.faults).await;
        }
        browser.resize(1280, 900).await;
    }

    /// The newest mail to somebody that has a link to a page; answers the mail and the link's path here.
    async fn mail(&self, to: &'static str, page: &'static str) -> (Received, String) {
        let sink = self.sink.clone();
        let found = move |sink: &Sink| {
            let mut mails = sink.mails().into_iter().rev().filter(|mail| mail.to.iter().any(|address| address == to));
            mails.find_map(|mail| {
                let link = mail.links().into_iter().find(|link| link.contains(page))?;
                let path = link.strip_prefix(BASE).unwrap_or_else(|| panic!("{link} leads elsewhere")).to_owned();
                Some((mail, path))
            })
        };
        let wait = move || {
            sink.wait_until(&format!("a mail to {to} with a link to {page}"), |sink| found(sink).is_some());
            found(&sink).expect("a mail")
        };
        tokio::task::spawn_blocking(wait).await.expect("a mail")
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Ida,
    Nora,
}

async fn fill(browser: &Browser, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        let field = browser.find(&format!("main [name='{name}']")).await;
        field.clear().await;
        field.enter(value).await;
    }
}

async fn choose(browser: &Browser, name: &str, value: &str) {
    browser.find(&format!("main select[name='{name}'] option[value='{value}']")).await.click().await;
}

/// Presses the button of a form, and waits for what is to stand on the page that comes.
async fn press(browser: &Browser, button: &str, then: &str) {
    browser.script("document.documentElement.dataset.old = '1'").await;
    browser.find(button).await.click().await;
    let came = format!(
        "!document.documentElement.dataset.old && document.readyState === 'complete' && document.querySelector({}) !== null",
        serde_json::json!(then)
    );
    browser.wait_until(&came, PATIENCE).await;
}

async fn sign_in(browser: &Browser, at: &str, email: &str, password: &str, then: &str) {
    browser.goto(at).await;
    fill(browser, &[("email", email), ("password", password)]).await;
    press(browser, "main form button", then).await;
}

#[tokio::test]
async fn from_the_first_start_to_an_account_that_comes_back() {
    let mut walk = Walk::start().await;
    first_start(&mut walk).await;
    mail_is_set_up(&mut walk).await;
    somebody_is_invited_and_accepts(&mut walk).await;
    their_role_changes_while_they_work(&mut walk).await;
    a_role_of_ones_own(&mut walk).await;
    a_key_is_made_and_locked_out(&mut walk).await;
    a_password_is_forgotten(&mut walk).await;
    the_account_goes_and_comes_back(&mut walk).await;
    walk.app.assert_audit_verifies();
    let faults = walk.faults;
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

async fn first_start(walk: &mut Walk) {
    let link = walk.app.app.setup_link(&walk.app.base).await.expect("a link").expect("no account yet");
    walk.ida.goto(&link).await;
    walk.look(Who::Ida, "setup").await;
    fill(&walk.ida, &[("account", "Acme"), ("name", "Ida Marlow"), ("email", EMAIL), ("password", "too short")]).await;
    press(&walk.ida, "main form button", "#password-error").await;
    walk.look(Who::Ida, "setup-refused").await;
    fill(&walk.ida, &[("account", "acme"), ("password", PASSWORD)]).await;
    press(&walk.ida, "main form button", ".user-menu__name").await;
    walk.look(Who::Ida, "overview-first").await;
    let account = walk.ida.find(".side__account").await.text().await;
    assert!(account.contains("acme"), "{account}");
}

async fn mail_is_set_up(walk: &mut Walk) {
    let ida = &walk.ida;
    ida.goto(&walk.at("/settings/mail")).await;
    fill(ida, &[("baseUrl", BASE)]).await;
    press(ida, "form[action='/settings/mail/address'] .form__actions button", ".notice--success").await;
    let port = walk.sink.port.to_string();
    fill(ida, &[("host", "localhost"), ("port", &port), ("userName", "mailer"), ("password", "herons")]).await;
    fill(ida, &[("fromAddress", "bailiwick@acme.example")]).await;
    ida.script(&format!("document.querySelector('#caPem').value = {}", serde_json::json!(walk.sink.ca_pem))).await;
    press(ida, "form[action='/settings/mail'] .form__actions button", ".notice--success").await;
}

async fn somebody_is_invited_and_accepts(walk: &mut Walk) {
    let ida = &walk.ida;
    ida.goto(&walk.at("/users")).await;
    press(ida, ".page-head a[href='/invitations/new']", "input[name=email]").await;
    fill(ida, &[("email", NORA)]).await;
    ida.find("input[name=roleId][value=operator] + label").await.click().await;
    press(ida, "main form button.btn--primary", ".page-head").await;
    walk.look(Who::Ida, "invitation-mailed").await;
    let (mail, path) = walk.mail(NORA, "/invitation").await;
    for word in ["acme", "Ida Marlow", "Operator"] {
        assert!(mail.text().contains(word), "{word} in {}", mail.text());
    }
    walk.nora.goto(&walk.at(&path)).await;
    let before = walk.nora.find("main").await.text().await;
    for word in ["acme", "default", "Ida Marlow", "Operator"] {
        assert!(before.contains(word), "{word} is seen before accepting: {before}");
    }
    fill(&walk.nora, &[("name", "Nora Guest"), ("password", NORAS)]).await;
    press(&walk.nora, "form[action='/invitation'] button", ".user-menu__name").await;
    walk.look(Who::Nora, "overview-operator").await;
    assert!(walk.nora.find_all(".nav a[href='/users']").await.is_empty(), "an operator sees no users");
    walk.ida.goto(&walk.at("/users")).await;
    assert!(walk.ida.page_text().await.contains("Nora Guest"));
    walk.look(Who::Ida, "users").await;
}

async fn their_role_changes_while_they_work(walk: &mut Walk) {
    walk.nora.goto(&walk.at("/directories")).await;
    assert!(
        !walk
            .nora
            .find_all(".page-head a[href^='/directories/new'], main a[href^='/directories/new']")
            .await
            .is_empty()
    );
    let ida = &walk.ida;
    let link = ida.find("main tbody a[href^='/users/']:not(:has(+ .badge))").await;
    let member = link.attribute("href").await.unwrap_or_default();
    ida.goto(&walk.at(&member)).await;
    walk.look(Who::Ida, "user").await;
    let ida = &walk.ida;
    choose(ida, "role", "read-only").await;
    press(ida, &format!("form[action='{member}'] button.btn--primary"), ".notice--success").await;
    // Their session goes on; the very next page knows.
    press(&walk.nora, ".nav a[href='/directories']", ".page-head").await;
    assert!(walk.nora.find_all("main a[href^='/directories/new']").await.is_empty(), "may only read by now");
    walk.nora.goto(&walk.at("/directories/new")).await;
    assert!(walk.nora.page_text().await.contains("403"), "{}", walk.nora.page_text().await);
    walk.look(Who::Nora, "refused").await;
    walk.nora.goto(&walk.at("/users")).await;
    walk.look(Who::Nora, "users-reader").await;
    for (path, page) in [("/users?q=nobody", "users-none-fits"), (&format!("{member}/remove"), "user-remove")] {
        walk.ida.goto(&walk.at(path)).await;
        walk.look(Who::Ida, page).await;
    }
}

async fn a_role_of_ones_own(walk: &mut Walk) {
    walk.ida.goto(&walk.at("/roles")).await;
    walk.look(Who::Ida, "roles").await;
    press(&walk.ida, "main tbody a[href='/roles/operator']", ".page-head a[href^='/roles/new']").await;
    walk.look(Who::Ida, "role-predefined").await;
    press(&walk.ida, ".page-head a[href^='/roles/new']", "input[name=id]").await;
    fill(&walk.ida, &[("id", "No Slug"), ("name", "Helpdesk")]).await;
    press(&walk.ida, "#role-form .form__actions button.btn--primary", "#id-error").await;
    walk.look(Who::Ida, "role-refused").await;
    fill(&walk.ida, &[("id", "helpdesk")]).await;
    walk.ida.find("input[name='level-audit'][value=read]").await.click().await;
    press(&walk.ida, "#role-form .form__actions button.btn--primary", "main").await;
    walk.ida.goto(&walk.at("/roles/helpdesk")).await;
    walk.look(Who::Ida, "role").await;
    // Given to Nora, and edited while she has it.
    let ida = &walk.ida;
    ida.goto(&walk.at("/users?role=read-only")).await;
    press(ida, "main tbody a[href^='/users/']", "select[name=role]").await;
    choose(ida, "role", "helpdesk").await;
    press(ida, "main form button.btn--primary", ".notice--success").await;
    walk.nora.goto(&walk.at("/logs")).await;
    assert!(walk.nora.page_text().await.contains("Audit log"));
    ida.goto(&walk.at("/roles/helpdesk")).await;
    ida.find("input[name='level-audit'][value=none]").await.click().await;
    press(ida, "#role-form .form__actions button.btn--primary", "main").await;
    walk.nora.goto(&walk.at("/logs")).await;
    assert!(walk.nora.page_text().await.contains("403"), "{}", walk.nora.page_text().await);
}

async fn a_key_is_made_and_locked_out(walk: &mut Walk) {
    let ida = &walk.ida;
    ida.goto(&walk.at("/api-keys/new")).await;
    fill(ida, &[("alias", "ticket-bot")]).await;
    ida.find("input[name=role][value=read-only] + label").await.click().await;
    press(ida, "main form .form__actions button.btn--primary", "#secret").await;
    walk.look(Who::Ida, "api-key-created").await;
    let ida = &walk.ida;
    let key = ida.find("#secret").await.text().await;
    let api = walk.app.api(&key);
    assert_eq!(api.get("/api/identities").await.0, 200);
    ida.goto(&walk.at("/api-keys")).await;
    press(ida, "main tbody a[href^='/api-keys/']", "form[action$='/lock-out']").await;
    press(ida, "form[action$='/lock-out'] button", "form[action$='/unlock']").await;
    assert_eq!(api.get("/api/identities").await.0, 401, "with the next request");
    walk.look(Who::Ida, "api-key-locked").await;
    press(&walk.ida, "form[action$='/unlock'] button", "form[action$='/lock-out']").await;
    assert_eq!(api.get("/api/identities").await.0, 200);
    let page = walk.ida.url().await;
    walk.ida.goto(&format!("{page}/rotate")).await;
    walk.look(Who::Ida, "api-key-rotate").await;
}

async fn a_password_is_forgotten(walk: &mut Walk) {
    walk.nora.goto(&walk.at("/profile")).await;
    walk.nora.find(".user-menu summary").await.click().await;
    press(&walk.nora, "form[action='/sign-out'] button", "input[name=password]").await;
    press(&walk.nora, "a[href='/forgot-password']", "form[action='/forgot-password']").await;
    walk.look(Who::Nora, "forgot").await;
    fill(&walk.nora, &[("email", NORA)]).await;
    press(&walk.nora, "main form button", ".notice--success").await;
    walk.look(Who::Nora, "forgot-asked").await;
    let (_, path) = walk.mail(NORA, "/reset-password").await;
    walk.nora.goto(&walk.at(&path)).await;
    walk.look(Who::Nora, "reset").await;
    fill(&walk.nora, &[("new", "password")]).await;
    press(&walk.nora, "main form button", "#new-error").await;
    walk.look(Who::Nora, "reset-refused").await;
    fill(&walk.nora, &[("new", NORAS_NEXT)]).await;
    press(&walk.nora, "main form button", "form[action='/sign-in']").await;
    walk.look(Who::Nora, "reset-done").await;
    walk.nora.goto(&walk.at(&path)).await;
    walk.look(Who::Nora, "reset-dead").await;
    sign_in(&walk.nora, &walk.at("/sign-in"), NORA, NORAS, ".notice--danger").await;
    sign_in(&walk.nora, &walk.at("/sign-in"), NORA, NORAS_NEXT, ".user-menu__name").await;
}

async fn the_account_goes_and_comes_back(walk: &mut Walk) {
    let number = walk.app.count("SELECT id FROM account WHERE alias = 'acme'");
    let key = walk.app.key(AccountId::new(number).expect("an id"), "read-only");
    let api = walk.app.api(&key);
    assert_eq!(api.get("/api/users").await.0, 200);
    walk.ida.goto(&walk.at("/settings/account")).await;
    walk.look(Who::Ida, "account").await;
    press(&walk.ida, "main a[href='/settings/account/delete']", "input[name=confirm]").await;
    walk.look(Who::Ida, "account-delete").await;
    // Without another account nobody could bring it back in the console.
    fill(&walk.ida, &[("confirm", "acme")]).await;
    press(&walk.ida, "main form button.btn--danger", "#error-summary").await;
    walk.look(Who::Ida, "account-delete-last").await;
    assert_eq!(api.get("/api/users").await.0, 200, "nothing happened");
    walk.ida.goto(&walk.at("/accounts")).await;
    walk.look(Who::Ida, "accounts-one").await;
    press(&walk.ida, ".page-head a[href='/accounts/new']", "input[name=alias]").await;
    walk.look(Who::Ida, "account-new").await;
    fill(&walk.ida, &[("alias", "Beta!")]).await;
    press(&walk.ida, "main form button.btn--primary", "#alias-error").await;
    walk.look(Who::Ida, "account-new-refused").await;
    fill(&walk.ida, &[("alias", "beta")]).await;
    press(&walk.ida, "main form button.btn--primary", ".user-menu__name").await;
    let account = walk.ida.find(".side__account").await.text().await;
    assert!(account.contains("beta"), "{account}");
    enter(walk, "acme").await;

    walk.ida.goto(&walk.at("/settings/account/delete")).await;
    fill(&walk.ida, &[("confirm", "acne")]).await;
    press(&walk.ida, "main form button.btn--danger", "#confirm-error").await;
    walk.look(Who::Ida, "account-delete-refused").await;
    assert_eq!(api.get("/api/users").await.0, 200, "nothing happened");
    fill(&walk.ida, &[("confirm", "acme")]).await;
    press(&walk.ida, "main form button.btn--danger", "main").await;
    walk.look(Who::Ida, "account-deleted").await;
    assert_eq!(api.get("/api/users").await.0, 401, "keys are dead at once");
    walk.nora.goto(&walk.at("/")).await;
    assert!(walk.nora.url().await.contains("/sign-in"), "everybody is signed out");
    sign_in(&walk.nora, &walk.at("/sign-in"), NORA, NORAS_NEXT, ".bare__card").await;
    assert!(walk.nora.find_all(".user-menu__name").await.is_empty(), "she is not let in");
    walk.look(Who::Nora, "sign-in-suspended-reader").await;
    // Ida is in her other account, and owns the appliance: she need not ask.
    sign_in(&walk.ida, &walk.at("/sign-in"), EMAIL, PASSWORD, ".user-menu__name").await;
    walk.ida.goto(&walk.at("/accounts")).await;
    walk.look(Who::Ida, "accounts").await;
    walk.ida.goto(&walk.at("/appliance/accounts")).await;
    walk.look(Who::Ida, "appliance-accounts").await;
    press(&walk.ida, "form[action$='/restore'] button", ".page-head").await;
    assert_eq!(api.get("/api/users").await.0, 200, "as it was");
    enter(walk, "acme").await;
    sign_in(&walk.nora, &walk.at("/sign-in"), NORA, NORAS_NEXT, ".user-menu__name").await;
    assert_eq!(walk.app.audited("audit.account_restored.v1").len(), 1);
    walk.ida.goto(&walk.at("/appliance/accounts")).await;
    press(&walk.ida, "main tbody a[href$='/suspend']", "main form button.btn--danger").await;
    walk.look(Who::Ida, "appliance-account-suspend").await;
    walk.ida.goto(&walk.at("/appliance/owner")).await;
    walk.look(Who::Ida, "appliance-owner").await;
}

/// Changes into another account by the page of one's own.
async fn enter(walk: &Walk, alias: &str) {
    walk.ida.goto(&walk.at("/accounts")).await;
    press(&walk.ida, "form[action='/accounts/switch'] button", ".user-menu__name").await;
    let account = walk.ida.find(".side__account").await.text().await;
    assert!(account.contains(alias), "{account}");
}
