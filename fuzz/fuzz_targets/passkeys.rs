//! What strangers send as a passkey: whole answers, attestation objects, authenticator data and client data. Whatever they
//! are, the relying party takes or refuses them, and what it takes can be stored and read again.
//!
//! The first byte says which of them the rest is; what is not fuzzed is of an honest authenticator.
#![no_main]

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/fixtures/authenticator.rs"]
mod authenticator;

use std::sync::LazyLock;

use authenticator::{Authenticator, attestation_object, encoded};
use bailiwick::mfa::RelyingParty;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use webauthn_rs::prelude::{Passkey, Uuid};

const ORIGIN: &str = "https://console.example";

static RP: LazyLock<RelyingParty> = LazyLock::new(|| RelyingParty::of(Some(ORIGIN)).ok().expect("a relying party"));

fn register(authenticator: &mut Authenticator, alter: impl FnOnce(Value) -> String) -> Option<Passkey> {
    let (options, state) = RP.ask_registration(Uuid::nil(), "ida", "Ida", Vec::new()).expect("asked");
    let answer = alter(authenticator.create(&options, &[]));
    RP.registration(&state, &answer).ok()
}

fn with(mut answer: Value, name: &str, bytes: &[u8]) -> String {
    answer["response"][name] = encoded(bytes).into();
    answer.to_string()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let mut authenticator = Authenticator::at(ORIGIN);
    let text = || String::from_utf8_lossy(rest).into_owned();
    let made = match first % 8 {
        0 => register(&mut authenticator, |_| text()),
        1 => register(&mut authenticator, |answer| with(answer, "attestationObject", rest)),
        2 => register(&mut authenticator, |answer| {
            with(answer, "attestationObject", &attestation_object("none", &[0xa0], rest))
        }),
        3 => register(&mut authenticator, |answer| with(answer, "clientDataJSON", rest)),
        kind => {
            let passkey = register(&mut authenticator, |answer| answer.to_string()).expect("a passkey");
            let (mut options, state) = RP.ask_assertion(&[passkey.cred_id().to_vec()]).expect("asked");
            options["allowCredentials"] = Value::Array(Vec::new());
            let answer = authenticator.get(&options, &[]);
            let answer = match kind {
                4 => text(),
                5 => with(answer, "authenticatorData", rest),
                6 => with(answer, "clientDataJSON", rest),
                _ => with(answer, "signature", rest),
            };
            if let Ok(answer) = RelyingParty::read_assertion(&answer) {
                let _ = RP.assertion(state, &answer, &passkey);
            }
            None
        }
    };
    if let Some(passkey) = made {
        let stored = serde_json::to_string(&passkey).expect("written");
        assert_eq!(serde_json::from_str::<Passkey>(&stored).expect("read again").cred_id(), passkey.cred_id());
    }
});
