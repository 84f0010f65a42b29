//! The ledger's format.

/// The version of the format below, kept in the database's `user_version`.
pub(super) const VERSION: i64 = 1;

/// Times are milliseconds since the epoch, UTC. `reason` is set on a row that is refused without looking at its
/// command. `boot_id` is the boot in which the command was to start, `tries` how often it could not be started. `endpoint` is the URL of the collector that a generation came from: its result goes nowhere else.
pub(super) const CREATE: &str = "
CREATE TABLE action (
    queue       TEXT    NOT NULL,
    id          INTEGER NOT NULL,
    generation  INTEGER NOT NULL,
    endpoint    TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('received', 'started', 'finished', 'reported')),
    command     TEXT    NOT NULL,
    svc_id      TEXT    NOT NULL,
    svcname     TEXT    NOT NULL,
    queued_at   TEXT,
    reason      TEXT,
    boot_id     TEXT,
    tries       INTEGER NOT NULL DEFAULT 0,
    received_at INTEGER NOT NULL,
    started_at  INTEGER,
    finished_at INTEGER,
    reported_at INTEGER,
    ret         INTEGER,
    stdout      TEXT,
    stderr      TEXT,
    PRIMARY KEY (queue, id, generation)
) STRICT;
CREATE INDEX action_open ON action (state) WHERE state <> 'reported';
PRAGMA user_version = 1;
";
