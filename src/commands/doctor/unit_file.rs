//! Unit files and their drop-ins, read from where systemd reads them (systemd.unit(5)). What the manager has made of them is
//! asked elsewhere; this tells which file says what.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The first wins.
const PLACES: [&str; 7] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Nobody writes a longer one.
const LONGEST: u64 = 1 << 20;

/// A unit as its files have it.
#[derive(Debug, Default)]
pub(super) struct UnitFile {
    /// A link to nothing: it cannot be started.
    pub(super) masked: bool,
    /// The files that change it, in the order in which they do.
    pub(super) drop_ins: Vec<PathBuf>,
    /// Section, key and value, in the order in which they count.
    lines: Vec<(String, String, String)>,
}

/// Where units are looked for.
pub(super) fn places() -> Vec<PathBuf> {
    PLACES.iter().map(PathBuf::from).collect()
}

/// Reads a unit. `None`: there is none of this name.
pub(super) fn load(places: &[PathBuf], name: &str) -> Option<UnitFile> {
    let path = places.iter().map(|place| place.join(name)).find(|path| path.symlink_metadata().is_ok())?;
    let masked = fs::canonicalize(&path).is_ok_and(|path| path == Path::new("/dev/null"));
    let mut unit = UnitFile { masked, ..UnitFile::default() };
    if !masked {
        unit.read(&path);
        for path in drop_ins(places, name) {
            unit.read(&path);
            unit.drop_ins.push(path);
        }
    }
    Some(unit)
}

/// Drop-ins: of two with one name the first counts, and they are read in the order of their names.
fn drop_ins(places: &[PathBuf], name: &str) -> Vec<PathBuf> {
    let mut found: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for directory in directories(name) {
        for place in places {
            let entries = fs::read_dir(place.join(&directory)).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "conf")) {
                found.entry(entry.file_name()).or_insert_with(|| entry.path());
            }
        }
    }
    let is_masked = |path: &PathBuf| fs::canonicalize(path).is_ok_and(|path| path == Path::new("/dev/null"));
    found.into_values().filter(|path| !is_masked(path)).collect()
}

/// The directories of a unit's drop-ins, the most particular first: `a-b.socket.d`, `a-.socket.d`, `socket.d`.
fn directories(name: &str) -> Vec<String> {
    let mut all = vec![format!("{name}.d")];
    if let Some((stem, kind)) = name.rsplit_once('.') {
        let dashes = stem.char_indices().rev().filter(|(at, c)| *c == '-' && at + 1 < stem.len());
        all.extend(dashes.map(|(at, _)| format!("{}.{kind}.d", &stem[..=at])));
        all.push(format!("{kind}.d"));
    }
    all
}

/// The names of all units of a kind (`.socket`).
pub(super) fn names(places: &[PathBuf], ending: &str) -> Vec<String> {
    let mut names: Vec<_> = places
        .iter()
        .flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(ending))
        .collect();
    names.sort();
    names.dedup();
    names
}

impl UnitFile {
    fn read(&mut self, path: &Path) {
        let mut text = Vec::new();
        if File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut text)).is_ok() {
            self.add(&String::from_utf8_lossy(&text));
        }
    }

    fn add(&mut self, text: &str) {
        let (mut section, mut before) = (String::new(), String::new());
        for line in text.lines() {
            let trimmed = line.trim();
            if trimmed.starts_with(['#', ';']) {
                continue; // within a line that goes on, too
            }
            if let Some(beginning) = trimmed.strip_suffix('\\') {
                before = format!("{before}{beginning} ");
                continue;
            }
            let whole = std::mem::take(&mut before) + trimmed;
            if let Some(name) = whole.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, value)) = whole.split_once('=') {
                self.lines.push((section.clone(), key.trim_end().to_owned(), value.trim_start().to_owned()));
            }
        }
    }

    /// The values of a key that can have several: an empty one forgets those before it.
    pub(super) fn values(&self, section: &str, key: &str) -> Vec<&str> {
        let mut values = Vec::new();
        for (_, _, value) in self.lines.iter().filter(|(in_section, its, _)| in_section == section && its == key) {
            if value.is_empty() {
                values.clear();
            } else {
                values.push(value.as_str());
            }
        }
        values
    }

    /// The value of a key that has one: the last.
    pub(super) fn value(&self, section: &str, key: &str) -> Option<&str> {
        self.values(section, key).pop()
    }

    /// Whether a key is set to yes.
    pub(super) fn flag(&self, section: &str, key: &str) -> bool {
        self.value(section, key)
            .is_some_and(|value| ["1", "yes", "y", "true", "t", "on"].iter().any(|yes| value.eq_ignore_ascii_case(yes)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn drop_ins_change_a_unit_in_the_order_of_their_names_and_an_empty_value_forgets() {
        let dir = tempfile::tempdir().unwrap();
        let [etc, usr] = ["etc", "usr"].map(|name| dir.path().join(name));
        let places = [etc.clone(), usr.clone()];
        assert!(load(&places, "a-b.socket").is_none());
        write(&usr.join("a-b.socket"), "# x\n[Socket]\nListenStream = 1\nAccept=no\nBacklog=\\\n# y\n 7\n");
        write(&usr.join("a-b.socket.d/10.conf"), "[Socket]\nListenStream=2\n");
        write(&etc.join("a-b.socket.d/50.conf"), "[Socket]\nListenStream=\nListenStream=3\n");
        write(&etc.join("a-.socket.d/60.conf"), "[Socket]\nListenStream=4\n");
        write(&etc.join("socket.d/70.conf"), "[Socket]\nAccept=yes\n");
        write(&usr.join("a-b.socket.d/80.conf"), "[Socket]\nAccept=no\n");
        symlink("/dev/null", etc.join("a-b.socket.d/80.conf")).unwrap();
        let unit = load(&places, "a-b.socket").unwrap();
        assert_eq!(unit.values("Socket", "ListenStream"), ["3", "4"]);
        assert_eq!(unit.value("Socket", "Backlog"), Some("7"));
        assert!(unit.flag("Socket", "Accept"));
        assert_eq!(unit.value("Unit", "Accept"), None);
        assert_eq!(unit.drop_ins.len(), 4);
        assert_eq!(names(&places, ".socket"), ["a-b.socket"]);
        symlink("/dev/null", etc.join("a-b.socket")).unwrap();
        assert!(load(&places, "a-b.socket").unwrap().masked);
    }
}
