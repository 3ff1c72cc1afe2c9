-- owner: accounts
-- The installation itself: one row. key_check is a sealed constant, so that a wrong master key is noticed at start.
CREATE TABLE appliance (
    id                INTEGER PRIMARY KEY CHECK (id = 1),
    region            TEXT    NOT NULL,
    key_check         BLOB    NOT NULL,
    -- SHA-256 of the one-time set-up link's token; only while there is no account.
    setup_token_hash  BLOB    CHECK (length(setup_token_hash) = 32),
    setup_expires_at  INTEGER,
    created_at        INTEGER NOT NULL,
    CHECK ((setup_token_hash IS NULL) = (setup_expires_at IS NULL))
) STRICT;

CREATE TABLE account (
    id              INTEGER PRIMARY KEY CHECK (id BETWEEN 100000000000 AND 999999999999),
    alias           TEXT    NOT NULL UNIQUE,
    region          TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('active', 'suspended')),
    is_mfa_required INTEGER NOT NULL DEFAULT 0 CHECK (is_mfa_required IN (0, 1)),
    -- How long the past of its directories can be looked at; what is older is deleted daily.
    history_days    INTEGER NOT NULL DEFAULT 400 CHECK (history_days BETWEEN 30 AND 3650),
    created_at      INTEGER NOT NULL
) STRICT;
