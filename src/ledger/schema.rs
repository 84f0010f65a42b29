//! The ledger's format.

/// The version of the format below, kept in the database's `user_version`.
pub(super) const VERSION: i64 = 1;

/// The states of what is not complete, word for word as the index below has them: SQLite uses it for no other wording.
pub(super) const OPEN: &str = "state IN ('received', 'started', 'finished')";

/// Times are milliseconds since the epoch, UTC.
///
/// `endpoint` is the URL of the collector that a generation came from: its result goes nowhere else; empty where the
/// ledger was lost and it is not known any more. `known` is 0 where for the same reason nothing is known about an action
/// but its key. `reason` is set on a row that is refused without looking at its command. `boot_id` is the boot in which
/// the command was to start, `tries` how often it could not be started. `superseded_at` is set on a command that still
/// runs and whose result nobody wants any more. `reported_at` is when the action became complete, however it did. A
/// result whose output is no longer kept has a `ret` and no `stdout`.
///
/// A tombstone is what remains of the newest generation of a row when its history is over. `lost` says when a queue's
/// earlier actions were forgotten with a damaged ledger.
pub(super) const CREATE: &str = "
CREATE TABLE action (
    queue         TEXT    NOT NULL,
    id            INTEGER NOT NULL,
    generation    INTEGER NOT NULL,
    endpoint      TEXT    NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN
                  ('received', 'started', 'finished', 'reported', 'superseded', 'expired')),
    known         INTEGER NOT NULL DEFAULT 1,
    command       TEXT    NOT NULL,
    svc_id        TEXT    NOT NULL,
    svcname       TEXT    NOT NULL,
    queued_at     TEXT,
    reason        TEXT,
    boot_id       TEXT,
    tries         INTEGER NOT NULL DEFAULT 0,
    received_at   INTEGER NOT NULL,
    started_at    INTEGER,
    finished_at   INTEGER,
    superseded_at INTEGER,
    reported_at   INTEGER,
    ret           INTEGER,
    stdout        TEXT,
    stderr        TEXT,
    PRIMARY KEY (queue, id, generation)
) STRICT;
CREATE INDEX action_open ON action (state) WHERE state IN ('received', 'started', 'finished');
CREATE TABLE tombstone (
    queue      TEXT    NOT NULL,
    id         INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    what       INTEGER NOT NULL,
    queued_at  INTEGER,
    UNIQUE (queue, id)
) STRICT;
CREATE TABLE lost (
    queue TEXT    NOT NULL PRIMARY KEY,
    at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
";
