//! The bare drain: a process that reads a pipe until its end and throws everything away.
//!
//! A command may leave a daemon behind that still holds its output. Nobody wants that output any more, but if the pipe
//! were closed the daemon would die of SIGPIPE, and if it were left full the daemon would hang.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, read};
use tokio::process::Command;

/// The argument that makes this executable a drain of its standard input.
pub const ARGUMENT: &str = "drain";

/// Hands the reading end of a pipe over to a drain process, which outlives this one.
///
/// # Errors
/// When the process cannot be started.
pub fn hand_over(pipe: OwnedFd) -> io::Result<()> {
    fcntl_setfl(&pipe, OFlags::empty())?; // back to blocking: the drain has nothing else to do
    Command::new("/proc/self/exe") // this very program, though it may have been replaced on disk
        .arg(ARGUMENT)
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::from(pipe))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(drop)
}

/// The whole life of a drain process.
pub fn run() {
    let mut buffer = [0; 16 * 1024];
    loop {
        match read(io::stdin(), &mut buffer) {
            Ok(0) => return,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
