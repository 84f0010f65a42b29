//! The launcher that needs nobody: the supervisor is a child of this process, and lives on without it.
//!
//! A process costs a multiple of what a supervisor does. So one that has seen a command to its end, and of whose command
//! nothing is left, gets the next order; and the first is started before anybody knows of which action.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::process::Stdio;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::Job;
use crate::crash;
use crate::executor::order::Order;
use crate::executor::supervisor;

/// A supervisor that is our child.
#[derive(Debug)]
pub struct Supervisor {
    /// Its process.
    pub child: Box<Child>,
    /// On which it gets its orders, and hands its records over.
    pub connection: UnixStream,
}

/// Starts supervisors.
#[derive(Debug, Default)]
pub(super) struct Direct {
    /// Those that wait for an order.
    idle: RefCell<Vec<Supervisor>>,
}

impl Direct {
    /// Starts a supervisor ahead of its action, so that it is ready when that is. Where it cannot be started, nobody is told:
    /// it is tried again when it is needed.
    pub(super) fn start_ahead(&self) {
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() {
            idle.extend(start());
        }
    }

    /// This one has nothing to do any more.
    pub(super) fn give_back(&self, supervisor: Supervisor) {
        self.idle.borrow_mut().push(supervisor);
    }

    /// Has a supervisor see to this run.
    ///
    /// # Errors
    /// When there is no process to be had.
    pub(super) fn launch(&self, job: &Job<'_>) -> io::Result<Supervisor> {
        let run = OwnedFd::from(File::open(job.run)?);
        let idle = self.idle.borrow_mut().pop();
        if let Some(supervisor) = idle {
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
    let (ours, theirs) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    let connection = UnixStream::from_std(ours)?;
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
    Ok(Supervisor { child: Box::new(child), connection })
}
