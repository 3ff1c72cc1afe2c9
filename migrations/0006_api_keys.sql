-- owner: api_keys
CREATE TABLE api_key (
    id               TEXT    PRIMARY KEY,
    account_id       INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    alias            TEXT    NOT NULL,
    description      TEXT    NOT NULL DEFAULT '',
    role_id          TEXT    NOT NULL,
    -- SHA-256 of a secret of 256 random bits; it needs no slow hash (HOSTILE §4, API keys).
    secret_hash      BLOB    NOT NULL CHECK (length(secret_hash) = 32),
    is_enabled       INTEGER NOT NULL DEFAULT 1 CHECK (is_enabled IN (0, 1)),
    -- JSON arrays of addresses and networks; both empty means from anywhere.
    allowed_ips      TEXT    NOT NULL DEFAULT '[]',
    allowed_cidrs    TEXT    NOT NULL DEFAULT '[]',
    created_at       INTEGER NOT NULL,
    -- The user who made it, also by way of another key; NULL: made at the command line.
    made_by          TEXT,
    -- NULL: never.
    expires_at       INTEGER,
    last_activity_at INTEGER,
    last_address     TEXT,
    UNIQUE (account_id, alias)
) STRICT, WITHOUT ROWID;

CREATE INDEX api_key_by_account ON api_key (account_id, id);
CREATE INDEX api_key_by_role ON api_key (account_id, role_id);
