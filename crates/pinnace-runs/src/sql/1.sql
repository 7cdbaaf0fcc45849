-- Schema 1: what was received, and what follows from it.
CREATE TABLE runs (
    id          TEXT NOT NULL PRIMARY KEY,
    name        TEXT NOT NULL,
    solution    TEXT NOT NULL,
    opened_us   INTEGER NOT NULL,
    finished_us INTEGER
) STRICT;

CREATE TABLE clients (
    run           TEXT NOT NULL,
    client        TEXT NOT NULL,
    instance      TEXT NOT NULL,
    state         TEXT NOT NULL,
    stop_reason   TEXT,
    last_heard_us INTEGER NOT NULL,
    heartbeat_us  INTEGER NOT NULL,
    bytes         INTEGER NOT NULL,
    PRIMARY KEY (run, client)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    run         TEXT NOT NULL,
    client      TEXT NOT NULL,
    instance    TEXT NOT NULL,
    n           INTEGER NOT NULL,
    event       TEXT NOT NULL,
    received_us INTEGER NOT NULL,
    at_us       INTEGER NOT NULL,
    elapsed_us  INTEGER NOT NULL,
    document    TEXT NOT NULL,
    PRIMARY KEY (run, client, instance, n)
) STRICT, WITHOUT ROWID;
