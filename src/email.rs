//! E-mail addresses: what one looks like, and when two of them are the same.
//!
//! Users sign in with them and contacts are nothing else, so the rule stands below both. It sends nothing and knows no
//! table. Whether an address exists only a mail can tell.

use unicode_normalization::UnicodeNormalization as _;

use crate::error::{Error, Result};

const LENGTH_MAX: usize = 254;

/// The form in which e-mail addresses are compared: NFKC, lower-cased. Two that fold to the same are one.
pub fn fold(email: &str) -> String {
    email.trim().nfkc().flat_map(char::to_lowercase).collect()
}

/// An address that mail can be sent to, at most 254 characters (RFC 5321 §4.5.3.1); answers it trimmed. What no mail program
/// would take is refused where it is typed, or the first mail to it would be: after a password was changed, for example.
pub fn check(field: &str, email: &str) -> Result<String> {
    let email = email.trim();
    // A quoted local part may hold anything (RFC 5321 §4.1.2); nobody has one, and it is where injection hides.
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !"<>()[],;:\\\"".contains(c);
    let is_fine = email.len() <= LENGTH_MAX
        && email.chars().all(is_plain)
        && email.parse::<lettre::Address>().is_ok_and(|address| {
            // `ida@` and `@acme` parse, and are none.
            (1..=64).contains(&address.user().len())
                && address
                    .domain()
                    .split('.')
                    .all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
        });
    if is_fine {
        Ok(email.to_owned())
    } else {
        Err(Error::field(field, "Enter a complete address, such as name@example.org."))
    }
}
