//! The passkey script and the relying party against a browser that nobody here wrote, with the authenticator that Chromium has
//! for tests. The pages are of our own, so that it is seen what the script says when the browser or the server refuses.

use std::{
    collections::HashMap,
    net::TcpListener,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    web::{self, Data, Form},
};
use bailiwick::mfa::RelyingParty;
use serde_json::{Value, json};
use webauthn_rs::prelude::{DiscoverableAuthentication, Passkey, PasskeyRegistration, Uuid};

use super::driver::Browser;

const PATIENCE: Duration = Duration::from_secs(10);
const USER: Uuid = Uuid::from_u128(7);

/// A site with one user and one passkey.
struct Site {
    rp: RelyingParty,
    making: Mutex<Option<PasskeyRegistration>>,
    using: Mutex<Option<DiscoverableAuthentication>>,
    made: Mutex<Option<Passkey>>,
}

fn locked<T>(what: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn form(kind: &str, options: &str) -> String {
    format!(
        r#"<form id="{kind}" method="post" action="/{kind}" data-passkey="{kind}" data-passkey-options="{options}"
            data-passkey-waiting="Waiting." data-passkey-cancelled="Cancelled." data-passkey-known="Known."
            data-passkey-refused="Refused." data-passkey-failed="Failed.">
          <input type="hidden" name="csrf" value="of the form"><input type="hidden" name="challenge">
          <input type="hidden" name="credential"><input name="name" value="Phone">
          <button name="pressed" value="yes" data-passkey-button hidden>Go</button>
          <p data-passkey-missing hidden>No passkeys here.</p>
          <p class="status" data-passkey-status role="status" aria-live="polite"></p>
        </form>"#
    )
}

/// A page under the product's own policy; `/old`: for a browser that leaves the JSON of level 3 to the page.
async fn page(request: HttpRequest) -> HttpResponse {
    let old = if request.path() == "/old" { r#"<script src="/old.js"></script>"# } else { "" };
    let forms = [form("create", "/create/options"), form("get", "/get/options")].concat();
    let full = form("get", "/full").replace(r#"id="get""#, r#"id="full""#);
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((
            "content-security-policy",
            "default-src 'none'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'",
        ))
        .body(format!(
            r#"<!doctype html><html lang="en"><title>Passkeys</title>{old}<script src="/passkeys.js" defer></script>{forms}{full}"#
        ))
}

async fn script(request: HttpRequest) -> HttpResponse {
    let body = match request.path() {
        "/old.js" => {
            "delete PublicKeyCredential.parseCreationOptionsFromJSON; delete PublicKeyCredential.parseRequestOptionsFromJSON;
             delete PublicKeyCredential.prototype.toJSON;"
                .to_owned()
        }
        _ => std::fs::read_to_string(crate::tidy::root().join("static/js/passkeys.js")).unwrap(),
    };
    HttpResponse::Ok().content_type("text/javascript; charset=utf-8").body(body)
}

type Fields = Form<HashMap<String, String>>;

/// What the script says when it asks.
fn check_asking(request: &HttpRequest, fields: &Fields) {
    assert!(request.headers().get("x-csrf-token").is_some_and(|token| token == "of the form"));
    assert_eq!(fields.get("name").map(String::as_str), Some("Phone"));
    assert!(!fields.contains_key("credential") && !fields.contains_key("challenge"));
}

async fn create_options(site: Data<Site>, request: HttpRequest, fields: Fields) -> HttpResponse {
    check_asking(&request, &fields);
    let known = locked(&site.made).iter().map(|passkey| passkey.cred_id().to_vec()).collect();
    let (options, state) = site.rp.ask_registration(USER, "ida@acme.example", "Ida", known).unwrap();
    *locked(&site.making) = Some(state);
    HttpResponse::Ok().json(json!({"challenge": "token", "options": options}))
}

async fn get_options(site: Data<Site>, request: HttpRequest, fields: Fields) -> HttpResponse {
    check_asking(&request, &fields);
    let (options, state) = site.rp.ask_assertion(&[]).unwrap();
    *locked(&site.using) = Some(state);
    HttpResponse::Ok().json(json!({"challenge": "token", "options": options}))
}

fn check_answer(fields: &Fields) -> &str {
    assert_eq!(fields["challenge"], "token");
    assert_eq!(fields["csrf"], "of the form");
    assert_eq!(fields["pressed"], "yes");
    &fields["credential"]
}

async fn create(site: Data<Site>, fields: Fields) -> HttpResponse {
    let state = locked(&site.making).take().expect("asked");
    let passkey = site.rp.registration(&state, check_answer(&fields)).expect("a passkey");
    *locked(&site.made) = Some(passkey);
    HttpResponse::Ok().body("made")
}

async fn get(site: Data<Site>, fields: Fields) -> HttpResponse {
    let state = locked(&site.using).take().expect("asked");
    let answer = RelyingParty::read_assertion(check_answer(&fields)).expect("an answer");
    assert_eq!(answer.get_user_unique_id(), Some(&USER.as_bytes()[..]));
    let mut made = locked(&site.made);
    let passkey = made.as_mut().expect("made");
    let result = site.rp.assertion(state, &answer, passkey).expect("a proof");
    passkey.update_credential(&result);
    HttpResponse::Ok().body("used")
}

async fn full() -> HttpResponse {
    HttpResponse::Conflict().json(json!({"message": "There is no room."}))
}

/// Serves the site; answers its address. It ends with the test's process.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let rp = RelyingParty::of(Some(&base)).unwrap_or_else(|why| panic!("{why}"));
    let site = Data::new(Site { rp, making: Mutex::default(), using: Mutex::default(), made: Mutex::default() });
    std::thread::spawn(move || {
        let app = move || {
            App::new()
                .app_data(site.clone())
                .route("/", web::get().to(page))
                .route("/old", web::get().to(page))
                .route("/passkeys.js", web::get().to(script))
                .route("/old.js", web::get().to(script))
                .route("/create/options", web::post().to(create_options))
                .route("/create", web::post().to(create))
                .route("/get/options", web::post().to(get_options))
                .route("/get", web::post().to(get))
                .route("/full", web::post().to(full))
                .route("/favicon.ico", web::get().to(HttpResponse::NoContent))
        };
        actix_web::rt::System::new().block_on(async move {
            HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap().run().await
        })
    });
    base
}

async fn add_authenticator(browser: &Browser) -> Value {
    browser.devtools("WebAuthn.enable", json!({})).await;
    let options = json!({
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true,
        "isUserVerified": true, "automaticPresenceSimulation": true,
    });
    browser.devtools("WebAuthn.addVirtualAuthenticator", json!({"options": options})).await["authenticatorId"].clone()
}

#[tokio::test]
async fn the_script_asks_the_browser_and_the_relying_party_takes_its_answer() {
    let base = serve();
    let browser = Browser::start().await;
    browser.goto(&base).await;
    let authenticator = add_authenticator(&browser).await;
    let press = async |form: &str| browser.find(&format!("#{form} button")).await.click().await;
    let says = async |form: &str, expected: &str| {
        let said = format!("document.querySelector('#{form} .status').textContent === {}", json!(expected));
        browser.wait_until(&said, PATIENCE).await;
    };
    for path in ["/", "/old"] {
        browser.goto(&format!("{base}{path}")).await;
        press("create").await;
        browser.wait_until("document.body.innerText === 'made'", PATIENCE).await;
        for _ in 0..2 {
            browser.goto(&format!("{base}{path}")).await;
            press("get").await;
            browser.wait_until("document.body.innerText === 'used'", PATIENCE).await;
        }
        // There is one on this device now.
        browser.goto(&format!("{base}{path}")).await;
        press("create").await;
        says("create", "Known.").await;
        // The server's own sentence.
        press("full").await;
        says("full", "There is no room.").await;
        // The device does not unlock: the page stays, and it can be tried again.
        let locked = json!({"authenticatorId": authenticator, "isUserVerified": false});
        browser.devtools("WebAuthn.setUserVerified", locked).await;
        press("get").await;
        says("get", "Cancelled.").await;
        let unlocked = json!({"authenticatorId": authenticator, "isUserVerified": true});
        browser.devtools("WebAuthn.setUserVerified", unlocked).await;
        press("get").await;
        browser.wait_until("document.body.innerText === 'used'", PATIENCE).await;
        // The next round makes one anew: to the site and to the device the old one is gone.
        browser.devtools("WebAuthn.clearCredentials", json!({"authenticatorId": authenticator})).await;
    }
    let faults: Vec<_> =
        browser.take_console().await.into_iter().filter(|line| !line.message.contains("409")).collect();
    assert!(faults.is_empty(), "{faults:?}");
}
