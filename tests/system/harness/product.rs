//! What is tested, put into a machine: the handler, its units, a collector, an `om` that does what its words say.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::machine::Running;
use super::{Machine, Tree};

const HANDLER: &str = env!("CARGO_BIN_EXE_opensvc-actions");
/// What a line about a fetch holds, and no other.
const FETCH: &str = "collector_get_action_queue_v2";
const UNITS: &str = "/usr/lib/systemd/system";
const STATE: &str = "/var/lib/collector";
const URL: &str = "https://127.0.0.1:8443";

/// systemd's number for "Starting …".
const UNIT_STARTING: &str = "7d4958e842da4a758f6c1cdc7b36dcc5";

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
    /// Connections that were left open for more than half a minute.
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

impl Machine {
    /// A booted machine with the handler and its units installed, nothing enabled.
    pub(crate) fn with_product(name: &str) -> Self {
        let machine = Machine::boot(name);
        machine.install_product();
        machine
    }

    /// The same, where inetd is.
    pub(crate) fn with_inetd(name: &str) -> Self {
        let machine = Machine::boot_tree(name, Tree::Inetd);
        machine.install_product();
        machine
    }

    fn install_product(&self) {
        self.install_executable(Path::new(HANDLER), "/usr/bin/opensvc-actions");
        self.write_executable("/usr/bin/om", include_bytes!("om.sh"));
        self.write_executable("/usr/local/bin/peer.pl", include_bytes!("peer.pl"));
        self.install_units(&units());
        for directory in fs::read_dir(units().join("drop-ins")).unwrap() {
            let directory = directory.unwrap();
            for file in fs::read_dir(directory.path()).unwrap() {
                let file = file.unwrap();
                let name = file.path().strip_prefix(units().join("drop-ins")).unwrap().to_str().unwrap().to_owned();
                self.write(&format!("{UNITS}/{name}"), fs::read(file.path()).unwrap());
            }
        }
        self.ok(&["systemctl", "daemon-reload"]);
        let version = self.run(&["opensvc-actions", "--version"]);
        assert_eq!(version.status, 0, "the executable of this build does not run on Debian 12: {}", version.stderr);
    }

    fn install_units(&self, from: &Path) -> Vec<String> {
        let mut names = Vec::new();
        for file in fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            let extension = Path::new(&name).extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some("service" | "socket" | "timer")) {
                self.write(&format!("{UNITS}/{name}"), fs::read(file.path()).unwrap());
                names.push(name);
            }
        }
        names.sort();
        names
    }

    /// Puts the Accept=yes variant in place of the other socket.
    pub(crate) fn install_accept_yes(&self) {
        self.install_units(&units().join("accept-yes"));
        self.ok(&["systemctl", "daemon-reload"]);
    }

    /// Begins to listen, for good.
    pub(crate) fn enable_socket(&self) {
        self.ok(&["systemctl", "--quiet", "enable", "--now", "opensvc-actions.socket"]);
    }

    /// Starts a collector in the machine and makes this node known to it.
    pub(crate) fn collector(&self, queue: Queue) -> Collector<'_> {
        let executable = Path::new(HANDLER).with_file_name("opensvc-actions-collector");
        assert!(executable.exists(), "{} is missing: build with --workspace", executable.display());
        self.install_executable(&executable, "/usr/bin/opensvc-actions-collector");
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
            let mut fields = line.splitn(3, ' ');
            Mark {
                start: fields.next() == Some("start"),
                pid: fields.next().unwrap().to_owned(),
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
        let script = format!("ulimit -n 20000; exec perl /usr/local/bin/peer.pl {count} {window} {mode}");
        self.start(&["/bin/sh", "-c", &script])
    }

    /// Waits until the service is not running.
    pub(crate) fn wait_until_inactive(&self) {
        self.wait_for("the service to end", || {
            matches!(&*self.property("opensvc-actions.service", "ActiveState"), "inactive" | "failed")
        });
    }

    /// A notification that nobody may ever answer.
    pub(crate) fn peer_without_answer(&self) {
        self.ok(&["perl", "-MIO::Socket::INET", "-e", "IO::Socket::INET->new('127.0.0.1:1214') or die $@"]);
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

/// The real collector, inside the machine.
pub(crate) struct Collector<'a> {
    machine: &'a Machine,
}

impl Collector<'_> {
    fn start(&self) {
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
        self.machine.wait_for("the collector to listen", || {
            let lines = self.machine.journal(&["--unit=collector.service"]);
            lines.iter().any(|line| line["MESSAGE"].as_str().is_some_and(|text| text.contains("listening on https://")))
        });
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
        let asks = |line: &&Value| line["MESSAGE"].as_str().is_some_and(|text| text.contains(FETCH));
        lines.iter().filter(asks).count()
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
