//! SRV records (RFC 2782): which hosts offer a service, asked of the system's DNS servers or of given ones.
//!
//! Owns the questions to DNS, their limits, and the order of the answers. Anybody on the way can forge an answer: it says
//! where to connect and nothing else, and every name in it is looked at before it is used.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{RData, RecordType},
    },
};
use rustls::pki_types::ServerName;
use tokio::time::timeout;

use super::errors;
use crate::secret;

/// One question, with all that is tried for it.
const QUESTION_MAX: Duration = Duration::from_secs(5);
/// One DNS server's time to answer, and how often each is asked.
const ONE_SERVER_MAX: Duration = Duration::from_secs(2);
const TRIES: usize = 2;
/// Records of one answer that are looked at.
const RECORDS_MAX: usize = 100;
const ADDRESSES_MAX: usize = 100;
/// The longest name (RFC 1035 §2.3.4), without the dot at its end.
const NAME_MAX: usize = 253;

/// One host that offers a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The lowest is tried first.
    pub priority: u16,
    /// Of those with the same priority, the share of first tries.
    pub weight: u16,
    /// As it came.
    pub target: String,
}

/// Why there are no records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// DNS answered: there is no such name.
    NoSuchName,
    /// DNS answered: the name has no such records.
    NoRecords,
    /// Nobody answered, or what came is no answer. A reason in words.
    Unanswered(String),
}

/// Asks DNS.
pub struct Resolver {
    inner: TokioResolver,
    /// Who is asked, in words.
    pub asked: String,
}

impl Resolver {
    /// Asks these servers; the system's (resolv.conf) when there are none. The error is a reason in words.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, String> {
        let broken = |error: NetError| errors::printable(&error.to_string());
        let (mut builder, asked) = if servers.is_empty() {
            let builder = TokioResolver::builder_tokio()
                .map_err(|error| format!("this machine's resolv.conf can't be used: {}", broken(error)))?;
            (builder, "this machine's DNS servers".to_owned())
        } else {
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(name_server).collect());
            let texts: Vec<String> = servers.iter().map(ToString::to_string).collect();
            let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            (builder, format!("the DNS server {}", texts.join(" or ")))
        };
        let options = builder.options_mut();
        options.timeout = ONE_SERVER_MAX;
        options.attempts = TRIES;
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        Ok(Self { inner: builder.build().map_err(broken)?, asked })
    }

    /// The records of a name.
    pub async fn records(&self, name: &str) -> Result<Vec<Record>, Silence> {
        let answer = limited(self.inner.lookup(absolute(name), RecordType::SRV)).await?;
        let records = answer.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => {
                Some(Record { priority: srv.priority, weight: srv.weight, target: srv.target.to_ascii() })
            }
            _ => None,
        });
        let records: Vec<Record> = records.take(RECORDS_MAX).collect();
        if records.is_empty() { Err(Silence::NoRecords) } else { Ok(records) }
    }

    /// The addresses of a host.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Silence> {
        let answer = limited(self.inner.lookup_ip(absolute(host))).await?;
        let addresses: Vec<IpAddr> = answer.iter().take(ADDRESSES_MAX).collect();
        if addresses.is_empty() { Err(Silence::NoRecords) } else { Ok(addresses) }
    }
}

/// No list of domains to search is put behind it.
fn absolute(name: &str) -> String {
    format!("{name}.")
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    server.connections = server.connections.into_iter().map(at_port).collect();
    server
}

async fn limited<T>(question: impl Future<Output = Result<T, NetError>>) -> Result<T, Silence> {
    match timeout(QUESTION_MAX, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none)))) => Err(match none.response_code {
            ResponseCode::NXDomain => Silence::NoSuchName,
            ResponseCode::NoError => Silence::NoRecords,
            code => Silence::Unanswered(format!("the answer was “{code}”")),
        }),
        Ok(Err(NetError::Timeout)) | Err(_) => {
            Err(Silence::Unanswered(format!("no answer within {} s", QUESTION_MAX.as_secs())))
        }
        Ok(Err(error)) => Err(Silence::Unanswered(errors::printable(&error.to_string()))),
    }
}

/// The name of a host in lower case and without the dot at its end, when it is one: no address, no root, nothing that a
/// certificate could not carry.
pub fn host_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_name = name.len() <= NAME_MAX && matches!(ServerName::try_from(name.as_str()), Ok(ServerName::DnsName(_)));
    is_name.then_some(name)
}

/// In the order of RFC 2782: by priority, and by chance as the weights say. `chance(most)` answers a number from 0 to `most`.
pub fn in_order(mut records: Vec<Record>, mut chance: impl FnMut(u64) -> u64) -> Vec<Record> {
    // Those without weight come first, so that they have a small chance.
    records.sort_by_key(|record| (record.priority, record.weight > 0));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let same = || records.iter().take_while(|record| record.priority == priority);
        let drawn = chance(same().map(|record| u64::from(record.weight)).sum());
        let mut sum = 0;
        let reached = same().position(|record| {
            sum += u64::from(record.weight);
            sum >= drawn
        });
        ordered.push(records.remove(reached.unwrap_or_default()));
    }
    ordered
}

/// By the system's generator.
pub fn chance(most: u64) -> u64 {
    let mut bytes = [0; 8];
    secret::fill_random(&mut bytes);
    u64::from_le_bytes(bytes) % most.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record((priority, weight, target): (u16, u16, &str)) -> Record {
        Record { priority, weight, target: target.to_owned() }
    }

    fn order(records: &[(u16, u16, &str)], drawn: &[u64]) -> (String, Vec<u64>) {
        let (mut drawn, mut most) = (drawn.iter(), Vec::new());
        let ordered = in_order(records.iter().copied().map(record).collect(), |limit| {
            most.push(limit);
            drawn.next().copied().unwrap_or_default()
        });
        (ordered.into_iter().map(|record| record.target).collect(), most)
    }

    #[test]
    fn priority_comes_first_and_weight_is_a_share() {
        let records = [(10, 0, "d"), (0, 60, "a"), (0, 0, "z"), (0, 40, "b")];
        // z, a and b have the running sums 0, 60 and 100.
        assert_eq!(order(&records, &[0, 0, 0, 0]), ("zabd".to_owned(), vec![100, 100, 40, 0]));
        assert_eq!(order(&records, &[1, 40]), ("abzd".to_owned(), vec![100, 40, 0, 0]));
        assert_eq!(order(&records, &[60, 0]).0, "azbd");
        assert_eq!(order(&records, &[61, 60]).0, "bazd");
        assert_eq!(order(&records, &[100, 0]).0, "bzad");
        assert_eq!(order(&[(5, 100, "a"), (5, 100, "b")], &[200]).0, "ba");
        assert_eq!(order(&[], &[]), (String::new(), Vec::new()));
    }

    #[test]
    fn the_share_of_first_tries_is_the_weight() {
        let records = || [(0, 75, "a"), (0, 25, "b")].map(record).to_vec();
        let mut first = 0;
        for _ in 0..2000 {
            first += usize::from(in_order(records(), chance)[0].target == "a");
        }
        // Three of four; beyond ten deviations of chance.
        assert!((1300..1700).contains(&first), "{first}");
    }

    #[test]
    fn only_names_of_hosts_are_taken() {
        for (text, name) in [
            ("DC1.Ad.Example.Test.", Some("dc1.ad.example.test")),
            ("dc_1.example.test", Some("dc_1.example.test")),
            (".", None),
            ("", None),
            ("10.0.0.1.", None),
            ("::1", None),
            ("a..b", None),
            ("a b.example", None),
            ("a\\032b.example", None),
            ("-", None),
        ] {
            assert_eq!(host_name(text).as_deref(), name, "{text}");
        }
        assert_eq!(host_name(&["a"; 128].join(".")), None);
    }

    #[tokio::test]
    async fn who_does_not_answer_or_answers_nonsense_is_no_answer() {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let addresses = [&socket, &silent].map(|socket| socket.local_addr().expect("an address"));
        let babble = async {
            let mut question = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut question).await.expect("a question");
                // Its own id and question, and an answer that is cut off.
                let mut answer = question[..length].to_vec();
                answer[2] |= 0x80;
                answer[7] = 9;
                socket.send_to(&answer, from).await.expect("sent");
            }
        };
        let ask = async |address: SocketAddr| {
            Resolver::new(&[address]).expect("a resolver").records("_ldap._tcp.dc._msdcs.ad.example.test").await
        };
        let both = futures_util::future::join(ask(addresses[0]), ask(addresses[1]));
        let (nonsense, silence) = tokio::select! {
            () = babble => unreachable!("it goes on"),
            both = both => both,
        };
        assert!(matches!(nonsense, Err(Silence::Unanswered(_) | Silence::NoRecords)), "{nonsense:?}");
        assert!(matches!(silence, Err(Silence::Unanswered(_))), "{silence:?}");
    }

    proptest! {
        #[test]
        fn every_record_stands_once_and_by_priority(
            records in prop::collection::vec((0_u16..4, any::<u16>()), 0..40),
            drawn in any::<u64>(),
        ) {
            let records: Vec<Record> =
                records.iter().enumerate().map(|(at, (p, w))| record((*p, *w, &at.to_string()))).collect();
            // A number beyond the limit must do no harm either.
            let ordered = in_order(records.clone(), |_| drawn);
            prop_assert!(ordered.is_sorted_by_key(|record| record.priority));
            let mut targets: Vec<usize> = ordered.iter().map(|record| record.target.parse().expect("a number")).collect();
            targets.sort_unstable();
            prop_assert_eq!(targets, (0..records.len()).collect::<Vec<_>>());
        }
    }
}
