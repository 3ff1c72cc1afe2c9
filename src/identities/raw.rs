//! Raw attributes as pages show them: what is long is cut, what is binary is folded away.
//!
//! Owns how much of a value is shown. It decides nothing about what is kept.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    connectors::{Attributes, Value},
    web::grouped,
};

/// Characters of one value on a page; the API has it whole.
const VALUE_SHOWN: usize = 2_000;

pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(VALUE_SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// One value of a raw attribute.
pub(super) struct Shown {
    pub(super) text: String,
    /// What a binary value is, in words; empty for text.
    pub(super) binary: String,
}

impl Shown {
    fn new(value: &Value) -> Self {
        match value {
            Value::Text(text) => Self { text: shortened(text), binary: String::new() },
            Value::Binary { base64 } => {
                let bytes = STANDARD.decode(base64).map_or(base64.len() * 3 / 4, |bytes| bytes.len());
                let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                Self { text: shortened(base64), binary: format!("binary, {} bytes", grouped(bytes)) }
            }
        }
    }
}

/// One raw attribute: the first values, and those that are folded away.
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) values: Vec<Shown>,
    pub(super) more: Vec<Shown>,
}

/// Values of one attribute that are shown without asking.
const VALUES_SHOWN: usize = 20;
/// Values of one attribute on a page at all.
const VALUES_MAX: usize = 500;

pub(super) fn attributes(raw: &Attributes) -> Vec<Attribute> {
    raw.iter()
        .map(|(name, values)| {
            let mut shown: Vec<Shown> = values.iter().take(VALUES_MAX).map(Shown::new).collect();
            let more = if shown.len() > VALUES_SHOWN { shown.split_off(VALUES_SHOWN) } else { Vec::new() };
            Attribute { name: name.to_string(), values: shown, more }
        })
        .collect()
}

pub(super) fn first_text(values: Option<&Vec<Value>>) -> String {
    match values.and_then(|values| values.first()) {
        Some(Value::Text(text)) => text.clone(),
        _ => String::new(),
    }
}
