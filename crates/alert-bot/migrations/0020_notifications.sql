-- One message to one receiver, about what waited in the outbox together. What it covers never changes,
-- so a retry is the same message under the same key.
CREATE TABLE messages (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    receiver     TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    doc          TEXT    NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_at      INTEGER NOT NULL,
    delivered_at INTEGER
);
CREATE INDEX messages_waiting ON messages (id) WHERE delivered_at IS NULL;
CREATE INDEX messages_recent ON messages (receiver, at);

-- Where a receiver was told of an incident, and what it was told last.
CREATE TABLE threads (
    receiver TEXT    NOT NULL,
    incident TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    doc      TEXT    NOT NULL,
    PRIMARY KEY (receiver, incident)
) WITHOUT ROWID;
