//! Recovery codes: for when every device is lost. Ten of 50 random bits, each worth one reset.
//!
//! Stored as HMAC-SHA-256 under a key that is not in the database: with 50 bits neither a guess nor a stolen file leads
//! anywhere, so no slow hash is needed.

use crate::secret::{self, MasterKey, Secret};

pub(super) const COUNT: usize = 10;
const CHARS: usize = 10;
/// Crockford's base32, in lower case: no `i`, `l`, `o` and `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A new set: `abcde-fghjk`.
pub(super) fn new_set() -> Vec<Secret<String>> {
    (0..COUNT).map(|_| Secret::new(new_code())).collect()
}

fn new_code() -> String {
    let mut bytes = [0; CHARS];
    secret::fill_random(&mut bytes);
    let mut code = String::with_capacity(CHARS + 1);
    for (at, byte) in bytes.iter().enumerate() {
        if at == CHARS / 2 {
            code.push('-');
        }
        code.push(char::from(*ALPHABET.get(usize::from(byte % 32)).unwrap_or(&b'0')));
    }
    code
}

/// What somebody typed, without case, spaces and hyphens, and with the letters that are taken for others as Crockford says.
/// `None`: it cannot be a code.
pub(super) fn normalised(typed: &str) -> Option<String> {
    if typed.len() > 64 {
        return None;
    }
    let plain = typed.chars().filter(|c| !c.is_whitespace() && *c != '-');
    let code: String = plain
        .map(|c| match c.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            other => other,
        })
        .collect();
    (code.len() == CHARS && code.bytes().all(|b| ALPHABET.contains(&b))).then_some(code)
}

/// What is stored of a code, normalised or as it was shown.
pub(super) fn hash(key: &MasterKey, user_id: &str, code: &str) -> [u8; 32] {
    let code: String = code.chars().filter(|c| *c != '-').collect();
    key.mac("recovery-code.v1", format!("{user_id}|{code}").as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_is_read_however_it_was_written_down() {
        for typed in ["abcde-fgh01", "ABCDE FGH01", " abcdefgh01 ", "abcde-fghO1", "abcde-fghol", "ABCDE-FGHoI"] {
            assert_eq!(normalised(typed).as_deref(), Some("abcdefgh01"), "{typed}");
        }
        for typed in ["", "abcde", "abcde-fgh012", "abcde-fgh0u", "ａｂｃｄｅｆｇｈ01"] {
            assert_eq!(normalised(typed), None, "{typed}");
        }
    }

    #[test]
    fn a_set_is_ten_different_codes_that_are_read_as_they_are_shown() {
        let set = new_set();
        let plain: std::collections::BTreeSet<_> =
            set.iter().map(|code| normalised(code.expose()).expect("a code")).collect();
        assert_eq!(plain.len(), COUNT);
        assert!(set.iter().all(|code| code.expose().len() == CHARS + 1));
    }

    proptest! {
        #[test]
        fn whatever_is_typed_is_a_code_or_nothing(typed in any::<String>()) {
            if let Some(code) = normalised(&typed) {
                prop_assert_eq!(normalised(&code), Some(code));
            }
        }
    }
}
