//! Finding the program that actions are commands of.

use std::env::split_paths;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::action::argv::Agent;

/// Where programs are looked for when the environment has no `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// No agent is installed: there is nothing that could run an action.
#[derive(Debug, thiserror::Error)]
#[error("no program to run actions with: neither {om:?} nor nodemgr and svcmgr can be executed (execution.om, PATH)")]
pub struct NoAgent {
    om: String,
}

/// Finds the agent: `om` (a name looked up in `path`, or an absolute path), else the two programs of agent 1.x.
///
/// # Errors
/// When there is neither.
pub fn find(om: &str, path: Option<&OsStr>) -> Result<Agent, NoAgent> {
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    if let Some(om) = find_program(om, path) {
        return Ok(Agent::Om(om));
    }
    match (find_program("nodemgr", path), find_program("svcmgr", path)) {
        (Some(nodemgr), Some(svcmgr)) => Ok(Agent::Legacy { nodemgr, svcmgr }),
        _ => Err(NoAgent { om: om.to_owned() }),
    }
}

fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|program| is_executable(program));
    }
    // An empty entry means the current directory to a shell. Not to a program that runs as root.
    split_paths(path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(|program| is_executable(program))
}

fn is_executable(program: &Path) -> bool {
    program.is_file() && access(program, Access::EXEC_OK).is_ok()
}
