-- owner: sign_in
-- Sign-in attempts, counted before any password work. A subject is 'user:<SHA-256 of the folded e-mail>',
-- 'browser:<SHA-256 of a known browser''s token>', 'address:<IPv4 or IPv6 /64>' or 'everywhere'.
CREATE TABLE sign_in_attempt (
    subject       TEXT    PRIMARY KEY,
    -- In the present window.
    attempts      INTEGER NOT NULL,
    window_at     INTEGER NOT NULL,
    -- Windows that were used up one after the other: each makes the next pause longer.
    rounds        INTEGER NOT NULL,
    blocked_until INTEGER NOT NULL,
    last_at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sign_in_attempt_by_age ON sign_in_attempt (last_at);

-- Browsers from which a user has signed in before: a flood of wrong guesses from elsewhere does not keep them out.
CREATE TABLE known_browser (
    token_hash BLOB    PRIMARY KEY CHECK (length(token_hash) = 32),
    user_id    TEXT    NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX known_browser_by_user ON known_browser (user_id, created_at);
CREATE INDEX known_browser_by_end  ON known_browser (expires_at);
