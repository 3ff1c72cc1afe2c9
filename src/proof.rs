//! What somebody proved about who they are, and what an account asks for: the vocabulary that sessions, accounts, roles and
//! the way in share, and the one rule that says whether the first is enough for the second.
//!
//! Pure: no table, no clock. Who may do what is another question ([`crate::principal`]).

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};

use crate::{
    clock::{MINUTE, Time},
    error::FieldError,
};

/// How long a proof is enough for what is dangerous.
pub const FRESH_US: i64 = 15 * MINUTE;
/// A proof that lies further in the future than this is of a clock that was set back, and worth nothing.
const CLOCK_STEP_MAX_US: i64 = 5 * MINUTE;

/// Whether a proof of this time is still enough for what is dangerous.
pub fn is_fresh(proved_at: Time, now: Time) -> bool {
    (-CLOCK_STEP_MAX_US..=FRESH_US).contains(&now.since(proved_at))
}

/// A kind of second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Factor {
    /// A code of an authenticator app (RFC 6238).
    Totp,
    /// A passkey or security key (WebAuthn).
    Passkey,
}

impl Factor {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Passkey => "passkey",
        }
    }

    /// By itself.
    pub fn shown(self) -> &'static str {
        match self {
            Self::Totp => "Authenticator app",
            Self::Passkey => "Passkey",
        }
    }

    /// In a sentence.
    pub fn title(self) -> &'static str {
        match self {
            Self::Totp => "authenticator app",
            Self::Passkey => "passkey",
        }
    }
}

/// How somebody said who they are, before any second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Password,
    /// A password that a directory checked.
    Directory,
    /// A passkey alone, which holds a factor and checks its user at once.
    Passkey,
    /// The link of the first start.
    SetUp,
    /// The link of an invitation.
    Invitation,
}

impl Method {
    const ALL: [Self; 5] = [Self::Password, Self::Directory, Self::Passkey, Self::SetUp, Self::Invitation];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Directory => "directory",
            Self::Passkey => "passkey",
            Self::SetUp => "set-up",
            Self::Invitation => "invitation",
        }
    }

    /// As people read it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Password => "Password",
            Self::Directory => "Password of a directory",
            Self::Passkey => "Passkey",
            Self::SetUp => "Set-up link",
            Self::Invitation => "Invitation",
        }
    }
}

/// What an account, or a role in it, asks of whoever comes in. Each includes the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum MfaRule {
    /// Nothing beyond what the user asks of themselves.
    #[default]
    Optional,
    /// Any second factor.
    Required,
    /// A passkey: nothing that can be typed into another site.
    PasskeyOnly,
}

impl MfaRule {
    pub const ALL: [Self; 3] = [Self::Optional, Self::Required, Self::PasskeyOnly];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Optional => "optional",
            Self::Required => "required",
            Self::PasskeyOnly => "passkey-only",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == text)
    }

    pub fn is_required(self) -> bool {
        self > Self::Optional
    }

    pub fn is_passkey_only(self) -> bool {
        self == Self::PasskeyOnly
    }

    /// The rule with what the API was given; absent parts stay as they are.
    pub fn changed(self, required: Option<bool>, passkey_only: Option<bool>) -> Result<Self, FieldError> {
        let is_required = required.unwrap_or(self.is_required());
        // Whoever asks for nothing any more does not ask for a passkey either.
        match passkey_only.unwrap_or(is_required && self.is_passkey_only()) {
            true if !is_required => {
                Err(FieldError::new("passkeyOnly", "Passkeys can be asked for where `mfaRequired` is true."))
            }
            true => Ok(Self::PasskeyOnly),
            false if is_required => Ok(Self::Required),
            false => Ok(Self::Optional),
        }
    }

    /// Whether a user has what it takes to meet it.
    pub fn is_met_by(self, factors: Factors) -> bool {
        match self {
            Self::Optional => true,
            Self::Required => factors.any(),
            Self::PasskeyOnly => factors.passkey,
        }
    }
}

/// A rule as the API writes it.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MfaAsked {
    /// A second factor has to be proved.
    mfa_required: bool,
    /// It has to be a passkey.
    passkey_only: bool,
}

impl MfaAsked {
    /// For a field that is flattened.
    pub fn write<S: serde::Serializer>(rule: &MfaRule, serializer: S) -> Result<S::Ok, S::Error> {
        Self { mfa_required: rule.is_required(), passkey_only: rule.is_passkey_only() }.serialize(serializer)
    }
}

/// The kinds of second factor that a user has enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Factors {
    pub totp: bool,
    pub passkey: bool,
    /// Their factors were reset: they come in nowhere before they have enrolled one again.
    pub must_enrol: bool,
}

impl Factors {
    pub fn any(self) -> bool {
        self.totp || self.passkey
    }
}

/// What was proved, by which means and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    pub method: Method,
    /// When they said who they are: what a session grows old from.
    pub at: Time,
    pub factor: Option<(Factor, Time)>,
}

impl Proof {
    pub fn new(method: Method, at: Time) -> Self {
        Self { method, at, factor: None }
    }

    /// The same with a factor proved.
    #[must_use]
    pub fn with(self, factor: Factor, at: Time) -> Self {
        Self { factor: Some((factor, at)), ..self }
    }
}

/// What has to come next on the way into an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: they are in.
    Enter,
    /// A factor that they have; by passkey only, if so.
    Factor { passkey_only: bool },
    /// They have to enrol a factor first; a passkey, if so.
    Enrol { passkey_only: bool },
}

/// The one rule of who gets into an account. A factor that somebody has is always asked for, whatever the account says: it
/// is theirs to be protected by. A new factor is enrolled only by whoever has none, or has proved one that they have, so
/// that a stolen password does not buy a factor of the thief's (HOSTILE A10, A11).
pub fn step(proof: &Proof, factors: Factors, rule: MfaRule) -> Step {
    let proved = proof.factor.map(|(factor, _)| factor);
    let needs_passkey = rule == MfaRule::PasskeyOnly && proved != Some(Factor::Passkey);
    if factors.any() && (proved.is_none() || needs_passkey && factors.passkey) {
        return Step::Factor { passkey_only: needs_passkey && factors.passkey };
    }
    if needs_passkey || proved.is_none() && (rule > MfaRule::Optional || factors.must_enrol) {
        return Step::Enrol { passkey_only: needs_passkey };
    }
    Step::Enter
}

macro_rules! stored_as_text {
    ($kind:ty, $all:expr) => {
        impl ToSql for $kind {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.as_str().into())
            }
        }

        impl FromSql for $kind {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let text = value.as_str()?;
                $all.into_iter().find(|one| one.as_str() == text).ok_or(FromSqlError::InvalidType)
            }
        }
    };
}

stored_as_text!(Factor, [Factor::Totp, Factor::Passkey]);
stored_as_text!(Method, Method::ALL);
stored_as_text!(MfaRule, MfaRule::ALL);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1);

    #[test]
    fn a_proof_is_fresh_for_fifteen_minutes_and_a_clock_that_is_set_back_does_not_lengthen_that() {
        for (age_us, expected) in [
            (0, true),
            (15 * MINUTE, true),
            (15 * MINUTE + 1, false),
            (-5 * MINUTE, true),
            (-5 * MINUTE - 1, false),
            (i64::MAX, false),
        ] {
            assert_eq!(is_fresh(NOW, NOW.plus(age_us)), expected, "{age_us}");
        }
    }

    fn proofs() -> [Proof; 3] {
        let password = Proof::new(Method::Password, NOW);
        [password, password.with(Factor::Totp, NOW), password.with(Factor::Passkey, NOW)]
    }

    fn all_factors() -> impl Iterator<Item = Factors> {
        let bools = [false, true];
        bools.into_iter().flat_map(move |totp| {
            bools
                .into_iter()
                .flat_map(move |passkey| bools.into_iter().map(move |must_enrol| Factors { totp, passkey, must_enrol }))
        })
    }

    #[test]
    fn nobody_enters_without_what_the_account_asks_for_or_what_they_have() {
        for proof in proofs() {
            for factors in all_factors() {
                for rule in MfaRule::ALL {
                    let proved = proof.factor.map(|(factor, _)| factor);
                    let enough = match rule {
                        MfaRule::Optional => proved.is_some() || !factors.any() && !factors.must_enrol,
                        MfaRule::Required => proved.is_some(),
                        MfaRule::PasskeyOnly => proved == Some(Factor::Passkey),
                    };
                    let next = step(&proof, factors, rule);
                    assert_eq!(next == Step::Enter, enough, "{proof:?} {factors:?} {rule:?}");
                    match next {
                        Step::Enter => {}
                        // Only what they have is asked for.
                        Step::Factor { passkey_only } => assert!(factors.any() && (!passkey_only || factors.passkey)),
                        // Whoever has a factor proves it before they get another one.
                        Step::Enrol { .. } => {
                            assert!(!factors.any() || proved.is_some(), "{proof:?} {factors:?} {rule:?}")
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_way_in_ends() {
        // Whatever is asked for, giving it leads in: nobody goes in circles.
        for factors in all_factors() {
            for rule in MfaRule::ALL {
                let (mut proof, mut factors) = (Proof::new(Method::Password, NOW), factors);
                let mut steps = 0;
                loop {
                    match step(&proof, factors, rule) {
                        Step::Enter => break,
                        Step::Factor { passkey_only } => {
                            let by_passkey = passkey_only || !factors.totp;
                            proof = proof.with(if by_passkey { Factor::Passkey } else { Factor::Totp }, NOW);
                        }
                        Step::Enrol { passkey_only } => {
                            factors = Factors {
                                passkey: passkey_only || factors.passkey,
                                totp: !passkey_only || factors.totp,
                                must_enrol: false,
                            };
                            proof = proof.with(if passkey_only { Factor::Passkey } else { Factor::Totp }, NOW);
                        }
                    }
                    steps += 1;
                    assert!(steps <= 2, "{factors:?} {rule:?}");
                }
            }
        }
    }
}
