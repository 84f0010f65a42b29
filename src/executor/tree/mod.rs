//! Everything that a command has started, wherever it has gone: to be told to end, to be killed, to be counted.
//!
//! The supervisor is a *subreaper*: a process whose parent ends becomes its child, and not that of process 1. So all that
//! came of the command is found by going from parent to child, sessions and double forks notwithstanding, and when the
//! supervisor has no child left, nothing is left of the command. Where the supervisor has a control group of its own, the
//! command lives in a part of it as well, which the kernel kills as a whole.
//!
//! What is left when a command has come to its end by itself was left on purpose, and lives.

mod descendants;
mod group;
mod process;
mod usage;

pub(super) use descendants::{end, ends};
pub(super) use group::Group;
pub(super) use process::{Known, Process, Snapshot, Stat};

use std::collections::HashSet;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, wait, waitid};
use wait4::Wait4 as _;

use crate::action::usage::Usage;

use descendants::freeze_and_kill;
use process::signal;

/// The processes of the one command of this supervisor.
pub(super) struct Tree {
    group: Option<Group>,
    /// The command's own process.
    leader: Option<Child>,
    /// How that has ended.
    ended: Option<ExitStatus>,
    /// The most memory that it had, in bytes.
    memory_peak: Option<u64>,
    /// What the commands before have used.
    before: Usage,
    /// The supervisor has children, or may have.
    is_left: bool,
}

impl Tree {
    /// Of a command that is yet to be started. This process is a subreaper, so that orphans come to it.
    pub(super) fn new(group: Option<Group>) -> Self {
        let before = usage::of_children().unwrap_or_default();
        Self { group, leader: None, ended: None, memory_peak: None, before, is_left: false }
    }

    /// Its control group, if it has one.
    pub(super) const fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// Starts the command.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(&mut self, command: &mut Command) -> io::Result<&mut Child> {
        let inside = self.group.as_ref().map(Group::enter);
        let child = command.spawn();
        let outside = self.group.as_ref().map(Group::leave);
        // Whoever is in the group would be killed with it.
        if !matches!((inside, outside), (None | Some(Ok(())), None | Some(Ok(())))) {
            self.group = None;
        }
        self.is_left = child.is_ok();
        Ok(self.leader.insert(child?))
    }

    /// The command's own process.
    pub(super) fn leader(&self) -> Option<Pid> {
        self.leader.as_ref().map(Pid::from_child)
    }

    /// How the command itself has ended, once that was reaped.
    pub(super) const fn ended(&self) -> Option<ExitStatus> {
        self.ended
    }

    /// Whether anything of it is left, as far as was reaped.
    pub(super) const fn is_left(&self) -> bool {
        self.is_left
    }

    /// Buries whoever has ended. Tells whether anybody had.
    pub(super) fn reap(&mut self) -> bool {
        let mut any = self.reap_leader();
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    any = true;
                    if self.leader() == Some(pid) && self.ended.is_none() {
                        self.ended = Some(ExitStatus::from_raw(status.as_raw()));
                    }
                }
                Ok(None) => return any,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.is_left = false;
                    return any;
                }
            }
        }
    }

    /// Buries the command's own process, if it has ended, and takes what it has used: whoever waits for any child is not told.
    fn reap_leader(&mut self) -> bool {
        let Some(leader) = &mut self.leader else { return false };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if self.ended.is_some() || !matches!(waitid(WaitId::Pid(Pid::from_child(leader)), look), Ok(Some(_))) {
            return false;
        }
        // It does not have to be waited for any more.
        let Ok(used) = leader.wait4() else { return false };
        (self.ended, self.memory_peak) = (Some(used.status), Some(used.rusage.maxrss));
        true
    }

    /// Tells everything to end. Those who sleep until somebody wakes them are woken to hear it.
    pub(super) fn terminate(&self) {
        // Whom this does not reach, or does not move, is killed later.
        let descendants = Snapshot::take().map(|snapshot| snapshot.tree(&is_child)).unwrap_or_default();
        for process in &descendants {
            let _ = signal(process.known, Signal::TERM);
            if process.stat.is_stopped() {
                let _ = signal(process.known, Signal::CONT);
            }
        }
        if let Some(group) = &self.group {
            let told: HashSet<Pid> = descendants.iter().map(|process| process.known.pid).collect();
            let _ = group.signal(Signal::TERM, &told);
        }
    }

    /// Kills everything. Somebody may be left all the same: then this is to be done again, a little later.
    ///
    /// # Errors
    /// When somebody could not be killed.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        // Beside the group, for those who were moved to another by somebody who may.
        let group = self.group.as_ref().map_or(Ok(()), Group::kill);
        let rest = freeze_and_kill(&is_child, || self.reap());
        group.and(rest.map(drop))
    }

    /// What it has used, as far as is known yet.
    pub(super) fn usage(&self) -> Option<Usage> {
        let of_children = || Some(usage::since(&self.before, self.memory_peak, &usage::of_children()?));
        self.group.as_ref().and_then(usage::of_group).or_else(of_children)
    }
}

/// The roots of the supervisor's tree.
fn is_child(_: &Snapshot, process: &Process) -> bool {
    process.stat.parent == getpid().as_raw_nonzero().get()
}
