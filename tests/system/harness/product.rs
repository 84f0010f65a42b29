//! What is tested, put into a machine: the handler, its units, a collector, an `om` that does what its words say.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Machine;
use super::machine::{Running, write};
use super::tree::Tree;

const HANDLER: &str = env!("CARGO_BIN_EXE_opensvc-actions");
const OM: &str = include_str!("om.sh");
const PEER: &str = include_str!("peer.pl");
const UNITS: &str = "usr/lib/systemd/system";
const STATE: &str = "/var/lib/collector";
const URL: &str = "https://127.0.0.1:8443";

/// systemd's number for "Starting …".
const UNIT_STARTING: &str = "7d4958e842da4a758f6c1cdc7b36dcc5";

/// systemd's number for "Main process exited", which it says where the status is not 0.
const UNIT_PROCESS_EXIT: &str = "98e322203f7a4ed290d09fe03c09fe15";

/// Which of the collector's queues a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// Rows of type pull, announced on TCP, fetched over XML-RPC.
    Rpc,
    /// Rows of type feed, never announced, fetched over REST.
    Oc3,
}

/// The `om` of the test has begun or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Beginning or end.
    pub(crate) start: bool,
    /// Process number.
    pub(crate) pid: String,
    /// Which boot of the machine it was.
    pub(crate) boot: String,
    /// The words it was called with.
    pub(crate) words: String,
}

/// What a peer of the handler saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) connected: u64,
    pub(crate) refused: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    /// Connections that were left open for more than two minutes.
    pub(crate) unanswered: u64,
}

/// Parses what a `--json` command printed.
pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The repository's `units/`.
fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("units")
}

/// Puts the product where a package would put it, below `root`, and what the tests need beside it.
fn stage(root: &Path) {
    let bin = root.join("usr/bin");
    fs::create_dir_all(&bin).unwrap();
    let collector = Path::new(HANDLER).with_file_name("opensvc-actions-collector");
    assert!(collector.exists(), "{} is missing: build with --workspace", collector.display());
    for executable in [Path::new(HANDLER), &collector] {
        // Both lie under the target directory; a link costs nothing.
        fs::hard_link(executable, bin.join(executable.file_name().unwrap())).unwrap();
    }
    for (name, script) in [("om", OM), ("peer.pl", PEER)] {
        write(&bin.join(name), script);
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let installed = root.join(UNITS);
    for (name, text) in unit_files(&units()) {
        write(&installed.join(name), text);
    }
    for directory in fs::read_dir(units().join("drop-ins")).unwrap() {
        let directory = directory.unwrap();
        for (name, text) in unit_files(&directory.path()) {
            write(&installed.join(directory.file_name()).join(name), text);
        }
    }
}

/// Names and texts of the unit files and drop-ins in a directory.
fn unit_files(directory: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_file() && name.starts_with("opensvc-actions") || name.starts_with("10-") {
            found.push((name.to_owned(), fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

impl Machine {
    /// A booted machine with the handler and its units installed, nothing enabled.
    pub(crate) fn with_product(name: &str) -> Self {
        Machine::boot(name, Tree::Base, stage).checked()
    }

    /// The same, where inetd is.
    pub(crate) fn with_inetd(name: &str) -> Self {
        Machine::boot(name, Tree::Inetd, stage).checked()
    }

    /// The same, with the units enabled before the boot and `files` there.
    pub(crate) fn with_product_enabled(name: &str, files: &[(&str, &str)]) -> Self {
        let stage = |root: &Path| {
            stage(root);
            for (path, content) in files {
                write(&root.join(path.trim_start_matches('/')), content);
            }
            for (target, unit) in [
                ("sockets", "opensvc-actions.socket"),
                ("timers", "opensvc-actions.timer"),
                ("timers", "opensvc-actions-rearm.timer"),
            ] {
                let wants = root.join(format!("etc/systemd/system/{target}.target.wants"));
                fs::create_dir_all(&wants).unwrap();
                symlink(Path::new("/").join(UNITS).join(unit), wants.join(unit)).unwrap();
            }
        };
        Machine::boot(name, Tree::Base, stage).checked()
    }

    /// Fails if the executables of this build do not run in the tree at all.
    fn checked(self) -> Self {
        let version = self.run(&["opensvc-actions", "--version"]);
        assert_eq!(version.status, 0, "this build does not run on Debian 12 (build it there?): {}", version.stderr);
        self
    }

    /// Puts the Accept=yes variant in place of the other socket.
    pub(crate) fn install_accept_yes(&self) {
        for directory in ["accept-yes", "drop-ins/opensvc-actions@.service.d"] {
            let place = directory.strip_prefix("drop-ins/").map_or(UNITS.to_owned(), |name| format!("{UNITS}/{name}"));
            for (name, text) in unit_files(&units().join(directory)) {
                self.write(&format!("/{place}/{name}"), text);
            }
        }
        self.ok(&["systemctl", "daemon-reload"]);
    }

    /// Installs the drop-in that lifts the sandbox of the handler.
    pub(crate) fn lift_the_sandbox(&self) {
        let text = fs::read(units().join("unconfined.conf")).unwrap();
        self.write("/etc/systemd/system/opensvc-actions.service.d/unconfined.conf", text);
        self.ok(&["systemctl", "daemon-reload"]);
    }

    /// Begins to listen, for good.
    pub(crate) fn enable_socket(&self) {
        self.ok(&["systemctl", "--quiet", "enable", "--now", "opensvc-actions.socket"]);
    }

    /// Starts a collector in the machine and makes this node known to it.
    pub(crate) fn collector(&self, queue: Queue) -> Collector<'_> {
        let collector = Collector { machine: self };
        collector.start();
        let kind = if queue == Queue::Rpc { "pull" } else { "feed" };
        let node = ["node", "add", "n1.example.com", "--type", kind, "--connect-to", "127.0.0.1", "--port", "1214"];
        let uuid = collector.command(&node);
        let keyword = if queue == Queue::Rpc { "dbopensvc" } else { "collector" };
        self.write("/etc/opensvc/node.conf", format!("[node]\n{keyword} = {URL}\nuuid = {uuid}\n"));
        self.write("/etc/opensvc/actions.toml", format!("[collector]\nca_file = \"{STATE}/ca.pem\"\n"));
        collector
    }

    /// What `om` did so far.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        let parse = |line: &str| {
            let mut fields = line.splitn(4, ' ');
            Mark {
                start: fields.next() == Some("start"),
                pid: fields.next().unwrap().to_owned(),
                boot: fields.next().unwrap().to_owned(),
                words: fields.next().unwrap_or_default().to_owned(),
            }
        };
        self.read("/var/log/om.marks").lines().map(parse).collect()
    }

    /// The words of the commands that ran, in their order; fails if two ran at a time or one did not end.
    pub(crate) fn ran(&self) -> Vec<String> {
        let marks = self.marks();
        let pairs: Vec<_> = marks.chunks(2).collect();
        for pair in &pairs {
            let whole = pair.len() == 2 && pair[0].start && !pair[1].start && pair[0].pid == pair[1].pid;
            assert!(whole, "commands overlap or did not end: {marks:#?}");
        }
        pairs.into_iter().map(|pair| pair[0].words.clone()).collect()
    }

    /// The commands that began, in their order: the boot and the words of each.
    pub(crate) fn begun(&self) -> Vec<(String, String)> {
        self.marks().into_iter().filter(|mark| mark.start).map(|mark| (mark.boot, mark.words)).collect()
    }

    /// Which boot of the machine this is.
    pub(crate) fn boot_id(&self) -> String {
        self.read("/proc/sys/kernel/random/boot_id").trim_end().to_owned()
    }

    /// What `status` says, for programs.
    pub(crate) fn status(&self) -> Value {
        json(&self.ok(&["opensvc-actions", "status", "--json"]))
    }

    /// How many actions run, wait and are unreported.
    pub(crate) fn counts(&self) -> [usize; 3] {
        let status = self.status();
        ["running", "waiting", "unreported"].map(|key| status[key].as_array().unwrap().len())
    }

    /// How many commands have ended.
    pub(crate) fn ended(&self) -> usize {
        self.marks().iter().filter(|mark| !mark.start).count()
    }

    /// Is a command running whose words are these?
    pub(crate) fn is_running(&self, words: &str) -> bool {
        let marks = self.marks();
        let count = |start| marks.iter().filter(|mark| mark.start == start && mark.words == words).count();
        count(true) > count(false)
    }

    /// Connects to the node as `peer.pl` does, and waits for what comes of it.
    pub(crate) fn peer(&self, count: u32, window: u32, mode: &str) -> Seen {
        seen(&self.start_peer(count, window, mode).finish().stdout)
    }

    /// The same beside the rest of the test; see [`seen`].
    pub(crate) fn start_peer(&self, count: u32, window: u32, mode: &str) -> Running {
        let script = format!("ulimit -n 20000; exec perl /usr/bin/peer.pl {count} {window} {mode}");
        self.start(&["/bin/sh", "-c", &script])
    }

    /// The statuses other than 0 that the main processes of a unit have ended with. The manager may have forgotten the
    /// unit already.
    pub(crate) fn failures(&self, unit: &str) -> Vec<String> {
        let entries = self.journal(&[&format!("MESSAGE_ID={UNIT_PROCESS_EXIT}"), &format!("UNIT={unit}")]);
        entries.iter().map(|entry| entry["EXIT_STATUS"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the service is not running.
    pub(crate) fn wait_until_inactive(&self) {
        self.wait_for("the service to end", || {
            matches!(&*self.property("opensvc-actions.service", "ActiveState"), "inactive" | "failed")
        });
    }

    /// A notification that nobody may ever answer. It may come too late: the collector's own may have been first, and
    /// the machine be on its way down.
    pub(crate) fn peer_without_answer(&self) {
        self.run(&["perl", "-MIO::Socket::INET", "-e", "IO::Socket::INET->new('127.0.0.1:1214') or die $@"]);
    }

    /// The socket listens and its service has nothing more to do.
    pub(crate) fn wait_until_idle(&self) {
        self.wait_for("the socket to listen again", || {
            self.property("opensvc-actions.socket", "SubState") == "listening"
                && self.property("opensvc-actions.service", "ActiveState") != "deactivating"
        });
    }

    /// Lets everything that systemd and the handler say reach the journal, each exchange with the collector included.
    pub(crate) fn log_everything(&self) {
        for unit in ["opensvc-actions.service", "opensvc-actions@.service"] {
            let text = "[Service]\nLogLevelMax=debug\nExecStart=\nExecStart=/usr/bin/opensvc-actions -vv\n";
            self.write(&format!("/etc/systemd/system/{unit}.d/verbose.conf"), text);
        }
        self.ok(&["systemctl", "daemon-reload"]);
    }

    /// How often systemd has started the service; needs [`Self::log_everything`].
    pub(crate) fn starts(&self, unit: &str) -> usize {
        self.journal(&[&format!("MESSAGE_ID={UNIT_STARTING}"), &format!("UNIT={unit}")]).len()
    }
}

/// Reads what a peer printed.
pub(crate) fn seen(text: &str) -> Seen {
    let value = json(text);
    let number = |key: &str| value[key].as_u64().unwrap();
    Seen {
        connected: number("connected"),
        refused: number("refused"),
        received_bytes: number("received_bytes"),
        sent_bytes: number("sent_bytes"),
        unanswered: number("unanswered"),
    }
}

/// The small collector, inside the machine.
pub(crate) struct Collector<'a> {
    machine: &'a Machine,
}

impl Collector<'_> {
    /// Starts it, with what it knew when it was last stopped.
    pub(crate) fn start(&self) {
        self.machine.ok(&[
            "systemd-run",
            "--quiet",
            "--unit=collector",
            "--collect",
            "--property=StateDirectory=collector",
            "--property=LimitNOFILE=65536",
            "opensvc-actions-collector",
            "serve",
            "--state",
            STATE,
            "--listen",
            URL.trim_start_matches("https://"),
        ]);
        let port = format!("sport = :{}", URL.rsplit(':').next().unwrap());
        self.machine.wait_for("the collector to listen", || !self.machine.ok(&["ss", "-Hltn", &port]).is_empty());
    }

    /// Stops it.
    pub(crate) fn stop(&self) {
        self.machine.ok(&["systemctl", "stop", "collector.service"]);
    }

    /// Runs one of its operator's commands.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        self.machine.ok(&[&["opensvc-actions-collector"], words, &["--state", STATE]].concat())
    }

    /// Queues a node action; gives its id.
    pub(crate) fn enqueue(&self, command: &str) -> u64 {
        id(&self.command(&["enqueue", "--json", "n1.example.com", command]))
    }

    /// Queues a service action; gives its id.
    pub(crate) fn enqueue_for(&self, service: &str, command: &str) -> u64 {
        id(&self.command(&["enqueue", "--json", "n1.example.com", "--service", service, command]))
    }

    /// Everything the collector knows of an action.
    pub(crate) fn show(&self, id: u64) -> Value {
        json(&self.command(&["show", &id.to_string(), "--json"]))
    }

    /// How often the handler has asked for actions; needs [`Machine::log_everything`].
    pub(crate) fn fetches(&self) -> usize {
        let lines = self.machine.journal(&["_EXE=/usr/bin/opensvc-actions"]);
        let messages = lines.iter().filter_map(|line| line["MESSAGE"].as_str());
        // What the handler says of each answer: "rpc: 3 rows".
        messages.filter(|text| text.starts_with("rpc: ") && text.ends_with(" rows")).count()
    }

    /// Waits until the result is there.
    pub(crate) fn result(&self, id: u64) -> Value {
        self.machine.wait_for(&format!("the result of {id}"), || self.show(id)["status"] == "T");
        self.show(id)
    }
}

fn id(text: &str) -> u64 {
    json(text)["id"].as_u64().unwrap_or_else(|| panic!("no id: {text}"))
}
