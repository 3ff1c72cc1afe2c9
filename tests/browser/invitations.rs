//! An invitation from both ends: made, handed over, opened by somebody else, declined by nobody, accepted.

use std::time::Duration;

use super::{
    console::{Demo, VIEWS, look, sign_in},
    driver::Browser,
};

/// Looks at what is shown in every view, without asking for it again: a link is shown once.
async fn look_around(browser: &Browser, page: &str, faults: &mut Vec<String>) {
    for (width_px, is_dark) in VIEWS {
        browser.resize(width_px, 900).await;
        browser.prefer_dark(is_dark).await;
        look(browser, page, width_px, if is_dark { "dark" } else { "light" }, faults).await;
    }
    browser.resize(1280, 900).await;
}

#[tokio::test]
async fn somebody_is_invited_and_comes_in() {
    let demo = Demo::start();
    let browser = Browser::start().await;
    let mut faults = Vec::new();
    let patience = Duration::from_secs(15);
    sign_in(&browser, &demo).await;
    browser.goto(&demo.at("/invitations")).await;
    look_around(&browser, "invitations-none", &mut faults).await;
    browser.find(".page-head a[href='/invitations/new']").await.click().await;
    browser.wait_for_path("/invitations/new").await;
    look_around(&browser, "invitation-new", &mut faults).await;
    browser.find("main form button.btn--primary").await.click().await;
    browser.wait_until("document.querySelector('#email-error') !== null", patience).await;
    // The refusal itself is in the console.
    browser.take_console().await;
    look_around(&browser, "invitation-new-refused", &mut faults).await;
    browser.find("input[name=email]").await.enter("nora@guest.example").await;
    browser.find("input[name=roleId][value=operator] + label").await.click().await;
    browser.find("main form button.btn--primary").await.click().await;
    browser.wait_until("document.querySelector('#link') !== null", patience).await;
    look_around(&browser, "invitation-link", &mut faults).await;
    let link = browser.find("#link").await.text().await;
    assert!(link.starts_with(&demo.at("/invitation?token=")), "{link}: it begins with where the browser is");

    browser.goto(&demo.at("/invitations")).await;
    look_around(&browser, "invitations", &mut faults).await;
    browser.find("main tbody a[href^='/invitations/']").await.click().await;
    browser.wait_until("document.querySelector('form[action$=\"/revoke\"]') !== null", patience).await;
    look_around(&browser, "invitation", &mut faults).await;

    // Opened in the inviter's own browser it is somebody else's.
    browser.goto(&link).await;
    look_around(&browser, "invitation-landing-other", &mut faults).await;
    browser.find("form[action='/sign-out'] button").await.click().await;
    browser.wait_until("document.querySelector('input[name=password]') !== null", patience).await;
    assert_eq!(browser.url().await, link, "signing out leads on");
    look_around(&browser, "invitation-landing", &mut faults).await;
    browser.find("input[name=name]").await.enter("Nora Guest").await;
    browser.find("input[name=password]").await.enter("seven slow herons at dawn").await;
    browser.find("form[action='/invitation'] button").await.click().await;
    browser.wait_for_path("/").await;
    let name = browser.find(".user-menu__name").await.text().await;
    assert!(name.contains("Nora Guest") || name.is_empty(), "{name}");
    browser.goto(&link).await;
    browser.take_console().await;
    look_around(&browser, "invitation-dead", &mut faults).await;
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}
