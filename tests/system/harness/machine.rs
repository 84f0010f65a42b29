//! One booted machine.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use super::tree::{Tree, cache};

/// Where running machines have their directories.
pub(crate) fn machines() -> PathBuf {
    cache().join("machines")
}

/// How long anything here may take before the test is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Debian under its own systemd, gone when dropped.
pub(crate) struct Machine {
    name: String,
    directory: PathBuf,
    control_groups: Vec<PathBuf>,
    /// Lives as long as the machine's disk, through all its boots.
    container: Child,
    init: RefCell<Init>,
    /// A test that is failing shows the journal once.
    shown: Cell<bool>,
}

/// Process 1 of one boot.
struct Init {
    pid: i32,
    fd: OwnedFd,
}

/// How a boot came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Down {
    /// In good order, for good.
    PowerOff,
    /// In good order, to boot again.
    Reboot,
    /// Not in good order.
    Cut,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// Exit status, or 128 + signal.
    pub(crate) status: i32,
    /// Standard output, without the newline at the end.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Machine {
    /// Boots a tree and waits until the machine says that it is up. Before that, `stage` puts into an empty directory
    /// what the machine shall have on top of the tree.
    pub(crate) fn boot(name: &str, tree: Tree, stage: impl FnOnce(&Path)) -> Self {
        let tree = tree.directory();
        let unique = format!("{name}-{}", std::process::id());
        let directory = machines().join(&unique);
        forget_the_dead(&machines());
        let filesystem = directory.join("fs");
        let staged = directory.join("stage");
        fs::create_dir_all(&filesystem).unwrap();
        fs::create_dir_all(&staged).unwrap();
        stage(&staged);
        let control_groups = control_groups(&unique);

        let socket = ear(&unique);
        let console = fs::File::create(directory.join("console")).unwrap();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"])
            .args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc", "sh", "-ec", START, "sh"])
            .args([tree.as_os_str(), staged.as_os_str(), filesystem.as_os_str(), unique.as_ref()])
            .args(&control_groups)
            .env("NOTIFY_SOCKET", format!("@{}", abstract_name(&unique)))
            .stdin(Stdio::piped())
            .stdout(console.try_clone().unwrap())
            .stderr(console);
        let mut container = command.spawn().unwrap();

        if !await_boot(&socket) {
            let said = fs::read_to_string(directory.join("console")).unwrap_or_default();
            container.kill().unwrap();
            container.wait().unwrap();
            panic!("{name}: no machine within {PATIENCE:?}; its console:\n{said}");
        }
        let init = RefCell::new(Init::of(&container));
        let machine = Self { name: unique, directory, control_groups, container, init, shown: Cell::new(false) };
        machine.ok(&["systemctl", "is-system-running", "--wait"]);
        machine
    }

    /// Waits until the machine is down, whoever brings that about, and tells how that came.
    pub(crate) fn wait_until_down(&self) -> Down {
        let patience = Timespec::try_from(PATIENCE).unwrap();
        let ended = poll(&mut [PollFd::new(&self.init.borrow().fd, PollFlags::IN)], Some(&patience)).unwrap();
        assert_eq!(ended, 1, "the machine is not down within {PATIENCE:?}:\n{}", self.console());
        let how = self.directory.join("fs/down");
        // That file is in the mount namespace of the machine's disk.
        let how =
            PathBuf::from(format!("/proc/{}/root", only_child_of(&self.container))).join(&how.to_string_lossy()[1..]);
        let started = Instant::now();
        let status = loop {
            match fs::read_to_string(&how) {
                Ok(status) if status.ends_with('\n') => break status,
                _ => assert!(started.elapsed() < PATIENCE, "process 1 is gone and systemd-nspawn is not"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        match status.trim_end() {
            "0" => Down::PowerOff,
            "133" => Down::Reboot,
            _ => Down::Cut,
        }
    }

    /// Ends every process of the machine at once, and nothing in good order.
    pub(crate) fn cut_power(&self) {
        pidfd_send_signal(&self.init.borrow().fd, Signal::KILL).unwrap();
        assert_eq!(self.wait_until_down(), Down::Cut);
    }

    /// Boots the machine once more, with the disk that it has.
    pub(crate) fn boot_again(&self) {
        let socket = ear(&self.name);
        self.container.stdin.as_ref().unwrap().write_all(b"\n").unwrap();
        assert!(await_boot(&socket), "no second boot within {PATIENCE:?}; the console:\n{}", self.console());
        self.init.replace(Init::of(&self.container));
        self.ok(&["systemctl", "is-system-running", "--wait"]);
    }

    /// Lets process 1 answer nobody, as one does that has too much to do.
    pub(crate) fn freeze_manager(&self) {
        pidfd_send_signal(&self.init.borrow().fd, Signal::STOP).unwrap();
    }

    /// Lets it go on.
    pub(crate) fn thaw_manager(&self) {
        pidfd_send_signal(&self.init.borrow().fd, Signal::CONT).unwrap();
    }

    fn console(&self) -> String {
        fs::read_to_string(self.directory.join("console")).unwrap_or_default()
    }

    /// What the machine has on this one; gone with it.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a file of the machine is seen from here.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        assert!(path.starts_with('/'), "{path} is not absolute");
        PathBuf::from(format!("/proc/{}/root{path}", self.init.borrow().pid))
    }

    /// Writes a file, and the directories above it.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        write(&self.path(path), content);
    }

    /// A text file's content; empty when there is none.
    pub(crate) fn read(&self, path: &str) -> String {
        match fs::read_to_string(self.path(path)) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            content => content.unwrap(),
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=1", &PATIENCE.as_secs().to_string()])
            .args(["nsenter", "--target", &self.init.borrow().pid.to_string()])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command in the machine, as root.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        finish(self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Runs a command that must succeed, and gives its standard output.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        if output.status != 0 {
            self.show();
        }
        assert_eq!(output.status, 0, "{words:?}: {output:?}");
        output.stdout
    }

    /// Runs a shell script that must succeed, and gives its standard output.
    pub(crate) fn sh(&self, script: &str) -> String {
        self.ok(&["/bin/sh", "-ec", script])
    }

    /// Starts a command; the machine takes it along when it goes.
    pub(crate) fn start(&self, words: &[&str]) -> Running {
        Running(self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// A property of a unit.
    pub(crate) fn property(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "--property", property, unit])
    }

    /// The journal's entries that match, oldest first.
    pub(crate) fn journal(&self, matches: &[&str]) -> Vec<Value> {
        self.ok(&["journalctl", "--sync"]);
        let words = [&["journalctl", "--output=json", "--all", "--no-pager", "--quiet"], matches].concat();
        self.ok(&words).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for something that the machine brings about.
    pub(crate) fn wait_for(&self, what: &str, condition: impl FnMut() -> bool) {
        self.wait_at_most(PATIENCE, what, condition);
    }

    /// The same with a deadline of one's own.
    pub(crate) fn wait_at_most(&self, limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
        let started = Instant::now();
        while !condition() {
            if started.elapsed() > limit {
                self.show();
                panic!("waited {limit:?} in vain for {what}");
            }
            thread::sleep(Duration::from_millis(25));
        }
    }

    /// Shows the end of the journal, for whoever reads of a failure.
    fn show(&self) {
        if !self.shown.replace(true) {
            let journal = self.run(&["journalctl", "--no-pager", "--lines=80", "--output=short-precise"]);
            // Our own words, which the manager's may have pushed out of that.
            let words = ["--no-pager", "--lines=200", "--output=short-precise", "_EXE=/usr/bin/opensvc-actions"];
            let own = self.run(&[&["journalctl"], &words[..]].concat());
            let units = self.run(&["systemctl", "--no-pager", "--all", "status", "opensvc-action*"]);
            eprintln!("{}\n--- of opensvc-actions:\n{}\n{}", journal.stdout, own.stdout, units.stdout);
        }
    }
}

impl Init {
    /// Process 1 of the boot that there is now.
    fn of(container: &Child) -> Self {
        // A pid namespace around the machine's goes when this process goes, however that comes about. In it are the shell
        // and systemd-nspawn.
        let pid = only_child(only_child(only_child_of(container)));
        Self { pid, fd: pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap() }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            self.show();
        }
        // With process 1 of a pid namespace all of its processes go, and with them the mounts; and nobody will want
        // another boot.
        drop(self.container.stdin.take());
        let _ = pidfd_send_signal(&self.init.borrow().fd, Signal::KILL);
        let started = Instant::now();
        while matches!(self.container.try_wait(), Ok(None)) {
            if started.elapsed() > Duration::from_secs(10) {
                let _ = self.container.kill();
            }
            thread::sleep(Duration::from_millis(5));
        }
        for group in &self.control_groups {
            remove_control_group(group);
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Writes a file, and the directories above it.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

/// A command that goes on in the machine.
pub(crate) struct Running(Child);

impl Running {
    /// Waits for its end.
    pub(crate) fn finish(self) -> Output {
        finish(self.0)
    }

    /// Has it ended?
    pub(crate) fn ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

fn finish(child: Child) -> Output {
    use std::os::unix::process::ExitStatusExt as _;
    let output = child.wait_with_output().unwrap();
    Output {
        status: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap()),
        stdout: String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What the container's life is, in a mount namespace of its own: one boot, and another for each line on standard input.
/// Arguments: the tree, what comes on top of it, an empty directory, the machine's name, control groups to be in.
const START: &str = r#"
tree=$1 stage=$2 fs=$3 name=$4
shift 4
for group; do mkdir -p "$group"; echo $$ >"$group/cgroup.procs"; done
mount -t tmpfs -o mode=755 tmpfs "$fs"
mkdir "$fs/upper" "$fs/work" "$fs/root"
mount -t overlay -o "lowerdir=$stage:$tree,upperdir=$fs/upper,workdir=$fs/work" overlay "$fs/root" ||
    cp -a --reflink=auto "$tree/." "$stage/." "$fs/root"
# what systemd-nspawn leaves in /run stays in here, too
mkdir -p /run/systemd
mount -t tmpfs -o mode=755 tmpfs /run/systemd
while :; do
    status=0
    systemd-nspawn --directory="$fs/root" --boot --register=no --keep-unit --quiet --private-network \
        --machine="$name" --notify-ready=yes --link-journal=no --resolv-conf=off --timezone=off </dev/null || status=$?
    echo "$status" >"$fs/down"
    read -r again || exit 0
    rm "$fs/down"
done
"#;

fn abstract_name(unique: &str) -> String {
    format!("opensvc-actions-test-{unique}")
}

/// Where the machine says that it is up; to be there before it boots.
fn ear(unique: &str) -> UnixDatagram {
    let address = SocketAddr::from_abstract_name(abstract_name(unique)).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Waits for the machine's READY=1.
fn await_boot(socket: &UnixDatagram) -> bool {
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.recv(&mut buffer) {
        if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == "READY=1") {
            return true;
        }
    }
    false
}

fn only_child_of(parent: &Child) -> i32 {
    only_child(parent.id().try_into().unwrap())
}

/// The child of a process that has exactly one.
fn only_child(parent: i32) -> i32 {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    children.trim().parse().unwrap_or_else(|_| panic!("process {parent} has the children {children:?}"))
}

/// A control group for the machine in each hierarchy that systemd manages: machines that share one see each other's
/// processes as left over.
fn control_groups(unique: &str) -> Vec<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let kind = match controllers {
            "" => " - cgroup2 ",
            "name=systemd" => " - cgroup ",
            _ => continue,
        };
        let mount = mounts.lines().find(|line| {
            line.contains(kind) && (controllers.is_empty() || line.rsplit(',').any(|option| option == controllers))
        });
        if let Some(mount) = mount {
            let mount_point = Path::new(mount.split(' ').nth(4).unwrap());
            let own = mount_point.join(path.trim_start_matches('/'));
            found.push(own.join(abstract_name(unique)));
        }
    }
    found
}

/// Removes a control group with those below it, once they are empty.
fn remove_control_group(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_control_group(&entry.path());
        }
    }
    let started = Instant::now();
    while group.exists() && fs::remove_dir(group).is_err() && started.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Removes the directories of test runs that were killed before they could.
fn forget_the_dead(machines: &Path) {
    for entry in fs::read_dir(machines).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_string_lossy().rsplit('-').next().and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            for group in control_groups(&name.to_string_lossy()) {
                remove_control_group(&group);
            }
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
