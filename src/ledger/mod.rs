//! What this node knows about its actions, durable: one SQLite file. The only place that names `rusqlite`.
//!
//! Every change that something outside depends on is committed, and synced, before that something happens: an action
//! before the collector hears that we hold it, its start before its command runs, its result before it is posted.
//!
//! | file | subject |
//! | --- | --- |
//! | `schema.rs` | the format |
//! | `open.rs` | making it, opening it, replacing a damaged one |
//! | [`admit`] | an answer of a collector comes in |
//! | [`changes`] | the steps of an action's life |
//! | [`retention`] | what is forgotten, and when |
//! | [`view`] | looking at it beside a handler |
//! | [`story`] | what else people want to know, at no cost |
//! | [`inspect`] | examining it without a trace |
//! | [`totals`] | how many actions ended how |
//! | [`orders`] | what a person orders about an action, beside a handler |
//! | [`pause`], [`contact`], [`scheduled`] | small files beside it |
//! | `error.rs` | what can go wrong, and what that smells of |
//! | `reserve.rs` | room for the day when the disk is full |

pub mod admit;
pub mod changes;
pub mod contact;
mod error;
pub mod inspect;
mod open;
pub mod orders;
pub mod pause;
mod reserve;
pub mod retention;
pub mod scheduled;
mod schema;
pub mod story;
#[cfg(test)]
mod tests;
pub mod totals;
pub mod view;

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

pub use self::admit::Admitted;
pub use self::changes::Change;
pub use self::error::LedgerError;
use self::reserve::Reserve;
use self::story::Note;
use crate::action::admission::State;
use crate::action::outcome::Outcome;
use crate::action::time::Timestamp;
use crate::action::{ActionId, ActionKey, QueuedAction, RowStatus};

/// How long one waits for another process that is just writing.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is reported in the place of an output that is no longer kept.
const NO_OUTPUT: &str = "opensvc-actions: its output is no longer kept here";

/// One action, as recorded.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its name.
    pub key: ActionKey,
    /// Where it stands.
    pub state: State,
    /// The collector that it came from.
    pub endpoint: String,
    /// The row, as it was fetched.
    pub row: QueuedAction,
    /// Why it is refused without looking at its command.
    pub refused: Option<String>,
    /// The boot of this machine in which its command was to start; `None` where nothing is known of it.
    pub boot_id: Option<String>,
    /// How often it could not be started.
    pub tries: u32,
}

/// The open ledger.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    connection: Connection,
    reserve: Reserve,
    /// What waits to be told with the next commit.
    notes: Vec<Note>,
    /// Something is written that a power cut would undo: see [`Ledger::sync`].
    is_behind: bool,
    /// Its log has a name that a power cut would undo.
    has_new_name: bool,
}

impl Ledger {
    /// Sees to it that whatever a fetch brings can be recorded, even if the disk is full by then.
    ///
    /// # Errors
    /// When there is no room on the disk.
    pub fn hold_reserve(&self) -> Result<(), LedgerError> {
        let no_room = |source| LedgerError::NoRoom { path: self.reserve.path().to_owned(), source };
        self.reserve.hold().map_err(no_room)
    }

    /// Makes the reserve available to whoever has found the disk full. Tells whether there was one.
    #[must_use]
    pub fn give_up_reserve(&self) -> bool {
        self.reserve.give_up()
    }

    /// The actions in `state`, one of those that are not complete, in the order in which they were received.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn in_state(&self, state: State) -> Result<Vec<Record>, LedgerError> {
        let mut all = Vec::new();
        self.each_in_state(state, |record| all.push(record))?;
        Ok(all)
    }

    /// The same one by one, for a state that may be that of very many.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn each_in_state(&self, state: State, mut take: impl FnMut(Record)) -> Result<(), LedgerError> {
        let mut read = || {
            let mut query = self.connection.prepare_cached(&format!(
                "SELECT queue, id, generation, endpoint, command, svc_id, svcname, queued_at, reason, tries, state, boot_id
                 FROM action WHERE {} AND state = ?1 ORDER BY rowid",
                schema::OPEN
            ))?;
            query.query_map([state.as_str()], record)?.try_for_each(|record| record.map(&mut take))
        };
        read().map_err(|error| self.failed(error))
    }

    /// Whether an action is known and not complete.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_open(&self, key: ActionKey) -> Result<bool, LedgerError> {
        self.connection
            .prepare_cached(&format!(
                "SELECT 1 FROM action WHERE queue = ?1 AND id = ?2 AND generation = ?3 AND {}",
                schema::OPEN
            ))
            .and_then(|mut query| query.exists(params![key.queue.as_str(), key.id.0, key.generation]))
            .map_err(|error| self.failed(error))
    }

    /// The result of an action, and the collector that it belongs to (empty: nobody knows); `None` where there is none
    /// that may be posted.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn result(&self, key: ActionKey) -> Result<Option<(String, Outcome)>, LedgerError> {
        self.connection
            .prepare_cached(
                "SELECT ret, stdout, stderr, finished_at, endpoint FROM action
                 WHERE queue = ?1 AND id = ?2 AND generation = ?3 AND ret IS NOT NULL AND state <> 'superseded'",
            )
            .and_then(|mut query| {
                query
                    .query_row(params![key.queue.as_str(), key.id.0, key.generation], |row| {
                        let stdout: Option<String> = row.get(1)?;
                        let stderr = row.get::<_, Option<String>>(2)?.unwrap_or_else(|| NO_OUTPUT.to_owned());
                        let outcome = Outcome {
                            ret: row.get(0)?,
                            stdout: stdout.unwrap_or_default(),
                            stderr,
                            ended_at: from_millis(row.get(3)?),
                        };
                        Ok((row.get(4)?, outcome))
                    })
                    .optional()
            })
            .map_err(|error| self.failed(error))
    }

    /// Writes what is durable when this returns, with the room of the reserve if need be.
    fn with_room<T>(&mut self, write: impl FnMut(&mut Connection) -> rusqlite::Result<T>) -> Result<T, LedgerError> {
        let before = self.connection.total_changes();
        let written = self.write(write)?;
        // Whatever the log holds is synced as one; but only a commit that writes something syncs it.
        if self.connection.total_changes() > before {
            self.is_behind = false;
            self.sync_name()?;
        }
        Ok(written)
    }

    /// Writes; if the disk is full, with the room of the reserve.
    fn write<T>(&mut self, mut write: impl FnMut(&mut Connection) -> rusqlite::Result<T>) -> Result<T, LedgerError> {
        let written = match write(&mut self.connection) {
            Err(err) if error::wants_room(&err) && self.reserve.give_up() => write(&mut self.connection),
            written => written,
        };
        written.map_err(|error| self.failed(error))
    }

    /// Writes what need not survive a power cut. It still comes after all that was written before it, and before all
    /// that is written after it.
    fn unsynced<T>(&mut self, write: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, LedgerError> {
        self.relaxed(|ledger| write(&mut ledger.connection).map_err(|error| ledger.failed(error)))
    }

    /// Writes, with the room of the reserve if need be, what becomes durable with the next commit that is, or with
    /// [`Self::sync`].
    fn ahead_of_sync<T>(
        &mut self,
        write: impl FnMut(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        self.is_behind = true;
        self.relaxed(|ledger| ledger.write(write))
    }

    /// Writes without a sync.
    fn relaxed<T>(&mut self, write: impl FnOnce(&mut Self) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        self.synchronous("NORMAL")?;
        let written = write(self);
        self.synchronous("FULL").and(written)
    }

    fn synchronous(&self, how: &str) -> Result<(), LedgerError> {
        self.connection.pragma_update(None, "synchronous", how).map_err(|error| self.failed(error))
    }

    /// Makes everything durable that is written. Costs nothing where a commit has done so meanwhile.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn sync(&mut self) -> Result<(), LedgerError> {
        if self.is_behind {
            let path = open::log(&self.path);
            let synced = File::open(&path).and_then(|log| log.sync_data());
            synced.map_err(|source| LedgerError::Sync { path, source })?;
            self.sync_name()?;
            self.is_behind = false;
        }
        Ok(())
    }

    fn sync_name(&mut self) -> Result<(), LedgerError> {
        if self.has_new_name {
            let path = self.path.parent().unwrap_or(&self.path).to_owned();
            let synced = File::open(&path).and_then(|directory| directory.sync_all());
            synced.map_err(|source| LedgerError::Sync { path, source })?;
            self.has_new_name = false;
        }
        Ok(())
    }

    fn failed(&self, error: rusqlite::Error) -> LedgerError {
        LedgerError::Sqlite { path: self.path.clone(), error }
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let key = ActionKey {
        queue: parsed(row, 0, |text| text.parse().ok())?,
        id: ActionId(row.get(1)?),
        generation: row.get(2)?,
    };
    Ok(Record {
        key,
        endpoint: row.get(3)?,
        row: QueuedAction {
            id: key.id,
            status: RowStatus::Other,
            command: row.get(4)?,
            svc_id: row.get(5)?,
            svcname: row.get(6)?,
            queued_at: row.get(7)?,
            earlier_ret: None,
        },
        refused: row.get(8)?,
        tries: row.get(9)?,
        state: parsed(row, 10, State::from_name)?,
        boot_id: row.get(11)?,
    })
}

fn parsed<T>(row: &Row<'_>, column: usize, parse: impl Fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    parse(&text).ok_or_else(|| {
        let unknown = format!("unknown value {text:?}").into();
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, unknown)
    })
}

fn to_millis(time: Timestamp) -> i64 {
    time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanos / 1_000_000))
}

fn from_millis(millis: i64) -> Timestamp {
    let nanos = u32::try_from(millis.rem_euclid(1000)).unwrap_or_default() * 1_000_000;
    Timestamp { seconds: millis.div_euclid(1000), nanos }
}
