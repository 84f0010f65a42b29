//! What a command sees of the handler, what systemd is told, and what lies on the disk.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::support::DEADLINE;
use crate::support::node::Node;
use crate::support::world::World;
use crate::support::{Dialect, both};

/// A service manager that listens.
struct Manager {
    _dir: tempfile::TempDir,
    socket: UnixDatagram,
    address: String,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap(); // not below ours: the address of a socket is short
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { _dir: dir, socket, address: path.display().to_string() }
    }

    /// The next thing that it is told.
    fn hear(&self) -> String {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// Forgets what it was told and has not heard yet.
    fn forget(&self) {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 4096]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
    }
}

both!(a_command_sees_little_of_our_environment);
fn a_command_sees_little_of_our_environment(dialect: Dialect) {
    let world = World::new(dialect);
    let manager = Manager::new();
    world.node.configure("[execution]\nenvironment = { LANG = \"C.UTF-8\", SITE = \"a b\" }\n");
    let id = world.enqueue("env");
    let mut handler = world.node.handler().systemd(Node::listen()).env("NOTIFY_SOCKET", &manager.address);
    for name in [
        "OSVC_CONTEXT",
        "OSVC_CLUSTER",
        "OSVC_NAMESPACE",
        "OSVC_KIND",
        "OSVC_CWD",
        "OSVC_DETACHED",
        "JOURNAL_STREAM",
        "CREDENTIALS_DIRECTORY",
        "INVOCATION_ID",
        "LD_PRELOAD_X",
        "SECRET",
        "LANG",
        "HTTPS_PROXY_X",
        "WATCHDOG_USEC",
        "REMOTE_HOST",
        "TERM",
        "SHELL",
        "USER",
        "LISTEN_FDNAMES",
        "MANAGERPID",
        "STATE_DIRECTORY",
    ] {
        handler = handler.env(name, "x");
    }
    handler.env("OSVC_SITE", "passes").run().exits(0);
    let output = world.result(id).1;
    let seen: BTreeMap<_, _> = output.lines().filter_map(|line| line.split_once('=')).collect();
    let names: Vec<_> = seen.keys().copied().filter(|name| *name != "PWD" && *name != "_").collect();
    assert_eq!(names, ["HOME", "LANG", "OSVC_SITE", "OSVC_TEST_NODE", "PATH", "SITE"]);
    assert_eq!((seen["LANG"], seen["SITE"], seen["HOME"], seen["OSVC_SITE"]), ("C.UTF-8", "a b", "/root", "passes"));
    world.check();
}

both!(a_command_sees_no_descriptor_of_ours);
fn a_command_sees_no_descriptor_of_ours(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("fds");
    let handler = world.node.handler().systemd(Node::listen());
    handler.run().exits(0);
    let output = world.result(id).1;
    // Whoever runs the tests may have left descriptors open, and the shell reads its script from one.
    let mut known = vec![world.node.path("bin/om")];
    known.extend(fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()));
    let is_known = |line: &&str| known.iter().any(|path| line.ends_with(&path.display().to_string()));
    let seen: Vec<_> = output.lines().filter(|line| line.starts_with("0 ") || !is_known(line)).collect();
    assert_eq!(seen[0], "0 /dev/null");
    assert!(seen[1].starts_with("1 pipe:") && seen[2].starts_with("2 pipe:"), "{seen:?}");
    assert_eq!(seen.len(), 3, "{seen:?}");
    world.check();
}

/// Leaves descriptors open, signals ignored, a terminal's worth of habits, and asks the kernel to spare what it starts.
const CARELESS: &str = "trap '' HUP INT QUIT USR1 TERM CHLD PIPE; umask 077; cd /tmp; \
    echo -500 2>/dev/null >/proc/$$/oom_score_adj; exec 5</etc/passwd 7>/dev/null 9</; exec \"$@\"";

both!(a_command_inherits_nothing_from_a_careless_starter);
fn a_command_inherits_nothing_from_a_careless_starter(dialect: Dialect) {
    let world = World::new(dialect);
    let mut gate = world.node.gate("gate");
    let id = world.enqueue("status fds wait gate");
    let handler = world.node.handler().within(["sh", "-c", CARELESS, "sh"].map(Into::into)).start();
    let command = world.node.wait_for_start(id).pid;
    let supervisor = crate::interruptions::supervisor_of(command).as_raw_nonzero();
    for entry in fs::read_dir(format!("/proc/{supervisor}/fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap_or_default();
        assert!(target != Path::new("/etc/passwd") && target != Path::new("/"), "{} is kept open", target.display());
    }
    gate.open();
    handler.wait().exits(0);
    let output = world.result(id).1;
    let field = |name: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {output}")).trim().to_owned()
    };
    for name in ["SigBlk", "SigIgn"] {
        // 32 and 33 are the C library's, and nobody else can change them.
        assert_eq!(u64::from_str_radix(&field(name), 16).unwrap() & !(3 << 31), 0, "{name}");
    }
    assert_eq!((field("Umask"), field("oom_score_adj"), field("tty")), ("0022".into(), "0".into(), "0".into()));
    for left in ["5 ", "7 ", "9 "] {
        assert!(!output.lines().any(|line| line.starts_with(left)), "descriptor {left} is open: {output}");
    }
    // What bounds us bounds a command: nothing is raised, nothing is lowered.
    let ours = fs::read_to_string("/proc/self/limits").unwrap();
    for line in ours.lines().filter(|line| line.starts_with("Max ")) {
        assert!(output.contains(line), "{line} is different in {output}");
    }
    assert_eq!(
        field("nice"),
        fs::read_to_string("/proc/self/stat").unwrap().rsplit_once(')').unwrap().1.split(' ').nth(17).unwrap()
    );
    world.check();
}

both!(a_command_runs_in_the_root_directory_with_umask_022_in_its_own_group);
fn a_command_runs_in_the_root_directory_with_umask_022_in_its_own_group(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("pwd umask group");
    world.run().exits(0);
    let output = world.result(id).1;
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[..2], ["/", "0022"]);
    let pid = world.node.starts()[0].pid.to_string();
    assert_eq!(lines[2].split(' ').next(), Some(pid.as_str()), "it does not lead its process group");
    world.check();
}

both!(systemd_is_told_ready_first_then_what_runs);
fn systemd_is_told_ready_first_then_what_runs(dialect: Dialect) {
    let world = World::new(dialect);
    let manager = Manager::new();
    let mut gate = world.node.gate("gate");
    let id = world.enqueue_for("svc1", "start wait gate");
    let handler = world.node.handler().env("NOTIFY_SOCKET", &manager.address).start();
    assert_eq!(manager.hear().trim_end(), "READY=1");
    let status = loop {
        let message = manager.hear();
        if message.contains("running") {
            break message;
        }
    };
    assert!(status.starts_with("STATUS=") && status.contains(&id.to_string()), "{status}");
    assert!(status.contains("svc1") && status.contains("start"), "{status}");
    gate.open();
    handler.wait().exits(0);
    world.check();
}

both!(systemd_is_told_ready_whatever_is_wrong);
fn systemd_is_told_ready_whatever_is_wrong(dialect: Dialect) {
    let world = World::new(dialect);
    let manager = Manager::new();
    let ready = |code: i32| {
        world.node.handler().env("NOTIFY_SOCKET", &manager.address).run().exits(code);
        assert_eq!(manager.hear().trim_end(), "READY=1");
        manager.forget();
    };
    world.collector.down();
    ready(75);
    world.node.remove("bin/om");
    ready(69);
    world.node.configure("nonsense\n");
    ready(78);
}

both!(what_is_kept_is_only_for_root);
fn what_is_kept_is_only_for_root(dialect: Dialect) {
    let world = World::new(dialect);
    world.enqueue("echo done");
    world.run().exits(0);
    let state = world.node.path("var/actions");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&state), 0o700);
    let files: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let wanted = if file.is_dir() { 0o700 } else { 0o600 };
        assert_eq!((mode(&file), fs::metadata(&file).unwrap().uid()), (wanted, 0), "{}", file.display());
    }
    world.check();
}

both!(secrets_of_a_command_are_not_said);
fn secrets_of_a_command_are_not_said(dialect: Dialect) {
    let world = World::new(dialect);
    let id = world.enqueue("echo done --password hunter2 --token=hunter2 --env uuid=hunter2 --api-key hunter2");
    let ended = world.node.handler().args(["-vv"]).run();
    assert!(!ended.exits(0).stderr.replace("uuid=hunter2", "").contains("hunter2"), "{}", ended.stderr);
    assert_eq!(world.result(id).1, "done\n");
    world.check();
}

both!(q_says_only_what_is_wrong);
fn q_says_only_what_is_wrong(dialect: Dialect) {
    let world = World::new(dialect);
    world.enqueue("echo done exit 1");
    assert_eq!(world.node.handler().arg("-q").run().exits(0).stderr, "");
    world.collector.down();
    world.node.handler().arg("-q").run().exits(75).says("cannot connect");
}

both!(vv_shows_every_exchange_without_its_secrets);
fn vv_shows_every_exchange_without_its_secrets(dialect: Dialect) {
    let world = World::new(dialect);
    world.enqueue("echo done");
    let ended = world.node.handler().arg("-vv").run();
    ended.exits(0).says(&world.collector.url()).says("POST").says("<redacted>");
    ended.says("200").says("echo done");
}
