//! How an action ended, and what is reported about it.

use serde::{Deserialize, Serialize};

use super::time::Timestamp;
use std::time::Duration;

/// How an action came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// The command exited with this status.
    Exited(i32),
    /// This signal killed the command.
    Signaled(i32),
    /// It ran past its timeout and was killed.
    TimedOut(Duration),
    /// The local policy refused it, or the row is not executable as it stands: why.
    Refused(String),
    /// The program was found and cannot be executed: why.
    NotExecutable(String),
    /// The program was not found: which.
    NotFound(String),
    /// Handler, supervisor or machine went down while it ran and its end was not seen: what is known.
    Interrupted(String),
    /// Its end was not seen, but it was to end this boot of the machine, and the machine has booted since.
    Rebooted,
    /// Cancelled on the node, perhaps with a reason.
    Cancelled(Option<String>),
}

impl Ended {
    /// The result that is reported: the command's own, or one by the shell's conventions (124 timeout(1), 126, 127,
    /// 128+N), 125 for a refusal, 130 for a cancelled action and 254 for an end that nobody saw, unless that end is what
    /// the action was for.
    #[must_use]
    pub fn ret(&self) -> i32 {
        match self {
            Self::Exited(status) => *status,
            Self::Signaled(signal) => signal.saturating_add(128),
            Self::TimedOut(_) => 124,
            Self::Refused(_) => 125,
            Self::NotExecutable(_) => 126,
            Self::NotFound(_) => 127,
            Self::Cancelled(_) => 130,
            Self::Interrupted(_) => 254,
            Self::Rebooted => 0,
        }
    }

    /// Whether somebody else told it to end, as a machine that goes down tells every process: killed by SIGHUP, SIGTERM
    /// or SIGKILL, or ended with the status that says so.
    #[must_use]
    pub const fn is_told_to_end(&self) -> bool {
        matches!(self, Self::Signaled(1 | 9 | 15) | Self::Exited(129 | 137 | 143))
    }

    /// The line that ends stderr when the result is ours and not the command's: how an operator at the collector sees
    /// why. Without its line feed, and never more than one line.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let reason = match self {
            Self::Exited(_) => return None,
            Self::Signaled(signal) => match signal_name(*signal) {
                Some(name) => format!("killed by signal {signal} ({name})"),
                None => format!("killed by signal {signal}"),
            },
            Self::TimedOut(limit) => format!("ran past its timeout of {}", duration(*limit)),
            Self::Refused(why) => format!("refused: {why}"),
            Self::NotExecutable(why) => format!("cannot be executed: {why}"),
            Self::NotFound(program) => format!("not found: {program}"),
            Self::Interrupted(known) => format!("interrupted: {known}"),
            Self::Rebooted => "the machine has booted since, which is what this action was for".to_owned(),
            Self::Cancelled(None) => "cancelled on the node".to_owned(),
            Self::Cancelled(Some(why)) => format!("cancelled on the node: {why}"),
        };
        Some(format!("opensvc-actions: {}", reason.replace(char::is_control, " ").trim_end()))
    }
}

/// The result of an action as it is kept and reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// See [`Ended::ret`].
    pub ret: i32,
    /// The standard output, clamped.
    pub stdout: String,
    /// The standard error, clamped; it ends in [`Ended::reason`] if there is one.
    pub stderr: String,
    /// When the command ended.
    pub ended_at: Timestamp,
}

/// The largest unit that the duration is a whole number of, as it is written in settings.
fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (duration.subsec_millis(), seconds) {
        (1.., _) => format!("{}ms", duration.as_millis()),
        (0, 1..) if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        (0, 1..) if seconds % 60 == 0 => format!("{}m", seconds / 60),
        (0, _) => format!("{seconds}s"),
    }
}

/// The name of a signal, as Linux numbers them on `x86_64` and aarch64 (and all but a few old architectures).
fn signal_name(signal: i32) -> Option<String> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    let number = usize::try_from(signal).ok()?;
    match NAMES.get(number.checked_sub(1)?) {
        Some(name) => Some(format!("SIG{name}")),
        // glibc keeps 32 and 33 to itself.
        None if (34..=64).contains(&number) => Some(format!("SIGRTMIN+{}", number - 34)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(ended: &Ended) -> (i32, Option<String>) {
        (ended.ret(), ended.reason())
    }

    #[test]
    fn each_end_has_its_ret_and_its_reason() {
        let why = || "why".to_owned();
        for (ended, ret, reason) in [
            (Ended::Signaled(9), 137, "killed by signal 9 (SIGKILL)"),
            (Ended::Signaled(31), 159, "killed by signal 31 (SIGSYS)"),
            (Ended::Signaled(33), 161, "killed by signal 33"),
            (Ended::Signaled(36), 164, "killed by signal 36 (SIGRTMIN+2)"),
            (Ended::TimedOut(Duration::from_secs(600)), 124, "ran past its timeout of 10m"),
            (Ended::TimedOut(Duration::from_millis(1500)), 124, "ran past its timeout of 1500ms"),
            (Ended::TimedOut(Duration::from_secs(7200)), 124, "ran past its timeout of 2h"),
            (Ended::TimedOut(Duration::from_secs(90)), 124, "ran past its timeout of 90s"),
            (Ended::TimedOut(Duration::ZERO), 124, "ran past its timeout of 0s"),
            (Ended::Refused(why()), 125, "refused: why"),
            (Ended::NotExecutable(why()), 126, "cannot be executed: why"),
            (Ended::NotFound("om".to_owned()), 127, "not found: om"),
            (Ended::Cancelled(None), 130, "cancelled on the node"),
            (Ended::Cancelled(Some("a\nb\n".to_owned())), 130, "cancelled on the node: a b"),
            (Ended::Interrupted(why()), 254, "interrupted: why"),
            (Ended::Rebooted, 0, "the machine has booted since, which is what this action was for"),
        ] {
            assert_eq!(said(&ended), (ret, Some(format!("opensvc-actions: {reason}"))));
        }
        assert_eq!(said(&Ended::Exited(3)), (3, None));
        assert_eq!(said(&Ended::Exited(0)), (0, None));
    }
}
