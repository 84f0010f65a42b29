//! The queue and the nodes, in `SQLite`. Nothing else in this program names the database.
//!
//! Every call is one transaction, on disk when the call returns (WAL, `synchronous=FULL`): what was acknowledged
//! survives `kill -9` and a power cut.

mod nodes;
mod operator;
mod queue;
mod types;
mod users;

use std::path::Path;

use rusqlite::{Connection, Row};

use nodes::check as check_name;
pub use nodes::{Auth, Identity, NodeChange, Registration, System};
pub use queue::{Report, Waiting};
pub use types::{Action, ActionType, Node, Status};

use crate::state::StateError;

/// The size of a text column of the real servers, in bytes.
pub const TEXT_MAX: usize = 65_535;

/// The version of the schema below, kept in the database's `user_version`.
const SCHEMA_VERSION: i64 = 2;

/// Dates are milliseconds since the epoch. `date_dequeued` is null where the real servers keep their zero date. `svc_id`
/// may be null only because somebody wrote it by hand: the real feeder then refuses to answer, and so does ours.
const SCHEMA: &str = "
CREATE TABLE nodes (
    node_id     TEXT PRIMARY KEY,
    nodename    TEXT NOT NULL COLLATE NOCASE UNIQUE,
    uuid        TEXT NOT NULL,
    action_type TEXT NOT NULL,
    connect_to  TEXT,
    port        INTEGER NOT NULL,
    cluster     TEXT NOT NULL
) STRICT;
CREATE TABLE services (
    svc_id  TEXT PRIMARY KEY,
    svcname TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE action_queue (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    node_id       TEXT NOT NULL,
    svc_id        TEXT DEFAULT '',
    action_type   TEXT NOT NULL,
    connect_to    TEXT,
    command       TEXT NOT NULL,
    status        TEXT NOT NULL DEFAULT 'W',
    ret           INTEGER,
    stdout        TEXT,
    stderr        TEXT,
    date_queued   INTEGER NOT NULL,
    date_dequeued INTEGER,
    notified_at   INTEGER,
    sent_at       INTEGER,
    received_at   INTEGER,
    reported_at   INTEGER
) STRICT;
CREATE INDEX action_queue_open ON action_queue (node_id, status) WHERE status IN ('W', 'N', 'S');
CREATE INDEX action_queue_waiting ON action_queue (id) WHERE status = 'W' AND action_type = 'pull';
";

/// What version 2 adds.
const USERS: &str = "
CREATE TABLE users (
    name       TEXT PRIMARY KEY COLLATE NOCASE,
    salt       BLOB NOT NULL,
    iterations INTEGER NOT NULL,
    hash       BLOB NOT NULL
) STRICT;
";

/// The columns of an [`Action`], in the order [`Action::read`] expects.
const ACTION: &str = "SELECT q.id, q.node_id, n.nodename, q.svc_id, s.svcname, q.action_type, q.connect_to, q.command,
    q.status, q.ret, q.stdout, q.stderr, q.date_queued, q.date_dequeued, q.notified_at, q.sent_at, q.received_at,
    q.reported_at
    FROM action_queue q JOIN nodes n ON n.node_id = q.node_id LEFT JOIN services s ON s.svc_id = q.svc_id";

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// The database comes from a later version.
    #[error("the database has schema {found}, this program knows {SCHEMA_VERSION}: it was used by a later version")]
    Later {
        /// Its version.
        found: i64,
    },
    /// A selected column is null: the real feeder cannot answer until the row is removed.
    #[error("action {0} has a null column")]
    NullColumn(i64),
    /// No such node.
    #[error("no node is named {0:?}: `node add` it first")]
    NoNode(String),
    /// No such action.
    #[error("there is no action {0}")]
    NoAction(i64),
    /// No such user.
    #[error("there is no user {0:?}")]
    NoUser(String),
    /// There are as many as can be.
    #[error("there are too many {0}")]
    Full(&'static str),
    /// The action's state does not allow it.
    #[error("action {id} is {status}: it cannot be {wanted}")]
    Refused {
        /// Which action.
        id: i64,
        /// Its status, in words.
        status: &'static str,
        /// What was asked.
        wanted: &'static str,
    },
    /// What was given cannot be stored.
    #[error("{0}")]
    Invalid(String),
    /// No uuid could be made.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The store.
#[derive(Debug)]
pub struct Store {
    db: Connection,
}

impl Store {
    /// Opens the database, and makes its tables on first use.
    ///
    /// # Errors
    /// The file cannot be opened, is no database, or comes from a later version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut db = Connection::open(path)?;
        db.busy_timeout(std::time::Duration::from_secs(5))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let found: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match found {
            0 => {
                tx.execute_batch(SCHEMA)?;
                tx.execute_batch(USERS)?;
                tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            }
            1 => {
                tx.execute_batch(USERS)?;
                tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            }
            SCHEMA_VERSION => {}
            found => return Err(StoreError::Later { found }),
        }
        tx.commit()?;
        Ok(Self { db })
    }

    fn begin(&mut self) -> rusqlite::Result<rusqlite::Transaction<'_>> {
        self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
    }
}

impl Action {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            node_id: row.get(1)?,
            nodename: row.get(2)?,
            svc_id: row.get(3)?,
            svcname: row.get(4)?,
            action_type: row.get(5)?,
            connect_to: row.get(6)?,
            command: row.get(7)?,
            status: row.get(8)?,
            ret: row.get(9)?,
            stdout: row.get(10)?,
            stderr: row.get(11)?,
            queued: row.get(12)?,
            dequeued: row.get(13)?,
            notified: row.get(14)?,
            sent: row.get(15)?,
            received: row.get(16)?,
            reported: row.get(17)?,
        })
    }
}
