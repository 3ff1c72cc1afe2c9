-- owner: sign_in
-- Failed sign-ins, counted before any password work: per user (subject 'user:<folded e-mail hash>') and per address
-- (subject 'address:<ip or /64>').
CREATE TABLE sign_in_attempt (
    subject       TEXT    PRIMARY KEY,
    failures      INTEGER NOT NULL,
    first_at      INTEGER NOT NULL,
    last_at       INTEGER NOT NULL,
    blocked_until INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE INDEX sign_in_attempt_by_age ON sign_in_attempt (last_at);

-- Browsers from which a user has signed in before: a flood of wrong guesses from elsewhere does not keep them out.
CREATE TABLE known_browser (
    token_hash BLOB    PRIMARY KEY CHECK (length(token_hash) = 32),
    user_id    TEXT    NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX known_browser_by_user ON known_browser (user_id);
