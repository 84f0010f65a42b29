//! One handler at a time, and no wake-up lost.
//!
//! A starter sets the *mark* first and only then tries the lock. Whoever holds the lock removes the mark before it
//! fetches, and after it has let go of the lock it looks at the mark once more. So for every mark that is set, a fetch
//! begins afterwards: either the holder sees the mark before it ends, or the starter gets the lock.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

/// Why the files of the wake protocol cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The state directory cannot be made or used.
    #[error("cannot use the state directory {}", path.display())]
    StateDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The mark or the lock cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The mark and the lock of one node.
#[derive(Clone, Debug)]
pub struct WakeFiles {
    mark: PathBuf,
    lock: PathBuf,
}

impl WakeFiles {
    /// Uses the state directory `state`, which is made (mode 0700) when it is not there.
    ///
    /// # Errors
    /// When the directory cannot be made, or belongs to somebody else.
    pub fn open(state: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::StateDirectory { path: state.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(failed)?;
        let metadata = fs::metadata(state).map_err(failed)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            return Err(failed(io::Error::other("others than its owner, root, can write it")));
        }
        let lock = state.join("lock");
        if !lock.exists() {
            sync_names(state);
        }
        Ok(Self { mark: state.join("wake"), lock })
    }

    /// Says that a fetch has to begin after now.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn set_mark(&self) -> Result<(), LockError> {
        match OpenOptions::new().append(true).create(true).mode(0o600).open(&self.mark) {
            Ok(mut mark) => {
                // It grows, so that a mark that was set again can be told from one that was there: see `mark`. That it
                // is there says everything else, and a full disk must not keep a handler from starting.
                let _ = mark.write_all(b"\n");
                Ok(())
            }
            Err(source) => Err(LockError::File { path: self.mark.clone(), source }),
        }
    }

    /// The mark as it stands: whoever sees the same twice knows that nobody has set it in between. For one who takes
    /// the lock and does not fetch: a mark that was there before is not his, one that was set meanwhile is.
    #[must_use]
    pub fn mark(&self) -> Option<(u64, u64)> {
        fs::metadata(&self.mark).ok().map(|metadata| (metadata.ino(), metadata.len()))
    }

    /// Removes the mark and tells whether it was set.
    ///
    /// # Errors
    /// When the file is there and cannot be removed.
    pub fn take_mark(&self) -> Result<bool, LockError> {
        match fs::remove_file(&self.mark) {
            Ok(()) => Ok(true),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(LockError::File { path: self.mark.clone(), source }),
        }
    }

    /// Whether the mark is set.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.mark.exists()
    }

    /// Tries to become the one handler. `None`: another one works.
    ///
    /// The lock is `fcntl(F_SETLK)`: no child inherits it, so that a command which outlives its handler does not keep
    /// the next handler out. Such a lock goes with the first close of *any* descriptor of its file in this process:
    /// this is the only place that opens it.
    ///
    /// # Errors
    /// When the file cannot be opened or locked.
    pub fn try_lock(&self) -> Result<Option<RunLock>, LockError> {
        let failed = |source| LockError::File { path: self.lock.clone(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.lock)
            .map_err(failed)?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(RunLock { file })),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(None),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// The process that last took the lock, for people.
    #[must_use]
    pub fn holder(&self) -> Option<u32> {
        fs::read_to_string(&self.lock).ok()?.trim().parse().ok()
    }
}

/// Makes the name of a new state directory durable, and its parents' names, or else a power cut could take it away with
/// everything that is synced in it.
fn sync_names(state: &Path) {
    for parent in state.ancestors().skip(1) {
        // Some file systems refuse to sync a directory: there is nothing better to be had from them.
        if let Err(err) = File::open(parent).and_then(|parent| parent.sync_all()) {
            tracing::debug!("cannot sync {}: {err}", parent.display());
        }
    }
}

/// Held while this process is the one handler of its node.
#[derive(Debug)]
pub struct RunLock {
    file: File,
}

impl RunLock {
    /// Leaves this process's number in the file, for people. It carries no meaning for the protocol. The file's time
    /// of change is kept: it belongs to [`Self::note_empty_fetch`].
    pub fn sign(&mut self) {
        let text = format!("{}\n", std::process::id());
        let signed = self.file.metadata().and_then(|before| {
            let empty_fetch = if before.len() == 0 { SystemTime::UNIX_EPOCH } else { before.modified()? };
            self.file.set_len(0)?;
            self.file.write_all(text.as_bytes())?;
            self.file.set_modified(empty_fetch)
        });
        if let Err(err) = signed {
            tracing::debug!("cannot leave the process number in the lock file: {err}");
        }
    }

    /// Remembers, across processes, when a fetch last brought nothing.
    pub fn note_empty_fetch(&self, now: SystemTime) {
        if let Err(err) = self.file.set_modified(now) {
            tracing::debug!("cannot remember the time of an empty fetch: {err}");
        }
    }

    /// When [`Self::note_empty_fetch`] was last called, by any process.
    #[must_use]
    pub fn last_empty_fetch(&self) -> Option<SystemTime> {
        self.file.metadata().and_then(|metadata| metadata.modified()).ok()
    }
}
