//! From a server's name to an encrypted connection: resolving, connecting, StartTLS, TLS.
//!
//! Owns the raw socket until a connection takes it. It must never send credentials, never fall back to plain text when
//! encryption fails, and never wait without a limit.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    Timeouts,
    answer::{self, Limits, Violation},
    endpoint::Endpoint,
    errors::{self, Operation},
};
use crate::connectors::{
    Failure, FailureKind,
    tls::{self, CertificateView, Trust, Words},
};

/// How its TLS is spoken of.
const WORDS: Words = Words {
    server: "the LDAP server",
    settings: "the directory's settings",
    ports: "Check the port and the scheme: ldaps:// is usually port 636; for port 389 use ldap:// with StartTLS.",
    hung_up: "Check that this port speaks TLS (ldaps:// is usually port 636) and that the server has a certificate.",
};

/// A connection's bytes, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How the bytes of a connection are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// TLS from the first byte (`ldaps://`).
    Ldaps,
    /// StartTLS (RFC 4511 §4.14) before anything else.
    StartTls,
    /// Plain text, which the settings accepted explicitly.
    Plaintext,
}

/// How many addresses of a name are tried.
const ADDRESSES_MAX: usize = 6;
/// How many are looked at: the name of a domain has the addresses of all of its controllers.
const ADDRESSES_KNOWN_MAX: usize = 100;
/// The most bytes that an answer to StartTLS may have.
const START_TLS_ANSWER_MAX: usize = 4096;

/// The addresses of a server's name.
pub async fn resolve(endpoint: &Endpoint, timeouts: &Timeouts) -> Result<Vec<SocketAddr>, Failure> {
    let host = &endpoint.host;
    let failed = |why: String| {
        Failure::new(
            FailureKind::NameResolution,
            format!("The name {host} could not be resolved: {why}."),
            "Check the spelling and this machine's DNS settings (try: getent hosts NAME), or enter an IP address.",
        )
    };
    if let Ok(address) = host.parse::<std::net::IpAddr>() {
        return Ok(vec![SocketAddr::new(address, endpoint.port)]);
    }
    match timeout(timeouts.connect, tokio::net::lookup_host((host.as_str(), endpoint.port))).await {
        Err(_) => Err(failed(format!("no answer within {}", seconds(timeouts.connect)))),
        Ok(Err(error)) => Err(failed(errors::printable(&error.to_string()))),
        Ok(Ok(addresses)) => {
            let addresses: Vec<_> = addresses.take(ADDRESSES_KNOWN_MAX).collect();
            if addresses.is_empty() { Err(failed("it has no address".to_owned())) } else { Ok(addresses) }
        }
    }
}

/// The same addresses, with the one that is preferred before the others.
pub fn preferring(mut addresses: Vec<SocketAddr>, preferred: Option<IpAddr>) -> Vec<SocketAddr> {
    addresses.sort_by_key(|address| Some(address.ip()) != preferred);
    addresses
}

/// Connects to the first address that answers.
pub async fn connect(endpoint: &Endpoint, addresses: &[SocketAddr], timeouts: &Timeouts) -> Result<TcpStream, Failure> {
    let mut reasons = Vec::new();
    for address in addresses.iter().take(ADDRESSES_MAX) {
        match timeout(timeouts.connect, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests are small and each waits for its answer: Nagle's delay would only cost time.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => reasons.push(format!("{address}: {error}")),
            Err(_) => reasons.push(format!("{address}: no answer within {}", seconds(timeouts.connect))),
        }
    }
    Err(Failure::new(
        FailureKind::Unreachable,
        format!("{endpoint} can't be reached ({}).", reasons.join("; ")),
        "Check host and port, that the LDAP server is running, and that a firewall lets this machine through.",
    ))
}

/// Encrypts the connection as `protection` says. Answers the certificate that the server showed.
pub async fn protect(
    stream: TcpStream,
    endpoint: &Endpoint,
    protection: Protection,
    trust: Option<&Trust>,
    timeouts: &Timeouts,
) -> Result<(Box<dyn Stream>, Option<CertificateView>), (Failure, Option<CertificateView>)> {
    let mut stream = stream;
    match protection {
        Protection::Plaintext => return Ok((Box::new(stream), None)),
        Protection::StartTls => start_tls(&mut stream, endpoint, timeouts).await.map_err(|failure| (failure, None))?,
        Protection::Ldaps => (),
    }
    let server = endpoint.to_string();
    let (Some(trust), Some(name)) = (trust, endpoint.server_name()) else {
        let failure = Failure::new(
            FailureKind::InvalidSettings,
            format!("{server} has no valid host name."),
            "Correct the address.",
        );
        return Err((failure, None));
    };
    let (config, seen) = trust.client_config().map_err(|failure| (failure, None))?;
    match timeout(timeouts.tls, TlsConnector::from(Arc::clone(&config)).connect(name, stream)).await {
        Err(_) => {
            let failure = Failure::new(
                FailureKind::TimedOut,
                format!("{server} did not finish the TLS handshake within {}.", seconds(timeouts.tls)),
                WORDS.ports,
            );
            Err((failure, seen.view()))
        }
        Ok(Err(error)) => Err((tls::failure(&error, (&server, &endpoint.host), trust, &seen, &WORDS), seen.view())),
        Ok(Ok(stream)) => Ok((Box::new(stream), seen.view())),
    }
}

/// `ExtendedRequest` with message id 1 and the name 1.3.6.1.4.1.1466.20037.
const START_TLS_REQUEST: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16\x31.3.6.1.4.1.1466.20037";

/// Asks for StartTLS on the raw socket and reads exactly one bounded answer. Bytes that follow it came before the
/// encryption and could be anybody's: they end the connection.
async fn start_tls(stream: &mut TcpStream, endpoint: &Endpoint, timeouts: &Timeouts) -> Result<(), Failure> {
    let server = endpoint.to_string();
    match timeout(timeouts.tls, ask_start_tls(stream, &server)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::new(
            FailureKind::TimedOut,
            format!("{server} did not answer StartTLS within {}.", seconds(timeouts.tls)),
            "Check that an LDAP server listens on this port; for port 636 use ldaps:// without StartTLS.",
        )),
    }
}

async fn ask_start_tls(stream: &mut TcpStream, server: &str) -> Result<(), Failure> {
    let lost = |why: String| {
        Failure::new(
            FailureKind::StartTlsRefused,
            format!("{server} closed the connection instead of answering StartTLS ({why}); nothing was sent."),
            "Enable TLS on the LDAP server, or use an ldaps:// address.",
        )
    };
    let broken = |violation: Violation| violation.into_failure(server);
    stream.write_all(START_TLS_REQUEST).await.map_err(|error| lost(error.to_string()))?;
    let limits = Limits { message_bytes: START_TLS_ANSWER_MAX, depth: 8, elements: 50 };
    let mut buffer: Vec<u8> = Vec::with_capacity(START_TLS_ANSWER_MAX + 1);
    let length = loop {
        match answer::frame_length(&buffer, &limits).map_err(broken)? {
            Some(length) if buffer.len() >= length => break length,
            _ => (),
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) => return Err(lost("end of data".to_owned())),
            Ok(_) if buffer.len() > START_TLS_ANSWER_MAX => {
                return Err(broken(Violation::TooLong { announced: buffer.len(), limit: START_TLS_ANSWER_MAX }));
            }
            Ok(_) => (),
            Err(error) => return Err(lost(error.to_string())),
        }
    };
    if buffer.len() > length {
        return Err(broken(Violation::EarlyBytes));
    }
    let envelope = answer::check_answer(&buffer, &limits).map_err(broken)?;
    let is_extended = envelope.op == super::ber::tag::EXTENDED_RESPONSE;
    if envelope.id != 1 && !(envelope.id == 0 && is_extended) {
        return Err(broken(Violation::Unsolicited { id: envelope.id }));
    }
    if !is_extended {
        return Err(broken(Violation::WrongAnswer { id: envelope.id, op: envelope.op }));
    }
    let result = answer::result(envelope.body);
    // Id 0 is a notice of disconnection, which is a refusal whatever its code says.
    if result.code != 0 || envelope.id == 0 {
        return Err(errors::failure(Operation::StartTls, server, result));
    }
    let mut early = [0_u8; 1];
    match stream.try_read(&mut early) {
        Ok(0) => Err(lost("end of data".to_owned())),
        Ok(_) => Err(broken(Violation::EarlyBytes)),
        Err(_) => Ok(()),
    }
}

/// A duration for a sentence.
pub fn seconds(duration: std::time::Duration) -> String {
    if duration.as_millis() < 1000 {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{} s", duration.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preferred_address_is_tried_first_and_never_added() {
        let all: Vec<SocketAddr> =
            ["192.0.2.1:636", "192.0.2.2:636", "192.0.2.3:636"].map(|text| text.parse().expect("an address")).to_vec();
        let order = |preferred: Option<&str>| {
            let preferred = preferred.map(|text| text.parse().expect("an address"));
            preferring(all.clone(), preferred).into_iter().map(|address| address.ip().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(order(None), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        assert_eq!(order(Some("192.0.2.2")), ["192.0.2.2", "192.0.2.1", "192.0.2.3"]);
        assert_eq!(order(Some("198.51.100.9")), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    }
}
