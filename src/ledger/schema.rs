//! The ledger's format.

/// The version of the format, kept in the database's `user_version`: how many of [`STEPS`] it takes.
pub(super) const VERSION: i64 = 2;

/// What makes the format of nothing, and each version of the one before it. A new ledger goes the whole way, so that it
/// cannot differ from one that was brought up to date.
pub(super) const STEPS: [&str; 2] = [FIRST, STORY];

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
const FIRST: &str = "
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
";

/// What `history` asks for, word for word as the indices below have it.
pub(super) const ENDED: &str = "state NOT IN ('received', 'started')";
/// When an action ended: one that never ran ended when it was completed.
pub(super) const END: &str = "coalesce(finished_at, reported_at)";

/// What people want to know beside what has to be known, see [`super::story`]: how a collector came to know that we hold
/// a row, the rule of the policy that decided, the user that the command runs as, how its supervisor was started, and
/// what the command has used (processor time in microseconds; `of_group` as
/// [`Usage`](crate::action::usage::Usage) has it). An attempt is one that went wrong: of each step the first and the last
/// few, numbered from 1.
const STORY: &str = "
ALTER TABLE action ADD COLUMN acknowledged_at INTEGER;
ALTER TABLE action ADD COLUMN acknowledged_by TEXT;
ALTER TABLE action ADD COLUMN rule            TEXT;
ALTER TABLE action ADD COLUMN runs_as         TEXT;
ALTER TABLE action ADD COLUMN launcher        TEXT;
ALTER TABLE action ADD COLUMN of_group        INTEGER;
ALTER TABLE action ADD COLUMN user_usec       INTEGER;
ALTER TABLE action ADD COLUMN system_usec     INTEGER;
ALTER TABLE action ADD COLUMN memory_peak     INTEGER;
ALTER TABLE action ADD COLUMN read_bytes      INTEGER;
ALTER TABLE action ADD COLUMN written_bytes   INTEGER;
ALTER TABLE action ADD COLUMN oom_kills       INTEGER;
CREATE INDEX action_end ON action (coalesce(finished_at, reported_at)) WHERE state NOT IN ('received', 'started');
CREATE INDEX action_failed ON action (coalesce(finished_at, reported_at))
    WHERE state NOT IN ('received', 'started') AND ret <> 0;
CREATE TABLE attempt (
    queue      TEXT    NOT NULL,
    id         INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    step       TEXT    NOT NULL CHECK (step IN ('acknowledge', 'start', 'report')),
    number     INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    error      TEXT    NOT NULL,
    PRIMARY KEY (queue, id, generation, step, number)
) STRICT, WITHOUT ROWID;
";
