-- owner: invitations
CREATE TABLE invitation (
    -- UUIDv7: the newest sorts last.
    id            TEXT    PRIMARY KEY,
    account_id    INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    email         TEXT    NOT NULL,
    -- users::fold_email: what is compared.
    email_folded  TEXT    NOT NULL,
    role_id       TEXT    NOT NULL,
    -- An invitation whose time is over counts as expired before the job has written so.
    state         TEXT    NOT NULL CHECK (state IN ('invited', 'accepted', 'rejected', 'revoked', 'expired')),
    -- SHA-256 of the present link's token; an older link's is gone. Kept after the end: the log says which link was tried.
    token_hash    BLOB    NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    -- The present link went to the address itself, so whoever opens it reads mail there.
    is_mailed     INTEGER NOT NULL CHECK (is_mailed IN (0, 1)),
    -- Who made it: URN, and the name of then.
    invited_by    TEXT    NOT NULL,
    inviter_name  TEXT    NOT NULL,
    -- The member it hangs on, also by way of a key that they answer for: it lets nobody in when they may not give its role any
    -- more. NULL: it was made by a key that nobody answers for.
    inviter_id    TEXT,
    lifetime_days INTEGER NOT NULL CHECK (lifetime_days BETWEEN 1 AND 30),
    created_at    INTEGER NOT NULL,
    last_sent_at  INTEGER NOT NULL,
    sent_count    INTEGER NOT NULL CHECK (sent_count > 0),
    expires_at    INTEGER NOT NULL,
    ended_at      INTEGER,
    accepted_by   TEXT,
    -- Refused attempts that are on the record: an old link must not fill the log.
    refusals      INTEGER NOT NULL DEFAULT 0,
    CHECK ((state = 'invited') = (ended_at IS NULL)),
    CHECK ((state = 'accepted') = (accepted_by IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX invitation_by_account ON invitation (account_id, id);
-- One at a time for an address.
CREATE UNIQUE INDEX invitation_open ON invitation (account_id, email_folded) WHERE state = 'invited';
CREATE INDEX invitation_open_by_inviter ON invitation (account_id, inviter_id) WHERE state = 'invited';
CREATE INDEX invitation_open_by_role ON invitation (account_id, role_id) WHERE state = 'invited';
CREATE INDEX invitation_open_by_end ON invitation (expires_at) WHERE state = 'invited';

-- What was sent within the last hour, so that nobody makes the appliance send mail without end.
CREATE TABLE invitation_sending (
    -- '<account>/<person>': a person and the keys they made are one.
    sender  TEXT    NOT NULL,
    sent_at INTEGER NOT NULL
) STRICT;

CREATE INDEX invitation_sending_by_sender ON invitation_sending (sender, sent_at);
CREATE INDEX invitation_sending_by_age ON invitation_sending (sent_at);
