//! Verification: walks the chain and names what does not fit.

use rusqlite::Connection;

use super::{chain, queries};
use crate::{
    error::Result,
    secret::{self, MasterKey},
};

/// One thing that is wrong with the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The record it was found at.
    pub seq: i64,
    pub message: String,
}

/// What a verification saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub records: u64,
    pub newest_seq: i64,
    pub newest_hash: String,
    pub findings: Vec<Finding>,
}

/// After this many findings the rest is not listed: one broken link makes no list of a million lines.
const FINDINGS_MAX: usize = 100;

/// Checks every record's hash, every link, the numbers and the head.
pub fn verify(connection: &Connection, key: &MasterKey) -> Result<Report> {
    let mut report = Report::default();
    let mut prev = chain::GENESIS.to_vec();
    let mut expected = 1;
    queries::each(connection, |record| {
        report.records += 1;
        let mut find = |message: String| {
            if report.findings.len() < FINDINGS_MAX {
                report.findings.push(Finding { seq: record.seq, message });
            }
        };
        if record.seq > expected {
            let (first, last) = (expected, record.seq - 1);
            find(if first == last {
                format!("record {first} was removed")
            } else {
                format!("records {first} to {last} were removed")
            });
        }
        let is_intact = secret::equal(&chain::hash(&record), &record.hash_bytes);
        let is_linked = record.prev_hash_bytes == prev;
        match (is_intact, is_linked) {
            (true, true) => {}
            (false, _) => find(format!("record {} was edited: its content does not fit its hash", record.seq)),
            (true, false) if record.seq == expected => {
                find(format!(
                    "record {} was replaced or inserted: it does not follow record {}",
                    record.seq,
                    record.seq - 1
                ));
            }
            // After a gap the link cannot fit; the gap was reported.
            (true, false) => {}
        }
        expected = record.seq + 1;
        report.newest_seq = record.seq;
        report.newest_hash = record.hash.clone();
        prev.clone_from(&record.hash_bytes);
    })?;
    let newest = report.newest_seq;
    let mut find = |seq, message: &str| report.findings.push(Finding { seq, message: message.to_owned() });
    match queries::head(connection)? {
        None if report.records == 0 => {}
        None => find(newest, "the head of the log is missing: the newest records cannot be proven complete"),
        Some((seq, hash, mac)) => {
            if !secret::equal(&chain::head_mac(key, seq, &hash), &mac) {
                find(seq, "the head of the log was edited: it does not fit the master key");
            } else if seq > newest {
                find(newest, "the newest records were removed: the head of the log remembers later ones");
            } else if seq < newest || hash != prev {
                find(
                    newest,
                    "records were added or replaced without the appliance: the head of the log does not know them",
                );
            }
        }
    }
    Ok(report)
}
