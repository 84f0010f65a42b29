//! One file per command; each reads like its man page.

pub mod cancel;
pub mod completions;
pub mod dequeue;
pub mod doctor;
pub mod external;
pub mod history;
mod live;
pub mod password;
pub mod pause;
pub mod plan;
pub mod register;
pub mod resume;
mod scheduled;
pub mod show;
pub mod show_config;
pub mod status;
pub mod systemd_check;
pub mod systemd_start;
mod text;
mod unfinished;

use std::io::{self, BufWriter, Write as _};
use std::time::SystemTime;

use crate::action::time::Timestamp;
use crate::cli::Global;
use crate::config::{Paths, Settings};
use crate::error::{Error, Exit};

/// Loads the settings that the command line and the environment ask for.
fn load(global: &Global) -> Result<(Paths, Settings), Error> {
    let paths = paths(global);
    let settings = Settings::load(&paths, global.config.as_deref(), &hostname(), &|name| std::env::var(name).ok())?;
    Ok((paths, settings))
}

/// What gethostname(2) returns.
fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Where everything is. Whoever needs nothing else works with a broken configuration too.
fn paths(global: &Global) -> Paths {
    Paths::resolve(global.root.as_deref(), &|name| std::env::var_os(name))
}

/// Actions run as root, and their records are root's.
fn require_root() -> Result<(), Error> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Error::NotRoot) }
}

/// Prints to standard output. A reader that has seen enough (`| head`) is no failure.
fn print(write: impl FnOnce(&mut BufWriter<io::StdoutLock<'static>>) -> io::Result<()>) -> Result<Exit, Error> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => Err(Error::Print(err)),
        _ => Ok(Exit::Ok),
    }
}

fn now() -> Timestamp {
    Timestamp::from_system_time(system_time())
}

#[expect(clippy::disallowed_methods, reason = "commands are an edge of the program")]
fn system_time() -> SystemTime {
    SystemTime::now()
}
