-- owner: users
CREATE TABLE user (
    id                  TEXT    PRIMARY KEY,
    email               TEXT    NOT NULL,
    -- Lower-cased; what must be unique.
    email_folded        TEXT    NOT NULL UNIQUE,
    name                TEXT    NOT NULL,
    locale              TEXT    NOT NULL DEFAULT 'en',
    -- IANA name; empty means the browser's.
    time_zone           TEXT    NOT NULL DEFAULT '',
    theme               TEXT    NOT NULL DEFAULT 'auto' CHECK (theme IN ('auto', 'light', 'dark')),
    -- argon2id, PHC string.
    password_hash       TEXT    NOT NULL,
    password_changed_at INTEGER NOT NULL,
    state               TEXT    NOT NULL CHECK (state IN ('enabled', 'disabled')),
    -- The appliance's owner: its own settings, and accounts beyond anybody's number.
    is_owner            INTEGER NOT NULL DEFAULT 0 CHECK (is_owner IN (0, 1)),
    -- When a link sent to this address was opened.
    email_verified_at   INTEGER,
    -- Which kinds of second factor they have enrolled, and whether they have to enrol one before they come in anywhere.
    has_totp            INTEGER NOT NULL DEFAULT 0 CHECK (has_totp IN (0, 1)),
    has_passkey         INTEGER NOT NULL DEFAULT 0 CHECK (has_passkey IN (0, 1)),
    must_enrol          INTEGER NOT NULL DEFAULT 0 CHECK (must_enrol IN (0, 1)),
    created_at          INTEGER NOT NULL,
    last_sign_in_at     INTEGER,
    CHECK (must_enrol = 0 OR has_totp + has_passkey = 0)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX user_owner ON user (is_owner) WHERE is_owner = 1;

CREATE TABLE membership (
    user_id    TEXT    NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    role_id    TEXT    NOT NULL,
    -- In this account: a user is global, and no account may keep them out of another one.
    state      TEXT    NOT NULL DEFAULT 'enabled' CHECK (state IN ('enabled', 'disabled')),
    created_at INTEGER NOT NULL,
    last_active_at INTEGER,
    PRIMARY KEY (user_id, account_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX membership_by_account ON membership (account_id, user_id);
CREATE INDEX membership_by_role ON membership (account_id, role_id, user_id);

-- Links that prove an address or stand in for a forgotten password: each works once.
CREATE TABLE user_token (
    -- SHA-256 of what stands in the link.
    token_hash BLOB    PRIMARY KEY CHECK (length(token_hash) = 32),
    user_id    TEXT    NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    purpose    TEXT    NOT NULL CHECK (purpose IN ('verify-email', 'reset-password')),
    -- The address that it is about, which for a change is not the user's yet.
    email      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- In which account it was handed over. NULL: it was mailed, so whoever has it reads what is sent to that address.
    account_id INTEGER,
    -- The member it hangs on then; NULL: a key that needs nobody.
    made_by    TEXT,
    CHECK (made_by IS NULL OR account_id IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX user_token_of_user ON user_token (user_id, purpose, created_at);
CREATE INDEX user_token_by_end ON user_token (expires_at);

-- How long a password has to be at least, if the owner of the appliance has changed it. One row at most.
CREATE TABLE password_rule (
    id                    INTEGER PRIMARY KEY CHECK (id = 1),
    -- Characters, without and with a second factor (NIST SP 800-63B-4 section 3.1.1.2: never below 15 and 8).
    chars_min             INTEGER NOT NULL CHECK (chars_min BETWEEN 15 AND 64),
    chars_min_with_factor INTEGER NOT NULL CHECK (chars_min_with_factor BETWEEN 8 AND 64),
    updated_at            INTEGER NOT NULL
) STRICT;
