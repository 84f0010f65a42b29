//! The launcher that needs nobody: the supervisor is a child of this process, and lives on without it.

use std::io;
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::Job;
use crate::crash;
use crate::executor::supervisor;

/// Starts a supervisor. It is this very program, though that may have been replaced on the disk.
///
/// # Errors
/// When there is no process to be had.
pub(super) fn launch(job: Job<'_>) -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg0("opensvc-actions") // what people see in a list of processes
        .arg(supervisor::ARGUMENT)
        .env_clear()
        .envs(crash::environment())
        .current_dir(job.run)
        .stdin(Stdio::from(job.claim)) // our own copy of it is gone with this
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
