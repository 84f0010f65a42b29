//! The state directory: who may use it, and the small files in it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustls::crypto::ring;

/// Where the state is unless told otherwise.
pub const DEFAULT_DIR: &str = "/var/lib/opensvc-actions-collector";

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file or directory could not be used.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another server holds the state.
    #[error("{} is in use: another `serve` runs on this state", .0.display())]
    InUse(PathBuf),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    NoRandom,
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::File { verb, path, source }
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A state directory.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// Names a state directory, without touching it.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The path of a file in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes the directory, with mode 0700, unless it exists, and takes it for one server. The lock lasts as long as the
    /// returned file is open, and dies with the process.
    ///
    /// # Errors
    /// The directory cannot be made or locked, or another server has it.
    pub fn take(&self) -> Result<File, StateError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(failed("make", &self.0))?;
        let path = self.path("lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&path).map_err(failed("open", &path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::InUse(self.0.clone())),
            Err(errno) => Err(failed("lock", &path)(errno.into())),
        }
    }

    /// The text of a file; none when there is no such file.
    ///
    /// # Errors
    /// The file is there but cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<String>, StateError> {
        let path = self.path(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Writes a file with mode 0600, whole or not at all, and on disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<(), StateError> {
        let path = self.path(name);
        let temporary = self.path(&format!(".{name}.new"));
        write_new(&temporary, text).map_err(failed("write", &temporary))?;
        std::fs::rename(&temporary, &path).map_err(failed("write", &path))?;
        File::open(&self.0).and_then(|dir| dir.sync_all()).map_err(failed("write", &self.0))
    }

    /// Removes a file, if it is there.
    pub fn forget(&self, name: &str) {
        let path = self.path(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!("cannot remove {}: {error}", path.display());
            }
            _ => {}
        }
    }

    /// Makes an empty file with mode 0600 unless it exists: `SQLite` gives its journals the mode of the database.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn touch(&self, name: &str) -> Result<PathBuf, StateError> {
        let path = self.path(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.open(&path).map_err(failed("open", &path))?;
        Ok(path)
    }

    /// The operator's token, made on first use.
    ///
    /// # Errors
    /// It cannot be read or made.
    pub fn token(&self) -> Result<String, StateError> {
        if let Some(token) = self.read("token")? {
            let token = token.trim();
            if !token.is_empty() {
                return Ok(token.to_owned());
            }
        }
        let token = random_hex::<32>()?;
        self.write("token", &format!("{token}\n"))?;
        Ok(token)
    }
}

/// `N` random bytes.
///
/// # Errors
/// The system gave none.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], StateError> {
    let mut bytes = [0; N];
    ring::default_provider().secure_random.fill(&mut bytes).map_err(|_| StateError::NoRandom)?;
    Ok(bytes)
}

/// `N` random bytes in hexadecimal.
///
/// # Errors
/// The system gave none.
pub fn random_hex<const N: usize>() -> Result<String, StateError> {
    use std::fmt::Write as _;
    let bytes = random_bytes::<N>()?;
    let mut text = String::with_capacity(2 * N);
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// A random (version 4) uuid.
///
/// # Errors
/// The system gave no random bytes.
pub fn random_uuid() -> Result<String, StateError> {
    let mut hex = random_hex::<16>()?;
    hex.replace_range(12..13, "4");
    hex.replace_range(16..17, "a");
    for at in [20, 16, 12, 8] {
        hex.insert(at, '-');
    }
    Ok(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_its_shape() {
        let uuid = random_uuid().unwrap();
        assert_eq!(uuid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!(&uuid[14..15], "4");
    }
}
