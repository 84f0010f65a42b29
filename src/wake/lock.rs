//! The files of the wake protocol: the mark, the lock, and what is owed. What they are for, and in which order they are
//! used, is said in [`crate::wake::protocol`].

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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

/// What a timer's run writes into the mark; whoever else sets it writes a line end, but for a notification.
const BY_SCHEDULE: u8 = b's';
/// What each notification writes.
const BY_NOTIFICATION: u8 = b'n';

/// Who waits for a fetch that has not succeeded yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// Nobody but the schedule: a timer's run could not fetch.
    BySchedule,
    /// A notification, or a person.
    ToSomebody,
}

/// The mark and the lock of one node.
#[derive(Clone, Debug)]
pub struct WakeFiles {
    mark: PathBuf,
    owed: PathBuf,
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
        let files = Self::in_state(state);
        if !files.lock.exists() {
            sync_names(state);
        }
        Ok(files)
    }

    /// The same for one who only looks: nothing is made.
    #[must_use]
    pub fn in_state(state: &Path) -> Self {
        Self { mark: state.join("wake"), owed: state.join("wake.owed"), lock: state.join("lock") }
    }

    /// Says that a fetch has to begin after now.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn set_mark(&self) -> Result<(), LockError> {
        self.mark_with(b'\n')
    }

    /// The same, and says who waits for it. The run of a timer does not make forget who waits already: taking the mark
    /// forgets what was owed before.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn set_mark_for(&self, whom: Owed) -> Result<(), LockError> {
        match whom {
            Owed::BySchedule if self.owed() != Some(Owed::ToSomebody) => self.mark_with(BY_SCHEDULE),
            _ => self.set_mark(),
        }
    }

    /// Says it once more, for one who has found the lock busy: a holder that does not fetch may have seen his mark
    /// before it took the lock, and counts only what is added while it holds it. A mark that is gone was taken for a
    /// fetch, and is not made again.
    pub fn repeat_mark_for(&self, whom: Owed) {
        let byte = if whom == Owed::BySchedule { BY_SCHEDULE } else { b'\n' };
        if let Ok(mut mark) = OpenOptions::new().append(true).open(&self.mark) {
            let _ = mark.write_all(&[byte]);
        }
    }

    /// The same as [`Self::set_mark`] for a notification: they are counted.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn set_mark_of_notification(&self) -> Result<(), LockError> {
        self.mark_with(BY_NOTIFICATION)
    }

    /// How many notifications there were, of whatever process, in the mark that was taken last.
    #[must_use]
    pub fn notifications_taken(&self) -> u64 {
        let marks = fs::read(&self.owed).unwrap_or_default();
        marks.into_iter().filter(|mark| *mark == BY_NOTIFICATION).count() as u64
    }

    fn mark_with(&self, byte: u8) -> Result<(), LockError> {
        match OpenOptions::new().append(true).create(true).mode(0o600).open(&self.mark) {
            Ok(mut mark) => {
                // It grows, so that a mark that was set again can be told from one that was there: see `mark`. That it
                // is there says everything else, and a full disk must not keep a handler from starting.
                let _ = mark.write_all(&[byte]);
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

    /// Takes the mark and tells whether it was set. A fetch is owed from now on, until [`Self::settle`]: the mark
    /// changes its name, so that no moment is without it.
    ///
    /// # Errors
    /// When the file is there and cannot be renamed.
    pub fn take_mark(&self) -> Result<bool, LockError> {
        match fs::rename(&self.mark, &self.owed) {
            Ok(()) => Ok(true),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(LockError::File { path: self.mark.clone(), source }),
        }
    }

    /// Says that every queue was fetched after the mark was taken. Only the holder of the lock may say so.
    ///
    /// # Errors
    /// When the file is there and cannot be removed.
    pub fn settle(&self) -> Result<(), LockError> {
        match fs::remove_file(&self.owed) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(LockError::File { path: self.owed.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// Whether the mark is set.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.mark.exists()
    }

    /// Whether a fetch was wanted and none has succeeded since, and who wanted it: the mark is set, or one is owed.
    #[must_use]
    pub fn owed(&self) -> Option<Owed> {
        let who = |path: &Path| match fs::read(path) {
            Ok(marks) if !marks.is_empty() && marks.iter().all(|mark| *mark == BY_SCHEDULE) => Some(Owed::BySchedule),
            Err(err) if err.kind() == io::ErrorKind::NotFound => None,
            // On a full disk a mark may be empty.
            _ => Some(Owed::ToSomebody),
        };
        match (who(&self.mark), who(&self.owed)) {
            (Some(Owed::ToSomebody), _) | (_, Some(Owed::ToSomebody)) => Some(Owed::ToSomebody),
            (mark, owed) => mark.or(owed),
        }
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
    ///
    /// Every number has the same length, so that the file is never emptied: ext4 writes a file that was out at once, and who
    /// empties it next waits for that.
    pub fn sign(&mut self) {
        let text = format!("{:<10}\n", std::process::id());
        let signed = self.file.metadata().and_then(|before| {
            let empty_fetch = if before.len() == 0 { SystemTime::UNIX_EPOCH } else { before.modified()? };
            self.file.write_all(text.as_bytes())?;
            if before.len() > text.len() as u64 {
                self.file.set_len(text.len() as u64)?; // it was not ours
            }
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
    fn last_empty_fetch(&self) -> Option<SystemTime> {
        self.file.metadata().and_then(|metadata| metadata.modified()).ok()
    }

    /// How long a notified fetch has to wait still, so that it begins no sooner than `interval` after an empty one.
    #[must_use]
    pub fn rest(&self, interval: Duration, now: SystemTime) -> Option<Duration> {
        // A clock that was set back says nothing.
        let since = now.duration_since(self.last_empty_fetch()?).ok()?;
        interval.checked_sub(since).filter(|rest| !rest.is_zero())
    }
}
