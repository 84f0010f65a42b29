//! One command, from its start to its end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::{Future, pending};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, read};
use rustix::pipe::fcntl_getpipe_size;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{Instant, sleep_until};

use crate::action::argv::Argv;
use crate::action::outcome::Ended;
use crate::action::output::Clamp;
use crate::executor::drain;

/// How many bytes of output are read at once.
const PIECE: usize = 8 * 1024;

/// What bounds a command.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// It is killed when it runs longer.
    pub timeout: Option<Duration>,
    /// Between SIGTERM and SIGKILL.
    pub kill_grace: Duration,
}

/// How a command ended, and its output, cleaned and bounded.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub ended: Ended,
    /// Its standard output.
    pub stdout: Clamp,
    /// Its standard error.
    pub stderr: Clamp,
}

/// Runs a command to its end, or until `leave` is done: then the command goes on by itself, its output is drained, and
/// `None` is returned.
///
/// It gets stdin `/dev/null`, the working directory `/`, its own process group, and nothing of ours but `environment`.
/// The action ends when the *command* ends: a daemon that still holds its output delays nothing.
///
/// # Errors
/// When it could not even be tried: no process, no pipe. The command did not start.
pub async fn run(
    argv: &Argv,
    environment: &BTreeMap<OsString, OsString>,
    limits: Limits,
    leave: impl Future<Output = ()>,
) -> io::Result<Option<Finished>> {
    let mut child = match spawn(argv, environment) {
        Ok(child) => child,
        Err(err) => {
            return match not_started(argv, &err) {
                Some(ended) => Ok(Some(Finished { ended, stdout: Clamp::new(), stderr: Clamp::new() })),
                None => Err(err),
            };
        }
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut output = Output::of(&mut child);
    let mut leave = pin!(leave);
    let mut term_at = limits.timeout.map(|timeout| Instant::now() + timeout);
    let mut kill_at = None;
    let mut timed_out = None;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            () = output.read() => {}
            () = until(term_at) => {
                timed_out = limits.timeout;
                term_at = None;
                kill_at = Some(Instant::now() + limits.kill_grace);
                signal(group, Signal::TERM);
            }
            () = until(kill_at) => {
                kill_at = None;
                signal(group, Signal::KILL);
            }
            () = &mut leave => {
                output.stdout.let_go();
                output.stderr.let_go();
                return Ok(None);
            }
        }
    };
    if timed_out.is_some() {
        signal(group, Signal::KILL); // what of its group did not heed the SIGTERM goes with it
    }
    let ended = match (timed_out, status) {
        (Some(timeout), _) => Ended::TimedOut(timeout),
        (None, Ok(status)) => how_it_ended(status),
        (None, Err(err)) => Ended::Interrupted(format!("its end could not be seen: {err}")),
    };
    Ok(Some(Finished { ended, stdout: output.stdout.finish(), stderr: output.stderr.finish() }))
}

fn spawn(argv: &Argv, environment: &BTreeMap<OsString, OsString>) -> io::Result<Child> {
    Command::new(argv.program())
        .args(argv.args())
        .env_clear()
        .envs(environment)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// The result of a command whose program is not there or cannot be executed. Any other failure is this machine's (no
/// memory, no process) and says nothing about the action.
fn not_started(argv: &Argv, err: &io::Error) -> Option<Ended> {
    let program = argv.program().display();
    match Errno::from_io_error(err)? {
        Errno::NOENT | Errno::NOTDIR => Some(Ended::NotFound(format!("{program}: {err}"))),
        Errno::ACCESS | Errno::NOEXEC | Errno::PERM | Errno::ISDIR | Errno::LOOP | Errno::TOOBIG => {
            Some(Ended::NotExecutable(format!("{program}: {err}")))
        }
        _ => None,
    }
}

fn how_it_ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, Some(signal)) => Ended::Signaled(signal),
        (None, None) => Ended::Interrupted(format!("its end is not understood: {status}")),
    }
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // No such group: it has just ended by itself.
        let _ = kill_process_group(group, signal);
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// Both output streams of a command.
struct Output {
    stdout: Stream<ChildStdout>,
    stderr: Stream<ChildStderr>,
}

impl Output {
    fn of(child: &mut Child) -> Self {
        Self { stdout: Stream::new(child.stdout.take()), stderr: Stream::new(child.stderr.take()) }
    }

    /// Reads a piece of either stream; waits for ever when both have ended.
    async fn read(&mut self) {
        tokio::select! {
            () = self.stdout.read() => {}
            () = self.stderr.read() => {}
        }
    }
}

/// One stream: its pipe while it is open, and what came out of it.
struct Stream<P> {
    pipe: Option<P>,
    buffer: Box<[u8]>,
    clamp: Clamp,
}

impl<P: Pipe> Stream<P> {
    fn new(pipe: Option<P>) -> Self {
        Self { pipe, buffer: vec![0; PIECE].into_boxed_slice(), clamp: Clamp::new() }
    }

    async fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return pending().await };
        match pipe.read(&mut self.buffer).await {
            Ok(0) | Err(_) => self.pipe = None,
            Ok(n) => self.clamp.push(&self.buffer[..n]),
        }
    }

    /// Takes what the command left in the pipe before it ended. Whatever is more than a pipe can hold was written
    /// since, by somebody else: a daemon, to which the pipe is left.
    fn finish(mut self) -> Clamp {
        let Some(pipe) = self.pipe.take().and_then(|pipe| pipe.into_fd().ok()) else { return self.clamp };
        // A daemon that holds the other end without writing must not hold us.
        let mut left = match fcntl_setfl(&pipe, OFlags::NONBLOCK) {
            Ok(()) => fcntl_getpipe_size(&pipe).unwrap_or(64 * 1024),
            Err(_) => 0,
        };
        while left > 0 {
            match read(&pipe, &mut self.buffer[..left.min(PIECE)]) {
                Ok(0) => return self.clamp,
                Ok(n) => {
                    left -= n;
                    self.clamp.push(&self.buffer[..n]);
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        leave_to_drain(pipe);
        self.clamp
    }

    /// The command goes on without us.
    fn let_go(&mut self) {
        if let Some(pipe) = self.pipe.take().and_then(|pipe| pipe.into_fd().ok()) {
            leave_to_drain(pipe);
        }
    }
}

fn leave_to_drain(pipe: OwnedFd) {
    if let Err(err) = drain::hand_over(pipe) {
        tracing::warn!("cannot keep the output of a process that lives on open; it may die of SIGPIPE: {err}");
    }
}

/// What both ends of a command's output have in common.
trait Pipe: AsyncRead + Unpin {
    fn into_fd(self) -> io::Result<OwnedFd>;
}

impl Pipe for ChildStdout {
    fn into_fd(self) -> io::Result<OwnedFd> {
        self.into_owned_fd()
    }
}

impl Pipe for ChildStderr {
    fn into_fd(self) -> io::Result<OwnedFd> {
        self.into_owned_fd()
    }
}
