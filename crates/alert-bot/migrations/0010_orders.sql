-- What is in force by an order, as one document a name: 'freeze'.
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    doc  TEXT NOT NULL
);

-- Containers that a person has stopped, until they run again.
CREATE TABLE stopped (
    target TEXT    PRIMARY KEY,
    at     INTEGER NOT NULL
);
