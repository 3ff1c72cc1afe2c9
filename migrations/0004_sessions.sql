-- owner: sessions
CREATE TABLE session (
    -- SHA-256 of the cookie's token: the table cannot be used to sign in.
    token_hash   BLOB    PRIMARY KEY CHECK (length(token_hash) = 32),
    -- What lists and the audit log call it.
    id           TEXT    NOT NULL UNIQUE,
    user_id      TEXT    NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    account_id   INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    -- When its user said who they are, and how.
    created_at   INTEGER NOT NULL,
    method       TEXT    NOT NULL
                 CHECK (method IN ('password', 'directory', 'passkey', 'set-up', 'invitation')),
    -- The second factor that was proved last, and when.
    factor       TEXT    CHECK (factor IN ('totp', 'passkey')),
    factor_at    INTEGER,
    -- When they last proved again that it is them, by whatever they have.
    proved_at    INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    address      TEXT    NOT NULL,
    user_agent   TEXT    NOT NULL,
    CHECK ((factor IS NULL) = (factor_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX session_by_account ON session (account_id);
CREATE INDEX session_by_user  ON session (user_id, created_at);
CREATE INDEX session_by_start ON session (created_at);
CREATE INDEX session_by_use   ON session (last_seen_at);

-- Sign-ins on their way: who it is has been said, what the account asks for has not been proved yet. Nothing can be reached
-- with one but the steps that are missing.
CREATE TABLE journey (
    -- SHA-256 of the cookie's token.
    token_hash   BLOB    PRIMARY KEY CHECK (length(token_hash) = 32),
    user_id      TEXT    NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    -- Where it leads.
    account_id   INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    -- The session that it goes on from; it dies with that one. NULL: a sign-in.
    session_id   TEXT    REFERENCES session (id) ON DELETE CASCADE,
    proved_at    INTEGER NOT NULL,
    method       TEXT    NOT NULL
                 CHECK (method IN ('password', 'directory', 'passkey', 'set-up', 'invitation')),
    factor       TEXT    CHECK (factor IN ('totp', 'passkey')),
    factor_at    INTEGER,
    -- The page to go to in the end, sealed: an invitation's link stands in it.
    next         BLOB    NOT NULL,
    expires_at   INTEGER NOT NULL,
    CHECK ((factor IS NULL) = (factor_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX journey_of_user    ON journey (user_id, expires_at);
CREATE INDEX journey_of_account ON journey (account_id);
CREATE INDEX journey_of_session ON journey (session_id);
CREATE INDEX journey_by_end     ON journey (expires_at);
