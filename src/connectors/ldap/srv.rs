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

/// Draws for targets, the same each time for one `asker`: runs and actions of one directory go to the same server as long
/// as it is named, because servers tell each other of changes in their own time. Other askers draw otherwise.
#[derive(Debug, Clone)]
pub struct Lots {
    pub asker: String,
}

impl Lots {
    pub fn draw(&self, target: &str) -> u32 {
        let hash = secret::sha256_of(&[self.asker.as_bytes(), target.to_ascii_lowercase().as_bytes()]);
        hash.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).unwrap_or_default()
    }
}

/// In the order of RFC 2782: by priority, and by lot as the weights say.
pub fn in_order(records: Vec<Record>, draw: impl Fn(&str) -> u32) -> Vec<Record> {
    let mut drawn: Vec<(f64, Record)> =
        records.into_iter().map(|record| (wait(&record, draw(&record.target)), record)).collect();
    drawn.sort_by(|(one_wait, one), (other_wait, other)| {
        let by_wait = one.priority.cmp(&other.priority).then_with(|| one_wait.total_cmp(other_wait));
        by_wait.then_with(|| one.target.cmp(&other.target))
    });
    drawn.into_iter().map(|(_, record)| record).collect()
}

/// The weight of those without one: a small chance beside the others, the same among each other.
const LEAST_WEIGHT: f64 = 0.01;

/// How long a server waits for its turn: exponentially distributed with its weight as the rate. To order by it is to draw
/// without putting back, each time as the weights of those that are left say, which is RFC 2782's way; and one server more
/// or less does not change the order of the others.
fn wait(record: &Record, drawn: u32) -> f64 {
    let share = (f64::from(drawn) + 1.0) / (f64::from(u32::MAX) + 1.0);
    -share.ln() / f64::from(record.weight).max(LEAST_WEIGHT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record((priority, weight, target): (u16, u16, &str)) -> Record {
        Record { priority, weight, target: target.to_owned() }
    }

    fn order(records: &[(u16, u16, &str)], drawn: &[(&str, u32)]) -> String {
        let draw = |target: &str| drawn.iter().find(|(name, _)| *name == target).map_or(1, |(_, drawn)| *drawn);
        in_order(records.iter().copied().map(record).collect(), draw).into_iter().map(|record| record.target).collect()
    }

    #[test]
    fn priority_comes_first_and_weight_is_a_share() {
        const HALF: u32 = u32::MAX / 2;
        const MOST: u32 = u32::MAX;
        let records = [(10, 0, "d"), (0, 60, "a"), (0, 0, "z"), (0, 40, "b")];
        assert_eq!(order(&records, &[("a", HALF), ("b", HALF), ("z", HALF)]), "abzd", "the heavier one first");
        assert_eq!(order(&records, &[("a", HALF / 2), ("b", HALF), ("z", HALF)]), "bazd", "unless it drew badly");
        assert_eq!(order(&records, &[("a", HALF), ("b", HALF), ("z", MOST)]), "zabd", "a small chance");
        assert_eq!(order(&records, &[("d", MOST)]).chars().last(), Some('d'), "whatever it drew");
        assert_eq!(order(&[(5, 100, "b"), (5, 100, "a")], &[]), "ab");
        assert_eq!(order(&[(5, 0, "b"), (5, 0, "a")], &[("b", 2)]), "ba");
        assert_eq!(order(&[], &[]), "");
    }

    #[test]
    fn the_share_of_first_tries_is_the_weight_and_one_asker_draws_the_same() {
        let records = || [(0, 75, "a.x."), (0, 25, "b.x."), (0, 0, "c.x.")].map(record).to_vec();
        let order = |asker: usize, records: Vec<Record>| {
            let lots = Lots { asker: asker.to_string() };
            in_order(records, |target| lots.draw(target))
        };
        let first = (0..2000).filter(|asker| order(*asker, records())[0].target == "a.x.").count();
        assert!((1400..1600).contains(&first), "three of four: {first}");
        for asker in 0..20 {
            let before = order(asker, records());
            let mut more = records();
            more.insert(0, record((0, 50, "d.x.")));
            let mut after = order(asker, more);
            after.retain(|record| record.target != "d.x.");
            assert_eq!(after, before);
        }
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
            drawn in any::<[u32; 4]>(),
        ) {
            let records: Vec<Record> =
                records.iter().enumerate().map(|(at, (p, w))| record((*p, *w, &at.to_string()))).collect();
            let ordered = in_order(records.clone(), |target| drawn[target.len() % 4]);
            prop_assert!(ordered.is_sorted_by_key(|record| record.priority));
            let mut targets: Vec<usize> = ordered.iter().map(|record| record.target.parse().expect("a number")).collect();
            targets.sort_unstable();
            prop_assert_eq!(targets, (0..records.len()).collect::<Vec<_>>());
        }
    }
}
