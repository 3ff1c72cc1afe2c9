//! Passwords: which are taken, and how they are hashed and compared.
//!
//! Owns the argon2id parameters (OWASP: 19 MiB, 2 passes, 1 lane) and the permits that bound the work: each hash
//! takes 19 MiB and some 50 ms of a core, so an unbounded flood would take all memory (HOSTILE H03). It must never
//! truncate a password, and never let an unreadable stored hash count as a match.
//!
//! Normalisation is NFKC (NIST SP 800-63B-4 §3.1.1.2), for new and for entered passwords alike, so that the same
//! characters typed on another system are the same password (HOSTILE A16).

use std::{sync::Arc, time::Duration};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, PasswordHash as Phc, Salt},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use unicode_normalization::UnicodeNormalization as _;
use zeroize::{Zeroize, Zeroizing};

use super::{model::fold_email, often_tried::is_often_tried, rules::PasswordRules};
use crate::{
    audit::Flood,
    clock::{MINUTE, SECOND, Time},
    error::{Error, Result},
    secret::{self, Secret},
};

/// Characters that a password has at most. No truncation: more is refused.
pub const LENGTH_MAX: usize = 256;
/// Entered passwords beyond this many bytes cannot match and are not even hashed.
const BYTES_MAX: usize = 4 * LENGTH_MAX;

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const OUTPUT_BYTES: usize = 32;
/// How much memory a stored hash may ask for: an edited row must not take the machine down.
const MEMORY_KIB_MAX: u32 = 65_536;
const PASSES_MAX: u32 = 10;

/// How long a request waits for a permit before it is told to come back.
const QUEUE_MAX: Duration = Duration::from_secs(1);

/// A stored hash: argon2id as a PHC string. Not printed, so that it cannot end in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub(super) String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// A password that keeps the rules, normalised.
#[derive(Debug, Clone)]
pub struct NewPassword(Secret<String>);

/// The bounded place where passwords are hashed; cheap to clone, one for the whole process.
#[derive(Clone)]
pub struct Passwords {
    permits: Arc<Semaphore>,
    guesses: Flood,
}

impl Default for Passwords {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { permits: Arc::new(Semaphore::new(cores * 2)), guesses: Flood::default() }
    }
}

/// How an entered password compares with a stored hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    Wrong,
    /// Right; the hash is to be replaced when its parameters are not today's.
    Right {
        replacement: Option<PasswordHash>,
    },
    /// The stored hash cannot be read: nobody can sign in with it.
    Unreadable,
}

impl Passwords {
    /// Refuses more than five questions for the present password of one user in 15 minutes: whoever found an open
    /// session must not find the password through it. In memory, because the session is needed as well.
    pub fn check_pace(&self, user_id: &str, now: Time) -> Result<()> {
        const WINDOW_US: i64 = 15 * MINUTE;
        match self.guesses.admit(user_id, 5, WINDOW_US, now) {
            Some(_) => Ok(()),
            None => Err(Error::TooManyRequests { retry_after_s: WINDOW_US.unsigned_abs() / SECOND.unsigned_abs() }),
        }
    }

    /// Hashes a new password.
    pub async fn hash(&self, password: NewPassword) -> Result<PasswordHash> {
        self.run(move || derive_new(password.0.expose())).await?
    }

    /// Compares. Without a stored hash the same work is done and the answer is [`Comparison::Wrong`], so that time
    /// does not tell whether a user exists (HOSTILE A17).
    pub async fn compare(&self, entered: Secret<String>, stored: Option<PasswordHash>) -> Result<Comparison> {
        self.run(move || compare(&entered, stored.as_ref().map(|hash| hash.0.as_str()))).await?
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let busy = || Error::Unavailable {
            message: "Too many people are signing in at the moment. Try again in a few seconds.".into(),
            retry_after_s: 2,
        };
        let permit = tokio::time::timeout(QUEUE_MAX, self.permits.clone().acquire_owned())
            .await
            .map_err(|_| {
                metrics::counter!("bailiwick_password_queue_refused_total").increment(1);
                busy()
            })?
            .map_err(|_| busy())?;
        // The permit goes with the work: a client that hangs up does not free it early.
        let run = move |_permit: OwnedSemaphorePermit| work();
        tokio::task::spawn_blocking(move || run(permit))
            .await
            .map_err(|e| Error::caused("hashing a password ended early", e))
    }
}

impl NewPassword {
    /// [`Passwords::hash`] for the command line, which is alone on its thread.
    pub fn hash_blocking(&self) -> Result<PasswordHash> {
        derive_new(self.0.expose())
    }
}

fn normalise(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.nfkc().collect())
}

fn argon2(memory_kib: u32, passes: u32, lanes: u32) -> Result<Argon2<'static>> {
    let parameters = Params::new(memory_kib, passes, lanes, Some(OUTPUT_BYTES))
        .map_err(|e| Error::caused("the argon2 parameters are not valid", e))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters))
}

fn fill(argon2: &Argon2<'_>, password: &[u8], salt: &[u8], out: &mut [u8]) -> Result<()> {
    let blocks = argon2.params().block_count();
    // glibc gives an allocation back to the system at once only above 32 MiB (its largest M_MMAP_THRESHOLD); below it
    // would keep some 20 MiB in every thread's arena. What is reserved beyond the blocks is never touched.
    let mut memory: Vec<Block> = Vec::with_capacity(blocks.max(33 * 1024));
    memory.resize(blocks, Block::new());
    let filled = argon2.hash_password_into_with_memory(password, salt, out, memory.as_mut_slice());
    memory.iter_mut().for_each(Zeroize::zeroize);
    filled.map_err(|e| Error::caused("argon2 refused its input", e))
}

fn derive_new(password: &str) -> Result<PasswordHash> {
    let mut salt = [0_u8; 16];
    secret::fill_random(&mut salt);
    let argon2 = argon2(MEMORY_KIB, PASSES, LANES)?;
    let mut out = Zeroizing::new([0_u8; OUTPUT_BYTES]);
    fill(&argon2, password.as_bytes(), &salt, out.as_mut())?;
    let caused = |e| Error::caused("a password hash could not be written", e);
    let phc = Phc {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: argon2.params().try_into().map_err(caused)?,
        salt: Some(Salt::new(&salt).map_err(|e| Error::caused("a salt was refused", e))?),
        hash: Some(Output::new(out.as_ref()).map_err(|e| Error::caused("a hash was refused", e))?),
    };
    Ok(PasswordHash(phc.to_string()))
}

/// A stored hash, taken apart.
struct Stored {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    output: Vec<u8>,
}

fn read(stored: &str) -> Option<Stored> {
    let phc = Phc::new(stored).ok()?;
    let parameters = Params::try_from(&phc).ok()?;
    let salt = phc.salt.as_ref()?.as_ref().to_vec();
    let output = phc.hash.as_ref()?.as_bytes().to_vec();
    let is_ours = phc.algorithm == Algorithm::Argon2id.ident()
        && phc.version == Some(Version::V0x13.into())
        && output.len() == OUTPUT_BYTES
        && parameters.m_cost() <= MEMORY_KIB_MAX
        && parameters.t_cost() <= PASSES_MAX;
    is_ours.then(|| Stored {
        memory_kib: parameters.m_cost(),
        passes: parameters.t_cost(),
        lanes: parameters.p_cost(),
        salt,
        output,
    })
}

fn compare(entered: &Secret<String>, stored: Option<&str>) -> Result<Comparison> {
    // A password that is too long cannot be anybody's; hashing it would only be work for an attacker's sake. The work
    // is done on an empty one instead, so that time tells nothing.
    let is_possible = entered.expose().len() <= BYTES_MAX;
    let entered = if is_possible { normalise(entered.expose()) } else { Zeroizing::new(String::new()) };
    let known = stored.and_then(read);
    let Some(known) = known else {
        let argon2 = argon2(MEMORY_KIB, PASSES, LANES)?;
        let mut out = [0_u8; OUTPUT_BYTES];
        fill(&argon2, entered.as_bytes(), b"no such user 000", &mut out)?;
        return Ok(if stored.is_some() { Comparison::Unreadable } else { Comparison::Wrong });
    };
    let argon2 = argon2(known.memory_kib, known.passes, known.lanes)?;
    let mut out = Zeroizing::new([0_u8; OUTPUT_BYTES]);
    fill(&argon2, entered.as_bytes(), &known.salt, out.as_mut())?;
    if !is_possible || !secret::equal(out.as_ref(), &known.output) {
        return Ok(Comparison::Wrong);
    }
    let is_current = (known.memory_kib, known.passes, known.lanes) == (MEMORY_KIB, PASSES, LANES);
    let replacement = if is_current { None } else { Some(derive_new(&entered)?) };
    Ok(Comparison::Right { replacement })
}

/// Checks a new password against the rules: length, no control characters, nothing that everybody or anybody who
/// knows the user would try first. No rules of composition: they make passwords worse (NIST SP 800-63B-4).
///
/// `rules`: what the appliance asks for, for somebody without a second factor.
pub fn check_password(
    field: &str,
    password: &Secret<String>,
    email: &str,
    rules: PasswordRules,
) -> Result<NewPassword> {
    let refuse = |message: &str| Err(Error::field(field, message));
    if password.expose().len() > BYTES_MAX {
        return refuse("At most 256 characters.");
    }
    if password.expose().chars().any(char::is_control) {
        return refuse("Control characters are not allowed in a password.");
    }
    let text = normalise(password.expose());
    let length = text.chars().count();
    if length < rules.chars_min(false) {
        return refuse(&rules.hint(false));
    }
    if length > LENGTH_MAX {
        return refuse("At most 256 characters.");
    }
    let folded: Zeroizing<String> =
        Zeroizing::new(text.chars().flat_map(char::to_lowercase).filter(|c| !c.is_whitespace()).collect());
    if is_repetition(&folded) || is_often_tried(&folded) {
        return refuse("This is one of the passwords that are tried first. Choose another one.");
    }
    // What is left once the words that everybody knows are taken out must still be worth guessing.
    let email = fold_email(email);
    let local = email.split('@').next().unwrap_or_default();
    let mut rest: Zeroizing<String> = folded.clone();
    for word in [email.as_str(), local, "bailiwick", "password"] {
        if word.chars().count() >= 3 {
            rest = Zeroizing::new(rest.replace(word, ""));
        }
    }
    if rest.chars().count() < 8 && rest.len() < folded.len() {
        return refuse("Do not build it from your e-mail address or the name of this product.");
    }
    Ok(NewPassword(Secret::new(text.to_string())))
}

/// One short piece over and over: `aaaa…`, `abcabcabc…`.
fn is_repetition(text: &str) -> bool {
    let characters: Vec<char> = text.chars().collect();
    (1..=4).any(|unit| {
        let head = characters.get(..unit).unwrap_or_default();
        characters.chunks(unit).all(|piece| head.starts_with(piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(password: &str) -> Result<NewPassword> {
        check_password(
            "password",
            &Secret::new(password.to_owned()),
            "ida.marlow@halden.example",
            PasswordRules::default(),
        )
    }

    fn compare_with(entered: &str, stored: &PasswordHash) -> Comparison {
        compare(&Secret::new(entered.to_owned()), Some(&stored.0)).expect("compared")
    }

    #[test]
    fn the_rules_ask_for_length_and_nothing_else() {
        for fine in [
            "correct horse battery",
            "fünfzehn Zeichen!",
            "長いパスワードは覚えやすい文章です",
            " leading and trailing spaces ",
            "no digits needed here",
            &"ab cd ef ".repeat(28),
        ] {
            assert!(check(fine).is_ok(), "{fine}");
        }
        for bad in [
            "",
            "short",
            "fourteen chars",
            "aaaaaaaaaaaaaaaaaaaa",
            "abcabcabcabcabcabc",
            "PasswordPassword",
            "ida.marlow@halden.example",
            "ida.marlowida.marlow",
            "bailiwickbailiwick12",
            "a NUL \0 in the middle",
            "an escape \u{1b}[2J in it",
            &"x y".repeat(100),
            &"ab cd ef ".repeat(100_000),
        ] {
            assert!(matches!(check(bad), Err(Error::Invalid(_))), "{:?}", bad.get(..40).unwrap_or(bad));
        }
    }

    #[test]
    fn the_same_characters_composed_or_decomposed_are_the_same_password() {
        let composed = check("schöne grüße aus münchen").expect("fine").hash_blocking().expect("hashed");
        let decomposed = "scho\u{308}ne gru\u{308}ße aus mu\u{308}nchen";
        assert_eq!(compare_with(decomposed, &composed), Comparison::Right { replacement: None });
        assert_eq!(compare_with("schone gruße aus munchen", &composed), Comparison::Wrong);
    }

    #[test]
    fn nothing_is_cut_off() {
        let long = "0123456789 abcdefghijkl ".repeat(10);
        let stored = check(&long).expect("fine").hash_blocking().expect("hashed");
        assert_eq!(compare_with(&long, &stored), Comparison::Right { replacement: None });
        let last = long.len() - 1;
        assert_eq!(compare_with(&long[..last], &stored), Comparison::Wrong);
        assert_eq!(compare_with(&long[..72], &stored), Comparison::Wrong);
        assert_eq!(compare_with(&"x".repeat(1_000_000), &stored), Comparison::Wrong);
    }

    #[test]
    fn old_parameters_are_replaced_at_the_next_right_password() {
        let old = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8_192, 1, 1, Some(32)).expect("p"));
        let mut out = [0_u8; 32];
        fill(&old, b"an old but long password", b"0123456789abcdef", &mut out).expect("filled");
        let phc = Phc {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: old.params().try_into().expect("params"),
            salt: Some(Salt::new(b"0123456789abcdef").expect("salt")),
            hash: Some(Output::new(&out).expect("hash")),
        };
        let stored = PasswordHash(phc.to_string());
        assert_eq!(compare_with("a wrong one altogether", &stored), Comparison::Wrong);
        let Comparison::Right { replacement: Some(new) } = compare_with("an old but long password", &stored) else {
            panic!("no replacement");
        };
        assert!(new.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", new.0);
        assert_eq!(compare_with("an old but long password", &new), Comparison::Right { replacement: None });
    }

    #[test]
    fn a_damaged_hash_matches_nothing_and_harms_nobody() {
        for bad in [
            "",
            "x",
            "$argon2id$",
            "пароль",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$\u{e4}\u{f6}",
            "$argon2id$v=19$m=4294967295,t=4294967295,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW",
        ] {
            assert_eq!(
                compare_with("whatever was entered", &PasswordHash(bad.into())),
                Comparison::Unreadable,
                "{bad}"
            );
        }
        assert_eq!(compare(&Secret::new("whatever".into()), None).expect("compared"), Comparison::Wrong);
    }
}
