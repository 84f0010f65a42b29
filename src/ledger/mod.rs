//! What this node knows about its actions, durable: one SQLite file. The only place that names `rusqlite`.
//!
//! Every change that something outside depends on is committed, and synced, before that something happens: an action
//! before the collector hears that we hold it, its start before its command runs, its result before it is posted.

pub mod contact;
pub mod orders;
pub mod pause;
mod schema;
pub mod view;

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use crate::action::admission::{Evidence, Older, State, Verdict, admit, is_same_action};
use crate::action::outcome::Outcome;
use crate::action::time::Timestamp;
use crate::action::{ActionId, ActionKey, Batch, Queue, QueuedAction, RowStatus};

/// Reported actions that are kept for their history and to recognise rows that are sent again.
const HISTORY: i64 = 100_000;
/// How long one waits for another process that is just writing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be made.
    #[error("cannot make the ledger {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A newer program wrote it.
    #[error("the ledger {} has format {found}, and this program knows formats up to {known}: upgrade it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format known here.
        known: i64,
    },
    /// It cannot even be looked for.
    #[error("cannot look for the ledger {}", path.display())]
    Look {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An older program wrote it, and only a handler may bring it up to date.
    #[error("the ledger {} has the old format {found}: the next run of the handler brings it up to date", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
    /// SQLite says no: damage, a full disk, a read-only file system.
    #[error("cannot use the ledger {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

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
    /// The boot of this machine in which its command was to start.
    pub boot_id: Option<String>,
    /// How often it could not be started.
    pub tries: u32,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Admitted {
    /// Rows to acknowledge, in the order of the answer.
    pub acknowledge: Vec<ActionId>,
    /// Generations that were not known before, in the order of the answer.
    pub new: Vec<ActionKey>,
    /// Generations whose result has to be posted (again).
    pub report: Vec<ActionKey>,
    /// Generations whose result has to be posted once before the acknowledgement: a redo takes their place.
    pub report_first: Vec<ActionKey>,
}

/// A change of one action, in the words of its life.
#[derive(Debug)]
pub enum Change {
    /// Its command did not start after all.
    NotStarted(ActionKey),
    /// Its command is about to start, in this boot of the machine.
    Started(ActionKey, Timestamp, String),
    /// It has a result.
    Finished(ActionKey, Outcome),
    /// The collector accepted the result.
    Reported(ActionKey, Timestamp),
}

impl Change {
    /// The action, if the change is that its result was accepted.
    #[must_use]
    pub fn reported(&self) -> Option<ActionKey> {
        match self {
            Self::Reported(key, _) => Some(*key),
            _ => None,
        }
    }

    /// The action, if the change is its result.
    #[must_use]
    pub fn finished(&self) -> Option<ActionKey> {
        match self {
            Self::Finished(key, _) => Some(*key),
            _ => None,
        }
    }
}

/// The open ledger.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    connection: Connection,
}

impl Ledger {
    /// Opens the ledger in the state directory, and makes it when it is not there. Only the holder of the run lock may.
    ///
    /// # Errors
    /// When it cannot be made or read, or a newer program wrote it.
    pub fn open(state: &Path) -> Result<Self, LedgerError> {
        let path = state.join("ledger.sqlite");
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| LedgerError::Create { path: path.clone(), source })?;
        let failed = |source| LedgerError::Sqlite { path: path.clone(), source };
        let connection = Connection::open(&path).map_err(failed)?;
        configure(&connection).map_err(failed)?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        if found > schema::VERSION {
            return Err(LedgerError::Newer { path, found, known: schema::VERSION });
        }
        if found == 0 {
            connection.execute_batch(&format!("BEGIN;{}COMMIT;", schema::CREATE)).map_err(failed)?;
        }
        Ok(Self { path, connection })
    }

    /// Records an answer: everything that is new in it is durable when this returns. Rows are looked at one by one, in
    /// their order, so a row that stands twice in one answer is one action.
    ///
    /// # Errors
    /// When it cannot be written; nothing of the answer is recorded then.
    pub fn receive(
        &mut self,
        queue: Queue,
        endpoint: &str,
        batch: Batch,
        now: Timestamp,
    ) -> Result<Admitted, LedgerError> {
        let path = self.path.clone();
        receive(&mut self.connection, queue, endpoint, batch, now)
            .map_err(|source| LedgerError::Sqlite { path, source })
    }

    /// Makes all `changes` durable, with one sync for all of them. Returns the actions among those to be started that
    /// must not start: somebody has cancelled them meanwhile, see [`orders`].
    ///
    /// # Errors
    /// When they cannot be written; none of them is recorded then.
    pub fn commit(&mut self, changes: &[Change]) -> Result<Vec<ActionKey>, LedgerError> {
        let path = self.path.clone();
        commit(&mut self.connection, changes).map_err(|source| LedgerError::Sqlite { path, source })
    }

    /// The actions in `state`, in the order in which they were received.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn in_state(&self, state: State) -> Result<Vec<Record>, LedgerError> {
        let read = || {
            let mut query = self.connection.prepare_cached(
                "SELECT queue, id, generation, endpoint, command, svc_id, svcname, queued_at, reason, boot_id, tries, state
                 FROM action WHERE state = ?1 AND state <> 'reported' ORDER BY rowid",
            )?;
            let rows = query.query_map([state.as_str()], record)?;
            rows.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|source| self.failed(source))
    }

    /// Whether an action is known and not reported yet.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_open(&self, key: ActionKey) -> Result<bool, LedgerError> {
        self.connection
            .prepare_cached(
                "SELECT 1 FROM action WHERE queue = ?1 AND id = ?2 AND generation = ?3 AND state <> 'reported'",
            )
            .and_then(|mut query| query.exists(params![key.queue.as_str(), key.id.0, key.generation]))
            .map_err(|source| self.failed(source))
    }

    /// The result of an action, and the collector that it belongs to; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn result(&self, key: ActionKey) -> Result<Option<(String, Outcome)>, LedgerError> {
        self.connection
            .prepare_cached(
                "SELECT ret, stdout, stderr, finished_at, endpoint FROM action
                 WHERE queue = ?1 AND id = ?2 AND generation = ?3 AND ret IS NOT NULL",
            )
            .and_then(|mut query| {
                query
                    .query_row(params![key.queue.as_str(), key.id.0, key.generation], |row| {
                        let outcome = Outcome {
                            ret: row.get(0)?,
                            stdout: row.get(1)?,
                            stderr: row.get(2)?,
                            ended_at: from_millis(row.get(3)?),
                        };
                        Ok((row.get(4)?, outcome))
                    })
                    .optional()
            })
            .map_err(|source| self.failed(source))
    }

    /// Forgets the oldest reported actions beyond the history's bound.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn prune(&mut self) -> Result<(), LedgerError> {
        self.connection
            .execute(
                "DELETE FROM action WHERE state = 'reported' AND rowid <= (SELECT max(rowid) FROM action) - ?1",
                [HISTORY],
            )
            .map(drop)
            .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> LedgerError {
        LedgerError::Sqlite { path: self.path.clone(), source }
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // People may read and cancel beside us: wait for them a little rather than fail.
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // A process that ends need not copy the log into the database: that would be two more syncs for each wake-up.
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(())
}

fn receive(
    connection: &mut Connection,
    queue: Queue,
    endpoint: &str,
    batch: Batch,
    now: Timestamp,
) -> rusqlite::Result<Admitted> {
    // Immediate: a cancellation that is committed between its first read and its first write would make it fail.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut admitted = Admitted::default();
    for row in batch.actions {
        admit_row(&transaction, &mut admitted, queue, endpoint, &row, None, now)?;
    }
    for malformed in batch.malformed {
        // It has an id and nothing that can be relied on: only its id says what it is.
        let row = QueuedAction {
            id: malformed.id,
            status: RowStatus::Other,
            command: String::new(),
            svc_id: String::new(),
            svcname: String::new(),
            queued_at: None,
            earlier_ret: None,
        };
        admit_row(&transaction, &mut admitted, queue, endpoint, &row, Some(&malformed.reason), now)?;
    }
    transaction.commit()?;
    Ok(admitted)
}

fn admit_row(
    transaction: &Transaction<'_>,
    admitted: &mut Admitted,
    queue: Queue,
    endpoint: &str,
    row: &QueuedAction,
    refused: Option<&str>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let recorded = newest(transaction, queue, row.id)?;
    let same = recorded.as_ref().is_none_or(|recorded| is_same_action(&row.into(), &recorded.evidence));
    let verdict = admit(row.status, same, recorded.as_ref().map(|recorded| recorded.state));
    let newest_generation = recorded.as_ref().map_or(0, |recorded| recorded.generation);
    let older = ActionKey { queue, id: row.id, generation: newest_generation };
    match verdict {
        Verdict::Acknowledge => admitted.acknowledge.push(row.id),
        Verdict::Report => admitted.report.push(older),
        Verdict::Take | Verdict::NewGeneration(_) => {
            match verdict {
                Verdict::NewGeneration(Older::ReportedFirst) => admitted.report_first.push(older),
                Verdict::NewGeneration(Older::Superseded) => supersede(transaction, older, now)?,
                _ => {}
            }
            let key = ActionKey { generation: newest_generation + 1, ..older };
            insert(transaction, key, endpoint, row, refused, now)?;
            admitted.acknowledge.push(row.id);
            admitted.new.push(key);
        }
    }
    Ok(())
}

struct Newest {
    generation: u32,
    state: State,
    evidence: Evidence,
}

fn newest(transaction: &Transaction<'_>, queue: Queue, id: ActionId) -> rusqlite::Result<Option<Newest>> {
    transaction
        .prepare_cached(
            "SELECT generation, state, command, svc_id, queued_at FROM action
             WHERE queue = ?1 AND id = ?2 ORDER BY generation DESC LIMIT 1",
        )?
        .query_row(params![queue.as_str(), id.0], |row| {
            Ok(Newest {
                generation: row.get(0)?,
                state: parsed(row, 1, State::from_name)?,
                evidence: Evidence { command: row.get(2)?, svc_id: row.get(3)?, queued_at: row.get(4)? },
            })
        })
        .optional()
}

fn insert(
    transaction: &Transaction<'_>,
    key: ActionKey,
    endpoint: &str,
    row: &QueuedAction,
    refused: Option<&str>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO action
             (queue, id, generation, endpoint, state, command, svc_id, svcname, queued_at, reason, received_at)
             VALUES (?1, ?2, ?3, ?4, 'received', ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            key.queue.as_str(),
            key.id.0,
            key.generation,
            endpoint,
            row.command,
            row.svc_id,
            row.svcname,
            row.queued_at,
            refused,
            to_millis(now),
        ])
        .map(drop)
}

/// The generation will not run, and its result will not be posted: its id means something else now.
fn supersede(transaction: &Transaction<'_>, key: ActionKey, now: Timestamp) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE action SET state = 'reported', reason = 'superseded: the collector gave its id to another action',
             reported_at = ?4 WHERE queue = ?1 AND id = ?2 AND generation = ?3",
        )?
        .execute(params![key.queue.as_str(), key.id.0, key.generation, to_millis(now)])
        .map(drop)
}

fn commit(connection: &mut Connection, changes: &[Change]) -> rusqlite::Result<Vec<ActionKey>> {
    let mut not_to_start = Vec::new();
    if changes.is_empty() {
        return Ok(not_to_start);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for change in changes {
        let rows = match change {
            Change::NotStarted(key) => transaction
                .prepare_cached(
                    "UPDATE action SET state = 'received', started_at = NULL, tries = tries + 1
                     WHERE queue = ?1 AND id = ?2 AND generation = ?3",
                )?
                .execute(params![key.queue.as_str(), key.id.0, key.generation])?,
            Change::Started(key, at, boot_id) => transaction
                .prepare_cached(
                    "UPDATE action SET state = 'started', started_at = ?4, boot_id = ?5
                     WHERE queue = ?1 AND id = ?2 AND generation = ?3 AND state = 'received'",
                )?
                .execute(params![key.queue.as_str(), key.id.0, key.generation, to_millis(*at), boot_id])?,
            Change::Finished(key, outcome) => transaction
                .prepare_cached(
                    "UPDATE action SET state = 'finished', finished_at = ?4, ret = ?5, stdout = ?6, stderr = ?7
                     WHERE queue = ?1 AND id = ?2 AND generation = ?3 AND state IN ('received', 'started')",
                )?
                .execute(params![
                    key.queue.as_str(),
                    key.id.0,
                    key.generation,
                    to_millis(outcome.ended_at),
                    outcome.ret,
                    outcome.stdout,
                    outcome.stderr,
                ])?,
            Change::Reported(key, at) => transaction
                .prepare_cached(
                    "UPDATE action SET state = 'reported', reported_at = ?4
                     WHERE queue = ?1 AND id = ?2 AND generation = ?3",
                )?
                .execute(params![key.queue.as_str(), key.id.0, key.generation, to_millis(*at)])?,
        };
        if let (0, Change::Started(key, ..)) = (rows, change) {
            not_to_start.push(*key);
        }
    }
    transaction.commit()?;
    Ok(not_to_start)
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
        boot_id: row.get(9)?,
        tries: row.get(10)?,
        state: parsed(row, 11, State::from_name)?,
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
