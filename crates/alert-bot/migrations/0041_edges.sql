-- Calls that traces have shown: who called whom, first and last.
CREATE TABLE edges (
    client TEXT    NOT NULL,
    server TEXT    NOT NULL,
    since  INTEGER NOT NULL,
    seen   INTEGER NOT NULL,
    PRIMARY KEY (client, server)
) WITHOUT ROWID;
