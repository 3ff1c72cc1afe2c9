-- owner: audit
-- One chain of records for the whole appliance: each row's hash covers the row and the hash before it.
CREATE TABLE audit_record (
    seq           INTEGER PRIMARY KEY CHECK (seq > 0),
    id            TEXT    NOT NULL UNIQUE,
    at            INTEGER NOT NULL,
    type          TEXT    NOT NULL CHECK (type LIKE 'audit.%.v%'),
    account_id    INTEGER,
    principal_urn TEXT    NOT NULL,
    subject_urn   TEXT,
    address       TEXT,
    request_id    TEXT,
    result        TEXT    NOT NULL CHECK (result IN ('success', 'failure', 'denied')),
    details       TEXT    NOT NULL,
    prev_hash     BLOB    NOT NULL CHECK (length(prev_hash) = 32),
    hash          BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE INDEX audit_by_account   ON audit_record (account_id, seq);
CREATE INDEX audit_by_time      ON audit_record (account_id, at, seq);
CREATE INDEX audit_by_type      ON audit_record (account_id, type, seq);
CREATE INDEX audit_by_principal ON audit_record (account_id, principal_urn, seq);
CREATE INDEX audit_by_subject   ON audit_record (account_id, subject_urn, seq) WHERE subject_urn IS NOT NULL;
CREATE INDEX audit_by_result    ON audit_record (account_id, result, seq) WHERE result <> 'success';

-- The newest record, under the master key: cutting the tail off the table shows.
CREATE TABLE audit_head (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    seq  INTEGER NOT NULL,
    hash BLOB    NOT NULL CHECK (length(hash) = 32),
    mac  BLOB    NOT NULL CHECK (length(mac) = 32)
) STRICT;
