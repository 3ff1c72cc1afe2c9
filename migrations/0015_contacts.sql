-- owner: accounts
-- Whom notices of an account go to.
CREATE TABLE contact (
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    list       TEXT    NOT NULL CHECK (list IN ('billing', 'operations', 'general')),
    position   INTEGER NOT NULL CHECK (position BETWEEN 1 AND 5),
    email      TEXT    NOT NULL,
    PRIMARY KEY (account_id, list, position)
) STRICT, WITHOUT ROWID;
