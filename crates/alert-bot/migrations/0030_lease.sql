-- Which of the bots on this journal acts: one row. `token` grows with each change of hands, so that a
-- commit of whoever held it before can be told and refused.
CREATE TABLE lease (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    holder     TEXT    NOT NULL,
    token      INTEGER NOT NULL,
    since      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
);
