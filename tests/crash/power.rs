//! Power cuts. A run is recorded with strace: every change below the state directory, every sync, every request, every
//! start of a command. Then, for every prefix of it, the directory is rebuilt as a power cut at that moment may leave
//! it; the shipped handler recovers from that, in another boot, against the collector as it was; and the promises are
//! checked.
//!
//! What is modelled: a file's bytes and length are durable once that file was synced after the change; a name (made,
//! removed, renamed, directories as well) is durable once its directory was synced after that, and not by a sync of the
//! file. This is what POSIX promises, and less than what ext4 or xfs do. Of what is not durable, at each prefix: all of
//! it is lost, nothing of it, each single change alone, and a few random subsets. A request that was sent has been
//! handled; the prefix before it covers that it has not.
//!
//! What is not modelled: writes torn within one system call, reordering within one file other than by loss, SQLite's
//! shared memory (never durable; it is left out), and times of files.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::story::{COMMANDS, Random, Story, is_full};
use crate::support::collector::state::{Event, Row};
use crate::support::{Dialect, both};

/// How many moments a sample takes, of each recording.
const SAMPLE: usize = 70;

const CALLS: &str = "trace=open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,write,\
                     pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,copy_file_range,sendfile,link,linkat,\
                     symlink,symlinkat,fsync,fdatasync,sync_file_range,syncfs,sync,sendto,sendmsg,execve,chdir,fchdir";

type Inode = usize;

/// The directory that holds the state directory's parents; it is there before everything.
const ROOT: Inode = 0;

/// One step of a recording.
#[derive(Clone, Debug)]
enum Step {
    /// A name is made for something new.
    Make {
        dir: Inode,
        name: String,
        inode: Inode,
        is_dir: bool,
    },
    Remove {
        dir: Inode,
        name: String,
    },
    Rename {
        from: (Inode, String),
        to: (Inode, String),
        inode: Inode,
    },
    Write {
        inode: Inode,
        offset: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        inode: Inode,
        length: usize,
    },
    Sync {
        inode: Inode,
    },
    Request,
    Start {
        id: i64,
    },
}

impl Step {
    /// What has to be synced for it to be durable.
    fn durable_with(&self) -> Option<Inode> {
        match self {
            Self::Make { dir, .. } | Self::Remove { dir, .. } => Some(*dir),
            Self::Rename { to, .. } => Some(to.0),
            Self::Write { inode, .. } | Self::Truncate { inode, .. } => Some(*inode),
            Self::Sync { .. } | Self::Request | Self::Start { .. } => None,
        }
    }
}

/// Reads what strace wrote.
struct Reader {
    root: PathBuf,
    names: BTreeMap<PathBuf, Inode>,
    /// Where the next plain write goes.
    positions: HashMap<Inode, usize>,
    cwd: HashMap<String, PathBuf>,
    next: Inode,
    steps: Vec<Step>,
}

impl Reader {
    fn new(root: &Path) -> Self {
        let names = BTreeMap::from([(root.to_owned(), ROOT)]);
        let (positions, cwd) = (HashMap::new(), HashMap::new());
        Self { root: root.to_owned(), names, positions, cwd, next: ROOT + 1, steps: Vec::new() }
    }

    /// What is there before the recording begins, durable.
    fn begin_with(&mut self, tree: &Tree) {
        for (path, bytes) in tree {
            let path = self.root.join(path);
            self.make(&path, bytes.is_none());
            let inode = self.names[&path];
            if let Some(bytes) = bytes {
                self.steps.push(Step::Write { inode, offset: 0, bytes: bytes.clone() });
                self.steps.push(Step::Sync { inode });
            }
        }
        let all: Vec<_> = self.names.values().map(|inode| Step::Sync { inode: *inode }).collect();
        self.steps.extend(all);
    }

    fn read(&mut self, trace: &str) {
        let mut unfinished: HashMap<&str, &str> = HashMap::new();
        for line in trace.lines() {
            let Some((pid, rest)) = line.split_once(' ') else { continue };
            let rest = rest.trim_start();
            if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
                unfinished.insert(pid, begun);
            } else if let Some((_, end)) = rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
                let begun = unfinished.remove(pid).unwrap_or_default();
                self.call(pid, &format!("{begun}{end}"));
            } else {
                self.call(pid, rest);
            }
        }
    }

    fn call(&mut self, pid: &str, text: &str) {
        let Some((name, rest)) = text.split_once('(') else { return };
        let Some((args, result)) = rest.rsplit_once(") = ").or_else(|| rest.rsplit_once(')')) else { return };
        let result = result.trim().trim_start_matches("= ");
        if result.starts_with(['-', '?']) {
            return;
        }
        // No string holds a comma: they are all in hexadecimal.
        let args: Vec<_> = args.split(", ").collect();
        if let Some(cwd) = args[0].strip_prefix("AT_FDCWD") {
            self.cwd.insert(pid.to_owned(), PathBuf::from(angled(cwd)));
        }
        match name {
            "open" | "creat" => panic!("not modelled: {text}"),
            "openat" => self.open(&self.at(pid, args[0], args[1]), args[2]),
            "mkdir" => self.make(&self.here(pid, args[0]), true),
            "mkdirat" => self.make(&self.at(pid, args[0], args[1]), true),
            "unlink" | "rmdir" => self.remove(&self.here(pid, args[0])),
            "unlinkat" => self.remove(&self.at(pid, args[0], args[1])),
            "rename" => self.rename(&self.here(pid, args[0]), &self.here(pid, args[1])),
            "renameat" | "renameat2" => {
                self.rename(&self.at(pid, args[0], args[1]), &self.at(pid, args[2], args[3]));
            }
            "write" | "pwrite64" if self.file(args[0]).is_some() => {
                let inode = self.file(args[0]).unwrap();
                let mut bytes = quoted(args[1]);
                let written = result.parse().unwrap();
                assert!(bytes.len() >= written, "strace has cut this: {text}");
                bytes.truncate(written);
                let position = self.positions.entry(inode).or_default();
                let offset = if name == "write" { *position } else { args[3].parse().unwrap() };
                if name == "write" {
                    *position += written;
                }
                self.steps.push(Step::Write { inode, offset, bytes });
            }
            "ftruncate" if self.file(args[0]).is_some() => {
                let (inode, length) = (self.file(args[0]).unwrap(), args[1].parse().unwrap());
                self.steps.push(Step::Truncate { inode, length });
            }
            "fallocate" if self.file(args[0]).is_some() => {
                assert_eq!((args[1], args[2]), ("0", "0"), "not modelled: {text}");
                let (inode, length) = (self.file(args[0]).unwrap(), args[3].parse().unwrap());
                self.steps.push(Step::Truncate { inode, length }); // of a new file
            }
            "fsync" | "fdatasync" => {
                if let Some(inode) = self.file(args[0]) {
                    self.steps.push(Step::Sync { inode });
                }
            }
            "ftruncate" if angled(args[0]).ends_with("-shm") => {}
            "write" | "writev" | "sendto" | "sendmsg" | "pwrite64" => {
                let is_request = args.iter().any(|arg| {
                    let bytes = quoted(arg);
                    bytes.starts_with(b"GET /") || bytes.starts_with(b"POST /")
                });
                let below = self.root.join("var");
                let path = angled(args[0]);
                let is_ours = Path::new(&path).starts_with(&below) && !path.ends_with("-shm");
                assert!(!is_ours || text.contains("(deleted)"), "not modelled: {text}");
                if is_request {
                    self.steps.push(Step::Request);
                }
            }
            "execve" => {
                let tag = args[1..].iter().map(|arg| String::from_utf8_lossy(&quoted(arg)).into_owned());
                let tag = tag.filter(|arg| arg.starts_with('%')).find_map(|arg| arg.split_once(':')?.1.parse().ok());
                if let Some(id) = tag {
                    self.steps.push(Step::Start { id });
                }
            }
            // The reserve holds nothing: only that it takes up room matters, and no power cut is about that.
            "fallocate" if angled(args[0]).ends_with("/reserve") => {}
            "chdir" => {
                let path = self.here(pid, args[0]);
                self.cwd.insert(pid.to_owned(), path);
            }
            "fchdir" => {
                self.cwd.insert(pid.to_owned(), PathBuf::from(angled(args[0])));
            }
            _ => {
                let below = self.root.join("var");
                let concerned = args.iter().any(|arg| Path::new(&angled(arg)).starts_with(&below));
                assert!(!concerned, "not modelled: {text}");
            }
        }
    }

    /// A path below a descriptor of a directory.
    fn at(&self, pid: &str, dir: &str, path: &str) -> PathBuf {
        let path = String::from_utf8(quoted(path)).unwrap();
        if dir.starts_with("AT_FDCWD<") || !dir.contains('<') {
            return self.cwd.get(pid).map_or_else(|| PathBuf::from(&path), |cwd| cwd.join(&path));
        }
        Path::new(&angled(dir)).join(path)
    }

    fn here(&self, pid: &str, path: &str) -> PathBuf {
        self.at(pid, "", path)
    }

    /// The file behind a descriptor, if it is one of ours.
    fn file(&self, fd: &str) -> Option<Inode> {
        self.names.get(Path::new(&angled(fd))).copied()
    }

    fn open(&mut self, path: &Path, flags: &str) {
        let is_shared_memory = path.to_string_lossy().ends_with("-shm"); // never durable
        if !path.starts_with(self.root.join("var")) || is_shared_memory {
            return;
        }
        match self.names.get(path).copied() {
            Some(inode) => {
                if flags.contains("O_TRUNC") {
                    self.steps.push(Step::Truncate { inode, length: 0 });
                }
                if flags.contains("O_WRONLY") || flags.contains("O_RDWR") {
                    let position = if flags.contains("O_APPEND") { self.length(inode) } else { 0 };
                    self.positions.insert(inode, position);
                }
            }
            None if flags.contains("O_CREAT") => self.make(path, false),
            None => {}
        }
    }

    /// How long a file is by now.
    fn length(&self, file: Inode) -> usize {
        self.steps.iter().fold(0, |length, step| match step {
            Step::Write { inode, offset, bytes } if *inode == file => length.max(offset + bytes.len()),
            Step::Truncate { inode, length } if *inode == file => *length,
            _ => length,
        })
    }

    fn make(&mut self, path: &Path, is_dir: bool) {
        let Some((dir, name)) = self.place(path) else { return };
        let inode = self.next;
        self.next += 1;
        self.names.insert(path.to_owned(), inode);
        self.steps.push(Step::Make { dir, name, inode, is_dir });
    }

    fn remove(&mut self, path: &Path) {
        let Some((dir, name)) = self.place(path) else { return };
        if self.names.remove(path).is_some() {
            self.steps.push(Step::Remove { dir, name });
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        let (Some(old), Some(new)) = (self.place(from), self.place(to)) else { return };
        let Some(inode) = self.names.remove(from) else { return };
        assert_eq!(old.0, new.0, "not modelled: a rename between directories");
        self.names.insert(to.to_owned(), inode);
        self.steps.push(Step::Rename { from: old, to: new, inode });
    }

    /// The directory and the name of a path below the root.
    fn place(&self, path: &Path) -> Option<(Inode, String)> {
        if !path.starts_with(self.root.join("var")) {
            return None;
        }
        let dir = self.names.get(path.parent()?)?;
        Some((*dir, path.file_name()?.to_str()?.to_owned()))
    }
}

/// What stands in angle brackets: the path of a descriptor.
fn angled(text: &str) -> String {
    let inner = text.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(inner, _)| inner);
    String::from_utf8_lossy(&unhex(inner)).into_owned()
}

/// What stands in quotation marks.
fn quoted(text: &str) -> Vec<u8> {
    text.split_once('"').and_then(|(_, rest)| rest.split_once('"')).map_or_else(Vec::new, |(inner, _)| unhex(inner))
}

fn unhex(text: &str) -> Vec<u8> {
    text.split("\\x").filter_map(|byte| u8::from_str_radix(byte.get(..2)?, 16).ok()).collect()
}

/// A rebuilt directory: paths below the root, directories without bytes.
type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// The directory after those of `steps` that are not lost.
fn rebuild(steps: &[Step], lost: &BTreeSet<usize>) -> Tree {
    let mut dirs: HashMap<Inode, BTreeMap<String, Inode>> = HashMap::from([(ROOT, BTreeMap::new())]);
    let mut files: HashMap<Inode, Vec<u8>> = HashMap::new();
    for (index, step) in steps.iter().enumerate() {
        // What is in it comes and goes with other steps than its name.
        if let Step::Make { inode, is_dir, .. } = step {
            if *is_dir {
                dirs.insert(*inode, BTreeMap::new());
            } else {
                files.insert(*inode, Vec::new());
            }
        }
        if lost.contains(&index) {
            continue;
        }
        match step {
            Step::Make { dir, name, inode, .. } => {
                dirs.entry(*dir).or_default().insert(name.clone(), *inode);
            }
            Step::Remove { dir, name } => {
                dirs.entry(*dir).or_default().remove(name);
            }
            Step::Rename { from, to, inode } => {
                dirs.entry(from.0).or_default().remove(&from.1);
                dirs.entry(to.0).or_default().insert(to.1.clone(), *inode);
            }
            Step::Write { inode, offset, bytes } => {
                let file = files.entry(*inode).or_default();
                let end = offset + bytes.len();
                file.resize(file.len().max(end), 0);
                file[*offset..end].copy_from_slice(bytes);
            }
            Step::Truncate { inode, length } => files.entry(*inode).or_default().resize(*length, 0),
            Step::Sync { .. } | Step::Request | Step::Start { .. } => {}
        }
    }
    let mut tree = Tree::new();
    let mut left = vec![(PathBuf::new(), ROOT)];
    while let Some((path, dir)) = left.pop() {
        for (name, inode) in &dirs[&dir] {
            let path = path.join(name);
            tree.insert(path.clone(), files.get(inode).cloned());
            if dirs.contains_key(inode) {
                left.push((path, *inode));
            }
        }
    }
    tree
}

/// Those of `steps` that are not durable in the end.
fn unsynced(steps: &[Step]) -> Vec<usize> {
    let mut last_sync: HashMap<Inode, usize> = HashMap::new();
    for (index, step) in steps.iter().enumerate() {
        if let Step::Sync { inode } = step {
            last_sync.insert(*inode, index);
        }
    }
    let is_lost = |(index, step): (usize, &Step)| {
        let target = step.durable_with()?;
        last_sync.get(&target).is_none_or(|sync| *sync < index).then_some(index)
    };
    steps.iter().enumerate().filter_map(is_lost).collect()
}

/// What is on the disk below the root.
fn on_disk(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut left = vec![root.join("var")];
    while let Some(path) = left.pop() {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        let name = path.strip_prefix(root).unwrap().to_owned();
        if kind.is_dir() {
            tree.insert(name, None);
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if kind.is_file() && !path.to_str().unwrap().ends_with("-shm") {
            tree.insert(name, Some(fs::read(&path).unwrap()));
        }
    }
    tree
}

fn restore(root: &Path, tree: &Tree) {
    let _ = fs::remove_dir_all(root.join("var"));
    // Parents come before what is in them.
    for (path, bytes) in tree {
        let path = root.join(path);
        match bytes {
            None => {
                fs::create_dir(&path).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            }
            Some(bytes) => fs::write(&path, bytes).unwrap(),
        }
    }
}

/// A recorded run, and what came before it at the collector.
struct Recording {
    story: Story,
    before: Vec<Row>,
    events: Vec<Event>,
    steps: Vec<Step>,
    /// So many steps were there before.
    earlier: usize,
}

impl Recording {
    /// Records handlers, one after the other; the lists say where they die. They live in a boot that is not this one.
    fn of(story: Story, lists: &[&str]) -> Self {
        let node = &story.world.node;
        let before = story.world.collector.rows();
        let boot_id = node.write("boot_id", "00000000-5ec4-4e7a-8b1d-000000000000\n");
        let mut reader = Reader::new(node.root());
        if node.path("var").exists() {
            reader.begin_with(&on_disk(node.root()));
        }
        let (earlier, heard) = (reader.steps.len(), story.world.collector.events().len());
        for list in lists {
            let trace = node.path("trace");
            let other_boot = "mount --bind \"$1\" /proc/sys/kernel/random/boot_id && shift && exec \"$@\"";
            let strace = ["strace", "-f", "-qq", "-y", "-xx", "-s", "1048576", "-e", CALLS, "-o"];
            let launch = story.doomed(list).within(
                ["unshare", "-m", "sh", "-c", other_boot, "sh"]
                    .map(PathBuf::from)
                    .into_iter()
                    .chain([boot_id.clone()])
                    .chain(strace.map(PathBuf::from))
                    .chain([trace.clone()]),
            );
            let ended = launch.run();
            assert!(matches!(ended.code(), 0 | 137), "{ended:?}");
            node.wait_until_alone(&[]);
            reader.read(&fs::read_to_string(trace).unwrap());
        }
        let (steps, events) = (reader.steps, story.world.collector.events().split_off(heard));
        let requests = steps.iter().filter(|step| matches!(step, Step::Request)).count();
        let asked = events.iter().filter(|event| matches!(event, Event::Asked { .. })).count();
        assert_eq!(requests, asked, "the recording and the collector do not agree");
        let starts = steps.iter().filter(|step| matches!(step, Step::Start { .. })).count();
        assert_eq!(starts, COMMANDS.len());
        // The model holds: with nothing lost, it is what is on the disk.
        let (rebuilt, there) = (rebuild(&steps, &BTreeSet::new()), on_disk(node.root()));
        let differ = |path: &&PathBuf| rebuilt.get(*path) != there.get(*path);
        let wrong: Vec<_> = rebuilt.keys().chain(there.keys()).filter(differ).collect();
        assert!(wrong.is_empty(), "the model is wrong about {wrong:?}");
        Self { story, before, events, steps, earlier }
    }

    /// The collector's rows after so many requests.
    fn rows_after(&self, requests: usize) -> Vec<Row> {
        let mut rows = self.before.clone();
        let mut asked = 0;
        for event in &self.events {
            asked += usize::from(matches!(event, Event::Asked { .. }));
            if asked > requests {
                break;
            }
            match event {
                Event::Fetched { ids, .. } => {
                    for row in rows.iter_mut().filter(|row| ids.contains(&row.id)) {
                        row.status = 'S';
                        row.handed_out += 1;
                    }
                }
                Event::Acked { ids, .. } => {
                    rows.iter_mut().filter(|row| ids.contains(&row.id)).for_each(|row| row.status = 'R');
                }
                Event::Reported(result) => {
                    for row in rows.iter_mut().filter(|row| row.id == result.id) {
                        row.status = 'T';
                        row.ret = Some(result.ret);
                        row.stdout = Some(result.stdout.clone());
                        row.stderr = Some(result.stderr.clone());
                    }
                }
                _ => {}
            }
        }
        rows
    }

    /// Every moment that differs from all others: how many steps, and what of them is lost.
    fn moments(&self) -> Vec<(usize, BTreeSet<usize>)> {
        let mut random = Random(1);
        let mut seen = BTreeSet::new();
        let mut moments = Vec::new();
        for length in self.earlier..=self.steps.len() {
            let steps = &self.steps[..length];
            let open = unsynced(steps);
            let mut losses = vec![open.iter().copied().collect(), BTreeSet::new()];
            losses.extend(open.iter().map(|one| BTreeSet::from([*one])));
            for _ in 0..2 {
                losses.push(open.iter().copied().filter(|_| random.below(2) == 0).collect());
            }
            for lost in losses {
                // Large ones are too many to be looked at.
                let mut hasher = DefaultHasher::new();
                if self.earlier == 0 {
                    rebuild(steps, &lost).hash(&mut hasher);
                } else {
                    (length, &lost).hash(&mut hasher);
                }
                let outside = steps.iter().filter(|step| matches!(step, Step::Request | Step::Start { .. })).count();
                if seen.insert((hasher.finish(), outside)) {
                    moments.push((length, lost));
                }
            }
        }
        moments
    }

    /// Cuts the power at a moment, recovers, and tells what is wrong then.
    fn cut(&self, length: usize, lost: &BTreeSet<usize>) -> Vec<String> {
        let (node, collector) = (&self.story.world.node, &self.story.world.collector);
        let steps = &self.steps[..length];
        restore(node.root(), &rebuild(steps, lost));
        let requests = steps.iter().filter(|step| matches!(step, Step::Request)).count();
        let before = self.rows_after(requests);
        collector.go_back_to(before.clone());
        let started: Vec<_> = self.story.ids.iter().map(|id| node.runs_of(*id)).collect();
        self.story.recover();
        node.wait_until_alone(&[]);
        let mut wrong = Vec::new();
        for (index, id) in self.story.ids.iter().enumerate() {
            let earlier = steps.iter().filter(|step| matches!(step, Step::Start { id: of } if of == id)).count();
            let starts = earlier + node.runs_of(*id) - started[index];
            if starts > 1 {
                wrong.push(format!("I1: {id} was started {starts} times"));
            }
            let (row, (_, ret, stdout)) = (collector.row(*id), COMMANDS[index]);
            if row.status != 'T' {
                wrong.push(format!("I2: {id} is lost, and stands at {} ({} before)", row.status, before[index].status));
                continue;
            }
            let is_the_commands = (row.ret, row.stdout.as_deref()) == (Some(ret), Some(stdout)) && starts == 1;
            if !is_the_commands && self.was_synced(length, *id) {
                wrong.push(format!("I2: {id} had a synced record and has {:?}", row.ret));
            } else if !is_the_commands && row.ret != Some(254) {
                wrong.push(format!("I4: {id}: {:?} {:?}", row.ret, row.stdout));
            }
            let reported = (&before[index].ret, &before[index].stdout, &before[index].stderr);
            if before[index].status == 'T' && reported != (&row.ret, &row.stdout, &row.stderr) {
                wrong.push(format!("I2: {id} had {reported:?} and has {:?} {:?}", row.ret, row.stderr));
            }
        }
        wrong
    }

    /// Whether a supervisor without a handler has synced its record and gone on: it is there to stay.
    fn was_synced(&self, length: usize, id: i64) -> bool {
        let run = format!("{}-{id}-1", self.story.world.dialect.name());
        let dir = self.steps.iter().find_map(|step| match step {
            Step::Make { name, inode, .. } if *name == run => Some(*inode),
            _ => None,
        });
        let is_recorded = |step: &Step| matches!(step, Step::Rename { to, .. } if Some(to.0) == dir);
        let is_synced = |step: &Step| matches!(step, Step::Sync { inode } if Some(*inode) == dir);
        let recorded = self.steps.iter().position(is_recorded).unwrap_or(usize::MAX);
        // It goes on with the next sync, of whatever, or to its end.
        let synced =
            self.steps[..length].iter().enumerate().position(|(index, step)| index > recorded && is_synced(step));
        synced
            .is_some_and(|synced| self.steps[synced + 1..length].iter().any(|step| !matches!(step, Step::Sync { .. })))
    }

    fn prove(&self, what: &str) {
        let moments = self.moments();
        // Where everything is lost that can be, always; of the rest, a sample.
        let (worst, others): (Vec<_>, Vec<_>) = moments
            .iter()
            .partition(|(length, lost)| self.earlier == 0 && lost.len() == unsynced(&self.steps[..*length]).len());
        let step = others.len().div_ceil(if is_full() { 3000 } else { SAMPLE });
        let mut wrong = Vec::new();
        let mut tried = 0;
        for (length, lost) in worst.into_iter().chain(others.into_iter().step_by(step)) {
            let found = self.cut(*length, lost);
            tried += 1;
            if !found.is_empty() {
                let lost: Vec<_> = lost.iter().map(|index| brief(&self.steps[*index])).collect();
                wrong.push(format!("after step {length} {:?}, without {lost:?}: {found:?}", self.tail(*length)));
            }
        }
        let name = self.story.world.dialect.name();
        println!("{name}: power cut at {tried} of {} moments of {what} ({} steps)", moments.len(), self.steps.len());
        assert!(wrong.is_empty(), "{} of {tried} power cuts:\n{}", wrong.len(), wrong.join("\n"));
    }

    fn pages(&self) -> u64 {
        pages(&self.story)
    }

    /// The last step before a moment, for people.
    fn tail(&self, length: usize) -> String {
        length.checked_sub(1).map_or_else(String::new, |last| brief(&self.steps[last]))
    }
}

/// How many pages SQLite's log holds.
fn pages(story: &Story) -> u64 {
    fs::metadata(story.world.node.path("var/actions/ledger.sqlite-wal")).unwrap().len() / (4096 + 24)
}

fn brief(step: &Step) -> String {
    match step {
        Step::Write { inode, offset, bytes } => format!("Write {} bytes to {inode} at {offset}", bytes.len()),
        step => format!("{step:?}"),
    }
}

both!(a_power_cut_in_a_run_loses_nothing_and_starts_nothing_twice);
fn a_power_cut_in_a_run_loses_nothing_and_starts_nothing_twice(dialect: Dialect) {
    Recording::of(Story::new(dialect), &[""]).prove("a run");
}

both!(a_power_cut_while_the_log_of_the_ledger_is_copied_loses_nothing_and_starts_nothing_twice);
fn a_power_cut_while_the_log_of_the_ledger_is_copied_loses_nothing_and_starts_nothing_twice(dialect: Dialect) {
    let story = Story::new(dialect);
    let collector = &story.world.collector;
    // A run that leaves more than 63 pages in the log (256 KiB) copies it into the database, and empties it.
    let later = collector.rows();
    collector.go_back_to(Vec::new());
    story.world.run().exits(0);
    while pages(&story) < 50 {
        collector.add(Row::new(dialect, "echo small"));
        story.world.run().exits(0);
    }
    assert!(pages(&story) <= 63, "it was copied already: {} pages", pages(&story));
    collector.go_back_to(later);
    let recording = Recording::of(story, &[""]);
    let database = recording
        .steps
        .iter()
        .filter(|step| matches!(step, Step::Write { offset: 4096.., bytes, .. } if bytes.len() == 4096));
    let copied = database.count();
    assert!(copied > 5 && recording.pages() == 0, "the log was not copied: {copied} pages, {} now", recording.pages());
    recording.prove("a run in which the log is copied");
}

both!(a_power_cut_after_the_handler_died_loses_nothing_and_starts_nothing_twice);
fn a_power_cut_after_the_handler_died_loses_nothing_and_starts_nothing_twice(dialect: Dialect) {
    Recording::of(Story::new(dialect), &["launched:2", ""]).prove("a run without its handler and one that recovers");
}
