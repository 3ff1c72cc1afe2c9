//! The message reader: framing, entries, references, intermediate responses, results and their controls.
//!
//! The first byte says into how large pieces the rest is cut: what is found must not depend on it.
#![no_main]

use bailiwick::connectors::ldap::{
    Limits, answer,
    inbox::{Broken, Chunk, Inbox, Plainly, Progress},
};
use libfuzzer_sys::fuzz_target;

fn feed(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, Result<Option<u32>, Broken>) {
    let limits = Limits { message_bytes: 1 << 20, elements: 10_000, ..Limits::default() };
    let (mut inbox, mut chunk, mut entries) = (Inbox::default(), Chunk::default(), Vec::new());
    let mut pieces = bytes.chunks(piece);
    let outcome = loop {
        match inbox.search(1, &limits, &mut Plainly, &mut chunk) {
            Err(broken) => break Err(broken),
            Ok(Progress::Over(end)) => {
                let _ = answer::control_value(&end.controls, "1.2.840.113556.1.4.319").map(answer::paging_cookie);
                break Ok(Some(end.code));
            }
            Ok(Progress::Full) => {
                inbox.cut(&mut chunk);
                entries.extend(chunk.entries().map(<[u8]>::to_vec));
                chunk = Chunk::default();
            }
            Ok(Progress::Wants(wanted)) => match pieces.next() {
                Some(piece) => inbox.room(wanted).extend_from_slice(piece),
                None => break Ok(None),
            },
        }
    };
    inbox.cut(&mut chunk);
    entries.extend(chunk.entries().map(<[u8]>::to_vec));
    (entries, outcome)
}

fuzz_target!(|bytes: &[u8]| {
    if let Some((first, rest)) = bytes.split_first() {
        assert!(feed(rest, usize::from(*first) + 1) == feed(rest, usize::MAX));
    }
});
