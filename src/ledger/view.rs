//! The ledger for those who only look: commands beside a handler, or without one. Opened read-only: nothing is made,
//! migrated or repaired here, and a handler that writes at the same time is not held up.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};

use super::open::has_contact;
use super::schema::{self, END, ENDED, OPEN};
use super::{LedgerError, from_millis, parsed, to_millis};
use crate::action::admission::State;
use crate::action::name::ActionName;
use crate::action::time::Timestamp;
use crate::action::{ActionId, ActionKey};

/// One action without what it printed.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub key: ActionKey,
    /// Where it stands.
    pub state: State,
    /// The collector that it came from.
    pub endpoint: String,
    /// The words after `om node` or `om svc -s NAME`.
    pub command: String,
    /// The service's id at the collector; empty for a node action.
    pub svc_id: String,
    /// The service's name; empty for a node action.
    pub svcname: String,
    /// When it was queued: the collector's text, opaque.
    pub queued_at: Option<String>,
    /// Why it is refused without looking at its command, or was superseded.
    pub reason: Option<String>,
    /// The boot in which its command was to start.
    pub boot_id: Option<String>,
    /// When it was recorded here.
    pub received_at: Timestamp,
    /// When its command was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it became complete: the collector accepted its result, or nobody wants it any more.
    pub reported_at: Option<Timestamp>,
    /// Its result.
    pub ret: Option<i32>,
}

/// Which finished actions are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// At most so many.
    pub limit: u32,
    /// Only those whose result is not 0.
    pub failed: bool,
    /// Only those that ended then or later.
    pub since: Option<Timestamp>,
}

/// The ledger, to be looked at.
#[derive(Debug)]
pub struct View {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
}

/// The columns of an [`Entry`], in their order.
const ENTRY: &str = "queue, id, generation, state, endpoint, command, svc_id, svcname, queued_at, reason, boot_id,
                     received_at, started_at, finished_at, reported_at, ret";

impl View {
    /// Opens the ledger in the state directory. `None`: there is none, since no handler has worked on this node yet.
    ///
    /// # Errors
    /// When it cannot be read, or has another format than this program's.
    pub fn open(state: &Path) -> Result<Option<Self>, LedgerError> {
        Ok(connect(state, OpenFlags::SQLITE_OPEN_READ_ONLY)?.map(|(path, connection)| Self { path, connection }))
    }

    /// The actions that can be called so, oldest generation first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn called(&self, name: ActionName) -> Result<Vec<ActionKey>, LedgerError> {
        called(&self.connection, name).map_err(|error| self.failed(error))
    }

    /// The actions in `state`, one of those before the last, in the order in which they were received.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn in_state(&self, state: State) -> Result<Vec<Entry>, LedgerError> {
        let read = || {
            let mut query = self.connection.prepare(&format!(
                "SELECT {ENTRY} FROM action WHERE {OPEN} AND state = ?1 ORDER BY received_at, rowid"
            ))?;
            let rows = query.query_map([state.as_str()], entry)?;
            rows.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.failed(error))
    }

    /// The actions that have ended, newest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn history(&self, wanted: Wanted) -> Result<Vec<Entry>, LedgerError> {
        let read = || {
            let mut query = self.connection.prepare(&history(wanted.failed))?;
            let since = wanted.since.map_or(i64::MIN, to_millis);
            let rows = query.query_map(params![since, wanted.limit], entry)?;
            rows.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| self.failed(error))
    }

    /// One action.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn entry(&self, key: ActionKey) -> Result<Option<Entry>, LedgerError> {
        one(&self.connection, key).map_err(|error| self.failed(error))
    }

    /// What an action printed, as it is reported: standard output and standard error. `None`: it has not ended, or that
    /// is no longer kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn output(&self, key: ActionKey) -> Result<Option<(String, String)>, LedgerError> {
        self.connection
            .query_row(
                "SELECT stdout, stderr FROM action
                 WHERE queue = ?1 AND id = ?2 AND generation = ?3 AND ret IS NOT NULL
                   AND stdout IS NOT NULL AND stderr IS NOT NULL",
                params![key.queue.as_str(), key.id.0, key.generation],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
            .map_err(|error| self.failed(error))
    }

    pub(super) fn failed(&self, error: rusqlite::Error) -> LedgerError {
        LedgerError::Sqlite { path: self.path.clone(), error }
    }
}

/// The query of the history: it asks for what the indices hold, in their words.
pub(super) fn history(failed: bool) -> String {
    let failed = if failed { " AND ret <> 0" } else { "" };
    format!("SELECT {ENTRY} FROM action WHERE {ENDED}{failed} AND {END} >= ?1 ORDER BY {END} DESC, rowid DESC LIMIT ?2")
}

/// Opens a ledger that is there and has this program's format.
pub(super) fn connect(state: &Path, access: OpenFlags) -> Result<Option<(PathBuf, Connection)>, LedgerError> {
    connect_by(state, |path| Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX))
}

/// The same, opened so.
pub(super) fn connect_by(
    state: &Path,
    open: impl Fn(&Path) -> rusqlite::Result<Connection>,
) -> Result<Option<(PathBuf, Connection)>, LedgerError> {
    let path = state.join("ledger.sqlite");
    let is_there = path.try_exists().map_err(|source| LedgerError::Look { path: path.clone(), source })?;
    if !is_there {
        return if has_contact(&path) { Err(LedgerError::Gone { path }) } else { Ok(None) };
    }
    // Where a collector was reached, a ledger without anything in it has lost it.
    let without_content = |path: PathBuf| if has_contact(&path) { Err(LedgerError::Gone { path }) } else { Ok(None) };
    // SQLite would take an empty file for a new database, and delete a log beside it, which may be all there is.
    if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() == 0) {
        return without_content(path);
    }
    let open = || {
        let connection = open(&path)?;
        connection.busy_timeout(super::PATIENCE)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Only handlers copy the log into the database.
        connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        Ok((version, connection))
    };
    let (found, connection) = open().map_err(|error| LedgerError::Sqlite { path: path.clone(), error })?;
    match found {
        0 => without_content(path), // or a handler is about to make it
        schema::VERSION => Ok(Some((path, connection))),
        newer if newer > schema::VERSION => Err(LedgerError::Newer { path, found, known: schema::VERSION }),
        _ => Err(LedgerError::Older { path, found }),
    }
}

pub(super) fn called(connection: &Connection, name: ActionName) -> rusqlite::Result<Vec<ActionKey>> {
    let mut query =
        connection.prepare("SELECT generation FROM action WHERE queue = ?1 AND id = ?2 ORDER BY generation")?;
    let mut keys = Vec::new();
    for queue in name.queues() {
        let generations = query.query_map(params![queue.as_str(), name.id.0], |row| row.get(0))?;
        for generation in generations {
            keys.push(ActionKey { queue, id: name.id, generation: generation? });
        }
    }
    keys.retain(|key| name.fits(*key));
    Ok(keys)
}

pub(super) fn one(connection: &Connection, key: ActionKey) -> rusqlite::Result<Option<Entry>> {
    connection
        .query_row(
            &format!("SELECT {ENTRY} FROM action WHERE queue = ?1 AND id = ?2 AND generation = ?3"),
            params![key.queue.as_str(), key.id.0, key.generation],
            entry,
        )
        .optional()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let time = |column| row.get::<_, Option<i64>>(column).map(|millis| millis.map(from_millis));
    Ok(Entry {
        key: ActionKey {
            queue: parsed(row, 0, |text| text.parse().ok())?,
            id: ActionId(row.get(1)?),
            generation: row.get(2)?,
        },
        state: parsed(row, 3, State::from_name)?,
        endpoint: row.get(4)?,
        command: row.get(5)?,
        svc_id: row.get(6)?,
        svcname: row.get(7)?,
        queued_at: row.get(8)?,
        reason: row.get(9)?,
        boot_id: row.get(10)?,
        received_at: from_millis(row.get(11)?),
        started_at: time(12)?,
        finished_at: time(13)?,
        reported_at: time(14)?,
        ret: row.get(15)?,
    })
}
