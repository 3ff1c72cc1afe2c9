//! One-time codes (RFC 6238) as authenticator apps make them: SHA-1, six digits, thirty seconds, which is what every app
//! understands. Pure: no table, no clock.

use qrcodegen::{QrCode, QrCodeEcc};
use totp_rs::{Algorithm, Builder, Totp};
use unicode_normalization::UnicodeNormalization;

use crate::{
    clock::{SECOND, Time},
    error::{Error, Result},
    secret::{self, Secret},
};

/// Bytes of a shared secret (RFC 4226 section 4, R6: 160 bits).
const SECRET_BYTES: usize = 20;
const DIGITS: usize = 6;
const STEP_S: u64 = 30;
/// Steps before and after the present one whose codes count (RFC 6238 section 5.2: one for the delay and the clocks).
const SKEW: u64 = 1;
/// As apps show it above the address.
const ISSUER: &str = "Bailiwick";

/// A new shared secret.
pub(super) fn new_secret() -> Secret<Vec<u8>> {
    let mut bytes = vec![0; SECRET_BYTES];
    secret::fill_random(&mut bytes);
    Secret::new(bytes)
}

fn totp(secret: &Secret<Vec<u8>>, email: &str) -> Result<Totp> {
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_secret(secret.expose().clone())
        .with_step_duration(STEP_S)
        .with_skew(0)
        .with_issuer(Some(ISSUER))
        // A colon would part the address from something else in the URI's label.
        .with_account_name(email.replace(':', " "))
        .build()
        .map_err(|error| Error::caused("a one-time code could not be computed", error))
}

/// What somebody typed, as six ASCII digits: apps show codes with a space in the middle, and a Japanese keyboard types wide
/// digits. `None`: it cannot be a code, which tells nobody anything.
pub(super) fn normalised(typed: &str) -> Option<String> {
    // A pasted page is no code.
    let typed = typed.get(..64).unwrap_or(typed);
    let code: String = typed.nfkc().filter(|c| !c.is_whitespace() && *c != '-').collect();
    (code.len() == DIGITS && code.bytes().all(|b| b.is_ascii_digit())).then_some(code)
}

/// The time step of `now`.
fn step_at(now: Time) -> u64 {
    u64::try_from(now.0 / SECOND).unwrap_or(0) / STEP_S
}

/// The step that a code is of, if it is one that counts now and is newer than the last one that was accepted (RFC 6238
/// section 5.2: a code is accepted once; HOSTILE A06).
pub(super) fn accepted_step(secret: &Secret<Vec<u8>>, code: &str, last_step: u64, now: Time) -> Result<Option<u64>> {
    let (totp, present) = (totp(secret, "")?, step_at(now));
    let mut found = None;
    for step in present.saturating_sub(SKEW)..=present + SKEW {
        // Every step is computed, whatever was found: the time tells nothing.
        let is_it = totp.check(code, step * STEP_S).is_some();
        if is_it && step > last_step {
            found = found.or(Some(step));
        }
    }
    Ok(found)
}

/// The secret as it is typed into an app: base32 in groups of four.
pub(super) fn as_text(secret: &Secret<Vec<u8>>) -> Result<String> {
    let text = totp(secret, "")?.secret().to_base32();
    let groups: Vec<&str> = text.as_bytes().chunks(4).filter_map(|group| std::str::from_utf8(group).ok()).collect();
    Ok(groups.join(" "))
}

/// What an app reads from the QR code (the Key URI format).
pub(super) fn uri(secret: &Secret<Vec<u8>>, email: &str) -> Result<String> {
    totp(secret, email)?.to_url().map_err(|error| Error::caused("a QR code could not be made", error))
}

/// The modules of a QR code as the `d` of an SVG path, and the width of the square with its quiet zone (ISO/IEC 18004: four
/// modules).
pub(super) fn qr(text: &str) -> Result<(String, i32)> {
    use std::fmt::Write as _;
    const QUIET: i32 = 4;
    let code = QrCode::encode_text(text, QrCodeEcc::Medium)
        .map_err(|error| Error::caused("a QR code could not be made", error))?;
    let mut path = String::new();
    for y in 0..code.size() {
        for x in 0..code.size() {
            if code.get_module(x, y) {
                let _ = write!(path, "M{},{}h1v1h-1z", x + QUIET, y + QUIET);
            }
        }
    }
    Ok((path, code.size() + 2 * QUIET))
}

/// The code of a moment, as an app would show it.
#[cfg(test)]
pub(super) fn code_at(secret: &Secret<Vec<u8>>, now: Time) -> String {
    totp(secret, "").expect("a secret").generate(step_at(now) * STEP_S).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6238 appendix B, the last six of the eight digits.
    #[test]
    fn codes_are_those_of_the_standard() {
        let secret = Secret::new(b"12345678901234567890".to_vec());
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let now = Time(seconds * SECOND);
            assert_eq!(code_at(&secret, now), code);
            assert_eq!(accepted_step(&secret, code, 0, now).expect("computed"), Some(seconds as u64 / 30));
        }
    }

    #[test]
    fn one_step_before_and_after_counts_and_two_do_not() {
        let secret = new_secret();
        let now = Time(1_700_000_010 * SECOND);
        let step = 1_700_000_010 / 30;
        for (away, counts) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let code = code_at(&secret, now.plus(away * 30 * SECOND));
            let found = accepted_step(&secret, &code, 0, now).expect("computed");
            // Two codes of one secret are equal once in a million: then the step is another one.
            let expected = counts.then(|| (step + away) as u64);
            assert!(found == expected || !counts && found.is_some() && code == code_at(&secret, now), "{away}");
        }
        let before = code_at(&secret, now.plus(-30 * SECOND));
        let present = code_at(&secret, now);
        let last = accepted_step(&secret, &present, 0, now).expect("computed").expect("accepted");
        assert_eq!(accepted_step(&secret, &present, last, now).expect("computed"), None, "not twice");
        if before != code_at(&secret, now.plus(30 * SECOND)) {
            assert_eq!(accepted_step(&secret, &before, last, now).expect("computed"), None, "nor an older one");
        }
    }

    #[test]
    fn a_code_is_read_as_people_type_it() {
        for typed in [
            "123456",
            "123 456",
            " 123456\n",
            "12 34 56",
            "123-456",
            "\u{a0}123\u{2009}456",
            "１２３４５６",
            "1２3 45６",
        ] {
            assert_eq!(normalised(typed).as_deref(), Some("123456"), "{typed:?}");
        }
        for typed in ["", "12345", "1234567", "12345a", "+12345", "١٢٣٤٥٦", "12.3456", "123456123456", "0x1234"] {
            assert_eq!(normalised(typed), None, "{typed:?}");
        }
        assert_eq!(normalised(&"1".repeat(1_000_000)), None);
    }

    proptest! {
        #[test]
        fn whatever_is_typed_is_six_digits_or_nothing(typed in any::<String>()) {
            if let Some(code) = normalised(&typed) {
                prop_assert!(code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit()));
            }
        }
    }

    #[test]
    fn the_address_is_in_the_uri_and_nothing_can_be_added_by_it() {
        let uri = uri(&new_secret(), "eve:x@example.org&secret=AAAA#f").expect("a URI");
        let uri = url::Url::parse(&uri).expect("a URI");
        let secrets = uri.query_pairs().filter(|(name, _)| name == "secret").count();
        assert_eq!((uri.scheme(), secrets, uri.fragment()), ("otpauth", 1, None));
        let (path, width) = qr(uri.as_str()).expect("a QR code");
        assert!(path.len() > 1_000 && width > 30);
    }
}
