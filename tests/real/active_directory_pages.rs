//! The pages of a real domain in a browser: who is privileged, what is worth knowing, and what a list leaves out.

use serde_json::json;

use super::active_directory_accounts::add_more;
use crate::{
    browser::{driver::Browser, page_rules},
    fixtures::{
        appliance::{ADMIN_EMAIL, ADMIN_PASSWORD, Appliance, text},
        samba::{Samba, Size},
    },
};

#[tokio::test]
async fn pages_of_a_domain_hold_the_page_rules_in_both_schemes_and_widths() {
    let samba = Samba::start(Size::SMALL);
    add_more(&samba);
    let appliance = Appliance::start().await;
    let api = &appliance.api;
    let directory = api.create_directory(&samba.draft(&[("computers", json!(true))])).await;
    api.run_applied(&directory).await;
    drop(samba);
    let people = api.identities(&directory).await;
    let person = |name: &str| {
        let found = people.iter().find(|identity| identity["userName"] == name).unwrap_or_else(|| panic!("no {name}"));
        format!("/identities/{}", text(found, "id"))
    };
    let groups = api.groups(&directory).await;
    let admins = groups.iter().find(|group| group["name"] == "Domain Admins").expect("in every domain");
    let admins = format!("/groups/{}?view=attributes", text(admins, "id"));

    let browser = Browser::start().await;
    let at = |path: &str| format!("{}{path}", appliance.url());
    browser.goto(&at("/sign-in")).await;
    browser.find("input[name=email]").await.enter(ADMIN_EMAIL).await;
    browser.find("input[name=password]").await.enter(ADMIN_PASSWORD).await;
    browser.find("main form button").await.click().await;
    browser.wait_for_path("/").await;
    let mut faults = Vec::new();
    for (width_px, is_dark) in [(1280, false), (1280, true), (360, false), (360, true)] {
        let scheme = if is_dark { "dark" } else { "light" };
        browser.resize(width_px, 900).await;
        browser.prefer_dark(is_dark).await;
        for (path, page) in [
            ("/identities", "domain-identities"),
            ("/identities?privileged=true&accountType=all", "domain-privileged"),
            ("/identities?q=pc1", "domain-hidden"),
            ("/groups?q=admins", "domain-groups"),
            (&admins, "domain-group"),
            (&person("dave"), "domain-dave"),
            (&person("bob"), "domain-bob"),
            (&person("Administrator"), "domain-administrator"),
            (&person("gmsa$"), "domain-gmsa"),
        ] {
            browser.goto(&at(path)).await;
            let view = format!("{page}-{width_px}-{scheme}");
            browser.screenshot(&view).await;
            faults.extend(page_rules::faults(&browser).await.into_iter().map(|fault| format!("{view}: {fault}")));
        }
    }
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));

    // What is left out is shown by the link beside it, and by the choice above the list.
    let rows = "return document.querySelectorAll('#results tbody tr').length";
    browser.goto(&at("/identities?q=pc1")).await;
    browser.find("#results .table-foot .hint a").await.click().await;
    browser.wait_until("document.querySelectorAll('#results tbody tr').length === 1", WAIT).await;
    browser.goto(&at("/identities")).await;
    let people = browser.script(rows).await;
    browser.find("label[for=privileged]").await.click().await;
    browser.wait_until("location.search.includes('privileged=true')", WAIT).await;
    let privileged = browser.script(rows).await;
    assert!(privileged.as_u64() < people.as_u64() && privileged.as_u64() > Some(3), "{privileged} of {people}");
}

const WAIT: std::time::Duration = std::time::Duration::from_secs(20);
