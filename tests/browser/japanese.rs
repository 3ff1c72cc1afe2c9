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
