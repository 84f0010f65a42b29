//! One file per command; each reads like its man page.

pub mod dequeue;
pub mod show_config;

use std::ffi::OsString;

use crate::cli::Global;
use crate::config::{Paths, Settings};
use crate::error::Error;

/// Loads the settings that the command line and the environment ask for.
fn load(global: &Global) -> Result<(Paths, Settings), Error> {
    let paths = Paths::resolve(global.root.as_deref(), &|name| std::env::var_os(name));
    let hostname = OsString::from(rustix::system::uname().nodename().to_string_lossy().into_owned());
    let hostname = hostname.to_string_lossy();
    let settings = Settings::load(&paths, global.config.as_deref(), &hostname, &|name| std::env::var(name).ok())?;
    Ok((paths, settings))
}

/// Actions run as root, and their records are root's.
fn require_root() -> Result<(), Error> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Error::NotRoot) }
}
