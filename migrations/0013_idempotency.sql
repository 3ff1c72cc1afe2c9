-- owner: web
-- Requests that carried an Idempotency-Key, for 24 hours: what was asked (as a keyed hash) and what was answered (sealed).
CREATE TABLE idempotency_key (
    -- SHA-256 of the principal's URN and the key.
    id           BLOB    PRIMARY KEY CHECK (length(id) = 32),
    principal    TEXT    NOT NULL,
    -- Keyed hash of method, path and body: the body may hold a password.
    request      BLOB    NOT NULL CHECK (length(request) = 32),
    created_at   INTEGER NOT NULL,
    -- When it was last begun.
    began_at     INTEGER NOT NULL,
    -- Something was changed by it: set in the transaction of that change, so that it is never done twice.
    has_changed  INTEGER NOT NULL DEFAULT 0 CHECK (has_changed IN (0, 1)),
    -- Status, headers and body; null until there is one.
    answer       BLOB,
    answer_bytes INTEGER NOT NULL DEFAULT 0 CHECK (answer_bytes >= 0)
) STRICT;

CREATE INDEX idempotency_key_by_principal ON idempotency_key (principal, created_at, answer_bytes);
CREATE INDEX idempotency_key_by_age       ON idempotency_key (created_at);
