//! Who works on this node right now, for those who only look.
//!
//! Trying the lock would tell, and would for a moment keep out a handler that starts. So this looks at the process that
//! last signed the lock file: a holder keeps the file open as long as it holds the lock, and nobody else keeps it open.
//! (`/proc/locks` names files by a device number that is not the one of `stat` on btrfs and overlayfs.)

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The process that is the one handler of the node with this state directory. Never to be called by a process that may
/// hold the lock itself: it opens and closes the lock file, and the lock would go with that.
#[must_use]
pub fn running(state: &Path) -> Option<u32> {
    let lock = state.join("lock");
    let pid: u32 = fs::read_to_string(&lock).ok()?.trim().parse().ok()?;
    let file = fs::metadata(&lock).ok()?;
    let is_it = |path: &Path| fs::metadata(path).is_ok_and(|open| (open.dev(), open.ino()) == (file.dev(), file.ino()));
    fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().any(|entry| is_it(&entry.path())).then_some(pid)
}
