//! The handler as a process: ways to start it, and how it ended.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, Signal, kill_process};

use super::{DEADLINE, NODE, UUID, base64};

/// A handler about to be started.
pub(crate) struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    fds: Fds,
    user: Option<u32>,
    log: PathBuf,
}

enum Fds {
    /// Standard input is `/dev/null`.
    None,
    /// The socket is descriptor 0, 1 and 2, as inetd does it.
    Inetd(OwnedFd),
    /// The socket is descriptor 3, as systemd does it.
    Systemd(OwnedFd),
    /// All three are a terminal, with what comes from this descriptor as its keyboard.
    Terminal(Option<OwnedFd>),
}

impl Launch {
    /// `log` is the beginning of the names of the files that get its output.
    pub(crate) fn new(program: PathBuf, log: PathBuf) -> Self {
        Self { program, args: Vec::new(), env: Vec::new(), fds: Fds::None, user: None, log }
    }

    pub(crate) fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Started by another program, which gets these arguments and a file before it.
    pub(crate) fn under(mut self, program: &str, args: &[&str], file: &Path) -> Self {
        let mut all: Vec<OsString> = args.iter().map(Into::into).collect();
        all.extend([file.into(), self.program.into()]);
        all.append(&mut self.args);
        self.program = program.into();
        self.args = all;
        self
    }

    /// As the last words of another command.
    #[allow(dead_code, reason = "not every test binary needs more")]
    pub(crate) fn within(mut self, command: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut words: Vec<OsString> = command.into_iter().map(PathBuf::into_os_string).collect();
        words.push(self.program.into_os_string());
        words.append(&mut self.args);
        self.program = PathBuf::from(words.remove(0));
        self.args = words;
        self
    }

    /// Descriptors 0, 1 and 2 are this socket: a connection (`nowait`) or a listening socket (`wait`).
    pub(crate) fn inetd(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.fds = Fds::Inetd(socket.into());
        self
    }

    /// Descriptor 3 is this socket, and `LISTEN_FDS` says so.
    pub(crate) fn systemd(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.fds = Fds::Systemd(socket.into());
        self
    }

    /// With a terminal instead of all of these. What is printed on it goes to standard output.
    pub(crate) fn terminal(mut self) -> Self {
        self.fds = Fds::Terminal(None);
        self
    }

    /// The same, with a keyboard.
    #[allow(dead_code, reason = "not every test binary needs more")]
    pub(crate) fn terminal_with(mut self, keyboard: impl Into<OwnedFd>) -> Self {
        self.fds = Fds::Terminal(Some(keyboard.into()));
        self
    }

    /// Not as root.
    pub(crate) fn user(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }

    /// For somebody who starts it and waits for it himself: a command without a socket, and the file that gets what it says
    /// on standard error.
    #[allow(dead_code, reason = "not every test binary traces")]
    pub(crate) fn command(self) -> (Command, PathBuf) {
        let (stdout, stderr) = (self.log.with_extension("out"), self.log.with_extension("err"));
        let mut command = Command::new(self.program);
        command.args(self.args).env_clear().envs(self.env).current_dir("/").stdin(Stdio::null());
        command.stdout(File::create(stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        (command, stderr)
    }

    pub(crate) fn start(self) -> Process {
        let Self { program, args, env, fds, user, log } = self;
        let mut command = match fds {
            // Only the process itself can know its number for LISTEN_PID, so a shell becomes it.
            Fds::Systemd(_) => {
                let become_it = "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
                let mut command = Command::new("/bin/sh");
                command.args(["-c", become_it, "sh"]).arg(program).args(args);
                command
            }
            Fds::Terminal(_) => {
                let words = std::iter::once(program.as_os_str()).chain(args.iter().map(OsString::as_os_str));
                let quoted: Vec<_> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
                let mut command = Command::new("script");
                command.args(["--quiet", "--return", "--flush", "--command"]);
                command.arg(format!("exec {}", quoted.join(" "))).arg("/dev/null");
                command
            }
            Fds::None | Fds::Inetd(_) => {
                let mut command = Command::new(program);
                command.args(args);
                command
            }
        };
        let (stdout, stderr) = (log.with_extension("out"), log.with_extension("err"));
        command.env_clear().envs(env).current_dir("/");
        command.stdin(Stdio::null()).stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        match fds {
            Fds::None | Fds::Terminal(None) => {}
            Fds::Terminal(Some(keyboard)) => drop(command.stdin(keyboard)),
            Fds::Inetd(socket) => {
                command.stdout(socket.try_clone().unwrap()).stderr(socket.try_clone().unwrap()).stdin(socket);
            }
            Fds::Systemd(socket) => {
                command.stdin(socket);
            }
        }
        if let Some(uid) = user {
            command.uid(uid).gid(uid);
        }
        let mut child = command.spawn().unwrap();
        drop(command); // and our copies of the socket with it
        let pid = Pid::from_child(&child);
        let (sender, status) = channel();
        thread::spawn(move || sender.send(child.wait().unwrap()));
        Process { pid, status, ended: None, stdout, stderr }
    }

    /// Starts it and waits for its end.
    pub(crate) fn run(self) -> Ended {
        self.start().wait()
    }
}

/// A handler that runs. It is killed with its value.
pub(crate) struct Process {
    pid: Pid,
    status: Receiver<ExitStatus>,
    ended: Option<ExitStatus>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        assert!(self.ended.is_none());
        kill_process(self.pid, signal).unwrap();
    }

    /// Whether it still runs; asks, and does not wait.
    pub(crate) fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.status.try_recv().ok();
        }
        self.ended.is_none()
    }

    /// Waits for its end.
    pub(crate) fn wait(self) -> Ended {
        self.wait_within(DEADLINE)
    }

    /// Waits for its end, which the contract promises within this time.
    pub(crate) fn wait_within(mut self, limit: Duration) -> Ended {
        let status = match self.ended {
            Some(status) => status,
            None => match self.status.recv_timeout(limit) {
                Ok(status) => status,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("the handler still runs after {limit:?}; it said:\n{}", self.said())
                }
                Err(err) => panic!("{err}"),
            },
        };
        self.ended = Some(status);
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        let ended = Ended { status, stdout: read(&self.stdout), stderr: read(&self.stderr) };
        ended.assert_no_secret();
        ended
    }

    /// Waits until it has said these words on standard error.
    pub(crate) fn wait_until_says(&self, words: &str) {
        wait_until_holds(&self.stderr, words);
    }

    /// Waits until it has printed these words on standard output, or on its terminal.
    pub(crate) fn wait_until_prints(&self, words: &str) {
        wait_until_holds(&self.stdout, words);
    }

    /// What it has said so far on standard error.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = self.status.recv_timeout(DEADLINE);
        }
    }
}

/// Waits until a file that somebody writes holds these words.
pub(crate) fn wait_until_holds(path: &Path, words: &str) {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY).unwrap();
    let deadline = Instant::now() + DEADLINE;
    loop {
        let said = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        if said.contains(words) {
            return;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "waited in vain for {words:?} in:\n{said}");
        poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&left.try_into().unwrap())).unwrap();
        while rustix::io::read(&watch, &mut [0; 4096]).is_ok() {}
    }
}

/// How a handler ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The exit status; a signal is 128 and its number.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }

    /// Insists on an exit status.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code(), code, "wrong exit status; it said:\n{}", self.stderr);
        self
    }

    /// Insists on words in what it said.
    #[track_caller]
    pub(crate) fn says(&self, words: &str) -> &Self {
        assert!(self.stderr.contains(words), "it did not say {words:?} but:\n{}", self.stderr);
        self
    }

    #[track_caller]
    fn assert_no_secret(&self) {
        let secrets = [UUID.to_owned(), base64(format!("{NODE}:{UUID}").as_bytes()), base64(UUID.as_bytes())];
        for secret in &secrets {
            for output in [&self.stdout, &self.stderr] {
                assert!(!output.contains(secret.trim_end_matches('=')), "a secret was said:\n{output}");
            }
        }
    }
}
