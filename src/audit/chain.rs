//! The chain: how a record is hashed, and appending.

use rusqlite::Connection;

use super::{
    model::{Entry, Record},
    queries,
};
use crate::{
    clock::Time,
    error::Result,
    principal::Principal,
    secret::{self, MasterKey},
};

/// What the first record points at.
pub(super) const GENESIS: [u8; 32] = [0; 32];

/// SHA-256 over every column, each with its length in front: `seq`, `id`, time in microseconds, type, account,
/// principal, subject, address, request id, result, details, previous hash. An absent value has length 2^64-1.
pub(super) fn hash(record: &Record) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(512 + record.details_text.len());
    let mut put = |value: Option<&[u8]>| match value {
        Some(value) => {
            bytes.extend_from_slice(&(value.len() as u64).to_be_bytes());
            bytes.extend_from_slice(value);
        }
        None => bytes.extend_from_slice(&u64::MAX.to_be_bytes()),
    };
    put(Some(b"bailiwick.audit.v1"));
    put(Some(&record.seq.to_be_bytes()));
    put(Some(record.id.as_bytes()));
    put(Some(&record.time.0.to_be_bytes()));
    put(Some(record.kind.as_bytes()));
    put(record.account_id.map(|id| id.to_string()).as_deref().map(str::as_bytes));
    put(Some(record.principal_urn.as_bytes()));
    put(record.subject_urn.as_deref().map(str::as_bytes));
    put(record.address.as_deref().map(str::as_bytes));
    put(record.request_id.as_deref().map(str::as_bytes));
    put(Some(record.result.as_bytes()));
    put(Some(record.details_text.as_bytes()));
    put(Some(&record.prev_hash_bytes));
    secret::sha256(&bytes)
}

/// The head's keyed hash.
pub(super) fn head_mac(key: &MasterKey, seq: i64, hash: &[u8]) -> [u8; 32] {
    let mut message = seq.to_be_bytes().to_vec();
    message.extend_from_slice(hash);
    key.mac("audit-head.v1", &message)
}

/// Appends records inside the caller's transaction.
pub(super) fn append(
    connection: &Connection,
    key: &MasterKey,
    now: Time,
    principal: &Principal,
    entries: Vec<Entry>,
) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let (mut seq, mut prev) = queries::newest(connection)?.unwrap_or((0, GENESIS.to_vec()));
    for entry in entries {
        seq += 1;
        let mut record = Record {
            id: uuid::Uuid::now_v7().to_string(),
            seq,
            time: now,
            kind: entry.kind.to_owned(),
            account_id: entry.account.or(principal.account),
            principal_urn: entry.by.unwrap_or_else(|| principal.urn()),
            subject_urn: entry.subject,
            address: principal.address.map(|ip| ip.to_string()),
            request_id: principal.request_id.clone(),
            result: entry.outcome.as_str().to_owned(),
            details_text: serde_json::Value::Object(entry.details).to_string(),
            details: serde_json::Value::Null,
            prev_hash: String::new(),
            hash: String::new(),
            prev_hash_bytes: prev,
            hash_bytes: Vec::new(),
        };
        record.hash_bytes = hash(&record).to_vec();
        queries::insert(connection, &record)?;
        prev = record.hash_bytes;
    }
    queries::set_head(connection, seq, &prev, &head_mac(key, seq, &prev))
}
