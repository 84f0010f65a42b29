//! Writing the uuid into `node.conf`, and changing nothing else in it.
//!
//! The file belongs to the agents and to people: every other byte, its owner, its mode and its extended attributes (an
//! access list, the `SELinux` context) stay as they are, and at no moment is there half a file. A symbolic link stays one;
//! what it leads to is replaced.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FlockOperation, Mode, OFlags, StatxAttributes, StatxFlags, XattrFlags, fallocate,
    fgetxattr, flistxattr, flock, fsetxattr, open, statx,
};
use rustix::io::Errno;

use super::Secret;
use super::node_conf::{self, Reading};

/// Room for the line that is added.
const ROOM: u64 = 512;
/// More than any attribute, and any list of their names, can be on Linux.
const ATTRIBUTE: usize = 64 * 1024;
/// Attributes that vouch for the content, which changes.
const ABOUT_CONTENT: [&[u8]; 2] = [b"security.ima", b"security.evm"];

/// Why the uuid cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// A file cannot be read or written.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is of a form in which a line cannot be put without changing the meaning of others.
    #[error("{}: the uuid of [node] cannot be set without changing what other lines mean: simplify the file", .0.display())]
    Shape(PathBuf),
    /// Somebody else is writing.
    #[error("{} is there and in use: another registration is at work", .0.display())]
    Busy(PathBuf),
    /// The file changed meanwhile.
    #[error("{} was changed by somebody else meanwhile; nothing was written", .0.display())]
    Changed(PathBuf),
}

/// `node.conf` with a temporary file beside it, ready to take its place: what can fail has been tried. The temporary file
/// is removed unless it has taken the place.
#[derive(Debug)]
pub struct NodeConf {
    target: PathBuf,
    before: Option<Vec<u8>>,
    temporary: PathBuf,
    file: File,
    done: bool,
}

impl NodeConf {
    /// Makes the temporary file, with the owner, the mode and the attributes of `path`; with mode 0600 and of root where
    /// there is no such file yet.
    ///
    /// # Errors
    /// When that cannot be done, or another process does the same.
    pub fn prepare(path: &Path) -> Result<Self, EditError> {
        let target = match fs::canonicalize(path) {
            Ok(target) => target,
            Err(err) if err.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(source) => return Err(EditError::File { verb: "find", path: path.to_owned(), source }),
        };
        let before = content(&target)?;
        if let Some(reason) = unmovable(&target) {
            return Err(EditError::File { verb: "replace", path: target, source: io::Error::other(reason) });
        }
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".opensvc-actions");
        // A hidden name of its own: whoever reads all of a directory's *.conf does not read this.
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        let temporary = target.with_file_name(hidden);
        let failed = |verb| {
            let path = temporary.clone();
            move |source: io::Error| EditError::File { verb, path, source }
        };
        // A name that is always the same: what a power cut leaves behind is used again and not added to.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = open(&temporary, flags, Mode::from_raw_mode(0o600)).map_err(|errno| failed("make")(errno.into()))?;
        let file = File::from(file);
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(EditError::Busy(temporary)),
            locked => locked.map_err(|errno| failed("lock")(errno.into()))?,
        }
        // The one who had it may just have put it into its place.
        let named = fs::symlink_metadata(&temporary).map_err(failed("find"))?;
        let ours = file.metadata().map_err(failed("find"))?;
        if (named.dev(), named.ino()) != (ours.dev(), ours.ino()) || ours.nlink() != 1 {
            return Err(EditError::Busy(temporary));
        }
        let prepared = Self { target, before, temporary: temporary.clone(), file, done: false };
        prepared.file.set_len(0).map_err(failed("write"))?;
        if prepared.before.is_some() {
            prepared.take_after().map_err(failed("give the owner, mode and attributes of the old file to"))?;
        }
        prepared.reserve().map_err(failed("write"))?;
        Ok(prepared)
    }

    /// Puts the uuid into the file.
    ///
    /// # Errors
    /// When the file was changed meanwhile, or cannot be written. It is as it was then.
    pub fn write(mut self, uuid: &Secret) -> Result<PathBuf, EditError> {
        if content(&self.target)? != self.before {
            return Err(EditError::Changed(self.target.clone()));
        }
        let before = self.before.as_deref().unwrap_or_default();
        let after = with_uuid(before, uuid.expose()).ok_or_else(|| EditError::Shape(self.target.clone()))?;
        let failed = |verb, path: &Path| {
            let path = path.to_owned();
            move |source| EditError::File { verb, path, source }
        };
        self.file
            .write_all(&after)
            .and_then(|()| self.file.set_len(after.len() as u64))
            .and_then(|()| self.file.sync_all())
            .map_err(failed("write", &self.temporary))?;
        fs::rename(&self.temporary, &self.target).map_err(failed("replace", &self.target))?;
        self.done = true;
        let directory = self.target.parent().unwrap_or(Path::new("/"));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync", directory))?;
        Ok(self.target.clone())
    }

    /// Makes the temporary file like the old one.
    fn take_after(&self) -> io::Result<()> {
        let old = File::open(&self.target)?;
        let metadata = old.metadata()?;
        fchown(&self.file, Some(metadata.uid()), Some(metadata.gid()))?;
        self.file.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
        let mut names = vec![0; ATTRIBUTE];
        let length = match flistxattr(&old, &mut names[..]) {
            Err(Errno::NOTSUP) => 0,
            length => length?,
        };
        for name in names[..length].split_inclusive(|byte| *byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
            if ABOUT_CONTENT.contains(&name.to_bytes()) {
                continue;
            }
            let mut value = vec![0; ATTRIBUTE];
            let length = fgetxattr(&old, name, &mut value[..])?;
            fsetxattr(&self.file, name, &value[..length], XattrFlags::empty())
                .map_err(|errno| io::Error::other(format!("{}: {}", name.to_string_lossy(), io::Error::from(errno))))?;
        }
        Ok(())
    }

    /// A full disk is found out now, and not when the collector has already given a uuid that it gives only once.
    fn reserve(&self) -> io::Result<()> {
        let length = self.before.as_ref().map_or(0, Vec::len) as u64 + ROOM;
        match fallocate(&self.file, FallocateFlags::empty(), 0, length) {
            Err(Errno::NOTSUP | Errno::NOSYS) => Ok(()),
            reserved => Ok(reserved?),
        }
    }
}

impl Drop for NodeConf {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Why no other file can be put in this one's place, as far as can be told without trying. Kernels before 5.8 do not tell
/// of mounts.
fn unmovable(path: &Path) -> Option<&'static str> {
    let attributes = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()).ok()?.stx_attributes;
    if attributes.contains(StatxAttributes::MOUNT_ROOT) {
        Some("this file is mounted by itself: mount its directory, or register outside of the container")
    } else if attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND) {
        Some("it is immutable or append-only: see chattr(1)")
    } else {
        None
    }
}

fn content(path: &Path) -> Result<Option<Vec<u8>>, EditError> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(EditError::File { verb: "read", path: path.to_owned(), source }),
    }
}

/// The text with the last `uuid` of `[node]` set (a comment behind it goes: agents of 2.x would take it for a part of the
/// value), or a line for it behind the last key of `[node]`, or such a section at the end. `None`: that would change what
/// another line means, to one of the agents.
fn with_uuid(text: &[u8], uuid: &str) -> Option<Vec<u8>> {
    let old = std::str::from_utf8(text).ok()?;
    let place = Place::find(old)?;
    let end =
        old.find(['\r', '\n']).map_or("\n", |at| if old[at..].starts_with("\r\n") { "\r\n" } else { &old[at..=at] });
    let (range, new) = match place {
        Place::Value(range) => {
            // "uuid=" stays "uuid=", "uuid =" gets a blank.
            let blank = if old[..range.start].ends_with(['=', ':']) && range.is_empty() { " " } else { "" };
            (range, format!("{blank}{uuid}"))
        }
        Place::Behind { at, indent, ended: true } => (at..at, format!("{indent}uuid = {uuid}{end}")),
        Place::Behind { at, indent, ended: false } => (at..at, format!("{end}{indent}uuid = {uuid}{end}")),
        Place::NoSection => {
            let before = if old.is_empty() || old.ends_with(['\r', '\n']) { "" } else { end };
            (old.len()..old.len(), format!("{before}[node]{end}uuid = {uuid}{end}"))
        }
    };
    let mut new_text = old.to_owned();
    new_text.replace_range(range, &new);
    let is_good = [Reading::V2, Reading::V3].into_iter().all(|reading| {
        let entries = |text: &str| {
            let entries = node_conf::parse(text, reading).ok()?;
            Some(entries.into_iter().map(|entry| (entry.section, entry.key, entry.value)).collect::<Vec<_>>())
        };
        let (Some(mut before), Some(mut after)) = (entries(old), entries(&new_text)) else { return false };
        let is_uuid = |entry: &(String, String, String)| entry.0 == "node" && entry.1 == "uuid";
        let set = after.iter().rfind(|entry| is_uuid(entry)).is_some_and(|entry| entry.2 == uuid);
        before.retain(|entry| !is_uuid(entry));
        after.retain(|entry| !is_uuid(entry));
        set && before == after
    });
    is_good.then(|| new_text.into_bytes())
}

/// Where the uuid belongs.
enum Place {
    /// In the place of a value.
    Value(Range<usize>),
    /// On a line of its own.
    Behind {
        /// Behind the line that ends here.
        at: usize,
        /// What the keys there begin with.
        indent: String,
        /// Whether that line has an end.
        ended: bool,
    },
    /// There is no section `[node]`.
    NoSection,
}

impl Place {
    fn find(text: &str) -> Option<Self> {
        let entries = node_conf::parse(text, Reading::V3).ok()?;
        let lines: Vec<_> = lines(text).collect();
        let content = |index: usize| lines.get(index).map(|line| text[line.clone()].trim_end_matches(['\r', '\n']));
        let indent = |content: &str| content[..content.len() - content.trim_start().len()].to_owned();
        let mut in_node = entries.iter().rev().filter(|entry| entry.section == "node");
        if let Some(uuid) = in_node.clone().find(|entry| entry.key == "uuid") {
            let (line, content) = (lines.get(uuid.line - 1)?, content(uuid.line - 1)?);
            let behind = content.find(['=', ':'])? + 1;
            let blanks = content[behind..].len() - content[behind..].trim_start().len();
            return Some(Self::Value(line.start + behind + blanks..line.start + content.len()));
        }
        let is_header =
            |index: &usize| content(*index).is_some_and(|content| content.trim_start().starts_with("[node]"));
        let first = match in_node.next() {
            Some(entry) => entry.line - 1,
            None => match (0..lines.len()).rev().find(is_header) {
                Some(header) => header,
                None => return Some(Self::NoSection),
            },
        };
        let indent = indent(content(first)?);
        // A value goes on as long as lines are indented deeper.
        let mut last = first;
        for (index, line) in lines.iter().enumerate().skip(first + 1) {
            let content = text[line.clone()].trim_end();
            let trimmed = content.trim_start();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            if content.len() - trimmed.len() <= indent.len() {
                break;
            }
            last = index;
        }
        let line = lines.get(last)?;
        Some(Self::Behind { at: line.end, indent, ended: text[line.clone()].ends_with(['\r', '\n']) })
    }
}

/// Where the lines of a text are, with their ends.
fn lines(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = text.get(start..).filter(|rest| !rest.is_empty())?;
        let length = match rest.find(['\r', '\n']) {
            None => rest.len(),
            Some(at) if rest[at..].starts_with("\r\n") => at + 2,
            Some(at) => at + 1,
        };
        let line = start..start + length;
        start = line.end;
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "9e1d0202-0b38-440a-845e-e1deb340d38b";

    fn edited(text: &str) -> String {
        let edited = with_uuid(text.as_bytes(), UUID).unwrap_or_else(|| panic!("{text:?} was not edited"));
        String::from_utf8(edited).unwrap().replace(UUID, "U")
    }

    #[test]
    fn every_other_byte_stays() {
        for (before, after) in [
            ("", "[node]\nuuid = U\n"),
            ("[node]", "[node]\nuuid = U\n"),
            ("[node]\n", "[node]\nuuid = U\n"),
            ("[node]\nuuid = old\n", "[node]\nuuid = U\n"),
            ("[node]\nuuid=old", "[node]\nuuid=U"),
            ("[node]\nuuid :old\n", "[node]\nuuid :U\n"),
            ("[node]\nuuid =\n", "[node]\nuuid = U\n"),
            ("[node]\nuuid = \nx = 1\n", "[node]\nuuid = U\nx = 1\n"),
            ("[node]\nuuid = 'old' # of the old collector\n", "[node]\nuuid = U\n"),
            ("[node]\nuuid = 1\nuuid = 2\n", "[node]\nuuid = 1\nuuid = U\n"),
            ("[node]\nuuid@n1 = 1\n", "[node]\nuuid@n1 = 1\nuuid = U\n"),
            (
                "# c\r\n[node]\r\nenv = TST\r\n\r\n[x]\r\ny=1",
                "# c\r\n[node]\r\nenv = TST\r\nuuid = U\r\n\r\n[x]\r\ny=1",
            ),
            ("[node]\renv = TST\r", "[node]\renv = TST\ruuid = U\r"),
            ("[node]\nenv = TST", "[node]\nenv = TST\nuuid = U\n"),
            ("[x]\ny = 1", "[x]\ny = 1\n[node]\nuuid = U\n"),
            ("[node]\n  a = 1\n  b = 2\n# the rest\n[x]\n", "[node]\n  a = 1\n  b = 2\n  uuid = U\n# the rest\n[x]\n"),
            ("[node]\na = 1\n  # c\n  more\n\nb = 2\n", "[node]\na = 1\n  # c\n  more\n\nb = 2\nuuid = U\n"),
            ("[node]\na = 1\n  more\n[x]\nuuid = no\n", "[node]\na = 1\n  more\nuuid = U\n[x]\nuuid = no\n"),
            ("[node]\na = 1\n[x]\nb = 2\n[node]\nc = 3\n", "[node]\na = 1\n[x]\nb = 2\n[node]\nc = 3\nuuid = U\n"),
            ("[node]\n[x]\nb = 2\n", "[node]\nuuid = U\n[x]\nb = 2\n"),
            ("[DEFAULT]\nuuid = no\n", "[DEFAULT]\nuuid = no\n[node]\nuuid = U\n"),
        ] {
            assert_eq!(edited(before), after, "{before:?}");
            assert_eq!(edited(after), after, "a second time");
        }
    }

    #[test]
    fn what_cannot_be_edited_is_left_alone() {
        for text in ["\u{feff}[node]\n", "key = 1\n", "[node]\nuuid = a\n  b\n"] {
            assert_eq!(with_uuid(text.as_bytes(), UUID), None, "{text:?}");
        }
        assert_eq!(with_uuid(b"[node]\n# \xff\n", UUID), None);
    }

    proptest::proptest! {
        #[test]
        fn no_other_line_ever_changes_its_meaning(text in "(\\[node\\]|\\[x\\]|uuid|a|=|:|#|;| |\t|\r|\n|\r\n|b){0,40}") {
            if node_conf::parse(&text, Reading::V3).is_err() || node_conf::parse(&text, Reading::V2).is_err() {
                return Ok(());
            }
            // The function itself compares both readings; here that it works and takes nothing away but an old value.
            if let Some(edited) = with_uuid(text.as_bytes(), UUID) {
                let entries = node_conf::parse(std::str::from_utf8(&edited).unwrap(), Reading::V3).unwrap();
                let last = entries.iter().rfind(|entry| entry.section == "node" && entry.key == "uuid").unwrap();
                proptest::prop_assert_eq!(&last.value, UUID);
                let had_one = node_conf::parse(&text, Reading::V3).unwrap();
                if !had_one.iter().any(|entry| entry.section == "node" && entry.key == "uuid") {
                    let common = edited.iter().zip(text.as_bytes()).take_while(|(a, b)| a == b).count();
                    proptest::prop_assert!((0..=common).any(|at| edited.ends_with(&text.as_bytes()[at..])), "more than added");
                }
            }
        }
    }
}
