//! Opening the ledger, and what is done about one that cannot be read any more: it is set aside under a dated name, and
//! its successor begins with what the run directories tell.
//!
//! Only the holder of the run lock does any of it.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::error::{Smell, said, smell, wants_room};
use super::reserve::Reserve;
use super::{Ledger, LedgerError, PATIENCE, schema, to_millis};
use crate::action::time::Timestamp;
use crate::action::{ActionKey, Queue};

const FILE: &str = "ledger.sqlite";
/// How the names of those begin that were set aside.
pub(super) const ASIDE: &str = "ledger-damaged-";
/// The endings of SQLite's files: its own, its log, the log's index.
const COMPANIONS: [&str; 3] = ["", "-wal", "-shm"];
/// A log of more bytes is long.
const LONG_LOG: u64 = 256 << 10;

impl Ledger {
    /// Opens the ledger in the state directory. One that is not there is made, and one that is damaged is set aside and
    /// replaced; then `runs` tells the actions that have a run directory. Only the holder of the run lock may.
    ///
    /// # Errors
    /// When it cannot be made, read or replaced, or a newer program wrote it.
    pub fn open(
        state: &Path,
        now: Timestamp,
        runs: impl FnOnce() -> io::Result<Vec<ActionKey>>,
    ) -> Result<Self, LedgerError> {
        let path = state.join(FILE);
        let reserve = Reserve::of(state);
        let opened = match connect(&path) {
            Err(LedgerError::Sqlite { error, .. }) if wants_room(&error) && reserve.give_up() => connect(&path),
            opened => opened,
        };
        let opened = match opened {
            Err(LedgerError::Sqlite { error, .. }) if smell(&error) == Smell::Damage => {
                set_aside(&path, now, &said(&error))?;
                connect(&path)
            }
            opened => opened,
        };
        let (mut connection, found, has_new_name) = opened?;
        if found == 0 {
            let runs = runs().map_err(|source| LedgerError::Create { path: path.clone(), source })?;
            let lost = !runs.is_empty() || has_predecessor(state);
            create(&mut connection, &runs, lost, now)
                .map_err(|error| LedgerError::Sqlite { path: path.clone(), error })?;
            if lost {
                tracing::warn!(
                    "{} follows a ledger that was lost, and begins with the actions that have a run directory: {}; what \
                     waited is not known any more, and rows that a collector sends again are answered and not run",
                    path.display(),
                    runs.len()
                );
            }
        }
        let mut ledger = Self { path, connection, reserve, notes: Vec::new(), is_behind: false, has_new_name };
        if found == 0 {
            ledger.sync_name()?;
        }
        Ok(ledger)
    }

    /// Copies a long log into the database and empties it, which takes two syncs: to be done where nothing waits for it.
    /// Whoever opens the ledger reads all of its log, one call a page, and that is every run that finds nothing. While
    /// somebody else reads in it, it stays as it is.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn shorten_log(&mut self) -> Result<(), LedgerError> {
        if length(&log(&self.path)) <= LONG_LOG {
            return Ok(());
        }
        let shorten = |connection: &Connection| {
            connection.busy_timeout(Duration::ZERO)?;
            let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            connection.busy_timeout(PATIENCE).and(done)
        };
        shorten(&self.connection).map_err(|error| self.failed(error))
    }

    /// After an error: finds out whether this ledger is damaged, and if so, sets it aside, so that the next handler
    /// replaces it.
    ///
    /// # Errors
    /// When it cannot be set aside.
    pub fn retire_if_damaged(self, err: &LedgerError, now: Timestamp) -> Result<(), LedgerError> {
        let LedgerError::Sqlite { error, .. } = err else { return Ok(()) };
        let damage = match smell(error) {
            Smell::None => return Ok(()),
            Smell::Damage => said(error),
            Smell::Odd => match self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)) {
                Ok(answer) if answer == "ok" => return Ok(()),
                Ok(answer) => answer,
                Err(err) if smell(&err) == Smell::Damage => said(&err),
                Err(_) => return Ok(()),
            },
        };
        let path = self.path.clone();
        drop(self);
        set_aside(&path, now, &damage)
    }
}

/// Opens the file, brings an older one up to date, and tells which format it had (0: there is nothing in it yet), and
/// whether its log has a new name.
fn connect(path: &Path) -> Result<(Connection, i64, bool), LedgerError> {
    let failed = |error| LedgerError::Sqlite { path: path.to_owned(), error };
    if length(path) == 0 && length(&log(path)) > 0 {
        // The log of a ledger that is gone must not be played into a new one.
        return Err(failed(unusable("it is gone, and its log is not")));
    }
    let was_used = length(path) > 0 && has_contact(path);
    let (is_new_log, has_log) = (!log(path).exists(), length(&log(path)) > 0);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| LedgerError::Create { path: path.to_owned(), source })?;
    let mut connection = Connection::open(path).map_err(failed)?;
    // People may read and cancel beside us: wait for them a little rather than fail.
    connection.busy_timeout(PATIENCE).map_err(failed)?;
    // A process that ends need not copy the log into the database: that would be two more syncs for each wake-up.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    // Nothing is written before it is certain that this is our format.
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    if found > schema::VERSION {
        return Err(LedgerError::Newer { path: path.to_owned(), found, known: schema::VERSION });
    }
    let tables: i64 = match found {
        0 => connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?,
        _ => 0,
    };
    if tables > 0 {
        return Err(failed(unusable("it is a database, and no ledger")));
    }
    if found == 0 && was_used && !has_log {
        // Until it has grown, all of it is in its log.
        return Err(failed(unusable("its log is gone, and all of it with that")));
    }
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    if (1..schema::VERSION).contains(&found) {
        upgrade(&mut connection, found).map_err(failed)?;
        tracing::info!("{} is brought from format {found} to {}", path.display(), schema::VERSION);
    }
    Ok((connection, found, is_new_log))
}

/// Brings an older format up to date, all of it or nothing.
fn upgrade(connection: &mut Connection, found: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    make(&transaction, found)?;
    transaction.commit()
}

/// Makes the format, from an earlier one or from nothing (0).
fn make(transaction: &Transaction<'_>, found: i64) -> rusqlite::Result<()> {
    let done = usize::try_from(found).unwrap_or_default();
    schema::STEPS.iter().skip(done).try_for_each(|step| transaction.execute_batch(step))?;
    transaction.pragma_update(None, "user_version", schema::VERSION)
}

fn unusable(why: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB), Some(why.to_owned()))
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Makes the tables. A ledger that follows a lost one knows no more of an action than that it was about to start: its
/// run directory tells the rest.
fn create(connection: &mut Connection, runs: &[ActionKey], lost: bool, now: Timestamp) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    make(&transaction, 0)?;
    for key in runs {
        transaction.execute(
            "INSERT INTO action
             (queue, id, generation, endpoint, state, known, command, svc_id, svcname, reason, received_at)
             VALUES (?1, ?2, ?3, '', 'started', 0, '', '', '', ?4, ?5)",
            params![
                key.queue.as_str(),
                key.id.0,
                key.generation,
                "the ledger was lost, and what this action was with it",
                to_millis(now)
            ],
        )?;
    }
    for queue in Queue::ALL.into_iter().filter(|_| lost) {
        transaction.execute("INSERT INTO lost VALUES (?1, ?2)", params![queue.as_str(), to_millis(now)])?;
    }
    transaction.commit()
}

/// Gives a damaged ledger a dated name, for people.
fn set_aside(path: &Path, now: Timestamp, damage: &str) -> Result<(), LedgerError> {
    let failed = |source| LedgerError::SetAside { path: path.to_owned(), source };
    let date: String = now.rfc3339_millis().chars().filter(char::is_ascii_alphanumeric).collect();
    let aside = path.with_file_name(format!("{ASIDE}{date}.sqlite"));
    // The file first: without its log it would be an older ledger, and believed.
    for companion in COMPANIONS {
        match fs::rename(beside(path, companion), beside(&aside, companion)) {
            Err(err) if err.kind() != ErrorKind::NotFound => return Err(failed(err)),
            _ => {}
        }
    }
    tracing::error!("the ledger {} is damaged ({damage}): set aside as {}", path.display(), aside.display());
    Ok(())
}

/// Whether a collector was ever reached from the state directory of this ledger: then it was complete once.
pub(super) fn has_contact(path: &Path) -> bool {
    let names = path.parent().and_then(|state| fs::read_dir(state).ok()).into_iter().flatten().flatten();
    names.map(|entry| entry.file_name()).any(|name| name.as_encoded_bytes().starts_with(b"contact-"))
}

fn has_predecessor(state: &Path) -> bool {
    let names = fs::read_dir(state).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.into_iter().any(|name| name.as_encoded_bytes().starts_with(ASIDE.as_bytes()))
}

/// The log of the ledger: what is written and not copied into it yet.
pub(super) fn log(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

fn beside(path: &Path, companion: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(companion);
    name.into()
}
