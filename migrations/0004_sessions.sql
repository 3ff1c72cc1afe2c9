-- owner: sessions
CREATE TABLE session (
    -- SHA-256 of the cookie's token: the table cannot be used to sign in.
    token_hash   BLOB    PRIMARY KEY CHECK (length(token_hash) = 32),
    -- What lists and the audit log call it.
    id           TEXT    NOT NULL UNIQUE,
    user_id      TEXT    NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    account_id   INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    created_at   INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    address      TEXT    NOT NULL,
    user_agent   TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX session_by_account ON session (account_id);
CREATE INDEX session_by_user  ON session (user_id, created_at);
CREATE INDEX session_by_start ON session (created_at);
CREATE INDEX session_by_use   ON session (last_seen_at);
