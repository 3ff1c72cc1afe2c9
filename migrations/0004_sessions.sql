-- owner: sessions
CREATE TABLE session (
    -- SHA-256 of the cookie's token: the table cannot be used to sign in.
    token_hash   BLOB    PRIMARY KEY CHECK (length(token_hash) = 32),
    id           TEXT    NOT NULL UNIQUE,
    user_id      TEXT    NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    account_id   INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    created_at   INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    address      TEXT,
    user_agent   TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX session_by_user ON session (user_id, last_seen_at);
CREATE INDEX session_by_age  ON session (created_at);
