//! Second factors before a real browser: an app that reads the QR code off the screen, and a passkey of the authenticator that
//! Chromium has for tests; every page of the way in both colour schemes and at both widths.

use std::{path::Path, time::Duration};

use reqwest::Url;
use serde_json::{Value, json};

use super::{
    console::{self, VIEWS},
    driver::Browser,
};
use crate::rooms::{EMAIL, PASSWORD, TestApp, mfa::Phone};

const PATIENCE: Duration = Duration::from_secs(20);

struct Walk {
    app: TestApp,
    browser: Browser,
    /// Under the name that passkeys are made for.
    base: String,
    faults: Vec<String>,
}

impl Walk {
    async fn start() -> Self {
        let app = TestApp::start();
        let base = app.base.replace("127.0.0.1", "localhost");
        app.set_base_url(&base);
        Self { app, browser: Browser::start().await, base, faults: Vec::new() }
    }

    async fn goto(&self, path: &str) {
        self.browser.goto(&format!("{}{path}", self.base)).await;
    }

    async fn look(&mut self, page: &str) {
        let lines = self.browser.take_console().await;
        self.faults.extend(lines.into_iter().filter(|l| !l.message.contains("status of 4")).map(|l| l.message));
        for (width_px, is_dark) in VIEWS {
            self.browser.resize(width_px, 900).await;
            self.browser.prefer_dark(is_dark).await;
            console::look(&self.browser, page, width_px, if is_dark { "dark" } else { "light" }, &mut self.faults)
                .await;
        }
        self.browser.resize(1280, 900).await;
    }

    async fn fill(&self, name: &str, value: &str) {
        let field = self.browser.find(&format!("main input[name='{name}']:not([type=hidden])")).await;
        field.clear().await;
        field.enter(value).await;
    }

    /// Presses a button, and waits until the page that comes has something.
    async fn press(&self, button: &str, then: &str) {
        self.browser.script("document.documentElement.dataset.old = '1'").await;
        self.browser.find(button).await.click().await;
        let came = format!(
            "!document.documentElement.dataset.old && document.readyState === 'complete' && document.querySelector({}) !== null",
            json!(then)
        );
        self.browser.wait_until(&came, PATIENCE).await;
    }

    async fn password(&self, then: &str) {
        self.goto("/sign-in").await;
        self.fill("email", EMAIL).await;
        self.fill("password", PASSWORD).await;
        self.press("main form[action='/sign-in'] button", then).await;
    }

    async fn sign_out(&self) {
        let sent = "const f = document.querySelector('form[action=\"/sign-out\"]'); f.submit()";
        self.browser.script(sent).await;
        self.browser.wait_for_path("/sign-in").await;
    }
}

/// What a telephone reads on a screen.
fn scanned(screenshot: &Path) -> String {
    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(screenshot).expect("a screenshot")));
    let mut reader = decoder.read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let shown = reader.next_frame(&mut pixels).expect("an image");
    let (width, height) = (shown.width as usize, shown.height as usize);
    let per_pixel = shown.color_type.samples();
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
        let at = (y * width + x) * per_pixel;
        let sum: u32 = pixels[at..at + per_pixel.min(3)].iter().map(|sample| u32::from(*sample)).sum();
        u8::try_from(sum / per_pixel.min(3) as u32).expect("a mean")
    });
    let codes = image.detect_grids();
    assert_eq!(codes.len(), 1, "one QR code is on the page");
    codes[0].decode().expect("it can be read").1
}

#[tokio::test]
async fn an_app_reads_the_qr_code_and_a_passkey_signs_in_alone() {
    let mut walk = Walk::start().await;
    walk.password(".user-menu__name").await;
    walk.goto("/sign-in/apps").await;
    walk.look("authenticator-apps").await;
    walk.goto("/profile/mfa").await;
    walk.look("mfa-none").await;
    walk.goto("/profile/mfa/app").await;
    walk.look("mfa-app").await;

    // In both colour schemes: many dark ones have the code turned inside out.
    let mut read = Vec::new();
    for is_dark in [false, true] {
        walk.browser.prefer_dark(is_dark).await;
        read.push(scanned(&walk.browser.screenshot("mfa-qr").await));
    }
    assert_eq!(read[0], read[1]);
    let uri = Url::parse(&read[0]).expect("a URI");
    let of = |name: &str| uri.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
    assert_eq!((uri.scheme(), uri.host_str()), ("otpauth", Some("totp")));
    assert_eq!(of("issuer").as_deref(), Some("Bailiwick"));
    assert!(uri.path().contains("ida"), "{uri}");
    let phone = Phone::of_key(&of("secret").expect("a secret"));
    walk.fill("name", "Telephone").await;
    walk.fill("code", &phone.code(&walk.app)).await;
    walk.press("main form button.btn--primary", ".codes").await;
    walk.look("mfa-codes").await;
    walk.browser.find("#stored").await.click().await;
    walk.press("main form button.btn--primary", "a[href^='/profile/mfa/devices/']").await;

    // A passkey beside it.
    let options = json!({
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true,
        "isUserVerified": true, "automaticPresenceSimulation": true,
    });
    walk.browser.devtools("WebAuthn.enable", json!({})).await;
    let made = walk.browser.devtools("WebAuthn.addVirtualAuthenticator", json!({"options": options})).await;
    walk.goto("/profile/mfa/passkey").await;
    walk.look("mfa-passkey").await;
    walk.fill("name", "Laptop").await;
    walk.press("[data-passkey-button]", "a[href^='/profile/mfa/devices/']").await;
    let held =
        walk.browser.devtools("WebAuthn.getCredentials", json!({"authenticatorId": made["authenticatorId"]})).await;
    assert_eq!(held["credentials"].as_array().map(Vec::len), Some(1));
    assert_eq!(held["credentials"][0]["rpId"], "localhost");
    walk.look("mfa-both").await;

    // After the password: by either of them.
    walk.app.next_code();
    walk.sign_out().await;
    walk.password("#code").await;
    walk.look("mfa-factor").await;
    walk.fill("code", &phone.code(&walk.app)).await;
    walk.press("main form[action='/sign-in/factor'] button", ".user-menu__name").await;
    walk.sign_out().await;
    walk.password("#code").await;
    walk.press("[data-passkey-button]", ".user-menu__name").await;

    // And alone.
    walk.sign_out().await;
    walk.look("sign-in-passkey").await;
    walk.press("[data-passkey-button]", ".user-menu__name").await;
    let last = walk.app.audited("audit.signed_in.v1").pop().expect("a record");
    assert_eq!((&last["method"], &last["factor"]), (&json!("passkey"), &json!("passkey")));

    // Where only passkeys count, the app leads nowhere and the passkey does.
    walk.app.require_mfa("passkey-only");
    walk.sign_out().await;
    walk.password("[data-passkey-button]").await;
    assert_eq!(walk.browser.find_all("#code").await.len(), 0, "no code is asked for");
    walk.press("[data-passkey-button]", ".user-menu__name").await;

    // Somebody without a factor is led to one, and comes in with a passkey of their own.
    walk.app.add_user("new@acme.example", "full-access");
    walk.sign_out().await;
    walk.goto("/sign-in").await;
    walk.fill("email", "new@acme.example").await;
    walk.fill("password", PASSWORD).await;
    walk.press("main form[action='/sign-in'] button", "#passkey-name").await;
    walk.look("mfa-enrol").await;
    walk.browser.find("#passkey-name").await.enter("Another laptop").await;
    walk.press("[data-passkey-button]", ".codes").await;
    walk.browser.find("#stored").await.click().await;
    walk.press("main form button.btn--primary", ".user-menu__name").await;
    let factors: Value = walk.app.count("SELECT sum(has_passkey) FROM user").into();
    assert_eq!(factors, json!(2));
    let lines = walk.browser.take_console().await;
    walk.faults.extend(lines.into_iter().filter(|l| !l.message.contains("status of 4")).map(|l| l.message));
    assert!(walk.faults.is_empty(), "{:#?}", walk.faults);
    walk.app.assert_audit_verifies();
}
