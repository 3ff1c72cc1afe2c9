-- owner: identities
-- One number space for identities, groups and references, handed out in blocks: a plan names its new objects
-- before they exist.
CREATE TABLE object_number (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    next INTEGER NOT NULL
) STRICT;
INSERT INTO object_number (id, next) VALUES (1, 1);

CREATE TABLE identity (
    id               INTEGER PRIMARY KEY,
    account_id       INTEGER NOT NULL,
    directory_id     INTEGER NOT NULL REFERENCES directory (id),
    external_id      TEXT    NOT NULL,
    -- What other objects refer to it by (connectors::Key).
    dn_key           BLOB    CHECK (length(dn_key) = 16),
    name_key         BLOB    CHECK (length(name_key) = 16),
    -- Of everything below that comes from the directory: an unchanged object is not written.
    content_hash     BLOB    NOT NULL CHECK (length(content_hash) = 16),
    user_name        TEXT    NOT NULL,
    display_name     TEXT,
    mail             TEXT,
    -- Folded display name or user name: the order of every list.
    sort_key         TEXT    NOT NULL,
    status           TEXT    NOT NULL,
    -- connectors::IdentityFields as JSON.
    fields           TEXT    NOT NULL,
    first_seen_at    INTEGER NOT NULL,
    changed_at       INTEGER NOT NULL,
    missing_since_at INTEGER,
    removed_at       INTEGER,
    UNIQUE (directory_id, external_id)
) STRICT;

CREATE INDEX identity_by_name      ON identity (account_id, sort_key, id) WHERE removed_at IS NULL;
CREATE INDEX identity_by_directory ON identity (directory_id, sort_key, id) WHERE removed_at IS NULL;
CREATE INDEX identity_by_status    ON identity (account_id, status, sort_key, id)
    WHERE removed_at IS NULL AND status <> 'active';
CREATE INDEX identity_missing      ON identity (account_id, sort_key, id)
    WHERE removed_at IS NULL AND missing_since_at IS NOT NULL;
-- The same within one directory: few rows, because nearly all are active and there.
CREATE INDEX identity_by_directory_status ON identity (directory_id, status, sort_key, id)
    WHERE removed_at IS NULL AND status <> 'active';
CREATE INDEX identity_missing_in_directory ON identity (directory_id, sort_key, id)
    WHERE removed_at IS NULL AND missing_since_at IS NOT NULL;
CREATE INDEX identity_by_dn        ON identity (directory_id, dn_key);

-- The words of name, user name, mail addresses and employee id, folded, for substring search (identities::fold says
-- how they are written); rowid is identity.id. Directory and status stand beside them, three characters each, which is
-- one trigram: so a common word in another account or status is skipped over instead of read.
CREATE VIRTUAL TABLE identity_text USING fts5 (text, directory, status, content='', contentless_delete=1, tokenize='trigram');

CREATE TABLE directory_group (
    id               INTEGER PRIMARY KEY,
    account_id       INTEGER NOT NULL,
    directory_id     INTEGER NOT NULL REFERENCES directory (id),
    external_id      TEXT    NOT NULL,
    dn_key           BLOB    CHECK (length(dn_key) = 16),
    content_hash     BLOB    NOT NULL CHECK (length(content_hash) = 16),
    -- Of the sorted member ids; equal means that the members need no comparison.
    member_hash      BLOB    NOT NULL CHECK (length(member_hash) = 16),
    member_count     INTEGER NOT NULL,
    name             TEXT    NOT NULL,
    description      TEXT,
    sort_key         TEXT    NOT NULL,
    -- connectors::GroupFields as JSON.
    fields           TEXT    NOT NULL,
    first_seen_at    INTEGER NOT NULL,
    changed_at       INTEGER NOT NULL,
    missing_since_at INTEGER,
    removed_at       INTEGER,
    UNIQUE (directory_id, external_id)
) STRICT;

CREATE INDEX group_by_name      ON directory_group (account_id, sort_key, id) WHERE removed_at IS NULL;
CREATE INDEX group_by_directory ON directory_group (directory_id, sort_key, id) WHERE removed_at IS NULL;
CREATE INDEX group_by_dn        ON directory_group (directory_id, dn_key);

CREATE VIRTUAL TABLE group_text USING fts5 (text, directory, content='', contentless_delete=1, tokenize='trigram');

-- A member value that points at nothing we read (another suffix, outside the filter): kept, so that counts are true.
CREATE TABLE reference (
    id           INTEGER PRIMARY KEY,
    directory_id INTEGER NOT NULL REFERENCES directory (id),
    key          BLOB    NOT NULL CHECK (length(key) = 16),
    text         TEXT    NOT NULL,
    UNIQUE (directory_id, key)
) STRICT;

-- Direct membership with its time: until_at is the largest integer while it lasts.
CREATE TABLE member (
    group_id  INTEGER NOT NULL,
    until_at  INTEGER NOT NULL,
    member_id INTEGER NOT NULL,
    since_at  INTEGER NOT NULL,
    PRIMARY KEY (group_id, until_at, member_id, since_at)
) STRICT, WITHOUT ROWID;

CREATE INDEX member_by_member ON member (member_id, until_at, group_id);

-- A plan's lines, and after the run was applied the history. Values are JSON.
CREATE TABLE change (
    id           INTEGER PRIMARY KEY,
    run_id       INTEGER NOT NULL,
    subject_type TEXT    NOT NULL CHECK (subject_type IN ('identity', 'group')),
    subject_id   INTEGER NOT NULL,
    kind         TEXT    NOT NULL CHECK (kind IN
                     ('added', 'changed', 'missing', 'returned', 'member-added', 'member-removed')),
    field        TEXT,
    before       TEXT,
    after        TEXT
) STRICT;

CREATE INDEX change_by_run     ON change (run_id, id);
CREATE INDEX change_by_subject ON change (subject_id, id);

-- Which runs' changes took effect, and when: joined with change it is the history.
CREATE TABLE applied_run (
    run_id     INTEGER PRIMARY KEY,
    applied_at INTEGER NOT NULL
) STRICT;

CREATE INDEX applied_run_at ON applied_run (applied_at);

-- The new content of objects that a plan adds, changes or brings back; emptied by apply and by discard. Its columns
-- are those of the tables it goes to, so that apply copies without reading JSON.
CREATE TABLE staged (
    run_id       INTEGER NOT NULL,
    object_id    INTEGER NOT NULL,
    object_type  TEXT    NOT NULL CHECK (object_type IN ('identity', 'group', 'reference')),
    -- Not in the copy yet: its search text need not be looked for before it is written.
    is_new       INTEGER NOT NULL CHECK (is_new IN (0, 1)),
    external_id  TEXT    NOT NULL,
    dn_key       BLOB,
    name_key     BLOB,
    content_hash BLOB    NOT NULL,
    -- user_name of an identity, name of a group, text of a reference.
    name         TEXT    NOT NULL,
    display_name TEXT,
    mail         TEXT,
    description  TEXT,
    sort_key     TEXT    NOT NULL,
    status       TEXT,
    fields       TEXT    NOT NULL,
    search_text  TEXT    NOT NULL,
    member_hash  BLOB,
    member_count INTEGER
) STRICT;

CREATE UNIQUE INDEX staged_by_run ON staged (run_id, object_id);
