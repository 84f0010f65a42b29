//! What a killed supervisor has left of its command, and the end of it. Nobody else is ever signalled.
//!
//! The claim names two processes by number and start time: behind the `X`, written before the command is spawned, the
//! supervisor, with the command's control group if it has one; on a line of its own, written after, the command's leader.
//! The supervisor is the leader of a session, and whatever it has started is in it, unless it began a session of its own.
//! So what is left is
//!
//! * everything in the control group. The kernel gives its number to no other group until the next boot;
//! * the leader's process group, as long as the leader is that very process;
//! * everything in the supervisor's session. Linux gives the number of a session that has members to no new process, but
//!   a session that has become empty frees it. Hence this counts only if nobody lives who has the supervisor's number,
//!   and if since then too few processes were made for the kernel to have come round to that number again;
//! * whatever came of these, wherever it has gone.
//!
//! Without a control group, a process that has left the session, and whose parent has ended, is nobody's any more: it
//! belonged to the supervisor that was killed.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use crate::executor::proc;
use crate::executor::tree::{self, Group, Known, Process, Snapshot, Stat};

/// What of a supervisor finds its remains again.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThisSupervisor {
    known: Option<Known>,
    /// How many processes were made on this machine by now.
    made: Option<u64>,
}

impl ThisSupervisor {
    /// This process, by now.
    pub(super) fn here() -> Self {
        let pid = getpid();
        Self { known: Stat::of(pid).map(|stat| Known { pid, start: stat.start }), made: processes_made() }
    }

    /// The same a little later.
    pub(super) fn renew(&mut self) {
        self.made = processes_made();
    }

    /// What it writes behind the `X`: itself, how many processes were made since boot, and its command's control group.
    pub(super) fn note(&self, group: Option<&Group>) -> String {
        let group = group.map(|group| format!(" {}", group.note())).unwrap_or_default();
        match (self.known, self.made) {
            (Some(known), Some(made)) => format!(" {known} {made}{group}\n"),
            _ => "\n".to_owned(), // without /proc nothing could be known again
        }
    }
}

/// The line that tells the leader of a command.
#[must_use]
pub(super) fn leader(pid: Pid) -> Option<String> {
    Stat::of(pid).map(|stat| format!("{}\n", Known { pid, start: stat.start }))
}

/// Kills what is left of the command that this claim tells of.
///
/// # Errors
/// When it is there and cannot be killed.
pub fn kill(claim: &str) -> io::Result<()> {
    let Some((_, marked)) = claim.split_once("\nX") else { return Ok(()) };
    let (supervisor, leader) = marked.split_once('\n').unwrap_or((marked, ""));
    let leader = Known::parse(&mut leader.split_whitespace());
    let mut words = supervisor.trim_start().splitn(5, ' ');
    let supervisor = Known::parse(&mut words);
    let made = words.next().and_then(|made| made.parse().ok());
    let group = words.next().and_then(|id| Group::noted(id.parse().ok()?, words.next()?));
    let group = group.map_or(Ok(()), |group| group.end());
    let (session, known) = match supervisor.zip(made).map(|(supervisor, made)| (supervisor, made, is_gone(supervisor)))
    {
        Some((supervisor, made, Ok(true))) if !may_be_another(made) => (Some(supervisor), Ok(())),
        Some((_, _, Err(err))) => (None, Err(err)),
        _ => (None, Ok(())),
    };
    // A leader that is not in the snapshot has gone, and another one may have its number.
    let rest = tree::end(&|snapshot: &Snapshot, process: &Process| {
        session.is_some_and(|supervisor| is_member(&process.stat, supervisor))
            || leader
                .is_some_and(|leader| process.stat.group == leader.pid.as_raw_nonzero().get() && snapshot.has(leader))
    });
    group.and(known).and(rest)
}

/// Whether nobody lives who has the supervisor's number, neither a stranger nor the supervisor itself: its claim is free,
/// so it is dying, or its run was over and it drains what a daemon prints.
fn is_gone(supervisor: Known) -> io::Result<bool> {
    match Stat::of(supervisor.pid) {
        None => Ok(true),
        Some(stat) if stat.start != supervisor.start => Ok(false),
        Some(stat) if stat.is_dead() => Ok(true),
        Some(_) => match pidfd_open(supervisor.pid, PidfdFlags::empty()) {
            Ok(process) => tree::ends(&process),
            Err(errno) => Ok(errno == Errno::SRCH),
        },
    }
}

/// Whether a process is in the supervisor's session.
fn is_member(stat: &Stat, supervisor: Known) -> bool {
    stat.session == supervisor.pid.as_raw_nonzero().get() && stat.start >= supervisor.start
}

/// Whether so many processes were made since `made` that the session may be another one's. Numbers are given in turn,
/// those in use left out; half of them is less than a round. Where it cannot be known, it may be.
fn may_be_another(made: u64) -> bool {
    let numbers = fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let since = processes_made().and_then(|now| now.checked_sub(made));
    since.zip(numbers).is_none_or(|(since, numbers)| since >= numbers / 2)
}

/// How many processes and threads were made on this machine since it was booted.
fn processes_made() -> Option<u64> {
    // A line in the middle, behind one with a number for each interrupt.
    let find = |text: &str| text.lines().find_map(|line| line.strip_prefix("processes ")?.parse().ok());
    let some = proc::read("/proc/stat", 16 * 1024).ok().as_deref().and_then(find);
    some.or_else(|| find(&fs::read_to_string("/proc/stat").ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_names_nobody_kills_nobody() {
        for text in [
            "",
            "boot\n",
            "boot\nX",
            "boot\nX\n",
            "boot\nX 7",
            "boot\nX 0 0 0\n-1 5\n",
            "boot\nX\nx y\n",
            "boot\nX 0 0 0 1 /sys/fs/cgroup/command\n",
            "boot\nX 1 1 1 x y z\n",
        ] {
            kill(text).unwrap();
        }
    }

    #[test]
    fn what_lives_under_the_number_of_a_supervisor_is_not_gone() {
        let this = Known { pid: getpid(), start: Stat::of(getpid()).unwrap().start };
        assert!(!is_gone(Known { start: this.start - 1, ..this }).unwrap());
    }

    #[test]
    fn after_half_a_round_of_numbers_a_session_may_be_another() {
        assert!(!may_be_another(processes_made().unwrap()));
        assert!(may_be_another(0) || processes_made().unwrap() < 1 << 21);
        assert!(may_be_another(u64::MAX));
    }
}
