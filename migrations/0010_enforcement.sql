-- owner: enforcement
-- What somebody asked for: one action on one or many identities. Rows stay as history when a directory is taken out.
CREATE TABLE enforcement_request (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id      INTEGER NOT NULL,
    -- connectors::act::Action.
    action          TEXT    NOT NULL,
    reason          TEXT    NOT NULL,
    -- Who asked: a URN; and the person behind it, who is never the one to approve it.
    requested_by    TEXT    NOT NULL,
    requester       TEXT    NOT NULL,
    requested_at    INTEGER NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN
                        ('awaiting-approval', 'running', 'successful', 'partially-successful', 'unsuccessful', 'cancelled')),
    -- Why another person has to approve it, as a sentence, and until when.
    waits_for       TEXT,
    expires_at      INTEGER,
    -- 'approved', 'declined', 'overridden', 'expired'.
    decision        TEXT,
    decided_by      TEXT,
    decided_at      INTEGER,
    decision_reason TEXT,
    -- When what was done is taken back by itself, and when that was over: taken back, or nothing left to take back.
    undo_at         INTEGER,
    undo_ended_at   INTEGER,
    -- The request whose tasks this one takes back.
    undo_of         INTEGER,
    finished_at     INTEGER
) STRICT;

CREATE INDEX request_of_account ON enforcement_request (account_id, id);
CREATE INDEX request_of_requester ON enforcement_request (account_id, requester, requested_at);
CREATE INDEX request_awaiting ON enforcement_request (account_id, expires_at) WHERE state = 'awaiting-approval';
CREATE INDEX request_expiring ON enforcement_request (expires_at) WHERE state = 'awaiting-approval';
CREATE INDEX request_time_boxed ON enforcement_request (undo_at) WHERE undo_at IS NOT NULL AND undo_ended_at IS NULL;
CREATE INDEX request_undoing ON enforcement_request (undo_of) WHERE undo_of IS NOT NULL;
CREATE INDEX request_overridden ON enforcement_request (account_id, decided_at) WHERE decision = 'overridden';

-- One action on one identity.
CREATE TABLE task (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id   INTEGER NOT NULL REFERENCES enforcement_request (id) ON DELETE CASCADE,
    account_id   INTEGER NOT NULL,
    directory_id INTEGER NOT NULL,
    identity_id  INTEGER NOT NULL,
    external_id  TEXT    NOT NULL,
    -- As they were when it was asked for, so that a list says whom it was about for ever.
    name         TEXT    NOT NULL,
    user_name    TEXT    NOT NULL,
    action       TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN
                     ('awaiting-approval', 'queued', 'sent', 'accepted', 'observed', 'unsuccessful', 'timed-out', 'refused',
                      'cancelled')),
    -- Why it is not done, or not done yet, and what to do: plain sentences.
    error        TEXT,
    -- What is said instead to whoever's role is for a part of the account, where the error names what may lie outside.
    error_in_part TEXT,
    next_step    TEXT,
    -- connectors::act::Standing as JSON: before anything was sent, and as it was read back.
    before       TEXT,
    after        TEXT,
    -- Nothing had to be sent: the directory said so already.
    was_so       INTEGER NOT NULL DEFAULT 0 CHECK (was_so IN (0, 1)),
    -- Whether taking it back would bring anything back: not where the account was out of use before.
    can_undo     INTEGER NOT NULL DEFAULT 1 CHECK (can_undo IN (0, 1)),
    attempts     INTEGER NOT NULL DEFAULT 0,
    -- When it is looked at next, and until when it is tried; NULL while it waits for a person, and once it is over.
    due_at       INTEGER,
    give_up_at   INTEGER,
    sent_at      INTEGER,
    accepted_at  INTEGER,
    observed_at  INTEGER,
    finished_at  INTEGER,
    -- The task that this one takes back.
    inverse_of   INTEGER,
    -- Somebody changed it afterwards, outside of this appliance: when that was found, and what, as a sentence.
    drift_at     INTEGER,
    drift        TEXT
) STRICT;

CREATE INDEX task_of_request ON task (request_id, id);
CREATE INDEX task_of_identity ON task (identity_id, id);
CREATE INDEX task_of_account ON task (account_id, id);
CREATE INDEX task_due ON task (due_at, directory_id) WHERE due_at IS NOT NULL;
-- What was to be taken back and was refused stands, though nobody wants it any more.
CREATE INDEX task_failed ON task (account_id, finished_at)
    WHERE state IN ('unsuccessful', 'timed-out') OR (state = 'refused' AND inverse_of IS NOT NULL);
CREATE INDEX task_drifted ON task (account_id, drift_at) WHERE drift_at IS NOT NULL;
-- What stands as far as is known; somebody else may change it.
CREATE INDEX task_watched ON task (directory_id, observed_at)
    WHERE state = 'observed' AND was_so = 0 AND drift_at IS NULL;

-- Whom nobody acts on: an identity, the members of a group, or everything below a DN.
CREATE TABLE protection (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id   INTEGER NOT NULL,
    kind         TEXT    NOT NULL CHECK (kind IN ('identity', 'group', 'unit')),
    directory_id INTEGER NOT NULL,
    -- Of an identity or a group.
    object_id    INTEGER,
    -- Of a unit: its DN, normalised.
    dn           TEXT,
    -- As shown: a name, or the DN as it was written.
    name         TEXT    NOT NULL,
    note         TEXT    NOT NULL,
    created_by   TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    -- Off the list since then; kept, because it is news for a while that somebody may be acted on again.
    removed_by   TEXT,
    removed_at   INTEGER,
    CHECK ((kind = 'unit') = (object_id IS NULL) AND (kind = 'unit') = (dn IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX protection_of_object ON protection (account_id, object_id) WHERE object_id IS NOT NULL AND removed_at IS NULL;
CREATE UNIQUE INDEX protection_of_unit ON protection (account_id, directory_id, dn) WHERE dn IS NOT NULL AND removed_at IS NULL;
CREATE INDEX protection_removed ON protection (account_id, removed_at) WHERE removed_at IS NOT NULL;

-- When a second person is needed.
CREATE TABLE two_person_rule (
    account_id     INTEGER PRIMARY KEY,
    -- Requests over more identities than this; NULL: however many.
    above_count    INTEGER,
    -- Requests with a privileged identity among them.
    for_privileged INTEGER NOT NULL CHECK (for_privileged IN (0, 1)),
    updated_at     INTEGER NOT NULL,
    -- When it was last made to ask for less, and by whom.
    loosened_by    TEXT,
    loosened_at    INTEGER
) STRICT;

-- Up to which applied run of a directory it was looked for changes by others.
CREATE TABLE drift_mark (
    directory_id INTEGER PRIMARY KEY,
    run_id       INTEGER NOT NULL
) STRICT;
