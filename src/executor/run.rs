//! The run directory of one generation, `STATE/runs/<queue>-<id>-<generation>/`: what its supervisor needs to know, the
//! claim, what is kept of its output, and in the end the record.
//!
//! The *claim* is a file with a lock (`flock`) on it. The handler makes and locks it before the ledger says "started";
//! the supervisor inherits the lock as its standard input and keeps it for its life. So the lock means: somebody lives
//! who runs this, or still may. The supervisor writes an `X` and its own number behind the boot id before it starts the
//! command: a free claim of this boot without it proves that the command never ran.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::action::state::Trace;
use crate::action::{ActionId, ActionKey};
use crate::executor::{record, remains};

/// The claim's name in the run directory.
pub const CLAIM: &str = "claim";
/// The socket on which a handler waits for the end.
pub const SOCKET: &str = "handler";
/// What a supervisor could not do, in words, where it has left no record.
pub const ERROR: &str = "error";
/// A file of this name cancels a running command; its text is the reason.
pub const CANCEL: &str = "cancel";
/// What is known of an external action that goes on outside.
pub const OUTSIDE: &str = "external";
/// The directory of the check that was begun last.
const CHECK: &str = "check";

/// What a run's claim tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is none: nothing of this run is on the disk.
    Missing,
    /// Somebody lives who runs it, or still may.
    Held,
    /// Nobody lives who runs it.
    Free {
        /// It was made in this boot of the machine.
        this_boot: bool,
        /// The command may have started.
        begun: bool,
    },
}

impl Claim {
    /// What it proves.
    #[must_use]
    pub const fn trace(self) -> Trace {
        match self {
            Self::Held => Trace::Lives,
            Self::Free { this_boot: true, begun: false } => Trace::NeverBegan,
            Self::Free { this_boot: true, begun: true } => Trace::Lost,
            Self::Free { this_boot: false, .. } | Self::Missing => Trace::Nothing,
        }
    }
}

/// One run's directory.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// The directory of `key` below the state directory.
    #[must_use]
    pub fn of(state: &Path, key: ActionKey) -> Self {
        Self { path: runs(state).join(name(key)) }
    }

    /// The run of a check, within that of the external action it is about.
    #[must_use]
    pub fn of_check(&self) -> Self {
        Self { path: self.path.join(CHECK) }
    }

    /// Whether an external action goes on outside: its start command has ended well.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        self.path.join(OUTSIDE).exists()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it anew, with a claim that is held through the returned file.
    ///
    /// # Errors
    /// When it cannot be made, or a run of this name is still held.
    pub fn create(&self, boot_id: &str) -> io::Result<File> {
        if self.claim(boot_id)? == Claim::Held {
            return Err(io::Error::new(ErrorKind::ResourceBusy, "somebody still runs it"));
        }
        self.remove()?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let mut claim =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.path.join(CLAIM))?;
        flock(&claim, FlockOperation::NonBlockingLockExclusive)?;
        claim.write_all(format!("{boot_id}\n").as_bytes())?;
        Ok(claim)
    }

    /// Looks at the claim. `boot_id` is this boot's.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn claim(&self, boot_id: &str) -> io::Result<Claim> {
        let mut file = match File::open(self.path.join(CLAIM)) {
            Ok(file) => file,
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Claim::Missing),
            Err(err) => return Err(err),
        };
        // Shared, so that two who look do not see each other; given back with the close of this file.
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return Ok(Claim::Held),
            Err(errno) => return Err(errno.into()),
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let (claimed_in, begun) = text.split_once('\n').unwrap_or((&text, ""));
        Ok(Claim::Free { this_boot: claimed_in == boot_id, begun: !begun.is_empty() })
    }

    /// Tells the supervisor to end the command; one that has not begun yet will not begin.
    ///
    /// # Errors
    /// When the directory is not there or cannot be written.
    pub fn cancel(&self, reason: &str) -> io::Result<()> {
        let draft = self.path.join(format!("{CANCEL}.new"));
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?
            .write_all(reason.as_bytes())?;
        fs::rename(&draft, self.path.join(CANCEL))
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.path.join(CANCEL).exists()
    }

    /// Whether the command has come to an end that waits to be taken over.
    #[must_use]
    pub fn has_record(&self) -> bool {
        !self.is_outside() && self.path.join(record::FILE).exists()
    }

    /// The supervisor and the command that it has started, by their numbers, as far as the claim names them.
    #[must_use]
    pub fn processes(&self) -> (Option<u32>, Option<u32>) {
        let mut claim = String::new();
        // Two lines of numbers and a path.
        let read = File::open(self.path.join(CLAIM)).and_then(|file| file.take(8192).read_to_string(&mut claim));
        let Some((_, marked)) = claim.split_once("\nX").filter(|_| read.is_ok()) else { return (None, None) };
        let number = |line: Option<&str>| line?.split_whitespace().next()?.parse().ok();
        let mut lines = marked.lines();
        (number(lines.next()), number(lines.next()))
    }

    /// What the supervisor could not do, if it said so.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        let mut text = String::new();
        File::open(self.path.join(ERROR)).ok()?.take(1024).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Kills what a supervisor that is gone has left of the command: see [`remains`].
    ///
    /// # Errors
    /// When it is there and cannot be killed.
    pub fn kill_command(&self) -> io::Result<()> {
        match fs::read_to_string(self.path.join(CLAIM)) {
            Ok(claim) => remains::kill(&claim),
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// Whether its command has begun and nobody lives who runs it or has recorded its end.
    #[must_use]
    pub fn is_abandoned(&self, boot_id: &str) -> bool {
        // The claim first: a supervisor records the end before it lets go of the claim.
        matches!(self.claim(boot_id), Ok(Claim::Free { begun: true, .. })) && !self.has_record() && !self.is_outside()
    }

    /// Removes it with everything in it.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(err) if err.kind() != ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        }
    }
}

/// Every run directory below the state directory.
///
/// # Errors
/// When they cannot be listed.
pub fn all(state: &Path) -> io::Result<Vec<(ActionKey, RunDir)>> {
    Ok(keys_in(&runs(state))?.into_iter().map(|(key, path)| (key, RunDir { path })).collect())
}

/// Every entry of a directory that is named after an action; none if it is not there.
pub(super) fn keys_in(directory: &Path) -> io::Result<Vec<(ActionKey, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(err),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(key) = entry.file_name().to_str().and_then(key) {
            found.push((key, entry.path()));
        }
    }
    Ok(found)
}

/// The name of a directory of one action.
pub(super) fn name(key: ActionKey) -> String {
    format!("{}-{}-{}", key.queue, key.id, key.generation)
}

fn runs(state: &Path) -> PathBuf {
    state.join("runs")
}

/// The key in a directory's name. An id may be negative.
fn key(name: &str) -> Option<ActionKey> {
    let (queue, rest) = name.split_once('-')?;
    let (id, generation) = rest.rsplit_once('-')?;
    Some(ActionKey { queue: queue.parse().ok()?, id: ActionId(id.parse().ok()?), generation: generation.parse().ok()? })
}
