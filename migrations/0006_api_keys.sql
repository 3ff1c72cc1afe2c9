-- owner: api_keys
CREATE TABLE api_key (
    id               TEXT    PRIMARY KEY,
    account_id       INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    alias            TEXT    NOT NULL,
    description      TEXT    NOT NULL DEFAULT '',
    locale           TEXT    NOT NULL DEFAULT 'en',
    -- IANA name; empty: UTC.
    time_zone        TEXT    NOT NULL DEFAULT '',
    role_id          TEXT    NOT NULL,
    -- Whether it may change users, roles, keys and identity providers where its role says so: `if-allowed` while the
    -- account's setting lets its keys, `always` when that was said on the machine itself.
    administers      TEXT    NOT NULL DEFAULT 'no' CHECK (administers IN ('no', 'if-allowed', 'always')),
    -- SHA-256 of a secret of 256 random bits; it needs no slow hash (HOSTILE §4, API keys).
    secret_hash      BLOB    NOT NULL CHECK (length(secret_hash) = 32),
    -- The first characters behind `bwk_`, so that people can tell which secret they found.
    secret_start     TEXT    NOT NULL CHECK (length(secret_start) = 4),
    -- The person who was shown it: a user's id, or an id of their own for those who were nobody known.
    shown_to         TEXT    NOT NULL,
    -- The secret before this one; it works until previous_ends_at.
    previous_hash     BLOB   CHECK (length(previous_hash) = 32),
    previous_start    TEXT   CHECK (length(previous_start) = 4),
    previous_shown_to TEXT,
    previous_ends_at  INTEGER,
    previous_used_at  INTEGER,
    is_enabled       INTEGER NOT NULL DEFAULT 1 CHECK (is_enabled IN (0, 1)),
    -- JSON arrays of addresses and networks; both empty means from anywhere.
    allowed_ips      TEXT    NOT NULL DEFAULT '[]',
    allowed_cidrs    TEXT    NOT NULL DEFAULT '[]',
    created_at       INTEGER NOT NULL,
    -- The user who made it, also by way of another key; NULL: made at the command line.
    made_by          TEXT,
    -- The user without whom it does not work; NULL: it needs none.
    answered_by      TEXT,
    -- NULL: never.
    expires_at       INTEGER,
    -- The last warning about this expiry, in days before it; NULL: none yet.
    warned_days      INTEGER,
    last_activity_at INTEGER,
    last_address     TEXT,
    UNIQUE (account_id, alias),
    CHECK ((previous_hash IS NULL) = (previous_ends_at IS NULL)
           AND (previous_hash IS NULL) = (previous_start IS NULL)
           AND (previous_hash IS NULL) = (previous_shown_to IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX api_key_by_account ON api_key (account_id, id);
CREATE INDEX api_key_by_role ON api_key (account_id, role_id);
CREATE INDEX api_key_by_answerer ON api_key (account_id, answered_by);
CREATE INDEX api_key_by_expiry ON api_key (expires_at) WHERE expires_at IS NOT NULL;

-- What an account lets all of its keys; no row: nothing.
CREATE TABLE api_key_setting (
    account_id     INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    may_administer INTEGER NOT NULL CHECK (may_administer IN (0, 1))
) STRICT;
