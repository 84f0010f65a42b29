//! A throw-away node: its files under one directory, a fake `om`, and every process that belongs to it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::collector::Collector;
use super::process::{Ended, Launch};
use super::{DEADLINE, Dialect, NODE, UUID, Wire};

const HANDLER: &str = env!("CARGO_BIN_EXE_opensvc-actions");
/// By it every process of this node is known, however it came to be.
const MARKER: &str = "OSVC_TEST_NODE";

/// Something that the fake `om` has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// `start`, `end`, `kill`, `term`, `child`, `daemon`, `daemon-end`.
    pub(crate) kind: String,
    pub(crate) pid: i32,
    /// At the start: the arguments. At the end: the exit status.
    pub(crate) words: Vec<String>,
    /// Which of all marks it is.
    pub(crate) position: usize,
}

impl Mark {
    fn parse(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ')?;
        let (pid, words) = rest.split_once(['\x1f', ' ']).unwrap_or((rest, ""));
        let words = if words.is_empty() { Vec::new() } else { words.split('\x1f').map(str::to_owned).collect() };
        Some(Self { kind: kind.to_owned(), pid: pid.parse().ok()?, words, position: 0 })
    }

    /// The row that this is the start of, by the tag of its command.
    pub(crate) fn row(&self) -> Option<(Dialect, i64)> {
        let (name, id) = self.words.iter().find_map(|word| word.strip_prefix('%'))?.split_once(':')?;
        Some((Dialect::BOTH.into_iter().find(|dialect| dialect.name() == name)?, id.parse().ok()?))
    }

    /// The id of that row.
    pub(crate) fn id(&self) -> Option<i64> {
        self.row().map(|(_, id)| id)
    }

    /// The arguments without the tag.
    pub(crate) fn argv(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).filter(|word| !word.starts_with('%')).collect()
    }
}

#[derive(Default)]
struct Marks {
    seen: Mutex<(Vec<Mark>, usize)>,
    changed: Condvar,
}

/// A node with its own directory.
pub(crate) struct Node {
    dir: tempfile::TempDir,
    marks: Arc<Marks>,
    runs: AtomicUsize,
    syncs: AtomicUsize,
}

/// Holds up whoever says `wait NAME`.
pub(crate) struct Gate(File);

impl Gate {
    /// Lets everybody through who waits, and everybody who comes.
    pub(crate) fn open(&mut self) {
        self.0.write_all(&[b'\n'; 64]).unwrap();
    }
}

impl Node {
    /// A node with an `om` and without any configuration.
    pub(crate) fn bare() -> Self {
        let dir = tempfile::Builder::new().prefix("node-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["etc", "etc/actions.d", "bin", "log"] {
            DirBuilder::new().mode(0o755).create(dir.path().join(name)).unwrap();
        }
        // Its own name for the program tells whose process it is.
        fs::hard_link(HANDLER, dir.path().join("bin/opensvc-actions")).unwrap();
        let node = Self { dir, marks: Arc::default(), runs: AtomicUsize::new(0), syncs: AtomicUsize::new(0) };
        // Never the service manager of the machine that runs the test.
        node.write("etc/actions.d/00-launcher.toml", "[execution]\nlauncher = \"direct\"\n");
        node.install_om();
        node.hear_marks();
        node
    }

    /// A node whose queues are at this collector.
    pub(crate) fn of(collector: &Collector, dialects: &[Dialect]) -> Self {
        Self::over(collector, &dialects.iter().copied().map(Wire::from).collect::<Vec<_>>())
    }

    /// The same, over these wires: one for each queue.
    pub(crate) fn over(collector: &Collector, wires: &[Wire]) -> Self {
        let node = Self::bare();
        node.wire(&wires.iter().map(|wire| (*wire, collector)).collect::<Vec<_>>());
        node
    }

    /// Writes `node.conf` and `actions.toml` for queues at collectors.
    pub(crate) fn register(&self, queues: &[(Dialect, &Collector)]) {
        self.wire(&queues.iter().map(|(dialect, collector)| (Wire::from(*dialect), *collector)).collect::<Vec<_>>());
    }

    /// The same, for queues over these wires.
    pub(crate) fn wire(&self, queues: &[(Wire, &Collector)]) {
        let keywords: String = queues
            .iter()
            .map(|(wire, collector)| match wire.dialect() {
                Dialect::Oc3 => format!("collector = {}\n", collector.url()),
                Dialect::Rpc => format!("dbopensvc = {}\n", collector.url()),
            })
            .collect();
        self.write("etc/node.conf", format!("[node]\n{keywords}uuid = {UUID}\n"));
        let mut toml = format!("[collector]\nnode = {NODE:?}\n");
        for (wire, collector) in queues {
            let queue = wire.dialect().name();
            let _ = writeln!(toml, "[collector.{queue}]");
            if let Some(pem) = collector.ca_pem() {
                let path = format!("etc/{queue}.pem");
                self.write(&path, pem);
                let _ = writeln!(toml, "ca_file = \"{}\"", self.path(&path).display());
            }
            if *wire == Wire::RpcJson {
                toml.push_str("format = \"json\"\n");
            }
        }
        toml.push_str("[wake]\nmin_interval = \"0s\"\n");
        self.write("etc/actions.toml", toml);
    }

    /// Adds settings, as a drop-in.
    pub(crate) fn configure(&self, toml: &str) {
        self.write("etc/actions.d/50-test.toml", toml);
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root().join(relative)
    }

    #[allow(dead_code, reason = "not every test binary needs more")]
    pub(crate) fn make_dir(&self, relative: &str) {
        DirBuilder::new().mode(0o755).create(self.path(relative)).unwrap();
    }

    pub(crate) fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    pub(crate) fn install_om(&self) {
        self.install_script("om", &include_str!("om.sh").replace("@DIR@", &self.root().display().to_string()));
    }

    /// Puts an executable script into the node's `PATH`. Another process writes it: if this one did, a process that another
    /// test starts at that moment would have it open for writing too, until it executes, and nobody could execute it then.
    pub(crate) fn install_script(&self, name: &str, text: &str) {
        let path = self.path(&format!("bin/{name}"));
        let install = Command::new("install").args(["-m", "755", "/dev/stdin"]).arg(path).stdin(Stdio::piped()).spawn();
        let mut install = install.unwrap();
        install.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(install.wait().unwrap().success());
    }

    pub(crate) fn remove(&self, relative: &str) {
        fs::remove_file(self.path(relative)).unwrap();
    }

    /// Makes something to wait for.
    pub(crate) fn gate(&self, name: &str) -> Gate {
        Gate(self.fifo(name))
    }

    fn fifo(&self, name: &str) -> File {
        let path = self.path(name);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        // Open at both ends, so that neither side waits for the other.
        OpenOptions::new().read(true).write(true).open(path).unwrap()
    }

    fn hear_marks(&self) {
        let fifo = self.fifo("marks");
        let marks = Arc::clone(&self.marks);
        thread::spawn(move || {
            for line in BufReader::new(fifo).split(b'\n') {
                let Ok(line) = line else { return };
                let line = String::from_utf8_lossy(&line).into_owned();
                let mut seen = marks.seen.lock().unwrap_or_else(PoisonError::into_inner);
                if line == "gone" {
                    return;
                } else if line == "sync" {
                    seen.1 += 1;
                } else if let Some(mark) = Mark::parse(&line) {
                    let position = seen.0.len();
                    seen.0.push(Mark { position, ..mark });
                }
                drop(seen);
                marks.changed.notify_all();
            }
        });
    }

    fn tell_marks(&self, line: &str) {
        OpenOptions::new().append(true).open(self.path("marks")).unwrap().write_all(line.as_bytes()).unwrap();
    }

    fn wait_marks<T>(&self, what: &str, enough: impl Fn(&[Mark], usize) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        let mut seen = self.marks.seen.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = enough(&seen.0, seen.1) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}; om said {:#?}\n{}", seen.0, self.logs());
            seen = self.marks.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything that the fake `om` has said until now.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        let sync = self.syncs.fetch_add(1, Ordering::SeqCst) + 1;
        self.tell_marks("sync\n");
        self.wait_marks("the marks", |marks, synced| (synced >= sync).then(|| marks.to_vec()))
    }

    /// The starts among the marks.
    pub(crate) fn starts(&self) -> Vec<Mark> {
        self.marks().into_iter().filter(|mark| mark.kind == "start").collect()
    }

    /// How often the command of a row has started.
    pub(crate) fn runs_of(&self, id: i64) -> usize {
        self.starts().iter().filter(|mark| mark.id() == Some(id)).count()
    }

    /// Waits for a mark of this kind.
    pub(crate) fn wait_for_mark(&self, kind: &str) -> Mark {
        self.wait_marks(kind, |marks, _| marks.iter().find(|mark| mark.kind == kind).cloned())
    }

    /// Waits for the command of a row to start.
    pub(crate) fn wait_for_start(&self, id: i64) -> Mark {
        let is_it = |mark: &&Mark| mark.kind == "start" && mark.id() == Some(id);
        self.wait_marks(&format!("the start of {id}"), |marks, _| marks.iter().find(is_it).cloned())
    }

    /// The handler, to be started with these settings.
    pub(crate) fn handler(&self) -> Launch {
        self.handler_without_root().arg("--root").arg(self.root())
    }

    /// The same, not told where its files are.
    pub(crate) fn handler_without_root(&self) -> Launch {
        self.program(self.path("bin/opensvc-actions"))
    }

    /// Another program in the environment of a handler.
    pub(crate) fn program(&self, program: PathBuf) -> Launch {
        let run = self.runs.fetch_add(1, Ordering::SeqCst);
        let mut path = OsString::from(self.path("bin"));
        path.push(":/usr/local/bin:/usr/bin:/bin");
        Launch::new(program, self.path(&format!("log/{run}")))
            .env("PATH", path)
            .env("HOME", "/root")
            .env(MARKER, self.root())
    }

    /// Runs the handler as a timer does: nothing on its standard input, no socket.
    pub(crate) fn run(&self) -> Ended {
        self.handler().run()
    }

    /// Everything that handlers have said, for people.
    pub(crate) fn logs(&self) -> String {
        let mut files: Vec<_> = fs::read_dir(self.path("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let read =
            |path: &PathBuf| format!("{}:\n{}", path.display(), String::from_utf8_lossy(&fs::read(path).unwrap()));
        files.iter().filter(|path| path.extension() == Some("err".as_ref())).map(read).collect()
    }

    /// The numbers of all processes of this node, zombies excepted.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut marker = format!("{MARKER}=").into_bytes();
        marker.extend_from_slice(self.root().as_os_str().as_bytes());
        let belongs = |pid: &i32| {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            exe.starts_with(self.root()) || environ.split(|byte| *byte == 0).any(|variable| variable == marker)
        };
        let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        numbers.filter(belongs).collect()
    }

    /// Waits until no process of this node is left but these; fails when others stay.
    pub(crate) fn wait_until_alone(&self, but: &[i32]) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let left: Vec<_> = self.processes().into_iter().filter(|pid| !but.contains(pid)).collect();
            let Some(one) = left.first() else { return };
            let patience = deadline.saturating_duration_since(Instant::now());
            assert!(
                !patience.is_zero(),
                "processes are left: {:#?}",
                left.into_iter().map(describe).collect::<Vec<_>>()
            );
            wait_for_exit(*one, patience);
        }
    }

    /// A listening socket for notifications, with room for a burst.
    pub(crate) fn listen() -> TcpListener {
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        rustix::net::listen(&socket, 4096).unwrap();
        socket.into()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("The handlers said:\n{}", self.logs());
        }
        // Again, for what one of them has started meanwhile; bounded, for a kernel that is slow to bury them.
        for _ in 0..100 {
            let left = self.processes();
            for pid in left.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                let _ = kill_process(pid, Signal::KILL);
            }
            if left.is_empty() {
                break;
            }
        }
        self.tell_marks("gone\n");
    }
}

fn describe(pid: i32) -> String {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid} {}", String::from_utf8_lossy(&command).replace('\0', " "))
}

fn pidfd(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// Waits for a process that is not ours to end, but not for ever. Tells whether it has.
pub(crate) fn wait_for_exit(pid: i32, patience: Duration) -> bool {
    let Some(process) = pidfd(pid) else { return true };
    let timeout = Timespec::try_from(patience).unwrap();
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)).unwrap() > 0
}

/// Whether a process sleeps until somebody sends it SIGCONT.
#[allow(dead_code, reason = "not every test binary stops processes")]
pub(crate) fn is_stopped(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// Whether a process is there, and more than a zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
