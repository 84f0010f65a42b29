//! The bare drain: a process that reads pipes until their end and throws everything away.
//!
//! A command may leave a daemon behind that still holds its output. Nobody wants that output any more, but if the pipe
//! were closed the daemon would die of SIGPIPE, and if it were left full the daemon would hang. The supervisor becomes
//! this: a process image that has nothing but the pipes, as its standard input and output, and `/dev/null`, where it sends
//! what comes out of them, as its standard error.
//!
//! What the command has left are its children: the kernel forgets neither that nor that orphans become so when a process
//! executes another program. So it buries them.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read};
use rustix::pipe::{SpliceFlags, splice};
use rustix::process::{WaitOptions, wait};
use signal_hook::consts::SIGCHLD;

use crate::executor::supervisor::readable_on;

/// The argument that makes this executable a drain.
pub const ARGUMENT: &str = "drain";

/// How much goes through at once. No byte of it passes through this process.
const PIECE: usize = 1 << 20;

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
        let _ = writeln!(io::stderr(), "opensvc-actions: {ARGUMENT} is not for people: see --help");
        return false;
    }
    // First the signal, then a look: an end between the two is seen by one of them.
    let ended = readable_on(SIGCHLD);
    bury();
    let mut open: Vec<BorrowedFd<'_>> = vec![stdin.as_fd(), stdout.as_fd()];
    while !open.is_empty() {
        let sources = open.iter().copied().chain(ended.as_ref().ok().map(AsFd::as_fd));
        let mut fds: Vec<_> = sources.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => break,
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if let (Ok(ended), Some(true)) = (&ended, ready.get(open.len())) {
            let _ = read(ended, &mut [0; 64]);
            bury();
        }
        let mut ready = ready.into_iter();
        open.retain(|fd| !ready.next().unwrap_or_default() || is_open(*fd));
    }
    true
}

/// Throws away what is in a pipe. Tells whether there may be more: also where somebody else has taken what there was.
fn is_open(pipe: BorrowedFd<'_>) -> bool {
    match splice(pipe, None, io::stderr(), None, PIECE, SpliceFlags::NONBLOCK) {
        Ok(length) => length > 0,
        Err(errno) => matches!(errno, Errno::AGAIN | Errno::INTR),
    }
}

/// Waits for every child that has ended.
fn bury() {
    while matches!(wait(WaitOptions::NOHANG), Ok(Some(_)) | Err(Errno::INTR)) {}
}

#[cfg(test)]
mod tests {
    use rustix::pipe::pipe;

    use super::*;

    #[test]
    fn a_pipe_that_somebody_else_has_emptied_stays_open_until_nobody_can_write_to_it() {
        let (reader, writer) = pipe().unwrap();
        assert!(is_open(reader.as_fd()), "its daemon would die of SIGPIPE");
        drop(writer);
        assert!(!is_open(reader.as_fd()));
    }
}
