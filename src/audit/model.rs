//! What a record holds.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{clock::Time, principal::AccountId};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Success,
    Failure,
    Denied,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Denied => "denied",
        }
    }
}

/// A record to be written. Build it from [`Entry::new`]; the writer adds time, principal, address and chain.
#[derive(Debug, Clone)]
pub struct Entry {
    pub(super) kind: &'static str,
    pub(super) subject: Option<String>,
    pub(super) outcome: Outcome,
    pub(super) details: Map<String, Value>,
    pub(super) account: Option<AccountId>,
    pub(super) by: Option<String>,
}

/// Text in details is cut here: a long value must not make the log unreadable (HOSTILE U04).
const TEXT_MAX: usize = 4_096;

impl Entry {
    /// A successful `audit.<thing>_<past>.v1`.
    pub fn new(kind: &'static str) -> Self {
        Self { kind, subject: None, outcome: Outcome::Success, details: Map::new(), account: None, by: None }
    }

    /// The URN of what was changed.
    #[must_use]
    pub fn subject(mut self, urn: impl Into<String>) -> Self {
        self.subject = Some(urn.into());
        self
    }

    #[must_use]
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// The account whose log this belongs to, when the principal acts in none (a failed sign-in).
    #[must_use]
    pub fn account(mut self, account: AccountId) -> Self {
        self.account = Some(account);
        self
    }

    /// Who did it, when the log is another account's than the principal acts in: the number of the one is nobody's
    /// business in the other, so they stand there as the member that they are there.
    #[must_use]
    pub fn by(mut self, urn: impl Into<String>) -> Self {
        self.by = Some(urn.into());
        self
    }

    /// One detail.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        self.details.insert(name.to_owned(), cut(value));
        self
    }

    /// What changed, field by field: only the fields that differ are kept.
    #[must_use]
    pub fn changes(mut self, before: impl Serialize, after: impl Serialize) -> Self {
        let map = |value| match value {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let (before, after) = (map(serde_json::to_value(before)), map(serde_json::to_value(after)));
        let mut changes = Map::new();
        for name in before.keys().chain(after.keys().filter(|name| !before.contains_key(*name))) {
            let (old, new) = (before.get(name), after.get(name));
            if old != new {
                let side = |value: Option<&Value>| value.cloned().map_or(Value::Null, cut);
                changes.insert(name.clone(), json!({"before": side(old), "after": side(new)}));
            }
        }
        self.details.insert("changes".into(), Value::Object(changes));
        self
    }
}

fn cut(value: Value) -> Value {
    match value {
        Value::String(text) if text.len() > TEXT_MAX => {
            let mut end = TEXT_MAX;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            Value::String(format!("{}… ({} bytes)", text.get(..end).unwrap_or_default(), text.len()))
        }
        Value::Array(items) => Value::Array(items.into_iter().map(cut).collect()),
        Value::Object(fields) => Value::Object(fields.into_iter().map(|(name, value)| (name, cut(value))).collect()),
        other => other,
    }
}

/// A record as stored.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub id: String,
    /// Position in the chain; one chain for the whole appliance.
    pub seq: i64,
    #[schema(value_type = String, format = DateTime)]
    pub time: Time,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub account_id: Option<AccountId>,
    pub principal_urn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_urn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    pub result: String,
    #[schema(value_type = Object)]
    pub details: Value,
    /// SHA-256 of the record before, hexadecimal.
    pub prev_hash: String,
    pub hash: String,
    /// The exact text of `details` that the hash covers.
    #[serde(skip)]
    pub(super) details_text: String,
    #[serde(skip)]
    pub(super) prev_hash_bytes: Vec<u8>,
    #[serde(skip)]
    pub(super) hash_bytes: Vec<u8>,
}
