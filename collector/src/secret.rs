//! A password, from a file, from standard input, or from a person.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read, Write as _, stdin};
use std::path::{Path, PathBuf};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::client::ClientError;

/// More than a password ever has.
const LINE_MAX: u64 = 4096;

/// The first line.
///
/// # Errors
/// The file or standard input cannot be read.
pub(crate) fn read(file: Option<&Path>) -> Result<String, ClientError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ClientError::Read { path, source }
    };
    match file {
        Some(path) => File::open(path).and_then(line).map_err(failed(path)),
        None => ask().map_err(failed(&PathBuf::from("standard input"))),
    }
}

fn line(from: impl Read) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(from.take(LINE_MAX)).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn ask() -> io::Result<String> {
    if !stdin().is_terminal() {
        return line(stdin());
    }
    let _quiet = Quiet::begin()?;
    let mut stderr = io::stderr();
    let mut once = |prompt: &str| {
        stderr.write_all(prompt.as_bytes())?;
        let line = line(stdin())?;
        stderr.write_all(b"\n")?;
        io::Result::Ok(line)
    };
    let password = once("password: ")?;
    if once("again: ")? == password { Ok(password) } else { Err(io::Error::other("the two lines differ")) }
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing either.
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.0);
    }
}
