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

-- What a role asks of its holders beyond their password, where that is more than what the account asks of everybody; for
-- predefined roles too.
CREATE TABLE role_mfa (
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    role_id    TEXT    NOT NULL,
    mfa_rule   TEXT    NOT NULL CHECK (mfa_rule IN ('required', 'passkey-only')),
    PRIMARY KEY (account_id, role_id)
) STRICT, WITHOUT ROWID;
