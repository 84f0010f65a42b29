//! Reading a settings file that only root can have written.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::ConfigError;

/// More than anybody writes by hand, and little enough to hold in memory.
const MAX_SIZE: u64 = 8 * 1024 * 1024;

/// As many symbolic links as the kernel follows.
const MAX_LINKS: usize = 40;

/// Reads a file if it exists. A dangling symbolic link is a mistake, not a missing file.
pub(super) fn read_if_exists(path: &Path) -> Result<Option<String>, ConfigError> {
    bytes_if_exist(path)?.map(|bytes| text(path, bytes)).transpose()
}

/// The same, whatever the bytes are.
pub(super) fn bytes_if_exist(path: &Path) -> Result<Option<Vec<u8>>, ConfigError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        Ok(_) => bytes(path).map(Some),
    }
}

/// Reads a file that must exist, be UTF-8, and be safe from anybody but root: the file, its directory, and the directory of
/// each symbolic link that leads to it.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    text(path, bytes(path)?)
}

fn bytes(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let cannot_read = |source| ConfigError::Read { path: path.to_owned(), source };
    let refused = |reason: String| ConfigError::File { path: path.to_owned(), reason };
    // looked at before it is opened: opening a pipe would wait for a writer
    if !fs::metadata(path).map_err(cannot_read)?.is_file() {
        return Err(refused("not a regular file".to_owned()));
    }
    let file = File::open(path).map_err(cannot_read)?;
    check(path, path, &file.metadata().map_err(cannot_read)?)?;
    for directory in directories(path).map_err(cannot_read)? {
        check(path, &directory, &fs::metadata(&directory).map_err(cannot_read)?)?;
    }
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(cannot_read)?;
    if u64::try_from(bytes.len()).is_ok_and(|size| size > MAX_SIZE) {
        return Err(refused(format!("larger than {} MiB", MAX_SIZE >> 20)));
    }
    Ok(bytes)
}

/// The bytes of a file as text.
pub(super) fn text(path: &Path, bytes: Vec<u8>) -> Result<String, ConfigError> {
    String::from_utf8(bytes).map_err(|error| {
        let line = line_at(error.as_bytes(), error.utf8_error().valid_up_to());
        ConfigError::Syntax { path: path.to_owned(), line, reason: "not valid UTF-8".to_owned() }
    })
}

/// The line of a position in a text, from 1.
pub(super) fn line_at(text: &[u8], offset: usize) -> usize {
    text[..offset.min(text.len())].split(|byte| *byte == b'\n').count()
}

/// The directory that the path names, that of each link on the way, and that of the file.
fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut directories = Vec::new();
    let mut at = std::path::absolute(path)?;
    for _ in 0..MAX_LINKS {
        let Some(directory) = at.parent().map(fs::canonicalize).transpose()? else { break };
        let link = fs::read_link(&at);
        if let Ok(target) = &link {
            at = directory.join(target);
        }
        directories.push(directory);
        if link.is_err() {
            break; // the file itself
        }
    }
    directories.dedup();
    Ok(directories)
}

/// Refuses a settings file because of `subject`, which is the file or a directory of it.
fn check(path: &Path, subject: &Path, metadata: &Metadata) -> Result<(), ConfigError> {
    let (mode, uid) = (metadata.mode() & 0o7777, metadata.uid());
    let reason = if uid != 0 {
        format!("{} belongs to uid {uid}, not to root; 'chown root {0}'", subject.display())
    } else if mode & 0o022 != 0 {
        format!("others than root can write {} (mode {mode:04o}); 'chmod go-w {0}'", subject.display())
    } else {
        return Ok(());
    };
    Err(ConfigError::Untrusted { path: path.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refusal(path: &Path) -> String {
        match read(path) {
            Err(error @ ConfigError::Untrusted { .. }) => error.to_string(),
            other => panic!("not refused: {other:?}"),
        }
    }

    /// A file `f` with mode 0644 in a directory `d` with mode 0755.
    fn fixture() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("d");
        fs::create_dir(&directory).unwrap();
        chmod(&directory, 0o755);
        let file = directory.join("f");
        fs::write(&file, "text").unwrap();
        chmod(&file, 0o644);
        (root, file)
    }

    #[test]
    fn missing_is_not_an_error_unless_it_is_asked_for_or_a_dangling_link() {
        let (_root, file) = fixture();
        assert_eq!(read_if_exists(&file).unwrap().as_deref(), Some("text"));
        let missing = file.with_file_name("missing");
        assert_eq!(read_if_exists(&missing).unwrap(), None);
        assert!(matches!(read(&missing), Err(ConfigError::Read { .. })));
        let link = file.with_file_name("link");
        symlink(&missing, &link).unwrap();
        assert!(matches!(read_if_exists(&link), Err(ConfigError::Read { .. })));
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let (_root, file) = fixture();
        for mode in [0o664, 0o646, 0o666] {
            chmod(&file, mode);
            assert!(refusal(&file).contains("chmod go-w"));
        }
        chmod(&file, 0o600);
        chown(&file, Some(1), None).unwrap();
        assert!(refusal(&file).contains("belongs to uid 1"));
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let (_root, file) = fixture();
        let directory = file.parent().unwrap();
        for mode in [0o775, 0o777, 0o1777] {
            chmod(directory, mode);
            assert!(refusal(&file).contains(&format!("write {} ", directory.display())));
        }
        chmod(directory, 0o755);
        chown(directory, Some(1), None).unwrap();
        assert!(refusal(&file).contains("belongs to uid 1"));
    }

    #[test]
    fn a_symbolic_link_is_as_safe_as_both_its_ends() {
        let (root, file) = fixture();
        let etc = root.path().join("etc");
        fs::create_dir(&etc).unwrap();
        let link = etc.join("link");
        symlink(&file, &link).unwrap();
        assert_eq!(read(&link).unwrap(), "text");
        chmod(file.parent().unwrap(), 0o777);
        assert!(refusal(&link).contains("/d "));
        chmod(file.parent().unwrap(), 0o755);
        chmod(&etc, 0o777);
        assert!(refusal(&link).contains("/etc "));
    }

    #[test]
    fn the_directory_of_every_link_on_the_way_counts() {
        let (root, file) = fixture();
        let [first, second] = ["first", "second"].map(|name| root.path().join(name));
        for directory in [&first, &second] {
            fs::create_dir(directory).unwrap();
            chmod(directory, 0o755);
        }
        symlink(&file, second.join("link")).unwrap();
        symlink("../second/link", first.join("link")).unwrap();
        let link = first.join("link");
        assert_eq!(read(&link).unwrap(), "text");
        chmod(&second, 0o777);
        assert!(refusal(&link).contains("second "), "{}", refusal(&link));
    }

    #[test]
    fn only_regular_files_of_utf8_and_of_a_sane_size() {
        let (_root, file) = fixture();
        let reason = |path: &Path| read(path).unwrap_err().to_string();
        assert!(reason(file.parent().unwrap()).ends_with(": not a regular file"));
        assert!(reason(Path::new("/dev/zero")).ends_with(": not a regular file"));
        fs::write(&file, b"a\nb\n\xff\n").unwrap();
        assert!(reason(&file).ends_with("/f:3: not valid UTF-8"));
        File::create(&file).unwrap().set_len(MAX_SIZE + 1).unwrap();
        assert!(reason(&file).ends_with(": larger than 8 MiB"));
    }
}
