//! What a person orders about one action, written beside a handler that may be about to start it.
//!
//! The ledger decides who was first: a cancellation is one statement that only changes what is still waiting, and the
//! handler's "started" is another (see [`Ledger::commit`](super::Ledger::commit)). One of the two finds nothing to
//! change.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use super::view::{self, Entry};
use super::{LedgerError, to_millis};
use crate::action::ActionKey;
use crate::action::name::ActionName;
use crate::action::outcome::Outcome;

/// The ledger, to change what waits in it.
#[derive(Debug)]
pub struct Orders {
    path: PathBuf,
    connection: Connection,
}

impl Orders {
    /// Opens the ledger in the state directory. `None`: there is none, since no handler has worked on this node yet.
    ///
    /// # Errors
    /// When it cannot be used, or has another format than this program's.
    pub fn open(state: &Path) -> Result<Option<Self>, LedgerError> {
        let opened = view::connect(state, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        Ok(opened.map(|(path, connection)| Self { path, connection }))
    }

    /// The actions that can be called so, oldest generation first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn called(&self, name: ActionName) -> Result<Vec<ActionKey>, LedgerError> {
        view::called(&self.connection, name).map_err(|error| self.failed(error))
    }

    /// One action as it stands now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn entry(&self, key: ActionKey) -> Result<Option<Entry>, LedgerError> {
        view::one(&self.connection, key).map_err(|error| self.failed(error))
    }

    /// Gives an action that still waits its result instead of a run; durable when this returns. Tells whether it still
    /// waited.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish_waiting(&self, key: ActionKey, outcome: &Outcome) -> Result<bool, LedgerError> {
        let changed = self.connection.execute(
            "UPDATE action SET state = 'finished', finished_at = ?4, ret = ?5, stdout = ?6, stderr = ?7
             WHERE queue = ?1 AND id = ?2 AND generation = ?3 AND state = 'received'",
            params![
                key.queue.as_str(),
                key.id.0,
                key.generation,
                to_millis(outcome.ended_at),
                outcome.ret,
                outcome.stdout,
                outcome.stderr,
            ],
        );
        changed.map(|changed| changed > 0).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: rusqlite::Error) -> LedgerError {
        LedgerError::Sqlite { path: self.path.clone(), error }
    }
}
