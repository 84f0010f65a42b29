//! The end of processes that make new ones meanwhile.
//!
//! Whoever only kills what a walk through `/proc` has found is outrun by processes that fork: each that is killed makes
//! room for another. So they are stopped first, walk after walk, until a walk finds nobody who was not stopped yet. A
//! stopped process makes no children and keeps its place in the table of processes, also in one that a fork bomb has
//! filled. Only then are they killed, all that were stopped.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use super::process::{Known, Process, Snapshot, signal};

/// How long a killed process may take to be gone.
pub(in crate::executor) const PATIENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// How many walks may find somebody new.
const ROUNDS: usize = 100;

/// How many killed processes of a round are waited for. With these gone, the next round finds the rest.
const AWAITED: usize = 64;

/// Stops everything of a tree and then kills it. Does not wait for it to be gone.
///
/// `ended` tells whether somebody of the tree has ended since it was asked last: what that one had started may have been
/// missed by the walk meanwhile, as it changed its parent.
pub(super) fn freeze_and_kill(
    is_root: &impl Fn(&Snapshot, &Process) -> bool,
    mut ended: impl FnMut() -> bool,
) -> io::Result<Vec<OwnedFd>> {
    let mut stopped: HashSet<Known> = HashSet::new();
    let mut failed = Ok(());
    for _ in 0..ROUNDS {
        let mut quiet = true;
        for process in Snapshot::take()?.tree(is_root) {
            quiet &= !stopped.insert(process.known);
            // Again, if somebody who was not stopped yet has made it go on.
            if !process.stat.is_stopped() {
                failed = failed.and(signal(process.known, Signal::STOP).map(drop));
            }
        }
        if !ended() && quiet {
            break;
        }
    }
    let mut killed = Vec::new();
    for process in stopped {
        match signal(process, Signal::KILL) {
            Ok(process) => killed.extend(process.filter(|_| killed.len() < AWAITED)),
            Err(err) => failed = failed.and(Err(err)),
        }
    }
    failed.map(|()| killed)
}

/// Ends everything of a tree, again and again until nothing is left of it.
///
/// # Errors
/// When something is left that cannot be ended.
pub(in crate::executor) fn end(is_root: &impl Fn(&Snapshot, &Process) -> bool) -> io::Result<()> {
    for _ in 0..ROUNDS {
        if Snapshot::take()?.tree(is_root).is_empty() {
            return Ok(());
        }
        for process in freeze_and_kill(is_root, || false)? {
            if !ends(&process)? {
                return Err(io::Error::new(ErrorKind::TimedOut, "a process that was killed does not end"));
            }
        }
    }
    Err(io::Error::new(ErrorKind::TimedOut, "its processes make new ones faster than they are killed"))
}

/// Waits a while for a process to end. Tells whether it has.
pub(in crate::executor) fn ends(process: &OwnedFd) -> io::Result<bool> {
    loop {
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&PATIENCE)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
