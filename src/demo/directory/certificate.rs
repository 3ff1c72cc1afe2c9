//! The sample directory's certificate: an authority of its own, made at start, and a certificate for loopback.
//!
//! Owns both keys, in memory only. Why an authority rather than a self-signed certificate: the demo shows the way that
//! a real directory takes, where `caPem` holds the authority. The authority's key is dropped as soon as it has signed.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

const VALID_DAYS: i64 = 365;

/// What a listener needs for TLS, and what a client needs to trust it.
pub struct Certificate {
    /// The authority, PEM: goes into the directory's `caPem`.
    pub ca_pem: String,
    /// For `serve`: valid for `localhost`, 127.0.0.1 and ::1.
    pub server: Arc<ServerConfig>,
}

/// The certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("the sample directory's certificate could not be made")]
    Generation(#[from] rcgen::Error),
    #[error("the sample directory's TLS could not be set up")]
    Tls(#[from] rustls::Error),
}

impl Certificate {
    /// Makes an authority and a certificate, valid from the day before `now` for a year.
    pub fn new(now: Timestamp) -> Result<Self, CertificateError> {
        let day = |days: i64| {
            let at = now.checked_add(SignedDuration::from_hours(days.saturating_mul(24))).unwrap_or(now);
            let date = at.to_zoned(TimeZone::UTC).date();
            date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
        };
        let params = |names: Vec<String>, common_name: &str| -> Result<CertificateParams, rcgen::Error> {
            let mut params = CertificateParams::new(names)?;
            params.not_before = day(-1);
            params.not_after = day(VALID_DAYS);
            params.distinguished_name.push(DnType::OrganizationName, "Alder & Finch (sample)");
            params.distinguished_name.push(DnType::CommonName, common_name);
            Ok(params)
        };
        let mut authority = params(Vec::new(), "Alder & Finch sample authority")?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate()?;
        let ca_pem = authority.self_signed(&authority_key)?.pem();

        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        let mut leaf = params(names, "localhost")?;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let signed = leaf.signed_by(&key, &Issuer::from_params(&authority, &authority_key))?;

        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![signed.der().clone()], private)?;
        Ok(Self { ca_pem, server: Arc::new(server) })
    }
}
