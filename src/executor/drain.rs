//! The bare drain: a process that reads pipes until their end and throws everything away.
//!
//! A command may leave a daemon behind that still holds its output. Nobody wants that output any more, but if the pipe
//! were closed the daemon would die of SIGPIPE, and if it were left full the daemon would hang. The supervisor becomes
//! this: a process image that has nothing but the pipes, as its standard input and output.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read};

/// The argument that makes this executable a drain.
pub const ARGUMENT: &str = "drain";

/// Becomes a drain of whichever pipes are still open. Returns when none is.
///
/// # Errors
/// When this executable cannot be executed.
pub fn become_one(one: Option<OwnedFd>, other: Option<OwnedFd>) -> io::Result<()> {
    if one.is_none() && other.is_none() {
        return Ok(());
    }
    let or_null = |pipe: Option<OwnedFd>| pipe.map_or_else(Stdio::null, Stdio::from);
    let failed = Command::new("/proc/self/exe") // this very program, though it may have been replaced on disk
        .arg0("opensvc-actions") // what people see in a list of processes
        .arg(ARGUMENT)
        .env_clear()
        .current_dir("/")
        .stdin(or_null(one))
        .stdout(or_null(other))
        .stderr(Stdio::null())
        .exec();
    Err(failed)
}

/// The whole life of a drain. False where a person typed its name.
#[must_use]
pub fn run() -> bool {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    if stdin.is_terminal() || stdout.is_terminal() {
        eprintln!("opensvc-actions: {ARGUMENT} is not for people: see --help");
        return false;
    }
    let mut open: Vec<BorrowedFd<'_>> = vec![stdin.as_fd(), stdout.as_fd()];
    let mut buffer = [0; 16 * 1024];
    while !open.is_empty() {
        let mut fds: Vec<_> = open.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => break,
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        open.retain(|fd| !ready.next().unwrap_or_default() || !matches!(read(fd, &mut buffer), Ok(0) | Err(_)));
    }
    true
}
