//! E-mail addresses: what one looks like, and when two of them are the same.
//!
//! Users sign in with them and contacts are nothing else, so the rule stands below both. It sends nothing and knows no
//! table. Whether an address exists only a mail can tell.

use lettre::Address;
use unicode_normalization::UnicodeNormalization as _;

use crate::error::{Error, Result};

const LENGTH_MAX: usize = 254;

/// The form in which e-mail addresses are compared: NFKC, lower-cased. Two that fold to the same are one.
pub fn fold(email: &str) -> String {
    email.trim().nfkc().flat_map(char::to_lowercase).collect()
}

/// Control characters, and those that turn the direction of text around: what a reader does not see.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// An address that mail can be sent to or from, at most 254 characters (RFC 5321 §4.5.3.1). The one rule for all of them.
pub fn parse(text: &str) -> Option<Address> {
    // A quoted local part may hold anything (RFC 5321 §4.1.2); nobody has one, and it is where injection hides.
    let is_plain = |c: char| !c.is_whitespace() && !is_hidden(c) && !"<>()[],;:\\\"".contains(c);
    let address = Some(text).filter(|text| text.len() <= LENGTH_MAX && text.chars().all(is_plain))?;
    address.parse::<Address>().ok().filter(|address| {
        // `root@localhost` is one; `ida@` and `@acme` parse, and are none.
        let is_label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
        (1..=64).contains(&address.user().len()) && address.domain().split('.').all(is_label)
    })
}

/// [`parse`] for a field; answers the address trimmed. What no mail program would take is refused where it is typed, or the
/// first mail to it would be: after a password was changed, for example.
pub fn check(field: &str, email: &str) -> Result<String> {
    let email = email.trim();
    match parse(email) {
        Some(_) => Ok(email.to_owned()),
        None => Err(Error::field(field, "Enter a complete address, such as name@example.org.")),
    }
}
