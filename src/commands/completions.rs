//! `completions`: what a shell needs to complete this program's command lines.

use std::io::Write as _;

use crate::cli::Shell;
use crate::commands::print;
use crate::error::{Error, Exit};

impl Shell {
    /// The script. It is made from the command line's definition when that changes: `tests/docs/completions.rs`.
    #[must_use]
    pub const fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("../../completions/opensvc-actions.bash"),
            Self::Fish => include_str!("../../completions/opensvc-actions.fish"),
            Self::Zsh => include_str!("../../completions/_opensvc-actions"),
        }
    }
}

/// Prints the script.
///
/// # Errors
/// When it cannot be printed.
pub fn run(shell: Shell) -> Result<Exit, Error> {
    print(|out| out.write_all(shell.script().as_bytes()))
}
