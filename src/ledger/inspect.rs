//! The ledger for whoever examines the node: opened so that nothing in the state directory changes, if that can be done at
//! all, and read from end to end.
//!
//! SQLite makes an index of the log (`-shm`) for a reader, too. Without a log there is nothing to index, and the file alone
//! is opened as one that nobody changes; with both beside it, the index is opened read-only. What is left is a log without
//! its index: then SQLite makes one.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::LedgerError;
use super::error::{Smell, smell};
use super::view::{View, connect_by};
use crate::action::Queue;

/// How often it is looked again when a handler has changed the file under a reader who took it for one at rest.
const LOOKS: u32 = 3;

/// How a ledger was found.
#[derive(Debug)]
pub enum Found {
    /// There is none.
    Missing,
    /// It is whole.
    Whole(View),
    /// It is not: what SQLite says.
    Damaged(String),
}

/// Reads the whole ledger.
///
/// # Errors
/// When it cannot be looked for or has another format than this program's.
pub fn inspect(state: &Path) -> Result<Found, LedgerError> {
    let mut looks = 0;
    loop {
        looks += 1;
        let log = log_of(state);
        let found = look(state)?;
        // A handler has begun to work in the meantime: what was read may be of two times.
        if !matches!(found, Found::Damaged(_)) || log == log_of(state) || looks == LOOKS {
            return Ok(found);
        }
    }
}

fn look(state: &Path) -> Result<Found, LedgerError> {
    let damaged = |err: LedgerError| match &err {
        LedgerError::Sqlite { error, .. } if smell(error) != Smell::None => Ok(Found::Damaged(error.to_string())),
        _ => Err(err),
    };
    let length = |name: &str| fs::metadata(state.join(name)).map_or(0, |metadata| metadata.len());
    if length("ledger.sqlite") == 0 && length("ledger.sqlite-wal") > 0 {
        return Ok(Found::Damaged("it is gone, and its log is not".to_owned()));
    }
    let (path, connection) = match connect_by(state, |path| Connection::open_with_flags(uri(path), FLAGS)) {
        Ok(None) => return Ok(Found::Missing),
        Ok(Some(opened)) => opened,
        Err(err) => return damaged(err),
    };
    match connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)) {
        Ok(answer) if answer == "ok" => Ok(Found::Whole(View { path, connection })),
        Ok(answer) => Ok(Found::Damaged(answer)),
        Err(error) => damaged(LedgerError::Sqlite { path, error }),
    }
}

const FLAGS: OpenFlags =
    OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_URI).union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

fn uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            let _ = write!(uri, "%{byte:02x}"); // a string takes everything
        }
    }
    let beside = |ending: &str| path.with_file_name(format!("ledger.sqlite{ending}"));
    let has_log = fs::metadata(beside("-wal")).is_ok_and(|log| log.len() > 0);
    uri.push_str(match (has_log, beside("-shm").exists()) {
        (false, _) => "?immutable=1",
        (true, true) => "?readonly_shm=1",
        (true, false) => "",
    });
    uri
}

/// By which one knows whether a handler has written meanwhile.
fn log_of(state: &Path) -> Option<(u64, std::time::SystemTime)> {
    let log = fs::metadata(state.join("ledger.sqlite-wal")).ok()?;
    Some((log.len(), log.modified().ok()?))
}

/// The damaged ledgers that were set aside and still lie there, in the order of their names.
///
/// # Errors
/// When the directory cannot be read.
pub fn set_aside(state: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<_> = fs::read_dir(state)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
            name.starts_with(super::open::ASIDE.as_bytes()) && name.ends_with(b".sqlite")
        })
        .collect();
    found.sort();
    Ok(found)
}

impl View {
    /// Whether anything ever came from this queue that is still remembered.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn has_heard_of(&self, queue: Queue) -> Result<bool, LedgerError> {
        const QUERY: &str = "SELECT EXISTS (SELECT 1 FROM action WHERE queue = ?1) OR EXISTS (SELECT 1 FROM tombstone WHERE queue = ?1)";
        let heard = self.connection.query_row(QUERY, [queue.as_str()], |row| row.get(0));
        heard.map_err(|error| LedgerError::Sqlite { path: self.path.clone(), error })
    }
}
