//! What ends a run badly, how it is said, and the exit status that tells it to the caller.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::action::ActionKey;
use crate::action::name::NameError;
use crate::collector::http::HttpError;
use crate::collector::{CollectorError, DecodeError};
use crate::commands::register::RegisterError;
use crate::commands::systemd_start::UnitActionError;
use crate::config::ConfigError;
use crate::executor::agent::NoAgent;
use crate::executor::launcher::units::UnitError;
use crate::ledger::LedgerError;
use crate::wake::lock::LockError;

/// The exit statuses: those of `sysexits.h` that fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Nothing new, nothing left to run, every result accepted; or the work was handed to the running handler.
    #[default]
    Ok = 0,
    /// Wrong usage of the command line.
    Usage = 64,
    /// An answer could not be decoded, or a row had no usable id.
    Data = 65,
    /// Something local is missing: the agent, the state directory, disk space; or the ledger is too new.
    Unavailable = 69,
    /// A bug.
    Software = 70,
    /// A collector is out of reach or results are not accepted yet: try again.
    TempFail = 75,
    /// Credentials were refused, or the caller is not root.
    NoPermission = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl Exit {
    /// Most important first: where several things went wrong, the first of these is the exit status.
    const PRECEDENCE: [Self; 8] = [
        Self::Software,
        Self::Config,
        Self::NoPermission,
        Self::Unavailable,
        Self::Data,
        Self::TempFail,
        Self::Usage,
        Self::Ok,
    ];

    /// The more important of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::PRECEDENCE.into_iter().find(|exit| *exit == self || *exit == other).unwrap_or(self)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Anything that can end a run, or one of its steps, badly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller is not root.
    #[error("must be run by root")]
    NotRoot,
    /// The inherited sockets or the runtime cannot be used.
    #[error("cannot start")]
    Start(#[source] io::Error),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The files of the wake protocol cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The pause cannot be read or written.
    #[error("cannot use the file \"pause\" in the state directory")]
    Pause(#[source] io::Error),
    /// What is known about the collectors cannot be read.
    #[error("cannot read the state directory")]
    State(#[source] io::Error),
    /// The name that a person gave does not lead to one action.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is nothing left to cancel.
    #[error("{key} cannot be cancelled: {why}")]
    TooLate {
        /// The action.
        key: ActionKey,
        /// What has become of it.
        why: String,
    },
    /// What it printed is not known before it has ended.
    #[error(
        "{0} has not ended yet, and what it prints is shown then; its last line until then: 'opensvc-actions -v dequeue'"
    )]
    NotEnded(ActionKey),
    /// What it printed is not there any more.
    #[error("the output of {0} is no longer kept here")]
    NotKept(ActionKey),
    /// No agent is installed.
    #[error(transparent)]
    Agent(#[from] NoAgent),
    /// A run directory, or what is below it, cannot be used.
    #[error("cannot use the run directory {}", path.display())]
    Run {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A command could not even be tried.
    #[error("cannot start a command")]
    Spawn(#[source] io::Error),
    /// What a command was told to read cannot be read.
    #[error("cannot read {name}")]
    Input {
        /// The file, or standard input.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// What a command was told to read are no actions.
    #[error("{name} holds no actions as collector 3 sends them")]
    NoActions {
        /// The file, or standard input.
        name: String,
        /// The place.
        source: DecodeError,
    },
    /// Standard output cannot be written.
    #[error("cannot print")]
    Print(#[source] io::Error),
    /// A collector did not do what was asked.
    #[error(transparent)]
    Collector(#[from] CollectorError),
    /// The node is not registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// An external action that was named on the command line cannot be started or asked after.
    #[error("{0}")]
    External(String),
    /// A helper for actions in template units cannot do its work.
    #[error(transparent)]
    UnitAction(UnitActionError),
}

impl Error {
    /// What makes an error of one that came from this run directory.
    pub fn run(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Run { path, source }
    }

    /// The exit status that tells it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotRoot
            | Self::Collector(CollectorError::Credentials { .. } | CollectorError::Http(HttpError::Identity { .. })) => {
                Exit::NoPermission
            }
            Self::Config(_) | Self::Collector(CollectorError::Http(HttpError::File { .. } | HttpError::Setup(_))) => {
                Exit::Config
            }
            Self::NoActions { .. }
            | Self::UnitAction(UnitActionError::Record(_) | UnitActionError::Id(_))
            | Self::Collector(CollectorError::Undecodable { .. } | CollectorError::Http(HttpError::TooLarge { .. })) => {
                Exit::Data
            }
            Self::Register(err) => err.exit(),
            Self::Collector(_)
            | Self::NotEnded(_)
            | Self::UnitAction(UnitActionError::Manager { source: UnitError::NoManager(_), .. }) => Exit::TempFail,
            Self::Name(_)
            | Self::TooLate { .. }
            | Self::External(_)
            | Self::UnitAction(UnitActionError::Template(_)) => Exit::Usage,
            Self::Start(_)
            | Self::Lock(_)
            | Self::Ledger(_)
            | Self::Pause(_)
            | Self::NotKept(_)
            | Self::State(_)
            | Self::Agent(_)
            | Self::Run { .. }
            | Self::Spawn(_)
            | Self::Input { .. }
            | Self::Print(_)
            | Self::UnitAction(_) => Exit::Unavailable,
        }
    }

    /// The whole chain of causes on one line.
    #[must_use]
    pub fn report(&self) -> String {
        in_full(self)
    }
}

/// An error with the whole chain of its causes, on one line.
#[must_use]
pub fn in_full(err: &dyn StdError) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries print their source as well: say it once.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_exit_statuses_the_contract_says_which_counts() {
        let order = [70, 78, 77, 69, 65, 75, 64, 0];
        assert_eq!(Exit::PRECEDENCE.map(|exit| exit as u8), order);
        for (a, first) in Exit::PRECEDENCE.into_iter().enumerate() {
            for (b, second) in Exit::PRECEDENCE.into_iter().enumerate() {
                assert_eq!(first.and(second) as u8, order[a.min(b)]);
            }
        }
    }
}
