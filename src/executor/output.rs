//! What the command prints: read as it comes, in constant memory, for the report and to be kept.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, read};
use rustix::pipe::fcntl_getpipe_size;

use crate::action::output::Clamp;
use crate::executor::kept::{self, Keeper};
use crate::executor::last_line::LastLine;

/// How many bytes are read at once: all that a pipe holds.
const PIECE: usize = 64 * 1024;

/// Both output streams of the command.
pub(super) struct Output {
    pub(super) stdout: Stream,
    pub(super) stderr: Stream,
    pub(super) last_line: LastLine,
    buffer: Vec<u8>,
}

impl Output {
    /// The streams of a command, of each of which so many bytes stay in the current directory.
    pub(super) fn of(stdout: Option<OwnedFd>, stderr: Option<OwnedFd>, kept: u64) -> Self {
        let stream = |pipe: Option<OwnedFd>, which| {
            // A command can read its own output, and would leave whoever was told of it, and then waits for it, waiting.
            let pipe = pipe.filter(|pipe| ioctl_fionbio(pipe, true).is_ok());
            let keeper = Keeper::new(Path::new(""), which, kept);
            Stream { pipe, clamp: Clamp::new(), keeper }
        };
        let (stdout, stderr) = (stream(stdout, kept::Stream::Stdout), stream(stderr, kept::Stream::Stderr));
        Self { stdout, stderr, last_line: LastLine::default(), buffer: vec![0; PIECE] }
    }

    /// Reads a piece of each stream that has one.
    pub(super) fn read(&mut self, stdout: bool, stderr: bool) {
        if stdout {
            let read = self.stdout.read(&mut self.buffer);
            self.last_line.push(kept::Stream::Stdout, &self.buffer[..read]);
        }
        if stderr {
            let read = self.stderr.read(&mut self.buffer);
            self.last_line.push(kept::Stream::Stderr, &self.buffer[..read]);
        }
    }

    /// Takes what the command left in the pipes before it ended. Returns what came out of each, standard output first, and
    /// the pipes that somebody else still holds.
    pub(super) fn finish(mut self) -> [(Clamp, Option<OwnedFd>); 2] {
        [self.stdout.finish(&mut self.buffer), self.stderr.finish(&mut self.buffer)]
    }
}

/// One stream: its pipe while it is open, and what came out of it.
pub(super) struct Stream {
    pub(super) pipe: Option<OwnedFd>,
    clamp: Clamp,
    keeper: Keeper,
}

impl Stream {
    /// Reads a piece, once there is one. Returns its length, 0 at the end.
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        let Some(pipe) = &self.pipe else { return 0 };
        match read(pipe, &mut *buffer) {
            Ok(0) => {
                self.pipe = None;
                0
            }
            Ok(n) => {
                self.clamp.push(&buffer[..n]);
                self.keeper.push(&buffer[..n], self.clamp.fits());
                n
            }
            Err(Errno::INTR | Errno::AGAIN) => 0,
            Err(_) => {
                self.pipe = None;
                0
            }
        }
    }

    /// Takes what is in the pipe. Whatever is more than a pipe can hold was written since, by somebody else: a daemon,
    /// whose pipe is given back.
    fn finish(mut self, buffer: &mut [u8]) -> (Clamp, Option<OwnedFd>) {
        let mut left = self.pipe.as_ref().map_or(0, |pipe| fcntl_getpipe_size(pipe).unwrap_or(64 * 1024));
        while left > 0 {
            let Some(pipe) = &self.pipe else { break };
            let mut fds = [PollFd::new(pipe, PollFlags::IN)];
            match poll(&mut fds, Some(&Timespec::default())) {
                Ok(1..) => {}
                Err(Errno::INTR) => continue,
                Ok(_) | Err(_) => break,
            }
            left = left.saturating_sub(self.read(buffer).max(1));
        }
        (self.clamp, self.pipe)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn whoever_is_told_of_output_that_somebody_else_has_taken_does_not_wait_for_more() {
        // Should it wait, it sees the end.
        let mut child = Command::new("sleep").arg("3").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from));
        let mut output = Output::of(stdout, stderr, 0);
        output.read(true, true);
        assert!(output.stdout.pipe.is_some() && output.stderr.pipe.is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        output.read(true, true);
        assert!(output.stdout.pipe.is_none() && output.stderr.pipe.is_none());
    }
}
