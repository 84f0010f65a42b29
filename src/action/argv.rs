//! An action to the words that are executed.

use super::QueuedAction;
use super::words::WordsError;
use std::fmt;
use std::path::{Path, PathBuf};

/// The programs that carry out actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agent {
    /// `om` of agents 2.x and 3.x.
    Om(PathBuf),
    /// Agent 1.x, which has a program for each kind of action.
    Legacy {
        /// For node actions.
        nodemgr: PathBuf,
        /// For service actions.
        svcmgr: PathBuf,
    },
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argv {
    program: PathBuf,
    args: Vec<String>,
}

impl Argv {
    /// A program with its arguments.
    #[must_use]
    pub fn new(program: PathBuf, args: Vec<String>) -> Self {
        Self { program, args }
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its arguments, without the program.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.args
    }
}

impl fmt::Display for Argv {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

/// Why a row is not executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The command cannot be split.
    #[error("the command cannot be split into words: {0}")]
    Quoting(#[from] WordsError),
    /// There is no word in it.
    #[error("the command is empty")]
    Empty,
    /// A word holds a NUL, which no argument can carry.
    #[error("a word of the command holds a NUL character")]
    Nul,
    /// The row names a service by its id only.
    #[error("the row has service id {0:?} and no service name: the collector does not know the service any more")]
    NoServiceName(String),
    /// The service's name is not a plain object path.
    #[error("the service name {0:?} is not a plain object path")]
    ServiceName(String),
    /// A word would choose another target than the row's.
    #[error("the word {0:?} would choose another target")]
    Retarget(String),
}

/// The words to execute.
///
/// # Errors
/// The row is refused.
pub fn argv(_action: &QueuedAction, _agent: &Agent) -> Result<Argv, Refusal> {
    todo!()
}

/// The same where a policy rule says `retarget = true`: words may choose another target.
///
/// # Errors
/// The row is refused for any other reason.
pub fn argv_retargeting(_action: &QueuedAction, _agent: &Agent) -> Result<Argv, Refusal> {
    todo!()
}
