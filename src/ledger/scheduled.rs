//! When a timer's run last went to fetch: what the intervals of the schedule count from.
//!
//! It is the time of change of one empty file in the state directory, so that a run each minute costs neither a write nor
//! a sync. A run that is forgotten in a power cut is one that may come again a little sooner.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crate::action::time::Timestamp;

const FILE: &str = "scheduled";

/// Remembers that a timer's run goes to fetch.
///
/// # Errors
/// When the file cannot be made or changed.
pub fn ran(state: &Path, now: Timestamp) -> io::Result<()> {
    // A clock before 1970 is as good as one at it.
    let now = UNIX_EPOCH + Duration::new(u64::try_from(now.seconds).unwrap_or_default(), now.nanos);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(state.join(FILE))?.set_modified(now)
}

/// When that was; `None`: never.
///
/// # Errors
/// When the file is there and cannot be looked at.
pub fn last_run(state: &Path) -> io::Result<Option<Timestamp>> {
    match fs::metadata(state.join(FILE)).and_then(|metadata| metadata.modified()) {
        Ok(last) => Ok(Some(Timestamp::from_system_time(last))),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_run_is_remembered_whichever_way_the_clock_goes() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(last_run(state.path()).unwrap(), None);
        for seconds in [2_000_000_000, 100] {
            let now = Timestamp { seconds, nanos: 5000 };
            ran(state.path(), now).unwrap();
            assert_eq!(last_run(state.path()).unwrap(), Some(now));
        }
    }
}
