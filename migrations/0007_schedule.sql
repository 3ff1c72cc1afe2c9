-- owner: schedule
CREATE TABLE schedule_entry (
    -- Which job, and for which thing: 'directory-full' + '17'.
    job              TEXT    NOT NULL,
    subject          TEXT    NOT NULL,
    -- JSON: {"every": "1h"} or {"cron": "0 3 * * *", "timeZone": "Europe/Berlin"}.
    spec             TEXT    NOT NULL,
    is_paused        INTEGER NOT NULL DEFAULT 0 CHECK (is_paused IN (0, 1)),
    -- When it is due; NULL while paused.
    next_at          INTEGER,
    -- Claimed by the process that runs it until then.
    lease_until      INTEGER,
    last_started_at  INTEGER,
    last_finished_at INTEGER,
    last_outcome     TEXT,
    PRIMARY KEY (job, subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX schedule_entry_due ON schedule_entry (next_at) WHERE next_at IS NOT NULL;
