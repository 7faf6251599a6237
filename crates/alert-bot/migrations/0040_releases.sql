-- Actions that an operator no longer lets count: towards their target's budget, or towards everybody's.
CREATE TABLE uncounted (
    action TEXT    NOT NULL,
    budget TEXT    NOT NULL CHECK (budget IN ('target', 'global')),
    at     INTEGER NOT NULL,
    PRIMARY KEY (action, budget)
) WITHOUT ROWID;

-- Containers whose breakers an operator has closed, until the next action on them.
CREATE TABLE released (
    target TEXT    PRIMARY KEY,
    at     INTEGER NOT NULL
);
