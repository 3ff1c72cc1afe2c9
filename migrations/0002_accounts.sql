-- owner: accounts
-- The installation itself: one row. key_check is a sealed constant, so that a wrong master key is noticed at start.
CREATE TABLE appliance (
    id                INTEGER PRIMARY KEY CHECK (id = 1),
    region            TEXT    NOT NULL,
    key_check         BLOB    NOT NULL,
    -- SHA-256 of the one-time set-up link's token; only while there is no account.
    setup_token_hash  BLOB    CHECK (length(setup_token_hash) = 32),
    setup_expires_at  INTEGER,
    -- How many accounts a user other than the owner may have made; 0: none.
    accounts_per_user INTEGER NOT NULL DEFAULT 2 CHECK (accounts_per_user BETWEEN 0 AND 100),
    created_at        INTEGER NOT NULL,
    CHECK ((setup_token_hash IS NULL) = (setup_expires_at IS NULL))
) STRICT;

CREATE TABLE account (
    id              INTEGER PRIMARY KEY CHECK (id BETWEEN 100000000000 AND 999999999999),
    alias           TEXT    NOT NULL UNIQUE,
    region          TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('active', 'suspended')),
    -- What everybody who comes in has to prove beyond their password.
    mfa_rule        TEXT    NOT NULL DEFAULT 'optional' CHECK (mfa_rule IN ('optional', 'required', 'passkey-only')),
    -- Of notices to the account, and what new users of it begin with. IANA name; empty: UTC.
    locale          TEXT    NOT NULL DEFAULT 'en',
    time_zone       TEXT    NOT NULL DEFAULT '',
    -- A session in this account ends so long after its last use, and so long after it began.
    session_idle_minutes INTEGER NOT NULL DEFAULT 30 CHECK (session_idle_minutes BETWEEN 5 AND 480),
    session_max_hours    INTEGER NOT NULL DEFAULT 12 CHECK (session_max_hours BETWEEN 1 AND 24),
    -- How long the past of its directories can be looked at; what is older is deleted daily.
    history_days    INTEGER NOT NULL DEFAULT 400 CHECK (history_days BETWEEN 30 AND 3650),
    created_at      INTEGER NOT NULL,
    -- The user who made it; NULL: the command line.
    created_by      TEXT,
    -- Since when and by whom (a URN) it is suspended, and when it goes for good; NULL: it was suspended to stay.
    suspended_at    INTEGER,
    suspended_by    TEXT,
    purge_at        INTEGER,
    -- When somebody asked the owner to bring it back, and who: a user's URN.
    restore_asked_at INTEGER,
    restore_asked_by TEXT,
    -- What it owns is being deleted: from the first piece on it cannot be brought back.
    is_purging       INTEGER NOT NULL DEFAULT 0 CHECK (is_purging IN (0, 1)),
    CHECK ((state = 'suspended') = (suspended_at IS NOT NULL)),
    CHECK (purge_at IS NULL OR suspended_at IS NOT NULL),
    CHECK (is_purging = 0 OR purge_at IS NOT NULL)
) STRICT;

CREATE INDEX account_by_maker ON account (created_by) WHERE created_by IS NOT NULL;
CREATE INDEX account_suspended ON account (purge_at) WHERE state = 'suspended';
