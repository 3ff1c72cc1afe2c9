//! Second factors through the door: no way in leads around them, a code works once, guessing does not pay, and nobody who has
//! lost their device is lost (HOSTILE A06–A13, A21).

use bailiwick::clock::{DAY, HOUR, MINUTE, SECOND, Time};
use reqwest::{Response, header};
use serde_json::json;
use totp_rs::{Algorithm, Builder, Secret, Totp};

use super::{Browser, EMAIL, PASSWORD, TestApp, attribute, off, text};

pub const JOURNEY: &str = "__Host-bailiwick-journey";

/// An authenticator app on somebody's telephone.
#[derive(Clone)]
pub struct Phone(Totp);

impl Phone {
    /// Reads the key that a page of enrolment shows.
    pub fn scan(page: &str) -> Self {
        let key: String = text(page, "#totp-key").split_whitespace().collect();
        Self::of_key(&key)
    }

    /// By the key in base32.
    pub fn of_key(key: &str) -> Self {
        let secret = Secret::try_from_base32(key).expect("base32");
        let built = Builder::new().with_algorithm(Algorithm::SHA1).with_secret(secret).build();
        Self(built.expect("a key of 160 bits"))
    }

    /// What it shows at a moment.
    pub fn code_at(&self, now: Time) -> String {
        self.0.generate(u64::try_from(now.0 / SECOND).expect("after 1970")).to_string()
    }

    pub fn code(&self, app: &TestApp) -> String {
        self.code_at(app.app.kernel.clock.now())
    }
}

pub fn location(answer: &Response) -> String {
    let value = answer.headers().get(header::LOCATION).map(|value| value.to_str().expect("ASCII").to_owned());
    value.unwrap_or_default()
}

impl TestApp {
    /// Moves the clock to where the next code begins.
    pub fn next_code(&self) {
        self.forward(30 * SECOND);
    }

    /// Sets where people reach the console.
    pub fn set_base_url(&self, base: &str) {
        let base = base.to_owned();
        let write = move |c: &rusqlite::Connection| {
            Ok(c.execute(
                "INSERT OR REPLACE INTO console_address (id, base_url, updated_at) VALUES (1, ?1, 0)",
                [base],
            )?)
        };
        assert_eq!(off(|| self.app.kernel.db.write_blocking(write)).expect("set"), 1);
    }

    /// Asks everybody in an account for a factor.
    pub fn require_mfa(&self, rule: &'static str) {
        let id = self.account;
        let write = move |c: &rusqlite::Connection| {
            Ok(c.execute("UPDATE account SET mfa_rule = ?2 WHERE id = ?1", rusqlite::params![id, rule])?)
        };
        assert_eq!(off(|| self.app.kernel.db.write_blocking(write)).expect("changed"), 1);
    }

    /// Signs a user in and enrols an app for them; answers their browser, their telephone and their recovery codes.
    pub async fn enrolled(&self, email: &str) -> (Browser, Phone, Vec<String>) {
        let mut browser = self.signed_in_as(email).await;
        let page = browser.page("/profile/mfa/app").await;
        let phone = Phone::scan(&page);
        let id = attribute(&page, "input[name=id]", "value").expect("an id");
        let answer =
            browser.post("/profile/mfa/app", &[("id", &id), ("name", "Phone"), ("code", &phone.code(self))]).await;
        assert_eq!(answer.status(), 200, "the codes are shown");
        let page = answer.text().await.expect("a page");
        let codes = attribute(&page, "input[name=codes]", "value").expect("codes");
        let codes: Vec<String> = codes.split(' ').map(str::to_owned).collect();
        assert_eq!(codes.len(), 10);
        (browser, phone, codes)
    }
}

impl Browser {
    /// A form of a page of the way in, where nobody is signed in.
    pub async fn step(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let token = self.token("/sign-in/continue").await;
        let mut all = vec![("csrf", token.as_str())];
        all.extend_from_slice(fields);
        self.post_raw(path, &all, &[]).await
    }

    /// Enters the right password of somebody who has a factor.
    pub async fn half_way(&mut self, email: &str) -> &mut Self {
        let answer = self.sign_in(email, PASSWORD).await;
        assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (303, "/sign-in/factor"), "{email}");
        self
    }

    pub async fn code(&mut self, code: &str) -> Response {
        self.step("/sign-in/factor", &[("code", code)]).await
    }
}

/// What of an account nobody may reach who has not proved what it asks for.
async fn reaches_nothing(app: &TestApp, browser: &mut Browser, way: &str) {
    for path in
        ["/", "/users", "/directories", "/profile", "/profile/mfa", "/logs", "/accounts", "/settings/account/export"]
    {
        let answer = browser.get(path).await;
        assert_eq!(answer.status(), 303, "{way}: GET {path}");
        assert!(location(&answer).starts_with("/sign-in"), "{way}: GET {path} leads to {}", location(&answer));
    }
    let fragment = browser
        .http
        .get(format!("{}/users", browser.base))
        .header(header::COOKIE, cookie_line(browser))
        .header("hx-request", "true");
    let fragment = fragment.send().await.expect("answered");
    assert!(fragment.headers().contains_key("hx-redirect"), "{way}: a fragment");
    assert!(!fragment.text().await.expect("a body").contains("acme.example"), "{way}: a fragment");
    let answer = browser.step("/profile/password", &[("current", PASSWORD), ("new", "another fine pass phrase")]).await;
    assert!([303, 403].contains(&answer.status().as_u16()), "{way}: a form was answered with {}", answer.status());
    let api = browser
        .http
        .get(format!("{}/api/users", browser.base))
        .header(header::COOKIE, cookie_line(browser))
        .send()
        .await
        .expect("answered");
    assert_eq!(api.status(), 401, "{way}: the API with a cookie");
    let _ = app;
}

fn cookie_line(browser: &Browser) -> String {
    browser.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
}

/// Makes a link that a mail would hold.
async fn invitation(app: &TestApp, email: &str) -> String {
    let api = app.api(&app.admin_key(app.account, "full-access"));
    let (status, made) = api.post("/api/invitations", &json!({"email": email, "roleId": "read-only"})).await;
    assert_eq!(status, 201, "{made}");
    let link = made["link"].as_str().or(made["token"].as_str()).expect("a link to hand over").to_owned();
    link.rsplit("token=").next().expect("a token").to_owned()
}

#[tokio::test]
async fn no_way_in_reaches_anything_without_the_factor() {
    let app = TestApp::start();
    app.add_user("plain@acme.example", "full-access");
    let other = app.other_account("other", "both@other.example");
    let join = move |c: &rusqlite::Connection| {
        let sql = "INSERT INTO membership (user_id, account_id, role_id, created_at)
                   SELECT u.id, ?1, 'full-access', 0 FROM user u WHERE u.email = 'both@other.example'";
        Ok(c.execute(sql, [app_account(c)?])?)
    };
    assert_eq!(off(|| app.app.kernel.db.write_blocking(join)).expect("joined"), 1);
    let (_, phone, codes) = app.enrolled(EMAIL).await;
    let newcomer = invitation(&app, "new@acme.example").await;
    let existing = invitation(&app, "root@third.example").await;
    app.other_account("third", "root@third.example");
    app.require_mfa("required");
    app.forward(HOUR);

    // The password of somebody who has a factor, and of somebody who has none.
    let mut browser = app.browser();
    browser.half_way(EMAIL).await;
    reaches_nothing(&app, &mut browser, "a password").await;
    let mut plain = app.browser();
    plain.half_way("plain@acme.example").await;
    reaches_nothing(&app, &mut plain, "a password without a factor").await;

    // Half a sign-in that was stolen is as much as it was.
    let mut thief = app.browser();
    thief.cookies.insert(JOURNEY.into(), browser.cookies[JOURNEY].clone());
    reaches_nothing(&app, &mut thief, "a stolen journey").await;
    // Nor does its token open anything as a session.
    thief.cookies.insert("__Host-bailiwick-session".into(), browser.cookies[JOURNEY].clone());
    reaches_nothing(&app, &mut thief, "a journey's token as a session").await;
    // And whoever has a factor cannot get another one half-way.
    let answer = thief.step("/sign-in/enrol/totp", &[("id", "x"), ("name", "Thief"), ("code", "123456")]).await;
    assert_eq!(answer.status(), 409, "no factor is enrolled on the way by whoever has one");

    // Another user's code, a wrong one, and one that was used.
    let (_, others_phone, _) = {
        app.require_mfa("optional");
        let enrolled = app.enrolled("plain@acme.example").await;
        app.require_mfa("required");
        enrolled
    };
    let mut browser = app.browser();
    browser.half_way(EMAIL).await;
    let answer = browser.code(&others_phone.code(&app)).await;
    assert_eq!(answer.status(), 422, "a code of another user");
    reaches_nothing(&app, &mut browser, "a code of another user").await;
    let mut first = app.browser();
    first.half_way(EMAIL).await;
    let code = phone.code(&app);
    assert_eq!(location(&first.code(&code).await), "/");
    assert_eq!(first.get("/users").await.status(), 200);
    assert_eq!(browser.code(&code).await.status(), 422, "a replayed code");
    reaches_nothing(&app, &mut browser, "a replayed code").await;

    // An invitation: a new user, and one who is there already.
    let mut new = app.browser();
    let fields =
        [("token", newcomer.as_str()), ("name", "New"), ("password", "quite a new pass phrase"), ("locale", "en")];
    let answer = new.step("/invitation", &fields).await;
    assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (303, "/sign-in/factor"), "an invitation");
    reaches_nothing(&app, &mut new, "an invitation").await;
    let mut third = app.signed_in_as("root@third.example").await;
    let answer = third.post("/invitation/join", &[("token", &existing)]).await;
    assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (303, "/sign-in/factor"), "joining");
    assert!(third.page("/accounts").await.contains("third"), "they are where they were");
    assert!(!third.page("/users").await.contains("ida@acme.example"));

    // The way from another account, which itself stays open.
    let mut both = app.browser();
    both.sign_in("both@other.example", PASSWORD).await;
    if both.session().is_none() {
        let answer = both.step("/sign-in/account", &[("account", &other.id.to_string())]).await;
        assert_eq!(
            (answer.status().as_u16(), location(&answer).as_str()),
            (303, "/"),
            "the other account asks for nothing"
        );
    }
    assert!(both.page("/users").await.contains("both@other.example"), "other accounts stay reachable");
    let answer = both.post("/accounts/switch", &[("account", &app.account.to_string())]).await;
    assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (303, "/sign-in/factor"), "a switch");
    assert!(!both.page("/users").await.contains("ida@acme.example"));
    assert!(both.page("/sign-in/factor").await.contains("acme"), "the way goes on");

    // The link for a new password signs nobody in, and takes no factor away.
    let mut forgetful = app.browser();
    let token = reset_token(&app, EMAIL);
    let answer = forgetful.step("/reset-password", &[("token", &token), ("new", "eleven blue herons fly south")]).await;
    assert_eq!(location(&answer), "/sign-in");
    reaches_nothing(&app, &mut forgetful, "a password reset").await;
    let answer = forgetful.sign_in(EMAIL, "eleven blue herons fly south").await;
    assert_eq!(location(&answer), "/sign-in/factor", "the factor is still asked for (A21)");
    reaches_nothing(&app, &mut forgetful, "a new password").await;

    // A recovery code leads to a new factor and nowhere else.
    let answer = forgetful.step("/sign-in/recovery", &[("code", &codes[0])]).await;
    assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (303, "/sign-in/factor"));
    reaches_nothing(&app, &mut forgetful, "a recovery code").await;
    assert!(forgetful.page("/sign-in/factor").await.contains("totp-key"), "a new factor has to be enrolled");

    // The set-up link is dead once there is an account.
    assert_eq!(app.browser().get("/setup?token=x").await.status(), 404);
    app.assert_audit_verifies();
}

fn app_account(c: &rusqlite::Connection) -> bailiwick::error::Result<i64> {
    Ok(c.query_row("SELECT id FROM account WHERE alias = 'acme'", [], |row| row.get(0))?)
}

/// The token of a link for a new password, as the mail would hold it.
fn reset_token(app: &TestApp, email: &'static str) -> String {
    let now = app.app.kernel.clock.now();
    let token = "R".repeat(43);
    let hash = bailiwick::secret::sha256(token.as_bytes());
    let write = move |c: &rusqlite::Connection| {
        Ok(c.execute(
            "INSERT INTO user_token (token_hash, user_id, purpose, email, created_at, expires_at)
             SELECT ?1, id, 'reset-password', email, ?2, ?3 FROM user WHERE email = ?4",
            rusqlite::params![hash, now, now.plus(30 * MINUTE), email],
        )?)
    };
    assert_eq!(off(|| app.app.kernel.db.write_blocking(write)).expect("made"), 1);
    token
}

#[tokio::test]
async fn a_factor_that_somebody_has_is_asked_for_whatever_the_account_says() {
    let app = TestApp::start();
    let (mut browser, phone, _) = app.enrolled(EMAIL).await;
    assert_eq!(browser.get("/users").await.status(), 200, "who has just enrolled it has proved it");
    app.next_code();
    let mut again = app.browser();
    again.half_way(EMAIL).await;
    let answer = again.code(&phone.code(&app)).await;
    assert_eq!((answer.status().as_u16(), location(&answer).as_str()), (303, "/"));
    let signed_in = app.audited("audit.signed_in.v1");
    let last = signed_in.last().expect("a record");
    assert_eq!((&last["method"], &last["factor"]), (&json!("password"), &json!("totp")));
    assert!(!again.cookies.contains_key(JOURNEY), "the journey is over");
    assert_eq!(app.count("SELECT count(*) FROM journey"), 0);
}

#[tokio::test]
async fn a_session_from_before_the_factor_is_asked_for_it() {
    let app = TestApp::start();
    let mut before = app.signed_in().await;
    let (_, phone, _) = app.enrolled(EMAIL).await;
    app.next_code();
    let answer = before.get("/users?state=enabled").await;
    assert_eq!(
        (answer.status().as_u16(), location(&answer).as_str()),
        (303, "/sign-in/continue?next=%2Fusers%3Fstate%3Denabled")
    );
    let page = before.page("/sign-in/continue?next=%2Fusers%3Fstate%3Denabled").await;
    let next = attribute(&page, "input[name=next]", "value").expect("where to");
    let answer = before.step("/sign-in/continue", &[("next", &next)]).await;
    assert_eq!(location(&answer), "/sign-in/factor");
    let answer = before.code(&phone.code(&app)).await;
    assert_eq!(location(&answer), "/users?state=enabled", "back to where they were going");
    assert_eq!(before.get("/users").await.status(), 200);
    assert_eq!(app.count("SELECT count(*) FROM session"), 2, "the old session has ended");
}

#[tokio::test]
async fn a_journey_ends_with_the_session_that_it_goes_on_from() {
    let app = TestApp::start();
    let mut before = app.signed_in().await;
    let (mut other, phone, _) = app.enrolled(EMAIL).await;
    app.next_code();
    assert_eq!(location(&before.step("/sign-in/continue", &[("next", "/")]).await), "/sign-in/factor");
    assert_eq!(other.post("/profile/sessions/end", &[]).await.status(), 303);
    let answer = before.code(&phone.code(&app)).await;
    assert_eq!(location(&answer), "/sign-in", "nothing is inherited from a session that was ended");
    assert_eq!(app.count("SELECT count(*) FROM session"), 0);
}

#[tokio::test]
async fn a_journey_lasts_ten_minutes_and_dies_with_a_new_password() {
    let app = TestApp::start();
    let (mut owner, phone, _) = app.enrolled(EMAIL).await;
    app.next_code();
    let mut slow = app.browser();
    slow.half_way(EMAIL).await;
    app.forward(10 * MINUTE);
    assert_eq!(location(&slow.code(&phone.code(&app)).await), "/sign-in", "too late");
    let mut thief = app.browser();
    thief.half_way(EMAIL).await;
    let fields = [("current", PASSWORD), ("new", "eleven blue herons fly south")];
    assert_eq!(owner.post("/profile/password", &fields).await.status(), 303);
    app.next_code();
    assert_eq!(location(&thief.code(&phone.code(&app)).await), "/sign-in", "the password that it rested on is no more");
}

#[tokio::test]
async fn a_code_is_accepted_with_spaces_once_and_never_after_a_newer_one() {
    let app = TestApp::start();
    let (_, phone, _) = app.enrolled(EMAIL).await;
    app.forward(5 * MINUTE);
    let now = app.app.kernel.clock.now();
    let (older, newer) = (phone.code_at(now.plus(-30 * SECOND)), phone.code_at(now));
    let spaced = format!(" {} {}", &newer[..3], &newer[3..]);
    for (code, status, why) in [
        (phone.code_at(now.plus(-60 * SECOND)), 422, "two steps old"),
        (phone.code_at(now.plus(60 * SECOND)), 422, "two steps ahead"),
        (spaced, 303, "with spaces"),
        (newer, 422, "used"),
        (older, 422, "older than one that was used"),
        (phone.code_at(now.plus(30 * SECOND)), 303, "one step ahead"),
    ] {
        let mut browser = app.browser();
        browser.half_way(EMAIL).await;
        assert_eq!(browser.code(&code).await.status(), status, "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_equal_codes_at_once_one_is_right() {
    let app = TestApp::start();
    let (_, phone, _) = app.enrolled(EMAIL).await;
    app.next_code();
    let mut browser = app.browser();
    browser.half_way(EMAIL).await;
    let token = browser.token("/sign-in/continue").await;
    let code = phone.code(&app);
    let tries = (0..50).map(|_| {
        let (mut browser, token, code) = (browser.clone(), token.clone(), code.clone());
        tokio::spawn(async move {
            let fields = [("csrf", token.as_str()), ("code", code.as_str())];
            let answer = browser.post_raw("/sign-in/factor", &fields, &[]).await;
            (answer.status() == 303 && location(&answer) == "/") && browser.get("/users").await.status() == 200
        })
    });
    let mut inside = 0;
    for tried in tries.collect::<Vec<_>>() {
        inside += i32::from(tried.await.expect("no panic"));
    }
    assert_eq!(inside, 1);
    assert_eq!(app.count("SELECT count(*) FROM session"), 2, "with the one that enrolled");
}

#[tokio::test]
async fn wrong_codes_count_whatever_the_number_of_sign_ins_and_the_user_still_gets_in() {
    let app = TestApp::start();
    let (known, phone, _) = app.enrolled(EMAIL).await;
    app.forward(HOUR);
    let mut evaluated = 0;
    for _ in 0..40 {
        let mut thief = app.browser();
        thief.half_way(EMAIL).await;
        for _ in 0..3 {
            match thief.code("000000").await.status().as_u16() {
                422 => evaluated += 1,
                429 => {}
                other => panic!("answered {other}"),
            }
        }
    }
    assert_eq!(evaluated, 5, "in fifteen minutes");
    // Even the right one is not looked at from there, but it is in a browser that the user has come in with before.
    let mut thief = app.browser();
    thief.half_way(EMAIL).await;
    let answer = thief.code(&phone.code(&app)).await;
    assert_eq!(answer.status(), 429);
    let mut owner = app.browser();
    owner.cookies.insert("__Host-bailiwick-known".into(), known.cookies["__Host-bailiwick-known"].clone());
    owner.half_way(EMAIL).await;
    assert_eq!(location(&owner.code(&phone.code(&app)).await), "/");
    // Through the day: sixteen, and the user is told.
    for _ in 0..60 {
        app.forward(16 * MINUTE);
        let mut thief = app.browser();
        thief.half_way(EMAIL).await;
        for _ in 0..6 {
            evaluated += i32::from(thief.code("000000").await.status() == 422);
        }
    }
    assert_eq!(evaluated, 16, "in a day");
    assert_eq!(app.audited("audit.mfa_locked.v1").len(), 1);
    // A new password gives nobody new guesses.
    let token = reset_token(&app, EMAIL);
    app.browser().step("/reset-password", &[("token", &token), ("new", "eleven blue herons fly south")]).await;
    let mut thief = app.browser();
    assert_eq!(location(&thief.sign_in(EMAIL, "eleven blue herons fly south").await), "/sign-in/factor");
    assert_eq!(thief.code("000000").await.status(), 429);
    app.forward(DAY);
    let mut thief = app.browser();
    thief.sign_in(EMAIL, "eleven blue herons fly south").await;
    assert_eq!(thief.code("000000").await.status(), 422, "nobody is locked out for good");
}

#[tokio::test]
async fn a_recovery_code_works_once_and_takes_everything_away() {
    let app = TestApp::start();
    let (mut inside, phone, codes) = app.enrolled(EMAIL).await;
    app.next_code();
    let mut lost = app.browser();
    lost.half_way(EMAIL).await;
    assert_eq!(lost.step("/sign-in/recovery", &[("code", "00000-00000")]).await.status(), 422);
    let written = codes[3].to_uppercase().replace('-', " ");
    assert_eq!(location(&lost.step("/sign-in/recovery", &[("code", &written)]).await), "/sign-in/factor");
    assert_eq!(inside.get("/users").await.status(), 303, "all sessions have ended");
    assert_eq!(app.count("SELECT (SELECT count(*) FROM totp_device WHERE confirmed_at IS NOT NULL) + (SELECT count(*) FROM recovery_code)"), 0);
    assert_eq!(app.audited("audit.mfa_recovered.v1").len(), 1);
    // Going away and coming back with the password alone leads to the same place.
    let mut back = app.browser();
    back.half_way(EMAIL).await;
    let page = back.page("/sign-in/factor").await;
    assert!(page.contains("were reset"), "{page}");
    // The old app and the old codes are worth nothing.
    assert_eq!(back.code(&phone.code(&app)).await.status(), 303, "there is no code to enter");
    assert_eq!(back.session(), None);
    let fresh = Phone::scan(&page);
    let id = attribute(&page, "input[name=id]", "value").expect("an id");
    let answer =
        back.step("/sign-in/enrol/totp", &[("id", &id), ("name", "New phone"), ("code", &fresh.code(&app))]).await;
    assert_eq!(answer.status(), 200, "new recovery codes are shown");
    assert_eq!(back.get("/users").await.status(), 200);
    // The other journey finds that there is a factor now.
    assert_eq!(lost.get("/sign-in/factor").await.status(), 200);
    assert!(!lost.page("/sign-in/factor").await.contains("totp-key"));
    let answer =
        lost.step("/sign-in/enrol/totp", &[("id", &id), ("name", "Second"), ("code", &fresh.code(&app))]).await;
    assert_eq!(answer.status(), 409, "of two who enrol one is first");
    assert_eq!(lost.step("/sign-in/recovery", &[("code", &codes[4])]).await.status(), 422, "the old set is dead");
}

#[tokio::test]
async fn recovery_codes_are_stored_before_they_are_left_and_shown_to_nobody_else() {
    let app = TestApp::start();
    let (mut browser, _, codes) = app.enrolled(EMAIL).await;
    let joined = codes.join(" ");
    let fields = [("codes", joined.as_str()), ("next", "/users")];
    let answer = browser.post("/profile/mfa/codes/stored", &fields).await;
    assert_eq!(answer.status(), 422);
    assert!(answer.text().await.expect("a page").contains(&codes[9]), "nothing is lost");
    let answer = browser.post("/profile/mfa/codes/file", &fields).await;
    assert!(answer.headers()[header::CONTENT_DISPOSITION].to_str().expect("ASCII").starts_with("attachment"));
    let file = answer.text().await.expect("a file");
    assert!(codes.iter().all(|code| file.contains(code)), "{file}");
    let mut answer = browser.post("/profile/mfa/codes/stored", &[fields[0], fields[1], ("stored", "on")]).await;
    assert_eq!(location(&answer), "/users");
    // What is none of theirs is not repeated.
    for made_up in ["", "a b c", "<script>", &joined.replace(&codes[0], "00000-00000")] {
        answer = browser.post("/profile/mfa/codes/file", &[("codes", made_up), ("next", "/")]).await;
        assert_eq!(answer.status(), 409, "{made_up}");
    }
    // A new set replaces the old one.
    let page = browser.post("/profile/mfa/codes", &[]).await.text().await.expect("a page");
    assert!(!page.contains(&codes[0]) && page.contains("name=\"stored\""));
    assert_eq!(
        browser.post("/profile/mfa/codes/stored", &[fields[0], fields[1], ("stored", "on")]).await.status(),
        409
    );
}

#[tokio::test]
async fn what_an_account_asks_for_holds_with_the_next_request_and_cannot_be_taken_off() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    app.require_mfa("required");
    let answer = browser.get("/users").await;
    assert!(location(&answer).starts_with("/sign-in/continue"), "{}", location(&answer));
    assert_eq!(location(&browser.step("/sign-in/continue", &[("next", "/users")]).await), "/sign-in/factor");
    let page = browser.page("/sign-in/factor").await;
    let phone = Phone::scan(&page);
    assert_eq!(
        phone.code(&app),
        Phone::scan(&browser.page("/sign-in/factor").await).code(&app),
        "a reload shows the same"
    );
    let id = attribute(&page, "input[name=id]", "value").expect("an id");
    let wrong = browser.step("/sign-in/enrol/totp", &[("id", &id), ("name", "Phone"), ("code", "000000")]).await;
    assert_eq!(wrong.status(), 422);
    let page = wrong.text().await.expect("a page");
    assert_eq!(attribute(&page, "input#name", "value").as_deref(), Some("Phone"), "what was typed stays");
    let fields = [("id", id.as_str()), ("name", "Phone"), ("code", &phone.code(&app))];
    assert_eq!(browser.step("/sign-in/enrol/totp", &fields).await.status(), 200);
    assert_eq!(browser.get("/users").await.status(), 200);
    let page = browser.page("/profile/mfa").await;
    let device = attribute(&page, "a[href^='/profile/mfa/devices/']", "href").expect("a device");
    let remove = format!("{device}/remove");
    assert_eq!(browser.post(&remove, &[]).await.status(), 403, "they are asked again first");
    app.next_code();
    let answer = browser.post(&remove, &[("stepUpCode", &phone.code(&app))]).await;
    assert_eq!(answer.status(), 409, "not while the account asks for it");
    app.require_mfa("optional");
    app.next_code();
    assert_eq!(browser.post(&remove, &[("stepUpCode", &phone.code(&app))]).await.status(), 303);
    assert_eq!(app.count("SELECT has_totp + must_enrol FROM user WHERE email = 'ida@acme.example'"), 0);
    assert_eq!(app.count("SELECT count(*) FROM recovery_set"), 0);
}

#[tokio::test]
async fn a_role_can_ask_for_more_than_its_account() {
    let app = TestApp::start();
    app.add_user("reader@acme.example", "read-only");
    let api = app.api(&app.admin_key(app.account, "full-access"));
    let (status, role) = api.post("/api/roles/full-access", &json!({"mfaRequired": true})).await;
    assert_eq!((status, &role["mfaRequired"], &role["passkeyOnly"]), (200, &json!(true), &json!(false)));
    let (status, _) = api.post("/api/roles/full-access", &json!({"name": "Everything", "mfaRequired": true})).await;
    assert_eq!(status, 409, "nothing else of a predefined role");
    let (status, said) = api.post("/api/roles/full-access", &json!({"mfaRequired": false, "passkeyOnly": true})).await;
    assert_eq!((status, said["fields"]["passkeyOnly"].is_string()), (422, true));
    app.browser().half_way(EMAIL).await;
    let mut reader = app.signed_in_as("reader@acme.example").await;
    assert_eq!(reader.get("/users").await.status(), 200, "other roles are as before");
}

#[tokio::test]
async fn where_only_passkeys_count_a_code_is_not_enough() {
    let app = TestApp::start();
    let (mut browser, phone, _) = app.enrolled(EMAIL).await;
    app.require_mfa("passkey-only");
    app.next_code();
    assert_eq!(browser.get("/users").await.status(), 303);
    let mut again = app.browser();
    again.half_way(EMAIL).await;
    let answer = again.code(&phone.code(&app)).await;
    assert_eq!(location(&answer), "/sign-in/factor", "the app proves who they are, and a passkey is to be added");
    reaches_nothing(&app, &mut again, "a code where passkeys are asked for").await;
    assert!(!again.page("/sign-in/factor").await.contains("totp-key"), "another app would not do");
}

/// The id of a user of the first account.
async fn user_id(app: &TestApp, email: &str) -> String {
    let api = app.api(&app.key(app.account, "full-access"));
    let (_, users) = api.get(&format!("/api/users?q={email}")).await;
    users["users"][0]["id"].as_str().expect("a user").to_owned()
}

#[tokio::test]
async fn an_administrator_resets_the_factors_of_others_and_of_nobody_beyond_them() {
    let app = TestApp::start();
    app.add_user("lost@acme.example", "read-only");
    app.add_user("helper@acme.example", "full-access");
    let (mut lost, phone, codes) = app.enrolled("lost@acme.example").await;
    let id = user_id(&app, "lost@acme.example").await;
    let mut helper = app.signed_in_as("helper@acme.example").await;
    assert!(helper.page(&format!("/users/{id}")).await.contains("Reset second factors"));
    let answer = helper.post(&format!("/users/{id}/mfa/reset"), &[]).await;
    assert_eq!(location(&answer), format!("/users/{id}"));
    assert_eq!(lost.get("/users").await.status(), 303, "their sessions have ended");
    let record = app.audited("audit.mfa_reset.v1");
    assert_eq!((record.len(), &record[0]["result"], &record[0]["sessionsEnded"]), (1, &json!("success"), &json!(1)));
    // Only to a new factor, with neither the old app nor the old codes.
    app.next_code();
    let mut back = app.browser();
    back.half_way("lost@acme.example").await;
    assert!(back.page("/sign-in/factor").await.contains("totp-key"));
    back.code(&phone.code(&app)).await;
    assert_eq!(back.step("/sign-in/recovery", &[("code", &codes[0])]).await.status(), 303);
    assert_eq!(back.session(), None);
    // There is nothing left to reset.
    helper.post(&format!("/users/{id}/mfa/reset"), &[]).await;
    assert!(helper.page(&format!("/users/{id}")).await.contains("This user has no second factor."));

    // Not one's own, not the owner's, not of somebody who belongs to another account too, nor of whoever holds more.
    let (mut helper, _, _) = app.enrolled("helper@acme.example").await;
    app.enrolled(EMAIL).await;
    app.add_user("both@acme.example", "read-only");
    app.enrolled("both@acme.example").await;
    let other = app.other_account("other", "root@other.example");
    let join = move |c: &rusqlite::Connection| {
        let sql = "INSERT INTO membership (user_id, account_id, role_id, created_at)
                   SELECT u.id, ?1, 'read-only', 0 FROM user u WHERE u.email = 'both@acme.example'";
        Ok(c.execute(sql, [other.id])?)
    };
    assert_eq!(off(|| app.app.kernel.db.write_blocking(join)).expect("joined"), 1);
    for email in ["helper@acme.example", EMAIL, "both@acme.example"] {
        let id = user_id(&app, email).await;
        helper.post(&format!("/users/{id}/mfa/reset"), &[]).await;
        assert_eq!(
            app.count("SELECT count(*) FROM user WHERE must_enrol = 1"),
            1,
            "{email} was reset, beside the one who was to be"
        );
    }
    let refused = app.audited("audit.mfa_reset.v1");
    assert_eq!(refused.iter().filter(|record| record["result"] == "denied").count(), 3, "{refused:?}");
    let root = app.api(&app.admin_key(app.account, "full-access"));
    let services = json!({"identity": "full", "audit": "read"});
    let (status, _) = root.post("/api/roles", &json!({"id": "people", "name": "People", "services": services})).await;
    assert_eq!(status, 201);
    app.add_user("people@acme.example", "people");
    let mut people = app.signed_in_as("people@acme.example").await;
    let id = user_id(&app, "helper@acme.example").await;
    people.post(&format!("/users/{id}/mfa/reset"), &[]).await;
    assert_eq!(app.count("SELECT has_totp FROM user WHERE email = 'helper@acme.example'"), 1, "whoever holds more");
    app.assert_audit_verifies();
}

#[tokio::test]
async fn a_stricter_rule_names_those_whom_it_keeps_out_before_it_is_saved() {
    let app = TestApp::start();
    app.add_user("plain@acme.example", "read-only");
    let (mut browser, _, _) = app.enrolled(EMAIL).await;
    let answer = browser.post("/settings/mfa", &[("mfa", "required")]).await;
    assert_eq!(answer.status(), 200);
    let page = answer.text().await.expect("a page");
    assert!(page.contains("plain@acme.example") && page.contains("Not saved yet"), "{page}");
    assert!(!text(&page, "table[aria-label='Who lacks it']").contains("Ida Marlow"));
    // Who may not know who uses the account is told how many.
    let api = app.api(&app.admin_key(app.account, "full-access"));
    let services = json!({"settings": "read"});
    let (status, _) = api.post("/api/roles", &json!({"id": "looker", "name": "Looker", "services": services})).await;
    assert_eq!(status, 201);
    app.add_user("looker@acme.example", "looker");
    let (mut looker, _, _) = app.enrolled("looker@acme.example").await;
    app.require_mfa("required");
    let seen = looker.page("/settings/mfa").await;
    assert!(seen.contains("1 user") && !seen.contains("plain@acme.example"), "{seen}");
    app.require_mfa("optional");
    let rule = "SELECT mfa_rule = 'required' FROM account";
    assert_eq!(app.count(rule), 0);
    let answer = browser.post("/settings/mfa", &[("mfa", "required"), ("seen", "on")]).await;
    assert_eq!((location(&answer).as_str(), app.count(rule)), ("/settings/mfa", 1));
    let changes = &app.audited("audit.account_updated.v1")[0]["changes"];
    assert_eq!(changes["mfaRequired"], json!({"before": false, "after": true}));
    // What is less strict keeps nobody out.
    assert_eq!(browser.post("/settings/mfa", &[("mfa", "optional")]).await.status(), 303);
    assert_eq!(app.count(rule), 0);
    assert_eq!(browser.post("/settings/mfa", &[("mfa", "never")]).await.status(), 400);
    // The same by the API, and who has none by the list.
    let path = format!("/api/accounts/{}", app.account);
    let (status, account) = api.post(&path, &json!({"mfaRequired": true, "passkeyOnly": true})).await;
    assert_eq!((status, &account["mfaRequired"], &account["passkeyOnly"]), (200, &json!(true), &json!(true)));
    let (status, account) = api.post(&path, &json!({"mfaRequired": false})).await;
    assert_eq!((status, &account["mfaRequired"], &account["passkeyOnly"]), (200, &json!(false), &json!(false)));
    let (_, users) = api.get("/api/users?mfaEnabled=false").await;
    assert_eq!(users["users"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&users["users"][0]["email"], &users["users"][0]["mfaEnabled"]),
        (&json!("plain@acme.example"), &json!(false))
    );
    assert_eq!(api.get("/api/users?mfaEnabled=perhaps").await.0, 400);
}

#[tokio::test]
async fn a_key_stops_with_whoever_answers_for_it_and_lacks_what_is_asked() {
    let app = TestApp::start();
    let mut browser = app.signed_in().await;
    let fields = [("alias", "reports"), ("role", "read-only"), ("expires", "365")];
    let page = browser.post("/api-keys", &fields).await.text().await.expect("a page");
    let key = text(&page, "code#secret");
    let key = if key.is_empty() { text(&page, ".copy code") } else { key };
    let api = app.api(&key);
    assert_eq!(api.get("/api/users").await.0, 200, "{key}");
    app.require_mfa("required");
    assert_eq!(api.get("/api/users").await.0, 401, "their own session would be held");
    let refused = app.audited("audit.api_key_refused.v1");
    assert_eq!(
        refused.last().expect("a record")["reason"],
        "the user who answers for the key lacks the second factor that is asked of them"
    );
    app.require_mfa("optional");
    app.enrolled(EMAIL).await;
    app.require_mfa("required");
    assert_eq!(api.get("/api/users").await.0, 200, "it works again once they have one");
    app.require_mfa("passkey-only");
    assert_eq!(api.get("/api/users").await.0, 401);
}
