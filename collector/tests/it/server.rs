//! A collector of a test's own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use crate::exchange::{Answer, Tls, connect, read_answer, request};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_opensvc-actions-collector");

/// A running collector. It is killed when the test ends.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    dir: TempDir,
}

impl Server {
    /// Starts one that notifies nobody.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--no-notify"])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let (child, address) = launch(&dir, arguments);
        Self { child, address, dir }
    }

    /// Starts it again on the same state.
    pub(crate) fn restart(&mut self, arguments: &[&str]) {
        (self.child, self.address) = launch(&self.dir, arguments);
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.state().join(name)
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// The exit status, waited for.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let child = &mut self.child;
        let mut code = None;
        until("the server has stopped", || {
            code = child.try_wait().unwrap();
            code.is_some()
        });
        code.unwrap().code()
    }

    /// Runs a client command.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        command().arg("--state").arg(self.state()).args(arguments).output().unwrap()
    }

    /// Runs a client command that is given this on standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = command();
        command.arg("--state").arg(self.state()).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs a client command that succeeds, and gives its document.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        let output = self.run(&arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Queues an action, and gives its number.
    pub(crate) fn enqueue(&self, node: &str, command: &str) -> String {
        self.json(&["enqueue", node, command])["id"].to_string()
    }

    pub(crate) fn show(&self, id: &str) -> Value {
        self.json(&["show", id])
    }

    pub(crate) fn status(&self, id: &str) -> String {
        self.show(id)["status"].as_str().unwrap().to_owned()
    }

    /// Changes the database behind the server's back.
    pub(crate) fn sql(&self, statements: &str) {
        let db = Connection::open(self.file("queue.db")).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        db.execute_batch(statements).unwrap();
    }

    /// Makes an action older.
    pub(crate) fn age(&self, id: &str, seconds: i64) {
        self.sql(&format!("UPDATE action_queue SET date_queued = date_queued - {seconds} * 1000 WHERE id = {id}"));
    }

    pub(crate) fn connect(&self) -> Tls {
        connect(self.address, &self.file("ca.pem"))
    }

    /// Sends these bytes on a connection of their own, and gives the answer.
    pub(crate) fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read_answer(&mut stream)
    }

    /// Asks with these credentials of a node.
    pub(crate) fn ask(&self, method: &str, uri: &str, credentials: &str, body: &[u8]) -> Answer {
        use base64::Engine as _;
        let basic = format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(credentials));
        self.send(&request(method, uri, &[("Authorization", &basic)], body))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have stopped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(EXECUTABLE);
    command.stdin(Stdio::null());
    command
}

fn launch(dir: &TempDir, arguments: &[&str]) -> (Child, SocketAddr) {
    let mut child = command()
        .args(["serve", "--listen", "127.0.0.1:0", "--state"])
        .arg(dir.path().join("state"))
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on https://").unwrap_or_else(|| panic!("no address: {line:?}"));
    (child, address.parse().unwrap())
}

/// Looks until something is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
