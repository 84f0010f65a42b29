//! When each queue was last fetched, and what went wrong since: for people and for monitoring, not for the protocol.
//!
//! It is one small file for each queue in the state directory. Its time of change is the last fetch that was answered,
//! so that an idle poll costs neither a write nor a sync; its text is the last error. After a power cut it may be some
//! seconds old.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::action::Queue;
use crate::action::time::Timestamp;

/// What is known about a queue's collector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// The last fetch that was answered; `None`: none was, ever.
    pub last: Option<Timestamp>,
    /// The last fetch that was not, if it is newer: when, and why.
    pub error: Option<(Timestamp, String)>,
}

#[derive(Serialize, Deserialize)]
struct Text {
    at: String,
    error: String,
}

impl Contact {
    /// Remembers that a fetch was answered.
    ///
    /// # Errors
    /// When the file cannot be made or changed.
    pub fn made(state: &Path, queue: Queue, now: SystemTime) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.open(file(state, queue))?.set_modified(now)
    }

    /// Remembers that a fetch was not answered.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn failed(state: &Path, queue: Queue, now: SystemTime, error: &str) -> io::Result<()> {
        let path = file(state, queue);
        let last = fs::metadata(&path).and_then(|metadata| metadata.modified()).unwrap_or(UNIX_EPOCH);
        let text = Text { at: Timestamp::from_system_time(now).to_string(), error: error.to_owned() };
        let draft = state.join(format!("contact-{queue}.new"));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        serde_json::to_writer(&file, &text)?;
        file.set_modified(last)?;
        fs::rename(&draft, path)
    }

    /// What is known about the queue; `None`: it was never fetched here.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read(state: &Path, queue: Queue) -> io::Result<Option<Self>> {
        let path = file(state, queue);
        let read = || Ok((fs::metadata(&path)?.modified()?, fs::read(&path)?));
        let (last, text) = match read() {
            Ok(read) => read,
            Err(err) if io::Error::kind(&err) == ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err),
        };
        let last = Some(last).filter(|last| *last != UNIX_EPOCH).map(Timestamp::from_system_time);
        let error = serde_json::from_slice(&text).ok().and_then(|Text { at, error }| Some((at.parse().ok()?, error)));
        Ok(Some(Self { error: error.filter(|(at, _)| last.is_none_or(|last| last < *at)), last }))
    }
}

fn file(state: &Path, queue: Queue) -> PathBuf {
    state.join(format!("contact-{queue}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_contact_and_a_newer_error_are_remembered() {
        let state = tempfile::tempdir().unwrap();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let known = || {
            let Contact { last, error } = Contact::read(state.path(), Queue::Rpc).unwrap()?;
            Some((last.map(|last| last.seconds), error.map(|(at, text)| (at.seconds, text))))
        };
        assert_eq!(known(), None);
        Contact::failed(state.path(), Queue::Rpc, at(50), "no\n\"way\"").unwrap();
        assert_eq!(known(), Some((None, Some((50, "no\n\"way\"".to_owned())))));
        Contact::made(state.path(), Queue::Rpc, at(100)).unwrap();
        assert_eq!(known(), Some((Some(100), None)));
        Contact::failed(state.path(), Queue::Rpc, at(150), "again").unwrap();
        assert_eq!(known(), Some((Some(100), Some((150, "again".to_owned())))));
        Contact::made(state.path(), Queue::Rpc, at(200)).unwrap();
        assert_eq!(known(), Some((Some(200), None)));
        assert_eq!(Contact::read(state.path(), Queue::Oc3).unwrap(), None);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1, "something is left");
    }
}
