-- owner: mfa
-- Authenticator apps (RFC 6238). Which kinds a user has stands in `user` too, in step with these rows.
CREATE TABLE totp_device (
    id           TEXT    PRIMARY KEY,
    user_id      TEXT    NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    name         TEXT    NOT NULL,
    -- The shared secret, sealed with the master key: codes are computed from it.
    secret       BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    -- NULL: shown to somebody who has not proved yet that their app has it. One such row per user.
    confirmed_at INTEGER,
    last_used_at INTEGER,
    -- The newest time step of which a code was accepted: no code works twice, and none that is older than an accepted one.
    last_step    INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE INDEX totp_device_of_user ON totp_device (user_id, created_at);
CREATE UNIQUE INDEX totp_device_unconfirmed ON totp_device (user_id) WHERE confirmed_at IS NULL;

-- Passkeys and security keys (WebAuthn).
CREATE TABLE passkey (
    -- The credential id that its authenticator gave it.
    credential_id BLOB    PRIMARY KEY CHECK (length(credential_id) BETWEEN 1 AND 1023),
    -- What pages and the audit log call it.
    id            TEXT    NOT NULL UNIQUE,
    user_id       TEXT    NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    name          TEXT    NOT NULL,
    -- The host name it was made for; under another one no browser offers it.
    rp_id         TEXT    NOT NULL,
    -- webauthn_rs::prelude::Passkey as JSON: a public key and a counter, nothing secret.
    credential    TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    last_used_at  INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX passkey_of_user ON passkey (user_id, created_at);

-- What an authenticator was asked to sign: worth one answer, within two minutes.
CREATE TABLE passkey_challenge (
    -- SHA-256 of the token that comes back with the answer.
    token_hash BLOB    PRIMARY KEY CHECK (length(token_hash) = 32),
    -- `register`, `factor`, or `discover`: a sign-in by somebody who has not said who they are.
    purpose    TEXT    NOT NULL CHECK (purpose IN ('register', 'factor', 'discover')),
    -- Whose; NULL for a discovery.
    user_id    TEXT    REFERENCES user (id) ON DELETE CASCADE,
    -- The library's state as JSON: the challenge and what it was for.
    state      TEXT    NOT NULL,
    expires_at INTEGER NOT NULL,
    CHECK ((purpose = 'discover') = (user_id IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX passkey_challenge_by_end ON passkey_challenge (expires_at);
-- How many are open is bounded for each user, and for all who have not said who they are.
CREATE INDEX passkey_challenge_of_user ON passkey_challenge (user_id, expires_at);

-- Codes for when every device is lost; each works once, and a new set takes the place of the old one.
CREATE TABLE recovery_code (
    user_id    TEXT    NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    -- HMAC-SHA-256 with a key that is not in the database.
    code_hash  BLOB    NOT NULL CHECK (length(code_hash) = 32),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, code_hash)
) STRICT, WITHOUT ROWID;

-- The present set: since when there is one, and when its owner said that it is stored.
CREATE TABLE recovery_set (
    user_id    TEXT    PRIMARY KEY REFERENCES user (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    stored_at  INTEGER
) STRICT, WITHOUT ROWID;

-- Wrong codes, counted before they are looked at. Kept for a day.
CREATE TABLE factor_attempt (
    id      INTEGER PRIMARY KEY,
    user_id TEXT    NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    -- 'code', or 'recovery'; from a browser that the user has come in with before: 'code:<SHA-256 of its token>'.
    counter TEXT    NOT NULL,
    at      INTEGER NOT NULL
) STRICT;

CREATE INDEX factor_attempt_of_user ON factor_attempt (user_id, counter, at);
CREATE INDEX factor_attempt_by_age  ON factor_attempt (at);
