-- owner: roles
-- Roles that an account made itself; the predefined ones are in the program.
CREATE TABLE role (
    account_id  INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    -- A slug; what `role_id` refers to elsewhere.
    id          TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    description TEXT    NOT NULL,
    -- principal::Rights as JSON: service to level.
    services    TEXT    NOT NULL,
    -- principal::Scope as JSON; NULL: the whole account.
    scope       TEXT,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (account_id, id)
) STRICT, WITHOUT ROWID;
