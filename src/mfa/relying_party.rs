//! The relying party of WebAuthn (level 3): what authenticators are asked, and whether what they answer is right.
//!
//! Pure: no table and no clock; how long a question may be answered, and by whom, is for [`super::passkeys`]. What comes in
//! here was sent by strangers: whatever it is, it is right or refused, and never a panic (HOSTILE A14, A15).
//!
//! Decisions:
//! - Whoever uses a passkey is verified by their device (PIN, finger, face), as a second factor after a password too: the
//!   library's passkeys are made so, and a security key that was found would otherwise be as good as its owner.
//! - Attestations are neither asked for nor read. Which maker a device is from decides nothing here, and what is not read
//!   cannot be attacked: certificates and statements of seven formats, from strangers.
//! - A signature counts once, by the counter of the authenticator where it has one; one that goes back is refused.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};
use serde_cbor_2::Value as Cbor;
use serde_json::{Value, json};
use url::{Host, Url};
use uuid::Uuid;
use webauthn_rs::prelude::{
    AuthenticationResult, DiscoverableAuthentication, Passkey, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, Webauthn, WebauthnBuilder, WebauthnError,
};

use crate::error::{Error, Result};

/// How long browsers wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(120);
/// What an answer is at most; those of real devices stay under 4 KiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Of a credential's id (WebAuthn, 4).
const CREDENTIAL_ID_BYTES_MAX: usize = 1023;

/// Why an answer is refused; for the audit log, which says it precisely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Malformed,
    /// An answer to another kind of question.
    WrongCeremony,
    WrongChallenge,
    /// Of another site, or out of a frame.
    WrongOrigin,
    WrongRpId,
    NotPresent,
    /// The device did not check who uses it.
    NotVerified,
    /// A key that is not known, or somebody else's.
    UnknownPasskey,
    WrongSignature,
    /// Whether the key can be copied by its maker is not as it was.
    BackupChanged,
    /// The counter of the authenticator did not rise: there may be two of it.
    CounterRegressed,
    /// A kind of key that was not asked for.
    Unsupported,
}

impl Refusal {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongCeremony => "wrong-ceremony",
            Self::WrongChallenge => "wrong-challenge",
            Self::WrongOrigin => "wrong-origin",
            Self::WrongRpId => "wrong-rp-id",
            Self::NotPresent => "not-present",
            Self::NotVerified => "not-verified",
            Self::UnknownPasskey => "unknown-passkey",
            Self::WrongSignature => "wrong-signature",
            Self::BackupChanged => "backup-changed",
            Self::CounterRegressed => "counter-regressed",
            Self::Unsupported => "unsupported",
        }
    }
}

impl From<WebauthnError> for Refusal {
    fn from(error: WebauthnError) -> Self {
        match error {
            WebauthnError::InvalidClientDataType => Self::WrongCeremony,
            WebauthnError::MismatchedChallenge => Self::WrongChallenge,
            WebauthnError::InvalidRPOrigin | WebauthnError::CredentialCrossOrigin => Self::WrongOrigin,
            WebauthnError::InvalidRPIDHash => Self::WrongRpId,
            WebauthnError::UserNotPresent => Self::NotPresent,
            WebauthnError::UserNotVerified => Self::NotVerified,
            WebauthnError::CredentialNotFound => Self::UnknownPasskey,
            WebauthnError::AuthenticationFailure | WebauthnError::SignatureInvalid => Self::WrongSignature,
            WebauthnError::CredentialBackupEligibilityInconsistent | WebauthnError::CredentialMayNotBeHardwareBound => {
                Self::BackupChanged
            }
            WebauthnError::CredentialPossibleCompromise => Self::CounterRegressed,
            WebauthnError::CredentialAlteredAlgFromRequest
            | WebauthnError::COSEKeyInvalidAlgorithm
            | WebauthnError::COSEKeyInvalidType
            | WebauthnError::COSEKeyEDUnsupported => Self::Unsupported,
            _ => Self::Malformed,
        }
    }
}

/// This console, as authenticators know it.
pub struct RelyingParty {
    webauthn: Webauthn,
    id: String,
}

impl RelyingParty {
    /// By the address of the console ([`crate::notifications::base_url`]), never by what a request says; else why passkeys
    /// cannot be used, as a sentence that says what to do.
    pub fn of(base_url: Option<&str>) -> Result<Self, &'static str> {
        let Some(url) = base_url.and_then(|url| Url::parse(url).ok()) else {
            return Err(
                "Passkeys are made for one address, and that of the console is not set. The owner of the appliance sets it under Settings.",
            );
        };
        let Some(Host::Domain(host)) = url.host() else {
            return Err(
                "Passkeys are made for a name, and the address of the console is a number. The owner of the appliance sets another one under Settings.",
            );
        };
        if url.scheme() != "https" && host != "localhost" {
            return Err(
                "Browsers use passkeys over https only, and the address of the console begins with http. The owner of the appliance sets another one under Settings.",
            );
        }
        let webauthn = WebauthnBuilder::new(host, &url)
            .and_then(|builder| builder.rp_name("Bailiwick").timeout(TIMEOUT).build())
            .map_err(|_| "Passkeys cannot be made for the address of the console. The owner of the appliance sets another one under Settings.")?;
        Ok(Self { webauthn, id: host.to_owned() })
    }

    /// The host name that passkeys are bound to.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Asks for a new passkey: `PublicKeyCredentialCreationOptionsJSON`, and what has to be kept for the answer. An
    /// authenticator that holds one of `known` makes no other.
    pub fn ask_registration(
        &self,
        user: Uuid,
        email: &str,
        name: &str,
        known: Vec<Vec<u8>>,
    ) -> Result<(Value, PasskeyRegistration)> {
        let name = if name.is_empty() { email } else { name };
        let (asked, state) =
            self.webauthn.start_passkey_registration(user, email, name, Some(known)).map_err(not_asked)?;
        let mut options = public_key(&asked)?;
        // Kept by the authenticator if it has room, so that it can be used without a user name. The library would rather have
        // it not kept, and checks nothing about it; a security key that is full still serves as a second factor.
        if let Some(selection) = options.get_mut("authenticatorSelection").and_then(Value::as_object_mut) {
            selection.insert("residentKey".into(), json!("preferred"));
        }
        Ok((options, state))
    }

    /// The passkey that was made, from `PublicKeyCredential.toJSON()`.
    pub fn registration(&self, state: &PasskeyRegistration, answer: &str) -> Result<Passkey, Refusal> {
        let mut answer: RegisterPublicKeyCredential = read(answer)?;
        answer.response.attestation_object = without_attestation(&answer.response.attestation_object)?;
        answer.extensions = Default::default();
        let passkey = self.webauthn.finish_passkey_registration(&answer, state)?;
        if !(1..=CREDENTIAL_ID_BYTES_MAX).contains(&passkey.cred_id().len()) {
            return Err(Refusal::Malformed);
        }
        Ok(passkey)
    }

    /// Asks for a signature with one of these passkeys, or with any that the authenticator has for this console:
    /// `PublicKeyCredentialRequestOptionsJSON`, and what has to be kept for the answer.
    ///
    /// Why no list of passkeys is kept: the answer is compared with what holds when it comes, and not with a key that was
    /// removed or a counter that has risen since.
    pub fn ask_assertion(&self, allowed: &[Vec<u8>]) -> Result<(Value, DiscoverableAuthentication)> {
        let (asked, state) = self.webauthn.start_discoverable_authentication().map_err(not_asked)?;
        let mut options = public_key(&asked)?;
        if let Some(options) = options.as_object_mut() {
            let allowed =
                allowed.iter().map(|id| json!({"type": "public-key", "id": URL_SAFE_NO_PAD.encode(id)})).collect();
            options.insert("allowCredentials".into(), Value::Array(allowed));
            options.remove("extensions");
        }
        Ok((options, state))
    }

    /// What was signed, before anything of it is believed.
    pub fn read_assertion(answer: &str) -> Result<PublicKeyCredential, Refusal> {
        read(answer)
    }

    /// Whether it was signed by this passkey, just now, for this console.
    pub fn assertion(
        &self,
        state: DiscoverableAuthentication,
        answer: &PublicKeyCredential,
        passkey: &Passkey,
    ) -> Result<AuthenticationResult, Refusal> {
        let result = self.webauthn.finish_discoverable_authentication_v2(answer, state, passkey)?;
        // The library looks at this when a passkey is made, and not when it is used.
        let client: Value =
            serde_json::from_slice(&answer.response.client_data_json).map_err(|_| Refusal::Malformed)?;
        if client.get("crossOrigin").and_then(Value::as_bool) == Some(true) {
            return Err(Refusal::WrongOrigin);
        }
        if result.user_verified() { Ok(result) } else { Err(Refusal::NotVerified) }
    }
}

/// Only its own state and randomness can make the library fail here.
fn not_asked(error: WebauthnError) -> Error {
    Error::caused("an authenticator could not be asked", error)
}

/// The part of the library's question that browsers take.
fn public_key(asked: &impl Serialize) -> Result<Value> {
    let mut asked = serde_json::to_value(asked).map_err(|e| Error::caused("a question could not be written", e))?;
    asked.get_mut("publicKey").map(Value::take).ok_or_else(|| Error::internal("a question has no public key"))
}

fn read<T: DeserializeOwned>(answer: &str) -> Result<T, Refusal> {
    if answer.len() > ANSWER_BYTES_MAX {
        return Err(Refusal::Malformed);
    }
    serde_json::from_str(answer).map_err(|_| Refusal::Malformed)
}

/// The same attestation object with the statement `none` (WebAuthn, 8.7): what a browser makes of it when none is asked for,
/// and some authenticators send one all the same.
fn without_attestation(object: &[u8]) -> Result<Vec<u8>, Refusal> {
    let text = |text: &str| Cbor::Text(text.to_owned());
    let Ok(Cbor::Map(mut object)) = serde_cbor_2::from_slice(object) else { return Err(Refusal::Malformed) };
    let Some(auth_data @ Cbor::Bytes(_)) = object.remove(&text("authData")) else { return Err(Refusal::Malformed) };
    let plain = BTreeMap::from([
        (text("fmt"), text("none")),
        (text("attStmt"), Cbor::Map(BTreeMap::new())),
        (text("authData"), auth_data),
    ]);
    serde_cbor_2::to_vec(&Cbor::Map(plain)).map_err(|_| Refusal::Malformed)
}
