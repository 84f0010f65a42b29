//! How a command ended, and what is reported about it.

use super::time::Timestamp;
use std::time::Duration;

/// How an action came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The command exited with this status.
    Exited(i32),
    /// A signal killed the command.
    Signaled(i32),
    /// It ran past its timeout.
    TimedOut(Duration),
    /// The local policy refused it, or the row is not executable as it stands: why.
    Refused(String),
    /// The program was found and cannot be executed: why.
    NotExecutable(String),
    /// The program was not found: which.
    NotFound(String),
    /// Handler, supervisor or machine went down and its end was not seen: what is known.
    Interrupted(String),
    /// Cancelled on the node, perhaps with a reason.
    Cancelled(Option<String>),
}

impl Ended {
    /// The result to report.
    #[must_use]
    pub fn ret(&self) -> i32 {
        todo!()
    }

    /// The last line of stderr, without its newline, when the result is ours and not the command's.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        todo!()
    }
}

/// The result of an action: what is kept and reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The result.
    pub ret: i32,
    /// The clamped standard output.
    pub stdout: String,
    /// The clamped standard error.
    pub stderr: String,
    /// When the command ended.
    pub ended_at: Timestamp,
}
