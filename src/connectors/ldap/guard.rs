//! The guard between the wire and ldap3: nothing that a directory sends reaches ldap3 unchecked.
//!
//! Measured on ldap3 0.12.1: deep nesting overflows its stack and a huge length makes it allocate until the process is
//! aborted; `30 00`, an unknown operation or a malformed control panics its task (HOSTILE L17–L19). So ldap3 speaks
//! into one end of a socket pair, and the guard carries its requests to the wire and brings back only messages whose
//! length, nesting, shape and message id are right ([`answer`]). The first that is not ends the
//! connection. ldap3 keeps what it is sent until somebody takes it, so that the guard also limits one whole answer.
//!
//! It must never forward an answer to a question that nobody asked, or log the content of a message.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
};

use super::{
    answer::{self, Envelope, Limits, Violation, check_answer, frame_length, open_envelope},
    ber,
    ber::tag,
    errors,
};
use crate::connectors::Failure;

/// The most bytes in answer to one question. The probe asks for a thousand ids at most; decoded, this becomes some tens
/// of MiB in ldap3.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What an asked message id may be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Search,
    Result(u8),
    /// Abandoned: answers still on their way are dropped.
    Nothing,
}

/// What the two directions of the pump share, and what the connection asks after it ended.
#[derive(Debug, Default)]
pub struct Verdict {
    failure: OnceLock<Failure>,
    asked: Mutex<HashMap<u32, Expected>>,
}

impl Verdict {
    /// Why the connection ended, if the guard ended it.
    pub fn failure(&self) -> Option<Failure> {
        self.failure.get().cloned()
    }

    fn end(&self, failure: Failure) {
        // Only the first reason counts: what follows is its consequence.
        let _ = self.failure.set(failure);
    }

    fn ask(&self, id: u32, expected: Expected) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(id, expected);
    }

    fn expected(&self, id: u32) -> Option<Expected> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    fn answered(&self, id: u32) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// Carries messages between the wire and ldap3 until one side ends or the server breaks the rules.
pub async fn pump<W>(wire: W, inner: UnixStream, limits: Limits, verdict: Arc<Verdict>, server: String)
where
    W: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (wire_reader, wire_writer) = tokio::io::split(wire);
    let (inner_reader, inner_writer) = inner.into_split();
    // When either direction ends, so does the other: both halves are dropped and the sockets close.
    let reason = tokio::select! {
        reason = requests(inner_reader, wire_writer, limits, &verdict) => reason,
        reason = answers(wire_reader, inner_writer, limits, &verdict) => reason,
    };
    match reason {
        Ended::ByUs => (),
        Ended::Violation(violation) => verdict.end(violation.into_failure(&server)),
        Ended::Closed => verdict.end(errors::closed(&server)),
        Ended::Io(error) => verdict.end(errors::lost(&server, &error.to_string())),
        Ended::Notice(text) => verdict.end(errors::ended_with_notice(&server, &text)),
    }
}

enum Ended {
    ByUs,
    Closed,
    Io(std::io::Error),
    Violation(Violation),
    /// Notice of disconnection (RFC 4511 §4.4.1).
    Notice(String),
}

/// ldap3 → wire, remembering which answers may come.
async fn requests(
    mut inner: impl AsyncRead + Unpin,
    mut wire: impl AsyncWrite + Unpin,
    limits: Limits,
    verdict: &Verdict,
) -> Ended {
    // Requests are ours: only their size is limited by what memory a filter takes.
    let limits = Limits { message_bytes: limits.message_bytes.max(1024 * 1024), ..limits };
    let mut buffer: Vec<u8> = Vec::new();
    loop {
        let mut taken = 0;
        while let Some(rest) = buffer.get(taken..).filter(|rest| !rest.is_empty()) {
            let length = match frame_length(rest, &limits) {
                Ok(Some(length)) if length <= rest.len() => length,
                Ok(_) => break,
                Err(violation) => return Ended::Violation(violation),
            };
            let Some((envelope, _)) = rest.get(..length).and_then(|frame| open_envelope(frame).ok()) else {
                return Ended::ByUs;
            };
            match envelope.op {
                tag::BIND_REQUEST => verdict.ask(envelope.id, Expected::Result(tag::BIND_RESPONSE)),
                tag::SEARCH_REQUEST => verdict.ask(envelope.id, Expected::Search),
                tag::MODIFY_REQUEST => verdict.ask(envelope.id, Expected::Result(tag::MODIFY_RESPONSE)),
                tag::ADD_REQUEST => verdict.ask(envelope.id, Expected::Result(tag::ADD_RESPONSE)),
                tag::DELETE_REQUEST => verdict.ask(envelope.id, Expected::Result(tag::DELETE_RESPONSE)),
                tag::MODIFY_DN_REQUEST => verdict.ask(envelope.id, Expected::Result(tag::MODIFY_DN_RESPONSE)),
                tag::COMPARE_REQUEST => verdict.ask(envelope.id, Expected::Result(tag::COMPARE_RESPONSE)),
                tag::EXTENDED_REQUEST => verdict.ask(envelope.id, Expected::Result(tag::EXTENDED_RESPONSE)),
                tag::ABANDON_REQUEST => {
                    if let Some(id) = ber::unsigned(envelope.body) {
                        verdict.ask(id, Expected::Nothing);
                    }
                }
                // Unbind has no answer.
                _ => (),
            }
            taken += length;
        }
        if taken > 0 {
            let done = buffer.get(..taken).unwrap_or_default();
            if let Err(error) = wire.write_all(done).await {
                return Ended::Io(error);
            }
            if let Err(error) = wire.flush().await {
                return Ended::Io(error);
            }
            // A bind request holds the password.
            zeroize::Zeroize::zeroize(buffer.get_mut(..taken).unwrap_or_default());
            buffer.drain(..taken);
        }
        buffer.reserve(4096);
        match inner.read_buf(&mut buffer).await {
            Ok(0) => {
                let _ = wire.shutdown().await;
                return Ended::ByUs;
            }
            Ok(_) => (),
            Err(_) => return Ended::ByUs,
        }
    }
}

/// Wire → ldap3, checking every message.
async fn answers(
    mut wire: impl AsyncRead + Unpin,
    mut inner: impl AsyncWrite + Unpin,
    limits: Limits,
    verdict: &Verdict,
) -> Ended {
    let mut buffer: Vec<u8> = Vec::with_capacity(READ_BYTES);
    let mut answer_bytes = 0_usize;
    loop {
        let mut taken = 0;
        let mut missing = READ_BYTES;
        let mut ended = None;
        while let Some(rest) = buffer.get(taken..).filter(|rest| !rest.is_empty()) {
            let frame = match frame_length(rest, &limits) {
                Ok(Some(length)) => match rest.get(..length) {
                    Some(frame) => frame,
                    None => {
                        missing = length - rest.len();
                        break;
                    }
                },
                Ok(None) => break,
                Err(violation) => {
                    ended = Some(Ended::Violation(violation));
                    break;
                }
            };
            answer_bytes += frame.len();
            match pass(frame, &limits, verdict) {
                _ if answer_bytes > ANSWER_BYTES_MAX => {
                    ended = Some(Ended::Violation(Violation::AnswerTooLong { limit: ANSWER_BYTES_MAX }));
                }
                Ok(is_result) => {
                    if is_result {
                        answer_bytes = 0;
                    }
                    taken += frame.len();
                    continue;
                }
                Err(reason) => ended = Some(reason),
            }
            break;
        }
        let passed = buffer.get(..taken).unwrap_or_default();
        if !passed.is_empty() && inner.write_all(passed).await.is_err() {
            return Ended::ByUs;
        }
        buffer.drain(..taken);
        if let Some(reason) = ended {
            return reason;
        }
        // Doubling at most, whatever length was announced: memory grows with what really arrived.
        buffer.reserve_exact(missing.min(buffer.len().max(READ_BYTES)).max(4096));
        match wire.read_buf(&mut buffer).await {
            Ok(0) => return Ended::Closed,
            Ok(_) => (),
            Err(error) => return Ended::Io(error),
        }
    }
}

/// Whether a message may pass, and if so, whether it is the last answer to its question.
fn pass(frame: &[u8], limits: &Limits, verdict: &Verdict) -> Result<bool, Ended> {
    let Envelope { id, op, body, .. } = check_answer(frame, limits).map_err(Ended::Violation)?;
    if id == 0 {
        if op != tag::EXTENDED_RESPONSE {
            return Err(Ended::Violation(Violation::Unsolicited { id }));
        }
        return Err(Ended::Notice(errors::printable(answer::result(body).diagnostic)));
    }
    match (verdict.expected(id), op) {
        (None, _) => Err(Ended::Violation(Violation::Unsolicited { id })),
        // ldap3 drops what it has abandoned.
        (Some(Expected::Nothing), _) => Ok(false),
        (Some(Expected::Search), tag::SEARCH_ENTRY | tag::SEARCH_REFERENCE) => Ok(false),
        // Nothing here asks for intermediate responses (RFC 4511 §4.13); a server may send them, a client may ignore them.
        (Some(_), tag::INTERMEDIATE_RESPONSE) => Ok(false),
        (Some(Expected::Search), tag::SEARCH_DONE) => {
            verdict.answered(id);
            Ok(true)
        }
        (Some(Expected::Result(expected)), op) if op == expected => {
            verdict.answered(id);
            Ok(true)
        }
        (Some(_), op) => Err(Ended::Violation(Violation::WrongAnswer { id, op })),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connectors::{
        FailureKind,
        ldap::{
            answer::tests::{check, honest},
            fake::{self, element, message, result},
        },
    };

    /// What ldap3 does with a message that has passed.
    fn as_ldap3_reads(frame: &[u8]) {
        use ldap3::asn1::{PL, Tag, parse_tag};
        let (rest, parsed) = parse_tag(frame).expect("ldap3 reads what has passed");
        assert!(rest.is_empty());
        let PL::C(mut parts) = parsed.payload else { panic!("not constructed") };
        assert!(parts.len() >= 2);
        let op = parts.remove(1);
        if !matches!(op.id, 4 | 19 | 25) {
            let _ = ldap3::LdapResult::from(Tag::StructureTag(op));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let limits = Limits::default();
            let _ = frame_length(&bytes, &limits);
            if check(&bytes).is_ok() {
                as_ldap3_reads(&bytes);
            }
            let framed = element(tag::SEQUENCE, &bytes);
            if check(&framed).is_ok() {
                as_ldap3_reads(&framed);
            }
        }

        #[test]
        fn whatever_passes_is_safe_for_ldap3(
            which in 0_usize..9,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 0..4),
        ) {
            let mut frame = honest().remove(which);
            for (at, byte, kind) in changes {
                if frame.is_empty() {
                    break;
                }
                let at = at.index(frame.len());
                match kind {
                    0 => frame[at] = byte,
                    1 => frame.insert(at, byte),
                    _ => {
                        frame.remove(at);
                    }
                }
            }
            if check(&frame).is_ok() {
                as_ldap3_reads(&frame);
            }
        }
    }

    /// Sends `bytes` through the pump to a real ldap3 that waits for a search, and answers how both ended.
    async fn through_ldap3(bytes: Vec<u8>) -> (bool, Option<Failure>) {
        let (mut server, wire) = tokio::io::duplex(1 << 20);
        let (outer, inner) = std::os::unix::net::UnixStream::pair().expect("a pair");
        outer.set_nonblocking(true).expect("non-blocking");
        let settings = ldap3::LdapConnSettings::new().set_std_stream(ldap3::StdStream::Unix(inner));
        let (driver, mut ldap) = ldap3::LdapConnAsync::with_settings(settings, "ldapi:///").await.expect("ldap3");
        let driver = tokio::spawn(driver.drive());
        let verdict = Arc::new(Verdict::default());
        let outer = UnixStream::from_std(outer).expect("a socket");
        let pump = tokio::spawn(pump(wire, outer, Limits::default(), Arc::clone(&verdict), "test".to_owned()));
        let asking = tokio::spawn(async move {
            let mut stream = ldap.streaming_search("dc=x", ldap3::Scope::Subtree, "(a=b)", vec!["a"]).await?;
            while stream.next().await?.is_some() {}
            let result = stream.finish().await;
            drop(ldap);
            Ok::<_, ldap3::LdapError>(result.rc)
        });
        let mut request = vec![0; 4096];
        let _ = server.read(&mut request).await.expect("the request");
        server.write_all(&bytes).await.expect("sent");
        drop(server);
        let is_sound = asking.await.is_ok() && driver.await.is_ok() && pump.await.is_ok();
        (is_sound, verdict.failure())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_bytes_make_a_task_panic(
            which in 0_usize..9,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            tail in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut bytes = honest().remove(which);
            // The waiting search has message id 1.
            bytes[7] = 1;
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.extend(tail);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let (is_sound, _) = runtime.block_on(async {
                tokio::time::timeout(std::time::Duration::from_secs(10), through_ldap3(bytes)).await.expect("no task is stuck")
            });
            prop_assert!(is_sound);
        }
    }

    #[tokio::test]
    async fn an_answer_that_nobody_asked_for_ends_the_connection() {
        for (bytes, part) in [
            (result(99, tag::SEARCH_DONE, 0, ""), "nobody asked"),
            (fake::user(99, 1), "nobody asked"),
            (result(1, tag::BIND_RESPONSE, 0, ""), "wrong operation"),
            (vec![0x30, 0x00], "malformed"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "another kind"),
        ] {
            let (is_sound, failure) = through_ldap3(bytes).await;
            let failure = failure.expect("a verdict");
            assert!(is_sound);
            assert_eq!(failure.kind, FailureKind::ProtocolViolation);
            assert!(failure.message.contains(part), "{}", failure.message);
        }
        let notice = [fake::result_body(52, "going down"), element(0x8a, b"1.3.6.1.4.1.1466.20036")].concat();
        let (_, failure) = through_ldap3(message(0, &element(tag::EXTENDED_RESPONSE, &notice))).await;
        let failure = failure.expect("a verdict");
        assert_eq!(failure.kind, FailureKind::ConnectionLost);
        assert!(failure.message.contains("going down"), "{}", failure.message);
    }
}
