//! Which machine it is. One that was cloned from another has the other's uuid and ledger: it would take the other's actions,
//! and answer for what it never ran. So the state directory remembers on which machine it was first used.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// See machine-id(5).
const MACHINE_ID: &str = "/etc/machine-id";

/// Where the state directory remembers it.
#[must_use]
pub fn file(state: &Path) -> PathBuf {
    state.join("machine-id")
}

/// The id of this machine. `None`: it has none, or not yet.
///
/// # Errors
/// When it is there and cannot be read.
pub fn id() -> io::Result<Option<String>> {
    read(Path::new(MACHINE_ID))
}

/// The id of the machine on which this state directory was first used, if that is known.
///
/// # Errors
/// When it is there and cannot be read.
pub fn remembered(state: &Path) -> io::Result<Option<String>> {
    read(&file(state))
}

/// Remembers this machine, unless one is remembered already. Nothing but a warning depends on it.
pub fn remember(state: &Path) {
    if let Err(err) = try_to_remember(state) {
        tracing::debug!("cannot remember which machine this is: {err}");
    }
}

fn try_to_remember(state: &Path) -> io::Result<()> {
    // Half of one, after a power cut or on a full disk, is none.
    if remembered(state)?.is_some() {
        return Ok(());
    }
    let Some(id) = id()? else { return Ok(()) };
    let draft = state.join("machine-id.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let written = file.write_all(format!("{id}\n").as_bytes()).and_then(|()| fs::rename(&draft, self::file(state)));
    written.inspect_err(|_| drop(fs::remove_file(&draft)))
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let mut text = Vec::new();
    match fs::File::open(path).and_then(|file| file.take(64).read_to_end(&mut text)) {
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    // At the first boot of an image it may be "uninitialized".
    let is_id = |text: &&[u8]| text.len() == 32 && text.iter().all(u8::is_ascii_hexdigit);
    let id = Some(text.trim_ascii()).filter(is_id);
    Ok(id.map(|id| String::from_utf8_lossy(id).to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_id_is_none() {
        let state = tempfile::tempdir().unwrap();
        let known = |text: &str| {
            fs::write(file(state.path()), text).unwrap();
            remembered(state.path()).unwrap()
        };
        let id = "5b1f0c6a8e0d4d1c9f6e2a7b3c4d5e6f";
        assert_eq!(known(&format!("{id}\n")).as_deref(), Some(id));
        assert_eq!(known(&id.to_uppercase()).as_deref(), Some(id));
        for other in ["", "uninitialized\n", &id[1..], &format!("{id}0")] {
            assert_eq!(known(other), None, "{other}");
        }
        fs::remove_file(file(state.path())).unwrap();
        assert_eq!(remembered(state.path()).unwrap(), None);
    }
}
