//! Processes as `/proc` tells of them, and signals that reach the one that is meant or nobody.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::executor::proc;

/// More than the longest line of `/proc/PID/stat`.
const STAT: usize = 1024;

/// What must be known of a process to know it again: its number may become another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::executor) struct Known {
    pub(in crate::executor) pid: Pid,
    /// When it was started, in the kernel's ticks since boot.
    pub(in crate::executor) start: u64,
}

impl Known {
    pub(in crate::executor) fn parse<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let pid = words.next()?.parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw)?;
        Some(Self { pid, start: words.next()?.parse().ok()? })
    }
}

impl Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid.as_raw_nonzero(), self.start)
    }
}

/// What `/proc` tells of a process.
#[derive(Clone, Copy, Debug)]
pub(in crate::executor) struct Stat {
    pub(in crate::executor) state: char,
    pub(in crate::executor) parent: i32,
    pub(in crate::executor) group: i32,
    pub(in crate::executor) session: i32,
    threads: u64,
    pub(in crate::executor) start: u64,
}

impl Stat {
    pub(in crate::executor) fn of(pid: Pid) -> Option<Self> {
        Self::parse(&proc::read(&format!("/proc/{}/stat", pid.as_raw_nonzero()), STAT).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name, in parentheses, may hold anything, also what is no text. Behind it: state, parent, group, session, 13
        // more, threads, one more, start.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        Some(Self {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            session: fields.next()?.parse().ok()?,
            threads: fields.nth(13)?.parse().ok()?,
            start: fields.nth(1)?.parse().ok()?,
        })
    }

    /// It runs no more, and only waits to be buried. Where only its first thread has ended, it still runs.
    pub(in crate::executor) fn is_dead(&self) -> bool {
        matches!(self.state, 'X' | 'x') || (self.state == 'Z' && self.threads <= 1)
    }

    /// It was told to stop, and has.
    pub(in crate::executor) fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

/// A process in a snapshot.
#[derive(Clone, Copy, Debug)]
pub(in crate::executor) struct Process {
    pub(in crate::executor) known: Known,
    pub(in crate::executor) stat: Stat,
}

/// Every process, as one walk through `/proc` finds it.
///
/// The whole of `/proc`, and not `/proc/PID/task/TID/children`: those files need a kernel that is configured for them, and
/// leave children out when a sibling ends while they are read, of which the kernel's manual warns. A walk is slower where
/// a machine has many processes, and happens only when something is killed.
pub(in crate::executor) struct Snapshot(Vec<Process>);

impl Snapshot {
    pub(in crate::executor) fn take() -> io::Result<Self> {
        let mut processes = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            if let Some((pid, stat)) = pid.and_then(|pid| Some((pid, Stat::of(pid)?))) {
                processes.push(Process { known: Known { pid, start: stat.start }, stat });
            }
        }
        Ok(Self(processes))
    }

    /// Whether this process is in it, dead or alive.
    pub(in crate::executor) fn has(&self, known: Known) -> bool {
        self.0.iter().any(|process| process.known == known)
    }

    /// What lives of the roots and of everything that came of them, but never the process that asks.
    pub(in crate::executor) fn tree(&self, is_root: &impl Fn(&Self, &Process) -> bool) -> Vec<Process> {
        let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
        for process in &self.0 {
            children.entry(process.stat.parent).or_default().push(process);
        }
        let mut found: Vec<&Process> = self.0.iter().filter(|process| is_root(self, process)).collect();
        let mut seen: HashSet<Pid> = found.iter().map(|process| process.known.pid).collect();
        let mut next = 0;
        while let Some(parent) = found.get(next).map(|process| process.known.pid) {
            let born = children.get(&parent.as_raw_nonzero().get()).into_iter().flatten();
            found.extend(born.filter(|child| seen.insert(child.known.pid)));
            next += 1;
        }
        let this = rustix::process::getpid();
        found.into_iter().filter(|process| !process.stat.is_dead() && process.known.pid != this).copied().collect()
    }
}

/// Signals one process, if it is that process still. The descriptor stands for one process whatever becomes of its number:
/// if that one is not the one that is meant, it is gone, and nobody gets the signal. Kernels before 5.3 have no descriptor,
/// and leave a moment in which the number could change hands.
///
/// Returns what can be waited on for its end, if it was signalled.
pub(in crate::executor) fn signal(process: Known, signal: Signal) -> io::Result<Option<OwnedFd>> {
    signal_if(process.pid, signal, || Stat::of(process.pid).is_some_and(|now| now.start == process.start))
}

/// The same for whichever process has this number, if `is_it` says so of it.
pub(super) fn signal_if(pid: Pid, signal: Signal, is_it: impl FnOnce() -> bool) -> io::Result<Option<OwnedFd>> {
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => Some(process),
        Err(Errno::NOSYS) => None,
        Err(Errno::SRCH | Errno::INVAL) => return Ok(None), // it has gone, or is a thread with that number now
        Err(errno) => return Err(errno.into()),
    };
    if !is_it() {
        return Ok(None);
    }
    let signalled = match &process {
        Some(process) => pidfd_send_signal(process, signal),
        None => kill_process(pid, signal),
    };
    match signalled {
        Ok(()) => Ok(process),
        Err(Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "7 (a) S 1 (b c) R 1 2 3 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 99 1 184";

    #[test]
    fn a_name_that_looks_like_fields_changes_nothing() {
        let stat = Stat::parse(LINE).unwrap();
        assert_eq!((stat.state, stat.parent, stat.group, stat.session, stat.start), ('R', 1, 2, 3, 4711));
        assert!(Stat::parse("7 (sh) S 1 2").is_none());
    }

    #[test]
    fn whoever_has_threads_left_is_not_dead() {
        let dead = |line: &str| Stat::parse(line).unwrap().is_dead();
        assert!(!dead(LINE));
        assert!(dead(&LINE.replace(") R", ") Z")));
        assert!(!dead(&LINE.replace(") R", ") Z").replace("20 0 1", "20 0 2")));
    }

    #[test]
    fn everything_that_came_of_a_root_is_its_tree_and_nobody_else() {
        let process = |number: i32, parent: i32, state: char| Process {
            known: Known { pid: Pid::from_raw(number).unwrap(), start: 1 },
            stat: Stat { state, parent, group: 0, session: 0, threads: 1, start: 1 },
        };
        // The order of numbers is not that of births.
        let all = [(90, 50, 'S'), (50, 60, 'Z'), (60, 1, 'S'), (61, 1, 'S'), (62, 61, 'S'), (3, 90, 'R')];
        let snapshot = Snapshot(all.map(|(number, parent, state)| process(number, parent, state)).to_vec());
        let tree = snapshot.tree(&|_, process| process.known.pid.as_raw_nonzero().get() == 60);
        let mut numbers: Vec<_> = tree.iter().map(|process| process.known.pid.as_raw_nonzero().get()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [3, 60, 90]);
    }
}
