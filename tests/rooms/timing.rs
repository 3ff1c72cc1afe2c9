//! What the time of an answer tells a stranger: nothing (HOSTILE A17, R06).
//!
//! Times are compared by the medians of samples taken in turn, so that what the machine does meanwhile falls on all alike. A
//! difference counts when it shows in three comparisons out of three: one that the code makes is there every time.

use std::time::{Duration, Instant};

use super::{EMAIL, TestApp};

const SAMPLES: usize = 25;
const COMPARISONS: usize = 3;
/// Of the larger median, and never less than what a busy machine moves a short answer by.
const DIFFERENCE_MAX: f64 = 0.1;
const DIFFERENCE_MIN: Duration = Duration::from_micros(300);

fn median(mut taken: Vec<Duration>) -> Duration {
    taken.sort();
    taken[taken.len() / 2]
}

/// Whether the medians are as far apart as to tell their kinds from each other.
fn differs(medians: &[Duration]) -> bool {
    let (Some(least), Some(most)) = (medians.iter().min(), medians.iter().max()) else { return false };
    *most - *least > most.mul_f64(DIFFERENCE_MAX).max(DIFFERENCE_MIN)
}

/// Takes samples of all kinds in turn by `ask`, which answers how long the one with this number and kind took.
async fn assert_alike(kinds: usize, mut ask: impl AsyncFnMut(usize, usize) -> Duration) {
    let mut seen = Vec::new();
    for comparison in 0..COMPARISONS {
        let mut taken = vec![Vec::new(); kinds];
        for number in 0..SAMPLES {
            for at in 0..kinds {
                // Not always in the same order: what comes second finds warm caches.
                let kind = (at + number) % kinds;
                taken[kind].push(ask(comparison * SAMPLES + number, kind).await);
            }
        }
        let medians: Vec<Duration> = taken.into_iter().map(median).collect();
        println!("medians {medians:?}");
        if !differs(&medians) {
            return;
        }
        seen.push(medians);
    }
    panic!("the kinds can be told from each other by time: {seen:?}");
}

#[test]
fn the_comparison_sees_a_difference() {
    let us = Duration::from_micros;
    assert!(differs(&[us(50_000), us(60_000)]) && differs(&[us(500), us(900)]));
    assert!(!differs(&[us(50_000), us(54_000)]) && !differs(&[us(500), us(700)]));
}

#[tokio::test]
async fn the_time_of_an_answer_tells_no_stranger_who_has_a_user() {
    let app = TestApp::start();
    app.add_user("disabled@acme.example", "full-access");
    app.sql("UPDATE user SET state = 'disabled' WHERE email = 'disabled@acme.example'");
    // A second factor shows only after the right password.
    app.add_user("factor@acme.example", "full-access");
    app.enrolled("factor@acme.example").await;
    assert_alike(4, async |number, kind| {
        // Counters of attempts must not be what is measured.
        app.sql("DELETE FROM sign_in_attempt");
        let mut browser = app.browser();
        let token = browser.token("/sign-in").await;
        let unknown = format!("user{number}@acme.example");
        let email = [EMAIL, "disabled@acme.example", &unknown, "factor@acme.example"][kind];
        let fields =
            [("csrf", token.as_str()), ("email", email), ("password", "not the password at all"), ("next", "")];
        let begun = Instant::now();
        assert_eq!(browser.post_raw("/sign-in", &fields, &[]).await.status(), 422);
        begun.elapsed()
    })
    .await;
}

#[tokio::test]
async fn the_time_of_an_answer_tells_no_stranger_which_keys_there_are() {
    let app = TestApp::start();
    let (known, locked) = (app.key(app.account, "full-access"), app.key(app.account, "full-access"));
    let id = |key: &str| key.split(':').next().expect("an id").to_owned();
    let (known, locked) = (id(&known), id(&locked));
    app.sql("UPDATE api_key SET is_enabled = 0 WHERE id = (SELECT max(id) FROM api_key)");
    let secret = "bwk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    // The first refusal of each in a minute goes on the record; those after it are what a guesser measures.
    for id in [&known, &locked] {
        assert_eq!(app.api(&format!("{id}:{secret}")).get("/api/accounts").await.0, 401);
    }
    let api = app.api("");
    assert_alike(3, async |number, kind| {
        let unknown = format!("01890000-0000-7000-8000-{number:012}");
        let id = [&known, &locked, &unknown][kind];
        let request =
            api.http.get(format!("{}/api/accounts", api.base)).header("authorization", format!("ApiKey {id}:{secret}"));
        let begun = Instant::now();
        let answer = request.send().await.expect("answered");
        let took = begun.elapsed();
        assert_eq!(answer.status(), 401);
        took
    })
    .await;
}
