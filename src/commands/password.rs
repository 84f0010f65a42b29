//! A user's password: from a file, from a pipe, or typed on the terminal without being shown. Never from the command line
//! or the environment, which others can read.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

use crate::config::Secret;

/// The most bytes that a password may have.
const LIMIT: usize = 1024;

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("cannot read the password from {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// Standard input, or the terminal, cannot be read.
    #[error("cannot read the password")]
    Input(#[source] io::Error),
    /// Nothing was given.
    #[error("the password is empty")]
    Empty,
    /// More than any password, or no text.
    #[error("what was given is no password: more than {LIMIT} bytes, or no UTF-8")]
    Unusable,
    /// Ctrl-C, or a signal.
    #[error("interrupted; nothing was sent")]
    Interrupted,
}

/// The first line of `file`; without one, of standard input, which is asked for it if it is a terminal.
///
/// # Errors
/// As [`PasswordError`] says.
pub fn obtain(user: &str, file: Option<&Path>) -> Result<Secret, PasswordError> {
    let stdin = io::stdin();
    let line = match file {
        Some(path) => {
            let failed = |err| PasswordError::File(path.to_owned(), err);
            first_line(File::open(path).map_err(failed)?).map_err(failed)?
        }
        None if stdin.is_terminal() => {
            let line = typed(stdin.as_fd(), &format!("Password of {} at the collector: ", user.escape_debug()));
            let _ = writeln!(io::stderr());
            line?
        }
        None => first_line(stdin.lock()).map_err(PasswordError::Input)?,
    };
    if line.is_empty() {
        return Err(PasswordError::Empty);
    }
    let text = String::from_utf8(line).map_err(|_| PasswordError::Unusable)?;
    let password = Secret::from(text);
    if password.expose().len() > LIMIT { Err(PasswordError::Unusable) } else { Ok(password) }
}

/// Up to the end of the line, and never much more than a password can be. One byte at a time: what is behind it in a
/// pipe is somebody else's.
fn first_line(mut input: impl Read) -> io::Result<Vec<u8>> {
    let (mut line, mut byte) = (Vec::with_capacity(LIMIT + 2), [0]);
    while line.len() <= LIMIT && input.read(&mut byte)? > 0 && byte != *b"\n" {
        line.push(byte[0]);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

/// A terminal that shows nothing and sends no signals, until this goes.
struct Quiet<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// What is typed up to Enter. Ctrl-C, and the signals that would end this process with the terminal mute, come back as
/// an error. Whoever sees the prompt may type, or send a signal: it comes last.
fn typed(terminal: BorrowedFd<'_>, prompt: &str) -> Result<Vec<u8>, PasswordError> {
    let (signalled, sender) = UnixStream::pair().map_err(PasswordError::Input)?;
    let mut registered = Vec::new();
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        let sender = sender.try_clone().map_err(PasswordError::Input)?;
        registered.push(pipe::register(signal, sender).map_err(PasswordError::Input)?);
    }
    let line = Quiet::new(terminal).map_err(PasswordError::Input).and_then(|_quiet| {
        let mut out = io::stderr();
        let _ = write!(out, "{prompt}").and_then(|()| out.flush());
        line_of(terminal, &signalled)
    });
    for id in registered {
        unregister(id);
    }
    line
}

fn line_of(terminal: BorrowedFd<'_>, signalled: &UnixStream) -> Result<Vec<u8>, PasswordError> {
    let mut line = Vec::with_capacity(LIMIT + 4);
    loop {
        let mut waiting = [PollFd::new(&terminal, PollFlags::IN), PollFd::new(signalled, PollFlags::IN)];
        match poll(&mut waiting, None) {
            Err(Errno::INTR) => continue,
            polled => polled.map_err(|errno| PasswordError::Input(errno.into()))?,
        };
        if !waiting[1].revents().is_empty() {
            return Err(PasswordError::Interrupted);
        }
        let mut byte = [0];
        match rustix::io::read(terminal, &mut byte) {
            Ok(0) => return Ok(line),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(PasswordError::Input(errno.into())),
        }
        match byte[0] {
            b'\r' | b'\n' | 4 => return Ok(line),             // or Ctrl-D
            3 | 28 => return Err(PasswordError::Interrupted), // Ctrl-C, Ctrl-\
            21 => line.clear(),                               // Ctrl-U
            8 | 127 => {
                // A character may be several bytes.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte if byte < b' ' => {}
            byte if line.len() <= LIMIT => line.push(byte),
            _ => return Err(PasswordError::Unusable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line() {
        for (input, password) in [("a b\n", "a b"), ("a\r\nb\n", "a"), ("a", "a"), ("", ""), ("\n", "")] {
            assert_eq!(first_line(input.as_bytes()).unwrap(), password.as_bytes(), "{input:?}");
        }
        assert!(first_line(io::repeat(b'x')).unwrap().len() <= LIMIT + 1);
    }
}
