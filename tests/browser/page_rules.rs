//! What every page must hold, whatever it shows: checked on each page that a browser test opens.
//!
//! Two checkers: axe-core (Deque, vendored unchanged, MPL-2.0), whose every finding counts however small its impact, and
//! our own rules for what it does not look at: reflow, the console, dead references.
//!
//! Standards: WCAG 2.2 (1.3.1 headings and labels, 1.4.10 reflow, 2.4.1 bypass blocks, 3.1.1 language), and our own
//! content security policy, whose violations show in the console.

use serde_json::Value;

use super::driver::{Browser, key};

/// Defines `axe`. Scripts of the driver are not the page's: the policy does not hold them up.
const AXE: &str = include_str!("vendor/axe-core-4.14.1.min.js");
/// Answers a sentence for each element that breaks a rule of axe-core.
const RUN_AXE: &str = r#"
    const done = arguments[arguments.length - 1];
    const said = (rule, node) => `axe ${rule.id} (${rule.impact}): ${rule.help}: ${node.target.join(" ")}: ${node.html.slice(0, 120)}`;
    axe.run(document, { resultTypes: ["violations"], elementRef: false })
        .then((found) => done(found.violations.flatMap((rule) => rule.nodes.slice(0, 3).map((node) => said(rule, node)))))
        .catch((why) => done(["axe-core stopped: " + why]));
"#;

async fn axe(browser: &Browser) -> Vec<String> {
    if browser.script("return typeof axe").await != "object" {
        browser.script(AXE).await;
    }
    let found = browser.script_async(RUN_AXE).await;
    found.as_array().expect("a list").iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Every fault of the page that is shown, each as a sentence that names the element. Empty when all is well.
pub async fn faults(browser: &Browser) -> Vec<String> {
    let found = browser.script(include_str!("page_rules.js")).await;
    let mut faults: Vec<String> =
        found.as_array().expect("a list").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    faults.extend(axe(browser).await);
    for line in browser.take_console().await {
        if matches!(line.level.as_str(), "SEVERE" | "WARNING") {
            faults.push(format!("the console says: {}", line.message));
        }
    }
    faults
}

/// Fails with all faults of the page at once.
#[track_caller]
pub fn assert_sound<'b>(browser: &'b Browser, what: &'b str) -> impl Future<Output = ()> + 'b {
    let caller = std::panic::Location::caller();
    async move {
        let faults = faults(browser).await;
        let url = browser.url().await;
        assert!(faults.is_empty(), "{what} ({url}), checked at {caller}:\n  {}", faults.join("\n  "));
    }
}

/// Fails unless the first Tab on a freshly loaded page reaches a link that jumps to the page's content.
pub async fn assert_tab_reaches_the_skip_link_first(browser: &Browser) {
    browser.press(&[key::TAB]).await;
    let focused = browser
        .script(
            "const e = document.activeElement; const to = e.getAttribute('href') || '';
             return [e.tagName, to, to.startsWith('#') && document.querySelector(to) !== null, e.innerText,
                     e.getBoundingClientRect().top >= 0]",
        )
        .await;
    assert!(focused[0] == "A" && focused[2] == true, "the first Tab reaches {focused}, not a skip link");
    assert_eq!(focused[4], true, "the skip link is out of sight while it has the focus: {focused}");
}
