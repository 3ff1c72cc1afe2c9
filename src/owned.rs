//! What an account owns, row by row: how rooms name their tables for an export, and the file that comes of it.
//!
//! Owns the format of an account's export. It knows no table: each room names its own with every column that may leave
//! ([`Table`]), so a column with a secret in it has to be named to get out, and `tests/rooms/owned.rs` reads the schema and
//! fails for whatever is neither named nor left out with a reason.
//!
//! The file is JSON lines (UTF-8, one object a line), because a person reads them with `less` and `grep` and a program
//! with ten lines of code, and because they are written from front to back: no archive, whose list of contents comes last
//! and tears with its end.
//!
//! - The first line: `{"export":"bailiwick-account","version":1,"account":"…","alias":"…","region":"…","at":"…"}`.
//! - Then one line a row: `{"table":"role","row":{…}}`, tables in the order of the rooms. Names are those of the database in
//!   camel case; times are RFC 3339, bytes hexadecimal.
//! - The last line: `{"end":true,"rows":{"role":3,…},"sha256":"…"}`, with the SHA-256 of every byte before that line. A file
//!   that was cut off has no such line; one that was edited does not fit it.

use rusqlite::{Connection, Row, Statement, types::ValueRef};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::{
    clock::Time,
    error::{Error, Result},
    principal::AccountId,
    secret,
};

/// Bytes that are gathered before they are handed on.
const PIECE_BYTES: usize = 128 * 1024;

/// A table of a room, and its rows of one account.
pub struct Table {
    pub name: &'static str,
    /// One statement. `:account` is the account's id, `:directories` a JSON array of the ids of its directories. A column
    /// whose name ends in `:json` holds JSON. Times end in `_at`, facts begin with `is_`, `has_`, `can_`, `was_`, `may_`
    /// or `for_`.
    pub sql: &'static str,
}

/// Which account, and when.
pub struct Head {
    pub account: AccountId,
    pub alias: String,
    pub region: String,
    pub at: Time,
}

/// Where the bytes go; an error ends the export.
pub type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Bytes on their way, with their hash.
struct Out<'a> {
    gathered: Vec<u8>,
    hash: secret::Sha256,
    sink: &'a mut Sink<'a>,
}

impl Out<'_> {
    fn hand_on(&mut self, least: usize) -> Result<()> {
        if self.gathered.len() > least {
            self.hash.update(&self.gathered);
            (self.sink)(&self.gathered)?;
            self.gathered.clear();
        }
        Ok(())
    }
}

/// A JSON text; what cannot be written as one (there is no such text) is an error.
fn push_text(out: &mut Vec<u8>, text: &str) -> Result<()> {
    serde_json::to_writer(out, text).map_err(|e| Error::caused("a text could not be exported", e))
}

/// `first_seen_at` as `firstSeenAt`.
fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut is_up = false;
    for c in name.chars() {
        if c == '_' {
            is_up = true;
        } else if is_up {
            out.push(c.to_ascii_uppercase());
            is_up = false;
        } else {
            out.push(c);
        }
    }
    out
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Plain,
    Json,
    Time,
    Fact,
}

/// A column as it is written: its name as a JSON text, and what its values are.
fn column(name: &str) -> (String, Shape) {
    let (name, shape) = match name.strip_suffix(":json") {
        Some(name) => (name, Shape::Json),
        None if name.ends_with("_at") => (name, Shape::Time),
        None if ["is_", "has_", "can_", "was_", "may_", "for_"].iter().any(|start| name.starts_with(start)) => {
            (name, Shape::Fact)
        }
        None => (name, Shape::Plain),
    };
    (format!("\"{}\":", camel(name)), shape)
}

fn push_value(out: &mut Vec<u8>, value: ValueRef<'_>, shape: Shape) -> Result<()> {
    match (value, shape) {
        (ValueRef::Null, _) => out.extend_from_slice(b"null"),
        // "While it lasts" is the largest number in the database.
        (ValueRef::Integer(i64::MAX), Shape::Time) => out.extend_from_slice(b"null"),
        (ValueRef::Integer(us), Shape::Time) => push_text(out, &Time(us).rfc3339())?,
        (ValueRef::Integer(fact @ (0 | 1)), Shape::Fact) => {
            out.extend_from_slice(if fact == 1 { b"true" } else { b"false" });
        }
        (ValueRef::Integer(number), _) => out.extend_from_slice(number.to_string().as_bytes()),
        (ValueRef::Real(number), _) => out.extend_from_slice(json!(number).to_string().as_bytes()),
        (ValueRef::Text(bytes), shape) => {
            let text = String::from_utf8_lossy(bytes);
            // As it is stored, if it is JSON: a line end in it can only stand between two of its parts.
            if shape == Shape::Json && serde_json::from_str::<IgnoredAny>(&text).is_ok() {
                out.extend(text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
            } else {
                push_text(out, &text)?;
            }
        }
        (ValueRef::Blob(bytes), _) => push_text(out, &secret::encode_hex(bytes))?,
    }
    Ok(())
}

fn push_row(out: &mut Vec<u8>, start: &[u8], columns: &[(String, Shape)], row: &Row<'_>) -> Result<()> {
    out.extend_from_slice(start);
    for (index, (name, shape)) in columns.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name.as_bytes());
        push_value(out, row.get_ref(index)?, *shape)?;
    }
    out.extend_from_slice(b"}}\n");
    Ok(())
}

fn bind(statement: &mut Statement<'_>, account: AccountId, directories: &str) -> Result<()> {
    if let Some(index) = statement.parameter_index(":account")? {
        statement.raw_bind_parameter(index, account)?;
    }
    if let Some(index) = statement.parameter_index(":directories")? {
        statement.raw_bind_parameter(index, directories)?;
    }
    Ok(())
}

/// Writes everything that the tables hold of an account, a row at a time; answers how many rows that were. All of it is as
/// of one moment, the snapshot of `connection`.
pub fn write<'a>(
    connection: &Connection,
    head: &Head,
    tables: impl Iterator<Item = &'a Table>,
    directories: &[i64],
    sink: &mut Sink<'_>,
) -> Result<u64> {
    let mut sink = |bytes: &[u8]| sink(bytes);
    let mut out = Out { gathered: Vec::with_capacity(2 * PIECE_BYTES), hash: secret::Sha256::new(), sink: &mut sink };
    let first = json!({
        "export": "bailiwick-account", "version": 1, "account": head.account.to_string(), "alias": head.alias,
        "region": head.region, "at": head.at.rfc3339(),
    });
    out.gathered.extend_from_slice(format!("{first}\n").as_bytes());
    let directories = json!(directories).to_string();
    let mut counts = serde_json::Map::new();
    let mut total = 0;
    for table in tables {
        let mut statement = connection.prepare(table.sql)?;
        bind(&mut statement, head.account, &directories)?;
        let columns: Vec<(String, Shape)> = statement.column_names().map(column).collect();
        let start = format!("{{\"table\":\"{}\",\"row\":{{", table.name);
        let mut rows = statement.raw_query();
        let mut count: u64 = 0;
        while let Some(row) = rows.next()? {
            push_row(&mut out.gathered, start.as_bytes(), &columns, row)?;
            out.hand_on(PIECE_BYTES)?;
            count += 1;
        }
        counts.insert(table.name.to_owned(), count.into());
        total += count;
    }
    out.hand_on(0)?;
    let sha256 = secret::encode_hex(&out.hash.finish());
    let last = json!({"end": true, "rows": Value::Object(counts), "sha256": sha256});
    (out.sink)(format!("{last}\n").as_bytes())?;
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(connection: &Connection, sql: &'static str) -> Vec<Value> {
        let account = AccountId::new(123_456_789_012).expect("an id");
        let at = Time::parse("2026-03-03T09:00:00Z").expect("a time");
        let head = Head { account, alias: "acme".into(), region: "default".into(), at };
        let (mut bytes, tables) = (Vec::new(), [Table { name: "thing", sql }]);
        let mut sink = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        write(connection, &head, tables.iter(), &[3, 4], &mut sink).expect("written");
        let text = String::from_utf8(bytes).expect("UTF-8");
        let (before, last) = text.trim_end().rsplit_once('\n').expect("lines");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let end: Value = serde_json::from_str(last).expect("JSON");
        let hash = secret::encode_hex(&secret::sha256(format!("{before}\n").as_bytes()));
        assert_eq!(end["sha256"], hash, "of every byte before the last line");
        lines
    }

    #[test]
    fn every_kind_of_value_is_one_line_of_json() {
        let connection = Connection::open_in_memory().expect("a database");
        let sql = r#"SELECT :account AS account_id, 1772528400000001 AS made_at, 9223372036854775807 AS until_at,
                            1 AS is_fine, 0 AS has_more, NULL AS absent, 1.5 AS ratio, x'00ff' AS bytes,
                            'a "quote"' || char(10, 13, 8232) || char(0) AS text,
                            '{"a":' || char(10) || '[1]}' AS "settings:json", 'not json' AS "other:json""#;
        let lines = export(&connection, sql);
        assert_eq!(lines[0]["export"], "bailiwick-account");
        let expected = json!({"table": "thing", "row": {
            "accountId": 123_456_789_012_i64, "madeAt": "2026-03-03T09:00:00.000001Z", "untilAt": null,
            "isFine": true, "hasMore": false, "absent": null, "ratio": 1.5, "bytes": "00ff",
            "text": "a \"quote\"\n\r\u{2028}\0", "settings": {"a": [1]}, "other": "not json",
        }});
        assert_eq!(lines[1], expected);
        assert_eq!(lines[2]["rows"]["thing"], 1);
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn many_rows_leave_in_pieces_and_an_error_of_the_sink_ends_it() {
        let connection = Connection::open_in_memory().expect("a database");
        let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
                   SELECT i, value AS directory_id FROM n CROSS JOIN json_each(:directories)";
        assert_eq!(export(&connection, sql).len(), 40_002);
        let head = Head {
            account: AccountId::new(123_456_789_012).expect("an id"),
            alias: String::new(),
            region: String::new(),
            at: Time(0),
        };
        let (mut calls, mut largest) = (0, 0);
        let mut sink = |piece: &[u8]| {
            calls += 1;
            largest = largest.max(piece.len());
            if calls == 3 { Err(Error::internal("the disk is full")) } else { Ok(()) }
        };
        assert!(write(&connection, &head, [Table { name: "n", sql }].iter(), &[1, 2], &mut sink).is_err());
        assert_eq!(calls, 3, "nothing is written after the error");
        assert!(largest < 2 * PIECE_BYTES);
    }
}
