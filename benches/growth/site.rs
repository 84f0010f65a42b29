//! A site: the small collector over real TLS, and nodes, each a directory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use opensvc_actions::action::Queue;
use opensvc_actions_collector::clock;
use opensvc_actions_collector::store::{Action, ActionType, NodeChange, Status, Store};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Failure;
use crate::programs::Programs;

/// The collector's directory, and its server while that runs.
pub(crate) struct Site<'a> {
    programs: &'a Programs,
    /// Of the nodes: on a disk.
    pub(crate) nodes: TempDir,
    /// Of the collector: in memory where that can be.
    state: TempDir,
    server: Option<Child>,
    /// Where it listens, and where it listens again after a pause.
    pub(crate) port: u16,
}

/// A node: a root of its own, and a name at the collector.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) root: PathBuf,
}

impl<'a> Site<'a> {
    /// A site whose collector runs.
    pub(crate) fn new(programs: &'a Programs) -> Result<Self, Failure> {
        let directory = |place: &Path| tempfile::Builder::new().prefix("growth-").tempdir_in(place);
        let memory = Path::new("/dev/shm");
        let nodes = directory(&programs.target)?;
        // What leads to settings must be nobody else's to write, and may be anybody's to pass.
        fs::set_permissions(nodes.path(), fs::Permissions::from_mode(0o755))?;
        let state = directory(if memory.is_dir() { memory } else { &programs.target })?;
        let mut site = Self { programs, nodes, state, server: None, port: 0 };
        site.start()?;
        // What is queued here has greater numbers than what a node is made to remember.
        let queue = rusqlite::Connection::open(site.database())?;
        queue.execute("INSERT INTO sqlite_sequence VALUES ('action_queue', 1000000)", [])?;
        Ok(site)
    }

    /// Starts the server, on the port that it had before.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut server = Command::new(&self.programs.collector)
            .arg("--state")
            .arg(self.state.path())
            .args(["serve", "--no-notify", "-v", "--listen", &format!("127.0.0.1:{}", self.port)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let mut said = String::new();
        if let Some(stdout) = server.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        self.server = Some(server);
        let port = said.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        self.port = port.ok_or_else(|| format!("the collector does not listen: {said:?}"))?;
        Ok(())
    }

    /// Ends the server, as a service manager does.
    pub(crate) fn stop(&mut self) -> Result<(), Failure> {
        if let Some(mut server) = self.server.take() {
            if let Some(pid) = i32::try_from(server.id()).ok().and_then(Pid::from_raw) {
                kill_process(pid, Signal::TERM)?;
            }
            server.wait()?;
        }
        Ok(())
    }

    /// The process of the server.
    pub(crate) fn server(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// What the server says: one line for each request.
    pub(crate) fn log(&self) -> PathBuf {
        self.state.path().join("log")
    }

    /// How many requests the server has answered.
    pub(crate) fn requests(&self) -> Result<usize, Failure> {
        let log = fs::read_to_string(self.log())?;
        Ok(log.lines().filter(|line| is_request(line)).count())
    }

    fn database(&self) -> PathBuf {
        self.state.path().join("queue.db")
    }

    /// The collector's database, opened beside it: a command for each action would take minutes.
    pub(crate) fn store(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.database())?)
    }

    /// Makes a node that knows the collector, and the collector know it.
    pub(crate) fn node(&self, store: &mut Store, name: &str, queue: Queue) -> Result<Node, Failure> {
        let (action_type, keyword) = match queue {
            Queue::Oc3 => (ActionType::Feed, "collector"),
            Queue::Rpc => (ActionType::Pull, "dbopensvc"),
        };
        let change = NodeChange { name: name.to_owned(), action_type: Some(action_type), ..NodeChange::default() };
        let uuid = store.put_node(&change)?.uuid;
        let root = self.nodes.path().join(name);
        fs::create_dir_all(root.join("etc"))?;
        let conf = format!("[node]\n{keyword} = https://127.0.0.1:{}\nuuid = {uuid}\n", self.port);
        fs::write(root.join("etc/node.conf"), conf)?;
        let authority = self.state.path().join("ca.pem");
        let toml = format!(
            "[collector]\nnode = {name:?}\nca_file = \"{}\"\n[execution]\nom = \"/bin/true\"\nlauncher = \"direct\"\n",
            authority.display()
        );
        fs::write(root.join("etc/actions.toml"), toml)?;
        Ok(Node { name: name.to_owned(), root })
    }

    /// Queues so many actions for a node.
    pub(crate) fn enqueue(&self, node: &Node, actions: u32) -> Result<(), Failure> {
        let mut store = self.store()?;
        for _ in 0..actions {
            store.enqueue(&node.name, None, "noop", clock::now())?;
        }
        Ok(())
    }

    /// Whether every action of a node, and so many there are, has come back, and well.
    pub(crate) fn all_came_back(&self, node: &Node, actions: usize) -> Result<(), Failure> {
        let rows = self.store()?.list(Some(&node.name), None)?;
        let is_back = |row: &&Action| row.status == Status::T && row.ret == Some(0);
        match rows.iter().filter(is_back).count() {
            back if back == actions && rows.len() == actions => Ok(()),
            back => Err(format!("{}: of {actions} actions {back} came back", node.name).into()),
        }
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        // A failure is somewhere else by now.
        let _ = self.stop();
    }
}

/// Whether a line of the server's log is about a request: `DEBUG POST /path: 200`.
pub(crate) fn is_request(line: &str) -> bool {
    line.contains(" GET /") || line.contains(" POST /")
}

impl Node {
    /// The command line of its handler, `-q --root ROOT WORDS`.
    pub(crate) fn arguments<'b>(&'b self, words: &'b [&'b str]) -> Vec<&'b OsStr> {
        let mut arguments = vec![OsStr::new("-q"), OsStr::new("--root"), self.root.as_os_str()];
        arguments.extend(words.iter().map(OsStr::new));
        arguments
    }
}
