-- owner: directories
-- Numbers of directories and runs are never used again: rows of other tables and the audit log name them.
CREATE TABLE directory (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id       INTEGER NOT NULL REFERENCES account (id),
    kind             TEXT    NOT NULL,
    name             TEXT    NOT NULL,
    -- JSON as the connector's Settings; no secrets.
    settings         TEXT    NOT NULL,
    -- JSON of the credentials, sealed for 'directory:read_credentials:<id>'.
    read_credentials BLOB    NOT NULL,
    -- The same for acting on its accounts, sealed for 'directory:act_credentials:<id>'; NULL where nobody does.
    act_credentials  BLOB,
    -- The part of the read credentials that is not secret (a bind DN), shown in the console.
    read_principal   TEXT    NOT NULL DEFAULT '',
    act_principal    TEXT,
    schedule         TEXT    NOT NULL,
    guard            TEXT    NOT NULL,
    -- The newest run that was applied, and when it finished reading: what the copy shows.
    applied_run_id   INTEGER,
    applied_at       INTEGER,
    -- Before that moment nobody saw anything of it.
    first_applied_at INTEGER,
    -- How many objects the copy held after that run.
    identity_count   INTEGER NOT NULL DEFAULT 0,
    group_count      INTEGER NOT NULL DEFAULT 0,
    -- Where a delta goes on: the connector's own words.
    watermark        TEXT,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    -- Taken out of the console at once; its copy is then deleted in small pieces.
    removed_at       INTEGER
) STRICT;

CREATE UNIQUE INDEX directory_name ON directory (account_id, name) WHERE removed_at IS NULL;
CREATE INDEX directory_removed ON directory (removed_at) WHERE removed_at IS NOT NULL;
-- Looked at every second.
CREATE INDEX directory_live ON directory (id) WHERE json_extract(schedule, '$.live') = 1 AND removed_at IS NULL;

CREATE TABLE run (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id      INTEGER NOT NULL,
    directory_id    INTEGER NOT NULL REFERENCES directory (id) ON DELETE CASCADE,
    mode            TEXT    NOT NULL CHECK (mode IN ('full', 'delta', 'rewind')),
    is_dry_run      INTEGER NOT NULL DEFAULT 0 CHECK (is_dry_run IN (0, 1)),
    -- Who or what asked for it: a principal's URN.
    requested_by    TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN
                        ('reading', 'planned', 'parked', 'applying', 'applied', 'discarded', 'failed')),
    -- Why it failed or was parked, and what to do; plain sentences.
    reason          TEXT,
    next_step       TEXT,
    failure_kind    TEXT,
    -- The server that answered, and a hash of the settings that were read with.
    server          TEXT,
    settings_hash   TEXT    NOT NULL,
    read_count      INTEGER NOT NULL DEFAULT 0,
    added           INTEGER NOT NULL DEFAULT 0,
    changed         INTEGER NOT NULL DEFAULT 0,
    missing         INTEGER NOT NULL DEFAULT 0,
    returned        INTEGER NOT NULL DEFAULT 0,
    removed         INTEGER NOT NULL DEFAULT 0,
    members_added   INTEGER NOT NULL DEFAULT 0,
    members_removed INTEGER NOT NULL DEFAULT 0,
    quarantined     INTEGER NOT NULL DEFAULT 0,
    unchanged       INTEGER NOT NULL DEFAULT 0,
    -- The plan was written where it is seen once it is applied: the first of a directory.
    is_in_place     INTEGER NOT NULL DEFAULT 0 CHECK (is_in_place IN (0, 1)),
    -- What the directory said at the end: where a delta goes on, how many objects there are; and why a delta had to
    -- become a full reading.
    watermark       TEXT,
    counted         INTEGER,
    watermark_lost  TEXT,
    started_at      INTEGER NOT NULL,
    planned_at      INTEGER,
    finished_at     INTEGER,
    -- While applying: the moment all its changes take effect, and the last change row that is done.
    apply_at        INTEGER,
    applied_to      INTEGER,
    -- What the guard and people said of the plan (directories::review).
    -- The settings that decide what is read, as they were for this run: JSON, name to text, no secrets.
    read_with       TEXT    NOT NULL DEFAULT '{}',
    -- Of a rewind: the applied run that the copy is taken back to.
    rewind_to       INTEGER,
    -- The applied run of the directory that the plan was made against.
    base_run_id     INTEGER,
    -- JSON of guard::Trip; NULL when there was none.
    trips           TEXT,
    parked_at       INTEGER,
    -- A hash of the lines: a later run that finds the same again does not replace the plan under review.
    plan_digest     BLOB,
    approved_by     TEXT,
    approved_at     INTEGER,
    approval_reason TEXT,
    discarded_by    TEXT,
    discarded_at    INTEGER,
    discard_reason  TEXT,
    -- The later run whose plan took the place of this one.
    superseded_by   INTEGER,
    -- When what a plan that is not going to be applied had staged was deleted.
    dropped_at      INTEGER,
    -- Of a preview: settings that are not stored (JSON), and the credentials sealed for 'run:preview_credentials:<id>'
    -- until they are used.
    preview_settings    TEXT,
    preview_principal   TEXT,
    preview_credentials BLOB
) STRICT;

CREATE INDEX run_by_directory ON run (directory_id, id);
CREATE INDEX run_by_account   ON run (account_id, id);
CREATE INDEX run_by_state     ON run (account_id, state, id);
CREATE INDEX run_by_directory_state ON run (directory_id, state, id);
-- One run at a time for one directory, whoever starts it.
CREATE UNIQUE INDEX run_active ON run (directory_id) WHERE state IN ('reading', 'applying')
    OR (state = 'planned' AND is_dry_run = 0);

-- Objects that a run could not take, with the reason; tried again by every run.
CREATE TABLE quarantine (
    id           INTEGER PRIMARY KEY,
    directory_id INTEGER NOT NULL REFERENCES directory (id) ON DELETE CASCADE,
    run_id       INTEGER NOT NULL,
    external_id  TEXT,
    name         TEXT    NOT NULL,
    reason       TEXT    NOT NULL
) STRICT;

CREATE INDEX quarantine_by_run ON quarantine (run_id, id);
CREATE INDEX quarantine_by_directory ON quarantine (directory_id, run_id);
