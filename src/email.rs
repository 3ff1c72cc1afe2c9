//! E-mail addresses: what one looks like, and when two of them are the same.
//!
//! Users sign in with them and contacts are nothing else, so the rule stands below both. It sends nothing and knows no
//! table. Whether an address exists only a mail can tell.

use unicode_normalization::UnicodeNormalization as _;

use crate::error::{Error, Result};

/// The form in which e-mail addresses are compared: NFKC, lower-cased. Two that fold to the same are one.
pub fn fold(email: &str) -> String {
    email.trim().nfkc().flat_map(char::to_lowercase).collect()
}

/// An address that mail could be sent to, at most 254 characters (RFC 5321 §4.5.3.1); answers it trimmed.
pub fn check(field: &str, email: &str) -> Result<String> {
    let email = email.trim();
    let is_fine = email.len() <= 254
        && !email
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"' | ',' | ';' | '\\'))
        && email.rsplit_once('@').is_some_and(|(local, domain)| {
            (1..=64).contains(&local.len())
                && !local.contains('@')
                && domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
        });
    if is_fine {
        Ok(email.to_owned())
    } else {
        Err(Error::field(field, "Enter a complete address, such as name@example.org."))
    }
}
