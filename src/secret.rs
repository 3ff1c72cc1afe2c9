//! Secrets: values that cannot be printed, the master key that seals them, random tokens and their hashes.
//!
//! Owns the master key file and the envelope format of sealed columns. It must never log, serialise or compare a
//! secret in variable time. Sealing is AES-256-GCM with the row's place (`table:column:row`) as additional data, so
//! that a ciphertext copied to another row does not open (HOSTILE §4, the Authelia pattern).

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::{aead, digest, hkdf, hmac, rand as aws_rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::{Zeroize, Zeroizing};

/// A value that must not be shown: no `Debug` text, no `Display`, no `Serialize`; wiped when dropped.
#[derive(Clone, Default)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Each call is a place to read twice in a review.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> std::fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<'de, T: Zeroize + serde::Deserialize<'de>> serde::Deserialize<'de> for Secret<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

/// Why the master key could not be used. Every message names the fix.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the master key {path} is readable by others (mode {mode:o}); run: chmod 600 {path}")]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("the master key {path} is a symbolic link or not a plain file; put the file itself there")]
    NotAPlainFile { path: PathBuf },
    #[error("the master key {path} must hold 64 hexadecimal digits and nothing else; restore it from your backup")]
    Malformed { path: PathBuf },
    #[error(
        "the master key {path} is missing, but the database holds secrets sealed with it; restore it from your backup"
    )]
    Missing { path: PathBuf },
    #[error("this master key does not fit the database: it was sealed with another key; restore the right {path}")]
    Mismatch { path: PathBuf },
    #[error("the master key {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
}

/// A sealed value could not be opened: wrong key, wrong place, or altered.
#[derive(Debug, thiserror::Error)]
#[error("a sealed value ({place}) does not open with this master key")]
pub struct OpenError {
    place: String,
}

/// The master key, from which every other key is derived (HKDF-SHA-256, RFC 5869).
pub struct MasterKey {
    key: Zeroizing<[u8; 32]>,
    path: PathBuf,
}

const NONCE_BYTES: usize = 12;
const ENVELOPE_VERSION: u8 = 1;

struct KeyLength;
impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

impl MasterKey {
    /// The key given by systemd (`LoadCredential=master-key`), or `<data dir>/master.key`.
    pub fn path(data_dir: &Path, credentials_dir: Option<&Path>) -> PathBuf {
        match credentials_dir.map(|dir| dir.join("master-key")) {
            Some(path) if path.exists() => path,
            _ => data_dir.join("master.key"),
        }
    }

    /// Reads the key and checks that nobody else can (mode 0600 or 0400, a plain file).
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(KeyError::Missing { path: path.to_owned() });
            }
            Err(e) => return Err(io(e)),
        };
        if !meta.is_file() {
            return Err(KeyError::NotAPlainFile { path: path.to_owned() });
        }
        if meta.mode() & 0o077 != 0 {
            return Err(KeyError::TooOpen { path: path.to_owned(), mode: meta.mode() & 0o777 });
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(io)?);
        let mut key = Zeroizing::new([0_u8; 32]);
        decode_hex(text.trim(), key.as_mut()).ok_or_else(|| KeyError::Malformed { path: path.to_owned() })?;
        Ok(Self { key, path: path.to_owned() })
    }

    /// Makes a new random key file, mode 0600; never overwrites one that exists.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        let mut key = Zeroizing::new([0_u8; 32]);
        fill_random(key.as_mut());
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
        let text = Zeroizing::new(encode_hex(key.as_ref()));
        file.write_all(text.as_bytes()).map_err(io)?;
        file.write_all(b"\n").map_err(io)?;
        file.sync_all().map_err(io)?;
        Ok(Self { key, path: path.to_owned() })
    }

    pub fn file(&self) -> &Path {
        &self.path
    }

    fn derive(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0_u8; 32]);
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"bailiwick");
        let prk = salt.extract(self.key.as_ref());
        // Only an output longer than 255 hashes can fail, and 32 bytes is one.
        if prk.expand(&[purpose], KeyLength).and_then(|okm| okm.fill(out.as_mut())).is_err() {
            tracing::error!("HKDF refused a 32-byte output");
        }
        out
    }

    /// A keyed hash (HMAC-SHA-256) for one purpose, for example the audit log's head.
    pub fn mac(&self, purpose: &str, message: &[u8]) -> [u8; 32] {
        let key = self.derive(purpose.as_bytes());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), message);
        let mut out = [0_u8; 32];
        out.copy_from_slice(tag.as_ref());
        out
    }

    fn sealing_key(&self) -> Option<aead::LessSafeKey> {
        let key = self.derive(b"seal.v1");
        aead::UnboundKey::new(&aead::AES_256_GCM, key.as_ref()).ok().map(aead::LessSafeKey::new)
    }

    /// Seals `plain` for one place (`table:column:row`). Layout: version byte, 12-byte nonce, ciphertext and tag.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0_u8; NONCE_BYTES];
        fill_random(&mut nonce);
        let mut body = plain.to_vec();
        let sealed = self.sealing_key().map(|key| {
            key.seal_in_place_append_tag(
                aead::Nonce::assume_unique_for_key(nonce),
                aead::Aad::from(place.as_bytes()),
                &mut body,
            )
        });
        if !matches!(sealed, Some(Ok(()))) {
            // AES-GCM only fails for inputs of many gigabytes: answer something that never opens, never the plain text.
            body.zeroize();
            body.clear();
        }
        let mut out = Vec::with_capacity(1 + NONCE_BYTES + body.len());
        out.push(ENVELOPE_VERSION);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&body);
        out
    }

    /// Opens what [`seal`](Self::seal) made for the same place.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Secret<Vec<u8>>, OpenError> {
        let fail = || OpenError { place: place.to_owned() };
        let (version, rest) = sealed.split_first().ok_or_else(fail)?;
        if *version != ENVELOPE_VERSION || rest.len() < NONCE_BYTES {
            return Err(fail());
        }
        let (nonce, body) = rest.split_at(NONCE_BYTES);
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| fail())?;
        let mut buffer = Zeroizing::new(body.to_vec());
        let key = self.sealing_key().ok_or_else(fail)?;
        let plain = key.open_in_place(nonce, aead::Aad::from(place.as_bytes()), buffer.as_mut()).map_err(|_| fail())?;
        Ok(Secret::new(plain.to_vec()))
    }
}

/// Fills with random bytes from the operating system's generator.
pub fn fill_random(out: &mut [u8]) {
    if aws_rand::fill(out).is_err() {
        // Without randomness nothing here is safe: stop rather than go on with zeros.
        tracing::error!("the system's random number generator failed");
        std::process::abort();
    }
}

/// A token of 256 random bits as 43 URL-safe characters.
pub fn random_token() -> Secret<String> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    fill_random(bytes.as_mut());
    Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()))
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0_u8; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// SHA-256 of parts one after the other.
pub fn sha256_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0_u8; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// SHA-256 of what comes piece by piece.
pub struct Sha256(digest::Context);

impl Sha256 {
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> [u8; 32] {
        let mut out = [0_u8; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        out
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

/// Equal, in a time that does not depend on where they differ.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    use subtle::ConstantTimeEq;
    a.ct_eq(b).into()
}

/// Lower-case hexadecimal.
pub fn encode_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn decode_hex(text: &str, out: &mut [u8]) -> Option<()> {
    if text.len() != out.len() * 2 || !text.is_ascii() {
        return None;
    }
    for (slot, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
        *slot = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> (tempfile::TempDir, MasterKey) {
        let dir = tempfile::tempdir().expect("a folder");
        let key = MasterKey::create(&dir.path().join("master.key")).expect("a key");
        (dir, key)
    }

    #[test]
    fn a_sealed_value_opens_only_at_its_own_place() {
        let (_dir, key) = key();
        let sealed = key.seal("directory:read_credentials:1", b"hunter2");
        assert_eq!(key.open("directory:read_credentials:1", &sealed).expect("opens").expose(), b"hunter2");
        assert!(key.open("directory:read_credentials:2", &sealed).is_err());
        for i in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[i] ^= 1;
            assert!(key.open("directory:read_credentials:1", &altered).is_err(), "bit flip in byte {i}");
        }
        assert!(key.open("x", &[]).is_err());
        assert!(key.open("x", &sealed[..9]).is_err());
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, key) = key();
        assert_eq!(fs::metadata(key.file()).expect("meta").mode() & 0o777, 0o600);
        fs::set_permissions(key.file(), fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(MasterKey::load(key.file()), Err(KeyError::TooOpen { mode: 0o640, .. })));
        fs::set_permissions(key.file(), fs::Permissions::from_mode(0o400)).expect("chmod");
        assert!(MasterKey::load(key.file()).is_ok());
        assert!(matches!(MasterKey::create(key.file()), Err(KeyError::Io { .. })), "never overwritten");
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".to_owned())), "Secret(…)");
    }
}
