//! How live mode stands for each directory: what the API, the pages and the measurements say of it.
//!
//! Owns the words and a small board in memory; a restart begins with an empty one. Decides nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

use crate::{clock::Time, directories::model::Directory};

/// Whether a directory's changes are waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LiveState {
    /// Not switched on, or something has to happen first: the reason says what.
    #[default]
    Off,
    Connecting,
    /// The server tells changes.
    Watching,
    /// It did not work; it is tried again.
    Retrying,
    /// The server does not tell changes; whether it does by now is asked rarely.
    NotOffered,
}

/// How live mode stands for a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Live)]
pub struct LiveJson {
    pub state: LiveState,
    /// Since when; absent while it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Time>,
    /// When the server last said that something may have changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_change_at: Option<Time>,
    /// Why it stands so, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about it, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_try_at: Option<Time>,
}

impl LiveJson {
    pub fn waits_for(reason: &str) -> Self {
        Self { reason: Some(reason.to_owned()), ..Self::default() }
    }
}

/// The directories that are switched to live, and how each stands.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<HashMap<i64, LiveJson>>>);

impl Board {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<i64, LiveJson>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn find(&self, directory: i64) -> Option<LiveJson> {
        self.with(|all| all.get(&directory).cloned())
    }

    /// Replaces what is shown. When the state is the one of before, it stands since then.
    pub fn show(&self, directory: i64, shown: LiveJson) {
        self.with(|all| {
            let before = all.get(&directory).cloned().unwrap_or_default();
            let since = if before.state == shown.state { before.since.or(shown.since) } else { shown.since };
            let last_change_at = shown.last_change_at.or(before.last_change_at);
            all.insert(directory, LiveJson { since, last_change_at, ..shown });
        });
        self.measure(directory);
    }

    pub fn changed(&self, directory: i64, now: Time) {
        self.with(|all| {
            if let Some(shown) = all.get_mut(&directory) {
                shown.last_change_at = Some(now);
            }
        });
    }

    /// Forgets those that are not switched to live any more.
    pub fn keep(&self, is_live: impl Fn(i64) -> bool) {
        let forgotten: Vec<i64> = self.with(|all| all.extract_if(|id, _| !is_live(*id)).map(|(id, _)| id).collect());
        for directory in forgotten {
            self.measure(directory);
        }
    }

    /// What `/metrics` says of a directory.
    pub fn measure(&self, directory: i64) {
        let is_watched = self.find(directory).is_some_and(|shown| shown.state == LiveState::Watching);
        metrics::gauge!("bailiwick_directory_live", "directory" => directory.to_string())
            .set(f64::from(u8::from(is_watched)));
    }

    /// How live mode stands for a directory as it is stored now.
    pub fn standing(&self, directory: &Directory) -> LiveJson {
        if !directory.schedule.live {
            LiveJson::default()
        } else if directory.schedule.paused {
            LiveJson::waits_for("The schedule is paused.")
        } else if directory.applied_run_id.is_none() {
            LiveJson::waits_for("It begins when a first run has been applied.")
        } else {
            let soon = LiveJson { state: LiveState::Connecting, ..LiveJson::default() };
            self.find(directory.id).unwrap_or(soon)
        }
    }
}
