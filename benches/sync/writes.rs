//! A person who saves a form in the console now and then, whatever else the appliance does.
//!
//! Owns nothing: it signs in as anybody does. Each save is an audited change, answered after it is on disk.

use std::time::{Duration, Instant};

use super::{fixtures::console::Console, runs::Times};

const EVERY: Duration = Duration::from_millis(200);

/// Saves the profile every 200 ms for as long as `work` takes; answers what came of it, and the times of the saves.
pub async fn during<T>(console: &Console, work: impl Future<Output = T>) -> (T, Times) {
    let mut form = console.form("/profile", "input[name=timeZone], select[name=timeZone]").await;
    let mut times = Times::default();
    let saving = async {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for number in 0_u64.. {
            ticks.tick().await;
            // Another name each time: what changes nothing is not written.
            form.set("name", &format!("Test Admin {number}"));
            let begun = Instant::now();
            let answer = console.submit(&form).await;
            times.push(begun);
            assert!(answer.status().is_redirection(), "saving the profile answered {}", answer.status());
        }
    };
    let done = tokio::select! {
        biased;
        done = work => done,
        () = saving => unreachable!("saving goes on"),
    };
    (done, times)
}
