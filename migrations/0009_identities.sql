-- owner: identities
-- One number space for identities, groups and references, handed out in blocks: a plan names its new objects
-- before they exist.
CREATE TABLE object_number (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    next INTEGER NOT NULL
) STRICT;
INSERT INTO object_number (id, next) VALUES (1, 1);

-- What a run looks at for every object it sees, and nothing else: narrow, so that a million of them are walked in a
-- moment. No foreign key here and below: a run writes these by the hundred thousand, and `forget_directory` clears them.
CREATE TABLE object (
    -- Of the identity or group.
    id           INTEGER PRIMARY KEY,
    directory_id INTEGER NOT NULL,
    -- 1 identity, 2 group (identities::SubjectType).
    kind         INTEGER NOT NULL,
    external_id  TEXT    NOT NULL,
    -- connectors::Source: equal means that the directory sent the same as last time.
    source       BLOB    NOT NULL,
    -- 0 present, 1 missing, 2 removed.
    gone         INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Few rows: which objects of a directory are groups, for the way down through groups in groups.
CREATE INDEX object_of_groups ON object (directory_id, gone) WHERE kind = 2;

-- What an object is looked up by: its external id, and the names by which others refer to it (connectors::Key), each as a
-- hash. A table of its own, because hashes come in no order: the first plan of a directory writes them sorted, by the
-- hundred thousand, where an index of `object` or `identity` would be touched all over for every row.
CREATE TABLE handle (
    -- The first and the last 64 bits.
    head         INTEGER NOT NULL,
    rest         INTEGER NOT NULL,
    object_id    INTEGER NOT NULL,
    directory_id INTEGER NOT NULL,
    -- As in `object`: a group has up to a million members, and what a name leads to is asked for each.
    gone         INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (head, rest, object_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE identity (
    id               INTEGER PRIMARY KEY,
    directory_id     INTEGER NOT NULL,
    external_id      TEXT    NOT NULL,
    -- What other objects refer to it by (connectors::Key); `handle` has the way back.
    dn_key           BLOB,
    name_key         BLOB,
    user_name        TEXT    NOT NULL,
    display_name     TEXT,
    mail             TEXT,
    -- Folded display name or user name: the order of every list.
    sort_key         TEXT    NOT NULL,
    status           TEXT    NOT NULL,
    -- 0 user, 1 computer, 2 managed service account (connectors::AccountType).
    account_type     INTEGER NOT NULL DEFAULT 0,
    -- Privileged by itself and not through a group: the account that a domain begins with.
    is_privileged    INTEGER NOT NULL DEFAULT 0,
    -- connectors::IdentityFields as JSON.
    fields           TEXT    NOT NULL,
    first_seen_at    INTEGER NOT NULL,
    changed_at       INTEGER NOT NULL,
    -- Since when sort_key, status and the two below are as they are; how they were before stands in `past`.
    listed_since_at  INTEGER NOT NULL,
    missing_since_at INTEGER,
    -- A tombstone: not in any list, but its number, external id and history stay.
    removed_at       INTEGER
) STRICT;

-- Lists over several directories merge these, so that what a person may not see is never walked over.
-- Lists as of a time pass by what stood elsewhere then without reading its row; for that, SQLite wants removed_at too.
-- Computers are passed by in the index too, where only users are wanted.
CREATE INDEX identity_by_directory ON identity (directory_id, sort_key, id, listed_since_at, removed_at, account_type)
    WHERE removed_at IS NULL;
-- Few rows, because nearly all are active and there.
CREATE INDEX identity_by_directory_status ON identity (directory_id, status, sort_key, id, account_type)
    WHERE removed_at IS NULL AND status <> 'active';
CREATE INDEX identity_missing_in_directory ON identity (directory_id, sort_key, id)
    WHERE removed_at IS NULL AND missing_since_at IS NOT NULL;
-- None at all where only people are read.
CREATE INDEX identity_not_user ON identity (directory_id, sort_key, id) WHERE removed_at IS NULL AND account_type <> 0;
CREATE INDEX identity_privileged ON identity (directory_id) WHERE is_privileged = 1;

-- The words of name, user name, mail addresses and employee id, folded, for substring search (identities::fold says
-- how they are written); rowid is identity.id. Directory and status stand beside them, three characters each, which is
-- one trigram: so a common word in another account or status is skipped over instead of read.
CREATE VIRTUAL TABLE identity_text USING fts5 (text, directory, status, content='', contentless_delete=1, tokenize='trigram');
-- Bytes gathered before a piece of the index is written: a run writes few large pieces instead of many to be merged.
INSERT INTO identity_text (identity_text, rank) VALUES ('hashsize', 8388608);
-- Old words go when their part of the index is merged in its turn. By default a part is merged at once, whole, as soon as
-- a tenth of it is old: a run that changes every name then stops all writing for most of a second again and again
-- (measured with 60,000 rows, for 700 ms at a time and 5 s in all, instead of 0.6 s).
INSERT INTO identity_text (identity_text, rank) VALUES ('deletemerge', 0);
-- Nor are parts merged in the middle of a commit, where that takes as long as it takes: a run does it itself, in steps
-- (identities::write::merge_search_texts).
INSERT INTO identity_text (identity_text, rank) VALUES ('automerge', 0);
INSERT INTO identity_text (identity_text, rank) VALUES ('crisismerge', 1999);
INSERT INTO identity_text (identity_text, rank) VALUES ('usermerge', 16);

CREATE TABLE directory_group (
    id               INTEGER PRIMARY KEY,
    directory_id     INTEGER NOT NULL,
    external_id      TEXT    NOT NULL,
    dn_key           BLOB,
    member_count     INTEGER NOT NULL,
    name             TEXT    NOT NULL,
    description      TEXT,
    sort_key         TEXT    NOT NULL,
    -- Its members are privileged (connectors::GroupFields says under which name).
    is_privileged    INTEGER NOT NULL DEFAULT 0,
    -- connectors::GroupFields as JSON.
    fields           TEXT    NOT NULL,
    first_seen_at    INTEGER NOT NULL,
    changed_at       INTEGER NOT NULL,
    listed_since_at  INTEGER NOT NULL,
    missing_since_at INTEGER,
    removed_at       INTEGER
) STRICT;

CREATE INDEX group_by_directory ON directory_group (directory_id, sort_key, id, listed_since_at, removed_at) WHERE removed_at IS NULL;
CREATE INDEX group_privileged ON directory_group (directory_id) WHERE is_privileged = 1;
CREATE INDEX group_missing_in_directory ON directory_group (directory_id, sort_key, id)
    WHERE removed_at IS NULL AND missing_since_at IS NOT NULL;

CREATE VIRTUAL TABLE group_text USING fts5 (text, directory, content='', contentless_delete=1, tokenize='trigram');
INSERT INTO group_text (group_text, rank) VALUES ('deletemerge', 0);
INSERT INTO group_text (group_text, rank) VALUES ('automerge', 0);
INSERT INTO group_text (group_text, rank) VALUES ('crisismerge', 1999);
INSERT INTO group_text (group_text, rank) VALUES ('usermerge', 16);

-- How an object stood in the lists before it stood there as it does now: what lists as of a time are made of. Its
-- other fields are found by undoing changes.
CREATE TABLE past (
    object_id        INTEGER NOT NULL,
    until_at         INTEGER NOT NULL,
    since_at         INTEGER NOT NULL,
    directory_id     INTEGER NOT NULL,
    kind             INTEGER NOT NULL,
    sort_key         TEXT    NOT NULL,
    -- Of an identity.
    status           TEXT,
    missing_since_at INTEGER,
    PRIMARY KEY (object_id, until_at)
) STRICT, WITHOUT ROWID;

CREATE INDEX past_by_directory ON past (directory_id, kind, sort_key, object_id, until_at, since_at);
-- Few rows each, as with the same indexes of `identity`.
CREATE INDEX past_by_directory_status ON past (directory_id, status, sort_key, object_id, until_at)
    WHERE status <> 'active';
CREATE INDEX past_missing_in_directory ON past (directory_id, kind, sort_key, object_id, until_at)
    WHERE missing_since_at IS NOT NULL;
CREATE INDEX past_until ON past (directory_id, until_at);

-- A member value that points at nothing we read (another suffix, outside the filter): kept, so that counts are true.
CREATE TABLE reference (
    id           INTEGER PRIMARY KEY,
    directory_id INTEGER NOT NULL,
    key          BLOB    NOT NULL,
    text         TEXT    NOT NULL
) STRICT;

CREATE UNIQUE INDEX reference_by_key ON reference (directory_id, key);

-- Direct membership with its time: until_at is the largest integer while it lasts.
CREATE TABLE member (
    group_id  INTEGER NOT NULL,
    until_at  INTEGER NOT NULL,
    member_id INTEGER NOT NULL,
    since_at  INTEGER NOT NULL,
    PRIMARY KEY (group_id, until_at, member_id, since_at)
) STRICT, WITHOUT ROWID;

CREATE INDEX member_by_member ON member (member_id, until_at, group_id);

-- The plan of a run: where its lines are, and when they took effect. Joined with `change` it is the history.
CREATE TABLE plan (
    run_id       INTEGER PRIMARY KEY,
    directory_id INTEGER NOT NULL,
    -- Its lines are among these; lines of a run of another directory at the same time stand between them.
    first_change INTEGER,
    last_change  INTEGER,
    -- The moment that apply makes it take effect at; from then until apply has ended nothing can be said of it.
    applying_at  INTEGER,
    applied_at   INTEGER
) STRICT;

CREATE INDEX plan_applied_at ON plan (applied_at) WHERE applied_at IS NOT NULL;
CREATE INDEX plan_of_directory ON plan (directory_id, run_id);
CREATE INDEX plan_applying ON plan (applying_at) WHERE applying_at IS NOT NULL AND applied_at IS NULL;

-- From when on the history of an account is there: what is older was deleted, or is about to be.
CREATE TABLE history_edge (
    account_id INTEGER PRIMARY KEY,
    from_at    INTEGER NOT NULL
) STRICT;

-- A plan's lines, and after the run was applied the history.
CREATE TABLE change (
    id           INTEGER PRIMARY KEY,
    run_id       INTEGER NOT NULL,
    -- 1 identity, 2 group.
    subject_type INTEGER NOT NULL,
    subject_id   INTEGER NOT NULL,
    -- identities::ChangeKind as it is written in the API.
    kind         TEXT    NOT NULL,
    field        TEXT,
    -- JSON.
    before       TEXT,
    after        TEXT,
    -- Of a membership.
    member_id    INTEGER
) STRICT;

CREATE INDEX change_by_subject ON change (subject_id, id);
-- Changes of the fields that are searched (identities::staged), for searches as of a time.
CREATE INDEX change_of_words ON change (run_id, subject_id)
    WHERE kind = 'changed'
      AND field IN ('displayName', 'givenName', 'familyName', 'userName', 'upn', 'mail', 'mails', 'employeeId', 'name',
                    'description');

-- The new content of objects that a plan adds, changes or brings back; emptied by apply and by discard. Its columns
-- are those of the tables it goes to.
CREATE TABLE staged (
    run_id       INTEGER NOT NULL,
    object_id    INTEGER NOT NULL,
    -- As in `object`, and 3 for a reference.
    kind         INTEGER NOT NULL,
    -- Not in the copy yet: its search text need not be looked for before it is written.
    is_new       INTEGER NOT NULL CHECK (is_new IN (0, 1)),
    external_id  TEXT    NOT NULL,
    source       BLOB    NOT NULL,
    dn_key       BLOB,
    name_key     BLOB,
    -- user_name of an identity, name of a group, text of a reference.
    name         TEXT    NOT NULL,
    display_name TEXT,
    mail         TEXT,
    description  TEXT,
    sort_key     TEXT    NOT NULL,
    status       TEXT,
    account_type INTEGER NOT NULL,
    is_privileged INTEGER NOT NULL,
    fields       TEXT    NOT NULL,
    search_text  TEXT    NOT NULL,
    member_count INTEGER
) STRICT;

CREATE UNIQUE INDEX staged_by_run ON staged (run_id, object_id);

-- A part of an account that roles are for, and what lies in it besides whole directories.
CREATE TABLE part (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER NOT NULL,
    -- principal::Scope as JSON; roles with equal scopes share one.
    scope      TEXT    NOT NULL,
    used_at    INTEGER NOT NULL,
    UNIQUE (account_id, scope)
) STRICT;

-- Up to which applied run of each directory it was worked out.
CREATE TABLE part_mark (
    part_id      INTEGER NOT NULL REFERENCES part (id) ON DELETE CASCADE,
    directory_id INTEGER NOT NULL,
    run_id       INTEGER NOT NULL,
    PRIMARY KEY (part_id, directory_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE part_object (
    part_id   INTEGER NOT NULL REFERENCES part (id) ON DELETE CASCADE,
    object_id INTEGER NOT NULL,
    -- 1 it lies in a unit, 2 in a group: each is worked out by itself.
    why       INTEGER NOT NULL CHECK (why IN (1, 2)),
    directory_id INTEGER NOT NULL,
    PRIMARY KEY (part_id, object_id, why)
) STRICT, WITHOUT ROWID;

CREATE INDEX part_object_of_directory ON part_object (part_id, directory_id, why, object_id);
