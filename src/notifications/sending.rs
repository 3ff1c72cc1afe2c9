//! The queue at work: hands what is due to the mail server, again and again until it is taken, refused or given up.
//!
//! Owns when a mail is tried again. What is taken is written down after the server's word, so a mail is sent at least
//! once; a program that ends in between sends it a second time under the same Message-ID. A mail is counted as tried
//! before it is sent, so that whatever ends the program in the middle does not do so again at once.
//!
//! Why one task and one connection: a console sends a handful of mails, and the order and the pace are then plain.

use std::time::Duration;

use super::{
    actions, queries, sealing,
    smtp::{self, End, Patience, Session, Steps},
};
use crate::{
    clock::{SECOND, Time},
    connectors::Failure,
    error::Result,
    kernel::Kernel,
    notifications::model::{Mail, Queued},
};

/// How long is slept between two looks at the queue: the longest that a mail waits for its first try.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// After an error of ours.
const TROUBLE: Duration = Duration::from_secs(30);
/// Mails that go out over one connection.
const BATCH: usize = 100;
/// Waits between the tries of one mail, in seconds; the last one repeats. A server that asks for patience (greylisting)
/// means minutes.
const WAITS_S: [i64; 6] = [15, 60, 300, 900, 1800, 3600];
/// Waits while the server cannot be reached or signed in to at all, in seconds; the last one repeats.
const OUTAGE_WAITS_S: [i64; 5] = [15, 30, 60, 300, 600];

/// Waits of a list, by how often it was tried before.
fn wait_us(waits_s: &[i64], tried: usize) -> i64 {
    waits_s.get(tried).or(waits_s.last()).copied().unwrap_or(60) * SECOND
}

/// How a look at the queue ended.
enum Round {
    /// Nothing is due.
    Idle,
    /// A batch was handled; there may be more.
    More,
    /// There was no connection to hand anything over.
    Outage,
}

/// Works until the runtime ends.
pub async fn work(kernel: Kernel) {
    let mut outages = 0;
    loop {
        let own = kernel.clone();
        // A task of its own, so that a panic ends it and not the queue.
        let sleep = match tokio::spawn(async move { round(&own, outages).await }).await {
            Ok(Ok(Round::Idle)) => LOOK_EVERY,
            Ok(Ok(Round::More)) => {
                outages = 0;
                Duration::ZERO
            }
            Ok(Ok(Round::Outage)) => {
                outages += 1;
                LOOK_EVERY
            }
            Ok(Err(error)) => {
                tracing::error!(error = %error.chain(), "the queue of mails could not be worked on");
                TROUBLE
            }
            Err(panic) => {
                tracing::error!(error = %panic, "sending a mail panicked; it is tried again");
                TROUBLE
            }
        };
        tokio::time::sleep(sleep).await;
    }
}

async fn round(kernel: &Kernel, outages: usize) -> Result<Round> {
    let now = kernel.clock.now();
    if kernel.db.read(move |c| queries::has_hopeless(c, now)).await? {
        let given_up = kernel.db.write(move |c| queries::give_up(c, now)).await?;
        tracing::warn!(mails = given_up, "mails were given up; Settings → Mail says why");
        count("given-up", given_up);
    }
    let (due, waiting) = kernel
        .db
        .read(move |c| Ok((queries::due(c, now, BATCH)?, queries::count_queued(c, actions::QUEUE_MAX)?)))
        .await?;
    #[expect(clippy::cast_precision_loss, reason = "ten thousand at most")]
    metrics::gauge!("bailiwick_mail_waiting").set(waiting as f64);
    if due.is_empty() {
        return Ok(Round::Idle);
    }
    let Some((server, password)) = actions::load(kernel).await? else { return Ok(Round::Idle) };
    let mut steps = Steps::new(&server);
    let mut session = match Session::open(&server, &password, now, &Patience::SENDING, &mut steps).await {
        Ok(session) => session,
        Err(stop) => {
            tracing::warn!(step = stop.step, error = stop.failure.message, "the mail server could not be used");
            let again_at = now.plus(wait_us(&OUTAGE_WAITS_S, outages));
            let Failure { message, next_step, .. } = stop.failure;
            let due: Vec<String> = due.into_iter().map(|(id, _)| id).collect();
            kernel.db.write(move |c| queries::set_unreachable(c, &due, again_at, &message, &next_step)).await?;
            count("outage", 1);
            return Ok(Round::Outage);
        }
    };
    for (id, tried) in due {
        if !send(kernel, &server, &mut session, id, tried).await? {
            // Others go out over a new connection, after a breath.
            return Ok(Round::Outage);
        }
    }
    session.close().await;
    Ok(Round::More)
}

/// Sends one mail and writes down how that went; answers whether the connection can take another one.
async fn send(
    kernel: &Kernel,
    server: &super::model::Server,
    session: &mut Session,
    id: String,
    tried: i64,
) -> Result<bool> {
    let now = kernel.clock.now();
    let again_at = now.plus(wait_us(&WAITS_S, usize::try_from(tried).unwrap_or(usize::MAX)));
    let begun = {
        let id = id.clone();
        kernel.db.write(move |c| queries::begin(c, &id, now, again_at)).await?
    };
    // Somebody discarded it.
    let Some((kind, created_at, sealed)) = begun else { return Ok(true) };
    let message = sealing::open(&kernel.key, &id, &sealed)
        .and_then(|mail| smtp::message(server, &Mail::from(mail), &id, created_at));
    let delivered = match message {
        Ok(message) => session.deliver(&message, &mut Steps::new(server)).await,
        Err(error) => {
            tracing::error!(mail = id, error = %error.chain(), "a mail cannot be sent");
            let text = error.to_string();
            fail(kernel, id, now, text, "Check the addresses, and send it anew where it came from.".into()).await?;
            count("refused", 1);
            return Ok(true);
        }
    };
    let now = kernel.clock.now();
    match delivered {
        Ok(()) => {
            kernel.db.write(move |c| queries::set_sent(c, &id, now)).await?;
            tracing::info!(kind, "a mail was sent");
            count("sent", 1);
            Ok(true)
        }
        Err(stop) => {
            tracing::warn!(mail = id, kind, step = stop.step, error = stop.failure.message, "a mail was not taken");
            let Failure { message, next_step, .. } = stop.failure;
            if stop.end == End::Never {
                fail(kernel, id, now, message, next_step).await?;
                count("refused", 1);
            } else {
                kernel.db.write(move |c| queries::set_later(c, &id, again_at, &message, &next_step)).await?;
                count("later", 1);
            }
            Ok(stop.end != End::Lost)
        }
    }
}

async fn fail(kernel: &Kernel, id: String, now: Time, error: String, next_step: String) -> Result<()> {
    kernel.db.write(move |c| queries::set_failed(c, &id, now, &error, &next_step)).await
}

fn count(outcome: &'static str, mails: usize) {
    metrics::counter!("bailiwick_mail_attempts_total", "outcome" => outcome)
        .increment(u64::try_from(mails).unwrap_or(u64::MAX));
}

impl From<Queued> for Mail {
    fn from(queued: Queued) -> Self {
        Self {
            // Only the queue's page names it, and that reads the row.
            kind: "",
            recipient: queued.recipient,
            subject: queued.subject,
            text: queued.text,
            html: queued.html,
            has_secret: false,
            expires_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_at_the_longest() {
        let minutes: Vec<i64> = (0..8).map(|tried| wait_us(&WAITS_S, tried) / SECOND).collect();
        assert_eq!(minutes, [15, 60, 300, 900, 1800, 3600, 3600, 3600]);
        assert_eq!(wait_us(&OUTAGE_WAITS_S, usize::MAX), 600 * SECOND);
    }
}
