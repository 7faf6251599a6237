-- Times are milliseconds since the Unix epoch.

-- What was received, before it was acknowledged.
CREATE TABLE deliveries (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at  INTEGER NOT NULL,
    alerts       INTEGER NOT NULL,
    body         BLOB    NOT NULL,
    processed_at INTEGER
);
CREATE INDEX deliveries_pending ON deliveries (id) WHERE processed_at IS NULL;

-- What was received and could not be read.
CREATE TABLE quarantine (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at INTEGER NOT NULL,
    reason      TEXT    NOT NULL,
    body        BLOB    NOT NULL
);

-- One row an occurrence of an alert; `doc` is the whole incident.
CREATE TABLE incidents (
    id          TEXT    PRIMARY KEY,
    fingerprint TEXT    NOT NULL,
    starts_at   INTEGER NOT NULL,
    opened_at   INTEGER NOT NULL,
    closed_at   INTEGER,
    state       TEXT    NOT NULL,
    outcome     TEXT,
    alertname   TEXT    NOT NULL,
    service     TEXT,
    doc         TEXT    NOT NULL,
    UNIQUE (fingerprint, starts_at)
);
CREATE INDEX incidents_recent ON incidents (opened_at DESC, id DESC);
CREATE INDEX incidents_by_state ON incidents (state, opened_at DESC, id DESC);
CREATE INDEX incidents_by_service ON incidents (service, opened_at DESC, id DESC);
CREATE INDEX incidents_closed ON incidents (closed_at) WHERE closed_at IS NOT NULL;

-- Intent and result. The UNIQUE is the last line of defence against doing a
-- thing twice: the engine does not try, and the journal would not let it.
CREATE TABLE actions (
    id          TEXT    PRIMARY KEY,
    incident    TEXT    NOT NULL,
    fingerprint TEXT    NOT NULL,
    starts_at   INTEGER NOT NULL,
    policy      TEXT    NOT NULL,
    step        INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    target      TEXT    NOT NULL,
    verb        TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    intended_at INTEGER NOT NULL,
    doc         TEXT    NOT NULL,
    UNIQUE (fingerprint, starts_at, policy, step, attempt)
);
CREATE INDEX actions_by_incident ON actions (incident, intended_at);
CREATE INDEX actions_recent ON actions (intended_at);

-- Occurrences known to be over that were never opened here.
CREATE TABLE ended (
    fingerprint TEXT    NOT NULL,
    starts_at   INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (fingerprint, starts_at)
) WITHOUT ROWID;

-- The record: timeline of every incident, every decision, chained by hash.
CREATE TABLE audit (
    seq       INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL,
    incident  TEXT,
    kind      TEXT    NOT NULL,
    reason    TEXT,
    alertname TEXT    NOT NULL,
    target    TEXT,
    text      TEXT    NOT NULL,
    data      TEXT    NOT NULL,
    hash      BLOB    NOT NULL
);
CREATE INDEX audit_by_incident ON audit (incident, seq);
CREATE INDEX audit_decisions ON audit (alertname, seq) WHERE kind = 'decision';

-- Messages to people, until they are delivered.
CREATE TABLE outbox (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    about        TEXT    NOT NULL,
    incident     TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    doc          TEXT    NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_at      INTEGER NOT NULL,
    delivered_at INTEGER
);
CREATE INDEX outbox_due ON outbox (next_at) WHERE delivered_at IS NULL;
CREATE INDEX outbox_about ON outbox (about, at);
