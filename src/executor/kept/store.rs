//! Where kept output is when its run is over, and how much of it.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Stream, kept_of};
use crate::action::ActionKey;
use crate::executor::run::{self, RunDir};

/// How many outputs are removed in one go.
const AT_ONCE: usize = 2000;

/// Moves what is kept of a run out of its directory, which is about to be removed.
///
/// # Errors
/// When that cannot be done.
pub fn keep(state: &Path, key: ActionKey) -> io::Result<()> {
    let (from, to) = (RunDir::of(state, key), kept_of(state, key));
    for stream in Stream::BOTH {
        let file = from.path().join(stream.file());
        if file.try_exists()? {
            DirBuilder::new().recursive(true).mode(0o700).create(&to)?;
            fs::rename(file, to.join(stream.file()))?;
        }
    }
    Ok(())
}

/// Removes what is kept under the name of an action that is about to start: it is another one's, which a ledger that was
/// lost knew.
///
/// # Errors
/// When it is there and cannot be removed.
pub(in crate::executor) fn forget(state: &Path, key: ActionKey) -> io::Result<()> {
    match fs::remove_dir_all(kept_of(state, key)) {
        Err(err) if err.kind() != ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// One action's kept output.
struct Output {
    /// When its last byte was written; `None`: there is nothing in its directory.
    at: Option<SystemTime>,
    key: ActionKey,
    directory: PathBuf,
    bytes: u64,
}

/// Removes output that was last written before `before`, and then the oldest until all of it, that of runs which are not
/// reported yet included, is at most `limit` bytes.
///
/// # Errors
/// When it cannot be listed or removed.
pub fn prune(state: &Path, limit: u64, before: SystemTime) -> io::Result<()> {
    let mut outputs = Vec::new();
    for (key, directory) in run::all(state)?.into_iter().map(|(key, dir)| (key, dir.path().to_owned())) {
        outputs.extend(Some(look(key, directory)?).filter(|output| output.at.is_some()));
    }
    for (key, directory) in run::keys_in(&state.join("output"))? {
        outputs.push(look(key, directory)?);
    }
    outputs.sort_by_key(|output| (output.at, output.key));
    let mut bytes: u64 = outputs.iter().map(|output| output.bytes).sum();
    // The newest stays whatever the limit: somebody may be about to look at it.
    if outputs.last().is_some_and(|newest| newest.at.is_some_and(|at| at >= before)) {
        outputs.pop();
    }
    for output in outputs.into_iter().take(AT_ONCE) {
        if bytes > limit || output.at.is_none_or(|at| at < before) {
            bytes -= output.bytes;
            remove(state, &output)?;
        }
    }
    Ok(())
}

fn look(key: ActionKey, directory: PathBuf) -> io::Result<Output> {
    let mut output = Output { at: None, key, directory, bytes: 0 };
    for stream in Stream::BOTH {
        match fs::metadata(output.directory.join(stream.file())) {
            Ok(metadata) => {
                output.at = output.at.max(Some(metadata.modified()?));
                output.bytes += metadata.len();
            }
            Err(err) if err.kind() == ErrorKind::NotFound => {}
            Err(err) => return Err(err),
        }
    }
    Ok(output)
}

fn remove(state: &Path, output: &Output) -> io::Result<()> {
    if output.directory == kept_of(state, output.key) {
        return fs::remove_dir_all(&output.directory);
    }
    for stream in Stream::BOTH {
        match fs::remove_file(output.directory.join(stream.file())) {
            Err(err) if err.kind() != ErrorKind::NotFound => return Err(err),
            _ => {}
        }
    }
    Ok(())
}
