//! What a killed supervisor has left of its command, and the end of it. Nobody else is ever signalled.
//!
//! The claim names two processes by number and start time: behind the `X`, written before the command is spawned, the
//! supervisor; on a line of its own, written after, the command's leader. The supervisor is the leader of a session, and
//! whatever it has started is in it, unless it began a session of its own. So what is left is
//!
//! * the leader's process group, as long as the leader is that very process;
//! * everything in the supervisor's session. Linux gives the number of a session that has members to no new process, but
//!   a session that has become empty frees it. Hence this counts only if nobody lives who has the supervisor's number,
//!   and if since then too few processes were made for the kernel to have come round to that number again.

use std::fmt::{self, Display};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process, kill_process_group, pidfd_open, pidfd_send_signal,
};

/// How long a killed process may take to be gone.
const PATIENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// How often the members of a session are looked for.
const ROUNDS: usize = 100;

/// How many killed processes of a round are waited for. With these gone, the next round finds the rest.
const AWAITED: usize = 64;

/// What must be known of a process to know it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    pid: Pid,
    /// When it was started, in the kernel's ticks since boot.
    start: u64,
}

impl Known {
    fn parse<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let pid = words.next()?.parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw)?;
        Some(Self { pid, start: words.next()?.parse().ok()? })
    }
}

impl Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid.as_raw_nonzero(), self.start)
    }
}

/// What the supervisor writes behind the `X`: itself, and how many processes were made since boot.
#[must_use]
pub fn this_supervisor() -> String {
    let pid = getpid();
    match (Stat::of(pid), processes_made()) {
        (Some(stat), Some(made)) => format!(" {} {made}\n", Known { pid, start: stat.start }),
        _ => "\n".to_owned(), // without /proc nothing could be known again
    }
}

/// The line that tells the leader of a command.
#[must_use]
pub fn leader(pid: Pid) -> Option<String> {
    Stat::of(pid).map(|stat| format!("{}\n", Known { pid, start: stat.start }))
}

/// Kills what is left of the command that this claim tells of.
///
/// # Errors
/// When it is there and cannot be killed.
pub fn kill(claim: &str) -> io::Result<()> {
    let Some((_, marked)) = claim.split_once("\nX") else { return Ok(()) };
    let (supervisor, leader) = marked.split_once('\n').unwrap_or((marked, ""));
    let group = Known::parse(&mut leader.split_whitespace()).map_or(Ok(()), kill_group);
    let mut words = supervisor.split_whitespace();
    match (Known::parse(&mut words), words.next().and_then(|made| made.parse().ok())) {
        (Some(supervisor), Some(made)) => group.and(kill_session(supervisor, made)),
        _ => group,
    }
}

/// Kills the leader's process group, if the leader is still that process and not another one with its number.
fn kill_group(leader: Known) -> io::Result<()> {
    if Stat::of(leader.pid).is_none_or(|now| now.start != leader.start) {
        return Ok(());
    }
    match kill_process_group(leader.pid, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Kills everything in the session of a supervisor that is gone, again and again until nothing is left of it.
fn kill_session(supervisor: Known, made: u64) -> io::Result<()> {
    if !is_gone(supervisor)? || may_be_another(made) {
        return Ok(());
    }
    for _ in 0..ROUNDS {
        let members = members(supervisor)?;
        if members.is_empty() {
            return Ok(());
        }
        let mut killed = Vec::new();
        for member in members {
            killed.extend(kill_member(member, supervisor)?.filter(|_| killed.len() < AWAITED));
        }
        for process in killed {
            if !ends(&process)? {
                return Err(io::Error::new(ErrorKind::TimedOut, "a process that was killed does not end"));
            }
        }
    }
    Err(io::Error::new(ErrorKind::TimedOut, "its processes make new ones faster than they are killed"))
}

/// Whether nobody lives who has the supervisor's number, neither a stranger nor the supervisor itself: its claim is free,
/// so it is dying, or its run was over and it drains what a daemon prints.
fn is_gone(supervisor: Known) -> io::Result<bool> {
    match Stat::of(supervisor.pid) {
        None => Ok(true),
        Some(stat) if stat.start != supervisor.start => Ok(false),
        Some(stat) if stat.is_dead() => Ok(true),
        Some(_) => match pidfd_open(supervisor.pid, PidfdFlags::empty()) {
            Ok(process) => ends(&process),
            Err(errno) => Ok(errno == Errno::SRCH),
        },
    }
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
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("processes "))?.trim().parse().ok()
}

/// Whoever lives in the session of a supervisor.
fn members(supervisor: Known) -> io::Result<Vec<Known>> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let stat = pid.and_then(|pid| Some((pid, Stat::of(pid)?)));
        if let Some((pid, stat)) = stat.filter(|(_, stat)| stat.is_member(supervisor)) {
            members.push(Known { pid, start: stat.start });
        }
    }
    Ok(members)
}

/// Kills one member, if it is that process still. The descriptor stands for one process whatever becomes of its number:
/// if that one is not the member, it is gone, and nobody gets the signal. Kernels before 5.3 have no descriptor, and
/// leave a moment in which the number could change hands.
fn kill_member(member: Known, supervisor: Known) -> io::Result<Option<OwnedFd>> {
    let process = match pidfd_open(member.pid, PidfdFlags::empty()) {
        Ok(process) => Some(process),
        Err(Errno::NOSYS) => None,
        Err(Errno::SRCH | Errno::INVAL) => return Ok(None), // it has gone, or is a thread with that number now
        Err(errno) => return Err(errno.into()),
    };
    if Stat::of(member.pid).is_none_or(|now| now.start != member.start || !now.is_member(supervisor)) {
        return Ok(None);
    }
    let killed = match &process {
        Some(process) => pidfd_send_signal(process, Signal::KILL),
        None => kill_process(member.pid, Signal::KILL),
    };
    match killed {
        Ok(()) => Ok(process),
        Err(Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits a while for a process to end. Tells whether it has.
fn ends(process: &OwnedFd) -> io::Result<bool> {
    loop {
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&PATIENCE)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// What `/proc` tells of a process.
struct Stat {
    state: char,
    session: i32,
    start: u64,
}

impl Stat {
    fn of(pid: Pid) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name, in parentheses, may hold anything. Behind it: state, parent, group, session, 15 more, start.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        Some(Self {
            state: fields.next()?.chars().next()?,
            session: fields.nth(2)?.parse().ok()?,
            start: fields.nth(15)?.parse().ok()?,
        })
    }

    /// It runs no more, and only waits to be buried.
    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    fn is_member(&self, supervisor: Known) -> bool {
        self.session == supervisor.pid.as_raw_nonzero().get() && self.start >= supervisor.start && !self.is_dead()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_fields_changes_nothing() {
        let text = "7 (a) S 1 (b c) R 1 2 3 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 99 1 184";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.session, stat.start), ('R', 3, 4711));
        assert!(Stat::parse("7 (sh) S 1 2").is_none());
    }

    #[test]
    fn a_claim_that_names_nobody_kills_nobody() {
        for text in ["", "boot\n", "boot\nX", "boot\nX\n", "boot\nX 7", "boot\nX 0 0 0\n-1 5\n", "boot\nX\nx y\n"] {
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
