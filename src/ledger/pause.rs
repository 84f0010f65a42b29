//! The pause: a file in the state directory that stops new actions from being taken, until it is gone or its time is
//! over. It survives a reboot.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::action::time::Timestamp;

const FILE: &str = "pause";

/// Since when, until when and why. A file that says none of it pauses all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub since: Option<Timestamp>,
    /// It ends by itself then.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
}

/// The file's text.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Text {
    since: Option<String>,
    until: Option<String>,
    reason: Option<String>,
}

impl Pause {
    /// The pause that is in force at `now`, if one is. Its own reader, a handler, looks before each fetch and each
    /// start.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn in_force(state: &Path, now: Timestamp) -> io::Result<Option<Self>> {
        let text = match fs::read(state.join(FILE)) {
            Ok(text) => text,
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err),
        };
        let Text { since, until, reason } = serde_json::from_slice(&text).unwrap_or_default();
        let time = |text: Option<String>| text.and_then(|text| text.parse().ok());
        let pause = Self { since: time(since), until: time(until), reason };
        Ok(Some(pause).filter(|pause| pause.until.is_none_or(|until| now < until)))
    }

    /// Puts it in force, in the place of one that is; durable when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn impose(&self, state: &Path) -> io::Result<()> {
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        let text = Text { since: time(self.since), until: time(self.until), reason: self.reason.clone() };
        let draft = state.join(format!("{FILE}.{}", std::process::id()));
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            serde_json::to_writer(&mut file, &text)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&draft, state.join(FILE))?;
            sync(state)
        };
        write().inspect_err(|_| drop(fs::remove_file(&draft)))
    }

    /// Ends whatever pause is in force; durable when this returns.
    ///
    /// # Errors
    /// When the file is there and cannot be removed.
    pub fn lift(state: &Path) -> io::Result<()> {
        match fs::remove_file(state.join(FILE)) {
            Ok(()) => sync(state),
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(()),
            Err(err) => Err(err),
        }
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp { seconds: 1_795_251_603, nanos: 250_000_000 };

    fn pause() -> Pause {
        let until = Some(NOW.plus(Duration::from_secs(60)));
        Pause { since: Some(NOW), until, reason: Some("a \"b\"\n\u{1b}".to_owned()) }
    }

    #[test]
    fn a_pause_is_in_force_until_its_time_is_over_or_it_is_lifted() {
        let state = tempfile::tempdir().unwrap();
        let at = |seconds| Pause::in_force(state.path(), NOW.plus(Duration::from_secs(seconds))).unwrap();
        assert_eq!(at(0), None);
        pause().impose(state.path()).unwrap();
        assert_eq!((at(0), at(59), at(60)), (Some(pause()), Some(pause()), None));
        let longer = Pause { until: None, ..pause() };
        longer.impose(state.path()).unwrap();
        assert_eq!(at(u64::from(u32::MAX)), Some(longer));
        Pause::lift(state.path()).unwrap();
        Pause::lift(state.path()).unwrap();
        assert_eq!(at(0), None);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0, "something is left");
    }

    #[test]
    fn a_file_that_cannot_be_understood_pauses() {
        let state = tempfile::tempdir().unwrap();
        for text in ["", "{", "[1]", "\u{0}", r#"{"since": "x", "more": 1}"#] {
            fs::write(state.path().join(FILE), text).unwrap();
            assert_eq!(Pause::in_force(state.path(), NOW).unwrap(), Some(Pause::default()), "{text:?}");
        }
    }
}
