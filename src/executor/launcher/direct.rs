//! The launcher that needs nobody: the supervisor is a child of this process, and lives on without it.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::Job;
use crate::crash;
use crate::executor::order::Order;
use crate::executor::supervisor;

/// A supervisor that is our child.
#[derive(Debug)]
pub struct Supervisor {
    /// Its process.
    pub child: Child,
    /// On which it got its order, and hands its record over.
    pub connection: UnixStream,
}

/// Starts supervisors.
#[derive(Debug, Default)]
pub(super) struct Direct {
    /// One that waits for its order: see [`Order`].
    ahead: RefCell<Option<Supervisor>>,
}

impl Direct {
    /// Starts a supervisor ahead of its action, so that it is ready when that is. Where it cannot be started, nobody is told:
    /// it is tried again when it is needed.
    pub(super) fn start_ahead(&self) {
        let mut ahead = self.ahead.borrow_mut();
        if ahead.is_none() {
            *ahead = start().ok();
        }
    }

    /// Has a supervisor see to this run.
    ///
    /// # Errors
    /// When there is no process to be had.
    pub(super) fn launch(&self, job: &Job<'_>) -> io::Result<Supervisor> {
        let run = OwnedFd::from(File::open(job.run)?);
        let ahead = self.ahead.borrow_mut().take();
        if let Some(supervisor) = ahead {
            // One that was killed meanwhile got nothing.
            if Order::give(&supervisor.connection, &run, &job.claim).is_ok() {
                return Ok(supervisor);
            }
        }
        let supervisor = start()?;
        Order::give(&supervisor.connection, &run, &job.claim)?;
        Ok(supervisor)
    }
}

/// Starts a supervisor, which waits for its order. It is this very program, though that may have been replaced on the disk.
fn start() -> io::Result<Supervisor> {
    let (connection, theirs) = UnixStream::pair()?;
    let child = Command::new("/proc/self/exe")
        .arg0("opensvc-actions") // what people see in a list of processes
        .arg(supervisor::ARGUMENT)
        .env_clear()
        .envs(crash::environment())
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Supervisor { child, connection })
}
