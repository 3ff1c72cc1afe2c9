//! The console in Japanese, as a browser lays it out: the rules of pages hold (nothing is cut off or runs over), and what
//! the script writes (times, messages) is Japanese too.

use std::time::Duration;

use super::console::{DETAILS, Demo, PAGES, look, sign_in};
use super::driver::Browser;

/// Puts the signed-in user's language into the profile's form and saves it.
async fn choose_japanese(browser: &Browser, demo: &Demo) {
    browser.goto(&demo.at("/profile")).await;
    browser.script("document.querySelector('select[name=locale]').value = 'ja'; document.querySelector('select[name=timeZone]').value = 'Asia/Tokyo';").await;
    browser.find("form[action='/profile'] button.btn--primary").await.click().await;
    browser.wait_until("document.documentElement.lang === 'ja'", Duration::from_secs(10)).await;
}

/// Pages of users, roles, keys and settings beside those that every walk visits.
const ACCESS_PAGES: &[(&str, &str)] = &[
    ("/users", "users"),
    ("/users?q=zzzz", "users-none"),
    ("/roles", "roles"),
    ("/roles/new", "role-new"),
    ("/roles/operator", "role"),
    ("/invitations", "invitations-none"),
    ("/invitations/new", "invitation-new"),
    ("/accounts", "accounts"),
    ("/accounts/new", "account-new"),
    ("/settings/account", "account"),
    ("/settings/account/delete", "account-delete"),
    ("/appliance/accounts", "all-accounts"),
    ("/appliance/owner", "owner"),
];

/// Pages of strangers, in the language that the browser asks for.
const STRANGERS: &[(&str, &str)] = &[
    ("/sign-in", "sign-in"),
    ("/forgot-password", "forgot-password"),
    ("/reset-password?token=x", "reset-dead"),
    ("/verify-email?token=x", "verify-dead"),
    ("/invitation?token=x", "invitation-dead"),
];

#[tokio::test]
async fn the_japanese_pages_of_access_and_of_strangers_hold_the_page_rules() {
    let demo = Demo::start();
    let browser = Browser::start().await;
    let mut faults = Vec::new();
    browser.prefer_language("ja").await;
    for width_px in [1280, 360] {
        browser.resize(width_px, 900).await;
        for (path, page) in STRANGERS {
            browser.goto(&demo.at(path)).await;
            assert_eq!(browser.script("return document.documentElement.lang").await, "ja", "{path}");
            look(&browser, &format!("ja-{page}"), width_px, "light", &mut faults).await;
        }
    }
    // The page of a link that does not work any more is a 404, which the browser's console reports by itself.
    faults.retain(|fault| !(fault.contains("-dead-") && fault.ends_with("404 (Not Found)")));
    browser.resize(1280, 900).await;
    sign_in(&browser, &demo).await;
    choose_japanese(&browser, &demo).await;
    // An invitation to look at, from its making: its link is shown once.
    browser.goto(&demo.at("/invitations/new")).await;
    browser.find("input[name=email]").await.enter("nora@guest.example").await;
    browser.find("main form button.btn--primary").await.click().await;
    browser.wait_until("document.querySelector('#link') !== null", Duration::from_secs(15)).await;
    let link = browser.find("#link").await.text().await;
    for width_px in [1280, 360] {
        browser.resize(width_px, 900).await;
        look(&browser, "ja-invitation-link", width_px, "light", &mut faults).await;
    }
    // And a key, whose secret is shown once.
    browser.goto(&demo.at("/api-keys/new")).await;
    browser.find("input[name=alias]").await.enter("ticket-bot").await;
    browser.find("main form button.btn--primary").await.click().await;
    browser.wait_until("document.querySelector('#secret') !== null", Duration::from_secs(30)).await;
    for width_px in [1280, 360] {
        browser.resize(width_px, 900).await;
        look(&browser, "ja-api-key-created", width_px, "light", &mut faults).await;
    }
    for width_px in [1280, 360] {
        browser.resize(width_px, 900).await;
        for (path, page) in ACCESS_PAGES {
            browser.goto(&demo.at(path)).await;
            look(&browser, &format!("ja-{page}"), width_px, "light", &mut faults).await;
        }
        for (list, then, page) in [
            ("/users", "", "user"),
            ("/users", "/remove", "user-remove"),
            ("/invitations", "", "invitation"),
            ("/api-keys", "", "api-key"),
            ("/api-keys", "/rotate", "api-key-rotate"),
        ] {
            browser.goto(&demo.at(list)).await;
            let first = browser.find(&format!("main tbody th a[href^='{list}/']")).await;
            let target = first.attribute("href").await.unwrap_or_default();
            browser.goto(&demo.at(&format!("{target}{then}"))).await;
            look(&browser, &format!("ja-{page}"), width_px, "light", &mut faults).await;
        }
        browser.goto(&demo.at("/appliance/accounts")).await;
        let suspend = browser.find("main tbody a[href$='/suspend']").await.attribute("href").await.unwrap_or_default();
        browser.goto(&demo.at(&suspend)).await;
        look(&browser, "ja-account-suspend", width_px, "light", &mut faults).await;
        browser.goto(&link).await;
        look(&browser, "ja-invitation-landing-other", width_px, "light", &mut faults).await;
    }
    // And as somebody sees it who has no user yet.
    browser.find("form[action='/sign-out'] button").await.click().await;
    browser.wait_until("document.querySelector('input[name=password]') !== null", Duration::from_secs(15)).await;
    for width_px in [1280, 360] {
        browser.resize(width_px, 900).await;
        look(&browser, "ja-invitation-landing", width_px, "light", &mut faults).await;
    }
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

#[tokio::test]
async fn the_japanese_pages_hold_the_page_rules_wide_and_narrow() {
    let demo = Demo::start();
    let browser = Browser::start().await;
    let mut faults = Vec::new();
    sign_in(&browser, &demo).await;
    choose_japanese(&browser, &demo).await;
    for width_px in [1280, 360] {
        browser.resize(width_px, 900).await;
        for (path, page) in PAGES {
            browser.goto(&demo.at(path)).await;
            look(&browser, &format!("ja-{page}"), width_px, "light", &mut faults).await;
        }
        for (list, page) in DETAILS {
            browser.goto(&demo.at(list)).await;
            let first = browser.find(&format!("main tbody a[href^='{list}/']:not([href$='/new'])")).await;
            let target = first.attribute("href").await.unwrap_or_default();
            browser.goto(&demo.at(&target)).await;
            look(&browser, &format!("ja-{page}"), width_px, "light", &mut faults).await;
        }
        let identity = browser
            .script("return document.querySelector('main a[href^=\"/identities/\"]')?.getAttribute('href') || ''")
            .await;
        browser.goto(&demo.at("/identities")).await;
        let first =
            browser.find("main tbody a[href^='/identities/']").await.attribute("href").await.unwrap_or_default();
        assert!(!first.is_empty(), "{identity}");
        let id = first.trim_start_matches("/identities/").to_owned();
        for (path, page) in [
            (format!("/tasks/new?identity={id}"), "task-new"),
            (format!("/tasks/new?action=disable&identity={id}"), "task-disable"),
            ("/identities?q=zzzzzz".to_owned(), "identities-none"),
        ] {
            browser.goto(&demo.at(&path)).await;
            look(&browser, &format!("ja-{page}"), width_px, "light", &mut faults).await;
        }
    }
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

#[tokio::test]
async fn the_script_writes_times_and_messages_in_japanese() {
    let demo = Demo::start();
    let browser = Browser::start().await;
    sign_in(&browser, &demo).await;
    choose_japanese(&browser, &demo).await;
    browser.goto(&demo.at("/logs")).await;
    let time = browser.find("main tbody time").await.text().await;
    assert!(time.contains('年') && time.contains('月'), "{time}");
    browser.goto(&demo.at("/runs")).await;
    // What htmx says when the appliance is gone.
    browser.script("document.body.dispatchEvent(new CustomEvent('htmx:sendError', {bubbles: true}))").await;
    let banner = browser.find("#connection-banner").await.text().await;
    assert!(banner.contains("アプライアンスが応答しません"), "{banner}");
}
