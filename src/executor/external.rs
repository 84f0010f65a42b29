//! What is kept of external actions that go on outside; and what `systemd-start` and `systemd-check` keep of theirs, and ask
//! the journal.
//!
//! The latter are two files in a directory that may belong to everybody (`/tmp`) and whose names can be guessed: neither is ever written
//! through a link, nor read from somebody else.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::action::argv::Argv;
use crate::action::external::Outside;
use crate::action::unit::{Entry, Evidence, Start};
use crate::crash;
use crate::executor::run::{self, RunDir};
use crate::executor::run_as::{Back, Failure, Identity, NotFound};
use crate::executor::supervisor;

/// What the file ends in that the action itself reads.
const DATA: &str = ".action.json";
/// What the file ends in that is ours.
const NOTE: &str = ".action.state";
/// The longest file of ours.
const LONGEST_NOTE: u64 = 64 << 10;
/// The answer about an action that has ended is repeated at least for so long.
const REPEATED: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long the journal may take, and how much of it is read.
const JOURNAL_WITHIN: Duration = Duration::from_secs(10);
const MOST_OF_JOURNAL: u64 = 1 << 20;
/// The last entries that are looked at, and how many of them are shown.
const ENTRIES: &str = "200";
const SHOWN: usize = 10;
/// The longest line that is shown, in characters.
const LONGEST_LINE: usize = 300;

/// The files of one action.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    id: String,
}

/// What is noted about an action.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The unit that it runs in.
    pub unit: String,
    /// Its start.
    pub start: Start,
    /// What was said of its end.
    pub report: Option<Value>,
}

impl Files {
    /// Those of the action `id`, which is plain, below `directory`.
    #[must_use]
    pub fn of(directory: &Path, id: &str) -> Self {
        Self { directory: directory.to_owned(), id: id.to_owned() }
    }

    /// Leaves the action's record for the unit.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_data(&self, record: &str) -> io::Result<()> {
        self.replace(DATA, record.as_bytes())
    }

    /// Removes it.
    pub fn remove_data(&self) {
        let _ = fs::remove_file(self.path(DATA));
    }

    /// Notes something.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_note(&self, note: &Note) -> io::Result<()> {
        self.replace(NOTE, &serde_json::to_vec(note)?)
    }

    /// Forgets it.
    pub fn remove_note(&self) {
        let _ = fs::remove_file(self.path(NOTE));
    }

    /// What is noted.
    ///
    /// # Errors
    /// When it is there and cannot be read, or is somebody else's.
    pub fn read_note(&self) -> io::Result<Option<Note>> {
        let path = self.path(NOTE);
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0
        {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "it is not this user's own"));
        }
        let mut bytes = Vec::new();
        file.take(LONGEST_NOTE).read_to_end(&mut bytes)?;
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// Removes what was noted about actions whose end was told long before `now`.
    pub fn forget_old(directory: &Path, now: SystemTime) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_suffix(NOTE)) else { continue };
            let old = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > REPEATED));
            let files = Self::of(directory, id);
            if old && files.read_note().is_ok_and(|note| note.is_some_and(|note| note.report.is_some())) {
                files.remove_note();
            }
        }
    }

    /// Where the action's record is.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path(DATA)
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.directory.join(format!("{}{ending}", self.id))
    }

    /// Writes a file that only its owner can read, whole or not at all. What was there under the name, a link too, is
    /// replaced and not written to.
    fn replace(&self, ending: &str, bytes: &[u8]) -> io::Result<()> {
        let draft = self.directory.join(format!(".{}", random_uuid()?));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&draft, self.path(ending))
        })();
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written
    }
}

impl RunDir {
    /// What is known of an external action that goes on outside; `None`: it does not, or that cannot be read.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn outside(&self) -> io::Result<Option<Outside>> {
        match fs::read(self.path().join(run::OUTSIDE)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Makes it durable, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_outside(&self, outside: &Outside) -> io::Result<()> {
        let draft = self.path().join(format!("{}.new", run::OUTSIDE));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec(outside)?)?;
        file.sync_all()?;
        crash::point("outside-drafted");
        let first = !self.is_outside();
        fs::rename(&draft, self.path().join(run::OUTSIDE))?;
        crash::point("outside-noted");
        // At first the names as well: the run directory's, and that of the directory of all runs.
        for directory in [".", "..", "../.."].into_iter().take(if first { 3 } else { 1 }) {
            File::open(self.path().join(directory))?.sync_all()?;
        }
        Ok(())
    }
}

/// A UUID that nobody has seen.
///
/// # Errors
/// When `/proc` is not there.
pub fn random_uuid() -> io::Result<String> {
    let mut text = String::new();
    File::open("/proc/sys/kernel/random/uuid")?.take(64).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

/// What the journal of this boot tells about a unit, and its own last lines. An empty answer is no error: there need not be
/// a journal.
pub async fn journal(unit: &str, of_user: bool, invocation: Option<&str>) -> (Evidence, Vec<String>) {
    if !of_user {
        // What the manager has just said may still be on its way.
        let _ = said("journalctl", &["--sync"]).await;
    }
    let mut words = vec!["--boot", "--no-pager", "--quiet", "--output=json", "--lines", ENTRIES];
    words.extend(if of_user { ["--user-unit", unit] } else { ["--unit", unit] });
    let printed = said("journalctl", &words).await.unwrap_or_default();
    let (mut evidence, mut lines) = (Evidence::default(), Vec::new());
    for line in printed.split(|byte| *byte == b'\n') {
        let Ok(value) = serde_json::from_slice::<Value>(line) else { continue };
        let text = match &value["MESSAGE"] {
            Value::String(text) => text.clone(),
            Value::Array(bytes) => {
                let bytes: Vec<u8> = bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            _ => continue,
        };
        lines.push(text.chars().take(LONGEST_LINE).collect::<String>().replace(char::is_control, " "));
        // A field that was given twice is a list, and of no interest.
        if let Ok(entry) = serde_json::from_value::<Entry>(value) {
            evidence.take(&entry, invocation);
        }
    }
    let first = lines.len().saturating_sub(SHOWN);
    (evidence, lines.split_off(first))
}

/// What a program of the machine prints, within bounds.
async fn said(program: &str, words: &[&str]) -> io::Result<Vec<u8>> {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut printed = Vec::new();
    let mut stdout = child.stdout.take().ok_or(ErrorKind::BrokenPipe)?.take(MOST_OF_JOURNAL);
    let whole = async {
        stdout.read_to_end(&mut printed).await?;
        child.wait().await
    };
    match timeout(JOURNAL_WITHIN, whole).await {
        Ok(done) => done.map(|_| printed),
        Err(_) => Err(ErrorKind::TimedOut.into()),
    }
}

/// Runs a command of an external action for a person who waits: with an environment like that of any other run, what it
/// prints is printed, or, with `captured`, what it prints to its standard output is returned. `None`: it took too long, and
/// was killed.
///
/// # Errors
/// When it cannot be started.
pub async fn by_hand(
    argv: &Argv,
    environment: &BTreeMap<OsString, OsString>,
    user: Option<&str>,
    limit: Duration,
    captured: bool,
) -> io::Result<Option<(ExitStatus, Vec<u8>)>> {
    let input = argv.input().map(supervisor::input).transpose()?;
    let identity = user.map(Identity::find).transpose().map_err(|not_found| match not_found {
        NotFound::Unknown => io::Error::other(format!("this machine knows no user {:?}", user.unwrap_or_default())),
        NotFound::Unanswered(err) => err,
    })?;
    let (mut command, back) = match &identity {
        None => (Command::new(argv.program()), None),
        Some(identity) => {
            let (command, back) = identity.command(&argv.program().to_string_lossy(), input.as_ref())?;
            (Command::from(command), Some(back))
        }
    };
    command.args(argv.args()).env_clear().envs(environment).current_dir("/").kill_on_drop(true);
    match &identity {
        None => command.stdin(input.map_or_else(Stdio::null, Stdio::from)),
        Some(identity) => command.envs(identity.environment()),
    };
    command.stdout(if captured { Stdio::piped() } else { Stdio::inherit() });
    let mut child = command.spawn()?;
    drop(command); // and with it our copy of the way back
    if let Some(Err(Failure::Become(err) | Failure::Exec(err))) = back.map(Back::began) {
        return Err(err);
    }
    let mut printed = Vec::new();
    let stdout = child.stdout.take();
    let whole = async {
        if let Some(stdout) = stdout {
            stdout.take(MOST_OF_JOURNAL).read_to_end(&mut printed).await?;
        }
        child.wait().await
    };
    match timeout(limit, whole).await {
        Ok(status) => Ok(Some((status?, printed))),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn no_file_is_written_through_a_link_or_readable_by_others() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::of(dir.path(), "abc");
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, files.data()).unwrap();
        symlink(&victim, files.path(NOTE)).unwrap();
        files.read_note().unwrap_err();
        files.write_data("{}").unwrap();
        files.write_note(&Note::default()).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        for path in [files.data(), files.path(NOTE)] {
            let metadata = fs::symlink_metadata(&path).unwrap();
            assert!(metadata.is_file() && metadata.mode() & 0o7777 == 0o600, "{metadata:?}");
        }
        assert_eq!(files.read_note().unwrap(), Some(Note::default()));
        fs::set_permissions(files.path(NOTE), fs::Permissions::from_mode(0o666)).unwrap();
        files.read_note().unwrap_err();
        files.remove_data();
        files.remove_note();
        assert_eq!(files.read_note().unwrap(), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the victim alone");
    }

    #[test]
    fn only_what_was_told_long_ago_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let told = Note { report: Some(Value::Null), ..Note::default() };
        let told = Note { report: Some(serde_json::json!({"status": "finished"})), ..told };
        Files::of(dir.path(), "told").write_note(&told).unwrap();
        Files::of(dir.path(), "open").write_note(&Note::default()).unwrap();
        let written = fs::metadata(dir.path().join("told.action.state")).unwrap().modified().unwrap();
        Files::forget_old(dir.path(), written + REPEATED);
        assert!(Files::of(dir.path(), "told").read_note().unwrap().is_some());
        Files::forget_old(dir.path(), written + REPEATED + Duration::from_secs(60));
        assert!(Files::of(dir.path(), "told").read_note().unwrap().is_none());
        assert!(Files::of(dir.path(), "open").read_note().unwrap().is_some());
    }
}
