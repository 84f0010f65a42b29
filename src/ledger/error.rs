//! Why the ledger cannot be used.

use std::io;
use std::path::PathBuf;

use rusqlite::{ErrorCode, ffi};

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
    /// What is written in it cannot be made durable.
    #[error("cannot sync {}", path.display())]
    Sync {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is damaged and cannot be set aside.
    #[error("cannot set the damaged ledger {} aside", path.display())]
    SetAside {
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
    /// There is no room to record what a fetch would bring.
    #[error("the disk is full, there is no room for {}: nothing is fetched until there is", path.display())]
    NoRoom {
        /// The reserve.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was there once.
    #[error(
        "the ledger {} is gone: what this node knew is not known any more; the next run of the handler makes a new one",
        path.display()
    )]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// SQLite says no: damage, a full disk, a read-only file system.
    #[error("cannot use the ledger {}: {}", path.display(), said(error))]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why. Not a source in the chain: it would say the same once more in other words.
        error: rusqlite::Error,
    },
}

impl LedgerError {
    /// Whether it can be that something took all the room of the disk.
    #[must_use]
    pub fn is_about_room(&self) -> bool {
        match self {
            Self::NoRoom { .. } => true,
            Self::Sqlite { error, .. } => wants_room(error),
            Self::Sync { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}

/// What SQLite says, once, with its number where there is one: its words alone do not tell a failed read from a failed
/// write.
pub(super) fn said(err: &rusqlite::Error) -> String {
    match err {
        rusqlite::Error::SqliteFailure(code, Some(words)) if code.code != ErrorCode::Unknown => {
            format!("{words} (SQLite error {})", code.extended_code)
        }
        err => err.to_string(),
    }
}

/// Whether room on the disk may help. (SQLite has no word of its own for an exhausted quota or a full disk under its
/// shared memory.)
pub(super) fn wants_room(err: &rusqlite::Error) -> bool {
    const MAY_BE: [i32; 4] =
        [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_SHMOPEN, ffi::SQLITE_IOERR_FSYNC];
    err.sqlite_error().is_some_and(|err| err.code == ErrorCode::DiskFull || MAY_BE.contains(&err.extended_code))
}

/// What an error says about the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Smell {
    /// Nothing.
    None,
    /// It may be damaged.
    Odd,
    /// It is.
    Damage,
}

pub(super) fn smell(err: &rusqlite::Error) -> Smell {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    // A table or a column that is not there: somebody else's database.
    let is_schema = |text: &str| text.starts_with("no such table") || text.starts_with("no such column");
    match err {
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) => Smell::Damage,
        _ => match err.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Smell::Damage,
            Some(ErrorCode::ConstraintViolation | ErrorCode::SystemIoFailure) => Smell::Odd,
            Some(ErrorCode::Unknown) if is_schema(&message(err)) => Smell::Damage,
            _ => Smell::None,
        },
    }
}

fn message(err: &rusqlite::Error) -> String {
    match err {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        _ => String::new(),
    }
}
