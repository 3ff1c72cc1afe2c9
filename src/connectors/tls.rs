//! TLS towards servers (directories, the mail server): who is trusted, and why a certificate is not.
//!
//! Trusted are the system's authorities, or only those of the settings' own `caPem`. A self-signed certificate that is
//! itself in `caPem` is trusted for its own names and time. There is no way to switch the check off.
//!
//! Owns the client configuration and the words for TLS errors. It must never accept a certificate that the check
//! refused: the recording verifier below remembers what was shown and delegates every decision.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use super::{
    Failure, FailureKind,
    ldap::{ber, errors::printable},
};

/// The words for one kind of server, which the sentences about its certificate are made of.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// With its article: `the LDAP server`.
    pub server: &'static str,
    /// Where its authority's certificate is pasted: `the directory's settings`.
    pub settings: &'static str,
    /// What to check when it does not speak TLS at all: a sentence.
    pub ports: &'static str,
    /// What to check when it hangs up instead of agreeing on TLS: a sentence.
    pub hung_up: &'static str,
}

/// What a certificate says about itself, for the probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateView {
    pub subject: String,
    pub issuer: String,
    /// RFC 3339, UTC.
    pub not_before: String,
    pub not_after: String,
    pub not_after_second: i64,
    pub is_self_signed: bool,
    /// DNS names and addresses it is for.
    pub names: Vec<String>,
    /// SHA-256 of the whole certificate, in hexadecimal digits.
    pub fingerprint: String,
}

/// The most bytes of a certificate that are looked at.
const CERTIFICATE_MAX: usize = 64 * 1024;

impl CertificateView {
    /// Reads a certificate that nobody has checked yet.
    pub fn read(der: &[u8]) -> Option<Self> {
        // The certificate comes from a stranger: its nesting is limited before a recursive parser sees it.
        if der.len() > CERTIFICATE_MAX || ber::check_tree(der, 32, 10_000).is_err() {
            return None;
        }
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let moment = |second: i64| {
            jiff::Timestamp::from_second(second)
                .map(|moment| moment.to_string())
                .unwrap_or_else(|_| "unknown".to_owned())
        };
        let validity = certificate.validity();
        let mut names = Vec::new();
        if let Ok(Some(extension)) = certificate.subject_alternative_name() {
            for name in extension.value.general_names.iter().take(50) {
                match name {
                    x509_parser::extensions::GeneralName::DNSName(name) => names.push(printable(name)),
                    x509_parser::extensions::GeneralName::IPAddress(bytes) => match bytes.len() {
                        4 => names.extend(<[u8; 4]>::try_from(*bytes).map(|b| std::net::Ipv4Addr::from(b).to_string())),
                        16 => {
                            names.extend(<[u8; 16]>::try_from(*bytes).map(|b| std::net::Ipv6Addr::from(b).to_string()))
                        }
                        _ => (),
                    },
                    _ => (),
                }
            }
        }
        Some(Self {
            subject: printable(&certificate.subject().to_string()),
            issuer: printable(&certificate.issuer().to_string()),
            not_before: moment(validity.not_before.timestamp()),
            not_after: moment(validity.not_after.timestamp()),
            not_after_second: validity.not_after.timestamp(),
            is_self_signed: certificate.subject() == certificate.issuer(),
            names,
            fingerprint: crate::secret::encode_hex(&crate::secret::sha256(der)),
        })
    }
}

/// Why a PEM text is no list of authorities, as a sentence for the form field.
pub fn check_ca_pem(pem: &str) -> Result<(), String> {
    read_ca_pem(pem).map(|_| ())
}

fn read_ca_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    if pem.contains("PRIVATE KEY-----") {
        return Err("This text holds a private key; paste only the certificate of the authority.".to_owned());
    }
    let mut certificates = Vec::new();
    for (at, certificate) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        let certificate = certificate.map_err(|_| format!("Certificate {} of the text is not valid PEM.", at + 1))?;
        if CertificateView::read(&certificate).is_none() || ParsedCertificate::try_from(&certificate).is_err() {
            return Err(format!("Certificate {} of the text can't be read as an X.509 certificate.", at + 1));
        }
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err("The text holds no certificate; it must start with -----BEGIN CERTIFICATE-----.".to_owned());
    }
    Ok(certificates)
}

/// The trust towards one directory or one mail server, made once and used for all connections to it.
#[derive(Debug, Clone)]
pub struct Trust {
    inner: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
    /// Certificates of `caPem`, each also trusted as a server's own.
    pinned: Arc<Vec<CertificateDer<'static>>>,
    is_own_ca: bool,
}

impl Trust {
    /// The authorities of `ca_pem`, or the system's when there is none.
    pub fn new(ca_pem: Option<&str>) -> Result<Self, Failure> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        let mut pinned = Vec::new();
        if let Some(pem) = ca_pem {
            pinned = read_ca_pem(pem).map_err(|reason| {
                Failure::new(FailureKind::InvalidSettings, reason, "Paste the authority's certificate in PEM form.")
            })?;
            roots.add_parsable_certificates(pinned.iter().cloned());
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        let inner = inner.map_err(|_| {
            Failure::new(
                FailureKind::CertificateUntrusted,
                "This machine has no list of trusted certificate authorities.",
                "Install the system's list (package ca-certificates), or paste the authority's certificate in the settings.",
            )
        })?;
        Ok(Self { inner, provider, pinned: Arc::new(pinned), is_own_ca: ca_pem.is_some() })
    }

    /// A client configuration and the place where the server's certificate is remembered.
    pub fn client_config(&self) -> Result<(Arc<ClientConfig>, Arc<Seen>), Failure> {
        let seen = Arc::new(Seen::default());
        let verifier = Recording { trust: self.clone(), seen: Arc::clone(&seen) };
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::new(FailureKind::Tls, format!("TLS can't be set up: {error}."), "Report this."))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok((Arc::new(config), seen))
    }
}

/// The certificate that a server showed, trusted or not.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Option<Vec<u8>>>);

impl Seen {
    pub fn view(&self) -> Option<CertificateView> {
        CertificateView::read(self.0.lock().unwrap_or_else(PoisonError::into_inner).as_deref()?)
    }
}

#[derive(Debug)]
struct Recording {
    trust: Trust,
    seen: Arc<Seen>,
}

impl ServerCertVerifier for Recording {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if end_entity.len() <= CERTIFICATE_MAX {
            *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        }
        let verdict = self.trust.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            // webpki refuses a certificate that is its own authority; an administrator who pasted exactly this one
            // means it. Its name and its time still have to be right.
            Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_)))
                if self.trust.pinned.iter().any(|pinned| pinned.as_ref() == end_entity.as_ref()) =>
            {
                let parsed = ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&parsed, server_name)?;
                check_time(end_entity, now)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trust.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trust.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.inner.supported_verify_schemes()
    }
}

fn check_time(der: &[u8], now: UnixTime) -> Result<(), rustls::Error> {
    let bad = || rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
    let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| bad())?;
    let now = i64::try_from(now.as_secs()).map_err(|_| bad())?;
    let validity = certificate.validity();
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    Ok(())
}

/// Turns a TLS error into a failure that says precisely what is wrong with which certificate.
pub fn failure(
    error: &std::io::Error,
    (server, host): (&str, &str),
    trust: &Trust,
    seen: &Seen,
    words: &Words,
) -> Failure {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(tls) = tls else {
        if error.kind() == std::io::ErrorKind::UnexpectedEof || error.kind() == std::io::ErrorKind::ConnectionReset {
            return Failure::new(
                FailureKind::Tls,
                format!("{server} closed the connection instead of agreeing on TLS."),
                words.hung_up,
            );
        }
        return Failure::new(
            FailureKind::Tls,
            format!("The TLS handshake with {server} failed: {error}."),
            format!("Check the TLS settings of {}.", words.server),
        );
    };
    let view = seen.view();
    let shown = view.as_ref().map_or_else(String::new, |view| {
        format!(
            " It is for {}, issued by {}, valid from {} to {}.",
            view.subject, view.issuer, view.not_before, view.not_after
        )
    });
    let rustls::Error::InvalidCertificate(reason) = tls else {
        let (message, next_step) = match tls {
            rustls::Error::InvalidMessage(_) => (format!("{server} does not answer with TLS."), words.ports.to_owned()),
            other => (
                format!("The TLS handshake with {server} failed: {}.", printable(&other.to_string())),
                format!(
                    "TLS 1.2 or 1.3 with a current cipher suite is needed; check the TLS settings of {}.",
                    words.server
                ),
            ),
        };
        return Failure::new(FailureKind::Tls, message, next_step);
    };
    let is_self_signed = view.as_ref().is_some_and(|view| view.is_self_signed);
    let (kind, why, next_step) = match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            FailureKind::CertificateExpired,
            match &view {
                Some(view) => format!("it expired on {}", view.not_after),
                None => "it, or a certificate of its chain, has expired".to_owned(),
            },
            format!("Renew the certificate of {}; also check the clock of this machine.", words.server),
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            FailureKind::CertificateExpired,
            match &view {
                Some(view) => format!("it is not valid before {}", view.not_before),
                None => "it is not valid yet".to_owned(),
            },
            "Check the clock of this machine and of the machine that issued the certificate.".to_owned(),
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = view.as_ref().map(|view| view.names.join(", ")).unwrap_or_default();
            let names =
                if names.is_empty() { "no name (it has no subject alternative name)".to_owned() } else { names };
            (
                FailureKind::CertificateName,
                format!("it is for {names}, not for {host}"),
                "Enter the server under a name that its certificate carries, or issue a certificate with this name."
                    .to_owned(),
            )
        }
        // webpki calls a self-signed certificate that may issue others an authority in the wrong place; for the
        // administrator it is a self-signed certificate that nobody vouches for.
        CertificateError::UnknownIssuer | CertificateError::Other(_)
            if is_self_signed || matches!(reason, CertificateError::UnknownIssuer) =>
        {
            let by = if trust.is_own_ca { "the authorities in the settings" } else { "this machine's authorities" };
            let why = if is_self_signed {
                format!("it is self-signed and not among {by}")
            } else {
                format!("its issuer is not among {by}")
            };
            (
                FailureKind::CertificateUntrusted,
                why,
                format!("Paste the certificate of the issuing authority (PEM) into {}.", words.settings),
            )
        }
        CertificateError::Revoked => (
            FailureKind::CertificateUntrusted,
            "it was revoked".to_owned(),
            format!("Replace the certificate of {}.", words.server),
        ),
        CertificateError::BadSignature => (
            FailureKind::CertificateUntrusted,
            "its signature does not fit the authority of this name".to_owned(),
            "Paste the current certificate of the issuing authority; an older one of the same name does not fit."
                .to_owned(),
        ),
        other => (
            FailureKind::CertificateUntrusted,
            printable(&other.to_string()),
            format!(
                "Replace the certificate of {} by one for TLS servers (SHA-256, RSA 2048 or P-256, version 3).",
                words.server
            ),
        ),
    };
    Failure::new(kind, format!("The certificate of {server} is not trusted: {why}.{shown}"), next_step)
}
