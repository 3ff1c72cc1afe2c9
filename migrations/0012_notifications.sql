-- owner: notifications
-- How people reach the console, where the configuration does not say so: one row, or none. Every link in a mail and
-- every link to be copied begins with it.
CREATE TABLE console_address (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    -- Scheme, host and port, without a slash at the end.
    base_url   TEXT    NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- The server that takes our mails: one row for the whole appliance, or none while no mail is sent.
CREATE TABLE mail_server (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    host         TEXT    NOT NULL,
    port         INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
    -- 'tls' from the first byte, 'starttls' and nothing without it, 'none' as was explicitly accepted.
    security     TEXT    NOT NULL CHECK (security IN ('tls', 'starttls', 'none')),
    -- Empty: nobody signs in.
    user_name    TEXT    NOT NULL,
    -- Sealed with the master key for this place.
    password     BLOB,
    from_address TEXT    NOT NULL,
    from_name    TEXT    NOT NULL,
    reply_to     TEXT    NOT NULL,
    -- Empty: the system's authorities.
    ca_pem       TEXT    NOT NULL,
    updated_at   INTEGER NOT NULL,
    CHECK ((user_name = '') = (password IS NULL))
) STRICT;

-- Mails on their way: written in the transaction of what they tell, sent at least once.
CREATE TABLE mail_outbox (
    -- Also the Message-ID, so that a mail that was sent twice is known as one.
    id          TEXT    PRIMARY KEY,
    kind        TEXT    NOT NULL,
    -- Sealed with the master key for 'mail_outbox:recipient:<id>'.
    recipient   BLOB    NOT NULL,
    -- Subject and bodies, sealed for 'mail_outbox:content:<id>': whoever has a copy of this file must not have the links that
    -- are on their way. NULL once the mail was sent, and once it was given up if there is a secret (a link) in it.
    content     BLOB,
    has_secret  INTEGER NOT NULL CHECK (has_secret IN (0, 1)),
    state       TEXT    NOT NULL CHECK (state IN ('queued', 'sent', 'failed')),
    created_at  INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    -- Not tried any more from then on; never later than what it says stops being true.
    give_up_at  INTEGER NOT NULL,
    -- What it says stops being true then (a link that expires); NULL: it stays true.
    expires_at  INTEGER,
    attempts    INTEGER NOT NULL DEFAULT 0,
    -- Why the last attempt did not succeed, and what to do: sentences.
    error       TEXT,
    next_step   TEXT,
    ended_at    INTEGER,
    CHECK ((state = 'queued') = (ended_at IS NULL)),
    CHECK (state <> 'queued' OR content IS NOT NULL),
    CHECK (state <> 'sent' OR content IS NULL),
    CHECK (state <> 'failed' OR has_secret = 0 OR content IS NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX mail_due ON mail_outbox (due_at) WHERE state = 'queued';
CREATE INDEX mail_given_up ON mail_outbox (give_up_at) WHERE state = 'queued';
CREATE INDEX mail_failed ON mail_outbox (ended_at) WHERE state = 'failed';
CREATE INDEX mail_ended ON mail_outbox (ended_at) WHERE state <> 'queued';
