//! The browser driver and the page rules, tried on two small pages of our own: one sound, one with every fault.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use super::driver::{Browser, key};
use super::page_rules;

const SOUND: &str = r##"<!doctype html><html lang="en"><head><title>Sound</title><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,"></head><body>
<a href="#content">Skip to content</a><main id="content"><h1>Sound</h1>
<form action="/echo"><label for="who">Who</label><input id="who" name="who" value="was"><button>Send</button></form></main></body></html>"##;

const FAULTY: &str = r##"<html><head><link rel="icon" href="data:,"></head><body><a href="/">Home</a><h1>One</h1><h1>Two</h1><input name="nameless">
<p id="same" style="width:900px">wide</p><p id="same">twice</p><font color="#999999">grey</font>
<script>document.body.append('ran')</script></body></html>"##;

/// Serves the two pages on a free port of loopback for as long as the process lives; answers its URL.
fn serve_pages() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { continue };
            let mut request = [0; 4096];
            let read = connection.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or("/");
            let policy =
                if path == "/faulty" { "Content-Security-Policy: script-src 'none'; font-src 'none'\r\n" } else { "" };
            let body = match path {
                "/sound" => SOUND.to_owned(),
                "/faulty" => FAULTY.to_owned(),
                other => format!("<!doctype html><title>Echo</title><p>{other}</p>"),
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n{policy}Content-Length: {length}"
            );
            let _ = write!(connection, "{head}\r\nConnection: close\r\n\r\n{body}");
        }
    });
    url
}

#[tokio::test]
async fn a_sound_page_has_no_faults_and_can_be_worked() {
    let url = serve_pages();
    let browser = Browser::start().await;
    for (width_px, is_dark) in [(1280, false), (360, true)] {
        browser.resize(width_px, 800).await;
        browser.prefer_dark(is_dark).await;
        browser.goto(&format!("{url}/sound")).await;
        assert_eq!(browser.script("return innerWidth").await, width_px);
        assert_eq!(browser.script("return matchMedia('(prefers-color-scheme: dark)').matches").await, is_dark);
        page_rules::assert_sound(&browser, "the sound page").await;
        page_rules::assert_tab_reaches_the_skip_link_first(&browser).await;
    }

    let input = browser.find("#who").await;
    assert_eq!(input.attribute("value").await.as_deref(), Some("was"));
    assert_eq!(input.attribute("class").await, None);
    input.clear().await;
    input.enter("žofie").await;
    browser.find("button").await.click().await;
    browser.wait_for_path("/echo").await;
    assert_eq!(browser.find("p").await.text().await, "/echo?who=%C5%BEofie");

    browser.goto(&format!("{url}/sound")).await;
    browser.find("#who").await.enter("!").await;
    browser.press(&[key::ENTER]).await;
    browser.wait_until("location.search === '?who=was%21'", Duration::from_secs(5)).await;

    let image = std::fs::read(browser.screenshot("instrument").await).unwrap();
    assert!(image.starts_with(b"\x89PNG"), "a screenshot is a PNG file");
}

#[tokio::test]
async fn every_fault_of_a_page_is_named() {
    let url = serve_pages();
    let browser = Browser::start().await;
    browser.resize(360, 800).await;
    browser.goto(&format!("{url}/faulty")).await;
    let faults = page_rules::faults(&browser).await.join("\n");
    for expected in [
        "the page does not say its language",
        "the page has no title",
        "quirks mode",
        "px wide in a window of 360: <p id=same> wide",
        "the page has 2 h1, not one",
        "the page has not one main",
        "no label: <input name=nameless>",
        "the id same is there twice",
        "contrast 2.85 of rgb(153, 153, 153) on rgb(255,255,255)",
        "Content Security Policy",
        "axe html-has-lang (serious)",
    ] {
        assert!(faults.contains(expected), "{expected:?} is not among:\n{faults}");
    }
    assert!(!browser.page_text().await.contains("ran"), "the policy must have blocked the script");

    let skip_link =
        tokio::spawn(async move { page_rules::assert_tab_reaches_the_skip_link_first(&browser).await }).await;
    assert!(skip_link.is_err(), "a link that leaves the page is no skip link");
}
