//! Values of attributes as they are kept: text or base64, none of them a secret, none of them endless.
//!
//! Owns what a secret is called, whatever the directory, and how much of an entry is kept. A value that is not kept leaves
//! its length and a hash, so that a change of it shows.

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::EntryView;
use crate::connectors::Value;

/// The longest text value that is kept raw.
const TEXT_MAX: usize = 64 * 1024;
/// The longest binary value that is kept raw: certificates and small pictures yes, photographs no.
const BINARY_MAX: usize = 64 * 1024;
/// The longest value of a field that the console shows in lists.
const FIELD_MAX: usize = 1024;
/// Raw values of one entry, all together.
const ENTRY_KEPT_MAX: usize = 512 * 1024;
/// Raw values of one attribute; members are not among them.
const VALUES_MAX: usize = 1000;

/// Attributes that hold secrets, in lower case. They are not asked for where a list is asked for, and dropped always.
const SECRETS: [&str; 24] = [
    "userpassword",
    "authpassword",
    "unicodepwd",
    "dbcspwd",
    "pwdhistory",
    "sambantpassword",
    "sambalmpassword",
    "sambapasswordhistory",
    "sambaclearttextpassword",
    "sambapreviouscleartextpassword",
    "sambacleartextpassword",
    "sambatrustpassword",
    "krbprincipalkey",
    "krbmkey",
    "krbpwdhistory",
    "krbextradata",
    "ipanthash",
    "ntpwdhistory",
    "lmpwdhistory",
    "supplementalcredentials",
    "userpkcs12",
    "usersmimeprivatekey",
    "oathsecret",
    "olcrootpw",
];

/// Whether an attribute (options allowed) holds secrets.
pub fn is_secret(name: &str) -> bool {
    let base = base_name(name);
    SECRETS.contains(&base.as_str())
        || ["password", "passwordhash", "secret", "privatekey"].iter().any(|end| base.ends_with(end))
}

/// An attribute's name without options, in lower case (RFC 4512 §2.5).
pub fn base_name(name: &str) -> String {
    name.split(';').next().unwrap_or_default().to_ascii_lowercase()
}

pub fn is_true(text: &str) -> bool {
    text.trim().eq_ignore_ascii_case("true")
}

/// The values of an attribute as they are kept, and how many more there were.
pub fn keep_all<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    is_binary: bool,
    kept_bytes: &mut usize,
    list: &mut Vec<Value>,
) {
    let mut more = 0_usize;
    for value in values {
        if list.len() < VALUES_MAX {
            list.push(keep(value, is_binary, kept_bytes));
        } else {
            more += 1;
        }
    }
    if more > 0 {
        list.push(Value::Text(format!("({more} more values, not kept)")));
    }
}

/// A raw value as it is kept: text, base64, or how much there was.
fn keep(value: &[u8], is_binary: bool, kept_bytes: &mut usize) -> Value {
    let text = if is_binary || value.contains(&0) { None } else { std::str::from_utf8(value).ok() };
    let max = if text.is_some() { TEXT_MAX } else { BINARY_MAX };
    if value.len() > max || kept_bytes.saturating_add(value.len()) > ENTRY_KEPT_MAX {
        // The hash makes a change of the value show.
        let hash = crate::secret::encode_hex(crate::secret::sha256(value).get(..8).unwrap_or_default());
        return Value::Text(format!("({} bytes, SHA-256 {hash}…, not kept)", value.len()));
    }
    *kept_bytes += value.len();
    match text {
        Some(text) => Value::Text(text.to_owned()),
        None => Value::Binary { base64: STANDARD.encode(value) },
    }
}

/// A field's text, cut at a character if it is too long to be meant.
pub fn short(text: &str) -> String {
    if text.len() <= FIELD_MAX {
        return text.to_owned();
    }
    let mut end = FIELD_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Names to ask for: none twice, and none of a secret.
pub fn without_repetition(names: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.into_iter().filter(|name| !is_secret(name) && seen.insert(name.to_ascii_lowercase())).collect()
}

/// An entry as it came, without secrets, for the mapping form.
pub fn raw(entry: &EntryView<'_>) -> Vec<(String, Vec<Value>)> {
    let mut kept_bytes = 0;
    entry
        .attributes()
        .filter_map(|(name, values)| std::str::from_utf8(name).ok().map(|name| (name, values)))
        .filter(|(name, _)| !is_secret(name))
        .map(|(name, values)| {
            let is_binary = name.to_ascii_lowercase().ends_with(";binary");
            let mut list = Vec::new();
            keep_all(values, is_binary, &mut kept_bytes, &mut list);
            (name.to_owned(), list)
        })
        .collect()
}
