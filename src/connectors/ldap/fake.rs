//! Tests only: LDAP servers that answer exactly what a test wants, right or wrong, over plain text or TLS.
//!
//! Every byte that a server receives outside of TLS is recorded, so that a test can tell that no password left in
//! clear.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    answer::{self, Limits},
    ber::{Elements, tag},
};

pub const PASSWORD: &str = "correct-horse-battery-staple";
pub const BIND_DN: &str = "cn=reader,dc=x";

pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=127 => out.push(u8::try_from(length).expect("small")),
        length => {
            out.push(0x84);
            out.extend_from_slice(&u32::try_from(length).expect("fits").to_be_bytes());
        }
    }
    out.extend_from_slice(content);
    out
}

pub fn integer(value: u32) -> Vec<u8> {
    element(tag::INTEGER, &value.to_be_bytes())
}

pub fn message(id: u32, op: &[u8]) -> Vec<u8> {
    element(tag::SEQUENCE, &[integer(id), op.to_vec()].concat())
}

pub fn result_body(code: u8, diagnostic: &str) -> Vec<u8> {
    [
        element(tag::ENUMERATED, &[code]),
        element(tag::OCTET_STRING, b""),
        element(tag::OCTET_STRING, diagnostic.as_bytes()),
    ]
    .concat()
}

pub fn result(id: u32, op: u8, code: u8, diagnostic: &str) -> Vec<u8> {
    message(id, &element(op, &result_body(code, diagnostic)))
}

/// A `SearchResultDone` with a paging control.
pub fn page_end(id: u32, cookie: &[u8]) -> Vec<u8> {
    let value = element(tag::SEQUENCE, &[integer(0), element(tag::OCTET_STRING, cookie)].concat());
    let control = element(
        tag::SEQUENCE,
        &[element(tag::OCTET_STRING, super::PAGED_RESULTS.as_bytes()), element(tag::OCTET_STRING, &value)].concat(),
    );
    let body = [integer(id), element(tag::SEARCH_DONE, &result_body(0, "")), element(tag::CONTROLS, &control)].concat();
    element(tag::SEQUENCE, &body)
}

pub fn entry(id: u32, dn: &str, attributes: &[(&str, &[&[u8]])]) -> Vec<u8> {
    let list: Vec<u8> = attributes
        .iter()
        .flat_map(|(name, values)| {
            let values: Vec<u8> = values.iter().flat_map(|value| element(tag::OCTET_STRING, value)).collect();
            element(tag::SEQUENCE, &[element(tag::OCTET_STRING, name.as_bytes()), element(tag::SET, &values)].concat())
        })
        .collect();
    let body = [element(tag::OCTET_STRING, dn.as_bytes()), element(tag::SEQUENCE, &list)].concat();
    message(id, &element(tag::SEARCH_ENTRY, &body))
}

/// A user with a UUID made from `number`.
pub fn user(id: u32, number: u32) -> Vec<u8> {
    let uuid = format!("00000000-0000-0000-0000-{number:012x}");
    let uid = format!("u{number}");
    entry(id, &format!("uid={uid},dc=x"), &[("entryUUID", &[uuid.as_bytes()]), ("uid", &[uid.as_bytes()])])
}

/// A request as the fake server sees it.
#[derive(Debug, Clone)]
pub struct Request {
    pub id: u32,
    pub op: u8,
    pub base: String,
    /// The filter asks for people (and so this is not one of the side questions).
    pub is_for_users: bool,
    /// The filter asks for what has other entries below it.
    pub is_for_branches: bool,
    /// The cookie of the paging or sync control, if there is one.
    pub cookie: Option<Vec<u8>>,
    operation: Vec<u8>,
}

impl Request {
    /// Whether the operation, with its filter and its attributes, has these letters somewhere.
    pub fn names(&self, needle: &str) -> bool {
        self.operation.windows(needle.len()).any(|window| window == needle.as_bytes())
    }
}

/// What the fake server does next.
pub enum Step {
    Send(Vec<u8>),
    Close,
    /// Keeps the connection open and says nothing.
    Silence,
}

/// What was received in clear, on all connections.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    pub fn has(&self, needle: &str) -> bool {
        self.0.lock().expect("lock").windows(needle.len()).any(|window| window == needle.as_bytes())
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().expect("lock").is_empty()
    }
}

/// A server on loopback that gives every raw connection to `talk`.
pub async fn listen<F, T>(talk: F) -> SocketAddr
where
    F: Fn(TcpStream) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream));
        }
    });
    address
}

/// A server that binds everybody, answers side questions emptily, and leaves the rest to `answer`.
pub async fn serve<A>(answer: A) -> (SocketAddr, Heard)
where
    A: Fn(&Request) -> Option<Vec<Step>> + Clone + Send + Sync + 'static,
{
    let heard = Heard::default();
    let recorder = heard.clone();
    let address = listen(move |stream| {
        let (answer, recorder) = (answer.clone(), recorder.clone());
        async move { converse(stream, answer, Some(recorder)).await }
    })
    .await;
    (address, heard)
}

/// Reads requests and answers them until one side closes.
pub async fn converse<S, A>(mut stream: S, answer: A, heard: Option<Heard>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: Fn(&Request) -> Option<Vec<Step>>,
{
    let limits = Limits::default();
    let mut buffer = Vec::new();
    loop {
        while let Ok(Some(length)) = answer::frame_length(&buffer, &limits) {
            if buffer.len() < length {
                break;
            }
            let frame: Vec<u8> = buffer.drain(..length).collect();
            let request = read_request(&frame);
            let steps = answer(&request).unwrap_or_else(|| polite(&request));
            for step in steps {
                match step {
                    Step::Send(bytes) => {
                        if stream.write_all(&bytes).await.is_err() {
                            return;
                        }
                        let _ = stream.flush().await;
                    }
                    Step::Close => {
                        let _ = stream.shutdown().await;
                        return;
                    }
                    Step::Silence => std::future::pending::<()>().await,
                }
            }
        }
        match stream.read_buf(&mut buffer).await {
            Ok(1..) => {
                if let Some(heard) = &heard {
                    // Parts of requests may be recorded twice when they came in pieces; a needle is found all the same.
                    heard.0.lock().expect("lock").extend_from_slice(&buffer);
                }
            }
            _ => return,
        }
    }
}

/// What an honest, empty directory answers.
pub fn polite(request: &Request) -> Vec<Step> {
    let (id, op) = (request.id, request.op);
    match op {
        tag::BIND_REQUEST => vec![Step::Send(result(id, tag::BIND_RESPONSE, 0, ""))],
        tag::SEARCH_REQUEST => vec![Step::Send(result(id, tag::SEARCH_DONE, 0, ""))],
        _ => vec![Step::Close],
    }
}

fn read_request(frame: &[u8]) -> Request {
    let mut parts = Elements::new(Elements::new(frame).expect(tag::SEQUENCE).expect("a message"));
    let id = parts.expect(tag::INTEGER).and_then(super::ber::unsigned).expect("an id");
    let op = parts.next_element().expect("well formed").expect("an operation");
    let mut request = Request {
        id,
        op: op.tag,
        base: String::new(),
        is_for_users: false,
        is_for_branches: false,
        cookie: None,
        operation: op.content.to_vec(),
    };
    if op.tag == tag::SEARCH_REQUEST {
        let base = Elements::new(op.content).expect(tag::OCTET_STRING).expect("a base");
        request.base = String::from_utf8(base.to_vec()).expect("text");
        request.is_for_branches = request.names("hasSubordinates");
        request.is_for_users = request.names("inetOrgPerson");
    }
    if let Ok(Some(controls)) = parts.next_element() {
        // Control { oid, criticality, value { numbers, cookie } }
        let control = Elements::new(controls.content).expect(tag::SEQUENCE).expect("a control");
        let mut control = Elements::new(control);
        while let Ok(Some(part)) = control.next_element() {
            if part.tag == tag::OCTET_STRING && part.content.first() == Some(&tag::SEQUENCE) {
                let mut value = Elements::new(Elements::new(part.content).expect(tag::SEQUENCE).expect("a value"));
                while let Ok(Some(part)) = value.next_element() {
                    if part.tag == tag::OCTET_STRING {
                        request.cookie = Some(part.content.to_vec());
                    }
                }
            }
        }
    }
    request
}

/// A certificate authority made for a test, with one server certificate.
pub struct Certificates {
    /// The authority's certificate in PEM.
    pub ca_pem: String,
    pub config: Arc<rustls::ServerConfig>,
}

/// How a test's server certificate is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    None,
    Expired,
    NotYetValid,
    OtherName,
    /// Signed by itself; `ca_pem` is another authority.
    SelfSigned,
    /// Signed by itself, and `ca_pem` is this certificate.
    SelfSignedAndPinned,
}

pub fn certificates(flaw: Flaw) -> Certificates {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "Test authority");
    let ca_certificate = ca.self_signed(&ca_key).expect("an authority");
    let name = if flaw == Flaw::OtherName { "elsewhere.example" } else { "localhost" };
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.to_owned(), "127.0.0.2".to_owned()]).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, "Test server");
    match flaw {
        Flaw::Expired => {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        Flaw::NotYetValid => {
            params.not_before = date_time_ymd(3001, 1, 1);
            params.not_after = date_time_ymd(3002, 1, 1);
        }
        _ => (),
    }
    let is_self_signed = matches!(flaw, Flaw::SelfSigned | Flaw::SelfSignedAndPinned);
    let certificate = if is_self_signed {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&key).expect("a certificate")
    } else {
        params.signed_by(&key, &Issuer::new(ca, &ca_key)).expect("a certificate")
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a configuration");
    let ca_pem = if flaw == Flaw::SelfSignedAndPinned { certificate.pem() } else { ca_certificate.pem() };
    Certificates { ca_pem, config: Arc::new(config) }
}
