//! The console's own certificate: given by the administrator, or self-signed on first start; exchanged while running.
//!
//! Owns `<data dir>/tls/`. TLS 1.2 and 1.3 with rustls' AEAD suites only. A new certificate that does not load leaves
//! the old one in use and says so in the log; a listener never stops for it.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{
    config::{Config, TlsFiles},
    secret,
};

/// Why TLS could not be set up; the message names the file and the fix.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path} does not hold a PEM certificate chain")]
    NoCertificate { path: PathBuf },
    #[error("{path} does not hold a PEM private key")]
    NoKey { path: PathBuf },
    #[error("the certificate {cert} and the key {key} do not belong together: {message}")]
    Mismatch { cert: PathBuf, key: PathBuf, message: String },
    #[error("a self-signed certificate could not be made: {0}")]
    Make(String),
}

/// The certificate in use, exchangeable.
pub(super) struct Certificate {
    files: TlsFiles,
    current: ArcSwap<CertifiedKey>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("cert", &self.files.cert).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl Certificate {
    /// Loads the configured certificate, or makes a self-signed one if none was ever made.
    pub(super) fn open(config: &Config) -> Result<Arc<Self>, TlsError> {
        let files = match &config.tls {
            Some(files) => files.clone(),
            None => self_signed(config)?,
        };
        let key = load(&files)?;
        Ok(Arc::new(Self { files, current: ArcSwap::from_pointee(key) }))
    }

    /// Loads the files again.
    pub(super) fn reload(&self) {
        match load(&self.files) {
            Ok(key) => {
                self.current.store(Arc::new(key));
                tracing::info!(cert = %self.files.cert.display(), "the TLS certificate was loaded again");
            }
            Err(error) => tracing::error!(%error, "the new TLS certificate was not taken; the old one stays in use"),
        }
    }

    /// When the files were last written; a change means reload.
    pub(super) fn modified(&self) -> Option<(SystemTime, SystemTime)> {
        let time = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
        Some((time(&self.files.cert)?, time(&self.files.key)?))
    }

    pub(super) fn fingerprint(&self) -> String {
        self.current.load().cert.first().map(|cert| fingerprint(cert)).unwrap_or_default()
    }

    /// The server's settings around this certificate.
    pub(super) fn server_config(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::Make(e.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// SHA-256 of the certificate in use in `data_dir`, as browsers show it; `None` when none was made.
pub fn certificate_fingerprint(data_dir: &Path) -> Option<String> {
    let path = data_dir.join("tls").join("cert.pem");
    CertificateDer::from_pem_file(path).ok().map(|cert| fingerprint(&cert))
}

fn fingerprint(cert: &CertificateDer<'_>) -> String {
    let hex = secret::encode_hex(&secret::sha256(cert)).to_uppercase();
    let pairs: Vec<&str> = hex.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok()).collect();
    pairs.join(":")
}

fn load(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let read = |path: &Path| fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(&files.cert)?)
        .collect::<Result<_, _>>()
        .ok()
        .filter(|chain: &Vec<_>| !chain.is_empty())
        .ok_or_else(|| TlsError::NoCertificate { path: files.cert.clone() })?;
    let key =
        PrivateKeyDer::from_pem_slice(&read(&files.key)?).map_err(|_| TlsError::NoKey { path: files.key.clone() })?;
    let mismatch = |message: String| TlsError::Mismatch { cert: files.cert.clone(), key: files.key.clone(), message };
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|e| mismatch(e.to_string()))
}

/// `<data dir>/tls/cert.pem` and `key.pem`, made once.
fn self_signed(config: &Config) -> Result<TlsFiles, TlsError> {
    let dir = config.data_dir.join("tls");
    let files = TlsFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    if files.cert.exists() && files.key.exists() {
        return Ok(files);
    }
    let write = |path: &Path, text: &str, mode| {
        let fail = |source| TlsError::Write { path: path.to_owned(), source };
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path).map_err(fail)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)
    };
    fs::create_dir_all(&dir).map_err(|source| TlsError::Write { path: dir.clone(), source })?;
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    for name in [host, config.base_url.as_ref().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()] {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    let make = |e: rcgen::Error| TlsError::Make(e.to_string());
    let key = rcgen::KeyPair::generate().map_err(make)?;
    let mut parameters = rcgen::CertificateParams::new(names).map_err(make)?;
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "Bailiwick (self-signed)");
    let cert = parameters.self_signed(&key).map_err(make)?;
    write(&files.key, &key.serialize_pem(), 0o600)?;
    write(&files.cert, &cert.pem(), 0o644)?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layer;

    #[test]
    fn the_first_start_makes_a_certificate_and_the_second_keeps_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let config =
            Layer { data_dir: Some(dir.path().to_owned()), ..Layer::default() }.finish().expect("a configuration");
        let first = Certificate::open(&config).expect("made").fingerprint();
        assert_eq!(first.len(), 32 * 3 - 1);
        assert_eq!(Certificate::open(&config).expect("loaded").fingerprint(), first);
        assert_eq!(certificate_fingerprint(dir.path()), Some(first));
    }

    #[test]
    fn a_broken_replacement_leaves_the_old_certificate_in_use() {
        let dir = tempfile::tempdir().expect("a folder");
        let config =
            Layer { data_dir: Some(dir.path().to_owned()), ..Layer::default() }.finish().expect("a configuration");
        let certificate = Certificate::open(&config).expect("made");
        let first = certificate.fingerprint();
        fs::write(dir.path().join("tls/cert.pem"), "not a certificate").expect("written");
        certificate.reload();
        assert_eq!(certificate.fingerprint(), first);
        fs::remove_file(dir.path().join("tls/cert.pem")).expect("removed");
        let second = Certificate::open(&config).expect("made anew").fingerprint();
        certificate.reload();
        assert_eq!(certificate.fingerprint(), second);
        assert_ne!(first, second);
    }
}
